package consent_test

import (
	"slices"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The oracle says what must be answered, from the text of C-2 and of the rules that it refers to. It was written from that text alone and shares
// nothing with the code that decides: it never sees a Question. A situation is told to it in words, as the rules use them, and it works with sets: each rule
// in its turn takes the sections that it hits from those that are left, for one custodian at a time.
//
// The neighbourhood of a situation is two custodians: here, to which exclusion, patient-entered and break-glass policy apply, and there, which is plain.

// situation is one combination of everything that a decision rests on. situations.go lists the words.
type situation struct {
	registry     string // answers, is down, is garbled
	standing     string
	asker        string
	purpose      string
	role         string // nothing, without results, results only, everything
	excluded     string // nothing, results
	entered      string // no, yes: here is the person's own diary
	objection    string
	overrides    string // no, yes: here lets break-glass override objections
	permission   string
	relationship string
	reason       string // none, short, enough
}

// answer is what a rule says: of a whole request, or of some sections of a custodian.
type answer struct{ outcome, reason, rule string }

// told is everything that the oracle says.
type told struct {
	whole answer
	part  map[string]map[record.Section]answer // by custodian; nil where every part is as the whole
	by    map[string]record.Sections           // sections that the objection decided, by custodian
	alert bool
}

var (
	everything = record.AllSections
	justTheOne = record.SectionsOf(record.Results)
)

func is(word string, any ...string) bool { return slices.Contains(any, word) }

func (s situation) professional() bool { return is(s.asker, "elsewhere", "here", "homeless") }
func (s situation) carer() bool {
	return is(s.asker, "carer", "carer of one section", "carer of there", "carer whose time is over", "somebody else's carer", "former carer", "two carers in one")
}

// lets is what the person lets this carer see of a custodian.
func (s situation) lets(custodian string) record.Sections {
	switch {
	case s.asker == "carer":
		return everything
	case s.asker == "carer of one section":
		return justTheOne
	case s.asker == "carer of there" && custodian == "there":
		return everything
	case s.asker == "two carers in one" && custodian == "there":
		return everything
	case s.asker == "two carers in one":
		return justTheOne
	}
	return 0
}

func (s situation) roleSees() record.Sections {
	return map[string]record.Sections{"nothing": 0, "without results": everything.Without(justTheOne), "results only": justTheOne, "everything": everything}[s.role]
}

// wholeRules are those about the request as a whole, in the order of C-2. The third and fourth are told in the order that consent/DESIGN.md gives: whoever
// may see nothing at all learns nothing of who exists.
var wholeRules = []struct {
	hits func(situation) bool
	says func(situation) answer
}{
	// 1 cannot find out: refuse.
	{func(s situation) bool { return s.registry == "is down" }, fixed("refuse", "cannot-know", "C-2.1")},
	{func(s situation) bool { return s.standing == "not traced" }, fixed("refuse", "trace-unavailable", "R-4")},
	{func(s situation) bool { return s.registry == "is garbled" }, fixed("refuse", "cannot-know", "C-2.1")},
	// 2 purpose is neither direct care nor patient-self: refuse.
	{func(s situation) bool { return s.professional() && !is(s.purpose, "TREAT", "ETREAT", "BTG") }, fixed("refuse", "purpose", "C-2.2")},
	{func(s situation) bool {
		return !s.professional() && !is(s.asker, "system", "nobody") && s.purpose != "PATRQT"
	}, fixed("refuse", "purpose", "C-2.2")},
	{func(s situation) bool {
		return s.asker == "a person without a number" || s.carer() && s.lets("here")|s.lets("there") == 0
	}, fixed("refuse", "not-own-record", "C-2.2")},
	// 4 role may not ask: refuse.
	{func(s situation) bool { return is(s.asker, "system", "nobody") }, fixed("refuse", "no-acting-person", "C-2.4")},
	{func(s situation) bool { return s.role == "nothing" }, fixed("refuse", "role", "C-2.4")},
	// 3 neutral class: neutral.
	{func(s situation) bool { return is(s.standing, "unknown", "superseded", "invalidated", "restricted") }, func(s situation) answer {
		return answer{"neutral", s.standing, "C-2.3"}
	}},
	{func(s situation) bool {
		return s.standing == "died long ago" || s.standing == "died on a day that nobody knows"
	}, fixed("neutral", "deceased", "C-2.3")},
	{func(s situation) bool { return s.standing == "a word of tomorrow" }, fixed("refuse", "cannot-know", "C-2.1")},
	// C-3: break-glass has a reason of at least 10 characters.
	{func(s situation) bool { return s.purpose == "BTG" && s.reason != "enough" }, fixed("refuse", "break-glass-reason", "C-3")},
}

func fixed(outcome, reason, rule string) func(situation) answer {
	return func(situation) answer { return answer{outcome, reason, rule} }
}

// partRules are those about sections of one custodian's record, in the order of C-2; each says which sections it hits.
var partRules = []struct {
	hits func(s situation, custodian string) record.Sections
	says func(situation) answer
}{
	// 4 the role does not include the section.
	{func(s situation, _ string) record.Sections { return everything.Without(s.roleSees()) }, fixed("withheld", "role-section", "C-2.4")},
	// 5 custodian's exclusion list: withheld.
	{func(s situation, c string) record.Sections {
		if s.excluded == "results" && c == "here" {
			return justTheOne
		}
		return 0
	}, fixed("withheld", "excluded", "C-2.5")},
	// C-5: patient-entered data is shown only in the person's own view.
	{func(s situation, c string) record.Sections {
		if s.entered == "yes" && c == "here" && s.asker != "the person" {
			return everything
		}
		return 0
	}, fixed("withheld", "patient-entered", "C-5")},
	// C-6: a carer sees what was delegated.
	{func(s situation, c string) record.Sections {
		if s.carer() {
			return everything.Without(s.lets(c))
		}
		return 0
	}, fixed("withheld", "delegation", "C-6")},
	// 6 the requester's organisation is the custodian: permit its own record.
	{func(s situation, c string) record.Sections {
		if s.asker == "here" && c == "here" {
			return everything
		}
		return 0
	}, fixed("permit", "own-record", "C-2.6")},
	// 7 objection in force: withheld. C-3: break-glass over it only where the custodian's policy says so.
	{func(s situation, c string) record.Sections {
		if s.purpose == "BTG" && s.overrides == "yes" && c == "here" {
			return 0
		}
		return s.objectedTo(c)
	}, fixed("withheld", "objection", "C-2.7")},
	{func(s situation, c string) record.Sections { return s.objectedTo(c) }, fixed("permit", "objection-overridden", "C-3")},
	// 8, 9, 10: what the request states says the same of everything that is left.
	{func(situation, string) record.Sections { return everything }, claimOf},
}

// objectedTo is what an objection in force covers of a custodian's record, for this asker. C-1: only an absolute one binds the person's own view.
func (s situation) objectedTo(custodian string) record.Sections {
	if s.asker == "the person" && !is(s.objection, "to all, absolute", "to results, absolute") {
		return 0
	}
	switch {
	case is(s.objection, "to all", "to all, absolute", "to all, from just now", "to all, until just after"):
		return everything
	case s.objection == "to here" && custodian == "here", s.objection == "to there" && custodian == "there":
		return everything
	case is(s.objection, "to results", "to results, absolute"):
		return justTheOne
	}
	return 0 // none, only requested, declined, withdrawn, over, not begun, to somebody who is not here
}

// claimOf is what C-2.8 to C-2.10 say.
func claimOf(s situation) answer {
	given := is(s.permission, "asked-yes", "asked-earlier today", "implied-by-referral with its reference", "cannot-ask with a reason", "best-interests with a reason",
		"not-required where it is not")
	switch s.asker {
	case "the person":
		given = s.permission == "patient-self"
	default:
		if s.carer() {
			given = s.permission == "delegated"
		}
	}
	broken := s.purpose == "BTG"
	related := is(s.relationship, "admission", "self-claimed")
	switch {
	case !given && broken:
		return answer{"permit", "break-glass", "C-2.8"}
	case !given && s.permission == "asked-no":
		return answer{"refuse", "asked-no", "C-2.8"}
	case !given:
		return answer{"refuse", "permission", "C-2.8"}
	case s.purpose == "PATRQT" || related:
		return answer{"permit", "permitted", "C-2.10"}
	case broken:
		return answer{"permit", "break-glass", "C-2.9"}
	}
	return answer{"refuse", "relationship", "C-2.9"}
}

// consult asks the oracle.
func consult(s situation) told {
	for _, r := range wholeRules {
		if r.hits(s) {
			return told{whole: r.says(s)}
		}
	}
	out := told{part: map[string]map[record.Section]answer{}, by: map[string]record.Sections{}}
	var said []answer // in the order of custodians and sections
	toAll := false
	for _, c := range []string{"here", "there"} {
		out.part[c] = map[record.Section]answer{}
		left := everything
		for _, r := range partRules {
			hit := left & r.hits(s, c)
			left = left.Without(hit)
			a := r.says(s)
			for _, section := range hit.List() {
				out.part[c][section] = a
			}
			if hit != 0 && is(a.reason, "objection", "objection-overridden") {
				out.by[c] |= hit
				toAll = toAll || s.objectedTo("here") == everything && s.objectedTo("there") == everything && a.reason == "objection"
			}
		}
		for _, section := range everything.List() {
			said = append(said, out.part[c][section])
		}
	}
	out.whole = sumUp(s, said, toAll)
	out.alert = out.whole.outcome == "permit" && s.purpose == "BTG"
	return out
}

// sumUp says what the parts make of the whole: whatever is permitted permits, and the reason that says most is told. Where nothing is permitted, an objection
// to all sharing is told, else what the request lacks; else each custodian withholds for a reason of its own, and the request is answered with that.
func sumUp(s situation, said []answer, toAll bool) answer {
	first := func(outcome string, groups ...[]string) (answer, bool) {
		for _, reasons := range groups {
			for _, a := range said {
				if a.outcome == outcome && is(a.reason, reasons...) {
					return a, true
				}
			}
		}
		return answer{}, false
	}
	if a, ok := first("permit", []string{"objection-overridden"}, []string{"break-glass"}, []string{"permitted"}, []string{"own-record"}); ok {
		return a
	}
	if toAll {
		return answer{"suppressed", "objection", "C-2.7"}
	}
	if claim := claimOf(s); claim.outcome == "refuse" {
		return claim
	}
	a, _ := first("withheld", []string{"objection"}, []string{"excluded"}, []string{"patient-entered", "delegation"}, []string{"role-section"})
	return answer{"permit", "withheld", a.rule}
}
