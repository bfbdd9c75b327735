package torture

import (
	"fmt"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// What makes an entry part of a section whatever it is tagged with: the custodian that holds it, and what it is (design section 4). The tags
// are the broker's own; these tables are not.
var (
	sectionOfCustodian = map[string]record.Section{"mentalhealth": record.MentalHealth, "socialcare": record.SocialCare, "ambulance": record.Ambulance,
		"community": record.Community, "pharmacy": record.Pharmacy}
	sectionOfType = map[string]record.Section{"MedicationRequest": record.Medications, "MedicationStatement": record.Medications,
		"MedicationDispense": record.Medications, "MedicationAdministration": record.Medications, "Appointment": record.Appointments,
		"DiagnosticReport": record.Results, "Specimen": record.Results, "Condition": record.History, "Procedure": record.History,
		"AllergyIntolerance": record.History, "Immunization": record.History, "Encounter": record.History, "CarePlan": record.PlansAlerts,
		"CareTeam": record.PlansAlerts, "Flag": record.PlansAlerts, "Patient": record.Demographics}
)

// covers reports whether an objection in force forbids that an asker is shown this (C-1, C-2.6, C-4).
func (o *objection) covers(by asker, s shown) bool {
	switch {
	case s.custodian == "": // the broker's own words
		return false
	case by.self() && !o.absolute:
		return false
	case !by.self() && by.own == s.custodian:
		return false
	}
	switch o.scope {
	case v1.ObjectionScope_OBJECTION_SCOPE_ALL:
		return true
	case v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN:
		return o.custodian == s.custodian
	}
	ofType, typed := sectionOfType[s.typ]
	ofCustodian, held := sectionOfCustodian[s.custodian]
	return s.sections.Has(o.section) || typed && ofType == o.section || held && ofCustodian == o.section
}

// bound reports whether the answer began after the objection was acknowledged and ended before anybody asked to withdraw it.
func (o *objection) bound(a *answer) bool {
	return !o.acked.IsZero() && !a.began.Before(o.acked) && (o.withdrawCalled.IsZero() || a.ended.Before(o.withdrawCalled))
}

// precedes reports whether the objection stands in the ledger before a release, and its withdrawal does not.
func (o *objection) precedes(r *receipt) bool {
	if r == nil || o.position == 0 || r.position < o.position {
		return false
	}
	return o.withdrawCalled.IsZero() || o.withdrawPosition != 0 && r.position < o.withdrawPosition
}

// honours is what became of holding answers against objections.
type honours struct {
	breaches []string
	bound    int // answers that began under an objection of the person and came to an end, or to something that shows
	ordered  int // releases that stand after one
}

// judge holds every answer against every objection of its person, in two ways: by the clock of the callers (P2), and by the order of the
// ledger, which binds the answers that were on their way too.
func judge(answers []*answer, all []*objection) honours {
	of := map[person][]*objection{}
	for _, o := range all {
		of[o.about] = append(of[o.about], o)
	}
	var h honours
	for _, a := range answers {
		bound, ordered := false, false
		for _, o := range of[a.about] {
			byTime := o.bound(a)
			bound = bound || byTime
			for _, p := range a.pieces {
				byOrder := o.precedes(p.receipt)
				ordered = ordered || byOrder
				if !byTime && !byOrder {
					continue
				}
				for _, s := range p.shown {
					if o.covers(a.by, s) {
						h.breaches = append(h.breaches, fmt.Sprintf("%s %s by %s shows a %s of %s against an objection (%v %s %s) acknowledged before it began: %t, before it in the ledger: %t",
							a.face, a.id, a.by.persona, s.typ, s.custodian, o.scope, o.custodian, o.section.Code(), byTime, byOrder))
						break
					}
				}
			}
		}
		if bound && (!a.cut || a.shows()) {
			h.bound++
		}
		if ordered {
			h.ordered++
		}
	}
	return h
}

// TestJudge holds the judge of the other tests to cases that it must condemn, and to cases that it must not.
func TestJudge(t *testing.T) {
	zero := time.Now()
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	who, other := person{"a", ""}, person{"b", ""}
	doctor, patient := asker{"ed-doctor", "acute"}, asker{"patient", ""}
	all, custodian, section := v1.ObjectionScope_OBJECTION_SCOPE_ALL, v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, v1.ObjectionScope_OBJECTION_SCOPE_SECTION
	objected := func(scope v1.ObjectionScope, key string, s record.Section) *objection {
		return &objection{about: who, scope: scope, custodian: key, section: s, called: at(90), acked: at(100), position: 10}
	}
	answered := func(began, ended int, position uint64, s ...shown) *answer {
		p := piece{shown: s}
		if position != 0 {
			p.receipt = &receipt{position: position}
		}
		return &answer{about: who, by: doctor, began: at(began), ended: at(ended), pieces: []piece{p}}
	}
	withdrawn := func(o *objection, called, acked int, position uint64) *objection {
		o.withdrawCalled, o.withdrawPosition = at(called), position
		if acked != 0 {
			o.withdrawAcked = at(acked)
		}
		return o
	}
	for name, tc := range map[string]struct {
		o    *objection
		a    *answer
		want int
	}{
		"all, began after":                      {objected(all, "", 0), answered(101, 110, 12, shown{custodian: "gp"}), 1},
		"all, began after, cut off":             {objected(all, "", 0), answered(101, 110, 0, shown{custodian: "gp", part: true}), 1},
		"all, on its way, released after":       {objected(all, "", 0), answered(50, 110, 12, shown{custodian: "gp"}), 1},
		"all, on its way, released before":      {objected(all, "", 0), answered(50, 110, 9, shown{custodian: "gp"}), 0},
		"all, on its way, no receipt":           {objected(all, "", 0), answered(50, 110, 0, shown{custodian: "gp", part: true}), 0},
		"all, only our own words":               {objected(all, "", 0), answered(101, 110, 12, shown{typ: "OperationOutcome"}), 0},
		"all, own record":                       {objected(all, "", 0), answered(101, 110, 12, shown{custodian: "acute"}), 0},
		"custodian":                             {objected(custodian, "gp", 0), answered(101, 110, 12, shown{custodian: "acute"}, shown{custodian: "gp"}), 1},
		"another custodian":                     {objected(custodian, "gp", 0), answered(101, 110, 12, shown{custodian: "community"}), 0},
		"section by tag":                        {objected(section, "", record.MentalHealth), answered(101, 110, 12, shown{custodian: "gp", sections: record.SectionsOf(record.MentalHealth)}), 1},
		"section by custodian":                  {objected(section, "", record.MentalHealth), answered(101, 110, 12, shown{custodian: "mentalhealth", typ: "Practitioner"}), 1},
		"section by type":                       {objected(section, "", record.Medications), answered(101, 110, 12, shown{custodian: "gp", typ: "MedicationRequest"}), 1},
		"another section":                       {objected(section, "", record.Medications), answered(101, 110, 12, shown{custodian: "gp", typ: "Flag"}), 0},
		"withdrawal called meanwhile":           {withdrawn(objected(all, "", 0), 105, 0, 0), answered(101, 110, 12, shown{custodian: "gp"}), 0},
		"withdrawn later":                       {withdrawn(objected(all, "", 0), 120, 130, 15), answered(101, 110, 12, shown{custodian: "gp"}), 1},
		"withdrawal called, but later in order": {withdrawn(objected(all, "", 0), 105, 130, 15), answered(101, 110, 12, shown{custodian: "gp"}), 1},
		"withdrawn before":                      {withdrawn(objected(all, "", 0), 105, 108, 11), answered(107, 110, 12, shown{custodian: "gp"}), 0},
	} {
		if got := judge([]*answer{tc.a}, []*objection{tc.o}); len(got.breaches) != tc.want {
			t.Errorf("%s: %d breaches, want %d", name, len(got.breaches), tc.want)
		}
	}
	a := answered(101, 110, 12, shown{custodian: "gp"})
	a.about = other
	if got := judge([]*answer{a}, []*objection{objected(all, "", 0)}); len(got.breaches) != 0 {
		t.Error("somebody else's objection is held against an answer")
	}
	a = answered(101, 110, 12, shown{custodian: "gp"})
	a.by = patient
	o := objected(all, "", 0)
	if got := judge([]*answer{a}, []*objection{o}); len(got.breaches) != 0 {
		t.Error("an objection that is not absolute is held against the person's own view")
	}
	o.absolute = true
	if got := judge([]*answer{a}, []*objection{o}); len(got.breaches) != 1 {
		t.Error("an absolute objection is not held against the person's own view")
	}
}
