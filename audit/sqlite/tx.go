package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// The statements that a release or a begin needs are prepared once on each connection.
const (
	readHead      = `SELECT size, newest, frontier FROM head WHERE one = 1`
	writeHead     = `UPDATE head SET size = ?, newest = ?, frontier = ? WHERE one = 1 AND size = ?`
	readEntry     = `SELECT position, version, type, time, epoch, commitment, leaf, sealed FROM entries WHERE position = ?`
	newestMark    = `SELECT position FROM marks WHERE kind = ? AND value = ? ORDER BY position DESC LIMIT 1`
	readObjection = `SELECT id, person, position FROM objections WHERE id = ?`
	objectionsOf  = `SELECT id, person, position FROM objections WHERE person = ?`
	putObjection  = `INSERT INTO objections (id, person, position) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET person = excluded.person, position = excluded.position`
	isOpen        = `SELECT count(*) FROM open_accesses WHERE position = ?`
	openDue       = `SELECT position FROM open_accesses WHERE due <= ? ORDER BY position LIMIT ?`
	openDueOf     = `SELECT position FROM open_accesses WHERE holder = ? AND due <= ? ORDER BY position LIMIT ?`
	openCount     = `SELECT count(*) FROM open_accesses`
	putAlert      = `INSERT INTO alerts (position, kind) VALUES (?, ?)`
	putNode       = `INSERT INTO nodes (level, number, hash) VALUES (?, ?, ?) ON CONFLICT (level, number) DO UPDATE SET hash = excluded.hash`
	putCheckpoint = `INSERT INTO checkpoints (size, at, note) VALUES (?, ?, ?) ON CONFLICT (size) DO UPDATE SET at = excluded.at, note = excluded.note`
	readLeaves    = `SELECT position, version, type, time, epoch, commitment, leaf FROM entries WHERE position >= ? ORDER BY position LIMIT ?`
	leafHashes    = `SELECT position, leaf FROM entries WHERE position >= ? ORDER BY position LIMIT ?`
	readNodes     = `SELECT number, hash FROM nodes WHERE level = ? AND number >= ? ORDER BY number LIMIT ?`
	lastSigned    = `SELECT size, at, note FROM checkpoints ORDER BY size DESC LIMIT 1`
)

// A statement costs more than a row that it adds, so these are for several: for 1, 2, 4 … 64.
var (
	writeEntries  = several(`INSERT INTO entries (position, version, type, time, epoch, commitment, leaf, sealed) VALUES `, `(?, ?, ?, ?, ?, ?, ?, ?)`, ``)
	writeMarks    = several(`INSERT OR IGNORE INTO marks (kind, value, position) VALUES `, `(?, ?, ?)`, ``)
	openAccesses  = several(`INSERT INTO open_accesses (position, due, holder) VALUES `, `(?, ?, ?)`, ``)
	closeAccesses = several(`DELETE FROM open_accesses WHERE position IN (`, `?`, `)`)
	newestMarks   = several(`SELECT column1, (SELECT max(position) FROM marks WHERE kind = column2 AND value = column3) FROM (VALUES `, `(?, ?, ?)`, `)`)
	areOpen       = several(`SELECT position FROM open_accesses WHERE position IN (`, `?`, `)`)
	ofPersons     = several(`SELECT id, person, position FROM objections WHERE person IN (`, `?`, `)`)
)

func several(before, row, after string) (out [7]string) {
	for i := range out {
		out[i] = before + row + strings.Repeat(", "+row, 1<<i-1) + after
	}
	return out
}

// inPieces cuts a list into pieces for which there are statements, and calls do with each piece, the statement for it, and what put makes of it. What put
// makes is forgotten when do returns.
func inPieces[T any](q *statements, texts [7]string, list []T, put func([]driver.Value, T) []driver.Value, do func(statement string, args []driver.Value) error) error {
	for len(list) > 0 {
		i := min(bits.Len(uint(len(list))), len(texts)) - 1
		all := q.piece[:0]
		for _, row := range list[:1<<i] {
			all = put(all, row)
		}
		q.piece = nil // whoever comes in between has another
		err := do(texts[i], all)
		clear(all)
		q.piece = all
		if err != nil {
			return err
		}
		list = list[1<<i:]
	}
	return nil
}

// entriesQuery reads so many entries at most.
type entriesQuery struct {
	most int
	text string
}

// entriesAt are those that read several, the smallest first.
var entriesAt = func() (out [3]entriesQuery) {
	for i, n := range []int{1, 16, 256} {
		out[i] = entriesQuery{n, `SELECT position, version, type, time, epoch, commitment, leaf, sealed FROM entries WHERE position IN (?` + strings.Repeat(`, ?`, n-1) + `)`}
	}
	return out
}()

