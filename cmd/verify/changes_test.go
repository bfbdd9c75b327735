package main

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// change does something to a ledger's file that whoever holds it could, to entries before the witnessed checkpoint, and returns the position of the first entry that
// is not what it was.
type change func(r *rand.Rand, db *sql.DB, size uint64) (first uint64, err error)

// execute runs statements in order.
func execute(db *sql.DB, statements ...string) error {
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

var changes = map[string]change{
	"edit": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		at := r.Uint64N(size)
		column := []string{"version", "type", "time", "epoch", "commitment", "leaf", "sealed"}[r.IntN(7)]
		switch column {
		case "version", "type", "epoch":
			return at, execute(db, fmt.Sprintf("UPDATE entries SET %s = (%s + %d) %% 250 WHERE position = %d", column, column, 1+r.IntN(200), at))
		case "time":
			return at, execute(db, fmt.Sprintf("UPDATE entries SET time = time + %d WHERE position = %d", 1+r.IntN(1_000_000), at))
		}
		var b []byte
		if err := db.QueryRow("SELECT "+column+" FROM entries WHERE position = ?", at).Scan(&b); err != nil {
			return 0, err
		}
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		_, err := db.Exec("UPDATE entries SET "+column+" = ? WHERE position = ?", b, at)
		return at, err
	},
	"edit, with a leaf that fits": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) { // an attacker who can read ENTRY.md
		at := r.Uint64N(size)
		var kind, version uint8
		var when int64
		var commitment []byte
		if err := db.QueryRow("SELECT version, type, time, commitment FROM entries WHERE position = ?", at).Scan(&version, &kind, &when, &commitment); err != nil {
			return 0, err
		}
		commitment[r.IntN(32)] ^= 1
		e := entry{Position: &at, Version: version, Type: kind, Time: when}
		leaf := sha256.Sum256(e.leafData(hash(commitment)))
		_, err := db.Exec("UPDATE entries SET commitment = ?, leaf = ? WHERE position = ?", commitment, leaf[:], at)
		return at, err
	},
	"deletion": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		at := r.Uint64N(size)
		return at, execute(db, fmt.Sprintf("DELETE FROM entries WHERE position = %d", at))
	},
	"deletion, closed up": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		at := r.Uint64N(size)
		return at, execute(db, fmt.Sprintf("DELETE FROM entries WHERE position = %d", at),
			fmt.Sprintf("UPDATE entries SET position = -position WHERE position > %d", at), "UPDATE entries SET position = -position - 1 WHERE position < 0",
			"UPDATE head SET size = size - 1")
	},
	"insertion": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		at, of := r.Uint64N(size), r.Uint64N(size)
		return at, execute(db, fmt.Sprintf("UPDATE entries SET position = -position - 1 WHERE position >= %d", at),
			fmt.Sprintf("INSERT INTO entries SELECT %d, version, type, time, epoch, commitment, leaf, sealed FROM entries WHERE position = %d", at, tern(of >= at, -int64(of)-1, int64(of))),
			"UPDATE entries SET position = -position WHERE position < 0", "UPDATE head SET size = size + 1")
	},
	"swap": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		a := r.Uint64N(size - 1)
		b := a + 1 + r.Uint64N(size-a-1)
		return a, execute(db, fmt.Sprintf("UPDATE entries SET position = -1 WHERE position = %d", a), fmt.Sprintf("UPDATE entries SET position = %d WHERE position = %d", a, b),
			fmt.Sprintf("UPDATE entries SET position = %d WHERE position = -1", b))
	},
	"swap of payloads": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		a := r.Uint64N(size - 1)
		b := a + 1 + r.Uint64N(size-a-1)
		return a, execute(db, fmt.Sprintf("UPDATE entries SET sealed = CASE position WHEN %d THEN (SELECT sealed FROM entries WHERE position = %d) ELSE (SELECT sealed FROM entries WHERE position = %d) END WHERE position IN (%d, %d)", a, b, a, a, b))
	},
	"truncation": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		at := r.Uint64N(size)
		return at, execute(db, fmt.Sprintf("DELETE FROM entries WHERE position >= %d", at), fmt.Sprintf("DELETE FROM checkpoints WHERE size > %d", at),
			fmt.Sprintf("UPDATE head SET size = %d", at))
	},
	"a payload taken away": func(r *rand.Rand, db *sql.DB, size uint64) (uint64, error) {
		at := r.Uint64N(size)
		return at, execute(db, fmt.Sprintf("UPDATE entries SET sealed = NULL WHERE position = %d", at))
	},
}

