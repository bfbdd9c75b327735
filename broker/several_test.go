package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// several makes the acute trust one of several sources.
func several(names ...string) (map[string]*source, func(*broker.Config)) {
	sources := map[string]*source{}
	for _, name := range names {
		sources[name] = &source{key: record.CustodianKey(strings.ToLower(strings.ReplaceAll(name, " ", "")))}
	}
	return sources, func(c *broker.Config) {
		b := &c.Custodians[1]
		b.Source, b.Adapter = nil, ""
		for _, name := range names {
			b.Sources = append(b.Sources, broker.NamedSource{Name: name, Source: sources[name], Adapter: "memory"})
		}
	}
}

func acuteStatus(t testing.TB, h *house, n record.NHSNumber) (record.Status, string) {
	t.Helper()
	res, err := h.Retrieve(t.Context(), question(n))
	if err != nil {
		t.Fatal(err)
	}
	return res.Answer.Statuses[1], bundle(t, res.Answer)
}

func partTexts(parts []record.Part) string {
	var out []string
	for _, p := range parts {
		out = append(out, p.Source+" "+p.Reason)
	}
	return strings.Join(out, ", ")
}

// What one source of three can do, and what is true of the custodian then.
var sourceEnds = []struct {
	name  string
	err   error
	shows bool
	state record.State // of the custodian where all three end like that
	part  string
}{
	{"whole", nil, true, record.Returned, ""},
	{"holds no record", broker.ErrNoRecord, false, record.NoRecord, ""},
	{"withholds", broker.ErrWithheld, false, record.Withheld, record.PartWithheld},
	{"is down", broker.ErrUnavailable, false, record.Unavailable, record.PartSourceDown},
	{"hangs", broker.ErrTimedOut, false, record.TimedOut, record.PartSourceDown},
	{"answers garbage", broker.ErrMalformed, false, record.Failed, record.PartSourceDown},
	{"answers about somebody else", broker.ErrWrongSubject, false, record.Failed, record.PartSourceDown},
	{"refuses us", broker.ErrUnauthorised, false, record.Failed, record.PartSourceDown},
}

// Whatever each of three sources does, the custodian has one state that is right, it names what is missing and nothing else, and what the others
// returned is all there.
func TestEverySetOfSourcesEnds(t *testing.T) {
	names := []string{"Ward system", "Theatres", "Pharmacy"}
	sources, change := several(names...)
	h := open(t, audittest.Open(t), func(c *broker.Config) {
		quick(c)
		change(c)
		c.BreakerFailures = 1 << 20
	})
	n := number(t, ann)
	for a := range sourceEnds {
		for b := range sourceEnds {
			for c := range sourceEnds {
				ends := []int{a, b, c}
				var parts []string
				shown, worst := 0, record.NoRecord
				for i, name := range names {
					end := sourceEnds[ends[i]]
					sources[name].answer = func(context.Context, broker.Query) (broker.Reply, error) {
						if end.err != nil {
							return broker.Reply{}, end.err
						}
						r := reply(fmt.Sprintf("s%d", i), n, observation(fmt.Sprintf("o%d", i), "2024-05-01", name+" marker"))
						return r, nil
					}
					if end.shows {
						shown++
					}
					if end.part != "" {
						parts = append(parts, name+" "+end.part)
					}
					for _, s := range []record.State{record.Withheld, record.Unavailable, record.TimedOut, record.Failed} { // from bad to worse
						if end.state == s && rank(s) > rank(worst) {
							worst = s
						}
					}
				}
				want := worst
				switch {
				case shown > 0 && len(parts) > 0:
					want = record.ReturnedInPart
				case shown > 0:
					want = record.Returned
				}
				got, text := acuteStatus(t, h, n)
				if want == record.NoRecord {
					parts = nil
				}
				slices.Sort(parts)
				gotParts := strings.Split(partTexts(got.Parts), ", ")
				slices.Sort(gotParts)
				if got.State != want || strings.Join(gotParts, ", ") != strings.Join(parts, ", ") {
					t.Fatalf("%v: got %s with %q, want %s with %q", ends, got.State, partTexts(got.Parts), want, parts)
				}
				for i, name := range names {
					if held := strings.Contains(text, name+" marker"); held != sourceEnds[ends[i]].shows {
						t.Fatalf("%v: %s shown %v", ends, name, held)
					}
				}
				if shown > 0 && got.Received != 0 && got.Received < shown+1 {
					t.Fatalf("%v: %d received", ends, got.Received)
				}
			}
		}
	}
	verified(t, h.ledger)
}

