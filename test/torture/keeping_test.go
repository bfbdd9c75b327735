package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/postgres"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// keeping is how brokers under test keep their ledger.
type keeping struct {
	name     string
	replicas int                              // brokers on one ledger
	ledger   func(replica int) map[string]any // the setting
	more     map[string]any                   // further settings
	keys     string                           // folder
	server   *services.PostgreSQLServer       // nil: none
	open     func(t *testing.T) audit.Store   // when nobody serves
}

// onSQLite keeps the ledger of one broker in a file.
func onSQLite(t *testing.T, program string) keeping {
	t.Helper()
	dir := t.TempDir()
	k := keeping{name: "one broker on SQLite", replicas: 1, keys: neighbourhood.Keys(t, program, dir)}
	file := filepath.Join(dir, "ledger.db")
	k.ledger = func(int) map[string]any {
		return map[string]any{"store": "sqlite", "path": file, "keys": k.keys, "origin": origin}
	}
	k.open = func(t *testing.T) audit.Store {
		t.Helper()
		store, err := sqlite.Open(t.Context(), sqlite.Config{Path: file})
		if err != nil {
			t.Fatalf("the ledger cannot be opened: %v", err)
		}
		return store
	}
	return k
}

// onPostgreSQL keeps the ledger of two brokers in a database. They share the folder of checkpoints.
func onPostgreSQL(t *testing.T, program string) keeping {
	t.Helper()
	server := services.PostgreSQL(t)
	dir, database := t.TempDir(), server.URL(server.Database(t))
	k := keeping{name: "two brokers on PostgreSQL", replicas: 2, keys: neighbourhood.Keys(t, program, dir), server: server}
	secret := filepath.Join(dir, "connection")
	if err := os.WriteFile(secret, []byte(database), 0o600); err != nil {
		t.Fatal("the connection cannot be written down")
	}
	k.ledger = func(replica int) map[string]any {
		return map[string]any{"store": "postgres", "keys": k.keys, "origin": origin, "checkpoints": filepath.Join(dir, "checkpoints"),
			"postgres": map[string]any{"connectionFile": secret, "replica": fmt.Sprintf("broker-%d", replica)}}
	}
	k.open = func(t *testing.T) audit.Store {
		t.Helper()
		store, err := postgres.Open(t.Context(), postgres.Config{Connection: database, Replica: "torture"})
		if err != nil {
			t.Fatalf("the ledger cannot be opened: %v", err)
		}
		return store
	}
	return k
}

// keepings are those that are tried. program is the built broker.
var keepings = []struct {
	name   string
	make   func(t *testing.T, program string) keeping
	rarely bool // named points are tried when there is time only
}{
	{"SQLite", onSQLite, false},
	{"PostgreSQL", onPostgreSQL, true},
}
