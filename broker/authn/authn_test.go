package authn

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

const (
	issuerURL = "https://issuer.example"
	rsaIssuer = "https://login.example/"
	audience  = "https://mycarerecord.example/demo"
)

// noon is the time of every test.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// testKeys are made once: RSA keys take long under the race detector.
var testKeys = sync.OnceValue(func() (k struct {
	issuer, other, engine, p384 *ecdsa.PrivateKey
	rsa, small                  *rsa.PrivateKey
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	for _, at := range []**ecdsa.PrivateKey{&k.issuer, &k.other, &k.engine} {
		*at, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
	}
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.small, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	return k
})

func jwks(keys ...jose.JSONWebKey) []byte {
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		panic(err)
	}
	return raw
}

func jwk(id, alg string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: alg, Use: "sig"}
}

// fakeKeys serves key sets from memory and counts how often it is asked.
type fakeKeys struct {
	fetches atomic.Int64
	serve   func(ctx context.Context, from Issuer) ([]byte, error)
}

func (f *fakeKeys) KeySet(ctx context.Context, from Issuer) ([]byte, error) {
	f.fetches.Add(1)
	return f.serve(ctx, from)
}

func servingAll() *fakeKeys {
	k := testKeys()
	return &fakeKeys{serve: func(_ context.Context, from Issuer) ([]byte, error) {
		if from.URL == rsaIssuer {
			return jwks(jwk("r1", "RS256", k.rsa.Public()), jwk("weak", "RS256", k.small.Public())), nil
		}
		return jwks(jwk("k1", "ES256", k.issuer.Public()), jwk("p384", "", k.p384.Public()), jwk("noalg", "", k.issuer.Public()),
			jose.JSONWebKey{Key: k.issuer.Public(), KeyID: "enc", Use: "enc"}), nil
	}}
}

func testConfig() Config {
	k := testKeys()
	return Config{
		Audience: audience,
		Issuers: []Issuer{
			{URL: issuerURL, Algorithms: []string{"ES256"}, VouchesFor: []record.RequesterKind{record.Professional, record.Person, record.System}},
			{URL: rsaIssuer, Algorithms: []string{"RS256"}, VouchesFor: []record.RequesterKind{record.Person}, TrustMark: "https://login.example/trustmark"},
		},
		Clients: []Client{
			{ID: "demo-engine", Organisations: []record.ODSCode{"X9B01"}, Keys: jwks(jwk("e1", "ES256", k.engine.Public()))},
			{ID: "demo-other", Organisations: []record.ODSCode{"X9C01"}, Keys: jwks(jwk("e1", "ES256", k.other.Public()))},
			{ID: "demo-rsa", Organisations: []record.ODSCode{"X9B01"}, Keys: jwks(jwk("r1", "", k.rsa.Public()))},
			{ID: "epr-b", Organisations: []record.ODSCode{"X9B01"}},
		},
	}
}

func newVerifier(t testing.TB, keys Keys) *Verifier {
	t.Helper()
	v, err := New(testConfig(), keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// compact signs any header and payload, however wrong, with ECDSA P-256, RSA PKCS #1 or, for bytes, HMAC.
func compact(header, payload string, key any) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	sum := sha256.Sum256([]byte(input))
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			panic(err)
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		return input + "." + b64(append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...))
	case *rsa.PrivateKey:
		sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return input + "." + b64(sig)
	case []byte:
		m := hmac.New(sha256.New, k)
		m.Write([]byte(input))
		return input + "." + b64(m.Sum(nil))
	}
	return input + "."
}

type object = map[string]any

