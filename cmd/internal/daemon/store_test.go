package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// The connection string comes from a file that only the broker may read, or from the environment, and is in no text of ours.
func TestConnectionOfTheLedger(t *testing.T) {
	dir := t.TempDir()
	file := func(text string, mode os.FileMode) string {
		path := filepath.Join(dir, "connection")
		_ = os.Remove(path) // the one of the case before
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const secret = "postgres://broker:hunter2@127.0.0.1:1/ledger?sslmode=disable"
	t.Setenv("MCR_TEST_CONNECTION", secret)
	for name, c := range map[string]struct {
		p   Postgres
		say string
	}{
		"readable by others": {Postgres{ConnectionFile: file(secret, 0o640)}, "chmod 0400"},
		"no file":            {Postgres{ConnectionFile: filepath.Join(dir, "nothing")}, "cannot be read"},
		"no variable":        {Postgres{ConnectionEnv: "MCR_TEST_NOTHING"}, "is not set"},
		"nobody there":       {Postgres{ConnectionEnv: "MCR_TEST_CONNECTION"}, "cannot be reached"},
	} {
		_, err := openStore(t.Context(), Ledger{Store: "postgres", Postgres: c.p})
		if err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want a refusal that says %q and nothing secret", name, err, c.say)
		}
	}
	for name, text := range map[string]string{"two lines": secret + "\n" + secret, "empty": "\n"} {
		if _, err := openStore(t.Context(), Ledger{Store: "postgres", Postgres: Postgres{ConnectionFile: file(text, 0o400)}}); err == nil || !strings.Contains(err.Error(), "one line") {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, b := Config{Ledger: Ledger{Store: "postgres", Postgres: Postgres{Replica: "one"}}}, Config{Ledger: Ledger{Store: "postgres", Postgres: Postgres{Replica: "two"}}}
	if a.Hash() != b.Hash() {
		t.Error("two replicas of one deployment have two configurations")
	}
}

func TestLedgerOnPostgreSQL(t *testing.T) {
	server := services.PostgreSQL(t)
	path := filepath.Join(t.TempDir(), "connection")
	if err := os.WriteFile(path, []byte(server.URL(server.Database(t))+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	for _, replica := range []string{"one", "two"} {
		store, err := openStore(t.Context(), Ledger{Store: "postgres", Postgres: Postgres{ConnectionFile: path, Replica: replica}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = store.Close() }()
		if err := store.View(t.Context(), func(r audit.Reader) error { _, err := r.Head(); return err }); err != nil {
			t.Error(err)
		}
	}
}
