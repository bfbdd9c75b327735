package wire

import (
	"net/url"
	"strings"
)

// Socket is how a service is reached that does not speak HTTP: settings of adapters over a connection of their own.
type Socket struct {
	// Address is where the service listens: mllps://host:port for TLS. Required.
	Address string `yaml:"address"`
	// AllowPlainTCP lets Address begin with mllp://, without TLS. For the demo and for tests: records would travel unprotected. Default false.
	AllowPlainTCP bool `yaml:"allowPlainTCP"`
	// CAFile holds the authorities, PEM, that may vouch for the service. Default: those of the operating system.
	CAFile string `yaml:"caFile"`
	// CertificateFile holds our own certificate with its intermediates, PEM. It is read again at each handshake, so that it can be renewed in
	// place. Required with TLS: the service knows us by nothing else.
	CertificateFile string `yaml:"certificateFile"`
	// KeyFile holds the private key of CertificateFile, PEM, readable by the broker only. Required with it.
	KeyFile string `yaml:"keyFile"`
	// Connections is how many connections there are at most, open or idle. Further requests wait, within their time. Default 8, at most 1024.
	Connections int `yaml:"connections"`
}

// DefaultConnections is the default of Socket.Connections: engines have a thread for each.
const DefaultConnections = 8

// WithDefaults returns s with defaults where nothing is set.
func (s Socket) WithDefaults() Socket {
	if s.Connections == 0 {
		s.Connections = DefaultConnections
	}
	return s
}

// NewDialer checks a Socket. The error is a *SettingError that names the setting.
func NewDialer(s Socket) (*Dialer, error) {
	s = s.WithDefaults()
	bad := func(want string) (*Dialer, error) { return nil, &SettingError{Field: "address", Want: want} }
	u, err := url.Parse(s.Address)
	switch {
	case s.Address == "":
		return bad("give where the engine listens, e.g. mllps://engine.trust.example:2576")
	case err != nil || u.Opaque != "" || u.Hostname() == "" || u.Port() == "" || strings.ContainsFunc(s.Address, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
		return bad("not an address with a port: give one such as mllps://engine.trust.example:2576")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Path != "" || strings.Contains(s.Address, "#"):
		return bad("scheme, host and port and nothing else")
	case u.Scheme == "mllp" && !s.AllowPlainTCP:
		return bad("mllps:// (mllp:// only with allowPlainTCP: true, which is for trying out)")
	case u.Scheme != "mllps" && u.Scheme != "mllp":
		return bad("mllps://")
	case s.Connections < 1 || s.Connections > maxConnections:
		return nil, &SettingError{Field: "connections", Want: "1 to 1024"}
	}
	config, err := Connection{CAFile: s.CAFile, CertificateFile: s.CertificateFile, KeyFile: s.KeyFile}.tlsConfig()
	if err != nil {
		return nil, err
	}
	base := u.Scheme + "://" + strings.ToLower(u.Host)
	if u.Scheme == "mllp" {
		return newDialer(base, u.Hostname(), u.Port(), nil), nil
	}
	if s.CertificateFile == "" {
		return nil, &SettingError{Field: "certificateFile", Want: "our certificate, PEM: the engine knows us by it"}
	}
	return newDialer(base, u.Hostname(), u.Port(), config), nil
}
