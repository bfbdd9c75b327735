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
