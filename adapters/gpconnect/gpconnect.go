// Package gpconnect reads one general practice by GP Connect Access Record: Structured, and converts what it says from FHIR STU3 to R4.
//
// A record is one answer to one request: POST Patient/$gpc.getstructuredrecord with the NHS number and the areas of the record in its body, the
// Spine's headers, and a token that names the practitioner who asks. The request goes to the practice's own address, or through the Spine Secure
// Proxy to it, which is a setting and nothing else: what is sent and what is read is the same.
//
// A practice gives one List for each area that was asked for, also where it holds nothing. A List that does not come, or that says that items are held
// back, in transit or not yet filed, makes the answer one in part, and the part says which area: nothing is missing in silence (H-01, H-10, H-11).
//
// GP Connect is for direct care by a practitioner. A request of the person themselves names no practitioner, so the practice is not asked, and its
// record is withheld: the person sees it in the practice's own service.
package gpconnect

import (
	"context"
	"strconv"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/gpconnect/stu3"
	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Adapter is the kind and version that replies carry. The version changes when the same answers of a custodian would be read differently.
const Adapter = "gpconnect/2"

// interaction names the operation to the Spine.
const interaction = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"

// Source reads one practice. It is safe for concurrent use.
type Source struct {
	settings Settings
	client   *wire.Client // of what is asked: the practice, or the proxy
	practice *wire.Client // of the practice's address, which is where its own links lead; asked only where there is no proxy
	target   wire.Target
	base     string // the practice's FHIR address
	now      func() time.Time
}

var _ broker.Source = (*Source)(nil)

// New makes the source. It asks the practice nothing. The error names a setting and says what to give.
func New(s Settings) (*Source, error) {
	s = s.WithDefaults()
	if err := s.check(); err != nil {
		return nil, err
	}
	practice, err := wire.New(s.Connection) // also to hear what is wrong with baseURL
	if err != nil {
		return nil, err //nolint:wrapcheck // names the setting already
	}
	src := &Source{settings: s, client: practice, practice: practice, base: practice.Base(), now: time.Now}
	if s.ProxyURL == "" {
		src.target = practice.At("Patient", "$gpc.getstructuredrecord")
		return src, nil
	}
	c := s.Connection
	c.BaseURL = s.ProxyURL
	if src.client, err = wire.New(c); err != nil {
		return nil, renamed(err)
	}
	if src.target, err = src.client.Through(s.BaseURL, s.AllowPlainHTTP, "Patient", "$gpc.getstructuredrecord"); err != nil {
		return nil, err //nolint:wrapcheck // names the setting already
	}
	return src, nil
}

// renamed gives an error about the proxy's address the name of its setting.
func renamed(err error) error {
	if e, ok := err.(*wire.SettingError); ok && e.Field == "baseURL" { //nolint:errorlint // New returns it as it is
		return &wire.SettingError{Field: "proxyURL", Want: e.Want}
	}
	return err
}

// Close closes idle connections. Fetches that are under way end with their own contexts.
func (s *Source) Close() { s.client.Close() }

// Fetch implements broker.Source.
func (s *Source) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	reply, err := s.fetch(ctx, q)
	if err != nil {
		return broker.Reply{}, inTime(ctx, err)
	}
	return reply, nil
}

// fetch is one call of Fetch, in order: who asks, ask, whose answer is it, what does it say of itself, convert.
func (s *Source) fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	switch {
	case q.Purpose == record.PatientAccess || q.Requester.Kind == record.Person:
		return broker.Reply{}, broker.ErrWithheld
	case q.Requester.User == "" || !q.Requester.Organisation.Valid():
		return broker.Reply{}, broker.ErrUnauthorised // nobody whom a practice could write down: no practice would answer
	}
	lim := limits(q.Limits)
	asked := s.wanted(q)
	budget := wire.NewBudget(lim.Bytes, lim.Ratio, lim.Take)
	entries, err := s.ask(ctx, q, lim, asked, budget)
	if err != nil {
		return broker.Reply{}, err
	}
	if err := about(entries, q.Subject); err != nil {
		return broker.Reply{}, err
	}
	entries, parts := hear(entries, asked, s.settings.Areas)
	converted, err := stu3.Convert(entries, s.base, stu3.Limits{Bytes: max(lim.Bytes-budget.Used(), 1), StringBytes: lim.StringBytes, Depth: lim.Depth, Take: lim.Take})
	if err != nil {
		return broker.Reply{}, conversionError(err)
	}
	if len(converted.Entries) > lim.Resources {
		return broker.Reply{}, broker.ErrTooMuch
	}
	for _, e := range converted.Entries {
		if len(e.Resource.Raw()) > lim.ResourceBytes {
			return broker.Reply{}, broker.ErrTooMuch
		}
	}
	did := []string{stu3.Version}
	if converted.Unmapped > 0 {
		did = append(did, strconv.Itoa(converted.Unmapped)+" elements or resources could not be converted and are kept as unmapped")
	}
	if converted.LeftOut > 0 {
		parts = append(parts, record.Part{Reason: record.PartUnreadable, Count: converted.LeftOut})
	}
	return broker.Reply{Base: s.base, Entries: converted.Entries, Parts: parts, Bytes: budget.Used() + converted.Bytes, Adapter: Adapter, Conversions: did}, nil
}

