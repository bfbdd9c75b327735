package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

const (
	held    = "9990000034"
	absent  = "9990000050"
	address = "http://custodian.example/fhir"
)

func number(s string) record.NHSNumber {
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		panic("a number of the tests is not valid")
	}
	return n
}

func query() broker.Query {
	return broker.Query{Subject: record.Subject{Number: number(held), Standing: record.Live}}
}

// fake is an adapter and its custodian in one, in memory. It does everything right but for one bug.
type fake struct {
	bug string
	end chan struct{} // of goroutines that the bug leak leaves

	mu       sync.Mutex
	fault    Fault
	after    int
	ms       int
	requests int
	broken   bool
}

var _ broker.Source = (*fake)(nil)

func (f *fake) set(fault Fault, after, ms int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.after, f.ms = fault, after, ms
	return nil
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// request is one record request: what befalls it.
func (f *fake) request() (Fault, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	if f.after > 0 {
		f.after--
		return None, 0
	}
	return f.fault, time.Duration(f.ms) * time.Millisecond
}

func wait(ctx context.Context, d time.Duration) error {
	var end <-chan time.Time
	if d > 0 {
		end = time.After(d)
	}
	select {
	case <-end:
		return nil
	case <-ctx.Done():
		return broker.ErrTimedOut
	}
}

// ask makes one request, the nth of a fetch.
func (f *fake) ask(ctx context.Context, n int) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fault, ms := f.request()
	if f.broken {
		return broker.ErrUnavailable
	}
	switch fault {
	case None, MixedPatients:
		return nil
	case Slow:
		return wait(ctx, ms)
	case Hang, Trickle:
		if f.bug == "deaf" {
			time.Sleep(5 * time.Second)
		}
		return wait(ctx, 0)
	case Truncated:
		if f.bug == "believes half an answer" {
			return nil
		}
	case NoRecord:
		switch {
		case f.bug == "takes a later nobody for the end":
			return nil
		case n > 0 && f.bug != "believes a later nobody":
			return broker.ErrMalformed
		}
	case WrongPatient:
		if n == 2 || f.bug == "believes anybody" {
			return nil
		}
	case Throttle429:
		if f.bug == "forgets how long to wait" {
			return &broker.ThrottledError{}
		}
		return &broker.ThrottledError{After: time.Second}
	}
	if f.bug == "sticks" {
		f.broken = true
	}
	for _, x := range Faults() {
		if x.Fault == fault {
			return x.Errors[0]
		}
	}
	panic("no such fault")
}

func resource(text string) fhirjson.Value {
	d, err := fhirjson.Parse([]byte(text), fhirjson.Limits{})
	if err != nil {
		panic(err)
	}
	return d.Root()
}

func (f *fake) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	if f.bug == "leaks" {
		go func() { <-f.end }()
	}
	r, err := f.fetch(ctx, q)
	switch {
	case err == nil:
		return r, nil
	case f.bug == "says where" && !errors.Is(err, broker.ErrNoRecord):
		err = fmt.Errorf("asking %s: %w", address, err)
	case f.bug == "says two things":
		err = errors.Join(err, broker.ErrPanicked)
	case f.bug == "says nothing we know":
		err = errors.New("it did not work")
	case f.bug == "returns some of it":
		return broker.Reply{Entries: []fhirjson.Entry{{Resource: resource(`{"resourceType":"Patient"}`)}}}, err
	}
	return broker.Reply{}, err
}

func (f *fake) fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	if err := f.ask(ctx, 0); err != nil {
		return broker.Reply{}, err
	}
	if q.Subject.Number != number(held) && f.bug != "knows everybody" {
		return broker.Reply{}, broker.ErrNoRecord
	}
	r := broker.Reply{Base: address, Adapter: "fake/1"}
	add := func(text string) {
		r.Entries = append(r.Entries, fhirjson.Entry{Resource: resource(text)})
		r.Bytes += int64(len(text))
	}
	add(`{"resourceType":"Patient","id":"p1","identifier":[{"system":"` + record.NHSNumberSystem + `","value":"` + q.Subject.Number.Reveal() + `"}]}`)
	if f.bug == "returns two Patients" {
		add(`{"resourceType":"Patient","id":"p2"}`)
	}
	if len(q.Types) == 0 {
		for n := 1; n < 3; n++ {
			if err := f.ask(ctx, n); err != nil {
				return broker.Reply{}, err
			}
			add(`{"resourceType":"Condition"}`)
		}
	}
	switch f.bug {
	case "ends its address with a slash":
		r.Base += "/"
	case "does not count":
		r.Bytes = 0
	case "returns what is no resource":
		add(`{"resourceType":1}`)
	case "knows no caps":
		return r, nil
	}
	l := q.Limits
	if l.Bytes > 0 && (r.Bytes > l.Bytes || len(r.Entries) > l.Resources || l.Pages < 3 || l.ResourceBytes < 100 || l.StringBytes < 100 || l.Depth < 8 || l.Take != nil && !l.Take(r.Bytes)) {
		return broker.Reply{}, broker.ErrTooMuch
	}
	return r, nil
}

