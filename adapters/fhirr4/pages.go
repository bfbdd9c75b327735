package fhirr4

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// fetch is the state of one call of Fetch: what was asked, and how much may still be read. Searches run at once, so it locks.
type fetch struct {
	source *Source
	query  broker.Query
	limits broker.Limits
	id     string            // of the request
	header map[string]string // beside it; nil for none
	budget *wire.Budget
	hidden []string // texts that must not be in an address; fixed once the person is found

	mu        sync.Mutex
	seen      []visit
	resources int
	givenUp   string // the token that the custodian did not take; "" for none

	private [2]string // room for what is hidden, and for the pages that most records have
	first   [3]visit
}

// visit is one page that was asked for.
type visit struct {
	target wire.Target
	form   string
}

func (s *Source) newFetch(q broker.Query) *fetch {
	l := q.Limits
	d := broker.DefaultLimits
	l.Bytes, l.Resources, l.Pages, l.ResourceBytes = or(l.Bytes, d.Bytes), or(l.Resources, d.Resources), or(l.Pages, d.Pages), or(l.ResourceBytes, d.ResourceBytes)
	l.StringBytes, l.Depth, l.Ratio = or(l.StringBytes, d.StringBytes), or(l.Depth, d.Depth), or(l.Ratio, d.Ratio)
	var header map[string]string
	for _, name := range [...]string{"traceparent", "tracestate"} { // never baggage, whatever the query holds
		if v := q.Trace[name]; v != "" {
			if header == nil {
				header = map[string]string{}
			}
			header[name] = v
		}
	}
	f := &fetch{source: s, query: q, limits: l, id: wire.RequestID(q.RequestID), header: header, budget: wire.NewBudget(l.Bytes, l.Ratio, l.Take)}
	f.hidden, f.seen = append(f.private[:0], q.Subject.Number.Reveal()), f.first[:0]
	return f
}

func or[T int | int64](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}

// pages reads a searchset to its last page. No page is asked for twice, and no page elsewhere. A page after the first that is nobody's, or not known, takes nothing
// from what came: there was more, and now there is not.
func (f *fetch) pages(ctx context.Context, req wire.Request) (searchset, error) {
	var out searchset
	for first := true; ; first = false {
		b, total, err := f.page(ctx, req)
		if no, refused := errors.AsType[*refusal](err); refused && !first && (no.unsupported || errors.Is(no, broker.ErrNoRecord)) {
			out.cut = true
			return out, nil
		}
		if err != nil {
			return searchset{}, err
		}
		out.total, out.missing = max(out.total, total), out.missing+b.Missing
		if out.entries == nil {
			out.entries = b.Entries
		} else {
			out.entries = append(out.entries, b.Entries...)
		}
		if b.Next == "" {
			return out, nil
		}
		if req, err = f.next(b.Next); err != nil {
			return searchset{}, err
		}
	}
}

// page reads one page, and how many it says that there are on all of them.
func (f *fetch) page(ctx context.Context, req wire.Request) (fhirjson.Bundle, int, error) {
	if err := f.visit(req); err != nil {
		return fhirjson.Bundle{}, 0, err
	}
	d, err := f.ask(ctx, req)
	if err != nil {
		return fhirjson.Bundle{}, 0, err
	}
	if o := listen(d.Root()); o.isOutcome { // an error with status 200
		return fhirjson.Bundle{}, 0, o.err()
	}
	b, err := fhirjson.ReadBundle(d)
	if err != nil || b.Type != "searchset" {
		return fhirjson.Bundle{}, 0, broker.ErrMalformed
	}
	for _, e := range b.Entries {
		if len(e.Resource.Raw()) > f.limits.ResourceBytes {
			return fhirjson.Bundle{}, 0, broker.ErrTooMuch
		}
	}
	return b, fhirjson.Total(d.Root()), f.count(len(b.Entries))
}

