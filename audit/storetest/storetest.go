// Package storetest is what "implements audit.Store" means: one suite for every store. A store's tests say how one is made, opened anew and made to
// fail; the rest is here.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Place is where one store's rows are. Open opens it: the first time it is empty, and later it holds what was kept.
type Place interface {
	Open(t testing.TB) audit.Store
}

var ctx = context.Background()

func at(second int) time.Time { return time.Date(2026, 11, 1, 9, 0, second, 0, time.UTC) }

// hash is a keyed hash as far as a store can tell.
func hash(b byte) string { return string(bytes.Repeat([]byte{b, 0xff, 0x00, 0x80}, 8)) }

// The marks and people of these tests. Values are bytes, not text, and may be empty.
var (
	vocabulary = []audit.Mark{{Kind: audit.MarkPerson, Value: hash(1)}, {Kind: audit.MarkPerson, Value: hash(2)}, {Kind: audit.MarkUser, Value: hash(1)},
		{Kind: audit.MarkCustodian, Value: "gp"}, {Kind: audit.MarkOrganisation, Value: "X9A01"}, {Kind: audit.MarkPolicy}}
	people = []string{hash(1), hash(2), hash(3)}
)

func entry(position uint64, r int) audit.Entry {
	e := audit.Entry{Position: position, Version: 1, Type: audit.EntryType(1 + r%15), Time: at(int(position) / 2), Epoch: uint32(1 + r%3), Sealed: []byte{0, 0xff, byte(r), byte(position)}}
	e.Commitment, e.Leaf = [32]byte{byte(position), 1, byte(r)}, [32]byte{byte(position), 2, 0xff, byte(r)}
	return e
}

// Run holds a store to the contract.
func Run(t *testing.T, place func(t testing.TB) Place) {
	t.Run("every method", func(t *testing.T) { everyMethod(t, place) })
	t.Run("an error undoes", func(t *testing.T) { undoes(t, place(t)) })
	t.Run("positions", func(t *testing.T) { positions(t, place(t)) })
	t.Run("a view is one state", func(t *testing.T) { isolation(t, place(t)) })
	t.Run("contexts", func(t *testing.T) { contexts(t, place(t)) })
	t.Run("expecting changes nothing", func(t *testing.T) { expecting(t, place(t)) })
}

func closing(t testing.TB, s audit.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// matches holds what a View sees against the model.
func matches(t testing.TB, s audit.Store, m *model, when string) {
	t.Helper()
	if err := s.View(ctx, m.differs); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
}

const ownBug = "a caller's own bug"

var errGiveUp = errors.New("the caller gives up")

// everyMethod does things in any order, in transactions that are kept, given up and panicked out of, and asks everything of the store: within each
// transaction, after it, and when it is opened anew.
func everyMethod(t *testing.T, place func(t testing.TB) Place) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // each asks some hundred questions several times
		if err := f.Value.Set("10"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		where := place(t)
		s := where.Open(t)
		defer func() { closing(t, s) }()
		m := newModel()
		for n := range rapid.IntRange(1, 4).Draw(rt, "transactions") {
			var next *model
			end := rapid.SampledFrom([]string{"commit", "commit", "give up", "panic"}).Draw(rt, "end")
			panicked, calls := false, 0
			err := func() (err error) {
				defer func() {
					switch p := recover(); p {
					case nil:
					case ownBug:
						panicked = true
					default:
						panic(p)
					}
				}()
				return s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
					calls++
					next = m.clone()
					if err := steps(rt, twice{tx, next}); err != nil {
						return err
					}
					if err := next.differs(tx); err != nil {
						return fmt.Errorf("within the transaction: %w", err)
					}
					switch end {
					case "give up":
						return errGiveUp
					case "panic":
						panic(ownBug)
					}
					return nil
				})
			}()
			switch {
			case calls != 1:
				rt.Fatalf("transaction %d: called %d times", n, calls)
			case end == "give up" && !errors.Is(err, errGiveUp), end == "commit" && err != nil, panicked != (end == "panic"):
				rt.Fatalf("transaction %d, %s: %v, panicked: %v", n, end, err, panicked)
			case end == "commit":
				m = next
			}
			if err := s.View(ctx, m.differs); err != nil {
				rt.Fatalf("after transaction %d, %s: %v", n, end, err)
			}
		}
		closing(t, s)
		s = where.Open(t)
		if err := s.View(ctx, m.differs); err != nil {
			rt.Fatalf("opened anew: %v", err)
		}
	})
}

