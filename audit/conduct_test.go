package audit_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Nobody is shown what is done about their own conduct: not the alert, not who took it and why, not that somebody looked at it, and no count of it.
func TestNobodySeesWhatIsDoneAboutThem(t *testing.T) {
	l := audittest.Open(t)
	n := number(t, "9990000018")
	ours := audit.Bounds{Organisation: "X9J01"}
	colleague, self := actor(), actor()
	colleague.Requester.User, colleague.Requester.Organisation = "555000000008", "X9J01"
	self.Requester.User, self.Requester.Organisation = "555000000001", "X9J01"
	flagAccess(t, l, ask{subject: n, org: "X9J01", user: "555000000007"}, "volume") // somebody else's, older than what follows
	flagAccess(t, l, ask{subject: n, org: "X9J01", user: "555000000001"}, "colleague")
	list, _, _, err := l.Alerts(ctx, colleague, ours, false, 0, 0)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d alerts: %v", len(list), err)
	}
	about, other := list[0].Position, list[1].Position
	for _, at := range []uint64{other, about} {
		if _, _, err := l.Alert(ctx, colleague, ours, at); err != nil {
			t.Fatal(err)
		}
		if _, err := l.HandleAlert(ctx, colleague, ours, at, audit.AlertClosed, audit.NotJustified, "a note about somebody", key()); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		by   audit.Actor
		want int
	}{"the colleague": {colleague, 2}, "themselves": {self, 1}} {
		q := audit.Search{Types: []audit.EntryType{audit.TypeAlert, audit.TypeHandled}, Within: "X9J01", Limit: 1}
		count := map[audit.EntryType]int{}
		for more := true; more; {
			var found []audit.Found
			if found, more, _, err = l.Search(ctx, c.by, q); err != nil || len(found) != 1 {
				t.Fatalf("%s: a page of %d: %v", name, len(found), err)
			}
			count[found[0].Type]++
			q.Before = found[0].Position
		}
		if count[audit.TypeAlert] != c.want || count[audit.TypeHandled] != c.want {
			t.Errorf("%s: found %v, want %d of each", name, count, c.want)
		}
		rows, _, _, err := l.Ask(ctx, c.by, audit.Question{Kind: audit.LedgerReads, Within: &ours})
		looks := slices.DeleteFunc(rows, func(r audit.Row) bool { return r.Asked != "alert" })
		if err != nil || len(looks) != c.want {
			t.Errorf("%s: %d looks at alerts, want %d: %v", name, len(looks), c.want, err)
		}
		tallied := 0
		if _, _, err := l.Tally(ctx, c.by, audit.Question{Kind: audit.LedgerReads, Within: &ours}, func(r audit.Row) {
			if r.Asked == "alert" {
				tallied++
			}
		}); err != nil || tallied != c.want {
			t.Errorf("%s: %d looks at alerts are counted, want %d: %v", name, tallied, c.want, err)
		}
		precision, _, err := l.Precision(ctx, c.by, ours, time.Time{}, time.Time{})
		if err != nil || len(precision) != c.want {
			t.Errorf("%s: precision of %d rules, want %d: %v", name, len(precision), c.want, err)
		}
		activity, _, err := l.Activity(ctx, c.by, ours, time.Now().Add(-time.Minute), time.Now().Add(time.Minute))
		if err != nil || len(activity.Alerts) != c.want {
			t.Errorf("%s: alerts of %d rules are counted, want %d: %v", name, len(activity.Alerts), c.want, err)
		}
	}
	found, _, _, err := l.Search(ctx, colleague, audit.Search{Subjects: []record.NHSNumber{n}, Types: []audit.EntryType{audit.TypeRead}})
	if err != nil || len(found) != 2 {
		t.Fatalf("%d looks are about the person: %v", len(found), err)
	}
	for _, f := range found {
		if p := f.Plain(); f.Asked != "alert" || p.Asked != "ledger" || p.Reason != "" || p.Actor.Reason != "" || f.Actor.Reason == "" {
			t.Errorf("the person sees that somebody asked %q because %q", p.Asked, p.Reason)
		}
	}
	sound(t, l)
}

