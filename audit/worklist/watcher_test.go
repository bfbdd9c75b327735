package worklist_test

import (
	"context"
	"encoding/hex"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/worklist"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

func number(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a test number is not valid")
	}
	return n
}

// attempt records one at a record, which is refused.
func attempt(t *testing.T, l *audit.Ledger, key byte, user string, e *audit.Evidence) {
	t.Helper()
	var k [16]byte
	k[0] = key
	if _, err := l.Refuse(t.Context(), audit.Access{Key: hex.EncodeToString(k[:]), Subject: number(t, "9990000018"), Purpose: record.Treatment, At: time.Now(), Evidence: e,
		Requester: record.Requester{Kind: record.Professional, User: user, Organisation: "X9B01", JobRole: "R8000"}, Reason: consent.ReasonPermission, Rule: "C-2.8"}); err != nil {
		t.Fatal(err)
	}
}

// What the ledger tells is found, and becomes an alert once: whatever else watches, and whoever begins anew.
func TestWatcher(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	watcher := func() *worklist.Watcher {
		return worklist.NewWatcher(p.Ledger, worklist.Shipped(), slog.New(slog.DiscardHandler))
	}
	alerts := func() int {
		t.Helper()
		rows, err := p.Ledger.PendingAlerts(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	catch := func(w *worklist.Watcher, want int) {
		t.Helper()
		if err := w.Catch(t.Context(), time.Now()); err != nil || alerts() != want {
			t.Fatalf("%d alerts, want %d: %v", alerts(), want, err)
		}
	}
	first, second := watcher(), watcher()
	attempt(t, p.Ledger, 1, "555000000001", &audit.Evidence{Staff: true, Own: true})
	attempt(t, p.Ledger, 2, "555000000002", &audit.Evidence{Staff: true})
	catch(first, 1)
	catch(second, 1)
	attempt(t, p.Ledger, 3, "555000000003", &audit.Evidence{Staff: true, Kin: true})
	attempt(t, p.Ledger, 4, "555000000001", &audit.Evidence{Staff: true, Own: true}) // again, the same day
	catch(second, 2)
	catch(first, 2)
	p = p.Reopen(t)
	catch(watcher(), 2)
	if report, err := p.Ledger.Verify(t.Context()); err != nil || report.Sound() != nil || report.Alerts != 2 {
		t.Errorf("the ledger is not sound: %v %v", err, report.Sound())
	}
}

// While the ledger cannot be written, what was found waits; it is raised when it can be again.
func TestWatcherWaits(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	attempt(t, p.Ledger, 1, "555000000001", &audit.Evidence{Staff: true, Own: true})
	w := worklist.NewWatcher(p.Ledger, worklist.Shipped(), slog.New(slog.DiscardHandler))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Catch(gone, time.Now()); err == nil {
		t.Error("it caught up although it could not")
	}
	if err := w.Catch(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if rows, err := p.Ledger.PendingAlerts(t.Context(), 0, 10); err != nil || len(rows) != 1 || rows[0].Kind != worklist.OwnRecord {
		t.Errorf("%d alerts: %v", len(rows), err)
	}
}

// frail is a ledger of which one page panics for a while.
type frail struct {
	worklist.Book
	asked, panics int
	stop          context.CancelFunc
}

func (f *frail) Follow(ctx context.Context, from uint64, limit int) ([]audit.Found, uint64, error) {
	if f.asked++; f.asked <= f.panics {
		defer f.stop() // what comes next is waited for ten minutes
		panic("CANARY")
	}
	return f.Book.Follow(ctx, from, limit)
}

// A panic of what watches does not end the process, and its value is in no log; what was not seen then is seen later.
func TestAPanicEndsNoWatching(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	attempt(t, p.Ledger, 1, "555000000001", &audit.Evidence{Staff: true, Own: true})
	var log strings.Builder
	ctx, stop := context.WithCancel(t.Context())
	book := &frail{Book: p.Ledger, panics: 1, stop: stop}
	w := worklist.NewWatcher(book, worklist.Shipped(), slog.New(slog.NewTextHandler(&log, nil)))
	w.Run(ctx)
	if book.asked != 1 || strings.Contains(log.String(), "CANARY") || !strings.Contains(log.String(), "kind=string") {
		t.Errorf("asked %d times; the log: %s", book.asked, log.String())
	}
	if err := w.Catch(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if rows, err := p.Ledger.PendingAlerts(t.Context(), 0, 100); err != nil || len(rows) != 1 {
		t.Errorf("%d alerts, %v", len(rows), err)
	}
}
