package merge

import (
	"slices"
	"sort"

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

// added is about how much longer a resource becomes.
const added = 400

var maskedValue = []byte(`{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}`)

// rewrite returns the bytes of it with the changes of M-3 and no other: id, references, addresses of documents, meta.tag, meta.source,
// masks. White space and number text stay. It counts dangling references.
func (p *preparing) rewrite(i int32) []byte {
	it := &p.items[i]
	p.edits, p.scratch = p.edits[:0], p.scratch[:0]
	p.relabel(it) // first, because that stands in front in nearly every resource: then there is nothing to sort
	if p.masks != nil {
		p.edits = append(p.edits, p.masks[i]...)
	}
	replace := func(v fhirjson.Value, by []byte) {
		p.edits = append(p.edits, fhirjson.Edit{Start: v.Start(), End: v.End(), New: by})
	}
	for _, r := range p.refsOf(it) {
		switch {
		case !r.text.Exists(): // nothing of it leads anywhere
		case r.target >= 0 && (p.items[r.target].fate == shown || p.items[r.target].fate == filtered):
			t := &p.items[r.target]
			to := t.url
			if !r.document {
				to = to[len(p.req.Base)+1:]
			}
			if r.rest == "" {
				replace(r.text, p.ours(to))
			} else {
				replace(r.text, p.quoted(to, r.rest))
			}
		default:
			root, rest := p.absolute(r.text.View(), it)
			switch {
			case root == "" || rest == "" && p.leadsHere(root):
				p.dangling++
				replace(r.whole, maskedValue)
			case r.document && p.sealed(r, it, root+rest, replace):
			case r.document && !p.own(r.text.View(), it) && !p.leadsHere(r.text.View()): // elsewhere in the world
			default:
				p.dangling++
				if rest != "" { // it was relative
					replace(r.text, p.quoted(root, rest))
				}
			}
		}
	}
	p.edits = outermost(p.edits)
	return it.v.AppendRewrite(p.out.take(it.v.RewriteSize(p.edits)), p.edits)
}

// mask settles what is masked in an entry that may be shown, and which lines of a List or Composition go. What stands within is no reference of the entry any more: it leads
// nobody to anything, and nothing is shown for it.
func (p *preparing) mask(i int32) {
	it := &p.items[i]
	refs := p.refsOf(it)
	var edits []fhirjson.Edit
	var holders map[int]fhirjson.Value
	var lines map[int]bool
	for n := range refs {
		r := &refs[n]
		if !p.masked(r) {
			continue
		}
		if r.line.Exists() {
			if lines == nil {
				holders, lines = map[int]fhirjson.Value{}, map[int]bool{}
			}
			lines[r.line.Start()] = true
			holders[r.holder.Start()] = r.holder
		}
		// Within a line that goes this changes nothing; where dropLines does not take it, it is masked.
		edits = append(edits, fhirjson.Edit{Start: r.whole.Start(), End: r.whole.End(), New: maskedValue})
	}
	if len(edits) == 0 {
		return
	}
	for _, h := range holders {
		edits = append(edits, dropLines(h, lines)...)
	}
	edits = outermost(edits)
	kept := refs[:0]
	for n := range refs {
		at := refs[n].whole
		if e := sort.Search(len(edits), func(e int) bool { return edits[e].End >= at.End() }); e == len(edits) || edits[e].Start > at.Start() {
			kept = append(kept, refs[n])
		}
	}
	it.refs[1] = it.refs[0] + int32(len(kept))
	if p.masks == nil {
		p.masks = map[int32][]fhirjson.Edit{}
	}
	p.masks[i] = edits
}

// sealed puts the sealed address of a document where its own stands, and reports whether there is one.
func (p *preparing) sealed(r ref, it *item, address string, replace func(v fhirjson.Value, by []byte)) bool {
	if p.rules.DocumentAddress == nil {
		return false
	}
	to := p.rules.DocumentAddress(Document{Address: address, Type: r.whole.Get("contentType").Text(), Sections: it.sections})
	if to != "" {
		replace(r.text, p.quoted(to))
	}
	return to != ""
}

// quoted is a JSON string of parts, in memory that lasts until the next resource is rewritten.
func (p *preparing) quoted(parts ...string) []byte {
	from := len(p.scratch)
	p.scratch = fhirjson.AppendQuote(p.scratch, parts...)
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// ours is quoted for an id or address of ours. Nothing in it needs an escape where that is known of our base and of the custodian's key: the rest is the name of a
// type, and letters of ids.
func (p *preparing) ours(text string) []byte {
	if !p.plainBase {
		return p.quoted(text)
	}
	from := len(p.scratch)
	p.scratch = append(append(append(p.scratch, '"'), text...), '"')
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// noted is a text of parts, in the same memory.
func (p *preparing) noted(parts ...[]byte) []byte {
	from := len(p.scratch)
	for _, b := range parts {
		p.scratch = append(p.scratch, b...)
	}
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// relabel gives a resource its new id and what we say in its meta.
func (p *preparing) relabel(it *item) {
	put := func(start, end int, text []byte) {
		p.edits = append(p.edits, fhirjson.Edit{Start: start, End: end, New: text})
	}
	after := it.get(typeMember).End()
	if id := it.get(idMember); id.Exists() {
		put(id.Start(), id.End(), p.ours(it.newID))
		after = id.End()
	} else {
		put(after, after, p.noted(idStart, p.ours(it.newID)))
	}
	if p.source == nil {
		p.source = fhirjson.AppendQuote(make([]byte, 0, 128), p.req.CodeBase, CustodianPath, string(p.reply.Custodian.Key))
	}
	tags := p.tags(it)
	meta := it.get(metaMember)
	if !meta.Exists() {
		put(after, after, p.noted(metaStart, p.source, tagStart, tags, metaEnd))
		return
	}
	var first [2][]byte // members that go to the head of meta: tag; source, or the extension with the source that was there
	if tag := meta.Get("tag"); tag.Exists() {
		put(p.intoArray(tag, tags))
	} else {
		first[0] = p.noted(tagsStart, tags, listEnd)
	}
	if old := meta.Get("source"); !old.Exists() {
		first[1] = p.noted(sourceMember, p.source, comma)
	} else {
		put(old.Start(), old.End(), p.source)
		moved := p.noted(urlMember, p.quoted(p.req.CodeBase, ExtensionPath, "original-source"), valueURI, old.Raw(), objectEnd)
		if x := meta.Get("extension"); x.Exists() {
			put(p.intoArray(x, moved))
		} else {
			first[1] = p.noted(extensionsStart, moved, listEnd)
		}
	}
	if text := p.noted(first[0], first[1]); len(text) > 0 {
		if meta.Len() == 0 {
			text = text[:len(text)-1]
		}
		put(meta.Start()+1, meta.Start()+1, text)
	}
}

// The texts around what we add.
var (
	idStart         = []byte(`,"id":`)
	metaStart       = []byte(`,"meta":{"source":`)
	tagStart        = []byte(`,"tag":[`)
	metaEnd         = []byte(`]}`)
	tagsStart       = []byte(`"tag":[`)
	extensionsStart = []byte(`"extension":[`)
	listEnd         = []byte(`],`)
	sourceMember    = []byte(`"source":`)
	urlMember       = []byte(`{"url":`)
	valueURI        = []byte(`,"valueUri":`)
	objectEnd       = []byte(`}`)
	comma           = []byte(`,`)
)

// tagging is what the tags of a resource depend on.
type tagging struct {
	placed, conflicting, lateUnknown bool
	primary                          record.Section
	sections                         record.Sections
	time                             string
}

// tags are the codings that we add to meta.tag, ours first, so that the first of a system is ours whatever a custodian sends: custodian;
// sections, the primary one first; time; what is odd. There are few kinds of them in a reply, so each is made once.
func (p *preparing) tags(it *item) []byte {
	kind := tagging{conflicting: it.conflicting, lateUnknown: it.lateUnknown}
	if it.placed() {
		kind.placed, kind.primary, kind.sections = true, it.primary, it.sections
	}
	if it.matches() {
		switch {
		case !it.time.Dated():
			kind.time = "undated"
		case it.time.Future(p.req.Now):
			kind.time = "future"
		default:
			kind.time = "dated"
		}
	}
	if have, is := p.tagged[kind]; is {
		return have
	}
	if p.tagged == nil {
		p.tagged, p.tagTexts = make(map[tagging][]byte, 16), make([]byte, 0, 4<<10)
	}
	from := len(p.tagTexts)
	out := p.tagTexts
	add := func(path, code string) {
		if len(out) > from {
			out = append(out, ',')
		}
		out = append(out, `{"system":`...)
		out = fhirjson.AppendQuote(out, p.req.CodeBase, path)
		out = append(out, `,"code":"`...)
		out = append(append(out, code...), `"}`...) // codes are of closed lists, or a key: nothing in them to quote
	}
	add(CustodianSystemPath, string(p.reply.Custodian.Key))
	if kind.placed {
		add(record.SectionSystemPath, kind.primary.Code())
		for s := range kind.sections.Without(record.SectionsOf(kind.primary)).All() {
			add(record.SectionSystemPath, s.Code())
		}
	}
	if kind.time != "" {
		add(TimeSystemPath, kind.time)
	}
	if kind.conflicting {
		add(TagSystemPath, "conflicting-copies")
	}
	if kind.lateUnknown {
		add(TagSystemPath, "last-updated-unknown")
	}
	p.tagTexts = out // where it had to grow, what was made before stays where it is
	p.tagged[kind] = out[from:len(out):len(out)]
	return p.tagged[kind]
}

// placed reports whether it stands in a section: the Patient and what is about them.
func (it *item) placed() bool {
	return it.kind.row.class == person || it.kind.row.class == either && it.get(patientMember).Exists()
}

// matches reports whether it is a match; the Patient, what supports, and Provenance are includes.
func (it *item) matches() bool { return it.placed() && it.typ != "Patient" }

// intoArray says where and what to insert so that elements stand before those of an array.
func (p *preparing) intoArray(array fhirjson.Value, elements []byte) (start, end int, text []byte) {
	if array.Len() > 0 {
		elements = p.noted(elements, comma)
	}
	return array.Start() + 1, array.Start() + 1, elements
}

// dropLines removes lines of a List or Composition. A section of a Composition that held nothing but such lines goes too, its title with it.
func dropLines(holder fhirjson.Value, lines map[int]bool) []fhirjson.Edit {
	gone := func(v fhirjson.Value) bool { return lines[v.Start()] }
	if holder.Get("resourceType").Is("List") {
		return dropElements(holder, gone, "entry")
	}
	emptied := map[int]bool{}
	isEmptied := func(v fhirjson.Value) bool { return emptied[v.Start()] }
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
		return isEmptied(s)
	}
	for s := range holder.Get("section").Elems() {
		prune(s)
	}
	var edits []fhirjson.Edit
	var visit func(parent fhirjson.Value)
	visit = func(parent fhirjson.Value) {
		edits = append(edits, dropElements(parent, func(v fhirjson.Value) bool { return isEmptied(v) || parent != holder && gone(v) }, "section", "entry")...)
		for s := range parent.Get("section").Elems() {
			if !isEmptied(s) {
				visit(s)
			}
		}
	}
	visit(holder)
	return edits
}

// dropElements removes elements of members' arrays and their commas, and the members where none is left: FHIR knows no empty arrays. All members of an object are
// given at once, because two that go side by side share a comma.
func dropElements(object fhirjson.Value, gone func(fhirjson.Value) bool, keys ...string) []fhirjson.Edit {
	var edits []fhirjson.Edit
	empty := map[int]bool{}
	for _, key := range keys {
		member := object.Get(key)
		elems := slices.Collect(member.Elems())
		if len(elems) > 0 && !slices.ContainsFunc(elems, func(e fhirjson.Value) bool { return !gone(e) }) {
			empty[member.Start()] = true
		} else {
			edits = append(edits, cut(elems, gone, fhirjson.Value.Start)...)
		}
	}
	var members []fhirjson.Value
	for _, m := range object.Members() {
		members = append(members, m)
	}
	return append(edits, cut(members, func(v fhirjson.Value) bool { return empty[v.Start()] }, fhirjson.Value.KeyStart)...)
}

// cut removes some of several values in a row, and as many commas.
func cut(list []fhirjson.Value, gone func(fhirjson.Value) bool, start func(fhirjson.Value) int) []fhirjson.Edit {
	var edits []fhirjson.Edit
	kept := false
	for i, e := range list {
		switch {
		case !gone(e):
			kept = true
		case kept:
			edits = append(edits, fhirjson.Edit{Start: list[i-1].End(), End: e.End()})
		case i+1 < len(list):
			edits = append(edits, fhirjson.Edit{Start: start(e), End: start(list[i+1])})
		default:
			edits = append(edits, fhirjson.Edit{Start: start(e), End: e.End()})
		}
	}
	return edits
}

// outermost leaves out edits that lie within others: what is masked or removed needs no rewriting. An insertion where a removal begins stays.
func outermost(edits []fhirjson.Edit) []fhirjson.Edit {
	for i := 1; i < len(edits); i++ {
		if edits[i].Start <= edits[i-1].Start && inPlace(edits[i-1], edits[i]) > 0 {
			slices.SortStableFunc(edits, inPlace)
			break
		}
	}
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

// inPlace is the order of edits: by where they begin; insertions first; the wider of others first.
func inPlace(a, b fhirjson.Edit) int {
	if a.Start != b.Start {
		return a.Start - b.Start
	}
	if ai, bi := a.Start == a.End, b.Start == b.End; ai != bi {
		if ai {
			return -1
		}
		return 1
	}
	return b.End - a.End
}
