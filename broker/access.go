package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// access is one request on its way. It lives as long as the request and is used by one goroutine, but for gather's.
type access struct {
	b        *Broker
	ctx      context.Context // ends at the request's deadline, or when the caller leaves
	caller   context.Context // the caller's own
	cancel   context.CancelFunc
	span     trace.Span
	req      Request
	entry    audit.Access
	subject  record.Subject
	first    consent.Permit // the one under which custodians were asked
	permit   consent.Permit // the one in force
	version  int            // how often it has changed
	opened   audit.Opened
	deadline time.Time
	troubled []record.Status // the custodians in trouble when it came: what it finds out itself must not change a neutral answer
	bytes    *account        // nil until there is room
	merging  merge.Request
	only     *custodian // of a document: whoever holds it, and nobody else is asked; nil: everybody

	hinted    <-chan struct{}            // receives when preferences may have changed (L-7); nil: never
	unwatch   func()                     // nil: nothing is watched
	looks     int                        // how often a hint made us look
	overtaken atomic.Bool                // newer permits nothing, and nobody is asked any more
	newer     *audit.ConsentChangedError // set before overtaken
}

// open takes a request from arrival to the durable entry that lets custodians be asked. What it refuses is recorded, and has cost no
// custodian anything.
func (b *Broker) open(ctx context.Context, req Request) (*access, *Refusal) {
	a := b.start(ctx, req)
	refusal := func() *Refusal {
		if req.TokenProblem != "" {
			return a.refuse(Forbidden, req.TokenProblem, "C-2.4")
		}
		if refusal := a.takesNumber(req.Subject); refusal != nil {
			return refusal
		}
		if refusal := a.takesAddress(); refusal != nil {
			return refusal
		}
		// Less than that before neutral answers leave is refused too, whoever it is about: custodians would not be asked, and the answer about somebody
		// whom nobody holds would be another than the neutral one.
		if min(time.Until(a.deadline), a.untilNeutral()) < b.cfg.Minimum {
			return a.refuse(OutOfTime, consent.ReasonBudget, "R-5")
		}
		// Waiting for room takes from the time that custodians have: nothing counts after arrival + NeutralWait.
		if a.bytes = openAccount(a.ctx, b.room, b.cfg.NeutralWait/4, b.cfg.RequestBytes, b.sources); a.bytes == nil {
			if a.caller.Err() != nil {
				return a.refuse(Gone, consent.ReasonCancelled, "")
			}
			r := a.refuse(Overloaded, consent.ReasonBudget, "R-7")
			r.RetryAfter = b.room.comeBack()
			return r
		}
		if refusal := a.trace(); refusal != nil {
			return refusal
		}
		a.watch()
		if refusal := a.decide(); refusal != nil {
			return refusal
		}
		if a.wasHinted() {
			if refusal := a.decide(); refusal != nil {
				return refusal
			}
		}
		if refusal := a.mayOpen(); refusal != nil {
			return refusal
		}
		return a.begin()
	}()
	if refusal != nil {
		a.outcome(string(refusal.Kind))
		a.end()
		return nil, refusal
	}
	return a, nil
}

// takesNumber refuses no number, and one of the test range where the deployment does not take them.
func (a *access) takesNumber(n record.NHSNumber) *Refusal {
	if !a.b.takes(n) {
		return a.invalid("nhs_number: give an NHS number; those from 999 000 0000 up are for testing, and this deployment does not take them")
	}
	return nil
}

func (b *Broker) takes(n record.NHSNumber) bool {
	return !n.IsZero() && (b.cfg.TestNumbers || !n.IsTest())
}

