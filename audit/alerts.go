package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// MaxOverride is the longest that an override may last, and how long it does where nothing shorter is configured (C-3).
const MaxOverride = 60 * time.Minute

// ReviewOutcome is what became of the review of an override. The list is closed; each ends the work on it.
type ReviewOutcome string

// The outcomes.
const (
	Justified    ReviewOutcome = "justified"
	NotJustified ReviewOutcome = "not-justified"
	Referred     ReviewOutcome = "referred" // to whoever decides: Caldicott guardian, human resources, police
)

// Valid reports whether o is of the closed list.
func (o ReviewOutcome) Valid() bool { return o == Justified || o == NotJustified || o == Referred }

// Bounds are what an officer may see of other people's accesses: those by their organisation's staff, and those to its records. A region's officer sees those
// of the organisations that they oversee as well.
type Bounds struct {
	Organisation record.ODSCode
	Overseen     []record.ODSCode
	Custodians   []record.CustodianKey // those that Organisation and Overseen hold
	Everywhere   bool                  // all organisations
}

// HasStaff reports whether accesses by the organisation's staff are within the bounds.
func (b Bounds) HasStaff(o record.ODSCode) bool {
	return o != "" && (b.Everywhere || o == b.Organisation || slices.Contains(b.Overseen, o))
}

// Holds reports whether accesses to the custodian's record are.
func (b Bounds) Holds(k record.CustodianKey) bool {
	return b.Everywhere || slices.Contains(b.Custodians, k)
}

// Sees reports whether what was found is.
func (b Bounds) Sees(f Found) bool {
	switch {
	case b.Everywhere:
		return true
	case f.Access != nil:
		return b.hold(f.Access)
	case f.Actor != nil && b.HasStaff(f.Actor.Requester.Organisation):
		return true
	case f.Objection != nil:
		return f.Objection.Custodian != "" && b.Holds(f.Objection.Custodian)
	case f.Delegation != nil:
		return slices.ContainsFunc(f.Delegation.Custodians, b.Holds)
	}
	return false
}

func (b Bounds) hold(a *Access) bool {
	return b.HasStaff(a.Requester.Organisation) || b.Everywhere || slices.ContainsFunc(a.Asked, b.Holds)
}

// Override is one use of break-glass, as the worklist shows it.
type Override struct {
	Found               // of the Override entry
	Kind      AlertKind // why somebody must look at it
	Delivered time.Time // when the alert was acknowledged; zero: not yet
	Review    uint64    // position of its newest review, 0 for none
}

// PendingAlerts returns at most limit alerts that have not been delivered, from a position on, in order.
func (l *Ledger) PendingAlerts(ctx context.Context, from uint64, limit int) (out []AlertRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	err = l.view(ctx, func(r Reader) error {
		out, err = r.Alerts(Undelivered, from, limit)
		return err
	})
	return out, err
}

// AlertDelivered notes durably that the alert of the override at the position was delivered. It is safe to repeat.
func (l *Ledger) AlertDelivered(ctx context.Context, position uint64) error {
	return l.do(ctx, func(w *writer) error {
		w.failed(w.tx.AlertDelivered(position, w.now))
		return w.err
	}, nil)
}

// maxLooked is how many overrides one call of Overrides looks at.
const maxLooked = 1000

// Overrides records the question and returns overrides within the bounds, the oldest first: those that nobody has reviewed, or all. next is where to
// go on, 0 if there is nothing more.
func (l *Ledger) Overrides(ctx context.Context, by Actor, in Bounds, which AlertState, from uint64, limit int) (out []Override, next uint64, receipt Receipt, err error) {
	if err := checkActor(by); err != nil {
		return nil, 0, Receipt{}, err
	}
	if limit < 0 || limit > maxFound {
		return nil, 0, Receipt{}, fmt.Errorf("%w: 1 to 1,000 overrides", ErrInvalid)
	}
	limit = or(limit, defaultFound)
	var recorded Receipt // not a result: the committer may still write it when the caller has left
	err = l.do(ctx, func(w *writer) (err error) {
		q := &questionBody{Kind: questionOverrides, Limit: limit}
		q.within(&in)
		recorded, err = w.append(TypeRead, &payload{Actor: actorOut(by), Question: q}, w.epoch.who(by.Requester))
		return err
	}, nil)
	if err != nil {
		return nil, 0, Receipt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	err = l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		rows, err := r.Alerts(which, from, maxLooked)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if len(out) == limit {
				next = row.Position
				return nil
			}
			e, err := entryAt(r, row.Position)
			if err != nil {
				return err
			}
			if e.Sealed == nil {
				continue // erased
			}
			f, err := found(keys, &e)
			if err != nil {
				return err
			}
			if e.Type == TypeOverride && in.hold(f.Access) {
				out = append(out, Override{f, row.Kind, row.Delivered, row.Review})
			}
		}
		if len(rows) == maxLooked {
			next = rows[maxLooked-1].Position + 1
		}
		return nil
	})
	if err != nil {
		return nil, 0, recorded, err
	}
	return out, next, recorded, nil
}

