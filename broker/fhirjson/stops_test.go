package fhirjson

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// bothWays is Parse with what the machine has for many bytes at once and without, and once more so far behind white space that a new part begins
// within the text. What comes out MUST be the same.
func bothWays(t testing.TB, text []byte, lim Limits) (*Doc, error) {
	t.Helper()
	d, err := Parse(text, lim)
	same := func(text []byte, by int) {
		t.Helper()
		other, otherErr := Parse(text, lim)
		var a, b *Error
		if errors.As(err, &a) != errors.As(otherErr, &b) || a != nil && (a.Reason != b.Reason || a.Offset+by != b.Offset) {
			t.Fatalf("%v one way, %v the other, %d bytes further on", err, otherErr, by)
		}
		if err != nil {
			return
		}
		tape := slices.Clone(d.tape)
		for i := range tape {
			tape[i].start += int32(by)
			tape[i].end += int32(by)
			if tape[i].keyStart != 0 {
				tape[i].keyStart += int32(by)
			}
		}
		if !slices.Equal(tape, other.tape) || !slices.Equal(d.addresses, other.addresses) || !slices.Equal(d.codes, other.codes) {
			t.Fatalf("what is indexed is not the same %d bytes further on", by)
		}
	}
	wordwise = true
	same(text, 0)
	wordwise = false
	if len(text) < fewValues { // else it may have more values, behind so much
		by := part - len(text)/2
		same(append([]byte(strings.Repeat(" ", by)), text...), by)
	}
	return d, err
}

func stopsAt(b byte) bool { return b == '"' || b == '\\' || b < ' ' || b >= 0x80 }

// marksAreRight holds what is noted of a part, in both ways, against a look at each byte.
func marksAreRight(t *testing.T, text []byte, from int) {
	t.Helper()
	for _, wordwise = range []bool{true, false} {
		s := scanner{src: text}
		for i := range part / 8 { // as a part before may have left it
			s.marks[i] = 0xff
		}
		s.look(uint(from))
		for at := range len(s.marks) * 8 {
			got := s.marks[at/8]>>(at%8)&1 != 0
			if want := at < part && from+at < len(text) && stopsAt(text[from+at]); got != want {
				t.Fatalf("wordwise %v: of %d bytes from %d on the one at %d is marked %v", wordwise, len(text), from, at, got)
			}
		}
	}
}

func TestMarks(t *testing.T) {
	// every byte at every place of a block, beside what is marked and what is not
	text := make([]byte, 64)
	for _, beside := range []byte{' ', 'x', '"', '\\', 0, 0x1f, 0x7f, 0x80, 0xff} {
		for i := range text {
			text[i] = beside
		}
		for at := range text {
			for b := range 256 {
				text[at] = byte(b)
				for _, mark := range []func(*marks, []byte){markWords, markBlocks} {
					var got marks
					mark(&got, text)
					for i, c := range text {
						if got[i/8]>>(i%8)&1 != 0 != stopsAt(c) {
							t.Fatalf("%#x at %d among %#x: the mark of the byte at %d is wrong", b, at, beside, i)
						}
					}
				}
			}
			text[at] = beside
		}
	}
	// every length around that of a block and of a part, and parts that begin anywhere
	long := make([]byte, 2*part+200)
	for i := range long {
		long[i] = byte(rand.Uint32())
		if i%3 > 0 {
			long[i] = '!' + long[i]%0x5f
		}
	}
	for _, around := range []int{0, 64, 128, part - 64, part, part + 64, 2 * part} {
		for n := max(0, around-66); n <= around+66; n++ {
			marksAreRight(t, long[:n], 0)
			marksAreRight(t, long[:n], n/2)
			marksAreRight(t, long[:n], n)
		}
	}
}

// TestStringsOfEveryLength has strings, and keys, of every length that ends within a part or not, with every kind of byte that is looked at in every
// place.
func TestStringsOfEveryLength(t *testing.T) {
	for n := range 200 {
		plain := strings.Repeat("x", n)
		if v := both(t, `{"`+plain+`":"`+plain+`"}`); v.Get(plain).Text() != plain {
			t.Fatalf("of %d bytes", n)
		}
		for at := 0; at < n; at += 1 + at/8 {
			for _, in := range []string{`\"`, `\\`, `\u00e9`, "é", "😀", "\x7f"} {
				written := plain[:at] + in + plain[at:]
				if v := both(t, `["`+written+`","y"]`); v.Len() != 2 || string(v.First().Raw()) != `"`+written+`"` {
					t.Fatalf("%s at %d of %d bytes", in, at, n)
				}
			}
			for _, in := range []string{"\n", "\x00", "\x80", "\xc3"} {
				var e *Error
				if _, err := bothWays(t, []byte(`["`+plain[:at]+in+plain[at:]+`","y"]`), Limits{}); !errors.As(err, &e) || e.Offset != 2+at {
					t.Fatalf("%q at %d of %d bytes: %v", in, at, n, e)
				}
			}
		}
		for most := max(1, n-2); most <= n+2; most++ {
			for _, text := range []string{`["` + plain + `"]`, `{"` + plain + `":1}`} {
				if _, err := bothWays(t, []byte(text), Limits{StringBytes: most}); (err == nil) != (n <= most) {
					t.Fatalf("%d bytes where %d are the most: %v", n, most, err)
				}
			}
		}
	}
}

// TestStringsAroundTheEndOfAPart has short and long strings at every place around it.
func TestStringsAroundTheEndOfAPart(t *testing.T) {
	for before := part - 140; before < part+140; before++ {
		for _, s := range []string{"", "y", strings.Repeat("z", 60)} {
			got := []string{}
			parse(t, `[1,`+strings.Repeat(" ", before)+`"`+s+`","x",{"`+s+`":"`+s+`"}]`).Visit(func(_ []Value, x Value) bool {
				if x.Kind() == String {
					got = append(got, x.Key()+":"+x.Text())
				}
				return true
			})
			if want := []string{":" + s, ":x", s + ":" + s}; !slices.Equal(got, want) {
				t.Fatalf("behind %d spaces: %q", before, got)
			}
		}
	}
}

func both(t *testing.T, text string) Value {
	t.Helper()
	d, err := bothWays(t, []byte(text), Limits{})
	if err != nil {
		t.Fatalf("%s refused: %v", text, err)
	}
	return d.Root()
}
