package record

import (
	"iter"
	"math/bits"
	"slices"
	"strings"
)

// Section is one part of a shared care record. The list is closed; its order is the order in which people are shown them.
type Section uint8

// The sections.
const (
	Demographics Section = iota
	Medications
	Results
	Correspondence
	History
	Emergency
	Appointments
	PlansAlerts
	MentalHealth
	SocialCare
	Ambulance
	Community
	Pharmacy
	Other
	sectionCount
)

var sectionCodes = [sectionCount]string{"demographics", "medications", "results", "correspondence", "history", "emergency",
	"appointments", "plans-alerts", "mental-health", "social-care", "ambulance", "community", "pharmacy", "other"}

var sectionNames = [sectionCount]string{"Demographics", "Medications", "Test results", "Letters and documents", "Clinical history",
	"Emergency care", "Appointments", "Plans and alerts", "Mental health", "Social care", "Ambulance", "Community care", "Pharmacy", "Other"}

// SectionSystemPath follows the configured base address in the code system of sections.
const SectionSystemPath = "/CodeSystem/section"

// Code returns the section's code, as it stands on the wire and in decision files.
func (s Section) Code() string { return sectionCodes[s] }

// String returns the code.
func (s Section) String() string { return sectionCodes[s] }

// Name returns the words that people are shown.
func (s Section) Name() string { return sectionNames[s] }

// ParseSection returns the section of a code.
func ParseSection(code string) (Section, bool) {
	for i, c := range sectionCodes {
		if c == code {
			return Section(i), true
		}
	}
	return 0, false
}

// SectionCodes lists all codes in order, for messages that say what may be given.
func SectionCodes() string { return strings.Join(sectionCodes[:], ", ") }

// Sections is a set of sections.
type Sections uint16

// AllSections holds every section.
const AllSections Sections = 1<<sectionCount - 1

// SectionsOf returns the set of the given sections.
func SectionsOf(list ...Section) Sections {
	var s Sections
	for _, x := range list {
		s |= 1 << x
	}
	return s
}

// Has reports whether x is in s.
func (s Sections) Has(x Section) bool { return s&(1<<x) != 0 }

// With returns s with x.
func (s Sections) With(x Section) Sections { return s | 1<<x }

// Without returns s less those of t.
func (s Sections) Without(t Sections) Sections { return s &^ t }

// Len returns how many sections s holds.
func (s Sections) Len() int { return bits.OnesCount16(uint16(s)) }

// All yields the sections in order.
func (s Sections) All() iter.Seq[Section] {
	return func(yield func(Section) bool) {
		for x := range sectionCount {
			if s.Has(x) && !yield(x) {
				return
			}
		}
	}
}

// List returns the sections in order.
func (s Sections) List() []Section { return slices.AppendSeq(make([]Section, 0, s.Len()), s.All()) }

// Codes returns the codes in order.
func (s Sections) Codes() []string {
	out := make([]string, 0, s.Len())
	for x := range s.All() {
		out = append(out, x.Code())
	}
	return out
}

// String returns the codes with commas.
func (s Sections) String() string { return strings.Join(s.Codes(), ",") }
