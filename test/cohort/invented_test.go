package cohort_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/cohort"
)

// now is any day; the people are made afresh for each.
var now = time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)

func find(t *testing.T, number string) cohort.Person {
	t.Helper()
	for _, p := range cohort.Invented(now) {
		if p.NHSNumber == number {
			return p
		}
	}
	t.Fatal("no such person")
	return cohort.Person{}
}

func TestPeopleAreFitToBeServed(t *testing.T) {
	numbers := map[string]bool{}
	serverWide := map[string][]byte{} // custodian, type and id -> bytes
	for _, p := range cohort.Invented(now) {
		if _, err := record.ParseNHSNumber(p.NHSNumber); err != nil || !strings.HasPrefix(p.NHSNumber, "999") || numbers[p.NHSNumber] {
			t.Errorf("%s: the NHS number is wrong, not of the test range, or taken", p.Name)
		}
		numbers[p.NHSNumber] = true
		if p.Name == "" || p.Note == "" {
			t.Error("somebody has no name or no note")
		}
		for key, list := range p.Records {
			held := map[string]bool{}
			patients := 0
			for _, raw := range list {
				doc, err := fhirjson.Parse(raw, fhirjson.Limits{})
				if err != nil {
					t.Errorf("%s at %s: %v", p.Name, key, err)
					continue
				}
				typ, id := doc.Root().Get("resourceType").Text(), doc.Root().Get("id").Text()
				k := typ + "/" + id
				if typ == "Patient" {
					patients++
				}
				if len(id) == 0 || len(id) > 64 || strings.ContainsFunc(id, func(r rune) bool {
					return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
				}) {
					t.Errorf("%s at %s: %s has an id that FHIR does not allow", p.Name, key, typ)
				}
				if held[k] {
					t.Errorf("%s at %s: %s twice", p.Name, key, k)
				}
				held[k] = true
				if before := serverWide[key+k]; before != nil && !bytes.Equal(before, raw) {
					t.Errorf("%s at %s: %s means two things on one server", p.Name, key, k)
				}
				serverWide[key+k] = raw
				doc.Root().Walk(func(name string, v fhirjson.Value) bool {
					if v.Kind() == fhirjson.Null || (v.Kind() == fhirjson.Object || v.Kind() == fhirjson.Array) && v.Len() == 0 || v.Is("") {
						t.Errorf("%s at %s: %s has an empty %s, which FHIR does not allow", p.Name, key, k, name)
					}
					return true
				})
			}
			if patients != 1 {
				t.Errorf("%s at %s: %d Patients", p.Name, key, patients)
			}
			for _, raw := range list {
				var list []string
				refs(decode(t, raw), &list)
				for _, ref := range list {
					target, _, _ := strings.Cut(strings.TrimPrefix(ref, "{{base}}/"), "/_history/")
					if !strings.HasPrefix(ref, "#") && !held[target] {
						t.Errorf("%s at %s: a reference leads nowhere", p.Name, key)
					}
				}
			}
		}
	}
}

func TestTheSameDayGivesTheSamePeople(t *testing.T) {
	if !reflect.DeepEqual(cohort.Invented(now), cohort.Invented(now.Add(3*time.Hour))) {
		t.Error("two readings on one day differ")
	}
	if reflect.DeepEqual(cohort.Invented(now), cohort.Invented(now.AddDate(0, 0, 1))) {
		t.Error("appointments do not move with the day")
	}
}

