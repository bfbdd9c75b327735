package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Filled is how many entries a benchmark's ledger holds before it is timed: MCR_BENCH_ENTRIES, or none.
func Filled(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("MCR_BENCH_ENTRIES"))
	if err != nil && os.Getenv("MCR_BENCH_ENTRIES") != "" {
		b.Fatal("MCR_BENCH_ENTRIES is not a number")
	}
	return n
}

// Pairs measures a Begin and a Release by so many callers on each of some replicas, whose stores share what they keep: pairs in a second, the time of each
// hundredth slowest, and the CPU of this process for a pair. bare is an empty store of the same kind: the transactions of a second round, reads and writes, are done
// to it by hand, and their CPU is the driver's share.
func Pairs(b *testing.B, stores []audit.Store, bare audit.Store, callers int) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the daemon collects about as rarely
	keys, err := audit.CreateKeys(filepath.Join(b.TempDir(), "keys"))
	if err != nil {
		b.Fatal(err)
	}
	checkpoints := filepath.Join(b.TempDir(), "checkpoints")
	var script script
	var ledgers []*audit.Ledger
	for i, s := range stores {
		folder, err := sink.NewFolder(checkpoints)
		if err != nil {
			b.Fatal(err)
		}
		name := ""
		if len(stores) > 1 {
			name = fmt.Sprint("replica-", i)
		}
		l, err := audit.Open(ctx, audit.Config{Store: &noting{Store: s, script: &script}, Keys: keys, Sinks: []audit.Sink{folder}, Replica: name,
			Origin: "mycarerecord.example/bench", Deadline: time.Minute})
		if err != nil {
			b.Fatal(err)
		}
		defer func() {
			if err := l.Shutdown(ctx); err != nil {
				b.Error(err)
			}
		}()
		ledgers = append(ledgers, l)
	}
	var number atomic.Uint64
	who, err := record.ParseNHSNumber("9990000018")
	if err != nil {
		b.Fatal(err)
	}
	permit, access := permitted(who)
	pair := func(l *audit.Ledger) {
		a := access
		a.Key = fmt.Sprintf("%032x", number.Add(1))
		o, err := l.Begin(ctx, permit, a)
		if err == nil {
			_, err = l.Release(ctx, o, permit, audit.Disclosure{Total: 2, Custodians: []audit.Shown{{Key: "gp", State: record.Returned, Sections: permit.Sections("gp"), Count: 2, Digests: [][32]byte{{1}, {2}}}}})
		}
		if err != nil {
			b.Error(err)
		}
	}
	crowd := func(n int, each func(took time.Duration)) {
		var left atomic.Int64
		left.Store(int64(n))
		var wg sync.WaitGroup
		for _, l := range ledgers {
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						start := time.Now()
						pair(l)
						each(time.Since(start))
					}
				})
			}
		}
		wg.Wait()
	}
	crowd(Filled(b)/2, func(time.Duration) {})
	crowd(callers, func(time.Duration) {}) // connections, statements and pages are warm
	var mu sync.Mutex
	took := make([]time.Duration, 0, b.N)
	runtime.GC()
	before := cpu(b)
	b.ResetTimer()
	crowd(b.N, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		took = append(took, d)
	})
	b.StopTimer()
	spent := cpu(b) - before
	script.begin() // once more, this time noted
	crowd(b.N, func(time.Duration) {})
	transactions := script.end()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(2*b.N)/float64(max(1, len(transactions))), "entries/commit")
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/pair")
	runtime.GC()
	before = cpu(b)
	for _, t := range transactions {
		err := bare.Update(ctx, t.ahead, func(tx audit.Tx) error {
			base, err := tx.Head()
			for _, step := range t.steps {
				err = errors.Join(err, step(tx, base.Size))
			}
			return err
		})
		if err != nil {
			b.Fatalf("by hand: %v", err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "bare-µs/pair")
	b.ReportMetric(float64((spent-(cpu(b)-before)).Microseconds())/float64(b.N), "own-µs/pair")
}

// cpu is what this process has used, of both kinds.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// permitted is a request as the broker would make it, about one of whom nobody has said anything.
func permitted(who record.NHSNumber) (consent.Permit, audit.Access) {
	by := record.Requester{Kind: record.Professional, User: "555000000001", Name: "Dr Test Example", RoleProfile: "555000000002", JobRole: "R8000", Organisation: "X9J01",
		Client: "epr", Issuer: "https://issuer.example", TokenID: "jti-1"}
	now := time.Now()
	d := consent.Evaluate(consent.Question{Subject: record.Subject{Number: who, Standing: record.Live}, Requester: by,
		Role:    consent.Role{Name: "clinical", Version: "v1", Sections: map[record.Purpose]record.Sections{record.Treatment: record.AllSections}},
		Purpose: record.Treatment, Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Now: now,
		Custodians: []consent.CustodianRules{{Custodian: record.Custodian{Key: "gp", ODS: "X9A01", Name: "Invented", Kind: record.KindGP}}}}, consent.Preferences{})
	permit, _ := d.Permit()
	return permit, audit.Access{RequestID: "req-1", Face: "rest", Operation: "everything", Subject: who, Standing: record.Live, Requester: by, RoleName: "clinical",
		Purpose: record.Treatment, Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Decision: d,
		Asked: []record.CustodianKey{"gp"}, At: now, Budget: 8 * time.Second}
}

// script is what was asked of a store and written to it, transaction by transaction.
type script struct {
	mu   sync.Mutex
	on   bool
	made []transaction
}

// transaction is what was asked for as it began, and then step by step.
type transaction struct {
	ahead audit.Wanted
	steps []step
}

// step is one of them, to be done again on a store that is at another size.
type step func(tx audit.Tx, base uint64) error

func (s *script) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = true
}

