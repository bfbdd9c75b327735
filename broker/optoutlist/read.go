package optoutlist

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A Consent may stand in front of the Patient that it is about, so that rows are given out when the whole list was read.
type fhirReader struct {
	names    Names
	n        int // resources read
	rows     []Row
	about    []string          // of each row: the reference to its Patient, "" where it is known
	people   map[string]person // by id, by Patient/id and by fullUrl
	ids      map[string]int    // of Consents: which row
	interned map[string]string
}

type person struct {
	number    string
	birthDate string
	twice     bool // two Patients are called so
}

func newFHIRReader(names Names) *fhirReader {
	return &fhirReader{names: names, people: map[string]person{}, ids: map[string]int{}, interned: map[string]string{}}
}

// readLines reads one resource a line.
func readLines(r io.Reader, names Names, each func(Row) error) error {
	f := newFHIRReader(names)
	in := bufio.NewReaderSize(r, 64<<10)
	if mark, err := in.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" {
		_, _ = in.Discard(3) // it was peeked
	}
	var line []byte
	for {
		line = line[:0]
		var end error
		for {
			piece, err := in.ReadSlice('\n')
			if len(line)+len(piece) > maxResource {
				return wrong("list", "a line of at most %d KiB (at line %d)", maxResource>>10, f.n+1)
			}
			line = append(line, piece...)
			if !errors.Is(err, bufio.ErrBufferFull) {
				end = err
				break
			}
		}
		if end != nil && !errors.Is(end, io.EOF) {
			return end
		}
		if text := strings.TrimSpace(string(line)); text != "" {
			if err := f.resource([]byte(text), ""); err != nil {
				return err
			}
		}
		if end != nil {
			return f.finish(each)
		}
	}
}

// guard bounds how far a decoder reads ahead of what it has understood.
type guard struct {
	r     io.Reader
	read  int64
	limit int64
	err   error
}

// Read implements io.Reader.
func (g *guard) Read(p []byte) (int, error) {
	if g.read >= g.limit {
		g.err = wrong("list", "a resource of at most %d KiB", maxResource>>10)
		return 0, g.err
	}
	n, err := g.r.Read(p)
	g.read += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		g.err = err
	}
	return n, err
}

// readBundle reads a Bundle entry by entry: it is never held whole.
func readBundle(r io.Reader, names Names, each func(Row) error) error {
	f := newFHIRReader(names)
	g := &guard{r: r}
	d := json.NewDecoder(g)
	allow := func() { g.limit = d.InputOffset() + 8*maxResource } // the decoder's own buffer runs ahead
	broken := func() error {
		if g.err != nil {
			return g.err
		}
		return wrong("list", "a FHIR Bundle in JSON (after entry %d)", f.n)
	}
	value := func() (json.RawMessage, error) {
		allow()
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, broken()
		}
		if len(raw) > maxResource {
			return nil, wrong("list", "a resource of at most %d KiB (after entry %d)", maxResource>>10, f.n)
		}
		return raw, nil
	}
	allow()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return broken()
	}
	seen := map[string]bool{}
	for d.More() {
		allow()
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return broken()
		}
		if seen[key] {
			return wrong("list", "a Bundle with every member once")
		}
		seen[key] = true
		switch key {
		case "entry":
			allow()
			if t, err := d.Token(); err != nil || t != json.Delim('[') {
				return broken()
			}
			for allow(); d.More(); allow() {
				raw, err := value()
				if err != nil {
					return err
				}
				if err := f.entry(raw); err != nil {
					return err
				}
			}
			if _, err := d.Token(); err != nil {
				return broken()
			}
			continue
		case "resourceType", "type", "link", "id", "meta", "identifier", "timestamp", "total", "language", "signature":
		default:
			return wrong("list", "a Bundle without members that FHIR R4 does not know")
		}
		raw, err := value()
		if err != nil {
			return err
		}
		switch key {
		case "resourceType":
			if string(raw) != `"Bundle"` {
				return wrong("resourceType", "Bundle")
			}
		case "type":
			if s := string(raw); s != `"collection"` && s != `"searchset"` {
				return wrong("type", "collection or searchset")
			}
		case "link":
			doc, err := fhirjson.Parse(raw, fhirjson.Limits{Depth: maxDepth})
			if err != nil {
				return broken()
			}
			for l := range doc.Root().Elems() {
				if l.Get("relation").Is("next") {
					return wrong("link", "a whole list: this one goes on at its link next")
				}
			}
		}
	}
	if _, err := d.Token(); err != nil {
		return broken()
	}
	allow()
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return wrong("list", "nothing behind the Bundle")
	}
	if !seen["resourceType"] || !seen["type"] {
		return wrong("list", "a Bundle with resourceType and type")
	}
	return f.finish(each)
}

