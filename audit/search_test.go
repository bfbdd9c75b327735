package audit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

func TestSearch(t *testing.T) {
	clock := newClock()
	p := audittest.New(t, audit.Config{Now: clock.now})
	l := p.Ledger
	one, two, old := number(t, "9990000018"), number(t, "9990000026"), number(t, "9990000034")
	access := func(a ask) uint64 { // two entries: begin, released
		d := a.decide(consent.Preferences{}, clock.now())
		permit, ok := d.Permit()
		if !ok {
			t.Fatal("not permitted")
		}
		o, err := l.Begin(ctx, permit, a.access(clock.now(), d))
		if err == nil {
			_, err = l.Release(ctx, o, permit, shown(permit))
		}
		if err != nil {
			t.Fatal(err)
		}
		return o.Position()
	}
	start := clock.now()
	a1 := access(ask{subject: one, user: "u1", org: "X9A01"}) // 1, 2
	clock.add(time.Hour)
	a2 := access(ask{subject: one, supersedes: []record.NHSNumber{old}, user: "u2", org: "X9J01"}) // 3, 4
	clock.add(time.Hour)
	a3 := access(ask{subject: two, user: "u1", org: "X9A01"}) // 5, 6
	refused := ask{subject: two, user: "u3", org: "X9H01", permission: record.AskedNo}
	rf, err := l.Refuse(ctx, refused.access(clock.now(), refused.decide(consent.Preferences{}, clock.now()))) // 7
	if err != nil {
		t.Fatal(err)
	}
	made := object(t, l, one, consent.ToCustodian) // 8, by X9A01, about mentalhealth
	clock.add(time.Hour)

	positions := func(q audit.Search) (out []uint64, more bool) {
		t.Helper()
		found, more, r, err := l.Search(ctx, actor(), q)
		if err != nil {
			t.Fatalf("Search: %v", err)
		}
		if r.Position != p.Ledger.Stats().Position-1 {
			t.Errorf("the question is not the newest entry")
		}
		for _, f := range found {
			out = append(out, f.Position)
		}
		return out, more
	}
	notReads := []audit.EntryType{audit.TypeBegin, audit.TypeReleased, audit.TypeRefused, audit.TypeObjection}
	for name, c := range map[string]struct {
		q    audit.Search
		want []uint64
		more bool
	}{
		"by person":                {audit.Search{Subjects: []record.NHSNumber{one}, Types: notReads}, []uint64{8, 4, 3, 2, 1}, false},
		"by superseded number":     {audit.Search{Subjects: []record.NHSNumber{old}, Types: notReads}, []uint64{4, 3}, false},
		"by both":                  {audit.Search{Subjects: []record.NHSNumber{one, old}, Types: notReads}, []uint64{8, 4, 3, 2, 1}, false},
		"by user":                  {audit.Search{User: "u1", Types: notReads}, []uint64{6, 5, 2, 1}, false},
		"by organisation":          {audit.Search{Organisation: "X9J01", Types: notReads}, []uint64{4, 3}, false},
		"by person and user":       {audit.Search{Subjects: []record.NHSNumber{one}, User: "u1"}, []uint64{2, 1}, false},
		"by time":                  {audit.Search{From: start.Add(time.Hour), Until: start.Add(2 * time.Hour), Types: notReads}, []uint64{4, 3}, false},
		"from a time on":           {audit.Search{From: start.Add(time.Hour + time.Nanosecond), Types: notReads}, []uint64{8, 7, 6, 5}, false},
		"until a time":             {audit.Search{Until: start.Add(time.Hour), Types: notReads}, []uint64{2, 1}, false},
		"before all time":          {audit.Search{Until: start}, nil, false},
		"after all time":           {audit.Search{From: start.Add(99 * time.Hour)}, nil, false},
		"by type":                  {audit.Search{Types: []audit.EntryType{audit.TypeRefused}}, []uint64{7}, false},
		"a page":                   {audit.Search{Types: notReads, Limit: 3}, []uint64{8, 7, 6}, true},
		"the next page":            {audit.Search{Types: notReads, Limit: 3, Before: 6}, []uint64{5, 4, 3}, true},
		"the last page":            {audit.Search{Types: notReads, Limit: 3, Before: 3}, []uint64{2, 1}, false},
		"within its staff":         {audit.Search{Within: "X9H01", Types: notReads}, []uint64{7}, false},
		"within what it holds":     {audit.Search{Within: "X9C01", Custodians: []record.CustodianKey{"mentalhealth"}, Types: notReads}, []uint64{8, 6, 5, 4, 3, 2, 1}, false}, // 7 was refused: it is an access to nobody's record
		"within, about one person": {audit.Search{Subjects: []record.NHSNumber{two}, Within: "X9A01", Types: notReads}, []uint64{6, 5}, false},
		"within, of another's":     {audit.Search{Within: "X9A01", Organisation: "X9J01", Custodians: []record.CustodianKey{"gp"}, Types: notReads}, []uint64{4, 3}, false},
		"within nothing of one's":  {audit.Search{Within: "X9Z99", Custodians: []record.CustodianKey{"ambulance"}}, nil, false},
		"nobody knows them":        {audit.Search{Subjects: []record.NHSNumber{number(t, "9990000042")}, Types: notReads}, nil, false},
	} {
		if got, more := positions(c.q); !slices.Equal(got, c.want) || more != c.more {
			t.Errorf("%s: %v %v, want %v %v", name, got, more, c.want, c.more)
		}
	}

	found, _, _, err := l.Search(ctx, actor(), audit.Search{Types: notReads})
	if err != nil {
		t.Fatal(err)
	}
	by := map[uint64]audit.Found{}
	for _, f := range found {
		by[f.Position] = f
	}
	if f := by[a2]; f.Access == nil || f.Access.Requester.User != "u2" || f.Subject != one || f.Access.Decision.Outcome != consent.Permitted || len(f.Access.Supersedes) != 1 || !f.At.Equal(start.Add(time.Hour)) {
		t.Errorf("the begin of the second access is shown as another")
	}
	if f := by[a1+1]; f.Opens != a1 || f.Subject != one || f.Disclosure == nil || f.Disclosure.Total != 6 || len(f.Disclosure.Custodians[0].Digests) != 2 {
		t.Errorf("the release of the first access is shown as another")
	}
	if f := by[rf.Position]; f.Leaf != rf.Leaf || f.Reason != string(consent.ReasonAskedNo) || f.Access == nil || f.Access.Permission.Kind != record.AskedNo {
		t.Errorf("the refusal is shown as another")
	}
	if f := by[8]; f.Objection == nil || *f.Objection != made || f.Actor.Reason != actor().Reason {
		t.Errorf("the objection is shown as another")
	}
	if by[a3].Type != audit.TypeBegin {
		t.Errorf("the third access is not there")
	}
	// The question itself is found by the next one, by the person it was about.
	reads, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{old}, Types: []audit.EntryType{audit.TypeRead}})
	if err != nil || len(reads) != 2 || reads[0].Actor == nil || reads[0].Actor.Requester.User != actor().Requester.User {
		t.Errorf("%v, %d questions about the person, want 2", err, len(reads))
	}
	sound(t, l)
}

