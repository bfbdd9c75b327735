package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"
)

// Defaults and fixed times of a connection.
const (
	DefaultMaxConnections = 64
	maxConnections        = 1024
	dialTimeout           = 5 * time.Second  // a dial outlives the request that began it, so it needs an end of its own
	idleTimeout           = 30 * time.Second // shorter than servers' usual 60 s, so that we are the one to close
	maxTokenFile          = 64 << 10
	maxCAFile             = 4 << 20
)

// SettingError names a setting and says what to give. It never repeats the value.
type SettingError struct{ Field, Want string }

// Error returns the setting and what to give.
func (e *SettingError) Error() string { return e.Field + ": " + e.Want }

// Setting returns the setting and what to give, apart.
func (e *SettingError) Setting() (field, want string) { return e.Field, e.Want }

// Connection is how a service is reached: settings that every adapter over HTTP has.
type Connection struct {
	// BaseURL is the address below which everything is asked: https://host[:port][/path]. No user name, query or fragment. Required.
	BaseURL string `yaml:"baseURL"`
	// AllowPlainHTTP lets BaseURL begin with http://. For the demo and for tests: records would travel unprotected. Default false.
	AllowPlainHTTP bool `yaml:"allowPlainHTTP"`
	// CAFile holds the authorities, PEM, that may vouch for the service. Default: those of the operating system.
	CAFile string `yaml:"caFile"`
	// CertificateFile holds our own certificate with its intermediates, PEM, for mutual TLS. It is read again at each handshake, so that
	// it can be renewed in place. Default: none.
	CertificateFile string `yaml:"certificateFile"`
	// KeyFile holds the private key of CertificateFile, PEM, readable by the broker only. Required with it.
	KeyFile string `yaml:"keyFile"`
	// BearerFile holds an access token, which is sent as Authorization: Bearer. It is read again for each request, so that it can be
	// renewed in place. Default: none is sent.
	BearerFile string `yaml:"bearerFile"`
	// MaxConnections is how many connections there are at most, open or idle. Further requests wait, within their time. Default 64,
	// at most 1024.
	MaxConnections int `yaml:"maxConnections"`
}

// WithDefaults returns c with defaults where nothing is set.
func (c Connection) WithDefaults() Connection {
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	return c
}

// transport makes the transport. The error is a *SettingError.
func (c Connection) transport() (*http.Transport, error) {
	if c.MaxConnections < 1 || c.MaxConnections > maxConnections {
		return nil, &SettingError{Field: "maxConnections", Want: "1 to 1024"}
	}
	tlsConfig, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy: nil, // HTTPS_PROXY and its like must not decide where records travel
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err //nolint:wrapcheck // reduced by roundTripError
			}
			return &conn{Conn: raw}, nil
		},
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err //nolint:wrapcheck // reduced by roundTripError
			}
			return handshake(ctx, raw, address, tlsConfig)
		},
		Protocols:              &protocols,
		DisableCompression:     true, // decoding is ours, with a cap on what comes out
		MaxIdleConns:           c.MaxConnections,
		MaxIdleConnsPerHost:    c.MaxConnections,
		MaxConnsPerHost:        c.MaxConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}, nil
}

func handshake(ctx context.Context, raw net.Conn, address string, config *tls.Config) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		_ = raw.Close() // it was never used
		return nil, err //nolint:wrapcheck // reduced by roundTripError
	}
	config = config.Clone()
	config.ServerName = host
	c := tls.Client(raw, config)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // the handshake's error is the news
		return nil, err //nolint:wrapcheck // reduced by roundTripError
	}
	return &conn{Conn: c}, nil
}

// conn counts what is written of requests, not of handshakes: "no byte left" is known here and nowhere else.
type conn struct {
	net.Conn
	written atomic.Int64
}

// Write counts before it writes, and takes back what certainly did not leave: a connection that was closed here before, as happens when a request
// beside this one is given up just when its connection comes free. Of any other failure it is not known, so it counts as sent.
func (c *conn) Write(p []byte) (int, error) {
	c.written.Add(int64(len(p)))
	n, err := c.Conn.Write(p)
	if n == 0 && errors.Is(err, net.ErrClosed) {
		c.written.Add(-int64(len(p)))
	}
	return n, err //nolint:wrapcheck // reduced by roundTripError
}

func (c Connection) tlsConfig() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := readCapped(c.CAFile, maxCAFile)
		t.RootCAs = x509.NewCertPool()
		if err != nil || !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &SettingError{Field: "caFile", Want: "a readable file with at least one certificate, PEM"}
		}
	}
	if c.CertificateFile == "" && c.KeyFile == "" {
		return t, nil
	}
	if c.CertificateFile == "" {
		return nil, &SettingError{Field: "keyFile", Want: "certificateFile too: both or neither"}
	}
	if c.KeyFile == "" {
		return nil, &SettingError{Field: "certificateFile", Want: "keyFile too: both or neither"}
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile)
		if err != nil {
			return nil, errCertificate
		}
		return &pair, nil
	}
	if _, err := load(); err != nil {
		return nil, &SettingError{Field: "certificateFile", Want: "a readable certificate that belongs to keyFile, both PEM"}
	}
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return t, nil
}

// What is wrong with a file. Callers turn these into a setting's error or into a [Kind]; the operating system's text stays behind.
var (
	errCertificate = errors.New("our certificate cannot be read")
	errBearer      = errors.New("the bearer token cannot be read")
	errFile        = errors.New("the file cannot be read or is too long")
)

// refusesOurCertificate reports whether a handshake ended because of what we showed, or could not show.
func refusesOurCertificate(err error) bool {
	if errors.Is(err, errCertificate) {
		return true
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return false
	}
	// The alert's type in crypto/tls is not exported; its number is that of RFC 8446, section 6.
	alert := reflect.ValueOf(op.Err)
	if alert.Kind() != reflect.Uint8 {
		return false
	}
	switch alert.Uint() {
	case 42, 43, 44, 45, 46, 48, 49, 116: // bad, unsupported, revoked, expired, unknown certificate; unknown CA; access denied; certificate required
		return true
	}
	return false
}

func (c Connection) checkBearer() error {
	if c.BearerFile == "" {
		return nil
	}
	if _, err := readBearer(c.BearerFile); err != nil {
		return &SettingError{Field: "bearerFile", Want: "a readable file that holds one access token and nothing else"}
	}
	return nil
}

// readBearer reads a token of RFC 6750, section 2.1. The error never repeats anything of it.
func readBearer(name string) (string, error) {
	b, err := readCapped(name, maxTokenFile)
	token := strings.TrimSpace(string(b))
	if err != nil || token == "" || strings.ContainsFunc(token, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/=", r))
	}) {
		return "", errBearer
	}
	return token, nil
}

// readCapped reads a whole file of at most so many bytes.
func readCapped(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, errFile
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil || int64(len(b)) > limit {
		return nil, errFile
	}
	return b, nil
}
