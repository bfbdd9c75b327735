package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
)

// A Begin and a Release by 64 callers, where a sync takes 2 ms: the file system under SQLite waits that long in each, beside what the machine's own takes.
func BenchmarkPairs(b *testing.B) {
	d, err := newDisk(fmt.Sprintf("bench-%d", diskNumber.Add(1)))
	if err != nil {
		b.Fatal(err)
	}
	defer d.close()
	d.bare, d.syncs = true, 2*time.Millisecond
	open := func() *Store {
		s, err := Open(ctx, Config{Path: filepath.Join(b.TempDir(), "ledger.db"), vfs: d.name})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s, bare := open(), open()
	defer func() { _, _ = s.Close(), bare.Close() }()
	storetest.Pairs(b, []audit.Store{s}, bare, 64)
}
