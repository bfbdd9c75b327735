package test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// Figures of the demo's breakers, which are the defaults of the broker.
const (
	breakerFailures = 5
	breakerOpen     = 15 * time.Second
)

// breakers holds R-6 over sockets. A breaker stays closed when callers hang up and when a custodian says no; it opens on five failures
// in a row, of whichever kind; while it is open the custodian is left alone and answers say so; after its time one request is let
// through, and what becomes of that one decides. ListCustodians and the metrics show each step.
func breakers(t *testing.T, program string) {
	d := startDrill(t, program)

	t.Run("50 callers who hang up", func(t *testing.T) { hangUps(t, d, "acute") })
	t.Run("custodians who say no", func(t *testing.T) {
		saying := map[string]string{"acute": "unauthorised", "mentalhealth": "mixed-patients", "ambulance": "no-consent", "nhs111": "no-record"}
		setAll(t, d, saying)
		for range breakerFailures + 1 {
			v := d.rest(t)
			for key, want := range map[string]string{"acute": "failed", "mentalhealth": "returned-in-part", "ambulance": "withheld", "nhs111": "no-record"} {
				if v.said[key].state != want {
					t.Errorf("%s is %s, want %s", key, v.said[key].state, want)
				}
			}
		}
		breakersAre(t, d, map[string]mycarerecordv1.BreakerState{})
		heal(t, d, saying)
	})

	// Eight of nine fall ill, each in its own way. The five requests run at once, so that what hangs takes its time only once.
	ill := map[string]string{"acute": "hang", "mentalhealth": "down", "community": "error500", "socialcare": "garbage", "ambulance": "wrong-patient",
		"pharmacy": "page-elsewhere", "nhs111": "truncated", "outofhours": "duplicate-keys"}
	states := map[string]string{"acute": "timed-out", "mentalhealth": "unavailable", "community": "failed", "socialcare": "failed", "ambulance": "failed",
		"pharmacy": "failed", "nhs111": "failed", "outofhours": "failed"}
	open := map[string]mycarerecordv1.BreakerState{}
	for key := range ill {
		open[key] = mycarerecordv1.BreakerState_BREAKER_STATE_OPEN
	}
	setAll(t, d, ill)
	falling := time.Now() // the first breaker opens after this
	var calls sync.WaitGroup
	for range breakerFailures {
		calls.Go(func() {
			v := d.rest(t)
			for key, want := range states {
				if v.said[key].state != want || len(v.shown[key]) > 0 {
					t.Errorf("%s is %s and shows %d resources, want %s and none", key, v.said[key].state, len(v.shown[key]), want)
				}
			}
			if len(v.shown["gp"]) != len(d.shown["gp"]) {
				t.Error("gp, which is well, is not shown whole")
			}
		})
	}
	calls.Wait()
	opened := time.Now() // and the last before this
	breakersAre(t, d, open)

	t.Run("open", func(t *testing.T) {
		before := asked(t, d)
		v := d.rest(t)
		for key := range ill {
			if got := v.said[key]; got.state != "unavailable" || got.reason != "breaker-open" {
				t.Errorf("%s is %s (%s), want unavailable (breaker-open)", key, got.state, got.reason)
			}
		}
		if len(v.shown["gp"]) != len(d.shown["gp"]) {
			t.Error("gp, which is well, is not shown whole")
		}
		after := asked(t, d)
		for key := range ill {
			if after[key] != before[key] {
				t.Errorf("%s was asked although its breaker is open", key)
			}
		}
		if after["gp"] == before["gp"] {
			t.Error("gp was not asked")
		}
		if v.took > custodianTime {
			t.Errorf("took %v, although nobody had to be waited for", v.took)
		}
	})

	const still = "mentalhealth" // the one that stays ill
	until(t, falling.Add(breakerOpen-2*time.Second))
	breakersAre(t, d, open) // nobody's time is over
	until(t, opened.Add(breakerOpen+500*time.Millisecond))
	halfOpen := map[string]mycarerecordv1.BreakerState{}
	for key := range ill {
		halfOpen[key] = mycarerecordv1.BreakerState_BREAKER_STATE_HALF_OPEN
	}
	breakersAre(t, d, halfOpen)

	t.Run("half open, and the caller of the one that is let through hangs up", func(t *testing.T) {
		for key := range ill {
			d.n.Fault(t, key, "hang", 0, 0)
		}
		leave(t, d, "acute", 1)
		breakersAre(t, d, halfOpen)
		// Well again, and slow enough for others to come while the one that is let through is still on its way.
		for key := range ill {
			if key != still {
				d.n.Fault(t, key, "slow", 0, 300)
			}
		}
		d.n.Fault(t, still, "down", 0, 0)
	})
	t.Run("half open", func(t *testing.T) {
		before := asked(t, d)
		var probe view
		over := make(chan struct{})
		go func() {
			defer close(over)
			probe = d.rest(t)
		}()
		defer func() { <-over }() // it speaks to t
		for began, all := time.Now(), false; !all; until(t, time.Now().Add(5*time.Millisecond)) {
			all = true
			for key, n := range asked(t, d) {
				all = all && n > before[key]
			}
			if time.Since(began) > custodianTime {
				t.Fatal("not everybody was asked by the one that is let through")
			}
		}
		meanwhile := 0
		for range 5 {
			v := d.rest(t)
			select {
			case <-over:
				continue // it came too late to be turned away
			default:
			}
			meanwhile++
			for key := range ill {
				if v.said[key].reason != "breaker-open" && key != still {
					t.Errorf("%s, of which one request is finding out, is %s (%s) to another, want breaker-open", key, v.said[key].state, v.said[key].reason)
				}
			}
		}
		<-over
		t.Logf("%d came while it was on its way", meanwhile)
		if meanwhile == 0 {
			t.Error("none came while it was on its way")
		}
		for key := range ill {
			if shown := len(probe.shown[key]); (shown == len(d.shown[key])) != (key != still) {
				t.Errorf("%s shows %d resources to the one that is let through, of %d", key, shown, len(d.shown[key]))
			}
		}
		if n := asked(t, d)[still] - before[still]; n != 1 {
			t.Errorf("%s, still down, was asked %d times, want once", still, n)
		}
	})
	breakersAre(t, d, map[string]mycarerecordv1.BreakerState{still: mycarerecordv1.BreakerState_BREAKER_STATE_OPEN})
	heal(t, d, ill)
	v := d.rest(t)
	for key, want := range d.shown {
		if key != still && len(v.shown[key]) != len(want) {
			t.Errorf("%s, well again and with its breaker closed, shows %d resources, want %d", key, len(v.shown[key]), len(want))
		}
	}
}

