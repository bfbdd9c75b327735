// Package socialcare reads one council's case-management system over its JSON API, behind OAuth 2.0 client credentials.
//
// There is no national API: each supplier and each council has names of its own. What stands where, and what it is in FHIR R4, is a mapping file; a
// second council is another file. The code knows pages, tokens, identity and dates, and seven types that social care becomes: CareTeam, CarePlan,
// EpisodeOfCare, Flag, RelatedPerson, QuestionnaireResponse, DocumentReference. MAPPING.md is the file's manual.
//
// The person is found by POST with the NHS number in a form, and must carry that number. Each configured collection is then read page by page,
// below the configured address only. A word that the mapping does not have is not guessed: the element says unknown, and the word stands beside it. A
// member that the mapping does not know is kept in an extension.
//
// A reply is whole or an error, but for a council that refuses some of several collections, and one that does not have the page that it says follows: what is missing
// is named in the parts.
package socialcare

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Adapter is the kind and version that replies carry. The version changes when the same answers of a custodian would be read differently.
const Adapter = "socialcare/3"

// Source reads one custodian. It is safe for concurrent use.
type Source struct {
	settings Settings
	mapping  *mapping
	client   *wire.Client
	tokens   *tokens
}

var _ broker.Source = (*Source)(nil)

// New makes the source. It asks the custodian nothing. The error names a setting and says what to give.
func New(s Settings) (*Source, error) {
	s = s.WithDefaults()
	if err := s.check(); err != nil {
		return nil, err
	}
	m, err := load(s.MappingFile)
	if err != nil {
		return nil, &wire.SettingError{Field: "mappingFile", Want: "a mapping that MAPPING.md describes; " + err.Error()}
	}
	client, err := wire.New(s.Connection)
	if err != nil {
		return nil, err //nolint:wrapcheck // names the setting already
	}
	t, err := newTokens(s)
	if err != nil {
		return nil, err
	}
	return &Source{settings: s, mapping: m, client: client, tokens: t}, nil
}

// Close closes idle connections. Fetches that are under way end with their own contexts.
func (s *Source) Close() {
	s.client.Close()
	s.tokens.close()
}

// Fetch implements broker.Source.
func (s *Source) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	reply, err := s.newFetch(q).fetch(ctx)
	if err != nil {
		return broker.Reply{}, inTime(ctx, err)
	}
	return reply, nil
}

// fetch is one call of Fetch: what was asked, and how much may still be read. Collections are read at once, so it locks.
type fetch struct {
	*Source
	query  broker.Query
	limits broker.Limits
	budget *wire.Budget

	mu        sync.Mutex
	seen      map[visit]bool
	resources int
}

// visit is one page that was asked for.
type visit struct {
	target wire.Target
	form   string
}

func (s *Source) newFetch(q broker.Query) *fetch {
	l, d := q.Limits, broker.DefaultLimits
	l.Bytes, l.Resources, l.Pages, l.ResourceBytes = or(l.Bytes, d.Bytes), or(l.Resources, d.Resources), or(l.Pages, d.Pages), or(l.ResourceBytes, d.ResourceBytes)
	l.StringBytes, l.Depth, l.Ratio = or(l.StringBytes, d.StringBytes), or(l.Depth, d.Depth), or(l.Ratio, d.Ratio)
	return &fetch{Source: s, query: q, limits: l, budget: wire.NewBudget(l.Bytes, l.Ratio, l.Take), seen: map[visit]bool{}}
}

func or[T int | int64](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}

