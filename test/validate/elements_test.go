package validate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apb "github.com/google/fhir/go/proto/google/fhir/proto/annotations_go_proto"
	r4types "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/datatypes_go_proto"
	r4 "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/bundle_and_contained_resource_go_proto"
	stu3types "github.com/google/fhir/go/proto/google/fhir/proto/stu3/datatypes_go_proto"
	stu3resources "github.com/google/fhir/go/proto/google/fhir/proto/stu3/resources_go_proto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// element is one element of a type as its published definition has it: the types that it may have, its codes, and whether it is a list.
type element struct {
	types []string
	codes []string
	list  bool
}

// TestElementsAreThoseOfFHIR holds the table by which STU3 is converted against the definitions of STU3 and R4, as google/fhir has them: every
// element of STU3 stands in it, with its type, its cardinality and every code of its value set, and whatever is to become an element of R4 leads to
// one that there is, which is a list where it should be and knows the code.
func TestElementsAreThoseOfFHIR(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "adapters", "gpconnect", "stu3", "elements.txt"))
	if err != nil {
		t.Fatal("no table")
	}
	before, after := definitions(stu3types.File_proto_google_fhir_proto_stu3_datatypes_proto.Messages(), stu3resources.File_proto_google_fhir_proto_stu3_resources_proto.Messages()),
		definitions(r4types.File_proto_google_fhir_proto_r4_core_datatypes_proto.Messages(), nil)
	contained := (&r4.ContainedResource{}).ProtoReflect().Descriptor().Fields()
	for i := range contained.Len() {
		m := contained.Get(i).Message()
		after[string(m.Name())] = m
	}
	lines, types, codes := 0, 0, 0
	typ, to, have := "", "", map[string]element{}
	targets := map[string]string{} // of backbone elements: path in STU3 -> path in R4
	finish := func() {
		if typ == "" || typ == "Extension" || typ == "Reference" { // the definitions at hand say these two in a way of their own
			return
		}
		types++
		want := map[string]element{}
		if before[typ] == nil {
			t.Fatalf("STU3 has no %s", typ)
		}
		elementsOf(before[typ], "", want, 0)
		for path, w := range want {
			if common(path) || strings.Contains(path, "item.item.") || strings.Contains(path, "item.answer.item.") || strings.Contains(path, "section.section.") {
				continue
			}
			h, known := have[path]
			switch {
			case !known:
				t.Errorf("%s.%s of STU3 is not in the table", typ, path)
			case h.list != w.list:
				t.Errorf("%s.%s: a list: %v in the table, %v in STU3", typ, path, h.list, w.list)
			case !slices.Equal(h.codes, w.codes):
				t.Errorf("%s.%s: codes %v, want %v", typ, path, h.codes, w.codes)
			case len(h.codes) == 0 && !slices.Equal(h.types, w.types):
				t.Errorf("%s.%s: types %v, want %v", typ, path, h.types, w.types)
			}
		}
		for path := range have {
			if _, known := want[path]; !known {
				t.Errorf("%s.%s is not in STU3", typ, path)
			}
		}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			finish()
			name, _, _ := strings.Cut(line[1:], "]")
			typ, to, have = name, name, map[string]element{}
			if from, r4name, renamed := strings.Cut(name, " > "); renamed {
				typ, to = from, r4name
			}
			continue
		}
		lines++
		fields := strings.Fields(line)
		path, what, action := fields[0], fields[1], append(fields[2:], "", "")
		base, choice := strings.CutSuffix(path, "[x]")
		what, list := strings.CutSuffix(what, "*")
		e := element{list: list}
		mapped := map[string]string{}
		if set, is := strings.CutPrefix(what, "code{"); is {
			for c := range strings.SplitSeq(strings.TrimSuffix(set, "}"), ",") {
				from, r4code, renamed := strings.Cut(c, "=")
				if !renamed || r4code == "" {
					from, r4code = c, c
				}
				e.codes = append(e.codes, from)
				mapped[from] = r4code
				codes++
			}
			slices.Sort(e.codes)
		} else if what[0] == '@' {
			e.types = []string{"Backbone"}
		}
		for one := range strings.SplitSeq(what, "|") {
			if !choice {
				one, path = what, base
			}
			x := e
			if x.types == nil && x.codes == nil {
				x.types = []string{one}
			}
			at := path
			if choice {
				name := strings.ToUpper(one[:1]) + one[1:]
				if one == "SimpleQuantity" {
					name = "Quantity"
				}
				at = base + name
			}
			have[at] = x
			if typ != "Extension" && typ != "Reference" {
				leadsTo(t, typ, to, at, x, action, mapped, after, targets)
			}
			if !choice {
				break
			}
		}
	}
	finish()
	t.Logf("%d lines, %d types, %d codes agree with the definitions", lines, types, codes)
	if types < 45 || codes < 300 {
		t.Errorf("%d types and %d codes only", types, codes)
	}
}

