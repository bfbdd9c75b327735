package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/postgres"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/hints"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/services"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// twoReplicas are two brokers, each with a ledger of its own on one PostgreSQL database and hints of its own on one Redis.
func twoReplicas(t *testing.T, redis *services.RedisServer) [2]*house {
	t.Helper()
	server := services.PostgreSQL(t)
	database := server.URL(server.Database(t))
	keys, err := audit.CreateKeys(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	checkpoints := filepath.Join(t.TempDir(), "ledger") // one place outside the store, as a witness is
	var out [2]*house
	for i := range out {
		told, err := hints.Open(hints.Config{Address: redis.Address(), Key: bytes.Repeat([]byte{7}, 32)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(told.Close)
		store, err := postgres.Open(t.Context(), postgres.Config{Connection: database, Replica: fmt.Sprint("replica-", i), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		c := audit.Config{Store: store, Keys: keys, Origin: "mycarerecord.example/replicas", Replica: fmt.Sprint("replica-", i), Changed: told.Changed, Deadline: 30 * time.Second}
		c.Sinks = audittest.Sinks(t, c, checkpoints)
		ledger, err := audit.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := ledger.Shutdown(ctx); err != nil {
				t.Errorf("ending: %v", err)
			}
			_ = store.Close()
		})
		out[i] = open(t, ledger, func(c *broker.Config) {
			c.Hints, c.Request = told, 60*time.Second // this machine may be slow; what is tested is not how fast it is
		})
	}
	return out
}

// L-7: whatever becomes of Redis, no objection that was acknowledged is passed over on either replica, and no request fails that would not have failed
// without it.
func TestHintsUnderLoad(t *testing.T) {
	redis := services.Redis(t)
	houses := twoReplicas(t, redis)
	numbers := []string{"9990000018", "9990000026", "9990000034", "9990000042"}
	rounds := 2
	if os.Getenv("MCR_TORTURE") == "long" {
		rounds = 30
	}
	var requests, disclosures, failures atomic.Int64
	round := func(worker, n int) {
		who := number(t, numbers[worker])
		here, there := houses[(worker+n)%2], houses[(worker+n+1)%2]
		ask := func(h *house, objected bool) {
			requests.Add(1)
			res, err := h.Retrieve(context.Background(), question(who))
			switch {
			case objected && res != nil:
				disclosures.Add(1)
				t.Errorf("something was shown over an objection that was acknowledged")
			case objected && refusal(t, err).Kind != broker.Suppressed, !objected && (err != nil || len(res.Answer.Entries) == 0):
				failures.Add(1)
				t.Errorf("objected %v: %v", objected, err)
			}
		}
		ask(here, false)
		o, _, err := here.RecordObjection(context.Background(), objecting(who), consent.Objection{Scope: consent.ToAll})
		if err != nil {
			failures.Add(1)
			t.Errorf("objecting: %v", err)
			return
		}
		ask(there, true)
		ask(here, true)
		if _, _, err := there.WithdrawObjection(context.Background(), objecting(who), o.ID); err != nil {
			failures.Add(1)
			t.Errorf("withdrawing: %v", err)
		}
		ask(here, false)
	}
	for _, trouble := range []struct {
		name  string
		begin func() (end func())
	}{
		{"none", func() func() { return func() {} }},
		{"flushed", func() func() { return repeatedly(func() { redis.Do(t, "FLUSHALL") }) }},
		{"hostile", func() func() {
			return repeatedly(func() { // whatever it says, on every channel that there is and under every key
				redis.Do(t, `EVAL "for _,k in ipairs(redis.call('KEYS','*')) do redis.call('SET',k,'hostile') end" 0`)
				redis.Do(t, `EVAL "for _,c in ipairs(redis.call('PUBSUB','CHANNELS')) do redis.call('PUBLISH',c,string.rep('x',200)) end" 0`)
			})
		}},
		{"stalled", func() func() { return redis.Stall(t) }},
		{"killed", func() func() { return amid(&requests, func() { redis.Kill(t) }) }},
		{"gone", func() func() { return func() {} }},
		{"back", func() func() { return amid(&requests, func() { redis.Start(t) }) }},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			defer trouble.begin()()
			var wg sync.WaitGroup
			for worker := range numbers {
				wg.Go(func() {
					for n := range rounds {
						round(worker, n)
					}
				})
			}
			wg.Wait()
		})
	}
	const load = "Redis flushed, filled with hostile values, stalled and killed: "
	figure.Report(t, figure.Figure{Name: load + "disclosures caused", Seen: int(disclosures.Load()), Of: int(requests.Load()), What: "requests"})
	figure.Report(t, figure.Figure{Name: load + "errors caused", Seen: int(failures.Load()), Of: int(requests.Load()), What: "requests"})
	verified(t, houses[0].ledger)
}

// amid does something once as some requests have begun since, and others go on.
func amid(requests *atomic.Int64, f func()) (end func()) {
	before, done := requests.Load(), make(chan struct{})
	go func() {
		defer close(done)
		for deadline := time.Now().Add(time.Minute); requests.Load() < before+6 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		f()
	}()
	return func() { <-done }
}

// repeatedly does something until it is ended.
func repeatedly(f func()) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				f()
			}
		}
	}()
	return func() { close(stop); <-done }
}

