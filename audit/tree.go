package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// The tree is that of RFC 6962 over the entries' leaf hashes. It grows with each entry by two hashes on average. Of it are kept: the frontier, in the head
// row, and the roots of complete subtrees of 256, 65,536 … leaves. Any other hash is made of at most 255 of those, or of as many leaves, when a proof needs it.

// tileHeight is how many levels lie between two that are kept.
const tileHeight = 8

// errNoTree is returned by begin for a ledger whose tree has not been made yet.
var errNoTree = fmt.Errorf("%w: the tree is not that of the entries", ErrDamaged)

// tree is the frontier of a tree that grows, and the nodes that were completed on the way.
type tree struct {
	frontier [][32]byte
	nodes    []Node
}

// add appends the leaf of a position, which is the number of leaves before.
func (t *tree) add(position uint64, leaf [32]byte) {
	h := leaf
	for level := 1; position>>(level-1)&1 == 1; level++ {
		last := len(t.frontier) - 1
		h = tlog.NodeHash(t.frontier[last], h)
		t.frontier = t.frontier[:last]
		if level%tileHeight == 0 {
			t.nodes = append(t.nodes, Node{uint8(level / tileHeight), position >> level, h})
		}
	}
	t.frontier = append(t.frontier, h)
}

// root returns the root hash; of an empty tree that of no bytes (RFC 6962, section 2.1).
func (t *tree) root() [32]byte {
	if len(t.frontier) == 0 {
		h, _ := tlog.TreeHash(0, nil) // nothing is read for it
		return h
	}
	h := tlog.Hash(t.frontier[len(t.frontier)-1])
	for i := len(t.frontier) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.frontier[i], h)
	}
	return h
}

// hashes reads hashes of the tree from what is stored. It implements tlog.HashReader.
type hashes struct{ r Reader }

// ReadHashes implements tlog.HashReader.
func (s hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		h, err := s.subtree(level, uint64(n))
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// subtree is the root of the complete subtree of 2^level leaves number n, made of the kept hashes below it.
func (s hashes) subtree(level int, n uint64) (tlog.Hash, error) {
	count := uint64(1) << (level % tileHeight)
	row, err := s.kept(uint8(level/tileHeight), n*count, int(count))
	if err != nil {
		return tlog.Hash{}, err
	}
	return fold(row), nil
}

// fold makes the root of a power of two of hashes.
func fold(row []tlog.Hash) tlog.Hash {
	for ; len(row) > 1; row = row[:len(row)/2] {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// kept returns count hashes of a kept level; level 0 are the leaves.
func (s hashes) kept(level uint8, from uint64, count int) ([]tlog.Hash, error) {
	nodes, err := s.r.Nodes(level, from, count)
	if err != nil {
		return nil, err
	}
	out := make([]tlog.Hash, 0, count)
	for i, n := range nodes {
		if n.Index == from+uint64(i) {
			out = append(out, n.Hash)
		}
	}
	if len(out) != count {
		return nil, fmt.Errorf("%w: hashes of the tree are missing from %d at level %d", ErrDamaged, from, level)
	}
	return out, nil
}

// rootAt is the root of the first size entries, made of what is stored beneath the frontier.
func rootAt(r Reader, size uint64) ([32]byte, error) {
	h, err := tlog.TreeHash(int64(size), hashes{r})
	return h, err
}

// plant makes the tree of a ledger that was begun before there was one, of its leaves as they stand. It does nothing where there is a tree.
func (l *Ledger) plant(ctx context.Context) error {
	const page = 4096
	var t tree
	var size uint64
	needed := false
	err := l.view(ctx, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		if needed = head.Size > 0 && len(head.Frontier) == 0; !needed {
			return nil
		}
		for size < head.Size {
			leaves, err := r.Leaves(size, page)
			if err != nil {
				return err
			}
			for i := range leaves {
				if leaves[i].Position != size || leaves[i].leaf() != leaves[i].Leaf {
					return fmt.Errorf("%w: entry %d is missing, or differs from its leaf hash: restore the ledger, do not go on", ErrDamaged, size)
				}
				t.add(size, leaves[i].Leaf)
				size++
			}
			if len(leaves) == 0 {
				return fmt.Errorf("%w: entry %d is missing: restore the ledger, do not go on", ErrDamaged, size)
			}
		}
		return nil
	})
	if err != nil || !needed {
		return err
	}
	err = l.store.Update(ctx, Wanted{}, func(tx Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		if head.Size != size {
			return errors.New("somebody else writes")
		}
		return tx.PutTree(t.frontier, t.nodes)
	})
	if err != nil {
		return fmt.Errorf("%w: the tree could not be made: %w", ErrUnavailable, err)
	}
	return nil
}

// testTree holds the frontier of the head against the tree that is stored beneath it. That the leaves are those of the entries is for Verify.
func (l *Ledger) testTree(ctx context.Context) error {
	return l.view(ctx, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		if len(head.Frontier) != bits.OnesCount64(head.Size) {
			return errNoTree
		}
		root, err := rootAt(r, head.Size)
		if err != nil {
			return err
		}
		t := tree{frontier: head.Frontier}
		if root != t.root() {
			return fmt.Errorf("%w: the head row's tree is not that of the entries: restore the ledger, do not go on", ErrDamaged)
		}
		return nil
	})
}

// sameTree compares the tree that is stored with the one that the entries make.
func (v *verifier) sameTree(r Reader, head Head) error {
	if v.gap {
		return nil
	}
	if !slices.Equal(head.Frontier, v.tree.frontier) {
		v.report.problem(head.Size, "the head row's tree is not that of the entries")
	}
	var count [math.MaxUint8 + 1]uint64 // of nodes of each level, those that a tree of this size does not have too
	for _, n := range v.tree.nodes {
		count[n.Level] = n.Index + 1
		stored, err := r.Nodes(n.Level, n.Index, 1)
		if err != nil {
			return err
		}
		if len(stored) != 1 || stored[0] != n {
			v.report.problem(n.Index<<(tileHeight*int(n.Level)), "the tree over the entries from here on is not theirs")
		}
	}
	for level, n := range count {
		if level == 0 {
			continue // the entries themselves
		}
		if more, err := r.Nodes(uint8(level), n, 1); err != nil { //nolint:gosec // it is within
			return err
		} else if len(more) > 0 {
			v.report.problem(head.Size, "the tree has more nodes than the entries make")
		}
	}
	return nil
}
