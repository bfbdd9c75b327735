package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// ListRequest is a call that concerns everybody's objections: a list comes in, goes out, or is followed. It is for information-governance officers, or
// for the systems that are configured to follow.
type ListRequest struct {
	ID           string
	Face         string
	Requester    record.Requester
	Role         consent.Role
	Reason       string // why, in the caller's words; required where a list comes in or goes out
	Arrived      time.Time
	TokenProblem consent.Reason // as in Request

	Format         string // of a list, for the ledger
	DryRun         bool   // check and report only
	LeaveOut       bool   // go on without rows that cannot be taken; otherwise one of them refuses the list
	AcceptUntraced bool   // take rows whose person cannot be traced just now
	NoBirthDates   bool   // of a list that goes out
}

// ListRow is one row of a list.
type ListRow struct {
	Number    int
	Subject   record.NHSNumber
	BirthDate string
	Objection consent.Objection
	Problems  []RowProblem // found by whoever read it; nil: it can be recorded as it is
}

// RowProblem is one thing that is wrong with a row: where, and what to give; never what was given.
type RowProblem struct{ Field, Want string }

// BadListError says that a list could not be read to its end. Whoever reads it returns it.
type BadListError struct{ RowProblem }

// Error returns the field and what to give.
func (e *BadListError) Error() string { return e.Field + ": " + e.Want }

// Verdict is what becomes of a row.
type Verdict string

// The verdicts.
const (
	RowNew     Verdict = "new"     // it changes something
	RowPresent Verdict = "present" // it is recorded already; or it was, and has been changed since: then a problem says so
	RowRefused Verdict = "refused" // it cannot be taken
)

// RowReport says what becomes of a row. Number 0 is the list itself.
type RowReport struct {
	Number   int
	Verdict  Verdict
	Problems []RowProblem
	Untraced bool
}

// ListStage is what is being done with a list.
type ListStage string

// The stages.
const (
	ListReading   ListStage = "reading"
	ListChecking  ListStage = "checking"
	ListRecording ListStage = "recording"
)

// ListSink is told how an import goes, from one goroutine. An error ends the import without effect: the caller left.
type ListSink interface {
	Progress(stage ListStage, done, of int) error // of is 0 while it is not known
	Rows([]RowReport) error                       // in order, after all rows are checked and before any is recorded
}

// ListOutcome is what came of a list.
type ListOutcome string

// The outcomes.
const (
	ListApplied ListOutcome = "applied" // all rows but those left out count from now on
	ListRefused ListOutcome = "refused" // nothing was changed: a row cannot be taken
	ListChecked ListOutcome = "checked" // nothing was changed: it was a trial, and would be applied
)

// ListSummary is the end of an import.
type ListSummary struct {
	Outcome                               ListOutcome
	Rows, New, Present, Refused, Untraced int
	Changed                               int // of those present: changed since
	Receipt                               audit.Receipt
}

const (
	compareRows     = 500 // rows that are held against the ledger, and traced, before progress is told; at most audit.MaxPage
	reportRows      = 500 // rows in one report
	stageTries      = 8   // a ledger that is busy with care may refuse a piece: it is tried again
	defaultTracers  = 16
	maxRowProblems  = 8
	unconfirmedText = "a person whom the demographics service confirms under this number, with this date of birth"
	changedText     = "a date (from) or a reference (source) of its own, if the person objects anew: what this row says was recorded, and has been changed since"
	untracedText    = "to be tried again: the demographics service could not be asked just now"
)

// LongestList is how long a list may take to come in, or to go out: what tracing a region's people takes at a modest rate (Config.ListTraceRate). Whoever carries
// lists MUST let a call last so long.
const LongestList = time.Hour

