package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// LedgerQuestion is a call of AuditService that asks one of the questions of the list (L-6).
type LedgerQuestion struct {
	ID           string
	Face         string
	Requester    record.Requester
	Role         consent.Role
	Reason       string         // why the question is asked; required of IG officers, kept with the question
	Question     audit.Question // Within and Holding are set here
	Page         string         // what the page before gave; the rest of the question is then in it
	Arrived      time.Time
	TokenProblem consent.Reason // as in Request
}

// Followed says under which numbers a person was looked for.
type Followed struct {
	Named      bool               // the question names somebody
	Superseded []record.NHSNumber // that the demographics service confirms, and that were looked for too
	Answered   bool               // it could say; what it knows of the number itself is not told
}

// LedgerAnswer is a page of what answers a question.
type LedgerAnswer struct {
	Rows     []audit.Row
	Next     string // for the next page; "" for none
	Receipt  audit.Receipt
	Followed Followed
}

// reach is how far somebody may ask.
type reach uint8

const (
	never  reach = iota
	self         // of their own record alone, and without the names of staff where the policy does not show them
	within       // accesses by their organisation's staff to anyone, and by anyone to its records; a region's officer those of the organisations that they oversee
)

// askable is one row of the table of who may ask what.
type askable struct {
	needs           string // the field without which the question is none
	person, officer reach
}

// whoMayAsk is the one table of who may ask the ledger what (item 2 of what information governance was promised). Whoever is neither a person with a token of
// their own nor staff whose role searches the ledger may ask nothing, and is refused with an entry.
var whoMayAsk = map[audit.QuestionKind]askable{
	audit.WhoLooked:      {"nhs_number", self, within},
	audit.ByUser:         {"user", never, within}, // a person is not told who staff are, and must not find out by trying ids
	audit.ByStaff:        {"organisation", self, within},
	audit.OfRecords:      {"holder", self, within},
	audit.Refusals:       {"", self, within},
	audit.Overrides:      {"", self, within},
	audit.ConsentChanges: {"", self, within},
	audit.LedgerReads:    {"", self, within},
	viewQuestion:         {"", self, within},
}

// viewQuestion is asked by position.
const viewQuestion audit.QuestionKind = "view"

// remit is what one asker's question is held to.
type remit struct {
	reach  reach
	bounds *audit.Bounds      // within
	own    []record.NHSNumber // self: their number, and those that it supersedes
	names  bool               // whether they are shown who staff are
}

// remitOf looks the asker up in the table.
func (b *Broker) remitOf(kind audit.QuestionKind, r record.Requester, role consent.Role) remit {
	may := whoMayAsk[kind]
	switch {
	case !role.SearchesLedger:
		return remit{}
	case r.Kind == record.Person && !r.Own.IsZero():
		return remit{reach: may.person, own: []record.NHSNumber{r.Own}, names: role.SeesStaffNames}
	case r.Kind == record.Professional && r.Organisation.Valid():
		in := b.bounds(r.Organisation, role)
		return remit{reach: may.officer, bounds: &in, names: true}
	}
	return remit{}
}

// sees reports whether a row may be shown, and part leaves of it what may.
func (s remit) sees(row audit.Row) bool {
	switch s.reach {
	case self:
		return row.About(s.own)
	case within:
		return s.bounds.Sees(row.Found)
	}
	return false
}

func (s remit) part(f audit.Found) audit.Found {
	switch s.reach {
	case self:
		f = f.Plain()
	case within:
		f = ownPart(f, *s.bounds)
	}
	if !s.names {
		f = withoutNames(f)
	}
	return f
}

func (s remit) row(row audit.Row) audit.Row {
	row.Found = s.part(row.Found)
	if row.Review != nil {
		review := s.part(*row.Review)
		row.Review = &review
	}
	return row
}

// withoutNames leaves of people other than the asker what they are: kind, role and organisation (standards: what a person sees of accesses).
func withoutNames(f audit.Found) audit.Found {
	bare := func(r record.Requester) record.Requester {
		return record.Requester{Kind: r.Kind, JobRole: r.JobRole, Organisation: r.Organisation, Client: r.Client}
	}
	if f.Access != nil && !isOwn(f.Access.Requester, f.Access.Subject) {
		a := *f.Access
		a.Requester = bare(a.Requester)
		f.Access = &a
	}
	if f.Actor != nil && !isOwn(f.Actor.Requester, f.Subject) {
		a := *f.Actor
		a.Requester = bare(a.Requester)
		f.Actor = &a
		if f.Objection != nil {
			o := *f.Objection
			o.AuthorUser, o.AuthorName = "", ""
			f.Objection = &o
		}
	}
	return f
}