// recorder takes what Run has to say.
type recorder struct{ said []string }

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

// bugs are what may be wrong with an adapter, and a part of what must be said of it: by Run, and by Check, which sees a good custodian only.
var bugs = []struct{ bug, run, check string }{
	{"", "", ""},
	{"deaf", "hang after 0: returned", ""},
	{"believes half an answer", "truncated after 0: got a reply, want the state failed", ""},
	{"believes anybody", "wrong-patient after 0: got a reply, want the state failed", ""},
	{"believes a later nobody", "no-record after 1: got the custodian holds no record, want the state failed", ""},
	{"takes a later nobody for the end", "no-record after 2: a reply that does not say what is missing", ""},
	{"forgets how long to wait", "throttle429 after 0: how long to wait is lost", ""},
	{"sticks", "then well again: got the custodian cannot be reached", ""},
	{"leaks", "goroutines more than before are still running", ""},
	{"says where", "the error holds text 1 from outside", "a call that is over is not made"},
	{"says two things", "the error is not one of the list", "a call that is over is not made"},
	{"says nothing we know", "wraps no sentinel", "somebody unknown is no record"},
	{"returns some of it", "entries beside an error", ""},
	{"knows everybody", "somebody unknown: got a reply", "somebody unknown is no record"},
	{"returns two Patients", "exactly one Patient", "exactly one Patient"},
	{"ends its address with a slash", "without a slash", "without a slash"},
	{"does not count", "the bytes held are counted", "the bytes held are counted"},
	{"returns what is no resource", "every entry is a resource", "every entry is a resource"},
	{"knows no caps", "a cap on depth: got a reply", "the cap on depth is kept"},
}

func TestRunFindsEachBug(t *testing.T) {
	for _, b := range bugs {
		t.Run(b.bug, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{bug: b.bug, end: make(chan struct{})}
				defer close(f.end)
				var r recorder
				Run(&r, Kit{New: func() (broker.Source, error) { return f, nil }, SetFault: f.set, Requests: f.count, Query: query(), Unknown: number(absent), Outside: []string{address}})
				synctest.Wait()
				if b.run == "" {
					if len(r.said) > 0 {
						t.Errorf("said of a good adapter: %q", r.said)
					}
					return
				}
				if !slices.ContainsFunc(r.said, func(s string) bool { return strings.Contains(s, b.run) }) {
					t.Errorf("said %q, want something like %q", r.said, b.run)
				}
				if strings.Contains(strings.Join(r.said, " "), address) {
					t.Error("what was said holds text from outside")
				}
			})
		})
	}
}

func TestCheckFindsEachBug(t *testing.T) {
	for _, b := range bugs {
		t.Run(b.bug, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{bug: b.bug, end: make(chan struct{}), fault: None}
				defer close(f.end)
				var said []string
				for _, x := range Check(t.Context(), f, query()) {
					said = append(said, x.String())
				}
				synctest.Wait()
				if b.check == "" && len(said) > 0 {
					t.Errorf("said %q of what cannot be seen on a good custodian", said)
				}
				if !strings.Contains(strings.Join(said, "\n"), b.check) {
					t.Errorf("said %q, want something like %q", said, b.check)
				}
				if strings.Contains(strings.Join(said, " "), address) {
					t.Error("what was said holds text from outside")
				}
			})
		})
	}
}

