package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/mycarerecord/mycarerecord/audit"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// TestObjectionsWhileRequestsRun records and withdraws objections about a person whose record is being read all the time by all three ways, while some
// custodians are slow, so that every objection meets requests on their way. No request that begins after an acknowledgement shows anything
// that the objection covers; one on its way that has not been released yet obeys it too (P2, R-2, C-4).
func TestObjectionsWhileRequestsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole demo")
	}
	t.Parallel()
	const callers = 6
	rounds := either(15, 600)
	r, seed := withSeed(t)
	n := neighbourhood.Start(t, neighbourhood.Options{})
	who := people(t)
	v := newVisit(t, n, who)
	d, err := newDesk(v)
	if err != nil {
		t.Fatal("no gRPC client")
	}
	for _, key := range []string{"gp", "acute", "community"} {
		n.Fault(t, key, "slow", 0, 60)
	}

	all := &log{}
	var about atomic.Pointer[person] // whose record is read now
	about.Store(&who[0])
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range callers {
		c, err := newCaller(v, all, fmt.Sprintf("c%d", i))
		if err != nil {
			t.Fatal("no gRPC client")
		}
		chance := rand.New(rand.NewPCG(r.Uint64(), 2)) //nolint:gosec // chance of a test
		load.Go(func() {
			defer c.close()
			for ctx.Err() == nil {
				c.ask(t.Context(), face(chance.IntN(int(faces))), askers[chance.IntN(len(askers))], *about.Load())
			}
		})
	}
	g := &register{r: rand.New(rand.NewPCG(r.Uint64(), 1)), who: who} //nolint:gosec // chance of a test
	for round := range rounds {
		p := &who[round%len(who)]
		about.Store(p)
		all.await(ctx, 2, *p, time.Now()) // requests about this person are on their way
		o := g.another(*p)
		switch round % 3 { // each sort of objection, to what a slow custodian holds
		case 0:
			o.scope, o.custodian, o.section = v1.ObjectionScope_OBJECTION_SCOPE_ALL, "", 0
		case 1:
			o.scope, o.custodian, o.section = v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, []string{"gp", "acute", "community"}[g.r.IntN(3)], 0
		case 2:
			o.scope, o.custodian, o.section = v1.ObjectionScope_OBJECTION_SCOPE_SECTION, "", objectionTo.sections[g.r.IntN(len(objectionTo.sections))]
		}
		g.all = append(g.all, o)
		if !g.record(t.Context(), d, o) {
			t.Error("an objection cannot be recorded")
			break
		}
		all.await(ctx, 3, *p, o.acked) // those on their way end, others begin and end
		if !g.withdraw(t.Context(), d, o) {
			t.Error("an objection cannot be withdrawn")
			break
		}
	}
	stop()
	load.Wait()
	idle(t, n)
	lost := g.lost(t, d)
	d.close()
	n.Stop(t)

	l := readLedger(t, n.State)
	lost += l.lost(g.all)
	h, a, m := judge(all.answers, g.all), l.accounted(all.answers), l.met(all.answers, g.all)
	given, cut, releases := count(all.answers)
	t.Logf("%d objections recorded and withdrawn; %d requests, %d answers that show something, %d releases with a receipt; %v", len(g.all), all.requests.Load(), given, releases, sorts(all.answers))
	t.Logf("requests on their way when an objection was recorded: %d were then released without what it covers, %d parts of streams were, %d ended with nothing more; %d releases of theirs stand before it",
		m.rebuilt, m.chunks, m.ended, m.before)
	figure.Report(t, figure.Figure{Name: "objections while requests run: not honoured", Seen: len(h.breaches), Of: h.bound, What: "answers that began under one", Seed: seed,
		More: fmt.Sprintf("and of %d released after one", h.ordered)})
	figure.Report(t, figure.Figure{Name: "objections while requests run: disclosures without a durable entry", Seen: len(a.problems), Of: given, What: "answers that show something", Seed: seed})
	figure.Report(t, figure.Figure{Name: "objections while requests run: acknowledged consent writes lost", Seen: lost, Of: g.acked(), What: "acknowledged", Seed: seed})
	report(t, h.breaches)
	report(t, a.problems)
	report(t, g.problem)
	// Preferences that change twice while one answer is made are a refusal (503); nothing else is.
	if n := turned(all.answers); n > rounds {
		t.Errorf("%d requests were answered with 503 or UNAVAILABLE, of %d", n, all.requests.Load())
	}
	if cut > 0 {
		t.Errorf("%d answers were cut off", cut)
	}
	if l.report.Open != 0 || l.report.ByType[audit.TypeAbandoned] != 0 {
		t.Errorf("%d accesses open, %d abandoned, want none", l.report.Open, l.report.ByType[audit.TypeAbandoned])
	}
	if m.rebuilt < rounds/6 || m.chunks < rounds/6 || m.before == 0 || h.bound < rounds {
		t.Error("the objections did not meet enough requests to prove anything")
	}
}

// idle holds that a demo that nobody asks any more holds nothing: no memory of a request, and no open access.
func idle(t *testing.T, n *neighbourhood.Neighbourhood) {
	t.Helper()
	text := ""
	for began := time.Now(); time.Since(began) < 3*time.Second; pause(t.Context(), 20*time.Millisecond) { // the last answers have left, their requests end
		text = n.Metrics(t)
		if strings.Contains(text, "\nmcr_bytes_in_flight 0\n") && strings.Contains(text, "\nmcr_ledger_open 0\n") {
			return
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "mcr_bytes_in_flight ") || strings.HasPrefix(line, "mcr_ledger_open ") {
			t.Errorf("when nobody asks any more: %s", line)
		}
	}
}

// turned counts requests that were turned away for a while.
func turned(answers []*answer) (n int) {
	for _, a := range answers {
		if a.status == http.StatusServiceUnavailable || a.code == codes.Unavailable {
			n++
		}
	}
	return n
}

// meeting counts what became of requests that were on their way when an objection of their person was recorded.
type meeting struct {
	rebuilt int // released whole, after the objection
	chunks  int // parts of streams released after it
	ended   int // closed after it, with nothing (more) shown
	before  int // parts that were released before it
}

func (l *ledger) met(answers []*answer, all []*objection) (m meeting) {
	of := map[person][]*objection{}
	for _, o := range all {
		of[o.about] = append(of[o.about], o)
	}
	for _, a := range answers {
		begin, ok := l.begins[a.id]
		if !ok {
			continue
		}
		for _, position := range l.under[begin] {
			for _, o := range of[a.about] {
				f := l.entries[position]
				switch {
				case o.position < begin || o.position > slices.Max(l.under[begin]): // it was not on its way then
				case position < o.position:
					m.before++
				case !o.precedes(&receipt{position: position}):
				case f.Type == audit.TypeReleased && a.face != byStreamRecord:
					m.rebuilt++
				case f.Type == audit.TypeChunk:
					m.chunks++
				case f.Type == audit.TypeRefused || f.Type == audit.TypeNothing:
					m.ended++
				}
			}
		}
	}
	return m
}