// entry reads one entry of a Bundle.
func (f *fhirReader) entry(raw []byte) error {
	doc, err := fhirjson.Parse(raw, fhirjson.Limits{Depth: maxDepth + 1})
	if err != nil {
		return f.unread("a resource in JSON as FHIR has it: every member once, UTF-8, not deeper than %d", maxDepth)
	}
	var resource fhirjson.Value
	url := ""
	for key, v := range doc.Root().Members() {
		switch key {
		case "resource":
			resource = v
		case "fullUrl":
			url = v.Text()
		case "search", "id":
		default:
			return f.unread("an entry of fullUrl, resource and search alone")
		}
	}
	if !resource.Exists() {
		return f.unread("an entry with a resource")
	}
	return f.resource(resource.Raw(), url)
}

// unread notes a row that says nothing that could be read.
func (f *fhirReader) unread(format string, args ...any) error {
	f.n++
	return f.add(Row{Number: f.n, Problems: []Problem{{"row", fmt.Sprintf(format, args...)}}}, "")
}

func (f *fhirReader) add(row Row, about string) error {
	if len(f.rows) >= MaxRows || len(f.people) > 4*MaxRows {
		return wrong("list", "at most %d rows; cut it in pieces", MaxRows)
	}
	f.rows, f.about = append(f.rows, row), append(f.about, about)
	return nil
}

// resource reads a Consent or a Patient.
func (f *fhirReader) resource(raw []byte, url string) error {
	doc, err := fhirjson.Parse(raw, fhirjson.Limits{Depth: maxDepth})
	if err != nil {
		return f.unread("a resource in JSON as FHIR has it: every member once, UTF-8, not deeper than %d", maxDepth)
	}
	root := doc.Root()
	switch {
	case root.Get("resourceType").Is("Patient"):
		f.n++
		p := patient(root)
		names := []string{url}
		if id := root.Get("id").Text(); id != "" {
			names = append(names, "Patient/"+id)
		}
		for _, name := range names {
			if name == "" {
				continue
			}
			known, twice := f.people[name]
			p.twice = twice && (known.number != p.number || known.birthDate != p.birthDate || known.twice)
			f.people[strings.Clone(name)] = p
		}
		if len(f.people) > 4*MaxRows {
			return wrong("list", "at most %d rows; cut it in pieces", MaxRows)
		}
		return nil
	case root.Get("resourceType").Is("Consent"):
		f.n++
		row := Row{Number: f.n}
		about := f.consent(&row, root)
		return f.add(row, about)
	}
	return f.unread("a Consent or a Patient")
}

// patient reads what tells who somebody is.
func patient(p fhirjson.Value) person {
	out := person{birthDate: p.Get("birthDate").Text()}
	for id := range p.Get("identifier").Elems() {
		if id.Get("system").Is(record.NHSNumberSystem) {
			if v := id.Get("value").Text(); out.number != "" && out.number != v {
				out.twice = true
			} else {
				out.number = v
			}
		}
	}
	return out
}

// finish gives every row its person, and gives it out.
func (f *fhirReader) finish(each func(Row) error) error {
	for i := range f.rows {
		row := &f.rows[i]
		if ref := f.about[i]; ref != "" {
			c := cells{row, f.interned}
			switch p, ok := f.people[ref]; {
			case !ok:
				c.problem("patient", "a Patient that the list holds, or that is contained")
			case p.twice:
				c.problem("patient", "one Patient with one NHS number: the list holds several that are called so")
			default:
				c.set("nhs_number", p.number)
				c.set("birth_date", p.birthDate)
			}
		}
		if err := each(*row); err != nil {
			return err
		}
		f.rows[i] = Row{} // it has been given away
	}
	return nil
}

