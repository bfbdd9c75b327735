// Package fhirjson reads foreign FHIR JSON strictly, without copying it, and rewrites chosen bytes of it.
//
// A [Doc] is a custodian's text with an index of its values beside it. Nothing is decoded into structures, so nothing is
// lost: number text, white space, unknown elements and primitive extensions stay as they came (M-1). What two readers
// could read in two ways is refused (M-2): duplicate keys, keys that differ only in case, escaped keys, invalid UTF-8,
// lone surrogates, trailing data, and anything over a cap. Errors say what and at which byte, never which content.
package fhirjson

import (
	"bytes"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// Limits are the caps on one text. A zero field means the default.
type Limits struct {
	Depth       int // nesting; 64
	StringBytes int // one string as written, without quotes; 4 MiB
	NumberBytes int // one number as written; 128
	Values      int // values in the text; 8,000,000
}

// Default holds the caps of R-7.
var Default = Limits{Depth: 64, StringBytes: 4 << 20, NumberBytes: 128, Values: 8_000_000}

func (l Limits) orDefault() Limits {
	pick := func(v, d int) int {
		if v > 0 {
			return v
		}
		return d
	}
	return Limits{pick(l.Depth, Default.Depth), pick(l.StringBytes, Default.StringBytes),
		pick(l.NumberBytes, Default.NumberBytes), pick(l.Values, Default.Values)}
}

// An Error says why a text was refused and where. It holds nothing of the text.
type Error struct {
	Reason string // of a fixed list in this package
	Offset int    // byte in the text
}

// Error returns the reason and the offset.
func (e *Error) Error() string { return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset) }

// capped are the reasons that are caps of ours; every other means that the text cannot be read.
var capped = map[string]bool{"nested too deep": true, "string too long": true, "number too long": true, "too many values": true, "text too long": true}

// Capped reports whether the text was refused because it is more than a cap allows.
func (e *Error) Capped() bool { return capped[e.Reason] }

// Kind is the JSON type of a value.
type Kind uint8

// The kinds. Absent is that of the zero Value.
const (
	Absent Kind = iota
	Object
	Array
	String
	Number
	Bool
	Null
)

// token is one value of the text: its bytes, and the index just past all that it contains.
type token struct {
	start, end int32
	keyStart   int32 // the member's key without quotes; empty in arrays and at the root
	next       int32
	mask       uint32 // of an object: the hints of its keys, so that most keys that it has not are known without looking at those that it has; all if one is not ASCII
	keyLen     uint16
	kind       Kind
	told       uint8 // some bits of the key's hint, by which most keys of one length are told apart; the top one says of a string that it holds a backslash
}

const (
	hasEscapes = 1 << 7
	keyBits    = hasEscapes - 1
)

func (t *token) escaped() bool { return t.told&hasEscapes != 0 }

// keyTold is what a token says of its key.
func keyTold(hint uint32) uint8 { return uint8(hint>>16) & keyBits }

func (t *token) key(src []byte) []byte { return src[t.keyStart : t.keyStart+int32(t.keyLen)] }

// Doc is an indexed text. It is immutable and safe for concurrent reading. It keeps the text alive.
type Doc struct {
	src       []byte
	tape      []token
	addresses []int32 // see Value.Addresses
	codes     []int32 // see Value.Codes
	types     []int32 // see Value.Resources
	misshapen bool
}

// Misshapen reports whether the text holds what stands nowhere in FHIR, and what would hide what it says from who looks for it: an array in an array, or a member `code` that is a
// number, true or false, or a list of anything but objects.
func (d *Doc) Misshapen() bool { return d.misshapen }

