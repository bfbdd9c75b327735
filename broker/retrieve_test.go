package broker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

const ann = "9990000018"

// The whole: nine custodians, all in the answer, one receipt, faces alike.
func TestRetrieveAndStreamSayTheSame(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, nil)
	res, err := h.Retrieve(t.Context(), question(number(t, ann)))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range res.Answer.Statuses {
		if s.State != record.Returned || s.Shown != 2 {
			t.Errorf("%s: %s, %d shown, want returned and 2", s.Custodian.Key, s.State, s.Shown)
		}
	}
	if res.Answer.Total != 10 { // nine observations and our Patient
		t.Errorf("total %d, want 10", res.Answer.Total)
	}
	if res.Receipt.Position == 0 || res.Receipt.Origin == "" {
		t.Error("no receipt")
	}
	var r recorder
	req := question(number(t, ann))
	req.Face = "stream"
	if err := h.Stream(t.Context(), req, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.plan) != 9 || len(r.chunks) != 9 {
		t.Fatalf("plan %d, chunks %d, want 9 and 9", len(r.plan), len(r.chunks))
	}
	whole := map[string]string{}
	for _, e := range res.Answer.Entries {
		whole[e.FullURL] = string(e.JSON)
	}
	seen := 0
	for _, e := range append(r.entries, r.authored.Entries...) {
		if e.Custodian != "" && whole[e.FullURL] != string(e.JSON) {
			t.Errorf("a stream entry of %s differs from the whole answer's", e.Custodian)
		}
		seen++
	}
	if seen != len(whole) || len(r.order) != len(whole) {
		t.Errorf("stream has %d entries and an order of %d, whole has %d", seen, len(r.order), len(whole))
	}
	for i, e := range res.Answer.Entries {
		if r.order[i] != e.FullURL {
			t.Fatalf("order differs at %d", i)
		}
	}
	verified(t, l)
}

// H-01, P6: whatever is down, the answer says so, and never that it is whole. All 512 sets.
func TestEveryOutageSet(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, func(c *broker.Config) { c.BreakerFailures = 1 << 30 })
	n := number(t, ann)
	down := 0
	for i, s := range h.sources {
		s.answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
			if down&(1<<i) != 0 {
				return broker.Reply{}, broker.ErrUnavailable
			}
			return reply(string(s.key), q.Subject.Number, observation("o1", "2024-05-01", "x")), nil
		}
	}
	claimed := 0
	for down = 0; down < 1<<9; down += thinned { // 511 is a multiple of 7: the last set comes in any case
		res, err := h.Retrieve(t.Context(), question(n))
		if down == 1<<9-1 {
			if r := refusal(t, err); r.Kind != broker.Transient || len(r.Statuses) != 9 {
				t.Fatalf("all down: %s with %d statuses, want transient with 9", r.Kind, len(r.Statuses))
			}
			continue
		}
		if err != nil {
			t.Fatalf("set %09b: %v", down, err)
		}
		text := bundle(t, res.Answer)
		whole := true
		for i, s := range res.Answer.Statuses {
			want := record.Returned
			if down&(1<<i) != 0 {
				want = record.Unavailable
				if !strings.Contains(text, nine[i].Name) {
					t.Errorf("set %09b: the Bundle does not name %s", down, nine[i].Key)
				}
			}
			if s.State != want {
				t.Errorf("set %09b: %s is %s, want %s", down, s.Custodian.Key, s.State, want)
			}
			whole = whole && s.State == record.Returned
		}
		if whole && down != 0 || strings.Count(text, `"mode":"outcome"`) == 0 && down != 0 {
			claimed++
		}
	}
	if claimed != 0 {
		t.Errorf("%d of 511 incomplete answers claim to be whole", claimed)
	}
	verified(t, l)
}

