// Package documents reads a custodian whose record is documents and pointers to them: a mental-health trust on the National Record Locator, an ambulance
// service with a registry of CDA reports (IHE MHD).
//
// Pointers are found by person, with the NHS number in a body, and become DocumentReferences as they are, but that an address which leads anywhere but below
// the configured holder is left out: it can never be asked, by us or by a reader. A pointer that is listed under another organisation is dropped and counted.
//
// A document is fetched when somebody opens it ([Source.Document]), and, where the settings say so, the newest with the record: then what can be read of CDA
// R2 and of FHIR documents (transfer of care) is shown as a Composition with sections beside the DocumentReference. A document that says it is about another
// person is neither shown nor fetched; one that says nothing which can be checked is fetched as it is.
package documents

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Adapter is the kind and version that replies carry. The version changes when the same answers of a custodian would be read differently.
const Adapter = "documents/3"

// Source reads one custodian. It is safe for concurrent use.
type Source struct {
	settings Settings
	locator  *wire.Client
	holder   *wire.Client
	proxy    *wire.Client // through which the holder is asked, nil if it is asked itself
}

var _ broker.Source = (*Source)(nil)

// New makes the source. It asks nobody. The error names a setting and says what to give.
func New(s Settings) (*Source, error) {
	s = s.WithDefaults()
	if err := s.check(); err != nil {
		return nil, err
	}
	locator, err := wire.New(s.Connection)
	if err != nil {
		return nil, err //nolint:wrapcheck // names the setting already
	}
	holder, err := s.holder()
	if err != nil {
		return nil, err
	}
	proxy, err := s.proxy()
	if err != nil {
		return nil, err
	}
	return &Source{s, locator, holder, proxy}, nil
}

// Close closes idle connections. Fetches that are under way end with their own contexts.
func (s *Source) Close() {
	s.locator.Close()
	s.holder.Close()
	if s.proxy != nil {
		s.proxy.Close()
	}
}

// Fetch implements broker.Source.
func (s *Source) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	f := &fetch{Source: s, query: q, limits: limits(q.Limits)}
	f.budget = wire.NewBudget(f.limits.Bytes, f.limits.Ratio, f.limits.Take)
	reply, err := f.fetch(ctx)
	if err != nil {
		return broker.Reply{}, inTime(ctx, err)
	}
	return reply, nil
}

// fetch is one call of Fetch: what was asked, and how much may still be read.
type fetch struct {
	*Source
	query  broker.Query
	limits broker.Limits
	budget *wire.Budget
	// bodies and texts are how many bytes documents may have that are read with the record, and what is made of them: half of what the pointers leave, so that
	// however long they are, the pointers are listed. bodiesUsed and textsUsed are what of that is gone.
	bodies, texts         int64
	bodiesUsed, textsUsed int64

	pointers []pointer
	people   []fhirjson.Entry // Patients that the registry sent along
	others   int              // pointers that are listed under another organisation
	outcomes []fhirjson.Entry // what the locator said beside its pointers, but that there are none under one organisation
	warnings int              // all that it said beside its pointers
	total    int              // how many pointers the pages of one search say there are
	seen     map[string]bool  // and which came, by id
	short    bool             // fewer came of some search than it said, or not the page that it said follows
	unopened int              // addresses that lead elsewhere
	pages    map[string]bool  // that were asked for
}

// sourceName is what a part of the answer calls the documents themselves, beside the list of them.
const sourceName = "documents"

