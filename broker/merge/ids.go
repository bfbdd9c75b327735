package merge

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// maxID is the longest id that FHIR R4 allows (hl7.org/fhir/R4/datatypes.html#id).
const maxID = 64

// idOf is what follows the custodian's key in the id of a resource in our answers (M-5): its own where that is legal and shows no NHS number, else 32 hex digits of a
// keyed HMAC. It depends on nothing but its arguments, so that the same resource has the same id in every answer of a deployment.
func (p *preparing) idOf(typ, id string) string {
	if p.plain(id) {
		return id
	}
	return p.seal("id", typ, []byte(id))
}

// plain reports whether {key}-{id} may be an id of ours.
func (p *preparing) plain(id string) bool {
	if !p.legalKey || len(p.reply.Custodian.Key)+1+len(id) > maxID {
		return false
	}
	// Digits in a row, dots and dashes between them aside. It has no branch: which letters an id has cannot be foreseen.
	illegal, row, longest := byte(0), byte(0), byte(0)
	for i := range len(id) {
		c := idLetters[id[i]]
		illegal |= c.illegal
		row = row&c.goesOn + c.digit
		longest = max(longest, row)
	}
	return illegal == 0 && (int(longest) < len(p.number) || !record.HoldsNHSNumber(id) && !p.spells(id))
}

// idLetter says what a character is in an id.
type idLetter struct {
	illegal byte // 1 if it may not stand there
	digit   byte // 1 if it is one
	goesOn  byte // all bits if the digits before it and behind it are in a row, none if not
}

// idLetters are the characters that an id may have (hl7.org/fhir/R4/datatypes.html#id).
var idLetters = func() (of [256]idLetter) {
	for c := range of {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			of[c] = idLetter{}
		case c >= '0' && c <= '9':
			of[c] = idLetter{digit: 1, goesOn: 0xff}
		case c == '-', c == '.':
			of[c] = idLetter{goesOn: 0xff}
		default:
			of[c] = idLetter{illegal: 1}
		}
	}
	return of
}()

// spells reports whether an id spells the number asked for with dots or dashes between its digits.
func (p *preparing) spells(id string) bool {
	if len(id) <= len(p.number) {
		return false
	}
	bare := make([]byte, 0, maxID) // longer ones are not plain anyway
	for i := range len(id) {
		if id[i] != '-' && id[i] != '.' {
			bare = append(bare, id[i])
		}
	}
	return bytes.Contains(bare, []byte(p.number))
}

