package fhirjson

import "iter"

// Layout is an object with its members laid out, so that each is found, or seen to be missing, without going through all of them: for an object
// that is asked for many. It is made by [Value.Layout].
type Layout struct {
	v      Value
	places [layoutPlaces]uint16 // by what is told of its key, or behind that: how far behind the object a member stands in the tape; 0 is nowhere
	whole  bool                 // all members are in it; else it is of no use
}

// Most resources have fewer members than layoutMost. That is less than layoutPlaces, so that a look for what is not there comes to an empty place, and few are not where
// they are looked for first.
const (
	layoutPlaces = 32
	layoutMost   = 24
)

// Layout lays an object out. Of any other value it finds nothing.
func (v Value) Layout() (l Layout) {
	l.v = v
	if v.doc == nil {
		return l
	}
	tape := v.doc.tape
	t := &tape[v.i]
	if t.kind != Object || t.next-v.i > 1<<16-1 {
		return l
	}
	n := 0
	for m, end := v.i+1, t.next; m < end; m = tape[m].next {
		if n++; n > layoutMost {
			return l
		}
		at := placeOf(tape[m].told)
		for l.places[at%layoutPlaces] != 0 {
			at++
		}
		l.places[at%layoutPlaces] = uint16(m - v.i)
	}
	l.whole = true
	return l
}

// placeOf is where a member is looked for first, by what a token tells of its key.
func placeOf(told uint8) uint8 { return told & keyBits >> 2 }

// Value returns the object.
func (l *Layout) Value() Value { return l.v }

// Get returns the member that a path of one key leads to, the zero Value if there is none. The path MUST have one.
func (l *Layout) Get(p Path) Value {
	s := &p.steps[0]
	if l.lacks(s) {
		return Value{}
	}
	if m := l.member(s); m >= 0 {
		return Value{l.v.doc, m}
	}
	return Value{}
}

// lacks reports whether it is seen at one glance that there is no such member.
func (l *Layout) lacks(s *step) bool { return l.whole && l.places[s.place%layoutPlaces] == 0 }

// Along yields every value that p leads to, as [Value.Along] does. p has at least one key.
func (l *Layout) Along(p Path) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if s := &p.steps[0]; !l.lacks(s) {
			if m := l.member(s); m >= 0 {
				l.v.doc.each(m, p.steps[1:], yield)
			}
		}
	}
}

// member is that of [Doc].
func (l *Layout) member(s *step) int32 {
	if !l.whole {
		if l.v.doc == nil {
			return -1
		}
		return l.v.doc.member(l.v.i, s)
	}
	d := l.v.doc
	for at := s.place; ; at++ {
		behind := l.places[at%layoutPlaces]
		if behind == 0 {
			return -1
		}
		m := l.v.i + int32(behind)
		if t := &d.tape[m]; int(t.keyLen) == len(s.key) && t.told&keyBits == s.told && string(t.key(d.src)) == s.key {
			return m
		}
	}
}
