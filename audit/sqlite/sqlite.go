// Package sqlite keeps the ledger in one SQLite file beside the one process that writes it (L-1): write-ahead log, synchronous=FULL, one
// connection that writes and a pool that only reads. The SQL is written by hand and lives in this folder.
//
// The file must be on a local disk: SQLite's shared memory does not work over a network file system.
//
// The store moves the log into the main file itself (a checkpoint), because SQLite would ignore a failed sync while doing so. What a failed sync
// means is decided in one place: the store is unsound from then on (audit.ErrUnsound), since the kernel may have dropped the pages
// that it could not write and report the next sync as good. Opening anew copies the whole log into the main file and syncs it before anything
// is read. What remains, and cannot be seen from here: pages of the main file that were lost and are still cached; a restart of the machine shows
// those to the self-test.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Config says where the ledger is. The zero value of Readers is its default.
type Config struct {
	Path    string // of the file; its folder must exist. SQLite keeps two more beside it (-wal, -shm), and the store one (.lock)
	Readers int    // connections that only read; 4

	vfs string // a file system of tests, which fails and loses power; "" for SQLite's own
}

// Store is an audit.Store in a SQLite file.
type Store struct {
	writer  *sql.DB
	conn    *sql.Conn // the one connection of writer
	readers *sql.DB
	idle    chan *statements // of connections that only read and are not in use; nil: one that is not made yet
	lock    *os.File
	write   *statements
	head    *audit.Head // as the last transaction left it: nobody else moves it, and it is moved only from where it was; nil: it is read
	unsound atomic.Bool
	once    sync.Once
	ended   chan struct{} // closed when the store is: nobody waits for a connection any more
	mover   *sql.Conn     // the other connection of writer: it moves the log into the main file beside the transactions
	pages   atomic.Int64  // written to the log since it was last moved whole
	moving  sync.WaitGroup
	errand  atomic.Int32 // the mover's: resting, sent, back
}

var _ audit.Store = (*Store)(nil)

// The mover's errand.
const (
	resting int32 = iota
	sent
	back
)

// moveAfter is how many pages the log holds, roughly, before it is moved into the main file: 32 MB.
const moveAfter = 8192

// pragmas are what every connection is opened with. They hold per connection, so they stand in the address.
func pragmas(more ...string) url.Values {
	v := url.Values{"_dqs": {"0"}}
	v["_pragma"] = append([]string{"busy_timeout(5000)", "foreign_keys(0)", "journal_mode(WAL)", "synchronous(FULL)", "trusted_schema(0)", "cell_size_check(1)", "temp_store(MEMORY)",
		"wal_autocheckpoint(0)", "journal_size_limit(67108864)", "secure_delete(1)"}, more...)
	return v
}

func address(path string, v url.Values) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: v.Encode()}).String()
}

