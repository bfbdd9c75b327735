package fhirr4_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/fhirr4"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Binaries of the custodian's server are opened, byte for byte; nothing else below it is, and none whose security context is another Patient.
func TestDocument(t *testing.T) {
	const mine, other = "9990000034", "9990000018"
	scan := []byte("%PDF-1.7 \x00\xff a scan")
	person := func(number, id string, more ...string) []json.RawMessage {
		out := []json.RawMessage{json.RawMessage(`{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + number + `"}]}`)}
		for _, m := range more {
			out = append(out, json.RawMessage(m))
		}
		return out
	}
	binary := func(id, of string) string {
		context := ""
		if of != "" {
			context = `,"securityContext":{"reference":"` + of + `"}`
		}
		return `{"resourceType":"Binary","id":"` + id + `","contentType":"application/pdf","data":"` + base64.StdEncoding.EncodeToString(scan) + `"` + context + `}`
	}
	c, err := simulator.NewCustodian(simulator.CustodianConfig{Everything: true, People: map[string][]json.RawMessage{
		mine:  person(mine, "p1", binary("b1", ""), binary("b2", "Patient/p1"), `{"resourceType":"Binary","id":"b3","contentType":"application/pdf"}`, `{"resourceType":"Binary","id":"b4","data":"!"}`),
		other: person(other, "p2", binary("b5", "Patient/p2"))}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	elsewhere := 0
	away := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	t.Cleanup(away.Close)
	src, err := fhirr4.New(fhirr4.Settings{Connection: wire.Connection{BaseURL: server.URL + "/fhir", AllowPlainHTTP: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	n, err := record.ParseNHSNumber(mine)
	if err != nil {
		t.Fatal("not a number of the tests")
	}
	q := broker.Query{Subject: record.Subject{Number: n, Standing: record.Live}, RequestID: "request-1", Limits: broker.DefaultLimits}
	for id, want := range map[string]error{"b1": nil, "b2": nil, "b3": broker.ErrMalformed, "b4": broker.ErrMalformed, "b5": broker.ErrWrongSubject, "none": broker.ErrNoRecord} {
		d, err := src.Document(t.Context(), q, server.URL+"/fhir/Binary/"+id)
		if !errors.Is(err, want) || want == nil && (string(d.Bytes) != string(scan) || d.Type != "application/pdf") || want != nil && len(d.Bytes) > 0 {
			t.Errorf("%s: got %v, want %v", id, err, want)
		}
	}
	for _, at := range []string{"", "Binary/b1", server.URL + "/fhir/Observation/1", server.URL + "/Binary/b1", server.URL + "/fhir/Binary/", server.URL + "/fhir/Binary/b1/x", server.URL + "/fhir/Binary/b1?x=1",
		server.URL + "/fhir/Binary/$x", server.URL + "/fhir/Binary/_search", away.URL + "/fhir/Binary/b1", "https://" + strings.TrimPrefix(server.URL, "http://") + "/fhir/Binary/b1", server.URL + "/fhir/Binary/" + mine, server.URL + "/fhir/../fhir/Binary/b1"} {
		if _, err := src.Document(t.Context(), q, at); !errors.Is(err, broker.ErrElsewhere) {
			t.Errorf("%.20q: got %v", at, err)
		}
	}
	if elsewhere != 0 {
		t.Errorf("%d requests to another host", elsewhere)
	}
	small := q
	small.Limits.Bytes = 60
	if _, err := src.Document(t.Context(), small, server.URL+"/fhir/Binary/b1"); !errors.Is(err, broker.ErrTooMuch) {
		t.Errorf("over the cap: got %v", err)
	}
	for _, line := range c.Log() {
		if record.HoldsNHSNumber(line) {
			t.Error("an NHS number was in an address")
		}
	}
}

// A Binary that says it is about another person, by its text or by its security context, is not opened.
func TestDocumentOfAnother(t *testing.T) {
	const mine, other = "9990000034", "9990000018"
	cda := func(number string) string {
		return `<ClinicalDocument xmlns="urn:hl7-org:v3"><recordTarget><patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="` + number + `"/></patientRole></recordTarget></ClinicalDocument>`
	}
	number := func(n string) string {
		return `"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + n + `"}`
	}
	people := map[string][]json.RawMessage{mine: {json.RawMessage(`{"resourceType":"Patient","id":"p1","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + mine + `"}]}`)}}
	wants := map[string]error{}
	add := func(name, text, context string, want error) {
		if context != "" {
			context = `,"securityContext":` + context
		}
		people[mine] = append(people[mine], json.RawMessage(`{"resourceType":"Binary","id":"`+name+`","contentType":"text/xml","data":"`+base64.StdEncoding.EncodeToString([]byte(text))+`"`+context+`}`))
		wants[name] = want
	}
	add("own", cda(mine), "", nil)
	add("another", cda(other), "", broker.ErrWrongSubject)
	add("another-own-context", cda(other), `{"reference":"Patient/p1"}`, broker.ErrWrongSubject)
	add("another-behind-blanks", strings.Repeat(" ", 600)+cda(other), "", broker.ErrWrongSubject)
	add("another-in-a-binary", `{"resourceType":"Binary","data":"`+base64.StdEncoding.EncodeToString([]byte(cda(other)))+`"}`, "", broker.ErrWrongSubject)
	add("half", cda(mine)[:80], "", broker.ErrMalformed)
	add("deep", strings.Repeat("<a>", 1000)+strings.Repeat("</a>", 1000), "", broker.ErrTooMuch)
	for name, of := range map[string]string{"identifier": `{` + number(other) + `}`, "rooted": `{"reference":"/Patient/zz"}`, "away": `{"reference":"https://elsewhere.invalid/fhir/Patient/p1"}`,
		"urn": `{"reference":"urn:uuid:7f8a1d6c-0000-4000-8000-000000000001","type":"Patient"}`, "urn-untyped": `{"reference":"urn:uuid:7f8a1d6c-0000-4000-8000-000000000001"}`, "typed": `{"type":"Patient","display":"x"}`,
		"disguised": `{"reference":"/Patient/zz","type":"Encounter"}`, "two": `{"reference":"Patient/p1",` + number(other) + `}`, "local": `{"identifier":{"system":"https://x.example","value":"1"}}`, "encounter-and-number": `{"reference":"Encounter/1",` + number(other) + `}`} {
		add("context-"+name, "%PDF-1.7", of, broker.ErrWrongSubject)
	}
	add("context-list", "%PDF-1.7", `[{"reference":"Patient/p1"}]`, broker.ErrMalformed)
	add("context-number", "%PDF-1.7", `{`+number(mine)+`}`, nil)
	add("context-version", "%PDF-1.7", `{"reference":"Patient/p1/_history/2"}`, nil)
	add("context-encounter", "%PDF-1.7", `{"reference":"Encounter/1"}`, nil)
	c, err := simulator.NewCustodian(simulator.CustodianConfig{Everything: true, People: people})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	src, err := fhirr4.New(fhirr4.Settings{Connection: wire.Connection{BaseURL: server.URL + "/fhir", AllowPlainHTTP: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	n, err := record.ParseNHSNumber(mine)
	if err != nil {
		t.Fatal("not a number of the tests")
	}
	q := broker.Query{Subject: record.Subject{Number: n, Standing: record.Live}, RequestID: "request-1", Limits: broker.DefaultLimits}
	for id, want := range wants {
		d, err := src.Document(t.Context(), q, server.URL+"/fhir/Binary/"+id)
		if !errors.Is(err, want) || (want == nil) != (len(d.Bytes) > 0) {
			t.Errorf("%s: got %v, want %v", id, err, want)
		}
	}
}
