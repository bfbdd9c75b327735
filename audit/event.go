package audit

import (
	"context"
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Look is a question for what stands at one position.
type Look struct {
	Position uint64
	Within   *Bounds            // as of Question
	Own      []record.NHSNumber // of a person who asks about themselves: what concerned several people is turned to them
	Sees     func(Row) bool     // whether the asker may know of it

	// Follow is called when the question is on record, where Sees says no by what is known of Own alone, and returns other numbers of the same person. Sees is asked
	// once more then. It may be nil.
	Follow func(context.Context) []record.NHSNumber
}

// Event records the question and returns one row by the position of its entry, as an answer to a question of the list would hold it. Where the asker may not see it, where
// it is about their own conduct, and where no row stands there, the error is ErrNotFound, and the question is recorded without a person, or with the asker alone.
func (l *Ledger) Event(ctx context.Context, by Actor, k Look) (Row, Receipt, error) {
	return l.look(ctx, by, k, questionEvent, func(a *answering) (Row, bool, error) { return a.event(k.Position, staff(by)) }, func(row Row) []record.NHSNumber {
		if row.Subject.IsZero() {
			return nil
		}
		return []record.NHSNumber{row.Subject}
	})
}

// look reads what stands at a position and records that it was asked for, before anybody is told or asked anything. subjects are those whom the entry names if it is
// seen. The receipt is of the first entry.
func (l *Ledger) look(ctx context.Context, by Actor, k Look, kind string, read func(*answering) (Row, bool, error), subjects func(Row) []record.NHSNumber) (row Row, r Receipt, err error) {
	if err := checkActor(by); err != nil {
		return Row{}, Receipt{}, err
	}
	found := false
	reading, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	err = l.view(reading, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		row, found, err = read(&answering{r, keys, endings{}})
		return err
	})
	if err != nil {
		return Row{}, Receipt{}, err
	}
	put := func(about []record.NHSNumber) (Receipt, error) {
		body := &questionBody{Kind: kind, Of: k.Position, Subjects: reveal(about)}
		body.within(k.Within)
		return l.putRead(ctx, by, body, about)
	}
	seen := found && k.Sees(row)
	if !seen {
		if r, err = put(k.Own); err != nil {
			return Row{}, Receipt{}, err
		}
		if k.Follow != nil {
			k.Own = slices.Concat(k.Own, k.Follow(ctx))
			seen = found && k.Sees(row)
		}
		if !seen {
			return Row{}, r, ErrNotFound
		}
	}
	row.to(k.Own)
	last, err := put(subjects(row))
	if err != nil {
		return Row{}, Receipt{}, err
	}
	if r == (Receipt{}) {
		r = last
	}
	return row, r, nil
}

// event makes the row of the entry at a position; ok is false where none stands.
func (a *answering) event(position uint64, asker string) (row Row, ok bool, err error) {
	head, err := a.r.Head()
	if err != nil || position >= head.Size {
		return row, false, err
	}
	list, err := a.entries([]uint64{position})
	if err != nil || len(list) == 0 || !answers(list[0].Type) {
		return row, false, err
	}
	if list, err = a.others(list, asker); err != nil || len(list) == 0 {
		return row, false, err
	}
	in, err := a.rest(list, nil)
	if err != nil {
		return row, false, err
	}
	return a.row(list[0].Found, in)
}

// answers reports whether an entry of a type is a row of some question's answer.
func answers(t EntryType) bool {
	for _, by := range answeredBy {
		if slices.Contains(by.types, t) {
			return true
		}
	}
	return false
}
