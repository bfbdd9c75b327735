package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Alert says why the worklist's rules found an access that somebody must look at. It holds nothing of the person, and nothing of a record: the
// access that it is about has its own entries.
type Alert struct {
	Of        uint64           // position of the access: its Begin, its Refused where it was not opened, or its Override
	Requester record.Requester // whose access it was
	Rules     []Fired          // heaviest first; at least one
	Score     int              // sum of the weights of those that nothing explains
	Version   string           // hash of the rules
}

// Fired is one rule that an access touched.
type Fired struct {
	Rule      AlertKind
	Weight    int
	Count     int    // what the rule counts: people, viewers, days, attempts; 0 where it counts nothing
	Usual     int    // what is usual for that, where the rule compares
	Explained string // what explains it, in a word of the rules; "" for nothing
}

// AlertStep is where an alert stands, or what was done to it.
type AlertStep string

// The steps.
const (
	AlertOpen     AlertStep = "open"
	AlertTaken    AlertStep = "taken" // somebody looks into it
	AlertClosed   AlertStep = "closed"
	AlertReopened AlertStep = "reopened"
)

// Handling is one thing that was done to an alert.
type Handling struct {
	Alert   uint64 // its position
	Step    AlertStep
	Outcome ReviewOutcome // of AlertClosed
	Note    string
	Rule    AlertKind // the alert's heaviest
}

// Flagged is an alert as an officer sees it.
type Flagged struct {
	Found               // of the Alert entry
	Access    *Found    // the access that it is about; nil in lists, and where it was erased
	Closing   *Found    // how that ended; nil likewise
	Step      AlertStep // open, taken or closed
	Newest    *Found    // what was done last; nil for nothing
	Steps     []Found   // all that was done, oldest first; none in lists
	Delivered time.Time // when the alert was acknowledged by whoever is told of alerts; zero: not yet
}

// Precision is what officers have found of one rule's alerts.
type Precision struct {
	Rule         AlertKind
	Raised       int
	Justified    int // closed: there was good reason for the access
	NotJustified int // closed: there was none
	Referred     int // closed: passed to whoever decides
}

const (
	maxRules     = 64   // of one alert
	maxPrecision = 5000 // newest alerts, and newest steps, that precision is counted over
)

func alertOut(a Alert, topic []byte) *alertBody {
	out := &alertBody{Of: a.Of, Topic: topic, Score: a.Score, Version: a.Version}
	for _, f := range a.Rules {
		out.Rules = append(out.Rules, firedBody{string(f.Rule), f.Weight, f.Count, f.Usual, f.Explained})
	}
	return out
}

func alertIn(b *alertBody, r record.Requester) *Alert {
	out := &Alert{Of: b.Of, Requester: r, Score: b.Score, Version: b.Version}
	for _, f := range b.Rules {
		out.Rules = append(out.Rules, Fired{AlertKind(f.Rule), f.Weight, f.Count, f.Usual, f.Explained})
	}
	return out
}

// RaiseAlert records an alert, once: a second one of the same access, by another replica or after a restart, changes nothing, and neither does one about
// the same topic (who asked, about whom, by which rule: words that are hashed and not kept) within again after an earlier one. at is when the access was. raised is
// false in both cases.
func (l *Ledger) RaiseAlert(ctx context.Context, a Alert, at time.Time, topic []string, again time.Duration) (receipt Receipt, raised bool, err error) {
	if len(a.Rules) == 0 || len(a.Rules) > maxRules || len(topic) == 0 {
		return Receipt{}, false, fmt.Errorf("%w: an alert names the rules that found it, and its topic", ErrInvalid)
	}
	known := false // most that a restart finds again is: that costs no turn among those who write
	if err := l.view(ctx, func(r Reader) (err error) {
		_, known, err = r.Newest([]Mark{positionMark(MarkAlertOf, a.Of)})
		return err
	}); err != nil || known {
		return Receipt{}, false, err
	}
	var made Receipt // not a result: the committer may still write it when the caller has left
	done := false
	err = l.do(ctx, func(w *writer) error {
		_, known, err := w.tx.Newest([]Mark{positionMark(MarkAlertOf, a.Of)})
		if w.failed(err) || known {
			return w.err
		}
		if again > 0 {
			found, err := w.tx.Search(Query{All: [][]Mark{w.keys.hashes(MarkTopic, topic...)}, From: at.Add(-again), Before: w.position, Limit: 1})
			if w.failed(err) || len(found) > 0 {
				return w.err
			}
		}
		if e, err := entryAt(w.tx, a.Of); err != nil || e.Sealed == nil {
			return w.verdict(err) // erased meanwhile: there is nothing left to look at
		}
		body := alertOut(a, []byte(w.epoch.hash(MarkTopic, topic...).Value))
		requester := requesterOut(a.Requester)
		receipt, err := w.append(TypeAlert, &payload{Requester: &requester, Alert: body}, append(w.epoch.who(a.Requester), alertMarks(body)...))
		if err != nil || w.failed(w.tx.PutAlert(receipt.Position, a.Rules[0].Rule)) {
			return errors.Join(err, w.err)
		}
		made, done = receipt, true
		return nil
	}, nil)
	if err != nil {
		return Receipt{}, false, err
	}
	return made, done, nil
}

