package fhirr4_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/fhirr4"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// server answers by "METHOD path" below /fhir, and keeps what it was asked. An answer is a status, a space and a body; "{{base}}" in it is the
// server's address. What is not there is 404.
type server struct {
	base string
	mu   sync.Mutex
	got  []asked
}

type asked struct {
	line   string // METHOD path?query
	form   string
	header http.Header
}

func serve(t testing.TB, answers map[string]string) *server {
	t.Helper()
	s := &server{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.got = append(s.got, asked{r.Method + " " + r.RequestURI, string(body), r.Header})
		s.mu.Unlock()
		line := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/fhir/")
		a, ok := answers[line+" "+string(body)]
		if !ok {
			a, ok = answers[line+"?"+r.URL.RawQuery]
		}
		if !ok {
			a, ok = answers[line]
		}
		if !ok {
			a = "404 "
		}
		status, text, _ := strings.Cut(a, " ")
		code, err := strconv.Atoi(status)
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/fhir+json")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, strings.ReplaceAll(text, "{{base}}", "http://"+r.Host+"/fhir"))
	}))
	t.Cleanup(h.Close)
	s.base = h.URL + "/fhir"
	return s
}

func (s *server) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, a := range s.got {
		out = append(out, a.line)
	}
	return out
}

func (s *server) last() asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[len(s.got)-1]
}

// with returns a and b together.
func with(a map[string]string, b ...string) map[string]string {
	out := map[string]string{}
	for k, v := range a {
		out[k] = v
	}
	for i := 0; i < len(b); i += 2 {
		out[b[i]] = b[i+1]
	}
	return out
}

func searchset(next string, resources ...string) string {
	var entries []string
	for _, r := range resources {
		entries = append(entries, `{"resource":`+r+`}`)
	}
	link := ""
	if next != "" {
		link = `"link":[{"relation":"next","url":"` + next + `"}],`
	}
	return `200 {"resourceType":"Bundle","type":"searchset",` + link + `"entry":[` + strings.Join(entries, ",") + `]}`
}

func patientOf(id, nhs string) string {
	return `{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + nhs + `"}]}`
}

func about(typ, id, patient string) string {
	return `{"resourceType":"` + typ + `","id":"` + id + `","subject":{"reference":"Patient/` + patient + `"}}`
}

func outcome(code, spine string) string {
	return `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"` + code + `","diagnostics":"` + marker + `","details":{"coding":[{"code":"` + spine + `"}]}}]}`
}

// issues is an OperationOutcome of several issues, each from the value of its severity on.
func issues(list ...string) string {
	return `{"resourceType":"OperationOutcome","issue":[{"severity":` + strings.Join(list, `},{"severity":`) + `}]}`
}

const unknownPerson = `"details":{"coding":[{"code":"PATIENT_NOT_FOUND"}]}`

const (
	finding = "POST Patient/_search"
	all     = "GET Patient/p1/$everything"
	meta    = "GET metadata"
)

// offering is a CapabilityStatement.
func offering(everything bool, types ...string) string {
	r := []string{`{"type":"Patient","interaction":[{"code":"search-type"}]}`}
	if everything {
		r[0] = `{"type":"Patient","operation":[{"name":"everything","definition":"http://hl7.org/fhir/OperationDefinition/Patient-everything"}]}`
	}
	for _, t := range types {
		r = append(r, `{"type":"`+t+`","interaction":[{"code":"read"},{"code":"search-type"}],"searchParam":[{"name":"patient"}]}`)
	}
	return `200 {"resourceType":"CapabilityStatement","rest":[{"mode":"server","resource":[` + strings.Join(r, ",") + `]}]}`
}

// whole is a server that offers $everything, and byType one that does not.
var (
	whole  = map[string]string{finding: searchset("", patientOf("p1", held)), meta: offering(true), all: searchset("", patientOf("p1", held), about("Condition", "c1", "p1"))}
	byType = map[string]string{finding: searchset("", patientOf("p1", held)), meta: offering(false, "Condition", "Observation"),
		"POST Condition/_search": searchset("", about("Condition", "c1", "p1")), "POST Observation/_search": searchset("", about("Observation", "o1", "p1"))}
)

func fetch(t testing.TB, s *server, q broker.Query, change ...func(*fhirr4.Settings)) (broker.Reply, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := source(t, s.base, change...).Fetch(ctx, q)
	if err != nil && (strings.Contains(err.Error(), marker) || strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), held)) {
		t.Error("the error holds text from outside")
	}
	return r, err
}

func ids(entries []fhirjson.Entry) string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Resource.Get("resourceType").Text()+"/"+e.Resource.Get("id").Text())
	}
	return strings.Join(out, " ")
}

func same(got, want error) bool {
	return errors.Is(got, want) && (got == nil) == (want == nil)
}

