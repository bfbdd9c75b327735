package hl7v2

import (
	"encoding/hex"
	"iter"
	"strings"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/text/encoding/charmap"

	"github.com/mycarerecord/mycarerecord/broker"
)

// message is one HL7 v2 message, decoded to UTF-8 and otherwise as it came. Nothing of it is split or unescaped before it is asked for.
type message struct {
	text string // from MSH on
	set  charset
	zone string // of times that state none, where it may be another than London's
	marks
}

// marks are the separators of MSH-1 and MSH-2 (HL7 2.5.1 section 2.5.4).
type marks struct{ field, component, repetition, escape, sub byte }

// segment is one segment: fields[n] is field n as it stands, fields[0] the name. For MSH, whose first field is the separator itself, fields[1]
// is that separator.
type segment struct {
	fields []string
	raw    string
	marks
	set  charset
	zone string
}

// maxFields caps the fields of a segment: the longest of the standard, PV1 and OBR among them, have about fifty. maxRepetitions caps how often its
// fields repeat, all together: a few bytes would become a few hundred of JSON.
const (
	maxFields      = 512
	maxRepetitions = 10_000
)

// parse reads the header of a message and decodes its text. unstated is the character set where MSH-18 names none. The error is ErrMalformed.
func parse(b []byte, unstated string) (*message, error) {
	marked := false
	if rest, is := strings.CutPrefix(string(b[:min(3, len(b))]), "\xef\xbb\xbf"); is && rest == "" {
		b, marked = b[3:], true
	}
	if len(b) < 9 || string(b[:3]) != "MSH" {
		return nil, broker.ErrMalformed
	}
	m := &message{marks: marks{b[3], b[4], b[5], b[6], b[7]}}
	// MSH-2 has four characters, or with version 2.7 a fifth, the truncation mark, which nothing here is cut by.
	if m.field != b[8] && (len(b) < 10 || m.field != b[9]) || !m.distinct() {
		return nil, broker.ErrMalformed
	}
	head := b
	if i := strings.IndexAny(string(b[:min(len(b), 4<<10)]), "\r\n"); i >= 0 {
		head = b[:i]
	}
	stated := ""
	f := strings.SplitN(string(head), string(rune(m.field)), 19) // MSH-n is f[n-1]: the first separator is MSH-1
	if len(f) > 17 {
		stated, _, _ = strings.Cut(f[17], string(rune(m.repetition)))
	}
	if len(f) > 6 {
		m.zone = foreign(part(f[6], m.component, 1))
	}
	switch {
	case stated == "" && marked:
		stated = "UNICODE UTF-8"
	case stated == "":
		stated = unstated
	}
	set, known := charsets[strings.ToUpper(strings.TrimSpace(stated))]
	if !known {
		return nil, broker.ErrMalformed
	}
	m.set = set
	text, ok := set.decode(b)
	if !ok {
		return nil, broker.ErrMalformed
	}
	m.text = text
	return m, nil
}

// distinct reports whether the separators can be told apart from each other and from text.
func (m marks) distinct() bool {
	all := [...]byte{m.field, m.component, m.repetition, m.escape, m.sub}
	for i, c := range all {
		if c <= ' ' || c >= 0x7f || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte(string(all[:i]), c) >= 0 {
			return false
		}
	}
	return true
}

// segments yields the segments in order; ok is false, and nothing follows, at a line that is none. Lines end with CR, LF or both; empty lines
// are passed over.
func (m *message) segments() iter.Seq2[segment, bool] {
	return func(yield func(segment, bool) bool) {
		rest := m.text
		for rest != "" {
			line := rest
			if i := strings.IndexAny(rest, "\r\n"); i >= 0 {
				line, rest = rest[:i], rest[i+1:]
			} else {
				rest = ""
			}
			if line == "" {
				continue
			}
			s, ok := m.segment(line)
			if !yield(s, ok) || !ok {
				return
			}
		}
	}
}

// segment splits a line into fields.
func (m *message) segment(line string) (segment, bool) {
	if len(line) < 3 || !upper(line[0]) || !upperOrDigit(line[1]) || !upperOrDigit(line[2]) || len(line) > 3 && line[3] != m.field && strings.TrimSpace(line[3:]) != "" {
		return segment{}, false
	}
	n := strings.Count(line, string(rune(m.field))) + 1
	if n > maxFields || strings.Count(line, string(rune(m.repetition))) > maxRepetitions {
		return segment{}, false
	}
	s := segment{fields: make([]string, 0, n+1), raw: line, marks: m.marks, set: m.set, zone: m.zone}
	for f := range strings.SplitSeq(line, string(rune(m.field))) {
		s.fields = append(s.fields, f)
		if len(s.fields) == 1 && f == "MSH" {
			s.fields = append(s.fields, string(rune(m.field)))
		}
	}
	s.fields[0] = line[:3]
	return s, true
}

func upper(c byte) bool        { return c >= 'A' && c <= 'Z' }
func upperOrDigit(c byte) bool { return upper(c) || c >= '0' && c <= '9' }

// name returns the segment's three letters.
func (s segment) name() string {
	if len(s.fields) == 0 {
		return ""
	}
	return s.fields[0]
}

// null is HL7's explicit nothing: two quotation marks (HL7 2.5.1 section 2.5.3).
const null = `""`

// field returns field n as it stands, "" where there is none.
func (s segment) field(n int) string {
	if n >= len(s.fields) {
		return ""
	}
	return s.fields[n]
}

// at returns component c of the first repetition of field n, unescaped; "" for none and for null.
func (s segment) at(n, c int) string { return s.text(part(s.first(n), s.component, c)) }

