package consent_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// drawQuestion draws any question, most often one that gets as far as C-2.5.
func drawQuestion(t *rapid.T) consent.Question {
	n := newNeighbourhood()
	q := n.question()
	for i := range q.Custodians {
		c := &q.Custodians[i]
		c.Excluded = record.Sections(rapid.SampledFrom([]uint16{0, 0, 0, uint16(record.AllSections), rapid.Uint16().Draw(t, "excluded")}).Draw(t, "which")) & record.AllSections
		c.EmergencyOverride = rapid.Bool().Draw(t, "override")
		c.PatientEntered = rapid.IntRange(0, 5).Draw(t, "patient-entered") == 0
	}
	q.Custodians = q.Custodians[:rapid.IntRange(0, len(q.Custodians)).Draw(t, "custodians")]
	q.Purpose = rapid.SampledFrom(append(record.Purposes[:], "HRESCH")).Draw(t, "purpose")
	q.Permission = rapid.SampledFrom([]record.Permission{{}, {Kind: record.AskedYes}, {Kind: record.AskedNo}, {Kind: record.PatientSelf},
		{Kind: record.PermissionNotNeeded}, {Kind: record.Delegated}, {Kind: record.CannotAsk, Reason: "asleep"}, {Kind: record.CannotAsk}}).Draw(t, "permission")
	q.Relationship.Kind = rapid.SampledFrom([]record.RelationshipKind{record.RelationshipNone, record.Admission, record.SelfClaimed, "friend"}).Draw(t, "relationship")
	q.BreakGlassReason = rapid.SampledFrom([]string{"", "short", "unconscious, no next of kin"}).Draw(t, "reason")
	q.Requester.Organisation = rapid.SampledFrom([]record.ODSCode{"X9Z99", "", "X9A01", "X9C01"}).Draw(t, "organisation")
	q.Requester.Kind = rapid.SampledFrom([]record.RequesterKind{record.Professional, record.Professional, record.Person, record.System, ""}).Draw(t, "asker")
	if q.Requester.Kind == record.Person {
		q.Requester.Own = rapid.SampledFrom([]record.NHSNumber{subject, subject, somebodyElse, {}}).Draw(t, "own")
	}
	if rapid.Bool().Draw(t, "in order") { // purpose and asker that go together
		q.Purpose = rapid.SampledFrom([]record.Purpose{record.Treatment, record.UrgentCare, record.BreakGlass}).Draw(t, "care")
		if q.Requester.Kind = record.Professional; rapid.IntRange(0, 3).Draw(t, "own view") == 0 {
			q.Requester, q.Purpose = record.Requester{Kind: record.Person, Own: subject}, record.PatientAccess
			if rapid.Bool().Draw(t, "carer") {
				q.Requester.Own, q.Permission = somebodyElse, record.Permission{Kind: record.Delegated}
			}
		}
	}
	q.Subject.Standing = rapid.SampledFrom([]record.Standing{record.Live, record.Live, record.Live, record.Live, record.Deceased, record.Unknown, record.Restricted, ""}).Draw(t, "standing")
	q.Subject.Deceased = rapid.SampledFrom([]string{"2026-11-01", "2026-01-01", "true", ""}).Draw(t, "died")
	q.Subject.Supersedes = []record.NHSNumber{somebodyElse}
	q.Role.NoPermission = rapid.Bool().Draw(t, "not required")
	q.Role.Sections = map[record.Purpose]record.Sections{}
	for _, p := range record.Purposes {
		q.Role.Sections[p] = rapid.SampledFrom([]record.Sections{record.AllSections, record.AllSections, record.SectionsOf(record.Medications, record.Results), 0}).Draw(t, "role")
	}
	return q
}

// drawObjection draws any readable objection.
func drawObjection(t *rapid.T) consent.Objection {
	o := consent.Objection{
		ID:       rapid.StringMatching(`[a-z]{1,4}`).Draw(t, "id"),
		Position: rapid.Uint64Range(1, 8).Draw(t, "position"),
		Scope:    rapid.SampledFrom([]consent.Scope{consent.ToAll, consent.ToCustodian, consent.ToCustodian, consent.ToSection, consent.ToSection}).Draw(t, "scope"),
		Status:   rapid.SampledFrom([]consent.Status{consent.InForce, consent.InForce, consent.InForce, consent.Requested, consent.Declined, consent.Withdrawn}).Draw(t, "status"),
		Absolute: rapid.Bool().Draw(t, "absolute"),
	}
	switch o.Scope {
	case consent.ToCustodian:
		o.Custodian = rapid.SampledFrom([]record.CustodianKey{"gp", "acute", "mentalhealth", "gone"}).Draw(t, "custodian")
	case consent.ToSection:
		o.Section = rapid.SampledFrom(record.AllSections.List()).Draw(t, "section")
	}
	if now := newNeighbourhood().question().Now; rapid.IntRange(0, 3).Draw(t, "dated") == 0 {
		o.From = now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "from")) * time.Hour)
		o.Until = o.From.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hours")) * time.Hour)
	}
	return o
}

