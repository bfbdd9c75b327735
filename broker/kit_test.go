package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// The nine custodians of these tests, in order.
var nine = []record.Custodian{
	{Key: "gp", ODS: "X9A01", Name: "Rivermead Surgery", Kind: record.KindGP, Contact: "ring A"},
	{Key: "acute", ODS: "X9B01", Name: "Eastvale Hospitals", Kind: record.KindAcute, Contact: "ring B"},
	{Key: "mentalhealth", ODS: "X9C01", Name: "Harbourside", Kind: record.KindMentalHealth, Contact: "ring C"},
	{Key: "community", ODS: "X9D01", Name: "Community", Kind: record.KindCommunity, Contact: "ring D"},
	{Key: "socialcare", ODS: "X9E01", Name: "County Council", Kind: record.KindSocialCare, Contact: "ring E"},
	{Key: "ambulance", ODS: "X9F01", Name: "Ambulance", Kind: record.KindAmbulance, Contact: "ring F"},
	{Key: "pharmacy", ODS: "X9G01", Name: "Pharmacy", Kind: record.KindPharmacy, Contact: "ring G"},
	{Key: "nhs111", ODS: "X9H01", Name: "111", Kind: record.Kind111, Contact: "ring H"},
	{Key: "outofhours", ODS: "X9J01", Name: "Out of hours", Kind: record.KindOutOfHours, Contact: "ring J"},
}

func number(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// source is a custodian in memory: it answers with one observation a custodian, or as told.
type source struct {
	key    record.CustodianKey
	asked  atomic.Int64
	answer func(ctx context.Context, q broker.Query) (broker.Reply, error) // nil: reply
}

// Fetch implements broker.Source.
func (s *source) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	s.asked.Add(1)
	if s.answer != nil {
		return s.answer(ctx, q)
	}
	return reply(string(s.key), q.Subject.Number, observation("o1", "2024-05-01", string(s.key)+" marker")), nil
}

