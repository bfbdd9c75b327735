package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// The mark of an epoch that no entry names at first, and what asks for it beforehand.
var (
	epoch = audit.Mark{Kind: audit.MarkEpoch, Value: "two"}
	ahead = audit.Wanted{Marks: []audit.Mark{epoch}}
)

func newStore(t *testing.T) (s *Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger.db")
	s, err := Open(ctx, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

// write adds an entry that carries the marks.
func write(marks ...audit.Mark) func(audit.Tx) error {
	return func(tx audit.Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		if err := tx.Append(audit.Entry{Position: head.Size, Version: 1, Type: 1, Time: time.Now().UTC(), Epoch: 1, Sealed: []byte("sealed")}, marks); err != nil {
			return err
		}
		return tx.PutTree(make([][32]byte, bits.OnesCount64(head.Size+1)), nil)
	}
}

// What is remembered from one transaction to the next is what the file says: the head. Whether an entry names a newer epoch of keys is asked each time.
func TestRemembered(t *testing.T) {
	s, _ := newStore(t)
	named := func(want bool) func(audit.Tx) error {
		return func(tx audit.Tx) error {
			if _, is, err := tx.Newest([]audit.Mark{epoch}); err != nil || is != want {
				t.Errorf("the epoch is named: %v, want %v: %v", is, want, err)
			}
			_, err := tx.Head()
			return err
		}
	}
	name := write(epoch)
	over := errors.New("given up")
	for i, step := range []struct {
		do   []func(audit.Tx) error
		fail error
	}{
		{do: []func(audit.Tx) error{named(false)}},
		{do: []func(audit.Tx) error{named(false), name, named(true)}, fail: over},
		{do: []func(audit.Tx) error{named(false)}},
		{do: []func(audit.Tx) error{named(false), name, func(tx audit.Tx) error { return tx.Erase(0, nil) }, named(true)}},
		{do: []func(audit.Tx) error{named(true)}},
		{do: []func(audit.Tx) error{name, named(true)}},
	} {
		var before audit.Head
		err := s.Update(ctx, ahead, func(tx audit.Tx) (err error) {
			if before, err = tx.Head(); err != nil {
				return err
			}
			for _, do := range step.do {
				if err := do(tx); err != nil {
					return err
				}
			}
			return step.fail
		})
		if !errors.Is(err, step.fail) {
			t.Fatalf("step %d: %v", i, err)
		}
		var head audit.Head
		if err := s.View(ctx, func(r audit.Reader) (err error) { head, err = r.Head(); return err }); err != nil {
			t.Fatal(err)
		}
		if step.fail != nil && head.Size != before.Size {
			t.Errorf("step %d: the head is at %d after a transaction that was given up, and was at %d", i, head.Size, before.Size)
		}
		if s.head != nil && (s.head.Size != head.Size || !s.head.Newest.Equal(head.Newest) || len(s.head.Frontier) != len(head.Frontier)) {
			t.Errorf("step %d: the head is %v, and remembered as %v", i, head, *s.head)
		}
	}
}

// Whatever fails makes the store forget what it remembered: where somebody else wrote the file, which a lock keeps from happening, the next transaction looks.
func TestForgetsWhatFailed(t *testing.T) {
	s, path := newStore(t)
	if err := s.Update(ctx, ahead, write()); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	for _, statement := range []string{`INSERT INTO entries SELECT 1, version, type, time, epoch, commitment, leaf, sealed FROM entries WHERE position = 0`,
		fmt.Sprintf(`INSERT INTO marks VALUES (%d, CAST('two' AS BLOB), 1)`, audit.MarkEpoch), `UPDATE head SET size = 2`} {
		if _, err := other.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := s.Update(ctx, ahead, write()); err == nil {
		t.Error("an entry was written over one of somebody else's")
	}
	err = s.Update(ctx, ahead, func(tx audit.Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		if _, is, err := tx.Newest([]audit.Mark{epoch}); head.Size != 2 || !is || err != nil {
			t.Errorf("size %d, the epoch is named: %v (%v)", head.Size, is, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
