package fhirjson

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

type scanner struct {
	src  []byte
	pos  int
	lim  Limits
	tape []token
	// keys of the object being closed, reused between objects
	seen map[string]struct{}
}

func (s *scanner) fail(reason string) *Error { return &Error{reason, s.pos} }

// space goes past white space. Custodians indent, so runs of spaces are taken eight at a time.
func (s *scanner) space() {
	src, i := s.src, s.pos
	for i < len(src) {
		switch src[i] {
		case ' ':
			i++
			for i+8 <= len(src) {
				if other := binary.LittleEndian.Uint64(src[i:]) ^ ' '*ones; other != 0 {
					i += bits.TrailingZeros64(other) >> 3
					break
				}
				i += 8
			}
		case '\n', '\t', '\r':
			i++
		default:
			s.pos = i
			return
		}
	}
	s.pos = i
}

// value reads one value at s.pos; depth counts the containers around it.
func (s *scanner) value(depth int, keyStart, keyEnd int32) *Error {
	if s.pos >= len(s.src) {
		return s.fail("text ends early")
	}
	if len(s.tape) >= s.lim.Values {
		return s.fail("too many values")
	}
	i := len(s.tape)
	s.tape = append(s.tape, token{start: int32(s.pos), keyStart: keyStart, keyEnd: keyEnd})
	var kind Kind
	var escaped bool
	var err *Error
	switch s.src[s.pos] {
	case '"':
		kind = String
		escaped, _, err = s.str()
	case '{':
		kind = Object
		err = s.object(i, depth+1)
	case '[':
		kind = Array
		err = s.array(depth + 1)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		kind = Number
		err = s.number()
	case 't':
		kind = Bool
		err = s.literal("true")
	case 'f':
		kind = Bool
		err = s.literal("false")
	case 'n':
		kind = Null
		err = s.literal("null")
	default:
		return s.fail("not a value")
	}
	if err != nil {
		return err
	}
	t := &s.tape[i]
	t.kind, t.escaped, t.end, t.next = kind, escaped, int32(s.pos), int32(len(s.tape))
	return nil
}

func (s *scanner) object(self, depth int) *Error {
	if depth > s.lim.Depth {
		return s.fail("nested too deep")
	}
	s.pos++
	s.space()
	if s.pos < len(s.src) && s.src[s.pos] == '}' {
		s.pos++
		return nil
	}
	members := 0
	var seen uint64 // a bit for what is easily told of each key: see hint
	alike := false  // two keys may be equal but for case
	ascii := true   // all keys are
	for {
		if s.pos >= len(s.src) || s.src[s.pos] != '"' {
			return s.fail("not a key")
		}
		start := s.pos + 1
		escaped, plain, err := s.str()
		if err != nil {
			return err
		}
		end := s.pos - 1
		if escaped {
			return &Error{"escaped key", start}
		}
		bit := hint(s.src[start:end])
		alike = alike || seen&bit != 0
		ascii = ascii && plain
		seen |= bit
		s.space()
		if s.pos >= len(s.src) || s.src[s.pos] != ':' {
			return s.fail("no colon after a key")
		}
		s.pos++
		s.space()
		if err := s.value(depth, int32(start), int32(end)); err != nil {
			return err
		}
		members++
		s.space()
		if s.pos >= len(s.src) {
			return s.fail("text ends early")
		}
		c := s.src[s.pos]
		s.pos++
		if c == '}' {
			if alike || !ascii {
				return s.uniqueKeys(self, members, ascii)
			}
			return nil
		}
		if c != ',' {
			s.pos--
			return s.fail("no comma between members")
		}
		s.space()
	}
}

// hint is one of 64 bits, the same for plain ASCII keys that are equal but for case. Keys whose hints differ need not be compared.
func hint(key []byte) uint64 {
	if len(key) == 0 {
		return 1
	}
	first, middle, last := uint(key[0]|0x20), uint(key[len(key)/2]|0x20), uint(key[len(key)-1]|0x20)
	return 1 << ((uint(len(key)) + 7*first + 29*middle + 13*last) & 63)
}

// uniqueKeys refuses an object in which two keys are equal but for case: encoding/json, among others, takes either for a field.
// Few members are compared pairwise, many by a set. Keys of different lengths are equal but for case only where not all are ASCII.
func (s *scanner) uniqueKeys(self, members int, ascii bool) *Error {
	key := func(i int32) []byte { return s.src[s.tape[i].keyStart:s.tape[i].keyEnd] }
	first, end := int32(self+1), int32(len(s.tape))
	if members <= 24 {
		for i := first; i < end; i = s.tape[i].next {
			a := key(i)
			for j := first; j < i; j = s.tape[j].next {
				if b := key(j); (len(a) == len(b) || !ascii) && bytes.EqualFold(a, b) {
					return &Error{"duplicate key", int(s.tape[i].keyStart)}
				}
			}
		}
		return nil
	}
	if s.seen == nil {
		s.seen = make(map[string]struct{}, members)
	}
	clear(s.seen)
	for i := first; i < end; i = s.tape[i].next {
		folded := fold(key(i))
		if _, twice := s.seen[folded]; twice {
			return &Error{"duplicate key", int(s.tape[i].keyStart)}
		}
		s.seen[folded] = struct{}{}
	}
	return nil
}

