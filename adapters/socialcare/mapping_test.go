package socialcare_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/adapters/socialcare"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

const smallMapping = `
dates: [dd/mm/yyyy, mm/yyyy, yyyy, dd/mm/yyyy hh:mm]
paging: {items: items, next: next}
refusals: {code: error, withheld: [HELD], noRecord: [NOBODY]}
person:
  search: find
  parameter: n
  items: items
  id: id
  number: nhs
  status: trace
  statuses: {ok: "01"}
  fields: [{to: "name[0].family", from: name}]
collections:
  - name: plans
    path: p/{id}/plans
    resource: CarePlan
    id: ref
    person: who
    ignore: [own]
    fields:
      - {to: status, from: state, map: {Open: active}}
      - {to: intent, value: plan}
      - {to: title, from: title}
      - {to: period.start, from: start, as: date}
      - {to: created, from: made, as: time}
      - {to: "activity[*].detail.description", from: "services[*].name"}
      - {to: "activity[*].detail.dailyAmount.value", from: "services[*].hours", as: number}
      - {to: "activity[*].detail.doNotPerform", from: "services[*].stopped", as: boolean}
      - {to: "activity[*].detail.status", value: ""}
`

var goodMapping = strings.Replace(smallMapping, "      - {to: \"activity[*].detail.status\", value: \"\"}\n", "", 1)

// What is wrong with a mapping is named.
func TestMappingProblems(t *testing.T) {
	if p := socialcare.Problem(goodMapping); p != "" {
		t.Fatalf("the good one: %s", p)
	}
	for change, want := range map[[2]string]string{
		{"dates: [dd/mm/yyyy", "dates: [dd-yy"}:                                                 "dates: one of",
		{"paging:", "pages:"}:                                                                   "an unknown key",
		{"search: find", "search: /find"}:                                                       "person.search",
		{"search: find", "search: \"{id}\""}:                                                    "person.search",
		{"  id: id\n", ""}:                                                                      "person: parameter, id and number",
		{"statuses: {ok: \"01\"}", "statuses: {ok: \"09\"}"}:                                    "person.statuses",
		{"resource: CarePlan", "resource: Observation"}:                                         "plans.resource",
		{"path: p/{id}/plans", "path: p/plans"}:                                                 "plans.path",
		{"path: p/{id}/plans", "path: p/{id}/{id}"}:                                             "plans.path",
		{"path: p/{id}/plans", "path: https://x.example/{id}"}:                                  "plans.path",
		{"path: p/{id}/plans", "path: p/{id}?x=1"}:                                              "plans.path",
		{"to: title", "to: Title"}:                                                              "to is an element",
		{"to: title", "to: subject.reference"}:                                                  "not for a mapping to say",
		{"to: title", "to: id"}:                                                                 "not for a mapping to say",
		{"to: title", "to: \"extension[0].url\""}:                                               "not for a mapping to say",
		{"to: \"name[0].family\"", "to: \"identifier[0].value\""}:                               "not for a mapping to say",
		{"from: title", "from: \"title[0]\""}:                                                   "from is member names",
		{"from: title", "from: \"titles[*].x\""}:                                                "a star in to and in from",
		{"from: title}", "from: title, value: x}"}:                                              "from or value",
		{"as: date", "as: day"}:                                                                 "as is text",
		{"as: date", "as: reference"}:                                                           "a reference is of a collection",
		{"as: date", "as: reference, of: nothing"}:                                              "a reference is of a collection",
		{"to: title, from: title}", "to: title, from: title}\n      - {to: title, from: name}"}: "plans title: is made by two fields",
		{"to: title, from: title}", "to: title, from: title}\n      - {to: title, value: x}"}:   "plans title: is made by two fields",
		{"to: title, from: title}", "to: \"activity[0].detail.description\", from: title}"}:     "is made by two fields",
		{"to: \"name[0].family\", from: name}", "to: \"name[0].family\", from: name}, {to: \"name[0].family\", from: surname}"}: "person name[0].family: is made by two fields",
		{"to: title", "to: period"}:                                             "written in two ways",
		{"      - {to: intent, value: plan}\n", ""}:                             "FHIR demands intent",
		{"person: who", "person: \"who is it\""}:                                "a path is member names",
		{"name: plans", "name: \"pl ans\""}:                                     "a name of its own",
		{"fields: [{to: \"name[0].family\", from: name}]", "fields: []"}:        "person.fields: 1 to 128",
		{"refusals: {code: error", "refusals: {code: \"e[*]\""}:                 "a path is member names",
		{"    person: who\n", "    paging: {items: \"it ems\"}\n"}:              "plans.paging: a path is member names",
		{"    person: who\n", "    paging: {next: \"links[*].href\"}\n"}:        "plans.paging: a path is member names",
		{"collections:\n", "collections: []\nmore:\n"}:                          "an unknown key",
		{"dates:", "---\na: 1\n---\ndates:"}:                                    "an unknown key",
		{"collections:\n  - name: plans", "collections:\n  -\n  - name: plans"}: "a name of its own",
	} {
		if !strings.Contains(goodMapping, change[0]) {
			t.Fatalf("nothing to change: %s", change[0])
		}
		if got := socialcare.Problem(strings.Replace(goodMapping, change[0], change[1], 1)); !strings.Contains(got, want) {
			t.Errorf("%s -> %s: got %q, want %q", change[0], change[1], got, want)
		}
	}
	if got := socialcare.Problem(smallMapping); !strings.Contains(got, "from or value") {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"westmarch", "northmoor"} {
		text, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if p := socialcare.Problem(string(text)); p != "" {
			t.Errorf("%s: %s", name, p)
		}
	}
}

