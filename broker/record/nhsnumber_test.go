package record

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// valid are numbers of the range that is never issued.
var valid = []string{"9990000018", "9990000026", "9990000034", "9990000042", "9990000050", "9990000069", "9990000077", "9990000085",
	"9990000093", "9990000107", "9990000115", "9990000123", "9990000131", "9990000158"}

func TestParseNHSNumber(t *testing.T) {
	for i, s := range valid {
		n, err := ParseNHSNumber(s)
		if err != nil || n.Reveal() != s || n.IsZero() || !n.IsTest() {
			t.Errorf("number %d of the list is not taken for what it is", i)
		}
	}
	for name, s := range map[string]string{
		"empty": "", "nine digits": "999000001", "eleven digits": "99900000181", "wrong check digit": "9990000019",
		"check digit 10": "9990000140", "blank before": " 9990000018", "blank after": "9990000018 ", "blanks": "999 000 0018",
		"hyphens": "999-000-0018", "letter": "999000001X", "sign": "+999000001", "newline": "9990000018\n", "fullwidth digits": "９９９００００018",
		"arabic digits": "٩٩٩٠٠٠٠٠١٨", "zero byte": "999000001\x00", "not UTF-8": "999000001\xff",
		"zeros": "0000000000", "ones": "1111111111", "nines": "9999999999",
	} {
		n, err := ParseNHSNumber(s)
		if err != ErrNHSNumber || !n.IsZero() || n.Reveal() != "" {
			t.Errorf("%s: accepted, or another error than ErrNHSNumber", name)
		}
	}
	for d := '0'; d <= '9'; d++ { // each of them passes the sum, or not; none is issued
		if _, err := ParseNHSNumber(strings.Repeat(string(d), 10)); err == nil {
			t.Errorf("ten times %c is accepted", d)
		}
	}
}

// TestCheckDigit: of the ten last digits that nine others may have at most one is right, and it is the one that the published
// rule gives (NHS Data Dictionary, NHS NUMBER), worked out here the long way round.
func TestCheckDigit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stem := "999" + rapid.StringMatching(`[0-9]{6}`).Draw(t, "stem")
		sum := 0
		for i, weight := range []int{10, 9, 8, 7, 6, 5, 4, 3, 2} {
			digit, _ := strconv.Atoi(stem[i : i+1])
			sum += weight * digit
		}
		want := 11 - sum%11
		if want == 11 {
			want = 0
		}
		for last := range 10 {
			s := stem + strconv.Itoa(last)
			_, err := ParseNHSNumber(s)
			if accepted := err == nil; accepted != (last == want && s != "9999999999") {
				t.Errorf("last digit %d: accepted %t, the right one is %d", last, accepted, want)
			}
		}
	})
}

func TestOneDigitWrongOrTwoSwapped(t *testing.T) {
	for i, s := range valid {
		for at := range s {
			for d := byte('0'); d <= '9'; d++ {
				b := []byte(s)
				if b[at] == d {
					continue
				}
				b[at] = d
				if _, err := ParseNHSNumber(string(b)); err == nil {
					t.Errorf("number %d with another digit at %d is accepted", i, at)
				}
			}
			if at > 0 && s[at] != s[at-1] {
				b := []byte(s)
				b[at], b[at-1] = b[at-1], b[at]
				if _, err := ParseNHSNumber(string(b)); err == nil {
					t.Errorf("number %d with digits swapped at %d is accepted", i, at)
				}
			}
		}
	}
}

func TestNHSNumbersCompare(t *testing.T) {
	a, _ := ParseNHSNumber(valid[0])
	b, _ := ParseNHSNumber(strings.Clone(valid[0]))
	c, _ := ParseNHSNumber(valid[1])
	if a != b || a == c || a == (NHSNumber{}) {
		t.Error("equal numbers differ, or different ones are equal")
	}
	if m := map[NHSNumber]int{a: 1, c: 2}; m[b] != 1 {
		t.Error("a number does not find itself in a map")
	}
	if !(NHSNumber{}).IsZero() || (NHSNumber{}).IsTest() {
		t.Error("the zero value is a number")
	}
	if n, err := ParseNHSNumber("0000000019"); err != nil || n.IsTest() { // of a range that is not issued
		t.Error("a number outside the test range counts as one of it")
	}
}

