package test

import (
	"slices"
	"strings"
	"testing"
)

// TestComparison shows that the comparison of TestSynthea sees what it must: each forbidden change is found, each allowed one is let through.
func TestComparison(t *testing.T) {
	const given = `{"resourceType":"Observation","id":"o1","meta":{"versionId":"3","source":"urn:x","tag":[{"system":"urn:t","code":"a"}]},` +
		`"subject":{"reference":"Patient/p1"},"focus":[{"reference":"http://elsewhere.example/Group/1"}],"specimen":{"reference":"Specimen/gone"},` +
		`"valueQuantity":{"value":1.0,"unit":"\u006dg"},"note":[ {"text":"a  b"} ],"_status":{"extension":[{"url":"urn:e","valueDecimal":1e2}]}}`
	const shown = `{"resourceType":"Observation","id":"gp-o1","meta":{"versionId":"3","source":"https://mycarerecord.example/custodian/gp",` +
		`"extension":[{"url":"https://mycarerecord.example/StructureDefinition/original-source","valueUri":"urn:x"}],` +
		`"tag":[{"system":"https://mycarerecord.example/CodeSystem/section","code":"results"},{"system":"urn:t","code":"a"}]},` +
		`"subject":{"reference":"Patient/gp-p1"},"focus":[{"reference":"http://elsewhere.example/Group/1"}],"specimen":{"reference":"http://gp/fhir/Specimen/gone"},` +
		`"valueQuantity":{"value":1.0,"unit":"\u006dg"},"note":[ {"text":"a  b"} ],"_status":{"extension":[{"url":"urn:e","valueDecimal":1e2}]}}`
	compared := func(shown string) []string {
		t.Helper()
		a, err := readJSON([]byte(given))
		if err != nil {
			t.Fatal(err)
		}
		b, err := readJSON([]byte(shown))
		if err != nil {
			return []string{err.Error()}
		}
		c := shownAs{
			given: holding{base: "http://gp/fhir", patient: "Patient/p1", byKey: map[string]*node{"Patient/p1": a, "Observation/o1": a}},
			newID: map[string]string{"Patient/p1": "Patient/gp-p1", "Observation/o1": "Observation/gp-o1"},
			base:  "http://us/fhir",
		}
		c.resource(a, b)
		return c.difference
	}
	if d := compared(shown); len(d) > 0 {
		t.Fatalf("what M-3 allows is taken for a difference: %v", d)
	}
	for what, swap := range map[string][2]string{
		"number text":                   {`"value":1.0`, `"value":1.00`},
		"exponent":                      {`1e2`, `100`},
		"escape":                        {`\u006dg`, `mg`},
		"white space in a string":       {`a  b`, `a b`},
		"white space between tokens":    {`[ {"text":"a  b"} ]`, `[{"text":"a  b"}]`},
		"a member gone":                 {`,"_status":{"extension":[{"url":"urn:e","valueDecimal":1e2}]}`, ``},
		"a member more":                 {`"resourceType"`, `"language":"en","resourceType"`},
		"a member twice":                {`"resourceType"`, `"subject":{},"resourceType"`},
		"order of members":              {`"value":1.0,"unit":"\u006dg"`, `"unit":"\u006dg","value":1.0`},
		"own reference not rewritten":   {`Patient/gp-p1`, `Patient/p1`},
		"reference to another":          {`Patient/gp-p1`, `Patient/acute-p1`},
		"foreign reference rewritten":   {`http://elsewhere.example/Group/1`, `Group/gp-1`},
		"dangling one made ours":        {`http://gp/fhir/Specimen/gone`, `Specimen/gp-gone`},
		"another id":                    {`"id":"gp-o1"`, `"id":"gp-o2"`},
		"versionId":                     {`"versionId":"3"`, `"versionId":"4"`},
		"meta.profile added":            {`"versionId":"3"`, `"versionId":"3","profile":["urn:p"]`},
		"the custodian's tag":           {`"system":"urn:t","code":"a"`, `"system":"urn:t","code":"b"`},
		"a tag that is not of ours":     {`https://mycarerecord.example/CodeSystem/section`, `urn:mine`},
		"a source that is not of ours":  {`"source":"https://mycarerecord.example/`, `"source":"https://elsewhere.example/`},
		"the original source lost":      {`"extension":[{"url":"https://mycarerecord.example/StructureDefinition/original-source","valueUri":"urn:x"}],`, ``},
		"the original source falsified": {`"valueUri":"urn:x"`, `"valueUri":"urn:y"`},
	} {
		changed := strings.Replace(shown, swap[0], swap[1], 1)
		if changed == shown {
			t.Fatalf("%s: the case changes nothing", what)
		}
		if len(compared(changed)) == 0 {
			t.Errorf("%s: not seen", what)
		}
	}
}

