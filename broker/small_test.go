package broker_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
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

// T-21: an IG officer sees accesses by their own staff whole, and of others' accesses only what concerns their own records.
func TestOfficersSeeTheirOwn(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, nil)
	n := number(t, ann)
	if _, err := h.Retrieve(t.Context(), question(n)); err != nil {
		t.Fatal(err)
	}
	req := question(n)
	req.Face = "stream"
	if err := h.Stream(t.Context(), req, &recorder{}); err != nil {
		t.Fatal(err)
	}
	req = question(n)
	req.Permission = record.Permission{}
	if _, err := h.Retrieve(t.Context(), req); refusal(t, err).Kind != broker.Forbidden {
		t.Fatal(err)
	}
	ask := func(org record.ODSCode) []audit.Found {
		t.Helper()
		found, _, _, err := h.SearchAccesses(t.Context(), broker.SearchRequest{ID: "s", Face: "grpc", Reason: "a test", Role: consent.Role{Name: "ig", SearchesLedger: true},
			Requester: record.Requester{Kind: record.Professional, User: "ig1", Organisation: org, Issuer: "i"}, Query: audit.Search{Limit: 1000, Custodians: []record.CustodianKey{"gp"}}})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, f := range ask("X9G01") { // the pharmacy
		if f.Type == audit.TypeRefused {
			t.Error("sees a refusal that concerned nobody's record")
		}
		if f.Access != nil && f.Actor == nil {
			for _, k := range f.Access.Asked {
				if k != "pharmacy" {
					t.Errorf("sees that %s was asked", k)
				}
			}
			for _, c := range f.Access.Decision.Custodians {
				if c.Key != "pharmacy" {
					t.Errorf("sees what was decided of %s", c.Key)
				}
			}
		}
		if f.Disclosure != nil {
			if len(f.Disclosure.Custodians) != 1 || f.Disclosure.Custodians[0].Key != "pharmacy" || f.Disclosure.Total != 0 {
				t.Errorf("entry %s shows %d custodians' parts and a total of %d", f.Type, len(f.Disclosure.Custodians), f.Disclosure.Total)
			}
		}
	}
	refused, asked := 0, 0
	for _, f := range ask(clinician.Organisation) {
		if f.Type == audit.TypeRefused {
			refused++
		}
		if f.Access != nil {
			asked = max(asked, len(f.Access.Asked))
		}
	}
	if refused != 1 || asked != 9 {
		t.Errorf("the staff's own officer sees %d refusals and at most %d custodians asked, want 1 and 9", refused, asked)
	}
	if found := ask("X9Q99"); len(found) > 0 {
		for _, f := range found {
			if f.Actor == nil || f.Actor.Requester.Organisation != "X9Q99" {
				t.Errorf("an organisation with no part in anything sees entry %s", f.Type)
			}
		}
	}
	if _, _, _, err := h.SearchAccesses(t.Context(), broker.SearchRequest{ID: "s", Face: "grpc", Reason: "a test", Role: consent.Role{Name: "ig", SearchesLedger: true},
		Requester: record.Requester{Kind: record.Professional, User: "ig1", Issuer: "i"}}); refusal(t, err).Kind != broker.Forbidden {
		t.Errorf("an officer of no organisation: %v", err)
	}
	verified(t, l)
}

// A stream about somebody whom nobody holds is like every other neutral answer: nothing comes before it.
func TestNeutralStream(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	for _, s := range h.sources {
		s.answer = func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, broker.ErrNoRecord }
	}
	before := time.Now()
	r := &recorder{}
	err := h.Stream(t.Context(), question(number(t, ann)), r)
	if x := refusal(t, err); x.Kind != broker.NotFound || r.plan != nil || len(r.chunks) != 0 || time.Since(before) < 250*time.Millisecond {
		t.Errorf("got %s after %s, with a plan: %t, %d chunks", x.Kind, time.Since(before), r.plan != nil, len(r.chunks))
	}
	// As soon as somebody holds something, everything comes, those without a record too.
	h.sources[8].answer = nil
	r = &recorder{}
	if err := h.Stream(t.Context(), question(number(t, ann)), r); err != nil || len(r.plan) != 9 || len(r.chunks) != 9 {
		t.Errorf("%v; plan of %d, %d chunks", err, len(r.plan), len(r.chunks))
	}
	verified(t, l)
}

