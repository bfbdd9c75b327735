package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// torment is one or more brokers on one ledger, which are killed with SIGKILL again and again while records are read by all three ways and people change
// their minds, and everything that any caller was ever given, cut off or whole.
type torment struct {
	k        keeping
	n        *neighbourhood.Neighbourhood
	replicas []*neighbourhood.Replica
	visits   []*visit // by replica
	pointAt  string   // file that says at which point the next one dies
	who      []person
	all      *log
	g        *register
	r        *rand.Rand
	seed     uint64

	began                        time.Time // of the newest tokens
	kills, caught, unknown, lost int
	at, trouble                  map[string]int // kills by point; what else was done
	up                           []time.Duration
}

// newTorment starts a neighbourhood and the brokers. program is a built broker.
func newTorment(t *testing.T, k keeping, program string) *torment {
	t.Helper()
	m := &torment{k: k, who: people(t), all: &log{}, at: map[string]int{}, trouble: map[string]int{}, pointAt: filepath.Join(t.TempDir(), "point")}
	m.r, m.seed = withSeed(t)
	m.g = &register{r: rand.New(rand.NewPCG(m.r.Uint64(), 1)), who: m.who} //nolint:gosec // chance of a test
	m.n = neighbourhood.Start(t, neighbourhood.Options{})
	for i := range k.replicas {
		m.replicas = append(m.replicas, m.n.Replica(t, neighbourhood.ReplicaOptions{Program: program, Ledger: k.ledger(i), More: k.more, Env: m.env()}))
	}
	m.tokens(t)
	return m
}

func (m *torment) env() []string { return []string{"MCR_DIE_AT=" + m.pointAt} }

// tokens fetches tokens for everybody, before those at hand end.
func (m *torment) tokens(t *testing.T) {
	t.Helper()
	if m.visits != nil && time.Since(m.began) < 20*time.Minute {
		return
	}
	m.began = time.Now()
	all := newVisit(t, m.n, m.who)
	m.visits = nil
	for i, r := range m.replicas {
		m.visits = append(m.visits, &visit{rest: r.REST, grpc: r.GRPC, at: i, tokens: all.tokens})
	}
}

// callersOfEach is how many clients ask one broker at once.
const callersOfEach = 4

