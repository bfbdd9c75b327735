package audit_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// The people of a list.
var listedPeople = []string{"9990000018", "9990000026", "9990000034", "9990000042", "9990000050"}

func list(t testing.TB, people ...string) []audit.Listed {
	t.Helper()
	var out []audit.Listed
	for i, digits := range people {
		o := consent.Objection{Scope: consent.ToAll, Responsible: "self", Method: "form", Source: fmt.Sprintf("form %d", i)}
		if i%2 == 1 {
			o.Scope, o.Custodian = consent.ToCustodian, "gp"
		}
		o.Status = consent.InForce
		out = append(out, audit.Listed{About: number(t, digits), Objection: o})
	}
	return out
}

func about(l *audit.Ledger, rows []audit.Listed) audit.List {
	h := l.ListDigest()
	for _, r := range rows {
		_, _ = fmt.Fprintln(h, r.About.Reveal(), r.Objection.Scope, r.Objection.Source)
	}
	return audit.List{Digest: hex.EncodeToString(h.Sum(nil)), Format: "csv", Rows: len(rows), New: len(rows)}
}

func begin(t testing.TB, l *audit.Ledger, rows []audit.Listed) audit.Import {
	t.Helper()
	im, err := l.BeginImport(ctx, actor(), about(l, rows))
	if err != nil {
		t.Fatalf("beginning an import: %v", err)
	}
	return im
}

func stage(t testing.TB, l *audit.Ledger, im audit.Import, rows []audit.Listed, want int) {
	t.Helper()
	if n, err := l.StageObjections(ctx, actor(), im, rows); err != nil || n != want {
		t.Fatalf("staged %d (%v), want %d", n, err, want)
	}
}

func apply(t testing.TB, l *audit.Ledger, im audit.Import, rows []audit.Listed) audit.Receipt {
	t.Helper()
	r, err := l.ApplyImport(ctx, actor(), im, about(l, rows))
	if err != nil {
		t.Fatalf("applying an import: %v", err)
	}
	return r
}

// inForce counts the objections that stand, of the people of a list.
func inForce(t testing.TB, l *audit.Ledger, rows []audit.Listed) (n int) {
	t.Helper()
	for _, r := range rows {
		prefs, err := l.Preferences(ctx, []record.NHSNumber{r.About})
		if err != nil {
			t.Fatal(err)
		}
		n += len(prefs.Objections)
	}
	return n
}

func compare(t testing.TB, l *audit.Ledger, rows []audit.Listed, want audit.Standing) {
	t.Helper()
	got, err := l.CompareList(ctx, rows)
	if err != nil || len(got) != len(rows) || slices.ContainsFunc(got, func(s audit.Standing) bool { return s != want }) {
		t.Errorf("rows stand %v (%v), want all %d", got, err, want)
	}
}

