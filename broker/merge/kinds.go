package merge

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// kind is what the tables say of one resource type, looked up once for each resource: subjects.go, sections.go, dates.go, grouping.go.
type kind struct {
	name    string // the type
	row     *naming
	heading record.Section
	byCode  []codeRule // those that may hold for the type, in order
	more    []addition // likewise
	dating  dating
	alike   *sameness // nil: grouped by identifier alone
}

// kinds is what the tables say, by type.
var kinds = func() map[string]*kind {
	m := make(map[string]*kind, len(subjects))
	for typ, row := range subjects {
		m[typ] = newKind(typ, row)
	}
	return m
}()

func newKind(typ string, row naming) *kind {
	k := &kind{name: typ, row: &row, heading: record.Other, dating: dates[typ]}
	if s, known := headings[typ]; known {
		k.heading = s
	}
	for _, r := range byCode {
		if r.types[typ] {
			k.byCode = append(k.byCode, r)
		}
	}
	for _, a := range additions {
		if a.types == nil || a.types[typ] {
			k.more = append(k.more, a)
		}
	}
	if g, has := groupings[typ]; has {
		k.alike = &g
	}
	return k
}

// kindOf is what the tables say of a type, which may be one that R4 does not have. seen may be a view of a reply: the name that the kind has is none.
func kindOf(seen string) *kind {
	if k, known := kinds[seen]; known {
		return k
	}
	return newKind(strings.Clone(seen), naming{})
}
