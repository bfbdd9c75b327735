// Package authn turns what a caller shows into who asks: an access token, and for an engine the signed name of the person it acts
// for, become a [record.Requester]. Nothing that a request says about its sender is believed unless one of these two says it too.
//
// The rules are those of RFC 8725 (JSON Web Token best current practices), RFC 9068 (access tokens) and RFC 6750 (bearer), held
// more strictly: the algorithm is fixed per issuer and never taken from the token, only the compact form of a signature is read
// (never encryption), keys never come from a token, and whatever two readers could read in two ways is refused. The shapes of
// claims are those of NHS CIS2 for staff and NHS login for the person (digital.nhs.uk and nhsconnect/nhslogin, read 2026-11).
//
// There is no anonymous mode.
package authn

import (
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The kinds of trouble. The list is closed, and no error of this package holds text from outside.
var (
	ErrNoToken          = errors.New("no access token: send one as Authorization: Bearer")
	ErrTooManyTokens    = errors.New("more than one Authorization header: send one")
	ErrToken            = errors.New("the access token is not acceptable") // see TokenError
	ErrExpired          = errors.New("the access token has expired: ask for a new one")
	ErrKeysUnavailable  = errors.New("the issuer's keys cannot be had now: try again soon")
	ErrBusy             = errors.New("too many acting persons at once: try again soon")
	ErrActingUnwanted   = errors.New("an acting person is only for a system's token: this token says itself who asks")
	ErrNoActingPerson   = errors.New("a system must name the person it acts for")              // only in Caller.Problem
	ErrActingPerson     = errors.New("the statement of the acting person is not acceptable")   // only in Caller.Problem; see TokenError
	ErrConfiguration    = errors.New("the configuration of issuers and clients is not usable") // of New; see ConfigError
	errOutsideText      = errors.New("unreadable")                                             // stands for any error of a library
	errUnknownKey       = errors.New("no such key")                                            // of the key cache, becomes ErrToken
	errReplayed         = errors.New("used before")                                            // of the replay set
	errReplayFull       = errors.New("replay set full")                                        // of the replay set, becomes ErrBusy
	errAmbiguousMembers = errors.New("a name that stands twice, or twice but for letter case") // of the strict reader
)

// A TokenError says which check a token, or a statement of the acting person, did not pass. It wraps [ErrToken] or [ErrActingPerson].
type TokenError struct {
	Kind  error
	Check string // of a fixed list in this package: "signature", "audience", ...
}

// Error returns the kind and the check.
func (e *TokenError) Error() string { return e.Kind.Error() + ": " + e.Check }

// Unwrap returns the kind.
func (e *TokenError) Unwrap() error { return e.Kind }

// A ConfigError names the setting that cannot be used and what to give. It wraps [ErrConfiguration].
type ConfigError struct{ Setting, Want string }

// Error returns the setting and what to give.
func (e *ConfigError) Error() string { return e.Setting + ": " + e.Want }

// Unwrap returns ErrConfiguration.
func (e *ConfigError) Unwrap() error { return ErrConfiguration }

// Config says whom to believe.
type Config struct {
	Audience string        // must be an exact member of every token's aud
	Issuers  []Issuer      // at least one
	Clients  []Client      // systems that may name an acting person
	Skew     time.Duration // how far clocks may differ; 30 s if 0, at most 60 s
	Keys     KeyTimes
	// Used reports whether another replica has taken the statement of this id, and tells the others that this one has. It is a hint: where it cannot say, it says
	// no, at once. nil: each replica takes a statement once.
	Used func(id string, until time.Time) bool
}

// Issuer is somebody whose tokens are accepted, and for whom it may speak.
type Issuer struct {
	URL         string                 // the exact iss of its tokens, trailing slash included
	Algorithms  []string               // the only algorithms accepted of it: ES256 ES384 ES512 PS256 PS384 PS512 RS256 RS384 RS512 EdDSA
	VouchesFor  []record.RequesterKind // what its tokens may say the caller is
	JWKSURL     string                 // where its keys are; "": as {URL}/.well-known/openid-configuration says
	PlainHTTP   bool                   // allow http for the two addresses above: for a demonstration on one machine
	TrustMark   string                 // the exact vtm of a person's token; "": any
	Identity    int                    // least id_assurance_level of staff, 1 to 3; 0: not asked for
	Assurance   int                    // least authentication_assurance_level of staff, 1 to 3; 0: not asked for
	MaxLifetime time.Duration          // longest exp less iat; 1 h if 0
}

// Client is a registered system: an EPR or an integration engine.
type Client struct {
	ID            string
	Organisations []record.ODSCode // for which it may speak; staff tokens issued to it are held to these too
	Keys          []byte           // a JWK set (RFC 7517) of public keys, with which it signs X-Acting-Person; none: it may name nobody
	Algorithms    []string         // as of an Issuer; ES256 ES384 PS256 RS384 if none
}

// KeyTimes are the times of the key cache. A zero field means the default.
type KeyTimes struct {
	Fresh   time.Duration // keys are fetched again after this, while the old ones serve; 10 min
	Stale   time.Duration // keys this old are used no more, the issuer being down; 24 h
	Every   time.Duration // least time between two fetches from one issuer, whatever tokens say; 30 s
	Retry   time.Duration // the same after a failed fetch; 5 s
	Unknown time.Duration // how long a key id that a fetch did not find starts no other; 10 min
	Fetch   time.Duration // deadline of one fetch, discovery included; 5 s
}

// Caller is who asks, and what the token says of the question.
type Caller struct {
	Requester record.Requester
	Stated    Stated
	// Problem is nil, or [ErrNoActingPerson] or an error that wraps [ErrActingPerson]: the system is known, the person it acts for is
	// not. Such a call is refused and recorded by the broker, under consent.ReasonNoActingPerson.
	Problem error
}

// Verifier verifies. It is safe for concurrent use.
type Verifier struct {
	audience string
	skew     time.Duration
	issuers  map[string]*issuer
	clients  map[string]*client
	used     func(id string, until time.Time) bool
}

type issuer struct {
	Issuer
	algorithms []jose.SignatureAlgorithm
	keys       *keyCache
	believed   believed
}

type client struct {
	Client
	algorithms []jose.SignatureAlgorithm
	keys       keySet
	replays    replays
}

var algorithms = map[string]jose.SignatureAlgorithm{"ES256": jose.ES256, "ES384": jose.ES384, "ES512": jose.ES512, "PS256": jose.PS256,
	"PS384": jose.PS384, "PS512": jose.PS512, "RS256": jose.RS256, "RS384": jose.RS384, "RS512": jose.RS512, "EdDSA": jose.EdDSA}

// New checks the configuration. It fetches nothing yet. The error is always a [*ConfigError].
func New(cfg Config, keys Keys) (*Verifier, error) {
	bad := func(setting, want string) (*Verifier, error) { return nil, &ConfigError{setting, want} }
	if cfg.Audience == "" {
		return bad("audience", "the address that tokens for this service name in aud")
	}
	if keys == nil || len(cfg.Issuers) == 0 {
		return bad("issuers", "at least one: there is no anonymous mode")
	}
	if cfg.Skew == 0 {
		cfg.Skew = 30 * time.Second
	}
	if cfg.Skew < 0 || cfg.Skew > time.Minute {
		return bad("skew", "at most one minute")
	}
	times, err := cfg.Keys.orDefault()
	if err != nil {
		return nil, err
	}
	v := &Verifier{used: cfg.Used, audience: cfg.Audience, skew: cfg.Skew, issuers: map[string]*issuer{}, clients: map[string]*client{}}
	for _, in := range cfg.Issuers {
		is, err := newIssuer(in)
		if err != nil {
			return nil, err
		}
		if v.issuers[in.URL] != nil {
			return bad("issuers", "each address once")
		}
		is.keys = &keyCache{issuer: is.Issuer, algorithms: is.algorithms, source: keys, times: times}
		v.issuers[in.URL] = is
	}
	for _, in := range cfg.Clients {
		c, err := newClient(in)
		if err != nil {
			return nil, err
		}
		if v.clients[in.ID] != nil {
			return bad("clients", "each id once")
		}
		v.clients[in.ID] = c
	}
	return v, nil
}

// Close ends fetches that run and waits for them. No method may be called afterwards.
func (v *Verifier) Close() {
	var all sync.WaitGroup
	for _, is := range v.issuers {
		all.Go(is.keys.close)
	}
	all.Wait()
}

func newIssuer(in Issuer) (*issuer, error) {
	bad := func(setting, want string) (*issuer, error) { return nil, &ConfigError{"issuers: " + setting, want} }
	if !usableAddress(in.URL, in.PlainHTTP) {
		return bad("url", "an https address without query (http only where plainHTTP says so)")
	}
	if in.JWKSURL != "" && !usableAddress(in.JWKSURL, in.PlainHTTP) {
		return bad("jwksUrl", "an https address without query (http only where plainHTTP says so)")
	}
	algs, ok := parseAlgorithms(in.Algorithms)
	if !ok || len(algs) == 0 {
		return bad("algorithms", "at least one of ES256 ES384 ES512 PS256 PS384 PS512 RS256 RS384 RS512 EdDSA")
	}
	if len(in.VouchesFor) == 0 {
		return bad("vouchesFor", "at least one of professional, person, system")
	}
	for _, k := range in.VouchesFor {
		if k != record.Professional && k != record.Person && k != record.System {
			return bad("vouchesFor", "professional, person or system")
		}
	}
	if in.Identity < 0 || in.Identity > 3 || in.Assurance < 0 || in.Assurance > 3 {
		return bad("assurance", "levels of 0 to 3")
	}
	if in.MaxLifetime == 0 {
		in.MaxLifetime = time.Hour
	}
	if in.MaxLifetime < time.Minute || in.MaxLifetime > 24*time.Hour {
		return bad("maxLifetime", "one minute to one day")
	}
	return &issuer{Issuer: in, algorithms: algs}, nil
}

func newClient(in Client) (*client, error) {
	bad := func(setting, want string) (*client, error) { return nil, &ConfigError{"clients: " + setting, want} }
	if !plainText(in.ID, 1, 128) {
		return bad("id", "1 to 128 bytes without control characters")
	}
	for _, o := range in.Organisations {
		if !o.Valid() {
			return bad("organisations", "ODS codes: 3 to 10 upper-case letters and digits")
		}
	}
	if in.Algorithms == nil {
		in.Algorithms = []string{"ES256", "ES384", "PS256", "RS384"}
	}
	algs, ok := parseAlgorithms(in.Algorithms)
	if !ok || len(algs) == 0 {
		return bad("algorithms", "at least one of ES256 ES384 ES512 PS256 PS384 PS512 RS256 RS384 RS512 EdDSA")
	}
	c := &client{Client: in, algorithms: algs}
	if len(in.Keys) > 0 {
		set, err := parseKeySet(in.Keys, algs)
		if err != nil || len(set) == 0 {
			return bad("keys", "a JWK set whose public keys have a kid and suit the algorithms")
		}
		if len(in.Organisations) == 0 {
			return bad("organisations", "at least one for a client that may name an acting person")
		}
		c.keys = set
	}
	return c, nil
}

func parseAlgorithms(names []string) ([]jose.SignatureAlgorithm, bool) {
	var out []jose.SignatureAlgorithm
	for _, n := range names {
		a, ok := algorithms[n]
		if !ok {
			return nil, false
		}
		out = append(out, a)
	}
	return out, true
}

func usableAddress(s string, plainHTTP bool) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && !strings.Contains(s, "#") &&
		(u.Scheme == "https" || u.Scheme == "http" && plainHTTP)
}

func (t KeyTimes) orDefault() (KeyTimes, error) {
	for _, x := range []struct {
		at        *time.Duration
		otherwise time.Duration
	}{{&t.Fresh, 10 * time.Minute}, {&t.Stale, 24 * time.Hour}, {&t.Every, 30 * time.Second}, {&t.Retry, 5 * time.Second},
		{&t.Unknown, 10 * time.Minute}, {&t.Fetch, 5 * time.Second}} {
		if *x.at == 0 {
			*x.at = x.otherwise
		}
		if *x.at < 0 {
			return t, &ConfigError{"keys", "times above zero"}
		}
	}
	if t.Stale < t.Fresh {
		return t, &ConfigError{"keys", "stale no shorter than fresh"}
	}
	return t, nil
}
