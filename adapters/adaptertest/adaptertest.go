// Package adaptertest says what every adapter must do, and finds out whether it does.
//
// [Check] asks a real custodian about one person and judges the answer against the contract of broker.Source; `broker source check` runs it.
// [Run] drives an adapter against a simulated custodian through every fault of design section 9 and expects the state of section 6; each
// adapter's own tests run it. [Faults] is that table.
//
// The package does not import testing, because the daemon links it. Nothing that it says holds text from outside, an address, or anything of
// a person.
package adaptertest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Finding is one thing that is not as it must be.
type Finding struct {
	Rule   string // what must hold, of a fixed list
	Detail string // what was found instead, or ""; no patient data
}

// String returns both.
func (f Finding) String() string {
	if f.Detail == "" {
		return "not so: " + f.Rule
	}
	return "not so: " + f.Rule + " (" + f.Detail + ")"
}

// Fault is a way in which a custodian goes wrong (design section 9).
type Fault string

// The faults.
const (
	None          Fault = "none"
	Down          Fault = "down"
	Hang          Fault = "hang"
	Slow          Fault = "slow"
	Trickle       Fault = "trickle"
	Error500      Fault = "error500"
	Throttle429   Fault = "throttle429"
	Unauthorised  Fault = "unauthorised"
	Garbage       Fault = "garbage"
	Truncated     Fault = "truncated"
	Huge          Fault = "huge"
	GzipBomb      Fault = "gzip-bomb"
	Deep          Fault = "deep"
	DuplicateKeys Fault = "duplicate-keys"
	BadUTF8       Fault = "bad-utf8"
	WrongPatient  Fault = "wrong-patient"
	MixedPatients Fault = "mixed-patients"
	PageLoop      Fault = "page-loop"
	PageElsewhere Fault = "page-elsewhere"
	NoRecord      Fault = "no-record"
	NoConsent     Fault = "no-consent"
)

// Expectation is what must become of a custodian with a fault.
type Expectation struct {
	Fault Fault
	State record.State // design section 6
	// Errors are the sentinels that Fetch may return, one of them. None: Fetch returns a reply.
	Errors []error
	// Alone reports that the fault befalls one request without saying anything of others: an adapter that reads a record by several requests
	// may return the rest with a part that names what is missing.
	Alone bool
}

// Faults is the table of design section 6, for faults that last: slow is meant within the custodian's time.
func Faults() []Expectation {
	malformed, tooMuch := []error{broker.ErrMalformed}, []error{broker.ErrTooMuch}
	return []Expectation{
		{None, record.Returned, nil, false},
		{Slow, record.Returned, nil, false},
		{NoRecord, record.NoRecord, []error{broker.ErrNoRecord}, true},
		{NoConsent, record.Withheld, []error{broker.ErrWithheld}, true},
		{Hang, record.TimedOut, []error{broker.ErrTimedOut}, false},
		{Trickle, record.TimedOut, []error{broker.ErrTimedOut}, false},
		{Down, record.Unavailable, []error{broker.ErrUnavailable}, false},
		{Throttle429, record.Unavailable, []error{broker.ErrThrottled}, false},
		{Error500, record.Failed, malformed, true},
		{Garbage, record.Failed, malformed, false},
		{Truncated, record.Failed, malformed, false},
		{Huge, record.Failed, tooMuch, false},
		{GzipBomb, record.Failed, tooMuch, false},
		{Deep, record.Failed, []error{broker.ErrTooMuch, broker.ErrMalformed}, false},
		{DuplicateKeys, record.Failed, malformed, false},
		{BadUTF8, record.Failed, malformed, false},
		{PageLoop, record.Failed, []error{broker.ErrMalformed, broker.ErrTooMuch}, false},
		{PageElsewhere, record.Failed, []error{broker.ErrElsewhere}, false},
		{Unauthorised, record.Failed, []error{broker.ErrUnauthorised}, false},
		{WrongPatient, record.Failed, []error{broker.ErrWrongSubject}, false},
		{MixedPatients, record.ReturnedInPart, nil, false},
	}
}

// sentinels is the closed list of broker/source.go.
var sentinels = [...]error{broker.ErrNoRecord, broker.ErrWithheld, broker.ErrTimedOut, broker.ErrUnavailable, broker.ErrThrottled, broker.ErrUnauthorised,
	broker.ErrMalformed, broker.ErrTooMuch, broker.ErrWrongSubject, broker.ErrElsewhere, broker.ErrPanicked}

// name returns what an error is, in words of ours.
func name(err error) string {
	if err == nil {
		return "a reply"
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s.Error()
		}
	}
	return fmt.Sprintf("an error of type %T that wraps no sentinel", err)
}

// plain reports whether an error's text is one of the sentinels', or of a context's end: then nothing from outside is in it.
func plain(err error) bool {
	text := err.Error()
	return text == "context canceled" || text == "context deadline exceeded" ||
		slices.ContainsFunc(sentinels[:], func(s error) bool { return s.Error() == text })
}

// count returns how many sentinels err wraps.
func count(err error) int {
	n := 0
	for _, s := range sentinels {
		if errors.Is(err, s) {
			n++
		}
	}
	return n
}
