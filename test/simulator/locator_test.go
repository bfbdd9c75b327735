package simulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// send sends a request with headers, "Name: value"; "-Name" takes one of the usual ones away.
func sendTo(t *testing.T, method, address, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{"Authorization": "Bearer token", "X-Request-ID": "7f8a1d6c-0000-4000-8000-000000000001", "X-Correlation-ID": "1", "NHSD-End-User-Organisation-ODS": "X9B01",
		"Content-Type": "application/json", "Accept": "application/fhir+json"} {
		req.Header.Set(name, v)
	}
	for _, h := range headers {
		name, v, has := strings.Cut(h, ": ")
		if !has {
			req.Header.Del(strings.TrimPrefix(name, "-"))
			continue
		}
		req.Header.Set(name, v)
	}
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// The locator is as strict as the real one: what it does not know it refuses, by the code of the real one.
func TestLocatorIsStrict(t *testing.T) {
	const person = "9990000034"
	l := simulator.NewLocator(simulator.LocatorConfig{PageSize: 2, People: map[string][]simulator.Pointer{person: {{ID: "X9C01-1", Custodian: "X9C01", Date: "2024-01-01T00:00:00Z"},
		{ID: "X9C01-2", Custodian: "X9C01", Date: "2024-01-01T00:00:00Z"}, {ID: "X9C01-3", Custodian: "X9C01", Date: "2024-01-01T00:00:00Z"}, {ID: "X9Z01-1", Custodian: "X9Z01", Date: "2024-01-01T00:00:00Z"}}}})
	s := httptest.NewServer(l)
	t.Cleanup(s.Close)
	at := s.URL + "/record-locator/consumer/FHIR/R4/DocumentReference/_search"
	about := `"subject:identifier":"https://fhir.nhs.uk/Id/nhs-number|` + person + `"`
	of := `"custodian:identifier":"https://fhir.nhs.uk/Id/ods-organization-code|X9C01"`
	status, text, _ := sendTo(t, "POST", at, `{`+about+`,`+of+`}`)
	var b struct {
		Meta struct {
			Tag []struct{ Display, Code string }
		}
		Total int
		Entry []struct{ Resource struct{ ID string } }
	}
	if status != 200 || json.Unmarshal([]byte(text), &b) != nil || b.Total != 3 || len(b.Entry) != 2 || len(b.Meta.Tag) != 1 || b.Meta.Tag[0].Display != "next-page-token" {
		t.Fatalf("got %d: %s", status, text)
	}
	status, text, _ = sendTo(t, "POST", at, `{`+about+`,`+of+`,"next-page-token":"`+b.Meta.Tag[0].Code+`"}`)
	if status != 200 || !strings.Contains(text, "X9C01-3") || strings.Contains(text, "X9Z01") || strings.Contains(text, "next-page-token") {
		t.Errorf("the second page: got %d: %s", status, text)
	}
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		code       string
	}{
		{"no token", `{` + about + `}`, []string{"-Authorization"}, 401, "ACCESS DENIED"}, {"another token", `{` + about + `}`, []string{"Authorization: Bearer x"}, 401, "ACCESS DENIED"},
		{"no request id", `{` + about + `}`, []string{"-X-Request-ID"}, 400, "MISSING_OR_INVALID_HEADER"}, {"a request id that is none", `{` + about + `}`, []string{"X-Request-ID: 1"}, 400, "MISSING_OR_INVALID_HEADER"},
		{"no correlation id", `{` + about + `}`, []string{"-X-Correlation-ID"}, 400, "MISSING_OR_INVALID_HEADER"}, {"no organisation", `{` + about + `}`, []string{"-NHSD-End-User-Organisation-ODS"}, 400, "MISSING_OR_INVALID_HEADER"},
		{"a form", "a=b", []string{"Content-Type: application/x-www-form-urlencoded"}, 400, "MESSAGE_NOT_WELL_FORMED"}, {"no JSON", "{", nil, 400, "MESSAGE_NOT_WELL_FORMED"},
		{"nobody", `{` + of + `}`, nil, 400, "INVALID_NHS_NUMBER"}, {"a number that is none", strings.Replace(`{`+about+`}`, person, "9990000035", 1), nil, 400, "INVALID_NHS_NUMBER"},
		{"a number of another system", `{"subject:identifier":"x|` + person + `"}`, nil, 400, "INVALID_IDENTIFIER_SYSTEM"}, {"a parameter that is unknown", `{` + about + `,"x":"y"}`, nil, 400, "INVALID_PARAMETER"},
		{"a type of another system", `{` + about + `,"type":"x|1"}`, nil, 400, "INVALID_CODE_SYSTEM"},
	} {
		if status, text, _ := sendTo(t, "POST", at, c.body, c.headers...); status != c.status || !strings.Contains(text, `"code":"`+c.code+`"`) {
			t.Errorf("%s: got %d: %s", c.name, status, text)
		}
	}
}

// A library gives documents as they are, in a Binary where a client takes FHIR, and lists them by person as IHE MHD has it.
func TestLibraryIsStrict(t *testing.T) {
	const person = "9990000034"
	l := simulator.NewLibrary(simulator.LibraryConfig{Token: "token", Documents: map[string]simulator.Stored{"a.pdf": {Body: []byte("%PDF"), Type: "application/pdf"}},
		People: map[string][]simulator.Pointer{person: {{ID: "1", URL: "Binary/a.pdf", Date: "2024-01-01T00:00:00Z"}}}})
	s := httptest.NewServer(l)
	t.Cleanup(s.Close)
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		says               string
	}{
		{"GET", "/documents/a.pdf", "", []string{"Accept: */*", "-NHSD-End-User-Organisation-ODS"}, 200, "%PDF"}, {"GET", "/documents/b.pdf", "", []string{"-NHSD-End-User-Organisation-ODS"}, 404, "NO_RECORD_FOUND"},
		{"GET", "/documents/a.pdf", "", nil, 400, "MISSING_OR_INVALID_HEADER"}, // what is for the locator is not for the holder
		{"GET", "/documents/a.pdf", "", []string{"-Authorization", "-NHSD-End-User-Organisation-ODS"}, 401, "ACCESS_DENIED"}, {"GET", "/documents/a.pdf", "", []string{"-X-Request-ID", "-NHSD-End-User-Organisation-ODS"}, 400, "MISSING_OR_INVALID_HEADER"},
		{"GET", "/fhir/Binary/a.pdf", "", nil, 200, `"data":"JVBERg=="`}, {"GET", "/fhir/Binary/a.pdf", "", []string{"Accept: application/pdf"}, 200, "%PDF"},
		{"POST", "/fhir/DocumentReference/_search", "patient.identifier=https://fhir.nhs.uk/Id/nhs-number|" + person + "&status=current", []string{"Content-Type: application/x-www-form-urlencoded"}, 200, `"resourceType":"Patient"`},
		{"POST", "/fhir/DocumentReference/_search", "patient.identifier=https://fhir.nhs.uk/Id/nhs-number|" + person, []string{"Content-Type: application/x-www-form-urlencoded"}, 400, "MISSING_VALUE"},
		{"POST", "/fhir/DocumentReference/_search", "status=current", []string{"Content-Type: application/x-www-form-urlencoded"}, 400, "MISSING_VALUE"}, {"POST", "/fhir/DocumentReference/_search", "{}", nil, 400, "MISSING_VALUE"},
		{"GET", "/fhir/DocumentReference", "", nil, 404, ""},
	} {
		status, text, _ := sendTo(t, c.method, s.URL+c.path, c.body, c.headers...)
		if status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: got %d: %s", c.method, c.path, status, text)
		}
	}
}
