package stu3

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// ukCore begins the address of every UK Core extension.
const ukCore = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"

// extRule says what a UK extension of STU3 is in UK Core.
type extRule struct {
	to      string // the name in UK Core; "" where a function decides
	system  string // a valueCode that is a valueCodeableConcept of this system now
	resolve func(c *conv, f *frame, e fhirjson.Value) bool
}

// extensions are the UK extensions that have a present form, by their names: the last part of the address without "Extension-", "CareConnect-",
// "GPC-", "GPConnect-" and the number at the end, because hosts and prefixes differ between publications. What is not listed keeps its address
// (UK Core of mid-2025; some are retired there and stand for nothing newer, which is better than a name that no reader of R4 knows).
var extensions = map[string]extRule{
	"NHSNumberVerificationStatus":      {to: "NHSNumberVerificationStatus"},
	"EthnicCategory":                   {to: "EthnicCategory"},
	"DeathNotificationStatus":          {to: "DeathNotificationStatus"},
	"ResidentialStatus":                {to: "ResidentialStatus"},
	"BirthSex":                         {to: "BirthSex"},
	"Evidence":                         {to: "Evidence"},
	"MedicationStatementLastIssueDate": {to: "MedicationStatementLastIssueDate"},
	"PrescribingAgency":                {to: "MedicationPrescribingOrganizationType"},
	"VaccinationProcedure":             {to: "VaccinationProcedure"},
	"ParentPresent":                    {to: "ParentPresent"},
	"MainLocation":                     {to: "MainLocation"},
	"BookingOrganisation":              {to: "BookingOrganization"},
	"OutcomeOfAttendance":              {to: "OutcomeOfAttendance"},
	"ListWarningCode":                  {to: "ListWarningCode", system: "https://fhir.hl7.org.uk/CodeSystem/UKCore-ListWarningCode"},
	"ConditionEpisode":                 {to: "ConditionEpisode", system: "https://fhir.hl7.org.uk/CodeSystem/UKCore-ConditionEpisodicity"},
	"DeliveryChannel":                  {to: "DeliveryChannel", system: "https://fhir.hl7.org.uk/CodeSystem/UKCore-DeliveryChannel"},

	// Retired in UK Core, with nothing in their place: how problems hang together is kept under the names that readers of R4 know.
	"ActualProblem":          {to: "ActualProblem"},
	"RelatedProblemHeader":   {to: "RelatedProblemHeader"},
	"RelatedClinicalContent": {to: "RelatedClinicalContent"},
	"ProblemSignificance":    {to: "ProblemSignificance"},
	"MedicationQuantityText": {to: "MedicationQuantityText"},

	"AllergyIntoleranceEnd":         {to: "AllergyIntoleranceEnd", resolve: (*conv).allergyEnd},
	"encounter-associatedEncounter": {resolve: (*conv).associatedEncounter},
	"coding-sctdescid":              {resolve: (*conv).description},
	"coding-sctdecsid":              {resolve: (*conv).description}, // as some spell it
	"DateRecorded":                  {resolve: (*conv).dateRecorded},
	"PrescriptionType":              {resolve: (*conv).prescriptionType},
	"MedicationRepeatInformation":   {resolve: (*conv).repeatInformation},
	"MedicationStatusReason":        {resolve: (*conv).statusReason},
	"NHSCommunication":              {resolve: (*conv).nhsCommunication},
}

// extensionName is what an extension is called in the table, "" for one that is part of another.
func extensionName(url string) string {
	i := strings.LastIndexByte(url, '/')
	if i < 0 {
		return ""
	}
	name := strings.TrimPrefix(url[i+1:], "Extension-")
	name = strings.TrimPrefix(name, "CareConnect-")
	name = strings.TrimPrefix(name, "GPC-")
	name = strings.TrimPrefix(name, "GPConnect-")
	if n := len(name); n > 2 && name[n-2] == '-' && name[n-1] >= '0' && name[n-1] <= '9' {
		name = name[:n-2]
	}
	return name
}

