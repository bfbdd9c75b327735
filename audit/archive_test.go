package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// epochs is a ledger of three key epochs with a bit of everything in each, and accesses that began in one and ended in the next.
type epochs struct {
	Ledger  *audit.Ledger
	Keys    *audit.Keys
	Path    string
	store   *hiding
	t       testing.TB
	clock   *clock
	rng     *rand.Rand
	people  []record.NHSNumber
	open    []begun
	broken  []uint64 // overrides that nobody has reviewed
	lists   int
	archive string // folder
}

type begun struct {
	opened audit.Opened
	permit consent.Permit
	ask    ask
}

var orgs = []record.ODSCode{"X9A01", "X9B01", "X9C01", "X9J01", "X9H01"}

func newEpochs(t testing.TB, acts int, seed uint64) *epochs {
	t.Helper()
	c := newClock()
	folder := t.TempDir()
	archives, err := audit.OpenArchives(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = archives.Close() })
	dir := t.TempDir()
	keys, err := audit.CreateKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	h := &epochs{Keys: keys, Path: filepath.Join(dir, "ledger.db"), t: t, clock: c, rng: rand.New(rand.NewPCG(seed, seed)), archive: folder}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: h.Path})
	if err != nil {
		t.Fatal(err)
	}
	h.store = &hiding{Store: store}
	h.Ledger, err = audit.Open(ctx, audit.Config{Store: h.store, Keys: keys, Origin: "mycarerecord.example/test", Now: c.now, Archives: archives, Sinks: audittest.Sinks(t, audit.Config{}, h.Path)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := errors.Join(h.Ledger.Shutdown(end), store.Close()); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	for _, s := range []string{"9990000018", "9990000026", "9990000034", "9990000042"} {
		h.people = append(h.people, number(t, s))
	}
	for epoch := range 3 {
		if epoch > 0 {
			h.rotate()
		}
		for range acts {
			h.act()
			h.clock.add(time.Duration(h.rng.IntN(90)) * time.Second)
		}
	}
	for len(h.open) > 0 {
		h.end()
	}
	for range min(2, len(h.broken)) {
		h.review()
	}
	h.settle()
	return h
}

// settle waits until a checkpoint covers everything.
func (h *epochs) settle() {
	h.t.Helper()
	for range 300 {
		if s := h.Ledger.Stats(); s.Signed == s.Position {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.t.Fatal("three seconds, and the newest entries are not signed")
}

// hiding is a store that gives out nothing of what stands in a range, once it is told to.
type hiding struct {
	audit.Store
	from, until atomic.Uint64
}

var errHidden = errors.New("the range was asked of the store")

// View implements audit.Store.
func (s *hiding) View(ctx context.Context, f func(audit.Reader) error) error {
	return s.Store.View(ctx, func(r audit.Reader) error { return f(hidden{r, s}) })
}

type hidden struct {
	audit.Reader
	s *hiding
}

func (r hidden) hides(positions ...uint64) error {
	for _, p := range positions {
		if p >= r.s.from.Load() && p < r.s.until.Load() {
			return errHidden
		}
	}
	return nil
}

// EntriesAt implements audit.Reader.
func (r hidden) EntriesAt(positions []uint64) ([]audit.Entry, error) {
	if err := r.hides(positions...); err != nil {
		return nil, err
	}
	return r.Reader.EntriesAt(positions)
}

// Search implements audit.Reader.
func (r hidden) Search(q audit.Query) ([]uint64, error) {
	out, err := r.Reader.Search(q)
	return out, errors.Join(err, r.hides(out...))
}

func (h *epochs) rotate() {
	h.t.Helper()
	dir := filepath.Join(filepath.Dir(h.Path), "keys")
	_, err := audit.AddEpoch(dir)
	if err == nil {
		if h.Keys, err = audit.LoadKeys(dir); err == nil {
			err = h.Ledger.Reload(ctx, h.Keys)
		}
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *epochs) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *epochs) who() ask {
	a := ask{subject: h.people[h.rng.IntN(len(h.people))], user: fmt.Sprintf("55500000%d", h.rng.IntN(6)), org: orgs[h.rng.IntN(len(orgs))]}
	if h.rng.IntN(5) == 0 {
		a.supersedes = []record.NHSNumber{number(h.t, "9990000069")}
	}
	switch h.rng.IntN(8) {
	case 0:
		a.purpose, a.permission = record.BreakGlass, record.CannotAsk
	case 1:
		a.person = true
	}
	return a
}

func (h *epochs) act() {
	h.t.Helper()
	l := h.Ledger
	switch n := h.rng.IntN(20); {
	case n < 10:
		a := h.who()
		prefs, err := l.Preferences(ctx, append([]record.NHSNumber{a.subject}, a.supersedes...))
		h.must(err)
		d := a.decide(prefs, h.clock.now())
		x := a.access(h.clock.now(), d)
		x.Budget = time.Minute
		if h.rng.IntN(3) == 0 {
			x.Face = "stream"
		}
		permit, ok := d.Permit()
		if !ok {
			_, err = l.Refuse(ctx, x)
			h.must(err)
			return
		}
		o, err := l.Begin(ctx, permit, x)
		h.must(err)
		if a.purpose == record.BreakGlass {
			h.broken = append(h.broken, o.Position()-1)
		}
		h.open = append(h.open, begun{o, permit, a})
		if x.Face == "stream" {
			d := shown(permit)
			d.Custodians, d.Total = d.Custodians[:1], d.Custodians[0].Count
			_, err := l.ReleaseChunk(ctx, o, permit, d)
			if err != nil && !errors.Is(err, audit.ErrConsentChanged) && !errors.Is(err, audit.ErrClosed) {
				h.t.Fatal(err)
			}
		}
		if h.rng.IntN(3) > 0 {
			h.end()
		}
	case n < 12 && len(h.open) > 0:
		h.end()
	case n == 12:
		o := objection([]consent.Scope{consent.ToCustodian, consent.ToSection}[h.rng.IntN(2)])
		o.Until = h.clock.now().Add(time.Hour)
		_, _, err := l.RecordObjection(ctx, actor(), h.people[h.rng.IntN(len(h.people))], o, key())
		h.must(err)
	case n == 13 && len(h.broken) > 0:
		h.review()
	case n == 14:
		a := h.who()
		a.permission, a.purpose, a.person = record.AskedNo, "", false
		_, err := l.Refuse(ctx, a.access(h.clock.now(), a.decide(consent.Preferences{}, h.clock.now())))
		h.must(err)
	case n == 15:
		_, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: h.people[:1+h.rng.IntN(2)]})
		h.must(err)
	case n == 16 && h.lists < 9: // a list of which the rows and the end may stand in different epochs is in TestAnArchiveOfAList
		rows := list(h.t, listedPeople[:1+h.rng.IntN(3)]...)
		for i := range rows {
			rows[i].Objection.Source = fmt.Sprintf("list %d, form %d", h.lists, i)
			rows[i].Objection.Until = h.clock.now().Add(time.Minute)
		}
		h.lists++
		im := begin(h.t, l, rows)
		stage(h.t, l, im, rows, len(rows))
		apply(h.t, l, im, rows)
	case n == 17:
		by := actor()
		by.Requester.Organisation = orgs[h.rng.IntN(len(orgs))]
		_, _, err := l.ReadObjections(ctx, by, h.people[:1])
		h.must(err)
	}
}

func (h *epochs) end() {
	h.t.Helper()
	b := h.open[0]
	h.open = h.open[1:]
	var err error
	if h.rng.IntN(4) == 0 {
		_, err = h.Ledger.Close(ctx, b.opened, []audit.EntryType{audit.TypeNothing, audit.TypeCancelled}[h.rng.IntN(2)], consent.Reason("cancelled"), audit.Disclosure{})
	} else {
		_, err = h.Ledger.Release(ctx, b.opened, b.permit, shown(b.permit))
	}
	_ = err // an access whose time was over, or of somebody who objected meanwhile, ends in another way: that is in the ledger too
}

func (h *epochs) review() {
	h.t.Helper()
	i := h.rng.IntN(len(h.broken))
	by := actor()
	by.Requester.User = "555000000099"
	_, err := h.Ledger.ReviewOverride(ctx, by, audit.Bounds{Everywhere: true, Organisation: "X9A01"}, h.broken[i], audit.Justified, "looked into", key())
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		h.t.Fatal(err)
	}
	h.broken = slices.Delete(h.broken, i, i+1)
}