// asked are the statements above that only read.
var asked = []string{entriesAt[0].text, entriesAt[1].text, entriesAt[2].text, readHead, readEntry, newestMark, readObjection, objectionsOf, isOpen, openDue, openDueOf, openCount, readLeaves, leafHashes, readNodes, lastSigned}

// written are those of a transaction that writes.
var written = slices.Concat([]string{writeHead, putObjection, putAlert, putNode, putCheckpoint},
	writeEntries[:], writeMarks[:], openAccesses[:], closeAccesses[:], newestMarks[:], areOpen[:], ofPersons[:])

// Transactions begin and end with these.
const (
	begin     = `BEGIN`
	beginNow  = `BEGIN IMMEDIATE`
	commit    = `COMMIT`
	rollBack  = `ROLLBACK`
	preparing = "preparing a statement"
)

// reader implements audit.Reader.
type reader struct {
	ctx   context.Context // of the one call of View or Update that made it
	s     *Store
	q     *statements
	first func() error // done before the file is asked; nil: nothing
}

// ask does what is to be done before the file is asked.
func (r *reader) ask() error {
	if r.first == nil {
		return nil
	}
	return r.first()
}

// each runs a query and calls scan for every row.
func (r *reader) each(doing, query string, args []driver.Value, scan func(*row) error) error {
	if err := r.ask(); err != nil {
		return err
	}
	rows, err := r.q.query(r.ctx, query, args)
	if err != nil {
		return r.s.judge(doing, err)
	}
	defer rows.close()
	for {
		at, err := rows.next(r.ctx)
		if err != nil {
			return r.s.judge(doing, err)
		}
		if at == nil {
			return nil
		}
		if err := scan(at); err != nil {
			return err
		}
		if at.bad {
			return r.s.judge(doing, errValue)
		}
	}
}

// one runs a query of which the first row is wanted, and reports whether there was one.
func (r *reader) one(doing, query string, args []driver.Value, scan func(*row)) (bool, error) {
	if err := r.ask(); err != nil {
		return false, err
	}
	rows, err := r.q.query(r.ctx, query, args)
	if err != nil {
		return false, r.s.judge(doing, err)
	}
	defer rows.close()
	at, err := rows.next(r.ctx)
	if err == nil && at != nil {
		if scan(at); at.bad {
			err = errValue
		}
	}
	if err != nil {
		return false, r.s.judge(doing, err)
	}
	return at != nil, nil
}

// Head implements audit.Reader.
func (r *reader) Head() (audit.Head, error) {
	var size uint64
	var newest int64
	var frontier []byte
	ok, err := r.one("reading the head", readHead, nil, func(at *row) { size, newest, frontier = at.position(0), at.number(1), at.bytes(2) })
	if err != nil {
		return audit.Head{}, err
	}
	if !ok {
		return audit.Head{}, fmt.Errorf("%w: the head row is missing", audit.ErrDamaged)
	}
	h := audit.Head{Size: size}
	if size > 0 {
		h.Newest = time.UnixMicro(newest).UTC()
	}
	if len(frontier)%32 != 0 {
		return audit.Head{}, fmt.Errorf("%w: the head row holds a hash of the wrong length", audit.ErrDamaged)
	}
	if len(frontier) > 0 {
		h.Frontier = make([][32]byte, 0, len(frontier)/32+1)
	}
	for ; len(frontier) > 0; frontier = frontier[32:] {
		h.Frontier = append(h.Frontier, [32]byte(frontier))
	}
	return h, nil
}

// entryOf makes an entry of the columns of readEntry.
func entryOf(at *row) (audit.Entry, error) {
	e, err := leafOf(at)
	e.Sealed = at.bytes(7)
	return e, err
}

// leafOf is entryOf without what is sealed.
func leafOf(at *row) (audit.Entry, error) {
	e := audit.Entry{Position: at.position(0), Version: uint8(at.within(1, math.MaxUint8)), Type: audit.EntryType(at.within(2, math.MaxUint8)), //nolint:gosec // they are within
		Time: time.UnixMicro(at.number(3)).UTC(), Epoch: uint32(at.within(4, math.MaxUint32))}
	commitment, leaf := at.bytes(5), at.bytes(6)
	copy(e.Commitment[:], commitment)
	copy(e.Leaf[:], leaf)
	if len(commitment) != len(e.Commitment) || len(leaf) != len(e.Leaf) {
		if at.bad {
			return e, nil // whoever reads it hears of that
		}
		return e, fmt.Errorf("%w: entry %d has a hash of the wrong length", audit.ErrDamaged, e.Position)
	}
	return e, nil
}

