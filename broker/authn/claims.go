package authn

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// claims are the members of a payload, read strictly. A claim of the wrong type is never taken for a missing one.
type claims map[string]any

// text returns a claim that is a string of at most limit bytes without control characters; "" and true if it is not there.
// A claim that is there and empty is refused: it says nothing, and somebody may have meant something by it.
func (c claims) text(name string, limit int) (string, bool) {
	v, there := c[name]
	if !there {
		return "", true
	}
	s, ok := v.(string)
	if !ok || !plainText(s, 1, limit) {
		return "", false
	}
	return s, true
}

// required is text that must be there.
func (c claims) required(name string, limit int) (string, bool) {
	s, ok := c.text(name, limit)
	return s, ok && s != ""
}

// has reports whether any of the claims is there, whatever its value.
func (c claims) has(names ...string) bool {
	for _, n := range names {
		if _, there := c[n]; there {
			return true
		}
	}
	return false
}

// instant returns a NumericDate in whole seconds. Fractions and exponents, which RFC 7519 would allow, are refused: no issuer of ours
// writes them, and readers differ about them.
func (c claims) instant(name string) (time.Time, bool) {
	n, ok := c[name].(json.Number)
	if !ok || len(n) > 11 {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseUint(string(n), 10, 63)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true //nolint:gosec // at most 11 digits
}

// times checks iat, nbf and exp at that instant, and that the token was not made to live longer than limit. The result is the name of
// the check that failed, "" for none; expired is apart because the holder can do something about it.
func (c claims) times(now time.Time, skew, limit time.Duration) (check string, expired bool) {
	issued, ok := c.instant("iat")
	if !ok || issued.After(now.Add(skew)) {
		return "issued at", false
	}
	if c.has("nbf") {
		if from, ok := c.instant("nbf"); !ok || from.After(now.Add(skew)) {
			return "not before", false
		}
	}
	ends, ok := c.instant("exp")
	if !ok || !ends.After(issued) {
		return "expiry", false
	}
	if ends.Sub(issued) > limit {
		return "lifetime", false
	}
	if !now.Before(ends.Add(skew)) {
		return "", true
	}
	return "", false
}

// namesAudience reports whether aud is exactly the audience, or a list of strings with exactly it as a member.
func (c claims) namesAudience(audience string) bool {
	switch aud := c["aud"].(type) {
	case string:
		return aud == audience
	case []any:
		found := false
		for _, one := range aud {
			s, ok := one.(string)
			if !ok {
				return false
			}
			found = found || s == audience
		}
		return found
	}
	return false
}

// plainText reports whether s is UTF-8 of from to to bytes without control characters.
func plainText(s string, from, to int) bool {
	if len(s) < from || len(s) > to || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return false
		}
	}
	return true
}
