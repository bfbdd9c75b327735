package simulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func startIssuer(t *testing.T) (*simulator.Issuer, string) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	at := "http://" + s.Listener.Addr().String()
	i, err := simulator.NewIssuer(simulator.IssuerConfig{URL: at, Holders: map[string]simulator.Holder{ann: {Family: "Invented", BirthDate: "1970-01-01"}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Handler = i
	s.Start()
	t.Cleanup(s.Close)
	return i, at
}

func fetch(t *testing.T, method, address string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal("no request")
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal("the exchange failed")
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal("the exchange failed")
	}
	return resp.StatusCode, string(body)
}

// verify checks a token with the keys that discovery leads to, and returns its claims.
func verify(t *testing.T, at, token string) map[string]any {
	t.Helper()
	_, text := fetch(t, http.MethodGet, at+"/.well-known/openid-configuration", nil)
	var d struct {
		Issuer  string
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil || d.Issuer != at {
		t.Fatalf("discovery names the issuer %q", d.Issuer)
	}
	_, text = fetch(t, http.MethodGet, d.JWKSURI, nil)
	return open(t, text, token)
}

func open(t *testing.T, keys, token string) map[string]any {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(keys), &set); err != nil || len(set.Keys) != 1 || !set.Keys[0].IsPublic() {
		t.Fatal("not one public key")
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal("not a JWS signed with ES256")
	}
	var c map[string]any
	if err := parsed.Claims(set, &c); err != nil {
		t.Fatal("the signature does not verify")
	}
	return c
}

func TestEveryPersonaGetsAToken(t *testing.T) {
	_, at := startIssuer(t)
	for _, p := range simulator.Personas() {
		form := url.Values{"as": {p.Name}}
		if p.Kind == simulator.KindPerson {
			form.Set("nhs_number", ann)
		}
		status, token := fetch(t, http.MethodPost, at+"/token", form)
		if status != 200 {
			t.Errorf("%s: status %d", p.Name, status)
			continue
		}
		c := verify(t, at, token)
		if c["iss"] != at || c["aud"] != simulator.Audience || c["jti"] == "" || c["client_id"] != p.Client || c["exp"].(float64)-c["iat"].(float64) != 3600 {
			t.Errorf("%s: registered claims are wrong", p.Name)
		}
		switch p.Kind {
		case simulator.KindSystem:
			if c["sub"] != c["client_id"] || c["nhsid_useruid"] != nil || c["vot"] != nil {
				t.Errorf("%s: not the shape of a system", p.Name)
			}
		case simulator.KindPerson:
			if c["nhs_number"] != ann || c["vot"] != "P9.Cp.Cd" || c["birthdate"] != "1970-01-01" || c["family_name"] != "Invented" || strings.Contains(c["sub"].(string), ann) {
				t.Errorf("%s: not the shape of NHS login", p.Name)
			}
		case simulator.KindStaff:
			selected := ""
			for _, x := range c["nhsid_nrbac_roles"].([]any) {
				if r := x.(map[string]any); r["person_roleid"] == c["selected_roleid"] {
					selected = r["org_code"].(string) + " " + r["role_code"].(string)
				}
			}
			want := p.Organisation + " S8000:G8000:" + p.JobRole
			if p.RoleProfile == "" {
				want = ""
			}
			if c["nhsid_useruid"] != p.User || selected != want {
				t.Errorf("%s: selected role %q, want %q", p.Name, selected, want)
			}
		}
	}
}

func TestStatedClaimsAndExpiry(t *testing.T) {
	_, at := startIssuer(t)
	_, token := fetch(t, http.MethodPost, at+"/token", url.Values{"as": {"gp"}, "nhs_number": {ann}, "purpose": {"TREAT"}, "permission": {"asked-yes"},
		"relationship": {`admission; ref="W7"`}, "ttl": {"90"}})
	c := verify(t, at, token)
	if c["nhs_number"] != ann || c["purpose_of_use"] != "TREAT" || c["permission_to_view"] != "asked-yes" || c["care_relationship"] != `admission; ref="W7"` {
		t.Error("what the launch stated is not in the token")
	}
	if c["exp"].(float64)-c["iat"].(float64) != 90 {
		t.Error("ttl is not kept")
	}
	_, token = fetch(t, http.MethodGet, at+"/token?as=gp&ttl=-5m", nil)
	if c = verify(t, at, token); int64(c["exp"].(float64)) >= time.Now().Unix() || c["iat"].(float64) >= c["exp"].(float64) {
		t.Error("not an expired token")
	}
}

func TestTokenRefusals(t *testing.T) {
	_, at := startIssuer(t)
	for name, tc := range map[string]struct {
		method, query string
		form          url.Values
		want          int
	}{
		"no such persona":       {http.MethodPost, "", url.Values{"as": {"surgeon"}}, 400},
		"nobody":                {http.MethodPost, "", url.Values{}, 400},
		"patient without":       {http.MethodGet, "?as=patient", nil, 400},
		"number in the address": {http.MethodGet, "?as=patient&nhs_number=" + ann, nil, 400},
		"wrong number":          {http.MethodPost, "", url.Values{"as": {"patient"}, "nhs_number": {"9990000019"}}, 400},
		"ttl":                   {http.MethodGet, "?as=gp&ttl=61m", nil, 400},
		"ttl too":               {http.MethodGet, "?as=gp&ttl=soon", nil, 400},
		"twice":                 {http.MethodPost, "", url.Values{"as": {"gp", "engine"}}, 400},
		"long":                  {http.MethodPost, "", url.Values{"as": {"gp"}, "permission": {strings.Repeat("x", 501)}}, 400},
		"engine":                {http.MethodPost, "", url.Values{"as": {"engine"}, "purpose": {"TREAT"}}, 400},
		"verb":                  {http.MethodPut, "", nil, 405},
	} {
		if status, _ := fetch(t, tc.method, at+"/token"+tc.query, tc.form); status != tc.want {
			t.Errorf("%s: got %d, want %d", name, status, tc.want)
		}
	}
	if _, text := fetch(t, http.MethodGet, at+"/token?as=x", nil); !strings.Contains(text, "ig-officer") {
		t.Error("the refusal does not list the personas")
	}
}

func TestClientCredentials(t *testing.T) {
	i, at := startIssuer(t)
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(i.EngineKey()); err != nil || key.IsPublic() {
		t.Fatal("no private key")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal("no signer")
	}
	ask := func(c jwt.Claims) int {
		text, err := jwt.Signed(signer).Claims(c).Serialize()
		if err != nil {
			t.Fatal("cannot sign")
		}
		status, body := fetch(t, http.MethodPost, at+"/token", url.Values{"grant_type": {"client_credentials"}, "client_assertion": {text},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}})
		if status == 200 {
			var out struct {
				AccessToken string `json:"access_token"`
				TokenType   string `json:"token_type"`
				ExpiresIn   int    `json:"expires_in"`
			}
			if err := json.Unmarshal([]byte(body), &out); err != nil || out.TokenType != "Bearer" || out.ExpiresIn != 300 {
				t.Error("not the answer of RFC 6749")
			}
			if c := verify(t, at, out.AccessToken); c["sub"] != simulator.EngineClient {
				t.Error("the token is not the engine's")
			}
		}
		return status
	}
	now := time.Now()
	good := jwt.Claims{Issuer: simulator.EngineClient, Subject: simulator.EngineClient, Audience: jwt.Audience{at + "/token"}, ID: "1", Expiry: jwt.NewNumericDate(now.Add(time.Minute))}
	if got := ask(good); got != 200 {
		t.Fatalf("a good assertion: got %d", got)
	}
	if got := ask(good); got != 401 {
		t.Errorf("the same jti again: got %d, want 401", got)
	}
	for name, change := range map[string]func(c *jwt.Claims){
		"another issuer": func(c *jwt.Claims) { c.Issuer = "x" },
		"another sub":    func(c *jwt.Claims) { c.Subject = "x" },
		"another aud":    func(c *jwt.Claims) { c.Audience = jwt.Audience{at} },
		"expired":        func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(-time.Minute)) },
		"too long":       func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(time.Hour)) },
		"no expiry":      func(c *jwt.Claims) { c.Expiry = nil },
		"no jti":         func(c *jwt.Claims) { c.ID = "" },
	} {
		c := good
		c.ID = name
		change(&c)
		if got := ask(c); got != 401 {
			t.Errorf("%s: got %d, want 401", name, got)
		}
	}
	if status, _ := fetch(t, http.MethodPost, at+"/token", url.Values{"grant_type": {"password"}}); status != 400 {
		t.Errorf("another grant: got %d", status)
	}
}

