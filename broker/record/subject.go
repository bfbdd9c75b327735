package record

import (
	"fmt"
	"log/slog"
)

// Standing is what the demographics service says of a number. The list is closed.
type Standing string

// The standings. All but Live, and Deceased within the configured window, get the neutral answer.
const (
	Live        Standing = "live"
	Superseded  Standing = "superseded"
	Restricted  Standing = "restricted"
	Invalidated Standing = "invalidated"
	Deceased    Standing = "deceased"
	Unknown     Standing = "unknown"
)

// Subject is the person that a record is about, as the demographics service knows them.
type Subject struct {
	Number     NHSNumber
	Standing   Standing
	Supersedes []NHSNumber // numbers that this one replaced; objections are looked up under these too
	Family     string
	Given      []string
	Gender     string  // FHIR administrative gender code, or ""
	BirthDate  string  // YYYY, YYYY-MM or YYYY-MM-DD, or ""
	Deceased   string  // FHIR date or dateTime, "true" if the day is unknown, or ""
	Postcode   string  // of where they live, or ""
	Address    string  // the lines before it, or ""
	Practice   ODSCode // where they are registered as a patient, or ""
	Version    string  // the service's version of this, for the ledger
}

const redactedSubject = "Subject(redacted)"

// Format writes a fixed word for every verb. fmt does not call it for a Subject in an unexported field of another struct, nor
// for %p and %w, which vet refuses: there only the numbers are safe, so do not print what holds a Subject.
func (s Subject) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redactedSubject)) }

// MarshalText returns a fixed word, so that no encoder writes a person by accident.
func (s Subject) MarshalText() ([]byte, error) { return []byte(redactedSubject), nil }

// LogValue returns a fixed word.
func (s Subject) LogValue() slog.Value { return slog.StringValue(redactedSubject) }