// extension converts one extension of an object, and keeps it for the object's end.
func (c *conv) extension(f *frame, e fhirjson.Value) {
	if e.Kind() != fhirjson.Object || e.Get("url").Kind() != fhirjson.String {
		c.unknown(f, "extension", e)
		return
	}
	x, known := c.t.extensions[extensionName(e.Get("url").View())]
	if known && x.resolve != nil && x.resolve(c, f, e) {
		return
	}
	from := len(c.out)
	switch code := e.Get("valueCode"); {
	case known && x.system != "" && code.Kind() == fhirjson.String:
		in := c.open(e, c.t.datatypes["Extension"])
		c.key(in, "url")
		c.out = fhirjson.AppendQuote(c.out, ukCore+x.to)
		c.key(in, "valueCodeableConcept")
		c.out = append(append(append(append(append(c.out, `{"coding":[{"system":"`...), x.system...), `","code":`...), code.Raw()...), `}]}`...)
		for k, m := range e.Members() {
			if k != "url" && k != "valueCode" {
				c.member(in, k, m)
			}
		}
		c.close(in)
	case known && x.to != "":
		c.plainExtension(e, ukCore+x.to)
	default:
		c.plainExtension(e, "")
	}
	c.hold(f, from)
}

// plainExtension writes an extension under another address, or its own for "".
func (c *conv) plainExtension(e fhirjson.Value, to string) {
	f := c.open(e, c.t.datatypes["Extension"])
	for k, m := range e.Members() {
		switch {
		case k == "url" && to != "":
			c.key(f, k)
			c.out = fhirjson.AppendQuote(c.out, to)
		case k == "url" && m.Kind() == fhirjson.String:
			c.raw(f, k, m)
		default:
			c.member(f, k, m)
		}
	}
	c.close(f)
}

// parts yields the nested extensions of e by name.
func part(e fhirjson.Value, name string) fhirjson.Value {
	for x := range e.Get("extension").Elems() {
		if x.Get("url").Is(name) {
			return x
		}
	}
	return fhirjson.Value{}
}

// rest keeps e under its own address with only those of its nested extensions that keep says; nothing if there are none.
func (c *conv) rest(f *frame, e fhirjson.Value, keep func(name string) bool) {
	from := len(c.out)
	in := c.open(e, c.t.datatypes["Extension"])
	n := 0
	for k, m := range e.Members() {
		switch {
		case k == "url":
			c.raw(in, k, m)
		case k == "extension":
			for x := range m.Elems() {
				if keep(x.Get("url").View()) {
					n++
					c.extension(in, x)
				}
			}
		default:
			n++
			c.member(in, k, m)
		}
	}
	c.close(in)
	if n == 0 {
		c.out = c.out[:from]
		return
	}
	c.hold(f, from)
}

// allergyEnd: UK Core has the end of an allergy on its clinicalStatus, where allergyStatus puts it.
func (c *conv) allergyEnd(f *frame, _ fhirjson.Value) bool {
	return f.s.name == "AllergyIntolerance" && f.v.Get("clinicalStatus").Kind() == fhirjson.String
}

// associatedEncounter: AllergyIntolerance.encounter is an element of R4.
func (c *conv) associatedEncounter(f *frame, e fhirjson.Value) bool {
	where := e.Get("valueReference")
	if f.s.name != "AllergyIntolerance" || where.Kind() != fhirjson.Object || !c.claim(f, "encounter") {
		return false
	}
	c.key(f, "encounter")
	c.object(where, c.t.datatypes["Reference"])
	return true
}

// description: the SNOMED CT description that was chosen. Its id is an Identifier in UK Core.
func (c *conv) description(f *frame, e fhirjson.Value) bool {
	from := len(c.out)
	in := c.open(e, c.t.datatypes["Extension"])
	c.key(in, "url")
	c.out = append(c.out, `"`+ukCore+`CodingSCTDescId"`...)
	for k, m := range e.Members() {
		switch {
		case k == "url":
		case k == "extension" && m.Kind() == fhirjson.Array:
			for x := range m.Elems() {
				url, id, display := x.Get("url").View(), x.Get("valueId"), x.Get("valueString")
				at := len(c.out)
				switch {
				case strings.EqualFold(url, "descriptionId") && x.Len() == 2 && id.Kind() == fhirjson.String:
					c.out = append(append(append(c.out, `{"url":"descriptionId","valueIdentifier":{"system":"http://snomed.info/sct","value":`...), id.Raw()...), `}}`...)
					c.hold(in, at)
				case strings.EqualFold(url, "descriptionDisplay") && x.Len() == 2 && display.Kind() == fhirjson.String:
					c.out = append(append(append(c.out, `{"url":"descriptionDisplay","valueString":`...), display.Raw()...), '}')
					c.hold(in, at)
				default:
					c.extension(in, x)
				}
			}
		default:
			c.member(in, k, m)
		}
	}
	c.close(in)
	c.hold(f, from)
	return true
}

