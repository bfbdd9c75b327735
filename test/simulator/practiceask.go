package simulator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// gpClaims are the claims of a consumer's token that are checked.
type gpClaims struct {
	Iss     string `json:"iss"`
	Sub     string `json:"sub"`
	Aud     string `json:"aud"`
	Exp     *int64 `json:"exp"`
	Iat     *int64 `json:"iat"`
	Reason  string `json:"reason_for_request"`
	Scope   string `json:"requested_scope"`
	Device  gpWho  `json:"requesting_device"`
	Org     gpWho  `json:"requesting_organization"`
	Doctor  gpWho  `json:"requesting_practitioner"`
	Unasked any    `json:"requested_record"`
}

type gpWho struct {
	ResourceType string          `json:"resourceType"`
	ID           string          `json:"id"`
	Model        string          `json:"model"`
	Version      string          `json:"version"`
	Name         json.RawMessage `json:"name"`
	Identifier   []struct {
		System string `json:"system"`
		Value  string `json:"value"`
	} `json:"identifier"`
}

func (w gpWho) value(system string) string {
	for _, id := range w.Identifier {
		if id.System == system {
			return id.Value
		}
	}
	return ""
}

// token checks the token of a request: "Cross Organisation Audit & Provenance" of the specification.
func (p *Practice) token(r *http.Request) *gpRefusal {
	jwt, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(jwt, ".")
	if !bearer || len(parts) != 3 || parts[2] != "" {
		return badRequest("Authorization: Bearer, and an unsecured JWT with its last dot")
	}
	var head struct{ Alg, Typ string }
	var c gpClaims
	for i, into := range []any{&head, &c} {
		text, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return badRequest("JWT: base64url without padding, of JSON")
		}
	}
	now := p.cfg.Now().Unix()
	switch {
	case head.Alg != "none" || head.Typ != "JWT":
		return badRequest("JWT header")
	case !isURL(c.Iss):
		return badRequest("JWT claim iss")
	case c.Aud != "http://"+r.Host+p.cfg.Base && c.Aud != "https://"+r.Host+p.cfg.Base:
		return badRequest("JWT claim aud: not this service")
	case c.Exp == nil || c.Iat == nil || *c.Exp != *c.Iat+300:
		return badRequest("JWT claims iat and exp: five minutes apart")
	case *c.Iat > now+5 || *c.Exp <= now:
		return badRequest("JWT claims iat and exp: not now")
	case c.Reason != "directcare":
		return badRequest("JWT claim reason_for_request")
	case c.Scope != "patient/*.read":
		return badRequest("JWT claim requested_scope")
	case c.Unasked != nil:
		return badRequest("JWT claim requested_record: no longer part of the specification")
	case c.Device.ResourceType != "Device" || c.Device.ID == "" || len(c.Device.Identifier) == 0 || c.Device.Model == "" || c.Device.Version == "":
		return badRequest("JWT claim requesting_device")
	case c.Org.ResourceType != "Organization" || c.Org.ID == "" || c.Org.value("https://fhir.nhs.uk/Id/ods-organization-code") == "" || !isText(c.Org.Name):
		return badRequest("JWT claim requesting_organization")
	case c.Doctor.ResourceType != "Practitioner" || c.Doctor.ID == "" || c.Doctor.ID != c.Sub:
		return badRequest("JWT claim requesting_practitioner: its id is sub")
	}
	user, role := c.Doctor.value("https://fhir.nhs.uk/Id/sds-user-id"), c.Doctor.value("https://fhir.nhs.uk/Id/sds-role-profile-id")
	local := 0
	for _, id := range c.Doctor.Identifier {
		if id.Value == "" || !isURL(id.System) {
			return badRequest("JWT claim requesting_practitioner: identifiers")
		}
		if !strings.HasPrefix(id.System, "https://fhir.nhs.uk/Id/") {
			local++
		}
	}
	var names []struct {
		Family string   `json:"family"`
		Given  []string `json:"given"`
	}
	if user == "" || role == "" || local == 0 || json.Unmarshal(c.Doctor.Name, &names) != nil || len(names) == 0 || names[0].Family == "" {
		return badRequest("JWT claim requesting_practitioner")
	}
	return nil
}

