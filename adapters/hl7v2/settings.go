package hl7v2

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
)

// Defaults and bounds of settings.
const (
	DefaultCount       = 500
	maxCount           = 10_000
	DefaultApplication = "MYCARERECORD"
	DefaultVersion     = "2.5.1"
	DefaultCharset     = "ASCII"
	maxQueries         = 16
)

// Settings of a custodian with adapter hl7v2. Besides its own, it has those of wire.Socket: address, allowPlainTCP, caFile, certificateFile,
// keyFile, connections.
type Settings struct {
	wire.Socket `yaml:",inline"`
	// Queries are the engine's queries by person, each as QPD-1 names it: code^text^coding system. Each is sent as QBP^Q11 with the NHS number
	// in QPD-3 and answered by RSP^K11. What no query here asks for is never seen. At least one here or in LegacyQueries.
	Queries []string `yaml:"queries"`
	// LegacyQueries are the what-subject filters (QRD-9, HL7 table 0048, such as RES) that an older engine answers: each is sent as QRY^R02
	// and answered by ORF^R04.
	LegacyQueries []string `yaml:"legacyQueries"`
	// SendingApplication and SendingFacility are who we say we are (MSH-3, MSH-4). Default MYCARERECORD, and no facility.
	SendingApplication string `yaml:"sendingApplication"`
	SendingFacility    string `yaml:"sendingFacility"`
	// ReceivingApplication and ReceivingFacility are whom we address (MSH-5, MSH-6). Default: not said.
	ReceivingApplication string `yaml:"receivingApplication"`
	ReceivingFacility    string `yaml:"receivingFacility"`
	// ProcessingID is MSH-11: P for production, T for training, D for debugging. An answer with another one is refused. Default P.
	ProcessingID string `yaml:"processingID"`
	// Version is the version of HL7 that we write (MSH-12): 2.4, 2.5, 2.5.1, 2.6, 2.7, 2.7.1 or 2.8. Any version 2 is read. Default 2.5.1.
	Version string `yaml:"version"`
	// Count is how many records an answer is asked to hold (RCP-2, QRD-7). Default 500, at most 10000. The engine may send fewer, and
	// continues with DSC.
	Count int `yaml:"count"`
	// CharacterSet is assumed of messages that do not name theirs in MSH-18: ASCII, 8859/1, 8859/15, WINDOWS-1252 or UNICODE UTF-8. Default
	// ASCII, as the standard has it.
	CharacterSet string `yaml:"characterSet"`
	// NHSAuthorities are further assigning authorities (CX-4 in PID-3) whose numbers are NHS numbers, beside NHS, NHSNBR and the OID
	// 2.16.840.1.113883.2.1.4.1. Default: none.
	NHSAuthorities []string `yaml:"nhsAuthorities"`
	// ResultCategory is the category of results whose report states no section (OBR-24): laboratory or imaging. Default: none.
	ResultCategory string `yaml:"resultCategory"`
}

// WithDefaults returns s with defaults where nothing is set.
func (s Settings) WithDefaults() Settings {
	s.Socket = s.Socket.WithDefaults()
	set := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	set(&s.SendingApplication, DefaultApplication)
	set(&s.ProcessingID, "P")
	set(&s.Version, DefaultVersion)
	set(&s.CharacterSet, DefaultCharset)
	if s.Count == 0 {
		s.Count = DefaultCount
	}
	return s
}

func (s Settings) valid() error {
	bad := func(field, want string) error { return &wire.SettingError{Field: field, Want: want} }
	for _, f := range [...]struct{ field, value string }{{"sendingApplication", s.SendingApplication}, {"sendingFacility", s.SendingFacility},
		{"receivingApplication", s.ReceivingApplication}, {"receivingFacility", s.ReceivingFacility}} {
		if !sendable(f.value, 180) {
			return bad(f.field, `printable ASCII without | ~ \ &, at most 180 characters`)
		}
	}
	switch {
	case len(s.Queries)+len(s.LegacyQueries) == 0:
		return bad("queries", "the names of the engine's queries, each as code^text^coding system; or legacyQueries")
	case len(s.Queries)+len(s.LegacyQueries) > maxQueries:
		return bad("queries", "at most 16 with legacyQueries")
	case s.ProcessingID != "P" && s.ProcessingID != "T" && s.ProcessingID != "D":
		return bad("processingID", "P, T or D")
	case !versions[s.Version]:
		return bad("version", "2.4, 2.5, 2.5.1, 2.6, 2.7, 2.7.1 or 2.8")
	case s.Count < 1 || s.Count > maxCount:
		return bad("count", "1 to 10000")
	case s.ResultCategory != "" && s.ResultCategory != "laboratory" && s.ResultCategory != "imaging":
		return bad("resultCategory", "laboratory or imaging")
	}
	for _, a := range s.NHSAuthorities {
		if strings.TrimSpace(a) != a || a == "" || strings.Contains(a, "^") || !sendable(a, 64) {
			return bad("nhsAuthorities", "names as they stand in CX-4, each without separators")
		}
	}
	if _, known := charsets[s.CharacterSet]; !known {
		return bad("characterSet", "ASCII, 8859/1, 8859/15, WINDOWS-1252 or UNICODE UTF-8")
	}
	for _, l := range [...]struct {
		field string
		list  []string
	}{{"queries", s.Queries}, {"legacyQueries", s.LegacyQueries}} {
		seen := map[string]bool{}
		for _, q := range l.list {
			if q == "" || q[0] == '^' || !sendable(q, 200) || seen[q] || l.field == "legacyQueries" && strings.Contains(q, "^") {
				return bad(l.field, `each once, printable ASCII without | ~ \ &, at most 200 characters; queries begin with a code`)
			}
			seen[q] = true
		}
	}
	return nil
}

var versions = set("2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8")

// sendable reports whether a setting can stand in a field as it is: component separators are meant.
func sendable(s string, most int) bool {
	return len(s) <= most && !strings.ContainsAny(s, `|~\&`) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f })
}