// drawDelegation draws any readable delegation.
func drawDelegation(t *rapid.T) consent.Delegation {
	d := consent.Delegation{
		Carer:    rapid.SampledFrom([]record.NHSNumber{somebodyElse, somebodyElse, stranger}).Draw(t, "carer"),
		Sections: rapid.SampledFrom([]record.Sections{record.AllSections, record.SectionsOf(record.Medications, record.Results)}).Draw(t, "sections"),
		Status:   rapid.SampledFrom([]consent.Status{consent.InForce, consent.InForce, consent.Withdrawn}).Draw(t, "status"),
	}
	if rapid.Bool().Draw(t, "some custodians") {
		d.Custodians = []record.CustodianKey{rapid.SampledFrom([]record.CustodianKey{"gp", "acute", "gone"}).Draw(t, "custodian")}
	}
	d.From = newNeighbourhood().question().Now.Add(time.Duration(rapid.IntRange(-2, 1).Draw(t, "from")) * time.Hour)
	d.Until = d.From.Add(time.Duration(rapid.IntRange(1, 3).Draw(t, "hours")) * time.Hour)
	return d
}

func drawPreferences(t *rapid.T) consent.Preferences {
	return consent.Preferences{Position: 8, Objections: rapid.SliceOfN(rapid.Custom(drawObjection), 0, 5).Draw(t, "objections"),
		Delegations: rapid.SliceOfN(rapid.Custom(drawDelegation), 0, 3).Draw(t, "delegations")}
}

// shown returns what a decision lets be shown, by custodian.
func shown(d consent.Decision) map[record.CustodianKey]record.Sections {
	m := map[record.CustodianKey]record.Sections{}
	p, _ := d.Permit()
	for _, c := range d.Custodians {
		m[c.Key] = p.Sections(c.Key)
	}
	return m
}

// TestAnObjectionNeverAddsAPermit: with one more objection nothing is shown that was not shown before, a request that was not
// permitted is not permitted, and a suppressed one stays suppressed (C-2).
func TestAnObjectionNeverAddsAPermit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, p := drawQuestion(t), drawPreferences(t)
		more := p
		at := rapid.IntRange(0, len(p.Objections)).Draw(t, "at")
		more.Objections = slices.Insert(slices.Clone(p.Objections), at, drawObjection(t))
		before, after := consent.Evaluate(q, p), consent.Evaluate(q, more)
		was, is := shown(before), shown(after)
		for k, s := range is {
			if added := s.Without(was[k]); added != 0 {
				t.Errorf("%s: the objection added %s", k, added)
			}
		}
		_, permittedBefore := before.Permit()
		_, permittedAfter := after.Permit()
		if permittedAfter && !permittedBefore {
			t.Errorf("got %s from %s", after.Outcome, before.Outcome)
		}
		if before.Outcome == consent.Suppressed && after.Outcome != consent.Suppressed {
			t.Errorf("got %s from suppressed", after.Outcome)
		}
	})
}

// TestTwoObjectionsAreTheStricter: what is shown under both is what is shown under each (C-1).
func TestTwoObjectionsAreTheStricter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, a, b := drawQuestion(t), drawObjection(t), drawObjection(t)
		evaluate := func(o ...consent.Objection) map[record.CustodianKey]record.Sections {
			return shown(consent.Evaluate(q, consent.Preferences{Objections: o}))
		}
		underA, underB := evaluate(a), evaluate(b)
		for k, both := range evaluate(a, b) {
			if want := underA[k] & underB[k]; both != want {
				t.Errorf("%s: got %s, want %s", k, both, want)
			}
		}
	})
}

// TestNotFindingOutNeverPermits: no question at all is permitted when the registry does not answer (C-2.1, C-8), nor when what
// it answers cannot be understood.
func TestNotFindingOutNeverPermits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, p := drawQuestion(t), drawPreferences(t)
		broken := drawObjection(t)
		switch rapid.IntRange(0, 3).Draw(t, "how") {
		case 0:
			broken.Scope = "none"
		case 1:
			broken.Status = ""
		case 2:
			broken.Scope, broken.Custodian = consent.ToCustodian, ""
		case 3:
			broken.Scope, broken.Section = consent.ToSection, record.Section(14)
		}
		unreadable := consent.Preferences{Objections: append(slices.Clone(p.Objections), broken)}
		for name, d := range map[string]consent.Decision{
			"down":       consent.Decide(context.Background(), registry{p, errors.New("down")}, q),
			"none":       consent.Decide(context.Background(), nil, q),
			"unreadable": consent.Decide(context.Background(), registry{unreadable, nil}, q),
		} {
			if _, ok := d.Permit(); ok || d.Outcome == consent.Permitted {
				t.Errorf("%s: permitted", name)
			}
			for k, s := range shown(d) {
				if s != 0 {
					t.Errorf("%s: %s shows %s", name, k, s)
				}
			}
			if d.Outcome == consent.Refused && d.Reason.Text() == "" {
				t.Errorf("%s: no reason", name)
			}
		}
	})
}

