package hl7v2

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// decimal reports whether s is a number as JSON writes it: such a one goes into a Quantity character by character. "+5", "05", ".5" and "5."
// are numbers of HL7 and none of JSON; to write them otherwise would not be what was sent, so they are shown as text.
func decimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole, rest, dotted := strings.Cut(s, ".")
	if len(s) > 64 || !allDigits(whole) || len(whole) > 1 && whole[0] == '0' {
		return false
	}
	return !dotted || allDigits(rest)
}

// comparators of FHIR. HL7's "=" and none mean the value itself.
var comparators = map[string]bool{"<": true, "<=": true, ">=": true, ">": true}

// compared splits "<0.01" into comparator and number; ok is false if s is not exactly that. What is put together again is s.
func compared(s string) (comparator, number string, ok bool) {
	n := 0
	for n < len(s) && n < 2 && strings.IndexByte("<>=", s[n]) >= 0 {
		n++
	}
	return s[:n], s[n:], (n == 0 || comparators[s[:n]]) && decimal(s[n:])
}

// quantity writes a Quantity. unit is OBX-6 as it stood.
func (s segment) quantity(comparator, number, unit string) []byte {
	members := []member{{"value", []byte(number)}}
	if number == "" {
		members = nil
	}
	if comparators[comparator] {
		members = append(members, member{"comparator", str(comparator)})
	}
	return object(append(members, s.unit(unit)...)...)
}

// unit returns the members of a Quantity that say its unit. A UCUM code is one, beside what people call it; any other unit is text.
func (s segment) unit(raw string) []member {
	raw, _, _ = strings.Cut(raw, string(rune(s.repetition)))
	code, name, system := s.of(raw, 1), s.of(raw, 2), s.of(raw, 3)
	if systems[system] == systems["UCUM"] && code != "" && !strings.ContainsAny(code, " \t\n") {
		if name == "" {
			name = code
		}
		return []member{{"unit", str(name)}, {"system", str(systems["UCUM"])}, {"code", str(code)}}
	}
	var kept []byte
	if name != "" || system != "" {
		kept = array(extension(extOriginal, s.text(raw)))
	}
	if code == "" {
		code = name
	}
	return []member{{"extension", kept}, {"unit", str(code)}}
}

// kind is OBX-2. Data under the name of a coded element, as some send it, is data: no coding system is called Base64.
func (s segment) kind() string {
	kind := s.at(2, 1)
	if raw := s.first(5); kind == "CE" && strings.EqualFold(s.of(raw, 4), "Base64") && strings.Contains(s.of(raw, 3), "/") {
		return "ED"
	}
	return kind
}

// value returns the members that say what OBX-5 says, and whether they show a value without its unit, which an element that is no quantity has no
// place for.
func (s segment) value() (members []member, bare bool) {
	raw := s.field(5)
	switch {
	case raw == "":
		return nil, false
	case raw == null:
		return []member{{"dataAbsentReason", object(member{"text", str("The custodian sent an explicit nothing.")})}, original("valueString", raw)}, true
	}
	kind := s.kind()
	switch kind {
	case "ST", "TX", "FT", "":
		members = s.words(kind)
		return members, !measured(members)
	}
	if strings.IndexByte(raw, s.repetition) < 0 {
		members = s.one("value", kind, raw)
		return members, !measured(members)
	}
	// Several values of one OBX are components of one Observation, in order: FHIR has one value each.
	var components [][]byte
	for r := range s.repetitions(5) {
		one := s.one("value", kind, r)
		bare = bare || r != "" && !measured(one)
		components = append(components, object(append([]member{{"code", s.concept(s.first(3))}}, one...)...))
	}
	return []member{{"component", array(components...)}}, bare
}

// measured reports whether a value has a place for a unit.
func measured(members []member) bool {
	return slices.ContainsFunc(members, func(m member) bool { return m.key == "valueQuantity" || m.key == "valueRange" })
}

// words is a text value; repetitions are its lines. One that is a number, with a unit beside it, is a quantity: its characters stay, and a
// number without its unit would be a danger.
func (s segment) words(kind string) []member {
	unit := s.field(6)
	if c, n, ok := compared(s.field(5)); ok && unit != "" && unit != null && kind != "FT" {
		return []member{{"valueQuantity", s.quantity(c, n, unit)}}
	}
	var lines []string
	for r := range s.repetitions(5) {
		lines = append(lines, s.text(r))
	}
	return []member{{"valueString", str(strings.Join(lines, "\n"))}}
}

