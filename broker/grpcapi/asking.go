package grpcapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// Ask answers a question of the list, a page at a time.
func (s *server) Ask(ctx context.Context, in *v1.AskRequest) (*v1.AskResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.ledgerQuestion(&p, in, a)
	if err := p.err(); err != nil {
		return nil, err
	}
	answer, err := s.cfg.Broker.AskLedger(ctx, req)
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.AskResponse{NextPageToken: answer.Next, Receipt: receipt(answer.Receipt), Followed: followed(answer.Followed),
		PersonSeesNames: s.cfg.Policy.Role(record.Requester{Kind: record.Person}).SeesStaffNames}
	for _, row := range answer.Rows {
		out.Rows = append(out.Rows, answerRow(row))
	}
	// A row is a few hundred bytes; the largest have the states of some dozen custodians. What does not fit into a message is asked for in smaller pages.
	if proto.Size(out) > maxFound {
		var p problems
		p.add("limit", "fewer: this page is too large for one message")
		return nil, p.err()
	}
	return out, nil
}

// Total counts what answers one.
func (s *server) Total(ctx context.Context, in *v1.TotalRequest) (*v1.TotalResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := s.ledgerQuestion(&p, in.GetOf(), a)
	if err := p.err(); err != nil {
		return nil, err
	}
	t := totals{}
	next, of, r, err := s.cfg.Broker.CountLedger(ctx, req, t.count)
	if err != nil {
		return nil, refusal(err)
	}
	out := t.response()
	out.NextPageToken, out.Receipt, out.Followed = next, receipt(r), followed(of)
	return out, nil
}

// ledgerQuestion reads a question.
func (s *server) ledgerQuestion(p *problems, in *v1.AskRequest, a admitted) broker.LedgerQuestion {
	req := broker.LedgerQuestion{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester), Page: in.GetPageToken(),
		Arrived: a.arrived, TokenProblem: a.tokenProblem()}
	if in.GetLimit() < 0 || in.GetLimit() > 1000 {
		p.add("limit", "1 to 1,000, or 0 for 100")
	}
	req.Question.Limit = int(in.GetLimit())
	if req.Page != "" {
		bare := &v1.AskRequest{Limit: in.GetLimit(), PageToken: in.GetPageToken()}
		if !proto.Equal(bare, in) {
			p.add("page_token", "it holds the question: beside it only limit is read, leave the rest empty")
		}
		return req
	}
	req.Reason = p.freeText("reason", in.GetReason())
	q := &req.Question
	kind, ok := questions.toOurs(in.GetQuestion())
	if !ok {
		p.add("question", "one of the questions that the interface lists, such as QUESTION_WHO_LOOKED")
		return req
	}
	q.Kind, q.User, q.Organisation, q.Holder = kind, in.GetUser(), record.ODSCode(in.GetOrganisation()), record.ODSCode(in.GetHolder())
	q.From, q.Until = p.time("from", in.GetFrom()).Lo, p.time("until", in.GetUntil()).Hi
	q.Archive = p.archive(in.GetArchive())
	if in.GetNhsNumber() != "" { // a token that states a person does not narrow a question by itself, but may not be contradicted
		if n := p.reconcile(a.caller, authn.Asked{Subject: p.number(in.GetNhsNumber())}).Subject; !n.IsZero() {
			q.Subjects = []record.NHSNumber{n}
		}
	}
	if len(q.User) > 64 || !plain(q.User) {
		p.add("user", wantUser)
	}
	for field, code := range map[string]record.ODSCode{"organisation": q.Organisation, "holder": q.Holder} {
		if code != "" && !code.Valid() {
			p.add(field, "an ODS code: 3 to 10 upper-case letters and digits")
		}
	}
	if !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until) {
		p.add("until", wantOrder)
	}
	if !kind.OfAccesses() && len(in.GetOutcomes())+len(in.GetPurposes()) > 0 {
		p.add("question", "outcomes and purposes go with questions about accesses")
	}
	for _, w := range in.GetOutcomes() {
		o, ok := outcomes[w]
		if !ok || slices.Contains(q.Outcomes, o) {
			p.add("outcomes", "outcomes that the interface lists, each once")
			break
		}
		q.Outcomes = append(q.Outcomes, o)
	}
	for _, w := range in.GetPurposes() {
		o, ok := purposes.toOurs(w)
		if !ok || slices.Contains(q.Purposes, o) {
			p.add("purposes", "purposes that the interface lists, each once")
			break
		}
		q.Purposes = append(q.Purposes, o)
	}
	return req
}