// P1, L-8: a ledger that cannot record lets nobody be asked at Begin, and nothing be released at Release.
func TestLedgerFaults(t *testing.T) {
	for _, mode := range audittest.Faults() {
		for _, at := range []string{"begin", "release"} {
			t.Run(mode.String()+" at "+at, func(t *testing.T) {
				place := audittest.New(t, audit.Config{})
				faulty := place.Store
				h := open(t, place.Ledger, nil)
				req := question(number(t, ann))
				if at == "begin" {
					faulty.FailAll(mode)
				} else {
					h.sources[3].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
						faulty.FailAll(mode)
						return reply("community", q.Subject.Number, observation("o1", "2024", "x")), nil
					}
				}
				res, err := h.Retrieve(t.Context(), req)
				if res != nil {
					t.Fatal("an answer was released that the ledger did not acknowledge")
				}
				if r := refusal(t, err); r.Kind != broker.Transient {
					t.Errorf("got %s, want transient", r.Kind)
				}
				if asked := h.asked(); at == "begin" && asked != 0 {
					t.Errorf("%d custodians were asked without an entry", asked)
				}
			})
		}
	}
}

// A ledger slower than its deadline is one that cannot record.
func TestSlowLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := audittest.New(t, audit.Config{})
		faulty := place.Store
		h := open(t, place.Ledger, nil)
		faulty.Slow(10 * time.Second)
		_, err := h.Retrieve(t.Context(), question(number(t, ann)))
		if r := refusal(t, err); r.Kind != broker.Transient {
			t.Errorf("got %s, want transient", r.Kind)
		}
		if h.asked() != 0 {
			t.Error("custodians were asked before the entry was durable")
		}
	})
}

// P2: an objection acknowledged while custodians are being asked binds the answer that has not left.
func TestObjectionInFlight(t *testing.T) {
	for _, scope := range []consent.Objection{{Scope: consent.ToCustodian, Custodian: "acute"}, {Scope: consent.ToAll}, {Scope: consent.ToSection, Section: record.MentalHealth}} {
		for _, face := range []string{"whole", "stream"} {
			t.Run(string(scope.Scope)+" "+face, func(t *testing.T) {
				l := audittest.Open(t)
				h := open(t, l, nil)
				n := number(t, ann)
				var once sync.Once
				for _, s := range h.sources {
					s.answer = func(ctx context.Context, q broker.Query) (broker.Reply, error) {
						once.Do(func() {
							if _, _, err := h.RecordObjection(ctx, objecting(n), scope); err != nil {
								t.Error(err)
							}
						})
						return reply(string(s.key), q.Subject.Number, observation("o1", "2024-05-01", "planted-"+string(s.key))), nil
					}
				}
				var text string
				var err error
				if face == "whole" {
					var res *broker.Result
					if res, err = h.Retrieve(t.Context(), question(n)); err == nil {
						text = bundle(t, res.Answer)
					}
				} else {
					r := &recorder{}
					err = h.Stream(t.Context(), question(n), r)
					for _, e := range r.entries {
						text += string(e.JSON)
					}
				}
				switch scope.Scope {
				case consent.ToAll:
					if face == "whole" {
						if r := refusal(t, err); r.Kind != broker.Suppressed {
							t.Errorf("got %s, want suppressed", r.Kind)
						}
					}
				case consent.ToCustodian:
					if face == "whole" && (err != nil || strings.Contains(text, "planted-acute") || !strings.Contains(text, "planted-gp")) {
						t.Errorf("err %v; the acute trust's entry is in the answer, or the GP's is not", err)
					}
				case consent.ToSection:
					if face == "whole" && (err != nil || strings.Contains(text, "planted-mentalhealth")) {
						t.Errorf("err %v; a mental-health entry is in the answer", err)
					}
				}
				verified(t, l) // replays: no release violates the consent state at its position
			})
		}
	}
}

func objecting(n record.NHSNumber) broker.ObjectionRequest {
	return broker.ObjectionRequest{ID: "req-2", Face: "grpc", Requester: clinician, Role: clinical, Subject: n, BirthDate: "1950-02-03", Arrived: time.Now()}
}