// Parse indexes src, which MUST NOT change afterwards. The error is always an [*Error].
func Parse(src []byte, lim Limits) (*Doc, error) {
	if len(src) > math.MaxInt32-1 {
		return nil, &Error{"text too long", 0}
	}
	n := guess(src)
	first, second, places := n/oneAddress+4, n/oneCode+4, make([]int32, n/oneAddress+n/oneCode+n/oneType+12)
	s := scanner{src: src, lim: lim.orDefault(), tape: make([]token, 0, n),
		addresses: places[:0:first], codes: places[first : first : first+second], types: places[first+second : first+second]}
	// What is indexed takes memory too: a text of little but brackets and commas would take twelve times its own. FHIR has some twenty bytes for a value.
	s.lim.Values = min(s.lim.Values, fewValues+len(src)/leastBytes)
	if err := s.scan(); err != nil {
		return nil, err
	}
	return &Doc{src, s.tape, s.addresses, s.codes, s.types, s.misshapen || s.lists && s.codeLists()}, nil
}

// codeLists reports whether any member code is a list of anything but objects.
func (s *scanner) codeLists() bool {
	for i := range s.tape {
		if t := &s.tape[i]; t.kind != Array || string(t.key(s.src)) != codeKey {
			continue
		}
		for e := int32(i) + 1; e < s.tape[i].next; e = s.tape[e].next {
			if kind := s.tape[e].kind; kind != Object && kind != Null {
				return true
			}
		}
	}
	return false
}

// A text may have fewValues values, and one more for every leastBytes.
const (
	fewValues  = 4096
	leastBytes = 4
)

// Of about so many values in FHIR one is an address, one a code, and one the type of a resource: see Value.Addresses. Where there are more, their lists grow.
const (
	oneAddress = 12
	oneCode    = 16
	oneType    = 32
)

// guess says how many values a text may have, by what begins or parts them in a few places of it. It is for the tape's first size only, so
// it is never far beyond what ordinary text has: the cap on values is the scanner's.
func guess(src []byte) int {
	const places, size = 4, 4 << 10
	if len(src) <= places*size {
		return count(src) + 1
	}
	n := 0
	for i := range places {
		at := (len(src) - size) / (places - 1) * i
		n += count(src[at : at+size])
	}
	return min(n*(len(src)/(places*size)+1)/8*9, len(src)/12) + 8
}

func count(b []byte) int {
	return min(bytes.Count(b, []byte{','})+bytes.Count(b, []byte{'{'})+bytes.Count(b, []byte{'['}), len(b)/4)
}

// References returns how many strings [Value.Addresses] finds in the text.
func (d *Doc) References() int { return len(d.addresses) }

// Root returns the outermost value.
func (d *Doc) Root() Value { return Value{d, 0} }

// Value is one value of a Doc. The zero Value is absent: every method may be called on it.
type Value struct {
	doc *Doc
	i   int32
}

func (v Value) tok() *token { return &v.doc.tape[v.i] }

// Exists reports whether v is in the text.
func (v Value) Exists() bool { return v.doc != nil }

// Kind returns the JSON type, Absent for the zero Value.
func (v Value) Kind() Kind {
	if v.doc == nil {
		return Absent
	}
	return v.tok().kind
}

// Doc returns the text that v is in, nil for the zero Value.
func (v Value) Doc() *Doc { return v.doc }

// Start returns the offset of v's first byte in its Doc's text.
func (v Value) Start() int { return int(v.tok().start) }

// End returns the offset just past v's last byte.
func (v Value) End() int { return int(v.tok().end) }

// KeyStart returns the offset of the opening quotation mark of v's key; v MUST be a member of an object.
func (v Value) KeyStart() int { return int(v.tok().keyStart) - 1 }

// Key returns the key of a member, "" for the root and for elements of an array.
func (v Value) Key() string {
	if v.doc == nil {
		return ""
	}
	t := v.tok()
	return string(t.key(v.doc.src))
}

// KeyView is Key without a copy: see View.
func (v Value) KeyView() string {
	if v.doc == nil {
		return ""
	}
	t := v.tok()
	return view(t.key(v.doc.src))
}

// KeyIs reports whether v is a member with that key. It makes no string.
func (v Value) KeyIs(key string) bool {
	if v.doc == nil {
		return false
	}
	t := v.tok()
	return string(t.key(v.doc.src)) == key
}

// Raw returns v's bytes as they stand in the text. They MUST NOT be changed.
func (v Value) Raw() []byte {
	if v.doc == nil {
		return nil
	}
	t := v.tok()
	return v.doc.src[t.start:t.end:t.end]
}

