package consent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// MinBreakGlassReason is how many characters a break-glass reason has at least, blanks at its ends not counted (C-3).
const MinBreakGlassReason = 10

// Decide reads the person's preferences and evaluates the question. It returns no error: a registry that cannot be read is a
// refusal (C-2.1, C-8).
func Decide(ctx context.Context, r Registry, q Question) Decision {
	numbers := q.numbers()
	if len(numbers) == 0 {
		// Nobody to have preferences: without a number Evaluate never permits.
		return Evaluate(q, Preferences{})
	}
	if r == nil {
		return everywhere(q, Preferences{}, refuse(ReasonCannotKnow, RuleCannotKnow))
	}
	p, err := r.Preferences(ctx, numbers)
	if err != nil {
		return everywhere(q, Preferences{}, refuse(ReasonCannotKnow, RuleCannotKnow))
	}
	return Evaluate(q, p)
}

// Evaluate decides. It is pure: the time is q.Now.
//
// The rules are taken in the order of C-2 and the first that hits decides. Those that concern the request as a whole come
// first and give every custodian the same answer; the rest is decided for each custodian and section by itself.
func Evaluate(q Question, p Preferences) Decision { return evaluate(q, p).sealed(q) }

// evaluate is Evaluate without the permit. It changes nothing of the question and keeps nothing of it.
func evaluate(q Question, p Preferences) Decision {
	if v, hit := q.whole(p); hit {
		return everywhere(q, p, v)
	}
	objections, delegations := q.binding(p), q.delegations(p)
	claim := q.claim()
	d := Decision{Position: p.Position, Custodians: make([]CustodianDecision, 0, len(q.Custodians))}
	parts := make([]Part, len(q.Custodians)) // room for the one that most have
	var t tally
	for i, c := range q.Custodians {
		cd := CustodianDecision{Key: c.Custodian.Key, Parts: parts[i : i : i+1]}
		for s := range record.AllSections.All() {
			v := q.section(c, s, objections, delegations, claim)
			cd.add(s, v)
			t.count(v)
		}
		d.Custodians = append(d.Custodians, cd)
	}
	v := t.sum(claim)
	d.Outcome, d.Reason, d.Rule, d.Preference, d.Recorded = v.outcome, v.reason, v.rule, v.position, v.recorded
	return d
}

// verdict is what the first rule that hit says, of one custodian's section or of the whole request.
type verdict struct {
	outcome  Outcome
	reason   Reason
	rule     string
	position uint64 // of the objection, if one decided
	recorded time.Time
	toAll    bool // that objection is to all sharing
}

func permit(r Reason, rule string) verdict { return verdict{outcome: Permitted, reason: r, rule: rule} }
func refuse(r Reason, rule string) verdict { return verdict{outcome: Refused, reason: r, rule: rule} }
func withhold(r Reason, rule string) verdict {
	return verdict{outcome: Suppressed, reason: r, rule: rule}
}