// P2 under load: once an objection is acknowledged, no request that begins afterwards shows what it covers.
func TestObjectionUnderLoad(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, nil)
	n := number(t, ann)
	var objected, withdrawn sync.WaitGroup
	objected.Add(1)
	withdrawn.Add(1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 10 + 20/thinned {
				if i == 10 {
					objected.Wait()
				}
				res, err := h.Retrieve(context.Background(), question(n))
				if err != nil {
					t.Error(err)
					return
				}
				if i >= 10 && strings.Contains(bundle(t, res.Answer), "acute marker") {
					t.Error("shown after the objection was acknowledged")
				}
			}
		})
	}
	if _, _, err := h.RecordObjection(t.Context(), objecting(n), consent.Objection{Scope: consent.ToCustodian, Custodian: "acute"}); err != nil {
		t.Fatal(err)
	}
	objected.Done()
	wg.Wait()
	verified(t, l)
}

// six classes, one answer, at one time.
func TestNeutralAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := audittest.Open(t)
		h := open(t, l, func(c *broker.Config) { c.NeutralWait = 3250 * time.Millisecond })
		people := map[string]record.Standing{"9990000026": record.Unknown, "9990000034": record.Superseded, "9990000042": record.Invalidated,
			"9990000050": record.Restricted, "9990000069": record.Deceased, "9990000077": record.Live}
		for _, s := range h.sources {
			s.answer = func(context.Context, broker.Query) (broker.Reply, error) {
				time.Sleep(700 * time.Millisecond)
				return broker.Reply{}, broker.ErrNoRecord
			}
		}
		for digits, standing := range people {
			n := number(t, digits)
			if standing != record.Live {
				h.tracer.standing[n] = standing
			}
			before := time.Now()
			_, err := h.Retrieve(t.Context(), question(n))
			took := time.Since(before)
			r := refusal(t, err)
			if r.Kind != broker.NotFound || r.Reason != "" || r.Rule != "" || len(r.Statuses) != 0 || r.Receipt != (audit.Receipt{}) {
				t.Errorf("%s: the refusal tells the class: %s %q %q", standing, r.Kind, r.Reason, r.Rule)
			}
			if took != 3250*time.Millisecond {
				t.Errorf("%s: answered after %s, want 3.25s", standing, took)
			}
		}
		// A birth date that is not the person's is the same answer.
		req := question(number(t, "9990000085"))
		req.BirthDate = "1951-01-01"
		before := time.Now()
		_, err := h.Retrieve(t.Context(), req)
		if r := refusal(t, err); r.Kind != broker.NotFound || time.Since(before) != 3250*time.Millisecond {
			t.Errorf("birth date mismatch: %s after %s", r.Kind, time.Since(before))
		}
		verified(t, l)
	})
}

// A request that came too late for custodians to be heard before neutral answers leave is refused in the same words whoever it is about, and nobody is traced.
func TestTooLateForNeutralAnswers(t *testing.T) {
	h := open(t, audittest.Open(t), nil)
	h.tracer.heard = func(record.NHSNumber) { t.Error("somebody was traced") }
	h.tracer.standing[number(t, "9990000026")] = record.Unknown
	for _, digits := range []string{ann, "9990000026"} {
		req := question(number(t, digits))
		req.Arrived = time.Now().Add(-2600 * time.Millisecond) // of 3.25 s, of which 250 ms are kept back; the least is 500 ms
		_, err := h.Retrieve(t.Context(), req)
		if r := refusal(t, err); r.Kind != broker.OutOfTime || h.asked() != 0 {
			t.Errorf("%s: %s, %d custodians asked", h.tracer.standing[req.Subject], r.Kind, h.asked())
		}
	}
}