// fetch finds the person, reads the collections, and brings them together.
func (f *fetch) fetch(ctx context.Context) (broker.Reply, error) {
	patient, id, err := f.find(ctx)
	if err != nil {
		return broker.Reply{}, err
	}
	head := &batch{f: f, out: []byte{'['}}
	if err := head.add(patient, subjectURL); err != nil {
		return broker.Reply{}, err
	}
	batches := []*batch{head}
	var parts []record.Part
	if t := f.query.Types; !(len(t) == 1 && t[0] == "Patient") {
		results := f.run(ctx, id)
		answered := false
		for i, r := range results {
			refused, is := errors.AsType[*refusal](r.err)
			switch source := f.mapping.Collections[i].Name; {
			case r.err == nil:
				answered = true
				batches = append(batches, r.batch)
				if r.batch.cut {
					parts = append(parts, record.Part{Source: source, Reason: record.PartTruncated})
				}
			case !is:
				return broker.Reply{}, r.err
			case errors.Is(refused, broker.ErrNoRecord): // nothing of this kind
				answered = true
			case errors.Is(refused, broker.ErrWithheld):
				parts = append(parts, record.Part{Source: source, Reason: record.PartWithheld})
			default:
				parts = append(parts, record.Part{Source: source, Reason: record.PartSourceDown})
			}
		}
		if !answered { // all are refused
			worst := results[0].err
			for _, r := range results { // trouble with one says more of the custodian than that another is withheld
				if errors.Is(worst, broker.ErrWithheld) {
					worst = r.err
				}
			}
			refused, _ := errors.AsType[*refusal](worst)
			return broker.Reply{}, refused
		}
	}
	var entries []fhirjson.Entry
	for _, b := range batches {
		more, err := b.entries()
		if err != nil {
			return broker.Reply{}, err
		}
		entries = append(entries, more...)
	}
	return broker.Reply{Base: f.client.Base(), Entries: entries, Parts: parts, Bytes: f.budget.Used(), Adapter: Adapter, Conversions: conversions}, nil
}

// find asks for the person by NHS number, in a body. One person may come back, and must carry that number.
func (f *fetch) find(ctx context.Context) (*item, string, error) {
	p := &f.mapping.Person
	d, err := f.ask(ctx, wire.Request{Target: f.client.At(strings.Split(p.Search, "/")...), Form: url.Values{p.Parameter: {f.query.Subject.Number.Reveal()}}.Encode()})
	if err != nil {
		return nil, "", err
	}
	found := get(d.Root(), p.Items)
	if found.Kind() == fhirjson.Object {
		// the person, not a list
	} else if found.Kind() != fhirjson.Array {
		return nil, "", broker.ErrMalformed
	} else if n := found.Len(); n == 0 {
		return nil, "", broker.ErrNoRecord
	} else if n > 1 {
		return nil, "", broker.ErrWrongSubject // two registrations of one number, or somebody else: which is meant is not known
	}
	v := found.First()
	n, err := nhsNumber(get(v, p.Number))
	if err != nil || n != f.query.Subject.Number {
		return nil, "", broker.ErrWrongSubject
	}
	id, ok := scalar(get(v, p.ID))
	if !ok || len(id) > 128 || record.HoldsNHSNumber(id) || strings.Contains(strings.NewReplacer("-", "", ".", "", " ", "").Replace(id), n.Reveal()) {
		return nil, "", broker.ErrMalformed // a number of the council's own stands in addresses: it may not hold the NHS number
	}
	it, err := f.mapping.patient(v, n)
	return it, id, err
}

// ask reads one answer.
func (f *fetch) ask(ctx context.Context, req wire.Request) (*fhirjson.Doc, error) {
	v := visit{req.Target, req.Form}
	f.mu.Lock()
	again, over := f.seen[v], len(f.seen) >= f.limits.Pages
	f.seen[v] = true
	f.mu.Unlock()
	switch {
	case again:
		return nil, broker.ErrMalformed // its pages run in a circle
	case over:
		return nil, broker.ErrTooMuch
	}
	req.Accept = "application/json"
	req.Header = map[string]string{"X-Request-ID": wire.RequestID(f.query.RequestID)}
	for _, name := range [...]string{"traceparent", "tracestate"} {
		if v := f.query.Trace[name]; v != "" {
			req.Header[name] = v
		}
	}
	token, err := f.tokens.header(ctx)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header["Authorization"] = token
	}
	a, err := f.client.Do(ctx, req, f.budget)
	if err != nil {
		return nil, sentinel.OfWire(err)
	}
	if a.Trouble() != nil {
		err := f.mapping.statusError(a)
		if a.Status == http.StatusUnauthorized && errors.Is(err, broker.ErrUnauthorised) { // 403 says that the token is known, and may not ask for this
			f.tokens.refused(token)
		}
		return nil, err
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{Depth: f.limits.Depth, StringBytes: f.limits.StringBytes})
	if err != nil {
		return nil, sentinel.OfText(err)
	}
	return d, nil
}

