package stu3

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// goneURL is how HL7 names an element of STU3 in a resource of another version (hl7.org/fhir/R4/versions.html#extensions, read November 2026).
const goneURL = "http://hl7.org/fhir/3.0/StructureDefinition/extension-"

// gone keeps an element that R4 does not have as the extension that HL7 gives it.
func (c *conv) gone(f *frame, r *rule, m fhirjson.Value) {
	for e := range m.Elems() {
		if !c.goneFits(r, e) {
			c.unknown(f, r.name, e)
			continue
		}
		from := len(c.out)
		c.out = append(append(append(append(c.out, `{"url":"`...), goneURL...), r.path...), '"')
		c.goneValue(r, e)
		c.hold(f, from)
	}
}

// goneFits is fits, but for codes: one that is not of its value set is kept as well as any other.
func (c *conv) goneFits(r *rule, m fhirjson.Value) bool {
	if r.codes != nil {
		return m.Kind() == fhirjson.String
	}
	return c.fits(r, m)
}

// goneValue writes the value of an extension that began, and ends it.
func (c *conv) goneValue(r *rule, m fhirjson.Value) {
	switch {
	case r.kind != complex:
		c.out = append(append(append(c.out, `,"value`...), r.value...), `":`...)
		if r.codes != nil {
			c.out = append(c.out, m.Raw()...)
		} else {
			c.value(r, m)
		}
	case r.value != "":
		c.out = append(append(append(c.out, `,"value`...), r.value...), `":`...)
		c.object(m, r.shape)
	default:
		c.out = append(c.out, `,"extension":[`...)
		n := 0
		for k, x := range m.Members() {
			child := r.shape.rules[k]
			for e := range x.Elems() {
				if n > 0 {
					c.out = append(c.out, ',')
				}
				n++
				if child == nil || !c.goneFits(child, e) {
					c.generic(k, e)
					continue
				}
				c.out = append(append(append(c.out, `{"url":"`...), k...), '"')
				c.goneValue(child, e)
			}
		}
		if n == 0 {
			c.generic("value", m)
		}
		c.out = append(c.out, ']')
	}
	c.out = append(c.out, '}')
}

// unknown keeps what is not of STU3, or cannot be R4, as an extension under [UnmappedURL].
func (c *conv) unknown(f *frame, k string, m fhirjson.Value) {
	if c.room(); c.over {
		return
	}
	c.unmapped++
	from := len(c.out)
	c.out = append(append(append(c.out, `{"url":"`...), UnmappedURL...), `","extension":[`...)
	c.generics(k, m)
	c.out = append(c.out, `]}`...)
	c.hold(f, from)
}

// generics writes a value, or each of the values of a list, as extensions named k.
func (c *conv) generics(k string, m fhirjson.Value) {
	if m.Kind() != fhirjson.Array || m.Len() == 0 {
		c.generic(k, m)
		return
	}
	n := 0
	for e := range m.Elems() {
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
		c.generic(k, e)
	}
}

// generic writes a value of which nothing is known as an extension: what it says stays, and references stay references, so that whoever decides
// about whom a resource is sees them.
func (c *conv) generic(k string, m fhirjson.Value) {
	if c.room(); c.over {
		c.out = append(c.out, "null"...)
		return
	}
	c.out = append(append(append(c.out, `{"url":"`...), k...), '"')
	switch m.Kind() {
	case fhirjson.String:
		c.out = append(append(c.out, `,"valueString":`...), m.Raw()...)
	case fhirjson.Number:
		c.out = append(append(c.out, `,"valueDecimal":`...), m.Raw()...)
	case fhirjson.Bool:
		c.out = append(append(c.out, `,"valueBoolean":`...), m.Raw()...)
	case fhirjson.Object, fhirjson.Array:
		switch {
		case m.Len() == 0:
			c.out = append(append(append(c.out, `,"valueString":"`...), m.Raw()[0], m.Raw()[len(m.Raw())-1]), '"')
		case m.Get("resourceType").Exists():
			// A resource where none may stand: nobody looks there whose it is, so it must not be there (P4). Its type is left, and it is counted.
			c.leftOut++
			name := m.Get("resourceType").View()
			if !typeName(name) {
				name = "resource"
			}
			c.out = append(append(append(c.out, `,"valueString":"left out: `...), name...), '"')
		case isReference(m):
			c.out = append(c.out, `,"valueReference":`...)
			c.object(m, c.t.datatypes["Reference"])
		default:
			c.out = append(c.out, `,"extension":[`...)
			n := 0
			if m.Kind() == fhirjson.Array {
				c.generics("item", m)
			}
			for name, x := range m.Members() {
				if n > 0 {
					c.out = append(c.out, ',')
				}
				n++
				c.generics(name, x)
			}
			c.out = append(c.out, ']')
		}
	default:
		c.out = append(c.out, `,"valueString":"null"`...)
	}
	c.out = append(c.out, '}')
}