// A request whose custodians are being asked on one replica ends as soon as the person objects on another: nobody is waited for.
func TestObjectionOvertakesARequest(t *testing.T) {
	redis := services.Redis(t)
	houses := twoReplicas(t, redis)
	asked := make(chan struct{}, len(nine))
	for _, s := range houses[0].sources {
		s.answer = func(ctx context.Context, _ broker.Query) (broker.Reply, error) {
			asked <- struct{}{}
			<-ctx.Done() // it would never answer
			return broker.Reply{}, ctx.Err()
		}
	}
	who := number(t, "9990000018")
	for _, face := range []string{"rest", "stream"} {
		t.Run(face, func(t *testing.T) {
			ended := make(chan error, 1)
			began := time.Now()
			go func() {
				q := question(who)
				q.Face = face
				if face == "stream" {
					ended <- houses[0].Stream(context.Background(), q, &recorder{})
					return
				}
				_, err := houses[0].Retrieve(context.Background(), q)
				ended <- err
			}()
			<-asked
			o, _, err := houses[1].RecordObjection(t.Context(), objecting(who), consent.Objection{Scope: consent.ToAll})
			if err != nil {
				t.Fatal(err)
			}
			objected := time.Now()
			err = <-ended
			if k := refusal(t, err).Kind; k != broker.Suppressed {
				t.Errorf("%s, want suppressed", k)
			}
			t.Logf("ended %s after the objection; without it, %s after the question", time.Since(objected).Round(time.Millisecond), 3*time.Second)
			if time.Since(began) < 2900*time.Millisecond { // unless this machine was too slow to see a difference
				for _, c := range houses[0].Custodians() {
					if c.Breaker != "closed" || c.LastState != "" {
						t.Errorf("%s: %s, %s: what was given up says something of a custodian", c.Custodian.Key, c.Breaker, c.LastState)
					}
				}
			}
			if _, _, err := houses[1].WithdrawObjection(t.Context(), objecting(who), o.ID); err != nil {
				t.Fatal(err)
			}
		})
	}
	verified(t, houses[0].ledger)
}

// rumours is a Hints of tests.
type rumours struct {
	mu        sync.Mutex
	watch     []chan struct{}
	opened    []record.CustodianKey
	suspected bool
}

// Watch implements broker.Hints.
func (h *rumours) Watch([]record.NHSNumber) (<-chan struct{}, func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan struct{}, 1)
	h.watch = append(h.watch, c)
	return c, func() {}
}

// Opened implements broker.Hints.
func (h *rumours) Opened(k record.CustodianKey, _ time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = append(h.opened, k)
}

// Suspected implements broker.Hints.
func (h *rumours) Suspected(record.CustodianKey) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.suspected
}

func (h *rumours) say() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.watch {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// A hint about a person whose preferences did not change changes nothing, however often it is repeated.
func TestHintsThatAreWrong(t *testing.T) {
	hinted := &rumours{}
	h := open(t, audittest.Open(t), func(c *broker.Config) { c.Hints = hinted })
	for _, s := range h.sources {
		s.answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
			for range 50 {
				hinted.say()
				time.Sleep(time.Millisecond)
			}
			return reply(string(s.key), q.Subject.Number, observation("o1", "2024-05-01", "marker")), nil
		}
	}
	res, err := h.Retrieve(t.Context(), question(number(t, "9990000018")))
	if err != nil || len(res.Answer.Entries) == 0 {
		t.Errorf("%v: a hint that was wrong took something away", err)
	}
	verified(t, h.ledger)
}

// Where another replica's breaker is open, one failure opens this one's; without a failure nothing does. Each opening is told once.
func TestBreakersOfOtherReplicas(t *testing.T) {
	hinted := &rumours{suspected: true}
	h := open(t, audittest.Open(t), func(c *broker.Config) { c.Hints = hinted })
	ill := h.sources[1]
	who := number(t, "9990000018")
	if _, err := h.Retrieve(t.Context(), question(who)); err != nil {
		t.Fatal(err)
	}
	for _, c := range h.Custodians() {
		if c.Breaker != "closed" {
			t.Errorf("%s: %s because of what was heard", c.Custodian.Key, c.Breaker)
		}
	}
	ill.answer = func(context.Context, broker.Query) (broker.Reply, error) {
		return broker.Reply{}, broker.ErrUnavailable
	}
	if _, err := h.Retrieve(t.Context(), question(who)); err != nil {
		t.Fatal(err)
	}
	for _, c := range h.Custodians() {
		if want := c.Custodian.Key == ill.key; (c.Breaker == "open") != want {
			t.Errorf("%s: %s, want open: %v", c.Custodian.Key, c.Breaker, want)
		}
	}
	if len(hinted.opened) != 1 || hinted.opened[0] != ill.key {
		t.Errorf("told of %v, want of one", hinted.opened)
	}
}