// A custodian in trouble is named as such, with advice, and is not asked on and on.
func TestCheckOfACustodianInTrouble(t *testing.T) {
	for _, x := range Faults() {
		if len(x.Errors) == 0 || x.Fault == Hang || x.Fault == Trickle {
			continue
		}
		f := &fake{fault: x.Fault}
		got := Examine(t.Context(), f, query(), time.Second).Results
		rule, most := ruleReached, 2
		if answered(x.Errors[0]) {
			rule, most = ruleReturned, 4
		}
		said := 0
		for _, r := range got {
			if r.Rule == rule && r.Outcome == Fail && r.Evidence == x.Errors[0].Error() && r.Advice == remedy(x.Errors[0]) && r.Advice != ours {
				said++
			}
			if r.Outcome == Fail && r.Advice == "" {
				t.Errorf("%s: no advice about %q", x.Fault, r.Rule)
			}
		}
		if said != 1 || f.count() > most {
			t.Errorf("%s: got %v after %d requests", x.Fault, got, f.count())
		}
	}
}

// Every rule is in every report, once, whatever happens; without a person those that need one say so.
func TestEveryRuleIsInTheReport(t *testing.T) {
	rules := []string{ruleReached, ruleNobody, ruleOver, ruleReturned, rulePlain, ruleTime, ruleMissing, rulePatient, ruleNamed, ruleResources, ruleBytes, ruleCaps, ruleAlone, ruleAtOnce}
	for _, fault := range []Fault{None, Down, NoRecord, WrongPatient} {
		for _, person := range []bool{true, false} {
			q := query()
			if !person {
				q.Subject = record.Subject{}
			}
			f := &fake{fault: fault}
			passed, seen := 0, map[string]int{}
			for _, r := range Examine(t.Context(), f, q, time.Minute).Results {
				seen[r.Rule]++
				if r.Outcome == Pass {
					passed++
				}
				if r.Outcome == Skipped && r.Evidence == "" {
					t.Errorf("%s: nothing says why %q is skipped", fault, r.Rule)
				}
			}
			for _, rule := range rules {
				if seen[rule] != 1 {
					t.Errorf("%s, person %v: %q is there %d times", fault, person, rule, seen[rule])
				}
			}
			switch {
			case fault == None && person && passed < len(rules)+5, fault == None && !person && passed != 3:
				t.Errorf("a good custodian, person %v: %d rules pass", person, passed)
			}
		}
	}
}

func TestCheckThatRunsOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{fault: Slow, ms: 400}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		got := Check(ctx, f, query())
		if len(got) == 0 || got[len(got)-1].String() != "not so: there was time to look at everything" {
			t.Errorf("got %v", got)
		}
	})
}

func TestRunSaysWhatItCannotTest(t *testing.T) {
	var r recorder
	Run(&r, Kit{New: func() (broker.Source, error) { return nil, errors.New("no settings") }})
	if len(r.said) != 1 {
		t.Errorf("said %q", r.said)
	}
	r = recorder{}
	f := &fake{fault: None}
	Run(&r, Kit{New: func() (broker.Source, error) { return f, nil }, SetFault: f.set, Requests: func() int { return 0 }, Query: query()})
	if len(r.said) != 1 || !strings.Contains(r.said[0], "too few") {
		t.Errorf("said %q", r.said)
	}
	r = recorder{}
	Run(&r, Kit{New: func() (broker.Source, error) { return f, nil }, SetFault: func(Fault, int, int) error { return errors.New("no") }, Query: query()})
	if len(r.said) != 1 {
		t.Errorf("said %q", r.said)
	}
}

// The states are those of design section 6, and every sentinel but one of our own making has a fault that leads to it.
func TestTheTable(t *testing.T) {
	seen := map[Fault]bool{}
	reached := map[error]bool{broker.ErrPanicked: true}
	for _, x := range Faults() {
		if seen[x.Fault] || !slices.Contains(record.States[:], x.State) || x.State.Showing() != (len(x.Errors) == 0) {
			t.Errorf("%s: twice, or its state and its errors do not go together", x.Fault)
		}
		seen[x.Fault] = true
		for _, e := range x.Errors {
			reached[e] = true
		}
	}
	for _, s := range sentinels {
		if !reached[s] {
			t.Errorf("no fault leads to: %v", s)
		}
	}
	if _, err := record.ParseNHSNumber(nobody); err != nil || !number(nobody).IsTest() {
		t.Error("the number of nobody is not one of the test range")
	}
}
