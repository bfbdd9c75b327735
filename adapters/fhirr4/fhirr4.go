// Package fhirr4 reads one custodian that is a FHIR R4 server.
//
// A record is fetched in two steps. The person is found by POST Patient/_search with their NHS number, and the Patient that comes back must
// carry that number. Then either Patient/{id}/$everything is read, where the custodian's CapabilityStatement offers it, or every type for
// which it offers a search by patient is searched. Pages are followed only below the configured address, no page twice.
//
// The NHS number travels in request bodies only (design R-8). Where the custodian's own Patient id holds it, $everything would put it into
// an address, so such a person's record is searched by type instead, and a next link that holds it is asked as a search with a body.
//
// A reply is whole or an error, but for a custodian that refuses some of several searches, and one that sends less than it says that there is, or not the page that
// it says follows: what is missing is named in broker.Reply.Parts.
package fhirr4

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Adapter is the kind and version that replies carry. The version changes when the same answers of a custodian would be read differently.
const Adapter = "fhirr4/3"

// Source reads one custodian. It is safe for concurrent use.
type Source struct {
	settings  Settings
	client    *wire.Client
	tokens    *tokens // nil where none are asked for
	statement *statementCache

	search wire.Target // of Patients
	count  string      // the setting, as a query
	below  string      // with which references to its own resources begin, where they are absolute
}

var _ broker.Source = (*Source)(nil)

// New makes the source. It asks the custodian nothing. The error names a setting and says what to give.
func New(s Settings) (*Source, error) {
	s = s.WithDefaults()
	if err := s.check(); err != nil {
		return nil, err
	}
	client, err := wire.New(s.Connection)
	if err != nil {
		return nil, err //nolint:wrapcheck // names the setting already
	}
	tokens, err := newTokens(s, client)
	if err != nil {
		return nil, err
	}
	return &Source{settings: s, client: client, tokens: tokens, statement: newStatementCache(), search: client.At("Patient", "_search"), count: url.Values{"_count": {strconv.Itoa(s.Count)}}.Encode(), below: client.Base() + "/"}, nil
}

// Close closes idle connections. Fetches that are under way end with their own contexts.
func (s *Source) Close() {
	s.client.Close()
	s.tokens.close()
}

// Fetch implements broker.Source.
func (s *Source) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	f := s.newFetch(q)
	reply, err := f.fetch(ctx)
	if err != nil {
		return broker.Reply{}, inTime(ctx, err)
	}
	return reply, nil
}

// fetch is one call of Fetch, in order: find the person, read their record, bring both together.
func (f *fetch) fetch(ctx context.Context) (broker.Reply, error) {
	found, err := f.findPatient(ctx)
	if err != nil {
		return broker.Reply{}, err
	}
	var rest []fhirjson.Entry
	var parts []record.Part
	if !onlyPatient(f.query.Types) {
		if rest, parts, err = f.record(ctx, found); err != nil {
			return broker.Reply{}, err
		}
	}
	if found.short {
		parts = append(parts, record.Part{Source: "Patient", Reason: record.PartTruncated})
	}
	entries, err := f.together(found, rest)
	if err != nil {
		return broker.Reply{}, err
	}
	return broker.Reply{Base: f.source.client.Base(), Entries: entries, Parts: parts, Bytes: f.budget.Used(), Adapter: Adapter}, nil
}

func onlyPatient(types []string) bool { return len(types) == 1 && types[0] == "Patient" }

// record reads all but the Patient: by $everything where it is offered and its address would hold no NHS number, else by type.
func (f *fetch) record(ctx context.Context, found patient) ([]fhirjson.Entry, []record.Part, error) {
	offered, known := f.source.capabilities(ctx)
	if f.source.settings.Everything != EverythingNever && offered.everything && !found.idTells {
		entries, parts, err := f.everything(ctx, found)
		if err == nil || !isUnsupported(err) {
			return entries, parts, err
		}
		// It says that it offers $everything, and does not know it: the searches will tell.
	}
	if len(offered.searches) == 0 { // a statement need not name what can be searched (FHIR R4 CapabilityStatement, rest 0..*), and nothing may look whole that was never asked for
		offered, known = f.source.guess(), false
	}
	return f.searches(ctx, found, offered, known)
}

// everything reads Patient/{id}/$everything. Types are not pushed down: a server need not return supporting resources of types that were not
// named, so its answer is not provably all that the broker's own filter would keep (M-12). Servers differ in whether what they say there is counts what they
// call included: there is less than they say only where it is less in either way.
func (f *fetch) everything(ctx context.Context, found patient) ([]fhirjson.Entry, []record.Part, error) {
	target := f.source.client.At("Patient", found.id, "$everything").WithEncoded(f.source.count)
	all, err := f.pages(ctx, wire.Request{Target: target, ID: f.id, Header: f.header})
	if errors.Is(err, broker.ErrNoRecord) {
		return nil, nil, broker.ErrMalformed // it holds their Patient, which was found just now: one of the two answers is wrong
	}
	if err != nil {
		return nil, nil, err
	}
	var parts []record.Part
	if all.short("") {
		parts = []record.Part{{Reason: record.PartTruncated}}
	}
	return all.entries, parts, f.aboutThem(all.entries, found)
}

// together brings what finding the person returned and the rest of the record into one list, with exactly one Patient of that id in it: the one read last,
// which is the newest. Another Patient among the rest is left for the merge to drop and count, unless the one found is not among them.
func (f *fetch) together(found patient, rest []fhirjson.Entry) ([]fhirjson.Entry, error) {
	again, others := false, false
	out := make([]fhirjson.Entry, 0, 1+len(found.outcomes)+len(rest))
	out = append(append(out, found.entry), found.outcomes...)
	for _, e := range rest {
		if !e.Resource.Get("resourceType").Is("Patient") {
			out = append(out, e)
			continue
		}
		if !e.Resource.Get("id").Is(found.id) {
			others = true
			out = append(out, e)
			continue
		}
		if !f.names(e.Resource) {
			return nil, broker.ErrWrongSubject
		}
		out[0], again = e, true
	}
	if others && !again {
		return nil, broker.ErrWrongSubject
	}
	return out, nil
}

// wants reports whether resources of a type are asked for: all are if the query names none, or names one that is found only by following
// references from others.
func (f *fetch) wants(typ string) bool {
	types := f.query.Types
	if len(types) == 0 || slices.Contains(types, typ) {
		return true
	}
	for _, t := range types {
		if _, searchable := searchable[t]; !searchable && t != "Patient" {
			return true
		}
	}
	return false
}
