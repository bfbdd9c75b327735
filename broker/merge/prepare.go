package merge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The kinds of trouble that make a custodian failed. The broker maps them to its own.
var (
	ErrWrongSubject = errors.New("the reply is about another person, or about nobody for certain") // M-4
	ErrMalformed    = errors.New("the reply is not what it should be")                             // M-2
	ErrSum          = errors.New("resources in and out do not add up")                             // M-11: our own bug; nothing of it is shown
)

// Prepare makes one custodian's part. The error wraps one of the kinds above; nothing of such a reply may be shown.
//
// It does not change reply, so that the same reply can be prepared again under another permit. Its work is linear in the size of the reply,
// but for sorting.
func Prepare(req Request, rules Rules, reply Reply) (Prepared, error) {
	p := preparing{req: req, rules: rules, reply: reply, number: req.Subject.Number.Reveal(), sectionSystem: req.CodeBase + record.SectionSystemPath,
		scratch: make([]byte, 0, 2<<10), key: make([]byte, 0, 256), edits: make([]fhirjson.Edit, 0, 32), around: make([]fhirjson.Value, 0, 16)}
	if p.number == "" {
		return Prepared{}, fmt.Errorf("%w: no NHS number was asked for", ErrWrongSubject)
	}
	p.key = fhirjson.AppendQuote(p.key, req.Base, string(reply.Custodian.Key))
	p.legalKey = legalID(string(reply.Custodian.Key))
	p.plainBase = len(p.key) == len(req.Base)+len(reply.Custodian.Key)+len(`""`)
	if err := p.index(); err != nil {
		return Prepared{}, err
	}
	if err := p.identify(); err != nil {
		return Prepared{Alarm: true}, err
	}
	// From here on the reply is about this person. What is not, is dropped.
	p.drop()
	p.settleCopies()
	p.relate()
	// What must not be shown is settled before anything is written, and references to it with it.
	p.withhold()
	p.spread()
	p.borrow()
	p.choose()
	p.surface()
	if err := p.assignIDs(); err != nil {
		return Prepared{}, err
	}
	return p.finish()
}

// drop decides the fate of what is financial, or is not this person's for certain (M-4), and describes what is, while it is near.
func (p *preparing) drop() {
	for i := range p.items {
		it := &p.items[i]
		if it.fate != undecided {
			continue
		}
		if it.kind.row.class == money {
			it.fate = financial
			continue
		}
		if p.keep(it) {
			p.describe(it)
		}
	}
	p.unfold()
}

// keep drops a resource that is not this person's for certain, and reports whether it is.
func (p *preparing) keep(it *item) bool {
	switch p.whose(it) {
	case ours:
		return true
	case another:
		it.fate, it.stranger = dropped, true
		p.strangers++
	default:
		it.fate = dropped
		p.unreadable++
	}
	return false
}

// whose decides whose a resource is, with all that it contains: ours, another's, or unclear.
func (p *preparing) whose(it *item) whom {
	switch {
	case it.kind.row.class == unknownClass || it.kind.row.class == foreign:
		return unclear
	case it.typ == "Patient" && !it.isSubject:
		return another
	}
	if w := p.attribute(it, &it.layout, it.kind.row, false); w != ours {
		return w
	}
	return p.contents(it)
}

// unfold looks again at what was folded: the same bytes at another root, or from another source, may be about somebody else. Of this person's copies that were folded into
// another's one stands for the others.
func (p *preparing) unfold() {
	var back []int32
	for i := range p.items {
		it := &p.items[i]
		if it.fate != folded || p.bySource(it, &p.items[it.stands]) == 0 || p.items[it.stands].fate == financial {
			continue
		}
		switch {
		case !p.keep(it):
			it.keeper = int32(i)
		case p.items[it.stands].fate == dropped:
			back = append(back, int32(i))
		default:
			p.stand(it.stands, int32(i))
		}
	}
	slices.SortStableFunc(back, func(a, b int32) int { return p.bySource(&p.items[a], &p.items[b]) })
	stands := map[int32]int32{} // for the copies of a dropped resource
	for _, i := range back {
		it := &p.items[i]
		first, is := stands[it.stands]
		if is {
			if it.keeper, it.stands = first, first; p.bySource(it, &p.items[first]) != 0 {
				p.stand(first, i)
			}
			continue
		}
		stands[it.stands] = i
		it.fate, it.keeper = undecided, i
		p.describe(it)
		if c := p.copies[typeID{it.typ, it.id}]; c != nil && it.id != "" {
			c.list = append(c.list, i)
		}
	}
}

// stand notes that an item stands for one that came from another root or source.
func (p *preparing) stand(i, other int32) {
	if p.elsewhere == nil {
		p.elsewhere = map[int32][]int32{}
	}
	p.elsewhere[i] = append(p.elsewhere[i], other)
}

