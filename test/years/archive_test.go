package years_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/years"
)

// TestArchiveOfYears closes the epoch of a ledger of years, writes its archive, and asks both: the answers are the same, page by page. How long writing takes, how much memory, and how long
// the first page of an answer takes from each is printed.
func TestArchiveOfYears(t *testing.T) {
	entries := wanted(t)
	h := fill(t, entries)
	plan := years.OfEntries(entries)
	by := audit.Actor{Requester: record.Requester{Kind: record.Professional, User: "777", Organisation: "X9A01", Client: "ig"}, RoleName: "ig-officer", Reason: "an inquiry"}
	folder := filepath.Dir(h.path)
	if _, err := os.Stat(filepath.Join(folder, "keys", "payload-0002.key")); err != nil {
		if _, err = audit.AddEpoch(filepath.Join(folder, "keys")); err != nil {
			t.Fatal(err)
		}
		if h.keys, err = audit.LoadKeys(filepath.Join(folder, "keys")); err == nil {
			err = h.ledger.Reload(t.Context(), h.keys)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; h.ledger.Stats().Signed < h.ledger.Stats().Position; i++ {
		if i == 500 {
			t.Fatal("five seconds, and the newest entries are not signed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	path := filepath.Join(folder, "archives", "years.mcra")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most := before.HeapAlloc
	began := time.Now()
	of, _, err := h.ledger.Archive(t.Context(), by, 1, out, func(uint64, uint64) {
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapAlloc)
	})
	if err != nil || out.Flush() != nil || f.Close() != nil {
		t.Fatalf("archiving: %v", err)
	}
	took := time.Since(began)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries archived in %.1f s, %d MB (%d bytes an entry); %d MB more in use at the most at the end of a segment", of.Until-of.From, took.Seconds(), info.Size()>>20, uint64(info.Size())/(of.Until-of.From), (most-before.HeapAlloc)>>20)

	rng := rand.New(rand.NewPCG(4, 4))
	in := &audit.Bounds{Organisation: "X9A01", Custodians: []record.CustodianKey{"c0"}}
	everywhere := &audit.Bounds{Organisation: "X9K01", Everywhere: true}
	month := func(q audit.Question) audit.Question {
		q.From = plan.From.Add(time.Duration(rng.Int64N(int64(plan.Duration))))
		q.Until = q.From.AddDate(0, 1, 0)
		return q
	}
	kinds := []func() audit.Question{
		func() audit.Question {
			return audit.Question{Kind: audit.WhoLooked, Subjects: []record.NHSNumber{h.person(rng.IntN(len(h.people)))}, Within: everywhere}
		},
		func() audit.Question {
			return audit.Question{Kind: audit.WhoLooked, Subjects: []record.NHSNumber{h.person(rng.IntN(20))}, Within: in}
		},
		func() audit.Question {
			return audit.Question{Kind: audit.ByUser, User: user(rng.IntN(plan.Users)), Within: everywhere}
		},
		func() audit.Question {
			return month(audit.Question{Kind: audit.ByStaff, Organisation: "X9A01", Within: in})
		},
		func() audit.Question {
			return audit.Question{Kind: audit.OfRecords, Holder: "X9A01", Holding: []record.CustodianKey{"c0"}, Within: in, Purposes: []record.Purpose{record.UrgentCare}}
		},
		func() audit.Question { return month(audit.Question{Kind: audit.Refusals, Within: everywhere}) },
		func() audit.Question { return month(audit.Question{Kind: audit.Overrides, Within: everywhere}) },
		func() audit.Question { return month(audit.Question{Kind: audit.ConsentChanges, Within: in}) },
	}
	var living, archived []time.Duration
	rows, several, early := 0, 0, 0
	for i := range 120 {
		q := kinds[i%len(kinds)]()
		q.Limit = 100
		a := q
		q.Before, a.Archive = of.Until, "years.mcra"
		for range 3 {
			began = time.Now()
			want, wantNext, _, err := h.ledger.Ask(t.Context(), by, q)
			living = append(living, time.Since(began))
			if err != nil {
				t.Fatal(err)
			}
			began = time.Now()
			got, gotNext, _, err := h.ledger.Ask(t.Context(), by, a)
			archived = append(archived, time.Since(began))
			if err != nil {
				t.Fatal(err)
			}
			// A page ends early where its time is up, which a machine with much to do may bring about; then that part is compared which both have given.
			next := max(wantNext, gotNext)
			if slow := 2 * time.Second; wantNext != gotNext && living[len(living)-1] < slow && archived[len(archived)-1] < slow {
				t.Fatalf("question %d (%s): the archive goes on at %d, the ledger at %d", i, q.Kind, gotNext, wantNext)
			}
			if wantNext != gotNext {
				early++
			}
			beyond := func(r audit.Row) bool { return r.Position < next }
			got, want = slices.DeleteFunc(got, beyond), slices.DeleteFunc(want, beyond)
			if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
				t.Fatalf("question %d (%s): %d rows from the archive, %d from the ledger; or other rows", i, q.Kind, len(got), len(want))
			}
			if rows += len(got); next == 0 {
				break
			}
			several++
			q.Before, a.Before = next, next
		}
	}
	if rows == 0 || early > len(living)/10 {
		t.Errorf("%d rows, and %d of %d pages ended for time: too few to tell", rows, early, len(living))
	}
	t.Log(fmt.Sprintf("%d pages, %d rows, %d pages after which others come, the same from both; ", len(living), rows, several) +
		fmt.Sprintf("a page of up to 100 rows from the ledger: p50 %.1f ms, p95 %.1f ms; from the archive: p50 %.1f ms, p95 %.1f ms", ms(living, 50), ms(living, 95), ms(archived, 50), ms(archived, 95)))
}
