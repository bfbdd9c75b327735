package fhirr4

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
)

// Defaults and bounds of settings.
const (
	DefaultCount    = 500
	maxCount        = 10_000
	DefaultParallel = 4
	maxParallel     = 32
	DefaultScope    = "system/*.rs"
	maxClientText   = 512
)

// Values of Settings.Everything.
const (
	EverythingOffered = "offered"
	EverythingNever   = "never"
)

// Settings of a custodian with adapter fhirr4. Besides its own, it has those of wire.Connection: baseURL, allowPlainHTTP, caFile,
// certificateFile, keyFile, bearerFile, maxConnections.
type Settings struct {
	wire.Connection `yaml:",inline"`
	// Everything says when Patient/{id}/$everything is used: offered, where the CapabilityStatement offers it, or never. Default offered.
	Everything string `yaml:"everything"`
	// Count is how many resources a page is asked to hold (_count). Default 500, at most 10000. Custodians may give fewer.
	Count int `yaml:"count"`
	// Searches names the FHIR types to search where $everything is not used. Default: every type for which the CapabilityStatement offers a
	// search by patient; if that statement cannot be had, all types that FHIR R4 can search by patient. A type that is left out here is
	// never seen, and nothing says so in the answer.
	Searches []string `yaml:"searches"`
	// ClientID is who we are at the custodian's token endpoint, by SMART Backend Services. Default: no tokens are asked for.
	ClientID string `yaml:"clientID"`
	// ClientKeyFile holds the private key, PEM, whose public half the custodian has registered for ClientID: RSA of at least 2048 bits (RS384) or
	// P-384 (ES384). It is read for each token, so that it can be changed in place. Required with clientID.
	ClientKeyFile string `yaml:"clientKeyFile"`
	// ClientKeyID is the name (kid) under which the key is registered. Required with clientID.
	ClientKeyID string `yaml:"clientKeyID"`
	// TokenURL is the custodian's token endpoint. Default: the one that baseURL/.well-known/smart-configuration names, if it is on the host of
	// baseURL; one on another host must be given here.
	TokenURL string `yaml:"tokenURL"`
	// Scope is what is asked for with clientID. Default system/*.rs, which older servers call system/*.read.
	Scope string `yaml:"scope"`
	// Parallel is how many searches of one person run at once. Default 4, at most 32.
	Parallel int `yaml:"parallel"`
}

// WithDefaults returns s with defaults where nothing is set.
func (s Settings) WithDefaults() Settings {
	s.Connection = s.Connection.WithDefaults()
	if s.Everything == "" {
		s.Everything = EverythingOffered
	}
	if s.Count == 0 {
		s.Count = DefaultCount
	}
	if s.Parallel == 0 {
		s.Parallel = DefaultParallel
	}
	if s.ClientID != "" && s.Scope == "" {
		s.Scope = DefaultScope
	}
	return s
}

func (s Settings) check() error {
	switch {
	case s.Everything != EverythingOffered && s.Everything != EverythingNever:
		return &wire.SettingError{Field: "everything", Want: "offered or never"}
	case s.Count < 1 || s.Count > maxCount:
		return &wire.SettingError{Field: "count", Want: "1 to 10000"}
	case s.Parallel < 1 || s.Parallel > maxParallel:
		return &wire.SettingError{Field: "parallel", Want: "1 to 32"}
	}
	seen := map[string]bool{}
	for _, t := range s.Searches {
		if _, ok := searchable[t]; !ok || seen[t] {
			return &wire.SettingError{Field: "searches", Want: "FHIR R4 types that can be searched by patient, each once, e.g. Observation"}
		}
		seen[t] = true
	}
	return s.checkClient()
}

// checkClient checks how we say who we are.
func (s Settings) checkClient() error {
	bad := func(field, want string) error { return &wire.SettingError{Field: field, Want: want} }
	if s.ClientID == "" {
		if s.ClientKeyFile+s.ClientKeyID+s.TokenURL+s.Scope != "" {
			return bad("clientID", "who we are at the custodian's token endpoint: clientKeyFile, clientKeyID, tokenURL and scope are for it")
		}
		return nil
	}
	unprintable := func(r rune) bool { return r < ' ' || r >= 0x7f }
	switch {
	case s.BearerFile != "":
		return bad("bearerFile", "no bearerFile with clientID")
	case len(s.ClientID) > maxClientText || strings.ContainsFunc(s.ClientID, unprintable):
		return bad("clientID", "printable ASCII, at most 512 characters")
	case s.ClientKeyID == "" || len(s.ClientKeyID) > maxClientText || strings.ContainsFunc(s.ClientKeyID, unprintable):
		return bad("clientKeyID", "the name (kid) under which the custodian has registered our key")
	case len(s.Scope) > maxClientText || strings.ContainsFunc(s.Scope, unprintable):
		return bad("scope", "printable ASCII, at most 512 characters, such as system/*.rs")
	}
	if _, _, err := signingKey(s.ClientKeyFile); err != nil {
		return bad("clientKeyFile", "a readable file with our private key, PEM: RSA of at least 2048 bits, or P-384")
	}
	return nil
}