// Who is told of alerts from outside, by webhook or mail, must not learn that there is one about themselves. A use of break-glass is no secret from who broke the glass.
func TestAlertsAboutOfficersAreKnown(t *testing.T) {
	l := audittest.Open(t)
	n := number(t, "9990000018")
	ours := audit.Bounds{Organisation: "X9J01"}
	for _, user := range []string{"555000000001", "555000000002", "555000000003"} {
		flagAccess(t, l, ask{subject: n, org: "X9J01", user: user}, "colleague")
	}
	asked := actor()
	asked.Requester.User, asked.Requester.Organisation = "555000000002", "X9J01"
	list, _, _, err := l.Alerts(ctx, asked, ours, false, 0, 0)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d alerts: %v", len(list), err)
	}
	rows, err := l.PendingAlerts(ctx, 0, 10)
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d alerts wait: %v", len(rows), err)
	}
	byPolicy := func(r record.Requester) bool { return r.User == "555000000003" }
	for i, want := range []bool{false, true, true} { // 2 has asked as an officer, 3 is one by policy
		if about, err := l.AboutOfficer(ctx, rows[i].Position, byPolicy); err != nil || about != want {
			t.Errorf("the alert about the user 55500000000%d is about an officer: %v, want %v (%v)", i+1, about, want, err)
		}
	}
	ask{subject: n, org: "X9J01", user: "555000000003", purpose: record.BreakGlass}.begin(t, l)
	broken, err := l.PendingAlerts(ctx, rows[2].Position+1, 10)
	if err != nil || len(broken) != 1 || broken[0].Kind != audit.AlertBreakGlass {
		t.Fatalf("%d uses of break-glass wait: %v", len(broken), err)
	}
	if about, err := l.AboutOfficer(ctx, broken[0].Position, byPolicy); err != nil || about {
		t.Errorf("a use of break-glass: %v, %v", about, err)
	}
}

// Of an alert that was erased nobody can tell whom it was about: who is told from outside must not find out when it is gone that it was there.
func TestErasedAlertsAreNotTold(t *testing.T) {
	clock := newClock()
	l := audittest.New(t, audit.Config{Now: clock.now}).Ledger
	ours := audit.Bounds{Organisation: "X9J01"}
	a := ask{subject: number(t, "9990000018"), org: "X9J01", user: "555000000003"}
	o, permit := a.begin(t, l)
	alert := audit.Alert{Of: o.Position(), Requester: a.requester(), Rules: []audit.Fired{{Rule: "colleague", Weight: 100, Count: 3, Usual: 1}}, Score: 100, Version: "v"}
	raised, _, err := l.RaiseAlert(ctx, alert, clock.now(), []string{"topic"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.HandleAlert(ctx, actor(), ours, raised.Position, audit.AlertClosed, audit.Justified, "looked into", key()); err != nil {
		t.Fatal(err)
	}
	clock.add(time.Hour)
	done, err := l.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisRetention, Reference: "schedule 2026, line 12", Before: clock.now()})
	if err != nil || done.Entries == 0 || done.Kept != 0 {
		t.Fatalf("%d erased and %d kept: %v", done.Entries, done.Kept, err)
	}
	rows, err := l.PendingAlerts(ctx, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if about, err := l.AboutOfficer(ctx, row.Position, func(r record.Requester) bool { return r.User == a.user }); err != nil || !about {
			t.Errorf("the webhook is told of an erased alert that was about an officer: %v, %v", about, err)
		}
	}
	if len(rows) != 1 {
		t.Errorf("%d alerts wait, want the erased one", len(rows))
	}
	sound(t, l)
}

