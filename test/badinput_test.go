package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// marker stands in every bad value that is text: wherever it turns up again, a value was repeated.
const marker = "Zanzibarian"

// Numbers that are no NHS numbers.
var notNumbers = map[string]string{"nine digits": "999000001", "eleven digits": "99900000180", "a letter": "999000001X", "another check digit": "9990000019", "one digit ten times": "4444444444"}

// bad is one request that must not be served.
type bad struct {
	name   string
	method string      // "": POST
	path   string      // "": /fhir/Patient/$everything
	header http.Header // all of them; nil: those of direct care
	more   http.Header // beside those
	body   string      // "": Parameters about the person of these tests, for $everything by POST
	status int
	code   string // issue.code
	says   string // in issue.details.text: what to do
}

// TestBadInput sends both faces what they must not take. Bad input gets a clear error and costs nothing: the status and code of the tables, a
// text that says what to do, nothing of what was sent in the answer or in the log, and no custodian asked.
func TestBadInput(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole demo")
	}
	t.Parallel()
	n := neighbourhood.Start(t, neighbourhood.Options{})
	var sent []string
	t.Run("REST", func(t *testing.T) { sent = append(sent, badREST(t, n)...) })
	t.Run("gRPC", func(t *testing.T) { sent = append(sent, badGRPC(t, n)...) })
	t.Run("ignored and said so", func(t *testing.T) { ignoredAndSaid(t, n) })
	t.Run("without permission", func(t *testing.T) { withoutPermission(t, n) })
	_, log := n.Output()
	if len(log) == 0 || len(sent) == 0 {
		t.Fatal("there is no log, or nothing was sent")
	}
	for _, s := range append(sent, marker) {
		if bytes.Contains(log, []byte(s)) {
			t.Error("the log repeats what was sent")
		}
	}
}

// badREST returns what was sent that may be repeated nowhere.
func badREST(t *testing.T, n *neighbourhood.Neighbourhood) (sent []string) {
	token := n.Token(t, "ed-doctor")
	cases := slices.Concat(badPeople(), badBodies(), badParameters(), badStatements(n, t, token), badTokens(n, t, token), writes(token))
	if len(cases) < 100 {
		t.Errorf("%d cases: some are lost", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c = c.completed(token)
			before := counters(t, n)
			res, err := n.Do(t.Context(), c.method, n.REST+c.path, c.header, []byte(c.body))
			if err != nil {
				t.Fatal("no answer")
			}
			refusedWell(t, res, c)
			if after := counters(t, n); !maps.Equal(after, before) {
				t.Error("a custodian was asked")
			}
			for what, s := range c.values() {
				sent = append(sent, s)
				if strings.Contains(string(res.Body), s) || inHeaders(res.Header, s) {
					t.Errorf("the answer repeats %s", what)
				}
			}
		})
	}
	return sent
}

func (c bad) completed(token string) bad {
	if c.method == "" {
		c.method = http.MethodPost
	}
	if c.path == "" {
		c.path = "/fhir/Patient/$everything"
	}
	if c.header == nil {
		c.header = neighbourhood.Treating(token)
	}
	maps.Copy(c.header, c.more)
	if c.header.Get("Content-Type") == "" && c.method == http.MethodPost {
		c.header.Set("Content-Type", "application/fhir+json")
	}
	if c.body == "" && c.method == http.MethodPost && c.path == "/fhir/Patient/$everything" {
		c.body = about(cohort.Margaret)
	}
	return c
}

// values are what was sent of a person or as free text: none of it may come back.
func (c bad) values() map[string]string {
	out := map[string]string{}
	plain, _ := url.QueryUnescape(c.path)
	all := plain + c.body
	for _, v := range c.header {
		all += " " + strings.Join(v, " ")
	}
	if strings.Contains(all, marker) {
		out["a value"] = marker
	}
	for _, number := range append(slices.Collect(maps.Values(notNumbers)), cohort.Margaret, cohort.Dev) {
		if strings.Contains(all, number) {
			out["a number"] = number
		}
	}
	for _, credentials := range c.header.Values("Authorization") {
		if _, token, _ := strings.Cut(credentials, " "); len(token) > 20 {
			out["a token"] = token
		}
	}
	return out
}