func TestWhatIsAskedAndReturned(t *testing.T) {
	s := serve(t, whole)
	q := query(t, held)
	q.RequestID = "5b3f0d3c-8a0e-4c58-9d6e-2f5f1f3c9a77"
	q.Trace = map[string]string{"traceparent": "00-1-2-01", "baggage": "user=1"}
	r, err := fetch(t, s, q)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"POST /fhir/Patient/_search", "GET /fhir/metadata", "GET /fhir/Patient/p1/$everything?_count=500"}; !slices.Equal(s.lines(), want) {
		t.Errorf("asked %q, want %q", s.lines(), want)
	}
	if want := "identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C" + held; s.got[0].form != want {
		t.Error("the number did not go in the body")
	}
	for i, a := range s.got {
		id, parent := a.header.Get("X-Request-ID"), a.header.Get("traceparent")
		if a.header.Get("baggage") != "" || i != 1 && (id != q.RequestID || parent != "00-1-2-01") {
			t.Errorf("request %d: headers %q, %q", i, id, parent)
		}
	}
	if ids(r.Entries) != "Patient/p1 Condition/c1" || r.Base != s.base || r.Adapter != fhirr4.Adapter || r.Parts != nil || r.Conversions != nil {
		t.Errorf("got %s from %s by %s", ids(r.Entries), r.Base, r.Adapter)
	}
	if want := int64(len(whole[finding]) + len(whole[all]) - 8); r.Bytes != want {
		t.Errorf("counted %d bytes, want %d", r.Bytes, want)
	}
	q.Trace = nil
	if _, err := fetch(t, s, q); err != nil || s.last().header.Get("traceparent") != "" {
		t.Errorf("a trace header went out unasked, or %v", err)
	}
}

func TestThePatientAlone(t *testing.T) {
	s := serve(t, whole)
	q := query(t, held)
	q.Types = []string{"Patient"}
	r, err := fetch(t, s, q)
	if err != nil || ids(r.Entries) != "Patient/p1" || len(s.lines()) != 1 || r.Entries[0].Mode != "match" {
		t.Errorf("got %s, %v, after %q", ids(r.Entries), err, s.lines())
	}
}

