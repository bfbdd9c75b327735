package broker

import (
	"context"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

const scope = "github.com/mycarerecord/mycarerecord/broker"

// seconds are the buckets of every histogram of times: 5 ms to 10 s.
var seconds = metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 8, 10)

// metrics are the counters of the broker. No label can hold a person.
type metrics struct {
	requests, states, alarms, locators metric.Int64Counter
	running                            metric.Int64UpDownCounter
	duration, latency                  metric.Float64Histogram
}

func instruments(tp trace.TracerProvider, mp metric.MeterProvider, b *Broker) (trace.Tracer, *metrics, error) {
	if tp == nil {
		tp = tracenoop.NewTracerProvider()
	}
	if mp == nil {
		mp = metricnoop.NewMeterProvider()
	}
	meter, m := mp.Meter(scope), &metrics{}
	var err error
	keep := func(e error) {
		if err == nil {
			err = e
		}
	}
	var e error
	m.requests, e = meter.Int64Counter("mcr_requests", metric.WithDescription("record requests by face and outcome"))
	keep(e)
	m.running, e = meter.Int64UpDownCounter("mcr_requests_running", metric.WithDescription("record requests on their way"))
	keep(e)
	m.duration, e = meter.Float64Histogram("mcr_request_duration", metric.WithUnit("s"), metric.WithDescription("arrival to release or refusal"), seconds)
	keep(e)
	m.states, e = meter.Int64Counter("mcr_custodian_states", metric.WithDescription("answers of custodians by state"))
	keep(e)
	m.latency, e = meter.Float64Histogram("mcr_custodian_duration", metric.WithUnit("s"), metric.WithDescription("asking one custodian"), seconds)
	keep(e)
	m.alarms, e = meter.Int64Counter("mcr_custodian_alarms", metric.WithDescription("answers that need an operator: wrong person, refused credentials, sums"))
	keep(e)
	m.locators, e = meter.Int64Counter("mcr_locator_answers", metric.WithDescription("what custodians' locators said: only unlisted leaves one unasked"))
	keep(e)
	breaker, e := meter.Int64ObservableGauge("mcr_breaker_state", metric.WithDescription("0 closed, 1 half open, 2 open"))
	keep(e)
	inFlight, e := meter.Int64ObservableGauge("mcr_bytes_in_flight", metric.WithUnit("By"), metric.WithDescription("memory reserved for requests"))
	keep(e)
	position, e := meter.Int64ObservableGauge("mcr_ledger_position", metric.WithDescription("entries in the ledger"))
	keep(e)
	open, e := meter.Int64ObservableGauge("mcr_ledger_open", metric.WithDescription("accesses that are not closed"))
	keep(e)
	batches, e := meter.Int64ObservableCounter("mcr_ledger_batches", metric.WithDescription("commits"))
	keep(e)
	batch, e := meter.Int64ObservableGauge("mcr_ledger_batch_size", metric.WithDescription("entries in the last commit"))
	keep(e)
	commit, e := meter.Float64ObservableGauge("mcr_ledger_commit_duration", metric.WithUnit("s"), metric.WithDescription("time of the last commit"))
	keep(e)
	signed, e := meter.Int64ObservableGauge("mcr_ledger_signed", metric.WithDescription("entries under the newest checkpoint"))
	keep(e)
	failing, e := meter.Int64ObservableGauge("mcr_ledger_sinks_failing", metric.WithDescription("places of checkpoints that did not take the last one"))
	keep(e)
	contradicted, e := meter.Int64ObservableGauge("mcr_ledger_sinks_contradicted", metric.WithDescription("places of checkpoints that hold one which the ledger does not continue: look at once"))
	keep(e)
	if err != nil {
		return nil, nil, err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, c := range b.custodians {
			v := map[gobreaker.State]int64{gobreaker.StateClosed: 0, gobreaker.StateHalfOpen: 1, gobreaker.StateOpen: 2}[c.breaker()]
			o.ObserveInt64(breaker, v, metric.WithAttributes(attribute.String(keyCustodian, string(c.Rules.Custodian.Key))))
		}
		o.ObserveInt64(inFlight, b.room.used())
		s := b.cfg.Ledger.Stats()
		o.ObserveInt64(position, int64(s.Position))
		o.ObserveInt64(open, int64(s.Open))
		o.ObserveInt64(batches, int64(s.Batches))
		o.ObserveInt64(batch, int64(s.LastBatch))
		o.ObserveFloat64(commit, s.LastCommit.Seconds())
		o.ObserveInt64(signed, int64(s.Signed))
		var away, against int64
		for _, sink := range s.Sinks {
			if sink.Failing {
				away++
			}
			if sink.Contradicted {
				against++
			}
		}
		o.ObserveInt64(failing, away)
		o.ObserveInt64(contradicted, against)
		return nil
	}, breaker, inFlight, position, open, batches, batch, commit, signed, failing, contradicted)
	return tp.Tracer(scope), m, err
}

// told is what metrics and spans are told of one custodian, each made once: to make it anew for each call costs more than to count it.
type told struct {
	key    attribute.KeyValue
	states map[record.State][]metric.AddOption
	took   []metric.RecordOption
	span   []trace.SpanStartOption
}

func newTold(k record.CustodianKey) told {
	t := told{key: attribute.String(keyCustodian, string(k)), states: map[record.State][]metric.AddOption{}}
	for _, s := range record.States {
		t.states[s] = t.with(s)
	}
	t.took = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(t.key))}
	t.span = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(t.key)}
	return t
}

func (t told) with(s record.State) []metric.AddOption {
	return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(t.key, attribute.String(keyState, string(s))))}
}

func (t told) state(s record.State) []metric.AddOption {
	if made := t.states[s]; made != nil {
		return made
	}
	return t.with(s)
}

func (m *metrics) started(ctx context.Context) { m.running.Add(ctx, 1) }

func (m *metrics) ended(ctx context.Context, took time.Duration) {
	m.running.Add(ctx, -1)
	m.duration.Record(ctx, took.Seconds())
}

func (m *metrics) outcome(ctx context.Context, face, word string) {
	m.requests.Add(ctx, 1, metric.WithAttributes(attribute.String(keyFace, face), attribute.String(keyOutcome, word)))
}

func (m *metrics) custodian(ctx context.Context, c *custodian, s record.State, took time.Duration) {
	m.states.Add(ctx, 1, c.told.state(s)...)
	if took > 0 {
		m.latency.Record(ctx, took.Seconds(), c.told.took...)
	}
}

func (m *metrics) located(ctx context.Context, c *custodian, outcome string) {
	m.locators.Add(ctx, 1, metric.WithAttributes(attribute.String(keyCustodian, string(c.Rules.Custodian.Key)), attribute.String(keyOutcome, outcome)))
}

func (m *metrics) alarm(ctx context.Context, c *custodian, reason string) {
	m.alarms.Add(ctx, 1, metric.WithAttributes(attribute.String(keyCustodian, string(c.Rules.Custodian.Key)), attribute.String(keyReason, reason)))
}