// An item becomes what the mapping says; what the mapping does not know is kept, and what it cannot say is not guessed.
func TestItem(t *testing.T) {
	const ours = `https://mycarerecord.example/StructureDefinition/`
	kept := func(value string) string {
		return `{"url":"` + ours + `source-original","valueString":"` + value + `"}`
	}
	field := func(text string) string { return `{"url":"` + ours + `source-field","valueString":"` + text + `"}` }
	const absent = `{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}`
	const about = `"subject":{"reference":"urn:mycarerecord:subject","type":"Patient"}`
	for _, c := range []struct{ name, item, want string }{
		{"whole", `{"ref":"1","who":"C1","state":"Open","title":" Home care ","start":"01/02/2024","own":7}`,
			`{"extension":[` + field("ref: 1") + `],` + about + `,"status":"active","intent":"plan","title":"Home care","period":{"start":"2024-02-01"}}`},
		{"an unknown state", `{"ref":"1","who":"C1","state":"Paused"}`, `{"extension":[` + field("ref: 1") + `],` + about + `,"_status":{"extension":[` + absent + `,` + kept("Paused") + `]},"intent":"plan"}`},
		{"no state", `{"ref":"1","who":"C1","state":null,"title":""}`, `{"extension":[` + field("ref: 1") + `],` + about + `,"_status":{"extension":[` + absent + `]},"intent":"plan"}`},
		{"a month, and no date", `{"ref":"1","who":"C1","state":"Open","start":"02/2024","made":"soon"}`,
			`{"extension":[` + field("ref: 1") + `],` + about + `,"status":"active","intent":"plan","period":{"start":"2024-02"},"_created":{"extension":[` + kept("soon") + `]}}`},
		{"a time without a zone", `{"ref":"1","who":"C1","state":"Open","made":"01/07/2024 09:30"}`,
			`{"extension":[` + field("ref: 1") + `],` + about + `,"status":"active","intent":"plan","created":"2024-07-01T09:30:00+01:00","_created":{"extension":[` + kept("01/07/2024 09:30") + `]}}`},
		{"more than is mapped", `{"ref":"1","who":"C1","state":"Open","cost":{"weekly":120.50,"paidBy":["us","them"]},"open":true}`,
			`{"extension":[` + field("ref: 1") + `,` + field("cost.weekly: 120.50") + `,` + field("cost.paidBy: us") + `,` + field("cost.paidBy: them") + `,` + field("open: true") + `],` + about + `,"status":"active","intent":"plan"}`},
		{"lists", `{"ref":"1","who":"C1","state":"Open","services":[{"name":"Wash","hours":1.50,"stopped":false},{"hours":"two"},{"name":"Cook","hours":3,"who":"Bo"}]}`,
			`{"extension":[` + field("ref: 1") + `,` + field("services.who: Bo") + `],` + about + `,"status":"active","intent":"plan","activity":[{"detail":{"description":"Wash","dailyAmount":{"value":1.50},"doNotPerform":false}},` +
				`{"detail":{"dailyAmount":{"_value":{"extension":[` + kept("two") + `]}}}},{"detail":{"description":"Cook","dailyAmount":{"value":3}}}]}`},
		{"somebody else's", `{"ref":"1","who":"C2","state":"Open"}`,
			`{"extension":[` + field("ref: 1") + `],"subject":{"reference":"urn:mycarerecord:stranger","type":"Patient"},"status":"active","intent":"plan"}`},
		{"an object where a text is meant", `{"ref":"1","who":"C1","state":"Open","title":{"en":"Care"}}`,
			`{"extension":[` + field("ref: 1") + `,` + field("title.en: Care") + `],` + about + `,"status":"active","intent":"plan"}`},
	} {
		got, err := socialcare.Convert(goodMapping, []byte(c.item))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if a, b := canonical(t, string(got), "id", "resourceType"), canonical(t, c.want); a != b {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, a, b)
		}
	}
	if _, err := socialcare.Convert(goodMapping, []byte(`{"ref":"1","who":"C1","many":[`+strings.Repeat("1,", 3000)+`1]}`)); !errors.Is(err, broker.ErrTooMuch) {
		t.Errorf("3,000 members that are not mapped: got %v", err)
	}
	if _, err := socialcare.Convert(goodMapping, []byte(`{"ref":"1","who":"C1","services":[`+strings.Repeat(`{"name":"x"},`, 1500)+`{}]}`)); !errors.Is(err, broker.ErrTooMuch) {
		t.Errorf("1,500 elements of a list: got %v", err)
	}
	for _, bad := range []string{`7`, `[]`, `{"who":"C1"}`, `{"ref":{},"who":"C1"}`, `{"ref":"1"}`, `{"ref":"1","who":null}`} {
		if _, err := socialcare.Convert(goodMapping, []byte(bad)); !errors.Is(err, broker.ErrMalformed) {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

// What FHIR demands and an item does not have is marked as not known; a reference leads to the id that the other item gets.
func TestDemandedAndReferences(t *testing.T) {
	collection := func(text string) string {
		return goodMapping[:strings.Index(goodMapping, "collections:")] + "collections:\n  - {name: first, path: \"p/{id}/x\", id: ref, " + text + "}\n" +
			"  - {name: teams, path: \"p/{id}/teams\", id: ref, resource: CareTeam, fields: [{to: name, from: name}]}\n"
	}
	const absent = `{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}`
	for _, c := range []struct{ mapping, item, want string }{
		{`resource: Flag, fields: [{to: status, from: s, map: {L: active}}, {to: code.text, from: what}]`, `{"ref":"1","s":"L"}`, `"code":` + absent},
		{`resource: Flag, fields: [{to: status, from: s, map: {L: active}}, {to: code.text, from: what}]`, `{"ref":"1","what":"Dog"}`, `"_status":` + absent},
		{`resource: EpisodeOfCare, fields: [{to: status, from: s, map: {L: active}}]`, `{"ref":"1"}`, `"patient":{"reference":"urn:mycarerecord:subject","type":"Patient"}`},
		{`resource: DocumentReference, fields: [{to: status, value: current}, {to: "content[0].attachment.data", from: file}]`, `{"ref":"1"}`, `"content":[{"attachment":` + absent + `}]`},
		{`resource: DocumentReference, fields: [{to: status, value: current}, {to: "content[0].attachment.data", from: file}]`, `{"ref":"1","file":"QUJD"}`, `"content":[{"attachment":{"data":"QUJD"}}]`},
		{`resource: RelatedPerson, fields: [{to: "name[0].given[0]", from: a}, {to: "name[0].given[1]", from: b}]`, `{"ref":"1","b":"Bo"}`, `"given":["Bo"]`},
	} {
		got, err := socialcare.Convert(collection(c.mapping), []byte(c.item))
		if err != nil || !strings.Contains(string(got), c.want) {
			t.Errorf("%s: got %s, %v; want %s in it", c.item, got, err, c.want)
		}
	}
	plan, err := socialcare.Convert(collection(`resource: CarePlan, fields: [{to: status, value: active}, {to: intent, value: plan}, {to: "careTeam[0].reference", from: team, as: reference, of: teams}]`), []byte(`{"ref":"1","team":77}`))
	if err != nil {
		t.Fatal(err)
	}
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api/find":
			_, _ = io.WriteString(w, `{"items":[{"id":"C1","nhs":"9990000034"}]}`)
		case "/api/p/C1/teams":
			_, _ = io.WriteString(w, `{"items":[{"ref":77,"name":"North"}]}`)
		default:
			_, _ = io.WriteString(w, `{"items":[{"ref":"1","team":77}]}`)
		}
	}, collection(`resource: CarePlan, fields: [{to: status, value: active}, {to: intent, value: plan}, {to: "careTeam[0].reference", from: team, as: reference, of: teams}]`))
	reply, err := s.Fetch(t.Context(), query(t, held))
	if err != nil || len(reply.Entries) != 3 {
		t.Fatalf("%d entries, %v", len(reply.Entries), err)
	}
	if want := "CareTeam/" + reply.Entries[2].Resource.Get("id").Text(); reply.Entries[1].Resource.At("careTeam", "reference").Text() != want || !strings.Contains(string(plan), want) {
		t.Error("the reference does not lead to the team")
	}
	if p := prepared(t, reply, held); p.Dangling != 0 {
		t.Errorf("%d references lead nowhere in the merge", p.Dangling)
	}
}

