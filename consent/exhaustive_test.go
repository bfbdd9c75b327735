package consent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// dimensions are the words of every input of a decision. Their cross product is every situation.
var dimensions = []struct {
	of    func(*situation) *string
	words []string
}{
	{func(s *situation) *string { return &s.registry }, []string{"answers", "is down", "is garbled"}},
	{func(s *situation) *string { return &s.standing }, []string{"live", "died lately", "died long ago", "died on a day that nobody knows", "unknown", "superseded",
		"invalidated", "restricted", "not traced", "a word of tomorrow"}},
	{func(s *situation) *string { return &s.asker }, []string{"elsewhere", "here", "homeless", "the person", "carer", "carer of one section", "carer of there",
		"two carers in one", "carer whose time is over", "former carer", "somebody else's carer", "a person without a number", "system", "nobody"}},
	{func(s *situation) *string { return &s.purpose }, []string{"TREAT", "ETREAT", "BTG", "PATRQT", "HRESCH"}},
	{func(s *situation) *string { return &s.role }, []string{"everything", "nothing", "without results", "results only"}},
	{func(s *situation) *string { return &s.excluded }, []string{"nothing", "results"}},
	{func(s *situation) *string { return &s.entered }, []string{"no", "yes"}},
	{func(s *situation) *string { return &s.objection }, []string{"none", "to all", "to here", "to there", "to results", "to all, absolute", "to results, absolute",
		"to all, only requested", "to all, declined", "to all, withdrawn", "to all, over", "to all, not begun", "to all, from just now", "to all, until just after",
		"to somebody who is not here"}},
	{func(s *situation) *string { return &s.overrides }, []string{"no", "yes"}},
	{func(s *situation) *string { return &s.permission }, []string{"none", "asked-yes", "asked-earlier today", "asked-earlier tomorrow", "implied-by-referral with its reference",
		"implied-by-referral without", "cannot-ask with a reason", "cannot-ask without", "best-interests with a reason", "best-interests without", "not-required",
		"not-required where it is not", "asked-no", "patient-self", "delegated", "a word of tomorrow"}},
	{func(s *situation) *string { return &s.relationship }, []string{"none", "admission", "self-claimed", "a word of tomorrow"}},
	{func(s *situation) *string { return &s.reason }, []string{"none", "short", "enough"}},
}

func situations() int {
	n := 1
	for _, d := range dimensions {
		n *= len(d.words)
	}
	return n
}

// at returns the i-th situation.
func at(i int) (s situation) {
	for _, d := range dimensions {
		*d.of(&s) = d.words[i%len(d.words)]
		i /= len(d.words)
	}
	return s
}

var (
	noon     = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	garbled  = consent.Objection{ID: "g", Scope: "everything", Status: consent.InForce}
	standing = map[string]record.Subject{"live": {Standing: record.Live}, "died lately": {Standing: record.Deceased, Deceased: "2026-10-20"},
		"died long ago": {Standing: record.Deceased, Deceased: "2026-10-01"}, "died on a day that nobody knows": {Standing: record.Deceased, Deceased: "true"},
		"unknown": {Standing: record.Unknown}, "superseded": {Standing: record.Superseded}, "invalidated": {Standing: record.Invalidated},
		"restricted": {Standing: record.Restricted}, "not traced": {}, "a word of tomorrow": {Standing: "hibernating"}}
	permissions = map[string]record.Permission{"none": {}, "asked-yes": {Kind: record.AskedYes}, "asked-earlier today": {Kind: record.AskedEarlier, On: "2026-11-02"},
		"asked-earlier tomorrow": {Kind: record.AskedEarlier, On: "2026-11-03"}, "implied-by-referral with its reference": {Kind: record.ImpliedByReferral, Ref: "ref-1"},
		"implied-by-referral without": {Kind: record.ImpliedByReferral, Ref: " "}, "cannot-ask with a reason": {Kind: record.CannotAsk, Reason: "asleep"},
		"cannot-ask without": {Kind: record.CannotAsk}, "best-interests with a reason": {Kind: record.BestInterests, Reason: "lacks capacity"},
		"best-interests without": {Kind: record.BestInterests, Reason: " "}, "not-required": {Kind: record.PermissionNotNeeded}, "not-required where it is not": {Kind: record.PermissionNotNeeded},
		"asked-no": {Kind: record.AskedNo}, "patient-self": {Kind: record.PatientSelf}, "delegated": {Kind: record.Delegated}, "a word of tomorrow": {Kind: "nodded"}}
	relationships = map[string]record.RelationshipKind{"none": record.RelationshipNone, "admission": record.Admission, "self-claimed": record.SelfClaimed, "a word of tomorrow": "cousin"}
	reasons       = map[string]string{"none": "", "short": "  9 letters   ", "enough": "10 letters"}
	objections    = map[string]consent.Objection{
		"to all": {Scope: consent.ToAll}, "to here": {Scope: consent.ToCustodian, Custodian: "here"}, "to there": {Scope: consent.ToCustodian, Custodian: "there"},
		"to results": {Scope: consent.ToSection, Section: record.Results}, "to all, absolute": {Scope: consent.ToAll, Absolute: true},
		"to results, absolute":   {Scope: consent.ToSection, Section: record.Results, Absolute: true},
		"to all, only requested": {Scope: consent.ToAll, Status: consent.Requested}, "to all, declined": {Scope: consent.ToAll, Status: consent.Declined},
		"to all, withdrawn": {Scope: consent.ToAll, Status: consent.Withdrawn}, "to all, over": {Scope: consent.ToAll, Until: noon},
		"to all, not begun": {Scope: consent.ToAll, From: noon.Add(time.Microsecond)}, "to all, from just now": {Scope: consent.ToAll, From: noon},
		"to all, until just after":    {Scope: consent.ToAll, Until: noon.Add(time.Microsecond)},
		"to somebody who is not here": {Scope: consent.ToCustodian, Custodian: "gone"}}
	roles = map[string]record.Sections{"everything": record.AllSections, "nothing": 0, "without results": record.AllSections.Without(record.SectionsOf(record.Results)),
		"results only": record.SectionsOf(record.Results)}
)