// observation is an entry's JSON; its subject is Patient/p1.
func observation(id, date, text string) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"text":%q},"subject":{"reference":"Patient/p1"},"effectiveDateTime":%q,"valueQuantity":{"value":1.50,"unit":"mmol/L"}}`, id, text, date)
}

// reply wraps entries with the person's Patient, as a custodian would send them.
func reply(key string, n record.NHSNumber, entries ...string) broker.Reply {
	base := "https://" + key + ".example/fhir"
	patient := fmt.Sprintf(`{"resourceType":"Patient","id":"p1","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":%q}],"name":[{"family":"Ashdown","given":["Ann"]}],"gender":"female","birthDate":"1950-02-03"}`, n.Reveal())
	var b strings.Builder
	b.WriteString(`{"resourceType":"Bundle","type":"searchset","entry":[{"fullUrl":"` + base + `/Patient/p1","resource":` + patient + `}`)
	for _, e := range entries {
		b.WriteString(`,{"resource":` + e + `}`)
	}
	b.WriteString(`]}`)
	doc, err := fhirjson.Parse([]byte(b.String()), fhirjson.Limits{})
	if err != nil {
		panic(err)
	}
	bundle, err := fhirjson.ReadBundle(doc)
	if err != nil {
		panic(err)
	}
	for i := range bundle.Entries {
		if bundle.Entries[i].FullURL == "" {
			r := bundle.Entries[i].Resource
			bundle.Entries[i].FullURL = base + "/" + r.Get("resourceType").Text() + "/" + r.Get("id").Text()
		}
	}
	return broker.Reply{Base: base, Entries: bundle.Entries, Bytes: int64(b.Len()), Adapter: "memory/1"}
}

// tracer is a demographics service in memory: everyone is Ann Ashdown, live, unless said otherwise.
type tracer struct {
	standing   map[record.NHSNumber]record.Standing
	supersedes map[record.NHSNumber][]record.NHSNumber
	fail       atomic.Bool
	heard      func(record.NHSNumber) // called with each number that is asked for; may be nil
}

// Trace implements broker.Tracer.
func (d *tracer) Trace(_ context.Context, n record.NHSNumber, _ string) (record.Subject, error) {
	if d.heard != nil {
		d.heard(n)
	}
	if d.fail.Load() {
		return record.Subject{}, errors.New("down")
	}
	s := record.Subject{Number: n, Standing: record.Live, Family: "Ashdown", Given: []string{"Ann"}, Gender: "female", BirthDate: "1950-02-03",
		Supersedes: d.supersedes[n]}
	if x, ok := d.standing[n]; ok {
		s = record.Subject{Number: n, Standing: x}
		switch x {
		case record.Deceased:
			s.Deceased = "1999-01-01"
		case record.Restricted:
			s.Supersedes = d.supersedes[n]
		}
	}
	return s, nil
}

// house is a broker over nine in-memory custodians and a real ledger.
type house struct {
	*broker.Broker
	ledger  *audit.Ledger
	sources []*source
	tracer  *tracer
}

func open(t testing.TB, ledger *audit.Ledger, change func(*broker.Config)) *house {
	t.Helper()
	h := &house{ledger: ledger, tracer: &tracer{standing: map[record.NHSNumber]record.Standing{}}}
	cfg := broker.Config{Tracer: h.tracer, Ledger: ledger, Base: "https://record.example/fhir", CodeBase: "https://mycarerecord.example",
		IDKey: []byte(strings.Repeat("i", 32)), HandleKey: []byte(strings.Repeat("h", 64)), Configuration: "test", TestNumbers: true,
		Request: 8 * time.Second, Reserve: 250 * time.Millisecond, Minimum: 500 * time.Millisecond, NeutralWait: 3250 * time.Millisecond,
		TraceTimeout: 2 * time.Second, DeceasedWindow: 28 * 24 * time.Hour, Limits: broker.DefaultLimits, RequestBytes: 64 << 20,
		MaxInFlightBytes: 1 << 30, BreakerFailures: 5, BreakerOpen: 15 * time.Second}
	for _, c := range nine {
		s := &source{key: c.Key}
		h.sources = append(h.sources, s)
		cfg.Custodians = append(cfg.Custodians, broker.Binding{Rules: consent.CustodianRules{Custodian: c}, Source: s, Adapter: "memory", Timeout: 3 * time.Second})
	}
	if change != nil {
		change(&cfg)
	}
	b, err := broker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Broker = b
	return h
}

// quick makes every wait short, for tests in real time that meet the neutral answer.
func quick(c *broker.Config) {
	c.NeutralWait, c.Reserve, c.Minimum = 250*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond
	for i := range c.Custodians {
		c.Custodians[i].Timeout = 200 * time.Millisecond
	}
}

// Retrieve is the broker's, with the answer counted as written.
func (h *house) Retrieve(ctx context.Context, req broker.Request) (*broker.Result, error) {
	res, err := h.Broker.Retrieve(ctx, req)
	res.Done()
	return res, err
}

func (h *house) asked() (n int64) {
	for _, s := range h.sources {
		n += s.asked.Load()
	}
	return n
}

// clinician is a doctor of an organisation that is no custodian, who may see everything.
var clinician = record.Requester{Kind: record.Professional, User: "555001112223", Name: "Dr Test", RoleProfile: "555001112224", JobRole: "R8000", Organisation: "X9Z01",
	Client: "epr", Issuer: "https://issuer.example"}

var clinical = consent.Role{Name: "clinical", Version: "v", RecordsObjections: true, SeesObjections: true, Sections: map[record.Purpose]record.Sections{
	record.Treatment: record.AllSections, record.UrgentCare: record.AllSections, record.BreakGlass: record.AllSections}}

func question(n record.NHSNumber) broker.Request {
	return broker.Request{ID: "req-1", Face: "rest", Operation: "everything", Subject: n, Requester: clinician, Role: clinical, Purpose: record.Treatment,
		Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Arrived: time.Now()}
}

func refusal(t testing.TB, err error) *broker.Refusal {
	t.Helper()
	var r *broker.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return r
}

// bundle writes the answer.
func bundle(t testing.TB, a merge.Answer) string {
	t.Helper()
	var b strings.Builder
	if _, err := a.WriteBundle(&b, merge.BundleMeta{ID: "b1", CodeBase: "https://mycarerecord.example", Now: "2026-01-01T00:00:00Z"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// verified walks the whole ledger and fails on anything unsound.
func verified(t testing.TB, l *audit.Ledger) {
	t.Helper()
	report, err := l.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("ledger: %v", p)
	}
}

// recorder takes a stream.
type recorder struct {
	plan     []record.Status
	chunks   []record.Status
	entries  []merge.Entry
	authored merge.Answer
	order    []string
	receipts []audit.Receipt
	onChunk  func(record.Status) error
}

// Plan implements broker.Sink.
func (r *recorder) Plan(_ string, c []record.Status) error {
	r.plan = c
	return nil
}

// Chunk implements broker.Sink.
func (r *recorder) Chunk(s record.Status, e []merge.Entry, rc audit.Receipt) error {
	r.chunks = append(r.chunks, s)
	r.entries = append(r.entries, e...)
	r.receipts = append(r.receipts, rc)
	if r.onChunk != nil {
		return r.onChunk(s)
	}
	return nil
}

// Summary implements broker.Sink.
func (r *recorder) Summary(a merge.Answer, order []string, rc audit.Receipt) error {
	r.authored, r.order = a, order
	r.receipts = append(r.receipts, rc)
	return nil
}
