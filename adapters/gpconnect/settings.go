package gpconnect

import (
	"net/url"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
)

// Settings of a custodian with adapter gpconnect. Besides its own, it has those of wire.Connection: baseURL, allowPlainHTTP, caFile,
// certificateFile, keyFile, maxConnections; bearerFile has no use here. baseURL is the practice's address for this service as the Spine Directory
// Service gives it, e.g. https://gp.example/A12345/STU3/1/gpconnect/structured.
type Settings struct {
	wire.Connection `yaml:",inline"`
	// ProxyURL is the Spine Secure Proxy, which is asked for the practice by its own address followed by baseURL. Certificates and authorities are
	// those of the connection to it. Default: none, the practice (or a gateway that stands for it) is asked itself.
	ProxyURL string `yaml:"proxyURL"`
	// FromASID is the Spine id of our system, as of the organisation that runs it: 12 digits. Required.
	FromASID string `yaml:"fromASID"`
	// ToASID is the Spine id of the practice's system: 12 digits. Required.
	ToASID string `yaml:"toASID"`
	// Issuer is the address by which our system is known to practices; it stands in every request's token. Required.
	Issuer string `yaml:"issuer"`
	// Areas are the areas of the record to ask for: allergies, medication, consultations, problems, immunisations, uncategorised, investigations,
	// referrals, diary. Default: all. allergies is always asked for, because the protocol demands it. For practices whose systems refuse what they
	// do not know; an area that is left out is named in every answer as missing.
	Areas []string `yaml:"areas"`
}

// WithDefaults returns s with defaults where nothing is set.
func (s Settings) WithDefaults() Settings {
	s.Connection = s.Connection.WithDefaults()
	if len(s.Areas) == 0 {
		for _, a := range areas {
			s.Areas = append(s.Areas, a.name)
		}
	}
	return s
}

func (s Settings) check() error {
	switch {
	case s.BearerFile != "":
		return &wire.SettingError{Field: "bearerFile", Want: "leave it out: every request has a token that names who asks"}
	case !twelve(s.FromASID):
		return &wire.SettingError{Field: "fromASID", Want: "the Spine id of our system, 12 digits"}
	case !twelve(s.ToASID):
		return &wire.SettingError{Field: "toASID", Want: "the Spine id of the practice's system, 12 digits"}
	}
	if u, err := url.Parse(s.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || len(s.Issuer) > 200 {
		return &wire.SettingError{Field: "issuer", Want: "the address of our system, e.g. https://record.example"}
	}
	seen := map[string]bool{}
	for _, name := range s.Areas {
		if !slices.ContainsFunc(areas, func(a area) bool { return a.name == name }) || seen[name] {
			return &wire.SettingError{Field: "areas", Want: "each once, of " + strings.Join(Settings{}.WithDefaults().Areas, ", ")}
		}
		seen[name] = true
	}
	return nil
}

// twelve reports whether s is 12 digits, as ids of the Spine are.
func twelve(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
