package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
)

// A Begin and a Release by 64 callers, where a sync takes 2 ms: the file system under SQLite waits that long in each. Where the machine has one in memory
// (/dev/shm) the files are there, so that nothing is added to the 2 ms; elsewhere the machine's own sync comes on top.
func BenchmarkPairs(b *testing.B) {
	d, err := newDisk(fmt.Sprintf("bench-%d", diskNumber.Add(1)))
	if err != nil {
		b.Fatal(err)
	}
	defer d.close()
	d.bare, d.syncs = true, 2*time.Millisecond
	folder, err := os.MkdirTemp("/dev/shm", "ledger")
	if err != nil {
		folder = b.TempDir()
	}
	defer func() { _ = os.RemoveAll(folder) }()
	open := func(name string) *Store {
		s, err := Open(ctx, Config{Path: filepath.Join(folder, name), vfs: d.name})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s, bare := open("ledger.db"), open("bare.db")
	defer func() { _, _ = s.Close(), bare.Close() }()
	storetest.Pairs(b, []audit.Store{s}, bare, 64)
}
