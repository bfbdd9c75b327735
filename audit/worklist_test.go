package audit_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// flagAccess raises an alert about an access that is begun for it.
func flagAccess(t *testing.T, l *audit.Ledger, a ask, rule audit.AlertKind) audit.Alert {
	t.Helper()
	o, _ := a.begin(t, l)
	alert := audit.Alert{Of: o.Position(), Requester: a.requester(), Rules: []audit.Fired{{Rule: rule, Weight: 100, Count: 3, Usual: 1}}, Score: 100, Version: "v"}
	if _, raised, err := l.RaiseAlert(ctx, alert, time.Now(), []string{a.requester().User, a.subject.Reveal(), string(rule)}, time.Hour); err != nil || !raised {
		t.Fatalf("raising an alert: %v %v", raised, err)
	}
	return alert
}

// An alert is raised once for its access, whoever tries again, and once about its matter within a time.
func TestAnAlertIsRaisedOnce(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	a := ask{subject: number(t, "9990000018")}
	first := flagAccess(t, p.Ledger, a, "colleague")
	topic := []string{a.requester().User, a.subject.Reveal(), "colleague"}
	again := func(alert audit.Alert, topic []string, again time.Duration, want bool) {
		t.Helper()
		if _, raised, err := p.Ledger.RaiseAlert(ctx, alert, time.Now(), topic, again); err != nil || raised != want {
			t.Errorf("raised %v, want %v: %v", raised, want, err)
		}
	}
	again(first, []string{"something", "else"}, time.Hour, false)
	p = p.Reopen(t)
	again(first, []string{"something", "else"}, 0, false)
	o, _ := a.begin(t, p.Ledger)
	second := first
	second.Of = o.Position()
	again(second, topic, time.Hour, false)
	again(second, topic, 0, true)
	if _, _, err := p.Ledger.RaiseAlert(ctx, audit.Alert{Of: 1}, time.Now(), topic, 0); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("an alert without rules: %v", err)
	}
	pending, err := p.Ledger.PendingAlerts(ctx, 0, 10)
	if err != nil || len(pending) != 2 || pending[0].Kind != "colleague" {
		t.Errorf("%d alerts wait to be delivered, want 2: %v", len(pending), err)
	}
	sound(t, p.Ledger)
}

