package documents

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Documents behind the Spine Secure Proxy ("SSP Retrieval" and "JSON Web Token Guidance" of the National Record Locator; nhsconnect/FHIR-NRLS-API, July 2025).
// A pointer gives the holder's own address with ssp:// in place of https://, or https:// alone; published pointers also hold the proxy's address with the
// holder's percent-encoded behind it. All three are read as the holder's address, which must be below the configured one, and the proxy that is asked is
// always the configured one.

// sspScheme begins the address of a document that is fetched through the proxy.
const sspScheme = "ssp"

// interaction is what the proxy is asked for.
const interaction = "urn:nhs:names:services:nrl:DocumentReference.content.read"

// asidSystem is the system of ids of the Spine in pointers.
const asidSystem = "https://fhir.nhs.uk/Id/nhsSpineASID"

// behind is an address without the proxy: the holder's own, in full. It is still what somebody else wrote.
func (s *Source) behind(address string) string {
	if inner, is := s.proxy.Unwrapped(address, sspScheme); is {
		return inner
	}
	if rest, is := strings.CutPrefix(address, sspScheme+"://"); is {
		return s.holder.Scheme() + "://" + rest
	}
	return address
}

// held reports whether a pointer leads to the system of the configured holder: one that names another Spine id would be fetched in the wrong name.
func (f *fetch) held(r fhirjson.Value) bool {
	if f.proxy == nil {
		return true
	}
	for id := range r.Each("context.related.identifier") {
		if id.Get("system").Is(asidSystem) && !id.Get("value").Is(f.settings.ToASID) {
			return false
		}
	}
	return true
}

// proxied is a request to the holder, sent to the proxy.
func (s *Source) proxied(r wire.Request, q broker.Query) (*wire.Client, wire.Request, error) {
	target, ok := s.proxy.Wrapped(s.holder, r.Target)
	if !ok {
		return nil, r, broker.ErrElsewhere
	}
	token, err := s.token(q, time.Now())
	if err != nil {
		return nil, r, err
	}
	r.Target = target
	r.Header["Ssp-TraceID"], r.Header["Ssp-From"], r.Header["Ssp-To"], r.Header["Ssp-InteractionID"] = wire.RequestID(q.RequestID), s.settings.FromASID, s.settings.ToASID, interaction
	r.Header["Authorization"] = "Bearer " + token
	return s.proxy, r, nil
}

// tokenLife is how long a token is good: five minutes at the most.
const tokenLife = 5 * time.Minute

// spineClaims are those of the token. It is not signed: it tells the holder's audit trail who asks, behind a connection on which both sides have shown a
// certificate.
type spineClaims struct {
	Issuer       string `json:"iss"`
	Subject      string `json:"sub"`
	Audience     string `json:"aud"`
	Expires      int64  `json:"exp"`
	Issued       int64  `json:"iat"`
	Reason       string `json:"reason_for_request"`
	Scope        string `json:"scope"`
	System       string `json:"requesting_system"`
	Organisation string `json:"requesting_organization"`
	User         string `json:"requesting_user,omitempty"`
	Patient      string `json:"requesting_patient,omitempty"`
	Act          *actor `json:"act,omitempty"`
}

type actor struct {
	Subject string `json:"sub"`
}

// citizen is the system of NHS numbers in the token, which is not that of FHIR.
const citizen = "https://fhir.nhs.net/Id/nhs-number|"

// token names who asks: staff by role profile, a person by the number whose record it is and, where that is another's, by their own.
func (s *Source) token(q broker.Query, now time.Time) (string, error) {
	organisation := string(q.Requester.Organisation)
	if organisation == "" {
		organisation = s.settings.EndUserOrganisation
	}
	c := spineClaims{Issuer: s.settings.Issuer, Audience: s.proxy.Base(), Issued: now.Unix(), Expires: now.Add(tokenLife).Unix(), Reason: "directcare", Scope: "patient/*.read",
		System: "https://fhir.nhs.uk/Id/accredited-system|" + s.settings.FromASID, Organisation: record.ODSSystem + "|" + organisation}
	switch {
	case organisation == "":
		return "", broker.ErrWithheld // the proxy decides by the organisation that asks, and there is none
	case q.Requester.Kind == record.Person:
		c.Reason, c.Patient = "patientaccess", citizen+q.Subject.Number.Reveal()
		c.Subject = c.Patient
		if own := q.Requester.Own; !own.IsZero() && own != q.Subject.Number {
			c.Act = &actor{citizen + own.Reveal()}
		}
	case q.Requester.RoleProfile == "":
		return "", broker.ErrWithheld // nobody whom a holder could write down
	default:
		c.User = "https://fhir.nhs.uk/Id/sds-role-profile-id|" + q.Requester.RoleProfile
		c.Subject = c.User
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", broker.ErrMalformed // strings and numbers are always written
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(payload) + ".", nil // the last dot is required: an empty signature
}
