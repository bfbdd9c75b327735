package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/storetest"
)

type place string

// Open implements storetest.Place.
func (p place) Open(t testing.TB) audit.Store {
	t.Helper()
	s, err := Open(ctx, Config{Path: string(p)})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Place { return place(filepath.Join(t.TempDir(), "ledger.db")) })
}
