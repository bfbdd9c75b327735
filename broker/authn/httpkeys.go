package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Caps on what an issuer serves.
const (
	maxDiscoveryBytes = 64 << 10
	maxKeySetBytes    = 256 << 10
)

// HTTPKeys fetches key sets over HTTPS: OpenID Connect discovery, then the JWK set that it names (openid.net, Discovery 1.0, sections
// 3 and 4). The document MUST name the issuer exactly as configured, and its jwks_uri MUST be of the issuer's own scheme, host and
// port: an issuer that keeps its keys elsewhere needs [Issuer.JWKSURL]. No redirect is followed. It is safe for concurrent use.
type HTTPKeys struct{ client *http.Client }

var _ Keys = (*HTTPKeys)(nil)

// NewHTTPKeys returns one that trusts the given roots, those of the system if nil.
func NewHTTPKeys(roots *x509.CertPool) *HTTPKeys {
	return &HTTPKeys{&http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    3 * time.Second,
			ResponseHeaderTimeout:  3 * time.Second,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes idle connections.
func (h *HTTPKeys) Close() { h.client.CloseIdleConnections() }

// KeySet implements [Keys].
func (h *HTTPKeys) KeySet(ctx context.Context, from Issuer) ([]byte, error) {
	address := from.JWKSURL
	if address == "" {
		raw, err := h.get(ctx, strings.TrimSuffix(from.URL, "/")+"/.well-known/openid-configuration", maxDiscoveryBytes)
		if err != nil {
			return nil, err
		}
		doc, err := parseObject(raw)
		if err != nil {
			return nil, ErrKeysUnavailable
		}
		address, _ = doc["jwks_uri"].(string)
		if doc["issuer"] != from.URL || !usableAddress(address, from.PlainHTTP) || !sameOrigin(address, from.URL) {
			return nil, ErrKeysUnavailable
		}
	}
	return h.get(ctx, address, maxKeySetBytes)
}

func (h *HTTPKeys) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, ErrKeysUnavailable
	}
	req.Header.Set("Accept", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, ErrKeysUnavailable
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end or is of no use
	if resp.StatusCode != http.StatusOK {
		return nil, ErrKeysUnavailable
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil || int64(len(raw)) > limit {
		return nil, ErrKeysUnavailable
	}
	return raw, nil
}

func sameOrigin(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && x.Scheme == y.Scheme && strings.EqualFold(x.Host, y.Host)
}