func inHeaders(h http.Header, s string) bool {
	for _, values := range h {
		if strings.Contains(strings.Join(values, " "), s) {
			return true
		}
	}
	return false
}

// refusedWell holds an answer to what every refusal is.
func refusedWell(t *testing.T, res neighbourhood.Response, c bad) {
	t.Helper()
	doc, err := readJSON(res.Body)
	if err != nil || doc.str("resourceType") != "OperationOutcome" {
		t.Fatalf("got %v that is no OperationOutcome, want %d", res, c.status)
	}
	text, severity := doc.str("issue", "details", "text"), doc.str("issue", "severity")
	if res.Status != c.status || doc.str("issue", "code") != c.code {
		t.Errorf("got %d %s, want %d %s; it says: %s", res.Status, doc.str("issue", "code"), c.status, c.code, text)
	}
	if !strings.Contains(text, c.says) || len(text) < 15 || severity != "error" && severity != "fatal" {
		t.Errorf("it says, as %s: %s; want %q in it", severity, text, c.says)
	}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "application/fhir+json") || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("X-Request-Id") == "" {
		t.Error("it lacks its type, no-store or its request id")
	}
	switch challenge, allow := res.Header.Get("WWW-Authenticate"), res.Header.Get("Allow"); {
	case (res.Status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Bearer"):
		t.Error("401 comes with a challenge, and nothing else does")
	case (res.Status == http.StatusMethodNotAllowed) != (allow != ""):
		t.Error("405 says what is allowed, and nothing else does")
	case strings.Contains(allow, "PUT") || strings.Contains(allow, "PATCH") || strings.Contains(allow, "DELETE"):
		t.Error("it allows a write")
	}
}

// counters is what all nine were asked, metadata included.
func counters(t *testing.T, n *neighbourhood.Neighbourhood) map[string]neighbourhood.Requests {
	t.Helper()
	out := map[string]neighbourhood.Requests{}
	for key := range n.Sources {
		out[key] = n.Requests(t, key)
	}
	return out
}

// about is a Parameters body about a person.
func about(number string, more ...string) string {
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(append([]string{
		`{"name":"identifier","valueIdentifier":{"system":"` + nhsNumberSystem + `","value":"` + number + `"}}`}, more...), ",") + `]}`
}