// fetch finds the pointers, reads the newest documents, and makes entries of both.
func (f *fetch) fetch(ctx context.Context) (broker.Reply, error) {
	if err := f.search(ctx, false); err != nil {
		return broker.Reply{}, err
	}
	switch trouble := heard(f.outcomes); {
	case len(f.pointers) > 0:
	case trouble != nil:
		return broker.Reply{}, trouble // none were found because the search failed, which is not the same as none
	case f.short:
		return broker.Reply{}, broker.ErrMalformed // it says that there are some, and sends none
	default:
		return broker.Reply{}, broker.ErrNoRecord
	}
	reply := broker.Reply{Base: f.locator.Base(), Adapter: Adapter}
	about := document.Object{"reference": document.SubjectURL, "type": "Patient"}
	if url := f.subject(); url != "" {
		about["reference"] = url
		reply.Entries = f.people
	} else {
		e, err := f.made(document.Patient(f.query.Subject.Number), document.SubjectURL)
		if err != nil {
			return broker.Reply{}, err
		}
		reply.Entries = append(f.people, e)
	}
	if t := f.query.Types; len(t) == 1 && t[0] == "Patient" {
		reply.Entries = slices.DeleteFunc(reply.Entries, func(e fhirjson.Entry) bool { return e.FullURL != about["reference"] })
		reply.Bytes = f.budget.Used()
		return reply, f.within(reply)
	}
	reply.Entries = append(reply.Entries, f.outcomes...) // the merge says what they mean for the pointers that came
	list := make([]fhirjson.Entry, len(f.pointers))      // before anything is read: no document may cost a pointer
	for i, p := range f.pointers {
		e, err := f.listed(p)
		if err != nil {
			return broker.Reply{}, err
		}
		list[i] = e
	}
	half := (f.limits.Bytes - f.budget.Used()) / 2
	f.bodies, f.texts = half*3/4, half/4
	readings := f.readings(ctx)
	shown := 0
	var unread, long, theirs int
	for i, p := range f.pointers {
		r := readings[i]
		switch {
		case r == nil:
		case errors.Is(r.err, broker.ErrTooMuch):
			long++
		case r.err != nil:
			unread++
		case r.verdict == document.Another:
			theirs++
			// The Composition says whose it is: the merge drops it as another person's, counts it, and raises the alarm. The pointer goes with it. Nothing that
			// the document says is in it.
			e, err := f.indexed((&document.Described{}).Composition(r.document.About.Other(f.query.Subject), p.url), compositionURL(i))
			if err != nil {
				return broker.Reply{}, err
			}
			reply.Entries = append(reply.Entries, e)
			continue
		case r.verdict == document.Unsaid: // whose it is cannot be checked: it is there to be opened, and is not laid out
		case r.document.Readable:
			e, err := f.laidOut(r.document.Composition(about, p.url), compositionURL(i))
			if errors.Is(err, broker.ErrTooMuch) || len(reply.Entries)+len(f.pointers)-i >= f.limits.Resources {
				long++
				break
			}
			if err != nil {
				unread++
				break
			}
			reply.Entries = append(reply.Entries, e)
			shown++
		}
		reply.Entries = append(reply.Entries, list[i])
	}
	for _, part := range []record.Part{{Reason: record.PartOtherCustodian, Count: f.others}, {Source: sourceName, Reason: record.PartSourceDown, Count: unread},
		{Source: sourceName, Reason: record.PartTooLong, Count: long},
		{Source: sourceName, Reason: record.PartStrangers, Count: theirs}} {
		if part.Count > 0 {
			reply.Parts = append(reply.Parts, part)
		}
	}
	if f.short {
		reply.Parts = append(reply.Parts, record.Part{Reason: record.PartTruncated})
	}
	if shown > 0 {
		reply.Conversions = append(reply.Conversions, fmt.Sprintf("%s: the text of %d documents is shown as Composition; their coded entries are in the originals", Adapter, shown))
	}
	if f.unopened > 0 {
		reply.Conversions = append(reply.Conversions, fmt.Sprintf("%s: %d addresses that are not below the configured holder are left out", Adapter, f.unopened))
	}
	reply.Bytes = f.budget.Used() + f.bodiesUsed + f.textsUsed
	return reply, f.within(reply)
}

// compositionURL is the address, within a reply, of the Composition of a document.
func compositionURL(i int) string { return "urn:mycarerecord:composition:" + strconv.Itoa(i) }

