package merge

import (
	"net/url"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// A Reference may name a resource without its address: by an identifier, or by a question, Type?identifier=system|value or Type?_id=id (FHIR R4, references.html, logical and
// conditional references). Here is what either means in a reply.

// question is what a conditional reference asks for.
type question struct {
	ids  []int32  // items, by _id
	keys []string // business identifiers: see identifierKey
	any  bool     // more than is looked at, or what cannot be read: it may ask for anything
}

// Of a conditional reference so much is looked at. What has more asks for anything, and for what may not be seen too.
const (
	longestQuestion = 4 << 10
	mostAsked       = 16
)

// mayAsk reports whether an address could be a question.
func mayAsk(address string) bool {
	return strings.IndexByte(address, '?') >= 0 || strings.IndexByte(address, '%') >= 0
}

// questionOf reads an address in it as a question, nil if it is none. A question that names no type is one only where strict is set, and asks for anything then: in a Reference
// nothing else can be meant by it.
func (p *preparing) questionOf(address string, it *item, strict bool) *question {
	address = strings.TrimSpace(address)
	head, query, is := strings.Cut(address, "?")
	if !is {
		plain, err := url.PathUnescape(address) // an escape may hide where the query begins
		if head, query, is = strings.Cut(plain, "?"); err != nil || !is {
			return nil
		}
	}
	if strings.IndexByte(head, '#') >= 0 {
		return nil
	}
	query, _, _ = strings.Cut(query, "#")
	if plain, err := url.PathUnescape(head); err == nil {
		head = strings.TrimSpace(plain)
	}
	head = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(head, "/"), "/_search"), "/")
	root, typ := "", head
	if i := strings.LastIndexByte(head, '/'); i >= 0 {
		root, typ = head[:i+1], head[i+1:]
	}
	near := !hasScheme(head)
	var types []string
	switch {
	case IsType(typ):
		types = []string{typ}
		near = near || p.isBase(root, it)
	case head == "":
	case p.isBase(head, it):
		root, near = head+"/", true
	default:
		return nil
	}
	anything := func() *question {
		if !near {
			return nil // it is asked of another server
		}
		return &question{any: true}
	}
	if len(address) > longestQuestion || strings.Count(query, "&") > mostAsked {
		return anything()
	}
	q, ids, values := &question{}, []string(nil), 0
	for part := range strings.SplitSeq(query, "&") {
		name, text, _ := strings.Cut(part, "=")
		name, bad := url.QueryUnescape(name)
		text, worse := url.QueryUnescape(text)
		if values += 1 + strings.Count(text, ","); bad != nil || worse != nil || values > mostAsked {
			return anything()
		}
		name, _, _ = strings.Cut(strings.TrimSpace(name), ":") // a modifier
		for value := range strings.SplitSeq(text, ",") {
			switch value = strings.TrimSpace(value); name {
			case "_type":
				types = append(types, value)
			case "_id":
				ids = append(ids, value)
			case "identifier":
				system, number, both := strings.Cut(value, "|")
				if !both {
					system, number = "", system
				}
				if key := identifierKey(system, number); key != "" {
					q.keys = append(q.keys, key)
				}
			}
		}
	}
	if len(types) == 0 {
		if strict {
			return &question{any: true}
		}
		return nil
	}
	for _, id := range ids {
		if i := p.resolve(id, it); strings.IndexByte(id, '/') >= 0 && i >= 0 {
			q.ids = append(q.ids, i)
		}
		for _, typ := range types {
			if i := p.resolveHead(root+typ+"/"+id, it); i >= 0 {
				q.ids = append(q.ids, i)
			}
		}
	}
	return q
}

// isBase reports whether an absolute address is that of the custodian's server, or of the one that an entry is on.
func (p *preparing) isBase(address string, it *item) bool {
	at := canonical(address)
	return hasScheme(address) && (at == it.root || slices.ContainsFunc(p.origins, func(o origin) bool { return at == o.base }))
}

// identifierKey is a business identifier as one text, "" for one that names no resource of a reply for certain: an NHS number is the person's. One without a system is of any.
func identifierKey(system, value string) string {
	system, value = strings.TrimSpace(system), strings.TrimSpace(value)
	if value == "" || system == record.NHSNumberSystem {
		return ""
	}
	return system + "\x00" + value
}

// businessKey is identifierKey of an Identifier.
func businessKey(id fhirjson.Value) string {
	return identifierKey(id.Get("system").View(), id.Get("value").View())
}

// mostBare is how many may carry an identifier without a system and be meant by one with it: what more carry says nothing.
const mostBare = 64

// carriers are the items that carry an identifier, given as identifierKey has it.
func (p *preparing) carriers(key string) []int32 {
	if p.cited == nil {
		p.cited = map[string][]int32{}
		bare := map[string][]int32{} // that carry it without a system
		for i := range p.items {
			it := &p.items[i]
			if it.fate == folded {
				continue
			}
			for _, member := range [...]fhirjson.Path{identifierMember, masterMember} {
				for id := range it.get(member).Elems() {
					key := businessKey(id)
					if key == "" {
						continue
					}
					p.cited[key] = append(p.cited[key], int32(i))
					if at := strings.IndexByte(key, 0); at > 0 { // for who asks without a system
						p.cited[key[at:]] = append(p.cited[key[at:]], int32(i))
					} else {
						bare[key] = append(bare[key], int32(i))
					}
				}
			}
		}
		p.bare = bare
		for key, list := range p.cited { // and for who asks with one
			if at := strings.IndexByte(key, 0); at > 0 && len(bare[key[at:]]) <= mostBare {
				p.cited[key] = append(list, bare[key[at:]]...)
			}
		}
	}
	if list := p.cited[key]; list != nil {
		return list
	}
	if at := strings.IndexByte(key, 0); at > 0 && len(p.bare[key[at:]]) <= mostBare {
		return p.bare[key[at:]]
	}
	return nil
}

// meant calls item with every item that a Reference in it means, by its address or by a question, and key with every identifier by which it means what carries that: many may refer to
// what many carry.
func (p *preparing) meant(r fhirjson.Value, it *item, item func(i int32), key func(key string)) {
	if address := r.To(referenceMember).View(); address != "" {
		if i := p.resolve(address, it); i >= 0 {
			item(i)
			return
		}
		if mayAsk(address) {
			if q := p.questionOf(address, it, true); q != nil {
				q.answers(item, key)
			}
		}
	}
	for id := range r.To(identifierMember).Elems() {
		if k := businessKey(id); k != "" {
			key(k)
		}
	}
}

// answers calls item and key with what a question asks for, as far as it can be read.
func (q *question) answers(item func(i int32), key func(key string)) {
	for _, i := range q.ids {
		item(i)
	}
	for _, k := range q.keys {
		key(k)
	}
}

// secretly reports whether all that carry an identifier are hidden. It is asked when every fate is settled.
func (p *preparing) secretly(key string) bool {
	hidden, known := p.secret[key]
	if !known {
		carriers := p.carriers(key)
		hidden = len(carriers) > 0 && !slices.ContainsFunc(carriers, func(i int32) bool { return !p.items[i].hidden() })
		if p.secret == nil {
			p.secret = map[string]bool{}
		}
		p.secret[key] = hidden
	}
	return hidden
}
