package neighbourhood

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// CallTime is how long one call may take where its context says nothing shorter: more than the budget of a request, 8 s.
const CallTime = 15 * time.Second

// maxBody caps what is read of one answer.
const maxBody = 128 << 20

// newHTTPClient makes a client that follows no redirect, uses no proxy and shares nothing with other tests.
func newHTTPClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 10 * time.Second, ResponseHeaderTimeout: CallTime},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Response is one answer over HTTP, read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// ErrNoAnswer is returned when there is no whole answer: refused, cut, too late or too large.
var ErrNoAnswer = errors.New("no whole answer")

// Do sends one request to an address of the neighbourhood. The error is always [ErrNoAnswer]: outside error texts hold addresses.
func (n *Neighbourhood) Do(ctx context.Context, method, address string, header http.Header, body []byte) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return Response{}, ErrNoAnswer
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	res, err := n.http.Do(req)
	if err != nil {
		return Response{}, ErrNoAnswer
	}
	defer func() { _ = res.Body.Close() }() // read to its end already, or given up
	text, whole, err := readCapped(res.Body, maxBody)
	if err != nil || !whole {
		return Response{}, ErrNoAnswer
	}
	return Response{res.StatusCode, res.Header, text}, nil
}

// Get asks the FHIR gateway for a path such as "/fhir/metadata".
func (n *Neighbourhood) Get(t testing.TB, path string, header http.Header) Response {
	t.Helper()
	return n.must(t, http.MethodGet, n.REST+path, header, nil)
}

// Post sends a FHIR JSON body to a path of the FHIR gateway.
func (n *Neighbourhood) Post(t testing.TB, path string, header http.Header, body []byte) Response {
	t.Helper()
	header = header.Clone()
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/fhir+json")
	}
	return n.must(t, http.MethodPost, n.REST+path, header, body)
}

// PostForm sends a form to a path of the FHIR gateway, as POST Patient/_search wants it.
func (n *Neighbourhood) PostForm(t testing.TB, path string, header http.Header, form url.Values) Response {
	t.Helper()
	header = header.Clone()
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	return n.must(t, http.MethodPost, n.REST+path, header, []byte(form.Encode()))
}

func (n *Neighbourhood) must(t testing.TB, method, address string, header http.Header, body []byte) Response {
	t.Helper()
	res, err := n.Do(t.Context(), method, address, header, body)
	if err != nil {
		u, _ := url.Parse(address)
		t.Fatalf("%s to %s: %v\n%s", method, u.Host, err, n.Tail())
	}
	return res
}

// Headers returns the headers of a request that bears a token, with further ones written "Name: value".
func Headers(token string, lines ...string) http.Header {
	h := http.Header{}
	h.Set("Authorization", "Bearer "+token)
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

// Treating returns the headers of direct care with the person's permission, as an admission.
func Treating(token string) http.Header {
	return Headers(token, "X-Purpose-Of-Use: TREAT", "X-Permission-To-View: asked-yes", "X-Care-Relationship: admission")
}

// Token returns a signed token of a persona, such as "ed-doctor". Fields are written "name=value": nhs_number, purpose, permission,
// relationship, ttl.
func (n *Neighbourhood) Token(t testing.TB, persona string, fields ...string) string {
	t.Helper()
	form := url.Values{"as": {persona}}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		form.Set(name, value)
	}
	res := n.must(t, http.MethodPost, n.Issuer+"/token", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	token := strings.TrimSpace(string(res.Body))
	if res.Status != http.StatusOK || strings.Count(token, ".") != 2 {
		t.Fatalf("the issuer gives %s no token: status %d", persona, res.Status)
	}
	return token
}

// Fault makes a simulated custodian go wrong from now on; "none" heals it. after: so many record requests are still served well. ms: the delay
// of slow, hang and trickle.
func (n *Neighbourhood) Fault(t testing.TB, custodian, fault string, after, ms int) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"fault": fault, "after": after, "ms": ms})
	if err != nil {
		t.Fatal("a fault cannot be written")
	}
	res := n.must(t, http.MethodPost, n.source(t, custodian)+"/_sim/fault", http.Header{"Content-Type": {"application/json"}}, body)
	if res.Status/100 != 2 {
		t.Fatalf("the custodian %s refuses the fault %s: status %d", custodian, fault, res.Status)
	}
}

// Requests counts what a simulated custodian was asked since it started.
type Requests struct {
	Record int `json:"record"` // about a person
	Other  int `json:"other"`
}

// Requests returns what a simulated custodian was asked since it started.
func (n *Neighbourhood) Requests(t testing.TB, custodian string) Requests {
	t.Helper()
	res := n.must(t, http.MethodGet, n.source(t, custodian)+"/_sim/requests", nil, nil)
	var r Requests
	if res.Status != http.StatusOK || json.Unmarshal(res.Body, &r) != nil {
		t.Fatalf("the custodian %s does not tell its requests: status %d", custodian, res.Status)
	}
	return r
}

// Log returns what a simulated custodian logged of the requests that reached for a record, in the form that `verify export -log` takes.
func (n *Neighbourhood) Log(t testing.TB, custodian string) []byte {
	t.Helper()
	res := n.must(t, http.MethodGet, n.source(t, custodian)+"/_sim/log", nil, nil)
	var logged []struct {
		Time      time.Time `json:"time"`
		Custodian string    `json:"custodian"`
		RequestID string    `json:"requestId"`
	}
	if res.Status != http.StatusOK || json.Unmarshal(res.Body, &logged) != nil {
		t.Fatalf("the custodian %s gives no log: status %d", custodian, res.Status)
	}
	var out []byte
	for _, l := range logged {
		l.Custodian = custodian
		line, err := json.Marshal(l)
		if err != nil {
			t.Fatal("a line of a log cannot be written")
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

func (n *Neighbourhood) source(t testing.TB, custodian string) string {
	t.Helper()
	s, ok := n.Sources[custodian]
	if !ok {
		t.Fatalf("the demo has no custodian %s", custodian)
	}
	return s
}

// Metrics returns the text of /metrics.
func (n *Neighbourhood) Metrics(t testing.TB) string {
	t.Helper()
	res := n.must(t, http.MethodGet, n.Ops+"/metrics", nil, nil)
	if res.Status != http.StatusOK {
		t.Fatalf("/metrics answers %d", res.Status)
	}
	return string(res.Body)
}

// Dial returns a gRPC connection, closed when the test ends.
func (n *Neighbourhood) Dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+n.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal("no gRPC client")
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is in flight
	return conn
}

// Bearing returns a context that carries a token, and further metadata in pairs of name and value, and ends after [CallTime] or with the test.
func Bearing(t testing.TB, token string, pairs ...string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), CallTime)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, append([]string{"authorization", "Bearer " + token}, pairs...)...)
}

var _ io.Writer = (*output)(nil)

// String says what sort of answer it is; a body never prints.
func (r Response) String() string { return fmt.Sprintf("status %d, %d bytes", r.Status, len(r.Body)) }