func (b *Broker) start(ctx context.Context, req Request) *access {
	if req.Arrived.IsZero() {
		req.Arrived = time.Now()
	}
	a := &access{b: b, caller: ctx, req: req, troubled: b.troubled()}
	a.deadline = req.Arrived.Add(b.cfg.Request)
	if d, ok := ctx.Deadline(); ok && d.Before(a.deadline) {
		a.deadline = d
	}
	ctx, a.span = b.spans.Start(ctx, "record request", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String(keyRequest, req.ID), attribute.String(keyFace, req.Face), attribute.String(keyOperation, req.Operation)))
	a.ctx, a.cancel = context.WithDeadline(ctx, a.deadline)
	a.entry = audit.Access{Key: newKey(), RequestID: req.ID, Face: req.Face, Operation: req.Operation, Subject: req.Subject,
		Requester: req.Requester, RoleName: req.Role.Name, Purpose: req.Purpose, Permission: req.Permission, Relationship: req.Relationship,
		BreakGlassReason: req.BreakGlassReason, Filter: describe(req.Filter), Configuration: b.cfg.Configuration, Policy: req.Role.Version,
		At: req.Arrived.UTC(), Budget: b.cfg.Request}
	if req.Face == faceStream {
		a.entry.Budget = longestStream
	}
	b.metrics.started(a.ctx)
	return a
}

// within begins a span in the request's. Where nobody takes the request's, nobody would take this: then it is none, and a custodian that is sent a traceparent
// is told of the request's.
func (a *access) within(name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !a.span.IsRecording() {
		return a.ctx, noSpan
	}
	return a.b.spans.Start(a.ctx, name, options...)
}

var noSpan = trace.SpanFromContext(context.Background())

// faceStream is the face of a request that is answered in pieces, and longestStream how long a slow reader may take over them: the ledger counts
// an access as forgotten after twice that.
const (
	faceStream    = "stream"
	longestStream = 2 * time.Minute
)

// newKey makes the key by which the outcome of a commit is found out.
func newKey() string {
	var k [16]byte
	_, _ = rand.Read(k[:]) // crypto/rand.Read never fails (Go 1.24)
	return hex.EncodeToString(k[:])
}

func describe(f merge.Filter) string {
	var parts []string
	if len(f.Types) > 0 {
		parts = append(parts, "_type="+strings.Join(f.Types, ","))
	}
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"start", f.Start}, {"end", f.End}, {"_since", f.Since}} {
		if !t.at.IsZero() {
			parts = append(parts, t.name+"="+t.at.UTC().Format(time.RFC3339))
		}
	}
	return strings.Join(parts, "&")
}

// RefuseUnread records a call of a known caller that could not be read as a request: a caller who is known gets an entry for every attempt
// (L-6). What can be read of it is in req; nobody is traced or asked. The error is always a [*Refusal]: the ledger could not record it.
func (b *Broker) RefuseUnread(ctx context.Context, req Request) (audit.Receipt, error) {
	a := b.start(ctx, req)
	defer a.end()
	reason := consent.ReasonUnread
	if req.BadNumber {
		a.entry.Evidence = &audit.Evidence{BadNumber: true}
	}
	if req.TokenProblem != "" {
		reason = req.TokenProblem
	}
	r := a.refuse(Invalid, reason, "L-6")
	a.outcome(string(r.Kind))
	if r.Kind != Invalid {
		return audit.Receipt{}, r
	}
	return r.Receipt, nil
}

// keepBytes lets the answer outlive the access: whoever writes it closes the account.
func (a *access) keepBytes() func() {
	kept := a.bytes
	a.bytes = nil
	return kept.close
}

// end gives back what the access holds. The memory of the record is garbage from here on.
func (a *access) end() {
	a.bytes.close()
	if a.unwatch != nil {
		a.unwatch()
	}
	a.b.metrics.ended(a.caller, time.Since(a.req.Arrived))
	a.span.End()
	a.cancel()
}

func (a *access) outcome(word string) {
	a.span.SetAttributes(attribute.String(keyOutcome, word))
	a.b.metrics.outcome(a.caller, a.req.Face, word)
	a.b.log.InfoContext(a.caller, "request", keyRequest, a.req.ID, keyFace, a.req.Face, keyOperation, a.req.Operation, keyOutcome, word,
		keyDuration, time.Since(a.req.Arrived))
}

// trace asks the demographics service once, before consent.
func (a *access) trace() *Refusal {
	ctx, cancel := context.WithTimeout(a.ctx, a.b.cfg.TraceTimeout)
	defer cancel()
	subject, err := traceSafely(ctx, a.b.cfg.Tracer, a.req.Subject, a.req.ID)
	if err != nil || subject.Number != a.req.Subject {
		if a.caller.Err() != nil {
			return a.refuse(Gone, consent.ReasonCancelled, "")
		}
		return a.refuse(Transient, consent.ReasonTraceUnavailable, "R-4")
	}
	a.subject = subject
	a.entry.Standing, a.entry.Supersedes = subject.Standing, subject.Supersedes
	a.entry.Evidence = a.known()
	return nil
}

