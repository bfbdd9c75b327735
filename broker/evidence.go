package broker

import (
	"bytes"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Staff says what who asks and whom they ask about have to do with each other, from lists of staff and of people whose records are watched. Compare MUST
// NOT wait, and is called concurrently.
type Staff interface {
	Compare(r record.Requester, s record.Subject) audit.Evidence
}

// userSystem is the system of SDS user ids.
const userSystem = "https://fhir.nhs.uk/Id/sds-user-id"

// known is the evidence that there is before anybody is asked.
func (a *access) known() *audit.Evidence {
	if a.req.Requester.Kind != record.Professional {
		return nil
	}
	var e audit.Evidence
	if a.b.cfg.Staff != nil {
		e = a.b.cfg.Staff.Compare(a.req.Requester, a.subject)
	}
	e.Registered = a.subject.Practice != "" && a.subject.Practice == a.req.Requester.Organisation
	if t, err := record.ParseClinicalTime(a.subject.Deceased); err == nil && t.Dated() && t.Lo.Before(a.req.Arrived) {
		e.DaysDead = int(a.req.Arrived.Sub(t.Lo)/(24*time.Hour)) + 1
	}
	if e.IsZero() {
		return nil
	}
	return &e
}

// maxEvents is how many encounters, appointments and the like are looked at, newest first.
const maxEvents = 5000

// evidence looks through the record while it is in memory for what explains that it was asked for: an encounter, an appointment, a referral at the requester's
// organisation near the time, the requester's name among those who care. It keeps what is there as booleans and distances, and nothing else. Only what is
// shown is looked at: what is withheld must not show by what becomes of the access.
func (a *access) evidence(statuses []record.Status, parts []merge.Prepared) *audit.Evidence {
	if a.req.Requester.Kind != record.Professional || a.req.Demographics || len(a.req.Filter.Types) > 0 {
		return nil // not the record: its silence would tell nothing
	}
	l := &looking{requester: a.req.Requester, now: a.merging.Now, evidence: &audit.Evidence{Record: true}, named: map[string]named{}}
	l.words = [][]byte{[]byte(l.requester.Organisation), []byte(l.requester.User)}
	own, heard := false, true
	for _, c := range a.b.custodians {
		if c.Rules.Custodian.ODS != l.requester.Organisation {
			continue
		}
		own = true
		for _, s := range statuses {
			heard = heard && (s.Custodian.Key != c.Rules.Custodian.Key || wholeBut(s))
		}
	}
	l.evidence.OwnHeard = own && heard
	for _, kind := range []string{"Organization", "Practitioner", "PractitionerRole"} { // a role may name both of the others
		for _, p := range parts {
			for i := range p.Entries {
				if p.Entries[i].Type == kind {
					l.directory(&p.Entries[i])
				}
			}
		}
	}
	for _, p := range parts {
		ours := p.Status.Custodian.ODS == l.requester.Organisation
		for i, looked := 0, 0; i < len(p.Entries) && looked < maxEvents; i++ {
			e := &p.Entries[i]
			if kind, ok := events[e.Type]; ok {
				l.event(e, kind, ours)
				looked++
			} else if e.Type == "Patient" {
				l.patient(e)
			}
		}
	}
	return l.evidence
}

// wholeBut reports whether nothing but what may not be shown is missing of a custodian's part: that it holds nothing is an answer.
func wholeBut(s record.Status) bool {
	for _, p := range s.Parts {
		if p.Reason != record.PartWithheld {
			return false
		}
	}
	return s.State == record.Returned || s.State == record.ReturnedInPart || s.State == record.NoRecord
}

// events are the types of resource that explain an access.
var events = map[string]audit.NearKind{
	"Encounter": audit.NearEncounter, "Appointment": audit.NearAppointment, "EpisodeOfCare": audit.NearCaseload, "CareTeam": audit.NearCaseload,
	"ServiceRequest": audit.NearReferral, "MedicationRequest": audit.NearReferral, "MedicationDispense": audit.NearReferral,
}

// lasts says in which status an event without an end goes on.
var lasts = map[string]bool{"in-progress": true, "arrived": true, "triaged": true, "onleave": true, "active": true}

// looking is one look through a record.
type looking struct {
	requester record.Requester
	now       time.Time
	evidence  *audit.Evidence
	named     map[string]named // by "Type/id"
	words     [][]byte         // what a resource that names any of them holds; at most maxWords
}

// maxWords is how many words a resource is searched for. Where there are more, as at a hospital with a role for each of its staff, or from a custodian that aims
// at our time, reading it costs less than searching it, and the work stays linear in what custodians return.
const maxWords = 16

// named says what a resource of the directory stands for.
type named struct{ organisation, user bool }

func parsed(e *merge.Entry) (fhirjson.Value, bool) {
	doc, err := fhirjson.Parse(e.JSON, merge.EntryLimits)
	if err != nil {
		return fhirjson.Value{}, false
	}
	return doc.Root(), true
}

func (l *looking) directory(e *merge.Entry) {
	if !l.mayName(e) {
		return
	}
	if v, ok := parsed(e); ok {
		if n := l.names(v); n != (named{}) {
			name := e.Type + "/" + e.ID
			l.named[name] = n
			if len(l.words) < maxWords {
				l.words = append(l.words, []byte(name))
			}
		}
	}
}

// mayName reports whether names could find anything: most resources are about neither the requester nor their organisation, and are not read again. With
// maxWords there may be names that are not among the words, so any could.
func (l *looking) mayName(e *merge.Entry) bool {
	return len(l.words) == maxWords || slices.ContainsFunc(l.words, func(w []byte) bool { return bytes.Contains(e.JSON, w) }) || bytes.Contains(e.JSON, []byte(`\u`))
}

// names says whether a resource names the requester's organisation, or the requester: by an identifier, or by a reference to what does.
func (l *looking) names(v fhirjson.Value) (out named) {
	v.Walk(func(key string, x fhirjson.Value) bool {
		if key == "reference" {
			n := l.named[relative(x.View())]
			out = named{out.organisation || n.organisation, out.user || n.user}
		}
		return true
	})
	identifiers(v, func(system, value string) {
		out.organisation = out.organisation || system == record.ODSSystem && value == string(l.requester.Organisation)
		out.user = out.user || system == userSystem && value == l.requester.User
	})
	return out
}

// identifiers calls f with every object that has a system and a value.
func identifiers(v fhirjson.Value, f func(system, value string)) {
	v.Walk(func(_ string, x fhirjson.Value) bool {
		if x.Kind() == fhirjson.Object {
			if s, value := x.Get("system"), x.Get("value"); s.Exists() && value.Exists() {
				f(s.View(), value.View())
			}
		}
		return true
	})
}

// relative is the end of a reference: Type/id.
func relative(ref string) string {
	id := strings.LastIndexByte(ref, '/')
	if id < 0 {
		return ref
	}
	return ref[strings.LastIndexByte(ref[:id], '/')+1:]
}

// event notes how far away one is.
func (l *looking) event(e *merge.Entry, kind audit.NearKind, ours bool) {
	// What the organisation itself holds is its own, but for a prescription or a request that names where it goes.
	own := ours && kind != audit.NearReferral
	may := l.mayName(e)
	if !e.Time.Dated() || e.Time.OpenLo || !own && !may {
		return
	}
	status, n := "", named{}
	if may || e.Time.OpenHi || mayBeVoid(e) {
		v, ok := parsed(e)
		if !ok {
			return
		}
		if status = v.Get("status").View(); status == "cancelled" || status == "entered-in-error" {
			return
		}
		if may {
			n = l.names(v)
		}
	}
	l.evidence.CareTeam = l.evidence.CareTeam || n.user && l.days(e.Time, status) <= 366
	if !n.organisation && !own {
		return
	}
	l.near(kind, l.days(e.Time, status))
}

// near notes an event that is nearer than all of its kind so far.
func (l *looking) near(kind audit.NearKind, days int) {
	for _, n := range l.evidence.Near {
		if n.Kind == kind && n.Days <= days {
			return
		}
	}
	*l.evidence = l.evidence.With(&audit.Evidence{Near: []audit.Near{{Kind: kind, Days: days}}})
}

// mayBeVoid reports whether an event may be one that did not happen. mayName has seen to what is written with escapes.
func mayBeVoid(e *merge.Entry) bool {
	return bytes.Contains(e.JSON, []byte("cancelled")) || bytes.Contains(e.JSON, []byte("entered-in-error"))
}

// days is how many whole days lie between now and an event.
func (l *looking) days(t record.ClinicalTime, status string) int {
	end := t.Hi
	if t.OpenHi {
		if lasts[status] {
			end = l.now.Add(time.Hour)
		} else {
			end = t.Lo.Add(24 * time.Hour)
		}
	}
	switch {
	case l.now.Before(t.Lo):
		return int(t.Lo.Sub(l.now) / (24 * time.Hour))
	case l.now.After(end):
		return int(l.now.Sub(end) / (24 * time.Hour))
	}
	return 0
}

// patient looks at a custodian's Patient: whether it names the requester as a contact, or their organisation as the practice.
func (l *looking) patient(e *merge.Entry) {
	if !bytes.Contains(e.JSON, []byte(`"generalPractitioner"`)) && !bytes.Contains(e.JSON, []byte(`"contact"`)) {
		return // most say neither; keys are never written with escapes (M-2)
	}
	v, ok := parsed(e)
	if !ok {
		return
	}
	for gp := range v.Get("generalPractitioner").Elems() {
		l.evidence.Registered = l.evidence.Registered || l.names(gp).organisation
	}
	var mine []string
	for c := range v.Get("contact").Elems() {
		if mine == nil {
			mine = nameWords(l.requester.Name)
		}
		var words []string
		name := c.Get("name")
		for g := range name.Get("given").Elems() {
			words = append(words, nameWords(g.Text())...)
		}
		if words = append(words, nameWords(name.Get("family").Text())...); len(words) < 2 {
			words = nameWords(name.Get("text").Text())
		}
		// First and last name the same: who has no first name in the token is not compared.
		l.evidence.Kin = l.evidence.Kin || len(mine) >= 2 && len(words) >= 2 && mine[0] == words[0] && mine[len(mine)-1] == words[len(words)-1]
	}
}

var titles = map[string]bool{"DR": true, "MR": true, "MRS": true, "MS": true, "MISS": true, "PROF": true, "SISTER": true, "NURSE": true, "SIR": true, "DAME": true}

// nameWords are the words of a name as they are compared, without titles.
func nameWords(s string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(s, func(c rune) bool { return !unicode.IsLetter(c) && c != '-' && c != '\'' }) {
		if w = strings.ToUpper(w); !titles[w] {
			out = append(out, w)
		}
	}
	return out
}
