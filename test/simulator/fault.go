package simulator

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is a way to go wrong. The lists of what each simulator can do are closed: [CustodianFaults], [DemographicsFaults].
type Fault string

// The faults.
const (
	FaultNone          Fault = "none"
	FaultDown          Fault = "down"           // the connection is reset
	FaultHang          Fault = "hang"           // no answer for ms; with 0, until the client leaves
	FaultSlow          Fault = "slow"           // a good answer after ms (1,000 if 0)
	FaultTrickle       Fault = "trickle"        // a good answer, one byte every ms (100 if 0)
	FaultError500      Fault = "error500"       // status 500
	FaultThrottle429   Fault = "throttle429"    // status 429 with Retry-After
	FaultUnauthorised  Fault = "unauthorised"   // status 401
	FaultGarbage       Fault = "garbage"        // bytes that are not JSON, called FHIR
	FaultTruncated     Fault = "truncated"      // the first half of a good answer, as if it were whole
	FaultHuge          Fault = "huge"           // a well-formed Bundle of 48 MiB
	FaultGzipBomb      Fault = "gzip-bomb"      // 1 MiB that expands to 1 GiB
	FaultDeep          Fault = "deep"           // nested 10,000 levels
	FaultDuplicateKeys Fault = "duplicate-keys" // a resource with two ids
	FaultBadUTF8       Fault = "bad-utf8"       // a string that is not UTF-8
	FaultWrongPatient  Fault = "wrong-patient"  // a good answer, about somebody else
	FaultMixedPatients Fault = "mixed-patients" // a good answer with somebody else's entries among it
	FaultPageLoop      Fault = "page-loop"      // a page whose next page is itself
	FaultPageElsewhere Fault = "page-elsewhere" // a next page on another host
	FaultNoRecord      Fault = "no-record"      // nobody of that number is known
	FaultNoConsent     Fault = "no-consent"     // status 403, NO_PATIENT_CONSENT
	elsewhere                = "http://elsewhere.invalid/fhir?page=2"
	hugeBytes                = 48 << 20
	bombBlocks               = 1024 // of 1 MiB when decompressed
	deepLevels               = 10_000
	retryAfterSeconds        = "1" // a broker that keeps to it is soon back
	maxFaultMs               = 600_000
	maxLog                   = 10_000
	maxControlBody           = 4 << 10
	defaultSlow              = time.Second
	defaultTrickle           = 100 * time.Millisecond
	controlFault             = "/_sim/fault"
	controlRequests          = "/_sim/requests"
	controlLog               = "/_sim/log"
)

// CustodianFaults are those of a custodian.
func CustodianFaults() []Fault {
	return []Fault{FaultNone, FaultDown, FaultHang, FaultSlow, FaultTrickle, FaultError500, FaultThrottle429, FaultUnauthorised,
		FaultGarbage, FaultTruncated, FaultHuge, FaultGzipBomb, FaultDeep, FaultDuplicateKeys, FaultBadUTF8, FaultWrongPatient,
		FaultMixedPatients, FaultPageLoop, FaultPageElsewhere, FaultNoRecord, FaultNoConsent}
}

// DemographicsFaults are those of the demographics service.
func DemographicsFaults() []Fault {
	return []Fault{FaultNone, FaultDown, FaultHang, FaultSlow, FaultError500, FaultGarbage}
}

// FaultSpec is what POST /_sim/fault takes. It holds until the next one.
type FaultSpec struct {
	Fault Fault `json:"fault"`
	After int   `json:"after"` // so many record requests are still served well
	Ms    int   `json:"ms"`    // milliseconds: the delay of slow and of hang, of trickle per byte; at most 600,000
}

func (f FaultSpec) wait(standard time.Duration) time.Duration {
	if f.Ms == 0 {
		return standard
	}
	return time.Duration(f.Ms) * time.Millisecond
}

// Counts is what GET /_sim/requests answers. Requests to /_sim itself are not counted.
type Counts struct {
	Record int `json:"record"` // requests that reach for a record; these are what faults befall
	Other  int `json:"other"`  // everything else: metadata, unknown paths, verbs that are not offered
}

