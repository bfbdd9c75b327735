package simulator_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

const (
	ann = "9990000018"
	bob = "9990000026"
)

// record is one invented person's: two results, a medicine with its supporting resources, a letter with a Binary.
func record(id, number string) []json.RawMessage {
	text := []string{
		`{"resourceType":"Patient","id":"` + id + `","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + number + `"}]}`,
		`{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/` + id + `"},"valueQuantity":{"value":5.80},"performer":[{"reference":"{{base}}/Practitioner/pr1"}]}`,
		`{"resourceType":"Observation","id":"o2","subject":{"reference":"Patient/` + id + `"},"valueQuantity":{"value":6.10}}`,
		`{"resourceType":"MedicationRequest","id":"m1","subject":{"reference":"Patient/` + id + `"},"medicationReference":{"reference":"Medication/med1"}}`,
		`{"resourceType":"Medication","id":"med1","manufacturer":{"reference":"Organization/org1/_history/3"}}`,
		`{"resourceType":"Organization","id":"org1"}`, `{"resourceType":"Practitioner","id":"pr1"}`,
		`{"resourceType":"Binary","id":"b1","contentType":"text/plain","data":"QQ=="}`,
	}
	out := make([]json.RawMessage, len(text))
	for i, s := range text {
		out[i] = json.RawMessage(s)
	}
	return out
}

type bundle struct {
	ResourceType string
	Total        int
	Link         []struct{ Relation, URL string }
	Entry        []struct {
		FullURL  string
		Resource struct {
			ResourceType, ID string
			Subject          struct{ Reference string }
		}
		Search struct{ Mode string }
	}
}

func (b bundle) next() string {
	for _, l := range b.Link {
		if l.Relation == "next" {
			return l.URL
		}
	}
	return ""
}

func (b bundle) keys() []string {
	var out []string
	for _, e := range b.Entry {
		out = append(out, e.Search.Mode+" "+e.Resource.ResourceType+"/"+e.Resource.ID)
	}
	return out
}

