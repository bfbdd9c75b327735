package socialcare

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// subjectURL is the address, within a reply, of the Patient who was asked about; the merge makes an id with its key (M-5). strangerURL is that of
// somebody whom an item names instead.
const (
	subjectURL  = "urn:mycarerecord:subject"
	strangerURL = "urn:mycarerecord:stranger"
)

const (
	ours         = "https://mycarerecord.example/StructureDefinition/"
	extOriginal  = ours + "source-original" // valueString: the value as it stood, where the element says less or nothing
	extField     = ours + "source-field"    // valueString: "name: value", a member that the mapping does not know
	absentReason = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
	nhsStatus    = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
	nhsStatusExt = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
)

// conversions says what was converted, for Provenance.
var conversions = []string{"social care JSON to FHIR R4, by mapping"}

// node is a JSON value that is being made: an object with its members in order, a list, or bytes.
type node struct {
	keys    []string
	members map[string]*node
	list    []*node
	raw     []byte
}

func (n *node) member(key string) *node {
	if n.members == nil {
		n.members = map[string]*node{}
	}
	m := n.members[key]
	if m == nil {
		m = &node{}
		n.keys, n.members[key] = append(n.keys, key), m
	}
	return m
}

func (n *node) element(i int) *node {
	for len(n.list) <= i {
		n.list = append(n.list, &node{})
	}
	return n.list[i]
}

// at follows a path; i stands for the star. beside is the member that holds what is said of a primitive value beside it.
func (n *node) at(path []step, i int) (value, beside *node) {
	for k, s := range path {
		if k == len(path)-1 {
			beside = n.member("_" + s.name)
		}
		n = n.member(s.name)
		if s.index != noList {
			at := s.index
			if at == star {
				at = i
			}
			n = n.element(at)
			if beside != nil {
				beside = beside.element(at)
			}
		}
	}
	return n, beside
}

// write appends the value; false, and nothing written, if it is empty. aligned lists keep the places of what is in them with null, because what stands
// beside a primitive is found by its place; others leave out what is empty.
func (n *node) write(out []byte, aligned bool) ([]byte, bool) {
	switch {
	case n.raw != nil:
		return append(out, n.raw...), true
	case len(n.list) > 0:
		start, any := len(out), false
		out = append(out, '[')
		for _, e := range n.list {
			mark := len(out)
			if mark > start+1 {
				out = append(out, ',')
			}
			var has bool
			if out, has = e.write(out, false); !has && aligned {
				out = append(out, "null"...)
			} else if !has {
				out = out[:mark]
			}
			any = any || has
		}
		if !any {
			return out[:start], false
		}
		return append(out, ']'), true
	}
	start, first := len(out), true
	out = append(out, '{')
	for _, k := range n.keys {
		mark := len(out)
		if !first {
			out = append(out, ',')
		}
		out = append(fhirjson.AppendQuote(out, k), ':')
		var has bool
		if out, has = n.members[k].write(out, k[0] == '_' || n.members["_"+k].says()); !has {
			out = out[:mark]
			continue
		}
		first = false
	}
	if first {
		return out[:start], false
	}
	return append(out, '}'), true
}

// says reports whether anything would be written.
func (n *node) says() bool {
	if n == nil {
		return false
	}
	if n.raw != nil {
		return true
	}
	for _, e := range n.list {
		if e.says() {
			return true
		}
	}
	for _, k := range n.keys {
		if n.members[k].says() {
			return true
		}
	}
	return false
}

// maxElements caps a list that a star makes.
const maxElements = 1000

// item is one thing of the council's that becomes a resource.
type item struct {
	v    fhirjson.Value
	made *node
	used map[int]bool // by place in the text: values that became something
	err  error
}

func newItem(v fhirjson.Value, resource string) *item {
	it := &item{v: v, made: &node{}, used: map[int]bool{}}
	it.made.member("resourceType").raw = fhirjson.Quote(resource)
	return it
}

// apply makes the elements of the fields.
func (it *item) apply(m *mapping, fields []*field) {
	for _, f := range fields {
		if f.Value != "" {
			it.set(m, f, constant(f.Value), 0)
			continue
		}
		each(it.v, f.From, 0, func(v fhirjson.Value, i int) {
			if i >= maxElements {
				it.err = broker.ErrTooMuch
				return
			}
			it.set(m, f, v, i)
		})
	}
}

// constant is a text as if it had come in an answer.
func constant(s string) fhirjson.Value {
	d, err := fhirjson.Parse(fhirjson.Quote(s), fhirjson.Limits{})
	if err != nil {
		return fhirjson.Value{} // nothing that a configuration can hold
	}
	return d.Root()
}

