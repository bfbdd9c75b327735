package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// CustodianConfig is one custodian and what it holds.
type CustodianConfig struct {
	Name       string                       // for its CapabilityStatement
	Base       string                       // path of its FHIR server; "" is "/fhir"
	Everything bool                         // whether it offers Patient/{id}/$everything; if not, only search by type
	PageSize   int                          // at most so many matches a page; 0 is 50
	RevInclude bool                         // Provenance comes by _revinclude, and not by a search of its own
	Backend    *Backend                     // whom it lets in, by SMART Backend Services; nil: anybody
	People     map[string][]json.RawMessage // by NHS number: the whole record, exactly one Patient in it; the bytes are served as they are
}

// Custodian is a FHIR R4 server, read-only, with one record per person, and the faults of [CustodianFaults].
//
// Under its base path: GET metadata, POST Patient/_search with an identifier, GET or POST Patient/{id}/$everything if offered,
// POST {Type}/_search with patient=, _include and _revinclude=Provenance:target, GET {Type}/{id}; with a [Backend], GET
// .well-known/smart-configuration, and at the root POST /oauth2/token. Pages are linked by sealed tokens. Beside it, at the root:
// POST /_sim/fault and GET /_sim/requests. Binary is read by address only, as on most servers.
type Custodian struct {
	cfg       CustodianConfig
	control   *control
	byNumber  map[string]*person
	byPatient map[string]*person
	types     []string // held by anybody, sorted
	seal      *seal
	door      *door // nil: open
}

var _ http.Handler = (*Custodian)(nil)

// NewCustodian indexes the people. The error names the first record that cannot be served, without its content.
func NewCustodian(cfg CustodianConfig) (*Custodian, error) {
	if cfg.Base == "" {
		cfg.Base = "/fhir"
	}
	if cfg.PageSize <= 0 {
		cfg.PageSize = 50
	}
	c := &Custodian{cfg: cfg, control: newControl(CustodianFaults()), byNumber: map[string]*person{}, byPatient: map[string]*person{}, seal: newSeal()}
	if cfg.Backend != nil {
		var err error
		if c.door, err = newDoor(*cfg.Backend); err != nil {
			return nil, err
		}
	}
	held := map[string]bool{"Patient": true}
	n := 0
	for number, list := range cfg.People {
		n++
		p, err := newPerson(number, list)
		if err != nil {
			return nil, fmt.Errorf("simulator: %s, record %d of %d: %w", cfg.Name, n, len(cfg.People), err)
		}
		if c.byPatient[p.patient.id] != nil {
			return nil, errors.New("simulator: " + cfg.Name + ": two people with one Patient id")
		}
		c.byNumber[number], c.byPatient[p.patient.id] = p, p
		for _, r := range p.resources {
			held[r.typ] = true
		}
	}
	for t := range held {
		c.types = append(c.types, t)
	}
	slices.Sort(c.types)
	return c, nil
}

// SetFault does what POST /_sim/fault does.
func (c *Custodian) SetFault(spec FaultSpec) error { return c.control.set(spec) }

// Requests does what GET /_sim/requests does.
func (c *Custodian) Requests() Counts { return c.control.requests() }

// Log returns the first 10,000 requests, as "METHOD address", so that a test can look for verbs and for identifiers in addresses.
func (c *Custodian) Log() []string { return c.control.lines() }

// query is what a record request asks for, and what a page token holds.
type query struct {
	Number   string   `json:"n,omitempty"` // person whose record it is; "" or one that is not held is nobody
	Type     string   `json:"t,omitempty"` // search by type; "" is $everything
	Include  []string `json:"i,omitempty"` // _include values
	Iterate  []string `json:"r,omitempty"` // _include:iterate values
	Reverse  bool     `json:"v,omitempty"` // _revinclude=Provenance:target
	Types    []string `json:"y,omitempty"` // $everything: _type
	Count    int      `json:"c,omitempty"` // page size
	Offset   int      `json:"o,omitempty"`
	Patients bool     `json:"p,omitempty"` // Patient search by identifier
}