func isOwn(r record.Requester, subject record.NHSNumber) bool {
	return r.Kind == record.Person && !r.Own.IsZero() && r.Own == subject
}

// AskLedger answers one of the questions of the list, a page at a time. The question is itself an entry. The error is always a [*Refusal].
func (b *Broker) AskLedger(ctx context.Context, req LedgerQuestion) (LedgerAnswer, error) {
	a, by, p, s, err := b.openQuestion(ctx, req, "Ask")
	if err != nil {
		return LedgerAnswer{}, err
	}
	defer a.end()
	p.Question.Limit = req.Question.Limit
	if p.Question.Limit < 0 || p.Question.Limit > 1000 {
		return LedgerAnswer{}, a.invalidly("limit: 1 to 1000")
	}
	b.following(a, &p, &s)
	rows, next, r, failure := b.cfg.Ledger.Ask(a.ctx, by, p.Question)
	if failure != nil {
		return LedgerAnswer{}, a.unanswered(failure)
	}
	out := LedgerAnswer{Receipt: r, Followed: p.Followed}
	for _, row := range rows {
		if s.sees(row) { // the marks and the payload said so already: this is the last word, on what is about to leave
			out.Rows = append(out.Rows, s.row(row))
		}
	}
	out.Next = b.nextPage(p, next, req.Requester)
	a.outcome("answered")
	return out, nil
}

// CountLedger calls count with each row of the answer, as far as time allows. next goes on, "" if all is counted.
func (b *Broker) CountLedger(ctx context.Context, req LedgerQuestion, count func(audit.Row)) (next string, followed Followed, r audit.Receipt, err error) {
	a, by, p, s, err := b.openQuestion(ctx, req, "Total")
	if err != nil {
		return "", Followed{}, audit.Receipt{}, err
	}
	defer a.end()
	p.Question.Limit = 0
	b.following(a, &p, &s)
	position, r, failure := b.cfg.Ledger.Tally(a.ctx, by, p.Question, func(row audit.Row) {
		if s.sees(row) {
			count(s.row(row))
		}
	})
	if failure != nil {
		return "", Followed{}, r, a.unanswered(failure)
	}
	a.outcome("answered")
	return b.nextPage(p, position, req.Requester), p.Followed, r, nil
}

func (a *access) unanswered(err error) *Refusal {
	var archive audit.ArchiveError
	if errors.As(err, &archive) {
		return a.invalidly("archive: " + string(archive))
	}
	a.outcome(string(Transient))
	if errors.Is(err, audit.ErrInvalid) {
		return a.invalidly("question: a field does not go with this question, or holds too much")
	}
	return &Refusal{Kind: Transient, RetryAfter: time.Second}
}

// openQuestion holds a question to the table, follows the person's numbers, and says what may be seen.
func (b *Broker) openQuestion(ctx context.Context, req LedgerQuestion, operation string) (*access, audit.Actor, page, remit, error) {
	p := page{Operation: operation, Question: req.Question, Reason: req.Reason}
	opened := true
	if req.Page != "" {
		p, opened = b.openPage(req.Page, operation, req.Requester)
	}
	q := &p.Question
	var subject record.NHSNumber
	if len(q.Subjects) > 0 {
		subject = q.Subjects[0]
	}
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: operation, Subject: subject, Requester: req.Requester, Role: req.Role, Arrived: req.Arrived})
	s := b.remitOf(q.Kind, req.Requester, req.Role)
	refusal := func() *Refusal {
		if req.TokenProblem != "" {
			return a.refuse(Forbidden, req.TokenProblem, "L-6")
		}
		if !opened {
			return a.invalid("page_token: not one of this asker's, altered, or older than an hour: ask the question again")
		}
		if s.reach == never {
			return a.refuse(Forbidden, consent.ReasonRole, "L-6")
		}
		if s.reach == self {
			for _, n := range q.Subjects[:min(1, len(q.Subjects))] {
				if n != s.own[0] {
					return a.refuse(Forbidden, consent.ReasonNotOwn, "L-6")
				}
			}
			if q.User != "" {
				return a.refuse(Forbidden, consent.ReasonRole, "L-6")
			}
			if len(q.Subjects) == 0 {
				q.Subjects = s.own
			}
		} else if p.Reason == "" {
			return a.invalid("reason: say why the question is asked")
		}
		missing := map[string]bool{"nhs_number": len(q.Subjects) == 0, "user": q.User == "", "organisation": q.Organisation == "", "holder": q.Holder == ""}
		if needs := whoMayAsk[q.Kind].needs; missing[needs] {
			return a.invalid(needs + ": this question needs it")
		}
		return nil
	}()
	if refusal != nil {
		a.outcome(string(refusal.Kind))
		a.end()
		return nil, audit.Actor{}, page{}, remit{}, refusal
	}
	q.Within, q.Holding = s.bounds, nil
	if q.Holder != "" {
		q.Holding = b.bounds(q.Holder, consent.Role{}).Custodians
	}
	if s.reach == self {
		s.own = q.Subjects
	}
	return a, b.actor(req.ID, req.Face, req.Requester, req.Role, p.Reason), p, s, nil
}

