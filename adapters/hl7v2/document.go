package hl7v2

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// document is a TXA, and what is about it.
type document struct {
	about
	txa       segment
	person    *person
	encounter []byte
	related   string // id of the report that it is about
	id        string
	made      moment
	text      []string // lines of its text
	contents  [][]byte
	said      map[string]bool // of its OBX, beside what they hold
}

func (c *converter) openDocument(s segment) {
	d := &document{txa: s, person: c.person, encounter: c.encounter(), made: s.moment(s.at(6, 1)), said: map[string]bool{}}
	if number := s.first(12); number != "" && number != null {
		d.id = identity("TXA", c.person.seed, number)
	} else {
		d.id = identity("TXA", c.person.seed, s.raw)
	}
	if c.report != nil {
		// An OBR before a TXA names the order that the document is about; what follows belongs to the document.
		d.related = c.report.id
		c.closeReport()
	}
	for _, o := range c.order {
		d.keep(o)
	}
	c.order = nil
	c.document = d
}

// takes reports whether an OBX is content of the document. One that is marked as wrong, deleted or the like stands for itself, with its status.
func (d *document) takes(s segment) bool {
	switch s.kind() {
	case "ED", "RP", "TX", "FT", "ST":
	default:
		return false
	}
	switch s.at(11, 1) {
	case "", "A", "C", "F", "P", "R", "S", "U":
		return true
	}
	return false
}

// read takes an OBX as content: text as lines of one text, data and pointers as they are.
func (d *document) read(s segment) {
	for n := 3; n < len(s.fields); n++ { // what its segments say beside the content, each once
		f := s.fields[n]
		if x := s.name() + "-" + strconv.Itoa(n) + ": " + s.shown(f); f != "" && f != null && n != 5 && !(n == 11 && f == "F") && !d.said[x] {
			d.said[x] = true
			d.about.add(extension(extField, x))
		}
	}
	title := s.at(3, 2)
	switch s.kind() {
	case "ED", "RP":
		for _, a := range s.attachments(title, d.made) {
			d.contents = append(d.contents, object(member{"attachment", a}))
			d.size += len(a)
		}
		return
	}
	d.size += len(s.field(5)) + 16
	if s.field(5) == "" {
		d.text = append(d.text, "")
	}
	for r := range s.repetitions(5) {
		d.text = append(d.text, s.text(r))
	}
}

func (c *converter) closeDocument() {
	c.closeResult()
	d := c.document
	c.document = nil
	if d != nil {
		c.emit(d.write(), "")
	}
}

// write returns the DocumentReference.
func (d *document) write() []byte {
	s := d.txa
	kind := s.concept(s.first(2))
	if code := s.at(2, 1); code != "" && s.at(2, 2) == "" && !strings.ContainsAny(code, " \t\n") {
		kind = object(member{"coding", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/v2-0270")}, member{"code", str(code)}))}, member{"text", str(code)})
	}
	contents := d.contents
	if len(d.text) > 0 {
		text := strings.Join(d.text, "\n")
		contents = append([][]byte{object(member{"attachment", object(append([]member{
			{"contentType", str("text/plain; charset=utf-8")},
			{"data", str(base64.StdEncoding.EncodeToString([]byte(text)))},
			{"title", str(s.at(16, 1))}}, date("creation", d.made)...)...)})}, contents...)
	}
	if len(contents) == 0 {
		contents = [][]byte{object(member{"attachment", object(append([]member{{"title", str("No content was sent.")}}, date("creation", d.made)...)...)})}
	}
	members := []member{
		{"resourceType", str("DocumentReference")}, {"id", str(d.id)},
		{"masterIdentifier", s.entity(s.first(12), "")},
	}
	switch code := s.at(19, 1); {
	case availability[code] != "":
		members = append(members, member{"status", str(availability[code])})
	case code == "": // held, and nothing said against it
		members = append(members, member{"status", str("current")})
	default:
		members = append(members, unknownCode("status", code))
	}
	if code := s.at(17, 1); code != "" {
		if meaning, known := completion[code]; known {
			members = append(members, member{"docStatus", str(meaning)})
		} else {
			members = append(members, original("docStatus", code))
		}
	}
	var authors [][]byte
	for _, n := range [...]int{9, 5} {
		for x := range s.repetitions(n) {
			authors = append(authors, s.professional(x))
		}
	}
	var authenticator, label, related []byte
	for x := range s.repetitions(10) {
		if authenticator == nil {
			authenticator = s.professional(x)
		}
	}
	if code := s.at(18, 1); code != "" {
		if level, known := confidentiality[code]; known {
			label = array(object(member{"coding", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/v3-Confidentiality")}, member{"code", str(level)}))}))
		} else {
			label = array(s.concept(s.first(18)))
		}
	}
	if d.related != "" {
		related = array(reference("DiagnosticReport/" + d.related))
	}
	activity := s.moment(s.at(4, 1))
	return s.complete(append(members,
		member{"type", kind},
		member{"subject", reference(d.person.address)},
		member{"author", array(authors...)},
		member{"authenticator", authenticator},
		member{"securityLabel", label},
		member{"content", array(contents...)},
		member{"context", object(member{"encounter", array(d.encounter)}, member{"period", object(date("start", activity)...)}, member{"related", related})}), d.extras)
}
