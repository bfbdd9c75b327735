package audit

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// MaxBatch is how many writes are put into one transaction at most.
const MaxBatch = 256

// op is one write that waits for its turn. run works it out inside the transaction: it reads first, and if it returns an error (its own
// verdict: consent changed, access closed) it has written nothing, so that the others of the batch stand.
type op struct {
	by     time.Time // not begun after this
	wanted Wanted    // what run will ask for
	keys   bool      // it takes up keys: it alone is done while those at hand are behind the ledger's
	run    func(*writer) error
	settle func(err error, left bool) // on the committer, when the outcome is known; left: nobody waits for it any more. May be nil
	err    error                      // set before done is closed
	done   chan struct{}
	state  atomic.Int32
}

const (
	waiting int32 = iota
	left
	told
)

// writer is one transaction under way, and what all its operations share.
type writer struct {
	tx             Tx
	ledger         *Ledger
	keys           *Keys
	epoch          *epoch
	now            time.Time // the time of every entry of the transaction
	position       uint64    // of the next entry
	tree           tree      // over the entries in front of it
	wrote          int       // entries
	opened, closed int
	open           int   // accesses open, where the sweep has counted them; else -1
	err            error // the store failed: the transaction is lost
	signNow        bool  // a checkpoint is signed however little it is behind
	signed         *Checkpoint
	continues      *Predecessor       // of the transaction that begins a ledger
	changed        []record.NHSNumber // whose objections changed
	signedTree     [][32]byte         // the frontier under the checkpoint, where this transaction signed it
}

// failed notes a failure of the store and reports whether there is one.
func (w *writer) failed(err error) bool {
	if w.err == nil {
		w.err = err
	}
	return w.err != nil
}

// append adds an entry. marks MUST be those that marksOf works out for it. The error is the store's, or ErrInvalid for an entry that is too
// large, in which case nothing was written.
func (w *writer) append(t EntryType, p *payload, marks []Mark) (Receipt, error) {
	return w.write(t, newDraft(w.keys, canonical(p)), marks)
}

// write is append for a payload that is drafted already: whoever waits for the committer does that work, beside it and not in it. Where the keys changed meanwhile
// it is done again.
func (w *writer) write(t EntryType, d *draft, marks []Mark) (Receipt, error) {
	if !d.of(w.keys) {
		d = newDraft(w.keys, d.payload())
	}
	e, err := d.entry(w.position, t, w.now)
	if err != nil {
		return Receipt{}, err
	}
	if w.failed(w.tx.Append(e, marks)) {
		return Receipt{}, w.err
	}
	w.tree.add(w.position, e.Leaf)
	w.position++
	w.wrote++
	return w.receipt(&e), nil
}

func (w *writer) receipt(e *Entry) Receipt { return Receipt{w.ledger.origin, e.Position, e.Leaf} }

// recorded finds the entry that carries any of the marks, and false if there is none.
func (w *writer) recorded(any []Mark) (Entry, *payload, bool, error) {
	position, ok, err := w.tx.Newest(any)
	if w.failed(err) || !ok {
		return Entry{}, nil, false, w.err
	}
	e, p, err := w.entry(position)
	return e, p, err == nil, err
}

// entry reads and opens an entry that must be there.
func (w *writer) entry(position uint64) (Entry, *payload, error) {
	e, err := entryAt(w.tx, position)
	if err != nil {
		return Entry{}, nil, w.verdict(err)
	}
	p, err := decode(w.keys, &e)
	return e, p, w.verdict(err)
}

// verdict tells damage, which concerns one operation, from a failure of the store, which loses the transaction.
func (w *writer) verdict(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	w.failed(err)
	return w.err
}

// entryAt reads an entry that must be there.
func entryAt(r Reader, position uint64) (Entry, error) {
	e, err := r.Entry(position)
	if errors.Is(err, ErrNoEntry) {
		err = fmt.Errorf("%w: entry %d is missing", ErrDamaged, position)
	}
	return e, err
}

// enqueue hands an operation to the committer, or refuses at once.
func (l *Ledger) enqueue(o *op) error {
	l.gate.RLock()
	defer l.gate.RUnlock()
	switch {
	case l.ended:
		return fmt.Errorf("%w: it is shutting down", ErrUnavailable)
	case l.unsound.Load():
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrUnsound)
	}
	select {
	case l.queue <- o:
		return nil
	default:
		return fmt.Errorf("%w: too much is waiting", ErrUnavailable)
	}
}

// do records: it queues run and waits until it is committed, for at most the configured time, or until ctx is done. Leaving early does
// not undo: what is queued is still recorded, and settle learns that nobody waited.
func (l *Ledger) do(ctx context.Context, run func(*writer) error, settle func(err error, left bool)) error {
	return l.wanting(ctx, Wanted{}, run, settle)
}

