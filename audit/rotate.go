package audit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errBehind refuses what would be judged by less than the ledger holds. The next Reload that has the files ends it.
var errBehind = fmt.Errorf("%w: %w: the ledger is written under a newer key epoch: put its files to the others, and have the process take them up (SIGHUP)", ErrUnavailable, ErrKeys)

// keysFor returns the keys that a view is read with, and errBehind if the ledger names an epoch that is not at hand. It is asked after the view has begun: nothing
// in the view is under keys that came later. Where this process's own Reload is just being kept, they are those that it brings.
func (l *Ledger) keysFor(r Reader) (*Keys, error) {
	keys := l.keys.Load()
	behind, err := keys.behind(r)
	if err != nil || !behind {
		return keys, err
	}
	if keys = l.coming.Load(); keys == nil {
		keys = l.keys.Load() // it may have been kept since
	}
	if behind, err = keys.behind(r); err == nil && behind {
		err = errBehind
	}
	return keys, err
}

// Reload takes up keys without stopping. New epochs begin with an entry, and are used from the transaction after it; new signing keys are named by one, and sign
// from the next checkpoint on. Every epoch that the ledger names MUST be among the keys, unchanged: what was written stays as it is and is read with the keys that it was
// written with. A signing key may be gone: it signs no more. Where several replicas write, all of them need the files before the first is told to reload: one
// that has not reloaded cannot find what the others write under the new epoch, and refuses whatever it is asked until it has.
func (l *Ledger) Reload(ctx context.Context, keys *Keys) error {
	if keys == nil || len(keys.epochs) == 0 {
		return fmt.Errorf("%w: a ledger needs keys", ErrInvalid)
	}
	l.reloading.Lock()
	defer l.reloading.Unlock()
	if !keys.holds(l.keys.Load()) {
		return fmt.Errorf("%w: keys of an epoch that is in use are missing, or are others: put the files back", ErrKeys)
	}
	signers, err := keys.signers(l.origin)
	if err != nil {
		return err
	}
	return l.await(ctx, &op{keys: true, run: func(w *writer) error {
		if err := testKeys(w.tx, l.origin, keys); err != nil {
			if errors.Is(err, ErrKeys) || errors.Is(err, ErrInvalid) {
				return err
			}
			return w.verdict(err)
		}
		if err := w.beginKeys(keys); err != nil {
			return err
		}
		l.coming.Store(keys)
		return nil
	}, settle: func(err error, _ bool) {
		if err == nil { // on the committer, between two transactions
			l.keys.Store(keys)
			l.signers = signers
		}
		l.coming.Store(nil)
	}})
}

// EpochSince returns when the key epoch in use began.
func (l *Ledger) EpochSince(ctx context.Context) (time.Time, error) {
	var since time.Time
	err := l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		position, ok, err := r.Newest([]Mark{epochMark(keys.current().number)})
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: no entry says when the keys in use began", ErrDamaged)
		}
		e, err := entryAt(r, position)
		since = e.Time
		return err
	})
	return since, err
}
