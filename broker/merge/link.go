package merge

// choose applies the caller's filter (M-12) to what is about the person, and then keeps of the rest what something shown needs.
//
// `_type` narrows the matches. The custodian's Patient stays, and so does what a match refers to: a MedicationRequest without its
// Medication would not say what was prescribed. A type of that sort that is asked for by name is kept if anything of the record refers to it.
func (p *preparing) choose() {
	types := map[string]bool{}
	for _, t := range p.req.Filter.Types {
		types[t] = true
	}
	n := len(p.items)
	both := make([]int32, 2*n)
	roots, all := both[:0:n], both[n:n]
	for i := range p.items {
		it := &p.items[i]
		if it.fate != undecided {
			continue
		}
		switch it.kind.row.class {
		case person, either:
			if it.kind.row.class == either && !it.get(patientMember).Exists() {
				continue // supporting, below
			}
			all = append(all, int32(i))
			if p.filteredOut(it, types) {
				it.fate = filtered
				continue
			}
			it.fate = shown
			roots = append(roots, int32(i))
		}
	}
	var about map[int32][]int32 // Provenances of what may come to be shown, by that
	tell := func(i int32) {
		p.items[i].fate = shown
		roots = append(roots, i)
	}
	for i := range p.items { // a custodian's Provenance is shown with what it is about
		it := &p.items[i]
		if it.fate != undecided || it.kind.row.class != provenance {
			continue
		}
		target := it.get(targetMember)
		for _, r := range p.refsOf(it) {
			if target.Exists() && r.leads() && r.whole.Start() >= target.Start() && r.whole.End() <= target.End() {
				t := &p.items[r.target]
				if t.fate == shown && t.kind.row.class != supporting || types["Provenance"] && t.fate == filtered {
					tell(int32(i))
					break
				}
				if t.kind.row.class == provenance && t.fate == undecided {
					if about == nil {
						about = map[int32][]int32{}
					}
					about[r.target] = append(about[r.target], int32(i))
				}
			}
		}
	}
	for n := 0; about != nil && n < len(roots); n++ {
		for _, i := range about[roots[n]] {
			if p.items[i].fate == undecided {
				tell(i)
			}
		}
	}
	p.reach(roots, nil)
	if len(types) > 0 {
		p.reach(all, types)
	}
	for i := range p.items {
		if it := &p.items[i]; it.fate == undecided {
			it.fate = unlinked
		}
	}
}

// reach shows the supporting resources that the given ones lead to, through others of their sort too; with types, those of the types only.
func (p *preparing) reach(from []int32, types map[string]bool) {
	seen := make([]bool, len(p.items))
	var copied map[typeID]bool // copies that were looked at
	work := from
	show := func(i int32) {
		t := &p.items[i]
		if seen[i] {
			return
		}
		if c := t.kind.row.class; t.fate == undecided && (c == supporting || c == either && !t.get(patientMember).Exists()) {
			seen[i] = true
			if types == nil || types[t.typ] {
				t.fate = shown
			}
			work = append(work, i)
		}
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		for _, r := range p.refsOf(&p.items[i]) {
			if !r.leads() {
				continue
			}
			t := &p.items[r.target]
			show(r.target)
			if key := (typeID{t.typ, t.id}); t.conflicting && !copied[key] { // which of the copies is meant is not for us to say (M-5)
				if copied == nil {
					copied = map[typeID]bool{}
				}
				copied[key] = true
				for _, i := range p.copies[key].list {
					show(i)
				}
			}
		}
	}
}

// filteredOut reports whether the caller asked not to see a match.
func (p *preparing) filteredOut(it *item, types map[string]bool) bool {
	f := p.req.Filter
	if it.typ == "Patient" {
		return false
	}
	if len(types) > 0 && !types[it.typ] {
		return true
	}
	if (!f.Start.IsZero() || !f.End.IsZero()) && it.time.Dated() && !it.time.Overlaps(f.Start, f.End) {
		return true
	}
	if !f.Since.IsZero() {
		updated := it.updated()
		if !updated.Dated() {
			it.lateUnknown = true // kept and marked: whether it changed since cannot be told
			return false
		}
		return !updated.Hi.After(f.Since)
	}
	return false
}
