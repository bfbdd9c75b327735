package stu3

import (
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// link is a header observation and one of its members, as addresses within the reply.
type link struct{ header, member string }

// promotedKey is a resource that is contained in an entry.
type promotedKey struct {
	entry int
	id    string
}

// promotion is a contained resource that becomes an entry of its own.
type promotion struct {
	resource fhirjson.Value
	id       string
}

// survey looks at the whole record before anything is converted, for what cannot be told from one resource alone: which addresses change because
// types are called otherwise in R4, which allergies stand in Lists only, and which observations belong together.
func (c *conv) survey(entries []fhirjson.Entry) {
	c.newIDs, c.renamed = map[int]string{}, map[string]string{}
	taken := map[string]bool{}
	mark := func(to, id string) bool {
		key := to + "/" + id
		if taken[key] {
			return false
		}
		taken[key] = true
		return true
	}
	for _, e := range entries { // what keeps its type keeps its id
		if typ := e.Resource.Get("resourceType").View(); typ == "AllergyIntolerance" || typ == "Basic" {
			mark(typ, e.Resource.Get("id").View())
		}
	}
	for i, e := range entries {
		typ, id := e.Resource.Get("resourceType").View(), e.Resource.Get("id").View()
		switch {
		case typ == "List":
			c.surveyList(i, e.Resource, mark)
		case typ == "Observation":
			c.surveyObservation(e.Resource)
		}
		to := c.t.becomes(typ)
		if to == typ || id == "" {
			continue
		}
		old, fresh := typ+"/"+id, id
		if _, again := c.renamed[old]; !again {
			for n := 0; !mark(to, fresh); n++ {
				if fresh = shorten(strings.ToLower(typ)+"-"+id, n); n > 8 {
					break // byte-identical names at every turn: the merge settles copies
				}
			}
			c.renamed[old] = to + "/" + fresh
		} else {
			fresh = strings.TrimPrefix(c.renamed[old], to+"/")
		}
		if fresh != id {
			c.newIDs[i] = fresh
		}
		if e.FullURL != "" {
			c.renamed[strings.Clone(e.FullURL)] = c.address(e, c.newIDs[i])
		}
	}
	for l := range c.members {
		if c.held[l.header] {
			continue
		}
		delete(c.members, l)
	}
	for header, list := range c.children {
		keep := list[:0]
		for _, child := range list {
			if c.held[header] && !c.members[link{header, child}] {
				keep = append(keep, child)
			}
		}
		c.children[header] = keep
	}
}

// shorten makes an id of at most 64 characters, another for each n.
func shorten(id string, n int) string {
	if n > 0 {
		id += "-" + strconv.Itoa(n)
	}
	if len(id) > 64 {
		return id[len(id)-64:]
	}
	return id
}

// surveyList finds allergies that stand only in a List. GP Connect contains ended allergies in their List, so that nobody takes them for current
// ones; R4 says in each that it is resolved, and a reader of entries would never see them where they are. Only those that say themselves that they
// are over are taken out.
func (c *conv) surveyList(i int, v fhirjson.Value, mark func(to, id string) bool) {
	for r := range v.Get("contained").Elems() {
		id := r.Get("id").View()
		status := r.Get("clinicalStatus")
		if !r.Get("resourceType").Is("AllergyIntolerance") || !legalID(id) || !status.Is("resolved") && !status.Is("inactive") || pointsInside(r) {
			continue
		}
		key := promotedKey{i, id}
		if _, twice := c.promoted[key]; twice {
			continue
		}
		fresh := id
		for n := 0; !mark("AllergyIntolerance", fresh); n++ {
			fresh = shorten("ended-"+id, n)
		}
		if c.promoted == nil {
			c.promoted = map[promotedKey]string{}
		}
		c.promoted[key] = "AllergyIntolerance/" + fresh
		c.promotions = append(c.promotions, promotion{r, fresh})
	}
}

// pointsInside reports whether a contained resource refers to another in the same container.
func pointsInside(v fhirjson.Value) bool {
	found := false
	v.Visit(func(_ []fhirjson.Value, x fhirjson.Value) bool {
		if x.Kind() == fhirjson.String && x.KeyIs("reference") && strings.HasPrefix(x.View(), "#") {
			found = true
		}
		return !found
	})
	return found
}

// surveyObservation notes which observations a header names, and which name a header. GP Connect links a group of results both ways, and calls
// the way up derived-from; R4 has the way down only, hasMember.
func (c *conv) surveyObservation(v fhirjson.Value) {
	id := v.Get("id").View()
	if id == "" {
		return
	}
	if c.held == nil {
		c.held, c.members, c.children = map[string]bool{}, map[link]bool{}, map[string][]string{}
	}
	own := "Observation/" + id
	c.held[own] = true
	for r := range v.Get("related").Elems() {
		target := r.At("target", "reference").View()
		if target == "" {
			continue
		}
		switch typ := r.Get("type"); {
		case typ.Is("has-member"):
			c.members[link{own, target}] = true
		case typ.Is("derived-from"):
			c.children[target] = append(c.children[target], own)
		}
	}
}

// legalID reports whether s is a FHIR id.
func legalID(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		b := s[i]
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '.') {
			return false
		}
	}
	return true
}
