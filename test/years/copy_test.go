package years_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mycarerecord/mycarerecord/audit"
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

// places are where copies of ledgers are.
type places struct{ url func(entries int) string }

// postgreSQL is a server of this test's own; or MCR_YEARS_POSTGRESQL says where databases are kept, with {entries} for how many entries there are, and a ledger that one holds is asked as it is.
func postgreSQL(t *testing.T) places {
	t.Helper()
	if kept := os.Getenv("MCR_YEARS_POSTGRESQL"); kept != "" {
		return places{func(entries int) string { return strings.ReplaceAll(kept, "{entries}", strconv.Itoa(entries)) }}
	}
	server := services.PostgreSQL(t, "shared_buffers = 1GB", "max_wal_size = 8GB", "checkpoint_timeout = 30min", "maintenance_work_mem = 256MB", "effective_cache_size = 8GB", "wal_compression = on")
	return places{func(int) string { return server.URL(server.Database(t)) }}
}

// holding copies the ledger of a SQLite file into a database, row by row, and opens it.
func (in places) holding(t *testing.T, h *history) *postgres.Store {
	t.Helper()
	began := time.Now()
	url := in.url(h.entries)
	open := func() *postgres.Store {
		s, err := postgres.Open(context.Background(), postgres.Config{Connection: url, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	made := open() // and its schema, where there was none
	var head audit.Head
	err := made.View(t.Context(), func(r audit.Reader) (err error) { head, err = r.Head(); return err })
	if err != nil {
		t.Fatal(err)
	}
	if head.Size > 0 {
		return made
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	from, err := sql.Open("sqlite", "file:"+h.path+"?mode=ro")
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
	_, looked := to.Exec(t.Context(), `VACUUM (ANALYZE)`) // as the server does by itself where rows come little by little
	if err := errors.Join(err, moved, looked, to.Close(t.Context()), from.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries were copied into PostgreSQL in %.0f s", h.entries, time.Since(began).Seconds())
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