// describe gives a resource about the person its time and sections, as far as it says them itself, and what it is labelled.
func (p *preparing) describe(it *item) {
	if it.unnamed = p.labelled(it); !it.placed() {
		it.sections = p.labelSections(it.kind, &it.layout)
		return
	}
	it.primary, it.sections = p.place(it.kind, &it.layout)
	it.time, it.saysTime = it.kind.dating.of(&it.layout)
	if it.typ == "List" && p.madeByAsking(it) {
		it.time = record.ClinicalTime{}
	}
}

// relate gives resources the sections that others hand down to them.
func (p *preparing) relate() {
	p.follow()
	p.shareSections()
	p.joinTexts()
}

// borrow gives Observations without a time of their own that of their specimen, if that may be told.
func (p *preparing) borrow() {
	for i := range p.items {
		if it := &p.items[i]; it.typ == "Observation" && it.fate == undecided && !it.saysTime {
			it.time = p.specimenTime(it)
		}
	}
}

// finish writes what is shown, in the order of M-8, and proves the sum of M-11.
func (p *preparing) finish() (Prepared, error) {
	out := Prepared{reply: p.reply}
	out.reply.Entries, out.reply.Beside = nil, nil // the documents may go when their bytes have been rewritten
	var fates [fateCount]int
	n := 0
	for i := range p.items {
		if it := &p.items[i]; it.fate == shown {
			n++
			p.out.expected += it.v.End() - it.v.Start() + added
		}
	}
	out.Entries, out.marks = make([]Entry, 0, n), make([]mark, 0, 3*n) // few have more marks
	for i := range p.items {
		it := &p.items[i]
		fates[it.fate]++
		if it.fate == folded && p.items[it.keeper].fate == shown {
			out.foldedShown++
		}
		if it.fate != shown {
			continue
		}
		e := Entry{FullURL: it.url, Type: it.typ, ID: it.newID, Mode: Include, Custodian: p.reply.Custodian.Key}
		if it.placed() {
			e.Section, e.Others = it.primary, it.sections.Without(record.SectionsOf(it.primary))
			out.Sections |= it.sections
		}
		if it.matches() {
			e.Mode, e.Time = Match, it.time
			if it.lateUnknown {
				out.lateUnknown++
			}
			if !it.time.Dated() {
				out.undated++
			}
			e.marksFrom = int32(len(out.marks))
			out.marks = p.marks(out.marks, it)
			e.marksTo = int32(len(out.marks))
		}
		switch {
		case !it.isSubject || it.keeper != int32(i) && p.items[it.keeper].origin == it.origin:
		case out.PatientID == "":
			out.PatientID = it.newID
		default:
			out.also = append(out.also, it.newID)
		}
		e.JSON = p.rewrite(int32(i))
		e.Digest = sha256.Sum256(e.JSON) // while it is near
		out.Entries = append(out.Entries, e)
	}
	for _, c := range p.copies {
		n := -1 // the first of those that are shown is no other copy
		for _, i := range c.list {
			if p.items[i].conflicting && p.items[i].fate == shown {
				n++
			}
		}
		p.extra += max(0, n)
	}
	sortEntries(out.Entries)
	out.Counts = Counts{Received: p.received, Shown: len(out.Entries), Folded: fates[folded], Strangers: fates[dropped], Withheld: fates[withheld],
		Filtered: fates[filtered], Financial: fates[financial], Unlinked: fates[unlinked]}
	if out.Counts.Sum() != p.received || fates[undecided] != 0 {
		return Prepared{Alarm: true}, ErrSum
	}
	sum := sha256.New()
	for i := range out.Entries {
		sum.Write(out.Entries[i].Digest[:])
	}
	sum.Sum(out.Digest[:0])
	out.Dangling = p.dangling
	out.Alarm = p.strangers > 0
	out.Status = p.status(out.Counts)
	return out, nil
}

// status says how the custodian's part stands (design section 6).
func (p *preparing) status(c Counts) record.Status {
	s := record.Status{Custodian: p.reply.Custodian, State: record.Returned, Asked: p.reply.Asked, Took: p.reply.Took, Adapter: p.reply.Adapter,
		Shown: c.Shown, Received: c.Received, Parts: slices.Clone(p.reply.Parts)}
	s.Parts = append(s.Parts, p.parts...)
	s.Parts = append(s.Parts, p.withheldParts()...)
	for _, x := range [...]record.Part{{Reason: record.PartStrangers, Count: p.strangers}, {Reason: record.PartUnreadable, Count: p.unreadable}, {Reason: record.PartConflictingCopies, Count: p.extra}} {
		if x.Count > 0 {
			s.Parts = append(s.Parts, x)
		}
	}
	slices.SortStableFunc(s.Parts, compareParts)
	s.Parts = slices.CompactFunc(s.Parts, func(a, b record.Part) bool { return a == b && a.Count == 0 })
	if len(s.Parts) > 0 {
		s.State = record.ReturnedInPart
	}
	if !p.rules.TellCounts && p.mayWithhold() {
		s.Received = 0 // received less shown would tell how much is withheld; so would saying it only where nothing is
	}
	if c.Withheld > 0 && c.Shown == 0 {
		s.State, s.Reason, s.Rule = record.Withheld, "withheld", "C-4"
	}
	return s
}
