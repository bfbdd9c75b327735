package audit

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Whoever must know of objections reads them page by page, in the order in which they came to count. A page is put on record, with everybody whom
// it names, before it is given out (C-10).

const (
	// MaxPage is how many objections one page holds at most: as many people are marked in its entry.
	MaxPage = 500

	// maxScan is how many entries one page looks at: a page may be short, or empty, and yet not the last.
	maxScan = 2000
)

// Cursor is a place in the order of objections. Row is 0 but inside an import: there it is the last row that was told.
type Cursor struct{ Position, Row uint64 }

// Page is a page of objections.
type Page struct {
	Changes []Listed
	Next    Cursor // where the next page begins
	More    bool   // there was more when this page was made
	Through uint64 // everything up to and with this position has been told, by this page and those before
	Receipt Receipt
}

// ExportObjections records the look and returns a page of everybody's objections, each in its newest state, whatever its status. Begin with the
// zero Cursor and go on with Next while More. One that changes between two pages comes again as it is then.
func (l *Ledger) ExportObjections(ctx context.Context, by Actor, from Cursor) (Page, error) {
	return l.page(ctx, by, from, questionExport, MaxPage, (*scan).export, Telling{})
}

// Telling chooses what a reader is told of; what is left out is passed over without a word. nil leaves nothing out.
type Telling struct {
	Objection func(consent.Objection) bool
	People    func(ctx context.Context, about []record.NHSNumber) (told map[record.NHSNumber]bool, err error) // of those of one page; it may ask elsewhere
}

// ObjectionChanges records the look and returns a page of changes after a place: everything that came to count, in that order, also what has been
// changed again since. An error of tell.People is returned as it is.
func (l *Ledger) ObjectionChanges(ctx context.Context, by Actor, from Cursor, limit int, tell Telling) (Page, error) {
	if by.Requester.Client == "" {
		return Page{}, fmt.Errorf("%w: a following system is known by its client id", ErrInvalid)
	}
	return l.page(ctx, by, from, questionChanges, limit, (*scan).changes, tell)
}

func (l *Ledger) page(ctx context.Context, by Actor, from Cursor, kind string, limit int, walk func(*scan, *endings) error, tell Telling) (Page, error) {
	if err := checkActor(by); err != nil {
		return Page{}, err
	}
	if limit <= 0 || limit > MaxPage || from.Position > math.MaxInt64 || from.Row > math.MaxInt64 {
		return Page{}, fmt.Errorf("%w: a page begins where the page before said, and holds 1 to %d objections", ErrInvalid, MaxPage)
	}
	reading, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	var s scan
	err := l.view(reading, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		if from.Position >= head.Size {
			from = Cursor{Position: max(head.Size, 1) - 1}
		}
		s = scan{r: r, keys: keys, limit: limit, left: maxScan, keep: tell.Objection, page: Page{Next: from}, size: head.Size}
		if err := walk(&s, &endings{}); err != nil {
			return err
		}
		s.page.Through = s.page.Next.Position
		if s.page.Next.Row != 0 {
			s.page.Through--
		}
		return nil
	})
	if err != nil {
		return Page{}, err
	}
	about := s.people()
	if tell.People != nil && len(about) > 0 {
		told, err := tell.People(ctx, about)
		if err != nil {
			return Page{}, err
		}
		s.page.Changes = slices.DeleteFunc(s.page.Changes, func(c Listed) bool { return !told[c.About] })
		about = s.people()
	}
	err = l.do(ctx, func(w *writer) (err error) {
		p := &payload{Actor: actorOut(by), Question: &questionBody{Kind: kind, Subjects: reveal(about), Limit: limit, After: from.Position, AfterRow: from.Row,
			Through: s.page.Through}}
		marks := append(w.epoch.about(about...), w.epoch.who(by.Requester)...)
		if kind == questionChanges {
			marks = append(marks, followerMark(MarkFollower, by.Requester.Client))
		}
		s.page.Receipt, err = w.append(TypeRead, p, marks)
		return err
	}, nil)
	if err != nil {
		return Page{}, err
	}
	return s.page, nil
}

// scan is one page in the making.
type scan struct {
	r     Reader
	keys  *Keys
	limit int
	left  int // entries that may still be looked at
	keep  func(consent.Objection) bool
	page  Page
	size  uint64 // of the ledger
}

// people are those whom the page names, each once.
func (s *scan) people() (about []record.NHSNumber) {
	seen := map[record.NHSNumber]bool{}
	for _, c := range s.page.Changes {
		if !seen[c.About] {
			seen[c.About] = true
			about = append(about, c.About)
		}
	}
	return about
}

func (s *scan) full() bool { return len(s.page.Changes) >= s.limit || s.left <= 0 }

