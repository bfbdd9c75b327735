package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// maxObjections bounds how many objections and delegations one number may have, withdrawn ones included: each release reads all of them. At a desk and
// while a list comes in what stands is counted; a list on its way may bring as many again.
const maxObjections = 500

// Preferences implements consent.Registry from the ledger's own state: every acknowledged change is in it.
func (l *Ledger) Preferences(ctx context.Context, numbers []record.NHSNumber) (consent.Preferences, error) {
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	var out consent.Preferences
	err := l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		out, err = preferences(r, keys, numbers)
		return err
	})
	return out, err
}

// preferences reads the newest state of every objection and delegation under the numbers, newest first. What each says is taken from its entry, never
// from a row, so that whoever changes a row can hide one but not soften it; hiding is what the self-test and Verify find.
func preferences(r Reader, k *Keys, numbers []record.NHSNumber) (consent.Preferences, error) {
	return preferencesOf(r, k, numbers, values(k.persons(numbers)))
}

// preferencesOf is preferences for numbers whose marks are worked out already.
func preferencesOf(r Reader, k *Keys, numbers []record.NHSNumber, persons []string) (consent.Preferences, error) {
	if len(persons) == 0 {
		return consent.Preferences{}, nil
	}
	rows, err := r.ObjectionsOf(persons)
	if err != nil {
		return consent.Preferences{}, err
	}
	var out consent.Preferences
	imports := endings{}
	for _, row := range rows {
		has, err := stateAt(r, k, row)
		if err != nil {
			return consent.Preferences{}, err
		}
		if !slices.Contains(numbers, has.about) {
			return consent.Preferences{}, fmt.Errorf("%w: entry %d is about somebody else", ErrDamaged, row.Position)
		}
		if has.delegation != nil {
			out.Delegations = append(out.Delegations, *has.delegation)
			out.Position = max(out.Position, row.Position)
			continue
		}
		stands, err := imports.stands(r, k, has.payload, has.objection)
		if err != nil {
			return consent.Preferences{}, err
		}
		if stands {
			out.Objections = append(out.Objections, *has.objection)
			out.Position = max(out.Position, has.objection.Position)
		}
	}
	newestFirst(out.Objections)
	slices.SortFunc(out.Delegations, func(a, b consent.Delegation) int { return cmp.Compare(b.Position, a.Position) })
	return out, nil
}

// state is what a row points to: an objection, or a delegation.
type state struct {
	objection  *consent.Objection
	delegation *consent.Delegation
	about      record.NHSNumber
	payload    *payload
}

// stateAt reads the entry that a row points to.
func stateAt(r Reader, k *Keys, row ObjectionRow) (state, error) {
	e, err := entryAt(r, row.Position)
	if err != nil {
		return state{}, err
	}
	p, err := decode(k, &e)
	if err != nil {
		return state{}, err
	}
	in := &reading{}
	out := state{about: in.number(p.Subject), payload: p}
	switch {
	case p.Objection != nil && p.Objection.ID == row.ID:
		out.objection = in.objection(*p.Objection, &e)
	case p.Delegation != nil && p.Delegation.ID == row.ID:
		out.delegation = in.delegation(*p.Delegation, &e)
	default:
		return state{}, fmt.Errorf("%w: entry %d is not the objection or delegation that it stands for", ErrDamaged, row.Position)
	}
	if in.bad {
		return state{}, fmt.Errorf("%w: entry %d holds a word that was never written", ErrDamaged, row.Position)
	}
	return out, nil
}

