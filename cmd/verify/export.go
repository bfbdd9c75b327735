package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// problem is something that is not as it must be. The text is of fixed words and numbers: nothing of a person.
type problem struct {
	position uint64
	text     string
	derived  bool // it follows from other evidence, or names only between which entries something is wrong
}

// maxLine caps one line: the largest payload of an entry is 32 MiB.
const maxLine = 64 << 20

// checker holds an export against the keys that are trusted.
type checker struct {
	trusted  []key // those given, and those that the ledger named under a checkpoint that one of them signed
	named    []key // by Key entries; trusted from the next good checkpoint on
	keys     payloadKeys
	kept     map[uint64][]*elsewhere // checkpoints that were kept elsewhere, by size: the export must continue them
	from     uint64                  // of the newest good checkpoint: what is before it is what was signed
	problems []problem
	found    int

	origin   string
	tree     tree
	began    int64 // of the first entry
	time     int64 // of the last
	ended    bool
	signed   int
	last     checkpoint
	opened   int
	clear    bool     // it was made with payloads in clear
	shut     []uint64 // positions of payloads that nothing at hand opens; the first of them
	shutAll  int      // how many there are
	erased   map[uint64]uint8
	redacted map[uint64]uint64
	replay   *replay
	leaves   map[uint64]hash    // of positions that somebody wants to know
	each     func(*entry, hash) // told of each entry in its place, and of its leaf; nil: nobody
	witness  []witnessed

	continues *checkpoint // the last of the ledger that this one continues
}

// elsewhere is a checkpoint that was kept elsewhere. Whether it is signed by a key of the ledger is known only when all was read: keys change, and the export names
// the later ones.
type elsewhere struct {
	checkpoint
	differs bool   // from as many entries of the export
	from    uint64 // then, where the entries that may differ begin
	counts  bool   // it is this ledger's
}

// keep takes in a checkpoint that was kept elsewhere. Two of one size that differ are both kept: the export cannot continue both.
func (c *checker) keep(k checkpoint) {
	for _, other := range c.kept[k.size] {
		if bytes.Equal(other.text, k.text) {
			other.lines = append(other.lines, k.lines...)
			return
		}
	}
	c.kept[k.size] = append(c.kept[k.size], &elsewhere{checkpoint: k})
}

// witnessed is the last that a witness cosigned.
type witnessed struct {
	key  key
	size uint64
	at   time.Time
}

func newChecker(trusted []key, keys payloadKeys) *checker {
	c := &checker{trusted: trusted, keys: keys, erased: map[uint64]uint8{}, redacted: map[uint64]uint64{}, leaves: map[uint64]hash{}, kept: map[uint64][]*elsewhere{}}
	c.replay = newReplay(c)
	return c
}

const maxProblems = 100

func (c *checker) problem(position uint64, format string, args ...any) {
	c.note(problem{position, fmt.Sprintf(format, args...), false})
}

func (c *checker) derived(position uint64, format string, args ...any) {
	c.note(problem{position, fmt.Sprintf(format, args...), true})
}

func (c *checker) note(p problem) {
	if c.found++; len(c.problems) < maxProblems {
		c.problems = append(c.problems, p)
	}
}

// inOrder sorts problems so that the first names the first entry that is bad as exactly as can be.
func inOrder(a, b problem) int {
	if a.derived != b.derived {
		if a.derived {
			return 1
		}
		return -1
	}
	return cmp.Compare(a.position, b.position)
}

var errFormat = errors.New("this is not an export of a ledger: its first line names the ledger and version 1")

// read reads a whole export. The error is of the file; what is wrong with the ledger is in problems, in order of position.
func (c *checker) read(r io.Reader) error {
	err := c.lines(r)
	slices.SortStableFunc(c.problems, inOrder)
	return err
}

func (c *checker) lines(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 1<<20), maxLine)
	first := true
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case first:
			var head struct {
				Ledger  string `json:"ledger"`
				Version int    `json:"version"`
			}
			if strictly(line, &head) != nil || head.Version != 1 || head.Ledger == "" {
				return errFormat
			}
			c.origin, first = head.Ledger, false
		case c.ended:
			c.problem(c.tree.size, "there are lines after the end")
			return nil
		case bytes.HasPrefix(line, []byte(`{"position":`)):
			var e entry
			if strictly(line, &e) != nil || e.Position == nil {
				c.problem(c.tree.size, "line of entry %d cannot be read", c.tree.size)
				return nil
			}
			if !c.entry(&e) {
				return nil
			}
		case bytes.HasPrefix(line, []byte(`{"checkpoint":`)):
			var note struct {
				Checkpoint string `json:"checkpoint"`
			}
			if strictly(line, &note) != nil {
				c.problem(c.tree.size, "a checkpoint after entry %d cannot be read", c.tree.size)
				return nil
			}
			c.checkpoint([]byte(note.Checkpoint))
		default:
			var end struct {
				End *uint64 `json:"end"`
			}
			if strictly(line, &end) != nil || end.End == nil {
				c.problem(c.tree.size, "a line after entry %d cannot be read", c.tree.size)
				return nil
			}
			if *end.End != c.tree.size {
				c.derived(min(c.tree.size, *end.End), "the export ends with %d entries and says %d", c.tree.size, *end.End)
			}
			c.ended = true
		}
	}
	if err := lines.Err(); err != nil {
		return errors.New("the export cannot be read to its end")
	}
	if first {
		return errFormat
	}
	c.finish()
	return nil
}