// wanting is do for an operation that says what it will ask for.
func (l *Ledger) wanting(ctx context.Context, w Wanted, run func(*writer) error, settle func(err error, left bool)) error {
	return l.await(ctx, &op{wanted: w, run: run, settle: settle})
}

// await is do for an operation that is made already.
func (l *Ledger) await(ctx context.Context, o *op) error {
	o.by, o.done = time.Now().Add(l.deadline), make(chan struct{})
	if err := l.enqueue(o); err != nil {
		return err
	}
	timer := time.NewTimer(l.deadline)
	defer timer.Stop()
	why := "it takes too long"
	select {
	case <-o.done:
		return o.err
	case <-timer.C:
	case <-ctx.Done():
		why = "the caller left"
	}
	if o.state.CompareAndSwap(waiting, left) {
		return fmt.Errorf("%w: %s", ErrUnavailable, why)
	}
	<-o.done // the committer was faster; it closes done at once
	return o.err
}

// commitAll is the one goroutine that writes. It ends when the ledger shuts down and everything that was queued is settled.
func (l *Ledger) commitAll() {
	defer close(l.finished)
	tick := time.NewTicker(l.sweep)
	defer tick.Stop()
	sign := time.NewTicker(maxUnsignedFor)
	defer sign.Stop()
	for {
		select {
		case o := <-l.queue:
			l.commit(l.gather(append(l.debts(), o)))
		case <-tick.C:
			l.housekeep(false)
		case <-sign.C:
			if l.due() {
				l.commit([]*op{l.sign()})
			}
		case f := <-l.between:
			f()
		case <-l.ending:
			for len(l.queue) > 0 {
				l.commit(l.gather(l.debts()))
			}
			l.housekeep(true)
			if l.due() {
				l.commit([]*op{l.sign()})
			}
			return
		}
	}
}

// Those whom the last transaction answered are about to ask again, and a sync costs the same for twice as many. So where several were answered, the next
// transaction waits until as many have come as were answered, and those who had come before; but not for long. Who is alone is never kept waiting.
const (
	several = 4
	notLong = 2 * time.Millisecond // about what a sync takes
)

// Where few were answered but several accesses are open, and all processors are busy, those who are ready to run may be about to ask as well: the committer was woken by the first who came.
// They get some turns before a transaction begins. A turn is as long as everybody who is ready takes: where they take too long over something else, nobody is let in for many times as long, so
// that a ledger beside other work is kept waiting for a twentieth of the time and not by every transaction. Who is alone is never kept waiting.
const (
	turns   = 3 // what a request needs from its answers to its question
	tooLong = 25 * time.Millisecond
	pause   = 20 // times as long as they took
)

// letOthersCome lets those run who are ready to.
func (l *Ledger) letOthersCome() {
	begun := time.Now()
	if l.answered >= several || l.Stats().Open < 2 || begun.Before(l.hurried) {
		return
	}
	for range turns {
		runtime.Gosched()
		if took := time.Since(begun); took > tooLong {
			l.hurried = begun.Add(pause * took)
			return
		}
	}
}

// gather fills a batch with what is queued.
func (l *Ledger) gather(batch []*op) []*op {
	l.letOthersCome()
	var late <-chan time.Time
	for len(batch) < MaxBatch {
		select {
		case o := <-l.queue:
			batch = append(batch, o)
			continue
		default:
		}
		if l.answered < several || len(batch) >= l.awaited {
			break
		}
		if late == nil {
			timer := time.NewTimer(notLong)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case o := <-l.queue:
			batch = append(batch, o)
		case <-late:
			return batch
		}
	}
	return batch
}

