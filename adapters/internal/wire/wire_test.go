package wire

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// marker stands in headers, bodies and addresses that servers of these tests send: no error may hold it.
const marker = "MARKER-9990000018"

func client(t *testing.T, h http.Handler, change ...func(*Connection)) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return clientOf(t, s.URL+"/fhir", change...)
}

func clientOf(t *testing.T, base string, change ...func(*Connection)) *Client {
	t.Helper()
	conf := Connection{BaseURL: base, AllowPlainHTTP: true}
	for _, f := range change {
		f(&conf)
	}
	c, err := New(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func fhir(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/fhir+json") }

func get(t *testing.T, c *Client, budget *Budget) (Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return c.Do(ctx, Request{Target: c.At("Patient", "p1", "$everything")}, budget)
}

func kindOf(t *testing.T, err error) Kind {
	t.Helper()
	if err == nil {
		return 0
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got an error of type %T, want *Error", err)
	}
	if strings.Contains(err.Error(), marker) || strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "http") {
		t.Error("the error holds text from outside")
	}
	return e.Kind
}

func TestAsksWithWhatItShould(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got *http.Request
	var body string
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		fhir(w)
		_, _ = io.WriteString(w, `{}`)
	}), func(c *Connection) { c.BearerFile = token })

	if _, err := c.Do(t.Context(), Request{Target: c.At("Patient", "a b/c", "$everything").With(url.Values{"_count": {"5"}}),
		Header: map[string]string{"X-Request-ID": "abc"}}, NewBudget(100, 100, nil)); err != nil {
		t.Fatal(err)
	}
	if want := "/fhir/Patient/a%20b%2Fc/$everything?_count=5"; got.RequestURI != want {
		t.Errorf("got address %q, want %q", got.RequestURI, want)
	}
	if got.Method != "GET" || got.ContentLength != 0 || len(got.TransferEncoding) != 0 || body != "" {
		t.Errorf("a GET went out with a body: length %d, transfer encoding %v", got.ContentLength, got.TransferEncoding)
	}
	for k, want := range map[string]string{"Accept": "application/fhir+json", "Accept-Encoding": "gzip", "User-Agent": "mycarerecord/1",
		"X-Request-Id": "abc", "Authorization": "Bearer first"} {
		if g := got.Header.Get(k); g != want {
			t.Errorf("%s: got %q, want %q", k, g, want)
		}
	}

	// A token is renewed in place.
	if err := os.WriteFile(token, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), Request{Target: c.At("Patient", "_search"), Form: url.Values{"identifier": {"a|b"}}.Encode()}, NewBudget(100, 100, nil)); err != nil {
		t.Fatal(err)
	}
	if got.Method != "POST" || body != "identifier=a%7Cb" || got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
		got.URL.RawQuery != "" || got.ContentLength != int64(len(body)) || got.Header.Get("Authorization") != "Bearer second" {
		t.Errorf("the search did not go out as a form, or without the renewed token")
	}

	// Without a token nothing is asked.
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	got = nil
	if _, err := get(t, c, NewBudget(100, 100, nil)); kindOf(t, err) != Unauthorised || got != nil {
		t.Errorf("got %v with the token gone, asked %v", err, got != nil)
	}
}

// net/http takes no proxy of the environment for an address on loopback, so this one is elsewhere; nothing is sent there.
func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	c := clientOf(t, "http://192.0.2.1/fhir")
	var dialled []string
	c.pool.dialer.dialer.Control = func(_, address string, _ syscall.RawConn) error {
		dialled = append(dialled, address)
		return errors.New(marker)
	}
	if _, err := get(t, c, NewBudget(100, 100, nil)); kindOf(t, err) != Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	if len(dialled) != 2 || dialled[0] != "192.0.2.1:80" || dialled[1] != dialled[0] {
		t.Errorf("dialled %v", dialled)
	}
}

