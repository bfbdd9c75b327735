package fhirr4

import (
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
)

// Defaults and bounds of settings.
const (
	DefaultCount    = 500
	maxCount        = 10_000
	DefaultParallel = 4
	maxParallel     = 32
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
	return nil
}
