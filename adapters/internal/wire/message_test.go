package wire

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What is sent is read, by net/http, as what was meant and as nothing else; or it is not sent.
func TestMessagesAreReadAsMeant(t *testing.T) {
	c := clientOf(t, "https://fhir.trust.example:8443/r4")
	plain := rapid.StringMatching(`[ -~]{0,20}`)
	text := rapid.OneOf(plain, plain, plain, plain, plain, plain, rapid.String(), rapid.SampledFrom([]string{"a\r\nX: y", "a\nb", "a\x00", "\r\n\r\nGET / HTTP/1.1\r\n", "é", " a", "a\t"}))
	rapid.Check(t, func(t *rapid.T) {
		r := Request{Target: c.At("Patient", text.Draw(t, "segment")), ID: text.Draw(t, "id"), Accept: text.Draw(t, "accept"), Header: map[string]string{}}
		if q := text.Draw(t, "query"); rapid.Bool().Draw(t, "raw") {
			r.Target = r.Target.WithEncoded(q)
		} else {
			r.Target = r.Target.With(url.Values{"a": {q}})
		}
		word := rapid.StringMatching(`X-[A-Z][a-z]{1,8}`)
		name := rapid.OneOf(word, word, word, rapid.SampledFrom([]string{"Traceparent", "Ssp-From", "accept", "Content-Length", "Transfer-Encoding", "x-request-id", "Bad Name", "Bad:", "", "X\r\nY"})).Draw(t, "name")
		r.Header[name] = text.Draw(t, "value")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			r.Form = url.Values{"identifier": {text.Draw(t, "form")}}.Encode()
		case 1:
			r.Body, r.JSON = []byte(text.Draw(t, "body")), rapid.Bool().Draw(t, "json")
		}
		sent, err := c.message(&r)
		if err != nil {
			if err.(*Error).Kind != Elsewhere { //nolint:errorlint // message returns no other
				t.Fatalf("refused as %v", err)
			}
			return
		}
		in := bufio.NewReader(bytes.NewReader(sent))
		got, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal("what is sent cannot be read")
		}
		body, err := io.ReadAll(got.Body)
		if _, more := in.ReadByte(); err != nil || more == nil {
			t.Fatalf("there is more than one request in it, or less: %v", err)
		}
		want := http.Header{"User-Agent": {"mycarerecord/1"}, "Accept-Encoding": {"gzip"}, "Accept": {"application/fhir+json"}}
		set := func(name, value string) { want[http.CanonicalHeaderKey(name)] = []string{strings.Trim(value, " \t")} }
		if r.Accept != "" {
			set("Accept", r.Accept)
		}
		if r.ID != "" {
			set("X-Request-ID", r.ID)
		}
		set(name, r.Header[name])
		content := r.Body
		if r.Form != "" {
			content = []byte(r.Form)
			set("Content-Type", "application/x-www-form-urlencoded")
		} else if content != nil && r.JSON {
			set("Content-Type", "application/json")
		} else if content != nil {
			set("Content-Type", "application/fhir+json; charset=utf-8")
		}
		method := http.MethodGet
		if content != nil {
			method = http.MethodPost
			if got.ContentLength != int64(len(content)) {
				t.Fatalf("a length of %d for %d bytes", got.ContentLength, len(content))
			}
			got.Header.Del("Content-Length")
		}
		address := r.Target.path
		if r.Target.query != "" {
			address += "?" + r.Target.query
		}
		if got.Method != method || got.Host != "fhir.trust.example:8443" || got.RequestURI != address || got.Proto != "HTTP/1.1" || !bytes.Equal(body, content) {
			t.Fatalf("read as %s %q %q with %q, want %s %q with %q", got.Method, got.Host, got.RequestURI, body, method, address, content)
		}
		if !maps.EqualFunc(got.Header, want, func(a, b []string) bool { return slices.Equal(a, b) }) {
			t.Fatalf("read with %q, want %q", got.Header, want)
		}
	})
}

// Whatever would end the line that it stands in is refused, wherever it came from; and what would say again what we say.
func TestNothingEndsItsLine(t *testing.T) {
	c := clientOf(t, "https://fhir.trust.example/r4")
	const evil = "a\r\nX-Evil: 1"
	for name, r := range map[string]Request{
		"id":     {Target: c.At("x"), ID: evil},
		"accept": {Target: c.At("x"), Accept: evil},
		"value":  {Target: c.At("x"), Header: map[string]string{"Traceparent": evil}},
		"name":   {Target: c.At("x"), Header: map[string]string{evil: "1"}},
		"twice":  {Target: c.At("x"), Header: map[string]string{"content-length": "1"}},
		"query":  {Target: c.At("x").WithEncoded(evil)},
		"blank":  {Target: c.At("x").WithEncoded("a b")},
		"path":   {Target: Target{path: "/r4/" + evil}},
		"wide":   {Target: Target{path: "/r4/é"}},
	} {
		if _, err := c.Do(t.Context(), r, NewBudget(100, 100, nil)); kindOf(t, err) != Elsewhere {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The zone of an address on the link is ours alone (RFC 6874, section 2): the service is not told it.
func TestAZoneIsNotSent(t *testing.T) {
	for base, want := range map[string]string{"http://[fe80::1%25eth0]:8080/r4": "[fe80::1]:8080", "http://[fe80::1%25eth0]": "[fe80::1]", "http://[fe80::1]:80": "[fe80::1]:80"} {
		c := clientOf(t, base)
		text, err := c.message(&Request{Target: c.At("x")})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text))); err != nil || r.Host != want {
			t.Errorf("%s: %v, want %s", base, err, want)
		}
	}
}