func TestStatusBecomesAKind(t *testing.T) {
	for status, want := range map[int]Kind{200: 0, 201: Malformed, 204: Malformed, 206: Malformed, 301: Elsewhere, 302: Elsewhere, 304: Elsewhere, 307: Elsewhere,
		308: Elsewhere, 400: Malformed, 401: Unauthorised, 403: Unauthorised, 404: Missing, 405: Malformed, 408: Unavailable, 410: Missing, 422: Malformed,
		429: Throttled, 500: Malformed, 501: Malformed, 502: Unavailable, 503: Unavailable, 504: Unavailable, 999: Malformed} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var asked atomic.Int32
			c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				fhir(w)
				w.Header().Set("Location", "http://127.0.0.1:1/"+marker)
				w.WriteHeader(status)
				if status != 204 && status != 304 {
					_, _ = io.WriteString(w, `{"marker":"`+marker+`"}`)
				}
			}))
			a, err := get(t, c, NewBudget(100, 100, nil))
			if err != nil {
				t.Fatal(err)
			}
			var got Kind
			if e := a.Trouble(); e != nil {
				got = kindOf(t, e)
			}
			if got != want || asked.Load() != 1 {
				t.Errorf("got %v after %d requests, want %v after 1", got, asked.Load(), want)
			}
		})
	}
}

func TestRetryAfterIsCapped(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "0": 0, "-5": 0, "99999": MaxRetryAfter, "99999999999999999999": 0, "soon": 0,
		"Sun, 01 Mar 2026 12:00:30 GMT": 30 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Tue, 01 Mar 2033 12:00:00 GMT": MaxRetryAfter, strings.Repeat("1", 100): 0} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	}
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func TestBodies(t *testing.T) {
	const jsonType = "application/fhir+json"
	big := bytes.Repeat([]byte(`{"a":"b"} `), 200_000) // 2 MB, compresses well beyond 100:1
	noise := make([]byte, 3<<19)                       // compresses badly
	for i := range noise {
		noise[i] = byte(i*i>>3 ^ i*7 ^ i>>5)
	}
	for _, c := range []struct {
		name, contentType, encoding string
		body                        []byte
		length                      int // 0: as it is
		max                         int64
		want                        Kind
	}{
		{name: "plain", contentType: jsonType, body: []byte(`{}`)},
		{name: "plain JSON with parameters", contentType: "application/json; charset=UTF-8; fhirVersion=4.0", body: []byte(`{}`)},
		{name: "identity", contentType: jsonType, encoding: "identity", body: []byte(`{}`)},
		{name: "gzip", contentType: jsonType, encoding: "gzip", body: zipped([]byte(`{"a":1}`))},
		{name: "gzip of two members", contentType: jsonType, encoding: "GZIP", body: append(zipped([]byte(`{"a":`)), zipped([]byte(`1}`))...)},
		{name: "large gzip that compresses little", contentType: jsonType, encoding: "gzip", body: zipped(noise), max: 3 << 20},
		{name: "another charset", contentType: "application/json; charset=iso-8859-1", body: []byte(`{}`), want: Malformed},
		{name: "another FHIR", contentType: "application/fhir+json; fhirVersion=5.0", body: []byte(`{}`), want: Malformed},
		{name: "HTML", contentType: "text/html", body: []byte(`<p>` + marker), want: Malformed},
		{name: "XML", contentType: "application/fhir+xml", body: []byte(`<Bundle/>`), want: Malformed},
		{name: "no type", contentType: "", body: []byte(`{}`), want: Malformed},
		{name: "an encoding nobody asked for", contentType: jsonType, encoding: "br", body: []byte(`{}`), want: Malformed},
		{name: "two encodings", contentType: jsonType, encoding: "gzip, gzip", body: zipped(zipped([]byte(`{}`))), want: Malformed},
		{name: "gzip that is none", contentType: jsonType, encoding: "gzip", body: []byte(`{}`), want: Malformed},
		{name: "gzip cut short", contentType: jsonType, encoding: "gzip", body: zipped(noise[:5000])[:2000], want: Malformed},
		{name: "gzip with rubbish behind", contentType: jsonType, encoding: "gzip", body: append(zipped([]byte(`{}`)), marker...), want: Malformed},
		{name: "gzip with a wrong checksum", contentType: jsonType, encoding: "gzip", body: flipped(zipped([]byte(`{"a":1}`))), want: Malformed},
		{name: "shorter than it says", contentType: jsonType, body: []byte(`{}`), length: 50, want: Malformed},
		{name: "says more than the cap", contentType: jsonType, body: []byte(`{}`), length: 5000, max: 100, want: TooMuch},
		{name: "more than the cap", contentType: jsonType, body: make([]byte, 101), length: -1, max: 100, want: TooMuch},
		{name: "exactly the cap", contentType: jsonType, body: make([]byte, 100), length: -1, max: 100},
		{name: "more than the cap once decoded", contentType: jsonType, encoding: "gzip", body: zipped(noise), max: 1 << 20, want: TooMuch},
		{name: "a bomb", contentType: jsonType, encoding: "gzip", body: zipped(big), max: 32 << 20, want: TooMuch},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{c.contentType}
				if c.contentType == "" {
					w.Header()["Content-Type"] = nil
				}
				if c.encoding != "" {
					w.Header().Set("Content-Encoding", c.encoding)
				}
				switch {
				case c.length > 0:
					w.Header().Set("Content-Length", fmt.Sprint(c.length))
				case c.length < 0:
					w.(http.Flusher).Flush() // chunked
				}
				_, _ = w.Write(c.body)
			}))
			if c.max == 0 {
				c.max = 1 << 20
			}
			budget := NewBudget(c.max, 100, nil)
			a, err := get(t, cl, budget)
			if got := kindOf(t, err); got != c.want {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			if c.want != 0 && a.Body != nil {
				t.Error("a part of a refused body came back")
			}
			if c.want == 0 && (budget.Used() != int64(len(a.Body)) || len(a.Body) == 0) {
				t.Errorf("counted %d of %d bytes", budget.Used(), len(a.Body))
			}
		})
	}
}