func TestWhoItIs(t *testing.T) {
	id := func(value, more string) string {
		return `{"resourceType":"Patient","id":"p1","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + value + `"}` + more + `]}`
	}
	for _, c := range []struct {
		name, answer string
		want         error
	}{
		{"them", searchset("", patientOf("p1", held)), nil},
		{"nobody", searchset(""), broker.ErrNoRecord},
		{"nobody, without entry", `200 {"resourceType":"Bundle","type":"searchset"}`, broker.ErrNoRecord},
		{"somebody else", searchset("", patientOf("p1", unknown)), broker.ErrWrongSubject},
		{"them and somebody else", searchset("", patientOf("p1", held), patientOf("p2", unknown)), broker.ErrWrongSubject},
		{"them under two ids", searchset("", patientOf("p1", held), patientOf("p2", held)), broker.ErrWrongSubject},
		{"them twice", searchset("", patientOf("p1", held), patientOf("p1", held)), nil},
		{"them on two pages", searchset("{{base}}/Patient?page=2", patientOf("p1", held)), nil},
		{"without a number", searchset("", `{"resourceType":"Patient","id":"p1"}`), broker.ErrWrongSubject},
		{"with two numbers", searchset("", id(held, `,{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+unknown+`"}`)), broker.ErrWrongSubject},
		{"with an old number", searchset("", id(held, `,{"use":"old","system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+unknown+`"}`)), nil},
		{"with another system's number", searchset("", id(held, `,{"system":"https://trust.example/id","value":"`+unknown+`"}`)), nil},
		{"with that number as an old one", searchset("", strings.Replace(id(held, ""), `{"system"`, `{"use":"old","system"`, 1)), broker.ErrWrongSubject},
		{"with a number in groups", searchset("", id("999 000 0034", "")), broker.ErrWrongSubject},
		{"without an id", searchset("", strings.Replace(id(held, ""), `"id":"p1",`, "", 1)), broker.ErrMalformed},
		{"with an id that leads elsewhere", searchset("", patientOf("..", held)), broker.ErrMalformed},
		{"with an id that is a path", searchset("", patientOf("p1/../x", held)), broker.ErrMalformed},
		{"with a long id", searchset("", patientOf(strings.Repeat("x", 65), held)), broker.ErrMalformed},
		{"an organisation too", searchset("", patientOf("p1", held), `{"resourceType":"Organization","id":"o"}`), nil},
		{"only an organisation", searchset("", `{"resourceType":"Organization","id":"o"}`), broker.ErrNoRecord},
		{"a warning and nobody", searchset("", strings.Replace(outcome("informational", ""), `"error"`, `"warning"`, 1)), broker.ErrNoRecord},
		{"an error and nobody", searchset("", outcome("exception", "")), broker.ErrMalformed},
		{"a warning that something was not searched, and nobody", searchset("", strings.Replace(outcome("incomplete", ""), `"error"`, `"warning"`, 1)), broker.ErrMalformed},
		{"word of a time that was over, and nobody", searchset("", strings.Replace(outcome("timeout", ""), `"error"`, `"information"`, 1)), broker.ErrMalformed},
		{"a warning of what costs too much, and nobody", searchset("", strings.Replace(outcome("too-costly", ""), `"error"`, `"warning"`, 1)), broker.ErrMalformed},
		{"suppressed and nobody", searchset("", outcome("suppressed", "")), broker.ErrWithheld},
		{"an outcome in place of a Bundle", "200 " + outcome("exception", ""), broker.ErrMalformed},
		{"no consent in place of a Bundle", "200 " + outcome("forbidden", "NO_PATIENT_CONSENT"), broker.ErrWithheld},
		{"throttled in place of a Bundle", "200 " + outcome("throttled", ""), broker.ErrThrottled},
		{"another Bundle", strings.Replace(searchset(""), "searchset", "collection", 1), broker.ErrMalformed},
		{"a Patient in place of a Bundle", "200 " + patientOf("p1", held), broker.ErrMalformed},
		{"an entry that is no resource", `200 {"resourceType":"Bundle","type":"searchset","entry":[{"resource":{}}]}`, broker.ErrMalformed},
		{"two next links", `200 {"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":"a"},{"relation":"next","url":"b"}]}`, broker.ErrMalformed},
		{"null", "200 null", broker.ErrMalformed},
		{"nothing", "200 ", broker.ErrMalformed},
		{"deep", "200 " + strings.Repeat("[", 100) + strings.Repeat("]", 100), broker.ErrTooMuch},
		{"400", "400 " + outcome("invalid", ""), broker.ErrMalformed},
		{"401", "401 " + outcome("login", ""), broker.ErrUnauthorised},
		{"403", "403 " + outcome("forbidden", "ACCESS_DENIED"), broker.ErrUnauthorised},
		{"403 without a body", "403 ", broker.ErrUnauthorised},
		{"403 for want of consent", "403 " + outcome("forbidden", "NO_PATIENT_CONSENT"), broker.ErrWithheld},
		{"403 for want of the organisation's", "403 " + outcome("forbidden", "NO_ORGANISATION_CONSENT"), broker.ErrWithheld},
		{"403 for want of the organisation's, other spelling", "403 " + outcome("forbidden", "NO_ORGANISATIONAL_CONSENT"), broker.ErrWithheld},
		{"403, suppressed", "403 " + outcome("suppressed", ""), broker.ErrWithheld},
		{"500, suppressed", "500 " + outcome("suppressed", ""), broker.ErrMalformed},
		{"404", "404 ", broker.ErrMalformed},
		{"404 for an unknown person", "404 " + outcome("not-found", "PATIENT_NOT_FOUND"), broker.ErrNoRecord},
		{"404 for an unknown person, and a fatal error", "404 " + issues(`"error","code":"not-found",`+unknownPerson, `"fatal","code":"exception"`), broker.ErrMalformed},
		{"404 for an unknown person, and an error of no code", "404 " + issues(`"error","code":"processing"`, `"error","code":"not-found",`+unknownPerson), broker.ErrMalformed},
		{"404 for an unknown person, and a warning that something was not searched", "404 " + issues(`"error","code":"not-found",`+unknownPerson, `"warning","code":"incomplete"`), broker.ErrMalformed},
		{"404 for an unknown person, and a warning", "404 " + issues(`"warning","code":"informational"`, `"error","code":"not-found",`+unknownPerson), broker.ErrNoRecord},
		{"an unknown person and a fatal error in place of a Bundle", "200 " + issues(`"error","code":"not-found",`+unknownPerson, `"fatal","code":"exception"`), broker.ErrMalformed},
		{"404 for want of an operation", "404 " + outcome("not-found", ""), broker.ErrMalformed},
		{"410, deleted", "410 " + outcome("deleted", ""), broker.ErrNoRecord},
		{"405", "405 ", broker.ErrMalformed},
		{"408", "408 ", broker.ErrUnavailable},
		{"422", "422 ", broker.ErrMalformed},
		{"429", "429 " + outcome("throttled", ""), broker.ErrThrottled},
		{"500", "500 " + outcome("exception", ""), broker.ErrMalformed},
		{"502", "502 ", broker.ErrUnavailable},
		{"503", "503 " + outcome("transient", ""), broker.ErrUnavailable},
		{"504", "504 ", broker.ErrUnavailable},
		{"302", "302 ", broker.ErrElsewhere},
		{"206", "206 {}", broker.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, with(whole, finding, c.answer, "GET Patient?page=2", searchset("", patientOf("p1", held))))
			r, err := fetch(t, s, query(t, held))
			if !same(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if n := strings.Count(ids(r.Entries), "Patient/"); err == nil && n != 1 {
				t.Errorf("got %d Patients", n)
			}
			if th, ok := errors.AsType[*broker.ThrottledError](err); ok && c.name == "429" && th.After != 7*time.Second {
				t.Errorf("got %v to wait", th.After)
			}
		})
	}
}

func TestANumberThatWasReplaced(t *testing.T) {
	both := strings.Replace(patientOf("p1", held), `}]`, `},{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+unknown+`"}]`, 1)
	s := serve(t, with(whole, finding, searchset("", both)))
	q := query(t, held)
	if _, err := fetch(t, s, q); !errors.Is(err, broker.ErrWrongSubject) {
		t.Errorf("two numbers, neither replaced: got %v", err)
	}
	q.Subject.Supersedes = []record.NHSNumber{number(t, unknown)}
	if _, err := fetch(t, s, q); err != nil {
		t.Errorf("a number and the one that it replaced: got %v", err)
	}
	s = serve(t, with(whole, finding, searchset("", patientOf("p1", unknown))))
	if _, err := fetch(t, s, q); !errors.Is(err, broker.ErrWrongSubject) {
		t.Errorf("the replaced number alone: got %v", err)
	}
}

func TestOnePatientInTheReply(t *testing.T) {
	newer := strings.Replace(patientOf("p1", held), `"id"`, `"gender":"male","id"`, 1)
	for _, c := range []struct {
		name, answer, want string
		err                error
	}{
		{"again", searchset("", about("Condition", "c1", "p1"), patientOf("p1", held)), "Patient/p1 Condition/c1", nil},
		{"not again", searchset("", about("Condition", "c1", "p1")), "Patient/p1 Condition/c1", nil},
		{"newer", searchset("", newer, about("Condition", "c1", "p1")), "Patient/p1 Condition/c1", nil},
		{"on each page", searchset("{{base}}/?page=2", patientOf("p1", held), about("Condition", "c1", "p1")), "Patient/p1 Condition/c1 Condition/c2", nil},
		{"nothing beside", searchset(""), "Patient/p1", nil},
		{"with another number now", searchset("", patientOf("p1", unknown)), "", broker.ErrWrongSubject},
		{"somebody else's record", searchset("", patientOf("p2", unknown), about("Condition", "c1", "p2")), "", broker.ErrWrongSubject},
		{"somebody else's, without their Patient", searchset("", about("Condition", "c1", "p2")), "", broker.ErrWrongSubject},
		{"somebody else's Patient and their own things", searchset("", patientOf("p2", unknown), about("Condition", "c1", "p1")), "", broker.ErrWrongSubject},
		{"both", searchset("", patientOf("p1", held), patientOf("p2", unknown), about("Condition", "c1", "p1"), about("Condition", "c2", "p2")),
			"Patient/p1 Patient/p2 Condition/c1 Condition/c2", nil}, // the merge drops and counts the others'
		{"a version of them", searchset("", strings.Replace(about("Condition", "c1", "p1"), "Patient/p1", "{{base}}/Patient/p1/_history/2", 1)), "Patient/p1 Condition/c1", nil},
		{"an outcome", searchset("", about("Condition", "c1", "p1"), outcome("incomplete", "")), "Patient/p1 Condition/c1 OperationOutcome/", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, with(whole, all, c.answer, "GET ?page=2", searchset("", patientOf("p1", held), about("Condition", "c2", "p1"))))
			r, err := fetch(t, s, query(t, held))
			if !same(err, c.err) || ids(r.Entries) != c.want {
				t.Fatalf("got %s and %v, want %s and %v", ids(r.Entries), err, c.want, c.err)
			}
			if c.name == "newer" && !r.Entries[0].Resource.Get("gender").Exists() {
				t.Error("the older Patient was kept")
			}
		})
	}
}

func TestPages(t *testing.T) {
	page := func(n int, next string) (string, string) {
		return fmt.Sprintf("GET ?page=%d", n), searchset(next, about("Condition", fmt.Sprint("c", n), "p1"))
	}
	k2, v2 := page(2, "{{base}}/?page=3")
	k3, v3 := page(3, "")
	for _, c := range []struct {
		name, next string
		want       error
	}{
		{"to the end", "{{base}}/?page=2", nil},
		{"by path alone", "/fhir/?page=2", nil},
		{"in a circle of one", "{{base}}/Patient/p1/$everything?_count=500", broker.ErrMalformed},
		{"another host", "http://elsewhere.invalid/fhir/?page=2", broker.ErrElsewhere},
		{"another port", "http://127.0.0.1:1/fhir/?page=2", broker.ErrElsewhere},
		{"another path", "/other/?page=2", broker.ErrElsewhere},
		{"up and down", "{{base}}/../fhir/?page=2", broker.ErrElsewhere},
		{"a host that begins alike", "{{base}}.elsewhere.invalid/?page=2", broker.ErrElsewhere},
		{"the number in an address that is no search", "{{base}}/?page=2&who=" + held, broker.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, with(whole, all, searchset(c.next, about("Condition", "c1", "p1")), k2, v2, k3, v3))
			r, err := fetch(t, s, query(t, held))
			if !same(err, c.want) || err == nil && ids(r.Entries) != "Patient/p1 Condition/c1 Condition/c2 Condition/c3" {
				t.Errorf("got %s and %v, want %v", ids(r.Entries), err, c.want)
			}
			for _, line := range s.lines() {
				if strings.Contains(line, held) {
					t.Error("the number was in an address")
				}
			}
		})
	}
	t.Run("in a circle of two", func(t *testing.T) {
		k, v := page(3, "{{base}}/?page=2")
		s := serve(t, with(whole, all, searchset("{{base}}/?page=2"), k2, v2, k, v))
		if _, err := fetch(t, s, query(t, held)); !errors.Is(err, broker.ErrMalformed) || len(s.lines()) != 5 {
			t.Errorf("got %v after %d requests", err, len(s.lines()))
		}
	})
	t.Run("without end", func(t *testing.T) {
		n := 0
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/fhir+json")
			switch {
			case r.URL.Path == "/fhir/metadata":
				_, _ = io.WriteString(w, offering(true)[4:])
			case r.Method == "POST":
				_, _ = io.WriteString(w, searchset("", patientOf("p1", held))[4:])
			default:
				n++
				_, _ = io.WriteString(w, searchset(fmt.Sprintf("/fhir/?page=%d", n))[4:])
			}
		}))
		t.Cleanup(h.Close)
		if _, err := fetch(t, &server{base: h.URL + "/fhir"}, query(t, held)); !errors.Is(err, broker.ErrTooMuch) || n != 399 {
			t.Errorf("got %v after %d pages, want 399 beside the search", err, n)
		}
	})
}