// Entry implements audit.Reader.
func (r *reader) Entry(position uint64) (audit.Entry, error) {
	e, found := audit.Entry{}, false
	err := r.each("reading an entry", readEntry, []driver.Value{number(position)}, func(at *row) (err error) {
		found = true
		e, err = entryOf(at)
		return err
	})
	if err == nil && !found {
		err = audit.ErrNoEntry
	}
	return e, err
}

// Entries implements audit.Reader.
func (r *reader) Entries(from uint64, limit int) (out []audit.Entry, err error) {
	const query = `SELECT position, version, type, time, epoch, commitment, leaf, sealed FROM entries WHERE position >= ? ORDER BY position LIMIT ?`
	err = r.each("reading entries", query, []driver.Value{number(from), int64(limit)}, func(at *row) error {
		e, err := entryOf(at)
		out = append(out, e)
		return err
	})
	return out, err
}

// EntriesAt implements audit.Reader. Many are read by one statement, because each costs more than the row that it finds.
func (r *reader) EntriesAt(positions []uint64) ([]audit.Entry, error) {
	var out []audit.Entry
	for part := range slices.Chunk(positions, entriesAt[len(entriesAt)-1].most) {
		found := make([]*audit.Entry, len(part))
		if err := r.some(part, found); err != nil {
			return nil, err
		}
		for _, e := range found {
			if e != nil {
				out = append(out, *e)
			}
		}
	}
	return out, nil
}

// some reads the entries at a few positions, each to its place.
func (r *reader) some(positions []uint64, found []*audit.Entry) error {
	query := entriesAt[slices.IndexFunc(entriesAt[:], func(q entriesQuery) bool { return q.most >= len(positions) })]
	args, place := make([]driver.Value, query.most), make(map[uint64]int, len(positions))
	for i := range args {
		n := min(i, len(positions)-1) // the last one again, where there are fewer than there is room for
		args[i], place[positions[n]] = number(positions[n]), n
	}
	return r.each("reading entries", query.text, args, func(at *row) error {
		e, err := entryOf(at)
		found[place[e.Position]] = &e
		return err
	})
}

// Leaves implements audit.Reader.
func (r *reader) Leaves(from uint64, limit int) (out []audit.Entry, err error) {
	err = r.each("reading leaves", readLeaves, []driver.Value{number(from), int64(limit)}, func(at *row) error {
		e, err := leafOf(at)
		out = append(out, e)
		return err
	})
	return out, err
}

// Nodes implements audit.Reader.
func (r *reader) Nodes(level uint8, from uint64, limit int) (out []audit.Node, err error) {
	query, args := readNodes, []driver.Value{int64(level), number(from), int64(limit)}
	if level == 0 {
		query, args = leafHashes, args[1:]
	}
	err = r.each("reading the tree", query, args, func(at *row) error {
		n := audit.Node{Level: level, Index: at.position(0)}
		hash := at.bytes(1)
		if copy(n.Hash[:], hash); len(hash) != len(n.Hash) && !at.bad {
			return fmt.Errorf("%w: the tree holds a hash of the wrong length", audit.ErrDamaged)
		}
		out = append(out, n)
		return nil
	})
	return out, err
}

func checkpointOf(at *row) audit.Checkpoint {
	return audit.Checkpoint{Size: at.position(0), At: time.UnixMicro(at.number(1)).UTC(), Note: at.bytes(2)}
}

// Checkpoints implements audit.Reader.
func (r *reader) Checkpoints(from uint64, limit int) (out []audit.Checkpoint, err error) {
	const query = `SELECT size, at, note FROM checkpoints WHERE size >= ? ORDER BY size LIMIT ?`
	err = r.each("reading checkpoints", query, []driver.Value{number(from), int64(limit)}, func(at *row) error {
		out = append(out, checkpointOf(at))
		return nil
	})
	return out, err
}

// LastCheckpoint implements audit.Reader.
func (r *reader) LastCheckpoint() (c audit.Checkpoint, found bool, err error) {
	found, err = r.one("reading the newest checkpoint", lastSigned, nil, func(at *row) { c = checkpointOf(at) })
	return c, found, err
}

func (r *reader) positions(doing, query string, args []driver.Value) (out []uint64, err error) {
	err = r.each(doing, query, args, func(at *row) error {
		out = append(out, at.position(0))
		return nil
	})
	return out, err
}

