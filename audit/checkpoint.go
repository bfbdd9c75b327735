package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A checkpoint is a signed note (c2sp.org/signed-note, c2sp.org/tlog-checkpoint) of three lines: the origin, the number of entries, the root. The transaction
// that would leave more than maxUnsigned entries or maxUnsignedFor unsigned signs one itself, and while nothing is written the ticker does; so the newest
// checkpoint is never further behind the head than that, and is never of entries that were lost.
const (
	maxUnsigned    = 1000
	maxUnsignedFor = 500 * time.Millisecond // half of what is promised: the rest is for waiting in line and for the disk
)

// State is what a checkpoint states.
type State struct {
	Origin string
	Size   uint64
	Root   [32]byte
}

// text is the checkpoint's body, which is what is signed.
func (s State) text() string {
	return s.Origin + "\n" + strconv.FormatUint(s.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(s.Root[:]) + "\n"
}

// State reads what the checkpoint states. It does not check who signed it.
func (c Checkpoint) State() (State, error) {
	body, _, found := bytes.Cut(c.Note, []byte("\n\n"))
	lines := strings.Split(string(body), "\n")
	bad := fmt.Errorf("%w: a checkpoint is not in the form of one", ErrInvalid)
	if !found || len(lines) < 3 || !validOrigin(lines[0]) || len(c.Note) > maxNote {
		return State{}, bad
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || lines[1] != strconv.FormatUint(size, 10) {
		return State{}, bad
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return State{}, bad
	}
	return State{lines[0], size, [32]byte(root)}, nil
}

// maxNote caps a checkpoint with all its signatures.
const maxNote = 16 << 10

// maxSignatures caps the lines of signatures: checkers of notes refuse more.
const maxSignatures = 100

// verified reports whether any of the verifiers signed the checkpoint. It looks at their lines alone: what others put beside them cannot unmake it.
func (c Checkpoint) verified(verifiers []string) bool {
	body, lines, _ := bytes.Cut(c.Note, []byte("\n\n"))
	text := append(bytes.Clone(body), '\n')
	for _, verifier := range verifiers {
		v, err := note.NewVerifier(verifier)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(lines) {
			by, signature, ok := signatureOf(line)
			if ok && by == (signedBy{v.Name(), v.KeyHash()}) && v.Verify(text, signature) {
				return true
			}
		}
	}
	return false
}

// signedBy is whose a signature is: a name, and the ID of a key under it.
type signedBy struct {
	name string
	key  uint32
}

// signatureOf reads a line of a signature (c2sp.org/signed-note), and reports whether it is one.
func signatureOf(line []byte) (by signedBy, signature []byte, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte("— "))
	rest, whole := bytes.CutSuffix(rest, []byte("\n"))
	name, encoded, _ := bytes.Cut(rest, []byte(" "))
	raw, err := base64.StdEncoding.DecodeString(string(encoded))
	if !found || !whole || err != nil || len(name) == 0 || len(raw) < 5 {
		return signedBy{}, nil, false
	}
	return signedBy{string(name), binary.BigEndian.Uint32(raw)}, raw[4:], true
}

// with returns the checkpoint with lines of signatures added, as many as it may hold: of each key the first. A witness signs anew each time that it is given the same
// checkpoint, at every start of the ledger, and its first line is the one that says most.
func (c Checkpoint) with(more []byte) Checkpoint {
	body, lines, found := bytes.Cut(c.Note, []byte("\n\n"))
	if !found {
		return c
	}
	out := append(bytes.Clone(body), "\n\n"...)
	seen := map[signedBy]bool{}
	for line := range bytes.Lines(slices.Concat(lines, more)) {
		by, _, ok := signatureOf(line)
		if !ok || seen[by] || len(seen) == maxSignatures || len(out)+len(line) > maxNote {
			continue
		}
		seen[by] = true
		out = append(out, line...)
	}
	c.Note = out
	return c
}

// checkpoint signs one in this transaction where it is due. Before it signs, everything that was added since the last one is read back from the store
// and hashed anew: a bit that fell over in memory or on the way must not be signed for good.
func (w *writer) checkpoint() {
	l := w.ledger
	if w.position <= l.signed.Size || !w.signNow && w.position-l.signed.Size < maxUnsigned && w.now.Sub(l.signed.At) < maxUnsignedFor && !w.now.Before(l.signed.At) {
		return
	}
	last, _, err := w.tx.LastCheckpoint() // another replica may have signed since
	if w.failed(err) {
		return
	}
	if last.Size >= w.position {
		w.signed = &last
		return
	}
	root := w.tree.root()
	if last.Size > 0 && last.Size == l.signed.Size && len(l.signedTree) == bits.OnesCount64(last.Size) {
		err = grownAsStored(w.tx, l.signedTree, last.Size, w.position, root)
	} else {
		err = sameAsStored(w.tx, last.Size, w.position, root)
	}
	if w.failed(err) {
		return
	}
	c := Checkpoint{Size: w.position, At: w.now}
	if c.Note, err = note.Sign(&note.Note{Text: State{l.origin, w.position, root}.text()}, l.signers...); err != nil {
		w.failed(fmt.Errorf("signing a checkpoint: %w", ErrKeys))
		return
	}
	if !w.failed(w.tx.PutCheckpoint(c)) {
		w.signed, w.signedTree = &c, slices.Clone(w.tree.frontier)
	}
}

func differs(at uint64) error {
	return fmt.Errorf("%w: %w: what is stored from entry %d on is not what was to be recorded", ErrUnsound, ErrDamaged, at)
}

// grownAsStored is sameAsStored where this process signed the checkpoint before: its frontier was found to be that of the rows then, and each new row is read once.
func grownAsStored(r Reader, frontier [][32]byte, from, size uint64, want [32]byte) error {
	const page = 256
	t := tree{frontier: slices.Clone(frontier)}
	for at := from; at < size; {
		leaves, err := r.Leaves(at, int(min(page, size-at)))
		if err != nil {
			return err
		}
		if len(leaves) == 0 {
			return differs(at)
		}
		for i := range leaves {
			e := &leaves[i]
			if e.Position != at || e.leaf() != e.Leaf {
				return differs(at)
			}
			t.add(at, e.Leaf)
			at++
		}
	}
	for _, n := range t.nodes {
		stored, err := r.Nodes(n.Level, n.Index, 1)
		if err != nil {
			return err
		}
		if len(stored) != 1 || stored[0] != n {
			return differs(n.Index << (tileHeight * int(n.Level)))
		}
	}
	if t.root() != want {
		return differs(from)
	}
	return nil
}

// sameAsStored makes the root of the first size entries a second time, from rows: each entry since from is hashed again from what stands in it, each kept node
// that was completed since from is made again of what lies beneath it.
func sameAsStored(r Reader, from, size uint64, want [32]byte) error {
	const tile = 1 << tileHeight
	for at := from; at < size; at += tile {
		n := min(tile, size-at)
		leaves, err := r.Leaves(at, int(n))
		if err != nil {
			return err
		}
		if uint64(len(leaves)) != n {
			return differs(at)
		}
		for i := range leaves {
			if e := &leaves[i]; e.Position != at+uint64(i) || e.leaf() != e.Leaf {
				return differs(at)
			}
		}
	}
	for level := uint8(1); size>>(tileHeight*int(level)) > 0; level++ {
		for n := from >> (tileHeight * int(level)); n < size>>(tileHeight*int(level)); n++ {
			beneath, err := hashes{r}.kept(level-1, n*tile, tile)
			if err != nil {
				return err
			}
			stored, err := hashes{r}.kept(level, n, 1)
			if err != nil {
				return err
			}
			if fold(beneath) != stored[0] {
				return differs(n << (tileHeight * int(level)))
			}
		}
	}
	root, err := rootAt(r, size)
	if err == nil && root != want {
		err = differs(from)
	}
	return err
}

// due reports whether entries wait for a checkpoint although nothing is being written.
func (l *Ledger) due() bool {
	return l.Stats().Position > l.signed.Size
}

// sign is an operation that does nothing but have a checkpoint signed.
func (l *Ledger) sign() *op {
	return l.own(func(w *writer) error { w.signNow = true; return nil }, nil)
}

// testCheckpoints holds the ledger against what was signed of it: its own newest checkpoint, and those that are kept elsewhere. A backup that was restored,
// a copy that went on by itself and a rewritten past all fail here (L-8).
func (l *Ledger) testCheckpoints(ctx context.Context, c Config) error {
	var last Checkpoint
	var known, served bool
	err := l.view(ctx, func(r Reader) (err error) {
		if last, known, err = r.LastCheckpoint(); err != nil || !known {
			return err
		}
		head, err := r.Head()
		if err != nil {
			return err
		}
		if served, err = hasServed(r, head.Size); err != nil {
			return err
		}
		s, err := last.State()
		if err != nil || s.Origin != l.origin || s.Size != last.Size {
			return fmt.Errorf("%w: the newest checkpoint is not one of this ledger: restore the ledger, do not go on", ErrDamaged)
		}
		verifiers, err := l.recordedSigners(r)
		if err != nil {
			return err
		}
		if !last.verified(verifiers) {
			return fmt.Errorf("%w: the newest checkpoint is not signed by a key that the ledger names: restore the ledger, do not go on", ErrDamaged)
		}
		if s.Size > head.Size {
			return fmt.Errorf("%w: the newest checkpoint is of %d entries and there are %d: entries were cut off. Restore the ledger, do not go on", ErrDamaged, s.Size, head.Size)
		}
		root, err := rootAt(r, s.Size)
		if err == nil && root != s.Root {
			err = fmt.Errorf("%w: the first %d entries are not those that were signed: restore the ledger, do not go on", ErrDamaged, s.Size)
		}
		return err
	})
	if err != nil {
		return err
	}
	must := sinksNone
	if served && !c.Adopt {
		must = sinksSome
	}
	if err := l.testSinks(ctx, last, must); err != nil {
		return err
	}
	l.signed = last
	if known {
		l.newest.Store(&last)
	}
	return nil
}

// hasServed reports whether anything but what a start writes stands in a ledger. The first start takes its first checkpoint to a sink before it returns, so a
// ledger that has served has one there; one whose first start was killed before that has none, and nothing that anybody was told of is in it.
func hasServed(r Reader, size uint64) (bool, error) {
	if size > maxKeyEntries {
		return true, nil
	}
	entries, err := r.Entries(0, int(size)) //nolint:gosec // not more than maxKeyEntries
	for i := range entries {
		if t := entries[i].Type; t != TypeKey && t != TypePolicy {
			return true, err
		}
	}
	return false, err
}

// sinksMust is what the places where checkpoints are kept must say for a ledger to start.
type sinksMust int

const (
	sinksNone sinksMust = iota // contradict it: none may
	sinksSome                  // also, one at least must hold a checkpoint of it, or not be able to say: the ledger has signed before, and evidence is not lost by itself
	sinksAll                   // also, all must take its newest
)

// sinkTries is how often one that is away is asked again where it must answer.
const sinkTries = 2

// testSinks hands the newest checkpoint to every sink, which refuses it if what it holds already is not continued by it.
func (l *Ledger) testSinks(ctx context.Context, last Checkpoint, must sinksMust) error {
	some := false
	for _, s := range l.sinks {
		size, known, err := s.Holds(ctx)
		if err != nil {
			return fmt.Errorf("%w: the checkpoints in %s cannot be read: %w", ErrUnavailable, s.Name(), err)
		}
		if last.Size == 0 && size > 0 {
			return fmt.Errorf("%w: %s holds a checkpoint of %d entries, and this ledger has none: it is an old backup, or another ledger. Do not go on with it", ErrDamaged, s.Name(), size)
		}
		some = some || !known || size > 0
	}
	if must == sinksSome && !some {
		return fmt.Errorf("%w: this ledger has signed checkpoints of up to %d entries, and none of them is where they are kept (%s): put them back, or adopt the ledger as it is if you know why they are gone",
			ErrDamaged, last.Size, l.sinks[0].Name())
	}
	if last.Size == 0 {
		return nil
	}
	for i := range l.sinks {
		err := l.extend(ctx, i)
		for range sinkTries {
			if must != sinksAll || !errors.Is(err, ErrAway) {
				break
			}
			select { // another replica may be starting as well, and keep it busy
			case <-ctx.Done():
			case <-time.After(sinkPause / 2):
				err = l.extend(ctx, i)
			}
		}
		switch {
		case errors.Is(err, ErrContradicted):
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		case must == sinksAll && errors.Is(err, ErrAway):
			return fmt.Errorf("%w: this ledger is new, and whether there was one before it only those can tell who keep its checkpoints: %w. Start when it answers, or take it out of the configuration",
				ErrUnavailable, err)
		case err != nil && !errors.Is(err, ErrAway):
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return nil
}

// recordedSigners returns the signing keys that the ledger's own entries name.
func (l *Ledger) recordedSigners(r Reader) ([]string, error) {
	positions, err := r.OfType(TypeKey, 0, maxKeyEntries)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, position := range positions {
		e, err := entryAt(r, position)
		if err != nil {
			return nil, err
		}
		p, err := decode(l.keys.Load(), &e)
		if err != nil {
			return nil, err
		}
		if p.Epoch.Signer != "" {
			out = append(out, p.Epoch.Signer)
		}
	}
	return out, nil
}

// maxKeyEntries bounds how many Key entries are looked at: an epoch a month is 12 a year.
const maxKeyEntries = 10_000

// Inclusion is the proof that an entry stands in the tree that a checkpoint states.
type Inclusion struct {
	Position   uint64
	Leaf       [32]byte
	Checkpoint Checkpoint
	Proof      [][32]byte // RFC 6962, section 2.1.1
}

// Inclusion proves what a receipt says, against the newest checkpoint, or against that of the given size (0: the newest). ErrNotRecorded if no entry with this
// leaf stands at its position; ErrNotSigned if it is newer than the checkpoint: ask again in a second.
func (l *Ledger) Inclusion(ctx context.Context, r Receipt, size uint64) (Inclusion, error) {
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	out := Inclusion{Position: r.Position, Leaf: r.Leaf}
	if r.Origin != "" && r.Origin != l.origin || r.Position > math.MaxInt64 || size > math.MaxInt64 {
		return out, ErrNotRecorded
	}
	err := l.view(ctx, func(reader Reader) (err error) {
		leaves, err := reader.Leaves(r.Position, 1)
		if err != nil {
			return err
		}
		if len(leaves) != 1 || leaves[0].Position != r.Position || leaves[0].Leaf != r.Leaf {
			return ErrNotRecorded
		}
		if out.Checkpoint, err = signedAt(reader, size); err != nil {
			return err
		}
		if out.Checkpoint.Size <= r.Position {
			return ErrNotSigned
		}
		proof, err := tlog.ProveRecord(int64(out.Checkpoint.Size), int64(r.Position), hashes{reader})
		out.Proof = plainHashes(proof)
		return err
	})
	return out, err
}

// Consistency proves that the tree of the first from entries is the beginning of the tree of the first to entries (RFC 6962, section 2.1.2).
func (l *Ledger) Consistency(ctx context.Context, from, to uint64) ([][32]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	var out [][32]byte
	err := l.view(ctx, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		if from < 1 || from > to || to > head.Size {
			return fmt.Errorf("%w: sizes are at least 1, at most the ledger's, and the first is not greater", ErrInvalid)
		}
		proof, err := tlog.ProveTree(int64(to), int64(from), hashes{r})
		out = plainHashes(proof)
		return err
	})
	return out, err
}

// Checkpoints returns at most limit signed checkpoints from a size on, in order.
func (l *Ledger) Checkpoints(ctx context.Context, from uint64, limit int) (out []Checkpoint, err error) {
	if from > math.MaxInt64 || limit < 1 || limit > maxFound {
		return nil, fmt.Errorf("%w: 1 to 1,000 checkpoints", ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	err = l.view(ctx, func(r Reader) (err error) {
		out, err = r.Checkpoints(from, limit)
		return err
	})
	return out, err
}

// Checkpoint returns the newest checkpoint, or that of the given size. ErrNotSigned if there is none.
func (l *Ledger) Checkpoint(ctx context.Context, size uint64) (out Checkpoint, err error) {
	if size > math.MaxInt64 {
		return out, ErrNotSigned
	}
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	err = l.view(ctx, func(r Reader) (err error) {
		out, err = signedAt(r, size)
		return err
	})
	return out, err
}

func signedAt(r Reader, size uint64) (Checkpoint, error) {
	if size == 0 {
		c, ok, err := r.LastCheckpoint()
		if err == nil && !ok {
			err = ErrNotSigned
		}
		return c, err
	}
	list, err := r.Checkpoints(size, 1)
	if err == nil && (len(list) == 0 || list[0].Size != size) {
		err = ErrNotSigned
	}
	if err != nil {
		return Checkpoint{}, err
	}
	return list[0], nil
}

func plainHashes[S ~[]tlog.Hash](in S) [][32]byte {
	out := make([][32]byte, len(in))
	for i, h := range in {
		out[i] = h
	}
	return out
}