// commit evaluates a batch in order inside one transaction, and settles each operation when the transaction is durable or lost.
func (l *Ledger) commit(batch []*op) {
	live := l.inTime(nil, batch)
	if len(live) == 0 {
		return
	}
	start := time.Now()
	var w *writer
	err := ErrUnsound
	if !l.unsound.Load() {
		ahead := wantedBy(live)
		ahead.Marks = append(ahead.Marks, l.keys.Load().next()...)
		err = l.store.Update(context.Background(), ahead, func(tx Tx) (err error) {
			if w, err = l.begin(tx); err != nil {
				return err
			}
			// Where the store has its turn with other replicas, more was queued while it waited for it.
			if more := l.inTime(nil, l.queued(MaxBatch-len(live))); len(more) > 0 {
				live = append(live, more...)
				if err := tx.Expect(wantedBy(more)); err != nil {
					return err
				}
			}
			behind, err := w.keys.behind(tx)
			if err != nil {
				return err
			}
			for _, o := range live {
				if behind && !o.keys {
					o.err = errBehind
					continue
				}
				wrote := w.wrote
				o.err = w.evaluate(o.run)
				switch {
				case w.err != nil:
					return w.err
				case o.err != nil && w.wrote != wrote:
					return fmt.Errorf("%w: a refused operation had written", ErrDamaged)
				}
			}
			return w.finish()
		})
	}
	if l.changed != nil && w != nil && len(w.changed) > 0 && (err == nil || errors.Is(err, ErrUnknownOutcome)) {
		l.changed(w.changed)
	}
	if err != nil {
		// None is acknowledged, not even a refusal: the state it was judged by is gone. If the commit's outcome is unknown, the ledger may
		// hold more than was acknowledged, never less.
		if errors.Is(err, ErrUnsound) {
			l.unsound.Store(true)
		}
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		for _, o := range live {
			l.settle(o, err)
		}
		return
	}
	l.counted(w, time.Since(start))
	if w.signed != nil {
		l.publish(*w.signed, w.signedTree)
	}
	l.answered, l.awaited = len(live), len(live)+len(l.queue)
	for _, o := range live {
		l.settle(o, o.err)
	}
}

// wantedBy is what operations will ask for.
func wantedBy(batch []*op) (w Wanted) {
	for _, o := range batch {
		w.add(o.wanted)
	}
	return w
}

// queued takes what is queued, so many at most, and does not wait.
func (l *Ledger) queued(most int) (out []*op) {
	for len(out) < most {
		select {
		case o := <-l.queue:
			out = append(out, o)
		default:
			return out
		}
	}
	return out
}

// inTime adds to a batch those that were not kept waiting too long, and refuses the others.
func (l *Ledger) inTime(live, more []*op) []*op {
	now := time.Now()
	for _, o := range more {
		if now.After(o.by) {
			l.settle(o, fmt.Errorf("%w: it waited too long", ErrUnavailable))
			continue
		}
		live = append(live, o)
	}
	return live
}

// begin prepares a transaction. The time of its entries is the clock's, but never before the newest entry: the order is that of the
// positions, and time follows it. A clock that is far behind is not used at all.
func (l *Ledger) begin(tx Tx) (*writer, error) {
	head, err := tx.Head()
	if err != nil {
		return nil, err
	}
	now := l.clock()
	if now.Before(head.Newest) {
		if head.Newest.Sub(now) > l.tolerance {
			return nil, errClock
		}
		now = head.Newest
	}
	if len(head.Frontier) != bits.OnesCount64(head.Size) {
		return nil, errNoTree
	}
	keys := l.keys.Load()
	return &writer{tx: tx, ledger: l, keys: keys, epoch: keys.current(), now: now, position: head.Size, tree: tree{frontier: head.Frontier}, open: -1}, nil
}

// finish ends a transaction: what was appended is in the tree, and a checkpoint is signed where one is due.
func (w *writer) finish() error {
	if w.wrote > 0 && w.failed(w.tx.PutTree(w.tree.frontier, w.tree.nodes)) {
		return w.err
	}
	w.checkpoint()
	return w.err
}

var errClock = errors.New("the clock is behind the newest entry: set it right")

func (l *Ledger) clock() time.Time { return l.now().UTC().Truncate(time.Microsecond) }

// evaluate runs one operation. A panic is our own bug, and refuses that operation alone.
func (w *writer) evaluate(run func(*writer) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: a check panicked with a %T", ErrUnavailable, r)
		}
	}()
	return run(w)
}

func (l *Ledger) settle(o *op, err error) {
	o.err = err
	gone := !o.state.CompareAndSwap(waiting, told)
	if o.settle != nil {
		o.settle(err, gone)
	}
	close(o.done)
}

// debt is an access that nobody holds although its Begin was, or may have been, kept.
type debt struct {
	key string
	as  EntryType
}

// maxDebts bounds the list; what falls off it is still open, and closed by the sweep.
const maxDebts = 4096

func (l *Ledger) owe(d debt) {
	if len(l.owed) < maxDebts {
		l.owed = append(l.owed, d)
	}
}

