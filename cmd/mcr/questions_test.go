package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

func (f *fakeBroker) Ask(ctx context.Context, in *v1.AskRequest) (*v1.AskResponse, error) {
	if err := f.keep(ctx, in); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if in.GetPageToken() != "" {
		return f.answers[v1.Question(len(in.GetPageToken()))][1], nil
	}
	if pages := f.answers[in.GetQuestion()]; len(pages) > 0 {
		return pages[0], nil
	}
	return &v1.AskResponse{Receipt: receipt()}, nil
}

func (f *fakeBroker) Total(ctx context.Context, in *v1.TotalRequest) (*v1.TotalResponse, error) {
	part := &v1.TotalResponse{Rows: 3, Days: []*v1.Total{{Key: "2026-11-02", Count: 3}}, Users: []*v1.Total{{Key: "u1", Name: "Dr One", Count: 1}, {Key: "u2", Name: "Dr Two", Count: 2}}, Receipt: receipt()}
	if in.GetOf().GetPageToken() == "" {
		part.NextPageToken = "more"
	}
	return part, f.keep(ctx, in)
}

func (f *fakeBroker) GetCheckpoint(context.Context, *v1.GetCheckpointRequest) (*v1.GetCheckpointResponse, error) {
	return &v1.GetCheckpointResponse{Checkpoint: &v1.Checkpoint{Size: 900, Note: []byte("record.example/ledger\n900\n")}}, nil
}

func looked(position uint64, org, role string, outcome v1.AccessOutcome, parts ...*v1.DisclosedPart) *v1.AnswerRow {
	at := timestamppb.New(time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC))
	return &v1.AnswerRow{Outcome: outcome, Began: at, Entry: &v1.LedgerEntry{Position: position, At: at, Type: v1.EntryType_ENTRY_TYPE_RELEASED, NhsNumber: eleanor, Leaf: []byte{0xab, 0xcd},
		Access: &v1.Access{Requester: &v1.Requester{Kind: "professional", User: "555", Name: "Dr\x1b[2J Zqname", Organisation: org}, RoleName: role, Purpose: v1.Purpose_PURPOSE_TREAT,
			Permission: &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_ASKED_YES}}, Disclosure: &v1.Disclosure{Custodians: parts}}}
}

func gave(key string, count int32, sections ...v1.Section) *v1.DisclosedPart {
	return &v1.DisclosedPart{Custodian: key, State: v1.CustodianState_CUSTODIAN_STATE_RETURNED, Count: count, Sections: sections}
}

