package wire

import (
	"net"
	"net/url"
	"strings"
)

// origin is where a client may ask: scheme, host and port, and a path that every target begins with.
type origin struct {
	scheme string // "https" or "http"
	host   string // lower case, without port; IPv6 without brackets
	port   string // always given
	path   string // escaped, no trailing slash; "" for the root
	shown  string // host and port as configured, for the Host header and for Base
	base   string // all of it, as Base gives it
}

// Target is an address below the configured base. The zero Target is refused. It is comparable: two equal targets are the same page.
// It never prints, because it may hold an identifier.
type Target struct{ path, query string }

// String returns a fixed word.
func (t Target) String() string { return "Target(redacted)" }

// GoString returns a fixed word.
func (t Target) GoString() string { return t.String() }

// Holds reports whether the address holds text, escaped or not. Adapters use it to keep identifiers out of addresses.
func (t Target) Holds(text string) bool {
	for _, s := range [...]string{t.path, t.query} {
		plain, err := url.QueryUnescape(s)
		if err != nil || strings.Contains(s, text) || strings.Contains(plain, text) {
			return true
		}
	}
	return false
}

// Below returns the escaped path below the base, without a leading slash, and the query, decoded; false if the query cannot be read.
func (c *Client) Below(t Target) (path string, query url.Values, ok bool) {
	q, err := url.ParseQuery(t.query)
	return strings.TrimPrefix(strings.TrimPrefix(t.path, c.origin.path), "/"), q, err == nil
}

// At returns the target of segments below the base. An empty segment, "." and ".." make the zero Target, which is refused.
func (c *Client) At(segments ...string) Target {
	path := make([]byte, 0, 128)
	path = append(path, c.origin.path...)
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return Target{}
		}
		path = append(append(path, '/'), url.PathEscape(s)...)
	}
	return Target{path: string(path)}
}

// Through returns the target of segments below another address, base, where the service is a proxy that is asked for by its own address followed by
// the other one as it is, unescaped (the Spine Secure Proxy). base is a setting, never anything that a service gave; the error names it baseURL.
func (c *Client) Through(base string, allowPlainHTTP bool, segments ...string) (Target, error) {
	o, err := parseBase(base, allowPlainHTTP)
	if err != nil {
		return Target{}, err
	}
	below := (&Client{origin: o}).At(segments...)
	if below == (Target{}) {
		return Target{}, &SettingError{Field: "baseURL", Want: "an address below which something can be asked"}
	}
	return Target{path: c.origin.path + "/" + o.scheme + "://" + o.shown + below.path}, nil
}

// Wrapped returns the target of a document at its holder, where the service is a proxy that is asked for by its own address followed by the holder's,
// percent-encoded as one segment (the Spine Secure Proxy, for documents). t is a target of the holder's, so nothing gets into the address that was not pinned.
func (c *Client) Wrapped(holder *Client, t Target) (Target, bool) {
	u, ok := holder.origin.url(t)
	if !ok {
		return Target{}, false
	}
	return Target{path: c.origin.path + "/" + url.QueryEscape(u.String())}, true // there are no blanks in it, which this would write as a plus
}

// Unwrapped returns the address for which a link asks this proxy, in the form of Wrapped; false for any other link. The link's scheme may be scheme instead
// of the proxy's own. What is returned is what the link's author wrote: it must be pinned.
func (c *Client) Unwrapped(link, scheme string) (string, bool) {
	u, err := url.Parse(link)
	if err != nil || u.User != nil || u.RawQuery != "" || strings.Contains(link, "#") || u.Scheme != scheme && u.Scheme != c.origin.scheme {
		return "", false
	}
	u.Scheme = c.origin.scheme
	wrapped, below := strings.CutPrefix(u.EscapedPath(), c.origin.path+"/")
	if !c.origin.same(u) || !below || strings.Contains(wrapped, "/") {
		return "", false
	}
	address, err := url.PathUnescape(wrapped)
	return address, err == nil && strings.Contains(address, "://")
}

// Scheme returns https, or http where that was allowed.
func (c *Client) Scheme() string { return c.origin.scheme }

// With returns t with a query. Identifiers MUST NOT be in it.
func (t Target) With(query url.Values) Target { return t.WithEncoded(query.Encode()) }

// WithEncoded is With for a query that is encoded already.
func (t Target) WithEncoded(query string) Target {
	t.query = query
	return t
}

