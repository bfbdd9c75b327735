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
	pos  int // where it stopped
	lim  Limits
	tape []token
	// strings that are a member reference or url: see Value.Addresses
	addresses []int32
	codes     []int32 // see Value.Codes
	// keys of the object being closed, reused between objects
	seen map[string]struct{}
}

func (s *scanner) fail(reason string) *Error { return &Error{reason, s.pos} }

// failAt is fail at a place.
func (s *scanner) failAt(at int, reason string) *Error {
	s.pos = at
	return &Error{reason, at}
}

// space returns where white space that begins at i ends. Custodians indent, so runs of spaces are taken eight at a time.
func space(src []byte, i int) int {
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
			return i
		}
	}
	return i
}

// container is an object or array that is not closed yet.
type container struct {
	one, two uint64 // of an object: what is easily told of its keys, see hint
	mask     uint32
	self     int32
	array    bool
	alike    bool // two keys may be equal but for case
	wide     bool // a key is not ASCII
}

// scan reads one value and what is around it: white space at both ends, and nothing else. It is one loop with its own stack, because a call for
// each value is a third of the time that reading takes.
func (s *scanner) scan() *Error {
	src, tape, most := s.src, s.tape, s.lim.Values
	var room [16]container // deeper nesting is rare
	open := room[:0]
	i := space(src, 0)
	keyStart, keyLen, told := 0, 0, uint8(0) // of the key of the value that comes next
	for {
		// A value begins at i. Its key, if it has one, has been read.
		if i >= len(src) {
			return s.failAt(i, "text ends early")
		}
		if len(tape) >= most {
			return s.failAt(i, "too many values")
		}
		start := i
		switch c := src[i]; {
		case c == '"':
			end, flags := s.short(i), uint8(0)
			if end == 0 {
				var err *Error
				if end, flags, err = s.str(i); err != nil {
					return err
				}
			}
			i = end
			switch keyLen {
			case len(refKey):
				if string(src[keyStart:keyStart+keyLen]) == refKey {
					s.addresses = append(s.addresses, int32(len(tape)))
				}
			case len(urlKey):
				if string(src[keyStart:keyStart+keyLen]) == urlKey {
					s.addresses = append(s.addresses, int32(len(tape)))
				}
			case len(codeKey):
				if string(src[keyStart:keyStart+keyLen]) == codeKey {
					s.codes = append(s.codes, int32(len(tape)))
				}
			}
			if flags&escaped != 0 {
				told |= hasEscapes
			}
			tape = append(tape, token{start: int32(start), end: int32(i), keyStart: int32(keyStart), keyLen: uint16(keyLen), next: int32(len(tape) + 1), kind: String, told: told})
		case c == '{' || c == '[':
			kind, closing := Object, byte('}')
			if c == '[' {
				kind, closing = Array, ']'
			}
			tape = append(tape, token{start: int32(start), keyStart: int32(keyStart), keyLen: uint16(keyLen), kind: kind, told: told})
			if len(open) >= s.lim.Depth {
				return s.failAt(i, "nested too deep")
			}
			i = space(src, i+1)
			if i < len(src) && src[i] == closing {
				i++
				t := &tape[len(tape)-1]
				t.end, t.next = int32(i), int32(len(tape))
				break
			}
			open = append(open, container{self: int32(len(tape) - 1), array: kind == Array})
			if kind == Array {
				keyStart, keyLen, told = 0, 0, 0
				continue
			}
			goto key
		default:
			kind, end, err := s.plain(i)
			if err != nil {
				return err
			}
			i = end
			tape = append(tape, token{start: int32(start), end: int32(i), keyStart: int32(keyStart), keyLen: uint16(keyLen), next: int32(len(tape) + 1), kind: kind, told: told})
		}
		// A value has ended in front of i. What follows closes containers, or parts it from the next one.
	after:
		if len(open) == 0 {
			if i = space(src, i); i != len(src) {
				return s.failAt(i, "trailing data")
			}
			s.tape = tape
			return nil
		}
		if i >= len(src) || src[i] <= ' ' {
			if i = space(src, i); i >= len(src) {
				return s.failAt(i, "text ends early")
			}
		}
		{
			top := &open[len(open)-1]
			switch c := src[i]; {
			case c == ',':
				i++
				if i < len(src) && src[i] <= ' ' {
					i = space(src, i)
				}
				if top.array {
					keyStart, keyLen, told = 0, 0, 0
					continue
				}
			case c == ']' && top.array, c == '}' && !top.array:
				i++
				t := &tape[top.self]
				t.end, t.next, t.mask = int32(i), int32(len(tape)), top.mask
				if top.wide {
					t.mask = ^uint32(0)
				}
				if top.alike || top.wide {
					if err := s.uniqueKeys(tape, int(top.self), !top.wide); err != nil {
						return err
					}
				}
				open = open[:len(open)-1]
				goto after
			case top.array:
				return s.failAt(i, "no comma between elements")
			default:
				return s.failAt(i, "no comma between members")
			}
		}
	key:
		// A member begins at i.
		if i >= len(src) || src[i] != '"' {
			return s.failAt(i, "not a key")
		}
		{
			end, flags := s.short(i), uint8(0)
			if end == 0 {
				var err *Error
				if end, flags, err = s.str(i); err != nil {
					return err
				}
			}
			keyStart, keyLen = i+1, end-i-2
			switch {
			case flags&escaped != 0:
				return s.failAt(keyStart, "escaped key")
			case keyLen > maxKey:
				return s.failAt(keyStart, "key too long")
			}
			top := &open[len(open)-1]
			h := hint(src[keyStart : keyStart+keyLen])
			told = keyTold(h)
			one, two := uint64(1)<<(h>>26), uint64(1)<<(h>>20&63)
			top.alike = top.alike || top.one&one != 0 && top.two&two != 0
			top.wide = top.wide || flags&wide != 0
			top.one, top.two, top.mask = top.one|one, top.two|two, top.mask|maskOf(h)
			i = end
		}
		if i < len(src) && src[i] <= ' ' {
			i = space(src, i)
		}
		if i >= len(src) || src[i] != ':' {
			return s.failAt(i, "no colon after a key")
		}
		i++
		if i < len(src) && src[i] <= ' ' {
			i = space(src, i)
		}
	}
}

