package fhirr4_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/adapters/fhirr4"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

const clientID = "my-care-record"

// clientKeys are made once: RSA is slow.
var clientKeys = sync.OnceValue(func() map[string]crypto.Signer {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"RS384": r, "ES384": e}
})

// keyFile writes a private key, PEM.
func keyFile(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return textFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func textFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// backend is a custodian that lets us in by token, and a change of settings with which it does.
func backend(t testing.TB, algorithm string, change ...func(*simulator.CustodianConfig)) (custodian, func(*fhirr4.Settings)) {
	t.Helper()
	key := clientKeys()[algorithm]
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "key-" + algorithm, Algorithm: algorithm, Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := simulator.CustodianConfig{Name: marker, Everything: true, PageSize: 5, Backend: &simulator.Backend{ClientID: clientID, Keys: keys},
		People: map[string][]json.RawMessage{held: person(held, "p1"), numbered: person(numbered, numbered)}}
	for _, f := range change {
		f(&cfg)
	}
	c, err := simulator.NewCustodian(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	file := keyFile(t, key)
	return custodian{c, s.URL + "/fhir"}, func(s *fhirr4.Settings) {
		s.ClientID, s.ClientKeyFile, s.ClientKeyID = clientID, file, "key-"+algorithm
	}
}

// Every fault ends in its state behind backend authorisation as without it.
func TestFaultsWithBackendServices(t *testing.T) {
	for _, algorithm := range []string{"RS384", "ES384"} {
		t.Run(algorithm, func(t *testing.T) {
			c, client := backend(t, algorithm)
			adaptertest.Run(t, adaptertest.Kit{
				New: func() (broker.Source, error) {
					s := fhirr4.Settings{Connection: wire.Connection{BaseURL: c.base, AllowPlainHTTP: true}}
					client(&s)
					return fhirr4.New(s)
				},
				SetFault: func(f adaptertest.Fault, after, ms int) error {
					return c.SetFault(simulator.FaultSpec{Fault: simulator.Fault(f), After: after, Ms: ms})
				},
				Requests: func() int { return c.Requests().Record },
				Query:    query(t, held), Unknown: number(t, unknown),
				Outside: []string{marker, c.base, "127.0.0.1", "elsewhere.invalid", "Strangeways"},
			})
			noNumberInAddresses(t, c)
			if issued, refused := c.TokensIssued(); issued == 0 || refused != 0 {
				t.Errorf("%d tokens given out, %d refused", issued, refused)
			}
		})
	}
}

func fetchFrom(t testing.TB, s *fhirr4.Source) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := s.Fetch(ctx, query(t, held))
	return err
}

// One token serves all, whoever asks at once, until shortly before its end.
func TestOneToken(t *testing.T) {
	c, client := backend(t, "ES384", func(c *simulator.CustodianConfig) { c.Backend.Lifetime = 2 * time.Minute })
	s := source(t, c.base, client)
	var after atomic.Int64
	s.SetClock(func() time.Time { return time.Now().Add(time.Duration(after.Load())) })
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if err := fetchFrom(t, s); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, x := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {80 * time.Second, 1}, {95 * time.Second, 2}, {100 * time.Second, 2}} {
		after.Store(int64(x.after))
		if err := fetchFrom(t, s); err != nil {
			t.Fatal(err)
		}
		if issued, refused := c.TokensIssued(); issued != x.want || refused != 0 {
			t.Errorf("after %v: %d tokens, want %d; %d refused", x.after, issued, x.want, refused)
		}
	}
}

