package merge

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"
	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// at prepares a reply of the custodian with that key.
func at(t testing.TB, key string, rules Rules, resources ...string) Prepared {
	t.Helper()
	reply := replyOf(t, resources...)
	reply.Custodian = custodian(key, record.KindGP)
	reply.Base = "https://" + key + ".example/fhir"
	return prepare(t, request(t), rules, reply)
}

// brief writes groups as "1 identifier gp-a acute-b (Observation.status)".
func brief(list []Group) string {
	var out []string
	for _, g := range list {
		by := "code"
		if g.Certain {
			by = "identifier"
		}
		var ids []string
		for _, m := range g.Members {
			ids = append(ids, m[strings.LastIndexByte(m, '/')+1:])
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%d %s %s %s", g.Number, by, strings.Join(ids, " "), strings.Join(g.Differs, " "))))
	}
	return strings.Join(out, "; ")
}

// That two things are alike is not told by what may not be seen of either.
func TestNoGroupByWhatIsWithheld(t *testing.T) {
	const psy = `"meta":{"security":[{"code":"PSY"}]}`
	reply := func(key string) Reply {
		r := replyOf(t, `{"resourceType":"MedicationRequest","id":"r",`+toAda+`,"medicationReference":{"reference":"Medication/m"},"authoredOn":"2020-01-01"}`,
			`{"resourceType":"Medication","id":"m",`+psy+`,"code":{"coding":[{"system":"http://snomed.info/sct","code":"322280009"}]}}`)
		r.Custodian.Key = record.CustodianKey(key)
		return r
	}
	for _, c := range []struct {
		rules  Rules
		groups int
	}{{everything, 1}, {without(record.MentalHealth), 0}} {
		a := Assemble(request(t), []Prepared{prepare(t, request(t), c.rules, reply("gp")), prepare(t, request(t), c.rules, reply("acute"))}, nil)
		if len(a.Groups) != c.groups {
			t.Errorf("%d groups, want %d: %+v", len(a.Groups), c.groups, a.Groups)
		}
	}
}

func TestGroups(t *testing.T) {
	const snomed = `"system":"http://snomed.info/sct",`
	observation := func(id, more string) string {
		return `{"resourceType":"Observation","id":"` + id + `",` + toAda + `,` + more + `}`
	}
	bp := func(id, at, more string) string {
		return observation(id, `"code":{"coding":[{`+snomed+`"code":"75367002"}]},"effectiveDateTime":"`+at+`"`+more)
	}
	resource := func(typ, id, more string) string {
		subject := toAda
		if typ == "AllergyIntolerance" || typ == "Immunization" {
			subject = `"patient":{"reference":"Patient/p"}`
		}
		return `{"resourceType":"` + typ + `","id":"` + id + `",` + subject + `,` + more + `}`
	}
	identified := func(id, value string) string {
		return observation(id, `"identifier":[{"system":"urn:lab","value":"`+value+`"}]`)
	}
	letter := func(id, attachment string) string {
		return resource("DocumentReference", id, `"content":[{"attachment":{`+attachment+`}}]`)
	}
	const coded = `"code":{"coding":[{` + snomed + `"code":"1"}]}`
	condition := func(id, when string) string { return resource("Condition", id, coded+","+when) }
	lab := func(id, code, typ string) string {
		return observation(id, `"identifier":[{"type":{"coding":[{"code":"`+typ+`"}]},"system":"urn:lab","value":"1"}],"code":{"coding":[{"system":"http://loinc.org","code":"`+code+`"}]},"effectiveDateTime":"2020-01-01T10:00:00Z"`)
	}
	for _, c := range []struct {
		name      string
		gp, acute []string
		want      string
	}{
		{"one identifier", []string{identified("a", "1")}, []string{identified("b", "1"), identified("c", "2")}, "1 identifier acute-b gp-a"},
		{"one of several identifiers", []string{observation("a", `"identifier":[{"system":"urn:x","value":"9"},{"system":"urn:lab","value":"1"}]`)}, []string{identified("b", "1")},
			"1 identifier acute-b gp-a Observation.identifier"},
		{"an identifier without a system", []string{observation("a", `"identifier":[{"value":"1"}]`)}, []string{observation("b", `"identifier":[{"value":"1"}]`)}, ""},
		{"an NHS number is no business identifier", []string{observation("a", `"identifier":[`+nhs+`]`)}, []string{observation("b", `"identifier":[`+nhs+`]`)}, ""},
		{"another type", []string{identified("a", "1")}, []string{resource("Condition", "b", `"identifier":[{"system":"urn:lab","value":"1"}]`)}, ""},
		{"system and value are told apart", []string{observation("a", `"identifier":[{"system":"urn:l","value":"ab1"}]`)}, []string{observation("b", `"identifier":[{"system":"urn:la","value":"b1"}]`)}, ""},
		{"one custodian alone", []string{identified("a", "1"), identified("b", "1"), bp("c", "2020-01-01T10:00:00Z", ""), bp("d", "2020-01-01T10:00:00Z", "")}, nil, ""},
		{"two of one and one of another, for certain no more", []string{identified("a", "1"), identified("b", "1")}, []string{identified("c", "1")}, "1 code acute-c gp-a gp-b"},
		{"the number of a sample that its results share", []string{lab("a", "2951-2", "ACSN"), lab("b", "2823-3", "ACSN")}, []string{lab("c", "2951-2", "ACSN"), lab("d", "2823-3", "ACSN")},
			"1 code acute-c gp-a; 2 code acute-d gp-b"},
		{"the same, where it does not say that it is of a sample", []string{lab("a", "2951-2", ""), lab("b", "2823-3", "")}, []string{lab("c", "2951-2", ""), lab("d", "2823-3", "")},
			"1 code acute-c acute-d gp-a gp-b Observation.code.coding"},
		{"the number of a group of orders, and of another's", []string{lab("a", "2951-2", "FGN"), lab("b", "2823-3", "PGN")}, []string{lab("c", "6298-4", "FGN"), lab("d", "2075-0", "PGN")}, ""},
		{"a person's number at a hospital", []string{lab("a", "2951-2", "MR"), lab("b", "2823-3", "PI")}, []string{lab("c", "6298-4", "MR"), lab("d", "2075-0", "PI")}, ""},
		{"the number of an order, of one each", []string{lab("a", "2951-2", "FILL")}, []string{lab("c", "6298-4", "FILL")}, "1 identifier acute-c gp-a Observation.code.coding"},
		{"code and minute", []string{bp("a", "2020-01-01T10:00:31Z", "")}, []string{bp("b", "2020-01-01T10:00:00.5+00:00", "")}, "1 code gp-a acute-b Observation.effectiveDateTime"},
		{"one code of several", []string{observation("a", `"code":{"coding":[{"system":"urn:read","code":"246"},{`+snomed+`"code":"75367002"}]},"effectiveDateTime":"2020-01-01"`)},
			[]string{bp("b", "2020-01-01", "")}, "1 code acute-b gp-a Observation.code.coding"},
		{"another minute", []string{bp("a", "2020-01-01T10:00:00Z", "")}, []string{bp("b", "2020-01-01T10:01:00Z", "")}, ""},
		{"a day and a minute of it", []string{bp("a", "2020-01-01", "")}, []string{bp("b", "2020-01-01T00:00:00Z", "")}, ""},
		{"the same day", []string{bp("a", "2020-07-01", "")}, []string{bp("b", "2020-07-01", "")}, "1 code acute-b gp-a"},
		{"another zone, the same minute", []string{bp("a", "2020-07-01T10:00:00+01:00", "")}, []string{bp("b", "2020-07-01T09:00:00Z", "")}, "1 code acute-b gp-a Observation.effectiveDateTime"},
		{"undated", []string{observation("a", `"code":{"coding":[{`+snomed+`"code":"1"}]}`)}, []string{observation("b", `"code":{"coding":[{`+snomed+`"code":"1"}]}`)}, ""},
		{"a code without a system", []string{observation("a", `"code":{"coding":[{"code":"1"}]},"effectiveDateTime":"2020"`)}, []string{observation("b", `"code":{"coding":[{"code":"1"}]},"effectiveDateTime":"2020"`)}, ""},
		{"a year is not its first day", []string{bp("a", "2020", "")}, []string{bp("b", "2020-01-01", ""), bp("c", "2020", ""), bp("d", "2020-01", "")}, "1 code acute-c gp-a"},
		{"days for what is not timed", []string{resource("Condition", "a", `"code":{"coding":[{`+snomed+`"code":"1"}]},"onsetDateTime":"2020-06-01T23:30:00Z"`)},
			[]string{resource("Condition", "b", `"code":{"coding":[{`+snomed+`"code":"1"}]},"onsetDateTime":"2020-06-02"`)}, "1 code acute-b gp-a Condition.onsetDateTime"},
		{"a year in which it began is not its first day", []string{condition("a", `"onsetPeriod":{"start":"2019"}`), condition("b", `"onsetDateTime":"2018","abatementDateTime":"2020"`)},
			[]string{condition("c", `"onsetDateTime":"2019-01-01"`), condition("d", `"onsetDateTime":"2018-01-01"`), condition("e", `"onsetPeriod":{"start":"2018-01-01T10:00:00Z"}`)}, ""},
		{"a year in which it began and ended, or one of them", []string{condition("a", `"onsetDateTime":"2019","abatementDateTime":"2020"`)}, []string{condition("b", `"onsetDateTime":"2019"`), condition("c", `"onsetPeriod":{"start":"2019"}`)},
			"1 code acute-b acute-c gp-a Condition.abatementDateTime Condition.onsetDateTime Condition.onsetPeriod"},
		{"a day on which it began, and a minute of it", []string{observation("a", coded+`,"effectivePeriod":{"start":"2020-01-01"}`)}, []string{observation("b", coded+`,"effectiveDateTime":"2020-01-01T00:00:00Z"`)}, ""},
		{"a minute in which it began", []string{observation("a", coded+`,"effectivePeriod":{"start":"2020-01-01T10:00:10Z","end":"2020-01-02"}`)}, []string{observation("b", coded+`,"effectiveDateTime":"2020-01-01T10:00:00Z"`)},
			"1 code acute-b gp-a Observation.effectiveDateTime Observation.effectivePeriod"},
		{"the first of several times", []string{resource("ServiceRequest", "a", coded+`,"occurrenceTiming":{"event":["2020-02-01","2020"]}`)},
			[]string{resource("ServiceRequest", "b", coded+`,"occurrenceDateTime":"2020"`), resource("ServiceRequest", "c", coded+`,"occurrenceDateTime":"2020-01-01"`)},
			"1 code acute-b gp-a ServiceRequest.occurrenceDateTime ServiceRequest.occurrenceTiming"},
		{"days are London's", []string{resource("Condition", "a", `"code":{"coding":[{`+snomed+`"code":"1"}]},"onsetDateTime":"2020-06-01T23:30:00Z"`)},
			[]string{resource("Condition", "b", `"code":{"coding":[{`+snomed+`"code":"1"}]},"onsetDateTime":"2020-06-02T12:00:00Z"`), resource("Condition", "c", `"code":{"coding":[{`+snomed+`"code":"1"}]},"onsetDateTime":"2020-06-01T12:00:00Z"`)},
			"1 code acute-b gp-a Condition.onsetDateTime"},
		{"an allergy, whenever recorded", []string{resource("AllergyIntolerance", "a", `"code":{"coding":[{`+snomed+`"code":"91936005"}]},"recordedDate":"2001"`)},
			[]string{resource("AllergyIntolerance", "b", `"code":{"coding":[{`+snomed+`"code":"91936005"}]}`)}, "1 code gp-a acute-b AllergyIntolerance.recordedDate"},
		{"medicines by their Medication", []string{resource("MedicationRequest", "a", `"medicationReference":{"reference":"Medication/m"},"authoredOn":"2020-01-01"`),
			`{"resourceType":"Medication","id":"m","code":{"coding":[{` + snomed + `"code":"322280009"}]}}`},
			[]string{resource("MedicationRequest", "b", `"contained":[{"resourceType":"Medication","id":"in","code":{"coding":[{`+snomed+`"code":"322280009"}]}}],"medicationReference":{"reference":"#in"},"authoredOn":"2020-01-01"`),
				resource("MedicationRequest", "c", `"medicationCodeableConcept":{"coding":[{`+snomed+`"code":"322280009"}]},"authoredOn":"2020-01-01"`)},
			"1 code acute-b acute-c gp-a MedicationRequest.contained MedicationRequest.medicationCodeableConcept MedicationRequest.medicationReference"},
		{"a letter by its digest", []string{resource("DocumentReference", "a", `"content":[{"attachment":{"hash":"aGFzaA==","title":"x"}}]`)},
			[]string{resource("DocumentReference", "b", `"content":[{"attachment":{"hash":"aGFzaA==","title":"y"}}]`)}, "1 identifier gp-a acute-b DocumentReference.content"},
		{"letters of nothing, by SHA-1", []string{letter("a", `"hash":"2jmj7l5rSw0yVb/vlWAYkK/YBwk="`)}, []string{letter("b", `"hash":"2jmj7l5rSw0yVb\/vlWAYkK\/YBwk="`)}, ""},
		{"letters of nothing, by SHA-256", []string{letter("a", `"hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="`)}, []string{letter("b", `"hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="`)}, ""},
		{"letters of no bytes", []string{letter("a", `"size":0,"hash":"aGFzaA=="`)}, []string{letter("b", `"size":0,"hash":"aGFzaA=="`)}, ""},
		{"letters of some bytes", []string{letter("a", `"size":10,"hash":"aGFzaA=="`)}, []string{letter("b", `"size":10,"hash":"aGFzaA=="`)}, "1 identifier acute-b gp-a"},
		{"a letter by its master identifier", []string{resource("DocumentReference", "a", `"masterIdentifier":{"system":"urn:l","value":"1"}`)},
			[]string{resource("DocumentReference", "b", `"identifier":[{"system":"urn:l","value":"1"}]`)}, "1 identifier acute-b gp-a DocumentReference.identifier DocumentReference.masterIdentifier"},
		{"a chain of both", []string{identified("a", "1"), observation("b", `"identifier":[{"system":"urn:lab","value":"2"}],"code":{"coding":[{`+snomed+`"code":"1"}]},"effectiveDateTime":"2020-01-01"`)},
			[]string{identified("c", "1"), observation("d", `"code":{"coding":[{`+snomed+`"code":"1"}]},"effectiveDateTime":"2020-01-01"`)},
			"1 code acute-d gp-b Observation.identifier; 2 identifier acute-c gp-a"},
		{"references and the order of members do not count, numbers as written do", []string{observation("a", `"identifier":[{"system":"urn:lab","value":"1"}],"encounter":{"reference":"Encounter/1"},"valueQuantity":{"value":1.50,"unit":"g"},"note":[{"text":"gp"}]`)},
			[]string{observation("b", `"valueQuantity":{"unit" : "\u0067","value":1.5},"encounter":{"reference":"Encounter/2"},"identifier":[{"value":"1","system":"urn:lab"}],"note":[{"text":"acute"}]`)},
			"1 identifier gp-a acute-b Observation.note Observation.valueQuantity.value"},
		{"names that are no names", []string{observation("a", `"identifier":[{"system":"urn:lab","value":"1"}],"Ada has secrets":1,"x":{"she said":"no"},"_status":{"id":"1"}`)},
			[]string{identified("b", "1")}, "1 identifier gp-a acute-b Observation._status Observation.other Observation.x"},
	} {
		parts := []Prepared{at(t, "gp", everything, c.gp...), at(t, "acute", everything, c.acute...)}
		a := Assemble(request(t), parts, nil)
		// Where members of a group are dated, the answer puts them in that order; the rest by custodian.
		got, want := brief(a.Groups), c.want
		if sortedIDs(got) != sortedIDs(want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
	}
}

// sortedIDs sorts the ids of groups, for cases that are not about the order.
func sortedIDs(s string) string {
	var out []string
	for _, g := range strings.Split(s, "; ") {
		f := strings.Fields(g)
		slices.Sort(f)
		out = append(out, strings.Join(f, " "))
	}
	return strings.Join(out, "; ")
}

func TestGroupsOfThree(t *testing.T) {
	one := `{"resourceType":"Observation","id":"1",` + toAda + `,"identifier":[{"system":"urn:a","value":"1"}],"effectiveDateTime":"2020-01-02"}`
	two := `{"resourceType":"Observation","id":"1",` + toAda + `,"identifier":[{"system":"urn:a","value":"1"},{"system":"urn:b","value":"1"}],"effectiveDateTime":"2020-01-01"}`
	three := `{"resourceType":"Observation","id":"1",` + toAda + `,"identifier":[{"system":"urn:b","value":"1"}],"effectiveDateTime":"2020-01-03"}`
	later := `{"resourceType":"Condition","id":"2",` + toAda + `,"identifier":[{"system":"urn:c","value":"1"}],"onsetDateTime":"2021"}`
	parts := []Prepared{at(t, "gp", everything, one, later), at(t, "acute", everything, two), at(t, "111", everything, three, later)}
	a := Assemble(request(t), parts, nil)
	if got, want := brief(a.Groups), "1 identifier 111-2 gp-2; 2 identifier 111-1 gp-1 acute-1 Observation.effectiveDateTime Observation.identifier"; got != want {
		t.Errorf(" got %s\nwant %s", got, want)
	}
	if a.Total != 6 {
		t.Errorf("total %d: a group is no match", a.Total)
	}

	// What is said of a group, and where it stands.
	var order []string
	var l fhir.Linkage
	for _, e := range a.Entries {
		order = append(order, e.Type)
		if e.Type == "Linkage" {
			if e.Mode != Include || e.Custodian != "" || e.FullURL != "https://broker.example/fhir/Linkage/"+e.ID || !legalID(e.ID) {
				t.Errorf("%+v", e)
			}
			var err error
			if l, err = fhir.UnmarshalLinkage(e.JSON); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, want := strings.Join(slices.Compact(order), " "), "Patient Condition Observation Linkage Provenance"; got != want {
		t.Errorf("got %s", got)
	}
	if len(l.Item) != 3 || l.Item[0].Type != fhir.LinkageTypeAlternate || *l.Item[0].Resource.Reference != "Observation/111-1" || *l.Active != true ||
		*l.Meta.Tag[0].System != "https://mycarerecord.example/CodeSystem/group" || *l.Meta.Tag[0].Code != "2" {
		t.Errorf("%+v", l)
	}
	var said []string
	for _, x := range l.Extension {
		if x.ValueCode != nil {
			said = append(said, x.Url+"="+*x.ValueCode)
		} else {
			said = append(said, x.Url+"="+*x.ValueString)
		}
	}
	const base = "https://mycarerecord.example/StructureDefinition/"
	if want := []string{base + "grouped-by=identifier", base + "differs=Observation.effectiveDateTime", base + "differs=Observation.identifier"}; !slices.Equal(said, want) {
		t.Errorf("got %v", said)
	}

	// A stream says the same of them, and has sent the same bytes of their members.
	last := Authored(request(t), parts, nil)
	if !reflect.DeepEqual(last.Groups, a.Groups) {
		t.Error("a stream has other groups")
	}
	sent := map[string]string{}
	for _, e := range last.Entries {
		sent[e.FullURL] = string(e.JSON)
	}
	for _, p := range parts {
		for _, e := range p.Entries {
			sent[e.FullURL] = string(e.JSON)
		}
	}
	for _, e := range a.Entries {
		if sent[e.FullURL] != string(e.JSON) {
			t.Errorf("%s is not the same in a stream", e.FullURL)
		}
	}
	if len(sent) != len(a.Entries) {
		t.Errorf("%d and %d entries", len(sent), len(a.Entries))
	}
}

func TestWhatIsWithheldIsInNoGroup(t *testing.T) {
	secret := strings.Replace(depression, `"id":"secret-condition"`, `"id":"c"`, 1)
	plain := strings.Replace(secret, "Major depression, secret-text", "Cough", 1)
	rules := without(record.MentalHealth)
	with := Assemble(request(t), []Prepared{at(t, "gp", rules, secret), at(t, "acute", rules, plain)}, nil)
	if len(with.Groups) != 0 {
		t.Errorf("%s", brief(with.Groups))
	}
	// The counterexample: shown at both.
	if got := Assemble(request(t), []Prepared{at(t, "gp", everything, secret), at(t, "acute", rules, plain)}, nil); brief(got.Groups) != "1 identifier acute-c gp-c Condition.code.text" {
		t.Errorf("%s", brief(got.Groups))
	}
	for _, e := range with.Entries {
		if e.Type == "Linkage" {
			t.Errorf("%s", e.JSON)
		}
	}
}

// Many differences are named by what holds them, and the list stays short.
func TestDifferencesAreFew(t *testing.T) {
	many := func(v string) string {
		var b strings.Builder
		for i := range 200 {
			fmt.Fprintf(&b, `"e%d":%q,`, i, v)
		}
		return `{"resourceType":"Observation","id":"1",` + toAda + `,"component":{` + strings.TrimSuffix(b.String(), ",") + `},"identifier":[{"system":"urn:a","value":"1"}]}`
	}
	a := Assemble(request(t), []Prepared{at(t, "gp", everything, many("x")), at(t, "acute", everything, many("y"))}, nil)
	if got := brief(a.Groups); got != "1 identifier acute-1 gp-1 Observation.component" {
		t.Errorf("got %s", got)
	}
}

// The rule of M-9 in another form, pair by pair, over drawn entries: the groups are what is connected by it, less what one custodian has alone.
func TestGroupsAreWhatIsConnected(t *testing.T) {
	type thing struct {
		key, id          string
		identifier, code int
		day              int
	}
	rapid.Check(t, func(rt *rapid.T) {
		keys := []string{"gp", "acute", "111"}
		var things []thing
		texts := map[string][]string{}
		for i := range rapid.IntRange(0, 12).Draw(rt, "n") {
			x := thing{key: rapid.SampledFrom(keys).Draw(rt, "key"), id: fmt.Sprintf("o%d", i), identifier: rapid.IntRange(0, 5).Draw(rt, "identifier"),
				code: rapid.IntRange(0, 3).Draw(rt, "code"), day: rapid.IntRange(1, 2).Draw(rt, "day")}
			things = append(things, x)
			text := fmt.Sprintf(`{"resourceType":"Observation","id":%q,%s,"effectiveDateTime":"2020-01-0%d"`, x.id, toAda, x.day)
			if x.identifier > 0 {
				text += fmt.Sprintf(`,"identifier":[{"system":"urn:lab","value":"%d"}]`, x.identifier)
			}
			if x.code > 0 {
				text += fmt.Sprintf(`,"code":{"coding":[{"system":"http://snomed.info/sct","code":"%d"}]}`, x.code)
			}
			texts[x.key] = append(texts[x.key], text+"}")
		}
		// A mark counts only if two custodians have it.
		marks := map[string]map[string][]int{}
		for i, x := range things {
			for _, m := range []string{fmt.Sprintf("i%d", x.identifier), fmt.Sprintf("c%d/%d", x.code, x.day)} {
				if m == "i0" || strings.HasPrefix(m, "c0") {
					continue
				}
				if marks[m] == nil {
					marks[m] = map[string][]int{}
				}
				marks[m][x.key] = append(marks[m][x.key], i)
			}
		}
		group := make([]int, len(things))
		for i := range group {
			group[i] = i
		}
		for changed := true; changed; {
			changed = false
			for _, at := range marks {
				if len(at) < 2 {
					continue
				}
				least := len(things)
				for _, list := range at {
					for _, i := range list {
						least = min(least, group[i])
					}
				}
				for _, list := range at {
					for _, i := range list {
						changed = changed || group[i] != least
						group[i] = least
					}
				}
			}
		}
		want := map[int][]string{}
		for i, x := range things {
			want[group[i]] = append(want[group[i]], x.key+"-"+x.id)
		}
		var expect []string
		for _, ids := range want {
			if slices.Sort(ids); len(ids) > 1 {
				expect = append(expect, strings.Join(ids, " "))
			}
		}
		slices.Sort(expect)

		var parts []Prepared
		for _, key := range keys {
			parts = append(parts, at(t, key, everything, texts[key]...))
		}
		a := Assemble(request(t), parts, nil)
		var got []string
		for i, g := range a.Groups {
			ids := make([]string, len(g.Members))
			custodians := map[string]bool{}
			for j, m := range g.Members {
				ids[j] = m[strings.LastIndexByte(m, '/')+1:]
				custodians[owner(ids[j])] = true
			}
			if g.Number != i+1 || len(custodians) < 2 {
				rt.Fatalf("%+v", g)
			}
			slices.Sort(ids)
			got = append(got, strings.Join(ids, " "))
		}
		slices.Sort(got)
		if !slices.Equal(got, expect) {
			rt.Fatalf("got %v, want %v", got, expect)
		}
		// Members stand in the order of the answer, and so do groups.
		position := map[string]int{}
		for i, e := range a.Entries {
			position[e.FullURL] = i
		}
		first := -1
		for _, g := range a.Groups {
			if position[g.Members[0]] <= first {
				rt.Fatalf("groups are out of order: %s", brief(a.Groups))
			}
			first = position[g.Members[0]]
			if !slices.IsSortedFunc(g.Members, func(x, y string) int { return position[x] - position[y] }) {
				rt.Fatalf("members are out of order: %v", g.Members)
			}
		}
		// Whatever comes first, the answer is the same.
		for key := range texts {
			shuffle(rt, texts[key])
		}
		var again []Prepared
		for _, key := range keys {
			again = append(again, at(t, key, everything, texts[key]...))
		}
		shuffle(rt, again)
		if b := Assemble(request(t), again, nil); !reflect.DeepEqual(b.Groups, a.Groups) || string(bundle(t, b, BundleMeta{})) != string(bundle(t, a, BundleMeta{})) {
			rt.Fatal("the order of arrival changes the groups")
		}
	})
}

// Every type and path of the table is one of R4, and every entry that it is for is about a person.
func TestTheGroupingTable(t *testing.T) {
	for typ, rule := range groupings {
		if subjects[typ].class != person {
			t.Errorf("%s is not about a person", typ)
		}
		if rule.time != anyTime && len(dates[typ].paths) == 0 {
			t.Errorf("%s has no time", typ)
		}
		for _, m := range models {
			if reflect.TypeOf(m).Name() != typ {
				continue
			}
			for _, path := range rule.codes {
				if element(reflect.TypeOf(m), path) == nil {
					t.Errorf("%s has no %s", typ, path)
				}
			}
		}
	}
}

// Grouping is linear: many entries of one mark, many marks, objects of many members.
func TestGroupsOfHostileSize(t *testing.T) {
	const n = 3000
	var same [2][]string
	var wide [2]string
	for k := range same {
		for i := range n {
			same[k] = append(same[k], fmt.Sprintf(`{"resourceType":"Observation","id":"%d",%s,"identifier":[{"system":"urn:a","value":"1"},{"system":"urn:b","value":"%d"}]}`, i, toAda, i))
		}
		members := map[string]int{}
		for i := range 40_000 {
			members[fmt.Sprintf("m%d", i)] = i * k
		}
		text, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		wide[k] = `{"resourceType":"Condition","id":"w",` + toAda + `,"identifier":[{"system":"urn:w","value":"1"}],"x":` + string(text) + `,"y":[` + string(text) + `]}`
	}
	a := Assemble(request(t), []Prepared{at(t, "gp", everything, append(same[0], wide[0])...), at(t, "acute", everything, append(same[1], wide[1])...)}, nil)
	if len(a.Groups) != 2 || len(a.Groups[0].Members)+len(a.Groups[1].Members) != 2*n+2 {
		t.Errorf("%d groups", len(a.Groups))
	}
}

func TestUnknownIsNoCode(t *testing.T) {
	const x = `{"resourceType":"AllergyIntolerance","id":"a","patient":{"reference":"Patient/p"},"code":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/data-absent-reason","code":"unknown"}],"text":"%"}}`
	if g := groups([]Prepared{at(t, "acute", everything, strings.Replace(x, "%", "latex", 1)), at(t, "gp", everything, strings.Replace(x, "%", "peanut", 1))}); len(g) > 0 {
		t.Errorf("%+v", g)
	}
}
