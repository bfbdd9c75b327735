package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mycarerecord/mycarerecord/audit"
)

// tx implements audit.Tx. What it writes is kept here and sent in one go: at the end, or before a question that is not answered from here. What it was
// told to expect was fetched in one go too. Nothing of that can go stale: the head row is held, so nobody else writes.
type tx struct {
	reader
	was     uint64 // the head's size when it was read
	head    audit.Head
	planted uint64 // the size that the frontier was last put for
	changed bool
	appended
	fetched
	written
}

var _ audit.Tx = (*tx)(nil)

// appended is what the transaction has added in all.
type appended struct{ leaves [][]byte }

// fetched is what was asked for ahead.
type fetched struct {
	newest  map[audit.Mark]mayBe[uint64]
	rows    map[string][]audit.ObjectionRow // by person
	entries map[uint64]audit.Entry
	open    map[uint64]bool
}

// written is what was not sent to the server yet.
type written struct {
	entries     []audit.Entry
	marks       []positioned
	marked      map[audit.Mark]uint64
	objections  map[string]*audit.ObjectionRow // nil: dropped
	opened      map[uint64]held
	closed      map[uint64]bool
	alerts      []audit.AlertRow
	nodes       map[nodeAt][32]byte
	checkpoints map[uint64]audit.Checkpoint
}

type mayBe[T any] struct {
	value T
	is    bool
}

type positioned struct {
	audit.Mark
	position uint64
}

type held struct {
	due    time.Time
	holder string
}

type nodeAt struct {
	level  uint8
	number uint64
}

// lockHead begins a transaction that holds the head row, and reads in the same breath the settings without which its commit would mean nothing.
const lockHead = `SELECT size, newest, frontier, (SELECT max(number) FROM migrations), current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')
	FROM head WHERE one FOR UPDATE OF head`

// lock begins the transaction, and asks in the same exchange for what it is about to need: each statement sees what was kept before it was reached, and by then the row is held.
func (t *tx) lock(ahead audit.Wanted) error {
	var b pgx.Batch
	b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	b.Queue(lockHead).QueryRow(func(row pgx.Row) error {
		var size, newest int64
		var frontier []byte
		var schema int
		values := make([]string, len(settings))
		err := row.Scan(&size, &newest, &frontier, &schema, &values[0], &values[1], &values[2])
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errNoHead
		case err != nil:
			return t.s.judge("beginning a transaction", err)
		}
		if err := weak(values); err != nil {
			return err
		}
		if known := t.s.dial.schema; schema != known {
			t.s.unsound.Store(true)
			return fmt.Errorf("%w: %w", audit.ErrUnsound, newerSchema(schema, known))
		}
		t.head, err = headOf(size, newest, frontier)
		t.was = t.head.Size
		return err
	})
	t.ask(&b, ahead)
	t.limit *= 2 // the server gives the wait for the row its time, and what is asked after it as much again
	err := t.send("beginning a transaction", &b)
	t.limit = t.s.dial.timeout
	if err != nil {
		return err
	}
	return t.asked(ahead)
}

// Expect implements audit.Tx.
func (t *tx) Expect(w audit.Wanted) error {
	if err := t.flush(); err != nil {
		return err
	}
	var b pgx.Batch
	t.ask(&b, w)
	if err := t.send("reading ahead", &b); err != nil {
		return err
	}
	return t.asked(w)
}