// one is one repetition of OBX-5 of a type that is no text.
func (s segment) one(key, kind, raw string) []member {
	asText := func() []member { return []member{{key + "String", str(s.text(raw))}} }
	switch kind {
	case "NM":
		if c, n, ok := compared(raw); ok {
			return []member{{key + "Quantity", s.quantity(c, n, s.field(6))}}
		}
	case "SN":
		return s.structured(key, raw)
	case "CE", "CWE", "CNE", "CF":
		return []member{{key + "CodeableConcept", s.concept(raw)}}
	case "DT", "DTM", "TS":
		if m := s.moment(part(raw, s.component, 1)); m.text != "" {
			return date(key+"DateTime", m)
		}
	case "TM":
		if t := s.text(raw); len(t) == 6 && allDigits(t) && t < "240000" && t[2:4] < "60" && t[4:] < "60" {
			return []member{{key + "Time", str(t[:2] + ":" + t[2:4] + ":" + t[4:])}}
		}
	case "DR":
		from, to := s.moment(s.whole(raw, 1)), s.moment(s.whole(raw, 2))
		if from.text != "" || to.text != "" {
			return []member{{key + "Period", object(append(date("start", from), date("end", to)...)...)}}
		}
	case "CQ":
		if q := s.whole(raw, 1); decimal(q) {
			return []member{{key + "Quantity", s.quantity("", q, strings.ReplaceAll(part(raw, s.component, 2), string(rune(s.sub)), string(rune(s.component))))}}
		}
	}
	return asText()
}

// structured is SN: comparator, number, separator, number (HL7 2.5.1 section 2.A.70). What has no FHIR form is text, put together as it reads.
func (s segment) structured(key, raw string) []member {
	comparator, a, separator, b := s.whole(raw, 1), s.whole(raw, 2), s.whole(raw, 3), s.whole(raw, 4)
	plain := comparator == "" || comparator == "="
	switch {
	case separator == "" && b == "" && decimal(a) && (plain || comparators[comparator]):
		return []member{{key + "Quantity", s.quantity(comparator, a, s.field(6))}}
	case separator == "-" && plain && decimal(a) && decimal(b) && ascending(a, b):
		return []member{{key + "Range", object(member{"low", s.quantity("", a, s.field(6))}, member{"high", s.quantity("", b, s.field(6))})}}
	case (separator == ":" || separator == "/") && plain && decimal(a) && decimal(b) && s.field(6) == "":
		// A titre 1:128 and a fraction are both a Ratio; which sign stood there is kept.
		kept := array(extension(extOriginal, s.text(raw)))
		return []member{{key + "Ratio", object(member{"extension", kept}, member{"numerator", s.quantity("", a, "")}, member{"denominator", s.quantity("", b, "")})}}
	}
	return []member{{key + "String", str(comparator + a + separator + b)}}
}

// ascending reports whether a is at most b: FHIR's Range demands it. Only the order is taken from the floats, never the value.
func ascending(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x <= y
}

// concept writes a CodeableConcept of a CE or CWE: up to two codings, and the words that people said or read.
func (s segment) concept(raw string) []byte {
	if raw == "" || raw == null {
		return nil
	}
	words := s.of(raw, 9)
	for _, c := range [...]int{2, 5, 1, 4} {
		if words == "" {
			words = s.of(raw, c)
		}
	}
	return object(member{"coding", array(s.coding(raw, 1), s.coding(raw, 4))}, member{"text", str(words)})
}

// coding writes the coding that begins at component c: code, display, system.
func (s segment) coding(raw string, c int) []byte {
	code, display, system := strings.TrimSpace(s.of(raw, c)), s.of(raw, c+1), strings.TrimSpace(s.of(raw, c+2))
	if code == "" && system == "" {
		return nil // words only: they are the text
	}
	if strings.Contains(code, "  ") || strings.ContainsAny(code, "\n\t") {
		return nil
	}
	address, known := systems[system]
	if table, is := strings.CutPrefix(system, "HL7"); !known && is && len(table) == 4 && allDigits(table) {
		address, known = "http://terminology.hl7.org/CodeSystem/v2-"+table, true
	}
	var name []byte
	if !known {
		name = array(extension(extSystem, system))
	}
	return object(member{"extension", name}, member{"system", str(address)}, member{"code", str(code)}, member{"display", str(display)})
}

