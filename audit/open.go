package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Config is what a ledger is made of. Store, Keys, Origin and Sinks must be given; the zero value of each other field is its default.
type Config struct {
	Store          Store                    // the ledger does not close it
	Keys           *Keys                    // see LoadKeys
	Replica        string                   // the name of this one of several processes that write one ledger, the same after a restart; "": it is the only one
	Changed        func([]record.NHSNumber) // told, by the goroutine that writes, whose objections a commit has changed, or may have; it MUST NOT wait. nil: nobody
	Origin         string                   // the ledger's name, in every receipt: 1 to 100 printable ASCII characters without spaces or '+', e.g. "mycarerecord.example/demo". It cannot change
	Configuration  string                   // hash of the configuration in force; a Policy entry is written where it, or Policy, differs from the last
	Policy         string                   // hash of the policy table in force
	Now            func() time.Time         // the clock of the entries; time.Now
	Queue          int                      // writes that may wait; 1,024. More are refused at once
	Deadline       time.Duration            // how long one write may take, waiting included; 2 s
	ClockTolerance time.Duration            // how far the clock may be behind the newest entry; 1 minute
	Sweep          time.Duration            // how often forgotten accesses are looked for; 1 s
	Sinks          []Sink                   // where checkpoints are kept beside the store; at least one. Only the ledger uses them from now on
	Continues      *Predecessor             // what a new ledger takes over from one that ended; the store must be empty
	Adopt          bool                     // start although no sink holds a checkpoint of a ledger that has signed some: for an operator who knows why
	Begun          string                   // what says that a ledger was begun before, so that an empty store is not it; "": nothing says so
	Archives       *Archives                // archives of this ledger that may be asked; the ledger does not close them. nil: none
	Override       time.Duration            // how long an override lasts; MaxOverride, and not more (C-3)
}

// selfTestEntries is how many of the newest entries are checked at start-up. Verify checks all.
const selfTestEntries = 256

// Ledger is the one order of everything that IG must know. It is safe for concurrent use. Every method that records returns
// after the commit that made its entry durable, or with an error that wraps one of the sentinels.
//
// A write that was queued is not undone because its caller left: it is recorded, which at worst tells of more than was shown. A Begin
// whose caller left is closed as Cancelled, and one whose commit was not confirmed as Abandoned if it turns out to have been kept.
//
// After a failed write or sync nothing more is recorded or read: the store is unsound, and the process must be started anew.
type Ledger struct {
	store     Store
	keys      atomic.Pointer[Keys] // what is read is opened with all of them; what is written uses the newest epoch of those that a transaction began with
	origin    string
	replica   string
	changed   func([]record.NHSNumber)
	now       func() time.Time
	deadline  time.Duration
	tolerance time.Duration
	sweep     time.Duration
	override  time.Duration
	archives  *Archives

	gate     sync.RWMutex // held for reading while something is put into the queue
	ended    bool         // nothing more is queued
	queue    chan *op
	between  chan func()   // what the committer does between two transactions
	ending   chan struct{} // closed by Shutdown
	finished chan struct{} // closed by commitAll
	unsound  atomic.Bool
	tally    tally
	owed     []debt    // of the committer alone
	answered int       // by the last transaction; of the committer alone
	awaited  int       // to be in the next one: so many were answered, or had come before; of the committer alone
	hurried  time.Time // nobody is let in until then; of the committer alone

	walking chan struct{} // holds a place for each question that is being answered

	reloading sync.Mutex           // one Reload at a time
	coming    atomic.Pointer[Keys] // those of a Reload whose transaction is being kept; else nil
	signers   []note.Signer        // of the committer alone
	signed    Checkpoint           // the newest one; of the committer alone
	// The frontier under it, if it was signed here; else nil.
	signedTree [][32]byte
	newest     atomic.Pointer[Checkpoint]
	sinks      []Sink
	wakes      []chan struct{} // one for each sink, with room for one word
	exporting  sync.WaitGroup
	done       chan struct{} // closed when commitAll and every export have ended

	statsMu sync.Mutex
	stats   Stats
}

var _ consent.Registry = (*Ledger)(nil)