// steps writes something of everything.
func steps(rt *rapid.T, w twice) error {
	appended := false
	for range rapid.IntRange(0, 8).Draw(rt, "steps") {
		size := w.m.head.Size
		var err error
		r := rapid.IntRange(0, 200).Draw(rt, "which")
		some := uint64(0)
		if size > 0 {
			some = uint64(r) % size
		}
		step := rapid.SampledFrom([]string{"append", "append", "append", "tree", "checkpoint", "erase", "object", "drop", "open", "close", "alert", "deliver", "review", "ask", "expect"}).Draw(rt, "step")
		if size == 0 {
			step = "append"
		}
		switch step {
		case "append":
			var marks []audit.Mark
			for i, k := range vocabulary {
				if r>>i&1 == 1 {
					marks = append(marks, k)
				}
			}
			if len(marks) > 0 && r%3 == 0 {
				marks = append(marks, marks[0]) // given twice, counts once
			}
			err, appended = w.append(entry(size, r), marks), true
		case "tree":
			err = w.plant()
		case "checkpoint":
			err = w.checkpoint(audit.Checkpoint{Size: 1 + some, At: at(r), Note: []byte{byte(r), 0, 0xff}})
		case "erase":
			err = w.erase(some)
		case "object":
			err = w.object(audit.ObjectionRow{ID: fmt.Sprintf("objection-%d", r%4), Person: people[r%3], Position: some})
		case "drop":
			err = w.drop(fmt.Sprintf("objection-%d", r%4))
		case "open":
			if _, is := w.m.open[some]; !is {
				err = w.open(some, held{at(r % 40), []string{"", "one", "two"}[r%3]})
			}
		case "close":
			err = w.close(some)
		case "alert":
			if !slices.ContainsFunc(w.m.alerts, func(a audit.AlertRow) bool { return a.Position == some }) {
				err = w.alert(some, []audit.AlertKind{audit.AlertBreakGlass, audit.AlertAfterNo, "same-surname"}[r%3])
			}
		case "deliver":
			err = w.delivered(some, at(r))
		case "review":
			if some > 0 { // the first entry begins a ledger, and reviews nothing
				err = w.reviewed(some-1, some*uint64(min(r%4, 1))) // or open again
			}
		case "ask":
			err = w.m.differs(w.tx)
		case "expect":
			err = w.tx.Expect(audit.Wanted{Marks: vocabulary[:r%len(vocabulary)], Persons: people[:r%3], Open: []uint64{some, size}})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	if appended {
		return w.plant()
	}
	return nil
}

// begin writes a first entry, so that there is something to stand on.
func begin(t testing.TB, s audit.Store) *model {
	t.Helper()
	m := newModel()
	err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
		w := twice{tx, m}
		return errors.Join(w.append(entry(0, 7), vocabulary[:2]), w.plant())
	})
	if err != nil {
		t.Fatalf("the first entry: %v", err)
	}
	return m
}

