package fhirjson

import "bytes"

// Same reports whether two values say the same, whatever the order of members, the white space and the way that strings are escaped. Numbers
// are the same if they are written alike: 1.50 is not 1.5. What members with the key aside say is not compared, only that they are there.
// Values of different texts may be compared. The work is linear, but for sorting out members in another order.
func Same(a, b Value, aside string) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case Object:
		return sameMembers(a, b, aside)
	case Array:
		s, t := a.doc.tape, b.doc.tape
		i, j := a.i+1, b.i+1
		for ; i < a.tok().next && j < b.tok().next; i, j = s[i].next, t[j].next {
			if !Same(Value{a.doc, i}, Value{b.doc, j}, aside) {
				return false
			}
		}
		return i == a.tok().next && j == b.tok().next
	case String:
		return a.View() == b.View()
	}
	return bytes.Equal(a.Raw(), b.Raw())
}

func sameMembers(a, b Value, aside string) bool {
	s, t := a.doc.tape, b.doc.tape
	i, j := a.i+1, b.i+1
	for ; i < a.tok().next && j < b.tok().next; i, j = s[i].next, t[j].next { // most often they stand in the same order
		x, y := Value{a.doc, i}, Value{b.doc, j}
		if !bytes.Equal(s[i].key(a.doc.src), t[j].key(b.doc.src)) {
			break
		}
		if !x.KeyIs(aside) && !Same(x, y, aside) {
			return false
		}
	}
	if i == a.tok().next || j == b.tok().next {
		return i == a.tok().next && j == b.tok().next
	}
	if a.Len() != b.Len() {
		return false
	}
	find := b.Finder()
	for ; i < a.tok().next; i = s[i].next {
		x := Value{a.doc, i}
		y := find.Get(view(s[i].key(a.doc.src)))
		if !y.Exists() || !x.KeyIs(aside) && !Same(x, y, aside) {
			return false
		}
	}
	return true
}

// Finder finds the members of an object by key, as Get does: where there are many, by an index, so that looking for each costs no more in a large
// object than in a small one.
type Finder struct {
	v     Value
	index map[string]Value
}

// Finder returns v's.
func (v Value) Finder() Finder {
	n := v.Len()
	if n <= 32 {
		return Finder{v: v}
	}
	f := Finder{index: make(map[string]Value, n)}
	for k, m := range v.Members() {
		f.index[k] = m
	}
	return f
}

// Get returns the member with that key, the zero Value if there is none.
func (f Finder) Get(key string) Value {
	if f.index != nil {
		return f.index[key]
	}
	return f.v.Get(key)
}