// told are answers for each question; the mental-health trust has a neutral name.
func told(f *fakeBroker) {
	mental := custodian("mentalhealth", "Larkfield Mental Health Trust", "mental-health", "")
	mental.NeutralName = "A health service"
	f.health = []*v1.CustodianHealth{{Custodian: custodian("gp", "Rivermead Surgery", "gp", "")}, {Custodian: mental}}
	glass := looked(7, "X9M01", "mh-nurse", v1.AccessOutcome_ACCESS_OUTCOME_SHOWN, gave("gp", 1, v1.Section_SECTION_MENTAL_HEALTH, v1.Section_SECTION_HISTORY), gave("mentalhealth", 4, v1.Section_SECTION_MENTAL_HEALTH))
	glass.Entry.Access.Purpose, glass.Entry.Access.BreakGlassReason = v1.Purpose_PURPOSE_BTG, "sectioned under the zqact"
	alerted := looked(5, "X9M01", "mh-nurse", v1.AccessOutcome_ACCESS_OUTCOME_SHOWN)
	alerted.Alert, alerted.Review = "break-glass", &v1.LedgerEntry{Reason: "justified", Note: "ward zqnote", Explanation: "An officer looked into this emergency access and found that there was good reason for it."}
	carer := looked(6, "", "person", v1.AccessOutcome_ACCESS_OUTCOME_SHOWN, gave("gp", 2, v1.Section_SECTION_MEDICATIONS))
	carer.Entry.Access.Requester = &v1.Requester{Kind: "person"}
	carer.Entry.Access.Permission.Kind = v1.PermissionKind_PERMISSION_KIND_DELEGATED
	question := looked(4, "X9G01", "ig-officer", v1.AccessOutcome_ACCESS_OUTCOME_REFUSED) // without a reason
	question.Asked, question.Entry.Access.Operation, question.Entry.Access.Purpose = "Ask", "Ask", 0
	question.Entry.Access.Requester = &v1.Requester{Kind: "person"}
	question.Entry.Explanation = "Another person asked who had looked at your record."
	f.answers = map[v1.Question][]*v1.AskResponse{
		v1.Question_QUESTION_WHO_LOOKED: {
			{Rows: []*v1.AnswerRow{looked(9, "X9G01", "general-practitioner", v1.AccessOutcome_ACCESS_OUTCOME_SHOWN, gave("gp", 3, v1.Section_SECTION_RESULTS)), glass, carer},
				NextPageToken: strings.Repeat("t", int(v1.Question_QUESTION_WHO_LOOKED)), Receipt: receipt(), Followed: &v1.Followed{Answered: true, Superseded: 1}},
			{Rows: []*v1.AnswerRow{looked(3, "X9Z01", "none", v1.AccessOutcome_ACCESS_OUTCOME_REFUSED), question}, Receipt: receipt()}},
		v1.Question_QUESTION_BREAK_GLASS: {{Rows: []*v1.AnswerRow{alerted}, Receipt: receipt()}},
		v1.Question_QUESTION_CONSENT_CHANGES: {{Receipt: receipt(), Rows: []*v1.AnswerRow{
			{Entry: &v1.LedgerEntry{Position: 2, Objection: &v1.Objection{Scope: v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, Custodian: "mentalhealth"}, Explanation: "This objection holds from here on.",
				Actor: &v1.Actor{Requester: &v1.Requester{Kind: "professional", Organisation: "X9G01", Name: "Zqdesk"}, RoleName: "front-desk"}}},
			{Entry: &v1.LedgerEntry{Position: 1, Objection: &v1.Objection{Scope: v1.ObjectionScope_OBJECTION_SCOPE_SECTION, Section: v1.Section_SECTION_MENTAL_HEALTH}, Explanation: "This objection holds from here on.",
				Actor: &v1.Actor{Requester: &v1.Requester{Kind: "person"}}}}}}},
		v1.Question_QUESTION_LEDGER_READS: {{Receipt: receipt(), Rows: []*v1.AnswerRow{{Asked: "who-looked", Entry: &v1.LedgerEntry{Position: 8,
			Actor: &v1.Actor{Requester: &v1.Requester{Kind: "professional", Organisation: "X9M01", Name: "Zqofficer"}, RoleName: "mental-health-officer"}}}}}},
	}
}

