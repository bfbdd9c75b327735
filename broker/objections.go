package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// ObjectionRequest is a call of ConsentService (C-10).
type ObjectionRequest struct {
	ID           string // X-Request-ID
	Face         string
	Requester    record.Requester
	Role         consent.Role
	Subject      record.NHSNumber
	BirthDate    string // YYYY-MM-DD; the trace must confirm it. Not needed of the person themselves
	Reason       string // why, in the caller's words; may be empty
	Key          string // 32 hex digits; makes a change safe to repeat; "" makes one
	Arrived      time.Time
	TokenProblem consent.Reason // as in Request
}

// RecordObjection records an objection, in force from the moment that this returns. The error is always a [*Refusal].
func (b *Broker) RecordObjection(ctx context.Context, req ObjectionRequest, o consent.Objection) (consent.Objection, audit.Receipt, error) {
	a, by, refusal := b.openObjections(ctx, req, "RecordObjection", ruleObjections, req.Role.RecordsObjections)
	if refusal != nil {
		return consent.Objection{}, audit.Receipt{}, refusal
	}
	defer a.end()
	if field := b.checkObjection(o); field != "" {
		return consent.Objection{}, audit.Receipt{}, a.invalidly(field)
	}
	o.AuthorUser, o.AuthorName, o.AuthorRole, o.AuthorODS = req.Requester.User, req.Requester.Name, req.Role.Name, req.Requester.Organisation
	o, receipt, err := b.cfg.Ledger.RecordObjection(context.WithoutCancel(a.ctx), by, a.subject.Number, o, keyOr(req.Key))
	return o, receipt, a.done(err, "objection")
}

// WithdrawObjection ends an objection. The error is always a [*Refusal]; an objection that is not this person's is Invalid.
func (b *Broker) WithdrawObjection(ctx context.Context, req ObjectionRequest, id string) (consent.Objection, audit.Receipt, error) {
	a, by, refusal := b.openObjections(ctx, req, "WithdrawObjection", ruleObjections, req.Role.RecordsObjections)
	if refusal != nil {
		return consent.Objection{}, audit.Receipt{}, refusal
	}
	defer a.end()
	o, receipt, err := b.cfg.Ledger.WithdrawObjection(context.WithoutCancel(a.ctx), by, a.numbers(), id, keyOr(req.Key))
	return o, receipt, a.done(err, "objection")
}

// DecideObjection puts an objection that was requested in force, or declines it. Only staff decide. The error is always a [*Refusal].
func (b *Broker) DecideObjection(ctx context.Context, req ObjectionRequest, id string, to consent.Status) (consent.Objection, audit.Receipt, error) {
	a, by, refusal := b.openObjections(ctx, req, "DecideObjection", ruleObjections, req.Role.RecordsObjections && req.Requester.Kind == record.Professional)
	if refusal != nil {
		return consent.Objection{}, audit.Receipt{}, refusal
	}
	defer a.end()
	if to != consent.InForce && to != consent.Declined {
		return consent.Objection{}, audit.Receipt{}, a.invalidly("status: in force or declined")
	}
	o, receipt, err := b.cfg.Ledger.ChangeObjection(context.WithoutCancel(a.ctx), by, a.numbers(), id, to, keyOr(req.Key))
	return o, receipt, a.done(err, "objection")
}

// ShowObjections lists the person's objections, all statuses; the look is recorded. The error is always a [*Refusal].
func (b *Broker) ShowObjections(ctx context.Context, req ObjectionRequest) ([]consent.Objection, audit.Receipt, error) {
	a, by, refusal := b.openObjections(ctx, req, "ShowObjections", ruleObjections, req.Role.SeesObjections)
	if refusal != nil {
		return nil, audit.Receipt{}, refusal
	}
	defer a.end()
	list, receipt, err := b.cfg.Ledger.ReadObjections(context.WithoutCancel(a.ctx), by, a.numbers())
	return list, receipt, a.done(err, "objection")
}

// ruleObjections is the rule about who may record and see objections.
const ruleObjections = "C-10"

