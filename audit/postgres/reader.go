package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mycarerecord/mycarerecord/audit"
)

// reader implements audit.Reader on a transaction that is under way.
type reader struct {
	ctx   context.Context // of the one call of View or Update that made it
	s     *Store
	conn  *pgx.Conn
	limit time.Duration // of one statement; 0: none but ctx
}

// patience returns a context for one exchange with the server. The server gives a statement up first, and says why.
func (r *reader) patience() (context.Context, context.CancelFunc) {
	if r.limit == 0 {
		return r.ctx, func() {}
	}
	return context.WithTimeout(r.ctx, r.limit+time.Second)
}

// each runs a query and calls scan for every row.
func (r *reader) each(doing, query string, args []any, scan func(pgx.Rows) error) error {
	ctx, cancel := r.patience()
	defer cancel()
	rows, err := r.conn.Query(ctx, query, args...)
	if err != nil {
		return r.s.judge(doing, err)
	}
	return r.drain(doing, rows, scan)
}

// drain reads the rows of a query.
func (r *reader) drain(doing string, rows pgx.Rows, scan func(pgx.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return r.s.judge(doing, err)
	}
	return nil
}

// one runs a query for at most one row, and reports whether there was one.
func (r *reader) one(doing, query string, args []any, into ...any) (bool, error) {
	ctx, cancel := r.patience()
	defer cancel()
	err := r.conn.QueryRow(ctx, query, args...).Scan(into...)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	}
	return false, r.s.judge(doing, err)
}

// Head implements audit.Reader.
func (r *reader) Head() (audit.Head, error) {
	var size, newest int64
	var frontier []byte
	ok, err := r.one("reading the head", `SELECT size, newest, frontier FROM head WHERE one`, nil, &size, &newest, &frontier)
	if err != nil {
		return audit.Head{}, err
	}
	if !ok {
		return audit.Head{}, errNoHead
	}
	return headOf(size, newest, frontier)
}

var errNoHead = fmt.Errorf("%w: the head row is missing", audit.ErrDamaged)

func headOf(size, newest int64, frontier []byte) (audit.Head, error) {
	if len(frontier)%32 != 0 {
		return audit.Head{}, fmt.Errorf("%w: the head row holds a hash of the wrong length", audit.ErrDamaged)
	}
	h := audit.Head{Size: uint64(size)}
	if size > 0 {
		h.Newest = time.UnixMicro(newest).UTC()
	}
	for ; len(frontier) > 0; frontier = frontier[32:] {
		h.Frontier = append(h.Frontier, [32]byte(frontier))
	}
	return h, nil
}

type scanner interface{ Scan(into ...any) error }

const entryColumns = `position, version, type, time, epoch, commitment, leaf`

// scanEntry reads the columns of an entry; more are columns after them.
func scanEntry(row scanner, more ...any) (audit.Entry, error) {
	var position, micros, epoch int64
	var version, kind int16
	var commitment, leaf []byte
	if err := row.Scan(append([]any{&position, &version, &kind, &micros, &epoch, &commitment, &leaf}, more...)...); err != nil {
		return audit.Entry{}, err
	}
	e := audit.Entry{Position: uint64(position), Version: uint8(version), Type: audit.EntryType(kind), Time: time.UnixMicro(micros).UTC(), Epoch: uint32(epoch)}
	copy(e.Commitment[:], commitment)
	copy(e.Leaf[:], leaf)
	if len(commitment) != len(e.Commitment) || len(leaf) != len(e.Leaf) {
		return e, fmt.Errorf("%w: entry %d has a hash of the wrong length", audit.ErrDamaged, e.Position)
	}
	return e, nil
}

// Entry implements audit.Reader.
func (r *reader) Entry(position uint64) (audit.Entry, error) {
	list, err := r.entries("reading an entry", `SELECT `+entryColumns+`, sealed FROM entries WHERE position = $1`, int64(position))
	if err == nil && len(list) == 0 {
		return audit.Entry{}, audit.ErrNoEntry
	}
	if err != nil {
		return audit.Entry{}, err
	}
	return list[0], nil
}

// Entries implements audit.Reader.
func (r *reader) Entries(from uint64, limit int) ([]audit.Entry, error) {
	return r.entries("reading entries", `SELECT `+entryColumns+`, sealed FROM entries WHERE position >= $1 ORDER BY position LIMIT $2`, int64(from), limit)
}