// what a request may hold is shared out to sources, so that custodians of several hold no more of it together than custodians of one.
func TestSourcesHoldNoMoreThanARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, piece = 4 << 20, 10 << 10
		var held atomic.Int64
		h := open(t, audittest.Open(t), func(c *broker.Config) {
			c.RequestBytes = limit
			for i := range c.Custodians {
				b := &c.Custodians[i]
				b.Source, b.Adapter = nil, ""
				for _, name := range []string{"a", "b", "c", "d"} {
					s := &source{answer: func(_ context.Context, q broker.Query) (broker.Reply, error) {
						for range 30 {
							if q.Limits.Take(piece) {
								held.Add(piece)
							}
						}
						time.Sleep(time.Second) // all hold what they got at once
						return broker.Reply{}, broker.ErrNoRecord
					}}
					b.Sources = append(b.Sources, broker.NamedSource{Name: name, Source: s, Adapter: "memory"})
				}
			}
		})
		_, err := h.Retrieve(t.Context(), question(number(t, ann)))
		if r := refusal(t, err); r.Kind != broker.NotFound {
			t.Errorf("got %s", r.Kind)
		}
		if got := held.Load(); got > limit || got < limit*3/4 {
			t.Errorf("36 sources held %d KiB, want most of %d and no more", got>>10, limit>>10)
		}
	})
}

func rank(s record.State) int {
	return slices.Index([]record.State{record.NoRecord, record.Withheld, record.Unavailable, record.TimedOut, record.Failed}, s)
}

// One source that is ill opens its own breaker, and the others are asked as before.
func TestBreakersOfSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sources, change := several("Ward system", "Theatres")
		l := audittest.Open(t)
		h := open(t, l, change)
		n := number(t, ann)
		ward, theatres := sources["Ward system"], sources["Theatres"]
		good := func(context.Context, broker.Query) (broker.Reply, error) {
			return reply("theatres", n, observation("t1", "2024-05-01", "theatres marker")), nil
		}
		theatres.answer = func(context.Context, broker.Query) (broker.Reply, error) {
			return broker.Reply{}, broker.ErrUnavailable
		}
		for range 8 {
			if got, _ := acuteStatus(t, h, n); got.State != record.ReturnedInPart || partTexts(got.Parts) != "Theatres source-down" {
				t.Fatalf("got %s with %q", got.State, partTexts(got.Parts))
			}
		}
		if a, b := ward.asked.Load(), theatres.asked.Load(); a != 8 || b != 5 || h.Custodians()[1].Breaker != "open" {
			t.Errorf("asked %d and %d times, breaker %s", a, b, h.Custodians()[1].Breaker)
		}
		if s := h.Custodians()[1].LastState; s.InTrouble() {
			t.Errorf("a custodian that answers is said to be %s", s)
		}
		theatres.answer = good
		time.Sleep(16 * time.Second)
		if got, _ := acuteStatus(t, h, n); got.State != record.Returned || h.Custodians()[1].Breaker != "closed" {
			t.Errorf("well again: got %s, breaker %s", got.State, h.Custodians()[1].Breaker)
		}
		// A source that ignores its context, and one that panics, cost their own part.
		ward.answer = func(context.Context, broker.Query) (broker.Reply, error) { panic("of a source") }
		if got, text := acuteStatus(t, h, n); got.State != record.ReturnedInPart || partTexts(got.Parts) != "Ward system source-down" || !strings.Contains(text, "theatres marker") {
			t.Errorf("a panic: got %s with %q", got.State, partTexts(got.Parts))
		}
		ward.answer = func(ctx context.Context, _ broker.Query) (broker.Reply, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			return broker.Reply{}, ctx.Err()
		}
		begin := time.Now()
		got, text := acuteStatus(t, h, n)
		if got.State != record.ReturnedInPart || !strings.Contains(text, "theatres marker") || time.Since(begin) > 3100*time.Millisecond {
			t.Errorf("one that hangs: got %s after %v", got.State, time.Since(begin))
		}
		time.Sleep(2 * time.Second)
		verified(t, l)
	})
}