// Health is of the custodian, never of a person: it does not move while all goes well.
func TestHealthTellsNothingOfAPerson(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	n := number(t, ann)
	for _, answer := range []func(context.Context, broker.Query) (broker.Reply, error){nil,
		func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, broker.ErrNoRecord },
		func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, broker.ErrWithheld }} {
		h.sources[0].answer = answer
		if _, err := h.Retrieve(t.Context(), question(n)); err != nil {
			t.Fatal(err)
		}
		if c := h.Custodians()[0]; c.LastState != "" || !c.LastAnswer.IsZero() {
			t.Errorf("health says %s", c.LastState)
		}
	}
	h.sources[0].answer = func(context.Context, broker.Query) (broker.Reply, error) {
		return broker.Reply{}, broker.ErrUnavailable
	}
	_, _ = h.Retrieve(t.Context(), question(n)) // the answer is of no matter here
	if c := h.Custodians()[0]; c.LastState != record.Unavailable || c.LastAnswer.IsZero() {
		t.Errorf("health says %q of a custodian in trouble", c.LastState)
	}
	h.sources[0].answer = func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, broker.ErrNoRecord }
	_, _ = h.Retrieve(t.Context(), question(n)) // the answer is of no matter here
	if c := h.Custodians()[0]; c.LastState != record.Returned {
		t.Errorf("health says %q of one that answers again", c.LastState)
	}
}

// P6: a custodian that was withheld when the others were asked stays named, also when the objection goes meanwhile.
func TestCustodianNotAskedStaysNamed(t *testing.T) {
	for _, face := range []string{"whole", "stream"} {
		l := audittest.Open(t)
		h := open(t, l, nil)
		n := number(t, ann)
		o, _, err := h.RecordObjection(t.Context(), objecting(n), consent.Objection{Scope: consent.ToCustodian, Custodian: "acute"})
		if err != nil {
			t.Fatal(err)
		}
		h.sources[0].answer = func(ctx context.Context, q broker.Query) (broker.Reply, error) {
			if _, _, err := h.WithdrawObjection(ctx, objecting(n), o.ID); err != nil {
				t.Error(err)
			}
			if _, _, err := h.RecordObjection(ctx, objecting(n), consent.Objection{Scope: consent.ToCustodian, Custodian: "gp"}); err != nil {
				t.Error(err)
			}
			return reply("gp", q.Subject.Number, observation("o1", "2024", "x")), nil
		}
		var statuses []record.Status
		if face == "whole" {
			res, err := h.Retrieve(t.Context(), question(n))
			if err != nil {
				t.Fatal(err)
			}
			statuses = res.Answer.Statuses
		} else {
			r := &recorder{}
			if err := h.Stream(t.Context(), question(n), r); err != nil {
				t.Fatal(err)
			}
			statuses = r.authored.Statuses
		}
		if len(statuses) != 9 || statuses[1].State != record.Withheld {
			t.Errorf("%s: the acute trust, which was not asked, is %q", face, statuses[1].State)
		}
		verified(t, l)
	}
}

// P8: who takes all the room that it can, and hangs, takes nobody else's.
func TestNobodyIsStarved(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	for _, i := range []int{1, 2} {
		h.sources[i].answer = func(ctx context.Context, q broker.Query) (broker.Reply, error) {
			for q.Limits.Take(1 << 20) {
			}
			<-ctx.Done()
			return broker.Reply{}, ctx.Err()
		}
	}
	for _, i := range []int{0, 3, 4, 5, 6, 7, 8} {
		s := h.sources[i]
		s.answer = func(ctx context.Context, q broker.Query) (broker.Reply, error) {
			time.Sleep(50 * time.Millisecond) // the others have taken theirs
			if !q.Limits.Take(1 << 20) {
				return broker.Reply{}, broker.ErrTooMuch
			}
			return reply(string(s.key), q.Subject.Number, observation("o1", "2024", "x")), nil
		}
	}
	res, err := h.Retrieve(t.Context(), question(number(t, ann)))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range res.Answer.Statuses {
		want := record.Returned
		if i == 1 || i == 2 {
			want = record.TimedOut
		}
		if s.State != want {
			t.Errorf("%s is %s, want %s", s.Custodian.Key, s.State, want)
		}
	}
}

// P8, section 6: a custodian whose answer waits for room in this process until its time ends is not called ill or slow, and the answer says what it was.
func TestNoRoomIsNoIllness(t *testing.T) {
	h := open(t, audittest.Open(t), func(c *broker.Config) {
		quick(c)
		c.NeutralWait, c.Request, c.MaxInFlightBytes, c.RequestBytes = 400*time.Millisecond, 3*time.Second, 8<<20, 8<<20
	})
	slow, err := h.Broker.Retrieve(t.Context(), question(number(t, ann))) // its reader is slow
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Done()
	h.sources[0].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
		for range 17 {
			if !q.Limits.Take(64 << 10) {
				return broker.Reply{}, broker.ErrTooMuch
			}
		}
		return reply("gp", q.Subject.Number, observation("o1", "2024-05-01", "x")), nil
	}
	for range 6 {
		res, err := h.Retrieve(t.Context(), question(number(t, "9990000026")))
		if err != nil {
			t.Fatal(err)
		}
		if s := res.Answer.Statuses[0]; s.State != record.Failed || s.Reason != "request-full" {
			t.Errorf("gp is %s, %s", s.State, s.Reason)
		}
		res.Done()
	}
	if c := h.Custodians()[0]; c.Breaker != "closed" {
		t.Errorf("the breaker of a healthy custodian is %s", c.Breaker)
	}
}
