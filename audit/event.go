package audit

import (
	"context"
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Event records the question and returns one row by the position of its entry, as an answer to a question of the list would hold it. sees says whether the asker may
// know of it: where they may not, where it is about their own conduct, and where no row stands there, the error is ErrNotFound, and the question is recorded
// without a person. numbers are those of a person who asks about themselves; a look that concerned several people is turned to them.
func (l *Ledger) Event(ctx context.Context, by Actor, position uint64, in *Bounds, numbers []record.NHSNumber, sees func(Row) bool) (row Row, r Receipt, err error) {
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
		a := answering{r, keys, endings{}}
		row, found, err = a.event(position, staff(by))
		return err
	})
	if err != nil {
		return Row{}, Receipt{}, err
	}
	body := &questionBody{Kind: questionEvent, Of: position}
	body.within(in)
	found = found && sees(row)
	var subjects []record.NHSNumber
	if found {
		if row.to(numbers); !row.Subject.IsZero() {
			subjects = []record.NHSNumber{row.Subject}
			body.Subjects = reveal(subjects)
		}
	}
	if r, err = l.putRead(ctx, by, body, subjects); err != nil {
		return Row{}, Receipt{}, err
	}
	if !found {
		return Row{}, r, ErrNotFound
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
	in, err := a.rest(list)
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