// Text returns the decoded string, "" if v is no string.
func (v Value) Text() string {
	if v.Kind() != String {
		return ""
	}
	t := v.tok()
	raw := v.doc.src[t.start+1 : t.end-1]
	if !t.escaped() {
		return string(raw)
	}
	return unescape(raw)
}

// View is Text without a copy where none is needed: the string shares the text's memory and keeps all of it alive, so it is for looking at, not for
// keeping.
func (v Value) View() string {
	if v.doc == nil {
		return ""
	}
	t := &v.doc.tape[v.i]
	if t.kind != String || t.escaped() {
		return v.Text()
	}
	return view(v.doc.src[t.start+1 : t.end-1])
}

// view is b as a string. It is sound because a Doc's text never changes (Parse).
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } //nolint:gosec // measured: a copy for each look is a third of a merge

// Is reports whether v is the string s.
func (v Value) Is(s string) bool {
	if v.Kind() != String {
		return false
	}
	if t := v.tok(); !t.escaped() {
		return string(v.doc.src[t.start+1:t.end-1]) == s
	}
	return v.Text() == s
}

// True reports whether v is the literal true.
func (v Value) True() bool { return v.Kind() == Bool && v.doc.src[v.tok().start] == 't' }

// Get returns the member with that key, the zero Value if v is no object or has none.
func (v Value) Get(key string) Value {
	if v.doc == nil {
		return Value{}
	}
	s := stepOf(key)
	if m := v.doc.member(v.i, &s); m >= 0 {
		return Value{v.doc, m}
	}
	return Value{}
}

// may reports whether v is an object that may have a member with that key, or one that is equal but for case where the key is ASCII.
func (v Value) may(key string) bool {
	if v.doc == nil {
		return false
	}
	t := v.tok()
	return t.kind == Object && t.mask&maskOf(hint(key)) != 0
}

// Variant reports whether v has a member whose key differs from one of the keys only in case. FHIR's names are case-sensitive, but not every
// reader's are: whoever adds a member to an object must look that there is no variant of it. Keys MUST be ASCII.
func (v Value) Variant(keys ...string) bool {
	for _, key := range keys {
		if v.variant(key) {
			return true
		}
	}
	return false
}

func (v Value) variant(key string) bool {
	if !v.may(key) || v.Get(key).Exists() { // an object that has the key has no variant of it: Parse refuses that
		return false
	}
	tape, src := v.doc.tape, v.doc.src
	for i, end := v.i+1, v.tok().next; i < end; i = tape[i].next {
		k := view(tape[i].key(src))
		if k == "" || key == "" || k[0]|0x20 != key[0]|0x20 && k[0] < utf8.RuneSelf && key[0] < utf8.RuneSelf {
			continue
		}
		if k != key && strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

// At follows keys through objects; where an array stands in the way its first element is taken.
func (v Value) At(keys ...string) Value {
	for _, k := range keys {
		v = v.First().Get(k)
	}
	return v
}

// First returns v itself, or its first element if v is an array.
func (v Value) First() Value {
	if v.Kind() != Array {
		return v
	}
	for e := range v.Elems() {
		return e
	}
	return Value{}
}

// Members yields the members of an object in the order of the text. The keys are views: see View.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != Object {
			return
		}
		tape, src := v.doc.tape, v.doc.src
		for i, end := v.i+1, v.tok().next; i < end; i = tape[i].next {
			if !yield(view(tape[i].key(src)), Value{v.doc, i}) {
				return
			}
		}
	}
}

// Elems yields the elements of an array; of any other value that exists, the value itself.
func (v Value) Elems() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != Array {
			if v.Exists() {
				yield(v)
			}
			return
		}
		tape := v.doc.tape
		for i, end := v.i+1, v.tok().next; i < end; i = tape[i].next {
			if !yield(Value{v.doc, i}) {
				return
			}
		}
	}
}

