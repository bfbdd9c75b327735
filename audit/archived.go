package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ArchiveError is why an archive cannot be asked: fixed words, which say what to do.
type ArchiveError string

// Error says it.
func (e ArchiveError) Error() string { return "this archive cannot be asked: " + string(e) }

// The reasons.
const (
	archiveNone      ArchiveError = "the broker has no folder of archives (ledger.archives)"
	archiveName      ArchiveError = "name a file in the broker's folder of archives, without the folder: letters, digits, '-', '_' and '.' only"
	archiveMissing   ArchiveError = "there is no file of that name in the broker's folder of archives, or it cannot be opened"
	archiveOther     ArchiveError = "it is not an archive of version 1"
	archiveElsewhere ArchiveError = "it is of another ledger: ask the broker of that one"
	archiveForked    ArchiveError = "it holds another history than this ledger: it was written from a copy that went on by itself, or from a later state than this; write it anew"
	archiveUnsigned  ArchiveError = "no key of this ledger signed it"
	archiveBroken    ArchiveError = "it is damaged: `verify archive` says where; put a sound copy in its place, or write it anew"
)

// Archives is a folder of archives. What is asked of one stays open for the next question; it is safe for concurrent use.
type Archives struct {
	root *os.Root
	mu   sync.Mutex
	open []*archive // that asked last in front
}

// maxOpenArchives is how many are kept open.
const maxOpenArchives = 24

// OpenArchives opens a folder of archives.
func OpenArchives(dir string) (*Archives, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errors.New("the folder of archives cannot be opened")
	}
	return &Archives{root: root}, nil
}

// Close closes what is open. No question may be asked any more.
func (a *Archives) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	for _, x := range a.open {
		err = errors.Join(err, x.closer.Close())
	}
	a.open = nil
	return errors.Join(err, a.root.Close())
}

// validArchiveName reports whether a name is that of a file in the folder itself.
func validArchiveName(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 100 && s[0] != '.'
}

// archive is an archive of this ledger whose statement was checked. Where its entries stand and what they are found by is checked segment by segment, when it is first needed; an entry is
// opened like any other, which checks it.
type archive struct {
	ArchiveRange
	proved   State // the checkpoint that it is proved under
	name     string
	info     os.FileInfo
	file     io.ReaderAt
	closer   io.Closer
	size     uint64
	segments []*archiveSegmentAt
	users    int  // questions that are being answered from it; of Archives
	left     bool // it is no longer among those that are open: who answers last closes it

	mu       sync.RWMutex
	erased   []uint64 // a bit for each entry that the ledger has erased since
	redacted uint64   // Redact entries below this are in it
}

type archiveSegmentAt struct {
	from          uint64
	count         uint64
	began         time.Time // of its first entry
	places, index uint64    // where their blocks stand
	items         uint64    // of the index
	sums          [2][32]byte
	once          sync.Once // checks it
	broken        bool
}

// take returns the archive of a name, checked against the signing keys that the ledger names. give MUST be called when it is no longer read.
func (a *Archives) take(name, origin string, signers []string) (*archive, error) {
	if !validArchiveName(name) {
		return nil, archiveName
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	info, err := a.root.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, archiveMissing
	}
	if i := slices.IndexFunc(a.open, func(x *archive) bool {
		return x.name == name && os.SameFile(x.info, info) && x.info.Size() == info.Size() && x.info.ModTime().Equal(info.ModTime())
	}); i >= 0 {
		x := a.open[i]
		a.open = slices.Insert(slices.Delete(a.open, i, i+1), 0, x)
		x.users++
		return x, nil
	}
	f, err := a.root.Open(name)
	if err != nil {
		return nil, archiveMissing
	}
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close() // opened for reading only
		return nil, archiveMissing
	}
	x, err := openArchive(f, info.Size(), origin, signers)
	if err != nil {
		_ = f.Close() // opened for reading only
		return nil, err
	}
	x.name, x.info, x.closer, x.users = name, info, f, 1
	var stay []*archive
	for _, other := range a.open {
		if other.name == name || len(stay) == maxOpenArchives-1 {
			a.leave(other)
		} else {
			stay = append(stay, other)
		}
	}
	a.open = append([]*archive{x}, stay...)
	return x, nil
}

func (a *Archives) leave(x *archive) {
	if x.left = true; x.users == 0 {
		_ = x.closer.Close() // opened for reading only
	}
}