type result struct {
	batch *batch
	err   error
}

// run reads the collections, a few at a time, and returns them in order. The first trouble that is no refusal cuts the others short.
func (f *fetch) run(ctx context.Context, id string) []result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := f.mapping.Collections
	results := make([]result, len(list))
	next := make(chan int)
	var trouble error
	var once sync.Once
	var workers sync.WaitGroup
	for range min(f.settings.Parallel, len(list)) {
		workers.Go(func() {
			for i := range next {
				var b *batch
				err := broker.Safely(func() (err error) { b, err = f.collection(ctx, list[i], id); return err })
				results[i] = result{b, err}
				if _, refused := errors.AsType[*refusal](err); err != nil && !refused {
					once.Do(func() { trouble = err; cancel() })
				}
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	workers.Wait()
	if trouble != nil {
		return []result{{err: trouble}}
	}
	return results
}

// collection reads one collection to its last page. A page after the first that says that there is nobody takes nothing from what came: there was more, and now there is not.
func (f *fetch) collection(ctx context.Context, c *collection, id string) (*batch, error) {
	segments := strings.Split(c.Path, "/")
	for i, s := range segments {
		segments[i] = strings.Replace(s, "{id}", id, 1)
	}
	first := f.client.At(segments...)
	b := &batch{f: f, out: []byte{'['}}
	items, theirs := 0, 0
	for target := first; ; {
		d, err := f.ask(ctx, wire.Request{Target: target})
		if target != first && errors.Is(err, broker.ErrNoRecord) {
			b.cut = true
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		list := get(d.Root(), c.Paging.Items)
		switch list.Kind() {
		case fhirjson.Array:
		case fhirjson.Null:
			list = fhirjson.Value{} // some write nothing for an empty list
		default:
			return nil, broker.ErrMalformed
		}
		for v := range list.Elems() {
			it, other, err := f.mapping.resource(c, v, id)
			if err != nil {
				return nil, err
			}
			items++
			if other {
				theirs++
			}
			if err := b.add(it, ""); err != nil {
				return nil, err
			}
		}
		if theirs > 0 && theirs == items {
			return nil, broker.ErrWrongSubject
		}
		if c.Paging.Next == "" {
			return b, nil
		}
		more, err := pageKey(get(d.Root(), c.Paging.Next))
		switch {
		case unclear(d.Root(), c.Paging.Next):
			return nil, broker.ErrMalformed
		case err != nil:
			return nil, err
		case more == "":
			return b, nil
		case c.Paging.Parameter != "":
			target = first.With(url.Values{c.Paging.Parameter: {more}})
		default:
			var ok bool
			if target, ok = f.client.Pin(more); !ok {
				return nil, broker.ErrElsewhere
			}
		}
		if target.Holds(f.query.Subject.Number.Reveal()) {
			return nil, broker.ErrMalformed
		}
	}
}

// batch is resources that were made, and their addresses.
type batch struct {
	f    *fetch
	out  []byte
	urls []string
	cut  bool // there was more, and it did not come
}

// add writes a resource, within the caps.
func (b *batch) add(it *item, url string) error {
	text := it.bytes()
	b.f.mu.Lock()
	b.f.resources++
	over := b.f.resources > b.f.limits.Resources
	b.f.mu.Unlock()
	if over || len(text) > b.f.limits.ResourceBytes || !b.f.budget.Take(len(text)) {
		return broker.ErrTooMuch
	}
	b.out = append(append(b.out, text...), ',')
	b.urls = append(b.urls, url)
	return nil
}

// entries indexes what was written.
func (b *batch) entries() ([]fhirjson.Entry, error) {
	if len(b.urls) == 0 {
		return nil, nil
	}
	b.out[len(b.out)-1] = ']'
	d, err := fhirjson.Parse(b.out, fhirjson.Limits{Depth: b.f.limits.Depth + 1, StringBytes: b.f.limits.StringBytes})
	if err != nil {
		return nil, sentinel.OfText(err)
	}
	entries := make([]fhirjson.Entry, 0, len(b.urls))
	for r := range d.Root().Elems() {
		entries = append(entries, fhirjson.Entry{FullURL: b.urls[len(entries)], Resource: r})
	}
	return entries, nil
}