// TestPartsCoverEverySectionOnce: every custodian and section has exactly one Part, with a reason and a rule of the closed
// lists, and the sums of the parts are the whole.
func TestPartsCoverEverySectionOnce(t *testing.T) {
	rules, reasons := consent.Rules(), consent.Reasons()
	rapid.Check(t, func(t *rapid.T) {
		q := drawQuestion(t)
		d := consent.Evaluate(q, drawPreferences(t))
		if !slices.Contains(reasons, d.Reason) || !slices.Contains(rules, d.Rule) {
			t.Errorf("got reason %q, rule %q", d.Reason, d.Rule)
		}
		if len(d.Custodians) != len(q.Custodians) {
			t.Fatalf("got %d custodians, want %d", len(d.Custodians), len(q.Custodians))
		}
		permit, permitted := d.Permit()
		if permitted != (d.Outcome == consent.Permitted) {
			t.Error("the outcome and the permit disagree")
		}
		for i, c := range d.Custodians {
			if c.Key != q.Custodians[i].Custodian.Key {
				t.Errorf("custodian %d: got %s", i, c.Key)
			}
			var all, allowed record.Sections
			for _, p := range c.Parts {
				if p.Sections == 0 || all&p.Sections != 0 {
					t.Errorf("%s: sections %s twice, or none", c.Key, p.Sections)
				}
				all |= p.Sections
				if p.Allowed != (p.Outcome == consent.Permitted) {
					t.Errorf("%s: outcome %s, allowed %t", c.Key, p.Outcome, p.Allowed)
				}
				if p.Allowed {
					allowed |= p.Sections
				}
				if !slices.Contains(reasons, p.Reason) || !slices.Contains(rules, p.Rule) {
					t.Errorf("%s: got reason %q, rule %q", c.Key, p.Reason, p.Rule)
				}
				if decided := p.Reason == consent.ReasonObjection || p.Reason == consent.ReasonOverride; decided != (p.Position != 0) {
					t.Errorf("%s: reason %s, position %d", c.Key, p.Reason, p.Position)
				}
			}
			if all != record.AllSections {
				t.Errorf("%s: nothing said of %s", c.Key, record.AllSections.Without(all))
			}
			if allowed != c.Permitted || permit.Sections(c.Key) != allowed {
				t.Errorf("%s: parts allow %s, the decision %s, the permit %s", c.Key, allowed, c.Permitted, permit.Sections(c.Key))
			}
			if allowed.Without(q.Role.Sections[q.Purpose]) != 0 || allowed&q.Custodians[i].Excluded != 0 {
				t.Errorf("%s: more than the role or the custodian allows", c.Key)
			}
		}
	})
}

// TestOrderOfObjectionsDoesNotMatter: any order gives the same decision, to the letter.
func TestOrderOfObjectionsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, p := drawQuestion(t), drawPreferences(t)
		other := p
		other.Objections = rapid.Permutation(p.Objections).Draw(t, "order")
		a, b := consent.Evaluate(q, p), consent.Evaluate(q, other)
		pa, _ := a.Permit()
		pb, _ := b.Permit()
		if !reflect.DeepEqual(pa.Decision().Custodians, pb.Decision().Custodians) || !reflect.DeepEqual(a.Custodians, b.Custodians) ||
			a.Outcome != b.Outcome || a.Reason != b.Reason || a.Rule != b.Rule {
			t.Error("another order, another decision")
		}
	})
}

// TestEverySubsetOfCustodians: for each of the 2^9 sets of custodians objected to, exactly the others are shown, and whole.
func TestEverySubsetOfCustodians(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.AllSections}
	for set := range 1 << len(q.Custodians) {
		var p consent.Preferences
		for i, c := range q.Custodians {
			if set&(1<<i) != 0 {
				p.Objections = append(p.Objections, consent.Objection{Scope: consent.ToCustodian, Custodian: c.Custodian.Key, Status: consent.InForce, Position: uint64(i + 1)})
			}
		}
		d := consent.Evaluate(q, p)
		if d.Outcome != consent.Permitted {
			t.Fatalf("set %b: got %s", set, d.Outcome)
		}
		got := shown(d)
		for i, c := range q.Custodians {
			want := record.AllSections
			if set&(1<<i) != 0 {
				want = 0
			}
			if got[c.Custodian.Key] != want {
				t.Errorf("set %b: %s shows %s", set, c.Custodian.Key, got[c.Custodian.Key])
			}
		}
	}
}

