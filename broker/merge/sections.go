package merge

import (
	_ "embed"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// How an entry comes to its sections is said in sections.txt, or in what a region has instead of it. Here the rules are followed; sectionrules.go
// reads them.
//
// One section is the primary one (the sum of primaries is the sum of entries), the others are for objections: an entry is withheld if any
// of its sections is (C-4).

//go:embed sections.txt
var shippedText string

// shipped are the rules that hold where nobody gave others. The tests of this package rule the panic out.
var shipped = func() *SectionRules {
	r, err := ParseSections([]byte(shippedText))
	if err != nil {
		panic("the shipped section rules: " + err.Error())
	}
	return r
}()

// ShippedSections returns the rules that are built in.
func ShippedSections() *SectionRules { return shipped }

// SectionRules say to which sections entries belong. They do not change and are safe for concurrent use. [ParseSections] reads them.
type SectionRules struct {
	version    string
	fallback   record.Section // of types without a heading
	headings   map[string]record.Section
	instead    []*sectionRule
	more       []*sectionRule // lead and also
	homes      map[record.CustodianKind]home
	stays      record.Sections
	movable    map[string]bool
	handed     record.Sections
	placements []placement // by kind.number: the above, laid out once so that a resource is looked at by the rules of its type alone
}

// placement is what the rules say of one type.
type placement struct {
	heading record.Section
	instead []*sectionRule
	more    []*sectionRule
	labels  []*sectionRule // those of more that look at labels only
	movable bool
}

// home is what the rules say of one kind of custodian.
type home struct {
	bit     kindSet
	has     bool
	section record.Section
}

// kindSet is a set of kinds of custodians.
type kindSet uint16

// sectionRule is a line of instead, lead or also.
type sectionRule struct {
	section record.Section
	leads   bool
	types   map[string]bool // nil: all
	from    kindSet         // 0: all
	paths   []string        // as they were written; nil: whatever the resource says
	ways    []fhirjson.Path // the same, ready to be followed
	list    *sectionList
	text    string // as it was written
}

// sectionList is a list of codes or of terms.
type sectionList struct {
	codes  map[string]bool // whatever their system
	coded  map[Code]bool   // of a system
	terms  []string        // what a text must hold
	wholes []string        // what it must be
}

// Version returns the SHA-256 of the rules' bytes, as 64 hex digits: for rules that extend the shipped ones, of the shipped bytes and theirs.
func (r *SectionRules) Version() string { return r.version }

// Home returns the section in which everything stands that a kind of custodian holds, its Patient included; false if there is none.
func (r *SectionRules) Home(k record.CustodianKind) (record.Section, bool) {
	h := r.homes[k]
	return h.section, h.has
}

// Explain returns the lines of the rules that may hold for a type of resource from a kind of custodian, in the order in which they are followed;
// none for a type that stands in no section.
func (r *SectionRules) Explain(typ string, k record.CustodianKind) []string {
	of := kindOf(typ)
	if of.row.class != person && of.row.class != either {
		return nil
	}
	p, h := &r.placements[of.number], r.homes[k]
	out := []string{"heading " + p.heading.Code()}
	add := func(rules []*sectionRule) {
		for _, x := range rules {
			if x.isFrom(h.bit) {
				out = append(out, x.text)
			}
		}
	}
	add(p.instead)
	if h.has {
		out = append(out, "home "+h.section.Code())
	}
	add(p.more)
	return out
}

// layOut fills in the placements.
func (r *SectionRules) layOut() {
	of := func(rules []*sectionRule, typ string) []*sectionRule {
		return slices.DeleteFunc(slices.Clone(rules), func(x *sectionRule) bool { return x.types != nil && !x.types[typ] })
	}
	r.placements = make([]placement, len(kinds)+1)
	r.placements[0].heading = r.fallback
	for typ, k := range kinds {
		heading, has := r.headings[typ]
		if !has {
			heading = r.fallback
		}
		more := of(r.more, typ)
		labels := slices.DeleteFunc(slices.Clone(more), func(x *sectionRule) bool { return !x.ofLabels() })
		r.placements[k.number] = placement{heading, of(r.instead, typ), more, labels, r.movable[typ]}
	}
}

// ofLabels reports whether the rule looks at nothing but labels.
func (x *sectionRule) ofLabels() bool {
	return x.paths != nil && !slices.ContainsFunc(x.paths, func(path string) bool { return path != "meta.security" && path != "securityLabel.coding" })
}

func (x *sectionRule) isFrom(kind kindSet) bool { return x.from == 0 || x.from&kind != 0 }

// holds reports whether the rule holds of a resource from a kind of custodian. That it is for the type is known.
func (x *sectionRule) holds(v *fhirjson.Layout, kind kindSet) bool {
	if !x.isFrom(kind) {
		return false
	}
	for _, path := range x.ways {
		for y := range v.Along(path) {
			if x.list.has(y) {
				return true
			}
		}
	}
	return x.paths == nil
}

// has reports whether a coding, or a text, is in the list.
func (l *sectionList) has(v fhirjson.Value) bool {
	if l.terms == nil && l.wholes == nil {
		code := strings.TrimSpace(v.To(codeMember).View())
		return l.codes[code] || l.coded != nil && l.coded[Code{plainSystem(v.Get("system").View()), code}]
	}
	text := strings.ToLower(strings.TrimSpace(v.View()))
	return slices.Contains(l.wholes, text) || slices.ContainsFunc(l.terms, func(term string) bool { return strings.Contains(text, term) })
}

// sectionRules are the rules of the request.
func (p *preparing) sectionRules() *SectionRules {
	if p.req.Sections == nil {
		return shipped
	}
	return p.req.Sections
}

// sectionPaths are where a custodian may name our sections itself.
var sectionPaths = [...]fhirjson.Path{fhirjson.PathOf("category.coding"), fhirjson.PathOf("meta.tag"), fhirjson.PathOf("meta.security")}

// place gives a resource of a custodian its sections, those that Encounters hand down aside.
func (p *preparing) place(k *kind, v *fhirjson.Layout) (record.Section, record.Sections) {
	rules := p.sectionRules()
	of, from := &rules.placements[k.number], rules.homes[p.reply.Custodian.Kind]
	primary := of.heading
	for _, r := range of.instead {
		if r.holds(v, from.bit) {
			primary = r.section
			break
		}
	}
	all := record.SectionsOf(primary)
	stays := rules.stays.Has(primary)
	moves := !stays || of.movable
	add := func(s record.Section, leads bool) {
		all = all.With(s)
		if leads && moves {
			primary, moves = s, false
		}
	}
	if from.has {
		add(from.section, !stays)
	}
	for _, r := range of.more {
		if r.holds(v, from.bit) {
			add(r.section, r.leads)
		}
	}
	p.named(v, func(s record.Section) { add(s, true) })
	return primary, all | p.contentSections(v)
}

// named calls f with every section that a custodian names itself.
func (p *preparing) named(v *fhirjson.Layout, f func(record.Section)) {
	for _, path := range &sectionPaths {
		for c := range v.Along(path) {
			if c.To(systemMember).Is(p.sectionSystem) {
				if s, is := record.ParseSection(c.Get("code").View()); is {
					f(s)
				}
			}
		}
	}
}

// contentSections are those of what a resource contains: whoever may not see one of these may not see its container (C-4).
func (p *preparing) contentSections(v *fhirjson.Layout) (all record.Sections) {
	for c := range v.Get(containedMember).Elems() {
		k, l := kindOf(c.Get("resourceType").View()), c.Layout()
		if k.row.class == person {
			_, inner := p.place(k, &l)
			all |= inner
		} else {
			all |= p.labelSections(k, &l)
		}
	}
	return all
}

// labelSections are the sections of what stands in none, a Medication or a Binary: those that it is labelled with, and of what it contains.
func (p *preparing) labelSections(k *kind, v *fhirjson.Layout) record.Sections {
	rules := p.sectionRules()
	all, from := p.contentSections(v), rules.homes[p.reply.Custodian.Kind]
	for _, r := range rules.placements[k.number].labels {
		if r.holds(v, from.bit) {
			all = all.With(r.section)
		}
	}
	p.named(v, func(s record.Section) { all = all.With(s) })
	return all
}

// follow gives entries what their Encounter hands down, and an Encounter what those that it is part of do.
func (p *preparing) follow() {
	handed := p.handedDown()
	for i := range p.items {
		it := &p.items[i]
		if it.fate != undecided || it.kind.row.class == supporting {
			continue
		}
		if it.typ == "Encounter" {
			it.sections |= handed.of[i]
			continue
		}
		it.sections |= p.handedTo(it, handed)
		for _, other := range p.elsewhere[int32(i)] {
			it.sections |= p.handedTo(&p.items[other], handed)
		}
	}
}

// handedTo are the sections that a resource is handed down, with what it contains.
func (p *preparing) handedTo(it *item, handed *handing) record.Sections {
	all := p.fromEncounters(&it.layout, it, handed)
	for c := range it.get(containedMember).Elems() {
		l := c.Layout()
		all |= p.fromEncounters(&l, it, handed)
	}
	return all
}

// fromEncounters are the sections that the Encounters of a resource hand down, which is it or contained in it.
func (p *preparing) fromEncounters(v *fhirjson.Layout, it *item, handed *handing) (all record.Sections) {
	hand := func(up int32) {
		if p.encounter(up) {
			all |= handed.of[up]
		}
	}
	handBy := func(key string) {
		sum, known := handed.by[key]
		if !known {
			for _, up := range p.carriers(key) {
				if p.encounter(up) {
					sum |= handed.of[up]
				}
			}
			handed.by[key] = sum
		}
		all |= sum
	}
	for _, r := range [...]fhirjson.Value{v.Get(encounterMember), v.Get(partOfMember)} {
		for e := range r.Elems() {
			p.meant(e, it, hand, handBy)
		}
	}
	for c := range v.Get(contextMember).Elems() { // a Reference, or of a document what it is about
		p.meant(c, it, hand, handBy)
		for e := range c.Get("encounter").Elems() {
			p.meant(e, it, hand, handBy)
		}
	}
	return all
}

// handedDown returns which sections each Encounter hands down, by item: its own, those of its copies, and those of all that either is part of, however far up.
func (p *preparing) handedDown() *handing {
	own := p.sectionRules().handed
	handed := make([]record.Sections, len(p.items))
	below := map[int32][]int32{} // to whom an Encounter hands down
	nodes := map[string]int32{}  // what carries an identifier together, behind the items
	node := func(key string) int32 {
		n, is := nodes[key]
		if !is {
			n = int32(len(handed))
			nodes[key], handed = n, append(handed, 0)
			for _, i := range p.carriers(key) {
				if p.encounter(i) {
					below[i] = append(below[i], n)
				}
			}
		}
		return n
	}
	var work []int32
	for i := range p.items {
		it := &p.items[i]
		if it.typ != "Encounter" || it.fate == dropped {
			continue
		}
		if handed[i] = it.sections & own; handed[i] != 0 {
			work = append(work, int32(i))
		}
		p.meant(it.get(partOfMember), it, func(up int32) {
			if p.encounter(up) {
				below[up] = append(below[up], int32(i))
			}
		}, func(key string) {
			below[node(key)] = append(below[node(key)], int32(i))
		})
		if it.fate == folded { // what is about it where it comes from is about what stands for it
			below[int32(i)] = append(below[int32(i)], it.stands)
		}
	}
	for _, c := range p.copies {
		if p.items[c.list[0]].typ != "Encounter" {
			continue
		}
		last := int32(-1)
		for _, i := range c.list {
			if p.items[i].fate == dropped {
				continue
			}
			if last >= 0 {
				below[i], below[last] = append(below[i], last), append(below[last], i)
			}
			last = i
		}
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		for _, to := range below[i] {
			if more := handed[i] &^ handed[to]; more != 0 {
				handed[to] |= more
				work = append(work, to)
			}
		}
	}
	return &handing{of: handed, by: map[string]record.Sections{}}
}

// handing is what Encounters hand down: each of them, by item, and those that carry an identifier together.
type handing struct {
	of []record.Sections
	by map[string]record.Sections
}

// encounter reports whether an item is an Encounter that may hand sections down.
func (p *preparing) encounter(i int32) bool {
	return p.items[i].typ == "Encounter" && p.items[i].fate != dropped
}
