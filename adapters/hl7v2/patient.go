package hl7v2

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// subjectURL is the address, within a reply, of the Patient who was asked about. That Patient has no id: a good one would have to be made of the NHS
// number, which must not stand in one, so the merge makes it of the Patient's identifier with its own key (M-5).
const subjectURL = "urn:mycarerecord:subject"

// strangersURL begins the address of a Patient who was not asked about. The merge drops and counts them with all that is theirs.
const strangersURL = "urn:mycarerecord:stranger:"

// person is a PID, and what is about it.
type person struct {
	about
	pid      segment
	ours     bool
	address  string
	seed     string // tells this person's ids from another's
	birth    moment
	status   string // of the NHS number, PID-32
	contacts [][]byte
	gp       [][]byte
	fields   int             // that have something in them
	further  map[string]bool // authorities: see Settings.NHSAuthorities
}

// nhsAuthorities and nhsTypes say that an identifier of PID-3 is an NHS number: the assigning authority NHS (CX-4, by name or by OID), or, where
// no authority stands, the type (CX-5). NHSNBR and NHSNMBR are what some simulators and older systems write.
var (
	nhsAuthorities = map[string]bool{"NHS": true, "NHSNBR": true, "2.16.840.1.113883.2.1.4.1": true}
	nhsTypes       = map[string]bool{"NH": true, "NHS": true, "NHSNMBR": true}
)

// isNHSNumber reports whether a CX says that it is an NHS number. further are authorities that are configured.
func (s segment) isNHSNumber(cx string, further map[string]bool) bool {
	authority := part(cx, s.component, 4)
	if strings.TrimSpace(authority) == "" {
		return nhsTypes[s.of(cx, 5)]
	}
	for n := 1; n <= 2; n++ {
		if name := s.text(part(authority, s.sub, n)); nhsAuthorities[name] || further[name] {
			return true
		}
	}
	return false
}

// digits takes spaces and hyphens out of an NHS number as people write it.
func digits(s string) string { return strings.NewReplacer(" ", "", "-", "").Replace(s) }

// identify reads whose PID it is. It is ours if it carries the number that was asked, and no other but those that it replaced.
func (c *converter) identify(s segment) *person {
	p := &person{pid: s, birth: s.moment(s.at(7, 1)), status: s.at(32, 1), seed: s.field(3), further: c.authorities}
	for n := 1; n < len(s.fields); n++ {
		if s.fields[n] != "" {
			p.fields++
		}
	}
	found, other := false, false
	for cx := range s.repetitions(3) {
		if !s.isNHSNumber(cx, c.authorities) || s.of(cx, 1) == "" {
			continue
		}
		n, err := record.ParseNHSNumber(digits(s.of(cx, 1)))
		switch {
		case err == nil && n == c.subject.Number:
			found = true
		case err == nil && slices.Contains(c.subject.Supersedes, n):
		default:
			other = true
		}
	}
	if p.ours = found && !other; p.ours {
		p.address, p.seed = subjectURL, c.subject.Number.Reveal()
	} else {
		p.address, p.seed = strangersURL+identity(s.raw), identity(p.seed) // a digest: each of their ids is made of it
	}
	return p
}

// more takes PD1 and NK1.
func (p *person) more(s segment) {
	switch s.name() {
	case "NK1":
		var relationship []byte
		if r := s.concept(s.first(3)); r != nil {
			relationship = array(r)
		}
		contact := []member{{"relationship", relationship}, {"name", s.names1(s.first(2))}, {"telecom", array(s.telecoms(5)...)}, {"address", s.address(s.first(4))}}
		if object(contact...) == nil {
			p.keep(s)
			return
		}
		p.contacts = append(p.contacts, s.complete(contact, nil))
		p.size += len(p.contacts[len(p.contacts)-1])
	case "PD1":
		var gp [][]byte // of this one: what others of the same person say is not said by it
		for r := range s.repetitions(4) {
			gp = append(gp, s.professional(r))
		}
		for r := range s.repetitions(3) {
			if name := s.of(r, 1); name != "" {
				gp = append(gp, object(member{"type", str("Organization")}, member{"display", str(name)}))
			}
		}
		for _, x := range gp {
			p.size += len(x) + 1
		}
		p.gp = append(p.gp, gp...)
		p.add(s.rest([]member{{"generalPractitioner", array(gp...)}})...)
	}
}