// TestEverySubsetOfSections: for each of the 2^14 sets of sections objected to, exactly the others are shown.
func TestEverySubsetOfSections(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Custodians = q.Custodians[:1]
	q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.AllSections}
	for set := record.Sections(0); set <= record.AllSections; set++ {
		var p consent.Preferences
		for _, s := range set.List() {
			p.Objections = append(p.Objections, consent.Objection{Scope: consent.ToSection, Section: s, Status: consent.InForce})
		}
		permit, ok := consent.Evaluate(q, p).Permit()
		if got := permit.Sections("gp"); !ok || got != record.AllSections.Without(set) {
			t.Fatalf("objected to %s: got %s", set, got)
		}
	}
}

// TestHolds: a permit holds exactly as long as everything that it lets be shown may still be shown.
func TestHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, first, second := drawQuestion(t), drawPreferences(t), drawPreferences(t)
		d := consent.Evaluate(q, first)
		p, ok := d.Permit()
		if !ok {
			if p.Holds(consent.Preferences{}, q.Now) {
				t.Error("what was never permitted holds")
			}
			return
		}
		if !p.Holds(first, q.Now) {
			t.Error("a permit does not hold at the instant at which it was given")
		}
		now := q.Now.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "hours")) * time.Hour)
		again := p.Again(second, now)
		_, want := again.Permit()
		then := shown(again)
		for k, s := range shown(d) {
			want = want && s.Without(then[k]) == 0
		}
		if got := p.Holds(second, now); got != want {
			t.Errorf("got %t, want %t", got, want)
		}
		later := q
		if now.After(q.Now) {
			later.Now = now
		}
		if direct := consent.Evaluate(later, second); direct.Outcome != again.Outcome || !reflect.DeepEqual(direct.Custodians, again.Custodians) {
			t.Error("Again says other than Evaluate")
		}
	})
}

// TestHoldsOfEach: an objection to one custodian, the first or the last, or to one section of what is shown ends a permit, and one that takes nothing from it does not.
func TestHoldsOfEach(t *testing.T) {
	q := newNeighbourhood().question()
	q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.SectionsOf(record.Results)}
	p, ok := consent.Evaluate(q, consent.Preferences{}).Permit()
	if !ok {
		t.Fatal("not permitted")
	}
	first, last := q.Custodians[0].Custodian.Key, q.Custodians[len(q.Custodians)-1].Custodian.Key
	if p.Sections(first) == 0 || p.Sections(last) == 0 {
		t.Fatal("the first and the last show nothing, so nothing can be taken from them")
	}
	for name, c := range map[string]struct {
		consent.Objection
		holds bool
	}{
		"the first":           {consent.Objection{Scope: consent.ToCustodian, Custodian: first, Status: consent.InForce}, false},
		"the last":            {consent.Objection{Scope: consent.ToCustodian, Custodian: last, Status: consent.InForce}, false},
		"nobody that is here": {consent.Objection{Scope: consent.ToCustodian, Custodian: "nobody", Status: consent.InForce}, true},
		"the section":         {consent.Objection{Scope: consent.ToSection, Section: record.Results, Status: consent.InForce}, false},
		"another section":     {consent.Objection{Scope: consent.ToSection, Section: record.Medications, Status: consent.InForce}, true},
		"one withdrawn":       {consent.Objection{Scope: consent.ToCustodian, Custodian: first, Status: consent.Withdrawn}, true},
		"everything":          {consent.Objection{Scope: consent.ToAll, Status: consent.InForce}, false},
	} {
		if got := p.Holds(consent.Preferences{Objections: []consent.Objection{c.Objection}}, q.Now); got != c.holds {
			t.Errorf("%s: holds %t, want %t", name, got, c.holds)
		}
	}
}

