package broker

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A custodian may have a locator: an index, the National Record Locator or one of the custodian's own, that says of whom it holds anything. Nobody is left
// out of an answer by what an index leaves out, so a custodian goes unasked only if all of this is so: its locator answered in time and clearly, it lists
// nothing about the person, it is fresh, and the region's policy lets this custodian go unasked. Whatever else becomes of the question, the custodian is
// asked. One that is not has its place in the answer and in the ledger: not-asked, locator.

// Locator is a custodian's index, and how far it is believed.
type Locator struct {
	Index    Index
	Adapter  string        // kind, for messages
	Allowed  bool          // the region's policy lets the custodian go unasked; without that the index is not asked either
	FreshFor time.Duration // how long ago the custodian may have written to it, at most [MaxFreshFor]
	Timeout  time.Duration // of its answer, at most a quarter of the custodian's; the custodian's own time is shorter by what it took
}

// MaxFreshFor is the longest that an index may be behind: over a weekend.
const MaxFreshFor = 72 * time.Hour

// locatorBytes and locatorPages are the caps of what an index says of one person.
const (
	locatorBytes = 1 << 20
	locatorPages = 20
)

// valid reports whether a locator of a custodian that has so much time can be used.
func (l *Locator) valid(whole time.Duration) bool {
	return l.Index != nil && l.FreshFor > 0 && l.FreshFor <= MaxFreshFor && l.Timeout > 0 && l.Timeout <= whole/4
}

// locate asks a custodian's locator, where there is one that is allowed, and reports how long that took and whether the custodian goes unasked: then h is its
// place in the answer.
func (a *access) locate(c *custodian, p consent.Permit) (h held, unasked bool, took time.Duration) {
	l := c.Locator
	// Who breaks the glass needs what there is, and has no time to find out what an index missed. And an index may still list under an earlier number somebody whom
	// the custodian knows under the one that is asked for.
	if l == nil || !l.Allowed || a.req.Purpose == record.BreakGlass || len(a.subject.Supersedes) > 0 {
		return held{}, false, 0
	}
	e, now := c.index, time.Now()
	left := min(time.Until(a.deadline)-a.b.cfg.Reserve, a.untilNeutral())
	if left < c.Timeout/2 || e.throttled(now) {
		return held{}, false, 0
	}
	done, err := e.breaker.Allow()
	if err != nil {
		return held{}, false, 0
	}
	ctx, span := a.b.spans.Start(a.ctx, "locator", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String(keyCustodian, string(c.Rules.Custodian.Key))))
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()

	holds := a.bytes.part()
	limits := a.b.cfg.Limits
	limits.Bytes, limits.Pages = min(limits.Bytes, locatorBytes), min(limits.Pages, locatorPages)
	limits.Take = func(n int64) bool { return ctx.Err() == nil && holds.take(n) }
	found, err := located(ctx, l.Index, a.query(ctx, c, p, limits))
	timedOut := err != nil && ctx.Err() != nil
	denied, _ := holds.fail() // what it said is not kept
	took = time.Since(now)
	starved := timedOut && took > l.Timeout+late
	took = min(took, l.Timeout) // what this process was late takes nothing from the custodian
	v := judge(err, err != nil && (a.caller.Err() != nil || a.overtaken.Load()), timedOut, starved)
	if denied {
		v.breaker = errNothingLearnt // there was no room for what it said
	}
	done(v.breaker)
	e.throttleFor(now, err)
	switch age := time.Since(found.AsOf); {
	case err != nil:
		a.locatorSaid(c, locatorTrouble, v.reason)
	case found.Listed:
		a.locatorSaid(c, locatorListed, "")
	case found.AsOf.IsZero() || age < 0 || age > l.FreshFor:
		a.locatorSaid(c, locatorStale, locatorStale)
	default:
		h = held{c: c, failed: true}
		h.prepared.Status = record.Status{Custodian: c.Rules.Custodian, Adapter: c.Adapter, State: record.NotAsked, Reason: record.NotAskedLocator,
			Explanation: "Its index, which it brought up to date at " + found.AsOf.UTC().Truncate(time.Second).Format(time.RFC3339) + ", lists nothing about this person."}
		a.locatorSaid(c, locatorUnlisted, "")
		span.SetAttributes(attribute.String(keyState, string(record.NotAsked)), attribute.String(keyReason, record.NotAskedLocator))
		return h, true, took
	}
	return held{}, false, took
}

// What a locator said, as it is counted.
const (
	locatorListed   = "listed"   // the custodian is asked
	locatorUnlisted = "unlisted" // and fresh: it is not
	locatorStale    = "stale"    // it is asked
	locatorTrouble  = "trouble"  // it is asked
)

// locatorSaid counts what a locator said, and tells operators where it does not serve: nothing is missing from answers for that, but each costs more.
func (a *access) locatorSaid(c *custodian, outcome, reason string) {
	a.b.metrics.located(a.caller, c, outcome)
	if reason != "" && a.caller.Err() == nil {
		a.b.log.WarnContext(a.caller, "locator does not serve; its custodian is asked", keyRequest, a.req.ID, keyCustodian, c.Rules.Custodian.Key, keyOutcome, outcome, keyReason, reason)
	}
}

// located calls the index in a goroutine of its own, as fetch does a source.
func located(ctx context.Context, x Index, q Query) (Located, error) {
	type answer struct {
		found Located
		err   error
	}
	ch := make(chan answer, 1)
	go func() {
		var said answer
		defer func() {
			if v := recover(); v != nil {
				said = answer{err: fmt.Errorf("%w: %T", ErrPanicked, v)} // the type only: the value may hold patient data
			}
			ch <- said
		}()
		said.found, said.err = x.Locate(ctx, q)
	}()
	select {
	case said := <-ch:
		return said.found, said.err
	case <-ctx.Done():
		return Located{}, ErrTimedOut
	}
}

// unheld reports whether a custodian has nothing about the person as far as is known: by its own word, or by its locator's. A stream that has heard nothing
// else must not yet tell that the person is known here.
func unheld(s record.Status) bool {
	return s.State == record.NoRecord || s.State == record.NotAsked && s.Reason == record.NotAskedLocator
}