// attachments writes what an OBX of type ED or RP holds (HL7 2.5.1 sections 2.A.24 and 2.A.65), one for each repetition: data, or the place where it
// is, which is shown and never asked for. What a repetition says and an attachment has no place for is kept with that one: OBX-5 is in them whole.
func (s segment) attachments(title string, made moment) [][]byte {
	var out [][]byte
	for raw := range s.repetitions(5) {
		if raw == "" || raw == null {
			continue
		}
		read := s.encapsulated
		if s.kind() == "RP" {
			read = s.pointer
		}
		out = append(out, object(append(append(read(raw), member{"title", str(title)}), date("creation", made)...)...))
	}
	return out
}

// pointer reads an RP: the place, whose it is, type, subtype.
func (s segment) pointer(raw string) []member {
	media := mime(s.of(raw, 3), s.of(raw, 4))
	return []member{{"extension", array(s.unsaid(raw, media, 3, 1))}, {"contentType", str(media)}, {"url", trimmed(s.whole(raw, 1))}}
}

// encapsulated reads an ED: whose it is, type, subtype, encoding, data.
func (s segment) encapsulated(raw string) []member {
	media := mime(s.of(raw, 2), s.of(raw, 3))
	data := part(raw, s.component, 5)
	bare := strings.Map(func(r rune) rune { // lines of base64 are broken anywhere: white space is no part of it
		if r == ' ' || r == '\n' || r == '\t' {
			return -1
		}
		return r
	}, s.text(data))
	var held, other []byte
	encoding := s.of(raw, 4)
	switch {
	case strings.EqualFold(encoding, "Base64") && isBase64(bare):
		held = str(bare)
	case (encoding == "" || encoding == "A") && data != "":
		held = str(base64.StdEncoding.EncodeToString([]byte(s.text(data))))
	case data != "": // an encoding that is not known, or that the data does not keep to: kept as it came
		other = extension(extOriginal, encoding+": "+s.shown(data))
	}
	var said []int
	if held != nil || other != nil {
		said = append(said, 5)
		if encoding == s.whole(raw, 4) {
			said = append(said, 4)
		}
	}
	return []member{{"extension", array(other, s.unsaid(raw, media, 2, said...))}, {"contentType", str(media)}, {"data", held}}
}

// unsaid keeps the components of a repetition but those of which its attachment says everything: said, and, from kind on, a type and a subtype that
// stand in the media type as they are. "AP^PDF" is more than "application/pdf", and a type for which there is no media type is not said at all.
func (s segment) unsaid(raw, media string, kind int, said ...int) []byte {
	const most = 8 // an ED has five, an RP four: the last piece may hold further ones
	pieces := strings.SplitN(raw, string(rune(s.component)), most)
	named := strings.Trim(s.whole(raw, kind)+"/"+s.whole(raw, kind+1), "/")
	if named == "" || strings.EqualFold(named, media) {
		said = append(said, kind, kind+1)
	}
	for _, n := range said {
		if n <= len(pieces) {
			pieces[n-1] = ""
		}
	}
	return extension(extOriginal, s.shown(strings.TrimRight(strings.Join(pieces, string(rune(s.component))), string(rune(s.component)))))
}

// isBase64 reports whether s is base64 without white space, as FHIR wants it. Decoding would need memory for nothing.
func isBase64(s string) bool {
	body := strings.TrimRight(s, "=")
	if s == "" || len(s)%4 != 0 || len(s)-len(body) > 2 {
		return false
	}
	for i := range len(body) {
		c := body[i]
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/') {
			return false
		}
	}
	return true
}

// mime makes a media type of a type of data (HL7 table 0191) and a subtype (table 0291), "" where they do not say.
func mime(kind, subtype string) string {
	if strings.Contains(subtype, "/") { // as some send it
		return strings.ToLower(subtype)
	}
	if strings.Contains(kind, "/") {
		return strings.ToLower(kind)
	}
	switch strings.ToUpper(subtype) {
	case "PDF":
		return "application/pdf"
	case "RTF":
		return "application/rtf"
	case "HTML":
		return "text/html"
	case "XML":
		return "application/xml"
	case "JPEG", "JPG":
		return "image/jpeg"
	case "PNG", "GIF", "TIFF":
		return "image/" + strings.ToLower(subtype)
	case "TXT", "PLAIN":
		return "text/plain"
	}
	return ""
}