func TestTheCohortShowsWhatItIsFor(t *testing.T) {
	people := cohort.Invented(now)
	count := func(ok func(cohort.Person) bool) int {
		n := 0
		for _, p := range people {
			if ok(p) {
				n++
			}
		}
		return n
	}
	living := func(p cohort.Person) bool { return p.Standing == cohort.Live && len(p.Records) > 0 }
	if n := count(living); n < 12 {
		t.Errorf("%d people can be asked for, want at least 12", n)
	}
	for name, ok := range map[string]func(cohort.Person) bool{
		"unknown":     func(p cohort.Person) bool { return p.Standing == cohort.Unknown },
		"superseded":  func(p cohort.Person) bool { return p.Standing == cohort.Superseded && p.By == cohort.Nia },
		"invalidated": func(p cohort.Person) bool { return p.Standing == cohort.Invalidated },
		"restricted":  func(p cohort.Person) bool { return p.Standing == cohort.Restricted },
		"died long ago": func(p cohort.Person) bool {
			return bytes.Contains(p.Patient, []byte(`"deceasedDateTime":"2019-`))
		},
		"held by nobody": func(p cohort.Person) bool { return p.Standing == cohort.Live && len(p.Records) == 0 },
		"died lately": func(p cohort.Person) bool {
			return bytes.Contains(p.Patient, []byte(`"deceasedDateTime":"2026-11-10"`))
		},
		"objects to everything": func(p cohort.Person) bool {
			return slices.ContainsFunc(p.Objections, func(o cohort.Objection) bool { return o.Scope == "all" })
		},
		"objects to a custodian": func(p cohort.Person) bool {
			return slices.ContainsFunc(p.Objections, func(o cohort.Objection) bool { return o.Scope == "custodian" && p.Records[o.Custodian] != nil })
		},
		"objects to a section": func(p cohort.Person) bool {
			return slices.ContainsFunc(p.Objections, func(o cohort.Objection) bool { return o.Section == "mental-health" })
		},
		"known to all nine": func(p cohort.Person) bool { return len(p.Records) == 9 },
	} {
		if n := count(ok); n != 1 {
			t.Errorf("%s: %d people, want 1", name, n)
		}
	}
	held := map[string]int{}
	for _, p := range people {
		for key := range p.Records {
			held[key]++
		}
	}
	for _, c := range cohort.Custodians() {
		if held[c.Key] < 3 && c.Key != "nhs111" || held[c.Key] < 2 {
			t.Errorf("%s holds %d people, too few to be worth showing", c.Key, held[c.Key])
		}
	}

	// Two custodians number alike: the same type and id, for the same person, and something else behind it.
	nia, clashes := find(t, cohort.Nia), 0
	at := map[string][]byte{}
	for _, raw := range nia.Records["acute"] {
		r := decode(t, raw)
		at[r["resourceType"].(string)+"/"+r["id"].(string)] = raw
	}
	for _, p := range people {
		for _, raw := range p.Records["community"] {
			r := decode(t, raw)
			if other := at[r["resourceType"].(string)+"/"+r["id"].(string)]; other != nil && !bytes.Equal(other, raw) {
				clashes++
			}
		}
	}
	if clashes == 0 {
		t.Error("no resource id of the hospital is one of the community trust")
	}
	for _, p := range people {
		if list := p.Records["socialcare"]; list != nil && decode(t, list[1])["id"] != p.NHSNumber && decode(t, list[0])["id"] != p.NHSNumber {
			t.Error("the county council does not use the NHS number as Patient.id")
		}
	}
	george, letters := find(t, cohort.George), 0
	for _, key := range []string{"acute", "gp"} {
		for _, raw := range george.Records[key] {
			if bytes.Contains(raw, []byte("CARD-2025-00417")) {
				letters++
			}
		}
	}
	if letters != 2 {
		t.Errorf("the same letter stands at %d custodians, want 2", letters)
	}
	text := func(number, key string) string {
		return string(bytes.Join(bytesOf(find(t, number).Records[key]), []byte("\n")))
	}
	for _, want := range []string{`"1946"`, `"1978-05"`, `"2008-07-01T14:30:00"`, `"onsetAge"`, `"occurrenceString"`} {
		if !strings.Contains(text(cohort.Winifred, "gp"), want) {
			t.Errorf("no %s in the notes of partial dates", want)
		}
	}
	for _, want := range []string{`"value":53.50`, `"_birthDate"`, `"contained"`, `"#drug"`} {
		if !strings.Contains(text(cohort.Margaret, "gp"), want) {
			t.Errorf("no %s in the practice's record", want)
		}
	}
	future := 0
	for _, raw := range find(t, cohort.Sofia).Records["community"] {
		if start, _ := decode(t, raw)["start"].(string); start != "" {
			if at, err := time.Parse(time.RFC3339, start); err == nil && at.After(now) {
				future++
			}
		}
	}
	if future < 3 {
		t.Errorf("%d appointments to come, want at least 3", future)
	}
	if !strings.Contains(text(cohort.Callum, "gp"), `"NOPAT"`) || !strings.Contains(text(cohort.Harold, "community"), `"PATAST"`) {
		t.Error("nothing is labelled as not for the person, or as entered by them")
	}
}

