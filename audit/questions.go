package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// QuestionKind is a question that information governance, or a person, has. The list is closed; the words are recorded with the question.
type QuestionKind string

// The questions.
const (
	WhoLooked      QuestionKind = "who-looked"      // who looked at this person?
	ByUser         QuestionKind = "by-user"         // what did this user look at?
	ByStaff        QuestionKind = "by-staff"        // what did this organisation's staff look at?
	OfRecords      QuestionKind = "of-records"      // which of this organisation's records were looked at?
	Refusals       QuestionKind = "refusals"        // what was refused?
	Overrides      QuestionKind = "break-glass"     // where was the glass broken, and what became of it?
	ConsentChanges QuestionKind = "consent-changes" // which objections and delegations were made or changed, by whom?
	LedgerReads    QuestionKind = "ledger-reads"    // who asked the ledger, or looked at objections?
)

// endTypes are the entries of which each access has exactly one: a row of an answer is a whole access, found by its end.
var endTypes = []EntryType{TypeReleased, TypeRefused, TypeNothing, TypeCancelled, TypeAbandoned}

// answeredBy says which entries answer a question, and whether they are few beside all others.
var answeredBy = map[QuestionKind]struct {
	types    []EntryType
	rare     bool
	accesses bool // outcomes and purposes restrict it
}{
	WhoLooked:      {endTypes, false, true},
	ByUser:         {endTypes, false, true},
	ByStaff:        {endTypes, false, true},
	OfRecords:      {endTypes, false, true},
	Refusals:       {[]EntryType{TypeRefused}, true, true},
	Overrides:      {[]EntryType{TypeOverride}, true, true},
	ConsentChanges: {[]EntryType{TypeObjection, TypeImported, TypeDelegation}, true, false},
	LedgerReads:    {[]EntryType{TypeRead}, true, false},
}

// Valid reports whether k is of the closed list.
func (k QuestionKind) Valid() bool { return answeredBy[k].types != nil }

// OfAccesses reports whether what answers k are accesses, which have an outcome and a purpose.
func (k QuestionKind) OfAccesses() bool { return answeredBy[k].accesses }

// Question is one of them with all that it is restricted to. Empty fields do not restrict, but for Within.
type Question struct {
	Kind         QuestionKind
	Subjects     []record.NHSNumber    // the person, and superseded numbers
	User         string                // SDS user id
	Organisation record.ODSCode        // of the requester
	Holder       record.ODSCode        // whose records; kept with the question
	Holding      []record.CustodianKey // the custodians that Holder is; one that is none holds nothing
	From, Until  time.Time             // half-open
	Outcomes     []EntryType           // of accesses: entries that end one
	Purposes     []record.Purpose      // of accesses
	Within       *Bounds               // what the asker may see; nil: everything that the rest of the question leaves
	Limit        int                   // 1 to 1,000; 100 if 0
	Before       uint64                // positions below this; 0: from the newest
	Archive      string                // name of a file of Config.Archives: what stands in it is asked, and nothing else

	// Follow is called when the question is on record, and returns under which other numbers the person is looked for too: an entry of its own names those. It may be
	// nil.
	Follow func(context.Context) []record.NHSNumber

	asker string   // user id of who asks, where there may be alerts about them
	from  *archive // that of Archive
}

// Row is one thing that happened: an access as a whole, or an entry that stands alone.
type Row struct {
	Found             // what ended the access, or the one entry. Access is that of its opening, Disclosure has the parts of a stream
	Outcome EntryType // of an access: what ended it, 0 while it is not known
	Began   time.Time // of an access
	Alert   AlertKind // of break-glass
	Review  *Found    // of break-glass: the newest review
}

// Times of an answer. A page that was cut because it took long says so, and the next goes on where it stopped.
const (
	askTime   = 2 * time.Second
	totalTime = 3 * time.Second
)