// A person whose id at the custodian is their NHS number: neither $everything nor a page may carry it in an address.
func TestTheNumberAsID(t *testing.T) {
	for _, id := range []string{held, "999-000-0034", "nhs." + held + ".x", unknown} {
		answers := map[string]string{
			finding: searchset("", patientOf(id, held)), meta: offering(true, "Condition"), "GET Patient/" + id + "/$everything": searchset("", about("Condition", "c0", id)),
			"POST Condition/_search _count=500&patient=Patient%2F" + id:         searchset("{{base}}/Condition?patient=Patient/"+id+"&page=2", about("Condition", "c1", id)),
			"POST Condition/_search page=2&patient=Patient%2F" + id:             searchset("{{base}}/Condition/_search?page=3&patient=Patient%2F"+id, about("Condition", "c2", id)),
			"POST Condition/_search page=3&patient=Patient%2F" + id:             searchset("", about("Condition", "c3", id)),
			"GET Condition?patient=Patient/" + id + "&page=2":                   searchset("", about("Condition", "cX", id)),
			"GET Condition/_search?page=3&patient=Patient%2F" + id:              searchset("", about("Condition", "cX", id)),
			"POST Condition/_search _count=500&patient=Patient%2F" + id + "%2F": "500 ",
		}
		s := serve(t, answers)
		r, err := fetch(t, s, query(t, held))
		if err != nil || ids(r.Entries) != "Patient/"+id+" Condition/c1 Condition/c2 Condition/c3" {
			t.Errorf("got %d entries and %v", len(r.Entries), err)
		}
		for _, line := range s.lines() {
			if strings.Contains(line, id) {
				t.Error("an NHS number was in an address")
			}
		}
	}
}