// within holds a reply to the caps.
func (f *fetch) within(reply broker.Reply) error {
	if len(reply.Entries) > f.limits.Resources {
		return broker.ErrTooMuch
	}
	for _, e := range reply.Entries {
		if len(e.Resource.Raw()) > f.limits.ResourceBytes {
			return broker.ErrTooMuch
		}
	}
	return nil
}

// made indexes a resource that was made here.
func (f *fetch) made(text []byte, url string) (fhirjson.Entry, error) {
	if !f.budget.Take(len(text)) {
		return fhirjson.Entry{}, broker.ErrTooMuch
	}
	return f.indexed(text, url)
}

// laidOut indexes the Composition of a document, within what may be made of documents. One that is too long leaves the others theirs.
func (f *fetch) laidOut(text []byte, url string) (fhirjson.Entry, error) {
	n := int64(len(text))
	if len(text) > f.limits.ResourceBytes || f.textsUsed+n > f.texts || f.limits.Take != nil && !f.limits.Take(n) {
		return fhirjson.Entry{}, broker.ErrTooMuch
	}
	f.textsUsed += n
	return f.indexed(text, url)
}

// indexed indexes a resource that was counted, or is short.
func (f *fetch) indexed(text []byte, url string) (fhirjson.Entry, error) {
	d, err := fhirjson.Parse(text, fhirjson.Limits{Depth: f.limits.Depth, StringBytes: f.limits.StringBytes})
	if err != nil {
		return fhirjson.Entry{}, textError(err)
	}
	return fhirjson.Entry{FullURL: url, Resource: d.Root()}, nil
}

// reading is what became of reading one document with the record.
type reading struct {
	document *document.Described
	verdict  document.Verdict
	err      error
}

// atOnce is how many documents are read at a time.
const atOnce = 4

// readings reads the newest documents that may be of use, a few at a time, and returns them by the place of their pointers. It takes three quarters of the
// time at most: pointers without documents are worth more than neither. Each document may first have an equal share of half of the bytes, so that a long one
// takes nothing from a short one; those that are longer are read again, the newest first, of what is left.
func (f *fetch) readings(ctx context.Context) map[int]*reading {
	out := map[int]*reading{}
	wanted := newest(f.pointers, f.settings.Read)
	if len(wanted) == 0 {
		return out
	}
	if deadline, has := ctx.Deadline(); has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)*3/4)
		defer cancel()
	}
	share := f.bodies / int64(2*len(wanted))
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := make(chan int)
	for range min(atOnce, len(wanted)) {
		workers.Go(func() {
			for i := range next {
				r, used := f.readOne(ctx, f.pointers[i], share)
				mu.Lock()
				out[i] = r
				f.bodiesUsed += used
				mu.Unlock()
			}
		})
	}
	for _, i := range wanted {
		next <- i
	}
	close(next)
	workers.Wait()
	for _, i := range wanted {
		if left := f.bodies - f.bodiesUsed; errors.Is(out[i].err, broker.ErrTooMuch) && left > share && ctx.Err() == nil {
			r, used := f.readOne(ctx, f.pointers[i], left)
			f.bodiesUsed += used
			out[i] = r
		}
	}
	return out
}

// readOne reads a document of at most so many bytes, and says how many it had.
func (f *fetch) readOne(ctx context.Context, p pointer, most int64) (*reading, int64) {
	budget := wire.NewBudget(most, f.limits.Ratio, f.limits.Take)
	r := &reading{}
	err := broker.Safely(func() error {
		_, body, err := f.retrieve(ctx, f.query, p.read, f.limits, budget)
		if err != nil {
			return err
		}
		if r.document, err = document.Read(ctx, body, f.limits.Depth); err != nil {
			return broker.ErrMalformed // also where it is too deep: length is another matter
		}
		r.verdict = r.document.About.Is(f.query.Subject)
		return nil
	})
	if err != nil {
		r = &reading{err: err}
	}
	return r, budget.Used()
}

