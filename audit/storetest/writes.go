package storetest

import (
	"errors"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Fault makes the next commit of a store fail, and says afterwards what to go on with: the store itself, or the place opened anew.
type Fault struct {
	Name string
	Kept bool // the transaction is kept all the same
	Slow bool // it is tried once, with a transaction that writes something of everything
	Arm  func(t testing.TB, s audit.Store)
	Heal func(t testing.TB, s audit.Store) audit.Store
}

// Writes holds a store to what it must say when a commit fails, for each kind of write: failed, and failed but kept. Nothing in between is
// ever seen, and the store goes on when it is healed.
func Writes(t *testing.T, place func(t testing.TB) (Place, []Fault)) {
	_, all := place(t)
	for name, write := range map[string]func(w twice) error{
		"append": func(w twice) error { return errors.Join(w.append(entry(w.m.head.Size, 3), vocabulary), w.plant()) },
		"tree":   func(w twice) error { return w.plantAs(2) },
		"checkpoint": func(w twice) error {
			return w.checkpoint(audit.Checkpoint{Size: 1, At: at(3), Note: []byte("note")})
		},
		"erase":      func(w twice) error { return w.erase(0) },
		"objection":  func(w twice) error { return w.object(audit.ObjectionRow{ID: "new", Person: people[2]}) },
		"withdrawal": func(w twice) error { return w.object(audit.ObjectionRow{ID: "o", Person: people[1]}) },
		"drop":       func(w twice) error { return w.drop("o") },
		"open":       func(w twice) error { return w.open(1, held{at(9), "one"}) },
		"close":      func(w twice) error { return w.close(0) },
		"alert":      func(w twice) error { return w.alert(1, audit.AlertAfterNo) },
		"delivery":   func(w twice) error { return w.delivered(0, at(5)) },
		"review":     func(w twice) error { return w.reviewed(0, 1) },
		"all of it": func(w twice) error {
			return errors.Join(w.append(entry(w.m.head.Size, 3), vocabulary), w.plant(), w.erase(0), w.drop("o"), w.close(0), w.alert(1, audit.AlertBreakGlass))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range all {
				if all[i].Slow && name != "all of it" {
					continue
				}
				t.Run(all[i].Name, func(t *testing.T) {
					where, faults := place(t)
					f := faults[i]
					s := where.Open(t)
					defer func() { closing(t, s) }()
					m := begin(t, s)
					err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
						w := twice{tx, m}
						return errors.Join(w.append(entry(1, 1), nil), w.plant(), w.open(0, held{at(1), ""}), w.object(audit.ObjectionRow{ID: "o", Person: people[0]}), w.alert(0, audit.AlertAfterNo))
					})
					if err != nil {
						t.Fatal(err)
					}
					after := m.clone()
					f.Arm(t, s)
					err = s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error { return write(twice{tx, after}) })
					if err == nil {
						t.Fatal("a commit that failed was acknowledged")
					}
					if f.Kept && !errors.Is(err, audit.ErrUnknownOutcome) {
						t.Fatalf("%v, and it was kept: want ErrUnknownOutcome", err)
					}
					s = f.Heal(t, s)
					if f.Kept {
						m = after
					}
					matches(t, s, m, "after the fault")
					if err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
						w := twice{tx, m}
						return errors.Join(w.append(entry(m.head.Size, 5), nil), w.plant())
					}); err != nil {
						t.Fatalf("the next transaction: %v", err)
					}
					matches(t, s, m, "after the next transaction")
				})
			}
		})
	}
}