// canonical writes JSON with members in order and without those named.
func canonical(t *testing.T, text string, without ...string) string {
	t.Helper()
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("not JSON: %s", text)
	}
	for _, k := range without {
		delete(m, k)
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Dates in each form, never more exact than they were written.
func TestDates(t *testing.T) {
	for _, c := range []struct {
		text, form string
		time       bool
		want       string
		exact      bool
	}{
		{"29/02/2024", "dd/mm/yyyy", false, "2024-02-29", true}, {"30/02/2024", "dd/mm/yyyy", false, "", false}, {"2/29/2024", "dd/mm/yyyy", false, "", false},
		{"1/2/2024", "d/m/yyyy", false, "2024-02-01", true}, {"02/2024", "mm/yyyy", false, "2024-02", true}, {"2024", "yyyy", false, "2024", true},
		{"2024-02", "yyyy-mm", false, "2024-02", true}, {"2024-02-29", "yyyy-mm-dd", false, "2024-02-29", true}, {"29 Feb 2024", "dd Mon yyyy", false, "2024-02-29", true},
		{"29.02.2024", "dd.mm.yyyy", false, "2024-02-29", true}, {"29-02-2024", "dd-mm-yyyy", false, "2024-02-29", true},
		{"01/07/2024 09:30", "dd/mm/yyyy hh:mm", false, "2024-07-01T09:30:00+01:00", false}, {"27/10/2024 01:30", "dd/mm/yyyy hh:mm", true, "2024-10-27", false},
		{"2024-01-01T09:30:00", "yyyy-mm-ddThh:mm:ss", true, "2024-01-01T09:30:00+00:00", false}, {"2024-01-01T09:30:00Z", "", true, "2024-01-01T09:30:00Z", true},
		{"2024-01-01T09:30:00+01:00", "", true, "2024-01-01T09:30:00+01:00", true}, {"2024-01-01T09:30+01:00", "", true, "", false}, {"29/02/2024", "dd/mm/yyyy", true, "", false},
		{"soon", "yyyy", false, "", false}, {"0000", "yyyy", false, "", false},
	} {
		var forms []string
		if c.form != "" {
			forms = []string{c.form}
		}
		if got, exact := socialcare.ReadDate(c.text, c.time, forms...); got != c.want || exact != c.exact {
			t.Errorf("%s as %s: got %q, %v; want %q, %v", c.text, c.form, got, exact, c.want, c.exact)
		}
	}
}

// Hostile answers, each with what becomes of it.
func TestHostile(t *testing.T) {
	const one = `{"items":[{"id":"C1","nhs":"999 000 0034","name":"Ashworth","trace":"ok"}]}`
	const plan = `{"items":[{"ref":"1","who":"C1","state":"Open"}]}`
	malformed, wrong := broker.ErrMalformed, broker.ErrWrongSubject
	for _, c := range []struct {
		name, find, plans string
		want              error
	}{
		{"good", one, plan, nil},
		{"the person and no list", `{"items":{"id":"C1","nhs":"9990000034","name":"Ashworth"}}`, plan, nil},
		{"no list where one should be", one, `{}`, malformed},
		{"a list of nothing", one, `{"items":null}`, nil},
		{"a list of texts", one, `{"items":["a"]}`, malformed},
		{"nobody", `{"items":[]}`, plan, broker.ErrNoRecord},
		{"two people", `{"items":[{"id":"C1","nhs":"9990000034"},{"id":"C2","nhs":"9990000034"}]}`, plan, wrong},
		{"another number", `{"items":[{"id":"C1","nhs":"9990000018"}]}`, plan, wrong},
		{"no number", `{"items":[{"id":"C1"}]}`, plan, wrong},
		{"a number that is none", `{"items":[{"id":"C1","nhs":"9990000035"}]}`, plan, wrong},
		{"no id", `{"items":[{"nhs":"9990000034"}]}`, plan, malformed},
		{"an id that is the NHS number", `{"items":[{"id":"9990000034","nhs":"9990000034"}]}`, plan, malformed},
		{"an id that is the NHS number in pieces", `{"items":[{"id":"999-000-0034","nhs":"9990000034"}]}`, plan, malformed},
		{"an id that climbs", `{"items":[{"id":"..","nhs":"9990000034"}]}`, plan, broker.ErrElsewhere},
		{"an id with a slash", `{"items":[{"id":"C1/../../admin","nhs":"9990000034"}]}`, plan, malformed},
		{"a web page", "<html>", plan, malformed},
		{"nothing", "", plan, malformed},
		{"null", "null", plan, malformed},
		{"items of somebody else", one, `{"items":[{"ref":"1","who":"C9","state":"Open"}]}`, wrong},
		{"items of nobody", one, `{"items":[{"ref":"1","state":"Open"}]}`, malformed},
		{"a next page elsewhere", one, `{"items":[],"next":"https://elsewhere.invalid/api/p/C1/plans"}`, broker.ErrElsewhere},
		{"a next page above", one, `{"items":[],"next":"/admin"}`, broker.ErrElsewhere},
		{"a next page that is itself", one, `{"items":[],"next":"p/C1/plans"}`, malformed},
		{"a next page with the NHS number", one, `{"items":[],"next":"p/C1/plans?nhs=9990000034"}`, malformed},
		{"trailing data", one + one, plan, malformed},
		{"keys that differ in case", strings.Replace(one, `"id":"C1"`, `"id":"C1","ID":"C2"`, 1), plan, malformed},
		{"a status of trace that is not known", strings.Replace(one, `"ok"`, `"maybe"`, 1), plan, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				text := c.plans
				switch {
				case r.URL.Path == "/api/find":
					text = c.find
				case r.URL.Path != "/api/p/C1/plans" || strings.Contains(r.URL.RawQuery, held):
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = io.WriteString(w, text)
			})
			reply, err := s.Fetch(t.Context(), query(t, held))
			if c.want == nil && err != nil || !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil && (len(reply.Entries) > 0 || err.Error() != c.want.Error()) {
				t.Error("an error with entries, or with a text of its own")
			}
		})
	}
}

