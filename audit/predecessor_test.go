package audit_test

import (
	"errors"
	"path/filepath"
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