// fold maps the texts that bytes.EqualFold calls equal to one text: each letter becomes the smallest of those that fold to it, so that
// the letters beyond ASCII that fold to ASCII ones (the Kelvin sign, the long s) do too.
func fold(b []byte) string {
	var out strings.Builder
	out.Grow(len(b))
	for _, r := range string(b) {
		least := r
		for x := unicode.SimpleFold(r); x != r; x = unicode.SimpleFold(x) {
			least = min(least, x)
		}
		out.WriteRune(least)
	}
	return out.String()
}

func (s *scanner) array(depth int) *Error {
	if depth > s.lim.Depth {
		return s.fail("nested too deep")
	}
	s.pos++
	s.space()
	if s.pos < len(s.src) && s.src[s.pos] == ']' {
		s.pos++
		return nil
	}
	for {
		if err := s.value(depth, 0, 0); err != nil {
			return err
		}
		s.space()
		if s.pos >= len(s.src) {
			return s.fail("text ends early")
		}
		c := s.src[s.pos]
		s.pos++
		if c == ']' {
			return nil
		}
		if c != ',' {
			s.pos--
			return s.fail("no comma between elements")
		}
		s.space()
	}
}

const (
	ones = 0x0101010101010101 // one in each of eight bytes
	tops = 0x8080808080808080 // the top bit of each
)

// special returns a word whose lowest set bit is in the first of eight bytes, lowest first, that a string cannot go over without a look: a
// quotation mark, a backslash, a control character, a byte beyond ASCII. It is zero if there is none. A byte that borrows from the next
// one is such a byte itself, so the first is never wrong.
func special(w uint64) uint64 {
	quote, slash := w^'"'*ones, w^'\\'*ones
	return ((quote-ones)&^quote | (slash-ones)&^slash | (w-' '*ones)&^w | w) & tops
}

// str reads a string and reports whether it holds a backslash, and whether it is plain ASCII.
func (s *scanner) str() (escaped, plain bool, err *Error) {
	src, begin := s.src, s.pos+1
	i := begin
	plain = true
	for {
		for i+8 <= len(src) {
			if m := special(binary.LittleEndian.Uint64(src[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(src) {
			s.pos = i
			return false, false, s.fail("text ends early")
		}
		switch c := src[i]; {
		case c == '"':
			s.pos = i + 1
			if i-begin > s.lim.StringBytes {
				return false, false, &Error{"string too long", begin}
			}
			return escaped, plain, nil
		case c < ' ':
			return false, false, &Error{"control character in a string", i}
		case c == '\\':
			escaped = true
			n, reason := escape(src[i:])
			if reason != "" {
				return false, false, &Error{reason, i}
			}
			i += n
		case c < utf8.RuneSelf:
			i++ // in the last seven bytes of the text
		default:
			plain = false
			r, n := utf8.DecodeRune(src[i:])
			if r == utf8.RuneError && n == 1 {
				return false, false, &Error{"invalid UTF-8", i}
			}
			i += n
		}
	}
}

// escape returns the length of the escape sequence at the start of b, a surrogate pair counting as one.
func escape(b []byte) (int, string) {
	if len(b) < 2 {
		return 0, "text ends early"
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, ""
	case 'u':
		if len(b) < 6 {
			return 0, "text ends early"
		}
		r := hex4(b[2:])
		if r < 0 {
			return 0, "not an escape"
		}
		if !utf16.IsSurrogate(r) {
			return 6, ""
		}
		if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
			if low := hex4(b[8:]); low >= 0 && utf16.DecodeRune(r, low) != utf8.RuneError {
				return 12, ""
			}
		}
		return 0, "lone surrogate"
	}
	return 0, "not an escape"
}

func (s *scanner) number() *Error {
	src, begin := s.src, s.pos
	i := begin
	if src[i] == '-' {
		i++
	}
	whole := i
	i = digits(src, i)
	good := i > whole && (i == whole+1 || src[whole] != '0')
	if good && i < len(src) && src[i] == '.' {
		from := i + 1
		i = digits(src, from)
		good = i > from
	}
	if good && i < len(src) && src[i]|0x20 == 'e' {
		from := i + 1
		if from < len(src) && (src[from] == '+' || src[from] == '-') {
			from++
		}
		i = digits(src, from)
		good = i > from
	}
	s.pos = i
	if !good {
		return s.fail("not a number")
	}
	if i-begin > s.lim.NumberBytes {
		return &Error{"number too long", begin}
	}
	return nil
}

// digits returns where the digits that begin at i end.
func digits(src []byte, i int) int {
	for i < len(src) && src[i] >= '0' && src[i] <= '9' {
		i++
	}
	return i
}

func (s *scanner) literal(word string) *Error {
	if len(s.src)-s.pos < len(word) || string(s.src[s.pos:s.pos+len(word)]) != word {
		return s.fail("not a value")
	}
	s.pos += len(word)
	return nil
}
