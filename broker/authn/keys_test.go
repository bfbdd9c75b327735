package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

func TestUnknownKeysCannotCauseAFetchStorm(t *testing.T) {
	keys := servingAll()
	v := newVerifier(t, keys)
	start := time.Now()
	const n = 500
	for i := range n { // 50 s of tokens with ids that nobody knows
		tok := token(with(plainHeader, object{"kid": fmt.Sprint("kid-", i)}), personClaims())
		_, err := v.Verify(t.Context(), []string{"Bearer " + tok}, nil, noon.Add(time.Duration(i)*100*time.Millisecond))
		if !errors.Is(err, ErrToken) {
			t.Fatalf("%d: got %v, want %v", i, err, ErrToken)
		}
	}
	if got := keys.fetches.Load(); got > 2 {
		t.Errorf("%d fetches for %d tokens in 50 s, want at most 2", got, n)
	}
	t.Logf("%d fetches for %d tokens with unknown ids, %v", keys.fetches.Load(), n, time.Since(start))
}

// Somebody without a key of the issuer's makes up as many key ids as are remembered, once. The key that the issuer signs with from then on is found all the same,
// and fetches keep their distance.
func TestMadeUpKeyIDsKeepNoKeyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeys()
		rotated := false
		keys := &fakeKeys{serve: func(context.Context, Issuer) ([]byte, error) {
			time.Sleep(time.Second) // of the bubble's clock: all ids are there when the fetch ends
			if rotated {
				return jwks(jwk("k2", "ES256", k.other.Public())), nil
			}
			return jwks(jwk("k1", "ES256", k.issuer.Public())), nil
		}}
		v, err := New(testConfig(), keys)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		madeUp := func(from, to int, at time.Time) {
			var all sync.WaitGroup
			for i := from; i < to; i++ {
				all.Go(func() {
					tok := token(with(plainHeader, object{"kid": fmt.Sprint("made-up-", i)}), personClaims())
					if _, err := v.Verify(t.Context(), []string{"Bearer " + tok}, nil, at); !errors.Is(err, ErrToken) {
						t.Errorf("a made-up key id: got %v, want %v", err, ErrToken)
					}
				})
			}
			all.Wait()
		}
		madeUp(0, maxUnknown, noon)
		rotated = true
		madeUp(maxUnknown, 2*maxUnknown, noon.Add(time.Second))
		if got := keys.fetches.Load(); got != 1 {
			t.Errorf("%d fetches in two seconds, want 1", got)
		}
		tok := compact(text(with(plainHeader, object{"kid": "k2"})), text(personClaims()), k.other)
		if _, err := v.Verify(t.Context(), []string{"Bearer " + tok}, nil, noon.Add(30*time.Second)); err != nil {
			t.Errorf("the issuer's new key, half a minute later: %v", err)
		}
	})
}

func TestOneUnknownKeyIsAskedForOnce(t *testing.T) {
	keys := servingAll()
	v := newVerifier(t, keys)
	tok := token(with(plainHeader, object{"kid": "gone"}), with(personClaims(), object{"exp": noon.Add(50 * time.Minute).Unix()}))
	for i := range 9 { // a minute apart, each far enough from the last fetch
		_, _ = v.Verify(t.Context(), []string{"Bearer " + tok}, nil, noon.Add(time.Duration(i)*time.Minute))
	}
	if got := keys.fetches.Load(); got != 1 {
		t.Errorf("%d fetches in 9 minutes, want 1", got)
	}
	_, _ = v.Verify(t.Context(), []string{"Bearer " + tok}, nil, noon.Add(11*time.Minute))
	if got := keys.fetches.Load(); got != 2 {
		t.Errorf("%d fetches after 11 minutes, want 2", got)
	}
}

func TestManyCallersShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeys()
		keys := &fakeKeys{serve: func(ctx context.Context, _ Issuer) ([]byte, error) {
			time.Sleep(time.Second) // of the bubble's clock
			return jwks(jwk("k1", "ES256", k.issuer.Public())), ctx.Err()
		}}
		v, err := New(testConfig(), keys)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		tok := token(plainHeader, personClaims())
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := v.Verify(t.Context(), []string{"Bearer " + tok}, nil, noon); err != nil {
					t.Errorf("got %v", err)
				}
			})
		}
		hurried, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := v.Verify(hurried, []string{"Bearer " + tok}, nil, noon); !errors.Is(err, ErrKeysUnavailable) {
			t.Errorf("who cannot wait: got %v, want %v", err, ErrKeysUnavailable)
		}
		all.Wait()
		if got := keys.fetches.Load(); got != 1 {
			t.Errorf("%d fetches for 51 callers, want 1", got)
		}
	})
}

