package fhirrest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/fhir+json"
)

func TestTheWaysToAsk(t *testing.T) {
	handle := handleOf(t, ada)
	self := base + "/Patient/" + handle + "/$everything"
	for name, c := range map[string]struct {
		ask          func(k *kit) *http.Request
		operation    string
		demographics bool
		self         string
	}{
		"search by GET": {func(k *kit) *http.Request { return k.ask("GET", search(ada), "") }, "search", true, base + "/Patient?_id=" + handle},
		"search by POST": {func(k *kit) *http.Request {
			return k.ask("POST", "/fhir/Patient/_search", url.Values{"identifier": {record.NHSNumberSystem + "|" + ada}}.Encode(), "Content-Type: "+formType)
		}, "search", true, base + "/Patient?_id=" + handle},
		"search by POST, body and address together": {func(k *kit) *http.Request {
			return k.ask("POST", "/fhir/Patient/_search?birthdate=1970-02-03", "_format=json&identifier="+url.QueryEscape(record.NHSNumberSystem+"|"+ada), "Content-Type: "+formType+"; charset=UTF-8")
		}, "search", true, base + "/Patient?_id=" + handle},
		"search by handle, as the self link says": {func(k *kit) *http.Request { return k.ask("GET", "/fhir/Patient?_id="+handle, "") }, "search", true, base + "/Patient?_id=" + handle},
		"read":               {func(k *kit) *http.Request { return k.ask("GET", "/fhir/Patient/"+handle, "") }, "read", true, ""},
		"everything by GET":  {func(k *kit) *http.Request { return k.ask("GET", everything(t, ada), "") }, "everything", false, self},
		"$ escaped":          {func(k *kit) *http.Request { return k.ask("GET", "/fhir/Patient/"+handle+"/%24everything", "") }, "everything", false, self},
		"everything by POST": {func(k *kit) *http.Request { return k.ask("POST", everything(t, ada), "") }, "everything", false, self},
		"everything by POST with parameters": {func(k *kit) *http.Request {
			return k.ask("POST", everything(t, ada), parameters(`{"name":"start","valueDate":"2020"}`, `{"name":"_type","valueCode":"Observation"}`), "Content-Type: "+jsonType)
		}, "everything", false, self + "?_type=Observation&start=2020"},
		"everything by identifier": {func(k *kit) *http.Request {
			return k.ask("POST", "/fhir/Patient/$everything", parameters(identifierParameter(ada)), "Content-Type: application/json")
		}, "everything", false, self},
		"everything by identifier as a string": {func(k *kit) *http.Request {
			return k.ask("POST", "/fhir/Patient/$everything", parameters(`{"name":"identifier","valueString":"`+record.NHSNumberSystem+`|`+ada+`"}`), "Content-Type: "+jsonType)
		}, "everything", false, self},
		"by the person whom the token names": {func(k *kit) *http.Request {
			return k.ask("GET", "/fhir/Patient/$everything", "", "Authorization: Bearer "+k.token("ed-doctor", map[string]any{"nhs_number": ada}))
		}, "everything", false, self},
		"the person, their own": {func(k *kit) *http.Request {
			return k.ask("GET", "/fhir/Patient/$everything", "", "Authorization: Bearer "+k.token("patient", nil), "X-Purpose-Of-Use: PATRQT", "X-Permission-To-View: patient-self")
		}, "everything", false, self},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			resp := k.do(c.ask(k))
			r := read(t, resp)
			if resp.StatusCode != 200 {
				t.Fatalf("got %d %v", resp.StatusCode, r.Issue)
			}
			got := k.last()
			if got.Subject != number(t, ada) || got.Operation != c.operation || got.Demographics != c.demographics || got.Face != "rest" || got.ID != "req-1" {
				t.Errorf("got operation %q, demographics %v, face %q, id %q, the right person %v", got.Operation, got.Demographics, got.Face, got.ID, got.Subject == number(t, ada))
			}
			if got.Arrived.IsZero() || got.TokenProblem != "" {
				t.Errorf("got arrival %v, problem %q", got.Arrived, got.TokenProblem)
			}
			if resp.Header.Get("X-Request-Id") != "req-1" || resp.Header.Get("X-Access-Receipt") != "42.abcd"+strings.Repeat("00", 30)+`; origin="ledger.example"` {
				t.Errorf("got request id %q, receipt %q", resp.Header.Get("X-Request-Id"), resp.Header.Get("X-Access-Receipt"))
			}
			if c.operation == "read" {
				if r.ResourceType != "Patient" || resp.Header.Get("X-Answer-Complete") != "true" {
					t.Errorf("got %s, complete %q", r.ResourceType, resp.Header.Get("X-Answer-Complete"))
				}
				return
			}
			if r.ResourceType != "Bundle" || r.Type != "searchset" || r.Total == nil || *r.Total != 2 || len(r.Entry) != 3 || r.ID != "req-1" {
				t.Errorf("got %s %s with %d entries", r.ResourceType, r.Type, len(r.Entry))
			}
			if len(r.Link) != 1 || r.Link[0].Relation != "self" || r.Link[0].URL != c.self {
				t.Errorf("got links %v, want self %s", r.Link, c.self)
			}
			if len(r.Meta.Tag) != 1 || r.Meta.Tag[0] != (coding{codeBase + "/CodeSystem/receipt", "42.abcd" + strings.Repeat("00", 30)}) {
				t.Errorf("got tags %v", r.Meta.Tag)
			}
		})
	}
}

func TestResourcesAreNotRewritten(t *testing.T) {
	k := newKit(t)
	if got := bodyOf(t, k.get("/fhir/Patient/"+handleOf(t, ada))); got != patientJSON {
		t.Errorf("read: got other bytes")
	}
	for _, e := range wholeAnswer().Answer.Entries {
		if !strings.Contains(bodyOf(t, k.get(everything(t, ada))), string(e.JSON)) {
			t.Errorf("%s is not in the Bundle byte for byte", e.Type)
		}
	}
}