// A list counts as a whole from its last entry on, and not before; a release under way notices.
func TestListComesInAsAWhole(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	rows := list(t, listedPeople...)
	a := ask{subject: rows[0].About}
	o, permit := a.begin(t, l)

	im := begin(t, l, rows)
	stage(t, l, im, rows[:3], 3)
	stage(t, l, im, rows[3:], 2)
	compare(t, l, rows, audit.RowNew)
	if n := inForce(t, l, rows); n != 0 {
		t.Fatalf("%d objections stand before the list came in", n)
	}
	if read, _, err := l.ReadObjections(ctx, actor(), []record.NHSNumber{rows[0].About}); err != nil || len(read) != 0 {
		t.Errorf("a look shows %d objections (%v) before the list came in", len(read), err)
	}
	sound(t, l)
	if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Errorf("a release before the list came in: %v", err)
	}
	o, permit = a.begin(t, l)

	r := apply(t, l, im, rows)
	if again := apply(t, l, im, rows); again != r {
		t.Errorf("applied a second time at %d, first at %d", again.Position, r.Position)
	}
	if n := inForce(t, l, rows); n != len(rows) {
		t.Fatalf("%d objections stand, want %d", n, len(rows))
	}
	prefs, err := l.Preferences(ctx, []record.NHSNumber{rows[0].About})
	if err != nil || prefs.Position != r.Position || prefs.Objections[0].Position != r.Position || !prefs.Objections[0].Binds(prefs.Objections[0].Recorded) {
		t.Errorf("preferences of version %d (%v), want that of entry %d", prefs.Position, err, r.Position)
	}
	var changed *audit.ConsentChangedError
	if _, err := l.Release(ctx, o, permit, shown(permit)); !errors.As(err, &changed) {
		t.Errorf("a release under a permit from before the list came in: %v, want ErrConsentChanged", err)
	}
	sound(t, l)
	compare(t, l, rows, audit.RowPresent)

	// What changes afterwards stays changed, however often the list comes again.
	if _, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{rows[0].About}, prefs.Objections[0].ID, key()); err != nil {
		t.Fatalf("withdrawing an objection that a list brought: %v", err)
	}
	compare(t, l, rows[:1], audit.RowChanged)
	compare(t, l, rows[1:], audit.RowPresent)
	before, err := l.Preferences(ctx, []record.NHSNumber{rows[0].About})
	if err != nil {
		t.Fatal(err)
	}
	im = begin(t, l, rows)
	stage(t, l, im, rows, 0)
	none := about(l, rows)
	none.New, none.Present = 0, len(rows)
	if _, err := l.ApplyImport(ctx, actor(), im, none); err != nil {
		t.Fatal(err)
	}
	if after, err := l.Preferences(ctx, []record.NHSNumber{rows[0].About}); err != nil || after.Objections[0] != before.Objections[0] || len(after.Objections) != 1 {
		t.Errorf("the list undid a withdrawal (%v)", err)
	}
	sound(t, l)
	again := p.Reopen(t)
	if n := inForce(t, again.Ledger, rows); n != len(rows) {
		t.Errorf("%d objections stand after a restart, want %d", n, len(rows))
	}
}

// A process that ends in the middle leaves nothing in force; the same list goes on where it stopped and is counted once.
func TestListGoesOnWhereItStopped(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	rows := list(t, listedPeople...)
	im := begin(t, p.Ledger, rows)
	stage(t, p.Ledger, im, rows[:2], 2)
	if im.Resumed() {
		t.Error("a new list counts as one that goes on")
	}

	p = p.Crash(t)
	l := p.Ledger
	if n := inForce(t, l, rows); n != 0 {
		t.Fatalf("%d objections of half a list stand", n)
	}
	staged, err := l.CompareList(ctx, rows)
	if err != nil || slices.Contains(staged, audit.RowPresent) {
		t.Errorf("rows of half a list count as recorded: %v (%v)", staged, err)
	}
	if _, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{rows[0].About}, "nothing", key()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("withdrawing what is not there: %v", err)
	}
	// Somebody says the same at a desk in between: both are kept, and the list's count stays right.
	o := rows[0].Objection
	if _, _, err := l.RecordObjection(ctx, actor(), rows[0].About, o, key()); err != nil {
		t.Fatal(err)
	}
	im = begin(t, l, rows)
	if !im.Resumed() {
		t.Fatal("the same list does not go on")
	}
	before := count(t, p, audit.TypeObjection)
	stage(t, l, im, rows, 5)
	if n := count(t, p, audit.TypeObjection) - before; n != 3 {
		t.Errorf("%d rows were recorded, want the 3 that were missing", n)
	}
	apply(t, l, im, rows)
	if n := inForce(t, l, rows); n != len(rows)+1 {
		t.Errorf("%d objections stand, want %d", n, len(rows)+1)
	}
	sound(t, l)
}

// One list comes in at a time: whoever begins another gives up the one that was not ended.
func TestAnotherListTakesItsPlace(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	first, second := list(t, listedPeople[:3]...), list(t, listedPeople[1:]...)
	old := begin(t, l, first)
	stage(t, l, old, first, 3)
	im := begin(t, l, second)
	if _, err := l.StageObjections(ctx, actor(), old, first); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("staging for a list that was given up: %v", err)
	}
	if _, err := l.ApplyImport(ctx, actor(), old, about(l, first)); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("applying a list that was given up: %v", err)
	}
	stage(t, l, im, second, 4)
	apply(t, l, im, second)
	if n := inForce(t, l, first[:1]); n != 0 {
		t.Errorf("%d objections of a list that was given up stand", n)
	}
	if n := inForce(t, l, second); n != 4 {
		t.Errorf("%d objections stand, want 4", n)
	}
	sound(t, l)
	p = p.Reopen(t)
	sound(t, p.Ledger)
	im = begin(t, p.Ledger, first) // comes again, from the beginning
	if im.Resumed() {
		t.Error("a list that was given up goes on")
	}
	stage(t, p.Ledger, im, first, 3)
	apply(t, p.Ledger, im, first)
	if n := inForce(t, p.Ledger, first[:1]); n != 1 {
		t.Errorf("%d objections stand, want 1", n)
	}
	sound(t, p.Ledger)
}