func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func with(base object, changes object) object {
	out := maps.Clone(base)
	for k, v := range changes {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

var plainHeader = object{"alg": "ES256", "kid": "k1", "typ": "at+jwt"}

func common(sub string) object {
	return object{"iss": issuerURL, "sub": sub, "aud": audience, "iat": noon.Add(-time.Minute).Unix(), "exp": noon.Add(4 * time.Minute).Unix(),
		"jti": "token-1", "client_id": "demo-epr"}
}

func role(id, org, code string) object {
	return object{"person_orgid": "1" + id, "person_roleid": id, "org_code": org, "role_name": "Clinician", "role_code": code}
}

func staffClaims() object {
	return with(common("555001"), object{"nhsid_useruid": "555047812345", "name": "Dr Ada Test", "selected_roleid": "200000000002",
		"nhsid_nrbac_roles":              []any{role("200000000001", "X9A01", "S8000:G8000:R8010"), role("200000000002", "X9B01", "S8000:G8000:R8000")},
		"authentication_assurance_level": "3", "id_assurance_level": "3"})
}

func personClaims() object {
	return with(common("5f0c2f9e-3b1d-4d6a-9a55-0a1b2c3d4e5f"), object{"vot": "P9.Cp.Cd", "vtm": "https://login.example/trustmark",
		"nhs_number": "9990000018", "birthdate": "1970-01-01", "family_name": "Example"})
}

func systemClaims() object { return with(common("demo-engine"), object{"client_id": "demo-engine"}) }

func actingClaims() object {
	return object{"iss": "demo-engine", "sub": "555047812345", "name": "Dr Ada Test", "role_profile_id": "200000000002", "job_role": "R8000",
		"org_code": "X9B01", "aud": audience, "iat": noon.Unix(), "exp": noon.Add(2 * time.Minute).Unix(), "jti": "act-1"}
}

func token(header, payload object) string {
	return compact(text(header), text(payload), testKeys().issuer)
}

func verify(t testing.TB, v *Verifier, tok string, acting ...string) (Caller, error) {
	t.Helper()
	return v.Verify(t.Context(), []string{"Bearer " + tok}, acting, noon)
}

func TestGoodTokens(t *testing.T) {
	v := newVerifier(t, servingAll())
	number, _ := record.ParseNHSNumber("9990000018")
	for name, c := range map[string]struct {
		token  string
		acting []string
		want   record.Requester
	}{
		"staff, the selected role and no other": {token: token(plainHeader, staffClaims()), want: record.Requester{Kind: record.Professional,
			User: "555047812345", Name: "Dr Ada Test", RoleProfile: "200000000002", JobRole: "R8000", Organisation: "X9B01", Client: "demo-epr"}},
		"staff without a selected role has none": {token: token(plainHeader, with(staffClaims(), object{"selected_roleid": nil})),
			want: record.Requester{Kind: record.Professional, User: "555047812345", Name: "Dr Ada Test", Client: "demo-epr"}},
		"staff whose selected role is not in the list has none": {token: token(plainHeader, with(staffClaims(), object{"selected_roleid": "200000000009"})),
			want: record.Requester{Kind: record.Professional, User: "555047812345", Name: "Dr Ada Test", Client: "demo-epr"}},
		"the person": {token: token(plainHeader, personClaims()), want: record.Requester{Kind: record.Person, User: "5f0c2f9e-3b1d-4d6a-9a55-0a1b2c3d4e5f",
			Name: "Example", Client: "demo-epr", Own: number}},
		"the person, by RS256 of another issuer": {
			token: compact(text(with(plainHeader, object{"alg": "RS256", "kid": "r1", "typ": "JWT"})), text(with(personClaims(), object{"iss": rsaIssuer})), testKeys().rsa),
			want: record.Requester{Kind: record.Person, User: "5f0c2f9e-3b1d-4d6a-9a55-0a1b2c3d4e5f", Name: "Example", Client: "demo-epr", Own: number,
				Issuer: rsaIssuer}},
		"a system that acts for a person": {token: token(plainHeader, systemClaims()),
			acting: []string{compact(`{"alg":"ES256","kid":"e1"}`, text(actingClaims()), testKeys().engine)},
			want: record.Requester{Kind: record.Professional, User: "555047812345", Name: "Dr Ada Test", RoleProfile: "200000000002", JobRole: "R8000",
				Organisation: "X9B01", Client: "demo-engine"}},
		"audience in a list, type in full, header with repeated claims": {
			token: token(object{"alg": "ES256", "kid": "k1", "typ": "application/AT+JWT", "iss": "elsewhere"},
				with(staffClaims(), object{"aud": []string{"https://else.example", audience}})),
			want: record.Requester{Kind: record.Professional, User: "555047812345", Name: "Dr Ada Test", RoleProfile: "200000000002", JobRole: "R8000",
				Organisation: "X9B01", Client: "demo-epr"}},
		"a key without alg, fitting by its type": {token: token(with(plainHeader, object{"kid": "noalg"}), personClaims()),
			want: record.Requester{Kind: record.Person, User: "5f0c2f9e-3b1d-4d6a-9a55-0a1b2c3d4e5f", Name: "Example", Client: "demo-epr", Own: number}},
		"within the skew": {token: token(plainHeader, with(personClaims(), object{"iat": noon.Add(29 * time.Second).Unix(), "nbf": noon.Add(29 * time.Second).Unix()})),
			want: record.Requester{Kind: record.Person, User: "5f0c2f9e-3b1d-4d6a-9a55-0a1b2c3d4e5f", Name: "Example", Client: "demo-epr", Own: number}},
		"a registered EPR for its own organisation": {token: token(plainHeader, with(staffClaims(), object{"client_id": "epr-b"})),
			want: record.Requester{Kind: record.Professional, User: "555047812345", Name: "Dr Ada Test", RoleProfile: "200000000002", JobRole: "R8000",
				Organisation: "X9B01", Client: "epr-b"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want.Issuer == "" {
				c.want.Issuer = issuerURL
			}
			c.want.TokenID = "token-1"
			got, err := verify(t, v, c.token, c.acting...)
			if err != nil || got.Problem != nil {
				t.Fatalf("got %v, problem %v; want it accepted", err, got.Problem)
			}
			if got.Requester != c.want {
				t.Errorf("got %+v, want %+v", got.Requester, c.want)
			}
		})
	}
}

// hostileTokens is the corpus of T-03: each is refused, each by the check that it names.
func hostileTokens() map[string]struct{ token, check string } {
	k := testKeys()
	type row = struct{ token, check string }
	staff, person := staffClaims(), personClaims()
	signed := func(payload object) string { return token(plainHeader, payload) }
	headed := func(changes object) string { return token(with(plainHeader, changes), person) }
	raw := func(payload string) string { return compact(text(plainHeader), payload, k.issuer) }
	good := signed(person)
	parts := strings.Split(good, ".")
	der, err := x509.MarshalPKIXPublicKey(k.rsa.Public())
	if err != nil {
		panic(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	personText := text(person)
	twice := func(member string) string { return strings.TrimSuffix(personText, "}") + "," + member + "}" }
	// The same signature in its other form, s replaced by n - s, is a signature of the same text: it is accepted by every verifier of
	// ECDSA, and is here only where r or s leave their range.
	high := slices.Concat(signature[:32], elliptic.P256().Params().N.Bytes())
	flipped := slices.Clone(signature)
	flipped[40] ^= 1
	otherBits := []byte(parts[2])
	otherBits[len(otherBits)-1] ^= 1
	if string(otherBits) == parts[2] {
		panic("no change")
	}
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: k.rsa.Public()}, &jose.EncrypterOptions{Compression: jose.DEFLATE})
	if err != nil {
		panic(err)
	}
	sealed, err := encrypter.Encrypt(make([]byte, 1<<20))
	if err != nil {
		panic(err)
	}
	jwe, err := sealed.CompactSerialize()
	if err != nil {
		panic(err)
	}

	return map[string]row{
		"empty":                                 {"", "size"},
		"one dot":                               {parts[0] + "." + parts[1], "form"},
		"four dots, a JWE with compression":     {jwe, "form"},
		"dots only":                             {strings.Repeat(".", 8000), "form"},
		"a megabyte of dots":                    {strings.Repeat(".", 1<<20), "size"},
		"oversized by one":                      {good + strings.Repeat("A", maxTokenBytes+1-len(good)), "size"},
		"JWS in its JSON form":                  {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, "form"},
		"two tokens with a comma":               {good + "," + good, "form"},
		"leading blank":                         {" " + good, "form"},
		"line break inside":                     {parts[0] + "." + parts[1] + "\n." + parts[2], "form"},
		"padded base64":                         {parts[0] + "=." + parts[1] + "." + parts[2], "form"},
		"standard base64 letters":               {parts[0] + "." + parts[1] + "." + parts[2][:10] + "+/" + parts[2][12:], "form"},
		"last bits of the signature not zero":   {parts[0] + "." + parts[1] + "." + string(otherBits), "form"},
		"no signature":                          {parts[0] + "." + parts[1] + ".", "form"},
		"no payload":                            {parts[0] + ".." + parts[2], "claims"},
		"header not JSON":                       {b64([]byte("alg")) + "." + parts[1] + "." + parts[2], "header"},
		"header a list":                         {compact(`["alg"]`, personText, k.issuer), "header"},
		"header names alg twice":                {compact(`{"alg":"none","alg":"ES256","kid":"k1","typ":"JWT"}`, personText, k.issuer), "header"},
		"header names alg twice, by case":       {compact(`{"ALG":"none","alg":"ES256","kid":"k1","typ":"JWT"}`, personText, k.issuer), "header"},
		"header with trailing data":             {compact(`{"alg":"ES256","kid":"k1","typ":"JWT"}{}`, personText, k.issuer), "header"},
		"header nested deep":                    {compact(`{"alg":"ES256","kid":"k1","typ":"JWT","x":`+strings.Repeat("[", 300)+strings.Repeat("]", 300)+`}`, personText, k.issuer), "header"},
		"alg none, no signature":                {compact(text(with(plainHeader, object{"alg": "none"})), personText, nil), "form"},
		"alg none with a signature":             {headed(object{"alg": "none"}), "algorithm"},
		"alg None":                              {headed(object{"alg": "None"}), "algorithm"},
		"alg missing":                           {headed(object{"alg": nil}), "algorithm"},
		"alg a number":                          {headed(object{"alg": 256}), "algorithm"},
		"alg in lower case":                     {headed(object{"alg": "es256"}), "algorithm"},
		"alg empty":                             {headed(object{"alg": ""}), "algorithm"},
		"HS256 with the RSA public key":         {compact(`{"alg":"HS256","kid":"r1","typ":"JWT"}`, text(with(person, object{"iss": rsaIssuer})), publicPEM), "algorithm"},
		"HS256 with the key in DER":             {compact(`{"alg":"HS256","kid":"r1","typ":"JWT"}`, text(with(person, object{"iss": rsaIssuer})), der), "algorithm"},
		"HS256 with an empty key":               {compact(`{"alg":"HS256","kid":"k1","typ":"JWT"}`, personText, []byte{}), "algorithm"},
		"RS256 where ES256 is fixed":            {compact(`{"alg":"RS256","kid":"k1","typ":"JWT"}`, personText, k.rsa), "algorithm"},
		"PS256 where RS256 is fixed":            {compact(`{"alg":"PS256","kid":"r1","typ":"JWT"}`, text(with(person, object{"iss": rsaIssuer})), k.rsa), "algorithm"},
		"ES256 by a P-384 key":                  {compact(`{"alg":"ES256","kid":"p384","typ":"JWT"}`, personText, k.p384), "key id"},
		"RSA key of 1024 bits":                  {compact(`{"alg":"RS256","kid":"weak","typ":"JWT"}`, text(with(person, object{"iss": rsaIssuer})), k.small), "key id"},
		"a key that is for encryption":          {headed(object{"kid": "enc"}), "key id"},
		"kid missing":                           {headed(object{"kid": nil}), "key id"},
		"kid empty":                             {headed(object{"kid": ""}), "key id"},
		"kid a number":                          {headed(object{"kid": 1}), "key id"},
		"kid a path":                            {headed(object{"kid": "../../../../dev/null"}), "key id"},
		"kid SQL":                               {headed(object{"kid": "k1' OR '1'='1"}), "key id"},
		"kid an address":                        {headed(object{"kid": "https://attacker.example/keys"}), "key id"},
		"kid with control characters":           {headed(object{"kid": "k1\x00"}), "key id"},
		"kid too long":                          {headed(object{"kid": strings.Repeat("k", 300)}), "key id"},
		"kid of another issuer's key":           {headed(object{"kid": "r1"}), "key id"},
		"jku":                                   {headed(object{"jku": "https://attacker.example/jwks"}), "header"},
		"x5u":                                   {headed(object{"x5u": "https://attacker.example/x"}), "header"},
		"x5c":                                   {headed(object{"x5c": []string{"MII"}}), "header"},
		"jwk, signed by it":                     {compact(text(with(plainHeader, object{"jwk": jwk("k1", "ES256", k.other.Public())})), personText, k.other), "header"},
		"crit unknown":                          {headed(object{"crit": []string{"exp2"}, "exp2": 1}), "header"},
		"b64 false":                             {headed(object{"b64": false, "crit": []string{"b64"}}), "header"},
		"zip":                                   {headed(object{"zip": "DEF"}), "header"},
		"enc":                                   {headed(object{"enc": "A128GCM"}), "header"},
		"nested token, cty":                     {headed(object{"cty": "JWT"}), "header"},
		"typ missing":                           {headed(object{"typ": nil}), "type"},
		"typ of a proof of possession":          {headed(object{"typ": "dpop+jwt"}), "type"},
		"typ of a client assertion":             {headed(object{"typ": "client-authentication+jwt"}), "type"},
		"typ a list":                            {headed(object{"typ": []string{"JWT"}}), "type"},
		"signed by another key":                 {compact(text(plainHeader), personText, k.other), "signature"},
		"payload changed":                       {parts[0] + "." + b64([]byte(strings.Replace(personText, "P9.Cp.Cd", "P9.Cp.Ck", 1))) + "." + parts[2], "signature"},
		"signature flipped":                     {parts[0] + "." + parts[1] + "." + b64(flipped), "signature"},
		"signature of zeros":                    {parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)), "signature"},
		"signature with s out of range":         {parts[0] + "." + parts[1] + "." + b64(high), "signature"},
		"signature in DER":                      {parts[0] + "." + parts[1] + "." + b64(derSignature(signature)), "signature"},
		"signature of one byte":                 {parts[0] + "." + parts[1] + "." + b64([]byte{0}), "signature"},
		"iss missing":                           {signed(with(person, object{"iss": nil})), "issuer"},
		"iss with a slash more":                 {signed(with(person, object{"iss": issuerURL + "/"})), "issuer"},
		"iss with a slash less":                 {compact(`{"alg":"RS256","kid":"r1","typ":"JWT"}`, text(with(person, object{"iss": strings.TrimSuffix(rsaIssuer, "/")})), k.rsa), "issuer"},
		"iss in another case":                   {signed(with(person, object{"iss": "https://ISSUER.example"})), "issuer"},
		"iss a list":                            {signed(with(person, object{"iss": []string{issuerURL}})), "issuer"},
		"iss unknown":                           {signed(with(person, object{"iss": "https://attacker.example"})), "issuer"},
		"iss of another, signed by the first":   {compact(`{"alg":"RS256","kid":"r1","typ":"JWT"}`, text(with(person, object{"iss": issuerURL})), k.rsa), "algorithm"},
		"claims name iss twice":                 {raw(twice(`"iss":"` + issuerURL + `"`)), "claims"},
		"claims name exp twice, by case":        {raw(twice(`"EXP":9999999999`)), "claims"},
		"claims name aud twice, by escape":      {raw(twice(`"\u0061ud":"` + audience + `"`)), "claims"},
		"a role names org_code twice":           {raw(strings.Replace(text(staff), `"org_code":"X9B01"`, `"org_code":"X9A01","org_code":"X9B01"`, 1)), "claims"},
		"claims with trailing data":             {raw(personText + "x"), "claims"},
		"claims not UTF-8":                      {raw(strings.Replace(personText, "Example", "\xff\xfe", 1)), "claims"},
		"claims a string":                       {raw(`"claims"`), "claims"},
		"claims nested deep":                    {raw(twice(`"x":` + strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20))), "claims"},
		"aud missing":                           {signed(with(person, object{"aud": nil})), "audience"},
		"aud with more at its end":              {signed(with(person, object{"aud": audience + "/fhir"})), "audience"},
		"aud with less":                         {signed(with(person, object{"aud": "https://mycarerecord.example"})), "audience"},
		"aud list without it":                   {signed(with(person, object{"aud": []string{"a", audience + "x"}})), "audience"},
		"aud list empty":                        {signed(with(person, object{"aud": []string{}})), "audience"},
		"aud list with a number":                {signed(with(person, object{"aud": []any{audience, 1}})), "audience"},
		"aud an object":                         {signed(with(person, object{"aud": object{audience: true}})), "audience"},
		"exp missing":                           {signed(with(person, object{"exp": nil})), "expiry"},
		"exp a float":                           {raw(strings.Replace(personText, fmt.Sprintf(`"exp":%d`, person["exp"]), fmt.Sprintf(`"exp":%d.5`, person["exp"]), 1)), "expiry"},
		"exp with an exponent":                  {signed(with(person, object{"exp": json.Number("1.79e9")})), "expiry"},
		"exp a string":                          {signed(with(person, object{"exp": fmt.Sprint(person["exp"])})), "expiry"},
		"exp negative":                          {signed(with(person, object{"exp": -1})), "expiry"},
		"exp beyond any integer":                {signed(with(person, object{"exp": json.Number("99999999999999999999999")})), "expiry"},
		"exp far in the future":                 {signed(with(person, object{"exp": noon.Add(10 * 365 * 24 * time.Hour).Unix()})), "lifetime"},
		"exp before iat":                        {signed(with(person, object{"exp": noon.Add(-2 * time.Minute).Unix()})), "expiry"},
		"iat missing":                           {signed(with(person, object{"iat": nil})), "issued at"},
		"iat a string":                          {signed(with(person, object{"iat": "now"})), "issued at"},
		"iat in the future":                     {signed(with(person, object{"iat": noon.Add(31 * time.Second).Unix()})), "issued at"},
		"nbf in the future":                     {signed(with(person, object{"nbf": noon.Add(31 * time.Second).Unix()})), "not before"},
		"nbf null":                              {raw(twice(`"nbf":null`)), "not before"},
		"sub missing":                           {signed(with(person, object{"sub": nil})), "subject"},
		"sub a number":                          {signed(with(person, object{"sub": 5})), "subject"},
		"client_id missing":                     {signed(with(person, object{"client_id": nil})), "client"},
		"jti missing":                           {signed(with(person, object{"jti": nil})), "token id"},
		"bound to a certificate":                {signed(with(person, object{"cnf": object{"x5t#S256": "abc"}})), "binding"},
		"bound to a key":                        {signed(with(person, object{"cnf": object{"jkt": "abc"}})), "binding"},
		"staff and person at once":              {signed(with(staff, object{"vot": "P9.Cm"})), "kind"},
		"neither staff, person nor system":      {signed(common("555047812345")), "kind"},
		"a system with a stated person":         {signed(with(systemClaims(), object{"nhs_number": "9990000018"})), "kind"},
		"staff by an issuer of persons":         {compact(`{"alg":"RS256","kid":"r1","typ":"JWT"}`, text(with(staff, object{"iss": rsaIssuer})), k.rsa), "kind"},
		"a system by an issuer of persons":      {compact(`{"alg":"RS256","kid":"r1","typ":"JWT"}`, text(with(systemClaims(), object{"iss": rsaIssuer})), k.rsa), "kind"},
		"identity level P5":                     {signed(with(person, object{"vot": "P5.Cp.Cd", "identity_proofing_level": "P9"})), "identity level"},
		"identity level P0":                     {signed(with(person, object{"vot": "P0"})), "identity level"},
		"identity level P90":                    {signed(with(person, object{"vot": "P90.Cp"})), "identity level"},
		"identity level in the wrong place":     {signed(with(person, object{"vot": "Cp.P9"})), "identity level"},
		"vot a list":                            {signed(with(person, object{"vot": []string{"P9.Cp.Cd"}})), "identity level"},
		"vot missing":                           {signed(with(person, object{"vot": nil})), "identity level"},
		"vtm missing":                           {signed(with(person, object{"vtm": nil})), "trust mark"},
		"vtm of another environment":            {compact(`{"alg":"RS256","kid":"r1","typ":"JWT"}`, text(with(person, object{"iss": rsaIssuer, "vtm": "https://login.example/trustmark/test"})), k.rsa), "trust mark"},
		"NHS number with a wrong check digit":   {signed(with(person, object{"nhs_number": "9990000019"})), "nhs number"},
		"NHS number of one digit repeated":      {signed(with(person, object{"nhs_number": "9999999999"})), "nhs number"},
		"NHS number with blanks":                {signed(with(person, object{"nhs_number": "999 000 0018"})), "nhs number"},
		"NHS number a JSON number":              {signed(with(person, object{"nhs_number": 9990000018})), "nhs number"},
		"person without NHS number":             {signed(with(person, object{"nhs_number": nil})), "nhs number"},
		"staff without user id":                 {signed(with(staff, object{"nhsid_useruid": nil})), "user"},
		"the client as a user":                  {signed(with(staff, object{"nhsid_useruid": "demo-epr"})), "user"},
		"selected role twice in the list":       {signed(with(staff, object{"nhsid_nrbac_roles": []any{role("200000000002", "X9A01", "S8000:G8000:R8010"), role("200000000002", "X9B01", "S8000:G8000:R8000")}})), "role"},
		"selected role without organisation":    {signed(with(staff, object{"nhsid_nrbac_roles": []any{with(role("200000000002", "X", "S8000:G8000:R8000"), object{"org_code": nil})}})), "role"},
		"selected role, organisation malformed": {signed(with(staff, object{"nhsid_nrbac_roles": []any{role("200000000002", "x9b01", "S8000:G8000:R8000")}})), "role"},
		"selected role, job role malformed":     {signed(with(staff, object{"nhsid_nrbac_roles": []any{role("200000000002", "X9B01", "S8000:G8000:R8000,R8001")}})), "role"},
		"selected role a list":                  {signed(with(staff, object{"selected_roleid": []string{"200000000002"}})), "role"},
		"selected role a number":                {signed(with(staff, object{"selected_roleid": 200000000002})), "role"},
		"roles an object":                       {signed(with(staff, object{"nhsid_nrbac_roles": role("200000000002", "X9B01", "R8000")})), "role"},
		"a role that is no object":              {signed(with(staff, object{"nhsid_nrbac_roles": []any{"R8000"}})), "role"},
		"a registered EPR, other organisation":  {signed(with(staff, object{"client_id": "epr-b", "selected_roleid": "200000000001"})), "organisation"},
		"assurance no level":                    {signed(with(staff, object{"id_assurance_level": "x"})), "assurance"},
		"name with control characters":          {signed(with(staff, object{"name": "Dr\nTest"})), "name"},
		"stated purpose unknown":                {signed(with(staff, object{"purpose_of_use": "HRESCH"})), "purpose"},
		"stated permission unknown":             {signed(with(staff, object{"permission_to_view": "sure"})), "permission"},
		"stated relationship unknown":           {signed(with(staff, object{"care_relationship": "friend"})), "relationship"},
		"stated NHS number wrong":               {signed(with(staff, object{"nhs_number": "9990000019"})), "nhs number"},
		"GP Connect's unsigned token":           {b64([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + b64([]byte(`{"iss":"https://consumer.example","reason_for_request":"directcare"}`)) + ".", "form"},
	}
}

func derSignature(raw []byte) []byte {
	r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
	one := func(n *big.Int) []byte {
		b := append([]byte{0}, n.Bytes()...)
		return append([]byte{2, byte(len(b))}, b...)
	}
	body := append(one(r), one(s)...)
	return append([]byte{0x30, byte(len(body))}, body...)
}

func TestHostileTokens(t *testing.T) {
	v := newVerifier(t, servingAll())
	corpus := hostileTokens()
	if len(corpus) < 60 {
		t.Fatalf("%d tokens in the corpus, want at least 60", len(corpus))
	}
	for name, c := range corpus {
		t.Run(name, func(t *testing.T) {
			got, err := verify(t, v, c.token)
			if !errors.Is(err, ErrToken) {
				t.Fatalf("got %v, want it refused", err)
			}
			if got != (Caller{}) {
				t.Errorf("got a caller with the refusal")
			}
			var refusal *TokenError
			if !errors.As(err, &refusal) || refusal.Check != c.check {
				t.Errorf("got %q, want the check %q", err, c.check)
			}
		})
	}
	t.Logf("%d hostile tokens, 0 accepted", len(corpus))
}

func TestBadTokensCostLittle(t *testing.T) { // T-03: at most 1 MiB each
	v := newVerifier(t, servingAll())
	if _, err := verify(t, v, token(plainHeader, personClaims())); err != nil { // the keys are there
		t.Fatal(err)
	}
	var most uint64
	for name, c := range hostileTokens() {
		header := []string{"Bearer " + c.token}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = v.Verify(t.Context(), header, nil, noon)
		runtime.ReadMemStats(&after)
		used := after.TotalAlloc - before.TotalAlloc
		if most = max(most, used); used > 1<<20 {
			t.Errorf("%s: %d bytes allocated, want at most 1 MiB", name, used)
		}
	}
	t.Logf("most for one token: %d bytes", most)
}

func TestExpiry(t *testing.T) {
	v := newVerifier(t, servingAll())
	tok := token(plainHeader, personClaims()) // ends at noon and 4 minutes
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{4*time.Minute + 29*time.Second, nil}, {4*time.Minute + 30*time.Second, ErrExpired}, {24 * time.Hour, ErrExpired}} {
		if _, err := v.Verify(t.Context(), []string{"Bearer " + tok}, nil, noon.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("after %v: got %v, want %v", c.after, err, c.want)
		}
	}
	// Nobody is told of an expiry who cannot show a genuine token.
	forged := compact(text(plainHeader), text(with(personClaims(), object{"iat": 1, "exp": 100})), testKeys().other)
	if _, err := verify(t, v, forged); !errors.Is(err, ErrToken) {
		t.Errorf("forged and expired: got %v, want %v", err, ErrToken)
	}
}