// each calls f for what stands at a path, with its place in the list that a star goes through: an element that lacks a member must not get its
// neighbour's.
func each(v fhirjson.Value, path string, i int, f func(fhirjson.Value, int)) {
	if path == "" {
		if v.Exists() {
			f(v, i)
		}
		return
	}
	name, rest, _ := strings.Cut(path, ".")
	if list, is := strings.CutSuffix(name, "[*]"); is {
		if l := v.Get(list); l.Kind() == fhirjson.Array {
			n := 0
			for e := range l.Elems() {
				each(e, rest, n, f)
				n++
			}
		}
		return
	}
	each(v.Get(name), rest, i, f)
}

// scalar returns a text, number or truth value as text; false for what is none, and for nothing.
func scalar(v fhirjson.Value) (string, bool) {
	switch v.Kind() {
	case fhirjson.String:
		s := strings.TrimSpace(v.Text())
		return s, s != ""
	case fhirjson.Number, fhirjson.Bool:
		return string(v.Raw()), true
	}
	return "", false
}

// set makes one element of one value. What the element cannot hold exactly stands beside it.
func (it *item) set(m *mapping, f *field, v fhirjson.Value, i int) {
	text, ok := scalar(v)
	if !ok {
		return // nothing, or a thing that the mapping does not expect: it is kept with what is not mapped
	}
	value, beside := it.made.at(f.to, i)
	if f.From != "" {
		it.used[v.Start()] = true
	}
	keep := func() {
		x := &node{}
		x.member("url").raw = fhirjson.Quote(extOriginal)
		x.member("valueString").raw = fhirjson.Quote(text)
		list := beside.member("extension")
		list.list = append(list.list, x)
	}
	meaning := text
	if f.Map != nil {
		known := false
		if meaning, known = f.Map[text]; !known {
			// Not guessed: the element says that it is not known, and what stood there stands beside.
			x := &node{}
			x.member("url").raw = fhirjson.Quote(absentReason)
			x.member("valueCode").raw = fhirjson.Quote("unknown")
			list := beside.member("extension")
			list.list = append(list.list, x)
			keep()
			return
		}
	}
	switch f.As {
	case "date", "time":
		t, exact := readDate(meaning, m.Dates, f.As == "time")
		if t != "" {
			value.raw = fhirjson.Quote(t)
		}
		if !exact {
			keep()
		}
	case "number":
		if isNumber(meaning) {
			value.raw = []byte(meaning)
		} else {
			keep()
		}
	case "boolean":
		if meaning == "true" || meaning == "false" {
			value.raw = []byte(meaning)
		} else {
			keep()
		}
	case "reference":
		for _, c := range m.Collections {
			if c.Name == f.Of {
				value.raw = fhirjson.Quote(c.Resource + "/" + identity(c.Name, text))
			}
		}
	default:
		value.raw = fhirjson.Quote(meaning)
	}
}

// isNumber reports whether s is a number as JSON writes it, without an exponent: it goes over character by character.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole, rest, dotted := strings.Cut(s, ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return len(s) <= 64 && digits(whole) && (len(whole) == 1 || whole[0] != '0') && (!dotted || digits(rest))
}

// maxKept caps the members of an item that are kept beside what the mapping knows.
const maxKept = 2000

// keepRest keeps every member of the item that nothing was made of, but for those that the mapping ignores.
func (it *item) keepRest(ignore []string) {
	aside := map[int]bool{}
	for _, path := range ignore {
		each(it.v, path, 0, func(v fhirjson.Value, _ int) { aside[v.Start()] = true })
	}
	list := it.made.member("extension")
	var walk func(path string, v fhirjson.Value)
	walk = func(path string, v fhirjson.Value) {
		if aside[v.Start()] {
			return
		}
		switch v.Kind() {
		case fhirjson.Object:
			for k, x := range v.Members() {
				walk(strings.TrimPrefix(path+"."+k, "."), x)
			}
		case fhirjson.Array:
			for x := range v.Elems() {
				walk(path, x)
			}
		default:
			if text, ok := scalar(v); ok && !it.used[v.Start()] {
				if len(list.list) == maxKept {
					it.err = broker.ErrTooMuch
					return
				}
				x := &node{}
				x.member("url").raw = fhirjson.Quote(extField)
				x.member("valueString").raw = fhirjson.Quote(path + ": " + text)
				list.list = append(list.list, x)
			}
		}
	}
	walk("", it.v)
}

// reference is a Reference to a Patient.
func (it *item) subject(element, url string) {
	r := it.made.member(element)
	r.member("reference").raw = fhirjson.Quote(url)
	r.member("type").raw = fhirjson.Quote("Patient")
}

// bytes writes the resource.
func (it *item) bytes() []byte {
	out, _ := it.made.write(nil, false) // it has a type at least
	return out
}

