package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
	"github.com/mycarerecord/mycarerecord/test/services"
)

var ctx = context.Background()

// place is one database, reached through an address.
type place struct {
	url     string
	replica string
	timeout time.Duration
}

// Open implements storetest.Place.
func (p place) Open(t testing.TB) audit.Store { return p.open(t) }

func (p place) open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(ctx, Config{Connection: p.url, Replica: p.replica, Timeout: p.timeout})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return s
}

func TestStore(t *testing.T) {
	server := services.PostgreSQL(t)
	name := server.Database(t)
	storetest.Run(t, func(t testing.TB) storetest.Place { empty(t, server.URL(name)); return place{url: server.URL(name)} })
}

// empty takes away what a database holds: that is faster than making another.
func empty(t testing.TB, url string) {
	t.Helper()
	c, err := pgx.Connect(ctx, url)
	if err == nil {
		_, err = c.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
		err = errors.Join(err, c.Close(ctx))
	}
	if err != nil {
		t.Fatalf("emptying a database: %v", err)
	}
}

// Each kind of write fails, and fails but is kept, on a connection that is lost around the commit.
func TestWritesFail(t *testing.T) {
	server := services.PostgreSQL(t)
	name := server.Database(t)
	storetest.Writes(t, func(t testing.TB) (storetest.Place, []storetest.Fault) {
		empty(t, server.URL(name))
		proxy := services.NewProxy(t, server.Address())
		same := func(t testing.TB, s audit.Store) audit.Store { return s } // it finds its way by itself
		return place{url: services.PostgreSQLURL(proxy.Address(), name), timeout: 500 * time.Millisecond}, []storetest.Fault{
			{Name: "lost before the writes", Arm: func(testing.TB, audit.Store) { proxy.CutBefore("", 8) }, Heal: same},
			{Name: "lost before the commit", Arm: func(testing.TB, audit.Store) { proxy.CutBefore("COMMIT", 0) }, Heal: same},
			{Name: "lost after the commit", Kept: true, Arm: func(testing.TB, audit.Store) { proxy.CutAfter("COMMIT", 0) }, Heal: same},
			{Name: "silence after the commit", Kept: true, Slow: true, Arm: func(testing.TB, audit.Store) { proxy.Silence("COMMIT", 0) }, Heal: same},
			{Name: "opened anew after the commit", Kept: true, Slow: true, Arm: func(testing.TB, audit.Store) { proxy.CutAfter("COMMIT", 0) }, Heal: func(t testing.TB, s audit.Store) audit.Store {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				return place{url: s.(*Store).dial.config.ConnString()}.open(t)
			}},
		}
	})
}

