package merge

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// leftOut are the types of the examples that M-4 keeps out of a record, with the reason: they are counted, never shown.
var leftOut = map[class]map[string]bool{
	money: words("Account ChargeItem Claim ClaimResponse Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse EnrollmentRequest " +
		"EnrollmentResponse ExplanationOfBenefit InsurancePlan Invoice PaymentNotice PaymentReconciliation"),
	foreign: words("CodeSystem MessageHeader NamingSystem Parameters StructureDefinition Subscription ValueSet"),
	outcome: words("OperationOutcome"), // becomes parts of the custodian's state
}

// refused are the files of which something cannot be merged, by cause. An independent parser confirms each. The list may not grow.
var refused = map[string]string{
	"fhir-edge-cases/unsigned_int.invalid.ndjson": "not a value", // +1 and +0 are no numbers of JSON
}

// Every example of HL7 and every edge case: merged without loss, left out by its type, or refused for a reason that is listed by name.
func TestEveryExampleIsMergedOrRefusedForAReason(t *testing.T) {
	root := sampleData(t)
	var files []string
	for _, folder := range []string{"fhir-r4-examples", "fhir-edge-cases"} {
		list, err := os.ReadDir(filepath.Join(root, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			files = append(files, folder+"/"+f.Name())
		}
	}
	causes := map[string]string{}
	merged, out := 0, map[class]int{}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		var texts [][]byte
		switch {
		case strings.HasSuffix(name, ".ndjson"): // a value of a primitive or a Reference a line: as the value of an extension
			for line := range bytes.Lines(text) {
				if line = bytes.TrimSpace(line); len(line) > 0 {
					texts = append(texts, slices.Concat([]byte(`{"resourceType":"Basic","id":"edge","extension":[{"url":"urn:edge","valueReference":`), line, []byte(`}]}`)))
				}
			}
		default:
			texts = [][]byte{bytes.TrimPrefix(text, []byte("\ufeff"))}
		}
		for _, text := range texts {
			doc, err := fhirjson.Parse(text, fhirjson.Limits{})
			if independent := independently(text); (err == nil) != (independent == nil) {
				t.Errorf("%s: read with %v, independently with %v", name, err, independent)
			}
			if err != nil {
				var why *fhirjson.Error
				if !errors.As(err, &why) {
					t.Fatalf("%s: %v", name, err)
				}
				causes[name] = why.Reason
				continue
			}
			for _, e := range apart(doc.Root(), "", nil) {
				typ := e.Resource.Get("resourceType").Text()
				if c := subjects[typ].class; leftOut[c] != nil {
					if !leftOut[c][typ] {
						t.Errorf("%s: %s is left out and not listed", name, typ)
					}
					out[c]++
					left(t, name, e.Resource)
					continue
				}
				merged++
				alone(t, name, e.Resource)
			}
		}
	}
	if !reflect.DeepEqual(causes, refused) {
		t.Errorf("refused: %v", causes)
	}
	t.Logf("%d files: %d resources merged without loss, %d financial, %d definitions and messages, %d outcomes left out by type; %d files refused (%.1f %%): %v",
		len(files), merged, out[money], out[foreign], out[outcome], len(causes), 100*float64(len(causes))/float64(len(files)), causes)
	if len(files) < 340 || merged < 500 || 50*len(causes) > len(files) {
		t.Errorf("%d files, %d merged, %d refused", len(files), merged, len(causes))
	}
}

// independently reads a text by another parser's strict rules, with no names that are equal but for case.
func independently(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	if _, err := d.ReadValue(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return errors.New("trailing data")
	}
	return nil
}

// left gives a resource that is no part of a record as a custodian's reply: it is counted and not shown.
func left(t *testing.T, name string, v fhirjson.Value) {
	t.Helper()
	reply := replyOf(t)
	reply.Entries = append(reply.Entries, fhirjson.Entry{Resource: v})
	p := prepare(t, request(t), everything, reply)
	if len(p.Entries) != 1 {
		t.Errorf("%s: %s is shown", name, v.Get("resourceType").Text())
	}
}

