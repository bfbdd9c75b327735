package merge

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// maxID is the longest id that FHIR R4 allows (hl7.org/fhir/R4/datatypes.html#id).
const maxID = 64

// newID is the id of a custodian's resource in our answers (M-5): {key}-{id} where that is legal and shows no NHS number, else
// {key}-{32 hex digits of a keyed HMAC}. It depends on nothing but its arguments, so that the same resource has the same id in every
// answer of a deployment.
func (p *preparing) newID(typ, id string) string {
	key := string(p.reply.Custodian.Key)
	plain := key + "-" + id
	if legalID(plain) && !record.HoldsNHSNumber(id) && !p.spells(id) {
		return plain
	}
	return key + "-" + p.seal("id", typ, []byte(id))
}

// spells reports whether an id spells the number asked for with dots or dashes between its digits.
func (p *preparing) spells(id string) bool {
	if len(id) <= len(p.number) {
		return false
	}
	bare := make([]byte, 0, maxID)
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
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// settleCopies decides which of several resources with one type and id keeps the id: the one updated last, and where that does not
// decide the one whose bytes come last, so that the order of arrival does not matter.
func (p *preparing) settleCopies() {
	for _, list := range p.copies {
		living := slices.DeleteFunc(slices.Clone(list), func(i int32) bool { return p.items[i].fate == dropped })
		if len(living) == 0 {
			continue
		}
		keeper := slices.MaxFunc(living, func(a, b int32) int {
			x, y := &p.items[a], &p.items[b]
			if c := x.updated.Lo.Compare(y.updated.Lo); c != 0 {
				return c
			}
			return bytes.Compare(x.v.Raw(), y.v.Raw())
		})
		for _, i := range list { // dropped ones too: they must not lead a reference away from one that is shown
			p.items[i].keeper = keeper
		}
		for _, i := range living {
			p.items[i].conflicting = len(living) > 1
		}
	}
	for i := range p.items {
		if it := &p.items[i]; it.fate == folded {
			it.keeper = p.items[it.keeper].keeper
		}
	}
}

// shareSections gives copies each other's sections and labels: if one must not be shown, none is.
func (p *preparing) shareSections() {
	for _, list := range p.copies {
		if len(list) < 2 {
			continue
		}
		var all record.Sections
		unnamed := false
		for _, i := range list {
			if it := &p.items[i]; it.conflicting {
				all, unnamed = all|it.sections, unnamed || it.unnamed
			}
		}
		for _, i := range list {
			if it := &p.items[i]; it.conflicting {
				it.sections, it.unnamed = all, unnamed
			}
		}
	}
}

// assignIDs gives every resource that can be referred to its new id.
func (p *preparing) assignIDs() error {
	byIdentifier := map[string]int{}
	identifier := func(it *item) string {
		for id := range it.v.Get("identifier").Elems() {
			if s, v := id.Get("system").Text(), id.Get("value").Text(); s != "" && v != "" {
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
	taken := make(map[string]bool, len(p.items))
	for i := range p.items {
		it := &p.items[i]
		if it.fate == folded || it.fate == dropped {
			continue
		}
		switch {
		case it.id != "" && it.keeper != int32(i):
			it.newID = string(p.reply.Custodian.Key) + "-" + p.seal("copy", it.typ, it.v.Raw())
		case it.id != "":
			it.newID = p.newID(it.typ, it.id)
		default:
			if known := identifier(it); known != "" && byIdentifier[known] == 1 {
				it.newID = string(p.reply.Custodian.Key) + "-" + p.seal("identifier", it.typ, []byte(known))
			} else {
				it.newID = string(p.reply.Custodian.Key) + "-" + p.seal("bytes", it.typ, it.v.Raw())
			}
		}
		if taken[it.typ+"/"+it.newID] {
			return ErrMalformed // two resources of one address: only a custodian that aims at it gets here
		}
		taken[it.typ+"/"+it.newID] = true
	}
	return nil
}
