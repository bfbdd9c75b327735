package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// What a decoded byte of a reply costs: itself, its index, what is rewritten of it for the answer, and what of that the collector has not found
// yet. TestLargeRequestsAtOnce in test/bench holds the process to it.
const weight = 4

// firstBytes is what a request reserves of the room before anybody is asked, if nothing is known of what requests take, and stepBytes what it
// reserves more at a time as replies arrive. To reserve at once all that a request may take would let a few requests fill the room while they
// only wait.
const (
	firstBytes = 4 << 20
	stepBytes  = 1 << 20
)

// room is the memory that all requests may take at once. A request reserves of it before anybody is asked as much as requests took of late, and
// more as replies arrive. Where there is none left, new requests wait in turn. Of those under way the oldest waits for what it still needs, and any
// other gives up what it has, so that they never wait for each other; whoever asked for it is told to come back.
type room struct {
	size int64

	mu      sync.Mutex
	free    int64
	usual   int64 // what a request takes, of late: rises fast, falls slowly
	next    uint64
	under   map[uint64]struct{} // those that may still need more, by age
	waiting []*waiter           // in turn, the first at the front
}

// waiter waits until there is room for it.
type waiter struct {
	n     int64
	first bool          // the oldest request under way: nobody takes room past it
	ready chan struct{} // closed when n has been taken for it
}

func newRoom(size int64) *room {
	return &room{size: size, free: size, usual: firstBytes, under: map[uint64]struct{}{}}
}

// take reserves n bytes when its turn comes, or reports that ctx ended before.
func (r *room) take(ctx context.Context, n int64) bool { return r.wait(ctx, n, false) }

// grow reserves n bytes more for a request under way. The oldest waits for them, in front of all others. Any other gets them now or not at all.
func (r *room) grow(ctx context.Context, age uint64, n int64) bool {
	r.mu.Lock()
	if r.free >= n && !(len(r.waiting) > 0 && r.waiting[0].first) {
		r.free -= n
		r.mu.Unlock()
		return true
	}
	for other := range r.under {
		if other < age {
			r.mu.Unlock()
			return false
		}
	}
	r.mu.Unlock()
	return r.wait(ctx, n, true)
}

func (r *room) wait(ctx context.Context, n int64, first bool) bool {
	r.mu.Lock()
	if r.free >= n && (first || len(r.waiting) == 0) {
		r.free -= n
		r.mu.Unlock()
		return true
	}
	w := &waiter{n, first, make(chan struct{})}
	if first {
		r.waiting = slices.Insert(r.waiting, 0, w)
	} else {
		r.waiting = append(r.waiting, w)
	}
	r.mu.Unlock()
	select {
	case <-w.ready:
		return true
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiting, w); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	} else {
		r.free += n // it came just now, and nobody waits for it any more
	}
	r.serve()
	return false
}

// comeBack is when somebody who found no room may ask again: later, the more wait already.
func (r *room) comeBack() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var waiting int64
	for _, w := range r.waiting {
		waiting += w.n
	}
	return time.Duration(1+waiting/r.size) * time.Second
}

// serve gives what is free to those who wait, in turn. r.mu is held.
func (r *room) serve() {
	for len(r.waiting) > 0 && r.free >= r.waiting[0].n {
		r.free -= r.waiting[0].n
		close(r.waiting[0].ready)
		r.waiting = r.waiting[1:]
	}
}

func (r *room) giveBack(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free += n
	r.serve()
}

func (r *room) used() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size - r.free
}

// Memory returns how many bytes requests have reserved at this moment, and how many requests have found room since the start.
func (b *Broker) Memory() (bytes int64, requests uint64) {
	b.room.mu.Lock()
	defer b.room.mu.Unlock()
	return b.room.size - b.room.free, b.room.next
}

// account is what the replies of one request hold. Half of what it may hold is shared out to sources beforehand, so that no custodian can take what the
// others need (P8); the other half is for whoever comes first. What it holds is reserved of the room, and stays so until the answer has been
// written.
type account struct {
	room  *room
	age   uint64
	ctx   context.Context // the request's: nobody waits longer
	share int64           // each source's own
	most  int64           // bytes of memory that all of it may take

	growing  sync.Mutex // held while one of its parts waits for room: what that gets may do for the others
	mu       sync.Mutex
	common   int64 // left of the half for all
	held     int64 // decoded bytes
	reserved int64 // of the room, in bytes of memory
	closed   bool
	crowded  bool // it gave up for want of room
}