// Open starts a ledger on a store, after a self-test (L-8): the store is empty or was made under this origin and with these keys, the head agrees
// with the entries, the newest entries and every objection are what was recorded, and the clock is not behind. Accesses that were open when the last
// process, or the earlier life of this replica, ended are closed as Abandoned. Every refusal says in a sentence what is wrong; it wraps ErrDamaged, ErrKeys, ErrInvalid or ErrUnavailable.
func Open(ctx context.Context, c Config) (*Ledger, error) {
	if c.Store == nil || c.Keys == nil || len(c.Keys.epochs) == 0 {
		return nil, fmt.Errorf("%w: a ledger needs a store and keys", ErrInvalid)
	}
	if !validOrigin(c.Origin) {
		return nil, fmt.Errorf("%w: the origin must be 1 to 100 printable ASCII characters without spaces or '+'", ErrInvalid)
	}
	l := &Ledger{store: c.Store, origin: c.Origin, replica: c.Replica, changed: c.Changed, now: c.Now, deadline: c.Deadline, tolerance: c.ClockTolerance, sweep: c.Sweep, override: c.Override, archives: c.Archives,
		between: make(chan func()), ending: make(chan struct{}), finished: make(chan struct{}), done: make(chan struct{}), sinks: c.Sinks}
	l.keys.Store(c.Keys)
	if len(l.sinks) == 0 {
		return nil, fmt.Errorf("%w: a ledger needs a place outside its own store where its checkpoints are kept: name a folder, better one on another disk", ErrInvalid)
	}
	for _, s := range l.sinks {
		l.wakes = append(l.wakes, make(chan struct{}, 1))
		l.stats.Sinks = append(l.stats.Sinks, SinkStats{Name: s.Name()})
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.deadline, l.tolerance, l.sweep = or(l.deadline, 2*time.Second), or(l.tolerance, time.Minute), or(l.sweep, time.Second)
	l.override = or(l.override, MaxOverride)
	if l.deadline < 0 || l.tolerance < 0 || l.sweep < 0 || c.Queue < 0 || l.override < 0 || l.override > MaxOverride {
		return nil, fmt.Errorf("%w: times and the length of the queue must not be negative, and an override lasts at most an hour", ErrInvalid)
	}
	l.queue = make(chan *op, or(c.Queue, 1024))
	l.walking = make(chan struct{}, 2)
	if err := l.selfTest(ctx, c); err != nil {
		return nil, err
	}
	if err := l.plant(ctx); err != nil {
		return nil, err
	}
	if err := l.testTree(ctx); err != nil {
		return nil, err
	}
	if err := l.testCheckpoints(ctx, c); err != nil {
		return nil, err
	}
	before, served := l.signed.Size, false
	if err := l.view(ctx, func(r Reader) (err error) {
		head, err := r.Head()
		if err == nil && head.Size > 0 {
			served, err = hasServed(r, head.Size)
		}
		return err
	}); err != nil {
		return nil, err
	}
	if err := l.start(ctx, c); err != nil {
		return nil, err
	}
	// Another replica may have begun the ledger since the self-test found it empty: under another origin, or with other keys.
	if err := l.view(ctx, func(r Reader) error { return testKeys(r, l.origin, c.Keys) }); err != nil {
		return nil, err
	}
	// Those that cannot be asked what they hold are shown the first checkpoint before anything else is recorded. Until a ledger has served, all must see
	// it: if there was one before, and this store is new, only they may know.
	if before == 0 || !served {
		if err := l.testSinks(ctx, l.signed, sinksAll); err != nil {
			return nil, err
		}
	}
	for i := range l.sinks {
		l.exporting.Add(1)
		go l.export(i)
	}
	go l.commitAll()
	go func() {
		<-l.finished
		l.exporting.Wait()
		close(l.done)
	}()
	return l, nil
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func validOrigin(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '+' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 100
}

// selfTest reads; it changes nothing.
func (l *Ledger) selfTest(ctx context.Context, c Config) error {
	return l.view(ctx, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		after, err := r.Entries(head.Size, 1)
		if err != nil {
			return err
		}
		if len(after) > 0 {
			return fmt.Errorf("%w: there are entries beyond the head row: restore the ledger, do not go on", ErrDamaged)
		}
		if head.Size == 0 {
			if c.Begun != "" && c.Continues == nil {
				return fmt.Errorf("%w: the store is empty, and %s. If a ledger was begun, this is not it: give the right store (is its volume mounted?), or put the ledger back from a backup", ErrUnavailable, c.Begun)
			}
			return nil
		}
		if behind := head.Newest.Sub(l.clock()); behind > l.tolerance {
			return fmt.Errorf("%w: the clock is %s behind the newest entry: set it right", ErrUnavailable, behind.Round(time.Second))
		}
		// The keys first: with others everything would look damaged.
		if err := testKeys(r, l.origin, l.keys.Load()); err != nil {
			return err
		}
		newest, err := r.Entries(head.Size-min(head.Size, selfTestEntries), selfTestEntries)
		if err != nil {
			return err
		}
		for i := range newest {
			if newest[i].Position != head.Size-uint64(len(newest)-i) {
				return fmt.Errorf("%w: positions are not contiguous at %d", ErrDamaged, newest[i].Position)
			}
			if newest[i].Sealed == nil {
				continue // erased; its leaf is checked by Verify
			}
			if _, err := decode(l.keys.Load(), &newest[i]); err != nil {
				return err
			}
		}
		if n := len(newest); uint64(n) != min(head.Size, selfTestEntries) || !newest[n-1].Time.Equal(head.Newest) {
			return fmt.Errorf("%w: the head row does not agree with the newest entry: restore the ledger, do not go on", ErrDamaged)
		}
		return verifyObjections(r, l.keys.Load())
	})
}

// testKeys holds the first entry against the origin, and every Key entry against the keys at hand.
func testKeys(r Reader, origin string, keys *Keys) error {
	positions, err := r.OfType(TypeKey, 0, maxKeyEntries)
	if err != nil {
		return err
	}
	if len(positions) == 0 || positions[0] != 0 {
		return fmt.Errorf("%w: the first entry is not the one that began the ledger", ErrDamaged)
	}
	for _, position := range positions {
		e, err := r.Entry(position)
		if err != nil {
			return err
		}
		p, err := decode(keys, &e)
		if err != nil {
			return fmt.Errorf("%w (are these the keys of this ledger?)", err)
		}
		if p.Epoch.Origin != origin {
			return fmt.Errorf("%w: the ledger was made under another origin; give that one, or another ledger", ErrInvalid)
		}
		if p.Epoch.Number == 0 {
			continue // of a signing key, which may have been taken away since
		}
		epoch, ok := keys.epoch(p.Epoch.Number)
		if !ok || epoch.fingerprint() != p.Epoch.Fingerprint {
			return fmt.Errorf("%w: the keys of epoch %d are not those that the ledger was written with", ErrKeys, p.Epoch.Number)
		}
	}
	return nil
}

// start writes what a start writes: new key epochs, the policy in force, the closing entries of what was left open.
func (l *Ledger) start(ctx context.Context, c Config) error {
	var err error
	if l.signers, err = c.Keys.signers(l.origin); err != nil {
		return err
	}
	head := uint64(0) // after the transaction before this one
	for more := true; more; {
		var w *writer
		err := l.store.Update(ctx, Wanted{}, func(tx Tx) error {
			var err error
			w, err = l.begin(tx)
			if err != nil {
				return err
			}
			if c.Continues != nil && head == 0 {
				if w.position != 0 || c.Continues.State.Origin == l.origin {
					return fmt.Errorf("%w: only a new ledger, under another origin, can continue one that ended", ErrInvalid)
				}
				w.continues = c.Continues
			}
			if err := w.beginKeys(w.keys); err != nil {
				return err
			}
			if w.continues != nil {
				if err := w.carry(w.continues); err != nil {
					return err
				}
			}
			if c.Configuration != "" || c.Policy != "" {
				if err := w.policy(policyBody{c.Configuration, c.Policy}); err != nil {
					return err
				}
			}
			if more, err = w.abandon(w.held()); err != nil {
				return err
			}
			l.stats.Position = w.position
			w.signNow = !more
			return w.finish()
		})
		if err != nil {
			return fmt.Errorf("%w: the first writes failed: %w", ErrUnavailable, err)
		}
		head = w.position
		if w.signed != nil {
			l.publish(*w.signed, w.signedTree)
		}
	}
	return nil
}

// beginKeys records every epoch and every signing key that the ledger does not name yet; an epoch and a key that are new together share an entry. The first of
// these entries, at position 0, begins the ledger and names it.
func (w *writer) beginKeys(k *Keys) error {
	var bodies []epochBody
	for i := range k.epochs {
		e := &k.epochs[i]
		_, known, err := w.tx.Newest([]Mark{epochMark(e.number)})
		if w.failed(err) {
			return w.err
		}
		if !known {
			bodies = append(bodies, epochBody{Origin: w.ledger.origin, Number: e.number, Fingerprint: e.fingerprint()})
		}
	}
	verifiers, err := k.Verifiers(w.ledger.origin)
	if err != nil {
		return err
	}
	shared := 0
	for _, text := range verifiers {
		_, known, err := w.tx.Newest([]Mark{signerMark(text)})
		if w.failed(err) {
			return w.err
		}
		switch {
		case known:
		case shared < len(bodies):
			bodies[shared].Signer = text
			shared++
		default:
			bodies = append(bodies, epochBody{Origin: w.ledger.origin, Signer: text})
		}
	}
	for i := range bodies {
		bodies[i].Purposes = true
	}
	if w.continues != nil {
		bodies[0].Continues = string(w.continues.note)
	}
	for i := range bodies {
		if _, err := w.append(TypeKey, &payload{Epoch: &bodies[i]}, bodies[i].marks()); err != nil {
			return err
		}
	}
	return nil
}

// policy records the configuration and policy in force, if they are not those last recorded.
func (w *writer) policy(now policyBody) error {
	m := []Mark{{Kind: MarkPolicy}}
	_, last, known, err := w.recorded(m)
	if err != nil {
		return err
	}
	if known && last.Policy != nil && *last.Policy == now {
		return nil
	}
	_, err = w.append(TypePolicy, &payload{Policy: &now}, m)
	return err
}

// RecordPolicy records that a configuration and a policy table, named by their hashes, are in force from now. It records nothing if they
// are the last ones recorded.
func (l *Ledger) RecordPolicy(ctx context.Context, configuration, policy string) error {
	return l.do(ctx, func(w *writer) error { return w.policy(policyBody{configuration, policy}) }, nil)
}

// view reads one committed state. Nothing is read from a store that has become unsound.
func (l *Ledger) view(ctx context.Context, f func(Reader) error) error {
	if l.unsound.Load() {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrUnsound)
	}
	err := l.store.View(ctx, f)
	switch {
	case errors.Is(err, ErrUnsound):
		l.unsound.Store(true)
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case err == nil, errors.Is(err, ErrDamaged), errors.Is(err, ErrKeys), errors.Is(err, ErrInvalid), errors.Is(err, ErrUnavailable), errors.Is(err, ErrNotRecorded),
		errors.Is(err, ErrNotSigned):
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Shutdown takes no more writes, records what is queued and counted, closes as Abandoned what is still open, signs and exports a last checkpoint (where its
// sinks take it within two seconds), and returns when all of it is durable.
// It returns ctx's error if that takes too long; the ledger then ends by itself. The store may be closed only after it has returned nil.
func (l *Ledger) Shutdown(ctx context.Context) error {
	l.gate.Lock()
	first := !l.ended
	l.ended = true
	l.gate.Unlock()
	if first {
		close(l.ending)
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats is what the metrics show.
type Stats struct {
	Position   uint64 // of the next entry
	Open       int    // accesses not closed; those of other replicas as of the last look, each Sweep
	Waiting    int    // writes that wait
	Batches    uint64 // of this process since its start, those that wrote something
	Entries    uint64 // likewise
	LastBatch  int
	LastCommit time.Duration
	Unsound    bool        // nothing more is recorded until the process is started anew
	Signed     uint64      // size of the newest checkpoint
	SignedAt   time.Time   // when it was signed
	Sinks      []SinkStats // where checkpoints are kept
}

// Stats returns counters. It does not wait.
func (l *Ledger) Stats() Stats {
	l.statsMu.Lock()
	defer l.statsMu.Unlock()
	s := l.stats
	s.Waiting, s.Unsound, s.Sinks = len(l.queue), l.unsound.Load(), slices.Clone(s.Sinks)
	if c := l.newest.Load(); c != nil {
		s.Signed, s.SignedAt = c.Size, c.At
	}
	return s
}

func (l *Ledger) counted(w *writer, took time.Duration) {
	l.statsMu.Lock()
	defer l.statsMu.Unlock()
	l.stats.Open += w.opened - w.closed
	if w.open >= 0 {
		l.stats.Open = w.open
	}
	l.stats.Position = w.position // other replicas write too
	if w.wrote == 0 {
		return
	}
	l.stats.Batches++
	l.stats.Entries += uint64(w.wrote)
	l.stats.LastBatch, l.stats.LastCommit = w.wrote, took
}

// Origin returns the ledger's name.
func (l *Ledger) Origin() string { return l.origin }
