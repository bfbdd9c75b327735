package broker_test

import (
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// flag raises an alert about the newest access of a house.
func flag(t *testing.T, l *audit.Ledger, user string, organisation record.ODSCode) uint64 {
	t.Helper()
	list, _, err := l.Follow(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	begin := uint64(0)
	for _, f := range list {
		if f.Type == audit.TypeBegin {
			begin = f.Position
		}
	}
	r, raised, err := l.RaiseAlert(t.Context(), audit.Alert{Of: begin, Requester: record.Requester{Kind: record.Professional, User: user, Organisation: organisation},
		Rules: []audit.Fired{{Rule: "colleague", Weight: 100}}, Score: 100, Version: "v"}, time.Now(), []string{user}, 0)
	if err != nil || !raised {
		t.Fatalf("raised %v: %v", raised, err)
	}
	return r.Position
}

// The person sees of a look at an alert that somebody asked the ledger about them; whom the alert is about sees nothing of it, and cannot tell it from one that is not there.
func TestWhatIsDoneAboutSomebody(t *testing.T) {
	c := newChronicle(t, 11)
	n := number(t, "9990000018")
	req := question(n)
	req.ID = "looked-at"
	if _, err := c.Retrieve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	officer := func(user string) record.Requester {
		return record.Requester{Kind: record.Professional, User: user, JobRole: "R8024", Organisation: "X9A01", Client: "ig", Issuer: "i"}
	}
	at := flag(t, c.ledger, "7770001", "X9A01")
	as := func(user string) broker.AlertRequest {
		return broker.AlertRequest{ID: "alert-" + user, Face: "grpc", Requester: officer(user), Role: officerRole, Reason: "why the alert is looked at", Arrived: time.Now()}
	}
	if _, _, err := c.ShowAlert(t.Context(), as("7770002"), at); err != nil {
		t.Fatal(err)
	}
	if _, err := c.HandleAlert(t.Context(), as("7770002"), at, audit.AlertTaken, "", "a note"); err != nil {
		t.Fatal(err)
	}
	_, own := c.HandleAlert(t.Context(), as("7770001"), at, audit.AlertTaken, "", "mine")
	_, none := c.HandleAlert(t.Context(), as("7770001"), at-1, audit.AlertTaken, "", "none")
	if a, b := refusal(t, own), refusal(t, none); a.Kind != b.Kind || a.Error() != b.Error() || a.Kind != broker.Invalid {
		t.Errorf("their own is %v, none is %v", own, none)
	}
	search := func(r record.Requester, q audit.Search) []audit.Found {
		t.Helper()
		sought := broker.SearchRequest{ID: "search", Face: "grpc", Requester: r, Role: officerRole, Reason: "an inquiry", Query: q, Arrived: time.Now()}
		if r.Kind == record.Person {
			sought.Role, sought.Reason = personal, ""
		}
		found, _, _, err := c.SearchAccesses(t.Context(), sought)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	done := audit.Search{Types: []audit.EntryType{audit.TypeAlert, audit.TypeHandled}}
	if a, b := len(search(officer("7770002"), done)), len(search(officer("7770001"), done)); a != 2 || b != 0 {
		t.Errorf("the colleague finds %d entries, whom the alert is about %d, want 2 and 0", a, b)
	}
	person := themselves(n, n).Requester
	looks := 0
	for _, f := range search(person, audit.Search{Types: []audit.EntryType{audit.TypeRead}}) {
		if f.Asked == "alert" || f.Reason == as("").Reason || f.Actor.Reason == as("").Reason {
			t.Errorf("the person is told of %q, because %q", f.Asked, f.Reason)
		}
		looks++
	}
	answer, err := c.AskLedger(t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: person, Role: personal, Question: audit.Question{Kind: audit.LedgerReads}, Arrived: time.Now()})
	if err != nil || len(answer.Rows) == 0 || looks == 0 {
		t.Fatalf("the person is told of %d and %d looks: %v", looks, len(answer.Rows), err)
	}
	for _, row := range answer.Rows {
		if row.Asked == "alert" || row.Reason == as("").Reason || row.Actor.Reason == as("").Reason {
			t.Errorf("the person is told of %q, because %q", row.Asked, row.Reason)
		}
	}
	verified(t, c.ledger)
}
