package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// held is what became of asking one custodian: its reply while the request lives, and its part of the answer under one version of the
// preferences.
type held struct {
	c        *custodian
	reply    merge.Reply
	failed   bool // no reply to prepare; prepared.Status says why
	prepared merge.Prepared
	version  int  // how often the permit had changed when prepared was made
	sent     bool // a stream has sent it: it is final
}

// may returns what a custodian may give under a permit: nothing where its home section is withheld, in which all stands that it holds, so that it is
// not asked at all and its state does not tell whether it knows the person.
func (c *custodian) may(p consent.Permit) record.Sections {
	sections := p.Sections(c.Rules.Custodian.Key)
	if c.home.Without(sections) != 0 {
		return 0
	}
	return sections
}

// may returns what a custodian may still give: what the permit in force leaves of what it was asked for. A change of preferences in the
// middle of a request takes away; it never adds what was not asked for.
func (a *access) may(c *custodian) record.Sections {
	return c.may(a.permit) & c.may(a.first)
}

// gather asks, in parallel, every custodian that the permit leaves something to give, and yields what became of each as it comes, until all
// have or the budget has gone. It and [access.fetchDocument] are the only functions that reach a custodian, and they take the proof that this was
// permitted and that it is on record. A custodian that hangs, panics or lies costs its own place.
func (a *access) gather(p consent.Permit, o audit.Opened) iter.Seq[held] {
	return func(yield func(held) bool) {
		if !p.Valid() || !o.Valid() {
			return
		}
		asked := 0
		answers := make(chan held, len(a.b.custodians)) // room for every last word: nobody blocks when yield has stopped
		for _, c := range a.b.custodians {
			if c.may(p) == 0 {
				continue
			}
			asked++
			go func() { answers <- a.ask(c, p) }()
		}
		for asked > 0 {
			select {
			case h := <-answers:
				if asked--; asked == 0 {
					a.bytes.settle() // nobody has more to say: others may wait for this request
				}
				if !yield(h) {
					return
				}
			case <-a.hinted:
				a.lookAgain()
			}
		}
	}
}

// late is how long after a deadline a process with time to spare notices it at the latest.
const late = 100 * time.Millisecond

// ask gets one custodian's part: of its only source, or of all of them together, unless its locator says that it holds nothing.
func (a *access) ask(c *custodian, p consent.Permit) held {
	h, unasked, took := a.locate(c, p)
	if unasked {
		return h
	}
	if len(c.sources) > 1 {
		return a.askAll(c, p, c.Timeout-took)
	}
	x := a.askOne(c, c.sources[0], p, c.Timeout-took, nil)
	a.count(c, &x)
	a.report(c, &x)
	return x.held
}

// asked is what became of asking one source.
type asked struct {
	held
	end   ending
	alarm bool
}

// ending is how a call of a source ended, as far as it is anybody's business.
type ending uint8

const (
	notCalled  ending = iota // it was not tried
	notLet                   // its breaker is open
	nobodyHere               // the caller left: nobody reads this answer, and what operators read is about custodians
	called
)

// count counts what became of asking a custodian.
func (a *access) count(c *custodian, x *asked) {
	status := &x.prepared.Status
	if x.end == called {
		c.answered(status.State)
	}
	if x.end == called || x.end == notLet {
		a.b.metrics.custodian(a.caller, c, status.State, status.Took)
	}
}

// report tells operators of trouble with one source.
func (a *access) report(c *custodian, x *asked) {
	status := &x.prepared.Status
	switch {
	case x.end != called:
	case x.alarm || x.prepared.Alarm:
		a.b.metrics.alarm(a.caller, c, status.Reason)
		a.b.log.ErrorContext(a.caller, "custodian needs an operator", keyRequest, a.req.ID, keyCustodian, c.Rules.Custodian.Key, keyState, status.State, keyReason, status.Reason)
	case status.State.InTrouble():
		a.b.log.WarnContext(a.caller, "custodian in trouble", keyRequest, a.req.ID, keyCustodian, c.Rules.Custodian.Key, keyState, status.State, keyReason, status.Reason,
			keyDuration, status.Took)
	}
}