// RecordObjection records a new objection about the person, in force from acknowledgement (or from o.From if later). ID, Recorded and Position
// of o are set by the ledger; an empty status is in-force, and an empty author is the actor. key (32 hex digits) makes it safe to repeat: the same key
// from the same user about the same person returns what the first call recorded, ErrInvalid if that was another wish, and ErrStale if the objection
// was changed since. ErrInvalid for an objection that cannot be.
func (l *Ledger) RecordObjection(ctx context.Context, by Actor, about record.NHSNumber, o consent.Objection, key string) (consent.Objection, Receipt, error) {
	if err := errors.Join(checkKey(key), checkActor(by)); err != nil {
		return consent.Objection{}, Receipt{}, err
	}
	o = withAuthor(o, by)
	if err := checkObjection(o); err != nil || about.IsZero() {
		return consent.Objection{}, Receipt{}, cmp.Or(err, fmt.Errorf("%w: an objection is about a person", ErrInvalid))
	}
	o.ID = objectionID()
	var receipt Receipt
	wanted := Wanted{Marks: l.keys.Load().recordKey(by.Requester.User, about, key), Persons: values(l.keys.Load().persons([]record.NHSNumber{about}))}
	err := l.wanting(ctx, wanted, func(w *writer) error {
		e, p, ok, err := w.recorded(w.keys.recordKey(by.Requester.User, about, key))
		if err != nil {
			return err
		}
		if ok {
			asked := o
			receipt = w.receipt(&e)
			if err := restore(&o, p, &e); err != nil {
				return err
			}
			if wish(o) != wish(asked) {
				return fmt.Errorf("%w: this key was used for another objection: make a new one for each", ErrInvalid)
			}
			return w.newest(o.ID, e.Position)
		}
		if err := w.room(about); err != nil {
			return err
		}
		if !o.Until.IsZero() && !o.Until.After(w.now) {
			return fmt.Errorf("%w: the objection would have ended already", ErrInvalid)
		}
		receipt, err = w.objection(by, about, &o, key, 0)
		return err
	}, nil)
	if err != nil {
		return consent.Objection{}, Receipt{}, err
	}
	return o, receipt, nil
}

// newest returns ErrStale if the state of an objection or delegation is no longer the one at the position: to acknowledge that again would say
// that it binds.
func (w *writer) newest(id string, position uint64) error {
	row, ok, err := w.tx.Objection(id)
	if w.failed(err) {
		return w.err
	}
	if !ok || row.Position != position {
		return ErrStale
	}
	return nil
}

// room returns ErrInvalid if the person has as many objections and delegations as anybody may have. Those of lists that have not come in do not count.
func (w *writer) room(about record.NHSNumber) error {
	rows, err := w.tx.ObjectionsOf(values(w.keys.persons([]record.NHSNumber{about})))
	if w.failed(err) {
		return w.err
	}
	if len(rows) < maxObjections {
		return nil
	}
	person, err := endings{}.heldBy(w.tx, w.keys, about, 0)
	if err != nil {
		return w.verdict(err)
	}
	if person.count >= maxObjections {
		return fmt.Errorf("%w: the person has %d objections already", ErrInvalid, maxObjections)
	}
	return w.forget(person)
}

// forget removes the rows of lists that were given up, where a person has so many rows that reading them costs: each release reads all. The entries
// stay, and say what became of the list.
func (w *writer) forget(person *heldRows) error {
	if person.rows < maxObjections {
		return nil
	}
	for _, id := range person.givenUp {
		if w.failed(w.tx.DropObjection(id)) {
			return w.err
		}
	}
	person.rows, person.givenUp = person.rows-len(person.givenUp), nil
	return nil
}

// current returns the entry of a change that was recorded under any of the marks, with true; else the newest entry of the objection or delegation.
// ErrNotFound if there is none about any of the numbers.
func (w *writer) current(numbers []record.NHSNumber, id string, repeated []Mark) (Entry, *payload, bool, error) {
	row, ok, err := w.tx.Objection(id)
	if w.failed(err) {
		return Entry{}, nil, false, w.err
	}
	if !ok || !slices.Contains(values(w.keys.persons(numbers)), row.Person) {
		return Entry{}, nil, false, ErrNotFound
	}
	e, p, ok, err := w.recorded(repeated)
	if err != nil || ok {
		return e, p, ok, err
	}
	e, p, err = w.entry(row.Position)
	return e, p, false, err
}

func aboutOf(p *payload, e *Entry) (record.NHSNumber, error) {
	r := &reading{}
	about := r.number(p.Subject)
	if r.bad || about.IsZero() {
		return about, fmt.Errorf("%w: entry %d is about nobody", ErrDamaged, e.Position)
	}
	return about, nil
}