func flipped(b []byte) []byte { b[len(b)-6] ^= 0xff; return b }

func TestABombIsNotUnpacked(t *testing.T) {
	bomb := zipped(make([]byte, 8<<20))
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fhir(w)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	}))
	budget := NewBudget(32<<20, 100, nil)
	if _, err := get(t, c, budget); kindOf(t, err) != TooMuch {
		t.Fatalf("got %v, want TooMuch", err)
	}
	if budget.Used() > 2<<20 {
		t.Errorf("%d bytes were unpacked before it was seen", budget.Used())
	}
}

func TestTheWholeRequestsBudgetCounts(t *testing.T) {
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fhir(w); _, _ = w.Write(make([]byte, 200<<10)) }))
	var taken, largest int64
	more := func(n int64) bool { taken += n; largest = max(largest, n); return taken <= 300<<10 }
	for i, want := range []Kind{0, TooMuch} {
		if _, err := get(t, c, NewBudget(1<<20, 100, more)); kindOf(t, err) != want {
			t.Errorf("page %d: got %v, want %v", i+1, err, want)
		}
	}
	if largest > maxPiece || taken > 300<<10+maxPiece {
		t.Errorf("asked for %d bytes at once, %d in all", largest, taken)
	}
}

func TestBudgetIsSharedByPages(t *testing.T) {
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fhir(w); _, _ = w.Write(make([]byte, 40)) }))
	budget := NewBudget(100, 100, nil)
	for i, want := range []Kind{0, 0, TooMuch} {
		if _, err := get(t, c, budget); kindOf(t, err) != want {
			t.Errorf("page %d: got %v, want %v", i+1, err, want)
		}
	}
	if budget.Used() != 80 && budget.Used() != 100 {
		t.Errorf("got %d used", budget.Used())
	}
}

// script answers each connection by itself, outside net/http, and counts requests.
func script(t *testing.T, serve func(n int, c net.Conn, r *http.Request)) (base string, requests *atomic.Int32) {
	t.Helper()
	return scriptTLS(t, nil, serve)
}

// scriptTLS is script with TLS where there is a configuration.
func scriptTLS(t *testing.T, config *tls.Config, serve func(n int, c net.Conn, r *http.Request)) (base string, requests *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if config != nil {
		ln, scheme = tls.NewListener(gathering{ln}, config), "https://"
	}
	requests = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []chan struct{}
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			end := make(chan struct{})
			open = append(open, end)
			go func() {
				defer close(end)
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					serve(int(requests.Add(1)), c, r)
				}
			}()
		}
		for _, end := range open {
			<-end
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return scheme + ln.Addr().String() + "/fhir", requests
}