// ImportObjections brings a list in, as a whole or not at all. read calls its argument for every row, in order, and returns a [*BadListError] if the list
// cannot be read. All rows are checked before any is recorded; what is recorded counts only when all of it is. A list that came in before changes
// nothing. The error is always a [*Refusal]: nothing was changed then, unless its Kind is Transient and the summary of a second try says otherwise.
func (b *Broker) ImportObjections(ctx context.Context, req ListRequest, read func(each func(ListRow) error) error, to ListSink) (ListSummary, error) {
	a, by, refusal := b.openList(ctx, req, "ImportObjections")
	if refusal != nil {
		return ListSummary{}, refusal
	}
	defer a.end()
	if !b.lists.TryLock() {
		r := a.refuse(Overloaded, consent.ReasonBudget, "R-7")
		r.RetryAfter = 10 * time.Second
		a.outcome(string(r.Kind))
		return ListSummary{}, r
	}
	defer b.lists.Unlock()
	ctx, cancel := context.WithTimeout(ctx, LongestList)
	defer cancel()
	l := &list{b: b, req: req, by: by, to: to, said: time.Now()}
	out, err := l.bringIn(ctx, read)
	var left *callerLeftError
	switch {
	case err == nil:
		a.outcome(string(out.Outcome))
		return out, nil
	case errors.As(err, &left), ctx.Err() != nil && !errors.Is(err, audit.ErrClosed):
		// What was staged counts for nothing, and the same list goes on from there.
		r := a.refuse(Gone, consent.ReasonCancelled, "")
		a.outcome(string(Gone))
		return ListSummary{}, r
	case errors.Is(err, audit.ErrClosed):
		return ListSummary{}, a.invalidly("list: another list took its place while it came in, and nothing of it counts; send it again")
	}
	return ListSummary{}, a.done(err, "list")
}

// openList checks who asks. A list is about nobody in particular, so that nobody is traced yet.
func (b *Broker) openList(ctx context.Context, req ListRequest, operation string) (*access, audit.Actor, *Refusal) {
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: operation, Requester: req.Requester, Role: req.Role, Arrived: req.Arrived})
	refusal := func() *Refusal {
		switch {
		case req.TokenProblem != "":
			return a.refuse(Forbidden, req.TokenProblem, "C-10")
		case !req.Role.MovesObjections || req.Requester.Kind != record.Professional:
			return a.refuse(Forbidden, consent.ReasonRole, "C-10")
		case strings.TrimSpace(req.Reason) == "":
			return a.invalid("reason: say why the list is moved")
		}
		return nil
	}()
	if refusal != nil {
		a.outcome(string(refusal.Kind))
		a.end()
		return nil, audit.Actor{}, refusal
	}
	return a, b.listActor(req), nil
}

func (b *Broker) listActor(req ListRequest) audit.Actor {
	return b.actor(req.ID, req.Face, req.Requester, req.Role, req.Reason)
}

// list is a list on its way in.
type list struct {
	b        *Broker
	req      ListRequest
	by       audit.Actor
	to       ListSink
	rows     []ListRow
	verdicts []Verdict
	untraced []bool
	order    []int        // in which rows are compared and recorded
	whole    []RowProblem // what is wrong with the list itself
	said     time.Time    // when progress was told last
	sum      ListSummary
}

// callerLeftError is what the sink, or whoever reads the list, says when there is nobody to go on for.
type callerLeftError struct{}

// Error returns a fixed text.
func (*callerLeftError) Error() string { return "the caller left" }

func (l *list) bringIn(ctx context.Context, read func(each func(ListRow) error) error) (ListSummary, error) {
	if err := l.read(ctx, read); err != nil {
		return l.sum, err
	}
	if err := l.check(ctx); err != nil {
		return l.sum, err
	}
	if err := l.report(); err != nil {
		return l.sum, err
	}
	var err error
	refuses := l.sum.Refused > 0 && !l.req.LeaveOut || len(l.whole) > 0
	switch {
	case refuses:
		l.sum.Outcome = ListRefused
	case l.req.DryRun:
		l.sum.Outcome = ListChecked
	case l.sum.New > 0:
		return l.sum, l.record(ctx)
	default:
		l.sum.Outcome = ListApplied // nothing is left to change
	}
	l.sum.Receipt, err = l.b.cfg.Ledger.CheckedList(ctx, l.by, l.list(l.digest()))
	return l.sum, err
}