func TestSearchByType(t *testing.T) {
	s := serve(t, byType)
	r, err := fetch(t, s, query(t, held))
	if err != nil || ids(r.Entries) != "Patient/p1 Condition/c1 Observation/o1" || r.Parts != nil {
		t.Errorf("got %s, %v, %v", ids(r.Entries), r.Parts, err)
	}
	for _, a := range s.got {
		if strings.Contains(a.line, "Condition") && a.form != "_count=500&patient=Patient%2Fp1" {
			t.Errorf("asked with %q", a.form)
		}
	}
}

func TestWhatTheStatementOffers(t *testing.T) {
	resource := func(typ, rest string) string { return `{"type":"` + typ + `"` + rest + `}` }
	searchable := `,"interaction":[{"code":"search-type"}],"searchParam":[{"name":"patient"}]`
	statement := func(resources ...string) string {
		return `200 {"resourceType":"CapabilityStatement","rest":[{"mode":"client","resource":[` + resource("Flag", searchable) + `]},{"mode":"server","resource":[` +
			strings.Join(resources, ",") + `]}]}`
	}
	condition := []string{"Condition patient=Patient%2Fp1"}
	for _, c := range []struct {
		name, statement string
		change          func(*fhirr4.Settings)
		want            []string // type and form, less _count
	}{
		{"search by patient", statement(resource("Goal", searchable)), nil, []string{"Goal patient=Patient%2Fp1"}},
		{"patient before subject", statement(resource("Goal", `,"searchParam":[{"name":"subject"},{"name":"patient"},{"name":"subject"}]`)), nil, []string{"Goal patient=Patient%2Fp1"}},
		{"subject alone", statement(resource("Goal", `,"searchParam":[{"name":"subject"}]`)), nil, []string{"Goal subject=Patient%2Fp1"}},
		{"no search", statement(resource("Goal", `,"interaction":[{"code":"read"}],"searchParam":[{"name":"patient"}]`), resource("Condition", searchable)), nil, condition},
		{"not this parameter", statement(resource("Goal", `,"searchParam":[{"name":"code"}]`), resource("Condition", searchable)), nil, condition},
		{"no parameters", statement(resource("Goal", `,"interaction":[{"code":"search-type"}]`), resource("SupplyRequest", ``)), func(s *fhirr4.Settings) { s.Parallel = 1 },
			[]string{"Goal patient=Patient%2Fp1", "SupplyRequest subject=Patient%2Fp1"}},
		{"no parameters and no search", statement(resource("Goal", `,"interaction":[{"code":"read"}]`), resource("Condition", searchable)), nil, condition},
		{"types nobody is shown", statement(resource("Claim", searchable), resource("AuditEvent", searchable), resource("Patient", searchable), resource("x/../y", searchable), resource("Condition", searchable)), nil, condition},
		{"in a fixed order", statement(resource("Goal", searchable), resource("Condition", searchable)), func(s *fhirr4.Settings) { s.Parallel = 1 },
			[]string{"Condition patient=Patient%2Fp1", "Goal patient=Patient%2Fp1"}},
		{"includes that lead to who and where", statement(resource("Encounter", searchable+`,"searchInclude":["*","Encounter:patient","Encounter:participant","Encounter:location","Encounter:diagnosis","Other:performer","Encounter:*"]`)),
			nil, []string{"Encounter _include=Encounter%3Aparticipant&_include=Encounter%3Alocation&patient=Patient%2Fp1"}},
		{"any include", statement(resource("Encounter", searchable+`,"searchInclude":["*"]`)), nil, []string{"Encounter _include=%2A&_include%3Aiterate=%2A&patient=Patient%2Fp1"}},
		{"any include of the type", statement(resource("Encounter", searchable+`,"searchInclude":["*","Encounter:*"]`)), nil,
			[]string{"Encounter _include=Encounter%3A%2A&_include%3Aiterate=Encounter%3A%2A&patient=Patient%2Fp1"}},
		{"types as configured", statement(resource("Goal", searchable), resource("Condition", searchable)), func(s *fhirr4.Settings) { s.Searches = []string{"Goal", "Flag"}; s.Parallel = 1 },
			[]string{"Goal patient=Patient%2Fp1", "Flag patient=Patient%2Fp1"}},
		{"everything, but never", offering(true, "Goal"), func(s *fhirr4.Settings) { s.Everything = fhirr4.EverythingNever }, []string{"Goal patient=Patient%2Fp1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers := with(byType, meta, c.statement)
			for _, typ := range []string{"Goal", "Encounter", "Flag", "Claim", "AuditEvent", "SupplyRequest"} {
				answers["POST "+typ+"/_search"] = searchset("", about(typ, "x", "p1"))
			}
			s := serve(t, answers)
			change := []func(*fhirr4.Settings){}
			if c.change != nil {
				change = append(change, c.change)
			}
			if _, err := fetch(t, s, query(t, held), change...); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range s.got[2:] {
				typ := strings.TrimSuffix(strings.TrimPrefix(a.line, "POST /fhir/"), "/_search")
				got = append(got, typ+" "+strings.Replace(a.form, "_count=500&", "", 1))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("asked %q, want %q", got, c.want)
			}
		})
	}
}

