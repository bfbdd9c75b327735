package stu3

import (
	"errors"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// FuzzConvert gives Convert whatever a practice might send: two resources of any kind. It must not panic; it fails with one of its errors, or each
// resource is in the result, as a type of R4, and is a text that we would read ourselves.
func FuzzConvert(f *testing.F) {
	for _, text := range seeds {
		f.Add([]byte(text), []byte(`{"resourceType":"Observation","id":"h","related":[{"type":"has-member","target":{"reference":"Observation/o"}}]}`), "https://gp.example/fhir/Observation/h")
	}
	f.Fuzz(func(t *testing.T, first, second []byte, url string) {
		var in []fhirjson.Entry
		for _, text := range [][]byte{first, second} {
			d, err := fhirjson.Parse(text, fhirjson.Limits{})
			if err != nil {
				return
			}
			v := d.Root()
			if v.Kind() != fhirjson.Object || v.Get("resourceType").Kind() != fhirjson.String {
				return // no entry of a Bundle that was read
			}
			in = append(in, fhirjson.Entry{FullURL: url, Resource: v})
		}
		r, err := Convert(in, "https://gp.example/fhir", Limits{Bytes: 8 << 20})
		if err != nil {
			if !errors.Is(err, ErrTooMuch) && !errors.Is(err, ErrMalformed) || r.Entries != nil {
				t.Fatal(err)
			}
			return
		}
		if len(r.Entries) != len(in)+r.Promoted {
			t.Fatalf("%d in, %d out", len(in), len(r.Entries))
		}
		for i, e := range r.Entries {
			if _, err := fhirjson.Parse(e.Resource.Raw(), fhirjson.Limits{Depth: 200}); err != nil {
				t.Fatalf("%v in %s", err, e.Resource.Raw())
			}
			typ := e.Resource.Get("resourceType").Text()
			if s := tables.resources[typ]; (s == nil || s.to != typ) && typ != "Basic" && typ != "ServiceRequest" && e.Resource.Len() > 2 {
				t.Fatalf("more of a %s than its type and id comes out", typ)
			}
			if i >= len(in) || r.LeftOut > 0 || !known(in[i].Resource) {
				continue
			}
			// Whatever was said is said still: the longest word of each text.
			if a, b := longest(in[i].Resource), longest(e.Resource); len(b) < len(a) && r.Promoted == 0 {
				t.Fatalf("%q is gone from %s", a, e.Resource.Raw())
			}
		}
	})
}

// known reports whether a resource and what it contains are of types in the table. Of any other, which the merge drops, little is left.
func known(v fhirjson.Value) bool {
	if tables.resources[v.Get("resourceType").Text()] == nil {
		return false
	}
	for c := range v.Get("contained").Elems() {
		if !known(c) {
			return false
		}
	}
	return true
}

func longest(v fhirjson.Value) string {
	s := ""
	v.Visit(func(_ []fhirjson.Value, x fhirjson.Value) bool {
		if x.Kind() == fhirjson.String && len(x.Raw()) > len(s) && !replaced[x.Key()] && x.Key() != "" && !isNumber(x.Text()) {
			s = string(x.Raw())
		}
		return true
	})
	return s
}

// seeds are invented resources, each with something that the tables know.
var seeds = []string{
	`{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018","extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-NHSNumberVerificationStatus-1","valueCodeableConcept":{"coding":[{"system":"https://fhir.nhs.uk/CareConnect-NHSNumberVerificationStatus-1","code":"01"}]}}]}],"animal":{"species":{"text":"dog"}},"_birthDate":{"id":"b"},"birthDate":"1950","extension":[{"url":"x/Extension-CareConnect-GPC-NHSCommunication-1","extension":[{"url":"language","valueCodeableConcept":{"text":"cy"}},{"url":"preferred","valueBoolean":true},{"url":"interpreterRequired","valueBoolean":false}]}],"communication":[{"language":{"text":"en"}}]}`,
	`{"resourceType":"AllergyIntolerance","id":"a","clinicalStatus":"active","verificationStatus":"unconfirmed","assertedDate":"2010","category":["food"],"_category":[{"id":"c"}],"extension":[{"url":"https://x/Extension-CareConnect-GPC-AllergyIntoleranceEnd-1","extension":[]},{"url":"http://hl7.org/fhir/StructureDefinition/encounter-associatedEncounter","valueReference":{"reference":"Encounter/1"}}]}`,
	`{"resourceType":"List","id":"l","contained":[{"resourceType":"AllergyIntolerance","id":"r","clinicalStatus":"resolved"}],"entry":[{"item":{"reference":"#r"}}],"emptyReason":{"text":"none"},"extension":[{"url":"https://x/Extension-CareConnect-GPC-ListWarningCode-1","valueCode":"data-in-transit"}]}`,
	`{"resourceType":"Observation","id":"o","comment":"c","_comment":{"id":"1"},"valueQuantity":{"value":"1.50","comparator":"<"},"related":[{"type":"derived-from","target":{"reference":"Observation/h"}}],"interpretation":{"text":"h"},"context":{"reference":"EpisodeOfCare/1"},"component":[{"valueAttachment":{"url":"Binary/1"}}]}`,
	`{"resourceType":"Immunization","status":"completed","notGiven":true,"explanation":{"reason":[{"text":"a"}],"reasonNotGiven":[{"text":"b"},{"text":"c"}]},"practitioner":[{"role":{"text":"AP"}}],"vaccinationProtocol":[{"doseStatus":{"text":"x"}}],"extension":[{"url":"x/Extension-CareConnect-DateRecorded-1","valueDateTime":"2019"}]}`,
	`{"resourceType":"MedicationRequest","intent":"plan","requester":{"agent":{"display":"x"},"onBehalfOf":{"display":"y"}},"dosageInstruction":[{"doseRange":{"low":{"value":1}},"rateRatio":{}}],"extension":[{"url":"x/Extension-CareConnect-GPC-PrescriptionType-1","valueCodeableConcept":{"coding":[{"system":"y/CareConnect-PrescriptionType-1","code":"repeat"}]}},{"url":"x/Extension-CareConnect-GPC-MedicationRepeatInformation-1","extension":[{"url":"numberOfRepeatPrescriptionsIssued","valueUnsignedInt":1}]},{"url":"x/Extension-CareConnect-GPC-MedicationStatusReason-1","extension":[{"url":"statusReason","valueCodeableConcept":{"text":"z"}}]}]}`,
	`{"resourceType":"MedicationStatement","status":"active","taken":"n","reasonNotTaken":[{"text":"x"}],"dosage":[{"doseQuantity":{"value":2}}]}`,
	`{"resourceType":"Medication","package":{"batch":[{"lotNumber":"1"},{"lotNumber":"2"}],"content":[{"amount":{"value":3}}]}}`,
	`{"resourceType":"ReferralRequest","id":"1","description":"d","note":[{"text":"n"}],"serviceRequested":[{"text":"a"},{"text":"b"}],"type":{"text":"t"}}`,
	`{"resourceType":"ProcedureRequest","id":"1","status":"suspended","replaces":[{"reference":"ProcedureRequest/1"}]}`,
	`{"resourceType":"DocumentReference","created":"2019","content":[{"attachment":{"url":"u"}}],"context":{"related":[{"identifier":{"value":"i"}}]}}`,
	`{"resourceType":"DiagnosticReport","performer":[{"role":{"text":"r"}}],"image":[{"link":{"reference":"Media/1"}}]}`,
	`{"resourceType":"HealthcareService","eligibility":{"text":"e"},"eligibilityNote":"n","programName":["p"]}`,
	`{"resourceType":"Encounter","class":{"code":"AMB"},"reason":[{"text":"x"}]}`,
	`{"resourceType":"CarePlan","id":"c","subject":{"reference":"Patient/p"},"activity":[{"reference":{"reference":"ReferralRequest/1"}},[],{},null]}`,
	`{"resourceType":"Condition","stage":{"summary":{"text":"s"}},"abatementBoolean":true,"clinicalStatus":"nonsense","colour":{"a":[[1,{"reference":"Patient/x"}]]}}`,
	`{"resourceType":"QuestionnaireResponse","questionnaire":{"reference":"Questionnaire/1","display":"d"},"item":[{"linkId":"1","answer":[{"valueString":"a","item":[{"linkId":"2","subject":{"display":"s"}}]}]}]}`,
	`{"resourceType":"Composition","attester":[{"mode":["personal","legal"]}],"section":[{"text":{"status":"generated","div":"<div/>"},"section":[{"title":"x"}]}]}`,
}