func (l *list) read(ctx context.Context, read func(each func(ListRow) error) error) error {
	err := read(func(r ListRow) error {
		if ctx.Err() != nil {
			return &callerLeftError{}
		}
		l.rows = append(l.rows, r)
		return l.progress(ListReading, len(l.rows), 0)
	})
	var bad *BadListError
	var left *callerLeftError
	switch {
	case errors.As(err, &bad):
		l.whole = []RowProblem{bad.RowProblem}
	case errors.As(err, &left):
		return err
	case err != nil:
		return &callerLeftError{} // whoever reads says nothing else of the list
	case len(l.rows) == 0:
		l.whole = []RowProblem{{"list", "at least one row"}}
	}
	l.verdicts, l.untraced = make([]Verdict, len(l.rows)), make([]bool, len(l.rows))
	l.sum.Rows = len(l.rows)
	return nil
}

// progress tells the sink, but not more often than it can be looked at.
func (l *list) progress(stage ListStage, done, of int) error {
	if now := time.Now(); now.Sub(l.said) >= 200*time.Millisecond || of > 0 && done == of {
		l.said = now
		if l.to.Progress(stage, done, of) != nil {
			return &callerLeftError{}
		}
	}
	return nil
}

func (l *list) refuse(i int, field, want string) {
	l.verdicts[i] = RowRefused
	if r := &l.rows[i]; len(r.Problems) < maxRowProblems {
		r.Problems = append(r.Problems, RowProblem{field, want})
	}
}

// check gives every row its verdict. Nothing is recorded.
func (l *list) check(ctx context.Context) error {
	first := make(map[[16]byte]int, len(l.rows))
	for i := range l.rows {
		r := &l.rows[i]
		if len(r.Problems) > 0 {
			l.verdicts[i] = RowRefused
			continue
		}
		if r.Subject.IsTest() && !l.b.cfg.TestNumbers {
			l.refuse(i, "nhs_number", "a number below 999 000 0000: those from there on are for testing, and this deployment does not take them")
		}
		if o := r.Objection; o.Scope == consent.ToCustodian && !slices.ContainsFunc(l.b.custodians, func(c *custodian) bool { return c.Rules.Custodian.Key == o.Custodian }) {
			l.refuse(i, "custodian", "the key of a custodian that is configured here")
		}
		sum := sha256.Sum256(rowText(r))
		if before, twice := first[[16]byte(sum[:16])]; twice {
			l.refuse(i, "row", fmt.Sprintf("something else than row %d: it says the same", before))
			continue
		}
		first[[16]byte(sum[:16])] = r.Number
	}
	about := make([]record.NHSNumber, len(l.rows))
	for i := range l.rows {
		about[i] = l.rows[i].Subject
	}
	l.order = l.b.cfg.Ledger.ListOrder(about)
	people := newPeople(l.b)
	defer people.close()
	done := 0
	for done < len(l.order) {
		end := min(done+compareRows, len(l.order))
		for end < len(l.order) && about[l.order[end]] == about[l.order[end-1]] { // how many one person may have is counted in one piece
			end++
		}
		if err := l.compare(ctx, people, l.order[done:end]); err != nil {
			return err
		}
		done = end
		if err := l.progress(ListChecking, done, len(l.rows)); err != nil {
			return err
		}
	}
	for i, v := range l.verdicts {
		switch v {
		case RowNew:
			l.sum.New++
		case RowPresent:
			l.sum.Present++
		case RowRefused:
			l.sum.Refused++
		}
		if l.untraced[i] {
			l.sum.Untraced++
		}
	}
	return nil
}

