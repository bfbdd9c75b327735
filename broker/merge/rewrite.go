package merge

import (
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Addresses of what we add to custodians' resources and say in our own: they follow the configured base of our code systems.
const (
	CustodianSystemPath = "/CodeSystem/custodian" // meta.tag: the custodian's key
	TimeSystemPath      = "/CodeSystem/time"      // meta.tag of matches: future, dated, undated (M-8)
	TagSystemPath       = "/CodeSystem/tag"       // meta.tag: conflicting-copies (M-5), last-updated-unknown (M-12)
	ReceiptSystemPath   = "/CodeSystem/receipt"   // Bundle.meta.tag (L-4)
	PartSystemPath      = "/CodeSystem/part"      // OperationOutcome.issue.details: the reasons of parts
	ExtensionPath       = "/StructureDefinition/" // original-source on meta (M-3), disclosure on Provenance (M-10)
	CustodianPath       = "/custodian/"           // meta.source is {base}/custodian/{key}: who holds the resource, wherever it was written
)

const maskedValue = `{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}`

// rewrite returns the bytes of it with the changes of M-3 and no other: id, references, addresses of documents, meta.tag, meta.source,
// masks. White space and number text stay. It counts dangling references.
func (p *preparing) rewrite(it *item) []byte {
	edits := make([]fhirjson.Edit, 0, len(it.refs)+4)
	holders := map[int]fhirjson.Value{}
	lines := map[int]bool{}
	for _, r := range it.refs {
		switch {
		case p.masked(r):
			if r.line.Exists() {
				lines[r.line.Start()] = true
				holders[r.holder.Start()] = r.holder
				continue
			}
			edits = append(edits, fhirjson.Edit{Start: r.whole.Start(), End: r.whole.End(), New: []byte(maskedValue)})
		case r.identifier != "":
		case r.target >= 0 && (p.items[r.target].fate == shown || p.items[r.target].fate == filtered):
			t := &p.items[r.target]
			_, rest := splitAddress(r.text.Text())
			to := t.typ + "/" + t.newID + rest
			if r.document {
				to = p.req.Base + "/" + to
			}
			edits = append(edits, fhirjson.Edit{Start: r.text.Start(), End: r.text.End(), New: fhirjson.Quote(to)})
		case p.leadsHere(r.text.Text()):
			p.dangling++
			edits = append(edits, fhirjson.Edit{Start: r.whole.Start(), End: r.whole.End(), New: []byte(maskedValue)})
		case r.document && p.rules.DocumentAddress != nil:
			to := p.rules.DocumentAddress(p.absolute(r.text.Text(), it))
			edits = append(edits, fhirjson.Edit{Start: r.text.Start(), End: r.text.End(), New: fhirjson.Quote(to)})
		default:
			p.dangling++
			if address := r.text.Text(); !hasScheme(address) {
				edits = append(edits, fhirjson.Edit{Start: r.text.Start(), End: r.text.End(), New: fhirjson.Quote(p.absolute(address, it))})
			}
		}
	}
	for _, h := range holders {
		edits = append(edits, dropLines(h, lines)...)
	}
	return it.v.Rewrite(outermost(append(edits, p.relabel(it)...)))
}

// relabel gives a resource its new id and what we say in its meta.
func (p *preparing) relabel(it *item) []fhirjson.Edit {
	var edits []fhirjson.Edit
	after := it.v.Get("resourceType").End()
	if id := it.v.Get("id"); id.Exists() {
		edits = append(edits, fhirjson.Edit{Start: id.Start(), End: id.End(), New: fhirjson.Quote(it.newID)})
		after = id.End()
	} else {
		edits = append(edits, insert(after, `,"id":`, string(fhirjson.Quote(it.newID))))
	}
	source := fhirjson.Quote(p.req.CodeBase + CustodianPath + string(p.reply.Custodian.Key))
	tags := p.tags(it)
	meta := it.v.Get("meta")
	if !meta.Exists() {
		return append(edits, insert(after, `,"meta":{"source":`, string(source), `,"tag":[`, string(tags), `]}`))
	}
	var first []byte // members that go to the head of meta
	if tag := meta.Get("tag"); tag.Exists() {
		edits = append(edits, intoArray(tag, tags))
	} else {
		first = append(append(append(first, `"tag":[`...), tags...), "],"...)
	}
	if old := meta.Get("source"); !old.Exists() {
		first = append(append(append(first, `"source":`...), source...), ',')
	} else {
		edits = append(edits, fhirjson.Edit{Start: old.Start(), End: old.End(), New: source})
		moved := append([]byte(`{"url":`), fhirjson.Quote(p.req.CodeBase+ExtensionPath+"original-source")...)
		moved = append(append(append(moved, `,"valueUri":`...), old.Raw()...), '}')
		if x := meta.Get("extension"); x.Exists() {
			edits = append(edits, intoArray(x, moved))
		} else {
			first = append(append(append(first, `"extension":[`...), moved...), "],"...)
		}
	}
	if meta.Len() == 0 && len(first) > 0 {
		first = first[:len(first)-1]
	}
	if len(first) > 0 {
		edits = append(edits, fhirjson.Edit{Start: meta.Start() + 1, End: meta.Start() + 1, New: first})
	}
	return edits
}

// tags are the codings that we add to meta.tag, ours first, so that the first of a system is ours whatever a custodian sends: custodian;
// sections, the primary one first; time; what is odd.
func (p *preparing) tags(it *item) []byte {
	var out []byte
	add := func(path, code string) {
		if out != nil {
			out = append(out, ',')
		}
		out = append(out, `{"system":`...)
		out = append(out, fhirjson.Quote(p.req.CodeBase+path)...)
		out = append(out, `,"code":"`...)
		out = append(append(out, code...), `"}`...) // codes are of closed lists, or a key: nothing in them to quote
	}
	add(CustodianSystemPath, string(p.reply.Custodian.Key))
	if it.placed() {
		add(record.SectionSystemPath, it.primary.Code())
		for _, s := range it.sections.Without(record.SectionsOf(it.primary)).List() {
			add(record.SectionSystemPath, s.Code())
		}
	}
	if it.matches() {
		switch {
		case !it.time.Dated():
			add(TimeSystemPath, "undated")
		case it.time.Future(p.req.Now):
			add(TimeSystemPath, "future")
		default:
			add(TimeSystemPath, "dated")
		}
	}
	if it.conflicting {
		add(TagSystemPath, "conflicting-copies")
	}
	if it.lateUnknown {
		add(TagSystemPath, "last-updated-unknown")
	}
	return out
}

// placed reports whether it stands in a section: the Patient and what is about them.
func (it *item) placed() bool {
	return it.row.class == person || it.row.class == either && it.v.Get("patient").Exists()
}

// matches reports whether it is a match; the Patient, what supports, and Provenance are includes.
func (it *item) matches() bool { return it.placed() && it.typ != "Patient" }

func insert(at int, parts ...string) fhirjson.Edit {
	e := fhirjson.Edit{Start: at, End: at}
	for _, s := range parts {
		e.New = append(e.New, s...)
	}
	return e
}

// intoArray puts elements before those of an array.
func intoArray(array fhirjson.Value, elements []byte) fhirjson.Edit {
	text := elements
	if array.Len() > 0 {
		text = append(slices.Clone(elements), ',')
	}
	return fhirjson.Edit{Start: array.Start() + 1, End: array.Start() + 1, New: text}
}

// dropLines removes lines of a List or Composition. A section of a Composition that held nothing but such lines goes too, its title with it.
func dropLines(holder fhirjson.Value, lines map[int]bool) []fhirjson.Edit {
	gone := func(v fhirjson.Value) bool { return lines[v.Start()] }
	if holder.Get("resourceType").Is("List") {
		return dropElements(holder, "entry", gone)
	}
	emptied := map[int]bool{}
	var prune func(s fhirjson.Value) bool
	prune = func(s fhirjson.Value) bool {
		lost, left := 0, 0
		for e := range s.Get("entry").Elems() {
			if gone(e) {
				lost++
			} else {
				left++
			}
		}
		for sub := range s.Get("section").Elems() {
			if prune(sub) {
				lost++
			} else {
				left++
			}
		}
		if lost > 0 && left == 0 && !s.Get("text").Exists() {
			emptied[s.Start()] = true
		}
		return emptied[s.Start()]
	}
	for s := range holder.Get("section").Elems() {
		prune(s)
	}
	isEmptied := func(v fhirjson.Value) bool { return emptied[v.Start()] }
	var edits []fhirjson.Edit
	var visit func(parent fhirjson.Value)
	visit = func(parent fhirjson.Value) {
		edits = append(edits, dropElements(parent, "section", isEmptied)...)
		for s := range parent.Get("section").Elems() {
			if !isEmptied(s) {
				edits = append(edits, dropElements(s, "entry", gone)...)
				visit(s)
			}
		}
	}
	visit(holder)
	return edits
}

// dropElements removes elements of a member's array and their commas, and the member where none is left: FHIR knows no empty arrays.
func dropElements(object fhirjson.Value, key string, gone func(fhirjson.Value) bool) []fhirjson.Edit {
	member := object.Get(key)
	var elems []fhirjson.Value
	left := 0
	for e := range member.Elems() {
		elems = append(elems, e)
		if !gone(e) {
			left++
		}
	}
	if left == len(elems) {
		return nil
	}
	if left == 0 {
		var members []fhirjson.Value
		at := 0
		for k, m := range object.Members() {
			if k == key {
				at = len(members)
			}
			members = append(members, m)
		}
		return []fhirjson.Edit{cut(members, at, fhirjson.Value.KeyStart)}
	}
	var edits []fhirjson.Edit
	kept := false
	for i, e := range elems {
		switch {
		case !gone(e):
			kept = true
		case kept:
			edits = append(edits, fhirjson.Edit{Start: elems[i-1].End(), End: e.End()})
		default:
			edits = append(edits, fhirjson.Edit{Start: e.Start(), End: elems[i+1].Start()})
		}
	}
	return edits
}

// cut removes one of several values in a row and one comma.
func cut(list []fhirjson.Value, at int, start func(fhirjson.Value) int) fhirjson.Edit {
	switch {
	case at > 0:
		return fhirjson.Edit{Start: list[at-1].End(), End: list[at].End()}
	case len(list) > 1:
		return fhirjson.Edit{Start: start(list[0]), End: start(list[1])}
	}
	return fhirjson.Edit{Start: start(list[0]), End: list[0].End()}
}

// outermost leaves out edits that lie within others: what is masked or removed needs no rewriting. An insertion where a removal begins stays.
func outermost(edits []fhirjson.Edit) []fhirjson.Edit {
	slices.SortStableFunc(edits, func(a, b fhirjson.Edit) int {
		if a.Start != b.Start {
			return a.Start - b.Start
		}
		if ai, bi := a.Start == a.End, b.Start == b.End; ai != bi { // insertions first
			if ai {
				return -1
			}
			return 1
		}
		return b.End - a.End // the wider first
	})
	out := edits[:0]
	end := -1
	for _, e := range edits {
		if e.Start < end {
			continue
		}
		out = append(out, e)
		end = max(end, e.End)
	}
	return out
}
