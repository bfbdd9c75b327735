package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// TB is as much of testing.TB as [Run] needs.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
}

// Kit is an adapter and a simulated custodian that it can read.
type Kit struct {
	// New makes a source for the custodian. If it has a method Close(), that is called in the end.
	New func() (broker.Source, error)
	// SetFault makes the custodian go wrong from its (after+1)th record request on; ms as in design section 9.
	SetFault func(f Fault, after, ms int) error
	// Requests returns how many record requests the custodian has had.
	Requests func() int
	// Query asks about somebody of whom the custodian holds a record of several pages.
	Query broker.Query
	// Unknown is a number that the custodian does not hold.
	Unknown record.NHSNumber
	// Several reports whether the record is read by several requests that do not depend on each other, such as searches by type.
	Several bool
	// Outside are texts that must never be in an error: the custodian's address, and what stands in its answers.
	Outside []string
	// Lacks are the faults that the protocol cannot have, each with the reason: one that knows no compression cannot send a gzip bomb.
	Lacks map[Fault]string
	// Single reports whether the whole record is read by one request: then there is no middle in which things could go wrong.
	Single bool
}

// Times of Run. A fault that hangs costs each of its cases short; everything else ends long before long.
const (
	short = 150 * time.Millisecond
	long  = 20 * time.Second
	slow  = 40 // milliseconds
	drip  = 10 // milliseconds a byte
)

// Run puts a source through all of [Faults], from the first request on and from later ones, and checks caps, deadlines, what errors hold, that
// the custodian is read well again afterwards, and that nothing is left running. It takes a few seconds.
func Run(t TB, k Kit) {
	t.Helper()
	before := runtime.NumGoroutine()
	source, err := k.New()
	if err != nil {
		t.Errorf("making the source: %v", err)
		return
	}
	r := run{t: t, k: k, source: source}
	if r.good() {
		for _, x := range Faults() {
			if r.k.Lacks[x.Fault] != "" {
				continue
			}
			for _, after := range r.afters() {
				r.fault(x, after)
			}
		}
		r.timeouts()
		r.caps()
		r.unknown()
		if !atOnce(context.Background(), source, k.Query, r.reply) {
			t.Errorf("calls at once do not return what one does")
		}
	}
	if c, ok := source.(interface{ Close() }); ok {
		c.Close()
	}
	// Connections that were cut end a moment later; the custodian's side of them runs in this process, too.
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+idle && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before+idle {
		t.Errorf("%d goroutines more than before are still running", n-before)
	}
}

// idle is how many goroutines may be left over: those of the custodian's side for connections that it has not yet seen closed.
const idle = 2

type run struct {
	t        TB
	k        Kit
	source   broker.Source
	reply    broker.Reply // of a good custodian
	requests int          // that it took
}

func (r *run) set(f Fault, after, ms int) bool {
	r.t.Helper()
	if err := r.k.SetFault(f, after, ms); err != nil {
		r.t.Errorf("setting the fault %s: %v", f, err)
		return false
	}
	return true
}

// fetch asks, and holds what comes against what is true of every call.
func (r *run) fetch(ctx context.Context, what string, q broker.Query) (broker.Reply, error) {
	r.t.Helper()
	reply, err := r.source.Fetch(ctx, q)
	if deadline, ok := ctx.Deadline(); ok && time.Since(deadline) > grace {
		r.t.Errorf("%s: returned %v after its time", what, time.Since(deadline))
	}
	if err == nil {
		if len(reply.Entries) == 0 {
			r.t.Errorf("%s: no error and no entries", what)
		}
		return reply, nil
	}
	if len(reply.Entries) > 0 {
		r.t.Errorf("%s: entries beside an error", what)
	}
	if !plain(err) || count(err) != 1 && ctx.Err() == nil {
		r.t.Errorf("%s: the error is not one of the list: %s", what, name(err))
	}
	for i, text := range append([]string{q.Subject.Number.Reveal()}, r.k.Outside...) {
		if text != "" && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, errors.Unwrap(err)), text) {
			r.t.Errorf("%s: the error holds text %d from outside", what, i)
		}
	}
	return reply, err
}

func (r *run) good() bool {
	r.t.Helper()
	if !r.set(None, 0, 0) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if _, err := r.fetch(ctx, "first call", r.k.Query); err != nil {
		r.t.Errorf("a good custodian: got %s", name(err))
		return false
	}
	from := r.k.Requests()
	reply, err := r.fetch(ctx, "second call", r.k.Query)
	if err != nil {
		r.t.Errorf("a good custodian: got %s", name(err))
		return false
	}
	r.reply, r.requests = reply, r.k.Requests()-from
	for _, f := range judge(reply, limited(r.k.Query)) {
		r.t.Errorf("a good custodian: %s", f)
	}
	if r.k.Single != (r.requests == 1) || !r.k.Single && r.requests < 3 {
		r.t.Errorf("the record is read in %d requests: too few to go wrong in the middle", r.requests)
		return false
	}
	return true
}

