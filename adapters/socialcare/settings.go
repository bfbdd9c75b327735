package socialcare

import (
	"net/url"
	"os"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
)

// Bounds of settings.
const (
	DefaultParallel = 4
	maxParallel     = 32
	maxSecret       = 4 << 10
)

// Settings of a custodian with adapter socialcare. Besides its own, it has those of wire.Connection: baseURL, allowPlainHTTP, caFile,
// certificateFile, keyFile, bearerFile, maxConnections.
type Settings struct {
	wire.Connection `yaml:",inline"`
	// MappingFile says where in the council's answers what stands, and what it is in FHIR. YAML; MAPPING.md describes it. Required.
	MappingFile string `yaml:"mappingFile"`
	// TokenURL is where access tokens come from, by OAuth 2.0 client credentials. Required, unless bearerFile holds one.
	TokenURL string `yaml:"tokenURL"`
	// ClientID is who we are there. Required with tokenURL.
	ClientID string `yaml:"clientID"`
	// ClientSecretFile holds our secret there. It is read for each token, so that it can be changed in place. Required with tokenURL.
	ClientSecretFile string `yaml:"clientSecretFile"`
	// Scope is what is asked for. Default: not sent.
	Scope string `yaml:"scope"`
	// Parallel is how many collections of one person are read at once. Default 4, at most 32.
	Parallel int `yaml:"parallel"`
}

// WithDefaults returns s with defaults where nothing is set.
func (s Settings) WithDefaults() Settings {
	s.Connection = s.Connection.WithDefaults()
	if s.Parallel == 0 {
		s.Parallel = DefaultParallel
	}
	return s
}

func (s Settings) check() error {
	bad := func(field, want string) error { return &wire.SettingError{Field: field, Want: want} }
	switch {
	case s.MappingFile == "":
		return bad("mappingFile", "the file that says what stands where in the council's answers: see MAPPING.md")
	case s.Parallel < 1 || s.Parallel > maxParallel:
		return bad("parallel", "1 to 32")
	case s.TokenURL == "" && s.BearerFile == "":
		return bad("tokenURL", "where access tokens come from, or a bearerFile with one")
	case s.TokenURL != "" && s.BearerFile != "":
		return bad("bearerFile", "no bearerFile with tokenURL")
	case s.TokenURL == "" && (s.ClientID != "" || s.ClientSecretFile != ""):
		return bad("tokenURL", "where access tokens come from: clientID and clientSecretFile are for it")
	case s.TokenURL == "":
		return nil
	case s.ClientID == "":
		return bad("clientID", "who we are at tokenURL")
	}
	if strings.ContainsFunc(s.ClientID+s.Scope, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return bad("clientID", "clientID and scope in printable ASCII")
	}
	if _, err := secret(s.ClientSecretFile); err != nil {
		return bad("clientSecretFile", "a readable file that holds our secret and nothing else")
	}
	if u, err := url.Parse(s.TokenURL); err != nil || u.Path == "" || u.Path == "/" {
		return bad("tokenURL", "the whole address of the token endpoint, such as https://login.council.example/oauth2/token")
	}
	return nil
}

// secret reads a file with one secret. The error says nothing of it.
func secret(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", errSecret
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, maxSecret+1)
	n := 0
	for n < len(b) {
		k, err := f.Read(b[n:])
		if n += k; err != nil {
			break
		}
	}
	s := strings.TrimSpace(string(b[:n]))
	if s == "" || n > maxSecret || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return "", errSecret
	}
	return s, nil
}
