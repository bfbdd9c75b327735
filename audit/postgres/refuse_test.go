package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// refuses opens and holds the refusal against what it must say. It must be a sentence of ours, and never hold an address or a password.
func refuses(t *testing.T, c Config, say string) {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	s, err := Open(ctx, c)
	if err == nil {
		t.Errorf("it opens; want a refusal that says %q", say)
		_ = s.Close()
		return
	}
	if text := err.Error(); !strings.Contains(text, say) || strings.Contains(text, "127.0.0.1") || strings.Contains(text, "hunter2") {
		t.Errorf("%q, want a sentence with %q and nothing secret", text, say)
	}
}

// reconfigured gives a server settings and waits until new sessions have them.
func reconfigured(t *testing.T, server *services.PostgreSQLServer, name, value string) {
	t.Helper()
	server.Configure(t, name+" = "+value)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := newDialer(Config{Connection: server.URL("postgres"), Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := c.connect(ctx, forReading)
		if conn != nil {
			c.close(conn)
		}
		if weak := err != nil; weak == (value == "off" || value == "local") || time.Now().After(deadline) {
			return
		}
	}
}

// L-8: a server that could lose what it acknowledges is refused at the start, and in the middle: nothing is acknowledged while its settings are weak, and
// all is well when they are set right.
func TestWeakSettings(t *testing.T) {
	server := services.PostgreSQL(t)
	where := place{url: server.URL(server.Database(t))}
	s := where.open(t)
	defer func() { _ = s.Close() }()
	add := func() error {
		return s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
			head, err := tx.Head()
			e := audit.Entry{Position: head.Size, Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(1), Epoch: 1, Sealed: []byte{1}}
			return errors.Join(err, tx.Append(e, nil), tx.PutTree(make([][32]byte, ones(head.Size+1)), nil))
		})
	}
	for _, c := range []struct{ name, off, on, say string }{
		{"fsync", "off", "on", "fsync off"},
		{"full_page_writes", "off", "on", "full_page_writes off"},
		{"synchronous_commit", "off", "on", "synchronous_commit"},
		{"synchronous_commit", "local", "on", "synchronous_commit"},
	} {
		t.Run(c.name+" "+c.off, func(t *testing.T) {
			reconfigured(t, server, c.name, c.off)
			refuses(t, Config{Connection: where.url, Replica: "two"}, c.say)
			var err error
			for deadline := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
				err = add() // a running session hears of it a moment later
			}
			if err == nil || !strings.Contains(err.Error(), c.say) || errors.Is(err, audit.ErrUnsound) {
				t.Errorf("a running store: %v, want a refusal that says %q", err, c.say)
			}
			reconfigured(t, server, c.name, c.on)
			for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
				err = add()
			}
			if err != nil {
				t.Errorf("set right again: %v", err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	server := services.PostgreSQL(t)
	name := server.Database(t)
	url := server.URL(name)
	first := place{url: url, replica: "one"}.open(t)
	defer func() { _ = first.Close() }()
	server.Do(t, "CREATE ROLE reader LOGIN")
	server.Do(t, "ALTER ROLE reader SET default_transaction_read_only = on")
	server.Do(t, "CREATE ROLE locked LOGIN PASSWORD 'x' VALID UNTIL '2000-01-01'")
	server.Do(t, "CREATE ROLE small LOGIN")
	as := func(role string) string { return strings.Replace(url, "postgres@", role+"@", 1) }
	for what, c := range map[string]struct {
		Config
		say string
	}{
		"nothing":                  {Config{}, "connection string"},
		"no connection string":     {Config{Connection: "postgres://%zz:hunter2@127.0.0.1"}, "connection string"},
		"nobody there":             {Config{Connection: "postgres://postgres:hunter2@127.0.0.1:1/x?sslmode=disable"}, "cannot be reached"},
		"no such database":         {Config{Connection: server.URL("nowhere")}, "create it"},
		"another machine, plain":   {Config{Connection: "postgres://u:hunter2@db.example/x?sslmode=disable"}, "verify-full"},
		"another machine, maybe":   {Config{Connection: "postgres://u:hunter2@db.example/x?sslmode=prefer"}, "verify-full"},
		"another machine, unknown": {Config{Connection: "postgres://u:hunter2@db.example/x?sslmode=require"}, "verify-full"},
		"a second machine, plain":  {Config{Connection: "postgres://u:hunter2@127.0.0.1,db.example/x?sslmode=disable"}, "verify-full"},
		"no such user":             {Config{Connection: as("nobody")}, "does not let the ledger in"},
		"read-only":                {Config{Connection: as("reader")}, "read-only"},
		"no rights":                {Config{Connection: as("small")}, "SQLSTATE 42501"},
		"a name that is taken":     {Config{Connection: url, Replica: "one", Timeout: 300 * time.Millisecond}, "replica's name"},
	} {
		t.Run(what, func(t *testing.T) { refuses(t, c.Config, c.say) })
	}
	second := place{url: url, replica: "two"}.open(t)
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil { // and the name is free
		t.Error(err)
	}
	again := place{url: url, replica: "one"}.open(t)
	_ = again.Close()
}

// A standby is refused while it follows and after it was promoted, until an operator accepts it; a store that is open when that happens is unsound.
func TestFailover(t *testing.T) {
	server := services.PostgreSQL(t)
	name := server.Database(t)
	proxy := services.NewProxy(t, server.Address())
	s := place{url: services.PostgreSQLURL(proxy.Address(), name), timeout: time.Second}.open(t)
	defer func() { _ = s.Close() }()
	standby := server.Standby(t)
	refuses(t, Config{Connection: standby.URL(name)}, "standby")
	standby.Promote(t)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := Open(ctx, Config{Connection: standby.URL(name), Timeout: time.Second}); err != nil && !strings.Contains(err.Error(), "is a standby") {
			break
		}
	}
	refuses(t, Config{Connection: standby.URL(name)}, "failed over")
	refuses(t, Config{Connection: standby.URL(name), Cluster: "1/1"}, "failed over")
	_, err := Open(ctx, Config{Connection: standby.URL(name)})
	if err == nil {
		t.Fatal("it opens")
	}
	words := strings.Fields(err.Error())
	accepted, err := Open(ctx, Config{Connection: standby.URL(name), Cluster: words[len(words)-1]})
	if err != nil {
		t.Fatalf("what an operator accepted: %v", err)
	}
	_ = accepted.Close()
	again, err := Open(ctx, Config{Connection: standby.URL(name)}) // it is noted
	if err != nil {
		t.Fatalf("after it was accepted: %v", err)
	}
	_ = again.Close()

	// The address leads to the promoted server all of a sudden.
	proxy.Retarget(standby.Address())
	err = s.Update(ctx, audit.Wanted{}, func(audit.Tx) error { return nil })
	if !errors.Is(err, audit.ErrUnsound) || !strings.Contains(err.Error(), "failed over") {
		t.Errorf("%v, want ErrUnsound", err)
	}
	if err := s.View(ctx, func(audit.Reader) error { return nil }); !errors.Is(err, audit.ErrUnsound) {
		t.Errorf("reading: %v, want ErrUnsound", err)
	}
}

// A machine that is set back to an older image is found by the store that knows better.
func TestSetBack(t *testing.T) {
	server := services.PostgreSQL(t)
	s := place{url: server.URL(server.Database(t)), timeout: time.Second}.open(t)
	defer func() { _ = s.Close() }()
	add := func() error {
		return s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
			head, err := tx.Head()
			e := audit.Entry{Position: head.Size, Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(1), Epoch: 1, Leaf: [32]byte{byte(head.Size)}, Sealed: []byte{1}}
			return errors.Join(err, tx.Append(e, nil), tx.PutTree(make([][32]byte, ones(head.Size+1)), nil))
		})
	}
	if err := add(); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	image := filepath.Join(filepath.Dir(server.Data), "image")
	copied(t, server.Data, image)
	server.Start(t)
	if err := add(); err != nil { // the connection is another one: the same server is taken
		t.Fatalf("after a restart: %v", err)
	}
	server.Stop(t)
	if err := os.RemoveAll(server.Data); err != nil {
		t.Fatal(err)
	}
	copied(t, image, server.Data)
	server.Start(t)
	if err := add(); !errors.Is(err, audit.ErrUnsound) || !strings.Contains(err.Error(), "acknowledged") {
		t.Errorf("%v, want ErrUnsound", err)
	}
}

