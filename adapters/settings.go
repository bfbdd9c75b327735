package adapters

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with settings, and what to give instead.
type Problem struct {
	Line int    // in the configuration file; 0 if it is not known
	Key  string // the setting; "" for all of them
	Want string
}

// Problems is the error of this package: all that is wrong, in the order of the file.
type Problems []Problem

// Error returns one line per problem.
func (p Problems) Error() string {
	var b strings.Builder
	for i, x := range p {
		if i > 0 {
			b.WriteByte('\n')
		}
		if x.Line > 0 {
			fmt.Fprintf(&b, "line %d: ", x.Line)
		}
		if x.Key != "" {
			b.WriteString(x.Key + ": ")
		}
		b.WriteString(x.Want)
	}
	return b.String()
}

// decode reads settings into the struct that into points to: text, whole numbers, true or false, and lists of text. It is our own because
// yaml.Node.Decode ignores unknown keys (KnownFields holds for a Decoder only, and decoding again from text would lose the lines), and
// because a text such as 1E5 must stay what was written. It refuses unknown and repeated keys, null, aliases and merge keys, and returns
// everything that is wrong.
func decode(node *yaml.Node, into any) Problems {
	if node == nil || node.Kind == 0 || node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return Problems{{node.Line, "", "settings: give keys with values"}}
	}
	fields := map[string]reflect.Value{}
	collect(reflect.ValueOf(into).Elem(), fields)
	known := make([]string, 0, len(fields))
	for k := range fields {
		known = append(known, k)
	}
	slices.Sort(known)
	var out Problems
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		f, ok := fields[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			out = append(out, Problem{key.Line, key.Value, "there is no such setting here: there are " + strings.Join(known, ", ")})
		case seen[key.Value]:
			out = append(out, Problem{key.Line, key.Value, "given twice"})
		default:
			if want := set(f, value); want != "" {
				out = append(out, Problem{value.Line, key.Value, want})
			}
		}
		seen[key.Value] = true
	}
	return out
}

// collect finds the fields of a struct by their yaml names, those of inlined structs included.
func collect(v reflect.Value, into map[string]reflect.Value) {
	for f, x := range v.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			collect(x, into)
		} else if name != "" {
			into[name] = x
		}
	}
}

// set sets a field and returns what to give if it cannot.
func set(f reflect.Value, n *yaml.Node) string {
	scalar := n.Kind == yaml.ScalarNode && n.Tag != "!!null"
	switch f.Kind() {
	case reflect.String:
		if !scalar {
			return "give a text"
		}
		f.SetString(n.Value)
	case reflect.Bool:
		if !scalar || n.Value != "true" && n.Value != "false" {
			return "give true or false"
		}
		f.SetBool(n.Value == "true")
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if !scalar || n.Tag != "!!int" || err != nil {
			return "give a whole number"
		}
		if i == 0 { // the zero value means the default, which is not what was written
			return "more than 0; leave it out for the default"
		}
		f.SetInt(int64(i))
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode || f.Type().Elem().Kind() != reflect.String {
			return "give a list"
		}
		list := make([]string, 0, len(n.Content))
		for _, x := range n.Content {
			if x.Kind != yaml.ScalarNode || x.Tag == "!!null" {
				return "give a list of texts"
			}
			list = append(list, x.Value)
		}
		f.Set(reflect.ValueOf(list))
	default:
		panic("adapters: no setting may be of type " + f.Type().String())
	}
	return ""
}

// lineOf returns the line of a key, or of the settings if it is not there.
func lineOf(node *yaml.Node, key string) int {
	if node == nil {
		return 0
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i].Line
		}
	}
	return node.Line
}

// written returns the settings of a struct as text, in the order of the struct.
func written(v reflect.Value) []Setting {
	var out []Setting
	for f, x := range v.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			out = append(out, written(x)...)
		case name != "":
			out = append(out, Setting{name, show(x)})
		}
	}
	return out
}

// show returns a value as it may be shown. An address with a user name or a query is refused by every adapter, and is not shown either:
// what stands there might be a password.
func show(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice:
		var list []string
		for _, x := range v.Seq2() {
			list = append(list, x.String())
		}
		return strings.Join(list, ", ")
	case reflect.String:
		if s := v.String(); strings.Contains(s, "://") {
			if u, err := url.Parse(s); err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
				return "(not shown)"
			}
			return s
		}
		return v.String()
	}
	return fmt.Sprint(v.Interface())
}
