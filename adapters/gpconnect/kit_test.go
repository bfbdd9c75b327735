package gpconnect_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/adapters/gpconnect"
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
	held      = "9990000034" // a record in every area
	empty     = "9990000042" // registered, and nothing recorded
	warned    = "9990000069" // Lists that do not hold everything
	partly    = "9990000077" // areas that the practice does not give
	dissented = "9990000085"
	unknown   = "9990000050"
)

const (
	marker   = "MARKER-OF-A-PRACTICE"
	ourASID  = "200000000001"
	itsASID  = "200000000002"
	odsCode  = "X9A01"
	basePath = "/X9A01/STU3/1/gpconnect/structured"
)

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
	return broker.Query{Subject: record.Subject{Number: number(t, s), Standing: record.Live}, Purpose: record.Treatment, RequestID: "request-1", Limits: limits,
		Requester: record.Requester{Kind: record.Professional, User: "555021935107", Name: "Dr Miriam Okafor-Lane", RoleProfile: "555021935108", JobRole: "R8000",
			Organisation: "X9B01", Issuer: "https://cis2.example"}}
}

func raw(format string, a ...any) json.RawMessage { return json.RawMessage(fmt.Sprintf(format, a...)) }

// always is what every answer about a person holds.
func always(nhs, id string) []json.RawMessage {
	return []json.RawMessage{
		raw(`{"resourceType":"Patient","id":"%s","meta":{"profile":["https://fhir.nhs.uk/STU3/StructureDefinition/CareConnect-GPC-Patient-1"]},"identifier":[{"extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-NHSNumberVerificationStatus-1","valueCodeableConcept":{"coding":[{"system":"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1","code":"01"}]}}],"system":"https://fhir.nhs.uk/Id/nhs-number","value":"%s"}],"name":[{"use":"official","family":"%s"}],"birthDate":"1950-01-02","generalPractitioner":[{"reference":"Practitioner/gp"}],"managingOrganization":{"reference":"Organization/org"}}`, id, nhs, marker),
		raw(`{"resourceType":"Organization","id":"org","identifier":[{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"X9A01"}],"name":"%s"}`, marker),
		raw(`{"resourceType":"Practitioner","id":"gp","name":[{"family":"Field","given":["Ada"]}]}`),
		raw(`{"resourceType":"PractitionerRole","id":"gp-role","practitioner":{"reference":"Practitioner/gp"},"organization":{"reference":"Organization/org"},"code":[{"coding":[{"system":"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1","code":"R0260"}]}]}`),
	}
}

// areas is something in every area.
func areas(id string) map[string][]json.RawMessage {
	of := `"reference":"Patient/` + id + `"`
	out := map[string][]json.RawMessage{
		"includeAllergies": {
			raw(`{"resourceType":"AllergyIntolerance","id":"a1","clinicalStatus":"active","verificationStatus":"unconfirmed","category":["medication"],"code":{"coding":[{"system":"http://snomed.info/sct","code":"91936005","display":"Allergy to penicillin"}]},"patient":{%s},"assertedDate":"2010-05-06"}`, of),
			raw(`{"resourceType":"AllergyIntolerance","id":"a2","clinicalStatus":"resolved","verificationStatus":"unconfirmed","code":{"text":"Egg"},"patient":{%s},"assertedDate":"2001"}`, of),
		},
		"includeMedication": {
			raw(`{"resourceType":"Medication","id":"m","code":{"text":"Ramipril 2.5mg"}}`),
			raw(`{"resourceType":"MedicationStatement","id":"ms","status":"active","basedOn":[{"reference":"MedicationRequest/plan"}],"medicationReference":{"reference":"Medication/m"},"subject":{%s},"taken":"unk","dateAsserted":"2024-01-01"}`, of),
			raw(`{"resourceType":"MedicationRequest","id":"plan","status":"active","intent":"plan","medicationReference":{"reference":"Medication/m"},"subject":{%s},"dispenseRequest":{"quantity":{"value":28.0}}}`, of),
			raw(`{"resourceType":"MedicationRequest","id":"issue","status":"completed","intent":"order","basedOn":[{"reference":"MedicationRequest/plan"}],"medicationReference":{"reference":"Medication/m"},"subject":{%s}}`, of),
		},
		"includeConsultations": {raw(`{"resourceType":"Encounter","id":"e1","status":"finished","subject":{%s},"period":{"start":"2024-01-01T09:00:00+00:00"}}`, of)},
		"includeProblems":      {raw(`{"resourceType":"Condition","id":"c1","clinicalStatus":"active","category":[{"coding":[{"system":"http://hl7.org/fhir/condition-category","code":"problem-list-item"}]}],"code":{"text":"%s"},"subject":{%s},"context":{"reference":"Encounter/e1"}}`, marker, of)},
		"includeImmunisations": {raw(`{"resourceType":"Immunization","id":"i1","status":"completed","notGiven":false,"vaccineCode":{"text":"Influenza"},"patient":{%s},"date":"2023-10-01"}`, of)},
		"includeInvestigations": {
			raw(`{"resourceType":"DiagnosticReport","id":"d1","status":"final","code":{"coding":[{"system":"http://snomed.info/sct","code":"721981007"}]},"subject":{%s},"issued":"2024-02-03T10:00:00+00:00","result":[{"reference":"Observation/h"}],"basedOn":[{"reference":"ProcedureRequest/p1"}]}`, of),
			raw(`{"resourceType":"Observation","id":"h","status":"final","code":{"text":"Full blood count"},"subject":{%s},"related":[{"type":"has-member","target":{"reference":"Observation/r1"}}]}`, of),
			raw(`{"resourceType":"Observation","id":"r1","status":"final","code":{"text":"Haemoglobin"},"subject":{%s},"valueQuantity":{"value":13.50,"unit":"g/dL"},"related":[{"type":"derived-from","target":{"reference":"Observation/h"}}]}`, of),
			raw(`{"resourceType":"ProcedureRequest","id":"p1","status":"active","intent":"order","code":{"text":"Full blood count"},"subject":{%s}}`, of),
		},
		"includeReferrals":    {raw(`{"resourceType":"ReferralRequest","id":"rr","status":"unknown","intent":"order","reasonCode":[{"text":"Knee pain"}],"subject":{%s},"authoredOn":"2023-01-01"}`, of)},
		"includeDiaryEntries": {raw(`{"resourceType":"ProcedureRequest","id":"rr","status":"active","intent":"plan","code":{"text":"Blood pressure check"},"subject":{%s},"occurrenceDateTime":"2027-01-01"}`, of)},
	}
	for i := range 6 {
		out["includeUncategorisedData"] = append(out["includeUncategorisedData"],
			raw(`{"resourceType":"Observation","id":"u%d","status":"final","code":{"text":"Weight"},"subject":{%s},"effectiveDateTime":"202%d-01-01","comment":"%s","valueQuantity":{"value":70.50}}`, i, of, i, marker))
	}
	return out
}