// round lets a load run, kills one broker in it, starts it again while the load of the others goes on, and then asks for everything that was acknowledged.
// point names where it is to die; "" is anywhere.
func (m *torment) round(t *testing.T, victim int, point string) {
	t.Helper()
	m.tokens(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	var desks []*desk
	started := time.Now()
	for i, v := range m.visits {
		d, err := newDesk(v)
		if err != nil {
			t.Fatal("no gRPC client")
		}
		desks = append(desks, d)
		for j := range callersOfEach {
			c, err := newCaller(v, m.all, fmt.Sprintf("k%d-b%d-c%d", m.kills, i, j))
			if err != nil {
				t.Fatal("no gRPC client")
			}
			chance := rand.New(rand.NewPCG(m.r.Uint64(), 2)) //nolint:gosec // chance of a test
			load.Go(func() {
				defer c.close()
				c.roam(ctx, chance, m.who)
			})
		}
	}
	load.Go(func() { m.g.change(ctx, desks...) })

	broker := m.replicas[victim]
	var killed time.Time
	if point == "" {
		pause(t.Context(), time.Duration(20+m.r.IntN(either(400, 250)))*time.Millisecond)
		if m.k.trouble != nil {
			m.trouble[m.k.trouble(t, m.r)]++
		}
		m.all.await(ctx, 2*len(m.replicas), person{}, started)      // however busy the machine is
		for m.all.running[victim].Load() == 0 && ctx.Err() == nil { // callers pause for no longer than it takes to begin the next call
			pause(ctx, time.Millisecond)
		}
		if m.all.running[victim].Load() > 0 {
			m.caught++
		}
		killed = time.Now()
		broker.Kill(t)
	} else {
		m.all.await(ctx, 1, person{}, started)
		if os.WriteFile(m.pointAt, fmt.Appendf(nil, "%s %d\n", point, 1+m.r.IntN(passes[point])), 0o600) != nil {
			t.Fatal("the point cannot be written down")
		}
		killed = time.Now() // it has not been before
		broker.Signal(syscall.SIGUSR1)
		select {
		case <-broker.Died():
			m.caught++
		case <-time.After(pointTime):
			t.Errorf("the broker never came to the point %s", point)
			broker.Kill(t)
		}
		if _, said := broker.Output(); strings.Contains(string(said), "died at "+point+"\n") { // another request's line may come behind it before the signal does
			m.at[point]++
		} else {
			t.Errorf("the broker ended elsewhere than at the point %s\n%s", point, broker.Tail())
		}
	}
	m.kills++
	broker.Again(t, m.env()...)
	m.up = append(m.up, broker.Ready)
	stop()
	load.Wait()
	for _, a := range m.all.answers {
		if a.began.After(started) && a.cut && (a.at != victim || a.ended.Before(killed)) {
			t.Errorf("%s %s was cut off, and nobody had killed its broker: status %d, code %v", a.face, a.id, a.status, a.code)
		}
	}
	for _, d := range desks {
		d.close()
	}
	d, err := newDesk(m.visits[m.r.IntN(len(m.visits))])
	if err != nil {
		t.Fatal("no gRPC client")
	}
	defer d.close()
	m.lost += m.g.lost(t, d)
	m.unknown += m.g.resolve(t, d)
}

// hasTime reports whether the test may go on. On a machine that is too slow for all kills it fails, and what was seen by then is reported all the same.
func (m *torment) hasTime(t *testing.T, of int) bool {
	t.Helper()
	if m.kills%25 == 0 {
		t.Logf("%d of %d kills", m.kills, of)
	}
	if end, ok := t.Deadline(); !ok || time.Until(end) > 3*time.Minute {
		return true
	}
	t.Errorf("there was time for %d of %d kills", m.kills, of)
	return false
}

// pointTime is how long a load may take to bring a broker to a point.
const pointTime = time.Minute

// passes is how often a broker may pass a point, at most, before it dies there.
var passes = map[string]int{"after-gather": 12, "in-transaction": 30, "after-commit": 12, "mid-body": 20, "while-signing": 2, "consent-ack": 3}

// points are those of test/torture/testdata/kill-points.txtar, in the order in which a request comes to them.
var points = []string{"after-gather", "in-transaction", "after-commit", "mid-body", "while-signing", "consent-ack"}

// end stops everything and holds all answers against the ledger and against what was objected to: no answer without its entry, no acknowledged
// consent change lost or not honoured, and every access closed (P1, P2, P3, R-3).
func (m *torment) end(t *testing.T, by string) {
	t.Helper()
	for _, r := range m.replicas {
		r.Stop(t)
	}
	m.n.Stop(t)
	l := readStore(t, m.k.open(t), m.k.keys)
	m.lost += l.lost(m.g.all)
	h, a := judge(m.all.answers, m.g.all), l.accounted(m.all.answers)
	abandoned, wrongly := l.abandoned(m.all.answers)
	given, cut, releases := count(m.all.answers)
	var longest time.Duration
	for _, u := range m.up {
		longest = max(longest, u)
	}
	t.Logf("%d kills, %d with requests on their way, by point %v; %d requests, %d answers that show something, of which %d cut off, %d releases with a receipt; ready again within %v",
		m.kills, m.caught, m.at, m.all.requests.Load(), given, cut, releases, longest)
	t.Logf("answers by what they were: %v", sorts(m.all.answers))
	t.Logf("%d consent changes acknowledged, %d of unknown outcome made again; %d answers began under an objection, %d were released after one",
		m.g.acked(), m.unknown, h.bound, h.ordered)
	t.Logf("ledger: %d entries, %d abandoned, %d open; %d receipts and %d resources found in it, and the custodian of %d that were cut off or are the broker's own",
		l.report.Entries, abandoned, l.report.Open, a.receipts, a.digests, a.parts)

	name := fmt.Sprintf("kill -9 %s, %s: ", by, m.k.name)
	load := fmt.Sprintf("%d kills", m.kills)
	figure.Report(t, figure.Figure{Name: name + "disclosures without a durable entry", Seen: len(a.problems), Of: given, What: "answers that show something", Seed: m.seed, More: load})
	figure.Report(t, figure.Figure{Name: name + "acknowledged objections not honoured", Seen: len(h.breaches), Of: h.bound, What: "answers that began under one", Seed: m.seed, More: load})
	figure.Report(t, figure.Figure{Name: name + "acknowledged consent writes lost", Seen: m.lost, Of: m.g.acked(), What: "acknowledged", Seed: m.seed, More: load})
	figure.Report(t, figure.Figure{Name: name + "kills after which any of these was so", Seen: len(a.problems) + len(h.breaches) + m.lost, Of: m.kills, What: "kills", Seed: m.seed})
	if m.k.trouble != nil { // a change of preferences twice in one request is a refusal, too: it is no more often so than without any trouble
		figure.Note(t, "%sbeside the kills Redis was %v; %d of %d requests were refused as unavailable", name, m.trouble, refusedFor(m.all.answers), m.all.requests.Load())
	}
	report(t, a.problems)
	report(t, h.breaches)
	report(t, m.g.problem)
	report(t, wrongly)
	if l.report.Open != 0 {
		t.Errorf("%d accesses were never closed", l.report.Open)
	}
	for f := range faces {
		if n := answersBy(m.all.answers, f); n < m.kills/4 {
			t.Errorf("%d answers by %s: the load was too small to prove anything", n, f)
		}
	}
	if m.caught < m.kills || abandoned < m.kills/2 || m.g.acked() < m.kills || m.unknown < m.kills/10 || h.bound < m.kills/2 || h.ordered < m.kills/2 {
		t.Error("the kills did not meet enough of a load to prove anything")
	}
}

// refusedFor counts requests that a broker turned away for a while. Those that a kill cut off are not among them.
func refusedFor(answers []*answer) (n int) {
	for _, a := range answers {
		if !a.cut && (a.status == http.StatusServiceUnavailable || a.code == codes.Unavailable) {
			n++
		}
	}
	return n
}

// plain is the broker as it is shipped.
func plain(t *testing.T) string { t.Helper(); return neighbourhood.Program(t, "broker") }

// withPoints is the broker with the points at which it can be made to die. While none is named it is the same.
func withPoints(t *testing.T) string {
	t.Helper()
	return neighbourhood.ProgramWith(t, "broker", readPatch(t, "testdata/kill-points.txtar").overlay(t))
}

// TestKills kills brokers at any moment.
func TestKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	for _, keep := range keepingsOfToday("SQLite", "PostgreSQL and Redis") {
		t.Run(keep.name, func(t *testing.T) {
			program := either(withPoints, plain)(t)
			m := newTorment(t, keep.make(t, program), program)
			for n := rounds(8/len(m.replicas), 500, 4/len(m.replicas)); m.kills < n && m.hasTime(t, n); {
				m.round(t, m.r.IntN(len(m.replicas)), "")
			}
			m.end(t, "at any moment")
		})
	}
}

// TestKillsAtPoints kills brokers where a kill could do most harm.
func TestKillsAtPoints(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	for _, keep := range keepingsOfToday("SQLite") {
		t.Run(keep.name, func(t *testing.T) {
			program := withPoints(t)
			m := newTorment(t, keep.make(t, program), program)
			for n := rounds(1, 50, 1) * len(points); m.kills < n && m.hasTime(t, n); {
				m.round(t, m.r.IntN(len(m.replicas)), points[m.kills%len(points)])
			}
			m.end(t, "at named points")
			for _, point := range points {
				figure.Note(t, "kill -9 at named points, %s: %d at %s", m.k.name, m.at[point], point)
			}
		})
	}
}

// rounds returns how many there are: for every day, when there is time, and under the race detector.
func rounds(short, ifLong, underRaceDetector int) int {
	if underRace && !long() {
		return underRaceDetector
	}
	return either(short, ifLong)
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
