package audit_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// forgetful is a store with a bug: it hides something from the ledger that writes.
type forgetful struct {
	audit.Store
	objections, closings, alerts, withdrawals, reviews bool
}

type forgetfulTx struct {
	audit.Tx
	f *forgetful
}

func (f *forgetful) Update(ctx context.Context, ahead audit.Wanted, run func(audit.Tx) error) error {
	return f.Store.Update(ctx, ahead, func(tx audit.Tx) error { return run(forgetfulTx{tx, f}) })
}

func (t forgetfulTx) ObjectionsOf(persons []string) ([]audit.ObjectionRow, error) {
	if t.f.objections {
		return nil, nil
	}
	return t.Tx.ObjectionsOf(persons)
}

func (t forgetfulTx) IsOpen(position uint64) (bool, error) {
	if t.f.closings {
		return true, nil
	}
	return t.Tx.IsOpen(position)
}

func (t forgetfulTx) PutAlert(position uint64, kind audit.AlertKind) error {
	if t.f.alerts {
		return nil
	}
	return t.Tx.PutAlert(position, kind)
}

func (t forgetfulTx) PutObjection(r audit.ObjectionRow) error {
	if _, there, err := t.Objection(r.ID); err != nil || there && t.f.withdrawals {
		return err
	}
	return t.Tx.PutObjection(r)
}

func (t forgetfulTx) AlertReviewed(position, review uint64) error {
	if t.f.reviews {
		return nil
	}
	return t.Tx.AlertReviewed(position, review)
}

// Verify does not trust the ledger that wrote: what a faulty one records, it finds by replaying the entries.
func TestVerifyFindsWhatAFaultyLedgerDoes(t *testing.T) {
	for name, c := range map[string]struct {
		bug  forgetful
		do   func(t *testing.T, l *audit.Ledger)
		find string
	}{
		"released over an objection": {forgetful{objections: true}, func(t *testing.T, l *audit.Ledger) {
			o, permit := ask{subject: number(t, "9990000018")}.begin(t, l)
			object(t, l, number(t, "9990000018"), consent.ToSection)
			if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
				t.Fatal(err)
			}
		}, "the objection of entry 2 forbids"},
		"a chunk over an objection under an old number": {forgetful{objections: true}, func(t *testing.T, l *audit.Ledger) {
			old := number(t, "9990000026")
			o, permit := ask{subject: number(t, "9990000018"), supersedes: []record.NHSNumber{old}}.begin(t, l)
			object(t, l, old, consent.ToAll)
			if _, err := l.ReleaseChunk(ctx, o, permit, shown(permit)); err != nil {
				t.Fatal(err)
			}
		}, "the objection of entry 2 forbids"},
		"released under old preferences": {forgetful{objections: true}, func(t *testing.T, l *audit.Ledger) {
			o, permit := ask{subject: number(t, "9990000018"), person: true}.begin(t, l)
			object(t, l, number(t, "9990000018"), consent.ToAll) // not absolute: the own view stands
			if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
				t.Fatal(err)
			}
		}, "released under preferences of entry 0, the newest were of 2"},
		"released to a carer whose delegation was withdrawn": {forgetful{withdrawals: true}, func(t *testing.T, l *audit.Ledger) {
			d := delegate(t, l, number(t, "9990000018"))
			o, permit := ask{subject: number(t, "9990000018"), carer: carerOf(t)}.begin(t, l)
			if _, _, err := l.WithdrawDelegation(ctx, themselves(t), []record.NHSNumber{number(t, "9990000018")}, d.ID, key()); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
				t.Fatal(err)
			}
		}, "it shows a carer what no delegation lets them see"},
		"a review that is not noted": {forgetful{reviews: true}, func(t *testing.T, l *audit.Ledger) {
			o, _ := ask{subject: number(t, "9990000018"), purpose: record.BreakGlass}.begin(t, l)
			if _, err := l.ReviewOverride(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, o.Position()-1, audit.Justified, "", key()); err != nil {
				t.Fatal(err)
			}
		}, "not reviewed as the entries say"},
		"closed twice": {forgetful{closings: true}, func(t *testing.T, l *audit.Ledger) {
			o, permit := ask{subject: number(t, "9990000018")}.begin(t, l)
			for range 2 {
				if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
					t.Fatal(err)
				}
			}
		}, "no open access at 1"},
		"an override without an alert": {forgetful{alerts: true}, func(t *testing.T, l *audit.Ledger) {
			ask{subject: number(t, "9990000018"), purpose: record.BreakGlass}.begin(t, l)
		}, "alerts"},
	} {
		t.Run(name, func(t *testing.T) {
			p := audittest.New(t, audit.Config{})
			p.Close(t)
			store, err := sqlite.Open(ctx, sqlite.Config{Path: p.Path})
			if err != nil {
				t.Fatal(err)
			}
			bug := c.bug
			bug.Store = store
			config := p.Config
			config.Store, config.Sinks = &bug, audittest.Sinks(t, config, p.Path)
			l, err := audit.Open(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			c.do(t, l)
			r, err := l.Verify(ctx)
			var texts []string
			for _, p := range r.Problems {
				texts = append(texts, p.Text)
			}
			if text := strings.Join(texts, "; "); err != nil || !strings.Contains(text, c.find) {
				t.Errorf("%v, found %q, want %q", err, text, c.find)
			}
			if err := l.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