// err is what an OperationOutcome means that came in place of a Bundle.
func (s said) err() error {
	switch {
	case s.withheld:
		return &refusal{sentinel: broker.ErrWithheld}
	case s.noPatient:
		return &refusal{sentinel: broker.ErrNoRecord}
	case s.throttled:
		return &broker.ThrottledError{}
	}
	return &refusal{sentinel: broker.ErrMalformed}
}

// ask reads one answer and indexes it.
func (f *fetch) ask(ctx context.Context, req wire.Request) (*fhirjson.Doc, error) {
	a, err := f.authorised(ctx, req)
	if err != nil {
		return nil, err
	}
	if a.Trouble() != nil {
		return nil, statusError(a)
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{Depth: f.limits.Depth, StringBytes: f.limits.StringBytes})
	if err != nil {
		return nil, sentinel.OfText(err)
	}
	return d, nil
}

// authorised asks with an access token, where the custodian wants one. A token may have been taken back before its end: a request that is refused
// with 401 is asked once again with a new one, and only one token of a fetch is given up like that. What is refused then is refused, also where
// the authorisation server gave the same token again.
func (f *fetch) authorised(ctx context.Context, req wire.Request) (wire.Answer, error) {
	a, token, err := f.source.ask(ctx, req, f.budget)
	if err != nil || token == "" || a.Status != http.StatusUnauthorized || !errors.Is(statusError(a), broker.ErrUnauthorised) || !f.giveUp(token) {
		return a, err
	}
	a, _, err = f.source.ask(ctx, req, f.budget)
	return a, err
}

// giveUp forgets a token, and reports whether another may be tried.
func (f *fetch) giveUp(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.givenUp != "" && f.givenUp != token {
		return false
	}
	f.givenUp = token
	f.source.tokens.refused(token)
	return true
}

// ask asks with an access token, which it returns; it is "" where none is needed.
func (s *Source) ask(ctx context.Context, req wire.Request, budget *wire.Budget) (wire.Answer, string, error) {
	token, err := s.tokens.bearer(ctx)
	if err != nil {
		return wire.Answer{}, "", err
	}
	if token != "" {
		if req.Header = maps.Clone(req.Header); req.Header == nil {
			req.Header = map[string]string{}
		}
		req.Header["Authorization"] = "Bearer " + token
	}
	a, err := s.client.Do(ctx, req, budget)
	if err != nil {
		return wire.Answer{}, "", sentinel.OfWire(err)
	}
	return a, token, nil
}

// visit counts a page. One that was asked for before means that the custodian's links run in a circle.
func (f *fetch) visit(req wire.Request) error {
	v := visit{req.Target, req.Form}
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.seen, v) {
		return broker.ErrMalformed
	}
	if len(f.seen) >= f.limits.Pages {
		return broker.ErrTooMuch
	}
	f.seen = append(f.seen, v)
	return nil
}

func (f *fetch) count(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resources += n; f.resources > f.limits.Resources {
		return broker.ErrTooMuch
	}
	return nil
}

// next turns a next link into a request. One that holds the person's number is asked by POST with the query as body, which FHIR R4 search
// allows for {Type}?… and nothing else (hl7.org/fhir/R4/http.html#search); if it is no such link, the custodian's answer cannot be read.
func (f *fetch) next(link string) (wire.Request, error) {
	t, ok := f.source.client.Pin(link)
	if !ok {
		return wire.Request{}, broker.ErrElsewhere
	}
	if !slices.ContainsFunc(f.hidden, t.Holds) {
		return wire.Request{Target: t, ID: f.id, Header: f.header}, nil
	}
	path, query, ok := f.source.client.Below(t)
	typ := strings.TrimSuffix(path, "/_search")
	if _, known := searchable[typ]; !ok || !known && typ != "Patient" {
		return wire.Request{}, broker.ErrMalformed
	}
	return wire.Request{Target: f.source.client.At(typ, "_search"), Form: query.Encode(), ID: f.id, Header: f.header}, nil
}