// identity makes an id of what tells an item from all others: a digest, so that nothing of the council's stands in an address.
func identity(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// nhsNumber reads an NHS number as people write it.
func nhsNumber(v fhirjson.Value) (record.NHSNumber, error) {
	text, _ := scalar(v)
	return record.ParseNHSNumber(strings.NewReplacer(" ", "", "-", "").Replace(text)) //nolint:wrapcheck // a constant
}

// patient writes the Patient of the person who was found.
func (m *mapping) patient(v fhirjson.Value, number record.NHSNumber) (*item, error) {
	it := newItem(v, "Patient")
	id := it.made.member("identifier").element(0)
	if status, ok := scalar(get(v, m.Person.Status)); ok && m.Person.Status != "" {
		x := id.member("extension").element(0)
		x.member("url").raw = fhirjson.Quote(nhsStatusExt)
		concept := x.member("valueCodeableConcept")
		if code := m.Person.Statuses[status]; code != "" {
			coding := concept.member("coding").element(0)
			coding.member("system").raw = fhirjson.Quote(nhsStatus)
			coding.member("code").raw = fhirjson.Quote(code)
		} else { // a word that the mapping does not know is no verification
			coding := concept.member("coding").element(0)
			coding.member("display").raw = fhirjson.Quote(status)
		}
		it.used[get(v, m.Person.Status).Start()] = true
	}
	id.member("system").raw = fhirjson.Quote(record.NHSNumberSystem)
	id.member("value").raw = fhirjson.Quote(number.Reveal())
	it.used[get(v, m.Person.Number).Start()] = true
	own := it.made.member("identifier").element(1)
	if text, ok := scalar(get(v, m.Person.ID)); ok {
		own.member("value").raw = fhirjson.Quote(text)
		it.used[get(v, m.Person.ID).Start()] = true
	}
	it.apply(m, m.Person.Fields)
	it.keepRest(nil)
	return it, it.err
}

// get follows a path without stars.
func get(v fhirjson.Value, path string) fhirjson.Value {
	if path == "" {
		return v
	}
	for name := range strings.SplitSeq(path, ".") {
		v = v.Get(name)
	}
	return v
}

// unclear reports whether something stands at a path that looks like nothing: under a name in other case, or where what should have members is no object.
func unclear(v fhirjson.Value, path string) bool {
	name, rest, deeper := strings.Cut(path, ".")
	if v.Variant(name) {
		return true
	}
	if !deeper {
		return false
	}
	v = v.Get(name)
	if v.Kind() != fhirjson.Object {
		text, err := pageKey(v)
		return err != nil || text != ""
	}
	return unclear(v, rest)
}

// resource writes what one item of a collection is. theirs says that the item names somebody else: it is written as being about them, and the merge
// drops and counts it.
func (m *mapping) resource(c *collection, v fhirjson.Value, personID string) (made *item, theirs bool, err error) {
	if v.Kind() != fhirjson.Object {
		return nil, false, broker.ErrMalformed
	}
	it := newItem(v, c.Resource)
	own := string(v.Raw())
	if c.ID != "" {
		text, ok := scalar(get(v, c.ID))
		if !ok {
			return nil, false, broker.ErrMalformed
		}
		own = text
	}
	it.made.member("id").raw = fhirjson.Quote(identity(c.Name, own))
	url := subjectURL
	if c.Person != "" {
		text, ok := scalar(get(v, c.Person))
		if !ok {
			return nil, false, broker.ErrMalformed
		}
		it.used[get(v, c.Person).Start()] = true
		if text != personID {
			url, theirs = strangerURL, true
		}
	}
	it.subject(targets[c.Resource].person, url)
	it.apply(m, c.Fields)
	for _, element := range targets[c.Resource].required {
		it.require(element)
	}
	it.keepRest(c.Ignore)
	return it, theirs, it.err
}

// require marks an element that FHIR demands, and for which the item had nothing, as not known.
func (it *item) require(element string) {
	if it.made.member(element).says() || it.made.member("_"+element).says() {
		return
	}
	x := it.made.member("_" + element)
	if element == "code" || element == "content" { // not primitive: the extension stands within
		x = it.made.member(element)
		if element == "content" {
			x = x.element(0).member("attachment")
		}
	}
	e := &node{}
	e.member("url").raw = fhirjson.Quote(absentReason)
	e.member("valueCode").raw = fhirjson.Quote("unknown")
	list := x.member("extension")
	list.list = append(list.list, e)
}

// maxPageKey caps what leads to the next page, as wire caps an address.
const maxPageKey = 8 << 10

// pageKey is what leads to the next page: an address, or the number or key of the page. It is "" after the last page, where a council writes nothing: no
// member, null, false, an empty text, or something with nothing in it. Whatever else cannot be asked for is a page that would be missing.
func pageKey(v fhirjson.Value) (string, error) {
	switch v.Kind() {
	case fhirjson.String, fhirjson.Number:
		if text, _ := scalar(v); len(text) <= maxPageKey {
			return text, nil
		}
	case fhirjson.Object, fhirjson.Array:
		if v.Len() == 0 {
			return "", nil
		}
	case fhirjson.Bool:
		if string(v.Raw()) == "false" {
			return "", nil
		}
	default:
		return "", nil
	}
	return "", broker.ErrMalformed
}
