package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
)

// grown is a Reader of a tree alone.
type grown struct {
	Reader
	leaves [][32]byte
	nodes  []Node
}

func (g grown) Nodes(level uint8, from uint64, limit int) (out []Node, err error) {
	for i := from; level == 0 && i < uint64(len(g.leaves)) && len(out) < limit; i++ {
		out = append(out, Node{Index: i, Hash: g.leaves[i]})
	}
	for _, n := range g.nodes {
		if n.Level == level && n.Index >= from && len(out) < limit {
			out = append(out, n)
		}
	}
	return out, nil
}

func testLeaf(i int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte{0}, uint64(i)))
}

// merkle is the definition of RFC 6962, section 2.1, word by word.
func merkle(leaves [][32]byte) [32]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	left, right := merkle(leaves[:k]), merkle(leaves[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

// The frontier and what is kept beneath it are both the tree of RFC 6962, whatever its size.
func TestTreeIsThatOfTheRFC(t *testing.T) {
	var g grown
	var grows tree
	check := func() {
		t.Helper()
		g.nodes = grows.nodes
		want := merkle(g.leaves)
		if got := grows.root(); got != want {
			t.Fatalf("%d leaves: the frontier's root is another", len(g.leaves))
		}
		if got, err := rootAt(g, uint64(len(g.leaves))); err != nil || got != want {
			t.Fatalf("%d leaves: the root of what is kept is another: %v", len(g.leaves), err)
		}
	}
	check()
	for i := range 66_000 {
		leaf := testLeaf(i)
		grows.add(uint64(i), leaf)
		g.leaves = append(g.leaves, leaf)
		switch n := i + 1; {
		case n <= 600, n%4099 == 0, n > 65_530 && n < 65_545, n == 66_000:
			check()
		}
	}
	if len(grows.nodes) != 66_000/256+1 {
		t.Errorf("%d nodes are kept, want %d", len(grows.nodes), 66_000/256+1)
	}
}
