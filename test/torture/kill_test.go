package torture

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// TestKills kills the demo with SIGKILL again and again while records are read by all three ways and people change their minds, starts it on
// the same state, and holds everything that any caller was ever given, cut off or whole, against the ledger and against what was objected to:
// no answer without its entry, no acknowledged consent change lost or not honoured, and every access closed (P1, P2, P3, R-3).
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	const callers = 6
	kills := either(20, 200)
	if underRace && !long() {
		kills = 6
	}
	r := seeded(t)
	program := neighbourhood.Program(t, "demo")
	state := t.TempDir()
	who := people(t)
	all := &log{}
	g := &register{r: rand.New(rand.NewPCG(r.Uint64(), 1)), who: who} //nolint:gosec // chance of a test
	var caught, openAtKill, unknown, lost int

	for kill := 0; ; kill++ {
		n := neighbourhood.Start(t, neighbourhood.Options{State: state, Program: program})
		v := newVisit(t, n, who)
		d, err := newDesk(v)
		if err != nil {
			t.Fatal("no gRPC client")
		}
		lost += g.lost(t, d)
		unknown += g.resolve(t, d)
		if kill == kills {
			d.close()
			n.Stop(t)
			break
		}
		started := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for i := range callers {
			c, err := newCaller(v, all, fmt.Sprintf("k%d-c%d", kill, i))
			if err != nil {
				t.Fatal("no gRPC client")
			}
			chance := rand.New(rand.NewPCG(r.Uint64(), 2)) //nolint:gosec // chance of a test
			load.Go(func() {
				defer c.close()
				c.roam(ctx, chance, who)
			})
		}
		load.Go(func() { g.change(ctx, d) })
		pause(t.Context(), time.Duration(100+r.IntN(800))*time.Millisecond)
		all.await(ctx, 3, person{}, started)              // however busy the machine is
		for all.running.Load() == 0 && ctx.Err() == nil { // callers pause for no longer than it takes to begin the next call
			pause(ctx, time.Millisecond)
		}
		if all.running.Load() > 0 {
			caught++
		}
		killed := time.Now()
		n.Kill(t)
		stop()
		load.Wait()
		d.close()
		for _, a := range all.answers {
			if a.cut && a.ended.Before(killed) && a.began.After(started) {
				t.Errorf("%s %s was cut off before the kill: status %d, code %v", a.face, a.id, a.status, a.code)
			}
		}
		openAtKill += openAfterKill(t, state)
	}

	l := readLedger(t, state)
	lost += l.lost(g.all)
	h, a := judge(all.answers, g.all), l.accounted(all.answers)
	given, cut, releases := count(all.answers)
	t.Logf("%d kills, %d with requests on their way, %d accesses open at a kill; %d requests, %d answers that show something, of which %d cut off, %d releases with a receipt",
		kills, caught, openAtKill, all.requests.Load(), given, cut, releases)
	t.Logf("answers by what they were: %v", sorts(all.answers))
	t.Logf("%d consent changes acknowledged, %d of unknown outcome made again; %d answers began under an objection, %d were released after one",
		g.acked(), unknown, h.bound, h.ordered)
	t.Logf("ledger: %d entries, %d abandoned, %d open; %d receipts and %d resources found in it, and the custodian of %d that were cut off or are the broker's own",
		l.report.Entries, l.report.ByType[audit.TypeAbandoned], l.report.Open, a.receipts, a.digests, a.parts)
	t.Logf("answers without an entry: %d of %d (%s); acknowledged consent changes lost: %d of %d (%s); not honoured: %d of %d (%s); any of these, per kill: %s",
		len(a.problems), given, bound(len(a.problems), given), lost, g.acked(), bound(lost, g.acked()), len(h.breaches), h.bound, bound(len(h.breaches), h.bound),
		bound(len(a.problems)+lost+len(h.breaches), kills))

	report(t, a.problems)
	report(t, h.breaches)
	report(t, g.problem)
	if lost > 0 {
		t.Errorf("%d acknowledged consent changes were lost", lost)
	}
	if l.report.Open != 0 {
		t.Errorf("%d accesses were never closed", l.report.Open)
	}
	// One that was open when the process died is closed as abandoned, and no other is.
	if abandoned := l.report.ByType[audit.TypeAbandoned]; abandoned != uint64(openAtKill) {
		t.Errorf("%d accesses were closed as abandoned, %d were open at a kill", abandoned, openAtKill)
	}
	for f := range faces {
		if n := answersBy(all.answers, f); n < kills/4 {
			t.Errorf("%d answers by %s: the load was too small to prove anything", n, f)
		}
	}
	if caught < kills || openAtKill < kills/2 || g.acked() < kills || h.bound < kills/2 || h.ordered < kills/2 {
		t.Error("the kills did not meet enough of a load to prove anything")
	}
}

// openAfterKill counts the accesses that are open in the ledger as the killed process left it. It looks at a copy: recovery is the demo's own affair.
func openAfterKill(t *testing.T, state string) int {
	t.Helper()
	dir := t.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(filepath.Join(dir, "ledger.db"+suffix), ledgerFile(state)+suffix); err != nil {
			t.Fatal("the ledger cannot be copied")
		}
	}
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "ledger.db")})
	if err != nil {
		t.Fatalf("what a kill left of the ledger cannot be opened: %v", err)
	}
	open := 0
	err = store.View(t.Context(), func(r audit.Reader) (err error) {
		open, err = r.OpenCount()
		return err
	})
	if err != nil {
		t.Fatalf("what a kill left of the ledger cannot be read: %v", err)
	}
	_ = store.Close()     // a copy
	_ = os.RemoveAll(dir) // each copy is as large as the ledger
	return open
}

func copyFile(to, from string) error {
	in, err := os.Open(from) //nolint:gosec // a file of the test's own
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()                                     // read only
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a file of the test's own
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// count counts answers that show something, those that were cut off, and receipts of releases.
func count(answers []*answer) (given, cut, releases int) {
	for _, a := range answers {
		if a.shows() {
			given++
			if a.cut {
				cut++
			}
		}
		for _, p := range a.pieces {
			if p.receipt != nil {
				releases++
			}
		}
	}
	return given, cut, releases
}

// sorts counts answers by face and by what became of them.
func sorts(answers []*answer) map[string]int {
	out := map[string]int{}
	for _, a := range answers {
		what := a.code.String()
		switch {
		case a.cut:
			what = "cut"
		case a.status != 0:
			what = strconv.Itoa(a.status)
		}
		out[a.face.String()+" "+what]++
	}
	return out
}

func answersBy(answers []*answer, f face) (n int) {
	for _, a := range answers {
		if a.face == f && a.shows() {
			n++
		}
	}
	return n
}

// bound says of a rate of which none was seen in so many what it is at most, with 95 % confidence (the rule of three).
func bound(seen, of int) string {
	switch {
	case of == 0:
		return "nothing was tried"
	case seen > 0:
		return "seen"
	}
	return fmt.Sprintf("at most %.3g %%", 300/float64(of))
}

// report fails with the first few of many.
func report(t *testing.T, problems []string) {
	t.Helper()
	for i, p := range problems {
		if i == 10 {
			t.Errorf("and %d more", len(problems)-i)
			return
		}
		t.Error(p)
	}
}