// give ends what take began. Of none it does nothing.
func (a *Archives) give(x *archive) {
	if x == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if x.users--; x.users == 0 && x.left {
		_ = x.closer.Close() // opened for reading only
	}
}

// Caps on what a file may say of itself, so that none can have more read than it is long.
const (
	maxArchiveHead     = 1 << 10
	maxArchiveProof    = 2 + 2*64*sha256.Size + maxNote
	maxArchiveSegments = 1 << 16 // 4,294,967,296 entries
)

// openArchive reads what stands around the entries of an archive, and checks who signed it.
func openArchive(f io.ReaderAt, size int64, origin string, signers []string) (*archive, error) {
	a := &archive{file: f, size: uint64(size)}
	magic, ok := a.bytes(0, uint64(len(archiveMagic)+1))
	if !ok || string(magic) != archiveMagic+"\n" {
		return nil, archiveOther
	}
	at := uint64(len(magic))
	head, ok := a.block(at, blockHead, maxArchiveHead)
	lines := strings.Split(string(head), "\n")
	if !ok || len(lines) != 5 {
		return nil, archiveBroken
	}
	epoch, err := strconv.ParseUint(lines[1], 10, 32)
	from, err2 := strconv.ParseUint(lines[2], 10, 62)
	until, err3 := strconv.ParseUint(lines[3], 10, 62)
	a.ArchiveRange = ArchiveRange{uint32(epoch), from, until}
	if errors.Join(err, err2, err3) != nil || from >= until || string(a.head(lines[0])) != string(head) {
		return nil, archiveBroken
	}
	if lines[0] != origin {
		return nil, archiveElsewhere
	}
	at += blockHeader + uint64(len(head))
	proof, ok := a.block(at, blockProof, maxArchiveProof)
	if !ok {
		return nil, archiveBroken
	}
	signedUnder := proof
	for range 2 { // the hashes on either side, which are for whoever has no ledger
		if len(signedUnder) == 0 || len(signedUnder) < 1+sha256.Size*int(signedUnder[0]) {
			return nil, archiveBroken
		}
		signedUnder = signedUnder[1+sha256.Size*int(signedUnder[0]):]
	}
	if a.proved, err = (Checkpoint{Note: signedUnder}).State(); err != nil {
		return nil, archiveBroken
	}
	tables := slices.Concat(blockOf(blockHead, head), blockOf(blockProof, proof))

	const end = blockHeader + endBody
	last, ok := a.block(a.size-min(a.size, end), blockEnd, endBody)
	if !ok || len(last) != endBody {
		return nil, archiveBroken
	}
	at = binary.BigEndian.Uint64(last)
	directory, ok := a.block(at, blockDirectory, maxArchiveSegments*directoryItem)
	if !ok || !a.list(directory) {
		return nil, archiveBroken
	}
	sum := sha256.Sum256(append(tables, blockOf(blockDirectory, directory)...))
	signed, ok := a.block(at+blockHeader+uint64(len(directory)), blockStatement, maxNote)
	if !ok {
		return nil, archiveBroken
	}
	said := strings.Split(string(signed), "\n")
	var content []byte
	if len(said) > 4 {
		content, err = base64.StdEncoding.Strict().DecodeString(said[3])
	}
	want := archiveStatement(origin, a.ArchiveRange, content, sum[:])
	if err != nil || len(content) != sha256.Size || !bytes.HasPrefix(signed, []byte(want+"\n")) {
		return nil, archiveBroken
	}
	if !(Checkpoint{Note: signed}).verified(signers) {
		return nil, archiveUnsigned
	}
	return a, nil
}

func blockOf(tag byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{tag}, uint32(len(body))), body...)
}

// bytes reads n bytes at a place, and false where they are not there.
func (a *archive) bytes(at, n uint64) ([]byte, bool) {
	if at > a.size || n > a.size-at {
		return nil, false
	}
	b := make([]byte, n)
	_, err := a.file.ReadAt(b, int64(at))
	return b, err == nil
}

// block reads the body of a block, of at most so many bytes.
func (a *archive) block(at uint64, tag byte, most int) ([]byte, bool) {
	h, ok := a.bytes(at, blockHeader)
	if !ok || h[0] != tag || binary.BigEndian.Uint32(h[1:]) > uint32(most) {
		return nil, false
	}
	return a.bytes(at+blockHeader, uint64(binary.BigEndian.Uint32(h[1:])))
}