func form(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

func badPeople() []bad {
	var out []bad
	for what, number := range notNumbers {
		out = append(out,
			bad{name: "number with " + what + " in Parameters", body: about(number), status: 400, code: "value", says: "NHS number"},
			bad{name: "number with " + what + " in a search", method: "GET", path: "/fhir/Patient?" + form("identifier", nhsNumberSystem+"|"+number), status: 400, code: "value", says: "NHS number"})
	}
	everything := "/fhir/Patient/$everything"
	return append(out,
		bad{name: "no person", body: `{"resourceType":"Parameters"}`, status: 400, code: "required", says: "identifier="},
		bad{name: "no person in a search", method: "GET", path: "/fhir/Patient", status: 400, code: "required", says: "identifier="},
		bad{name: "number without a system", method: "GET", path: "/fhir/Patient?" + form("identifier", cohort.Margaret), status: 400, code: "value", says: nhsNumberSystem},
		bad{name: "number of another system", method: "GET", path: "/fhir/Patient?" + form("identifier", "https://"+marker+".example|"+cohort.Margaret), status: 400, code: "code-invalid", says: nhsNumberSystem},
		bad{name: "two people", body: about(cohort.Margaret, `{"name":"identifier","valueIdentifier":{"system":"`+nhsNumberSystem+`","value":"`+cohort.Dev+`"}}`), status: 400, code: "invalid", says: "give one"},
		bad{name: "number in the address of an operation", method: "GET", path: everything + "?" + form("identifier", nhsNumberSystem+"|"+cohort.Margaret), status: 400, code: "invalid", says: "body by POST"},
		bad{name: "a handle of nobody", method: "GET", path: "/fhir/Patient/" + marker + "/$everything", status: 404, code: "not-found", says: "Search Patient by identifier"},
		bad{name: "a handle of nobody to read", method: "GET", path: "/fhir/Patient/" + marker, status: 404, code: "not-found", says: "Search Patient by identifier"},
		bad{name: "a resource of nobody", method: "GET", path: "/fhir/Observation/" + marker, status: 404, code: "not-found", says: "$everything?_type=Observation"},
		bad{name: "a birth date that is none", body: about(cohort.Margaret, `{"name":"birthDate","valueDate":"1941-13-`+marker+`"}`), status: 400, code: "value", says: "YYYY-MM-DD"},
	)
}

func badBodies() []bad {
	structure := func(name, body, says string) bad {
		return bad{name: name, body: body, status: 400, code: "structure", says: says}
	}
	typed := func(contentType string) http.Header { return http.Header{"Content-Type": {contentType}} }
	return []bad{
		structure("broken JSON", `{"resourceType":"Parameters","parameter":[{"name":"`+marker+`"`, "not JSON"),
		{name: "broken JSON, and a request id with a number", more: http.Header{"X-Request-Id": {cohort.Dev}}, body: `{"resourceType"`, status: 400, code: "structure", says: "not JSON"},
		structure("JSON and more", about(cohort.Margaret)+` {"`+marker+`":1}`, "not JSON"),
		structure("no JSON", `<Parameters value="`+marker+`"/>`, "not JSON"),
		structure("a name twice", `{"resourceType":"Parameters","parameter":[],"parameter":[{"name":"`+marker+`"}]}`, "every name once"),
		structure("a name twice but for its case", `{"resourceType":"Parameters","parameter":[],"PARAMETER":[]}`, "every name once"),
		structure("not UTF-8", `{"resourceType":"Parameters","`+marker+"\xff"+`":[]}`, "UTF-8"),
		structure("nested deep", `{"resourceType":"Parameters","parameter":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`}`, "not JSON"),
		structure("another resource", `{"resourceType":"Patient","id":"`+marker+`"}`, "Parameters"),
		structure("a list", `["`+marker+`"]`, "Parameters"),
		structure("parameters that are no list", `{"resourceType":"Parameters","parameter":{"name":"`+marker+`"}}`, "list"),
		structure("a parameter without a name", `{"resourceType":"Parameters","parameter":[{"valueString":"`+marker+`"}]}`, "name"),
		{name: "an identifier of another type", body: `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueBoolean":"` + marker + `"}]}`, status: 400, code: "value", says: "identifier"},
		{name: "an over-long body", body: about(cohort.Margaret) + strings.Repeat(" ", 64<<10), status: 413, code: "too-long", says: "64 KiB"},
		{name: "an over-long body of a search", path: "/fhir/Patient/_search", more: typed("application/x-www-form-urlencoded"), body: form("identifier", strings.Repeat(marker, 6000)), status: 413, code: "too-long", says: "64 KiB"},
		{name: "an over-long query", method: "GET", path: "/fhir/Patient?" + form("identifier", strings.Repeat(marker, 800)), status: 400, code: "too-long", says: "by POST"},
		{name: "a form that cannot be read", path: "/fhir/Patient/_search", more: typed("application/x-www-form-urlencoded"), body: "identifier=%zz" + marker, status: 400, code: "structure", says: "name=value"},
		{name: "a query that cannot be read", method: "GET", path: "/fhir/Patient?identifier=%zz" + marker, status: 400, code: "invalid", says: "name=value"},
		{name: "a body of text", more: typed("text/plain"), status: 415, code: "not-supported", says: "application/fhir+json"},
		{name: "a compressed body", more: http.Header{"Content-Encoding": {"gzip"}, "Content-Type": {"application/fhir+json"}}, status: 415, code: "not-supported", says: "without Content-Encoding"},
		{name: "JSON for a search", path: "/fhir/Patient/_search", body: about(cohort.Margaret), status: 415, code: "not-supported", says: "application/x-www-form-urlencoded"},
		{name: "XML wanted", more: http.Header{"Accept": {"application/fhir+xml"}}, status: 406, code: "not-supported", says: "JSON"},
		{name: "XML wanted by _format", path: "/fhir/Patient/$everything?_format=xml", body: about(cohort.Margaret), status: 406, code: "not-supported", says: "JSON"},
	}
}

func badParameters() []bad {
	strict := http.Header{"Prefer": {"handling=strict"}}
	one := func(name, value string) string {
		return about(cohort.Margaret, `{"name":"`+name+`","valueString":"`+value+`"}`)
	}
	return []bad{
		{name: "an unknown parameter, strictly", more: strict, body: one("colour", marker), status: 400, code: "not-supported", says: "colour is not supported. Known here: "},
		{name: "an unknown parameter in a search, strictly", method: "GET", path: "/fhir/Patient?" + form("identifier", nhsNumberSystem+"|"+cohort.Margaret, "colour", marker), more: strict, status: 400, code: "not-supported", says: "colour"},
		{name: "an unknown parameter whose name is a value, strictly", more: strict, body: one(marker+" "+cohort.Dev, "x"), status: 400, code: "not-supported", says: "not supported"},
		{name: "a modifier", method: "GET", path: "/fhir/Patient?" + form("identifier:exact", nhsNumberSystem+"|"+cohort.Margaret), status: 400, code: "not-supported", says: "Modifiers"},
		{name: "an unknown type", body: one("_type", marker), status: 400, code: "code-invalid", says: "resource types"},
		{name: "a section for a type", body: one("_type", "mental-health"), status: 400, code: "code-invalid", says: "resource types"},
		{name: "a start that is no date", body: one("start", marker), status: 400, code: "value", says: "YYYY-MM-DD"},
		{name: "an end before the start", body: about(cohort.Margaret, `{"name":"start","valueDate":"2024-02-01"}`, `{"name":"end","valueDate":"2024-01-01"}`), status: 400, code: "value", says: "end is before start"},
		{name: "a since without its zone", body: one("_since", "2024-01-01T00:00:00"), status: 400, code: "value", says: "zone"},
		{name: "a start twice", body: about(cohort.Margaret, `{"name":"start","valueDate":"2024-02-01"}`, `{"name":"start","valueDate":"2023-01-01"}`), status: 400, code: "invalid", says: "give one"},
		{name: "pretty as a word", path: "/fhir/Patient/$everything?_pretty=" + marker, body: about(cohort.Margaret), status: 400, code: "value", says: "true or false"},
		{name: "a search by type", method: "GET", path: "/fhir/Observation?code=" + marker, status: 404, code: "not-supported", says: "$everything?_type=Observation"},
		{name: "a type that does not exist", method: "GET", path: "/fhir/" + marker, status: 404, code: "not-supported", says: "no such resource type"},
		{name: "an operation that does not exist", method: "GET", path: "/fhir/Patient/$" + marker, status: 404, code: "not-supported", says: "not offered"},
		{name: "no address of ours", method: "GET", path: "/" + marker, status: 404, code: "not-found", says: "/fhir/metadata"},
		{name: "an address written in another way", method: "GET", path: "/fhir//Patient", status: 404, code: "not-found", says: "/fhir/metadata"},
	}
}

// stated returns the headers of a request that states what is given, and nothing where "" is given.
func stated(token, purpose, permission, relationship string, more ...string) http.Header {
	h := neighbourhood.Headers(token, more...)
	for name, v := range map[string]string{"X-Purpose-Of-Use": purpose, "X-Permission-To-View": permission, "X-Care-Relationship": relationship} {
		if v != "" {
			h.Set(name, v)
		}
	}
	return h
}

func badStatements(n *neighbourhood.Neighbourhood, t *testing.T, token string) []bad {
	value := func(name, purpose, permission, relationship, says string, more ...string) bad {
		return bad{name: name, header: stated(token, purpose, permission, relationship, more...), status: 400, code: "value", says: says}
	}
	forbidden := func(name string, header http.Header, says string) bad {
		return bad{name: name, header: header, status: 403, code: "forbidden", says: says}
	}
	apart := func(name, says string, fields ...string) bad {
		return bad{name: "token and request differ in " + name, header: neighbourhood.Treating(n.Token(t, "ed-doctor", fields...)), status: 400, code: "invalid", says: says}
	}
	twice := neighbourhood.Treating(token)
	twice.Add("X-Permission-To-View", "asked-yes")
	long := strings.Repeat(marker+" ", 45) // more than 500 bytes
	return []bad{
		{name: "no purpose", header: stated(token, "", "asked-yes", "admission"), status: 400, code: "required", says: "X-Purpose-Of-Use"},
		value("a purpose that does not exist", "H"+marker, "asked-yes", "", "TREAT, ETREAT, BTG, PATRQT"),
		value("a purpose in small letters", "treat", "asked-yes", "", "TREAT"),
		value("a permission that does not exist", "TREAT", marker, "", "asked-yes, asked-earlier"),
		value("a permission that needs a day", "TREAT", "asked-earlier", "", "asked-earlier needs on="),
		value("a day that does not exist", "TREAT", "asked-earlier; on=2026-02-30", "", "YYYY-MM-DD"),
		value("a permission that needs a reason", "TREAT", "cannot-ask", "", "cannot-ask needs reason="),
		value("a permission with what it does not take", "TREAT", `asked-yes; reason="`+marker+`"`, "", "asked-yes takes no parameter"),
		value("an open quotation mark", "TREAT", `cannot-ask; reason="`+marker, "", "quotation mark"),
		value("a reason that is too long", "TREAT", `cannot-ask; reason="`+long+`"`, "", "500 bytes"),
		value("a relationship that does not exist", "TREAT", "asked-yes", marker, "registered, referral"),
		value("a relationship with what it does not take", "TREAT", "asked-yes", `admission; ward="`+marker+`"`, "admission takes ref="),
		value("a break-glass reason that is too long", "BTG", "", "", "500 bytes", "X-Break-Glass-Reason: "+long),
		{name: "a break-glass reason for another purpose", header: stated(token, "TREAT", "asked-yes", "", "X-Break-Glass-Reason: "+marker+" in a hurry"), status: 400, code: "invalid", says: "BTG only"},
		{name: "a permission twice", header: twice, status: 400, code: "invalid", says: "give it once"},
		apart("the person", "nhs number", "nhs_number="+cohort.Dev),
		apart("the purpose", "purpose", "purpose=ETREAT"),
		apart("the permission", "permission", `permission=cannot-ask; reason="`+marker+`"`),
		apart("the relationship", "relationship", `relationship=admission; ref="`+marker+`"`),
		forbidden("break-glass without a reason", stated(token, "BTG", "", ""), "at least 10 characters"),
		forbidden("break-glass with too short a reason", stated(token, "BTG", "", "", "X-Break-Glass-Reason: help"), "at least 10 characters"),
		forbidden("a clinician for the person", stated(token, "PATRQT", "patient-self", ""), "purpose"),
		forbidden("the person for somebody else", stated(n.Token(t, "patient", "nhs_number="+cohort.Dev), "PATRQT", "patient-self", ""), ""),
	}
}

func badTokens(n *neighbourhood.Neighbourhood, t *testing.T, token string) []bad {
	unknown := func(name, credentials string) bad {
		h := stated("", "TREAT", "asked-yes", "admission")
		h.Set("Authorization", credentials)
		return bad{name: name, header: h, status: 401, code: "login", says: "token"}
	}
	none := stated("", "TREAT", "asked-yes", "admission")
	none.Del("Authorization")
	two := neighbourhood.Treating(token)
	two.Add("Authorization", "Bearer "+n.Token(t, "gp"))
	same := neighbourhood.Treating(token)
	same.Add("Authorization", "Bearer "+token)
	parts := strings.Split(token, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + parts[1] + "."
	cut := strings.Join([]string{parts[0], parts[1], parts[2][:len(parts[2])-8] + strings.Repeat("A", 8)}, ".")
	forbidden := func(name, persona, says string, more ...string) bad {
		h := neighbourhood.Treating(n.Token(t, persona))
		for _, line := range more {
			k, v, _ := strings.Cut(line, ": ")
			h.Set(k, v)
		}
		return bad{name: name, header: h, status: 403, code: "forbidden", says: says}
	}
	acting := neighbourhood.Treating(token)
	acting.Set("X-Acting-Person", token)
	expired := neighbourhood.Treating(n.Token(t, "ed-doctor", "ttl=-120"))
	return []bad{
		{name: "no token", header: none, status: 401, code: "login", says: "Authorization: Bearer"},
		unknown("a password", "Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+marker))),
		unknown("no token after Bearer", "Bearer "),
		unknown("a token that is none", "Bearer "+marker+marker),
		unknown("a token without a signature", "Bearer "+unsigned),
		unknown("a token with another signature", "Bearer "+cut),
		unknown("a token of another issuer's key", "Bearer "+forged(t, token)),
		unknown("an over-long token", "Bearer "+strings.Repeat("A", 9000)+"."+parts[1]+"."+parts[2]),
		{name: "an expired token", header: expired, status: 401, code: "expired", says: "ask for a new one"},
		{name: "two tokens", header: two, status: 400, code: "invalid", says: "send one"},
		{name: "one token twice", header: same, status: 400, code: "invalid", says: "send one"},
		{name: "an acting person where nobody needs one", header: acting, status: 400, code: "invalid", says: "acting person"},
		forbidden("a stranger", "stranger", "role"),
		forbidden("a role that may not ask", "front-desk", "role"),
		forbidden("an engine that names nobody", "engine", "X-Acting-Person"),
		forbidden("an engine that names nobody we can read", "engine", "X-Acting-Person", "X-Acting-Person: "+marker),
		forbidden("an engine that shows its own token for a person", "engine", "X-Acting-Person", "X-Acting-Person: "+n.Token(t, "engine")),
	}
}

// forged signs what a token says with a key that nobody knows, under the key id that is known.
func forged(t *testing.T, token string) string {
	t.Helper()
	known, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal("the issuer's token is no JWS with ES256")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal("no key")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: known.Signatures[0].Header.KeyID}}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		t.Fatal("no signer")
	}
	signed, err := signer.Sign(known.UnsafePayloadWithoutVerification())
	if err != nil {
		t.Fatal("no signature")
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal("no token")
	}
	return text
}

