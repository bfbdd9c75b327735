package grpcapi

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// accessRow is an access as the broker answers with it.
func accessRow(position uint64, user string, at time.Time, sections ...record.Section) audit.Row {
	row := audit.Row{Outcome: audit.TypeReleased, Began: at}
	row.Position, row.Type, row.At, row.Opens = position, audit.TypeReleased, at, position-1
	row.Access = &audit.Access{Requester: record.Requester{Kind: record.Professional, User: user, Name: "Dr " + user, Organisation: "X9B01"}, Purpose: record.Treatment}
	var set record.Sections
	for _, s := range sections {
		set = set.With(s)
	}
	row.Disclosure = &audit.Disclosure{Total: 1, Custodians: []audit.Shown{{Key: "gp", State: record.Returned, Sections: set, Count: 1, Digests: [][32]byte{{1}}}, {Key: "acute", State: record.NoRecord}}}
	return row
}

func TestAsk(t *testing.T) {
	w := newWorld(t, func(*Config) {})
	at := time.Date(2026, 6, 30, 23, 30, 0, 0, time.UTC) // in London the first of July
	w.broker.answers = broker.LedgerAnswer{Rows: []audit.Row{accessRow(9, "u1", at, record.Medications), accessRow(7, "u1", at.Add(-time.Hour), record.Medications, record.Results),
		accessRow(5, "u2", at)}, Next: "sealed", Followed: broker.Followed{Named: true, Answered: true, Superseded: []record.NHSNumber{mustNumber(t, "9990000069")}}}
	in := &v1.AskRequest{Question: v1.Question_QUESTION_BY_STAFF, NhsNumber: number, User: "u", Organisation: "X9B01", Holder: "X9A01", From: "2026-01", Until: "2026-02", Reason: "why",
		Archive: "epoch-2.mcra", Limit: 3, Outcomes: []v1.AccessOutcome{v1.AccessOutcome_ACCESS_OUTCOME_SHOWN}, Purposes: []v1.Purpose{v1.Purpose_PURPOSE_BTG}}
	out, err := w.audit.Ask(as(t, "doctor"), in)
	if err != nil {
		t.Fatal(err)
	}
	q := w.broker.last.(broker.LedgerQuestion)
	if q.Question.Archive != "epoch-2.mcra" || q.Reason != "why" || q.Page != "" || q.Question.Kind != audit.ByStaff || q.Question.User != "u" || q.Question.Organisation != "X9B01" || q.Question.Holder != "X9A01" || q.Question.Limit != 3 ||
		len(q.Question.Subjects) != 1 || !slices.Equal(q.Question.Outcomes, []audit.EntryType{audit.TypeReleased}) || !slices.Equal(q.Question.Purposes, []record.Purpose{record.BreakGlass}) ||
		q.Question.From != time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) || q.Question.Until != time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) || q.Question.Within != nil {
		t.Errorf("the broker was asked something else: %+v", q.Question)
	}
	if len(out.GetRows()) != 3 || out.GetNextPageToken() != "sealed" || !out.GetFollowed().GetAnswered() || out.GetFollowed().GetSuperseded() != 1 || strings.Contains(out.String(), "9990000069") || out.GetRows()[0].GetOutcome() != v1.AccessOutcome_ACCESS_OUTCOME_SHOWN ||
		out.GetRows()[0].GetEntry().GetAccess().GetRequester().GetUser() != "u1" || !out.GetRows()[0].GetBegan().AsTime().Equal(at) {
		t.Errorf("another answer: %v", out)
	}
	if _, err := w.audit.Ask(as(t, "doctor"), &v1.AskRequest{PageToken: "sealed", Limit: 5}); err != nil || w.broker.last.(broker.LedgerQuestion).Page != "sealed" {
		t.Errorf("the next page: %v", err)
	}
	total, err := w.audit.Total(as(t, "doctor"), &v1.TotalRequest{Of: in})
	if err != nil {
		t.Fatal(err)
	}
	count := func(list []*v1.Total, key string) uint64 {
		for _, x := range list {
			if x.GetKey() == key {
				return x.GetCount()
			}
		}
		return 0
	}
	if total.GetRows() != 3 || count(total.GetDays(), "2026-07-01") != 2 || count(total.GetDays(), "2026-06-30") != 1 || count(total.GetUsers(), "u1") != 2 || count(total.GetOrganisations(), "X9B01") != 3 ||
		count(total.GetSections(), "medications") != 2 || count(total.GetSections(), "results") != 1 || count(total.GetCustodians(), "gp") != 3 || count(total.GetCustodians(), "acute") != 0 ||
		count(total.GetOutcomes(), "shown") != 3 || count(total.GetPurposes(), "TREAT") != 3 || total.GetUsers()[0].GetName() != "Dr u1" {
		t.Errorf("other totals: %v", total)
	}
	for name, bad := range map[string]*v1.AskRequest{
		"no question":            {NhsNumber: number},
		"a limit above":          {Question: v1.Question_QUESTION_REFUSALS, Limit: 1001},
		"no number":              {Question: v1.Question_QUESTION_WHO_LOOKED, NhsNumber: "12"},
		"no organisation":        {Question: v1.Question_QUESTION_BY_STAFF, Organisation: "x"},
		"time backwards":         {Question: v1.Question_QUESTION_REFUSALS, From: "2026", Until: "2025"},
		"an outcome twice":       {Question: v1.Question_QUESTION_REFUSALS, Outcomes: []v1.AccessOutcome{3, 3}},
		"an outcome of none":     {Question: v1.Question_QUESTION_REFUSALS, Outcomes: []v1.AccessOutcome{0}},
		"a purpose of no access": {Question: v1.Question_QUESTION_LEDGER_READS, Purposes: []v1.Purpose{1}},
		"a name without end":     {Question: v1.Question_QUESTION_REFUSALS, Archive: strings.Repeat("a", 101)},
		"more than the token":    {Question: v1.Question_QUESTION_REFUSALS, PageToken: "sealed"},
	} {
		calls := w.broker.calls
		if _, err := w.audit.Ask(as(t, "doctor"), bad); status.Code(err) != codes.InvalidArgument || w.broker.calls != calls {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of a question that was refused the answer says which call it was; and whether the person may see names, which is for the policy to say and not for who asks.
func TestWhatAnAnswerSaysBeside(t *testing.T) {
	at := time.Date(2026, 6, 30, 23, 30, 0, 0, time.UTC)
	for text, names := range map[string]bool{"role R8024 ig\nmay R8024 search-ledger\nrole person person\nmay person search-ledger\n": false, "role R8024 ig\nmay R8024 search-ledger\nrole person person\nmay person search-ledger,see-staff-names\n": true} {
		table, err := policy.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, func(c *Config) { c.Policy = table })
		for operation, asked := range map[string]string{"Ask": "Ask", "unread ShowView": "unread ShowView", "WithdrawObjection": "WithdrawObjection", "GetRecord": "", "unread GetRecord": "", "everything": "", "document": "", "": ""} {
			row := accessRow(9, "u1", at)
			row.Access.Operation = operation
			w.broker.answers = broker.LedgerAnswer{Rows: []audit.Row{row}}
			out, err := w.audit.Ask(as(t, "doctor"), &v1.AskRequest{Question: v1.Question_QUESTION_REFUSALS, Reason: "why"})
			if err != nil || out.GetPersonSeesNames() != names || out.GetRows()[0].GetAsked() != asked {
				t.Errorf("%q: names %t, asked %q: %v", operation, out.GetPersonSeesNames(), out.GetRows()[0].GetAsked(), err)
			}
		}
	}
}

func TestShowAndForeseeView(t *testing.T) {
	w := newWorld(t, func(*Config) {})
	w.broker.answers.Rows = []audit.Row{accessRow(9, "u1", time.Now(), record.Medications)}
	w.broker.found = []audit.Found{{Position: 8, Type: audit.TypeBegin, Access: w.broker.answers.Rows[0].Access}, {Position: 9, Type: audit.TypeReleased}}
	out, err := w.audit.ShowView(as(t, "doctor"), &v1.ShowViewRequest{Position: 9, Reason: "why"})
	if err != nil || len(out.GetEntries()) != 2 || len(out.GetManifests()) != 1 || out.GetManifests()[0].GetCustodian() != "gp" || len(out.GetManifests()[0].GetDigests()[0]) != 32 {
		t.Errorf("%v: %v", err, out)
	}
	if _, err := w.audit.ShowView(as(t, "doctor"), &v1.ShowViewRequest{Position: 1 << 63}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a position that is none: %v", err)
	}
	w.broker.foreseen = consent.Decision{Outcome: consent.Permitted, Reason: consent.ReasonPermitted, Rule: "C-2.10", Position: 4,
		Custodians: []consent.CustodianDecision{{Key: "gp", Parts: []consent.Part{{Sections: record.AllSections, Allowed: true, Reason: consent.ReasonPermitted, Rule: "C-2.10"}}}}}
	seen, err := w.audit.ForeseeView(as(t, "doctor"), &v1.ForeseeViewRequest{NhsNumber: number, BirthDate: "1950-02-03", JobRole: "R8000", Organisation: "X9B01", Reason: "why"})
	req := w.broker.last.(broker.ForeseeRequest)
	if err != nil || !seen.GetPermitted() || len(seen.GetParts()) != 1 || len(seen.GetParts()[0].GetSections()) != record.AllSections.Len() || seen.GetPreferences() != 4 ||
		req.As.JobRole != "R8000" || req.As.Organisation != "X9B01" || req.Purpose != record.Treatment || req.Permission.Kind != record.AskedYes {
		t.Errorf("%v: %v", err, seen)
	}
	if _, err = w.audit.ForeseeView(as(t, "doctor"), &v1.ForeseeViewRequest{NhsNumber: number, BirthDate: "1950-02-03"}); err != nil {
		t.Error(err)
	} else if req := w.broker.last.(broker.ForeseeRequest); req.As.Kind != record.Person || req.As.Own != req.Subject || req.Purpose != record.PatientAccess {
		t.Error("without a role it is not the person's own view")
	}
	if _, err = w.audit.ForeseeView(as(t, "doctor"), &v1.ForeseeViewRequest{NhsNumber: number, BirthDate: "1950-02-03", JobRole: "R8000"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a role without an organisation: %v", err)
	}
}