// list reads the directory, which must have the whole range in order.
func (a *archive) list(b []byte) bool {
	next := a.From
	for ; len(b) >= directoryItem; b = b[directoryItem:] {
		s := &archiveSegmentAt{from: binary.BigEndian.Uint64(b), count: uint64(binary.BigEndian.Uint32(b[8:])), began: time.UnixMicro(int64(binary.BigEndian.Uint64(b[12:]))).UTC(),
			places: binary.BigEndian.Uint64(b[20:]), index: binary.BigEndian.Uint64(b[28:]), sums: [2][32]byte{[32]byte(b[36:]), [32]byte(b[68:])}}
		a.segments = append(a.segments, s)
		each := a.segments[0].count // all but the last are of one size
		if s.from != next || s.count == 0 || each > archiveSegment || s.count > each || s.from+s.count > a.Until || s.count < each && s.from+s.count != a.Until {
			return false
		}
		next += s.count
	}
	return len(b) == 0 && next == a.Until
}

// errBroken is of an archive that is not what was signed: no answer is given from it.
var errBroken = fmt.Errorf("%w: %w", ErrDamaged, archiveBroken)

// checked returns a segment whose places and index are what was signed.
func (a *archive) checked(n int) (*archiveSegmentAt, error) {
	s := a.segments[n]
	s.once.Do(func() {
		s.broken = true
		for i, at := range []uint64{s.places, s.index} {
			h, ok := a.bytes(at, blockHeader)
			if !ok || h[0] != []byte{blockPlaces, blockIndex}[i] {
				return
			}
			length := uint64(binary.BigEndian.Uint32(h[1:]))
			sum := sha256.New()
			if copied, err := io.Copy(sum, io.NewSectionReader(a.file, int64(at+blockHeader), int64(length))); err != nil || uint64(copied) != length || [32]byte(sum.Sum(nil)) != s.sums[i] {
				return
			}
			if i == 0 && length != 8*s.count || i == 1 && length%indexItem != 0 {
				return
			}
			s.items = length / indexItem
		}
		s.broken = false
	})
	if s.broken {
		return nil, errBroken
	}
	return s, nil
}

// holds reports whether a position is in the archive's range.
func (a ArchiveRange) holds(position uint64) bool { return position >= a.From && position < a.Until }

// entry reads one. What it says is checked when it is opened; that it says nothing is believed of those alone that the ledger has erased, or whoever emptied others would have rows left out.
func (a *archive) entry(position uint64) (Entry, error) {
	n := int((position - a.From) / a.segments[0].count)
	s, err := a.checked(n)
	if err != nil {
		return Entry{}, err
	}
	local := position - s.from
	places, ok := a.bytes(s.places+blockHeader+8*local, 8*min(2, s.count-local))
	if !ok {
		return Entry{}, errBroken
	}
	at, end := binary.BigEndian.Uint64(places), s.places // it is as long as the places say, so that none can have more read than it is
	if len(places) > 8 {
		end = binary.BigEndian.Uint64(places[8:])
	}
	if end > a.size || at > end || end-at < blockHeader || end-at > blockHeader+maxArchiveEntry {
		return Entry{}, errBroken
	}
	b, ok := a.block(at, blockEntry, int(end-at-blockHeader))
	if !ok || uint64(len(b)) != end-at-blockHeader || len(b) < entryFixed+4 || binary.BigEndian.Uint64(b) != position {
		return Entry{}, errBroken
	}
	e := Entry{Position: position, Version: b[8], Type: EntryType(b[9]), Time: time.UnixMicro(int64(binary.BigEndian.Uint64(b[10:]))).UTC(), Epoch: binary.BigEndian.Uint32(b[18:]),
		Commitment: [32]byte(b[22:]), Leaf: [32]byte(b[54:])}
	length := uint64(binary.BigEndian.Uint32(b[entryFixed:]))
	if length > uint64(len(b)-entryFixed-4) {
		return Entry{}, errBroken
	}
	switch gone := a.gone(position); {
	case gone:
	case length == 0:
		return Entry{}, errBroken
	default:
		e.Sealed = b[entryFixed+4:][:length:length]
	}
	return e, nil
}

func (a *archive) gone(position uint64) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	n := position - a.From
	return len(a.erased) > 0 && a.erased[n/64]>>(n%64)&1 == 1
}