// following has a question that names somebody follow their numbers, once it is on record. The first page does; the others hold what it found.
func (b *Broker) following(a *access, p *page, s *remit) {
	if p.Followed.Named || len(p.Question.Subjects) == 0 {
		return
	}
	asked := p.Question.Subjects[0]
	p.Question.Subjects = p.Question.Subjects[:1:1]
	p.Question.Follow = func(ctx context.Context) []record.NHSNumber {
		p.Followed = b.follow(ctx, a, asked)
		p.Question.Subjects = append(p.Question.Subjects, p.Followed.Superseded...)
		if s.reach == self {
			s.own = p.Question.Subjects
		}
		return p.Followed.Superseded
	}
}

// follow asks the demographics service which numbers a person's number supersedes. What it says of the number itself stays here: who asks by a number must not learn
// whether it is restricted, or anybody's (C-2.3).
func (b *Broker) follow(ctx context.Context, a *access, n record.NHSNumber) Followed {
	out := Followed{Named: true, Answered: true}
	if !b.takes(n) {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.TraceTimeout)
	defer cancel()
	s, err := traceSafely(ctx, b.cfg.Tracer, n, a.req.ID)
	if err != nil || s.Number != n {
		out.Answered = false
		return out
	}
	if s.Standing != record.Live && s.Standing != record.Deceased && s.Standing != record.Restricted {
		return out
	}
	for _, old := range s.Supersedes {
		if !old.IsZero() && old != n && !slices.Contains(out.Superseded, old) && len(out.Superseded) < maxSuperseded {
			out.Superseded = append(out.Superseded, old)
		}
	}
	return out
}

// maxSuperseded is how many numbers beside their own a person is looked for under.
const maxSuperseded = 63

// ShowView returns one access with all its entries and what proves a copy of what was shown. The question is itself an entry. The error is always a [*Refusal];
// what the asker may not see is Invalid, like what is not there.
func (b *Broker) ShowView(ctx context.Context, req LedgerQuestion, position uint64) (audit.Row, []audit.Found, audit.Receipt, error) {
	a, by, s, refusal := b.openView(ctx, req, "ShowView")
	if refusal != nil {
		return audit.Row{}, nil, audit.Receipt{}, refusal
	}
	defer a.end()
	row, list, r, err := b.cfg.Ledger.View(a.ctx, by, b.look(a, position, &s))
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return audit.Row{}, nil, r, a.invalidly("position: no such access that you may see; a receipt or a row of an answer names one")
	case err != nil:
		return audit.Row{}, nil, r, a.unanswered(err)
	}
	by2 := row.Access.Requester.Organisation
	for i, f := range list {
		if f.Access == nil && s.reach == within && !s.bounds.HasStaff(by2) { // an end or a part does not say by whom: it is of the same access
			f = othersPart(f, *s.bounds)
		} else {
			f = s.part(f)
		}
		list[i] = f
	}
	a.outcome("answered")
	return s.row(row), list, r, nil
}

