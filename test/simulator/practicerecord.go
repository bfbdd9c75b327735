package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// PracticeRecord makes of a record in FHIR R4 what a practice serves of it over GP Connect, as far as the protocol can carry it: the nine areas of
// Access Record: Structured, in STU3. left counts what it cannot carry: resources by type, and elements as "Type.element". The bytes that
// are carried keep their numbers as written.
//
// It is for people who were invented or generated in R4. It is no map from R4 to STU3 for anything else.
func PracticeRecord(r4 []json.RawMessage) (rec GPRecord, left map[string]int, err error) {
	rec.Areas, left = map[string][]json.RawMessage{}, map[string]int{}
	all := make([]map[string]any, 0, len(r4))
	reported := map[string]bool{} // observations and specimens that stand in a report
	for _, raw := range r4 {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		var m map[string]any
		if d.Decode(&m) != nil {
			return GPRecord{}, nil, errors.New("simulator: a resource that is not a JSON object")
		}
		all = append(all, m)
		if m["resourceType"] == "DiagnosticReport" {
			for _, key := range []string{"result", "specimen"} {
				for _, x := range items(m[key]) {
					reported[word(named(x, "reference"))] = true
				}
			}
		}
	}
	for _, m := range all {
		typ, id := word(m["resourceType"]), word(m["id"])
		c, carried := gpCarried[typ]
		if carried && c.change != nil {
			carried = c.change(m)
		}
		if !carried {
			left[typ]++
			continue
		}
		older(m)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !slices.Contains(gpCommon, strings.TrimPrefix(k, "_")) && !slices.Contains(c.elements, strings.TrimPrefix(k, "_")) {
				delete(m, k)
				left[typ+"."+k]++
			}
		}
		area := c.area
		if (typ == "Observation" || typ == "Specimen") && reported[typ+"/"+id] {
			area = "includeInvestigations"
		}
		if area == "" {
			rec.Always = append(rec.Always, marshal(m))
			continue
		}
		rec.Areas[area] = append(rec.Areas[area], marshal(m))
		if typ == "MedicationRequest" {
			rec.Areas[area] = append(rec.Areas[area], marshal(statementOf(m)))
		}
	}
	return rec, left, nil
}

// gpCarry says how a type of R4 is carried: in which area ("": in every answer), what must be changed first (false: not at all), and which elements STU3
// has.
type gpCarry struct {
	area     string
	change   func(m map[string]any) bool
	elements []string
}

// gpCommon are the elements of every resource.
var gpCommon = []string{"resourceType", "id", "meta", "text", "language", "contained", "extension"}

