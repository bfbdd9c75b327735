package document

import (
	"context"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// element is a piece of a document, whatever it was written in: XML, or JSON of FHIR, whose members become elements as they are in FHIR's XML. Nothing is
// ever made of it but text.
type element struct {
	name  string // without prefix
	space string // namespace; "" in what came from JSON
	attrs []attribute
	kids  []*element // in order; a piece of text is one without a name
	text  string     // of a piece of text
}

type attribute struct{ name, value string }

// Namespaces that are read.
const (
	spaceCDA  = "urn:hl7-org:v3"
	spaceFHIR = "http://hl7.org/fhir"
	spaceHTML = "http://www.w3.org/1999/xhtml"
)

// attr returns an attribute, "" for none.
func (e *element) attr(name string) string {
	if e == nil {
		return ""
	}
	for _, a := range e.attrs {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// child returns the first child along a path of names, nil for none. It may be called on nil.
func (e *element) child(path ...string) *element {
	for _, name := range path {
		if e == nil {
			return nil
		}
		var found *element
		for _, k := range e.kids {
			if k.name == name {
				found = k
				break
			}
		}
		e = found
	}
	return e
}

// all returns the children of a name.
func (e *element) all(name string) []*element {
	if e == nil {
		return nil
	}
	var out []*element
	for _, k := range e.kids {
		if k.name == name {
			out = append(out, k)
		}
	}
	return out
}

// value is the value of a FHIR element along a path: of several of the last name that of the first that has one, because what stands before it may be nothing but
// an extension.
func (e *element) value(path ...string) string {
	last := len(path) - 1
	for _, k := range e.child(path[:last]...).all(path[last]) {
		if v := k.attr("value"); v != "" {
			return v
		}
	}
	return ""
}

// numbers are the values of an identifier if any system of it is that of NHS numbers. There is one of each in FHIR; whoever sends more hides nothing with it.
func (e *element) numbers() (list []string) {
	for _, system := range e.all("system") {
		if isNHSNumber(system.attr("value")) {
			for _, v := range e.all("value") {
				list = append(list, v.attr("value"))
			}
			return list
		}
	}
	return nil
}

// plain reports whether there are no elements within e. White space between tags is none.
func (e *element) plain() bool {
	for _, k := range e.kids {
		if k.name != "" {
			return false
		}
	}
	return true
}

// words is all text in e, with single spaces.
func (e *element) words() string {
	var b strings.Builder
	var visit func(e *element)
	visit = func(e *element) {
		if e == nil {
			return
		}
		b.WriteString(e.text)
		for _, k := range e.kids {
			if k.name != "" {
				b.WriteByte(' ')
			}
			visit(k)
		}
	}
	visit(e)
	return strings.Join(strings.Fields(b.String()), " ")
}

// maxValues is how many values JSON may have before it is read at all: its index costs more than it does. Most of a large document is one string.
const maxValues = 4 * maxElements

// ParseJSON reads a whole document in JSON; strings may be as long as it is.
func ParseJSON(body []byte, depth int) (*fhirjson.Doc, error) {
	values, within := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case within && c == '\\':
			i++
		case c == '"':
			within = !within
		case !within && (c == ',' || c == '{' || c == '['):
			if values++; values > maxValues {
				return nil, ErrTooDeep
			}
		}
	}
	return fhirjson.Parse(body, fhirjson.Limits{Depth: depth, StringBytes: len(body)}) //nolint:wrapcheck // its kind is looked at
}

// fromJSON makes elements of a FHIR resource in JSON, as many as XML may have. The order of its members makes no difference but to the order of the elements.
func fromJSON(ctx context.Context, v fhirjson.Value) (*element, error) {
	b := &builder{ctx: ctx, left: maxElements}
	e := b.element("", v)
	if b.left < 0 {
		return nil, ErrTooDeep
	}
	return e, nil
}

// builder counts what is made.
type builder struct {
	ctx  context.Context //nolint:containedctx // of one call
	left int
}

func (b *builder) element(name string, v fhirjson.Value) *element {
	e := &element{name: name}
	if b.left--; b.left < 0 {
		return e
	}
	switch v.Kind() {
	case fhirjson.Object:
		if name == "resource" || name == "contained" || name == "" { // FHIR's XML names the type here
			inner := &element{name: v.Get("resourceType").Text(), space: spaceFHIR}
			b.members(inner, v)
			if name == "" {
				return inner
			}
			e.kids = []*element{inner}
			return e
		}
		b.members(e, v)
	case fhirjson.String:
		e.attrs = []attribute{{"value", v.Text()}}
	case fhirjson.Array, fhirjson.Null: // within an array: FHIR knows none
	default:
		e.attrs = []attribute{{"value", string(v.Raw())}}
	}
	return e
}

// members makes elements of what is in an object. What JSON says of a primitive apart from its value, in a member of the same name behind an underscore, goes into
// the element of the value, as in XML; it stands by itself only where there is no value.
func (b *builder) members(e *element, v fhirjson.Value) {
	var beside map[string]fhirjson.Value
	values := map[string]bool{}
	for key, m := range v.Members() {
		if name, is := strings.CutPrefix(key, "_"); !is {
			values[key] = true
		} else if name != "" {
			if beside == nil {
				beside = map[string]fhirjson.Value{}
			}
			beside[name] = m
		}
	}
	for key, m := range v.Members() {
		if b.left < 0 {
			return
		}
		name, apart := strings.CutPrefix(key, "_")
		switch {
		case name == "" || name == "resourceType" || apart && values[name]:
		case apart:
			b.several(e, name, fhirjson.Value{}, m)
		case name == "url" && (e.name == "extension" || e.name == "modifierExtension") && m.Kind() == fhirjson.String:
			e.attrs = append(e.attrs, attribute{"url", m.Text()}) // as XML has it
		case name == "div" && m.Kind() == fhirjson.String:
			if div, err := b.div(m.Text()); err == nil {
				e.kids = append(e.kids, div)
			} else { // not XHTML: kept as words
				e.kids = append(e.kids, &element{name: "div", space: spaceHTML, kids: []*element{{text: m.Text()}}})
			}
			b.several(e, name, fhirjson.Value{}, beside[name])
		default:
			b.several(e, name, m, beside[name])
		}
	}
}

// several makes an element of each value of a member, with what is said beside it, by its place.
func (b *builder) several(e *element, name string, values, beside fhirjson.Value) {
	var said []fhirjson.Value
	for x := range beside.Elems() {
		said = append(said, x)
	}
	i := 0
	for x := range values.Elems() {
		var more fhirjson.Value
		if i < len(said) {
			more = said[i]
		}
		i++
		b.one(e, name, x, more)
	}
	for ; i < len(said); i++ {
		b.one(e, name, fhirjson.Value{}, said[i])
	}
}

// one makes an element of a value and of what is said beside it, none of neither. What FHIR does not know, something beside what is no primitive, becomes an
// element behind it.
func (b *builder) one(e *element, name string, value, more fhirjson.Value) {
	has, says := something(value), something(more)
	switch {
	case b.left < 0:
	case has && says && more.Kind() == fhirjson.Object && value.Kind() != fhirjson.Object && value.Kind() != fhirjson.Array:
		k := b.element(name, value)
		b.members(k, more)
		e.kids = append(e.kids, k)
	default:
		if has {
			e.kids = append(e.kids, b.element(name, value))
		}
		if says {
			e.kids = append(e.kids, b.element(name, more))
		}
	}
}

// something reports whether v is more than a null, which only keeps a place in JSON.
func something(v fhirjson.Value) bool { return v.Exists() && v.Kind() != fhirjson.Null }

// div reads a narrative, within what is left.
func (b *builder) div(text string) (*element, error) {
	e, count, err := parseElements(b.ctx, []byte(text), 64, max(b.left, 0))
	b.left -= count
	return e, err
}