// TestPermitIsItsOwn: whoever changes a decision, or the question that it came from, changes no permit; and there is no other
// way to one.
func TestPermitIsItsOwn(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Subject.Supersedes = []record.NHSNumber{somebodyElse, somebodyElse, subject, {}}
	q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.SectionsOf(record.Results)}
	prefs := consent.Preferences{Position: 7}
	d := consent.Evaluate(q, prefs)
	p, ok := d.Permit()
	if !ok || !p.Valid() || p.Position() != 7 || p.BreaksGlass() {
		t.Fatalf("got %t, position %d, want a permit that rests on position 7", ok, p.Position())
	}
	if got := p.Numbers(); !slices.Equal(got, []record.NHSNumber{subject, somebodyElse}) {
		t.Errorf("got %d numbers, want the subject's and the one that it supersedes, each once", len(got))
	}

	want := record.SectionsOf(record.Results)
	q.Custodians[0].Excluded = record.AllSections
	q.Role.Sections[record.Treatment] = record.AllSections
	clear(q.Subject.Supersedes)
	d.Custodians[0].Permitted = record.AllSections
	d.Custodians[0].Parts[0].Sections = 0
	out := p.Decision()
	out.Custodians[1].Permitted = record.AllSections
	out.Custodians[1].Parts[0].Allowed = false
	if p.Sections("gp") != want || p.Sections("acute") != want || len(p.Numbers()) != 2 {
		t.Error("a change from outside reached the permit")
	}
	if again := p.Again(prefs, q.Now); again.Custodians[0].Permitted != want {
		t.Errorf("got %s when asked again, want %s", again.Custodians[0].Permitted, want)
	}
	if fresh, ok := p.Decision().Permit(); !ok || fresh != p || !p.Decision().Custodians[1].Parts[slices.IndexFunc(p.Decision().Custodians[1].Parts,
		func(x consent.Part) bool { return x.Sections == want })].Allowed {
		t.Error("the decision of a permit is not the one that gave it")
	}
	if p.Sections("nobody") != 0 {
		t.Error("an unknown custodian may show something")
	}
	if own := p.Decision().Custodians[0].Parts[0]; own.Sections == 0 {
		t.Error("a change of a decision's part reached the permit")
	}

	d.Outcome = consent.Refused
	if _, ok := d.Permit(); ok {
		t.Error("a decision that was made a refusal still permits")
	}

	forged := []consent.Decision{{}, {Outcome: consent.Permitted, Reason: consent.ReasonPermitted, Rule: consent.RulePermit}}
	var read consent.Decision
	if err := json.Unmarshal([]byte(`{"Outcome":"permit","permit":{"question":{},"decision":{}},"Custodians":[{"Key":"gp","Permitted":16383}]}`), &read); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(forged, read) {
		if _, ok := f.Permit(); ok {
			t.Error("a permit was made outside the package")
		}
	}
	var zero consent.Permit
	if zero.Valid() || zero.Sections("gp") != 0 || zero.Numbers() != nil || zero.Position() != 0 || zero.BreaksGlass() ||
		zero.Holds(prefs, q.Now) || zero.Again(prefs, q.Now).Outcome != consent.Refused || zero.Decision().Outcome != "" {
		t.Error("the zero permit is good for something")
	}
}

// TestUndecidableQuestions: a question that leaves open whose record, whose custodian or when is refused.
func TestUndecidableQuestions(t *testing.T) {
	good := func() consent.Question {
		n := newNeighbourhood()
		q := n.question()
		q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
		q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.AllSections}
		return q
	}
	if consent.Evaluate(good(), consent.Preferences{}).Outcome != consent.Permitted {
		t.Fatal("the question that the others are made from is not permitted")
	}
	for name, spoil := range map[string]func(*consent.Question){
		"no time":               func(q *consent.Question) { q.Now = time.Time{} },
		"no number":             func(q *consent.Question) { q.Subject.Number = record.NHSNumber{} },
		"no custodians":         func(q *consent.Question) { q.Custodians = nil },
		"two with one key":      func(q *consent.Question) { q.Custodians[3].Custodian.Key = q.Custodians[1].Custodian.Key },
		"custodian without key": func(q *consent.Question) { q.Custodians[3].Custodian.Key = "" },
		"died, but no window": func(q *consent.Question) {
			q.Subject.Standing, q.Subject.Deceased, q.DeceasedWindow = record.Deceased, "2026-11-02", 0
			q.Now = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
		},
		"sections of no section": func(q *consent.Question) { q.Role.Sections[record.Treatment] = 1 << 15 },
	} {
		q := good()
		spoil(&q)
		if d := consent.Decide(context.Background(), registry{}, q); d.Outcome == consent.Permitted {
			t.Errorf("%s: permitted", name)
		}
	}
}

// TestNobodyIsNotEverybody: a person whose token names no number owns no record, not even that of nobody.
func TestNobodyIsNotEverybody(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Requester, q.Purpose = record.Requester{Kind: record.Person}, record.PatientAccess
	q.Subject = record.Subject{Standing: record.Unknown}
	if d := consent.Evaluate(q, consent.Preferences{}); d.Reason != consent.ReasonNotOwn {
		t.Errorf("got %s", d.Reason)
	}
}

// TestAPersonHasNoOrganisation: whatever a person's token says of an organisation, its record is not their own (C-2.6).
func TestAPersonHasNoOrganisation(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Requester = record.Requester{Kind: record.Person, Own: subject, Organisation: q.Custodians[0].Custodian.ODS}
	q.Purpose, q.Permission.Kind = record.PatientAccess, record.PatientSelf
	q.Role.Sections = map[record.Purpose]record.Sections{record.PatientAccess: record.AllSections}
	p := consent.Preferences{Objections: []consent.Objection{{Scope: consent.ToAll, Status: consent.InForce, Absolute: true}}}
	if d := consent.Evaluate(q, p); d.Outcome != consent.Suppressed {
		t.Errorf("got %s for %s", d.Outcome, d.Reason)
	}
}