func TestAuditQuestions(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	told(d.broker)
	code, out, _ := d.do(t, "audit", "who", eleanor, "-reason", "an inquiry", "-all")
	if code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	golden(t, "questions.golden", out)
	if strings.Contains(out, "\x1b") {
		t.Error("what a token says reaches the terminal as it is")
	}
	for _, c := range []struct {
		args []string
		code int
		want *v1.AskRequest
	}{
		{[]string{"audit", "user", "555", "-purpose", "BTG,TREAT", "-outcome", "refused", "-reason", "r"}, exitDone, &v1.AskRequest{Question: v1.Question_QUESTION_BY_USER, User: "555", Reason: "r", Limit: 100,
			Purposes: []v1.Purpose{v1.Purpose_PURPOSE_BTG, v1.Purpose_PURPOSE_TREAT}, Outcomes: []v1.AccessOutcome{v1.AccessOutcome_ACCESS_OUTCOME_REFUSED}}},
		{[]string{"audit", "staff", "X9B01", "-from", "2026-11", "-limit", "7"}, exitDone, &v1.AskRequest{Question: v1.Question_QUESTION_BY_STAFF, Organisation: "X9B01", From: "2026-11", Limit: 7}},
		{[]string{"audit", "records", "X9B01", "-person", eleanor}, exitDone, &v1.AskRequest{Question: v1.Question_QUESTION_OF_RECORDS, Holder: "X9B01", NhsNumber: eleanor, Limit: 100}},
		{[]string{"audit", "refusals", "-user", "555"}, exitDone, &v1.AskRequest{Question: v1.Question_QUESTION_REFUSALS, User: "555", Limit: 100}},
		{[]string{"audit", "glass", "-archive", "epoch-2.mcra", "-reason", "r"}, exitDone, &v1.AskRequest{Question: v1.Question_QUESTION_BREAK_GLASS, Archive: "epoch-2.mcra", Reason: "r", Limit: 100}},
		{[]string{"audit", "who"}, exitUse, nil},
		{[]string{"audit", "refusals", "-purpose", "RESEARCH"}, exitUse, nil},
		{[]string{"audit", "changes", "-purpose", "TREAT"}, exitUse, nil},
		{[]string{"audit", "asked", "-limit", "0"}, exitUse, nil},
	} {
		code, _, _ := d.do(t, c.args...)
		if code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.args, code, c.code)
		}
		if c.want != nil && fmt.Sprint(d.broker.asked) != fmt.Sprint(c.want) {
			t.Errorf("%v: asked %v, want %v", c.args, d.broker.asked, c.want)
		}
	}
	_, out, _ = d.do(t, "audit", "staff", "X9B01", "-total")
	if !strings.Contains(out, "6 in all.") || strings.Index(out, "4  u2  Dr Two") > strings.Index(out, "2  u1  Dr One") {
		t.Errorf("totals of two parts: %s", out)
	}
}

// The report says what the person needs, and nothing that would tell what a custodian with a neutral name is; names of staff only where they were asked for.
func TestPersonReport(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	told(d.broker)
	dir := t.TempDir()
	dir = filepath.Join(dir, "not", "there") // it is made
	if code, _, errs := d.do(t, "audit", "report", "-for-patient", eleanor, "-out", dir); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for name, begins := range map[string]string{"report.html": "<!DOCTYPE html>", "report.json": "{", "report.pdf": "%PDF-"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.HasPrefix(string(text), begins) {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: others may read it", name)
		}
		lower := strings.ToLower(string(text))
		for _, hidden := range []string{"mental", "larkfield", "zqact", "zqnote", "zqname", "zqdesk", "zqofficer", "mh-nurse", "mh nurse", "\x1b"} {
			if strings.Contains(lower, hidden) && name != "report.pdf" { // its text is that of the others, compressed
				t.Errorf("%s tells %q", name, hidden)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r toldPerson
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Looked) != 2 || len(r.Refused) != 1 || len(r.Carers) != 1 || len(r.Choices) != 2 || len(r.Asked) != 2 || !slices.ContainsFunc(r.Asked, func(c reportChoice) bool {
		return strings.HasPrefix(c.What, "Another person asked") && c.By == "somebody with a sign-in of their own, not staff" && c.Receipt == "4.abcd"
	}) || r.Names != "" || r.Looked[0].Organisation != "Rivermead Surgery" || r.Looked[0].Role != "general practitioner" ||
		r.Looked[1].Organisation != "A health service" || r.Looked[1].Review != "An officer looked into this emergency access and found that there was good reason for it." ||
		r.Looked[1].Parts[0].Kinds != "other information, health history" || r.Looked[1].Parts[1].Of != "A health service" || r.Looked[0].Receipt != "9.abcd" || len(r.InShort) != 2 || r.InShort[0].Times != 1 || r.InShort[1].Organisation != "A health service" || r.Entries != 900 {
		t.Errorf("another report: %s", text)
	}
	if code, _, errs := d.do(t, "audit", "report", "-for-patient", eleanor, "-out", dir); code != exitUse || !strings.Contains(errs, "already") {
		t.Errorf("over one that is there: exit code %d", code)
	}
	d.broker.asked = nil
	if code, _, _ := d.do(t, "audit", "report", "-for-patient", eleanor, "-out", dir); code != exitUse || d.broker.asked != nil {
		t.Errorf("over one that is there: exit code %d, and the ledger was asked", code)
	}
	// Who asks may see names; whom it is for may not, as the policy stands.
	dir = t.TempDir()
	if code, _, _ := d.do(t, "audit", "report", "-for-patient", eleanor, "-out", dir, "-names"); code != exitDone {
		t.Fatal("with names it fails")
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "report.json")); strings.Contains(string(text), "Zqname") || !strings.Contains(string(text), "does not let people see them") {
		t.Error("names that the person may not see, or nothing that says so")
	}
	for _, page := range d.broker.answers[v1.Question_QUESTION_WHO_LOOKED] {
		page.PersonSeesNames = true
	}
	dir = t.TempDir()
	if code, _, _ := d.do(t, "audit", "report", "-for-patient", eleanor, "-out", dir, "-names"); code != exitDone {
		t.Fatal("with names it fails")
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "report.json")); strings.Count(string(text), "Zqname") != 3 { // the surgery's, twice, and the stranger's; not that of the service with a neutral name
		t.Error("names where they were asked for: another number of them")
	}
}

