// Package worklist_test runs a year of invented accesses past the rules of the worklist: wards, clinics, surgeries and their weekends, and fifty people among
// the staff who look at what is none of their business.
//
// The generator knows how people work and how they snoop. It knows nothing of the rules, their weights or thresholds: what it makes is an access as the
// ledger would tell of it, with the evidence that the broker would have found.
package worklist_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // Europe/London on any machine

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/worklist"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// setting is what a group of staff does: which days and hours, how many people in a day, and what ties them to those they see.
type setting struct {
	name     string
	org      record.ODSCode
	role     string
	holds    bool // the organisation holds records here, so that its own part of a record can be heard
	staff    int
	people   float64 // that one sees in a shift, about
	weekend  float64 // how many of the staff work at a weekend
	shifts   [][2]int
	odd      float64 // of their accesses that nothing in the record explains: telephone calls, wrong records, training
	purpose  record.Purpose
	ties     func(y *year, s *setting, p *person, at time.Time) ([]audit.Near, bool, bool) // near, care team, registered
	list     []int                                                                         // whom they see: a caseload, a practice's list; nil: anybody
	inWard   []int                                                                         // who lies in the ward now
	inWardTo []time.Time
}

type person struct {
	number    record.NHSNumber
	family    string
	house     int
	practice  int // index of setting
	died      time.Time
	objects   bool
	watched   bool
	staffUser int // index of staff plus one
}

type member struct {
	user    string
	name    string
	self    int // index of person
	kin     []int
	setting int
	pace    float64
}

// planted is one case of snooping, and the rules that are there to find such a one.
type planted struct {
	kind  string
	rules []audit.AlertKind
	user  string
	about record.NHSNumber // zero: a day's work, not one person
	from  time.Time
	found map[audit.AlertKind]time.Duration // by rule: how long after its last access, 0 if before
	last  time.Time
}

type year struct {
	rng       *rand.Rand
	begin     time.Time
	days      int
	people    []person
	staff     []member
	settings  []setting
	lists     *worklist.Lists
	cases     []*planted
	plans     map[int][]func(date time.Time) []ask // what snoopers do, by day
	coming    []ask                                // of theirs, on later days
	zone      *time.Location
	inTheNews int

	late     []ask // of yesterday's night shift
	position uint64
	honest   int
	take     func(f audit.Found, snoop *planted)
}

// Surnames in the proportions in which people have them, about: a few that many share, many that few do.
var (
	manyShare = strings.Fields("Smith Jones Williams Taylor Brown Davies Evans Wilson Thomas Johnson Roberts Khan Patel Hussain Ahmed Singh")
	someShare = strings.Fields("Walker Wright Robinson Thompson White Hughes Edwards Green Lewis Wood Harris Martin Jackson Clarke Turner Hill Scott Cooper Morris Ward " +
		"Moore King Watson Baker Harrison Morgan Young Allen Mitchell James Anderson Phillips Lee Bell Parker Davis Bennett Miller Cook Shaw")
	heads = strings.Fields("Ash Bram Cald Dray Elm Farn Green Hask Ing Kel Lang Mar Nor Oak Pen Quar Rad Stan Thorn Ulver Vens Wal Yarr Zell")
	tails = strings.Fields("by combe croft dale den field ford gate ham hurst land ley low mere more ness ridge shaw stead ton well wick wood worth")
)

func (y *year) surname() string {
	switch r := y.rng.Float64(); {
	case r < 0.09:
		return manyShare[y.rng.IntN(len(manyShare))]
	case r < 0.19:
		return someShare[y.rng.IntN(len(someShare))]
	}
	return heads[y.rng.IntN(len(heads))] + tails[y.rng.IntN(len(tails))] + []string{"", "", "s", "e", "er", "man", "son", "ing"}[y.rng.IntN(8)]
}

