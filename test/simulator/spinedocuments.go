package simulator

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// DocumentHolder is a system that holds documents, as the Spine's directory has it.
type DocumentHolder struct {
	ASID    string
	Handler http.Handler
}

// DocumentSpine is the Spine Secure Proxy as documents of the National Record Locator are fetched through it: it is asked by GET, at its own address followed by
// the document's, percent-encoded as one segment ("SSP Retrieval" of the locator's documentation). It checks headers and token as the real one does, and passes
// the request on.
type DocumentSpine struct {
	Holders   map[string]DocumentHolder // by origin, "http://host"
	Contracts []string                  // Spine ids of the systems that may ask

	mu  sync.Mutex
	log []string
}

var _ http.Handler = (*DocumentSpine)(nil)

// Log returns what was asked, as "METHOD address".
func (s *DocumentSpine) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// nrlContent is the one interaction for which documents are fetched.
const nrlContent = "urn:nhs:names:services:nrl:DocumentReference.content.read"

// ServeHTTP implements http.Handler.
func (s *DocumentSpine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.log = append(s.log, r.Method+" "+r.RequestURI)
	s.mu.Unlock()
	refuse := func(status int, code string) {
		proxyOutcome(w, status, code)
	}
	wrapped, below := strings.CutPrefix(r.URL.EscapedPath(), "/")
	address, err := url.PathUnescape(wrapped)
	u, bad := url.Parse(address)
	if r.Method != http.MethodGet || !below || err != nil || bad != nil || u.Host == "" || strings.ContainsAny(wrapped, ":/") || r.URL.RawQuery != "" {
		refuse(http.StatusBadRequest, "the address of the provider is not one percent-encoded segment")
		return
	}
	from, to := r.Header.Values("Ssp-From"), r.Header.Values("Ssp-To")
	if len(from) != 1 || len(to) != 1 || !isUUID(r.Header.Get("Ssp-TraceID")) || r.Header.Get("Ssp-InteractionID") != nrlContent {
		refuse(http.StatusBadRequest, "MISSING_OR_INVALID_HEADER")
		return
	}
	if !slices.Contains(s.Contracts, from[0]) {
		refuse(http.StatusForbidden, "ASID_CHECK_FAILED_MESSAGESENDER_NOT_FOUND")
		return
	}
	holder, known := s.Holders[u.Scheme+"://"+u.Host]
	if !known || holder.ASID != to[0] {
		refuse(http.StatusForbidden, "ASID_CHECK_FAILED_RECIPIENT_NOT_FOUND")
		return
	}
	if problem := nrlToken(r.Header.Get("Authorization"), from[0], time.Now().Unix()); problem != "" {
		refuse(http.StatusBadRequest, problem)
		return
	}
	passed := r.Clone(r.Context())
	passed.Host, passed.URL, passed.RequestURI = u.Host, &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}, u.RequestURI()
	holder.Handler.ServeHTTP(w, passed)
}

// nrlToken checks a token by "JSON Web Token Guidance" of the locator's documentation, and names what is wrong with it.
func nrlToken(header, asid string, now int64) string {
	jwt, bearer := strings.CutPrefix(header, "Bearer ")
	parts := strings.Split(jwt, ".")
	if !bearer || len(parts) != 3 || parts[2] != "" {
		return "Authorization: Bearer, and an unsecured JWT with its last dot"
	}
	var head struct{ Alg, Typ string }
	var c struct {
		Iss, Sub, Aud string
		Exp, Iat      *int64
		Reason        string `json:"reason_for_request"`
		Scope         string `json:"scope"`
		System        string `json:"requesting_system"`
		Organisation  string `json:"requesting_organization"`
		User          string `json:"requesting_user"`
		Patient       string `json:"requesting_patient"`
		Act           *struct{ Sub string }
	}
	for i, into := range []any{&head, &c} {
		text, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return "JWT: base64url without padding, of JSON"
		}
	}
	has := func(text, system string) bool {
		value, is := strings.CutPrefix(text, system+"|")
		return is && value != ""
	}
	number := func(text string) bool {
		value, is := strings.CutPrefix(text, "https://fhir.nhs.net/Id/nhs-number|")
		return is && validNumber(value)
	}
	switch {
	case head.Alg != "none" || head.Typ != "JWT":
		return "JWT header"
	case !isURL(c.Iss) || !isURL(c.Aud):
		return "JWT claims iss and aud"
	case c.Exp == nil || c.Iat == nil || *c.Exp <= *c.Iat || *c.Exp > *c.Iat+300 || *c.Iat > now+5 || *c.Exp <= now:
		return "JWT claims iat and exp"
	case c.Scope != "patient/*.read":
		return "JWT claim scope"
	case c.System != "https://fhir.nhs.uk/Id/accredited-system|"+asid:
		return "JWT claim requesting_system"
	case !has(c.Organisation, "https://fhir.nhs.uk/Id/ods-organization-code"):
		return "JWT claim requesting_organization"
	case (c.User == "") == (c.Patient == ""):
		return "JWT claims: either requesting_user or requesting_patient"
	case c.User != "" && (c.Reason != "directcare" || c.Sub != c.User || !has(c.User, "https://fhir.nhs.uk/Id/sds-role-profile-id") || c.Act != nil):
		return "JWT claims of a professional"
	case c.Patient != "" && (c.Reason != "patientaccess" || c.Sub != c.Patient || !number(c.Patient) || c.Act != nil && (!number(c.Act.Sub) || c.Act.Sub == c.Sub)):
		return "JWT claims of a citizen"
	}
	return ""
}
