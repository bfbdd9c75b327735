package stu3

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// hooks are the functions that elements.txt names with "do".
var hooks = map[string]func(c *conv, f *frame, r *rule, m fhirjson.Value){
	"allergyStatus": (*conv).allergyStatus, "attesterMode": (*conv).attesterMode, "comment": (*conv).comment, "communication": (*conv).communication,
	"content": (*conv).content, "context": (*conv).context, "contextRelated": (*conv).contextRelated, "created": (*conv).created, "description": (*conv).describe,
	"deviceVersion": (*conv).deviceVersion, "dispenseStatus": (*conv).dispenseStatus, "dose": (*conv).dose, "eligibility": (*conv).eligibility,
	"explanation": (*conv).explanation, "immunizationStatus": (*conv).immunizationStatus, "notDone": (*conv).notDone, "notGiven": (*conv).notGiven,
	"package": (*conv).packaging, "procedureStatus": (*conv).procedureStatus, "profile": (*conv).profile, "questionnaire": (*conv).questionnaire,
	"reference": (*conv).reference, "referralType": (*conv).referralType, "related": (*conv).related, "reportPerformer": (*conv).reportPerformer,
	"requester": (*conv).requester, "serviceRequested": (*conv).serviceRequested, "statementStatus": (*conv).statementStatus, "system": (*conv).system,
	"taken": (*conv).taking,
}

// ends are what R4 demands at the end of an object.
var ends = map[string]func(c *conv, f *frame){
	"Encounter":                        (*conv).endEncounter,
	"Immunization":                     (*conv).endImmunization,
	"Immunization.vaccinationProtocol": (*conv).endProtocol,
	"MedicationDispense":               (*conv).endDispense,
	"MedicationRequest":                (*conv).endRequest,
	"Observation":                      (*conv).endObservation,
	"ReferralRequest":                  (*conv).endReferral,
}

// absent is the extension of HL7 for what is not known.
const absent = `{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}`

// Status, negation and their like: what an entry means turns on these (hazard H-04).

// allergyStatus is a code that is a CodeableConcept in R4, with the end of the allergy on it as UK Core has it.
func (c *conv) allergyStatus(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.String {
		c.unknown(f, r.name, m)
		return
	}
	c.key(f, r.to)
	in := c.open(m, c.t.datatypes["CodeableConcept"])
	if c.fits(r, m) {
		c.key(in, "coding")
		c.out = append(append(append(c.out, `[{"system":"`...), r.system...), `","code":`...)
		c.out = append(fhirjson.AppendQuote(c.out, r.codes[m.View()]), `}]`...)
	} else {
		c.raw(in, "text", m)
		c.unknown(in, r.name, m)
	}
	for e := range f.v.Get("extension").Elems() {
		if e.Kind() == fhirjson.Object && extensionName(e.Get("url").View()) == "AllergyIntoleranceEnd" {
			from := len(c.out)
			c.plainExtension(e, ukCore+"AllergyIntoleranceEnd")
			c.hold(in, from)
		}
	}
	c.close(in)
}

// negated writes a status that a negation beside it overrides, and keeps what it was.
func (c *conv) negated(f *frame, r *rule, m fhirjson.Value, to string) {
	c.key(f, r.to)
	c.out = fhirjson.AppendQuote(c.out, to)
	c.gone(f, r, m)
}

// statementStatus: MedicationStatement.taken says whether the person took it, which R4 says in status: n is not-taken. A statement that is
// entered in error, stopped, on hold or intended says already that it is not being taken, and stays that.
func (c *conv) statementStatus(f *frame, r *rule, m fhirjson.Value) {
	if f.v.Get("taken").Is("n") && (m.Is("active") || m.Is("completed")) {
		c.negated(f, r, m, "not-taken")
		return
	}
	c.element(f, r, m)
}

// taking keeps taken beside the status, whatever it says.
func (c *conv) taking(f *frame, r *rule, m fhirjson.Value) {
	c.gone(f, r, m)
	if m.Is("n") && !f.v.Get("status").Exists() {
		c.key(f, "status")
		c.out = append(c.out, `"not-taken"`...)
	}
}

// immunizationStatus: notGiven is status not-done in R4, unless the entry is an error altogether.
func (c *conv) immunizationStatus(f *frame, r *rule, m fhirjson.Value) {
	if f.v.Get("notGiven").True() && m.Is("completed") {
		c.key(f, r.to)
		c.out = append(c.out, `"not-done"`...)
		return
	}
	c.element(f, r, m)
}

