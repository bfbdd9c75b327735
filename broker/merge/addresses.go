package merge

import (
	"net/url"
	"path"
	"strings"
)

// Addresses are compared, never written, in the forms that are made here: what a custodian spells in two ways is one place, for whoever follows a reference and so for
// what is withheld there.

// canonical is the form in which addresses are compared: without http: or https:, which proxies change, and without a last slash; the host in small letters and
// without the port that is meant anyway; the path without escapes and dots (RFC 3986, 6.2). A UUID or OID is in small letters (RFC 9562, 4).
func canonical(address string) string {
	if isURN(address) {
		if kind := address[:min(len(address), len("urn:uuid:"))]; strings.EqualFold(kind, "urn:uuid:") || strings.EqualFold(kind[:min(len(kind), len("urn:oid:"))], "urn:oid:") {
			return strings.ToLower(address)
		}
		return address
	}
	rest := address
	if isHTTP(address) {
		rest = address[strings.IndexByte(address, ':')+1:]
	}
	if !strings.HasPrefix(rest, "//") {
		return strings.TrimRight(rest, "/")
	}
	end := strings.IndexByte(rest[2:], '/') + 2
	if end < 2 {
		end = len(rest)
	}
	host, to := rest[2:end], rest[end:]
	if plain := plainPath(to); plain != to || oddHost(host) {
		rest = "//" + plainHost(host) + plain
	}
	return strings.TrimRight(rest, "/")
}

// oddHost reports whether a host may be another than [plainHost] makes of it.
func oddHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case c >= 'A' && c <= 'Z', c == ':', c == '@':
			return true
		}
	}
	return strings.HasSuffix(host, ".")
}

// plainHost is a host in small letters, without a user, a last dot, and the port that is meant anyway.
func plainHost(host string) string {
	host = strings.ToLower(host[strings.LastIndexByte(host, '@')+1:])
	port := ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if port = strings.TrimLeft(host[i+1:], "0"); port == "443" || port == "80" {
			port = ""
		}
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	if port == "" {
		return host
	}
	return host + ":" + port
}

// plainPath is a path without escapes, dots, empty segments, blanks around it and a last slash. Nearly every path is that already.
func plainPath(p string) string {
	if !oddlySpelt(p) {
		return p
	}
	p = strings.TrimSpace(p)
	if plain, err := url.PathUnescape(p); err == nil {
		p = plain
	}
	return path.Clean("/" + p)
}

// oddlySpelt reports whether a path may be another than [plainPath] makes of it, a last slash aside.
func oddlySpelt(p string) bool {
	for i := range len(p) {
		if pathLetters[p[i]] {
			continue
		}
		switch p[i] {
		case '.':
			if i == 0 || p[i-1] == '/' {
				return true
			}
		case '/':
			if i > 0 && (p[i-1] == '/' || i == len(p)-1) {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// pathLetters are the bytes that are in a path what they are anywhere in it: all but escapes, blanks, dots and slashes.
var pathLetters = func() (of [256]bool) {
	for c := range of {
		of[c] = c > ' ' && c != '%' && c != '.' && c != '/'
	}
	return of
}()

// segment is an id as it stands in an address that is compared.
func segment(id string) string {
	if !oddlySpelt(id) {
		return id
	}
	return strings.TrimPrefix(plainPath("/"+id), "/")
}

func isHTTP(address string) bool {
	return len(address) > len("http://") && address[0]|0x20 == 'h' &&
		(strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "http://") || strings.EqualFold(address[:len("https://")], "https://") || strings.EqualFold(address[:len("http://")], "http://"))
}

func isURN(address string) bool {
	return len(address) > len("urn:") && address[0]|0x20 == 'u' && strings.EqualFold(address[:len("urn:")], "urn:")
}

// splitAddress cuts a version, a fragment or a query off an address: rest begins with "/_history", "#" or "?", or is empty. What follows "/_history/" and climbs out of there again leads
// elsewhere: it is no version.
func splitAddress(address string) (head, rest string) {
	end := len(address)
	if i := strings.IndexByte(address, '#'); i >= 0 {
		end = i
	}
	if i := strings.IndexByte(address[:end], '?'); i >= 0 {
		end = i
	}
	if strings.IndexByte(address[:end], '_') >= 0 {
		if i := strings.Index(address[:end], "/_history/"); i >= 0 {
			if !climbs(address[i+len("/_history/") : end]) {
				end = i
			}
		} else if strings.HasSuffix(address[:end], "/_history") {
			end -= len("/_history")
		}
	}
	return address[:end], address[end:]
}

// climbs reports whether a part of a path has a dot or two for a segment, as a browser reads it.
func climbs(part string) bool {
	if strings.IndexByte(part, '.') < 0 && strings.IndexByte(part, '%') < 0 {
		return false
	}
	if plain, err := url.PathUnescape(part); err == nil {
		part = plain
	}
	part = strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(part)
	for segment := range strings.SplitSeq(part, "/") {
		if segment = strings.TrimSpace(segment); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