// Ask records the question (L-6) and answers it, newest first. next is what to give as Before for the next page, 0 if there is none; a page may be empty and
// have a next one. The answer holds what stood in the ledger before the question.
func (l *Ledger) Ask(ctx context.Context, by Actor, q Question) (rows []Row, next uint64, r Receipt, err error) {
	q.Limit, q.asker = or(q.Limit, defaultFound), staff(by)
	if q.from, err = l.archive(ctx, q.Archive); err != nil {
		return nil, 0, Receipt{}, err
	}
	defer l.archives.give(q.from)
	if r, err = l.putQuestion(ctx, by, &q, questionAnswers); err != nil {
		return nil, 0, r, err
	}
	size := 0
	next, err = l.walk(ctx, q, r.Position, askTime, func(row Row, bytes int) bool {
		if size += bytes; len(rows) == q.Limit || size > maxFoundBytes && len(rows) > 0 {
			return false
		}
		rows = append(rows, row)
		return true
	})
	if err != nil {
		return nil, 0, r, err
	}
	return rows, next, r, nil
}

// Tally records the question and calls count with each row of the answer, newest first, as long as there is time. next is as of Ask.
func (l *Ledger) Tally(ctx context.Context, by Actor, q Question, count func(Row)) (next uint64, r Receipt, err error) {
	q.asker = staff(by)
	if q.from, err = l.archive(ctx, q.Archive); err != nil {
		return 0, Receipt{}, err
	}
	defer l.archives.give(q.from)
	if r, err = l.putQuestion(ctx, by, &q, questionTotals); err != nil {
		return 0, r, err
	}
	next, err = l.walk(ctx, q, r.Position, totalTime, func(row Row, _ int) bool { count(row); return true })
	return next, r, err
}

// putQuestion records a question, and then follows the person's numbers. The receipt is of its first entry.
func (l *Ledger) putQuestion(ctx context.Context, by Actor, q *Question, kind string) (Receipt, error) {
	if err := checkQuestion(by, *q); err != nil {
		return Receipt{}, err
	}
	body := &questionBody{Kind: kind, Subjects: reveal(q.Subjects), User: q.User, Organisation: string(q.Organisation), From: stamp(q.From), Until: stamp(q.Until),
		Limit: q.Limit, Before: q.Before, Asks: string(q.Kind), Purposes: texts(q.Purposes), Holder: string(q.Holder)}
	for _, t := range q.Outcomes {
		body.Types = append(body.Types, t.String())
	}
	body.within(q.Within)
	if q.from != nil {
		body.Archive = q.from.Epoch
	}
	r, err := l.putRead(ctx, by, body, q.Subjects)
	if err != nil || q.Follow == nil {
		return r, err
	}
	earlier := q.Follow(ctx)
	if len(earlier) == 0 {
		return r, nil
	}
	if q.Subjects = slices.Concat(q.Subjects, earlier); len(q.Subjects) > maxAsked || slices.ContainsFunc(earlier, record.NHSNumber.IsZero) {
		return r, fmt.Errorf("%w: a person is followed to at most %d numbers", ErrInvalid, maxAsked)
	}
	body.Subjects = reveal(earlier)
	if _, err := l.putRead(ctx, by, body, earlier); err != nil {
		return r, err
	}
	return r, nil
}

// within notes what the asker could see.
func (b *questionBody) within(in *Bounds) {
	switch {
	case in == nil:
	case in.Everywhere:
		b.Within, b.Overseen = string(in.Organisation), []string{"*"}
	default:
		b.Within, b.Custodians, b.Overseen = string(in.Organisation), texts(in.Custodians), texts(in.Overseen)
	}
}