// employs reports whether b is of those who may see alerts about a requester: what rules find is about staff, and is the affair of their own organisation and of
// who oversees it, never of who holds the record.
func (b Bounds) employs(r record.Requester) bool { return b.HasStaff(r.Organisation) }

// alerts finds the alerts about the staff within the bounds.
func (b Bounds) alerts(q Query) Query {
	q.Types, q.Rare = []EntryType{TypeAlert}, true
	if b.Everywhere {
		return q
	}
	group := []Mark{{MarkOrganisation, plain(string(b.Organisation))}}
	for _, o := range b.Overseen {
		group = append(group, Mark{MarkOrganisation, plain(string(o))})
	}
	q.All = [][]Mark{group}
	return q
}

// Alerts records the question and returns alerts about the staff within the bounds, newest first, but for those about whoever asks: those that are
// not closed, or all. next is what to give as before for the next page, 0 if there is nothing more. Lists name no person.
func (l *Ledger) Alerts(ctx context.Context, by Actor, in Bounds, closed bool, before uint64, limit int) (out []Flagged, next uint64, receipt Receipt, err error) {
	if limit < 0 || limit > maxFound {
		return nil, 0, Receipt{}, fmt.Errorf("%w: 1 to 1,000 alerts", ErrInvalid)
	}
	limit = or(limit, defaultFound)
	q := &questionBody{Kind: questionAlerts, Limit: limit, Before: before}
	q.within(&in)
	if receipt, err = l.question(ctx, by, q, nil); err != nil {
		return nil, 0, Receipt{}, err
	}
	if before == 0 || before > receipt.Position {
		before = receipt.Position
	}
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	end := patience(ctx)
	err = l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		a := answering{r, keys, endings{}}
		for looked := 0; in.Organisation != "" || in.Everywhere; {
			page, err := r.Search(in.alerts(Query{Before: before, Limit: 200}))
			if err != nil || len(page) == 0 {
				return err
			}
			list, err := a.entries(page)
			if err != nil {
				return err
			}
			rows, err := a.alertRows(page[len(page)-1], page[0])
			if err != nil {
				return err
			}
			for _, x := range list {
				row := rows[x.Position]
				if x.Alert == nil || !in.employs(x.Alert.Requester) || x.Alert.Requester.User == by.Requester.User || row.Review != 0 && !closed {
					before = x.Position
					continue
				}
				if len(out) == limit {
					next = before
					return nil
				}
				before = x.Position
				f := Flagged{Found: x.Found, Step: AlertOpen, Delivered: row.Delivered}
				if err := f.stands(r, keys); err != nil {
					return err
				}
				out = append(out, f)
			}
			before = page[len(page)-1]
			if looked += len(page); len(page) < 200 {
				return nil
			}
			if looked >= maxLooked || time.Now().After(end) {
				next = before
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, receipt, err
	}
	return out, next, receipt, nil
}

// Alert records the question, as one about the person concerned, and returns one alert with the access that it is about. ErrNotFound if there is none within
// the bounds; and for one about whoever asks.
func (l *Ledger) Alert(ctx context.Context, by Actor, in Bounds, position uint64) (Flagged, Receipt, error) {
	var out Flagged
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	err := l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		if e, err := r.Entry(position); errors.Is(err, ErrNoEntry) || err == nil && (e.Type != TypeAlert || e.Sealed == nil) {
			return fmt.Errorf("%w: %w", ErrInvalid, ErrNotFound)
		} else if err != nil {
			return err
		}
		f, err := flagged(r, keys, position)
		if err != nil {
			return err
		}
		if f == nil || !in.employs(f.Alert.Requester) || f.Alert.Requester.User == by.Requester.User {
			return fmt.Errorf("%w: %w", ErrInvalid, ErrNotFound)
		}
		out = *f
		if err := out.steps(r, keys); err != nil {
			return err
		}
		return out.attach(r, keys)
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return Flagged{}, Receipt{}, ErrNotFound
	case err != nil:
		return Flagged{}, Receipt{}, err
	}
	q := &questionBody{Kind: questionAlert, Limit: 1, Before: position}
	q.within(&in)
	var subjects []record.NHSNumber
	if out.Access != nil && !out.Access.Subject.IsZero() {
		subjects = []record.NHSNumber{out.Access.Subject}
		q.Subjects = reveal(subjects)
	}
	receipt, err := l.question(ctx, by, q, subjects) // before anything is shown
	if err != nil {
		return Flagged{}, Receipt{}, err
	}
	return out, receipt, nil
}

