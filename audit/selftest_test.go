package audit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// open opens the ledger of a place that was closed, as a start would, and returns the refusal.
func open(t *testing.T, p *audittest.Place, change func(*audit.Config)) error {
	t.Helper()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path})
	if err != nil {
		return err
	}
	c := p.Config
	c.Store, c.Sinks = store, audittest.Sinks(t, c, p.Path)
	if change != nil {
		change(&c)
	}
	l, err := audit.Open(ctx, c)
	if err == nil {
		err = l.Shutdown(ctx)
		if closeErr := store.Close(); err != nil || closeErr != nil {
			t.Fatalf("closing: %v %v", err, closeErr)
		}
		return nil
	}
	return errors.Join(err, store.Close())
}

// tamper runs SQL on the file of a place that was closed, as somebody with the file in hand could.
func tamper(t *testing.T, p *audittest.Place, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]string{"DROP TRIGGER IF EXISTS entries_stay", "DROP TRIGGER IF EXISTS entries_are_final"}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// filled is a ledger with a little of everything, closed.
func filled(t *testing.T, c audit.Config) *audittest.Place {
	t.Helper()
	p := audittest.New(t, c)
	a := ask{subject: number(t, "9990000018")}
	o, permit := a.begin(t, p.Ledger)
	if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Fatal(err)
	}
	ask{subject: a.subject, purpose: record.BreakGlass}.begin(t, p.Ledger)
	made := object(t, p.Ledger, a.subject, consent.ToSection)
	object(t, p.Ledger, number(t, "9990000026"), consent.ToAll)
	if _, _, err := p.Ledger.WithdrawObjection(ctx, actor(), []record.NHSNumber{a.subject}, made.ID, key()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Ledger.ReadObjections(ctx, actor(), []record.NHSNumber{a.subject}); err != nil {
		t.Fatal(err)
	}
	sound(t, p.Ledger)
	p.Close(t)
	return p
}

// copyOf is a closed place's file at another path.
func copyOf(t *testing.T, p *audittest.Place) *audittest.Place {
	t.Helper()
	out := &audittest.Place{Path: filepath.Join(t.TempDir(), "ledger.db"), Keys: p.Keys, Config: p.Config}
	audittest.CopyFiles(t, out.Path, p.Path)
	return out
}