// Open opens the ledger's file, and makes it if it is not there: readable by its owner only, and on disk before it returns. It brings the schema
// up to date, reads the durability settings back, and refuses a file that it cannot write, that others may touch, that another process has open, or
// that is not sound. Every refusal says in a sentence what is wrong.
func Open(ctx context.Context, c Config) (*Store, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil || c.Path == "" {
		return nil, errors.New("the ledger needs the path of a file")
	}
	s := &Store{ended: make(chan struct{})}
	if s.lock, err = lock(path); err != nil {
		return nil, err
	}
	if err := s.open(ctx, path, c); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string, c Config) error {
	if err := prepare(path); err != nil {
		return err
	}
	var err error
	writing := pragmas()
	writing.Set("_txlock", "immediate")
	writing.Add("_pragma", "cache_size(-8192)") // KiB: the upper pages of the index of marks, and what a transaction touches
	if c.vfs != "" {
		writing.Set("vfs", c.vfs)
	}
	if s.writer, err = sql.Open("sqlite", address(path, writing)); err != nil {
		return reduce("opening the ledger file", err)
	}
	s.writer.SetMaxOpenConns(2)
	if s.conn, err = s.writer.Conn(ctx); err != nil {
		return reduce("opening the ledger file", err)
	}
	// Whatever the log holds is moved into the main file and synced before anything is believed.
	if _, err := s.checkpoint(ctx, s.conn, "TRUNCATE"); err != nil {
		return err
	}
	if err := migrate(ctx, s.conn, embedded); err != nil {
		return err
	}
	if s.mover, err = s.writer.Conn(ctx); err != nil {
		return reduce("opening the ledger file", err)
	}
	if err := errors.Join(readBack(ctx, s.conn, 0), readBack(ctx, s.mover, 0)); err != nil {
		return err
	}
	if s.write, err = prepareAll(ctx, s.conn, slices.Concat(asked, written, []string{begin, beginNow, commit, rollBack})...); err != nil {
		return err
	}
	reading := pragmas("query_only(1)")
	reading.Set("mode", "ro")
	if c.vfs != "" {
		reading.Set("vfs", c.vfs)
	}
	if s.readers, err = sql.Open("sqlite", address(path, reading)); err != nil {
		return reduce("opening the ledger file for reading", err)
	}
	n := max(c.Readers, 0)
	if n == 0 {
		n = 4
	}
	s.readers.SetMaxOpenConns(n)
	s.readers.SetMaxIdleConns(n)
	s.idle = make(chan *statements, n)
	for range n {
		s.idle <- nil
	}
	first, err := s.borrow(ctx)
	s.giveBack(first)
	return err
}

// borrow takes a connection that only reads, and waits for one where all are in use. It MUST be given back, whatever the error.
func (s *Store) borrow(ctx context.Context) (*statements, error) {
	var to *statements
	select {
	case to = <-s.idle:
	case <-ctx.Done():
		return to, reduce("waiting for a reading connection", ctx.Err())
	case <-s.ended:
		return to, errClosed
	}
	if to != nil {
		return to, nil
	}
	conn, err := s.readers.Conn(ctx)
	if err != nil {
		s.idle <- nil
		return nil, reduce("opening the ledger file for reading", err)
	}
	if err = readBack(ctx, conn, 1); err == nil {
		to, err = prepareAll(ctx, conn, slices.Concat(asked, []string{begin, rollBack})...)
	}
	if err != nil {
		_ = conn.Close() // it did nothing yet
		s.idle <- nil
		return nil, err
	}
	return to, nil
}

var errClosed = errors.New("reading: the ledger file is closed")

// giveBack returns what borrow gave. Where the store was closed meanwhile the connection ends.
func (s *Store) giveBack(to *statements) {
	if to == nil {
		return
	}
	to.over()
	s.idle <- to
	select {
	case <-s.ended:
		s.endIdle()
	default:
	}
}

// endIdle ends the reading connections that are not in use.
func (s *Store) endIdle() {
	for {
		select {
		case from := <-s.idle:
			if from != nil {
				from.close()
				_ = from.conn.Close() // it only read
			}
		default:
			return
		}
	}
}

// prepare makes the file, or looks at the one that is there.
func prepare(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		if err := errors.Join(f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
			return fmt.Errorf("the ledger file cannot be made durable: %s", reason(err))
		}
		return nil
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("the ledger file cannot be made: %s", reason(err))
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("the ledger file cannot be looked at: %s", reason(err))
	case !info.Mode().IsRegular():
		return errors.New("the ledger file is not a plain file")
	case info.Mode().Perm()&0o200 == 0:
		return fmt.Errorf("the ledger file is read-only (mode %04o): chmod 0600 it", info.Mode().Perm())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("the ledger file can be touched by others than its owner (mode %04o): chmod 0600 it", info.Mode().Perm())
	}
	if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return fmt.Errorf("the ledger file cannot be written: %s", reason(err))
	}
	return f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readBack reads the durability settings of a connection back (L-8): a setting that was asked for and not taken is not there.
