package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	hashing "hash"
	"io"
	"iter"
	"math/bits"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// An archive of one key epoch (audit/PROOF.md, The bytes of an archive), read from its beginning to its end, once.

const (
	archiveMagic   = "my care record archive v1"
	archiveSegment = 1 << 16
	entryFixed     = 8 + 1 + 1 + 8 + 4 + 32 + 32
	indexItem      = 16 + 2
)

// longest says how long the body of a block of each kind may be.
var longest = map[byte]uint32{'H': 1 << 10, 'P': 2 + 2*64*32 + maxNote, 'E': 48 << 20, 'T': 8 * archiveSegment, 'I': 1 << 30, 'D': 100 << 16, 'S': maxNote, 'Z': 40}

var errArchive = errors.New("this is not an archive of version 1")

// blocks reads them one after the other. What it read is in the sum and the size.
type blocks struct {
	r    *bufio.Reader
	sum  hashing.Hash
	size uint64
	buf  bytes.Buffer
}

func newBlocks(r io.Reader) *blocks {
	return &blocks{r: bufio.NewReaderSize(r, 1<<20), sum: sha256.New()}
}

// exactly reads n bytes, which are good until the next call. It never asks for more room than there are bytes.
func (b *blocks) exactly(n int64) ([]byte, bool) {
	b.buf.Reset()
	if got, err := io.CopyN(&b.buf, b.r, n); err != nil || got != n {
		return nil, false
	}
	_, _ = b.sum.Write(b.buf.Bytes()) // hash.Hash.Write never returns an error
	b.size += uint64(n)
	return b.buf.Bytes(), true
}

// next reads the next block. The tag is 0 where there is none that could be read.
func (b *blocks) next() (tag byte, body []byte) {
	h, ok := b.exactly(5)
	if !ok {
		return 0, nil
	}
	tag, n := h[0], binary.BigEndian.Uint32(h[1:])
	if most, known := longest[tag]; !known || n > most {
		return 0, nil
	}
	if body, ok = b.exactly(int64(n)); !ok {
		return 0, nil
	}
	return tag, body
}

func blockOf(tag byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{tag}, uint32(len(body))), body...)
}

// archive is one that is being checked. The problems, the tree and the keys are those of a checker.
type archive struct {
	*checker
	epoch        uint32
	first, until uint64
	left, right  []hash
	note         checkpoint
	tables       []byte // blocks of head, proof and directory
	directory    []byte // as it must be
	at           uint64 // position of the next entry
	began        uint64 // where the segment's first entry stands in the order
	beganAt      int64  // its time
	places       []byte // as they must be
	index        [][indexItem]byte
	held, unheld int
}

// readArchive reads a whole archive. The error is of the file; what is wrong with it is in problems, those that name an entry first.
func readArchive(r io.Reader, c *checker) (*archive, error) {
	a := &archive{checker: c}
	err := a.readAll(newBlocks(r))
	slices.SortStableFunc(c.problems, inOrder)
	return a, err
}

func (a *archive) readAll(b *blocks) error {
	magic, ok := b.exactly(int64(len(archiveMagic) + 1))
	if !ok || string(magic) != archiveMagic+"\n" {
		return errArchive
	}
	tag, body := b.next()
	if tag != 'H' || !a.head(body) {
		return errArchive
	}
	a.tables = blockOf(tag, body)
	tag, body = b.next()
	if tag != 'P' || !a.proof(bytes.Clone(body)) {
		a.derived(a.first, "what proves it cannot be read")
		return nil
	}
	a.tables = append(a.tables, blockOf(tag, body)...)
	a.tree = tree{size: a.first, roots: slices.Clone(a.left)}
	a.hold(a.first)
	for {
		start, content := b.size, b.sum.Sum(nil)
		tag, body := b.next()
		switch tag {
		case 'E':
			if a.at == a.until || a.at-a.began == archiveSegment {
				a.derived(a.at, "there are more entries than it says, or more than a segment has")
				return nil
			}
			if !a.entry(body, start) {
				return nil
			}
		case 'T':
			if !a.segment(b, start, body) {
				return nil
			}
		case 'D':
			if a.at != a.until || a.at != a.began {
				a.derived(a.at, "it ends at entry %d, and says that it holds those before %d", a.at, a.until)
				return nil
			}
			a.root()
			a.compareDirectory(body)
			a.tables = append(a.tables, blockOf(tag, body)...)
			a.ending(b, start, content)
			return nil
		default:
			a.derived(a.at, "it was cut off after entry %d, or what follows cannot be read", int64(a.at)-1)
			return nil
		}
	}
}

