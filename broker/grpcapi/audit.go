package grpcapi

import (
	"context"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// SearchAccesses answers what the ledger knows, a page at a time.
func (s *server) SearchAccesses(ctx context.Context, in *v1.SearchAccessesRequest) (*v1.SearchAccessesResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	q := p.search(in, a)
	req := broker.SearchRequest{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester),
		Reason: p.freeText("reason", in.GetReason()), Query: q, Arrived: a.arrived, TokenProblem: a.tokenProblem()}
	if err := p.err(); err != nil {
		return nil, err
	}
	found, more, r, err := s.cfg.Broker.SearchAccesses(ctx, req)
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.SearchAccessesResponse{More: more, Receipt: receipt(r)}
	size := 0
	for _, f := range found {
		e := ledgerEntry(f)
		if size += proto.Size(e); size > maxFound && len(out.Entries) > 0 {
			out.More = true // the rest is on the next page
			break
		}
		out.Entries = append(out.Entries, e)
	}
	if n := len(out.Entries); out.More && n > 0 {
		out.NextBefore = out.Entries[n-1].GetPosition()
	}
	return out, nil
}

func (p *problems) search(in *v1.SearchAccessesRequest, a admitted) audit.Search {
	q := audit.Search{User: in.GetUser(), Organisation: record.ODSCode(in.GetOrganisation()), From: p.time("from", in.GetFrom()).Lo,
		Until: p.time("until", in.GetUntil()).Hi, Limit: int(in.GetLimit()), Before: in.GetBefore(), Archive: p.archive(in.GetArchive())}
	if in.GetNhsNumber() != "" { // a token that states a person does not narrow the search by itself, but may not be contradicted
		q.Subjects = []record.NHSNumber{p.reconcile(a.caller, authn.Asked{Subject: p.number(in.GetNhsNumber())}).Subject}
	}
	if own := a.caller.Requester.Own; in.GetNhsNumber() == "" && !own.IsZero() { // a person sees accesses to their own record
		q.Subjects = []record.NHSNumber{own}
	}
	if len(q.User) > 64 || !plain(q.User) {
		p.add("user", wantUser)
	}
	if q.Organisation != "" && !q.Organisation.Valid() {
		p.add("organisation", "an ODS code: 3 to 10 upper-case letters and digits")
	}
	if !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until) {
		p.add("until", wantOrder)
	}
	if q.Limit < 0 || q.Limit > 1000 {
		p.add("limit", "1 to 1,000, or 0 for 100")
	}
	if q.Before > math.MaxInt64 {
		p.add("before", "next_before of the page before, or 0")
	}
	for _, t := range in.GetTypes() {
		if _, known := v1.EntryType_name[int32(t)]; !known || t == 0 || len(in.GetTypes()) > len(v1.EntryType_name) {
			p.add("types", "types of entry that the interface lists, each once")
			break
		}
		q.Types = append(q.Types, audit.EntryType(t))
	}
	return q
}

// archive reads the name of one. Whether it is there the ledger says.
func (p *problems) archive(name string) string {
	if len(name) > 100 {
		p.add("archive", "the name of a file in the broker's folder of archives")
		return ""
	}
	return name
}

func ledgerEntry(f audit.Found) *v1.LedgerEntry {
	out := &v1.LedgerEntry{Position: f.Position, Type: v1.EntryType(f.Type), At: instant(f.At), Leaf: f.Leaf[:], Opens: f.Opens,
		NhsNumber: f.Subject.Reveal(), Reason: f.Reason, Count: count(f.Count)}
	if x := f.Access; x != nil {
		out.Access = &v1.Access{RequestId: x.RequestID, Face: x.Face, Operation: x.Operation, Requester: requester(x.Requester), RoleName: x.RoleName,
			Purpose: purposes.toWire(x.Purpose), Permission: permission(x.Permission), Relationship: relationship(x.Relationship),
			BreakGlassReason: x.BreakGlassReason, Filter: x.Filter, Decision: string(x.Decision.Reason), Rule: x.Decision.Rule}
		if x.Reason != "" { // of a refusal: why in the end
			out.Access.Decision, out.Access.Rule = string(x.Reason), x.Rule
		}
		for _, k := range x.Asked {
			out.Access.Asked = append(out.Access.Asked, string(k))
		}
	}
	if x := f.Disclosure; x != nil {
		out.Disclosure = &v1.Disclosure{Total: count(x.Total)}
		for _, c := range x.Custodians {
			out.Disclosure.Custodians = append(out.Disclosure.Custodians, &v1.DisclosedPart{Custodian: string(c.Key), State: states.toWire(c.State),
				Reason: c.Reason, Parts: missingParts(c.Parts), Sections: sections(c.Sections), Count: count(c.Count)})
		}
	}
	if f.Objection != nil {
		out.Objection = objection(*f.Objection)
	}
	if f.Delegation != nil {
		out.Delegation = delegation(*f.Delegation)
	}
	out.Note, out.Expires, out.Explanation = f.Note, instant(f.Expires), f.Explain()
	if x := f.Actor; x != nil {
		out.Actor = &v1.Actor{Requester: requester(x.Requester), RoleName: x.RoleName, RequestId: x.RequestID, Face: x.Face, Reason: x.Reason}
	}
	return out
}

func requester(r record.Requester) *v1.Requester {
	return &v1.Requester{Kind: string(r.Kind), User: r.User, Name: r.Name, RoleProfile: r.RoleProfile, JobRole: r.JobRole,
		Organisation: string(r.Organisation), Client: r.Client, Issuer: r.Issuer}
}
