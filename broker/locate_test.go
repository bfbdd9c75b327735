package broker_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// locator is an index in memory.
type locator struct {
	asked  atomic.Int64
	mu     sync.Mutex
	answer func(context.Context, broker.Query) (broker.Located, error)
}

// Locate implements broker.Index.
func (l *locator) Locate(ctx context.Context, q broker.Query) (broker.Located, error) {
	l.asked.Add(1)
	l.mu.Lock()
	answer := l.answer
	l.mu.Unlock()
	return answer(ctx, q)
}

func (l *locator) says(answer func(context.Context, broker.Query) (broker.Located, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = answer
}

// located gives the acute trust a locator that may be an hour behind.
func located(allowed bool) (*locator, func(*broker.Config)) {
	l := &locator{}
	return l, func(c *broker.Config) {
		c.Custodians[1].Locator = &broker.Locator{Index: l, Adapter: "memory", Allowed: allowed, FreshFor: time.Hour, Timeout: c.Custodians[1].Timeout / 5}
	}
}

func freshNo(context.Context, broker.Query) (broker.Located, error) {
	return broker.Located{AsOf: time.Now().Add(-time.Minute)}, nil
}

// Only an index that is fresh, clear and says no leaves a custodian unasked, and only where the policy allows it. Everything else asks.
func TestLocator(t *testing.T) {
	for _, c := range []struct {
		name    string
		off     bool // the policy does not allow it
		says    func(context.Context, broker.Query) (broker.Located, error)
		unasked bool
	}{
		{name: "fresh, and lists nothing", says: freshNo, unasked: true},
		{name: "just fresh", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{AsOf: time.Now().Add(-time.Hour)}, nil
		}, unasked: true},
		{name: "fresh, and lists something", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{AsOf: time.Now(), Listed: true}, nil
		}},
		{name: "stale", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{AsOf: time.Now().Add(-time.Hour - time.Nanosecond)}, nil
		}},
		{name: "does not say how fresh it is", says: func(context.Context, broker.Query) (broker.Located, error) { return broker.Located{}, nil }},
		{name: "is from tomorrow", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{AsOf: time.Now().Add(24 * time.Hour)}, nil
		}},
		{name: "down", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{AsOf: time.Now()}, broker.ErrUnavailable
		}},
		{name: "hangs", says: func(ctx context.Context, _ broker.Query) (broker.Located, error) {
			<-ctx.Done()
			return broker.Located{AsOf: time.Now()}, nil
		}},
		{name: "ignores its context", says: func(context.Context, broker.Query) (broker.Located, error) {
			time.Sleep(10 * time.Second)
			return broker.Located{AsOf: time.Now()}, nil
		}},
		{name: "panics", says: func(context.Context, broker.Query) (broker.Located, error) { panic("Zqsecrettext") }},
		{name: "is not clear", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{}, broker.ErrMalformed
		}},
		{name: "holds no record, says its own error", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{AsOf: time.Now()}, broker.ErrNoRecord
		}},
		{name: "refuses us", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{}, broker.ErrUnauthorised
		}},
		{name: "throttles us", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{}, &broker.ThrottledError{After: time.Minute}
		}},
		{name: "answers about somebody else", says: func(context.Context, broker.Query) (broker.Located, error) {
			return broker.Located{}, broker.ErrWrongSubject
		}},
		{name: "takes more than it may", says: func(_ context.Context, q broker.Query) (broker.Located, error) {
			if q.Limits.Bytes > 1<<20 || q.Limits.Pages > 20 {
				t.Errorf("an index may say %d bytes on %d pages", q.Limits.Bytes, q.Limits.Pages)
			}
			for range 1000 {
				if !q.Limits.Take(1 << 20) {
					return broker.Located{}, broker.ErrTooMuch
				}
			}
			return broker.Located{AsOf: time.Now()}, nil
		}},
		{name: "the policy does not allow it", off: true, says: freshNo},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, change := located(!c.off)
				l.answer = c.says
				place := audittest.Open(t)
				var log bytes.Buffer
				h := open(t, place, func(cfg *broker.Config) {
					change(cfg)
					cfg.Log = broker.NewLogger(&log, 0)
				})
				before := time.Now()
				res, err := h.Retrieve(t.Context(), question(number(t, ann)))
				if err != nil {
					t.Fatal(err)
				}
				text, s := bundle(t, res.Answer), res.Answer.Statuses[1]
				if asked := h.sources[1].asked.Load() == 1; asked == c.unasked || strings.Contains(text, "acute marker") == c.unasked {
					t.Errorf("asked %t, want %t", asked, !c.unasked)
				}
				if (l.asked.Load() == 0) != c.off {
					t.Errorf("the index was asked %d times", l.asked.Load())
				}
				if took := time.Since(before); took > 700*time.Millisecond {
					t.Errorf("answered after %v", took)
				}
				if h.Custodians()[1].Breaker != "closed" || h.Custodians()[1].LastState.InTrouble() {
					t.Error("the index is taken for the custodian")
				}
				entry := closing(t, place)[1]
				if !c.unasked {
					if s.State != record.Returned || entry.State != record.Returned {
						t.Errorf("got %s, in the ledger %s, want returned", s.State, entry.State)
					}
					if strings.Contains(text, "was not asked") || strings.Contains(log.String(), "Zqsecrettext") {
						t.Error("a custodian that was asked is said not to have been, or a log says what a panic held")
					}
				} else {
					// It is named, with its state, its reason and what it rests on, and the ledger says the same.
					if s.State != record.NotAsked || s.Reason != record.NotAskedLocator || !s.Asked.IsZero() || entry.State != record.NotAsked || entry.Reason != record.NotAskedLocator || entry.Count != 0 {
						t.Errorf("got %s %q, in the ledger %s %q", s.State, s.Reason, entry.State, entry.Reason)
					}
					for _, words := range []string{`"code":"not-asked"`, "Eastvale Hospitals (X9B01) was not asked: nothing says that it knows this person.", "lists nothing about this person.", "reason locator", "Contact: ring B"} {
						if !strings.Contains(text, words) {
							t.Errorf("the outcome does not say %q", words)
						}
					}
				}
				time.Sleep(20 * time.Second) // whoever ignores a context ends
				verified(t, place)
			})
		})
	}
}

