package broker_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
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

// C-10: who may record what, about whom, with which confirmation.
func TestObjections(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	n := number(t, ann)
	good := consent.Objection{Scope: consent.ToCustodian, Custodian: "acute"}
	for name, c := range map[string]struct {
		change func(*broker.ObjectionRequest, *consent.Objection)
		kind   broker.Kind
	}{
		"no birth date":    {func(r *broker.ObjectionRequest, _ *consent.Objection) { r.BirthDate = "" }, broker.Invalid},
		"wrong birth date": {func(r *broker.ObjectionRequest, _ *consent.Objection) { r.BirthDate = "1950-02-04" }, broker.NotFound},
		"no right":         {func(r *broker.ObjectionRequest, _ *consent.Objection) { r.Role.RecordsObjections = false }, broker.Forbidden},
		"an engine":        {func(r *broker.ObjectionRequest, _ *consent.Objection) { r.Requester.Kind = record.System }, broker.Forbidden},
		"no acting person": {func(r *broker.ObjectionRequest, _ *consent.Objection) { r.TokenProblem = consent.ReasonNoActingPerson }, broker.Forbidden},
		"somebody else's": {func(r *broker.ObjectionRequest, _ *consent.Objection) {
			r.Requester.Kind, r.Requester.Own = record.Person, must("9990000026")
		}, broker.Forbidden},
		"no such custodian": {func(_ *broker.ObjectionRequest, o *consent.Objection) { o.Custodian = "nobody" }, broker.Invalid},
		"no scope":          {func(_ *broker.ObjectionRequest, o *consent.Objection) { o.Scope = "" }, broker.Invalid},
		"ends before it begins": {func(_ *broker.ObjectionRequest, o *consent.Objection) {
			o.From, o.Until = time.Unix(100, 0), time.Unix(50, 0)
		}, broker.Invalid},
		"an unknown person":        {func(r *broker.ObjectionRequest, _ *consent.Objection) { h.tracer.standing[n] = record.Unknown }, broker.NotFound},
		"a person long since dead": {func(r *broker.ObjectionRequest, _ *consent.Objection) { h.tracer.standing[n] = record.Deceased }, broker.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			h.tracer.standing = map[record.NHSNumber]record.Standing{}
			req, o := objecting(n), good
			c.change(&req, &o)
			_, _, err := h.RecordObjection(t.Context(), req, o)
			if r := refusal(t, err); r.Kind != c.kind {
				t.Errorf("got %s, want %s", r.Kind, c.kind)
			}
		})
	}
	h.tracer.standing = map[record.NHSNumber]record.Standing{}
	if list, _, err := h.ShowObjections(t.Context(), objecting(n)); err != nil || len(list) != 0 {
		t.Fatalf("%v; %d objections came of refused ones", err, len(list))
	}
	o, receipt, err := h.RecordObjection(t.Context(), objecting(n), good)
	if err != nil || o.ID == "" || receipt.Origin == "" || o.AuthorUser != clinician.User || o.Status != consent.InForce {
		t.Fatalf("%v", err)
	}
	own := broker.ObjectionRequest{ID: "r", Face: "grpc", Subject: n, Requester: record.Requester{Kind: record.Person, User: "p", Own: n, Issuer: "i"}, Role: consent.Role{Name: "person", SeesObjections: true, RecordsObjections: true}}
	if list, _, err := h.ShowObjections(t.Context(), own); err != nil || len(list) != 1 {
		t.Errorf("the person sees %d of their objections, %v", len(list), err)
	}
	if _, _, err := h.WithdrawObjection(t.Context(), own, "no-such-id"); refusal(t, err).Kind != broker.Invalid {
		t.Errorf("withdrawing what is not there: %v", err)
	}
	res, err := h.Retrieve(t.Context(), question(n))
	if err != nil || res.Answer.Statuses[1].State != record.Withheld || res.Answer.Statuses[1].Rule != "C-2.7" {
		t.Errorf("%v; the acute trust is not withheld", err)
	}
	if o, _, err = h.WithdrawObjection(t.Context(), own, o.ID); err != nil || o.Status != consent.Withdrawn {
		t.Fatal(err)
	}
	if res, err = h.Retrieve(t.Context(), question(n)); err != nil || res.Answer.Statuses[1].State != record.Returned {
		t.Errorf("%v; after the withdrawal the acute trust is %s", err, res.Answer.Statuses[1].State)
	}
	verified(t, l)
}