func TestWhatRequestsSay(t *testing.T) {
	k := newKit(t)
	read(t, k.get(everything(t, ada)+"?start=2019-03&end=2020&_since=2021-01-02T03:04:05Z&_type=Observation,Condition&_type=Condition",
		`X-Permission-To-View: cannot-ask; reason="not awake"`, `X-Care-Relationship: admission; ref="W 7"`, "X-Purpose-Of-Use: BTG", "X-Break-Glass-Reason: found unconscious"))
	got := k.last()
	want := merge.Filter{Types: []string{"Observation", "Condition"}, Start: time.Date(2019, 3, 1, 0, 0, 0, 0, time.UTC),
		End: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), Since: time.Date(2021, 1, 2, 3, 4, 5, 0, time.UTC)}
	if !reflect.DeepEqual(got.Filter, want) {
		t.Errorf("got filter %v, want %v", got.Filter, want)
	}
	if got.Purpose != record.BreakGlass || got.BreakGlassReason != "found unconscious" ||
		got.Permission != (record.Permission{Kind: record.CannotAsk, Reason: "not awake"}) || got.Relationship != (record.Relationship{Kind: record.Admission, Ref: "W 7"}) {
		t.Errorf("got %v, %v, %v", got.Purpose, got.Permission, got.Relationship)
	}
	if got.Requester.Organisation != "X9B01" || got.Requester.JobRole != "R8000" || got.Role.Sections[record.Treatment] != record.AllSections {
		t.Errorf("got %q of %q with %v", got.Requester.JobRole, got.Requester.Organisation, got.Role.Sections)
	}
	if got.Meta.CodeBase != codeBase || got.Meta.ReceiptTag != "" || !strings.HasSuffix(got.Meta.Now, "Z") {
		t.Errorf("got meta %+v", got.Meta)
	}

	read(t, k.get(everything(t, ada)))
	if got := k.last(); got.Relationship.Kind != record.SelfClaimed || !reflect.DeepEqual(got.Filter, merge.Filter{}) {
		t.Errorf("stated nothing: got relationship %q, filter %v; want self-claimed, none", got.Relationship.Kind, got.Filter)
	}
	read(t, k.get("/fhir/Patient/$everything", "Authorization: Bearer "+k.token("patient", nil), "X-Purpose-Of-Use: PATRQT", "X-Permission-To-View: patient-self"))
	if got := k.last(); got.Relationship.Kind != record.RelationshipNone || got.Requester.Kind != record.Person || got.Requester.Own != number(t, ada) {
		t.Errorf("the person: got relationship %q, kind %q", got.Relationship.Kind, got.Requester.Kind)
	}
	read(t, k.get(everything(t, ada), "-X-Purpose-Of-Use", "-X-Permission-To-View", "Authorization: Bearer "+k.token("ed-doctor",
		map[string]any{"purpose_of_use": "ETREAT", "permission_to_view": "asked-yes", "care_relationship": "caseload"})))
	if got := k.last(); got.Purpose != record.UrgentCare || got.Permission.Kind != record.AskedYes || got.Relationship.Kind != record.Caseload {
		t.Errorf("stated in the token: got %v, %v, %v", got.Purpose, got.Permission, got.Relationship)
	}
	read(t, k.post("/fhir/Patient/$everything", jsonType, parameters(identifierParameter(ada), `{"name":"birthDate","valueDate":"1970-02-03"}`, `{"name":"birthdate","valueDate":"1970-02-03"}`)))
	if got := k.last(); got.BirthDate != "1970-02-03" {
		t.Error("the second identifier did not arrive")
	}
}

