package fhirr4

import (
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// searchset is what was found, all pages together.
type searchset struct {
	entries []fhirjson.Entry
	total   int // how many the pages say there are; 0 where they do not
	missing int // entries that hold nothing
}

// short reports whether fewer came than the pages say, or something in name only. What came as one of the modes is not among those that they count, and neither is an outcome.
func (s searchset) short(modes ...string) bool {
	if s.missing > 0 {
		return true
	}
	came := 0
	for _, e := range s.entries {
		if !slices.Contains(modes, e.Mode) && !e.Resource.Get("resourceType").Is("OperationOutcome") {
			came++
		}
	}
	return s.total > came
}
