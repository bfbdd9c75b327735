package years_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/years"
)

// numbered returns the NHS number of an invented person: that of the test range whose first nine digits are 999000000 and n, where it has a check digit.
func numbered(n int) (record.NHSNumber, bool) {
	sum := 0
	for i, d := range strconv.Itoa(999_000_000 + n) {
		sum += (10 - i) * int(d-'0')
	}
	number, err := record.ParseNHSNumber(fmt.Sprintf("%d%d", 999_000_000+n, (11-sum%11)%11))
	return number, err == nil
}

// history is a ledger that was filled.
type history struct {
	plan       years.Plan
	entries    int // that were wanted
	ledger     *audit.Ledger
	store      io.Closer
	path       string
	keys       *audit.Keys
	archives   *audit.Archives
	people     []int32 // the first nine digits of their numbers, as of numbered: half a million texts would be more than the ledger itself has in memory, and be what a question waits for
	custodians []consent.CustodianRules
	now        atomic.Int64
	stored     int64         // bytes
	until      time.Time     // of the last act
	budget     time.Duration // of an access: as long as the acts that are under way beside it take in the years that are told
}

// origin is the name of the ledger.
const origin = "mycarerecord.example/years"

// beside is how many acts are under way at a time: an access ends some entries after it began, as it does where a region is busy.
const beside = 256

// fill opens a ledger that holds a plan's acts, done by the ledger's own methods as the broker does them. MCR_YEARS_AT names a folder where it is kept, and found again, under how many entries
// were wanted.
func fill(tb testing.TB, entries int) *history {
	tb.Helper()
	plan := years.OfEntries(entries)
	h := &history{plan: plan, entries: entries, budget: max(time.Hour, 20*beside*(plan.Duration/time.Duration(plan.Acts)))}
	h.now.Store(plan.From.UnixNano())
	for n := 0; len(h.people) < plan.People; n++ {
		if _, ok := numbered(n); ok {
			h.people = append(h.people, int32(n))
		}
	}
	for i := range years.Custodians {
		h.custodians = append(h.custodians, consent.CustodianRules{Custodian: record.Custodian{Key: record.CustodianKey(fmt.Sprintf("c%d", i)), ODS: record.ODSCode(fmt.Sprintf("X9%c01", 'A'+i))}})
	}
	folder := tb.TempDir()
	if kept := os.Getenv("MCR_YEARS_AT"); kept != "" {
		folder = filepath.Join(kept, strconv.Itoa(entries))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	path := filepath.Join(folder, "ledger.db")
	keys, err := audit.LoadKeys(filepath.Join(folder, "keys"))
	if _, left := os.Stat(filepath.Join(folder, "filled")); left != nil {
		if keys, err = audit.CreateKeys(filepath.Join(folder, "keys")); err != nil {
			tb.Fatalf("making keys in a new folder: %v", err)
		}
		h.load(tb, plan, path, keys)
		if err := os.WriteFile(filepath.Join(folder, "filled"), []byte(time.Unix(0, h.now.Load()).UTC().Format(time.RFC3339)), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "filled"))
	if err != nil {
		tb.Fatal(err)
	}
	if h.until, err = time.Parse(time.RFC3339, string(text)); err != nil {
		tb.Fatal(err)
	}
	store, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	h.now.Store(plan.From.Add(plan.Duration).UnixNano())
	checkpoints, err := sink.NewFolder(filepath.Join(folder, "checkpoints"))
	if err != nil {
		tb.Fatal(err)
	}
	if err = os.MkdirAll(filepath.Join(folder, "archives"), 0o700); err == nil {
		h.archives, err = audit.OpenArchives(filepath.Join(folder, "archives"))
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = h.archives.Close() })
	h.open(tb, store, keys, checkpoints)
	h.store, h.path, h.keys = store, path, keys
	tb.Cleanup(func() { h.end(tb) })
	if info, err := os.Stat(path); err == nil {
		h.stored = info.Size()
	}
	tb.Logf("%d entries about %d people by %d users, %d MB", h.ledger.Stats().Position+1, plan.People, plan.Users, h.stored>>20)
	return h
}

// end shuts the ledger down, and closes what it stands on.
func (h *history) end(tb testing.TB) {
	tb.Helper()
	if h.store == nil {
		return
	}
	if err := errors.Join(h.ledger.Shutdown(context.Background()), h.store.Close()); err != nil {
		tb.Error(err)
	}
	h.store = nil
}

