package fhirr4

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// Times and sizes of tokens.
const (
	tokenMargin      = 30 * time.Second // a token that is about to end is not used
	tokenLifetime    = 5 * time.Minute  // where the answer does not say
	maxTokenLifetime = time.Hour
	maxToken         = 16 << 10
	maxTokenBody     = 64 << 10
	endpointFresh    = time.Hour
)

// tokens gets access tokens by SMART Backend Services (hl7.org/fhir/smart-app-launch, backend-services) and keeps one until shortly before its end.
// One request for a token is under way at a time. A token goes to the configured base address and an assertion to the token endpoint, which is
// configured or named by the custodian on its own host; internal/wire lets neither go anywhere else.
type tokens struct {
	settings   Settings
	base, root *wire.Client // of the custodian: its base address, and its host
	configured *endpoint    // nil where the custodian names it
	turn       chan struct{}
	now        func() time.Time // by which tokens end

	mu            sync.Mutex
	token         string
	until         time.Time
	named         *endpoint // by the custodian
	namedUntil    time.Time
	failure       error // of the last attempt
	failedAttempt uint64
	attempts      uint64
}

// endpoint is a token endpoint.
type endpoint struct {
	client  *wire.Client
	target  wire.Target
	address string // as it was written: the audience of an assertion
}

// newTokens returns nil where the settings name no client. base is the custodian's client.
func newTokens(s Settings, base *wire.Client) (*tokens, error) {
	if s.ClientID == "" {
		return nil, nil //nolint:nilnil // no tokens is no error
	}
	t := &tokens{settings: s, base: base, turn: make(chan struct{}, 1), now: time.Now}
	address := s.TokenURL
	if address == "" {
		address = base.Base()
	}
	c := s.Connection
	var ok bool
	if c.BaseURL, ok = rootOf(address); !ok {
		return nil, &wire.SettingError{Field: "tokenURL", Want: wantTokenURL}
	}
	var err error
	if t.root, err = wire.New(c); err != nil {
		if e, is := errors.AsType[*wire.SettingError](err); is && e.Field == "baseURL" {
			return nil, &wire.SettingError{Field: "tokenURL", Want: e.Want}
		}
		return nil, err //nolint:wrapcheck // names the setting already
	}
	if s.TokenURL != "" {
		if t.configured, ok = t.endpoint(s.TokenURL); !ok {
			return nil, &wire.SettingError{Field: "tokenURL", Want: wantTokenURL}
		}
	}
	return t, nil
}

const wantTokenURL = "the whole address of the token endpoint, such as https://login.trust.example/oauth2/token"

// rootOf returns scheme, host and port of an address.
func rootOf(address string) (string, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" || u.Host == "" {
		return "", false
	}
	return (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}).String(), true // a user name is refused by internal/wire, which says so
}

// endpoint reads the whole address of a token endpoint below root.
func (t *tokens) endpoint(address string) (*endpoint, bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Path == "" || u.Path == "/" {
		return nil, false
	}
	target, ok := t.root.Pin(address)
	return &endpoint{client: t.root, target: target, address: address}, ok
}

func (t *tokens) close() {
	if t != nil {
		t.root.Close()
	}
}