func copied(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copying a data folder: %v %s", err, out)
	}
}

// Migrations go forward: a new program brings an old database up to date, an old program refuses a new one, at the start and while it runs, and
// nothing is taken that was changed by hand.
func TestMigrations(t *testing.T) {
	server := services.PostgreSQL(t)
	name := server.Database(t)
	url := server.URL(name)
	known, err := migrations(embedded)
	if err != nil {
		t.Fatal(err)
	}
	next := len(known) + 1
	and := func(sql string) fstest.MapFS { // those that there are, and one more
		files := fstest.MapFS{fmt.Sprintf("migrations/%04d_more.sql", next): {Data: []byte(sql)}}
		for _, m := range known {
			files["migrations/"+m.name] = &fstest.MapFile{Data: []byte(m.sql)}
		}
		return files
	}
	newer := and("CREATE TABLE more (n integer); ALTER TABLE open_accesses ADD COLUMN more integer; ALTER TABLE objections RENAME COLUMN person TO whose")
	old := place{url: url, replica: "old"}.open(t)
	defer func() { _ = old.Close() }()
	add := func(tx audit.Tx) error {
		head, err := tx.Head()
		e := audit.Entry{Position: head.Size, Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(1), Epoch: 1, Sealed: []byte{1}}
		return errors.Join(err, tx.Append(e, nil), tx.PutTree(make([][32]byte, ones(head.Size+1)), nil))
	}
	if err := old.Update(ctx, audit.Wanted{}, add); err != nil {
		t.Fatal(err)
	}
	dial, err := newDialer(Config{Connection: url, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial.connect(ctx, forMigration)
	if err != nil {
		t.Fatal(err)
	}
	defer dial.close(c)
	broken := and("CREATE TABLE more (n integer); SELECT nonsense")
	if _, err := migrate(ctx, c, broken); err == nil || strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a migration that fails: %v", err)
	}
	if err := old.Update(ctx, audit.Wanted{}, add); err != nil {
		t.Errorf("after a migration that failed, of which nothing is kept: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if n, err := migrate(ctx, c, newer); n != next || err != nil {
			t.Fatalf("the new program on the old database: %d, %v", n, err)
		}
	}
	// Also where what it asks for ahead does not fit the newer tables, so that the exchange with the lock is not begun.
	if err := old.Update(ctx, audit.Wanted{Persons: []string{"p"}}, add); !errors.Is(err, audit.ErrUnsound) || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("the old program that runs: %v, want ErrUnsound", err)
	}
	refuses(t, Config{Connection: url, Replica: "x"}, fmt.Sprintf("has schema %d and this program knows %d: run the newer program", next, next-1))
	for _, x := range []struct{ spoil, say string }{ // one after the other
		{"UPDATE migrations SET checksum = 'x' WHERE number = 1", "not the one that the database was made with"},
		{"DELETE FROM migrations WHERE number = 1", "gaps"},
	} {
		if _, err := c.Exec(ctx, x.spoil); err != nil {
			t.Fatal(err)
		}
		if _, err := migrate(ctx, c, newer); err == nil || !strings.Contains(err.Error(), x.say) {
			t.Errorf("%v, want a refusal that says %q", err, x.say)
		}
	}
	for _, files := range []fstest.MapFS{{"migrations/0002_x.sql": {}}, {"migrations/first.sql": {}}} {
		if _, err := migrate(ctx, c, files); err == nil {
			t.Error("migrations that are not numbered are taken")
		}
	}
	var rows int
	if err := c.QueryRow(ctx, "SELECT count(*) FROM entries").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("%d entries after the migration, want 2 (%v)", rows, err)
	}
}

