package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// custodian is a binding with what is known of its health.
type custodian struct {
	Binding
	sources []*endpoint     // one, or several that are asked beside each other
	index   *endpoint       // its locator, nil if it has none
	told    told            // its name to metrics and spans
	home    record.Sections // the one in which everything stands that it holds, by the section rules; or none

	mu         sync.Mutex
	lastState  record.State
	lastAnswer time.Time
}

// endpoint is one source of a custodian with its breaker, local to the process.
type endpoint struct {
	NamedSource // its name is "" where it is the only one
	breaker     *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu        sync.Mutex
	waitUntil time.Time // a 429's Retry-After
}

// errIll and errNothingLearnt are what the breaker is told: the custodian is ill, or the call says nothing about it.
var (
	errIll           = errors.New("ill")
	errNothingLearnt = errors.New("nothing learnt")
)

func newCustodian(b Binding, cfg Config) *custodian {
	var home record.Sections
	if s, has := cfg.Sections.Home(b.Rules.Custodian.Kind); has {
		home = home.With(s)
	}
	c := &custodian{Binding: b, home: home, told: newTold(b.Rules.Custodian.Key)}
	if b.Locator != nil {
		unhinted := cfg
		unhinted.Hints = noHints{}
		c.index = newEndpoint(NamedSource{Name: "locator", Adapter: b.Locator.Adapter}, b.Rules.Custodian.Key, unhinted)
	}
	if len(b.Sources) == 0 {
		c.sources = []*endpoint{newEndpoint(NamedSource{Source: b.Source, Adapter: b.Adapter}, b.Rules.Custodian.Key, cfg)}
		return c
	}
	// What replicas tell each other is about custodians: it would not say which source is meant.
	cfg.Hints = noHints{}
	var kinds []string
	for _, s := range b.Sources {
		c.sources = append(c.sources, newEndpoint(s, b.Rules.Custodian.Key, cfg))
		if !slices.Contains(kinds, s.Adapter) {
			kinds = append(kinds, s.Adapter)
		}
	}
	c.Adapter = strings.Join(kinds, ", ")
	return c
}

func newEndpoint(s NamedSource, key record.CustodianKey, cfg Config) *endpoint {
	return &endpoint{NamedSource: s, breaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        string(key),
		MaxRequests: 1, // one probe when half open
		Timeout:     cfg.BreakerOpen,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			// Where another replica has given a custodian up, the first failure here is enough. That alone is not: the trouble may be between the two.
			return c.ConsecutiveFailures >= uint32(max(1, cfg.BreakerFailures)) || c.ConsecutiveFailures > 0 && cfg.Hints.Suspected(key)
		},
		OnStateChange: func(_ string, from, to gobreaker.State) {
			if to == gobreaker.StateOpen && from == gobreaker.StateClosed {
				cfg.Hints.Opened(key, time.Now().Add(cfg.BreakerOpen))
			}
		},
		// A caller who hangs up, or leaves less time than the custodian normally gets, says nothing about the custodian.
		IsExcluded: func(err error) bool { return errors.Is(err, errNothingLearnt) },
	})}
}

// Reasons of states, for statuses, logs and metrics. The list is closed.
const (
	reasonCustodian   = "custodian" // it withholds
	reasonTimeout     = "timeout"
	reasonUnreachable = "unreachable"
	reasonThrottled   = "throttled"
	reasonBreaker     = "breaker-open"
	reasonCredentials = "unauthorised"
	reasonMalformed   = "malformed"
	reasonTooMuch     = "too-much"
	reasonRequestFull = "request-full" // the other custodians of this request had taken the room
	reasonElsewhere   = "elsewhere"
	reasonSubject     = "wrong-patient"
	reasonSum         = "conservation"
	reasonPanic       = "panic"
)

// verdict is what one call means: for the answer, for the breaker, for the operator.
type verdict struct {
	state   record.State
	reason  string
	breaker error // nil: healthy
	alarm   bool
}

