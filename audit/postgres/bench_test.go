package postgres

import (
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// A Begin and a Release by 32 callers on each of two replicas, where a sync takes 2 ms: strace holds each fdatasync of the sessions that write, which are those
// that write the log, for that long. What strace itself costs them is in the figure too.
func BenchmarkPairs(b *testing.B) {
	server := services.PostgreSQL(b)
	url := server.URL(server.Database(b))
	stores := []audit.Store{place{url: url, replica: "one", timeout: 20 * time.Second}.open(b), place{url: url, replica: "two", timeout: 20 * time.Second}.open(b)}
	bare := place{url: server.URL(server.Database(b)), timeout: 20 * time.Second}.open(b)
	args := []string{"-q", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_exit=2000", "-o", "/dev/null"}
	for _, s := range stores {
		args = append(args, "-p", fmt.Sprint(s.(*Store).writer.PgConn().PID()))
		defer func() { _ = s.Close() }()
	}
	defer func() { _ = bare.Close() }()
	strace, err := exec.LookPath("strace")
	if err != nil {
		b.Skip("strace is not on this machine: a sync cannot be made to take its time")
	}
	watch := exec.Command(strace, args...)
	if err := watch.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = watch.Process.Signal(syscall.SIGINT)
		_ = watch.Wait() // it lets the sessions go
	}()
	time.Sleep(time.Second) // until it holds them
	start := time.Now()
	const tries = 20
	for range tries {
		if _, err := stores[0].(*Store).writer.Exec(ctx, "CREATE TABLE IF NOT EXISTS held (n integer); DROP TABLE held"); err != nil {
			b.Fatal(err)
		}
	}
	if each := time.Since(start) / tries; each < 2*time.Millisecond {
		b.Fatalf("a commit takes %s: strace holds no sync", strconv.FormatFloat(float64(each)/1e6, 'f', 1, 64))
	}
	storetest.Pairs(b, stores, bare, 32)
}
