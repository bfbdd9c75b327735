package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"math"
	"slices"
)

// statements are prepared on one connection, to be used by one goroutine at a time. A query that is not among them is asked as it is the first time, and
// prepared for the rest of the transaction the second: whoever looks at thousands of people in one state would spend most of the time on
// reading the same few statements.
//
// database/sql opens and closes the connection; what is asked goes to its driver. A request asks the ledger about forty times, and the rows, results and contexts that
// database/sql makes for each, with a goroutine that waits for the context to end, were more than the reading. So a statement that was prepared beforehand does not watch its context:
// each finds a few rows by an index, and the context is looked at in front of it and of every row; where SQLite waits for a lock within one, it waits for busy_timeout at most. Any other can be cut short while it runs.
type statements struct {
	conn     *sql.Conn
	prepared map[string]prepared
	often    map[string]prepared // nil: asked once

	// What is made for one statement and used again for the next, emptied in between.
	piece []driver.Value
	args  []driver.NamedValue
	found *rows
}

// prepared is a statement of the driver.
type prepared interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// direct is what a connection of the driver does without a statement.
type direct interface {
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

// errValue stands for a value that no column of ours holds: the file was changed by somebody else, or is damaged.
var errValue = errors.New("a value of another kind")

func prepareAll(ctx context.Context, c *sql.Conn, queries ...string) (*statements, error) {
	s := &statements{conn: c, prepared: map[string]prepared{}, often: map[string]prepared{}}
	for _, q := range queries {
		p, err := s.prepare(ctx, q)
		if err != nil {
			s.close()
			return nil, reduce(preparing, err)
		}
		s.prepared[q] = p
	}
	return s, nil
}

func (s *statements) prepare(ctx context.Context, q string) (p prepared, err error) {
	err = s.conn.Raw(func(c any) error {
		made, err := c.(direct).PrepareContext(ctx, q)
		if err == nil {
			p = made.(prepared)
		}
		return err
	})
	return p, err
}

// over ends what was prepared for one transaction.
func (s *statements) over() {
	for q, p := range s.often {
		s.end(p)
		delete(s.often, q)
	}
}

func (s *statements) close() {
	s.over()
	for _, p := range s.prepared {
		s.end(p)
	}
}

// end closes a statement. Nothing is lost with it.
func (s *statements) end(p prepared) {
	if p != nil {
		_ = s.conn.Raw(func(any) error { return p.Close() })
	}
}

// statement returns what is prepared of a query, nil for nothing, and the context that it watches.
func (s *statements) statement(ctx context.Context, q string) (prepared, context.Context) {
	if p := s.prepared[q]; p != nil {
		return p, context.Background()
	}
	p, before := s.often[q]
	if p != nil {
		return p, ctx
	}
	if before {
		if made, err := s.prepare(ctx, q); err == nil { // else it is asked as it is, and says itself what is wrong
			p = made
		}
	}
	s.often[q] = p
	return p, ctx
}

// named are values as the driver takes them, until the next statement.
func (s *statements) named(values []driver.Value) []driver.NamedValue {
	s.args = s.args[:0]
	for i, v := range values {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s.args
}

// exec does what a statement says. The values are those that the driver knows: int64, string, []byte and nil.
func (s *statements) exec(ctx context.Context, q string, values []driver.Value) (result driver.Result, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, ctx := s.statement(ctx, q)
	args := s.named(values)
	defer clear(args)
	err = s.conn.Raw(func(c any) error {
		if p != nil {
			result, err = p.ExecContext(ctx, args)
		} else {
			result, err = c.(direct).ExecContext(ctx, q, args)
		}
		return err
	})
	return result, err
}

// query asks. The rows MUST be closed.
func (s *statements) query(ctx context.Context, q string, values []driver.Value) (r *rows, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, ctx := s.statement(ctx, q)
	args := s.named(values)
	defer clear(args)
	if r, s.found = s.found, nil; r == nil { // whoever asks in between has others
		r = &rows{s: s}
	}
	err = s.conn.Raw(func(c any) error {
		if p != nil {
			r.from, err = p.QueryContext(ctx, args)
		} else {
			r.from, err = c.(direct).QueryContext(ctx, q, args)
		}
		if err == nil {
			n := len(r.from.Columns())
			r.at.values = slices.Grow(r.at.values[:0], n)[:n]
		}
		return err
	})
	return r, err
}

// rows are what a query found, one after the other.
type rows struct {
	s    *statements
	from driver.Rows
	at   row
}

// next returns the next row, which is good until the one after it; nil at the end.
func (r *rows) next(ctx context.Context) (*row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := r.s.conn.Raw(func(any) error { return r.from.Next(r.at.values) })
	switch {
	case err == nil:
		return &r.at, nil
	case errors.Is(err, io.EOF):
		return nil, nil
	}
	return nil, err
}

// close ends the reading. Whatever there was to say of it next has said.
func (r *rows) close() {
	_ = r.s.conn.Raw(func(any) error { return r.from.Close() })
	clear(r.at.values)
	r.from, r.at.bad = nil, false
	r.s.found = r
}

// row is one row of what a query found. What it holds of another kind than it is asked for makes it bad, and is zero.
type row struct {
	values []driver.Value
	bad    bool
}

func (r *row) null(i int) bool { return r.values[i] == nil }

func (r *row) number(i int) int64 {
	n, is := r.values[i].(int64)
	r.bad = r.bad || !is
	return n
}

// within is a number from 0 to a bound.
func (r *row) within(i int, most int64) int64 {
	n := r.number(i)
	if n < 0 || n > most {
		r.bad = true
		return 0
	}
	return n
}

// position is a number that is not below zero.
func (r *row) position(i int) uint64 { return uint64(r.within(i, math.MaxInt64)) } //nolint:gosec // it is within

func (r *row) text(i int) string {
	t, is := r.values[i].(string)
	r.bad = r.bad || !is
	return t
}

// bytes are nobody else's; nil for NULL and for none.
func (r *row) bytes(i int) []byte {
	b, is := r.values[i].([]byte)
	r.bad = r.bad || !is && r.values[i] != nil
	return b
}

// number is a position, or a count, as SQLite keeps it. It has no room for the last bit, which nothing that is kept comes near: a bound that is beyond all is still beyond all.
func number(n uint64) driver.Value { return int64(min(n, math.MaxInt64)) } //nolint:gosec // it fits