// writes are the verbs that would write, with and without a token (P9).
func writes(token string) []bad {
	var out []bad
	for _, w := range []struct{ method, path string }{
		{"PUT", "/fhir/Patient/" + marker}, {"PATCH", "/fhir/Patient/" + marker}, {"DELETE", "/fhir/Patient/" + marker}, {"POST", "/fhir/Patient"},
		{"PUT", "/fhir/Observation/" + marker}, {"DELETE", "/fhir/Observation/" + marker}, {"POST", "/fhir/Observation"}, {"POST", "/fhir"}, {"POST", "/fhir/"},
		{"PUT", "/fhir/Patient/$everything"}, {"DELETE", "/fhir/metadata"}, {"PATCH", "/fhir/Consent/" + marker},
	} {
		for who, h := range map[string]http.Header{"": neighbourhood.Treating(token), " by nobody": {"Accept": {"application/fhir+json"}}} {
			out = append(out, bad{name: w.method + " " + strings.ReplaceAll(w.path, marker, "id") + who, method: w.method, path: w.path, header: h,
				body: `{"resourceType":"Observation","status":"final","valueString":"` + marker + `"}`, status: 405, code: "not-supported", says: "only reads"})
		}
	}
	return out
}

// ignoredAndSaid asks leniently with a parameter that nobody knows: it is ignored, and the answer says so (FHIR R4, search, 3.1.1.5.6).
func ignoredAndSaid(t *testing.T, n *neighbourhood.Neighbourhood) {
	token := n.Token(t, "ed-doctor")
	plain := everythingByNumber(t, n, token, cohort.Margaret)
	for _, name := range []string{"colour", marker + " " + cohort.Dev} {
		body, err := json.Marshal(name)
		if err != nil {
			t.Fatal("no name")
		}
		for _, prefer := range []string{"", "handling=lenient"} {
			h := neighbourhood.Treating(token)
			if prefer != "" {
				h.Set("Prefer", prefer)
			}
			res := n.Post(t, "/fhir/Patient/$everything", h, []byte(about(cohort.Margaret, `{"name":`+string(body)+`,"valueString":"`+marker+`"}`)))
			if res.Status != http.StatusOK || bytes.Contains(res.Body, []byte(marker)) || bytes.Contains(res.Body, []byte(cohort.Dev)) {
				t.Fatalf("got %v, or a value is repeated", res)
			}
			with, without := readAnswer(t, res.Body, n.REST+"/fhir"), readAnswer(t, plain, n.REST+"/fhir")
			said := with.entries[0]
			text := said.resource.str("issue", "details", "text")
			if said.typ != "OperationOutcome" || said.mode != "outcome" || said.resource.str("issue", "severity") != "warning" || said.resource.str("issue", "code") != "not-supported" ||
				!strings.Contains(text, "ignored") || strings.Contains(text, name) != (name == "colour") {
				t.Errorf("the first entry, a %s, does not say that the parameter was ignored: %s", said.typ, text)
			}
			if !slices.Equal(with.urls()[1:], without.urls()) || with.total != without.total {
				t.Error("the answer is another one than without the parameter")
			}
		}
	}
}