// hangUps lets 50 callers ask, half of them by REST and half by gRPC, and leave while a custodian keeps them waiting.
func hangUps(t *testing.T, d *drill, key string) {
	t.Helper()
	d.n.Fault(t, key, "hang", 0, 0)
	for range 10 {
		leave(t, d, key, 5)
	}
	breakersAre(t, d, map[string]mycarerecordv1.BreakerState{})
	if h := d.health(t)[key]; word(h.GetLastState()) != "unspecified" {
		t.Errorf("ListCustodians says that %s was %s: callers who left say nothing about it", key, word(h.GetLastState()))
	}
	d.n.Fault(t, key, "none", 0, 0)
	d.check(t, d.rest(t), fault{name: "nothing", whole: true}, "")
}

// leave lets callers ask, and hang up when all of them have reached a custodian that keeps them waiting. It returns when the broker has heard.
func leave(t *testing.T, d *drill, key string, callers int) {
	t.Helper()
	ctx, hangUp := context.WithCancel(t.Context())
	before, cancelled := asked(t, d)[key], d.cancelled(t)
	var calls sync.WaitGroup
	for i := range callers {
		if i%2 == 0 {
			calls.Go(func() {
				header := neighbourhood.Treating(d.token())
				header.Set("Content-Type", "application/fhir+json")
				if res, err := d.n.Do(ctx, http.MethodPost, d.n.REST+"/fhir/Patient/$everything", header, parameters(t, cohort.Margaret)); err == nil {
					t.Errorf("a caller got %v before it could hang up", res)
				}
			})
			continue
		}
		calls.Go(func() {
			calling, cancel := context.WithCancel(neighbourhood.Bearing(t, d.token()))
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			if _, err := mycarerecordv1.NewRecordServiceClient(d.conn).GetRecord(calling, &mycarerecordv1.GetRecordRequest{NhsNumber: cohort.Margaret,
				Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT, Permission: askedYes, Relationship: admission}); err == nil {
				t.Error("a caller got an answer before it could hang up")
			}
		})
	}
	for began := time.Now(); asked(t, d)[key]-before < callers; until(t, time.Now().Add(10*time.Millisecond)) {
		if time.Since(began) > custodianTime-500*time.Millisecond {
			hangUp()
			calls.Wait()
			t.Fatalf("%d of %d callers have reached the custodian", asked(t, d)[key]-before, callers)
		}
	}
	hangUp()
	calls.Wait()
	for began := time.Now(); d.cancelled(t)-cancelled < callers; until(t, time.Now().Add(20*time.Millisecond)) {
		if time.Since(began) > custodianTime {
			t.Fatalf("metrics count %d requests more that were cancelled, want %d", d.cancelled(t)-cancelled, callers)
		}
	}
}

