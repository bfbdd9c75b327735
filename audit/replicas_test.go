package audit_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// shared lets two ledgers write one store in turns, as a database that several processes share does.
type shared struct {
	audit.Store
	turn *sync.Mutex
}

func (s shared) Update(ctx context.Context, ahead audit.Wanted, f func(audit.Tx) error) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.Store.Update(ctx, ahead, f)
}

// turns holds one turn for each store, however often replicas is called for it.
var turns sync.Map

// replicas makes ledgers on the store of p, which has a ledger of its own that is closed.
func replicas(t *testing.T, p *audittest.Place, change func(*audit.Config)) func(name string) *audit.Ledger {
	t.Helper()
	one, _ := turns.LoadOrStore(p.Store, &sync.Mutex{})
	turn := one.(*sync.Mutex)
	return func(name string) *audit.Ledger {
		c := p.Config
		c.Store, c.Replica, c.Sinks = shared{p.Store, turn}, name, audittest.Sinks(t, c, p.Path)
		if change != nil {
			change(&c)
		}
		l, err := audit.Open(ctx, c)
		if err != nil {
			t.Fatalf("opening %s: %v", name, err)
		}
		t.Cleanup(func() {
			if err := l.Shutdown(ctx); err != nil {
				t.Errorf("ending %s: %v", name, err)
			}
		})
		return l
	}
}

// A replica that starts or ends closes the accesses of its own earlier life, and of no other.
func TestReplicasLeaveEachOthersAccessesOpen(t *testing.T) {
	p := audittest.New(t, audit.Config{Sweep: time.Hour})
	open := replicas(t, p, nil)
	one, two := open("one"), open("two")
	a := ask{subject: number(t, "9990000018")}
	ofOne, permit := a.begin(t, one)
	ofTwo, _ := a.begin(t, two)
	again := open("one") // as after a kill: the first one wrote no closing entry
	if _, err := again.Close(ctx, ofOne, audit.TypeNothing, "", audit.Disclosure{}); !errors.Is(err, audit.ErrNotPermitted) {
		t.Errorf("an access of the earlier life: %v, want ErrNotPermitted", err)
	}
	if _, err := one.Release(ctx, ofOne, permit, shown(permit)); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("the earlier life's own release: %v, want ErrClosed", err)
	}
	if _, err := two.Release(ctx, ofTwo, permit, shown(permit)); err != nil {
		t.Errorf("the other replica's release: %v", err)
	}
	ofTwo, _ = a.begin(t, two)
	if err := again.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Release(ctx, ofTwo, permit, shown(permit)); err != nil {
		t.Errorf("a release after another replica ended: %v", err)
	}
	wantEntries(t, p, audit.TypeBegin, audit.TypeBegin, audit.TypeAbandoned, audit.TypeReleased, audit.TypeBegin, audit.TypeReleased)
	sound(t, two)
}

// What a replica left open is closed by the others when it is overdue, and not before the difference of clocks that is tolerated has passed too.
func TestOverdueAccessesOfOtherReplicas(t *testing.T) {
	clock := newClock()
	p := audittest.New(t, audit.Config{Now: clock.now, Sweep: time.Hour})
	open := replicas(t, p, func(c *audit.Config) { c.Sweep = 5 * time.Millisecond })
	one := open("one")
	open("two")
	a := ask{subject: number(t, "9990000018")}
	sleeping := replicas(t, p, nil)("three") // it sweeps once an hour: as good as gone
	a.begin(t, sleeping)
	swept := func(after time.Duration) int {
		clock.add(after)
		time.Sleep(50 * time.Millisecond) // several looks of each
		n := 0
		for _, e := range entries(t, p) {
			if e == audit.TypeAbandoned {
				n++
			}
		}
		return n
	}
	if n := swept(17 * time.Second); n != 0 { // due after 16
		t.Errorf("%d accesses of another replica were closed when they were due, want none before a minute has passed", n)
	}
	deadline := time.Now().Add(5 * time.Second)
	n := swept(time.Minute)
	for ; n == 0 && time.Now().Before(deadline); n = swept(0) {
	}
	if n != 1 {
		t.Errorf("%d closings, want one", n)
	}
	sound(t, one)
}

// Two replicas that begin an empty ledger at the same time agree on who it is, or the second refuses.
func TestReplicasBeginOneLedger(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	other, err := audit.CreateKeys(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	empty, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = empty.Close() }()
	turn := &sync.Mutex{}
	first := p.Config
	first.Store, first.Replica = shared{empty, turn}, "one"
	second := p.Config
	second.Keys, second.Replica = other, "two"
	// The second one's self-test finds an empty ledger; before it writes, the first one begins it.
	second.Store = &meanwhile{Store: shared{empty, turn}, do: func() {
		l, err := audit.Open(ctx, first)
		if err != nil {
			t.Errorf("the first replica: %v", err)
			return
		}
		if err := l.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}}
	if l, err := audit.Open(ctx, second); err == nil {
		t.Error("a replica with other keys joined")
		_ = l.Shutdown(ctx)
	}
}

// meanwhile does something before the first Update.
type meanwhile struct {
	audit.Store
	once sync.Once
	do   func()
}

func (m *meanwhile) Update(ctx context.Context, ahead audit.Wanted, f func(audit.Tx) error) error {
	m.once.Do(m.do)
	return m.Store.Update(ctx, ahead, f)
}