// bearer returns an access token; "" where internal/wire sends one from a file, or none is needed.
func (t *tokens) bearer(ctx context.Context) (string, error) {
	if t == nil {
		return "", nil
	}
	token, seen := t.have()
	if token != "" {
		return token, nil
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", broker.ErrTimedOut
	}
	if err := t.failedSince(seen); err != nil { // who waited for an attempt that failed does not begin another
		return "", err
	}
	if token, _ = t.have(); token != "" { // somebody else got one meanwhile
		return token, nil
	}
	token, lifetime, err := t.ask(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts++
	if err != nil {
		t.namedUntil = time.Time{} // it may have moved
		if ctx.Err() == nil {      // else it was this caller's time that was over, which says nothing to the others
			t.failure, t.failedAttempt = err, t.attempts
		}
		return "", err
	}
	t.failure = nil
	t.token, t.until = token, t.now().Add(lifetime-min(tokenMargin, lifetime/2))
	return token, nil
}

// have returns the token that is kept, "" for none, and how many attempts there have been.
func (t *tokens) have() (string, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now().Before(t.until) {
		return t.token, t.attempts
	}
	return "", t.attempts
}

func (t *tokens) failedSince(attempts uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failure != nil && t.failedAttempt > attempts {
		return t.failure
	}
	return nil
}

// refused forgets a token that the custodian does not take.
func (t *tokens) refused(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token == token {
		t.token, t.until = "", time.Time{}
	}
}

// ask gets a token.
func (t *tokens) ask(ctx context.Context) (token string, lifetime time.Duration, err error) {
	e, err := t.where(ctx)
	if err != nil {
		return "", 0, err
	}
	proof, err := assertion(t.settings, e.address, time.Now())
	if err != nil {
		return "", 0, broker.ErrUnauthorised
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {t.settings.Scope}, "client_assertion_type": {assertionType}, "client_assertion": {proof}}
	a, err := e.client.Do(ctx, wire.Request{Target: e.target, Form: form.Encode(), Accept: "application/json"}, wire.NewBudget(maxTokenBody, 100, nil))
	if err != nil {
		return "", 0, sentinel.OfWire(err)
	}
	switch trouble := a.Trouble(); {
	case trouble == nil:
		return readToken(a.Body)
	case a.Status == http.StatusBadRequest: // invalid_client, invalid_scope and their like (RFC 6749, 5.2)
		return "", 0, broker.ErrUnauthorised
	default:
		return "", 0, sentinel.OfWire(trouble)
	}
}

// readToken reads the answer of a token endpoint (RFC 6749, 5.1).
func readToken(body []byte) (token string, lifetime time.Duration, err error) {
	d, err := fhirjson.Parse(body, fhirjson.Limits{})
	if err != nil {
		return "", 0, sentinel.OfText(err)
	}
	token = d.Root().Get("access_token").Text()
	if token == "" || len(token) > maxToken || !strings.EqualFold(d.Root().Get("token_type").Text(), "bearer") || strings.ContainsFunc(token, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/=", r)) // RFC 6750, 2.1
	}) {
		return "", 0, broker.ErrMalformed
	}
	expires := d.Root().Get("expires_in")
	if !expires.Exists() {
		return token, tokenLifetime, nil
	}
	n, err := strconv.Atoi(strings.Trim(string(expires.Raw()), `"`)) // some write it as text
	if err != nil || n <= 0 {
		return "", 0, broker.ErrMalformed
	}
	return token, min(time.Duration(min(n, 1<<20))*time.Second, maxTokenLifetime), nil
}

// where returns the token endpoint: the configured one, or the one that the custodian's SMART configuration names on its own host, which is read
// once an hour. One that is anywhere else must be configured: an assertion of ours does not go where a custodian points.
func (t *tokens) where(ctx context.Context) (*endpoint, error) {
	if t.configured != nil {
		return t.configured, nil
	}
	t.mu.Lock()
	e, fresh := t.named, t.now().Before(t.namedUntil)
	t.mu.Unlock()
	if fresh {
		return e, nil
	}
	a, err := t.base.Do(ctx, wire.Request{Target: t.base.At(".well-known", "smart-configuration"), Accept: "application/json"}, wire.NewBudget(maxTokenBody, 100, nil))
	if err != nil {
		return nil, sentinel.OfWire(err)
	}
	if trouble := a.Trouble(); trouble != nil {
		return nil, sentinel.OfWire(trouble)
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{})
	if err != nil {
		return nil, sentinel.OfText(err)
	}
	address := d.Root().Get("token_endpoint").Text()
	if address == "" {
		return nil, broker.ErrMalformed
	}
	e, ok := t.endpoint(address)
	if !ok {
		return nil, broker.ErrElsewhere
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.named, t.namedUntil = e, t.now().Add(endpointFresh)
	return e, nil
}