// OfType implements audit.Reader.
func (r *reader) OfType(t audit.EntryType, from uint64, limit int) ([]uint64, error) {
	return r.positions("reading entries of a type", `SELECT position FROM entries WHERE type = ? AND position >= ? ORDER BY position LIMIT ?`, []driver.Value{int64(t), number(from), int64(limit)})
}

// Newest implements audit.Reader.
func (r *reader) Newest(marks []audit.Mark) (newest uint64, found bool, err error) {
	for _, m := range marks {
		var p uint64
		ok, err := r.one("looking for a mark", newestMark, []driver.Value{int64(m.Kind), []byte(m.Value)}, func(at *row) { p = at.position(0) })
		if err != nil {
			return 0, false, err
		}
		if ok && (!found || p > newest) {
			newest, found = p, true
		}
	}
	return newest, found, nil
}

// Search implements audit.Reader. The first group of marks is walked newest first, and the other conditions are tried on each position: a page
// costs what its entries are apart, not what the ledger is long. Times are turned into positions, which they follow.
func (r *reader) Search(q audit.Query) ([]uint64, error) {
	lo, hi := q.Least, q.Before
	if !q.From.IsZero() {
		var first uint64
		if ok, err := r.one("searching by time", `SELECT position FROM entries WHERE time >= ? ORDER BY time, position LIMIT 1`, []driver.Value{ceilMicro(q.From)}, func(at *row) { first = at.position(0) }); err != nil || !ok {
			return nil, err
		}
		lo = max(lo, first)
	}
	if !q.Until.IsZero() {
		var last uint64
		ok, err := r.one("searching by time", `SELECT position FROM entries WHERE time < ? ORDER BY time DESC, position DESC LIMIT 1`, []driver.Value{ceilMicro(q.Until)}, func(at *row) { last = at.position(0) })
		if err != nil || !ok {
			return nil, err
		}
		hi = min(hi, last+1)
	}
	parts := split(q)
	if len(parts) == 1 {
		text, args := searchText(q, lo, hi)
		return r.positions("searching", text, args)
	}
	var all []uint64
	for _, part := range parts {
		text, args := searchText(part, lo, hi)
		found, err := r.positions("searching", text, args)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b uint64) int { return cmp.Compare(b, a) })
	all = slices.Compact(all)
	return all[:min(len(all), q.Limit)], nil
}

// split makes queries of a search, each with as many arms as SQLite takes; what the search finds is what any of them does.
func split(q audit.Query) (parts []audit.Query) {
	each, tried := 4+len(q.Types), q.All // parameters of one arm
	if !byType(q) {
		tried = q.All[min(1, len(q.All)):]
	}
	for _, group := range tried {
		each += 2 * len(group)
	}
	most := max(1, min(maxArms, maxParameters/each))
	switch {
	case byType(q) && len(q.Types) > most:
		for types := range slices.Chunk(q.Types, most) {
			part := q
			part.Types = types
			parts = append(parts, part)
		}
	case !byType(q) && len(q.All) > 0 && len(q.All[0]) > most:
		for arms := range slices.Chunk(q.All[0], most) {
			part := q
			part.All = append([][]audit.Mark{arms}, q.All[1:]...)
			parts = append(parts, part)
		}
	default:
		return []audit.Query{q}
	}
	return parts
}

// byType reports whether a search walks the entries of its types, and tries all groups of marks on each.
func byType(q audit.Query) bool { return len(q.Types) > 0 && (q.Rare || len(q.All) == 0) }