// WithdrawObjection ends an objection. numbers are the person's number and those that it supersedes. ErrNotFound if the objection is
// not about any of them; withdrawing one that is withdrawn already returns it as it is. The same key from the same user returns what the first
// call recorded.
func (l *Ledger) WithdrawObjection(ctx context.Context, by Actor, numbers []record.NHSNumber, id, key string) (consent.Objection, Receipt, error) {
	return l.ChangeObjection(ctx, by, numbers, id, consent.Withdrawn, key)
}

// ChangeObjection gives an objection another status: one that was requested becomes in-force or declined, and any becomes withdrawn; an objection that
// is so already is returned as it is. ErrNotFound, numbers and key are as of WithdrawObjection; ErrStale if there is no way from where it
// stands to that status, such as from withdrawn to in-force: record a new one.
func (l *Ledger) ChangeObjection(ctx context.Context, by Actor, numbers []record.NHSNumber, id string, to consent.Status, key string) (consent.Objection, Receipt, error) {
	if err := errors.Join(checkKey(key), checkActor(by)); err != nil {
		return consent.Objection{}, Receipt{}, err
	}
	if to != consent.InForce && to != consent.Declined && to != consent.Withdrawn {
		return consent.Objection{}, Receipt{}, fmt.Errorf("%w: an objection becomes in-force, declined or withdrawn", ErrInvalid)
	}
	var o consent.Objection
	var receipt Receipt
	err := l.do(ctx, func(w *writer) error {
		e, p, again, err := w.current(numbers, id, w.keys.withdrawKey(by.Requester.User, id, key))
		if err != nil {
			return err
		}
		if p.Objection == nil {
			return ErrNotFound
		}
		if err := restore(&o, p, &e); err != nil {
			return err
		}
		stands, err := endings{}.stands(w.tx, w.keys, p, &o)
		if err != nil {
			return w.verdict(err)
		}
		if !stands {
			return ErrNotFound // it is of a list that has not come in: as if it had never been
		}
		receipt = w.receipt(&e)
		switch {
		case again && o.Status != to:
			return fmt.Errorf("%w: this key was used for another change: make a new one for each", ErrInvalid)
		case again || o.Status == to:
			return nil
		case to != consent.Withdrawn && o.Status != consent.Requested:
			return ErrStale
		}
		about, err := aboutOf(p, &e)
		if err != nil {
			return err
		}
		o.Status = to
		receipt, err = w.objection(by, about, &o, key, e.Position)
		return err
	}, nil)
	if err != nil {
		return consent.Objection{}, Receipt{}, err
	}
	return o, receipt, nil
}

// objection appends an Objection entry and moves the projection. It fills in what the ledger sets.
func (w *writer) objection(by Actor, about record.NHSNumber, o *consent.Objection, key string, replaces uint64) (Receipt, error) {
	p := &payload{Subject: about.Reveal(), Actor: actorOut(by), Key: key, Replaces: replaces, Objection: objectionOut(*o)}
	marks := append(w.epoch.about(about), w.epoch.who(by.Requester)...)
	if o.Custodian != "" {
		marks = append(marks, Mark{MarkCustodian, string(o.Custodian)})
	}
	marks = append(marks, w.epoch.change("objection", "withdrawal", by.Requester.User, about, o.ID, key, replaces))
	receipt, err := w.append(TypeObjection, p, marks)
	if err != nil {
		return Receipt{}, err
	}
	row := ObjectionRow{ID: o.ID, Person: w.epoch.hash(MarkPerson, about.Reveal()).Value, Position: receipt.Position}
	if w.failed(w.tx.PutObjection(row)) {
		return Receipt{}, w.err
	}
	o.Recorded, o.Position = w.now, receipt.Position
	w.changed = append(w.changed, about)
	return receipt, nil
}

