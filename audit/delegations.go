package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// maxNamed bounds how many custodians one delegation names.
const maxNamed = 64

// RecordDelegation records what the person lets a carer see, from acknowledgement (or from d.From if later). ID, Recorded and Position of d are set
// by the ledger, its author is the actor, and it is in force. key is as of RecordObjection. The ledger takes the actor's word that they are the
// person: the broker lets nobody else come here (C-6).
func (l *Ledger) RecordDelegation(ctx context.Context, by Actor, about record.NHSNumber, d consent.Delegation, key string) (consent.Delegation, Receipt, error) {
	if err := errors.Join(checkKey(key), checkActor(by)); err != nil {
		return consent.Delegation{}, Receipt{}, err
	}
	d.Status, d.AuthorUser, d.From, d.Until = consent.InForce, by.Requester.User, micro(d.From), micro(d.Until)
	d.Custodians = slices.Compact(slices.Sorted(slices.Values(d.Custodians)))
	now := d.From.IsZero()
	if now {
		d.From = micro(l.clock())
	}
	if err := checkDelegation(d); err != nil || about.IsZero() || about == d.Carer {
		return consent.Delegation{}, Receipt{}, cmp.Or(err, fmt.Errorf("%w: a delegation is from one person to another", ErrInvalid))
	}
	d.ID = objectionID()
	var receipt Receipt
	err := l.do(ctx, func(w *writer) error {
		e, p, ok, err := w.recorded(w.keys.delegationKey(by.Requester.User, about, key))
		if err != nil {
			return err
		}
		if ok {
			asked := d
			receipt = w.receipt(&e)
			if err := restoreDelegation(&d, p, &e); err != nil {
				return err
			}
			from := d.From.Equal(asked.From)
			if now { // each call has its own now
				from = !d.From.After(d.Recorded)
			}
			if !from || !d.Until.Equal(asked.Until) || d.Carer != asked.Carer || d.Name != asked.Name || d.Sections != asked.Sections ||
				!slices.Equal(d.Custodians, asked.Custodians) {
				return fmt.Errorf("%w: this key was used for another delegation: make a new one for each", ErrInvalid)
			}
			return w.newest(d.ID, e.Position)
		}
		if err := w.room(about); err != nil {
			return err
		}
		if !d.Until.After(w.now) {
			return fmt.Errorf("%w: the delegation would have ended already", ErrInvalid)
		}
		receipt, err = w.delegation(by, about, &d, key, 0)
		return err
	}, nil)
	if err != nil {
		return consent.Delegation{}, Receipt{}, err
	}
	return d, receipt, nil
}

// WithdrawDelegation ends a delegation, as WithdrawObjection ends an objection.
func (l *Ledger) WithdrawDelegation(ctx context.Context, by Actor, numbers []record.NHSNumber, id, key string) (consent.Delegation, Receipt, error) {
	if err := errors.Join(checkKey(key), checkActor(by)); err != nil {
		return consent.Delegation{}, Receipt{}, err
	}
	var d consent.Delegation
	var receipt Receipt
	err := l.do(ctx, func(w *writer) error {
		e, p, again, err := w.current(numbers, id, w.keys.delegationWithdrawKey(by.Requester.User, id, key))
		if err != nil {
			return err
		}
		if p.Delegation == nil {
			return ErrNotFound
		}
		if err := restoreDelegation(&d, p, &e); err != nil {
			return err
		}
		receipt = w.receipt(&e)
		if again || d.Status == consent.Withdrawn {
			return nil
		}
		about, err := aboutOf(p, &e)
		if err != nil {
			return err
		}
		d.Status, d.AuthorUser = consent.Withdrawn, by.Requester.User
		receipt, err = w.delegation(by, about, &d, key, e.Position)
		return err
	}, nil)
	if err != nil {
		return consent.Delegation{}, Receipt{}, err
	}
	return d, receipt, nil
}

// ReadDelegations records the look and returns the delegations, withdrawn ones too, newest first.
func (l *Ledger) ReadDelegations(ctx context.Context, by Actor, numbers []record.NHSNumber) ([]consent.Delegation, Receipt, error) {
	prefs, receipt, err := l.readPreferences(ctx, by, numbers, questionDelegations)
	return prefs.Delegations, receipt, err
}

// delegation appends a Delegation entry and moves the projection. It fills in what the ledger sets.
func (w *writer) delegation(by Actor, about record.NHSNumber, d *consent.Delegation, key string, replaces uint64) (Receipt, error) {
	p := &payload{Subject: about.Reveal(), Actor: actorOut(by), Key: key, Replaces: replaces, Delegation: delegationOut(*d)}
	marks := append(append(w.epoch.about(about), w.epoch.who(by.Requester)...), custodians(d.Custodians)...)
	marks = append(marks, w.epoch.change("delegation", "delegation-withdrawal", by.Requester.User, about, d.ID, key, replaces))
	receipt, err := w.append(TypeDelegation, p, marks)
	if err != nil {
		return Receipt{}, err
	}
	row := ObjectionRow{ID: d.ID, Person: w.epoch.hash(MarkPerson, about.Reveal()).Value, Position: receipt.Position}
	if w.failed(w.tx.PutObjection(row)) {
		return Receipt{}, w.err
	}
	d.Recorded, d.Position = w.now, receipt.Position
	return receipt, nil
}

func restoreDelegation(d *consent.Delegation, p *payload, e *Entry) error {
	r := &reading{}
	if p.Delegation == nil {
		return fmt.Errorf("%w: entry %d is not a delegation", ErrDamaged, e.Position)
	}
	*d = *r.delegation(*p.Delegation, e)
	if r.bad {
		return fmt.Errorf("%w: entry %d holds a word that was never written", ErrDamaged, e.Position)
	}
	return nil
}

func checkDelegation(d consent.Delegation) error {
	invalid := func(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }
	switch {
	case d.Carer.IsZero():
		return invalid("a delegation names the carer by their NHS number")
	case d.Sections == 0 || d.Sections.Without(record.AllSections) != 0:
		return invalid("a delegation names at least one section")
	case len(d.Custodians) > maxNamed || slices.ContainsFunc(d.Custodians, func(k record.CustodianKey) bool { return !k.Valid() }):
		return invalid("a delegation names custodians by their keys, or none for all")
	case !d.Until.After(d.From):
		return invalid("a delegation ends, and after it begins")
	case d.Until.Sub(d.From) > consent.MaxDelegation:
		return invalid("a delegation lasts at most 366 days")
	case record.CheckFreeText("name", d.Name) != nil || record.CheckFreeText("author", d.AuthorUser) != nil:
		return invalid(fmt.Sprintf("texts of a delegation are UTF-8, at most %d bytes, without control characters", record.MaxFreeText))
	}
	return nil
}
