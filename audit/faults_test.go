package audit_test

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Every write fails, and fails but is kept, for every operation (the table of Sunlight's TestSequenceErrors). What must hold each time:
// nothing is acknowledged, nobody is told that something may be shown, the ledger stays sound, and what is repeated afterwards is recorded once.
func TestEachWriteFails(t *testing.T) {
	kept := func(f audittest.Fault) bool { return f == audittest.Kept || f == audittest.UnsoundKept }
	a := ask{subject: number(t, "9990000018")}
	// prepare brings the ledger to the point before the write; try is the write, with a key that stays the same; retried says what trying again
	// does if the first was kept: nil for the same answer.
	for _, op := range []struct {
		name    string
		entry   audit.EntryType
		prepare func(t *testing.T, l *audit.Ledger) (try func(l *audit.Ledger) error)
		retried error // of the second try, if the first was kept
		dead    error // of the second try after the store had to be opened anew, if not the same
	}{
		{"begin", audit.TypeBegin, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			permit, access := a.permit(t, l)
			return func(l *audit.Ledger) error { _, err := l.Begin(ctx, permit, access); return err }
		}, audit.ErrClosed, audit.ErrClosed},
		{"break-glass", audit.TypeBegin, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			permit, access := ask{subject: a.subject, purpose: record.BreakGlass}.permit(t, l)
			return func(l *audit.Ledger) error { _, err := l.Begin(ctx, permit, access); return err }
		}, audit.ErrClosed, audit.ErrClosed},
		{"refuse", audit.TypeRefused, func(_ *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			access := a.access(time.Now(), consent.Decision{Outcome: consent.Refused, Reason: consent.ReasonRole})
			return func(l *audit.Ledger) error { _, err := l.Refuse(ctx, access); return err }
		}, nil, nil},
		{"chunk", audit.TypeChunk, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			o, permit := a.begin(t, l)
			return func(l *audit.Ledger) error { _, err := l.ReleaseChunk(ctx, o, permit, shown(permit)); return err }
		}, nil, audit.ErrNotPermitted},
		{"release", audit.TypeReleased, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			o, permit := a.begin(t, l)
			return func(l *audit.Ledger) error { _, err := l.Release(ctx, o, permit, shown(permit)); return err }
		}, audit.ErrClosed, audit.ErrNotPermitted},
		{"close", audit.TypeNothing, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			o, _ := a.begin(t, l)
			return func(l *audit.Ledger) error {
				_, err := l.Close(ctx, o, audit.TypeNothing, consent.ReasonNobody, audit.Disclosure{})
				return err
			}
		}, audit.ErrClosed, audit.ErrNotPermitted},
		{"objection", audit.TypeObjection, func(_ *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			k := key()
			return func(l *audit.Ledger) error {
				_, _, err := l.RecordObjection(ctx, actor(), a.subject, objection(consent.ToAll), k)
				return err
			}
		}, nil, nil},
		{"withdrawal", audit.TypeObjection, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			o, k := object(t, l, a.subject, consent.ToAll), key()
			return func(l *audit.Ledger) error {
				_, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{a.subject}, o.ID, k)
				return err
			}
		}, nil, nil},
		{"decision on an objection", audit.TypeObjection, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			wish := objection(consent.ToAll)
			wish.Status = consent.Requested
			o, _, err := l.RecordObjection(ctx, actor(), a.subject, wish, key())
			if err != nil {
				t.Fatal(err)
			}
			k := key()
			return func(l *audit.Ledger) error {
				_, _, err := l.ChangeObjection(ctx, actor(), []record.NHSNumber{a.subject}, o.ID, consent.InForce, k)
				return err
			}
		}, nil, nil},
		{"delegation", audit.TypeDelegation, func(t *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			d, k := delegation(t), key()
			return func(l *audit.Ledger) error {
				_, _, err := l.RecordDelegation(ctx, themselves(t), a.subject, d, k)
				return err
			}
		}, nil, nil},
		{"withdrawal of a delegation", audit.TypeDelegation, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			d, k := delegate(t, l, a.subject), key()
			return func(l *audit.Ledger) error {
				_, _, err := l.WithdrawDelegation(ctx, themselves(t), []record.NHSNumber{a.subject}, d.ID, k)
				return err
			}
		}, nil, nil},
		{"review", audit.TypeReview, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			ask{subject: a.subject, purpose: record.BreakGlass}.begin(t, l)
			alerts, err := l.PendingAlerts(ctx, 0, 10)
			if err != nil || len(alerts) != 1 {
				t.Fatalf("%d alerts: %v", len(alerts), err)
			}
			k := key()
			return func(l *audit.Ledger) error {
				_, err := l.ReviewOverride(ctx, actor(), audit.Bounds{Organisation: "X9J01"}, alerts[0].Position, audit.Justified, "", k)
				return err
			}
		}, nil, nil},
		{"look", audit.TypeRead, func(_ *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			return func(l *audit.Ledger) error {
				_, _, err := l.ReadObjections(ctx, actor(), []record.NHSNumber{a.subject})
				return err
			}
		}, nil, nil},
		{"search", audit.TypeRead, func(_ *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			return func(l *audit.Ledger) error {
				_, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{a.subject}})
				return err
			}
		}, nil, nil},
		{"import", audit.TypeImport, func(t *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			rows := list(t, listedPeople...)
			return func(l *audit.Ledger) error { _, err := l.BeginImport(ctx, actor(), about(l, rows)); return err }
		}, nil, nil},
		{"row of a list", audit.TypeObjection, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			rows := list(t, listedPeople[0])
			im := begin(t, l, rows)
			return func(l *audit.Ledger) error { _, err := l.StageObjections(ctx, actor(), im, rows); return err }
		}, nil, audit.ErrNotPermitted},
		{"imported", audit.TypeImported, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			rows := list(t, listedPeople[0])
			im := begin(t, l, rows)
			stage(t, l, im, rows, 1)
			return func(l *audit.Ledger) error { _, err := l.ApplyImport(ctx, actor(), im, about(l, rows)); return err }
		}, nil, audit.ErrNotPermitted},
		{"page", audit.TypeRead, func(_ *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			return func(l *audit.Ledger) error { _, err := l.ExportObjections(ctx, actor(), audit.Cursor{}); return err }
		}, nil, nil},
		{"adopted", audit.TypeAdopted, func(t *testing.T, l *audit.Ledger) func(*audit.Ledger) error {
			o := object(t, l, a.subject, consent.ToAll)
			follow(t, l, audit.Cursor{}, 10, nil)
			return func(l *audit.Ledger) error { _, err := l.Adopt(ctx, follower(), o.Position); return err }
		}, nil, nil},
		{"policy", audit.TypePolicy, func(_ *testing.T, _ *audit.Ledger) func(*audit.Ledger) error {
			return func(l *audit.Ledger) error { return l.RecordPolicy(ctx, "c0ffee", "b0bb1e") }
		}, nil, nil},
	} {
		for _, fault := range audittest.Faults() {
			t.Run(op.name+"/"+fault.String(), func(t *testing.T) {
				p := audittest.New(t, audit.Config{})
				try := op.prepare(t, p.Ledger)
				before := entries(t, p)
				p.Store.Fail(1, fault)
				if err := try(p.Ledger); !errors.Is(err, audit.ErrUnavailable) {
					t.Fatalf("%v, want ErrUnavailable", err)
				}
				after := entries(t, p)
				if was := len(after) > len(before); was != kept(fault) {
					t.Fatalf("kept: %v, want %v", was, kept(fault))
				}
				if kept(fault) && after[len(after)-1] != op.entry {
					t.Fatalf("kept %s, want %s", after[len(after)-1], op.entry)
				}
				unsound := fault == audittest.UnsoundLost || fault == audittest.UnsoundKept
				want := op.retried
				if unsound {
					for what, err := range map[string]error{
						"the write again": try(p.Ledger),
						"preferences":     second(p.Ledger.Preferences(ctx, []record.NHSNumber{a.subject})),
						"another write":   second(p.Ledger.Refuse(ctx, a.access(time.Now(), consent.Decision{}))),
					} {
						if !errors.Is(err, audit.ErrUnavailable) || op.dead != audit.ErrNotPermitted && !errors.Is(err, audit.ErrUnsound) {
							t.Errorf("%s on an unsound store: %v, want ErrUnavailable", what, err)
						}
					}
					if !p.Ledger.Stats().Unsound {
						t.Errorf("the statistics do not say that the store is unsound")
					}
					p.Store.Heal()
					p = p.Reopen(t)
					want = op.dead
				}
				if !kept(fault) && !(unsound && op.dead == audit.ErrNotPermitted) {
					want = nil
				}
				if err := try(p.Ledger); !errors.Is(err, want) {
					t.Errorf("tried again: %v, want %v", err, want)
				}
				r := sound(t, p.Ledger)
				if most := map[audit.EntryType]uint64{audit.TypeObjection: 2, audit.TypeDelegation: 2, audit.TypeRead: 2, audit.TypeChunk: 2}[op.entry]; r.ByType[op.entry] > max(most, 1) {
					t.Errorf("%d %s entries: recorded more than once", r.ByType[op.entry], op.entry)
				}
				if op.name == "objection" && r.Objections != 1 {
					t.Errorf("%d objections, want 1", r.Objections)
				}
				// A Begin that was kept and not acknowledged is closed by the next writer.
				if op.entry == audit.TypeBegin && kept(fault) && !slices.Contains(entries(t, p), audit.TypeAbandoned) {
					t.Errorf("entries %v: the Begin that nobody holds is open", entries(t, p))
				}
			})
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A store that is full refuses, and works again when there is room; nothing must be done by hand.
func TestFullStoreRecovers(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	p.Store.FailAll(audittest.Full)
	a := ask{subject: number(t, "9990000018")}
	permit, access := a.permit(t, p.Ledger) // reading goes on
	for range 3 {
		if _, err := p.Ledger.Begin(ctx, permit, access); !errors.Is(err, audit.ErrUnavailable) || !errors.Is(err, audit.ErrFull) {
			t.Fatalf("Begin on a full store: %v, want ErrUnavailable and ErrFull", err)
		}
	}
	p.Store.Heal()
	if _, err := p.Ledger.Begin(ctx, permit, access); err != nil {
		t.Errorf("Begin with room again: %v", err)
	}
}

// Nobody is told of a refusal that rests on a state that was lost with its transaction.
func TestVerdictsAreLostWithTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := audittest.New(t, audit.Config{})
		l, a := p.Ledger, ask{subject: number(t, "9990000018")}
		o, permit := a.begin(t, l)
		release := p.Store.Hold()
		var errFirst, errObject, errRelease error
		for _, f := range []func(){
			func() { _, errFirst = l.Refuse(ctx, a.access(time.Now(), consent.Decision{})) }, // holds the committer up
			func() { _, _, errObject = l.RecordObjection(ctx, actor(), a.subject, objection(consent.ToAll), key()) },
			func() { _, errRelease = l.Release(ctx, o, permit, shown(permit)) },
		} {
			go f()
			synctest.Wait()
		}
		p.Store.Fail(1, audittest.Lost) // the batch of all three: the first had to wait, and took the others along
		release()
		synctest.Wait()
		for what, err := range map[string]error{"refusal": errFirst, "objection": errObject, "release": errRelease} {
			if !errors.Is(err, audit.ErrUnavailable) || errors.Is(err, audit.ErrConsentChanged) {
				t.Errorf("%s: %v, want ErrUnavailable", what, err)
			}
		}
		if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
			t.Errorf("Release after the objection was lost: %v", err)
		}
		sound(t, l)
	})
}

