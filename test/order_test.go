package test

import (
	"cmp"
	"regexp"
	"strconv"
	"testing"
	"time"
	_ "time/tzdata" // Europe/London on any machine
)

// when is a clinical time in the terms of M-8, worked out here in its own way from the text of the rule: half open, years in Europe/London.
type when struct {
	dated  bool
	lo, hi time.Time
	open   bool // no end
	single bool // one written time, not a Period
}

var fhirTime = regexp.MustCompile(`^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?$`)

// instantOf reads a FHIR date, dateTime or instant.
func instantOf(t *testing.T, s string) when {
	t.Helper()
	m := fhirTime.FindStringSubmatch(s)
	if m == nil {
		return when{}
	}
	zone, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal("no Europe/London")
	}
	if m[8] != "" {
		text := m[8]
		if text == "Z" {
			text = "+00:00"
		}
		at, err := time.Parse("-07:00", text)
		if err != nil {
			return when{}
		}
		_, seconds := at.Zone()
		zone = time.FixedZone("", seconds)
	}
	num := func(s string, otherwise int) int {
		v, err := strconv.Atoi(s)
		if err != nil {
			return otherwise
		}
		return v
	}
	fraction, unit := 0, int(time.Second)
	for _, d := range m[7] {
		if unit /= 10; unit > 0 {
			fraction += unit * int(d-'0')
		}
	}
	lo := time.Date(num(m[1], 0), time.Month(num(m[2], 1)), num(m[3], 1), num(m[4], 0), num(m[5], 0), num(m[6], 0), fraction, zone)
	var hi time.Time
	switch {
	case m[7] != "":
		hi = lo.Add(time.Duration(max(unit, 1)))
	case m[6] != "":
		hi = lo.Add(time.Second)
	case m[4] != "":
		hi = lo.Add(time.Minute)
	case m[3] != "":
		hi = lo.AddDate(0, 0, 1)
	case m[2] != "":
		hi = lo.AddDate(0, 1, 0)
	default:
		hi = lo.AddDate(1, 0, 0)
	}
	return when{dated: true, lo: lo, hi: hi, single: true}
}

// timeElements says for the types of the Synthea people where their clinical time stands (FHIR R4 element names; the first that is there).
var timeElements = map[string][][]string{
	"AllergyIntolerance": {{"onsetDateTime"}, {"onsetPeriod"}, {"recordedDate"}, {"lastOccurrence"}},
	"CarePlan":           {{"period"}, {"created"}},
	"CareTeam":           {{"period"}},
	"Condition":          {{"onsetDateTime"}, {"onsetPeriod"}, {"recordedDate"}},
	"Device":             {},
	"DiagnosticReport":   {{"effectiveDateTime"}, {"effectivePeriod"}, {"issued"}},
	"DocumentReference":  {{"context", "period"}, {"content", "attachment", "creation"}, {"date"}},
	"Encounter":          {{"period"}},
	"Goal":               {{"startDate"}, {"statusDate"}, {"target", "dueDate"}},
	"ImagingStudy":       {{"started"}},
	"Immunization":       {{"occurrenceDateTime"}, {"recorded"}},
	"MedicationRequest":  {{"authoredOn"}},
	"Observation":        {{"effectiveDateTime"}, {"effectivePeriod"}, {"effectiveInstant"}, {"issued"}},
	"Procedure":          {{"performedDateTime"}, {"performedPeriod"}},
	"Provenance":         {{"occurredDateTime"}, {"occurredPeriod"}, {"recorded"}},
}

// whenOf returns the clinical time of a resource as it was given.
func whenOf(t *testing.T, r *node) when {
	t.Helper()
	elements, known := timeElements[r.str("resourceType")]
	if !known {
		t.Fatalf("the table of clinical times in this test has no row for %s", r.str("resourceType"))
	}
	for _, path := range elements {
		v := r.get(path...)
		var w when
		switch {
		case v == nil:
			continue
		case v.kind == '"':
			w = instantOf(t, v.text)
		default:
			w = instantOf(t, v.str("start"))
			end := instantOf(t, v.str("end"))
			w.single = false
			if !w.dated && end.dated {
				t.Fatalf("a %s has an end and no start: the comparison here does not know such", r.str("resourceType"))
			}
			if w.open = !end.dated; end.dated && end.hi.After(w.hi) {
				w.hi = end.hi
			}
		}
		if !w.dated {
			continue
		}
		if end := instantOf(t, r.str("abatementDateTime")); r.str("resourceType") == "Condition" && end.dated && path[0] != "recordedDate" && end.hi.After(w.hi) {
			w.hi, w.single = end.hi, false // abatement ends what onset began
		}
		return w
	}
	return when{}
}

// place is where an entry stands in a Bundle by M-8.
type place struct {
	group        int // 0 outcomes, 1 our Patient, 2 custodians' Patients, 3 dated, 4 undated, 5 includes, 6 Linkage, 7 our Provenance
	when         when
	key, typ, id string
}

// compare is the order of M-8; 0 only where the rule leaves the order open.
func (a place) compare(b place) int {
	if a.group != b.group {
		return cmp.Compare(a.group, b.group)
	}
	if a.group == 3 {
		if c := b.when.lo.Compare(a.when.lo); c != 0 {
			return c
		}
		if a.when.open != b.when.open {
			if a.when.open {
				return -1
			}
			return 1
		}
		if c := b.when.hi.Compare(a.when.hi); c != 0 && !a.when.open {
			return c
		}
		if a.when.single != b.when.single { // the same interval: written as one time is narrower than as a period
			if a.when.single {
				return -1
			}
			return 1
		}
	}
	if a.group == 3 || a.group == 4 {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.typ, b.typ), cmp.Compare(a.id, b.id))
	}
	return 0
}