// TestOrderOfPlaces shows that the order of TestSynthea is the one of M-8, on cases worked out by hand.
func TestOrderOfPlaces(t *testing.T) {
	at := func(text, id string) place {
		doc, err := readJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		w := whenOf(t, doc)
		if !w.dated {
			t.Fatalf("%s is undated", id)
		}
		return place{group: 3, when: w, key: "gp", typ: doc.str("resourceType"), id: id}
	}
	want := []place{
		at(`{"resourceType":"Encounter","period":{"start":"2021-06-01T10:00:00Z"}}`, "goes on, so ends last"),
		at(`{"resourceType":"Encounter","period":{"start":"2021-06-01T10:00:00Z","end":"2021-06-01T11:00:00Z"}}`, "an hour"),
		at(`{"resourceType":"Immunization","occurrenceDateTime":"2021-06-01T11:00:00+01:00"}`, "the same second, one time"),
		at(`{"resourceType":"Procedure","performedPeriod":{"start":"2021-06-01T10:00:00Z","end":"2021-06-01T10:00:00Z"}}`, "the same second, as a period"),
		at(`{"resourceType":"Immunization","occurrenceDateTime":"2021-06-01"}`, "begins at midnight of British Summer Time"),
		at(`{"resourceType":"Observation","effectiveDateTime":"2021-05-31T23:00:00Z"}`, "which is this second"),
		at(`{"resourceType":"Observation","effectiveDateTime":"2021-05-31T22:59:59.5Z"}`, "half a second before"),
		at(`{"resourceType":"Condition","onsetDateTime":"2021","abatementDateTime":"2023-01-02"}`, "from the start of the year, abated"),
		at(`{"resourceType":"Condition","onsetDateTime":"2021"}`, "the year alone"),
		at(`{"resourceType":"Condition","onsetDateTime":"2021-01"}`, "its first month"),
		{group: 4, key: "gp", typ: "Goal", id: "a"},
		{group: 4, key: "gp", typ: "Goal", id: "b"},
		{group: 5},
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortStableFunc(got, place.compare)
	for i := range want {
		if got[i].id != want[i].id {
			t.Errorf("place %d is %q, want %q", i, got[i].id, want[i].id)
		}
	}
}

// TestReadJSON shows that the reader of the proofs takes what is JSON, refuses what is not, and keeps number text.
func TestReadJSON(t *testing.T) {
	for _, good := range []string{`{}`, ` [ ] `, `"a\"b\u0041"`, `-0.10E+2`, `{"a":[true,false,null,{"b":1.0}]}`} {
		if _, err := readJSON([]byte(good)); err != nil {
			t.Errorf("%s is refused", good)
		}
	}
	for _, bad := range []string{``, `{`, `[1,]`, `{"a":1,}`, `{"a" 1}`, `{a:1}`, `"a`, `"\x"`, "\"a\tb\"", `01`, `1.`, `nul`, `{} {}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, "\"\xff\""} {
		if _, err := readJSON([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	n, err := readJSON([]byte(`{"a":[{"b":"x\u0041","c":1.50}]}`))
	if err != nil || n.str("a", "b") != "xA" || n.get("a", "c").raw != "1.50" || n.get("a", "d", "e") != nil {
		t.Error("what is read is not what was written")
	}
}
