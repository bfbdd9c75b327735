// Package wire is how adapters speak HTTP to systems outside: it is the only place below adapters that opens a connection.
//
// What it promises, whatever the other side does:
//
//   - Only the configured origin and base path are ever asked. A [Target] can be made only by [Client.At], from our own segments, or by
//     [Client.Pin], from a link that was checked. Redirects are not followed, proxies of the environment are not used.
//   - Everything read is counted: decoded bytes against a [Budget] that all pages of one fetch share, decompression against a ratio,
//     headers against a cap. Every wait ends with the caller's context.
//   - A request is sent again at most once, and only if no byte of it left.
//   - Nothing is logged, and an [Error] holds a kind and a status: never a text, an address or a body from outside.
//
// Only HTTP/1.1 is spoken: one request, one connection, so that a deadline cuts exactly one answer, and so that "no byte left" can be known. net/http
// reads the answers; connections are a [Pool]'s.
package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// maxHeaderBytes caps the header of an answer.
const maxHeaderBytes = 64 << 10

// Client speaks to one configured service. It is safe for concurrent use.
type Client struct {
	origin origin
	pool   *Pool
	bearer string // file of the bearer token, "" for none
}

// Request is one question.
type Request struct {
	Target Target
	Form   string            // the body of a POST search, encoded (url.Values.Encode); "" makes it a GET, unless there is a Body
	Body   []byte            // the body of a POST, FHIR JSON; nil for none
	JSON   bool              // Body is called application/json and not FHIR
	Any    bool              // a 200 may be of any media type: what it says it is stands in Answer.Type
	FHIR   string            // the version that is spoken: R4 if it is "", or STU3
	Accept string            // what the answer may be; "" is application/fhir+json
	ID     string            // X-Request-Id, see [RequestID]; "" for none
	Header map[string]string // beside Accept, Accept-Encoding, User-Agent and the content type; Authorization only where there is no bearer token
}

// The versions of FHIR, as a content type gives them.
const (
	R4   = "4"
	STU3 = "3"
)

// Answer is what came back. Body is whole and decoded; it is nil where the status is not 200 and the body was no JSON or too long.
type Answer struct {
	Status     int
	Body       []byte
	Type       string        // Content-Type of a 200, where Request.Any let it be any; "" if it says none, or more than one
	RetryAfter time.Duration // what the service asked for, at most MaxRetryAfter; 0 if it did not
}

// New makes the client of a checked [Connection]. The error is a *SettingError that names the setting.
func New(c Connection) (*Client, error) {
	c = c.WithDefaults()
	o, err := parseBase(c.BaseURL, c.AllowPlainHTTP)
	if err != nil {
		return nil, err
	}
	pool, err := c.pool(&o)
	if err != nil {
		return nil, err
	}
	if err := c.checkBearer(); err != nil {
		return nil, err
	}
	return &Client{origin: o, pool: pool, bearer: c.BearerFile}, nil
}

// Base returns the configured address without a trailing slash.
func (c *Client) Base() string { return c.origin.base }

// Close closes idle connections. Requests that are under way are not cut: their contexts are the callers'.
func (c *Client) Close() { c.pool.Close() }

// Do asks, and reads the whole answer into memory within budget. The error is always an [*Error]; a status that is not 200 is no error here,
// see [Answer.Trouble].
func (c *Client) Do(ctx context.Context, r Request, budget *Budget) (answer Answer, err error) {
	message, err := c.message(&r)
	if err != nil {
		return Answer{}, err
	}
	err = c.pool.Ask(ctx, func(l *Line) (fit bool, err error) {
		answer, fit, err = r.exchange(ctx, l, message, budget)
		return fit, err
	})
	if err != nil {
		return Answer{}, err //nolint:wrapcheck // an Error
	}
	return answer, nil
}