// ask adds to a batch what fetches what is wanted.
func (t *tx) ask(b *pgx.Batch, w audit.Wanted) {
	f := &t.fetched
	if f.newest == nil {
		*f = fetched{newest: map[audit.Mark]mayBe[uint64]{}, rows: map[string][]audit.ObjectionRow{}, entries: map[uint64]audit.Entry{}, open: map[uint64]bool{}}
	}
	if len(w.Marks) > 0 {
		kinds, marked := markArrays(w.Marks)
		b.Queue(newestMarks, kinds, marked).Query(func(rows pgx.Rows) error {
			return t.drain("looking for marks", rows, func(rows pgx.Rows) error {
				var n, position int64
				if err := rows.Scan(&n, &position); err != nil {
					return t.s.judge("looking for marks", err)
				}
				f.newest[w.Marks[n-1]] = mayBe[uint64]{uint64(position), true}
				return nil
			})
		})
	}
	if len(w.Persons) > 0 {
		for _, p := range w.Persons {
			delete(f.rows, p) // asked for a second time, and answered once
		}
		b.Queue(objectionsOf, byteArrays(w.Persons)).Query(func(rows pgx.Rows) error {
			return t.drain("reading objections", rows, func(rows pgx.Rows) error {
				o, err := scanObjection(rows)
				if err != nil {
					return t.s.judge("reading objections", err)
				}
				f.rows[o.Person] = append(f.rows[o.Person], o)
				return nil
			})
		})
	}
	if len(w.Open) > 0 {
		b.Queue(`SELECT position FROM open_accesses WHERE position = ANY ($1)`, positionArray(w.Open)).Query(func(rows pgx.Rows) error {
			return t.drain("looking at accesses", rows, func(rows pgx.Rows) error {
				var p int64
				if err := rows.Scan(&p); err != nil {
					return t.s.judge("looking at accesses", err)
				}
				f.open[uint64(p)] = true
				return nil
			})
		})
	}
}

// asked notes of what the server did not name that it is not there, and fetches the entries that objections point to.
func (t *tx) asked(w audit.Wanted) error {
	f := &t.fetched
	for _, m := range w.Marks {
		if _, ok := f.newest[m]; !ok {
			f.newest[m] = mayBe[uint64]{}
		}
	}
	var at []uint64
	for _, p := range w.Persons {
		for _, o := range f.rows[p] {
			if _, known := f.entries[o.Position]; !known {
				at = append(at, o.Position)
			}
		}
		if _, ok := f.rows[p]; !ok {
			f.rows[p] = nil
		}
	}
	for _, p := range w.Open {
		if _, known := f.open[p]; !known {
			f.open[p] = false
		}
	}
	if len(at) == 0 {
		return nil
	}
	list, err := t.reader.entries("reading entries", `SELECT `+entryColumns+`, sealed FROM entries WHERE position = ANY ($1)`, positionArray(at))
	if err != nil {
		return err
	}
	for _, e := range list {
		f.entries[e.Position] = e
	}
	return nil
}

func positionArray(positions []uint64) []int64 {
	out := make([]int64, len(positions))
	for i, p := range positions {
		out[i] = int64(p)
	}
	return out
}

// flush sends what was written. From then on the server answers for it.
func (t *tx) flush() error {
	var b pgx.Batch
	t.queue(&b)
	if b.Len() == 0 {
		return nil
	}
	t.fetched, t.written = fetched{}, written{}
	return t.send("writing", &b)
}

// finish sends what was written, and moves the head.
func (t *tx) finish() error {
	var b pgx.Batch
	t.queue(&b)
	moved := !t.changed
	if t.changed {
		if t.was != t.head.Size && t.planted != t.head.Size || len(t.head.Frontier) != bits.OnesCount64(t.head.Size) {
			return fmt.Errorf("%w: entries were added and the tree was forgotten", audit.ErrDamaged)
		}
		frontier := make([]byte, 0, 32*len(t.head.Frontier))
		for _, h := range t.head.Frontier {
			frontier = append(frontier, h[:]...)
		}
		newest := int64(0)
		if t.head.Size > 0 {
			newest = t.head.Newest.UnixMicro()
		}
		b.Queue(`UPDATE head SET size = $1, newest = $2, frontier = $3 WHERE one AND size = $4 RETURNING true`, int64(t.head.Size), newest, frontier, int64(t.was)).
			QueryRow(func(row pgx.Row) error { return row.Scan(&moved) })
	}
	if b.Len() == 0 {
		return nil
	}
	if err := t.send("writing", &b); err != nil {
		return err
	}
	if !moved {
		return fmt.Errorf("%w: the head moved under a transaction", audit.ErrDamaged)
	}
	return nil
}