// notGiven is said by the status where it can be.
func (c *conv) notGiven(f *frame, r *rule, m fhirjson.Value) {
	status := f.v.Get("status")
	switch {
	case m.Kind() != fhirjson.Bool || m.True() && status.Exists() && !status.Is("completed"):
		c.gone(f, r, m)
	case m.True() && !status.Exists():
		c.key(f, "status")
		c.out = append(c.out, `"not-done"`...)
	}
}

// procedureStatus: notDone is status not-done in R4, unless the entry is an error altogether.
func (c *conv) procedureStatus(f *frame, r *rule, m fhirjson.Value) {
	if f.v.Get("notDone").True() && !m.Is("entered-in-error") && c.fits(r, m) {
		c.negated(f, r, m, "not-done")
		return
	}
	c.element(f, r, m)
}

// dispenseStatus: R4 says of a dispense that was not performed that it was declined.
func (c *conv) dispenseStatus(f *frame, r *rule, m fhirjson.Value) {
	if f.v.Get("notDone").True() && !m.Is("entered-in-error") && c.fits(r, m) {
		c.negated(f, r, m, "declined")
		return
	}
	c.element(f, r, m)
}

// notDone is kept where the status cannot say it.
func (c *conv) notDone(f *frame, r *rule, m fhirjson.Value) {
	if status := f.v.Get("status"); m.Kind() != fhirjson.Bool || m.True() && (!status.Exists() || status.Is("entered-in-error") || !c.fits(f.s.rules["status"], status)) {
		c.gone(f, r, m)
	}
}

func (c *conv) endDispense(f *frame) {
	if f.v.Get("status").Exists() || f.v.Get("_status").Exists() {
		return
	}
	c.key(f, "status")
	if f.v.Get("notDone").True() {
		c.out = append(c.out, `"declined"`...)
		return
	}
	c.out = append(c.out, `"unknown"`...)
}

// endRequest: status may be absent in STU3; R4 calls that unknown.
func (c *conv) endRequest(f *frame) {
	if !f.v.Get("status").Exists() && !f.v.Get("_status").Exists() {
		c.key(f, "status")
		c.out = append(c.out, `"unknown"`...)
	}
}

// endEncounter: R4 demands a class, and practices give none.
func (c *conv) endEncounter(f *frame) {
	if class := f.v.Get("class"); class.Kind() != fhirjson.Object {
		c.key(f, "class")
		c.out = append(c.out, absent...)
	}
}

// endImmunization: R4 demands when it was done, or should have been.
func (c *conv) endImmunization(f *frame) {
	if f.v.Get("date").Kind() != fhirjson.String && !f.v.Get("_date").Exists() {
		c.key(f, "_occurrenceDateTime")
		c.out = append(c.out, absent...)
	}
}

// endProtocol: R4 demands the number of the dose.
func (c *conv) endProtocol(f *frame) {
	if n := f.v.Get("doseSequence"); !n.Exists() && !f.v.Get("_doseSequence").Exists() {
		c.key(f, "_doseNumberString")
		c.out = append(c.out, absent...)
	}
}

// Elements that became others.

// context is encounter in R4; an episode of care has no place there.
func (c *conv) context(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.Object {
		c.unknown(f, r.name, m)
		return
	}
	if strings.Contains(m.Get("reference").View(), "EpisodeOfCare/") {
		c.gone(f, r, m)
		return
	}
	c.key(f, "encounter")
	c.object(m, r.shape)
}

// comment is a note in R4.
func (c *conv) comment(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.String {
		c.unknown(f, r.name, m)
		return
	}
	c.key(f, "note")
	c.out = append(append(append(c.out, `[{"text":`...), m.Raw()...), `}]`...)
}

// related observations: R4 has a way down, hasMember, which endObservation writes. What a result is said to be derived from is the header of its
// group, which GP Connect links both ways; only where the header is not in the record is that way kept as it came. All else that STU3 can relate
// stays an extension.
func (c *conv) related(f *frame, r *rule, m fhirjson.Value) {
	own := "Observation/" + f.v.Get("id").View()
	for e := range m.Elems() {
		target := e.At("target", "reference").View()
		if e.Kind() == fhirjson.Object && e.Len() == 2 && e.Get("target").Kind() == fhirjson.Object {
			switch typ := e.Get("type"); {
			case typ.Is("has-member"):
				continue
			case typ.Is("derived-from") && c.depth == 1 && c.at >= 0 && c.held[target] && c.held[own]:
				continue // the header has it as its member, from its own text or from endObservation
			}
		}
		c.gone(f, r, e)
	}
}