// ServeHTTP implements http.Handler.
func (c *Custodian) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.control.serve(w, r) {
		return
	}
	base := "http://" + r.Host + c.cfg.Base
	if c.door != nil && c.door.serve(w, r, c.cfg.Base) {
		c.control.otherRequest(r)
		return
	}
	path, under := strings.CutPrefix(r.URL.Path, c.cfg.Base)
	path = strings.Trim(path, "/")
	switch {
	case !under:
		c.control.otherRequest(r)
		outcome(w, http.StatusNotFound, "not-found", "", "")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		c.control.otherRequest(r)
		w.Header().Set("Allow", "GET, POST")
		outcome(w, http.StatusMethodNotAllowed, "not-supported", "", "")
		return
	case path == "metadata":
		c.control.otherRequest(r)
		write(w, r, http.StatusOK, c.capability(base))
		return
	}
	spec := c.control.recordRequest(r)
	// The body is read to its end before anything else: only then does the server notice that a client has left.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		outcome(w, http.StatusRequestEntityTooLarge, "too-long", "", "")
		return
	}
	if c.befall(w, r, spec) {
		return
	}
	if c.door != nil && !c.door.admits(w, r, path) {
		return
	}
	a := c.answer(r, path, body)
	c.sabotage(spec.Fault, &a)
	c.send(w, r, base, spec, a)
}

// answer is what a record request gets: a page, a single resource, or a refusal.
type answer struct {
	status int
	code   string // refusal: issue code
	spine  string // refusal: Spine error code
	single []byte // one resource
	page   *page
}

// page is one page of a searchset.
type page struct {
	person  *person // nil for an empty one
	query   query
	self    string // path under the base
	total   int
	next    string // path and query under the base, or an absolute address; "" for none
	extra   string // members put before the others
	entries []entry
}

type entry struct {
	typ, id string
	raw     []byte
	mode    string
}

func refuse(status int, code, spine string) answer {
	return answer{status: status, code: code, spine: spine}
}

func (c *Custodian) answer(r *http.Request, path string, body []byte) answer {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, "invalid", "BAD_REQUEST")
	}
	parts := strings.Split(path, "/")
	if token := form.Get("_getpages"); token != "" && r.Method == http.MethodGet && len(parts) == 1 {
		q, ok := c.open(token)
		if !ok || q.Type != path {
			return refuse(http.StatusGone, "not-found", "")
		}
		return answer{page: c.page(q)}
	}
	search := len(parts) == 2 && parts[1] == "_search" && r.Method == http.MethodPost
	everything := len(parts) == 3 && parts[0] == "Patient" && parts[2] == "$everything"
	read := len(parts) == 2 && parts[1] != "_search" && !strings.HasPrefix(parts[1], "$") && r.Method == http.MethodGet
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case search:
		if kind != "application/x-www-form-urlencoded" {
			return refuse(http.StatusUnsupportedMediaType, "not-supported", "UNSUPPORTED_MEDIA_TYPE")
		}
		more, err := url.ParseQuery(string(body))
		if err != nil {
			return refuse(http.StatusBadRequest, "invalid", "BAD_REQUEST")
		}
		for k, v := range more { // FHIR R4 search: parameters of address and body are combined
			form[k] = append(form[k], v...)
		}
		if parts[0] == "Patient" {
			return c.searchPatient(form)
		}
		return c.searchType(parts[0], form)
	case everything && c.cfg.Everything:
		if r.Method == http.MethodPost && len(body) > 0 {
			if !addParameters(form, body) {
				return refuse(http.StatusBadRequest, "structure", "BAD_REQUEST")
			}
		}
		p := c.byPatient[parts[1]]
		if p == nil {
			return refuse(http.StatusNotFound, "not-found", "PATIENT_NOT_FOUND")
		}
		q := query{Number: p.number, Count: c.count(form), Types: list(form["_type"])}
		return answer{page: c.page(q)}
	case read:
		for _, p := range c.byPatient {
			if got := p.byKey[path]; got != nil {
				return answer{status: http.StatusOK, single: got.raw}
			}
		}
		return refuse(http.StatusNotFound, "not-found", "NO_RECORD_FOUND")
	}
	return refuse(http.StatusNotFound, "not-supported", "")
}

func (c *Custodian) searchPatient(form url.Values) answer {
	if len(form["identifier"]) != 1 {
		return refuse(http.StatusBadRequest, "required", "INVALID_IDENTIFIER_VALUE") // this server searches by identifier only
	}
	q := query{Type: "Patient", Patients: true, Count: c.count(form)}
	if p := c.byIdentifier(form.Get("identifier")); p != nil {
		q.Number = p.number
	} else if _, value, both := strings.Cut(form.Get("identifier"), "|"); both {
		q.Number = value // nobody's here
	}
	return answer{page: c.page(q)}
}

// byIdentifier finds a person by a token, "system|value" or "value".
func (c *Custodian) byIdentifier(token string) *person {
	system, value, both := strings.Cut(token, "|")
	if !both {
		return c.byNumber[token]
	}
	if system != nhsNumberSystem {
		return nil
	}
	return c.byNumber[value]
}

