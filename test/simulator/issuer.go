package simulator

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Limits of the issuer.
const (
	defaultTTL       = time.Hour
	maxTTL           = time.Hour // what the broker takes unless it is configured otherwise
	actingTTL        = 5 * time.Minute
	maxAssertion     = 5 * time.Minute // RFC 7523 with the limit of SMART backend services
	maxTokenBody     = 16 << 10
	maxStated        = 500
	assertionType    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523, 2.2
	clientKeysPrefix = "/clients/"
)

// Holder is what the issuer of NHS login tokens knows of a person.
type Holder struct{ Family, BirthDate string }

// IssuerConfig is an issuer and whom it knows.
type IssuerConfig struct {
	URL     string            // iss: the origin under which it is reached
	Aud     string            // audience of the tokens; "" is [Audience]
	Holders map[string]Holder // by NHS number, for the persona patient; a number that is not here gets a token without birth date and name
}

// Issuer issues access tokens signed with ES256, to invented people ([Personas]) without asking for a password, and to the engine
// by client credentials with private_key_jwt. Its keys are new in every process. It serves OIDC discovery, its JWKS, token, acting
// (an X-Acting-Person signed by the engine's key, for trying an engine out) and the engine's public keys. It is for loopback only.
type Issuer struct {
	cfg      IssuerConfig
	own      jose.JSONWebKey
	engine   jose.JSONWebKey
	mux      *http.ServeMux
	mu       sync.Mutex
	seen     map[string]time.Time // jti of client assertions, until they expire
	lastScan time.Time
}

var _ http.Handler = (*Issuer)(nil)

// NewIssuer makes an issuer with fresh keys.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	if cfg.Aud == "" {
		cfg.Aud = Audience
	}
	i := &Issuer{cfg: cfg, mux: http.NewServeMux(), seen: map[string]time.Time{}}
	for _, k := range []*jose.JSONWebKey{&i.own, &i.engine} {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, errors.New("simulator: cannot make a key")
		}
		*k = jose.JSONWebKey{Key: private, Algorithm: string(jose.ES256), Use: "sig"}
		print, err := k.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, errors.New("simulator: cannot name a key")
		}
		k.KeyID = base64.RawURLEncoding.EncodeToString(print)
	}
	i.mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	i.mux.HandleFunc("GET /jwks", i.keys(&i.own))
	i.mux.HandleFunc("GET "+clientKeysPrefix+EngineClient+"/jwks", i.keys(&i.engine))
	i.mux.HandleFunc("GET /token", i.token)
	i.mux.HandleFunc("POST /token", i.token)
	i.mux.HandleFunc("POST /acting", i.acting)
	return i, nil
}

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) { i.mux.ServeHTTP(w, r) }

// Token returns what /token gives a member of staff or the engine; false if there is no such persona, or it needs to be told more.
func (i *Issuer) Token(as string) (string, bool) {
	p, known := persona(as)
	if !known || p.Kind == KindPerson {
		return "", false
	}
	return i.sign(&i.own, "at+jwt", i.claims(p, "", nil, defaultTTL)), true
}

// EngineKeys returns the engine's public keys as a JWK Set, for the broker's configuration.
func (i *Issuer) EngineKeys() []byte { return keySet(&i.engine) }

// EngineKey returns the engine's private key as a JWK, for a client that wants to speak private_key_jwt.
func (i *Issuer) EngineKey() []byte {
	text, err := i.engine.MarshalJSON()
	if err != nil {
		panic(err) // a P-256 key that we made
	}
	return text
}

func keySet(k *jose.JSONWebKey) []byte {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k.Public()}})
	if err != nil {
		panic(err) // a P-256 key that we made
	}
	return text
}

func (i *Issuer) keys(k *jose.JSONWebKey) http.HandlerFunc {
	text := keySet(k)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = w.Write(text) // the client left
	}
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	say(w, http.StatusOK, map[string]any{
		"issuer": i.cfg.URL, "token_endpoint": i.cfg.URL + "/token", "jwks_uri": i.cfg.URL + "/jwks",
		"response_types_supported": []string{"token"}, "subject_types_supported": []string{"public"},
		"grant_types_supported":                            []string{"client_credentials"},
		"id_token_signing_alg_values_supported":            []string{string(jose.ES256)},
		"token_endpoint_auth_methods_supported":            []string{"private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []string{string(jose.ES256)},
	})
}

func say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client left
}

// refuseToken answers in the form of RFC 6749, 5.2.
func refuseToken(w http.ResponseWriter, status int, code, text string) {
	say(w, status, map[string]string{"error": code, "error_description": text})
}

func asText(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(token)) // the client left
}