// Alerts are seen and handled by officers of the organisation whose staff they are about, and never by whoever they are about.
func TestAlertsAreHandled(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	flagAccess(t, l, ask{subject: number(t, "9990000018"), org: "X9J01"}, "own-record")
	flagAccess(t, l, ask{subject: number(t, "9990000026"), org: "X9K01"}, "colleague")
	ours, theirs := audit.Bounds{Organisation: "X9J01"}, audit.Bounds{Organisation: "X9K01"}
	holder := audit.Bounds{Organisation: "X9C01", Custodians: []record.CustodianKey{gp.Key, acute.Key, mental.Key}}
	list := func(in audit.Bounds, closed bool) []audit.Flagged {
		t.Helper()
		out, next, _, err := l.Alerts(ctx, actor(), in, closed, 0, 0)
		if err != nil || next != 0 {
			t.Fatalf("Alerts: next %d, %v", next, err)
		}
		return out
	}
	region := audit.Bounds{Organisation: "X9R01", Overseen: []record.ODSCode{"X9J01", "X9K01"}}
	if len(list(region, false)) != 2 || len(list(audit.Bounds{Organisation: "X9R01", Everywhere: true}, false)) != 2 {
		t.Error("a region's officer does not see the alerts of those that it oversees")
	}
	if len(list(ours, false)) != 1 || len(list(theirs, false)) != 1 || len(list(holder, true)) != 0 || len(list(audit.Bounds{}, true)) != 0 {
		t.Fatal("officers see other than the alerts about their own staff")
	}
	f := list(ours, false)[0]
	if f.Step != audit.AlertOpen || !f.Subject.IsZero() || f.Access != nil || f.Alert.Rules[0] != (audit.Fired{Rule: "own-record", Weight: 100, Count: 3, Usual: 1}) {
		t.Error("a list names the person, or does not say what fired")
	}
	self := actor()
	self.Requester.User = f.Alert.Requester.User
	if out, _, _, err := l.Alerts(ctx, self, ours, true, 0, 0); err != nil || len(out) != 0 {
		t.Errorf("whoever it is about sees it: %v", err)
	}
	for name, c := range map[string]struct {
		by      audit.Actor
		in      audit.Bounds
		at      uint64
		step    audit.AlertStep
		outcome audit.ReviewOutcome
		note    string
		want    error
	}{
		"another organisation": {actor(), theirs, f.Position, audit.AlertTaken, "", "", audit.ErrNotFound},
		"who holds the record": {actor(), holder, f.Position, audit.AlertTaken, "", "", audit.ErrNotFound},
		"their own":            {self, ours, f.Position, audit.AlertClosed, audit.Justified, "it was me", audit.ErrNotFound},
		"no alert":             {actor(), ours, f.Alert.Of, audit.AlertTaken, "", "", audit.ErrNotFound},
		"beyond":               {actor(), ours, 1 << 40, audit.AlertTaken, "", "", audit.ErrNotFound},
		"without outcome":      {actor(), ours, f.Position, audit.AlertClosed, "", "n", audit.ErrInvalid},
		"without reason":       {actor(), ours, f.Position, audit.AlertClosed, audit.Justified, "", audit.ErrInvalid},
		"taken with outcome":   {actor(), ours, f.Position, audit.AlertTaken, audit.Justified, "", audit.ErrInvalid},
		"not closed":           {actor(), ours, f.Position, audit.AlertReopened, "", "again", audit.ErrStale},
		"no step":              {actor(), ours, f.Position, audit.AlertOpen, "", "", audit.ErrInvalid},
	} {
		if _, err := l.HandleAlert(ctx, c.by, c.in, c.at, c.step, c.outcome, c.note, key()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, _, err := l.Alert(ctx, actor(), theirs, f.Position); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("another organisation's officer is shown it: %v", err)
	}
	if _, _, err := l.Alert(ctx, self, ours, f.Position); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("whoever it is about is shown it: %v", err)
	}
	one, receipt, err := l.Alert(ctx, actor(), ours, f.Position)
	if err != nil || one.Access == nil || one.Access.Subject != number(t, "9990000018") || receipt.Position == 0 {
		t.Fatalf("the officer is not shown whose record it was: %v", err)
	}
	do := func(step audit.AlertStep, outcome audit.ReviewOutcome, note string) {
		t.Helper()
		k := key()
		receipt, err := l.HandleAlert(ctx, actor(), ours, f.Position, step, outcome, note, k)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := l.HandleAlert(ctx, actor(), ours, f.Position, step, outcome, note, k); err != nil || again != receipt {
			t.Errorf("the same key again: %v", err)
		}
		if _, err := l.HandleAlert(ctx, actor(), ours, f.Position, audit.AlertTaken, "", "", k); step != audit.AlertTaken && !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("the same key for something else: %v", err)
		}
	}
	do(audit.AlertTaken, "", "")
	if got := list(ours, false); len(got) != 1 || got[0].Step != audit.AlertTaken {
		t.Error("what was taken is not on the list as taken")
	}
	do(audit.AlertClosed, audit.NotJustified, "no reason was found")
	if len(list(ours, false)) != 0 || len(list(ours, true)) != 1 {
		t.Error("what was closed is still on the list, or cannot be found")
	}
	if _, err := l.HandleAlert(ctx, actor(), ours, f.Position, audit.AlertTaken, "", "", key()); !errors.Is(err, audit.ErrStale) {
		t.Errorf("taken while closed: %v", err)
	}
	precision, _, err := l.Precision(ctx, actor(), ours, time.Time{}, time.Time{})
	if err != nil || !slices.Equal(precision, []audit.Precision{{Rule: "own-record", Raised: 1, NotJustified: 1}}) {
		t.Errorf("precision is %+v: %v", precision, err)
	}
	do(audit.AlertReopened, "", "new facts")
	if got := list(ours, false); len(got) != 1 || got[0].Step != audit.AlertOpen {
		t.Error("what was reopened is not open")
	}
	p = p.Reopen(t)
	l = p.Ledger
	if got := list(ours, false); len(got) != 1 || got[0].Step != audit.AlertOpen || got[0].Newest.Note != "new facts" {
		t.Error("a restart forgot what was done")
	}
	one, _, err = l.Alert(ctx, actor(), ours, f.Position)
	var notes []string
	for _, s := range one.Steps {
		notes = append(notes, s.Reason+" "+s.Note)
	}
	if err != nil || !slices.Equal(notes, []string{"taken ", "not-justified no reason was found", "reopened new facts"}) {
		t.Errorf("what was done to it: %q, %v", notes, err)
	}
	do(audit.AlertClosed, audit.Justified, "a ward round")
	// The person whose record it is does not learn of it: it is not judged yet, and about somebody else's conduct.
	found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{number(t, "9990000018")}})
	if err != nil || slices.ContainsFunc(found, func(f audit.Found) bool { return f.Type == audit.TypeAlert || f.Type == audit.TypeHandled }) {
		t.Errorf("the person finds alerts: %v", err)
	}
	sound(t, l)
}

