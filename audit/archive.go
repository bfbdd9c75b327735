package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// An archive is a file that holds one closed key epoch: its entries as they stand, sealed, what each is found by, the proof that they are those of a signed checkpoint, and
// a statement of the whole that the ledger's own keys sign. PROOF.md describes the bytes; `verify archive` checks them, and a question may be answered from them (archived.go).

// archiveMagic begins every archive, and the text of its statement: with its spaces it is no ledger's name, so that a statement can never be read as a checkpoint.
const archiveMagic = "my care record archive v1"

// The blocks of an archive, in their order.
const (
	blockHead      = 'H'
	blockProof     = 'P'
	blockEntry     = 'E' // each entry of a segment, and behind them
	blockPlaces    = 'T' // where each stands, and
	blockIndex     = 'I' // what it is found by
	blockDirectory = 'D'
	blockStatement = 'S'
	blockEnd       = 'Z'
)

// Sizes of an archive's parts, in bytes, and entries of a segment.
const (
	blockHeader     = 1 + 4
	archiveSegment  = 1 << 16 // at most: what the index says of one has two bytes for its place
	entryFixed      = 8 + 1 + 1 + 8 + 4 + 32 + 32
	indexKey        = 16
	indexItem       = indexKey + 2
	directoryItem   = 8 + 4 + 8 + 8 + 8 + 32 + 32
	endBody         = 8 + sha256.Size
	maxArchiveEntry = maxPayload + 16<<20 // its marks too: a page of everybody's names some thousand people
)

// markType is the kind under which the index has entries by their type. It is no kind of mark.
const markType MarkKind = 0

// archiveKey is what the index of an archive has of a mark.
func archiveKey(m Mark) (key [indexKey]byte) {
	sum := sha256.Sum256(append([]byte{byte(m.Kind)}, m.Value...))
	copy(key[:], sum[:])
	return key
}

// ArchiveRange is which entries an archive holds: those from From on, before Until.
type ArchiveRange struct {
	Epoch       uint32
	From, Until uint64
}

// Archived says what an archive holds.
type Archived struct {
	ArchiveRange
	Erased     uint64 // entries of which nothing is left but what the tree is made of
	Checkpoint uint64 // size of the one that it is proved under
}

// Archive writes one closed key epoch, and records that it did (L-6). An epoch is closed when the ledger names the one after it: from then on nothing more is written under its keys.
// The same ledger makes the same bytes each time, until something is erased, signing keys change, or a witness adds to the checkpoint. What is erased is not in it: an archive that is older holds it
// yet, sealed, and is to be written anew. progress is told how far it is; it may be nil.
func (l *Ledger) Archive(ctx context.Context, by Actor, epoch uint32, w io.Writer, progress func(done, all uint64)) (Archived, Receipt, error) {
	return l.archiveIn(ctx, by, epoch, archiveSegment, w, progress)
}

// archiveIn is Archive in segments of so many entries.
func (l *Ledger) archiveIn(ctx context.Context, by Actor, epoch uint32, segment uint64, w io.Writer, progress func(done, all uint64)) (out Archived, receipt Receipt, err error) {
	if err := checkActor(by); err != nil {
		return out, Receipt{}, err
	}
	a := &archiving{w: w, sum: sha256.New(), begins: map[uint64]*Access{}}
	var p archiveProof
	err = l.view(ctx, func(r Reader) error {
		if a.keys, err = l.keysFor(r); err != nil {
			return err
		}
		if out.ArchiveRange, err = closedEpoch(r, epoch); err != nil {
			return err
		}
		p, err = proveRange(r, out.ArchiveRange)
		return err
	})
	if err != nil {
		return out, Receipt{}, err
	}
	if receipt, err = l.putRead(ctx, by, &questionBody{Kind: questionEntries, Archive: epoch}, nil); err != nil {
		return out, Receipt{}, err
	}
	signers, err := a.keys.signers(l.origin)
	if err != nil {
		return out, receipt, err
	}
	a.put([]byte(archiveMagic + "\n"))
	a.tables = append(a.block(blockHead, out.head(l.origin)), a.block(blockProof, p.bytes())...)
	for at := out.From; at < out.Until; {
		n := min(segment, out.Until-at)
		if err := a.segment(ctx, l, at, n); err != nil {
			return out, receipt, err
		}
		if at += n; progress != nil {
			progress(at-out.From, out.Until-out.From)
		}
	}
	out.Erased, out.Checkpoint = a.erased, p.size
	return out, receipt, a.finish(l.origin, out.ArchiveRange, signers)
}

// closedEpoch is where an epoch stands in the order.
func closedEpoch(r Reader, epoch uint32) (out ArchiveRange, err error) {
	out.Epoch = epoch
	var known, closed bool
	if epoch > 0 {
		if out.From, known, err = r.Newest([]Mark{epochMark(epoch)}); err != nil {
			return out, err
		}
	}
	if !known {
		return out, fmt.Errorf("%w: the ledger has no key epoch of that number", ErrInvalid)
	}
	if out.Until, closed, err = r.Newest([]Mark{epochMark(epoch + 1)}); err != nil {
		return out, err
	}
	switch {
	case !closed:
		return out, fmt.Errorf("%w: key epoch %d is open: it is closed once the next has begun (broker keys add -kind epoch, or ledger.monthlyKeys)", ErrInvalid, epoch)
	case out.Until <= out.From:
		return out, fmt.Errorf("%w: key epoch %d begins behind its end", ErrDamaged, epoch)
	}
	return out, nil
}