// form reads the parameters: of a POST from the body only, so that nobody's number stands in an address.
func (i *Issuer) form(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	if r.Method == http.MethodGet {
		q := r.URL.Query()
		if q.Has("nhs_number") {
			refuseToken(w, http.StatusBadRequest, "invalid_request", "an NHS number does not belong into an address: use POST with a form")
			return nil, false
		}
		return q, true
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		refuseToken(w, http.StatusBadRequest, "invalid_request", "send a form: application/x-www-form-urlencoded")
		return nil, false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenBody)
	if err := r.ParseForm(); err != nil {
		refuseToken(w, http.StatusBadRequest, "invalid_request", "the form cannot be read, or is larger than 16 KiB")
		return nil, false
	}
	for name, values := range r.PostForm {
		if len(values) > 1 {
			refuseToken(w, http.StatusBadRequest, "invalid_request", "each field once: "+strconv.Quote(name))
			return nil, false
		}
	}
	return r.PostForm, true
}

// token answers /token: as=PERSONA, or client credentials.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	f, ok := i.form(w, r)
	if !ok {
		return
	}
	if f.Has("grant_type") {
		i.clientCredentials(w, f)
		return
	}
	p, ttl, ok := who(w, f, defaultTTL)
	if !ok {
		return
	}
	number := f.Get("nhs_number")
	if number != "" && !validNumber(number) {
		refuseToken(w, http.StatusBadRequest, "invalid_request", "nhs_number: ten digits whose last is the right check digit")
		return
	}
	if p.Kind == KindPerson && number == "" {
		refuseToken(w, http.StatusBadRequest, "invalid_request", "the patient needs nhs_number")
		return
	}
	if p.Kind == KindSystem && (number != "" || f.Has("purpose") || f.Has("permission") || f.Has("relationship")) {
		refuseToken(w, http.StatusBadRequest, "invalid_request", "an engine's token is about nobody: it states purpose and permission in its request")
		return
	}
	stated := map[string]string{}
	for field, claim := range map[string]string{"purpose": "purpose_of_use", "permission": "permission_to_view", "relationship": "care_relationship"} {
		if v := f.Get(field); v != "" {
			if len(v) > maxStated {
				refuseToken(w, http.StatusBadRequest, "invalid_request", field+": at most 500 bytes")
				return
			}
			stated[claim] = v
		}
	}
	asText(w, i.sign(&i.own, "at+jwt", i.claims(p, number, stated, ttl)))
}

// who reads as= and ttl=. A negative ttl makes a token that has expired, to see it refused.
func who(w http.ResponseWriter, f url.Values, ttl time.Duration) (Persona, time.Duration, bool) {
	p, known := persona(f.Get("as"))
	if !known {
		var names []string
		for _, x := range Personas() {
			names = append(names, x.Name)
		}
		refuseToken(w, http.StatusBadRequest, "invalid_request", "as: one of "+strings.Join(names, ", "))
		return Persona{}, 0, false
	}
	if v := f.Get("ttl"); v != "" {
		d, err := time.ParseDuration(v)
		if n, whole := strconv.Atoi(v); whole == nil && n >= -int(maxTTL/time.Second) && n <= int(maxTTL/time.Second) {
			d, err = time.Duration(n)*time.Second, nil
		}
		if err != nil || d == 0 || d > maxTTL || d < -maxTTL {
			refuseToken(w, http.StatusBadRequest, "invalid_request", "ttl: seconds, or a time such as 10m; at most 1h; less than nothing for an expired token")
			return Persona{}, 0, false
		}
		ttl = d
	}
	return p, ttl, true
}

// claims are those of an access token (RFC 9068) with what CIS2 or NHS login add.
func (i *Issuer) claims(p Persona, number string, stated map[string]string, ttl time.Duration) map[string]any {
	now := time.Now()
	c := map[string]any{"iss": i.cfg.URL, "aud": i.cfg.Aud, "client_id": p.Client, "sub": p.User, "jti": randomID(),
		"iat": now.Add(min(0, ttl-time.Second)).Unix(), "exp": now.Add(ttl).Unix()}
	for claim, v := range stated {
		c[claim] = v
	}
	switch p.Kind {
	case KindPerson:
		sum := sha256.Sum256([]byte("simulated NHS login|" + number)) // a subject says nothing of the number
		c["sub"] = hex.EncodeToString(sum[:16])
		c["vot"], c["vtm"] = "P9.Cp.Cd", i.cfg.URL+"/trustmark"
		c["nhs_number"] = number
		if h, known := i.cfg.Holders[number]; known {
			c["birthdate"], c["family_name"] = h.BirthDate, h.Family
		}
	case KindStaff:
		c["nhsid_useruid"], c["name"] = p.User, p.Display
		c["authentication_assurance_level"], c["id_assurance_level"] = "3", "3"
		roles := []any{}
		if p.RoleProfile != "" {
			c["selected_roleid"] = p.RoleProfile
			// Another role of the same person is listed and not selected, as with most real users: it must count for nothing.
			roles = append(roles, role(p, p.RoleProfile, p.Organisation, p.JobRole, p.Role), role(p, p.RoleProfile+"9", "X9Z99", "R8008", "Admin/Clinical Support Access Role"))
		}
		c["nhsid_nrbac_roles"] = roles
		if number != "" {
			c["nhs_number"] = number
		}
	}
	return c
}

