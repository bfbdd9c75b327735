package audit

import (
	"context"
	"fmt"
	"time"
)

// Reload takes up keys without stopping. New epochs begin with an entry, and are used from the transaction after it; new signing keys are named by one, and sign
// from the next checkpoint on. Every epoch that is in use MUST be among the keys, unchanged: what was written stays as it is and is read with the keys that it was
// written with. A signing key may be gone: it signs no more. Where several replicas write, all of them need the files before the first is told to reload: one
// that has not reloaded cannot read what the others write under the new epoch, and refuses until it has.
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
	return l.do(ctx, func(w *writer) error { return w.beginKeys(keys) }, func(err error, _ bool) {
		if err == nil { // on the committer, between two transactions
			l.keys.Store(keys)
			l.signers = signers
		}
	})
}

// EpochSince returns when the key epoch in use began.
func (l *Ledger) EpochSince(ctx context.Context) (time.Time, error) {
	var since time.Time
	err := l.view(ctx, func(r Reader) error {
		position, ok, err := r.Newest([]Mark{epochMark(l.keys.Load().current().number)})
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
