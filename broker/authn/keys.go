package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Keys fetches an issuer's key set.
//
// KeySet returns the issuer's JWK set document as it is served now. It MUST take the document from nobody but the issuer, MUST bound
// its size and MUST honour ctx, which has a deadline. It is called for one issuer at a time, for several concurrently, and no more
// often than [KeyTimes] says: the verifier keeps the keys. An error means that there is none to be had now; its text is not used.
type Keys interface {
	KeySet(ctx context.Context, from Issuer) ([]byte, error)
}

// maxKeys bounds a key set. Issuers rotate between two or three.
const maxKeys = 64

// maxUnknown bounds the key ids remembered as unknown. When it is full, no more are remembered, and those may each start a fetch, as far as [KeyTimes].Every lets
// them: whoever makes up key ids, for which no token is needed, must not keep an issuer's next key out.
const maxUnknown = 256

// keySet holds public keys by key id. Several may share one: of different types, or while an issuer rotates carelessly.
type keySet map[string][]jose.JSONWebKey

// parseKeySet reads a JWK set (RFC 7517). Keys that are not for verifying with one of the algorithms, private or symmetric ones and
// those without an id are left out.
func parseKeySet(raw []byte, algs []jose.SignatureAlgorithm) (keySet, error) {
	doc, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	list, ok := doc["keys"].([]any)
	if !ok || len(list) > maxKeys {
		return nil, errOutsideText
	}
	set := keySet{}
	for _, one := range list {
		text, err := json.Marshal(one)
		if err != nil {
			return nil, errOutsideText
		}
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) != nil || !key.IsPublic() || !key.Valid() || key.KeyID == "" || key.Use != "" && key.Use != "sig" {
			continue
		}
		if slices.ContainsFunc(algs, func(a jose.SignatureAlgorithm) bool { return suits(a, key) }) {
			set[key.KeyID] = append(set[key.KeyID], key)
		}
	}
	return set, nil
}

// suits reports whether the key may verify that algorithm. RSA keys below 2,048 bits are refused (NIST SP 800-131A), and above
// 8,192, where one check would cost milliseconds.
func suits(alg jose.SignatureAlgorithm, key jose.JSONWebKey) bool {
	if key.Algorithm != "" && key.Algorithm != string(alg) {
		return false
	}
	switch k := key.Key.(type) {
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && k.Curve == elliptic.P256() || alg == jose.ES384 && k.Curve == elliptic.P384() || alg == jose.ES512 && k.Curve == elliptic.P521()
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		switch alg {
		case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
			return bits >= 2048 && bits <= 8192
		}
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// keyCache keeps one issuer's keys. At most one fetch runs at a time, fetches keep their distance whatever tokens say, and keys that
// are getting old serve until newer ones are there or they are too old.
type keyCache struct {
	issuer     Issuer
	algorithms []jose.SignatureAlgorithm
	source     Keys
	times      KeyTimes

	mu      sync.Mutex
	set     keySet    // nil before the first success
	fetched time.Time // when the fetch that gave set began
	tried   time.Time // when the last fetch began
	failed  bool      // the last fetch failed
	unknown map[string]time.Time
	running chan struct{} // closed when the fetch that runs is done; nil if none runs
	cancel  context.CancelFunc
	closed  bool
	fetches sync.WaitGroup
}

// find returns the keys with that id. The error is [errUnknownKey] or [ErrKeysUnavailable].
func (c *keyCache) find(ctx context.Context, id string, now time.Time) ([]jose.JSONWebKey, error) {
	for waited := false; ; waited = true {
		keys, wait, err := c.look(id, now, waited)
		if wait == nil {
			return keys, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ErrKeysUnavailable
		}
	}
}

// look answers from what is there, or returns a channel that is closed when it is worth looking again.
func (c *keyCache) look(id string, now time.Time, waited bool) ([]jose.JSONWebKey, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.fetched)
	usable := c.set != nil && age <= c.times.Stale
	if keys := c.set[id]; usable && len(keys) > 0 {
		if age > c.times.Fresh && c.due(now) {
			c.start(now) // whoever comes meanwhile, and this caller, use the old keys
		}
		return keys, nil, nil
	}
	switch {
	case waited && usable && !c.failed:
		c.remember(id, now)
	case waited:
	case c.running != nil:
		return nil, c.running, nil
	case c.due(now) && !(usable && c.knownUnknown(id, now)):
		c.start(now)
		return nil, c.running, nil
	}
	if usable && !c.failed {
		return nil, nil, errUnknownKey
	}
	return nil, nil, ErrKeysUnavailable // there may be a newer set, which nobody can see now
}

func (c *keyCache) due(now time.Time) bool {
	distance := c.times.Every
	if c.failed {
		distance = c.times.Retry
	}
	return !c.closed && c.running == nil && (c.tried.IsZero() || now.Sub(c.tried) >= distance)
}

func (c *keyCache) knownUnknown(id string, now time.Time) bool {
	until, there := c.unknown[id]
	return there && now.Before(until)
}

func (c *keyCache) remember(id string, now time.Time) {
	if len(c.unknown) >= maxUnknown {
		for k, until := range c.unknown {
			if !now.Before(until) {
				delete(c.unknown, k)
			}
		}
	}
	if len(c.unknown) < maxUnknown {
		if c.unknown == nil {
			c.unknown = map[string]time.Time{}
		}
		c.unknown[id] = now.Add(c.times.Unknown)
	}
}

// start begins a fetch in a goroutine of its own, so that the caller who caused it may leave. close waits for it.
func (c *keyCache) start(now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), c.times.Fetch)
	done := make(chan struct{})
	c.tried, c.running, c.cancel = now, done, cancel
	c.fetches.Go(func() {
		defer cancel()
		set := c.fetch(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running, c.failed = nil, set == nil
		if set != nil {
			c.set, c.fetched = set, now
			for id := range set {
				delete(c.unknown, id)
			}
		}
		close(done)
	})
}

// fetch returns nil for anything but a set with at least one key: an issuer whose set is empty is ill, and old keys serve on.
func (c *keyCache) fetch(ctx context.Context) (set keySet) {
	defer func() {
		if recover() != nil { // of a Keys implementation; the value may hold anything
			set = nil
		}
	}()
	raw, err := c.source.KeySet(ctx, c.issuer)
	if err != nil || ctx.Err() != nil {
		return nil
	}
	set, err = parseKeySet(raw, c.algorithms)
	if err != nil || len(set) == 0 {
		return nil
	}
	return set
}

func (c *keyCache) close() {
	c.mu.Lock()
	c.closed = true
	if c.cancel != nil {
		c.cancel()
	}
	c.mu.Unlock()
	c.fetches.Wait()
}
