package audit

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A list of objections is brought in as a whole or not at all, and nobody else waits for it. Its rows are recorded as objections that name
// their Import, a few at a time between other writes; none of them stands until the list's Imported entry is durable, and that one entry
// puts all of them in force at once. A list whose Imported never came is as if it had never been: see DESIGN.md.

// MaxStage is how many objections one call of StageObjections takes: what the other writes of a batch wait for.
const MaxStage = 128

// reasonGivenUp is why an import was closed without effect.
const reasonGivenUp = "given-up"

// List says what a list of objections holds, in numbers.
type List struct {
	Digest      string // see ListDigest: the same list has the same
	Format      string // "csv", "ndjson", "bundle"
	Rows        int    // all that were read
	New         int    // those that change something
	Present     int    // those that are recorded already
	LeftOut     int    // those that were refused, where the officer chose to go on without them
	Unconfirmed int    // those whose person could not be traced, where the officer chose to go on with them
}

func listOut(l List) *listBody {
	return &listBody{l.Digest, l.Format, uint64(l.Rows), uint64(l.New), uint64(l.Present), uint64(l.LeftOut), uint64(l.Unconfirmed)}
}

// Listed is one row of a list: an objection and whose it is.
type Listed struct {
	About     record.NHSNumber
	Objection consent.Objection // ID, author, Recorded and Position are the ledger's to fill in
}

// Standing of a row of a list.
type Standing uint8

// How rows of a list stand against what is recorded.
const (
	RowNew     Standing = iota + 1 // recording it would change something
	RowPresent                     // it is recorded, and so it stands
	RowChanged                     // it was recorded, and has been changed since, withdrawn say: whoever wants it anew says something new
	RowTooMany                     // the person has as many objections as one number may have

	rowStaged // it is of the import under way
)

// ListDigest returns a hash to write a list's rows to: keyed, because a list may be short and its rows guessed.
func (l *Ledger) ListDigest() hash.Hash {
	h := l.keys.Load().current().mac()
	_, _ = io.WriteString(h, "mycarerecord list of objections v1\x00") // hash.Hash.Write never returns an error
	return h
}

// wish leaves of an objection what the person wants and how they said so: not who wrote it down, when, and under which id.
func wish(o consent.Objection) consent.Objection {
	out := consent.Objection{Scope: o.Scope, Custodian: o.Custodian, Status: o.Status, Absolute: o.Absolute, From: micro(o.From),
		Until: micro(o.Until), Responsible: o.Responsible, Method: o.Method, Source: o.Source}
	if o.Scope == consent.ToSection {
		out.Section = o.Section
	}
	return out
}

func endMark(begin uint64) Mark {
	return Mark{MarkImport, string(binary.BigEndian.AppendUint64(nil, begin))}
}

func followerMark(kind MarkKind, client string) Mark { return Mark{kind, plain(client)} }

// endings remembers, for the time of one reading, where imports ended.
type endings map[uint64]ending

type ending struct {
	position uint64 // of the Imported, 0 while the import is open
	applied  bool
	entry    Entry
}

// of returns how the import at a position ended.
func (m endings) of(r Reader, k *Keys, begin uint64) (ending, error) {
	if e, known := m[begin]; known {
		return e, nil
	}
	var out ending
	position, ok, err := r.Newest([]Mark{endMark(begin)})
	if err != nil {
		return out, err
	}
	if ok {
		e, err := entryAt(r, position)
		if err != nil {
			return out, err
		}
		p, err := decode(k, &e)
		if err != nil {
			return out, err
		}
		if e.Type != TypeImported || p.Opens != begin {
			return out, fmt.Errorf("%w: entry %d does not end the import that it is found by", ErrDamaged, position)
		}
		out = ending{position, p.Reason == "", e}
	}
	m[begin] = out
	return out, nil
}

// stands reports whether an objection entry counts, and turns where and when it was recorded into where and when it came to count.
func (m endings) stands(r Reader, k *Keys, p *payload, o *consent.Objection) (bool, error) {
	if p.Import == 0 {
		return true, nil
	}
	end, err := m.of(r, k, p.Import)
	if err != nil || !end.applied {
		return false, err
	}
	o.Position, o.Recorded = end.position, end.entry.Time
	return true, nil
}

