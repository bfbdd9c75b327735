package fhirr4_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/adapters/fhirr4"
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
	held     = "9990000034"
	numbered = "9990000042" // whose Patient.id is their NHS number
	unknown  = "9990000050"
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

// person is a record with two or three pages of most things and supporting resources.
func person(nhs, id string) []json.RawMessage {
	out := []json.RawMessage{
		json.RawMessage(`{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + nhs + `"}],` +
			`"name":[{"family":"` + marker + `"}],"birthDate":"1950-01-02","generalPractitioner":[{"reference":"Practitioner/gp"}]}`),
		json.RawMessage(`{"resourceType":"Practitioner","id":"gp","name":[{"family":"Field"}]}`),
		json.RawMessage(`{"resourceType":"Organization","id":"org","name":"` + marker + `"}`),
		json.RawMessage(`{"resourceType":"Location","id":"loc","managingOrganization":{"reference":"Organization/org"}}`),
	}
	for i := range 12 {
		out = append(out, json.RawMessage(fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"%s"},"subject":{"reference":"Patient/%s"},`+
			`"performer":[{"reference":"Practitioner/gp"}],"encounter":{"reference":"Encounter/e1"},"valueQuantity":{"value":1.50}}`, i, marker, id)))
	}
	for i := range 3 {
		out = append(out, json.RawMessage(fmt.Sprintf(`{"resourceType":"Condition","id":"c%d","subject":{"reference":"Patient/%s"},"code":{"text":"%s"}}`, i, id, marker)))
	}
	return append(out, json.RawMessage(`{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/`+id+
		`"},"location":[{"location":{"reference":"Location/loc"}}]}`))
}

type custodian struct {
	*simulator.Custodian
	base string
}

func newCustodian(t testing.TB, everything bool) custodian {
	t.Helper()
	c, err := simulator.NewCustodian(simulator.CustodianConfig{Name: marker, Everything: everything, PageSize: 5,
		People: map[string][]json.RawMessage{held: person(held, "p1"), numbered: person(numbered, numbered)}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return custodian{c, s.URL + "/fhir"}
}

func source(t testing.TB, base string, change ...func(*fhirr4.Settings)) *fhirr4.Source {
	t.Helper()
	s := fhirr4.Settings{Connection: wire.Connection{BaseURL: base, AllowPlainHTTP: true}}
	for _, f := range change {
		f(&s)
	}
	src, err := fhirr4.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

func noNumberInAddresses(t *testing.T, c custodian) {
	t.Helper()
	for _, line := range c.Log() {
		if strings.Contains(line, held) || strings.Contains(line, numbered) || strings.Contains(line, unknown) {
			t.Fatal("an NHS number was in an address")
		}
	}
}

// Every fault of design section 9 ends in the state of section 6, in both ways of reading a record.
func TestFaults(t *testing.T) {
	for _, everything := range []bool{true, false} {
		t.Run(fmt.Sprint("everything ", everything), func(t *testing.T) {
			c := newCustodian(t, everything)
			adaptertest.Run(t, adaptertest.Kit{
				New: func() (broker.Source, error) {
					return fhirr4.New(fhirr4.Settings{Connection: wire.Connection{BaseURL: c.base, AllowPlainHTTP: true}})
				},
				SetFault: func(f adaptertest.Fault, after, ms int) error {
					return c.SetFault(simulator.FaultSpec{Fault: simulator.Fault(f), After: after, Ms: ms})
				},
				Requests: func() int { return c.Requests().Record },
				Query:    query(t, held), Unknown: number(t, unknown), Several: !everything,
				Outside: []string{marker, c.base, "127.0.0.1", "elsewhere.invalid", "Strangeways"},
			})
			noNumberInAddresses(t, c)
		})
	}
}

// The suite knows every fault that a simulated custodian can have, and no other.
func TestFaultListsAgree(t *testing.T) {
	ours := map[string]bool{}
	for _, x := range adaptertest.Faults() {
		ours[string(x.Fault)] = true
	}
	for _, f := range simulator.CustodianFaults() {
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
	for _, everything := range []bool{true, false} {
		for _, who := range []string{held, numbered} {
			c := newCustodian(t, everything)
			if got := adaptertest.Check(t.Context(), source(t, c.base), query(t, who)); len(got) > 0 {
				t.Errorf("everything %v: %v", everything, got)
			}
			if n := c.Requests().Record; n < 20 {
				t.Errorf("everything %v: looked with %d requests only", everything, n)
			}
			noNumberInAddresses(t, c)
		}
	}
}

func TestIdleGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 50 {
		if _, err := fhirr4.New(fhirr4.Settings{Connection: wire.Connection{BaseURL: "https://fhir.trust.example"}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines for sources that were asked nothing", n-before)
	}
}
