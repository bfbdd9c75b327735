package broker_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// M-7: a handle is the same each time, is a FHIR id, gives its number back, and nothing else opens.
func TestHandles(t *testing.T) {
	h, err := broker.NewHandles(bytes.Repeat([]byte{7}, 64))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := broker.NewHandles(bytes.Repeat([]byte{8}, 64))
	seen := map[string]bool{}
	for _, digits := range []string{"9990000018", "9990000026", "9434765919", "4010232137"} {
		n := number(t, digits)
		sealed := h.Seal(n)
		if sealed != h.Seal(n) || len(sealed) != 36 || sealed != strings.ToLower(sealed) || seen[sealed] || strings.Contains(sealed, digits) {
			t.Errorf("handle of length %d is not steady, unique, lower-case and opaque", len(sealed))
		}
		seen[sealed] = true
		if back, ok := h.Open(sealed); !ok || back != n {
			t.Error("a handle does not open")
		}
		if _, ok := other.Open(sealed); ok {
			t.Error("another deployment's key opens a handle")
		}
		// Every single-character change must fail: a handle has one text only.
		for i := range sealed {
			for _, c := range "abcdefghijklmnopqrstuvwxyz234567A-" {
				if byte(c) == sealed[i] {
					continue
				}
				if _, ok := h.Open(sealed[:i] + string(c) + sealed[i+1:]); ok {
					t.Fatalf("a handle with character %d changed opens", i)
				}
			}
		}
	}
	for _, bad := range []string{"", "a", strings.Repeat("a", 36), strings.Repeat("a", 1000), "9990000018"} {
		if _, ok := h.Open(bad); ok {
			t.Error("nonsense opens")
		}
	}
	if h.Seal(record.NHSNumber{}) != "" {
		t.Error("no number has a handle")
	}
	if _, err := broker.NewHandles(make([]byte, 32)); err == nil {
		t.Error("a short key is taken")
	}
}

// House style 33: what is not on the list does not get into a log line, whichever way it comes.
func TestLoggerDropsWhatIsNotPermitted(t *testing.T) {
	var out bytes.Buffer
	log := broker.NewLogger(&out, slog.LevelDebug)
	n := number(t, ann)
	log.Info("one", "custodian", "gp", "name", "Ashdown", "url", "https://x/?identifier=9990000018", "nhs", n)
	log.With("surname", "Ashdown", "state", "returned").WithGroup("g").Warn("two", "given", "Ann", "count", 3)
	log.Error("three", slog.Group("custodian", "name", "Ashdown"))
	text := out.String()
	for _, word := range []string{"Ashdown", "Ann", "9990000018", "https"} {
		if strings.Contains(text, word) {
			t.Errorf("a log line holds %q", word[:2]+"…")
		}
	}
	for _, want := range []string{`"custodian":"gp"`, `"state":"returned"`, `"count":3`, `"droppedAttributes":3`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

// L-6: a caller who is known gets an entry for every attempt, also one that cannot be read.
func TestUnreadIsOnRecord(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, nil)
	before := l.Stats().Position
	receipt, err := h.RefuseUnread(t.Context(), broker.Request{ID: "r", Face: "rest", Operation: "unread", Requester: clinician, Role: clinical})
	if err != nil || receipt.Origin == "" || l.Stats().Position != before+1 || h.asked() != 0 {
		t.Errorf("%v; the ledger moved from %d to %d", err, before, l.Stats().Position)
	}
	req := question(record.NHSNumber{})
	if _, err := h.Retrieve(t.Context(), req); refusal(t, err).Kind != broker.Invalid || refusal(t, err).Receipt.Origin == "" {
		t.Errorf("no number: %v", err)
	}
	verified(t, l)
}