// The table of answers to a whole request (design section 3).
func TestOutcomes(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	n := number(t, ann)
	all := func(err error) {
		for _, s := range h.sources {
			s.answer = func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, err }
		}
	}
	all(broker.ErrWithheld)
	res, err := h.Retrieve(t.Context(), question(n))
	if err != nil || !res.Nothing || res.Answer.Total != 0 || len(res.Answer.Entries) != 9 {
		t.Errorf("all withheld: %v; want nothing with nine outcomes", err)
	}
	all(broker.ErrNoRecord)
	if _, err = h.Retrieve(t.Context(), question(n)); refusal(t, err).Kind != broker.NotFound {
		t.Errorf("nobody holds anything: %v", err)
	}
	all(broker.ErrUnauthorised)
	if _, err = h.Retrieve(t.Context(), question(n)); refusal(t, err).Kind != broker.Transient {
		t.Errorf("all in trouble: %v", err)
	}
	h.tracer.fail.Store(true)
	before := h.asked()
	if _, err = h.Retrieve(t.Context(), question(n)); refusal(t, err).Kind != broker.Transient || h.asked() != before {
		t.Errorf("trace down: %v, or custodians were asked", err)
	}
	h.tracer.fail.Store(false)
	for _, c := range []struct {
		change func(*broker.Request)
		kind   broker.Kind
		reason consent.Reason
	}{
		{func(r *broker.Request) { r.Permission = record.Permission{} }, broker.Forbidden, consent.ReasonPermission},
		{func(r *broker.Request) { r.Permission.Kind = record.AskedNo }, broker.Forbidden, consent.ReasonAskedNo},
		{func(r *broker.Request) { r.Relationship = record.Relationship{} }, broker.Forbidden, consent.ReasonRelationship},
		{func(r *broker.Request) { r.Role = consent.Role{Name: "none"} }, broker.Forbidden, consent.ReasonRole},
		{func(r *broker.Request) { r.Purpose = record.PatientAccess }, broker.Forbidden, consent.ReasonPurpose},
		{func(r *broker.Request) { r.TokenProblem = consent.ReasonNoActingPerson }, broker.Forbidden, consent.ReasonNoActingPerson},
	} {
		req := question(n)
		c.change(&req)
		before := h.asked()
		_, err := h.Retrieve(t.Context(), req)
		if r := refusal(t, err); r.Kind != c.kind || r.Reason != c.reason || r.Receipt.Origin == "" {
			t.Errorf("got %s %s, want %s %s with a receipt", r.Kind, r.Reason, c.kind, c.reason)
		}
		if h.asked() != before {
			t.Errorf("%s: custodians were asked", c.reason)
		}
	}
	if _, _, err := h.RecordObjection(t.Context(), objecting(n), consent.Objection{Scope: consent.ToAll}); err != nil {
		t.Fatal(err)
	}
	_, err = h.Retrieve(t.Context(), question(n))
	if r := refusal(t, err); r.Kind != broker.Suppressed || len(r.Statuses) != 9 || r.Statuses[0].Custodian.Contact == "" {
		t.Errorf("objection to all: %s with %d contacts", r.Kind, len(r.Statuses))
	}
	verified(t, l)
}

// too little time is refused at once, and recorded; room is reserved before Begin.
func TestBudgetAndRoom(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, func(c *broker.Config) { c.RequestBytes, c.MaxInFlightBytes = 4<<20, 4<<20 })
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	_, err := h.Broker.Retrieve(ctx, question(number(t, ann)))
	if r := refusal(t, err); r.Kind != broker.OutOfTime || h.asked() != 0 {
		t.Errorf("got %s", r.Kind)
	}
	inside, release := make(chan struct{}), make(chan struct{})
	h.sources[0].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
		close(inside)
		<-release
		return broker.Reply{}, broker.ErrNoRecord
	}
	done := make(chan error, 1)
	go func() {
		res, err := h.Broker.Retrieve(context.Background(), question(number(t, ann)))
		res.Done()
		done <- err
	}()
	<-inside
	_, err = h.Broker.Retrieve(t.Context(), question(number(t, ann)))
	if r := refusal(t, err); r.Kind != broker.Overloaded || r.RetryAfter == 0 {
		t.Errorf("got %s, want overloaded with a time to come back", r.Kind)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.sources[0].answer = nil
	res, err := h.Broker.Retrieve(t.Context(), question(number(t, ann)))
	if err != nil {
		t.Fatalf("room was not given back: %v", err)
	}
	// Until the answer has been written, it takes its room.
	if _, err = h.Broker.Retrieve(t.Context(), question(number(t, ann))); refusal(t, err).Kind != broker.Overloaded {
		t.Errorf("got %v while an answer is being written, want overloaded", err)
	}
	res.Done()
	res.Done()
	if res, err = h.Broker.Retrieve(t.Context(), question(number(t, ann))); err != nil {
		t.Errorf("room was not given back: %v", err)
	}
	res.Done()
	verified(t, l)
}