func followed(f broker.Followed) *v1.Followed {
	if !f.Named {
		return nil
	}
	return &v1.Followed{Answered: f.Answered, Superseded: uint32(len(f.Superseded))}
}

func outcomeOf(t audit.EntryType) v1.AccessOutcome {
	for w, o := range outcomes {
		if o == t {
			return w
		}
	}
	return v1.AccessOutcome_ACCESS_OUTCOME_UNSPECIFIED
}

func answerRow(row audit.Row) *v1.AnswerRow {
	out := &v1.AnswerRow{Entry: ledgerEntry(row.Found), Outcome: outcomeOf(row.Outcome), Began: instant(row.Began), Alert: string(row.Alert), Asked: row.Asked}
	if row.Access != nil && !row.Access.AsksRecord() {
		out.Asked = row.Access.Operation
	}
	if row.Review != nil {
		out.Review = ledgerEntry(*row.Review)
	}
	return out
}

// ShowView returns one access with all that was shown.
func (s *server) ShowView(ctx context.Context, in *v1.ShowViewRequest) (*v1.ShowViewResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	p.position("position", in.GetPosition())
	req := broker.LedgerQuestion{ID: a.requestID, Face: "grpc", Requester: a.caller.Requester, Role: s.cfg.Policy.Role(a.caller.Requester),
		Reason: p.freeText("reason", in.GetReason()), Arrived: a.arrived, TokenProblem: a.tokenProblem()}
	if err := p.err(); err != nil {
		return nil, err
	}
	row, list, r, err := s.cfg.Broker.ShowView(ctx, req, in.GetPosition())
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.ShowViewResponse{View: answerRow(row), Receipt: receipt(r)}
	for _, f := range list {
		out.Entries = append(out.Entries, ledgerEntry(f))
	}
	if row.Disclosure != nil {
		for _, c := range row.Disclosure.Custodians {
			if len(c.Digests) > 0 {
				out.Manifests = append(out.Manifests, &v1.Manifest{Custodian: string(c.Key), Digests: hashes(c.Digests)})
			}
		}
	}
	return out, nil
}

