package pds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	asked = "9990000018"
	other = "9990000026"
	old   = "9990000034"
	older = "9990000042"
)

func number(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a number of the tests is not valid")
	}
	return n
}

func tracer(t *testing.T, h http.Handler, change ...func(*Settings)) *Tracer {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	s := Settings{Connection: wire.Connection{BaseURL: srv.URL + "/personal-demographics/FHIR/R4", AllowPlainHTTP: true}}
	for _, f := range change {
		f(&s)
	}
	tr, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

// says answers every request with a status and a body.
func says(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/fhir+json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func trace(t *testing.T, tr *Tracer, n string) (record.Subject, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := tr.Trace(ctx, number(t, n), "5b3f0d3c-8a0e-4c58-9d6e-2f5f1f3c9a77")
	if err != nil && (strings.Contains(err.Error(), n) || strings.Contains(err.Error(), "Patient") || strings.Contains(err.Error(), "127.0.0.1")) {
		t.Error("the error holds text from outside")
	}
	return s, err
}

// patient writes a Patient with some members replaced or, with null, left out.
func patient(changes string) string {
	m := map[string]json.RawMessage{
		"resourceType": json.RawMessage(`"Patient"`), "id": json.RawMessage(`"` + asked + `"`),
		"identifier": json.RawMessage(`[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + asked + `"}]`),
		"meta":       json.RawMessage(`{"versionId":"7","security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"U"}]}`),
		"name":       json.RawMessage(`[{"use":"usual","family":"Testperson","given":["Ann","May"]}]`),
		"gender":     json.RawMessage(`"female"`), "birthDate": json.RawMessage(`"1950-01-02"`),
	}
	var c map[string]json.RawMessage
	if err := json.Unmarshal([]byte(changes), &c); err != nil {
		panic(err)
	}
	for k, v := range c {
		if string(v) == "null" {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	out, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func security(codes ...string) string {
	var list []string
	for _, c := range codes {
		list = append(list, `{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"`+c+`"}`)
	}
	return `{"meta":{"versionId":"7","security":[` + strings.Join(list, ",") + `]}}`
}

// outcome of the service, in its own form.
func outcome(code string) string {
	return `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing","details":{"coding":[{"system":` +
		`"https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode","version":"1","code":"` + code + `"}]}}]}`
}

func TestStandings(t *testing.T) {
	whole := record.Subject{Standing: record.Live, Family: "Testperson", Given: []string{"Ann", "May"}, Gender: "female", BirthDate: "1950-01-02", Version: "7"}
	with := func(f func(*record.Subject)) record.Subject { s := whole; f(&s); return s }
	bare := func(s record.Standing) record.Subject { return record.Subject{Standing: s} }
	versioned := func(s record.Standing) record.Subject { return record.Subject{Standing: s, Version: "7"} }
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   record.Subject
		err    error
	}{
		{"live", 200, patient(`{}`), whole, nil},
		{"restricted", 200, patient(security("R")), versioned(record.Restricted), nil},
		{"very restricted", 200, patient(security("V")), versioned(record.Invalidated), nil},
		{"redacted", 200, patient(security("REDACTED")), versioned(record.Invalidated), nil},
		{"two labels, the stricter first", 200, patient(security("R", "U")), versioned(record.Restricted), nil},
		{"two labels, the stricter last", 200, patient(security("U", "R")), versioned(record.Restricted), nil},
		{"a label nobody knows", 200, patient(security("X")), versioned(record.Restricted), nil},
		{"no label", 200, patient(`{"meta":{"versionId":"7"}}`), record.Subject{}, broker.ErrMalformed},
		{"a label of another system", 200, patient(`{"meta":{"security":[{"system":"x","code":"U"}]}}`), record.Subject{}, broker.ErrMalformed},
		{"superseded", 200, patient(`{"id":"` + other + `","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + other + `"}]}`), bare(record.Superseded), nil},
		{"superseded and restricted", 200, strings.Replace(patient(security("R")), asked, other, 2), bare(record.Superseded), nil},
		{"deceased", 200, patient(`{"deceasedDateTime":"2026-01-05T00:00:00+00:00"}`),
			with(func(s *record.Subject) { s.Standing, s.Deceased = record.Deceased, "2026-01-05T00:00:00+00:00" }), nil},
		{"deceased, day unknown", 200, patient(`{"deceasedBoolean":true}`), with(func(s *record.Subject) { s.Standing, s.Deceased = record.Deceased, "true" }), nil},
		{"not deceased", 200, patient(`{"deceasedBoolean":false}`), whole, nil},
		{"deceased and restricted", 200, patient(`{"deceasedBoolean":true,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}}`),
			bare(record.Restricted), nil},
		{"deceased twice", 200, patient(`{"deceasedBoolean":false,"deceasedDateTime":"2026-01-05"}`), record.Subject{}, broker.ErrMalformed},
		{"deceased some time", 200, patient(`{"deceasedDateTime":"last winter"}`), record.Subject{}, broker.ErrMalformed},
		{"deceased, of the wrong type", 200, patient(`{"deceasedBoolean":"true"}`), record.Subject{}, broker.ErrMalformed},
		{"unknown", 404, outcome("RESOURCE_NOT_FOUND"), bare(record.Unknown), nil},
		{"invalidated", 404, outcome("INVALIDATED_RESOURCE"), bare(record.Invalidated), nil},
		{"404 of somebody in between", 404, outcome("X"), record.Subject{}, broker.ErrMalformed},
		{"404 without a body", 404, "", record.Subject{}, broker.ErrMalformed},
		{"404 that is no outcome", 404, patient(`{}`), record.Subject{}, broker.ErrMalformed},
		{"410", 410, outcome("INVALIDATED_RESOURCE"), record.Subject{}, broker.ErrMalformed},
		{"400", 400, outcome("INVALID_RESOURCE_ID"), record.Subject{}, broker.ErrMalformed},
		{"401", 401, outcome("ACCESS_DENIED"), record.Subject{}, broker.ErrUnauthorised},
		{"403", 403, outcome("ACCESS_DENIED"), record.Subject{}, broker.ErrUnauthorised},
		{"408", 408, outcome("UNABLE_TO_CALL_SERVICE"), record.Subject{}, broker.ErrUnavailable},
		{"429", 429, outcome("TOO_MANY_REQUESTS"), record.Subject{}, broker.ErrThrottled},
		{"500", 500, "", record.Subject{}, broker.ErrMalformed},
		{"503", 503, "", record.Subject{}, broker.ErrUnavailable},
		{"302", 302, "", record.Subject{}, broker.ErrElsewhere},
		{"not JSON", 200, `{"resourceType": Patient`, record.Subject{}, broker.ErrMalformed},
		{"a key twice", 200, strings.Replace(patient(`{}`), `"id":"`+asked+`"`, `"id":"`+asked+`","id":"`+other+`"`, 1), record.Subject{}, broker.ErrMalformed},
		{"an id in two cases", 200, strings.Replace(patient(`{}`), `"id":"`+asked+`"`, `"id":"`+asked+`","ID":"`+other+`"`, 1), record.Subject{}, broker.ErrMalformed},
		{"an outcome with 200", 200, outcome("RESOURCE_NOT_FOUND"), record.Subject{}, broker.ErrMalformed},
		{"a Bundle", 200, `{"resourceType":"Bundle"}`, record.Subject{}, broker.ErrMalformed},
		{"no id", 200, patient(`{"id":null}`), record.Subject{}, broker.ErrMalformed},
		{"an id that is no number", 200, patient(`{"id":"x"}`), record.Subject{}, broker.ErrMalformed},
		{"an identifier that says another", 200, patient(`{"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + other + `"}]}`), record.Subject{}, broker.ErrWrongSubject},
		{"two identifiers", 200, patient(`{"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + asked + `"},{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + other + `"}]}`), record.Subject{}, broker.ErrWrongSubject},
		{"no identifier", 200, patient(`{"identifier":null}`), record.Subject{}, broker.ErrWrongSubject},
		{"no name, gender, birth date", 200, patient(`{"name":null,"gender":null,"birthDate":null}`), versioned(record.Live), nil},
		{"a gender that is none", 200, patient(`{"gender":"F"}`), record.Subject{}, broker.ErrMalformed},
		{"a birth date with a time", 200, patient(`{"birthDate":"1950-01-02T00:00:00Z"}`), record.Subject{}, broker.ErrMalformed},
		{"a birth date that is none", 200, patient(`{"birthDate":"02/01/1950"}`), record.Subject{}, broker.ErrMalformed},
		{"part of a birth date", 200, patient(`{"birthDate":"1950"}`), with(func(s *record.Subject) { s.BirthDate = "1950" }), nil},
		{"usual before others", 200, patient(`{"name":[{"use":"old","family":"A"},{"use":"official","family":"B"},{"use":"usual","family":"C","period":{"end":"2020"}},{"use":"usual","family":"D"},{"use":"usual","family":"E"}]}`),
			with(func(s *record.Subject) { s.Family, s.Given = "D", nil }), nil},
		{"official where there is no usual", 200, patient(`{"name":[{"family":"A"},{"use":"nickname","family":"X"},{"use":"official","family":"B"}]}`),
			with(func(s *record.Subject) { s.Family, s.Given = "B", nil }), nil},
		{"never an old name", 200, patient(`{"name":[{"use":"old","family":"A"},{"use":"maiden","family":"B"}]}`), with(func(s *record.Subject) { s.Family, s.Given = "", nil }), nil},
		{"an odd version", 200, patient(`{"meta":{"versionId":"` + asked + `","security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"U"}]}}`),
			with(func(s *record.Subject) { s.Version = "" }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := trace(t, tracer(t, says(c.status, c.body)), asked)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("got error %v, want %v", err, c.err)
			}
			if err == nil {
				c.want.Number = number(t, asked)
			}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) || got.Number != c.want.Number {
				t.Errorf("got standing %q, want %q, or other differences", got.Standing, c.want.Standing)
			}
		})
	}
}

func TestEarlierNumbers(t *testing.T) {
	link := func(kind, other string) string { return `{"type":"` + kind + `","other":` + other + `}` }
	logical := func(n string) string {
		return `{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + n + `"}}`
	}
	body := patient(`{"link":[` + strings.Join([]string{link("replaces", logical(old)), link("replaces", `{"reference":"Patient/`+older+`"}`), link("replaces", logical(old)),
		link("seealso", logical(other)), link("replaced-by", logical(other)), link("replaces", logical("x")), link("replaces", logical(asked)), link("replaces", `{"reference":"x"}`)}, ",") + `]}`)
	got, err := trace(t, tracer(t, says(200, body)), asked)
	if err != nil || !slices.Equal(got.Supersedes, []record.NHSNumber{number(t, old), number(t, older)}) {
		t.Errorf("got %d earlier numbers by link, error %v, want 2", len(got.Supersedes), err)
	}
	body = patient(`{"identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + asked + `"},{"use":"old","system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + old + `"}]}`)
	got, err = trace(t, tracer(t, says(200, body)), asked)
	if err != nil || !slices.Equal(got.Supersedes, []record.NHSNumber{number(t, old)}) {
		t.Errorf("got %d earlier numbers by identifier, error %v, want 1", len(got.Supersedes), err)
	}
	// Of a restricted record nothing else is read; but a question of the ledger must follow its numbers as it follows anybody's.
	body = patient(strings.Replace(security("R"), "{", `{"link":[`+link("replaces", logical(old))+`],`, 1))
	got, err = trace(t, tracer(t, says(200, body)), asked)
	if err != nil || got.Standing != record.Restricted || got.Family != "" || !slices.Equal(got.Supersedes, []record.NHSNumber{number(t, old)}) {
		t.Errorf("got %d earlier numbers of a restricted record, standing %q, error %v, want 1", len(got.Supersedes), got.Standing, err)
	}
}

func TestWhatIsSent(t *testing.T) {
	var got *http.Request
	requests := 0
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		requests++
		says(200, patient(`{}`)).ServeHTTP(w, r)
	})
	tr := tracer(t, h, func(s *Settings) { s.EndUserOrganisation, s.SessionURID = "X9B01", "555021935107" })
	for id, same := range map[string]bool{"5b3f0d3c-8a0e-4c58-9d6e-2f5f1f3c9a77": true, "caller's own " + asked: false, "": false} {
		if _, err := tr.Trace(t.Context(), number(t, asked), id); err != nil {
			t.Fatal(err)
		}
		sent := got.Header.Get("X-Request-ID")
		if len(sent) != 36 || (sent == id) != same || strings.Contains(sent, asked) {
			t.Errorf("request id %q went out as %q", id, sent)
		}
	}
	if got.Method != "GET" || got.RequestURI != "/personal-demographics/FHIR/R4/Patient/"+asked || got.Header.Get("NHSD-End-User-Organisation-ODS") != "X9B01" ||
		got.Header.Get("NHSD-Session-URID") != "555021935107" || requests != 3 {
		t.Error("not what PDS wants, or not once")
	}
	if _, err := tr.Trace(t.Context(), record.NHSNumber{}, ""); !errors.Is(err, broker.ErrMalformed) || requests != 3 {
		t.Errorf("no number: got %v after %d requests", err, requests)
	}
	for field, s := range map[string]Settings{"endUserOrganisation": {EndUserOrganisation: "x"}, "sessionURID": {SessionURID: "12a"}, "baseURL": {}} {
		var e *wire.SettingError
		if _, err := New(s); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

// Against the simulated service, with each of its faults.
func TestFaults(t *testing.T) {
	d, err := simulator.NewDemographics([]simulator.Demographic{
		{Number: asked, Standing: simulator.Live, Patient: json.RawMessage(patient(`{"meta":null}`))},
		{Number: other, Standing: simulator.Superseded, By: asked},
		{Number: old, Standing: simulator.Invalidated},
		{Number: older, Standing: simulator.Restricted, Patient: json.RawMessage(strings.ReplaceAll(patient(`{"meta":null}`), asked, older))},
	})
	if err != nil {
		t.Fatal(err)
	}
	tr := tracer(t, d)
	for n, want := range map[string]record.Standing{asked: record.Live, other: record.Superseded, old: record.Invalidated, older: record.Restricted, "9990000050": record.Unknown} {
		s, err := trace(t, tr, n)
		if err != nil || s.Standing != want || s.Number != number(t, n) {
			t.Errorf("got %v and %v, want %v", s.Standing, err, want)
		}
	}
	want := map[simulator.Fault]error{simulator.FaultNone: nil, simulator.FaultSlow: nil, simulator.FaultDown: broker.ErrUnavailable, simulator.FaultHang: broker.ErrTimedOut,
		simulator.FaultError500: broker.ErrMalformed, simulator.FaultGarbage: broker.ErrMalformed}
	for _, f := range simulator.DemographicsFaults() {
		expect, known := want[f]
		if !known {
			t.Errorf("no expectation for %s", f)
			continue
		}
		spec := simulator.FaultSpec{Fault: f}
		wait := 10 * time.Second
		switch f {
		case simulator.FaultSlow:
			spec.Ms = 30
		case simulator.FaultHang:
			wait = 100 * time.Millisecond
		}
		if err := d.SetFault(spec); err != nil {
			t.Fatal(err)
		}
		before := d.Requests().Record
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		s, err := tr.Trace(ctx, number(t, asked), "")
		cancel()
		if !errors.Is(err, expect) || (err == nil) != (expect == nil) || err != nil && s.Standing != "" {
			t.Errorf("%s: got %v, want %v", f, err, expect)
		}
		if n := d.Requests().Record - before; n != 1 {
			t.Errorf("%s: asked %d times", f, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Trace(ctx, number(t, asked), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has left: got %v", err)
	}
}

func TestALongAnswerIsRefused(t *testing.T) {
	tr := tracer(t, says(200, patient(`{"text":{"div":"`+strings.Repeat("x", maxBytes)+`"}}`)))
	if _, err := trace(t, tr, asked); !errors.Is(err, broker.ErrTooMuch) {
		t.Errorf("got %v", err)
	}
}

// sharedData finds the sample data beside the repository.
func sharedData(t *testing.T, folder string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if at := filepath.Join(dir, "shared", "data", folder); isDir(at) {
			return at
		}
		up := filepath.Dir(dir)
		if up == dir {
			break
		}
		dir = up
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the sample data is missing: shared/data belongs beside the repository")
	}
	t.Skip("the sample data, shared/data beside the repository, is not there")
	return ""
}

func isDir(name string) bool {
	i, err := os.Stat(name)
	return err == nil && i.IsDir()
}

// Every Patient that the service publishes as a sample is read, and says what the sample says.
func TestPublishedSamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(sharedData(t, "pds"), "patientResponses", "*.json"))
	if err != nil || len(files) < 12 {
		t.Fatalf("found %d samples", len(files))
	}
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var want struct {
			ID   string
			Meta struct{ VersionID string }
			Name []struct {
				Use, Family string
				Given       []string
			}
			Gender, BirthDate, DeceasedDateTime string
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		n, err := record.ParseNHSNumber(want.ID)
		if err != nil {
			t.Errorf("sample %d: its id is no NHS number", i)
			continue
		}
		tr := tracer(t, says(200, string(text)))
		got, err := tr.Trace(t.Context(), n, "")
		if err != nil {
			t.Errorf("sample %d: %v", i, err)
			continue
		}
		standing, family, given := record.Live, "", []string(nil)
		if want.DeceasedDateTime != "" {
			standing = record.Deceased
		}
		for _, x := range want.Name {
			if x.Use == "usual" {
				family, given = x.Family, x.Given
			}
		}
		if got.Standing != standing || got.Family != family || !slices.Equal(got.Given, given) || got.Gender != want.Gender || got.BirthDate != want.BirthDate ||
			got.Deceased != want.DeceasedDateTime || got.Version != want.Meta.VersionID || len(got.Supersedes) != 0 || got.Number != n {
			t.Errorf("sample %d is not read as it stands", i)
		}
		// Asked under another number, it is a superseded one: nothing of the person is in the result.
		got, err = tr.Trace(t.Context(), number(t, asked), "")
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", record.Subject{Number: number(t, asked), Standing: record.Superseded}) {
			t.Errorf("sample %d under another number: got %v, error %v", i, got.Standing, err)
		}
	}
}

// The service's published error bodies, and the restricted person among its search samples.
func TestPublishedErrorsAndRestricted(t *testing.T) {
	dir := sharedData(t, "pds")
	for file, c := range map[string]struct {
		status int
		want   record.Standing
		err    error
	}{
		"RESOURCE_NOT_FOUND": {404, record.Unknown, nil}, "INVALIDATED_RESOURCE": {404, record.Invalidated, nil}, "ACCESS_DENIED": {403, "", broker.ErrUnauthorised},
		"INVALID_RESOURCE_ID": {400, "", broker.ErrMalformed}, "PRECONDITION_FAILED": {412, "", broker.ErrMalformed}, "MISSING_VALUE": {400, "", broker.ErrMalformed},
	} {
		text, err := os.ReadFile(filepath.Join(dir, "errorResponses", file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := trace(t, tracer(t, says(c.status, string(text))), asked)
		if got.Standing != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: got %q and %v", file, got.Standing, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "searchResponses", "Sensitive_Patient.json"))
	if err != nil {
		t.Fatal(err)
	}
	var id struct{ ID string }
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&id); err != nil {
		t.Fatal(err)
	}
	got, err := tracer(t, says(200, string(text))).Trace(t.Context(), number(t, id.ID), "")
	if err != nil || got.Standing != record.Restricted || got.Family != "" || got.BirthDate != "" || got.Given != nil || got.Gender != "" {
		t.Errorf("the restricted sample: got %q, error %v, or its demographics", got.Standing, err)
	}
}