// compare holds some rows against what is recorded, and the people of those that would change something against the demographics service.
func (l *list) compare(ctx context.Context, people *people, piece []int) error {
	var which []int
	var rows []audit.Listed
	for _, i := range piece {
		if l.verdicts[i] == "" {
			which = append(which, i)
			rows = append(rows, audit.Listed{About: l.rows[i].Subject, Objection: l.rows[i].Objection})
		}
	}
	stands, err := l.b.cfg.Ledger.CompareList(ctx, rows)
	if err != nil {
		return err
	}
	var asked []record.NHSNumber
	for j, i := range which {
		switch stands[j] {
		case audit.RowPresent:
			l.verdicts[i] = RowPresent
		case audit.RowChanged:
			l.verdicts[i], l.rows[i].Problems = RowPresent, []RowProblem{{"row", changedText}}
			l.sum.Changed++
		case audit.RowTooMany:
			l.refuse(i, "row", "a person with fewer objections: one number cannot have more")
		default:
			l.verdicts[i] = RowNew
			asked = append(asked, l.rows[i].Subject)
		}
	}
	if err := people.ask(ctx, asked, l.req.ID); err != nil {
		return err
	}
	for _, i := range which {
		if l.verdicts[i] != RowNew {
			continue
		}
		switch birthDate, traced := people.known(l.rows[i].Subject); {
		case !traced && l.req.AcceptUntraced:
			l.untraced[i] = true
		case !traced:
			l.untraced[i] = true
			l.refuse(i, "nhs_number", untracedText)
		case birthDate == "" || birthDate != l.rows[i].BirthDate:
			l.refuse(i, "nhs_number", unconfirmedText)
		}
	}
	// Whoever holds a list against what is recorded looks at it: that is on record before anything is told of a row.
	looked := make([]record.NHSNumber, 0, len(rows))
	seen := make(map[record.NHSNumber]bool, len(rows))
	for _, r := range rows {
		if !seen[r.About] {
			seen[r.About], looked = true, append(looked, r.About)
		}
	}
	if len(looked) == 0 {
		return nil
	}
	return patiently(ctx, func() error { return l.b.cfg.Ledger.LookedAtList(ctx, l.by, looked) })
}

// report tells the verdict on every row.
func (l *list) report() error {
	var out []RowReport
	if len(l.whole) > 0 {
		out = append(out, RowReport{Verdict: RowRefused, Problems: l.whole})
	}
	for i := range l.rows {
		out = append(out, RowReport{l.rows[i].Number, l.verdicts[i], l.rows[i].Problems, l.untraced[i]})
		if len(out) == reportRows {
			if l.to.Rows(out) != nil {
				return &callerLeftError{}
			}
			out = nil
		}
	}
	if len(out) > 0 && l.to.Rows(out) != nil {
		return &callerLeftError{}
	}
	return nil
}

// rowText is a row as one text: two rows with the same text say the same.
func rowText(r *ListRow) []byte {
	o := r.Objection
	return fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d\x00%s\x00%t\x00%d\x00%d\x00%s\x00%s\x00%s\n", r.Subject.Reveal(), o.Scope, o.Custodian, o.Section, o.Status, o.Absolute,
		stampOf(o.From), stampOf(o.Until), o.Responsible, o.Method, o.Source)
}

func stampOf(t time.Time) int64 {
	if t.IsZero() {
		return -1 << 63
	}
	return t.UnixMicro()
}

