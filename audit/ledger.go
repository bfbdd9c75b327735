package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

const (
	defaultBudget = 8 * time.Second // of an access that states none
	afterNo       = 24 * time.Hour  // design section 3: break-glass within 24 hours of a no
)

// Begin opens an access: durable before anybody is asked. For a permit that breaks the glass, the Override entry and its alert
// row are written first, in the same transaction (C-3). The decision that is recorded is the permit's.
//
// A Begin with the key of one that was recorded returns that one if it is still open and about the same request, else ErrClosed.
func (l *Ledger) Begin(ctx context.Context, p consent.Permit, a Access) (Opened, error) {
	if !p.Valid() || a.Subject.IsZero() || !slices.Contains(p.Numbers(), a.Subject) || p.BreaksGlass() != (a.Purpose == record.BreakGlass) {
		return Opened{}, ErrNotPermitted
	}
	if err := checkKey(a.Key); err != nil {
		return Opened{}, err
	}
	a.Decision = p.Decision()
	a.Supersedes = slices.DeleteFunc(p.Numbers(), func(n record.NHSNumber) bool { return n == a.Subject || n.IsZero() })
	body := accessOut(a)
	o := Opened{ledger: l, subjects: a.subjects(), access: &a, permit: p, decision: canonical(body.Decision)}
	// What can be worked out before the transaction is; where the keys changed meanwhile, it is done again.
	keys := l.keys.Load()
	drafted, key, marks := newDraft(keys, canonical(&payload{Access: body})), keys.accessKey(a.Key), keys.current().opening(&a)
	err := l.wanting(ctx, Wanted{Marks: key}, func(w *writer) error {
		if w.keys != keys {
			key, marks = w.keys.accessKey(a.Key), w.epoch.opening(&a)
		}
		e, known, ok, err := w.recorded(key)
		if err != nil {
			return err
		}
		if ok {
			open, err := w.tx.IsOpen(e.Position)
			if w.failed(err) {
				return w.err
			}
			if !open || e.Type != TypeBegin || !bytes.Equal(canonical(known.Access), canonical(body)) {
				return ErrClosed
			}
			o.position, o.override = e.Position, known.Override
			if o.override == 0 {
				return nil
			}
			_, override, err := w.entry(o.override)
			if err != nil {
				return err
			}
			o.expires = (&reading{}).time(override.Expires)
			return nil
		}
		if p.BreaksGlass() {
			o.expires = w.now.Add(l.override)
			if o.override, err = w.breakGlass(&a, body, o.expires); err != nil {
				return err
			}
			drafted = newDraft(w.keys, canonical(&payload{Access: body, Override: o.override}))
		}
		receipt, err := w.write(TypeBegin, drafted, marks)
		if err != nil || w.failed(w.tx.OpenAccess(receipt.Position, w.now.Add(2*or(a.Budget, defaultBudget)), l.replica)) {
			return errors.Join(err, w.err)
		}
		w.opened++
		o.position = receipt.Position
		return nil
	}, func(err error, left bool) {
		switch {
		case err == nil && left:
			l.owe(debt{a.Key, TypeCancelled})
		case errors.Is(err, ErrUnknownOutcome):
			l.owe(debt{a.Key, TypeAbandoned})
		}
	})
	if err != nil {
		return Opened{}, err
	}
	return o, nil
}

// breakGlass appends the Override entry and its alert, and returns its position.
func (w *writer) breakGlass(a *Access, body *accessBody, expires time.Time) (uint64, error) {
	kind := AlertBreakGlass
	if a.Requester.User != "" {
		position, ok, err := w.tx.Newest(w.keys.askedNo(a.subjects(), a.Requester.User))
		if w.failed(err) {
			return 0, w.err
		}
		if ok {
			no, err := w.tx.Entry(position)
			if w.failed(err) {
				return 0, w.err
			}
			if w.now.Sub(no.Time) <= afterNo {
				kind = AlertAfterNo
			}
		}
	}
	receipt, err := w.append(TypeOverride, &payload{Access: body, Expires: stamp(expires)}, w.epoch.access(a))
	if err != nil || w.failed(w.tx.PutAlert(receipt.Position, kind)) {
		return 0, errors.Join(err, w.err)
	}
	return receipt.Position, nil
}