func TestHoldsNHSNumber(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"alone":             {"9990000018", true},
		"in an id":          {"pat-9990000018-a", true},
		"at the end":        {"x9990000018", true},
		"after another run": {"123.9990000018", true},
		"second of two":     {"9990000019-9990000018", true},
		"eleven digits":     {"99900000180", false},
		"digit before":      {"19990000018", false},
		"wrong check digit": {"9990000019", false},
		"parted":            {"99900-00018", false},
		"empty":             {"", false},
		"no digits":         {"abc", false},
		"zeros":             {"0000000000", false},
	} {
		if got := HoldsNHSNumber(c.text); got != c.want {
			t.Errorf("%s: got %t, want %t", name, got, c.want)
		}
	}
}

func TestSpellsNHSNumber(t *testing.T) {
	for text, want := range map[string]bool{
		"9990000018": true, "x-9990000018": true, "999-000-0018": true, "999 000 0018": true, "999.000.0018": true, "999-000.0018": true, "enc-999-000-0018-a": true,
		"1-999-000-0018": true, "a999-000-0018b": true, "2026-999-000-0018": true,
		"999-0000018": true, "99900-00018": true, "9990-000-018": true, "99-90-00-00-18": true, "99-9000-0018": true, "9-9-9-0-0-0-0-0-1-8": true, "999_000_0018": true, "999:000:0018": true,
		"999--000-0018": true, "999 - 000 - 0018": true, "n999-000-0018": true, "999-000-0018-1": true, "req_99900-00018_2": true, "12-999-0000018": true,
		"999-000-0019": false, "1999-000-0018": false, "999-000-00180": false, "": false, "999-000-001": false, "999a000-0018": false, "999/000/0018": false, "999-x-0000018": false,
		"0f8fad5b-d9cb-469f-a165-70867728950e": false, "000-000-0000": false, "999-000 0018": true, "2026-11-30": false,
	} {
		if got := SpellsNHSNumber(text); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}

// However a number is grouped, it is found in whatever letters are around it.
func TestSpellsNHSNumberInAnyGroups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`([a-z0-9]{0,4}[a-z])?`).Draw(t, "before")
		for _, digit := range rapid.SampledFrom(valid).Draw(t, "number") {
			s += string(digit) + rapid.StringMatching(`[-_. :]{0,2}`).Draw(t, "parted by")
		}
		if s += rapid.StringMatching(`([a-z][a-z0-9]{0,4})?`).Draw(t, "after"); !SpellsNHSNumber(s) {
			t.Errorf("a number is not found in %q", s)
		}
	})
}

// Ids that are made at random hardly ever look as if they held a number: a letter ends what may be one.
func TestSpellsNHSNumberInUUIDs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same ones each time
	const n = 100_000
	found := 0
	for range n {
		a, b := random.Uint64(), random.Uint64()
		if SpellsNHSNumber(fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)) {
			found++
		}
	}
	if found > n/200 {
		t.Errorf("%d of %d UUIDs are taken for a number", found, n)
	}
}

func FuzzParseNHSNumber(f *testing.F) {
	for _, s := range append([]string{"", "0000000000", "9990000019", "999 000 0018", "９９９0000018"}, valid...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNHSNumber(s)
		if err != nil {
			if !errors.Is(err, ErrNHSNumber) || !n.IsZero() {
				t.Error("another error, or a number with it")
			}
			if len(s) == 10 && HoldsNHSNumber(s) {
				t.Error("a number is found in what is none")
			}
			return
		}
		if n.Reveal() != s || !HoldsNHSNumber(s) || !HoldsNHSNumber("a"+s+"b") || !SpellsNHSNumber(s) || !SpellsNHSNumber(s[:3]+" "+s[3:6]+"-"+s[6:]) || HoldsNHSNumber("0"+s) {
			t.Error("a number is not what it was read from")
		}
	})
}