// consent reads a Consent. What it says that an objection cannot say is a problem: nothing is taken to mean something else. It returns the reference
// to the Patient, where that is not known yet.
//
// When it was agreed, which organisation presented the policy, the category and the narrative are passed over: they change nothing that is withheld.
func (f *fhirReader) consent(row *Row, root fhirjson.Value) (about string) {
	c := cells{row, f.interned}
	o := &row.Objection
	o.Responsible = "self"
	contained := map[string]person{}
	var provision fhirjson.Value
	method, sources := "", 0
	sawStatus, sawScope, sawPatient, sawPolicy := false, false, false, false
	for key, v := range root.Members() {
		switch key {
		case "resourceType", "meta", "language", "text", "category", "dateTime", "organization":
		case "id":
			id := v.Text()
			if before, twice := f.ids[id]; twice {
				c.problem("id", fmt.Sprintf("an id of its own: that of row %d is the same", before))
			}
			f.ids[strings.Clone(id)] = row.Number
		case "contained":
			for p := range v.Elems() {
				if !p.Get("resourceType").Is("Patient") {
					c.problem("contained", "a Patient and nothing else")
					continue
				}
				name := "#" + p.Get("id").Text()
				if _, twice := contained[name]; twice {
					c.problem("contained", "each Patient with an id of its own")
				}
				contained[name] = patient(p)
			}
		case "extension":
			for e := range v.Elems() {
				if !e.Get("url").Is(f.names.CodeBase+methodPath) || method != "" || e.Len() != 2 {
					c.problem("extension", "none but "+methodPath+" of ours, once")
					continue
				}
				method = e.Get("valueCode").Text()
			}
		case "identifier":
			if first := v.First(); o.Source == "" && v.Len() == 1 && !first.Get("system").Is(f.names.CodeBase+idPath) {
				c.set("source", first.Get("value").Text())
			}
		case "status":
			sawStatus = true
			for ours, theirs := range statuses {
				if v.Is(theirs) {
					o.Status = ours
				}
			}
			if o.Status == "" {
				c.problem("status", "proposed, active, rejected or inactive")
			}
		case "scope":
			sawScope = coded(v, scopeSystem, scopePrivacy)
		case "patient":
			sawPatient = true
			about = v.Get("reference").Text()
			if id := v.Get("identifier"); about == "" && id.Get("system").Is(record.NHSNumberSystem) {
				c.set("nhs_number", id.Get("value").Text())
				c.set("birth_date", "") // it is nowhere
			} else if about == "" {
				c.problem("patient", "a reference to a Patient that the list holds, or that is contained")
			}
		case "performer":
			f.performer(c, v, root.Get("patient"))
		case "sourceReference":
			sources++
			switch {
			case v.At("identifier", "value").Text() != "":
				c.set("source", v.At("identifier", "value").Text())
			case v.Get("reference").Text() != "":
				c.set("source", v.Get("reference").Text())
			}
		case "sourceAttachment":
			sources++
			if v.Get("data").Exists() {
				c.problem("sourceAttachment", "no document in it: give its reference")
			} else if url := v.Get("url").Text(); url != "" {
				c.set("source", url)
			}
		case "policy":
			sawPolicy = true
		case "policyRule":
			sawPolicy = true
			if !coded(v, "http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTOUT") {
				c.problem("policyRule", "OPTOUT, or none")
			}
		case "provision":
			provision = v
		default:
			c.problem(element(key), "nothing: an objection cannot say this")
		}
	}
	if !sawStatus {
		c.problem("status", "proposed, active, rejected or inactive")
	}
	if !sawScope {
		c.problem("scope", scopePrivacy)
	}
	if !sawPatient {
		c.problem("patient", "a reference to a Patient that the list holds, or that is contained")
	}
	if !sawPolicy {
		c.problem("policy", "what is objected to (FHIR R4 Consent, ppc-1)")
	}
	switch {
	case method != "":
		c.set("method", method)
	case sources == 1: // a document that was signed
		c.set("method", "form")
	default:
		c.problem("source[x]", "the document on which the wish is on file")
	}
	f.provision(c, provision)
	if p, ok := contained[about]; ok {
		if about = ""; p.twice {
			c.problem("contained", "a Patient with one NHS number")
		}
		c.set("nhs_number", p.number)
		c.set("birth_date", p.birthDate)
	} else if strings.HasPrefix(about, "#") {
		about = ""
		c.problem("patient", "a Patient that is contained")
	}
	return strings.Clone(about)
}