// once leaves out of what hangs on a PID what is known, and adds the rest to it. It returns how much that is.
func (p *person) once(known map[string]bool) int {
	size := 0
	for _, list := range [...]*[][]byte{&p.extras, &p.contacts, &p.gp} {
		var fresh [][]byte // a list of its own: what is left out is let go of
		for _, x := range *list {
			if x != nil && !known[view(x)] {
				known[view(x)] = true
				fresh = append(fresh, x)
				size += len(x) + 1
			}
		}
		*list = fresh
	}
	return size
}

// gather brings to p what hangs on the other PIDs of the same person, each thing once, and those of their fields that say what its own do not. The error
// is that all that is more than a resource may be, or that ctx has ended.
func (p *person) gather(ctx context.Context, people []*person, most int) error {
	known := map[string]bool{}
	p.once(known)
	own := p.pid.split()
	for _, other := range people {
		if other == p {
			continue
		}
		if err := sentinel.OfEnd(ctx); err != nil {
			return err
		}
		p.size += other.once(known)
		p.contacts, p.gp = append(p.contacts, other.contacts...), append(p.gp, other.gp...)
		p.extras = append(p.extras, other.extras...)
		for n := 2; n < len(other.pid.fields); n++ {
			if other.repeats(n, p.pid, own) {
				continue
			}
			if x := extension(extField, "PID-"+strconv.Itoa(n)+": "+other.pid.shown(other.pid.field(n))); !known[view(x)] {
				known[view(x)] = true
				p.add(x)
			}
		}
		if p.size > most {
			return broker.ErrTooMuch
		}
	}
	return nil
}

// What is compared of a field: one with more repetitions, and a repetition with more components, is not worth the time, and is kept whole. The longest
// that a PID may have, XCN, has 25.
const (
	comparedRepetitions = 16
	comparedComponents  = 32
)

// split returns the components of the repetitions of each field, as far as they are compared. A segment that many are compared with is split once.
func (s segment) split() [][][]string {
	out := make([][][]string, len(s.fields))
	for n, f := range s.fields {
		for r := range strings.SplitSeq(f, string(rune(s.repetition))) {
			if len(out[n]) == comparedRepetitions {
				break
			}
			out[n] = append(out[n], strings.SplitN(r, string(rune(s.component)), comparedComponents+1))
		}
	}
	return out
}

// repeats reports whether field n of p's PID says nothing that the same field of another, t, does not say: each of its repetitions is one of the other's
// in fewer words. split is t's. A code of the NHS number's status is said by the Patient whichever PID has it.
func (p *person) repeats(n int, t segment, split [][][]string) bool {
	s := p.pid
	f := s.field(n)
	switch {
	case f == "" || f == null, f == t.field(n) && s.marks == t.marks, n == 32 && numberStatus[p.status] != "":
		return true
	case s.marks != t.marks, n >= len(split):
		return false
	case n == 7: // how exactly a date is known, where both are of one person
		return strings.HasPrefix(t.field(n), f)
	}
	own := strings.SplitN(f, string(rune(s.repetition)), comparedRepetitions+1)
	if len(own) > comparedRepetitions {
		return false
	}
	for _, r := range own {
		if !slices.ContainsFunc(split[n], func(q []string) bool { return s.fewer(r, q) }) {
			return false
		}
	}
	return true
}

// fewer reports whether every component of a repetition that has something in it is the same among those of another.
func (s segment) fewer(r string, q []string) bool {
	for n := 0; r != ""; n++ {
		if n == comparedComponents {
			return false
		}
		var x string
		x, r, _ = strings.Cut(r, string(rune(s.component)))
		if x != "" && (n >= len(q) || x != q[n]) {
			return false
		}
	}
	return true
}