// objection reads the objection entry at a position. The payload is nil where it was erased: it counts no more.
func (s *scan) objection(position uint64) (Listed, *payload, error) {
	s.left--
	e, err := entryAt(s.r, position)
	if err != nil || e.Sealed == nil {
		return Listed{}, nil, err
	}
	p, err := decode(s.keys, &e)
	if err != nil {
		return Listed{}, nil, err
	}
	var out Listed
	if err := restore(&out.Objection, p, &e); err != nil {
		return Listed{}, nil, err
	}
	in := &reading{}
	out.About = in.number(p.Subject)
	if in.bad || out.About.IsZero() {
		return Listed{}, nil, fmt.Errorf("%w: entry %d is about nobody", ErrDamaged, position)
	}
	return out, p, nil
}

func (s *scan) add(c Listed) {
	if s.keep == nil || s.keep(c.Objection) {
		s.page.Changes = append(s.page.Changes, c)
	}
}

// export walks the objection entries, and takes those that are the newest of theirs and stand.
func (s *scan) export(m *endings) error {
	for {
		positions, err := s.r.OfType(TypeObjection, s.page.Next.Position+1, s.limit)
		if err != nil {
			return err
		}
		for _, position := range positions {
			if s.full() {
				s.page.More = true
				return nil
			}
			c, p, err := s.objection(position)
			if err != nil {
				return err
			}
			s.page.Next.Position = position
			if p == nil {
				continue
			}
			row, ok, err := s.r.Objection(c.Objection.ID)
			if err != nil {
				return err
			}
			stands, err := m.stands(s.r, s.keys, p, &c.Objection)
			if err != nil {
				return err
			}
			if ok && row.Position == position && stands {
				s.add(c)
			}
		}
		if len(positions) == 0 {
			s.page.Next.Position = max(s.page.Next.Position, s.size-1)
			return nil
		}
	}
}

// changes walks objection entries and imports that ended, in order. Rows of a list are told where the list came to count.
func (s *scan) changes(m *endings) error {
	if s.page.Next.Row != 0 {
		if done, err := s.rows(s.page.Next.Position); err != nil || !done {
			return err
		}
	}
	for {
		from := s.page.Next.Position + 1
		single, err := s.r.OfType(TypeObjection, from, s.limit)
		if err != nil {
			return err
		}
		ended, err := s.r.OfType(TypeImported, from, s.limit)
		if err != nil {
			return err
		}
		// Both lists may have been cut: only what lies before the end of the shorter one is in order.
		all := append(single, ended...)
		slices.Sort(all)
		until := uint64(math.MaxUint64)
		for _, list := range [][]uint64{single, ended} {
			if len(list) == s.limit {
				until = min(until, list[len(list)-1])
			}
		}
		isEnd := map[uint64]bool{}
		for _, position := range ended {
			isEnd[position] = true
		}
		if len(all) == 0 {
			s.page.Next = Cursor{Position: max(s.page.Next.Position, s.size-1)}
			return nil
		}
		for _, position := range all {
			if position > until {
				break
			}
			if s.full() {
				s.page.More = true
				return nil
			}
			if isEnd[position] {
				if done, err := s.rows(position); err != nil || !done {
					return err
				}
				continue
			}
			c, p, err := s.objection(position)
			if err != nil {
				return err
			}
			s.page.Next = Cursor{Position: position}
			if p != nil && p.Import == 0 {
				s.add(c)
			}
		}
	}
}

// rows tells the rows of the list that came to count at a position, from the page's Row on. It reports whether all of them were told.
func (s *scan) rows(end uint64) (bool, error) {
	e, err := entryAt(s.r, end)
	if err != nil {
		return false, err
	}
	p, err := decode(s.keys, &e)
	if err != nil {
		return false, err
	}
	if e.Type != TypeImported {
		return false, fmt.Errorf("%w: a page begins where the page before said", ErrInvalid)
	}
	row := p.Opens
	if s.page.Next.Position == end && s.page.Next.Row != 0 {
		row = s.page.Next.Row
	}
	s.left--
	for p.Reason == "" {
		positions, err := s.r.OfType(TypeObjection, row+1, s.limit)
		if err != nil {
			return false, err
		}
		for _, position := range positions {
			if position > end {
				positions = nil
				break
			}
			if s.full() {
				s.page.Next, s.page.More = Cursor{end, row}, true
				return false, nil
			}
			c, of, err := s.objection(position)
			if err != nil {
				return false, err
			}
			row = position
			if of != nil && of.Import == p.Opens {
				c.Objection.Position, c.Objection.Recorded = e.Position, e.Time
				s.add(c)
			}
		}
		if len(positions) == 0 {
			break
		}
	}
	s.page.Next = Cursor{Position: end}
	return true, nil
}