// seal is 32 hex digits of an HMAC under the deployment's key. what keeps the uses apart.
func (p *preparing) seal(what, typ string, text []byte) string {
	mac := hmac.New(sha256.New, p.req.IDKey)
	for _, s := range [...]string{string(p.reply.Custodian.Key), what, typ} {
		mac.Write([]byte(s))
		mac.Write([]byte{0})
	}
	mac.Write(text)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

func legalID(s string) bool {
	if len(s) == 0 || len(s) > maxID {
		return false
	}
	for i := range len(s) {
		if idLetters[s[i]].illegal != 0 {
			return false
		}
	}
	return true
}

// settleCopies decides which of several resources with one type and id keeps the id: the one updated last, and where that does not
// decide the one whose bytes come last, so that the order of arrival does not matter. In the same way it decides to which of them an address leads.
func (p *preparing) settleCopies() {
	if p.copies == nil {
		return
	}
	updated := map[int32]time.Time{} // asked once of each: meta may be long
	better := func(a, b int32) bool {
		x, y := &p.items[a], &p.items[b]
		if x.fate == dropped || y.fate == dropped {
			return y.fate == dropped && (x.fate != dropped || x.stranger && !y.stranger)
		}
		if c := updated[a].Compare(updated[b]); c != 0 {
			return c > 0
		}
		return bytes.Compare(x.v.Raw(), y.v.Raw()) > 0
	}
	for _, c := range p.copies {
		for _, i := range c.list {
			updated[i] = p.items[i].updated().Lo
		}
		keeper, living := c.list[0], 0
		for _, i := range c.list {
			if p.items[i].fate != dropped {
				living++
			}
			if better(i, keeper) {
				keeper = i
			}
		}
		for _, i := range c.list { // dropped ones too: they must not lead a reference away from one that is shown
			it := &p.items[i]
			it.keeper, it.conflicting = keeper, it.fate != dropped && living > 1
		}
	}
	p.places = map[addressed]int32{}
	for i := range p.items {
		it := &p.items[i]
		n := int32(i)
		if it.fate == folded {
			n = it.stands
			it.keeper = p.items[n].keeper
		}
		if c := p.copies[typeID{it.typ, it.id}]; c != nil && it.id != "" {
			if have, is := p.places[it.addressed()]; !is || better(n, have) {
				p.places[it.addressed()] = n
			}
		}
	}
}

// addressed is what an address of a type and id is unique for: a root of one source.
type addressed struct {
	typeID
	origin int32
	root   string
}

func (it *item) addressed() addressed {
	return addressed{typeID{it.typ, it.id}, it.origin, it.root}
}

// shareSections gives copies each other's sections and labels: if one must not be shown, none is.
func (p *preparing) shareSections() {
	for _, c := range p.copies {
		var all record.Sections
		unnamed := false
		for _, i := range c.list {
			if it := &p.items[i]; it.conflicting {
				all, unnamed = all|it.sections, unnamed || it.unnamed
			}
		}
		for _, i := range c.list {
			if it := &p.items[i]; it.conflicting {
				it.sections, it.unnamed = all, unnamed
			}
		}
	}
}

// textOfPath is the end of the address of an extension by which an adapter says of a Composition which DocumentReference is that of the document it was made of.
const textOfPath = ExtensionPath + "document-reference"

// joinTexts gives the text of a document and the DocumentReference at which the document is opened each other's sections, and what withholds either: they are one
// document, and whatever keeps one of the two from being shown would be got round by the other.
func (p *preparing) joinTexts() {
	for i := range p.items {
		it := &p.items[i]
		if it.typ != "Composition" || it.fate != undecided {
			continue
		}
		for x := range it.get(extensionMember).Elems() {
			if !strings.HasSuffix(x.Get("url").View(), textOfPath) {
				continue
			}
			if to := p.resolve(x.At("valueReference", "reference").View(), it); to >= 0 && p.items[to].typ == "DocumentReference" {
				p.texts = append(p.texts, [2]int32{int32(i), to})
			}
		}
	}
	if len(p.texts) == 0 {
		return
	}
	// A text may be of several documents, a document may have several texts, and either may have copies: all that hang together are one.
	beside := map[int32][]int32{}
	join := func(a, b int32) { beside[a], beside[b] = append(beside[a], b), append(beside[b], a) }
	for _, pair := range p.texts {
		join(pair[0], pair[1])
	}
	for _, c := range p.copies {
		last := int32(-1)
		for _, i := range c.list {
			if p.items[i].conflicting {
				if last >= 0 {
					join(last, i)
				}
				last = i
			}
		}
	}
	work := slices.Collect(maps.Keys(beside))
	for len(work) > 0 {
		from := &p.items[work[len(work)-1]]
		all := beside[work[len(work)-1]]
		work = work[:len(work)-1]
		for _, i := range all {
			if to := &p.items[i]; from.sections&^to.sections != 0 || from.unnamed && !to.unnamed {
				to.sections, to.unnamed = to.sections|from.sections, to.unnamed || from.unnamed
				work = append(work, i)
			}
		}
	}
}

// assignIDs gives every resource that can be referred to its new id.
func (p *preparing) assignIDs() error {
	byIdentifier := map[string]int{}
	identifier := func(it *item) string {
		for id := range it.get(identifierMember).Elems() {
			if s, v := id.Get("system").View(), id.Get("value").View(); s != "" && v != "" {
				return it.typ + "\x00" + s + "\x00" + v
			}
		}
		return ""
	}
	for i := range p.items {
		if it := &p.items[i]; it.id == "" && it.fate != folded {
			byIdentifier[identifier(it)]++
		}
	}
	sealed := false // else the ids are as different as the custodian's
	key := string(p.reply.Custodian.Key)
	for i := range p.items {
		it := &p.items[i]
		if it.fate == folded || it.fate == dropped {
			continue
		}
		rest := "" // what follows the key
		switch {
		case it.id != "" && it.keeper != int32(i):
			rest = p.seal("copy", it.typ, it.v.Raw())
		case it.id != "":
			rest = p.idOf(it.typ, it.id)
		default:
			if known := identifier(it); known != "" && byIdentifier[known] == 1 {
				rest = p.seal("identifier", it.typ, []byte(known))
			} else {
				rest = p.seal("bytes", it.typ, it.v.Raw())
			}
		}
		it.url = p.words.join(p.req.Base, "/", it.typ, "/", key, "-", rest)
		it.newID = it.url[len(it.url)-len(key)-1-len(rest):]
		sealed = sealed || rest != it.id
	}
	if !sealed {
		return nil
	}
	taken := make(map[typeID]bool, len(p.items))
	for i := range p.items {
		it := &p.items[i]
		if it.newID == "" {
			continue
		}
		if taken[typeID{it.typ, it.newID}] {
			return ErrMalformed // two resources of one address: only a custodian that aims at it gets here
		}
		taken[typeID{it.typ, it.newID}] = true
	}
	return nil
}
