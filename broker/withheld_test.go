package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// An objection to a custodian that comes while custodians are asked: whatever had become of asking that one, it is withheld, by every face. Another state would
// tell whether it knows the person. What a stream had said before stays said.
func TestObjectionMeanwhileHidesTheState(t *testing.T) {
	for name, end := range map[string]error{"it holds a record": nil, "it holds none": broker.ErrNoRecord, "it is down": broker.ErrUnavailable} {
		for _, face := range []string{"whole", "stream", "stream that had said"} {
			t.Run(name+", "+face, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := audittest.Open(t)
					h := open(t, l, nil)
					n := number(t, ann)
					for _, s := range h.sources {
						s.answer = func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, broker.ErrNoRecord }
					}
					first, last := h.sources[2], h.sources[0] // who answers before the third, and who after it
					if face == "stream" {
						first, last = last, first
					}
					after := map[*source]time.Duration{first: 0, last: 2 * time.Second}
					h.sources[0].answer = func(ctx context.Context, q broker.Query) (broker.Reply, error) {
						time.Sleep(after[h.sources[0]])
						if _, _, err := h.RecordObjection(ctx, objecting(n), consent.Objection{Scope: consent.ToCustodian, Custodian: "mentalhealth"}); err != nil {
							t.Error(err)
						}
						return reply("gp", q.Subject.Number, observation("o1", "2024-05-01", "x")), nil
					}
					h.sources[1].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
						time.Sleep(time.Second)
						return reply("acute", q.Subject.Number, observation("o1", "2024-05-01", "x")), nil
					}
					h.sources[2].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
						time.Sleep(after[h.sources[2]])
						if end != nil {
							return broker.Reply{}, end
						}
						return reply("mentalhealth", q.Subject.Number, observation("o1", "2024-05-01", "x")), nil
					}
					var r recorder
					if face == "whole" {
						res, err := h.Retrieve(t.Context(), question(n))
						if err != nil {
							t.Fatal(err)
						}
						r.authored = res.Answer
					} else if err := h.Stream(t.Context(), question(n), &r); err != nil {
						t.Fatal(err)
					}
					want := record.Withheld
					for _, s := range r.chunks {
						switch {
						case s.Custodian.Key != "mentalhealth":
						case face == "stream that had said":
							want = s.State
						case s.State != want:
							t.Errorf("the stream says %s in between, want %s", s.State, want)
						}
					}
					if s := r.authored.Statuses[2]; s.State != want || (s.Rule == consent.RuleObjection) != (want == record.Withheld) {
						t.Errorf("the answer says %s, by %q, want %s", s.State, s.Rule, want)
					}
					verified(t, l)
				})
			})
		}
	}
}

// C-4: with an objection to the mental-health section no byte of a marked entry is anywhere in the answer, references to it are masked, and the rest
// is whole; by every face, and also when the objection comes while custodians are asked.
func TestMentalHealthObjection(t *testing.T) {
	const marked = `{"resourceType":"Condition","id":"zqsecretid","category":[{"coding":[{"system":"https://mycarerecord.example/CodeSystem/section","code":"mental-health"}]}],"code":{"text":"Zqsecrettext"},"subject":{"reference":"Patient/p1"},"recordedDate":"2020-02-02"}`
	const pointing = `{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p1"},"period":{"start":"2020-02-02"},"diagnosis":[{"condition":{"reference":"Condition/zqsecretid","display":"Zqsecrettext"}},{"condition":{"reference":"Condition/c2"}}]}`
	const plain = `{"resourceType":"Condition","id":"c2","code":{"text":"Sprained ankle"},"subject":{"reference":"Patient/p1"},"recordedDate":"2020-02-02"}`
	for _, when := range []string{"before", "meanwhile"} {
		for _, face := range []string{"whole", "stream"} {
			t.Run(when+", "+face, func(t *testing.T) {
				l := audittest.Open(t)
				h := open(t, l, nil)
				n := number(t, ann)
				object := func(ctx context.Context) {
					if _, _, err := h.RecordObjection(ctx, objecting(n), consent.Objection{Scope: consent.ToSection, Section: record.MentalHealth}); err != nil {
						t.Error(err)
					}
				}
				h.sources[0].answer = func(ctx context.Context, q broker.Query) (broker.Reply, error) {
					if when == "meanwhile" {
						object(ctx)
					}
					return reply("gp", q.Subject.Number, marked, pointing, plain), nil
				}
				if when == "before" {
					object(t.Context())
				}
				var entries []merge.Entry
				var text string
				if face == "whole" {
					res, err := h.Retrieve(t.Context(), question(n))
					if err != nil {
						t.Fatal(err)
					}
					entries, text = res.Answer.Entries, bundle(t, res.Answer)
				} else {
					r := &recorder{}
					if err := h.Stream(t.Context(), question(n), r); err != nil {
						t.Fatal(err)
					}
					entries = append(r.entries, r.authored.Entries...)
					text = strings.Join(r.order, " ")
					for _, e := range entries {
						text += string(e.JSON)
					}
				}
				if strings.Contains(text, "zqsecret") || strings.Contains(text, "Zqsecret") {
					t.Error("a byte of the withheld entry is in the answer")
				}
				if !strings.Contains(text, `"valueCode":"masked"`) || !strings.Contains(text, "Condition/gp-c2") {
					t.Error("the reference to it is not masked, or another one is not whole")
				}
				whole := 0
				for _, e := range entries {
					if e.Custodian == "gp" {
						whole++
					}
				}
				if whole != 3 { // the Patient, the Encounter, the other Condition
					t.Errorf("%d entries of the practice, want 3", whole)
				}
				verified(t, l)
			})
		}
	}
}

