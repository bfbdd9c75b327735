package documents_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// canary stands in everything of another person's: it may never be shown.
const canary = "CANARY-OF-ANOTHER-PERSON"

const other = "9990000018"

// about is a subject by number.
func about(n string) string {
	return `"subject":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + n + `"}}`
}

const under = `"custodian":{"identifier":{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"X9C01"}}`

const mineID = `"description":"mine"`

func pointerOf(n, id, more string) string {
	return `{"resourceType":"DocumentReference","id":"` + id + `","status":"current",` + about(n) + `,` + under + `,"date":"2024-01-01T00:00:00Z",` + more + `}`
}

func page(resources ...string) string {
	return `{"resourceType":"Bundle","type":"searchset","total":1,"entry":[{"resource":` + strings.Join(resources, `},{"resource":`) + `}]}`
}

// answering is a server that answers as told.
type answering struct {
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request)
	url    string
}

func newAnswering(t *testing.T) *answering {
	a := &answering{}
	a.url = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		f := a.answer
		a.mu.Unlock()
		f(w, r)
	}))
	return a
}

func (a *answering) say(f func(w http.ResponseWriter, r *http.Request)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

func fhir(body string) func(http.ResponseWriter, *http.Request) {
	return typed("application/fhir+json", body)
}

func typed(kind, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(body)) // the client left
	}
}

func status(code int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body)) // the client left
	}
}