func TestTypesArePushedDownOnlyWhereNothingIsLost(t *testing.T) {
	count := func(types ...string) (n int) {
		s := serve(t, byType)
		q := query(t, held)
		q.Types = types
		r, err := fetch(t, s, q)
		if err != nil || !strings.HasPrefix(ids(r.Entries), "Patient/p1") {
			t.Errorf("%v: got %s and %v", types, ids(r.Entries), err)
		}
		return len(s.lines()) - 2
	}
	for want, lists := range map[int][][]string{
		2: {nil, {"Observation", "Condition"}, {"Practitioner"}, {"Condition", "Organization"}, {"Patient", "Medication"}},
		1: {{"Condition"}, {"Patient", "Observation"}, {"Condition", "Goal"}},
		0: {{"Goal"}, {"Patient", "Flag"}},
	} {
		for _, types := range lists {
			if got := count(types...); got != want {
				t.Errorf("%v: got %d searches, want %d", types, got, want)
			}
		}
	}
	s := serve(t, whole)
	q := query(t, held)
	q.Types = []string{"Condition"}
	if _, err := fetch(t, s, q); err != nil || strings.Contains(s.last().line, "_type") {
		t.Errorf("$everything was narrowed, or %v", err)
	}
}

func TestRefusedSearches(t *testing.T) {
	const c, o = "POST Condition/_search", "POST Observation/_search"
	part := func(typ, reason string) record.Part { return record.Part{Source: typ, Reason: reason} }
	for _, x := range []struct {
		name        string
		first, last string
		want        string
		parts       []record.Part
		err         error
	}{
		{"one fails", "500 ", byType[o], "Patient/p1 Observation/o1", []record.Part{part("Condition", record.PartSourceDown)}, nil},
		{"one says so with 200", "200 " + outcome("exception", ""), byType[o], "Patient/p1 Observation/o1", []record.Part{part("Condition", record.PartSourceDown)}, nil},
		{"one is withheld", byType[c], "403 " + outcome("suppressed", ""), "Patient/p1 Condition/c1", []record.Part{part("Observation", record.PartWithheld)}, nil},
		{"one is forbidden", byType[c], "403 ", "Patient/p1 Condition/c1", []record.Part{part("Observation", record.PartSourceDown)}, nil},
		{"one is offered and unknown", byType[c], "404 ", "Patient/p1 Condition/c1", []record.Part{part("Observation", record.PartSourceDown)}, nil},
		{"both fail", "500 ", "500 ", "", nil, broker.ErrMalformed},
		{"one is withheld and one fails", "403 " + outcome("suppressed", ""), "500 ", "", nil, broker.ErrMalformed},
		{"one fails and one is withheld", "500 ", "403 " + outcome("suppressed", ""), "", nil, broker.ErrMalformed},
		{"both are withheld", "403 " + outcome("suppressed", ""), "403 " + outcome("suppressed", ""), "", nil, broker.ErrWithheld},
		{"both are forbidden", "403 ", "403 ", "", nil, broker.ErrUnauthorised},
		{"one is down", byType[c], "503 ", "", nil, broker.ErrUnavailable},
		{"one throttles", byType[c], "429 ", "", nil, broker.ErrThrottled},
		{"one is refused our token", byType[c], "401 ", "", nil, broker.ErrUnauthorised},
		{"one cannot be read", byType[c], "200 {", "", nil, broker.ErrMalformed},
		{"one leads elsewhere", byType[c], searchset("http://elsewhere.invalid/"), "", nil, broker.ErrElsewhere},
		{"one is about somebody else", byType[c], searchset("", about("Observation", "o1", "p2")), "", nil, broker.ErrWrongSubject},
		{"one is about both", byType[c], searchset("", about("Observation", "o1", "p2"), about("Observation", "o2", "p1")), "Patient/p1 Condition/c1 Observation/o1 Observation/o2", nil, nil},
		{"one fails and one cannot be read", "500 ", "200 {", "", nil, broker.ErrMalformed},
		{"both are empty", searchset(""), searchset(""), "Patient/p1", nil, nil},
	} {
		for _, parallel := range []int{1, 4} {
			t.Run(fmt.Sprint(x.name, " ", parallel), func(t *testing.T) {
				s := serve(t, with(byType, c, x.first, o, x.last))
				r, err := fetch(t, s, query(t, held), func(s *fhirr4.Settings) { s.Parallel = parallel })
				if !same(err, x.err) || ids(r.Entries) != x.want || !slices.Equal(r.Parts, x.parts) {
					t.Errorf("got %s, %v and %v, want %s, %v and %v", ids(r.Entries), r.Parts, err, x.want, x.parts, x.err)
				}
			})
		}
	}
}