func isText(raw json.RawMessage) bool {
	var s string
	return json.Unmarshal(raw, &s) == nil && s != ""
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// gpAsk is what a request asks for.
type gpAsk struct {
	number  string
	areas   map[string]map[string]string // parameter -> part -> value as text
	unknown []string                     // parameters of areas that this version does not know
}

// gpParameters is the body of a request, as far as it is read.
type gpParameters struct {
	ResourceType string `json:"resourceType"`
	Parameter    []struct {
		Name            string `json:"name"`
		ValueIdentifier *struct {
			System string `json:"system"`
			Value  string `json:"value"`
		} `json:"valueIdentifier"`
		Part []map[string]json.RawMessage `json:"part"`
	} `json:"parameter"`
}

// parseParameters reads the body and refuses what the specification has providers refuse: not a Parameters resource INVALID_RESOURCE, a bad
// parameter INVALID_PARAMETER, a bad number INVALID_NHS_NUMBER.
func parseParameters(body []byte, now time.Time) (gpAsk, *gpRefusal) {
	invalid := func(text string) (gpAsk, *gpRefusal) {
		return gpAsk{}, &gpRefusal{http.StatusUnprocessableEntity, "invalid", "INVALID_RESOURCE", text}
	}
	var in gpParameters
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&in); err != nil || in.ResourceType != "Parameters" {
		return invalid("a Parameters resource")
	}
	if _, err := d.Token(); err != io.EOF {
		return invalid("one resource and nothing after it")
	}
	ask := gpAsk{areas: map[string]map[string]string{}}
	parts := map[string]bool{}
	for _, x := range in.Parameter {
		if x.Name == "patientNHSNumber" {
			switch {
			case ask.number != "":
				return gpAsk{}, badParameter(x.Name, "given twice")
			case x.ValueIdentifier == nil || x.ValueIdentifier.Value == "":
				return gpAsk{}, badParameter(x.Name, "a valueIdentifier")
			case x.ValueIdentifier.System != nhsNumberSystem:
				return gpAsk{}, &gpRefusal{http.StatusBadRequest, "value", "INVALID_IDENTIFIER_SYSTEM", x.Name}
			case !validNumber(x.ValueIdentifier.Value):
				return gpAsk{}, &gpRefusal{http.StatusBadRequest, "value", "INVALID_NHS_NUMBER", x.Name}
			}
			ask.number = x.ValueIdentifier.Value
			continue
		}
		a, known := areaOf(x.Name)
		if !known {
			ask.unknown = append(ask.unknown, x.Name)
			continue
		}
		if _, twice := ask.areas[x.Name]; twice {
			return gpAsk{}, badParameter(x.Name, "given twice")
		}
		values := map[string]string{}
		for _, part := range x.Part {
			var name string
			if json.Unmarshal(part["name"], &name) != nil || a.parts[name] == "" {
				return gpAsk{}, badParameter(x.Name, "there is no such part")
			}
			raw, given := part[a.parts[name]]
			if !given || len(part) != 2 || !goodPart(a.parts[name], raw, now) {
				return gpAsk{}, badParameter(name, a.parts[name])
			}
			values[name], parts[name] = strings.Trim(string(raw), `"`), true
		}
		ask.areas[x.Name] = values
	}
	switch _, allergies := ask.areas["includeAllergies"]; {
	case ask.number == "":
		return gpAsk{}, badParameter("patientNHSNumber", "missing")
	case !allergies:
		return gpAsk{}, badParameter("includeAllergies", "missing")
	case ask.areas["includeAllergies"]["includeResolvedAllergies"] == "":
		return gpAsk{}, badParameter("includeResolvedAllergies", "missing")
	}
	_, consultations := ask.areas["includeConsultations"]
	_, problems := ask.areas["includeProblems"]
	for _, name := range notWithConsultations {
		if parts[name] && (consultations || problems && name != "filterStatus") {
			return invalid(name + " may not be given together with consultations or problems")
		}
	}
	if parts["consultationSearchPeriod"] && parts["includeNumberOfMostRecent"] {
		return invalid("consultationSearchPeriod and includeNumberOfMostRecent")
	}
	return ask, nil
}

var wholeDay = regexp.MustCompile(`^"\d{4}-\d{2}-\d{2}"$`)

// goodPart checks a part's value: whole days, periods that end after they begin and not after today, codes and counts.
func goodPart(kind string, raw json.RawMessage, now time.Time) bool {
	switch kind {
	case "valueBoolean":
		return string(raw) == "true" || string(raw) == "false"
	case "valueDate":
		return wholeDay.Match(raw)
	case "valueCode":
		return string(raw) == `"active"` || string(raw) == `"inactive"`
	case "valuePositiveInt":
		var n int
		return json.Unmarshal(raw, &n) == nil && n > 0
	case "valuePeriod":
		var v struct{ Start, End string }
		today := now.Format(time.DateOnly)
		return json.Unmarshal(raw, &v) == nil && (v.Start != "" || v.End != "") && (v.Start == "" || wholeDay.MatchString(`"`+v.Start+`"`) && v.Start <= today) &&
			(v.End == "" || wholeDay.MatchString(`"`+v.End+`"`) && v.End <= today && v.Start <= v.End)
	}
	return false
}
