package audit

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Bounds of what is counted (L-6). Minutes that cannot be written are kept, and run together when there are too many of them.
const (
	maxAddresses = 1000 // addresses a minute; the rest is counted under the zero address
	maxLimited   = 1000 // callers a minute; the rest is counted under a requester of whom nothing is known
	maxMinutes   = 60
)

// tally counts calls that get no entry of their own. It is safe for concurrent use, and never waits for the store.
type tally struct {
	mu      sync.Mutex
	current *minute
	over    []*minute
}

type minute struct {
	start   time.Time
	calls   map[netip.Addr]uint64
	limited map[record.Requester]uint64
}

func newMinute(start time.Time) *minute {
	return &minute{start, map[netip.Addr]uint64{}, map[record.Requester]uint64{}}
}

func (m *minute) unauthenticated(from netip.Addr, n uint64) {
	if _, known := m.calls[from]; !known && len(m.calls) >= maxAddresses {
		from = netip.Addr{}
	}
	m.calls[from] += n
}

func (m *minute) limit(r record.Requester, n uint64) {
	if _, known := m.limited[r]; !known && len(m.limited) >= maxLimited {
		r = record.Requester{}
	}
	m.limited[r] += n
}

// at returns the minute of now. The caller holds the lock.
func (t *tally) at(now time.Time) *minute {
	start := now.Truncate(time.Minute)
	if t.current == nil || !t.current.start.Equal(start) {
		if t.current != nil {
			t.keep(t.current)
		}
		t.current = newMinute(start)
	}
	return t.current
}

func (t *tally) keep(m *minute) {
	if len(t.over) < maxMinutes {
		t.over = append(t.over, m)
		return
	}
	last := t.over[len(t.over)-1]
	for from, n := range m.calls {
		last.unauthenticated(from, n)
	}
	for r, n := range m.limited {
		last.limit(r, n)
	}
}

// take hands over the minutes that are over, or all.
func (t *tally) take(now time.Time, all bool) []*minute {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && (all || !t.current.start.Equal(now.Truncate(time.Minute))) {
		t.keep(t.current)
		t.current = nil
	}
	out := t.over
	t.over = nil
	return out
}

func (t *tally) giveBack(m *minute) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(m)
}

// write appends the minute's entries: one Check for all addresses, one Limited for each caller.
func (m *minute) write(w *writer) error {
	start := stamp(m.start)
	if len(m.calls) > 0 {
		p := &payload{Minute: start}
		for from, n := range m.calls {
			body := addressBody{Count: n}
			if from.IsValid() {
				body.Address = from.String()
			}
			p.Addresses, p.Count = append(p.Addresses, body), p.Count+n
		}
		slices.SortFunc(p.Addresses, func(a, b addressBody) int { return cmp.Compare(a.Address, b.Address) })
		if _, err := w.append(TypeCheck, p, nil); err != nil {
			return err
		}
	}
	callers := slices.SortedFunc(maps.Keys(m.limited), func(a, b record.Requester) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Client, b.Client), cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.RoleProfile, b.RoleProfile))
	})
	for _, r := range callers {
		body := requesterOut(r)
		if _, err := w.append(TypeLimited, &payload{Minute: start, Count: m.limited[r], Requester: &body}, w.epoch.who(r)); err != nil {
			return err
		}
	}
	return nil
}

// CountUnauthenticated counts a call without a valid token. There is one Check entry a minute, with the count of each address, at most 1,000 of
// them and the rest under the zero address (L-6). It does not wait.
func (l *Ledger) CountUnauthenticated(from netip.Addr) {
	l.tally.mu.Lock()
	defer l.tally.mu.Unlock()
	l.tally.at(l.clock()).unauthenticated(from.Unmap().WithZone(""), 1)
}

// CountLimited counts a rate-limited call of a known caller: one entry per caller and minute with the count (L-6). It does not wait.
func (l *Ledger) CountLimited(r record.Requester) {
	r.TokenID = "" // of one call; the entry is about the caller
	l.tally.mu.Lock()
	defer l.tally.mu.Unlock()
	l.tally.at(l.clock()).limit(r, 1)
}
