package documents_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// bars is a message of Booking and Referral about somebody, with these resources beside those that every one has.
func bars(nhs string, resources ...string) string {
	all := append([]string{
		`{"resourceType":"MessageHeader","id":"h","eventCoding":{"system":"https://fhir.nhs.uk/CodeSystem/message-events-bars","code":"servicerequest-request"},"reason":{"coding":[{"code":"new"}]},"sender":{"reference":"urn:uuid:org"}}`,
		`{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + nhs + `"}],"name":[{"given":["Ann"],"family":"Ashworth"}],"birthDate":"1950-01-02"}`,
		`{"resourceType":"Organization","id":"org","name":"Invented Ambulance"}`}, resources...)
	var entries []string
	for _, r := range all {
		var x struct{ ID string }
		_ = json.Unmarshal([]byte(r), &x) // what is none has no id
		entries = append(entries, `{"fullUrl":"urn:uuid:`+x.ID+`","resource":`+r+`}`)
	}
	return `{"resourceType":"Bundle","type":"message","timestamp":"2024-05-01T12:30:00+01:00","entry":[` + strings.Join(entries, ",") + `]}`
}

const conveyed = `{"resourceType":"Observation","id":"o","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}],"text":"Pulse"},"subject":{"reference":"urn:uuid:p"},"performer":[{"reference":"urn:uuid:org"}],` +
	`"valueQuantity":{"value":96.50,"comparator":"<","unit":"/min","code":"/min","system":"http://unitsofmeasure.org"},"effectivePeriod":{"start":"2024-05-01T12:00:00Z","end":"2024-05-01T12:05:00Z"},` +
	`"note":[{"text":"Irregular <b>& weak</b>\nsecond line"}],"extension":[{"url":"https://x.example/StructureDefinition/how-taken","valueString":"by hand"}],"modifierExtension":[{"url":"https://x.example/doubt","valueBoolean":true}],` +
	`"component":[{"code":{"text":"Rhythm"},"valueCodeableConcept":{"coding":[{"code":"1","display":"Irregular"},{"code":"2"}]}},{"code":{"text":"Strength"},"dataAbsentReason":{"text":"not taken"}}]}`

// A BaRS message is laid out resource by resource: every element of each, by name, with codes beside words, and references by what they lead to.
func TestMessage(t *testing.T) {
	r, err := documents.ReadFor([]byte(bars(held, conveyed, `{"resourceType":"AllergyIntolerance","id":"a","verificationStatus":{"coding":[{"code":"refuted"}]},"code":{"text":"Penicillin"},"patient":{"reference":"Patient/p/_history/1"}}`)), query(t, held).Subject)
	if err != nil || !r.Readable || r.Title != "Referral or validation request (new)" || r.Kind != "servicerequest-request" || r.Date != "2024-05-01T12:30:00+01:00" || r.Sections != 2 || r.Texts != 2 || r.About != 1 || r.Authors != 1 {
		t.Fatalf("%v, %+v", err, r)
	}
	var c struct {
		Author  []struct{ Display string }
		Section []struct {
			Title string
			Text  struct{ Status, Div string }
		}
	}
	if err := json.Unmarshal(r.Composition, &c); err != nil {
		t.Fatal(err)
	}
	if c.Author[0].Display != "Invented Ambulance" || c.Section[0].Title != "Observation: Pulse" || c.Section[1].Title != "Allergy intolerance: Penicillin" {
		t.Errorf("%+v, %q, %q", c.Author, c.Section[0].Title, c.Section[1].Title)
	}
	for i, want := range [][]string{{"<b>Status</b>: final", "<b>Code</b>: Pulse; Heart rate (8867-4)", "<b>Subject</b>: Ann Ashworth", "<b>Performer</b>: Invented Ambulance", "<b>Value</b>: &lt;96.50 /min",
		"<b>Effective period</b>: 2024-05-01T12:00:00Z to 2024-05-01T12:05:00Z", "Irregular &lt;b&gt;&amp; weak&lt;/b&gt;<br/>second line", "<b>How-taken</b>:", "by hand", "<b>Doubt</b>:", "true",
		"<b>Value</b>: Irregular (1); 2", "<b>Data absent reason</b>: not taken"}, {"<b>Verification status</b>: refuted", "<b>Patient</b>: Ann Ashworth"}} {
		for _, words := range want {
			if !strings.Contains(c.Section[i].Text.Div, words) {
				t.Errorf("section %d does not say %q: %s", i, words, c.Section[i].Text.Div)
			}
		}
	}
}

