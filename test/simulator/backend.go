package simulator

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Backend is how a FHIR server knows programs that call it: SMART Backend Services (hl7.org/fhir/smart-app-launch). A client proves who it is with an
// assertion (RFC 7523) that its registered key signed, at the token endpoint, and shows the token with every request but metadata and discovery.
type Backend struct {
	ClientID string        // who is registered
	Keys     []byte        // the client's public keys, a JWK Set; each with its kid
	Lifetime time.Duration // of tokens; 0 is five minutes
}

const (
	tokenPath     = "/oauth2/token"
	smartPath     = "/.well-known/smart-configuration"
	maxJTI        = 128
	clockSlack    = 5 * time.Second
	defaultAccess = 5 * time.Minute
)

// door lets callers in by token.
type door struct {
	cfg  Backend
	keys jose.JSONWebKeySet

	mu      sync.Mutex
	tokens  map[string]access
	used    map[string]time.Time // jti, until its assertion ends
	issued  int
	refused int
}

type access struct {
	until time.Time
	types []string // whose resources may be read and searched; "*" is all
}

func newDoor(cfg Backend) (*door, error) {
	d := &door{cfg: cfg, tokens: map[string]access{}, used: map[string]time.Time{}}
	if err := json.Unmarshal(cfg.Keys, &d.keys); err != nil || len(d.keys.Keys) == 0 || cfg.ClientID == "" {
		return nil, errors.New("simulator: a backend needs a client id and its keys, a JWK Set")
	}
	for _, k := range d.keys.Keys {
		if k.KeyID == "" || !k.IsPublic() || !k.Valid() {
			return nil, errors.New("simulator: a backend's keys are public, and each has a kid")
		}
	}
	if d.cfg.Lifetime == 0 {
		d.cfg.Lifetime = defaultAccess
	}
	return d, nil
}

// serve answers discovery and the token endpoint, and reports whether r was for them.
func (d *door) serve(w http.ResponseWriter, r *http.Request, base string) bool {
	token := "http://" + r.Host + tokenPath
	switch {
	case r.URL.Path == base+smartPath && r.Method == http.MethodGet:
		plainJSON(w, http.StatusOK, map[string]any{
			"token_endpoint": token, "grant_types_supported": []string{"client_credentials"}, "scopes_supported": []string{"system/*.rs", "system/*.read"},
			"token_endpoint_auth_methods_supported": []string{"private_key_jwt"}, "token_endpoint_auth_signing_alg_values_supported": []string{"RS384", "ES384"},
			"capabilities": []string{"client-confidential-asymmetric", "permission-v2", "permission-v1"},
		})
	case r.URL.Path == tokenPath:
		d.token(w, r, token)
	default:
		return false
	}
	return true
}

// scopes of a backend: everybody's resources of one type or all, to read, to search, or both. Version 1 says read for both.
var scope = regexp.MustCompile(`^system/(\*|[A-Z][A-Za-z]+)\.(r|s|rs|read)$`)

// token answers the grant of RFC 6749, 4.4 with private_key_jwt, and with its errors (5.2).
func (d *door) token(w http.ResponseWriter, r *http.Request, audience string) {
	refuse := func(status int, code, why string) {
		d.mu.Lock()
		d.refused++
		d.mu.Unlock()
		plainJSON(w, status, map[string]any{"error": code, "error_description": why})
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTokenBody))
	form, bad := url.ParseQuery(string(body))
	if r.Method != http.MethodPost || kind != "application/x-www-form-urlencoded" || err != nil || bad != nil || r.URL.RawQuery != "" {
		refuse(http.StatusBadRequest, "invalid_request", "a form by POST")
		return
	}
	for _, name := range []string{"grant_type", "scope", "client_assertion_type", "client_assertion"} {
		if len(form[name]) != 1 {
			refuse(http.StatusBadRequest, "invalid_request", name+": exactly once")
			return
		}
	}
	switch {
	case form.Get("grant_type") != "client_credentials":
		refuse(http.StatusBadRequest, "unsupported_grant_type", "client_credentials is the only one")
		return
	case form.Get("client_assertion_type") != assertionType:
		refuse(http.StatusBadRequest, "invalid_request", "client_assertion_type: "+assertionType)
		return
	case r.Header.Get("Authorization") != "" || form.Has("client_secret"):
		refuse(http.StatusBadRequest, "invalid_request", "one way to say who you are, and no other") // RFC 6749, 2.3
		return
	}
	if why := d.check(form.Get("client_assertion"), audience, time.Now()); why != "" {
		refuse(http.StatusUnauthorized, "invalid_client", why)
		return
	}
	var types []string
	for one := range strings.FieldsSeq(form.Get("scope")) {
		m := scope.FindStringSubmatch(one)
		if m == nil || m[2] == "r" || m[2] == "s" { // what searches and reads a record needs both
			refuse(http.StatusBadRequest, "invalid_scope", "system/*.rs, or system/{Type}.rs")
			return
		}
		types = append(types, m[1])
	}
	if len(types) == 0 {
		refuse(http.StatusBadRequest, "invalid_scope", "at least one")
		return
	}
	token := randomID()
	d.mu.Lock()
	d.tokens[token] = access{time.Now().Add(d.cfg.Lifetime), types}
	d.issued++
	d.mu.Unlock()
	plainJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "bearer", "expires_in": int(d.cfg.Lifetime.Seconds()), "scope": form.Get("scope")})
}

