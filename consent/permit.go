package consent

import (
	"maps"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// sealed returns d with its permit, if it permits. The permit keeps copies of its own: whoever changes a Decision, or the
// Question that it came from, changes no permit.
func (d Decision) sealed(q Question) Decision {
	if d.Outcome != Permitted {
		return d
	}
	own, question := d.clone(), q.clone()
	d.permit = Permit{question: &question, decision: &own}
	return d
}

// Permit returns the proof of a permitting decision, and false for any other.
// A decision that permits the request but withholds everything has one too: it leaves nobody to ask.
func (d Decision) Permit() (Permit, bool) {
	if d.Outcome != Permitted || !d.permit.Valid() {
		return Permit{}, false
	}
	return d.permit, true
}

// Valid reports whether p came from a permitting decision.
func (p Permit) Valid() bool { return p.question != nil } // both are set, or neither

// Sections returns what may be shown of a custodian's record, none for an unknown custodian or an invalid permit.
func (p Permit) Sections(k record.CustodianKey) record.Sections {
	if !p.Valid() {
		return 0
	}
	return p.decision.permitted(k)
}

// permitted returns what a decision permits of a custodian's record, none for an unknown custodian.
func (d *Decision) permitted(k record.CustodianKey) record.Sections {
	for i := range d.Custodians {
		if d.Custodians[i].Key == k {
			return d.Custodians[i].Permitted
		}
	}
	return 0
}

// Numbers returns the numbers under which preferences count: the subject's, and those that it supersedes.
func (p Permit) Numbers() []record.NHSNumber {
	if !p.Valid() {
		return nil
	}
	return p.question.numbers()
}

// Position returns the version of the preferences that the permit rests on.
func (p Permit) Position() uint64 {
	if !p.Valid() {
		return 0
	}
	return p.decision.Position
}

// BreaksGlass reports whether break-glass was used: an Override entry is due before Begin (C-3). It was wherever the
// requester gave that purpose, even if what is shown would not have needed it.
func (p Permit) BreaksGlass() bool { return p.Valid() && p.question.Purpose == record.BreakGlass }

// Decision returns the decision that made p, the zero Decision for an invalid permit.
func (p Permit) Decision() Decision {
	if !p.Valid() {
		return Decision{}
	}
	d := p.decision.clone()
	d.permit = p
	return d
}

// Again evaluates the same question with other preferences and a later time. A time before that of p's decision counts as
// that: a clock that steps back reopens nothing. An invalid permit gives a refusal.
func (p Permit) Again(prefs Preferences, now time.Time) Decision {
	if !p.Valid() {
		return everywhere(Question{}, prefs, refuse(ReasonCannotKnow, RuleCannotKnow))
	}
	return Evaluate(p.asked(now), prefs)
}

// asked is the question that p answered, at a later time. What it refers to is p's own and MUST NOT be changed.
func (p Permit) asked(now time.Time) Question {
	q := *p.question
	if now.After(q.Now) {
		q.Now = now
	}
	return q
}

// Holds reports whether everything that p permits is still permitted: the check that a release makes inside its transaction.
// A permit that leaves nobody to ask holds as long as the request as a whole is permitted.
func (p Permit) Holds(prefs Preferences, now time.Time) bool {
	if !p.Valid() {
		return false
	}
	again := evaluate(p.asked(now), prefs)
	if again.Outcome != Permitted {
		return false
	}
	for _, c := range p.decision.Custodians {
		if c.Permitted.Without(again.permitted(c.Key)) != 0 {
			return false
		}
	}
	return true
}

// clone returns a copy that shares nothing with d and has no permit.
func (d Decision) clone() Decision {
	d.permit = Permit{}
	d.Custodians = slices.Clone(d.Custodians)
	n := 0
	for i := range d.Custodians {
		n += len(d.Custodians[i].Parts)
	}
	all := make([]Part, 0, n)
	for i := range d.Custodians {
		if c := &d.Custodians[i]; c.Parts != nil {
			from := len(all)
			all = append(all, c.Parts...)
			c.Parts = all[from:len(all):len(all)]
		}
	}
	return d
}

// clone returns a copy that shares nothing with q.
func (q Question) clone() Question {
	q.Subject.Supersedes = slices.Clone(q.Subject.Supersedes)
	q.Subject.Given = slices.Clone(q.Subject.Given)
	q.Role.Sections = maps.Clone(q.Role.Sections)
	q.Custodians = slices.Clone(q.Custodians)
	return q
}
