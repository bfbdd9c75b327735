// Package worklist finds the accesses that somebody must look at: those of people who look at records that are none of their business.
//
// While a record is in memory the broker notes what rules may look at (audit.Evidence). A [Watcher] follows the ledger, a [Judge] weighs each access by the
// [Rules] of one readable file, and what weighs enough becomes an alert, an entry of its own. No request waits for that. Everything that is remembered
// comes from the ledger, is bounded, and is read again after a restart; so replicas agree, and nothing is lost that a restart could lose.
//
// What explains an access (an encounter, an appointment, a referral, the same care team) is looked at first, because most of what looks odd is somebody's
// work: alerts that nobody believes are read by nobody.
package worklist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// Book is what a Watcher reads and writes. The ledger is one.
type Book interface {
	Follow(ctx context.Context, from uint64, limit int) ([]audit.Found, uint64, error)
	Since(ctx context.Context, at time.Time) (uint64, error)
	RaiseAlert(ctx context.Context, a audit.Alert, at time.Time, topic []string, again time.Duration) (audit.Receipt, bool, error)
}

var _ Book = (*audit.Ledger)(nil)

// Watcher follows a ledger and raises alerts.
type Watcher struct {
	book  Book
	rules *Rules
	log   *slog.Logger
	judge *Judge
	next  uint64    // entry to be read
	begun bool      // next is known
	todo  []Finding // not raised yet
}

const (
	poll    = time.Second
	page    = 500    // entries at a time
	maxTodo = 10_000 // findings that wait because the ledger cannot be written; what is over is found again after a restart
)

// NewWatcher returns one that has read nothing.
func NewWatcher(book Book, rules *Rules, log *slog.Logger) *Watcher {
	return &Watcher{book: book, rules: rules, log: log, judge: NewJudge(rules)}
}

// Run follows the ledger until ctx ends. It begins four weeks back: that is as much as it remembers. What was an alert already stays one.
func (w *Watcher) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := w.safely(ctx)
		if err != nil && ctx.Err() == nil && !failed {
			w.log.Warn("the worklist does not follow the ledger just now; it tries again", "problem", "worklist")
		}
		if failed = err != nil; errors.Is(err, errPanicked) {
			timer.Reset(rest)
			continue
		}
		timer.Reset(poll)
	}
}

var errPanicked = errors.New("a rule panicked")

// rest is how long nothing is looked at after a panic, which will come again with the same entry.
const rest = 10 * time.Minute

// safely catches up once. A panic, which would end the process, is our own bug: what is remembered may be half of it, so that it is read again, as after a restart.
func (w *Watcher) safely(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			*w, err = *NewWatcher(w.book, w.rules, w.log), errPanicked
			w.log.Error("the worklist's rules fail; they are tried again in ten minutes, and the entries stay to be looked at", "problem", "worklist", "kind", fmt.Sprintf("%T", v))
		}
	}()
	return w.Catch(ctx, time.Now())
}

// Catch reads what has been recorded since the last time, and raises what must be looked at. now is the time at which it is called.
func (w *Watcher) Catch(ctx context.Context, now time.Time) error {
	if !w.begun {
		at, err := w.book.Since(ctx, now.Add(-remembered-time.Hour))
		if err != nil {
			return err
		}
		w.next, w.begun = at, true
	}
	for {
		if err := w.raise(ctx); err != nil {
			return err
		}
		list, next, err := w.book.Follow(ctx, w.next, page)
		if err != nil {
			return err
		}
		for _, f := range list {
			w.keep(w.judge.Take(f))
		}
		if next == w.next {
			break
		}
		w.next = next
	}
	w.keep(w.judge.Until(now))
	return w.raise(ctx)
}

func (w *Watcher) keep(list []Finding) {
	w.todo = append(w.todo, list[:min(len(list), maxTodo-len(w.todo))]...)
}

// raise records what has been found, oldest first. One that the ledger will not take does not hold up those behind it, and is tried again the next time; where the
// ledger takes nothing just now, the rest waits.
func (w *Watcher) raise(ctx context.Context) error {
	var refused []Finding
	for i, f := range w.todo {
		_, _, err := w.book.RaiseAlert(ctx, f.Alert, f.At, f.Topic, w.rules.again)
		switch {
		case err == nil:
		case errors.Is(err, audit.ErrUnavailable) || ctx.Err() != nil:
			w.todo = append(refused, w.todo[i:]...)
			return err
		default:
			refused = append(refused, f)
		}
	}
	if w.todo = refused; len(refused) > 0 {
		w.log.Warn("the ledger does not take an alert; it is tried again, and those behind it are not held up", "problem", "worklist", "alerts", len(refused))
	}
	return nil
}
