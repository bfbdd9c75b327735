package broker

import (
	"context"
	"errors"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// OverrideRequest is a call of AuditService about uses of break-glass (C-3).
type OverrideRequest struct {
	ID           string
	Face         string
	Requester    record.Requester
	Role         consent.Role
	Reason       string // why the question is asked
	Key          string // 32 hex digits; makes a review safe to repeat; "" makes one
	Arrived      time.Time
	TokenProblem consent.Reason // as in Request
}

// ListOverrides returns uses of break-glass that nobody has reviewed, or all, the oldest first, from a position on: to an IG officer those by their own
// organisation's staff, and those to its records. next is where to go on, 0 if there is nothing more. The question is itself an entry. The error is
// always a [*Refusal].
func (b *Broker) ListOverrides(ctx context.Context, req OverrideRequest, reviewed bool, from uint64, limit int) (list []audit.Override, next uint64, r audit.Receipt, err error) {
	a, by, in, refusal := b.openOverrides(ctx, req, "ListOverrides")
	if refusal != nil {
		return nil, 0, audit.Receipt{}, refusal
	}
	defer a.end()
	switch {
	case req.Reason == "":
		return nil, 0, audit.Receipt{}, a.invalidly("reason: say why the question is asked")
	case limit < 0 || limit > 1000:
		return nil, 0, audit.Receipt{}, a.invalidly("limit: 1 to 1000")
	}
	which := audit.Unreviewed
	if reviewed {
		which = audit.AnyAlert
	}
	list, next, r, err = b.cfg.Ledger.Overrides(a.ctx, by, in, which, from, limit)
	if err != nil {
		a.outcome(string(Transient))
		return nil, 0, audit.Receipt{}, &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	for i := range list {
		list[i].Found = ownPart(list[i].Found, in)
	}
	a.outcome("answered")
	return list, next, r, nil
}

// ReviewOverride records what became of a use of break-glass. Officers of the requester's organisation may, those of a custodian that showed something, and those who
// oversee either. The error is always a [*Refusal]; one that the officer may not see is Invalid, their own and one that showed nothing of theirs are Forbidden.
func (b *Broker) ReviewOverride(ctx context.Context, req OverrideRequest, position uint64, outcome audit.ReviewOutcome, note string) (audit.Receipt, error) {
	a, by, in, refusal := b.openOverrides(ctx, req, "ReviewOverride")
	if refusal != nil {
		return audit.Receipt{}, refusal
	}
	defer a.end()
	receipt, err := b.cfg.Ledger.ReviewOverride(context.WithoutCancel(a.ctx), by, in, position, outcome, note, keyOr(req.Key))
	switch {
	case err == nil:
		a.outcome("recorded")
		return receipt, nil
	case errors.Is(err, audit.ErrNotFound):
		return audit.Receipt{}, a.invalidly("position: no such override of this organisation; the list of overrides names them")
	case errors.Is(err, audit.ErrNotPermitted):
		refusal := a.refuse(Forbidden, consent.ReasonRole, consent.RuleBreakGlass)
		a.outcome(string(refusal.Kind))
		return audit.Receipt{}, refusal
	case errors.Is(err, audit.ErrInvalid):
		return audit.Receipt{}, a.invalidly("outcome: one of justified, not-justified, referred, and a key of its own for each review")
	}
	a.outcome(string(Transient))
	return audit.Receipt{}, &Refusal{Kind: Transient, RetryAfter: time.Second}
}

// openOverrides lets IG officers in, and says what they may see.
func (b *Broker) openOverrides(ctx context.Context, req OverrideRequest, operation string) (*access, audit.Actor, audit.Bounds, *Refusal) {
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: operation, Requester: req.Requester, Role: req.Role, Arrived: req.Arrived})
	reason := req.TokenProblem
	if reason == "" && (!req.Role.SearchesLedger || req.Requester.Kind != record.Professional || !req.Requester.Organisation.Valid()) {
		reason = consent.ReasonRole
	}
	if reason != "" {
		refusal := a.refuse(Forbidden, reason, "L-6")
		a.outcome(string(refusal.Kind))
		a.end()
		return nil, audit.Actor{}, audit.Bounds{}, refusal
	}
	return a, b.actor(req.ID, req.Face, req.Requester, req.Role, req.Reason), b.bounds(req.Requester.Organisation, req.Role), nil
}

// bounds are what an officer of an organisation may see of other people's accesses: of their own organisation's, and of those that the policy has them oversee.
func (b *Broker) bounds(organisation record.ODSCode, role consent.Role) audit.Bounds {
	in := audit.Bounds{Organisation: organisation, Overseen: role.Oversees, Everywhere: role.OverseesAll}
	for _, c := range b.custodians {
		if in.HasStaff(c.Rules.Custodian.ODS) {
			in.Custodians = append(in.Custodians, c.Rules.Custodian.Key)
		}
	}
	return in
}

// actor is who changes or reads something other than a record, under which configuration.
func (b *Broker) actor(id, face string, r record.Requester, role consent.Role, reason string) audit.Actor {
	return audit.Actor{Requester: r, RoleName: role.Name, RequestID: id, Reason: reason, Face: face, Configuration: b.cfg.Configuration, Policy: role.Version}
}