// undoes: what f returns is what Update returns, and nothing is kept; the same of what a store itself refuses.
func undoes(t *testing.T, where Place) {
	s := where.Open(t)
	defer closing(t, s)
	m := begin(t, s)
	for what, f := range map[string]func(w twice) error{
		"an error": func(w twice) error { return errors.Join(w.append(entry(1, 1), vocabulary), w.plant(), errGiveUp) },
		"a tree that was forgotten": func(w twice) error {
			return w.append(entry(1, 1), vocabulary)
		},
		"a frontier of another size": func(w twice) error {
			return errors.Join(w.append(entry(1, 1), nil), w.tx.PutTree(make([][32]byte, 3), nil))
		},
		"an access that is opened twice":  func(w twice) error { return errors.Join(w.open(0, held{at(1), ""}), w.tx.OpenAccess(0, at(2), "")) },
		"a kind of alert that is no kind": func(w twice) error { return w.tx.PutAlert(0, "") },
		"an alert twice": func(w twice) error {
			return errors.Join(w.alert(0, audit.AlertAfterNo), w.tx.PutAlert(0, audit.AlertAfterNo))
		},
		"a hash of another length": func(w twice) error { return w.tx.PutObjection(audit.ObjectionRow{ID: "x", Person: "short"}) },
	} {
		err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error { return f(twice{tx, m.clone()}) })
		if err == nil || errors.Is(err, audit.ErrUnknownOutcome) || errors.Is(err, audit.ErrUnsound) {
			t.Errorf("%s: %v, want a refusal that keeps nothing", what, err)
		}
		if what == "an error" && !errors.Is(err, errGiveUp) {
			t.Errorf("%v, want the caller's own error", err)
		}
		if what == "a tree that was forgotten" && !errors.Is(err, audit.ErrDamaged) {
			t.Errorf("%v, want ErrDamaged", err)
		}
		matches(t, s, m, what)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic was swallowed")
			}
		}()
		_ = s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
			w := twice{tx, m.clone()}
			_ = errors.Join(w.append(entry(1, 1), vocabulary), w.plant(), m.differs(tx)) // undone all the same
			panic(ownBug)
		})
	}()
	matches(t, s, m, "a panic")
	if err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error { w := twice{tx, m}; return errors.Join(w.append(entry(1, 1), nil), w.plant()) }); err != nil {
		t.Fatalf("a transaction after those: %v", err)
	}
	matches(t, s, m, "a transaction after those")
}

// positions come from the head row: whatever was undone, the next is the head's size, and no other is taken.
func positions(t *testing.T, where Place) {
	s := where.Open(t)
	defer closing(t, s)
	m := begin(t, s)
	for _, wrong := range []uint64{0, 2, 1 << 40} {
		err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
			return errors.Join(tx.Append(entry(wrong, 1), nil), tx.PutTree(make([][32]byte, 1), nil))
		})
		if !errors.Is(err, audit.ErrDamaged) {
			t.Errorf("an entry for position %d: %v, want ErrDamaged", wrong, err)
		}
	}
	for i := range 5 { // a sequence would leave gaps
		_ = s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error { return errors.Join(tx.Append(entry(uint64(1+i), 1), nil), errGiveUp) })
		if err := s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
			w := twice{tx, m}
			return errors.Join(w.append(entry(uint64(1+i), i), nil), w.plant())
		}); err != nil {
			t.Fatalf("after one that was given up: %v", err)
		}
	}
	matches(t, s, m, "after some that were given up")
}

// isolation: a View sees one state, whatever is written meanwhile, and one that begins after an Update has returned sees it.
func isolation(t *testing.T, where Place) {
	s := where.Open(t)
	defer closing(t, s)
	m := begin(t, s)
	old := m.clone()
	add := func() error {
		return s.Update(ctx, audit.Wanted{}, func(tx audit.Tx) error {
			w := twice{tx, m}
			n := m.head.Size
			return errors.Join(w.append(entry(n, int(n)), vocabulary[:1+n%5]), w.plant(), w.open(n, held{at(1), "one"}), w.object(audit.ObjectionRow{ID: "o", Person: people[n%3], Position: n}))
		})
	}
	err := s.View(ctx, func(r audit.Reader) error {
		if err := old.differs(r); err != nil {
			return err
		}
		if err := add(); err != nil {
			return err
		}
		if err := old.differs(r); err != nil {
			return fmt.Errorf("while somebody wrote: %w", err)
		}
		return s.View(ctx, m.differs) // a second one, begun later
	})
	if err != nil {
		t.Fatal(err)
	}
	// Many that read and one that writes: each sees the newest that was kept before it began, whole.
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	kept := m.head.Size
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				least := kept
				mu.Unlock()
				err := s.View(ctx, func(r audit.Reader) error {
					head, err := r.Head()
					if err != nil {
						return err
					}
					open, err := r.OpenCount()
					if err != nil {
						return err
					}
					if head.Size < least || open != int(head.Size)-1 {
						return fmt.Errorf("size %d with %d open, and %d were kept before", head.Size, open, least)
					}
					return nil
				})
				if err != nil {
					t.Errorf("reading: %v", err)
					return
				}
			}
		})
	}
	for range 50 {
		if err := add(); err != nil {
			t.Errorf("writing: %v", err)
		}
		mu.Lock()
		kept = m.head.Size
		mu.Unlock()
	}
	close(stop)
	wg.Wait()
	matches(t, s, m, "at the end")
}