// TestMergeTakesEverybodyWhole puts every record through the broker's own merge: nothing of it may be dropped as somebody else's,
// and one person must show every section.
func TestMergeTakesEverybodyWhole(t *testing.T) {
	const base = "http://custodian.example/fhir"
	var sections record.Sections
	two := 0
	for _, p := range cohort.Invented(now) {
		if p.Standing != cohort.Live {
			continue
		}
		number, err := record.ParseNHSNumber(p.NHSNumber)
		if err != nil {
			t.Fatal("a number is wrong")
		}
		for _, c := range cohort.Custodians() {
			if p.Records[c.Key] == nil {
				continue
			}
			var entries []fhirjson.Entry
			for _, raw := range p.Records[c.Key] {
				doc, err := fhirjson.Parse(bytes.ReplaceAll(raw, []byte("{{base}}"), []byte(base)), fhirjson.Limits{})
				if err != nil {
					t.Fatal("not JSON")
				}
				r := doc.Root()
				if r.Get("resourceType").Is("Binary") {
					continue // read by address, never part of a reply
				}
				entries = append(entries, fhirjson.Entry{FullURL: base + "/" + r.Get("resourceType").Text() + "/" + r.Get("id").Text(), Resource: r})
			}
			got, err := merge.Prepare(merge.Request{Base: "https://r.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: now, IDKey: make([]byte, 32),
				Subject: record.Subject{Number: number, Standing: record.Live, Family: p.Family, BirthDate: p.BirthDate}},
				merge.Rules{Permitted: record.AllSections, DocumentAddress: func(d merge.Document) string { return d.Address }},
				merge.Reply{Custodian: record.Custodian{Key: record.CustodianKey(c.Key), ODS: record.ODSCode(c.ODS), Name: c.Name, Kind: record.CustodianKind(c.Kind)}, Base: base, Entries: entries})
			if err != nil {
				t.Errorf("%s at %s: %v", p.Name, c.Key, err)
				continue
			}
			if n := got.Counts; n.Strangers > 0 || n.Folded > 0 || n.Received != len(entries) || got.Dangling > 0 {
				t.Errorf("%s at %s: %+v, %d dangling references, of %d resources", p.Name, c.Key, n, got.Dangling, len(entries))
			}
			for _, e := range got.Entries {
				if e.Mode == merge.Match && e.Others.Len() > 0 {
					two++
				}
				if p.NHSNumber == cohort.Margaret && e.Mode == merge.Match {
					sections = sections.With(e.Section)
				}
			}
			if p.NHSNumber == cohort.Margaret {
				sections = sections.With(record.Demographics)
			}
		}
	}
	if sections != record.AllSections {
		t.Errorf("the person of every section shows none of: %v", record.AllSections.Without(sections))
	}
	if two == 0 {
		t.Error("no entry is in two sections")
	}
}

func TestDemographicPatients(t *testing.T) {
	for _, p := range cohort.Invented(now) {
		if (p.Patient == nil) != (p.Standing != cohort.Live && p.Standing != cohort.Restricted) {
			t.Errorf("%s: the demographics service knows too much or too little", p.Name)
		}
		if p.Patient == nil {
			continue
		}
		var m struct {
			ID         string
			BirthDate  string
			Identifier []struct{ Value string }
			Name       []struct{ Family string }
		}
		if err := json.Unmarshal(p.Patient, &m); err != nil || m.ID != p.NHSNumber || m.Identifier[0].Value != p.NHSNumber || m.Name[0].Family != p.Family || m.BirthDate != p.BirthDate {
			t.Errorf("%s: the Patient is not the person", p.Name)
		}
	}
}