// A token that was taken back is replaced once; a custodian that takes none is asked for one more and no further.
func TestATokenThatIsRefused(t *testing.T) {
	for _, everything := range []bool{true, false} {
		c, client := backend(t, "ES384", func(c *simulator.CustodianConfig) { c.Everything = everything })
		s := source(t, c.base, client)
		for want := 1; want <= 3; want++ {
			if err := fetchFrom(t, s); err != nil {
				t.Fatalf("everything %v: %v", everything, err)
			}
			if issued, _ := c.TokensIssued(); issued != want {
				t.Errorf("everything %v: %d tokens, want %d", everything, issued, want)
			}
			c.RevokeTokens()
		}
		if err := c.SetFault(simulator.FaultSpec{Fault: simulator.FaultUnauthorised}); err != nil {
			t.Fatal(err)
		}
		from := c.Requests().Record
		if err := fetchFrom(t, s); !errors.Is(err, broker.ErrUnauthorised) {
			t.Errorf("everything %v: got %v", everything, err)
		}
		if issued, _ := c.TokensIssued(); issued != 4 || c.Requests().Record != from+2 {
			t.Errorf("everything %v: %d tokens, %d requests", everything, issued, c.Requests().Record-from)
		}
	}
	// In the middle of searches that run at once, all of them go on with one new token.
	c, client := backend(t, "ES384", func(c *simulator.CustodianConfig) { c.Everything = false })
	s := source(t, c.base, client)
	if err := fetchFrom(t, s); err != nil {
		t.Fatal(err)
	}
	if err := c.SetFault(simulator.FaultSpec{Fault: simulator.FaultUnauthorised, After: 2}); err != nil {
		t.Fatal(err)
	}
	if err := fetchFrom(t, s); !errors.Is(err, broker.ErrUnauthorised) {
		t.Errorf("got %v", err)
	}
	if issued, _ := c.TokensIssued(); issued != 2 {
		t.Errorf("%d tokens", issued)
	}
}

// A custodian that says by 401 that it may not show a record is not asked for another token.
func TestConsentIsNoTokensTrouble(t *testing.T) {
	at := tokenServer(t, goodToken)
	s := serve(t, map[string]string{finding: "401 " + outcome("forbidden", "NO_PATIENT_CONSENT")})
	if _, err := fetch(t, s, query(t, held), at.client(t)); !errors.Is(err, broker.ErrWithheld) || at.asked.Load() != 1 {
		t.Errorf("got %v after %d tokens", err, at.asked.Load())
	}
}

// endpoint is a token endpoint of another host, and answers as it likes.
type endpoint struct {
	url   string
	asked atomic.Int64
}

const goodToken = `{"access_token":"good","token_type":"bearer","expires_in":300}`

func tokenServer(t testing.TB, answer any) *endpoint {
	t.Helper()
	e := &endpoint{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		switch a := answer.(type) {
		case string:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, a)
		case func(http.ResponseWriter, *http.Request):
			a(w, r)
		}
	}))
	t.Cleanup(h.Close)
	e.url = h.URL + "/oauth2/token"
	return e
}

func (e *endpoint) client(t testing.TB) func(*fhirr4.Settings) {
	t.Helper()
	file := keyFile(t, clientKeys()["ES384"])
	return func(s *fhirr4.Settings) {
		s.ClientID, s.ClientKeyFile, s.ClientKeyID, s.TokenURL = clientID, file, "k", e.url
	}
}

// elsewhere counts what reaches a host that is not configured.
func elsewhere(t testing.TB) (address string, hits *atomic.Int64) {
	t.Helper()
	hits = &atomic.Int64{}
	h := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	t.Cleanup(h.Close)
	return h.URL, hits
}