// Logged is one of the requests that reach for a record, as a custodian keeps it for whoever checks the broker. GET /_sim/log answers all of them.
type Logged struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"requestId"` // as it came; "" where there was none
}

// maxLogged bounds what is kept of them.
const maxLogged = 100_000

// SpecError says what is wrong with a FaultSpec.
type SpecError struct{ Want string }

// Error returns what to give.
func (e *SpecError) Error() string { return e.Want }

// control is the state behind /_sim.
type control struct {
	allowed []Fault

	mu     sync.Mutex
	spec   FaultSpec
	counts Counts
	log    []string
	logged []Logged
}

func newControl(allowed []Fault) *control {
	return &control{allowed: allowed, spec: FaultSpec{Fault: FaultNone}}
}

// set makes spec the fault from now on.
func (c *control) set(spec FaultSpec) error {
	switch {
	case !slices.Contains(c.allowed, spec.Fault):
		names := make([]string, len(c.allowed))
		for i, f := range c.allowed {
			names[i] = string(f)
		}
		return &SpecError{"fault: one of " + strings.Join(names, ", ")}
	case spec.After < 0:
		return &SpecError{"after: how many record requests are still served well, 0 or more"}
	case spec.Ms < 0 || spec.Ms > maxFaultMs:
		return &SpecError{"ms: milliseconds, 0 to 600000"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spec = spec
	return nil
}

// recordRequest counts one and returns what befalls it.
func (c *control) recordRequest(r *http.Request) FaultSpec {
	id := r.Header.Get("X-Request-ID")
	if id == "" {
		id = r.Header.Get("Ssp-TraceID")
	}
	c.mu.Lock()
	if len(c.logged) < maxLogged {
		c.logged = append(c.logged, Logged{time.Now(), id})
	}
	c.mu.Unlock()
	return c.reached(r.Method + " " + r.RequestURI)
}

// reached is recordRequest for a protocol that is not HTTP. line is what the log keeps of it.
func (c *control) reached(line string) FaultSpec {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Record++
	c.note(line)
	if c.spec.After > 0 {
		c.spec.After--
		return FaultSpec{Fault: FaultNone}
	}
	return c.spec
}

func (c *control) otherRequest(r *http.Request) { c.other(r.Method + " " + r.RequestURI) }

func (c *control) other(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Other++
	c.note(line)
}

func (c *control) note(line string) {
	if len(c.log) < maxLog {
		c.log = append(c.log, line)
	}
}

func (c *control) requests() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

func (c *control) kept() []Logged {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.logged)
}

func (c *control) lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

// serve answers /_sim and reports whether r was for it.
func (c *control) serve(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/_sim/") {
		return false
	}
	say := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // the client left
	}
	problem := func(status int, text string) { say(status, map[string]string{"error": text}) }
	switch {
	case r.URL.Path == controlRequests && r.Method == http.MethodGet:
		say(http.StatusOK, c.requests())
	case r.URL.Path == controlLog && r.Method == http.MethodGet:
		say(http.StatusOK, c.kept())
	case r.URL.Path == controlFault && r.Method == http.MethodPost:
		var spec FaultSpec
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&spec); err != nil {
			problem(http.StatusBadRequest, `give JSON: {"fault":"none","after":0,"ms":0}`)
			return true
		}
		if _, err := d.Token(); err != io.EOF {
			problem(http.StatusBadRequest, "give one JSON object and nothing after it")
			return true
		}
		if err := c.set(spec); err != nil {
			problem(http.StatusBadRequest, err.Error())
			return true
		}
		say(http.StatusOK, spec)
	default:
		problem(http.StatusNotFound, "there are POST "+controlFault+" and GET "+controlRequests+" and "+controlLog)
	}
	return true
}

// pause waits for d, or without end if d is 0, and reports whether the client is still there.
func pause(r *http.Request, d time.Duration) bool {
	var end <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		end = t.C
	}
	select {
	case <-end:
		return true
	case <-r.Context().Done():
		return false
	}
}

// reset cuts the connection the way a machine does on which nothing listens any more: RST instead of an answer.
func reset(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // at worst the close is an orderly one
			}
			_ = conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler) // the server's own way to cut a connection that cannot be taken over
}
