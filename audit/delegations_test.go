package audit_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// carerOf is the number of whoever cares for the people of these tests.
func carerOf(t testing.TB) record.NHSNumber { return number(t, "9990000026") }

// delegation lets the carer see two sections for a day.
func delegation(t testing.TB) consent.Delegation {
	return consent.Delegation{Carer: carerOf(t), Name: "my daughter", Sections: record.SectionsOf(record.Medications, record.Appointments),
		Until: time.Now().Add(24 * time.Hour)}
}

// themselves is the person as the actor.
func themselves(t testing.TB) audit.Actor {
	return audit.Actor{Requester: ask{subject: number(t, "9990000018"), person: true}.requester(), RoleName: "person", RequestID: "req-8", Face: "grpc",
		Configuration: "c0ffee", Policy: "b0bb1e"}
}

func delegate(t testing.TB, l *audit.Ledger, about record.NHSNumber) consent.Delegation {
	t.Helper()
	d, _, err := l.RecordDelegation(ctx, themselves(t), about, delegation(t), key())
	if err != nil {
		t.Fatalf("RecordDelegation: %v", err)
	}
	return d
}

// A carer sees what was delegated, as long as it is: from the acknowledgement of the withdrawal on nothing more is released, not even what was
// asked for before (C-6, P2).
func TestDelegation(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, person := p.Ledger, number(t, "9990000018")
	a := ask{subject: person, carer: carerOf(t)}
	if d := a.decide(consent.Preferences{}, time.Now()); d.Reason != consent.ReasonNotOwn {
		t.Fatalf("without a delegation: %s", d.Reason)
	}
	d := delegate(t, l, person)
	if d.ID == "" || d.Status != consent.InForce || d.Position == 0 || d.From.IsZero() || d.AuthorUser != "login-1" {
		t.Error("the ledger did not fill in what is its own to say")
	}
	o, permit := a.begin(t, l)
	if got := permit.Sections("gp"); got != d.Sections {
		t.Errorf("the carer may see %s, want %s", got, d.Sections)
	}
	if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Errorf("Release: %v", err)
	}
	o, permit = a.begin(t, l)
	ended, _, err := l.WithdrawDelegation(ctx, themselves(t), []record.NHSNumber{person}, d.ID, key())
	if err != nil || ended.Status != consent.Withdrawn || ended.Position <= d.Position {
		t.Fatalf("WithdrawDelegation: %v", err)
	}
	var changed *audit.ConsentChangedError
	if _, err := l.Release(ctx, o, permit, shown(permit)); !errors.As(err, &changed) {
		t.Errorf("a release after the withdrawal: %v, want ErrConsentChanged", err)
	} else if len(changed.Preferences.Delegations) != 1 || changed.Preferences.Position != ended.Position {
		t.Error("the error does not carry the preferences that were read")
	}
	list, _, err := l.ReadDelegations(ctx, themselves(t), []record.NHSNumber{person})
	if err != nil || len(list) != 1 || list[0].Status != consent.Withdrawn || list[0].Name != "my daughter" || list[0].Carer != a.carer {
		t.Errorf("ReadDelegations: %d of them: %v", len(list), err)
	}
	if again, _, err := l.WithdrawDelegation(ctx, themselves(t), []record.NHSNumber{person}, d.ID, key()); err != nil || again.Position != ended.Position {
		t.Errorf("a second withdrawal: %v", err)
	}
	p.Close(t)
	p = p.Reopen(t) // the start rebuilds delegations from their entries
	sound(t, p.Ledger)
	prefs, err := p.Ledger.Preferences(ctx, []record.NHSNumber{person})
	if err != nil || len(prefs.Delegations) != 1 || prefs.Delegations[0].Status != consent.Withdrawn {
		t.Errorf("after a restart: %v", err)
	}
}

// The access of a carer is found as theirs and as one to the person's record, and what was delegated is found by the person.
func TestDelegationIsFound(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, person := p.Ledger, number(t, "9990000018")
	delegate(t, l, person)
	o, permit := ask{subject: person, carer: carerOf(t)}.begin(t, l)
	if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]audit.Search{"the person": {Subjects: []record.NHSNumber{person}}, "the carer": {User: "login-2"}} {
		found, _, _, err := l.Search(ctx, actor(), q)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(found, func(f audit.Found) bool { return f.Type == audit.TypeBegin })
		if i < 0 || found[i].Access.Requester.Own != carerOf(t) || found[i].Access.Permission.Kind != record.Delegated || found[i].Subject != person {
			t.Errorf("%s: the access is not found as the carer's", name)
		}
		wrote := slices.ContainsFunc(found, func(f audit.Found) bool {
			return f.Type == audit.TypeDelegation && f.Delegation != nil && f.Actor.Configuration == "c0ffee"
		})
		if wrote != (name == "the person") {
			t.Errorf("%s: the delegation is found: %v", name, wrote)
		}
	}
}