// ReviewOverride records what became of an override, which leaves the worklist. A later review replaces what the list says, never the entry. ErrNotFound
// if there is no override at the position within the bounds; ErrNotPermitted for the user's own: nobody judges themselves; and where neither the requester nor any custodian whose
// record was shown is within the bounds: to have been asked is enough to see it, and too little to take it off everybody's list. key is as of RecordObjection.
func (l *Ledger) ReviewOverride(ctx context.Context, by Actor, in Bounds, position uint64, outcome ReviewOutcome, note, key string) (Receipt, error) {
	if err := errors.Join(checkKey(key), checkActor(by)); err != nil {
		return Receipt{}, err
	}
	if !outcome.Valid() || record.CheckFreeText("note", note) != nil {
		return Receipt{}, fmt.Errorf("%w: a review has an outcome of the list, and a note of at most %d bytes", ErrInvalid, record.MaxFreeText)
	}
	var receipt Receipt
	err := l.do(ctx, func(w *writer) error {
		e, p, ok, err := w.recorded(w.keys.reviewKey(by.Requester.User, key))
		if err != nil {
			return err
		}
		if ok {
			if p.Review == nil || p.Override != position || p.Review.Outcome != string(outcome) {
				return fmt.Errorf("%w: this key was used for another review: make a new one for each", ErrInvalid)
			}
			receipt = w.receipt(&e)
			return nil
		}
		rows, err := w.tx.Alerts(AnyAlert, position, 1)
		if w.failed(err) {
			return w.err
		}
		if len(rows) == 0 || rows[0].Position != position {
			return ErrNotFound
		}
		if override, err := entryAt(w.tx, position); err == nil && (override.Sealed == nil || override.Type != TypeOverride) {
			return ErrNotFound // erased, or an alert of the worklist
		}
		e, p, err = w.entry(position)
		if err != nil {
			return err
		}
		r := &reading{}
		a := r.access(*p.Access) // an Override has one: decode saw to it
		switch {
		case r.bad:
			return fmt.Errorf("%w: entry %d holds a word that was never written", ErrDamaged, position)
		case !in.hold(a):
			return ErrNotFound
		case a.Requester.User == by.Requester.User:
			return ErrNotPermitted
		}
		if !in.HasStaff(a.Requester.Organisation) {
			shown, err := w.disclosed(position, &e, a, in)
			if err != nil {
				return err
			}
			if !shown {
				return ErrNotPermitted
			}
		}
		out := &payload{Override: position, Subject: a.Subject.Reveal(), Supersedes: reveal(a.Supersedes), Actor: actorOut(by), Key: key,
			Review: &reviewBody{string(outcome), note}}
		marks := append(append(w.epoch.about(a.subjects()...), w.epoch.who(by.Requester)...), w.epoch.hash(MarkKey, "review", by.Requester.User, key))
		if receipt, err = w.append(TypeReview, out, marks); err != nil {
			return err
		}
		w.failed(w.tx.AlertReviewed(position, receipt.Position))
		return w.err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// disclosed reports whether an override has shown anything of a custodian within the bounds. Its access was opened by the entry directly behind it.
func (w *writer) disclosed(position uint64, e *Entry, a *Access, in Bounds) (bool, error) {
	q := Query{All: [][]Mark{w.keys.persons(a.subjects())}, Types: []EntryType{TypeChunk, TypeReleased}, From: e.Time, Until: e.Time.Add(MaxOverride + time.Minute),
		Before: w.position, Limit: maxFound}
	for {
		positions, err := w.tx.Search(q)
		if w.failed(err) {
			return false, w.err
		}
		for _, at := range positions {
			shown, err := entryAt(w.tx, at)
			if err != nil {
				return false, w.verdict(err)
			}
			if shown.Sealed == nil {
				continue // erased: whoever showed nothing else may not judge
			}
			f, err := found(w.keys, &shown)
			if err != nil {
				return false, w.verdict(err)
			}
			if f.Opens == position+1 && f.Disclosure != nil && slices.ContainsFunc(f.Disclosure.Custodians, func(c Shown) bool {
				return in.Holds(c.Key) && (c.Count > 0 || c.Sections != 0 || len(c.Digests) > 0)
			}) {
				return true, nil
			}
		}
		if len(positions) < maxFound {
			return false, nil
		}
		q.Before = positions[len(positions)-1]
	}
}