func start(t *testing.T, everything bool, pageSize int) (*simulator.Custodian, string) {
	t.Helper()
	c, err := simulator.NewCustodian(simulator.CustodianConfig{Name: "Test", Everything: everything, PageSize: pageSize,
		People: map[string][]json.RawMessage{ann: record("p1", ann), bob: record("p2", bob)}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := simulator.Listen("127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return c, s.URL()
}

// ask returns the status and the decoded body; err is that of the exchange.
func ask(ctx context.Context, method, address string, form url.Values) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp, body, err
}

func get(t *testing.T, address string, form url.Values) (int, bundle) {
	t.Helper()
	method := http.MethodPost
	if form == nil {
		method = http.MethodGet
	}
	resp, body, err := ask(t.Context(), method, address, form)
	if err != nil {
		t.Fatal("the exchange failed")
	}
	var b bundle
	if err := json.Unmarshal(body, &b); err != nil {
		t.Fatalf("not JSON, status %d", resp.StatusCode)
	}
	return resp.StatusCode, b
}

func whoIs(number string) url.Values {
	return url.Values{"identifier": {"https://fhir.nhs.uk/Id/nhs-number|" + number}}
}

func TestPatientSearch(t *testing.T) {
	c, at := start(t, true, 0)
	status, b := get(t, at+"/fhir/Patient/_search", whoIs(ann))
	if status != 200 || b.Total != 1 || !slices.Equal(b.keys(), []string{"match Patient/p1"}) || b.Entry[0].FullURL != at+"/fhir/Patient/p1" {
		t.Errorf("got %d %v, want the one Patient", status, b.keys())
	}
	if status, b = get(t, at+"/fhir/Patient/_search", whoIs("9990000034")); status != 200 || b.Total != 0 || len(b.Entry) != 0 {
		t.Errorf("unknown number: got %d and %d entries, want an empty set", status, len(b.Entry))
	}
	if status, _ = get(t, at+"/fhir/Patient/_search", url.Values{}); status != 400 {
		t.Errorf("no identifier: got %d, want 400", status)
	}
	if got := c.Requests(); got != (simulator.Counts{Record: 3}) {
		t.Errorf("counted %+v, want 3 record requests", got)
	}
	for _, line := range c.Log() {
		if strings.Contains(line, ann) {
			t.Error("an identifier is in an address")
		}
	}
}

func TestEverythingPages(t *testing.T) {
	_, at := start(t, true, 3)
	var got []string
	pages := 0
	for next := at + "/fhir/Patient/p1/$everything"; next != ""; pages++ {
		if !strings.HasPrefix(next, at+"/fhir") || strings.Contains(next, ann) {
			t.Fatal("a page outside the server, or with an identifier in its address")
		}
		status, b := get(t, next, nil)
		if status != 200 {
			t.Fatalf("page %d: status %d", pages, status)
		}
		got = append(got, b.keys()...)
		next = b.next()
	}
	want := []string{"match Patient/p1", "match Observation/o1", "match Observation/o2", "match MedicationRequest/m1",
		"include Medication/med1", "include Organization/org1", "include Practitioner/pr1"}
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("got %v in %d pages, want %v in 3", got, pages, want)
	}
	if status, _ := get(t, at+"/fhir?_getpages=AAAA", nil); status != 410 {
		t.Errorf("made-up token: got %d, want 410", status)
	}
}

func TestSearchByType(t *testing.T) {
	_, at := start(t, false, 1)
	if status, _ := get(t, at+"/fhir/Patient/p1/$everything", nil); status != 404 {
		t.Errorf("$everything is not offered: got %d, want 404", status)
	}
	status, b := get(t, at+"/fhir/Observation/_search", url.Values{"patient": {"p1"}, "_include": {"*"}})
	if want := []string{"match Observation/o1", "include Practitioner/pr1"}; status != 200 || b.Total != 2 || !slices.Equal(b.keys(), want) {
		t.Errorf("got %d %v, want %v", status, b.keys(), want)
	}
	if _, b = get(t, b.next(), nil); !slices.Equal(b.keys(), []string{"match Observation/o2"}) || b.next() != "" {
		t.Errorf("second page: got %v", b.keys())
	}
	_, b = get(t, at+"/fhir/MedicationRequest/_search", url.Values{"patient": {"Patient/p1"}, "_include": {"MedicationRequest:medication"}})
	if want := []string{"match MedicationRequest/m1", "include Medication/med1"}; !slices.Equal(b.keys(), want) {
		t.Errorf("got %v, want %v", b.keys(), want)
	}
	_, b = get(t, at+"/fhir/MedicationRequest/_search", url.Values{"patient.identifier": {"https://fhir.nhs.uk/Id/nhs-number|" + ann}, "_include:iterate": {"*"}})
	if want := []string{"match MedicationRequest/m1", "include Medication/med1", "include Organization/org1"}; !slices.Equal(b.keys(), want) {
		t.Errorf("got %v, want %v", b.keys(), want)
	}
	if status, _ = get(t, at+"/fhir/Observation/_search", url.Values{}); status != 400 {
		t.Errorf("everybody's: got %d, want 400", status)
	}
	if status, b = get(t, at+"/fhir/Observation/_search", url.Values{"patient": {"p9"}}); status != 200 || len(b.Entry) != 0 {
		t.Errorf("nobody's: got %d and %d entries", status, len(b.Entry))
	}
}

func TestMetadataSaysWhatIsOffered(t *testing.T) {
	for _, everything := range []bool{true, false} {
		c, at := start(t, everything, 0)
		_, body, err := ask(t.Context(), http.MethodGet, at+"/fhir/metadata", nil)
		if err != nil || bytes.Contains(body, []byte("Patient-everything")) != everything || !bytes.Contains(body, []byte(`"fhirVersion":"4.0.1"`)) {
			t.Errorf("everything %v: metadata says otherwise", everything)
		}
		if resp, _, err := ask(t.Context(), http.MethodDelete, at+"/fhir/Patient/p1", nil); err != nil || resp.StatusCode != 405 {
			t.Error("a write verb is not refused with 405")
		}
		if got := c.Requests(); got != (simulator.Counts{Other: 2}) {
			t.Errorf("counted %+v, want 2 others", got)
		}
	}
}

func TestBytesAndCompression(t *testing.T) {
	_, at := start(t, true, 0)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/fhir/Patient/p1/$everything", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal("the exchange failed")
	}
	defer func() { _ = resp.Body.Close() }()
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal("not gzip")
	}
	body, err := io.ReadAll(z)
	if err != nil {
		t.Fatal("not gzip")
	}
	for _, want := range []string{`"value":5.80}`, `"` + at + `/fhir/Practitioner/pr1"`} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("the text %s is not as it was given", want)
		}
	}
	if _, body, err = ask(t.Context(), http.MethodGet, at+"/fhir/Binary/b1", nil); err != nil || !bytes.Contains(body, []byte("QQ==")) {
		t.Error("a Binary cannot be read")
	}
}

