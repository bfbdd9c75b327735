package sqlite

import (
	"context"
	"math/bits"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// A request asks the ledger about forty times. What a transaction allocates is little and does not creep back: these bounds are a third above what it was when they were set.
func TestAllocations(t *testing.T) {
	s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	hash := string(make([]byte, 32))
	e := audit.Entry{Version: 1, Type: 1, Time: time.Now().UTC(), Epoch: 1, Sealed: make([]byte, 1000)}
	var marks []audit.Mark
	for kind := range audit.MarkKind(9) {
		marks = append(marks, audit.Mark{Kind: kind + 1, Value: hash})
	}
	ahead := audit.Wanted{Marks: marks[:2], Persons: []string{hash}}
	position := uint64(0)
	write := testing.AllocsPerRun(20, func() {
		err := s.Update(ctx, ahead, func(tx audit.Tx) error {
			head, err := tx.Head()
			if err != nil {
				return err
			}
			e.Position, position = head.Size, head.Size
			if err := tx.Append(e, marks); err != nil {
				return err
			}
			if err := tx.OpenAccess(head.Size, e.Time, ""); err != nil {
				return err
			}
			return tx.PutTree(make([][32]byte, bits.OnesCount64(head.Size+1)), nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	timed, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	read := testing.AllocsPerRun(20, func() {
		err := s.View(timed, func(r audit.Reader) error {
			if _, _, err := r.Newest(marks[:1]); err != nil {
				return err
			}
			if _, err := r.ObjectionsOf([]string{hash}); err != nil {
				return err
			}
			_, err := r.Entry(position)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("a transaction that writes an entry: %.0f; one that reads one: %.0f", write, read)
	if write > 125 || read > 125 {
		t.Errorf("allocations: a transaction that writes an entry %.0f, want at most 125; one that reads one %.0f, want at most 125", write, read)
	}
}
