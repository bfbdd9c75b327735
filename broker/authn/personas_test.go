package authn_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// TestPersonas takes a token of every persona of the demonstration's issuer over HTTP, keys and discovery included.
func TestPersonas(t *testing.T) {
	var handler http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer srv.Close()
	issuer, err := simulator.NewIssuer(simulator.IssuerConfig{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	handler = issuer
	keys := authn.NewHTTPKeys(nil)
	defer keys.Close()
	v, err := authn.New(authn.Config{
		Audience: simulator.Audience,
		Issuers: []authn.Issuer{{URL: srv.URL, Algorithms: []string{"ES256"}, PlainHTTP: true, Identity: 3, Assurance: 3,
			VouchesFor: []record.RequesterKind{record.Professional, record.Person, record.System}}},
		Clients: []authn.Client{{ID: simulator.EngineClient, Organisations: []record.ODSCode{simulator.EngineODS}, Keys: issuer.EngineKeys()}},
	}, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	post := func(path string, form url.Values) string {
		t.Helper()
		resp, err := http.PostForm(srv.URL+path, form)
		if err != nil {
			t.Fatal("the issuer did not answer")
		}
		defer func() { _ = resp.Body.Close() }()
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", path, resp.StatusCode)
		}
		return strings.TrimSpace(string(text))
	}
	kinds := map[string]record.RequesterKind{simulator.KindStaff: record.Professional, simulator.KindPerson: record.Person, simulator.KindSystem: record.System}
	for _, p := range simulator.Personas() {
		t.Run(p.Name, func(t *testing.T) {
			form := url.Values{"as": {p.Name}}
			if p.Kind == simulator.KindPerson {
				form.Set("nhs_number", "9990000018")
			}
			got, err := v.Verify(t.Context(), []string{"Bearer " + post("/token", form)}, nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			r := got.Requester
			if r.Kind != kinds[p.Kind] || r.Client != p.Client || r.TokenID == "" || r.Issuer != srv.URL {
				t.Errorf("got kind %q, client %q", r.Kind, r.Client)
			}
			if p.Kind == simulator.KindStaff && (r.User != p.User || r.RoleProfile != p.RoleProfile || r.JobRole != p.JobRole || r.RoleProfile != "" && string(r.Organisation) != p.Organisation) {
				t.Errorf("got user %q, role profile %q, job role %q, organisation %q", r.User, r.RoleProfile, r.JobRole, r.Organisation)
			}
			if (r.Own != record.NHSNumber{}) != (p.Kind == simulator.KindPerson) {
				t.Errorf("own number there: %v", !r.Own.IsZero())
			}
			if (got.Problem != nil) != (p.Kind == simulator.KindSystem) {
				t.Errorf("got problem %v", got.Problem)
			}
		})
	}
	t.Run("the engine for the doctor", func(t *testing.T) {
		got, err := v.Verify(t.Context(), []string{"Bearer " + post("/token", url.Values{"as": {"engine"}})}, []string{post("/acting", url.Values{"as": {"ed-doctor"}})}, time.Now())
		if err != nil || got.Problem != nil {
			t.Fatalf("got %v, problem %v", err, got.Problem)
		}
		if got.Requester.JobRole != "R8000" || got.Requester.Organisation != simulator.EngineODS || got.Requester.Client != simulator.EngineClient {
			t.Errorf("got %q of %q by %q", got.Requester.JobRole, got.Requester.Organisation, got.Requester.Client)
		}
	})
	t.Run("expired", func(t *testing.T) {
		if _, err := v.Verify(t.Context(), []string{"Bearer " + post("/token", url.Values{"as": {"gp"}, "ttl": {"-10m"}})}, nil, time.Now()); err != authn.ErrExpired {
			t.Errorf("got %v, want %v", err, authn.ErrExpired)
		}
	})
}
