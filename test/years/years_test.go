package years_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
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
	ledger     *audit.Ledger
	people     []record.NHSNumber
	custodians []consent.CustodianRules
	now        atomic.Int64
	stored     int64         // bytes
	budget     time.Duration // of an access: as long as the acts that are under way beside it take in the years that are told
}

// origin is the name of the ledger.
const origin = "mycarerecord.example/years"

// beside is how many acts are under way at a time: an access ends some entries after it began, as it does where a region is busy.
const beside = 64

// fill opens a ledger that holds a plan's acts, done by the ledger's own methods as the broker does them. MCR_YEARS_AT names a folder where it is kept, and found again.
func fill(tb testing.TB, entries int) *history {
	tb.Helper()
	plan := years.OfEntries(entries)
	h := &history{budget: max(time.Hour, 20*beside*(plan.Duration/time.Duration(plan.Acts)))}
	h.now.Store(plan.From.UnixNano())
	for n := 0; len(h.people) < plan.People; n++ {
		if number, ok := numbered(n); ok {
			h.people = append(h.people, number)
		}
	}
	for i := range years.Custodians {
		h.custodians = append(h.custodians, consent.CustodianRules{Custodian: record.Custodian{Key: record.CustodianKey(fmt.Sprintf("c%d", i)), ODS: record.ODSCode(fmt.Sprintf("X9%c01", 'A'+i))}})
	}
	folder := os.Getenv("MCR_YEARS_AT")
	if folder == "" {
		folder = tb.TempDir()
	}
	path := filepath.Join(folder, "ledger.db")
	keys, err := audit.LoadKeys(filepath.Join(folder, "keys"))
	if _, left := os.Stat(filepath.Join(folder, "filled")); left != nil {
		if keys, err = audit.CreateKeys(filepath.Join(folder, "keys")); err != nil {
			tb.Fatalf("making keys in a new folder: %v", err)
		}
		h.load(tb, plan, path, keys)
		if err := os.WriteFile(filepath.Join(folder, "filled"), nil, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	if err != nil {
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
	h.open(tb, store, keys, checkpoints)
	tb.Cleanup(func() {
		if err := errors.Join(h.ledger.Shutdown(context.Background()), store.Close()); err != nil {
			tb.Error(err)
		}
	})
	if info, err := os.Stat(path); err == nil {
		h.stored = info.Size()
	}
	tb.Logf("%d entries about %d people by %d users, %d MB", h.ledger.Stats().Position+1, plan.People, plan.Users, h.stored>>20)
	return h
}

// open opens the ledger on a store.
func (h *history) open(tb testing.TB, store audit.Store, keys *audit.Keys, checkpoints audit.Sink) {
	tb.Helper()
	var err error
	h.ledger, err = audit.Open(context.Background(), audit.Config{Store: store, Keys: keys, Origin: origin, Sinks: []audit.Sink{checkpoints}, Adopt: true, Deadline: time.Minute,
		Now: func() time.Time { return time.Unix(0, h.now.Load()).UTC() }})
	if err != nil {
		tb.Fatal(err)
	}
}

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
	err = plan.Each(func(a years.Act) error {
		acts <- a
		if f := failed.Load(); f != nil {
			return *f
		}
		return nil
	})
	close(acts)
	workers.Wait()
	if f := failed.Load(); err == nil && f != nil {
		err = *f
	}
	size, done := h.ledger.Stats().Position+1, time.Since(began)
	if err = errors.Join(err, h.ledger.Shutdown(context.Background()), store.Close()); err != nil {
		tb.Fatalf("filling the ledger: %v", err)
	}
	tb.Logf("filled in %.0f s (%.0f entries a second), then %.0f s for what they are found by", done.Seconds(), float64(size)/done.Seconds(), (time.Since(began) - done).Seconds())
}

var keys atomic.Uint64

// do does one act. Acts that are under way at the same time are hours apart in the years that are told, so that an access here has a day.
func (h *history) do(rng *rand.Rand, a years.Act) error {
	for at := a.At.UnixNano(); ; {
		if was := h.now.Load(); was >= at || h.now.CompareAndSwap(was, at) {
			break
		}
	}
	ctx := context.Background()
	about := h.people[a.Person]
	user := fmt.Sprintf("5%011d", a.User)
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
	case testing.Short():
		return 1_500
	}
	return 6_000
}

// TestQuestionsOverTheYears fills a ledger and asks each question of it, as many times as gives a p95, for one organisation's officer. Of answers of up to 1,000 rows the whole is timed, decryption and the entry of
// the question included; of larger ones a page of one row. MCR_YEARS says how many entries are made; with MCR_TORTURE=long it is ten million; else, so that it runs at all, 6,000.
func TestQuestionsOverTheYears(t *testing.T) {
	entries := wanted(t)
	h := fill(t, entries)
	plan := years.OfEntries(entries)
	rng := rand.New(rand.NewPCG(5, 5))
	officer := audit.Actor{Requester: record.Requester{Kind: record.Professional, User: "777", Organisation: "X9A01", Client: "ig"}, RoleName: "ig-officer", Reason: "an inquiry"}
	in := &audit.Bounds{Organisation: "X9A01", Custodians: []record.CustodianKey{"c0"}}
	everywhere := &audit.Bounds{Organisation: "X9K01", Everywhere: true}
	day := func() (from, until time.Time) {
		from = plan.From.Add(time.Duration(rng.Int64N(int64(plan.Duration)))).Truncate(24 * time.Hour)
		return from, from.Add(24 * time.Hour)
	}
	ask := map[string]func() audit.Question{
		"who looked at this person": func() audit.Question {
			return audit.Question{Kind: audit.WhoLooked, Subjects: h.people[rng.IntN(len(h.people)):][:1], Within: in}
		},
		"who looked, of those who come often": func() audit.Question {
			return audit.Question{Kind: audit.WhoLooked, Subjects: h.people[rng.IntN(20):][:1], Within: in}
		},
		"what did this user look at, in a month": func() audit.Question {
			from, _ := day()
			return audit.Question{Kind: audit.ByUser, User: fmt.Sprintf("5%011d", rng.IntN(plan.Users)), From: from, Until: from.AddDate(0, 1, 0), Within: everywhere}
		},
		"what did our staff look at, in a day": func() audit.Question {
			from, until := day()
			return audit.Question{Kind: audit.ByStaff, Organisation: "X9A01", From: from, Until: until, Within: in}
		},
		"which of our records, in a day": func() audit.Question {
			from, until := day()
			return audit.Question{Kind: audit.OfRecords, Holder: "X9A01", Holding: []record.CustodianKey{"c0"}, From: from, Until: until, Within: in}
		},
		"what was refused, in a month": func() audit.Question {
			from, _ := day()
			return audit.Question{Kind: audit.Refusals, From: from, Until: from.AddDate(0, 1, 0), Within: everywhere}
		},
		"where was the glass broken, in a month": func() audit.Question {
			from, _ := day()
			return audit.Question{Kind: audit.Overrides, From: from, Until: from.AddDate(0, 1, 0), Within: in}
		},
		"whose choices changed, in a month": func() audit.Question {
			from, _ := day()
			return audit.Question{Kind: audit.ConsentChanges, From: from, Until: from.AddDate(0, 1, 0), Within: in}
		},
		"who asked the ledger": func() audit.Question { return audit.Question{Kind: audit.LedgerReads, Within: in} },
		"an urgent purpose among ours, in a day": func() audit.Question {
			from, until := day()
			return audit.Question{Kind: audit.OfRecords, Holder: "X9A01", Holding: []record.CustodianKey{"c0"}, Purposes: []record.Purpose{record.UrgentCare}, From: from, Until: until, Within: in}
		},
		"another's staff among our records": func() audit.Question {
			return audit.Question{Kind: audit.ByStaff, Organisation: record.ODSCode(fmt.Sprintf("X9%c02", 'B'+rng.IntN(19))), Within: in}
		},
	}
	names := []string{}
	for name := range ask {
		names = append(names, name)
	}
	slices.Sort(names)
	times := 40
	for _, name := range names {
		var whole, first []time.Duration
		rows := 0
		for range times {
			q := ask[name]()
			q.Limit = 1
			began := time.Now()
			got, next, _, err := h.ledger.Ask(t.Context(), officer, q)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			first = append(first, time.Since(began))
			if len(got) > 0 && next == 0 || len(got) == 0 {
				whole = append(whole, first[len(first)-1])
				rows += len(got)
				continue
			}
			q.Limit = 1000
			began = time.Now()
			if got, next, _, err = h.ledger.Ask(t.Context(), officer, q); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if next == 0 {
				whole = append(whole, time.Since(began))
			}
			rows += len(got)
		}
		t.Logf("%-42s %5.0f rows; whole answers %3d: p50 %6.1f ms, p95 %6.1f ms; first row: p50 %6.1f ms, p95 %6.1f ms", name, float64(rows)/float64(times), len(whole), ms(whole, 50), ms(whole, 95), ms(first, 50), ms(first, 95))
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	began := time.Now()
	counted, before, parts := 0, uint64(0), 0
	for {
		next, _, err := h.ledger.Tally(t.Context(), officer, audit.Question{Kind: audit.ByStaff, Organisation: "X9A01", Within: in, Before: before}, func(audit.Row) { counted++ })
		if err != nil {
			t.Fatal(err)
		}
		if parts++; next == 0 {
			break
		}
		before = next
	}
	t.Logf("totals of our staff over all the years: %d rows in %d parts, %.1f s; heap %d MB before", counted, parts, time.Since(began).Seconds(), m.HeapAlloc>>20)
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("heap after: %d MB", m.HeapAlloc>>20)
	if counted == 0 {
		t.Error("our staff did nothing in all the years")
	}
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
