package audit_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// life records what happens around a person, and returns the receipts: accesses released, by parts, refused, with break-glass and abandoned; objections that
// stand and that were withdrawn; looks at them.
func life(t *testing.T, l *audit.Ledger, person record.NHSNumber) (out []audit.Receipt) {
	t.Helper()
	keep := func(r audit.Receipt, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	a := ask{subject: person, user: "555000000777"}
	o, permit := a.begin(t, l)
	keep(l.ReleaseChunk(ctx, o, permit, shown(permit)))
	keep(l.Release(ctx, o, permit, shown(permit)))
	o, _ = a.begin(t, l)
	keep(l.Close(ctx, o, audit.TypeNothing, consent.ReasonTrouble, audit.Disclosure{}))
	withdrawn := object(t, l, person, consent.ToSection)
	_, r, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{person}, withdrawn.ID, key())
	keep(r, err)
	o, permit = a.begin(t, l)
	keep(l.Release(ctx, o, permit, shown(permit)))
	access := a.access(time.Now(), consent.Decision{})
	access.Reason = consent.ReasonRole
	keep(l.Refuse(ctx, access))
	o, permit = ask{subject: person, user: "555000000778", purpose: record.BreakGlass}.begin(t, l)
	keep(l.Release(ctx, o, permit, shown(permit)))
	keep(l.ReviewOverride(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, o.Position()-1, audit.Justified, "ward round", key()))
	lets, _, err := l.RecordDelegation(ctx, actor(), person, consent.Delegation{Carer: number(t, "9990000042"), Sections: record.AllSections, Until: time.Now().AddDate(0, 1, 0)}, key())
	if err != nil {
		t.Fatal(err)
	}
	_, r, err = l.WithdrawDelegation(ctx, actor(), []record.NHSNumber{person}, lets.ID, key())
	keep(r, err)
	_, r, err = l.ReadObjections(ctx, actor(), []record.NHSNumber{person})
	keep(r, err)
	return out
}