func TestAuthorizationHeader(t *testing.T) {
	v := newVerifier(t, servingAll())
	good := token(plainHeader, personClaims())
	for name, c := range map[string]struct {
		values []string
		want   error
	}{
		"none":                         {nil, ErrNoToken},
		"two":                          {[]string{"Bearer " + good, "Bearer " + good}, ErrTooManyTokens},
		"two, one empty":               {[]string{"Bearer " + good, ""}, ErrTooManyTokens},
		"empty":                        {[]string{""}, ErrToken},
		"basic":                        {[]string{"Basic dXNlcjpwYXNz"}, ErrToken},
		"DPoP":                         {[]string{"DPoP " + good}, ErrToken},
		"no scheme":                    {[]string{good}, ErrToken},
		"scheme only":                  {[]string{"Bearer"}, ErrToken},
		"tab":                          {[]string{"Bearer\t" + good}, ErrToken},
		"scheme in lower case is fine": {[]string{"bearer " + good}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := v.Verify(t.Context(), c.values, nil, noon); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestSharedUsers(t *testing.T) { // T-02
	v := newVerifier(t, servingAll())
	bad := []string{"system", "SYSTEM", "System1", "admin", "Administrator", "root", "test", "test01", "test-user", "user", "user1", "users", "guest", "shared",
		"shared-ed", "ward-shared-2", "generic.nurse", "anonymous", "anon", "unknown", "UNK", "null", "nil", "none", "undefined", "N.A", "na1", "temp", "locum",
		"agency_nurse", "ward2", "reception", "doctor", "nurse1", "clinician", "staff", "svc-account", "000000000000", "111111111111", "123456789012", "1234",
		"aaaa", "ab", "---", "a b c", "x/y/z", "üser-one", strings.Repeat("9", 65), "555047812345 ", "system@x9b01"}
	for _, user := range bad {
		if _, err := verify(t, v, token(plainHeader, with(staffClaims(), object{"nhsid_useruid": user}))); !errors.Is(err, ErrToken) {
			t.Errorf("%q: got %v, want it refused", user, err)
		}
	}
	for _, user := range []string{"555047812345", "910000000001", "a.smith", "mh-nurse", "ed-doctor", "social-worker", "pharmacist", "front-desk", "ig-officer",
		"stranger", "user555047812345", "a0123", "5f0c2f9e-3b1d-4d6a-9a55-0a1b2c3d4e5f", "jane.nurse@example"} {
		if _, err := verify(t, v, token(plainHeader, with(staffClaims(), object{"nhsid_useruid": user}))); err != nil {
			t.Errorf("%q: got %v, want it accepted", user, err)
		}
	}
	for _, blank := range []any{"", " ", nil, 0, []string{"555047812345"}} {
		claims := with(staffClaims(), object{"nhsid_useruid": blank})
		if _, err := verify(t, v, token(plainHeader, claims)); !errors.Is(err, ErrToken) {
			t.Errorf("%v: got %v, want it refused", blank, err)
		}
	}
}

func TestAssuranceLevels(t *testing.T) {
	cfg := testConfig()
	cfg.Issuers[0].Identity, cfg.Issuers[0].Assurance = 3, 2
	v, err := New(cfg, servingAll())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	for _, c := range []struct {
		identity, assurance any
		ok                  bool
	}{{"3", "3", true}, {"3", "2", true}, {"3", "1", false}, {"2", "3", false}, {nil, "3", false}, {"3", nil, false}, {"4", "3", false}, {3, "3", false}} {
		_, err := verify(t, v, token(plainHeader, with(staffClaims(), object{"id_assurance_level": c.identity, "authentication_assurance_level": c.assurance})))
		if (err == nil) != c.ok {
			t.Errorf("identity %v, authentication %v: got %v, want accepted %v", c.identity, c.assurance, err, c.ok)
		}
	}
}

func TestActingPerson(t *testing.T) {
	k := testKeys()
	header := object{"alg": "ES256", "kid": "e1", "typ": "acting-person+jwt"}
	id := 0
	sign := func(claims object) string {
		id++
		if claims["jti"] == "act-1" {
			claims = with(claims, object{"jti": fmt.Sprint("act-", id)})
		}
		return compact(text(header), text(claims), k.engine)
	}
	system := token(plainHeader, systemClaims())
	v := newVerifier(t, servingAll())

	t.Run("none named", func(t *testing.T) {
		got, err := verify(t, v, system)
		if err != nil || got.Problem != ErrNoActingPerson || got.Requester.Kind != record.System || got.Requester.User != "demo-engine" {
			t.Errorf("got %v, problem %v, kind %v", err, got.Problem, got.Requester.Kind)
		}
	})
	for name, c := range map[string]struct {
		acting []string
		check  string
	}{
		"two":                            {[]string{sign(actingClaims()), sign(actingClaims())}, "more than one"},
		"empty":                          {[]string{""}, "size"},
		"the access token itself":        {[]string{system}, "type"},
		"signed by another client":       {[]string{compact(text(header), text(actingClaims()), k.other)}, "signature"},
		"unsigned":                       {[]string{compact(`{"alg":"none","kid":"e1"}`, text(actingClaims()), nil)}, "form"},
		"unknown key":                    {[]string{compact(`{"alg":"ES256","kid":"e2"}`, text(actingClaims()), k.engine)}, "key id"},
		"HS256":                          {[]string{compact(`{"alg":"HS256","kid":"e1"}`, text(actingClaims()), []byte("e1"))}, "signature"},
		"type of an access token":        {[]string{compact(`{"alg":"ES256","kid":"e1","typ":"at+jwt"}`, text(actingClaims()), k.engine)}, "type"},
		"issuer another client":          {[]string{sign(with(actingClaims(), object{"iss": "demo-other"}))}, "issuer"},
		"issuer missing":                 {[]string{sign(with(actingClaims(), object{"iss": nil}))}, "issuer"},
		"audience another":               {[]string{sign(with(actingClaims(), object{"aud": "https://issuer.example/token"}))}, "audience"},
		"lives too long":                 {[]string{sign(with(actingClaims(), object{"exp": noon.Add(5*time.Minute + time.Second).Unix()}))}, "lifetime"},
		"expired":                        {[]string{sign(with(actingClaims(), object{"iat": noon.Add(-5 * time.Minute).Unix(), "exp": noon.Add(-time.Minute).Unix()}))}, "expiry"},
		"not yet":                        {[]string{sign(with(actingClaims(), object{"iat": noon.Add(time.Minute).Unix()}))}, "issued at"},
		"no user":                        {[]string{sign(with(actingClaims(), object{"sub": nil}))}, "user"},
		"shared user":                    {[]string{sign(with(actingClaims(), object{"sub": "system"}))}, "user"},
		"the client as the user":         {[]string{sign(with(actingClaims(), object{"sub": "demo-engine"}))}, "user"},
		"no role profile":                {[]string{sign(with(actingClaims(), object{"role_profile_id": nil}))}, "role"},
		"no job role":                    {[]string{sign(with(actingClaims(), object{"job_role": nil}))}, "role"},
		"job role malformed":             {[]string{sign(with(actingClaims(), object{"job_role": "S8000:G8000:R8000"}))}, "role"},
		"organisation of another client": {[]string{sign(with(actingClaims(), object{"org_code": "X9C01"}))}, "organisation"},
		"organisation missing":           {[]string{sign(with(actingClaims(), object{"org_code": nil}))}, "organisation"},
		"no jti":                         {[]string{sign(with(actingClaims(), object{"jti": nil}))}, "token id"},
		"claims twice":                   {[]string{compact(text(header), strings.TrimSuffix(text(actingClaims()), "}")+`,"org_code":"X9B01"}`, k.engine)}, "claims"},
		"oversized":                      {[]string{sign(with(actingClaims(), object{"name": strings.Repeat("n", 9000)}))}, "size"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verify(t, v, system, c.acting...)
			var refusal *TokenError
			if err != nil || !errors.As(got.Problem, &refusal) || !errors.Is(got.Problem, ErrActingPerson) || refusal.Check != c.check {
				t.Fatalf("got %v, problem %v; want the check %q", err, got.Problem, c.check)
			}
			if got.Requester.Kind != record.System || got.Requester.Organisation != "" || got.Requester.JobRole != "" {
				t.Errorf("got kind %v with organisation %q; want the system alone", got.Requester.Kind, got.Requester.Organisation)
			}
		})
	}
	t.Run("an algorithm that suits the key and is not among those fixed", func(t *testing.T) {
		tok := token(plainHeader, with(systemClaims(), object{"sub": "demo-rsa", "client_id": "demo-rsa"}))
		got, err := verify(t, v, tok, compact(`{"alg":"RS256","kid":"r1"}`, text(with(actingClaims(), object{"iss": "demo-rsa"})), k.rsa))
		if err != nil || !errors.Is(got.Problem, ErrActingPerson) {
			t.Errorf("got %v, problem %v; want it refused", err, got.Problem)
		}
	})
	t.Run("used twice", func(t *testing.T) {
		once := sign(actingClaims())
		if got, err := verify(t, v, system, once); err != nil || got.Problem != nil {
			t.Fatalf("first: got %v, problem %v", err, got.Problem)
		}
		if got, err := verify(t, v, system, once); err != nil || !errors.Is(got.Problem, ErrActingPerson) {
			t.Errorf("second: got %v, problem %v; want it refused", err, got.Problem)
		}
	})
	t.Run("a refused statement does not use up its id", func(t *testing.T) {
		if got, _ := verify(t, v, system, sign(with(actingClaims(), object{"jti": "kept", "org_code": "X9C01"}))); got.Problem == nil {
			t.Fatal("accepted")
		}
		if got, err := verify(t, v, system, sign(with(actingClaims(), object{"jti": "kept"}))); err != nil || got.Problem != nil {
			t.Errorf("got %v, problem %v; want it accepted", err, got.Problem)
		}
	})
	t.Run("two clients may use the same jti", func(t *testing.T) {
		other := token(plainHeader, with(systemClaims(), object{"sub": "demo-other", "client_id": "demo-other"}))
		mine := sign(with(actingClaims(), object{"jti": "same"}))
		theirs := compact(text(header), text(with(actingClaims(), object{"jti": "same", "iss": "demo-other", "org_code": "X9C01"})), k.other)
		if got, err := verify(t, v, system, mine); err != nil || got.Problem != nil {
			t.Fatalf("got %v, problem %v", err, got.Problem)
		}
		if got, err := verify(t, v, other, theirs); err != nil || got.Problem != nil || got.Requester.Organisation != "X9C01" {
			t.Errorf("got %v, problem %v; want it accepted", err, got.Problem)
		}
	})
	t.Run("not with a token that says itself who asks", func(t *testing.T) {
		for _, claims := range []object{staffClaims(), personClaims()} {
			if _, err := verify(t, v, token(plainHeader, claims), sign(actingClaims())); !errors.Is(err, ErrActingUnwanted) {
				t.Errorf("got %v, want %v", err, ErrActingUnwanted)
			}
		}
	})
	t.Run("a system that is not registered", func(t *testing.T) {
		got, err := verify(t, v, token(plainHeader, with(systemClaims(), object{"sub": "epr-b", "client_id": "epr-b"})), sign(actingClaims()))
		if err != nil || !errors.Is(got.Problem, ErrActingPerson) {
			t.Errorf("got %v, problem %v", err, got.Problem)
		}
	})
}

// TestConfusedDeputy is the full matrix of T-05: client x organisation named; only what is registered passes.
func TestConfusedDeputy(t *testing.T) {
	k := testKeys()
	cfg := testConfig()
	cfg.Clients = nil
	organisations := []record.ODSCode{"X9A01", "X9B01", "X9C01", "X9D01", "X9E01", "X9F01", "X9G01", "X9H01", "X9J01"}
	registered := map[string][]record.ODSCode{}
	for i, o := range organisations {
		id := "engine-" + strings.ToLower(string(o))
		registered[id] = []record.ODSCode{o}
		if i == 0 {
			registered[id] = append(registered[id], "X9J01")
		}
		cfg.Clients = append(cfg.Clients, Client{ID: id, Organisations: registered[id], Keys: jwks(jwk("e1", "ES256", k.engine.Public()))})
	}
	v, err := New(cfg, servingAll())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	passed := 0
	for id, own := range registered {
		tok := token(plainHeader, with(systemClaims(), object{"sub": id, "client_id": id}))
		for _, o := range organisations {
			acting := compact(`{"alg":"ES256","kid":"e1"}`, text(with(actingClaims(), object{"iss": id, "org_code": o, "jti": id + string(o)})), k.engine)
			got, err := verify(t, v, tok, acting)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Contains(own, o)
			if (got.Problem == nil) != want {
				t.Errorf("%s for %s: got problem %v, want accepted %v", id, o, got.Problem, want)
			}
			if got.Problem == nil {
				passed++
				if got.Requester.Client != id || got.Requester.Organisation != o {
					t.Errorf("%s for %s: got client %q, organisation %q", id, o, got.Requester.Client, got.Requester.Organisation)
				}
			}
		}
	}
	if passed != 10 {
		t.Errorf("%d cells passed, want 10", passed)
	}
}

func TestReplaySetIsBounded(t *testing.T) {
	var r replays
	for i := range maxReplays {
		if err := r.take(fmt.Sprint(i), noon.Add(time.Minute), noon); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if err := r.take("one more", noon.Add(time.Minute), noon); !errors.Is(err, errReplayFull) {
		t.Errorf("full: got %v, want %v", err, errReplayFull)
	}
	if err := r.take("0", noon.Add(time.Minute), noon); !errors.Is(err, errReplayed) {
		t.Errorf("full, seen before: got %v, want %v", err, errReplayed)
	}
	later := noon.Add(time.Minute)
	if err := r.take("one more", later.Add(time.Minute), later); err != nil {
		t.Errorf("after they expired: got %v, want it taken", err)
	}
	if len(r.until) != 1 {
		t.Errorf("%d remembered, want 1", len(r.until))
	}
}

func TestStated(t *testing.T) {
	v := newVerifier(t, servingAll())
	got, err := verify(t, v, token(plainHeader, with(staffClaims(), object{"nhs_number": "9990000026", "purpose_of_use": "TREAT",
		"permission_to_view": "implied-by-referral; ref=R1", "care_relationship": `admission; ref="A 7"`})))
	if err != nil {
		t.Fatal(err)
	}
	want := Stated{Purpose: "TREAT", Permission: `implied-by-referral; ref="R1"`, Relationship: `admission; ref="A 7"`}
	want.Subject, _ = record.ParseNHSNumber("9990000026")
	if got.Stated != want {
		t.Fatalf("got %+v, want %+v", got.Stated, want)
	}
	other, _ := record.ParseNHSNumber("9990000034")
	full := Asked{want.Subject, record.Treatment, record.Permission{Kind: record.ImpliedByReferral, Ref: "R1"}, record.Relationship{Kind: record.Admission, Ref: "A 7"}}
	for name, c := range map[string]struct {
		asked Asked
		field string
	}{
		"nothing":             {Asked{}, ""},
		"the same":            {full, ""},
		"another person":      {Asked{Subject: other}, "nhs number"},
		"another purpose":     {Asked{Purpose: record.BreakGlass}, "purpose"},
		"another permission":  {Asked{Permission: record.Permission{Kind: record.ImpliedByReferral, Ref: "R2"}}, "permission"},
		"a permission denied": {Asked{Permission: record.Permission{Kind: record.AskedNo}}, "permission"},
		"another relation":    {Asked{Relationship: record.Relationship{Kind: record.Admission}}, "relationship"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := want.Reconcile(c.asked)
			var disagreement *DisagreementError
			switch {
			case c.field == "" && (err != nil || got != full):
				t.Errorf("got %+v, %v; want all of it", got, err)
			case c.field != "" && (!errors.As(err, &disagreement) || disagreement.Field != c.field || got != Asked{}):
				t.Errorf("got %v, want %q refused", err, c.field)
			}
		})
	}
	if got, err := (Stated{}).Reconcile(full); err != nil || got != full {
		t.Errorf("a token that states nothing: got %+v, %v", got, err)
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Config)
		setting string
	}{
		"no audience":              {func(c *Config) { c.Audience = "" }, "audience"},
		"no issuer":                {func(c *Config) { c.Issuers = nil }, "issuers"},
		"issuer twice":             {func(c *Config) { c.Issuers = append(c.Issuers, c.Issuers[0]) }, "issuers"},
		"issuer over http":         {func(c *Config) { c.Issuers[0].URL = "http://issuer.example" }, "issuers: url"},
		"issuer with a query":      {func(c *Config) { c.Issuers[0].URL += "?a=b" }, "issuers: url"},
		"issuer with a user":       {func(c *Config) { c.Issuers[0].URL = "https://u:p@issuer.example" }, "issuers: url"},
		"issuer a file":            {func(c *Config) { c.Issuers[0].URL = "file:///etc/passwd" }, "issuers: url"},
		"key address over http":    {func(c *Config) { c.Issuers[0].JWKSURL = "http://issuer.example/keys" }, "issuers: jwksUrl"},
		"no algorithm":             {func(c *Config) { c.Issuers[0].Algorithms = nil }, "issuers: algorithms"},
		"algorithm none":           {func(c *Config) { c.Issuers[0].Algorithms = []string{"none"} }, "issuers: algorithms"},
		"algorithm HS256":          {func(c *Config) { c.Issuers[0].Algorithms = []string{"ES256", "HS256"} }, "issuers: algorithms"},
		"vouches for nobody":       {func(c *Config) { c.Issuers[0].VouchesFor = nil }, "issuers: vouchesFor"},
		"vouches for an unknown":   {func(c *Config) { c.Issuers[0].VouchesFor = []record.RequesterKind{"carer"} }, "issuers: vouchesFor"},
		"assurance of 4":           {func(c *Config) { c.Issuers[0].Assurance = 4 }, "issuers: assurance"},
		"lifetime of a week":       {func(c *Config) { c.Issuers[0].MaxLifetime = 7 * 24 * time.Hour }, "issuers: maxLifetime"},
		"skew of an hour":          {func(c *Config) { c.Skew = time.Hour }, "skew"},
		"client without id":        {func(c *Config) { c.Clients[0].ID = "" }, "clients: id"},
		"client twice":             {func(c *Config) { c.Clients = append(c.Clients, c.Clients[0]) }, "clients"},
		"client's organisation":    {func(c *Config) { c.Clients[0].Organisations = []record.ODSCode{"x"} }, "clients: organisations"},
		"client without any":       {func(c *Config) { c.Clients[0].Organisations = nil }, "clients: organisations"},
		"client's keys unreadable": {func(c *Config) { c.Clients[0].Keys = []byte("{") }, "clients: keys"},
		"client's keys private":    {func(c *Config) { c.Clients[0].Keys = jwks(jwk("e1", "ES256", testKeys().engine)) }, "clients: keys"},
		"client's keys symmetric":  {func(c *Config) { c.Clients[0].Keys = jwks(jwk("e1", "HS256", []byte("secret"))) }, "clients: keys"},
		"client's algorithm":       {func(c *Config) { c.Clients[0].Algorithms = []string{"HS256"} }, "clients: algorithms"},
		"times":                    {func(c *Config) { c.Keys.Stale = time.Second }, "keys"},
		"negative time":            {func(c *Config) { c.Keys.Every = -1 }, "keys"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			c.change(&cfg)
			_, err := New(cfg, servingAll())
			var ce *ConfigError
			if !errors.As(err, &ce) || ce.Setting != c.setting || !errors.Is(err, ErrConfiguration) {
				t.Errorf("got %v, want %q refused", err, c.setting)
			}
		})
	}
	if _, err := New(testConfig(), nil); err == nil {
		t.Error("no keys: accepted")
	}
}

func FuzzVerify(f *testing.F) {
	v := newVerifier(f, servingAll())
	for _, c := range hostileTokens() {
		f.Add(c.token)
	}
	good := map[string]bool{}
	for _, claims := range []object{staffClaims(), personClaims(), systemClaims()} {
		tok := token(plainHeader, claims)
		good[tok] = true
		f.Add(tok)
	}
	f.Fuzz(func(t *testing.T, tok string) {
		got, err := v.Verify(t.Context(), []string{"Bearer " + tok}, []string{tok}, noon)
		if err == nil && !good[tok] {
			t.Errorf("accepted a token that nobody made, as %v", got.Requester.Kind)
		}
		if err != nil && got != (Caller{}) {
			t.Error("a caller beside an error")
		}
	})
}

func FuzzParseObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":{"b":[1,true,null,"x"]}}`, `{"a":1,"A":2}`, `{"a":1}{}`, `[1]`, `{"a":1e400}`, "\xff", `{"\ud800":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := parseObject(raw)
		if err != nil {
			return
		}
		var want map[string]any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("accepted an object that encoding/json reads otherwise")
		}
	})
}