func (c *conv) endObservation(f *frame) {
	n := 0
	begin := func() {
		if n++; n == 1 {
			c.key(f, "hasMember")
			c.out = append(c.out, '[')
			return
		}
		c.out = append(c.out, ',')
	}
	for e := range f.v.Get("related").Elems() {
		if e.Kind() == fhirjson.Object && e.Len() == 2 && e.Get("type").Is("has-member") && e.Get("target").Kind() == fhirjson.Object {
			begin()
			c.object(e.Get("target"), c.t.datatypes["Reference"])
		}
	}
	if c.depth == 1 && c.at >= 0 && len(c.children) > 0 {
		own := "Observation/" + f.v.Get("id").View()
		for _, child := range c.children[own] {
			begin()
			c.out = append(c.out, `{"reference":`...)
			c.out = append(fhirjson.AppendQuote(c.out, child), '}')
		}
		delete(c.children, own) // a second copy of this header does not get them too
	}
	if n > 0 {
		c.out = append(c.out, ']')
	}
}

// explanation holds two things that R4 keeps apart.
func (c *conv) explanation(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.Object {
		c.unknown(f, r.name, m)
		return
	}
	for k, x := range m.Members() {
		rule := r.shape.rules[k]
		switch {
		case rule == nil:
			c.unknown(f, k, x)
		case k == "reason":
			c.element(f, rule, x)
		default: // reasonNotGiven: a list, and one statusReason
			written := false
			for e := range x.Elems() {
				if e.Kind() == fhirjson.Object && !written {
					written = true
					c.key(f, "statusReason")
					c.object(e, rule.shape)
					continue
				}
				c.gone(f, rule, e)
			}
		}
	}
}

// requester is a Reference in R4. For whom somebody asked has no place.
func (c *conv) requester(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.Object {
		c.unknown(f, r.name, m)
		return
	}
	for k, x := range m.Members() {
		switch {
		case k == "agent" && x.Kind() == fhirjson.Object:
			c.key(f, "requester")
			c.object(x, c.t.datatypes["Reference"])
		case k == "onBehalfOf" && x.Kind() == fhirjson.Object:
			c.gone(f, r.shape.rules[k], x)
		default:
			c.unknown(f, k, x)
		}
	}
}

// reportPerformer is a Reference in R4, with the role as an extension of it.
func (c *conv) reportPerformer(f *frame, r *rule, m fhirjson.Value) {
	if !allObjects(m) {
		c.unknown(f, r.name, m)
		return
	}
	c.key(f, r.to)
	c.list(m, func(e fhirjson.Value) {
		in := c.open(e, c.t.datatypes["Reference"])
		if actor := e.Get("actor"); actor.Kind() == fhirjson.Object {
			in.v = actor
			for k, x := range actor.Members() {
				c.member(in, k, x)
			}
		}
		for k, x := range e.Members() {
			switch {
			case k == "actor" && x.Kind() == fhirjson.Object:
			case k == "role":
				c.gone(in, r.shape.rules[k], x)
			default:
				c.unknown(in, k, x)
			}
		}
		c.close(in)
	})
}

// describe: a referral's description is a note in R4, beside the notes that it has.
func (c *conv) describe(f *frame, r *rule, m fhirjson.Value) {
	text, notes := f.v.Get("description"), f.v.Get("note")
	if !allObjects(notes) || text.Exists() && text.Kind() != fhirjson.String {
		if r.name == "note" {
			c.element(f, r, m)
		} else {
			c.unknown(f, r.name, m)
		}
		return
	}
	if !c.claim(f, "note") {
		return
	}
	c.key(f, "note")
	c.out = append(c.out, '[')
	n := 0
	if text.Exists() {
		n++
		c.out = append(append(append(c.out, `{"text":`...), text.Raw()...), '}')
	}
	for e := range notes.Elems() {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
		c.object(e, c.t.datatypes["Annotation"])
	}
	c.out = append(c.out, ']')
}

// serviceRequested is a list in STU3 and one code in R4.
func (c *conv) serviceRequested(f *frame, r *rule, m fhirjson.Value) {
	written := false
	for e := range m.Elems() {
		if e.Kind() == fhirjson.Object && !written {
			written = true
			c.key(f, "code")
			c.object(e, r.shape)
			continue
		}
		c.gone(f, r, e)
	}
}