// rightsOf is what each role may see for each purpose.
var rightsOf = func() map[[2]string]map[record.Purpose]record.Sections {
	out := map[[2]string]map[record.Purpose]record.Sections{}
	for _, purpose := range []string{"TREAT", "ETREAT", "BTG", "PATRQT", "HRESCH"} {
		for role, sections := range roles {
			out[[2]string{purpose, role}] = map[record.Purpose]record.Sections{record.Purpose(purpose): sections}
		}
	}
	return out
}()

// delegated is what the person wrote for each sort of carer.
var delegated = func() map[string][]consent.Delegation {
	d := consent.Delegation{ID: "d", Carer: somebodyElse, Sections: record.AllSections, Status: consent.InForce, From: noon, Until: noon.Add(time.Microsecond), Position: 3}
	one, of, over, former, other := d, d, d, d, d
	one.Sections, of.Custodians = record.SectionsOf(record.Results), []record.CustodianKey{"elsewhere", "there"}
	over.From, over.Until, former.Status, other.Carer = noon.Add(-time.Hour), noon, consent.Withdrawn, stranger
	return map[string][]consent.Delegation{"carer": {d}, "carer of one section": {one}, "carer of there": {of}, "two carers in one": {of, one},
		"carer whose time is over": {over}, "former carer": {former}, "somebody else's carer": {other}}
}()

// build puts a situation into the words of the code: the other half of what the oracle is independent of.
func build(s situation) (consent.Question, registry) {
	subjectNow := standing[s.standing]
	subjectNow.Number = subject
	q := consent.Question{Subject: subjectNow, Purpose: record.Purpose(s.purpose), Permission: permissions[s.permission],
		Relationship: record.Relationship{Kind: relationships[s.relationship]}, BreakGlassReason: reasons[s.reason], DeceasedWindow: 28 * 24 * time.Hour, Now: noon,
		Role: consent.Role{Name: "test", Sections: rightsOf[[2]string{s.purpose, s.role}], NoPermission: s.permission == "not-required where it is not"},
		Custodians: []consent.CustodianRules{{Custodian: record.Custodian{Key: "here", ODS: "X9A01"}, EmergencyOverride: s.overrides == "yes"},
			{Custodian: record.Custodian{Key: "there", ODS: "X9B01"}}}}
	if s.excluded == "results" {
		q.Custodians[0].Excluded = record.SectionsOf(record.Results)
	}
	q.Custodians[0].PatientEntered = s.entered == "yes"
	var delegations []consent.Delegation
	switch s.asker {
	case "homeless":
		q.Requester = record.Requester{Kind: record.Professional, User: "1"}
	case "elsewhere":
		q.Requester = record.Requester{Kind: record.Professional, User: "1", Organisation: "X9Z99"}
	case "here":
		q.Requester = record.Requester{Kind: record.Professional, User: "1", Organisation: "X9A01"}
	case "the person":
		q.Requester = record.Requester{Kind: record.Person, Own: subject}
	case "a person without a number":
		q.Requester = record.Requester{Kind: record.Person}
	case "system":
		q.Requester = record.Requester{Kind: record.System}
	case "nobody":
	default:
		q.Requester = record.Requester{Kind: record.Person, Own: somebodyElse}
		delegations = delegated[s.asker]
	}
	r := registry{preferences: consent.Preferences{Position: 9, Delegations: delegations}}
	if o, some := objections[s.objection]; some {
		o.ID, o.Position = "o", 7
		if o.Status == "" {
			o.Status = consent.InForce
		}
		r.preferences.Objections = append(r.preferences.Objections, o)
	}
	switch s.registry {
	case "is down":
		r.err = errors.New("down")
	case "is garbled":
		r.preferences.Objections = append(r.preferences.Objections, garbled)
	}
	return q, r
}