func readBack(ctx context.Context, c *sql.Conn, queryOnly int64) error {
	want := []struct {
		pragma string
		value  any
	}{{"journal_mode", "wal"}, {"synchronous", int64(2)}, {"foreign_keys", int64(0)}, {"query_only", queryOnly}, {"wal_autocheckpoint", int64(0)}, {"secure_delete", int64(1)}}
	for _, w := range want {
		var got any
		if err := c.QueryRowContext(ctx, "PRAGMA "+w.pragma).Scan(&got); err != nil {
			return reduce("reading the setting "+w.pragma+" back", err)
		}
		if got != w.value {
			return fmt.Errorf("the ledger's setting %s is %v and must be %v: it would not be durable, or not safe to read", w.pragma, got, w.value)
		}
	}
	return nil
}

// Update implements audit.Store.
func (s *Store) Update(ctx context.Context, ahead audit.Wanted, f func(audit.Tx) error) (err error) {
	if s.unsound.Load() {
		return audit.ErrUnsound
	}
	ctx = context.WithoutCancel(ctx) // an interrupted statement would end the transaction in a state that is not known
	if _, err := s.write.exec(ctx, beginNow, nil); err != nil {
		return s.judge("beginning a transaction", err)
	}
	done := false
	defer s.write.over()
	defer func() {
		if !done { // f failed or panicked: nothing is kept
			if _, failed := s.write.exec(ctx, rollBack, nil); failed != nil && !s.outside(ctx) {
				s.unsound.Store(true)
			}
		}
	}()
	t := s.newTx(ctx)
	defer func() {
		switch {
		case !done: // where the file is not what we left, what is remembered may not be believed
			s.head = nil
		case t.known:
			h := t.head
			h.Newest = time.UnixMicro(h.Newest.UnixMicro()).UTC() // as it would be read
			if h.Size == 0 {
				h.Newest = time.Time{}
			}
			s.head = &h
		}
	}()
	if err := t.Expect(ahead); err != nil {
		return err
	}
	if err := f(t); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	if _, err := s.write.exec(ctx, commit, nil); err != nil {
		return fmt.Errorf("%w: %w", audit.ErrUnknownOutcome, s.judge("committing", err))
	}
	done = true
	if s.unsound.Load() { // the log's other user saw a sync fail while this one ran: what the kernel dropped may be this transaction
		return fmt.Errorf("%w: %w", audit.ErrUnknownOutcome, audit.ErrUnsound)
	}
	if s.pages.Add(s.logged()) >= moveAfter {
		s.move(ctx)
	}
	return nil
}

// logged is how many pages the writing connection has written since it was last asked.
func (s *Store) logged() (pages int64) {
	_ = s.conn.Raw(func(c any) error {
		n, _, err := c.(sqlite.DBStatus).Status(sqlite.DBStatusCacheWrite, true)
		pages = int64(n)
		return err // it knows the counter
	})
	return pages
}

// move has the log moved into the main file, so that the next transaction begins it anew. That is two syncs and many pages, so the mover does it beside the transactions, again
// and again until little has come meanwhile. The little is moved here, between two of them: only a log of which all was moved begins anew. Whatever fails in it, the
// transactions are durable in the log; if it was the disk, the store is unsound from then on.
func (s *Store) move(ctx context.Context) {
	const little, goes = 256, 8 // pages
	switch s.errand.Load() {
	case resting:
		s.errand.Store(sent)
		s.moving.Go(func() {
			defer s.errand.Store(back)
			for range goes {
				if left, err := s.checkpoint(ctx, s.mover, "PASSIVE"); err != nil || left <= little {
					return
				}
			}
		})
	case back:
		s.errand.Store(resting)
		s.pages.Store(0)
		_, _ = s.checkpoint(ctx, s.conn, "PASSIVE") // see above
	}
}

// outside reports whether the writing connection is in no transaction. SQLite ends one by itself after some errors.
func (s *Store) outside(ctx context.Context) bool {
	if _, err := s.write.exec(ctx, begin, nil); err != nil {
		return false
	}
	_, err := s.write.exec(ctx, rollBack, nil)
	return err == nil
}

// checkpoint moves the log into the main file, and returns how many of its pages are left. Another connection that reads may keep it from finishing, which is no fault.
func (s *Store) checkpoint(ctx context.Context, c *sql.Conn, mode string) (left int64, _ error) {
	var busy, log, moved int64
	if err := c.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &log, &moved); err != nil {
		return 0, s.judge("moving the log into the ledger file", err)
	}
	return log - moved, nil
}