// What may be about somebody else is not laid out, and what says so is not opened. What is no message of BaRS is listed and opened, and not laid out.
func TestMessagesThatAreNotLaidOut(t *testing.T) {
	second := `{"resourceType":"Patient","id":"p2","name":[{"family":"` + canary + `"}]}`
	for name, c := range map[string]struct {
		text  string
		about int
	}{
		"two Patients, one without a number":   {bars(held, conveyed, second), 1},
		"two Patients":                         {bars(held, conveyed, strings.Replace(second, `"name"`, `"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}],"name"`, 1)), 2},
		"a subject that is not in it":          {bars(held, strings.Replace(conveyed, "urn:uuid:p", "Patient/"+canary, 1)), 1},
		"a subject of another's number":        {bars(held, strings.Replace(conveyed, `{"reference":"urn:uuid:p"}`, `{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}}`, 1)), 2},
		"no Patient":                           {strings.Replace(bars(held, conveyed), `"resourceType":"Patient"`, `"resourceType":"Person"`, 1), 0},
		"two headers":                          {bars(held, conveyed, `{"resourceType":"MessageHeader","id":"h2"}`), 1},
		"another event":                        {strings.Replace(bars(held, conveyed), "message-events-bars", "other", 1), 1},
		"a collection":                         {strings.Replace(bars(held, conveyed), `"type":"message"`, `"type":"collection"`, 1), 1},
		"about another":                        {bars(other, conveyed), 2},
		"a Patient within a resource":          {bars(held, strings.Replace(conveyed, `"status"`, `"contained":[{"resourceType":"Patient","id":"q","name":[{"family":"`+canary+`"}]}],"status"`, 1)), 1},
		"another's number beside the person":   {bars(held, `{"resourceType":"Appointment","id":"x","participant":[{"actor":{"reference":"urn:uuid:p"}},{"actor":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}}}]}`), 1},
		"a Patient beside the person":          {bars(held, `{"resourceType":"Appointment","id":"x","participant":[{"actor":{"reference":"urn:uuid:p"}},{"actor":{"reference":"https://x.example/Patient/2/_history/1","display":"`+canary+`"}}]}`), 1},
		"a relative as the subject":            {bars(held, strings.Replace(conveyed, "urn:uuid:p", "urn:uuid:rp", 1), `{"resourceType":"RelatedPerson","id":"rp","patient":{"reference":"urn:uuid:p"}}`), 1},
		"a Task for somebody who is not in it": {bars(held, `{"resourceType":"Task","id":"t","for":{"reference":"Patient/x"},"description":"`+canary+`"}`), 1},
	} {
		r, err := documents.ReadFor([]byte(c.text), query(t, held).Subject)
		if laidOut := r.Readable && r.About == 1; err != nil || laidOut || r.About != c.about {
			t.Errorf("%s: %v, readable %t, about %d, want %d", name, err, r.Readable, r.About, c.about)
		}
	}
}