// head reads what the archive is of.
func (a *archive) head(body []byte) bool {
	lines := strings.Split(string(body), "\n")
	if len(lines) != 5 || lines[4] != "" || lines[0] == "" {
		return false
	}
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(lines[1+i], 10, 62); err != nil || lines[1+i] != strconv.FormatUint(n[i], 10) {
			return false
		}
	}
	a.origin, a.epoch, a.first, a.until = lines[0], uint32(n[0]), n[1], n[2]
	a.at, a.began = a.first, a.first
	return n[0] < 1<<32 && a.first < a.until
}

// proof reads what leads from the entries to a checkpoint.
func (a *archive) proof(body []byte) bool {
	side := func() (out []hash, ok bool) {
		if len(body) == 0 || len(body) < 1+32*int(body[0]) {
			return nil, false
		}
		n := int(body[0])
		for body = body[1:]; len(out) < n; body = body[32:] {
			out = append(out, hash(body))
		}
		return out, true
	}
	var ok, ok2 bool
	if a.left, ok = side(); ok {
		a.right, ok2 = side()
	}
	var err error
	if ok && ok2 {
		a.note, err = parseCheckpoint(body)
	}
	return ok && ok2 && err == nil && a.note.size >= a.until && len(a.left) == bits.OnesCount64(a.first) && len(a.right) == len(levels(a.until, a.note.size))
}

// levels are those of the largest complete subtrees that make up the leaves from one position to another.
func levels(from, until uint64) (out []int) {
	for from < until {
		level := bits.Len64(until-from) - 1
		if from != 0 {
			level = min(level, bits.TrailingZeros64(from))
		}
		out, from = append(out, level), from+1<<level
	}
	return out
}

// grow adds a complete subtree of 2^level leaves, which begins where the tree ends.
func (t *tree) grow(level int, h hash) {
	for n := t.size >> level; n&1 == 1; n >>= 1 {
		last := len(t.roots) - 1
		h = nodeHash(t.roots[last], h)
		t.roots = t.roots[:last]
	}
	t.roots = append(t.roots, h)
	t.size += 1 << level
}

// archivedEntry is the body of an entry's block.
type archivedEntry struct {
	entry
	commitment, leaf hash
	sealed, opened   []byte
	marks            [][]byte // kind and value
	own              bool     // its last bytes are the hash of those in front of them
}

func parseArchived(b []byte) (r archivedEntry, ok bool) {
	if len(b) < entryFixed+4+4+4+32 {
		return r, false
	}
	sum := sha256.Sum256(b[:len(b)-32])
	r.own = bytes.Equal(sum[:], b[len(b)-32:])
	rest := b[entryFixed : len(b)-32]
	position := binary.BigEndian.Uint64(b)
	r.entry = entry{Position: &position, Version: b[8], Type: b[9], Time: int64(binary.BigEndian.Uint64(b[10:])), Epoch: binary.BigEndian.Uint32(b[18:])}
	r.commitment, r.leaf = hash(b[22:]), hash(b[54:])
	part := func() (out []byte) {
		if !ok || len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.BigEndian.Uint32(rest)) {
			ok = false
			return nil
		}
		n := binary.BigEndian.Uint32(rest)
		out, rest = rest[4:4+n], rest[4+n:]
		return out
	}
	ok = true
	r.sealed, r.opened = part(), part()
	if !ok || len(rest) < 4 {
		return r, false
	}
	count := binary.BigEndian.Uint32(rest)
	for rest = rest[4:]; count > 0; count-- {
		if len(rest) < 3 || len(rest)-3 < int(binary.BigEndian.Uint16(rest[1:])) {
			return r, false
		}
		n := 3 + int(binary.BigEndian.Uint16(rest[1:]))
		mark := append([]byte{rest[0]}, rest[3:n]...)
		if k := len(r.marks); k > 0 && bytes.Compare(r.marks[k-1], mark) >= 0 || mark[0] == 0 {
			return r, false
		}
		r.marks, rest = append(r.marks, mark), rest[n:]
	}
	return r, len(rest) == 0
}

