package document

import (
	"strings"
)

// readCDA reads a CDA R2 document: bare, or the payload of an ITK distribution envelope, in SOAP or not. What is neither describes nothing.
func readCDA(root *element) *Described {
	documents := clinicalDocuments(root, nil, 0)
	if len(documents) != 1 {
		d := &Described{}
		for _, x := range documents { // several in one envelope: none is shown in sections, but whose they are counts
			d.About.numbers = append(d.About.numbers, recordTarget(x).numbers...)
		}
		return d
	}
	doc := documents[0]
	d := &Described{format: "CDA R2", About: recordTarget(doc), Readable: true, status: "final"}
	if id := doc.child("id"); id != nil {
		d.id = cdaID(id)
	}
	d.Kind, d.KindText = cdaCode(doc.child("code"))
	d.Title = doc.child("title").words()
	d.Date = hl7Time(doc.child("effectiveTime").attr("value"))
	if doc.child("relatedDocument").attr("typeCode") == "RPLC" {
		d.status = "amended"
	}
	switch c := doc.child("confidentialityCode").attr("code"); c {
	case "U", "L", "M", "N", "R", "V":
		d.level = c
	}
	authors := doc.all("author")
	more := max(0, len(authors)-maxAuthors)
	for _, a := range authors[:len(authors)-more] {
		assigned := a.child("assignedAuthor")
		name := cdaName(assigned.child("assignedPerson", "name"))
		of := assigned.child("representedOrganization", "name").words()
		if name == "" {
			name = assigned.child("assignedAuthoringDevice", "softwareName").words()
		}
		d.Authors = append(d.Authors, strings.Trim(name+", "+of, ", "))
	}
	d.Authors = withMore(d.Authors, more)
	d.holder = doc.child("custodian", "assignedCustodian", "representedCustodianOrganization", "name").words()
	body := doc.child("component", "structuredBody")
	for _, c := range body.all("component") {
		if s := c.child("section"); s != nil {
			d.Sections = append(d.Sections, cdaSection(s))
		}
	}
	return d
}

// clinicalDocuments finds the documents at the places where an envelope has them.
func clinicalDocuments(e *element, found []*element, depth int) []*element {
	if e.name == "ClinicalDocument" && e.space == spaceCDA {
		return append(found, e)
	}
	if depth > 8 {
		return found
	}
	for _, k := range e.kids {
		switch k.name {
		case "Body", "SendNHS111Report-v2-0", "DistributionEnvelope", "payloads", "payload", "ClinicalDocument", "Envelope":
			found = clinicalDocuments(k, found, depth+1)
		default:
			if depth > 0 && e.name == "Body" { // the operation's own name is any
				found = clinicalDocuments(k, found, depth+1)
			}
		}
	}
	return found
}

// OIDs of identifiers of people in NHS CDA. The second is of numbers that were not traced: such a one is no proof of who it is, but another's is one against.
const (
	oidNHSNumber   = "2.16.840.1.113883.2.1.4.1"
	oidNotVerified = "2.16.840.1.113883.2.1.3.2.4.18.23"
)

func recordTarget(doc *element) Person {
	var p Person
	for _, t := range doc.all("recordTarget") {
		role := t.child("patientRole")
		for _, id := range role.all("id") {
			if root := id.attr("root"); root == oidNHSNumber || root == oidNotVerified {
				p.numbers = append(p.numbers, id.attr("extension"))
			}
		}
		patient := role.child("patient")
		if born := hl7Time(patient.child("birthTime").attr("value")); len(born) >= 4 {
			p.born = born[:min(10, len(born))]
		}
		p.family = patient.child("name", "family").words()
	}
	return p
}

func cdaSection(e *element) Section {
	s := Section{title: e.child("title").words(), Text: narrative(e.child("text"))}
	s.code, s.codeText = cdaCode(e.child("code"))
	for _, c := range e.all("component") {
		if inner := c.child("section"); inner != nil {
			s.Sections = append(s.Sections, cdaSection(inner))
		}
	}
	return s
}

// oids are the code systems of CDA that FHIR knows by an address (hl7.org/fhir/R4/terminologies-systems.html, NHS Digital's OID list).
var oids = map[string]string{
	"2.16.840.1.113883.2.1.3.2.4.15": "http://snomed.info/sct", "2.16.840.1.113883.6.96": "http://snomed.info/sct", "2.16.840.1.113883.6.1": "http://loinc.org",
	"2.16.840.1.113883.6.3": "http://hl7.org/fhir/sid/icd-10", "2.16.840.1.113883.5.25": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
}

func cdaCode(e *element) (list []coding, text string) {
	if e == nil {
		return nil, ""
	}
	text = e.child("originalText").words()
	for _, c := range append([]*element{e}, e.all("translation")...) {
		code, system := c.attr("code"), cdaSystem(c.attr("codeSystem"))
		if code != "" {
			list = append(list, coding{system, code, c.attr("displayName")})
		} else if text == "" {
			text = c.attr("displayName")
		}
	}
	return list, text
}

// cdaSystem is the address of a code system that CDA names by its OID.
func cdaSystem(oid string) string {
	if known := oids[oid]; known != "" || oid == "" {
		return known
	}
	return "urn:oid:" + oid
}

func cdaID(e *element) identifier {
	root, extension := e.attr("root"), e.attr("extension")
	system := "urn:oid:" + root
	if strings.Contains(root, "-") {
		system = "urn:uuid:" + strings.ToLower(root)
	}
	switch {
	case root == "":
		return identifier{}
	case extension == "":
		return identifier{"urn:ietf:rfc:3986", system}
	}
	return identifier{system, extension}
}

func cdaName(e *element) string {
	if e == nil {
		return ""
	}
	var parts []string
	for _, k := range e.kids {
		if k.name == "" {
			parts = append(parts, strings.TrimSpace(k.text))
		} else if k.name == "prefix" || k.name == "given" || k.name == "family" || k.name == "suffix" {
			parts = append(parts, k.words())
		}
	}
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}

// hl7Time writes a point in time of HL7 v3 (YYYY[MM[DD[HHMM[SS[.f]]]]][+-ZZZZ]) as a FHIR dateTime of no more precision than it has. A time of day without a zone
// is left out: the day stays. What is no time is "".
func hl7Time(s string) string {
	digits, zone := s, ""
	if i := strings.IndexAny(s, "+-"); i >= 0 {
		digits, zone = s[:i], s[i:]
	}
	digits, _, _ = strings.Cut(digits, ".")
	if len(digits) < 4 || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	out := digits[:4]
	for i := 4; i < 8 && i+2 <= len(digits); i += 2 {
		out += "-" + digits[i:i+2]
	}
	zoned := (len(zone) == 5 || len(zone) == 3) && strings.Trim(zone[1:], "0123456789") == ""
	if len(digits) >= 12 && zoned {
		seconds := "00" // as FHIR R4 has it where they were not written
		if len(digits) >= 14 {
			seconds = digits[12:14]
		}
		if len(zone) == 3 {
			zone += "00"
		}
		out += "T" + digits[8:10] + ":" + digits[10:12] + ":" + seconds + zone[:3] + ":" + zone[3:]
	}
	return validTime(out)
}