// check verifies an assertion and uses it up. It returns what is wrong, "" if nothing is.
func (d *door) check(text, audience string, now time.Time) string {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS384, jose.ES384})
	if err != nil || len(token.Headers) != 1 {
		return "a JWS signed with RS384 or ES384"
	}
	head := token.Headers[0]
	if typ, _ := head.ExtraHeaders[jose.HeaderType].(string); typ != "JWT" {
		return "typ is JWT"
	}
	keys := d.keys.Key(head.KeyID)
	if head.KeyID == "" || len(keys) != 1 {
		return "kid names a registered key"
	}
	if keys[0].Algorithm != "" && keys[0].Algorithm != head.Algorithm {
		return "alg is that of the registered key"
	}
	var c struct {
		jwt.Claims
		Audience any `json:"aud"`
	}
	if err := token.Claims(keys[0], &c); err != nil {
		return "not signed with the registered key"
	}
	switch {
	case c.Issuer != d.cfg.ClientID || c.Subject != d.cfg.ClientID:
		return "iss and sub are the client id"
	case c.Audience != audience:
		return "aud is the address of this token endpoint and nothing else"
	case c.Expiry == nil || !c.Expiry.Time().After(now):
		return "exp is to come"
	case c.Expiry.Time().After(now.Add(maxAssertion)):
		return "exp is at most five minutes away"
	case c.IssuedAt != nil && c.IssuedAt.Time().After(now.Add(clockSlack)) || c.NotBefore != nil && c.NotBefore.Time().After(now.Add(clockSlack)):
		return "iat and nbf are not to come"
	case c.ID == "" || len(c.ID) > maxJTI:
		return "jti is a fresh id, at most 128 bytes"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, until := range d.used {
		if until.Before(now) {
			delete(d.used, id)
		}
	}
	if _, twice := d.used[c.ID]; twice {
		return "this jti has been used"
	}
	d.used[c.ID] = c.Expiry.Time()
	return ""
}

// admits reports whether a request for a record shows a good token, whose scope has what is asked at path; if not, it is answered (RFC 6750, 3).
func (d *door) admits(w http.ResponseWriter, r *http.Request, path string) bool {
	shown := r.Header.Values("Authorization")
	token := ""
	if len(shown) == 1 {
		token, _ = strings.CutPrefix(shown[0], "Bearer ")
	}
	d.mu.Lock()
	a, known := d.tokens[token]
	d.mu.Unlock()
	switch {
	case len(shown) == 0:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case !known || !time.Now().Before(a.until):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	default:
		typ, _, _ := strings.Cut(path, "/")
		if slices.Contains(a.types, "*") || typ != "" && !strings.HasSuffix(path, "$everything") && slices.Contains(a.types, typ) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
		outcome(w, http.StatusForbidden, "forbidden", "", "")
		return false
	}
	outcome(w, http.StatusUnauthorized, "login", "", "")
	return false
}

// TokensIssued returns how many access tokens were given out, and how many requests for one were refused.
func (c *Custodian) TokensIssued() (issued, refused int) {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	return c.door.issued, c.door.refused
}

// RevokeTokens takes all access tokens back, before their end.
func (c *Custodian) RevokeTokens() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	clear(c.door.tokens)
}