func TestStartRefusals(t *testing.T) {
	clock := newClock()
	whole := filled(t, audit.Config{Now: clock.now})
	for name, c := range map[string]struct {
		spoil  func(t *testing.T, p *audittest.Place)
		change func(t *testing.T, c *audit.Config)
		want   error
		say    string
	}{
		"nothing wrong":      {},
		"another origin":     {change: func(_ *testing.T, c *audit.Config) { c.Origin = "elsewhere.example" }, want: audit.ErrInvalid, say: "another origin"},
		"no origin":          {change: func(_ *testing.T, c *audit.Config) { c.Origin = "" }, want: audit.ErrInvalid, say: "origin"},
		"an origin of words": {change: func(_ *testing.T, c *audit.Config) { c.Origin = "our ledger" }, want: audit.ErrInvalid, say: "origin"},
		"no keys":            {change: func(_ *testing.T, c *audit.Config) { c.Keys = nil }, want: audit.ErrInvalid, say: "keys"},
		"no store":           {change: func(_ *testing.T, c *audit.Config) { c.Store = nil }, want: audit.ErrInvalid, say: "store"},
		"other keys": {change: func(t *testing.T, c *audit.Config) {
			k, err := audit.CreateKeys(filepath.Join(t.TempDir(), "k"))
			if err != nil {
				t.Fatal(err)
			}
			c.Keys = k
		}, want: audit.ErrDamaged, say: "does not open with the keys"},
		"clock far behind": {change: func(_ *testing.T, c *audit.Config) {
			c.Now = func() time.Time { return clock.now().Add(-2 * time.Minute) }
		}, want: audit.ErrUnavailable, say: "the clock is 2m0s behind"},
		"clock a little behind": {change: func(_ *testing.T, c *audit.Config) {
			c.Now = func() time.Time { return clock.now().Add(-50 * time.Second) }
		}},
		"newest entry gone": {spoil: func(t *testing.T, p *audittest.Place) {
			tamper(t, p, "DELETE FROM entries WHERE position = (SELECT max(position) FROM entries)")
		}, want: audit.ErrDamaged, say: "at"},
		"head set back": {spoil: func(t *testing.T, p *audittest.Place) { tamper(t, p, "UPDATE head SET size = size - 1") }, want: audit.ErrDamaged, say: "beyond the head row"},
		"head time":     {spoil: func(t *testing.T, p *audittest.Place) { tamper(t, p, "UPDATE head SET newest = newest - 1") }, want: audit.ErrDamaged, say: "head row"},
		"head gone":     {spoil: func(t *testing.T, p *audittest.Place) { tamper(t, p, "DELETE FROM head") }, want: audit.ErrDamaged, say: "head row"},
		"type changed": {spoil: func(t *testing.T, p *audittest.Place) {
			tamper(t, p, "UPDATE entries SET type = 6 WHERE position = 2")
		}, want: audit.ErrDamaged, say: "differ from the leaf"},
		"payload changed": {spoil: func(t *testing.T, p *audittest.Place) {
			tamper(t, p, "UPDATE entries SET sealed = (SELECT sealed FROM entries WHERE position = 1) WHERE position = 2")
		}, want: audit.ErrDamaged, say: "does not open"},
		"objection hidden": {spoil: func(t *testing.T, p *audittest.Place) {
			tamper(t, p, "DELETE FROM objections WHERE position = (SELECT min(position) FROM objections)")
		}, want: audit.ErrDamaged, say: "objections"},
		"objection set back": {spoil: func(t *testing.T, p *audittest.Place) {
			tamper(t, p, "UPDATE objections SET position = (SELECT min(position) FROM entries WHERE type = 8) WHERE position = (SELECT max(position) FROM objections)")
		}, want: audit.ErrDamaged, say: "objection"},
		"objection of another": {spoil: func(t *testing.T, p *audittest.Place) {
			tamper(t, p, "UPDATE objections SET person = (SELECT person FROM objections ORDER BY position LIMIT 1)")
		}, want: audit.ErrDamaged, say: "objection"},
		"file read-only": {spoil: func(t *testing.T, p *audittest.Place) {
			if err := os.Chmod(p.Path, 0o400); err != nil {
				t.Fatal(err)
			}
		}, say: "read-only"},
		"file open to others": {spoil: func(t *testing.T, p *audittest.Place) {
			if err := os.Chmod(p.Path, 0o644); err != nil {
				t.Fatal(err)
			}
		}, say: "others than its owner"},
		"not a ledger": {spoil: func(t *testing.T, p *audittest.Place) {
			if err := os.WriteFile(p.Path, []byte(strings.Repeat("not a database. ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, say: "opened anew"},
		"a migration that was another": {spoil: func(t *testing.T, p *audittest.Place) { tamper(t, p, "UPDATE migrations SET checksum = 'x'") }, say: "not the one that the ledger file was made with"},
		"a newer schema": {spoil: func(t *testing.T, p *audittest.Place) {
			tamper(t, p, "INSERT INTO migrations SELECT max(number) + 1, 'x', 'x', 0 FROM migrations")
		}, say: "run the newer program"},
	} {
		t.Run(name, func(t *testing.T) {
			p := copyOf(t, whole)
			if c.spoil != nil {
				c.spoil(t, p)
			}
			err := open(t, p, func(config *audit.Config) {
				if c.change != nil {
					c.change(t, config)
				}
			})
			switch {
			case c.say == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)):
				t.Errorf("%v, want words with %q", err, c.say)
			case c.want != nil && !errors.Is(err, c.want):
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// Every single change of the file that the start does not see, Verify does.
func TestVerifyFindsTampering(t *testing.T) {
	whole := filled(t, audit.Config{})
	for name, sql := range map[string]string{
		"an access is hidden from a person":   "DELETE FROM marks WHERE kind = 1 AND position = 1",
		"an access is hidden from a user":     "DELETE FROM marks WHERE kind = 2 AND position = 2",
		"an access is moved to another":       "UPDATE marks SET value = zeroblob(32) WHERE kind = 2 AND position = 2",
		"an alert is gone":                    "DELETE FROM alerts",
		"a node of the tree is added":         "INSERT INTO nodes VALUES (1, 0, zeroblob(32))",
		"a node of a level that there is not": "INSERT INTO nodes VALUES (2, 0, zeroblob(32))",
		"the frontier":                        "UPDATE head SET frontier = zeroblob(length(frontier))",
		"an access is open again":             "INSERT INTO open_accesses (position, due) VALUES (1, 0)",
		"two entries change places":           "UPDATE entries SET position = CASE position WHEN 1 THEN 100 ELSE 1 END WHERE position IN (1); UPDATE entries SET position = 1 WHERE position = 2; UPDATE entries SET position = 2 WHERE position = 100",
		"an old time":                         "UPDATE entries SET time = time - 1 WHERE position = 1",
		"an entry is gone":                    "DELETE FROM entries WHERE position = 2",
		"an entry's commitment":               "UPDATE entries SET commitment = zeroblob(32) WHERE position = 2",
		"an entry's leaf":                     "UPDATE entries SET leaf = zeroblob(32) WHERE position = 2",
		"an entry is erased and nobody knows": "UPDATE entries SET sealed = NULL WHERE position = 2",
	} {
		t.Run(name, func(t *testing.T) {
			p := copyOf(t, whole)
			tamper(t, p, strings.Split("PRAGMA foreign_keys = 0; "+sql, "; ")...)
			store, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			r, err := audit.Verify(context.Background(), store, p.Keys)
			if err != nil || r.Found == 0 || !errors.Is(r.Sound(), audit.ErrDamaged) {
				t.Errorf("%v: %d problems, want some", err, r.Found)
			}
		})
	}
}

// A longer hash begins like the right one.
func TestVerifyFindsHashesOfAnotherLength(t *testing.T) {
	p := filled(t, audit.Config{})
	tamper(t, p, "PRAGMA ignore_check_constraints = 1", "UPDATE entries SET leaf = CAST(leaf || x'00' AS BLOB) WHERE position = 2")
	store, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if r, err := audit.Verify(context.Background(), store, p.Keys); !errors.Is(err, audit.ErrDamaged) && (err != nil || r.Found == 0) {
		t.Errorf("%v", err)
	}
}

func TestEntriesCannotBeChangedByAccident(t *testing.T) {
	p := filled(t, audit.Config{})
	db, err := sql.Open("sqlite", "file:"+p.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, s := range []string{"DELETE FROM entries", "UPDATE entries SET type = 1", "UPDATE entries SET sealed = x'00'", "UPDATE entries SET leaf = zeroblob(32), sealed = NULL"} {
		if _, err := db.Exec(s); err == nil {
			t.Errorf("%s: done", s)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	if _, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v, want a refusal", err)
	}
}

func TestKeyFiles(t *testing.T) {
	write := func(t *testing.T, dir, name string, b []byte, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	key := func(b byte) []byte { return []byte(strings.Repeat(string(b), 32)) }
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		say   string
	}{
		"world-readable": {func(t *testing.T, dir string) { write(t, dir, "payload-0002.key", key(1), 0o444) }, "chmod 0400"},
		"group-readable": {func(t *testing.T, dir string) { write(t, dir, "payload-0002.key", key(1), 0o440) }, "chmod 0400"},
		"short":          {func(t *testing.T, dir string) { write(t, dir, "payload-0002.key", key(1)[:31], 0o400) }, "exactly 32 bytes"},
		"long":           {func(t *testing.T, dir string) { write(t, dir, "payload-0002.key", append(key(1), '\n'), 0o400) }, "exactly 32 bytes"},
		"zeros":          {func(t *testing.T, dir string) { write(t, dir, "payload-0002.key", make([]byte, 32), 0o400) }, "zeros"},
		"alone":          {func(t *testing.T, dir string) { write(t, dir, "payload-0002.key", key(1), 0o400) }, "lookup-0002.key"},
		"alone too":      {func(t *testing.T, dir string) { write(t, dir, "lookup-0002.key", key(1), 0o400) }, "payload-0002.key"},
		"one for two": {func(t *testing.T, dir string) {
			write(t, dir, "payload-0002.key", key(1), 0o400)
			write(t, dir, "lookup-0002.key", key(1), 0o400)
		}, "same key"},
		"an epoch twice": {func(t *testing.T, dir string) { write(t, dir, "payload-1.key", key(1), 0o400) }, "same epoch"},
		"a folder":       {func(t *testing.T, dir string) { _ = os.Mkdir(filepath.Join(dir, "payload-0002.key"), 0o700) }, "not a plain file"},
	} {
		dir := filepath.Join(t.TempDir(), "keys")
		if _, err := audit.CreateKeys(dir); err != nil {
			t.Fatal(err)
		}
		c.spoil(t, dir)
		if _, err := audit.LoadKeys(dir); !errors.Is(err, audit.ErrKeys) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want words with %q", name, err, c.say)
		}
	}
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := audit.LoadKeys(dir); !errors.Is(err, audit.ErrKeys) {
		t.Errorf("no folder: %v, want ErrKeys", err)
	}
	if _, err := audit.CreateKeys(dir); err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		before[f] = string(b)
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o400 || len(b) != 32 {
			t.Errorf("%s: mode %v, %d bytes", filepath.Base(f), info.Mode(), len(b))
		}
	}
	if _, err := audit.CreateKeys(dir); !errors.Is(err, audit.ErrKeys) || len(files) != 3 {
		t.Errorf("over keys that are there: %v, %d files", err, len(files))
	}
	for f, want := range before {
		if b, _ := os.ReadFile(f); string(b) != want {
			t.Errorf("%s was overwritten", filepath.Base(f))
		}
	}
}

// A second epoch is used for what is new; what is old is still read, found and honoured.
func TestSecondEpoch(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	a := ask{subject: number(t, "9990000018")}
	made := object(t, p.Ledger, a.subject, consent.ToSection)
	a.begin(t, p.Ledger)
	p.Close(t)
	dir := filepath.Join(filepath.Dir(p.Path), "keys")
	for i, name := range []string{"payload-0002.key", "lookup-0002.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(string(rune('a'+i)), 32)), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := audit.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	p.Keys, p.Config.Keys = keys, keys
	q := p.Reopen(t)
	l := q.Ledger
	wantEntries(t, q, audit.TypeObjection, audit.TypeBegin, audit.TypeAbandoned, audit.TypeKey)
	found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{a.subject}})
	if err != nil || len(found) != 3 {
		t.Errorf("%v, %d entries, want 3", err, len(found))
	}
	if o, permit := a.begin(t, l); permit.Sections(mental.Key).Has(record.MentalHealth) {
		t.Errorf("the old objection is not honoured")
	} else if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Errorf("Release: %v", err)
	}
	if _, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{a.subject}, made.ID, key()); err != nil {
		t.Errorf("withdraw: %v", err)
	}
	if found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{a.subject}}); err != nil || len(found) != 7 {
		t.Errorf("%v, %d entries, want 7", err, len(found))
	}
	sound(t, l)
	q.Close(t)
	if err := open(t, q, nil); err != nil {
		t.Errorf("opened again: %v", err)
	}
}

// elsewhere is a witness of a kind: it takes what it is given while it can be reached, and cannot say what it holds.
type elsewhere struct {
	away bool
	took int
}

var _ audit.Sink = (*elsewhere)(nil)

// Name implements audit.Sink.
func (*elsewhere) Name() string { return "the witness elsewhere" }

// Holds implements audit.Sink.
func (*elsewhere) Holds(context.Context) (uint64, bool, error) { return 0, false, nil }

// Extend implements audit.Sink.
func (e *elsewhere) Extend(context.Context, audit.Checkpoint, func(context.Context, uint64) ([][32]byte, error)) ([]byte, error) {
	if e.away {
		return nil, fmt.Errorf("the witness elsewhere: %w", audit.ErrAway)
	}
	e.took++
	return nil, nil
}

// An empty store may be a volume that is not mounted: it is refused where anything says that a ledger was begun, and where those who would know cannot be asked.
func TestEmptyStores(t *testing.T) {
	var store *sqlite.Store
	dir := t.TempDir()
	keys, err := audit.CreateKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	start := func(begun string, sinks ...audit.Sink) (*audit.Ledger, error) {
		t.Helper()
		if store, err = sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "ledger.db")}); err != nil {
			t.Fatal(err)
		}
		l, err := audit.Open(ctx, audit.Config{Store: store, Keys: keys, Origin: "mycarerecord.example/test", Sinks: sinks, Begun: begun})
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
		return l, nil
	}
	stop := func(l *audit.Ledger) {
		t.Helper()
		if err := errors.Join(l.Shutdown(ctx), store.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := start("a file says that there was one", &elsewhere{}); !errors.Is(err, audit.ErrUnavailable) || !strings.Contains(err.Error(), "the store is empty, and a file says that there was one") {
		t.Errorf("an empty store where there was a ledger: %v", err)
	}
	w := &elsewhere{away: true}
	for range 2 { // the second finds what the first has written, and nobody has served from it
		if _, err := start("", &elsewhere{}, w); !errors.Is(err, audit.ErrUnavailable) || !strings.Contains(err.Error(), "the witness elsewhere") {
			t.Errorf("an empty store, and a witness that is away: %v", err)
		}
	}
	w.away = false
	l, err := start("", &elsewhere{}, w)
	if err != nil || w.took == 0 {
		t.Fatalf("with the witness there: %v, it took %d", err, w.took)
	}
	object(t, l, number(t, "9990000018"), consent.ToAll)
	stop(l)
	w.away = true
	l, err = start("a file says that there was one", &elsewhere{}, w) // a ledger that has served does not wait for anybody
	if err != nil {
		t.Fatalf("a ledger that is there, with the witness away: %v", err)
	}
	stop(l)
}