// P8: a custodian that panics, hangs or ignores its context costs its own place.
func TestOneBadCustodian(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, bad := range map[string]func(context.Context, broker.Query) (broker.Reply, error){
			"panic": func(context.Context, broker.Query) (broker.Reply, error) { panic("Ann Ashdown 9990000018") },
			"hang": func(ctx context.Context, _ broker.Query) (broker.Reply, error) {
				<-ctx.Done()
				return broker.Reply{}, ctx.Err()
			},
			"deaf": func(context.Context, broker.Query) (broker.Reply, error) {
				time.Sleep(time.Minute)
				return broker.Reply{}, nil
			},
			"liar": func(_ context.Context, q broker.Query) (broker.Reply, error) {
				return reply("acute", must("9990000026"), observation("o1", "2024", "x")), nil
			},
			"too much": func(_ context.Context, q broker.Query) (broker.Reply, error) {
				if !q.Limits.Take(3<<20) || !q.Limits.Take(30<<20) {
					return broker.Reply{}, errors.New("33 MiB do not fit into a share of 3.5 and a common half of 32")
				}
				if q.Limits.Take(4 << 20) {
					return broker.Reply{}, errors.New("37 MiB fit")
				}
				return broker.Reply{}, broker.ErrTooMuch
			},
		} {
			want := map[string][2]string{"panic": {"failed", "panic"}, "hang": {"timed-out", "timeout"}, "deaf": {"timed-out", "timeout"},
				"liar": {"failed", "wrong-patient"}, "too much": {"failed", "request-full"}}[name]
			l := audittest.Open(t)
			h := open(t, l, nil)
			h.sources[1].answer = bad
			before := time.Now()
			res, err := h.Retrieve(t.Context(), question(number(t, ann)))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if took := time.Since(before); took > 3*time.Second+100*time.Millisecond {
				t.Errorf("%s: took %s", name, took)
			}
			for i, s := range res.Answer.Statuses {
				if w := record.Returned; i != 1 && s.State != w {
					t.Errorf("%s: %s is %s", name, s.Custodian.Key, s.State)
				}
			}
			if s := res.Answer.Statuses[1]; string(s.State) != want[0] || s.Reason != want[1] {
				t.Errorf("%s: %s %s, want %s", name, s.State, s.Reason, want)
			}
			verified(t, l)
			time.Sleep(2 * time.Minute) // let the deaf one end inside the bubble
		}
	})
}

func must(s string) record.NHSNumber {
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		panic(err)
	}
	return n
}