// What a list says of itself is held against what it brought.
func TestVerifyCountsTheRowsOfAList(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	rows := list(t, listedPeople...)
	im := begin(t, p.Ledger, rows)
	stage(t, p.Ledger, im, rows[:4], 4)
	apply(t, p.Ledger, im, rows) // says 5
	report, err := p.Ledger.Verify(ctx)
	if err != nil || report.Found != 1 {
		t.Errorf("%d problems (%v), want the one that a row is missing", report.Found, err)
	}
}

func TestRowsThatCannotBeRecorded(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	rows := list(t, listedPeople...)
	im := begin(t, l, rows)
	for name, change := range map[string]func(*audit.Listed){
		"nobody":     func(r *audit.Listed) { r.About = record.NHSNumber{} },
		"no scope":   func(r *audit.Listed) { r.Objection.Scope = "" },
		"custodian":  func(r *audit.Listed) { r.Objection.Custodian = "gp" },
		"backwards":  func(r *audit.Listed) { r.Objection.Until = r.Objection.From.AddDate(-1, 0, 0) },
		"a bad text": func(r *audit.Listed) { r.Objection.Source = "a\x00b" },
	} {
		bad := slices.Clone(rows)
		change(&bad[2])
		if _, err := l.StageObjections(ctx, actor(), im, bad); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if n := count(t, p, audit.TypeObjection); n != 0 {
		t.Errorf("%d rows of refused calls were recorded", n)
	}
	if _, err := l.StageObjections(ctx, actor(), audit.Import{}, rows); !errors.Is(err, audit.ErrNotPermitted) {
		t.Errorf("staging without an import: %v", err)
	}
	if _, err := l.StageObjections(ctx, actor(), im, make([]audit.Listed, audit.MaxStage+1)); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("staging too many at once: %v", err)
	}
	sound(t, l)
}

func count(t testing.TB, p *audittest.Place, et audit.EntryType) (n int) {
	t.Helper()
	for _, e := range entries(t, p) {
		if e == et {
			n++
		}
	}
	return n
}

// follower is a system that must know.
func follower() audit.Actor {
	return audit.Actor{Requester: record.Requester{Kind: record.System, Client: "gp-system", Issuer: "https://issuer.example"}, RoleName: "gp-system", Face: "grpc"}
}

// follow reads all changes after a place, and says how many and through where.
func follow(t testing.TB, l *audit.Ledger, from audit.Cursor, limit int, keep func(consent.Objection) bool) (told []audit.Listed, through uint64) {
	t.Helper()
	for range 1000 {
		page, err := l.ObjectionChanges(ctx, follower(), from, limit, audit.Telling{Objection: keep})
		if err != nil {
			t.Fatalf("reading changes: %v", err)
		}
		if len(page.Changes) > limit {
			t.Fatalf("a page holds %d, want at most %d", len(page.Changes), limit)
		}
		told, through, from = append(told, page.Changes...), page.Through, page.Next
		if !page.More {
			return told, through
		}
	}
	t.Fatal("the pages come to no end")
	return nil, 0
}