// What a custodian never shares, and what may not be shown to whoever asks, is known of a message that is laid out as it is of a resource: its codes go with its text.
func TestMessageIsHeldBackForItsCodes(t *testing.T) {
	const condition = `{"resourceType":"Condition","id":"c","meta":{"security":[{"code":"LABEL"}]},"subject":{"reference":"urn:uuid:p"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"15628003","display":"` + marker + `"}]}}`
	for _, c := range []struct {
		name, label string
		req         merge.Request
		rules       merge.Rules
		shown       bool
	}{
		{"nothing in the way", "N", merge.Request{}, merge.Rules{}, true},
		{"a code that is never shared", "N", merge.Request{}, merge.Rules{Excluded: merge.CodesOf(merge.Code{System: "http://snomed.info/sct", Code: "15628003"})}, false},
		{"another code", "N", merge.Request{}, merge.Rules{Excluded: merge.CodesOf(merge.Code{System: "http://snomed.info/sct", Code: "15628004"})}, true},
		{"not for the person, to the person", "NOPAT", merge.Request{PatientView: true}, merge.Rules{}, false},
		{"not for the person, to staff", "NOPAT", merge.Request{}, merge.Rules{}, true},
		{"entered by the person, to staff", "PATAST", merge.Request{}, merge.Rules{LabelsEntered: true}, false},
		{"entered by the person, to the person", "PATAST", merge.Request{PatientView: true}, merge.Rules{LabelsEntered: true}, true},
	} {
		p := newPlace(t, func(c2 *simulator.LocatorConfig, l *simulator.LibraryConfig) {
			l.Documents["handover.json"] = simulator.Stored{Body: []byte(bars(held, strings.Replace(condition, "LABEL", c.label, 1))), Type: "application/fhir+json"}
			c2.People[held] = []simulator.Pointer{{ID: "X9C01-h", Custodian: "X9C01", URL: strings.Replace(c2.People[held][0].URL, "plan.pdf", "handover.json", 1), ContentType: "application/fhir+json", Date: "2024-06-03T12:00:00Z"}}
		})
		src := p.source(t, func(s *documents.Settings) { s.Read = 1 })
		reply, err := src.Fetch(t.Context(), query(t, held))
		if err != nil {
			t.Fatal(err)
		}
		req, rules := c.req, c.rules
		req.Base, req.CodeBase, req.Handle, req.Now, req.IDKey, req.Subject = "https://broker.example/fhir", "https://mycarerecord.example", "handle", time.Now(), []byte("k"), query(t, held).Subject
		rules.Permitted = record.AllSections
		m, err := merge.Prepare(req, rules, merge.Reply{Custodian: record.Custodian{Key: "mh", ODS: "X9C01", Kind: record.KindMentalHealth}, Base: reply.Base, Entries: reply.Entries, Adapter: reply.Adapter})
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, e := range m.Entries {
			text += string(e.JSON)
		}
		if strings.Contains(text, marker) != c.shown {
			t.Errorf("%s: shown %t", c.name, !c.shown)
		}
	}
	// An event without a code, and a resource that says nothing, make nothing that FHIR does not know.
	r, err := documents.ReadFor([]byte(strings.Replace(bars(held, `{"resourceType":"Encounter","id":"e"}`), `"code":"servicerequest-request"`, `"display":""`, 1)), query(t, held).Subject)
	if err != nil || !r.Readable || bytes.Contains(r.Composition, []byte(`""`)) || bytes.Contains(r.Composition, []byte(`xhtml"></div>`)) {
		t.Errorf("%v: %s", err, r.Composition)
	}
}

// A name that many refer to is written short everywhere: the text stays as long as the message.
func TestMessageStaysAsLongAsItIs(t *testing.T) {
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","performer":[{"reference":"urn:uuid:long"},{"reference":"urn:uuid:long"}],"subject":{"reference":"urn:uuid:p"}}`, i))
	}
	text := bars(held, append(many, `{"resourceType":"Organization","id":"long","name":"`+strings.Repeat("very ", 200_000)+`long"}`)...)
	r, err := documents.Read([]byte(text))
	if err != nil || !r.Readable || len(r.Composition) > 3*len(text) {
		t.Errorf("%v: %d bytes of %d", err, len(r.Composition), len(text))
	}
	if strings.Contains(string(r.Composition), strings.Repeat("very ", 50)) {
		t.Error("a name is written whole")
	}
}

// Every word that the published messages hold about the person, in whatever resource, is in the text that is shown: nothing is lost on the way.
func TestSampleMessagesLoseNothing(t *testing.T) {
	shown, words := 0, 0
	for name, text := range published(t) {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		r, err := documents.Read(text)
		if err != nil || !r.Readable || !strings.Contains(string(text), "CodeSystem/message-event") || bytes.Contains(text, []byte(`"resourceType": "Composition"`)) {
			continue
		}
		shown++
		var c struct {
			Section []struct{ Text struct{ Div string } }
		}
		if err := json.Unmarshal(r.Composition, &c); err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, s := range c.Section {
			said += s.Text.Div
		}
		unescape := strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "<br/>", "\n", "&amp;", "&")
		said = unescape.Replace(said)
		var b struct {
			Entry []struct{ Resource map[string]any }
		}
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatal(err)
		}
		var visit func(key string, v any)
		visit = func(key string, v any) {
			switch x := v.(type) {
			case map[string]any:
				for k, y := range x {
					if k != "meta" && k != "id" && k != "reference" && k != "system" && k != "url" && k != "resourceType" && k != "identifier" {
						visit(k, y)
					}
				}
			case []any:
				for _, y := range x {
					visit(key, y)
				}
			case string:
				if words++; !strings.Contains(said, x) {
					t.Errorf("%s: a %s is not shown", name, key)
				}
			}
		}
		for _, e := range b.Entry {
			switch e.Resource["resourceType"] {
			case "MessageHeader", "Patient", "Organization", "Practitioner", "PractitionerRole", "HealthcareService", "Questionnaire", "Schedule", "Endpoint":
			default:
				visit("", e.Resource)
			}
		}
	}
	t.Logf("%d messages: %d texts, all shown", shown, words)
	if shown < 15 || words < 500 {
		t.Errorf("%d messages with %d texts", shown, words)
	}
}