// learn takes in what the ledger has erased since: an entry that is erased is not answered from anywhere.
func (a *archive) learn(r Reader, keys *Keys) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		positions, err := r.OfType(TypeRedact, a.redacted, maxFound)
		if err != nil {
			return err
		}
		entries, err := r.EntriesAt(positions)
		if err != nil {
			return err
		}
		if len(entries) != len(positions) {
			return fmt.Errorf("%w: an entry that says what was erased is missing", ErrDamaged)
		}
		for i := range entries {
			p, err := decode(keys, &entries[i])
			if err != nil {
				return err
			}
			if a.erased == nil {
				a.erased = make([]uint64, (a.Until-a.From+63)/64)
			}
			p.Redact.positions(func(position uint64) {
				if a.holds(position) {
					a.erased[(position-a.From)/64] |= 1 << ((position - a.From) % 64)
				}
			})
			a.redacted = entries[i].Position + 1
		}
		if len(positions) < maxFound {
			return nil
		}
	}
}

// bitmap has a bit for each entry of a segment.
type bitmap [archiveSegment / 64]uint64

// carrying marks the entries of a segment that carry any of the marks.
func (a *archive) carrying(s *archiveSegmentAt, any []Mark, into *bitmap) error {
	for _, m := range any {
		key := archiveKey(m)
		var failed error
		item := func(i uint64) []byte {
			b, ok := a.bytes(s.index+blockHeader+i*indexItem, indexItem)
			if !ok {
				failed = errBroken
				return make([]byte, indexItem)
			}
			return b
		}
		first := uint64(sort.Search(int(s.items), func(i int) bool { return bytes.Compare(item(uint64(i))[:indexKey], key[:]) >= 0 }))
		const atOnce = 512
		for i := first; failed == nil && i < s.items; {
			n := min(atOnce, s.items-i)
			b, ok := a.bytes(s.index+blockHeader+i*indexItem, n*indexItem)
			if !ok {
				return errBroken
			}
			for ; len(b) > 0 && bytes.Equal(b[:indexKey], key[:]); b = b[indexItem:] {
				local := binary.BigEndian.Uint16(b[indexKey:])
				into[local/64] |= 1 << (local % 64)
			}
			if len(b) > 0 {
				break
			}
			i += n
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// before is the first position in the archive of which no entry from there on that can be opened is from before t, Until if all are. A time is believed once its entry has opened. What is erased has
// none that could be, and is found by nobody.
func (a *archive) before(t time.Time, keys *Keys) (uint64, error) {
	n := sort.Search(len(a.segments), func(i int) bool { return !a.segments[i].began.Before(t) })
	if n == 0 {
		return a.From, nil
	}
	s := a.segments[n-1] // it began before; its end may not be
	var failed error
	local := sort.Search(int(s.count), func(i int) bool {
		for position := s.from + uint64(i); failed == nil && position < s.from+s.count; position++ {
			if a.gone(position) {
				continue
			}
			e, err := a.entry(position)
			if err == nil {
				_, err = e.open(keys)
			}
			failed = err
			return !e.Time.Before(t)
		}
		return true
	})
	return s.from + uint64(local), failed
}

// search is Reader.Search of what the archive holds.
func (a *archive) search(q Query, keys *Keys) (out []uint64, err error) {
	lo, hi := max(q.Least, a.From), min(q.Before, a.Until)
	if !q.From.IsZero() {
		first, err := a.before(q.From, keys)
		if err != nil {
			return nil, err
		}
		lo = max(lo, first)
	}
	if !q.Until.IsZero() {
		end, err := a.before(q.Until, keys)
		if err != nil {
			return nil, err
		}
		hi = min(hi, end)
	}
	if len(q.Types) > 0 {
		var types []Mark
		for _, t := range q.Types {
			types = append(types, Mark{markType, string([]byte{byte(t)})})
		}
		q.All = append(slices.Clone(q.All), types)
	}
	for n := len(a.segments) - 1; n >= 0 && lo < hi && len(out) < q.Limit; n-- {
		if s := a.segments[n]; s.from >= hi || s.from+s.count <= lo {
			continue
		}
		s, err := a.checked(n)
		if err != nil {
			return nil, err
		}
		var all bitmap
		for i := range all {
			all[i] = ^uint64(0)
		}
		for _, group := range q.All {
			var some bitmap
			if err := a.carrying(s, group, &some); err != nil {
				return nil, err
			}
			for i := range all {
				all[i] &= some[i]
			}
		}
		top := min(s.count, hi-s.from) // locals below this
		for word := int(top+63)/64 - 1; word >= 0 && len(out) < q.Limit; word-- {
			for w := all[word]; w != 0 && len(out) < q.Limit; {
				bit := bits.Len64(w) - 1
				w &^= 1 << bit
				local := uint64(word*64 + bit)
				if local >= top || s.from+local < lo {
					continue
				}
				out = append(out, s.from+local)
			}
		}
	}
	return out, nil
}

// archive returns the archive of a name, nil for none. It MUST be given back to l.archives.
func (l *Ledger) archive(ctx context.Context, name string) (*archive, error) {
	if name == "" {
		return nil, nil
	}
	if l.archives == nil {
		return nil, archiveNone
	}
	var signers []string
	err := l.view(ctx, func(r Reader) (err error) {
		signers, err = l.recordedSigners(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	x, err := l.archives.take(name, l.origin, signers)
	if err != nil {
		return nil, err
	}
	if err := l.view(ctx, x.continued); err != nil {
		l.archives.give(x)
		return nil, err
	}
	return x, nil
}

// continued checks that a ledger goes on from what the archive holds. A copy of one has its name and its keys, and whatever else it recorded would be told as what happened here.
func (a *archive) continued(r Reader) error {
	head, err := r.Head()
	if err != nil {
		return err
	}
	of, err := closedEpoch(r, a.Epoch)
	switch {
	case errors.Is(err, ErrInvalid) || err == nil && (of != a.ArchiveRange || a.proved.Size > head.Size):
		return archiveForked
	case err != nil:
		return err
	}
	root, err := rootAt(r, a.proved.Size)
	if err == nil && root != a.proved.Root {
		err = archiveForked
	}
	return err
}

// beside reads the archive's range from it, and all else from a store. What the ledger has erased is known before anything is read.
func (a *archive) beside(r Reader, keys *Keys) (Reader, error) {
	return archived{r, a, keys}, a.learn(r, keys)
}

// archived is a ledger of which one epoch is read from its archive: what stands in the range comes from the file, all else from the store.
type archived struct {
	Reader
	file *archive
	keys *Keys
}

// Entry implements Reader.
func (r archived) Entry(position uint64) (Entry, error) {
	if r.file.holds(position) {
		return r.file.entry(position)
	}
	return r.Reader.Entry(position)
}

// EntriesAt implements Reader.
func (r archived) EntriesAt(positions []uint64) ([]Entry, error) {
	outside := slices.DeleteFunc(slices.Clone(positions), r.file.holds)
	var living []Entry
	if len(outside) > 0 {
		var err error
		if living, err = r.Reader.EntriesAt(outside); err != nil {
			return nil, err
		}
	}
	out := make([]Entry, 0, len(positions))
	for _, position := range positions {
		if r.file.holds(position) {
			e, err := r.file.entry(position)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		} else if len(living) > 0 && living[0].Position == position {
			out, living = append(out, living[0]), living[1:]
		}
	}
	return out, nil
}

// Newest implements Reader.
func (r archived) Newest(any []Mark) (uint64, bool, error) {
	position, ok, err := r.Reader.Newest(any)
	if err != nil || ok && position >= r.file.Until {
		return position, ok, err
	}
	in, err := r.file.search(Query{All: [][]Mark{any}, Before: r.file.Until, Limit: 1}, r.keys)
	if err != nil || len(in) == 0 {
		return position, ok, err
	}
	return max(position, in[0]), true, nil
}

// Searches implements Reader.
func (r archived) Searches(list []Query) ([][]uint64, error) {
	out := make([][]uint64, len(list))
	for i, q := range list {
		var err error
		if out[i], err = r.Search(q); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Search implements Reader: what is newer than the range from the store, then from the file, then what is older from the store.
func (r archived) Search(q Query) (out []uint64, err error) {
	within := func(q Query) ([]uint64, error) { return r.file.search(q, r.keys) }
	for _, part := range []struct {
		least, before uint64
		search        func(Query) ([]uint64, error)
	}{{r.file.Until, q.Before, r.Reader.Search}, {r.file.From, r.file.Until, within}, {0, r.file.From, r.Reader.Search}} {
		p := q
		p.Least, p.Before, p.Limit = max(q.Least, part.least), min(q.Before, part.before), q.Limit-len(out)
		if p.Least >= p.Before || p.Limit <= 0 {
			continue
		}
		found, err := part.search(p)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