// dateRecorded: Immunization.recorded is an element of R4.
func (c *conv) dateRecorded(f *frame, e fhirjson.Value) bool {
	when := e.Get("valueDateTime")
	if f.s.name != "Immunization" || when.Kind() != fhirjson.String || e.Len() != 2 || !c.claim(f, "recorded") {
		return false
	}
	c.raw(f, "recorded", when)
	return true
}

// courses are the prescription types of GP Connect as UK Core's courses of therapy.
var courses = map[string]string{
	"acute":               `{"system":"http://terminology.hl7.org/CodeSystem/medicationrequest-course-of-therapy","code":"acute"}`,
	"delayed-prescribing": `{"system":"http://terminology.hl7.org/CodeSystem/medicationrequest-course-of-therapy","code":"acute"}`,
	"acute-handwritten":   `{"system":"http://terminology.hl7.org/CodeSystem/medicationrequest-course-of-therapy","code":"acute"}`,
	"repeat":              `{"system":"http://terminology.hl7.org/CodeSystem/medicationrequest-course-of-therapy","code":"continuous"}`,
	"repeat-dispensing":   `{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-MedicationRequestCourseOfTherapy","code":"continuous-repeating-dispensing"}`,
}

// prescriptionType: MedicationRequest.courseOfTherapyType, the original coding beside ours. A type that is not in the list gets no coding of ours.
func (c *conv) prescriptionType(f *frame, e fhirjson.Value) bool {
	typ := e.Get("valueCodeableConcept")
	if f.s.name != "MedicationRequest" || typ.Kind() != fhirjson.Object || !c.claim(f, "courseOfTherapyType") {
		return false
	}
	c.key(f, "courseOfTherapyType")
	in := c.open(typ, c.t.datatypes["CodeableConcept"])
	given := typ.Get("coding")
	added := ""
	for x := range given.Elems() {
		if to := courses[x.Get("code").View()]; to != "" && extensionName(x.Get("system").View()) == "PrescriptionType" {
			if added != "" && added != to {
				added = "" // it says two things
				break
			}
			added = to
		}
	}
	for k, m := range typ.Members() {
		if k != "coding" || m.Kind() != fhirjson.Array || !allObjects(m) {
			c.member(in, k, m)
			continue
		}
		c.key(in, k)
		c.out = append(c.out, '[')
		if c.out = append(c.out, added...); added != "" && m.Len() > 0 {
			c.out = append(c.out, ',')
		}
		n := 0
		for x := range m.Elems() {
			if n > 0 {
				c.out = append(c.out, ',')
			}
			n++
			c.object(x, c.t.datatypes["Coding"])
		}
		c.out = append(c.out, ']')
	}
	c.close(in)
	return true
}

