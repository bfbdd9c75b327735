package years_test

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
)

// loader is an audit.Store that fills a SQLite file of the product's own schema as fast as the ledger can say what is to be written. It is for nothing else: it syncs nothing, holds in memory what
// the ledger asks for while it writes, and brings the marks into their order at the end, when they are written in one go. A file that was not finished is not one. What it writes is what
// the product's store would have written: TestLoaded holds the two against each other, by Verify.
type loader struct {
	mu         sync.Mutex
	db         *sql.DB
	prepared   map[string]*sql.Stmt
	folder     string
	head       audit.Head
	recent     []audit.Entry // by position, the newest so many
	kept       map[uint64]audit.Entry
	pending    []audit.Entry
	newest     map[audit.Mark]uint64
	nodes      map[[2]uint64]audit.Node
	last       audit.Checkpoint
	objections map[string]audit.ObjectionRow
	ofPerson   map[string][]string // ids
	open       map[uint64]time.Time
	alerts     []audit.AlertRow
	piles      map[heap]*pile // of marks
	err        error          // from now on nothing is done
	rowsOf     chan func()    // what is to be done with the file: one goroutine does it, beside the ledger's
	done       chan struct{}  // closed when it has ended
	broken     atomic.Pointer[error]
}

var _ audit.Store = (*loader)(nil)

// Sizes: entries that are remembered, and rows that are written at once.
const (
	recently = 1 << 14
	atOnce   = 64
)

// pile is a file of marks that belong together.
type pile struct {
	file *os.File
	to   *bufio.Writer
}

// heap says which: positions of one value; or values that are hashes of which the first bits are the same, with positions, which are sorted later.
type heap struct {
	kind   audit.MarkKind
	value  string
	hashes bool
}

// firstBits are the values of heaps of hashes.
var firstBits = func() (out [64]string) {
	for i := range out {
		out[i] = string([]byte{byte(i) << 2})
	}
	return out
}()

// newLoader makes a file with the product's schema and opens it for filling.
func newLoader(path string) (*loader, error) {
	made, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err != nil {
		return nil, err
	}
	if err := made.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=locking_mode(EXCLUSIVE)&_pragma=cache_size(-65536)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &loader{rowsOf: make(chan func(), 64), done: make(chan struct{}), db: db, prepared: map[string]*sql.Stmt{}, folder: filepath.Join(filepath.Dir(path), "piles"), recent: make([]audit.Entry, recently), kept: map[uint64]audit.Entry{}, newest: map[audit.Mark]uint64{}, nodes: map[[2]uint64]audit.Node{},
		objections: map[string]audit.ObjectionRow{}, ofPerson: map[string][]string{}, open: map[uint64]time.Time{}, piles: map[heap]*pile{}}
	if err := os.Mkdir(s.folder, 0o700); err != nil {
		return nil, err
	}
	if _, err = db.Exec(`BEGIN`); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		for f := range s.rowsOf {
			f()
		}
	}()
	return s, nil
}

