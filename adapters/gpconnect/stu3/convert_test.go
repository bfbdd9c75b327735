package stu3

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Each rule, with an invented resource and what becomes of it. "…" stands for the members that every case has.
func TestRules(t *testing.T) {
	const unmapped = `"extension":[{"url":"` + UnmappedURL + `","extension":[`
	for _, c := range []struct{ rule, in, want string }{
		{"nothing to do", `{"resourceType":"Patient","id":"p","active":true,"name":[{"family":"Field","given":["Ada",null],"_given":[null,{"extension":[{"url":"u","valueCode":"x"}]}]}]}`,
			`{"resourceType":"Patient","id":"p","active":true,"name":[{"family":"Field","given":["Ada",null],"_given":[null,{"extension":[{"url":"u","valueCode":"x"}]}]}]}`},
		{"narrative stays byte for byte", `{"resourceType":"Organization","text":{"status":"generated","div":"<div  xmlns=\"http://www.w3.org/1999/xhtml\">a\u00e9</div>"}}`,
			`{"resourceType":"Organization","text":{"status":"generated","div":"<div  xmlns=\"http://www.w3.org/1999/xhtml\">a\u00e9</div>"}}`},
		{"profiles are not claimed", `{"resourceType":"Organization","meta":{"versionId":"1","profile":["https://fhir.nhs.uk/STU3/x"]}}`,
			`{"resourceType":"Organization","meta":{"versionId":"1","extension":[{"url":"` + ProfileURL + `","valueUri":"https://fhir.nhs.uk/STU3/x"}]}}`},
		{"labels keep their meaning", `{"resourceType":"Condition","meta":{"security":[{"system":"http://hl7.org/fhir/v3/ActCode","code":"NOPAT"}]}}`,
			`{"resourceType":"Condition","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NOPAT"}]}}`},
		{"a system with a space at its end", `{"resourceType":"Immunization","vaccineCode":{"coding":[{"system":"http://hl7.org/fhir/v3/NullFlavor ","code":"UNK"}]},"date":"2019"}`,
			`{"resourceType":"Immunization","vaccineCode":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-NullFlavor","code":"UNK"}]},"occurrenceDateTime":"2019"}`},
		{"one value where a list is meant", `{"resourceType":"Patient","generalPractitioner":{"reference":"Practitioner/1"},"name":{"given":"Ada"}}`,
			`{"resourceType":"Patient","generalPractitioner":[{"reference":"Practitioner/1"}],"name":[{"given":["Ada"]}]}`},
		{"a number as text", `{"resourceType":"MedicationRequest","status":"active","dispenseRequest":{"expectedSupplyDuration":{"value":"28.50"}}}`,
			`{"resourceType":"MedicationRequest","status":"active","dispenseRequest":{"expectedSupplyDuration":{"value":28.50}}}`},
		{"a text that is no number", `{"resourceType":"Observation","valueQuantity":{"value":"<5"}}`,
			`{"resourceType":"Observation","valueQuantity":{"_value":{` + unmapped + `{"url":"value","valueString":"<5"}]}]}}}`},
		{"an element that nobody knows", `{"resourceType":"Location","colour":{"hue":"red","seen":[1.50,true],"by":{"reference":"ReferralRequest/2"}}}`,
			`{"resourceType":"Location",` + unmapped + `{"url":"colour","extension":[{"url":"hue","valueString":"red"},{"url":"seen","valueDecimal":1.50},` +
				`{"url":"seen","valueBoolean":true},{"url":"by","valueReference":{"reference":"ServiceRequest/2"}}]}]}]}`},
		{"an element of R4 in STU3", `{"resourceType":"Condition","encounter":{"reference":"Encounter/1"},"context":{"reference":"Encounter/2"}}`,
			`{"resourceType":"Condition","encounter":{"reference":"Encounter/2"},` + unmapped + `{"url":"encounter","valueReference":{"reference":"Encounter/1"}}]}]}`},
		{"an element of another case", `{"resourceType":"Condition","Code":{"text":"x"}}`, `{"resourceType":"Condition",` + unmapped + `{"url":"Code","extension":[{"url":"text","valueString":"x"}]}]}]}`},
		{"a code that is none", `{"resourceType":"Condition","clinicalStatus":"perhaps","_clinicalStatus":{"id":"a"}}`,
			`{"resourceType":"Condition","clinicalStatus":{"text":"perhaps",` + unmapped + `{"url":"clinicalStatus","valueString":"perhaps"}]}]},"extension":[{"url":"` + UnmappedURL +
				`","extension":[{"url":"_clinicalStatus","extension":[{"url":"id","valueString":"a"}]}]}]}`},
		{"episode of care as context", `{"resourceType":"Observation","context":{"reference":"EpisodeOfCare/1"}}`,
			`{"resourceType":"Observation","extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Observation.context","valueReference":{"reference":"EpisodeOfCare/1"}}]}`},
		{"comment", `{"resourceType":"Observation","comment":"seen \u0041"}`, `{"resourceType":"Observation","note":[{"text":"seen \u0041"}]}`},
		{"interpretation", `{"resourceType":"Observation","interpretation":{"text":"high"}}`, `{"resourceType":"Observation","interpretation":[{"text":"high"}]}`},
		{"an attachment as value", `{"resourceType":"Observation","valueAttachment":{"title":"x"}}`,
			`{"resourceType":"Observation","extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Observation.valueAttachment","valueAttachment":{"title":"x"}}]}`},
		{"allergy", `{"resourceType":"AllergyIntolerance","clinicalStatus":"resolved","verificationStatus":"unconfirmed","assertedDate":"2010-01","category":["medication"],` +
			`"extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-AllergyIntoleranceEnd-1","extension":[{"url":"endDate","valueDateTime":"2012"},{"url":"reasonEnded","valueString":"gone"}]},` +
			`{"url":"http://hl7.org/fhir/StructureDefinition/encounter-associatedEncounter","valueReference":{"reference":"Encounter/1"}}]}`,
			`{"resourceType":"AllergyIntolerance","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"resolved"}],` +
				`"extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-AllergyIntoleranceEnd","extension":[{"url":"endDate","valueDateTime":"2012"},{"url":"reasonEnded","valueString":"gone"}]}]},` +
				`"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification","code":"unconfirmed"}]},"recordedDate":"2010-01","category":["medication"],"encounter":{"reference":"Encounter/1"}}`},
		{"two encounters of an allergy", `{"resourceType":"AllergyIntolerance","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/encounter-associatedEncounter","valueReference":{"reference":"Encounter/1"}},` +
			`{"url":"http://hl7.org/fhir/StructureDefinition/encounter-associatedEncounter","valueReference":{"reference":"Encounter/2"}}]}`,
			`{"resourceType":"AllergyIntolerance","encounter":{"reference":"Encounter/1"},"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/encounter-associatedEncounter","valueReference":{"reference":"Encounter/2"}}]}`},
		{"encounter", `{"resourceType":"Encounter","reason":[{"text":"x"}],"incomingReferral":[{"reference":"ReferralRequest/1"}],"diagnosis":[{"role":{"text":"main"},"rank":1}]}`,
			`{"resourceType":"Encounter","reasonCode":[{"text":"x"}],"basedOn":[{"reference":"ServiceRequest/1"}],"diagnosis":[{"use":{"text":"main"},"rank":1}],` +
				`"class":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}}`},
		{"immunisation", `{"resourceType":"Immunization","status":"completed","notGiven":false,"date":"2019-02-03","practitioner":[{"role":{"coding":[{"system":"http://hl7.org/fhir/v2/0443","code":"AP"}]},"actor":{"reference":"Practitioner/1"}}],` +
			`"explanation":{"reason":[{"text":"travel"}]},"vaccinationProtocol":[{"doseSequence":2,"seriesDoses":3,"doseStatus":{"text":"counts"}},{"description":"x"}],` +
			`"extension":[{"url":"https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-DateRecorded-1","valueDateTime":"2019-02-04"}]}`,
			`{"resourceType":"Immunization","status":"completed","occurrenceDateTime":"2019-02-03","performer":[{"function":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0443","code":"AP"}]},"actor":{"reference":"Practitioner/1"}}],` +
				`"reasonCode":[{"text":"travel"}],"protocolApplied":[{"doseNumberPositiveInt":2,"seriesDosesPositiveInt":3,"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Immunization.vaccinationProtocol.doseStatus","valueCodeableConcept":{"text":"counts"}}]},` +
				`{"_doseNumberString":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]},"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Immunization.vaccinationProtocol.description","valueString":"x"}]}],"recorded":"2019-02-04"}`},
		{"not given, and why", `{"resourceType":"Immunization","status":"completed","notGiven":true,"explanation":{"reasonNotGiven":[{"text":"refused"},{"text":"ill"}]}}`,
			`{"resourceType":"Immunization","status":"not-done","statusReason":{"text":"refused"},"_occurrenceDateTime":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]},` +
				`"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Immunization.explanation.reasonNotGiven","valueCodeableConcept":{"text":"ill"}}]}`},
		{"prescription", `{"resourceType":"MedicationRequest","intent":"plan","context":{"reference":"Encounter/1"},"requester":{"agent":{"reference":"Practitioner/1"},"onBehalfOf":{"reference":"Organization/1"}},` +
			`"dosageInstruction":[{"text":"one","doseQuantity":{"value":1.0},"rateRatio":{"numerator":{"value":2}}}],"substitution":{"allowed":false},` +
			`"extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-PrescriptionType-1","valueCodeableConcept":{"coding":[{"system":"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescriptionType-1","code":"repeat"}]}},` +
			`{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-MedicationRepeatInformation-1","extension":[{"url":"numberOfRepeatPrescriptionsAllowed","valuePositiveInt":6},{"url":"numberOfRepeatPrescriptionsIssued","valuePositiveInt":1}]},` +
			`{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-MedicationStatusReason-1","extension":[{"url":"statusReason","valueCodeableConcept":{"text":"no longer needed"}},{"url":"statusChangeDate","valueDateTime":"2018"}]}]}`,
			`{"resourceType":"MedicationRequest","intent":"plan","encounter":{"reference":"Encounter/1"},"requester":{"reference":"Practitioner/1"},` +
				`"dosageInstruction":[{"text":"one","doseAndRate":[{"doseQuantity":{"value":1.0},"rateRatio":{"numerator":{"value":2}}}]}],"substitution":{"allowedBoolean":false},` +
				`"courseOfTherapyType":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/medicationrequest-course-of-therapy","code":"continuous"},{"system":"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescriptionType-1","code":"repeat"}]},` +
				`"statusReason":{"text":"no longer needed"},"status":"unknown",` +
				`"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-MedicationRequest.requester.onBehalfOf","valueReference":{"reference":"Organization/1"}},` +
				`{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-MedicationRepeatInformation","extension":[{"url":"numberOfPrescriptionsIssued","valueUnsignedInt":1}]},` +
				`{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-MedicationRepeatInformation-1","extension":[{"url":"numberOfRepeatPrescriptionsAllowed","valuePositiveInt":6}]},` +
				`{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-MedicationStatusReason-1","extension":[{"url":"statusChangeDate","valueDateTime":"2018"}]}]}`},
		{"report", `{"resourceType":"DiagnosticReport","category":{"text":"lab"},"performer":[{"actor":{"reference":"Practitioner/1"},"role":{"text":"reader"}}],"codedDiagnosis":[{"text":"x"}],"image":[{"comment":"c","link":{"reference":"Media/1"}}]}`,
			`{"resourceType":"DiagnosticReport","category":[{"text":"lab"}],"performer":[{"reference":"Practitioner/1","extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-DiagnosticReport.performer.role","valueCodeableConcept":{"text":"reader"}}]}],` +
				`"conclusionCode":[{"text":"x"}],"media":[{"comment":"c","link":{"reference":"Media/1"}}]}`},
		{"request", `{"resourceType":"ProcedureRequest","id":"1","status":"suspended","intent":"plan","performer":{"reference":"Practitioner/1"},"definition":[{"reference":"PlanDefinition/1"}],"replaces":[{"reference":"ProcedureRequest/0/_history/2"}]}`,
			`{"resourceType":"ServiceRequest","id":"1","status":"on-hold","intent":"plan","performer":[{"reference":"Practitioner/1"}],"replaces":[{"reference":"ServiceRequest/0/_history/2"}],` +
				`"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-ProcedureRequest.definition","valueReference":{"reference":"PlanDefinition/1"}}]}`},
		{"referral", `{"resourceType":"ReferralRequest","id":"1","status":"unknown","type":{"text":"routine"},"description":"please see","note":[{"text":"n"}],"serviceRequested":[{"text":"a"},{"text":"b"}],"specialty":{"text":"s"},"recipient":[{"reference":"Organization/1"}],"groupIdentifier":{"value":"g"}}`,
			`{"resourceType":"ServiceRequest","id":"1","status":"unknown","note":[{"text":"please see"},{"text":"n"}],"code":{"text":"a"},"performerType":{"text":"s"},"performer":[{"reference":"Organization/1"}],"requisition":{"value":"g"},` +
				`"category":[{"coding":[{"system":"http://snomed.info/sct","code":"3457005","display":"Patient referral"}]},{"text":"routine"}],` +
				`"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-ReferralRequest.serviceRequested","valueCodeableConcept":{"text":"b"}}]}`},
		{"document", `{"resourceType":"DocumentReference","class":{"text":"c"},"indexed":"2020-01-01T00:00:00Z","created":"2019-12-31","content":[{"attachment":{"url":"Binary/1"}}],` +
			`"context":{"encounter":{"reference":"Encounter/1"},"related":[{"identifier":{"value":"i"},"ref":{"reference":"ReferralRequest/1"}}]}}`,
			`{"resourceType":"DocumentReference","category":[{"text":"c"}],"date":"2020-01-01T00:00:00Z","content":[{"attachment":{"url":"Binary/1","creation":"2019-12-31"}}],` +
				`"context":{"encounter":[{"reference":"Encounter/1"}],"related":[{"reference":"ServiceRequest/1","identifier":{"value":"i"}}]}}`},
		{"document of two dates", `{"resourceType":"DocumentReference","created":"2019-12-31","content":[{"attachment":{"creation":"2018"}}]}`,
			`{"resourceType":"DocumentReference","content":[{"attachment":{"creation":"2018"}}],"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-DocumentReference.created","valueDateTime":"2019-12-31"}]}`},
		{"warnings of a list", `{"resourceType":"List","emptyReason":{"coding":[{"system":"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-ListEmptyReasonCode-1","code":"no-content-recorded"}]},"note":[{"text":"Information not available"}],` +
			`"extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-ListWarningCode-1","valueCode":"confidential-items"}]}`,
			`{"resourceType":"List","emptyReason":{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-ListEmptyReasonCode","code":"no-content-recorded"}]},"note":[{"text":"Information not available"}],` +
				`"extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-ListWarningCode","valueCodeableConcept":{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-ListWarningCode","code":"confidential-items"}]}}]}`},
		{"medication", `{"resourceType":"Medication","isBrand":true,"ingredient":[{"amount":{"numerator":{"value":1.00}}}],"package":{"container":{"text":"box"},"batch":[{"lotNumber":"1"},{"lotNumber":"2"}]}}`,
			`{"resourceType":"Medication","ingredient":[{"strength":{"numerator":{"value":1.00}}}],"batch":{"lotNumber":"1"},"extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Medication.isBrand","valueBoolean":true},` +
				`{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Medication.package.container","valueCodeableConcept":{"text":"box"}},` +
				`{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Medication.package.batch","extension":[{"url":"lotNumber","valueString":"2"}]}]}`},
		{"language", `{"resourceType":"Patient","extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-NHSCommunication-1","extension":[{"url":"language","valueCodeableConcept":{"text":"de"}},` +
			`{"url":"preferred","valueBoolean":false},{"url":"modeOfCommunication","valueCodeableConcept":{"text":"written"}},{"url":"interpreterRequired","valueBoolean":true}]}]}`,
			`{"resourceType":"Patient","communication":[{"language":{"text":"de"},"preferred":false,"extension":[{"url":"https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-NHSCommunication-1","extension":[{"url":"modeOfCommunication","valueCodeableConcept":{"text":"written"}}]}]}],` +
				`"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired","valueBoolean":true}]}`},
		{"description of a code", `{"resourceType":"Condition","code":{"coding":[{"code":"1","extension":[{"url":"https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-coding-sctdescid","extension":[{"url":"DescriptionID","valueId":"12"},{"url":"descriptionDisplay","valueString":"x"}]}]}]}}`,
			`{"resourceType":"Condition","code":{"coding":[{"code":"1","extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-CodingSCTDescId","extension":[{"url":"descriptionId","valueIdentifier":{"system":"http://snomed.info/sct","value":"12"}},{"url":"descriptionDisplay","valueString":"x"}]}]}]}}`},
		{"problems hang together", `{"resourceType":"Condition","extension":[{"url":"https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-ActualProblem-1","valueReference":{"reference":"ReferralRequest/9"}},{"url":"https://fhir.hl7.org.uk/STU3/StructureDefinition/Extension-CareConnect-ProblemSignificance-1","valueCode":"major"}]}`,
			`{"resourceType":"Condition","extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-ActualProblem","valueReference":{"reference":"ServiceRequest/9"}},{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-ProblemSignificance","valueCode":"major"}]}`},
		{"an extension that nobody knows", `{"resourceType":"Condition","extension":[{"url":"https://x.example/y","valueReference":{"reference":"ProcedureRequest/9"}}],"modifierExtension":[{"url":"https://x.example/not","valueBoolean":true}]}`,
			`{"resourceType":"Condition","modifierExtension":[{"url":"https://x.example/not","valueBoolean":true}],"extension":[{"url":"https://x.example/y","valueReference":{"reference":"ServiceRequest/9"}}]}`},
		{"a type that is no part of a record", `{"resourceType":"Bundle","id":"b","subject":{"reference":"Patient/1"},"entry":[{"resource":{"resourceType":"Patient"}}]}`, `{"resourceType":"Bundle","id":"b"}`},
		{"a resource where none may stand", `{"resourceType":"Condition","attached":[{"resourceType":"Patient","id":"2"},{"x":1}]}`,
			`{"resourceType":"Condition",` + unmapped + `{"url":"attached","valueString":"left out: Patient"},{"url":"attached","extension":[{"url":"x","valueDecimal":1}]}]}]}`},
		{"a type that is not in the table", `{"resourceType":"CarePlan","id":"c","subject":{"reference":"Patient/1"},"status":"active","contained":[{"resourceType":"ProcedureRequest","id":"i","status":"cancelled"}]}`,
			`{"resourceType":"Basic","id":"c","contained":[{"resourceType":"ServiceRequest","id":"i","status":"revoked"}],"code":{"coding":[{"system":"` + ConversionSystem + `","code":"unmapped-resource"}],"text":"CarePlan of FHIR STU3, not converted"},` +
				`"subject":{"reference":"Patient/1"},` + unmapped + `{"url":"resourceType","valueString":"CarePlan"},{"url":"subject","valueReference":{"reference":"Patient/1"}},{"url":"status","valueString":"active"}]}]}`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := string(converted(t, c.in)[0].Raw()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// What one resource alone cannot tell.
func TestRecords(t *testing.T) {
	for _, c := range []struct {
		rule     string
		in, want []string
	}{
		{"a header names its results", []string{
			`{"resourceType":"Observation","id":"h","related":[{"type":"has-member","target":{"reference":"Observation/a"}}]}`,
			`{"resourceType":"Observation","id":"a","related":[{"type":"derived-from","target":{"reference":"Observation/h"}}]}`,
		}, []string{`{"resourceType":"Observation","id":"h","hasMember":[{"reference":"Observation/a"}]}`, `{"resourceType":"Observation","id":"a"}`}},
		{"a result names its header", []string{
			`{"resourceType":"Observation","id":"a","related":[{"type":"derived-from","target":{"reference":"Observation/h"}},{"type":"replaces","target":{"reference":"Observation/z"}}]}`,
			`{"resourceType":"Observation","id":"h"}`,
		}, []string{`{"resourceType":"Observation","id":"a","extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Observation.related","extension":[{"url":"type","valueCode":"replaces"},{"url":"target","valueReference":{"reference":"Observation/z"}}]}]}`,
			`{"resourceType":"Observation","id":"h","hasMember":[{"reference":"Observation/a"}]}`}},
		{"a header that is not there", []string{`{"resourceType":"Observation","id":"a","related":[{"type":"derived-from","target":{"reference":"Observation/h"}}]}`},
			[]string{`{"resourceType":"Observation","id":"a","extension":[{"url":"http://hl7.org/fhir/3.0/StructureDefinition/extension-Observation.related","extension":[{"url":"type","valueCode":"derived-from"},{"url":"target","valueReference":{"reference":"Observation/h"}}]}]}`}},
		{"two requests of one id", []string{`{"resourceType":"ReferralRequest","id":"1"}`, `{"resourceType":"ProcedureRequest","id":"1"}`,
			`{"resourceType":"List","entry":[{"item":{"reference":"ReferralRequest/1"}},{"item":{"reference":"https://gp.example/fhir/ProcedureRequest/1"}}]}`},
			[]string{`{"resourceType":"ServiceRequest","id":"1","category":[{"coding":[{"system":"http://snomed.info/sct","code":"3457005","display":"Patient referral"}]}]}`,
				`{"resourceType":"ServiceRequest","id":"procedurerequest-1"}`,
				`{"resourceType":"List","entry":[{"item":{"reference":"ServiceRequest/1"}},{"item":{"reference":"https://gp.example/fhir/ServiceRequest/procedurerequest-1"}}]}`}},
		{"ended allergies become entries", []string{
			`{"resourceType":"List","contained":[{"resourceType":"AllergyIntolerance","id":"r1","clinicalStatus":"resolved"},{"resourceType":"AllergyIntolerance","id":"r2","clinicalStatus":"active"}],"entry":[{"item":{"reference":"#r1"}},{"item":{"reference":"#r2"}}]}`,
			`{"resourceType":"AllergyIntolerance","id":"r1","clinicalStatus":"active"}`},
			[]string{`{"resourceType":"List","contained":[{"resourceType":"AllergyIntolerance","id":"r2","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]}}],"entry":[{"item":{"reference":"AllergyIntolerance/ended-r1"}},{"item":{"reference":"#r2"}}]}`,
				`{"resourceType":"AllergyIntolerance","id":"r1","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]}}`,
				`{"resourceType":"AllergyIntolerance","id":"ended-r1","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"resolved"}]}}`}},
		{"a resource that is not in the table is still found", []string{`{"resourceType":"CarePlan","id":"1"}`, `{"resourceType":"List","entry":[{"item":{"reference":"CarePlan/1"}}]}`},
			[]string{`{"resourceType":"Basic","id":"1","code":{"coding":[{"system":"` + ConversionSystem + `","code":"unmapped-resource"}],"text":"CarePlan of FHIR STU3, not converted"},"extension":[{"url":"` + UnmappedURL + `","extension":[{"url":"resourceType","valueString":"CarePlan"}]}]}`,
				`{"resourceType":"List","entry":[{"item":{"reference":"Basic/1"}}]}`}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got := converted(t, c.in...)
			if len(got) != len(c.want) {
				t.Fatalf("%d resources, want %d", len(got), len(c.want))
			}
			for i := range got {
				if string(got[i].Raw()) != c.want[i] {
					t.Errorf("got  %s\nwant %s", got[i].Raw(), c.want[i])
				}
			}
		})
	}
}

// TestNumbersStay is hazard H-05: whatever digits a decimal has, it has after conversion.
func TestNumbersStay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	digits := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		return b.String()
	}
	var b strings.Builder
	var want []string
	for range 100_000 {
		n := fmt.Sprint(r.IntN(10)) + "." + digits(1+r.IntN(20))
		switch r.IntN(4) {
		case 0:
			n = "-" + n
		case 1:
			n = "1" + digits(r.IntN(25)) + ".00"
		case 2:
			n += "e" + [...]string{"", "-", "+"}[r.IntN(3)] + digits(1)
		}
		want = append(want, n)
		fmt.Fprintf(&b, `,{"valueQuantity":{"value":%s}}`, n)
	}
	v := converted(t, `{"resourceType":"Observation","component":[`+b.String()[1:]+`]}`)[0]
	i := 0
	for x := range v.Each("component.valueQuantity.value") {
		if string(x.Raw()) != want[i] {
			t.Fatalf("number %d is %s, was %s", i, x.Raw(), want[i])
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d numbers of %d", i, len(want))
	}
}

// replaced are the elements whose values tables replace; every other string, number and truth value of a resource is in what became of it.
var replaced = map[string]bool{"resourceType": true, "reference": true, "system": true, "url": true, "notGiven": true, "type": true, "status": true}

// TestNothingIsLost is hazard H-07 inside a resource, on every published sample.
func TestNothingIsLost(t *testing.T) {
	notOfARecord := map[string]int{} // messages and parameters, of which the type is left
	for _, s := range samples(t, "gp-connect-stu3") {
		in := resourcesOf(s)
		r, err := Convert(in, "", Limits{})
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		whole := map[string]int{} // contained resources may be entries now, links between observations stand at the header
		for _, e := range r.Entries {
			for text, n := range scalars(e.Resource) {
				whole[text] += n
			}
		}
		missing := map[string]int{}
		for _, e := range in {
			if typ := e.Resource.Get("resourceType").Text(); tables.resources[typ] == nil && !clinical[typ] {
				notOfARecord[typ]++
				continue
			}
			for text, n := range scalars(e.Resource) {
				if whole[text] -= n; whole[text] < 0 {
					missing[text] -= whole[text]
					whole[text] = 0
				}
			}
		}
		for text, n := range missing {
			if key, _, _ := strings.Cut(text, " "); !replaced[key] {
				t.Errorf("%s: %d times lost: %s", s.name, n, key)
			}
		}
	}
	t.Logf("no part of a record: %v", notOfARecord)
	if want := map[string]int{"Parameters": 6, "MessageHeader": 4, "Bundle": 4}; !maps.Equal(notOfARecord, want) {
		t.Errorf("no part of a record: %v, want %v", notOfARecord, want)
	}
}

// scalars counts the strings, numbers and truth values in a resource. Those that are said twice in R4 (a status that was replaced) may be more.
func scalars(v fhirjson.Value) map[string]int {
	out := map[string]int{}
	v.Visit(func(around []fhirjson.Value, x fhirjson.Value) bool {
		switch x.Kind() {
		case fhirjson.String, fhirjson.Number, fhirjson.Bool:
			key := x.Key()
			for i := len(around) - 1; key == "" && i >= 0; i-- {
				key = around[i].Key()
			}
			if replaced[key] {
				out[key+" "+x.Text()]++
			} else {
				out["_ "+strings.Trim(string(x.Raw()), `"`)]++
			}
		}
		return true
	})
	return out
}

// Each published answer is accepted by the merge as that of any R4 server is, and its sum is right.
func TestMergeAcceptsSamples(t *testing.T) {
	merged, shown := 0, 0
	states := map[string]int{}
	for _, s := range samples(t, "gp-connect-stu3") {
		r, err := Convert(resourcesOf(s), "https://gp.example/fhir", Limits{})
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		var number record.NHSNumber
		for _, e := range r.Entries {
			if e.Resource.Get("resourceType").Is("Patient") {
				for id := range e.Resource.Get("identifier").Elems() {
					if id.Get("system").Is(record.NHSNumberSystem) {
						number, err = record.ParseNHSNumber(id.Get("value").Text())
					}
				}
			}
		}
		if err != nil || number.Reveal() == "" {
			continue // no Patient, or a number that fails the check, as some published ones do
		}
		p, err := merge.Prepare(merge.Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "h", IDKey: []byte("k"), Subject: record.Subject{Number: number}},
			merge.Rules{Permitted: record.AllSections, TellCounts: true, AcceptUnverified: true},
			merge.Reply{Custodian: record.Custodian{Key: "gp", Kind: record.KindGP}, Base: "https://gp.example/fhir", Entries: r.Entries})
		if err != nil {
			states[err.Error()]++
			continue
		}
		merged++
		shown += p.Counts.Shown
		states[string(p.Status.State)]++
		if p.Counts.Sum() != p.Counts.Received {
			t.Errorf("%s: %+v", s.name, p.Counts)
		}
	}
	if merged < 14 {
		t.Errorf("only %d answers were merged", merged)
	}
	t.Logf("%d merged, %d resources shown, %v", merged, shown, states)
}

func TestCaps(t *testing.T) {
	in := func(text string) []fhirjson.Entry {
		d, err := fhirjson.Parse([]byte(text), fhirjson.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return []fhirjson.Entry{{Resource: d.Root()}}
	}
	hostile := in(`{"resourceType":"Patient","x":[` + strings.Repeat(`{"a":1},`, 100_000) + `1]}`) // a million bytes, which would be ten times as many
	if _, err := Convert(hostile, "", Limits{Bytes: 1 << 20}); !errors.Is(err, ErrTooMuch) {
		t.Errorf("beyond the cap: %v", err)
	}
	took := int64(0)
	_, err := Convert(hostile, "", Limits{Take: func(n int64) bool { took += n; return took < 256<<10 }})
	if !errors.Is(err, ErrTooMuch) || took > 512<<10 {
		t.Errorf("%v after %d bytes", err, took)
	}
	took = 0
	r, err := Convert(hostile, "", Limits{Take: func(n int64) bool { took += n; return true }})
	if err != nil || took < r.Bytes {
		t.Errorf("%v: %d bytes, of which %d were asked for", err, r.Bytes, took)
	}
	if _, err := Convert(in(`{"resourceType":"Observation","comment":"`+strings.Repeat("x", 100)+`"}`), "", Limits{StringBytes: 50}); !errors.Is(err, ErrTooMuch) {
		t.Errorf("a long string: %v", err)
	}
	deep := strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60)
	if _, err := Convert(in(`{"resourceType":"Observation","x":`+deep+`}`), "", Limits{}); err != nil {
		t.Errorf("as deep as may be: %v", err)
	}
	if n := slices.Collect(maps.Keys(tables.resources)); len(n) < 30 {
		t.Errorf("%d resource types", len(n))
	}
}
