package daemon

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/postgres"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
)

// openStore opens what the ledger is kept in.
func openStore(ctx context.Context, l Ledger) (audit.Store, error) {
	if l.Store != "postgres" {
		return sqlite.Open(ctx, sqlite.Config{Path: l.Path})
	}
	c, err := postgresConfig(l)
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, c)
}

// postgresConfig reads the connection string. No error repeats it.
func postgresConfig(l Ledger) (postgres.Config, error) {
	c := postgres.Config{Replica: l.Postgres.Replica, Cluster: l.Postgres.Cluster}
	if l.Postgres.ConnectionEnv != "" {
		if c.Connection = os.Getenv(l.Postgres.ConnectionEnv); c.Connection == "" {
			return c, fmt.Errorf("ledger.postgres.connectionEnv: %s is not set", l.Postgres.ConnectionEnv)
		}
		return c, nil
	}
	text, err := readSecret(l.Postgres.ConnectionFile)
	if err != nil {
		return c, fmt.Errorf("ledger.postgres.connectionFile: %w", err)
	}
	c.Connection = text
	return c, nil
}

// readSecret reads a file of one line that only the broker may read.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s cannot be read", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s can be read by others: make it readable by the broker only (chmod 0400)", path)
	}
	text, err := readCapped(path)
	if err != nil {
		return "", fmt.Errorf("%s cannot be read", path)
	}
	line := strings.TrimSpace(string(text))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s must hold one line", path)
	}
	return line, nil
}