// entry checks one, and reports whether the next can be made sense of.
func (a *archive) entry(body []byte, start uint64) bool {
	at := a.at
	r, ok := parseArchived(body)
	switch {
	case !ok:
		a.problem(at, "it cannot be read")
		return false
	case !r.own:
		a.problem(at, "its bytes are not those that were archived")
		r.Position = &at
	case *r.Position != at:
		a.problem(at, "entry %d stands where entry %d must: one was taken away, put in or moved", *r.Position, at)
		return false
	}
	if leaf := hash(sha256.Sum256(r.leafData(r.commitment))); leaf != r.leaf && r.own {
		a.problem(at, "version, type, position, time or commitment differ from its leaf")
	}
	if r.Version != 1 && r.own {
		a.problem(at, "its version is not one that this program knows")
	}
	if r.Time < a.time && r.own {
		a.problem(at, "its time is before that of the entry in front")
	}
	a.time = r.Time
	if at == a.began {
		a.beganAt = r.Time
	}
	a.say(&r)
	a.tree.add(r.leaf)
	if _, wanted := a.leaves[at]; wanted {
		a.leaves[at] = r.leaf
	}
	a.at++
	a.hold(a.at)
	a.places = binary.BigEndian.AppendUint64(a.places, start)
	for _, m := range append(r.marks, []byte{0, r.Type}) {
		sum := sha256.Sum256(m)
		a.index = append(a.index, [indexItem]byte(binary.BigEndian.AppendUint16(sum[:16:16], uint16(at-a.began))))
	}
	return true
}

// say takes in what is in an entry.
func (a *archive) say(r *archivedEntry) {
	at := *r.Position
	if len(r.sealed) == 0 {
		a.erased[at] = r.Type
		switch {
		case len(r.opened)+len(r.marks) > 0:
			a.problem(at, "its payload was erased, and something of it is left")
		case !mayErase(r.Type):
			a.problem(at, "an entry of type %d was erased", r.Type)
		}
		return
	}
	r.Sealed = r.sealed
	if len(r.opened) > 0 {
		if r.Type != typeKey {
			a.problem(at, "it is there in clear")
			return
		}
		if sum := sha256.Sum256(r.opened); sum != r.commitment || len(r.opened) < 32 {
			a.problem(at, "its payload is not the one that it commits to")
			return
		}
		a.checker.say(&entry{Position: r.Position, Type: typeKey}, r.opened[32:])
	} else if r.Type == typeKey {
		a.problem(at, "it must be there in clear too")
	}
	if a.keys == nil {
		return
	}
	if _, _, err := r.payload(a.keys, r.commitment); err != nil {
		a.problem(at, "%s", err)
		return
	}
	a.opened++
}

// segment checks what stands behind its entries: where each stands, and what they are found by.
func (a *archive) segment(b *blocks, start uint64, places []byte) bool {
	if a.at == a.began {
		a.derived(a.at, "a segment is empty")
		return false
	}
	entryOf := func(local int) uint64 { return min(a.began+uint64(local), a.at-1) }
	if !bytes.Equal(places, a.places) {
		a.derived(entryOf(differs(places, a.places)/8), "where it stands in the file is not what the table says")
	}
	d := binary.BigEndian.AppendUint64(a.directory, a.began)
	d = binary.BigEndian.AppendUint32(d, uint32(a.at-a.began))
	d = binary.BigEndian.AppendUint64(d, uint64(a.beganAt))
	d = binary.BigEndian.AppendUint64(d, start)
	d = binary.BigEndian.AppendUint64(d, b.size)
	tag, found := b.next()
	if tag != 'I' {
		a.derived(a.began, "the index of entries %d to %d cannot be read", a.began, a.at-1)
		return false
	}
	slices.SortFunc(a.index, func(x, y [indexItem]byte) int { return bytes.Compare(x[:], y[:]) })
	a.index = slices.Compact(a.index)
	want := make([]byte, 0, len(a.index)*indexItem)
	for i := range a.index {
		want = append(want, a.index[i][:]...)
	}
	if !bytes.Equal(found, want) {
		local := archiveSegment
		i := differs(found, want) / indexItem * indexItem
		for _, list := range [][]byte{found, want} {
			if i+indexItem <= len(list) {
				local = min(local, int(binary.BigEndian.Uint16(list[i+16:])))
			}
		}
		a.derived(entryOf(local), "what it is found by is not what the index says")
	}
	p, f := sha256.Sum256(a.places), sha256.Sum256(want)
	a.directory = append(append(d, p[:]...), f[:]...)
	a.places, a.index, a.began = a.places[:0], a.index[:0], a.at
	return true
}

// differs is where two texts begin to.
func differs(a, b []byte) int {
	n := min(len(a), len(b))
	return sort.Search(n, func(i int) bool { return !bytes.Equal(a[:i+1], b[:i+1]) })
}

func (a *archive) compareDirectory(body []byte) {
	if bytes.Equal(body, a.directory) {
		return
	}
	at := a.first
	if i := differs(body, a.directory) / 100 * 100; i+8 <= len(a.directory) {
		at = binary.BigEndian.Uint64(a.directory[i:])
	}
	a.derived(at, "the directory is not that of the entries")
}

