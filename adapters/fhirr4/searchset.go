package fhirr4

import (
	"slices"
	"strconv"

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

// maxTotal is more than any search returns here.
const maxTotal = 1 << 30

// total is how many matches a page says that there are on all pages together: 0 if it says nothing, more than there can be if what it says is no number.
func total(bundle fhirjson.Value) int {
	said := bundle.Get("total")
	if !said.Exists() {
		return 0
	}
	n, err := strconv.Atoi(string(said.Raw()))
	if err != nil || n < 0 {
		return maxTotal
	}
	return min(n, maxTotal)
}