// A next page is read, or the answer is not taken for whole.
func TestNextPages(t *testing.T) {
	long := strings.Repeat("a", 600)
	byKey := strings.Replace(goodMapping, "next: next}", "next: next, parameter: after}", 1)
	deeper := strings.Replace(goodMapping, "next: next}", "next: next.url}", 1)
	inOtherCase := strings.Replace(goodMapping, "next: next}", "next: Next}", 1)
	for _, c := range []struct {
		name, mapping, next string
		query               string // that is asked for next; "" for none
		want                error
	}{
		{"null", goodMapping, `null`, "", nil}, {"an empty text", goodMapping, `""`, "", nil}, {"blanks", goodMapping, `"  "`, "", nil}, {"false", goodMapping, `false`, "", nil},
		{"an empty list", goodMapping, `[]`, "", nil}, {"an empty object", goodMapping, `{}`, "", nil},
		{"a short address", goodMapping, `"p/C1/plans?after=a"`, "after=a", nil}, {"a long address", goodMapping, `"p/C1/plans?after=` + long + `"`, "after=" + long, nil},
		{"a longer one than is asked for", goodMapping, `"p/C1/plans?after=` + strings.Repeat("a", 9<<10) + `"`, "", broker.ErrMalformed},
		{"true", goodMapping, `true`, "", broker.ErrMalformed}, {"an address in an object", goodMapping, `{"href":"p/C1/plans?after=a"}`, "", broker.ErrMalformed},
		{"an address in a list", goodMapping, `["p/C1/plans?after=a"]`, "", broker.ErrMalformed},
		{"a name in other case", inOtherCase, `"p/C1/plans?after=a"`, "", broker.ErrMalformed},
		{"no key", byKey, `null`, "", nil}, {"not even a key", byKey, `false`, "", nil}, {"a key", byKey, `"a"`, "after=a", nil}, {"a number", byKey, `2`, "after=2", nil},
		{"a long key", byKey, `"` + long + `"`, "after=" + long, nil}, {"a longer one", byKey, `"` + strings.Repeat("a", 9<<10) + `"`, "", broker.ErrMalformed},
		{"a list of keys", byKey, `["a"]`, "", broker.ErrMalformed},
		{"none, deeper", deeper, `{}`, "", nil}, {"nothing, deeper", deeper, `null`, "", nil}, {"a list of none, deeper", deeper, `[]`, "", nil},
		{"an address, deeper", deeper, `{"url":"p/C1/plans?after=a"}`, "after=a", nil},
		{"a name in other case, deeper", deeper, `{"URL":"p/C1/plans?after=a"}`, "", broker.ErrMalformed},
		{"a list of addresses, deeper", deeper, `[{"url":"p/C1/plans?after=a"}]`, "", broker.ErrMalformed},
		{"an address that is not deeper", deeper, `"p/C1/plans?after=a"`, "", broker.ErrMalformed},
	} {
		second := false
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch r.URL.Path + "?" + r.URL.RawQuery {
			case "/api/find?":
				_, _ = io.WriteString(w, `{"items":[{"id":"C1","nhs":"999 000 0034","name":"Ashworth","trace":"ok"}]}`)
			case "/api/p/C1/plans?":
				_, _ = io.WriteString(w, `{"items":[{"ref":"1","who":"C1","state":"Open"}],"next":`+c.next+`}`)
			case "/api/p/C1/plans?" + c.query:
				second = true
				_, _ = io.WriteString(w, `{"items":[{"ref":"2","who":"C1","state":"Open"}]}`)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}, c.mapping)
		reply, err := s.Fetch(t.Context(), query(t, held))
		entries := 2 // the person and what is on the first page
		switch {
		case c.want != nil:
			entries = 0
		case c.query != "":
			entries = 3
		}
		if !errors.Is(err, c.want) || err != nil && c.want == nil || second != (c.query != "") || len(reply.Entries) != entries || len(reply.Parts) > 0 {
			t.Errorf("%s: %d entries, parts %v, %v", c.name, len(reply.Entries), reply.Parts, err)
		}
	}
}