// openAccount reserves what a request takes at first, waiting for it at most so long, and returns nil if there is no room. limit is how many
// decoded bytes the request may hold, sources how many may hold some at once, ctx the request's context.
func openAccount(ctx context.Context, r *room, atMost time.Duration, limit int64, sources int) *account {
	r.mu.Lock()
	limit = min(limit, r.size/weight) // a request alone must find room
	first := min(limit*weight, r.usual)
	r.mu.Unlock()
	soon, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	if !r.take(soon, first) {
		return nil
	}
	a := &account{room: r, ctx: ctx, share: limit / 2 / int64(max(1, sources)), common: limit / 2, most: limit * weight, reserved: first}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	a.age = r.next
	r.under[a.age] = struct{}{}
	return a
}

// close gives the room back. It may be called more than once, and on nil.
func (a *account) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	took, reserved := a.held*weight, a.reserved
	a.mu.Unlock()
	r := a.room
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.under, a.age)
	if took > 0 { // a refusal says nothing of what requests take
		// One huge record must not keep the others out: a request reserves at most a sixteenth beforehand.
		if took > r.usual {
			r.usual += (took - r.usual) / 4
		} else {
			r.usual -= (r.usual - took) / 8
		}
		r.usual = min(max(r.usual, firstBytes), max(firstBytes, r.size/16))
	}
	r.free += reserved
	r.serve()
}

// settle says that the request needs no more than it has: others may wait for it. It may be called on nil.
func (a *account) settle() {
	if a == nil {
		return
	}
	a.room.mu.Lock()
	defer a.room.mu.Unlock()
	delete(a.room.under, a.age)
}

// gaveUp reports whether the request must be answered with the advice to come back, because there was no room for it.
func (a *account) gaveUp() bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.crowded
}

// part is what one reply holds of its request's account.
type part struct {
	of     *account
	held   int64
	common int64 // of held, what came from the half for all
	over   bool  // the reply has failed, or the request has ended: nothing more may be held
	denied bool  // there was no room
	waits  bool  // for room
}

func (a *account) part() *part { return &part{of: a} }

// take reports whether n more decoded bytes may be held, and counts them if so. It may wait for room, as long as the request lasts.
func (p *part) take(n int64) bool {
	a := p.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.taken(n) {
		return true
	}
	a.mu.Unlock() // nobody waits for a lock while this waits for room
	a.growing.Lock()
	defer a.growing.Unlock()
	a.mu.Lock()
	for !p.taken(n) {
		if p.over || p.denied || a.closed || a.crowded {
			p.denied = p.denied || a.crowded
			return false
		}
		lacking := (a.held+n)*weight - a.reserved
		lacking = max(lacking, min((lacking+stepBytes-1)/stepBytes*stepBytes, a.most-a.reserved))
		p.waits = true
		a.mu.Unlock()
		got := a.room.grow(a.ctx, a.age, lacking)
		a.mu.Lock()
		p.waits = false
		switch {
		case got && a.closed:
			a.room.giveBack(lacking)
		case got:
			a.reserved += lacking
		case errors.Is(a.ctx.Err(), context.Canceled): // the caller left
			return false
		default:
			a.noRoomFor(p, n)
		}
	}
	return true
}

// taken counts n more bytes if the request may hold them and has room for them. Where it may not hold them, p is denied. a.mu is held.
func (p *part) taken(n int64) bool {
	a := p.of
	if p.over || p.denied || a.closed {
		return false
	}
	more := max(0, max(0, p.held+n-a.share)-p.common) // what must come from the half for all
	if more > a.common {
		p.denied = true
		return false
	}
	if (a.held+n)*weight > a.reserved {
		return false
	}
	a.common -= more
	a.held += n
	p.held += n
	p.common += more
	return true
}

// noRoomFor gives up: the whole request for a reply that wants its own share, that reply alone if it wants more, so that no custodian's bulk refuses what
// the others say. a.mu is held.
func (a *account) noRoomFor(p *part, n int64) {
	p.denied = true
	a.crowded = a.crowded || p.held+n <= a.share
}

// fail gives back what the reply held, and reports whether it failed for want of room: it was denied some, or waited for some when its time ended.
// Nothing can be taken afterwards.
func (p *part) fail() (denied, waited bool) {
	a := p.of
	a.mu.Lock()
	defer a.mu.Unlock()
	waited = p.waits
	if waited {
		a.noRoomFor(p, 0)
	}
	a.common += p.common
	a.held -= p.held
	p.held, p.common, p.over = 0, 0, true
	return p.denied, waited
}
