package sqlite

import (
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
)

// A page of a search costs what its entries are apart, not what the ledger is long: no query sorts, and none walks a whole table.
func TestSearchesWalkAnIndex(t *testing.T) {
	s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	person, user := []audit.Mark{{Kind: audit.MarkPerson, Value: "p"}}, []audit.Mark{{Kind: audit.MarkUser, Value: "u"}}
	within := []audit.Mark{{Kind: audit.MarkOrganisation, Value: "X9A01"}, {Kind: audit.MarkCustodian, Value: "gp"}, {Kind: audit.MarkCustodian, Value: "acute"}}
	for name, q := range map[string]audit.Query{
		"nothing":           {},
		"person":            {All: [][]audit.Mark{person}},
		"person and within": {All: [][]audit.Mark{person, within}},
		"user, types":       {All: [][]audit.Mark{user}, Types: []audit.EntryType{1, 2}},
		"within":            {All: [][]audit.Mark{within}},
		"types":             {Types: []audit.EntryType{3, 9}},
		"rare types":        {All: [][]audit.Mark{within}, Types: []audit.EntryType{9}, Rare: true},
		"rare types, two":   {All: [][]audit.Mark{within, user}, Types: []audit.EntryType{8, 20}, Rare: true},
		"within, types":     {All: [][]audit.Mark{within, user}, Types: []audit.EntryType{1}},
	} {
		q.Before, q.Limit = 1000, 100
		text, args := searchText(q, 0, 1000)
		values := make([]any, len(args))
		for i := range args {
			values[i] = args[i]
		}
		rows, err := s.conn.QueryContext(ctx, "EXPLAIN QUERY PLAN "+text, values...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		for _, step := range plan {
			if strings.Contains(step, "TEMP B-TREE") || strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "CONSTANT") {
				t.Errorf("%s: %s\n%s", name, step, strings.Join(plan, "\n"))
			}
		}
	}
}

// A person has a mark for each epoch, and whoever asks may see by those of many organisations: SQLite's bounds on parameters and depth stop nobody.
func TestSearchesOfManyMarks(t *testing.T) {
	s, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	marks := func(kind audit.MarkKind, n int) (out []audit.Mark) {
		for i := range n {
			out = append(out, audit.Mark{Kind: kind, Value: string(binary.BigEndian.AppendUint32(nil, uint32(i)))}) //nolint:gosec // few
		}
		return out
	}
	for position := range 5 { // three of them carry a mark of either group
		for _, m := range []audit.Mark{marks(audit.MarkPerson, 6)[position], marks(audit.MarkOrganisation, 2_800)[position*600]}[:1+position%2+position/4] {
			if _, err := s.conn.ExecContext(ctx, writeMarks[0], m.Kind, []byte(m.Value), position); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []uint64
	err = s.View(ctx, func(r audit.Reader) (err error) {
		got, err = r.Search(audit.Query{All: [][]audit.Mark{marks(audit.MarkPerson, 6), marks(audit.MarkOrganisation, 2_800)}, Before: 1000, Limit: 100})
		return err
	})
	if err != nil || !slices.Equal(got, []uint64{4, 3, 1}) {
		t.Errorf("found %d, want 4, 3 and 1: %v", got, err)
	}
	err = s.View(ctx, func(r audit.Reader) (err error) { // there are no entries of these types: it is enough that it can be asked
		got, err = r.Search(audit.Query{All: [][]audit.Mark{marks(audit.MarkOrganisation, 2_800)}, Types: []audit.EntryType{1, 2, 3, 4, 5, 6, 7, 8}, Rare: true, Before: 1000, Limit: 100})
		return err
	})
	if err != nil || len(got) != 0 {
		t.Errorf("of rare types: found %d: %v", got, err)
	}
}