func strictly(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errFormat
	}
	return nil
}

// entry checks one entry, and reports whether the next can be made sense of.
func (c *checker) entry(e *entry) bool {
	at := c.tree.size
	if *e.Position != at {
		c.problem(min(at, *e.Position), "entry %d stands where entry %d must: one was taken away, put in or moved", *e.Position, at)
		return false
	}
	commitment, ok := parseHash(e.Commitment)
	stated, ok2 := parseHash(e.Leaf)
	if !ok || !ok2 {
		c.problem(at, "its hashes cannot be read")
		return false
	}
	leaf := hash(sha256.Sum256(e.leafData(commitment)))
	if leaf != stated {
		c.problem(at, "version, type, position, time or commitment differ from its leaf")
	}
	if e.Version != 1 {
		c.problem(at, "its version is not one that this program knows")
	}
	if e.Time < c.time {
		c.problem(at, "its time is before that of the entry in front")
	}
	if c.time = e.Time; at == 0 {
		c.began = e.Time
	}
	c.tree.add(stated)
	if _, wanted := c.leaves[at]; wanted {
		c.leaves[at] = stated
	}
	if c.each != nil {
		c.each(e, stated)
	}
	for _, k := range c.kept[at+1] {
		switch {
		case k.root != c.tree.root():
			k.differs, k.from = true, c.from
		case k.origin == c.origin && k.signedBy(c.trusted):
			c.from = max(c.from, at+1)
		}
	}
	switch {
	case e.Sealed == nil && e.Opened == nil:
		c.erased[at] = e.Type
		c.replay.erased(at, e.Type)
		return true
	case e.Sealed != nil && e.Opened != nil:
		c.problem(at, "it is there sealed and opened")
	}
	text, ok, err := e.payload(c.keys, commitment)
	if err != nil {
		c.problem(at, "%s", err)
		c.replay.lost()
		return true
	}
	if !ok {
		if c.shutAll++; len(c.shut) < maxProblems {
			c.shut = append(c.shut, at)
		}
		c.replay.broken = true
		return true
	}
	c.clear = c.clear || e.Opened != nil && e.Type != typeKey
	c.opened++
	c.say(e, text)
	return true
}

func parseHash(text string) (h hash, ok bool) {
	b, err := hex.DecodeString(text)
	return h, err == nil && copy(h[:], b) == len(h) && len(b) == len(h)
}

// say takes in what an opened entry says.
func (c *checker) say(e *entry, text []byte) {
	var p payload
	if json.Unmarshal(text, &p) != nil {
		c.problem(*e.Position, "its payload is not JSON of a ledger")
		return
	}
	switch e.Type {
	case typeKey:
		if p.Epoch == nil || p.Epoch.Origin != c.origin {
			c.problem(*e.Position, "it names another ledger")
			return
		}
		if p.Epoch.Continues != "" {
			before, err := parseCheckpoint([]byte(p.Epoch.Continues))
			if err != nil || *e.Position != 0 {
				c.problem(*e.Position, "it names a ledger before this one that it cannot")
				return
			}
			c.continues = &before
		}
		if p.Epoch.Signer != "" {
			k, err := parseKey(p.Epoch.Signer)
			if err != nil || k.kind != typeSignature || k.name != c.origin {
				c.problem(*e.Position, "it names a signing key that is none")
				return
			}
			c.named = append(c.named, k)
		}
	case typeRedact:
		if p.Redact == nil {
			c.problem(*e.Position, "it names nothing that was erased")
			return
		}
		total := uint64(0)
		for _, r := range p.Redact.Ranges {
			if r.Count > 1000 || r.From >= *e.Position {
				c.problem(*e.Position, "it names entries that it cannot")
				return
			}
			for i := range r.Count {
				c.redacted[r.From+i] = *e.Position
			}
			total += r.Count
		}
		if total != p.Redact.Count {
			c.problem(*e.Position, "it does not name as many entries as it says")
		}
	}
	if c.keys != nil || e.Opened != nil && e.Type != typeKey {
		c.replay.take(e, &p)
	}
}