// root leads from the entries to the checkpoint.
func (a *archive) root() {
	for i, level := range levels(a.until, a.note.size) {
		a.tree.grow(level, a.right[i])
	}
	switch {
	case a.note.origin != a.origin:
		a.derived(a.first, "its checkpoint is of another ledger")
	case !a.note.signedBy(a.trusted):
		a.derived(a.first, "its checkpoint of %d entries is not signed by a key that is trusted", a.note.size)
	case a.tree.root() != a.note.root:
		a.derived(a.first, "entries %d to %d are not those that its checkpoint was signed for", a.first, a.until-1)
	default:
		a.last = a.note
		a.trusted, a.named = append(a.trusted, a.named...), nil
		for i := range a.witness {
			if t, ok := a.note.cosignedBy(a.witness[i].key); ok {
				a.witness[i].size, a.witness[i].at = a.note.size, t
			}
		}
	}
	if a.note.size != a.until {
		a.hold(a.note.size)
	}
	for _, w := range a.witness {
		if w.size == 0 {
			a.derived(a.first, "the witness %s has not cosigned its checkpoint", w.key.name)
		}
	}
	for n, kept := range a.kept {
		for _, k := range kept {
			k.counts = k.origin == a.origin && k.signedBy(a.trusted)
			switch can := n >= a.first && n <= a.until || n == a.note.size; {
			case k.origin != a.origin || !can:
				a.unheld++
			case k.differs && !k.counts: // it may be a stranger's, and may be of a key that this archive does not name
				a.derived(a.first, "a checkpoint kept elsewhere, of %d entries, does not fit, and no key that is trusted signed it: ask the ledger's holder for all its public keys", n)
			case k.differs:
				a.derived(a.first, "the first %d entries are not those that a checkpoint kept elsewhere was signed for", n)
			case !k.counts:
				a.unheld++
			default:
				a.held++
			}
		}
	}
}

// hold compares the tree as it stands with what was kept elsewhere of as many entries.
func (a *archive) hold(n uint64) {
	for _, k := range a.kept[n] {
		k.differs = k.root != a.tree.root()
	}
}

// ending checks what stands behind the directory: what was signed of the whole, and that nothing follows.
func (a *archive) ending(b *blocks, directoryAt uint64, content []byte) {
	tag, signed := b.next()
	if tag != 'S' {
		a.derived(a.first, "what was signed of it cannot be read")
		return
	}
	a.statement(signed, content)
	sum := b.sum.Sum(nil)
	tag, end := b.next()
	if tag != 'Z' || len(end) != 40 || binary.BigEndian.Uint64(end) != directoryAt || !bytes.Equal(end[8:], sum) {
		a.derived(a.first, "its end is not that of what stands in front of it")
		return
	}
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		a.derived(a.until-1, "something follows its end")
		return
	}
	a.ended = true
}

func (a *archive) statement(signed, content []byte) {
	tables := sha256.Sum256(a.tables)
	want := fmt.Sprintf("%s\n%s\n%d %d %d\n%s\n%s\n", archiveMagic, a.origin, a.epoch, a.first, a.until, base64.StdEncoding.EncodeToString(content), base64.StdEncoding.EncodeToString(tables[:]))
	text, lines, found := bytes.Cut(signed, []byte("\n\n"))
	if !found || string(text)+"\n" != want {
		a.derived(a.first, "entries %d to %d, or what they are found by, are not what was signed", a.first, a.until-1)
		return
	}
	// A statement is a note like a checkpoint; its text is another. Whoever signed a checkpoint did not sign this.
	n := checkpoint{origin: a.origin, text: []byte(want), lines: signatures(lines)}
	if !n.signedBy(a.trusted) {
		a.derived(a.first, "no key that is trusted signed it as a whole")
	}
}

// signatures reads the lines of a note's signatures; one that cannot be read is left out.
func signatures(lines []byte) (out []signature) {
	for line := range bytes.Lines(lines) {
		rest, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("— "))
		name, encoded, ok2 := strings.Cut(string(rest), " ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if ok && ok2 && err == nil && len(raw) > 4 && len(out) < maxSignatures {
			out = append(out, signature{name, binary.BigEndian.Uint32(raw), raw[4:]})
		}
	}
	return out
}

// records are an archive's entries, one after the other, as far as they can be read.
func records(r io.Reader) iter.Seq[archivedEntry] {
	return func(yield func(archivedEntry) bool) {
		b := newBlocks(r)
		b.exactly(int64(len(archiveMagic) + 1))
		for {
			tag, body := b.next()
			if tag == 0 || tag == 'Z' {
				return
			}
			if r, ok := parseArchived(body); tag == 'E' && (!ok || !yield(r)) {
				return
			}
		}
	}
}