// a breaker opens on illness, not on callers who leave; lets one probe through; closes again.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := audittest.Open(t)
		h := open(t, l, nil)
		acute := h.sources[1]
		n := number(t, ann)
		state := func() string { return h.Custodians()[1].Breaker }

		// Fifty callers who hang up while the custodian is slow.
		acute.answer = func(ctx context.Context, _ broker.Query) (broker.Reply, error) {
			<-ctx.Done()
			return broker.Reply{}, ctx.Err()
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				go func() {
					time.Sleep(time.Second)
					cancel()
				}()
				_, err := h.Retrieve(ctx, question(n))
				if r := refusal(t, err); r.Kind != broker.Gone && r.Kind != broker.Overloaded {
					t.Errorf("got %s", r.Kind)
				}
			})
		}
		wg.Wait()
		synctest.Wait() // calls of callers who left may have only begun
		if state() != "closed" {
			t.Fatalf("breaker %s after fifty callers hung up", state())
		}
		if s := h.Custodians()[1].LastState; s != "" {
			t.Errorf("the last answer is %s: callers who hang up say nothing of the custodian", s)
		}

		// Illness opens it, and then nobody waits for it.
		acute.answer = func(context.Context, broker.Query) (broker.Reply, error) {
			return broker.Reply{}, broker.ErrUnavailable
		}
		for range 5 {
			if _, err := h.Retrieve(t.Context(), question(n)); err != nil {
				t.Fatal(err)
			}
		}
		if state() != "open" {
			t.Fatalf("breaker %s after five failures", state())
		}
		before := acute.asked.Load()
		res, err := h.Retrieve(t.Context(), question(n))
		if err != nil || acute.asked.Load() != before {
			t.Fatalf("an open breaker let a call through, or the answer failed: %v", err)
		}
		for _, s := range res.Answer.Statuses { // an answer without it does not look whole (P6)
			if s.Custodian.Key == "acute" && (s.State != record.Unavailable || s.Reason != "breaker-open") {
				t.Errorf("a custodian whose breaker is open is %s (%s), want unavailable (breaker-open)", s.State, s.Reason)
			}
		}

		// Half open: exactly one of many goes through.
		time.Sleep(16 * time.Second)
		if state() != "half-open" {
			t.Fatalf("breaker %s after its time", state())
		}
		gate := make(chan struct{})
		acute.answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
			<-gate
			return reply("acute", q.Subject.Number, observation("o1", "2024", "x")), nil
		}
		for range 10 {
			wg.Go(func() {
				if _, err := h.Retrieve(context.Background(), question(n)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := acute.asked.Load() - before; got != 1 {
			t.Errorf("%d probes went through, want 1", got)
		}
		close(gate)
		wg.Wait()
		if state() != "closed" {
			t.Errorf("breaker %s after a good probe", state())
		}
		verified(t, l)
	})
}

// Section 3: a neutral answer names the custodians in trouble as they were when the request came. One that asks, and finds a custodian well again, names it
// like one that asks nobody.
func TestNeutralAnswerIsNotItsOwnProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unknown, nobody := number(t, "9990000026"), number(t, "9990000034")
		for _, n := range []record.NHSNumber{unknown, nobody} {
			h := open(t, audittest.Open(t), func(c *broker.Config) { c.BreakerFailures = 1 })
			h.tracer.standing[unknown] = record.Unknown
			for _, s := range h.sources {
				s.answer = func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, broker.ErrNoRecord }
			}
			h.sources[0].answer = func(context.Context, broker.Query) (broker.Reply, error) {
				return broker.Reply{}, broker.ErrUnavailable
			}
			if _, err := h.Retrieve(t.Context(), question(number(t, ann))); refusal(t, err).Kind != broker.Transient {
				t.Fatal(err)
			}
			h.sources[0].answer = h.sources[1].answer
			time.Sleep(16 * time.Second)
			_, err := h.Retrieve(t.Context(), question(n))
			r := refusal(t, err)
			if r.Kind != broker.NotFound || len(r.Statuses) != 1 || r.Statuses[0].Custodian.Key != "gp" {
				t.Errorf("unknown %v: %s, %d custodians in trouble, want gp", n == unknown, r.Kind, len(r.Statuses))
			}
			want := map[bool]string{true: "half-open", false: "closed"}[n == unknown]
			if got := h.Custodians()[0].Breaker; got != want {
				t.Errorf("unknown %v: the breaker is %s, want %s", n == unknown, got, want)
			}
		}
	})
}

// A short budget says nothing about the custodian.
func TestShortBudgetIsNoIllness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := audittest.Open(t)
		h := open(t, l, nil)
		h.sources[1].answer = func(ctx context.Context, _ broker.Query) (broker.Reply, error) {
			<-ctx.Done()
			return broker.Reply{}, broker.ErrTimedOut
		}
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			res, err := h.Retrieve(ctx, question(number(t, ann)))
			cancel()
			if err != nil || res.Answer.Statuses[1].State != record.TimedOut {
				t.Fatalf("%v", err)
			}
		}
		if b := h.Custodians()[1].Breaker; b != "closed" {
			t.Errorf("breaker %s", b)
		}
	})
}

// A stream whose caller leaves ends, and its access is closed as cancelled.
func TestStreamCallerLeaves(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, nil)
	r := &recorder{onChunk: func(record.Status) error { return errors.New("gone") }}
	err := h.Stream(t.Context(), question(number(t, ann)), r)
	if x := refusal(t, err); x.Kind != broker.Gone {
		t.Errorf("got %s", x.Kind)
	}
	if open := l.Stats().Open; open != 0 {
		t.Errorf("%d accesses are still open", open)
	}
	verified(t, l)
}
