// Package audittest gives tests a ledger on a real SQLite file, and a store that fails when it is told to.
package audittest

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
)

// Place is a ledger and what it stands on.
type Place struct {
	Ledger *audit.Ledger
	Store  *Faulty
	Keys   *audit.Keys
	Path   string // of the SQLite file
	Config audit.Config

	sqlite *sqlite.Store
	closed bool
}

// Open returns a ledger on a new SQLite file in a temporary folder. It is shut down when the test ends.
func Open(t testing.TB) *audit.Ledger {
	t.Helper()
	return New(t, audit.Config{}).Ledger
}

// New is Open with everything at hand. Store, Keys and Origin of c are filled in.
func New(t testing.TB, c audit.Config) *Place {
	t.Helper()
	dir := t.TempDir()
	keys, err := audit.CreateKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatalf("making keys: %v", err)
	}
	return at(t, filepath.Join(dir, "ledger.db"), keys, c)
}

func at(t testing.TB, path string, keys *audit.Keys, c audit.Config) *Place {
	t.Helper()
	store, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	p := &Place{Store: &Faulty{Inner: store}, Keys: keys, Path: path, sqlite: store}
	if c.Origin == "" {
		c.Origin = "mycarerecord.example/test"
	}
	c.Store, c.Keys = p.Store, keys
	p.Config = c
	c.Sinks = Sinks(t, c, path)
	if p.Ledger, err = audit.Open(context.Background(), c); err != nil {
		_ = store.Close() // the test has failed already
		t.Fatalf("opening the ledger: %v", err)
	}
	t.Cleanup(func() { p.Close(t) })
	return p
}

// Close shuts the ledger down and closes the file. It may be called more than once.
func (p *Place) Close(t testing.TB) {
	t.Helper()
	if p.closed || p.Ledger == nil { // nil: a copy of files that nobody has opened
		return
	}
	p.closed = true
	p.Store.Heal()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Ledger.Shutdown(ctx); err != nil {
		t.Errorf("shutting the ledger down: %v", err)
	}
	if err := p.sqlite.Close(); err != nil {
		t.Errorf("closing the store: %v", err)
	}
}

// Reopen shuts down and opens anew on the same file.
func (p *Place) Reopen(t testing.TB) *Place {
	t.Helper()
	p.Close(t)
	return at(t, p.Path, p.Keys, p.Config)
}

// Crash returns a ledger on what a kill of the process at this moment would leave behind: a copy of the files, opened anew. The first one goes on as
// it was. The caller sees to it that nothing is written while it copies.
func (p *Place) Crash(t testing.TB) *Place {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(p.Path))
	CopyFiles(t, path, p.Path)
	return at(t, path, p.Keys, p.Config)
}

// CopyFiles copies a ledger's files and its folder of checkpoints. The folder goes first: it is never ahead of the files.
func CopyFiles(t testing.TB, to, from string) {
	t.Helper()
	if err := os.CopyFS(Checkpoints(to), os.DirFS(Checkpoints(from))); err != nil {
		t.Fatalf("copying the folder of checkpoints: %v", err)
	}
	for _, suffix := range []string{"", "-wal"} { // -shm is rebuilt by whoever comes first
		if err := copyFile(to+suffix, from+suffix); err != nil && (suffix == "" || !os.IsNotExist(err)) {
			t.Fatalf("copying the ledger's files: %v", err)
		}
	}
}

// Checkpoints is the folder where the checkpoints of a ledger at a path are kept.
func Checkpoints(path string) string { return filepath.Join(filepath.Dir(path), "checkpoints") }

// Sinks are those of a configuration, or the folder beside the ledger's file.
func Sinks(t testing.TB, c audit.Config, path string) []audit.Sink {
	t.Helper()
	if c.Sinks != nil {
		return c.Sinks
	}
	folder, err := sink.NewFolder(Checkpoints(path))
	if err != nil {
		t.Fatalf("making the folder of checkpoints: %v", err)
	}
	return []audit.Sink{folder}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // opened for reading only
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close() // the copy has failed already
		return err
	}
	return out.Close()
}