// TestTheOlderObjectionDecides: of two that say the same the one recorded first is named, whatever their ids and order.
func TestTheOlderObjectionDecides(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Purpose = record.Treatment
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.AllSections}
	p := consent.Preferences{Objections: []consent.Objection{
		{ID: "a", Position: 5, Scope: consent.ToAll, Status: consent.InForce}, {ID: "b", Position: 4, Scope: consent.ToAll, Status: consent.InForce}}}
	if got := consent.Evaluate(q, p).Custodians[0].Parts[0].Position; got != 4 {
		t.Errorf("got position %d, want 4", got)
	}
}

// TestAClockThatStepsBackReopensNothing: an objection that bound when the permit was asked for binds at its release.
func TestAClockThatStepsBackReopensNothing(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.AllSections}
	permit, _ := consent.Evaluate(q, consent.Preferences{}).Permit()
	p := consent.Preferences{Objections: []consent.Objection{{Scope: consent.ToAll, Status: consent.InForce, From: q.Now}}}
	for _, step := range []time.Duration{-time.Hour, 0, time.Hour} {
		if permit.Holds(p, q.Now.Add(step)) {
			t.Errorf("the permit holds %v after it was asked for", step)
		}
	}
	p.Objections[0].From = q.Now.Add(time.Minute)
	if !permit.Holds(p, q.Now) || permit.Holds(p, q.Now.Add(time.Minute)) {
		t.Error("the objection does not bind from its first instant")
	}
}

// asked remembers which numbers a registry was asked for.
type asked struct{ numbers []record.NHSNumber }

func (a *asked) Preferences(_ context.Context, numbers []record.NHSNumber) (consent.Preferences, error) {
	a.numbers = numbers
	return consent.Preferences{Position: 3}, nil
}

// TestDecideAsksUnderEveryNumber: objections are looked up under the number and every number that it supersedes.
func TestDecideAsksUnderEveryNumber(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Subject.Supersedes = []record.NHSNumber{somebodyElse}
	var a asked
	if d := consent.Decide(context.Background(), &a, q); d.Position != 3 {
		t.Errorf("got position %d, want 3", d.Position)
	}
	if !slices.Equal(a.numbers, []record.NHSNumber{subject, somebodyElse}) {
		t.Errorf("got %d numbers, want both", len(a.numbers))
	}
}

func BenchmarkEvaluate(b *testing.B) {
	n := newNeighbourhood()
	q := n.question()
	q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.AllSections}
	p := consent.Preferences{Objections: []consent.Objection{{Scope: consent.ToSection, Section: record.MentalHealth, Status: consent.InForce}}}
	for b.Loop() {
		consent.Evaluate(q, p)
	}
}

// TestGarbledPreferences: an objection or a delegation that does not say what it must might be any, so nothing is permitted on it, whoever asks.
func TestGarbledPreferences(t *testing.T) {
	good := consent.Delegation{Carer: somebodyElse, Sections: record.AllSections, Status: consent.InForce, From: noon, Until: noon.Add(time.Hour)}
	garbled := map[string]consent.Preferences{}
	for name, o := range map[string]consent.Objection{
		"no scope":                 {Status: consent.InForce},
		"a scope of tomorrow":      {Scope: "person", Status: consent.InForce},
		"no status":                {Scope: consent.ToAll},
		"a status of tomorrow":     {Scope: consent.ToAll, Status: "pending"},
		"no custodian":             {Scope: consent.ToCustodian, Status: consent.Withdrawn},
		"a custodian that is none": {Scope: consent.ToCustodian, Custodian: "G P", Status: consent.InForce},
		"a section of tomorrow":    {Scope: consent.ToSection, Section: 14, Status: consent.InForce},
	} {
		garbled[name] = consent.Preferences{Objections: []consent.Objection{o}}
	}
	for name, change := range map[string]func(*consent.Delegation){
		"to nobody":                   func(d *consent.Delegation) { d.Carer = record.NHSNumber{} },
		"of nothing":                  func(d *consent.Delegation) { d.Sections = 0 },
		"of a section of tomorrow":    func(d *consent.Delegation) { d.Sections = record.AllSections | 1<<14 },
		"delegated without a status":  func(d *consent.Delegation) { d.Status = "" },
		"only requested":              func(d *consent.Delegation) { d.Status = consent.Requested },
		"without a start":             func(d *consent.Delegation) { d.From = time.Time{} },
		"without an end":              func(d *consent.Delegation) { d.Until = time.Time{} },
		"over before it begins":       func(d *consent.Delegation) { d.Until = d.From },
		"of a custodian that is none": func(d *consent.Delegation) { d.Custodians = []record.CustodianKey{"gp", "G P"} },
	} {
		d := good
		change(&d)
		garbled["delegation "+name] = consent.Preferences{Delegations: []consent.Delegation{good, d}}
	}
	for name, prefs := range garbled {
		for _, s := range plainSituations() {
			q, _ := build(s)
			if d := consent.Evaluate(q, prefs); d.Outcome != consent.Refused || d.Reason != consent.ReasonCannotKnow || d.Rule != consent.RuleCannotKnow {
				t.Errorf("%s, %s: got %s %s", name, s.asker, d.Outcome, d.Reason)
			}
		}
	}
	ended := good
	ended.Status = consent.Withdrawn
	for _, s := range plainSituations() { // what is well written, and ended, is no fault
		q, r := build(s)
		r.preferences.Delegations = append(r.preferences.Delegations, ended)
		if d := consent.Evaluate(q, r.preferences); d.Reason == consent.ReasonCannotKnow {
			t.Errorf("%s: an ended delegation: got %s", s.asker, d.Reason)
		}
	}
}