// question records that somebody asked.
func (l *Ledger) question(ctx context.Context, by Actor, q *questionBody, about []record.NHSNumber) (Receipt, error) {
	if err := checkActor(by); err != nil {
		return Receipt{}, err
	}
	var recorded Receipt
	err := l.do(ctx, func(w *writer) (err error) {
		recorded, err = w.append(TypeRead, &payload{Actor: actorOut(by), Question: q}, append(w.epoch.about(about...), w.epoch.who(by.Requester)...))
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return recorded, nil
}

// flagged reads one alert and where it stands; nil if it was erased.
func flagged(r Reader, k *Keys, position uint64) (*Flagged, error) {
	e, err := entryAt(r, position)
	if err != nil || e.Sealed == nil {
		return nil, err
	}
	f, err := found(k, &e)
	if err != nil {
		return nil, err
	}
	out := &Flagged{Found: f, Step: AlertOpen}
	rows, err := r.Alerts(AnyAlert, position, 1)
	if err != nil {
		return nil, err
	}
	if len(rows) == 1 && rows[0].Position == position {
		out.Delivered = rows[0].Delivered
	}
	return out, out.stands(r, k)
}

// stands reads what was done to an alert last.
func (f *Flagged) stands(r Reader, k *Keys) error {
	newest, ok, err := r.Newest([]Mark{positionMark(MarkHandled, f.Position)})
	if err != nil || !ok {
		return err
	}
	e, err := entryAt(r, newest)
	if err != nil || e.Sealed == nil {
		return err
	}
	h, err := found(k, &e)
	if err != nil {
		return err
	}
	f.Newest = &h
	if f.Step = h.Handled.Step; f.Step == AlertReopened {
		f.Step = AlertOpen
	}
	return nil
}

// steps reads what was done to an alert.
func (f *Flagged) steps(r Reader, k *Keys) error {
	head, err := r.Head()
	if err != nil {
		return err
	}
	positions, err := r.Search(Query{All: [][]Mark{{positionMark(MarkHandled, f.Position)}}, Before: head.Size, Limit: maxFound})
	if err != nil {
		return err
	}
	slices.Sort(positions)
	for _, at := range positions {
		e, err := entryAt(r, at)
		if err != nil {
			return err
		}
		if e.Sealed == nil {
			continue
		}
		step, err := found(k, &e)
		if err != nil {
			return err
		}
		f.Steps = append(f.Steps, step)
	}
	return nil
}

// attach reads the access that an alert is about, and how it ended.
func (f *Flagged) attach(r Reader, k *Keys) error {
	e, err := entryAt(r, f.Alert.Of)
	if err != nil || e.Sealed == nil {
		return err
	}
	a, err := found(k, &e)
	if err != nil {
		return err
	}
	f.Access = &a
	if a.Type != TypeBegin {
		return nil
	}
	// The closing entry carries the marks of its access, and stands a little behind it; an alert may have been raised before it was recorded.
	head, err := r.Head()
	if err != nil {
		return err
	}
	positions, err := r.Search(Query{All: [][]Mark{k.persons(a.Access.subjects()), k.hashes(MarkUser, a.Access.Requester.User)},
		Types: []EntryType{TypeReleased, TypeRefused, TypeNothing, TypeCancelled, TypeAbandoned}, From: a.At, Until: a.At.Add(time.Hour), Before: head.Size, Limit: 100})
	if err != nil {
		return err
	}
	for _, position := range positions {
		e, err := entryAt(r, position)
		if err != nil {
			return err
		}
		if e.Sealed == nil {
			continue
		}
		c, err := found(k, &e)
		if err != nil {
			return err
		}
		if c.Opens == a.Position {
			f.Closing = &c
			return nil
		}
	}
	return nil
}

// HandleAlert records that an alert was taken, closed with an outcome, or reopened. ErrNotFound if there is no such alert within the bounds, and for
// one about the user: nobody judges themselves, nor learns that there is something to judge; ErrStale if it does not stand so that this can be done. key is as of RecordObjection.
func (l *Ledger) HandleAlert(ctx context.Context, by Actor, in Bounds, position uint64, step AlertStep, outcome ReviewOutcome, note, key string) (Receipt, error) {
	if err := errors.Join(checkKey(key), checkActor(by)); err != nil {
		return Receipt{}, err
	}
	switch {
	case step != AlertTaken && step != AlertClosed && step != AlertReopened, (step == AlertClosed) != outcome.Valid(), (step == AlertClosed) != (outcome != ""):
		return Receipt{}, fmt.Errorf("%w: an alert is taken, closed with an outcome of the list, or reopened", ErrInvalid)
	case record.CheckFreeText("note", note) != nil, step != AlertTaken && note == "":
		return Receipt{}, fmt.Errorf("%w: closing and reopening need a reason of at most %d bytes", ErrInvalid, record.MaxFreeText)
	}
	var receipt Receipt
	err := l.do(ctx, func(w *writer) error {
		e, p, ok, err := w.recorded(w.keys.handledKey(by.Requester.User, key))
		if err != nil {
			return err
		}
		if ok {
			if p.Handled == nil || p.Handled.Alert != position || p.Handled.Step != string(step) || p.Handled.Outcome != string(outcome) {
				return fmt.Errorf("%w: this key was used for something else: make a new one for each", ErrInvalid)
			}
			receipt = w.receipt(&e)
			return nil
		}
		e, err = w.tx.Entry(position)
		if errors.Is(err, ErrNoEntry) || err == nil && (e.Type != TypeAlert || e.Sealed == nil) {
			return ErrNotFound
		}
		if w.failed(err) {
			return w.err
		}
		f, err := flagged(w.tx, w.keys, position)
		switch {
		case err != nil:
			return w.verdict(err)
		case !in.employs(f.Alert.Requester), f.Alert.Requester.User == by.Requester.User:
			return ErrNotFound
		case (f.Step == AlertClosed) != (step == AlertReopened):
			return ErrStale
		}
		out := &payload{Actor: actorOut(by), Key: key, Handled: &handledBody{position, string(step), string(outcome), note, string(f.Alert.Rules[0].Rule)}}
		marks := append(w.epoch.who(by.Requester), positionMark(MarkHandled, position), w.epoch.hash(MarkKey, "handled", by.Requester.User, key))
		if receipt, err = w.append(TypeHandled, out, marks); err != nil {
			return err
		}
		switch step {
		case AlertClosed:
			w.failed(w.tx.AlertReviewed(position, receipt.Position))
		case AlertReopened:
			w.failed(w.tx.AlertReviewed(position, 0))
		}
		return w.err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// Precision counts, rule by rule, how many alerts about the staff within the bounds, but for whoever asks, were raised in a time, and what officers have found of them. It looks at
// the newest 5,000 alerts, as far as there is time: cut says that there were older ones. It names nobody, and is part of a question that has been recorded.
func (l *Ledger) Precision(ctx context.Context, by Actor, in Bounds, from, until time.Time) (out []Precision, cut bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	end := patience(ctx)
	err = l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil || in.Organisation == "" && !in.Everywhere {
			return err
		}
		head, err := r.Head()
		if err != nil {
			return err
		}
		a := answering{r, keys, endings{}}
		q := in.alerts(Query{From: from, Until: until, Before: head.Size, Limit: lastBatch})
		for looked := 0; ; {
			positions, err := r.Search(q)
			if err != nil {
				return err
			}
			list, err := a.entries(positions)
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(f sized) bool {
				return f.Alert == nil || !in.employs(f.Alert.Requester) || f.Alert.Requester.User == by.Requester.User
			})
			found, err := a.outcomes(list)
			if err != nil {
				return err
			}
			for _, f := range list {
				rule := f.Alert.Rules[0].Rule
				i := slices.IndexFunc(out, func(p Precision) bool { return p.Rule == rule })
				if i < 0 {
					i, out = len(out), append(out, Precision{Rule: rule})
				}
				out[i].Raised++
				switch found[f.Position] {
				case Justified:
					out[i].Justified++
				case NotJustified:
					out[i].NotJustified++
				case Referred:
					out[i].Referred++
				}
			}
			if len(positions) < q.Limit {
				return nil
			}
			q.Before = positions[len(positions)-1]
			if looked += len(positions); looked >= maxPrecision || time.Now().After(end) {
				cut = true
				return nil
			}
		}
	})
	slices.SortFunc(out, func(a, b Precision) int { return b.Raised - a.Raised })
	return out, cut, err
}

// outcomes returns what was found of those alerts of a list, newest first, that are closed, by position: with a page of rows and one of entries, however many alerts there are.
func (a *answering) outcomes(list []sized) (map[uint64]ReviewOutcome, error) {
	out := map[uint64]ReviewOutcome{}
	if len(list) == 0 {
		return out, nil
	}
	rows, err := a.alertRows(list[len(list)-1].Position, list[0].Position)
	if err != nil {
		return nil, err
	}
	var closings []uint64
	for _, f := range list {
		if p := rows[f.Position].Review; p != 0 {
			closings = append(closings, p)
		}
	}
	steps, err := a.entries(closings)
	if err != nil {
		return nil, err
	}
	for _, f := range steps {
		if f.Handled != nil {
			out[f.Handled.Alert] = f.Handled.Outcome
		}
	}
	return out, nil
}

// alertRows reads the rows of alerts from a position to another, both included.
func (a *answering) alertRows(from, to uint64) (map[uint64]AlertRow, error) {
	out := map[uint64]AlertRow{}
	for {
		rows, err := a.r.Alerts(AnyAlert, from, maxLooked)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row.Position > to {
				return out, nil
			}
			out[row.Position], from = row, row.Position+1
		}
		if len(rows) < maxLooked {
			return out, nil
		}
	}
}

// Follow returns entries from a position on, in order, opened; of the limit that are read at most, erased ones are left out. next is where to go on. It is for what
// reads the whole ledger to find what must be looked at; it shows nobody anything, and so is no question.
func (l *Ledger) Follow(ctx context.Context, from uint64, limit int) (out []Found, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	next = from
	err = l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		page, err := r.Entries(from, limit)
		if err != nil {
			return err
		}
		for i := range page {
			next = page[i].Position + 1
			if page[i].Sealed == nil {
				continue
			}
			f, err := found(keys, &page[i])
			if err != nil {
				return err
			}
			out = append(out, f)
		}
		return nil
	})
	return out, next, err
}

