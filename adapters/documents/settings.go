package documents

import (
	"net/url"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Settings of a custodian with adapter documents. Those of wire.Connection (baseURL, allowPlainHTTP, caFile, certificateFile, keyFile, bearerFile,
// maxConnections) are of the locator.
type Settings struct {
	wire.Connection `yaml:",inline"`
	// Locator is how pointers are found: nrl asks the National Record Locator (consumer API, FHIR R4), mhd a document registry as IHE MHD has it (ITI-67).
	// Default nrl.
	Locator string `yaml:"locator"`
	// Custodians are the ODS codes under which the custodian's pointers are listed; those of any other are dropped. Required with nrl; with mhd none means
	// that all are the custodian's.
	Custodians []string `yaml:"custodians"`
	// EndUserOrganisation is the ODS code sent as NHSD-End-User-Organisation-ODS where the requester is of no organisation, such as the person themselves.
	// Default: then the custodian is not asked.
	EndUserOrganisation string `yaml:"endUserOrganisation"`
	// HolderURL is the address below which documents are fetched; a pointer that leads anywhere else is listed without its address. Default: baseURL, with
	// what goes with it.
	HolderURL string `yaml:"holderURL"`
	// HolderCAFile, HolderCertificateFile, HolderKeyFile and HolderBearerFile are what caFile and so on are, of the holder. Nothing of the locator's is shown
	// to a holder of its own, nor the other way round. Default: none.
	HolderCAFile          string `yaml:"holderCaFile"`
	HolderCertificateFile string `yaml:"holderCertificateFile"`
	HolderKeyFile         string `yaml:"holderKeyFile"`
	HolderBearerFile      string `yaml:"holderBearerFile"`
	// ProxyURL is the Spine Secure Proxy, through which the holder is asked for documents, and in no other way: by its own address followed by the document's,
	// percent-encoded. HolderURL is then the holder's address as pointers give it (ssp:// or https://), and HolderCAFile, HolderCertificateFile and HolderKeyFile
	// are of the connection to the proxy. Default: none, and addresses with ssp:// are left out.
	ProxyURL string `yaml:"proxyURL"`
	// FromASID and ToASID are the Spine ids of our system and of the holder's, 12 digits each. A pointer that names another holder's is listed without its
	// address. Required with proxyURL.
	FromASID string `yaml:"fromASID"`
	ToASID   string `yaml:"toASID"`
	// Issuer is the address by which our system is known; it stands in the token of every request through the proxy. Required with proxyURL.
	Issuer string `yaml:"issuer"`
	// Read is how many documents of a record, the newest first, are fetched with it so that what can be read of them is shown in sections: CDA, and FHIR
	// documents. 1 to 50. Default: none, documents are fetched when somebody opens them.
	Read int `yaml:"read"`
}

// Bounds and defaults of settings.
const (
	LocatorNRL    = "nrl"
	LocatorMHD    = "mhd"
	maxRead       = 50
	maxCustodians = 20
)

// WithDefaults returns s with defaults where nothing is set.
func (s Settings) WithDefaults() Settings {
	s.Connection = s.Connection.WithDefaults()
	if s.Locator == "" {
		s.Locator = LocatorNRL
	}
	return s
}

// check returns the first thing wrong with s. The error is a *wire.SettingError.
func (s Settings) check() error {
	bad := func(field, want string) error { return &wire.SettingError{Field: field, Want: want} }
	switch {
	case s.Locator != LocatorNRL && s.Locator != LocatorMHD:
		return bad("locator", "nrl or mhd")
	case s.Locator == LocatorNRL && len(s.Custodians) == 0:
		return bad("custodians", "the ODS codes under which this custodian's pointers are listed")
	case len(s.Custodians) > maxCustodians:
		return bad("custodians", "at most 20 ODS codes")
	case s.EndUserOrganisation != "" && !record.ODSCode(s.EndUserOrganisation).Valid():
		return bad("endUserOrganisation", "an ODS code")
	case s.Read < 0 || s.Read > maxRead:
		return bad("read", "1 to 50; leave it out to read none")
	case s.ProxyURL == "" && s.FromASID+s.ToASID+s.Issuer != "":
		return bad("proxyURL", "where the proxy is that the other settings of one are for")
	case s.ProxyURL != "" && s.HolderURL == "":
		return bad("holderURL", "the address of the holder, as pointers give it, that is asked through the proxy")
	case s.ProxyURL != "" && s.HolderBearerFile != "":
		return bad("holderBearerFile", "leave it out: every request through the proxy has a token that names who asks")
	case s.ProxyURL != "" && !asid(s.FromASID):
		return bad("fromASID", "the Spine id of our system, 12 digits")
	case s.ProxyURL != "" && !asid(s.ToASID):
		return bad("toASID", "the Spine id of the holder's system, 12 digits")
	case s.ProxyURL != "" && !isAddress(s.Issuer):
		return bad("issuer", "the address of our system, e.g. https://record.example")
	case s.HolderURL == "" && s.HolderCAFile+s.HolderCertificateFile+s.HolderKeyFile+s.HolderBearerFile != "":
		return bad("holderURL", "where the holder is that the other settings of a holder are for")
	}
	for _, c := range s.Custodians {
		if !record.ODSCode(c).Valid() {
			return bad("custodians", "ODS codes")
		}
	}
	return nil
}

// asid reports whether s is an id of the Spine: 12 digits.
func asid(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

func isAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && len(s) <= 200
}

// proxy makes the client of the proxy, nil if there is none. The error is a *wire.SettingError.
func (s Settings) proxy() (*wire.Client, error) {
	if s.ProxyURL == "" {
		return nil, nil
	}
	client, err := wire.New(wire.Connection{BaseURL: s.ProxyURL, AllowPlainHTTP: s.AllowPlainHTTP, CAFile: s.HolderCAFile, CertificateFile: s.HolderCertificateFile, KeyFile: s.HolderKeyFile,
		MaxConnections: s.MaxConnections})
	if e, is := err.(*wire.SettingError); is { //nolint:errorlint // New returns it as it is
		name := map[string]string{"baseURL": "proxyURL", "caFile": "holderCaFile", "certificateFile": "holderCertificateFile", "keyFile": "holderKeyFile"}[e.Field]
		return nil, &wire.SettingError{Field: name, Want: e.Want}
	}
	return client, err //nolint:wrapcheck // names the setting already
}

// holder makes the client of whoever holds the documents. The error is a *wire.SettingError.
func (s Settings) holder() (*wire.Client, error) {
	c := s.Connection
	if s.HolderURL != "" {
		c = wire.Connection{BaseURL: s.HolderURL, AllowPlainHTTP: s.AllowPlainHTTP, CAFile: s.HolderCAFile, CertificateFile: s.HolderCertificateFile,
			KeyFile: s.HolderKeyFile, BearerFile: s.HolderBearerFile, MaxConnections: s.MaxConnections}
	}
	client, err := wire.New(c)
	if e, is := err.(*wire.SettingError); is && s.HolderURL != "" && e.Field != "maxConnections" { //nolint:errorlint // New returns it as it is
		name := map[string]string{"baseURL": "holderURL"}[e.Field]
		if name == "" {
			name = "holder" + strings.ToUpper(e.Field[:1]) + e.Field[1:]
		}
		return nil, &wire.SettingError{Field: name, Want: e.Want}
	}
	return client, err //nolint:wrapcheck // names the setting already
}