// EntriesAt implements audit.Reader.
func (r *reader) EntriesAt(positions []uint64) ([]audit.Entry, error) {
	list := make([]int64, len(positions))
	place := make(map[uint64]int, len(positions))
	for i, p := range positions {
		list[i], place[p] = int64(p), i
	}
	out, err := r.entries("reading entries", `SELECT `+entryColumns+`, sealed FROM entries WHERE position = ANY ($1)`, list)
	slices.SortFunc(out, func(a, b audit.Entry) int { return place[a.Position] - place[b.Position] })
	return out, err
}

func (r *reader) entries(doing, query string, args ...any) (out []audit.Entry, err error) {
	err = r.each(doing, query, args, func(rows pgx.Rows) error {
		var sealed []byte
		e, err := scanEntry(rows, &sealed)
		if err != nil && !errors.Is(err, audit.ErrDamaged) {
			err = r.s.judge(doing, err)
		}
		e.Sealed = sealed
		out = append(out, e)
		return err
	})
	return out, err
}

// Leaves implements audit.Reader. The numbers stand in queries of their own so that the server plans once: of a number that it knows it looks for the table's end anew each time, which at the
// growing end took four times as long as the reading.
func (r *reader) Leaves(from uint64, limit int) (out []audit.Entry, err error) {
	const query = `SELECT ` + entryColumns + ` FROM entries WHERE position >= (SELECT $1::bigint) ORDER BY position LIMIT (SELECT $2::bigint)`
	err = r.each("reading leaves", query, []any{int64(from), limit}, func(rows pgx.Rows) error {
		e, err := scanEntry(rows)
		if err != nil && !errors.Is(err, audit.ErrDamaged) {
			err = r.s.judge("reading leaves", err)
		}
		out = append(out, e)
		return err
	})
	return out, err
}

// Nodes implements audit.Reader.
func (r *reader) Nodes(level uint8, from uint64, limit int) (out []audit.Node, err error) {
	query, args := `SELECT number, hash FROM nodes WHERE level = $3 AND number >= $1 ORDER BY number LIMIT $2`, []any{int64(from), limit, int16(level)}
	if level == 0 { // as in Leaves
		query, args = `SELECT position, leaf FROM entries WHERE position >= (SELECT $1::bigint) ORDER BY position LIMIT (SELECT $2::bigint)`, args[:2]
	}
	err = r.each("reading the tree", query, args, func(rows pgx.Rows) error {
		var number int64
		var hash []byte
		if err := rows.Scan(&number, &hash); err != nil {
			return r.s.judge("reading the tree", err)
		}
		n := audit.Node{Level: level, Index: uint64(number)}
		if copy(n.Hash[:], hash); len(hash) != len(n.Hash) {
			return fmt.Errorf("%w: the tree holds a hash of the wrong length", audit.ErrDamaged)
		}
		out = append(out, n)
		return nil
	})
	return out, err
}

// Checkpoints implements audit.Reader.
func (r *reader) Checkpoints(from uint64, limit int) ([]audit.Checkpoint, error) {
	return r.checkpoints("reading checkpoints", `SELECT size, at, note FROM checkpoints WHERE size >= $1 ORDER BY size LIMIT $2`, int64(from), limit)
}

// LastCheckpoint implements audit.Reader.
func (r *reader) LastCheckpoint() (audit.Checkpoint, bool, error) {
	list, err := r.checkpoints("reading the newest checkpoint", `SELECT size, at, note FROM checkpoints ORDER BY size DESC LIMIT 1`)
	if err != nil || len(list) == 0 {
		return audit.Checkpoint{}, false, err
	}
	return list[0], true, nil
}

func (r *reader) checkpoints(doing, query string, args ...any) (out []audit.Checkpoint, err error) {
	err = r.each(doing, query, args, func(rows pgx.Rows) error {
		var size, micros int64
		var note []byte
		if err := rows.Scan(&size, &micros, &note); err != nil {
			return r.s.judge(doing, err)
		}
		out = append(out, audit.Checkpoint{Size: uint64(size), At: time.UnixMicro(micros).UTC(), Note: note})
		return nil
	})
	return out, err
}