func role(p Persona, profile, org, code, name string) map[string]any {
	return map[string]any{"person_orgid": "555" + profile[3:], "person_roleid": profile, "org_code": org,
		"role_name": `"Demonstration":"` + name + `"`, "role_code": "S8000:G8000:" + code}
}

func randomID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // crypto/rand never fails (Go 1.24)
	return hex.EncodeToString(b)
}

// sign returns the claims as a compact JWS.
func (i *Issuer) sign(k *jose.JSONWebKey, typ string, claims map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: *k}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		panic(err) // a P-256 key that we made
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		panic(err) // strings and numbers
	}
	return text
}

// acting answers POST /acting: the engine's statement of who is acting, signed by the engine.
func (i *Issuer) acting(w http.ResponseWriter, r *http.Request) {
	f, ok := i.form(w, r)
	if !ok {
		return
	}
	p, ttl, ok := who(w, f, actingTTL)
	if !ok {
		return
	}
	if p.Kind != KindStaff || p.RoleProfile == "" {
		refuseToken(w, http.StatusBadRequest, "invalid_request", "as: a member of staff with a role")
		return
	}
	now := time.Now()
	asText(w, i.sign(&i.engine, "JWT", map[string]any{"iss": EngineClient, "sub": p.User, "name": p.Display, "role_profile_id": p.RoleProfile,
		"job_role": p.JobRole, "org_code": p.Organisation, "aud": i.cfg.Aud, "jti": randomID(),
		"iat": now.Add(min(0, ttl-time.Second)).Unix(), "exp": now.Add(ttl).Unix()}))
}

// clientCredentials answers the grant of RFC 6749, 4.4 with private_key_jwt (RFC 7523; OpenID Connect Core, 9).
func (i *Issuer) clientCredentials(w http.ResponseWriter, f url.Values) {
	if f.Get("grant_type") != "client_credentials" {
		refuseToken(w, http.StatusBadRequest, "unsupported_grant_type", "client_credentials is the only one")
		return
	}
	if f.Get("client_assertion_type") != assertionType {
		refuseToken(w, http.StatusBadRequest, "invalid_request", "client_assertion_type: "+assertionType)
		return
	}
	if err := i.checkAssertion(f.Get("client_assertion")); err != nil {
		refuseToken(w, http.StatusUnauthorized, "invalid_client", err.Error())
		return
	}
	p, _ := persona("engine") // it is on the list
	const ttl = 5 * time.Minute
	say(w, http.StatusOK, map[string]any{"access_token": i.sign(&i.own, "at+jwt", i.claims(p, "", nil, ttl)), "token_type": "Bearer", "expires_in": int(ttl / time.Second)})
}

// checkAssertion verifies a client assertion of the engine and uses it up. Its errors name the rule and nothing of the assertion.
func (i *Issuer) checkAssertion(text string) error {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return errors.New("client_assertion: a JWS signed with ES256")
	}
	var c jwt.Claims
	if err := token.Claims(i.engine.Public(), &c); err != nil {
		return errors.New("client_assertion: not signed with the client's registered key")
	}
	now := time.Now()
	switch {
	case c.Issuer != EngineClient || c.Subject != EngineClient:
		return fmt.Errorf("client_assertion: iss and sub are the client id, %s", EngineClient)
	case !c.Audience.Contains(i.cfg.URL + "/token"):
		return errors.New("client_assertion: aud is the address of the token endpoint")
	case c.Expiry == nil || c.Expiry.Time().Before(now) || c.Expiry.Time().After(now.Add(maxAssertion+30*time.Second)):
		return errors.New("client_assertion: exp is within the next five minutes")
	case c.ID == "" || len(c.ID) > 128:
		return errors.New("client_assertion: jti is a fresh id, at most 128 bytes")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if now.Sub(i.lastScan) > time.Minute {
		for id, until := range i.seen {
			if until.Before(now) {
				delete(i.seen, id)
			}
		}
		i.lastScan = now
	}
	if _, twice := i.seen[c.ID]; twice {
		return errors.New("client_assertion: this jti has been used")
	}
	i.seen[c.ID] = c.Expiry.Time()
	return nil
}
