package broker

import (
	"context"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// SearchRequest is a call of AuditService (L-6).
type SearchRequest struct {
	ID           string
	Face         string
	Requester    record.Requester
	Role         consent.Role
	Reason       string // why the question is asked; required of IG officers, kept with the question
	Query        audit.Search
	Arrived      time.Time
	TokenProblem consent.Reason // as in Request
}

// SearchAccesses answers what the ledger knows, within what the requester may ask: an IG officer sees accesses by their own organisation's
// staff to anyone, and by anyone to their own organisation's records; a person sees those to their own record. The question is itself an
// entry. more reports that there are older ones. The error is always a [*Refusal].
func (b *Broker) SearchAccesses(ctx context.Context, req SearchRequest) (found []audit.Found, more bool, r audit.Receipt, err error) {
	var subject record.NHSNumber
	if len(req.Query.Subjects) > 0 {
		subject = req.Query.Subjects[0]
	}
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: "SearchAccesses", Subject: subject, Requester: req.Requester, Role: req.Role, Arrived: req.Arrived})
	defer a.end()
	refused := func(reason consent.Reason) ([]audit.Found, bool, audit.Receipt, error) {
		refusal := a.refuse(Forbidden, reason, "L-6")
		a.outcome(string(refusal.Kind))
		return nil, false, audit.Receipt{}, refusal
	}
	q := req.Query
	q.Within, q.Custodians, q.Overseen, q.Everywhere = "", nil, nil, false // ours to set
	s := b.remitOf(audit.WhoLooked, req.Requester, req.Role)
	switch {
	case req.TokenProblem != "":
		return refused(req.TokenProblem)
	case s.reach == self:
		for _, n := range q.Subjects {
			if n != s.own[0] {
				return refused(consent.ReasonNotOwn)
			}
		}
		if q.User != "" && !s.names { // they would find out who staff are by trying ids
			return refused(consent.ReasonRole)
		}
		q.Subjects = s.own
	case s.reach != within:
		return refused(consent.ReasonRole)
	case req.Reason == "":
		return nil, false, audit.Receipt{}, a.invalidly("reason: say why the question is asked")
	default:
		q.Within, q.Custodians, q.Overseen, q.Everywhere = s.bounds.Organisation, s.bounds.Custodians, s.bounds.Overseen, s.bounds.Everywhere
	}
	if q.Limit < 0 || q.Limit > 1000 {
		return nil, false, audit.Receipt{}, a.invalidly("limit: 1 to 1000")
	}
	by := b.actor(req.ID, req.Face, req.Requester, req.Role, req.Reason)
	found, more, r, failure := b.cfg.Ledger.Search(a.ctx, by, q)
	if failure != nil {
		return nil, false, audit.Receipt{}, a.unanswered(failure)
	}
	for i := range found {
		found[i] = s.part(found[i])
	}
	a.outcome("answered")
	return found, more, r, nil
}

// ExportEntries writes every entry and checkpoint of the ledger, sealed, for whoever may search it: an IG officer can have it checked, and reads nothing in it. The
// question is itself an entry. The error is always a [*Refusal].
func (b *Broker) ExportEntries(ctx context.Context, req SearchRequest, write func(lines []byte) error) error {
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: "ExportEntries", Requester: req.Requester, Role: req.Role, Arrived: req.Arrived})
	defer a.end()
	reason := consent.Reason("")
	switch {
	case req.TokenProblem != "":
		reason = req.TokenProblem
	case !req.Role.SearchesLedger || req.Requester.Kind != record.Professional || !req.Requester.Organisation.Valid():
		reason = consent.ReasonRole
	case req.Reason == "":
		return a.invalidly("reason: say why the ledger is exported")
	}
	if reason != "" {
		refusal := a.refuse(Forbidden, reason, "L-6")
		a.outcome(string(refusal.Kind))
		return refusal
	}
	by := b.actor(req.ID, req.Face, req.Requester, req.Role, req.Reason)
	if _, err := b.cfg.Ledger.Export(ctx, by, false, write); err != nil {
		a.outcome(string(Transient))
		return &Refusal{Kind: Transient, RetryAfter: time.Second}
	}
	a.outcome("answered")
	return nil
}

// ownPart leaves of an access by another organisation's staff what concerns the officer's own organisation's records: whom else was asked, what the
// decision said of others and what they showed is not theirs to know.
func ownPart(f audit.Found, in audit.Bounds) audit.Found {
	by := record.ODSCode("")
	switch {
	case f.Access != nil:
		by = f.Access.Requester.Organisation
	case f.Actor != nil:
		by = f.Actor.Requester.Organisation
	}
	if in.Everywhere || in.HasStaff(by) {
		return f
	}
	return othersPart(f, in)
}

// othersPart is ownPart of what is known to be another organisation's.
func othersPart(f audit.Found, in audit.Bounds) audit.Found {
	ours := in.Holds
	if f.Access != nil {
		access := *f.Access
		access.Asked = slices.DeleteFunc(slices.Clone(access.Asked), func(k record.CustodianKey) bool { return !ours(k) })
		access.Decision.Custodians = slices.DeleteFunc(slices.Clone(access.Decision.Custodians), func(c consent.CustodianDecision) bool { return !ours(c.Key) })
		f.Access = &access
	}
	if f.Delegation != nil {
		d := *f.Delegation
		d.Custodians = slices.DeleteFunc(slices.Clone(d.Custodians), func(k record.CustodianKey) bool { return !ours(k) })
		f.Delegation = &d
	}
	if f.Disclosure != nil {
		d := audit.Disclosure{} // totals are of the whole answer
		for _, s := range f.Disclosure.Custodians {
			if ours(s.Key) {
				d.Custodians = append(d.Custodians, s)
			}
		}
		f.Disclosure = &d
	}
	return f
}
