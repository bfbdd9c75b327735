package main

import (
	"context"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

func anAlert() *v1.Alert {
	return &v1.Alert{Position: 91, At: timestamppb.New(time.Date(2026, 8, 1, 9, 30, 0, 0, time.UTC)), Access: 88, Score: 120, State: v1.AlertState_ALERT_STATE_TAKEN,
		Requester: &v1.Requester{Kind: "professional", User: "555000000103", Name: "Bronwen\x1b[2J Tregarth", Organisation: "X9B01"},
		Rules:     []*v1.FiredRule{{Rule: "colleague", Weight: 100}, {Rule: "volume", Weight: 60, Count: 87, Usual: 12}, {Rule: "self-claimed", Weight: 20, Explained: "encounter<=30"}},
		Newest: &v1.LedgerEntry{Position: 93, Type: v1.EntryType_ENTRY_TYPE_HANDLED, Reason: "taken", Note: "asked her manager",
			Actor: &v1.Actor{Requester: &v1.Requester{Name: "Tobias Ravenscroft", User: "555000000107"}}}}
}

func (f *fakeBroker) ListAlerts(ctx context.Context, in *v1.ListAlertsRequest) (*v1.ListAlertsResponse, error) {
	return &v1.ListAlertsResponse{Receipt: receipt(), NextBefore: 91, Alerts: []*v1.Alert{anAlert()},
		Precision: []*v1.RulePrecision{{Rule: "colleague", Raised: 9, Justified: 1, NotJustified: 3, Referred: 1}, {Rule: "volume", Raised: 1}}}, f.keep(ctx, in)
}

func (f *fakeBroker) GetAlert(ctx context.Context, in *v1.GetAlertRequest) (*v1.GetAlertResponse, error) {
	return &v1.GetAlertResponse{Receipt: receipt(), Alert: anAlert(), Access: &v1.LedgerEntry{Position: 88, Type: v1.EntryType_ENTRY_TYPE_BEGIN, At: timestamppb.New(time.Date(2026, 8, 1, 9, 0, 0, 0, time.UTC)),
		NhsNumber: eleanor}, Evidence: &v1.Evidence{StaffList: true, Colleague: true, RecordSeen: true, OwnPartHeard: true}}, f.keep(ctx, in)
}

func (f *fakeBroker) TakeAlert(ctx context.Context, in *v1.TakeAlertRequest) (*v1.TakeAlertResponse, error) {
	return &v1.TakeAlertResponse{Receipt: receipt()}, f.keep(ctx, in)
}

func (f *fakeBroker) CloseAlert(ctx context.Context, in *v1.CloseAlertRequest) (*v1.CloseAlertResponse, error) {
	return &v1.CloseAlertResponse{Receipt: receipt()}, f.keep(ctx, in)
}

func (f *fakeBroker) ReopenAlert(ctx context.Context, in *v1.ReopenAlertRequest) (*v1.ReopenAlertResponse, error) {
	return &v1.ReopenAlertResponse{Receipt: receipt()}, f.keep(ctx, in)
}

func (f *fakeBroker) Summarise(ctx context.Context, in *v1.SummariseRequest) (*v1.SummariseResponse, error) {
	return &v1.SummariseResponse{Receipt: receipt(), Organisation: "X9B01", Accesses: 60, BreakGlass: 3, RefusedQuestions: 4,
		Days:       []*v1.DayCount{{Day: "2026-07-20", Purpose: v1.Purpose_PURPOSE_TREAT, Count: 30}, {Day: "2026-07-20", Purpose: v1.Purpose_PURPOSE_BTG, Count: 3}, {Day: "2026-07-22", Purpose: v1.Purpose_PURPOSE_TREAT, Count: 27}},
		Outcomes:   []*v1.NamedCount{{Name: "released", Count: 50}, {Name: "refused", Count: 10}},
		Refusals:   []*v1.NamedCount{{Name: "<script>alert(1)</script>", Count: 10}},
		Reviews:    []*v1.NamedCount{{Name: "justified", Count: 2}, {Name: "open", Count: 1}},
		Alerts:     []*v1.RulePrecision{{Rule: "colleague", Raised: 4, Justified: 1, NotJustified: 2}},
		Custodians: []*v1.CustodianCount{{Custodian: "gp", States: []*v1.NamedCount{{Name: "returned", Count: 45}, {Name: "timed-out", Count: 5}}}}}, f.keep(ctx, in)
}

func TestWorklist(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	var all strings.Builder
	do := func(args ...string) {
		t.Helper()
		code, out, errs := d.do(t, args...)
		if code != exitDone || errs != "" {
			t.Errorf("%s: got exit code %d, %q", args, code, errs)
		}
		all.WriteString("-- " + args[2] + "\n" + out)
	}
	do("audit", "worklist", "list", "-reason", "daily", "-before", "200")
	if in := d.broker.asked.(*v1.ListAlertsRequest); in.GetReason() != "daily" || in.GetBefore() != 200 || in.GetLimit() != 100 || in.GetClosed() {
		t.Error("another list was asked for")
	}
	do("audit", "worklist", "show", "91", "-reason", "daily")
	if in := d.broker.asked.(*v1.GetAlertRequest); in.GetPosition() != 91 || in.GetReason() != "daily" {
		t.Error("another alert was asked for")
	}
	do("audit", "worklist", "take", "91")
	if in := d.broker.asked.(*v1.TakeAlertRequest); in.GetPosition() != 91 || len(in.GetKey()) != 32 {
		t.Error("another alert was taken")
	}
	do("audit", "worklist", "close", "91", "-outcome", "not-justified", "-note", "no reason found")
	if in := d.broker.asked.(*v1.CloseAlertRequest); in.GetPosition() != 91 || in.GetOutcome() != v1.ReviewOutcome_REVIEW_OUTCOME_NOT_JUSTIFIED || in.GetNote() != "no reason found" || len(in.GetKey()) != 32 {
		t.Error("another alert was closed")
	}
	do("audit", "worklist", "reopen", "91", "-note", "new facts")
	if in := d.broker.asked.(*v1.ReopenAlertRequest); in.GetPosition() != 91 || in.GetNote() != "new facts" {
		t.Error("another alert was reopened")
	}
	golden(t, "worklist.golden", all.String())
	if listed, _, _ := strings.Cut(all.String(), "-- show"); strings.Contains(strings.ReplaceAll(listed, " ", ""), eleanor) {
		t.Error("a list names a person")
	}
	d.broker.asked = nil
	for _, c := range []struct{ args, want string }{
		{"audit worklist list", "-reason"}, {"audit worklist list -reason x -limit 0", "-limit"}, {"audit worklist show 91", "-reason"}, {"audit worklist show", "position"},
		{"audit worklist take x", "position"}, {"audit worklist close 91 -note x", "-outcome"}, {"audit worklist close 91 -outcome justified", "-note"}, {"audit worklist reopen 91", "-note"},
		{"audit report -reason x -csv y", "-organisation"}, {"audit report -organisation -csv y", "-reason"}, {"audit report -organisation -reason x", "-html"},
		{"audit report -organisation -reason x -csv y -from 2026", "-from"}, {"audit report -organisation -reason x -csv y -from 2026-01-01 -until 2026-03-01", "-until"},
	} {
		if code, _, errs := d.do(t, strings.Fields(c.args)...); code != exitUse || !strings.Contains(errs, c.want) {
			t.Errorf("%q: got exit code %d, %q; want %q", c.args, code, errs, c.want)
		}
	}
	if d.broker.asked != nil {
		t.Error("the broker was asked")
	}
}

// The report is of the last whole week, needs nothing from a network, escapes what it shows, and says the same as a table.
func TestReportOfAnOrganisation(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	dir := t.TempDir()
	page, sheet := filepath.Join(dir, "week.html"), filepath.Join(dir, "week.csv")
	if code, _, errs := d.do(t, "audit", "report", "-organisation", "-reason", "weekly", "-html", page, "-csv", sheet); code != exitDone || errs != "" {
		t.Fatalf("got exit code %d, %q", code, errs)
	}
	if in := d.broker.asked.(*v1.SummariseRequest); in.GetFrom() != "2026-07-20" || in.GetUntil() != "2026-07-26" || in.GetReason() != "weekly" { // today is Saturday, 1 August
		t.Errorf("asked for %s to %s", in.GetFrom(), in.GetUntil())
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	html := string(text)
	for _, bad := range []string{"<script", "http://", "https://", "src=", "@import", "url(", "ZgotmplZ"} {
		if strings.Contains(html, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, want := range []string{"Accesses at X9B01", "Mon 20 Jul", "Sun 26 Jul", "colleague", "67%: 2 of 3 judged", "90.0%", "timed-out", "&lt;script&gt;", `aria-label="direct care 30, break-glass 3"`, "4 questions to the ledger"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(html, "<tr><th scope=\"row\">"); n < 7+2+1+2+1+1 {
		t.Errorf("the page has %d rows", n)
	}
	x := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(html, "<!DOCTYPE html>")))
	x.Strict, x.AutoClose, x.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := x.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
	}
	f, err := os.Open(sheet)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || !slices.ContainsFunc(rows, func(r []string) bool {
		return slices.Equal(r, []string{"accesses by day and purpose", "2026-07-22", "direct care", "27"})
	}) ||
		!slices.ContainsFunc(rows, func(r []string) bool { return slices.Equal(r, []string{"custodian", "gp", "timed-out", "5"}) }) {
		t.Errorf("the table: %v", err)
	}
	if code, _, errs := d.do(t, "audit", "report", "-organisation", "-reason", "weekly", "-csv", sheet); code != exitUse || !strings.Contains(errs, "nothing is overwritten") {
		t.Errorf("a file was overwritten: %d %q", code, errs)
	}
}