// checkpoint checks a checkpoint of as many entries as were read.
func (c *checker) checkpoint(note []byte) {
	s, err := parseCheckpoint(note)
	at := c.tree.size
	switch {
	case err != nil:
		c.derived(c.from, "the checkpoint after entry %d is none", at)
	case s.origin != c.origin || s.size != at:
		c.derived(c.from, "the checkpoint after entry %d is of another ledger or size", at)
	case !s.signedBy(c.trusted):
		c.derived(c.from, "the checkpoint of %d entries is not signed by a key that is trusted", at)
	case s.root != c.tree.root():
		c.derived(c.from, "the first %d entries are not those that were signed: the first that differs is one of %d to %d", at, c.from, at-1)
	default:
		c.signed, c.last, c.from = c.signed+1, s, at
		c.trusted, c.named = append(c.trusted, c.named...), nil // now they are under a signature that is trusted
		for i := range c.witness {
			if t, ok := s.cosignedBy(c.witness[i].key); ok {
				c.witness[i].size, c.witness[i].at = at, t
			}
		}
	}
}

// mayErase reports whether entries of a type may be erased.
func mayErase(kind uint8) bool {
	return kind != typeKey && kind != typePolicy && kind != typeImport && kind != typeImported && kind != typeAdopted && kind != typeRedact
}

func (c *checker) finish() {
	size := c.tree.size
	if !c.ended {
		c.derived(size, "the export was cut off after %d entries", size)
	}
	c.holdKept()
	if c.last.size != size {
		c.derived(c.last.size, "entries from %d on are under no checkpoint", c.last.size)
	}
	for _, w := range c.witness {
		if w.size == 0 {
			c.derived(size, "the witness %s has cosigned none of the checkpoints", w.key.name)
		}
	}
	// Whoever makes an export in clear opens all of it: what stays sealed in one says nothing, and nobody could tell what it would have said.
	if c.clear {
		for _, position := range c.shut {
			c.problem(position, "it stays sealed in an export with payloads in clear")
		}
		c.found += c.shutAll - len(c.shut)
	}
	for _, position := range slices.Sorted(maps.Keys(c.erased)) {
		if !mayErase(c.erased[position]) {
			c.problem(position, "an entry of type %d was erased", c.erased[position])
		}
		// Without keys nobody can tell whether an entry says so.
		if _, named := c.redacted[position]; !named && c.replay.on {
			c.replay.broken = true
			c.problem(position, "its payload is gone, and no entry says that it was erased")
		}
	}
	for _, position := range slices.Sorted(maps.Keys(c.redacted)) {
		if _, gone := c.erased[position]; !gone {
			c.problem(position, "entry %d says that it was erased, and it was not", c.redacted[position])
		}
	}
	c.replay.finish()
}

// holdKept holds the export against what was kept elsewhere, now that all keys of the ledger are known. What none of them signed and fits says nothing. What none signed
// and does not fit may be a stranger's, and may be of a key that the entries named which are not there any more: nobody can tell from here, so it is not passed over.
func (c *checker) holdKept() {
	size, any, cut := c.tree.size, false, false
	for _, n := range slices.Sorted(maps.Keys(c.kept)) {
		for _, k := range c.kept[n] {
			k.counts = k.origin == c.origin && k.signedBy(c.trusted)
			any = any || k.counts
			switch {
			case k.origin != c.origin:
			case !k.counts && k.differs:
				c.derived(k.from, "a checkpoint kept elsewhere, of %d entries, does not fit, and no key that this ledger names signed it: the entries that name its key were changed, or a stranger made it; ask the ledger's holder for all its public keys", n)
			case !k.counts && n > size:
				c.derived(c.from, "a checkpoint kept elsewhere is of %d entries, and there are %d, and no key that this ledger names signed it: entries were cut off, with the one that names its key, or a stranger made it; ask the ledger's holder for all its public keys", n, size)
			case !k.counts:
			case k.differs:
				c.derived(k.from, "the first %d entries are not those that a checkpoint kept elsewhere was signed for: the first that differs is one of %d to %d", n, k.from, n-1)
			case n > size && !cut:
				cut = true
				c.derived(c.from, "a checkpoint kept elsewhere is of %d entries, and there are %d: entries were cut off, the first that differs is one of %d to %d", n, size, c.from, n-1)
			}
		}
	}
	if len(c.kept) > 0 && !any {
		c.derived(size, "of the checkpoints that were kept elsewhere none is signed by a key that is trusted")
	}
}

// heldAgainst counts the checkpoints kept elsewhere that the export was held against, and those that none of the ledger's keys signed.
func (c *checker) heldAgainst() (counted, strange int) {
	for _, all := range c.kept {
		for _, k := range all {
			if k.counts {
				counted++
			} else {
				strange++
			}
		}
	}
	return counted, strange
}

func micros(n int64) time.Time { return time.UnixMicro(n).UTC() }
