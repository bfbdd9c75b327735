package cohort

import "encoding/json"

// Further are three more organisations of the neighbourhood: a second one each of those that speak protocols of their own, so that two practices, two
// hospitals and two councils can be seen beside each other. The nine know nothing of them.
func Further() []Custodian {
	return []Custodian{
		{"thornfield", "X9A02", "Thornfield Medical Practice", "gp", "Practice manager, 01632 960111", false, 40, false, false},
		{"infirmary", "X9B02", "Northmoor Royal Infirmary", "acute", "Health records, 01632 960112", false, 25, false, false},
		{"northmoor", "X9E02", "Northmoor City Council, adult social care", "social-care", "Access to records, 01632 960115", false, 20, false, false},
	}
}

// FurtherRecords is what the further three hold, by custodian key and NHS number: Margaret lived in Northmoor before she moved.
func FurtherRecords() map[string]map[string][]json.RawMessage {
	raw := func(list ...string) map[string][]json.RawMessage {
		out := []json.RawMessage{}
		for _, text := range list {
			out = append(out, json.RawMessage(text))
		}
		return map[string][]json.RawMessage{Margaret: out}
	}
	patient := func(id string) string {
		return `{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + Margaret +
			`","extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus","valueCodeableConcept":{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus","code":"01"}]}}]}],` +
			`"name":[{"use":"official","family":"Thornbury","given":["Margaret"]}],"gender":"female","birthDate":"1941-06-02"}`
	}
	return map[string]map[string][]json.RawMessage{
		"thornfield": raw(patient("tp-1"),
			`{"resourceType":"Organization","id":"tp-org","name":"Thornfield Medical Practice","identifier":[{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"X9A02"}]}`,
			`{"resourceType":"Practitioner","id":"tp-gp","name":[{"family":"Okafor","given":["Ngozi"]}]}`,
			`{"resourceType":"Immunization","id":"tp-i1","status":"completed","vaccineCode":{"coding":[{"system":"http://snomed.info/sct","code":"46233009","display":"Influenza vaccine"}]},"patient":{"reference":"Patient/tp-1"},"occurrenceDateTime":"2014-10-09","primarySource":true}`,
			`{"resourceType":"AllergyIntolerance","id":"tp-a1","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification","code":"unconfirmed"}]},"category":["medication"],"code":{"coding":[{"system":"http://snomed.info/sct","code":"372687004","display":"Amoxicillin"}]},"patient":{"reference":"Patient/tp-1"},"recordedDate":"2009-03-17","recorder":{"reference":"Practitioner/tp-gp"},"reaction":[{"manifestation":[{"text":"Rash after three days"}]}]}`,
		),
		"infirmary": raw(patient("501"),
			`{"resourceType":"Practitioner","id":"ri-d","name":[{"family":"Lindqvist","given":["Maja"],"prefix":["Dr"]}]}`,
			`{"resourceType":"Encounter","id":"ri-e1","status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"IMP"},"subject":{"reference":"Patient/501"},"participant":[{"individual":{"reference":"Practitioner/ri-d"}}],"period":{"start":"2015-02-11T09:30:00+00:00","end":"2015-02-14T16:00:00+00:00"}}`,
			`{"resourceType":"DiagnosticReport","id":"ri-r1","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0074","code":"HM"}]}],"code":{"text":"Full blood count"},"subject":{"reference":"Patient/501"},"encounter":{"reference":"Encounter/ri-e1"},"effectiveDateTime":"2015-02-11T10:05:00+00:00","issued":"2015-02-11T13:40:00+00:00","result":[{"reference":"Observation/ri-o1"},{"reference":"Observation/ri-o2"}]}`,
			`{"resourceType":"Observation","id":"ri-o1","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"text":"Haemoglobin"},"subject":{"reference":"Patient/501"},"effectiveDateTime":"2015-02-11T10:05:00+00:00","valueQuantity":{"value":104,"unit":"g/L"},"interpretation":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation","code":"L"}]}],"referenceRange":[{"low":{"value":115},"high":{"value":165}}]}`,
			`{"resourceType":"Observation","id":"ri-o2","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"text":"Ferritin"},"subject":{"reference":"Patient/501"},"effectiveDateTime":"2015-02-11T10:05:00+00:00","valueQuantity":{"value":9.50,"unit":"ug/L"},"referenceRange":[{"low":{"value":13},"high":{"value":150}}]}`,
		),
		"northmoor": raw(patient("88"),
			`{"resourceType":"Practitioner","id":"nc-w","name":[{"family":"Achterberg","given":["Joost"]}]}`,
			`{"resourceType":"CareTeam","id":"nc-t","status":"inactive","name":"Northmoor East locality","subject":{"reference":"Patient/88"},"period":{"start":"2015-02-20","end":"2016-05-31"},"participant":[{"role":[{"text":"Social worker"}],"member":{"reference":"Practitioner/nc-w"}}]}`,
			`{"resourceType":"EpisodeOfCare","id":"nc-e","status":"finished","type":[{"text":"Reablement at home"}],"patient":{"reference":"Patient/88"},"period":{"start":"2015-02-20","end":"2015-04-03"}}`,
		),
	}
}

// Plan is a document that the mental health trust keeps of somebody, beside its electronic record.
type Plan struct {
	Name, Title, Code, BirthDate string // Code is SNOMED CT
	Written                      string // an instant
	Text                         string
}

// Plans are those, by NHS number.
func Plans() map[string]Plan {
	return map[string]Plan{
		Margaret: {"plan-margaret", "Advance care plan", "736366004", "1941-06-02", "2025-03-04T10:30:00+00:00",
			"Margaret would rather be cared for at home than go into hospital.\nHer daughter Judith is to be rung first.\nShe wants no tube feeding."},
	}
}
