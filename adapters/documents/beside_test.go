package documents_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// observed is a message with one Observation of which this is said.
func observed(members string) string {
	return bars(held, `{"resourceType":"Observation","id":"o","subject":{"reference":"urn:uuid:p"},`+members+`}`)
}

// barsXML is observed in XML.
func barsXML(elements string) string {
	return `<Bundle xmlns="http://hl7.org/fhir"><type value="message"/><timestamp value="2024-05-01T12:30:00+01:00"/>` +
		`<entry><fullUrl value="urn:uuid:h"/><resource><MessageHeader><id value="h"/><eventCoding><system value="https://fhir.nhs.uk/CodeSystem/message-events-bars"/><code value="servicerequest-request"/></eventCoding><sender><reference value="urn:uuid:org"/></sender><reason><coding><code value="new"/></coding></reason></MessageHeader></resource></entry>` +
		`<entry><fullUrl value="urn:uuid:p"/><resource><Patient><id value="p"/><identifier><system value="https://fhir.nhs.uk/Id/nhs-number"/><value value="` + held + `"/></identifier><name><family value="Ashworth"/><given value="Ann"/></name><birthDate value="1950-01-02"/></Patient></resource></entry>` +
		`<entry><fullUrl value="urn:uuid:org"/><resource><Organization><id value="org"/><name value="Invented Ambulance"/></Organization></resource></entry>` +
		`<entry><fullUrl value="urn:uuid:o"/><resource><Observation><id value="o"/><subject><reference value="urn:uuid:p"/></subject>` + elements + `</Observation></resource></entry></Bundle>`
}

// What is said of a primitive beside its value is shown in JSON as it is in XML, wherever in the order of the members it stands; so are rules by which a resource
// must be understood.
func TestWhatStandsBesideAPrimitiveIsShown(t *testing.T) {
	const extension, ext = `{"extension":[{"url":"https://x.example/why","valueString":"said beside"}]}`, `<extension url="https://x.example/why"><valueString value="said beside"/></extension>`
	for _, c := range []struct {
		name, json, xml string
		says            []string
	}{
		{"behind its value", `"status":"final","_status":` + extension, `<status value="final">` + ext + `</status>`, []string{"<b>Status</b>: final<ul><li><b>Why</b>: <ul><li><b>Value</b>: said beside</li></ul></li></ul></li>"}},
		{"before its value", `"_status":` + extension + `,"status":"final"`, `<status value="final">` + ext + `</status>`, []string{"<b>Status</b>: final<ul>", "said beside"}},
		{"without a value", `"_status":` + extension, `<status>` + ext + `</status>`, []string{"<b>Status</b>: <ul>", "said beside"}},
		{"a value that is null", `"status":null,"_status":` + extension, `<status>` + ext + `</status>`, []string{"said beside"}},
		{"of a number", `"valueInteger":7,"_valueInteger":` + extension, `<valueInteger value="7">` + ext + `</valueInteger>`, []string{"<b>Value</b>: 7<ul>", "said beside"}},
		{"with an id", `"status":"final","_status":{"id":"s1","extension":[{"url":"https://x.example/why","valueString":"said beside"}]}`, `<status id="s1" value="final">` + ext + `</status>`, []string{"<b>Status</b>: final<ul>", "said beside"}},
		{"in an array", `"given":["Ann",null,"Bea"],"_given":[null,` + extension + `]`, `<given value="Ann"/><given>` + ext + `</given><given value="Bea"/>`, []string{"<b>Given</b>: Ann</li><li><b>Given</b>: <ul>", "said beside", "<b>Given</b>: Bea"}},
		{"in a longer array", `"_given":[null,null,` + extension + `],"given":["Ann"]`, `<given value="Ann"/><given>` + ext + `</given>`, []string{"<b>Given</b>: Ann", "said beside"}},
		{"of words in a line", `"code":{"coding":[{"code":"1","display":"Pulse","_display":` + extension + `}],"text":"Rate"}`, `<code><coding><code value="1"/><display value="Pulse">` + ext + `</display></coding><text value="Rate"/></code>`, []string{"Pulse<ul>", "said beside", "Rate"}},
		{"of a quantity", `"valueQuantity":{"value":96.50,"_value":` + extension + `,"unit":"/min"}`, `<valueQuantity><value value="96.50">` + ext + `</value><unit value="/min"/></valueQuantity>`, []string{"96.50<ul>", "said beside", "/min"}},
		{"of a period", `"effectivePeriod":{"start":"2024","_end":` + extension + `}`, `<effectivePeriod><start value="2024"/><end>` + ext + `</end></effectivePeriod>`, []string{"2024", "said beside"}},
		{"of a reference", `"focus":[{"reference":"urn:uuid:org","_display":` + extension + `}]`, `<focus><reference value="urn:uuid:org"/><display>` + ext + `</display></focus>`, []string{"said beside"}},
		{"implicit rules", `"implicitRules":"https://x.example/rules"`, `<implicitRules value="https://x.example/rules"/>`, []string{"<b>Implicit rules</b>: https://x.example/rules"}},
		{"implicit rules that are said beside", `"_implicitRules":` + extension, `<implicitRules>` + ext + `</implicitRules>`, []string{"<b>Implicit rules</b>: <ul>", "said beside"}},
	} {
		inJSON, err := documents.ReadFor([]byte(observed(c.json)), query(t, held).Subject)
		if err != nil || !inJSON.Readable || inJSON.About != 1 {
			t.Fatalf("%s: %v, %+v", c.name, err, inJSON)
		}
		inXML, err := documents.ReadFor([]byte(barsXML(c.xml)), query(t, held).Subject)
		if err != nil || !inXML.Readable {
			t.Fatalf("%s: %v, %+v", c.name, err, inXML)
		}
		if a, b := divs(t, inJSON.Composition), divs(t, inXML.Composition); a != b {
			t.Errorf("%s:\nJSON %s\nXML  %s", c.name, a, b)
		}
		for _, words := range c.says {
			if !strings.Contains(divs(t, inJSON.Composition), words) {
				t.Errorf("%s does not say %q: %s", c.name, words, divs(t, inJSON.Composition))
			}
		}
	}
	// What changes the meaning of the message or of what is not shown of it is said too.
	r, err := documents.Read([]byte(strings.Replace(observed(`"status":"final"`), `"type":"message"`, `"type":"message","implicitRules":"https://x.example/rules"`, 1)))
	if err != nil || !strings.Contains(divs(t, r.Composition), "https://x.example/rules") {
		t.Errorf("%v: %s", err, r.Composition)
	}
}

