package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// What the broker's configuration and the tokens agree on.
const (
	issuerURL = "http://127.0.0.1/issuer" // iss; its keys are at an address of their own
	audience  = "https://mycarerecord.example/bench"
)

// users is how many clinicians ask in turn.
const users = 20

// newTokens returns the issuer's public keys and one token for each of so many clinicians, good for an hour.
func newTokens() (jwks []byte, tokens []string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, errors.New("no signing key can be made")
	}
	jwk := jose.JSONWebKey{Key: key, KeyID: "bench", Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jwk}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, nil, errors.New("the signing key does not sign")
	}
	now := time.Now()
	for i := range users {
		profile := fmt.Sprintf("5550102%05d", i)
		token, err := jwt.Signed(signer).Claims(map[string]any{
			"iss": issuerURL, "aud": audience, "client_id": "bench-epr", "sub": fmt.Sprintf("5550001%05d", i), "jti": fmt.Sprintf("bench-%d", i),
			"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"nhsid_useruid": fmt.Sprintf("5550001%05d", i), "name": "Dr Invented", "selected_roleid": profile,
			"authentication_assurance_level": "3", "id_assurance_level": "3",
			"nhsid_nrbac_roles": []any{map[string]any{"person_orgid": "555000000001", "person_roleid": profile, "org_code": "X9A01",
				"role_name": `"Clinical":"General Medical Practitioner"`, "role_code": "S8000:G8000:R0260"}},
		}).Serialize()
		if err != nil {
			return nil, nil, errors.New("a token cannot be signed")
		}
		tokens = append(tokens, token)
	}
	jwks, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk.Public()}})
	return jwks, tokens, err
}