// ShowEvent returns one row, as an answer to a question of the list holds it, by the position of its entry. The question is itself an entry. The error is always a
// [*Refusal]; what the asker may not see is NotFound, like what is not there.
func (b *Broker) ShowEvent(ctx context.Context, req LedgerQuestion, position uint64) (audit.Row, audit.Receipt, error) {
	a, by, s, refusal := b.openView(ctx, req, "ShowEvent")
	if refusal != nil {
		return audit.Row{}, audit.Receipt{}, refusal
	}
	defer a.end()
	row, r, err := b.cfg.Ledger.Event(a.ctx, by, b.look(a, position, &s))
	switch {
	case errors.Is(err, audit.ErrNotFound):
		a.outcome(string(NotFound))
		return audit.Row{}, audit.Receipt{}, &Refusal{Kind: NotFound}
	case err != nil:
		return audit.Row{}, r, a.unanswered(err)
	}
	a.outcome("answered")
	return s.row(row), r, nil
}

// openView checks who asks for what stands at one position, and says what they may see.
func (b *Broker) openView(ctx context.Context, req LedgerQuestion, operation string) (*access, audit.Actor, remit, *Refusal) {
	a := b.start(ctx, Request{ID: req.ID, Face: req.Face, Operation: operation, Requester: req.Requester, Role: req.Role, Arrived: req.Arrived})
	s := b.remitOf(viewQuestion, req.Requester, req.Role)
	reason := req.TokenProblem
	if reason == "" && s.reach == never {
		reason = consent.ReasonRole
	}
	var refusal *Refusal
	switch {
	case reason != "":
		refusal = a.refuse(Forbidden, reason, "L-6")
	case s.reach == within && req.Reason == "":
		refusal = a.invalid("reason: say why the question is asked")
	}
	if refusal != nil {
		a.outcome(string(refusal.Kind))
		a.end()
		return nil, audit.Actor{}, remit{}, refusal
	}
	return a, b.actor(req.ID, req.Face, req.Requester, req.Role, req.Reason), s, nil
}

// look is the question for what stands at one position. People are shown what is about them under earlier numbers too, which are asked for once the question is on
// record.
func (b *Broker) look(a *access, position uint64, s *remit) audit.Look {
	k := audit.Look{Position: position, Within: s.bounds, Own: s.own, Sees: func(row audit.Row) bool { return s.sees(row) }}
	if s.reach == self {
		k.Follow = func(ctx context.Context) []record.NHSNumber {
			earlier := b.follow(ctx, a, s.own[0]).Superseded
			s.own = slices.Concat(s.own, earlier)
			return earlier
		}
	}
	return k
}

// ForeseeRequest asks what somebody would be shown of a person's record.
type ForeseeRequest struct {
	ObjectionRequest
	As         record.Requester
	AsRole     consent.Role
	Purpose    record.Purpose
	Permission record.Permission
}

// ForeseeView decides as if As asked now, without asking anybody or opening an access. An officer is told of the custodians whose accesses they may see: what a person
// chose for others is not theirs to know. The question is itself an entry. The error is always a [*Refusal].
func (b *Broker) ForeseeView(ctx context.Context, req ForeseeRequest) (consent.Decision, audit.Receipt, error) {
	s := b.remitOf(viewQuestion, req.Requester, req.Role)
	a, by, refusal := b.openObjections(ctx, req.ObjectionRequest, "ForeseeView", "L-6", s.reach != never && req.Role.SeesObjections)
	if refusal != nil {
		return consent.Decision{}, audit.Receipt{}, refusal
	}
	defer a.end()
	if s.reach == within && req.Reason == "" {
		return consent.Decision{}, audit.Receipt{}, a.invalidly("reason: say why the question is asked")
	}
	q := consent.Question{Subject: a.subject, Requester: req.As, Role: req.AsRole, Purpose: req.Purpose, Permission: req.Permission,
		Relationship: record.Relationship{Kind: record.Registered}, BreakGlassReason: "foreseen, not broken", DeceasedWindow: b.cfg.DeceasedWindow, Now: time.Now().UTC()}
	for _, c := range b.custodians {
		if s.reach == self || s.bounds.HasStaff(req.As.Organisation) || s.bounds.Holds(c.Rules.Custodian.Key) {
			q.Custodians = append(q.Custodians, c.Rules)
		}
	}
	if len(q.Custodians) == 0 {
		return consent.Decision{}, audit.Receipt{}, a.invalidly("organisation: your organisation holds no record here, so only what its own staff would see can be foreseen")
	}
	prefs, receipt, err := b.cfg.Ledger.Foresee(context.WithoutCancel(a.ctx), by, a.numbers())
	if err != nil {
		return consent.Decision{}, audit.Receipt{}, a.unanswered(err)
	}
	a.outcome("answered")
	return consent.Evaluate(q, prefs), receipt, nil
}