// divs is the text that a Composition shows, section by section.
func divs(t *testing.T, composition []byte) string {
	t.Helper()
	d, err := fhirjson.Parse(composition, fhirjson.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for s := range d.Root().Get("section").Elems() {
		text += s.Get("title").Text() + ": " + s.At("text", "div").Text() + "\n"
	}
	return text
}

// Nothing that stands beside a value, before or behind it, hides from a check what the value says: whose the message is, whom it names, its codes, its labels.
func TestWhatStandsBesideAPrimitiveHidesNothing(t *testing.T) {
	const extension = `{"extension":[{"url":"https://x.example/why","valueString":"x"}]}`
	// ways are of saying a member, so that what is said beside it could be taken for it.
	ways := map[string]func(key, value string) string{
		"alone":           func(k, v string) string { return `"` + k + `":"` + v + `"` },
		"before":          func(k, v string) string { return `"_` + k + `":` + extension + `,"` + k + `":"` + v + `"` },
		"behind":          func(k, v string) string { return `"` + k + `":"` + v + `","_` + k + `":` + extension },
		"null before":     func(k, v string) string { return `"_` + k + `":null,"` + k + `":"` + v + `"` },
		"an array before": func(k, v string) string { return `"_` + k + `":[null,` + extension + `],"` + k + `":["` + v + `"]` },
		"behind a null":   func(k, v string) string { return `"_` + k + `":[` + extension + `],"` + k + `":[null,"` + v + `"]` },
		"another value":   func(k, v string) string { return `"_` + k + `":{"value":"x"},"` + k + `":"` + v + `"` },
		"a value, two lists": func(k, v string) string {
			return `"_` + k + `":[` + extension + `,` + extension + `],"` + k + `":"` + v + `"`
		},
	}
	for name, say := range ways {
		identifier := func(n string) string {
			return `{` + say("system", "https://fhir.nhs.uk/Id/nhs-number") + `,` + say("value", n) + `}`
		}
		patient := `"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + held + `"}]`
		for what, c := range map[string]struct {
			text  string
			about int
			shown bool
		}{
			"the person":                         {strings.Replace(observed(`"status":"final"`), patient, `"identifier":[`+identifier(held)+`]`, 1), 1, true},
			"another person":                     {strings.Replace(observed(`"status":"final"`), patient, `"identifier":[`+identifier(other)+`]`, 1), 2, false},
			"another person beside":              {strings.Replace(observed(`"status":"final"`), patient, `"identifier":[`+identifier(held)+`,`+identifier(other)+`]`, 1), 2, false},
			"a subject of another's number":      {observed(`"patient":{"identifier":` + identifier(other) + `}`), 2, false},
			"another's number in it":             {observed(`"performer":[{"identifier":` + identifier(other) + `}]`), 1, false},
			"another Patient in it":              {observed(`"performer":[{` + say("reference", "Patient/"+canary) + `}]`), 1, false},
			"a subject that is not in it":        {observed(`"patient":{` + say("reference", "Patient/"+canary) + `}`), 1, false},
			"another's number beside a value":    {observed(`"status":"final","_status":{"extension":[{"url":"u","valueIdentifier":` + identifier(other) + `}]}`), 1, false},
			"another Patient beside a value":     {observed(`"_status":{"extension":[{"url":"u","valueReference":{` + say("reference", "Patient/"+canary) + `}}]}`), 1, false},
			"a Patient within, beside an object": {observed(`"code":{"text":"x"},"_code":{"extension":[{"url":"u","valueIdentifier":` + identifier(other) + `}]}`), 1, false},
		} {
			r, err := documents.ReadFor([]byte(c.text), query(t, held).Subject)
			if shown := r.Readable && r.About == 1; err != nil || shown != c.shown || r.About != c.about {
				t.Errorf("%s, %s: %v, laid out %t, about %d", what, name, err, shown, r.About)
			}
		}
		for what, c := range map[string]struct {
			text string
			req  merge.Request
		}{
			"a code that is never shared":           {observed(`"code":{"coding":[{` + say("system", "http://snomed.info/sct") + `,` + say("code", "15628003") + `}],"text":"` + marker + `"}`), merge.Request{}},
			"one with a value beside it":            {observed(`"code":{"coding":[{` + say("value", "1") + `,"system":"http://snomed.info/sct","code":"15628003"}],"text":"` + marker + `"}`), merge.Request{}},
			"one beside a value":                    {observed(`"note":[{"text":"` + marker + `","_text":{"extension":[{"url":"u","valueCoding":{` + say("system", "http://snomed.info/sct") + `,` + say("code", "15628003") + `}}]}}]`), merge.Request{}},
			"a label":                               {observed(`"meta":{"security":[{` + say("code", "NOPAT") + `}]},"note":[{"text":"` + marker + `"}]`), merge.Request{PatientView: true}},
			"a label of the message":                {strings.Replace(observed(`"note":[{"text":"`+marker+`"}]`), `"type":"message"`, `"type":"message","meta":{"security":[{`+say("code", "NOPAT")+`}]}`, 1), merge.Request{PatientView: true}},
			"a label of a Patient without a number": {strings.Replace(observed(`"note":[{"text":"`+marker+`"}]`), `"resourceType":"Organization"`, `"resourceType":"Organization","meta":{"security":[{`+say("code", "NOPAT")+`}]}`, 1), merge.Request{PatientView: true}},
		} {
			if text := merged(t, c.text, c.req, merge.Rules{Permitted: record.AllSections, Excluded: merge.CodesOf(merge.Code{System: "http://snomed.info/sct", Code: "15628003"})}); strings.Contains(text, marker) {
				t.Errorf("%s, %s: it is shown", what, name)
			}
		}
	}
	// The same message without what forbids it is shown: the tests above are not passed by nothing being shown at all.
	if text := merged(t, observed(`"note":[{"text":"`+marker+`"}]`), merge.Request{PatientView: true}, merge.Rules{Permitted: record.AllSections}); !strings.Contains(text, marker) {
		t.Error("nothing is ever shown")
	}
}

// merged is what the merge shows of the text of a message, as far as it is laid out for the person.
func merged(t *testing.T, message string, req merge.Request, rules merge.Rules) string {
	t.Helper()
	r, err := documents.ReadFor([]byte(message), query(t, held).Subject)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Readable || r.About != 1 {
		return ""
	}
	req.Base, req.CodeBase, req.Handle, req.Now, req.IDKey, req.Subject = "https://broker.example/fhir", "https://mycarerecord.example", "handle", time.Now(), []byte("k"), query(t, held).Subject
	var entries []fhirjson.Entry
	for url, text := range map[string][]byte{document.SubjectURL: document.Patient(number(t, held)), "urn:c": r.Composition} {
		d, err := fhirjson.Parse(text, fhirjson.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, fhirjson.Entry{FullURL: url, Resource: d.Root()})
	}
	m, err := merge.Prepare(req, rules, merge.Reply{Custodian: record.Custodian{Key: "mh", ODS: "X9C01", Kind: record.KindMentalHealth}, Base: "https://holder.example", Entries: entries, Adapter: documents.Adapter})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, e := range m.Entries {
		text += string(e.JSON)
	}
	return text
}

// The published messages that come in JSON and in XML are laid out the same from both.
func TestSampleMessagesSayTheSameInBothFormats(t *testing.T) {
	published(t) // or skipped
	names, err := filepath.Glob(filepath.Join(sampleDir, "bars-r4/json/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	words := func(r documents.Reading) string { return strings.Join(strings.Fields(divs(t, r.Composition)), " ") } // a tab in one is a blank in the other
	pairs := 0
	for _, name := range names {
		inJSON, err := os.ReadFile(name) //nolint:gosec // sample data
		if err != nil {
			t.Fatal(err)
		}
		inXML, err := os.ReadFile(strings.TrimSuffix(strings.Replace(name, "/json/", "/xml/", 1), ".json") + ".xml") //nolint:gosec // sample data
		if err != nil || !bytes.Contains(inJSON, []byte(`"MessageHeader"`)) {
			continue
		}
		a, err := documents.Read(inJSON)
		if err != nil || !a.Readable {
			continue
		}
		b, err := documents.Read(inXML)
		if err != nil || !b.Readable {
			t.Errorf("%s: laid out in JSON, not in XML: %v", filepath.Base(name), err)
			continue
		}
		if pairs++; words(a) != words(b) {
			t.Errorf("%s is laid out differently in XML", filepath.Base(name))
		}
	}
	if t.Logf("%d pairs", pairs); pairs < 15 {
		t.Errorf("%d pairs, want at least 15: has the data moved?", pairs)
	}
}
