package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// BaseMark stands in a resource for the custodian's own FHIR address, which is known only when it is served:
// "{{base}}/Organization/7" becomes "http://127.0.0.1:8100/fhir/Organization/7".
const BaseMark = "{{base}}"

// nhsNumberSystem is the identifier system of NHS numbers.
const nhsNumberSystem = "https://fhir.nhs.uk/Id/nhs-number"

// resource is one resource as the custodian keeps it.
type resource struct {
	typ, id string
	raw     []byte
	refs    []ref // references to resources of the same server, in the order of their paths
}

func (r *resource) key() string { return r.typ + "/" + r.id }

// ref is a reference and the path of element names that leads to it, arrays left out: "participant.individual".
type ref struct{ path, target string }

// person is one person's record at one custodian.
type person struct {
	number    string
	patient   *resource
	resources []*resource // the Patient among them, in the order given
	byKey     map[string]*resource
}

// supporting types are about nobody: they are reached through references only.
func supporting(r *resource) bool {
	switch r.typ {
	case "Practitioner", "PractitionerRole", "Organization", "Location", "Medication", "Substance", "HealthcareService", "Slot", "Schedule":
		return true
	case "Device":
		for _, f := range r.refs {
			if f.path == "patient" {
				return false
			}
		}
		return true
	}
	return false
}

// onlyRead types are never in an answer but their own.
func onlyRead(r *resource) bool { return r.typ == "Binary" }

func newPerson(number string, list []json.RawMessage) (*person, error) {
	p := &person{number: number, byKey: map[string]*resource{}}
	for i, raw := range list {
		r, err := newResource(raw)
		if err != nil {
			return nil, fmt.Errorf("resource %d: %w", i, err)
		}
		if r.typ == "Patient" {
			if p.patient != nil {
				return nil, errors.New("two Patients in one record")
			}
			p.patient = r
		}
		p.resources = append(p.resources, r)
		if _, twice := p.byKey[r.key()]; !twice {
			p.byKey[r.key()] = r
		}
	}
	if p.patient == nil {
		return nil, errors.New("no Patient in the record")
	}
	return p, nil
}

func newResource(raw json.RawMessage) (*resource, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, errors.New("not a JSON object")
	}
	r := &resource{raw: raw}
	r.typ, _ = m["resourceType"].(string)
	r.id, _ = m["id"].(string)
	if r.typ == "" || r.id == "" {
		return nil, errors.New("no resourceType or no id")
	}
	collectRefs("", m, &r.refs)
	return r, nil
}

func collectRefs(path string, v any, out *[]ref) {
	switch v := v.(type) {
	case map[string]any:
		if s, ok := v["reference"].(string); ok {
			if t := localTarget(s); t != "" {
				*out = append(*out, ref{path, t})
			}
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			at := k
			if path != "" {
				at = path + "." + k
			}
			collectRefs(at, v[k], out)
		}
	case []any:
		for _, m := range v {
			collectRefs(path, m, out)
		}
	}
}

// localTarget returns Type/id of a reference to the same server, "" for any other.
func localTarget(s string) string {
	s = strings.TrimPrefix(s, BaseMark+"/")
	s, _, _ = strings.Cut(s, "/_history/")
	typ, id, ok := strings.Cut(s, "/")
	if !ok || id == "" || strings.ContainsAny(id, "/#?:") || strings.ContainsAny(typ, ":#?.") || typ == "" {
		return ""
	}
	return s
}

// linked returns what from refers to in p's record, following further when iterate is set, each once, never p's Patient and nothing of seen.
// Included resources are added to seen. only limits to reference paths of one type; nil takes all.
func (p *person) linked(from []*resource, seen map[string]bool, want func(r *resource, path string) bool, iterate bool) []*resource {
	var out []*resource
	todo := from
	for len(todo) > 0 {
		r := todo[0]
		todo = todo[1:]
		for _, f := range r.refs {
			t := p.byKey[f.target]
			if t == nil || seen[f.target] || t == p.patient || onlyRead(t) || !want(r, f.path) {
				continue
			}
			seen[f.target] = true
			out = append(out, t)
			if iterate {
				todo = append(todo, t)
			}
		}
	}
	return out
}

// provenance returns p's Provenance resources whose target is among matches, each once.
func (p *person) provenance(matches []*resource, seen map[string]bool) []*resource {
	var out []*resource
	for _, r := range p.resources {
		if r.typ != "Provenance" || seen[r.key()] {
			continue
		}
		for _, f := range r.refs {
			if f.path == "target" && slices.ContainsFunc(matches, func(m *resource) bool { return m.key() == f.target }) {
				seen[r.key()] = true
				out = append(out, r)
				break
			}
		}
	}
	return out
}
