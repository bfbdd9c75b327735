package cohort

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

const (
	sctSystem   = "http://snomed.info/sct"
	loincSystem = "http://loinc.org"
	hl7         = "http://terminology.hl7.org/CodeSystem/"
)

// sct is a CodeableConcept with a SNOMED CT code; said only in words it has none.
func sct(code, words string) object {
	return object{"coding": []any{object{"system": sctSystem, "code": code, "display": words}}, "text": words}
}

// loinc is a CodeableConcept with a LOINC code.
func loinc(code, words string) object {
	return object{"coding": []any{object{"system": loincSystem, "code": code, "display": words}}, "text": words}
}

func said(words string) object { return object{"text": words} }

func hl7Code(system, code string) object {
	return object{"coding": []any{object{"system": hl7 + system, "code": code}}}
}

func textOf(concept object) string { s, _ := concept["text"].(string); return s }

// qty is a Quantity; the number's text stays as it is written: 58.0 is not 58.
func qty(value, unit string) object {
	return object{"value": json.Number(value), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
}

// labelled replaces meta by one with a security label of v3-ActCode, such as NOPAT or PATAST.
func labelled(code string) object {
	return object{"meta": object{"versionId": "1", "security": []any{object{"system": hl7 + "v3-ActCode", "code": code}}}}
}

func (h *history) condition(onset string, code object, more ...object) item {
	return h.add("Condition", textOf(code), onset, append([]object{{"clinicalStatus": hl7Code("condition-clinical", "active"),
		"verificationStatus": hl7Code("condition-ver-status", "confirmed"), "category": []any{hl7Code("condition-category", "problem-list-item")},
		"code": code, "onsetDateTime": onset}}, more...)...)
}

func resolved(on string) object {
	return object{"clinicalStatus": hl7Code("condition-clinical", "resolved"), "abatementDateTime": on}
}

func category(code string) object {
	return object{"category": []any{hl7Code("observation-category", code)}}
}

// result is a laboratory result.
func (h *history) result(at string, code object, value object, more ...object) item {
	return h.add("Observation", textOf(code), at, append([]object{{"status": "final", "code": code, "effectiveDateTime": at, "valueQuantity": value}, category("laboratory")}, more...)...)
}

// vital is a measurement at the bedside.
func (h *history) vital(at string, code object, value object, more ...object) item {
	return h.result(at, code, value, append([]object{category("vital-signs")}, more...)...)
}

// finding is an Observation in words.
func (h *history) finding(at string, code object, words string, more ...object) item {
	return h.add("Observation", textOf(code), at, append([]object{{"status": "final", "code": code, "effectiveDateTime": at, "valueString": words}, category("social-history")}, more...)...)
}

func (h *history) pressure(at, systolic, diastolic string) item {
	part := func(code, words, v string) object {
		return object{"code": loinc(code, words), "valueQuantity": qty(v, "mm[Hg]")}
	}
	return h.add("Observation", "Blood pressure", at, object{"status": "final", "code": loinc("85354-9", "Blood pressure"), "effectiveDateTime": at,
		"component": []any{part("8480-6", "Systolic blood pressure", systolic), part("8462-4", "Diastolic blood pressure", diastolic)}}, category("vital-signs"))
}

func (h *history) report(at string, code object, conclusion string, results ...item) item {
	var refs []any
	for _, r := range results {
		refs = append(refs, r.ref())
	}
	f := object{"status": "final", "code": code, "effectiveDateTime": at, "conclusion": conclusion}
	if refs != nil {
		f["result"] = refs
	}
	return h.add("DiagnosticReport", textOf(code), at, f)
}

func (h *history) medicine(on, name, dose string, more ...object) item {
	return h.add("MedicationRequest", name, on, append([]object{{"status": "active", "intent": "order", "medicationCodeableConcept": said(name), "authoredOn": on,
		"dosageInstruction": []any{object{"text": dose}}}}, more...)...)
}

func (h *history) dispensed(on, name, amount, dose string) item {
	return h.add("MedicationDispense", name, on, object{"status": "completed", "medicationCodeableConcept": said(name), "quantity": qty(amount, "{tbl}"),
		"whenHandedOver": on, "dosageInstruction": []any{object{"text": dose}}, "performer": []any{object{"actor": h.staff("Lucian Oyelaran")}}})
}

func (h *history) allergy(on string, code object, reaction string, more ...object) item {
	return h.add("AllergyIntolerance", textOf(code), on, append([]object{{"clinicalStatus": hl7Code("allergyintolerance-clinical", "active"),
		"verificationStatus": hl7Code("allergyintolerance-verification", "confirmed"), "code": code, "recordedDate": on,
		"reaction": []any{object{"manifestation": []any{said(reaction)}}}}}, more...)...)
}

func (h *history) vaccine(on, name string, more ...object) item {
	return h.add("Immunization", name, on, append([]object{{"status": "completed", "vaccineCode": said(name), "occurrenceDateTime": on}}, more...)...)
}

func (h *history) procedure(on string, code object, more ...object) item {
	return h.add("Procedure", textOf(code), on, append([]object{{"status": "completed", "code": code, "performedDateTime": on}}, more...)...)
}

// visit is an Encounter of a v3-ActCode class: AMB, EMER, IMP, HH, VR, FLD.
func (h *history) visit(class, start, end, what, who string, more ...object) item {
	period := object{"start": start}
	if end != "" {
		period["end"] = end
	}
	return h.add("Encounter", what, start, append([]object{{"status": "finished", "class": object{"system": hl7 + "v3-ActCode", "code": class},
		"type": []any{said(what)}, "period": period, "participant": []any{object{"individual": h.staff(who)}},
		"serviceProvider": object{"reference": h.organisation()}}}, more...)...)
}

// document is a DocumentReference with its text inside.
func (h *history) document(on, title string, kind object, text string, more ...object) item {
	return h.add("DocumentReference", title, on, append([]object{{"status": "current", "type": kind, "date": instant(on), "description": title,
		"custodian": object{"reference": h.organisation()},
		"content": []any{object{"attachment": object{"contentType": "text/plain; charset=utf-8", "language": "en-GB", "title": title,
			"creation": on, "data": base64.StdEncoding.EncodeToString([]byte(text))}}}}}, more...)...)
}

// instant makes an instant of a day.
func instant(on string) string {
	if len(on) == len(time.DateOnly) {
		return on + "T09:00:00Z"
	}
	return on
}

func (h *history) appointment(start, end, what, status, with string) item {
	person := object{"actor": clone(h.person), "status": "accepted"}
	return h.add("Appointment", what, h.t.day(-10), object{"status": status, "description": what, "start": start, "end": end,
		"participant": []any{person, object{"actor": h.staff(with), "status": "accepted"}}})
}

func (h *history) flag(from string, what object, kind string, more ...object) item {
	return h.add("Flag", textOf(what), from, append([]object{{"status": "active", "code": what, "period": object{"start": from},
		"category": []any{object{"coding": []any{object{"system": hl7 + "flag-category", "code": kind}}}}}}, more...)...)
}

func (h *history) plan(from, title, words string, more ...object) item {
	return h.add("CarePlan", title, from, append([]object{{"status": "active", "intent": "plan", "title": title, "description": words,
		"period": object{"start": from}}}, more...)...)
}

func (h *history) team(from, name, lead, role string) item {
	return h.add("CareTeam", name, from, object{"status": "active", "name": name, "period": object{"start": from},
		"participant": []any{object{"role": []any{said(role)}, "member": h.staff(lead)}}})
}

func (h *history) list(on, title string, code object, items ...item) item {
	var entries []any
	for _, i := range items {
		entries = append(entries, object{"item": i.ref()})
	}
	return h.add("List", title, on, object{"status": "current", "mode": "snapshot", "title": title, "code": code, "date": instant(on), "entry": entries})
}