// Refuse records a request that was refused before an access was opened, with the same detail. It is recorded even if ctx is done: whoever
// refuses has time. A Refuse with a key that was recorded returns the receipt of what was.
func (l *Ledger) Refuse(ctx context.Context, a Access) (Receipt, error) {
	if err := checkKey(a.Key); err != nil {
		return Receipt{}, err
	}
	var receipt Receipt
	body := accessOut(a)
	err := l.wanting(context.WithoutCancel(ctx), Wanted{Marks: l.keys.Load().accessKey(a.Key)}, func(w *writer) error {
		e, _, ok, err := w.recorded(w.keys.accessKey(a.Key))
		if err != nil {
			return err
		}
		if ok {
			if e.Type != TypeRefused {
				return ErrClosed
			}
			receipt = w.receipt(&e)
			return nil
		}
		receipt, err = w.append(TypeRefused, &payload{Access: body, Purpose: namedPurpose(a.Purpose)}, w.epoch.refusing(&a))
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// ReleaseChunk records that one custodian's part of a stream may be sent; the access stays open.
// Preferences are re-read in the same transaction: [*ConsentChangedError] if p no longer holds.
func (l *Ledger) ReleaseChunk(ctx context.Context, o Opened, p consent.Permit, d Disclosure) (Receipt, error) {
	return l.release(ctx, TypeChunk, o, p, d)
}

// Release records that the answer may be sent, and closes the access. Preferences are re-read in the same transaction:
// [*ConsentChangedError] if p no longer holds, ErrClosed if the access is closed already, ErrNotPermitted if d shows a custodian
// that was not asked, or a section that p does not allow, or if the override that the access stands on has expired (C-3).
func (l *Ledger) Release(ctx context.Context, o Opened, p consent.Permit, d Disclosure) (Receipt, error) {
	return l.release(ctx, TypeReleased, o, p, d)
}

func (l *Ledger) release(ctx context.Context, t EntryType, o Opened, p consent.Permit, d Disclosure) (Receipt, error) {
	if o.ledger != l || !p.Valid() || !o.about(p.Numbers()) || p.BreaksGlass() && o.override == 0 || !within(d, o.access.Asked, p) {
		return Receipt{}, ErrNotPermitted
	}
	out := &payload{Disclosure: disclosureOut(d)}
	if p != o.permit { // else it is the decision that stands in the Begin
		if decision := decisionOut(p.Decision()); !bytes.Equal(canonical(decision), o.decision) {
			out.Decision = &decision
		}
	}
	// What can be worked out before the transaction is; where the keys or the preferences changed meanwhile, it is done again.
	keys := l.keys.Load()
	persons := values(keys.persons(o.subjects))
	out.of(o.position, o.subjects)
	if t == TypeReleased {
		out.Purpose = namedPurpose(o.access.Purpose)
	}
	out.Preferences = p.Position()
	drafted := newDraft(keys, canonical(out))
	marksBy := func(e *epoch) []Mark {
		if t == TypeReleased {
			return e.closing(o.access, "")
		}
		return e.chunk(o.access, d)
	}
	marks := marksBy(keys.current())
	var receipt Receipt
	err := l.wanting(ctx, Wanted{Persons: persons, Open: []uint64{o.position}}, func(w *writer) error {
		if w.keys != keys {
			persons, marks = values(w.keys.persons(o.subjects)), marksBy(w.epoch)
		}
		open, err := w.tx.IsOpen(o.position)
		if w.failed(err) {
			return w.err
		}
		if !open {
			return ErrClosed
		}
		if o.override != 0 && !w.now.Before(o.expires) {
			return fmt.Errorf("%w: the override has expired", ErrNotPermitted)
		}
		prefs, err := preferencesOf(w.tx, w.keys, o.subjects, persons)
		if err != nil {
			return w.verdict(err)
		}
		if !p.Holds(prefs, w.now) {
			return &ConsentChangedError{prefs}
		}
		if out.Preferences != prefs.Position {
			out.Preferences = prefs.Position
			drafted = newDraft(w.keys, canonical(out))
		}
		if t == TypeReleased {
			receipt, err = w.shut(t, o.position, drafted, marks)
			return err
		}
		receipt, err = w.write(t, drafted, marks)
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// about reports whether the numbers are those of the person that the access was opened for.
func (o Opened) about(numbers []record.NHSNumber) bool {
	return len(numbers) == len(o.subjects) && !slices.ContainsFunc(numbers, func(n record.NHSNumber) bool { return !slices.Contains(o.subjects, n) })
}

// within reports whether d shows nothing but what p allows of custodians that were to be asked.
func within(d Disclosure, asked []record.CustodianKey, p consent.Permit) bool {
	for _, c := range d.Custodians {
		shows := c.Count > 0 || c.Sections != 0 || len(c.Digests) > 0
		if shows && (!slices.Contains(asked, c.Key) || c.Sections.Without(p.Sections(c.Key)) != 0 || p.Sections(c.Key) == 0) {
			return false
		}
	}
	return true
}

// Close closes an access that showed nothing (more): t is TypeRefused, TypeNothing or TypeCancelled. It is recorded even if ctx is done:
// the caller may have left, the access must be closed all the same.
func (l *Ledger) Close(ctx context.Context, o Opened, t EntryType, reason consent.Reason, d Disclosure) (Receipt, error) {
	if o.ledger != l || t != TypeRefused && t != TypeNothing && t != TypeCancelled {
		return Receipt{}, ErrNotPermitted
	}
	out := &payload{Reason: string(reason), Disclosure: disclosureOut(d)}
	var receipt Receipt
	err := l.wanting(context.WithoutCancel(ctx), Wanted{Open: []uint64{o.position}}, func(w *writer) error {
		open, err := w.tx.IsOpen(o.position)
		if w.failed(err) {
			return w.err
		}
		if !open {
			return ErrClosed
		}
		receipt, err = w.close(t, o.position, o.subjects, o.access, out)
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// checkKey holds the form of what makes a write safe to repeat.
func checkKey(key string) error {
	if b, err := hex.DecodeString(key); err != nil || len(b) != 16 {
		return fmt.Errorf("%w: a key is 32 hex digits", ErrInvalid)
	}
	return nil
}