// Update implements audit.Store. What failed once is over: there is nothing to go back to.
func (s *loader) Update(_ context.Context, _ audit.Wanted, f func(audit.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed := s.broken.Load(); failed != nil && s.err == nil {
		s.err = *failed
	}
	if s.err == nil {
		s.err = f(loading{s})
	}
	return s.err
}

// View implements audit.Store.
func (s *loader) View(_ context.Context, f func(audit.Reader) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f(loading{s})
}

// remembering is where the checkpoints of a ledger that is being filled go: nobody is told of them.
type remembering struct{ size uint64 }

var _ audit.Sink = (*remembering)(nil)

// Name implements audit.Sink.
func (*remembering) Name() string { return "while it is filled" }

// Holds implements audit.Sink.
func (m *remembering) Holds(context.Context) (uint64, bool, error) { return m.size, true, nil }

// Extend implements audit.Sink.
func (m *remembering) Extend(_ context.Context, c audit.Checkpoint, _ func(context.Context, uint64) ([][32]byte, error)) ([]byte, error) {
	m.size = c.Size
	return nil, nil
}

// Purge implements audit.Store.
func (s *loader) Purge(context.Context) error {
	return errors.New("a file that is being filled erases nothing")
}

// Close implements audit.Store: it writes all that was held back.
func (s *loader) Close() error {
	defer func() { _ = os.RemoveAll(s.folder) }() // of a temporary folder
	s.writeEntries()
	close(s.rowsOf)
	<-s.done
	if failed := s.broken.Load(); failed != nil {
		s.err = errors.Join(s.err, *failed)
	}
	s.writeMarks()
	for _, o := range slices.SortedFunc(maps.Values(s.objections), func(a, b audit.ObjectionRow) int { return cmp.Compare(a.ID, b.ID) }) {
		s.exec(`INSERT INTO objections (id, person, position) VALUES (?, ?, ?)`, o.ID, []byte(o.Person), o.Position)
	}
	for _, a := range s.alerts {
		s.exec(`INSERT INTO alerts (position, kind) VALUES (?, ?)`, a.Position, string(a.Kind))
	}
	for _, n := range s.nodes {
		s.exec(`INSERT INTO nodes (level, number, hash) VALUES (?, ?, ?)`, n.Level, n.Index, n.Hash[:])
	}
	var frontier []byte
	for _, h := range s.head.Frontier {
		frontier = append(frontier, h[:]...)
	}
	s.exec(`UPDATE head SET size = ?, newest = ?, frontier = ?`, s.head.Size, s.head.Newest.UnixMicro(), frontier)
	if len(s.open) > 0 && s.err == nil {
		s.err = errors.New("accesses are open")
	}
	s.exec(`COMMIT`)
	if failed := s.broken.Load(); failed != nil {
		s.err = errors.Join(s.err, *failed)
	}
	return errors.Join(s.err, s.db.Close())
}

// exec is called where the file is written: by one goroutine at a time. What failed once is over.
func (s *loader) exec(query string, args ...any) {
	if s.broken.Load() != nil {
		return
	}
	p, err := s.prepared[query], error(nil)
	if p == nil {
		if p, err = s.db.Prepare(query); err == nil {
			s.prepared[query] = p
		}
	}
	if err == nil {
		_, err = p.Exec(args...)
	}
	if err != nil {
		s.broken.Store(&err)
	}
}

// rows writes rows of some columns, many in one statement.
func (s *loader) rows(table string, columns int, args []any) {
	if len(args) == 0 {
		return
	}
	one := "(?" + strings.Repeat(", ?", columns-1) + ")"
	s.exec(`INSERT INTO `+table+` VALUES `+one+strings.Repeat(", "+one, len(args)/columns-1), args...)
}

func (s *loader) writeEntries() {
	list := s.pending
	s.pending = make([]audit.Entry, 0, atOnce)
	s.rowsOf <- func() {
		args := make([]any, 0, 8*len(list))
		for i := range list {
			e := &list[i]
			args = append(args, e.Position, e.Version, e.Type, e.Time.UnixMicro(), e.Epoch, e.Commitment[:], e.Leaf[:], e.Sealed)
		}
		s.rows("entries (position, version, type, time, epoch, commitment, leaf, sealed)", 8, args)
	}
}

// put adds a mark to its pile.
func (s *loader) put(m audit.Mark, position uint64) {
	of := heap{m.Kind, m.Value, len(m.Value) == 32}
	if of.hashes {
		of.value = firstBits[m.Value[0]>>2]
	}
	p := s.piles[of]
	if p == nil {
		f, err := os.Create(filepath.Join(s.folder, strconv.Itoa(len(s.piles))))
		if err != nil {
			s.err = err
			return
		}
		p = &pile{file: f, to: bufio.NewWriterSize(f, 1<<15)}
		s.piles[of] = p
	}
	if of.hashes {
		_, _ = p.to.WriteString(m.Value) // its error is that of Flush
	}
	_, _ = p.to.Write(binary.BigEndian.AppendUint64(nil, position))
}

// writeMarks writes them in the order of the index. A mark that was given twice counts once.
func (s *loader) writeMarks() {
	order := slices.SortedFunc(maps.Keys(s.piles), func(a, b heap) int { return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.value, b.value)) })
	for _, of := range order {
		p := s.piles[of]
		err := errors.Join(p.to.Flush(), p.file.Close())
		text, read := os.ReadFile(p.file.Name())
		if err = errors.Join(err, read, os.Remove(p.file.Name())); err != nil && s.err == nil {
			s.err = err
		}
		width := 8
		if of.hashes {
			width = 40
		}
		records := make([]string, 0, len(text)/width)
		whole := string(text)
		for ; len(whole) >= width; whole = whole[width:] {
			records = append(records, whole[:width])
		}
		slices.Sort(records)
		records = slices.Compact(records)
		for part := range slices.Chunk(records, 4*atOnce) {
			args := make([]any, 0, 3*len(part))
			for _, r := range part {
				value := []byte(of.value)
				if of.hashes {
					value = []byte(r[:32])
				}
				args = append(args, of.kind, value, binary.BigEndian.Uint64([]byte(r[width-8:])))
			}
			s.rows("marks (kind, value, position)", 3, args)
		}
	}
}