// P5, in this process: panics, log lines of every level, spans and metrics hold nothing of a person.
func TestTelemetryHoldsNobody(t *testing.T) {
	const marker = "Zqtelemetry"
	var out bytes.Buffer
	spans := tracetest.NewInMemoryExporter()
	reader := sdkmetric.NewManualReader()
	l := audittest.Open(t)
	h := open(t, l, func(c *broker.Config) {
		quick(c)
		c.Log = broker.NewLogger(&out, slog.LevelDebug)
		c.Traces = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
		c.Meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		for i := range c.Custodians {
			c.Custodians[i].TraceContext = true
		}
	})
	n := number(t, ann)
	text := observation(marker, "2024", marker)
	for i, answer := range []func(context.Context, broker.Query) (broker.Reply, error){
		func(_ context.Context, q broker.Query) (broker.Reply, error) {
			return reply("gp", q.Subject.Number, text), nil
		},
		func(_ context.Context, q broker.Query) (broker.Reply, error) {
			panic(fmt.Errorf("%s %s", marker, q.Subject.Number.Reveal()))
		},
		func(context.Context, broker.Query) (broker.Reply, error) {
			return broker.Reply{}, fmt.Errorf("%w: %s", broker.ErrMalformed, marker)
		},
		func(ctx context.Context, _ broker.Query) (broker.Reply, error) {
			<-ctx.Done()
			return broker.Reply{}, errors.New(marker)
		},
		func(context.Context, broker.Query) (broker.Reply, error) {
			return reply(marker, must("9990000026"), text), nil
		},
		func(_ context.Context, q broker.Query) (broker.Reply, error) {
			if _, ok := q.Trace["traceparent"]; !ok || len(q.Trace) != 1 {
				return broker.Reply{}, errors.New("the trace context is missing, or more than that")
			}
			return reply("ambulance", q.Subject.Number, text), nil
		},
	} {
		h.sources[i].answer = answer
	}
	for _, change := range []func(*broker.Request){func(*broker.Request) {},
		func(r *broker.Request) { r.Permission = record.Permission{Kind: record.CannotAsk, Reason: marker} },
		func(r *broker.Request) { r.Purpose, r.BreakGlassReason = record.BreakGlass, marker+" is unconscious" },
		func(r *broker.Request) { r.Permission = record.Permission{} }, func(r *broker.Request) { r.BirthDate = "1900-01-01" },
		func(r *broker.Request) { r.Filter.Types = []string{"Observation"} }} {
		req := question(n)
		req.Requester.Name = marker
		change(&req)
		if res, err := h.Retrieve(t.Context(), req); err != nil && strings.Contains(err.Error(), marker) {
			t.Error("an error holds a marker")
		} else if err == nil && res.Answer.Statuses[5].State != record.Returned {
			t.Errorf("the ambulance service is %s: it was not given the trace context alone", res.Answer.Statuses[5].State)
		}
	}
	// And a caller who leaves.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, _ = h.Retrieve(ctx, question(n)) // what it says is of no matter here
	cancel()

	var metrics metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &metrics); err != nil {
		t.Fatal(err)
	}
	seen, err := json.Marshal(spans.GetSpans())
	if err != nil {
		seen = fmt.Appendf(nil, "%+v", spans.GetSpans())
	}
	numbers, err := json.Marshal(metrics)
	if err != nil {
		numbers = fmt.Appendf(nil, "%+v", metrics)
	}
	for where, text := range map[string]string{"log": out.String(), "spans": string(seen), "metrics": string(numbers)} {
		for _, m := range []string{marker, ann, "9990000026", "Ashdown", "555001112223"} {
			if strings.Contains(text, m) {
				t.Errorf("the %s holds a marker of %d letters", where, len(m))
			}
		}
		if len(text) < 500 {
			t.Errorf("the %s holds %d bytes: the search proves nothing", where, len(text))
		}
	}
	verified(t, l)
}
