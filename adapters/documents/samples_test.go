package documents_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// sampleDir is where the published documents are, beside the repository.
const sampleDir = "../../../shared/data"

// published are the CDA and FHIR documents of the samples: CDA, bare and in ITK envelopes; FHIR Bundles that are documents or messages (BaRS, Send Document,
// pharmacy, summary care record, IPS), in JSON and XML.
func published(t *testing.T) map[string][]byte {
	t.Helper()
	if _, err := os.Stat(sampleDir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the sample documents are not beside the repository")
		}
		t.Skip("the sample documents are not beside the repository")
	}
	out := map[string][]byte{}
	for _, pattern := range []string{"cda/*/*", "bars-r4/api/*", "bars-r4/json/*", "bars-r4/xml/*", "gp-connect-stu3/itk3-xml/*", "nhs-england-r4/scr/*/*", "nhs-england-r4/frameworks/*", "nhs-england-r4/programme/*/*", "ips/*/IPS-bundle*"} {
		names, err := filepath.Glob(filepath.Join(sampleDir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name) //nolint:gosec // sample data
			if err != nil {
				t.Fatal(err)
			}
			var b struct{ ResourceType, Type string }
			isBundle := json.Unmarshal(text, &b) == nil && b.ResourceType == "Bundle" && (b.Type == "document" || b.Type == "message")
			isXML := bytes.Contains(text, []byte("<ClinicalDocument")) || bytes.Contains(text[:min(300, len(text))], []byte("<Bundle")) && regexp.MustCompile(`<type value="(document|message)"`).Match(text)
			if isBundle || isXML {
				out[strings.TrimPrefix(name, sampleDir+"/")] = text
			}
		}
	}
	if len(out) < 60 {
		t.Fatalf("%d sample documents, want at least 60: has the data moved?", len(out))
	}
	return out
}

var numbers = regexp.MustCompile(`(?:nhs-number"[^0-9]{0,60}"value": ?"|nhs-number"\s*/>\s*<value value="|extension="|root="2\.16\.840\.1\.113883\.2\.1\.4\.1" extension=")([0-9]{10})`)

