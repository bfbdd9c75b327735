package gpconnect

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// lifetime of a token: providers check that it is five minutes, to the second.
const lifetime = 5 * time.Minute

// claims are those of GP Connect, all mandatory ("Cross Organisation Audit & Provenance" of the specification). The token is not signed: it tells
// the practice's audit trail who asks, behind a connection on which both sides have shown a certificate.
type claims struct {
	Issuer       string       `json:"iss"`
	Subject      string       `json:"sub"`
	Audience     string       `json:"aud"`
	Expires      int64        `json:"exp"`
	Issued       int64        `json:"iat"`
	Reason       string       `json:"reason_for_request"`
	Scope        string       `json:"requested_scope"`
	Device       device       `json:"requesting_device"`
	Organisation organisation `json:"requesting_organization"`
	Practitioner practitioner `json:"requesting_practitioner"`
}

type identifier struct {
	System string `json:"system"`
	Value  string `json:"value"`
}

type device struct {
	ResourceType string       `json:"resourceType"`
	ID           string       `json:"id"`
	Identifier   []identifier `json:"identifier"`
	Model        string       `json:"model"`
	Version      string       `json:"version"`
}

type organisation struct {
	ResourceType string       `json:"resourceType"`
	ID           string       `json:"id"`
	Identifier   []identifier `json:"identifier"`
	Name         string       `json:"name"`
}

type practitioner struct {
	ResourceType string       `json:"resourceType"`
	ID           string       `json:"id"`
	Identifier   []identifier `json:"identifier"`
	Name         []name       `json:"name"`
}

type name struct {
	Text   string   `json:"text"`
	Family string   `json:"family"`
	Given  []string `json:"given,omitempty"`
}

// Identifier systems of the token.
const (
	sdsUser        = "https://fhir.nhs.uk/Id/sds-user-id"
	sdsRoleProfile = "https://fhir.nhs.uk/Id/sds-role-profile-id"
	none           = "UNK" // what the specification has for an id that there is not
)

// token names who asks, for one request to one practice. The organisation's name is its ODS code: no other is known here, and a made-up one would
// stand in an audit trail.
func token(s Settings, audience string, r record.Requester, now time.Time) (string, error) {
	issued := now.Unix()
	c := claims{
		Issuer: s.Issuer, Subject: r.User, Audience: audience, Issued: issued, Expires: issued + int64(lifetime/time.Second),
		Reason: "directcare", Scope: "patient/*.read",
		Device: device{"Device", s.FromASID, []identifier{{s.Issuer, s.FromASID}}, "My Care Record", "1"},
		Organisation: organisation{"Organization", string(r.Organisation), []identifier{{record.ODSSystem, string(r.Organisation)}},
			string(r.Organisation)},
		Practitioner: practitioner{"Practitioner", r.User, []identifier{{sdsUser, sds(r.User)}, {sdsRoleProfile, sds(r.RoleProfile)}, {local(s, r), r.User}},
			[]name{called(r)}},
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err //nolint:wrapcheck // strings and numbers are always written
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + encode(payload) + ".", nil // the last dot is required: an empty signature
}

// sds is an id of the Spine Directory Service, which has 12 digits. Any other is no such id, and stands as the local one only.
func sds(id string) string {
	if !twelve(id) {
		return none
	}
	return id
}

// local is the system within which the user's id means something, beside the national ones: that of whoever vouched for them.
func local(s Settings, r record.Requester) string {
	if r.Issuer != "" {
		return r.Issuer
	}
	return s.Issuer
}

// called is a name of one piece, as tokens give it, in the pieces that practices want. The whole of it is in text.
func called(r record.Requester) name {
	words := strings.Fields(r.Name)
	if len(words) == 0 {
		return name{Text: r.User, Family: r.User}
	}
	return name{Text: r.Name, Family: words[len(words)-1], Given: words[:len(words)-1]}
}
