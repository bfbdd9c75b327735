package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// breakGlass opens an access by break-glass, as the broker does.
func breakGlass(t *testing.T, l *audit.Ledger, n int) {
	t.Helper()
	subject, err := record.ParseNHSNumber("9990000018")
	if err != nil {
		t.Fatal(err)
	}
	q := consent.Question{Subject: record.Subject{Number: subject, Standing: record.Live}, Purpose: record.BreakGlass, BreakGlassReason: "unconscious, nobody to ask", Now: time.Now(),
		Requester:  record.Requester{Kind: record.Professional, User: "555000000001", Organisation: "X9J01"},
		Role:       consent.Role{Sections: map[record.Purpose]record.Sections{record.BreakGlass: record.AllSections}},
		Custodians: []consent.CustodianRules{{Custodian: record.Custodian{Key: "gp", ODS: "X9A01"}}}}
	permit, ok := consent.Evaluate(q, consent.Preferences{}).Permit()
	if !ok {
		t.Fatal("not permitted")
	}
	_, err = l.Begin(t.Context(), permit, audit.Access{Key: fmt.Sprintf("%032x", n), Face: "rest", Operation: "everything", Subject: subject, Requester: q.Requester,
		Purpose: q.Purpose, BreakGlassReason: q.BreakGlassReason, Asked: []record.CustodianKey{"gp"}, At: q.Now})
	if err != nil {
		t.Fatal(err)
	}
}

// C-3, over a restart: while the webhook does not acknowledge, break-glass goes on and its alerts wait; whoever is started next delivers each of them once, and
// after another start none again.
func TestAlertsOverARestart(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	down := newWebhook(t, http.StatusServiceUnavailable)
	send := func(l *audit.Ledger, url string) (*alertSender, func()) {
		s, err := newAlertSender(Alerts{Webhook: url, Timeout: Duration(time.Second), Pause: Duration(20 * time.Millisecond)}, l, func(record.Requester) bool { return false }, nil, broker.NewLogger(io.Discard, 0))
		if err != nil {
			t.Fatal(err)
		}
		s.poll = 5 * time.Millisecond
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { s.run(ctx); close(ended) }()
		return s, func() { cancel(); <-ended }
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not in time: %s", what)
			}
		}
	}
	pending := func(l *audit.Ledger) int {
		rows, err := l.PendingAlerts(context.Background(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	_, stop := send(p.Ledger, down.URL)
	for i := range 3 {
		breakGlass(t, p.Ledger, i+1)
	}
	until("tries", func() bool { return len(down.got()) > 6 })
	stop()
	if pending(p.Ledger) != 3 {
		t.Errorf("%d alerts wait, want 3", pending(p.Ledger))
	}
	p = p.Reopen(t)
	up := newWebhook(t, http.StatusNoContent)
	_, stop = send(p.Ledger, up.URL)
	until("delivery", func() bool { return pending(p.Ledger) == 0 })
	breakGlass(t, p.Ledger, 9) // while it runs
	until("delivery of a new one", func() bool { return len(up.got()) == 4 && pending(p.Ledger) == 0 })
	stop()
	p = p.Reopen(t)
	s, stop := send(p.Ledger, up.URL)
	time.Sleep(50 * time.Millisecond)
	stop()
	if got := up.got(); len(got) != 4 || got[0] == got[1] || s.waiting.Load() != 0 {
		t.Errorf("sent %d times, want each of 4 once", len(got))
	}
	if r, err := p.Ledger.Verify(context.Background()); err != nil || r.Sound() != nil {
		t.Errorf("%v %v", err, r.Sound())
	}
}
