package main

import (
	"crypto/sha256"
	"math/bits"
)

// The Merkle tree of RFC 6962, section 2.1, and the checks of its proofs, written from RFC 9162, sections 2.1.3.2 and 2.1.4.2, which give the algorithms for the
// same trees. Nothing here comes from the program that made the proofs.

type hash = [sha256.Size]byte

func nodeHash(left, right hash) hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// tree grows leaf by leaf. Of each complete subtree that makes it up it knows the root: one for every 1 in the binary digits of size, the largest first.
type tree struct {
	size  uint64
	roots []hash
}

func (t *tree) add(leaf hash) {
	h := leaf
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.roots) - 1
		h = nodeHash(t.roots[last], h)
		t.roots = t.roots[:last]
	}
	t.roots = append(t.roots, h)
	t.size++
}

func (t *tree) root() hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	h := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		h = nodeHash(t.roots[i], h)
	}
	return h
}

// included reports whether the proof shows that the leaf stands at index in the tree of that size and root.
func included(leaf hash, index, size uint64, proof []hash, root hash) bool {
	if index >= size {
		return false
	}
	fn, sn, r := index, size-1, leaf
	for _, p := range proof {
		if sn == 0 {
			return false
		}
		if fn&1 == 1 || fn == sn {
			r = nodeHash(p, r)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			r = nodeHash(r, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	return sn == 0 && r == root
}

// consistent reports whether the proof shows that the tree of the first size and root is the beginning of that of the second.
func consistent(first, second uint64, firstRoot, secondRoot hash, proof []hash) bool {
	switch {
	case first == 0 || first > second:
		return false
	case first == second:
		return len(proof) == 0 && firstRoot == secondRoot
	}
	if first&(first-1) == 0 { // a power of two: its root is a node of the larger tree, and not in the proof
		proof = append([]hash{firstRoot}, proof...)
	}
	if len(proof) == 0 {
		return false
	}
	fn, sn := first-1, second-1
	shift := bits.TrailingZeros64(^fn)
	fn, sn = fn>>shift, sn>>shift
	fr, sr := proof[0], proof[0]
	for _, c := range proof[1:] {
		if sn == 0 {
			return false
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = nodeHash(c, fr), nodeHash(c, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = nodeHash(sr, c)
		}
		fn, sn = fn>>1, sn>>1
	}
	return sn == 0 && fr == firstRoot && sr == secondRoot
}