// Pin returns the target of a link that the service gave, false if it leads anywhere but below the configured base. Scheme, host and port
// are compared as parsed, never as text: "https://trust.example.attacker" begins with "https://trust.example". Whatever two readers
// could read in two ways is refused: user names, backslashes, control and non-ASCII characters, dot segments, empty segments, and escaped
// slashes, backslashes, dots and per cent signs in the path. A link without scheme and host is read as below the configured base.
func (c *Client) Pin(link string) (Target, bool) {
	o := c.origin
	if link == "" || len(link) > 8<<10 || strings.HasPrefix(link, "//") || strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' || r == '#' }) {
		return Target{}, false
	}
	u, err := url.Parse(link)
	if err != nil || u.Opaque != "" || u.User != nil {
		return Target{}, false
	}
	path := u.EscapedPath()
	switch {
	case u.Scheme != "" || u.Host != "":
		if !o.same(u) {
			return Target{}, false
		}
	case path == "":
		path = o.path
	case path[0] != '/':
		path = o.path + "/" + path
	}
	if path == "" {
		path = "/"
	}
	if !plainPath(path) {
		return Target{}, false
	}
	if rest, ok := strings.CutPrefix(path, o.path); !ok || rest != "" && rest[0] != '/' {
		return Target{}, false
	}
	return Target{path: path, query: u.RawQuery}, true
}

// same reports whether u has this scheme, host and port.
func (o origin) same(u *url.URL) bool {
	return u.Scheme == o.scheme && strings.ToLower(u.Hostname()) == o.host && portOf(u) == o.port
}

// portOf returns the port, that of the scheme if none is written, and "" for a colon with nothing behind it.
func portOf(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case strings.HasSuffix(u.Host, ":"):
		return ""
	case u.Scheme == "https":
		return "443"
	case u.Scheme == "http":
		return "80"
	}
	return ""
}

// plainPath reports whether an escaped path can be read in one way only.
func plainPath(p string) bool {
	if strings.Contains(p, "//") {
		return false
	}
	for seg := range strings.SplitSeq(p, "/") {
		if seg == "." || seg == ".." || strings.HasPrefix(seg, "..;") || strings.HasPrefix(seg, ".;") {
			return false
		}
	}
	for i := 0; i < len(p); i++ {
		if p[i] != '%' {
			continue
		}
		c, err := url.PathUnescape(p[i:min(i+3, len(p))])
		if err != nil || len(c) != 1 || c[0] < ' ' || c[0] >= 0x7f || strings.Contains(`/\.%`, c) {
			return false
		}
	}
	return true
}

// url returns the address of t, false for the zero Target.
func (o *origin) url(t Target) (*url.URL, bool) {
	u, ok := o.address(t)
	return &u, ok
}

func (o *origin) address(t Target) (url.URL, bool) {
	if !strings.HasPrefix(t.path, o.path) || t.path == "" {
		return url.URL{}, false
	}
	plain, err := url.PathUnescape(t.path)
	if err != nil {
		return url.URL{}, false
	}
	return url.URL{Scheme: o.scheme, Host: o.shown, Path: plain, RawPath: t.path, RawQuery: t.query}, true
}

// hostField is what the Host header says: host and port without the zone of an address on the link, which means something here only (RFC 6874, section 2).
func (o *origin) hostField() string {
	before, zone, has := strings.Cut(o.shown, "%")
	if !has {
		return o.shown
	}
	_, after, _ := strings.Cut(zone, "]")
	return before + "]" + after
}

// parseBase reads the setting baseURL. The error is a *SettingError and does not repeat the address: it may hold a password.
func parseBase(s string, plainHTTP bool) (origin, error) {
	bad := func(want string) (origin, error) { return origin{}, &SettingError{Field: "baseURL", Want: want} }
	if s == "" {
		return bad("give the FHIR base address, e.g. https://fhir.trust.example/r4")
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.Hostname() == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }) {
		return bad("not an address: give one such as https://fhir.trust.example/r4")
	}
	switch {
	case u.User != nil:
		return bad("no user name or password in the address: name a file with bearerFile or certificateFile")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return bad("no query and no fragment")
	case u.Scheme == "http" && !plainHTTP:
		return bad("https:// (http:// only with allowPlainHTTP: true, which is for trying out)")
	case u.Scheme != "https" && u.Scheme != "http":
		return bad("https://")
	case strings.HasSuffix(u.Hostname(), ".") || portOf(u) == "":
		return bad("a host without a dot at its end, and a port after a colon or neither")
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if !plainPath(path) {
		return bad("a path without empty or dot segments and without escaped slashes, dots or per cent signs")
	}
	host := strings.ToLower(u.Hostname())
	shown := host
	if strings.Contains(host, ":") {
		shown = "[" + host + "]"
	}
	if u.Port() != "" {
		shown = net.JoinHostPort(host, u.Port())
	}
	return origin{scheme: u.Scheme, host: host, port: portOf(u), path: path, shown: shown, base: u.Scheme + "://" + shown + path}, nil
}
