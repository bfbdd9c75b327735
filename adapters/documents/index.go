package documents

import (
	"context"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// IndexSettings are those of a custodian's locator with adapter documents: the National Record Locator, or a registry of the custodian's own.
type IndexSettings struct {
	wire.Connection `yaml:",inline"`
	// Locator, Custodians and EndUserOrganisation are those of Settings.
	Locator             string   `yaml:"locator"`
	Custodians          []string `yaml:"custodians"`
	EndUserOrganisation string   `yaml:"endUserOrganisation"`
	// MarkerNumber is the NHS number of a test person under whom the custodian renews a pointer each time it has brought the index up to date: when that
	// pointer was last changed (meta.lastUpdated, which the index itself stamps) tells how fresh the index is. Of the test range. Required.
	MarkerNumber string `yaml:"markerNumber"`
	// MarkerTypes are the SNOMED CT codes of the types of document that the custodian lists: there must be a pointer of each under the marker's number. The
	// National Record Locator shows an organisation the types that it may see, and what it may not see must not be taken for nothing. Required with nrl.
	MarkerTypes []string `yaml:"markerTypes"`
}

// WithDefaults returns s with defaults where nothing is set.
func (s IndexSettings) WithDefaults() IndexSettings {
	full := s.settings().WithDefaults()
	s.Connection, s.Locator = full.Connection, full.Locator
	return s
}

func (s IndexSettings) settings() Settings {
	return Settings{Connection: s.Connection, Locator: s.Locator, Custodians: s.Custodians, EndUserOrganisation: s.EndUserOrganisation}
}

// Index says of whom a custodian has listed anything. It reads no document. It is safe for concurrent use.
type Index struct {
	source *Source
	marker record.NHSNumber
	types  []string
}

var _ broker.Index = (*Index)(nil)

// NewIndex makes the index. It asks nobody. The error names a setting and says what to give.
func NewIndex(s IndexSettings) (*Index, error) {
	marker, err := record.ParseNHSNumber(s.MarkerNumber)
	if err != nil || !marker.IsTest() {
		return nil, &wire.SettingError{Field: "markerNumber", Want: "the number of a test person, 999 000 0000 up, under whom the custodian renews a pointer whenever it has brought the index up to date"}
	}
	source, err := New(s.settings())
	if err != nil {
		return nil, err
	}
	if len(s.MarkerTypes) == 0 && source.settings.Locator == LocatorNRL || len(s.MarkerTypes) > maxTypes {
		return nil, &wire.SettingError{Field: "markerTypes", Want: "the SNOMED CT codes, at most 20, of the types of document that the custodian lists"}
	}
	return &Index{source, marker, s.MarkerTypes}, nil
}

// maxTypes is how many types of document a custodian may list.
const maxTypes = 20

// Close closes idle connections.
func (x *Index) Close() { x.source.Close() }

// Locate implements broker.Index. It asks about the marker's number too, because neither the locator nor a registry says by itself how far behind its
// custodian is: that a search was answered just now tells nothing of when the custodian last had its say.
func (x *Index) Locate(ctx context.Context, q broker.Query) (broker.Located, error) {
	began := time.Now()
	type answer struct {
		asOf time.Time
		err  error
	}
	marked := make(chan answer, 1)
	limits := limits(q.Limits)
	budget := wire.NewBudget(limits.Bytes, limits.Ratio, limits.Take) // of both questions
	go func() {
		var a answer
		a.err = broker.Safely(func() (err error) { a.asOf, err = x.renewed(ctx, q, limits, budget); return err })
		marked <- a
	}()
	listed, err := x.listed(ctx, q, limits, budget)
	marker := <-marked // it ends with ctx
	if err == nil {
		err = marker.err
	}
	if err != nil {
		return broker.Located{}, inTime(ctx, err)
	}
	if marker.asOf.After(began) {
		if marker.asOf.After(began.Add(skew)) {
			return broker.Located{}, broker.ErrMalformed // nothing was written in the future
		}
		marker.asOf = began
	}
	return broker.Located{Listed: listed, AsOf: marker.asOf}, nil
}

// skew is how much clocks may differ.
const skew = 5 * time.Minute

// listed reports whether something about the person is listed under one of the custodian's organisations. No is said only by an answer that is clear: read
// to its end, without a warning, without pointers that were not asked for, and without a count of some that are not there.
func (x *Index) listed(ctx context.Context, q broker.Query, limits broker.Limits, budget *wire.Budget) (bool, error) {
	f := &fetch{Source: x.source, query: q, limits: limits, budget: budget}
	err := f.search(ctx, true)
	asked := x.source.settings.Locator == LocatorNRL // by organisation, so that nothing of another's may come
	switch {
	case err != nil:
		return false, err
	case len(f.pointers) > 0:
		return true, nil
	case f.warnings > 0 || f.short || asked && f.others > 0:
		return false, broker.ErrMalformed
	}
	return false, nil
}

// renewed is when the newest pointer about the marker's number was last changed, and of several organisations and types the one that is furthest behind; zero if
// there is none of one, or it does not say.
func (x *Index) renewed(ctx context.Context, q broker.Query, limits broker.Limits, budget *wire.Budget) (time.Time, error) {
	q.Subject = record.Subject{Number: x.marker}
	f := &fetch{Source: x.source, query: q, limits: limits, budget: budget}
	if err := f.search(ctx, false); err != nil {
		return time.Time{}, err
	}
	organisations, types := orAny(x.source.settings.Custodians), orAny(x.types)
	var oldest time.Time
	for i, organisation := range organisations {
		for k, code := range types {
			of := newestOf(f.pointers, func(r fhirjson.Value) bool {
				return (organisation == "" || r.Get("custodian").Get("identifier").Get("value").Is(organisation)) && (code == "" || ofType(r, code))
			})
			if i+k == 0 || of.Before(oldest) {
				oldest = of
			}
		}
	}
	return oldest, nil
}

// orAny is a list, or one of nothing in particular where there is none.
func orAny(list []string) []string {
	if len(list) == 0 {
		return []string{""}
	}
	return list
}

// ofType reports whether a pointer is to a document of a type.
func ofType(r fhirjson.Value, code string) bool {
	for c := range r.Each("type.coding") {
		if c.Get("system").Is("http://snomed.info/sct") && c.Get("code").Is(code) {
			return true
		}
	}
	return false
}

// newestOf is when the last change was of those that are meant; zero if there is none.
func newestOf(list []pointer, meant func(fhirjson.Value) bool) (newest time.Time) {
	for _, p := range list {
		if at := changed(p.resource); at.After(newest) && meant(p.resource) {
			newest = at
		}
	}
	return newest
}

// changed is when a pointer was last changed, to the second at least; zero if it does not say.
func changed(r fhirjson.Value) time.Time {
	at, err := time.Parse(time.RFC3339Nano, r.Get("meta").Get("lastUpdated").Text())
	if err != nil {
		return time.Time{}
	}
	return at
}