// set makes a fault over HTTP, as a driver of the demo does.
func set(t *testing.T, at, spec string) (int, string) {
	t.Helper()
	resp, err := http.Post(at+"/_sim/fault", "application/json", strings.NewReader(spec))
	if err != nil {
		t.Fatal("the control address does not answer")
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal("the control address does not answer")
	}
	return resp.StatusCode, string(body)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	isJSON := func(b []byte) bool { return json.Valid(b) && utf8.Valid(b) }
	cases := []struct {
		spec string
		want func(resp *http.Response, body []byte, err error, took time.Duration) bool
	}{
		{`{"fault":"none"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool { return err == nil && isJSON(b) }},
		{`{"fault":"down"}`, func(_ *http.Response, _ []byte, err error, _ time.Duration) bool { return err != nil }},
		{`{"fault":"hang"}`, func(_ *http.Response, _ []byte, err error, took time.Duration) bool {
			return errors.Is(err, context.DeadlineExceeded) && took > 900*time.Millisecond
		}},
		{`{"fault":"hang","ms":50}`, func(r *http.Response, b []byte, err error, took time.Duration) bool {
			return err == nil && isJSON(b) && took >= 50*time.Millisecond
		}},
		{`{"fault":"slow","ms":60}`, func(r *http.Response, b []byte, err error, took time.Duration) bool {
			return err == nil && isJSON(b) && took >= 60*time.Millisecond
		}},
		{`{"fault":"trickle","ms":50}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return errors.Is(err, context.DeadlineExceeded) && len(b) > 2 && len(b) < 40
		}},
		{`{"fault":"error500"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 500
		}},
		{`{"fault":"throttle429"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 429 && r.Header.Get("Retry-After") == "1"
		}},
		{`{"fault":"unauthorised"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 401
		}},
		{`{"fault":"garbage"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 200 && !json.Valid(b)
		}},
		{`{"fault":"truncated"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 200 && !json.Valid(b) && bytes.HasPrefix(b, []byte(`{"resourceType":"Bundle"`))
		}},
		{`{"fault":"huge"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && len(b) > 32<<20 && isJSON(b)
		}},
		{`{"fault":"gzip-bomb"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && len(b) == 64<<20
		}},
		{`{"fault":"deep"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && bytes.Count(b, []byte(`"extension":[`)) >= 5000 && bytes.Count(b, []byte("{")) == bytes.Count(b, []byte("}"))
		}},
		{`{"fault":"duplicate-keys"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && isJSON(b) && bytes.Contains(b, []byte(`{"id":"another","resourceType":"Patient","id":"p1"`))
		}},
		{`{"fault":"bad-utf8"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool { return err == nil && !utf8.Valid(b) }},
		{`{"fault":"wrong-patient"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && isJSON(b) && !bytes.Contains(b, []byte(ann)) && bytes.Contains(b, []byte(simulator.StrangerTag)) && bytes.Contains(b, []byte(bob))
		}},
		{`{"fault":"mixed-patients"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && isJSON(b) && bytes.Contains(b, []byte(ann)) && bytes.Count(b, []byte(simulator.StrangerTag)) == 3 &&
				bytes.Count(b, []byte(`"resourceType":"Patient"`)) == 1
		}},
		{`{"fault":"page-elsewhere"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && bytes.Contains(b, []byte(`"url":"http://elsewhere.invalid/`))
		}},
		{`{"fault":"no-record"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 404
		}},
		{`{"fault":"no-consent"}`, func(r *http.Response, b []byte, err error, _ time.Duration) bool {
			return err == nil && r.StatusCode == 403 && bytes.Contains(b, []byte("NO_PATIENT_CONSENT"))
		}},
	}
	for _, tc := range cases {
		t.Run(tc.spec, func(t *testing.T) {
			t.Parallel()
			c, at := start(t, true, 0)
			if status, _ := set(t, at, tc.spec); status != 200 {
				t.Fatalf("setting the fault: status %d", status)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if strings.Contains(tc.spec, "hang") || strings.Contains(tc.spec, "trickle") {
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			defer cancel()
			began := time.Now()
			resp, body, err := ask(ctx, http.MethodGet, at+"/fhir/Patient/p1/$everything", nil)
			if !tc.want(resp, body, err, time.Since(began)) {
				t.Errorf("got %d bytes, error %t", len(body), err != nil)
			}
			if status, _ := set(t, at, `{"fault":"none"}`); status != 200 {
				t.Errorf("the control address does not answer during the fault")
			}
			if c.Requests().Record < 1 {
				t.Error("the request was not counted")
			}
		})
	}
}

// TestFaultsShowForPeopleWhoAreNotHeld holds what a driver relies on: a fault of content shows on whoever is asked for.
func TestFaultsShowForPeopleWhoAreNotHeld(t *testing.T) {
	_, at := start(t, false, 0)
	for fault, shows := range map[string]func(b []byte) bool{
		"duplicate-keys": func(b []byte) bool { return bytes.Contains(b, []byte(`"id":"one","id":"another"`)) },
		"bad-utf8":       func(b []byte) bool { return !utf8.Valid(b) },
		"deep":           func(b []byte) bool { return bytes.Count(b, []byte(`"extension":[`)) >= 5000 },
		"truncated":      func(b []byte) bool { return !json.Valid(b) },
		"page-loop":      func(b []byte) bool { return bytes.Contains(b, []byte(`"relation":"next"`)) },
		"page-elsewhere": func(b []byte) bool { return bytes.Contains(b, []byte(`http://elsewhere.invalid/`)) },
		"wrong-patient":  func(b []byte) bool { return bytes.Contains(b, []byte(simulator.StrangerTag)) },
		"mixed-patients": func(b []byte) bool { return json.Valid(b) && !bytes.Contains(b, []byte(simulator.StrangerTag)) }, // there is nothing to mix with
	} {
		set(t, at, `{"fault":"`+fault+`"}`)
		if _, body, err := ask(t.Context(), http.MethodPost, at+"/fhir/Patient/_search", whoIs("9990000034")); err != nil || !shows(body) {
			t.Errorf("%s does not show", fault)
		}
	}
}

func TestPageLoop(t *testing.T) {
	_, at := start(t, true, 3)
	set(t, at, `{"fault":"page-loop"}`)
	_, first := get(t, at+"/fhir/Patient/p1/$everything", nil)
	_, second := get(t, first.next(), nil)
	if first.next() == "" || second.next() != first.next() || !slices.Equal(first.keys(), second.keys()) {
		t.Error("the page does not lead to itself")
	}
}

func TestNoRecordIsAnEmptySearch(t *testing.T) {
	_, at := start(t, false, 0)
	set(t, at, `{"fault":"no-record"}`)
	if status, b := get(t, at+"/fhir/Patient/_search", whoIs(ann)); status != 200 || b.Total != 0 || len(b.Entry) != 0 {
		t.Errorf("got %d and %d entries, want an empty set", status, len(b.Entry))
	}
}

func TestAfterServesWellFirst(t *testing.T) {
	_, at := start(t, true, 0)
	set(t, at, `{"fault":"error500","after":2}`)
	for i, want := range []int{200, 200, 500, 500} {
		if status, _ := get(t, at+"/fhir/Patient/p1/$everything", nil); status != want {
			t.Errorf("request %d: got %d, want %d", i+1, status, want)
		}
	}
}

func TestControlRefusesWhatItDoesNotKnow(t *testing.T) {
	_, at := start(t, true, 0)
	for _, spec := range []string{`{"fault":"fire"}`, `{}`, `{"fault":"down","after":-1}`, `{"fault":"slow","ms":600001}`, `{"fault":"none","x":1}`, `nonsense`, `{"fault":"none"}{}`} {
		if status, _ := set(t, at, spec); status != 400 {
			t.Errorf("%s: got %d, want 400", spec, status)
		}
	}
	_, text := set(t, at, `{"fault":"fire"}`)
	for _, f := range simulator.CustodianFaults() {
		if !strings.Contains(text, string(f)) {
			t.Errorf("the refusal does not name %s", f)
		}
	}
	if n := len(simulator.CustodianFaults()); n != 21 {
		t.Errorf("%d faults, want 21", n)
	}
	resp, body, err := ask(t.Context(), http.MethodGet, at+"/_sim/requests", nil)
	if err != nil || resp.StatusCode != 200 || strings.TrimSpace(string(body)) != `{"record":0,"other":0}` {
		t.Errorf("requests: got %s", body)
	}
}

func TestHugeStopsWhenTheClientLeaves(t *testing.T) {
	c, err := simulator.NewCustodian(simulator.CustodianConfig{Name: "Test", Everything: true, People: map[string][]json.RawMessage{ann: record("p1", ann)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetFault(simulator.FaultSpec{Fault: simulator.FaultHuge}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	s, err := simulator.Listen("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		c.ServeHTTP(w, r)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	resp, err := http.Get(s.URL() + "/fhir/Patient/p1/$everything")
	if err != nil {
		t.Fatal("the exchange failed")
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal("no megabyte came")
	}
	_ = resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the custodian goes on writing to nobody")
	}
}

func TestRefusesRecordsThatCannotBeServed(t *testing.T) {
	for name, people := range map[string]map[string][]json.RawMessage{
		"no Patient":  {ann: record("p1", ann)[1:]},
		"two":         {ann: append(record("p1", ann), record("p2", ann)[0])},
		"shared id":   {ann: record("p1", ann), bob: record("p1", bob)},
		"no id":       {ann: {json.RawMessage(`{"resourceType":"Patient"}`)}},
		"not objects": {ann: {json.RawMessage(`[]`)}},
	} {
		if _, err := simulator.NewCustodian(simulator.CustodianConfig{People: people}); err == nil || strings.Contains(err.Error(), ann) {
			t.Errorf("%s: not refused, or the refusal names the person", name)
		}
	}
}
