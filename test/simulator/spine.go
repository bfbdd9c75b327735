package simulator

import (
	"net/http"
	"net/url"
	"strings"
)

// Spine is the Spine Secure Proxy: it is asked for a practice by its own address followed by the practice's, unescaped, checks who may speak to whom
// for what, and passes the request on. Its own refusals come in the Spine's own words, in a code system that is not that of GP Connect.
type Spine struct {
	// Practices are the providers by the addresses under which the directory has them, "http://host".
	Practices map[string]*Practice
	// Contracts are the Spine ids of the systems that may ask; nil for any.
	Contracts []string
}

var _ http.Handler = (*Spine)(nil)

// ServeHTTP implements http.Handler.
func (s *Spine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, found := strings.CutPrefix(r.URL.EscapedPath(), "/")
	u, err := url.Parse(target)
	if !found || err != nil || u.Host == "" || strings.Contains(target, "%3A") || strings.Contains(target, "%2F") {
		proxyOutcome(w, http.StatusBadRequest, "the address of the provider is missing")
		return
	}
	from := r.Header.Get("Ssp-From")
	if s.Contracts != nil {
		known := false
		for _, id := range s.Contracts {
			known = known || id == from
		}
		if !known {
			proxyOutcome(w, http.StatusForbidden, "ASID_CHECK_FAILED_MESSAGESENDER_NOT_FOUND")
			return
		}
	}
	p := s.Practices[u.Scheme+"://"+u.Host]
	if p == nil {
		proxyOutcome(w, http.StatusBadGateway, "BAD_GATEWAY")
		return
	}
	passed := r.Clone(r.Context())
	passed.Host, passed.URL = u.Host, &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: r.URL.RawQuery}
	p.ServeHTTP(w, passed)
}

// proxyOutcome refuses in the Spine's own words.
func proxyOutcome(w http.ResponseWriter, status int, code string) {
	fhirHeader(w)
	w.WriteHeader(status)
	_, _ = w.Write(marshal(map[string]any{"resourceType": "OperationOutcome", "issue": []any{map[string]any{"severity": "error", "code": "invalid",
		"details": map[string]any{"coding": []any{map[string]any{"system": "http://fhir.nhs.net/ValueSet/gpconnect-schedule-response-code-1-0", "code": code, "display": code}}}}}})) // the client left
}
