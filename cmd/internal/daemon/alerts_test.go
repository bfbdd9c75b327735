package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// book keeps alerts in memory.
type book struct {
	mu        sync.Mutex
	rows      []audit.AlertRow
	delivered []uint64
	down      bool // does not answer
	forgets   bool // does not note deliveries
	officers  []uint64
	damaged   []uint64
}

func (b *book) AboutOfficer(_ context.Context, position uint64, _ func(record.Requester) bool) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return false, errors.New("down")
	}
	if slices.Contains(b.damaged, position) {
		return false, fmt.Errorf("%w: it does not open", audit.ErrDamaged)
	}
	return slices.Contains(b.officers, position), nil
}

func (b *book) PendingAlerts(_ context.Context, from uint64, limit int) ([]audit.AlertRow, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return nil, errors.New("down")
	}
	var out []audit.AlertRow
	for _, r := range b.rows {
		if r.Position >= from && r.Delivered.IsZero() && len(out) < limit {
			out = append(out, r)
		}
	}
	return out, nil
}

func (b *book) AlertDelivered(_ context.Context, position uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.forgets {
		return errors.New("not kept")
	}
	for i := range b.rows {
		if b.rows[i].Position == position {
			b.rows[i].Delivered = time.Unix(1, 0)
			b.delivered = append(b.delivered, position)
		}
	}
	return nil
}

func alerts(positions ...uint64) *book {
	b := &book{}
	for _, p := range positions {
		b.rows = append(b.rows, audit.AlertRow{Position: p, Kind: audit.AlertBreakGlass})
	}
	return b
}

// webhook answers with the statuses in turn, the last one for ever, and keeps what it was sent.
type webhook struct {
	*httptest.Server
	mu       sync.Mutex
	bodies   []string
	headers  []http.Header
	statuses []int
}

func newWebhook(t *testing.T, statuses ...int) *webhook {
	w := &webhook{statuses: statuses}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.bodies, w.headers = append(w.bodies, string(body)), append(w.headers, r.Header.Clone())
		status := w.statuses[0]
		if len(w.statuses) > 1 {
			w.statuses = w.statuses[1:]
		}
		if status == http.StatusFound {
			rw.Header().Set("Location", w.URL+"/elsewhere")
		}
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, strings.Repeat("x", 100_000))
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *webhook) got() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.bodies)
}

func sender(t *testing.T, b *book, url string, log io.Writer) *alertSender {
	t.Helper()
	s, err := newAlertSender(Alerts{Webhook: url, Timeout: Duration(time.Second), Pause: Duration(20 * time.Millisecond)}, b, func(record.Requester) bool { return false }, nil, broker.NewLogger(log, 0))
	if err != nil {
		t.Fatal(err)
	}
	s.poll = 5 * time.Millisecond
	return s
}

func runUntil(t *testing.T, s *alertSender, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	ended := make(chan struct{})
	go func() { s.run(ctx); close(ended) }()
	for !done() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("it did not come to that in time")
	}
	cancel()
	<-ended
}

// Whatever the webhook answers, an alert is tried until it is acknowledged, and not again after that.
func TestAlertsAreTriedUntilAcknowledged(t *testing.T) {
	w := newWebhook(t, 500, 429, http.StatusFound, 404, 200)
	b := alerts(7)
	var log bytes.Buffer
	s := sender(t, b, w.URL, &log)
	runUntil(t, s, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.delivered) == 1 })
	got := w.got()
	if len(got) != 5 || s.waiting.Load() != 0 && s.waiting.Load() != 1 {
		t.Fatalf("%d tries, want 5", len(got))
	}
	for _, body := range got { // the position, and nothing else
		if body != `{"position":7}` {
			t.Errorf("sent %s", body)
		}
	}
	for _, h := range w.headers {
		if h.Get("Content-Type") != "application/json" || h.Get("Authorization") != "" || h.Get("Referer") != "" {
			t.Error("headers are not those meant")
		}
	}
	if !strings.Contains(log.String(), "tried again") || strings.Contains(log.String(), "127.0.0.1") {
		t.Error("the log does not tell of the failures, or tells the address")
	}
}

// One alert that is refused does not hold up the others, and the next round begins with it.
func TestARefusedAlertHoldsUpNobody(t *testing.T) {
	w := newWebhook(t, 200, 400, 200)
	b := alerts(3, 5, 9)
	s := sender(t, b, w.URL, io.Discard)
	next, left, err := s.round(context.Background(), 0)
	if next != 4 || left != 1 || !errors.Is(err, errRefused) || !slices.Equal(b.delivered, []uint64{3, 9}) {
		t.Fatalf("next %d, %d left, delivered %v: %v", next, left, b.delivered, err)
	}
	if next, left, err = s.round(context.Background(), next); next != 6 || left != 0 || err != nil || !slices.Equal(b.delivered, []uint64{3, 9, 5}) {
		t.Errorf("next %d, %d left, delivered %v: %v", next, left, b.delivered, err)
	}
}