func status(code int, body string, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func oauthError(code string) string {
	return `{"error":"` + code + `","error_description":"` + marker + `"}`
}

// What a hostile or broken token endpoint answers: the state is right, nobody is asked for a record, and nothing reaches another host.
func TestHostileTokenAnswers(t *testing.T) {
	other, hits := elsewhere(t)
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	zipped := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(strings.Repeat(" ", 32<<20) + goodToken))
		_ = z.Close()
		_, _ = w.Write(b.Bytes())
	}
	reset := func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "500")
		_, _ = io.WriteString(w, goodToken[:20])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	drip := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; r.Context().Err() == nil; i++ {
			_, _ = io.WriteString(w, goodToken[i%len(goodToken):i%len(goodToken)+1])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}
	token := func(rest string) string { return `{"token_type":"bearer","expires_in":300,` + rest + `}` }
	for _, c := range []struct {
		name   string
		answer any
		want   error
	}{
		{"the client is not known, 400", status(400, oauthError("invalid_client")), broker.ErrUnauthorised},
		{"the client is not known, 401", status(401, oauthError("invalid_client"), "WWW-Authenticate", "Basic"), broker.ErrUnauthorised},
		{"the scope is not allowed", status(400, oauthError("invalid_scope")), broker.ErrUnauthorised},
		{"the grant is not allowed", status(400, oauthError("unauthorized_client")), broker.ErrUnauthorised},
		{"forbidden", status(403, oauthError("access_denied")), broker.ErrUnauthorised},
		{"400 without a body", status(400, ""), broker.ErrUnauthorised},
		{"400 with garbage", status(400, "<!doctype html>\x00"), broker.ErrUnauthorised},
		{"no such address", status(404, ""), broker.ErrMalformed},
		{"gone", status(410, ""), broker.ErrMalformed},
		{"wrong method", status(405, ""), broker.ErrMalformed},
		{"broken", status(500, oauthError("server_error")), broker.ErrMalformed},
		{"bad gateway", status(502, ""), broker.ErrUnavailable},
		{"not now", status(503, oauthError("temporarily_unavailable"), "Retry-After", "3"), broker.ErrUnavailable},
		{"gateway timeout", status(504, ""), broker.ErrUnavailable},
		{"too many", status(429, oauthError("slow_down"), "Retry-After", "9"), broker.ErrThrottled},
		{"created", status(201, goodToken), broker.ErrMalformed},
		{"nothing", status(204, ""), broker.ErrMalformed},
		{"moved, 301", status(301, "", "Location", other+"/token"), broker.ErrElsewhere},
		{"moved, 302", status(302, "", "Location", other+"/token"), broker.ErrElsewhere},
		{"moved, 307", status(307, "", "Location", other+"/token"), broker.ErrElsewhere},
		{"moved, 308", status(308, "", "Location", other+"/token"), broker.ErrElsewhere},
		{"hangs", hang, broker.ErrTimedOut},
		{"one byte after the other", drip, broker.ErrTimedOut},
		{"the connection is reset", reset, broker.ErrUnavailable},
		{"half an answer", half, broker.ErrMalformed},
		{"a cut answer", goodToken[:30], broker.ErrMalformed},
		{"nothing at all", "", broker.ErrMalformed},
		{"a page", status(200, "<html>"+goodToken, "Content-Type", "text/html"), broker.ErrMalformed},
		{"a form", status(200, "access_token=good&token_type=bearer", "Content-Type", "application/x-www-form-urlencoded"), broker.ErrMalformed},
		{"a bomb", zipped, broker.ErrTooMuch},
		{"huge", token(`"access_token":"good","x":"` + strings.Repeat("x", 1<<20) + `"`), broker.ErrTooMuch},
		{"deep", token(`"access_token":"good","x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)), broker.ErrTooMuch},
		{"two tokens", token(`"access_token":"good","access_token":"other"`), broker.ErrMalformed},
		{"not UTF-8", token("\"access_token\":\"good\",\"x\":\"\xff\""), broker.ErrMalformed},
		{"more behind it", goodToken + goodToken, broker.ErrMalformed},
		{"a list", "[" + goodToken + "]", broker.ErrMalformed},
		{"null", "null", broker.ErrMalformed},
		{"an error with status 200", oauthError("invalid_client"), broker.ErrMalformed},
		{"no token", token(`"scope":"system/*.rs"`), broker.ErrMalformed},
		{"an empty token", token(`"access_token":""`), broker.ErrMalformed},
		{"a number for a token", token(`"access_token":12345`), broker.ErrMalformed},
		{"an object for a token", token(`"access_token":{"value":"good"}`), broker.ErrMalformed},
		{"a header in the token", token(`"access_token":"good\r\nX-Elsewhere: yes"`), broker.ErrMalformed},
		{"a token of two words", token(`"access_token":"good token"`), broker.ErrMalformed},
		{"a token that is not ASCII", token(`"access_token":"gööd"`), broker.ErrMalformed},
		{"a zero in the token", token(`"access_token":"good\u0000"`), broker.ErrMalformed},
		{"a long token", token(`"access_token":"` + strings.Repeat("a", 20_000) + `"`), broker.ErrMalformed},
		{"no type", `{"access_token":"good","expires_in":300}`, broker.ErrMalformed},
		{"another type", `{"access_token":"good","token_type":"mac","expires_in":300}`, broker.ErrMalformed},
		{"ends at once", `{"access_token":"good","token_type":"bearer","expires_in":0}`, broker.ErrMalformed},
		{"has ended", `{"access_token":"good","token_type":"bearer","expires_in":-5}`, broker.ErrMalformed},
		{"ends at no time", `{"access_token":"good","token_type":"bearer","expires_in":"soon"}`, broker.ErrMalformed},
		{"ends never", `{"access_token":"good","token_type":"bearer","expires_in":1e999}`, broker.ErrMalformed},
		{"ends at null", `{"access_token":"good","token_type":"bearer","expires_in":null}`, broker.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := tokenServer(t, c.answer)
			s := serve(t, whole)
			src := source(t, s.base, at.client(t))
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			if c.want != broker.ErrTimedOut {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
			}
			defer cancel()
			r, err := src.Fetch(ctx, query(t, held))
			if !errors.Is(err, c.want) || len(r.Entries) > 0 {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, marker) || strings.Contains(text, "good") || strings.Contains(text, "127.0.0.1") {
				t.Error("the error holds text from outside")
			}
			if throttled, is := errors.AsType[*broker.ThrottledError](err); c.want == broker.ErrThrottled && (!is || throttled.After != 9*time.Second) {
				t.Error("how long to wait is lost")
			}
			if lines := s.lines(); len(lines) > 0 {
				t.Errorf("asked without a token: %q", lines)
			}
			if n := at.asked.Load(); n != 1 && !(c.name == "the connection is reset" && n <= 2) {
				t.Errorf("%d requests for a token", n)
			}
		})
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests to a host that is not configured", n)
	}
}

// An authorisation server that keeps its tokens gives one that was refused again: that is no reason to go on asking.
func TestTheSameTokenAgain(t *testing.T) {
	at := tokenServer(t, goodToken)
	answers := map[string]string{}
	for line := range whole {
		answers[line] = "401 {}"
	}
	s := serve(t, answers)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := source(t, s.base, at.client(t)).Fetch(ctx, query(t, held)); !errors.Is(err, broker.ErrUnauthorised) {
		t.Errorf("got %v, want unauthorised", err)
	}
	if n, lines := at.asked.Load(), s.lines(); n > 3 || len(lines) > 4 {
		t.Errorf("%d requests for a token, %d for a record", n, len(lines))
	}
}

// What may be strange in an answer that is good.
func TestTokenAnswersThatAreGood(t *testing.T) {
	for name, answer := range map[string]string{
		"as they are":     goodToken,
		"as most say it":  `{"access_token":"good","token_type":"Bearer","expires_in":300,"scope":"system/*.rs"}`,
		"no end":          `{"access_token":"good","token_type":"bearer"}`,
		"the end as text": `{"access_token":"good","token_type":"bearer","expires_in":"300"}`,
		"a far end":       `{"access_token":"good","token_type":"bearer","expires_in":999999999}`,
		"base64":          `{"access_token":"aZ09-._~+/==","token_type":"bearer","expires_in":60}`,
	} {
		at := tokenServer(t, answer)
		s := serve(t, whole)
		if _, err := fetch(t, s, query(t, held), at.client(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, a := range s.got {
			if !strings.HasPrefix(a.header.Get("Authorization"), "Bearer ") {
				t.Errorf("%s: asked without a token", name)
			}
		}
	}
}

// Where the custodian says that its token endpoint is: only its own host is believed, and what is anywhere else gets nothing of ours.
func TestHostileDiscovery(t *testing.T) {
	other, hits := elsewhere(t)
	port := other[strings.LastIndexByte(other, ':')+1:]
	names := func(address string) string { return `200 {"token_endpoint":"` + address + `"}` }
	for _, c := range []struct {
		name, answer string
		want         error
	}{
		{"another port", names(other + "/token"), broker.ErrElsewhere},
		{"another host", names("https://login.elsewhere.invalid/token"), broker.ErrElsewhere},
		{"another scheme", names("https://{{host}}/token"), broker.ErrElsewhere},
		{"a user name", names("http://{{host}}@127.0.0.1:" + port + "/token"), broker.ErrElsewhere},
		{"the host as a beginning", names("http://{{host}}.elsewhere.invalid/token"), broker.ErrElsewhere},
		{"a backslash", names(`http://127.0.0.1:` + port + `\\\\@{{host}}/token`), broker.ErrElsewhere},
		{"the host in decimal", names("http://2130706433:" + port + "/token"), broker.ErrElsewhere},
		{"a mapped address", names("http://[::ffff:127.0.0.1]:" + port + "/token"), broker.ErrElsewhere},
		{"dots in the path", names("http://{{host}}/a/../token"), broker.ErrElsewhere},
		{"a fragment", names("http://{{host}}/token#x"), broker.ErrElsewhere},
		{"no host", names("/token"), broker.ErrElsewhere},
		{"no scheme", names("//127.0.0.1:" + port + "/token"), broker.ErrElsewhere},
		{"a file", names("file:///etc/passwd"), broker.ErrElsewhere},
		{"no path", names("http://{{host}}/"), broker.ErrElsewhere},
		{"none", `200 {"authorization_endpoint":"http://{{host}}/authorize"}`, broker.ErrMalformed},
		{"a list", `200 {"token_endpoint":["http://{{host}}/token"]}`, broker.ErrMalformed},
		{"two", `200 {"token_endpoint":"http://{{host}}/token","token_endpoint":"` + other + `/token"}`, broker.ErrMalformed},
		{"garbage", "200 <html>", broker.ErrMalformed},
		{"not there", "404 ", broker.ErrMalformed},
		{"refused", "403 ", broker.ErrUnauthorised},
		{"not now", "503 ", broker.ErrUnavailable},
		{"too many", "429 ", broker.ErrThrottled},
		{"moved", "302 ", broker.ErrElsewhere},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers := with(whole)
			s := serve(t, answers)
			answers["GET .well-known/smart-configuration"] = strings.ReplaceAll(c.answer, "{{host}}", strings.TrimSuffix(strings.TrimPrefix(s.base, "http://"), "/fhir"))
			at := tokenServer(t, goodToken)
			if _, err := fetch(t, s, query(t, held), at.client(t), func(s *fhirr4.Settings) { s.TokenURL = "" }); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			for _, a := range s.got {
				if strings.Contains(a.form, "client_assertion") || a.header.Get("Authorization") != "" || !strings.HasSuffix(a.line, "smart-configuration") {
					t.Errorf("asked %s", a.line)
				}
			}
		})
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests to a host that is not configured", n)
	}
}

