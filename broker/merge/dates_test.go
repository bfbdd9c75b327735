package merge

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// show puts a clinical time as [lo, hi) in UTC with its precision and element.
func show(c record.ClinicalTime) string {
	if !c.Dated() {
		return "undated"
	}
	at := func(t time.Time, open bool) string {
		if open {
			return "?"
		}
		return strings.TrimSuffix(t.Format("2006-01-02T15:04:05.999999999"), "T00:00:00")
	}
	return at(c.Lo, c.OpenLo) + " " + at(c.Hi, c.OpenHi) + " " + [...]string{"", "year", "month", "day", "minute", "second", "fraction", "span"}[c.Precision] + " " + c.Element
}

func TestClinicalTimes(t *testing.T) {
	for _, c := range []struct{ typ, members, want string }{
		{"Observation", `"effectiveDateTime":"2019"`, "2019-01-01 2020-01-01 year effectiveDateTime"},
		{"Observation", `"effectiveDateTime":"2019-06"`, "2019-05-31T23:00:00 2019-06-30T23:00:00 month effectiveDateTime"},
		{"Observation", `"effectiveDateTime":"2019-06-05"`, "2019-06-04T23:00:00 2019-06-05T23:00:00 day effectiveDateTime"},
		{"Observation", `"effectiveDateTime":"2019-01-05T10:00:00"`, "2019-01-05T10:00:00 2019-01-05T10:00:01 second effectiveDateTime"},
		{"Observation", `"effectiveDateTime":"2019-06-05T10:00:00+02:00"`, "2019-06-05T08:00:00 2019-06-05T08:00:01 second effectiveDateTime"},
		{"Observation", `"effectiveInstant":"2019-06-05T10:00:00.25Z"`, "2019-06-05T10:00:00.25 2019-06-05T10:00:00.26 fraction effectiveInstant"},
		{"Observation", `"effectivePeriod":{"start":"2019-01-01","end":"2019-01-03"}`, "2019-01-01 2019-01-04 span effectivePeriod"},
		{"Observation", `"effectivePeriod":{"start":"2019-01-01"}`, "2019-01-01 ? span effectivePeriod"},
		{"Observation", `"effectivePeriod":{"end":"2019-01-03"}`, "? 2019-01-04 span effectivePeriod"},
		{"Observation", `"effectivePeriod":{"start":"2019-01-05","end":"2019-01-03"}`, "2019-01-05 2019-01-06 span effectivePeriod"},
		{"Observation", `"effectivePeriod":{}`, "undated"},
		{"Observation", `"effectiveTiming":{"event":["2019-01-05","2019-01-03"]}`, "2019-01-03 2019-01-06 span effectiveTiming"},
		{"Observation", `"effectiveTiming":{"repeat":{"boundsPeriod":{"start":"2019-01-03"}}}`, "2019-01-03 ? span effectiveTiming"},
		{"Observation", `"effectiveTiming":{"repeat":{"boundsDuration":{"value":3}}}`, "undated"},
		{"Observation", `"effectiveDateTime":"yesterday","issued":"2019-01-05T10:00:00Z"`, "undated"},
		{"Observation", `"effectivePeriod":{"start":"2019-1-5"},"issued":"2019-01-05T10:00:00Z"`, "undated"},
		{"Observation", `"effectiveTiming":{"event":["soon"]},"issued":"2019-01-05T10:00:00Z"`, "undated"},
		{"Observation", `"effectiveTiming":{"repeat":{"frequency":2}},"issued":"2019-01-05T10:00:00Z"`, "2019-01-05T10:00:00 2019-01-05T10:00:01 second issued"},
		{"Observation", `"effectivePeriod":{"extension":[{"url":"u"}]},"issued":"2019-01-05T10:00:00Z"`, "2019-01-05T10:00:00 2019-01-05T10:00:01 second issued"},
		{"Appointment", `"start":"2027-02-30T10:00:00Z","created":"2020-01-01"`, "undated"},
		{"Observation", `"_effectiveDateTime":{"extension":[{"url":"u","valueCode":"unknown"}]}`, "undated"},
		{"Observation", `"meta":{"lastUpdated":"2019-01-05T10:00:00Z"}`, "undated"},
		{"Condition", `"onsetDateTime":"2019","recordedDate":"2020-01-01"`, "2019-01-01 2020-01-01 year onsetDateTime"},
		{"Condition", `"onsetDateTime":"2019-01-01","abatementDateTime":"2019-01-09"`, "2019-01-01 2019-01-10 span onsetDateTime"},
		{"Condition", `"onsetPeriod":{"start":"2019-01-01"},"abatementDateTime":"2019-01-09"`, "2019-01-01 2019-01-10 span onsetPeriod"},
		{"Condition", `"recordedDate":"2020-01-01","abatementDateTime":"2021-01-09"`, "2020-01-01 2020-01-02 day recordedDate"},
		{"Condition", `"onsetDateTime":"2019-01-01","abatementDateTime":"2018"`, "2019-01-01 2019-01-02 day onsetDateTime"},
		{"Condition", `"onsetAge":{"value":5},"onsetString":"in childhood"`, "undated"},
		{"AllergyIntolerance", `"recordedDate":"2020-01-01","lastOccurrence":"2021"`, "2020-01-01 2020-01-02 day recordedDate"},
		{"Appointment", `"start":"2027-01-05T10:00:00Z","end":"2027-01-05T10:30:00Z"`, "2027-01-05T10:00:00 2027-01-05T10:30:01 span start"},
		{"Appointment", `"requestedPeriod":[{"start":"2027-01-05"},{"start":"2027-02-05"}],"created":"2026"`, "2027-01-05 ? span requestedPeriod"},
		{"Encounter", `"statusHistory":[{"period":{"start":"2019-01-02","end":"2019-01-03"}},{"period":{"start":"2019-01-01"}}]`, "2019-01-01 ? span statusHistory.period"},
		{"Encounter", `"location":[{"period":{"start":"2019-01-02","end":"2019-01-03"}}]`, "2019-01-02 2019-01-04 span location.period"},
		{"DocumentReference", `"content":[{"attachment":{}},{"attachment":{"creation":"2019"}}],"date":"2020-01-01T00:00:00Z"`, "2019-01-01 2020-01-01 year content.attachment.creation"},
		{"MedicationRequest", `"dosageInstruction":[{"timing":{"event":["2019"]}}]`, "2019-01-01 2020-01-01 year dosageInstruction.timing"},
		{"MedicationRequest", `"dispenseRequest":{"validityPeriod":{"start":"2019"}}`, "2019-01-01 ? span dispenseRequest.validityPeriod"},
		{"ImmunizationRecommendation", `"recommendation":[{"dateCriterion":[{"value":"2027"}]}]`, "2027-01-01 2028-01-01 year recommendation.dateCriterion.value"},
		{"Immunization", `"occurrenceString":"as a child"`, "undated"},
		{"Goal", `"target":[{"dueDate":"2027-01-01"}]`, "2027-01-01 2027-01-02 day target.dueDate"},
		{"Device", `"manufactureDate":"2019"`, "undated"},
		{"Patient", `"birthDate":"1950-03-04"`, "undated"},
	} {
		if got := show(clinicalTime(c.typ, parsed(t, `{"resourceType":"`+c.typ+`",`+c.members+`}`))); got != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.typ, c.members, got, c.want)
		}
	}
}

