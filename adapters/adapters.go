// Package adapters makes the broker's means of reading custodians, from settings.
//
// A kind is a protocol: "fhirr4" reads any FHIR R4 server, whoever runs it. What sort of organisation a custodian is, is configuration of the
// daemon and no business of an adapter. The tables below are all there is: a kind is added by adding a line (ADDING.md), never by importing a
// package for its side effects.
package adapters

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/adapters/fhirr4"
	"github.com/mycarerecord/mycarerecord/adapters/gpconnect"
	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/adapters/pds"
	"github.com/mycarerecord/mycarerecord/adapters/socialcare"
	"github.com/mycarerecord/mycarerecord/broker"
)

// sources are the kinds of custodian.
var sources = [...]kind[broker.Source]{
	{"documents", func(n *yaml.Node) (broker.Source, error) { return build(n, documents.New) }, describe[documents.Settings]},
	{"fhirr4", func(n *yaml.Node) (broker.Source, error) { return build(n, fhirr4.New) }, describe[fhirr4.Settings]},
	{"gpconnect", func(n *yaml.Node) (broker.Source, error) { return build(n, gpconnect.New) }, describe[gpconnect.Settings]},
	{"hl7v2", func(n *yaml.Node) (broker.Source, error) { return build(n, hl7v2.New) }, describe[hl7v2.Settings]},
	{"socialcare", func(n *yaml.Node) (broker.Source, error) { return build(n, socialcare.New) }, describe[socialcare.Settings]},
}

// indexes are the kinds of locator.
var indexes = [...]kind[broker.Index]{
	{"documents", func(n *yaml.Node) (broker.Index, error) { return build(n, documents.NewIndex) }, describe[documents.IndexSettings]},
}

// tracers are the kinds of demographics service.
var tracers = [...]kind[broker.Tracer]{
	{"pds", func(n *yaml.Node) (broker.Tracer, error) { return build(n, pds.New) }, describe[pds.Settings]},
}

type kind[T any] struct {
	name     string
	make     func(*yaml.Node) (T, error)
	describe func(*yaml.Node) ([]Setting, error)
}

// Kinds lists the kinds of source.
func Kinds() []string { return names(sources[:]) }

// IndexKinds lists the kinds of locator.
func IndexKinds() []string { return names(indexes[:]) }

// TracerKinds lists the kinds of tracer.
func TracerKinds() []string { return names(tracers[:]) }

func names[T any](list []kind[T]) []string {
	var out []string
	for _, k := range list {
		out = append(out, k.name)
	}
	return out
}

// New makes a source. settings is the custodian's node of the configuration file, nil or empty for none. Nothing is asked of the custodian.
// The error is [Problems].
func New(kind string, settings *yaml.Node) (broker.Source, error) {
	k, err := find("adapter", sources[:], kind, settings)
	if err != nil {
		return nil, err
	}
	return made(k.make(settings))
}

// NewTracer makes a tracer, as New does a source.
func NewTracer(kind string, settings *yaml.Node) (broker.Tracer, error) {
	k, err := find("kind", tracers[:], kind, settings)
	if err != nil {
		return nil, err
	}
	return made(k.make(settings))
}

// NewIndex makes a custodian's locator, as New does a source.
func NewIndex(kind string, settings *yaml.Node) (broker.Index, error) {
	k, err := find("adapter", indexes[:], kind, settings)
	if err != nil {
		return nil, err
	}
	return made(k.make(settings))
}

// made returns nothing beside an error: a maker's nil pointer would be an interface that is not nil.
func made[T any](t T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return t, nil
}

// Close closes what a source or tracer holds open, if anything. Calls that are under way are not cut.
func Close(sourceOrTracer any) {
	if c, ok := sourceOrTracer.(interface{ Close() }); ok {
		c.Close()
	}
}

// Setting is one setting in effect, as an operator may be shown it.
type Setting struct {
	Key   string
	Value string // "" for none; a secret is never a setting, only the name of its file
}

// Describe returns all settings of a source or tracer of that kind with the values in effect, defaults included. The error is [Problems].
func Describe(kind string, settings *yaml.Node) ([]Setting, error) {
	for _, k := range sources {
		if k.name == kind {
			return k.describe(settings)
		}
	}
	k, err := find("kind", tracers[:], kind, settings)
	if err != nil {
		return nil, err
	}
	return k.describe(settings)
}

// DescribeIndex does for a locator what Describe does for a source.
func DescribeIndex(kind string, settings *yaml.Node) ([]Setting, error) {
	k, err := find("adapter", indexes[:], kind, settings)
	if err != nil {
		return nil, err
	}
	return k.describe(settings)
}

// Absolute makes the file names in settings absolute, starting from dir: values of keys that end in File. The daemon calls it with the folder
// of its configuration file. It changes the node in place.
func Absolute(settings *yaml.Node, dir string) {
	if settings == nil || settings.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(settings.Content); i += 2 {
		key, value := settings.Content[i], settings.Content[i+1]
		if strings.HasSuffix(key.Value, "File") && value.Kind == yaml.ScalarNode && value.Tag == "!!str" && value.Value != "" && !filepath.IsAbs(value.Value) {
			value.Value = filepath.Join(dir, value.Value)
		}
	}
}

func find[T any](field string, list []kind[T], name string, settings *yaml.Node) (kind[T], error) {
	for _, k := range list {
		if k.name == name {
			return k, nil
		}
	}
	line := 0
	if settings != nil {
		line = settings.Line
	}
	return kind[T]{}, Problems{{line, field, "one of " + strings.Join(names(list), ", ")}}
}

// build decodes settings and makes something of them. What the maker finds wrong with a setting gets the line of that setting.
func build[S, T any](node *yaml.Node, make func(S) (T, error)) (T, error) {
	var s S
	var none T
	if p := decode(node, &s); len(p) > 0 {
		return none, p
	}
	t, err := make(s)
	if err != nil {
		field, want := "", "these settings cannot be used"
		var named interface{ Setting() (field, want string) }
		if errors.As(err, &named) {
			field, want = named.Setting()
		}
		return none, Problems{{lineOf(node, field), field, want}}
	}
	return t, nil
}

// describe reads settings and writes them out again with defaults.
func describe[S interface{ WithDefaults() S }](node *yaml.Node) ([]Setting, error) {
	var s S
	if p := decode(node, &s); len(p) > 0 {
		return nil, p
	}
	return written(reflect.ValueOf(s.WithDefaults())), nil
}