// What no locator should send: either the whole answer is refused, with the right error, or nothing of another person is shown.
func TestHostileLocators(t *testing.T) {
	hosts := elsewhere(t)
	a := newAnswering(t)
	src := hostileSource(t, a.url, a.url)
	mine := pointerOf(held, "m", mineID)
	deep := strings.Repeat(`{"a":`, 80) + `1` + strings.Repeat(`}`, 80)
	issue := func(code string) string {
		return `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"x","details":{"coding":[{"code":"` + code + `"}]},"diagnostics":"` + canary + `"}]}`
	}
	said := func(list ...string) string {
		return `{"resourceType":"OperationOutcome","issue":[{"severity":` + strings.Join(list, `},{"severity":`) + `}]}`
	}
	none := func(list ...string) func(http.ResponseWriter, *http.Request) {
		return fhir(strings.Replace(page(said(list...)), `"total":1`, `"total":0`, 1))
	}
	instead := func(of, with string) func(http.ResponseWriter, *http.Request) {
		return fhir(strings.Replace(page(mine), of, with, 1))
	}
	const nobody = `"error","code":"not-found","details":{"coding":[{"code":"NO_RECORD_FOUND"}]}`
	for _, c := range []struct {
		name string
		say  func(http.ResponseWriter, *http.Request)
		want error // nil: a reply
		part bool  // that is not whole
	}{
		{"nothing", fhir(``), broker.ErrMalformed, false}, {"null", fhir(`null`), broker.ErrMalformed, false}, {"a list", fhir(`[]`), broker.ErrMalformed, false},
		{"a page of HTML", typed("text/html", "<html>"), broker.ErrMalformed, false}, {"XML", typed("application/fhir+xml", "<Bundle/>"), broker.ErrMalformed, false},
		{"no Bundle", fhir(mine), broker.ErrMalformed, false}, {"a transaction", fhir(strings.Replace(page(mine), "searchset", "transaction", 1)), broker.ErrMalformed, false},
		{"a byte order mark", fhir("\ufeff" + page(mine)), broker.ErrMalformed, false}, {"trailing data", fhir(page(mine) + "{}"), broker.ErrMalformed, false},
		{"a key twice", fhir(strings.Replace(page(mine), `"subject"`, `"subject":{},"subject"`, 1)), broker.ErrMalformed, false},
		{"keys of two cases", fhir(strings.Replace(page(mine), `"subject"`, `"Subject":{},"subject"`, 1)), broker.ErrMalformed, false},
		{"a lone surrogate", fhir(strings.Replace(page(mine), `mine`, `\ud800`, 1)), broker.ErrMalformed, false}, {"a zero byte", fhir(strings.Replace(page(mine), `mine`, "\x00", 1)), broker.ErrMalformed, false},
		{"deep", fhir(page(pointerOf(held, "m", `"x":`+deep))), broker.ErrTooMuch, false}, {"a number of 1,000 digits", fhir(page(pointerOf(held, "m", `"x":`+strings.Repeat("9", 1000)))), broker.ErrTooMuch, false},
		{"an entry that is null", fhir(`{"resourceType":"Bundle","type":"searchset","entry":[null]}`), broker.ErrMalformed, false},
		{"entries in an object", fhir(`{"resourceType":"Bundle","type":"searchset","entry":{"resource":` + mine + `}}`), broker.ErrMalformed, false},
		{"an id that is a number", fhir(page(strings.Replace(mine, `"m"`, `1`, 1))), broker.ErrMalformed, false},
		{"a type that was not asked for", fhir(page(mine, `{"resourceType":"Observation","id":"o","valueString":"`+canary+`"}`)), broker.ErrMalformed, false},
		{"a page elsewhere", fhir(strings.Replace(page(mine), `"total"`, `"link":[{"relation":"next","url":"`+hosts.url+`/x"}],"total"`, 1)), broker.ErrElsewhere, false},
		{"a page beside the base", fhir(strings.Replace(page(mine), `"total"`, `"link":[{"relation":"next","url":"/other"}],"total"`, 1)), broker.ErrElsewhere, false},
		{"a page with the number in its address", fhir(strings.Replace(page(mine), `"total"`, `"link":[{"relation":"next","url":"Patient/`+held+`"}],"total"`, 1)), broker.ErrMalformed, false},
		{"the same page again", fhir(strings.Replace(page(mine), `"total"`, `"meta":{"tag":[{"display":"next-page-token","code":"1"}]},"total"`, 1)), broker.ErrMalformed, false},
		{"a redirect", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", hosts.url)
			w.WriteHeader(307)
		}, broker.ErrElsewhere, false},
		{"404 without a code", status(404, `{}`), broker.ErrMalformed, false}, {"404 of nobody", status(404, issue("NO_RECORD_FOUND")), broker.ErrNoRecord, false},
		{"403 of consent", status(403, issue("NO_PATIENT_CONSENT")), broker.ErrWithheld, false}, {"403 of us", status(403, issue("ACCESS DENIED")), broker.ErrUnauthorised, false},
		{"401 that speaks of consent", status(401, issue("NO_PATIENT_CONSENT")), broker.ErrUnauthorised, false}, {"500 that speaks of nobody", status(500, issue("NO_RECORD_FOUND")), broker.ErrMalformed, false},
		{"503 that speaks of consent", status(503, issue("NO_PATIENT_CONSENT")), broker.ErrUnavailable, false}, {"400", status(400, issue("INVALID_NHS_NUMBER")), broker.ErrMalformed, false},
		{"a refusal with status 200", fhir(issue("NO_PATIENT_CONSENT")), broker.ErrWithheld, false}, {"an outcome that says nothing", fhir(issue("")), broker.ErrMalformed, false},
		{"a status that is none", status(299, `{}`), broker.ErrMalformed, false},

		{"fewer than it says", fhir(strings.Replace(page(mine), `"total":1`, `"total":5`, 1)), nil, true},
		{"none of those that it says", fhir(`{"resourceType":"Bundle","type":"searchset","total":2}`), broker.ErrMalformed, false},

		{"an error beside pointers", fhir(page(mine, issue(""))), nil, true}, {"a refusal beside pointers", fhir(page(mine, issue("NO_PATIENT_CONSENT"))), nil, true},
		{"nobody beside pointers", fhir(page(mine, issue("NO_RECORD_FOUND"))), nil, false},
		{"an error and none", fhir(strings.Replace(page(issue("")), `"total":1`, `"total":0`, 1)), broker.ErrMalformed, false},
		{"a warning and none", fhir(strings.Replace(strings.Replace(page(issue("")), `"total":1`, `"total":0`, 1), `"error"`, `"warning"`, 1)), broker.ErrNoRecord, false},
		{"nobody and none", fhir(strings.Replace(page(issue("NO_RECORD_FOUND")), `"total":1`, `"total":0`, 1)), broker.ErrNoRecord, false},
		{"nobody, an error and none", fhir(strings.Replace(page(issue("NO_RECORD_FOUND"), issue("")), `"total":1`, `"total":0`, 1)), broker.ErrMalformed, false},
		{"a refusal and none", fhir(strings.Replace(page(issue(""), issue("NO_PATIENT_CONSENT")), `"total":1`, `"total":0`, 1)), broker.ErrWithheld, false},
		{"suppressed and none", fhir(strings.Replace(strings.Replace(page(issue("")), `"total":1`, `"total":0`, 1), `"code":"x"`, `"code":"suppressed"`, 1)), broker.ErrWithheld, false},

		{"a warning that something was not searched, and none", none(`"warning","code":"incomplete"`), broker.ErrMalformed, false},
		{"word of a time that was over, and none", none(`"information","code":"timeout"`), broker.ErrMalformed, false},
		{"a warning of what costs too much, and none", none(`"warning","code":"too-costly"`), broker.ErrMalformed, false},
		{"nobody, but not looked for to the end, and none", none(`"error","code":"incomplete","details":{"coding":[{"code":"NO_RECORD_FOUND"}]}`), broker.ErrMalformed, false},
		{"404 of nobody, and a fatal error", status(404, said(nobody, `"fatal","code":"exception"`)), broker.ErrMalformed, false},
		{"404 of an error of no code, and nobody", status(404, said(`"error","code":"processing"`, nobody)), broker.ErrMalformed, false},
		{"404 of nobody, and a warning that something was not searched", status(404, said(nobody, `"warning","code":"incomplete"`)), broker.ErrMalformed, false},
		{"404 of nobody, and a warning", status(404, said(`"warning","code":"informational"`, nobody)), broker.ErrNoRecord, false},
		{"nobody and a fatal error with status 200", fhir(said(nobody, `"fatal","code":"exception"`)), broker.ErrMalformed, false},
		{"404 of nobody and of consent", status(404, said(nobody, `"error","code":"forbidden","details":{"coding":[{"code":"NO_PATIENT_CONSENT"}]}`)), broker.ErrWithheld, false},

		{"entries in other case", instead(`"total":1,"entry"`, `"Entry"`), broker.ErrMalformed, false},
		{"a resource in other case", instead(`"resource"`, `"Resource"`), broker.ErrMalformed, false},
		{"an entry without a resource", instead(`"entry":[`, `"entry":[{},`), broker.ErrMalformed, false},
		{"a total in other case", instead(`"total":1`, `"Total":9`), broker.ErrMalformed, false},
		{"links in other case", instead(`"total"`, `"Link":[{"relation":"next","url":"DocumentReference?page=2"}],"total"`), broker.ErrMalformed, false},
		{"links that are no list", instead(`"total"`, `"link":"DocumentReference?page=2","total"`), broker.ErrMalformed, false},
		{"a relation in other case", instead(`"total"`, `"link":[{"Relation":"next","url":"DocumentReference?page=2"}],"total"`), broker.ErrMalformed, false},
		{"a next page in another case", instead(`"total"`, `"link":[{"relation":"Next","url":"`+hosts.url+`/x"}],"total"`), broker.ErrElsewhere, false},
		{"a token that is a number", instead(`"total"`, `"meta":{"tag":[{"display":"next-page-token","code":1}]},"total"`), broker.ErrMalformed, false},
		{"a token that is not there", instead(`"total"`, `"meta":{"tag":[{"display":"next-page-token"}]},"total"`), broker.ErrMalformed, false},
		{"a token in other case", instead(`"total"`, `"meta":{"tag":[{"display":"next-page-token","Code":"1"}]},"total"`), broker.ErrMalformed, false},
		{"a token of a name in other case", instead(`"total"`, `"meta":{"tag":[{"Display":"next-page-token","code":"1"}]},"total"`), broker.ErrMalformed, false},
		{"tags in other case", instead(`"total"`, `"meta":{"Tag":[{"display":"next-page-token","code":"1"}]},"total"`), broker.ErrMalformed, false},
		{"what is said of the page in other case", instead(`"total"`, `"Meta":{"tag":[{"display":"next-page-token","code":"1"}]},"total"`), broker.ErrMalformed, false},
		{"tags that are no objects", instead(`"total"`, `"meta":{"tag":["next-page-token"]},"total"`), broker.ErrMalformed, false},
		{"a tag of something else", instead(`"total"`, `"meta":{"tag":[{"display":"other","code":"1"}]},"total"`), nil, false},
		{"the last page's token", instead(`"total"`, `"meta":{"tag":[{"display":"next-page-token","code":""}]},"total"`), nil, false},

		{"one of two, twice", fhir(strings.Replace(page(mine, mine), `"total":1`, `"total":2`, 1)), nil, true},
		{"two of two without ids", fhir(strings.Replace(page(strings.Replace(mine, `"id":"m",`, "", 1), strings.Replace(mine, `"id":"m",`, "", 1)), `"total":1`, `"total":2`, 1)), nil, false},
		{"one of two, and one that is sent along", fhir(strings.Replace(strings.Replace(page(pointerOf(held, "n", mineID), mine), `"total":1`, `"total":2`, 1), `"entry":[{`, `"entry":[{"search":{"mode":"include"},`, 1)), nil, true},

		{"somebody else's only", fhir(page(pointerOf(other, "x", `"description":"`+canary+`"`))), broker.ErrWrongSubject, false},
		{"nobody's", fhir(page(`{"resourceType":"DocumentReference","id":"x","description":"` + canary + `",` + under + `}`)), broker.ErrWrongSubject, false},
		{"somebody else's too", fhir(page(mine, pointerOf(other, "x", `"description":"`+canary+`"`))), nil, true},
		{"nobody's too", fhir(page(mine, `{"resourceType":"DocumentReference","id":"x","description":"`+canary+`",`+under+`}`)), nil, true},
		{"another custodian's", fhir(page(mine, strings.Replace(pointerOf(held, "x", `"description":"`+canary+`"`), "X9C01", "X9Z01", 1))), nil, true},
		{"no custodian's", fhir(page(mine, `{"resourceType":"DocumentReference","id":"x","description":"`+canary+`",`+about(held)+`}`)), nil, true},
		{"two subjects", fhir(page(mine, `{"resourceType":"DocumentReference","id":"x","description":"`+canary+`",`+under+`,"subject":[{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+held+`"}},{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}}]}`)), nil, true},
		{"the number in a subject of another", fhir(page(mine, strings.Replace(pointerOf(held, "x", `"description":"`+canary+`"`), `"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number"`, `"reference":"Patient/p2","identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number"`, 1), `{"resourceType":"Patient","id":"p2","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}]}`)), nil, true},
		{"another as source of the document", fhir(page(mine, pointerOf(held, "x", `"description":"`+canary+`","context":{"sourcePatientInfo":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}}}`))), nil, true},
		{"a Patient of another", fhir(page(mine, `{"resourceType":"Patient","id":"p2","name":[{"family":"`+canary+`"}],"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}]}`)), nil, true},
		{"a Patient contained", fhir(page(mine, pointerOf(held, "x", `"description":"`+canary+`","contained":[{"resourceType":"Patient","id":"c","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}]}]`))), nil, true},
		{"an address elsewhere", fhir(page(pointerOf(held, "m", mineID+`,"content":[{"attachment":{"url":"`+hosts.url+`/`+canary+`"}}]`))), nil, false},
		{"a script as an address", fhir(page(pointerOf(held, "m", mineID+`,"content":[{"attachment":{"url":"javascript:`+canary+`"}}]`))), nil, false},
		{"an address that is an object", fhir(page(pointerOf(held, "m", mineID+`,"content":[{"attachment":{"url":{"x":"`+canary+`"}}}]`))), nil, false},
		{"an address with something beside it", fhir(page(pointerOf(held, "m", mineID+`,"content":[{"attachment":{"url":"`+hosts.url+`/`+canary+`","_url":{"id":"u"}}}]`))), nil, false},
		{"our own address", fhir(page(pointerOf(held, "m", mineID+`,"content":[{"attachment":{"url":"https://broker.example/fhir/Binary/x?ctx=`+canary+`"}}]`))), nil, false},
		{"the number in an address", fhir(page(pointerOf(held, "m", mineID+`,"content":[{"attachment":{"contentType":"text/xml","url":"`+a.url+`/`+held+`/`+canary+`"}}]`))), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.say(c.say)
			reply, err := src.Fetch(t.Context(), query(t, held))
			if err != nil || c.want != nil {
				if !errors.Is(err, c.want) || c.want == nil || strings.Contains(err.Error(), canary) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				return
			}
			m := prepared(t, reply, src.Opens)
			shown := false
			for _, e := range m.Entries {
				if strings.Contains(string(e.JSON), canary) {
					t.Errorf("what may not be shown is, in a %s", e.Type)
				}
				shown = shown || strings.Contains(string(e.JSON), mineID)
			}
			if !shown || (m.Status.State == record.ReturnedInPart) != c.part || m.Counts.Sum() != m.Counts.Received {
				t.Errorf("mine is shown: %v; state %s, %+v", shown, m.Status.State, m.Counts)
			}
		})
	}
	if hosts.n != 0 {
		t.Errorf("%d requests to a host that is not configured", hosts.n)
	}
}

func hostileSource(t *testing.T, locator, holder string) *documents.Source {
	t.Helper()
	s := documents.Settings{Custodians: []string{"X9C01"}, HolderURL: holder, Read: 5}
	s.BaseURL, s.AllowPlainHTTP = locator+"/FHIR/R4", true
	src, err := documents.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

// What no holder should send: what may not be shown is neither laid out nor opened; what cannot be checked is opened as it is.
// Pointers on the pages before one that says that there are none stay, and are not all: the page before said that there are more.
func TestALaterPageThatSaysNobody(t *testing.T) {
	a := newAnswering(t)
	src := hostileSource(t, a.url, a.url)
	const nobody = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","details":{"coding":[{"code":"NO_RECORD_FOUND"}]}}]}`
	for name, more := range map[string]string{
		"a link":  `"link":[{"relation":"next","url":"DocumentReference?page=2"}],"entry"`,
		"a token": `"meta":{"tag":[{"display":"next-page-token","code":"2"}]},"entry"`,
	} {
		for _, answer := range []func(http.ResponseWriter, *http.Request){status(404, nobody), fhir(nobody)} {
			for first, want := range map[string]int{page(pointerOf(held, "m", mineID)): 1, `{"resourceType":"Bundle","type":"searchset","total":1,"entry":[]}`: 0} {
				asked := 0
				a.say(func(w http.ResponseWriter, r *http.Request) {
					if asked++; asked > 1 {
						answer(w, r)
						return
					}
					fhir(strings.Replace(first, `"total":1,"entry"`, more, 1))(w, r)
				})
				reply, err := src.Fetch(t.Context(), query(t, held))
				switch {
				case want == 0 && !errors.Is(err, broker.ErrMalformed), want > 0 && err != nil:
					t.Errorf("%s, %d pointers: got %v", name, want, err)
				case want > 0 && (len(reply.Entries) != 1+want || len(reply.Parts) != 1 || reply.Parts[0].Reason != record.PartTruncated):
					t.Errorf("%s: got %d entries, parts %v", name, len(reply.Entries), reply.Parts)
				}
			}
		}
	}
}

func TestHostileDocuments(t *testing.T) {
	hosts := elsewhere(t)
	locator, holder := newAnswering(t), newAnswering(t)
	src := hostileSource(t, locator.url, holder.url)
	at := holder.url + "/d"
	locator.say(fhir(page(pointerOf(held, "m", mineID+`,"content":[{"attachment":{"contentType":"application/xml","url":"`+at+`"}}]`))))
	const xml = "application/xml"
	cda := func(n, text string) string { return string(report(n, "19500102", text)) }
	patient := func(n string) string {
		return `{"resource":{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + n + `"}]}}`
	}
	composed := func(more string, entries ...string) string {
		return `{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Composition","id":"c","status":"final","title":"` + canary + `","subject":{"reference":"Patient/p"}` + more + `}}` +
			strings.Join(append([]string{""}, entries...), ",") + `]}`
	}
	bomb := `<!DOCTYPE x [<!ENTITY a "` + strings.Repeat("x", 1000) + `"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>`
	for _, c := range []struct {
		name   string
		say    func(http.ResponseWriter, *http.Request)
		opens  error
		listed bool // whether the pointer stays
		laid   bool // whether there is a Composition
	}{
		{"the person's own", typed(xml, cda(held, "good")), nil, true, true},
		{"another's", typed(xml, cda(other, canary)), broker.ErrWrongSubject, false, false},
		{"another's and the person's", typed(xml, strings.Replace(cda(held, canary), `<recordTarget>`, `<recordTarget><patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="`+other+`"/></patientRole></recordTarget><recordTarget>`, 1)), broker.ErrWrongSubject, false, false},
		{"two numbers", typed(xml, strings.Replace(cda(held, canary), `<patientRole>`, `<patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="`+other+`"/>`, 1)), broker.ErrWrongSubject, false, false},
		{"another's, not verified", typed(xml, strings.ReplaceAll(cda(other, canary), "2.16.840.1.113883.2.1.4.1", "2.16.840.1.113883.2.1.3.2.4.18.23")), broker.ErrWrongSubject, false, false},
		{"another's with spaces in the number", typed(xml, strings.Replace(cda(other, canary), other, "999 000 0018", 1)), broker.ErrWrongSubject, false, false},
		{"born on another day", typed(xml, string(report(held, "19400101", canary))), broker.ErrWrongSubject, false, false},
		{"without a number, born on another day", typed(xml, string(report("", "19400101", canary))), broker.ErrWrongSubject, false, false},
		{"without a number", typed(xml, string(report("", "19500102", canary))), nil, true, false},
		{"in an envelope, another's", typed(xml, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><i:DistributionEnvelope xmlns:i="urn:nhs-itk:ns:201005"><i:payloads><i:payload>`+strings.TrimPrefix(cda(other, canary), `<?xml version="1.0" encoding="UTF-8"?>`)+`</i:payload></i:payloads></i:DistributionEnvelope></s:Body></s:Envelope>`), broker.ErrWrongSubject, false, false},
		{"two in an envelope, one another's", typed(xml, `<payloads><payload>`+strings.TrimPrefix(cda(held, "mine"), `<?xml version="1.0" encoding="UTF-8"?>`)+`</payload><payload>`+strings.TrimPrefix(cda(other, canary), `<?xml version="1.0" encoding="UTF-8"?>`)+`</payload></payloads>`), broker.ErrWrongSubject, false, false},
		{"an entity bomb", typed(xml, bomb+cda(held, "&b;")), broker.ErrMalformed, true, false},
		{"an external entity", typed(xml, `<!DOCTYPE x [<!ENTITY e SYSTEM "`+hosts.url+`/e">]>`+strings.TrimPrefix(cda(held, "&e;"), `<?xml version="1.0" encoding="UTF-8"?>`)), broker.ErrMalformed, true, false},
		{"a declaration of a type", typed(xml, `<!DOCTYPE ClinicalDocument SYSTEM "`+hosts.url+`/x.dtd"><ClinicalDocument xmlns="urn:hl7-org:v3"/>`), broker.ErrMalformed, true, false},
		{"a parameter entity", typed(xml, `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY % p SYSTEM "`+hosts.url+`/p">%p;]><x/>`), broker.ErrMalformed, true, false},
		{"an undeclared entity", typed(xml, cda(held, "&nbsp;")), broker.ErrMalformed, true, false},
		{"an undeclared prefix", typed(xml, strings.Replace(cda(held, "x"), "<title>", "<q:title>", 1)), broker.ErrMalformed, true, false},
		{"an attribute twice", typed(xml, strings.Replace(cda(held, "x"), `<code code=`, `<code code="0" code=`, 1)), broker.ErrMalformed, true, false},
		{"two roots", typed(xml, cda(held, "x")+"<x/>"), broker.ErrMalformed, true, false}, {"text behind the root", typed(xml, cda(held, "x")+"x"), broker.ErrMalformed, true, false},
		{"half of it", typed(xml, cda(held, "x")[:700]), broker.ErrMalformed, true, false}, {"deep", typed(xml, strings.Repeat("<a>", 100_000)), broker.ErrTooMuch, true, false},
		{"many elements", typed(xml, "<a>"+strings.Repeat("<b/>", 600_000)+"</a>"), broker.ErrTooMuch, true, false},
		{"many pieces of text", typed(xml, strings.Replace(cda(held, "x"), "Pulse", strings.Repeat("x<?a?>", 200_000), 1)), broker.ErrTooMuch, true, false},
		{"a few pieces of text", typed(xml, strings.Replace(cda(held, "x"), "Pulse", strings.Repeat("Pulse<!-- a -->", 20)+"<![CDATA[ <b> ]]>", 1)), nil, true, true},
		{"many values", typed("application/fhir+json", `{"resourceType":"Bundle","x":[`+strings.Repeat("{},", 200_000)+`{}]}`), broker.ErrTooMuch, true, false},
		{"a thousand attributes", typed(xml, "<a "+attributes(1000)+"/>"), broker.ErrTooMuch, true, false},
		{"not UTF-8", typed(xml, cda(held, "\xff")), broker.ErrMalformed, true, false}, {"an encoding that is unknown", typed(xml, strings.Replace(cda(held, "x"), "UTF-8", "UTF-7", 1)), broker.ErrMalformed, true, false},
		{"a lie about the encoding", typed(xml, "\xff\xfe"+cda(held, "x")), broker.ErrMalformed, true, false}, {"a control character", typed(xml, cda(held, "&#1;")), broker.ErrMalformed, true, false},
		{"Latin-1", typed(xml, strings.Replace(cda(held, "caf\xe9"), "UTF-8", "ISO-8859-1", 1)), nil, true, true},
		{"FHIR, the person's own", typed("application/fhir+json", strings.ReplaceAll(composed(``, patient(held)), canary, "good")), nil, true, true},
		{"FHIR, another's", typed("application/fhir+json", composed(``, patient(other))), broker.ErrWrongSubject, false, false},
		{"FHIR, nobody's", typed("application/fhir+json", composed(``)), nil, true, false},
		{"FHIR, a subject of another beside an address", typed("application/fhir+json", strings.Replace(composed(``, patient(held)), `"subject":{`, `"subject":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"},`, 1)), broker.ErrWrongSubject, false, false},
		{"FHIR, a message about another", typed("application/fhir+json", `{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader"}},`+patient(other)+`]}`), broker.ErrWrongSubject, false, false},
		{"FHIR, another's in a Bundle within", typed("application/fhir+json", `{"resourceType":"Bundle","type":"message","entry":[{"resource":`+composed(``, patient(other))+`}]}`), broker.ErrWrongSubject, false, false},
		{"FHIR in XML, another's", typed(xml, `<Bundle xmlns="http://hl7.org/fhir"><type value="document"/><entry><resource><Patient><identifier><system value="https://fhir.nhs.uk/Id/nhs-number"/><value value="`+other+`"/></identifier></Patient></resource></entry></Bundle>`), broker.ErrWrongSubject, false, false},
		{"FHIR, a key twice", typed("application/fhir+json", `{"resourceType":"Bundle","resourceType":"Binary"}`), broker.ErrMalformed, true, false},
		{"an outcome in place of a document", typed("application/fhir+json", `{"resourceType":"OperationOutcome","issue":[]}`), broker.ErrMalformed, true, false},
		{"a Binary about another", typed("application/fhir+json", `{"resourceType":"Binary","contentType":"text/xml","data":"`+encoded(cda(other, canary))+`"}`), broker.ErrWrongSubject, false, false},
		{"a Binary of the person's", typed("application/fhir+json", `{"resourceType":"Binary","contentType":"text/xml","data":"`+encoded(cda(held, "good"))+`"}`), nil, true, true},
		{"a Binary that is no base64", typed("application/fhir+json", `{"resourceType":"Binary","contentType":"text/xml","data":"!"}`), broker.ErrMalformed, true, false},
		{"a Binary whose context is another's", typed("application/fhir+json", `{"resourceType":"Binary","contentType":"text/xml","securityContext":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+other+`"}},"data":"`+encoded(cda(held, canary))+`"}`), broker.ErrWrongSubject, false, false},
		{"a Binary in XML whose context is another's", typed(xml, `<Binary xmlns="http://hl7.org/fhir"><securityContext><identifier><system value="https://fhir.nhs.uk/Id/nhs-number"/><value value="`+other+`"/></identifier></securityContext><data value="`+encoded(cda(held, canary))+`"/></Binary>`), broker.ErrWrongSubject, false, false},
		{"another's behind blanks", typed(xml, strings.Repeat(" ", 600)+strings.TrimPrefix(cda(other, canary), `<?xml version="1.0" encoding="UTF-8"?>`)), broker.ErrWrongSubject, false, false},
		{"another's behind blanks and a declaration", typed(xml, strings.Repeat("\n", 600)+cda(other, canary)), broker.ErrWrongSubject, false, false},
		{"FHIR, another's behind blanks", typed("application/fhir+json", strings.Repeat(" ", 600)+composed(``, patient(other))), broker.ErrWrongSubject, false, false},
		{"FHIR, another's by OID", typed("application/fhir+json", strings.Replace(composed(``, patient(other)), "https://fhir.nhs.uk/Id/nhs-number", "urn:oid:2.16.840.1.113883.2.1.4.1", 1)), broker.ErrWrongSubject, false, false},
		{"a Binary in XML about another", typed(xml, `<Binary xmlns="http://hl7.org/fhir"><contentType value="text/xml"/><data value="`+encoded(cda(other, canary))+`"/></Binary>`), broker.ErrWrongSubject, false, false},
		{"a Binary in XML of the person's", typed(xml, `<f:Binary xmlns:f="http://hl7.org/fhir"><f:contentType value="text/xml"/><f:data value="`+encoded(cda(held, "good"))+`"/></f:Binary>`), nil, true, true},
		{"CDA without a namespace about another", typed(xml, strings.Replace(cda(other, canary), ` xmlns="urn:hl7-org:v3"`, "", 1)), broker.ErrWrongSubject, false, false},
		{"CDA in another namespace about another", typed(xml, strings.Replace(cda(other, canary), "urn:hl7-org:v3", "urn:hl7-org:v2", 1)), broker.ErrWrongSubject, false, false},
		{"CDA without a namespace, deep inside, about another", typed(xml, `<a><b>`+strings.Replace(cda(other, canary), ` xmlns="urn:hl7-org:v3"`, "", 1)[strings.Index(cda(other, canary), "<ClinicalDocument"):]+`</b></a>`), broker.ErrWrongSubject, false, false},
		{"CDA within something else, about another", typed(xml, `<a xmlns="urn:x"><b>`+strings.TrimPrefix(cda(other, canary), `<?xml version="1.0" encoding="UTF-8"?>`)+`</b></a>`), broker.ErrWrongSubject, false, false},
		{"FHIR within something else, about another", typed(xml, `<a xmlns="urn:x"><Patient xmlns="http://hl7.org/fhir"><identifier><system value="https://fhir.nhs.uk/Id/nhs-number"/><value value="`+other+`"/></identifier></Patient></a>`), broker.ErrWrongSubject, false, false},
		{"FHIR without a namespace about another", typed(xml, `<Bundle><type value="document"/><entry><resource><Patient><identifier><system value="https://fhir.nhs.uk/Id/nhs-number"/><value value="`+other+`"/></identifier><name><family value="`+canary+`"/></name></Patient></resource></entry></Bundle>`), broker.ErrWrongSubject, false, false},
		{"a Binary without a namespace about another", typed(xml, `<Binary><contentType value="text/xml"/><data value="`+encoded(cda(other, canary))+`"/></Binary>`), broker.ErrWrongSubject, false, false},
		{"CDA without a namespace of the person's", typed(xml, strings.Replace(cda(held, "good"), ` xmlns="urn:hl7-org:v3"`, "", 1)), nil, true, false},
		{"a Binary in XML that is no base64", typed(xml, `<Binary xmlns="http://hl7.org/fhir"><data value="!"/></Binary>`), broker.ErrMalformed, true, false},
		{"a Binary in a Binary about another", typed("application/fhir+json", `{"resourceType":"Binary","data":"`+encoded(`{"resourceType":"Binary","data":"`+encoded(cda(other, canary))+`"}`)+`"}`), broker.ErrWrongSubject, false, false},
		{"nothing", typed(xml, ""), broker.ErrMalformed, true, false}, {"a redirect elsewhere", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", hosts.url)
			w.WriteHeader(302)
		}, broker.ErrElsewhere, true, false},
		{"gone", status(410, ``), broker.ErrNoRecord, true, false}, {"a length that is a lie", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("%PDF")) // and no more
		}, broker.ErrMalformed, true, false},
		{"an encoding that was not asked for", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = w.Write([]byte("%PDF"))
		}, broker.ErrMalformed, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			holder.say(c.say)
			reply, err := src.Fetch(t.Context(), query(t, held))
			if err != nil {
				t.Fatalf("the pointers are lost: %v", err)
			}
			listed, laid := false, false
			m := prepared(t, reply, src.Opens)
			for _, e := range m.Entries {
				if strings.Contains(string(e.JSON), canary) {
					t.Errorf("what may not be shown is, in a %s", e.Type)
				}
				listed = listed || e.Type == "DocumentReference"
				laid = laid || e.Type == "Composition"
			}
			if listed != c.listed || laid != c.laid {
				t.Errorf("listed %v, laid out %v", listed, laid)
			}
			if whole := m.Status.State == record.Returned; whole != (c.opens == nil) {
				t.Errorf("state %s", m.Status.State)
			}
			if !c.listed && !m.Alarm {
				t.Error("no alarm")
			}
			d, err := src.Document(t.Context(), query(t, held), at)
			if !errors.Is(err, c.opens) || (err == nil) != (len(d.Bytes) > 0) {
				t.Errorf("opening it: got %v, want %v", err, c.opens)
			}
		})
	}
	if hosts.n != 0 {
		t.Errorf("%d requests to a host that is not configured", hosts.n)
	}
}

// A document with many authors costs no more than what it says: the Bundle is gone through once, fifty are named, and how many more there are is said.
func TestManyAuthors(t *testing.T) {
	const many = 3000
	var authors, people, cda strings.Builder
	for i := range many {
		fmt.Fprintf(&authors, `,{"reference":"Practitioner/%d"}`, i)
		fmt.Fprintf(&people, `,{"fullUrl":"https://x.example/Practitioner/%d","resource":{"resourceType":"Practitioner","name":[{"family":"Quayle","given":["Farida"]}]}}`, i)
		fmt.Fprint(&cda, `<author><assignedAuthor><assignedPerson><name>Farida Quayle</name></assignedPerson></assignedAuthor></author>`)
	}
	bundle := `{"resourceType":"Bundle","type":"document","entry":[{"resource":{"resourceType":"Composition","title":"Letter","custodian":{"reference":"Organization/o"},"author":[{"display":"First"}` + authors.String() + `]}}` + people.String() +
		`,{"resource":{"resourceType":"Organization","id":"o","name":"Invented Trust"}}]}`
	for name, body := range map[string]string{"FHIR": bundle, "CDA": strings.Replace(string(report(held, "19500102", "x")), "<component>", cda.String()+"<component>", 1)} {
		begin := time.Now()
		r, err := documents.Read([]byte(body))
		if took := time.Since(begin); err != nil || took > 3*time.Second {
			t.Errorf("%s: %d bytes took %v, %v", name, len(body), took, err)
		}
		if text := string(r.Composition); r.Authors != 51 || !strings.Contains(text, "and 2951 more, who are named in the original") || !strings.Contains(text, "Farida Quayle") || name == "FHIR" && !strings.Contains(text, `"custodian":{"display":"Invented Trust"}`) {
			t.Errorf("%s: %d authors are named", name, r.Authors)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := documents.ReadWithin(ctx, []byte(body)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: for nobody any more: %v", name, err)
		}
	}
}

// However long documents are, their pointers are listed: those that are too long to be read, or to be laid out, are counted.
func TestLongDocuments(t *testing.T) {
	locator, holder := newAnswering(t), newAnswering(t)
	src := hostileSource(t, locator.url, holder.url)
	var pointers []string
	for i := range 5 {
		pointers = append(pointers, pointerOf(held, fmt.Sprintf("m%d", i), mineID+`,"content":[{"attachment":{"contentType":"application/xml","url":"`+holder.url+`/d"}}]`))
	}
	locator.say(fhir(page(pointers...)))
	for _, c := range []struct {
		name   string
		body   []byte
		change func(*broker.Limits)
		unread int // at least
	}{
		{"in all", report(held, "19500102", strings.Repeat("word ", 300_000)), func(l *broker.Limits) { l.Bytes = 4 << 20 }, 4},
		{"as a resource", report(held, "19500102", strings.Repeat("word ", 30_000)), func(l *broker.Limits) { l.ResourceBytes = 100_000 }, 5},
		{"as a text", report(held, "19500102", strings.Repeat("word ", 30_000)), func(l *broker.Limits) { l.StringBytes = 100_000 }, 5},
		{"beside so many pointers", report(held, "19500102", "word"), func(l *broker.Limits) { l.Resources = 6 }, 5},
	} {
		holder.say(typed("application/xml", string(c.body)))
		q := query(t, held)
		c.change(&q.Limits)
		reply, err := src.Fetch(t.Context(), q)
		listed := 0
		for _, e := range reply.Entries {
			if e.Resource.Get("resourceType").Is("DocumentReference") {
				listed++
			}
		}
		if err != nil || listed != 5 || len(reply.Parts) != 1 || reply.Parts[0].Reason != record.PartTooLong || reply.Parts[0].Count < c.unread || reply.Bytes > q.Limits.Bytes {
			t.Errorf("%s: %d pointers, parts %v, %d bytes, %v", c.name, listed, reply.Parts, reply.Bytes, err)
		}
	}
}
