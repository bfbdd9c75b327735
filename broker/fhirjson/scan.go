package fhirjson

import (
	"bytes"
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

func (s *scanner) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
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
	switch c := s.src[s.pos]; {
	case c == '{':
		kind = Object
		err = s.object(i, depth+1)
	case c == '[':
		kind = Array
		err = s.array(depth + 1)
	case c == '"':
		kind = String
		escaped, err = s.str()
	case c == '-' || c >= '0' && c <= '9':
		kind = Number
		err = s.number()
	case c == 't':
		kind = Bool
		err = s.literal("true")
	case c == 'f':
		kind = Bool
		err = s.literal("false")
	case c == 'n':
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
	for {
		if s.pos >= len(s.src) || s.src[s.pos] != '"' {
			return s.fail("not a key")
		}
		start := s.pos + 1
		escaped, err := s.str()
		if err != nil {
			return err
		}
		end := s.pos - 1
		if escaped {
			return &Error{"escaped key", start}
		}
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
			return s.uniqueKeys(self, members)
		}
		if c != ',' {
			s.pos--
			return s.fail("no comma between members")
		}
		s.space()
	}
}

// uniqueKeys refuses an object in which two keys are equal but for case: encoding/json, among others, takes either for a field.
// Few members are compared pairwise, many by a set.
func (s *scanner) uniqueKeys(self, members int) *Error {
	if members < 2 {
		return nil
	}
	key := func(i int32) []byte { return s.src[s.tape[i].keyStart:s.tape[i].keyEnd] }
	first, end := int32(self+1), int32(len(s.tape))
	if members <= 24 {
		for i := first; i < end; i = s.tape[i].next {
			for j := first; j < i; j = s.tape[j].next {
				if a, b := key(i), key(j); len(a) == len(b) && bytes.EqualFold(a, b) || len(a) != len(b) && !isASCII(a, b) && bytes.EqualFold(a, b) {
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

func isASCII(a, b []byte) bool {
	for _, s := range [2][]byte{a, b} {
		for _, c := range s {
			if c >= utf8.RuneSelf {
				return false
			}
		}
	}
	return true
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

// str reads a string and reports whether it holds a backslash.
func (s *scanner) str() (escaped bool, err *Error) {
	begin := s.pos + 1
	i := begin
	for i < len(s.src) {
		switch c := s.src[i]; {
		case c == '"':
			s.pos = i + 1
			if i-begin > s.lim.StringBytes {
				return false, &Error{"string too long", begin}
			}
			return escaped, nil
		case c < ' ':
			return false, &Error{"control character in a string", i}
		case c == '\\':
			escaped = true
			n, reason := escape(s.src[i:])
			if reason != "" {
				return false, &Error{reason, i}
			}
			i += n
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(s.src[i:])
			if r == utf8.RuneError && n == 1 {
				return false, &Error{"invalid UTF-8", i}
			}
			i += n
		}
	}
	s.pos = i
	return false, s.fail("text ends early")
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
	begin := s.pos
	digits := func() int {
		from := s.pos
		for s.pos < len(s.src) && s.src[s.pos] >= '0' && s.src[s.pos] <= '9' {
			s.pos++
		}
		return s.pos - from
	}
	at := func(c byte) bool { return s.pos < len(s.src) && s.src[s.pos] == c }
	if at('-') {
		s.pos++
	}
	zero := at('0')
	if n := digits(); n == 0 || zero && n > 1 {
		return s.fail("not a number")
	}
	if at('.') {
		s.pos++
		if digits() == 0 {
			return s.fail("not a number")
		}
	}
	if at('e') || at('E') {
		s.pos++
		if at('+') || at('-') {
			s.pos++
		}
		if digits() == 0 {
			return s.fail("not a number")
		}
	}
	if s.pos-begin > s.lim.NumberBytes {
		return &Error{"number too long", begin}
	}
	return nil
}

func (s *scanner) literal(word string) *Error {
	if len(s.src)-s.pos < len(word) || string(s.src[s.pos:s.pos+len(word)]) != word {
		return s.fail("not a value")
	}
	s.pos += len(word)
	return nil
}