// However many alerts there are, lists go through them page by page, each once, and precision counts each as it stands.
func TestManyAlerts(t *testing.T) {
	l := audittest.Open(t)
	ours := audit.Bounds{Organisation: "X9J01"}
	const all = 300 // more than one batch, with another organisation's between
	for i := range all {
		a := ask{subject: number(t, "9990000018"), org: "X9J01", user: fmt.Sprintf("55500%07d", i)}
		if i%5 == 4 {
			a.org = "X9K01"
		}
		flagAccess(t, l, a, []audit.AlertKind{"volume", "colleague"}[i%2])
	}
	want := map[audit.AlertKind]audit.Precision{}
	seen, closed := map[uint64]bool{}, 0
	for before := uint64(0); ; {
		page, next, _, err := l.Alerts(ctx, actor(), ours, true, before, 70)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page {
			if seen[f.Position] {
				t.Fatal("an alert is listed twice")
			}
			seen[f.Position] = true
			rule := f.Alert.Rules[0].Rule
			p := want[rule]
			p.Rule, p.Raised = rule, p.Raised+1
			if len(seen)%4 == 0 {
				outcome := []audit.ReviewOutcome{audit.Justified, audit.NotJustified, audit.Referred}[len(seen)%3]
				if _, err := l.HandleAlert(ctx, actor(), ours, f.Position, audit.AlertClosed, outcome, "looked into", key()); err != nil {
					t.Fatal(err)
				}
				switch closed++; {
				case len(seen)%8 == 0:
					if _, err := l.HandleAlert(ctx, actor(), ours, f.Position, audit.AlertReopened, "", "new facts", key()); err != nil {
						t.Fatal(err)
					}
					closed--
				case outcome == audit.Justified:
					p.Justified++
				case outcome == audit.NotJustified:
					p.NotJustified++
				default:
					p.Referred++
				}
			}
			want[rule] = p
		}
		if before = next; next == 0 {
			break
		}
	}
	if len(seen) != all*4/5 || closed == 0 {
		t.Fatalf("%d alerts are listed, want %d", len(seen), all*4/5)
	}
	open, next, _, err := l.Alerts(ctx, actor(), ours, false, 0, 1000)
	if err != nil || next != 0 || len(open) != len(seen)-closed {
		t.Errorf("%d are open, want %d: %v", len(open), len(seen)-closed, err)
	}
	for _, f := range open {
		if f.Step != audit.AlertOpen {
			t.Error("one that is closed is listed as open")
		}
	}
	precision, cut, err := l.Precision(ctx, actor(), ours, time.Time{}, time.Time{})
	if err != nil || cut || len(precision) != len(want) {
		t.Fatalf("precision of %d rules, cut %v: %v", len(precision), cut, err)
	}
	for _, p := range precision {
		if p != want[p.Rule] {
			t.Errorf("precision %+v, want %+v", p, want[p.Rule])
		}
	}
}

// A region's officer oversees many custodians: no bound on what a caller may name holds them up.
func TestManyCustodiansAreOverseen(t *testing.T) {
	l := audittest.Open(t)
	in := audit.Bounds{Organisation: "X9R01"}
	for i := range 700 {
		in.Custodians, in.Overseen = append(in.Custodians, record.CustodianKey(fmt.Sprintf("c%d", i))), append(in.Overseen, record.ODSCode(fmt.Sprintf("X%04d", i)))
	}
	in.Overseen = append(in.Overseen, "X9J01")
	person := []record.NHSNumber{number(t, "9990000018")}
	ask{subject: person[0], org: "X9J01"}.begin(t, l)
	for _, n := range []string{"9990000018", "9990000026"} {
		found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{number(t, n)}, Types: []audit.EntryType{audit.TypeBegin}, Within: in.Organisation, Custodians: in.Custodians, Overseen: in.Overseen})
		if want := map[bool]int{true: 1}[n == person[0].Reveal()]; err != nil || len(found) != want {
			t.Errorf("a search about somebody finds %d, want %d: %v", len(found), want, err)
		}
	}
	flagAccess(t, l, ask{subject: person[0], org: "X9J01"}, "colleague")
	if list, _, _, err := l.Alerts(ctx, actor(), in, false, 0, 0); err != nil || len(list) != 1 {
		t.Errorf("%d alerts: %v", len(list), err)
	}
	found, _, _, err := l.Search(ctx, actor(), audit.Search{Types: []audit.EntryType{audit.TypeBegin}, Within: in.Organisation, Custodians: in.Custodians, Overseen: in.Overseen})
	if err != nil || len(found) != 2 {
		t.Errorf("a search finds %d: %v", len(found), err)
	}
	if _, _, _, err := l.Ask(ctx, actor(), audit.Question{Kind: audit.OfRecords, Holder: "X9R01", Holding: in.Custodians, Within: &in}); err != nil {
		t.Errorf("a question: %v", err)
	}
	sound(t, l)
}