// Since returns the position of the first entry recorded at or after a time; the number of entries if there is none.
func (l *Ledger) Since(ctx context.Context, at time.Time) (position uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	err = l.view(ctx, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		lo, hi := uint64(0), head.Size // times never step back
		for lo < hi {
			mid := lo + (hi-lo)/2
			page, err := r.Leaves(mid, 1)
			if err != nil {
				return err
			}
			if len(page) > 0 && page[0].Time.Before(at) {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		position = lo
		return nil
	})
	return position, err
}

// Waiting is what waits for an organisation's officers, oldest first: positions in the ledger, and nothing else.
type Waiting struct {
	Alerts    []uint64 // about its staff, that nobody has closed
	Overrides []uint64 // by its staff, that nobody has reviewed
	More      bool     // than were asked for
}

// Waiting returns what waits for the officers of an organisation, as far as there is time. It tells them where to look and nothing of what is there, and so is no
// question. Whoever reads it must not learn that there is an alert about themselves: those about people whom officer names, and about everybody who has asked as an
// officer before, are left out. The worklist has them, for the others.
func (l *Ledger) Waiting(ctx context.Context, organisation record.ODSCode, officer func(record.Requester) bool, limit int) (Waiting, error) {
	var out Waiting
	in := Bounds{Organisation: organisation}
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	end := patience(ctx)
	err := l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		a := answering{r, keys, endings{}}
		asked := map[string]bool{} // by user id
		for from, looked := uint64(0), 0; ; {
			rows, err := r.Alerts(Unreviewed, from, lastBatch)
			if err != nil {
				return err
			}
			var positions []uint64
			for _, row := range rows {
				positions, from = append(positions, row.Position), row.Position+1
			}
			list, err := a.entries(positions)
			if err != nil {
				return err
			}
			for _, f := range list {
				to, who := &out.Alerts, record.Requester{}
				if f.Access != nil {
					to, who = &out.Overrides, f.Access.Requester
				} else if f.Alert != nil {
					who = f.Alert.Requester
				}
				if !in.employs(who) {
					continue
				}
				if f.Alert != nil {
					known, ok := asked[who.User]
					if !ok {
						if known, err = a.isOfficer(who.User); err != nil {
							return err
						}
						asked[who.User] = known
					}
					if known || officer(who) {
						continue
					}
				}
				if len(out.Alerts)+len(out.Overrides) == limit {
					out.More = true
					return nil
				}
				*to = append(*to, f.Position)
			}
			if looked += len(rows); len(rows) < lastBatch {
				return nil
			}
			if looked >= 20*maxLooked || time.Now().After(end) {
				out.More = true
				return nil
			}
		}
	})
	return out, err
}

