package audit_test

import (
	"errors"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// TestMain takes few checks of each property where the command line says nothing: each opens ledgers on real files.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		checks := "25"
		if underRace {
			checks = "8"
		}
		_ = f.Value.Set(checks) // a number
	}
	os.Exit(m.Run())
}

// Whatever is done, in any order, with faults and kills in between: the objections are those of a plain model, what is released obeys it,
// and the projection that the store keeps is the one that the entries make (Verify, and the self-test at each start).
func TestLedgerAgainstAModel(t *testing.T) {
	people := []record.NHSNumber{number(t, "9990000018"), number(t, "9990000026")}
	type held struct {
		opened audit.Opened
		permit consent.Permit
		who    record.NHSNumber
		ledger *audit.Ledger
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := audittest.New(t, audit.Config{})
		defer func() { p.Close(t) }()
		model := map[record.NHSNumber]map[string]consent.Objection{people[0]: {}, people[1]: {}}
		var open []held
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			who := rapid.SampledFrom(people).Draw(rt, "who")
			fault := rapid.SampledFrom([]audittest.Fault{audittest.None, audittest.None, audittest.None, audittest.Lost, audittest.Kept, audittest.UnknownLost}).Draw(rt, "fault")
			if fault != audittest.None {
				p.Store.Fail(1, fault)
			}
			again := func(f func() error) error { // a caller that repeats until it is told
				for {
					if err := f(); !errors.Is(err, audit.ErrUnavailable) {
						return err
					}
				}
			}
			switch rapid.SampledFrom([]string{"object", "withdraw", "begin", "release", "read", "restart", "kill"}).Draw(rt, "step") {
			case "object":
				o, k := objection(rapid.SampledFrom([]consent.Scope{consent.ToAll, consent.ToCustodian, consent.ToSection}).Draw(rt, "scope")), key()
				var made consent.Objection
				if err := again(func() (err error) { made, _, err = p.Ledger.RecordObjection(ctx, actor(), who, o, k); return err }); err != nil {
					rt.Fatalf("object: %v", err)
				}
				model[who][made.ID] = made
			case "withdraw":
				var id string
				for id = range model[who] {
					break
				}
				k := key()
				var gone consent.Objection
				err := again(func() (err error) {
					gone, _, err = p.Ledger.WithdrawObjection(ctx, actor(), []record.NHSNumber{who}, id, k)
					return err
				})
				if id == "" && !errors.Is(err, audit.ErrNotFound) || id != "" && err != nil {
					rt.Fatalf("withdraw: %v", err)
				}
				if id != "" {
					model[who][id] = gone
				}
			case "begin":
				a := ask{subject: who}
				prefs, err := p.Ledger.Preferences(ctx, []record.NHSNumber{who})
				if err != nil {
					rt.Fatalf("preferences: %v", err)
				}
				d := a.decide(prefs, time.Now())
				permit, ok := d.Permit()
				if !ok {
					continue
				}
				if o, err := p.Ledger.Begin(ctx, permit, a.access(time.Now(), d)); err == nil {
					open = append(open, held{o, permit, who, p.Ledger})
				}
			case "release":
				if len(open) == 0 {
					continue
				}
				h := open[0]
				open = open[1:]
				_, err := h.ledger.Release(ctx, h.opened, h.permit, shown(h.permit))
				if err != nil {
					continue
				}
				for _, o := range model[h.who] {
					if o.Status == consent.InForce && covers(o, shown(h.permit)) {
						rt.Fatalf("released over an objection that was acknowledged before")
					}
				}
			case "read":
				list, _, err := p.Ledger.ReadObjections(ctx, actor(), []record.NHSNumber{who})
				if err == nil && len(list) != len(model[who]) {
					rt.Fatalf("%d objections, want %d", len(list), len(model[who]))
				}
			case "restart":
				p = p.Reopen(t)
				open = nil
			case "kill":
				p = p.Crash(t)
				open = nil
			}
			p.Store.Heal()
		}
		r := sound(t, p.Ledger)
		total := 0
		for who, want := range model {
			total += len(want)
			prefs, err := p.Ledger.Preferences(ctx, []record.NHSNumber{who})
			if err != nil || len(prefs.Objections) != len(want) {
				rt.Fatalf("%v, %d objections, want %d", err, len(prefs.Objections), len(want))
			}
			newest := uint64(0)
			for _, o := range prefs.Objections {
				if want[o.ID] != o {
					rt.Fatalf("an objection is not as it was acknowledged")
				}
				newest = max(newest, o.Position)
			}
			if prefs.Position != newest || !slices.IsSortedFunc(prefs.Objections, func(a, b consent.Objection) int { return int(b.Position) - int(a.Position) }) {
				rt.Fatalf("version %d, want %d, newest first", prefs.Position, newest)
			}
		}
		if r.Objections != total {
			rt.Fatalf("%d objections in all, want %d", r.Objections, total)
		}
	})
}

// covers says what an objection covers, in other words than package consent does.
func covers(o consent.Objection, d audit.Disclosure) bool {
	for _, c := range d.Custodians {
		if c.Count > 0 && (o.Scope == consent.ToAll || o.Scope == consent.ToCustodian && o.Custodian == c.Key || o.Scope == consent.ToSection && c.Sections.Has(o.Section)) {
			return true
		}
	}
	return false
}