// Changes are told in the order in which they came to count, each once, whatever the size of a page.
func TestChangesAreFollowedAndAdopted(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	rows := list(t, listedPeople...)
	early := object(t, l, rows[0].About, consent.ToAll)
	im := begin(t, l, rows)
	stage(t, l, im, rows[:3], 3)
	between := object(t, l, rows[1].About, consent.ToAll) // while the list is on its way
	stage(t, l, im, rows[3:], 2)
	if told, _ := follow(t, l, audit.Cursor{}, 10, nil); len(told) != 2 {
		t.Errorf("%d changes are told before the list came in, want 2", len(told))
	}
	r := apply(t, l, im, rows)
	withdrawn, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{rows[0].About}, early.ID, key())
	if err != nil {
		t.Fatal(err)
	}
	want := []uint64{early.Position, between.Position, r.Position, r.Position, r.Position, r.Position, r.Position, withdrawn.Position}
	for _, limit := range []int{1, 2, 3, 4, 7, 8, 100} {
		told, through := follow(t, l, audit.Cursor{}, limit, nil)
		var got []uint64
		for _, c := range told {
			got = append(got, c.Objection.Position)
		}
		if !slices.Equal(got, want) || through < withdrawn.Position {
			t.Errorf("pages of %d: told %v through %d, want %v", limit, got, through, want)
		}
	}
	if told, _ := follow(t, l, audit.Cursor{Position: r.Position}, 2, nil); len(told) != 1 {
		t.Errorf("%d changes after the list, want 1", len(told))
	}
	told, _ := follow(t, l, audit.Cursor{}, 100, nil)
	only, through := follow(t, l, audit.Cursor{}, 2, func(o consent.Objection) bool { return o.Scope == consent.ToCustodian })
	if len(only) != 2 {
		t.Errorf("%d changes for a reader who is told of custodians alone, want 2", len(only))
	}

	adopted := func(position uint64) audit.Adoption {
		t.Helper()
		o := early
		if o.Position = position; position == r.Position {
			o.ID = told[slices.IndexFunc(told, func(c audit.Listed) bool { return c.Objection.Position == position })].Objection.ID
		}
		out, err := l.Adoptions(ctx, o, []string{"gp-system"})
		if err != nil || len(out) != 1 {
			t.Fatal(err)
		}
		return out[0]
	}
	if a := adopted(early.Position); !a.At.IsZero() {
		t.Error("adopted before it was said")
	}
	if _, err := l.Adopt(ctx, follower(), through+5); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("adopting what was not told: %v", err)
	}
	first, err := l.Adopt(ctx, follower(), between.Position)
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.Adopt(ctx, follower(), through)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := l.Adopt(ctx, follower(), early.Position); err != nil || again != second {
		t.Errorf("adopting again: %v, at %d, want that at %d", err, again.Position, second.Position)
	}
	if a := adopted(early.Position); a.At.IsZero() || a.Through != between.Position {
		t.Errorf("the first objection was adopted by the word through %d, want that of entry %d", a.Through, first.Position)
	}
	if a := adopted(r.Position); a.At.IsZero() || a.Through != through {
		t.Errorf("the list was adopted by the word through %d, want %d", a.Through, through)
	}
	if a := adopted(through + 1); !a.At.IsZero() || a.Through != through {
		t.Errorf("what comes later is adopted: through %d", a.Through)
	}
	// A person sees who read of them: each page is an entry about everybody on it.
	found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{rows[4].About}, Types: []audit.EntryType{audit.TypeRead}, Limit: 1000})
	if err != nil || len(found) != 8 {
		t.Errorf("%d looks at a person's objections are found (%v), want one for each reading of all pages", len(found), err)
	}
	sound(t, l)
}

func TestExportShowsEveryObjectionAsItStands(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	rows := list(t, listedPeople...)
	early := object(t, l, rows[0].About, consent.ToAll)
	im := begin(t, l, rows)
	stage(t, l, im, rows, 5)
	export := func() (out []consent.Objection) {
		t.Helper()
		var from audit.Cursor
		for range 100 {
			page, err := l.ExportObjections(ctx, actor(), from)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page.Changes {
				out = append(out, c.Objection)
			}
			if from = page.Next; !page.More {
				return out
			}
		}
		t.Fatal("the pages come to no end")
		return nil
	}
	if out := export(); len(out) != 1 {
		t.Errorf("%d objections, want 1: the list has not come in", len(out))
	}
	apply(t, l, im, rows)
	if _, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{rows[0].About}, early.ID, key()); err != nil {
		t.Fatal(err)
	}
	out := export()
	if len(out) != 6 || out[5].ID != early.ID || out[5].Status != consent.Withdrawn {
		t.Errorf("%d objections, want 6, the last of them the one that was withdrawn", len(out))
	}
	past, err := l.History(ctx, []record.NHSNumber{rows[0].About})
	if err != nil || len(past) != 3 || past[0].Status != consent.Withdrawn || past[2].Position != early.Position {
		t.Errorf("a history of %d states (%v), want 3 from the withdrawal back to the first word", len(past), err)
	}
	sound(t, l)
}

