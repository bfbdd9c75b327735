package stu3

import (
	_ "embed" // elements.txt
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

//go:embed elements.txt
var elementsText string

// kind is what JSON an element's values are.
type kind uint8

const (
	text    kind = iota // a string
	number              // a number
	boolean             // true or false
	complex             // an object
)

// numbers and booleans are the primitive types that are no strings in JSON.
var numbers = map[string]bool{"integer": true, "positiveInt": true, "unsignedInt": true, "decimal": true}

// shape is a resource, a backbone element or a datatype.
type shape struct {
	name  string // "Observation", "Observation.component", "CodeableConcept"
	to    string // what a resource is in R4
	rules map[string]*rule
	end   func(c *conv, f *frame) // what R4 demands beside what came; nil for nothing
}

// rule is one element.
type rule struct {
	name, to string
	path     string // "Observation.component.code"
	value    string // "CodeableConcept": what follows "value" in an extension
	kind     kind
	shape    *shape // of complex elements
	many     bool   // a list in R4
	codes    map[string]string
	system   string // a code that is a CodeableConcept in R4
	gone     bool
	do       func(c *conv, f *frame, r *rule, m fhirjson.Value)
}

// table is all that is known.
type table struct {
	resources  map[string]*shape
	datatypes  map[string]*shape
	extensions map[string]extRule
	beside     *shape // of what stands beside a primitive: id and extension
}

// tables is read once. A test holds it against the published definitions.
var tables = read(elementsText)

// aliases are datatypes that are a Quantity in all but name.
var aliases = map[string]string{"SimpleQuantity": "Quantity", "Duration": "Quantity", "Age": "Quantity", "Count": "Quantity", "Distance": "Quantity"}

// datatypeNames are the sections of elements.txt that are no resources.
var datatypeNames = map[string]bool{"Reference": true, "Coding": true, "CodeableConcept": true, "Identifier": true, "HumanName": true, "Address": true,
	"ContactPoint": true, "Period": true, "Range": true, "Ratio": true, "Quantity": true, "Attachment": true, "Annotation": true, "Meta": true, "Dosage": true,
	"Timing": true, "SampledData": true, "Extension": true}

// read reads elements.txt. What it cannot read is our own mistake, found by any test.
func read(source string) *table {
	t := &table{extensions: extensions, resources: map[string]*shape{}, datatypes: map[string]*shape{}, beside: &shape{name: "Element", rules: map[string]*rule{}}}
	for name := range datatypeNames {
		t.datatypes[name] = &shape{name: name, to: name, rules: map[string]*rule{}}
	}
	var top *shape
	for line := range strings.Lines(source) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			name, rest, _ := strings.Cut(line[1:], "]")
			to := name
			if from, r4, renamed := strings.Cut(name, " > "); renamed {
				name, to = from, r4
			}
			if rest != "" {
				panic("stu3: elements.txt: " + line)
			}
			if top = t.datatypes[name]; top == nil {
				top = &shape{name: name, to: to, rules: map[string]*rule{}}
				t.resources[name] = top
			}
			top.end = ends[name]
		default:
			t.line(top, line)
		}
	}
	return t
}

// line reads one element.
func (t *table) line(top *shape, line string) {
	fields := strings.Fields(line)
	if top == nil || len(fields) < 2 {
		panic("stu3: elements.txt: " + line)
	}
	path, typ := fields[0], fields[1]
	in := top
	for {
		head, rest, deeper := strings.Cut(path, ".")
		if !deeper {
			break
		}
		in, path = in.rules[head].shape, rest
	}
	if name, choice := strings.CutSuffix(path, "[x]"); choice {
		for one := range strings.SplitSeq(typ, "|") {
			t.element(top, in, name+valueName(one), one, fields[2:])
		}
		return
	}
	t.element(top, in, path, typ, fields[2:])
}

// valueName is what a type is called at the end of an element's name.
func valueName(typ string) string {
	if typ == "SimpleQuantity" {
		return "Quantity"
	}
	return strings.ToUpper(typ[:1]) + typ[1:]
}

func (t *table) element(top, in *shape, name, typ string, action []string) {
	r := &rule{name: name, to: name, path: in.name + "." + name, kind: complex}
	typ, r.many = strings.CutSuffix(typ, "*")
	switch {
	case typ == "Backbone":
		r.shape = &shape{name: r.path, rules: map[string]*rule{}, end: ends[r.path]}
	case typ[0] == '@':
		r.shape = top.rules[typ[1:]].shape
	case strings.HasPrefix(typ, "code{"):
		r.kind, r.value, r.codes = text, "Code", map[string]string{}
		for c := range strings.SplitSeq(strings.TrimSuffix(typ[len("code{"):], "}"), ",") {
			from, to, renamed := strings.Cut(c, "=")
			if !renamed || to == "" { // <= and >= are codes
				from, to = c, c
			}
			r.codes[from] = to
		}
	case typ == "Narrative": // stays byte for byte: complex, of no shape
	case numbers[typ]:
		r.kind, r.value = number, valueName(typ)
	case typ == "boolean":
		r.kind, r.value = boolean, "Boolean"
	case t.datatypes[typ] != nil:
		r.shape, r.value = t.datatypes[typ], typ
	case t.datatypes[aliases[typ]] != nil:
		r.shape, r.value = t.datatypes[aliases[typ]], valueName(typ)
	case typ[0] >= 'a' && typ[0] <= 'z':
		r.kind, r.value = text, valueName(typ)
	default:
		panic("stu3: elements.txt: no type " + typ)
	}
	if len(action) > 0 {
		switch action[0] {
		case ">":
			var list bool
			r.to, list = strings.CutSuffix(action[1], "*")
			r.many = r.many || list
		case "coded":
			r.system = action[1]
		case "gone":
			r.gone = true
		case "do":
			if r.do = hooks[action[1]]; r.do == nil {
				panic("stu3: elements.txt: no function " + action[1])
			}
			if len(action) > 2 {
				r.system = action[2]
			}
		default:
			panic("stu3: elements.txt: " + strings.Join(action, " "))
		}
	}
	in.rules[name] = r
}
