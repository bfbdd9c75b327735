package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// What a sink says of a checkpoint that it does not take.
var (
	// ErrContradicted is wrapped by the error of a sink that holds a checkpoint which the one given does not continue.
	ErrContradicted = errors.New("what was signed before is not in this ledger: it is an old backup, a copy that went on by itself, or its past was changed. Do not go on with it")

	// ErrAway is wrapped by the error of a sink that cannot be reached now. Others are faults that somebody must put right.
	ErrAway = errors.New("it cannot be reached")
)

// Sink is a place outside the ledger's own store where its newest checkpoint is kept, so that the ledger cannot lose, change or fork its past unseen. A folder
// on another disk is one; a witness in another organisation is a better one. It is called by one goroutine at a time.
type Sink interface {
	// Name says which one it is, to people.
	Name() string

	// Holds returns the size of the newest checkpoint that is kept, 0 if none is, and false if that cannot be known without Extend.
	Holds(ctx context.Context) (size uint64, known bool, err error)

	// Extend keeps c, and MUST NOT return nil before it is durable there. It MUST refuse (ErrContradicted) a checkpoint that does not continue the one that it
	// keeps: of fewer entries, of another root for as many, or without a valid proof of consistency, which prove makes from a size on. Giving the same
	// checkpoint again is no fault. What it returns are lines of signatures to be added to the checkpoint, if it signs.
	Extend(ctx context.Context, c Checkpoint, prove func(ctx context.Context, from uint64) ([][32]byte, error)) (signatures []byte, err error)
}

// SinkStats is how one sink stands.
type SinkStats struct {
	Name         string
	Size         uint64    // of the checkpoint that it took last, 0 for none since the start
	At           time.Time // when that was signed
	Failing      bool      // the last attempt failed
	Contradicted bool      // it holds a checkpoint that this ledger does not continue: somebody must look at once
}

const (
	sinkTime  = 10 * time.Second // for one attempt
	sinkPause = time.Second      // after a failed one, doubled up to the longest
	sinkLong  = time.Minute
	sinkLast  = 2 * time.Second // for the last attempt, when the ledger has ended
)

// extendSafely gives a checkpoint to one sink. A panic of the sink, which reads what a witness elsewhere answers, is a failure of that sink and not the end of the process.
func (l *Ledger) extendSafely(ctx context.Context, i int, c Checkpoint) (signatures []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			signatures, err = nil, fmt.Errorf("%w: a sink panicked with a %T", ErrUnavailable, v)
		}
	}()
	return l.sinks[i].Extend(ctx, c, func(ctx context.Context, from uint64) ([][32]byte, error) { return l.Consistency(ctx, from, c.Size) })
}

// extend hands the newest checkpoint to one sink, and notes how it went. Where another replica was faster, the sink holds one that is newer than ours: then
// there is a newer one in the store too.
func (l *Ledger) extend(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, sinkTime)
	defer cancel()
	var c Checkpoint
	var signatures []byte
	var err error
	for {
		newest, failed := l.Checkpoint(ctx, 0)
		if failed != nil {
			err = failed
			break
		}
		if newest.Size == c.Size { // contradicted, and nobody was faster
			break
		}
		c = newest.with(nil)
		signatures, err = l.extendSafely(ctx, i, c)
		if !errors.Is(err, ErrContradicted) {
			break
		}
	}
	l.statsMu.Lock()
	s := &l.stats.Sinks[i]
	s.Failing = err != nil
	s.Contradicted = s.Contradicted || errors.Is(err, ErrContradicted)
	if err == nil {
		s.Size, s.At = c.Size, c.At
	}
	l.statsMu.Unlock()
	if err == nil && len(signatures) > 0 {
		l.cosigned(c, signatures)
	}
	return err
}

// cosigned adds a witness's signature to a checkpoint that has none of it yet. That it may be lost is no harm: the witness has it, and the next one is near.
func (l *Ledger) cosigned(c Checkpoint, signatures []byte) {
	_ = l.enqueue(l.own(func(w *writer) error {
		stored, err := signedAt(w.tx, c.Size)
		if errors.Is(err, ErrNotSigned) {
			return nil
		}
		if w.failed(err) {
			return w.err
		}
		if now := stored.with(signatures); !bytes.Equal(now.Note, stored.Note) {
			w.failed(w.tx.PutCheckpoint(now))
		}
		return w.err
	}, nil))
}

// export keeps one sink up to the newest checkpoint until the ledger has ended, and then once more.
func (l *Ledger) export(i int) {
	defer l.exporting.Done()
	var pause time.Duration
	var again <-chan time.Time // of a sink that failed, which is tried again when its pause is over and not before
	for ended := false; !ended; {
		wake := l.wakes[i]
		if again != nil {
			wake = nil
		}
		select {
		case <-again:
		case <-wake:
		case <-l.finished:
			ended = true
		}
		c := l.newest.Load()
		if c == nil || c.Size == l.taken(i) {
			continue
		}
		limit := sinkTime
		if ended {
			limit = sinkLast
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		err := l.extend(ctx, i)
		cancel()
		again = nil
		if err == nil {
			pause = 0
			continue
		}
		pause = min(max(2*pause, sinkPause), sinkLong)
		again = time.After(pause)
	}
}

// taken is the size of the checkpoint that a sink took last.
func (l *Ledger) taken(i int) uint64 {
	l.statsMu.Lock()
	defer l.statsMu.Unlock()
	return l.stats.Sinks[i].Size
}

// publish makes a checkpoint that is durable known to whoever exports it.
func (l *Ledger) publish(c Checkpoint, frontier [][32]byte) {
	l.signed, l.signedTree = c, frontier
	l.newest.Store(&c)
	for _, wake := range l.wakes {
		select {
		case wake <- struct{}{}:
		default: // it has been told, and will read the newest
		}
	}
}
