package fhirr4

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// search is one search by type.
type search struct {
	typ, param string
	include    []string
	revinclude []string
	iterate    bool // the server follows every reference: let it follow those of what it included, too
}

// searches reads the record type by type, a few at a time. A search that the custodian refuses makes a part, unless it refuses them all;
// anything else that goes wrong is the custodian's trouble as a whole. known says whether the list is what the custodian itself offers.
func (f *fetch) searches(ctx context.Context, found patient, o offer, known bool) ([]fhirjson.Entry, []record.Part, error) {
	list := slices.DeleteFunc(slices.Clone(o.searches), func(s search) bool { return !f.wants(s.typ) })
	results := f.run(ctx, found, list)

	var entries []fhirjson.Entry
	var parts []record.Part
	var first error
	answered := 0
	for i, r := range results {
		var no *refusal
		switch {
		case r.err == nil:
			answered++
			entries = append(entries, r.found.entries...)
			if r.found.short(list[i].typ) {
				parts = append(parts, record.Part{Source: list[i].typ, Reason: record.PartTruncated})
			}
		case !errors.As(r.err, &no):
			return nil, nil, r.err
		default:
			if first == nil || errors.Is(first, broker.ErrWithheld) { // trouble with one says more of the custodian than that another is withheld
				first = r.err
			}
			switch {
			case no.unsupported && !no.doubt && !known: // a type that the server does not have holds nothing
			case errors.Is(no, broker.ErrNoRecord):
				answered++
			case errors.Is(no, broker.ErrWithheld):
				parts = append(parts, record.Part{Source: list[i].typ, Reason: record.PartWithheld})
			default:
				parts = append(parts, record.Part{Source: list[i].typ, Reason: record.PartSourceDown})
			}
		}
	}
	if answered == 0 && first != nil {
		return nil, nil, first
	}
	return withoutRepeats(entries), parts, nil
}

type result struct {
	found searchset
	err   error
}

// run runs the searches and returns their results in order. The first trouble that is no refusal cuts the others short.
func (f *fetch) run(ctx context.Context, found patient, list []search) []result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make([]result, len(list))
	next := make(chan int)
	var trouble error // the first that is no refusal: those cut short by it say less
	var once sync.Once
	var workers sync.WaitGroup
	for range min(f.source.settings.Parallel, len(list)) {
		workers.Go(func() {
			for i := range next {
				var all searchset
				err := broker.Safely(func() (err error) { all, err = f.search(ctx, found, list[i]); return err })
				results[i] = result{all, err}
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

// search reads one type, with what it refers to where the custodian offers that.
func (f *fetch) search(ctx context.Context, found patient, s search) (searchset, error) {
	if err := ctx.Err(); err != nil {
		return searchset{}, broker.ErrTimedOut
	}
	form := url.Values{s.param: {"Patient/" + found.id}, "_count": {strconv.Itoa(f.source.settings.Count)}}
	if len(s.include) > 0 {
		form["_include"] = s.include
	}
	if len(s.revinclude) > 0 {
		form["_revinclude"] = s.revinclude
	}
	if s.iterate {
		form["_include:iterate"] = s.include
	}
	all, err := f.pages(ctx, wire.Request{Target: f.source.client.At(s.typ, "_search"), Form: form.Encode(), ID: f.id, Header: f.header})
	if err != nil {
		return searchset{}, err
	}
	return all, f.aboutThem(all.entries, found)
}

// withoutRepeats drops an included resource that came before, or comes as a match, with the same bytes: we asked for it several times. What
// the custodian repeats of its own accord, or with other bytes, stays for the merge to fold and count.
func withoutRepeats(entries []fhirjson.Entry) []fhirjson.Entry {
	had := map[string][]byte{}
	key := func(e fhirjson.Entry) string {
		return e.Resource.Get("resourceType").Text() + "/" + e.Resource.Get("id").Text() + " " + e.FullURL
	}
	for _, e := range entries {
		if e.Mode != "include" {
			had[key(e)] = e.Resource.Raw()
		}
	}
	return slices.DeleteFunc(entries, func(e fhirjson.Entry) bool {
		if e.Mode != "include" {
			return false
		}
		k := key(e)
		if before, ok := had[k]; ok && string(before) == string(e.Resource.Raw()) {
			return true
		}
		had[k] = e.Resource.Raw()
		return false
	})
}