// leadsTo checks what an element becomes in R4.
func leadsTo(t *testing.T, typ, to, path string, e element, action []string, mapped map[string]string, after map[string]protoreflect.MessageDescriptor, targets map[string]string) {
	t.Helper()
	parent, name := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		up, known := targets[typ+"."+path[:i]]
		if !known {
			return // what it is part of is gone, or a function says what becomes of it
		}
		parent, name = up+".", path[i+1:]
	}
	list := e.list
	switch action[0] {
	case "gone", "do":
		return
	case ">":
		var made bool
		name, made = strings.CutSuffix(action[1], "*")
		list = list || made
	}
	there := map[string]element{}
	elementsOf(after[to], "", there, 0)
	got, known := there[parent+name]
	if !known {
		t.Errorf("%s.%s leads to %s.%s, which R4 does not have", typ, path, to, parent+name)
		return
	}
	if got.list != list {
		t.Errorf("%s.%s: a list: %v in R4, %v in the table", typ, path, got.list, list)
	}
	if len(e.types) == 1 && e.types[0] == "Backbone" {
		targets[typ+"."+path] = parent + name
	}
	if action[0] != "coded" {
		for from, code := range mapped {
			if len(got.codes) > 0 && !slices.Contains(got.codes, code) {
				t.Errorf("%s.%s: %s becomes %s, which R4 does not have", typ, path, from, code)
			}
		}
	}
}

// common are the elements that every resource or element has.
func common(path string) bool {
	last := path[strings.LastIndexByte(path, '.')+1:]
	return slices.Contains([]string{"id", "extension", "modifierExtension", "implicitRules", "contained", "meta"}, last) ||
		(path == "text" || path == "language")
}

func definitions(lists ...protoreflect.MessageDescriptors) map[string]protoreflect.MessageDescriptor {
	out := map[string]protoreflect.MessageDescriptor{}
	for _, l := range lists {
		for i := 0; l != nil && i < l.Len(); i++ {
			out[string(l.Get(i).Name())] = l.Get(i)
		}
	}
	return out
}

// primitives are the types that google/fhir writes with a capital.
var primitives = map[string]string{"Boolean": "boolean", "DateTime": "dateTime", "Date": "date", "String": "string", "Integer": "integer", "PositiveInt": "positiveInt",
	"UnsignedInt": "unsignedInt", "Decimal": "decimal", "Instant": "instant", "Time": "time", "Uri": "uri", "Code": "code", "Id": "id", "Oid": "oid",
	"Base64Binary": "base64Binary", "Markdown": "markdown", "Xhtml": "xhtml", "MimeTypeCode": "code", "LanguageCode": "code"}

// elementsOf lists the elements of a definition by their names in JSON.
func elementsOf(m protoreflect.MessageDescriptor, path string, out map[string]element, depth int) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Message() == nil {
			continue
		}
		mm, name := f.Message(), path+f.JSONName()
		list := f.Cardinality() == protoreflect.Repeated
		if choice, _ := proto.GetExtension(mm.Options(), apb.E_IsChoiceType).(bool); choice {
			for j := range mm.Fields().Len() {
				one := mm.Fields().Get(j).Message()
				e := described(one)
				suffix := string(one.Name())
				if suffix == "SimpleQuantity" {
					suffix = "Quantity"
				}
				out[name+suffix] = e
			}
			continue
		}
		e := described(mm)
		e.list = list
		_, nested := mm.Parent().(protoreflect.MessageDescriptor)
		if nested && e.codes == nil && mm.Name() != "Extension" && e.types[0] != "code" {
			e.types = []string{"Backbone"}
			out[name] = e
			if depth < 5 {
				elementsOf(mm, name+".", out, depth+1)
			}
			continue
		}
		out[name] = e
	}
}

// described is the type of a value.
func described(m protoreflect.MessageDescriptor) element {
	if f := m.Fields().ByName("value"); f != nil && f.Kind() == protoreflect.EnumKind {
		var list []string
		for i := range f.Enum().Values().Len() {
			v := f.Enum().Values().Get(i)
			if v.Number() == 0 {
				continue
			}
			code, _ := proto.GetExtension(v.Options(), apb.E_FhirOriginalCode).(string)
			if code == "" {
				code = strings.ReplaceAll(strings.ToLower(string(v.Name())), "_", "-")
			}
			list = append(list, code)
		}
		slices.Sort(list)
		return element{codes: list}
	}
	name := string(m.Name())
	if p := primitives[name]; p != "" {
		name = p
	} else if f := m.Fields().ByName("value"); f != nil && f.Kind() == protoreflect.StringKind {
		name = "code" // one whose value set is too large for an enumeration
	}
	return element{types: []string{name}}
}