func TestActing(t *testing.T) {
	i, at := startIssuer(t)
	if token, ok := i.Token("ig-officer"); !ok || verify(t, at, token)["nhsid_useruid"] == nil {
		t.Error("no token in-process")
	}
	if _, ok := i.Token("patient"); ok {
		t.Error("a token for a patient without a number")
	}
	status, token := fetch(t, http.MethodPost, at+"/acting", url.Values{"as": {"ed-doctor"}})
	if status != 200 {
		t.Fatalf("status %d", status)
	}
	c := open(t, string(i.EngineKeys()), token)
	if c["iss"] != simulator.EngineClient || c["org_code"] != simulator.EngineODS || c["job_role"] != "R8000" || c["role_profile_id"] == "" || c["aud"] != simulator.Audience ||
		c["exp"].(float64)-c["iat"].(float64) != 300 || c["jti"] == "" {
		t.Error("not the statement of an acting person")
	}
	if _, keys := fetch(t, http.MethodGet, at+"/clients/demo-engine/jwks", nil); keys != string(i.EngineKeys()) {
		t.Error("the engine's keys are not served")
	}
	if status, _ := fetch(t, http.MethodPost, at+"/acting", url.Values{"as": {"stranger"}}); status != 400 {
		t.Errorf("somebody without a role: got %d, want 400", status)
	}
}