// queue adds what was written to a batch: one statement for each table.
func (t *tx) queue(b *pgx.Batch) {
	w := &t.written
	if n := len(w.entries); n > 0 {
		positions, times, epochs := make([]int64, n), make([]int64, n), make([]int64, n)
		versions, types := make([]int16, n), make([]int16, n)
		commitments, leaves, sealed := make([][]byte, n), make([][]byte, n), make([][]byte, n)
		for i := range w.entries {
			e := &w.entries[i]
			positions[i], versions[i], types[i], times[i], epochs[i] = int64(e.Position), int16(e.Version), int16(e.Type), e.Time.UnixMicro(), int64(e.Epoch)
			commitments[i], leaves[i], sealed[i] = e.Commitment[:], e.Leaf[:], e.Sealed
		}
		b.Queue(`INSERT INTO entries (`+entryColumns+`, sealed) SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[], $8::bytea[])`,
			positions, versions, types, times, epochs, commitments, leaves, sealed)
	}
	if n := len(w.marks); n > 0 {
		slices.SortFunc(w.marks, func(a, b positioned) int { // rows that go to one page go there together
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Value, b.Value), cmp.Compare(a.position, b.position))
		})
		kinds, marked, positions := make([]int16, n), make([][]byte, n), make([]int64, n)
		for i, m := range w.marks {
			kinds[i], marked[i], positions[i] = int16(m.Kind), []byte(m.Value), int64(m.position)
		}
		b.Queue(`INSERT INTO marks (kind, value, position) SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[])`, kinds, marked, positions)
	}
	t.queueObjections(b)
	if n := len(w.opened); n > 0 {
		positions, due, holders := make([]int64, 0, n), make([]int64, 0, n), make([]string, 0, n)
		for _, p := range slices.Sorted(maps.Keys(w.opened)) {
			positions, due, holders = append(positions, int64(p)), append(due, w.opened[p].due.UnixMicro()), append(holders, w.opened[p].holder)
		}
		b.Queue(`INSERT INTO open_accesses (position, due, holder) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])`, positions, due, holders)
	}
	if len(w.closed) > 0 {
		b.Queue(`DELETE FROM open_accesses WHERE position = ANY ($1)`, positionArray(slices.Sorted(maps.Keys(w.closed))))
	}
	if n := len(w.alerts); n > 0 {
		positions, kinds := make([]int64, n), make([]string, n)
		for i, a := range w.alerts {
			positions[i], kinds[i] = int64(a.Position), string(a.Kind)
		}
		b.Queue(`INSERT INTO alerts (position, kind) SELECT * FROM unnest($1::bigint[], $2::text[])`, positions, kinds)
	}
	if n := len(w.nodes); n > 0 {
		levels, numbers, hashes := make([]int16, 0, n), make([]int64, 0, n), make([][]byte, 0, n)
		for at, hash := range w.nodes {
			levels, numbers, hashes = append(levels, int16(at.level)), append(numbers, int64(at.number)), append(hashes, hash[:])
		}
		b.Queue(`INSERT INTO nodes (level, number, hash) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[]) ON CONFLICT (level, number) DO UPDATE SET hash = excluded.hash`,
			levels, numbers, hashes)
	}
	for _, c := range w.checkpoints { // seldom more than one
		b.Queue(`INSERT INTO checkpoints (size, at, note) VALUES ($1, $2, $3) ON CONFLICT (size) DO UPDATE SET at = excluded.at, note = excluded.note`,
			int64(c.Size), c.At.UnixMicro(), c.Note)
	}
}

func (t *tx) queueObjections(b *pgx.Batch) {
	var ids, dropped []string
	var persons [][]byte
	var positions []int64
	for id, o := range t.written.objections {
		if o == nil {
			dropped = append(dropped, id)
			continue
		}
		ids, persons, positions = append(ids, id), append(persons, []byte(o.Person)), append(positions, int64(o.Position))
	}
	if len(ids) > 0 {
		b.Queue(`INSERT INTO objections (id, person, position) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])
			ON CONFLICT (id) DO UPDATE SET person = excluded.person, position = excluded.position`, ids, persons, positions)
	}
	if len(dropped) > 0 {
		b.Queue(`DELETE FROM objections WHERE id = ANY ($1)`, dropped)
	}
}

// Head implements audit.Reader.
func (t *tx) Head() (audit.Head, error) { return t.head, nil }