// What came on the pages before one that says nobody stays, and is not all: the page before said that there is more.
func TestALaterPageThatSaysNobody(t *testing.T) {
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path + "?" + r.URL.RawQuery {
		case "/api/find?":
			_, _ = io.WriteString(w, `{"items":[{"id":"C1","nhs":"999 000 0034","name":"Ashworth","trace":"ok"}]}`)
		case "/api/p/C1/plans?":
			_, _ = io.WriteString(w, `{"items":[{"ref":"1","who":"C1","state":"Open"}],"next":"p/C1/plans?page=2"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"NOBODY"}`)
		}
	})
	reply, err := s.Fetch(t.Context(), query(t, held))
	if want := []record.Part{{Source: "plans", Reason: record.PartTruncated}}; err != nil || len(reply.Entries) != 2 || !slices.Equal(reply.Parts, want) {
		t.Errorf("%d entries, parts %v, %v", len(reply.Entries), reply.Parts, err)
	}
}

// What error answers mean.
func TestErrorAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   error
		part   string // of a collection that is answered so
	}{
		{"held", 403, `{"error":"HELD"}`, broker.ErrWithheld, record.PartWithheld},
		{"held, and 404", 404, `{"error":"HELD"}`, broker.ErrWithheld, record.PartWithheld},
		{"nobody", 404, `{"error":"NOBODY"}`, broker.ErrNoRecord, ""},
		{"404 without a word", 404, `{}`, broker.ErrMalformed, record.PartSourceDown},
		{"403 without a word", 403, `{}`, broker.ErrUnauthorised, record.PartSourceDown},
		{"400", 400, `{}`, broker.ErrMalformed, record.PartSourceDown},
		{"500", 500, `{}`, broker.ErrMalformed, record.PartSourceDown},
		{"500 that says nobody", 500, `{"error":"NOBODY"}`, broker.ErrMalformed, record.PartSourceDown},
		{"401", 401, `{}`, broker.ErrUnauthorised, "!"},
		{"503", 503, `{}`, broker.ErrUnavailable, "!"},
		{"429", 429, `{}`, broker.ErrThrottled, "!"},
		{"302", 302, ``, broker.ErrElsewhere, "!"},
	} {
		for _, where := range []string{"find", "plans"} {
			s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if strings.HasSuffix(r.URL.Path, where) {
					w.Header().Set("Location", "https://elsewhere.invalid/")
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
					return
				}
				if r.URL.Path == "/api/find" {
					_, _ = io.WriteString(w, `{"items":[{"id":"C1","nhs":"9990000034","name":"Ashworth"}]}`)
					return
				}
				_, _ = io.WriteString(w, `{"items":[]}`)
			}, strings.Replace(goodMapping, "collections:\n", "collections:\n  - {name: others, path: \"p/{id}/others\", resource: CareTeam, fields: [{to: name, from: name}]}\n", 1))
			reply, err := s.Fetch(t.Context(), query(t, held))
			switch {
			case where == "find" || c.part == "!":
				if !errors.Is(err, c.want) {
					t.Errorf("%s at %s: got %v, want %v", c.name, where, err, c.want)
				}
			case err != nil || c.part == "" && len(reply.Parts) > 0 || c.part != "" && (len(reply.Parts) != 1 || reply.Parts[0] != (record.Part{Source: "plans", Reason: c.part})):
				t.Errorf("%s at %s: got %v, %v", c.name, where, reply.Parts, err)
			}
		}
	}
}