// beside holds an archive against a later export of the living ledger: the export must continue the archive's checkpoint, and have the same entries. What was erased since is counted.
func (a *archive) beside(archivePath, exportPath string, keys []key) (later *checker, since int, err error) {
	f, err := os.Open(archivePath)
	if err != nil {
		return nil, 0, fmt.Errorf("%s cannot be opened", archivePath)
	}
	defer f.Close()
	e, err := open(exportPath)
	if err != nil {
		return nil, 0, err
	}
	defer e.Close()
	next, stop := iter.Pull(records(f))
	defer stop()
	later = newChecker(keys, nil)
	later.keep(a.note)
	for _, kept := range a.kept {
		for _, k := range kept {
			later.keep(k.checkpoint)
		}
	}
	later.each = func(e *entry, leaf hash) {
		at := *e.Position
		if at < a.first || at >= a.until {
			return
		}
		r, ok := next()
		switch {
		case !ok || *r.Position != at || r.leaf != leaf:
			later.problem(at, "it is not the one in the archive")
		case e.Sealed == nil && e.Opened == nil && len(r.sealed) > 0:
			since++
		case e.Sealed != nil && !bytes.Equal(e.Sealed, r.sealed):
			later.problem(at, "what is sealed in it is not what is in the archive")
		}
	}
	err = later.read(e)
	return later, since, err
}

func runArchive(path string, c *checker, exportPath string, out, errs io.Writer) int {
	f, err := open(path)
	if err != nil {
		fmt.Fprintln(errs, "verify:", err)
		return 2
	}
	defer f.Close()
	a, err := readArchive(f, c)
	if err != nil {
		fmt.Fprintln(errs, "verify:", err)
		return 1
	}
	if len(c.kept) > 0 && a.held == 0 && exportPath == "" && a.found == 0 {
		a.derived(a.first, "it can be held against none of the checkpoints that were kept elsewhere: give -export, which can, or those of its own time")
	}
	fmt.Fprintf(out, "archive of ledger %s: key epoch %d, entries %d to %d, under a checkpoint of %d\n", a.origin, a.epoch, a.first, a.until-1, a.note.size)
	for _, w := range a.witness {
		if w.size > 0 {
			fmt.Fprintf(out, "witness %s cosigned %d entries, at %s\n", w.key.name, w.size, w.at.Format("2006-01-02T15:04:05Z07:00"))
		}
	}
	if a.held+a.unheld > 0 {
		fmt.Fprintf(out, "held against %d checkpoints that were kept elsewhere; %d more are of other sizes, or no key of this ledger signed them\n", a.held, a.unheld)
	}
	fmt.Fprintf(out, "payloads: %d opened, %d erased before it was written\n", a.opened, len(a.erased))
	if exportPath != "" && a.found == 0 {
		later, since, err := a.beside(path, exportPath, a.trusted)
		if err != nil {
			fmt.Fprintln(errs, "verify:", err)
			return 1
		}
		fmt.Fprintf(out, "held against an export of %d entries: %d of the archive's were erased since\n", later.tree.size, since)
		if since > 0 {
			fmt.Fprintln(out, "an archive that holds what was erased is to be written anew, and this file to be destroyed")
		}
		a.found, a.problems = later.found, later.problems
	}
	if a.found == 0 {
		fmt.Fprintln(out, "sound")
		return 0
	}
	fmt.Fprintf(out, "NOT SOUND: %d problems, the first at entry %d\n", a.found, a.problems[0].position)
	for _, p := range a.problems {
		fmt.Fprintf(out, "  entry %d: %s\n", p.position, p.text)
	}
	return 1
}

// proveByArchive checks that the receipt's entry stands in an archive, which is checked whole.
func proveByArchive(r receipt, path string, c *checker) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.New("the archive cannot be opened")
	}
	defer f.Close()
	c.leaves[r.position] = hash{}
	a, err := readArchive(f, c)
	switch {
	case err != nil:
		return err
	case c.found > 0:
		return fmt.Errorf("the archive is not sound: %d problems, the first at entry %d: %s", c.found, c.problems[0].position, c.problems[0].text)
	case r.origin != "" && r.origin != c.origin:
		return errors.New("the receipt is of another ledger")
	case r.position < a.first || r.position >= a.until:
		return fmt.Errorf("entry %d is not in this archive, which has %d to %d", r.position, a.first, a.until-1)
	case c.leaves[r.position] != r.leaf:
		return fmt.Errorf("entry %d is NOT what the receipt says: another entry stands there", r.position)
	}
	return nil
}