// referralType is written by endReferral, if it is one.
func (c *conv) referralType(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.Object {
		c.unknown(f, r.name, m)
	}
}

// endReferral: a ServiceRequest does not say by its type that it is a referral.
func (c *conv) endReferral(f *frame) {
	c.key(f, "category")
	c.out = append(c.out, `[{"coding":[{"system":"http://snomed.info/sct","code":"3457005","display":"Patient referral"}]}`...)
	if typ := f.v.Get("type"); typ.Kind() == fhirjson.Object {
		c.out = append(c.out, ',')
		c.object(typ, c.t.datatypes["CodeableConcept"])
	}
	c.out = append(c.out, ']')
}

// contextRelated is a Reference in R4, which may have an identifier itself.
func (c *conv) contextRelated(f *frame, r *rule, m fhirjson.Value) {
	if !allObjects(m) {
		c.unknown(f, r.name, m)
		return
	}
	c.key(f, r.to)
	list := m
	c.out = append(c.out, '[')
	n := 0
	for e := range list.Elems() {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
		ref, id := e.Get("ref"), e.Get("identifier")
		in := c.open(e, c.t.datatypes["Reference"])
		if ref.Kind() == fhirjson.Object {
			in.v = ref
			for k, x := range ref.Members() {
				c.member(in, k, x)
			}
		}
		for k, x := range e.Members() {
			switch {
			case k == "ref" && ref.Kind() == fhirjson.Object:
			case k == "identifier" && id.Kind() == fhirjson.Object && !ref.Get("identifier").Exists():
				c.key(in, "identifier")
				c.object(x, c.t.datatypes["Identifier"])
			default:
				c.unknown(in, k, x)
			}
		}
		c.close(in)
	}
	c.out = append(c.out, ']')
}

// content: when a document was made stands on its attachments in R4.
func (c *conv) content(f *frame, r *rule, m fhirjson.Value) {
	made := f.v.Get("created")
	if !allObjects(m) || made.Kind() != fhirjson.String {
		c.element(f, r, m)
		return
	}
	c.key(f, r.to)
	c.out = append(c.out, '[')
	n := 0
	for e := range m.Elems() {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
		in := c.open(e, r.shape)
		for k, x := range e.Members() {
			if k != "attachment" || x.Kind() != fhirjson.Object || x.Get("creation").Exists() || x.Get("_creation").Exists() {
				c.member(in, k, x)
				continue
			}
			c.key(in, k)
			a := c.open(x, c.t.datatypes["Attachment"])
			for name, y := range x.Members() {
				c.member(a, name, y)
			}
			c.raw(a, "creation", made)
			c.close(a)
		}
		c.close(in)
	}
	c.out = append(c.out, ']')
}

// created is kept beside where an attachment cannot say it.
func (c *conv) created(f *frame, r *rule, m fhirjson.Value) {
	said, unsaid := 0, 0
	if content := f.v.Get("content"); m.Kind() == fhirjson.String && allObjects(content) {
		for e := range content.Elems() {
			if a := e.Get("attachment"); a.Kind() == fhirjson.Object && !a.Get("creation").Exists() && !a.Get("_creation").Exists() {
				said++
			} else {
				unsaid++
			}
		}
	}
	if said == 0 || unsaid > 0 {
		c.gone(f, r, m)
	}
}

// packaging: R4 keeps one batch.
func (c *conv) packaging(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.Object {
		c.unknown(f, r.name, m)
		return
	}
	for k, x := range m.Members() {
		rule := r.shape.rules[k]
		switch {
		case rule == nil:
			c.unknown(f, k, x)
		case k == "batch":
			written := false
			for e := range x.Elems() {
				if e.Kind() == fhirjson.Object && !written {
					written = true
					c.key(f, "batch")
					c.object(e, rule.shape)
					continue
				}
				c.gone(f, rule, e)
			}
		default:
			c.gone(f, rule, x)
		}
	}
}

// questionnaire is an address in R4.
func (c *conv) questionnaire(f *frame, r *rule, m fhirjson.Value) {
	if at := m.Get("reference"); at.Kind() == fhirjson.String {
		c.key(f, r.to)
		c.out = append(c.out, at.Raw()...)
		if m.Len() == 1 {
			return
		}
	}
	c.gone(f, r, m)
}