// TestRotationAndOutage follows one issuer through a day: new keys, an outage with the old ones, and its end.
func TestRotationAndOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := testKeys()
		down, rotated := false, false
		var mu sync.Mutex
		keys := &fakeKeys{serve: func(context.Context, Issuer) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case down:
				return nil, errors.New("connection refused by 192.0.2.1: secret detail")
			case rotated:
				return jwks(jwk("k2", "ES256", k.other.Public())), nil
			}
			return jwks(jwk("k1", "ES256", k.issuer.Public())), nil
		}}
		set := func(d, r bool) { mu.Lock(); down, rotated = d, r; mu.Unlock() }
		v, err := New(testConfig(), keys)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		ask := func(after time.Duration, kid string, want error) {
			t.Helper()
			key := k.issuer
			if kid == "k2" {
				key = k.other
			}
			at := noon.Add(after)
			tok := compact(text(with(plainHeader, object{"kid": kid})), text(with(personClaims(), object{"iat": at.Unix(), "exp": at.Add(time.Minute).Unix()})), key)
			_, err := v.Verify(t.Context(), []string{"Bearer " + tok}, nil, at)
			if !errors.Is(err, want) {
				t.Errorf("after %v, %s: got %v, want %v", after, kid, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("outside text in %q", err)
			}
			synctest.Wait() // a fetch that this call started has ended
		}
		ask(0, "k1", nil)
		set(true, false)
		ask(11*time.Minute, "k1", nil) // fetched again in the background, in vain
		if got := keys.fetches.Load(); got != 2 {
			t.Errorf("%d fetches when keys were no longer fresh, want 2", got)
		}
		ask(11*time.Minute+time.Second, "k1", nil)                  // the old keys serve
		ask(11*time.Minute+2*time.Second, "k2", ErrKeysUnavailable) // who knows whether k2 is there by now
		before := keys.fetches.Load()
		for i := range 100 {
			ask(12*time.Minute+time.Duration(i)*10*time.Millisecond, "k1", nil)
		}
		if got := keys.fetches.Load() - before; got > 1 {
			t.Errorf("%d fetches in one second of an outage, want at most 1", got)
		}
		ask(23*time.Hour+59*time.Minute, "k1", nil)
		ask(24*time.Hour+time.Minute, "k1", ErrKeysUnavailable) // too old
		set(false, true)
		ask(24*time.Hour+2*time.Minute, "k2", nil)
		ask(24*time.Hour+3*time.Minute, "k1", ErrToken) // withdrawn
	})
}

func TestCloseEndsAFetch(t *testing.T) {
	defer goleak.VerifyNone(t)
	began := make(chan struct{})
	keys := &fakeKeys{serve: func(ctx context.Context, _ Issuer) ([]byte, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	v, err := New(testConfig(), keys)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := v.Verify(context.Background(), []string{"Bearer " + token(plainHeader, personClaims())}, nil, noon)
		done <- err
	}()
	<-began
	v.Close()
	if err := <-done; !errors.Is(err, ErrKeysUnavailable) {
		t.Errorf("got %v, want %v", err, ErrKeysUnavailable)
	}
}

func TestKeysThatPanicOrLie(t *testing.T) {
	for name, serve := range map[string]func() ([]byte, error){
		"panic":      func() ([]byte, error) { panic("9990000018") },
		"empty":      func() ([]byte, error) { return nil, nil },
		"no keys":    func() ([]byte, error) { return []byte(`{"keys":[]}`), nil },
		"null":       func() ([]byte, error) { return []byte(`null`), nil },
		"not a list": func() ([]byte, error) { return []byte(`{"keys":{}}`), nil },
		"keys twice": func() ([]byte, error) {
			return []byte(`{"keys":[],` + strings.TrimPrefix(string(jwks(jwk("k1", "ES256", testKeys().issuer.Public()))), "{")), nil
		},
		"private":  func() ([]byte, error) { return jwks(jwk("k1", "ES256", testKeys().issuer)), nil },
		"too many": func() ([]byte, error) { return []byte(`{"keys":[` + strings.Repeat("{},", 64) + `{}]}`), nil },
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(t, &fakeKeys{serve: func(context.Context, Issuer) ([]byte, error) { return serve() }})
			if _, err := verify(t, v, token(plainHeader, personClaims())); !errors.Is(err, ErrKeysUnavailable) {
				t.Errorf("got %v, want %v", err, ErrKeysUnavailable)
			}
		})
	}
	// One unreadable key in a set does not spoil the others.
	set := strings.Replace(string(jwks(jwk("k1", "ES256", testKeys().issuer.Public()))), `[`, `[{"kty":"quantum","kid":"q"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"bad"},`, 1)
	v := newVerifier(t, &fakeKeys{serve: func(context.Context, Issuer) ([]byte, error) { return []byte(set), nil }})
	if _, err := verify(t, v, token(plainHeader, personClaims())); err != nil {
		t.Errorf("a set with two bad keys: got %v, want the good one used", err)
	}
}