// Two sources may hold the same thing: byte-identical copies are one, different ones are both kept and marked (M-5), and a reference means what it
// means in the source that it came from.
func TestSameIDsInTwoSources(t *testing.T) {
	sources, change := several("Ward system", "Theatres")
	h := open(t, audittest.Open(t), change)
	n := number(t, ann)
	encounter := func(id, text string) string {
		return fmt.Sprintf(`{"resourceType":"Encounter","id":%q,"status":"finished","class":{"code":"IMP"},"type":[{"text":%q}],"subject":{"reference":"Patient/p1"},"period":{"start":"2024-05-01"}}`, id, text)
	}
	within := func(id, text string) string {
		return strings.Replace(observation(id, "2024-05-01", text), `"subject"`, `"encounter":{"reference":"Encounter/7"},"subject"`, 1)
	}
	sources["Ward system"].answer = func(context.Context, broker.Query) (broker.Reply, error) {
		return reply("ward", n, encounter("7", "on the ward"), within("w", "of the ward"), observation("same", "2024-05-02", "in both")), nil
	}
	sources["Theatres"].answer = func(context.Context, broker.Query) (broker.Reply, error) {
		return reply("theatres", n, encounter("7", "in theatre"), within("t", "of theatre"), observation("same", "2024-05-02", "in both")), nil
	}
	res, err := h.Retrieve(t.Context(), question(n))
	if err != nil {
		t.Fatal(err)
	}
	got := res.Answer.Statuses[1]
	if got.State != record.ReturnedInPart || len(got.Parts) != 1 || got.Parts[0].Reason != record.PartConflictingCopies || got.Parts[0].Count != 1 {
		t.Errorf("got %s with %v", got.State, got.Parts)
	}
	encounters, patients := map[string]string{}, 0
	for _, e := range res.Answer.Entries {
		if e.Custodian != "acute" {
			continue
		}
		switch e.Type {
		case "Encounter":
			for _, text := range []string{"on the ward", "in theatre"} {
				if strings.Contains(string(e.JSON), text) {
					encounters[text] = e.ID
				}
			}
			if !strings.Contains(string(e.JSON), "conflicting-copies") {
				t.Error("a copy that differs is not marked")
			}
		case "Patient":
			patients++
		}
	}
	if len(encounters) != 2 || encounters["on the ward"] == encounters["in theatre"] || patients != 1 {
		t.Fatalf("encounters %v, %d patients", encounters, patients)
	}
	both := 0
	for _, e := range res.Answer.Entries {
		for text, in := range map[string]string{"of the ward": "on the ward", "of theatre": "in theatre"} {
			if e.Custodian == "acute" && strings.Contains(string(e.JSON), text+`"`) && !strings.Contains(string(e.JSON), "Encounter/"+encounters[in]+`"`) {
				t.Errorf("an observation %s does not lead to the encounter %s", text, in)
			}
		}
		if strings.Contains(string(e.JSON), "in both") {
			both++
		}
	}
	if both != 1 {
		t.Errorf("what is the same in both is there %d times", both)
	}
}

