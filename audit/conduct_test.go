package audit_test

import (
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
		precision, err := l.Precision(ctx, c.by, ours, time.Time{}, time.Time{})
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
