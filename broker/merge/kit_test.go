package merge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The people of these tests are invented.
const (
	asked  = "9990000018"
	theirs = "9990000026"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func number(t testing.TB, digits string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func request(t testing.TB) Request {
	return Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: now, IDKey: []byte("a key of the tests"),
		Subject: record.Subject{Number: number(t, asked), Standing: record.Live, Family: "Ashworth", Given: []string{"Ada"}, Gender: "female", BirthDate: "1950-03-04"}}
}

func custodian(key string, kind record.CustodianKind) record.Custodian {
	return record.Custodian{Key: record.CustodianKey(key), ODS: "X9A01", Name: "Rivermead", Kind: kind, Contact: "01000 000000"}
}

var everything = Rules{Permitted: record.AllSections, TellCounts: true}

const ada = `{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}],` +
	`"name":[{"family":"Ashworth","given":["Ada"]}],"birthDate":"1950-03-04"}`

const toAda = `"subject":{"reference":"Patient/p"}`

func parsed(t testing.TB, text string) fhirjson.Value {
	t.Helper()
	d, err := fhirjson.Parse([]byte(text), fhirjson.Limits{})
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return d.Root()
}

// replyOf is a practice's reply with Ada's Patient and the resources given.
func replyOf(t testing.TB, resources ...string) Reply {
	t.Helper()
	return bare(t, append([]string{ada}, resources...)...)
}

func bare(t testing.TB, resources ...string) Reply {
	t.Helper()
	r := Reply{Custodian: custodian("gp", record.KindGP), Base: "https://gp.example/fhir", Adapter: "fhirr4/1", Asked: now.Add(-time.Second), Took: 300 * time.Millisecond}
	for _, text := range resources {
		r.Entries = append(r.Entries, entryOf(t, text))
	}
	return r
}

// entryOf reads `URL {resource}` or `{resource}`.
func entryOf(t testing.TB, text string) fhirjson.Entry {
	t.Helper()
	at := strings.IndexByte(text, '{')
	return fhirjson.Entry{FullURL: strings.TrimSpace(text[:at]), Resource: parsed(t, text[at:])}
}

func prepare(t testing.TB, req Request, rules Rules, reply Reply) Prepared {
	t.Helper()
	p, err := Prepare(req, rules, reply)
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	if p.Counts.Received != p.Counts.Sum() {
		t.Fatalf("counts do not add up: %+v", p.Counts)
	}
	return p
}

// find returns the entry with that type and id.
func find(t testing.TB, p Prepared, typ, id string) Entry {
	t.Helper()
	for _, e := range p.Entries {
		if e.Type == typ && e.ID == id {
			return e
		}
	}
	t.Fatalf("no %s/%s among %s", typ, id, list(p.Entries))
	return Entry{}
}

func has(p Prepared, typ, id string) bool {
	for _, e := range p.Entries {
		if e.Type == typ && e.ID == id {
			return true
		}
	}
	return false
}

func list(entries []Entry) string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Type+"/"+e.ID)
	}
	return strings.Join(out, " ")
}

func reasons(s record.Status) string {
	var out []string
	for _, p := range s.Parts {
		text := p.Reason
		if p.Section != "" {
			text += ":" + p.Section
		}
		if p.Count > 0 {
			text += fmt.Sprintf("=%d", p.Count)
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// tree reads JSON with number text kept.
func tree(t testing.TB, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v", err)
	}
	return v
}

func bundle(t testing.TB, a Answer, m BundleMeta) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := a.WriteBundle(&b, m)
	if err != nil || n != int64(b.Len()) || n != a.BundleSize(m) {
		t.Fatalf("wrote %d, said %d and %d, %v", b.Len(), n, a.BundleSize(m), err)
	}
	return b.Bytes()
}
