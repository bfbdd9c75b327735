package fhirr4

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

const (
	statementFresh   = time.Hour
	statementRetry   = time.Minute     // after a failure: a broken /metadata must not slow every request down
	statementTimeout = 2 * time.Second // and no more than a third of the request's time
	maxStatement     = 8 << 20
	provenance       = "Provenance"
)

// offer is what a custodian offers, or, where it does not say, what to try.
type offer struct {
	everything bool
	searches   []search
}

// statementCache keeps what the custodian's CapabilityStatement says. It holds nothing of any person.
type statementCache struct {
	turn chan struct{} // held by the one who asks

	mu    sync.Mutex
	last  offer
	known bool      // last was read, not guessed
	until time.Time // ask again after this
}

func newStatementCache() *statementCache { return &statementCache{turn: make(chan struct{}, 1)} }

func (c *statementCache) get() (o offer, known, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.known, time.Now().Before(c.until)
}

func (c *statementCache) set(o offer, known bool, keep time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.known, c.until = o, known, time.Now().Add(keep)
}

// capabilities returns what the custodian offers, reading its CapabilityStatement once an hour. If it cannot be had, known is false: then
// $everything is not used, and all types of [searchable] are searched, or those of the setting searches. One caller asks; others wait for
// it only while there is nothing to go by.
func (s *Source) capabilities(ctx context.Context) (o offer, known bool) {
	c := s.statement
	o, known, fresh := c.get()
	if fresh {
		return o, known
	}
	if known {
		select {
		case c.turn <- struct{}{}:
		default:
			return o, known // an old statement is better than waiting
		}
	} else {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return s.guess(), false // nothing will be asked any more
		}
	}
	defer func() { <-c.turn }()
	if o, known, fresh = c.get(); fresh { // read while we waited
		return o, known
	}
	wait := statementTimeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/3)
	}
	asking, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if read, ok := s.readStatement(asking); ok {
		c.set(read, true, statementFresh)
		return read, true
	}
	if !known { // an old statement is better than a guess
		o = s.guess()
	}
	if ctx.Err() == nil { // else the caller left or ran out of time, which says nothing of the custodian
		c.set(o, known, statementRetry)
	}
	return o, known
}

// guess is what is tried on a custodian that does not say what it offers, or says nothing of searches.
func (s *Source) guess() offer {
	types := s.settings.Searches
	if len(types) == 0 {
		types = slices.Sorted(maps.Keys(searchable))
	}
	o := offer{}
	for _, t := range types {
		o.searches = append(o.searches, search{typ: t, param: searchable[t]})
	}
	return o
}

func (s *Source) readStatement(ctx context.Context) (offer, bool) {
	a, _, err := s.ask(ctx, wire.Request{Target: s.client.At("metadata")}, wire.NewBudget(maxStatement, 100, nil))
	if err != nil || a.Trouble() != nil {
		return offer{}, false
	}
	d, err := fhirjson.Parse(a.Body, fhirjson.Limits{})
	if err != nil || !d.Root().Get("resourceType").Is("CapabilityStatement") {
		return offer{}, false
	}
	return s.readOffer(d.Root()), true
}

// readOffer reads a CapabilityStatement. Types and parameters are compared with our own tables: nothing of its text is kept but includes,
// which are sent back to where they came from.
func (s *Source) readOffer(v fhirjson.Value) offer {
	o := offer{}
	found := map[string]search{}
	for rest := range v.Get("rest").Elems() {
		if m := rest.Get("mode"); m.Exists() && !m.Is("server") {
			continue
		}
		for r := range rest.Get("resource").Elems() {
			typ := r.Get("type").Text()
			if typ == "Patient" {
				o.everything = o.everything || offersEverything(r)
			}
			if x, ok := offersSearch(r, typ); ok {
				found[typ] = x
			}
		}
	}
	types := s.settings.Searches
	if len(types) == 0 {
		types = slices.Sorted(maps.Keys(found))
	}
	searched := slices.Contains(types, provenance)
	for _, t := range types {
		x, ok := found[t]
		if searched {
			x.revinclude = nil // they come by their own search
		}
		if !ok { // configured, though the statement does not offer it: the operator knows better
			x = search{typ: t, param: searchable[t]}
		}
		o.searches = append(o.searches, x)
	}
	return o
}

func offersEverything(r fhirjson.Value) bool {
	for op := range r.Get("operation").Elems() {
		if op.Get("name").Is("everything") || op.Get("name").Is("$everything") || strings.HasSuffix(op.Get("definition").Text(), "/OperationDefinition/Patient-everything") {
			return true
		}
	}
	return false
}

// offersSearch reads how a type can be searched by patient.
func offersSearch(r fhirjson.Value, typ string) (search, bool) {
	if _, ok := searchable[typ]; !ok {
		return search{}, false
	}
	searches := !r.Get("interaction").Exists() // it need not list them (FHIR R4 CapabilityStatement, interaction 0..*)
	for i := range r.Each("interaction.code") {
		searches = searches || i.Is("search-type")
	}
	param := ""
	if !r.Get("searchParam").Exists() {
		param = searchable[typ] // it need not list them either (searchParam 0..*)
	}
	for p := range r.Each("searchParam.name") {
		if p.Is("patient") || p.Is("subject") && param == "" {
			param = p.Text()
		}
	}
	if !searches || param == "" {
		return search{}, false
	}
	x := search{typ: typ, param: param}
	wildcard := ""
	for i := range r.Get("searchInclude").Elems() {
		switch text := i.Text(); {
		case text == "*" && wildcard == "", text == typ+":*":
			wildcard = text
		default:
			if of, name, _ := strings.Cut(text, ":"); of == typ && supporting[name] && !slices.Contains(x.include, text) {
				x.include = append(x.include, text)
			}
		}
	}
	for i := range r.Get("searchRevInclude").Elems() {
		if i.Is(provenance + ":target") {
			x.revinclude = []string{provenance + ":target"} // who wrote it; what else refers to it is found by its own search
		}
	}
	if len(x.include) == 0 && wildcard != "" {
		x.include, x.iterate = []string{wildcard}, true
	}
	return x, true
}
