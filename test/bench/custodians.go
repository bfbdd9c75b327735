package main

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// law says how long a custodian takes before it answers. nil in place of one: no time at all.
type law func() time.Duration

// fixed always takes as long.
func fixed(d time.Duration) law { return func() time.Duration { return d } }

// lognormal takes median in the middle; its 99th percentile is about 3.2 times that. No answer takes longer than a second.
func lognormal(median time.Duration) law {
	return func() time.Duration {
		return min(time.Second, time.Duration(float64(median)*math.Exp(rand.NormFloat64()/2))) //nolint:gosec // a load, not a secret
	}
}

// hung never answers; the custodian waits until the caller has left.
const hung = time.Duration(math.MaxInt64)

// surroundings are all that a candidate speaks to: the custodians, each with a port of its own, the demographics service and the issuer's
// keys. They share a process with the callers, so that for every request both ends are known.
type surroundings struct {
	bases        []string // of the custodians' FHIR servers, in order
	demographics string
	keys         string // address of the issuer's keys

	laws    [5]atomic.Pointer[law]
	answers atomic.Pointer[map[string][]byte] // of the size in force, by custodian key and person id
	served  served
	jwks    []byte
	close   []func()
}

// start listens. jwks is what the issuer's address returns.
func startSurroundings(jwks []byte) (*surroundings, error) {
	s := &surroundings{jwks: jwks, served: served{times: map[string]*[5]time.Duration{}}}
	for i := range custodianKeys {
		origin, err := s.listen(func(w http.ResponseWriter, r *http.Request) { s.custodian(i, w, r) })
		if err != nil {
			return nil, err
		}
		s.bases = append(s.bases, origin+"/fhir")
	}
	origin, err := s.listen(s.others)
	if err != nil {
		return nil, err
	}
	s.demographics, s.keys = origin+"/personal-demographics/FHIR/R4", origin+"/jwks"
	return s, nil
}

func (s *surroundings) listen(h http.HandlerFunc) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", errors.New("cannot listen on loopback")
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() { _ = server.Serve(l) }() // it ends with Close
	s.close = append(s.close, func() { _ = server.Close() })
	return "http://" + l.Addr().String(), nil
}

func (s *surroundings) stop() {
	for _, f := range s.close {
		f()
	}
}

// hold makes the custodians hold records of a size, and returns how many bytes one person's are at all custodians together.
func (s *surroundings) hold(z size) (total int) {
	answers := map[string][]byte{}
	for _, p := range people {
		for _, c := range custodianKeys {
			answers[c.Key+p.ID] = bundleOf(p, c, z)
			answers["find"+c.Key+p.Number] = found(p, c)
		}
	}
	for _, c := range custodianKeys {
		total += len(answers[c.Key+people[0].ID])
	}
	s.answers.Store(&answers)
	return total
}

// take makes every custodian take as long as l says; nil: no time.
func (s *surroundings) take(l law) {
	for i := range s.laws {
		s.takeAt(i, l)
	}
}

// takeAt makes one custodian take as long as l says.
func (s *surroundings) takeAt(i int, l law) {
	if l == nil {
		s.laws[i].Store(nil)
		return
	}
	s.laws[i].Store(&l)
}

const statement = `{"resourceType":"CapabilityStatement","status":"active","date":"2026-01-01","kind":"instance","fhirVersion":"4.0.1","format":["json"],` +
	`"rest":[{"mode":"server","resource":[{"type":"Patient","interaction":[{"code":"search-type"}],"searchParam":[{"name":"identifier","type":"token"}],` +
	`"operation":[{"name":"everything","definition":"http://hl7.org/fhir/OperationDefinition/Patient-everything"}]}]}]}`

// custodian answers as one custodian. What it takes is counted for the request whose id the call bears, as it really was, and without the time
// of writing: how fast an answer is read is the reader's doing.
func (s *surroundings) custodian(i int, w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	key := custodianKeys[i].Key
	var body []byte
	switch path := strings.TrimPrefix(r.URL.Path, "/fhir/"); {
	case path == "metadata":
		reply(w, []byte(statement))
		return
	case path == "Patient/_search" && r.Method == http.MethodPost:
		text, err := io.ReadAll(io.LimitReader(r.Body, 4<<10))
		form, bad := url.ParseQuery(string(text))
		if err != nil || bad != nil {
			break
		}
		_, number, _ := strings.Cut(form.Get("identifier"), "|")
		body = (*s.answers.Load())["find"+key+number]
	default:
		id, ok := strings.CutSuffix(strings.TrimPrefix(path, "Patient/"), "/$everything")
		if ok {
			body = (*s.answers.Load())[key+id]
		}
	}
	if body == nil {
		http.Error(w, "{}", http.StatusNotFound)
		return
	}
	if l := s.laws[i].Load(); l != nil {
		if !wait(r.Context(), (*l)()) {
			return
		}
	}
	s.served.add(r.Header.Get("X-Request-ID"), i, time.Since(begun))
	reply(w, body)
}

// others answers as the demographics service and as the issuer.
func (s *surroundings) others(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/jwks" {
		reply(w, s.jwks)
		return
	}
	for _, p := range people {
		if strings.HasSuffix(r.URL.Path, "/Patient/"+p.Number) {
			w.Header().Set("X-Request-ID", r.Header.Get("X-Request-ID"))
			reply(w, traced(p))
			return
		}
	}
	http.Error(w, "{}", http.StatusNotFound)
}

func reply(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/fhir+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // whoever left is seen at the other end
}

// wait takes the time, or less if the caller leaves, and reports whether it is still there.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(min(d, time.Minute))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return d != hung
	}
}

// served counts how long each custodian took over a request, by the request's id: the sum of its calls, where a candidate makes several one
// after the other.
type served struct {
	mu    sync.Mutex
	times map[string]*[5]time.Duration
}

func (s *served) add(id string, custodian int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.times[id]; t != nil {
		t[custodian] += d
	}
}

// begin makes room for a request; calls with an id that is not expected count for nothing.
func (s *served) begin(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times[id] = new([5]time.Duration)
}

// end returns what the slowest custodian took that answered at all.
func (s *served) end(id string) (slowest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.times[id] {
		slowest = max(slowest, d)
	}
	delete(s.times, id)
	return slowest
}
