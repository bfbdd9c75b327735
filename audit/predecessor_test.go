package audit_test

import (
	"errors"
	"fmt"
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

// The roll-over, rehearsed: one bit of an old ledger falls over after it was signed. The ledger does not start again, a new one takes its place, names the last good
// checkpoint, and honours from its first moment what people had chosen; what they had taken back stays taken back. The old receipts keep their worth.
func TestANewLedgerTakesOver(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	one, two, three := number(t, "9990000018"), number(t, "9990000026"), number(t, "9990000034")
	section := object(t, p.Ledger, one, consent.ToSection)
	back := object(t, p.Ledger, two, consent.ToAll)
	if _, _, err := p.Ledger.WithdrawObjection(ctx, actor(), []record.NHSNumber{two}, back.ID, key()); err != nil {
		t.Fatal(err)
	}
	object(t, p.Ledger, three, consent.ToCustodian)
	lets, _, err := p.Ledger.RecordDelegation(ctx, actor(), one, consent.Delegation{Carer: two, Sections: record.AllSections, Until: time.Now().AddDate(0, 1, 0)}, key())
	if err != nil {
		t.Fatal(err)
	}
	receipts := refuseMany(t, p.Ledger, 300)
	last, stated := signed(t, p)
	p.Close(t)
	tamper(t, p, "UPDATE entries SET leaf = zeroblob(32) WHERE position = 2") // the Yeti case: a stored hash, of an objection at that
	if err := open(t, p, nil); !errors.Is(err, audit.ErrDamaged) {
		t.Fatalf("the damaged ledger: %v, want ErrDamaged", err)
	}

	old, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path})
	if err != nil {
		t.Fatal(err)
	}
	before, err := audit.ReadPredecessor(ctx, old, p.Keys, time.Now())
	if err != nil {
		t.Fatalf("reading the old ledger: %v", err)
	}
	if before.State != stated || before.Carried() != 3 {
		t.Errorf("it ends at %d and leaves %d choices, want %d and 3", before.State.Size, before.Carried(), stated.Size)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), "ledger.db")
	begin := func(origin string) (*audit.Ledger, func(), error) {
		t.Helper()
		store, err := sqlite.Open(ctx, sqlite.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		c := audit.Config{Store: store, Keys: p.Keys, Origin: origin, Continues: before}
		c.Sinks = audittest.Sinks(t, c, path)
		l, err := audit.Open(ctx, c)
		if err != nil {
			return nil, nil, errors.Join(err, store.Close())
		}
		return l, func() {
			if err := errors.Join(l.Shutdown(ctx), store.Close()); err != nil {
				t.Error(err)
			}
		}, nil
	}
	if _, _, err := begin(p.Ledger.Origin()); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("under the same origin: %v, want ErrInvalid", err)
	}
	l, end, err := begin("mycarerecord.example/second")
	if err != nil {
		t.Fatal(err)
	}
	if s, ok, err := l.Continues(ctx); err != nil || !ok || s != stated {
		t.Errorf("%v: it continues %d entries, want %d", err, s.Size, stated.Size)
	}
	prefs, err := l.Preferences(ctx, []record.NHSNumber{one, two, three})
	if err != nil || len(prefs.Objections) != 2 || len(prefs.Delegations) != 1 || prefs.Delegations[0].ID != lets.ID {
		t.Errorf("%v: %d objections and %d delegations, want 2 and 1", err, len(prefs.Objections), len(prefs.Delegations))
	}
	for _, o := range prefs.Objections {
		if o.Status != consent.InForce || o.AuthorUser != section.AuthorUser {
			t.Errorf("an objection came over as another")
		}
	}
	if o, permit := (ask{subject: one}).begin(t, l); permit.Sections(mental.Key).Has(record.MentalHealth) {
		t.Error("an objection is not honoured")
	} else if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Errorf("Release: %v", err)
	}
	if _, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{one}, section.ID, key()); err != nil {
		t.Errorf("taking back an objection that came over: %v", err)
	}
	sound(t, l)
	end()
	if _, _, err := begin("mycarerecord.example/second"); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("continuing twice: %v, want ErrInvalid", err)
	}

	// Whoever kept a proof under the old checkpoint has what they had: the note stands in the new ledger's first entry, and it is the one they know.
	if last.Size <= receipts[0].Position {
		t.Error("the receipts are not under the old checkpoint")
	}

	// What cannot be read is not passed over.
	tamper(t, p, "UPDATE entries SET sealed = zeroblob(length(sealed)) WHERE type = 8 AND position = 1")
	if old, err = sqlite.Open(ctx, sqlite.Config{Path: p.Path}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	if _, err := audit.ReadPredecessor(ctx, old, p.Keys, time.Now()); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("an objection that cannot be read: %v, want ErrDamaged", err)
	}
}

