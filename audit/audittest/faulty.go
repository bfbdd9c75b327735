package audittest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Fault is a way in which a commit fails.
type Fault int

// The faults. Each can be told from success only by what is read afterwards.
const (
	None        Fault = iota
	Lost              // refused; nothing is kept
	Kept              // kept, but the answer says that nobody knows
	UnknownLost       // nothing is kept, and the answer says that nobody knows
	Full              // no room; nothing is kept
	UnsoundLost       // a sync failed; nothing is kept, nobody knows, and the store is unsound from then on
	UnsoundKept       // a sync failed; it was kept all the same, nobody knows, and the store is unsound from then on
	faultsInAll       // how many there are
)

// Faults lists all of them but None.
func Faults() []Fault {
	var out []Fault
	for f := Lost; f < faultsInAll; f++ {
		out = append(out, f)
	}
	return out
}

// String returns the fault's name.
func (f Fault) String() string {
	return [...]string{"none", "lost", "kept", "unknown, lost", "full", "unsound, lost", "unsound, kept"}[f]
}

// Faulty is a store that fails when it is told to. It counts, and fails, only transactions that add entries: those by which the ledger looks for
// forgotten accesses pass.
type Faulty struct {
	Inner audit.Store

	mu      sync.Mutex
	commits int
	plan    map[int]Fault
	always  Fault
	delay   time.Duration
	held    chan struct{}
	unsound bool
	read    atomic.Int64
}

var _ audit.Store = (*Faulty)(nil)

// Fail makes the n-th commit from now fail; 1 is the next.
func (f *Faulty) Fail(n int, as Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan == nil {
		f.plan = map[int]Fault{}
	}
	f.plan[f.commits+n] = as
}

// FailAll makes every commit fail until Heal.
func (f *Faulty) FailAll(as Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.always = as
}

// Slow makes every commit take at least d until Heal.
func (f *Faulty) Slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// Hold stops every commit before it begins, until release is called. What is queued meanwhile becomes one batch.
func (f *Faulty) Hold() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := make(chan struct{})
	f.held = held
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.held == held {
			f.held = nil
		}
		close(held)
	})
}

// Heal ends all faults. An unsound store becomes sound only to whoever opens a ledger on it anew.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.always, f.delay, f.unsound = nil, None, 0, false
}

// Commits returns how many transactions that add entries were tried.
func (f *Faulty) Commits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commits
}

// Read returns how often an entry was read by its position.
func (f *Faulty) Read() int { return int(f.read.Load()) }

// errAsked makes the inner store undo a transaction that is to be lost.
var errAsked = errors.New("this commit was asked to fail")

// Update implements audit.Store.
func (f *Faulty) Update(ctx context.Context, ahead audit.Wanted, run func(audit.Tx) error) error {
	f.mu.Lock()
	held, unsound := f.held, f.unsound
	f.mu.Unlock()
	if held != nil {
		<-held
	}
	if unsound {
		return audit.ErrUnsound
	}
	fault := None
	err := f.Inner.Update(ctx, ahead, func(tx audit.Tx) error {
		counted := &counting{Tx: tx, read: &f.read}
		if err := run(counted); err != nil || counted.entries == 0 {
			return err
		}
		var delay time.Duration
		fault, delay = f.next()
		if delay > 0 {
			time.Sleep(delay)
		}
		if fault == Lost || fault == UnknownLost || fault == Full || fault == UnsoundLost {
			return errAsked
		}
		return nil
	})
	if err != nil && !errors.Is(err, errAsked) {
		return err
	}
	switch fault {
	case Lost:
		return errAsked
	case Full:
		return audit.ErrFull
	case Kept, UnknownLost:
		return audit.ErrUnknownOutcome
	case UnsoundLost, UnsoundKept:
		return fmt.Errorf("%w: %w", audit.ErrUnknownOutcome, audit.ErrUnsound)
	}
	return nil
}

// next says what becomes of the commit that is about to happen.
func (f *Faulty) next() (Fault, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commits++
	fault, planned := f.plan[f.commits]
	if !planned {
		fault = f.always
	}
	f.unsound = f.unsound || fault == UnsoundLost || fault == UnsoundKept
	return fault, f.delay
}

// View implements audit.Store.
func (f *Faulty) View(ctx context.Context, run func(audit.Reader) error) error {
	f.mu.Lock()
	unsound := f.unsound
	f.mu.Unlock()
	if unsound {
		return audit.ErrUnsound
	}
	return f.Inner.View(ctx, func(r audit.Reader) error { return run(&readCounting{r, &f.read}) })
}

// Purge implements audit.Store.
func (f *Faulty) Purge(ctx context.Context) error { return f.Inner.Purge(ctx) }

// Close implements audit.Store.
func (f *Faulty) Close() error { return f.Inner.Close() }

type counting struct {
	audit.Tx
	entries int
	read    *atomic.Int64
}

// Entry implements audit.Reader.
func (c *counting) Entry(position uint64) (audit.Entry, error) {
	c.read.Add(1)
	return c.Tx.Entry(position)
}

func (c *counting) Append(e audit.Entry, marks []audit.Mark) error {
	c.entries++
	return c.Tx.Append(e, marks)
}

type readCounting struct {
	audit.Reader
	read *atomic.Int64
}

// Entry implements audit.Reader.
func (c *readCounting) Entry(position uint64) (audit.Entry, error) {
	c.read.Add(1)
	return c.Reader.Entry(position)
}