// The connection is lost at every message of a transaction in turn. What was not sent to be committed is not kept, and the store goes on.
func TestLostAtEachMessage(t *testing.T) {
	server := services.PostgreSQL(t)
	proxy := services.NewProxy(t, server.Address())
	s := place{url: services.PostgreSQLURL(proxy.Address(), server.Database(t)), timeout: time.Second}.open(t)
	defer func() { _ = s.Close() }()
	size := uint64(0)
	person := strings.Repeat("p", 32)
	add := func() error {
		ahead := audit.Wanted{Marks: []audit.Mark{{Kind: audit.MarkKey, Value: "k"}}, Persons: []string{person}, Open: []uint64{0}}
		return s.Update(ctx, ahead, func(tx audit.Tx) error {
			head, err := tx.Head()
			if err != nil {
				return err
			}
			e := audit.Entry{Position: head.Size, Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(int64(head.Size)), Epoch: 1, Leaf: [32]byte{byte(head.Size)}, Sealed: []byte{1}}
			frontier := make([][32]byte, ones(head.Size+1))
			if _, _, err := tx.Newest([]audit.Mark{{Kind: audit.MarkKey, Value: "k"}}); err != nil {
				return err
			}
			return errors.Join(tx.Append(e, []audit.Mark{{Kind: audit.MarkKey, Value: "k"}}), tx.OpenAccess(head.Size, time.UnixMicro(1), ""),
				tx.PutObjection(audit.ObjectionRow{ID: fmt.Sprint(head.Size), Person: person, Position: head.Size}), tx.PutTree(frontier, nil))
		})
	}
	held := func() (h audit.Head) {
		t.Helper()
		if err := s.View(ctx, func(r audit.Reader) (err error) { h, err = r.Head(); return err }); err != nil {
			t.Fatalf("reading: %v", err)
		}
		return h
	}
	if err := add(); err != nil {
		t.Fatal(err)
	}
	size++
	lost, unknown, again := 0, 0, 0
	for n := 0; ; n++ {
		done := proxy.CutBefore("", n)
		err := add()
		select {
		case <-done:
		default: // the transaction has fewer messages
			proxy.Heal()
			if err != nil {
				t.Fatalf("with nothing lost: %v", err)
			}
			size++
			if got := held().Size; got != size {
				t.Fatalf("%d entries, want %d", got, size)
			}
			if lost < 20 || unknown != 1 || again > 20 { // what is asked ahead belongs to the beginning: some 15 messages, with the statements prepared anew
				t.Errorf("lost at %d messages: %d of unknown outcome, %d begun anew; want at least 20, one, and few", lost, unknown, again)
			}
			t.Logf("lost at each of %d messages", lost)
			return
		}
		lost++
		got := held().Size
		switch {
		case err == nil: // lost while it began: it began anew on another connection
			size++
			again++
		case errors.Is(err, audit.ErrUnknownOutcome):
			unknown++
		}
		if got != size {
			t.Fatalf("message %d: %d entries, want %d (%v)", n, got, size, err)
		}
		if errors.Is(err, audit.ErrUnsound) {
			t.Fatalf("message %d: %v", n, err)
		}
	}
}

func ones(n uint64) (c int) {
	for ; n > 0; n &= n - 1 {
		c++
	}
	return c
}

// Two stores on one database write in turns: one order, without gaps, each transaction on top of all before it.
func TestTwoReplicas(t *testing.T) {
	server := services.PostgreSQL(t)
	url := server.URL(server.Database(t))
	const each = 60
	failed := make(chan error, 2)
	for i := range 2 {
		s := place{url: url, replica: fmt.Sprint(i)}.open(t)
		defer func() { _ = s.Close() }()
		go func() {
			for n := range each {
				var position uint64
				var ahead audit.Wanted // what is asked for ahead is asked when the turn has come, not when the waiting began
				if n%2 == 0 {
					ahead.Marks = []audit.Mark{{Kind: audit.MarkKey, Value: "k"}}
				}
				err := s.Update(ctx, ahead, func(tx audit.Tx) error {
					head, err := tx.Head()
					if err != nil {
						return err
					}
					position = head.Size
					newest, ok, err := tx.Newest([]audit.Mark{{Kind: audit.MarkKey, Value: "k"}})
					if err != nil || ok != (head.Size > 0) || ok && newest != head.Size-1 {
						return fmt.Errorf("newest %d %v at size %d: %w", newest, ok, head.Size, err)
					}
					e := audit.Entry{Position: head.Size, Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(1), Epoch: uint32(i), Leaf: [32]byte{byte(n)}, Sealed: []byte{1}}
					return errors.Join(tx.Append(e, []audit.Mark{{Kind: audit.MarkKey, Value: "k"}}), tx.PutTree(make([][32]byte, ones(head.Size+1)), nil))
				})
				if err == nil { // whoever is told reads it, on whichever replica
					err = s.View(ctx, func(r audit.Reader) error { _, err := r.Entry(position); return err })
				}
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	s := place{url: url, replica: "reader"}.open(t)
	defer func() { _ = s.Close() }()
	err := s.View(ctx, func(r audit.Reader) error {
		list, err := r.Entries(0, 1000)
		if len(list) != 2*each {
			return fmt.Errorf("%d entries, want %d: %w", len(list), 2*each, err)
		}
		for i, e := range list {
			if e.Position != uint64(i) {
				return fmt.Errorf("position %d at %d", e.Position, i)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
