package main

import (
	"encoding/json"
	"strings"
	"unicode"
)

// object is a FHIR resource, or an element of one, as JSON: numbers keep their text.
type object map[string]any

// all returns the values at a path of names with dots; lists on the way are walked through.
func (o object) all(path string) []any {
	values := []any{map[string]any(o)}
	for name := range strings.SplitSeq(path, ".") {
		var next []any
		for _, v := range values {
			m, ok := v.(map[string]any)
			if !ok {
				continue
			}
			switch x := m[name].(type) {
			case nil:
			case []any:
				next = append(next, x...)
			default:
				next = append(next, x)
			}
		}
		values = next
	}
	return values
}

// objects returns the objects at a path.
func (o object) objects(path string) []object {
	var out []object
	for _, v := range o.all(path) {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// first returns the first object at a path, nil for none.
func (o object) first(path string) object {
	if list := o.objects(path); len(list) > 0 {
		return list[0]
	}
	return nil
}

// text returns the first string at a path, "" for none. It is not yet fit for a terminal.
func (o object) text(path string) string {
	for _, v := range o.all(path) {
		if s, ok := v.(string); ok {
			return s
		}
	}
	return ""
}

// concept returns the words of the first CodeableConcept at a path: its text, or a coding's display, or a code.
func (o object) concept(path string) string {
	for _, c := range o.objects(path) {
		if s := conceptText(c); s != "" {
			return s
		}
	}
	return ""
}

func conceptText(c object) string {
	if s := safe(c.text("text")); s != "" {
		return s
	}
	codings := c.objects("coding")
	for _, chosen := range []bool{true, false} { // what the user chose first
		for _, x := range codings {
			if s := safe(x.text("display")); s != "" && (!chosen || x["userSelected"] == true) {
				return s
			}
		}
	}
	for _, x := range codings {
		if s := safe(x.text("code")); s != "" {
			return "code " + s
		}
	}
	return ""
}

// concepts returns the words of all CodeableConcepts at a path, with commas.
func (o object) concepts(path string) string {
	var out []string
	for _, c := range o.objects(path) {
		if s := conceptText(c); s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

// number returns a JSON number or string as it was written.
func number(v any) string {
	switch v := v.(type) {
	case json.Number:
		return safe(v.String())
	case string:
		return safe(v)
	}
	return ""
}

// quantity shows a Quantity exactly as it was written.
func quantity(q object) string {
	value := safe(q.text("comparator")) + number(q["value"])
	unit := safe(q.text("unit"))
	if unit == "" {
		unit = safe(q.text("code"))
	}
	return strings.TrimSpace(value + " " + unit)
}

// value shows a value[x] with a prefix such as "value", "" if there is none.
func (o object) value(prefix string) string {
	if q := o.first(prefix + "Quantity"); q != nil {
		return quantity(q)
	}
	if s := o.concept(prefix + "CodeableConcept"); s != "" {
		return s
	}
	if s := safe(o.text(prefix + "String")); s != "" {
		return s
	}
	if b, ok := o[prefix+"Boolean"].(bool); ok {
		return map[bool]string{true: "yes", false: "no"}[b]
	}
	if s := number(o[prefix+"Integer"]); s != "" {
		return s
	}
	if s := number(o[prefix+"Decimal"]); s != "" {
		return s
	}
	if r := o.first(prefix + "Range"); r != nil {
		return quantity(r.orEmpty("low")) + " to " + quantity(r.orEmpty("high"))
	}
	if r := o.first(prefix + "Ratio"); r != nil {
		return quantity(r.orEmpty("numerator")) + " / " + quantity(r.orEmpty("denominator"))
	}
	for _, kind := range []string{"DateTime", "Date", "Period"} {
		for _, v := range o.all(prefix + kind) {
			if s, _ := whenOf(v); len(s) > 0 {
				return strings.Join(s, " ")
			}
		}
	}
	if s := safe(o.text(prefix + "Time")); s != "" {
		return s
	}
	if o.first(prefix+"SampledData") != nil {
		return "a series of samples (not shown)"
	}
	if o.first(prefix+"Attachment") != nil {
		return "an attachment (not shown)"
	}
	return ""
}

func (o object) orEmpty(path string) object {
	if x := o.first(path); x != nil {
		return x
	}
	return object{}
}

// shown is what a reader sees of a resource.
type shown struct {
	warnings []string // status words that turn the meaning: in front
	title    string
	statuses []string // the other status words: behind
	details  []string // further lines
}

// display chooses the words for a resource. elsewhere looks up what it refers to, nil if that is not in the answer.
func display(r object, elsewhere func(reference string) object) shown {
	var out shown
	find := func(reference string) object {
		id, contained := strings.CutPrefix(reference, "#")
		if !contained {
			return elsewhere(reference)
		}
		for _, c := range r.objects("contained") {
			if c.text("id") == id {
				return c
			}
		}
		return nil
	}
	out.warnings, out.statuses = statusWords(r)
	out.title = title(r, find)
	add := func(label, s string) {
		if s = strings.TrimSpace(s); s != "" {
			out.details = append(out.details, label+s)
		}
	}
	switch r.text("resourceType") {
	case "Observation":
		for _, c := range r.objects("component") {
			if v := valueOrWhyNot(c); v != "" {
				add("", nameOr(c.concept("code"), "part")+": "+v)
			}
		}
		add("", r.concepts("interpretation"))
		for _, x := range r.objects("referenceRange") {
			add("normal: ", rangeText(x))
		}
	case "DiagnosticReport":
		add("", safe(r.text("conclusion")))
	case "MedicationRequest", "MedicationDispense":
		for _, d := range r.objects("dosageInstruction") {
			add("", safe(d.text("text")))
		}
		add("quantity: ", quantity(r.orEmpty("dispenseRequest.quantity")))
	case "MedicationStatement":
		for _, d := range r.objects("dosage") {
			add("", safe(d.text("text")))
		}
	case "MedicationAdministration":
		add("", safe(r.text("dosage.text")))
		add("dose: ", quantity(r.orEmpty("dosage.dose")))
	case "AllergyIntolerance":
		for _, x := range r.objects("reaction") {
			add("reaction: ", strings.TrimSuffix(x.concepts("manifestation")+", "+safe(x.text("severity")), ", "))
		}
		if r.text("criticality") == "high" {
			add("", "high risk")
		}
	case "Condition":
		add("severity: ", r.concept("severity"))
		if s := safe(r.text("abatementString")); s != "" {
			add("ended: ", s)
		} else {
			for _, path := range []string{"abatementDateTime", "abatementPeriod"} {
				for _, v := range r.all(path) {
					s, _ := whenOf(v)
					add("ended: ", strings.Join(s, " "))
				}
			}
		}
		add("at: ", r.concepts("bodySite"))
	case "Procedure":
		add("outcome: ", r.concept("outcome"))
		add("at: ", r.concepts("bodySite"))
	case "Immunization":
		add("dose: ", number(firstOf(r.all("protocolApplied.doseNumberPositiveInt")))+safe(r.text("protocolApplied.doseNumberString")))
		if r["isSubpotent"] == true {
			add("", "this dose did not count in full")
		}
	case "Appointment":
		for _, p := range r.objects("participant.actor") {
			add("with: ", safe(p.text("display")))
		}
		add("", safe(r.text("patientInstruction")))
	case "Encounter":
		add("with: ", safe(r.text("participant.individual.display")))
		add("at: ", safe(r.text("location.location.display")))
	case "CarePlan":
		add("", safe(r.text("description")))
		for _, x := range r.objects("activity.detail") {
			add("– ", strings.TrimSpace(nameOr(x.concept("code"), "")+" "+safe(x.text("description"))))
		}
	case "DocumentReference":
		if title := safe(r.text("content.attachment.title")); title != out.title {
			add("", title)
		}
		add("by: ", safe(r.text("author.display")))
	case "Communication":
		for _, p := range r.objects("payload") {
			add("", safe(p.text("contentString")))
		}
	case "FamilyMemberHistory":
		for _, c := range r.objects("condition") {
			add("", c.concept("code"))
		}
	case "QuestionnaireResponse":
		answers(r, add, 0)
	case "List":
		add("", r.concept("emptyReason"))
	}
	add("because: ", r.concepts("reasonCode"))
	add("because: ", r.concepts("statusReason"))
	for _, n := range r.objects("note") {
		add("note: ", safe(n.text("text")))
	}
	if len(r.objects("modifierExtension")) > 0 {
		out.warnings = append(out.warnings, "qualified in a way not shown here: see -o json")
	}
	return out
}

// answers adds questions and answers, questions within questions too.
func answers(o object, add func(label, s string), depth int) {
	for _, item := range o.objects("item") {
		var got []string
		for _, x := range item.objects("answer") {
			if s := x.value("value"); s != "" {
				got = append(got, s)
			} else if c := x.first("valueCoding"); c != nil {
				got = append(got, nameOr(safe(c.text("display")), safe(c.text("code"))))
			}
		}
		if len(got) > 0 {
			add("", nameOr(safe(item.text("text")), safe(item.text("linkId")))+": "+strings.Join(got, ", "))
		}
		if depth < 8 {
			answers(item, add, depth+1)
		}
	}
}

func firstOf(list []any) any {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

func nameOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func rangeText(x object) string {
	if s := safe(x.text("text")); s != "" {
		return s
	}
	low, high := x.first("low"), x.first("high")
	switch {
	case low != nil && high != nil:
		return quantity(low) + " to " + quantity(high)
	case low != nil:
		return "from " + quantity(low)
	case high != nil:
		return "up to " + quantity(high)
	}
	return ""
}

func valueOrWhyNot(o object) string {
	if s := o.value("value"); s != "" {
		return s
	}
	if s := o.concept("dataAbsentReason"); s != "" {
		return "no value: " + s
	}
	return ""
}

// title is the one line that names a resource.
func title(r object, find func(string) object) string {
	typ := r.text("resourceType")
	name := ""
	switch typ {
	case "Observation":
		name = r.concept("code")
		if v := valueOrWhyNot(r); v != "" {
			name = nameOr(name, "Observation") + ": " + v
		}
	case "MedicationRequest", "MedicationStatement", "MedicationDispense", "MedicationAdministration":
		name = r.concept("medicationCodeableConcept")
		if ref := r.first("medicationReference"); name == "" && ref != nil {
			if m := find(ref.text("reference")); m != nil {
				name = m.concept("code")
			}
			name = nameOr(name, safe(ref.text("display")))
		}
	case "Immunization":
		name = r.concept("vaccineCode")
	case "DocumentReference":
		name = nameOr(safe(r.text("description")), nameOr(r.concept("type"), safe(r.text("content.attachment.title"))))
	case "Composition":
		name = nameOr(safe(r.text("title")), r.concept("type"))
	case "Encounter":
		name = nameOr(r.concept("type"), nameOr(r.concept("serviceType"), safe(r.text("class.display"))))
	case "Appointment":
		name = nameOr(safe(r.text("description")), nameOr(r.concept("appointmentType"), r.concept("serviceType")))
	case "CarePlan":
		name = nameOr(safe(r.text("title")), r.concept("category"))
	case "Goal":
		name = r.concept("description")
	case "FamilyMemberHistory":
		name = "Family history: " + nameOr(r.concept("relationship"), "a relative")
	case "RelatedPerson":
		name = strings.TrimSpace(humanName(r) + " (" + nameOr(r.concepts("relationship"), "related person") + ")")
	case "Task":
		name = nameOr(r.concept("code"), safe(r.text("description")))
	case "ImagingStudy":
		name = nameOr(safe(r.text("description")), r.concept("procedureCode"))
	case "ClinicalImpression":
		name = nameOr(safe(r.text("summary")), safe(r.text("description")))
	case "Consent":
		name = nameOr(r.concept("category"), r.concept("scope"))
	case "DeviceUseStatement":
		if d := find(r.text("device.reference")); d != nil {
			name = title(d, find)
		}
		name = nameOr(name, safe(r.text("device.display")))
	case "Device":
		name = nameOr(safe(r.text("deviceName.name")), r.concept("type"))
	case "Communication":
		name = nameOr(r.concept("topic"), r.concept("category"))
	case "RiskAssessment":
		name = nameOr(r.concept("code"), r.concept("prediction.outcome"))
	}
	for _, path := range []string{"code", "type", "category", "serviceType", "topic"} {
		name = nameOr(name, r.concept(path))
	}
	for _, path := range []string{"title", "description", "name"} {
		name = nameOr(name, safe(r.text(path)))
	}
	return nameOr(name, typeWords(typ))
}

// typeWords makes words of a type's name: AdverseEvent is "Adverse event".
func typeWords(typ string) string {
	var b strings.Builder
	for i, r := range safe(typ) {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte(' ')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return nameOr(b.String(), "Entry of unknown type")
}

// plainStatus are the status words that a reader takes for granted. Every other one is shown.
var plainStatus = map[string]bool{"": true, "final": true, "completed": true, "finished": true, "confirmed": true, "fulfilled": true,
	"order": true, "event": true}

// turningStatus are those that turn what an entry says, or say that it must not be relied on: they stand in front.
var turningStatus = map[string]bool{"entered-in-error": true, "not-done": true, "stopped": true, "cancelled": true, "refuted": true, "nullified": true,
	"revoked": true, "rejected": true, "declined": true, "noshow": true, "not-taken": true, "aborted": true, "failed": true, "superseded": true,
	"unconfirmed": true, "provisional": true, "differential": true, "suspended": true, "on-hold": true, "preliminary": true, "draft": true,
	"proposal": true, "plan": true, "option": true, "unknown": true}

// statusWords returns the status words of a resource that a reader must see, exactly as the record says them.
func statusWords(r object) (front, behind []string) {
	for _, path := range []string{"status", "docStatus", "lifecycleStatus", "clinicalStatus", "verificationStatus", "intent"} {
		for _, v := range r.all(path) {
			word, _ := v.(string)
			if m, ok := v.(map[string]any); ok {
				word = object(m).text("coding.code")
				if word == "" {
					word = conceptText(m)
				}
			}
			word = safe(word)
			switch {
			case plainStatus[word] || path == "intent" && (!turningStatus[word] || r.text("resourceType") == "CarePlan"):
			case path == "status" && word == "current": // of documents and lists: as they should be
			case turningStatus[word]:
				front = append(front, word)
			default:
				behind = append(behind, word)
			}
		}
	}
	if r["doNotPerform"] == true {
		front = append(front, "do not perform")
	}
	return front, behind
}

// humanName shows the first name of a person: the official or usual one if it says so.
func humanName(r object) string {
	names := r.objects("name")
	for _, use := range []string{"usual", "official", ""} {
		for _, n := range names {
			if n.text("use") != use && use != "" {
				continue
			}
			var given []string
			for _, g := range n.all("given") {
				if s, ok := g.(string); ok {
					given = append(given, safe(s))
				}
			}
			family := strings.ToUpper(safe(n.text("family")))
			switch {
			case family != "" && len(given) > 0:
				return family + ", " + strings.Join(given, " ")
			case family != "" || len(given) > 0:
				return family + strings.Join(given, " ")
			case n.text("text") != "":
				return safe(n.text("text"))
			}
		}
	}
	return ""
}