// numbers makes NHS numbers of the test range, spread over it as births spread them: each a little above the one before.
func numbers(rng *rand.Rand, n int) []record.NHSNumber {
	out := make([]record.NHSNumber, 0, n)
	step := 999_999 / n
	for stem := 0; len(out) < n && stem < 1_000_000; stem++ {
		number, ok := numberOf(stem)
		if !ok {
			continue
		}
		out = append(out, number)
		if step > 2 {
			stem += rng.IntN(2*step-2) * 9 / 10
		}
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// numberOf is the test number whose first nine digits are 999 and six more; false if there is none.
func numberOf(stem int) (record.NHSNumber, bool) {
	digits := fmt.Sprintf("999%06d", stem)
	sum := 0
	for i, c := range digits {
		sum += int(c-'0') * (10 - i)
	}
	n, err := record.ParseNHSNumber(digits + fmt.Sprint((11-sum%11)%11))
	return n, err == nil
}

// newYear makes the place: how many people, and how many staff in all.
func newYear(seed uint64, people, staff, days int) *year {
	zone, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic("the embedded zone database lacks Europe/London")
	}
	y := &year{rng: rand.New(rand.NewPCG(seed, 1)), begin: time.Date(2025, 10, 1, 0, 0, 0, 0, zone), days: days, zone: zone, plans: map[int][]func(time.Time) []ask{}}
	near := func(kind audit.NearKind, days int) []audit.Near { return []audit.Near{{Kind: kind, Days: days}} }
	surgery := func(y *year, s *setting, p *person, at time.Time) ([]audit.Near, bool, bool) {
		if y.rng.Float64() < 0.8 {
			return near(audit.NearEncounter, int(y.rng.ExpFloat64()*20)), y.rng.Float64() < 0.5, y.rng.Float64() < 0.97
		}
		return nil, false, true
	}
	clinic := func(y *year, s *setting, p *person, at time.Time) ([]audit.Near, bool, bool) {
		switch r := y.rng.Float64(); {
		case r < 0.6:
			return near(audit.NearAppointment, 0), y.rng.Float64() < 0.6, false
		case r < 0.8: // preparing
			return near(audit.NearAppointment, 1+y.rng.IntN(10)), y.rng.Float64() < 0.3, false
		case r < 0.95: // results, letters
			return near(audit.NearEncounter, 1+int(y.rng.ExpFloat64()*9)), y.rng.Float64() < 0.5, false
		}
		return near(audit.NearReferral, 5+y.rng.IntN(70)), false, false
	}
	ward := func(y *year, s *setting, p *person, at time.Time) ([]audit.Near, bool, bool) {
		return near(audit.NearEncounter, 0), y.rng.Float64() < 0.6, false
	}
	door := func(y *year, s *setting, p *person, at time.Time) ([]audit.Near, bool, bool) {
		if y.rng.Float64() < 0.94 {
			return near(audit.NearEncounter, 0), y.rng.Float64() < 0.5, false
		}
		return nil, false, false // opened before the attendance was booked in
	}
	caseload := func(y *year, s *setting, p *person, at time.Time) ([]audit.Near, bool, bool) {
		return near(audit.NearCaseload, 0), y.rng.Float64() < 0.6, false
	}
	chemist := func(y *year, s *setting, p *person, at time.Time) ([]audit.Near, bool, bool) {
		if y.rng.Float64() < 0.96 {
			return near(audit.NearReferral, y.rng.IntN(28)), false, false
		}
		return nil, false, false
	}
	round := [][2]int{{7, 15}, {14, 22}, {21, 31}}
	for i := range 6 {
		y.settings = append(y.settings, setting{name: "surgery", org: record.ODSCode(fmt.Sprintf("X9A%02d", i+1)), role: "R8001", holds: true, staff: 8, people: 22, weekend: 0,
			shifts: [][2]int{{8, 18}}, odd: 0.006, purpose: record.Treatment, ties: surgery})
	}
	for _, org := range []record.ODSCode{"X9B01", "X9B02"} {
		y.settings = append(y.settings,
			setting{name: "clinic", org: org, role: "R8002", holds: true, staff: 22, people: 15, weekend: 0.03, shifts: [][2]int{{8, 18}}, odd: 0.008, purpose: record.Treatment, ties: clinic},
			setting{name: "ward", org: org, role: "R8003", holds: true, staff: 40, people: 7, weekend: 0.7, shifts: round, odd: 0.004, purpose: record.Treatment, ties: ward},
			setting{name: "emergency", org: org, role: "R8004", holds: true, staff: 24, people: 14, weekend: 1, shifts: round, odd: 0.01, purpose: record.UrgentCare, ties: door})
	}
	y.settings = append(y.settings,
		setting{name: "mental health", org: "X9C01", role: "R8005", holds: true, staff: 16, people: 8, weekend: 0.25, shifts: [][2]int{{8, 18}, {17, 24}}, odd: 0.006, purpose: record.Treatment, ties: caseload},
		setting{name: "community", org: "X9D01", role: "R8006", holds: true, staff: 16, people: 9, weekend: 0.5, shifts: [][2]int{{8, 18}}, odd: 0.006, purpose: record.Treatment, ties: caseload},
		setting{name: "social care", org: "X9E01", role: "R8007", holds: true, staff: 12, people: 5, weekend: 0.1, shifts: [][2]int{{9, 17}}, odd: 0.008, purpose: record.Treatment, ties: caseload},
		setting{name: "pharmacy", org: "X9G01", role: "R8008", holds: false, staff: 8, people: 18, weekend: 0.6, shifts: [][2]int{{9, 19}}, odd: 0.01, purpose: record.Treatment, ties: chemist})
	base := 0
	for _, s := range y.settings {
		base += s.staff
	}
	for i, n := range numbers(y.rng, people) {
		p := person{number: n, house: i / 3, practice: y.rng.IntN(6), objects: y.rng.Float64() < 0.004}
		if i%3 > 0 && y.rng.Float64() < 0.75 { // a household mostly shares a name
			p.family = y.people[i-1].family
		} else {
			p.family = y.surname()
		}
		if y.rng.Float64() < 0.01 {
			p.died = y.begin.Add(time.Duration(y.rng.IntN(days)) * 24 * time.Hour)
		}
		y.people = append(y.people, p)
	}
	for i := range y.settings {
		s := &y.settings[i]
		for range max(3, s.staff*staff/base) {
			self := y.rng.IntN(len(y.people))
			for y.people[self].staffUser != 0 {
				self = y.rng.IntN(len(y.people))
			}
			m := member{user: fmt.Sprintf("5550%08d", len(y.staff)+1), self: self, setting: i, pace: math.Exp(y.rng.NormFloat64() * 0.25)}
			m.name = "Sam " + y.people[self].family
			for j := self / 3 * 3; j < min(self/3*3+3, len(y.people)); j++ {
				if j != self && y.rng.Float64() < 0.8 {
					m.kin = append(m.kin, j)
				}
			}
			y.staff = append(y.staff, m)
			y.people[self].staffUser = len(y.staff)
		}
		switch s.name {
		case "surgery":
			for j := range y.people {
				if y.people[j].practice == i {
					s.list = append(s.list, j)
				}
			}
		case "mental health", "community", "social care":
			for range max(40, people/60) {
				s.list = append(s.list, y.rng.IntN(len(y.people)))
			}
		}
	}
	for range 4 {
		y.people[y.rng.IntN(len(y.people))].watched = true
	}
	y.lists = y.feed()
	return y
}

// feed makes the staff list and the watch list, and has them read as the broker does.
func (y *year) feed() *worklist.Lists {
	key := bytes.Repeat([]byte{7}, 32)
	var staff, watch, a, b bytes.Buffer
	staff.WriteString("user,organisation,nhs_number,surname,postcode,address,kin\n")
	watch.WriteString("nhs_number\n")
	for _, m := range y.staff {
		p := y.people[m.self]
		var kin []string
		for _, k := range m.kin {
			kin = append(kin, y.people[k].number.Reveal())
		}
		fmt.Fprintf(&staff, "%s,%s,%s,%s,XX1 2AB,%d Rook Lane,%s\n", m.user, y.settings[m.setting].org, p.number.Reveal(), p.family, p.house, strings.Join(kin, " "))
	}
	for _, p := range y.people {
		if p.watched {
			fmt.Fprintln(&watch, p.number.Reveal())
		}
	}
	lists := worklist.NewLists(key, worklist.Shipped())
	if _, err := worklist.WriteStaff(&staff, &a, key); err != nil {
		panic(err)
	}
	if _, err := worklist.WriteWatched(&watch, &b, key); err != nil {
		panic(err)
	}
	if err := lists.Load(&a, &b); err != nil {
		panic(err)
	}
	return lists
}

// ask is one access as somebody makes it.
type ask struct {
	who          int
	about        int // -1: a number that is none; -2: nobody has it
	number       record.NHSNumber
	at           time.Time
	purpose      record.Purpose
	permission   record.PermissionKind
	relationship record.RelationshipKind
	near         []audit.Near
	careTeam     bool
	registered   bool
	snoop        *planted
}

// tell writes what the ledger would hold of an access.
func (y *year) tell(x ask) {
	m := &y.staff[x.who]
	s := &y.settings[m.setting]
	if x.snoop == nil {
		y.honest++
	} else if x.snoop.last = x.at; x.snoop.from.IsZero() {
		x.snoop.from = x.at
	}
	r := record.Requester{Kind: record.Professional, User: m.user, Name: "Dr " + m.name, JobRole: s.role, Organisation: s.org}
	next := func(f audit.Found) {
		y.position++
		f.Position = y.position
		y.take(f, x.snoop)
	}
	a := &audit.Access{Requester: r, Purpose: x.purpose, Permission: record.Permission{Kind: x.permission}, At: x.at}
	if a.Relationship.Kind = x.relationship; x.relationship == "" {
		a.Relationship.Kind = record.SelfClaimed
	}
	if x.about == -2 {
		a.Subject, a.Reason = x.number, consent.ReasonUnknown
		next(audit.Found{Type: audit.TypeRefused, At: x.at, Access: a, Subject: a.Subject, Reason: string(a.Reason)})
		return
	}
	if x.about < 0 {
		a.Evidence = &audit.Evidence{BadNumber: true}
		next(audit.Found{Type: audit.TypeRefused, At: x.at, Access: a, Reason: string(consent.ReasonUnread)})
		return
	}
	p := &y.people[x.about]
	a.Subject = p.number
	e := y.lists.Compare(r, record.Subject{Number: p.number, Family: p.family, Postcode: "XX1 2AB", Address: fmt.Sprintf("%d Rook Lane", p.house)})
	if !p.died.IsZero() && p.died.Before(x.at) {
		e.DaysDead = int(x.at.Sub(p.died)/(24*time.Hour)) + 1
	}
	a.Evidence = &e
	refused := consent.Reason("")
	switch {
	case p.objects && x.snoop == nil, p.objects && x.snoop.kind == "after an objection":
		refused = consent.ReasonObjection
	case x.permission == record.AskedNo:
		refused = consent.ReasonAskedNo
	}
	if refused != "" {
		a.Reason = refused
		next(audit.Found{Type: audit.TypeRefused, At: x.at, Access: a, Subject: a.Subject, Reason: string(refused)})
		return
	}
	if x.purpose == record.BreakGlass {
		next(audit.Found{Type: audit.TypeOverride, At: x.at, Access: a, Subject: a.Subject})
	}
	next(audit.Found{Type: audit.TypeBegin, At: x.at, Access: a, Subject: a.Subject})
	told := &audit.Evidence{Record: true, OwnHeard: s.holds && y.rng.Float64() < 0.98, CareTeam: x.careTeam, Near: x.near, Registered: x.registered}
	next(audit.Found{Type: audit.TypeReleased, At: x.at.Add(time.Second), Opens: y.position, Subject: a.Subject, Disclosure: &audit.Disclosure{Evidence: told}})
}

// whom picks whom a member of staff sees next.
func (y *year) whom(s *setting, at time.Time) int {
	if s.name == "ward" {
		for i := range s.inWardTo {
			if s.inWardTo[i].Before(at) { // somebody goes home, somebody comes
				s.inWard[i], s.inWardTo[i] = y.rng.IntN(len(y.people)), at.Add(time.Duration((0.5+y.rng.ExpFloat64()*4)*24)*time.Hour)
			}
		}
		for len(s.inWard) < 28 {
			s.inWard, s.inWardTo = append(s.inWard, y.rng.IntN(len(y.people))), append(s.inWardTo, at.Add(time.Duration(y.rng.ExpFloat64()*4*24)*time.Hour))
		}
		return s.inWard[y.rng.IntN(len(s.inWard))]
	}
	if s.list != nil {
		return s.list[y.rng.IntN(len(s.list))]
	}
	return y.rng.IntN(len(y.people))
}

// day is what staff do on one day, in the order of time.
func (y *year) day(n int) {
	date := y.begin.AddDate(0, 0, n)
	weekend := date.Weekday() == time.Saturday || date.Weekday() == time.Sunday
	busy := 1.0
	if m := date.Month(); m == time.December || m == time.January || m == time.February {
		busy = 1.2 // winter
	}
	if date.Month() == time.December && (date.Day() == 25 || date.Day() == 26) {
		weekend = true
	}
	var asks []ask
	for i := range y.staff {
		m := &y.staff[i]
		s := &y.settings[m.setting]
		if off := y.rng.Float64(); weekend && off > s.weekend*0.6 || !weekend && off > 0.72 {
			continue
		}
		shift := s.shifts[y.rng.IntN(len(s.shifts))]
		for range int(s.people * m.pace * busy * math.Exp(y.rng.NormFloat64()*0.2)) {
			at := date.Add(time.Duration(shift[0]) * time.Hour).Add(time.Duration(y.rng.Float64() * float64(shift[1]-shift[0]) * float64(time.Hour)))
			if y.rng.Float64() < 0.01 { // stays on, or comes early
				at = at.Add(time.Duration(y.rng.NormFloat64() * float64(2*time.Hour)))
			}
			x := ask{who: i, at: at, purpose: s.purpose, permission: record.AskedYes}
			switch r := y.rng.Float64(); {
			case r < 0.003: // mistyped
				x.about = -1
			case r < 0.003+s.odd:
				x.about = y.rng.IntN(len(y.people))
			default:
				x.about = y.whom(s, at)
				x.near, x.careTeam, x.registered = s.ties(y, s, &y.people[x.about], at)
				if y.rng.Float64() < 0.6 { // the rest leave out what is not asked for
					x.relationship = map[string]record.RelationshipKind{"surgery": record.Registered, "ward": record.Admission, "emergency": record.Attendance, "clinic": record.Appointment}[s.name]
				}
			}
			if x.about >= 0 && y.people[x.about].staffUser == i+1 {
				continue // nobody treats themselves
			}
			if x.about >= 0 && slices.Contains(m.kin, x.about) && !x.careTeam {
				continue // nor, mostly, their own: a colleague does
			}
			if p := x.about; p >= 0 && !y.people[p].died.IsZero() && at.After(y.people[p].died.AddDate(0, 0, 28)) {
				continue // closed
			}
			if y.rng.Float64() < 0.002 && x.about >= 0 {
				x.permission = record.AskedNo
			}
			if s.name == "emergency" && x.near != nil && y.rng.Float64() < 0.01 { // cannot be asked, and comes round later
				x.purpose, x.permission = record.BreakGlass, ""
				if y.rng.Float64() < 0.985 {
					follow := x
					follow.at, follow.purpose, follow.permission = at.Add(time.Duration(1+y.rng.Float64()*10)*time.Hour), record.UrgentCare, record.AskedYes
					asks = append(asks, follow)
				}
			}
			asks = append(asks, x)
			if x.about >= 0 && y.people[x.about].objects && y.rng.Float64() < 0.2 { // tries once more
				x.at = at.Add(time.Minute)
				asks = append(asks, x)
			}
		}
	}
	asks = append(asks, y.late...)
	y.late = nil
	asks = append(asks, y.snoops(n, date)...)
	slices.SortStableFunc(asks, func(a, b ask) int { return a.at.Compare(b.at) })
	end := date.AddDate(0, 0, 1)
	for _, x := range asks {
		if x.at.After(end) { // a night shift's morning
			y.late = append(y.late, x)
			continue
		}
		y.tell(x)
	}
}