// Adopt records that a following system honours all changes up to and with a position: it must have been told of them. What it adopted already it
// adopts no second time; the receipt is then that of the first. ErrInvalid if the system was not told so far.
func (l *Ledger) Adopt(ctx context.Context, by Actor, through uint64) (Receipt, error) {
	if err := checkActor(by); err != nil {
		return Receipt{}, err
	}
	if by.Requester.Client == "" || through == 0 || through > math.MaxInt64 {
		return Receipt{}, fmt.Errorf("%w: a following system is known by its client id, and adopts what is up to a position", ErrInvalid)
	}
	var receipt Receipt
	err := l.do(ctx, func(w *writer) error {
		e, p, ok, err := w.recorded([]Mark{followerMark(MarkAdopted, by.Requester.Client)})
		if err != nil {
			return err
		}
		if ok && p.Adopted >= through {
			receipt = w.receipt(&e)
			return nil
		}
		_, p, ok, err = w.recorded([]Mark{followerMark(MarkFollower, by.Requester.Client)})
		if err != nil {
			return err
		}
		if !ok || p.Question == nil || p.Question.Through < through {
			return fmt.Errorf("%w: read the changes up to there first", ErrInvalid)
		}
		out := &payload{Actor: actorOut(by), Adopted: through}
		receipt, err = w.append(TypeAdopted, out, append(w.epoch.who(by.Requester), followerMark(MarkAdopted, by.Requester.Client)))
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// Adoption says when a system said that it had adopted an objection. At is zero if it has not, or was not told of it.
type Adoption struct {
	Client  string
	At      time.Time
	Through uint64 // of that word, or if there is none, how far the newest one goes
}

// Adoptions says of each system whether it has adopted an objection. A word goes as far as a position; whether the system was told of this person is found by what
// it was told. It is read, not recorded: it tells of systems alone.
func (l *Ledger) Adoptions(ctx context.Context, o consent.Objection, clients []string) ([]Adoption, error) {
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	position := o.Position
	var out []Adoption
	err := l.view(ctx, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		row, ok, err := r.Objection(o.ID)
		if err != nil || !ok {
			return err
		}
		state, err := stateAt(r, keys, row)
		if err != nil {
			return err
		}
		person := keys.persons([]record.NHSNumber{state.about})
		// told is the last time before a place when the system was told of the person, after the objection came to count; 0 for never.
		told := func(client string, before uint64) (uint64, error) {
			found, err := r.Search(Query{All: [][]Mark{{followerMark(MarkFollower, client)}, person}, Before: before, Limit: 1})
			if err != nil || len(found) == 0 || found[0] <= position {
				return 0, err
			}
			return found[0], nil
		}
		for _, client := range clients {
			a := Adoption{Client: client}
			// last is the newest word of the system before a position, and how far it goes. Words go further and further, so that the first
			// one that goes far enough is found by halving.
			last := func(before uint64) (Entry, uint64, error) {
				found, err := r.Search(Query{All: [][]Mark{{followerMark(MarkAdopted, client)}}, Before: before, Limit: 1})
				if err != nil || len(found) == 0 {
					return Entry{}, 0, err
				}
				e, err := entryAt(r, found[0])
				if err != nil {
					return Entry{}, 0, err
				}
				p, err := decode(keys, &e)
				if err != nil {
					return Entry{}, 0, err
				}
				return e, p.Adopted, nil
			}
			e, through, err := last(head.Size)
			if err != nil {
				return err
			}
			a.Through = through
			if through >= position && through != 0 {
				for lo, hi := position, e.Position; lo < hi; { // the word is after lo, and not after hi
					mid := lo + (hi-lo)/2
					earlier, far, err := last(mid + 1)
					if err != nil {
						return err
					}
					if far >= position {
						e, a.Through, hi = earlier, far, earlier.Position
					} else {
						lo = mid + 1
					}
				}
				heard, err := told(client, e.Position)
				if err != nil {
					return err
				}
				if heard == 0 { // it was passed over then, as one of whom nothing may be said: a later word may be after it was told
					if e, a.Through, err = last(head.Size); err != nil {
						return err
					}
					if heard, err = told(client, e.Position); err != nil {
						return err
					}
				}
				if heard != 0 {
					a.At = e.Time
				}
			}
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

// History returns every state that the objections of a person have had, newest first, as far back as they go. It is read for a caller whose look
// ReadObjections has recorded.
func (l *Ledger) History(ctx context.Context, numbers []record.NHSNumber) ([]consent.Objection, error) {
	ctx, cancel := context.WithTimeout(ctx, l.deadline)
	defer cancel()
	var out []consent.Objection
	err := l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		rows, err := r.ObjectionsOf(values(keys.persons(numbers)))
		if err != nil {
			return err
		}
		m := endings{}
		for _, row := range rows {
			for at := row.Position; at != 0 && len(out) < maxHistory; {
				state, err := stateAt(r, keys, ObjectionRow{row.ID, row.Person, at})
				if err != nil {
					return err
				}
				o, p := state.objection, state.payload
				if o == nil { // a delegation
					break
				}
				if !slices.Contains(numbers, state.about) || p.Replaces >= at {
					return fmt.Errorf("%w: entry %d is about somebody else, or replaces one behind it", ErrDamaged, at)
				}
				at = p.Replaces
				stood, err := m.stands(r, keys, p, o)
				if err != nil {
					return err
				}
				if stood {
					out = append(out, *o)
				}
			}
		}
		return nil
	})
	newestFirst(out)
	return out, err
}

// maxHistory bounds what History returns.
const maxHistory = 2000