// Two Patients of one custodian are both linked, and the caps are the custodian's.
func TestTwoSourcesAreOneCustodian(t *testing.T) {
	sources, change := several("Ward system", "Theatres")
	h := open(t, audittest.Open(t), func(c *broker.Config) {
		change(c)
		c.Limits.Resources = 6
	})
	n := number(t, ann)
	sources["Theatres"].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
		r := reply("theatres", n, observation("t", "2024-05-02", "of theatre"))
		other := reply("theatres", n, strings.Replace(observation("t2", "2024-05-02", "of theatre, too"), "Patient/p1", "Patient/p9", 1))
		// The person is p9 here.
		doc := strings.ReplaceAll(string(other.Entries[0].Resource.Raw()), `"p1"`, `"p9"`)
		fixed := reply("theatres", n, doc)
		return broker.Reply{Base: r.Base, Entries: append(fixed.Entries[1:], other.Entries[1:]...), Bytes: 100, Adapter: "other/2", Conversions: []string{"turned round"}}, nil
	}
	got, text := acuteStatus(t, h, n)
	if got.State != record.Returned || got.Adapter != "memory/1, other/2" || got.Shown != 4 {
		t.Errorf("got %s by %s, %d shown, parts %v", got.State, got.Adapter, got.Shown, got.Parts)
	}
	for _, want := range []string{`{"reference":"Patient/acute-p1"},`, `{"reference":"Patient/acute-p9"}`, "turned round", "of theatre, too"} {
		if !strings.Contains(strings.ReplaceAll(text, " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("%s is not in the answer", want)
		}
	}
	// The second takes more than the custodian may hold.
	sources["Ward system"].answer = func(context.Context, broker.Query) (broker.Reply, error) {
		return reply("ward", n, observation("1", "2024-05-01", "a"), observation("2", "2024-05-01", "b"), observation("3", "2024-05-01", "c"), observation("4", "2024-05-01", "d")), nil
	}
	if got, _ := acuteStatus(t, h, n); got.State != record.ReturnedInPart || partTexts(got.Parts) != "Theatres source-down" {
		t.Errorf("got %s with %q", got.State, partTexts(got.Parts))
	}
	// Bytes are shared.
	take := func(_ context.Context, q broker.Query) (broker.Reply, error) {
		if !q.Limits.Take(20 << 20) {
			return broker.Reply{}, broker.ErrTooMuch
		}
		return reply("x"+string(fmt.Sprint(q.Limits.Bytes)), n, observation("1", "2024-05-01", "a")), nil
	}
	sources["Ward system"].answer, sources["Theatres"].answer = take, take
	if got, _ := acuteStatus(t, h, n); got.State != record.ReturnedInPart || len(got.Parts) != 1 || got.Parts[0].Reason != record.PartSourceDown {
		t.Errorf("got %s with %v", got.State, got.Parts)
	}
	if h.Custodians()[1].Breaker != "closed" {
		t.Error("want of room is counted as illness")
	}
}

func TestSourcesAreNamed(t *testing.T) {
	for name, change := range map[string]func(*broker.Binding){
		"neither": func(b *broker.Binding) { b.Source = nil },
		"one only": func(b *broker.Binding) {
			b.Sources, b.Source = []broker.NamedSource{{Name: "a", Source: b.Source}}, nil
		},
		"both": func(b *broker.Binding) {
			b.Sources = []broker.NamedSource{{Name: "a", Source: b.Source}, {Name: "b", Source: b.Source}}
		},
		"no name": func(b *broker.Binding) {
			b.Sources, b.Source = []broker.NamedSource{{Name: "a", Source: b.Source}, {Source: b.Source}}, nil
		},
	} {
		func() {
			cfg := broker.Config{}
			h := open(t, audittest.Open(t), func(c *broker.Config) { cfg = *c })
			_ = h
			change(&cfg.Custodians[1])
			if _, err := broker.New(cfg); err == nil || errors.Is(err, broker.ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
}
