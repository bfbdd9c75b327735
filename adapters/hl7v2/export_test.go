package hl7v2

import (
	"context"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Convert reads one message that is no answer to a query, such as a published sample, and returns its resources as a JSON array, the Patient
// first, and how many segments were not converted, by name. Whose message it is is not asked.
func Convert(text []byte, unstated string, number record.NHSNumber) ([]byte, map[string]int, error) {
	m, err := parse(text, unstated)
	if err != nil {
		return nil, nil, err
	}
	c := &converter{subject: record.Subject{Number: number}, hold: func(int, int) error { return nil }, caps: caps{1 << 20, 8 << 20, 4 << 20}, out: []byte{'['}, others: map[string]bool{}, hung: map[string]bool{}, unconverted: map[string]int{}}
	for s, ok := range m.segments() {
		if !ok {
			return nil, nil, errSegment
		}
		if err := c.read(s); err != nil {
			return nil, nil, err
		}
	}
	if err := c.end(); err != nil {
		return nil, nil, err
	}
	for _, v := range fullest(c.visits) {
		c.emit(v.write(), "")
	}
	if len(c.people) > 0 {
		patient, err := onePatient(context.Background(), c.people, c.caps.resourceBytes)
		if err != nil {
			return nil, nil, err
		}
		c.emit(patient, subjectURL)
	}
	if len(c.out) == 1 {
		return []byte("[]"), c.unconverted, nil
	}
	c.out[len(c.out)-1] = ']'
	return c.out, c.unconverted, nil
}

type constant string

func (c constant) Error() string { return string(c) }

const errSegment = constant("a line is no segment")

// ReadTime shows a moment.
func ReadTime(raw string) (text string, exact bool) {
	m := readTime(raw, "")
	return m.text, m.exact
}

// Unescape reads one field of a message in UTF-8 with the usual separators.
func Unescape(field string) string {
	m, err := parse([]byte(`MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5||||||UNICODE UTF-8`+"\r"), "")
	if err != nil {
		return "(" + err.Error() + ")"
	}
	s, _ := m.segment("OBX|" + field)
	return s.text(s.field(1))
}

// Decode reads bytes of a message that names its character set.
func Decode(set string, b []byte) (string, error) {
	text := append([]byte(`MSH|^~\&|A|B|C|D|20260101||ORU^R01|1|P|2.5||||||`+set+"\rZZZ|"), b...)
	m, err := parse(text, "ASCII")
	if err != nil {
		return "", err
	}
	_, after, _ := strings.Cut(m.text, "\rZZZ|")
	return after, nil
}

// ReadBlock reads one block of the lower layer.
func ReadBlock(text string) (string, error) {
	b, _, err := readBlock(context.Background(), strings.NewReader(text), wire.NewBudget(1<<20, 100, nil))
	return string(b), err
}

// Tables are those of codes.go that map a code of HL7 to one of FHIR.
var Tables = map[string]map[string]string{"0085": resultStatus, "0123": reportStatus, "0001": genders, "0004": classes, "0273": availability, "0271": completion,
	"0272": confidentiality, "0074": sections}

// Compared returns how many bytes are compared while the pieces of a field are looked for in values that are put together of them.
func Compared(field string, values ...string) int {
	s := segment{marks: marks{'|', '^', '~', '\\', '&'}}
	pieces, all := s.pieces(field)
	if !all {
		return 0
	}
	l := look{s, pieces, mostCompared(field)}
	before := l.left
	for _, v := range values {
		l.madeOf(v)
	}
	return before - l.left
}
