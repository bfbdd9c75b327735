package torture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// nextSchema is the broker of a later version: one whose stores know one migration more.
func nextSchema(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs(neighbourhood.Root(t))
	if err != nil {
		t.Fatal("the module has no path")
	}
	dir := filepath.Join(os.Getenv(neighbourhood.ProgramsVariable), "overlay-next-schema")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal("no folder for changed sources")
	}
	replace := map[string]string{}
	for _, store := range []string{"sqlite", "postgres"} {
		folder := filepath.Join(top, "audit", store, "migrations")
		known, err := filepath.Glob(filepath.Join(folder, "*.sql"))
		if err != nil || len(known) < 2 {
			t.Fatalf("%d migrations of %s", len(known), store)
		}
		text := filepath.Join(dir, store+".sql")
		if err := os.WriteFile(text, []byte("CREATE TABLE of_a_later_version (n INTEGER);\nALTER TABLE open_accesses ADD COLUMN of_a_later_version INTEGER;\n"), 0o600); err != nil {
			t.Fatal("a migration cannot be written")
		}
		replace[filepath.Join(folder, fmt.Sprintf("%04d_later.sql", len(known)+1))] = text
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	overlay := filepath.Join(dir, "overlay.json")
	if err != nil || os.WriteFile(overlay, text, 0o600) != nil {
		t.Fatal("an overlay cannot be written")
	}
	return neighbourhood.ProgramWith(t, "broker", overlay)
}

// TestOldAndNewBroker lets a broker of a later version, which knows one migration more, take up the ledger of the one at hand, and goes back: the later one serves on
// what the old one wrote, with all that people chose; the old one refuses what it does not know, in a sentence, changes nothing, and the later one goes on. Where
// replicas are brought up to date one after the other, the old one that still runs serves nobody from the moment on at which the schema is another.
func TestOldAndNewBroker(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	for _, keep := range keepingsOfToday("SQLite", "PostgreSQL") {
		if keep.name != "SQLite" && keep.name != "PostgreSQL" {
			continue
		}
		t.Run(keep.name, func(t *testing.T) {
			program, later := neighbourhood.Program(t, "broker"), nextSchema(t)
			k := keep.make(t, program)
			n, who := neighbourhood.Start(t, neighbourhood.Options{}), people(t)
			start := func(program string, replica int) *neighbourhood.Replica {
				t.Helper()
				return n.Replica(t, neighbourhood.ReplicaOptions{Program: program, Ledger: k.ledger(replica)})
			}
			r, seed := withSeed(t)
			g, all := &register{r: rand.New(rand.NewPCG(r.Uint64(), 1)), who: who}, &log{} //nolint:gosec // chance of a test
			tokens := newVisit(t, n, who).tokens
			wrong, tried := 0, 0
			// choose has somebody object, or withdraw what was said before, and then asks for all that was chosen.
			choose := func(at *neighbourhood.Replica, when string) {
				t.Helper()
				v := &visit{rest: at.REST, grpc: at.GRPC, tokens: tokens}
				d, err := newDesk(v)
				if err != nil {
					t.Fatal("no gRPC client")
				}
				defer d.close()
				c, err := newCaller(v, all, "u"+when)
				if err != nil {
					t.Fatal("no gRPC client")
				}
				defer c.close()
				o := &objection{about: who[len(g.all)%len(who)], by: "ig-officer", scope: v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, custodian: "gp"}
				g.all = append(g.all, o)
				if !g.record(t.Context(), d, o) {
					t.Fatalf("%s: an objection is not taken", when)
				}
				if len(g.all) == 2 && !g.withdraw(t.Context(), d, g.all[0]) {
					t.Fatalf("%s: an objection is not let go of", when)
				}
				for f := range faces {
					for _, o := range g.all {
						c.ask(t.Context(), f, doctor, o.about)
						tried++
					}
				}
				if lost := g.lost(t, d); lost > 0 {
					wrong += lost
					t.Errorf("%s: %d acknowledged choices are lost", when, lost)
				}
			}
			refused := func(old *neighbourhood.Replica, when string) {
				t.Helper()
				tried++
				if err := old.TryAgain(t); err == nil {
					wrong++
					old.Stop(t)
					t.Errorf("%s: the old broker starts on a schema that it does not know", when)
					return
				}
				if _, said := old.Output(); !strings.Contains(string(said), "run the newer program") {
					t.Errorf("%s: it does not say what to do: %s", when, tail(said))
				}
			}

			old := start(program, 0)
			choose(old, "old")
			var next *neighbourhood.Replica
			if k.replicas == 1 {
				old.Stop(t)
				next = start(later, 0)
			} else {
				next = start(later, 1) // beside the old one, which finds another schema under it
				v := &visit{rest: old.REST, grpc: old.GRPC, tokens: tokens}
				c, err := newCaller(v, all, "beside")
				if err != nil {
					t.Fatal("no gRPC client")
				}
				for f := range faces {
					tried++
					if a := c.ask(t.Context(), f, doctor, who[3]); a.shows() {
						wrong++
						t.Errorf("the old broker serves %s on a schema that it does not know", f)
					}
				}
				c.close()
				old.Kill(t) // it has nothing that it could still write
			}
			choose(next, "new")
			next.Stop(t)
			refused(old, "once")
			next.Again(t)
			choose(next, "again")
			if k.replicas == 1 {
				next.Stop(t)
			}
			refused(old, "twice")
			if k.replicas > 1 {
				next.Stop(t)
			}
			n.Stop(t)
			for _, a := range all.answers {
				if !a.shows() && !strings.HasPrefix(a.id, "beside") {
					wrong++
					t.Errorf("%s %s shows nothing: status %d, code %v", a.face, a.id, a.status, a.code)
				}
			}
			h := judge(all.answers, g.all)
			report(t, h.breaches)
			report(t, g.problem)
			if h.bound < 6 {
				t.Errorf("%d answers began under an objection: too few to prove anything", h.bound)
			}
			figure.Report(t, figure.Figure{Name: "old broker on a new schema and back, ledger on " + keep.name + ": served what it does not know, lost a choice, or did not honour one", Seen: wrong + len(h.breaches),
				Of: tried, What: "starts and answers", Seed: seed, More: fmt.Sprintf("%d answers under an objection", h.bound)})
		})
	}
}