// birthDateAgrees reports whether the second identifier, if one was given, is the person's.
func (a *access) birthDateAgrees() bool {
	return a.req.BirthDate == "" || a.req.BirthDate == a.subject.BirthDate
}

// traceSafely turns a panic of a demographics adapter into an error that holds nothing of its value.
func traceSafely(ctx context.Context, t Tracer, n record.NHSNumber, id string) (s record.Subject, err error) {
	defer func() {
		if recover() != nil {
			err = ErrPanicked
		}
	}()
	return t.Trace(ctx, n, id)
}

func (a *access) decide() *Refusal {
	q := consent.Question{Subject: a.subject, Requester: a.req.Requester, Role: a.req.Role, Purpose: a.req.Purpose, Permission: a.req.Permission,
		Relationship: a.req.Relationship, BreakGlassReason: a.req.BreakGlassReason, DeceasedWindow: a.b.cfg.DeceasedWindow, Now: time.Now().UTC()}
	q.Custodians = make([]consent.CustodianRules, 0, len(a.b.custodians))
	for _, c := range a.b.custodians {
		q.Custodians = append(q.Custodians, c.Rules)
	}
	d := consent.Decide(a.ctx, a.b.cfg.Ledger, q)
	a.entry.Decision = d
	a.entry.Asked = nil // of an earlier decision: a refusal is an access to no custodian's record
	if _, ok := d.Permit(); (ok || d.Outcome == consent.Suppressed) && !a.birthDateAgrees() {
		// Only now: who may not ask at all must not learn from a birth date whether the person exists.
		return a.refuse(NotFound, consent.ReasonMismatch, consent.RuleNeutral)
	}
	if p, ok := d.Permit(); ok {
		a.first, a.permit = p, p
		if a.carer() && a.leavesNobody(p) {
			return a.refuse(Forbidden, d.Reason, d.Rule) // as an objection to all sharing does, which is not to be told apart: see public
		}
		a.entry.Asked = make([]record.CustodianKey, 0, len(a.b.custodians))
		for _, c := range a.b.custodians {
			if c.may(p) != 0 && (a.only == nil || a.only == c) {
				a.entry.Asked = append(a.entry.Asked, c.Rules.Custodian.Key)
			}
		}
		return nil
	}
	return a.refuse(kindOf(d), d.Reason, d.Rule)
}

// kindOf says what a decision that permits nothing is to the caller.
func kindOf(d consent.Decision) Kind {
	switch {
	case d.Outcome == consent.Neutral:
		return NotFound
	case d.Outcome == consent.Suppressed:
		return Suppressed
	case d.Reason == consent.ReasonCannotKnow || d.Reason == consent.ReasonTraceUnavailable:
		return Transient
	}
	return Forbidden
}