// askOne gets what one source has for a custodian's part. It returns within whole, the custodian's time, whatever the source does; what has been read by then
// may be made into a part of the answer until the request's own deadline. may, if it is not nil, says what the custodian's other sources have left of its bytes.
func (a *access) askOne(c *custodian, e *endpoint, p consent.Permit, whole time.Duration, may func(n int64) bool) asked {
	now := time.Now()
	h := asked{held: held{c: c, failed: true}}
	h.prepared.Status = record.Status{Custodian: c.Rules.Custodian, Adapter: e.Adapter, Asked: now.UTC()}
	status := &h.prepared.Status
	left := min(time.Until(a.deadline)-a.b.cfg.Reserve, a.untilNeutral())
	switch {
	case left <= 0:
		status.State, status.Reason, status.Asked = record.NotAsked, record.NotAskedBudget, time.Time{}
		return h
	case e.throttled(now):
		status.State, status.Reason, status.Asked = record.Unavailable, reasonThrottled, time.Time{}
		return h
	}
	done, err := e.breaker.Allow()
	if err != nil {
		status.State, status.Reason, status.Asked = record.Unavailable, reasonBreaker, time.Time{}
		h.end = notLet
		return h
	}
	ctx, span := a.within("custodian", c.told.span...)
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, min(left, whole))
	defer cancel()

	holds := a.bytes.part() // of the request's bytes, what this reply takes
	limits := a.b.cfg.Limits
	var crowded atomic.Bool
	limits.Take = func(n int64) bool {
		if may != nil && !may(n) {
			crowded.Store(true)
			return false
		}
		return ctx.Err() == nil && holds.take(n)
	}
	reply, err := fetch(ctx, e.Source, a.query(ctx, c, p, limits))
	if err == nil {
		h.reply = merge.Reply{Custodian: c.Rules.Custodian, Base: reply.Base, Entries: reply.Entries, Parts: reply.Parts, Adapter: reply.Adapter,
			Conversions: reply.Conversions, Asked: now.UTC(), Took: time.Since(now)}
	}
	timedOut := err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
	starved := false
	if err == nil {
		if err, starved = a.make(&h.held, c.may(p), left-time.Since(now)); starved {
			timedOut = true
		}
	}
	full := false
	if err != nil {
		denied, waited := holds.fail()
		full = (denied || crowded.Load()) && errors.Is(err, ErrTooMuch) || waited && timedOut
		h.reply = merge.Reply{}
		h.failed = true
	}
	callerLeft := err != nil && (a.caller.Err() != nil || a.overtaken.Load())
	// A deadline that is noticed late was missed by this process, which had too much to do: that says nothing about the custodian.
	starved = starved || timedOut && time.Since(now) > min(left, whole)+late
	// A call that had much less time than the custodian normally gets says nothing about it; what the trace took does not count as much.
	v := judge(err, callerLeft, timedOut, left < c.Timeout*3/4 || starved)
	if full && !callerLeft {
		v = verdict{record.Failed, reasonRequestFull, errNothingLearnt, false} // there was no room for what it said: that is not its illness
	}
	done(v.breaker)
	if err != nil {
		status.State, status.Reason = v.state, v.reason
	}
	status.Took = time.Since(now)
	e.throttleFor(now, err)
	if h.end = called; callerLeft {
		h.end = nobodyHere
		return h
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String(keyState, string(status.State)), attribute.String(keyReason, status.Reason), attribute.Int(keyCount, status.Shown))
	}
	h.alarm = v.alarm
	return h
}

// make builds a part of the answer when its turn comes. No more parts are made at once than there are cores: in a crowd replies are read in time, and
// answers leave one after the other, not all late. late says that its turn did not come within the time.
func (a *access) make(h *held, sections record.Sections, within time.Duration) (err error, late bool) {
	select {
	case a.b.making <- struct{}{}:
	default:
		turn := time.NewTimer(within)
		defer turn.Stop()
		select {
		case a.b.making <- struct{}{}:
		case <-turn.C:
			return ErrTimedOut, true
		case <-a.ctx.Done():
			return ErrTimedOut, true
		}
	}
	err = a.build(h, sections)
	<-a.b.making
	return err, false
}

// query is what a custodian is asked: no more about the request than it needs.
func (a *access) query(ctx context.Context, c *custodian, p consent.Permit, limits Limits) Query {
	q := Query{Subject: a.subject, Requester: a.req.Requester, Purpose: a.req.Purpose, RequestID: a.req.ID, Sections: c.may(p), Limits: limits}
	if a.req.Demographics {
		q.Types = []string{"Patient"}
	}
	if c.TraceContext {
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, carrier)
		delete(carrier, "tracestate") // the caller's free text; baggage was never taken in
		q.Trace = carrier
	}
	return q
}

// fetch calls the source in a goroutine of its own, so that one which ignores its context costs that goroutine and nothing else.
func fetch(ctx context.Context, s Source, q Query) (Reply, error) {
	x := &fetching{query: q, over: make(chan struct{})}
	go x.run(ctx, s)
	select {
	case <-x.over:
		return x.reply, x.err
	case <-ctx.Done():
		return Reply{}, ErrTimedOut
	}
}

// fetching is one call of a source. What it came to is read when it is over, or never.
type fetching struct {
	query Query
	reply Reply
	err   error
	over  chan struct{}
}