// The same key for another wish is refused, whatever of the wish is another; for the same wish it is safe to repeat.
func TestDelegationKeyForAnotherWish(t *testing.T) {
	l, person := audittest.New(t, audit.Config{}).Ledger, number(t, "9990000018")
	for name, from := range map[string]time.Time{"from now": {}, "from then": time.Now().Add(time.Hour)} {
		k, asked := key(), delegation(t)
		asked.From = from
		first, _, err := l.RecordDelegation(ctx, themselves(t), person, asked, k)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // another now
		if again, _, err := l.RecordDelegation(ctx, themselves(t), person, asked, k); err != nil || again.ID != first.ID || !again.From.Equal(first.From) {
			t.Errorf("%s: the same wish: %v", name, err)
		}
		for what, change := range map[string]func(*consent.Delegation){
			"carer":      func(d *consent.Delegation) { d.Carer = number(t, "9990000034") },
			"name":       func(d *consent.Delegation) { d.Name = "my neighbour" },
			"sections":   func(d *consent.Delegation) { d.Sections = record.AllSections },
			"custodians": func(d *consent.Delegation) { d.Custodians = []record.CustodianKey{"gp"} },
			"from":       func(d *consent.Delegation) { d.From = time.Now().Add(2 * time.Hour) },
			"until":      func(d *consent.Delegation) { d.Until = d.Until.Add(time.Minute) },
		} {
			d := asked
			change(&d)
			if _, _, err := l.RecordDelegation(ctx, themselves(t), person, d, k); !errors.Is(err, audit.ErrInvalid) {
				t.Errorf("%s: another %s: %v, want ErrInvalid", name, what, err)
			}
		}
		d := asked
		d.From = time.Time{}
		if _, _, err := l.RecordDelegation(ctx, themselves(t), person, d, k); !from.IsZero() && !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("from now instead of from then: %v, want ErrInvalid", err)
		}
	}
	sound(t, l)
}

func TestDelegationsThatCannotBe(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, person := p.Ledger, number(t, "9990000018")
	for name, change := range map[string]func(*consent.Delegation){
		"nobody":          func(d *consent.Delegation) { d.Carer = record.NHSNumber{} },
		"themselves":      func(d *consent.Delegation) { d.Carer = person },
		"nothing":         func(d *consent.Delegation) { d.Sections = 0 },
		"no such section": func(d *consent.Delegation) { d.Sections = 1 << 15 },
		"no end":          func(d *consent.Delegation) { d.Until = time.Time{} },
		"ended": func(d *consent.Delegation) {
			d.From, d.Until = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		},
		"too long":  func(d *consent.Delegation) { d.Until = time.Now().Add(consent.MaxDelegation + time.Hour) },
		"custodian": func(d *consent.Delegation) { d.Custodians = []record.CustodianKey{"G P"} },
		"name":      func(d *consent.Delegation) { d.Name = "a\nb" },
	} {
		d := delegation(t)
		change(&d)
		if _, _, err := l.RecordDelegation(ctx, themselves(t), person, d, key()); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	d, k := delegation(t), key()
	first, _, err := l.RecordDelegation(ctx, themselves(t), person, d, k)
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := l.RecordDelegation(ctx, themselves(t), person, d, k); err != nil || again.Position != first.Position {
		t.Errorf("the same key again: %v", err)
	}
	d.Sections = record.AllSections
	if _, _, err := l.RecordDelegation(ctx, themselves(t), person, d, k); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("the same key with another scope: %v, want ErrInvalid", err)
	}
	numbers := []record.NHSNumber{person}
	if _, _, err := l.WithdrawDelegation(ctx, themselves(t), []record.NHSNumber{carerOf(t)}, first.ID, key()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("somebody else's: %v, want ErrNotFound", err)
	}
	if _, _, err := l.WithdrawObjection(ctx, actor(), numbers, first.ID, key()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("withdrawn as an objection: %v, want ErrNotFound", err)
	}
	o := object(t, l, person, consent.ToAll)
	if _, _, err := l.WithdrawDelegation(ctx, themselves(t), numbers, o.ID, key()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("an objection withdrawn as a delegation: %v, want ErrNotFound", err)
	}
	sound(t, l)
}

// C-1: an objection that is requested withholds nothing until it is decided on, and what is decided stays.
func TestObjectionIsDecidedOn(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, person := p.Ledger, number(t, "9990000018")
	numbers := []record.NHSNumber{person}
	suppressed := func() bool {
		prefs, err := l.Preferences(ctx, numbers)
		if err != nil {
			t.Fatal(err)
		}
		return ask{subject: person}.decide(prefs, time.Now()).Outcome == consent.Suppressed
	}
	request := func() consent.Objection {
		wish := objection(consent.ToAll)
		wish.Status = consent.Requested
		o, _, err := l.RecordObjection(ctx, actor(), person, wish, key())
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	declined, inForce := request(), request()
	if suppressed() {
		t.Error("what is only requested withholds")
	}
	for _, c := range []struct {
		id   string
		to   consent.Status
		want error
	}{
		{declined.ID, consent.Declined, nil}, {declined.ID, consent.Declined, nil}, {declined.ID, consent.InForce, audit.ErrStale},
		{inForce.ID, consent.InForce, nil}, {inForce.ID, consent.Declined, audit.ErrStale}, {inForce.ID, consent.Requested, audit.ErrInvalid},
		{"unknown", consent.Declined, audit.ErrNotFound},
	} {
		o, _, err := l.ChangeObjection(ctx, actor(), numbers, c.id, c.to, key())
		if !errors.Is(err, c.want) || err == nil && o.Status != c.to {
			t.Errorf("to %s: %v, want %v", c.to, err, c.want)
		}
	}
	if !suppressed() {
		t.Error("what is in force does not withhold")
	}
	k := key()
	if _, _, err := l.ChangeObjection(ctx, actor(), numbers, inForce.ID, consent.Withdrawn, k); err != nil || suppressed() {
		t.Errorf("withdrawn: %v", err)
	}
	if _, _, err := l.ChangeObjection(ctx, actor(), numbers, inForce.ID, consent.InForce, k); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("the same key for another change: %v, want ErrInvalid", err)
	}
	if _, _, err := l.ChangeObjection(ctx, actor(), numbers, inForce.ID, consent.InForce, key()); !errors.Is(err, audit.ErrStale) {
		t.Errorf("withdrawn, then in force: %v, want ErrStale", err)
	}
	sound(t, l)
}
