// Package brokertest gives tests of the faces a real broker: two custodians and a demographics service in memory before a ledger on a real SQLite
// file. Everybody is invented.
package brokertest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Ann is the person whom both custodians hold.
const (
	Ann          = "9990000018"
	AnnBirthDate = "1950-02-03"
)

// Neutral are people of whom nothing may be said, by why: the six classes of design section 3. All must be answered alike.
func Neutral() map[string]string {
	return map[string]string{"unknown": "9990000026", "superseded": "9990000034", "invalidated": "9990000042", "restricted": "9990000050",
		"deceased and closed": "9990000069", "held by nobody": "9990000077"}
}

var standings = map[string]record.Standing{"unknown": record.Unknown, "superseded": record.Superseded, "invalidated": record.Invalidated,
	"restricted": record.Restricted, "deceased and closed": record.Deceased, "held by nobody": record.Live}

// Open returns a broker. What change does to its configuration comes last; nil: nothing.
func Open(t testing.TB, change func(*broker.Config)) *broker.Broker {
	t.Helper()
	cfg := broker.Config{Tracer: tracer{}, Ledger: audittest.Open(t), Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example",
		IDKey: []byte(strings.Repeat("i", 32)), HandleKey: []byte(strings.Repeat("h", 64)), Configuration: "test", TestNumbers: true,
		Request: 8 * time.Second, Reserve: 250 * time.Millisecond, Minimum: 500 * time.Millisecond, NeutralWait: 3250 * time.Millisecond,
		TraceTimeout: 2 * time.Second, DeceasedWindow: 28 * 24 * time.Hour, Limits: broker.DefaultLimits, RequestBytes: 64 << 20,
		MaxInFlightBytes: 1 << 30, BreakerFailures: 5, BreakerOpen: 15 * time.Second}
	for _, c := range []record.Custodian{
		{Key: "gp", ODS: "X9A01", Name: "Rivermead Surgery", Kind: record.KindGP, Contact: "ring A"},
		{Key: "community", ODS: "X9D01", Name: "Invented Community Health", Kind: record.KindCommunity, Contact: "ring D"},
	} {
		cfg.Custodians = append(cfg.Custodians, broker.Binding{Rules: consent.CustodianRules{Custodian: c}, Source: source(c.Key), Adapter: "memory", Timeout: 3 * time.Second})
	}
	if change != nil {
		change(&cfg)
	}
	b, err := broker.New(cfg)
	if err != nil {
		t.Fatalf("making a broker: %v", err)
	}
	return b
}

// tracer is a demographics service: those in Neutral stand as they are called there, everybody else is Ann, and lives.
type tracer struct{}

var _ broker.Tracer = tracer{}

// Trace implements broker.Tracer.
func (tracer) Trace(_ context.Context, n record.NHSNumber, _ string) (record.Subject, error) {
	for class, digits := range Neutral() {
		if standing := standings[class]; n.Reveal() == digits && standing != record.Live {
			s := record.Subject{Number: n, Standing: standing}
			if standing == record.Deceased {
				s.Deceased = "1999-01-01"
			}
			return s, nil
		}
	}
	return record.Subject{Number: n, Standing: record.Live, Family: "Ashdown", Given: []string{"Ann"}, Gender: "female", BirthDate: AnnBirthDate}, nil
}

// source is a custodian that holds one observation about everybody but the one whom nobody holds. It takes a moment.
type source record.CustodianKey

var _ broker.Source = source("")

// Fetch implements broker.Source.
func (s source) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return broker.Reply{}, broker.ErrTimedOut
	}
	if q.Subject.Number.Reveal() == Neutral()["held by nobody"] {
		return broker.Reply{}, broker.ErrNoRecord
	}
	base := "https://" + string(s) + ".example/fhir"
	text := fmt.Sprintf(`{"resourceType":"Bundle","type":"searchset","entry":[
{"fullUrl":%q,"resource":{"resourceType":"Patient","id":"p1","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":%q}],"name":[{"family":"Ashdown","given":["Ann"]}],"birthDate":%q}},
{"fullUrl":%q,"resource":{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"Body weight"},"subject":{"reference":"Patient/p1"},"effectiveDateTime":"2024-05-01"}}]}`,
		base+"/Patient/p1", q.Subject.Number.Reveal(), AnnBirthDate, base+"/Observation/o1")
	doc, err := fhirjson.Parse([]byte(text), fhirjson.Limits{})
	if err != nil {
		return broker.Reply{}, broker.ErrMalformed
	}
	bundle, err := fhirjson.ReadBundle(doc)
	if err != nil {
		return broker.Reply{}, broker.ErrMalformed
	}
	return broker.Reply{Base: base, Entries: bundle.Entries, Bytes: int64(len(text)), Adapter: "memory/1"}, nil
}