func (x *fetching) run(ctx context.Context, s Source) {
	defer close(x.over)
	defer func() {
		if v := recover(); v != nil {
			x.reply, x.err = Reply{}, fmt.Errorf("%w: %T", ErrPanicked, v) // the type only: the value may hold patient data
		}
	}()
	x.reply, x.err = s.Fetch(ctx, x.query)
	if x.err == nil && len(x.reply.Entries) == 0 {
		x.err = ErrMalformed // a custodian without a record says ErrNoRecord; an empty reply is none
	}
}

// build makes the custodian's part of the answer of the sections that may be shown. A panic of ours in it costs that custodian only.
func (a *access) build(h *held, sections record.Sections) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %T", ErrPanicked, v)
		}
	}()
	rules := h.c.Merge
	rules.Permitted = sections
	rules.PatientEntered = h.c.Rules.PatientEntered
	rules.DocumentAddress = a.sealing(h.c)
	asked, took := h.prepared.Status.Asked, h.prepared.Status.Took
	prepared, err := merge.Prepare(a.merging, rules, h.reply)
	if err != nil {
		return err
	}
	prepared.Status.Asked, prepared.Status.Took = asked, took
	h.prepared, h.failed = prepared, false
	markWithheld(&h.prepared.Status, sections)
	return nil
}

// prepare makes h's part again if preferences changed since; a part that was sent is final. A custodian of which nothing may be shown any more is withheld
// whatever became of asking it: another state would tell whether it knows the person.
func (a *access) prepare(h held) held {
	if h.sent || h.version == a.version {
		return h
	}
	h.version = a.version
	sections := a.may(h.c)
	if sections == 0 {
		h.prepared = merge.Prepared{Status: a.decided(h.c)}
		return h
	}
	if h.failed {
		return h
	}
	if err := a.build(&h, sections); err != nil {
		v := judge(err, false, false, false)
		h.prepared = merge.Prepared{Status: record.Status{Custodian: h.c.Rules.Custodian, Adapter: h.c.Adapter, State: v.state, Reason: v.reason, Asked: h.reply.Asked, Took: h.reply.Took}}
		h.failed = true
	}
	return h
}

// prepared returns the parts under the permit now in force, and the status of every configured custodian in order.
func (a *access) prepared(list []held) ([]merge.Prepared, []record.Status) {
	parts := make([]merge.Prepared, 0, len(list))
	for i := range list {
		list[i] = a.prepare(list[i])
		if p := &list[i].prepared; p.Status.State.Showing() {
			parts = append(parts, *p)
		}
	}
	statuses := make([]record.Status, 0, len(a.b.custodians))
	for _, c := range a.b.custodians {
		i := slices.IndexFunc(list, func(h held) bool { return h.prepared.Status.Custodian.Key == c.Rules.Custodian.Key })
		var s record.Status
		if i >= 0 {
			s = list[i].prepared.Status
		} else {
			s = a.decided(c)
		}
		statuses = append(statuses, s)
	}
	return parts, statuses
}

// decided is the status of a custodian that has not answered, from the decisions alone: withheld, not asked, or (State "") asked and not heard
// of yet.
func (a *access) decided(c *custodian) record.Status {
	s := record.Status{Custodian: c.Rules.Custodian, Adapter: c.Adapter}
	if a.may(c) != 0 {
		return s
	}
	p := a.permit
	if c.may(p) != 0 {
		p = a.first // a later permit would allow it; it was not asked under that one
	}
	s.State, s.Reason = record.NotAsked, record.NotAskedPermit
	for _, d := range p.Decision().Custodians {
		if d.Key != c.Rules.Custodian.Key {
			continue
		}
		for _, part := range d.Parts {
			e := a.told(part.Explain())
			s.Rule, s.Explanation, s.Preference, s.Recorded = e.Rule, e.Text, e.Preference, e.Recorded
			if part.Outcome == consent.Suppressed {
				s.State, s.Reason = record.Withheld, string(e.Reason)
				return s
			}
		}
	}
	return s
}

// markWithheld says of each section that the permit does not hold that it is missing, whether or not anything was held there: a part that
// came and went with the content would tell that there is some. An answer with such a section is never whole (P6).
func markWithheld(s *record.Status, sections record.Sections) {
	missing := record.AllSections.Without(sections)
	if missing == 0 || !s.State.Showing() {
		return
	}
	s.State = record.ReturnedInPart
	named := map[string]bool{}
	for _, part := range s.Parts {
		if part.Reason == record.PartWithheld {
			named[part.Section] = true
		}
	}
	for _, x := range missing.List() {
		if !named[x.Code()] {
			s.Parts = append(s.Parts, record.Part{Section: x.Code(), Reason: record.PartWithheld})
		}
	}
}
