package broker_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

var personal = consent.Role{Name: "person", Version: "v", RecordsObjections: true, SeesObjections: true, SearchesLedger: true,
	Sections: map[record.Purpose]record.Sections{record.PatientAccess: record.AllSections}}

// themselves is a person who asks about somebody, who may be themselves.
func themselves(own, about record.NHSNumber) broker.Request {
	permission := record.Delegated
	if own == about {
		permission = record.PatientSelf
	}
	req := question(about)
	req.Requester, req.Role, req.Purpose = record.Requester{Kind: record.Person, User: "login-" + own.Reveal()[:3], Own: own, Issuer: "i", Client: "app"}, personal, record.PatientAccess
	req.Permission, req.Relationship = record.Permission{Kind: permission}, record.Relationship{}
	return req
}

// choosing is the person themselves before ConsentService.
func choosing(n record.NHSNumber) broker.ObjectionRequest {
	r := themselves(n, n)
	return broker.ObjectionRequest{ID: "r", Face: "grpc", Subject: n, Requester: r.Requester, Role: personal}
}

// coded is an observation with labels, and its marker as text.
func coded(id, marker, labels string) string {
	return strings.Replace(observation(id, "2024-05-01", marker), `"status"`, `"meta":{"security":[`+labels+`]},"status"`, 1)
}

func label(system, code string) string { return fmt.Sprintf(`{"system":%q,"code":%q}`, system, code) }

const (
	observationValue = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
	actCode          = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
)