// gathering makes connections that can hold back what is written, so that several records of TLS come at once.
type gathering struct{ net.Listener }

type gathered struct {
	net.Conn
	on   bool
	text []byte
}

func (g gathering) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	return &gathered{Conn: c}, err
}

func (g *gathered) Write(p []byte) (int, error) {
	if g.on {
		g.text = append(g.text, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

// writeAtOnce writes parts, each in a record of its own where there is TLS.
func writeAtOnce(c net.Conn, parts ...string) {
	t, is := c.(*tls.Conn)
	if !is {
		_, _ = io.WriteString(c, strings.Join(parts, ""))
		return
	}
	g := t.NetConn().(*gathered)
	g.on = true
	for _, part := range parts {
		_, _ = io.WriteString(c, part)
	}
	g.on = false
	_, _ = g.Write(g.text)
	g.text = nil
}

const good = "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 2\r\n\r\n{}"

func TestARequestThatLeftIsNotSentAgain(t *testing.T) {
	for _, form := range []string{"", "patient=x"} {
		t.Run(fmt.Sprint("form ", form != ""), func(t *testing.T) {
			// The first request is served, so that the second one travels on a used connection.
			base, requests := script(t, func(n int, c net.Conn, _ *http.Request) {
				if n == 1 {
					_, _ = io.WriteString(c, good)
					return
				}
				_ = c.Close()
			})
			c := clientOf(t, base)
			for i, want := range []Kind{0, Unavailable} {
				_, err := c.Do(t.Context(), Request{Target: c.At("x"), Form: form}, NewBudget(100, 100, nil))
				if got := kindOf(t, err); got != want {
					t.Errorf("request %d: got %v, want %v", i+1, got, want)
				}
			}
			c.Close()
			if got := requests.Load(); got != 2 {
				t.Errorf("%d requests arrived, want 2", got)
			}
		})
	}
}

func TestWhatNeverLeftIsTriedOnceMore(t *testing.T) {
	base, requests := script(t, func(_ int, c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, good) })
	for failing, want := range map[int32]Kind{1: 0, 2: Unavailable} {
		c := clientOf(t, base)
		before := requests.Load()
		var dials atomic.Int32
		c.pool.dialer.dialer.Control = func(string, string, syscall.RawConn) error {
			if dials.Add(1) <= failing {
				return errors.New(marker)
			}
			return nil
		}
		if _, err := get(t, c, NewBudget(100, 100, nil)); kindOf(t, err) != want {
			t.Errorf("%d dials failed: got %v, want %v", failing, err, want)
		}
		if dials.Load() != 2 {
			t.Errorf("%d dials failed: %d were tried, want 2", failing, dials.Load())
		}
		if arrived, expect := requests.Load()-before, 2-failing; arrived != expect {
			t.Errorf("%d requests arrived, want %d", arrived, expect)
		}
		c.Close()
	}
}

func TestBrokenHTTP(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         Kind
	}{
		{"nothing", "", Unavailable},
		{"no HTTP", marker + "\r\n\r\n", Malformed},
		{"one byte", "H", Malformed},
		{"half a header", "HTTP/1.1 200 OK\r\nX: " + marker, Malformed},
		{"an interim answer and no other", "HTTP/1.1 103 Early Hints\r\n\r\n", Malformed},
		{"a header beyond the cap", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", Malformed},
		{"a bad length", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n{}", Malformed},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", Malformed},
		{"two types", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}", Malformed},
		{"a broken chunk", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", Malformed},
		{"good", good, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, requests := script(t, func(_ int, conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, c.answer); _ = conn.Close() })
			cl := clientOf(t, base)
			if _, err := get(t, cl, NewBudget(1<<20, 100, nil)); kindOf(t, err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if requests.Load() != 1 {
				t.Errorf("%d requests arrived", requests.Load())
			}
			cl.Close()
		})
	}
}

func TestTimeIsKept(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(w http.ResponseWriter, r *http.Request)
	}{
		{"no header", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"no body", func(w http.ResponseWriter, r *http.Request) { fhir(w); w.(http.Flusher).Flush(); <-r.Context().Done() }},
		{"a trickle", func(w http.ResponseWriter, r *http.Request) {
			fhir(w)
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				select {
				case <-time.After(5 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		}},
		{"a trickle of an error", func(w http.ResponseWriter, r *http.Request) {
			fhir(w)
			w.WriteHeader(500)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := client(t, http.HandlerFunc(c.serve))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			begin := time.Now()
			_, err := cl.Do(ctx, Request{Target: cl.At("x")}, NewBudget(1<<20, 100, nil))
			if kindOf(t, err) != TimedOut || time.Since(begin) > 2*time.Second {
				t.Errorf("got %v after %v, want timed out after 100ms", err, time.Since(begin))
			}
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := cl.Do(ctx, Request{Target: cl.At("x")}, NewBudget(1<<20, 100, nil)); kindOf(t, err) != Cancelled {
				t.Errorf("got %v, want cancelled", err)
			}
		})
	}
}

func TestConnectionsAreUsedAgainAndBounded(t *testing.T) {
	var open, most atomic.Int32
	var total atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fhir(w)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped([]byte(`{}`)))
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			total.Add(1)
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	s.Start()
	defer s.Close()
	c := clientOf(t, s.URL, func(c *Connection) { c.MaxConnections = 3 })
	done := make(chan error)
	for range 20 {
		go func() {
			for range 5 {
				if _, err := c.Do(t.Context(), Request{Target: c.At("x")}, NewBudget(100, 100, nil)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() > 3 || total.Load() > 3 {
		t.Errorf("got %d connections at once and %d in all for 100 requests, want at most 3", most.Load(), total.Load())
	}
}

func TestOnlyBelowTheBase(t *testing.T) {
	base := "https://fhir.trust.example/fhir/r4"
	c, err := New(Connection{BaseURL: base + "/"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Base() != base {
		t.Errorf("got base %q", c.Base())
	}
	good := map[string]string{
		base:                          "/fhir/r4",
		base + "?_getpages=1":         "/fhir/r4?_getpages=1",
		base + "/":                    "/fhir/r4/",
		base + "/Patient?page=2":      "/fhir/r4/Patient?page=2",
		base + "/Patient/a%20b":       "/fhir/r4/Patient/a%20b",
		base + "/Patient/1?x=%2F..//": "/fhir/r4/Patient/1?x=%2F..//",
		"HTTPS://FHIR.TRUST.EXAMPLE:443/fhir/r4/Patient":  "/fhir/r4/Patient",
		"https://Fhir.Trust.Example/fhir/r4/Patient":      "/fhir/r4/Patient",
		"/fhir/r4/Patient?page=2":                         "/fhir/r4/Patient?page=2",
		"Patient?page=2":                                  "/fhir/r4/Patient?page=2",
		"?page=2":                                         "/fhir/r4?page=2",
		base + "/Patient/1/$everything?_page=a&_count=50": "/fhir/r4/Patient/1/$everything?_page=a&_count=50",
	}
	for link, want := range good {
		got, ok := c.Pin(link)
		if !ok {
			t.Errorf("%q was refused", link)
			continue
		}
		u, ok := c.origin.url(got)
		if !ok || u.RequestURI() != want || u.Scheme != "https" || u.Host != "fhir.trust.example" {
			t.Errorf("%q: got %q, want %q", link, u.RequestURI(), want)
		}
	}
	bad := []string{
		"", "//fhir.trust.example/fhir/r4/Patient", "//attacker.example/fhir/r4", "/\\attacker.example", "\\\\attacker.example", "///attacker.example/",
		"https://fhir.trust.example.attacker.example/fhir/r4/Patient", "https://fhir.trust.exampleattacker/fhir/r4",
		"https://attacker.example/https://fhir.trust.example/fhir/r4", "https://attacker.example/fhir/r4/Patient",
		"https://fhir.trust.example@attacker.example/fhir/r4/Patient", "https://user@fhir.trust.example/fhir/r4/Patient",
		"https://user:word@fhir.trust.example/fhir/r4", "https://fhir.trust.example:443@attacker.example/fhir/r4", "https://@fhir.trust.example/fhir/r4",
		"https://fhir.trust.example\\@attacker.example/fhir/r4", "https://attacker.example\\.fhir.trust.example/fhir/r4", "https:\\\\fhir.trust.example/fhir/r4",
		"https:/fhir.trust.example/fhir/r4", "https:fhir.trust.example/fhir/r4", "https:///fhir/r4/Patient",
		"http://fhir.trust.example/fhir/r4/Patient", "ftp://fhir.trust.example/fhir/r4", "javascript:alert(1)", "file:///fhir/r4", "urn:uuid:1", "ldap:fhir/r4",
		"https://fhir.trust.example:8443/fhir/r4", "https://fhir.trust.example:0443/fhir/r4", "https://fhir.trust.example:/fhir/r4", "https://fhir.trust.example:80/fhir/r4", "https://fhir.trust.example:x/fhir/r4",
		"https://fhir.trust.example./fhir/r4/Patient", "https://.fhir.trust.example/fhir/r4", "https://fhir.trust.example%2eattacker/fhir/r4", "https://fhir.trust.example%00/fhir/r4",
		"https://fhir.trust.example", "https://fhir.trust.example/", "https://fhir.trust.example/fhir", "https://fhir.trust.example/fhir/r44/Patient", "https://fhir.trust.example/fhir/r4x",
		"https://fhir.trust.example/FHIR/R4/Patient", "https://fhir.trust.example/fhir/r4.attacker", "https://fhir.trust.example/other/fhir/r4", "/fhir", "/other",
		base + "/../admin", base + "/Patient/../../admin", base + "/..", base + "/.", base + "/./Patient", base + "/%2e%2e/admin", base + "/%2E%2e/admin", base + "/.%2e/admin",
		base + "/..;/admin", base + "/.;/x", base + "/Patient%2f1", base + "/Patient%2F..%2Fadmin", base + "/Patient%5c1", base + "/a%252fb", base + "/a%25", base + "/a%", base + "/a%0",
		base + "//Patient", base + "/Patient//1", "https://fhir.trust.example//fhir/r4/Patient", "https://fhir.trust.example/fhir%2fr4/Patient", "https://fhir.trust.example/fhir//r4/Patient",
		base + "/Patient#x", base + "/Patient#", base + "/Pat ient", base + "/Patient\n", "\t" + base, " " + base, base + "/Patient\x00", base + "/Pat%00ient", base + "/Pat%0aient", base + "/Pätient", base + "/P%c3%a4tient",
		"https://fhir.trust.example\u3002attacker/fhir/r4", "https://ｆhir.trust.example/fhir/r4", "https://[::1]/fhir/r4", "https://[fhir.trust.example]/fhir/r4",
		"../admin", "Patient/../../x", "..", "./Patient", "%2e%2e/x", "https://fhir.trust.example?/fhir/r4", "https://fhir.trust.example;/fhir/r4", base + ":443/x",
		base + "/" + strings.Repeat("a", 9<<10),
	}
	for _, link := range bad {
		if got, ok := c.Pin(link); ok {
			u, _ := c.origin.url(got)
			t.Errorf("%q was accepted as %q", link, u)
		}
	}
	for _, segments := range [][]string{{""}, {"."}, {".."}, {"Patient", ".."}, {"Patient", "", "x"}} {
		if _, ok := c.origin.url(c.At(segments...)); ok {
			t.Errorf("segments %q make an address", segments)
		}
	}
	if _, ok := c.origin.url(Target{}); ok {
		t.Error("the zero target makes an address")
	}
}

func TestBaseAtTheRoot(t *testing.T) {
	c, err := New(Connection{BaseURL: "https://fhir.trust.example:8443"})
	if err != nil {
		t.Fatal(err)
	}
	for link, want := range map[string]string{"https://fhir.trust.example:8443?p=1": "/?p=1", "https://fhir.trust.example:8443/x": "/x", "/x": "/x", "x?y": "/x?y"} {
		got, ok := c.Pin(link)
		u, ok2 := c.origin.url(got)
		if !ok || !ok2 || u.RequestURI() != want || u.Host != "fhir.trust.example:8443" {
			t.Errorf("%q: got %v", link, u)
		}
	}
	for _, link := range []string{"//x", "https://fhir.trust.example/x", "https://fhir.trust.example:443/x", "/..", "//"} {
		if _, ok := c.Pin(link); ok {
			t.Errorf("%q was accepted", link)
		}
	}
}

// Whatever text is pinned, the address that is asked has the configured scheme, host and port and a path below the base.
func TestPinnedStaysPinned(t *testing.T) {
	c, err := New(Connection{BaseURL: "https://fhir.trust.example/fhir"})
	if err != nil {
		t.Fatal(err)
	}
	pieces := rapid.SampledFrom([]string{"https:", "http:", "//", "/", "\\", "@", ":", "443", "fhir.trust.example", "attacker.example", "fhir", "..", ".", "%2e", "%2f", "%5c",
		"%25", "?", "#", "Patient", "=", "&", ";", " ", "\n", "ﬀ", "[", "]", "HTTPS://FHIR.TRUST.EXAMPLE/fhir"})
	rapid.Check(t, func(t *rapid.T) {
		link := rapid.SampledFrom([]string{"", "https://fhir.trust.example/fhir", "https://fhir.trust.example", "/fhir"}).Draw(t, "begin") +
			strings.Join(rapid.SliceOfN(pieces, 0, 8).Draw(t, "rest"), "")
		got, ok := c.Pin(link)
		if !ok {
			return
		}
		u, ok := c.origin.url(got)
		if !ok {
			t.Fatalf("%q was pinned and makes no address", link)
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Scheme != "https" || again.Host != "fhir.trust.example" || again.User != nil || again.Path != "/fhir" && !strings.HasPrefix(again.Path, "/fhir/") ||
			strings.Contains(again.Path, "..") && strings.Contains(again.Path, "/../") {
			t.Fatalf("%q leads to %q", link, u)
		}
	})
}

func TestTargetsDoNotPrint(t *testing.T) {
	c, err := New(Connection{BaseURL: "https://fhir.trust.example/fhir"})
	if err != nil {
		t.Fatal(err)
	}
	target := c.At("Patient", "9990000018")
	for _, s := range []string{fmt.Sprint(target), fmt.Sprintf("%+v", target), fmt.Sprintf("%#v", target)} {
		if strings.Contains(s, "999") {
			t.Error("a target printed its address")
		}
	}
	if !target.Holds("9990000018") || c.At("Patient", "x").Holds("9990000018") {
		t.Error("Holds is wrong about a path")
	}
	if pinned, ok := c.Pin("/fhir/x?patient=%39990000018"); !ok || !pinned.Holds("9990000018") {
		t.Error("Holds does not see an escaped number")
	}
}

func TestSettingsAreChecked(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("two words "+marker), 0o600); err != nil {
		t.Fatal(err)
	}
	base := "https://fhir.trust.example/r4"
	for _, c := range []struct {
		field string
		conf  Connection
	}{
		{"baseURL", Connection{}},
		{"baseURL", Connection{BaseURL: "fhir.trust.example"}},
		{"baseURL", Connection{BaseURL: "http://fhir.trust.example"}},
		{"baseURL", Connection{BaseURL: "ftp://fhir.trust.example", AllowPlainHTTP: true}},
		{"baseURL", Connection{BaseURL: "https://user:" + marker + "@fhir.trust.example"}},
		{"baseURL", Connection{BaseURL: base + "?x"}},
		{"baseURL", Connection{BaseURL: base + "?"}},
		{"baseURL", Connection{BaseURL: base + "#"}},
		{"baseURL", Connection{BaseURL: "https://fhir.trust.example/a//b"}},
		{"baseURL", Connection{BaseURL: "https://fhir.trust.example/a/../b"}},
		{"baseURL", Connection{BaseURL: "https://fhir.trust.example/a%2fb"}},
		{"baseURL", Connection{BaseURL: "https://fhir.trust.example./"}},
		{"baseURL", Connection{BaseURL: "https://fhir.trust.example:/"}},
		{"baseURL", Connection{BaseURL: "https://" + marker + " x"}},
		{"maxConnections", Connection{BaseURL: base, MaxConnections: -1}},
		{"maxConnections", Connection{BaseURL: base, MaxConnections: 5000}},
		{"caFile", Connection{BaseURL: base, CAFile: none}},
		{"caFile", Connection{BaseURL: base, CAFile: junk}},
		{"certificateFile", Connection{BaseURL: base, CertificateFile: none}},
		{"keyFile", Connection{BaseURL: base, KeyFile: none}},
		{"certificateFile", Connection{BaseURL: base, CertificateFile: junk, KeyFile: junk}},
		{"bearerFile", Connection{BaseURL: base, BearerFile: none}},
		{"bearerFile", Connection{BaseURL: base, BearerFile: junk}},
	} {
		_, err := New(c.conf)
		var field *SettingError
		if !errors.As(err, &field) || field.Field != c.field {
			t.Errorf("%s: got %v", c.field, err)
			continue
		}
		if strings.Contains(err.Error(), marker) {
			t.Errorf("%s: the error repeats what it was given", c.field)
		}
	}
}

func TestRequestIDLeavesAsUUIDOnly(t *testing.T) {
	const uuid = "5b3f0d3c-8a0e-4c58-9d6e-2f5f1f3c9a77"
	if got := RequestID(uuid); got != uuid {
		t.Errorf("a UUID became %q", got)
	}
	for _, id := range []string{"", "x", "9990000018", "Mrs Test, born 1940", strings.ToUpper(uuid), "5b3f0d3c-8a0e-4c58-9d6e-a9990000018b", uuid + "\r\nX: y"} {
		got := RequestID(id)
		if !isUUID(got) || got != RequestID(id) || strings.Contains(got, "9990000018") {
			t.Errorf("%q became %q", id, got)
		}
	}
	if RequestID("a") == RequestID("b") {
		t.Error("two ids became one")
	}
}

// A body goes out as it is, with what the caller says of who asks; an answer of another version of FHIR is none.
func TestPostsABody(t *testing.T) {
	var got *http.Request
	var body, answer string
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		w.Header().Set("Content-Type", answer)
		_, _ = io.WriteString(w, `{}`)
	}))
	ask := func(version string) error {
		_, err := c.Do(t.Context(), Request{Target: c.At("Patient", "$gpc.getstructuredrecord"), Body: []byte(`{"a":1}`), FHIR: version,
			Header: map[string]string{"Authorization": "Bearer a.b.", "Ssp-To": "1"}}, NewBudget(100, 100, nil))
		return err
	}
	for _, x := range []struct {
		version, answer string
		good            bool
	}{
		{STU3, "application/fhir+json;charset=utf-8", true}, {STU3, "application/json+fhir", true}, {STU3, "application/fhir+json; fhirVersion=3.0", true},
		{STU3, "application/fhir+json; fhirVersion=4.0", false}, {"", "application/json+fhir", false}, {"", "application/fhir+json; fhirVersion=4.0", true},
		{R4, "application/fhir+json; fhirVersion=3.0", false},
	} {
		answer = x.answer
		if err := ask(x.version); (err == nil) != x.good {
			t.Errorf("%q answered with %s: %v", x.version, x.answer, err)
		}
	}
	if got.Method != "POST" || body != `{"a":1}` || got.RequestURI != "/fhir/Patient/$gpc.getstructuredrecord" || got.Header.Get("Authorization") != "Bearer a.b." ||
		got.Header.Get("Ssp-To") != "1" || got.Header.Get("Content-Type") != "application/fhir+json; charset=utf-8" {
		t.Errorf("got %s %s with %v and %s", got.Method, got.RequestURI, got.Header, body)
	}
}

// A proxy that is asked by its own address and that of another gets both, the other one as it is.
func TestThroughAProxy(t *testing.T) {
	var uri string
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uri = r.RequestURI
		fhir(w)
		_, _ = io.WriteString(w, `{}`)
	}))
	target, err := c.Through("https://gp.example:8443/A1/STU3/1", false, "Patient", "$op")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), Request{Target: target, Body: []byte(`{}`)}, NewBudget(100, 100, nil)); err != nil {
		t.Fatal(err)
	}
	if want := "/fhir/https://gp.example:8443/A1/STU3/1/Patient/$op"; uri != want {
		t.Errorf("got %q, want %q", uri, want)
	}
	for _, base := range []string{"", "gp.example", "http://gp.example", "https://user@gp.example", "https://gp.example/a/../b", "https://gp.example?x=1"} {
		if _, err := c.Through(base, false, "Patient"); err == nil {
			t.Errorf("%q is taken", base)
		}
	}
	if _, err := c.Through("https://gp.example", false, ".."); err == nil {
		t.Error("a segment that leads up is taken")
	}
}