// closePerson keeps a person who was asked about for the end, when all PIDs of the reply are known, and writes any other. What hangs on the PIDs of
// the one person goes into one Patient, and is held to the cap of one.
func (c *converter) closePerson() {
	p := c.person
	c.person = nil
	switch {
	case p == nil:
	case p.ours:
		fresh := p.once(c.hung)
		if c.hanging += fresh; c.hanging > c.caps.resourceBytes {
			c.fail(broker.ErrTooMuch)
		}
		c.reserve(fresh)
		c.people = append(c.people, p)
	case !c.others[p.address]:
		c.others[p.address] = true
		c.emit(p.patient(nil), p.address)
	}
}

// patient writes the Patient. statuses are those of the NHS number that any PID of the reply states.
func (p *person) patient(statuses []string) []byte {
	s := p.pid
	members := []member{
		{"resourceType", str("Patient")},
		{"identifier", array(p.identifiers(statuses)...)},
		{"name", array(s.names(5)...)},
		{"telecom", array(append(s.telecoms(13), s.telecoms(14)...)...)},
	}
	if code := s.at(8, 1); code != "" {
		if gender, known := genders[code]; known {
			members = append(members, member{"gender", str(gender)})
		} else {
			members = append(members, original("gender", code))
		}
	}
	if b := p.birth; b.raw != "" {
		if day, _, timed := strings.Cut(b.text, "T"); timed {
			b.text, b.exact = day, false
		}
		members = append(members, date("birthDate", b)...)
	}
	switch died := s.moment(s.at(29, 1)); {
	case died.text != "":
		members = append(members, date("deceasedDateTime", died)...)
	case s.at(30, 1) == "Y":
		members = append(members, member{"deceasedBoolean", []byte("true")})
	case s.at(30, 1) == "N":
		members = append(members, member{"deceasedBoolean", []byte("false")})
	}
	var addresses [][]byte
	for r := range s.repetitions(11) {
		addresses = append(addresses, s.address(r))
	}
	also := []int{}
	if numberStatus[p.status] != "" {
		also = append(also, 32)
	}
	return s.complete(append(members,
		member{"address", array(addresses...)},
		member{"maritalStatus", s.concept(s.first(16))},
		member{"contact", array(p.contacts...)},
		member{"generalPractitioner", array(p.gp...)}), p.extras, also...)
}

// identifiers writes PID-3.
func (p *person) identifiers(statuses []string) [][]byte {
	s := p.pid
	var out [][]byte
	for cx := range s.repetitions(3) {
		value := s.of(cx, 1)
		if value == "" {
			continue
		}
		if !s.isNHSNumber(cx, p.further) {
			out = append(out, s.identifier(cx))
			continue
		}
		var status []byte
		var codings [][]byte
		for _, code := range statuses {
			codings = append(codings, object(member{"system", str("https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland")}, member{"code", str(code)}))
		}
		if codings != nil {
			status = array(object(member{"url", str("https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus")},
				member{"valueCodeableConcept", object(member{"coding", array(codings...)})}))
		}
		out = append(out, object(member{"extension", status}, member{"system", str(record.NHSNumberSystem)}, member{"value", str(digits(value))}))
	}
	return out
}