// Two documents that are too long for all leave a short one its room; they are counted as what they are.
func TestLongDocumentsLeaveShortOnesRoom(t *testing.T) {
	p := newPlace(t, func(c *simulator.LocatorConfig, l *simulator.LibraryConfig) {
		long := []byte(strings.Replace(string(report(held, "19500102", "long")), "</title>", "</title><!--"+strings.Repeat(" long", 1_500_000)+"-->", 1))
		for i, day := range []string{"2024-06-03", "2024-06-02", "2024-06-01"} {
			name := fmt.Sprintf("more-%d.xml", i)
			l.Documents[name] = simulator.Stored{Body: long, Type: "application/xml"}
			if i == 2 {
				l.Documents[name] = simulator.Stored{Body: report(held, "19500102", "short"), Type: "application/xml"}
			}
			c.People[held] = append(c.People[held], simulator.Pointer{ID: "X9C01-" + name, Custodian: "X9C01", URL: strings.Replace(c.People[held][0].URL, "plan.pdf", name, 1), ContentType: "application/xml", Date: day + "T12:00:00Z"})
		}
	})
	src := p.source(t, func(s *documents.Settings) { s.Read = 3 })
	q := query(t, held)
	q.Limits.Bytes = 8 << 20 // half of that for documents, and each of the long ones has seven and a half
	reply, err := src.Fetch(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	m := prepared(t, reply, src.Opens)
	compositions, text := 0, ""
	for _, e := range m.Entries {
		if e.Type == "Composition" {
			compositions++
			text += string(e.JSON)
		}
	}
	if compositions != 1 || !strings.Contains(text, "short") || len(reply.Parts) != 1 || reply.Parts[0] != (record.Part{Source: "documents", Reason: record.PartTooLong, Count: 2}) || m.Status.State != record.ReturnedInPart || m.Counts.Shown != 1+11+1 {
		t.Errorf("%d laid out, parts %v, %s, %+v", compositions, reply.Parts, m.Status.State, m.Counts)
	}
	if reply.Bytes > q.Limits.Bytes {
		t.Errorf("%d bytes are held", reply.Bytes)
	}
	// One that is longer than its share, and not longer than what is left, is read all the same.
	q.Limits.Bytes = 32 << 20
	reply, err = src.Fetch(t.Context(), q)
	if err != nil || len(reply.Parts) != 1 || reply.Parts[0].Count != 1 { // for two there is no room
		t.Errorf("with more room: parts %v, %v", reply.Parts, err)
	}
}

// A holder that is a FHIR server may wrap a document into a Binary, in JSON or XML, of R4 or STU3: what is opened is the document itself, with its own type.
func TestDocumentsInBinaries(t *testing.T) {
	holder := newAnswering(t)
	src := hostileSource(t, holder.url, holder.url)
	inner := report(held, "19500102", "inside")
	for name, say := range map[string]func(http.ResponseWriter, *http.Request){
		"JSON":                           typed("application/fhir+json", `{"resourceType":"Binary","contentType":"text/xml","data":"`+encoded(string(inner))+`"}`),
		"JSON of STU3":                   typed("application/fhir+json", `{"resourceType":"Binary","contentType":"text/xml","content":"`+encoded(string(inner))+`"}`),
		"XML":                            typed("application/fhir+xml", `<?xml version="1.0"?><Binary xmlns="http://hl7.org/fhir"><id value="b"/><contentType value="text/xml"/><data value="`+encoded(string(inner))+`"/></Binary>`),
		"XML of STU3":                    typed("application/fhir+xml", `<Binary xmlns="http://hl7.org/fhir"><contentType value="text/xml"/><content value="`+encoded(string(inner))+`"/></Binary>`),
		"XML with a prefix":              typed("application/xml", `<f:Binary xmlns:f="http://hl7.org/fhir"><f:contentType value="text/xml"/><f:data value="`+encoded(string(inner))+`"/></f:Binary>`),
		"XML with line breaks in base64": typed("application/fhir+xml", `<Binary xmlns="http://hl7.org/fhir"><contentType value="text/xml"/><data value="`+encoded(string(inner))[:76]+"&#10;"+encoded(string(inner))[76:]+`"/></Binary>`),
	} {
		holder.say(say)
		d, err := src.Document(t.Context(), query(t, held), holder.url+"/d")
		if err != nil || !bytes.Equal(d.Bytes, inner) || d.Type != "text/xml" {
			t.Errorf("%s: %d bytes of %q, %v", name, len(d.Bytes), d.Type, err)
		}
		if _, err := src.Document(t.Context(), query(t, other), holder.url+"/d"); err == nil {
			t.Errorf("%s: it is opened for somebody else", name)
		}
	}
}