// digest is a keyed hash over the rows that are taken.
func (l *list) digest() string {
	h := l.b.cfg.Ledger.ListDigest()
	for i := range l.rows {
		if l.verdicts[i] == RowNew || l.verdicts[i] == RowPresent {
			_, _ = h.Write(rowText(&l.rows[i])) // hash.Hash.Write never returns an error
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (l *list) list(digest string) audit.List {
	return audit.List{Digest: digest, Format: l.req.Format, Rows: l.sum.Rows, New: l.sum.New, Present: l.sum.Present, LeftOut: l.sum.Refused, Unconfirmed: l.sum.Untraced}
}

// record stages all rows that change something, then puts them in force at once.
func (l *list) record(ctx context.Context) error {
	about := l.list(l.digest())
	var im audit.Import
	err := patiently(ctx, func() (err error) { im, err = l.b.cfg.Ledger.BeginImport(ctx, l.by, about); return err })
	if err != nil {
		return err
	}
	var rows []audit.Listed
	for _, i := range l.order {
		if l.verdicts[i] == RowNew || im.Resumed() && l.verdicts[i] == RowPresent {
			r := &l.rows[i]
			o := r.Objection
			o.AuthorUser, o.AuthorName, o.AuthorRole, o.AuthorODS = l.req.Requester.User, l.req.Requester.Name, l.req.Role.Name, l.req.Requester.Organisation
			rows = append(rows, audit.Listed{About: r.Subject, Objection: o})
		}
	}
	staged := 0
	for from := 0; from < len(rows); from += audit.MaxStage {
		piece := rows[from:min(from+audit.MaxStage, len(rows))]
		n := 0
		err := patiently(ctx, func() (err error) { n, err = l.b.cfg.Ledger.StageObjections(ctx, l.by, im, piece); return err })
		if err != nil {
			return err
		}
		staged += n
		if err := l.progress(ListRecording, from+len(piece), len(rows)); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return &callerLeftError{}
	}
	// Somebody may have said the same at a desk while the list was on its way: that row is recorded, and not by the list.
	about.Present, about.New = about.Present+about.New-staged, staged
	err = patiently(context.WithoutCancel(ctx), func() (err error) { l.sum.Receipt, err = l.b.cfg.Ledger.ApplyImport(ctx, l.by, im, about); return err })
	if err != nil {
		return err
	}
	l.sum.Outcome, l.sum.New, l.sum.Present = ListApplied, about.New, about.Present
	return nil
}

// patiently tries a piece again while the ledger is busy: every piece is safe to repeat.
func patiently(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if err == nil || !errors.Is(err, audit.ErrUnavailable) || errors.Is(err, audit.ErrUnsound) || n == stageTries {
			return err
		}
		t := time.NewTimer(time.Duration(n) * 250 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// people asks the demographics service about many people: a bounded number at once, at a bounded rate, each number once.
type people struct {
	b      *Broker
	pace   *time.Ticker // nil: no bound
	mu     sync.Mutex
	traced map[record.NHSNumber]string // "" where the service confirms nobody
	hidden map[record.NHSNumber]bool   // of whom nothing may be said to anybody
}

func newPeople(b *Broker) *people {
	p := &people{b: b, traced: map[record.NHSNumber]string{}, hidden: map[record.NHSNumber]bool{}}
	if rate := b.cfg.ListTraceRate; rate > 0 {
		p.pace = time.NewTicker(time.Second / time.Duration(rate))
	}
	return p
}

func (p *people) close() {
	if p.pace != nil {
		p.pace.Stop()
	}
}

// known returns the date of birth of somebody who was asked for, "" if there is nobody who may be written of (a neutral class), and false if the service
// could not say.
func (p *people) known(n record.NHSNumber) (birthDate string, traced bool) {
	birthDate, traced = p.traced[n]
	return birthDate, traced
}

// ask asks for those who are not known yet. It returns when all have been asked, or an error if ctx was done before.
func (p *people) ask(ctx context.Context, numbers []record.NHSNumber, id string) error {
	var asking sync.WaitGroup
	workers := p.b.cfg.ListTraces
	if workers <= 0 {
		workers = defaultTracers
	}
	queue := make(chan record.NHSNumber)
	for range min(workers, len(numbers)) {
		asking.Go(func() {
			for n := range queue {
				p.trace(ctx, n, id)
			}
		})
	}
	var err error
	sent := map[record.NHSNumber]bool{}
	for _, n := range numbers {
		p.mu.Lock()
		_, known := p.traced[n]
		p.mu.Unlock()
		if known || sent[n] {
			continue
		}
		sent[n] = true
		if p.pace != nil {
			select {
			case <-p.pace.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			err = &callerLeftError{}
			break
		}
		queue <- n
	}
	close(queue)
	asking.Wait()
	return err
}

func (p *people) trace(ctx context.Context, n record.NHSNumber, id string) {
	ctx, cancel := context.WithTimeout(ctx, p.b.cfg.TraceTimeout)
	defer cancel()
	s, err := traceSafely(ctx, p.b.cfg.Tracer, n, id)
	if err != nil || s.Number != n {
		return
	}
	birthDate, hidden := s.BirthDate, false
	if class, neutral := consent.NeutralClass(s, p.b.cfg.DeceasedWindow, time.Now()); neutral {
		birthDate, hidden = "", class != consent.ReasonSuperseded
	} else if s.Standing != record.Live && s.Standing != record.Deceased {
		return
	}
	p.mu.Lock()
	p.traced[n] = birthDate
	if hidden {
		p.hidden[n] = true
	}
	p.mu.Unlock()
}

// ExportObjections gives out the objections of everybody who may be told of (C-10), each as it stands, page by page; page is called after a page is on record, and last is
// true for the last. Dates of birth, which the ledger does not hold, are asked for, so that the list can be imported again; untraced counts people who have
// none. Of people of whom nothing may be said it holds nothing, and does not say that there are any. Where the demographics service cannot say, it ends: it would be a
// list of some, or tell of those. The error is always a [*Refusal].
func (b *Broker) ExportObjections(ctx context.Context, req ListRequest, page func(rows []ListRow, untraced int, r audit.Receipt, last bool) error) error {
	a, by, refusal := b.openList(ctx, req, "ExportObjections")
	if refusal != nil {
		return refusal
	}
	defer a.end()
	ctx, cancel := context.WithTimeout(ctx, LongestList)
	defer cancel()
	people := newPeople(b)
	defer people.close()
	number := 0
	var rows []ListRow // that wait for a page to be full: one that is short would count those who are left out
	for from := (audit.Cursor{}); ; {
		var p audit.Page
		err := patiently(ctx, func() (err error) { p, err = b.cfg.Ledger.ExportObjections(ctx, by, from); return err })
		if err != nil {
			return a.done(err, "list")
		}
		var asked []record.NHSNumber
		for _, c := range p.Changes {
			asked = append(asked, c.About)
		}
		var told map[record.NHSNumber]bool
		err = patiently(ctx, func() (err error) { told, err = people.mayBeTold(ctx, asked, req.ID); return err })
		switch {
		case ctx.Err() != nil:
			a.outcome(string(Gone))
			return &Refusal{Kind: Gone}
		case err != nil:
			return a.done(err, "list")
		}
		for _, c := range p.Changes {
			if !told[c.About] {
				continue
			}
			number++
			row := ListRow{Number: number, Subject: c.About, Objection: c.Objection}
			if !req.NoBirthDates {
				row.BirthDate, _ = people.known(c.About)
			}
			rows = append(rows, row)
		}
		clear(people.traced)
		clear(people.hidden) // of one page: an export needs no more memory for more people
		for last := false; !last && (len(rows) >= audit.MaxPage || !p.More); {
			n := min(len(rows), audit.MaxPage)
			last = !p.More && n == len(rows)
			untraced := 0
			for _, row := range rows[:n] {
				if row.BirthDate == "" && !req.NoBirthDates {
					untraced++
				}
			}
			if page(rows[:n:n], untraced, p.Receipt, last) != nil {
				a.outcome(string(Gone))
				return &Refusal{Kind: Gone}
			}
			rows = slices.Clone(rows[n:])
		}
		if from = p.Next; !p.More {
			a.outcome("answered")
			return nil
		}
	}
}