type practice struct {
	*simulator.Practice
	origin string // of the server
	base   string // of the service
}

func newPractice(t testing.TB) practice {
	t.Helper()
	p, err := simulator.NewPractice(simulator.PracticeConfig{Name: marker, ODS: odsCode, ASID: itsASID, Allow: []string{ourASID}, People: map[string]simulator.GPRecord{
		held:  {Always: always(held, "p1"), Areas: areas("p1")},
		empty: {Always: always(empty, "p2")},
		warned: {Always: always(warned, "p3"), Areas: areas("p3"), Warnings: map[string][]string{"includeAllergies": {"data-in-transit"},
			"includeMedication": {"confidential-items", "data-awaiting-filing"}}},
		partly:    {Always: always(partly, "p4"), Areas: areas("p4"), Disabled: []string{"includeReferrals", "includeDiaryEntries"}},
		dissented: {Always: always(dissented, "p5"), Refuse: "NO_PATIENT_CONSENT"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return practice{p, s.URL, s.URL + basePath}
}

func settings(base string) gpconnect.Settings {
	return gpconnect.Settings{Connection: wire.Connection{BaseURL: base, AllowPlainHTTP: true}, FromASID: ourASID, ToASID: itsASID, Issuer: "https://record.example"}
}

func source(t testing.TB, s gpconnect.Settings) *gpconnect.Source {
	t.Helper()
	src, err := gpconnect.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

func noNumberInAddresses(t *testing.T, p practice) {
	t.Helper()
	for _, line := range p.Log() {
		if strings.Contains(line, held) || strings.Contains(line, unknown) {
			t.Fatal("an NHS number was in an address")
		}
	}
}

// Every fault of design section 9 ends in the state of section 6, at the practice itself and through the Spine Secure Proxy.
func TestFaults(t *testing.T) {
	for _, proxied := range []bool{false, true} {
		t.Run(fmt.Sprint("proxied ", proxied), func(t *testing.T) {
			p := newPractice(t)
			s := settings(p.base)
			if proxied {
				proxy := httptest.NewServer(&simulator.Spine{Practices: map[string]*simulator.Practice{p.origin: p.Practice}, Contracts: []string{ourASID}})
				t.Cleanup(proxy.Close)
				s.ProxyURL = proxy.URL
			}
			adaptertest.Run(t, adaptertest.Kit{
				New: func() (broker.Source, error) { return gpconnect.New(s) },
				SetFault: func(f adaptertest.Fault, after, ms int) error {
					return p.SetFault(simulator.FaultSpec{Fault: simulator.Fault(f), After: after, Ms: ms})
				},
				Requests: func() int { return p.Requests().Record },
				Query:    query(t, held), Unknown: number(t, unknown), Single: true,
				Outside: []string{marker, p.base, "127.0.0.1", "elsewhere.invalid", "Strangeways", "No patient details"},
			})
			noNumberInAddresses(t, p)
		})
	}
}

func TestCheckFindsNothingWrong(t *testing.T) {
	p := newPractice(t)
	if got := adaptertest.Check(t.Context(), source(t, settings(p.base)), query(t, held)); len(got) > 0 {
		t.Error(got)
	}
	noNumberInAddresses(t, p)
}
