package hl7v2

import (
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker"
)

// report is an OBR with its order, and what is about it.
type report struct {
	about
	obr       segment
	order     []segment
	person    *person
	encounter []byte
	id        string
	results   []string // addresses
	specimens [][]byte
	count     int // OBX so far
	said      said
}

// said is what a report says of all its results: made once, or a long OBR with many results would be read again for each. A result that stands alone
// has none of it.
type said struct {
	when, issued []member
	made         moment // OBR-7
	category     []byte // of the results
	kind         []byte // of what is a document
}

// result is an OBX, and what is about it.
type result struct {
	about
	obx    segment
	person *person
	report *report // nil for one that stands alone, such as a weight in a message about a visit
	id     string
}

func (c *converter) openReport(s segment) {
	r := &report{obr: s, order: c.order, person: c.person, encounter: c.encounter(), said: said{s.when(), instant("issued", s.moment(s.at(22, 1))),
		s.moment(s.at(7, 1)), s.categories(c.category), s.documentCategory()}}
	c.order = nil
	if s.at(2, 1) == "" && s.at(3, 1) == "" {
		r.id = identity("OBR", c.person.seed, s.raw)
	} else {
		r.id = identity("OBR", c.person.seed, s.first(2), s.first(3), s.first(4), s.field(7), s.field(22), s.field(25))
	}
	c.report = r
}

func (c *converter) openResult(s segment) {
	if c.tooOften(s) {
		c.fail(broker.ErrTooMuch)
		return
	}
	if c.document != nil && c.document.takes(s) {
		c.document.read(s)
		return
	}
	r := &result{obx: s, person: c.person, report: c.report}
	if r.report != nil {
		r.report.count++
		r.id = identity("OBX", r.report.id, strconv.Itoa(r.report.count), s.field(3), s.field(4))
	} else {
		r.id = identity("OBX", c.person.seed, s.raw)
	}
	c.result = r
}

// tooOften reports whether the values of an OBX would be more than a resource may be: each that is no line of a text is a component or a file of its own,
// and repeats code or title, unit and time.
func (c *converter) tooOften(s segment) bool {
	switch s.kind() {
	case "ST", "TX", "FT", "":
		return false
	}
	beside := len(s.field(3)) + len(s.field(6)) + len(s.field(14))
	if c.report != nil {
		beside += len(c.report.said.made.raw)
	}
	if c.document != nil {
		beside += len(c.document.made.raw)
	}
	return beside*strings.Count(s.field(5), string(rune(s.repetition))) > c.caps.resourceBytes
}

// closeResult writes a result: an Observation, or for data and pointers, which FHIR's Observation cannot hold, a DocumentReference.
func (c *converter) closeResult() {
	r := c.result
	c.result = nil
	if r == nil {
		return
	}
	if kind := r.obx.kind(); kind == "ED" || kind == "RP" {
		c.emit(r.asDocument(c.encounter()), "")
		return
	}
	if r.report != nil {
		r.report.results = append(r.report.results, "Observation/"+r.id)
	}
	c.emit(r.observation(c.encounter()), "")
}

func (c *converter) closeReport() {
	c.closeResult()
	r := c.report
	c.report = nil
	if r == nil || noReport[r.obr.at(25, 1)] && r.count == 0 {
		return
	}
	c.emit(r.write(), "")
}

// when returns the members for the time of what was observed: OBR-7, and OBR-8 where it ends later.
func (s segment) when() []member {
	start, end := s.moment(s.at(7, 1)), s.moment(s.at(8, 1))
	if end.text == "" || end.text == start.text {
		return date("effectiveDateTime", start)
	}
	return []member{{"effectivePeriod", object(append(date("start", start), date("end", end)...)...)}}
}

