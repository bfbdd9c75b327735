package fhirrest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/merge"
)

// route is what serves a path. open is for those that need no token.
type route struct {
	methods []string
	open    bool
	serve   func(*exchange) *problem
}

var (
	reading = []string{http.MethodGet, http.MethodHead}
	asking  = []string{http.MethodGet, http.MethodHead, http.MethodPost} // operations that change nothing (FHIR R4, operations, 3.2.0.1)
	posting = []string{http.MethodPost}
)

// findRoute finds what serves a request by its path as sent. Paths are matched, never cleaned: what is spelt in two ways (`//`, `..`,
// `a%2Fb`, `;`) is found in none. The verb is looked at before the token, so that a write is refused as a write to everybody.
func findRoute(r *http.Request) (route, *problem) {
	segments, ok := split(r.URL.EscapedPath())
	if !ok {
		return route{}, notFoundHere("There is nothing at this address. What is served is listed at " + Root + "/metadata.")
	}
	to := match(segments)
	if !slices.Contains(to.methods, r.Method) {
		return route{}, notAllowed(to.methods)
	}
	return to, nil
}

// match returns the route of a path below [Root].
func match(s []string) route {
	isPatient := len(s) > 0 && s[0] == "Patient"
	last := ""
	if len(s) > 0 {
		last = s[len(s)-1]
	}
	switch {
	case len(s) == 1 && last == "metadata":
		return route{reading, true, (*exchange).metadata}
	case len(s) == 1 && isPatient:
		return route{reading, false, (*exchange).searchPatient}
	case len(s) == 2 && isPatient && last == "_search":
		return route{posting, false, (*exchange).searchPatient}
	case len(s) == 2 && isPatient && last == "$everything":
		return route{asking, false, (*exchange).everythingByIdentifier}
	case len(s) == 3 && isPatient && isID(s[1]) && last == "$everything":
		return route{asking, false, everythingByHandle(s[1])}
	case len(s) == 2 && isPatient && isID(last):
		return route{reading, false, readPatient(last)}
	case len(s) == 1 && s[0] == "Consent":
		return route{reading, false, (*exchange).searchConsent}
	case len(s) == 2 && s[0] == "Consent" && last == "_search":
		return route{posting, false, (*exchange).searchConsent}
	case len(s) == 2 && s[0] == "Consent" && isID(last):
		if handle, objection, ok := isConsentID(last); ok {
			return route{reading, false, readConsent(handle, objection)}
		}
		return route{reading, false, func(*exchange) *problem {
			return notFoundHere("No Consent has this id here. Search Consent by patient, and use the id in the answer.")
		}}
	case len(s) == 2 && s[0] == "Binary" && isID(last):
		return route{[]string{http.MethodGet}, false, readBinary(last)}
	case len(s) == 1 && s[0] == "AuditEvent":
		return route{reading, false, (*exchange).searchAuditEvent}
	case len(s) == 2 && s[0] == "AuditEvent" && last == "_search":
		return route{posting, false, (*exchange).searchAuditEvent}
	case len(s) == 2 && s[0] == "AuditEvent" && isID(last):
		return route{reading, false, readAuditEvent(last)}
	case len(s) == 0:
		return notServed(reading, "Everything is asked for by person: search Patient by identifier, then read Patient/{id}/$everything.")
	case strings.HasPrefix(last, "$"):
		return notServed(asking, "This operation is not offered. Patient/{id}/$everything is.")
	case !merge.IsType(s[0]):
		return notServed(reading, "There is no such resource type in FHIR R4 (4.0.1).")
	case len(s) == 2 && last == "_search":
		return notServed(posting, "Search by type is not offered yet. "+instead(s[0]))
	case len(s) == 1:
		return notServed(reading, "Search by type is not offered yet. "+instead(s[0]))
	case len(s) == 2 && isID(last):
		return route{reading, false, func(*exchange) *problem {
			return notFoundHere("A resource cannot be read without saying whose it is. " + instead(s[0]))
		}}
	}
	return notServed(reading, "This interaction is not offered. What is served is listed at "+Root+"/metadata.")
}

// instead names the way to entries of a type.
func instead(resourceType string) string {
	return "Search Patient by identifier, then read Patient/{id}/$everything?_type=" + resourceType + "."
}

func notServed(methods []string, text string) route {
	return route{methods, false, func(*exchange) *problem { return notSupported(http.StatusNotFound, text) }}
}

// split returns the segments below [Root]. Each is 1 to 64 of A-Z a-z 0-9 - . $ _ once unescaped, so that %24everything is $everything,
// and no segment is a dot or two.
func split(escaped string) ([]string, bool) {
	rest, ok := strings.CutPrefix(escaped, Root)
	if !ok || rest != "" && rest[0] != '/' {
		return nil, false
	}
	if rest == "" || rest == "/" {
		return nil, true
	}
	segments := strings.Split(rest[1:], "/")
	if len(segments) > 5 {
		return nil, false
	}
	for i, s := range segments {
		plain, err := url.PathUnescape(s)
		if err != nil || plain == "." || plain == ".." || len(plain) < 1 || len(plain) > 64 || strings.ContainsFunc(plain, func(r rune) bool {
			return !isIDRune(r) && r != '$' && r != '_'
		}) {
			return nil, false
		}
		segments[i] = plain
	}
	return segments, true
}

// isID reports whether s is a FHIR id: 1 to 64 of A-Z a-z 0-9 - . (hl7.org/fhir/R4/datatypes.html#id).
func isID(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool { return !isIDRune(r) })
}

func isIDRune(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.'
}