// element returns a member's name if it is one that FHIR could know, so that nothing odd is repeated.
func element(key string) string {
	if len(key) > 40 || strings.ContainsFunc(key, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_') }) {
		return "(an element that is not shown)"
	}
	return key
}

// performer reads on whose behalf the wish was made known.
func (f *fhirReader) performer(c cells, v, patient fhirjson.Value) {
	p := v.First()
	self := p.Get("reference").Text() != "" && p.Get("reference").Text() == patient.Get("reference").Text() || p.Get("type").Is("Patient")
	switch {
	case v.Len() != 1:
		c.problem("performer", "one: who made the wish known")
	case self:
	case p.Get("type").Is("RelatedPerson") && p.Get("display").Text() != "":
		c.set("responsible", p.Get("display").Text())
	default:
		c.problem("performer", "the Patient, or a RelatedPerson by display")
	}
}

// provision reads the one rule. An objection is a rule that denies direct care: to everybody's record, one organisation's, or one section.
func (f *fhirReader) provision(c cells, v fhirjson.Value) {
	o := &c.row.Objection
	if !v.Exists() {
		c.problem("provision", "a rule that denies")
		return
	}
	if !v.Get("type").Is("deny") {
		c.problem("provision.type", "deny: what is not denied needs no permission here")
	}
	o.Scope = consent.ToAll
	treatment := false
	for key, e := range v.Members() {
		switch key {
		case "type":
		case "period":
			o.From, o.Until = c.time("provision.period.start", e.Get("start").Text(), false), c.time("provision.period.end", e.Get("end").Text(), true)
			if !o.From.IsZero() && !o.Until.IsZero() && !o.From.Before(o.Until) {
				c.problem("provision.period.end", "not before its start")
			}
		case "purpose":
			for p := range e.Elems() {
				code := p.Get("code").Text()
				switch {
				case !p.Get("system").Is(actReason) || !slices.Contains([]string{"TREAT", "ETREAT", "HPAYMT", "HOPERAT", "PATRQT"}, code):
					c.problem("provision.purpose", "of v3-ActReason: TREAT, and of ETREAT, HPAYMT, HOPERAT and PATRQT what is meant too")
				case code == "TREAT":
					treatment = true
				case code == "PATRQT":
					o.Absolute = true
				}
			}
		case "securityLabel":
			label := e.First()
			s, ok := record.ParseSection(label.Get("code").Text())
			if e.Len() != 1 || !label.Get("system").Is(f.names.CodeBase+record.SectionSystemPath) || !ok || v.Get("data").Exists() {
				c.problem("provision.securityLabel", "one section of ours: "+record.SectionCodes()+"; and no data beside it")
				continue
			}
			o.Scope, o.Section = consent.ToSection, s
		case "data":
			at := e.First()
			key, ok := f.custodian(at.At("reference", "identifier"))
			if e.Len() != 1 || !at.Get("meaning").Is("authoredby") || !ok {
				c.problem("provision.data", "authoredby one organisation whose record is shown here, by the identifier "+record.ODSSystem)
				continue
			}
			o.Scope, o.Custodian = consent.ToCustodian, key
		default:
			c.problem("provision."+element(key), "nothing: an objection cannot say this")
		}
	}
	if !treatment {
		c.problem("provision.purpose", "TREAT: an objection is to direct care")
	}
}

func (f *fhirReader) custodian(id fhirjson.Value) (record.CustodianKey, bool) {
	value := id.Get("value").Text()
	switch {
	case id.Get("system").Is(record.ODSSystem) && f.names.Custodian != nil:
		return f.names.Custodian(record.ODSCode(value))
	case id.Get("system").Is(f.names.CodeBase + custodianPath):
		key := record.CustodianKey(value)
		return key, key.Valid()
	}
	return "", false
}

// coded reports whether a CodeableConcept holds a code, among others or alone.
func coded(v fhirjson.Value, system, code string) bool {
	for c := range v.Get("coding").Elems() {
		if c.Get("system").Is(system) && c.Get("code").Is(code) {
			return true
		}
	}
	return false
}