func TestAnObservationTakesTheTimeOfItsSpecimen(t *testing.T) {
	const specimen = `{"resourceType":"Specimen","id":"s",` + toAda + `,"collection":{"collectedDateTime":"2019-01-02"}}`
	p := prepare(t, request(t), everything, replyOf(t, specimen,
		`{"resourceType":"Observation","id":"1",`+toAda+`,"specimen":{"reference":"Specimen/s"}}`,
		`{"resourceType":"Observation","id":"2",`+toAda+`,"specimen":{"reference":"Specimen/s"},"issued":"2020-01-01T00:00:00Z"}`,
		`{"resourceType":"Observation","id":"3",`+toAda+`,"specimen":{"reference":"Specimen/gone"}}`))
	for id, want := range map[string]string{"gp-1": "2019-01-02 2019-01-03 day specimen.collection.collectedDateTime", "gp-2": "2020-01-01 2020-01-01T00:00:01 second issued", "gp-3": "undated"} {
		if got := show(find(t, p, "Observation", id).Time); got != want {
			t.Errorf("%s: got %s, want %s", id, got, want)
		}
	}
}

func TestTimeTags(t *testing.T) {
	p := prepare(t, request(t), everything, replyOf(t,
		`{"resourceType":"Observation","id":"past",`+toAda+`,"effectiveDateTime":"2019"}`,
		`{"resourceType":"Appointment","id":"future","start":"2027-01-01T10:00:00Z","participant":[{"actor":{"reference":"Patient/p"}}]}`,
		`{"resourceType":"Observation","id":"now",`+toAda+`,"effectiveDateTime":"2026-11-21"}`,
		`{"resourceType":"Observation","id":"none",`+toAda+`}`))
	for _, c := range [][3]string{{"Observation", "gp-past", "dated"}, {"Appointment", "gp-future", "future"}, {"Observation", "gp-now", "dated"}, {"Observation", "gp-none", "undated"}} {
		if e := find(t, p, c[0], c[1]); !strings.Contains(string(e.JSON), `{"system":"https://mycarerecord.example/CodeSystem/time","code":"`+c[2]+`"}`) ||
			strings.Count(string(e.JSON), "/CodeSystem/time") != 1 {
			t.Errorf("%s: %s", c[1], e.JSON)
		}
	}
	if strings.Contains(string(find(t, p, "Patient", "gp-p").JSON), "/CodeSystem/time") {
		t.Error("a Patient has no time")
	}
}

