package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// canonical writes a payload as the one JSON text that it can have (ENTRY.md): members in the order of the struct and under the names
// of their tags, nothing that is empty, no white space, as few escapes as JSON allows. encoding/json is not used for writing because
// its bytes change between versions of Go (1.22 changed how \b and \f are escaped), and an entry's bytes must not.
func canonical(v any) []byte {
	size := usualPayload
	if p, is := v.(*payload); is && p.Disclosure != nil {
		for i := range p.Disclosure.Custodians {
			size += base64.StdEncoding.EncodedLen(len(p.Disclosure.Custodians[i].Digests))
		}
	}
	return appendValue(make([]byte, 0, size), valueOf(v))
}

// usualPayload is more than most payloads take, digests aside.
const usualPayload = 2 << 10

func valueOf(v any) reflect.Value { return reflect.ValueOf(v) }

const lowerHex = "0123456789abcdef"

var bytesType = reflect.TypeFor[[]byte]()

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Pointer:
		return appendValue(b, v.Elem())
	case reflect.Struct:
		b = append(b, '{')
		first := true
		for i, name := range namesOf(v.Type()) {
			f := v.Field(i)
			if empty(f) {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, name...)
			b = appendValue(b, f)
		}
		return append(b, '}')
	case reflect.Slice:
		if v.Type() == bytesType {
			b = append(b, '"')
			b = base64.StdEncoding.AppendEncode(b, v.Bytes())
			return append(b, '"')
		}
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, v.Index(i))
		}
		return append(b, ']')
	case reflect.String:
		return appendString(b, v.String())
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	}
	panic("a payload holds a kind of value that has no canonical form")
}

// written are the names of the members of each type that a payload is made of, in their order, each quoted and with its colon.
var written sync.Map // reflect.Type -> [][]byte

func namesOf(t reflect.Type) [][]byte {
	if known, ok := written.Load(t); ok {
		return known.([][]byte)
	}
	names := make([][]byte, t.NumField())
	for i := range names {
		names[i] = append(appendString(nil, t.Field(i).Tag.Get("json")), ':')
	}
	written.Store(t, names)
	return names
}