// verdicts is the table of design section 6, first match wins. The breaker hears of illness only: a custodian that says no is well.
var verdicts = []struct {
	err error
	verdict
}{
	{ErrNoRecord, verdict{record.NoRecord, "", nil, false}},
	{ErrWithheld, verdict{record.Withheld, reasonCustodian, nil, false}},
	{ErrThrottled, verdict{record.Unavailable, reasonThrottled, nil, false}},
	{ErrUnauthorised, verdict{record.Failed, reasonCredentials, nil, true}},
	{ErrUnavailable, verdict{record.Unavailable, reasonUnreachable, errIll, false}},
	{ErrWrongSubject, verdict{record.Failed, reasonSubject, errIll, true}},
	{merge.ErrWrongSubject, verdict{record.Failed, reasonSubject, errIll, true}},
	{ErrTooMuch, verdict{record.Failed, reasonTooMuch, errIll, false}},
	{ErrElsewhere, verdict{record.Failed, reasonElsewhere, errIll, false}},
	{ErrMalformed, verdict{record.Failed, reasonMalformed, errIll, false}},
	{merge.ErrMalformed, verdict{record.Failed, reasonMalformed, errIll, false}},
	{merge.ErrSum, verdict{record.Failed, reasonSum, nil, true}}, // our own bug
	{ErrPanicked, verdict{record.Failed, reasonPanic, errIll, true}},
}

// judge maps the end of a call. callerLeft: the caller hung up. timedOut: the call's own time ran out. short: it had less time than
// the custodian normally gets.
func judge(err error, callerLeft, timedOut, short bool) verdict {
	if err == nil {
		return verdict{breaker: nil}
	}
	if callerLeft {
		return verdict{record.TimedOut, reasonTimeout, errNothingLearnt, false}
	}
	if timedOut || errors.Is(err, ErrTimedOut) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		v := verdict{record.TimedOut, reasonTimeout, errIll, false}
		if short {
			v.breaker = errNothingLearnt
		}
		return v
	}
	for _, row := range verdicts {
		if errors.Is(err, row.err) {
			return row.verdict
		}
	}
	return verdict{record.Failed, reasonMalformed, errIll, true} // an adapter that breaks its contract
}

// breaker is the state of the worst of its breakers.
func (c *custodian) breaker() gobreaker.State {
	worst := gobreaker.StateClosed
	for _, e := range c.sources {
		if s := e.breaker.State(); s == gobreaker.StateOpen || worst == gobreaker.StateClosed {
			worst = s
		}
	}
	return worst
}

func (e *endpoint) throttled(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return now.Before(e.waitUntil)
}

// maxThrottle caps how long one custodian's Retry-After keeps us away.
const maxThrottle = time.Minute

func (e *endpoint) throttle(until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if latest := time.Now().Add(maxThrottle); until.After(latest) {
		until = latest
	}
	if until.After(e.waitUntil) {
		e.waitUntil = until
	}
}

// throttleFor keeps us away for as long as a custodian asked for, if it did, from now on.
func (e *endpoint) throttleFor(now time.Time, err error) {
	if t, is := errors.AsType[*ThrottledError](err); is {
		e.throttle(now.Add(t.After))
	}
}

func (c *custodian) answered(s record.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.InTrouble() {
		s = record.Returned // it answers; what it answered is about a person
	}
	if s != c.lastState && (c.lastState != "" || s.InTrouble()) {
		c.lastState, c.lastAnswer = s, time.Now().UTC()
	}
}

// CustodianHealth is what ListCustodians shows of one custodian. It is about the custodian and never about a person: a time or a state that moved
// with every request would tell whoever watches what was asked, and what came of it. So it changes only when trouble begins or ends.
type CustodianHealth struct {
	Custodian  record.Custodian
	Adapter    string
	Breaker    string       // "closed", "open", "half-open": of several sources the worst
	LastState  record.State // timed-out, unavailable or failed; returned once it answered again, whatever that was; "" while there was no trouble
	LastAnswer time.Time    // when LastState became what it is; zero while there was no trouble
}

// Custodians lists the configured custodians in order. It asks nobody and says nothing of any person.
func (b *Broker) Custodians() []CustodianHealth {
	out := make([]CustodianHealth, 0, len(b.custodians))
	for _, c := range b.custodians {
		h := CustodianHealth{Custodian: c.Rules.Custodian, Adapter: c.Adapter, Breaker: c.breaker().String()}
		c.mu.Lock()
		h.LastState, h.LastAnswer = c.lastState, c.lastAnswer
		c.mu.Unlock()
		out = append(out, h)
	}
	return out
}

// troubled lists custodians whose breaker is not closed: the broker's own recent state. A request takes it when it comes, before it is a probe itself, so that
// a neutral answer names the same for everyone (design section 3).
func (b *Broker) troubled() []record.Status {
	var out []record.Status
	for _, c := range b.custodians {
		if c.breaker() != gobreaker.StateClosed {
			out = append(out, record.Status{Custodian: c.Rules.Custodian, State: record.Unavailable, Reason: reasonBreaker, Adapter: c.Adapter})
		}
	}
	return out
}