// A token goes to the configured address only, wherever the custodian points.
func TestTheTokenStaysHere(t *testing.T) {
	other, hits := elsewhere(t)
	at := tokenServer(t, goodToken)
	for _, answers := range []map[string]string{
		with(whole, all, searchset(other+"/fhir/Patient/p1/$everything?page=2", patientOf("p1", held))),
		with(whole, all, searchset("http://127.0.0.2/fhir?page=2", patientOf("p1", held))),
		with(whole, finding, "302 "), with(whole, all, "307 "),
	} {
		s := serve(t, answers)
		if _, err := fetch(t, s, query(t, held), at.client(t)); !errors.Is(err, broker.ErrElsewhere) {
			t.Errorf("got %v", err)
		}
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests to a host that is not configured", n)
	}
}

// Whoever waited for an attempt that failed does not begin another; whoever comes later does, and a caller who left fails nobody else.
func TestOneAttemptAtATime(t *testing.T) {
	begun, release := make(chan struct{}, 16), make(chan struct{})
	at := tokenServer(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	s := source(t, serve(t, whole).base, at.client(t))
	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := s.Fetch(leaving, query(t, held))
		left <- err
	}()
	<-begun
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			if err := fetchFrom(t, s); !errors.Is(err, broker.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left: got %v", err)
	}
	<-begun // one of the others
	close(release)
	wait.Wait()
	n := at.asked.Load()
	if n > 7 {
		t.Errorf("%d attempts", n)
	}
	if err := fetchFrom(t, s); !errors.Is(err, broker.ErrUnavailable) || at.asked.Load() != n+1 {
		t.Errorf("a later caller: got %v after %d attempts", err, at.asked.Load()-n)
	}
}