// differs compares a decision with what the oracle says, "" for no difference.
func differs(s situation, d consent.Decision, want told) string {
	permit, ok := d.Permit()
	whole := answer{string(d.Outcome), string(d.Reason), d.Rule}
	if whole != want.whole || ok != (want.whole.outcome == "permit") || permit.BreaksGlass() != want.alert {
		return fmt.Sprintf("whole: got %v (alert %v), want %v (alert %v)", whole, permit.BreaksGlass(), want.whole, want.alert)
	}
	version := uint64(9)
	if s.registry == "is down" {
		version = 0
	}
	if d.Position != version {
		return fmt.Sprintf("it rests on version %d, want %d", d.Position, version)
	}
	if want.part == nil { // every part is as the whole
		for _, c := range d.Custodians {
			if len(c.Parts) != 1 || c.Parts[0].Sections != everything || permit.Sections(c.Key) != 0 || c.Parts[0].Position != 0 ||
				(answer{string(c.Parts[0].Outcome), string(c.Parts[0].Reason), c.Parts[0].Rule}) != want.whole {
				return fmt.Sprintf("%s: got %+v, want all of it as the whole: %v", c.Key, c.Parts, want.whole)
			}
		}
		return ""
	}
	for _, c := range d.Custodians {
		for _, part := range c.Parts {
			outcome := string(part.Outcome)
			if part.Outcome == consent.Suppressed {
				outcome = "withheld"
			}
			for _, section := range part.Sections.List() {
				wanted := want.part[string(c.Key)][section]
				if got := (answer{outcome, string(part.Reason), part.Rule}); got != wanted {
					return fmt.Sprintf("%s, %s: got %v, want %v", c.Key, section, got, wanted)
				}
				if by := want.by[string(c.Key)].Has(section); (part.Position == 7) != by || !by && part.Position != 0 {
					return fmt.Sprintf("%s, %s: decided by %d", c.Key, section, part.Position)
				}
				if may := permit.Sections(c.Key).Has(section); may != (wanted.outcome == "permit" && ok) {
					return fmt.Sprintf("%s, %s: the permit lets it be shown: %v", c.Key, section, may)
				}
			}
		}
	}
	return ""
}

// long reports whether there is an hour.
func long() bool { return os.Getenv("MCR_TORTURE") == "long" }

// sampled returns how many of a sample are tried: fewer under a mutant, of which there are hundreds.
func sampled(usual, underMutant int) int {
	if os.Getenv("CONSENT_MUTANT") != "" {
		return underMutant
	}
	return usual
}

const seed = 20261129

// TestEverySituation asks about every situation there is, and holds each answer against the oracle's. That is for when there is time; every day it takes
// every word of every input by itself and in pairs, and a sample of the rest.
func TestEverySituation(t *testing.T) {
	n, wrong, tried := situations(), 0, 0
	try := func(s situation) {
		tried++
		q, r := build(s)
		if text := differs(s, consent.Decide(context.Background(), r, q), consult(s)); text != "" {
			if wrong++; wrong <= 10 {
				t.Errorf("%+v:\n\t%s", s, text)
			}
		}
	}
	more := "every one of them"
	if long() {
		tried, wrong = everySituation(t, n)
	} else {
		more = fmt.Sprintf("of %d: all pairs around 4 plain situations, and a sample", n)
		for _, plain := range plainSituations() {
			for i, one := range dimensions {
				for _, word := range one.words {
					for _, other := range dimensions[i+1:] {
						for _, second := range other.words {
							s := plain
							*one.of(&s), *other.of(&s) = word, second
							try(s)
						}
					}
				}
			}
		}
		random := rand.New(rand.NewPCG(seed, 1))
		for range sampled(60_000, 3000) {
			try(at(random.IntN(n)))
		}
	}
	figure.Report(t, figure.Figure{Name: "decisions that differ from the oracle's", Seen: wrong, Of: tried, What: "situations", Seed: seed, More: more})
}

