package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	lib "modernc.org/sqlite/lib"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
)

// failing is a file, opened over a file system of ours the first time, and over the real one from then on.
type failing struct {
	path string
	disk *disk
	open int
}

// Open implements storetest.Place.
func (p *failing) Open(t testing.TB) audit.Store {
	t.Helper()
	c := Config{Path: p.path}
	if p.open++; p.open == 1 {
		c.vfs = p.disk.name
	}
	s, err := Open(ctx, c)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return s
}

// Each kind of write fails, and fails but is kept: the log is not written, or is written and its sync fails. Either makes the store unsound, and what
// was kept is found when it is opened anew.
func TestWritesFail(t *testing.T) {
	storetest.Writes(t, func(t testing.TB) (storetest.Place, []storetest.Fault) {
		d, err := newDisk(fmt.Sprintf("writes-%d", diskNumber.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.close)
		p := &failing{path: filepath.Join(t.TempDir(), "ledger.db"), disk: d}
		next := func(what string) func(testing.TB, audit.Store) {
			return func(testing.TB, audit.Store) {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.failNext, d.failWith = what, lib.SQLITE_IOERR
			}
		}
		anew := func(t testing.TB, s audit.Store) audit.Store {
			if err := s.Update(ctx, audit.Wanted{}, func(audit.Tx) error { return nil }); !errors.Is(err, audit.ErrUnsound) {
				t.Errorf("after a write that failed: %v, want ErrUnsound", err)
			}
			// The process ends here: closing would take the log away.
			left := t.TempDir()
			for _, suffix := range []string{"", "-wal"} {
				content, err := os.ReadFile(p.path + suffix)
				if err == nil {
					err = os.WriteFile(filepath.Join(left, "ledger.db"+suffix), content, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			_ = s.Close() // an unsound store need not close cleanly
			p.path = filepath.Join(left, "ledger.db")
			return p.Open(t)
		}
		full := func(testing.TB, audit.Store) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.failNext, d.failWith = "write", lib.SQLITE_FULL
		}
		return p, []storetest.Fault{
			{Name: "failed", Arm: next("write"), Heal: anew},
			{Name: "failed but kept", Kept: true, Arm: next("sync"), Heal: anew},
			{Name: "no room", Arm: full, Heal: func(_ testing.TB, s audit.Store) audit.Store { return s }},
		}
	})
}

type place string

// Open implements storetest.Place.
func (p place) Open(t testing.TB) audit.Store {
	t.Helper()
	s, err := Open(ctx, Config{Path: string(p)})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Place { return place(filepath.Join(t.TempDir(), "ledger.db")) })
}

// A write that failed is not forgotten: what was to be written with it is gone, so nothing of its transaction is kept, whether or not whoever heard of it says so.
func TestAFailedWriteFailsItsTransaction(t *testing.T) {
	s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	open := func(tx audit.Tx) error { return tx.OpenAccess(0, time.Unix(1, 0), "a") }
	if err := s.Update(ctx, audit.Wanted{}, open); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(audit.Tx) error{
		"what waits": func(tx audit.Tx) error {
			_ = open(tx) // it is open already, which shows when it is written
			_ = tx.OpenAccess(1, time.Unix(1, 0), "a")
			if _, err := tx.OpenCount(); err == nil {
				t.Error("an access was opened twice")
			}
			return tx.OpenAccess(2, time.Unix(1, 0), "a")
		},
		"what is written at once": func(tx audit.Tx) error {
			_ = tx.PutAlert(7, audit.AlertBreakGlass)
			if err := tx.PutAlert(7, audit.AlertBreakGlass); err == nil {
				t.Error("an alert was put twice")
			}
			if err := tx.PutAlert(8, audit.AlertBreakGlass); err == nil {
				t.Error("a write after one that failed is taken")
			}
			return nil
		},
	} {
		if err := s.Update(ctx, audit.Wanted{}, write); err == nil {
			t.Errorf("%s: the transaction is kept", name)
		}
		err := s.View(ctx, func(r audit.Reader) error {
			n, err := r.OpenCount()
			rows, failed := r.Alerts(audit.AnyAlert, 0, 10)
			if err == nil && (n != 1 || len(rows) != 0) {
				t.Errorf("%s: %d accesses are open, %d alerts are there", name, n, len(rows))
			}
			return errors.Join(err, failed)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Who reads, or waits to, when the store is closed gets an error, and no connection is left.
func TestReadingAStoreThatIsClosed(t *testing.T) {
	s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "ledger.db"), Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	inside, out, waited := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	read := make(chan error, 1)
	go func() {
		read <- s.View(ctx, func(audit.Reader) error { close(inside); <-out; return nil })
	}()
	<-inside
	go func() { waited <- s.View(ctx, func(audit.Reader) error { return nil }) }()
	time.Sleep(20 * time.Millisecond)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	for _, c := range []chan error{waited, closed} {
		select {
		case err := <-c:
			if c == waited && err == nil {
				t.Error("a closed store was read")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("whoever waits for a closed store waits for ever")
		}
		if c == waited {
			close(out)
		}
	}
	<-read
	if err := s.View(ctx, func(audit.Reader) error { return nil }); err == nil {
		t.Error("a closed store was read")
	}
	if n := s.readers.Stats().OpenConnections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
