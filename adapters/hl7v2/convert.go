package hl7v2

import (
	"slices"
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// conversions says what was converted, for Provenance.
var conversions = []string{"HL7 v2 to FHIR R4"}

// converter turns the segments of one query's answers into resources. Segments are read in order, as the standard's groups have them: PID opens a
// person, PV1 a visit of theirs, OBR a report, TXA a document, OBX a result of what is open. A resource is written when the next one opens, because
// notes and further segments about it come after it.
type converter struct {
	subject  record.Subject
	category string // of results whose report states no section
	// authorities are those of NHS numbers beside the usual ones.
	authorities map[string]bool
	// hold counts bytes and resources that are about to be kept.
	hold func(bytes, resources int) error
	caps caps

	out         []byte // resources, with a comma after each
	urls        []string
	people      []*person       // whose number is the one asked
	hung        map[string]bool // on them
	hanging     int             // how much that is
	visits      []*visit
	others      map[string]bool // strangers that were written
	unconverted map[string]int  // segments by name
	pids        int             // seen
	hits        int             // in the answers so far, as they say themselves, -1 where one does not
	truncated   string          // the query of which more was promised than came

	event    segment // EVN of the group
	trigger  string
	early    []segment // that came before the person
	person   *person
	visit    *visit
	order    []segment // ORC and what follows it until OBR
	report   *report
	result   *result
	document *document
	err      error
}

// caps are those of R-7 that are kept while a resource is still open: what is small in a message may be large in JSON.
type caps struct{ resources, resourceBytes, stringBytes int }

// about is what every resource here has.
type about struct {
	extras [][]byte // extensions: what was not converted
	notes  []string
	size   int // of both, about
}

func (a *about) keep(s segment) { a.add(extension(extSegment, s.shown(s.raw))) }

func (a *about) add(extras ...[]byte) {
	for _, x := range extras {
		a.extras = append(a.extras, x)
		a.size += len(x) + 1
	}
}

// note takes NTE-3 as lines of a note.
func (a *about) note(s segment) {
	var lines []string
	for r := range s.repetitions(3) {
		lines = append(lines, s.text(r))
	}
	text := strings.Join(lines, "\n") // an empty NTE is an empty line
	a.notes = append(a.notes, text)
	a.size += len(text) + 16
	a.add(s.rest([]member{{"text", str(text)}})...)
}

func (a *about) noteText() string { return strings.TrimRight(strings.Join(a.notes, "\n"), "\n ") }

// shown is text as it came, with control characters made visible.
func (s segment) shown(raw string) string {
	if !hasControl(raw) {
		return raw
	}
	var b strings.Builder
	s.plain(&b, raw)
	return b.String()
}

// usages says, for every segment that is converted, which members its fields become: those whose names begin so. A field without a member is one whose
// code may have become one of FHIR's, and what the tables do not have is kept where it is used.
var usages = map[string]map[int][]string{
	"PID": {1: nil, 3: {"identifier"}, 5: {"name"}, 7: {"birthDate"}, 8: nil, 11: {"address"}, 13: {"telecom"}, 14: {"telecom"}, 16: {"maritalStatus"}, 29: {"deceased"}, 30: nil},
	"PD1": {3: {"generalPractitioner"}, 4: {"generalPractitioner"}},
	"NK1": {1: nil, 2: {"name"}, 3: {"relationship"}, 4: {"address"}, 5: {"telecom"}},
	"PV1": {1: nil, 2: nil, 3: {"location"}, 7: {"participant"}, 8: {"participant"}, 9: {"participant"}, 10: {"serviceType"}, 17: {"participant"},
		19: {"identifier"}, 36: {"hospitalization"}, 44: {"period"}, 45: {"period"}},
	"PV2": {3: {"reasonCode"}},
	"OBR": {1: nil, 2: {"identifier"}, 3: {"identifier"}, 4: {"code"}, 7: {"effective"}, 8: {"effective"}, 22: {"issued"}, 24: nil, 25: nil, 32: {"resultsInterpreter"}},
	"OBX": {1: nil, 2: nil, 3: {"code", "type"}, 5: {"value", "component", "dataAbsentReason"}, 6: {"value", "component"}, 7: {"referenceRange"}, 8: {"interpretation"}, 11: nil,
		14: {"effective", "content"}, 16: {"performer"}, 17: {"method"}, 19: {"issued"}, 23: {"performer"}},
	"SPM": {1: nil, 4: {"type"}, 17: {"collection"}, 18: {"receivedTime"}},
	"TXA": {1: nil, 2: {"type"}, 4: {"context"}, 5: {"author"}, 6: {"content"}, 9: {"author"}, 10: {"authenticator"}, 12: {"masterIdentifier"}, 16: {"content"},
		17: nil, 18: nil, 19: nil},
	"NTE": {1: nil, 3: {"text"}},
	"AL1": {1: nil, 3: {"code"}, 5: {"reaction"}, 6: {"recordedDate"}},
	"DG1": {1: nil, 3: {"code"}, 4: {"code"}, 5: {"recordedDate"}, 16: {"asserter"}, 18: nil, 20: {"identifier"}},
	"PR1": {1: nil, 3: {"code"}, 4: {"code"}, 5: {"performed"}, 11: {"performer"}, 12: {"performer"}},
}

// rest are the fields, as extensions, that members say nothing or not all of: those that were not converted, and those that hold a piece for which
// FHIR has no place. So nothing of a message is lost, whatever a sender puts where. also are fields that are said elsewhere, or whose code became one
// of FHIR's.
func (s segment) rest(members []member, also ...int) [][]byte {
	uses := usages[s.name()]
	var out [][]byte
	for n := 1; n < len(s.fields); n++ {
		f := s.fields[n]
		names, used := uses[n]
		if f == "" || f == null || slices.Contains(also, n) || used && (names == nil || s.holds(members, names, f)) {
			continue
		}
		out = append(out, extension(extField, s.name()+"-"+strconv.Itoa(n)+": "+s.shown(f)))
	}
	return out
}

// complete writes a resource of a segment with all that it has no place for.
func (s segment) complete(members []member, extras [][]byte, also ...int) []byte {
	made := object(members...)
	kept := array(append(s.rest(members, also...), extras...)...)
	if kept == nil {
		return made
	}
	return append(append(append(made[:len(made)-1], `,"extension":`...), kept...), '}')
}

// read takes one segment.
func (c *converter) read(s segment) error {
	for _, f := range s.fields {
		if len(f) > c.caps.stringBytes {
			return broker.ErrTooMuch
		}
	}
	c.take(s)
	c.keepCaps()
	return c.err
}

// keepCaps stops at the caps of R-7 before more is gathered than may be written.
func (c *converter) keepCaps() {
	size := 0
	if p := c.person; p != nil {
		size = p.size
	}
	if v := c.visit; v != nil {
		size = max(size, v.size)
	}
	if r := c.report; r != nil {
		size = max(size, r.size)
	}
	if r := c.result; r != nil {
		size = max(size, r.size)
	}
	if d := c.document; d != nil {
		size = max(size, d.size)
	}
	if size > c.caps.resourceBytes || len(c.people) > c.caps.resources || len(c.visits) > c.caps.resources || len(c.order) > maxOrder {
		c.fail(broker.ErrTooMuch)
	}
}

// maxOrder caps the segments between an ORC and its OBR.
const maxOrder = 256

// take takes one segment.
func (c *converter) take(s segment) {
	switch name := s.name(); name {
	case "MSH":
		c.trigger = s.at(9, 2)
	case "EVN":
		c.closeAll()
		c.dropEvent()
		c.event = s
	case "PID":
		c.closeAll()
		c.pids++
		c.person = c.identify(s)
		early := c.early
		c.early = nil
		for _, e := range early {
			c.aside(e)
		}
	case "PV1":
		c.closeOrder()
		c.closeVisit()
		if c.known() {
			c.openVisit(s)
		}
	case "ORC":
		c.closeOrder()
		if c.person == nil { // whose order it is, is not known yet
			c.aside(s)
			return
		}
		c.order = []segment{s}
	case "OBR":
		c.closeDocument()
		c.closeReport()
		if c.known() {
			c.openReport(s)
		}
	case "TXA":
		c.closeDocument()
		c.closeResult()
		if c.known() {
			c.openDocument(s)
		}
	case "OBX":
		c.closeResult()
		if c.known() {
			c.openResult(s)
		}
	case "SPM":
		c.closeResult()
		if c.known() {
			c.specimen(s)
		}
	case "AL1", "DG1", "PR1":
		if c.known() {
			c.statement(s)
		}
	default:
		c.aside(s)
	}
}

// aside takes a segment that makes no resource of the five kinds. In some messages, about referrals and appointments, such come before the person
// whose they are.
func (c *converter) aside(s segment) {
	how := treatmentOf(s.name())
	switch {
	case how == wrapping || how == financial:
	case c.person == nil && len(c.early) < maxEarly:
		c.early = append(c.early, s)
	case c.person == nil:
		c.fail(broker.ErrMalformed)
	case s.name() == "NTE":
		c.noteOn(s)
	case how == attached:
		c.attach(s)
	default:
		c.keepUnconverted(s)
	}
}

// maxEarly caps the segments that may come before a PID.
const maxEarly = 64

// known reports whether a person is open. What belongs to nobody cannot be read.
func (c *converter) known() bool {
	if c.person == nil {
		c.fail(broker.ErrMalformed)
	}
	return c.person != nil
}

func (c *converter) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// end writes what is open.
func (c *converter) end() error {
	c.closeAll()
	c.dropEvent()
	c.trigger = ""
	if len(c.early) > 0 {
		c.fail(broker.ErrMalformed) // nobody's
	}
	return c.err
}

func (c *converter) closeAll() {
	c.closeOrder()
	c.closeVisit()
	if c.person != nil {
		c.dropEvent()
	}
	c.closePerson()
}

// dropEvent keeps an EVN that no visit followed with the person who did, or with the one who will.
func (c *converter) dropEvent() {
	if s := c.event; s.name() != "" {
		c.event = segment{}
		c.aside(s)
	}
}

// closeOrder ends a report or document with all that belongs to it, and an order that no report followed.
func (c *converter) closeOrder() {
	c.closeReport()
	c.closeDocument()
	for _, s := range c.order {
		c.person.keep(s)
	}
	c.order = nil
}

// emit writes a resource.
func (c *converter) emit(resource []byte, url string) {
	if c.err != nil {
		return
	}
	if err := c.hold(len(resource), 1); err != nil {
		c.fail(err)
		return
	}
	c.out = append(append(c.out, resource...), ',')
	c.urls = append(c.urls, url)
}

// reserve counts what is kept until the whole reply is known. It is counted once more when it is written, and both are in memory then.
func (c *converter) reserve(size int) {
	if err := c.hold(size, 0); err != nil {
		c.fail(err)
	}
}

// noteOn gives a note to what it follows.
func (c *converter) noteOn(s segment) {
	switch {
	case c.result != nil:
		c.result.note(s)
	case c.document != nil:
		c.document.keep(s)
	case c.report != nil:
		c.report.note(s)
	case len(c.order) > 0:
		c.order = append(c.order, s)
	case c.visit != nil:
		c.visit.keep(s)
	default:
		c.person.keep(s)
	}
}

// attach keeps a segment with what it follows.
func (c *converter) attach(s segment) {
	switch name := s.name(); {
	case name == "NK1" || name == "PD1":
		c.person.more(s)
	case name == "PV2" && c.visit != nil && c.visit.pv2.raw == "":
		c.visit.more(s)
	case c.result != nil:
		c.result.keep(s)
	case c.document != nil:
		c.document.keep(s)
	case c.report != nil:
		c.report.keep(s)
	case len(c.order) > 0:
		c.order = append(c.order, s)
	case c.visit != nil:
		c.visit.keep(s)
	default:
		c.person.keep(s)
	}
}

// keepUnconverted keeps a segment that may be a clinical statement: whole, in a resource that says that it was not converted.
func (c *converter) keepUnconverted(s segment) {
	c.closeResult()
	c.unconverted[s.name()]++
	c.emit(object(
		member{"resourceType", str("Basic")},
		member{"id", str(identity(s.name(), c.person.seed, s.raw))},
		member{"extension", array(extension(extSegment, s.shown(s.raw)))},
		member{"code", object(member{"text", str("HL7 v2 segment " + s.name() + ", not converted")})},
		member{"subject", reference(c.person.address)},
	), "")
}