// heldRows are one person's objections and delegations as the rows of a list are held against them. They are read once, however many rows are
// about that person: one after the other would be read as often as there are rows.
type heldRows struct {
	rows     int // all that there are, those of lists that were given up included
	count    int // those that count towards maxObjections
	standing map[consent.Objection]Standing
	givenUp  []string // ids of rows of lists that were given up: nothing will ever come of them
}

// heldBy reads what is recorded about a person, now and in the past. within is an import whose own rows count as recorded too, 0 for none.
func (m endings) heldBy(r Reader, k *Keys, about record.NHSNumber, within uint64) (*heldRows, error) {
	rows, err := r.ObjectionsOf(values(k.persons([]record.NHSNumber{about})))
	if err != nil {
		return nil, err
	}
	out := &heldRows{rows: len(rows), standing: make(map[consent.Objection]Standing, len(rows))}
	for _, has := range rows {
		for at := has.Position; at != 0; {
			state, err := stateAt(r, k, ObjectionRow{has.ID, has.Person, at})
			if err != nil {
				return nil, err
			}
			o, p := state.objection, state.payload
			if o == nil { // a delegation
				out.count++
				break
			}
			if state.about != about || p.Replaces >= at {
				return nil, fmt.Errorf("%w: entry %d is about somebody else, or replaces one behind it", ErrDamaged, at)
			}
			said, stands, newest := wish(*o), RowNew, at == has.Position
			switch stood, err := m.stands(r, k, p, o); {
			case err != nil:
				return nil, err
			case p.Import != 0 && p.Import == within:
				stands = rowStaged
			case stood && newest:
				stands = RowPresent
			case stood:
				stands = RowChanged
			case m[p.Import].position != 0:
				out.givenUp = append(out.givenUp, has.ID)
			}
			if newest && stands != RowNew {
				out.count++
			}
			if was, known := out.standing[said]; !known || stands.over(was) {
				out.standing[said] = stands
			}
			at = p.Replaces
		}
	}
	return out, nil
}

// over reports whether one standing says more of a wish than another does, where several rows hold that wish: what is of the import under way is
// counted, what stands now needs no row, and what stood once is not made to stand again.
func (s Standing) over(other Standing) bool {
	rank := map[Standing]int{RowNew: 0, RowChanged: 1, RowPresent: 2, rowStaged: 3}
	return rank[s] > rank[other]
}

// held holds rows of a list against what is recorded, for the time of one reading.
type held struct {
	endings
	within uint64
	people map[record.NHSNumber]*heldRows
}

func newHeld(within uint64) *held {
	return &held{endings{}, within, map[record.NHSNumber]*heldRows{}}
}

// of returns what is recorded about a person.
func (h *held) of(r Reader, k *Keys, about record.NHSNumber) (*heldRows, error) {
	if known := h.people[about]; known != nil {
		return known, nil
	}
	out, err := h.heldBy(r, k, about, h.within)
	if err == nil {
		h.people[about] = out
	}
	return out, err
}

// take says how a row stands. One that is new takes a place of those that its person may have.
func (p *heldRows) take(row Listed) Standing {
	s := p.standing[wish(row.Objection)]
	switch {
	case s != 0 && s != RowNew:
		return s
	case p.count >= maxObjections:
		return RowTooMany
	}
	p.count++
	return RowNew
}

// ListOrder returns the order in which the rows of a list about these people are compared and staged fastest, as places in about: that of what people are
// found by, so that neighbours in time are neighbours in the store. Without it every row would touch pages of its own, and a long list would write twenty
// times what it holds. Rows about one person stay in the order of the list.
func (l *Ledger) ListOrder(about []record.NHSNumber) []int {
	epoch := l.keys.Load().current()
	marks, order := make([]string, len(about)), make([]int, len(about))
	for i, n := range about {
		marks[i], order[i] = epoch.hash(MarkPerson, n.Reveal()).Value, i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(marks[a], marks[b]) })
	return order
}