// newest is the time of the newest entry: questions were asked of a ledger that was kept.
func (h *history) newest(tb testing.TB, store audit.Store) time.Time {
	tb.Helper()
	var head audit.Head
	if err := store.View(context.Background(), func(r audit.Reader) (err error) { head, err = r.Head(); return err }); err != nil {
		tb.Fatal(err)
	}
	return head.Newest
}

// open opens the ledger on a store.
func (h *history) open(tb testing.TB, store audit.Store, keys *audit.Keys, checkpoints audit.Sink) {
	tb.Helper()
	var err error
	h.ledger, err = audit.Open(context.Background(), audit.Config{Store: store, Keys: keys, Origin: origin, Sinks: []audit.Sink{checkpoints}, Adopt: true, Deadline: 10 * time.Minute, Archives: h.archives,
		Now: func() time.Time { return time.Unix(0, h.now.Load()).UTC() }})
	if err != nil {
		tb.Fatal(err)
	}
}

// errEnough ends the filling early, where whoever waits has put a file of the name "enough" into its folder: the years end there.
var errEnough = errors.New("enough")

// load fills a new file.
func (h *history) load(tb testing.TB, plan years.Plan, path string, keys *audit.Keys) {
	tb.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	began := time.Now()
	store, err := newLoader(path)
	if err != nil {
		tb.Fatal(err)
	}
	h.open(tb, store, keys, &remembering{})
	acts := make(chan years.Act)
	var workers sync.WaitGroup
	var failed atomic.Pointer[error]
	for w := range beside {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(9, uint64(w)))
			for a := range acts {
				if err := h.do(rng, a); err != nil {
					err = fmt.Errorf("kind %d: %w", a.Kind, err)
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	done := 0
	err = plan.Each(func(a years.Act) error {
		acts <- a
		if done++; done%1000 == 0 {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "enough")); err == nil {
				return errEnough
			}
		}
		if f := failed.Load(); f != nil {
			return *f
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	close(acts)
	workers.Wait()
	if f := failed.Load(); err == nil && f != nil {
		err = *f
	}
	size, took := h.ledger.Stats().Position+1, time.Since(began)
	if err = errors.Join(err, h.ledger.Shutdown(context.Background()), store.Close()); err != nil {
		tb.Fatalf("filling the ledger: %v", err)
	}
	tb.Logf("filled in %.0f s (%.0f entries a second), then %.0f s for what they are found by", took.Seconds(), float64(size)/took.Seconds(), (time.Since(began) - took).Seconds())
}

// person is the number of one of the people.
func (h *history) person(i int) record.NHSNumber {
	number, _ := numbered(int(h.people[i])) // of those that have one
	return number
}

// user is the id of a user.
func user(n int) string { return fmt.Sprintf("5%011d", n) }

var keys atomic.Uint64

// do does one act. Acts that are under way at the same time are hours apart in the years that are told, so that an access here has a day.
func (h *history) do(rng *rand.Rand, a years.Act) error {
	for at := a.At.UnixNano(); ; {
		if was := h.now.Load(); was >= at || h.now.CompareAndSwap(was, at) {
			break
		}
	}
	ctx := context.Background()
	about := h.person(a.Person)
	user := user(a.User)
	who := record.Requester{Kind: record.Professional, User: user, Name: "Dr Invented " + user[8:], RoleProfile: user + "1", JobRole: "R8000", Organisation: record.ODSCode(a.Place.ODS), Client: "epr", Issuer: "https://issuer.example"}
	if a.Kind == years.Choice {
		o := consent.Objection{Scope: consent.ToSection, Section: record.MentalHealth, Responsible: "self", Method: "phone"}
		_, _, err := h.ledger.RecordObjection(ctx, audit.Actor{Requester: who, RoleName: "front-desk", Face: "grpc"}, about, o, fmt.Sprintf("%032x", keys.Add(1)))
		return err
	}
	purpose, permission, face := record.Treatment, record.Permission{Kind: record.AskedYes}, "rest"
	switch a.Kind {
	case years.Refused:
		permission.Kind = record.AskedNo
	case years.Broken:
		purpose, permission = record.BreakGlass, record.Permission{}
	case years.Own:
		who = record.Requester{Kind: record.Person, User: "login-" + strconv.Itoa(a.Person), Own: about, Client: "app", Issuer: "https://login.example"}
		purpose, permission = record.PatientAccess, record.Permission{Kind: record.PatientSelf}
	case years.Stream:
		face = "stream"
	}
	if a.Kind == years.Whole && rng.IntN(12) == 0 {
		purpose = record.UrgentCare
	}
	if a.Kind == years.Refused { // of an organisation that holds a record, its own would be shown all the same
		who.Organisation = "X9Z99"
	}
	numbers := []record.NHSNumber{about}
	prefs, err := h.ledger.Preferences(ctx, numbers)
	if err != nil {
		return err
	}
	now := time.Unix(0, h.now.Load()).UTC()
	d := consent.Evaluate(consent.Question{Subject: record.Subject{Number: about, Standing: record.Live}, Requester: who, Purpose: purpose, Permission: permission,
		Relationship: record.Relationship{Kind: record.Admission}, BreakGlassReason: "unconscious, nobody to ask", Custodians: h.custodians, Now: now,
		Role: consent.Role{Name: "clinical-practitioner", Version: "v", Sections: map[record.Purpose]record.Sections{record.Treatment: record.AllSections, record.UrgentCare: record.AllSections,
			record.BreakGlass: record.AllSections, record.PatientAccess: record.AllSections}}}, prefs)
	x := audit.Access{Key: fmt.Sprintf("%032x", keys.Add(1)), RequestID: fmt.Sprintf("req-%d", keys.Load()), Face: face, Operation: "everything", Subject: about, Standing: record.Live, Requester: who,
		RoleName: "clinical-practitioner", Purpose: purpose, Permission: permission, Relationship: record.Relationship{Kind: record.Admission}, Decision: d, At: now, Budget: h.budget}
	if purpose == record.BreakGlass {
		x.BreakGlassReason = "unconscious, nobody to ask"
	}
	permit, ok := d.Permit()
	if !ok {
		x.Reason, x.Rule = d.Reason, d.Rule
		_, err := h.ledger.Refuse(ctx, x)
		return err
	}
	for _, c := range d.Custodians {
		if c.Permitted != 0 {
			x.Asked = append(x.Asked, c.Key)
		}
	}
	o, err := h.ledger.Begin(ctx, permit, x)
	if err != nil {
		return err
	}
	if a.Kind == years.Nothing {
		_, err = h.ledger.Close(ctx, o, audit.TypeNothing, consent.ReasonUnknown, audit.Disclosure{})
		return err
	}
	// One or two of the custodians hold something of most people.
	whole := audit.Disclosure{}
	for i, c := range d.Custodians {
		s := audit.Shown{Key: c.Key, State: record.NoRecord}
		if (a.Person+i)%3 == 0 && c.Permitted != 0 {
			s = audit.Shown{Key: c.Key, State: record.Returned, Sections: permit.Sections(c.Key) & record.Sections(1<<uint(1+(a.Person+i)%5)|1), Count: 8}
			for range s.Count {
				s.Digests = append(s.Digests, [32]byte{byte(i), byte(a.Person)})
			}
			if face == "stream" {
				if _, err := h.ledger.ReleaseChunk(ctx, o, permit, audit.Disclosure{Custodians: []audit.Shown{s}}); err != nil {
					return h.overtaken(ctx, o, err)
				}
				s.Sections, s.Count, s.Digests = 0, 0, nil
			}
		}
		whole.Custodians, whole.Total = append(whole.Custodians, s), whole.Total+s.Count
	}
	if _, err = h.ledger.Release(ctx, o, permit, whole); err != nil {
		return h.overtaken(ctx, o, err)
	}
	return nil
}

// overtaken ends an access whose override ran out, or whose person changed their mind, while hours went by in it.
func (h *history) overtaken(ctx context.Context, o audit.Opened, why error) error {
	if !errors.Is(why, audit.ErrNotPermitted) && !errors.Is(why, audit.ErrConsentChanged) {
		return why
	}
	_, err := h.ledger.Close(ctx, o, audit.TypeRefused, consent.ReasonObjection, audit.Disclosure{})
	return err
}

// TestFill fills the folder MCR_YEARS_AT, and asks nothing.
func TestFill(t *testing.T) {
	if os.Getenv("MCR_YEARS_AT") == "" {
		t.Setenv("MCR_YEARS_AT", t.TempDir())
	}
	fill(t, wanted(t))
}

// wanted is how many entries are wanted.
func wanted(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("MCR_YEARS")); err == nil {
		return n
	}
	switch {
	case os.Getenv("MCR_TORTURE") == "long":
		return 10_000_000
	case testing.Short() || underRace:
		return 1_500
	}
	return 6_000
}

// TestQuestionsOverTheYears asks each question of a ledger of years and of one of a tenth of its entries, turn by turn, in SQLite and in PostgreSQL, as many times as gives a p95. Of answers of up
// to 1,000 rows the whole is timed, decryption and the entry of the question included; of larger ones a page of one row. MCR_YEARS says how many entries there are; with MCR_TORTURE=long it
// is ten million, and what was promised is held; else, so that it runs at all, 6,000. MCR_YEARS_ASK asks those questions alone whose name holds it.
func TestQuestionsOverTheYears(t *testing.T) {
	entries := wanted(t)
	both := []*history{fill(t, entries/10), fill(t, entries)}
	if only := os.Getenv("MCR_YEARS_ON"); only == "" || only == "SQLite" {
		t.Run("SQLite", func(t *testing.T) { question(t, both) })
	}
	if testing.Short() || underRace || os.Getenv("MCR_YEARS_ON") == "SQLite" {
		return
	}
	t.Run("PostgreSQL", func(t *testing.T) {
		server := postgreSQL(t)
		for _, h := range both {
			h.end(t)
			store := server.holding(t, h)
			h.now.Store(h.newest(t, store).Add(time.Hour).UnixNano())
			h.open(t, store, h.keys, &remembering{})
			h.store = store
		}
		question(t, both)
	})
}

// What is promised: the whole of an answer of up to 1,000 rows, and the first row of a larger one, 95 times in a hundred; how many times as much that may be where there are ten times
// as many entries; and how much more memory.
const (
	wholeWithin = 200 * time.Millisecond
	firstWithin = 100 * time.Millisecond
	growsBy     = 1.5
	flatWithin  = 16 << 20
)

// asking is a question that is asked many times, each time about something else.
type asking struct {
	name string
	ask  func() answered
}

// answered is what it took, of which there is a whole only where it fits into a page.
type answered struct {
	first, whole time.Duration
	all          bool
	rows         int
	cpu          time.Duration // of the program for the last of it, 0 where that cannot be told
}

// officer is who asks.
var officer = audit.Actor{Requester: record.Requester{Kind: record.Professional, User: "777", Organisation: "X9A01", Client: "ig"}, RoleName: "ig-officer", Reason: "an inquiry"}

// What the officer may see, and what their organisation's staff did.
var (
	within = &audit.Bounds{Organisation: "X9A01", Custodians: []record.CustodianKey{"c0"}}
	staff  = audit.Question{Kind: audit.ByStaff, Organisation: "X9A01", Within: within}
)

// askings are all questions. How long a time is asked about depends on how much there is, so that an answer is as long in a small ledger as in one of ten million entries: an hour there is ten
// hours where there is a tenth of it.
func (h *history) askings(t *testing.T) (out []asking) {
	plan, length := h.plan, h.until.Sub(h.plan.From)
	rng := rand.New(rand.NewPCG(5, 5))
	everywhere := &audit.Bounds{Organisation: "X9K01", Everywhere: true}
	// in of ten million entries over 24 months.
	during := func(q audit.Question, times time.Duration) audit.Question {
		times = time.Duration(min(float64(length/2), float64(times)*10_000_000/float64(h.entries)))
		q.From = plan.From.Add(time.Duration(rng.Int64N(int64(length - times))))
		q.Until = q.From.Add(times)
		return q
	}
	month := func(q audit.Question) audit.Question {
		q.From = plan.From.Add(time.Duration(rng.Int64N(int64(max(length-30*24*time.Hour, 1)))))
		q.Until = q.From.AddDate(0, 1, 0)
		return q
	}
	person := func() record.NHSNumber { return h.person(rng.IntN(len(h.people))) }
	ours := audit.Question{Kind: audit.OfRecords, Holder: "X9A01", Holding: []record.CustodianKey{"c0"}, Within: within}
	urgent := ours
	urgent.Purposes = []record.Purpose{record.UrgentCare}
	ask := map[string]func() audit.Question{
		"who looked at this person": func() audit.Question {
			return audit.Question{Kind: audit.WhoLooked, Subjects: []record.NHSNumber{person()}, Within: within}
		},
		"who looked, of those who come often": func() audit.Question {
			return audit.Question{Kind: audit.WhoLooked, Subjects: []record.NHSNumber{h.person(rng.IntN(20))}, Within: within}
		},
		"what did this user look at, in a month": func() audit.Question {
			return month(audit.Question{Kind: audit.ByUser, User: user(rng.IntN(plan.Users)), Within: everywhere})
		},
		"what did this user look at, ever": func() audit.Question {
			return audit.Question{Kind: audit.ByUser, User: user(rng.IntN(plan.Users)), Within: everywhere}
		},
		"what did our staff look at, in 12 hours": func() audit.Question { return during(staff, 12*time.Hour) },
		"what did our staff look at, ever":        func() audit.Question { return staff },
		"which of our records, in 2 hours":        func() audit.Question { return during(ours, 2*time.Hour) },
		"which of our records, in a week":         func() audit.Question { return during(ours, 7*24*time.Hour) },
		"an urgent purpose among ours, in a day": func() audit.Question { // a whole one: where there is a tenth of the entries it is ten, and an answer must not be longer here for being by day
			return during(urgent, 24*time.Hour)
		},
		"what was refused, in 5 days": func() audit.Question {
			return during(audit.Question{Kind: audit.Refusals, Within: everywhere}, 5*24*time.Hour)
		},
		"where was the glass broken, in a month": func() audit.Question {
			return during(audit.Question{Kind: audit.Overrides, Within: within}, 30*24*time.Hour)
		},
		"whose choices changed, in a month": func() audit.Question {
			return during(audit.Question{Kind: audit.ConsentChanges, Within: within}, 30*24*time.Hour)
		},
		"who asked the ledger": func() audit.Question { return audit.Question{Kind: audit.LedgerReads, Within: within} },
		"another's staff among our records, 2 weeks": func() audit.Question {
			return during(audit.Question{Kind: audit.ByStaff, Organisation: record.ODSCode(fmt.Sprintf("X9%c02", 'B'+rng.IntN(19))), Within: within}, 14*24*time.Hour)
		},
	}
	for _, name := range slices.Sorted(maps.Keys(ask)) {
		out = append(out, asking{name, func() (a answered) {
			q := ask[name]()
			q.Limit = 1
			before := spent()
			got, next := h.asked(t, q, &a.first)
			a.cpu = spent() - before
			if a.whole = a.first; next != 0 {
				q.Limit = 1000
				before := spent()
				got, next = h.asked(t, q, &a.whole)
				a.cpu = spent() - before
			}
			a.all, a.rows = fits(next, len(got), q.Limit), len(got)
			return a
		}})
	}
	size := h.ledger.Stats().Position
	var seen audit.Row
	return append(out,
		asking{"what was shown in this view", func() (a answered) {
			began := time.Now()
			row, _, _, err := h.ledger.View(t.Context(), officer, audit.Look{Position: size/6 + rng.Uint64N(size*2/3), Within: everywhere, Sees: func(audit.Row) bool { return true }})
			if a = single(began); err != nil && !errors.Is(err, audit.ErrNotFound) {
				t.Fatal(err)
			}
			if row.Access != nil {
				a.rows, seen = 1, row
			}
			return a
		}},
		asking{"what would this person see", func() answered {
			who, began := []record.NHSNumber{person()}, time.Now()
			if _, _, err := h.ledger.Foresee(t.Context(), officer, who); err != nil {
				t.Fatal(err)
			}
			return single(began)
		}},
		asking{"is this receipt true", func() answered {
			began := time.Now()
			if _, err := h.ledger.Inclusion(t.Context(), audit.Receipt{Origin: origin, Position: seen.Position, Leaf: seen.Leaf}, 0); err != nil {
				t.Fatal(err)
			}
			return single(began)
		}})
}

// single is an answer that has no pages.
func single(began time.Time) answered {
	return answered{time.Since(began), time.Since(began), true, 0, 0}
}

// asked asks, and says how long it took.
func (h *history) asked(t *testing.T, q audit.Question, took *time.Duration) ([]audit.Row, uint64) {
	began := time.Now()
	got, next, _, err := h.ledger.Ask(t.Context(), officer, q)
	if err != nil {
		t.Fatal(err)
	}
	*took = time.Since(began)
	return got, next
}

// often is how often each question is asked: of 40, a p95 leaves two out, which is how the everyday form asks; of 120 it leaves six out, and hangs less on what else the machine did.
var often = map[bool]int{true: 120, false: 40}[os.Getenv("MCR_TORTURE") == "long"]

// times are those of one question.
type times struct {
	first, whole []time.Duration
	rows         int
	cpu          time.Duration
}

// fits reports whether an answer of which a page of at most so many rows was asked for is no larger than the page. One that was cut because it took long is not: it
// is whole, and took as long as it did.
func fits(next uint64, rows, most int) bool { return next == 0 || rows < most }

// kept reports whether what was promised is held: of answers that fit into a page, what all of it took, and of all, what the first row did.
func (x *times) kept() bool {
	return len(x.first) > 0 && ms(x.whole, 95) <= float64(wholeWithin.Milliseconds()) && ms(x.first, 95) <= float64(firstWithin.Milliseconds())
}

// question asks each question of ledgers, the smaller first: of one after the other each time, so that what else the machine does is the same for both.
func question(t *testing.T, of []*history) {
	var asks [][]asking
	for _, h := range of {
		asks = append(asks, h.askings(t))
	}
	var missed []string
	for i := range asks[0] {
		if !strings.Contains(asks[0][i].name, os.Getenv("MCR_YEARS_ASK")) {
			continue
		}
		all := make([]times, len(of))
		for round := range often {
			for k := range of {
				k = (k + round) % len(of)
				a := asks[k][i].ask()
				all[k].first, all[k].rows = append(all[k].first, a.first), all[k].rows+a.rows
				all[k].cpu += a.cpu
				if a.all {
					all[k].whole = append(all[k].whole, a.whole)
				}
			}
		}
		name := asks[0][i].name
		for k, h := range of {
			x := all[k]
			t.Logf("%-44s %9d entries: %5.0f rows; whole answers %3d: p50 %6.1f ms, p95 %6.1f ms; first row: p50 %6.1f ms, p95 %6.1f ms; CPU of a page %5.1f ms", name, h.entries, float64(x.rows)/float64(often), len(x.whole),
				ms(x.whole, 50), ms(x.whole, 95), ms(x.first, 50), ms(x.first, 95), float64((x.cpu/time.Duration(often)).Microseconds())/1000)
			if !x.kept() {
				missed = append(missed, fmt.Sprintf("%s, of %d", name, h.entries))
			}
		}
		small, large := all[0], all[len(all)-1]
		// Where one holds whole answers and the other does not they are not the same answers; where the small one has no time long enough for as many rows, what a row takes is compared.
		grown := growth(small.first, large.first, 95)
		text := fmt.Sprintf("first row %.2f (p50 %.2f)", grown, growth(small.first, large.first, 50))
		if min(len(small.whole), len(large.whole)) >= often/2 {
			more := max(float64(large.rows)/max(float64(small.rows), 1), 1)
			if more < 1.1 {
				more = 1
			}
			whole := growth(small.whole, large.whole, 95) / more
			text += fmt.Sprintf(", whole %.2f (p50 %.2f)", whole, growth(small.whole, large.whole, 50)/more)
			if more > 1 {
				text += " a row"
			}
			grown = max(grown, whole)
		}
		if more := max(float64(large.rows)/max(float64(small.rows), 1), 1); small.cpu > 0 { // which tells more where the machine has much else to do
			text += fmt.Sprintf(", CPU of a page of as many rows %.2f", float64(large.cpu)/float64(small.cpu)/more)
		}
		t.Logf("%-44s growth of p95: %s", name, text)
		if grown > growsBy {
			missed = append(missed, fmt.Sprintf("the growth of %s", name))
		}
	}
	var most []uint64
	for _, h := range of {
		most = append(most, h.count(t))
	}
	if float64(most[len(most)-1]) > growsBy*float64(most[0])+flatWithin {
		missed = append(missed, "the growth of memory")
	}
	if len(missed) > 0 {
		if t.Logf("not as promised: %q", missed); os.Getenv("MCR_TORTURE") == "long" {
			t.Error("not as promised")
		}
	}
}

// growth is how many times as long it takes in a larger ledger.
func growth(small, large []time.Duration, percent int) float64 {
	return ms(large, percent) / max(ms(small, percent), 0.001)
}

// count counts what our staff did in all the years, and asks for pages of a thousand rows beside; it returns how much more memory the program has in use meanwhile.
func (h *history) count(t *testing.T) uint64 {
	before, beforeAll := memory()
	most, mostAll := before, beforeAll
	look := func() {
		now, all := memory()
		most, mostAll = max(most, now), max(mostAll, all)
	}
	q, began := staff, time.Now()
	counted, parts := 0, 0
	for {
		next, _, err := h.ledger.Tally(t.Context(), officer, q, func(audit.Row) {
			if counted++; counted%1000 == 0 {
				look()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if parts++; next == 0 {
			break
		}
		q.Before = next
	}
	took := time.Since(began)
	q.Before, q.Limit = 0, 1000
	for range 5 {
		var unused time.Duration
		rows, next := h.asked(t, q, &unused)
		if look(); next == 0 || len(rows) == 0 {
			break
		}
		q.Before = next
	}
	t.Logf("totals of our staff over all the years of %d entries: %d rows in %d parts, %.1f s, and pages of 1,000 rows; heap before %d MB, at most %d MB; of the whole program before %d MB, at most %d MB", h.entries, counted, parts, took.Seconds(),
		before>>20, most>>20, beforeAll>>20, mostAll>>20)
	if counted == 0 || most > before+64<<20 {
		t.Errorf("%d rows, and at most %d MB", counted, most>>20)
	}
	return most - before
}

// memory is how much of the heap is in use, and how much memory the program has of the machine, where it says so.
func memory() (heap, all uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseUint(fields[1], 10, 64) // where it is none, there is nothing to tell
			all = pages * uint64(os.Getpagesize())
		}
	}
	return m.HeapAlloc, all
}

func ms(list []time.Duration, percent int) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return float64(list[min(len(list)-1, len(list)*percent/100)].Microseconds()) / 1000
}

// The acts have the rhythms that they are said to have.
func TestRhythms(t *testing.T) {
	plan := years.OfEntries(100_000)
	var nights, days, sundays, mondays, acts int
	var last time.Time
	kinds := map[years.Kind]int{}
	err := plan.Each(func(a years.Act) error {
		if a.At.Before(last) {
			t.Fatal("an act comes before the one in front")
		}
		last = a.At
		acts++
		kinds[a.Kind]++
		switch h := a.At.Hour(); {
		case h >= 1 && h < 5:
			nights++
		case h >= 9 && h < 13:
			days++
		}
		switch a.At.Weekday() {
		case time.Sunday:
			sundays++
		case time.Monday:
			mondays++
		}
		if !a.Place.Ward && (a.At.Weekday() == time.Sunday || a.At.Hour() < 7) {
			t.Fatal("a surgery works by night or on a Sunday")
		}
		return nil
	})
	if err != nil || acts < plan.Acts*99/100 {
		t.Fatalf("%v, %d acts, want %d", err, acts, plan.Acts)
	}
	if nights*8 > days || sundays*2 > mondays || len(kinds) != 7 {
		t.Errorf("nights %d and days %d, Sundays %d and Mondays %d, %d kinds", nights, days, sundays, mondays, len(kinds))
	}
	t.Logf("%d acts: %v", acts, kinds)
}

// What the loader writes is what the product's own store would have written: Verify finds each entry, mark, objection and node as it must be.
func TestLoaded(t *testing.T) {
	t.Setenv("MCR_YEARS_AT", "")
	h := fill(t, 3_000)
	report, err := h.ledger.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Sound(); err != nil || report.Entries < 2_500 || report.Objections == 0 || report.Alerts == 0 || len(report.ByType) < 8 {
		t.Errorf("%v: %+v", err, report)
	}
}

// A question of which every answer was cut because it took long does not pass for one of which every answer is larger than a page.
func TestWhatWasCutIsNotKept(t *testing.T) {
	for rows, want := range map[int]bool{300: false, 0: false, 1000: true} {
		var x times
		for range often {
			x.first = append(x.first, time.Millisecond)
			if fits(7, rows, 1000) {
				x.whole = append(x.whole, 2*time.Second)
			}
		}
		if x.kept() != want {
			t.Errorf("pages of %d rows of 1,000, with more to come: kept %t", rows, !want)
		}
	}
}
