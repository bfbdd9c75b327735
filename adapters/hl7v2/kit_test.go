package hl7v2_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func TestMain(m *testing.M) { os.Exit(verify(m)) }

func verify(m *testing.M) int {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Invented people.
const (
	held    = "9990000034"
	unknown = "9990000050"
	other   = "9990000018"
)

const marker = "MARKER-OF-A-CUSTODIAN"

func number(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a number of the tests is not valid")
	}
	return n
}

func query(t testing.TB, s string) broker.Query {
	limits := broker.DefaultLimits
	limits.Bytes = 4 << 20 // enough for all that is good here, and a huge answer is cut sooner
	return broker.Query{Subject: record.Subject{Number: number(t, s), Standing: record.Live}, RequestID: "request-1", Limits: limits}
}

// person is a record with several pages of results.
func person(nhs string) []json.RawMessage {
	out := []json.RawMessage{
		json.RawMessage(`{"resourceType":"Patient","id":"p1","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + nhs + `"}],` +
			`"name":[{"family":"` + marker + `","given":["Ann","Zoë"]}],"gender":"female","birthDate":"1950-01-02"}`),
		json.RawMessage(`{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"IMP"},"subject":{"reference":"Patient/p1"},"period":{"start":"2024-03-01T10:00:00Z","end":"2024-03-03T12:00:00Z"},"type":[{"text":"Hip"}]}`),
		json.RawMessage(`{"resourceType":"DocumentReference","id":"d1","status":"current","type":{"text":"Letter"},"content":[{"attachment":{"contentType":"text/plain","data":"SGVsbG8=","creation":"2024-03-03"}}]}`),
	}
	for i := range 12 {
		out = append(out, json.RawMessage(fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"%s"},"effectiveDateTime":"2024-03-02T08:%02d:00+00:00",`+
			`"category":[{"coding":[{"code":"laboratory"}]}],"encounter":{"reference":"Encounter/e1"},"valueQuantity":{"value":1.50,"unit":"mmol/L"}}`, i, marker, i)))
	}
	return out
}

// engine is a simulated engine that listens.
type engine struct {
	*simulator.Engine
	address string
}

func newEngine(t testing.TB, change ...func(*simulator.EngineConfig)) engine {
	t.Helper()
	cfg := simulator.EngineConfig{Application: marker, PageSize: 5, People: map[string][]json.RawMessage{held: person(held)}}
	for _, f := range change {
		f(&cfg)
	}
	e, err := simulator.NewEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.ServeMLLP(ln)
	t.Cleanup(e.Close)
	return engine{e, "mllp://" + ln.Addr().String()}
}

var queries = []string{simulator.QueryVisits, simulator.QueryResults, simulator.QueryDocuments}

func settings(address string) hl7v2.Settings {
	return hl7v2.Settings{Socket: wire.Socket{Address: address, AllowPlainTCP: true}, Queries: queries}
}

func source(t testing.TB, address string, change ...func(*hl7v2.Settings)) *hl7v2.Source {
	t.Helper()
	s := settings(address)
	for _, f := range change {
		f(&s)
	}
	src, err := hl7v2.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

// lacks are the faults of design section 9 that HL7 v2 over MLLP has no way to have.
var lacks = map[adaptertest.Fault]string{
	adaptertest.Throttle429:   "no code of HL7 tables 0008, 0208 or 0357 asks a sender to wait",
	adaptertest.GzipBomb:      "MLLP has no compression",
	adaptertest.Deep:          "a field has components and subcomponents and nothing deeper",
	adaptertest.PageElsewhere: "a continuation pointer holds no address",
}

// Every fault of design section 9 that an engine can have ends in the state of section 6.
func TestFaults(t *testing.T) {
	e := newEngine(t)
	adaptertest.Run(t, adaptertest.Kit{
		New: func() (broker.Source, error) { return hl7v2.New(settings(e.address)) },
		SetFault: func(f adaptertest.Fault, after, ms int) error {
			return e.SetFault(simulator.FaultSpec{Fault: simulator.Fault(f), After: after, Ms: ms})
		},
		Requests: func() int { return e.Requests().Record },
		Query:    query(t, held), Unknown: number(t, unknown), Several: true, Lacks: lacks,
		Outside: []string{marker, e.address, "127.0.0.1", "Strangeways", simulator.StrangerTag},
	})
	noNumberInLog(t, e)
}

// The suite knows every fault that a simulated engine can have, and what it lacks is what the engine lacks.
func TestFaultListsAgree(t *testing.T) {
	ours := map[string]bool{}
	for _, x := range adaptertest.Faults() {
		if lacks[x.Fault] == "" {
			ours[string(x.Fault)] = true
		}
	}
	for _, f := range simulator.EngineFaults() {
		if !ours[string(f)] {
			t.Errorf("no expectation for %s", f)
		}
		delete(ours, string(f))
	}
	for f := range ours {
		t.Errorf("the simulator has no fault %s", f)
	}
}

func TestCheckFindsNothingWrong(t *testing.T) {
	e := newEngine(t)
	if got := adaptertest.Check(t.Context(), source(t, e.address), query(t, held)); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if n := e.Requests().Record; n < 20 {
		t.Errorf("looked with %d requests only", n)
	}
	noNumberInLog(t, e)
}

func noNumberInLog(t *testing.T, e engine) {
	t.Helper()
	for _, line := range e.Log() {
		if strings.Contains(line, held) || strings.Contains(line, "refused") || strings.Contains(line, "MLLP") || strings.Contains(line, "second") {
			t.Fatal("the engine refused a message of ours, or its log holds a number: " + strings.ReplaceAll(line, held, "…"))
		}
	}
}