// Opens implements the optional part of broker.Source: below the holder, directly or through the proxy, and without the person's number in it, which is looked at where the person is
// known.
func (s *Source) Opens(address string) bool {
	_, ok := s.pinned(address)
	return ok
}

// pinned is where a document is at its holder, false if its address leads anywhere else.
func (s *Source) pinned(address string) (wire.Target, bool) {
	if s.proxy != nil {
		address = s.behind(address)
	}
	target, ok := s.holder.Pin(address)
	return target, ok && absolute(address) && target != (wire.Target{})
}

// Document fetches a document for somebody who opens it.
func (s *Source) Document(ctx context.Context, q broker.Query, address string) (broker.Document, error) {
	lim := limits(q.Limits)
	doc, body, err := s.retrieve(ctx, q, address, lim, wire.NewBudget(lim.Bytes, lim.Ratio, lim.Take))
	if err != nil {
		return broker.Document{}, inTime(ctx, err)
	}
	d, err := document.Read(ctx, body, lim.Depth)
	if err != nil {
		return broker.Document{}, inTime(ctx, textError(err)) // it begins as XML or JSON, and whose it is cannot be found out
	}
	if d.About.Is(q.Subject) == document.Another {
		return broker.Document{}, broker.ErrWrongSubject
	}
	for system, code := range d.Codes {
		doc.Codes = append(doc.Codes, broker.Code{System: system, Code: code})
	}
	return doc, nil
}

// retrieve fetches one document from the holder. What comes as FHIR's Binary is taken out of it; body is what came, which says more of whose it is.
func (s *Source) retrieve(ctx context.Context, q broker.Query, address string, lim broker.Limits, budget *wire.Budget) (doc broker.Document, body []byte, err error) {
	target, ok := s.pinned(address)
	if !ok {
		return broker.Document{}, nil, broker.ErrElsewhere
	}
	if target.Holds(q.Subject.Number.Reveal()) {
		return broker.Document{}, nil, broker.ErrElsewhere // an address with the number in it is not asked
	}
	client, req := s.holder, wire.Request{Target: target, Any: true, Accept: "*/*", Header: s.header(q)}
	if s.proxy != nil {
		if client, req, err = s.proxied(req, q); err != nil {
			return broker.Document{}, nil, err
		}
	}
	a, err := client.Do(ctx, req, budget)
	if err != nil {
		return broker.Document{}, nil, sentinel.OfWire(err)
	}
	if a.Trouble() != nil {
		return broker.Document{}, nil, statusError(a, true)
	}
	doc, err = unwrapped(ctx, broker.Document{Bytes: a.Body, Type: a.Type}, lim, budget)
	return doc, a.Body, err
}

// header is what is sent with every request: ids by which both sides' logs can be brought together, trace context where it is configured.
func (s *Source) header(q broker.Query) map[string]string {
	id := wire.RequestID(q.RequestID)
	h := map[string]string{"X-Request-ID": id, "X-Correlation-ID": id}
	for _, name := range [...]string{"traceparent", "tracestate"} { // never baggage, whatever the query holds
		if v := q.Trace[name]; v != "" {
			h[name] = v
		}
	}
	return h
}

// limits returns l with the defaults of R-7 where nothing is set.
func limits(l broker.Limits) broker.Limits {
	d := broker.DefaultLimits
	l.Bytes, l.Resources, l.Pages, l.ResourceBytes = or(l.Bytes, d.Bytes), or(l.Resources, d.Resources), or(l.Pages, d.Pages), or(l.ResourceBytes, d.ResourceBytes)
	l.StringBytes, l.Depth, l.Ratio = or(l.StringBytes, d.StringBytes), or(l.Depth, d.Depth), or(l.Ratio, d.Ratio)
	return l
}

func or[T int | int64](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}
