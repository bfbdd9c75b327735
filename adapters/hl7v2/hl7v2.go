// Package hl7v2 reads one custodian that is an integration engine speaking HL7 version 2 over MLLP and TLS, such as an acute trust's.
//
// A record is asked for by the engine's own queries, which are configuration: each is sent as QBP^Q11 and answered by RSP^K11, or, for older engines,
// as QRY^R02 and ORF^R04. Answers may be continued (DSC). What stands in them is what ADT, ORU and MDM messages hold: PID, PV1, OBR, OBX, TXA
// and what belongs to them.
//
// From that come FHIR R4 resources: Patient, Encounter, DiagnosticReport, Observation, Specimen, DocumentReference. Numbers, units, ranges, flags and
// times go over character by character. A code that the tables of codes.go do not have is not guessed: the element says unknown, and the code
// stands beside it. A field that has no place in FHIR is kept in an extension; a segment that may be a clinical statement and is not
// converted is kept in a Basic resource, and the reply says so in its parts.
//
// An answer must echo our control id, our query tag and the number asked (MSA-2, QAK-1, QPD-3), and each PID in it must carry that number in
// PID-3. One that is about somebody else altogether is the custodian's failure; where both are in it, the others' resources are left for the merge
// to drop and count.
package hl7v2

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Adapter is the kind and version that replies carry. The version changes when the same answers of a custodian would be read differently.
const Adapter = "hl7v2/3"

// Source reads one custodian. It is safe for concurrent use.
type Source struct {
	settings  Settings
	questions []question
	// authorities are Settings.NHSAuthorities.
	authorities map[string]bool
	base        string
	pool        *wire.Pool
}

var _ broker.Source = (*Source)(nil)

// New makes the source. It asks the custodian nothing. The error names a setting and says what to give.
func New(s Settings) (*Source, error) {
	s = s.WithDefaults()
	dialer, err := wire.NewDialer(s.Socket)
	if err != nil {
		return nil, err //nolint:wrapcheck // names the setting already
	}
	if err := s.valid(); err != nil {
		return nil, err
	}
	out := &Source{settings: s, base: dialer.Base(), authorities: map[string]bool{}, pool: wire.NewPool(dialer, s.Connections)}
	for _, q := range s.Queries {
		out.questions = append(out.questions, question{q, false})
	}
	for _, a := range s.NHSAuthorities {
		out.authorities[a] = true
	}
	for _, q := range s.LegacyQueries {
		out.questions = append(out.questions, question{q, true})
	}
	return out, nil
}

// Close closes idle connections. Fetches that are under way end with their own contexts.
func (s *Source) Close() { s.pool.Close() }

// Fetch implements broker.Source.
func (s *Source) Fetch(ctx context.Context, q broker.Query) (broker.Reply, error) {
	reply, err := s.newFetch(q).fetch(ctx)
	if err != nil {
		return broker.Reply{}, inTime(ctx, err)
	}
	return reply, nil
}

// fetch is one call of Fetch: what was asked, and how much may still be read. Queries run at once, so it locks.
type fetch struct {
	source *Source
	query  broker.Query
	limits broker.Limits
	budget *wire.Budget
	tag    string // begins every query's tag, so that both sides' logs can be brought together

	mu        sync.Mutex
	pages     int
	resources int
}

func (s *Source) newFetch(q broker.Query) *fetch {
	l, d := q.Limits, broker.DefaultLimits
	l.Bytes, l.Resources, l.Pages, l.ResourceBytes = or(l.Bytes, d.Bytes), or(l.Resources, d.Resources), or(l.Pages, d.Pages), or(l.ResourceBytes, d.ResourceBytes)
	l.StringBytes, l.Depth = or(l.StringBytes, d.StringBytes), or(l.Depth, d.Depth)
	return &fetch{source: s, query: q, limits: l, budget: wire.NewBudget(l.Bytes, or(l.Ratio, d.Ratio), l.Take),
		tag: strings.ReplaceAll(wire.RequestID(q.RequestID), "-", "")}
}

func or[T int | int64](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}

// harvest is what one query gave: a converter with its resources, or the error.
type harvest struct {
	*converter
	err error
}