// View implements audit.Store.
func (s *Store) View(ctx context.Context, f func(audit.Reader) error) error {
	if s.unsound.Load() {
		return audit.ErrUnsound
	}
	from, err := s.borrow(ctx)
	if err != nil {
		return s.judged(err)
	}
	defer func() { s.giveBack(from) }()
	if _, err := from.exec(ctx, begin, nil); err != nil {
		from = s.giveUp(from)
		return s.judge("beginning to read", err)
	}
	defer func() {
		if _, err := from.exec(context.Background(), rollBack, nil); err != nil { // there is nothing to undo; what is not over would hold up the log
			from = s.giveUp(from)
		}
	}()
	return f(&reader{ctx: ctx, s: s, q: from})
}

// giveUp closes a connection whose state is not known; another is made in its place when it is needed.
func (s *Store) giveUp(from *statements) *statements {
	from.close()
	_ = from.conn.Raw(func(any) error { return driver.ErrBadConn }) // so that it is not used again
	_ = from.conn.Close()
	s.idle <- nil
	return nil
}

// Purge implements audit.Store. secure_delete has overwritten what was erased where it stood, but rows that SQLite moved before may have left copies
// in the free parts of pages: VACUUM writes the file anew, and the log, which still holds the pages as they were, is emptied after it. While it runs nothing can
// be written; that takes about as long as reading and writing the file once.
func (s *Store) Purge(ctx context.Context) error {
	if s.unsound.Load() {
		return audit.ErrUnsound
	}
	ctx = context.WithoutCancel(ctx)
	s.moving.Wait()
	for _, statement := range []string{"PRAGMA temp_store = FILE", "VACUUM", "PRAGMA temp_store = MEMORY"} { // the new file is built in a temporary one, not in memory
		if _, err := s.conn.ExecContext(ctx, statement); err != nil {
			return s.judge("writing the ledger file anew", err)
		}
	}
	var busy, log, moved int64
	if err := s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved); err != nil {
		return s.judge("moving the log into the ledger file", err)
	}
	s.pages.Store(0)
	if busy != 0 || log > 0 {
		return errors.New("emptying the log: somebody is reading the ledger; try again")
	}
	return nil
}

// Close implements audit.Store.
func (s *Store) Close() error {
	var errs []error
	if s.readers != nil {
		s.once.Do(func() { close(s.ended) })
		s.endIdle() // who reads now ends theirs when that is done
		errs = append(errs, s.readers.Close())
	}
	s.moving.Wait()
	if s.mover != nil {
		errs = append(errs, s.mover.Close())
	}
	if s.conn != nil {
		if s.write != nil {
			s.write.close()
		}
		errs = append(errs, s.conn.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if errors.Join(errs...) != nil {
		return errors.New("the ledger file did not close cleanly; what was acknowledged is in its log")
	}
	return nil
}

// judge reduces an error of SQLite, and decides what it says of the store.
func (s *Store) judge(doing string, err error) error { return s.judged(reduce(doing, err)) }

// judged is judge for an error that is reduced already.
func (s *Store) judged(err error) error {
	if errors.Is(err, audit.ErrUnsound) {
		s.unsound.Store(true)
	}
	return err
}

// reduce turns an error of SQLite into one of ours: what we were doing, and SQLite's result code. Its texts can quote values.
func reduce(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: out of time", doing)
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: the driver refused", doing)
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_IOERR, lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("%s: %w (SQLite result %d)", doing, audit.ErrUnsound, e.Code())
	case lib.SQLITE_FULL:
		return fmt.Errorf("%s: %w", doing, audit.ErrFull)
	case lib.SQLITE_READONLY:
		return fmt.Errorf("%s: the file or its folder is read-only", doing)
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return fmt.Errorf("%s: another program holds the file", doing)
	}
	return fmt.Errorf("%s: SQLite result %d", doing, e.Code())
}

// reason reduces an error of the file system to words of our own.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "its folder is not there"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	}
	return "input or output error"
}