// C-6 and C-5, end to end: a carer sees what the person lets them see, less what the person entered themselves and what is not for the person; it is recorded
// as theirs; and it ends with the delegation, also for what they had asked for already.
func TestCarer(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, func(c *broker.Config) {
		quick(c)
		c.Custodians[0].Merge.LabelsEntered = true
	})
	person, carer, stranger := number(t, ann), number(t, "9990000026"), number(t, "9990000034")
	h.sources[0].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
		return reply("gp", q.Subject.Number, observation("o1", "2024-05-01", "Plainresult"),
			coded("o2", "Enteredbyperson", label(observationValue, "PATAST")), coded("o3", "Notforperson", label(actCode, "NOPAT"))), nil
	}
	sees := func(own record.NHSNumber) string {
		t.Helper()
		res, err := h.Retrieve(t.Context(), themselves(own, person))
		if err != nil {
			t.Fatalf("refused: %s %s", refusal(t, err).Kind, refusal(t, err).Reason)
		}
		return bundle(t, res.Answer)
	}
	refuses := func(own record.NHSNumber, want consent.Reason) {
		t.Helper()
		_, err := h.Retrieve(t.Context(), themselves(own, person))
		if r := refusal(t, err); r.Kind != broker.Forbidden || r.Reason != want || r.Explanation.Text != want.Text() {
			t.Errorf("got %s %s %q, want %s", r.Kind, r.Reason, r.Explanation.Text, want)
		}
	}
	refuses(carer, consent.ReasonNotOwn)
	wish := consent.Delegation{Carer: carer, Name: "my daughter", Sections: record.SectionsOf(record.Results), Custodians: []record.CustodianKey{"gp", "acute"},
		Until: time.Now().Add(time.Hour)}

	// Nobody but the person writes it.
	if _, _, err := h.RecordDelegation(t.Context(), objecting(person), wish); refusal(t, err).Kind != broker.Forbidden || refusal(t, err).Rule != consent.RuleDelegation {
		t.Errorf("staff wrote a delegation: %v", err)
	}
	other := choosing(stranger)
	other.Subject = person
	if _, _, err := h.RecordDelegation(t.Context(), other, wish); refusal(t, err).Reason != consent.ReasonNotOwn {
		t.Errorf("a stranger wrote a delegation: %v", err)
	}
	for name, change := range map[string]func(*consent.Delegation){"themselves": func(d *consent.Delegation) { d.Carer = person }, "nobody": func(d *consent.Delegation) { d.Carer = record.NHSNumber{} },
		"no such custodian": func(d *consent.Delegation) { d.Custodians = []record.CustodianKey{"elsewhere"} }, "no end": func(d *consent.Delegation) { d.Until = time.Time{} }} {
		d := wish
		change(&d)
		if _, _, err := h.RecordDelegation(t.Context(), choosing(person), d); refusal(t, err).Kind != broker.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, receipt, err := h.RecordDelegation(t.Context(), choosing(person), wish)
	if err != nil || receipt.Position == 0 {
		t.Fatal(err)
	}

	own, theirs := sees(person), sees(carer)
	for text, where := range map[string][2]bool{"Plainresult": {true, true}, "Enteredbyperson": {true, false}, "Notforperson": {false, false}, "acute marker": {true, true},
		"mentalhealth marker": {true, false}} {
		if strings.Contains(own, text) != where[0] || strings.Contains(theirs, text) != where[1] {
			t.Errorf("%s: the person sees it: %v, the carer: %v, want %v", text, strings.Contains(own, text), strings.Contains(theirs, text), where)
		}
	}
	if !strings.Contains(theirs, consent.ReasonDelegation.Text()) {
		t.Error("the answer does not say why custodians are missing")
	}
	refuses(stranger, consent.ReasonNotOwn)

	// An objection binds the carer, and not the person.
	o, _, err := h.RecordObjection(t.Context(), choosing(person), consent.Objection{Scope: consent.ToCustodian, Custodian: "acute", Method: "online"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(sees(carer), "acute marker") || !strings.Contains(sees(person), "acute marker") {
		t.Error("an objection does not bind the carer, or binds the person")
	}
	if _, _, err := h.WithdrawObjection(t.Context(), choosing(person), o.ID); err != nil {
		t.Fatal(err)
	}

	// It ends while the carer's answer is made: nothing of that answer leaves.
	h.sources[1].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
		if _, _, err := h.WithdrawDelegation(context.Background(), choosing(person), d.ID); err != nil {
			t.Error(err)
		}
		return reply("acute", q.Subject.Number, observation("o1", "2024-05-01", "acute marker")), nil
	}
	if _, err := h.Retrieve(t.Context(), themselves(carer, person)); refusal(t, err).Reason != consent.ReasonNotOwn {
		t.Errorf("after the withdrawal: %v", err)
	}
	refuses(carer, consent.ReasonNotOwn)
	if list, _, err := h.ShowDelegations(t.Context(), choosing(person)); err != nil || len(list) != 1 || list[0].Status != consent.Withdrawn {
		t.Errorf("%d delegations: %v", len(list), err)
	}

	// The person finds all of it, as the carer's, in words.
	found, _, _, err := h.SearchAccesses(t.Context(), broker.SearchRequest{ID: "s", Face: "grpc", Requester: choosing(person).Requester, Role: personal, Query: audit.Search{Limit: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, f := range found {
		seen[f.Explain()]++
		if f.Type == audit.TypeBegin && f.Access.Requester.Own == carer && f.Access.Permission.Kind != record.Delegated {
			t.Error("the carer's access is not recorded as theirs")
		}
	}
	for _, text := range []string{"You asked for your own record.", "A carer whom you let see your record asked for it.", "You let this carer see your record, as far and as long as it says here.",
		"This carer may no longer see your record.", "Another person asked for your record. " + consent.ReasonNotOwn.TextForPerson()} {
		if seen[text] == 0 {
			t.Errorf("the person does not read: %s", text)
		}
	}
	verified(t, l)
}

// C-10: a carer cannot tell what the person objects to from what the person does not let them see, whole or streamed, before or while they ask.
func TestCarersDoNotLearnOfObjections(t *testing.T) {
	var all []record.CustodianKey
	for _, c := range nine {
		all = append(all, c.Key)
	}
	type wish struct {
		objections []consent.Objection
		sections   record.Sections
		custodians []record.CustodianKey
	}
	toCustodian := func(k record.CustodianKey) consent.Objection {
		return consent.Objection{Scope: consent.ToCustodian, Custodian: k}
	}
	// asks returns what a carer is told under a wish, without what each answer has of its own.
	asks := func(t *testing.T, w wish, meanwhile, stream bool) (statuses []record.Status, refused broker.Refusal) {
		l := audittest.Open(t)
		h := open(t, l, quick)
		person, carer := number(t, ann), number(t, "9990000026")
		if _, _, err := h.RecordDelegation(t.Context(), choosing(person), consent.Delegation{Carer: carer, Sections: w.sections, Custodians: w.custodians, Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		object := sync.OnceFunc(func() {
			for _, o := range w.objections {
				if _, _, err := h.RecordObjection(context.Background(), choosing(person), o); err != nil {
					t.Error(err)
				}
			}
		})
		if meanwhile {
			last := h.sources[len(nine)-1]
			last.answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
				object()
				return reply(string(last.key), q.Subject.Number, observation("o1", "2024-05-01", "marker")), nil
			}
		} else {
			object()
		}
		var text string
		var err error
		if stream {
			r := &recorder{}
			if err = h.Stream(t.Context(), themselves(carer, person), r); err == nil {
				for _, e := range append(r.entries, r.authored.Entries...) {
					text += string(e.JSON)
				}
				statuses = r.authored.Statuses
			}
		} else {
			var res *broker.Result
			if res, err = h.Retrieve(t.Context(), themselves(carer, person)); err == nil {
				text, statuses = bundle(t, res.Answer), res.Answer.Statuses
			}
		}
		if err != nil {
			refused = *refusal(t, err)
			refused.Receipt = audit.Receipt{}
			text = fmt.Sprintf("%+v", refused)
		}
		text += fmt.Sprintf("%+v", statuses)
		for _, word := range []string{"recorded on", "preference at", consent.RuleObjection, consent.ReasonObjection.Text(), "Reason:" + string(consent.ReasonObjection)} {
			if strings.Contains(text, word) {
				t.Errorf("the carer is told %q", word)
			}
		}
		for i := range statuses {
			statuses[i].Asked, statuses[i].Took = time.Time{}, 0
		}
		verified(t, l)
		return statuses, refused
	}
	whole := record.AllSections
	for name, c := range map[string]struct {
		objects, instead wish
		nothing          bool
	}{
		"two custodians": {wish{[]consent.Objection{toCustodian(all[0]), toCustodian(all[1])}, whole, nil}, wish{nil, whole, all[2:]}, false},
		"a section":      {wish{[]consent.Objection{{Scope: consent.ToSection, Section: record.Results}}, whole, nil}, wish{nil, whole.Without(record.SectionsOf(record.Results)), nil}, false},
		"all sharing":    {wish{[]consent.Objection{{Scope: consent.ToAll}}, whole, nil}, wish{[]consent.Objection{toCustodian(all[8])}, whole, all[8:]}, true},
	} {
		for _, meanwhile := range []bool{false, true} {
			for _, stream := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, meanwhile %t, stream %t", name, meanwhile, stream), func(t *testing.T) {
					statuses, refused := asks(t, c.objects, meanwhile, stream)
					if c.nothing && !(meanwhile && stream) { // of a stream chunks may have left
						if refused.Kind != broker.Forbidden || refused.Explanation != (consent.Explanation{Rule: consent.RuleDelegation, Reason: consent.ReasonDelegation, Text: consent.ReasonDelegation.Text()}) {
							t.Errorf("refused: %+v", refused)
						}
					}
					if meanwhile && !c.nothing {
						return // whom they had asked by then they are told of as asked
					}
					want, wantRefused := asks(t, c.instead, meanwhile, stream)
					if !reflect.DeepEqual(statuses, want) {
						t.Errorf("told:\n%+v\nand where the person lets them see less:\n%+v", statuses, want)
					}
					if !reflect.DeepEqual(refused, wantRefused) {
						t.Errorf("refused: %+v\nand otherwise: %+v", refused, wantRefused)
					}
				})
			}
		}
	}
}

// what was chosen under a number that the present one supersedes holds.
func TestChoicesUnderOldNumbers(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	person, old, carer := number(t, ann), number(t, "9990000042"), number(t, "9990000026")
	if _, _, err := h.RecordObjection(t.Context(), objecting(old), consent.Objection{Scope: consent.ToCustodian, Custodian: "gp"}); err != nil {
		t.Fatal(err)
	}
	d, _, err := h.RecordDelegation(t.Context(), choosing(old), consent.Delegation{Carer: carer, Sections: record.AllSections, Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := h.Retrieve(t.Context(), question(person)); err != nil || res.Answer.Statuses[0].State != record.Returned {
		t.Fatalf("before the numbers were joined: %v", err)
	}
	h.tracer.supersedes = map[record.NHSNumber][]record.NHSNumber{person: {old}}
	res, err := h.Retrieve(t.Context(), question(person))
	if err != nil {
		t.Fatal(err)
	}
	if s := res.Answer.Statuses[0]; s.State != record.Withheld || s.Rule != consent.RuleObjection || s.Preference == 0 || s.Recorded.IsZero() ||
		!strings.Contains(s.Explanation, "The person's choice was recorded on ") {
		t.Errorf("an objection under the old number: %s %s %q", s.State, s.Rule, s.Explanation)
	}
	if _, err := h.Retrieve(t.Context(), themselves(carer, person)); err != nil {
		t.Errorf("a delegation under the old number: %v", err)
	}
	list, _, err := h.ShowObjections(t.Context(), objecting(person))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d objections under the present number: %v", len(list), err)
	}
	if _, _, err := h.WithdrawObjection(t.Context(), objecting(person), list[0].ID); err != nil {
		t.Errorf("withdrawing under the present number: %v", err)
	}
	if _, _, err := h.WithdrawDelegation(t.Context(), objecting(person), d.ID); err != nil { // staff may: it only takes away
		t.Errorf("withdrawing a delegation at the desk: %v", err)
	}
	if res, err = h.Retrieve(t.Context(), question(person)); err != nil || res.Answer.Statuses[0].State != record.Returned {
		t.Errorf("after the withdrawal: %v", err)
	}
	verified(t, l)
}

// C-3: what was done by break-glass is on the worklist of those whom it concerns until one of them, and not whoever did it, says what became of it.
func TestOverridesAreReviewed(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	person := number(t, ann)
	req := question(person)
	req.Purpose, req.Permission, req.Relationship, req.BreakGlassReason = record.BreakGlass, record.Permission{}, record.Relationship{}, "unconscious, no next of kin"
	if _, err := h.Retrieve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	officer := func(user string, org record.ODSCode) broker.OverrideRequest {
		return broker.OverrideRequest{ID: "w", Face: "grpc", Reason: "weekly review", Role: consent.Role{Name: "ig", Version: "v", SearchesLedger: true},
			Requester: record.Requester{Kind: record.Professional, User: user, Organisation: org, Issuer: "i"}}
	}
	waiting := func(org record.ODSCode) []audit.Override {
		t.Helper()
		list, next, receipt, err := h.ListOverrides(t.Context(), officer("ig1", org), false, 0, 0)
		if err != nil || next != 0 || receipt.Position == 0 {
			t.Fatalf("next %d: %v", next, err)
		}
		return list
	}
	theirs, ours, others := waiting(clinician.Organisation), waiting("X9G01"), waiting("X9Q99")
	if len(theirs) != 1 || len(ours) != 1 || len(others) != 0 {
		t.Fatalf("the requester's officer has %d to review, a custodian's %d, another's %d", len(theirs), len(ours), len(others))
	}
	if len(theirs[0].Access.Asked) != 9 || len(ours[0].Access.Asked) != 1 || ours[0].Reason != req.BreakGlassReason {
		t.Error("a custodian's officer sees what concerns other custodians, or not the reason")
	}
	at := theirs[0].Position
	for name, c := range map[string]struct {
		req  broker.OverrideRequest
		kind broker.Kind
	}{
		"whoever did it":    {officer(clinician.User, clinician.Organisation), broker.Forbidden},
		"no officer":        {broker.OverrideRequest{Requester: clinician, Role: clinical}, broker.Forbidden},
		"another's officer": {officer("ig1", "X9Q99"), broker.Invalid},
		"nowhere's officer": {officer("ig1", ""), broker.Forbidden},
	} {
		if _, err := h.ReviewOverride(t.Context(), c.req, at, audit.Justified, ""); refusal(t, err).Kind != c.kind {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
	}
	if _, err := h.ReviewOverride(t.Context(), officer("ig1", clinician.Organisation), at, "fine", ""); refusal(t, err).Kind != broker.Invalid {
		t.Errorf("an outcome that is none: %v", err)
	}
	unasked := officer("ig1", clinician.Organisation)
	unasked.Reason = ""
	if _, _, _, err := h.ListOverrides(t.Context(), unasked, false, 0, 0); refusal(t, err).Kind != broker.Invalid {
		t.Errorf("without a reason: %v", err)
	}
	receipt, err := h.ReviewOverride(t.Context(), officer("ig1", clinician.Organisation), at, audit.Justified, "seen on the ward round")
	if err != nil {
		t.Fatal(err)
	}
	if len(waiting(clinician.Organisation)) != 0 || len(waiting("X9G01")) != 0 {
		t.Error("what was reviewed is still to be reviewed")
	}
	list, _, _, err := h.ListOverrides(t.Context(), officer("ig1", clinician.Organisation), true, 0, 0)
	if err != nil || len(list) != 1 || list[0].Review != receipt.Position {
		t.Errorf("%d reviewed: %v", len(list), err)
	}

	// A custodian that was asked and had nothing to show sees it on its list. Only whose records were shown, or whose staff it was, take it off.
	h.sources[6].answer = func(context.Context, broker.Query) (broker.Reply, error) { return broker.Reply{}, broker.ErrNoRecord }
	req.Arrived = time.Now() // what went before may have taken longer than custodians are waited for
	if _, err := h.Retrieve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	next := waiting("X9G01")
	if len(next) != 1 {
		t.Fatalf("a custodian that was asked and showed nothing has %d to review", len(next))
	}
	if _, err := h.ReviewOverride(t.Context(), officer("ig1", "X9G01"), next[0].Position, audit.Justified, ""); refusal(t, err).Kind != broker.Forbidden {
		t.Errorf("an officer of a custodian that showed nothing takes it off everybody's list: %v", err)
	}
	if len(waiting("X9H01")) != 1 {
		t.Error("it is off the list of others")
	}
	if _, err := h.ReviewOverride(t.Context(), officer("ig1", "X9H01"), next[0].Position, audit.Referred, ""); err != nil {
		t.Errorf("an officer of a custodian whose record was shown: %v", err)
	}
	verified(t, l)
}

// C-9: a refusal says which rule, which choice and since when; a neutral answer says nothing of the kind.
func TestRefusalsExplain(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	person := number(t, ann)
	o, _, err := h.RecordObjection(t.Context(), objecting(person), consent.Objection{Scope: consent.ToAll})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Retrieve(t.Context(), question(person))
	r := refusal(t, err)
	if r.Kind != broker.Suppressed || r.Explanation.Rule != consent.RuleObjection || r.Explanation.Preference != o.Position || !r.Explanation.Recorded.Equal(o.Recorded) ||
		!strings.HasPrefix(r.Explanation.Text, consent.ReasonObjection.Text()) {
		t.Errorf("got %+v", r.Explanation)
	}
	for _, s := range r.Statuses {
		if s.Explanation != r.Explanation.Text || s.Rule != consent.RuleObjection || s.Preference != o.Position {
			t.Errorf("%s: %q", s.Custodian.Key, s.Explanation)
		}
	}
	h.tracer.standing[person] = record.Restricted
	_, err = h.Retrieve(t.Context(), question(person))
	if r := refusal(t, err); r.Kind != broker.NotFound || r.Explanation != (consent.Explanation{}) {
		t.Errorf("a neutral answer explains: %+v", r.Explanation)
	}
	verified(t, l)
}