// whole takes the rules that concern the request as a whole: C-2.1 to C-2.4 and the reason that break-glass needs (C-3).
func (q *Question) whole(p Preferences) (verdict, bool) {
	// C-2.1. What cannot be understood cannot be decided upon. A question without a standing is one whose trace failed.
	switch {
	case q.Subject.Standing == "":
		return refuse(ReasonTraceUnavailable, RuleTrace), true
	case q.Now.IsZero() || !q.readable() || !p.readable():
		return refuse(ReasonCannotKnow, RuleCannotKnow), true
	}

	// C-2.2. Direct care is a professional's; the own view is the person's, of themselves. A system that names nobody may not
	// ask at all (C-2.4), and that is said here, before the neutral classes: who may be told nothing about anybody must not
	// learn who exists.
	switch q.Requester.Kind {
	case record.Professional:
		if q.Purpose != record.Treatment && q.Purpose != record.UrgentCare && q.Purpose != record.BreakGlass {
			return refuse(ReasonPurpose, RulePurpose), true
		}
	case record.Person:
		if q.Purpose != record.PatientAccess {
			return refuse(ReasonPurpose, RulePurpose), true
		}
		// C-6. Somebody else's record is seen by whom that person lets see it, and by nobody else.
		if !q.ownView() && len(q.delegations(p)) == 0 {
			return refuse(ReasonNotOwn, RulePurpose), true
		}
	default:
		return refuse(ReasonNoActingPerson, RuleRole), true
	}

	// C-2.4, before C-2.3: who may see nothing for this purpose learns nothing of who exists. The plan of the house has the neutral classes first;
	// then a role without any right could tell live people (403 at once) from all others (404, late). What a role may see in part is looked at later.
	if q.Role.Sections[q.Purpose]&record.AllSections == 0 {
		return refuse(ReasonRole, RuleRole), true
	}

	// C-2.3, R-4. Only live people, and those who died within the window, go on.
	if reason, neutral := NeutralClass(q.Subject, q.DeceasedWindow, q.Now); neutral {
		return verdict{outcome: Neutral, reason: reason, rule: RuleNeutral}, true
	}
	if q.Subject.Standing != record.Live && q.Subject.Standing != record.Deceased {
		return refuse(ReasonCannotKnow, RuleCannotKnow), true
	}
	if q.Subject.Number.IsZero() {
		return refuse(ReasonCannotKnow, RuleCannotKnow), true // whose objections would have been read?
	}

	// C-3. Without a reason there is no break-glass, not even for what would not need it: each is recorded with its reason.
	if q.Purpose == record.BreakGlass && utf8.RuneCountInString(strings.TrimSpace(q.BreakGlassReason)) < MinBreakGlassReason {
		return refuse(ReasonBreakGlassReason, RuleBreakGlass), true
	}
	return verdict{}, false
}

// section takes the rules that concern one section of one custodian's record: the rest of C-2.4, then C-2.5 to C-2.10.
func (q *Question) section(c CustodianRules, s record.Section, objections []Objection, delegations []Delegation, claim verdict) verdict {
	if !q.Role.Sections[q.Purpose].Has(s) {
		return withhold(ReasonRoleSection, RuleRole)
	}
	if c.Excluded.Has(s) {
		return withhold(ReasonExcluded, RuleExcluded)
	}
	if c.patientEntered() && !q.ownView() {
		return withhold(ReasonPatientEntered, RulePatientEntered)
	}
	if q.carer() && !slices.ContainsFunc(delegations, func(d Delegation) bool { return d.Covers(c.Custodian.Key, s) }) {
		return withhold(ReasonDelegation, RuleDelegation)
	}
	if q.Requester.Kind == record.Professional && q.Requester.Organisation != "" && q.Requester.Organisation == c.Custodian.ODS {
		return permit(ReasonOwnRecord, RuleOwnRecord)
	}
	for _, o := range objections { // the strictest first
		if !o.covers(c.Custodian.Key, s) {
			continue
		}
		v := withhold(ReasonObjection, RuleObjection)
		if q.Purpose == record.BreakGlass && c.EmergencyOverride {
			v = permit(ReasonOverride, RuleBreakGlass)
		}
		v.position, v.recorded, v.toAll = o.Position, o.Recorded, o.Scope == ToAll
		return v
	}
	return claim
}

// claim takes C-2.8 to C-2.10, which say the same of every custodian: they look only at what the request states.
func (q *Question) claim() verdict {
	if !q.permissionGiven() {
		switch {
		case q.Purpose == record.BreakGlass:
			return permit(ReasonBreakGlass, RulePermission)
		case q.Permission.Kind == record.AskedNo:
			return refuse(ReasonAskedNo, RulePermission)
		}
		return refuse(ReasonPermission, RulePermission)
	}
	if q.Purpose != record.PatientAccess && !relationshipKnown(q.Relationship.Kind) {
		if q.Purpose == record.BreakGlass {
			return permit(ReasonBreakGlass, RuleRelationship)
		}
		return refuse(ReasonRelationship, RuleRelationship)
	}
	return permit(ReasonPermitted, RulePermit)
}