// scripted is a source of a council that answers with f, and takes any token. Each token that it gives is another.
func scripted(t *testing.T, f http.HandlerFunc, mapping ...string) *socialcare.Source {
	t.Helper()
	var issued atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"access_token":"t%d","token_type":"bearer","expires_in":60}`, issued.Add(1))
			return
		}
		f(w, r)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	text := goodMapping
	if len(mapping) > 0 {
		text = mapping[0]
	}
	for name, content := range map[string]string{"mapping.yaml": text, "secret": "s"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := socialcare.New(socialcare.Settings{Connection: wire.Connection{BaseURL: server.URL + "/api", AllowPlainHTTP: true}, MappingFile: filepath.Join(dir, "mapping.yaml"),
		TokenURL: server.URL + "/token", ClientID: "broker", ClientSecretFile: filepath.Join(dir, "secret")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A council that refuses one collection to everybody has nothing against the token, which serves the next record too. One that it does not take is given up.
func TestWhichRefusalEndsAToken(t *testing.T) {
	for status, want := range map[int]int{http.StatusForbidden: 1, http.StatusNotFound: 1, http.StatusUnauthorized: 3} {
		var mu sync.Mutex
		tokens := map[string]bool{}
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			tokens[r.Header.Get("Authorization")] = true
			mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			switch r.URL.Path {
			case "/api/find":
				_, _ = io.WriteString(w, `{"items":[{"id":"C1","nhs":"9990000034","name":"Ashworth"}]}`)
			case "/api/p/C1/others":
				w.WriteHeader(status)
			default:
				_, _ = io.WriteString(w, `{"items":[{"ref":"1","who":"C1","state":"Open"}]}`)
			}
		}, strings.Replace(goodMapping, "collections:\n", "collections:\n  - {name: others, path: \"p/{id}/others\", resource: CareTeam, fields: [{to: name, from: name}]}\n", 1))
		for range 3 {
			if _, err := s.Fetch(t.Context(), query(t, held)); (err != nil) != (status == http.StatusUnauthorized) {
				t.Errorf("%d: got %v", status, err)
			}
		}
		mu.Lock() // a request that was cut short may still be served
		if len(tokens) != want {
			t.Errorf("%d: %d tokens for three records, want %d", status, len(tokens), want)
		}
		mu.Unlock()
	}
}

// Answers of a token endpoint that are none.
func TestTokenAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{"error":"invalid_client"}`, broker.ErrUnauthorised}, {401, `{}`, broker.ErrUnauthorised}, {403, `{}`, broker.ErrUnauthorised}, {404, `{}`, broker.ErrMalformed},
		{500, `{}`, broker.ErrMalformed}, {503, `{}`, broker.ErrUnavailable}, {429, `{}`, broker.ErrThrottled}, {302, ``, broker.ErrElsewhere},
		{200, `{}`, broker.ErrMalformed}, {200, `{"access_token":"t"}`, broker.ErrMalformed}, {200, `{"access_token":"t","token_type":"mac"}`, broker.ErrMalformed},
		{200, `{"access_token":"a b","token_type":"Bearer"}`, broker.ErrMalformed}, {200, `{"access_token":"a\r\nX: y","token_type":"Bearer"}`, broker.ErrMalformed},
		{200, `{"access_token":"a","access_token":"b","token_type":"Bearer"}`, broker.ErrMalformed}, {200, `<html>`, broker.ErrMalformed},
	} {
		asked := 0
		var mu sync.Mutex
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/token" {
				mu.Lock()
				asked++
				mu.Unlock()
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", "https://elsewhere.invalid/")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("s"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := socialcare.New(socialcare.Settings{Connection: wire.Connection{BaseURL: server.URL + "/api", AllowPlainHTTP: true}, MappingFile: "testdata/westmarch.yaml",
			TokenURL: server.URL + "/token", ClientID: "broker", ClientSecretFile: filepath.Join(dir, "secret")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := s.Fetch(ctx, query(t, held)); !errors.Is(err, c.want) {
			t.Errorf("%d %s: got %v, want %v", c.status, c.body, err, c.want)
		}
		cancel()
		if asked > 0 {
			t.Error("the record was asked for without a token")
		}
		s.Close()
		server.Close()
	}
}

