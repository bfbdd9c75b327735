package documents_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `a%d="1" `, i)
	}
	return b.String()
}

// looked holds whatever was read of a document against what is true of all: it ends, in time; what is made is JSON of FHIR with nothing in it that could run.
func looked(t *testing.T, body []byte) {
	n, _ := record.ParseNHSNumber(held)
	begin := time.Now()
	r, err := documents.ReadFor(body, record.Subject{Number: n, BirthDate: "1950-01-02"})
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("%d bytes took %v", len(body), took)
	}
	if err != nil {
		if r.Readable || r.Composition != nil {
			t.Error("something was read of what cannot be read")
		}
		return
	}
	if !r.Readable {
		return
	}
	d, err := fhirjson.Parse(r.Composition, fhirjson.Limits{Depth: 512, StringBytes: 1 << 30})
	if err != nil {
		t.Fatalf("the Composition is not JSON: %v", err)
	}
	if !utf8.Valid(r.Composition) {
		t.Error("the Composition is not UTF-8")
	}
	c := d.Root()
	if !c.Get("resourceType").Is("Composition") || !c.Get("subject").Exists() || !c.Get("type").Exists() || c.Get("author").Len() == 0 {
		t.Error("the Composition lacks what FHIR demands")
	}
	c.Walk(func(key string, v fhirjson.Value) bool {
		if key == "div" && v.Kind() == fhirjson.String {
			if _, err := documents.ReadXML([]byte(v.Text())); err != nil && !strings.Contains(err.Error(), "deep") {
				t.Errorf("a narrative that is not XHTML: %v", err)
			}
			for _, bad := range []string{"<script", "<style", "<iframe", "href=", "src=", " on", "style="} {
				if i := strings.Index(v.Text(), bad); i >= 0 && (bad[0] == '<' || inTag(v.Text(), i)) {
					t.Errorf("a narrative with %q", bad)
				}
			}
		}
		return true
	})
}

// inTag reports whether a place is between < and >.
func inTag(s string, at int) bool {
	return strings.LastIndexByte(s[:at], '<') > strings.LastIndexByte(s[:at], '>')
}

// FuzzCDA reads CDA and whatever else is XML.
func FuzzCDA(f *testing.F) {
	for _, s := range []string{string(report(held, "19500102", "x")), string(report("", "1950", "<b>bold</b><list listType=\"ordered\"><item>a</item></list><br/>")), `<a/>`,
		`<ClinicalDocument xmlns="urn:hl7-org:v3"/>`, `<?xml version="1.0" encoding="windows-1252"?><ClinicalDocument xmlns="urn:hl7-org:v3"><title>` + "\x80" + `</title></ClinicalDocument>`,
		strings.Replace(string(report(other, "19500102", "x")), ` xmlns="urn:hl7-org:v3"`, "", 1), `<Bundle xmlns="http://hl7.org/fhir"><type value="message"/><entry><resource><MessageHeader><eventCoding><system value="https://fhir.nhs.uk/CodeSystem/message-events-bars"/><code value="booking-request"/></eventCoding></MessageHeader></resource></entry><entry><resource><Patient><birthDate value="1950"><extension url="a/b"><valueString value="c"/></extension></birthDate></Patient></resource></entry><entry><resource><Appointment><text><div xmlns="http://www.w3.org/1999/xhtml"><a href="x">b</a></div></text><start value="2024-05-01"><extension url="e"/></start></Appointment></resource></entry></Bundle>`,
		"\xff\xfe<\x00a\x00/\x00>\x00", `<!DOCTYPE a><a/>`, strings.Repeat("<a>", 70) + strings.Repeat("</a>", 70),
		`<Bundle xmlns="http://hl7.org/fhir"><type value="document"/><entry><resource><Composition><title value="t"/><section><text><div xmlns="http://www.w3.org/1999/xhtml"><p onclick="x">a<script>b</script></p></div></text></section></Composition></resource></entry></Bundle>`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { looked(t, body) })
}

// FuzzFHIRDocument reads FHIR documents in JSON.
func FuzzFHIRDocument(f *testing.F) {
	for _, s := range []string{`{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Composition","status":"final","title":"Letter","date":"2024-05-01","subject":{"reference":"Patient/p"},"author":[{"reference":"Practitioner/a"}],` +
		`"section":[{"title":"Plan","code":{"coding":[{"code":"1"}]},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Come back &amp; rest</p></div>"},"section":[{"text":{"div":"not XHTML <"}}]}]}},` +
		`{"fullUrl":"https://x.example/Patient/p","resource":{"resourceType":"Patient","id":"p","birthDate":"1950-01-02","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + held + `"}]}},{"resource":{"resourceType":"Practitioner","id":"a","name":[{"family":"Quayle","given":["Farida"]}]}}]}`,
		`{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"Bundle","entry":[]}}]}`, bars(held, conveyed), bars(other, conveyed, `{"resourceType":"Task","id":"t","for":{"reference":"Patient/x"}}`), `{"resourceType":"Composition","section":[[]]}`, `{"resourceType":"Binary","data":"eA=="}`, `{}`, `{"resourceType":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { looked(t, body) })
}

// The seeds of both, and of each the published documents where they are beside the repository, without the fuzzer.
func TestSeeds(t *testing.T) {
	for _, text := range published(t) {
		looked(t, text)
	}
}
