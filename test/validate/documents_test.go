package validate

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
	"go.yaml.in/yaml/v3"
)

// TestDocuments: what is made of CDA and FHIR documents, and of pointers to them, is FHIR R4.
func TestDocuments(t *testing.T) {
	const digits = "9990000034"
	cda := `<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="7F8A1D6C-0000-4000-8000-000000000001"/><code code="819551000000100" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="Report"/>` +
		`<title>Report</title><effectiveTime value="202405011230+01"/><confidentialityCode code="N"/><recordTarget><patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="` + digits + `"/></patientRole></recordTarget>` +
		`<author><assignedAuthor><assignedPerson><name>Farida Quayle</name></assignedPerson></assignedAuthor></author><component><structuredBody><component><section><title>Found</title><text><paragraph>Pulse &lt; 60</paragraph>` +
		`<table><tr><td>1</td></tr></table></text><component><section><title>Nothing</title></section></component></section></component></structuredBody></component></ClinicalDocument>`
	bare := `<ClinicalDocument xmlns="urn:hl7-org:v3"><recordTarget><patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="` + digits + `"/></patientRole></recordTarget></ClinicalDocument>`
	letter := `{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Composition","status":"final","title":"Letter","date":"2024-05-01","type":{"text":"Letter"},"subject":{"reference":"Patient/p"},"author":[{"display":"A"}],` +
		`"section":[{"title":"Plan","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Rest</p></div>"}}]}},{"resource":{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + digits + `"}]}}]}`
	documents := map[string]simulator.Stored{"cda": {Body: []byte(cda), Type: "text/xml"}, "bare": {Body: []byte(bare), Type: "text/xml"}, "letter": {Body: []byte(letter), Type: "application/fhir+json"}}
	holder := httptest.NewServer(simulator.NewLibrary(simulator.LibraryConfig{Documents: documents}))
	t.Cleanup(holder.Close)
	var list []simulator.Pointer
	for name, d := range documents {
		list = append(list, simulator.Pointer{ID: "X9C01-" + name, Custodian: "X9C01", URL: holder.URL + "/documents/" + name, ContentType: d.Type, Date: "2024-05-01T12:30:00Z", Title: name})
	}
	list = append(list, simulator.Pointer{ID: "X9C01-away", Custodian: "X9C01", URL: "https://elsewhere.invalid/1", ContentType: "application/pdf", Date: "2024-05-01T12:30:00Z", Title: "away"})
	locator := httptest.NewServer(simulator.NewLocator(simulator.LocatorConfig{People: map[string][]simulator.Pointer{digits: list}}))
	t.Cleanup(locator.Close)
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	var settings yaml.Node
	if err := settings.Encode(map[string]any{"baseURL": locator.URL + "/record-locator/consumer/FHIR/R4", "allowPlainHTTP": true, "bearerFile": file("token"), "custodians": []string{"X9C01"},
		"holderURL": holder.URL, "holderBearerFile": file("library-token"), "endUserOrganisation": "X9B01", "read": 10}); err != nil {
		t.Fatal(err)
	}
	s, err := adapters.New("documents", &settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { adapters.Close(s) })
	number, err := record.ParseNHSNumber(digits)
	if err != nil {
		t.Fatal("not a number of the tests")
	}
	reply, err := s.Fetch(t.Context(), broker.Query{Subject: record.Subject{Number: number, Standing: record.Live}, Limits: broker.DefaultLimits})
	if err != nil {
		t.Fatalf("not read: %v", err)
	}
	var made []json.RawMessage
	for _, e := range reply.Entries {
		made = append(made, e.Resource.Raw())
	}
	if n := validated(t, made); n != 1+4+3 {
		t.Errorf("%d resources, want a Patient, 4 pointers and 3 Compositions", n)
	}
}