// closing is what the last closing entry says of each custodian, in their order.
func closing(t testing.TB, l *audit.Ledger) []audit.Shown {
	t.Helper()
	var out []audit.Shown
	list, _, err := l.Follow(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.Disclosure != nil {
			out = f.Disclosure.Custodians
		}
	}
	return out
}

// Who breaks the glass is shown what there is: the custodian is asked whatever an index says.
func TestLocatorAndBreakGlass(t *testing.T) {
	l, change := located(true)
	l.answer = freshNo
	h := open(t, audittest.Open(t), change)
	req := question(number(t, ann))
	req.Purpose, req.BreakGlassReason, req.Permission = record.BreakGlass, "found unconscious at home", record.Permission{}
	res, err := h.Retrieve(t.Context(), req)
	if err != nil || l.asked.Load() != 0 || res.Answer.Statuses[1].State != record.Returned {
		t.Errorf("%v; the index was asked %d times", err, l.asked.Load())
	}
}

// Who had another number may be listed under it: the custodian is asked whatever an index says of the number that is asked for.
func TestLocatorAndEarlierNumbers(t *testing.T) {
	l, change := located(true)
	l.answer = freshNo
	h := open(t, audittest.Open(t), change)
	h.tracer.supersedes = map[record.NHSNumber][]record.NHSNumber{number(t, ann): {number(t, "9990000042")}}
	res, err := h.Retrieve(t.Context(), question(number(t, ann)))
	if err != nil || l.asked.Load() != 0 || res.Answer.Statuses[1].State != record.Returned {
		t.Errorf("%v; the index was asked %d times", err, l.asked.Load())
	}
}

// An index is asked under the same permit and the same entry as its custodian: nobody is looked up in one whose record is withheld, and none before the
// ledger has it.
func TestLocatorIsAskedUnderPermit(t *testing.T) {
	for _, mode := range audittest.Faults() {
		place := audittest.New(t, audit.Config{})
		l, change := located(true)
		l.answer = freshNo
		h := open(t, place.Ledger, change)
		place.Store.FailAll(mode)
		if _, err := h.Retrieve(t.Context(), question(number(t, ann))); err == nil || l.asked.Load() != 0 {
			t.Errorf("%v: %v, the index was asked %d times", mode, err, l.asked.Load())
		}
	}
	l, change := located(true)
	l.answer = freshNo
	ledger := audittest.Open(t)
	h := open(t, ledger, change)
	if _, _, err := h.RecordObjection(t.Context(), objecting(number(t, ann)), consent.Objection{Scope: consent.ToCustodian, Custodian: "acute"}); err != nil {
		t.Fatal(err)
	}
	res, err := h.Retrieve(t.Context(), question(number(t, ann)))
	if err != nil || l.asked.Load() != 0 || res.Answer.Statuses[1].State != record.Withheld {
		t.Errorf("%v: the index of a custodian whose record is withheld was asked %d times", err, l.asked.Load())
	}
}