// Settings that cannot be used are refused with their name.
func TestSettings(t *testing.T) {
	c := newCouncil(t, "westmarch")
	for _, x := range []struct {
		field  string
		change func(*socialcare.Settings)
	}{
		{"baseURL", func(s *socialcare.Settings) { s.BaseURL = "" }},
		{"mappingFile", func(s *socialcare.Settings) { s.MappingFile = "" }},
		{"mappingFile", func(s *socialcare.Settings) { s.MappingFile = "none" }},
		{"mappingFile", func(s *socialcare.Settings) { s.MappingFile = "kit_test.go" }},
		{"tokenURL", func(s *socialcare.Settings) { s.TokenURL = "" }},
		{"tokenURL", func(s *socialcare.Settings) { s.TokenURL = "https://login.example" }},
		{"tokenURL", func(s *socialcare.Settings) { s.TokenURL = "ftp://login.example/token" }},
		{"tokenURL", func(s *socialcare.Settings) { s.TokenURL = "https://user:secret@login.example/token" }},
		{"bearerFile", func(s *socialcare.Settings) { s.BearerFile = "x" }},
		{"clientID", func(s *socialcare.Settings) { s.ClientID = "" }},
		{"clientID", func(s *socialcare.Settings) { s.ClientID = "a\nb" }},
		{"clientSecretFile", func(s *socialcare.Settings) { s.ClientSecretFile = "none" }},
		{"parallel", func(s *socialcare.Settings) { s.Parallel = 99 }},
	} {
		s := c.settings(t)
		x.change(&s)
		src, err := socialcare.New(s)
		var bad *wire.SettingError
		if !errors.As(err, &bad) || bad.Field != x.field || strings.Contains(bad.Want, "secret@") {
			t.Errorf("%s: got %v", x.field, err)
		}
		if err == nil {
			src.Close()
		}
	}
}