func (c *Custodian) searchType(typ string, form url.Values) answer {
	if !slices.Contains(c.types, typ) || typ == "Provenance" && c.cfg.RevInclude {
		return refuse(http.StatusNotFound, "not-supported", "")
	}
	var p *person
	asked := false
	for _, name := range []string{"patient", "subject"} {
		if v := form.Get(name); v != "" {
			p, asked = c.byPatient[v[strings.LastIndexByte(v, '/')+1:]], true
		}
		for _, chain := range []string{".identifier", ":identifier"} {
			if v := form.Get(name + chain); v != "" {
				p, asked = c.byIdentifier(v), true
			}
		}
	}
	if !asked {
		return refuse(http.StatusBadRequest, "required", "MISSING_VALUE") // never everybody's
	}
	q := query{Type: typ, Count: c.count(form), Include: list(form["_include"]), Iterate: list(form["_include:iterate"]),
		Reverse: c.cfg.RevInclude && slices.Contains(list(form["_revinclude"]), "Provenance:target")}
	if p != nil {
		q.Number = p.number
	}
	return answer{page: c.page(q)}
}

// page works out one page of q.
func (c *Custodian) page(q query) *page {
	pg := &page{query: q, self: q.Type, person: c.byNumber[q.Number]}
	if pg.person == nil {
		return pg
	}
	var matches, extra []*resource
	p := pg.person
	switch {
	case q.Patients:
		matches = []*resource{p.patient}
	case q.Type == "":
		for _, r := range p.resources {
			if onlyRead(r) || len(q.Types) > 0 && !slices.Contains(q.Types, r.typ) && r != p.patient {
				continue
			}
			matches = append(matches, r)
		}
	default:
		for _, r := range p.resources {
			if r.typ == q.Type && !supporting(r) && !onlyRead(r) {
				matches = append(matches, r)
			}
		}
	}
	for _, r := range matches {
		if !supporting(r) {
			pg.total++
		}
	}
	from := min(q.Offset, len(matches))
	to := min(from+q.Count, len(matches))
	if to < len(matches) {
		next := q
		next.Offset = to
		pg.next = c.link(next)
	}
	matches = matches[from:to]
	if q.Type != "" {
		seen := map[string]bool{}
		for _, r := range matches {
			seen[r.key()] = true
		}
		extra = p.linked(matches, seen, included(q.Include), false)
		extra = append(extra, p.linked(append(slices.Clone(matches), extra...), seen, included(q.Iterate), true)...)
		if q.Reverse {
			extra = append(extra, p.provenance(matches, seen)...)
		}
	}
	for _, r := range matches {
		mode := "match"
		if supporting(r) {
			mode = "include"
		}
		pg.entries = append(pg.entries, entry{r.typ, r.id, r.raw, mode})
	}
	for _, r := range extra {
		pg.entries = append(pg.entries, entry{r.typ, r.id, r.raw, "include"})
	}
	return pg
}

// link returns the address, under the base, of the page of q. The same page has the same address.
func (c *Custodian) link(q query) string {
	text, err := json.Marshal(q)
	if err != nil {
		panic(err) // strings and numbers
	}
	if q.Type == "" {
		return "?_getpages=" + c.seal.close(text)
	}
	return "/" + q.Type + "?_getpages=" + c.seal.close(text)
}

func (c *Custodian) open(token string) (query, bool) {
	var q query
	text, ok := c.seal.open(token)
	ok = ok && json.Unmarshal(text, &q) == nil
	return q, ok
}

// count returns the page size: what is asked for, at most what is configured.
func (c *Custodian) count(form url.Values) int {
	if n, err := strconv.Atoi(form.Get("_count")); err == nil && n > 0 && n < c.cfg.PageSize {
		return n
	}
	return c.cfg.PageSize
}

// list splits repeated, comma-separated values.
func list(values []string) []string {
	var out []string
	for _, v := range values {
		for x := range strings.SplitSeq(v, ",") {
			if x != "" {
				out = append(out, x)
			}
		}
	}
	return out
}

// addParameters adds the parameters of a FHIR Parameters body to form and reports whether it is one.
func addParameters(form url.Values, body []byte) bool {
	var in struct {
		ResourceType string `json:"resourceType"`
		Parameter    []struct {
			Name         string `json:"name"`
			ValueCode    string `json:"valueCode"`
			ValueInteger *int   `json:"valueInteger"`
		} `json:"parameter"`
	}
	if json.Unmarshal(body, &in) != nil || in.ResourceType != "Parameters" {
		return false
	}
	for _, p := range in.Parameter {
		switch {
		case p.ValueCode != "":
			form.Add(p.Name, p.ValueCode)
		case p.ValueInteger != nil:
			form.Add(p.Name, strconv.Itoa(*p.ValueInteger))
		}
	}
	return true
}
