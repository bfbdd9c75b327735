//go:build unix

package services

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgreSQLServer is a PostgreSQL server of a test. Its durability settings are PostgreSQL's own defaults: fsync, full_page_writes and
// synchronous_commit are on.
type PostgreSQLServer struct {
	Port int    // on 127.0.0.1
	Data string // the data folder

	bin, log  string
	as        *syscall.Credential
	under     []string // a program and its arguments that starts the server and stays out of its way
	process   *process
	databases atomic.Int64
}

// debianPostgreSQL is where Debian keeps the programs of each version.
const debianPostgreSQL = "/usr/lib/postgresql/*/bin"

// PostgreSQL starts a server; settings are lines of postgresql.conf. It is stopped when the test ends.
func PostgreSQL(t testing.TB, settings ...string) *PostgreSQLServer {
	t.Helper()
	initdb, ok := program("initdb", debianPostgreSQL)
	if !ok {
		missing(t, "PostgreSQL's initdb", "postgresql")
	}
	as := owner()
	dir := folder(t, as)
	s := &PostgreSQLServer{Data: filepath.Join(dir, "data"), log: filepath.Join(dir, "log"), bin: filepath.Dir(initdb), as: as}
	s.tool(t, "initdb", "--pgdata", s.Data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	s.Configure(t, append([]string{"shared_buffers = 64MB", "max_connections = 60", "unix_socket_directories = '" + dir + "'", "logging_collector = off",
		"log_min_messages = warning", "log_min_error_statement = panic"}, settings...)...)
	s.Start(t)
	return s
}

// tool runs one of PostgreSQL's programs to its end.
func (s *PostgreSQLServer) tool(t testing.TB, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = filepath.Dir(s.Data)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = attributes(s.as)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// Configure adds lines to postgresql.conf; the last of several holds. Where the server runs it reads them anew; some hold from the next start only.
func (s *PostgreSQLServer) Configure(t testing.TB, settings ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.Data, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString("\n" + strings.Join(settings, "\n") + "\n")
		err = errorOr(err, f.Close())
	}
	if err != nil {
		t.Fatalf("configuring PostgreSQL: %v", err)
	}
	if s.process != nil && !s.process.gone() {
		if err := s.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatalf("having PostgreSQL read its settings: %v", err)
		}
	}
}

func errorOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// SlowSyncs starts the server again with strace beside it, which holds each fdatasync, of every session that writes the log, for so long. Nothing else
// that the server does is looked at. It skips where there is no strace.
func (s *PostgreSQLServer) SlowSyncs(t testing.TB, each time.Duration) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		missing(t, "strace", "strace")
	}
	s.Stop(t)
	s.under = []string{strace, "-D", "-q", "-f", "--seccomp-bpf", "-e", "trace=fdatasync", "-e", fmt.Sprintf("inject=fdatasync:delay_exit=%d", each.Microseconds()), "-o", "/dev/null"}
	s.Start(t)
}

// Start starts the server, or starts it again on the port that it had.
func (s *PostgreSQLServer) Start(t testing.TB) {
	t.Helper()
	first := s.Port == 0
	for try := range 3 {
		if first {
			s.Port = freePort(t)
		}
		var err error
		command := append(slices.Clone(s.under), filepath.Join(s.bin, "postgres"), "-D", s.Data, "-c", fmt.Sprintf("port=%d", s.Port), "-c", "listen_addresses=127.0.0.1")
		s.process, err = run(s.as, s.log, command[0], command[1:]...)
		if err != nil {
			t.Fatalf("starting PostgreSQL: %v", err)
		}
		p := s.process
		t.Cleanup(func() {
			if err := p.end(syscall.SIGQUIT); err != nil {
				t.Errorf("stopping PostgreSQL: %v", err)
			}
		})
		if err = s.answers(); err == nil {
			return
		}
		if try == 2 || !first {
			t.Fatalf("PostgreSQL does not answer: %v\n%s", err, tail(s.log))
		}
	}
}

// answers waits until the server takes connections.
func (s *PostgreSQLServer) answers() (err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && !s.process.gone(); time.Sleep(20 * time.Millisecond) {
		if err = s.do("SELECT 1"); err == nil {
			return nil
		}
	}
	return err
}

// Stop ends the server: smoothly, cutting its clients off.
func (s *PostgreSQLServer) Stop(t testing.TB) {
	t.Helper()
	if err := s.process.end(syscall.SIGINT); err != nil {
		t.Fatalf("stopping PostgreSQL: %v", err)
	}
}

// Crash ends the server at once, as a loss of its process would: the next start recovers from the write-ahead log.
func (s *PostgreSQLServer) Crash(t testing.TB) {
	t.Helper()
	if err := s.process.end(syscall.SIGQUIT); err != nil {
		t.Fatalf("crashing PostgreSQL: %v", err)
	}
}

// PID is the process id of the server's first process.
func (s *PostgreSQLServer) PID() int { return s.process.pid() }

// Address is the server's host and port.
func (s *PostgreSQLServer) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// URL is the connection string of a database of the server.
func (s *PostgreSQLServer) URL(database string) string { return PostgreSQLURL(s.Address(), database) }

// PostgreSQLURL is the connection string of a database behind an address, such as that of a proxy.
func PostgreSQLURL(address, database string) string {
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Host: address, Path: "/" + database, RawQuery: "sslmode=disable"}).String()
}

// Database makes an empty database and returns its name.
func (s *PostgreSQLServer) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("ledger_%d", s.databases.Add(1))
	s.Do(t, "CREATE DATABASE "+name)
	return name
}

// Do runs SQL as the server's administrator, in its first database.
func (s *PostgreSQLServer) Do(t testing.TB, sql string) {
	t.Helper()
	if err := s.do(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (s *PostgreSQLServer) do(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errorOr(err, c.Close(ctx))
}

// Standby starts a second server that follows this one by streaming, as asynchronous replication does. Promote makes it a primary.
func (s *PostgreSQLServer) Standby(t testing.TB) *PostgreSQLServer {
	t.Helper()
	dir := folder(t, s.as)
	b := &PostgreSQLServer{Data: filepath.Join(dir, "data"), log: filepath.Join(dir, "log"), bin: s.bin, as: s.as}
	s.tool(t, "pg_basebackup", "--pgdata", b.Data, "--dbname", s.URL("postgres"), "--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	b.Configure(t, "unix_socket_directories = '"+dir+"'")
	b.Start(t)
	return b
}

// Promote makes a standby a primary, on a new timeline.
func (s *PostgreSQLServer) Promote(t testing.TB) { t.Helper(); s.Do(t, "SELECT pg_promote()") }

// Dump is what pg_dump writes of a database: what an operator's backup holds.
func (s *PostgreSQLServer) Dump(t testing.TB, database string) []byte {
	t.Helper()
	file := filepath.Join(filepath.Dir(s.Data), database+".sql")
	s.tool(t, "pg_dump", "--dbname", s.URL(database), "--file", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal("a dump cannot be read")
	}
	return text
}