// maxKey is the longest key. No element of FHIR has a name of more than a hundred letters.
const maxKey = 1<<16 - 1

// plain reads what is no string and no container, and returns its kind and where it ends.
func (s *scanner) plain(i int) (Kind, int, *Error) {
	s.pos = i
	var kind Kind
	var err *Error
	switch s.src[i] {
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		kind, err = Number, s.number()
	case 't':
		kind, err = Bool, s.literal("true")
	case 'f':
		kind, err = Bool, s.literal("false")
	case 'n':
		kind, err = Null, s.literal("null")
	default:
		err = s.fail("not a value")
	}
	return kind, s.pos, err
}

// hint is a number that is the same for plain ASCII keys that are equal but for case. Its highest bits differ for most others. Keys whose hints
// differ need not be compared.
func hint[T string | []byte](key T) uint32 {
	n := len(key)
	if n == 0 {
		return 0
	}
	told := uint32(key[0]) | uint32(key[n/2])<<8 | uint32(key[n-1])<<16 | uint32(n)<<24
	return (told | 0x202020) * 0x9e3779b1
}

// maskOf is the bit of a hint in a token's mask.
func maskOf(hint uint32) uint32 { return 1 << (hint >> 27) }

// uniqueKeys refuses an object in which two keys are equal but for case: encoding/json, among others, takes either for a field.
// Few members are compared pairwise, many by a set. Keys of different lengths are equal but for case only where not all are ASCII.
func (s *scanner) uniqueKeys(tape []token, self int, ascii bool) *Error {
	key := func(i int32) []byte { return tape[i].key(s.src) }
	first, end := int32(self+1), int32(len(tape))
	members := 0
	for i := first; i < end; i = tape[i].next {
		members++
	}
	if members <= 24 {
		for i := first; i < end; i = tape[i].next {
			a := key(i)
			for j := first; j < i; j = tape[j].next {
				if b := key(j); (len(a) == len(b) || !ascii) && bytes.EqualFold(a, b) {
					return &Error{"duplicate key", int(tape[i].keyStart)}
				}
			}
		}
		return nil
	}
	if s.seen == nil {
		s.seen = make(map[string]struct{}, members)
	}
	clear(s.seen)
	defer func() {
		if members > 1024 {
			s.seen = nil // clearing it would cost every later object as much as this one
		}
	}()
	for i := first; i < end; i = tape[i].next {
		folded := fold(key(i))
		if _, twice := s.seen[folded]; twice {
			return &Error{"duplicate key", int(tape[i].keyStart)}
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

const (
	ones = 0x0101010101010101 // one in each of eight bytes
	tops = 0x8080808080808080 // the top bit of each
)

// special returns a word whose lowest set bit is in the first of eight bytes, lowest first, that a string cannot go over without a look: a
// quotation mark, a backslash, a control character, a byte beyond ASCII. It is zero if there is none. With one bit of each byte turned over, the
// quotation mark stands right behind the control characters, so that one subtraction finds both. A byte that borrows from the next one is such
// a byte itself, so the first is never wrong.
func special(w uint64) uint64 {
	const turned = '"' ^ ' '
	return (((w ^ turned*ones) - (' '+1)*ones) | ((w ^ '\\'*ones) - ones) | w) & tops
}

// What str says of a string.
const (
	escaped = 1 << iota // it holds a backslash
	wide                // it is not plain ASCII
)

// short returns where the string ends whose quotation mark is at open, if it is plain and of at most seven bytes, as most keys are; else 0.
func (s *scanner) short(open int) int {
	if len(s.src)-open < 9 || s.lim.StringBytes < 7 {
		return 0
	}
	m := special(binary.LittleEndian.Uint64(s.src[open+1:]))
	if m == 0 {
		return 0
	}
	at := open + 1 + bits.TrailingZeros64(m)>>3
	if s.src[at] != '"' {
		return 0
	}
	return at + 1
}

// str reads the string whose quotation mark is at open, and returns where it ends, behind its other quotation mark.
func (s *scanner) str(open int) (end int, flags uint8, err *Error) {
	src, i := s.src, open+1
	for i+8 <= len(src) {
		if m := special(binary.LittleEndian.Uint64(src[i:])); m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			if src[i] == '"' && i-open-1 <= s.lim.StringBytes {
				return i + 1, 0, nil
			}
			break
		}
		i += 8
	}
	return s.rest(open+1, i)
}

// rest reads the rest of a string that began at begin, from i on.
func (s *scanner) rest(begin, i int) (end int, flags uint8, err *Error) {
	src := s.src
	for {
		for i+8 <= len(src) {
			if m := special(binary.LittleEndian.Uint64(src[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(src) {
			return 0, 0, s.failAt(i, "text ends early")
		}
		switch c := src[i]; {
		case c == '"':
			if i-begin > s.lim.StringBytes {
				return 0, 0, s.failAt(begin, "string too long")
			}
			return i + 1, flags, nil
		case c < ' ':
			return 0, 0, s.failAt(i, "control character in a string")
		case c == '\\':
			flags |= escaped
			if i+1 < len(src) && simple[src[i+1]] {
				i += 2
				continue
			}
			n, reason := escape(src[i:])
			if reason != "" {
				return 0, 0, s.failAt(i, reason)
			}
			i += n
		case c < utf8.RuneSelf:
			i++ // in the last seven bytes of the text
		default:
			flags |= wide
			r, n := utf8.DecodeRune(src[i:])
			if r == utf8.RuneError && n == 1 {
				return 0, 0, s.failAt(i, "invalid UTF-8")
			}
			i += n
		}
	}
}

// simple are the letters that one backslash makes a character of.
var simple = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// escape returns the length of the escape sequence at the start of b, a surrogate pair counting as one.
func escape(b []byte) (int, string) {
	if len(b) < 2 {
		return 0, "text ends early"
	}
	switch {
	case simple[b[1]]:
		return 2, ""
	case b[1] == 'u':
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