// Whatever became of an entry that says what somebody chose, or took back, it is not passed over: another type would hide it from whoever looks for its own, an absence from
// whoever does not count.
func TestNothingThatWasChosenIsPassedOver(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	one, two, three := number(t, "9990000018"), number(t, "9990000026"), number(t, "9990000034")
	standing := object(t, p.Ledger, one, consent.ToAll)
	back, _, err := p.Ledger.RecordDelegation(ctx, actor(), one, consent.Delegation{Carer: two, Sections: record.AllSections, Until: time.Now().AddDate(0, 1, 0)}, key())
	if err != nil {
		t.Fatal(err)
	}
	_, withdrawal, err := p.Ledger.WithdrawDelegation(ctx, actor(), []record.NHSNumber{one}, back.ID, key())
	if err != nil {
		t.Fatal(err)
	}
	life(t, p.Ledger, three)
	erased, err := p.Ledger.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisErasure, Reference: "decision 1", Subjects: []record.NHSNumber{three}})
	if err != nil || erased.Entries == 0 {
		t.Fatalf("%v: %d erased", err, erased.Entries)
	}
	refuseMany(t, p.Ledger, 70) // more than a page
	newest := object(t, p.Ledger, two, consent.ToAll)
	p.Close(t)
	read := func(q *audittest.Place) (int, error) {
		t.Helper()
		old, err := sqlite.Open(ctx, sqlite.Config{Path: q.Path})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = old.Close() }()
		before, err := audit.ReadPredecessor(ctx, old, q.Keys, time.Now())
		if err != nil {
			return 0, err
		}
		return before.Carried(), nil
	}
	if n, err := read(copyOf(t, p)); err != nil || n != 2 {
		t.Fatalf("untouched: %v, %d choices, want 2: what was erased is accounted for, what was withdrawn ended", err, n)
	}
	at := func(sql string, position uint64) string { return fmt.Sprintf(sql, position) }
	const (
		payload = "UPDATE entries SET sealed = NULL WHERE position = %d"
		kind    = "UPDATE entries SET type = 11 WHERE position = %d"
		row     = "DELETE FROM entries WHERE position = %d"
		tail    = "DELETE FROM entries WHERE position >= %d"
		end     = "UPDATE head SET size = %d"
	)
	for name, statements := range map[string][]string{
		"an objection's payload is gone":       {at(payload, standing.Position)},
		"an objection's type is another":       {at(kind, standing.Position)},
		"an objection's row is gone":           {at(row, standing.Position)},
		"a withdrawal's payload is gone":       {at(payload, withdrawal.Position)},
		"a withdrawal's type is another":       {at(kind, withdrawal.Position)},
		"a withdrawal's row is gone":           {at(row, withdrawal.Position)},
		"the entry that names what was erased": {at(payload, erased.Receipts[0].Position)},
		"the end is gone":                      {at(tail, newest.Position)},
		"the end is gone, and the head agrees": {at(tail, newest.Position), at(end, newest.Position)},
	} {
		t.Run(name, func(t *testing.T) {
			q := copyOf(t, p)
			tamper(t, q, append([]string{"PRAGMA foreign_keys = OFF"}, statements...)...)
			if n, err := read(q); !errors.Is(err, audit.ErrDamaged) || !strings.Contains(err.Error(), "restore") {
				t.Errorf("%v: %d choices, want ErrDamaged that says what to do", err, n)
			}
		})
	}
}

// What was recorded after the last checkpoint binds like everything before it, and is carried over; where the head tells of more than there is, somebody's newest word may be missing.
func TestWhatWasNotSignedIsTakenOverToo(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	person := number(t, "9990000018")
	signed(t, p)
	late := object(t, p.Ledger, person, consent.ToAll)
	signed(t, p)
	p.Close(t)
	unsigned := fmt.Sprintf("DELETE FROM checkpoints WHERE size > %d", late.Position)
	for name, c := range map[string]struct {
		cut  []string
		want error
	}{
		"it is there": {nil, nil},
		"it is gone":  {[]string{fmt.Sprintf("DELETE FROM entries WHERE position >= %d", late.Position)}, audit.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			q := copyOf(t, p)
			tamper(t, q, append([]string{"PRAGMA foreign_keys = OFF", unsigned}, c.cut...)...)
			old, err := sqlite.Open(ctx, sqlite.Config{Path: q.Path})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = old.Close() }()
			before, err := audit.ReadPredecessor(ctx, old, q.Keys, time.Now())
			if !errors.Is(err, c.want) || err == nil && (before.State.Size > late.Position || before.Carried() != 1) {
				t.Errorf("%v, want %v and, with none, the objection behind the last checkpoint", err, c.want)
			}
		})
	}
}