// everySituation asks about all of them, on all processors.
func everySituation(t *testing.T, n int) (tried, wrong int) {
	workers := runtime.GOMAXPROCS(0)
	var all, bad atomic.Int64
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			done := 0
			for i := w; i < n; i += workers {
				s := at(i)
				q, r := build(s)
				if text := differs(s, consent.Decide(context.Background(), r, q), consult(s)); text != "" && bad.Add(1) <= 10 {
					t.Errorf("%+v:\n\t%s", s, text)
				}
				if done++; w == 0 && done%(n/workers/20) == 0 {
					t.Logf("a twentieth more: %d of %d", done*workers, n)
				}
			}
			all.Add(int64(done))
		})
	}
	wait.Wait()
	return int(all.Load()), int(bad.Load())
}

// plainSituations are permitted by themselves: there every other input can make a difference.
func plainSituations() []situation {
	plain := situation{registry: "answers", standing: "live", asker: "elsewhere", purpose: "TREAT", role: "everything", excluded: "nothing", entered: "no", objection: "none",
		overrides: "no", permission: "asked-yes", relationship: "admission", reason: "enough"}
	broken, own, carer := plain, plain, plain
	broken.purpose, broken.permission, broken.relationship, broken.objection, broken.overrides = "BTG", "none", "none", "to results", "yes"
	own.asker, own.purpose, own.permission, own.objection = "the person", "PATRQT", "patient-self", "to all"
	carer.asker, carer.purpose, carer.permission = "carer", "PATRQT", "delegated"
	return []situation{plain, broken, own, carer}
}

// TestObjectionSubsets: of the 2^16 sets of objections to six custodians and ten sections, what is shown is what no objection covers; by break-glass too, but
// where a custodian's policy says otherwise; in the person's own view everything. Every day a sample with a fixed seed, all of them when there is time.
func TestObjectionSubsets(t *testing.T) {
	n := newNeighbourhood()
	custodians := n.custodians[:6]
	sectionsOf := record.AllSections.List()[1:11]
	random := rand.New(rand.NewPCG(seed, 2))
	order, tried, wrong := random.Perm(1<<16), 0, 0
	if !long() {
		order = append(order[:sampled(3000, 200)], 0, 1<<16-1)
	}
	for _, set := range order {
		var p consent.Preferences
		closed := map[record.CustodianKey]bool{}
		for i, c := range custodians {
			if set&(1<<i) != 0 {
				p.Objections = append(p.Objections, consent.Objection{Scope: consent.ToCustodian, Custodian: c.Custodian.Key, Status: consent.InForce, Position: uint64(i + 1)})
				closed[c.Custodian.Key] = true
			}
		}
		hidden := record.Sections(0)
		for i, s := range sectionsOf {
			if set&(1<<(6+i)) != 0 {
				p.Objections = append(p.Objections, consent.Objection{Scope: consent.ToSection, Section: s, Status: consent.InForce, Position: uint64(i + 7)})
				hidden = hidden.With(s)
			}
		}
		random.Shuffle(len(p.Objections), func(i, j int) { p.Objections[i], p.Objections[j] = p.Objections[j], p.Objections[i] })
		p.Delegations = []consent.Delegation{{Carer: somebodyElse, Sections: record.AllSections, Status: consent.InForce, From: noon, Until: noon.Add(time.Hour)}}
		for _, purpose := range []record.Purpose{record.Treatment, record.BreakGlass, record.PatientAccess, "carer"} {
			q := n.question()
			q.Now, q.Custodians = noon, custodians
			q.Purpose, q.Permission.Kind, q.Relationship.Kind, q.BreakGlassReason = purpose, record.AskedYes, record.Admission, "unconscious, no next of kin"
			switch purpose {
			case record.PatientAccess:
				q.Requester, q.Permission.Kind = record.Requester{Kind: record.Person, Own: subject}, record.PatientSelf
			case "carer":
				q.Requester, q.Permission.Kind, q.Purpose = record.Requester{Kind: record.Person, Own: somebodyElse}, record.Delegated, record.PatientAccess
			}
			custodians[2].EmergencyOverride = purpose == record.BreakGlass // the one of the six that says so
			q.Role.Sections = map[record.Purpose]record.Sections{q.Purpose: record.AllSections}
			tried++
			got := shown(consent.Evaluate(q, p))
			for i, c := range custodians {
				want := record.AllSections.Without(hidden)
				if closed[c.Custodian.Key] {
					want = 0
				}
				if purpose == record.PatientAccess || purpose == record.BreakGlass && i == 2 {
					want = record.AllSections
				}
				if got[c.Custodian.Key] != want {
					if wrong++; wrong <= 10 {
						t.Errorf("set %016b, %s, %s: got %s, want %s", set, purpose, c.Custodian.Key, got[c.Custodian.Key], want)
					}
				}
			}
		}
	}
	figure.Report(t, figure.Figure{Name: "sets of objections of which other than the rest is shown", Seen: wrong, Of: tried, What: "sets and purposes", Seed: seed,
		More: "six custodians, ten sections"})
}