// fetch asks every query, and brings the answers together.
func (f *fetch) fetch(ctx context.Context) (broker.Reply, error) {
	harvests := f.run(ctx)
	var parts []record.Part
	var trouble error
	answered := 0
	for i, h := range harvests {
		r, refused := errors.AsType[*refusal](h.err)
		switch source := f.source.questions[i].code(); {
		case h.err == nil:
			answered++
			parts = append(parts, h.parts()...)
		case !refused:
			return broker.Reply{}, h.err
		case errors.Is(r, broker.ErrNoRecord):
		default:
			reason := record.PartSourceDown
			if errors.Is(r, broker.ErrWithheld) {
				reason = record.PartWithheld
			}
			parts = append(parts, record.Part{Source: source, Reason: reason})
			if trouble == nil || errors.Is(trouble, broker.ErrWithheld) { // trouble with one says more of the custodian than that another is withheld
				trouble = r
			}
		}
	}
	if answered == 0 {
		if trouble != nil {
			return broker.Reply{}, trouble
		}
		return broker.Reply{}, broker.ErrNoRecord
	}
	entries, err := f.together(ctx, harvests)
	if err != nil {
		return broker.Reply{}, err
	}
	return broker.Reply{Base: f.source.base, Entries: entries, Parts: parts, Bytes: f.budget.Used(), Adapter: Adapter, Conversions: conversions}, nil
}