// openObjections checks who asks (C-10) and that the person is who they are said to be; for a neutral class the answer is neutral.
func (b *Broker) openObjections(ctx context.Context, req ObjectionRequest, operation, rule string, may bool) (*access, audit.Actor, *Refusal) {
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: operation, Subject: req.Subject, BirthDate: req.BirthDate, Requester: req.Requester,
		Role: req.Role, Arrived: req.Arrived})
	self := req.Requester.Kind == record.Person
	refusal := func() *Refusal {
		switch {
		case req.TokenProblem != "":
			return a.refuse(Forbidden, req.TokenProblem, rule)
		case !may || req.Requester.Kind == record.System:
			return a.refuse(Forbidden, consent.ReasonRole, rule)
		case self && req.Requester.Own != req.Subject:
			return a.refuse(Forbidden, consent.ReasonNotOwn, rule)
		case !self && req.BirthDate == "":
			return a.invalid("birth_date: give the person's date of birth, YYYY-MM-DD")
		}
		if refusal := a.takesNumber(req.Subject); refusal != nil {
			return refusal
		}
		if refusal := a.trace(); refusal != nil {
			return refusal
		}
		return a.neutralStanding()
	}()
	if refusal != nil {
		a.outcome(string(refusal.Kind))
		a.end()
		return nil, audit.Actor{}, refusal
	}
	return a, b.actor(req.ID, req.Face, req.Requester, req.Role, req.Reason), nil
}

// neutralStanding refuses people of a neutral class (C-2.3), and a second identifier that is not the person's, by the same words as any
// other request about them.
func (a *access) neutralStanding() *Refusal {
	if reason, neutral := consent.NeutralClass(a.subject, a.b.cfg.DeceasedWindow, time.Now()); neutral {
		return a.refuse(NotFound, reason, consent.RuleNeutral)
	}
	if a.subject.Standing != record.Live && a.subject.Standing != record.Deceased {
		return a.refuse(Transient, consent.ReasonTraceUnavailable, "R-4")
	}
	if !a.birthDateAgrees() {
		return a.refuse(NotFound, consent.ReasonMismatch, consent.RuleNeutral)
	}
	return nil
}

func (a *access) numbers() []record.NHSNumber {
	return append([]record.NHSNumber{a.subject.Number}, a.subject.Supersedes...)
}

// invalid refuses for a field that only the broker can judge, and records it.
func (a *access) invalid(field string) *Refusal {
	r := a.refuse(Invalid, consent.ReasonUnread, "L-6")
	r.Field = field
	return r
}

// invalidly is invalid as the last word on an access.
func (a *access) invalidly(field string) *Refusal {
	r := a.invalid(field)
	a.outcome(string(r.Kind))
	return r
}

// done maps what the ledger said of a change or a look; what is the thing: objection or delegation.
func (a *access) done(err error, what string) error {
	switch {
	case err == nil:
		a.outcome("recorded")
		return nil
	case errors.Is(err, audit.ErrNotFound):
		return a.invalidly(what + "_id: no such " + what + " of this person; list them first")
	case errors.Is(err, audit.ErrInvalid):
		return a.invalidly(what + ": it cannot be recorded as it is: it may end in the past or too late, name what its scope does not take, repeat a key with other contents, or be one too many")
	case errors.Is(err, audit.ErrStale):
		return a.invalidly(what + "_id: it changed since it was read, or cannot become that from what it is; list them again")
	}
	a.outcome(string(Transient))
	return &Refusal{Kind: Transient, RetryAfter: time.Second}
}

// checkObjection returns what is wrong with an objection as it was sent, "" if nothing.
func (b *Broker) checkObjection(o consent.Objection) string {
	switch o.Scope {
	case consent.ToAll, consent.ToSection:
	case consent.ToCustodian:
		if !slices.ContainsFunc(b.custodians, func(c *custodian) bool { return c.Rules.Custodian.Key == o.Custodian }) {
			return "custodian: no such custodian; ListCustodians names them"
		}
	default:
		return "scope: one of all, custodian, section"
	}
	if !o.Until.IsZero() && !o.Until.After(o.From) {
		return "until: must be after from"
	}
	return ""
}

func keyOr(key string) string {
	if key == "" {
		return newKey()
	}
	return key
}