// A person whom nobody holds gets the neutral answer, at its time, whether custodians said so or their indexes; a stream tells nothing before it.
func TestLocatorAndNeutralAnswers(t *testing.T) {
	for _, face := range []string{"rest", "stream"} {
		synctest.Test(t, func(t *testing.T) {
			l := &locator{answer: freshNo}
			ledger := audittest.Open(t)
			h := open(t, ledger, func(c *broker.Config) {
				for i := range c.Custodians {
					if i != 3 {
						c.Custodians[i].Locator = &broker.Locator{Index: l, Adapter: "memory", Allowed: true, FreshFor: time.Hour, Timeout: 500 * time.Millisecond}
					}
				}
			})
			h.sources[3].answer = func(context.Context, broker.Query) (broker.Reply, error) {
				time.Sleep(300 * time.Millisecond)
				return broker.Reply{}, broker.ErrNoRecord
			}
			req, before := question(number(t, ann)), time.Now()
			req.Face = face
			var err error
			var sink recorder
			if face == "stream" {
				err = h.Stream(t.Context(), req, &sink)
			} else {
				_, err = h.Retrieve(t.Context(), req)
			}
			if r := refusal(t, err); r.Kind != broker.NotFound || len(r.Statuses) != 0 || time.Since(before) != 3250*time.Millisecond {
				t.Errorf("%s: got %s with %d statuses after %v", face, r.Kind, len(r.Statuses), time.Since(before))
			}
			if sink.plan != nil || sink.chunks != nil {
				t.Errorf("the stream says %d custodians and %d chunks of somebody whom nobody holds", len(sink.plan), len(sink.chunks))
			}
			// One that holds the person: then the stream names every custodian that was not asked.
			h.sources[3].answer = nil
			if face == "stream" {
				req.Arrived = time.Now()
				if err := h.Stream(t.Context(), req, &sink); err != nil {
					t.Fatal(err)
				}
				unasked := slices.DeleteFunc(slices.Clone(sink.chunks), func(s record.Status) bool { return s.State != record.NotAsked || s.Reason != record.NotAskedLocator })
				if len(sink.plan) != 9 || len(sink.chunks) != 9 || len(unasked) != 8 {
					t.Errorf("%d planned, %d heard of, %d not asked", len(sink.plan), len(sink.chunks), len(unasked))
				}
			}
			verified(t, ledger)
		})
	}
}

// An index that is ill is left alone after a while, and its custodian is asked at once then; the custodian's time is one, whatever its index took of it.
func TestLocatorBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, change := located(true)
		l.answer = func(ctx context.Context, _ broker.Query) (broker.Located, error) {
			<-ctx.Done()
			return broker.Located{}, ctx.Err()
		}
		ledger := audittest.Open(t)
		h := open(t, ledger, func(c *broker.Config) {
			c.NeutralWait = 5 * time.Second
			change(c)
		})
		for range 8 {
			if _, err := h.Retrieve(t.Context(), question(number(t, ann))); err != nil {
				t.Fatal(err)
			}
		}
		if l.asked.Load() != 5 || h.sources[1].asked.Load() != 8 {
			t.Errorf("the index was asked %d times, its custodian %d", l.asked.Load(), h.sources[1].asked.Load())
		}
		time.Sleep(16 * time.Second)
		l.says(freshNo)
		if _, err := h.Retrieve(t.Context(), question(number(t, ann))); err != nil || h.sources[1].asked.Load() != 8 {
			t.Errorf("%v: an index that is well again is not asked", err)
		}
		l.says(func(ctx context.Context, _ broker.Query) (broker.Located, error) {
			<-ctx.Done()
			return broker.Located{}, ctx.Err()
		})
		h.sources[1].answer = func(ctx context.Context, _ broker.Query) (broker.Reply, error) {
			<-ctx.Done()
			return broker.Reply{}, ctx.Err()
		}
		before := time.Now()
		res, err := h.Retrieve(t.Context(), question(number(t, ann)))
		if err != nil || res.Answer.Statuses[1].State != record.TimedOut || time.Since(before) != 3*time.Second {
			t.Errorf("%v: both together took %v, want the custodian's 3s", err, time.Since(before))
		}
		verified(t, ledger)
	})
}

// An index and its bounds are checked at the start.
func TestLocatorBounds(t *testing.T) {
	for name, change := range map[string]func(*broker.Locator){
		"no index":             func(l *broker.Locator) { l.Index = nil },
		"fresh for ever":       func(l *broker.Locator) { l.FreshFor = broker.MaxFreshFor + 1 },
		"never fresh":          func(l *broker.Locator) { l.FreshFor = 0 },
		"no time":              func(l *broker.Locator) { l.Timeout = 0 },
		"the custodian's time": func(l *broker.Locator) { l.Timeout = 800 * time.Millisecond },
	} {
		_, with := located(true)
		var cfg broker.Config
		open(t, audittest.Open(t), func(c *broker.Config) {
			with(c)
			cfg = *c
		})
		change(cfg.Custodians[1].Locator)
		if _, err := broker.New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
