package grpcapi

import (
	"context"
	"strings"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// RecordObjection records an objection in force.
func (s *server) RecordObjection(ctx context.Context, in *v1.RecordObjectionRequest) (*v1.RecordObjectionResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.objectionRequest(&p, a, in)
	req.Reason, req.Key = p.freeText("reason", in.GetReason()), p.key(in.GetKey())
	o := p.objection(in)
	if err := p.err(); err != nil {
		return nil, err
	}
	o, r, err := s.cfg.Broker.RecordObjection(ctx, req, o)
	if err != nil {
		return nil, refusal(err)
	}
	return &v1.RecordObjectionResponse{Objection: objection(o), Receipt: receipt(r)}, nil
}

// WithdrawObjection ends one.
func (s *server) WithdrawObjection(ctx context.Context, in *v1.WithdrawObjectionRequest) (*v1.WithdrawObjectionResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.objectionRequest(&p, a, in)
	req.Reason, req.Key = p.freeText("reason", in.GetReason()), p.key(in.GetKey())
	p.id("objection_id", in.GetObjectionId(), wantObjection)
	if err := p.err(); err != nil {
		return nil, err
	}
	o, r, err := s.cfg.Broker.WithdrawObjection(ctx, req, in.GetObjectionId())
	if err != nil {
		return nil, refusal(err)
	}
	return &v1.WithdrawObjectionResponse{Objection: objection(o), Receipt: receipt(r)}, nil
}

// DecideObjection puts one that was requested in force, or declines it.
func (s *server) DecideObjection(ctx context.Context, in *v1.DecideObjectionRequest) (*v1.DecideObjectionResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.objectionRequest(&p, a, in)
	req.Reason, req.Key = p.freeText("reason", in.GetReason()), p.key(in.GetKey())
	p.id("objection_id", in.GetObjectionId(), wantObjection)
	to, ok := objectionStatuses.toOurs(in.GetStatus())
	if !ok || to != consent.InForce && to != consent.Declined {
		p.add("status", "OBJECTION_STATUS_IN_FORCE or _DECLINED")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	o, r, err := s.cfg.Broker.DecideObjection(ctx, req, in.GetObjectionId(), to)
	if err != nil {
		return nil, refusal(err)
	}
	return &v1.DecideObjectionResponse{Objection: objection(o), Receipt: receipt(r)}, nil
}

const wantObjection = "an objection's id, as ShowObjections gives it"

// id reads the id of an objection or a delegation.
func (p *problems) id(field, id, want string) {
	if len(id) < 1 || len(id) > 64 || !plain(id) {
		p.add(field, want)
	}
}

// ShowObjections lists them.
func (s *server) ShowObjections(ctx context.Context, in *v1.ShowObjectionsRequest) (*v1.ShowObjectionsResponse, error) {
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
	list, history, r, err := s.show(ctx, req, in.GetWithHistory())
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.ShowObjectionsResponse{Receipt: receipt(r)}
	adoptions := s.cfg.Broker.Adoptions(ctx, list)
	for i, o := range list {
		shown := objection(o)
		if i < len(adoptions) {
			for _, a := range adoptions[i] {
				shown.Adoptions = append(shown.Adoptions, &v1.Adoption{System: a.System, At: instant(a.At)})
			}
		}
		out.Objections = append(out.Objections, shown)
	}
	for _, o := range history {
		out.History = append(out.History, objection(o))
	}
	return out, nil
}

func (s *server) show(ctx context.Context, req broker.ObjectionRequest, past bool) (list, history []consent.Objection, r audit.Receipt, err error) {
	if past {
		return s.cfg.Broker.ObjectionHistory(ctx, req)
	}
	list, r, err = s.cfg.Broker.ShowObjections(ctx, req)
	return list, nil, r, err
}

// aboutPerson is what the three calls have in common.
type aboutPerson interface {
	GetNhsNumber() string
	GetBirthDate() string
}

func (s *server) objectionRequest(p *problems, a admitted, in aboutPerson) broker.ObjectionRequest {
	asked := p.reconcile(a.caller, authn.Asked{Subject: p.number(in.GetNhsNumber())})
	asked.Subject = p.orOwn(a.caller, asked.Subject, in.GetNhsNumber())
	birthDate := p.birthDate(in.GetBirthDate())
	if birthDate == "" && a.caller.Requester.Kind != record.Person {
		p.add("birth_date", wantBirthDate)
	}
	return broker.ObjectionRequest{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester),
		Subject: asked.Subject, BirthDate: birthDate, Arrived: a.arrived, TokenProblem: a.tokenProblem()}
}

func (p *problems) objection(in *v1.RecordObjectionRequest) consent.Objection {
	o := consent.Objection{Status: consent.InForce, Absolute: in.GetAbsolute(), From: p.time("from", in.GetFrom()).Lo,
		Until: p.time("until", in.GetUntil()).Hi, Responsible: p.freeText("responsible", in.GetResponsible()), Source: p.freeText("source", in.GetSource())}
	if o.Responsible == "" {
		o.Responsible = "self"
	}
	switch in.GetStatus() {
	case v1.ObjectionStatus_OBJECTION_STATUS_UNSPECIFIED, v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE:
	case v1.ObjectionStatus_OBJECTION_STATUS_REQUESTED:
		o.Status = consent.Requested
	default:
		p.add("status", "OBJECTION_STATUS_IN_FORCE, _REQUESTED, or nothing for in force")
	}
	var ok bool
	if o.Method, ok = methods.toOurs(in.GetMethod()); !ok {
		p.add("method", "how the wish was made known: OBJECTION_METHOD_FORM, _PHONE, _IN_PERSON or _ONLINE")
	}
	if o.Scope, ok = scopes.toOurs(in.GetScope()); !ok {
		p.add("scope", "OBJECTION_SCOPE_ALL, _CUSTODIAN or _SECTION")
	}
	if o.Scope == consent.ToCustodian {
		if o.Custodian = record.CustodianKey(in.GetCustodian()); !o.Custodian.Valid() {
			p.add("custodian", "a custodian's key, as ListCustodians gives it")
		}
	} else if in.GetCustodian() != "" {
		p.add("custodian", "only with scope OBJECTION_SCOPE_CUSTODIAN")
	}
	if o.Scope == consent.ToSection {
		if o.Section, ok = parseSection(in.GetSection()); !ok {
			p.add("section", "one of "+record.SectionCodes())
		}
	} else if in.GetSection() != v1.Section_SECTION_UNSPECIFIED {
		p.add("section", "only with scope OBJECTION_SCOPE_SECTION")
	}
	if !o.From.IsZero() && !o.Until.IsZero() && !o.From.Before(o.Until) {
		p.add("until", "after from")
	}
	return o
}

// key reads what makes a change safe to repeat.
func (p *problems) key(s string) string {
	if s != "" && (len(s) != 32 || strings.Trim(s, "0123456789abcdef") != "") {
		p.add("key", "32 lower-case hex digits, or nothing")
		return ""
	}
	return s
}