// ask sends the one request and returns the resources of the answer.
func (s *Source) ask(ctx context.Context, q broker.Query, lim broker.Limits, asked []area, budget *wire.Budget) ([]fhirjson.Entry, error) {
	jwt, err := token(s.settings, s.base, q.Requester, s.now())
	if err != nil {
		return nil, broker.ErrMalformed
	}
	header := map[string]string{
		"Authorization": "Bearer " + jwt, "Ssp-TraceID": wire.RequestID(q.RequestID), "Ssp-From": s.settings.FromASID, "Ssp-To": s.settings.ToASID,
		"Ssp-InteractionID": interaction,
	}
	for _, name := range [...]string{"traceparent", "tracestate"} { // never baggage, whatever the query holds
		if v := q.Trace[name]; v != "" {
			header[name] = v
		}
	}
	a, err := s.client.Do(ctx, wire.Request{Target: s.target, Body: parameters(q.Subject.Number.Reveal(), asked), FHIR: wire.STU3, Header: header}, budget)
	if err != nil {
		return nil, sentinel.OfWire(err)
	}
	if a.Trouble() != nil {
		return nil, statusError(a)
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{Depth: lim.Depth, StringBytes: lim.StringBytes})
	if err != nil {
		return nil, sentinel.OfText(err)
	}
	return s.read(d.Root(), lim)
}

// read takes the resources out of an answer. An entry that is a resource itself, without "resource" around it, as NHS England's own diary example
// has them, is taken as what it is; one that is neither means that the answer cannot be read.
func (s *Source) read(root fhirjson.Value, lim broker.Limits) ([]fhirjson.Entry, error) {
	if e := said(root); e != nil { // an error with status 200
		return nil, e
	}
	if !root.Get("resourceType").Is("Bundle") || !root.Get("type").Is("collection") && !root.Get("type").Is("searchset") {
		return nil, broker.ErrMalformed
	}
	next, err := fhirjson.Next(root)
	if err != nil {
		return nil, broker.ErrMalformed
	}
	if next != "" {
		if _, ours := s.practice.Pin(next); !ours {
			return nil, broker.ErrElsewhere
		}
		return nil, broker.ErrMalformed // the operation has no pages: what came is not all
	}
	list := root.Get("entry")
	if root.Variant("entry") || list.Exists() && list.Kind() != fhirjson.Array {
		return nil, broker.ErrMalformed
	}
	out := make([]fhirjson.Entry, 0, list.Len())
	for e := range list.Elems() {
		r := e.Get("resource")
		if !r.Exists() && e.Get("resourceType").Kind() == fhirjson.String {
			r = e
		}
		if r.Kind() != fhirjson.Object || r.Get("resourceType").View() == "" || r.Get("id").Exists() && r.Get("id").Kind() != fhirjson.String {
			return nil, broker.ErrMalformed
		}
		if len(r.Raw()) > lim.ResourceBytes || len(out) >= lim.Resources {
			return nil, broker.ErrTooMuch
		}
		out = append(out, fhirjson.Entry{FullURL: e.Get("fullUrl").View(), Resource: r})
	}
	return out, nil
}

// hear takes what the answer says of its own completeness, and leaves out the outcomes that say nothing else.
func hear(entries []fhirjson.Entry, asked []area, configured []string) ([]fhirjson.Entry, []record.Part) {
	h := heard{lists: map[string]bool{}, unsupported: map[string]bool{}}
	out := entries[:0:0]
	for _, e := range entries {
		if !h.listen(e.Resource) {
			out = append(out, e)
		}
	}
	return out, h.finish(asked, configured)
}

// limits returns l with the defaults of R-7 where nothing is set.
func limits(l broker.Limits) broker.Limits {
	d := broker.DefaultLimits
	l.Bytes, l.Resources, l.Pages, l.ResourceBytes = positive(l.Bytes, d.Bytes), positive(l.Resources, d.Resources), positive(l.Pages, d.Pages), positive(l.ResourceBytes, d.ResourceBytes)
	l.StringBytes, l.Depth, l.Ratio = positive(l.StringBytes, d.StringBytes), positive(l.Depth, d.Depth), positive(l.Ratio, d.Ratio)
	return l
}

func positive[T int | int64](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}
