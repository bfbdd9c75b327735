//go:build !race

package merge

// The race detector allocates: this is counted without it.

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What a resource costs in allocations, from its text to the written Bundle, over and above what an answer costs.
func TestAllocationsPerResource(t *testing.T) {
	req := request(t)
	answer := func(n int) float64 {
		var b strings.Builder
		b.WriteString(`{"resourceType":"Bundle","entry":[{"fullUrl":"https://gp.example/fhir/Patient/p","resource":` + ada + `}`)
		for i := range n {
			fmt.Fprintf(&b, `,{"fullUrl":"https://gp.example/fhir/Observation/o%d","resource":{"resourceType":"Observation","id":"o%d","meta":{"lastUpdated":"2020-01-01T00:00:00Z"},%s,`+
				`"code":{"coding":[{"system":"http://loinc.org","code":"%d"}]},"effectiveDateTime":"2020-01-01T10:00:%02d+01:00","encounter":{"reference":"Encounter/gone"},"hasMember":[{"reference":"Observation/o%d"}]}}`,
				i, i, toAda, i, i%60, (i+1)%n)
		}
		text := []byte(b.String() + `]}`)
		return testing.AllocsPerRun(5, func() {
			doc, err := fhirjson.Parse(text, fhirjson.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			page, err := fhirjson.ReadBundle(doc)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Prepare(req, everything, Reply{Custodian: custodian("gp", record.KindGP), Base: "https://gp.example/fhir", Entries: page.Entries})
			if err != nil || len(p.Entries) != n+1 {
				t.Fatal(err)
			}
			if _, err := Assemble(req, []Prepared{p}, nil).WriteBundle(io.Discard, BundleMeta{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := answer(20), answer(2020)
	if each := (many - few) / 2000; each > 0.1 || few > 110 {
		t.Errorf("%.2f allocations per resource, %.0f for an answer of 20", each, few)
	} else {
		t.Logf("%.2f allocations per resource, %.0f for an answer of 20", each, few)
	}
}
