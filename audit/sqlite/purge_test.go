package sqlite

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// What was erased is in none of the files once Purge has returned, even where SQLite moved rows between pages before; what was not erased is.
func TestPurgeLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	s, err := Open(ctx, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const entries = 400
	marker := func(i int) string { return fmt.Sprintf("MARKER%04d.", i) }
	mark := func(i int) []audit.Mark { return []audit.Mark{{Kind: audit.MarkPerson, Value: "PERSON" + marker(i)}} }
	err = s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
		for i := range entries {
			e := audit.Entry{Position: uint64(i), Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(int64(i + 1)).UTC(), Epoch: 1,
				Leaf: sha256.Sum256(nil), Sealed: []byte(strings.Repeat(marker(i), 1+i*i%700))}
			if err := tx.Append(e, mark(i)); err != nil {
				return err
			}
		}
		return tx.PutTree([][32]byte{{1}, {2}, {3}}, nil) // 400 has three binary ones
	})
	if err != nil {
		t.Fatal(err)
	}
	erased := func(i int) bool { return i%10 < 3 }
	for digit := range 3 { // in several goes, so that what remains is moved about
		err = s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
			for i := digit; i < entries; i += 10 {
				if err := tx.Erase(uint64(i), mark(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
	}
	for i := range entries {
		found := slices.ContainsFunc(files, func(b []byte) bool { return bytes.Contains(b, []byte(marker(i))) })
		if found == erased(i) {
			t.Errorf("entry %d: erased %v, found in the files %v", i, erased(i), found)
		}
	}
	err = s.View(ctx, func(r audit.Reader) error {
		for i := range entries {
			e, err := r.Entry(uint64(i))
			if err != nil || (e.Sealed == nil) != erased(i) {
				return fmt.Errorf("entry %d: %w", i, err)
			}
			if _, ok, err := r.Newest(mark(i)); err != nil || ok == erased(i) {
				return fmt.Errorf("mark of entry %d: %v %w", i, ok, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