// Who was passed over in the changes is not told of in them, is on no page's entry, and has not been adopted, however far a system's word goes.
func TestPeopleWhoArePassedOver(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	shown, hidden := number(t, listedPeople[0]), number(t, listedPeople[1])
	first, second := object(t, l, shown, consent.ToAll), object(t, l, hidden, consent.ToAll)
	may := map[record.NHSNumber]bool{shown: true}
	var asked []record.NHSNumber
	read := func() audit.Page {
		t.Helper()
		page, err := l.ObjectionChanges(ctx, follower(), audit.Cursor{}, 10, audit.Telling{People: func(_ context.Context, about []record.NHSNumber) (map[record.NHSNumber]bool, error) {
			asked = about
			return may, nil
		}})
		if err != nil || len(asked) != 2 {
			t.Fatalf("%d people were asked about (%v)", len(asked), err)
		}
		return page
	}
	adopted := func(o consent.Objection) bool {
		t.Helper()
		out, err := l.Adoptions(ctx, o, []string{"gp-system"})
		if err != nil || len(out) != 1 {
			t.Fatal(err)
		}
		return !out[0].At.IsZero()
	}
	page := read()
	if len(page.Changes) != 1 || page.Changes[0].About != shown || page.Through < second.Position {
		t.Errorf("%d changes are told, through %d", len(page.Changes), page.Through)
	}
	if _, err := l.Adopt(ctx, follower(), page.Through); err != nil {
		t.Fatal(err)
	}
	if !adopted(first) || adopted(second) {
		t.Errorf("adopted: %v and %v, want the one that was told alone", adopted(first), adopted(second))
	}
	if found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{hidden}, Types: []audit.EntryType{audit.TypeRead}}); err != nil || len(found) != 0 {
		t.Errorf("%d looks at somebody who was passed over (%v)", len(found), err)
	}
	may[hidden] = true // nothing stands against telling any more, and the system reads again
	if page = read(); len(page.Changes) != 2 {
		t.Errorf("%d changes are told", len(page.Changes))
	}
	if adopted(second) {
		t.Error("adopted before a word that came after it was told")
	}
	object(t, l, shown, consent.ToSection)
	page = read()
	if _, err := l.Adopt(ctx, follower(), page.Through); err != nil {
		t.Fatal(err)
	}
	if !adopted(first) || !adopted(second) {
		t.Errorf("adopted: %v and %v, want both", adopted(first), adopted(second))
	}
	broken := errors.New("nobody can be asked")
	_, err := l.ObjectionChanges(ctx, follower(), audit.Cursor{}, 10, audit.Telling{People: func(context.Context, []record.NHSNumber) (map[record.NHSNumber]bool, error) { return nil, broken }})
	if !errors.Is(err, broken) {
		t.Errorf("a page although nobody could be asked: %v", err)
	}
	sound(t, l)
}

// A search tells of a list's objections what became of the list: nothing of it is told as held back that was not.
func TestSearchesSayWhatBecameOfAList(t *testing.T) {
	l := audittest.Open(t)
	rows := list(t, listedPeople...)
	told := func(want audit.Listing, words string) {
		t.Helper()
		found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{rows[0].About}, Types: []audit.EntryType{audit.TypeObjection}})
		if err != nil || len(found) == 0 {
			t.Fatalf("%v: %d entries", err, len(found))
		}
		if f := found[0]; f.Listed != want || f.Explain() != words {
			t.Errorf("listing %d, %q, want %d, %q", f.Listed, f.Explain(), want, words)
		}
	}
	given := begin(t, l, rows[:1])
	stage(t, l, given, rows[:1], 1)
	told(audit.Incoming, "This objection stands in a list that has not come in yet. It holds nothing back so far.")
	im := begin(t, l, rows) // another list takes its place
	told(audit.GivenUp, "This objection stood in a list that never came in. It never held anything back.")
	stage(t, l, im, rows, len(rows))
	told(audit.Incoming, "This objection stands in a list that has not come in yet. It holds nothing back so far.")
	apply(t, l, im, rows)
	told(audit.CameIn, "This objection came with a list. It holds from when the whole list came in.")
	prefs, err := l.Preferences(ctx, []record.NHSNumber{rows[0].About})
	if err != nil || len(prefs.Objections) != 1 {
		t.Fatalf("%v: %d objections", err, len(prefs.Objections))
	}
	if _, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{rows[0].About}, prefs.Objections[0].ID, key()); err != nil {
		t.Fatal(err)
	}
	told(audit.NotListed, "This objection was withdrawn. It holds nothing back from here on.")
	object(t, l, rows[0].About, consent.ToAll)
	told(audit.NotListed, "This objection holds from here on.")
}

