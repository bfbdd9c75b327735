package grpcapi

import (
	"context"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// RecordDelegation lets a carer see the caller's own record.
func (s *server) RecordDelegation(ctx context.Context, in *v1.RecordDelegationRequest) (*v1.RecordDelegationResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.objectionRequest(&p, a, ownRecord{})
	req.Key = p.key(in.GetKey())
	d := p.delegation(in)
	if a.caller.Requester.Kind != record.Person { // the broker refuses, and records it; what staff forgot to say is not the point
		p = nil
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	d, r, err := s.cfg.Broker.RecordDelegation(ctx, req, d)
	if err != nil {
		return nil, refusal(err)
	}
	return &v1.RecordDelegationResponse{Delegation: delegation(d), Receipt: receipt(r)}, nil
}

// ownRecord is a request that can be about nobody but the caller.
type ownRecord struct{}

// GetNhsNumber says nobody: the caller.
func (ownRecord) GetNhsNumber() string { return "" }

// GetBirthDate says nothing: persons need none about themselves.
func (ownRecord) GetBirthDate() string { return "" }

// WithdrawDelegation ends one.
func (s *server) WithdrawDelegation(ctx context.Context, in *v1.WithdrawDelegationRequest) (*v1.WithdrawDelegationResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.objectionRequest(&p, a, in)
	req.Reason, req.Key = p.freeText("reason", in.GetReason()), p.key(in.GetKey())
	p.id("delegation_id", in.GetDelegationId(), "a delegation's id, as ShowDelegations gives it")
	if err := p.err(); err != nil {
		return nil, err
	}
	d, r, err := s.cfg.Broker.WithdrawDelegation(ctx, req, in.GetDelegationId())
	if err != nil {
		return nil, refusal(err)
	}
	return &v1.WithdrawDelegationResponse{Delegation: delegation(d), Receipt: receipt(r)}, nil
}

// ShowDelegations lists them.
func (s *server) ShowDelegations(ctx context.Context, in *v1.ShowDelegationsRequest) (*v1.ShowDelegationsResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.objectionRequest(&p, a, in)
	req.Reason = p.freeText("reason", in.GetReason())
	if err := p.err(); err != nil {
		return nil, err
	}
	list, r, err := s.cfg.Broker.ShowDelegations(ctx, req)
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.ShowDelegationsResponse{Receipt: receipt(r)}
	for _, d := range list {
		out.Delegations = append(out.Delegations, delegation(d))
	}
	return out, nil
}

func (p *problems) delegation(in *v1.RecordDelegationRequest) consent.Delegation {
	d := consent.Delegation{Carer: p.carer(in.GetCarerNhsNumber()), Name: p.freeText("name", in.GetName()), From: p.time("from", in.GetFrom()).Lo,
		Until: p.time("until", in.GetUntil()).Hi}
	for _, s := range in.GetSections() {
		section, ok := parseSection(s)
		if !ok || d.Sections.Has(section) {
			p.add("sections", "each once, of "+record.SectionCodes())
			break
		}
		d.Sections = d.Sections.With(section)
	}
	if len(in.GetSections()) == 0 {
		p.add("sections", "what may be seen: at least one")
	}
	if len(in.GetCustodians()) > 64 {
		p.add("custodians", "at most 64, or none for all")
		return d
	}
	for _, k := range in.GetCustodians() {
		key := record.CustodianKey(k)
		if !key.Valid() {
			p.add("custodians", "custodians' keys, as ListCustodians gives them, or none for all")
			break
		}
		d.Custodians = append(d.Custodians, key)
	}
	switch {
	case in.GetUntil() == "":
		p.add("until", "a delegation ends: say when")
	case !d.From.IsZero() && !d.Until.IsZero() && (!d.From.Before(d.Until) || d.Until.Sub(d.From) > consent.MaxDelegation):
		p.add("until", "after from, and at most 366 days after it")
	}
	return d
}

func (p *problems) carer(s string) record.NHSNumber {
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		p.add("carer_nhs_number", wantNumber)
	}
	return n
}

func delegation(d consent.Delegation) *v1.Delegation {
	out := &v1.Delegation{Id: d.ID, CarerNhsNumber: d.Carer.Reveal(), Name: d.Name, Sections: sections(d.Sections), Status: objectionStatuses.toWire(d.Status),
		From: instant(d.From), Until: instant(d.Until), Recorded: instant(d.Recorded), Position: d.Position}
	for _, k := range d.Custodians {
		out.Custodians = append(out.Custodians, string(k))
	}
	return out
}
