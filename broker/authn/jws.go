package authn

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxTokenBytes caps a token before anything of it is read (go-jose CVE-2025-27144: a megabyte of dots).
const maxTokenBytes = 8 << 10

// maxHeaderBytes caps the decoded protected header.
const maxHeaderBytes = 4 << 10

// maxSignaturesTried bounds the keys of one id that a signature is tried with.
const maxSignaturesTried = 4

// signed is a signature in compact form that was read, and not yet believed.
type signed struct {
	token   string
	alg     string
	keyID   string
	typ     string // lower case, without "application/"
	payload []byte
	claims  claims
}

// refusedHeaders are those that offer a key, demand to be understood, compress or encrypt (RFC 7515 section 4.1, RFC 8725 section 3).
// Others are ignored, as RFC 7515 demands: NHS login repeats claims in its headers.
var refusedHeaders = [...]string{"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc", "epk", "cty"}

// readSigned reads header.payload.signature. The error is the name of the check, "" for none.
func readSigned(token string) (s signed, check string) {
	if token == "" || len(token) > maxTokenBytes {
		return signed{}, "size"
	}
	for i := range len(token) {
		b := token[i]
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_' || b == '.') {
			return signed{}, "form"
		}
	}
	if strings.Count(token, ".") != 2 { // five parts are an encryption, which is not accepted
		return signed{}, "form"
	}
	first, rest, _ := strings.Cut(token, ".")
	second, third, _ := strings.Cut(rest, ".")
	header, err1 := base64.RawURLEncoding.Strict().DecodeString(first)
	payload, err2 := base64.RawURLEncoding.Strict().DecodeString(second)
	signature, err3 := base64.RawURLEncoding.Strict().DecodeString(third)
	if err1 != nil || err2 != nil || err3 != nil || len(signature) == 0 || len(header) > maxHeaderBytes {
		return signed{}, "form"
	}
	h, err := parseObject(header)
	if err != nil {
		return signed{}, "header"
	}
	for _, name := range refusedHeaders {
		if _, there := h[name]; there {
			return signed{}, "header"
		}
	}
	s = signed{token: token, payload: payload}
	var ok bool
	if s.alg, ok = h["alg"].(string); !ok {
		return signed{}, "algorithm"
	}
	if s.keyID, ok = h["kid"].(string); !ok || !plainText(s.keyID, 1, 256) {
		return signed{}, "key id"
	}
	if typ, there := h["typ"]; there {
		if s.typ, ok = typ.(string); !ok || s.typ == "" {
			return signed{}, "type"
		}
		s.typ = strings.TrimPrefix(strings.ToLower(s.typ), "application/")
	}
	c, err := parseObject(payload)
	if err != nil {
		return signed{}, "claims"
	}
	s.claims = c
	return s, ""
}

// verifiedBy reports whether one of the keys made the signature with one of the algorithms. The algorithm that the token names must be
// among those fixed for its signer, and the key must suit it.
func (s signed) verifiedBy(algs []jose.SignatureAlgorithm, keys []jose.JSONWebKey) bool {
	alg := jose.SignatureAlgorithm(s.alg)
	if !slices.Contains(algs, alg) {
		return false
	}
	parsed, err := jose.ParseSignedCompact(s.token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return false
	}
	tried := 0
	for _, key := range keys {
		if !suits(alg, key) {
			continue
		}
		if tried++; tried > maxSignaturesTried {
			return false
		}
		if payload, err := parsed.Verify(key.Key); err == nil {
			return bytes.Equal(payload, s.payload)
		}
	}
	return false
}