// TestNotFindingOutSaysSo: whatever cannot be found out is a refusal by C-2.1, and by that reason.
func TestNotFindingOutSaysSo(t *testing.T) {
	plain := plainSituations()[0]
	q, r := build(plain)
	nameless := q
	nameless.Subject.Number = record.NHSNumber{}
	for what, d := range map[string]consent.Decision{
		"no registry":                 consent.Decide(context.Background(), nil, q),
		"a registry that is down":     consent.Decide(context.Background(), registry{err: errors.New("down")}, q),
		"somebody without a number":   consent.Decide(context.Background(), r, nameless),
		"a permit that is none":       consent.Permit{}.Again(consent.Preferences{}, noon),
		"a question without a time":   consent.Evaluate(func() consent.Question { x := q; x.Now = time.Time{}; return x }(), r.preferences),
		"a question about no record":  consent.Evaluate(func() consent.Question { x := q; x.Custodians = nil; return x }(), r.preferences),
		"the same custodian twice":    consent.Evaluate(func() consent.Question { x := q; x.Custodians = append(x.Custodians, x.Custodians[0]); return x }(), r.preferences),
		"a custodian that has no key": consent.Evaluate(func() consent.Question { x := q; x.Custodians = make([]consent.CustodianRules, 1); return x }(), r.preferences),
	} {
		if d.Outcome != consent.Refused || d.Reason != consent.ReasonCannotKnow || d.Rule != consent.RuleCannotKnow {
			t.Errorf("%s: got %s %s %s", what, d.Outcome, d.Reason, d.Rule)
		}
	}
}

// TestOnlyPersonsAreThemselves: a number in a token makes nobody the person, nor their carer, who is not there as a person.
func TestOnlyPersonsAreThemselves(t *testing.T) {
	q, _ := build(plainSituations()[0])
	prefs := consent.Preferences{Objections: []consent.Objection{{Scope: consent.ToAll, Status: consent.InForce, Position: 7}},
		Delegations: []consent.Delegation{{Carer: somebodyElse, Sections: record.AllSections, Status: consent.InForce, From: noon, Until: noon.Add(time.Hour)}}}
	for _, own := range []record.NHSNumber{subject, somebodyElse} {
		q.Requester.Own = own
		if d := consent.Evaluate(q, prefs); d.Outcome != consent.Suppressed {
			t.Errorf("a professional with a number sees over an objection: %s %s", d.Outcome, d.Reason)
		}
		if d := consent.Evaluate(q, consent.Preferences{Delegations: prefs.Delegations}); d.Outcome != consent.Permitted || d.Reason != consent.ReasonPermitted {
			t.Errorf("a professional with a number is asked for a person's permission: %s %s", d.Outcome, d.Reason)
		}
	}
}

// TestTheDayOfAPermissionIsADay: what is no day is no permission, however it sorts.
func TestTheDayOfAPermissionIsADay(t *testing.T) {
	q, r := build(plainSituations()[0])
	for _, day := range []string{"", "2026", "2026-11", "2026-11-1", "2026-02-30", "0"} {
		q.Permission = record.Permission{Kind: record.AskedEarlier, On: day}
		if d := consent.Evaluate(q, r.preferences); d.Reason != consent.ReasonPermission {
			t.Errorf("%q: got %s", day, d.Reason)
		}
	}
}