// Every CDA and FHIR document in the samples lists and can be opened; its bytes equal the original. Whose it is, where it says so, is the person asked for;
// for anybody else it is not opened.
func TestSamples(t *testing.T) {
	all := published(t)
	var names []string
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	opened, laidOut, checked, refused := 0, 0, 0, 0
	for _, name := range names {
		text := all[name]
		number := "9990000034"
		for _, m := range numbers.FindAllSubmatch(text, -1) {
			if _, err := record.ParseNHSNumber(string(m[1])); err == nil {
				number = string(m[1])
				break
			}
		}
		kind := "application/xml"
		if strings.HasSuffix(name, ".json") {
			kind = "application/fhir+json"
		}
		var at string
		p := newPlace(t, func(_ *simulator.LocatorConfig, c *simulator.LibraryConfig) {
			c.Documents["sample"] = simulator.Stored{Body: text, Type: kind}
		})
		at = p.holder + "/documents/sample"
		p.Locator = simulator.NewLocator(simulator.LocatorConfig{People: map[string][]simulator.Pointer{number: {{ID: "X9C01-s", Custodian: "X9C01", URL: at, ContentType: kind, Date: "2024-01-01T00:00:00Z"}}}})
		p.locator = serve(t, p.Locator)
		src := p.source(t, func(s *documents.Settings) { s.Read = 5 })
		q := query(t, number)
		q.Subject.BirthDate, q.Subject.Family = "", ""
		q.Limits.Bytes = 32 << 20
		reply, err := src.Fetch(t.Context(), q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		listed, compositions := 0, 0
		for _, e := range reply.Entries {
			switch e.Resource.Get("resourceType").Text() {
			case "DocumentReference":
				listed++
			case "Composition":
				compositions++
				if e.Resource.Get("section").Len() == 0 && !strings.Contains(name, "Unstructured") && !strings.Contains(name, "Embedded") {
					t.Errorf("%s: a Composition without sections", name)
				}
			}
		}
		d, err := src.Document(t.Context(), q, at)
		if err != nil || !bytes.Equal(d.Bytes, text) || listed != 1 || len(reply.Parts) > 0 {
			t.Errorf("%s: %d listed, parts %v, opening it: %v", name, listed, reply.Parts, err)
			continue
		}
		opened++
		laidOut += compositions
		if number != "9990000034" {
			checked++
			other := q
			other.Subject = query(t, "9990000042").Subject
			other.Subject.BirthDate = ""
			if d, err := src.Document(t.Context(), other, at); err == nil || len(d.Bytes) > 0 {
				continue
			}
			refused++
		}
	}
	t.Logf("%d documents: %d listed and opened byte for byte, %d laid out in sections; %d name a person, %d of those are refused for anybody else", len(names), opened, laidOut, checked, refused)
	// One names a person in no Patient, so nothing that it is about can be checked.
	if opened != len(names) || laidOut < 3 || refused < 25 || checked-refused > 1 {
		t.Errorf("%d opened, %d laid out, %d refused", opened, laidOut, refused)
	}
}

// What CDA and FHIR say can be read of every sample that has it: a Composition with a title, a type, a date, an author, and sections with text.
func TestSamplesAreRead(t *testing.T) {
	cda, fhir, sections, messages, messageSections := 0, 0, 0, 0, 0
	for name, text := range published(t) {
		r, err := documents.Read(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		isCDA, isFHIR := bytes.Contains(text, []byte("<ClinicalDocument")), regexp.MustCompile(`<Composition[ >]`).Match(text) || bytes.Contains(text, []byte(`"resourceType": "Composition"`))
		if r.Readable && !isCDA && !isFHIR && regexp.MustCompile(`https://fhir.nhs.uk/CodeSystem/message-event`).Match(text) {
			messages++
			if name := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)); r.Title == "" || r.Date == "" || r.Authors == 0 || r.Texts == 0 || r.Texts != r.Sections {
				t.Errorf("%s: title %v, date %v, %d authors, %d sections with %d texts", name, r.Title != "", r.Date != "", r.Authors, r.Sections, r.Texts)
			}
			messageSections += r.Sections
			continue
		}
		if r.Readable != (isCDA || isFHIR) {
			t.Errorf("%s: readable %v, CDA %v, FHIR with a Composition %v", name, r.Readable, isCDA, isFHIR)
		}
		if !r.Readable {
			continue
		}
		if isCDA {
			cda++
		} else {
			fhir++
		}
		if r.Title == "" && r.Kind == "" || r.Date == "" || r.Authors == 0 && !strings.Contains(name, "dissent") { // whose author is a role without a name
			t.Errorf("%s: title %v, kind %v, date %v, %d authors", name, r.Title != "", r.Kind != "", r.Date != "", r.Authors)
		}
		// Those that hold a file, and ITK3 messages whose section only refers to one, have no text of their own.
		if r.Texts == 0 && !strings.Contains(name, "Unstructured") && !strings.Contains(name, "Embedded") && !strings.Contains(name, "itk3-xml") {
			t.Errorf("%s: no text in %d sections", name, r.Sections)
		}
		sections += r.Sections
	}
	t.Logf("%d CDA and %d FHIR documents with %d sections, %d messages with %d", cda, fhir, sections, messages, messageSections)
	if messages < 30 {
		t.Errorf("%d messages are laid out", messages)
	}
	if cda < 11 || fhir < 8 {
		t.Errorf("%d CDA, %d FHIR", cda, fhir)
	}
}

// The published pointers of the National Record Locator with an address behind the Spine Secure Proxy lead, through it, to the holder that they name, and
// nowhere without it.
func TestSamplePointersBehindTheProxy(t *testing.T) {
	published(t) // skips in a bare clone, and fails where the samples must be
	settings := documents.Settings{Connection: wire.Connection{BaseURL: "https://locator.example"}, Custodians: []string{"Y05868"}, HolderURL: "https://p1.nhs.uk"}
	direct, err := documents.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	settings.ProxyURL, settings.FromASID, settings.ToASID, settings.Issuer = "https://spine-proxy.national.ncrs.nhs.uk", "200000000001", "012345678910", "https://record.example"
	proxied, err := documents.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	defer proxied.Close()
	names, err := filepath.Glob(filepath.Join(sampleDir, "nrl", "*-Valid*.json"))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d pointers: has the data moved?", len(names))
	}
	for _, name := range names {
		text, err := os.ReadFile(name) //nolint:gosec // sample data
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			Content []struct{ Attachment struct{ URL string } }
		}
		if err := json.Unmarshal(text, &r); err != nil || len(r.Content) == 0 {
			t.Fatal("no pointer")
		}
		for _, c := range r.Content {
			if at := c.Attachment.URL; !proxied.Opens(at) || direct.Opens(at) {
				t.Errorf("%s: through the proxy %t, without it %t", filepath.Base(name), proxied.Opens(at), direct.Opens(at))
			}
		}
	}
}
