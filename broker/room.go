package broker

import (
	"sync"
	"sync/atomic"
)

// room is the memory that all requests may hold at once. It is reserved before anybody is asked.
type room struct {
	size int64
	free atomic.Int64
}

func newRoom(size int64) *room {
	r := &room{size: size}
	r.free.Store(size)
	return r
}

// take reserves n bytes, or reports that there is no room.
func (r *room) take(n int64) bool {
	if r.free.Add(-n) >= 0 {
		return true
	}
	r.free.Add(n)
	return false
}

func (r *room) giveBack(n int64) { r.free.Add(n) }

func (r *room) used() int64 { return r.size - r.free.Load() }

// firstBytes is what a request reserves of the room before anybody is asked, and stepBytes what it reserves more at a time as replies arrive. To
// reserve at once all that a request may hold would let sixteen requests fill a room of 1 GiB while they only wait.
const (
	firstBytes = 4 << 20
	stepBytes  = 1 << 20
)

// account is what the replies of one request hold. Half of what it may hold is shared out beforehand, so that no custodian can take what the
// others need (P8); the other half is for whoever comes first. What it holds is reserved of the room, and stays so until the answer has been
// written.
type account struct {
	room  *room
	share int64 // each custodian's own

	mu       sync.Mutex
	common   int64 // left of the half for all
	held     int64
	reserved int64 // of the room
	closed   bool
}

// openAccount reserves a request's first bytes, and returns nil if there is no room.
func openAccount(r *room, limit int64, custodians int) *account {
	first := min(limit, firstBytes)
	if !r.take(first) {
		return nil
	}
	return &account{room: r, share: limit / 2 / int64(max(1, custodians)), common: limit / 2, reserved: first}
}

// close gives the room back. It may be called more than once, and on nil.
func (a *account) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		a.room.giveBack(a.reserved)
	}
}

// part is what one reply holds of its request's account.
type part struct {
	of     *account
	held   int64
	common int64 // of held, what came from the half for all
	over   bool  // the reply has failed, or the request has ended: nothing more may be held
	denied bool  // there was no room
}

func (a *account) part() *part { return &part{of: a} }

// take reports whether n more decoded bytes may be held, and counts them if so.
func (p *part) take(n int64) bool {
	a := p.of
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.over || a.closed {
		return false
	}
	more := max(0, max(0, p.held+n-a.share)-p.common) // what must come from the half for all
	if more > a.common {
		p.denied = true
		return false
	}
	if lacking := a.held + n - a.reserved; lacking > 0 {
		lacking = (lacking + stepBytes - 1) / stepBytes * stepBytes
		if !a.room.take(lacking) {
			p.denied = true
			return false
		}
		a.reserved += lacking
	}
	a.common -= more
	a.held += n
	p.held += n
	p.common += more
	return true
}

// fail gives back what the reply held, and reports whether it failed for want of room. Nothing can be taken afterwards.
func (p *part) fail() (denied bool) {
	a := p.of
	a.mu.Lock()
	defer a.mu.Unlock()
	a.common += p.common
	a.held -= p.held
	p.held, p.common, p.over = 0, 0, true
	return p.denied
}
