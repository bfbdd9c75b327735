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

// value is the value of a FHIR element along a path.
func (e *element) value(path ...string) string { return e.child(path...).attr("value") }

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

// fromJSON makes elements of a FHIR resource in JSON, as many as XML may have. The members that stand for a value with an underscore (extensions of
// primitives) are left out.
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
	case fhirjson.Array, fhirjson.Null:
	default:
		e.attrs = []attribute{{"value", string(v.Raw())}}
	}
	return e
}

func (b *builder) members(e *element, v fhirjson.Value) {
	for key, m := range v.Members() {
		switch {
		case b.left < 0:
			return
		case key == "resourceType" || strings.HasPrefix(key, "_"):
		case key == "div" && m.Kind() == fhirjson.String:
			if div, err := b.div(m.Text()); err == nil {
				e.kids = append(e.kids, div)
			} else { // not XHTML: kept as words
				e.kids = append(e.kids, &element{name: "div", space: spaceHTML, kids: []*element{{text: m.Text()}}})
			}
		case m.Kind() == fhirjson.Array:
			for x := range m.Elems() {
				if b.left < 0 {
					return
				}
				e.kids = append(e.kids, b.element(key, x))
			}
		default:
			e.kids = append(e.kids, b.element(key, m))
		}
	}
}

// div reads a narrative, within what is left.
func (b *builder) div(text string) (*element, error) {
	e, count, err := parseElements(b.ctx, []byte(text), 64, max(b.left, 0))
	b.left -= count
	return e, err
}