func tern(when bool, a, b int64) int64 {
	if when {
		return a
	}
	return b
}

// Of 1,000 changes that whoever holds a ledger's file makes before the last witnessed checkpoint, 1,000 are found, and the first bad position is named: exactly,
// or, where everything that can be worked out again was, as one of the entries between two signed checkpoints.
func TestChangesAreFound(t *testing.T) {
	const seed = 20261129
	times := 90
	if os.Getenv("MCR_TORTURE") == "long" {
		times = 1000
	}
	w := write(t, 120)
	w.Close(t)
	seen, err := filepath.Glob(filepath.Join(audittest.Checkpoints(w.Path), "*.txt"))
	if err != nil || len(seen) == 0 {
		t.Fatalf("%v: no checkpoints were kept", err)
	}
	var witnessedNotes []byte
	for _, name := range seen {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		witnessedNotes = append(witnessedNotes, b...)
	}
	known := map[uint64]checkpoint{}
	size := uint64(0)
	for _, c := range parseCheckpoints(string(witnessedNotes)) {
		known[c.size] = c
		size = max(size, c.size)
	}
	original, err := os.ReadFile(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(changes)) // in one order, so that the seed says what was done
	keys, err := loadKeys(w.keysDir)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := parseKey(w.key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ledger.db")
	look := func() (*checker, error) {
		b, err := exported(t, w, path, false)
		if err != nil {
			return nil, err
		}
		c := newChecker([]key{trusted}, keys)
		for _, k := range known {
			c.keep(k)
		}
		return c, c.read(bytes.NewReader(b))
	}
	if err := os.WriteFile(path, original, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := look(); err != nil || c.found != 0 {
		t.Fatalf("unchanged: %v, %v", err, c.problems)
	}
	r := rand.New(rand.NewPCG(seed, seed))
	found, exactly := 0, 0
	for i := range times {
		name := names[i%len(names)]
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(path + suffix); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, original, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", "file:"+path+"?_pragma=ignore_check_constraints(1)&_pragma=synchronous(0)")
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		err = execute(db, "DROP TRIGGER entries_stay", "DROP TRIGGER entries_are_final", "PRAGMA foreign_keys = 0")
		first := uint64(0)
		if err == nil {
			first, err = changes[name](r, db, size)
		}
		if closed := db.Close(); err == nil {
			err = closed
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c, err := look()
		switch {
		case err != nil:
			t.Errorf("%d, %s at %d: the export: %v", i, name, first, err)
			continue
		case c.found == 0:
			t.Errorf("%d, %s at %d: not found", i, name, first)
			continue
		}
		p := c.problems[0]
		switch {
		case p.position == first:
			found, exactly = found+1, exactly+1
		case strings.Contains(p.text, "the first that differs is one of") && p.position <= first:
			var lo, hi uint64
			_, tail, _ := strings.Cut(p.text, "one of ")
			if _, err := fmt.Sscanf(tail, "%d to %d", &lo, &hi); err != nil || first < lo || first > hi {
				t.Errorf("%d, %s at %d: named %q", i, name, first, p.text)
				continue
			}
			found++
		default:
			t.Errorf("%d, %s at %d: the first that is named is %d: %s", i, name, first, p.position, p.text)
		}
	}
	t.Logf("%d of %d changes were found, and the first bad position named", found, times)
	figure.Report(t, figure.Figure{Name: "changes of a copied ledger before the last witnessed checkpoint that were not found, or not placed", Seen: times - found, Of: times, What: "changes", Seed: seed,
		More: fmt.Sprintf("%d placed exactly, %d as one of the entries between two checkpoints", exactly, found-exactly)})
}
