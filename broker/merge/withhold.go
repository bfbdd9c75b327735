package merge

import (
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// withhold decides what must not be shown: excluded codes (C-2.5), sections that the permit leaves out (C-4), the patient-entered
// fence (C-5).
func (p *preparing) withhold() {
	for i := range p.items {
		it := &p.items[i]
		if it.fate != undecided {
			continue
		}
		if it.unnamed || it.sections.Without(p.rules.Permitted) != 0 {
			it.fate = withheld
		}
	}
	p.withholdProvenances()
}

// withholdProvenances withholds every Provenance of which all that it is about is hidden: it says that there is something. One may be about another.
func (p *preparing) withholdProvenances() {
	type about struct{ hidden, other int } // of what it is about: withheld; neither hidden nor of the directory
	var of map[int32]*about
	var by map[int32][]int32 // the Provenances of a Provenance
	var work []int32
	for i := range p.items {
		it := &p.items[i]
		if it.fate != undecided || it.kind.row.class != provenance {
			continue
		}
		if of == nil {
			of, by = map[int32]*about{}, map[int32][]int32{}
		}
		a := &about{}
		of[int32(i)] = a
		for r := range it.get(targetMember).Elems() {
			t := p.resolve(r.Get("reference").View(), it)
			switch {
			case t < 0:
			case p.items[t].fate == withheld:
				a.hidden++
			case !p.items[t].hidden() && p.items[t].kind.row.class != supporting:
				a.other++
				by[t] = append(by[t], int32(i))
			}
		}
		if a.hidden > 0 && a.other == 0 {
			work = append(work, int32(i))
		}
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		p.items[i].fate, p.items[i].unnamed = withheld, true
		for _, n := range by[i] {
			a := of[n]
			if a.hidden, a.other = a.hidden+1, a.other-1; a.other == 0 {
				work = append(work, n)
			}
		}
	}
}

// mayWithhold reports whether the rules in force could withhold anything at all, whatever the custodian holds.
func (p *preparing) mayWithhold() bool {
	r := &p.rules
	if p.req.PatientView { // NOPAT counts wherever it stands
		return true
	}
	return r.Permitted != record.AllSections || len(r.Excluded) > 0 || r.PatientEntered || r.LabelsEntered
}

// labelPaths are where labels stand.
var labelPaths = [...]fhirjson.Path{fhirjson.PathOf("meta.security"), fhirjson.PathOf("securityLabel.coding")}

// labelled reports whether a resource is withheld for what it is labelled or coded, whatever its sections.
func (p *preparing) labelled(it *item) bool {
	if p.excluded(it.v) {
		return true
	}
	entered := p.rules.PatientEntered
	hide := false
	see := func(v *fhirjson.Layout) (any bool) {
		for _, path := range &labelPaths {
			for c := range v.Along(path) {
				code := c.Get("code")
				any = any || code.View() != ""
				entered = entered || p.rules.LabelsEntered && strings.TrimSpace(code.View()) == "PATAST" // v3-ObservationValue: patient asserted
				hide = hide || strings.TrimSpace(code.View()) == "NOPAT"                                 // v3-ActCode: no disclosure to the patient
			}
		}
		return any
	}
	own := see(&it.layout)
	for c := range it.get(containedMember).Elems() { // no labels may stand there (dom-5), but some do; what is no object there has had the whole dropped (contents)
		l := c.Layout()
		see(&l)
	}
	if entered && (!p.req.PatientView || p.req.Carer) {
		return true
	}
	if !p.req.PatientView {
		return false
	}
	return hide || p.rules.LabelsNoPatient && !own && it.kind.row.class != supporting
}

// excluded reports whether any coding of a resource is on the custodian's list of what it never shares.
func (p *preparing) excluded(v fhirjson.Value) bool {
	if len(p.rules.Excluded) == 0 {
		return false
	}
	found := false
	p.around = v.Codes(p.around, func(around []fhirjson.Value, x fhirjson.Value) {
		found = found || p.rules.Excluded.holds(around[len(around)-1].Get("system").View(), x.View())
	})
	return found
}

// Hide reports whether something with these codes, a document that was fetched, is withheld from who asks: for what its custodian never shares, or for its labels.
func (r *Rules) Hide(req Request, codes []Code) bool {
	entered := r.PatientEntered
	for _, c := range codes {
		code := strings.TrimSpace(c.Code)
		entered = entered || r.LabelsEntered && code == "PATAST"
		if r.Excluded.holds(c.System, code) || req.PatientView && code == "NOPAT" {
			return true
		}
	}
	return entered && (!req.PatientView || req.Carer)
}

// CodeList is a list of codes, ready to be looked into: it may be long, and is held against every code of a reply. It does not change.
type CodeList map[string][]string // systems, by code

// CodesOf makes a CodeList. A code without a system counts whatever its system.
func CodesOf(codes ...Code) CodeList {
	l := make(CodeList, len(codes))
	for _, c := range codes {
		code := strings.TrimSpace(c.Code)
		l[code] = append(l[code], plainSystem(c.System))
	}
	return l
}

// holds reports whether a code is on the list. One that names no system may be of any.
func (l CodeList) holds(system, code string) bool {
	systems, is := l[strings.TrimSpace(code)]
	if !is {
		return false
	}
	system = plainSystem(system)
	return system == "" || slices.Contains(systems, "") || slices.Contains(systems, system)
}

// snomed is the system of SNOMED CT as plainSystem has it. Its editions and versions are named behind it (hl7.org/fhir/R4/snomedct.html), and a code is the same in all of them.
const snomed = "//snomed.info/sct"

// plainSystem is the form in which systems of codes are compared: without http: or https:, blanks, a version, a last slash, or an edition of SNOMED CT.
func plainSystem(system string) string {
	system, _, _ = strings.Cut(strings.TrimSpace(system), "|")
	if isHTTP(system) {
		system = system[strings.IndexByte(system, ':')+1:]
	}
	if strings.HasPrefix(system, snomed+"/") {
		return snomed
	}
	return strings.TrimRight(system, "/")
}

// spread scans what may be shown for references, and withholds what names a withheld resource where it cannot be masked: a string
// that is its address but no Reference, such as a uri in an extension. No address of a withheld resource is left but in free text.
func (p *preparing) spread() {
	suspicious := false
	for i := range p.items {
		suspicious = suspicious || p.items[i].hidden()
	}
	var work []int32
	with := map[int32][]int32{}     // who goes with whom: who cites them, the next of their copies, the document or the text that they are too
	goes := func(target, i int32) { // i goes where target does
		if p.items[target].hidden() {
			work = append(work, i)
		} else {
			with[target] = append(with[target], i)
		}
	}
	contents := map[int32][]int32{} // the Binaries that the Attachments of an entry lead to
	holds := func(i int32, refs []ref) {
		for n := range refs {
			if r := &refs[n]; r.document && r.target >= 0 && p.items[r.target].typ == "Binary" {
				contents[i] = append(contents[i], r.target)
			}
		}
	}
	nodes := map[string]int32{}           // what carries an identifier together, behind the items
	var open []int                        // how many of them are not hidden
	goesBy := func(key string, i int32) { // i goes where all that carry an identifier do
		n, is := nodes[key]
		if !is {
			n = int32(len(p.items) + len(nodes))
			nodes[key] = n
			carriers, left := p.carriers(key), 0
			for _, t := range carriers {
				if !p.items[t].hidden() {
					left++
					with[t] = append(with[t], n)
				}
			}
			if open = append(open, left); left == 0 && len(carriers) > 0 {
				open[len(open)-1] = 1
				work = append(work, n)
			}
		}
		with[n] = append(with[n], i)
	}
	if suspicious {
		for _, c := range p.copies {
			last, gone := int32(-1), false
			for _, i := range c.list {
				if gone = gone || p.items[i].fate == withheld; p.items[i].fate != undecided {
					continue
				}
				if last >= 0 {
					with[i], with[last] = append(with[i], last), append(with[last], i)
				}
				last = i
			}
			if gone && last >= 0 {
				work = append(work, last)
			}
		}
		for _, pair := range p.texts {
			goes(pair[0], pair[1])
			goes(pair[1], pair[0])
		}
		for i := range p.items {
			if it := &p.items[i]; it.fate == withheld {
				from := len(p.refs)
				p.scan(it)
				holds(int32(i), p.refs[from:])
				p.refs, it.refs = p.refs[:from], [2]int32{}
			}
		}
		for i := range p.items { // what a Binary holds is as open as what it says it belongs to (FHIR R4 Binary.securityContext)
			it := &p.items[i]
			if it.fate != undecided || it.typ != "Binary" {
				continue
			}
			p.meant(it.get(securityMember), it, func(t int32) { goes(t, int32(i)) }, func(key string) { goesBy(key, int32(i)) })
		}
	}
	for i := range p.items {
		it := &p.items[i]
		if it.fate != undecided {
			continue
		}
		if !suspicious {
			p.scan(it)
			continue
		}
		cites, citesKey := func(target int32) { goes(target, int32(i)) }, func(key string) { goesBy(key, int32(i)) }
		it.refs[0] = int32(len(p.refs))
		p.scanAll(it.v, it, cites, citesKey)
		for _, other := range p.elsewhere[int32(i)] { // what its bytes mean where they come from too: if that is withheld, it is masked here
			from := len(p.refs)
			p.scanAll(it.v, &p.items[other], cites, citesKey)
			for n := from; n < len(p.refs); n++ {
				p.refs[n].text = fhirjson.Value{}
			}
		}
		it.refs[1] = int32(len(p.refs))
		holds(int32(i), p.refsOf(it))
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		if n := int(i) - len(p.items); n >= 0 {
			if open[n]--; open[n] == 0 {
				work = append(work, with[i]...)
			}
			continue
		}
		if it := &p.items[i]; it.fate == undecided {
			it.fate, it.unnamed = withheld, true
			work = append(work, with[i]...)
		}
	}
	// What a document holds is as closed as the document. What cites the content is not: that may be what many entries were made of.
	for i, list := range contents {
		if p.items[i].fate != withheld {
			continue
		}
		for _, b := range list {
			if it := &p.items[b]; it.fate == undecided {
				it.fate, it.unnamed = withheld, true
			}
		}
	}
	if !suspicious && !p.asked {
		return
	}
	for i := range p.items {
		if p.items[i].fate == undecided {
			p.mask(int32(i))
		}
	}
}

// withheldParts says what of the custodian's record the requester may not see. Sections that the permit leaves out, and a list of excluded
// codes, are said whether or not there is anything that they hide, so that saying it tells nothing; counts only where they may be told. What
// is withheld for a label, or for naming something withheld, is said where nothing else says that the answer is not whole (P6).
func (p *preparing) withheldParts() []record.Part {
	counts := map[record.Section]int{}
	unnamed := 0
	missing := record.AllSections.Without(p.rules.Permitted)
	for i := range p.items {
		it := &p.items[i]
		if it.fate != withheld {
			continue
		}
		if closed := (it.sections & missing).List(); len(closed) > 0 && !it.unnamed {
			counts[closed[0]]++
		} else {
			unnamed++
		}
	}
	var out []record.Part
	add := func(section string, n int) {
		if !p.rules.TellCounts {
			n = 0
		}
		out = append(out, record.Part{Section: section, Reason: record.PartWithheld, Count: n})
	}
	for _, s := range missing.List() {
		add(s.Code(), counts[s])
	}
	switch {
	case p.rules.TellCounts && unnamed > 0, len(p.rules.Excluded) > 0, unnamed > 0 && missing == 0:
		add("", unnamed)
	}
	return out
}