// loading is a transaction under way, and what is read of it.
type loading struct{ s *loader }

var _ audit.Tx = loading{}

var errNotWhileFilling = errors.New("a file that is being filled answers no questions")

// Head implements audit.Reader.
func (t loading) Head() (audit.Head, error) {
	h := t.s.head
	h.Frontier = slices.Clone(h.Frontier)
	return h, nil
}

// Entry implements audit.Reader.
func (t loading) Entry(position uint64) (audit.Entry, error) {
	if e := t.s.recent[position%recently]; e.Sealed != nil && e.Position == position {
		return e, nil
	}
	if e, ok := t.s.kept[position]; ok {
		return e, nil
	}
	return audit.Entry{}, audit.ErrNoEntry
}

// Entries implements audit.Reader.
func (t loading) Entries(from uint64, limit int) (out []audit.Entry, err error) {
	for p := from; p < t.s.head.Size && len(out) < limit; p++ {
		e, err := t.Entry(p)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// EntriesAt implements audit.Reader.
func (t loading) EntriesAt(positions []uint64) (out []audit.Entry, err error) {
	for _, p := range positions {
		e, err := t.Entry(p)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Leaves implements audit.Reader.
func (t loading) Leaves(from uint64, limit int) ([]audit.Entry, error) { return t.Entries(from, limit) }

// Nodes implements audit.Reader.
func (t loading) Nodes(level uint8, from uint64, limit int) (out []audit.Node, err error) {
	if level == 0 {
		leaves, err := t.Leaves(from, limit)
		for _, e := range leaves {
			out = append(out, audit.Node{Index: e.Position, Hash: e.Leaf})
		}
		return out, err
	}
	for ; len(out) < limit; from++ {
		n, ok := t.s.nodes[[2]uint64{uint64(level), from}]
		if !ok {
			break
		}
		out = append(out, n)
	}
	return out, nil
}

// Checkpoints implements audit.Reader.
func (t loading) Checkpoints(uint64, int) ([]audit.Checkpoint, error) { return nil, errNotWhileFilling }

// LastCheckpoint implements audit.Reader.
func (t loading) LastCheckpoint() (audit.Checkpoint, bool, error) {
	return t.s.last, t.s.last.Size > 0, nil
}

// OfType implements audit.Reader.
func (t loading) OfType(k audit.EntryType, from uint64, limit int) (out []uint64, err error) {
	for _, p := range slices.Sorted(maps.Keys(t.s.kept)) {
		if t.s.kept[p].Type == k && p >= from && len(out) < limit {
			out = append(out, p)
		}
	}
	return out, nil
}

// Newest implements audit.Reader. Keys that make a write safe to repeat are not remembered: nothing is repeated here.
func (t loading) Newest(marks []audit.Mark) (newest uint64, found bool, err error) {
	for _, m := range marks {
		if p, ok := t.s.newest[m]; ok && (!found || p > newest) {
			newest, found = p, true
		}
	}
	return newest, found, nil
}

// Search implements audit.Reader.
func (t loading) Search(audit.Query) ([]uint64, error) { return nil, errNotWhileFilling }

// Searches implements audit.Reader.
func (t loading) Searches([]audit.Query) ([][]uint64, error) { return nil, errNotWhileFilling }

// EachMark implements audit.Reader.
func (t loading) EachMark(func(uint64, audit.Mark) error) error { return errNotWhileFilling }

// Objection implements audit.Reader.
func (t loading) Objection(id string) (audit.ObjectionRow, bool, error) {
	o, ok := t.s.objections[id]
	return o, ok, nil
}

// ObjectionsOf implements audit.Reader.
func (t loading) ObjectionsOf(persons []string) (out []audit.ObjectionRow, err error) {
	for _, p := range persons {
		for _, id := range t.s.ofPerson[p] {
			out = append(out, t.s.objections[id])
		}
	}
	return out, nil
}

// EachObjection implements audit.Reader.
func (t loading) EachObjection(f func(audit.ObjectionRow) error) error {
	for _, o := range t.s.objections {
		if err := f(o); err != nil {
			return err
		}
	}
	return nil
}

// IsOpen implements audit.Reader.
func (t loading) IsOpen(position uint64) (bool, error) {
	_, ok := t.s.open[position]
	return ok, nil
}

// Open implements audit.Reader.
func (t loading) Open(due time.Time, limit int) ([]uint64, error) { return t.OpenOf("", due, limit) }

// OpenOf implements audit.Reader.
func (t loading) OpenOf(_ string, due time.Time, limit int) (out []uint64, err error) {
	for _, p := range slices.Sorted(maps.Keys(t.s.open)) {
		if (due.IsZero() || !t.s.open[p].After(due)) && len(out) < limit {
			out = append(out, p)
		}
	}
	return out, nil
}

// OpenCount implements audit.Reader.
func (t loading) OpenCount() (int, error) { return len(t.s.open), nil }

// EachAlert implements audit.Reader.
func (t loading) EachAlert(f func(audit.AlertRow) error) error {
	for _, a := range t.s.alerts {
		if err := f(a); err != nil {
			return err
		}
	}
	return nil
}

// Alerts implements audit.Reader.
func (t loading) Alerts(audit.AlertState, uint64, int) ([]audit.AlertRow, error) {
	return nil, errNotWhileFilling
}

// Append implements audit.Tx.
func (t loading) Append(e audit.Entry, marks []audit.Mark) error {
	s := t.s
	if e.Position != s.head.Size {
		return fmt.Errorf("an entry for position %d was given at %d", e.Position, s.head.Size)
	}
	s.recent[e.Position%recently] = e
	if e.Type == audit.TypeObjection || e.Type == audit.TypeKey || e.Type == audit.TypePolicy {
		s.kept[e.Position] = e
	}
	for _, m := range marks {
		switch m.Kind {
		case audit.MarkPerson, audit.MarkUser, audit.MarkOrganisation, audit.MarkCustodian, audit.MarkKey:
		case audit.MarkAskedNo: // of its entry the time is asked for
			s.newest[m], s.kept[e.Position] = e.Position, audit.Entry{Position: e.Position, Type: e.Type, Time: e.Time}
		default:
			s.newest[m] = e.Position
		}
		s.put(m, e.Position)
	}
	if s.pending = append(s.pending, e); len(s.pending) == atOnce {
		s.writeEntries()
	}
	s.head.Size, s.head.Newest = e.Position+1, e.Time
	return s.err
}

// PutTree implements audit.Tx.
func (t loading) PutTree(frontier [][32]byte, nodes []audit.Node) error {
	t.s.head.Frontier = slices.Clone(frontier)
	for _, n := range nodes {
		t.s.nodes[[2]uint64{uint64(n.Level), n.Index}] = n
	}
	return nil
}

// PutCheckpoint implements audit.Tx.
func (t loading) PutCheckpoint(c audit.Checkpoint) error {
	t.s.last = c
	t.s.rowsOf <- func() {
		t.s.exec(`INSERT INTO checkpoints (size, at, note) VALUES (?, ?, ?) ON CONFLICT (size) DO UPDATE SET at = excluded.at, note = excluded.note`, c.Size, c.At.UnixMicro(), c.Note)
	}
	return t.s.err
}

// Erase implements audit.Tx.
func (t loading) Erase(uint64, []audit.Mark) error { return errNotWhileFilling }

// DropObjection implements audit.Tx.
func (t loading) DropObjection(string) error { return errNotWhileFilling }

// PutObjection implements audit.Tx.
func (t loading) PutObjection(r audit.ObjectionRow) error {
	if _, known := t.s.objections[r.ID]; !known {
		t.s.ofPerson[r.Person] = append(t.s.ofPerson[r.Person], r.ID)
	}
	t.s.objections[r.ID] = r
	return nil
}

// OpenAccess implements audit.Tx.
func (t loading) OpenAccess(position uint64, due time.Time, _ string) error {
	t.s.open[position] = due
	return nil
}

// CloseAccess implements audit.Tx.
func (t loading) CloseAccess(position uint64) error {
	delete(t.s.open, position)
	return nil
}

// PutAlert implements audit.Tx.
func (t loading) PutAlert(position uint64, kind audit.AlertKind) error {
	t.s.alerts = append(t.s.alerts, audit.AlertRow{Position: position, Kind: kind})
	return nil
}

// AlertDelivered implements audit.Tx.
func (t loading) AlertDelivered(uint64, time.Time) error { return errNotWhileFilling }

// AlertReviewed implements audit.Tx.
func (t loading) AlertReviewed(uint64, uint64) error { return errNotWhileFilling }

// Expect implements audit.Tx.
func (t loading) Expect(audit.Wanted) error { return nil }
