package simulator_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// A record in R4 is served by a practice as far as GP Connect carries it, and what it does not carry is said.
func TestPracticeRecord(t *testing.T) {
	var in []json.RawMessage
	for _, text := range []string{
		`{"resourceType":"Patient","id":"p","meta":{"profile":["https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient"]},"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000034"}]}`,
		`{"resourceType":"Practitioner","id":"gp","name":[{"family":"Field"}]}`,
		`{"resourceType":"AllergyIntolerance","id":"a","clinicalStatus":{"coding":[{"code":"resolved"}]},"verificationStatus":{"coding":[{"code":"confirmed"}]},"recordedDate":"2001","patient":{"reference":"Patient/p"}}`,
		`{"resourceType":"Condition","id":"c","clinicalStatus":{"coding":[{"code":"active"}]},"recorder":{"reference":"Practitioner/gp"},"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/e"}}`,
		`{"resourceType":"Immunization","id":"i","status":"not-done","statusReason":{"text":"declined"},"occurrenceDateTime":"2020","patient":{"reference":"Patient/p"}}`,
		`{"resourceType":"MedicationRequest","id":"m","status":"active","intent":"order","medicationCodeableConcept":{"text":"x"},"subject":{"reference":"Patient/p"},"dosageInstruction":[{"doseAndRate":[{"doseQuantity":{"value":1.50}}]}]}`,
		`{"resourceType":"MedicationRequest","id":"never","status":"active","intent":"order","doNotPerform":true,"subject":{"reference":"Patient/p"}}`,
		`{"resourceType":"DiagnosticReport","id":"d","status":"final","result":[{"reference":"Observation/o"}],"subject":{"reference":"Patient/p"}}`,
		`{"resourceType":"Observation","id":"o","status":"final","note":[{"text":"n"}],"subject":{"reference":"Patient/p"}}`,
		`{"resourceType":"ServiceRequest","id":"s","status":"revoked","intent":"order","code":{"text":"knee"},"subject":{"reference":"Patient/p"}}`,
		`{"resourceType":"Flag","id":"f","subject":{"reference":"Patient/p"}}`,
	} {
		in = append(in, json.RawMessage(text))
	}
	rec, left, err := simulator.PracticeRecord(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"Flag": 1, "MedicationRequest": 1, "Condition.recorder": 1}; !maps.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	all := ""
	for area, list := range rec.Areas {
		for _, raw := range list {
			all += area + " " + string(raw) + "\n"
		}
	}
	for _, want := range []string{`includeAllergies {"assertedDate":"2001","clinicalStatus":"resolved"`, `"context":{"reference":"Encounter/e"}`, `"notGiven":true`, `"reasonNotGiven":[{"text":"declined"}]`,
		`"doseQuantity":{"value":1.50}`, `"resourceType":"MedicationStatement"`, `includeInvestigations {"comment":"n"`, `"resourceType":"ReferralRequest"`, `"status":"cancelled"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if len(rec.Always) != 2 || strings.Contains(string(rec.Always[0]), "UKCore-Patient") {
		t.Errorf("always: %s", rec.Always)
	}
	if _, err := simulator.NewPractice(simulator.PracticeConfig{Name: "Practice", ODS: "X9A01", ASID: "200000000002", People: map[string]simulator.GPRecord{"9990000034": rec}}); err != nil {
		t.Error(err)
	}
}