func (a *access) begin() *Refusal {
	ctx, span := a.within("ledger begin")
	defer span.End()
	opened, err := a.b.cfg.Ledger.Begin(ctx, a.permit, a.entry)
	if err != nil {
		// Nothing is known to be recorded, so nobody is asked.
		return &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	a.opened = opened
	filter := a.req.Filter
	if a.req.Demographics {
		filter.Types = []string{"Patient"} // custodians are asked for no more, and some return more all the same (M-12)
	}
	a.merging = merge.Request{Base: a.b.cfg.Base, CodeBase: a.b.cfg.CodeBase, Subject: a.subject, Handle: a.b.handles.Seal(a.subject.Number),
		PatientView: a.req.Purpose == record.PatientAccess, Carer: a.req.Purpose == record.PatientAccess && a.req.Requester.Own != a.subject.Number,
		Now: time.Now().UTC(), IDKey: a.b.cfg.IDKey, Filter: filter, RequestID: a.req.ID, Sections: a.b.cfg.Sections}
	return nil
}

// refuse records a refusal before an access is open. If it cannot be recorded, the caller is told that the ledger is unavailable and nothing
// else (P1 holds for refusals too: what is not on record is not said).
func (a *access) refuse(kind Kind, reason consent.Reason, rule string) *Refusal {
	a.entry.Reason, a.entry.Rule = reason, rule
	r := &Refusal{Kind: kind, Reason: reason, Rule: rule, Explanation: explained(a.entry.Decision, reason, rule)}
	if a.opened.Valid() {
		return a.close(audit.TypeRefused, reason, nil, r)
	}
	receipt, err := a.b.cfg.Ledger.Refuse(context.WithoutCancel(a.ctx), a.entry)
	if err != nil {
		return &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	r.Receipt = receipt
	return a.public(r)
}

// explained says why: in the decision's words where it was the decision that refused, else in those of the reason.
func explained(d consent.Decision, reason consent.Reason, rule string) consent.Explanation {
	if d.Reason != reason || d.Rule != rule {
		d = consent.Decision{Reason: reason, Rule: rule}
	}
	return d.Explain()
}

// carer reports whether somebody asks for the record of a person who lets them see it (C-6).
func (a *access) carer() bool {
	return a.req.Requester.Kind == record.Person && a.req.Requester.Own != a.req.Subject // the address of a document is looked at before the number is traced
}

// told is an explanation as this caller may read it; the ledger keeps the reason itself.
func (a *access) told(e consent.Explanation) consent.Explanation {
	if a.carer() {
		return e.ForCarer()
	}
	return e
}

// public makes a refusal fit for the caller: neutral answers wait and lose their reason, suppression names contacts, and a carer does not learn of
// objections: for them suppression is a refusal like that of a request that no delegation covers. A neutral answer, which says nothing to anybody, stays one.
func (a *access) public(r *Refusal) *Refusal {
	if e := a.told(r.Explanation); e != r.Explanation && r.Kind != NotFound {
		r = &Refusal{Kind: Forbidden, Reason: e.Reason, Rule: e.Rule, Explanation: e, Receipt: r.Receipt}
	}
	switch r.Kind {
	case NotFound:
		a.waitNeutral()
		return &Refusal{Kind: NotFound, Statuses: a.troubled}
	case Suppressed:
		for _, c := range a.b.custodians {
			r.Statuses = append(r.Statuses, record.Status{Custodian: c.Rules.Custodian, State: record.Withheld, Reason: string(consent.ReasonObjection), Adapter: c.Adapter,
				Rule: r.Explanation.Rule, Explanation: r.Explanation.Text, Preference: r.Explanation.Preference, Recorded: r.Explanation.Recorded})
		}
	case Transient:
		if r.RetryAfter == 0 {
			r.RetryAfter = time.Second
		}
	}
	return r
}

// untilNeutral is how long custodians may still be heard: nothing counts after arrival + neutralWait - reserve, because whoever is held by nobody must have been
// answered by neutralWait, like everybody else of whom nothing may be said.
func (a *access) untilNeutral() time.Duration {
	return time.Until(a.req.Arrived.Add(a.b.cfg.NeutralWait)) - a.b.cfg.Reserve
}

// waitNeutral holds the answer until arrival + neutralWait, so that the six neutral classes cannot be told apart by time.
func (a *access) waitNeutral() {
	a.bytes.close() // nothing of a record is held while waiting
	t := time.NewTimer(time.Until(a.req.Arrived.Add(a.b.cfg.NeutralWait)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.caller.Done():
	}
}

// close writes the closing entry of an access that shows nothing (more).
func (a *access) close(t audit.EntryType, reason consent.Reason, statuses []record.Status, r *Refusal) *Refusal {
	receipt, err := a.b.cfg.Ledger.Close(context.WithoutCancel(a.ctx), a.opened, t, reason, audit.Disclosure{Custodians: shownNothing(statuses)})
	if err != nil && r.Kind != Gone {
		r = &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	r.Receipt = receipt
	r = a.public(r)
	a.outcome(string(r.Kind))
	return r
}

// release writes the closing entry that lets the answer leave; preferences are re-read in the same transaction.
func (a *access) release(d audit.Disclosure) (audit.Receipt, error) {
	ctx, span := a.within("ledger release")
	defer span.End()
	return a.b.cfg.Ledger.Release(context.WithoutCancel(ctx), a.opened, a.permit, d)
}

func (a *access) releaseChunk(d audit.Disclosure) (audit.Receipt, error) {
	ctx, span := a.within("ledger release")
	defer span.End()
	return a.b.cfg.Ledger.ReleaseChunk(context.WithoutCancel(ctx), a.opened, a.permit, d)
}

// changed deals with a release that did not succeed. It returns nil if preferences changed, the new ones still permit something, and
// nothing has been rebuilt yet: then a.permit is the new one.
func (a *access) changed(err error, rebuilt bool, statuses []record.Status) *Refusal {
	var c *audit.ConsentChangedError
	if !errors.As(err, &c) {
		// Not known to be recorded, so not released. The access is closed as abandoned by the ledger if this cannot close it either.
		return a.close(audit.TypeRefused, consent.ReasonCannotKnow, statuses, &Refusal{Kind: Transient, RetryAfter: time.Second})
	}
	if rebuilt {
		return a.close(audit.TypeRefused, consent.ReasonChanged, statuses, &Refusal{Kind: Transient, RetryAfter: time.Second})
	}
	d := a.permit.Again(c.Preferences, time.Now().UTC())
	if p, ok := d.Permit(); ok && !(a.carer() && a.leavesNobody(p)) {
		a.permit = p
		a.version++
		return nil
	}
	return a.close(audit.TypeRefused, d.Reason, statuses, &Refusal{Kind: kindOf(d), Reason: d.Reason, Rule: d.Rule, Explanation: d.Explain()})
}

// cutShort ends an access whose custodians were not heard to the end, because a newer choice of the person would have refused it. Where that choice has
// run out meanwhile, the caller may ask again, and is told so.
func (a *access) cutShort(statuses []record.Status) *Refusal {
	if refusal := a.changed(a.newer, false, statuses); refusal != nil {
		return refusal
	}
	return a.close(audit.TypeRefused, consent.ReasonChanged, statuses, &Refusal{Kind: Transient, RetryAfter: time.Second})
}

// leavesNobody reports whether there is no custodian of whose record anything may be shown under p.
func (a *access) leavesNobody(p consent.Permit) bool {
	return !slices.ContainsFunc(a.b.custodians, func(c *custodian) bool { return c.may(p) != 0 })
}

// nothing ends an access that shows nothing: by what the custodians said, a released answer without matches, trouble, or the neutral answer.
func (a *access) nothing(prepared []merge.Prepared, statuses []record.Status) (*Result, error) {
	for i := range statuses { // a prepared part that shows nothing replaces the bare status
		for _, p := range prepared {
			if p.Status.Custodian.Key == statuses[i].Custodian.Key {
				statuses[i] = p.Status
			}
		}
	}
	var withheld, refused, trouble bool
	for _, s := range statuses {
		trouble = trouble || s.State.InTrouble() || s.State == record.NotAsked && s.Reason == record.NotAskedBudget
		withheld = withheld || s.State == record.Withheld
		refused = refused || s.State == record.NotAsked && s.Reason == record.NotAskedPermit
	}
	if a.caller.Err() != nil {
		return nil, a.close(audit.TypeCancelled, consent.ReasonCancelled, statuses, &Refusal{Kind: Gone})
	}
	switch {
	case trouble:
		return nil, a.close(audit.TypeNothing, consent.ReasonTrouble, statuses, &Refusal{Kind: Transient, Statuses: statuses, RetryAfter: 5 * time.Second})
	case !withheld && refused: // its own record was all that the requester might see, and there is none
		reason, rule := a.refusedFor()
		return nil, a.close(audit.TypeRefused, reason, statuses, &Refusal{Kind: Forbidden, Reason: reason, Rule: rule, Explanation: explained(consent.Decision{}, reason, rule)})
	case !withheld:
		return nil, a.close(audit.TypeNothing, consent.ReasonNobody, statuses, &Refusal{Kind: NotFound})
	}
	receipt, err := a.b.cfg.Ledger.Close(context.WithoutCancel(a.ctx), a.opened, audit.TypeNothing, consent.ReasonWithheld,
		audit.Disclosure{Custodians: shownNothing(statuses)})
	if err != nil {
		a.outcome(string(Transient))
		return nil, &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	a.outcome("withheld")
	return &Result{Answer: merge.Assemble(a.merging, nil, statuses), Receipt: receipt, Nothing: true}, nil
}

// refusedFor returns why the rest of a record was refused to somebody who might see their own organisation's.
func (a *access) refusedFor() (consent.Reason, string) {
	for _, c := range a.permit.Decision().Custodians {
		for _, p := range c.Parts {
			if p.Outcome == consent.Refused {
				return p.Reason, p.Rule
			}
		}
	}
	return consent.ReasonPermission, "C-2.8"
}

// summary sends the last message of a stream. Its entry is durable already; a caller who left meanwhile is over-reported, never under.
func (a *access) summary(ctx context.Context, sink Sink, authored, whole merge.Answer, receipt audit.Receipt) error {
	order := make([]string, len(whole.Entries))
	for i, e := range whole.Entries {
		order[i] = e.FullURL
	}
	authored.Total = whole.Total
	if ctx.Err() != nil || sink.Summary(authored, order, receipt) != nil {
		return &Refusal{Kind: Gone, Receipt: receipt}
	}
	return nil
}

func showing(prepared []merge.Prepared) bool {
	for _, p := range prepared {
		if p.Status.State.Showing() {
			return true
		}
	}
	return false
}

// allPending reports whether every custodian has been asked and none has been heard of.
func allPending(statuses []record.Status) bool {
	for _, s := range statuses {
		if s.State != "" {
			return false
		}
	}
	return true
}

func shownNothing(statuses []record.Status) []audit.Shown {
	out := make([]audit.Shown, 0, len(statuses))
	for _, s := range statuses {
		if s.State == "" { // asked, and not heard of when the caller left
			s.State, s.Reason = record.TimedOut, string(consent.ReasonCancelled)
		}
		out = append(out, audit.Shown{Key: s.Custodian.Key, State: s.State, Reason: s.Reason, Parts: s.Parts})
	}
	return out
}

// disclosure says what a whole answer shows: enough to prove a past view, too little to read it (L-5).
func (a *access) disclosure(answer merge.Answer, prepared []merge.Prepared) audit.Disclosure {
	d := audit.Disclosure{Total: answer.Total, Evidence: a.evidence(answer.Statuses, prepared), Custodians: make([]audit.Shown, 0, len(answer.Statuses))}
	bare := map[record.CustodianKey]*merge.Prepared{}
	for i := range prepared {
		bare[prepared[i].Status.Custodian.Key] = &prepared[i]
	}
	for i := range answer.Statuses {
		s := &answer.Statuses[i]
		p := bare[s.Custodian.Key]
		if p == nil {
			p = &merge.Prepared{}
		}
		d.Custodians = append(d.Custodians, shown(s, p))
	}
	for i := range answer.Entries {
		d.Bytes += int64(len(answer.Entries[i].JSON))
	}
	return d
}

// closing is the last disclosure of a stream: how each custodian stood, and what we author. What each showed stands in the entry of its chunk, and
// may be more than the permit now in force would allow: it had left before.
func (a *access) closing(answer merge.Answer, prepared []merge.Prepared) audit.Disclosure {
	return audit.Disclosure{Total: answer.Total, Custodians: shownNothing(answer.Statuses), Evidence: a.evidence(answer.Statuses, prepared)}
}

func chunkDisclosure(p merge.Prepared) audit.Disclosure {
	return audit.Disclosure{Custodians: []audit.Shown{shown(&p.Status, &p)}}
}

func shown(s *record.Status, p *merge.Prepared) audit.Shown {
	out := audit.Shown{Key: s.Custodian.Key, State: s.State, Reason: s.Reason, Parts: s.Parts, Sections: p.Sections, Count: len(p.Entries)}
	if len(p.Entries) > 0 {
		out.Digests = make([][32]byte, len(p.Entries))
	}
	for i := range p.Entries {
		out.Digests[i] = p.Entries[i].Digest
	}
	return out
}