// contexts: a transaction is not given up because nobody waits for it; a View is.
func contexts(t *testing.T, where Place) {
	s := where.Open(t)
	defer closing(t, s)
	m := begin(t, s)
	gone, cancel := context.WithCancel(ctx)
	err := s.Update(gone, audit.Wanted{}, func(tx audit.Tx) error {
		cancel()
		w := twice{tx, m}
		return errors.Join(w.append(entry(1, 1), vocabulary), w.plant())
	})
	if err != nil {
		t.Fatalf("a transaction whose caller left while it ran: %v", err)
	}
	matches(t, s, m, "a transaction whose caller left")
	if err := s.View(gone, func(r audit.Reader) error { _, err := r.Head(); return err }); err == nil {
		t.Error("a View whose caller is gone reads on")
	}
	leaving, leave := context.WithCancel(ctx)
	err = s.View(leaving, func(r audit.Reader) error {
		leave()
		_, err := r.Head()
		return err
	})
	if err == nil {
		t.Error("a View whose caller leaves reads on")
	}
	matches(t, s, m, "after views that were given up")
}

// expecting: what is fetched ahead is what would have been read, also where the transaction changes it.
func expecting(t *testing.T, where Place) {
	s := where.Open(t)
	defer closing(t, s)
	m := begin(t, s)
	for round := range 3 { // ahead of the transaction, in it, and both
		n := m.head.Size
		wanted := audit.Wanted{Marks: vocabulary, Persons: people, Open: []uint64{0, n - 1, n, 99}}
		var ahead audit.Wanted
		if round != 1 {
			ahead = wanted
		}
		err := s.Update(ctx, ahead, func(tx audit.Tx) error {
			w := twice{tx, m}
			if round != 0 {
				if err := tx.Expect(wanted); err != nil {
					return err
				}
			}
			ask := func(err error) error {
				if err != nil {
					return err
				}
				at, found, err := tx.Newest(vocabulary[:1])
				wantAt, wantFound := m.newest(vocabulary[:1])
				rows, err2 := tx.ObjectionsOf(people)
				open, err3 := tx.IsOpen(n)
				_, isOpen := m.open[n]
				if at != wantAt || found != wantFound || len(rows) != len(m.objections) || open != isOpen {
					return fmt.Errorf("newest %d %v, %d objections, open %v; want %d %v, %d, %v", at, found, len(rows), open, wantAt, wantFound, len(m.objections), isOpen)
				}
				return errors.Join(err, err2, err3)
			}
			return errors.Join(ask(nil), ask(w.append(entry(n, int(n)), vocabulary[:2])), ask(w.object(audit.ObjectionRow{ID: "a", Person: people[n%3], Position: n})),
				ask(w.open(n, held{at(1), ""})), ask(w.object(audit.ObjectionRow{ID: fmt.Sprint(n), Person: people[0], Position: n})), ask(w.close(n)), ask(w.drop("a")),
				ask(w.append(entry(n+1, 3), vocabulary[:1])), w.plant(), m.differs(tx))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	matches(t, s, m, "after what was expected")
}