func (r *reader) positions(doing, query string, args ...any) (out []uint64, err error) {
	err = r.each(doing, query, args, func(rows pgx.Rows) error {
		var p int64
		if err := rows.Scan(&p); err != nil {
			return r.s.judge(doing, err)
		}
		out = append(out, uint64(p))
		return nil
	})
	return out, err
}

// OfType implements audit.Reader.
func (r *reader) OfType(t audit.EntryType, from uint64, limit int) ([]uint64, error) {
	return r.positions("reading entries of a type", `SELECT position FROM entries WHERE type = $1 AND position >= $2 ORDER BY position LIMIT $3`, int16(t), int64(from), limit)
}

// newestMarks finds for each mark the highest position that carries it. Marks that no entry carries are left out.
const newestMarks = `SELECT w.n, m.position FROM unnest($1::smallint[], $2::bytea[]) WITH ORDINALITY AS w (kind, value, n)
	CROSS JOIN LATERAL (SELECT position FROM marks WHERE kind = w.kind AND value = w.value ORDER BY position DESC LIMIT 1) m`

// markArrays turns marks into the arguments of newestMarks.
func markArrays(marks []audit.Mark) (kinds []int16, marked [][]byte) {
	kinds, marked = make([]int16, len(marks)), make([][]byte, len(marks))
	for i, m := range marks {
		kinds[i], marked[i] = int16(m.Kind), []byte(m.Value)
	}
	return kinds, marked
}

// Newest implements audit.Reader.
func (r *reader) Newest(marks []audit.Mark) (newest uint64, found bool, err error) {
	kinds, marked := markArrays(marks)
	err = r.each("looking for a mark", newestMarks, []any{kinds, marked}, func(rows pgx.Rows) error {
		var n, position int64
		if err := rows.Scan(&n, &position); err != nil {
			return r.s.judge("looking for a mark", err)
		}
		newest, found = max(newest, uint64(position)), true
		return nil
	})
	return newest, found, err
}

// Search implements audit.Reader.
func (r *reader) Search(q audit.Query) ([]uint64, error) {
	out, err := r.Searches([]audit.Query{q})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// Searches implements audit.Reader. Each mark of the first group is walked newest first, with the other conditions tried on each position, and ends after a
// page: what there is to merge is a page for each. Times are turned into positions, which they follow. All times are asked for in one exchange with the server, and then everything else in another.
func (r *reader) Searches(list []audit.Query) ([][]uint64, error) {
	type span struct {
		lo, hi uint64
		none   bool
	}
	spans := make([]span, len(list))
	var times, searches pgx.Batch
	at := func(statement string, t time.Time, found func(p uint64), none func()) {
		times.Queue(statement, ceilMicro(t)).QueryRow(func(row pgx.Row) error {
			var p int64
			err := row.Scan(&p)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				none()
				return nil
			case err == nil:
				found(uint64(p))
			}
			return err
		})
	}
	for i, q := range list {
		s := &spans[i]
		s.lo, s.hi = min(q.Least, 1<<63-1), min(q.Before, 1<<63-1)
		if !q.From.IsZero() {
			at(`SELECT position FROM entries WHERE time >= $1 ORDER BY time, position LIMIT 1`, q.From, func(p uint64) { s.lo = max(s.lo, p) }, func() { s.none = true })
		}
		if !q.Until.IsZero() {
			at(`SELECT position FROM entries WHERE time < $1 ORDER BY time DESC, position DESC LIMIT 1`, q.Until, func(p uint64) { s.hi = min(s.hi, p+1) }, func() { s.none = true })
		}
	}
	if err := r.send("searching by time", &times); err != nil {
		return nil, err
	}
	out := make([][]uint64, len(list))
	for i, q := range list {
		if spans[i].none {
			continue
		}
		text, args := searchText(q, spans[i].lo, spans[i].hi)
		searches.Queue(text, args...).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var p int64
				if err := rows.Scan(&p); err != nil {
					return err
				}
				out[i] = append(out[i], uint64(p))
			}
			return rows.Err()
		})
	}
	return out, r.send("searching", &searches)
}

// send sends a batch, if anything is in it, and reads its answers.
func (r *reader) send(doing string, b *pgx.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	ctx, cancel := r.patience()
	defer cancel()
	return r.s.judge(doing, r.conn.SendBatch(ctx, b).Close())
}