// Two programs that open an empty database at once both find it made.
func TestBothMigrate(t *testing.T) {
	server := services.PostgreSQL(t)
	url := server.URL(server.Database(t))
	done := make(chan error, 4)
	for _, name := range []string{"a", "b", "c", "d"} {
		go func() {
			s, err := Open(ctx, Config{Connection: url, Replica: name})
			if err == nil {
				err = s.Close()
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Entries cannot be changed or deleted by SQL that somebody types, but for the erasure of what is sealed.
func TestEntriesStay(t *testing.T) {
	server := services.PostgreSQL(t)
	s := place{url: server.URL(server.Database(t))}.open(t)
	defer func() { _ = s.Close() }()
	err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
		e := audit.Entry{Position: 0, Version: 1, Type: audit.TypeRead, Time: time.UnixMicro(1), Epoch: 1, Sealed: []byte{1}}
		return errors.Join(tx.Append(e, nil), tx.PutTree(make([][32]byte, 1), nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"DELETE FROM entries", "TRUNCATE entries", "UPDATE entries SET leaf = commitment", "UPDATE entries SET sealed = 'x'", "UPDATE entries SET position = 5, sealed = NULL"} {
		if _, err := s.writer.Exec(ctx, sql); err == nil {
			t.Errorf("%s: done", sql)
		}
	}
	if _, err := s.writer.Exec(ctx, "UPDATE entries SET sealed = NULL"); err != nil {
		t.Errorf("erasure: %v", err)
	}
}
