package fhirr4_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// A custodian that says it has more than it sends has not sent all.
func TestFewerThanItSays(t *testing.T) {
	entry := func(mode, r string) string { return `{"resource":` + r + `,"search":{"mode":"` + mode + `"}}` }
	says := func(total string, entries ...string) string {
		return `200 {"resourceType":"Bundle","type":"searchset","total":` + total + `,"entry":[` + strings.Join(entries, ",") + `]}`
	}
	p1, o1 := entry("match", patientOf("p1", held)), entry("match", about("Observation", "o1", "p1"))
	gp, warning := entry("include", `{"resourceType":"Practitioner","id":"gp"}`), entry("outcome", strings.Replace(outcome("informational", ""), `"error"`, `"information"`, 1))
	bare := func(r string) string { return `{"resource":` + r + `}` }
	nameless := entry("match", `{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}`)
	truncated := func(typ string) []record.Part { return []record.Part{{Source: typ, Reason: record.PartTruncated}} }
	const observations = "POST Observation/_search"
	for _, c := range []struct {
		name         string
		answers      map[string]string
		line, answer string
		parts        []record.Part
		err          error
	}{
		{"nobody of one", byType, finding, `200 {"resourceType":"Bundle","type":"searchset","total":1}`, nil, broker.ErrMalformed},
		{"nobody of none", byType, finding, `200 {"resourceType":"Bundle","type":"searchset","total":0}`, nil, broker.ErrNoRecord},
		{"nobody of a number that is none", byType, finding, `200 {"resourceType":"Bundle","type":"searchset","total":"0"}`, nil, broker.ErrMalformed},
		{"one of one", byType, finding, says("1", p1), nil, nil},
		{"one of two", byType, finding, says("2", p1), truncated("Patient"), nil},
		{"one of two, and who looks after them", byType, finding, says("2", p1, gp, warning), truncated("Patient"), nil},
		{"one of five of a type", byType, observations, says("5", o1), truncated("Observation"), nil},
		{"one of two of a type, and an included one", byType, observations, says("2", o1, gp), truncated("Observation"), nil},
		{"one of two of a type, and a warning", byType, observations, says("2", o1, warning), truncated("Observation"), nil},
		{"one of one of a type, and an included one", byType, observations, says("1", o1, gp), nil, nil},
		{"none of five of a type", byType, observations, says("5"), truncated("Observation"), nil},
		{"none of none of a type", byType, observations, says("0"), nil, nil},
		{"more of a type than it says", byType, observations, says("0", o1), nil, nil},
		{"one of -1 of a type", byType, observations, says("-1", o1), truncated("Observation"), nil},
		{"all on two pages", byType, observations, strings.Replace(says("2", o1), `"entry"`, `"link":[{"relation":"next","url":"{{base}}/?page=2"}],"entry"`, 1), nil, nil},
		{"one on each of two pages, of three", byType, observations, strings.Replace(says("3", o1), `"entry"`, `"link":[{"relation":"next","url":"{{base}}/?page=2"}],"entry"`, 1), truncated("Observation"), nil},
		{"one of one of a type, and an entry that holds nothing", byType, observations, says("1", o1, `{"search":{"mode":"match"}}`), truncated("Observation"), nil},
		{"one of two of a type, and an included one that does not say so", byType, observations, says("2", o1, bare(`{"resourceType":"Practitioner","id":"gp"}`)), truncated("Observation"), nil},
		{"the same one twice, of two of a type", byType, observations, says("2", o1, o1), truncated("Observation"), nil},
		{"the same one as a match and included, of one of a type", byType, observations, says("1", o1, strings.Replace(o1, "match", "include", 1)), nil, nil},
		{"the same one included before it is a match, of one of a type", byType, observations, says("1", strings.Replace(o1, "match", "include", 1), o1), nil, nil},
		{"two of two of a type that do not say that they match", byType, observations, says("2", bare(about("Observation", "o1", "p1")), bare(about("Observation", "o2", "p1"))), nil, nil},
		{"two of two of a type without ids", byType, observations, says("2", nameless, nameless), nil, nil},
		{"one of two, who is sent twice", byType, finding, says("2", p1, p1), truncated("Patient"), nil},
		{"everything, and some of it twice", whole, all, says("3", p1, o1, o1), truncated(""), nil},
		{"everything", whole, all, says("2", p1, o1), nil, nil},
		{"everything, counted with what is included", whole, all, says("3", p1, o1, gp), nil, nil},
		{"everything, counted without", whole, all, says("1", p1, gp), nil, nil},
		{"less than everything", whole, all, says("4", p1, o1, gp, warning), truncated(""), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, with(c.answers, c.line, c.answer, "GET ?page=2", says("2", entry("match", about("Observation", "o2", "p1")))))
			r, err := fetch(t, s, query(t, held))
			if !same(err, c.err) || !slices.Equal(r.Parts, c.parts) {
				t.Errorf("got parts %v and %v, want %v and %v", r.Parts, err, c.parts, c.err)
			}
		})
	}
	q := query(t, held)
	q.Types = []string{"Patient"}
	if r, err := fetch(t, serve(t, with(byType, finding, says("2", p1))), q); err != nil || !slices.Equal(r.Parts, truncated("Patient")) {
		t.Errorf("only the Patient is asked for: got parts %v and %v", r.Parts, err)
	}
}

// What came on the pages before one that says that there is nothing, or that it is not known, stays, and is not all: the page before said that there is more.
func TestALaterPageThatSaysNobody(t *testing.T) {
	const observations, more = "POST Observation/_search", "{{base}}/?page=2"
	o1 := about("Observation", "o1", "p1")
	truncated := func(typ string) []record.Part { return []record.Part{{Source: typ, Reason: record.PartTruncated}} }
	for _, c := range []struct {
		name  string
		first map[string]string
		want  string
		parts []record.Part
	}{
		{"by type", with(byType, observations, searchset(more, o1)), "Patient/p1 Condition/c1 Observation/o1", truncated("Observation")},
		{"by type, of types that were guessed", with(byType, meta, "500 ", observations, searchset(more, o1)), "Patient/p1 Condition/c1 Observation/o1", truncated("Observation")},
		{"everything", with(whole, all, searchset(more, patientOf("p1", held), o1)), "Patient/p1 Observation/o1", truncated("")},
		{"finding the person", with(byType, finding, searchset(more, patientOf("p1", held))), "Patient/p1 Condition/c1 Observation/o1", truncated("Patient")},
	} {
		for _, answer := range []string{"404 " + outcome("not-found", "NO_RECORD_FOUND"), "404 ", "410 " + outcome("deleted", ""), "200 " + outcome("not-found", "PATIENT_NOT_FOUND"), "501 "} {
			r, err := fetch(t, serve(t, with(c.first, "GET ?page=2", answer)), query(t, held))
			if err != nil || ids(r.Entries) != c.want || !slices.Equal(r.Parts, c.parts) {
				t.Errorf("%s, and then %.4s: got %s, parts %v and %v, want %s and %v", c.name, answer, ids(r.Entries), r.Parts, err, c.want, c.parts)
			}
		}
	}
	if _, err := fetch(t, serve(t, with(byType, finding, searchset(more), "GET ?page=2", "404 "+outcome("not-found", "PATIENT_NOT_FOUND"))), query(t, held)); !same(err, broker.ErrMalformed) {
		t.Errorf("nobody on the first page of several: got %v", err)
	}
}