// write archives an epoch into the folder, in segments of a size.
func (h *epochs) write(name string, epoch uint32, segment uint64) audit.Archived {
	h.t.Helper()
	var b bytes.Buffer
	out, err := h.Ledger.ArchiveIn(ctx, actor(), epoch, segment, &b)
	if err != nil {
		h.t.Fatalf("archiving: %v", err)
	}
	if err := os.WriteFile(filepath.Join(h.archive, name), b.Bytes(), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// question makes one of the list, restricted at random.
func (h *epochs) question(from, until time.Time) audit.Question {
	r := h.rng
	q := audit.Question{Kind: []audit.QuestionKind{audit.WhoLooked, audit.ByUser, audit.ByStaff, audit.OfRecords, audit.Refusals, audit.Overrides, audit.ConsentChanges, audit.LedgerReads}[r.IntN(8)],
		Limit: 1 + r.IntN(40)}
	if q.Kind == audit.WhoLooked || r.IntN(4) == 0 {
		q.Subjects = []record.NHSNumber{h.people[r.IntN(len(h.people))]}
		if r.IntN(3) == 0 {
			q.Subjects = append(q.Subjects, number(h.t, "9990000069"))
		}
	}
	if q.Kind == audit.ByUser || r.IntN(6) == 0 {
		q.User = fmt.Sprintf("55500000%d", r.IntN(6))
	}
	if q.Kind == audit.ByStaff || r.IntN(6) == 0 {
		q.Organisation = orgs[r.IntN(len(orgs))]
	}
	if q.Kind == audit.OfRecords {
		q.Holder, q.Holding = "X9B01", []record.CustodianKey{"acute"}
	}
	span := int64(until.Sub(from))
	if r.IntN(3) == 0 {
		q.From = from.Add(time.Duration(r.Int64N(span)) - time.Duration(span/10))
	}
	if r.IntN(3) == 0 {
		q.Until = from.Add(time.Duration(r.Int64N(span))).Add(time.Duration(span / 10))
		if !q.From.IsZero() && !q.From.Before(q.Until) {
			q.From = time.Time{}
		}
	}
	if q.Kind.OfAccesses() && r.IntN(4) == 0 {
		q.Outcomes = []audit.EntryType{[]audit.EntryType{audit.TypeReleased, audit.TypeRefused, audit.TypeNothing, audit.TypeCancelled}[r.IntN(4)]}
	}
	if q.Kind.OfAccesses() && r.IntN(4) == 0 {
		q.Purposes = []record.Purpose{[]record.Purpose{record.Treatment, record.BreakGlass, record.PatientAccess}[r.IntN(3)]}
	}
	switch r.IntN(3) {
	case 0:
		q.Within = &audit.Bounds{Organisation: orgs[r.IntN(len(orgs))], Custodians: []record.CustodianKey{"acute"}}
	case 1:
		q.Within = &audit.Bounds{Organisation: "X9K01", Everywhere: true}
	}
	return q
}

// pages asks a question page by page. What stands below a position is left out, and the pages end there.
func pages(t testing.TB, l *audit.Ledger, q audit.Question, from uint64) (out [][]audit.Row) {
	t.Helper()
	for {
		rows, next, _, err := l.Ask(ctx, actor(), q)
		if err != nil {
			t.Fatalf("Ask %s: %v", q.Kind, err)
		}
		all := len(rows)
		if rows = slices.DeleteFunc(rows, func(r audit.Row) bool { return r.Position < from }); len(rows) > 0 {
			out = append(out, rows)
		}
		if next == 0 || len(rows) < all || next <= from {
			return out
		}
		q.Before = next
	}
}

// What an archive answers is what the living ledger answers of its range, row by row over all the pages, also where an access began in front of it or a review came behind it; and what stands in
// the range is read from the file alone.
func TestAnArchiveAnswersLikeTheLedger(t *testing.T) {
	acts, questions := 120, 150
	if testing.Short() || underRace {
		acts, questions = 60, 40
	}
	h := newEpochs(t, acts, 7)
	for n := range uint32(2) {
		epoch, name := n+1, fmt.Sprintf("epoch-%d.mcra", n+1)
		of := h.write(name, epoch, 64)
		if of.Epoch != epoch || of.Until <= of.From || of.Checkpoint < of.Until {
			t.Fatalf("archived %+v", of)
		}
		entries := h.entriesOf(of)
		from, until := entries[0].Time, entries[len(entries)-1].Time
		rows, both, several := 0, 0, 0
		type asked struct {
			q    audit.Question
			want [][]audit.Row
		}
		var all []asked
		for range questions {
			q := h.question(from, until)
			living := q
			living.Before = of.Until
			all = append(all, asked{q, pages(t, h.Ledger, living, of.From)})
		}
		type searched struct {
			q    audit.Search
			want []audit.Found
			more bool
		}
		var searches []searched
		for i := range questions / 4 {
			q := audit.Search{Limit: 1 + h.rng.IntN(30), Before: of.Until}
			if i%2 == 0 {
				q.Subjects = h.people[i%4 : i%4+1]
			}
			if i%3 == 0 {
				q.Within, q.Custodians = orgs[i%len(orgs)], []record.CustodianKey{"acute"}
			}
			if i%5 == 0 {
				q.Types = []audit.EntryType{audit.TypeBegin, audit.TypeObjection, audit.TypeReview, audit.TypeRead}
			}
			found, more, _, err := h.Ledger.Search(ctx, actor(), q)
			h.must(err)
			kept := slices.DeleteFunc(slices.Clone(found), func(f audit.Found) bool { return f.Position < of.From })
			if more = more && len(kept) == len(found); more { // of the range, or only of what stands below it
				beyond := q
				beyond.Before, beyond.Limit = found[len(found)-1].Position, 1
				next, _, _, err := h.Ledger.Search(ctx, actor(), beyond)
				h.must(err)
				more = len(next) > 0 && next[0].Position >= of.From
			}
			q.Before, q.Archive = 0, name
			searches = append(searches, searched{q, kept, more})
		}
		h.store.from.Store(of.From + 1) // the entry that begins an epoch is one of those that a start reads
		h.store.until.Store(of.Until)
		for i, a := range all {
			a.q.Archive = name
			got := pages(t, h.Ledger, a.q, 0)
			if !slices.EqualFunc(slices.Concat(got...), slices.Concat(a.want...), func(a, b audit.Row) bool { return reflect.DeepEqual(a, b) }) { // a page may end early where its time is up
				t.Fatalf("question %d (%s) of epoch %d: %d pages, want %d, or other rows", i, a.q.Kind, epoch, len(got), len(a.want))
			}
			for _, page := range got {
				rows += len(page)
				if len(page) > a.q.Limit {
					t.Fatalf("question %d: a page of %d rows, and %d were asked for", i, len(page), a.q.Limit)
				}
				for _, r := range page {
					if r.Position < of.From || r.Position >= of.Until {
						t.Fatalf("row %d is not of the range", r.Position)
					}
					if r.Opens != 0 && r.Opens < of.From || r.Review != nil && r.Review.Position >= of.Until {
						both++
					}
				}
			}
			if len(got) > 1 {
				several++
			}
		}
		for i, x := range searches {
			found, more, _, err := h.Ledger.Search(ctx, actor(), x.q)
			h.must(err)
			if len(found)+len(x.want) > 0 && !reflect.DeepEqual(found, x.want) || x.more != more {
				t.Errorf("search %d of epoch %d: %d entries and more %t, want %d and %t, or others", i, epoch, len(found), more, len(x.want), x.more)
			}
		}
		h.store.until.Store(0)
		if rows < questions || several == 0 || epoch == 2 && both == 0 {
			t.Errorf("epoch %d: %d rows, %d of them with a part elsewhere, %d answers of several pages: too few to tell", epoch, rows, both, several)
		}
		t.Logf("epoch %d, entries %d to %d: %d questions, %d rows, %d with a part that stands elsewhere, %d answers of several pages", epoch, of.From, of.Until-1, questions, rows, both, several)
	}
	sound(t, h.Ledger)
}

func (h *epochs) entriesOf(of audit.Archived) (out []audit.Entry) {
	h.t.Helper()
	h.must(h.store.Store.View(ctx, func(r audit.Reader) (err error) {
		out, err = r.Entries(of.From, int(of.Until-of.From))
		return err
	}))
	return out
}

// What is erased is answered from no archive, however old; one that is written anew does not hold it. The question is itself an entry, which says what was asked, and whoever asks who asked is told.
func TestAnArchiveAndErasure(t *testing.T) {
	h := newEpochs(t, 40, 3)
	before := h.write("before.mcra", 2, 32)
	about := audit.Question{Kind: audit.WhoLooked, Subjects: h.people[1:2], Limit: 1000, Archive: "before.mcra"}
	rows, _, r, err := h.Ledger.Ask(ctx, actor(), about)
	if err != nil || len(rows) == 0 {
		t.Fatalf("%v: %d rows", err, len(rows))
	}
	asked, _, _, err := h.Ledger.Ask(ctx, actor(), audit.Question{Kind: audit.LedgerReads, Subjects: h.people[1:2], Limit: 1})
	if err != nil || len(asked) != 1 || asked[0].Position != r.Position {
		t.Errorf("%v: who asked is not told of the question to the archive", err)
	}
	done, err := h.Ledger.Erase(ctx, actor(), audit.Erasure{Basis: audit.BasisErasure, Reference: "decision 1", Subjects: h.people[1:2]})
	if err != nil || done.Entries == 0 {
		t.Fatalf("%v: %d erased", err, done.Entries)
	}
	living := about
	living.Archive, living.Before = "", before.Until
	want := pages(t, h.Ledger, living, before.From)
	if got := pages(t, h.Ledger, about, 0); !reflect.DeepEqual(got, want) {
		t.Errorf("after the erasure an archive that is older answers with other rows than the ledger")
	}
	if left := len(slices.Concat(want...)); left >= len(rows) {
		t.Fatalf("%d rows are left of %d: nothing was erased that could tell", left, len(rows))
	}
	h.settle()
	after := h.write("after.mcra", 2, 32)
	old, err := os.ReadFile(filepath.Join(h.archive, "before.mcra"))
	h.must(err)
	anew, err := os.ReadFile(filepath.Join(h.archive, "after.mcra"))
	h.must(err)
	if after.Erased == 0 || len(anew) >= len(old) {
		t.Errorf("written anew: %d erased, %d bytes of %d", after.Erased, len(anew), len(old))
	}
	about.Archive = "after.mcra"
	if got := pages(t, h.Ledger, about, 0); !reflect.DeepEqual(got, want) {
		t.Errorf("an archive that was written after the erasure answers with other rows than the ledger")
	}
	sound(t, h.Ledger)
}

// An archive is outside input: from one that was changed anywhere comes the right answer or none, and what is not one of this ledger is not asked at all.
func TestADamagedArchiveIsNotBelieved(t *testing.T) {
	h := newEpochs(t, 25, 5)
	h.write("good.mcra", 2, 32)
	about := audit.Question{Kind: audit.OfRecords, Holder: "X9B01", Holding: []record.CustodianKey{"acute"}, Limit: 1000}
	about.Archive = "good.mcra"
	want, _, _, err := h.Ledger.Ask(ctx, actor(), about)
	if err != nil || len(want) == 0 {
		t.Fatalf("%v: %d rows", err, len(want))
	}
	good, err := os.ReadFile(filepath.Join(h.archive, "good.mcra"))
	h.must(err)
	refused, same := 0, 0
	ask := func(name string, b []byte) {
		t.Helper()
		h.must(os.WriteFile(filepath.Join(h.archive, name), b, 0o600))
		about.Archive = name
		rows, _, _, err := h.Ledger.Ask(ctx, actor(), about)
		switch {
		case err == nil && reflect.DeepEqual(rows, want):
			same++
		case err == nil:
			t.Errorf("%s: another answer", name)
		case !errors.As(err, new(audit.ArchiveError)) && !errors.Is(err, audit.ErrDamaged):
			t.Errorf("%s: %v", name, err)
		default:
			refused++
		}
	}
	times := 200
	if testing.Short() || underRace {
		times = 40
	}
	for i := range times {
		b := bytes.Clone(good)
		at := h.rng.IntN(len(b))
		if i%2 == 0 {
			at = max(0, len(b)-1-h.rng.IntN(6000)) // index, directory, statement, end
		}
		switch i % 4 {
		case 0, 1:
			b[at] ^= 1 << h.rng.IntN(8)
		case 2:
			b = b[:at]
		case 3:
			b = append(b[:at], b[min(at+1+h.rng.IntN(300), len(b)):]...)
		}
		ask(fmt.Sprintf("bad-%d.mcra", i), b)
	}
	if refused < times/2 {
		t.Errorf("%d of %d refused: too few to tell", refused, times)
	}
	t.Logf("%d changed archives: %d refused, %d that gave the right answer all the same", times, refused, same)

	other := newEpochs(t, 5, 6)
	other.write("other.mcra", 1, 32)
	stranger, err := os.ReadFile(filepath.Join(other.archive, "other.mcra"))
	h.must(err)
	h.must(os.WriteFile(filepath.Join(h.archive, "other.mcra"), stranger, 0o600)) // of the same name, under other keys
	h.must(os.Mkdir(filepath.Join(h.archive, "folder"), 0o700))
	size := h.Ledger.Stats().Position
	for _, name := range []string{"other.mcra", "none.mcra", "folder", "../good.mcra", "a/b", ".hidden", "/etc/passwd", "good.mcra\x00"} {
		about.Archive = name
		if _, _, _, err := h.Ledger.Ask(ctx, actor(), about); !errors.As(err, new(audit.ArchiveError)) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, _, err := h.Ledger.Search(ctx, actor(), audit.Search{Archive: name}); !errors.As(err, new(audit.ArchiveError)) {
			t.Errorf("%s, searched: %v", name, err)
		}
	}
	if h.Ledger.Stats().Position != size {
		t.Error("what could not be asked is recorded as if it had been")
	}
	if _, _, _, err := audittest.Open(t).Ask(ctx, actor(), audit.Question{Kind: audit.Refusals, Archive: "good.mcra"}); !errors.As(err, new(audit.ArchiveError)) {
		t.Errorf("without a folder of archives: %v", err)
	}
}

// Of an entry the statement is not asked again, so what stands in its block must not be believed before it has opened: an entry that was emptied is not one that was erased, a time that was changed
// moves no bound of a question, and a block is as long as the table of places has it. Whoever changes one puts its hashes right.
func TestAnEntryOfAnArchiveIsNotBelievedUnopened(t *testing.T) {
	h := newEpochs(t, 25, 5)
	of := h.write("good.mcra", 2, 32)
	good, err := os.ReadFile(filepath.Join(h.archive, "good.mcra"))
	h.must(err)
	entries := h.entriesOf(of)
	about := audit.Question{Kind: audit.OfRecords, Holder: "X9B01", Holding: []record.CustodianKey{"acute"}, Limit: 1000, From: entries[len(entries)/3].Time, Until: entries[2*len(entries)/3].Time}
	answer := func(name string) ([]audit.Row, error) {
		about.Archive = name
		rows, _, _, err := h.Ledger.Ask(ctx, actor(), about)
		return rows, err
	}
	want, err := answer("good.mcra")
	if err != nil || len(want) < 3 {
		t.Fatalf("%v: %d rows", err, len(want))
	}
	rows := map[uint64]bool{}
	for _, r := range want {
		rows[r.Position] = true
	}
	const header, time, commitment, leaf, sealed = 5, 10, 22, 54, 86 // where they stand
	right := func(body []byte) {
		d := append(append([]byte{0}, body[8], body[9]), body[:8]...)
		d = append(append(d, body[time:time+8]...), body[commitment:commitment+32]...)
		sum := sha256.Sum256(d)
		copy(body[leaf:], sum[:])
		sum = sha256.Sum256(body[:len(body)-32])
		copy(body[len(body)-32:], sum[:])
	}
	each := func(b []byte, change func(block []byte, position uint64)) {
		for at := bytes.IndexByte(b, '\n') + 1; at < len(b); {
			next := at + header + int(binary.BigEndian.Uint32(b[at+1:]))
			if b[at] == 'E' {
				change(b[at:next], binary.BigEndian.Uint64(b[at+header:]))
			}
			at = next
		}
	}
	for name, change := range map[string]func(block []byte, position uint64){
		"emptied": func(block []byte, position uint64) {
			if body := block[header:]; rows[position] {
				copy(body[sealed:], []byte{0, 0, 0, 0})
				right(body)
			}
		},
		"longer than they are": func(block []byte, position uint64) { block[3]++ },
		"shorter than they are": func(block []byte, position uint64) {
			binary.BigEndian.PutUint32(block[1:], binary.BigEndian.Uint32(block[1:])-1)
		},
	} {
		b := bytes.Clone(good)
		each(b, change)
		file := strings.ReplaceAll(name, " ", "-")
		h.must(os.WriteFile(filepath.Join(h.archive, file), b, 0o600))
		if got, err := answer(file); !errors.Is(err, audit.ErrDamaged) {
			t.Errorf("entries that are %s: %d rows of %d, %v", name, len(got), len(want), err)
		}
	}
	refused := 0
	for i, e := range entries {
		if rows[e.Position] {
			continue
		}
		b := bytes.Clone(good)
		each(b, func(block []byte, position uint64) {
			if body := block[header:]; position == e.Position {
				binary.BigEndian.PutUint64(body[time:], []uint64{1, 1 << 60}[i%2])
				right(body)
			}
		})
		h.must(os.WriteFile(filepath.Join(h.archive, "time"), b, 0o600))
		switch got, err := answer("time"); {
		case errors.Is(err, audit.ErrDamaged):
			refused++
		case err != nil || !reflect.DeepEqual(got, want):
			t.Errorf("the time of entry %d was changed: %d rows of %d, %v", e.Position, len(got), len(want), err)
		}
	}
	if refused == 0 {
		t.Error("no time was looked at")
	}
}

// A copy of a ledger has its name and its keys, and a backup that somebody tried is one. What it recorded, and archived, did not happen here.
func TestTheArchiveOfACopyIsNotAsked(t *testing.T) {
	for name, longer := range map[string]uint64{"as long as the ledger's": 0, "longer than the ledger's": 2} {
		folder := t.TempDir()
		archives, err := audit.OpenArchives(folder)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = archives.Close() })
		p := audittest.New(t, audit.Config{Archives: archives})
		until := func(l *audit.Ledger, size uint64) {
			t.Helper()
			for l.Stats().Position < size {
				now, a := time.Now(), ask{subject: number(t, "9990000018"), permission: record.AskedNo}
				if _, err := l.Refuse(ctx, a.access(now, a.decide(consent.Preferences{}, now))); err != nil {
					t.Fatal(err)
				}
			}
			for range 300 {
				if s := l.Stats(); s.Signed == s.Position {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Fatal("three seconds, and the newest entries are not signed")
		}
		until(p.Ledger, 6)
		other := p.Crash(t)
		size := max(p.Ledger.Stats().Position, other.Ledger.Stats().Position) + 3
		dir := filepath.Join(filepath.Dir(p.Path), "keys")
		if _, err := audit.AddEpoch(dir); err != nil {
			t.Fatal(err)
		}
		keys, err := audit.LoadKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		for file, l := range map[string]*audit.Ledger{"own": p.Ledger, "other": other.Ledger} {
			more := uint64(0)
			if file == "other" {
				more = longer
			}
			until(l, size+more)
			if err := l.Reload(ctx, keys); err != nil {
				t.Fatal(err)
			}
			until(l, size+more+3)
			var b bytes.Buffer
			if _, _, err := l.Archive(ctx, actor(), 1, &b, nil); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, file), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		q := audit.Question{Kind: audit.Refusals, Archive: "own"}
		if rows, _, _, err := p.Ledger.Ask(ctx, actor(), q); err != nil || len(rows) == 0 {
			t.Errorf("its own archive: %d rows, %v", len(rows), err)
		}
		q.Archive = "other"
		if rows, _, _, err := p.Ledger.Ask(ctx, actor(), q); !errors.As(err, new(audit.ArchiveError)) {
			t.Errorf("the archive of a copy, %s: %d rows, %v", name, len(rows), err)
		}
	}
}

// Only a closed epoch is archived, and it is on record that it was.
func TestOnlyAClosedEpochIsArchived(t *testing.T) {
	h := newEpochs(t, 5, 9)
	size := h.Ledger.Stats().Position
	for _, epoch := range []uint32{0, 3, 4, 1<<32 - 1} {
		var b bytes.Buffer
		if _, _, err := h.Ledger.Archive(ctx, actor(), epoch, &b, nil); !errors.Is(err, audit.ErrInvalid) || b.Len() > 0 {
			t.Errorf("epoch %d: %v, %d bytes", epoch, err, b.Len())
		}
	}
	if h.Ledger.Stats().Position != size {
		t.Error("what was refused is recorded as if it had been done")
	}
	var b bytes.Buffer
	of, r, err := h.Ledger.Archive(ctx, actor(), 1, &b, nil)
	if err != nil || r.Position != size || of.From != 0 {
		t.Errorf("epoch 1: %v, recorded at %d, from %d", err, r.Position, of.From)
	}
	failing := errors.New("no room")
	if _, _, err := h.Ledger.Archive(ctx, actor(), 1, full{failing}, nil); !errors.Is(err, failing) {
		t.Errorf("a disk that is full: %v", err)
	}
	if !audit.IsArchive(b.Bytes(), "mycarerecord.example/test", 1) || audit.IsArchive(b.Bytes(), "mycarerecord.example/test", 2) || audit.IsArchive(b.Bytes()[1:], "mycarerecord.example/test", 1) {
		t.Error("what an archive is of is read as something else")
	}
}

type full struct{ err error }

// Write implements io.Writer.
func (f full) Write([]byte) (int, error) { return 0, f.err }
