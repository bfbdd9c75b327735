package fhirrest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
)

// newHouse is the gateway before a real broker.
func newHouse(t *testing.T, change func(*broker.Config)) *kit {
	t.Helper()
	k := newKit(t)
	b := brokertest.Open(t, change)
	h := k.h.(*handler)
	h.broker, h.handles = b, b.Handles()
	return k
}

// Whatever the reason of which nothing may be said, the answer is the same, at the same time after the request came.
func TestNeutralAnswersOfARealBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wait = 3250 * time.Millisecond
		k := newHouse(t, func(c *broker.Config) { c.NeutralWait = wait })
		classes := brokertest.Neutral()
		classes["another birth date"] = brokertest.Ann
		for what, c := range map[string]struct {
			status int
			ask    func(digits, birthDate string) *http.Request
		}{
			"search": {200, func(digits, birthDate string) *http.Request {
				return k.ask("GET", search(digits)+"&birthdate="+birthDate, "")
			}},
			"everything": {404, func(digits, birthDate string) *http.Request {
				more := ""
				if birthDate != "" {
					more = `,{"name":"birthDate","valueDate":"` + birthDate + `"}`
				}
				return k.ask("POST", "/fhir/Patient/$everything", parameters(identifierParameter(digits)+more), "Content-Type: "+jsonType)
			}},
		} {
			first := ""
			for class, digits := range classes {
				birthDate := ""
				if class == "another birth date" {
					birthDate = "1951-02-03"
				}
				began := time.Now()
				resp := k.do(c.ask(digits, birthDate))
				if took := time.Since(began); took != wait {
					t.Errorf("%s, %s: answered after %v, want %v", what, class, took, wait)
				}
				handle := k.h.(*handler).handles.Seal(number(t, digits))
				text := headerText(resp.Header) + strings.ReplaceAll(bodyOf(t, resp), handle, "HANDLE") // which is asked, not told
				text = withoutTime(text)
				if first == "" {
					first = text
				}
				if resp.StatusCode != c.status || text != first {
					t.Errorf("%s, %s: got %d and another answer", what, class, resp.StatusCode)
				}
			}
		}
	})
}

// A body that comes long after its headers takes nothing from the time in which neutral answers are alike: they are counted from when the request has been
// read, so that somebody whom nobody holds is asked for, and answered like all the others.
func TestNeutralAnswersToALateBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late, wait = 4 * time.Second, 3250 * time.Millisecond
		k := newHouse(t, func(c *broker.Config) { c.NeutralWait = wait })
		for class, digits := range brokertest.Neutral() {
			body := parameters(identifierParameter(digits))
			r := k.ask("POST", "/fhir/Patient/$everything", body, "Content-Type: "+jsonType)
			r.Body = io.NopCloser(&lateReader{late, strings.NewReader(body)})
			began := time.Now()
			resp := k.do(r)
			if took := time.Since(began); resp.StatusCode != 404 || took != late+wait {
				t.Errorf("%s: got %d after %v, want 404 after %v", class, resp.StatusCode, took, late+wait)
			}
		}
	})
}

// lateReader gives its text after a while.
type lateReader struct {
	after time.Duration
	text  *strings.Reader
}

// Read implements io.Reader.
func (r *lateReader) Read(p []byte) (int, error) {
	time.Sleep(r.after)
	r.after = 0
	return r.text.Read(p)
}

// withoutTime takes out when an answer was made, which is when it was asked for.
func withoutTime(text string) string {
	before, after, _ := strings.Cut(text, `"lastUpdated":"`)
	_, after, _ = strings.Cut(after, `"`)
	return before + after
}

// M-12: a Patient is searched for, and what custodians return beside it is not shown. These two return an observation.
func TestPatientSearchShowsPatients(t *testing.T) {
	k := newHouse(t, nil)
	r := read(t, k.get(search(brokertest.Ann)))
	modes := map[string]int{}
	for _, e := range r.Entry {
		modes[e.Search.Mode+" "+e.Resource.ResourceType]++
	}
	if *r.Total != 1 || modes["match Patient"] != 1 || modes["include Patient"] != 2 || modes["match Observation"] != 0 {
		t.Errorf("got a total of %d, and %v", *r.Total, modes)
	}
}

// the memory of an answer counts until its last byte is written, and not a moment longer. Here it is enough for one request at a time.
func TestRoomIsGivenBack(t *testing.T) {
	k := newHouse(t, func(c *broker.Config) { c.RequestBytes, c.MaxInFlightBytes = 1<<20, 1<<20 })
	handle := k.h.(*handler).handles.Seal(number(t, brokertest.Ann))
	asks := map[string]func() *http.Request{
		"search":     func() *http.Request { return k.ask("GET", search(brokertest.Ann), "") },
		"read":       func() *http.Request { return k.ask("GET", "/fhir/Patient/"+handle, "") },
		"everything": func() *http.Request { return k.ask("GET", "/fhir/Patient/"+handle+"/$everything", "") },
		"head":       func() *http.Request { return k.ask("HEAD", "/fhir/Patient/"+handle+"/$everything", "") },
		"refused": func() *http.Request {
			return k.ask("GET", search(brokertest.Ann), "", "X-Permission-To-View: asked-no")
		},
	}
	served := func(after string) {
		t.Helper()
		if got := k.do(asks["everything"]()).StatusCode; got != 200 {
			t.Fatalf("after %s: got %d, want the room back", after, got)
		}
	}
	for what, ask := range asks {
		k.do(ask())
		served(what)
		if what == "head" || what == "refused" {
			continue
		}
		writes := 0
		k.h.ServeHTTP(&heldWriter{httptest.NewRecorder(), func() error {
			writes++
			if got := k.do(asks["search"]()).StatusCode; got != http.StatusServiceUnavailable {
				t.Errorf("%s: got %d while it is written, want no room", what, got)
			}
			return nil
		}}, ask())
		if writes == 0 {
			t.Errorf("%s: nothing was written", what)
		}
		served(what + ", read slowly")
		func() {
			defer func() { _ = recover() }() // half an answer is cut off
			k.h.ServeHTTP(&heldWriter{httptest.NewRecorder(), func() error { return errors.New("gone") }}, ask())
		}()
		served(what + ", not read")
	}
}

// heldWriter does something before each write.
type heldWriter struct {
	*httptest.ResponseRecorder
	before func() error
}

// Write implements http.ResponseWriter.
func (w *heldWriter) Write(b []byte) (int, error) {
	if err := w.before(); err != nil {
		return 0, err
	}
	return w.ResponseRecorder.Write(b)
}