func TestSearchBounds(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	now := time.Now()
	for name, q := range map[string]audit.Search{
		"a limit below":   {Limit: -1},
		"a limit above":   {Limit: 1001},
		"no number":       {Subjects: []record.NHSNumber{{}}},
		"no such type":    {Types: []audit.EntryType{99}},
		"time backwards":  {From: now, Until: now.Add(-time.Second)},
		"too many people": {Subjects: make([]record.NHSNumber, 65)},
	} {
		if _, _, _, err := p.Ledger.Search(ctx, actor(), q); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	wantEntries(t, p)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if found, _, _, err := p.Ledger.Search(gone, actor(), audit.Search{}); !errors.Is(err, audit.ErrUnavailable) || found != nil {
		t.Errorf("a caller who left: %v, want ErrUnavailable", err)
	}
}

// What came of break-glass is told whole, however far behind its opening it ended, and whoever looked at the same record meanwhile.
func TestBreakGlassThatTakesLong(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	subject := number(t, "9990000018")
	first, permit := ask{subject: subject, purpose: record.BreakGlass, user: "555000000003"}.begin(t, p.Ledger)
	part := func(o audit.Opened, permit consent.Permit, custodian record.CustodianKey) {
		t.Helper()
		whole := shown(permit)
		whole.Custodians = slices.DeleteFunc(whole.Custodians, func(s audit.Shown) bool { return s.Key != custodian })
		if _, err := p.Ledger.ReleaseChunk(ctx, o, permit, whole); err != nil {
			t.Fatal(err)
		}
	}
	release := func(o audit.Opened, permit consent.Permit) {
		t.Helper()
		if _, err := p.Ledger.Release(ctx, o, permit, audit.Disclosure{Total: 2}); err != nil {
			t.Fatal(err)
		}
	}
	part(first, permit, gp.Key)
	// Others, and the same person's record among them: more than is looked through at first.
	const others = 4500
	var work sync.WaitGroup
	failed := make(chan error, 64)
	for w := range cap(failed) {
		work.Go(func() {
			for i := w; i < others; i += cap(failed) {
				who := ask{subject: number(t, "9990000026"), permission: record.AskedNo}
				if i%100 == 0 {
					who.subject = subject
				}
				now := time.Now()
				if _, err := p.Ledger.Refuse(ctx, who.access(now, who.decide(consent.Preferences{}, now))); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	part(first, permit, acute.Key)
	second, again := ask{subject: subject, purpose: record.BreakGlass, user: "555000000004"}.begin(t, p.Ledger)
	release(first, permit)
	part(second, again, mental.Key)
	release(second, again)
	rows, next, _, err := p.Ledger.Ask(ctx, actor(), audit.Question{Kind: audit.Overrides})
	if err != nil || next != 0 || len(rows) != 2 {
		t.Fatalf("%d rows, %d, %v", len(rows), next, err)
	}
	for i, want := range [][]record.CustodianKey{{mental.Key}, {gp.Key, acute.Key}} {
		var got []record.CustodianKey
		if rows[i].Disclosure != nil {
			for _, s := range rows[i].Disclosure.Custodians {
				got = append(got, s.Key)
			}
		}
		if rows[i].Outcome != audit.TypeReleased || !slices.Equal(got, want) {
			t.Errorf("row %d: %v of %v, want %v", i, rows[i].Outcome, got, want)
		}
	}
	sound(t, p.Ledger)
}
