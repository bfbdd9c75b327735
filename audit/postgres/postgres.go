// Package postgres keeps the ledger in a PostgreSQL database that several replicas share (L-1). The SQL is written by hand and lives in this folder.
//
// One transaction at a time writes, on whichever replica: it begins by locking the head row, and all that it reads after that it reads as the
// last one that was kept left it. Positions come from the head row. What a transaction writes goes to the server in one go before the commit.
//
// Everything goes to the primary. A server that only follows another, one that is read-only, or one whose settings would lose what it acknowledged is
// refused (L-8), at the start and again on every connection and in every transaction. So is one that was promoted after a failover, until an
// operator says that it holds all that was acknowledged: with asynchronous replication it may not, and nothing in it tells.
//
// A commit that was sent and not confirmed is of unknown outcome. The next transaction waits for the head row until the lost session has ended, one
// way or the other, and then sees which it was.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Config says where the ledger is. Connection must be given; the zero value of each other field is its default.
type Config struct {
	Connection string        // as libpq takes it: postgres://user@host/database, or key=value. It may hold a password: it is never logged, and no error repeats it
	Replica    string        // the name of this process among those that share the ledger; two of one name are refused
	Readers    int           // connections that only read; 4
	Timeout    time.Duration // of one statement of a transaction that writes, of its commit, and of the wait for other replicas; 5 s
	Cluster    string        // the cluster and timeline that an operator accepted after a failover, as the refusal names it; "": the one that the ledger was last written on
}

// Store is an audit.Store in a PostgreSQL database.
type Store struct {
	dial    dialer
	turn    sync.Mutex // of who writes
	writer  *pgx.Conn  // nil: none, or lost
	readers pool
	unsound atomic.Bool
	kept    kept
}

var _ audit.Store = (*Store)(nil)

// kept is the newest entry that this process knows to be durable. A server that does not hold it has lost what was acknowledged.
type kept struct {
	size uint64
	leaf []byte // of the entry at size-1; nil while nothing is known
}

// Open connects, brings the schema up to date, reads the durability settings back, and refuses a server that could lose what it acknowledges. Every
// refusal says in a sentence what is wrong.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Readers <= 0 {
		c.Readers = 4
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	dial, err := newDialer(c)
	if err != nil {
		return nil, err
	}
	s := &Store{dial: dial, readers: newPool(c.Readers)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Check refuses a configuration that could not be opened whatever the database says. It asks nobody.
func Check(c Config) error {
	_, err := newDialer(c)
	return err
}

func (s *Store) open(ctx context.Context) error {
	c, err := s.dial.connect(ctx, forMigration)
	if err != nil {
		return err
	}
	if s.dial.schema, err = migrate(ctx, c, embedded); err == nil {
		err = s.dial.join(ctx, c)
	}
	s.dial.close(c)
	if err != nil {
		return err
	}
	if s.writer, err = s.dial.connect(ctx, forWriting); err != nil {
		return err
	}
	return s.View(ctx, func(audit.Reader) error { return nil })
}

// Update implements audit.Store.
func (s *Store) Update(ctx context.Context, ahead audit.Wanted, f func(audit.Tx) error) (err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.unsound.Load() {
		return audit.ErrUnsound
	}
	ctx = context.WithoutCancel(ctx) // every wait has a deadline of its own; a commit that has begun is not given up
	t, err := s.begin(ctx, ahead)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // f failed or panicked: nothing is kept
			s.undo(ctx)
		}
	}()
	if err := f(t); err != nil {
		return err
	}
	if err := t.finish(); err != nil {
		return err
	}
	done = true // from here on it may be kept, and there is nothing to undo
	if err := s.commit(ctx); err != nil {
		return err
	}
	if n := len(t.appended.leaves); n > 0 {
		s.kept = kept{t.head.Size, t.appended.leaves[n-1]}
	}
	return nil
}

// begin starts a transaction that holds the head row. A connection that was lost since it was last used costs nothing: nothing was sent on it.
func (s *Store) begin(ctx context.Context, ahead audit.Wanted) (*tx, error) {
	for {
		fresh := s.writer == nil
		if fresh {
			var err error
			if s.writer, err = s.dial.connect(ctx, forWriting); err != nil {
				s.writer = nil
				return nil, s.judge("connecting to the database", err)
			}
		}
		t := &tx{reader: reader{ctx: ctx, s: s, conn: s.writer, limit: s.dial.timeout}}
		err := t.lock(ahead)
		if err == nil && fresh {
			err = s.holdsKept(t)
		}
		if err == nil {
			return t, nil
		}
		lost := s.writer.IsClosed()
		s.undo(ctx)
		switch {
		case errors.Is(err, audit.ErrUnsound):
			return nil, err
		case lost && !fresh:
		case misread(err) && len(ahead.Marks)+len(ahead.Persons)+len(ahead.Open) > 0: // the whole exchange was not begun; by itself the lock says which schema there is
			ahead = audit.Wanted{}
		default:
			return nil, err
		}
	}
}