// isReference reports whether an object can be nothing but a Reference.
func isReference(m fhirjson.Value) bool {
	if m.Get("reference").Kind() != fhirjson.String {
		return false
	}
	for k := range m.Members() {
		switch k {
		case "reference", "identifier", "display", "id", "extension", "_reference", "_display":
		default:
			return false
		}
	}
	return true
}

// clinical are the types of STU3 that are no part of the table and may yet be about a person, or support what is. What is not here or in the table
// (messages, bundles, definitions, money, and names that nobody knows) is no part of a record: the merge drops and counts it.
var clinical = func() map[string]bool {
	m := map[string]bool{}
	for _, typ := range strings.Fields("AdverseEvent BodySite CarePlan CareTeam Communication CommunicationRequest Consent DeviceComponent DeviceMetric DeviceRequest " +
		"DeviceUseStatement DocumentManifest Endpoint EpisodeOfCare FamilyMemberHistory Flag Goal GuidanceResponse ImagingManifest ImagingStudy " +
		"ImmunizationRecommendation Media MedicationAdministration NutritionOrder Provenance RequestGroup RiskAssessment Sequence Substance SupplyDelivery " +
		"SupplyRequest Task VisionPrescription") {
		m[typ] = true
	}
	return m
}()

// becomes is the type that a type of STU3 is in R4.
func (t *table) becomes(typ string) string {
	if s := t.resources[typ]; s != nil {
		return s.to
	}
	if clinical[typ] {
		return "Basic"
	}
	return typ
}

// otherResource deals with a resource of a type that is not in the table. A clinical one is kept as a Basic: about the same person, with all of it in
// an extension, and with what it contained beside it, so that whose that is can be seen. Of any other its type and id are left.
func (c *conv) otherResource(v fhirjson.Value, typ, newID string) {
	if !clinical[typ] {
		f := c.open(v, basic)
		if m := v.Get("resourceType"); m.Kind() == fhirjson.String {
			c.raw(f, "resourceType", m)
		}
		if m := v.Get("id"); m.Kind() == fhirjson.String {
			c.raw(f, "id", m)
		}
		c.close(f)
		return
	}
	c.unmapped++
	f := c.open(v, basic)
	c.key(f, "resourceType")
	c.out = append(c.out, `"Basic"`...)
	if id := v.Get("id"); newID != "" {
		c.key(f, "id")
		c.out = fhirjson.AppendQuote(c.out, newID)
	} else if id.Kind() == fhirjson.String {
		c.raw(f, "id", id)
	}
	if m := v.Get("meta"); m.Kind() == fhirjson.Object {
		c.common(f, "meta", m)
	}
	if m := v.Get("contained"); m.Kind() == fhirjson.Array && allObjects(m) {
		c.common(f, "contained", m)
	}
	c.key(f, "code")
	c.out = append(append(append(append(append(c.out, `{"coding":[{"system":"`...), ConversionSystem...), `","code":"`...), UnmappedCode...), `"}],"text":"`...)
	c.out = append(append(c.out, typ...), ` of FHIR STU3, not converted"}`...)
	for _, k := range [...]string{"subject", "patient"} {
		if who := v.Get(k); who.Kind() == fhirjson.Object {
			c.key(f, "subject")
			c.object(who, c.t.datatypes["Reference"])
			break
		}
	}
	from := len(c.out)
	c.out = append(append(append(c.out, `{"url":"`...), UnmappedURL...), `","extension":[`...)
	n := 0
	for k, m := range v.Members() {
		switch k {
		case "id", "meta", "contained":
			if k == "id" && m.Kind() == fhirjson.String || k == "meta" && m.Kind() == fhirjson.Object || k == "contained" && m.Kind() == fhirjson.Array && allObjects(m) {
				continue
			}
		}
		if n > 0 {
			c.out = append(c.out, ',')
		}
		n++
		c.generics(k, m)
	}
	if n == 0 {
		c.generic("resourceType", v.Get("resourceType"))
	}
	c.out = append(c.out, `]}`...)
	c.hold(f, from)
	c.close(f)
}

// basic is the shape of what stands for an unmapped resource.
var basic = &shape{name: "Basic", to: "Basic", rules: map[string]*rule{}}
