package fhirr4

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// Opens implements the optional part of broker.Source: a Binary of this server, by its id. Other addresses below it are not opened: what a server gives there is
// not FHIR's to say.
func (s *Source) Opens(address string) bool {
	_, ok := s.binary(address)
	return ok
}

// binary is the target of an address, if that is of a Binary here.
func (s *Source) binary(address string) (wire.Target, bool) {
	target, ok := s.client.Pin(address)
	if !ok || !strings.Contains(address, "://") {
		return wire.Target{}, false
	}
	path, query, ok := s.client.Below(target)
	id, is := strings.CutPrefix(path, "Binary/")
	id, _, _ = strings.Cut(id, "/_history/")
	return target, ok && is && len(query) == 0 && id != "" && len(id) <= 64 && !strings.ContainsAny(id, "/%$_")
}

// Document reads a Binary, as FHIR and not as it is, so that what it says of itself is read too: a Binary whose security context is another Patient is not
// opened (hl7.org/fhir/R4/binary.html).
func (s *Source) Document(ctx context.Context, q broker.Query, address string) (broker.Document, error) {
	d, err := s.newFetch(q).document(ctx, address)
	if err != nil {
		return broker.Document{}, inTime(ctx, err)
	}
	return d, nil
}

func (f *fetch) document(ctx context.Context, address string) (broker.Document, error) {
	target, ok := f.source.binary(address)
	if !ok || target.Holds(f.query.Subject.Number.Reveal()) {
		return broker.Document{}, broker.ErrElsewhere
	}
	a, err := f.authorised(ctx, wire.Request{Target: target, Header: f.header})
	if err != nil {
		return broker.Document{}, err
	}
	if trouble := a.Trouble(); trouble != nil {
		if err := statusError(a); trouble.Kind != wire.Missing || errors.Is(err, broker.ErrWithheld) {
			return broker.Document{}, err
		}
		return broker.Document{}, broker.ErrNoRecord // it has gone since it was listed
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{Depth: f.limits.Depth, StringBytes: len(a.Body)})
	if err != nil {
		return broker.Document{}, textError(err)
	}
	b := d.Root()
	if o := listen(b); o.isOutcome { // an error with status 200
		return broker.Document{}, o.err()
	}
	if !b.Get("resourceType").Is("Binary") {
		return broker.Document{}, broker.ErrMalformed
	}
	if of := b.Get("securityContext").Get("reference").View(); of != "" {
		if id, isPatient := f.patientID(of); isPatient {
			found, err := f.findPatient(ctx)
			if err != nil {
				return broker.Document{}, err
			}
			if id != found.id {
				return broker.Document{}, broker.ErrWrongSubject
			}
		}
	}
	text := strings.Map(func(r rune) rune { // base64 with line breaks is allowed
		if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, b.Get("data").Text())
	if b.Get("data").Kind() != fhirjson.String || text == "" || !f.budget.Take(base64.StdEncoding.DecodedLen(len(text))) {
		return broker.Document{}, broker.ErrMalformed
	}
	body, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return broker.Document{}, broker.ErrMalformed
	}
	return broker.Document{Bytes: body, Type: b.Get("contentType").Text()}, nil
}
