package audit

import (
	"reflect"
	"slices"
)

// Evidence is what was found while an access was in memory that the worklist's rules may look at: booleans, counts and distances, never what is in a
// record. It stands in the access's own entries, so that nothing is worked out from anybody's record later, and every replica sees the same.
//
// What could not be compared is not the same as what was compared and is not so: Staff, Record and OwnHeard say which it is.
type Evidence struct {
	Staff       bool   // who asks is in the staff list: Own, Kin, Colleague and SameAddress were compared
	Own         bool   // it is their own record
	Kin         bool   // the staff list names the person as their next of kin, or the person's record names them as a contact
	Colleague   bool   // the person is on the staff list of the same organisation
	SameAddress bool   // they live at the same address
	Surname     int    // they share a surname: 1 a very common one, 2 a common one, 3 any other; 0: they do not, or it is not known
	Watched     bool   // the person is on the watch list
	DaysDead    int    // days since the person died, the day itself counted as 1; 0: alive, or not known
	Registered  bool   // the person is registered with the requester's organisation
	BadNumber   bool   // of a request that could not be read: its number fails its check digit
	Record      bool   // the record was in memory and was looked through
	OwnHeard    bool   // what the requester's organisation itself holds was in it, whole
	CareTeam    bool   // the record names the requester in an encounter, an appointment, a referral or a care team
	Near        []Near // the nearest of each kind at the requester's organisation, each kind once
}

// Near is how far away in time the nearest event of a kind was.
type Near struct {
	Kind NearKind
	Days int // whole days before or after the access; 0: while it lasted, or the same day
}

// NearKind is a kind of event that explains an access. The list is closed.
type NearKind string

// The kinds of event.
const (
	NearEncounter   NearKind = "encounter"
	NearAppointment NearKind = "appointment"
	NearReferral    NearKind = "referral"
	NearCaseload    NearKind = "caseload" // an episode of care, or a care team of the organisation
)

// IsZero reports whether nothing was found and nothing compared.
func (e Evidence) IsZero() bool { return evidenceOut(&e).isZero() }

// With is what two parts of one access say together: what was known when it began, and what its record told.
func (e Evidence) With(o *Evidence) Evidence {
	if o == nil {
		return e
	}
	e.Staff, e.Own, e.Kin, e.Colleague, e.SameAddress = e.Staff || o.Staff, e.Own || o.Own, e.Kin || o.Kin, e.Colleague || o.Colleague, e.SameAddress || o.SameAddress
	e.Watched, e.Registered, e.BadNumber, e.Record, e.OwnHeard = e.Watched || o.Watched, e.Registered || o.Registered, e.BadNumber || o.BadNumber, e.Record || o.Record, e.OwnHeard || o.OwnHeard
	e.CareTeam = e.CareTeam || o.CareTeam
	e.Surname, e.DaysDead = max(e.Surname, o.Surname), max(e.DaysDead, o.DaysDead)
	e.Near = slices.Clone(e.Near)
	for _, n := range o.Near {
		i := slices.IndexFunc(e.Near, func(have Near) bool { return have.Kind == n.Kind })
		if i < 0 {
			e.Near = append(e.Near, n)
		} else {
			e.Near[i].Days = min(e.Near[i].Days, n.Days)
		}
	}
	return e
}

// evidenceBody is Evidence as an entry holds it. New members go at its end.
type evidenceBody struct {
	Staff       bool       `json:"staff"`
	Own         bool       `json:"own"`
	Kin         bool       `json:"kin"`
	Colleague   bool       `json:"colleague"`
	SameAddress bool       `json:"sameAddress"`
	Surname     int        `json:"surname"`
	Watched     bool       `json:"watched"`
	DaysDead    int        `json:"daysDead"`
	Registered  bool       `json:"registered"`
	BadNumber   bool       `json:"badNumber"`
	Record      bool       `json:"record"`
	OwnHeard    bool       `json:"ownHeard"`
	CareTeam    bool       `json:"careTeam"`
	Near        []nearBody `json:"near"`
}

type nearBody struct {
	Kind string `json:"kind"`
	Days int    `json:"days"`
}

func (b evidenceBody) isZero() bool { return empty(reflect.ValueOf(&b).Elem()) }

func evidenceOut(e *Evidence) evidenceBody {
	if e == nil {
		return evidenceBody{}
	}
	out := evidenceBody{e.Staff, e.Own, e.Kin, e.Colleague, e.SameAddress, e.Surname, e.Watched, e.DaysDead, e.Registered, e.BadNumber, e.Record, e.OwnHeard, e.CareTeam, nil}
	for _, n := range e.Near {
		out.Near = append(out.Near, nearBody{string(n.Kind), n.Days})
	}
	return out
}

// evidence reads it back; nil if there is none.
func (r *reading) evidence(b evidenceBody) *Evidence {
	if b.isZero() {
		return nil
	}
	out := &Evidence{b.Staff, b.Own, b.Kin, b.Colleague, b.SameAddress, b.Surname, b.Watched, b.DaysDead, b.Registered, b.BadNumber, b.Record, b.OwnHeard, b.CareTeam, nil}
	for _, n := range b.Near {
		out.Near = append(out.Near, Near{NearKind(n.Kind), n.Days})
	}
	return out
}
