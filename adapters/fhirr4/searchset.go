package fhirr4

import "github.com/mycarerecord/mycarerecord/broker/fhirjson"

// searchset is what was found, all pages together.
type searchset struct {
	entries []fhirjson.Entry
	total   int  // how many the pages say there are; 0 where they do not
	missing int  // entries that hold nothing
	cut     bool // a page said that another follows, and that was not there
}

// short reports whether fewer came than the pages say, or something in name only. Of a search by type they count what matches (FHIR R4 Bundle.total,
// hl7.org/fhir/R4/bundle-definitions.html): resources of that type that are not sent along with others. With typ "" all but outcomes count. What comes twice is one;
// what has no id cannot be told from others of its kind, and is one each time.
func (s searchset) short(typ string) bool {
	if s.missing > 0 || s.cut {
		return true
	}
	if s.total == 0 {
		return false
	}
	type key struct{ typ, id string }
	had := make(map[key]bool, len(s.entries))
	nameless := 0
	for _, e := range s.entries {
		k := key{e.Resource.Get("resourceType").View(), e.Resource.Get("id").View()}
		switch {
		case k.typ == "OperationOutcome" || typ != "" && (k.typ != typ || e.Mode == "include" || e.Mode == "outcome"):
		case k.id == "":
			nameless++
		default:
			had[k] = true
		}
	}
	return s.total > len(had)+nameless
}
