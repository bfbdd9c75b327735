package fhirr4

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"time"
)

// Bounds of client assertions and of the key that signs them. SMART allows five minutes; with three, a clock on either side may be two minutes off.
const (
	assertionLifetime = 3 * time.Minute
	maxKeyFile        = 64 << 10
	minRSABits        = 2048
	maxRSABits        = 8192
	assertionType     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523, 2.2
)

var errKey = errors.New("our key cannot be read")

// signingKey reads our private key: RSA of 2048 bits or more signs with RS384, P-384 with ES384, the two algorithms of SMART Backend Services
// (hl7.org/fhir/smart-app-launch, client-confidential-asymmetric). The error says nothing of the key.
func signingKey(name string) (key crypto.Signer, algorithm string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, "", errKey
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil || len(text) > maxKeyFile {
		return nil, "", errKey
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var parsed any
		switch block.Type {
		case "PRIVATE KEY":
			parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			parsed, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default: // parameters of a curve stand before a key, as some tools write them
			continue
		}
		if err != nil {
			return nil, "", errKey
		}
		switch k := parsed.(type) {
		case *rsa.PrivateKey:
			if bits := k.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
				return k, "RS384", nil
			}
		case *ecdsa.PrivateKey:
			if k.Curve == elliptic.P384() {
				return k, "ES384", nil
			}
		}
		return nil, "", errKey
	}
	return nil, "", errKey
}

// assertion says to the token endpoint who we are: a JWT (RFC 7523), good for that endpoint, once, and a few minutes.
func assertion(s Settings, audience string, now time.Time) (string, error) {
	key, algorithm, err := signingKey(s.ClientKeyFile)
	if err != nil {
		return "", err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (Go 1.24)
	issued := now.Unix()
	head, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}{algorithm, s.ClientKeyID, "JWT"})
	if err != nil {
		return "", errKey
	}
	claims, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		Issued   int64  `json:"iat"`
		Expires  int64  `json:"exp"`
		ID       string `json:"jti"`
	}{s.ClientID, s.ClientID, audience, issued, issued + int64(assertionLifetime/time.Second), hex.EncodeToString(id[:])})
	if err != nil {
		return "", errKey
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	signature, err := sign(key, text)
	if err != nil {
		return "", errKey
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// sign signs as RFC 7518 has it: sections 3.3 for RSA, and 3.4 for the two numbers of ECDSA, each at its full length.
func sign(key crypto.Signer, text string) ([]byte, error) {
	digest := sha512.Sum384([]byte(text))
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA384, digest[:]) //nolint:wrapcheck // reduced by assertion
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, digest[:])
		if err != nil {
			return nil, errKey
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out, nil
	}
	return nil, errKey
}