// debts returns operations that close what is owed. The next writer finds out by the entry's key whether there is anything to close.
func (l *Ledger) debts() []*op {
	if len(l.owed) == 0 {
		return nil
	}
	n := min(len(l.owed), MaxBatch/2)
	due := l.owed[:n:n]
	l.owed = append([]debt(nil), l.owed[n:]...)
	var ops []*op
	for _, d := range due {
		ops = append(ops, l.own(func(w *writer) error {
			e, p, ok, err := w.recorded(w.keys.accessKey(d.key))
			if err != nil || !ok || e.Type != TypeBegin {
				return err
			}
			open, err := w.tx.IsOpen(e.Position)
			if w.failed(err) || !open {
				return w.err
			}
			r := &reading{}
			a := r.access(*p.Access)
			reason := consent.Reason("")
			if d.as == TypeCancelled {
				reason = consent.ReasonCancelled
			}
			_, err = w.close(d.as, e.Position, a.subjects(), a, &payload{Reason: string(reason)})
			return err
		}, func(err error, _ bool) {
			if err != nil && !errors.Is(err, ErrDamaged) {
				l.owe(d)
			}
		}))
	}
	return ops
}

// own makes an operation of the ledger itself: nobody waits for it.
func (l *Ledger) own(run func(*writer) error, settle func(error, bool)) *op {
	return &op{by: time.Now().Add(time.Hour), run: run, settle: settle, done: make(chan struct{})}
}

// housekeep writes what is the ledger's own to write: debts, counters of minutes that are over, accesses that were forgotten. At the end
// everything that is still counted or open is written and closed.
func (l *Ledger) housekeep(end bool) {
	batch := l.debts()
	for _, m := range l.tally.take(l.clock(), end) {
		batch = append(batch, l.own(m.write, func(err error, _ bool) {
			if err != nil {
				l.tally.giveBack(m)
			}
		}))
	}
	more := true
	batch = append(batch, l.own(func(w *writer) (err error) {
		find := w.overdue
		if end {
			find = w.held
		}
		if more, err = w.abandon(find()); err != nil {
			return err
		}
		open, err := w.tx.OpenCount()
		w.failed(err)
		w.open = open
		return w.err
	}, nil))
	l.commit(batch)
	for end && more && !l.unsound.Load() {
		more = false
		l.commit([]*op{l.own(func(w *writer) (err error) { more, err = w.abandon(w.held()); return err }, nil)})
	}
}

// held finds the open accesses of this replica: of its earlier life when it starts, of this one when it ends.
func (w *writer) held() ([]uint64, error) {
	return w.tx.OpenOf(w.ledger.replica, time.Time{}, MaxBatch)
}

// overdue finds the accesses that were due. Those of another replica were timed by another clock, which may be behind this one by as much as is
// tolerated, and are left open for so much longer: a replica must not close what another may still release.
func (w *writer) overdue() ([]uint64, error) {
	if w.ledger.replica == "" {
		return w.tx.Open(w.now, MaxBatch)
	}
	own, err := w.tx.OpenOf(w.ledger.replica, w.now, MaxBatch)
	if err != nil {
		return nil, err
	}
	others, err := w.tx.Open(w.now.Add(-w.ledger.tolerance), MaxBatch)
	out := slices.Concat(own, others)
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), MaxBatch)], err
}

// abandon closes accesses that were found, and reports whether there may be more of them.
func (w *writer) abandon(positions []uint64, err error) (more bool, _ error) {
	if w.failed(err) {
		return false, w.err
	}
	accesses := make([]*Access, len(positions))
	for i, position := range positions { // all are read before any is written: a damaged one spoils nothing
		e, p, err := w.entry(position)
		if err != nil {
			return false, err
		}
		if e.Type != TypeBegin {
			return false, fmt.Errorf("%w: entry %d opens no access", ErrDamaged, position)
		}
		r := &reading{}
		accesses[i] = r.access(*p.Access)
	}
	for i, a := range accesses {
		if _, err := w.close(TypeAbandoned, positions[i], a.subjects(), a, &payload{}); err != nil {
			return false, err
		}
	}
	return len(positions) == MaxBatch, nil
}

// close appends the closing entry of an open access.
func (w *writer) close(t EntryType, begin uint64, subjects []record.NHSNumber, a *Access, p *payload) (Receipt, error) {
	p.of(begin, subjects)
	p.Purpose = namedPurpose(a.Purpose)
	return w.shut(t, begin, newDraft(w.keys, canonical(p)), w.epoch.closing(a, consent.Reason(p.Reason)))
}

// shut is close for a closing that is drafted already, with its marks.
func (w *writer) shut(t EntryType, begin uint64, d *draft, marks []Mark) (Receipt, error) {
	receipt, err := w.write(t, d, marks)
	if err != nil || w.failed(w.tx.CloseAccess(begin)) {
		return Receipt{}, errors.Join(err, w.err)
	}
	w.closed++
	return receipt, nil
}

// of says which access an entry belongs to.
func (p *payload) of(begin uint64, subjects []record.NHSNumber) {
	p.Opens, p.Subject = begin, subjects[0].Reveal()
	p.Supersedes = reveal(subjects[1:])
}