// repeatInformation: UK Core has how many were issued and until when. How many are allowed is in neither UK Core nor R4: a practice counts all
// issues, and dispenseRequest.numberOfRepeatsAllowed those after the first, so the number stays where the practice put it.
func (c *conv) repeatInformation(f *frame, e fhirjson.Value) bool {
	issued, expiry := part(e, "numberOfRepeatPrescriptionsIssued"), part(e, "authorisationExpiryDate")
	if f.s.name != "MedicationRequest" || !issued.Exists() && !expiry.Exists() {
		return false
	}
	number := issued.Get("valueUnsignedInt")
	if !number.Exists() {
		number = issued.Get("valuePositiveInt")
	}
	if issued.Exists() && (number.Kind() != fhirjson.Number || issued.Len() != 2) {
		return false
	}
	seen := map[string]int{}
	for x := range e.Get("extension").Elems() {
		seen[x.Get("url").View()]++
	}
	if seen["numberOfRepeatPrescriptionsIssued"] > 1 || seen["authorisationExpiryDate"] > 1 {
		return false
	}
	from := len(c.out)
	c.out = append(c.out, `{"url":"`+ukCore+`MedicationRepeatInformation","extension":[`...)
	if issued.Exists() {
		c.out = append(append(append(c.out, `{"url":"numberOfPrescriptionsIssued","valueUnsignedInt":`...), number.Raw()...), '}')
	}
	if expiry.Exists() {
		if issued.Exists() {
			c.out = append(c.out, ',')
		}
		c.plainExtension(expiry, "")
	}
	c.out = append(c.out, `]}`...)
	c.hold(f, from)
	c.rest(f, e, func(name string) bool {
		return name != "numberOfRepeatPrescriptionsIssued" && name != "authorisationExpiryDate"
	})
	return true
}

// statusReason: MedicationRequest.statusReason is an element of R4; when it changed is not.
func (c *conv) statusReason(f *frame, e fhirjson.Value) bool {
	why := part(e, "statusReason")
	if f.s.name != "MedicationRequest" || why.Len() != 2 || why.Get("valueCodeableConcept").Kind() != fhirjson.Object || !c.claim(f, "statusReason") {
		return false
	}
	c.key(f, "statusReason")
	c.object(why.Get("valueCodeableConcept"), c.t.datatypes["CodeableConcept"])
	first := true
	c.rest(f, e, func(name string) bool {
		if name == "statusReason" && first {
			first = false
			return false
		}
		return true
	})
	return true
}

// nhsCommunication: a Patient's language is communication in R4, and the need of an interpreter an extension of HL7's.
func (c *conv) nhsCommunication(f *frame, e fhirjson.Value) bool {
	if f.s.name != "Patient" || !speaks(e) {
		return false
	}
	c.communication(f, nil, fhirjson.Value{})
	if need := part(e, "interpreterRequired"); need.Get("valueBoolean").Kind() == fhirjson.Bool && c.claim(f, "interpreterRequired") {
		from := len(c.out)
		c.out = append(append(append(c.out, `{"url":"http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired","valueBoolean":`...),
			need.Get("valueBoolean").Raw()...), '}')
		c.hold(f, from)
	}
	return true
}

// speaks reports whether an extension of a Patient names a language that can be communication.language.
func speaks(e fhirjson.Value) bool {
	return extensionName(e.Get("url").View()) == "NHSCommunication" && part(e, "language").Get("valueCodeableConcept").Kind() == fhirjson.Object
}

// communication writes Patient.communication from the element and from the extensions, once.
func (c *conv) communication(f *frame, _ *rule, m fhirjson.Value) {
	native := f.v.Get("communication")
	if m.Exists() && !allObjects(m) {
		c.unknown(f, "communication", m)
		return
	}
	if !c.claim(f, "communication") {
		return
	}
	c.key(f, "communication")
	c.out = append(c.out, '[')
	n := 0
	comma := func() {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
	}
	if allObjects(native) {
		for x := range native.Elems() {
			comma()
			c.object(x, f.s.rules["communication"].shape)
		}
	}
	required := false
	for e := range f.v.Get("extension").Elems() {
		if !speaks(e) {
			continue
		}
		comma()
		in := c.open(e, f.s.rules["communication"].shape)
		c.key(in, "language")
		c.object(part(e, "language").Get("valueCodeableConcept"), c.t.datatypes["CodeableConcept"])
		taken := map[string]bool{"language": true}
		if p := part(e, "preferred").Get("valueBoolean"); p.Kind() == fhirjson.Bool {
			c.raw(in, "preferred", p)
			taken["preferred"] = true
		}
		if p := part(e, "interpreterRequired").Get("valueBoolean"); p.Kind() == fhirjson.Bool && !required {
			required, taken["interpreterRequired"] = true, true
		}
		c.rest(in, e, func(name string) bool {
			if taken[name] {
				taken[name] = false // a second of the name stays
				return false
			}
			return true
		})
		c.close(in)
	}
	c.out = append(c.out, ']')
}