// oneWith are so many rows about one person, no two of which say the same.
func oneWith(t testing.TB, n int, named string) []audit.Listed {
	t.Helper()
	out := make([]audit.Listed, n)
	for i := range out {
		out[i] = audit.Listed{About: number(t, listedPeople[0]), Objection: consent.Objection{Scope: consent.ToAll, Status: consent.InForce, Source: fmt.Sprintf("%s %d", named, i)}}
	}
	return out
}

// stageAll stages a list of any length, and returns how many rows the import brings in.
func stageAll(t testing.TB, l *audit.Ledger, im audit.Import, rows []audit.Listed) (staged int, err error) {
	t.Helper()
	for piece := range slices.Chunk(rows, audit.MaxStage) {
		n, err := l.StageObjections(ctx, actor(), im, piece)
		if err != nil {
			return staged, err
		}
		staged += n
	}
	return staged, nil
}

// What a list would have brought that was given up takes nothing of what a person may have: not at a desk, and not in the next list.
func TestListsGivenUpTakeNoRoom(t *testing.T) {
	const most = 500
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	given := func(named string) {
		t.Helper()
		rows := oneWith(t, most, named)
		if n, err := stageAll(t, l, begin(t, l, rows), rows); err != nil || n != most {
			t.Fatalf("list %s: staged %d of %d (%v)", named, n, most, err)
		}
	}
	given("first")
	given("second") // gives up the first, and needs all its places
	given("third")
	if o := object(t, l, number(t, listedPeople[0]), consent.ToAll); o.Position == 0 { // the third is on its way in, and may never come
		t.Error("no objection at a desk while a list is on its way")
	}
	sound(t, l)

	last := oneWith(t, most, "last")
	if got, err := l.CompareList(ctx, last); err != nil || got[most-2] != audit.RowNew || got[most-1] != audit.RowTooMany {
		t.Errorf("of %d rows beside one that stands the last two stand %v (%v), want one that is new and one too many", most, got[most-2:], err)
	}
	im := begin(t, l, last)
	if n, err := stageAll(t, l, im, last[:most-1]); err != nil || n != most-1 {
		t.Fatalf("staged %d of %d (%v)", n, most-1, err)
	}
	if _, err := l.StageObjections(ctx, actor(), im, last[most-1:]); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("one more than a person may have: %v", err)
	}
	apply(t, l, im, last[:most-1])
	if n := inForce(t, l, last[:1]); n != most {
		t.Errorf("%d objections stand, want %d", n, most)
	}
	if _, _, err := l.RecordObjection(ctx, actor(), last[0].About, consent.Objection{Scope: consent.ToAll, Source: "one more"}, key()); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("one more than a person may have, at a desk: %v", err)
	}
	sound(t, l)
	before := p.Store.Read()
	if _, err := l.Preferences(ctx, []record.NHSNumber{last[0].About}); err != nil {
		t.Fatal(err)
	}
	if n := p.Store.Read() - before; n > most+most/10 {
		t.Errorf("%d entries are read to know %d objections: what was given up is read for ever", n, most)
	}
	p = p.Reopen(t)
	sound(t, p.Ledger)
	if n := inForce(t, p.Ledger, last[:1]); n != most {
		t.Errorf("%d objections stand after a restart, want %d", n, most)
	}
}

// Many rows about one person cost what there is about that person once a call, not once a row.
func TestManyRowsAboutOnePerson(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	rows := oneWith(t, 3*audit.MaxStage, "row")
	im := begin(t, l, rows)
	before := p.Store.Read()
	if n, err := stageAll(t, l, im, rows); err != nil || n != len(rows) {
		t.Fatalf("staged %d of %d (%v)", n, len(rows), err)
	}
	if n := p.Store.Read() - before; n > 4*len(rows) { // of three pieces the second reads one piece, and the third two
		t.Errorf("%d entries were read to stage %d rows", n, len(rows))
	}
	apply(t, l, im, rows)
	before = p.Store.Read()
	compare(t, l, rows, audit.RowPresent)
	if n := p.Store.Read() - before; n > 2*len(rows) {
		t.Errorf("%d entries were read to compare %d rows", n, len(rows))
	}
	sound(t, l)
}
