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
