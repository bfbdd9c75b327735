package merge

import "strings"

// kind is what the tables say of one resource type, looked up once for each resource: subjects.go, dates.go, grouping.go. What the section rules
// say of it stands under its number (sections.go), because they are configured.
type kind struct {
	name   string // the type
	number int    // from 1; 0 for what is no type of R4
	row    *naming
	dating datingPaths
	alike  *sameness  // nil: grouped by identifier alone
	codes  []codePath // of alike
}

// kinds is what the tables say, by type.
var kinds = func() map[string]*kind {
	m := make(map[string]*kind, len(subjects))
	for typ, row := range subjects {
		k := newKind(typ, row)
		k.number = len(m) + 1
		m[typ] = k
	}
	return m
}()

func newKind(typ string, row naming) *kind {
	row.makeReady()
	k := &kind{name: typ, row: &row, dating: dates[typ].ready()}
	if g, has := groupings[typ]; has {
		k.alike, k.codes = &g, g.ready()
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

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}