// Staff who forget what must be said are told before anything is asked: what is refused stands in the ledger, and about the person.
func TestStaffAreReminded(t *testing.T) {
	d := newDesk(t)
	told(d.broker)
	token := func(claims string) {
		text := "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
		if err := os.WriteFile(filepath.Join(d.configDir, "token"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.signIn(t, session{})
	token(`{"selected_roleid":"555000000002"}`)
	d.broker.asked = nil
	for _, args := range []string{"audit who " + eleanor, "audit user 555", "audit refusals -total", "audit view 9", "audit foresee " + eleanor + " -reason x", "audit foresee " + eleanor + " -birth-date 1941-06-02",
		"audit report -for-patient " + eleanor + " -out " + filepath.Join(t.TempDir(), "r")} {
		if code, _, errs := d.do(t, strings.Fields(args)...); code != exitUse || !strings.Contains(errs, "-reason") {
			t.Errorf("%s: exit code %d, %q", args, code, errs)
		}
	}
	if d.broker.asked != nil {
		t.Error("the broker was asked")
	}
	token(`{"nhs_number":"` + eleanor + `"}`)
	if code, _, errs := d.do(t, "audit", "who", eleanor); code != exitDone {
		t.Errorf("a person needs no reason: exit code %d, %q", code, errs)
	}
}

// What is asked within a minute by the same sort of staff is told once, with how often, newest first; what was refused each time, with its receipt.
func TestGathered(t *testing.T) {
	at := func(minute int, receipt string) reportChoice {
		return reportChoice{When: fmt.Sprint(minute), What: "x", By: "y", Receipt: receipt, at: time.Unix(int64(60*minute), 0)}
	}
	got := gathered([]reportChoice{at(2, "8.ab"), at(2, "9.cd"), at(3, ""), at(3, ""), at(3, ""), at(1, "")})
	three := at(3, "")
	three.Times = 3
	if want := []reportChoice{three, at(2, "8.ab"), at(2, "9.cd"), at(1, "")}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Help is for what was asked about.
func TestHelpOfAGroup(t *testing.T) {
	d := newDesk(t)
	for args, want := range map[string]struct {
		code     int
		out, err string
	}{
		"audit --help":                    {exitDone, "mcr audit worklist close POSITION", ""},
		"audit worklist -h":               {exitDone, "mcr audit worklist take POSITION", ""},
		"audit foo":                       {exitUse, "", "mcr audit foo is not a command"},
		"audit worklist foo 9":            {exitUse, "", "mcr audit worklist foo is not a command"},
		"foo":                             {exitUse, "", "foo is not a command"},
		"help":                            {exitDone, "mcr custodians", ""},
		"audit report -help":              {exitDone, "-for-patient", ""},
		"audit report -for-patient -help": {exitDone, "-names", ""},
	} {
		code, out, errs := d.do(t, strings.Fields(args)...)
		if code != want.code || !strings.Contains(out, want.out) || !strings.Contains(errs, want.err) {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, errs)
		}
	}
	if _, out, _ := d.do(t, "audit", "--help"); strings.Contains(out, "mcr login") {
		t.Error("help of a group is all of it")
	}
}