// Append implements audit.Tx.
func (t *tx) Append(e audit.Entry, marks []audit.Mark) error {
	if e.Position != t.head.Size {
		return fmt.Errorf("%w: an entry for position %d was given at %d", audit.ErrDamaged, e.Position, t.head.Size)
	}
	t.written.entries = append(t.written.entries, e)
	t.leaves = append(t.leaves, e.Leaf[:])
	if t.marked == nil {
		t.marked = map[audit.Mark]uint64{}
	}
	for _, m := range marks {
		if at, there := t.marked[m]; !there || at != e.Position { // an entry may come with the same mark twice
			t.marked[m] = e.Position
			t.marks = append(t.marks, positioned{m, e.Position})
		}
	}
	t.head.Size, t.head.Newest, t.changed = e.Position+1, e.Time, true
	return nil
}

// PutTree implements audit.Tx.
func (t *tx) PutTree(frontier [][32]byte, nodes []audit.Node) error {
	if t.nodes == nil {
		t.nodes = map[nodeAt][32]byte{}
	}
	for _, n := range nodes {
		t.nodes[nodeAt{n.Level, n.Index}] = n.Hash
	}
	t.head.Frontier, t.planted, t.changed = slices.Clone(frontier), t.head.Size, true
	return nil
}

// PutCheckpoint implements audit.Tx.
func (t *tx) PutCheckpoint(c audit.Checkpoint) error {
	if t.written.checkpoints == nil {
		t.written.checkpoints = map[uint64]audit.Checkpoint{}
	}
	t.written.checkpoints[c.Size] = c
	return nil
}

// Erase implements audit.Tx.
func (t *tx) Erase(position uint64, marks []audit.Mark) error {
	if err := t.flush(); err != nil {
		return err
	}
	t.fetched = fetched{}
	kinds, marked := markArrays(marks)
	var b pgx.Batch
	b.Queue(`UPDATE entries SET sealed = NULL WHERE position = $1`, int64(position))
	b.Queue(`DELETE FROM marks m USING unnest($1::smallint[], $2::bytea[]) AS w (kind, value) WHERE m.kind = w.kind AND m.value = w.value AND m.position = $3`, kinds, marked, int64(position))
	return t.send("erasing an entry", &b)
}

// PutObjection implements audit.Tx.
func (t *tx) PutObjection(o audit.ObjectionRow) error {
	t.object(o.ID, &o)
	return nil
}

// DropObjection implements audit.Tx.
func (t *tx) DropObjection(id string) error {
	t.object(id, nil)
	return nil
}

func (t *tx) object(id string, o *audit.ObjectionRow) {
	if t.written.objections == nil {
		t.written.objections = map[string]*audit.ObjectionRow{}
	}
	t.written.objections[id] = o
}

// OpenAccess implements audit.Tx.
func (t *tx) OpenAccess(position uint64, due time.Time, holder string) error {
	if _, twice := t.opened[position]; twice || t.closed[position] {
		if err := t.flush(); err != nil { // the server judges what was done to it before
			return err
		}
	}
	if t.opened == nil {
		t.opened = map[uint64]held{}
	}
	t.opened[position] = held{due, holder}
	return nil
}

// CloseAccess implements audit.Tx.
func (t *tx) CloseAccess(position uint64) error {
	if _, here := t.opened[position]; here {
		delete(t.opened, position)
		return nil
	}
	if t.closed == nil {
		t.closed = map[uint64]bool{}
	}
	t.closed[position] = true
	return nil
}

// PutAlert implements audit.Tx.
func (t *tx) PutAlert(position uint64, kind audit.AlertKind) error {
	t.written.alerts = append(t.written.alerts, audit.AlertRow{Position: position, Kind: kind})
	return nil
}

// AlertDelivered implements audit.Tx.
func (t *tx) AlertDelivered(position uint64, at time.Time) error {
	return t.now("noting a delivered alert", `UPDATE alerts SET delivered = $1 WHERE position = $2 AND delivered IS NULL`, at.UnixMicro(), int64(position))
}

// AlertReviewed implements audit.Tx.
func (t *tx) AlertReviewed(position, review uint64) error {
	return t.now("noting a review", `UPDATE alerts SET review = NULLIF($1::bigint, 0) WHERE position = $2`, int64(review), int64(position))
}

// now sends what was written, and one statement that needs it.
func (t *tx) now(doing, statement string, args ...any) error {
	if err := t.flush(); err != nil {
		return err
	}
	var b pgx.Batch
	b.Queue(statement, args...)
	return t.reader.send(doing, &b)
}