func (l *Ledger) putRead(ctx context.Context, by Actor, body *questionBody, subjects []record.NHSNumber) (Receipt, error) {
	var receipt Receipt // not a result: the committer may still write it when the caller has left
	err := l.do(ctx, func(w *writer) (err error) {
		receipt, err = w.append(TypeRead, &payload{Actor: actorOut(by), Question: body}, append(w.epoch.about(subjects...), w.epoch.who(by.Requester)...))
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

func checkQuestion(by Actor, q Question) error {
	if err := checkActor(by); err != nil {
		return err
	}
	invalid := func(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }
	switch {
	case !q.Kind.Valid():
		return invalid("a question is one of the closed list")
	case q.Limit < 0 || q.Limit > maxFound:
		return invalid("an answer has 1 to 1,000 rows a page")
	case len(q.Subjects) > maxAsked || len(q.Outcomes) > maxAsked || len(q.Purposes) > maxAsked: // how many custodians an organisation is, or oversees, nobody chooses who asks
		return invalid("a question names at most 64 numbers, outcomes or purposes")
	case !q.Kind.OfAccesses() && len(q.Outcomes)+len(q.Purposes) > 0:
		return invalid("only accesses have outcomes and purposes")
	case slices.ContainsFunc(q.Subjects, record.NHSNumber.IsZero):
		return invalid("a question about a person needs their number")
	case slices.ContainsFunc(q.Outcomes, func(t EntryType) bool { return !t.Closes() }):
		return invalid("an outcome is that of an entry that ends an access")
	case slices.ContainsFunc(q.Purposes, func(p record.Purpose) bool { return !p.Valid() }):
		return invalid("a purpose is one of the closed list")
	case !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until):
		return invalid("a question's time ends after it begins")
	}
	return nil
}

// marks says a question in marks. The first group is the one that is walked: the one that is carried by fewest entries, as far as its kind tells.
func (k *Keys) marks(q *Question) (Query, bool) {
	by := answeredBy[q.Kind]
	out := Query{Types: by.types, Rare: by.rare && len(q.Subjects) == 0 && q.User == ""}
	if len(q.Outcomes) > 0 && q.Kind != Overrides {
		out.Types = slices.DeleteFunc(slices.Clone(by.types), func(t EntryType) bool { return !slices.Contains(q.Outcomes, t) })
		if len(out.Types) == 0 {
			return out, false
		}
	}
	if len(q.Subjects) > 0 {
		out.All = append(out.All, k.persons(q.Subjects))
	}
	if q.User != "" {
		out.All = append(out.All, k.hashes(MarkUser, q.User))
	}
	if q.Organisation != "" {
		out.All = append(out.All, []Mark{{MarkOrganisation, string(q.Organisation)}})
	}
	if q.Holder != "" {
		if len(q.Holding) == 0 {
			return out, false
		}
		out.All = append(out.All, custodians(q.Holding))
	}
	if in := q.Within; in != nil && !in.Everywhere && !in.implied(q) {
		group := custodians(in.Custodians)
		for _, o := range append([]record.ODSCode{in.Organisation}, in.Overseen...) {
			if o != "" {
				group = append(group, Mark{MarkOrganisation, string(o)})
			}
		}
		if len(group) == 0 {
			return out, false
		}
		out.All = append(out.All, group)
	}
	return out, true
}

// asks reports whether it was staff within the bounds who did what was found.
func (b *Bounds) asks(f Found) bool {
	switch {
	case b.Everywhere:
		return true
	case f.Access != nil:
		return b.HasStaff(f.Access.Requester.Organisation)
	}
	return f.Actor != nil && b.HasStaff(f.Actor.Requester.Organisation)
}

// implied reports whether the bounds follow from what is asked, so that they need not be tried on each entry.
func (b *Bounds) implied(q *Question) bool {
	return b.HasStaff(q.Organisation) || len(q.Holding) > 0 && !slices.ContainsFunc(q.Holding, func(k record.CustodianKey) bool { return !b.Holds(k) })
}

// Sizes of the steps in which a walk goes back through the order: positions, doubled where little is found, and entries at once, few at first, so that a short page
// reads no more than it shows.
const (
	firstStep  = 1 << 16
	lastStep   = 1 << 20
	firstBatch = 8
	lastBatch  = 256
	dense      = 8 // positions for each that was found, at most, where the entries of the types are walked instead of the marks
)

// walk goes through what answers a question, newest first, until take says no or the time is up. It returns where to go on, 0 at the end.
func (l *Ledger) walk(ctx context.Context, q Question, before uint64, patience time.Duration, take func(row Row, bytes int) bool) (next uint64, err error) {
	if q.Before != 0 {
		before = min(before, q.Before)
	}
	ctx, cancel := context.WithTimeout(ctx, max(l.deadline, searchTime))
	defer cancel()
	// Whoever asks about years must not hold what whoever treats a person waits for: the store's reading connections are few.
	select {
	case l.walking <- struct{}{}:
		defer func() { <-l.walking }()
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: other questions are being answered", ErrUnavailable)
	}
	end := time.Now().Add(patience)
	err = l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		query, some := keys.marks(&q)
		if !some {
			return nil
		}
		named, err := q.named(r, keys)
		if err != nil {
			return err
		}
		least := uint64(0)
		if q.from != nil {
			if r, err = q.from.beside(r, keys); err != nil {
				return err
			}
			least, before = q.from.From, min(before, q.from.Until)
		}
		lo, hi, err := between(r, q.From, q.Until, before)
		if err != nil {
			return err
		}
		lo = max(lo, least)
		batch, rare := max(firstBatch, min(q.Limit+1, lastBatch)), query.Rare
		// What is found by its purpose is; what was written before that was so is looked through.
		unnamed, byPurpose := query, named < hi
		if byPurpose {
			query = query.among(purposeMarks(texts(q.Purposes)...), len(q.Subjects) > 0 || q.User != "")
		}
		for step := uint64(firstStep); hi > lo; {
			if byPurpose && hi <= named {
				query, byPurpose = unnamed, false
			}
			lowest := lo
			if byPurpose {
				lowest = max(lo, named)
			}
			query.Least, query.Before, query.Limit = max(lowest, hi-min(hi, step)), hi, batch
			positions, err := r.Search(query)
			if err != nil {
				return err
			}
			a := answering{r, keys, endings{}}
			stop, err := a.rows(&q, positions, len(q.Purposes) > 0 && q.Kind != Overrides && !byPurpose, take)
			if err != nil {
				return err
			}
			switch {
			case stop > 0:
				next = stop
				return nil
			case len(positions) < batch:
				hi, step, query.Rare = query.Least, min(2*step, lastStep), rare
			default:
				last := positions[len(positions)-1]
				// Where nearly everything carries the marks (a custodian that everybody is asked of), it costs less to try them on the entries of the types than the types on all that carry them.
				query.Rare = rare || hi-last <= dense*uint64(len(positions)) && len(query.All) > 0 && len(query.All[0]) <= dense // few enough to be tried on each
				hi, batch = last, min(4*batch, lastBatch)
			}
			if hi > lo && time.Now().After(end) {
				next = hi
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return next, nil
}

// named is the position from which on what answers the question is found by its purposes; none where it asks for no purpose, or for direct care, which is what nearly everything is for.
func (q *Question) named(r Reader, keys *Keys) (uint64, error) {
	if len(q.Purposes) == 0 || q.Kind == Overrides || slices.Contains(q.Purposes, record.Treatment) {
		return noPosition, nil
	}
	positions, err := r.OfType(TypeKey, 0, maxKeyEntries)
	if err != nil {
		return 0, err
	}
	for _, at := range positions {
		e, err := r.Entry(at)
		if err != nil {
			return 0, err
		}
		p, err := decode(keys, &e)
		if err != nil {
			return 0, err
		}
		if p.Epoch.Purposes {
			return at, nil
		}
	}
	return noPosition, nil
}

// noPosition is behind every entry.
const noPosition = 1<<64 - 1

// among adds a group of marks to what a query looks for: the one that is walked, but where few entries carry those of the first.
func (q Query) among(group []Mark, few bool) Query {
	if few {
		q.All = append(slices.Clone(q.All), group)
	} else {
		q.All = append([][]Mark{group}, q.All...)
	}
	return q
}

// between turns times into positions, which they follow.
func between(r Reader, from, until time.Time, before uint64) (lo, hi uint64, err error) {
	hi = before
	if !until.IsZero() {
		last, err := r.Search(Query{Until: until, Before: before, Limit: 1})
		if err != nil || len(last) == 0 {
			return 0, 0, err
		}
		hi = last[0] + 1
	}
	if !from.IsZero() {
		last, err := r.Search(Query{Until: from, Before: before, Limit: 1})
		if err != nil {
			return 0, 0, err
		}
		if len(last) > 0 {
			lo = last[0] + 1
		}
	}
	return lo, hi, nil
}

// answering makes rows of entries, in one view.
type answering struct {
	r     Reader
	keys  *Keys
	lists endings
}

// rows makes rows of the entries at the positions and offers those that the question wants; sift says that most are of another purpose. It returns the position below which to go on where one
// was not taken, else 0.
func (a *answering) rows(q *Question, positions []uint64, sift bool, take func(Row, int) bool) (stop uint64, err error) {
	var list []sized
	var begins map[uint64]sized
	if sift {
		list, begins, err = a.purposed(positions, q.Purposes)
	} else {
		list, err = a.entries(positions)
	}
	if err != nil {
		return 0, err
	}
	if list, err = a.others(list, q.asker); err != nil {
		return 0, err
	}
	rest, err := a.rest(list, begins)
	if err != nil {
		return 0, err
	}
	for _, f := range list {
		row, ok, err := a.row(f.Found, rest)
		if err != nil {
			return 0, err
		}
		if !ok || !q.wants(&row) {
			continue
		}
		row.to(q.Subjects)
		if !take(row, f.bytes+rest.begins[f.Opens].bytes) {
			return f.Position + 1, nil
		}
	}
	return 0, nil
}

// rest is what stands elsewhere of the accesses that entries of a list are of.
type rest struct {
	begins map[uint64]sized    // by position
	parts  map[uint64][]Found  // of streams, by position of their opening
	broken map[uint64]followUp // by position of the override
}

// followUp is what came of a use of break-glass.
type followUp struct {
	alert  AlertKind
	review *Found
	access []Found // parts and end, in order
}

// rest reads it for a whole list at once. begins are the openings, where they were read before; else nil.
func (a *answering) rest(list []sized, begins map[uint64]sized) (out rest, err error) {
	if out.begins = begins; begins == nil {
		if out.begins, err = a.openings(list); err != nil {
			return out, err
		}
	}
	if out.parts, err = a.parts(list, out.begins); err != nil {
		return out, err
	}
	out.broken, err = a.followUps(list)
	return out, err
}

// openings reads the openings of the accesses that entries of a list end, by position; those that are erased are left out.
func (a *answering) openings(list []sized) (map[uint64]sized, error) {
	var opens []uint64
	for _, f := range list {
		if f.Type.Closes() && f.Opens != 0 {
			opens = append(opens, f.Opens)
		}
	}
	return a.openingsAt(opens)
}

// openingsAt reads openings; where texts are given, those that hold none of them are left out.
func (a *answering) openingsAt(opens []uint64, any ...[]byte) (map[uint64]sized, error) {
	slices.Sort(opens)
	opened, err := a.entries(slices.Compact(opens), any...)
	if err != nil {
		return nil, err
	}
	out := map[uint64]sized{}
	for _, b := range opened {
		out[b.Position] = b
	}
	return out, nil
}

// purposed is entries for what ends accesses of some purposes alone, with their openings. A purpose stands in the opening, and to which one an end belongs at its beginning: so of the ends, and of
// the openings of other purposes, nothing more than that is read, which is most of what they cost.
func (a *answering) purposed(positions []uint64, purposes []record.Purpose) ([]sized, map[uint64]sized, error) {
	var named [][]byte
	for _, p := range purposes {
		named = append(named, append([]byte(`,"purpose":`), appendString(nil, string(p))...))
	}
	ends, err := a.stored(positions)
	if err != nil {
		return nil, nil, err
	}
	texts, of := make([][]byte, len(ends)), make([]uint64, len(ends))
	err = onSeveral(len(ends), func(i int) (err error) {
		if ends[i].Sealed != nil {
			texts[i], err = ends[i].open(a.keys)
			of[i] = opensOf(texts[i])
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	begins, err := a.openingsAt(slices.DeleteFunc(slices.Clone(of), func(p uint64) bool { return p == 0 }), named...)
	if err != nil {
		return nil, nil, err
	}
	out := make([]sized, len(ends))
	err = onSeveral(len(ends), func(i int) (err error) {
		if _, is := begins[of[i]]; is || of[i] == 0 && holdsAny(texts[i], named) {
			out[i].bytes = len(ends[i].Sealed)
			out[i].Found, err = foundIn(texts[i], &ends[i])
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return slices.DeleteFunc(out, func(f sized) bool { return f.bytes == 0 }), begins, nil
}

func holdsAny(text []byte, any [][]byte) bool {
	return slices.ContainsFunc(any, func(t []byte) bool { return bytes.Contains(text, t) })
}

// sized is what was found, and how many bytes it came from.
type sized struct {
	Found
	bytes int
}

// entries reads entries; erased ones are left out, and where texts are given those that hold none of them: a payload is tried for a member before it is read as a whole, which costs more.
func (a *answering) entries(positions []uint64, any ...[]byte) (out []sized, err error) {
	list, err := a.stored(positions)
	if err != nil {
		return nil, err
	}
	out = make([]sized, len(list))
	err = onSeveral(len(list), func(i int) error {
		e := &list[i]
		if e.Sealed == nil {
			return nil
		}
		text, err := e.open(a.keys)
		if err != nil || len(any) > 0 && !holdsAny(text, any) {
			return err
		}
		out[i].bytes = len(e.Sealed)
		out[i].Found, err = foundIn(text, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(f sized) bool { return f.bytes == 0 }), nil
}

// stored reads entries as they are stored. Each must be there.
func (a *answering) stored(positions []uint64) ([]Entry, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	list, err := a.r.EntriesAt(positions)
	if err == nil && len(list) != len(positions) {
		err = fmt.Errorf("%w: an entry that is to be found is missing", ErrDamaged)
	}
	return list, err
}

// onSeveral calls do for each of so many, on several processors where there are many, and returns all errors.
func onSeveral(n int, do func(i int) error) error {
	failed := make([]error, n)
	var next atomic.Int64
	work := func() {
		for {
			from := int(next.Add(openedAtOnce)) - openedAtOnce
			if from >= n {
				return
			}
			for i := from; i < min(from+openedAtOnce, n); i++ {
				failed[i] = contained(do, i)
			}
		}
	}
	var beside sync.WaitGroup
	for i := 1; i < min(runtime.GOMAXPROCS(0), openedBeside) && n > i*openedAtOnce; i++ {
		beside.Go(work)
	}
	work()
	beside.Wait()
	return errors.Join(failed...)
}

// contained does one of several things. A panic is our own bug and an error of the question: on a goroutine of its own it would end the process. Of what was panicked with
// the type is said and no more.
func contained(do func(i int) error, i int) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: opening an entry panicked with a %T", ErrUnavailable, v)
		}
	}()
	return do(i)
}

// How many entries are opened in one go where others are opened beside them, and by how many at most.
const (
	openedAtOnce = 16
	openedBeside = 4
)

// row makes a row. ok is false where nothing can be told any more.
func (a *answering) row(f Found, in rest) (row Row, ok bool, err error) {
	row = Row{Found: f}
	switch {
	case f.Type.Closes() && f.Opens != 0:
		begin := in.begins[f.Opens]
		if begin.Access == nil {
			return row, false, nil // erased
		}
		row.Access, row.Began, row.Outcome = begin.Access, begin.At, f.Type
		row.streamed(in.parts[f.Opens])
	case f.Type == TypeRefused:
		row.Began, row.Outcome = f.Access.At, TypeRefused
	case f.Type == TypeOverride:
		row.override(in.broken[f.Position])
	case f.Type == TypeObjection:
		row.Listed, err = a.lists.listing(a.r, a.keys, f)
	}
	return row, err == nil, err
}

// faceStream is that of accesses that are released custodian by custodian.
const faceStream = "stream"

// parts reads the parts of the streams that entries of a list end, by the position of their opening, in order. They stand between the opening and the end.
func (a *answering) parts(list []sized, begins map[uint64]sized) (map[uint64][]Found, error) {
	out := map[uint64][]Found{}
	var searches []Query
	for _, f := range list {
		if begin := begins[f.Opens]; begin.Access != nil && begin.Access.Face == faceStream {
			searches = append(searches, a.behind(begin.Found, []EntryType{TypeChunk}, f.Position))
		}
	}
	all, err := a.searches(searches)
	if err != nil {
		return nil, err
	}
	chunks, err := a.entries(all)
	if err != nil {
		return nil, err
	}
	for _, c := range chunks {
		out[c.Opens] = append(out[c.Opens], c.Found)
	}
	return out, nil
}

// streamed puts the parts of a stream into the row of its end, which says only how each custodian stood.
func (row *Row) streamed(parts []Found) {
	if len(parts) == 0 {
		return
	}
	whole := Disclosure{}
	shown := map[record.CustodianKey]bool{}
	for _, p := range parts {
		for _, s := range p.Disclosure.Custodians {
			whole.Custodians, shown[s.Key] = append(whole.Custodians, s), true
		}
	}
	if d := row.Disclosure; d != nil {
		whole.Total, whole.Bytes = d.Total, d.Bytes
		for _, s := range d.Custodians {
			if !shown[s.Key] {
				whole.Custodians = append(whole.Custodians, s)
			}
		}
	}
	row.Disclosure = &whole
}

// ofType are those of a list that are of a type.
func ofType(list []Found, t EntryType) []Found {
	return slices.DeleteFunc(slices.Clone(list), func(f Found) bool { return f.Type != t })
}

// late is how long after twice its budget the end of an access may still be looked for: it is abandoned within two minutes, if anything is recorded.
const late = 5 * time.Minute

// within returns entries of some types that belong to an access, in order.
func (a *answering) within(begin Found, types []EntryType) (out []Found, err error) {
	positions, err := a.r.Search(a.near(begin, types, begin.Position))
	if err != nil {
		return nil, err
	}
	list, err := a.entries(positions)
	if err != nil {
		return nil, err
	}
	for _, f := range slices.Backward(list) {
		if f.Opens == begin.Position {
			out = append(out, f.Found)
		}
	}
	return out, nil
}

// soonAfter is how many positions behind an opening its end is looked for first.
const soonAfter = 1024

// behind looks for entries of some types about the same person behind the opening of an access, in front of a position.
func (a *answering) behind(begin Found, types []EntryType, before uint64) Query {
	return Query{All: [][]Mark{a.keys.persons([]record.NHSNumber{begin.Subject})}, Types: types, Least: begin.Position, Before: before, Limit: maxFound}
}

// near looks for them from a position on where those of the access may stand.
func (a *answering) near(begin Found, types []EntryType, from uint64) Query {
	q := a.behind(begin, types, 1<<63-1)
	q.Least, q.Until = from, begin.At.Add(2*or(begin.Access.Budget, defaultBudget)+late)
	return q
}

// searches returns what several find together, in order.
func (a *answering) searches(list []Query) (all []uint64, err error) {
	for part := range slices.Chunk(list, lastBatch) {
		found, err := a.r.Searches(part)
		if err != nil {
			return nil, err
		}
		all = append(all, slices.Concat(found...)...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// followUps reads what came of the uses of break-glass in a list: how they ended, and what was found when somebody looked into them.
func (a *answering) followUps(list []sized) (map[uint64]followUp, error) {
	var positions []uint64
	var begins []Found // directly behind: of the same transaction, and with the same access, so that they need not be read
	for _, f := range list {
		if f.Type == TypeOverride {
			positions = append(positions, f.Position)
			begins = append(begins, Found{Position: f.Position + 1, Type: TypeBegin, At: f.At, Subject: f.Subject, Access: f.Access})
		}
	}
	if len(positions) == 0 {
		return nil, nil
	}
	rows, err := a.alertsAt(positions)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, row := range rows {
		if row.Review != 0 {
			all = append(all, row.Review)
		}
	}
	found, at := map[uint64]*Found{}, map[uint64][]Found{}
	read := func(all []uint64) error {
		all = slices.DeleteFunc(all, func(p uint64) bool { return found[p] != nil })
		for page := range slices.Chunk(all, lastBatch) {
			entries, err := a.entries(page)
			if err != nil {
				return err
			}
			for i := range entries {
				f := &entries[i].Found
				found[f.Position], at[f.Opens] = f, append(at[f.Opens], *f)
			}
		}
		return nil
	}
	slices.Sort(all)
	if err := read(slices.Compact(all)); err != nil {
		return nil, err
	}
	// Nearly all have ended soon: only for the others the whole time is looked through in which they may have, where others' accesses to the same record stand too.
	types := append([]EntryType{TypeChunk}, endTypes...)
	for _, search := range []func(Found) Query{
		func(begin Found) Query { return a.behind(begin, types, begin.Position+soonAfter) },
		func(begin Found) Query { return a.near(begin, types, begin.Position+soonAfter) },
	} {
		var searches []Query
		for _, begin := range begins {
			searches = append(searches, search(begin))
		}
		all, err := a.searches(searches)
		if err != nil {
			return nil, err
		}
		if err := read(all); err != nil {
			return nil, err
		}
		begins = slices.DeleteFunc(begins, func(begin Found) bool {
			return slices.ContainsFunc(at[begin.Position], func(f Found) bool { return f.Type.Closes() && f.Position < begin.Position+soonAfter })
		})
	}
	out := map[uint64]followUp{}
	for _, p := range positions {
		u := followUp{alert: rows[p].Kind, access: slices.DeleteFunc(at[p+1], func(f Found) bool { return f.Type != TypeChunk && !f.Type.Closes() })}
		slices.SortFunc(u.access, func(a, b Found) int { return cmp.Compare(a.Position, b.Position) })
		if r := rows[p].Review; r != 0 {
			u.review = found[r]
		}
		out[p] = u
	}
	return out, nil
}

// alertsAt returns the alerts at the positions, by position; where there is none it is left out.
func (a *answering) alertsAt(positions []uint64) (map[uint64]AlertRow, error) {
	out := map[uint64]AlertRow{}
	wanted := slices.Sorted(slices.Values(positions))
	for len(wanted) > 0 {
		limit := min(2*len(wanted), lastBatch) // others stand between them
		rows, err := a.r.Alerts(AnyAlert, wanted[0], limit)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if _, is := slices.BinarySearch(wanted, row.Position); is {
				out[row.Position] = row
			}
		}
		if len(rows) < limit {
			break
		}
		last := rows[len(rows)-1].Position
		wanted = slices.DeleteFunc(wanted, func(p uint64) bool { return p <= last })
	}
	return out, nil
}

// override adds to a use of break-glass how it ended, and what was found when somebody looked into it.
func (row *Row) override(u followUp) {
	row.Began, row.Alert, row.Review = row.At, u.alert, u.review
	if len(u.access) == 0 || !u.access[len(u.access)-1].Type.Closes() {
		return
	}
	end := u.access[len(u.access)-1]
	row.Outcome, row.Disclosure = end.Type, end.Disclosure
	row.streamed(ofType(u.access, TypeChunk))
}

// wants holds what the marks cannot: what stands only in the payload. It also holds the bounds once more, on what was read.
func (q *Question) wants(row *Row) bool {
	switch {
	case q.Within != nil && !q.Within.Sees(row.Found):
		return false
	case q.Within != nil && q.Holder != "" && !slices.ContainsFunc(q.Holding, q.Within.Holds) && !q.Within.asks(row.Found):
		return false // that somebody else's record was asked for too is not theirs to know
	case len(q.Purposes) > 0 && (row.Access == nil || !slices.Contains(q.Purposes, row.Access.Purpose)):
		return false
	case len(q.Outcomes) > 0 && !slices.Contains(q.Outcomes, row.Outcome):
		return false
	}
	return true
}

// View records the question and returns one access: its row, and all its entries in order. The position is that of any of them. Where the asker may not see it, and where
// there is no such access, the error is ErrNotFound, and the question is recorded as of Event.
func (l *Ledger) View(ctx context.Context, by Actor, k Look) (row Row, list []Found, r Receipt, err error) {
	row, r, err = l.look(ctx, by, k, questionView, func(a *answering) (row Row, found bool, err error) {
		row, list, found, err = a.whole(k.Position)
		return row, found, err
	}, func(row Row) []record.NHSNumber { return row.Access.subjects() })
	if err != nil {
		return Row{}, nil, r, err
	}
	return row, list, r, nil
}

// whole returns the access that the entry at a position belongs to.
func (a *answering) whole(position uint64) (row Row, list []Found, ok bool, err error) {
	head, err := a.r.Head()
	if err != nil || position >= head.Size {
		return row, nil, false, err
	}
	at, err := a.entries([]uint64{position})
	if err != nil || len(at) == 0 {
		return row, nil, false, err
	}
	f := at[0].Found
	switch {
	case f.Type == TypeRefused && f.Opens == 0:
		row, ok, err = a.row(f, rest{})
		return row, []Found{f}, ok, err
	case f.Type == TypeBegin:
		position = f.Position
	case f.Type == TypeOverride:
		position = f.Position + 1
	case f.Type == TypeChunk || f.Type.Closes():
		position = f.Opens
	default:
		return row, nil, false, nil
	}
	if at, err = a.entries([]uint64{position}); err != nil || len(at) == 0 || at[0].Type != TypeBegin {
		return row, nil, false, err
	}
	begin := at[0].Found
	list, err = a.within(begin, append([]EntryType{TypeChunk}, endTypes...))
	if err != nil {
		return row, nil, false, err
	}
	list = append([]Found{begin}, list...)
	if last := list[len(list)-1]; last.Type.Closes() {
		of := begin.Position
		row, ok, err = a.row(last, rest{begins: map[uint64]sized{of: {Found: begin}}, parts: map[uint64][]Found{of: ofType(list, TypeChunk)}})
		return row, list, ok, err
	}
	row = Row{Found: begin, Began: begin.At} // its end is not recorded yet
	row.streamed(ofType(list, TypeChunk))
	return row, list, true, nil
}

// Foresee records that somebody asked what would be shown of a person's record, and returns the preferences that it rests on.
func (l *Ledger) Foresee(ctx context.Context, by Actor, numbers []record.NHSNumber) (consent.Preferences, Receipt, error) {
	return l.readPreferences(ctx, by, numbers, questionForesight)
}