// first returns the first repetition of field n as it stands.
func (s segment) first(n int) string {
	f, _, _ := strings.Cut(s.field(n), string(rune(s.repetition)))
	return f
}

// repetitions yields the repetitions of field n as they stand, none for an empty field.
func (s segment) repetitions(n int) iter.Seq[string] {
	return func(yield func(string) bool) {
		f := s.field(n)
		if f == "" || f == null {
			return
		}
		strings.SplitSeq(f, string(rune(s.repetition)))(yield)
	}
}

// of returns component c of a repetition, its first subcomponent, unescaped.
func (s segment) of(repetition string, c int) string {
	return s.text(part(part(repetition, s.component, c), s.sub, 1))
}

// whole returns component c of a repetition with its subcomponents, unescaped.
func (s segment) whole(repetition string, c int) string {
	return s.text(part(repetition, s.component, c))
}

// part returns piece n, counted from 1, of what sep separates.
func part(text string, sep byte, n int) string {
	for ; n > 1; n-- {
		i := strings.IndexByte(text, sep)
		if i < 0 {
			return ""
		}
		text = text[i+1:]
	}
	if i := strings.IndexByte(text, sep); i >= 0 {
		text = text[:i]
	}
	return text
}

// text unescapes (HL7 2.5.1 section 2.7). Sequences that mean no character, such as highlighting and local ones, stay as they came, and so
// does one that is not closed. Control characters, which FHIR strings must not hold, are shown as the sequence that stands for them.
func (s segment) text(raw string) string {
	if raw == null {
		return ""
	}
	if strings.IndexByte(raw, s.escape) < 0 && !hasControl(raw) {
		return raw
	}
	var b strings.Builder
	for raw != "" {
		i := strings.IndexByte(raw, s.escape)
		if i < 0 {
			s.plain(&b, raw)
			break
		}
		s.plain(&b, raw[:i])
		raw = raw[i+1:]
		end := strings.IndexByte(raw, s.escape)
		if end < 0 {
			b.WriteByte(s.escape)
			s.plain(&b, raw)
			break
		}
		if !s.sequence(&b, raw[:end]) {
			// Not a sequence of ours: what closed it may open the next one.
			b.WriteByte(s.escape)
			s.plain(&b, raw[:end])
			if known := wordOrDot(raw[:end]); known {
				b.WriteByte(s.escape)
			} else {
				raw = raw[end:]
				continue
			}
		}
		raw = raw[end+1:]
	}
	return b.String()
}

// wordOrDot reports whether what stands between two escape characters looks like a sequence: a letter or a dot, and a few more of the kind.
func wordOrDot(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(upperOrDigit(c) || c >= 'a' && c <= 'z' || strings.IndexByte(".+-", c) >= 0) {
			return false
		}
	}
	return upper(s[0]) || s[0] == '.'
}

func (s segment) sequence(b *strings.Builder, seq string) bool {
	switch seq {
	case "F":
		b.WriteByte(s.field1())
	case "S":
		b.WriteByte(s.component)
	case "T":
		b.WriteByte(s.sub)
	case "R":
		b.WriteByte(s.repetition)
	case "E":
		b.WriteByte(s.escape)
	case ".br":
		b.WriteByte('\n')
	default:
		if len(seq) < 3 || seq[0] != 'X' {
			return false
		}
		bytes, err := hex.DecodeString(seq[1:])
		if err != nil {
			return false
		}
		text, ok := s.set.decode(bytes)
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
		if !ok || hasControl(text) {
			return false
		}
		b.WriteString(text)
	}
	return true
}

func (s segment) field1() byte { return s.marks.field }

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\n' && s[i] != '\t' {
			return true
		}
	}
	return false
}

// plain writes text with control characters made visible.
func (s segment) plain(b *strings.Builder, text string) {
	if !hasControl(text) {
		b.WriteString(text)
		return
	}
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\n' && c != '\t' {
			b.Write([]byte{s.escape, 'X', digits[c>>4], digits[c&15], s.escape})
		} else {
			b.WriteByte(c)
		}
	}
}

// charset turns bytes into text.
type charset struct {
	single *charmap.Charmap // nil for ASCII and UTF-8
	high   bool             // bytes from 0x80 on may occur
}

// charsets are the sets of HL7 table 0211 that custodians here use, and windows-1252, which has no name there and is met all the same. Any
// other is refused: a name read in the wrong set is a wrong name.
var charsets = map[string]charset{
	"ASCII": {}, "8859/1": {charmap.ISO8859_1, true}, "8859/15": {charmap.ISO8859_15, true},
	"WINDOWS-1252": {charmap.Windows1252, true}, "CP1252": {charmap.Windows1252, true},
	"UNICODE UTF-8": {nil, true}, "UTF-8": {nil, true},
}

// decode reports false for bytes that the set does not have: what calls itself ASCII and is not, what is not UTF-8, and control characters of
// the upper half, which no clinician types and which show that the set is another one.
func (c charset) decode(b []byte) (string, bool) {
	if c.single == nil {
		if !c.high {
			for _, x := range b {
				if x >= utf8.RuneSelf {
					return "", false
				}
			}
			return view(b), true
		}
		return view(b), utf8.Valid(b)
	}
	plain := true
	for _, x := range b {
		plain = plain && x < utf8.RuneSelf
	}
	if plain {
		return view(b), true
	}
	var out strings.Builder
	out.Grow(len(b) + len(b)/8)
	for _, x := range b {
		r := c.single.DecodeByte(x)
		if r == utf8.RuneError || r >= 0x80 && r < 0xa0 {
			return "", false
		}
		out.WriteRune(r)
	}
	return out.String(), true
}

// view is b as a string without a copy: a message may take much of the room there is. It is sound because what was read never changes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } //nolint:gosec // see above