// permissionGiven holds the second column of the table "Requests say". A permission that lacks the detail it must have is none.
func (q *Question) permissionGiven() bool {
	p := q.Permission
	switch {
	case q.ownView():
		return p.Kind == record.PatientSelf
	case q.carer():
		return p.Kind == record.Delegated
	}
	switch p.Kind {
	case record.AskedYes:
		return true
	case record.AskedEarlier: // on a day that has come: the day is one of the requester's calendar
		_, err := time.Parse(time.DateOnly, p.On)
		return err == nil && p.On <= q.Now.In(record.London).Format(time.DateOnly)
	case record.ImpliedByReferral:
		return strings.TrimSpace(p.Ref) != ""
	case record.CannotAsk, record.BestInterests:
		return strings.TrimSpace(p.Reason) != ""
	case record.PermissionNotNeeded:
		return q.Role.NoPermission
	}
	return false
}

func relationshipKnown(k record.RelationshipKind) bool {
	switch k {
	case record.Registered, record.Referral, record.Admission, record.Appointment, record.Attendance, record.Caseload, record.SelfClaimed:
		return true
	}
	return false
}

// binding returns the objections that withhold from this requester now, the strictest first: the wider scope, then the
// absolute one, then the one recorded first. The order is total, so the order of p does not matter.
func (q *Question) binding(p Preferences) []Objection {
	var list []Objection
	for _, o := range p.Objections {
		if o.Binds(q.Now) && (o.Absolute || !q.ownView()) { // C-1: only absolute ones bind the own view
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Objection) int {
		return cmp.Or(cmp.Compare(a.Scope.width(), b.Scope.width()), compareBool(b.Absolute, a.Absolute),
			cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// delegations returns those that let this requester, if they are a carer, see anything of the person's record now (C-6). One always names somebody.
func (q *Question) delegations(p Preferences) []Delegation {
	var list []Delegation
	for _, d := range p.Delegations {
		if d.Carer == q.Requester.Own && d.Binds(q.Now) {
			list = append(list, d)
		}
	}
	return list
}

// ownView reports whether the person asks for their own record.
func (q *Question) ownView() bool {
	return q.Requester.Kind == record.Person && !q.Requester.Own.IsZero() && q.Requester.Own == q.Subject.Number
}

// carer reports whether a person asks for somebody else's record.
func (q *Question) carer() bool {
	return q.Requester.Kind == record.Person && q.Requester.Own != q.Subject.Number
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// width orders the scopes, the widest first; 0 for none of them.
func (s Scope) width() int {
	switch s {
	case ToAll:
		return 1
	case ToCustodian:
		return 2
	case ToSection:
		return 3
	}
	return 0
}

func (o Objection) covers(k record.CustodianKey, s record.Section) bool {
	switch o.Scope {
	case ToAll:
		return true
	case ToCustodian:
		return o.Custodian == k
	case ToSection:
		return o.Section == s
	}
	return false // does not happen: such preferences are not readable
}

// readable reports whether every objection and delegation says what it must. One that does not might be any: nothing can be decided on it.
func (p Preferences) readable() bool {
	for _, d := range p.Delegations {
		if !d.readable() {
			return false
		}
	}
	for _, o := range p.Objections {
		switch o.Status {
		case Requested, InForce, Declined, Withdrawn:
		default:
			return false
		}
		switch {
		case o.Scope.width() == 0:
			return false
		case o.Scope == ToCustodian && !o.Custodian.Valid():
			return false
		case o.Scope == ToSection && !record.AllSections.Has(o.Section):
			return false
		}
	}
	return true
}

// readable reports whether the custodians can be told apart. With none there is nothing to decide on.
func (q *Question) readable() bool {
	seen := make(map[record.CustodianKey]bool, len(q.Custodians))
	for _, c := range q.Custodians {
		k := c.Custodian.Key
		if !k.Valid() || seen[k] {
			return false
		}
		seen[k] = true
	}
	return len(seen) > 0
}

func (c CustodianRules) patientEntered() bool {
	return c.PatientEntered || c.Custodian.Kind == record.KindPatientEntered
}

// NeutralClass reports whether a person is of a class that gets the neutral answer whatever is asked about them, and which (C-2.3,
// unknown, superseded, invalidated, restricted, or deceased and closed. window is how long after death a record may still be
// asked for.
func NeutralClass(s record.Subject, window time.Duration, now time.Time) (Reason, bool) {
	switch s.Standing {
	case record.Deceased:
		return ReasonDeceased, !diedWithin(s.Deceased, window, now)
	case record.Unknown:
		return ReasonUnknown, true
	case record.Superseded:
		return ReasonSuperseded, true
	case record.Invalidated:
		return ReasonInvalidated, true
	case record.Restricted:
		return ReasonRestricted, true
	}
	return "", false
}

// diedWithin reports whether the death is known to lie within the window. Of a partial date the earliest day counts; a
// death without a day, or on a day that has not come, is not known to.
func diedWithin(death string, window time.Duration, now time.Time) bool {
	t, err := record.ParseClinicalTime(death)
	if err != nil || window <= 0 {
		return false
	}
	return !t.Lo.After(now) && !now.After(t.Lo.Add(window))
}

// numbers returns the subject's number and those that it supersedes, each once.
func (q *Question) numbers() []record.NHSNumber {
	list := make([]record.NHSNumber, 0, 1+len(q.Subject.Supersedes))
	if n := q.Subject.Number; !n.IsZero() {
		list = append(list, n)
	}
	for _, n := range q.Subject.Supersedes {
		if !n.IsZero() && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// add takes one section's verdict in: sections that share one share a Part. Within one decision a reason has one outcome and one rule.
func (cd *CustodianDecision) add(s record.Section, v verdict) {
	if v.outcome == Permitted {
		cd.Permitted = cd.Permitted.With(s)
	}
	for i := range cd.Parts {
		p := &cd.Parts[i]
		if p.Reason == v.reason && p.Position == v.position {
			p.Sections = p.Sections.With(s)
			return
		}
	}
	cd.Parts = append(cd.Parts, Part{Sections: record.SectionsOf(s), Allowed: v.outcome == Permitted,
		Outcome: v.outcome, Reason: v.reason, Rule: v.rule, Position: v.position, Recorded: v.recorded})
}

// everywhere makes the decision that says the same of every section of every custodian. It never permits.
func everywhere(q Question, p Preferences, v verdict) Decision {
	d := Decision{Outcome: v.outcome, Reason: v.reason, Rule: v.rule, Position: p.Position,
		Custodians: make([]CustodianDecision, 0, len(q.Custodians))}
	for _, c := range q.Custodians {
		d.Custodians = append(d.Custodians, CustodianDecision{Key: c.Custodian.Key,
			Parts: []Part{{Sections: record.AllSections, Outcome: v.outcome, Reason: v.reason, Rule: v.rule}}})
	}
	return d
}

// tally finds what the sections' verdicts make of the whole request.
type tally struct {
	permitted  verdict // the one that says most about why anything is permitted; zero if nothing is
	withheld   verdict // likewise for what is withheld
	suppressed verdict // by an objection to all sharing
}

func (t *tally) count(v verdict) {
	switch {
	case v.outcome == Permitted:
		if rank(v.reason) > rank(t.permitted.reason) {
			t.permitted = v
		}
	case v.outcome == Suppressed:
		if v.toAll {
			t.suppressed = v
		}
		if rank(v.reason) > rank(t.withheld.reason) {
			t.withheld = v
		}
	}
}

// rank orders the reasons for permits, and those for withholding, by how much they say about the whole request. That the role does not include a
// section says nothing of it: a role with no section at all was refused.
func rank(r Reason) int {
	switch r {
	case ReasonOwnRecord:
		return 1
	case ReasonPermitted, ReasonPatientEntered, ReasonDelegation:
		return 2
	case ReasonBreakGlass, ReasonExcluded:
		return 3
	case ReasonOverride, ReasonObjection:
		return 4
	}
	return 0
}

// sum gives the verdict on the whole request. Where nothing is permitted, what the request itself lacks comes before what is
// withheld custodian by custodian, even if no section got so far: else one more objection could turn a refusal into a permit.
func (t *tally) sum(claim verdict) verdict {
	switch {
	case t.permitted.outcome == Permitted:
		return t.permitted
	case t.suppressed.outcome == Suppressed:
		return t.suppressed
	case claim.outcome == Refused:
		return claim
	}
	// Each custodian withholds for a reason of its own: there is an answer, and it names them.
	return permit(ReasonWithheld, t.withheld.rule)
}
