package fhirr4_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/fhirr4"
	"github.com/mycarerecord/mycarerecord/broker"
)

// FuzzToken reads whatever a token endpoint may answer: a token that comes of it can stand in a header as it is, and ends some day.
func FuzzToken(f *testing.F) {
	for _, text := range []string{goodToken, oauthError("invalid_client"), "null", "[]", "", `{"access_token":"a b","token_type":"bearer"}`,
		`{"access_token":"x","token_type":"Bearer","expires_in":"300"}`, `{"access_token":"x","token_type":"bearer","expires_in":1e9}`,
		`{"access_token":"x\r\ny","token_type":"bearer","expires_in":-1}`, `{"access_token":"\u0000","token_type":"bearer"}`, `{"access_token":"x","access_token":"y","token_type":"bearer"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, lifetime, err := fhirr4.ReadToken(body)
		switch {
		case err != nil:
			if token != "" || lifetime != 0 || !errors.Is(err, broker.ErrMalformed) && !errors.Is(err, broker.ErrTooMuch) {
				t.Fatalf("a token beside an error, or %v", err)
			}
		case token == "" || len(token) > 16<<10 || lifetime <= 0 || lifetime > time.Hour || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
			t.Fatalf("a token of %d bytes for %v", len(token), lifetime)
		}
	})
}
