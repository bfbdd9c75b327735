package audit_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// An alert waits until it is delivered, over a restart too, and is delivered once.
func TestAlertsWaitForDelivery(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	for range 3 {
		ask{subject: number(t, "9990000018"), purpose: record.BreakGlass}.begin(t, p.Ledger)
	}
	pending := func(from uint64, limit int) []audit.AlertRow {
		t.Helper()
		rows, err := p.Ledger.PendingAlerts(ctx, from, limit)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	all := pending(0, 10)
	if len(all) != 3 || len(pending(0, 2)) != 2 || len(pending(all[1].Position, 10)) != 2 {
		t.Fatalf("%d alerts wait, want 3", len(all))
	}
	if err := p.Ledger.AlertDelivered(ctx, all[1].Position); err != nil {
		t.Fatal(err)
	}
	p = p.Reopen(t)
	for _, row := range pending(0, 10) {
		if row.Position == all[1].Position || !row.Delivered.IsZero() {
			t.Error("what was delivered waits")
		}
	}
	if len(pending(0, 10)) != 2 {
		t.Errorf("%d alerts wait, want 2", len(pending(0, 10)))
	}
	list, _, _, err := p.Ledger.Overrides(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, audit.AnyAlert, 0, 0)
	if err != nil || len(list) != 3 || list[1].Delivered.IsZero() || !list[0].Delivered.IsZero() {
		t.Fatalf("%d overrides: %v", len(list), err)
	}
	first := list[1].Delivered
	if err := p.Ledger.AlertDelivered(ctx, all[1].Position); err != nil { // again, by another replica
		t.Fatal(err)
	}
	if list, _, _, err = p.Ledger.Overrides(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, audit.AnyAlert, all[1].Position, 1); err != nil || !list[0].Delivered.Equal(first) {
		t.Errorf("the time of delivery moved: %v", err)
	}
	sound(t, p.Ledger)
}

// C-3: an override stays on the worklist until it is reviewed, by somebody who may see it and is not whoever used it.
func TestReview(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	ours := ask{subject: number(t, "9990000018"), purpose: record.BreakGlass, org: "X9J01", supersedes: []record.NHSNumber{number(t, "9990000026")}}
	opened, permit := ours.begin(t, l)
	other, otherPermit := ask{subject: number(t, "9990000034"), purpose: record.BreakGlass, org: "X9K01"}.begin(t, l)
	if _, err := l.Release(ctx, other, otherPermit, shown(otherPermit)); err != nil { // what another override shows says nothing of the first
		t.Fatal(err)
	}
	requester := audit.Bounds{Organisation: "X9J01"}
	holder := audit.Bounds{Organisation: "X9C01", Custodians: []record.CustodianKey{mental.Key}}
	stranger := audit.Bounds{Organisation: "X9Z01", Custodians: []record.CustodianKey{"elsewhere"}}
	list := func(in audit.Bounds, which audit.AlertState) []audit.Override {
		t.Helper()
		out, next, _, err := l.Overrides(ctx, actor(), in, which, 0, 0)
		if err != nil || next != 0 {
			t.Fatalf("Overrides: next %d, %v", next, err)
		}
		return out
	}
	if len(list(requester, audit.Unreviewed)) != 1 || len(list(holder, audit.Unreviewed)) != 2 || len(list(stranger, audit.Unreviewed)) != 0 || len(list(audit.Bounds{}, audit.Unreviewed)) != 0 {
		t.Error("officers see other than their own organisation's overrides")
	}
	o := list(requester, audit.Unreviewed)[0]
	if o.Access == nil || o.Reason == "" || o.Kind != audit.AlertBreakGlass || o.Expires.Sub(o.At) != audit.MaxOverride {
		t.Error("the worklist does not say who, why and until when")
	}
	if _, next, _, err := l.Overrides(ctx, actor(), holder, audit.Unreviewed, 0, 1); err != nil || next != o.Position+2 {
		t.Errorf("a page of one goes on at %d, want %d: %v", next, o.Position+2, err)
	}
	self := actor()
	self.Requester.User = o.Access.Requester.User
	for name, c := range map[string]struct {
		by      audit.Actor
		in      audit.Bounds
		at      uint64
		outcome audit.ReviewOutcome
		note    string
		want    error
	}{
		"a stranger":    {actor(), stranger, o.Position, audit.Justified, "", audit.ErrNotFound},
		"nobody's":      {actor(), audit.Bounds{}, o.Position, audit.Justified, "", audit.ErrNotFound},
		"their own":     {self, requester, o.Position, audit.Justified, "", audit.ErrNotPermitted},
		"nothing shown": {actor(), holder, o.Position, audit.Justified, "", audit.ErrNotPermitted},
		"no override":   {actor(), requester, o.Position + 1, audit.Justified, "", audit.ErrNotFound},
		"beyond":        {actor(), requester, 1 << 40, audit.Justified, "", audit.ErrNotFound},
		"outcome":       {actor(), requester, o.Position, "fine", "", audit.ErrInvalid},
		"note":          {actor(), requester, o.Position, audit.Justified, "a\nb", audit.ErrInvalid},
	} {
		if _, err := l.ReviewOverride(ctx, c.by, c.in, c.at, c.outcome, c.note, key()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := l.Release(ctx, opened, permit, shown(permit)); err != nil {
		t.Fatal(err)
	}
	k := key()
	receipt, err := l.ReviewOverride(ctx, actor(), holder, o.Position, audit.NotJustified, "no reason was found", k)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := l.ReviewOverride(ctx, actor(), holder, o.Position, audit.NotJustified, "no reason was found", k); err != nil || again != receipt {
		t.Errorf("the same key again: %v", err)
	}
	if _, err := l.ReviewOverride(ctx, actor(), holder, o.Position, audit.Justified, "", k); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("the same key with another outcome: %v, want ErrInvalid", err)
	}
	if len(list(requester, audit.Unreviewed)) != 0 {
		t.Error("what was reviewed is still on the worklist")
	}
	if all := list(requester, audit.AnyAlert); len(all) != 1 || all[0].Review != receipt.Position {
		t.Error("the review is not named")
	}
	later, err := l.ReviewOverride(ctx, actor(), requester, o.Position, audit.Referred, "", key())
	if err != nil || list(requester, audit.AnyAlert)[0].Review != later.Position {
		t.Errorf("a later review: %v", err)
	}
	for _, n := range append([]record.NHSNumber{ours.subject}, ours.supersedes...) { // the person sees what became of it
		found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{n}, Types: []audit.EntryType{audit.TypeReview}})
		if err != nil || len(found) != 2 || found[1].Reason != string(audit.NotJustified) || found[1].Note != "no reason was found" || found[1].Opens != o.Position || found[1].Subject != ours.subject {
			t.Errorf("the person finds %d reviews: %v", len(found), err)
		}
	}
	sound(t, l)
}

