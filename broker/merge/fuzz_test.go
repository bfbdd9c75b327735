package merge

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// FuzzPrepare gives Prepare whatever a custodian might send. It must not panic; it fails with one of its kinds, or its sum is right and the
// answer is a Bundle that we would read ourselves, with nothing of what is withheld or somebody else's in its addresses.
func FuzzPrepare(f *testing.F) {
	for _, text := range []string{depression, `{"resourceType":"List","id":"l",` + toAda + `,"entry":[{"item":{"reference":"Condition/secret-condition"}}]}`,
		`{"resourceType":"Composition",` + toAda + `,"section":[{"entry":[{"reference":"Condition/secret-condition"}],"section":[{"title":"x"}]}]}`,
		`{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"incomplete"}]}`, `{"resourceType":"Provenance","target":[{"reference":"Patient/p"}]}`,
		`{"resourceType":"Observation","id":"9990000018","meta":{"source":"x","tag":[],"extension":[]},` + toAda + `,"effectivePeriod":{"start":"2019","end":"2018"}}`,
		`{"resourceType":"Observation","contained":[{"resourceType":"Patient","id":"c"}],"subject":{"reference":"#c"}}`,
		`{"resourceType":"DocumentReference","id":"d",` + toAda + `,"content":[{"attachment":{"url":"Binary/b"}}]}`, `{"resourceType":"Binary","id":"b"}`} {
		f.Add([]byte(text), []byte(`{"resourceType":"Practitioner","id":"1"}`), "https://gp.example/fhir/Observation/1", "urn:uuid:1")
	}
	req := request(f)
	req.Filter = Filter{Start: now.AddDate(-5, 0, 0), Since: now.AddDate(-9, 0, 0)}
	rules := without(record.MentalHealth)
	rules.Excluded = CodesOf(Code{"", "SECRET"})
	rules.DocumentAddress = func(Document) string { return "https://broker.example/fhir/Binary/sealed" }
	f.Fuzz(func(t *testing.T, first, second []byte, url1, url2 string) {
		reply := bare(t, ada, depression)
		for i, text := range [][]byte{first, second} {
			d, err := fhirjson.Parse(text, fhirjson.Limits{})
			if err != nil {
				return
			}
			reply.Entries = append(reply.Entries, fhirjson.Entry{FullURL: [...]string{url1, url2}[i], Resource: d.Root()})
		}
		p, err := Prepare(req, rules, reply)
		if err != nil {
			if !errors.Is(err, ErrWrongSubject) && !errors.Is(err, ErrMalformed) || p.Entries != nil {
				t.Fatalf("%v", err)
			}
			return
		}
		if p.Counts.Sum() != p.Counts.Received {
			t.Fatalf("%+v", p.Counts)
		}
		var b bytes.Buffer
		if _, err := Assemble(req, []Prepared{p}, nil).WriteBundle(&b, BundleMeta{}); err != nil {
			t.Fatal(err)
		}
		d, err := fhirjson.Parse(b.Bytes(), fhirjson.Limits{Depth: 70})
		if err != nil {
			t.Fatalf("%v in %s", err, b.Bytes())
		}
		whole, err := fhirjson.ReadBundle(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range whole.Entries {
			if !legalID(e.Resource.Get("id").Text()) && e.Resource.Get("id").Text() != "handle" || e.Resource.Get("id").Is("gp-secret-condition") {
				t.Fatalf("id in %s", e.Resource.Raw())
			}
			e.Resource.Visit(func(around []fhirjson.Value, x fhirjson.Value) bool {
				if x.Kind() == fhirjson.String && !x.KeyIs("div") && x.Is("Condition/secret-condition") {
					t.Fatalf("left in %s", e.Resource.Raw())
				}
				return true
			})
		}
	})
}
