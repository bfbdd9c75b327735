package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// What was erased is in none of the database's tables once Purge has returned; what was not erased is. The server's own log is its operator's.
func TestPurge(t *testing.T) {
	server := services.PostgreSQL(t)
	s := place{url: server.URL(server.Database(t))}.open(t)
	defer func() { _ = s.Close() }()
	marker := func(i int) string { return fmt.Sprintf("MARKER%04d.", i) }
	mark := func(i int) []audit.Mark {
		return []audit.Mark{{Kind: audit.MarkPerson, Value: "PERSON" + marker(i)}}
	}
	const entries = 60
	erased := func(i int) bool { return i%3 == 0 }
	err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
		var errs []error
		for i := range entries {
			e := audit.Entry{Position: uint64(i), Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(int64(i)), Epoch: 1, Sealed: []byte(strings.Repeat(marker(i), 1+i*50))}
			errs = append(errs, tx.Append(e, mark(i)))
		}
		return errors.Join(append(errs, tx.PutTree(make([][32]byte, ones(entries)), nil))...)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
		var errs []error
		for i := range entries {
			if erased(i) {
				errs = append(errs, tx.Erase(uint64(i), mark(i)))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	server.Do(t, "CHECKPOINT")
	var files [][]byte
	err = filepath.WalkDir(filepath.Join(server.Data, "base"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files = append(files, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		found := false
		for _, b := range files {
			found = found || bytes.Contains(b, []byte(marker(i)))
		}
		if found == erased(i) {
			t.Errorf("entry %d: erased %v, found %v", i, erased(i), found)
		}
	}
	if err := s.Update(ctx, audit.Wanted{}, func(audit.Tx) error { return nil }); err != nil {
		t.Errorf("after it: %v", err)
	}
}
