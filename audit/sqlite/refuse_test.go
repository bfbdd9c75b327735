package sqlite

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// L-8: what was asked for and is not in force is refused, each by name.
func TestWeakSettings(t *testing.T) {
	for setting, pragma := range map[string]string{
		"synchronous": "PRAGMA synchronous = NORMAL", "journal_mode": "PRAGMA journal_mode = DELETE", "foreign_keys": "PRAGMA foreign_keys = 1",
		"query_only": "PRAGMA query_only = 1", "wal_autocheckpoint": "PRAGMA wal_autocheckpoint = 1000", "secure_delete": "PRAGMA secure_delete = 0", "": "SELECT 1",
	} {
		db, err := sql.Open("sqlite", address(filepath.Join(t.TempDir(), "ledger.db"), pragmas()))
		if err != nil {
			t.Fatal(err)
		}
		c, err := db.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ExecContext(ctx, pragma); err != nil {
			t.Fatal(err)
		}
		err = readBack(ctx, c, 0)
		if (err == nil) != (setting == "") || err != nil && !strings.Contains(err.Error(), setting+" is") {
			t.Errorf("%s: %v", pragma, err)
		}
		_, _ = c.Close(), db.Close()
	}
}

// Migrations go forward: a new program brings an old file up to date, and an old program refuses it then.
func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	db, err := sql.Open("sqlite", address(path, pragmas()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	c, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	list, err := migrations(embedded)
	if err != nil {
		t.Fatal(err)
	}
	first := fstest.MapFS{"migrations/" + list[0].name: {Data: []byte(list[0].sql)}}
	if err := migrate(ctx, c, first); err != nil { // the program of the first version
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := migrate(ctx, c, embedded); err != nil {
			t.Fatalf("the new program on the old file: %v", err)
		}
	}
	if err := migrate(ctx, c, first); err == nil || !strings.Contains(err.Error(), "run the newer program") {
		t.Errorf("the old program on the new file: %v", err)
	}
	broken := fstest.MapFS{}
	for _, m := range list {
		broken["migrations/"+m.name] = &fstest.MapFile{Data: []byte(m.sql)}
	}
	broken["migrations/9999_gap.sql"] = &fstest.MapFile{}
	if err := migrate(ctx, c, broken); err == nil || !strings.Contains(err.Error(), "without gaps") {
		t.Errorf("a gap: %v", err)
	}
	broken["migrations/"+list[0].name] = &fstest.MapFile{Data: []byte(list[0].sql + " ")}
	delete(broken, "migrations/9999_gap.sql")
	if err := migrate(ctx, c, broken); err == nil || !strings.Contains(err.Error(), "not the one that the ledger file was made with") {
		t.Errorf("another migration of the same number: %v", err)
	}
}
