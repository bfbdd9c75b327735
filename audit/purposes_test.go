package audit_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// before returns a ledger that the program wrote before what ends an access said what it was for (30 November 2026): three key epochs with a bit of everything, whose people are invented.
func before(t *testing.T, c audit.Config) *audittest.Place {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open("testdata/before-purposes.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(to, 0o700)
		} else if text, read := io.ReadAll(in); read != nil {
			err = read
		} else {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	keys, err := audit.LoadKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return (&audittest.Place{Path: filepath.Join(dir, "ledger.db"), Keys: keys, Config: c}).Reopen(t)
}

// What is asked by purpose is answered as reading all of it would: in a ledger from before entries were found by their purpose, in the same with entries of both kinds since a key epoch began, and in
// one that has only the new.
func TestPurposes(t *testing.T) {
	c := newClock()
	c.add(19 * 24 * time.Hour)
	p := before(t, audit.Config{Now: c.now})
	old := &epochs{Ledger: p.Ledger, Keys: p.Keys, Path: p.Path, t: t, clock: c, rng: rand.New(rand.NewPCG(3, 3)), lists: 9}
	for _, s := range []string{"9990000018", "9990000026", "9990000034", "9990000042"} {
		old.people = append(old.people, number(t, s))
	}
	sound(t, old.Ledger)
	was := byPurpose(t, old)
	keyNumber.Add(1 << 20) // the ledger knows the first ones
	old.rotate()
	for range 60 {
		old.act()
		c.add(time.Minute)
	}
	for len(old.open) > 0 {
		old.end()
	}
	sound(t, old.Ledger)
	if now := byPurpose(t, old); now <= was {
		t.Errorf("%d rows were found by purpose before, and %d with what came since", was, now)
	}
	fresh := newEpochs(t, 60, 5)
	byPurpose(t, fresh)
	sound(t, fresh.Ledger)
}

// byPurpose asks every question about accesses with sets of purposes, in pages of several sizes, and holds it against the question without them. It returns how many rows the sets of one
// purpose other than direct care had.
func byPurpose(t *testing.T, h *epochs) (found int) {
	t.Helper()
	all := []record.Purpose{record.Treatment, record.UrgentCare, record.BreakGlass, record.PatientAccess}
	var questions []audit.Question
	for _, of := range []audit.Question{{Kind: audit.WhoLooked, Subjects: h.people[:1]}, {Kind: audit.ByUser, User: "555000001"}, {Kind: audit.ByStaff, Organisation: orgs[1]}, {Kind: audit.Refusals},
		{Kind: audit.OfRecords, Holder: "X9B01", Holding: []record.CustodianKey{"acute"}}, {Kind: audit.WhoLooked, Subjects: h.people[1:2], Organisation: orgs[0]}} {
		questions = append(questions, of)
		of.From, of.Until = h.clock.now().Add(-40*time.Minute), h.clock.now().Add(-5*time.Minute)
		questions = append(questions, of)
		of.From, of.Until, of.Within = time.Time{}, time.Time{}, &audit.Bounds{Organisation: orgs[2], Custodians: []record.CustodianKey{"mentalhealth"}}
		questions = append(questions, of)
	}
	for _, q := range questions {
		q.Limit = 1000
		whole := slices.Concat(pages(t, h.Ledger, q, 0)...)
		q.Before = 1
		if len(whole) > 0 {
			q.Before = whole[0].Position + 1 // the ledger ends accesses whose time is over while it is asked
		}
		for _, set := range []int{1, 2, 4, 8, 12, 3, 14} {
			q.Purposes = nil
			for i, p := range all {
				if set>>i&1 != 0 {
					q.Purposes = append(q.Purposes, p)
				}
			}
			var want []uint64
			for _, row := range whole {
				if row.Access != nil && slices.Contains(q.Purposes, row.Access.Purpose) {
					want = append(want, row.Position)
				}
			}
			if len(q.Purposes) == 1 && set > 1 {
				found += len(want)
			}
			for _, limit := range []int{4, 1000} {
				q.Limit = limit
				var got []uint64
				if limit < 1000 && len(want) > 40 {
					continue
				}
				for _, page := range pages(t, h.Ledger, q, 0) {
					for _, row := range page {
						got = append(got, row.Position)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s for %q in pages of %d: %d, want %d", q.Kind, q.Purposes, limit, got, want)
				}
			}
		}
	}
	if found == 0 {
		t.Error("nothing was found by purpose")
	}
	return found
}