func limited(q broker.Query) broker.Query {
	if q.Limits.Bytes == 0 {
		q.Limits = broker.DefaultLimits
	}
	return q
}

// afters are the requests before which things go wrong: the first, the second, and the last.
func (r *run) afters() []int {
	if r.k.Single {
		return []int{0}
	}
	return []int{0, 1, r.requests - 1}
}

func (r *run) fault(x Expectation, after int) {
	r.t.Helper()
	what := fmt.Sprintf("%s after %d", x.Fault, after)
	wait, ms := long, 0
	switch x.Fault {
	case Hang:
		wait = short
	case Trickle:
		wait, ms = short, drip
	case Slow:
		ms = slow
	}
	if !r.set(x.Fault, after, ms) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if x.Fault == NoRecord && after > 0 {
		x.State, x.Errors = record.Failed, []error{broker.ErrMalformed} // it held something a moment ago: that there is nothing is not what it said
	}
	reply, err := r.fetch(ctx, what, r.k.Query)
	switch {
	case err == nil && r.mayReturn(x, after):
		if x.Alone && (x.Fault != NoRecord || !r.k.Several) && after < r.requests && len(reply.Parts) == 0 {
			r.t.Errorf("%s: a reply that does not say what is missing", what)
		}
		if len(x.Errors) == 0 && len(reply.Entries) < len(r.reply.Entries) {
			r.t.Errorf("%s: %d entries, want at least %d", what, len(reply.Entries), len(r.reply.Entries))
		}
	case err == nil || !slices.ContainsFunc(x.Errors, func(want error) bool { return errors.Is(err, want) }):
		r.t.Errorf("%s: got %s, want the state %s", what, name(err), x.State)
	}
	var t *broker.ThrottledError
	if x.Fault == Throttle429 && (!errors.As(err, &t) || t.After <= 0) {
		r.t.Errorf("%s: how long to wait is lost", what)
	}
	if !r.set(None, 0, 0) {
		return
	}
	again, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if reply, err := r.fetch(again, what+", then well again", r.k.Query); err != nil || len(reply.Entries) != len(r.reply.Entries) || len(reply.Parts) != len(r.reply.Parts) {
		r.t.Errorf("%s, then well again: got %s with %d entries, want %d", what, name(err), len(reply.Entries), len(r.reply.Entries))
	}
}

// mayReturn reports whether a fault may end in a reply.
func (r *run) mayReturn(x Expectation, after int) bool {
	switch {
	case len(x.Errors) == 0:
		return true
	case after == 0:
		return false // nothing was read well
	case x.Fault == NoRecord:
		return true // what was read well stays
	case x.Fault == WrongPatient:
		return after > 1 // beside pages about the right person it is one more with others' resources, which the merge drops
	case r.k.Several:
		// What befalls one answer of many may fall on one that holds nothing to spoil.
		return x.Alone || x.Fault == DuplicateKeys || x.Fault == BadUTF8 || x.Fault == Deep
	}
	return false
}

// timeouts: a caller that leaves, and one that was never there, get their goroutine back at once.
func (r *run) timeouts() {
	r.t.Helper()
	if !r.set(Hang, 0, 0) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(short/2, cancel)
	defer timer.Stop()
	begin := time.Now()
	if _, err := r.fetch(ctx, "a caller who leaves", r.k.Query); err == nil || time.Since(begin) > short+grace {
		r.t.Errorf("a caller who leaves: got %s after %v", name(err), time.Since(begin))
	}
	if _, err := r.fetch(ctx, "a caller who has left", r.k.Query); err == nil {
		r.t.Errorf("a caller who has left: got a reply")
	}
	if !r.set(Slow, 0, int(2*short/time.Millisecond)) {
		return
	}
	ctx, cancel = context.WithTimeout(context.Background(), short)
	defer cancel()
	if _, err := r.fetch(ctx, "slow beyond the time", r.k.Query); !errors.Is(err, broker.ErrTimedOut) {
		r.t.Errorf("slow beyond the time: got %s, want the state %s", name(err), record.TimedOut)
	}
	r.set(None, 0, 0)
}

func (r *run) caps() {
	r.t.Helper()
	list := caps(r.reply)
	if !r.k.Single {
		list = append(list, limit{"pages", func(l *broker.Limits) { l.Pages = r.requests - 1 }})
	}
	for _, c := range list {
		q := limited(r.k.Query)
		c.set(&q.Limits)
		ctx, cancel := context.WithTimeout(context.Background(), long)
		if _, err := r.fetch(ctx, "a cap on "+c.name, q); !errors.Is(err, broker.ErrTooMuch) {
			r.t.Errorf("a cap on %s: got %s", c.name, name(err))
		}
		cancel()
	}
}

func (r *run) unknown() {
	r.t.Helper()
	q := r.k.Query
	q.Subject = record.Subject{Number: r.k.Unknown, Standing: record.Live}
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if _, err := r.fetch(ctx, "somebody unknown", q); !errors.Is(err, broker.ErrNoRecord) {
		r.t.Errorf("somebody unknown: got %s", name(err))
	}
}
