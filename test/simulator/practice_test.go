package simulator_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

const (
	gpNumber = "9990000034"
	gpASID   = "200000000002"
	gpPath   = "/X9A01/STU3/1/gpconnect/structured"
)

// gpRequest is a request that a practice answers; a case spoils one thing of it.
type gpRequest struct {
	method, path, body string
	header             http.Header
	jwtHeader          string
	claims             map[string]any
	signature          string
}

func goodGPRequest(base string) gpRequest {
	now := time.Now().Unix()
	who := func(typ string, ids ...any) map[string]any {
		return map[string]any{"resourceType": typ, "id": "1", "identifier": ids, "name": "Somewhere", "model": "m", "version": "1"}
	}
	id := func(system, value string) any { return map[string]any{"system": system, "value": value} }
	doctor := who("Practitioner", id("https://fhir.nhs.uk/Id/sds-user-id", "UNK"), id("https://fhir.nhs.uk/Id/sds-role-profile-id", "UNK"), id("https://local.example", "u"))
	doctor["name"] = []any{map[string]any{"family": "Field", "given": []string{"Ada"}}}
	return gpRequest{
		method: http.MethodPost, path: gpPath + "/Patient/$gpc.getstructuredrecord",
		body: `{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + gpNumber +
			`"}},{"name":"includeAllergies","part":[{"name":"includeResolvedAllergies","valueBoolean":true}]}]}`,
		header: http.Header{"Ssp-Traceid": {"60e0b220-8136-4ca5-ae46-1d97ef59d068"}, "Ssp-From": {"200000000001"}, "Ssp-To": {gpASID},
			"Ssp-Interactionid": {"urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"},
			"Content-Type":      {"application/fhir+json;charset=utf-8"}, "Accept": {"application/fhir+json"}},
		jwtHeader: `{"alg":"none","typ":"JWT"}`,
		claims: map[string]any{"iss": "https://consumer.example", "sub": "1", "aud": base + gpPath, "iat": now, "exp": now + 300, "reason_for_request": "directcare",
			"requested_scope": "patient/*.read", "requesting_device": who("Device", id("https://consumer.example", "d")),
			"requesting_organization": who("Organization", id("https://fhir.nhs.uk/Id/ods-organization-code", "X9B01")), "requesting_practitioner": doctor},
	}
}

// sent sends a request and returns the status, the error code and the answer.
func (g gpRequest) sent(t *testing.T, base string) (int, string, map[string]any) {
	t.Helper()
	payload, err := json.Marshal(g.claims)
	if err != nil {
		t.Fatal("no claims")
	}
	encode := base64.RawURLEncoding.EncodeToString
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, g.method, base+g.path, strings.NewReader(g.body))
	if err != nil {
		t.Fatal("no request")
	}
	req.Header = g.header.Clone()
	if req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+encode([]byte(g.jwtHeader))+"."+encode(payload)+"."+g.signature)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal("no answer")
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	var m map[string]any
	if json.Unmarshal(body, &m) != nil {
		t.Fatalf("status %d and no JSON", resp.StatusCode)
	}
	var outcome struct {
		Issue []struct {
			Details struct {
				Coding []struct{ Code string }
			}
		}
	}
	_ = json.Unmarshal(body, &outcome) // of a Bundle nothing
	if len(outcome.Issue) == 1 && len(outcome.Issue[0].Details.Coding) == 1 {
		return resp.StatusCode, outcome.Issue[0].Details.Coding[0].Code, m
	}
	return resp.StatusCode, "", m
}