// ForeseeView says what somebody would be shown.
func (s *server) ForeseeView(ctx context.Context, in *v1.ForeseeViewRequest) (*v1.ForeseeViewResponse, error) {
	a, err := who(ctx)
	if err != nil {
		return nil, err
	}
	var p problems
	req := broker.ForeseeRequest{ObjectionRequest: s.objectionRequest(&p, a, in)}
	req.Reason = p.freeText("reason", in.GetReason())
	req.As = record.Requester{Kind: record.Professional, JobRole: in.GetJobRole(), Organisation: record.ODSCode(in.GetOrganisation())}
	req.Purpose, req.Permission = record.Treatment, record.Permission{Kind: record.AskedYes}
	if in.GetJobRole() == "" && in.GetOrganisation() == "" {
		req.As = record.Requester{Kind: record.Person, Own: req.Subject}
		req.Purpose, req.Permission = record.PatientAccess, record.Permission{Kind: record.PatientSelf}
	} else if in.GetJobRole() == "" || len(in.GetJobRole()) > 64 || !plain(in.GetJobRole()) || !req.As.Organisation.Valid() {
		p.add("job_role", "a job role code and the ODS code of an organisation, or neither for the person themselves")
	}
	if in.GetPurpose() != 0 {
		req.Purpose = p.purpose(in.GetPurpose())
	}
	if in.GetPermission() != nil {
		req.Permission = p.permission(in.GetPermission())
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	req.AsRole = s.cfg.Policy.Role(req.As)
	d, r, err := s.cfg.Broker.ForeseeView(ctx, req)
	if err != nil {
		return nil, refusal(err)
	}
	out := &v1.ForeseeViewResponse{Permitted: d.Outcome == consent.Permitted, Decision: string(d.Reason), Rule: d.Rule, Explanation: d.Explain().Text,
		Preferences: d.Position, Receipt: receipt(r)}
	for _, c := range d.Custodians {
		for _, part := range c.Parts {
			out.Parts = append(out.Parts, &v1.ForeseenPart{Custodian: string(c.Key), Sections: sections(part.Sections), Shown: part.Allowed,
				Reason: string(part.Reason), Rule: part.Rule})
		}
	}
	return out, nil
}

// totals counts rows. What it holds is bounded by what there is of each kind; users by maxUsers.
type totals struct {
	rows, others                                        uint64
	days, users, orgs, sections, held, ends, purposesOf counts
}

type counts map[string]*v1.Total

func (c *counts) add(key, name string) {
	if key == "" {
		return
	}
	if *c == nil {
		*c = counts{}
	}
	t := (*c)[key]
	if t == nil {
		t = &v1.Total{Key: key}
		(*c)[key] = t
	}
	if t.Count++; t.Name == "" {
		t.Name = name
	}
}

// maxUsers is how many users are counted apart in one part of the totals, maxListed how many of them are listed.
const (
	maxUsers  = 50_000
	maxListed = 1_000
)

func (t *totals) count(row audit.Row) {
	t.rows++
	at := row.At
	if !row.Began.IsZero() {
		at = row.Began
	}
	t.days.add(at.In(record.London).Format(time.DateOnly), "")
	var by record.Requester
	switch {
	case row.Access != nil:
		by = row.Access.Requester
		t.purposesOf.add(string(row.Access.Purpose), "")
	case row.Actor != nil:
		by = row.Actor.Requester
	}
	if _, known := t.users[by.User]; known || len(t.users) < maxUsers {
		t.users.add(by.User, by.Name)
	} else if by.User != "" {
		t.others++
	}
	t.orgs.add(string(by.Organisation), "")
	if row.Outcome != 0 {
		t.ends.add(codeOfOutcome(row.Outcome), "")
	}
	if row.Disclosure == nil {
		return
	}
	for _, c := range row.Disclosure.Custodians {
		if c.Count > 0 {
			t.held.add(string(c.Key), "")
			for _, s := range c.Sections.List() {
				t.sections.add(s.Code(), "")
			}
		}
	}
}

// codeOfOutcome is the word for an outcome: that of its entry, but for a release, which is what somebody was shown.
func codeOfOutcome(t audit.EntryType) string {
	if t == audit.TypeReleased {
		return "shown"
	}
	return t.String()
}

func (t *totals) response() *v1.TotalResponse {
	out := &v1.TotalResponse{Rows: t.rows, Days: t.days.byKey(), Users: t.users.byCount(), Organisations: t.orgs.byCount(), Sections: t.sections.byCount(),
		Custodians: t.held.byCount(), Outcomes: t.ends.byCount(), Purposes: t.purposesOf.byCount(), OtherUsers: t.others}
	if len(out.Users) > maxListed {
		for _, u := range out.Users[maxListed:] {
			out.OtherUsers += u.Count
		}
		out.Users = out.Users[:maxListed]
	}
	return out
}

func (c counts) list(order func(a, b *v1.Total) int) []*v1.Total {
	var out []*v1.Total
	for _, t := range c {
		out = append(out, t)
	}
	slices.SortFunc(out, order)
	return out
}

func (c counts) byKey() []*v1.Total {
	return c.list(func(a, b *v1.Total) int { return cmp.Compare(a.Key, b.Key) })
}

func (c counts) byCount() []*v1.Total {
	return c.list(func(a, b *v1.Total) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Key, b.Key)) })
}