// empty reports whether a member is left out: "", 0, false, no elements, or an object all of whose members are left out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil()
	case reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		for i := range v.NumField() {
			if !empty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

// appendString escapes the quotation mark, the reverse solidus and U+0000 to U+001F (as \u00xx, lower case), and nothing else. What is
// not UTF-8 becomes U+FFFD, byte by byte.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		plain := i
		for plain < len(s) && s[plain] >= ' ' && s[plain] < utf8.RuneSelf && s[plain] != '"' && s[plain] != '\\' {
			plain++
		}
		b = append(b, s[i:plain]...)
		if i = plain; i == len(s) {
			break
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', lowerHex[r>>4], lowerHex[r&15])
		case r == utf8.RuneError && n == 1:
			b = append(b, "\uFFFD"...)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// parseCanonical reads what canonical wrote, and nothing else: the text must be the canonical one of what was read. It is read once, in the order in which it was written, and whatever
// canonical would have written otherwise is refused where it stands: an officer's question opens thousands of entries.
func parseCanonical(text []byte, into any) error {
	r := canonicalReader{text: text}
	if !r.members(valueOf(into).Elem()) || r.at != len(text) {
		return fmt.Errorf("%w: a payload is not what this version writes, or not in canonical form", ErrDamaged)
	}
	return nil
}

// canonicalReader reads a canonical text. Its methods return false where the text is not one.
type canonicalReader struct {
	text []byte
	at   int
	had  [16]string // texts of this payload: the same custodians stand in it several times
	n    int
}

func (r *canonicalReader) is(b byte) bool {
	if r.at < len(r.text) && r.text[r.at] == b {
		r.at++
		return true
	}
	return false
}

// members reads an object into a struct that is empty. What is left out in canonical form may not be in it, and what is in it stands in order.
func (r *canonicalReader) members(v reflect.Value) bool {
	if !r.is('{') {
		return false
	}
	if r.is('}') {
		return true
	}
	names := namesOf(v.Type())
	for i := 0; ; {
		for i < len(names) && !bytes.HasPrefix(r.text[r.at:], names[i]) {
			i++
		}
		if i == len(names) {
			return false
		}
		r.at += len(names[i])
		f := v.Field(i)
		if !r.value(f) || empty(f) {
			return false
		}
		i++
		if r.is('}') {
			return true
		}
		if !r.is(',') {
			return false
		}
	}
}

func (r *canonicalReader) value(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return r.value(v.Elem())
	case reflect.Struct:
		return r.members(v)
	case reflect.Slice:
		return r.list(v)
	case reflect.String:
		s, ok := r.string()
		v.SetString(s)
		return ok
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(string(r.number()), 10, 64)
		if err != nil || v.OverflowInt(n) {
			return false
		}
		v.SetInt(n)
		return true
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(string(r.number()), 10, 64)
		if err != nil || v.OverflowUint(n) {
			return false
		}
		v.SetUint(n)
		return true
	case reflect.Bool:
		for _, b := range []bool{true, false} {
			if word := strconv.FormatBool(b); bytes.HasPrefix(r.text[r.at:], []byte(word)) {
				r.at += len(word)
				v.SetBool(b)
				return true
			}
		}
		return false
	}
	panic("a payload holds a kind of value that has no canonical form")
}

func (r *canonicalReader) list(v reflect.Value) bool {
	if v.Type() == bytesType {
		s, _, ok := r.plain()
		b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
		n, err := strictBase64.Decode(b, s)
		if !ok || err != nil || len(s) != base64.StdEncoding.EncodedLen(n) { // as long as it must be: nothing in it was passed over
			return false
		}
		v.SetBytes(b[:n])
		return true
	}
	texts, isTexts := v.Addr().Interface().(*[]string) // most lists are, and are read without reflection
	if isTexts && bytes.HasPrefix(r.text[r.at:], allCodesText) {
		*texts = allCodes
		r.at += len(allCodesText)
		return true
	}
	if !r.is('[') {
		return false
	}
	if r.is(']') {
		return true
	}
	if isTexts {
		*texts = make([]string, 0, r.texts())
	}
	for {
		if isTexts {
			s, ok := r.string()
			if !ok {
				return false
			}
			*texts = append(*texts, s)
		} else {
			n := v.Len()
			v.Grow(1)
			v.SetLen(n + 1)
			v.Index(n).SetZero()
			if !r.value(v.Index(n)) {
				return false
			}
		}
		if r.is(']') {
			return true
		}
		if !r.is(',') {
			return false
		}
	}
}

// allCodesText is the list of all sections' codes, which there is most of.
var allCodesText = appendValue(nil, reflect.ValueOf(allCodes))

// texts says about how many elements a list of texts has that begins here: for its size only.
func (r *canonicalReader) texts() int {
	end := bytes.IndexByte(r.text[r.at:], ']')
	return bytes.Count(r.text[r.at:r.at+max(end, 0)], []byte{','}) + 1
}

// strictBase64 takes what canonical writes and nothing else that means the same.
var strictBase64 = base64.StdEncoding.Strict()

// number returns the text of a number that is written as numbers are: no sign but of what is below zero, no zero in front. nil is none.
func (r *canonicalReader) number() []byte {
	from := r.at
	r.is('-')
	digits := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	n := r.text[digits:r.at]
	if len(n) == 0 || n[0] == '0' && (len(n) > 1 || digits > from) {
		return nil
	}
	return r.text[from:r.at]
}

func (r *canonicalReader) string() (string, bool) {
	plain, escape, ok := r.plain()
	switch {
	case escape >= 0:
		return r.escaped(escape)
	case !ok:
		return "", false
	}
	if known, ok := sectionCodes[string(plain)]; ok { // the words that there are most of: they are not made anew
		return known, true
	}
	for _, had := range r.had[:min(r.n, len(r.had))] {
		if had == string(plain) {
			return had, true
		}
	}
	s := string(plain)
	r.had[r.n%len(r.had)] = s
	r.n++
	return s, utf8.ValidString(s)
}

// plain reads a string in which everything stands for itself. Where something does not, escape is how many bytes in front of it do, and they come next; else it is -1.
func (r *canonicalReader) plain() (text []byte, escape int, ok bool) {
	if !r.is('"') {
		return nil, -1, false
	}
	end := bytes.IndexByte(r.text[r.at:], '"')
	if end < 0 {
		return nil, -1, false
	}
	text = r.text[r.at : r.at+end]
	for i, c := range text {
		if c == '\\' {
			return nil, i, false
		}
		if c < ' ' {
			return nil, -1, false
		}
	}
	r.at += end + 1
	return text, -1, true
}

// escaped reads the rest of a string of which so many bytes stand for themselves.
func (r *canonicalReader) escaped(plain int) (string, bool) {
	out := append([]byte(nil), r.text[r.at:r.at+plain]...)
	for r.at += plain; r.at < len(r.text); r.at++ {
		c := r.text[r.at]
		switch {
		case c == '"':
			r.at++
			return string(out), utf8.Valid(out)
		case c < ' ':
			return "", false
		case c != '\\':
			out = append(out, c)
			continue
		}
		rest := r.text[r.at+1:]
		switch {
		case len(rest) > 0 && (rest[0] == '"' || rest[0] == '\\'):
			out = append(out, rest[0])
			r.at++
		case len(rest) >= 5 && string(rest[:3]) == "u00":
			n := bytes.IndexByte([]byte(lowerHex), rest[4])
			if rest[3] != '0' && rest[3] != '1' || n < 0 {
				return "", false
			}
			out = append(out, (rest[3]-'0')<<4|byte(n))
			r.at += 5
		default:
			return "", false
		}
	}
	return "", false
}

// sectionCodes are the codes of the record's sections.
var sectionCodes = func() map[string]string {
	out := map[string]string{}
	for _, s := range record.AllSections.List() {
		out[s.String()] = s.String()
	}
	return out
}()
