package hl7v2

import (
	"iter"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// What of a field stands in a resource is looked for in the members that are made of it, among their values: in all of the JSON a "g" would be found in
// the name of any element, and an "M" that says what an address is for in the code that says who is married.

// maxPieces caps the pieces of a field that are looked for, and maxSaid the values among which they are: a field with more is kept whole.
const (
	maxPieces = 256
	maxSaid   = 1024
)

// holds reports whether every piece of a field stands in the members of those names: as a value, as a part of a value that is put together of nothing
// but pieces of the field, or as FHIR writes a time.
func (s segment) holds(members []member, names []string, field string) bool {
	pieces, all := s.pieces(field)
	if !all {
		return false
	}
	said := saidBy(members, names)
	if len(said) > maxSaid {
		return false
	}
	found := make([]bool, len(pieces))
	for _, v := range said {
		if i, is := slices.BinarySearch(pieces, v); is {
			found[i] = true
		}
	}
	if !slices.Contains(found, false) {
		return true
	}
	l := look{s, pieces, mostCompared(field)}
	for _, v := range said {
		for _, i := range l.madeOf(v) {
			found[i] = true
		}
	}
	for i, p := range pieces {
		if found[i] {
			continue
		}
		m := s.moment(p)
		if l.left -= len(said); l.left < 0 || !m.exact || !slices.Contains(said, m.text) {
			return false
		}
	}
	return true
}

// look is a search for pieces, in order, in values that are put together of them.
type look struct {
	segment
	pieces []string
	left   int // bytes that may still be compared
}

// mostCompared bounds the bytes that are compared for a field by its length, so that the work of a message grows no faster than the message. A field on
// which more would have to be spent is kept whole.
func mostCompared(field string) int { return 16<<10 + 16*len(field) }

// pieces returns what stands between the separators of a field, as JSON writes it, in order and each once; all is false if there is more of the field
// than maxPieces, empty ones among them.
func (s segment) pieces(field string) (out []string, all bool) {
	for n := 0; field != ""; n++ {
		if n == maxPieces {
			return nil, false
		}
		end := strings.IndexFunc(field, s.separates)
		if end < 0 {
			end = len(field)
		}
		if piece := strings.TrimSpace(s.text(field[:end])); piece != "" {
			out = append(out, quoted(piece))
		}
		field = field[min(end+1, len(field)):]
	}
	slices.Sort(out)
	return slices.Compact(out), true
}

func (s segment) separates(r rune) bool {
	return r == rune(s.component) || r == rune(s.repetition) || r == rune(s.sub)
}

// quoted is a text as it stands between the quotation marks of JSON.
func quoted(text string) string {
	q := fhirjson.Quote(text)
	return view(q[1 : len(q)-1])
}

// madeOf returns which of the pieces a value is put together of with spaces, commas, line ends and the separators of HL7: none if there is anything
// else in it, or more than the pieces would give, or nothing left to look with.
func (l *look) madeOf(value string) []int {
	var used []int
	for value = l.skip(value); value != ""; value = l.skip(value) {
		i := l.longest(value)
		if i < 0 || len(used) == len(l.pieces) {
			return nil
		}
		used, value = append(used, i), value[len(l.pieces[i]):]
	}
	return used
}

// longest returns the longest of the pieces with which a value begins and which ends there where a piece may end, -1 for none.
func (l *look) longest(value string) int {
	for most := value; most != "" && l.left >= 0; {
		i, is := slices.BinarySearchFunc(l.pieces, most, l.compare)
		if !is {
			i--
		}
		if i < 0 {
			return -1
		}
		// In order, whatever stands between a beginning of most and most itself begins with it too: no piece that is wanted is longer than n.
		n := l.common(l.pieces[i], most)
		if n < len(l.pieces[i]) {
			most = most[:n]
			continue
		}
		if rest := value[n:]; rest == "" || l.skip(rest) != rest {
			return i
		}
		most = most[:n-1]
	}
	return -1
}

// compare puts two texts in order.
func (l *look) compare(a, b string) int {
	n := l.common(a, b)
	return strings.Compare(a[n:], b[n:])
}

// common returns how many bytes two texts have in common at their beginning: as many as it looks at, and one more, are counted.
func (l *look) common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	l.left -= n + 1
	return n
}

// lineEnd is one as it stands in our JSON.
var lineEnd = quoted("\n")

// skip leaves out what stands between pieces.
func (s segment) skip(value string) string {
	for {
		switch {
		case value == "":
			return ""
		case value[0] == ' ', value[0] == ',', s.separates(rune(value[0])):
			value = value[1:]
		case strings.HasPrefix(value, lineEnd):
			value = value[len(lineEnd):]
		default:
			return value
		}
	}
}

// saidBy returns the texts and numbers of the members whose names begin so, as they stand in the JSON: maxSaid and one more at the most.
func saidBy(members []member, names []string) []string {
	var out []string
	for _, m := range members {
		key := strings.TrimPrefix(m.key, "_")
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(key, n) }) {
			continue
		}
		for v := range values(m.value) {
			if out = append(out, v); len(out) > maxSaid {
				return out
			}
		}
	}
	return out
}

// values yields the texts and numbers of JSON that was written here: there is no white space in it.
func values(json []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := 0; i < len(json); {
			start := i
			switch c := json[i]; {
			case c == '"':
				for i++; json[i] != '"'; i++ {
					if json[i] == '\\' {
						i++
					}
				}
				i++
				if i < len(json) && json[i] == ':' { // the name of a member
					continue
				}
				if !yield(view(json[start+1 : i-1])) {
					return
				}
			case c == '-' || c >= '0' && c <= '9':
				for i < len(json) && strings.IndexByte(",]}", json[i]) < 0 {
					i++
				}
				if !yield(view(json[start:i])) {
					return
				}
			default:
				i++
			}
		}
	}
}
