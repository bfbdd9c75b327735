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
		return sameText(a.tok(), b.tok(), a.doc.src, b.doc.src)
	}
	return bytes.Equal(a.Raw(), b.Raw())
}

// sameText compares two strings as they are written, without making what they say: narratives are long, and full of escapes. It looks no further than they
// are alike.
func sameText(s, t *token, inS, inT []byte) bool {
	a, b := inS[s.start+1:s.end-1], inT[t.start+1:t.end-1]
	if !s.escaped() && !t.escaped() {
		return string(a) == string(b)
	}
	for {
		// Up to the first byte that is another, or a backslash, both say the same. A backslash never stands within a character: where one has
		// one there, the other has the beginning of a character too.
		alike := 0
		for alike < len(a) && alike < len(b) && a[alike] == b[alike] && a[alike] != '\\' {
			alike++
		}
		if a, b = a[alike:], b[alike:]; len(a) == 0 || len(b) == 0 {
			return len(a) == len(b)
		}
		if a[0] != '\\' && b[0] != '\\' {
			return false
		}
		x, m := character(a)
		y, n := character(b)
		if x != y {
			return false
		}
		a, b = a[m:], b[n:]
	}
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
