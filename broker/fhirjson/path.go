package fhirjson

import (
	"iter"
	"strings"
)

// Path leads from a value to others: dotted keys, going into each element of every array on the way. "participant.individual" leads from an
// Encounter to every participant's individual. It is for tables that are followed for each resource of a reply: what can be known of its keys is
// made once. The zero Path leads to the value itself.
type Path struct{ steps []step }

// step is a key, with what tells quickly that an object or a member does not have it.
type step struct {
	key   string
	bit   uint32 // in the mask of an object
	told  uint8  // of a member's token
	place uint8  // in a Layout
}

func stepOf(key string) step {
	h := hint(key)
	return step{key, maskOf(h), keyTold(h), placeOf(keyTold(h))}
}

// PathOf makes a Path of dotted keys.
func PathOf(dotted string) Path {
	if dotted == "" {
		return Path{}
	}
	keys := strings.Split(dotted, ".")
	p := Path{make([]step, len(keys))}
	for i, key := range keys {
		p.steps[i] = stepOf(key)
	}
	return p
}

// Along yields every value that p leads to from v, in the order of the text.
func (v Value) Along(p Path) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.doc != nil {
			v.doc.each(v.i, p.steps, yield)
		}
	}
}

// To returns the member that a path of one key leads to, as Get does. The path MUST have one.
func (v Value) To(p Path) Value {
	if v.doc == nil {
		return Value{}
	}
	if m := v.doc.member(v.i, &p.steps[0]); m >= 0 {
		return Value{v.doc, m}
	}
	return Value{}
}

// Each is Along for a path that is seldom followed.
func (v Value) Each(dotted string) iter.Seq[Value] { return v.Along(PathOf(dotted)) }

// each follows steps from a value, or from each element of it. It has no closure, so that it costs no memory.
func (d *Doc) each(i int32, steps []step, yield func(Value) bool) bool {
	for {
		t := &d.tape[i]
		if t.kind == Array {
			break
		}
		if len(steps) == 0 {
			return yield(Value{d, i})
		}
		if i = d.member(i, &steps[0]); i < 0 {
			return true
		}
		steps = steps[1:]
	}
	for e, end := i+1, d.tape[i].next; e < end; e = d.tape[e].next {
		if len(steps) == 0 {
			if !yield(Value{d, e}) {
				return false
			}
			continue
		}
		if m := d.member(e, &steps[0]); m >= 0 && !d.each(m, steps[1:], yield) {
			return false
		}
	}
	return true
}

// member returns the member of an object that a step leads to, -1 if it is no object or has none.
func (d *Doc) member(i int32, s *step) int32 {
	tape := d.tape
	t := &tape[i]
	if t.kind != Object || t.mask&s.bit == 0 {
		return -1
	}
	for m, end := i+1, t.next; m < end; m = tape[m].next {
		if t := &tape[m]; int(t.keyLen) == len(s.key) && t.told&keyBits == s.told && string(t.key(d.src)) == s.key {
			return m
		}
	}
	return -1
}
