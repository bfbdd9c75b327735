package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var embedded embed.FS

type migration struct {
	number   int
	name     string
	sql      string
	checksum string
}

// migrations lists what is embedded, in order. Files are named 0001_words.sql, without gaps, and never change once released.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var out []migration
	for _, path := range names { // Glob sorts
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(path, "migrations/")
		digits, _, _ := strings.Cut(name, "_")
		number, err := strconv.Atoi(digits)
		if err != nil || number != len(out)+1 {
			return nil, fmt.Errorf("migration files are not numbered from 0001 without gaps: %s", name)
		}
		sum := sha256.Sum256(text)
		out = append(out, migration{number, name, string(text), hex.EncodeToString(sum[:])})
	}
	return out, nil
}

// migrate brings the schema up to the newest migration, each in its own transaction. It refuses a file that a newer program has migrated further, and
// one whose migrations were other than those that this program knows: such a file is not what the program thinks it is.
func migrate(ctx context.Context, c *sql.Conn, files fs.FS) error {
	known, err := migrations(files)
	if err != nil {
		return err
	}
	const table = `CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied INTEGER NOT NULL) STRICT`
	if _, err := c.ExecContext(ctx, table); err != nil {
		return reduce("preparing the schema", err)
	}
	rows, err := c.QueryContext(ctx, `SELECT number, checksum FROM migrations ORDER BY number`)
	if err != nil {
		return reduce("reading the schema's version", err)
	}
	defer func() { _ = rows.Close() }() // its errors are those of Err
	applied := 0
	for rows.Next() {
		var number int
		var checksum string
		if err := rows.Scan(&number, &checksum); err != nil {
			return reduce("reading the schema's version", err)
		}
		applied++
		switch {
		case number != applied:
			return fmt.Errorf("the ledger file's list of migrations has gaps: it was changed by hand; restore it")
		case number > len(known):
			return fmt.Errorf("the ledger file has schema %d and this program knows %d: run the newer program", number, len(known))
		case checksum != known[number-1].checksum:
			return fmt.Errorf("migration %s is not the one that the ledger file was made with: run the program that made it", known[number-1].name)
		}
	}
	if err := rows.Err(); err != nil {
		return reduce("reading the schema's version", err)
	}
	for _, m := range known[applied:] {
		if err := apply(ctx, c, m); err != nil {
			return err
		}
	}
	return nil
}

func apply(ctx context.Context, c *sql.Conn, m migration) error {
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return reduce("beginning migration "+m.name, err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, m.sql); err != nil {
		return reduce("running migration "+m.name, err)
	}
	const note = `INSERT INTO migrations (number, name, checksum, applied) VALUES (?, ?, ?, ?)`
	if _, err := tx.ExecContext(ctx, note, m.number, m.name, m.checksum, time.Now().UnixMicro()); err != nil {
		return reduce("noting migration "+m.name, err)
	}
	return reduce("committing migration "+m.name, tx.Commit())
}