func TestClock(t *testing.T) {
	clock := newClock()
	p := audittest.New(t, audit.Config{Now: clock.now})
	a := ask{subject: number(t, "9990000018")}
	refuse := func() error {
		_, err := p.Ledger.Refuse(ctx, a.access(clock.now(), consent.Decision{}))
		return err
	}
	if err := refuse(); err != nil {
		t.Fatal(err)
	}
	clock.add(-30 * time.Second) // within the tolerance: time stands still
	if err := refuse(); err != nil {
		t.Errorf("a clock 30 s behind: %v", err)
	}
	clock.add(-31 * time.Second)
	if err := refuse(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("a clock 61 s behind: %v, want ErrUnavailable", err)
	}
	clock.add(61 * time.Second)
	if err := refuse(); err != nil {
		t.Errorf("a clock set right: %v", err)
	}
	sound(t, p.Reopen(t).Ledger)
}

// On one processor the committer is woken by the first who asks. Those who are ready as well share its transaction, and with it the sync.
func TestThoseWhoAreReadyJoin(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // of the whole process: no test of this package runs beside another
	p := audittest.New(t, audit.Config{})
	a := ask{subject: number(t, "9990000018")}
	d := a.decide(consent.Preferences{}, time.Now())
	const rounds, callers = 20, 3 // fewer than a transaction waits for
	for range 2 {
		permit, _ := d.Permit() // who is alone lets nobody in
		if _, err := p.Ledger.Begin(ctx, permit, a.access(time.Now(), d)); err != nil {
			t.Fatal(err)
		}
	}
	before := p.Store.Commits()
	for range rounds {
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				permit, _ := d.Permit()
				if _, err := p.Ledger.Begin(ctx, permit, a.access(time.Now(), d)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	if commits := p.Store.Commits() - before; commits > rounds*3/2 {
		t.Errorf("%d transactions for %d times %d callers who were ready together, want about one each time", commits, rounds, callers)
	} else {
		t.Logf("%d transactions for %d times %d callers", commits, rounds, callers)
	}
}

// A ledger beside work that never asks it anything lets that work go first once in a while, and not before every transaction.
func TestBusyWorkDoesNotHoldUpTheLedger(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // of the whole process: no test of this package runs beside another
	p := audittest.New(t, audit.Config{Deadline: time.Minute})
	a := ask{subject: number(t, "9990000018")}
	d := a.decide(consent.Preferences{}, time.Now())
	var stop atomic.Bool
	var busy sync.WaitGroup
	for range 20 { // each takes the processor for 10 ms at a time
		busy.Go(func() {
			for !stop.Load() {
			}
		})
	}
	defer busy.Wait()
	defer stop.Store(true)
	const calls = 30
	late := 0
	for range calls {
		permit, _ := d.Permit()
		begun := time.Now()
		if _, err := p.Ledger.Begin(ctx, permit, a.access(time.Now(), d)); err != nil {
			t.Fatal(err)
		}
		if time.Since(begun) > 100*time.Millisecond {
			late++
		}
	}
	if late > calls/3 {
		t.Errorf("%d of %d were kept waiting for work that has nothing to do with the ledger", late, calls)
	} else {
		t.Logf("%d of %d were kept waiting", late, calls)
	}
}

func BenchmarkGroupCommit(b *testing.B) {
	for _, c := range []struct {
		name    string
		callers int
	}{{"one by one", 1}, {"64 callers", 64}} {
		b.Run(c.name, func(b *testing.B) {
			p := audittest.New(b, audit.Config{Deadline: time.Minute})
			p.Store.Slow(2 * time.Millisecond) // what a sync costs on a disk; this machine's may not reach one
			a := ask{subject: number(b, "9990000018")}
			d := a.decide(consent.Preferences{}, time.Now())
			b.SetParallelism((c.callers + 1) / 2)
			b.ResetTimer()
			work := func() {
				permit, _ := d.Permit()
				o, err := p.Ledger.Begin(ctx, permit, a.access(time.Now(), d))
				if err == nil {
					_, err = p.Ledger.Release(ctx, o, permit, shown(permit))
				}
				if err != nil {
					b.Error(err)
				}
			}
			if c.callers == 1 {
				for b.Loop() {
					work()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						work()
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(float64(p.Ledger.Stats().Entries)/float64(max(1, p.Store.Commits())), "entries/commit")
		})
	}
}