// Trouble with the custodian as a whole ends the searches that have not begun; and what is returned is the sentinel itself.
func TestTroubleEndsTheSearches(t *testing.T) {
	s := serve(t, with(byType, "POST Condition/_search", "503 "))
	_, err := fetch(t, s, query(t, held), func(s *fhirr4.Settings) { s.Parallel = 1 })
	if err != broker.ErrUnavailable || len(s.lines()) != 3 { //nolint:errorlint // exactly this error
		t.Errorf("got %v after %q", err, s.lines())
	}
	s = serve(t, with(byType, "POST Condition/_search", "500 ", "POST Observation/_search", "500 "))
	if _, err = fetch(t, s, query(t, held)); err != broker.ErrMalformed { //nolint:errorlint // exactly this error
		t.Errorf("got an error of type %T", err)
	}
}

// A server that says that it offers $everything and then does not know it is searched by type.
func TestEverythingThatIsNotThere(t *testing.T) {
	for answer, want := range map[string]error{"404 ": nil, "405 ": nil, "501 ": nil, "404 " + outcome("not-supported", ""): nil, "400 " + outcome("not-supported", ""): nil,
		"404 " + outcome("not-found", "PATIENT_NOT_FOUND"): broker.ErrMalformed, "404 " + outcome("not-found", "NO_RECORD_FOUND"): broker.ErrMalformed, "400 " + outcome("invalid", ""): broker.ErrMalformed, "500 ": broker.ErrMalformed,
		"403 ": broker.ErrUnauthorised, "403 " + outcome("suppressed", ""): broker.ErrWithheld, "410 ": broker.ErrMalformed} {
		s := serve(t, with(byType, meta, offering(true, "Condition"), all, answer))
		r, err := fetch(t, s, query(t, held))
		if !same(err, want) || err == nil && ids(r.Entries) != "Patient/p1 Condition/c1" {
			t.Errorf("%s: got %s and %v, want %v", answer, ids(r.Entries), err, want)
		}
	}
}

// A 404 says that a type is not known only where it says nothing else.
func TestATypeThatIsNotUnknown(t *testing.T) {
	for _, answer := range []string{
		"404 " + issues(`"error","code":"not-found",`+unknownPerson, `"fatal","code":"processing"`),
		"404 " + issues(`"error","code":"not-found",`+unknownPerson, `"warning","code":"incomplete"`),
		"404 " + outcome("exception", ""), "501 " + outcome("transient", ""),
	} {
		r, err := fetch(t, serve(t, with(byType, meta, "500 ", "POST Observation/_search", answer)), query(t, held))
		if want := []record.Part{{Source: "Observation", Reason: record.PartSourceDown}}; err != nil || !slices.Equal(r.Parts, want) {
			t.Errorf("%s: got %s, parts %v and %v", answer, ids(r.Entries), r.Parts, err)
		}
		if r, err = fetch(t, serve(t, with(byType, meta, offering(true, "Condition"), all, answer)), query(t, held)); err != nil || ids(r.Entries) != "Patient/p1 Condition/c1" {
			t.Errorf("%s, of everything, which is then read by type: got %s and %v", answer, ids(r.Entries), err)
		}
	}
}