// attesterMode is a list in STU3 and one in R4.
func (c *conv) attesterMode(f *frame, r *rule, m fhirjson.Value) {
	written := false
	for e := range m.Elems() {
		if !written && e.Kind() == fhirjson.String && c.fits(r, e) {
			written = true
			c.key(f, r.to)
			c.value(r, e)
			continue
		}
		c.gone(f, r, e)
	}
}

// deviceVersion is a list of objects in R4.
func (c *conv) deviceVersion(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.String {
		c.unknown(f, r.name, m)
		return
	}
	c.key(f, r.to)
	c.out = append(append(append(c.out, `[{"value":`...), m.Raw()...), `}]`...)
}

// eligibility and its note are one thing in R4.
func (c *conv) eligibility(f *frame, r *rule, m fhirjson.Value) {
	code, note := f.v.Get("eligibility"), f.v.Get("eligibilityNote")
	if m.Kind() != fhirjson.Object && r.name == "eligibility" || m.Kind() != fhirjson.String && r.name != "eligibility" {
		c.unknown(f, r.name, m)
		return
	}
	if !c.claim(f, "eligibility") {
		return
	}
	c.key(f, "eligibility")
	c.out = append(c.out, `[{`...)
	if code.Kind() == fhirjson.Object {
		c.out = append(c.out, `"code":`...)
		c.object(code, c.t.datatypes["CodeableConcept"])
	}
	if note.Kind() == fhirjson.String {
		if code.Kind() == fhirjson.Object {
			c.out = append(c.out, ',')
		}
		c.out = append(append(c.out, `"comment":`...), note.Raw()...)
	}
	c.out = append(c.out, `}]`...)
}

// doses are the elements of a Dosage that R4 keeps in doseAndRate.
var doses = [...]string{"doseRange", "doseQuantity", "rateRatio", "rateRange", "rateQuantity"}

// dose writes doseAndRate, once for all of them.
func (c *conv) dose(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.Object {
		c.unknown(f, r.name, m)
		return
	}
	if !c.claim(f, "doseAndRate") {
		return
	}
	c.key(f, "doseAndRate")
	c.out = append(c.out, `[{`...)
	n := 0
	for _, name := range doses {
		x := f.v.Get(name)
		if x.Kind() != fhirjson.Object {
			continue
		}
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
		c.out = append(append(append(c.out, '"'), name...), `":`...)
		c.object(x, f.s.rules[name].shape)
	}
	c.out = append(c.out, `}]`...)
}

// profile: what a resource claimed to be in STU3 it is not in R4.
func (c *conv) profile(f *frame, r *rule, m fhirjson.Value) {
	for e := range m.Elems() {
		if e.Kind() != fhirjson.String {
			c.unknown(f, r.name, e)
			continue
		}
		from := len(c.out)
		c.out = append(append(append(append(append(c.out, `{"url":"`...), ProfileURL...), `","valueUri":`...), e.Raw()...), '}')
		c.hold(f, from)
	}
}

// reference leads to the same resource under the type and id that it has now.
func (c *conv) reference(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() != fhirjson.String {
		c.element(f, r, m)
		return
	}
	if to := c.leads(m.View()); to != "" {
		c.key(f, r.to)
		c.out = fhirjson.AppendQuote(c.out, to)
		return
	}
	c.raw(f, r.to, m)
}

// leads returns where a reference leads now, "" if that is where it led.
func (c *conv) leads(s string) string {
	if s == "" {
		return ""
	}
	if s[0] == '#' {
		if c.at >= 0 && len(c.promoted) > 0 {
			return c.promoted[promotedKey{c.at, s[1:]}]
		}
		return ""
	}
	if to := c.renamed[s]; to != "" {
		return to
	}
	rel, root := s, ""
	if n := len(c.base); n > 0 && len(s) > n+1 && s[:n] == c.base && s[n] == '/' {
		root, rel = s[:n+1], s[n+1:]
	}
	head, tail := rel, ""
	if i := strings.Index(rel, "/_history/"); i >= 0 {
		head, tail = rel[:i], rel[i:]
	}
	if root != "" || tail != "" {
		if to := c.renamed[head]; to != "" {
			return root + to + tail
		}
	}
	for _, typ := range [...]string{"ProcedureRequest/", "ReferralRequest/"} {
		if rest, is := strings.CutPrefix(rel, typ); is {
			return root + "ServiceRequest/" + rest
		}
	}
	return ""
}