// head is the body of the first block.
func (a ArchiveRange) head(origin string) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%d\n%d\n", origin, a.Epoch, a.From, a.Until)
}

// IsArchive reports whether a file that begins so says that it is the archive of an epoch of a ledger. It checks nothing of it.
func IsArchive(beginning []byte, origin string, epoch uint32) bool {
	rest, ok := bytes.CutPrefix(beginning, []byte(archiveMagic+"\nH"))
	return ok && len(rest) > 4 && bytes.HasPrefix(rest[4:], fmt.Appendf(nil, "%s\n%d\n", origin, epoch))
}

// archiveProof is what leads from the entries of a range to the root of a checkpoint: the roots of the complete subtrees in front of it and behind it.
type archiveProof struct {
	left, right [][32]byte
	note        []byte
	size        uint64
}

func (p archiveProof) bytes() []byte {
	out := []byte{byte(len(p.left))}
	for _, h := range p.left {
		out = append(out, h[:]...)
	}
	out = append(out, byte(len(p.right)))
	for _, h := range p.right {
		out = append(out, h[:]...)
	}
	return append(out, p.note...)
}

// maxLookedFor is how many checkpoints behind a range are looked at for one that a witness has cosigned.
const maxLookedFor = 1000

// proveRange proves a range under the first checkpoint behind it that a witness has cosigned, or under the first of all.
func proveRange(r Reader, a ArchiveRange) (p archiveProof, err error) {
	behind, err := r.Checkpoints(a.Until, maxLookedFor)
	if err != nil {
		return p, err
	}
	if len(behind) == 0 {
		return p, ErrNotSigned
	}
	c := behind[max(0, slices.IndexFunc(behind, Checkpoint.cosigned))]
	p.note, p.size = c.Note, c.Size
	if p.left, err = subtrees(r, 0, a.From); err == nil {
		p.right, err = subtrees(r, a.Until, c.Size)
	}
	return p, err
}

// cosigned reports whether somebody else than the ledger put a line beside its own.
func (c Checkpoint) cosigned() bool {
	body, lines, _ := bytes.Cut(c.Note, []byte("\n\n"))
	origin, _, _ := bytes.Cut(body, []byte("\n"))
	for line := range bytes.Lines(lines) {
		if by, _, ok := signatureOf(line); ok && by.name != string(origin) {
			return true
		}
	}
	return false
}

// subtrees are the roots of the largest complete subtrees that make up the leaves from one position to another, in order.
func subtrees(r Reader, from, until uint64) (out [][32]byte, err error) {
	for at := from; at < until; {
		level := bits.Len64(until-at) - 1
		if at != 0 {
			level = min(level, bits.TrailingZeros64(at))
		}
		h, err := hashes{r}.subtree(level, at>>level)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
		at += 1 << level
	}
	return out, nil
}

// archiving is one archive on its way out. Its first error ends it.
type archiving struct {
	w         io.Writer
	sum       hash.Hash // of all that was written
	size      uint64
	err       error
	keys      *Keys
	tables    []byte // the blocks that the statement names apart: head, proof, directory
	directory []byte
	begins    map[uint64]*Access // of accesses that have not ended, by position of their opening
	erased    uint64
}

func (a *archiving) put(b []byte) {
	if a.err != nil {
		return
	}
	_, a.err = a.w.Write(b)
	_, _ = a.sum.Write(b) // hash.Hash.Write never returns an error
	a.size += uint64(len(b))
}

// block writes one, and returns it whole.
func (a *archiving) block(tag byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{tag}, uint32(len(body)))
	b = append(b, body...)
	a.put(b)
	return b
}