// searchText writes the query for a search between two positions. Whether an entry carries a mark is asked by a subquery for its value and not by EXISTS, for which the server may collect all
// entries that carry it first, and a custodian's mark is on nearly all.
func searchText(q audit.Query, lo, hi uint64) (string, []any) {
	var text strings.Builder
	args := []any{int64(lo), int64(hi), q.Limit}
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	byType := len(q.Types) > 0 && (q.Rare || len(q.All) == 0)
	tried := q.All
	if !byType {
		tried = q.All[min(1, len(q.All)):]
	}
	var conditions strings.Builder
	for _, group := range tried {
		conditions.WriteString(" AND (false")
		for _, m := range group {
			fmt.Fprintf(&conditions, " OR (SELECT true FROM marks x WHERE x.kind = %s AND x.value = %s AND x.position = e.position)", arg(int16(m.Kind)), arg([]byte(m.Value)))
		}
		conditions.WriteString(")")
	}
	if len(q.Types) > 0 && !byType {
		types := make([]int16, len(q.Types))
		for i, t := range q.Types {
			types[i] = int16(t)
		}
		fmt.Fprintf(&conditions, " AND (SELECT t.type FROM entries t WHERE t.position = e.position) = ANY (%s::smallint[])", arg(types))
	}
	arm := func(from string) {
		fmt.Fprintf(&text, "(SELECT e.position FROM %s e.position >= $1 AND e.position < $2%s ORDER BY e.position DESC LIMIT $3)", from, conditions.String())
	}
	text.WriteString("SELECT DISTINCT position FROM (")
	switch {
	case byType:
		for i, t := range q.Types {
			if i > 0 {
				text.WriteString(" UNION ALL ")
			}
			arm(fmt.Sprintf("entries e WHERE e.type = %s AND", arg(int16(t))))
		}
	case len(q.All) == 0:
		arm("entries e WHERE")
	default:
		for i, m := range q.All[0] {
			if i > 0 {
				text.WriteString(" UNION ALL ")
			}
			arm(fmt.Sprintf("marks e WHERE e.kind = %s AND e.value = %s AND", arg(int16(m.Kind)), arg([]byte(m.Value))))
		}
	}
	text.WriteString(") found ORDER BY position DESC LIMIT $3")
	return text.String(), args
}

// ceilMicro is the first whole microsecond that is not before t: entries hold whole ones.
func ceilMicro(t time.Time) int64 {
	micros := t.UnixMicro()
	if time.UnixMicro(micros).Before(t) {
		micros++
	}
	return micros
}

// EachMark implements audit.Reader. The marks of a ledger do not fit into memory: they are fetched a page at a time, and f may read in between.
func (r *reader) EachMark(f func(uint64, audit.Mark) error) error {
	const doing, page = "reading marks", 5000
	if err := r.exec(doing, `DECLARE each_mark NO SCROLL CURSOR FOR SELECT kind, value, position FROM marks`); err != nil {
		return err
	}
	for {
		marks := make([]positioned, 0, page)
		err := r.each(doing, fmt.Sprintf(`FETCH %d FROM each_mark`, page), nil, func(rows pgx.Rows) error {
			var kind int16
			var value []byte
			var position int64
			if err := rows.Scan(&kind, &value, &position); err != nil {
				return r.s.judge(doing, err)
			}
			marks = append(marks, positioned{audit.Mark{Kind: audit.MarkKind(kind), Value: string(value)}, uint64(position)})
			return nil
		})
		if err != nil {
			return err
		}
		for _, m := range marks {
			if err := f(m.position, m.Mark); err != nil {
				return errors.Join(err, r.exec(doing, `CLOSE each_mark`))
			}
		}
		if len(marks) < page {
			return r.exec(doing, `CLOSE each_mark`)
		}
	}
}

func (r *reader) exec(doing, query string) error {
	ctx, cancel := r.patience()
	defer cancel()
	_, err := r.conn.Exec(ctx, query)
	return r.s.judge(doing, err)
}

const objectionColumns = `id, person, position`

func (r *reader) objections(doing, query string, args []any, f func(audit.ObjectionRow) error) error {
	return r.each(doing, query, args, func(rows pgx.Rows) error {
		o, err := scanObjection(rows)
		if err != nil {
			return r.s.judge(doing, err)
		}
		return f(o)
	})
}