// holdsKept holds a server that was connected to anew against what is known to have been acknowledged.
func (s *Store) holdsKept(t *tx) error {
	if s.kept.leaf == nil {
		return nil
	}
	var same bool
	ok, err := t.one("looking for what was acknowledged", `SELECT leaf = $2 FROM entries WHERE position = $1`, []any{int64(s.kept.size - 1), s.kept.leaf}, &same)
	if err != nil {
		return err
	}
	if !ok || !same || t.head.Size < s.kept.size {
		s.unsound.Store(true)
		return fmt.Errorf("%w: the database does not hold what was acknowledged: a standby that lagged was promoted, or an old backup restored; do not go on", audit.ErrUnsound)
	}
	return nil
}

// undo ends a transaction of which nothing is to be kept. If it cannot be ended, its connection is, and the server undoes it.
func (s *Store) undo(ctx context.Context) {
	if s.writer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.dial.timeout)
	defer cancel()
	if _, err := s.writer.Exec(ctx, "ROLLBACK"); err != nil || s.writer.PgConn().TxStatus() != 'I' {
		s.dial.close(s.writer)
		s.writer = nil
	}
}

// commit sends the commit and waits for its confirmation, for as long as a statement may take and a little more.
func (s *Store) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.dial.timeout+time.Second)
	defer cancel()
	tag, err := s.writer.Exec(ctx, "COMMIT")
	switch {
	case err == nil && tag.String() == "COMMIT":
		return nil
	case err == nil: // the server had given the transaction up, and says so
		return errors.New("committing: the database undid the transaction")
	}
	s.dial.close(s.writer)
	s.writer = nil
	err = s.judge("committing", err)
	if undone(err) {
		return err
	}
	return fmt.Errorf("%w: %w", audit.ErrUnknownOutcome, err)
}

// View implements audit.Store.
func (s *Store) View(ctx context.Context, f func(audit.Reader) error) error {
	if s.unsound.Load() {
		return audit.ErrUnsound
	}
	c, err := s.beginView(ctx)
	if err != nil {
		return err
	}
	whole := false
	defer func() { s.readers.put(c, s.endView(c) && whole) }()
	err = f(&reader{ctx: ctx, s: s, conn: c})
	whole = true // f returned, and did not panic in the middle of a reply
	return err
}

// beginView finds a reading connection and takes its snapshot. One that was lost since it was last used is replaced.
func (s *Store) beginView(ctx context.Context) (*pgx.Conn, error) {
	if err := s.readers.enter(ctx); err != nil {
		return nil, errors.New("beginning to read: out of time: all reading connections are in use")
	}
	for {
		c := s.readers.take()
		fresh := c == nil
		if fresh {
			var err error
			if c, err = s.dial.connect(ctx, forReading); err != nil {
				s.readers.put(nil, false)
				return nil, s.judge("connecting to the database", err)
			}
		}
		_, err := c.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
		if err == nil {
			return c, nil
		}
		s.dial.close(c)
		if fresh || ctx.Err() != nil {
			s.readers.put(nil, false)
			return nil, s.judge("beginning to read", err)
		}
	}
}

// endView ends a reading transaction, and reports whether the connection can be used again.
func (s *Store) endView(c *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if !c.IsClosed() {
		if _, err := c.Exec(ctx, "ROLLBACK"); err == nil && c.PgConn().TxStatus() == 'I' {
			return true
		}
	}
	s.dial.close(c)
	return false
}

// Purge implements audit.Store: the tables are written anew, without what was erased. What the server itself keeps besides, its write-ahead log, the
// log's archive, standbys and backups, ends when the server or its operator recycles them: nothing that a client does can empty them.
func (s *Store) Purge(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.unsound.Load() {
		return audit.ErrUnsound
	}
	c, err := s.dial.connect(ctx, forMigration)
	if err != nil {
		return s.judge("connecting to the database", err)
	}
	defer s.dial.close(c)
	for _, table := range []string{"entries", "marks", "objections"} {
		if _, err := c.Exec(ctx, "VACUUM (FULL, ANALYZE) "+table); err != nil {
			return s.judge("writing a table anew", err)
		}
	}
	return nil
}

// Close implements audit.Store.
func (s *Store) Close() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.writer != nil {
		s.dial.close(s.writer)
		s.writer = nil
	}
	for c := s.readers.take(); c != nil; c = s.readers.take() {
		s.dial.close(c)
	}
	return nil
}

// pool keeps connections that only read.
type pool struct {
	room chan struct{}
	idle chan *pgx.Conn
}

func newPool(n int) pool { return pool{make(chan struct{}, n), make(chan *pgx.Conn, n)} }

// enter waits for room to use a connection.
func (p pool) enter(ctx context.Context) error {
	select {
	case p.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns a connection that is not in use, or nil.
func (p pool) take() *pgx.Conn {
	for {
		select {
		case c := <-p.idle:
			if !c.IsClosed() {
				return c
			}
		default:
			return nil
		}
	}
}

// put gives room back, and a connection that can be used again.
func (p pool) put(c *pgx.Conn, usable bool) {
	if usable {
		p.idle <- c // there is room: fewer are in use than there may be
	}
	<-p.room
}
