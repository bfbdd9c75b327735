package hl7v2

// allergens is HL7 table 0127, AL1-2, as an AllergyIntolerance category. MA and MC, which say "miscellaneous", have no counterpart.
var allergens = map[string]string{"AA": "environment", "DA": "medication", "EA": "environment", "FA": "food", "LA": "environment", "PA": "environment"}

// severities is HL7 table 0128, AL1-4.
var severities = map[string]string{"MI": "mild", "MO": "moderate", "SV": "severe"}

// diagnoses is HL7 table 0052, DG1-6. A (admitting) does not say how sure anybody is.
var diagnoses = map[string]string{"F": "confirmed", "W": "provisional"}

// statement is an AL1, DG1 or PR1: a clinical statement in a message about a visit.
func (c *converter) statement(s segment) {
	c.closeResult()
	switch s.name() {
	case "AL1":
		c.emit(c.allergy(s), "")
	case "DG1":
		c.emit(c.diagnosis(s), "")
	case "PR1":
		c.emit(c.procedure(s), "")
	}
}

// notStated is a concept that FHIR demands and the message does not have.
func notStated() []byte { return required(nil) }

func concepts(system, code string) []byte {
	if code == "" {
		return nil
	}
	return object(member{"coding", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/" + system)}, member{"code", str(code)}))})
}

// allergy writes AL1. Whether it is active is not stated: it must not read as resolved, nor as confirmed.
func (c *converter) allergy(s segment) []byte {
	var used []int // whose codes became FHIR's
	var category, severity []byte
	if x := allergens[s.at(2, 1)]; x != "" {
		category, used = array(str(x)), append(used, 2)
	}
	var manifestations [][]byte
	for r := range s.repetitions(5) {
		if t := s.text(r); t != "" {
			manifestations = append(manifestations, object(member{"text", str(t)}))
		}
	}
	if x := severities[s.at(4, 1)]; x != "" && manifestations != nil {
		severity, used = str(x), append(used, 4)
	}
	var reaction []byte
	if manifestations != nil {
		reaction = array(object(member{"manifestation", array(manifestations...)}, member{"severity", severity}))
	}
	return s.complete(append([]member{
		{"resourceType", str("AllergyIntolerance")}, {"id", str(identity("AL1", c.person.seed, s.raw))},
		{"clinicalStatus", notStated()},
		{"category", category},
		{"code", required(s.concept(s.first(3)))},
		{"patient", reference(c.person.address)},
		{"encounter", c.encounter()},
		{"reaction", reaction}}, date("recordedDate", s.moment(s.at(6, 1)))...), nil, used...)
}

// diagnosis writes DG1. DG1-5 is when it was made, not when the condition began.
func (c *converter) diagnosis(s segment) []byte {
	var used []int
	verification := diagnoses[s.at(6, 1)]
	if verification != "" {
		used = append(used, 6)
	}
	if s.at(21, 1) == "D" { // deleted
		verification, used = "entered-in-error", append(used, 21)
	}
	var meta []byte
	if s.at(18, 1) == "Y" {
		meta = object(member{"security", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/v3-Confidentiality")}, member{"code", str("R")}))})
	}
	code := s.concept(s.first(3))
	if words := s.text(s.first(4)); words != "" && (code == nil || s.at(3, 2) == "" && s.at(3, 9) == "") {
		code = object(member{"coding", array(s.coding(s.first(3), 1))}, member{"text", str(words)})
	}
	var asserter []byte
	for x := range s.repetitions(16) {
		if asserter == nil {
			asserter = s.professional(x)
		}
	}
	return s.complete(append([]member{
		{"resourceType", str("Condition")}, {"id", str(identity("DG1", c.person.seed, s.raw))},
		{"meta", meta},
		{"identifier", array(s.entity(s.first(20), ""))},
		{"verificationStatus", concepts("condition-ver-status", verification)},
		{"category", array(concepts("condition-category", "encounter-diagnosis"))},
		{"code", required(code)},
		{"subject", reference(c.person.address)},
		{"encounter", c.encounter()},
		{"asserter", asserter}}, date("recordedDate", s.moment(s.at(5, 1)))...), nil, used...)
}

// procedure writes PR1. Whether it was completed is not stated.
func (c *converter) procedure(s segment) []byte {
	var used []int
	status := "unknown"
	if s.at(20, 1) == "D" {
		status, used = "entered-in-error", append(used, 20)
	}
	code := s.concept(s.first(3))
	if code == nil {
		code = s.concept(s.first(4))
	}
	var performers [][]byte
	for _, n := range [...]int{11, 12} {
		for x := range s.repetitions(n) {
			if who := s.professional(x); who != nil {
				performers = append(performers, object(member{"actor", who}))
			}
		}
	}
	return s.complete(append([]member{
		{"resourceType", str("Procedure")}, {"id", str(identity("PR1", c.person.seed, s.raw))},
		{"status", str(status)},
		{"code", required(code)},
		{"subject", reference(c.person.address)},
		{"encounter", c.encounter()},
		{"performer", array(performers...)}}, date("performedDateTime", s.moment(s.at(5, 1)))...), nil, used...)
}
