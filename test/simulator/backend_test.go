package simulator_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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

// A custodian with backend authorisation takes an assertion that is right in everything, once, and refuses any other with the error of RFC 6749.
func TestBackendAssertions(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "e", Algorithm: "ES384"}, {Key: rsaKey.Public(), KeyID: "r"}}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := simulator.NewCustodian(simulator.CustodianConfig{Name: "trust", Backend: &simulator.Backend{ClientID: "us", Keys: keys},
		People: map[string][]json.RawMessage{"9990000018": {json.RawMessage(`{"resourceType":"Patient","id":"p"}`)}}})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(c)
	defer h.Close()

	post := func(path, token string, form url.Values) (int, map[string]any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, _ := io.ReadAll(res.Body)
		m := map[string]any{}
		_ = json.Unmarshal(text, &m)
		return res.StatusCode, m
	}
	find := url.Values{"identifier": {"https://fhir.nhs.uk/Id/nhs-number|9990000018"}}

	id := 0
	claims := func() map[string]any {
		id++
		now := time.Now().Unix()
		return map[string]any{"iss": "us", "sub": "us", "aud": h.URL + "/oauth2/token", "iat": now, "exp": now + 240, "jti": strings.Repeat("j", id)}
	}
	signed := func(algorithm jose.SignatureAlgorithm, key any, kid, typ string, claims map[string]any) string {
		t.Helper()
		options := (&jose.SignerOptions{}).WithHeader("kid", kid)
		if typ != "" {
			options = options.WithType(jose.ContentType(typ))
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := func(change map[string]any) string {
		m := claims()
		for k, v := range change {
			if m[k] = v; v == nil {
				delete(m, k)
			}
		}
		return signed(jose.ES384, key, "e", "JWT", m)
	}
	form := func(assertion string, change ...string) url.Values {
		f := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}, "client_assertion": {assertion},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
		for i := 0; i < len(change); i += 2 {
			if f.Del(change[i]); change[i+1] != "" {
				f.Set(change[i], change[i+1])
			}
		}
		return f
	}
	now := time.Now().Unix()
	used := good(nil)
	cut := func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] }
	for _, x := range []struct {
		name, code string
		form       url.Values
	}{
		{"good", "", form(used)},
		{"good, RSA", "", form(signed(jose.RS384, rsaKey, "r", "JWT", claims()))},
		{"good, one type", "", form(good(nil), "scope", "system/Patient.rs")},
		{"used before", "invalid_client", form(used)},
		{"no signature", "invalid_client", form(cut(good(nil)))},
		{"no algorithm", "invalid_client", form("eyJhbGciOiJub25lIn0." + strings.Split(good(nil), ".")[1] + ".")},
		{"another algorithm", "invalid_client", form(signed(jose.HS384, []byte(strings.Repeat("k", 48)), "e", "JWT", claims()))},
		{"an algorithm of the list, with another key's", "invalid_client", form(signed(jose.RS384, rsaKey, "e", "JWT", claims()))},
		{"RS256", "invalid_client", form(signed(jose.RS256, rsaKey, "r", "JWT", claims()))},
		{"a stranger's signature", "invalid_client", form(signed(jose.ES384, stranger, "e", "JWT", claims()))},
		{"an unknown key", "invalid_client", form(signed(jose.ES384, key, "f", "JWT", claims()))},
		{"no type", "invalid_client", form(signed(jose.ES384, key, "e", "", claims()))},
		{"another client", "invalid_client", form(good(map[string]any{"iss": "them"}))},
		{"for another client", "invalid_client", form(good(map[string]any{"sub": "them"}))},
		{"for the FHIR address", "invalid_client", form(good(map[string]any{"aud": h.URL + "/fhir"}))},
		{"for several", "invalid_client", form(good(map[string]any{"aud": []string{h.URL + "/oauth2/token", "x"}}))},
		{"over", "invalid_client", form(good(map[string]any{"exp": now - 5}))},
		{"without end", "invalid_client", form(good(map[string]any{"exp": nil}))},
		{"too long", "invalid_client", form(good(map[string]any{"exp": now + 330}))},
		{"from tomorrow", "invalid_client", form(good(map[string]any{"iat": now + 3600}))},
		{"no id", "invalid_client", form(good(map[string]any{"jti": nil}))},
		{"no grant", "invalid_request", form(good(nil), "grant_type", "")},
		{"another grant", "unsupported_grant_type", form(good(nil), "grant_type", "authorization_code")},
		{"no scope", "invalid_request", form(good(nil), "scope", "")},
		{"a user's scope", "invalid_scope", form(good(nil), "scope", "user/*.rs")},
		{"to write", "invalid_scope", form(good(nil), "scope", "system/*.cruds")},
		{"another kind of assertion", "invalid_request", form(good(nil), "client_assertion_type", "x")},
		{"a secret too", "invalid_request", form(good(nil), "client_secret", "x")},
	} {
		code, m := post("/oauth2/token", "", x.form)
		want := http.StatusBadRequest
		switch x.code {
		case "":
			want = http.StatusOK
		case "invalid_client":
			want = http.StatusUnauthorized
		}
		got, _ := m["error"].(string)
		if code != want || got != x.code {
			t.Errorf("%s: got %d %s, want %d %s (%v)", x.name, code, got, want, x.code, m["error_description"])
		}
		if token, _ := m["access_token"].(string); x.code == "" {
			if code, _ := post("/fhir/Patient/_search", token, find); code != http.StatusOK {
				t.Errorf("%s: the token is refused with %d", x.name, code)
			}
			if code, _ := post("/fhir/Observation/_search", token, url.Values{"patient": {"p"}}); (code == http.StatusForbidden) != (x.name == "good, one type") {
				t.Errorf("%s: another type: %d", x.name, code)
			}
		}
	}
	for _, token := range []string{"", "invented"} {
		if code, _ := post("/fhir/Patient/_search", token, find); code != http.StatusUnauthorized {
			t.Errorf("token %q: got %d", token, code)
		}
	}
}
