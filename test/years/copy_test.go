package years_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mycarerecord/mycarerecord/audit/postgres"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// copied are the tables of a ledger with their columns, in the order in which a copy is made; columns are of the same names in both stores.
var copied = []struct {
	table, order string
	columns      []string
}{
	{"entries", "position", []string{"position", "version", "type", "time", "epoch", "commitment", "leaf", "sealed"}},
	{"marks", "kind, value, position", []string{"kind", "value", "position"}},
	{"objections", "id", []string{"id", "person", "position"}},
	{"alerts", "position", []string{"position", "kind", "delivered", "review"}},
	{"nodes", "level, number", []string{"level", "number", "hash"}},
	{"checkpoints", "size", []string{"size", "at", "note"}},
}

// inPostgreSQL copies the ledger of a SQLite file into a PostgreSQL server of this test's own, row by row, and opens it.
func inPostgreSQL(t *testing.T, path string) *postgres.Store {
	t.Helper()
	began := time.Now()
	server := services.PostgreSQL(t, "shared_buffers = 1GB", "max_wal_size = 8GB", "checkpoint_timeout = 30min", "maintenance_work_mem = 256MB", "effective_cache_size = 8GB", "wal_compression = on")
	url := server.URL(server.Database(t))
	open := func() *postgres.Store {
		s, err := postgres.Open(context.Background(), postgres.Config{Connection: url, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := open().Close(); err != nil { // it made the schema
		t.Fatal(err)
	}
	from, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	to, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"SET search_path = " + schema, "SET synchronous_commit = off"} {
		if _, err := to.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range copied {
		list := ""
		for i, name := range c.columns {
			if i > 0 {
				list += ", "
			}
			list += name
		}
		rows, err := from.QueryContext(t.Context(), "SELECT "+list+" FROM "+c.table+" ORDER BY "+c.order)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.CopyFrom(t.Context(), pgx.Identifier{c.table}, c.columns, &rowsOf{rows, make([]any, len(c.columns))}); err != nil {
			t.Fatalf("copying %s: %v", c.table, err)
		}
	}
	var size, newest int64
	var frontier []byte
	err = from.QueryRowContext(t.Context(), `SELECT size, newest, frontier FROM head`).Scan(&size, &newest, &frontier)
	_, moved := to.Exec(t.Context(), `UPDATE head SET size = $1, newest = $2, frontier = $3`, size, newest, frontier)
	_, looked := to.Exec(t.Context(), `ANALYZE`)
	if err := errors.Join(err, moved, looked, to.Close(t.Context()), from.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("copied into PostgreSQL in %.0f s", time.Since(began).Seconds())
	return open()
}

// schema is where the product's PostgreSQL store keeps its tables.
const schema = "mycarerecord"

// rowsOf are rows of one database for another.
type rowsOf struct {
	rows   *sql.Rows
	values []any
}

// Next implements pgx.CopyFromSource.
func (r *rowsOf) Next() bool { return r.rows.Next() }

// Values implements pgx.CopyFromSource.
func (r *rowsOf) Values() ([]any, error) {
	into := make([]any, len(r.values))
	for i := range into {
		into[i] = &r.values[i]
	}
	err := r.rows.Scan(into...)
	return r.values, err
}

// Err implements pgx.CopyFromSource.
func (r *rowsOf) Err() error { return r.rows.Err() }
