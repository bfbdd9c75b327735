package postgres

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/worklist"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// Two replicas watch one ledger at once: each access that must be looked at is an alert once, whichever found it first, and what an officer does at one
// replica stands at the other.
func TestReplicasWatch(t *testing.T) {
	server := services.PostgreSQL(t)
	url := server.URL(server.Database(t))
	dir := t.TempDir()
	keys, err := audit.CreateKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	var ledgers []*audit.Ledger
	for _, name := range []string{"one", "two"} {
		folder, err := sink.NewFolder(filepath.Join(dir, "checkpoints"))
		if err != nil {
			t.Fatal(err)
		}
		store := place{url: url, replica: name}.open(t)
		l, err := audit.Open(ctx, audit.Config{Store: store, Keys: keys, Replica: name, Origin: "mycarerecord.example/test", Sinks: []audit.Sink{folder}, Deadline: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Shutdown(ctx); err != nil {
				t.Errorf("ending %s: %v", name, err)
			}
			if err := store.Close(); err != nil {
				t.Errorf("closing %s: %v", name, err)
			}
		})
		ledgers = append(ledgers, l)
	}
	subject, err := record.ParseNHSNumber("9990000018")
	if err != nil {
		t.Fatal(err)
	}
	const snoopers = 12
	for i := range snoopers {
		requester := record.Requester{Kind: record.Professional, User: fmt.Sprintf("5550000001%02d", i), Organisation: "X9B01", JobRole: "R8000"}
		if _, err := ledgers[i%2].Refuse(ctx, audit.Access{Key: fmt.Sprintf("%032x", i), Subject: subject, Purpose: record.Treatment, At: time.Now(), Requester: requester,
			Evidence: &audit.Evidence{Staff: true, Own: i%2 == 0, Kin: i%2 == 1}, Reason: consent.ReasonPermission, Rule: "C-2.8"}); err != nil {
			t.Fatal(err)
		}
	}
	var watching sync.WaitGroup
	for _, l := range ledgers {
		for range 2 {
			watching.Go(func() {
				if err := worklist.NewWatcher(l, worklist.Shipped(), slog.New(slog.DiscardHandler)).Catch(ctx, time.Now()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	watching.Wait()
	by, in := audit.Actor{Requester: record.Requester{Kind: record.Professional, User: "555000000777", Organisation: "X9B01"}, Reason: "daily"}, audit.Bounds{Organisation: "X9B01"}
	list, _, _, err := ledgers[0].Alerts(ctx, by, in, false, 0, 100)
	if err != nil || len(list) != snoopers {
		t.Fatalf("%d alerts, want %d: %v", len(list), snoopers, err)
	}
	at := list[0].Position
	for i, step := range []audit.AlertStep{audit.AlertTaken, audit.AlertClosed, audit.AlertReopened, audit.AlertClosed} {
		outcome := map[audit.AlertStep]audit.ReviewOutcome{audit.AlertClosed: audit.NotJustified}[step]
		if _, err := ledgers[i%2].HandleAlert(ctx, by, in, at, step, outcome, "as it was found", fmt.Sprintf("%032x", 100+i)); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
	}
	if list, _, _, err = ledgers[1].Alerts(ctx, by, audit.Bounds{Organisation: "X9R01", Everywhere: true}, false, 0, 100); err != nil || len(list) != snoopers-1 {
		t.Errorf("%d alerts at the other, want %d: %v", len(list), snoopers-1, err)
	}
	if w, err := ledgers[1].Waiting(ctx, "X9B01", func(record.Requester) bool { return false }, 100); err != nil || len(w.Alerts) != snoopers-1 {
		t.Errorf("%d wait: %v", len(w.Alerts), err)
	}
	if x, _, err := ledgers[1].Activity(ctx, by, in, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)); err != nil || x.Accesses != snoopers || len(x.Alerts) == 0 {
		t.Errorf("counted %+v: %v", x, err)
	}
	report, err := ledgers[0].Verify(ctx)
	if err != nil || report.Sound() != nil || report.Alerts != snoopers {
		t.Errorf("the ledger is not sound: %v %v", err, report.Sound())
	}
}