// TestBadRequests: each costs nothing and is told what to do.
func TestBadRequests(t *testing.T) {
	onRecord := 0
	defer func() {
		if onRecord < 60 {
			t.Errorf("%d bad requests of known callers are on record, want nearly all of them", onRecord)
		}
	}()
	get := func(target string, changes ...string) func(*kit) *http.Request {
		return func(k *kit) *http.Request { return k.ask("GET", target, "", changes...) }
	}
	post := func(target, contentType, body string, changes ...string) func(*kit) *http.Request {
		return func(k *kit) *http.Request {
			return k.ask("POST", target, body, append([]string{"Content-Type: " + contentType}, changes...)...)
		}
	}
	all, op := everything(t, ada), "/fhir/Patient/$everything"
	for name, c := range map[string]struct {
		ask    func(*kit) *http.Request
		status int
		code   string
	}{
		"no identifier":                    {get("/fhir/Patient"), 400, "required"},
		"identifier empty":                 {get("/fhir/Patient?identifier="), 400, "required"},
		"identifier without system":        {get("/fhir/Patient?identifier=" + ada), 400, "value"},
		"identifier of another system":     {get("/fhir/Patient?identifier=https://else.example|" + ada), 400, "code-invalid"},
		"NHS number with a wrong digit":    {get(search("9990000019")), 400, "value"},
		"NHS number with blanks":           {get(search("999 000 0018")), 400, "value"},
		"two people":                       {get(search(ada) + "&identifier=" + url.QueryEscape(record.NHSNumberSystem+"|"+bob)), 400, "invalid"},
		"two people with a comma":          {get(search(ada + "," + bob)), 400, "value"},
		"identifier and handle disagree":   {get(search(ada) + "&_id=" + handleOf(t, bob)), 400, "invalid"},
		"NHS number as _id":                {get("/fhir/Patient?_id=" + ada), 400, "value"},
		"NHS number in groups as _id":      {get("/fhir/Patient?_id=999-000-0018"), 400, "value"},
		"NHS number in odd groups as _id":  {get("/fhir/Patient?_id=99900-00018"), 400, "value"},
		"_id that cannot be one":           {get("/fhir/Patient?_id=a%20b"), 400, "value"},
		"_id of nobody and no purpose":     {get("/fhir/Patient?_id=1", "-X-Purpose-Of-Use"), 400, "required"},
		"modifier":                         {get("/fhir/Patient?identifier:exact=x"), 400, "not-supported"},
		"modifier, lenient":                {get(search(ada)+"&birthdate:missing=true", "Prefer: handling=lenient"), 400, "not-supported"},
		"birth date no date":               {get(search(ada) + "&birthdate=3%20February"), 400, "value"},
		"birth date no day":                {get(search(ada) + "&birthdate=1970-02"), 400, "value"},
		"two birth dates, two spellings":   {post(op, jsonType, parameters(identifierParameter(ada), `{"name":"birthDate","valueDate":"1970-02-03"}`, `{"name":"birthdate","valueDate":"1970-02-04"}`)), 400, "invalid"},
		"birth date as a range":            {get(search(ada) + "&birthdate=ge1970-02-03"), 400, "value"},
		"unknown parameter, strict":        {get(search(ada)+"&name=Smith", "Prefer: handling=strict"), 400, "not-supported"},
		"unknown parameter, strict later":  {get(search(ada)+"&name=Smith", "Prefer: respond-async, handling=strict"), 400, "not-supported"},
		"query not escaped":                {get(search(ada) + "&a=%zz"), 400, "invalid"},
		"query with a semicolon":           {get(search(ada) + ";b=c"), 400, "invalid"},
		"query too long":                   {get(search(ada) + "&a=" + strings.Repeat("x", maxQueryBytes)), 400, "too-long"},
		"too many parameters":              {get(search(ada) + manyParameters(65)), 400, "too-long"},
		"start no date":                    {get(all + "?start=yesterday"), 400, "value"},
		"start an instant":                 {get(all + "?start=2020-01-01T00:00:00Z"), 400, "value"},
		"30 February":                      {get(all + "?end=2020-02-30"), 400, "value"},
		"end before start":                 {get(all + "?start=2020&end=2019"), 400, "value"},
		"two starts":                       {get(all + "?start=2020&start=2021"), 400, "invalid"},
		"_since without zone":              {get(all + "?_since=2020-01-01T00:00:00"), 400, "value"},
		"_since a day":                     {get(all + "?_since=2020-01-01"), 400, "value"},
		"_since without seconds":           {get(all + "?_since=2020-01-01T00:00Z"), 400, "value"},
		"_since with hour 24":              {get(all + "?_since=2020-01-01T24:00:00Z"), 400, "value"},
		"_since with an unescaped plus":    {get(all + "?_since=2020-01-01T00:00:00+01:00"), 400, "value"},
		"_type unknown":                    {get(all + "?_type=Observation,Smoke"), 400, "code-invalid"},
		"_type of the model only":          {get(all + "?_type=DomainResource"), 400, "code-invalid"},
		"_type with blanks":                {get(all + "?_type=Observation,%20Condition"), 400, "code-invalid"},
		"_count no number":                 {get(all + "?_count=many"), 400, "value"},
		"_count negative":                  {get(all + "?_count=-1"), 400, "value"},
		"_count of nothing":                {get(search(ada) + "&_count=0"), 400, "not-supported"},
		"_count of nothing, everything":    {get(all + "?_count=000"), 400, "not-supported"},
		"_count of nothing in a body":      {post(op, jsonType, parameters(identifierParameter(ada), `{"name":"_count","valueInteger":0}`)), 400, "not-supported"},
		"_pretty neither":                  {get(all + "?_pretty=maybe"), 400, "value"},
		"no purpose":                       {get(all, "-X-Purpose-Of-Use"), 400, "required"},
		"unknown purpose":                  {get(all, "X-Purpose-Of-Use: HRESCH"), 400, "value"},
		"purpose in lower case":            {get(all, "X-Purpose-Of-Use: treat"), 400, "value"},
		"purpose twice":                    {get(all, "+X-Purpose-Of-Use: TREAT"), 400, "invalid"},
		"unknown permission":               {get(all, "X-Permission-To-View: surely"), 400, "value"},
		"permission twice":                 {get(all, "+X-Permission-To-View: asked-no"), 400, "invalid"},
		"permission without its day":       {get(all, "X-Permission-To-View: asked-earlier"), 400, "value"},
		"unknown relationship":             {get(all, "X-Care-Relationship: friend"), 400, "value"},
		"reason too long":                  {get(all, "X-Purpose-Of-Use: BTG", "X-Break-Glass-Reason: "+strings.Repeat("x", 501)), 400, "value"},
		"reason not UTF-8":                 {get(all, "X-Purpose-Of-Use: BTG", "X-Break-Glass-Reason: \xff\xfe and more"), 400, "value"},
		"reason without breaking glass":    {get(all, "X-Break-Glass-Reason: just looking"), 400, "invalid"},
		"two tokens":                       {get(all, "+Authorization: Bearer x"), 400, "invalid"},
		"XML":                              {get(all, "Accept: application/fhir+xml"), 406, "not-supported"},
		"JSON not wanted":                  {get(all, "Accept: application/fhir+json;q=0, text/html"), 406, "not-supported"},
		"another FHIR":                     {get(all, "Accept: application/fhir+json; fhirVersion=3.0"), 406, "not-supported"},
		"_format XML":                      {get(all + "?_format=xml"), 406, "not-supported"},
		"_format XML in a body":            {post("/fhir/Patient/_search", formType, "_format=xml"), 406, "not-supported"},
		"body of another type":             {post(op, "text/xml", "<x/>"), 415, "not-supported"},
		"body without type":                {post(op, "", "{}"), 415, "not-supported"},
		"body in another charset":          {post(op, jsonType+"; charset=latin1", parameters()), 415, "not-supported"},
		"body compressed":                  {post(op, jsonType, parameters(), "Content-Encoding: gzip"), 415, "not-supported"},
		"search with JSON":                 {post("/fhir/Patient/_search", jsonType, parameters(identifierParameter(ada))), 415, "not-supported"},
		"operation with a form":            {post(op, formType, "identifier=x"), 415, "not-supported"},
		"body too long":                    {post(op, jsonType, parameters(identifierParameter(ada))+strings.Repeat(" ", maxBodyBytes)), 413, "too-long"},
		"form too long":                    {post("/fhir/Patient/_search", formType, strings.Repeat("a", maxBodyBytes+1)), 413, "too-long"},
		"form not escaped":                 {post("/fhir/Patient/_search", formType, "identifier=%zz"), 400, "structure"},
		"broken JSON":                      {post(op, jsonType, `{"resourceType":"Parameters"`), 400, "structure"},
		"JSON twice":                       {post(op, jsonType, parameters(identifierParameter(ada))+"{}"), 400, "structure"},
		"JSON not UTF-8":                   {post(op, jsonType, parameters("\"\xff\"")), 400, "structure"},
		"JSON with a name twice":           {post(op, jsonType, `{"resourceType":"Parameters","resourceType":"Parameters","parameter":[`+identifierParameter(ada)+`]}`), 400, "structure"},
		"JSON with a name twice but case":  {post(op, jsonType, parameters(`{"name":"identifier","NAME":"x","valueString":"y"}`)), 400, "structure"},
		"JSON too deep":                    {post(op, jsonType, parameters(strings.Repeat(`{"part":[`, 20)+strings.Repeat(`]}`, 20))), 400, "structure"},
		"another resource":                 {post(op, jsonType, `{"resourceType":"Patient"}`), 400, "structure"},
		"not an object":                    {post(op, jsonType, `[]`), 400, "structure"},
		"null":                             {post(op, jsonType, `null`), 400, "structure"},
		"parameter not a list":             {post(op, jsonType, `{"resourceType":"Parameters","parameter":{}}`), 400, "structure"},
		"parameter without name":           {post(op, jsonType, parameters(`{"valueString":"x"}`)), 400, "structure"},
		"parameter a string":               {post(op, jsonType, parameters(`"identifier"`)), 400, "structure"},
		"parameter with two values":        {post(op, jsonType, parameters(`{"name":"start","valueDate":"2020","valueString":"2021"}`)), 400, "value"},
		"parameter without value":          {post(op, jsonType, parameters(`{"name":"start"}`)), 400, "value"},
		"parameter of another type":        {post(op, jsonType, parameters(`{"name":"start","valueBoolean":7}`)), 400, "value"},
		"identifier without value":         {post(op, jsonType, parameters(`{"name":"identifier","valueIdentifier":{"system":"x"}}`)), 400, "value"},
		"two identifiers":                  {post(op, jsonType, parameters(identifierParameter(ada), identifierParameter(bob))), 400, "invalid"},
		"start in body and address":        {post(op+"?start=2019", jsonType, parameters(identifierParameter(ada), `{"name":"start","valueDate":"2020"}`)), 400, "invalid"},
		"identifier in the address":        {get(op + "?identifier=" + url.QueryEscape(record.NHSNumberSystem+"|"+ada)), 400, "invalid"},
		"everybody":                        {get(op), 400, "required"},
		"everybody by POST":                {post(op, jsonType, parameters()), 400, "required"},
		"identifier of another than named": {post(everything(t, bob), jsonType, parameters(identifierParameter(ada))), 400, "invalid"},
		"the token names another person": {func(k *kit) *http.Request {
			return k.ask("GET", all, "", "Authorization: Bearer "+k.token("ed-doctor", map[string]any{"nhs_number": bob}))
		}, 400, "invalid"},
		"the token states another purpose": {func(k *kit) *http.Request {
			return k.ask("GET", all, "", "Authorization: Bearer "+k.token("ed-doctor", map[string]any{"purpose_of_use": "ETREAT"}))
		}, 400, "invalid"},
		"the token states another permission": {func(k *kit) *http.Request {
			return k.ask("GET", all, "", "Authorization: Bearer "+k.token("ed-doctor", map[string]any{"permission_to_view": "asked-no"}))
		}, 400, "invalid"},
		"staff with an acting person": {get(all, "X-Acting-Person: x.y.z"), 400, "invalid"},
		"NHS number as an id":         {get("/fhir/Patient/" + ada), 404, "not-found"},
		"NHS number in an operation":  {get("/fhir/Patient/" + ada + "/$everything"), 404, "not-found"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			resp := k.do(c.ask(k))
			wantProblem(t, resp, c.status, c.code)
			if len(k.broker.asked) != 0 {
				t.Error("the broker was asked")
			}
			// A caller who is known gets an entry for every attempt (L-6), and its receipt.
			if recorded := k.broker.unread.Load() == 1; recorded != (resp.Header.Get("X-Access-Receipt") != "") {
				t.Errorf("recorded: %t, a receipt: %t", recorded, !recorded)
			} else if recorded {
				onRecord++
			}
			if resp.Header.Get("X-Request-Id") != "req-1" {
				t.Errorf("got request id %q", resp.Header.Get("X-Request-Id"))
			}
		})
	}
}