// run asks the queries, as many at once as there are connections, and returns their harvests in order. The first trouble that is no refusal cuts
// the others short. Where the Patient alone is wanted, the queries are asked one after another until one has told who that is.
func (f *fetch) run(ctx context.Context) []harvest {
	list := f.source.questions
	harvests := make([]harvest, len(list))
	if t := f.query.Types; len(t) == 1 && t[0] == "Patient" {
		for i := range list {
			if harvests[i] = f.ask(ctx, i); harvests[i].err == nil {
				return harvests[:i+1]
			}
		}
		return harvests
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan int)
	var trouble *harvest // the first that is no refusal: those cut short by it say less
	var once sync.Once
	var workers sync.WaitGroup
	for range min(len(list), f.source.settings.Connections) {
		workers.Go(func() {
			for i := range next {
				if err := broker.Safely(func() error { harvests[i] = f.ask(ctx, i); return nil }); err != nil {
					harvests[i] = harvest{err: err}
				}
				if _, refused := errors.AsType[*refusal](harvests[i].err); harvests[i].err != nil && !refused {
					once.Do(func() { trouble = &harvest{err: harvests[i].err}; cancel() })
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
		return []harvest{*trouble}
	}
	return harvests
}

// ask asks one query, and for its continuations until there are no more.
func (f *fetch) ask(ctx context.Context, n int) harvest {
	q := f.source.questions[n]
	tag := f.tag[:30] + string("0123456789abcdef"[n/16]) + string("0123456789abcdef"[n%16])
	if q.legacy {
		tag = string("0123456789abcdef"[n%16]) + tag // its tag is shorter: the beginning must tell them apart
	}
	c := &converter{subject: f.query.Subject, category: f.source.settings.ResultCategory, authorities: f.source.authorities, hold: f.hold, caps: caps{f.limits.Resources, f.limits.ResourceBytes, f.limits.StringBytes},
		out: []byte{'['}, others: map[string]bool{}, hung: map[string]bool{}, unconverted: map[string]int{}}
	seen := map[string]bool{}
	for pointer := ""; ; {
		next, err := f.page(ctx, c, q, tag, pointer)
		if r, refused := errors.AsType[*refusal](err); refused && pointer != "" && errors.Is(r, broker.ErrNoRecord) {
			c.truncated = q.code() // there was more, and now there is not: what was read comes, and says that it is not all
			return harvest{converter: c}
		}
		switch {
		case err != nil:
			return harvest{err: err}
		case next == "":
			return harvest{converter: c}
		case seen[next]:
			return harvest{err: broker.ErrMalformed} // its continuations run in a circle
		}
		seen[next], pointer = true, next
	}
}

// page asks for one answer and reads it. next is where it goes on, "" for nowhere.
func (f *fetch) page(ctx context.Context, c *converter, q question, tag, pointer string) (next string, err error) {
	f.mu.Lock()
	f.pages++
	over := f.pages > f.limits.Pages
	f.mu.Unlock()
	if over {
		return "", broker.ErrTooMuch
	}
	s := f.source.settings
	asked := s.write(q, f.query.Subject.Number, tag, pointer, time.Now())
	var e *envelope
	var says error // what was read says, if it is no record
	err = f.source.pool.Ask(ctx, func(l *wire.Line) (fit bool, err error) {
		text, fit, err := ask(ctx, l, asked.text, f.budget)
		if err != nil {
			return false, err
		}
		// Behind one that cannot be read, or is the answer to something else, the answer to this may still come: nothing more is asked there.
		e, says = s.read(text, q, asked, f.query.Subject.Number)
		return fit && !errors.Is(says, broker.ErrMalformed), nil
	})
	switch {
	case err != nil:
		return "", sentinel.OfWire(err)
	case says != nil:
		return "", says
	}
	people, pids := len(c.people), c.pids
	for segment, ok := range e.body.segments() {
		if !ok {
			return "", broker.ErrMalformed
		}
		if err := sentinel.OfEnd(ctx); err != nil { // after the last byte nothing else looks whether there is time
			return "", err
		}
		if err := c.read(segment); err != nil {
			return "", err
		}
	}
	if err := c.end(); err != nil {
		return "", err
	}
	switch {
	case len(c.people) > people:
	case c.pids > pids:
		return "", broker.ErrWrongSubject
	case q.legacy && pointer == "" && e.qak.at(2, 1) == "":
		return "", e.noRecord() // version 2.3, which has no QAK, has no other way to say so
	default:
		return "", broker.ErrMalformed // data found, and none there
	}
	var more bool
	if c.hits, more = e.more(c.hits); more && e.pointer == "" || e.complains() {
		c.truncated = q.code() // it says itself that this is not all, and not how to ask for the rest
	}
	return e.pointer, nil
}

// hold counts what is about to be kept.
func (f *fetch) hold(bytes, resources int) error {
	f.mu.Lock()
	f.resources += resources
	over := f.resources > f.limits.Resources
	f.mu.Unlock()
	if over || bytes > f.limits.ResourceBytes || !f.budget.Take(bytes) {
		return broker.ErrTooMuch
	}
	return nil
}

// parts are the segments that were not converted, and what the engine did not send after all.
func (c *converter) parts() []record.Part {
	var out []record.Part
	if c.truncated != "" {
		out = append(out, record.Part{Source: c.truncated, Reason: record.PartTruncated})
	}
	for name, n := range c.unconverted {
		out = append(out, record.Part{Source: name, Reason: record.PartUnreadable, Count: n})
	}
	return out
}

// together makes the one Patient of all PIDs, the Encounters of all visits, and puts everything in order. It ends when ctx does.
func (f *fetch) together(ctx context.Context, harvests []harvest) ([]fhirjson.Entry, error) {
	var people []*person
	var visits []*visit
	for _, h := range harvests {
		if h.err == nil {
			people, visits = append(people, h.people...), append(visits, h.visits...)
		}
	}
	head := &converter{hold: f.hold, out: []byte{'['}}
	patient, err := onePatient(ctx, people, f.limits.ResourceBytes)
	if err != nil {
		return nil, err
	}
	head.emit(patient, subjectURL)
	for _, v := range fullest(visits) {
		if err := sentinel.OfEnd(ctx); err != nil {
			return nil, err
		}
		head.emit(v.write(), "")
	}
	if head.err != nil {
		return nil, head.err
	}
	var entries []fhirjson.Entry
	for _, c := range append([]harvest{{converter: head}}, harvests...) {
		if c.err != nil || len(c.urls) == 0 {
			continue
		}
		if err := sentinel.OfEnd(ctx); err != nil {
			return nil, err
		}
		c.out[len(c.out)-1] = ']'
		d, err := fhirjson.Parse(c.out, fhirjson.Limits{Depth: f.limits.Depth + 1, StringBytes: f.limits.StringBytes})
		if err != nil {
			return nil, sentinel.OfText(err)
		}
		n := 0
		for r := range d.Root().Elems() {
			entries = append(entries, fhirjson.Entry{FullURL: c.urls[n], Resource: r})
			n++
		}
	}
	return entries, nil
}

// onePatient writes the Patient of the PID that says most, the first of several that say as much, with all that the others say beside it. PIDs that
// carry one NHS number and two dates of birth are of two people, and which of them is meant is not known. most is the cap of a resource.
func onePatient(ctx context.Context, people []*person, most int) ([]byte, error) {
	best, birth := people[0], ""
	var statuses []string
	known := map[string]bool{}
	for _, p := range people {
		if p.fields > best.fields {
			best = p
		}
		if status := numberStatus[p.status]; status != "" && !known[status] {
			known[status] = true
			statuses = append(statuses, status)
		}
		stated, _, _ := strings.Cut(p.birth.text, "T")
		if short := min(len(stated), len(birth)); stated[:short] != birth[:short] {
			return nil, broker.ErrWrongSubject
		}
		if len(stated) > len(birth) {
			birth = stated
		}
	}
	if err := best.gather(ctx, people, most); err != nil {
		return nil, err
	}
	return best.patient(statuses), nil
}

// fullest leaves out visits that say nothing which another entry of the same visit does not say, too: messages about results repeat a visit in
// fewer words. Two that say different things are both kept, and the merge marks them.
func fullest(visits []*visit) []*visit {
	const compared = 16 // copies of one visit: whoever sends more is not worth the time
	var out []*visit
	byID := map[string][]int{} // places in out
	for _, v := range visits {
		kept := byID[v.id]
		dropped := false
		for _, i := range kept[:min(len(kept), compared)] {
			if v.fewerWords(out[i]) {
				dropped = true
			} else if out[i].fewerWords(v) {
				out[i], dropped = v, true
			}
			if dropped {
				break
			}
		}
		if !dropped {
			byID[v.id] = append(kept, len(out))
			out = append(out, v)
		}
	}
	return out
}
