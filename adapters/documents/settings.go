package documents

import (
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