// identifier writes a CX or an EI-like field whose issuer has a name or an OID.
func (s segment) identifier(cx string) []byte {
	value := trimmed(s.of(cx, 1))
	if value == nil {
		return nil
	}
	authority := part(cx, s.component, 4)
	name, oid := s.text(part(authority, s.sub, 1)), s.text(part(authority, s.sub, 2))
	var kind, system, assigner []byte
	if t := strings.TrimSpace(s.of(cx, 5)); t != "" && !strings.Contains(t, " ") {
		kind = object(member{"coding", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/v2-0203")}, member{"code", str(t)}))})
	}
	if s.text(part(authority, s.sub, 3)) == "ISO" && isOID(oid) {
		system = str("urn:oid:" + oid)
	}
	if name != "" {
		assigner = object(member{"display", str(name)})
	}
	return object(member{"type", kind}, member{"system", system}, member{"value", value}, member{"assigner", assigner})
}

// entity writes an EI: value, name space, OID and its type.
func (s segment) entity(ei, kind string) []byte {
	value := trimmed(s.of(ei, 1))
	if value == nil {
		return nil
	}
	name, oid := s.of(ei, 2), s.of(ei, 3)
	var system, assigner, typ []byte
	if s.of(ei, 4) == "ISO" && isOID(oid) {
		system = str("urn:oid:" + oid)
	}
	if name != "" {
		assigner = object(member{"display", str(name)})
	}
	if kind != "" {
		typ = object(member{"coding", array(object(member{"system", str("http://terminology.hl7.org/CodeSystem/v2-0203")}, member{"code", str(kind)}))})
	}
	return object(member{"type", typ}, member{"system", system}, member{"value", value}, member{"assigner", assigner})
}

func isOID(s string) bool {
	if s == "" || s[0] < '0' || s[0] > '2' || strings.Contains(s, "..") || strings.HasSuffix(s, ".") {
		return false
	}
	return strings.Trim(s, "0123456789.") == ""
}

// names writes a field of XPN.
func (s segment) names(n int) [][]byte {
	var out [][]byte
	for r := range s.repetitions(n) {
		out = append(out, s.names1(r))
	}
	return out
}

// names1 writes one XPN: family (its first part), given, further given, suffix, prefix, degree, type.
func (s segment) names1(xpn string) []byte {
	var use []member
	if t := s.of(xpn, 7); t != "" {
		if u, known := nameUse[t]; known {
			use = []member{{"use", str(u)}}
		} else {
			use = []member{original("use", t)}
		}
	}
	family := s.of(xpn, 1)
	given := array(str(s.of(xpn, 2)), str(s.of(xpn, 3)))
	if family == "" && given == nil {
		return nil
	}
	return object(append(use, member{"family", str(family)}, member{"given", given}, member{"prefix", array(str(s.of(xpn, 5)))},
		member{"suffix", array(str(s.of(xpn, 4)), str(s.of(xpn, 6)))})...)
}

// address writes one XAD.
func (s segment) address(xad string) []byte {
	if xad == "" || xad == null {
		return nil
	}
	var use []byte
	if u, known := addressUse[s.of(xad, 7)]; known {
		use = str(u)
	}
	lines := array(str(strings.TrimSpace(s.of(xad, 1))), str(strings.TrimSpace(s.of(xad, 2))))
	body := []member{{"line", lines}, {"city", trimmed(s.of(xad, 3))}, {"district", trimmed(s.of(xad, 4))}, {"postalCode", trimmed(s.of(xad, 5))}, {"country", trimmed(s.of(xad, 6))}}
	if object(body...) == nil {
		return nil
	}
	return object(append([]member{{"use", use}}, body...)...)
}

// telecoms writes a field of XTN: a number as one text, or in pieces.
func (s segment) telecoms(n int) [][]byte {
	var out [][]byte
	for r := range s.repetitions(n) {
		value := s.of(r, 1)
		if value == "" {
			value = s.of(r, 4)
		}
		if value == "" {
			value = s.of(r, 12)
		}
		if value == "" {
			value = strings.TrimSpace(s.of(r, 5) + " " + s.of(r, 6) + " " + s.of(r, 7))
		}
		if value == "" {
			continue
		}
		var system, use []byte
		if x, known := telecomSystem[s.of(r, 3)]; known {
			system = str(x)
		}
		u, known := telecomUse[s.of(r, 2)]
		switch {
		case s.of(r, 3) == "CP":
			use = str("mobile")
		case known:
			use = str(u)
		}
		out = append(out, object(member{"system", system}, member{"value", str(value)}, member{"use", use}))
	}
	return out
}

// professional writes a Reference to somebody of whom the message has number and name (XCN), not a resource.
func (s segment) professional(xcn string) []byte {
	if xcn == "" || xcn == null {
		return nil
	}
	number, authority := s.of(xcn, 1), s.of(xcn, 9)
	var words []string
	for _, n := range [...]int{6, 3, 4, 2, 5} {
		if w := strings.TrimSpace(s.of(xcn, n)); w != "" {
			words = append(words, w)
		}
	}
	var id []byte
	if number != "" {
		var assigner []byte
		if authority != "" {
			assigner = object(member{"display", str(authority)})
		}
		id = object(member{"system", str(issuers[strings.ToUpper(authority)])}, member{"value", trimmed(number)}, member{"assigner", assigner})
	}
	if id == nil && words == nil {
		return nil
	}
	return object(member{"type", str("Practitioner")}, member{"identifier", id}, member{"display", str(strings.Join(words, " "))})
}
