package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
)

// Defaults and caps of a connection's settings.
const (
	DefaultMaxConnections = 64
	maxConnections        = 1024
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

// pool makes the connections to o. The error is a *SettingError.
func (c Connection) pool(o *origin) (*Pool, error) {
	if c.MaxConnections < 1 || c.MaxConnections > maxConnections {
		return nil, &SettingError{Field: "maxConnections", Want: "1 to 1024"}
	}
	config, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	if o.scheme == "http" {
		config = nil
	}
	return NewPool(newDialer(o.base, o.host, o.port, config), c.MaxConnections), nil
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