// TestTheWindowAfterDeathIsExact: it holds to its last instant, be it as short as can be, and there is none of no length.
func TestTheWindowAfterDeathIsExact(t *testing.T) {
	died := record.Subject{Number: subject, Standing: record.Deceased, Deceased: "2026-11-02T12:00:00Z"}
	for _, c := range []struct {
		window, after time.Duration
		neutral       bool
	}{{1, 0, false}, {1, 1, false}, {1, 2, true}, {0, 0, true}, {-1, 0, true}, {time.Hour, time.Hour, false}, {time.Hour, time.Hour + 1, true}, {time.Hour, -1, true}} {
		if _, neutral := consent.NeutralClass(died, c.window, noon.Add(c.after)); neutral != c.neutral {
			t.Errorf("window %d, %d after: neutral %v, want %v", c.window, c.after, neutral, c.neutral)
		}
	}
}

// TestTheFirstChoiceIsNamed: where several choices say the same of the whole, it is the one about the custodian that comes first.
func TestTheFirstChoiceIsNamed(t *testing.T) {
	s := plainSituations()[1]
	s.objection = "none"
	q, _ := build(s)
	q.Custodians[1].EmergencyOverride = true
	d := consent.Evaluate(q, consent.Preferences{Objections: []consent.Objection{{Scope: consent.ToCustodian, Custodian: "there", Status: consent.InForce, Position: 5},
		{Scope: consent.ToCustodian, Custodian: "here", Status: consent.InForce, Position: 8}}})
	if d.Reason != consent.ReasonOverride || d.Preference != 8 {
		t.Errorf("got %s by %d, want %s by 8", d.Reason, d.Preference, consent.ReasonOverride)
	}
	// An objection to everything says nothing of a section, whatever stands there.
	wide := consent.Preferences{Objections: []consent.Objection{{Scope: consent.ToAll, Section: 14, Status: consent.InForce, Position: 5}}}
	if d := consent.Evaluate(q, wide); d.Reason == consent.ReasonCannotKnow {
		t.Error("an objection to all sharing is not read because of a section that it does not name")
	}
}

// TestBreakGlassKeepsObjections: break-glass shows nothing that an objection in force covers, but where the custodian's own rule says so; and there it shows
// no more than would be shown without the objection (C-3).
func TestBreakGlassKeepsObjections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, p := drawQuestion(t), drawPreferences(t)
		q.Purpose, q.BreakGlassReason = record.BreakGlass, "unconscious, no next of kin"
		free := shown(consent.Evaluate(q, consent.Preferences{}))
		got := shown(consent.Evaluate(q, p))
		for _, c := range q.Custodians {
			k := c.Custodian.Key
			if more := got[k].Without(free[k]); more != 0 {
				t.Errorf("%s: objections add %s", k, more)
			}
			if c.EmergencyOverride || q.Requester.Organisation == c.Custodian.ODS {
				continue
			}
			for _, o := range p.Objections {
				if !o.Binds(q.Now) || o.Scope == consent.ToCustodian && o.Custodian != k {
					continue
				}
				covered := record.AllSections
				if o.Scope == consent.ToSection {
					covered = record.SectionsOf(o.Section)
				}
				if over := got[k] & covered; over != 0 {
					t.Errorf("%s: %s is shown over an objection", k, over)
				}
			}
		}
	})
}

// TestACarerSeesLessThanThePerson: whatever a carer sees, the person sees too; without one of the delegations the carer sees no more; and what is seen is
// within what was delegated (C-6).
func TestACarerSeesLessThanThePerson(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, p := drawQuestion(t), drawPreferences(t)
		q.Purpose = record.PatientAccess
		own := q
		own.Requester, own.Permission = record.Requester{Kind: record.Person, Own: subject}, record.Permission{Kind: record.PatientSelf}
		q.Requester, q.Permission = record.Requester{Kind: record.Person, Own: somebodyElse}, record.Permission{Kind: record.Delegated}
		carer, person := shown(consent.Evaluate(q, p)), shown(consent.Evaluate(own, p))
		for k, s := range carer {
			if more := s.Without(person[k]); more != 0 {
				t.Errorf("%s: the carer sees %s, the person does not", k, more)
			}
			var lets record.Sections
			for _, d := range p.Delegations {
				if d.Carer == somebodyElse && d.Status == consent.InForce && !d.From.After(q.Now) && d.Until.After(q.Now) && (len(d.Custodians) == 0 || slices.Contains(d.Custodians, k)) {
					lets |= d.Sections
				}
			}
			if more := s.Without(lets); more != 0 {
				t.Errorf("%s: the carer sees %s, which nobody let them see", k, more)
			}
		}
		if len(p.Delegations) > 0 {
			fewer := p
			fewer.Delegations = p.Delegations[1:]
			for k, s := range shown(consent.Evaluate(q, fewer)) {
				if more := s.Without(carer[k]); more != 0 {
					t.Errorf("%s: with a delegation less the carer sees %s more", k, more)
				}
			}
		}
	})
}
