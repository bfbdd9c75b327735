package postgres

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// A Begin and a Release by 32 callers on each of two replicas, and by 64, where a sync takes 2 ms: strace holds each fdatasync of the server for that long. Where the machine has
// a file system in memory (/dev/shm) the server's files are there, so that nothing is added to the 2 ms; elsewhere the machine's own sync comes on top.
func BenchmarkPairs(b *testing.B) {
	if _, err := os.Stat("/dev/shm"); err == nil {
		b.Setenv("TMPDIR", "/dev/shm")
	}
	server := services.PostgreSQL(b)
	server.SlowSyncs(b, 2*time.Millisecond)
	for _, callers := range []int{32, 64} {
		b.Run(fmt.Sprint(callers, "-on-each"), func(b *testing.B) {
			url := server.URL(server.Database(b))
			stores := []audit.Store{place{url: url, replica: "one", timeout: 20 * time.Second}.open(b), place{url: url, replica: "two", timeout: 20 * time.Second}.open(b)}
			bare := place{url: server.URL(server.Database(b)), timeout: 20 * time.Second}.open(b)
			for _, s := range append(stores, bare) {
				defer func() { _ = s.Close() }()
			}
			syncsAreHeld(b, stores[0].(*Store))
			storetest.Pairs(b, stores, bare, callers)
		})
	}
}

// syncsAreHeld fails where strace holds no sync.
func syncsAreHeld(b *testing.B, s *Store) {
	b.Helper()
	start := time.Now()
	const tries = 20
	for range tries {
		if _, err := s.writer.Exec(ctx, "CREATE TABLE IF NOT EXISTS held (n integer); DROP TABLE held"); err != nil {
			b.Fatal(err)
		}
	}
	if each := time.Since(start) / tries; each < 2*time.Millisecond {
		b.Fatalf("a commit takes %.1f ms: strace holds no sync", float64(each)/1e6)
	}
}
