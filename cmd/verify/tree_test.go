package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// stored is a tree as the ledger's library keeps it, to make proofs with.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

// Every proof of every small tree holds, and none holds for another leaf, place, size or root, or with a hash more, less or changed.
func TestProofsOfEverySmallTree(t *testing.T) {
	const most = 33
	var s stored
	var grows tree
	roots := []hash{grows.root()}
	var leaves []hash
	for i := range most {
		leaf := tlog.RecordHash(fmt.Appendf(nil, "leaf %d", i))
		hashes, err := tlog.StoredHashesForRecordHash(int64(i), leaf, s)
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, hashes...)
		grows.add(hash(leaf))
		leaves, roots = append(leaves, hash(leaf)), append(roots, grows.root())
	}
	tried := 0
	for size := uint64(1); size <= most; size++ {
		if want, err := tlog.TreeHash(int64(size), s); err != nil || hash(want) != roots[size] {
			t.Fatalf("the root of %d leaves is another: %v", size, err)
		}
		for at := range size {
			p, err := tlog.ProveRecord(int64(size), int64(at), s)
			if err != nil {
				t.Fatal(err)
			}
			proof := own(p)
			if !included(leaves[at], at, size, proof, roots[size]) {
				t.Errorf("leaf %d in %d: a good proof does not hold", at, size)
			}
			for other := range size {
				if other != at && included(leaves[at], other, size, proof, roots[size]) {
					t.Errorf("leaf %d in %d: proved at %d", at, size, other)
				}
			}
			if included(leaves[at], at, size, proof, roots[size-1]) || included(leaves[(at+1)%size], at, size, proof, roots[size]) && size > 1 ||
				included(leaves[at], at, size, append(own(p), hash{}), roots[size]) || len(proof) > 0 && included(leaves[at], at, size, proof[1:], roots[size]) ||
				included(leaves[at], size, size, proof, roots[size]) {
				t.Errorf("leaf %d in %d: a bad proof holds", at, size)
			}
			for i := range proof {
				proof[i][3] ^= 1
				if included(leaves[at], at, size, proof, roots[size]) {
					t.Errorf("leaf %d in %d: a changed proof holds", at, size)
				}
				proof[i][3] ^= 1
			}
			tried++
		}
		for first := uint64(1); first <= size; first++ {
			p, err := tlog.ProveTree(int64(size), int64(first), s)
			if err != nil {
				t.Fatal(err)
			}
			proof := own(p)
			if !consistent(first, size, roots[first], roots[size], proof) {
				t.Errorf("%d to %d: a good proof does not hold", first, size)
			}
			if consistent(first, size, roots[first-1], roots[size], proof) || consistent(first, size, roots[first], roots[size-1], proof) ||
				consistent(first, size, roots[first], roots[size], append(own(p), hash{})) || len(proof) > 0 && consistent(first, size, roots[first], roots[size], proof[:len(proof)-1]) ||
				consistent(size+1, first, roots[first], roots[size], proof) || consistent(0, size, roots[0], roots[size], proof) {
				t.Errorf("%d to %d: a bad proof holds", first, size)
			}
			for i := range proof {
				proof[i][3] ^= 1
				if consistent(first, size, roots[first], roots[size], proof) {
					t.Errorf("%d to %d: a changed proof holds", first, size)
				}
				proof[i][3] ^= 1
			}
			tried++
		}
	}
	t.Logf("%d proofs of golang.org/x/mod/sumdb/tlog hold, and nothing near them does", tried)
}

func own[S ~[]tlog.Hash](in S) (out []hash) {
	for _, h := range in {
		out = append(out, hash(h))
	}
	return out
}

// The vectors beside ENTRY.md, by this program's own reading of the specifications.
func TestGoldenTree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "audit", "testdata", "tree.golden"))
	if err != nil {
		t.Fatal(err)
	}
	lines, note, found := strings.Cut(string(text), "checkpoint\n")
	if !found {
		t.Fatal("there is no checkpoint")
	}
	roots := map[uint64]hash{}
	leaf := func(i uint64) hash {
		return hash(tlog.RecordHash([]byte{byte(i >> 56), byte(i >> 48), byte(i >> 40), byte(i >> 32), byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	var grows tree
	for i := range uint64(1001) {
		roots[i] = grows.root()
		grows.add(leaf(i))
	}
	checked := 0
	var trusted key
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		hashes := func(from int) (out []hash) {
			for _, w := range words[from:] {
				b, err := hex.DecodeString(w)
				if err != nil || len(b) != 32 {
					t.Fatalf("%q is no hash", w)
				}
				out = append(out, hash(b))
			}
			return out
		}
		var a, b uint64
		ok := false
		switch words[0] {
		case "root":
			_, err = fmt.Sscan(words[1], &a)
			ok = hashes(2)[0] == roots[a]
		case "inclusion":
			_, err = fmt.Sscanf(line, "inclusion %d in %d", &a, &b)
			ok = included(leaf(a), a, b, hashes(4), roots[b])
		case "consistency":
			_, err = fmt.Sscanf(line, "consistency %d to %d", &a, &b)
			ok = consistent(a, b, roots[a], roots[b], hashes(4))
		case "key":
			trusted, err = parseKey(words[1])
			ok = trusted.String() == words[1]
		}
		if err != nil || !ok {
			t.Errorf("%.60s: %v", line, err)
		}
		checked++
	}
	c, err := parseCheckpoint([]byte(note))
	if err != nil || c.size != 1000 || c.root != roots[1000] || !c.signedBy([]key{trusted}) {
		t.Errorf("the checkpoint: %v", err)
	}
	if checked < 20 {
		t.Errorf("%d lines", checked)
	}
	for _, bad := range []string{"", "x", "x+00000000+", trusted.name + "+00000000+" + strings.Split(trusted.String(), "+")[2], trusted.String() + "A", "a b+1+1"} {
		if _, err := parseKey(bad); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
	for _, bad := range []string{"", note[:len(note)-2], strings.Replace(note, "1000", "01000", 1), strings.Replace(note, "1000", "1001", 1), strings.Replace(note, "\n\n", "\n", 1)} {
		if c, err := parseCheckpoint([]byte(bad)); err == nil && c.signedBy([]key{trusted}) {
			t.Errorf("a changed checkpoint is good:\n%s", bad)
		}
	}
}

// Signatures of one key beyond the first do not count, and do not make a checkpoint none; too many keys do.
func TestRepeatedSignatures(t *testing.T) {
	w := witnessOf(t)
	text := []byte("mycarerecord.example/test\n7\n" + strings.Repeat("A", 43) + "=\n")
	first := time.Unix(1_700_000_000, 0)
	note := string(text) + "\n"
	for n := range 200 {
		note += cosign(w.name, w.private, text, first.Add(time.Duration(n)*time.Second))
	}
	c, err := parseCheckpoint([]byte(note))
	if err != nil || len(c.lines) != 1 {
		t.Fatalf("200 signatures of one key: %v, %d lines count, want 1", err, len(c.lines))
	}
	if at, ok := c.cosignedBy(w.key()); !ok || !at.Equal(first) {
		t.Errorf("cosigned at %s %v, want the first", at, ok)
	}
	note = string(text) + "\n"
	for n := range maxSignatures + 1 {
		note += cosign(fmt.Sprint("w", n), w.private, text, first)
	}
	if _, err := parseCheckpoint([]byte(note)); err == nil {
		t.Errorf("a checkpoint with signatures of %d keys was taken", maxSignatures+1)
	}
}
