// Package cohort holds the people whose records the demo and the tests show: invented ones, written for this project ([Invented]),
// people read from a folder ([Load]), and whole-patient bundles of the Synthea generator, split over the custodians ([Synthea]).
//
// Nobody here exists. NHS numbers are of the range 999 000 0000 to 999 999 9999, which is reserved for testing and never issued.
// Nothing of the broker is imported: what is right about these people is said here in its own words.
package cohort

import (
	"bytes"
	"encoding/json"
)

// Custodian is one of the nine invented organisations of the neighbourhood.
type Custodian struct {
	Key        string // short name in configuration and ids
	ODS        string
	Name       string
	Kind       string // gp, acute, mental-health, community, social-care, ambulance, pharmacy, 111, out-of-hours
	Contact    string // who to ask
	Everything bool   // its server offers Patient/$everything; the others only search by type
	PageSize   int    // of its server

	// Habits with the invented people: it marks what people entered themselves (PATAST), and what they must not see (NOPAT).
	LabelsEntered, LabelsNoPatient bool
}

// Custodians are the nine, in the order in which people are shown them.
func Custodians() []Custodian {
	return []Custodian{
		{"gp", "X9A01", "Rivermead Surgery", "gp", "Practice manager, 01632 960101", true, 40, false, false},
		{"acute", "X9B01", "Ashford Vale University Hospitals", "acute", "Health records, 01632 960102", true, 25, false, false},
		{"mentalhealth", "X9C01", "Larkfield Mental Health Trust", "mental-health", "Records team, 01632 960103", false, 20, false, true},
		{"community", "X9D01", "Three Rivers Community Health", "community", "Single point of access, 01632 960104", true, 50, true, false},
		{"socialcare", "X9E01", "Westmarch County Council, adult social care", "social-care", "Access to records, 01632 960105", false, 20, false, false},
		{"ambulance", "X9F01", "Mid Shires Ambulance Service", "ambulance", "Clinical records, 01632 960106", true, 50, false, false},
		{"pharmacy", "X9G01", "Bridge Street Pharmacy", "pharmacy", "Superintendent pharmacist, 01632 960107", false, 10, false, false},
		{"nhs111", "X9H01", "Mid Shires NHS 111", "111", "Governance desk, 01632 960108", true, 50, false, false},
		{"outofhours", "X9J01", "Nightbridge Out of Hours", "out-of-hours", "Service manager, 01632 960109", false, 30, false, false},
	}
}

// Standing is what the demographics service says of a number.
type Standing string

// The standings. A person who has died is Live here, and the Patient says when.
const (
	Live        Standing = "live"
	Restricted  Standing = "restricted"
	Superseded  Standing = "superseded"
	Invalidated Standing = "invalidated"
	Unknown     Standing = "unknown" // the service does not know the number
)

// Person is one NHS number and all that anybody holds under it.
type Person struct {
	NHSNumber  string
	Name       string // for people
	Note       string // what this person is there to show
	Bundle     string // file that the record came from; "" for the invented
	Standing   Standing
	By         string          // Superseded: the number that replaced this one
	Patient    json.RawMessage // as the demographics service gives it, without meta; nil unless Live or Restricted
	Family     string
	BirthDate  string
	Records    map[string][]json.RawMessage // by custodian key; exactly one Patient in each
	Objections []Objection                  // to be recorded before the first request
}

// Objection is one that the person has made.
type Objection struct {
	Scope     string // "all", "custodian" or "section"
	Custodian string // key, for scope custodian
	Section   string // code, for scope section
	Reason    string // why, in a few words
}

const (
	nhsNumberSystem = "https://fhir.nhs.uk/Id/nhs-number"
	verified        = `{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus","valueCodeableConcept":` +
		`{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland","code":"01","display":"Number present and verified"}]}}`
)

// encode writes JSON as FHIR servers do: without escaping what HTML would mind. Numbers given as json.Number keep their text.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // maps, lists, strings and numbers
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// demographic writes the Patient of the demographics service; fields are further members, such as name, gender and birthDate.
func demographic(number string, fields map[string]any) json.RawMessage {
	p := map[string]any{"resourceType": "Patient", "id": number,
		"identifier": []any{map[string]any{"system": nhsNumberSystem, "value": number, "extension": []any{json.RawMessage(verified)}}}}
	for k, v := range fields {
		p[k] = v
	}
	return encode(p)
}

// validNumber is the check of NHS numbers: ten digits, modulus 11 with weights 10 to 2 (NHS Data Dictionary, NHS NUMBER).
func validNumber(s string) bool {
	if len(s) != 10 {
		return false
	}
	sum := 0
	for i := range 10 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		if i < 9 {
			sum += int(s[i]-'0') * (10 - i)
		}
	}
	return (11-sum%11)%11 == int(s[9]-'0')
}