func scanObjection(row scanner) (audit.ObjectionRow, error) {
	var o audit.ObjectionRow
	var person []byte
	var position int64
	err := row.Scan(&o.ID, &person, &position)
	o.Person, o.Position = string(person), uint64(position)
	return o, err
}

// Objection implements audit.Reader.
func (r *reader) Objection(id string) (found audit.ObjectionRow, ok bool, err error) {
	err = r.objections("reading an objection", `SELECT `+objectionColumns+` FROM objections WHERE id = $1`, []any{id}, func(o audit.ObjectionRow) error {
		found, ok = o, true
		return nil
	})
	return found, ok, err
}

const objectionsOf = `SELECT ` + objectionColumns + ` FROM objections WHERE person = ANY ($1)`

// ObjectionsOf implements audit.Reader.
func (r *reader) ObjectionsOf(persons []string) (out []audit.ObjectionRow, err error) {
	err = r.objections("reading objections", objectionsOf, []any{byteArrays(persons)}, func(o audit.ObjectionRow) error {
		out = append(out, o)
		return nil
	})
	return out, err
}

func byteArrays(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

// EachObjection implements audit.Reader.
func (r *reader) EachObjection(f func(audit.ObjectionRow) error) error {
	var list []audit.ObjectionRow
	err := r.objections("reading objections", `SELECT `+objectionColumns+` FROM objections`, nil, func(o audit.ObjectionRow) error { list = append(list, o); return nil })
	return toEach(list, err, f)
}

// toEach calls f with what was read, when all of it has been: f may read too, and a connection gives one reply at a time.
func toEach[T any](list []T, err error, f func(T) error) error {
	for i := 0; err == nil && i < len(list); i++ {
		err = f(list[i])
	}
	return err
}

// IsOpen implements audit.Reader.
func (r *reader) IsOpen(position uint64) (open bool, err error) {
	_, err = r.one("looking at an access", `SELECT EXISTS (SELECT 1 FROM open_accesses WHERE position = $1)`, []any{int64(position)}, &open)
	return open, err
}

// Open implements audit.Reader.
func (r *reader) Open(due time.Time, limit int) ([]uint64, error) {
	return r.positions("reading open accesses", `SELECT position FROM open_accesses WHERE due <= $1 ORDER BY position LIMIT $2`, dueMicro(due), limit)
}

// OpenOf implements audit.Reader.
func (r *reader) OpenOf(holder string, due time.Time, limit int) ([]uint64, error) {
	return r.positions("reading open accesses", `SELECT position FROM open_accesses WHERE holder = $1 AND due <= $2 ORDER BY position LIMIT $3`, holder, dueMicro(due), limit)
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
	_, err = r.one("counting open accesses", `SELECT count(*) FROM open_accesses`, nil, &n)
	return n, err
}

// EachAlert implements audit.Reader.
func (r *reader) EachAlert(f func(audit.AlertRow) error) error {
	list, err := r.alerts(`SELECT position, kind, delivered, review FROM alerts ORDER BY position`)
	return toEach(list, err, f)
}

// Alerts implements audit.Reader. Those from a position on are walked in order, so that whoever remembers how far it has come reads little.
func (r *reader) Alerts(which audit.AlertState, from uint64, limit int) ([]audit.AlertRow, error) {
	condition := map[audit.AlertState]string{audit.AnyAlert: "", audit.Undelivered: "AND delivered IS NULL", audit.Unreviewed: "AND review IS NULL"}[which]
	return r.alerts(`SELECT position, kind, delivered, review FROM alerts WHERE position >= $1 `+condition+` ORDER BY position LIMIT $2`, int64(from), limit)
}

func (r *reader) alerts(query string, args ...any) (out []audit.AlertRow, err error) {
	err = r.each("reading alerts", query, args, func(rows pgx.Rows) error {
		var position int64
		var kind string
		var delivered, review *int64
		if err := rows.Scan(&position, &kind, &delivered, &review); err != nil {
			return r.s.judge("reading alerts", err)
		}
		a := audit.AlertRow{Position: uint64(position), Kind: audit.AlertKind(kind)}
		if delivered != nil {
			a.Delivered = time.UnixMicro(*delivered).UTC()
		}
		if review != nil {
			a.Review = uint64(*review)
		}
		out = append(out, a)
		return nil
	})
	return out, err
}