// segment writes n entries from a position on, with where they stand and what they are found by.
func (a *archiving) segment(ctx context.Context, l *Ledger, from, n uint64) error {
	places := make([]byte, 0, 8*n)
	var index [][indexItem]byte
	var began int64
	for at := from; at < from+n; {
		err := l.view(ctx, func(r Reader) error {
			page, err := r.Entries(at, int(min(verifyPage, from+n-at)))
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return fmt.Errorf("%w: entry %d is missing", ErrDamaged, at)
			}
			for i := range page {
				e := &page[i]
				if e.Position != at {
					return fmt.Errorf("%w: entry %d is missing", ErrDamaged, at)
				}
				body, marks, err := a.entry(r, e)
				if err != nil {
					return err
				}
				for _, m := range append(marks, Mark{markType, string([]byte{byte(e.Type)})}) {
					key := archiveKey(m)
					index = append(index, [indexItem]byte(binary.BigEndian.AppendUint16(key[:], uint16(at-from))))
				}
				if at == from {
					began = e.Time.UnixMicro()
				}
				places = binary.BigEndian.AppendUint64(places, a.size)
				a.block(blockEntry, body)
				at++
			}
			return a.err
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(index, func(x, y [indexItem]byte) int { return bytes.Compare(x[:], y[:]) })
	index = slices.Compact(index)
	found := make([]byte, 0, len(index)*indexItem)
	for i := range index {
		found = append(found, index[i][:]...)
	}
	d := binary.BigEndian.AppendUint64(a.directory, from)
	d = binary.BigEndian.AppendUint32(d, uint32(n))
	d = binary.BigEndian.AppendUint64(d, uint64(began))
	d = binary.BigEndian.AppendUint64(d, a.size)
	a.block(blockPlaces, places)
	d = binary.BigEndian.AppendUint64(d, a.size)
	a.block(blockIndex, found)
	p, f := sha256.Sum256(places), sha256.Sum256(found)
	a.directory = append(append(d, p[:]...), f[:]...)
	return a.err
}

// entry makes the body of an entry's block. What does not open, or is not its leaf's, is not archived.
func (a *archiving) entry(r Reader, e *Entry) (body []byte, marks []Mark, err error) {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, entryFixed+len(e.Sealed)+512), e.Position)
	b = append(b, e.Version, byte(e.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMicro()))
	b = binary.BigEndian.AppendUint32(b, e.Epoch)
	b = append(append(b, e.Commitment[:]...), e.Leaf[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Sealed)))
	b = append(b, e.Sealed...)
	var opened []byte
	if e.Sealed == nil {
		if a.erased++; e.leaf() != e.Leaf {
			return nil, nil, fmt.Errorf("%w: entry %d differs from its leaf hash", ErrDamaged, e.Position)
		}
	} else {
		if marks, err = a.marks(r, e); err != nil {
			return nil, nil, err
		}
		if e.Type == TypeKey { // it holds nothing of a person, and names the keys that sign
			if epoch, ok := a.keys.epoch(e.Epoch); ok {
				opened, _ = epoch.unseal(e.Sealed, e.associated())
			}
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(opened)))
	b = append(b, opened...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(marks)))
	for _, m := range marks {
		b = append(b, byte(m.Kind))
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.Value)))
		b = append(b, m.Value...)
	}
	sum := sha256.Sum256(b)
	if b = append(b, sum[:]...); len(b) > maxArchiveEntry {
		return nil, nil, fmt.Errorf("%w: entry %d is larger than any", ErrDamaged, e.Position)
	}
	return b, marks, nil
}

// marks are what an entry is found by, in order, each once: worked out from what it says, as its index in the store must be.
func (a *archiving) marks(r Reader, e *Entry) ([]Mark, error) {
	p, err := decode(a.keys, e)
	if err != nil {
		return nil, err
	}
	var begin *Access
	switch {
	case e.Type == TypeBegin:
		in := &reading{}
		a.begins[e.Position] = in.access(*p.Access)
	case p.Opens != 0 && (e.Type == TypeChunk || e.Type.Closes()):
		if begin = a.begins[p.Opens]; begin == nil {
			if begin, err = openingAt(r, a.keys, p.Opens); err != nil {
				return nil, err
			}
		}
		if e.Type.Closes() {
			delete(a.begins, p.Opens)
		}
	}
	marks, err := marksOf(a.keys, e, p, begin)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(marks, func(a, b Mark) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value)) })
	return slices.Compact(marks), nil
}

// openingAt reads the access that a Begin opened.
func openingAt(r Reader, k *Keys, position uint64) (*Access, error) {
	e, err := entryAt(r, position)
	if err != nil {
		return nil, err
	}
	p, err := decode(k, &e)
	if err != nil {
		return nil, err
	}
	in := &reading{}
	if e.Type != TypeBegin {
		return nil, fmt.Errorf("%w: entry %d opens no access", ErrDamaged, position)
	}
	return in.access(*p.Access), nil
}

// finish writes the directory, the statement and the end.
func (a *archiving) finish(origin string, of ArchiveRange, signers []note.Signer) error {
	content, at := a.sum.Sum(nil), a.size
	tables := sha256.Sum256(append(a.tables, a.block(blockDirectory, a.directory)...))
	signed, err := note.Sign(&note.Note{Text: archiveStatement(origin, of, content, tables[:])}, signers...)
	if err != nil {
		return fmt.Errorf("signing an archive: %w", ErrKeys)
	}
	a.block(blockStatement, signed)
	end := binary.BigEndian.AppendUint64(nil, at)
	a.block(blockEnd, a.sum.Sum(end))
	return a.err
}

// archiveStatement is what is signed of an archive: what it holds, the hash of all in front of its directory, and that of head, proof and directory.
func archiveStatement(origin string, of ArchiveRange, content, tables []byte) string {
	return fmt.Sprintf("%s\n%s\n%d %d %d\n%s\n%s\n", archiveMagic, origin, of.Epoch, of.From, of.Until, base64.StdEncoding.EncodeToString(content), base64.StdEncoding.EncodeToString(tables))
}
