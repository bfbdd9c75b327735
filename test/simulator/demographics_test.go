package simulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func trace(t *testing.T, at, number, requestID string) (int, map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+simulator.DemographicsBase+"/Patient/"+number, nil)
	if err != nil {
		t.Fatal("no request")
	}
	req.Header.Set("X-Request-ID", requestID)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	var m map[string]any
	_ = json.Unmarshal(body, &m) // nil for garbage
	return resp.StatusCode, m
}

func TestDemographics(t *testing.T) {
	const id = "60e0b220-8136-4ca5-ae46-1d97ef59d068"
	patient := func(n string) json.RawMessage {
		return json.RawMessage(`{"resourceType":"Patient","id":"` + n + `","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + n +
			`"}],"name":[{"family":"Invented"}],"address":[{"postalCode":"ZZ99 9ZZ"}],"birthDate":"1970-01-01"}`)
	}
	d, err := simulator.NewDemographics([]simulator.Demographic{
		{Number: ann, Standing: simulator.Live, Patient: patient(ann)},
		{Number: bob, Standing: simulator.Restricted, Patient: patient(bob)},
		{Number: "9990000034", Standing: simulator.Superseded, By: ann},
		{Number: "9990000042", Standing: simulator.Invalidated},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := simulator.Listen("127.0.0.1:0", d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)

	code := func(m map[string]any) string {
		issue, _ := m["issue"].([]any)
		text, _ := json.Marshal(issue)
		var in []struct {
			Details struct{ Coding []struct{ Code string } }
		}
		if json.Unmarshal(text, &in) != nil || len(in) == 0 || len(in[0].Details.Coding) == 0 {
			return ""
		}
		return in[0].Details.Coding[0].Code
	}
	for _, tc := range []struct {
		name, number, request string
		status                int
		id, security, code    string
		address               bool
	}{
		{"live", ann, id, 200, ann, "U", "", true},
		{"restricted", bob, id, 200, bob, "R", "", false},
		{"superseded", "9990000034", id, 200, ann, "U", "", true},
		{"invalidated", "9990000042", id, 404, "", "", "INVALIDATED_RESOURCE", false},
		{"unknown", "9990000050", id, 404, "", "", "RESOURCE_NOT_FOUND", false},
		{"no number", "9990000051", id, 400, "", "", "INVALID_RESOURCE_ID", false},
		{"no request id", ann, "", 400, "", "", "INVALID_VALUE", false},
	} {
		status, m := trace(t, s.URL(), tc.number, tc.request)
		got, _ := m["id"].(string)
		text, _ := json.Marshal(m["meta"])
		var meta struct{ Security []struct{ Code string } }
		_ = json.Unmarshal(text, &meta)
		security := ""
		if len(meta.Security) > 0 {
			security = meta.Security[0].Code
		}
		if _, address := m["address"]; status != tc.status || got != tc.id || security != tc.security || code(m) != tc.code || address != tc.address {
			t.Errorf("%s: got %d, security %q, code %q, address %t", tc.name, status, security, code(m), address)
		}
	}

	for fault, want := range map[simulator.Fault]int{simulator.FaultDown: 0, simulator.FaultHang: 0, simulator.FaultError500: 500, simulator.FaultNone: 200} {
		if err := d.SetFault(simulator.FaultSpec{Fault: fault}); err != nil {
			t.Fatal(err)
		}
		if status, _ := trace(t, s.URL(), ann, id); status != want {
			t.Errorf("%s: got %d, want %d", fault, status, want)
		}
	}
	if err := d.SetFault(simulator.FaultSpec{Fault: simulator.FaultGarbage}); err != nil {
		t.Fatal(err)
	}
	if status, m := trace(t, s.URL(), ann, id); status != 200 || m != nil {
		t.Errorf("garbage: got %d and JSON %t", status, m != nil)
	}
	if err := d.SetFault(simulator.FaultSpec{Fault: simulator.FaultHuge}); err == nil {
		t.Error("a fault of custodians only is not refused")
	}
}