func restore(o *consent.Objection, p *payload, e *Entry) error {
	r := &reading{}
	if p.Objection == nil {
		return fmt.Errorf("%w: entry %d is not an objection", ErrDamaged, e.Position)
	}
	*o = *r.objection(*p.Objection, e)
	if r.bad {
		return fmt.Errorf("%w: entry %d holds a word that was never written", ErrDamaged, e.Position)
	}
	return nil
}

// ReadObjections records the look (C-10) and returns the objections, all statuses, newest first.
func (l *Ledger) ReadObjections(ctx context.Context, by Actor, numbers []record.NHSNumber) ([]consent.Objection, Receipt, error) {
	prefs, receipt, err := l.readPreferences(ctx, by, numbers, questionObjections)
	return prefs.Objections, receipt, err
}

func (l *Ledger) readPreferences(ctx context.Context, by Actor, numbers []record.NHSNumber, kind string) (consent.Preferences, Receipt, error) {
	if err := checkActor(by); err != nil {
		return consent.Preferences{}, Receipt{}, err
	}
	var prefs consent.Preferences
	var receipt Receipt
	err := l.do(ctx, func(w *writer) (err error) {
		if prefs, err = preferences(w.tx, w.keys, numbers); err != nil {
			return w.verdict(err)
		}
		p := &payload{Actor: actorOut(by), Question: &questionBody{Kind: kind, Subjects: reveal(numbers)}}
		receipt, err = w.append(TypeRead, p, append(w.epoch.about(numbers...), w.epoch.who(by.Requester)...))
		return err
	}, nil)
	if err != nil {
		return consent.Preferences{}, Receipt{}, err
	}
	return prefs, receipt, nil
}

// objectionID makes 128 random bits readable. Base 32 has few digits, so that an id does not look like an NHS number.
func objectionID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error (Go 1.24)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// listedID makes an id of the place where the entry will stand and 80 random bits: neighbours of a list have neighbouring ids.
func listedID(position uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], position<<16) // 48 bits last longer than any ledger
	_, _ = rand.Read(b[6:])                        // crypto/rand.Read never returns an error (Go 1.24)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

func withAuthor(o consent.Objection, by Actor) consent.Objection {
	if o.Status == "" {
		o.Status = consent.InForce
	}
	if o.AuthorUser == "" {
		o.AuthorUser, o.AuthorName, o.AuthorRole, o.AuthorODS = by.Requester.User, by.Requester.Name, by.RoleName, by.Requester.Organisation
	}
	o.From, o.Until = micro(o.From), micro(o.Until)
	return o
}

// micro is the exactness with which times are kept.
func micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

func checkObjection(o consent.Objection) error {
	invalid := func(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }
	switch o.Scope {
	case consent.ToAll:
	case consent.ToCustodian:
		if !o.Custodian.Valid() {
			return invalid("an objection to a custodian names one")
		}
	case consent.ToSection:
		if !record.AllSections.Has(o.Section) {
			return invalid("an objection to a section names one")
		}
	default:
		return invalid("the scope of an objection is all, custodian or section")
	}
	if o.Scope != consent.ToCustodian && o.Custodian != "" {
		return invalid("only an objection to a custodian names one")
	}
	if o.Status != consent.InForce && o.Status != consent.Requested && o.Status != consent.Declined {
		return invalid("the status of a new objection is in-force, requested or declined")
	}
	if !o.Until.IsZero() && !o.Until.After(o.From) {
		return invalid("an objection ends after it begins")
	}
	for _, text := range []string{o.AuthorUser, o.AuthorName, o.AuthorRole, o.Responsible, o.Method, o.Source} {
		if record.CheckFreeText("text", text) != nil {
			return invalid(fmt.Sprintf("texts of an objection are UTF-8, at most %d bytes, without control characters", record.MaxFreeText))
		}
	}
	return nil
}

func checkActor(by Actor) error {
	if record.CheckFreeText("reason", by.Reason) != nil {
		return fmt.Errorf("%w: a reason is UTF-8, at most %d bytes, without control characters", ErrInvalid, record.MaxFreeText)
	}
	return nil
}

func values(marks []Mark) []string {
	out := make([]string, len(marks))
	for i, m := range marks {
		out[i] = m.Value
	}
	return out
}