var gpCarried = map[string]gpCarry{
	"Patient":          {"", nil, strings.Fields("identifier active name telecom gender birthDate deceasedBoolean deceasedDateTime address maritalStatus multipleBirthBoolean multipleBirthInteger contact communication generalPractitioner managingOrganization link")},
	"Organization":     {"", nil, strings.Fields("identifier active type name alias telecom address partOf")},
	"Practitioner":     {"", nil, strings.Fields("identifier active name telecom address gender birthDate qualification communication")},
	"PractitionerRole": {"", nil, strings.Fields("identifier active period practitioner organization code specialty location telecom")},
	"Location":         {"", locationR3, strings.Fields("identifier status name description mode type telecom address physicalType managingOrganization partOf")},
	"AllergyIntolerance": {"includeAllergies", func(m map[string]any) bool {
		move(m, "recordedDate", "assertedDate")
		return coded(m, "clinicalStatus") && coded(m, "verificationStatus") && m["verificationStatus"] != "presumed"
	}, strings.Fields("identifier clinicalStatus verificationStatus type category criticality code patient onsetDateTime onsetPeriod onsetString assertedDate recorder asserter lastOccurrence note reaction")},
	"Condition": {"includeProblems", func(m map[string]any) bool {
		move(m, "recordedDate", "assertedDate")
		move(m, "encounter", "context")
		return coded(m, "clinicalStatus") && coded(m, "verificationStatus") && m["clinicalStatus"] != "relapse" && m["verificationStatus"] != "unconfirmed"
	}, strings.Fields("identifier clinicalStatus verificationStatus category severity code bodySite subject context onsetDateTime onsetAge onsetPeriod onsetString abatementDateTime abatementAge abatementPeriod abatementString assertedDate asserter note")},
	"Encounter": {"includeConsultations", func(m map[string]any) bool {
		move(m, "reasonCode", "reason")
		return true
	}, strings.Fields("identifier status type priority subject participant period length reason location serviceProvider")},
	"Immunization":      {"includeImmunisations", immunizationR3, strings.Fields("identifier status notGiven vaccineCode patient encounter date primarySource location manufacturer lotNumber expirationDate site route doseQuantity practitioner note explanation")},
	"Medication":        {"includeMedication", nil, strings.Fields("code status form")},
	"MedicationRequest": {"includeMedication", prescriptionR3, strings.Fields("identifier basedOn groupIdentifier status intent priority medicationCodeableConcept medicationReference subject context authoredOn requester recorder reasonCode reasonReference note dosageInstruction dispenseRequest priorPrescription")},
	"Observation":       {"includeUncategorisedData", observationR3, strings.Fields("identifier basedOn status category code subject context effectiveDateTime effectivePeriod issued performer valueQuantity valueCodeableConcept valueString valueBoolean valueRange valueRatio valueTime valueDateTime valuePeriod dataAbsentReason interpretation comment bodySite method specimen referenceRange component related")},
	"DiagnosticReport": {"includeInvestigations", func(m map[string]any) bool {
		move(m, "encounter", "context")
		move(m, "conclusionCode", "codedDiagnosis")
		single(m, "category")
		for i, x := range items(m["performer"]) {
			m["performer"].([]any)[i] = map[string]any{"actor": x} //nolint:forcetypeassert // items found a list
		}
		return true
	}, strings.Fields("identifier basedOn status category code subject context effectiveDateTime effectivePeriod issued performer specimen result conclusion codedDiagnosis")},
	"Specimen": {"includeInvestigations", nil, strings.Fields("identifier accessionIdentifier status type subject receivedTime parent request collection note")},
	"ServiceRequest": {"includeReferrals", func(m map[string]any) bool {
		m["resourceType"] = "ReferralRequest"
		move(m, "encounter", "context")
		move(m, "performer", "recipient")
		if code := m["code"]; code != nil {
			m["serviceRequested"] = []any{code}
			delete(m, "code")
		}
		if who := m["requester"]; who != nil {
			m["requester"] = map[string]any{"agent": who}
		}
		if to := map[any]string{"on-hold": "suspended", "revoked": "cancelled"}[m["status"]]; to != "" {
			m["status"] = to
		}
		return m["doNotPerform"] != true && m["intent"] != "directive"
	}, strings.Fields("identifier basedOn status intent priority serviceRequested subject context occurrenceDateTime authoredOn requester recipient reasonCode reasonReference note")},
}

func locationR3(m map[string]any) bool {
	single(m, "type")
	return true
}

func immunizationR3(m map[string]any) bool {
	move(m, "occurrenceDateTime", "date")
	m["notGiven"] = m["status"] == "not-done"
	if m["status"] == "not-done" {
		m["status"] = "completed"
	}
	why := map[string]any{}
	if r := m["reasonCode"]; r != nil {
		why["reason"] = r
		delete(m, "reasonCode")
	}
	if r := m["statusReason"]; r != nil {
		why["reasonNotGiven"] = []any{r}
		delete(m, "statusReason")
	}
	if len(why) > 0 {
		m["explanation"] = why
	}
	for _, x := range items(m["performer"]) {
		if p, is := x.(map[string]any); is {
			move(p, "function", "role")
		}
	}
	move(m, "performer", "practitioner")
	if m["primarySource"] == nil {
		m["primarySource"] = true // the practice's own record
	}
	return true
}

// prescriptionR3 makes an authorisation of a prescription, which is what a practice calls the plan. One that says what must not be given is not
// carried: STU3 has no word for that.
func prescriptionR3(m map[string]any) bool {
	if m["doNotPerform"] == true || !slices.Contains([]any{"active", "completed", "stopped", "on-hold", "entered-in-error"}, m["status"]) {
		return false
	}
	m["intent"] = "plan"
	move(m, "encounter", "context")
	if who := m["requester"]; who != nil {
		m["requester"] = map[string]any{"agent": who}
	}
	for _, x := range items(m["dosageInstruction"]) {
		d, is := x.(map[string]any)
		if !is {
			continue
		}
		for _, y := range items(d["doseAndRate"]) {
			if of, is := y.(map[string]any); is {
				for _, k := range []string{"doseQuantity", "doseRange", "rateQuantity", "rateRange", "rateRatio"} {
					if of[k] != nil {
						d[k] = of[k]
					}
				}
			}
		}
		delete(d, "doseAndRate")
	}
	typ := "acute"
	if bytes.Contains(marshal(m["courseOfTherapyType"]), []byte(`"continuous`)) {
		typ = "repeat"
	}
	delete(m, "courseOfTherapyType")
	m["extension"] = append(items(m["extension"]), map[string]any{"url": "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-PrescriptionType-1",
		"valueCodeableConcept": map[string]any{"coding": []any{map[string]any{"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-PrescriptionType-1", "code": typ}}}})
	return true
}