// A practice refuses what the specification has providers refuse, with the errors that it gives.
func TestPracticeIsStrict(t *testing.T) {
	patient := json.RawMessage(`{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + gpNumber + `"}]}`)
	p, err := simulator.NewPractice(simulator.PracticeConfig{Name: "Practice", ODS: "X9A01", ASID: gpASID, Allow: []string{"200000000001"},
		People: map[string]simulator.GPRecord{gpNumber: {Always: []json.RawMessage{patient}, Disabled: []string{"includeReferrals"},
			Areas: map[string][]json.RawMessage{"includeAllergies": {json.RawMessage(`{"resourceType":"AllergyIntolerance","id":"a","clinicalStatus":"resolved"}`)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)

	with := func(from, to string) func(g *gpRequest) {
		return func(g *gpRequest) {
			if !strings.Contains(g.body, from) {
				t.Fatalf("nothing to replace")
			}
			g.body = strings.Replace(g.body, from, to, 1)
		}
	}
	header := func(name, value string) func(g *gpRequest) {
		return func(g *gpRequest) { g.header.Set(name, value) }
	}
	claim := func(name string, value any) func(g *gpRequest) {
		return func(g *gpRequest) { g.claims[name] = value }
	}
	add := func(text string) func(g *gpRequest) { return with(`]}]}`, `]},`+text+`]}`) }
	for name, c := range map[string]struct {
		spoil  func(g *gpRequest)
		status int
		code   string
	}{
		"as it should be":                     {func(*gpRequest) {}, 200, ""},
		"older content type":                  {header("Content-Type", "application/json+fhir"), 200, ""},
		"an area that is not given":           {add(`{"name":"includeReferrals"}`), 200, ""},
		"a parameter that is not known":       {add(`{"name":"includeDentistry"}`), 200, ""},
		"another verb":                        {func(g *gpRequest) { g.method = http.MethodPut }, 405, "BAD_REQUEST"},
		"another address":                     {func(g *gpRequest) { g.path = gpPath + "/Patient/$everything" }, 404, "REFERENCE_NOT_FOUND"},
		"no trace id":                         {header("Ssp-TraceID", "1"), 400, "BAD_REQUEST"},
		"another sender":                      {header("Ssp-From", "200000000009"), 403, "ACCESS DENIED"},
		"another receiver":                    {header("Ssp-To", "200000000009"), 400, "BAD_REQUEST"},
		"another interaction":                 {header("Ssp-InteractionID", "urn:nhs:names:services:gpconnect:fhir:rest:search:patient-1"), 400, "BAD_REQUEST"},
		"XML":                                 {header("Content-Type", "application/fhir+xml"), 415, "UNSUPPORTED_MEDIA_TYPE"},
		"wants XML":                           {header("Accept", "application/fhir+xml"), 415, "UNSUPPORTED_MEDIA_TYPE"},
		"two of a header":                     {func(g *gpRequest) { g.header.Add("Ssp-To", gpASID) }, 400, "BAD_REQUEST"},
		"no token":                            {header("Authorization", "Basic x"), 400, "BAD_REQUEST"},
		"a signed token":                      {func(g *gpRequest) { g.signature = "AAAA" }, 400, "BAD_REQUEST"},
		"a token that says it is signed":      {func(g *gpRequest) { g.jwtHeader = `{"alg":"RS256","typ":"JWT"}` }, 400, "BAD_REQUEST"},
		"a token for another service":         {claim("aud", "https://elsewhere.example"), 400, "BAD_REQUEST"},
		"a token of six minutes":              {claim("exp", time.Now().Unix()+360), 400, "BAD_REQUEST"},
		"a token of the future":               {func(g *gpRequest) { g.claims["iat"], g.claims["exp"] = time.Now().Unix()+60, time.Now().Unix()+360 }, 400, "BAD_REQUEST"},
		"a token of the past":                 {func(g *gpRequest) { g.claims["iat"], g.claims["exp"] = time.Now().Unix()-600, time.Now().Unix()-300 }, 400, "BAD_REQUEST"},
		"another purpose":                     {claim("reason_for_request", "research"), 400, "BAD_REQUEST"},
		"another scope":                       {claim("requested_scope", "patient/*.write"), 400, "BAD_REQUEST"},
		"a claim that is no longer part":      {claim("requested_record", map[string]any{}), 400, "BAD_REQUEST"},
		"no device":                           {claim("requesting_device", nil), 400, "BAD_REQUEST"},
		"no organisation":                     {claim("requesting_organization", map[string]any{"resourceType": "Organization", "id": "1"}), 400, "BAD_REQUEST"},
		"somebody else's subject":             {claim("sub", "2"), 400, "BAD_REQUEST"},
		"no issuer":                           {claim("iss", ""), 400, "BAD_REQUEST"},
		"no Parameters":                       {with("Parameters", "Patient"), 422, "INVALID_RESOURCE"},
		"no JSON":                             {func(g *gpRequest) { g.body = "<Parameters/>" }, 422, "INVALID_RESOURCE"},
		"something after it":                  {func(g *gpRequest) { g.body += "{}" }, 422, "INVALID_RESOURCE"},
		"another identifier":                  {with("Id/nhs-number", "Id/local"), 400, "INVALID_IDENTIFIER_SYSTEM"},
		"a number that fails the check":       {with(gpNumber, "9990000035"), 400, "INVALID_NHS_NUMBER"},
		"nobody":                              {with(gpNumber, "9990000042"), 404, "PATIENT_NOT_FOUND"},
		"no number":                           {with("patientNHSNumber", "includeNothing"), 422, "INVALID_PARAMETER"},
		"no allergies":                        {with("includeAllergies", "includeSomething"), 422, "INVALID_PARAMETER"},
		"no resolved allergies":               {with(`,"part":[{"name":"includeResolvedAllergies","valueBoolean":true}]`, ``), 422, "INVALID_PARAMETER"},
		"a part without a value":              {with(`,"valueBoolean":true`, ``), 422, "INVALID_PARAMETER"},
		"a truth value as text":               {with(`true`, `"true"`), 422, "INVALID_PARAMETER"},
		"a part that there is not":            {add(`{"name":"includeProblems","part":[{"name":"x","valueBoolean":true}]}`), 422, "INVALID_PARAMETER"},
		"a filter beside consultations":       {add(`{"name":"includeConsultations"},{"name":"includeImmunisations","part":[{"name":"includeNotGiven","valueBoolean":true}]}`), 422, "INVALID_RESOURCE"},
		"a filter beside problems":            {add(`{"name":"includeProblems"},{"name":"includeMedication","part":[{"name":"medicationSearchFromDate","valueDate":"2020-01-01"}]}`), 422, "INVALID_RESOURCE"},
		"the one filter that problems allow":  {add(`{"name":"includeProblems","part":[{"name":"filterStatus","valueCode":"active"}]}`), 200, ""},
		"a partial date":                      {add(`{"name":"includeMedication","part":[{"name":"medicationSearchFromDate","valueDate":"2020-01"}]}`), 422, "INVALID_PARAMETER"},
		"a period that ends before it begins": {add(`{"name":"includeInvestigations","part":[{"name":"investigationSearchPeriod","valuePeriod":{"start":"2020-01-02","end":"2020-01-01"}}]}`), 422, "INVALID_PARAMETER"},
	} {
		t.Run(name, func(t *testing.T) {
			g := goodGPRequest(s.URL)
			c.spoil(&g)
			status, code, answer := g.sent(t, s.URL)
			if status != c.status || code != c.code {
				t.Errorf("got %d %s, want %d %s", status, code, c.status, c.code)
			}
			if status == http.StatusOK && (answer["type"] != "collection" || answer["id"] != "60e0b220-8136-4ca5-ae46-1d97ef59d068") {
				t.Error("the answer is not a collection with the trace id")
			}
		})
	}
}

// Through the Spine Secure Proxy a practice is asked as itself; the proxy refuses in its own words.
func TestSpineSecureProxy(t *testing.T) {
	patient := json.RawMessage(`{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + gpNumber + `"}]}`)
	p, err := simulator.NewPractice(simulator.PracticeConfig{Name: "Practice", ODS: "X9A01", ASID: gpASID, People: map[string]simulator.GPRecord{gpNumber: {Always: []json.RawMessage{patient}}}})
	if err != nil {
		t.Fatal(err)
	}
	const provider = "https://practice.example"
	proxy := httptest.NewServer(&simulator.Spine{Practices: map[string]*simulator.Practice{provider: p}, Contracts: []string{"200000000001"}})
	t.Cleanup(proxy.Close)
	good := goodGPRequest(provider)
	good.path = "/" + provider + good.path
	if status, _, answer := good.sent(t, proxy.URL); status != http.StatusOK || answer["type"] != "collection" {
		t.Errorf("status %d", status)
	}
	good.header.Set("Ssp-From", "200000000009")
	if status, code, _ := good.sent(t, proxy.URL); status != http.StatusForbidden || !strings.HasPrefix(code, "ASID_CHECK_FAILED") {
		t.Errorf("another sender: %d %s", status, code)
	}
	good = goodGPRequest(provider)
	good.path = "/https://other.example" + good.path
	if status, _, _ := good.sent(t, proxy.URL); status != http.StatusBadGateway {
		t.Errorf("another practice: %d", status)
	}
}