// FuzzItem makes a resource of any item: nothing panics, and what comes out is strict JSON of the right type, about the person or a stranger.
func FuzzItem(f *testing.F) {
	for _, s := range []string{`{"ref":"1","who":"C1","state":"Open","title":"Care","start":"01/02/2024","made":"01/07/2024 09:30","services":[{"name":"Wash","hours":1.5,"stopped":true}],"own":{}}`,
		`{"ref":1,"who":"C2","state":null,"x":[[[{"y":"z"}]]]}`, `{"ref":"\u0000","who":"C1","services":[{},{"hours":"x"},7]}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, item []byte) {
		out, err := socialcare.Convert(goodMapping, item)
		if err != nil {
			return
		}
		d, err := fhirjson.Parse(out, fhirjson.Limits{Depth: 70})
		if err != nil {
			t.Fatalf("not strict JSON: %v", err)
		}
		r := d.Root()
		who := r.At("subject", "reference").Text()
		if !r.Get("resourceType").Is("CarePlan") || len(r.Get("id").Text()) != 32 || who != "urn:mycarerecord:subject" && who != "urn:mycarerecord:stranger" || !r.Get("intent").Is("plan") {
			t.Fatal("not a CarePlan about somebody")
		}
	})
}

// FuzzMapping reads any mapping: nothing panics, and one that is good makes something of an item.
func FuzzMapping(f *testing.F) {
	f.Add(goodMapping)
	f.Add(smallMapping)
	f.Add("collections: [null]")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		if socialcare.Problem(text) != "" {
			return
		}
		out, err := socialcare.Convert(text, []byte(`{"ref":"1","who":"C1","state":"Open","services":[{"name":"a"}]}`))
		if err == nil {
			if _, err := fhirjson.Parse(out, fhirjson.Limits{}); err != nil {
				t.Fatalf("not strict JSON: %v", err)
			}
		}
	})
}

// BenchmarkItem says how many MB of items a second become resources.
func BenchmarkItem(b *testing.B) {
	item := []byte(`{"ref":"1","who":"C1","state":"Open","title":"Care at home","start":"01/02/2024","services":[{"name":"Wash","hours":1.50},{"name":"Cook","hours":2}],"note":"` + strings.Repeat("Nothing to report. ", 20) + `"}`)
	convert, err := socialcare.Converter(goodMapping)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(item)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := convert(item); err != nil {
			b.Fatal(err)
		}
	}
}

// Where nothing comes of any collection, one that fails says more of the council than one that it withholds, whichever is asked first.
func TestAllCollectionsRefused(t *testing.T) {
	for name, failing := range map[string]string{"the first": "others", "the last": "plans"} {
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch {
			case r.URL.Path == "/api/find":
				_, _ = io.WriteString(w, `{"items":[{"id":"C1","nhs":"9990000034","name":"Ashworth"}]}`)
			case strings.HasSuffix(r.URL.Path, failing):
				w.WriteHeader(500)
				_, _ = io.WriteString(w, `{}`)
			default:
				w.WriteHeader(403)
				_, _ = io.WriteString(w, `{"error":"HELD"}`)
			}
		}, strings.Replace(goodMapping, "collections:\n", "collections:\n  - {name: others, path: \"p/{id}/others\", resource: CareTeam, fields: [{to: name, from: name}]}\n", 1))
		if _, err := s.Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrMalformed) {
			t.Errorf("%s fails: %v", name, err)
		}
	}
}