func TestOrder(t *testing.T) {
	at := func(lo, hi string, precision record.Precision) record.ClinicalTime {
		c := record.ClinicalTime{Precision: precision, OpenLo: lo == "", OpenHi: hi == ""}
		c.Lo, _ = time.Parse(time.DateOnly, lo)
		c.Hi, _ = time.Parse(time.DateOnly, hi)
		return c
	}
	want := []Entry{
		{Type: "Patient", Mode: Include, Custodian: "a", ID: "1"},
		{Type: "Patient", Mode: Include, Custodian: "b", ID: "0"},
		{Type: "X", Mode: Match, Custodian: "z", Time: at("2020-02-01", "2020-02-02", record.Day)},
		{Type: "X", Mode: Match, Custodian: "a", Time: at("2020-01-01", "", record.Span)},
		{Type: "X", Mode: Match, Custodian: "a", Time: at("2020-01-01", "2021-01-01", record.Year)},
		{Type: "X", Mode: Match, Custodian: "b", Time: at("2020-01-01", "2020-01-02", record.Second)},
		{Type: "X", Mode: Match, Custodian: "a", Time: at("2020-01-01", "2020-01-02", record.Day), ID: "1"},
		{Type: "X", Mode: Match, Custodian: "a", Time: at("2020-01-01", "2020-01-02", record.Day), ID: "2"},
		{Type: "Y", Mode: Match, Custodian: "a", Time: at("2020-01-01", "2020-01-02", record.Day), ID: "0"},
		{Type: "A", Mode: Match, Custodian: "b", Time: at("2020-01-01", "2020-01-02", record.Day)},
		{Type: "A", Mode: Match, Custodian: "a", Time: at("2020-01-01", "2020-01-02", record.Span)},
		{Type: "A", Mode: Match, Custodian: "a", Time: at("", "2030-01-02", record.Span)},
		{Type: "A", Mode: Match, Custodian: "a", Time: at("", "2020-01-02", record.Span)},
		{Type: "A", Mode: Match, Custodian: "a", ID: "9"},
		{Type: "A", Mode: Match, Custodian: "b", ID: "1"},
		{Type: "A", Mode: Include, Custodian: "a"},
		{Type: "A", Mode: Include, Custodian: "b"},
	}
	for i := range want {
		for j := range want {
			if got := compare(&want[i], &want[j]); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%d and %d: %d", i, j, got)
			}
		}
	}
}

// Sorting many is sorting by that order, whatever way it takes.
func TestSortingIsThatOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	entries := make([]Entry, 400)
	for i := range entries {
		e := Entry{Type: []string{"Condition", "Observation", "Patient"}[random.IntN(3)], Custodian: "a", ID: strconv.Itoa(i), Mode: []Mode{Match, Include}[random.IntN(2)]}
		if random.IntN(4) > 0 {
			e.Time = record.ClinicalTime{Precision: record.Fraction, OpenLo: random.IntN(9) == 0, Lo: now.Add(time.Duration(random.IntN(4)*30) * time.Second).Add(time.Duration(random.IntN(3)) * time.Millisecond)}
			e.Time.Hi = e.Time.Lo.Add(time.Duration(random.IntN(3)) * time.Millisecond)
		}
		entries[i] = e
	}
	want := slices.Clone(entries)
	slices.SortFunc(want, func(a, b Entry) int { return compare(&a, &b) })
	sortEntries(entries)
	for i := range entries {
		if entries[i].ID != want[i].ID {
			t.Fatalf("place %d: %+v, want %+v", i, entries[i], want[i])
		}
	}
}