// alone gives one resource as a custodian's reply about a person: about its own subject, or about Ada where it names nobody, referred to by
// something of hers where it only supports. It must come out as it went in, but for M-3.
func alone(t *testing.T, name string, v fhirjson.Value) {
	t.Helper()
	req := request(t)
	req.Subject.Family, req.Subject.BirthDate = "", ""
	typ, id := v.Get("resourceType").Text(), v.Get("id").Text()
	row := subjects[typ]
	made := []string{}
	switch {
	case typ == "Patient":
		v = parsed(t, string(withNumber(v)))
	case row.class == supporting || row.class == either && !v.Get("patient").Exists():
		if id == "" {
			id = "unnamed"
			v = parsed(t, string(v.Rewrite([]fhirjson.Edit{{Start: v.Start() + 1, End: v.Start() + 1, New: []byte(`"id":"unnamed",`)}})))
		}
		made = append(made, `{"resourceType":"Basic","id":"referrer","subject":{"reference":"Patient/p"},"extension":[{"url":"urn:u","valueReference":{"reference":"`+typ+"/"+id+`"}}]}`)
	case row.class == provenance:
		v = aboutAda(t, v)
		for r := range v.Each("target.reference") {
			if head, _ := splitAddress(r.Text()); strings.Count(head, "/") == 1 {
				to, id, _ := strings.Cut(head, "/")
				made = append(made, string(aboutAda(t, parsed(t, `{"resourceType":"`+to+`","id":"`+id+`"}`)).Raw()))
			}
		}
	default:
		v = aboutAda(t, v)
	}
	reply := bare(t, made...)
	if typ != "Patient" {
		reply = replyOf(t, made...)
	}
	reply.Entries = append(reply.Entries, fhirjson.Entry{Resource: v})
	p := prepare(t, req, everything, reply)
	if p.Counts.Shown != len(reply.Entries) || p.Status.State != record.Returned {
		t.Errorf("%s: %s/%s: %+v %s", name, typ, id, p.Counts, reasons(p.Status))
		return
	}
	for _, e := range p.Entries {
		if e.Type == typ && !(typ == "Basic" && e.ID == "gp-referrer") {
			sameButForM3(t, string(v.Raw()), e.JSON)
		}
	}
}

// aboutAda makes every element that says whom a resource is about say Ada, and nothing else: examples are about many people, a group, a
// place, or nobody. Patients in it get her number.
func aboutAda(t *testing.T, v fhirjson.Value) fhirjson.Value {
	t.Helper()
	return parsed(t, string(v.Rewrite(outermost(adaEdits(v, true)))))
}

func adaEdits(v fhirjson.Value, outermost bool) []fhirjson.Edit {
	row := subjects[v.Get("resourceType").Text()]
	ada := []byte(`{"reference":"Patient/p"}`)
	laid := v.Layout()
	var edits []fhirjson.Edit
	for _, path := range row.about {
		to := namePathOf(path)
		along(&laid, &to, func(r fhirjson.Value) bool {
			edits = append(edits, fhirjson.Edit{Start: r.Start(), End: r.End(), New: ada})
			return true
		})
	}
	if outermost && len(row.about) > 0 && len(edits) == 0 {
		edits = append(edits, insertPath(v, row.about[0], ada))
	}
	for _, path := range slices.Concat(row.among, row.also) { // others who may be Patients
		to := namePathOf(path)
		along(&laid, &to, func(r fhirjson.Value) bool {
			if address := r.Get("reference").Text(); typeOfAddress(address) == "Patient" || r.Get("type").Is("Patient") {
				edits = append(edits, fhirjson.Edit{Start: r.Start(), End: r.End(), New: ada})
			}
			return true
		})
	}
	if outermost && len(row.among) > 0 && len(edits) == 0 {
		edits = append(edits, insertPath(v, row.among[0], ada))
	}
	for c := range v.Get("contained").Elems() {
		if !c.Get("resourceType").Is("Patient") {
			edits = append(edits, adaEdits(c, false)...)
			continue
		}
		identifier := []byte(`[` + nhs + `]`)
		if old := c.Get("identifier"); old.Exists() {
			edits = append(edits, fhirjson.Edit{Start: old.Start(), End: old.End(), New: identifier})
		} else {
			edits = append(edits, insertPath(c, "identifier", identifier))
		}
	}
	return edits
}

// insertPath puts a value at a path of one or two names: as a member, or in a new first element of the array that is there.
func insertPath(v fhirjson.Value, path string, value []byte) fhirjson.Edit {
	name, rest, nested := strings.Cut(path, ".")
	at := v.Get("resourceType").End()
	if !nested {
		return fhirjson.Edit{Start: at, End: at, New: slices.Concat([]byte(`,"`+name+`":`), value)}
	}
	element := slices.Concat([]byte(`{"`+rest+`":`), value, []byte(`}`))
	if list := v.Get(name); list.Kind() == fhirjson.Array {
		return fhirjson.Edit{Start: list.Start() + 1, End: list.Start() + 1, New: append(element, map[bool]string{true: ","}[list.Len() > 0]...)}
	}
	return fhirjson.Edit{Start: at, End: at, New: slices.Concat([]byte(`,"`+name+`":[`), element, []byte(`]`))}
}