// Whoever reads all of the ledger reads each entry once, in order, and finds where a time begins.
func TestFollow(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	for range 5 {
		ask{subject: number(t, "9990000018")}.begin(t, p.Ledger)
	}
	var last uint64
	count := 0
	for from := uint64(0); ; {
		page, next, err := p.Ledger.Follow(ctx, from, 2)
		if err != nil {
			t.Fatal(err)
		}
		if next == from {
			break
		}
		for _, f := range page {
			if count > 0 && f.Position != last+1 {
				t.Error("an entry is missing")
			}
			last = f.Position
			count++
		}
		from = next
	}
	if count < 6 { // the key of the start, five accesses
		t.Errorf("%d entries were read", count)
	}
	if at, err := p.Ledger.Since(ctx, time.Time{}); err != nil || at != 0 {
		t.Errorf("the first entry is at %d: %v", at, err)
	}
	if at, err := p.Ledger.Since(ctx, time.Now().Add(time.Hour)); err != nil || at != last+1 {
		t.Errorf("the end is at %d, want %d: %v", at, last+1, err)
	}
}

// What happened in a time is counted, within what an officer may see, and names nobody.
func TestActivity(t *testing.T) {
	l := audittest.Open(t)
	n := number(t, "9990000018")
	began := time.Now().Add(-time.Minute)
	o, p := ask{subject: n, org: "X9J01"}.begin(t, l)
	if _, err := l.Release(ctx, o, p, shown(p)); err != nil {
		t.Fatal(err)
	}
	ask{subject: n, org: "X9K01"}.begin(t, l)
	ask{subject: n, org: "X9J01", purpose: record.BreakGlass}.begin(t, l)
	flagAccess(t, l, ask{subject: n, org: "X9J01", user: "555000000007"}, "volume")
	// A question that was refused is no access, and counted apart.
	question := ask{subject: n, org: "X9J01"}.access(time.Now(), consent.Decision{})
	question.Operation, question.Purpose, question.Reason = "Ask", "", consent.ReasonUnread
	refused, err := l.Refuse(ctx, question)
	if err != nil {
		t.Fatal(err)
	}
	if found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{n}, Types: []audit.EntryType{audit.TypeRefused}}); err != nil || len(found) != 1 || found[0].Position != refused.Position ||
		!strings.HasPrefix(found[0].Explain(), "Somebody who works in health or care asked who had looked at your record") {
		t.Errorf("a refused question is told as %+v: %v", found, err)
	}
	until := time.Now().Add(time.Hour)
	got, receipt, err := l.Activity(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, began, until)
	if err != nil || receipt.Position == 0 {
		t.Fatal(err)
	}
	if got.Questions != 1 || len(got.Refusals) != 0 {
		t.Errorf("counted %d refused questions, and %+v as refused", got.Questions, got.Refusals)
	}
	if got.Accesses != 3 || len(got.Days) != 2 || got.BreakGlass.Used != 1 || got.BreakGlass.Open != 1 || len(got.Alerts) != 1 || got.Alerts[0].Raised != 1 || got.Cut {
		t.Errorf("counted %+v", got)
	}
	if !slices.ContainsFunc(got.Outcomes, func(c audit.NamedCount) bool { return c.Name == "released" && c.Count == 1 }) || len(got.Custodians) == 0 {
		t.Errorf("counted %+v and %+v", got.Outcomes, got.Custodians)
	}
	if got, _, err := l.Activity(ctx, actor(), audit.Bounds{Organisation: "X9K01"}, began, until); err != nil || got.Accesses != 1 || len(got.Alerts) != 0 {
		t.Errorf("another organisation: %+v, %v", got, err)
	}
	if _, _, err := l.Activity(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, began, began.Add(audit.MaxActivity+time.Second)); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("too long a time: %v", err)
	}
	sound(t, l)
}

