package postgres

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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

// migrating is the number of the lock that lets one replica at a time migrate.
const migrating = 0x6d63726d6967

// migrate brings the schema up to the newest migration, all in one transaction, while other replicas wait. It refuses a database that a newer program has
// migrated further, and one whose migrations were other than those that this program knows: such a database is not what the program thinks it is.
func migrate(ctx context.Context, c *pgx.Conn, files fs.FS) (known int, _ error) {
	list, err := migrations(files)
	if err != nil {
		return 0, err
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return 0, reduce("beginning to migrate", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // after a commit it does nothing
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrating)); err != nil {
		return 0, reduce("waiting for another replica to migrate", err)
	}
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`, schema).Scan(&there); err != nil {
		return 0, reduce("looking for the schema", err)
	}
	if !there { // whoever may not make schemas is given one
		if _, err := tx.Exec(ctx, `CREATE SCHEMA `+schema); err != nil {
			return 0, reduce("making the schema "+schema, err)
		}
	}
	const table = `CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied bigint NOT NULL)`
	if _, err := tx.Exec(ctx, table); err != nil {
		return 0, reduce("preparing the schema", err)
	}
	applied, err := appliedMigrations(ctx, tx, list)
	if err != nil {
		return 0, err
	}
	for _, m := range list[applied:] {
		if _, err := tx.Exec(ctx, m.sql); err != nil { // without arguments it may hold several statements
			return 0, reduce("running migration "+m.name, err)
		}
		const note = `INSERT INTO migrations (number, name, checksum, applied) VALUES ($1, $2, $3, $4)`
		if _, err := tx.Exec(ctx, note, m.number, m.name, m.checksum, time.Now().UnixMicro()); err != nil {
			return 0, reduce("noting migration "+m.name, err)
		}
	}
	return len(list), reduce("committing the migrations", tx.Commit(ctx))
}

// appliedMigrations counts the migrations that a database has seen, and holds them against those that this program knows.
func appliedMigrations(ctx context.Context, tx pgx.Tx, known []migration) (int, error) {
	rows, err := tx.Query(ctx, `SELECT number, checksum FROM migrations ORDER BY number`)
	if err != nil {
		return 0, reduce("reading the schema's version", err)
	}
	defer rows.Close()
	applied := 0
	for rows.Next() {
		var number int
		var checksum string
		if err := rows.Scan(&number, &checksum); err != nil {
			return 0, reduce("reading the schema's version", err)
		}
		applied++
		switch {
		case number != applied:
			return 0, refusal("the database's list of migrations has gaps: it was changed by hand; restore it")
		case number > len(known):
			return 0, newerSchema(number, len(known))
		case checksum != known[number-1].checksum:
			return 0, refusal(fmt.Sprintf("migration %s is not the one that the database was made with: run the program that made it", known[number-1].name))
		}
	}
	return applied, reduce("reading the schema's version", rows.Err())
}

func newerSchema(number, known int) error {
	return refusal(fmt.Sprintf("the database has schema %d and this program knows %d: run the newer program", number, known))
}