// Every replica's statistics see what the others wrote.
func TestStatisticsSeeOtherReplicas(t *testing.T) {
	p := audittest.New(t, audit.Config{Sweep: time.Hour})
	open := replicas(t, p, func(c *audit.Config) { c.Sweep = 5 * time.Millisecond })
	one, two := open("one"), open("two")
	ask{subject: number(t, "9990000018")}.begin(t, one)
	deadline := time.Now().Add(5 * time.Second)
	for s := two.Stats(); s.Position != 2 || s.Open != 1; s = two.Stats() {
		if time.Now().After(deadline) {
			t.Fatalf("position %d, %d open, want 2 and 1", s.Position, s.Open)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !slices.Equal(entries(t, p), []audit.EntryType{audit.TypeBegin}) {
		t.Errorf("entries %v", entries(t, p))
	}
}

// A replica that has not taken up the keys that another writes under finds none of what the other wrote: it refuses, until it has been told to reload.
func TestReplicaBehindOnKeysRefuses(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	open := replicas(t, p, nil)
	one, two := open("one"), open("two")
	dir := filepath.Join(filepath.Dir(p.Path), "keys")
	person, other := number(t, "9990000018"), number(t, "9990000026")
	a := ask{subject: person}
	opened, permit := a.begin(t, two)
	more, same := a.begin(t, two)
	old, err := audit.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // two epochs are as far as one
		if _, err := audit.AddEpoch(dir); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := audit.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Reload(ctx, keys); err != nil {
		t.Fatal(err)
	}
	o := object(t, one, person, consent.ToAll)
	for name, f := range map[string]func() error{
		"Preferences":      func() error { _, err := two.Preferences(ctx, []record.NHSNumber{person}); return err },
		"History":          func() error { _, err := two.History(ctx, []record.NHSNumber{person}); return err },
		"ReadObjections":   func() error { _, _, err := two.ReadObjections(ctx, actor(), []record.NHSNumber{person}); return err },
		"ReadDelegations":  func() error { _, _, err := two.ReadDelegations(ctx, actor(), []record.NHSNumber{person}); return err },
		"ExportObjections": func() error { _, err := two.ExportObjections(ctx, actor(), audit.Cursor{}); return err },
		"CompareList": func() error {
			_, err := two.CompareList(ctx, []audit.Listed{{About: person, Objection: o}})
			return err
		},
		"Search": func() error {
			_, _, _, err := two.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{person}})
			return err
		},
		"Begin":        func() error { _, err := two.Begin(ctx, permit, a.access(time.Now(), permit.Decision())); return err },
		"Release":      func() error { _, err := two.Release(ctx, opened, permit, shown(permit)); return err },
		"ReleaseChunk": func() error { _, err := two.ReleaseChunk(ctx, opened, permit, shown(permit)); return err },
		"WithdrawObjection": func() error {
			_, _, err := two.WithdrawObjection(ctx, actor(), []record.NHSNumber{person}, o.ID, key())
			return err
		},
		"RecordObjection": func() error {
			_, _, err := two.RecordObjection(ctx, actor(), other, consent.Objection{Scope: consent.ToAll, Responsible: "self", Method: "phone"}, key())
			return err
		},
	} {
		if err := f(); !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, audit.ErrKeys) {
			t.Errorf("%s on the replica that is behind: %v, want ErrUnavailable and ErrKeys", name, err)
		}
	}
	if err := two.Reload(ctx, old); !errors.Is(err, audit.ErrKeys) {
		t.Errorf("reloading the keys that are behind: %v, want ErrKeys", err)
	}
	// keys of the same number that are others
	for _, prefix := range []string{"payload", "lookup"} {
		if err := os.Remove(filepath.Join(dir, prefix+"-0003.key")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := audit.AddEpoch(dir); err != nil {
		t.Fatal(err)
	}
	if wrong, err := audit.LoadKeys(dir); err != nil {
		t.Fatal(err)
	} else if err := two.Reload(ctx, wrong); err == nil {
		t.Error("other keys of an epoch that the ledger names were taken up")
	}
	if prefs, err := two.Preferences(ctx, []record.NHSNumber{person}); err == nil {
		t.Errorf("after two reloads that failed: %d objections, want a refusal", len(prefs.Objections))
	}
	if err := two.Reload(ctx, keys); err != nil {
		t.Fatalf("reloading what the other has: %v", err)
	}
	if prefs, err := two.Preferences(ctx, []record.NHSNumber{person}); err != nil || len(prefs.Objections) != 1 {
		t.Errorf("after the reload: %v, %d objections, want 1", err, len(prefs.Objections))
	}
	var changed *audit.ConsentChangedError
	if _, err := two.Release(ctx, more, same, shown(same)); !errors.As(err, &changed) {
		t.Errorf("a release after the reload, against the objection: %v, want a change of consent", err)
	}
	p.Keys, p.Config.Keys = keys, keys
	sound(t, two)
}

// Whether there is a newer epoch is told by the next number: a folder with a gap is refused.
func TestEpochsWithAGapAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := audit.CreateKeys(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.AddEpoch(dir); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"payload", "lookup"} {
		if err := os.Rename(filepath.Join(dir, prefix+"-0002.key"), filepath.Join(dir, prefix+"-0003.key")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := audit.LoadKeys(dir); !errors.Is(err, audit.ErrKeys) {
		t.Errorf("LoadKeys: %v, want ErrKeys", err)
	}
}