// sealedOf returns what is sealed of the entries at positions.
func sealedOf(t *testing.T, p *audittest.Place, positions []uint64) (out [][]byte) {
	t.Helper()
	err := p.Store.View(ctx, func(r audit.Reader) error {
		for _, position := range positions {
			e, err := r.Entry(position)
			if err != nil {
				return err
			}
			out = append(out, e.Sealed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// holding counts those of some byte strings that stand anywhere in the ledger's files.
func holding(t *testing.T, p *audittest.Place, what [][]byte) int {
	t.Helper()
	n := 0
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(p.Path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range what {
			if bytes.Contains(b, w[:min(len(w), 64)]) || len(w) > 200 && bytes.Contains(b, w[len(w)-64:]) {
				n++
			}
		}
	}
	return n
}

// What is erased about a person is gone from every file and every index; every receipt, root and proof from before holds, other people's entries are untouched, and
// whoever checks the ledger finds the absence accounted for.
func TestErasingAPerson(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	gone, stays := number(t, "9990000018"), number(t, "9990000026")
	receipts := append(life(t, l, gone), life(t, l, stays)...)
	standing := object(t, l, gone, consent.ToCustodian)
	opened, permit := ask{subject: gone}.begin(t, l) // under way
	ask{subject: gone, purpose: record.BreakGlass}.begin(t, l)
	before, stated := signed(t, p)

	var about []uint64
	by := actor()
	found, _, _, err := l.Search(ctx, by, audit.Search{Subjects: []record.NHSNumber{gone}, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	kept := []uint64{standing.Position}
	for _, f := range found {
		if f.Position >= opened.Position() {
			kept = append(kept, f.Position)
		} else if f.Position != standing.Position {
			about = append(about, f.Position)
		}
	}
	sealed := sealedOf(t, p, about)
	if n := holding(t, p, sealed); n < len(sealed) {
		t.Fatalf("%d of %d sealed payloads are found before: the search below proves nothing", n, len(sealed))
	}

	done, err := l.Erase(ctx, by, audit.Erasure{Basis: audit.BasisErasure, Reference: "decision 2026/17", Subjects: []record.NHSNumber{gone}})
	if err != nil {
		t.Fatalf("Erase: %v", err)
	}
	// the search above is about the person too, and goes with the rest
	if done.Entries != len(about)+1 || done.Kept != len(kept) || len(done.Receipts) != 1 {
		t.Errorf("%d entries were erased and %d kept, want %d and %d", done.Entries, done.Kept, len(about)+1, len(kept))
	}
	figure.Report(t, figure.Figure{Name: "erased payloads that are found in the files of a ledger on SQLite, free pages and log included", Seen: holding(t, p, sealed), Of: len(sealed), What: "payloads"})
	if r := sound(t, l); r.Erased != done.Entries || r.ByType[audit.TypeRedact] != 1 {
		t.Errorf("%d erased, %d redact entries", r.Erased, r.ByType[audit.TypeRedact])
	}

	// proofs
	after, _ := signed(t, p)
	broken, proofs := 0, 0
	for _, r := range append(receipts, done.Receipts...) {
		for _, size := range []uint64{before.Size, after.Size} {
			if r.Position >= size {
				continue
			}
			proofs++
			if _, err := l.Inclusion(ctx, r, size); err != nil {
				broken++
				t.Errorf("the receipt of entry %d in %d: %v", r.Position, size, err)
			}
		}
	}
	figure.Report(t, figure.Figure{Name: "proofs of receipts that an erasure broke", Seen: broken, Of: proofs, What: "proofs"})
	if c, err := l.Checkpoint(ctx, before.Size); err != nil || !bytes.Equal(c.Note, before.Note) {
		t.Errorf("%v: the checkpoint is another", err)
	}
	if _, err := l.Consistency(ctx, stated.Size, after.Size); err != nil {
		t.Errorf("consistency: %v", err)
	}

	// what is left
	left, _, _, err := l.Search(ctx, by, audit.Search{Subjects: []record.NHSNumber{gone}, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if !slices.Contains(kept, f.Position) {
			t.Errorf("entry %d (%s) is still found by the person", f.Position, f.Type)
		}
	}
	others, _, _, err := l.Search(ctx, by, audit.Search{Subjects: []record.NHSNumber{stays}, Limit: 1000})
	if err != nil || len(others) < 10 {
		t.Errorf("%v: %d entries about somebody else", err, len(others))
	}
	if list, _, err := l.ReadObjections(ctx, by, []record.NHSNumber{gone}); err != nil || len(list) != 1 || list[0].ID != standing.ID {
		t.Errorf("%v: %d objections, want the one that stands", err, len(list))
	}
	if _, err := l.ExportObjections(ctx, by, audit.Cursor{}); err != nil {
		t.Errorf("exporting objections over a gap: %v", err)
	}
	if _, err := l.Release(ctx, opened, permit, shown(permit)); err != nil {
		t.Errorf("an access that was under way: %v", err)
	}
	if list, _, _, err := l.Overrides(ctx, by, audit.Bounds{Organisation: "X9J01"}, audit.AnyAlert, 0, 0); err != nil || len(list) != 2 {
		t.Errorf("%v: %d overrides are listed, want the other person's and the one that nobody has reviewed", err, len(list))
	}
	q := p.Reopen(t)
	sound(t, q.Ledger)
}

// A look at several people is evidence for each of them: erasing one leaves it to the others, and it goes when all are asked for, or its time is over.
func TestALookAtSeveralPeopleStaysForTheOthers(t *testing.T) {
	clock := newClock()
	p := audittest.New(t, audit.Config{Now: clock.now})
	l := p.Ledger
	one, two := number(t, "9990000018"), number(t, "9990000026")
	looked := func(about ...record.NHSNumber) {
		t.Helper()
		if err := l.LookedAtList(ctx, actor(), about); err != nil {
			t.Fatal(err)
		}
	}
	looks := func() (n int) {
		t.Helper()
		found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{two}, Types: []audit.EntryType{audit.TypeRead}, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Subject != two {
				t.Error("somebody is told with whom they stand in a list")
			}
			if f.Asked == "list" { // not a search here
				n++
			}
		}
		return n
	}
	erase := func(e audit.Erasure, entries, kept int) {
		t.Helper()
		e.Reference = "decision 1"
		if done, err := l.Erase(ctx, actor(), e); err != nil || done.Entries != entries || done.Kept != kept {
			t.Errorf("%v: %d erased and %d kept for %s, want %d and %d", err, done.Entries, done.Kept, e.Basis, entries, kept)
		}
		sound(t, l)
	}
	looked(one, two)
	looked(one)
	for _, basis := range []audit.Basis{audit.BasisErasure, audit.BasisOrder} {
		entries := 1 // the look at this person alone
		if basis == audit.BasisOrder {
			entries = 0
		}
		erase(audit.Erasure{Basis: basis, Subjects: []record.NHSNumber{one}}, entries, 1)
		if n := looks(); n != 1 {
			t.Errorf("after the %s of one person, %d looks at the other are found, want 1", basis, n)
		}
	}
	erase(audit.Erasure{Basis: audit.BasisErasure, Subjects: []record.NHSNumber{one, two}}, 3, 0) // with the two searches above
	if n := looks(); n != 0 {
		t.Errorf("after both were asked for, %d looks are found", n)
	}
	looked(one, two)
	clock.add(time.Hour)
	erase(audit.Erasure{Basis: audit.BasisRetention, Before: clock.now(), Subjects: []record.NHSNumber{one}}, 1, 0)
	if n := looks(); n != 0 {
		t.Errorf("at the end of their retention, %d looks are found", n)
	}
}

// At the end of retention everything before a time goes, but for what must stay.
func TestErasingAtTheEndOfRetention(t *testing.T) {
	clock := newClock()
	p := audittest.New(t, audit.Config{Now: clock.now})
	l := p.Ledger
	for _, n := range []string{"9990000018", "9990000026"} {
		life(t, l, number(t, n))
	}
	standing := object(t, l, number(t, "9990000034"), consent.ToAll)
	clock.add(time.Hour)
	cut := clock.now()
	clock.add(time.Hour)
	late := life(t, l, number(t, "9990000018"))
	first := late[0].Position - 1 // of its Begin
	everything := make([]uint64, 0, first)
	for i := range first {
		everything = append(everything, i)
	}
	old := sealedOf(t, p, everything)
	done, err := l.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisRetention, Reference: "schedule 2026, line 12", Before: cut})
	if err != nil {
		t.Fatal(err)
	}
	if want := int(first) - 2; done.Entries != want || done.Kept != 1 { // the Key entry was not asked for, the objection stands
		t.Errorf("%d erased and %d kept, want %d and 1", done.Entries, done.Kept, want)
	}
	if n := holding(t, p, old); n != 2 {
		t.Errorf("%d old payloads are found in the files, want the 2 that stay", n)
	}
	sound(t, l)
	if list, _, err := l.ReadObjections(ctx, actor(), []record.NHSNumber{number(t, "9990000034")}); err != nil || len(list) != 1 || list[0].ID != standing.ID {
		t.Errorf("%v: %d objections, want the one that stands", err, len(list))
	}
	if again, err := l.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisRetention, Reference: "schedule 2026, line 12", Before: cut}); err != nil || again.Entries != 0 || len(again.Receipts) != 0 {
		t.Errorf("%v: a second time %d entries were erased", err, again.Entries)
	}
	if r, err := l.Inclusion(ctx, late[2], 0); err != nil && !errors.Is(err, audit.ErrNotSigned) {
		t.Errorf("%v: %v", r.Position, err)
	}
	for name, e := range map[string]audit.Erasure{
		"no basis":               {Reference: "x", Before: cut},
		"no reference":           {Basis: audit.BasisRetention, Before: cut},
		"no time":                {Basis: audit.BasisRetention, Reference: "x"},
		"everybody, by an order": {Basis: audit.BasisOrder, Reference: "x", Before: cut},
		"nobody in particular":   {Basis: audit.BasisErasure, Reference: "x", Subjects: []record.NHSNumber{{}}},
	} {
		if _, err := l.Erase(ctx, actor(), e); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

// An absence that no entry accounts for, and an entry that accounts for what is there, are both found.
func TestErasuresMustBeAccountedFor(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	life(t, p.Ledger, number(t, "9990000018"))
	if _, err := p.Ledger.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisErasure, Reference: "x", Subjects: []record.NHSNumber{number(t, "9990000018")}}); err != nil {
		t.Fatal(err)
	}
	life(t, p.Ledger, number(t, "9990000034"))
	object(t, p.Ledger, number(t, "9990000026"), consent.ToAll)
	p.Close(t)
	for name, sql := range map[string]string{
		"a payload is gone and nobody says so": "UPDATE entries SET sealed = NULL WHERE type = 8 AND sealed IS NOT NULL",
		"of an override, not of its review":    "UPDATE entries SET sealed = NULL WHERE type = 9",
		"a payload came back":                  "UPDATE entries SET sealed = zeroblob(100) WHERE position = 2",
	} {
		q := copyOf(t, p)
		tamper(t, q, sql)
		store := reopened(t, q.Path)
		r, err := audit.Verify(ctx, store, p.Keys)
		if err != nil || r.Found == 0 {
			t.Errorf("%s: %v, %d problems", name, err, r.Found)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// meddling is a store in which something happens just after it was found out what may be erased.
type meddling struct {
	audit.Store
	then func()
}

func (m *meddling) View(ctx context.Context, f func(audit.Reader) error) error {
	found := false
	err := m.Store.View(ctx, func(r audit.Reader) error { return f(&foundOut{r, &found}) })
	if then := m.then; found && then != nil {
		m.then = nil
		then()
	}
	return err
}

type foundOut struct {
	audit.Reader
	found *bool
}

func (r *foundOut) EachAlert(f func(audit.AlertRow) error) error {
	*r.found = true
	return r.Reader.EachAlert(f)
}

// A use of break-glass that was looked into once more between finding out what may go and erasing it stays, with both reviews.
func TestWhatIsReviewedMeanwhileStays(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	p.Close(t)
	inner := reopened(t, p.Path)
	store := &meddling{Store: inner}
	c := p.Config
	c.Store, c.Keys, c.Sinks = store, p.Keys, audittest.Sinks(t, c, p.Path)
	l, err := audit.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Shutdown(context.Background()), inner.Close()); err != nil {
			t.Error(err)
		}
	})
	person := number(t, "9990000018")
	o, permit := ask{subject: person, purpose: record.BreakGlass}.begin(t, l)
	if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Fatal(err)
	}
	review := func(outcome audit.ReviewOutcome) {
		if _, err := l.ReviewOverride(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, o.Position()-1, outcome, "looked into", key()); err != nil {
			t.Error(err)
		}
	}
	review(audit.Justified)
	store.then = func() { review(audit.NotJustified) }
	done, err := l.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisErasure, Reference: "x", Subjects: []record.NHSNumber{person}})
	if err != nil || done.Entries != 0 || done.Kept != 4 {
		t.Errorf("%d erased and %d kept, want none and 4: %v", done.Entries, done.Kept, err)
	}
	sound(t, l)
	if done, err = l.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisErasure, Reference: "x", Subjects: []record.NHSNumber{person}}); err != nil || done.Entries != 5 {
		t.Errorf("the second time %d are erased, want 5: %v", done.Entries, err)
	}
	sound(t, l)
}