func TestHTTPKeys(t *testing.T) {
	k := testKeys()
	set := string(jwks(jwk("k1", "ES256", k.issuer.Public())))
	var elsewhere int
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere++
		_, _ = w.Write([]byte(set))
	}))
	defer other.Close()
	var discovery, keySet func(w http.ResponseWriter, self string)
	var srv *httptest.Server
	srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/realm/.well-known/openid-configuration":
			discovery(w, srv.URL)
		case "/realm/keys":
			keySet(w, srv.URL)
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	roots.AddCert(other.Certificate())
	keys := NewHTTPKeys(roots)
	defer keys.Close()

	say := func(format string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, self string) {
			_, _ = w.Write([]byte(strings.NewReplacer("SELF", self, "OTHER", other.URL).Replace(format)))
		}
	}
	good := `{"issuer":"SELF/realm","jwks_uri":"SELF/realm/keys"}`
	for name, c := range map[string]struct {
		discovery, keys func(http.ResponseWriter, string)
		jwksURL         string
		ok              bool
	}{
		"discovery":                     {say(good), say(set), "", true},
		"address configured":            {say("-"), say(set), "/realm/keys", true},
		"issuer another":                {say(`{"issuer":"SELF/realm/","jwks_uri":"SELF/realm/keys"}`), say(set), "", false},
		"issuer missing":                {say(`{"jwks_uri":"SELF/realm/keys"}`), say(set), "", false},
		"issuer twice":                  {say(`{"issuer":"x","issuer":"SELF/realm","jwks_uri":"SELF/realm/keys"}`), say(set), "", false},
		"keys on another host":          {say(`{"issuer":"SELF/realm","jwks_uri":"OTHER/keys"}`), say(set), "", false},
		"keys in a file":                {say(`{"issuer":"SELF/realm","jwks_uri":"file:///etc/passwd"}`), say(set), "", false},
		"keys over plain http":          {say(`{"issuer":"SELF/realm","jwks_uri":"http://127.0.0.1/keys"}`), say(set), "", false},
		"no key address":                {say(`{"issuer":"SELF/realm"}`), say(set), "", false},
		"discovery redirects elsewhere": {func(w http.ResponseWriter, _ string) { w.Header().Set("Location", other.URL); w.WriteHeader(302) }, say(set), "", false},
		"keys redirect elsewhere":       {say(good), func(w http.ResponseWriter, _ string) { w.Header().Set("Location", other.URL); w.WriteHeader(307) }, "", false},
		"discovery too large":           {say(good + strings.Repeat(" ", maxDiscoveryBytes)), say(set), "", false},
		"keys too large":                {say(good), say(set + strings.Repeat(" ", maxKeySetBytes)), "", false},
		"error status":                  {say(good), func(w http.ResponseWriter, _ string) { w.WriteHeader(500); _, _ = w.Write([]byte(set)) }, "", false},
		"broken off": {say(good), func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Length", "5000")
			_, _ = w.Write([]byte(set))
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			discovery, keySet = c.discovery, c.keys
			from := Issuer{URL: srv.URL + "/realm", Algorithms: []string{"ES256"}, VouchesFor: []record.RequesterKind{record.Person}}
			if c.jwksURL != "" {
				from.JWKSURL = srv.URL + c.jwksURL
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			raw, err := keys.KeySet(ctx, from)
			if c.ok && (err != nil || string(raw) != set) {
				t.Errorf("got %v, want the set", err)
			}
			if !c.ok && (!errors.Is(err, ErrKeysUnavailable) || err.Error() != ErrKeysUnavailable.Error()) {
				t.Errorf("got %v, want %v and no more", err, ErrKeysUnavailable)
			}
		})
	}
	if elsewhere != 0 {
		t.Errorf("%d requests reached another host, want 0", elsewhere)
	}
	t.Run("plain http only where configured", func(t *testing.T) {
		var plain *httptest.Server
		plain = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				_, _ = w.Write([]byte(set))
				return
			}
			_, _ = fmt.Fprintf(w, `{"issuer":"%s","jwks_uri":"%s/keys"}`, plain.URL, plain.URL)
		}))
		defer plain.Close()
		if _, err := keys.KeySet(t.Context(), Issuer{URL: plain.URL, PlainHTTP: true}); err != nil {
			t.Errorf("configured: got %v", err)
		}
		if _, err := keys.KeySet(t.Context(), Issuer{URL: plain.URL}); !errors.Is(err, ErrKeysUnavailable) {
			t.Errorf("not configured: got %v, want %v", err, ErrKeysUnavailable)
		}
	})
	t.Run("a server that hangs", func(t *testing.T) {
		hold := make(chan struct{})
		discovery = func(http.ResponseWriter, string) { <-hold }
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := keys.KeySet(ctx, Issuer{URL: srv.URL + "/realm"}); !errors.Is(err, ErrKeysUnavailable) {
			t.Errorf("got %v, want %v", err, ErrKeysUnavailable)
		}
		close(hold)
	})
}