func (d *drill) cancelled(t *testing.T) int {
	t.Helper()
	return samples(t, d.n.Metrics(t), "mcr_requests_total", "outcome")[[2]string{"cancelled"}]
}

// setAll sets a fault for each of several custodians.
func setAll(t *testing.T, d *drill, faults map[string]string) {
	t.Helper()
	for key, f := range faults {
		d.n.Fault(t, key, f, 0, 0)
	}
}

func heal(t *testing.T, d *drill, faults map[string]string) {
	t.Helper()
	for key := range faults {
		d.n.Fault(t, key, "none", 0, 0)
	}
}

// asked counts what each custodian was asked about people.
func asked(t *testing.T, d *drill) map[string]int {
	t.Helper()
	out := map[string]int{}
	for key := range d.n.Sources {
		out[key] = d.n.Requests(t, key).Record
	}
	return out
}

// until waits for a time, or the end of the test.
func until(t *testing.T, at time.Time) {
	t.Helper()
	select {
	case <-time.After(time.Until(at)):
	case <-t.Context().Done():
	}
}

// breakersAre holds ListCustodians and the metrics to the breakers that are not closed.
func breakersAre(t *testing.T, d *drill, notClosed map[string]mycarerecordv1.BreakerState) {
	t.Helper()
	numbers := map[mycarerecordv1.BreakerState]int{mycarerecordv1.BreakerState_BREAKER_STATE_HALF_OPEN: 1, mycarerecordv1.BreakerState_BREAKER_STATE_OPEN: 2}
	health, gauge := d.health(t), samples(t, d.n.Metrics(t), "mcr_breaker_state", "custodian")
	for key := range d.n.Sources {
		want, is := notClosed[key]
		if !is {
			want = mycarerecordv1.BreakerState_BREAKER_STATE_CLOSED
		}
		if got := health[key].GetBreaker(); got != want {
			t.Errorf("ListCustodians says that the breaker of %s is %v, want %v", key, got, want)
		}
		if got := gauge[[2]string{key}]; got != numbers[want] {
			t.Errorf("metrics say %d of the breaker of %s, want %d", got, key, numbers[want])
		}
	}
}