// CompareList says how rows of a list stand against what is recorded. It records nothing: what it finds MUST NOT be told before LookedAtList has
// recorded whom it was about. Give some hundred rows at a time, and all that are about one person at once: they are read in one state, and counted together.
func (l *Ledger) CompareList(ctx context.Context, rows []Listed) ([]Standing, error) {
	out := make([]Standing, 0, len(rows))
	err := l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		out = out[:0]
		h := newHeld(0)
		for _, row := range rows {
			person, err := h.of(r, keys, row.About)
			if err != nil {
				return err
			}
			out = append(out, person.take(row))
		}
		return nil
	})
	return out, err
}

// LookedAtList records that rows of a list about these people were held against what is recorded, or that they were asked for at the demographics
// service (C-10): at most MaxPage of them at a time, each once.
func (l *Ledger) LookedAtList(ctx context.Context, by Actor, about []record.NHSNumber) error {
	if err := checkActor(by); err != nil {
		return err
	}
	if len(about) > MaxPage {
		return fmt.Errorf("%w: at most %d people at a time", ErrInvalid, MaxPage)
	}
	return l.do(ctx, func(w *writer) error {
		p := &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionList, Subjects: reveal(about)}}
		_, err := w.append(TypeRead, p, append(w.epoch.about(about...), w.epoch.who(by.Requester)...))
		return err
	}, nil)
}

// CheckedList records that somebody had a list held against what is recorded, and that nothing of it was taken: it was a trial, or was refused.
func (l *Ledger) CheckedList(ctx context.Context, by Actor, list List) (Receipt, error) {
	if err := checkActor(by); err != nil {
		return Receipt{}, err
	}
	var receipt Receipt
	err := l.do(context.WithoutCancel(ctx), func(w *writer) (err error) {
		p := &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionList}, List: listOut(list)}
		receipt, err = w.append(TypeRead, p, w.epoch.who(by.Requester))
		return err
	}, nil)
	return receipt, err
}

// Import is a list on its way in. Only BeginImport makes one.
type Import struct {
	ledger   *Ledger
	position uint64
	resumed  bool
}

// Resumed reports whether rows of the list may have been staged before. Then all of its rows MUST be given to StageObjections again, also those
// that CompareList found to be recorded, so that what the list brings in is counted right.
func (im Import) Resumed() bool { return im.resumed }

// BeginImport opens an import. A list that was begun before and not ended, with the same digest, goes on where it stopped; another list that
// was begun and not ended is given up: one list comes in at a time.
func (l *Ledger) BeginImport(ctx context.Context, by Actor, list List) (Import, error) {
	if err := checkActor(by); err != nil {
		return Import{}, err
	}
	if list.Digest == "" {
		return Import{}, fmt.Errorf("%w: a list has a digest", ErrInvalid)
	}
	out := Import{ledger: l}
	err := l.do(ctx, func(w *writer) error {
		e, p, ok, err := w.recorded([]Mark{{Kind: MarkImport}})
		if err != nil {
			return err
		}
		var open bool
		if ok {
			end, err := endings{}.of(w.tx, w.keys, e.Position)
			if err != nil {
				return w.verdict(err)
			}
			if open = end.position == 0; open && p.List.Digest == list.Digest {
				out.position, out.resumed = e.Position, true
				return nil
			}
		}
		if open {
			gone := &payload{Opens: e.Position, Reason: reasonGivenUp, Actor: actorOut(by), List: p.List}
			if _, err := w.append(TypeImported, gone, append(w.epoch.who(by.Requester), endMark(e.Position))); err != nil {
				return err
			}
		}
		receipt, err := w.append(TypeImport, &payload{Actor: actorOut(by), List: listOut(list)}, append(w.epoch.who(by.Requester), Mark{Kind: MarkImport}))
		out.position = receipt.Position
		return err
	}, nil)
	if err != nil {
		return Import{}, err
	}
	return out, nil
}