func manyParameters(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&p%d=1", i)
	}
	return b.String()
}

func TestRefusalsRepeatNothing(t *testing.T) {
	const marker = "zzMARKERzz"
	k := newKit(t)
	for _, resp := range []*http.Response{
		k.get("/fhir/Patient?identifier=" + record.NHSNumberSystem + "|" + marker),
		k.get("/fhir/Patient/" + marker),
		k.get("/fhir/" + marker + "/" + marker),
		k.get("/fhir/Patient/" + handleOf(t, ada) + "/$" + marker),
		k.get(everything(t, ada) + "?start=" + marker),
		k.get(everything(t, ada) + "?_type=" + marker),
		k.get(everything(t, ada), "X-Purpose-Of-Use: "+marker),
		k.get(everything(t, ada), "X-Permission-To-View: "+marker),
		k.get(everything(t, ada), "Authorization: Bearer "+marker),
		k.get(everything(t, ada), "Accept: "+marker),
		k.post("/fhir/Patient/$everything", marker, "x"),
		k.post("/fhir/Patient/$everything", jsonType, marker),
		k.do(k.ask(marker, "/fhir/Patient", "")),
	} {
		text := bodyOf(t, resp)
		if resp.StatusCode < 400 || strings.Contains(strings.ToLower(text+fmt.Sprint(resp.Header)), strings.ToLower(marker)) {
			t.Errorf("status %d repeats what was sent", resp.StatusCode)
		}
	}
}