// categories writes OBR-24: HL7's own code, and FHIR's where there is one. stated is what is configured for reports that state none.
func (s segment) categories(stated string) []byte {
	section := s.at(24, 1)
	known := sections[section]
	if section == "" {
		known = stated
	}
	var own, hl7 []byte
	if known != "" {
		own = object(member{"coding", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/observation-category")}, member{"code", str(known)}))})
	}
	if section != "" && !strings.ContainsAny(section, " \t\n") {
		hl7 = object(member{"coding", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/v2-0074")}, member{"code", str(section)}))})
	}
	return array(own, hl7)
}

// write returns the DiagnosticReport.
func (r *report) write() []byte {
	s := r.obr
	var extras [][]byte
	for _, o := range r.order {
		extras = append(extras, extension(extSegment, o.shown(o.raw)))
	}
	members := []member{
		{"resourceType", str("DiagnosticReport")}, {"id", str(r.id)},
		{"identifier", array(s.entity(s.first(2), "PLAC"), s.entity(s.first(3), "FILL"))},
	}
	members = append(members, coded("status", s.at(25, 1), reportStatus)...)
	members = append(members,
		member{"category", s.categories("")},
		member{"code", required(s.concept(s.first(4)))},
		member{"subject", reference(r.person.address)},
		member{"encounter", r.encounter})
	members = append(members, r.said.when...)
	members = append(members, r.said.issued...)
	var interpreters [][]byte
	for n := range s.repetitions(32) {
		// NDL holds its XCN in subcomponents: the same with another separator.
		inner := s
		inner.component, inner.sub = s.sub, s.component
		interpreters = append(interpreters, inner.professional(part(n, s.component, 1)))
	}
	results := make([][]byte, 0, len(r.results))
	for _, address := range r.results {
		results = append(results, reference(address))
	}
	return s.complete(append(members,
		member{"resultsInterpreter", array(interpreters...)},
		member{"specimen", array(r.specimens...)},
		member{"result", array(results...)},
		member{"conclusion", str(r.noteText())}), append(extras, r.extras...))
}

// coded writes a status from a table; where the table has nothing, "unknown" and the code as it came.
func coded(key, code string, table map[string]string) []member {
	if meaning, known := table[code]; known {
		return []member{{key, str(meaning)}}
	}
	return []member{{key, str("unknown")}, original(key, code)}
}

// required is a concept that FHIR demands: where there is none, it says so.
func required(concept []byte) []byte {
	if concept != nil {
		return concept
	}
	return object(member{"extension", array(object(member{"url", str(absentReason)}, member{"valueCode", str("unknown")}))})
}

// observation returns the Observation.
func (r *result) observation(encounter []byte) []byte {
	s := r.obx
	var report said
	if r.report != nil {
		report = r.report.said
	}
	status := s.at(11, 1)
	members := make([]member, 0, 24)
	members = append(members,
		member{"resourceType", str("Observation")}, member{"id", str(r.id)})
	members = append(members, coded("status", status, resultStatus)...)
	members = append(members, member{"category", report.category}, member{"code", required(s.concept(s.first(3)))},
		member{"subject", reference(r.person.address)}, member{"encounter", encounter})
	if at := s.moment(s.at(14, 1)); at.text != "" || at.raw != "" {
		members = append(members, date("effectiveDateTime", at)...)
	} else {
		members = append(members, report.when...)
	}
	if at := s.moment(s.at(19, 1)); at.raw != "" {
		members = append(members, instant("issued", at)...)
	} else {
		members = append(members, report.issued...)
	}
	var performers [][]byte
	for x := range s.repetitions(16) {
		performers = append(performers, s.professional(x))
	}
	if org := s.at(23, 1); org != "" {
		performers = append(performers, object(member{"type", str("Organization")}, member{"display", str(org)}))
	}
	members = append(members, member{"performer", array(performers...)})
	value, bare := s.value()
	members = append(members, value...)
	if status == "N" && len(value) == 0 {
		members = append(members, member{"dataAbsentReason", object(member{"coding", array(object(
			member{"system", str("http://terminology.hl7.org/CodeSystem/data-absent-reason")}, member{"code", str("not-asked")}))})})
	}
	members = append(members, member{"interpretation", array(s.flags()...)})
	notes := [][]byte{}
	var also []int
	if unit := s.field(6); len(value) > 0 && unit != "" && unit != null && bare {
		// A value is text: its unit, which changes what it means, has no place but a note.
		name := s.at(6, 1)
		if name == "" {
			name = s.text(unit)
		}
		if name == s.text(unit) {
			also = append(also, 6)
		}
		notes = append(notes, object(member{"text", str("Units: " + name)}))
	}
	notes = append(notes, object(member{"text", str(r.noteText())}))
	var method []byte
	for x := range s.repetitions(17) {
		if method == nil {
			method = s.concept(x)
		}
	}
	var ranges []byte
	if f := s.field(7); f != "" && f != null {
		ranges = array(object(member{"text", str(s.text(f))}))
	}
	return s.complete(append(members, member{"note", array(notes...)}, member{"method", method}, member{"referenceRange", ranges}), r.extras, also...)
}

// flags writes OBX-8: codes of table 0078 as FHIR's, any other as it came.
func (s segment) flags() [][]byte {
	var out [][]byte
	for r := range s.repetitions(8) {
		code := s.of(r, 1)
		if flags[code] {
			out = append(out, object(member{"coding", array(object(member{"system", str(flagSystem)}, member{"code", str(code)}))}))
		} else if c := s.concept(r); c != nil {
			out = append(out, c)
		}
	}
	return out
}

// asDocument returns a DocumentReference for data that came as a result, such as a report as a PDF file.
func (r *result) asDocument(encounter []byte) []byte {
	s := r.obx
	var report said
	var related []byte
	if r.report != nil {
		report = r.report.said
		related = array(reference("DiagnosticReport/" + r.report.id))
	}
	at := s.moment(s.at(14, 1))
	if at.raw == "" {
		at = report.made
	}
	title := s.at(3, 2)
	if title == "" {
		title = s.at(3, 1)
	}
	status := s.at(11, 1)
	members := []member{
		{"resourceType", str("DocumentReference")}, {"id", str(r.id)},
	}
	switch meaning := resultStatus[status]; meaning {
	case "entered-in-error":
		members = append(members, member{"status", str("entered-in-error")})
	case "final", "preliminary", "amended", "corrected":
		if meaning == "corrected" {
			meaning = "amended"
		}
		members = append(members, member{"status", str("current")}, member{"docStatus", str(meaning)})
	default:
		members = append(members, unknownCode("status", status))
	}
	var contents [][]byte
	for _, a := range s.attachments(title, at) {
		contents = append(contents, object(member{"attachment", a}))
	}
	if contents == nil {
		contents = [][]byte{object(member{"attachment", object(member{"title", str("No content was sent.")})})}
	}
	return s.complete(append(members,
		member{"type", s.concept(s.first(3))},
		member{"category", report.kind},
		member{"subject", reference(r.person.address)},
		member{"description", str(r.noteText())},
		member{"content", array(contents...)},
		member{"context", object(member{"encounter", array(encounter)}, member{"related", related})}), r.extras, 5)
}

// documentCategory marks a document that came with a report as one about results: LOINC 11502-2, laboratory report, 18748-4, diagnostic imaging
// study, by OBR-24.
func (s segment) documentCategory() []byte {
	code := map[string]string{"laboratory": "11502-2", "imaging": "18748-4"}[sections[s.at(24, 1)]]
	if code == "" {
		return nil
	}
	return array(object(member{"coding", array(object(member{"system", str("http://loinc.org")}, member{"code", str(code)}))}))
}

// specimen writes an SPM.
func (c *converter) specimen(s segment) {
	if c.report == nil {
		c.keepUnconverted(s)
		return
	}
	id := identity("SPM", c.report.id, s.raw)
	c.report.specimens = append(c.report.specimens, reference("Specimen/"+id))
	from, to := s.moment(s.text(part(s.first(17), s.component, 1))), s.moment(s.text(part(s.first(17), s.component, 2)))
	collected := date("collectedDateTime", from)
	if to.text != "" && to.text != from.text {
		collected = []member{{"collectedPeriod", object(append(date("start", from), date("end", to)...)...)}}
	}
	c.emit(s.complete(append([]member{
		{"resourceType", str("Specimen")}, {"id", str(id)},
		{"type", s.concept(s.first(4))},
		{"subject", reference(c.person.address)},
		{"collection", object(collected...)}},
		date("receivedTime", s.moment(s.at(18, 1)))...), nil), "")
}