// Without a CapabilityStatement every type is tried, and a type that the server does not know holds nothing.
func TestWithoutAStatement(t *testing.T) {
	for _, metadata := range []string{"404 ", "500 ", "200 {", "200 {}", "401 ", "302 "} {
		s := serve(t, with(byType, meta, metadata, all, searchset("", about("Condition", "cX", "p1"))))
		r, err := fetch(t, s, query(t, held))
		if err != nil || ids(r.Entries) != "Patient/p1 Condition/c1 Observation/o1" || r.Parts != nil {
			t.Errorf("metadata %s: got %s, %v, %v", metadata, ids(r.Entries), r.Parts, err)
		}
		if n := len(s.lines()); n < 50 {
			t.Errorf("metadata %s: only %d requests", metadata, n)
		}
	}
	// A server that knows none of them is not one that holds nothing.
	s := serve(t, map[string]string{finding: byType[finding]})
	if _, err := fetch(t, s, query(t, held)); !errors.Is(err, broker.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	// A failing search is missing, also where it was a guess.
	s = serve(t, with(byType, meta, "404 ", "POST Goal/_search", "500 "))
	if r, err := fetch(t, s, query(t, held)); err != nil || !slices.Equal(r.Parts, []record.Part{{Source: "Goal", Reason: record.PartSourceDown}}) {
		t.Errorf("got %v and %v", r.Parts, err)
	}
}

// A statement that names nothing to ask for does not make a record of nothing but the Patient: what could be there is tried, as without a statement.
func TestAStatementThatNamesNoSearch(t *testing.T) {
	const id = "nhs." + held
	for _, c := range []struct {
		name, statement, id string
		change              func(*fhirr4.Settings)
	}{
		{"nothing", `200 {"resourceType":"CapabilityStatement","status":"active"}`, "p1", nil},
		{"Patients only", offering(false), "p1", nil},
		{"no interaction but read", `200 {"resourceType":"CapabilityStatement","rest":[{"mode":"server","resource":[{"type":"Condition","interaction":[{"code":"read"}]}]}]}`, "p1", nil},
		{"$everything, which is not known", offering(true), "p1", nil},
		{"$everything, which is never used", offering(true), "p1", func(s *fhirr4.Settings) { s.Everything = fhirr4.EverythingNever }},
		{"$everything, with the number in its address", offering(true), id, nil},
	} {
		answers := with(byType, meta, c.statement, finding, searchset("", patientOf(c.id, held)),
			"POST Condition/_search", searchset("", about("Condition", "c1", c.id)), "POST Observation/_search", searchset("", about("Observation", "o1", c.id)))
		s := serve(t, answers)
		var change []func(*fhirr4.Settings)
		if c.change != nil {
			change = append(change, c.change)
		}
		r, err := fetch(t, s, query(t, held), change...)
		if err != nil || len(r.Entries) != 3 || r.Parts != nil {
			t.Errorf("%s: got %d entries, %v and %v", c.name, len(r.Entries), r.Parts, err)
		}
		delete(answers, "POST Condition/_search")
		delete(answers, "POST Observation/_search")
		if _, err := fetch(t, serve(t, answers), query(t, held), change...); !errors.Is(err, broker.ErrMalformed) {
			t.Errorf("%s, and nothing is known: got %v", c.name, err)
		}
	}
}

func TestIncludedResourcesComeOnce(t *testing.T) {
	entry := func(mode, r string) string { return `{"resource":` + r + `,"search":{"mode":"` + mode + `"}}` }
	bundle := func(entries ...string) string {
		return `200 {"resourceType":"Bundle","type":"searchset","entry":[` + strings.Join(entries, ",") + `]}`
	}
	const gp, other = `{"resourceType":"Practitioner","id":"gp"}`, `{"resourceType":"Practitioner","id":"gp","active":true}`
	s := serve(t, with(byType,
		"POST Condition/_search", bundle(entry("match", about("Condition", "c1", "p1")), entry("include", gp), entry("include", about("Observation", "o1", "p1"))),
		"POST Observation/_search", bundle(entry("match", about("Observation", "o1", "p1")), entry("match", about("Observation", "o1", "p1")), entry("include", gp), entry("include", other),
			entry("include", patientOf("p1", held)))))
	r, err := fetch(t, s, query(t, held))
	// A match that comes twice is the custodian's doing, and so are two versions of one Practitioner: the merge counts them.
	if want := "Patient/p1 Condition/c1 Practitioner/gp Observation/o1 Observation/o1 Practitioner/gp"; err != nil || ids(r.Entries) != want {
		t.Errorf("got %s and %v, want %s", ids(r.Entries), err, want)
	}
}

func TestTheStatementIsReadOnce(t *testing.T) {
	s := serve(t, whole)
	src := source(t, s.base)
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			if _, err := src.Fetch(t.Context(), query(t, held)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := strings.Count(strings.Join(s.lines(), " "), "metadata"); n != 1 {
		t.Errorf("read %d times", n)
	}
}

// A statement that hangs takes a part of the first request's time, not all of it, and the next requests do not wait for it again.
func TestAStatementThatHangs(t *testing.T) {
	var asked int
	var mu sync.Mutex
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if strings.HasSuffix(r.URL.Path, "/metadata") {
			mu.Lock()
			asked++
			mu.Unlock()
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/fhir+json")
		a, ok := byType[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/fhir/")]
		if !ok {
			w.WriteHeader(404)
			return
		}
		_, _ = io.WriteString(w, a[4:])
	}))
	t.Cleanup(h.Close)
	src := source(t, h.URL+"/fhir", func(s *fhirr4.Settings) { s.Searches = []string{"Condition", "Observation"} })
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		r, err := src.Fetch(ctx, query(t, held))
		cancel()
		if err != nil || len(r.Entries) != 3 {
			t.Errorf("fetch %d: got %v", i, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestLimitsHaveDefaults(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, about("Condition", fmt.Sprint("c", i), "p1"))
	}
	s := serve(t, with(whole, all, searchset("", many...)))
	q := query(t, held)
	q.Limits = broker.Limits{}
	if r, err := fetch(t, s, q); err != nil || len(r.Entries) != 31 {
		t.Errorf("without limits: got %v", err)
	}
	q.Limits = broker.Limits{Resources: 30} // the search's Patient counts
	if _, err := fetch(t, s, q); !errors.Is(err, broker.ErrTooMuch) {
		t.Errorf("got %v", err)
	}
}

// What custodians' bytes hold comes back as it was sent.
func TestBytesStay(t *testing.T) {
	const odd = `{"resourceType":"Observation", "id" : "o1","subject":{"reference":"Patient/p1"},"valueQuantity":{"value":1.500},"_status":{"x":null},"note":"\u00e9\/\ud83d\ude00"}`
	s := serve(t, with(whole, all, searchset("", odd)))
	r, err := fetch(t, s, query(t, held))
	if err != nil || len(r.Entries) != 2 || string(r.Entries[1].Resource.Raw()) != odd {
		t.Errorf("got %v, or other bytes", err)
	}
	if !json.Valid(r.Entries[0].Resource.Raw()) {
		t.Error("the Patient is no JSON")
	}
}
