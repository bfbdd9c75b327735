package socialcare

import (
	"context"
	"encoding/base64"
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

var errSecret = errors.New("the secret cannot be read")

// Times and sizes of tokens.
const (
	tokenMargin   = 30 * time.Second // a token that is about to end is not used
	tokenLifetime = 5 * time.Minute  // where the answer does not say
	maxLifetime   = time.Hour
	maxToken      = 16 << 10
	maxTokenBody  = 64 << 10
)

// tokens gets access tokens by client credentials (RFC 6749 section 4.4) and keeps one until shortly before its end. One request for a token is
// under way at a time. Secret and token go to the configured token endpoint and base address and to nobody else: both are pinned by internal/wire.
type tokens struct {
	client   *wire.Client // of the token endpoint; nil where a bearerFile is used
	settings Settings
	turn     chan struct{}

	mu    sync.Mutex
	token string
	until time.Time
}

func newTokens(s Settings) (*tokens, error) {
	t := &tokens{settings: s, turn: make(chan struct{}, 1)}
	if s.TokenURL == "" {
		return t, nil
	}
	c := s.Connection
	c.BaseURL = s.TokenURL
	client, err := wire.New(c)
	if err != nil {
		if e, ok := errors.AsType[*wire.SettingError](err); ok && e.Field == "baseURL" {
			return nil, &wire.SettingError{Field: "tokenURL", Want: e.Want}
		}
		return nil, err //nolint:wrapcheck // names the setting already
	}
	t.client = client
	return t, nil
}

func (t *tokens) close() {
	if t.client != nil {
		t.client.Close()
	}
}

// header returns what the request needs in its header; nothing where internal/wire sends the token itself.
func (t *tokens) header(ctx context.Context) (string, error) {
	if t.client == nil {
		return "", nil
	}
	if token := t.have(); token != "" {
		return "Bearer " + token, nil
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", broker.ErrTimedOut
	}
	if token := t.have(); token != "" { // somebody else got one meanwhile
		return "Bearer " + token, nil
	}
	token, lifetime, err := t.ask(ctx)
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	t.token, t.until = token, time.Now().Add(lifetime-min(tokenMargin, lifetime/2))
	t.mu.Unlock()
	return "Bearer " + token, nil
}

func (t *tokens) have() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Now().Before(t.until) {
		return t.token
	}
	return ""
}

// refused forgets a token that the council does not take.
func (t *tokens) refused(header string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if "Bearer "+t.token == header {
		t.token, t.until = "", time.Time{}
	}
}

func (t *tokens) ask(ctx context.Context) (token string, lifetime time.Duration, err error) {
	key, err := secret(t.settings.ClientSecretFile)
	if err != nil {
		return "", 0, broker.ErrUnauthorised
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if t.settings.Scope != "" {
		form.Set("scope", t.settings.Scope)
	}
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(t.settings.ClientID) + ":" + url.QueryEscape(key)))
	a, err := t.client.Do(ctx, wire.Request{Target: t.client.At(), Form: form.Encode(), Accept: "application/json", Header: map[string]string{"Authorization": "Basic " + basic}},
		wire.NewBudget(maxTokenBody, 100, nil))
	if err != nil {
		return "", 0, sentinel.OfWire(err)
	}
	switch trouble := a.Trouble(); {
	case trouble == nil:
	case a.Status == http.StatusBadRequest: // invalid_client and its like (RFC 6749 section 5.2)
		return "", 0, broker.ErrUnauthorised
	default:
		return "", 0, sentinel.OfWire(trouble)
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{})
	if err != nil {
		return "", 0, broker.ErrMalformed
	}
	token = d.Root().Get("access_token").Text()
	if token == "" || len(token) > maxToken || !strings.EqualFold(d.Root().Get("token_type").Text(), "Bearer") ||
		strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", 0, broker.ErrMalformed
	}
	lifetime = tokenLifetime
	if n, err := strconv.Atoi(string(d.Root().Get("expires_in").Raw())); err == nil && n > 0 {
		lifetime = min(time.Duration(min(n, 1<<20))*time.Second, maxLifetime)
	}
	return token, lifetime, nil
}