// C-3: at most 60 minutes, and nothing is released under an override that is over.
func TestOverridesExpire(t *testing.T) {
	for _, c := range []struct {
		lasts, after time.Duration
		want         error
	}{
		{0, audit.MaxOverride - time.Second, nil}, {0, audit.MaxOverride, audit.ErrNotPermitted},
		{10 * time.Minute, 10*time.Minute - time.Microsecond, nil}, {10 * time.Minute, 10 * time.Minute, audit.ErrNotPermitted},
	} {
		clock := newClock()
		p := audittest.New(t, audit.Config{Now: clock.now, Override: c.lasts, Sweep: time.Hour})
		a := ask{subject: number(t, "9990000018"), purpose: record.BreakGlass}
		d := a.decide(consent.Preferences{}, clock.now())
		permit, _ := d.Permit()
		access := a.access(clock.now(), d)
		access.Budget = 12 * time.Hour
		o, err := p.Ledger.Begin(ctx, permit, access)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := p.Ledger.Begin(ctx, permit, access); err != nil || again.Position() != o.Position() {
			t.Fatalf("the same Begin again: %v", err)
		} else if c.want != nil {
			o = again // what is found again ends at the same time
		}
		clock.add(c.after)
		if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); !errors.Is(err, c.want) {
			t.Errorf("after %s of %s: %v, want %v", c.after, c.lasts, err, c.want)
		}
		sound(t, p.Ledger)
	}
	p := audittest.New(t, audit.Config{})
	p.Close(t)
	config := p.Config
	config.Override = audit.MaxOverride + 1
	if _, err := audit.Open(ctx, config); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("an override of more than an hour: %v, want ErrInvalid", err)
	}
}