// Len returns how many members or elements v has.
func (v Value) Len() int {
	n := 0
	if k := v.Kind(); k == Array || k == Object {
		tape := v.doc.tape
		for i, end := v.i+1, v.tok().next; i < end; i = tape[i].next {
			n++
		}
	}
	return n
}

// Walk calls f for v and everything in it, in the order of the text, with the key of the member (that of the array for
// elements). Where f returns false, Walk does not go into that value.
func (v Value) Walk(f func(key string, v Value) bool) { walk("", v, f) }

func walk(key string, v Value, f func(string, Value) bool) {
	if !f(key, v) {
		return
	}
	switch v.Kind() {
	case Object:
		for k, m := range v.Members() {
			walk(k, m, f)
		}
	case Array:
		for e := range v.Elems() {
			walk(key, e, f)
		}
	}
}

// Visit calls f for v and everything in it, in the order of the text, with the containers around each value, v outermost.
// The slice is valid until f returns. Where f returns false, Visit does not go into that value. Unlike Walk it makes no strings.
func (v Value) Visit(f func(around []Value, x Value) bool) {
	v.VisitOn(make([]Value, 0, 16), f)
}

// VisitOn is Visit with the memory for the containers. It returns that memory, which may have grown, for the next call.
func (v Value) VisitOn(around []Value, f func(around []Value, x Value) bool) []Value {
	around = around[:0]
	if v.doc == nil {
		return around
	}
	tape := v.doc.tape
	for i, end := v.i, v.tok().next; i < end; {
		for len(around) > 0 && i >= around[len(around)-1].tok().next {
			around = around[:len(around)-1]
		}
		x := Value{v.doc, i}
		if !f(around, x) {
			i = tape[i].next
			continue
		}
		if k := tape[i].kind; k == Object || k == Array {
			around = append(around, x)
		}
		i++
	}
	return around
}

// What Addresses, Codes and Resources find: every Reference of FHIR R4 has its address in the first, every Attachment in the second, every Coding its code in
// the third, every resource its type in the fourth.
const (
	refKey  = "reference"
	urlKey  = "url"
	codeKey = "code"
	typeKey = "resourceType"
)

// Addresses calls f for every string in v that is a member `reference` or `url`, in the order of the text, with the containers around it, v
// outermost. The slice is valid until f returns. around is memory for it, and returned, which may have grown, for the next call. Nothing is looked at
// that holds none of them.
func (v Value) Addresses(around []Value, f func(around []Value, x Value)) []Value {
	if v.doc == nil {
		return around
	}
	return v.noted(v.doc.addresses, around, f)
}

// Codes is Addresses for the strings that are a member `code`.
func (v Value) Codes(around []Value, f func(around []Value, x Value)) []Value {
	if v.doc == nil {
		return around
	}
	return v.noted(v.doc.codes, around, f)
}

// Resources returns how many objects in v, v among them, have a string as their member `resourceType`: v itself, if it is a resource, and all that it holds.
func (v Value) Resources() int {
	if v.doc == nil {
		return 0
	}
	from, _ := slices.BinarySearch(v.doc.types, v.i+1)
	to, _ := slices.BinarySearch(v.doc.types[from:], v.tok().next)
	return to
}

// noted walks from each of the list to the next: what is between them is stepped over, and never twice.
func (v Value) noted(list []int32, around []Value, f func(around []Value, x Value)) []Value {
	tape := v.doc.tape
	from, _ := slices.BinarySearch(list, v.i)
	around = around[:0]
	at := v.i // not behind the next one, on the level below around
	for _, to := range list[from:] {
		if to >= tape[v.i].next {
			break
		}
		for len(around) > 0 && tape[around[len(around)-1].i].next <= to {
			at, around = around[len(around)-1].i, around[:len(around)-1]
		}
		for {
			for tape[at].next <= to {
				at = tape[at].next
			}
			if at == to {
				break
			}
			around = append(around, Value{v.doc, at})
			at++
		}
		if len(around) > 0 { // else v is the string itself, and nothing is around it
			f(around, Value{v.doc, to})
		}
	}
	return around
}