// withoutPermission asks without the person's permission, or against it. What the requester's own organisation holds is theirs to see (C-2.6);
// the other eight are not asked, and the answer says by which rule.
func withoutPermission(t *testing.T, n *neighbourhood.Neighbourhood) {
	for _, permission := range []string{"", "asked-no"} {
		before := counters(t, n)
		res := n.Post(t, "/fhir/Patient/$everything", stated(n.Token(t, "ed-doctor"), "TREAT", permission, "admission"), []byte(about(cohort.Margaret)))
		after := counters(t, n)
		if res.Status != http.StatusOK {
			t.Fatalf("got %v, want 200", res)
		}
		shown, refused := map[string]int{}, map[string]bool{}
		for _, e := range readAnswer(t, res.Body, n.REST+"/fhir").entries {
			key, rest, _ := strings.Cut(e.id, "-")
			if _, is := n.Sources[key]; is {
				shown[key]++
			}
			if key == "outcome" && e.resource.str("issue", "details", "coding", "code") == "not-asked" && strings.Contains(e.resource.str("issue", "diagnostics"), "rule C-2.8") {
				refused[rest] = true
			}
		}
		for key := range n.Sources {
			switch {
			case key == "acute" && (shown[key] == 0 || after[key] == before[key]):
				t.Error("the requester's own organisation was not asked, or its record is not shown")
			case key != "acute" && (shown[key] > 0 || after[key] != before[key] || !refused[key]):
				t.Errorf("%s: %d resources shown, asked %v, and said to be refused by C-2.8 %v; want none, not asked, and said", key, shown[key], after[key] != before[key], refused[key])
			}
		}
	}
}