// More alerts than are read at a time are refused, and the one behind them is tried in the same round.
func TestPagesOfRefusedAlertsHoldUpNobody(t *testing.T) {
	var positions []uint64
	var statuses []int
	for i := range 2 * alertPage {
		positions, statuses = append(positions, uint64(10+i)), append(statuses, 400)
	}
	last := uint64(10 + 2*alertPage)
	w := newWebhook(t, append(statuses, 200)...)
	b := alerts(append(positions, last)...)
	s := sender(t, b, w.URL, io.Discard)
	next, left, err := s.round(context.Background(), 0)
	if next != 0 || left != 2*alertPage || !errors.Is(err, errRefused) || !slices.Equal(b.delivered, []uint64{last}) {
		t.Fatalf("next %d, %d left, %d delivered: %v", next, left, len(b.delivered), err)
	}
	if next, left, err = s.round(context.Background(), next); next != last || left != 0 || err != nil || len(b.delivered) != len(b.rows) {
		t.Errorf("next %d, %d left, %d of %d delivered: %v", next, left, len(b.delivered), len(b.rows), err)
	}
}

// A webhook that is away ends the round at once: ten alerts do not wait ten times for it.
func TestAWebhookThatIsAway(t *testing.T) {
	w := newWebhook(t, 200)
	w.Close()
	b := alerts(1, 2, 3)
	s := sender(t, b, w.URL, io.Discard)
	if next, left, err := s.round(context.Background(), 0); next != 0 || left != 3 || !errors.Is(err, errUnreachable) {
		t.Errorf("next %d, %d left: %v", next, left, err)
	}
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer hang.Close()
	s = sender(t, b, hang.URL, io.Discard)
	s.client.Timeout = 50 * time.Millisecond
	start := time.Now()
	if _, left, err := s.round(context.Background(), 0); left != 3 || !errors.Is(err, errUnreachable) || time.Since(start) > 5*time.Second {
		t.Errorf("%d left after %s: %v", left, time.Since(start), err)
	}
}

// What the ledger could not note is sent again, and a ledger that is away is asked again.
func TestDeliveryIsNotedOrRepeated(t *testing.T) {
	w := newWebhook(t, 200)
	b := alerts(4)
	b.forgets = true
	s := sender(t, b, w.URL, io.Discard)
	for range 2 {
		if next, left, err := s.round(context.Background(), 0); next != 0 || left != 1 || !errors.Is(err, errBook) {
			t.Errorf("next %d, %d left: %v", next, left, err)
		}
	}
	if len(w.got()) != 2 {
		t.Errorf("sent %d times, want 2", len(w.got()))
	}
	b.forgets, b.down = false, true
	if _, _, err := s.round(context.Background(), 0); !errors.Is(err, errBook) {
		t.Error(err)
	}
	b.down = false
	if next, _, err := s.round(context.Background(), 0); next != 5 || err != nil {
		t.Errorf("next %d: %v", next, err)
	}
}

func TestAlertSettings(t *testing.T) {
	w := newWebhook(t, 200)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := Alerts{Webhook: w.URL, TokenFile: file("token", "s3cret\n"), Timeout: Duration(time.Second), Pause: Duration(time.Second)}
	s, err := newAlertSender(c, alerts(1), func(record.Requester) bool { return false }, nil, broker.NewLogger(io.Discard, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.round(context.Background(), 0); err != nil || w.headers[0].Get("Authorization") != "Bearer s3cret" {
		t.Errorf("the token is not sent: %v", err)
	}
	for name, bad := range map[string]Alerts{"no such token": {TokenFile: filepath.Join(dir, "none")}, "empty token": {TokenFile: file("empty", "\n")},
		"two tokens": {TokenFile: file("two", "a b")}, "no authority": {CA: file("ca", "nothing")}} {
		if _, err := newAlertSender(bad, alerts(), nil, nil, broker.NewLogger(io.Discard, 0)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Of an alert about somebody who reads alerts the webhook is told nothing, it holds up none of the others, and it does not count as waiting.
func TestAlertsAboutOfficersAreNotSent(t *testing.T) {
	b := alerts(3, 5, 9)
	b.officers = []uint64{5, 9}
	hook := newWebhook(t, http.StatusOK)
	s := sender(t, b, hook.URL, io.Discard)
	next, left, err := s.round(t.Context(), 0)
	if next != 10 || left != 0 || err != nil || len(hook.got()) != 1 || !slices.Equal(b.delivered, []uint64{3}) {
		t.Errorf("goes on at %d with %d left, %v; sent %d, delivered %v: want 10, 0, and the third alone", next, left, err, len(hook.got()), b.delivered)
	}
	b.down = true
	if _, left, err := s.round(t.Context(), 0); err == nil || left != 0 {
		t.Errorf("a book that does not answer: %d left, %v", left, err)
	}
}

// An alert that cannot be read is not sent, and is tried again; it holds up none of the others.
func TestADamagedAlertHoldsUpNoOther(t *testing.T) {
	b := alerts(3, 5, 9)
	b.damaged = []uint64{3}
	hook := newWebhook(t, http.StatusOK)
	s := sender(t, b, hook.URL, io.Discard)
	next, left, err := s.round(t.Context(), 0)
	if next != 0 || left != 1 || !errors.Is(err, errUntold) || len(hook.got()) != 2 || !slices.Equal(b.delivered, []uint64{5, 9}) {
		t.Errorf("goes on at %d with %d left, %v; sent %d, delivered %v: want 0, 1, and the others delivered", next, left, err, len(hook.got()), b.delivered)
	}
}