// The key is read for each token: it can be changed in place, and one that is gone is our trouble, not the custodian's.
func TestTheKeyIsReadAgain(t *testing.T) {
	c, client := backend(t, "ES384")
	var file string
	s := source(t, c.base, client, func(s *fhirr4.Settings) { file = s.ClientKeyFile })
	if err := os.Rename(file, file+".old"); err != nil {
		t.Fatal(err)
	}
	if err := fetchFrom(t, s); !errors.Is(err, broker.ErrUnauthorised) {
		t.Errorf("got %v", err)
	}
	if err := os.Rename(file+".old", file); err != nil {
		t.Fatal(err)
	}
	if err := fetchFrom(t, s); err != nil {
		t.Error(err)
	}
	// Another's key is refused, with the real error, and asked once.
	stranger, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := fetchFrom(t, source(t, c.base, client, func(s *fhirr4.Settings) { s.ClientKeyFile = keyFile(t, stranger) })); !errors.Is(err, broker.ErrUnauthorised) {
		t.Errorf("got %v", err)
	}
	if issued, refused := c.TokensIssued(); issued != 1 || refused != 1 {
		t.Errorf("%d tokens given out, %d refused", issued, refused)
	}
}

func TestClientSettings(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := keyFile(t, clientKeys()["ES384"])
	small := keyFile(t, p256)
	public, err := x509.MarshalPKIXPublicKey(clientKeys()["ES384"].Public())
	if err != nil {
		t.Fatal(err)
	}
	half := textFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	sec1, err := x509.MarshalECPrivateKey(clientKeys()["ES384"].(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	old := textFile(t, "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"+string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})))
	pkcs1 := textFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(clientKeys()["RS384"].(*rsa.PrivateKey))})))
	for _, c := range []struct {
		name, field string
		change      func(*fhirr4.Settings)
	}{
		{"all well", "", func(*fhirr4.Settings) {}},
		{"a key of openssl ecparam", "", func(s *fhirr4.Settings) { s.ClientKeyFile = old }},
		{"a key of openssl genrsa", "", func(s *fhirr4.Settings) { s.ClientKeyFile = pkcs1 }},
		{"no client", "clientID", func(s *fhirr4.Settings) { s.ClientID = "" }},
		{"a client of two lines", "clientID", func(s *fhirr4.Settings) { s.ClientID = "a\nb" }},
		{"no key", "clientKeyFile", func(s *fhirr4.Settings) { s.ClientKeyFile = "" }},
		{"a key that is not there", "clientKeyFile", func(s *fhirr4.Settings) { s.ClientKeyFile = "/nowhere/key.pem" }},
		{"another curve", "clientKeyFile", func(s *fhirr4.Settings) { s.ClientKeyFile = small }},
		{"a public key", "clientKeyFile", func(s *fhirr4.Settings) { s.ClientKeyFile = half }},
		{"no key id", "clientKeyID", func(s *fhirr4.Settings) { s.ClientKeyID = "" }},
		{"a scope that is not ASCII", "scope", func(s *fhirr4.Settings) { s.Scope = "system/*.rß" }},
		{"a bearer file too", "bearerFile", func(s *fhirr4.Settings) { s.BearerFile = good }},
		{"half a token endpoint", "tokenURL", func(s *fhirr4.Settings) { s.TokenURL = "login.trust.example/token" }},
		{"a token endpoint without a path", "tokenURL", func(s *fhirr4.Settings) { s.TokenURL = "https://login.trust.example" }},
		{"a password in the token endpoint", "tokenURL", func(s *fhirr4.Settings) { s.TokenURL = "https://me:secret@login.trust.example/token" }},
		{"a token endpoint over plain HTTP", "tokenURL", func(s *fhirr4.Settings) { s.TokenURL = "http://login.trust.example/token" }},
	} {
		s := fhirr4.Settings{Connection: wire.Connection{BaseURL: "https://fhir.trust.example"}, ClientID: clientID, ClientKeyFile: good, ClientKeyID: "k"}
		c.change(&s)
		_, err := fhirr4.New(s)
		named, is := errors.AsType[*wire.SettingError](err)
		if c.field == "" && err != nil || c.field != "" && (!is || named.Field != c.field) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.field)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "nowhere")) {
			t.Errorf("%s: the error repeats a value", c.name)
		}
	}
}

// Provenance comes with what it is about where the custodian offers that and no search of its own; both ways bring the same.
func TestRevInclude(t *testing.T) {
	record := append(person(held, "p1"), json.RawMessage(`{"resourceType":"Provenance","id":"v1","target":[{"reference":"Observation/o3"},{"reference":"Condition/c1"}],"recorded":"2024-01-02T03:04:05Z"}`))
	var got [2]string
	for i, reverse := range []bool{false, true} {
		c, client := backend(t, "ES384", func(c *simulator.CustodianConfig) {
			c.Everything, c.RevInclude, c.People = false, reverse, map[string][]json.RawMessage{held: record}
		})
		s := source(t, c.base, client)
		r, err := s.Fetch(t.Context(), query(t, held))
		if err != nil || len(r.Parts) > 0 {
			t.Fatal(err, r.Parts)
		}
		n := 0
		for _, e := range r.Entries {
			if e.Resource.Get("resourceType").Is("Provenance") {
				n++
				got[i] = string(e.Resource.Raw())
			}
		}
		if n != 1 {
			t.Errorf("reverse %v: %d Provenances", reverse, n)
		}
	}
	if got[0] != got[1] {
		t.Errorf("got %s and %s", got[0], got[1])
	}
}
