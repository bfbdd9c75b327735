package hl7v2

import "strings"

// visit is a PV1, and what is about it.
type visit struct {
	about
	pv1    segment
	pv2    segment
	person *person
	id     string
	event  string // EVN-1, or the trigger of the message
	stated bool   // that it has anything but a set id
}

func (c *converter) openVisit(s segment) {
	v := &visit{pv1: s, person: c.person, event: c.trigger}
	if c.event.name() != "" {
		v.event = c.event.at(1, 1)
		v.keep(c.event)
		c.event = segment{}
	}
	if number := s.at(19, 1); number != "" {
		v.id = identity("PV1", c.person.seed, number)
	} else {
		v.id = identity("PV1", c.person.seed, s.raw)
	}
	v.stated = s.states(2)
	c.visit = v
}

// more takes the PV2. A visit whose PV1 has no number and says nothing is told from others by what its PV2 says.
func (v *visit) more(s segment) {
	v.pv2 = s
	if !v.stated && s.states(1) {
		v.stated = true
		v.id = identity("PV1", v.person.seed, v.pv1.raw, s.raw)
	}
}

// states reports whether any field from n on has something in it.
func (s segment) states(n int) bool {
	for ; n < len(s.fields); n++ {
		if f := s.fields[n]; f != "" && f != null {
			return true
		}
	}
	return false
}

// closeVisit keeps the visit for the end: messages about results repeat it in fewer words. Of a visit of which nothing is stated it is not known that
// there was one, and no Encounter says so: messages about a person have an empty PV1 where the standard demands one. What hangs on it hangs on the
// person.
func (c *converter) closeVisit() {
	switch v := c.visit; {
	case v == nil:
	case v.stated:
		c.visits = append(c.visits, v)
		c.reserve(v.size)
	default:
		v.person.add(v.extras...)
	}
	c.visit = nil
}

// encounter is the Reference of what belongs to the visit that is open.
func (c *converter) encounter() []byte {
	if c.visit == nil || !c.visit.stated {
		return nil
	}
	return reference("Encounter/" + c.visit.id)
}

// fewerWords reports whether v says nothing that w does not say of the same visit.
func (v *visit) fewerWords(w *visit) bool {
	if v.id != w.id || len(v.extras) > 0 || v.pv2.raw != "" && v.pv2.raw != w.pv2.raw {
		return false
	}
	for n := 2; n < len(v.pv1.fields); n++ {
		if f := v.pv1.fields[n]; f != "" && f != w.pv1.field(n) {
			return false
		}
	}
	return true
}

// write returns the Encounter.
func (v *visit) write() []byte {
	s := v.pv1
	start, end := s.moment(s.at(44, 1)), s.moment(s.at(45, 1))
	class := s.at(2, 1)
	coded := object(member{"extension", array(object(member{"url", str(absentReason)}, member{"valueCode", str("unknown")}))})
	if code, known := classes[class]; known {
		coded = object(member{"system", str("http://terminology.hl7.org/CodeSystem/v3-ActCode")}, member{"code", str(code)})
	} else if class = strings.TrimSpace(class); class != "" && !strings.Contains(class, " ") {
		coded = object(member{"system", str("http://terminology.hl7.org/CodeSystem/v2-0004")}, member{"code", str(class)})
	}
	var participants [][]byte
	for _, role := range [...]struct {
		field int
		code  string // v3 ParticipationType
	}{{7, "ATND"}, {8, "REF"}, {9, "CON"}, {17, "ADM"}} {
		for r := range s.repetitions(role.field) {
			if who := s.professional(r); who != nil {
				participants = append(participants, object(member{"type", array(object(member{"coding", array(object(
					member{"system", str("http://terminology.hl7.org/CodeSystem/v3-ParticipationType")}, member{"code", str(role.code)}))}))}, member{"individual", who}))
			}
		}
	}
	var where []byte
	if place := s.place(s.first(3)); place != "" {
		where = array(object(member{"location", object(member{"display", str(place)})}))
	}
	var number []byte
	if id := s.identifier(s.first(19)); id != nil {
		number = array(id)
	}
	var leaving []byte
	if d := s.concept(s.first(36)); d != nil {
		leaving = object(member{"dischargeDisposition", d})
	}
	var reason []byte
	if c := v.pv2.concept(v.pv2.first(3)); c != nil {
		reason = array(c)
	}
	members := []member{
		{"resourceType", str("Encounter")}, {"id", str(v.id)},
		{"identifier", number},
		{"status", str(v.status(end))},
		{"class", coded},
		{"serviceType", s.concept(s.first(10))},
		{"subject", reference(v.person.address)},
		{"participant", array(participants...)},
		{"period", object(append(date("start", start), date("end", end)...)...)},
		{"reasonCode", reason},
		{"hospitalization", leaving},
		{"location", where},
	}
	return s.complete(members, append(v.pv2.rest([]member{{"reasonCode", reason}}), v.extras...))
}

// status says how a visit stands. A cancelling event decides; then whether an end is stated; then what the event says; then that an inpatient
// without an end has not left. Otherwise it is not known.
func (v *visit) status(end moment) string {
	moved := movements[v.event]
	switch {
	case moved == "cancelled":
		return moved
	case end.text != "":
		return "finished"
	case moved != "":
		return moved
	case v.pv1.at(2, 1) == "I" && v.pv1.moment(v.pv1.at(44, 1)).text != "":
		return "in-progress"
	}
	return "unknown"
}

// place puts a PL into words: point of care, room, bed, facility, building, floor.
func (s segment) place(pl string) string {
	var words []string
	for _, n := range [...]int{1, 2, 3, 7, 8, 4} {
		if w := strings.TrimSpace(s.of(pl, n)); w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, ", ")
}
