// Package pds asks the Personal Demographics Service about an NHS number, by its FHIR API (NHSDigital/personal-demographics-service-api, read
// in November 2026).
//
// PDS knows one way to ask: GET Patient/{NHS number}. It is one of the named exceptions of design R-8; the address is never logged, traced or
// put into an error.
package pds

import (
	"context"
	"net/http"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Adapter is the kind and version of this reading of PDS.
const Adapter = "pds/1"

// maxBytes caps one Patient. Published samples have up to 11 KB.
const maxBytes = 1 << 20

// Settings of the demographics service of kind pds. Besides its own, it has those of wire.Connection: baseURL, allowPlainHTTP, caFile,
// certificateFile, keyFile, bearerFile, maxConnections. baseURL ends in /personal-demographics/FHIR/R4.
type Settings struct {
	wire.Connection `yaml:",inline"`
	// EndUserOrganisation is sent as NHSD-End-User-Organisation-ODS: the ODS code of the organisation on whose behalf is asked. Default: not sent.
	EndUserOrganisation string `yaml:"endUserOrganisation"`
	// SessionURID is sent as NHSD-Session-URID: the role profile id under which is asked, where access is by user. Default: not sent.
	SessionURID string `yaml:"sessionURID"`
}

// WithDefaults returns s with defaults where nothing is set.
func (s Settings) WithDefaults() Settings {
	s.Connection = s.Connection.WithDefaults()
	return s
}

// Tracer asks PDS. It is safe for concurrent use.
type Tracer struct {
	client *wire.Client
	header map[string]string
}

var _ broker.Tracer = (*Tracer)(nil)

// New makes the tracer. It asks nothing. The error names a setting and says what to give.
func New(s Settings) (*Tracer, error) {
	s = s.WithDefaults()
	header := map[string]string{}
	if s.EndUserOrganisation != "" {
		if !record.ODSCode(s.EndUserOrganisation).Valid() {
			return nil, &wire.SettingError{Field: "endUserOrganisation", Want: "an ODS code: 3 to 10 upper-case letters and digits"}
		}
		header["NHSD-End-User-Organisation-ODS"] = s.EndUserOrganisation
	}
	if s.SessionURID != "" {
		if !digits(s.SessionURID) || len(s.SessionURID) > 20 {
			return nil, &wire.SettingError{Field: "sessionURID", Want: "a role profile id: digits, at most 20"}
		}
		header["NHSD-Session-URID"] = s.SessionURID
	}
	client, err := wire.New(s.Connection)
	if err != nil {
		return nil, err //nolint:wrapcheck // names the setting already
	}
	return &Tracer{client, header}, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Close closes idle connections.
func (t *Tracer) Close() { t.client.Close() }

// Trace implements broker.Tracer. It makes exactly one request.
func (t *Tracer) Trace(ctx context.Context, number record.NHSNumber, requestID string) (record.Subject, error) {
	if number.IsZero() {
		return record.Subject{}, broker.ErrMalformed
	}
	target := t.client.At("Patient", number.Reveal())
	a, err := t.client.Do(ctx, wire.Request{Target: target, ID: wire.RequestID(requestID), Header: t.header}, wire.NewBudget(maxBytes, 100, nil))
	if err != nil {
		return record.Subject{}, sentinel.OfWire(err)
	}
	if a.Status == http.StatusNotFound {
		return notFound(a, number)
	}
	if trouble := a.Trouble(); trouble != nil {
		return record.Subject{}, sentinel.OfWire(trouble)
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{})
	if err != nil {
		return record.Subject{}, broker.ErrMalformed
	}
	return read(d.Root(), number)
}

// notFound tells the two kinds of 404 apart. A 404 that does not say which is no answer about the number: a wrong base address gives one too.
func notFound(a wire.Answer, number record.NHSNumber) (record.Subject, error) {
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{})
	if err != nil || !d.Root().Get("resourceType").Is("OperationOutcome") {
		return record.Subject{}, broker.ErrMalformed
	}
	for code := range d.Root().Each("issue.details.coding.code") {
		switch code.Text() {
		case "RESOURCE_NOT_FOUND":
			return record.Subject{Number: number, Standing: record.Unknown}, nil
		case "INVALIDATED_RESOURCE":
			return record.Subject{Number: number, Standing: record.Invalidated}, nil
		}
	}
	return record.Subject{}, broker.ErrMalformed
}
