package fhirr4

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
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
// opened (hl7.org/fhir/R4/binary.html), nor one whose text is about another person.
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
	a, err := f.authorised(ctx, wire.Request{Target: target, ID: f.id, Header: f.header})
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
		return broker.Document{}, sentinel.OfText(err)
	}
	b := d.Root()
	if o := listen(b); o.isOutcome { // an error with status 200
		return broker.Document{}, o.err()
	}
	if !b.Get("resourceType").Is("Binary") {
		return broker.Document{}, broker.ErrMalformed
	}
	if err := f.permits(ctx, b.Get("securityContext")); err != nil {
		return broker.Document{}, err
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
	said, err := document.Read(ctx, body, f.limits.Depth)
	if err != nil {
		if errors.Is(err, document.ErrTooDeep) {
			return broker.Document{}, broker.ErrTooMuch
		}
		return broker.Document{}, sentinel.OfText(err) // it begins as XML or JSON, and whose it is cannot be found out
	}
	if said.About.Is(f.query.Subject) == document.Another {
		return broker.Document{}, broker.ErrWrongSubject
	}
	out := broker.Document{Bytes: body, Type: b.Get("contentType").Text()}
	for system, code := range said.Codes {
		out.Codes = append(out.Codes, broker.Code{System: system, Code: code})
	}
	return out, nil
}

// permits reports, as an error, that a security context is not the subject's. One that plainly names a resource of another type says nothing of a person; any
// other must lead to the one Patient found, and what cannot be followed (another server's, a urn, an identifier that is not the number asked for) does not.
func (f *fetch) permits(ctx context.Context, of fhirjson.Value) error {
	if !of.Exists() {
		return nil
	}
	if of.Kind() != fhirjson.Object {
		return broker.ErrMalformed
	}
	number := false
	if id := of.Get("identifier"); id.Get("system").Is(record.NHSNumberSystem) {
		if number = id.Get("value").Is(f.query.Subject.Number.Reveal()); !number {
			return broker.ErrWrongSubject
		}
	}
	kind, ref := of.Get("type").Text(), of.Get("reference").Text()
	id, isPatient := f.patientID(ref)
	switch {
	case isPatient:
		found, err := f.findPatient(ctx)
		if err != nil {
			return err
		}
		if id != found.id {
			return broker.ErrWrongSubject
		}
		return nil
	case ref == "" && number:
		return nil
	case namesOther(ref, kind):
		return nil
	}
	return broker.ErrWrongSubject
}

// namesOther reports whether a reference, or the type beside it where there is none, is of a type that is no Patient.
func namesOther(ref, kind string) bool {
	if ref == "" {
		return kind != "" && !strings.HasSuffix(kind, "Patient")
	}
	if strings.Contains(strings.ToLower(ref), "patient") {
		return false
	}
	ref, _, _ = strings.Cut(ref, "/_history/")
	parts := strings.Split(ref, "/")
	if len(parts) < 2 {
		return false // a urn, or something contained
	}
	name := parts[len(parts)-2]
	return name != "" && name[0] >= 'A' && name[0] <= 'Z' && (kind == "" || kind == name)
}
