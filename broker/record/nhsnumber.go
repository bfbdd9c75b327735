package record

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unique"
)

// NHSNumberSystem is the identifier system of NHS numbers in England, Wales and the Isle of Man.
const NHSNumberSystem = "https://fhir.nhs.uk/Id/nhs-number"

// ErrNHSNumber is returned for text that is not an NHS number. Its text says what to do and never repeats the input.
var ErrNHSNumber = errors.New("not an NHS number: give ten digits whose last is the right check digit")

const redacted = "NHSNumber(redacted)"

// NHSNumber is a valid NHS number, or the zero value for none. It is comparable.
// It cannot be printed: fmt, slog and encoding/json show a fixed word. The digits sit
// behind a unique.Handle because fmt does not call methods on unexported fields of a
// struct that holds one, and would print a plain string.
type NHSNumber struct{ digits unique.Handle[string] }

// ParseNHSNumber accepts exactly ten ASCII digits that pass modulus 11
// (NHS Data Dictionary, NHS NUMBER: weights 10 to 2, check digit 11 less the remainder, 11 counts as 0, 10 is invalid)
// and refuses one digit repeated ten times, which passes the sum but is never issued. The error is always [ErrNHSNumber].
func ParseNHSNumber(s string) (NHSNumber, error) {
	if !validNHSNumber(s) {
		return NHSNumber{}, ErrNHSNumber
	}
	return NHSNumber{unique.Make(s)}, nil
}

func validNHSNumber(s string) bool {
	if len(s) != 10 {
		return false
	}
	sum, same := 0, true
	for i := range 10 {
		c := s[i]
		if c < '0' || c > '9' {
			return false
		}
		same = same && c == s[0]
		if i < 9 {
			sum += int(c-'0') * (10 - i)
		}
	}
	check := (11 - sum%11) % 11
	return !same && check != 10 && int(s[9]-'0') == check
}

// HoldsNHSNumber reports whether s has a run of exactly ten digits that passes the NHS number check.
func HoldsNHSNumber(s string) bool {
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && s[j] >= '0' && s[j] <= '9' {
			j++
		}
		if j-i == 10 && validNHSNumber(s[i:j]) {
			return true
		}
		i = j + 1
	}
	return false
}

// SpellsNHSNumber reports whether s holds an NHS number as people and systems write it: in a run of ten digits, or in groups of any size that are ten digits together,
// with dashes, underscores, dots, colons or blanks between them. It begins and ends where a group does; a letter ends it. It is for what a caller makes up and we
// repeat or write down. Ids that others gave are judged by [HoldsNHSNumber] (M-5): one in eleven that merely looks like this would be no id any more.
func SpellsNHSNumber(s string) bool {
	for i := range len(s) {
		if isDigit(s[i]) && (i == 0 || !isDigit(s[i-1])) && beginsWithNHSNumber(s[i:]) {
			return true
		}
	}
	return false
}

// beginsWithNHSNumber reports whether the first groups of digits in s are ten together, and an NHS number.
func beginsWithNHSNumber(s string) bool {
	digits := make([]byte, 0, 10)
	for i := range len(s) {
		switch {
		case isDigit(s[i]):
			digits = append(digits, s[i])
		case strings.IndexByte("-_.: ", s[i]) < 0:
			return false
		}
		if len(digits) == 10 {
			return (i+1 == len(s) || !isDigit(s[i+1])) && validNHSNumber(string(digits))
		}
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// Reveal returns the ten digits, or "" for the zero value. Only encoders, adapters and the ledger's codec call it.
func (n NHSNumber) Reveal() string {
	if n.IsZero() {
		return ""
	}
	return n.digits.Value()
}

// IsZero reports whether n is no number.
func (n NHSNumber) IsZero() bool { return n == NHSNumber{} }

// IsTest reports whether n is of the range 999 000 0000 to 999 999 9999, reserved for testing and never issued.
func (n NHSNumber) IsTest() bool { return !n.IsZero() && n.Reveal()[:3] == "999" }

// String returns a fixed word.
func (n NHSNumber) String() string { return redacted }

// GoString returns a fixed word.
func (n NHSNumber) GoString() string { return redacted }

// Format writes a fixed word for every verb.
func (n NHSNumber) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// MarshalText returns a fixed word, so that no encoder writes a number by accident.
func (n NHSNumber) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns a fixed word.
func (n NHSNumber) LogValue() slog.Value { return slog.StringValue(redacted) }
