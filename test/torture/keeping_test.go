package torture

import (
	"path/filepath"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// keeping is how brokers under test keep their ledger.
type keeping struct {
	name     string
	replicas int                              // brokers on one ledger
	ledger   func(replica int) map[string]any // the setting
	more     map[string]any                   // further settings
	keys     string                           // folder
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

// keepings are those that are tried. program is the built broker.
var keepings = []struct {
	name string
	make func(t *testing.T, program string) keeping
}{
	{"SQLite", onSQLite},
}
