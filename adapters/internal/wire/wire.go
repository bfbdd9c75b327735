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
// Only HTTP/1.1 is spoken: one request, one connection, so that a deadline cuts exactly one answer, and so that "no byte left" can be known.
package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// maxHeaderBytes caps the header of an answer.
const maxHeaderBytes = 64 << 10

// Client speaks to one configured service. It is safe for concurrent use.
type Client struct {
	origin    origin
	transport *http.Transport
	bearer    string // file of the bearer token, "" for none
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
	t, err := c.transport()
	if err != nil {
		return nil, err
	}
	if err := c.checkBearer(); err != nil {
		return nil, err
	}
	return &Client{origin: o, transport: t, bearer: c.BearerFile}, nil
}

// Base returns the configured address without a trailing slash.
func (c *Client) Base() string { return c.origin.base }

// Close closes idle connections. Requests that are under way are not cut: their contexts are the callers'.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Do asks, and reads the whole answer into memory within budget. The error is always an [*Error]; a status that is not 200 is no error here,
// see [Answer.Trouble].
func (c *Client) Do(ctx context.Context, r Request, budget *Budget) (Answer, error) {
	answer, sent, err := c.once(ctx, r, budget)
	if err != nil && !sent && err.Kind == Unavailable && ctx.Err() == nil {
		answer, _, err = c.once(ctx, r, budget)
	}
	if err != nil {
		return Answer{}, err
	}
	return answer, nil
}

// once asks one time. sent reports whether any byte of the request may have left.
func (c *Client) once(ctx context.Context, r Request, budget *Budget) (answer Answer, sent bool, trouble *Error) {
	var x call
	req, err := c.request(ctx, &r, &x)
	if err != nil {
		return Answer{}, false, err
	}
	// RoundTrip and not http.Client: no redirects, no cookies, no Referer, no error texts with an address in them.
	res, fault := c.transport.RoundTrip(req)
	if fault != nil {
		return Answer{}, x.sent(), roundTripError(ctx, fault, x.first.Load())
	}
	defer func() { _ = res.Body.Close() }() // its only news would be that the rest was not wanted
	answer = Answer{Status: res.StatusCode, RetryAfter: retryAfter(res.Header.Get("Retry-After"), time.Now())}
	version := r.FHIR
	if version == "" {
		version = R4
	}
	if res.StatusCode != http.StatusOK {
		answer.Body, err = errorBody(ctx, res, version)
		return answer, true, err
	}
	if r.Any {
		if v := res.Header.Values("Content-Type"); len(v) == 1 {
			answer.Type = v[0]
		}
		version = "" // no matter
	}
	answer.Body, err = goodBody(ctx, res, version, budget)
	return answer, true, err
}

// call is one request on its way: what net/http is given of it, in one piece, and what is seen of it.
type call struct {
	trace  httptrace.ClientTrace
	url    url.URL
	body   bytes.Reader
	values [usualHeaders]string // of the header; each has one

	conn    *conn
	written int64       // of the connection, before the request
	first   atomic.Bool // the answer has begun; set by a goroutine of the transport's
}

// usualHeaders is more than nearly any request has.
const usualHeaders = 12

func (x *call) gotConn(i httptrace.GotConnInfo) {
	x.conn, _ = i.Conn.(*conn)
	x.written = x.conn.written.Load()
}

// sent reports whether any byte of the request may have left.
func (x *call) sent() bool { return x.conn != nil && x.conn.written.Load() > x.written }

func (x *call) gotFirstByte() { x.first.Store(true) }

// request builds the request. Its body hides from net/http that it could be sent twice: net/http would repeat a GET, and anything without a
// body, on its own when a pooled connection turns out to be closed, even after the request left (R-5: only if no byte did).
func (c *Client) request(ctx context.Context, r *Request, x *call) (*http.Request, *Error) {
	var ok bool
	if x.url, ok = c.origin.address(r.Target); !ok {
		return nil, &Error{Kind: Elsewhere}
	}
	h := header{make(http.Header, len(r.Header)+6), x.values[:0]}
	for k, v := range r.Header {
		h.set(k, v)
	}
	if r.ID != "" {
		h.set("X-Request-Id", r.ID)
	}
	if r.Accept != "" {
		h.set("Accept", r.Accept)
	} else {
		h.set("Accept", "application/fhir+json")
	}
	h.set("Accept-Encoding", "gzip")
	h.set("User-Agent", "mycarerecord/1")
	if c.bearer != "" {
		token, err := readBearer(c.bearer)
		if err != nil {
			return nil, &Error{Kind: Unauthorised}
		}
		h.set("Authorization", "Bearer "+token)
	}
	req := http.Request{Method: http.MethodGet, URL: &x.url, Host: x.url.Host, Header: h.header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	body := r.Body
	switch {
	case r.Form != "":
		body = []byte(r.Form)
		h.set("Content-Type", "application/x-www-form-urlencoded")
	case body != nil:
		if r.JSON {
			h.set("Content-Type", "application/json")
		} else {
			h.set("Content-Type", "application/fhir+json; charset=utf-8")
		}
	}
	if body != nil {
		req.Method = http.MethodPost
		req.ContentLength = int64(len(body))
		x.body.Reset(body)
		req.Body = io.NopCloser(&x.body)
	} else {
		req.Body = eof{}
		req.TransferEncoding = identity
	}
	x.trace.GotConn, x.trace.GotFirstResponseByte = x.gotConn, x.gotFirstByte
	return req.WithContext(httptrace.WithClientTrace(ctx, &x.trace)), nil
}

// identity is how a request without a body is sent: else net/http looks whether there is one, in a goroutine and with a timer for each request. Nothing of it shows on the wire.
var identity = []string{"identity"}

// header is an http.Header whose values lie side by side.
type header struct {
	header http.Header
	values []string
}

// set gives a name its one value.
func (h *header) set(name, value string) {
	h.values = append(h.values, value)
	n := len(h.values)
	h.header[http.CanonicalHeaderKey(name)] = h.values[n-1 : n : n]
}

// eof is a body of no bytes that net/http does not recognise as http.NoBody: nothing of it shows on the wire.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
func (eof) Close() error             { return nil }

// WriteTo writes nothing. Without it net/http makes a buffer of 32 KiB to copy what there is.
func (eof) WriteTo(io.Writer) (int64, error) { return 0, nil }

// roundTripError reduces an error of the transport. Its text, which may hold an address, is dropped.
func roundTripError(ctx context.Context, err error, first bool) *Error {
	if e := ended(ctx); e != nil {
		return e
	}
	switch {
	case refusesOurCertificate(err):
		return &Error{Kind: Unauthorised}
	case !first || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Kind: Unavailable}
	}
	return &Error{Kind: Malformed} // it answered something, and that is not HTTP, or its header is over the cap
}

// ended returns the trouble of a context that is over, nil for one that is not.
func ended(ctx context.Context) *Error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: TimedOut}
	}
	return &Error{Kind: Cancelled}
}