// TestAnIDOfNobody: an _id that is no handle of ours matches nobody, also for those who would otherwise mean themselves, or whom their token names.
func TestAnIDOfNobody(t *testing.T) {
	for name, ask := range map[string]func(k *kit) *http.Response{
		"GET":                  func(k *kit) *http.Response { return k.get("/fhir/Patient?_id=gp-1") },
		"POST":                 func(k *kit) *http.Response { return k.post("/fhir/Patient/_search", formType, "_id=gp-1") },
		"beside an identifier": func(k *kit) *http.Response { return k.get(search(ada) + "&_id=gp-1") },
		"by the person": func(k *kit) *http.Response {
			return k.get("/fhir/Patient?_id=gp-1", "Authorization: Bearer "+k.token("patient", nil), "X-Purpose-Of-Use: PATRQT", "X-Permission-To-View: patient-self")
		},
		"with a token that names somebody": func(k *kit) *http.Response {
			return k.get("/fhir/Patient?_id=gp-1", "Authorization: Bearer "+k.token("ed-doctor", map[string]any{"nhs_number": ada}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			resp := ask(k)
			r := read(t, resp)
			if resp.StatusCode != 200 || r.Type != "searchset" || *r.Total != 0 || len(r.Entry) != 1 || r.Entry[0].Search.Mode != "outcome" || r.Entry[0].Resource.Issue[0].Code != "not-found" {
				t.Fatalf("got %d with %d entries, want no match", resp.StatusCode, len(r.Entry))
			}
			if r.Link[0].URL != base+"/Patient?_id=gp-1" {
				t.Errorf("got self link %s", r.Link[0].URL)
			}
			if len(k.broker.asked) != 0 || k.broker.unread.Load() != 1 {
				t.Errorf("asked %d times, on record %d times; want 0 and 1", len(k.broker.asked), k.broker.unread.Load())
			}
		})
	}
	k := newKit(t)
	k.get("/fhir/Patient?_id=gp-1", "Authorization: Bearer "+k.token("engine", nil))
	if k.last().TokenProblem != consent.ReasonNoActingPerson || k.broker.unread.Load() != 0 {
		t.Error("a system that names nobody is not refused as such")
	}
}

func TestIgnoredParametersAreNamed(t *testing.T) {
	k := newKit(t)
	r := read(t, k.get(everything(t, ada)+"?_count=5&category=laboratory&_sort=-date&9990000018=x&%3Cscript%3E=1&_elements="))
	if *r.Total != 2 || len(r.Entry) != 4 || r.Entry[0].Search.Mode != "outcome" {
		t.Fatalf("got total %d, %d entries", *r.Total, len(r.Entry))
	}
	texts := ""
	for _, i := range r.Entry[0].Resource.Issue {
		texts += i.Severity + " " + i.Code + " " + i.Details.Text + "\n"
	}
	for _, want := range []string{"not-supported The parameter category is", "The parameter _sort is", "The parameter (a name that is not shown) is",
		"information informational Paging is not supported yet", "The parameter _elements is"} {
		if !strings.Contains(texts, want) {
			t.Errorf("no issue says %q", want)
		}
	}
	if strings.Contains(texts, "script") || record.HoldsNHSNumber(texts) {
		t.Error("an odd name is repeated")
	}
	if got := r.Link[0].URL; strings.Contains(got, "?") {
		t.Errorf("self link %s holds parameters that were not used", got)
	}
	for _, quiet := range []string{"?_format=json&_pretty=false", "?start=&end=&_since=&_type=", ""} {
		if r := read(t, k.get(everything(t, ada)+quiet)); len(r.Entry) != 3 {
			t.Errorf("%s: got %d entries, want 3", quiet, len(r.Entry))
		}
	}
	if r := read(t, k.get(search(ada)+"&gender=female")); len(r.Entry) != 4 {
		t.Errorf("search: got %d entries, want 4", len(r.Entry))
	}
	r = read(t, k.post("/fhir/Patient/$everything", jsonType, parameters(identifierParameter(ada), `{"name":"depth","valueInteger":3}`, `{"name":"odd","part":[]}`)))
	if len(r.Entry) != 4 || len(r.Entry[0].Resource.Issue) != 1 && len(r.Entry[0].Resource.Issue) != 2 {
		t.Errorf("parameters: got %d entries", len(r.Entry))
	}
}

// TestTheTable holds design section 3, "Answers to a whole request", line by line.
func TestTheTable(t *testing.T) {
	receipt := audit.Receipt{Origin: "ledger.example", Position: 7}
	nothing := &broker.Result{Answer: merge.Assemble(merge.Request{Base: base, CodeBase: codeBase}, nil, statuses(record.Withheld, record.NoRecord)), Receipt: receipt, Nothing: true}
	for name, c := range map[string]struct {
		result                   *broker.Result
		refusal                  *broker.Refusal
		everything, search, read int
		code                     string // of the first issue, where it is a refusal
		retry                    string
		custodians               int // issues about custodians, or entries
		receipt                  bool
	}{
		"something":            {result: wholeAnswer(), everything: 200, search: 200, read: 200, receipt: true},
		"nothing but withheld": {result: nothing, everything: 200, search: 200, read: 403, code: "suppressed", custodians: 2, receipt: true},
		"objection": {refusal: &broker.Refusal{Kind: broker.Suppressed, Reason: consent.ReasonObjection, Rule: "C-2.7", Statuses: statuses(record.Withheld, record.Withheld), Receipt: receipt},
			everything: 403, search: 403, read: 403, code: "suppressed", custodians: 2, receipt: true},
		"permission": {refusal: &broker.Refusal{Kind: broker.Forbidden, Reason: consent.ReasonPermission, Rule: "C-2.8", Receipt: receipt}, everything: 403, search: 403, read: 403, code: "forbidden", receipt: true},
		"trouble": {refusal: &broker.Refusal{Kind: broker.Transient, Reason: consent.ReasonTrouble, Statuses: statuses(record.TimedOut, record.Unavailable), RetryAfter: 1500 * time.Millisecond, Receipt: receipt},
			everything: 503, search: 503, read: 503, code: "transient", retry: "2", custodians: 2, receipt: true},
		"ledger":  {refusal: &broker.Refusal{Kind: broker.Transient}, everything: 503, search: 503, read: 503, code: "transient", retry: "5"},
		"no room": {refusal: &broker.Refusal{Kind: broker.Overloaded, RetryAfter: time.Second}, everything: 503, search: 503, read: 503, code: "transient", retry: "1"},
		"no time": {refusal: &broker.Refusal{Kind: broker.OutOfTime}, everything: 503, search: 503, read: 503, code: "timeout", retry: "5"},
		"neutral": {refusal: &broker.Refusal{Kind: broker.NotFound, Receipt: receipt}, everything: 404, search: 200, read: 404, code: "not-found"},
		"neutral, with custodians in trouble": {refusal: &broker.Refusal{Kind: broker.NotFound, Statuses: statuses(record.Unavailable), Receipt: receipt},
			everything: 404, search: 200, read: 404, code: "not-found", custodians: 1},
		"a field":             {refusal: &broker.Refusal{Kind: broker.Invalid, Field: "nhs number: not one for testing", Receipt: receipt}, everything: 400, search: 400, read: 400, code: "value", receipt: true},
		"a kind that is none": {refusal: &broker.Refusal{Kind: "new"}, everything: 500, search: 500, read: 500, code: "exception"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.broker.answer = func(broker.Request) (*broker.Result, error) {
				if c.refusal != nil {
					return nil, c.refusal
				}
				return c.result, nil
			}
			for target, status := range map[string]int{everything(t, ada): c.everything, search(ada): c.search, "/fhir/Patient/" + handleOf(t, ada): c.read} {
				resp := k.get(target)
				r := read(t, resp)
				if resp.StatusCode != status {
					t.Fatalf("%s: got %d, want %d", target, resp.StatusCode, status)
				}
				if got := resp.Header.Get("Retry-After"); got != c.retry {
					t.Errorf("%s: got Retry-After %q, want %q", target, got, c.retry)
				}
				if got := resp.Header.Get("X-Access-Receipt") != ""; got != c.receipt {
					t.Errorf("%s: receipt there: %v, want %v", target, got, c.receipt)
				}
				if status == 200 {
					if c.refusal != nil && (*r.Total != 0 || len(r.Entry) != c.custodians) {
						t.Errorf("%s: got total %d with %d entries, want none with %d", target, *r.Total, len(r.Entry), c.custodians)
					}
					continue
				}
				if r.Issue[0].Code != c.code || len(r.Issue) != 1+c.custodians {
					t.Errorf("%s: got %s and %d issues, want %s and %d", target, r.Issue[0].Code, len(r.Issue), c.code, 1+c.custodians)
				}
				for _, i := range r.Issue[1:] {
					if len(i.Details.Coding) != 1 || i.Details.Coding[0].System != codeBase+record.SourceStatusSystemPath || !strings.Contains(i.Details.Text, "X9") {
						t.Errorf("%s: got %v for a custodian", target, i.Details)
					}
				}
			}
		})
	}
	t.Run("the rule and the reason are named", func(t *testing.T) {
		k := newKit(t)
		k.broker.answer = func(broker.Request) (*broker.Result, error) {
			return nil, &broker.Refusal{Kind: broker.Forbidden, Reason: consent.ReasonPermission, Rule: "C-2.8"}
		}
		r := wantProblem(t, k.get(everything(t, ada)), 403, "forbidden")
		if i := r.Issue[0]; i.Diagnostics != "rule C-2.8" || len(i.Details.Coding) != 1 || i.Details.Coding[0] != (coding{codeBase + "/CodeSystem/reason", "permission"}) ||
			!strings.Contains(i.Details.Text, "X-Permission-To-View") {
			t.Errorf("got %+v", i)
		}
	})
	t.Run("the person's choice and its date are named", func(t *testing.T) {
		k := newKit(t)
		k.broker.answer = func(broker.Request) (*broker.Result, error) {
			status := statuses(record.Withheld)
			status[0].Explanation, status[0].Rule, status[0].Preference = "Not shown, in words.", "C-2.7", 4
			return nil, &broker.Refusal{Kind: broker.Suppressed, Reason: consent.ReasonObjection, Rule: "C-2.7", Statuses: status,
				Explanation: consent.Explanation{Rule: "C-2.7", Reason: consent.ReasonObjection, Preference: 4, Text: "Not shown, in words."}}
		}
		r := wantProblem(t, k.get(everything(t, ada)), 403, "suppressed")
		if i := r.Issue[0]; i.Diagnostics != "rule C-2.7; preference at 4" || i.Details.Text != "Not shown, in words." {
			t.Errorf("got %+v", i)
		}
		if i := r.Issue[1]; !strings.Contains(i.Details.Text, " is not shown in this view. Not shown, in words.") || !strings.HasSuffix(i.Diagnostics, "rule C-2.7; preference at 4") {
			t.Errorf("of the custodian: got %+v", i)
		}
	})
	t.Run("an error that is no refusal", func(t *testing.T) {
		k := newKit(t)
		k.broker.answer = func(broker.Request) (*broker.Result, error) { return nil, fmt.Errorf("secret detail") }
		resp := k.get(everything(t, ada))
		if text := bodyOf(t, resp); resp.StatusCode != 500 || strings.Contains(text, "secret") {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

// TestNeutralAnswersAreTheSame: the transport sees one kind of refusal for all six classes; whatever else a refusal might carry by mistake
// does not get through.
func TestNeutralAnswersAreTheSame(t *testing.T) {
	for _, target := range []string{everything(t, ada), search(ada), "/fhir/Patient/" + handleOf(t, ada), search(ada) + "&name=x&_count=3"} {
		synctest.Test(t, func(t *testing.T) { // one instant for all
			seen := map[string]bool{}
			for i, reason := range []consent.Reason{consent.ReasonUnknown, consent.ReasonSuperseded, consent.ReasonInvalidated, consent.ReasonRestricted,
				consent.ReasonDeceased, consent.ReasonNobody, consent.ReasonMismatch, ""} {
				k := newKit(t)
				k.broker.answer = func(broker.Request) (*broker.Result, error) {
					return nil, &broker.Refusal{Kind: broker.NotFound, Reason: reason, Rule: "C-2.3", Statuses: statuses(record.Unavailable), RetryAfter: 0,
						Explanation: consent.Explanation{Rule: "C-2.3", Reason: reason, Preference: 9, Text: "Of " + string(reason)},
						Receipt:     audit.Receipt{Origin: "o", Position: uint64(i) * 1000}}
				}
				resp := k.get(target)
				seen[bodyOf(t, resp)+headerText(resp.Header)] = true
			}
			if len(seen) != 1 {
				t.Errorf("%d different answers, want 1", len(seen))
			}
			for text := range seen {
				if strings.Contains(text, "C-2.3") || record.HoldsNHSNumber(text) {
					t.Error("the answer holds the rule, or the number")
				}
			}
		})
	}
}

func headerText(h http.Header) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintf(&b, "%s=%v\n", name, h[name])
	}
	return b.String()
}

func TestTokens(t *testing.T) {
	k := newKit(t)
	for name, c := range map[string]struct {
		header    string
		status    int
		code      string
		challenge string
	}{
		"none":    {"-Authorization", 401, "login", `Bearer realm="mycarerecord"`},
		"bad":     {"Authorization: Bearer a.b.c", 401, "login", `Bearer realm="mycarerecord", error="invalid_token"`},
		"basic":   {"Authorization: Basic dTpw", 401, "login", `Bearer realm="mycarerecord", error="invalid_token"`},
		"expired": {"Authorization: Bearer " + k.token("ed-doctor", map[string]any{"iat": 1000, "exp": 1200}), 401, "expired", `Bearer realm="mycarerecord", error="invalid_token"`},
		"two":     {"+Authorization: Bearer " + k.token("patient", nil), 400, "invalid", ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(k.counts.unauthenticated)
			resp := k.get(everything(t, ada), c.header)
			wantProblem(t, resp, c.status, c.code)
			if got := resp.Header.Get("WWW-Authenticate"); got != c.challenge {
				t.Errorf("got challenge %q, want %q", got, c.challenge)
			}
			if len(k.counts.unauthenticated) != before+1 || k.counts.unauthenticated[before].String() != "192.0.2.1" {
				t.Errorf("got counted %v", k.counts.unauthenticated[before:])
			}
		})
	}
	if len(k.broker.asked) != 0 {
		t.Error("the broker was asked")
	}
	t.Run("keys cannot be had", func(t *testing.T) {
		k := newKit(t, func(_ *Config, keys *fixedKeys) { *keys = nil })
		resp := k.get(everything(t, ada))
		wantProblem(t, resp, 503, "transient")
		if resp.Header.Get("Retry-After") != "5" || len(k.counts.unauthenticated) != 0 {
			t.Errorf("got Retry-After %q, counted %d", resp.Header.Get("Retry-After"), len(k.counts.unauthenticated))
		}
	})
}

func TestEngines(t *testing.T) {
	k := newKit(t)
	k.broker.answer = func(req broker.Request) (*broker.Result, error) {
		if req.TokenProblem != "" {
			return nil, &broker.Refusal{Kind: broker.Forbidden, Reason: req.TokenProblem, Receipt: audit.Receipt{Origin: "o", Position: 3}}
		}
		return wholeAnswer(), nil
	}
	token := "Authorization: Bearer " + k.token("engine", nil)
	for _, more := range []string{"-X-Acting-Person", "X-Acting-Person: forged.forged.forged"} {
		resp := k.get(everything(t, ada), token, more)
		r := wantProblem(t, resp, 403, "forbidden")
		if got := k.last(); got.TokenProblem != consent.ReasonNoActingPerson || got.Requester.Kind != record.System || got.Requester.Organisation != "" {
			t.Errorf("got problem %q, kind %q", got.TokenProblem, got.Requester.Kind)
		}
		if resp.Header.Get("X-Access-Receipt") == "" || !strings.Contains(r.Issue[0].Details.Text, "X-Acting-Person") {
			t.Errorf("got receipt %q, text %q", resp.Header.Get("X-Access-Receipt"), r.Issue[0].Details.Text)
		}
	}
	now := time.Now()
	acting := k.sign(k.engine, "e1", map[string]any{"iss": "demo-engine", "sub": "555000000102", "role_profile_id": "555000010102", "job_role": "R8000", "org_code": "X9B01",
		"aud": audience, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "a1"})
	if resp := k.get(everything(t, ada), token, "X-Acting-Person: "+acting); resp.StatusCode != 200 {
		t.Errorf("named: got %d", resp.StatusCode)
	}
	if got := k.last(); got.TokenProblem != "" || got.Requester.User != "555000000102" || got.Requester.Organisation != "X9B01" || got.Requester.Client != "demo-engine" {
		t.Errorf("named: got problem %q, user %q, organisation %q, client %q", got.TokenProblem, got.Requester.User, got.Requester.Organisation, got.Requester.Client)
	}
	if resp := k.get(everything(t, ada), token, "X-Acting-Person: "+acting); resp.StatusCode != 403 {
		t.Errorf("named by what was used before: got %d", resp.StatusCode)
	}
}

func TestLimits(t *testing.T) {
	k := newKit(t, func(c *Config, _ *fixedKeys) { c.Limiter = authn.NewLimiter(authn.Limits{PerSecond: 0.001, Burst: 2}) })
	for range 2 {
		if resp := k.get(everything(t, ada)); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	resp := k.get(everything(t, ada))
	wantProblem(t, resp, 429, "throttled")
	if resp.Header.Get("Retry-After") == "" || len(k.counts.limited) != 1 || k.counts.limited[0].User != "555000000102" || len(k.broker.asked) != 2 {
		t.Errorf("got Retry-After %q, counted %d, asked %d", resp.Header.Get("Retry-After"), len(k.counts.limited), len(k.broker.asked))
	}
	if resp := k.get("/fhir/Patient/$everything", "Authorization: Bearer "+k.token("patient", nil), "X-Purpose-Of-Use: PATRQT"); resp.StatusCode != 200 {
		t.Errorf("another caller: got %d", resp.StatusCode)
	}
	if resp := k.get("/fhir/metadata", "-Authorization"); resp.StatusCode != 200 {
		t.Errorf("metadata: got %d", resp.StatusCode)
	}
}

func TestRequestID(t *testing.T) {
	k := newKit(t)
	const uuid = "0f8fad5b-d9cb-469f-a165-ab9990000018" // ends in ten digits that look like an NHS number
	for given, kept := range map[string]bool{"req-1": true, uuid: true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "": false, "a b": false, "a/b": false,
		"<script>": false, ada: false, "x" + ada: false, "999-000-0018": false, "x.999.000.0018": false, "999-0000018": false, "x-99900-00018": false, "9990-000-018.1": false, "999-000-0019": true, "1999-000-0018": true, "ä": false, "a\x00": false} {
		r := k.ask("GET", "/fhir/metadata", "")
		r.Header["X-Request-Id"] = []string{given}
		got := k.do(r).Header.Get("X-Request-Id")
		if (got == given) != kept || !kept && !isUUID(got) {
			t.Errorf("%q: got %q, want it kept: %v", given, got, kept)
		}
	}
	r := k.ask("GET", "/fhir/metadata", "", "+X-Request-ID: second")
	if got := k.do(r).Header.Get("X-Request-Id"); !isUUID(got) {
		t.Errorf("two: got %q, want a new one", got)
	}
}

func TestAcceptedFormats(t *testing.T) {
	k := newKit(t)
	for _, accept := range []string{"", "*/*", "application/*", "application/json", "application/fhir+json; fhirVersion=4.0", "text/html, */*;q=0.1", "application/fhir+xml;q=0.9, application/fhir+json;q=0.1"} {
		if resp := k.get("/fhir/metadata", "Accept: "+accept); resp.StatusCode != 200 {
			t.Errorf("%q: got %d", accept, resp.StatusCode)
		}
	}
	for _, format := range []string{"json", "application/json", "application/fhir%2Bjson", "application/fhir+json", ""} {
		if resp := k.get("/fhir/metadata?_format="+format, "Accept: text/html"); resp.StatusCode != 200 {
			t.Errorf("_format=%s: got %d", format, resp.StatusCode)
		}
	}
	plain, pretty := bodyOf(t, k.get("/fhir/metadata")), bodyOf(t, k.get("/fhir/metadata?_pretty=true"))
	if strings.Contains(plain, "\n") || !strings.Contains(pretty, "\n  ") {
		t.Error("_pretty makes no difference")
	}
	read(t, k.get(everything(t, ada)+"?_pretty=true"))
	if !k.last().Meta.Pretty {
		t.Error("_pretty did not reach the Bundle")
	}
}

func TestCompression(t *testing.T) {
	k := newKit(t)
	big := wholeAnswer()
	big.Answer.Entries[1].JSON = []byte(`{"resourceType":"Observation","id":"gp-1","text":{"div":"` + strings.Repeat("long ", 10_000) + `"}}`)
	k.broker.answer = func(broker.Request) (*broker.Result, error) { return big, nil }
	plain := k.get(everything(t, ada), "Accept-Encoding: gzip;q=0")
	packed := k.get(everything(t, ada), "Accept-Encoding: br, gzip")
	want := bodyOf(t, plain)
	if got := plain.Header.Get("Content-Length"); got != fmt.Sprint(len(want)) || plain.Header.Get("Content-Encoding") != "" {
		t.Errorf("plain: got length %s of %d, encoding %q", got, len(want), plain.Header.Get("Content-Encoding"))
	}
	if packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("got encoding %q", packed.Header.Get("Content-Encoding"))
	}
	raw := []byte(bodyOf(t, packed))
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(z)
	if err != nil || len(raw) > len(got)/10 {
		t.Fatalf("got %d bytes for %d: %v", len(raw), len(got), err)
	}
	mask := func(s string) string { // the two requests arrived at two instants
		_, rest, _ := strings.Cut(s, `"type"`)
		return rest
	}
	if mask(string(got)) != mask(want) {
		t.Error("the packed answer is another")
	}
	if resp := k.get("/fhir/Patient/x", "Accept-Encoding: gzip"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("a short answer was packed")
	}
}

func TestHead(t *testing.T) {
	srv := httptest.NewServer(newKitHandler(t))
	defer srv.Close()
	for _, path := range []string{"/fhir/metadata", "/fhir/Patient/x", "/nothing"} {
		got, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal("no answer")
		}
		body := bodyOf(t, got)
		_ = got.Body.Close()
		head, err := http.Head(srv.URL + path)
		if err != nil {
			t.Fatal("no answer")
		}
		_ = head.Body.Close()
		if head.StatusCode != got.StatusCode || head.ContentLength != int64(len(body)) && got.Header.Get("Content-Encoding") == "" && head.Header.Get("Content-Encoding") == "" {
			t.Errorf("%s: HEAD got %d with length %d, GET %d with %d", path, head.StatusCode, head.ContentLength, got.StatusCode, len(body))
		}
	}
}

