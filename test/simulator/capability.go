package simulator

import (
	"encoding/json"
	"slices"
)

// capability is the CapabilityStatement: exactly what is served, no more.
func (c *Custodian) capability(base string) []byte {
	type object = map[string]any
	var resources []object
	for _, t := range c.types {
		r := object{"type": t, "versioning": "no-version", "readHistory": false, "interaction": []object{{"code": "read"}}}
		switch {
		case t == "Patient":
			r["interaction"] = []object{{"code": "read"}, {"code": "search-type"}}
			r["searchParam"] = []object{{"name": "identifier", "type": "token"}}
			if c.cfg.Everything {
				r["operation"] = []object{{"name": "everything", "definition": "http://hl7.org/fhir/OperationDefinition/Patient-everything"}}
			}
		case t == "Provenance" && c.cfg.RevInclude:
		case c.searchable(t):
			r["interaction"] = []object{{"code": "read"}, {"code": "search-type"}}
			r["searchInclude"] = []string{"*", t + ":*"}
			r["searchParam"] = []object{{"name": "patient", "type": "reference"}}
			if c.cfg.RevInclude {
				r["searchRevInclude"] = []string{"Provenance:target"}
			}
		}
		resources = append(resources, r)
	}
	text, err := json.Marshal(object{
		"resourceType": "CapabilityStatement", "status": "active", "date": "2026-11-01", "kind": "instance", "fhirVersion": "4.0.1",
		"format":         []string{"json"},
		"software":       object{"name": "simulated custodian"},
		"implementation": object{"description": c.cfg.Name, "url": base},
		"rest":           []object{{"mode": "server", "resource": resources}},
	})
	if err != nil {
		panic(err) // strings only
	}
	return text
}

// searchable reports whether anybody's resource of the type is about a person.
func (c *Custodian) searchable(typ string) bool {
	for _, p := range c.byNumber {
		if slices.ContainsFunc(p.resources, func(r *resource) bool { return r.typ == typ && !supporting(r) && !onlyRead(r) }) {
			return true
		}
	}
	return false
}