// An alert that was closed goes when the time for which it is kept is over, with all that was done to it; one that is open stays.
func TestErasedAlerts(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	in := audit.Bounds{Organisation: "X9J01"}
	flagAccess(t, l, ask{subject: number(t, "9990000018")}, "own-record")
	flagAccess(t, l, ask{subject: number(t, "9990000026")}, "colleague")
	list, _, _, err := l.Alerts(ctx, actor(), in, false, 0, 0)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d alerts: %v", len(list), err)
	}
	if _, err := l.HandleAlert(ctx, actor(), in, list[0].Position, audit.AlertClosed, audit.Justified, "a ward round", key()); err != nil {
		t.Fatal(err)
	}
	out, err := l.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisRetention, Reference: "schedule, line 12", Before: time.Now().Add(time.Minute)})
	if err != nil || out.Entries < 2 {
		t.Fatalf("%d entries were erased: %v", out.Entries, err)
	}
	left, _, _, err := l.Alerts(ctx, actor(), in, true, 0, 0)
	if err != nil || len(left) != 1 || left[0].Position != list[1].Position {
		t.Errorf("%d alerts are left: %v", len(left), err)
	}
	if _, _, err := l.Alert(ctx, actor(), in, list[0].Position); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("what was erased is shown: %v", err)
	}
	if _, err := l.HandleAlert(ctx, actor(), in, list[0].Position, audit.AlertReopened, "", "again", key()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("what was erased is reopened: %v", err)
	}
	if w, err := l.Waiting(ctx, "X9J01", func(record.Requester) bool { return false }, 10); err != nil || len(w.Alerts) != 1 {
		t.Errorf("%+v waits: %v", w, err)
	}
	sound(t, l)
	p = p.Reopen(t)
	sound(t, p.Ledger)
}

// Of other organisations' accesses an officer counts how their own records stood in them, and neither whom else was asked nor why they were refused.
func TestActivityOfOthers(t *testing.T) {
	l := audittest.Open(t)
	n := number(t, "9990000018")
	began, until := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	o, p := ask{subject: n, org: "X9K01"}.begin(t, l)
	if _, err := l.Release(ctx, o, p, shown(p)); err != nil {
		t.Fatal(err)
	}
	o, _ = ask{subject: n, org: "X9K01"}.begin(t, l)
	if _, err := l.Close(ctx, o, audit.TypeRefused, consent.ReasonWithheld, audit.Disclosure{}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in              audit.Bounds
		custodians      int
		reasons, ending int
	}{
		"whose staff asked": {audit.Bounds{Organisation: "X9K01"}, 3, 1, 2},
		"who holds one":     {audit.Bounds{Organisation: "X9A01", Custodians: []record.CustodianKey{gp.Key}}, 1, 0, 2},
		"everywhere":        {audit.Bounds{Organisation: "X9R01", Everywhere: true}, 3, 1, 2},
		"neither":           {audit.Bounds{Organisation: "X9Z01"}, 0, 0, 0},
	} {
		got, _, err := l.Activity(ctx, actor(), c.in, began, until)
		if err != nil {
			t.Fatal(err)
		}
		endings := 0
		for _, e := range got.Outcomes {
			endings += e.Count
		}
		if len(got.Custodians) != c.custodians || len(got.Refusals) != c.reasons || endings != c.ending {
			t.Errorf("%s: %d custodians, %d reasons, %d endings, want %d, %d and %d", name, len(got.Custodians), len(got.Refusals), endings, c.custodians, c.reasons, c.ending)
		}
		if c.custodians == 1 && got.Custodians[0].Key != gp.Key {
			t.Errorf("%s: %s is counted, which is not theirs", name, got.Custodians[0].Key)
		}
	}
	sound(t, l)
}

// An alert is raised while its access is open; how the access ended is shown with it all the same.
func TestAnAlertShowsHowItsAccessEnded(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	a := ask{subject: number(t, "9990000018")}
	o, permit := a.begin(t, p.Ledger)
	alert := audit.Alert{Of: o.Position(), Requester: a.requester(), Rules: []audit.Fired{{Rule: "colleague", Weight: 100}}, Score: 100, Version: "v"}
	raised, _, err := p.Ledger.RaiseAlert(ctx, alert, time.Now(), []string{"a matter"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Fatal(err)
	}
	f, _, err := p.Ledger.Alert(ctx, actor(), audit.Bounds{Everywhere: true}, raised.Position)
	if err != nil || f.Access == nil || f.Closing == nil || f.Closing.Type != audit.TypeReleased {
		t.Errorf("%v; access %v, closing %v", err, f.Access != nil, f.Closing != nil)
	}
}