func newKitHandler(t *testing.T) http.Handler { return newKit(t).h }

func TestPanics(t *testing.T) {
	const marker = "zzMARKERzz"
	k := newKit(t)
	k.broker.answer = func(broker.Request) (*broker.Result, error) { panic(fmt.Errorf("%s", marker)) }
	resp := k.get(everything(t, ada))
	r := wantProblem(t, resp, 500, "exception")
	if strings.Contains(fmt.Sprint(r), marker) || strings.Contains(k.log.String(), marker) {
		t.Error("the panic's value got out")
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(k.log.String()), &line); err != nil || line["problem"] != "*fmt.wrapError" && line["problem"] != "*errors.errorString" || line["request"] != "req-1" {
		t.Errorf("got log %v", line)
	}
	t.Run("after the first byte the connection is cut", func(t *testing.T) {
		k := newKit(t)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { k.h.ServeHTTP(&panicWriter{ResponseWriter: w}, r) }))
		srv.Start()
		defer srv.Close()
		r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+everything(t, ada), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = k.ask("GET", everything(t, ada), "").Header
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Error("half an answer looked whole")
		}
	})
}

// panicWriter fails in the middle of a body, as a bug of ours would.
type panicWriter struct {
	http.ResponseWriter
}

func (w *panicWriter) Write(b []byte) (int, error) {
	_, _ = w.ResponseWriter.Write(b[:len(b)/2])
	panic("half way")
}