// exchange writes a request and reads the answer. fit reports whether all of it has come and nothing else.
func (r *Request) exchange(ctx context.Context, l *Line, message []byte, budget *Budget) (answer Answer, fit bool, err error) {
	if _, err := l.Write(message); err != nil {
		return Answer{}, false, SocketError(ctx, err, false)
	}
	x := incoming{LimitedReader: io.LimitedReader{R: l, N: maxHeaderBytes}}
	in := bufio.NewReader(&x.LimitedReader) // for this answer only: nothing of one is in what another is read into
	res, err := readHeader(in)
	if err != nil {
		// What came is cut off, is not HTTP, or is a header over the cap. Where nothing came, nobody was reached.
		return Answer{}, false, SocketError(ctx, err, x.N < maxHeaderBytes)
	}
	x.N, x.body = math.MaxInt64, res.Body
	answer = Answer{Status: res.StatusCode, RetryAfter: retryAfter(res.Header.Get("Retry-After"), time.Now())}
	if answer.Body, answer.Type, err = r.read(ctx, res, &x, budget); err != nil {
		return Answer{}, false, err
	}
	whole := x.ended || res.Body == http.NoBody
	switch res.StatusCode {
	case http.StatusNoContent, http.StatusNotModified:
		whole = false // they have no body whatever the header says, and a service that sends one all the same sends it in front of the next answer
	}
	return answer, whole && !res.Close && res.StatusCode >= 200 && in.Buffered() == 0, nil
}

// incoming is an answer on its way.
type incoming struct {
	io.LimitedReader           // all of it, of which the header is capped
	body             io.Reader // what follows the header
	ended            bool      // its end was seen
}

// Read reads the body.
func (x *incoming) Read(p []byte) (int, error) {
	n, err := x.body.Read(p)
	x.ended = x.ended || errors.Is(err, io.EOF)
	return n, err //nolint:wrapcheck // a reader passes on what it got
}

// readHeader reads an answer up to its body, past interim ones.
func readHeader(in *bufio.Reader) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode < 100 || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err //nolint:wrapcheck // reduced by SocketError
		}
	}
}

// message is the whole request as it is sent.
func (c *Client) message(r *Request) ([]byte, error) {
	if _, ok := c.origin.address(r.Target); !ok {
		return nil, &Error{Kind: Elsewhere}
	}
	text, kind := r.Body, "application/fhir+json; charset=utf-8"
	switch {
	case r.Form != "":
		text, kind = []byte(r.Form), "application/x-www-form-urlencoded"
	case r.JSON:
		kind = "application/json"
	}
	m := message{text: make([]byte, 0, 1<<10+len(text))}
	m.begin(text != nil, r.Target)
	m.header("Host", c.origin.hostField())
	m.header("User-Agent", "mycarerecord/1")
	if text != nil {
		m.header("Content-Length", strconv.Itoa(len(text)))
		m.header("Content-Type", kind)
	}
	m.header("Accept", cmp.Or(r.Accept, "application/fhir+json"))
	m.header("Accept-Encoding", "gzip")
	if r.ID != "" {
		m.header("X-Request-Id", r.ID)
	}
	for name, value := range r.Header {
		m.bad = m.bad || isOurs(name) || r.ID != "" && strings.EqualFold(name, "X-Request-Id") || c.bearer != "" && strings.EqualFold(name, "Authorization")
		m.header(name, value)
	}
	if c.bearer != "" {
		token, err := readBearer(c.bearer)
		if err != nil {
			return nil, &Error{Kind: Unauthorised}
		}
		m.header("Authorization", "Bearer "+token)
	}
	if m.bad {
		return nil, &Error{Kind: Elsewhere}
	}
	return append(append(m.text, "\r\n"...), text...), nil
}

// ours are the fields that no adapter sets: of two that say the same thing nobody knows which one counts.
var ours = [...]string{"Host", "User-Agent", "Content-Length", "Content-Type", "Transfer-Encoding", "Trailer", "Connection", "Upgrade", "Expect", "Accept", "Accept-Encoding"}

func isOurs(name string) bool {
	return slices.ContainsFunc(ours[:], func(of string) bool { return strings.EqualFold(of, name) })
}

// message is a request being written: RFC 9112, sections 3 and 5. Nothing that is put into it can end the line that it stands in.
type message struct {
	text []byte
	bad  bool // something would have
}

// begin writes the request line.
func (m *message) begin(post bool, t Target) {
	method := http.MethodGet
	if post {
		method = http.MethodPost
	}
	m.text = append(append(append(m.text, method...), ' '), t.path...)
	if t.query != "" {
		m.text = append(append(m.text, '?'), t.query...)
	}
	m.bad = m.bad || bytes.ContainsFunc(m.text[len(method)+1:], func(r rune) bool { return r <= ' ' || r >= 0x7f })
	m.text = append(m.text, " HTTP/1.1\r\n"...)
}

// header writes one field. What it may hold is what net/http asks of it.
func (m *message) header(name, value string) {
	m.bad = m.bad || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value)
	m.text = append(append(append(append(m.text, name...), ": "...), value...), "\r\n"...)
}
