package postgres

import (
	"os"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// A Begin and a Release by 32 callers on each of two replicas, where a sync takes 2 ms: strace holds each fdatasync of the server for that long. Where the machine has
// a file system in memory (/dev/shm) the server's files are there, so that nothing is added to the 2 ms; elsewhere the machine's own sync comes on top.
func BenchmarkPairs(b *testing.B) {
	if _, err := os.Stat("/dev/shm"); err == nil {
		b.Setenv("TMPDIR", "/dev/shm")
	}
	server := services.PostgreSQL(b)
	server.SlowSyncs(b, 2*time.Millisecond)
	url := server.URL(server.Database(b))
	stores := []audit.Store{place{url: url, replica: "one", timeout: 20 * time.Second}.open(b), place{url: url, replica: "two", timeout: 20 * time.Second}.open(b)}
	bare := place{url: server.URL(server.Database(b)), timeout: 20 * time.Second}.open(b)
	for _, s := range append(stores, bare) {
		defer func() { _ = s.Close() }()
	}
	start := time.Now()
	const tries = 20
	for range tries {
		if _, err := stores[0].(*Store).writer.Exec(ctx, "CREATE TABLE IF NOT EXISTS held (n integer); DROP TABLE held"); err != nil {
			b.Fatal(err)
		}
	}
	if each := time.Since(start) / tries; each < 2*time.Millisecond {
		b.Fatalf("a commit takes %.1f ms: strace holds no sync", float64(each)/1e6)
	}
	storetest.Pairs(b, stores, bare, 32)
}