// TestHalfAnAnswerIsCutOff: a body that could not be written whole must not end like one that was, packed or not.
func TestHalfAnAnswerIsCutOff(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		k := newKit(t)
		k.broker.answer = func(broker.Request) (*broker.Result, error) {
			r := wholeAnswer()
			r.Answer.Entries[1].JSON = []byte(`{"resourceType":"Observation","note":"` + strings.Repeat("long ", 1000) + `"}`)
			return r, nil
		}
		cut := func() (v any) {
			defer func() { v = recover() }()
			k.h.ServeHTTP(&brokenWriter{ResponseWriter: httptest.NewRecorder()}, k.ask("GET", everything(t, ada), "", "Accept-Encoding: "+encoding))
			return nil
		}()
		if cut != http.ErrAbortHandler {
			t.Errorf("%s: got %v, want the connection cut", encoding, cut)
		}
	}
}

// brokenWriter takes a few bytes and then no more, as a caller who leaves.
type brokenWriter struct {
	http.ResponseWriter
	taken int
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.taken += len(b); w.taken > 100 {
		return 0, io.ErrClosedPipe
	}
	return w.ResponseWriter.Write(b)
}

func TestACallerWhoLeftGetsNothing(t *testing.T) {
	k := newKit(t)
	ctx, cancel := context.WithCancel(t.Context())
	k.broker.answer = func(broker.Request) (*broker.Result, error) {
		cancel()
		return nil, &broker.Refusal{Kind: broker.Gone}
	}
	w := httptest.NewRecorder()
	defer func() {
		if recover() != http.ErrAbortHandler || w.Body.Len() != 0 {
			t.Error("want the connection cut and nothing written")
		}
	}()
	k.h.ServeHTTP(w, k.ask("GET", everything(t, ada), "").WithContext(ctx))
}