func (s *script) noted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

func (s *script) end() []transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = false
	return s.made
}

// noting is a store that notes what is done.
type noting struct {
	audit.Store
	script *script
}

// Update implements audit.Store.
func (n *noting) Update(ctx context.Context, ahead audit.Wanted, f func(audit.Tx) error) error {
	if !n.script.noted() {
		return n.Store.Update(ctx, ahead, f)
	}
	var steps []step
	err := n.Store.Update(ctx, ahead, func(tx audit.Tx) error {
		head, err := tx.Head()
		if err != nil {
			return err
		}
		return f(&notes{Tx: tx, base: head.Size, steps: &steps})
	})
	n.script.mu.Lock()
	defer n.script.mu.Unlock()
	if n.script.on && err == nil && len(steps) > 0 {
		n.script.made = append(n.script.made, transaction{ahead, steps})
	}
	return err
}

type notes struct {
	audit.Tx
	base  uint64
	steps *[]step
}

func (n *notes) note(s step) { *n.steps = append(*n.steps, s) }

// Expect implements audit.Tx.
func (n *notes) Expect(w audit.Wanted) error {
	n.note(func(tx audit.Tx, _ uint64) error { return tx.Expect(w) })
	return n.Tx.Expect(w)
}

// Newest implements audit.Reader.
func (n *notes) Newest(m []audit.Mark) (uint64, bool, error) {
	n.note(func(tx audit.Tx, _ uint64) error { _, _, err := tx.Newest(m); return err })
	return n.Tx.Newest(m)
}

// IsOpen implements audit.Reader.
func (n *notes) IsOpen(p uint64) (bool, error) {
	n.note(func(tx audit.Tx, _ uint64) error { _, err := tx.IsOpen(p); return err })
	return n.Tx.IsOpen(p)
}

// ObjectionsOf implements audit.Reader.
func (n *notes) ObjectionsOf(p []string) ([]audit.ObjectionRow, error) {
	n.note(func(tx audit.Tx, _ uint64) error { _, err := tx.ObjectionsOf(p); return err })
	return n.Tx.ObjectionsOf(p)
}

// LastCheckpoint implements audit.Reader.
func (n *notes) LastCheckpoint() (audit.Checkpoint, bool, error) {
	n.note(func(tx audit.Tx, _ uint64) error { _, _, err := tx.LastCheckpoint(); return err })
	return n.Tx.LastCheckpoint()
}

// Leaves implements audit.Reader.
func (n *notes) Leaves(from uint64, limit int) ([]audit.Entry, error) {
	back := n.base - min(from, n.base)
	n.note(func(tx audit.Tx, base uint64) error { _, err := tx.Leaves(base-min(back, base), limit); return err })
	return n.Tx.Leaves(from, limit)
}

// Append implements audit.Tx.
func (n *notes) Append(e audit.Entry, m []audit.Mark) error {
	n.note(func(tx audit.Tx, base uint64) error { e.Position += base - n.base; return tx.Append(e, m) })
	return n.Tx.Append(e, m)
}

// PutTree implements audit.Tx.
func (n *notes) PutTree(f [][32]byte, nodes []audit.Node) error {
	n.note(func(tx audit.Tx, _ uint64) error {
		head, err := tx.Head()
		return errors.Join(err, tx.PutTree(make([][32]byte, ones(head.Size)), nodes))
	})
	return n.Tx.PutTree(f, nodes)
}

// PutCheckpoint implements audit.Tx.
func (n *notes) PutCheckpoint(c audit.Checkpoint) error {
	n.note(func(tx audit.Tx, _ uint64) error { return tx.PutCheckpoint(c) })
	return n.Tx.PutCheckpoint(c)
}

// OpenAccess implements audit.Tx.
func (n *notes) OpenAccess(p uint64, due time.Time, holder string) error {
	at := p - n.base
	n.note(func(tx audit.Tx, base uint64) error { return tx.OpenAccess(base+at, due, holder) })
	return n.Tx.OpenAccess(p, due, holder)
}

// CloseAccess implements audit.Tx.
func (n *notes) CloseAccess(p uint64) error {
	back := n.base - min(p, n.base)
	n.note(func(tx audit.Tx, base uint64) error { return tx.CloseAccess(base - min(back, base)) })
	return n.Tx.CloseAccess(p)
}

func ones(n uint64) (c int) {
	for ; n > 0; n &= n - 1 {
		c++
	}
	return c
}