// An Edit replaces the bytes [Start, End) of a text by New. Start == End inserts.
type Edit struct {
	Start, End int
	New        []byte
}

// Rewrite returns the bytes of v with the edits applied; offsets are those of v's Doc. Edits MUST lie within v and MUST NOT
// overlap; they may come in any order, and those at one offset keep theirs. The result is a fresh copy.
func (v Value) Rewrite(edits []Edit) []byte {
	return v.AppendRewrite(make([]byte, 0, v.RewriteSize(edits)), edits)
}

// RewriteSize returns how many bytes Rewrite gives.
func (v Value) RewriteSize(edits []Edit) int {
	size := v.End() - v.Start()
	for _, e := range edits {
		size += len(e.New) - (e.End - e.Start)
	}
	return size
}

// AppendRewrite appends to out what Rewrite returns.
func (v Value) AppendRewrite(out []byte, edits []Edit) []byte {
	for i := 1; i < len(edits); i++ {
		if edits[i].Start < edits[i-1].Start {
			slices.SortStableFunc(edits, func(a, b Edit) int { return a.Start - b.Start })
			break
		}
	}
	at := v.Start()
	for _, e := range edits {
		if e.Start < at || e.End < e.Start || e.End > v.End() {
			panic("fhirjson: edits overlap or leave the value")
		}
		out = append(append(out, v.doc.src[at:e.Start]...), e.New...)
		at = e.End
	}
	return append(out, v.doc.src[at:v.End()]...)
}

// word is the first eight bytes of s, lowest first.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// special returns a word whose lowest set bit is in the first of eight bytes, lowest first, that a string cannot go over without a look: a
// quotation mark, a backslash, a control character, a byte beyond ASCII. It is zero if there is none. With one bit of each byte turned over, the
// quotation mark stands right behind the control characters, so that one subtraction finds both. A byte that borrows from the next one is such
// a byte itself, so the first is never wrong.
func special(w uint64) uint64 {
	const turned = '"' ^ ' '
	return (((w ^ turned*ones) - (' '+1)*ones) | ((w ^ '\\'*ones) - ones) | w) & tops
}

// Quote returns s as a JSON string with quotation marks. Invalid UTF-8 in s becomes U+FFFD.
func Quote(s string) []byte { return AppendQuote(make([]byte, 0, len(s)+2), s) }

// AppendQuote appends to out what Quote returns for the parts, one after the other, as one string.
func AppendQuote(out []byte, parts ...string) []byte {
	out = append(out, '"')
	for _, s := range parts {
		out = appendEscaped(out, s)
	}
	return append(out, '"')
}

// appendEscaped appends s as it stands between quotation marks.
func appendEscaped(out []byte, s string) []byte {
	const hex = "0123456789abcdef"
	from := 0 // what is in front of it has been written
	for i := 0; i < len(s); {
		if i+8 <= len(s) {
			m := special(word(s[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		switch c := s[i]; {
		case c == '"' || c == '\\':
			out = append(append(out, s[from:i]...), '\\', c)
			i++
			from = i
		case c < ' ':
			out = append(append(out, s[from:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
			from = i
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				out = utf8.AppendRune(append(out, s[from:i]...), r)
				from = i + 1
			}
			i += n
		}
	}
	return append(out, s[from:]...)
}

func unescape(raw []byte) string {
	var b strings.Builder
	b.Grow(len(raw))
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			b.Write(raw)
			break
		}
		b.Write(raw[:i])
		r, n := character(raw[i:])
		b.WriteRune(r)
		raw = raw[i+n:]
	}
	return b.String()
}

// character returns the first one that b says, and how many bytes of b say it.
func character(b []byte) (rune, int) {
	if b[0] != '\\' {
		return utf8.DecodeRune(b)
	}
	switch c := b[1]; c {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		if r := hex4(b[2:]); !utf16.IsSurrogate(r) {
			return r, 6
		}
		return utf16.DecodeRune(hex4(b[2:]), hex4(b[8:])), 12 // the scanner has seen that the other half follows
	default:
		return rune(c), 2
	}
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