func TestReadOfAnIncompleteAnswer(t *testing.T) {
	k := newKit(t)
	k.broker.answer = func(broker.Request) (*broker.Result, error) {
		r := wholeAnswer()
		r.Answer.Statuses = statuses(record.Returned, record.TimedOut)
		return r, nil
	}
	if got := k.get("/fhir/Patient/" + handleOf(t, ada)).Header.Get("X-Answer-Complete"); got != "false" {
		t.Errorf("got complete %q, want false", got)
	}
}

func FuzzReadParameters(f *testing.F) {
	f.Add([]byte(parameters(identifierParameter(ada))))
	f.Add([]byte(parameters(`{"name":"start","valueDate":"2020"}`, `{"name":"x","part":[{"name":"y"}]}`)))
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":7}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fields, p := readParameters(raw)
		if (fields == nil) == (p == nil) {
			t.Error("neither fields nor a problem, or both")
		}
		if p != nil && p.status != 400 {
			t.Errorf("got %d, want 400", p.status)
		}
	})
}

func FuzzPaths(f *testing.F) {
	for _, s := range []string{"/fhir", "/fhir/Patient/x/$everything", "/fhir//Patient", "/fhir/Patient/..%2f", "/fhir/Patient/..", "/fhir/./metadata", "/fhir/%2e%2e/x", "/fhir/Patient;a/b", "/fhirx/Patient", "/fhir/%24"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		segments, ok := split(path)
		if !ok {
			return
		}
		for _, s := range segments {
			if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\\;% ") {
				t.Errorf("%q got through as %q", path, s)
			}
		}
		if to := match(segments); to.serve == nil || len(to.methods) == 0 {
			t.Errorf("%q has no route", path)
		}
	})
}