// AboutOfficer reports whether the entry at a position is an alert that rules raised about somebody who reads alerts: whom officer names, or who has asked as an officer
// before. Of an alert that was erased nobody can tell whom it was about: it counts as one. A use of break-glass is none: who broke the glass knows that it is looked into. It
// tells nobody anything, and so is no question.
func (l *Ledger) AboutOfficer(ctx context.Context, position uint64, officer func(record.Requester) bool) (about bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	err = l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		e, err := entryAt(r, position)
		if err != nil || e.Type != TypeAlert {
			return err
		}
		if about = e.Sealed == nil; about {
			return nil
		}
		f, err := found(keys, &e)
		if err != nil {
			return err
		}
		a := answering{r, keys, endings{}}
		if about = officer(f.Alert.Requester); !about {
			about, err = a.isOfficer(f.Alert.Requester.User)
		}
		return err
	})
	return about, err
}

// patience is until when pages are read, so that there is time left for the one that is being read then.
func patience(ctx context.Context) time.Time {
	now := time.Now()
	end, ok := ctx.Deadline()
	if !ok {
		return now.Add(searchTime)
	}
	return now.Add(end.Sub(now) / 2)
}

// isOfficer reports whether a user has asked the ledger as an officer does, among the newest of what they asked: such a question says what it was held to.
func (a *answering) isOfficer(user string) (bool, error) {
	head, err := a.r.Head()
	if err != nil || user == "" {
		return false, err
	}
	positions, err := a.r.Search(Query{All: [][]Mark{a.keys.hashes(MarkUser, user)}, Types: []EntryType{TypeRead}, Before: head.Size, Limit: lastBatch})
	if err != nil || len(positions) == 0 {
		return false, err
	}
	list, err := a.r.EntriesAt(positions)
	if err != nil {
		return false, err
	}
	for i := range list {
		if list[i].Sealed == nil {
			continue
		}
		p, err := decode(a.keys, &list[i])
		if err != nil {
			return false, err
		}
		if p.Question != nil && p.Question.Within != "" {
			return true, nil
		}
	}
	return false, nil
}
