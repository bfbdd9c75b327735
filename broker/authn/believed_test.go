package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestBelievedSignatures holds that a remembered signature is believed for the very token and under the very keys that it was verified with.
func TestBelievedSignatures(t *testing.T) {
	k := testKeys()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var replaced atomic.Bool
	keys := &fakeKeys{serve: func(context.Context, Issuer) ([]byte, error) {
		if replaced.Load() {
			return jwks(jwk("k1", "ES256", other.Public())), nil
		}
		return jwks(jwk("k1", "ES256", k.issuer.Public())), nil
	}}
	v := newVerifier(t, keys)
	tok := token(plainHeader, personClaims())
	ask := func(tok string, at time.Time) error {
		_, err := v.Verify(t.Context(), []string{"Bearer " + tok}, nil, at)
		return err
	}
	is := v.issuers[testConfig().Issuers[0].URL]
	for range 3 {
		if err := ask(tok, noon); err != nil {
			t.Fatalf("got %v", err)
		}
	}
	remembered := 0
	for _, each := range v.issuers {
		remembered += len(each.believed.list)
	}
	if remembered != 1 {
		t.Errorf("%d signatures are remembered, want 1", remembered)
	}
	head, signature := tok[:strings.LastIndexByte(tok, '.')+1], tok[strings.LastIndexByte(tok, '.')+1:]
	if err := ask(head+strings.Repeat("A", len(signature)), noon); !errors.Is(err, ErrToken) {
		t.Errorf("the same claims under another signature: got %v, want %v", err, ErrToken)
	}
	if err := ask(tok, noon.Add(24*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("a day later: got %v, want %v", err, ErrExpired)
	}
	if is == nil {
		t.Fatal("no issuer")
	}
	// The issuer replaces its key under the same id. Once the new set has been fetched, what the old key signed is refused.
	replaced.Store(true)
	long := token(plainHeader, with(personClaims(), object{"exp": noon.Add(50 * time.Minute).Unix()}))
	if err := ask(long, noon); err != nil {
		t.Fatalf("before the fetch: got %v", err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for at := noon.Add(11 * time.Minute); ask(long, at) == nil; at = at.Add(time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("a signature of a key that is no longer the issuer's is still believed")
		}
		time.Sleep(time.Millisecond)
	}
}
