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
	src   []byte
	lim   Limits
	tape  []token     // all zero behind the last value, but for what is known of the next one's key
	open  []container // what is not closed yet, outermost first, behind one that stands for the text itself
	depth uint        // the place in open of the innermost
	// strings that are a member reference or url: see Value.Addresses
	addresses []int32
	codes     []int32 // see Value.Codes
	types     []int32 // see Value.Resources
	misshapen bool    // see Doc.Misshapen
	lists     bool    // some member code is an array
	// keys of the object being closed, reused between objects
	seen map[string]struct{}
	stops
}

// refused says why a text is refused, and where.
func refused(at uint, reason string) *Error { return &Error{reason, int(at)} }

// space returns where white space that begins at i ends. Custodians indent, so runs of spaces are taken eight at a time.
func space(src []byte, i uint) uint {
	size := uint(len(src))
	for i < size {
		switch src[i] {
		case ' ':
			i++
			for i+8 <= size {
				if other := binary.LittleEndian.Uint64(src[i:]) ^ ' '*ones; other != 0 {
					i += uint(bits.TrailingZeros64(other)) >> 3
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
	one, two uint64 // of an object: bits 26 to 31, and 20 to 25, of the hints of its keys
	self     int32
	closing  byte
	doubts   uint8
}

// Why the keys of an object need a closer look when it is closed.
const (
	alike = 1 << iota // two may be equal but for case
	wider             // one is not ASCII
)

// add takes a key with that hint into account.
func (c *container) add(hint uint32) {
	one, two := uint64(1)<<(hint>>26), uint64(1)<<(hint>>20&63)
	if c.one&one != 0 && c.two&two != 0 {
		c.doubts |= alike
	}
	c.one |= one
	c.two |= two
}

// A stage is what comes next in the text, white space aside.
type stage uint8

const (
	value  stage = iota // a value; its key, if it has one, has been read
	member              // a key
	colon               // what parts a key from its value
	after               // what follows a value: it closes containers, or parts it from the next one
)

// An outcome is why run came back.
type outcome uint8

const (
	ended    outcome = iota // the outermost value has
	byHand                  // a key or string that is not easily read, or what is no string and no container
	tapeFull                // there is no room for the next value
	deeper                  // the stack of open containers is full
	doubtful                // the object that was closed has doubts
	endsEarly
	tooMany
	noKey
	noColon
	noCommaInArray
	noCommaInObject
)

// reasons says those outcomes that are refusals.
var reasons = [...]string{endsEarly: "text ends early", tooMany: "too many values", noKey: "not a key", noColon: "no colon after a key",
	noCommaInArray: "no comma between elements", noCommaInObject: "no comma between members"}

// scan reads one value and what is around it: white space at both ends, and nothing else. run does what is frequent; here is the rest.
func (s *scanner) scan() *Error {
	var room [1 + 16]container // deeper nesting is rare
	s.open = room[:min(len(room), 1+s.lim.Depth)]
	s.tape = s.tape[:cap(s.tape)]
	s.begin()
	i, n, next := uint(0), uint(0), value
	for {
		var why outcome
		switch i, n, next, why = s.run(i, n, next); why {
		case ended:
			if i = space(s.src, i); i != uint(len(s.src)) {
				return refused(i, "trailing data")
			}
			s.tape = s.tape[:n]
			return nil
		case byHand:
			var err *Error
			if i, n, next, err = s.hand(i, n, next); err != nil {
				return err
			}
		case tapeFull:
			longer := make([]token, len(s.tape)+len(s.tape)/4+64)
			copy(longer, s.tape)
			s.tape = longer
		case deeper:
			more := min(s.lim.Depth-int(s.depth), len(s.open))
			if more == 0 {
				return refused(i, "nested too deep")
			}
			s.open = append(s.open, make([]container, more)...)
		case doubtful:
			object := &s.open[s.depth+1]
			ascii := object.doubts&wider == 0
			if !ascii {
				s.tape[object.self].mask = ^uint32(0)
			}
			if err := s.uniqueKeys(s.tape[:n], object.self, ascii); err != nil {
				return err
			}
		case tooMany:
			if i = space(s.src, i); i >= uint(len(s.src)) {
				why = endsEarly
			}
			return refused(i, reasons[why])
		default:
			return refused(i, reasons[why])
		}
	}
}

// hand reads the value or key that is next and begins at i, whatever it is but for a container, and returns what run goes on from. run has seen that the tape has room for it.
func (s *scanner) hand(i, n uint, next stage) (uint, uint, stage, *Error) {
	t := &s.tape[n]
	if s.src[i] != '"' {
		kind, end, err := s.plain(i)
		t.start, t.end, t.next, t.kind = int32(i), int32(end), int32(n+1), kind
		s.misshapen = s.misshapen || kind != Null && string(t.key(s.src)) == codeKey
		return end, n + 1, after, err
	}
	end, flags, err := s.str(i)
	if err != nil {
		return 0, 0, 0, err
	}
	if next == member {
		switch {
		case flags&escaped != 0:
			return 0, 0, 0, refused(i+1, "escaped key")
		case end-i-2 > maxKey:
			return 0, 0, 0, refused(i+1, "key too long")
		case flags&wide != 0:
			s.open[s.depth].doubts |= wider
		}
		h := hintIn(s.src, i+1, end-1)
		s.open[s.depth].add(h)
		t.keyStart, t.keyLen, t.told = int32(i+1), uint16(end-i-2), keyTold(h)
		return end, n, colon, nil
	}
	if list := s.list(t.key(s.src)); list != nil {
		*list = append(*list, int32(n))
	}
	if flags&escaped != 0 {
		t.told |= hasEscapes
	}
	t.start, t.end, t.next, t.kind = int32(i), int32(end), int32(n+1), String
	return end, n + 1, after, nil
}

// run goes on from i, where the stage that is next begins, to the first thing that it leaves to scan, and returns where that is and why. n is how many
// values there have been.
//
// It is one loop with its own stack, because a call for each value is a third of the time that reading takes; and it calls nothing, so that what it
// needs all the time stays in registers. So what it finds out of a key it writes at once where the key's value will stand in the tape. Each stage
// expects what most texts have, and looks for white space only where that is not there.
func (s *scanner) run(i, n uint, next stage) (uint, uint, stage, outcome) {
	src, size, tape := s.src, uint(len(s.src)), s.tape
	top := &s.open[s.depth]
	switch next {
	case member:
		goto member
	case colon:
		goto colon
	case after:
		goto after
	}
value:
	switch {
	case i >= size:
		return i, n, value, endsEarly
	case n >= uint(s.lim.Values):
		return i, n, value, tooMany
	case n >= uint(len(tape)):
		return i, n, value, tapeFull
	}
	{
		t := &tape[n]
		switch c := src[i]; c {
		case '"':
			end := s.near(i + 1)
			if end >= size || src[end] != '"' {
				return i, n, value, byHand
			}
			switch t.told {
			case refTold, urlTold, codeTold, typeTold:
				if list := s.list(t.key(src)); list != nil && !put(list, int32(n)) {
					return i, n, value, byHand
				}
			}
			t.start = int32(i)
			i = end + 1
			n++
			t.end, t.next, t.kind = int32(i), int32(n), String
		case '{', '[':
			if s.depth+1 >= uint(len(s.open)) {
				return i, n, value, deeper
			}
			s.depth++
			top = &s.open[s.depth]
			*top = container{self: int32(n), closing: c + ('}' - '{')} // the brackets are as far apart
			t.start = int32(i)
			i++
			n++
			if c == '{' {
				t.kind = Object
				goto member
			}
			t.kind = Array
			if i = space(src, i); i < size && src[i] == ']' {
				goto closing
			}
			if s.open[s.depth-1].closing == ']' {
				s.misshapen = true
			} else if t.told == codeTold && string(t.key(src)) == codeKey {
				s.lists = true
			}
			goto value
		default:
			if past := space(src, i); past != i {
				i = past
				goto value
			}
			return i, n, value, byHand
		}
	}
after:
	if s.depth == 0 {
		return i, n, after, ended
	}
	if i >= size {
		return i, n, after, endsEarly
	}
	if c := src[i]; c != ',' {
		if c == top.closing {
			goto closing
		}
		if past := space(src, i); past != i {
			i = past
			goto after
		}
		if top.closing == ']' {
			return i, n, after, noCommaInArray
		}
		return i, n, after, noCommaInObject
	}
	i++
	if top.closing == ']' {
		goto value
	}
member:
	if i >= size || src[i] != '"' {
		if past := space(src, i); past != i {
			i = past
			goto member
		}
		if i < size && src[i] == '}' && n == uint(top.self)+1 {
			goto closing
		}
		return i, n, member, noKey
	}
	if n >= uint(len(tape)) {
		return i, n, member, tapeFull
	}
	{
		end := s.near(i + 1)
		if end >= size || src[end] != '"' {
			return i, n, member, byHand
		}
		h := hintIn(src, i+1, end)
		t := &tape[n]
		t.keyStart, t.keyLen, t.told = int32(i+1), uint16(end-i-1), keyTold(h)
		top.add(h)
		i = end + 1
	}
colon:
	if i >= size || src[i] != ':' {
		if past := space(src, i); past != i {
			i = past
			goto colon
		}
		return i, n, colon, noColon
	}
	i++
	goto value
closing:
	i++
	{
		t := &tape[top.self]
		t.end, t.next, t.mask = int32(i), int32(n), maskOfAll(top.one)
		doubts := top.doubts
		s.depth--
		top = &s.open[s.depth]
		if doubts != 0 {
			return i, n, after, doubtful
		}
	}
	goto after
}

// list is where a string that is a member with that key is noted, nil if nowhere.
func (s *scanner) list(key []byte) *[]int32 {
	switch string(key) {
	case refKey, urlKey:
		return &s.addresses
	case codeKey:
		return &s.codes
	case typeKey:
		return &s.types
	}
	return nil
}

// put appends to a list that has room, and says whether it has.
func put(list *[]int32, v int32) bool {
	n := len(*list)
	if n == cap(*list) {
		return false
	}
	*list = (*list)[:n+1]
	(*list)[n] = v
	return true
}

// maxKey is the longest key. No element of FHIR has a name of more than a hundred letters.
const maxKey = 1<<16 - 1

// plain reads what is no string and no container, and returns its kind and where it ends.
func (s *scanner) plain(i uint) (kind Kind, end uint, err *Error) {
	switch s.src[i] {
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		kind = Number
		end, err = s.number(i)
	case 't':
		kind = Bool
		end, err = s.literal(i, "true")
	case 'f':
		kind = Bool
		end, err = s.literal(i, "false")
	case 'n':
		kind = Null
		end, err = s.literal(i, "null")
	default:
		err = refused(i, "not a value")
	}
	return kind, end, err
}

// hint is a number that is the same for plain ASCII keys that are equal but for case. Its highest bits differ for most others. Keys whose hints
// differ need not be compared. What is kept of it: in a container while it is read bits 20 to 31 (add), of an object bits 26 to 30 of all its keys (maskOf), of a member bits 16 to 22 of
// its own (keyTold), of which in a Layout bits 18 to 22 say where a member is (placeOf).
func hint(key string) uint32 {
	n := len(key)
	if n == 0 {
		return 0
	}
	return mix(key[0], key[n/2], key[n-1], n)
}

// hintIn is the hint of the key that is src[from:to]. It makes no slice, which would take longer than the rest.
func hintIn(src []byte, from, to uint) uint32 {
	if from >= to || to > uint(len(src)) {
		return 0
	}
	return mix(src[from], src[(from+to)/2], src[to-1], int(to-from))
}

func mix(first, middle, last byte, n int) uint32 {
	told := uint32(first) | uint32(middle)<<8 | uint32(last)<<16 | uint32(n)<<24
	return (told | 0x202020) * 0x9e3779b1
}

// What is told of the keys that Addresses, Codes and Resources look for.
var refTold, urlTold, codeTold, typeTold = keyTold(hint(refKey)), keyTold(hint(urlKey)), keyTold(hint(codeKey)), keyTold(hint(typeKey))

// maskOf is the bit of a hint in a token's mask.
func maskOf(hint uint32) uint32 { return 1 << (hint >> 26 & 31) }

// maskOfAll is the mask of keys that are known by the highest six bits of their hints.
func maskOfAll(one uint64) uint32 { return uint32(one) | uint32(one>>32) }

// uniqueKeys refuses an object in which two keys are equal but for case: encoding/json, among others, takes either for a field.
// Few members are compared pairwise, many by a set. Keys of different lengths are equal but for case only where not all are ASCII.
func (s *scanner) uniqueKeys(tape []token, self int32, ascii bool) *Error {
	key := func(i int32) []byte { return tape[i].key(s.src) }
	first, end := self+1, int32(len(tape))
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

// What str says of a string.
const (
	escaped = 1 << iota // it holds a backslash
	wide                // it is not plain ASCII
)

// str reads the string whose quotation mark is at open, and returns where it ends, behind its other quotation mark.
func (s *scanner) str(open uint) (end uint, flags uint8, err *Error) {
	src, size, begin, i := s.src, uint(len(s.src)), open+1, open+1
	for {
		at := i - s.from
		if at > part-64 {
			if i >= size {
				return 0, 0, refused(size, "text ends early")
			}
			s.look(i)
			at = 0
		}
		m := s.ahead(at % part) // at is in the part: this only tells the compiler, which then checks nothing
		if m == 0 {
			i += 64 - at%8
			continue
		}
		i += uint(bits.TrailingZeros64(m))
		switch c := src[i]; {
		case c == '"':
			if i-begin > uint(s.lim.StringBytes) {
				return 0, 0, refused(begin, "string too long")
			}
			return i + 1, flags, nil
		case c == '\\':
			flags |= escaped
			if i+1 < size && simple[src[i+1]] {
				i += 2
				continue
			}
			n, reason := escape(src[i:])
			if reason != "" {
				return 0, 0, refused(i, reason)
			}
			i += n
		case c < ' ':
			return 0, 0, refused(i, "control character in a string")
		default:
			flags |= wide
			r, n := utf8.DecodeRune(src[i:])
			if r == utf8.RuneError && n == 1 {
				return 0, 0, refused(i, "invalid UTF-8")
			}
			i += uint(n)
		}
	}
}

// simple are the letters that one backslash makes a character of.
var simple = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// escape returns the length of the escape sequence at the start of b, a surrogate pair counting as one.
func escape(b []byte) (uint, string) {
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

// number returns where the number that begins at begin ends.
func (s *scanner) number(begin uint) (uint, *Error) {
	src, size, i := s.src, uint(len(s.src)), begin
	if src[i] == '-' {
		i++
	}
	whole := i
	i = digits(src, i)
	good := i > whole && (i == whole+1 || src[whole] != '0')
	if good && i < size && src[i] == '.' {
		from := i + 1
		i = digits(src, from)
		good = i > from
	}
	if good && i < size && src[i]|0x20 == 'e' {
		from := i + 1
		if from < size && (src[from] == '+' || src[from] == '-') {
			from++
		}
		i = digits(src, from)
		good = i > from
	}
	switch {
	case !good:
		return 0, refused(i, "not a number")
	case i-begin > uint(s.lim.NumberBytes):
		return 0, refused(begin, "number too long")
	}
	return i, nil
}

// digits returns where the digits that begin at i end.
func digits(src []byte, i uint) uint {
	for i < uint(len(src)) && src[i] >= '0' && src[i] <= '9' {
		i++
	}
	return i
}

// literal returns where the word ends that MUST stand at begin.
func (s *scanner) literal(begin uint, word string) (uint, *Error) {
	if !strings.HasPrefix(view(s.src[begin:]), word) {
		return 0, refused(begin, "not a value")
	}
	return begin + uint(len(word)), nil
}
