package merge

import "strings"

// A reply of thousands of resources would cost tens of thousands of small allocations, most of a merge's time. What all resources of a reply need is
// cut from larger pieces instead. A piece belongs to one Prepare and goes with its result: nothing is kept for another reply, so no person's bytes
// meet another's.

// piece is the size of a piece, in bytes: small enough that the last one wastes little.
const piece = 64 << 10

// memory gives out bytes. Whoever knows how much will be needed in all sets expected, so that a small reply takes no more than it needs.
type memory struct {
	free     []byte
	expected int
}

// take returns no bytes with room for n.
func (m *memory) take(n int) []byte {
	if n > len(m.free) {
		if n > piece/4 {
			return make([]byte, 0, n)
		}
		m.free = make([]byte, min(max(m.expected, n, piece/4), piece))
	}
	m.expected -= n
	out := m.free[:0:n]
	m.free = m.free[n:]
	return out
}

// text makes strings.
type text struct{ b *strings.Builder }

// join returns the parts as one string.
func (t *text) join(parts ...string) string {
	n := 0
	for _, s := range parts {
		n += len(s)
	}
	if t.b == nil || t.b.Cap()-t.b.Len() < n {
		t.b = &strings.Builder{}
		t.b.Grow(max(n, piece/4))
	}
	from := t.b.Len()
	for _, s := range parts {
		t.b.WriteString(s)
	}
	return t.b.String()[from:] // a Builder that has room only writes behind what it has given out
}