// A List that a custodian made because it was asked has no clinical time, and stands behind what has one; one that somebody made has its date, snapshot or not.
func TestListsThatAreMadeByAsking(t *testing.T) {
	asked := now.Add(-time.Second) // as of replyOf, which took 300 ms
	for _, c := range []struct {
		name, mode, date string
		dated            bool
	}{
		{"made by asking", "snapshot", asked.Add(100 * time.Millisecond).Format(time.RFC3339Nano), false},
		{"by a clock that is behind", "snapshot", asked.Add(-time.Minute).Format(time.RFC3339), false},
		{"by a clock that is ahead", "snapshot", asked.Add(time.Minute).Format(time.RFC3339), false},
		{"made before", "snapshot", asked.Add(-time.Hour).Format(time.RFC3339), true},
		{"in the future", "snapshot", asked.Add(time.Hour).Format(time.RFC3339), true},
		{"a consultation's", "snapshot", "2010-01-13T15:29:50.283+00:00", true},
		{"of a day", "snapshot", asked.Format(time.DateOnly), true},
		{"a list that is kept", "working", asked.Format(time.RFC3339), true},
		{"without a mode", "", asked.Format(time.RFC3339), true},
	} {
		text := `{"resourceType":"List","id":"l","status":"current","mode":"` + c.mode + `",` + toAda + `,"date":"` + c.date + `","entry":[{"item":{"reference":"Observation/o"}}]}`
		p := prepare(t, request(t), everything, replyOf(t, text, `{"resourceType":"Observation","id":"o",`+toAda+`,"effectiveDateTime":"2020-01-01"}`))
		l := find(t, p, "List", "gp-l")
		if l.Time.Dated() != c.dated || !strings.Contains(string(l.JSON), c.date) {
			t.Errorf("%s: dated %t, %s", c.name, l.Time.Dated(), l.JSON)
		}
		if clinical := find(t, p, "Observation", "gp-o"); !c.dated && len(p.Entries) > 0 && (p.Entries[len(p.Entries)-1].ID != "gp-l" || !clinical.Time.Dated()) {
			t.Errorf("%s: %s", c.name, list(p.Entries))
		}
	}
}

func TestTimesThatCannotBeRead(t *testing.T) {
	for _, x := range []string{`{"resourceType":"ServiceRequest","occurrenceTiming":{"repeat":{"boundsPeriod":{"start":"2026-13-01"}}},"authoredOn":"2020-01-01"}`,
		`{"resourceType":"Observation","effectiveDateTime":20200101,"issued":"2020-01-01T00:00:00Z"}`,
		`{"resourceType":"DocumentReference","content":[{"attachment":{"creation":"2026-13-01"}},{"attachment":{"creation":"2001-01-01"}}]}`} {
		v := parsed(t, x)
		if got := clinicalTime(v.Get("resourceType").Text(), v); got.Dated() {
			t.Errorf("%s of %s", got.Lo, got.Element)
		}
	}
}

// The time of a specimen is borrowed where an Observation says none, and not where it says one that cannot be read.
func TestTimesOfSpecimens(t *testing.T) {
	const specimen = `{"resourceType":"Specimen","id":"s","subject":{"reference":"Patient/p"},"collection":{"collectedDateTime":"2019-01-01"}}`
	p := prepare(t, request(t), everything, replyOf(t, specimen,
		`{"resourceType":"Observation","id":"none",`+toAda+`,"specimen":{"reference":"Specimen/s"}}`,
		`{"resourceType":"Observation","id":"within",`+toAda+`,"contained":[`+specimen+`],"specimen":{"reference":"#s"}}`,
		`{"resourceType":"Observation","id":"bad",`+toAda+`,"effectiveDateTime":"2020-13-45","specimen":{"reference":"Specimen/s"}}`))
	for id, want := range map[string]string{"gp-none": "specimen.collection.collectedDateTime", "gp-within": "specimen.collection.collectedDateTime", "gp-bad": ""} {
		if got := find(t, p, "Observation", id).Time; got.Element != want || got.Dated() != (want != "") {
			t.Errorf("%s: %+v", id, got)
		}
	}
}

func TestNullsSayNoTime(t *testing.T) {
	for _, x := range []string{`"effectivePeriod":{"start":null,"end":null}`, `"effectiveTiming":{"event":[]}`, `"effectiveTiming":{"event":[null]}`, `"effectiveDateTime":null`} {
		v := parsed(t, `{"resourceType":"Observation",`+x+`,"issued":"2020-01-01T00:00:00Z"}`)
		if got := clinicalTime("Observation", v); got.Element != "issued" {
			t.Errorf("%s: %+v", x, got)
		}
	}
}