// StageObjections records rows of a list, at most MaxStage, that are not recorded yet. They do not stand: see ApplyImport. It returns how many of
// them the import now brings in; calling it again with the same rows records nothing and returns the same. ErrClosed if another list has
// taken this one's place, ErrInvalid for a row that cannot be recorded; nothing of the call was recorded then.
func (l *Ledger) StageObjections(ctx context.Context, by Actor, im Import, rows []Listed) (int, error) {
	if im.ledger != l {
		return 0, ErrNotPermitted
	}
	if len(rows) > MaxStage {
		return 0, fmt.Errorf("%w: at most %d rows at a time", ErrInvalid, MaxStage)
	}
	rows = slices.Clone(rows)
	for i, row := range rows {
		if row.About.IsZero() {
			return 0, fmt.Errorf("%w: an objection is about somebody", ErrInvalid)
		}
		rows[i].Objection = withAuthor(row.Objection, by)
		if err := checkListed(rows[i].Objection); err != nil {
			return 0, err
		}
	}
	staged := 0
	err := l.do(ctx, func(w *writer) error {
		h := newHeld(im.position)
		end, err := h.endings.of(w.tx, w.keys, im.position)
		if err != nil {
			return w.verdict(err)
		}
		if end.position != 0 {
			return ErrClosed
		}
		staged = 0
		var fresh []Listed
		for _, row := range rows {
			person, err := h.of(w.tx, w.keys, row.About)
			if err != nil {
				return w.verdict(err)
			}
			if err := w.forget(person); err != nil {
				return err
			}
			switch person.take(row) {
			case RowTooMany:
				return fmt.Errorf("%w: a person of the list has %d objections already", ErrInvalid, maxObjections)
			case RowNew:
				fresh = append(fresh, row)
			case rowStaged:
				staged++
			case RowPresent, RowChanged:
			}
		}
		for _, row := range fresh {
			o := row.Objection
			o.ID = listedID(w.position)
			p := &payload{Subject: row.About.Reveal(), Actor: actorOut(by), Objection: objectionOut(o), Import: im.position}
			if err := w.stage(p, row.About, &o, by); err != nil {
				return err
			}
			staged++
		}
		return nil
	}, nil)
	if err != nil {
		return 0, err
	}
	return staged, nil
}

// stage appends one row of a list.
func (w *writer) stage(p *payload, about record.NHSNumber, o *consent.Objection, by Actor) error {
	marks := append(w.epoch.about(about), w.epoch.who(by.Requester)...)
	if o.Custodian != "" {
		marks = append(marks, Mark{MarkCustodian, string(o.Custodian)})
	}
	receipt, err := w.append(TypeObjection, p, marks)
	if err != nil {
		return err
	}
	row := ObjectionRow{ID: o.ID, Person: w.epoch.hash(MarkPerson, about.Reveal()).Value, Position: receipt.Position}
	w.failed(w.tx.PutObjection(row))
	return w.err
}

// ApplyImport puts all that was staged in force at once: from when it returns, every row of the list is honoured. Calling it again returns the
// same receipt. ErrClosed if another list has taken this one's place.
func (l *Ledger) ApplyImport(ctx context.Context, by Actor, im Import, list List) (Receipt, error) {
	if im.ledger != l {
		return Receipt{}, ErrNotPermitted
	}
	var receipt Receipt
	err := l.do(context.WithoutCancel(ctx), func(w *writer) error {
		end, err := endings{}.of(w.tx, w.keys, im.position)
		switch {
		case err != nil:
			return w.verdict(err)
		case end.applied:
			receipt = w.receipt(&end.entry)
			return nil
		case end.position != 0:
			return ErrClosed
		}
		p := &payload{Opens: im.position, Actor: actorOut(by), List: listOut(list)}
		receipt, err = w.append(TypeImported, p, append(w.epoch.who(by.Requester), endMark(im.position)))
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// checkListed holds what a row may say. Unlike an objection that is recorded at a desk, one of a list may have been withdrawn already: that is
// kept, so that a list may be taken from one deployment to another.
func checkListed(o consent.Objection) error {
	if o.Status == consent.Withdrawn {
		o.Status = consent.InForce
	}
	return checkObjection(o)
}

// newestFirst orders objections. Those of one list came to count together; their ids make the order one.
func newestFirst(list []consent.Objection) {
	slices.SortFunc(list, func(a, b consent.Objection) int {
		return cmp.Or(cmp.Compare(b.Position, a.Position), cmp.Compare(a.ID, b.ID))
	})
}
