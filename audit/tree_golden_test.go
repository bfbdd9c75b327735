package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// TestTreeGolden pins roots, a checkpoint and proofs, so that whoever writes a checker has something to hold it against. Leaf i is SHA-256(00 || i in 8 bytes).
func TestTreeGolden(t *testing.T) {
	var out strings.Builder
	var g grown
	var grows tree
	for i := range 1000 {
		leaf := testLeaf(i)
		grows.add(uint64(i), leaf)
		g.leaves = append(g.leaves, leaf)
	}
	g.nodes = grows.nodes
	for _, n := range []uint64{0, 1, 2, 3, 7, 8, 255, 256, 257, 1000} {
		root, err := rootAt(g, n)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "root %d %x\n", n, root)
	}
	for _, c := range []struct{ size, at int64 }{{1, 0}, {7, 3}, {256, 255}, {1000, 0}, {1000, 511}, {1000, 999}} {
		p, err := tlog.ProveRecord(c.size, c.at, hashes{g})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "inclusion %d in %d%s\n", c.at, c.size, listed(p))
	}
	for _, c := range []struct{ from, to int64 }{{1, 2}, {3, 7}, {256, 1000}, {300, 1000}, {1000, 1000}} {
		p, err := tlog.ProveTree(c.to, c.from, hashes{g})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "consistency %d to %d%s\n", c.from, c.to, listed(p))
	}
	k := signingKey{number: 1}
	for i := range k.seed {
		k.seed[i] = byte(2*keySize + i)
	}
	signer, text, err := k.signer("mycarerecord.example/golden")
	if err != nil {
		t.Fatal(err)
	}
	root, err := rootAt(g, 1000)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: State{"mycarerecord.example/golden", 1000, root}.text()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{Size: 1000, Note: signed}
	if s, err := c.State(); err != nil || s.Root != root || s.Size != 1000 || !c.verified([]string{text}) {
		t.Errorf("%v: the checkpoint is read as another", err)
	}
	fmt.Fprintf(&out, "key %s\ncheckpoint\n%s", text, signed)

	name := filepath.Join("testdata", "tree.golden")
	if *update {
		if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Error("the tree, its proofs or the checkpoint are others than they were: change the code, not the file")
	}
}

func listed[S ~[]tlog.Hash](in S) string {
	var b strings.Builder
	for _, h := range in {
		fmt.Fprintf(&b, " %x", h[:])
	}
	return b.String()
}
