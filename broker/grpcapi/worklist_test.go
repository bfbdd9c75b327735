package grpcapi

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

func flagged(t *testing.T) audit.Flagged {
	t.Helper()
	n, err := record.ParseNHSNumber(number)
	if err != nil {
		t.Fatal(err)
	}
	nurse := record.Requester{Kind: record.Professional, User: "555000000001", Name: "A Nurse", Organisation: "X9B01"}
	access := audit.Found{Position: 4, Type: audit.TypeBegin, Subject: n, Access: &audit.Access{Subject: n, Requester: nurse, Evidence: &audit.Evidence{Staff: true, Colleague: true, DaysDead: 3}}}
	closing := audit.Found{Position: 5, Type: audit.TypeReleased, Opens: 4, Subject: n,
		Disclosure: &audit.Disclosure{Evidence: &audit.Evidence{Record: true, OwnHeard: true, Near: []audit.Near{{Kind: audit.NearReferral, Days: 12}}}}}
	return audit.Flagged{Found: audit.Found{Position: 9, Type: audit.TypeAlert, At: time.Unix(1, 0), Alert: &audit.Alert{Of: 4, Requester: nurse, Score: 100, Version: "v",
		Rules: []audit.Fired{{Rule: "colleague", Weight: 100}, {Rule: "volume", Weight: 60, Count: 87, Usual: 12, Explained: "care-team"}}}}, Step: audit.AlertTaken, Access: &access, Closing: &closing}
}

// A list says what was found and by which rule, and no person; one alert says who it was about, and what was looked at.
func TestAlertsOnTheWire(t *testing.T) {
	w := newWorld(t)
	list := v1.NewWorklistServiceClient(w.conn)
	f := flagged(t)
	f.Access, f.Closing = nil, nil
	w.broker.flagged = f
	out, err := list.ListAlerts(as(t, "doctor"), &v1.ListAlertsRequest{Reason: "daily", Before: 40})
	if err != nil || len(out.GetAlerts()) != 1 || out.GetNextBefore() != 40 || len(out.GetPrecision()) != 1 || out.GetPrecision()[0].GetNotJustified() != 2 {
		t.Fatalf("ListAlerts: %v", err)
	}
	a := out.GetAlerts()[0]
	if a.GetPosition() != 9 || a.GetAccess() != 4 || a.GetState() != v1.AlertState_ALERT_STATE_TAKEN || a.GetRequester().GetUser() != "555000000001" || len(a.GetRules()) != 2 ||
		a.GetRules()[1].GetUsual() != 12 || a.GetRules()[1].GetExplained() != "care-team" {
		t.Errorf("got %v", a)
	}
	w.broker.flagged = flagged(t)
	one, err := list.GetAlert(as(t, "doctor"), &v1.GetAlertRequest{Position: 9, Reason: "daily"})
	if err != nil || one.GetAccess().GetNhsNumber() != number || one.GetClosing().GetPosition() != 5 {
		t.Fatalf("GetAlert: %v", err)
	}
	if e := one.GetEvidence(); !e.GetStaffList() || !e.GetColleague() || e.GetDaysDead() != 2 || !e.GetRecordSeen() || len(e.GetNear()) != 1 || e.GetNear()[0].GetDays() != 12 {
		t.Errorf("evidence is %v", e)
	}
	for want, do := range map[string]func() error{
		"9 taken  mine": func() error {
			_, err := list.TakeAlert(as(t, "doctor"), &v1.TakeAlertRequest{Position: 9, Note: "mine"})
			return err
		},
		"9 closed justified a ward round": func() error {
			_, err := list.CloseAlert(as(t, "doctor"), &v1.CloseAlertRequest{Position: 9, Outcome: v1.ReviewOutcome_REVIEW_OUTCOME_JUSTIFIED, Note: "a ward round"})
			return err
		},
		"9 reopened  new facts": func() error {
			_, err := list.ReopenAlert(as(t, "doctor"), &v1.ReopenAlertRequest{Position: 9, Note: "new facts"})
			return err
		},
	} {
		if err := do(); err != nil || w.broker.reviewed != want {
			t.Errorf("got %q, want %q: %v", w.broker.reviewed, want, err)
		}
	}
	sum, err := list.Summarise(as(t, "doctor"), &v1.SummariseRequest{From: "2026-11-23", Until: "2026-11-29", Reason: "weekly"})
	if err != nil || sum.GetUntil().AsTime().Sub(sum.GetFrom().AsTime()) != 7*24*time.Hour || sum.GetBreakGlass() != 2 || len(sum.GetReviews()) != 2 || sum.GetDays()[0].GetPurpose() != v1.Purpose_PURPOSE_TREAT {
		t.Errorf("Summarise: %v %v", sum, err)
	}
	_, err = list.CloseAlert(as(t, "doctor"), &v1.CloseAlertRequest{Position: 9, Note: "x"})
	wantField(t, err, "outcome")
	_, err = list.CloseAlert(as(t, "doctor"), &v1.CloseAlertRequest{Position: 9, Outcome: v1.ReviewOutcome_REVIEW_OUTCOME_JUSTIFIED})
	wantField(t, err, "note")
	_, err = list.ReopenAlert(as(t, "doctor"), &v1.ReopenAlertRequest{Position: 9})
	wantField(t, err, "note")
	_, err = list.TakeAlert(as(t, "doctor"), &v1.TakeAlertRequest{Position: 1 << 63})
	wantField(t, err, "position")
	_, err = list.ListAlerts(as(t, "doctor"), &v1.ListAlertsRequest{Limit: 1001})
	wantField(t, err, "limit")
	_, err = list.Summarise(as(t, "doctor"), &v1.SummariseRequest{From: "2026-01-01", Until: "2026-11-29"})
	wantField(t, err, "until")
	w.broker.err = &broker.Refusal{Kind: broker.Forbidden, Reason: consent.ReasonRole, Rule: "L-6"}
	_, err = list.GetAlert(as(t, "doctor"), &v1.GetAlertRequest{Position: 9, Reason: "daily"})
	wantStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
	_, err = list.TakeAlert(as(t, "doctor"), &v1.TakeAlertRequest{Position: 9})
	wantStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
}