// statementOf is the MedicationStatement that a practice gives for each authorisation: only it stands in the List of medication.
func statementOf(m map[string]any) map[string]any {
	s := map[string]any{"resourceType": "MedicationStatement", "id": "statement-" + word(m["id"]), "status": m["status"], "taken": "unk",
		"basedOn": []any{map[string]any{"reference": "MedicationRequest/" + word(m["id"])}}}
	for _, k := range []string{"medicationCodeableConcept", "medicationReference", "subject", "contained"} {
		if m[k] != nil {
			s[k] = m[k]
		}
	}
	if m["authoredOn"] != nil {
		s["dateAsserted"] = m["authoredOn"]
	}
	if m["dosageInstruction"] != nil {
		s["dosage"] = m["dosageInstruction"]
	}
	return s
}

func observationR3(m map[string]any) bool {
	move(m, "encounter", "context")
	single(m, "interpretation")
	for _, x := range items(m["component"]) {
		if p, is := x.(map[string]any); is {
			single(p, "interpretation")
		}
	}
	if notes := items(m["note"]); len(notes) == 1 {
		m["comment"] = named(notes[0], "text")
		delete(m, "note")
	}
	var related []any
	for key, typ := range map[string]string{"hasMember": "has-member", "derivedFrom": "derived-from"} {
		for _, x := range items(m[key]) {
			related = append(related, map[string]any{"type": typ, "target": x})
		}
		delete(m, key)
	}
	if related != nil {
		m["related"] = related
	}
	return true
}

// older gives code systems and references the names that they have in STU3, and takes away claims to be of UK Core.
func older(v any) {
	switch v := v.(type) {
	case map[string]any:
		if meta, is := v["meta"].(map[string]any); is {
			delete(meta, "profile")
		}
		for k, x := range v {
			s, is := x.(string)
			switch {
			case is && k == "system":
				if rest, moved := strings.CutPrefix(s, "http://terminology.hl7.org/CodeSystem/"); moved {
					rest = strings.Replace(strings.Replace(rest, "v3-", "v3/", 1), "v2-", "v2/", 1)
					v[k] = "http://hl7.org/fhir/" + rest
				}
				if s == "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland" {
					v[k] = "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1"
				}
			case is && k == "url" && s == "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus":
				v[k] = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-NHSNumberVerificationStatus-1"
			case is && k == "reference":
				v[k] = strings.Replace(s, "ServiceRequest/", "ReferralRequest/", 1)
			default:
				older(x)
			}
		}
	case []any:
		for _, x := range v {
			older(x)
		}
	}
}

// coded makes a code of a CodeableConcept. It reports whether there was one code, or nothing at all.
func coded(m map[string]any, key string) bool {
	if m[key] == nil {
		return true
	}
	codings := items(named(m[key], "coding"))
	if len(codings) != 1 || word(named(codings[0], "code")) == "" {
		return false
	}
	m[key] = named(codings[0], "code")
	return true
}

// single makes one of a list of one; longer lists lose nothing, because their element is then taken away and counted.
func single(m map[string]any, key string) {
	list, is := m[key].([]any)
	if !is {
		return
	}
	delete(m, key)
	if len(list) == 1 {
		m[key] = list[0]
	} else {
		m[key+" (several)"] = list
	}
}

func move(m map[string]any, from, to string) {
	if v, is := m[from]; is {
		m[to] = v
		delete(m, from)
	}
}

func items(v any) []any {
	list, _ := v.([]any)
	return list
}

// named is a member of an object, nil of anything else.
func named(v any, key string) any {
	m, _ := v.(map[string]any)
	return m[key]
}

func word(v any) string {
	s, _ := v.(string)
	return s
}
