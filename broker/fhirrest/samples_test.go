package fhirrest

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// sampleDir is where the published documents are, beside the repository.
const sampleDir = "../../../shared/data"

// anybody traces whoever is asked for, and knows nothing of them but the number: the samples are about many people.
type anybody struct{}

// Trace implements broker.Tracer.
func (anybody) Trace(_ context.Context, n record.NHSNumber, _ string) (record.Subject, error) {
	return record.Subject{Number: n, Standing: record.Live}, nil
}

var (
	sampleNumber = regexp.MustCompile(`(?:nhs-number"[^0-9]{0,60}"value": ?"|nhs-number"\s*/>\s*<value value="|root="2\.16\.840\.1\.113883\.2\.1\.4\.1" extension="|extension=")([0-9]{10})`)
	kindOfBundle = regexp.MustCompile(`<type value="(document|message)"`)
)

// Every CDA and FHIR document of the samples is listed in the record of whom it is about, and comes through Binary byte for byte; each look is on record.
func TestSampleDocumentsThroughBinary(t *testing.T) {
	if _, err := os.Stat(sampleDir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the sample documents are not beside the repository")
		}
		t.Skip("the sample documents are not beside the repository")
	}
	library := simulator.LibraryConfig{Documents: map[string]simulator.Stored{}}
	people := map[string][]simulator.Pointer{}
	var address string // of the library, once it listens
	files := map[string]string{}
	for _, pattern := range []string{"cda/*/*", "bars-r4/*/*", "gp-connect-stu3/itk3-xml/*", "nhs-england-r4/*/*", "nhs-england-r4/*/*/*", "ips/*/IPS-bundle*"} {
		names, err := filepath.Glob(filepath.Join(sampleDir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil || info.IsDir() {
				continue
			}
			text, err := os.ReadFile(name) //nolint:gosec // sample data
			if err != nil {
				t.Fatal("a sample cannot be read")
			}
			var b struct{ ResourceType, Type string }
			isJSON := json.Unmarshal(text, &b) == nil && b.ResourceType == "Bundle" && (b.Type == "document" || b.Type == "message")
			if !isJSON && !strings.Contains(string(text), "<ClinicalDocument") && !(strings.Contains(string(text[:min(300, len(text))]), "<Bundle") && kindOfBundle.Match(text)) {
				continue
			}
			of := "9990000034"
			for _, m := range sampleNumber.FindAllSubmatch(text, -1) {
				if _, err := record.ParseNHSNumber(string(m[1])); err == nil {
					of = string(m[1])
					break
				}
			}
			kind := "application/xml"
			if isJSON {
				kind = "application/fhir+json"
			}
			path := "d" + string(rune('a'+len(files)/26)) + string(rune('a'+len(files)%26))
			files[path] = name
			library.Documents[path] = simulator.Stored{Body: text, Type: kind}
			people[of] = append(people[of], simulator.Pointer{ID: "X9A01-" + path, Custodian: "X9A01", URL: path, ContentType: kind, Date: "2024-01-01T00:00:00Z", Title: path})
		}
	}
	if len(files) < 60 {
		t.Fatalf("%d sample documents, want at least 60: has the data moved?", len(files))
	}
	holder := httptest.NewServer(simulator.NewLibrary(library))
	t.Cleanup(holder.Close)
	address = holder.URL + "/documents/"
	for _, list := range people {
		for i := range list {
			list[i].URL = address + list[i].URL
		}
	}
	locator := httptest.NewServer(simulator.NewLocator(simulator.LocatorConfig{People: people}))
	t.Cleanup(locator.Close)
	settings := documents.Settings{Custodians: []string{"X9A01"}, HolderURL: holder.URL, HolderBearerFile: tokenFile(t, "library-token"), Read: 3}
	settings.BaseURL, settings.AllowPlainHTTP, settings.BearerFile = locator.URL+"/record-locator/consumer/FHIR/R4", true, tokenFile(t, "token")
	source, err := documents.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	k := newHouse(t, func(c *broker.Config) {
		c.Tracer = anybody{}
		c.Custodians[0].Source = source
		c.Custodians = c.Custodians[:1]
	})
	opened := map[string]bool{}
	titled := regexp.MustCompile(`"title":"(d[a-z]{2})","url":"https://broker\.example(/fhir/Binary/gp-[0-9a-f]{32}\?ctx=[A-Za-z0-9_-]+)"`)
	for of := range people {
		handle := k.h.(*handler).handles.Seal(number(t, of)) //nolint:forcetypeassert // newHouse made it
		record := bodyOf(t, k.get("/fhir/Patient/"+handle+"/$everything"))
		if strings.Contains(record, address) {
			t.Error("the holder's own address is in an answer")
		}
		for _, m := range titled.FindAllStringSubmatch(record, -1) {
			resp := k.get(m[2], "Accept: */*")
			if got := bodyOf(t, resp); resp.StatusCode != 200 || got != string(library.Documents[m[1]].Body) || resp.Header.Get("X-Access-Receipt") == "" {
				t.Errorf("%s: got %d, the original: %v", files[m[1]], resp.StatusCode, got == string(library.Documents[m[1]].Body))
			}
			opened[m[1]] = true
		}
	}
	for path, name := range files {
		if !opened[path] {
			t.Errorf("%s is not listed with an address", name)
		}
	}
	t.Logf("%d documents of %d people: %d listed and opened through Binary", len(files), len(people), len(opened))
}

func tokenFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