// Searches implements audit.Reader.
func (r *reader) Searches(list []audit.Query) ([][]uint64, error) {
	out := make([][]uint64, len(list))
	for i, q := range list {
		var err error
		if out[i], err = r.Search(q); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maxArms is how many marks of the first group are walked by one query: SQLite joins at most 500, and somebody who oversees a region may see by more.
const maxArms = 200

// maxParameters is how many one query has at most: SQLite takes 32,766.
const maxParameters = 32_000

// maxOr is how many conditions stand beside each other: each is a level of depth to SQLite, which takes 1,000.
const maxOr = 100

// searchText writes the query for a search between two positions. There is one arm for each mark of the first group, with all other conditions in it:
// so each arm walks one index backwards, and SQLite merges them without sorting. Where types are rare, or nothing else is asked, there is one arm for each type.
func searchText(q audit.Query, lo, hi uint64) (string, []driver.Value) {
	var text strings.Builder
	var args []driver.Value
	byType, tried := byType(q), q.All
	if !byType {
		tried = q.All[min(1, len(q.All)):]
	}
	arm := func(from string, first ...driver.Value) {
		text.WriteString(`SELECT e.position FROM ` + from + ` e.position >= ? AND e.position < ?`)
		args = append(append(args, first...), number(lo), number(hi))
		for _, group := range tried {
			text.WriteString(` AND ((0`)
			for i, m := range group {
				if i > 0 && i%maxOr == 0 {
					text.WriteString(`) OR (0`)
				}
				text.WriteString(` OR EXISTS (SELECT 1 FROM marks x WHERE x.kind = ? AND x.value = ? AND x.position = e.position)`)
				args = append(args, int64(m.Kind), []byte(m.Value))
			}
			text.WriteString(`))`)
		}
		if len(q.Types) > 0 && !byType {
			// Of nearly all that is walked here the row is read afterwards, as an end or as an opening: the index by type would be five pages more.
			text.WriteString(` AND EXISTS (SELECT 1 FROM entries t NOT INDEXED WHERE t.position = e.position AND t.type IN (`)
			for i, t := range q.Types {
				if i > 0 {
					text.WriteString(`, `)
				}
				text.WriteString(`?`)
				args = append(args, int64(t))
			}
			text.WriteString(`))`)
		}
	}
	switch {
	case byType:
		for i, t := range q.Types {
			if i > 0 {
				text.WriteString(` UNION `)
			}
			arm(`entries e INDEXED BY entries_by_type WHERE e.type = ? AND`, int64(t))
		}
	case len(q.All) == 0:
		arm(`entries e WHERE`)
	default:
		for i, m := range q.All[0] {
			if i > 0 {
				text.WriteString(` UNION `)
			}
			arm(`marks e WHERE e.kind = ? AND e.value = ? AND`, int64(m.Kind), []byte(m.Value))
		}
	}
	text.WriteString(` ORDER BY 1 DESC LIMIT ?`)
	return text.String(), append(args, int64(q.Limit))
}

// ceilMicro is the first whole microsecond that is not before t: entries hold whole ones.
func ceilMicro(t time.Time) int64 {
	micros := t.UnixMicro()
	if time.UnixMicro(micros).Before(t) {
		micros++
	}
	return micros
}

// EachMark implements audit.Reader.
func (r *reader) EachMark(f func(uint64, audit.Mark) error) error {
	return r.each("reading marks", `SELECT kind, value, position FROM marks`, nil, func(at *row) error {
		m, position := audit.Mark{Kind: audit.MarkKind(at.within(0, math.MaxUint8)), Value: string(at.bytes(1))}, at.position(2) //nolint:gosec // it is within
		if at.bad {
			return nil
		}
		return f(position, m)
	})
}

func objectionOf(at *row) audit.ObjectionRow {
	return audit.ObjectionRow{ID: at.text(0), Person: string(at.bytes(1)), Position: at.position(2)}
}

// Objection implements audit.Reader.
func (r *reader) Objection(id string) (o audit.ObjectionRow, found bool, err error) {
	found, err = r.one("reading an objection", readObjection, []driver.Value{id}, func(at *row) { o = objectionOf(at) })
	return o, found, err
}

func (r *reader) objections(query string, args []driver.Value, f func(audit.ObjectionRow) error) error {
	return r.each("reading objections", query, args, func(at *row) error {
		o := objectionOf(at)
		if at.bad {
			return nil
		}
		return f(o)
	})
}

// ObjectionsOf implements audit.Reader.
func (r *reader) ObjectionsOf(persons []string) (out []audit.ObjectionRow, err error) {
	for _, person := range persons {
		err := r.objections(objectionsOf, []driver.Value{[]byte(person)}, func(o audit.ObjectionRow) error { out = append(out, o); return nil })
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// EachObjection implements audit.Reader.
func (r *reader) EachObjection(f func(audit.ObjectionRow) error) error {
	return r.objections(`SELECT id, person, position FROM objections`, nil, f)
}

// IsOpen implements audit.Reader.
func (r *reader) IsOpen(position uint64) (bool, error) {
	var n int64
	_, err := r.one("looking at an access", isOpen, []driver.Value{number(position)}, func(at *row) { n = at.number(0) })
	return n > 0, err
}

// Open implements audit.Reader.
func (r *reader) Open(due time.Time, limit int) ([]uint64, error) {
	return r.positions("reading open accesses", openDue, []driver.Value{dueMicro(due), int64(limit)})
}

// OpenOf implements audit.Reader.
func (r *reader) OpenOf(holder string, due time.Time, limit int) ([]uint64, error) {
	return r.positions("reading open accesses", openDueOf, []driver.Value{holder, dueMicro(due), int64(limit)})
}

// dueMicro is the time by which an access was due; the zero time is the end of all.
func dueMicro(due time.Time) int64 {
	if due.IsZero() {
		return 1<<63 - 1
	}
	return due.UnixMicro()
}

// OpenCount implements audit.Reader.
func (r *reader) OpenCount() (n int, err error) {
	_, err = r.one("counting open accesses", openCount, nil, func(at *row) { n = int(at.number(0)) })
	return n, err
}

// EachAlert implements audit.Reader.
func (r *reader) EachAlert(f func(audit.AlertRow) error) error {
	return r.alerts(`SELECT position, kind, delivered, review FROM alerts ORDER BY position`, nil, f)
}

// Alerts implements audit.Reader. Those from a position on are walked in order, so that whoever remembers how far it has come reads little.
func (r *reader) Alerts(which audit.AlertState, from uint64, limit int) (out []audit.AlertRow, err error) {
	condition := map[audit.AlertState]string{audit.AnyAlert: "", audit.Undelivered: "AND delivered IS NULL", audit.Unreviewed: "AND review IS NULL"}[which]
	query := `SELECT position, kind, delivered, review FROM alerts WHERE position >= ? ` + condition + ` ORDER BY position LIMIT ?`
	err = r.alerts(query, []driver.Value{number(from), int64(limit)}, func(a audit.AlertRow) error {
		out = append(out, a)
		return nil
	})
	return out, err
}

func (r *reader) alerts(query string, args []driver.Value, f func(audit.AlertRow) error) error {
	return r.each("reading alerts", query, args, func(at *row) error {
		a := audit.AlertRow{Position: at.position(0), Kind: audit.AlertKind(at.text(1))}
		if !at.null(2) {
			a.Delivered = time.UnixMicro(at.number(2)).UTC()
		}
		if !at.null(3) {
			a.Review = at.position(3)
		}
		if at.bad {
			return nil
		}
		return f(a)
	})
}

// tx implements audit.Tx. The head is read once and written once, when the transaction commits. Entries, their marks and open accesses wait until they are written
// together: at the end, or before the file is asked for what they may be part of.
type tx struct {
	reader         // of the file with all that waits written to it
	file    reader // of the file as it is, for what cannot be waiting
	known   bool
	was     uint64 // the head's size when it was read
	head    audit.Head
	planted uint64 // the size that the frontier was last put for
	changed bool
	failed  error // the first of a write: no transaction is kept in which one failed, whoever heard of it
	waiting
	learnt
}

// waiting is what was not written yet.
type waiting struct {
	entries []*audit.Entry // in order of position
	marks   []marked
	opened  []held
	closed  []uint64
}

type marked struct {
	audit.Mark
	position uint64
}

type held struct {
	position uint64
	due      time.Time
	holder   string
}

// learnt is what is known without asking the file: it was asked ahead, or done here. Nothing of it can go stale, because nobody else writes.
type learnt struct {
	newest map[audit.Mark]newest
	open   map[uint64]bool
	rows   map[string][]audit.ObjectionRow // by person
}

type newest struct {
	position uint64
	is       bool
}

func (s *Store) newTx(ctx context.Context) *tx {
	file := reader{ctx: ctx, s: s, q: s.write}
	t := &tx{reader: file, file: file, learnt: learnt{map[audit.Mark]newest{}, map[uint64]bool{}, map[string][]audit.ObjectionRow{}}}
	t.first = t.write
	return t
}

var _ audit.Tx = (*tx)(nil)

// Head implements audit.Reader.
func (t *tx) Head() (audit.Head, error) {
	if !t.known {
		h := t.s.head
		if h == nil {
			read, err := t.file.Head()
			if err != nil {
				return read, err
			}
			h = &read
		}
		t.known, t.was, t.head = true, h.Size, *h
		t.head.Frontier = slices.Clone(h.Frontier) // whoever adds to the tree works in it
	}
	return t.head, nil
}

func (t *tx) flush() error {
	if err := t.write(); err != nil || !t.changed {
		return err
	}
	if t.was != t.head.Size && t.planted != t.head.Size || len(t.head.Frontier) != bits.OnesCount64(t.head.Size) {
		return fmt.Errorf("%w: entries were added and the tree was forgotten", audit.ErrDamaged)
	}
	frontier := make([]byte, 0, 32*len(t.head.Frontier))
	for _, h := range t.head.Frontier {
		frontier = append(frontier, h[:]...)
	}
	result, err := t.q.exec(t.ctx, writeHead, []driver.Value{number(t.head.Size), t.head.Newest.UnixMicro(), frontier, number(t.was)})
	if err != nil {
		return t.s.judge("moving the head", err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%w: the head moved under a transaction", audit.ErrDamaged)
	}
	return nil
}

func (t *tx) exec(doing, query string, args ...driver.Value) error {
	if t.failed != nil {
		return t.failed
	}
	if _, err := t.q.exec(t.ctx, query, args); err != nil {
		t.failed = t.s.judge(doing, err)
	}
	return t.failed
}

// Append implements audit.Tx.
func (t *tx) Append(e audit.Entry, marks []audit.Mark) error {
	head, err := t.Head()
	if err != nil {
		return err
	}
	if e.Position != head.Size {
		return fmt.Errorf("%w: an entry for position %d was given at %d", audit.ErrDamaged, e.Position, head.Size)
	}
	t.entries = append(t.entries, &e)
	for _, m := range marks {
		t.marks = append(t.marks, marked{m, e.Position})
		t.newest[m] = newest{e.Position, true}
	}
	t.head.Size, t.head.Newest, t.changed = head.Size+1, e.Time, true
	return nil
}

// write writes what waits. Marks go in their order, which costs half.
func (t *tx) write() error {
	if t.failed != nil {
		return t.failed
	}
	w := t.waiting
	t.waiting = waiting{}
	slices.SortFunc(w.marks, func(a, b marked) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Value, b.Value), cmp.Compare(a.position, b.position))
	})
	err := inPieces(t.q, writeEntries, w.entries, func(to []driver.Value, e *audit.Entry) []driver.Value {
		return append(to, number(e.Position), int64(e.Version), int64(e.Type), e.Time.UnixMicro(), int64(e.Epoch), e.Commitment[:], e.Leaf[:], e.Sealed)
	}, func(statement string, args []driver.Value) error { return t.exec("adding entries", statement, args...) })
	if err != nil {
		return err
	}
	size := 0
	for i := range w.marks {
		size += len(w.marks[i].Value)
	}
	values := make([]byte, 0, size) // of all marks, side by side
	at, position := uint64(math.MaxUint64), driver.Value(nil)
	err = inPieces(t.q, writeMarks, w.marks, func(to []driver.Value, m marked) []driver.Value {
		begins := len(values)
		values = append(values, m.Value...)
		if m.position != at {
			at, position = m.position, number(m.position) // most are of one entry
		}
		return append(to, int64(m.Kind), values[begins:len(values):len(values)], position)
	}, func(statement string, args []driver.Value) error { return t.exec("adding marks", statement, args...) })
	if err != nil {
		return err
	}
	err = inPieces(t.q, openAccesses, w.opened, func(to []driver.Value, h held) []driver.Value {
		return append(to, number(h.position), h.due.UnixMicro(), h.holder)
	}, func(statement string, args []driver.Value) error {
		return t.exec("noting open accesses", statement, args...)
	})
	if err != nil {
		return err
	}
	return inPieces(t.q, closeAccesses, w.closed, func(to []driver.Value, position uint64) []driver.Value { return append(to, number(position)) },
		func(statement string, args []driver.Value) error {
			return t.exec("noting closed accesses", statement, args...)
		})
}

// Expect implements audit.Tx.
func (t *tx) Expect(w audit.Wanted) error {
	if err := t.write(); err != nil {
		return err
	}
	n := int64(0)
	err := inPieces(t.q, newestMarks, w.Marks, func(to []driver.Value, m audit.Mark) []driver.Value {
		n++
		return append(to, n-1, int64(m.Kind), []byte(m.Value))
	}, func(statement string, args []driver.Value) error {
		return t.file.each("looking for marks", statement, args, func(at *row) error {
			var found newest
			if !at.null(1) {
				found = newest{at.position(1), true}
			}
			if n := at.number(0); !at.bad {
				t.newest[w.Marks[n]] = found
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	err = inPieces(t.q, areOpen, w.Open, func(to []driver.Value, position uint64) []driver.Value {
		t.open[position] = false
		return append(to, number(position))
	}, func(statement string, args []driver.Value) error {
		return t.file.each("looking at accesses", statement, args, func(at *row) error {
			if position := at.position(0); !at.bad {
				t.open[position] = true
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return inPieces(t.q, ofPersons, w.Persons, func(to []driver.Value, person string) []driver.Value {
		t.rows[person] = nil
		return append(to, []byte(person))
	}, func(statement string, args []driver.Value) error {
		return t.file.objections(statement, args, func(o audit.ObjectionRow) error {
			t.rows[o.Person] = append(t.rows[o.Person], o)
			return nil
		})
	})
}

// Newest implements audit.Reader.
func (t *tx) Newest(marks []audit.Mark) (uint64, bool, error) {
	var out newest
	for _, m := range marks {
		n, known := t.newest[m]
		if !known { // then it does not wait either
			var err error
			if n.position, n.is, err = t.file.Newest([]audit.Mark{m}); err != nil {
				return 0, false, err
			}
		}
		if n.is && (!out.is || n.position > out.position) {
			out = n
		}
	}
	return out.position, out.is, nil
}

// Entry implements audit.Reader.
func (t *tx) Entry(position uint64) (audit.Entry, error) {
	if list := t.entries; len(list) > 0 && position >= list[0].Position && position-list[0].Position < uint64(len(list)) {
		return *list[position-list[0].Position], nil
	}
	return t.file.Entry(position)
}

// IsOpen implements audit.Reader.
func (t *tx) IsOpen(position uint64) (bool, error) {
	if open, known := t.open[position]; known {
		return open, nil
	}
	return t.file.IsOpen(position)
}

// ObjectionsOf implements audit.Reader.
func (t *tx) ObjectionsOf(persons []string) (out []audit.ObjectionRow, err error) {
	for _, person := range persons {
		rows, known := t.rows[person]
		if !known {
			if rows, err = t.file.ObjectionsOf([]string{person}); err != nil {
				return nil, err
			}
		}
		out = append(out, rows...)
	}
	return out, nil
}

// PutTree implements audit.Tx.
func (t *tx) PutTree(frontier [][32]byte, nodes []audit.Node) error {
	if _, err := t.Head(); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := t.exec("adding to the tree", putNode, int64(n.Level), number(n.Index), n.Hash[:]); err != nil {
			return err
		}
	}
	t.head.Frontier, t.planted, t.changed = slices.Clone(frontier), t.head.Size, true
	return nil
}

// PutCheckpoint implements audit.Tx.
func (t *tx) PutCheckpoint(c audit.Checkpoint) error {
	return t.exec("adding a checkpoint", putCheckpoint, number(c.Size), c.At.UnixMicro(), c.Note)
}

// Erase implements audit.Tx. secure_delete overwrites what the row gives up; Purge does away with the copies that SQLite made while it moved rows.
func (t *tx) Erase(position uint64, marks []audit.Mark) error {
	if err := t.write(); err != nil {
		return err
	}
	clear(t.newest)
	err := t.exec("erasing an entry", `UPDATE entries SET sealed = NULL WHERE position = ?`, number(position))
	for i := 0; err == nil && i < len(marks); i++ {
		err = t.exec("erasing a mark", `DELETE FROM marks WHERE kind = ? AND value = ? AND position = ?`, int64(marks[i].Kind), []byte(marks[i].Value), number(position))
	}
	return err
}

// DropObjection implements audit.Tx.
func (t *tx) DropObjection(id string) error {
	clear(t.rows)
	return t.exec("erasing an objection", `DELETE FROM objections WHERE id = ?`, id)
}

// PutObjection implements audit.Tx.
func (t *tx) PutObjection(o audit.ObjectionRow) error {
	clear(t.rows)
	return t.exec("noting an objection", putObjection, o.ID, []byte(o.Person), number(o.Position))
}

// OpenAccess implements audit.Tx.
func (t *tx) OpenAccess(position uint64, due time.Time, holder string) error {
	if len(t.closed) > 0 && slices.Contains(t.closed, position) { // it is opened anew
		if err := t.write(); err != nil {
			return err
		}
	}
	t.opened, t.open[position] = append(t.opened, held{position, due, holder}), true
	return nil
}

// CloseAccess implements audit.Tx.
func (t *tx) CloseAccess(position uint64) error {
	t.closed, t.open[position] = append(t.closed, position), false
	return nil
}

// PutAlert implements audit.Tx.
func (t *tx) PutAlert(position uint64, kind audit.AlertKind) error {
	return t.exec("noting an alert", putAlert, number(position), string(kind))
}

// AlertDelivered implements audit.Tx.
func (t *tx) AlertDelivered(position uint64, at time.Time) error {
	return t.exec("noting a delivered alert", `UPDATE alerts SET delivered = ? WHERE position = ? AND delivered IS NULL`, at.UnixMicro(), number(position))
}

// AlertReviewed implements audit.Tx.
func (t *tx) AlertReviewed(position, review uint64) error {
	return t.exec("noting a review", `UPDATE alerts SET review = NULLIF(?, 0) WHERE position = ?`, number(review), number(position))
}
