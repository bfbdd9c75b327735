package worklist

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// court tells a judge of accesses.
type court struct {
	t        *testing.T
	judge    *Judge
	position uint64
	at       time.Time
}

// newCourt opens on a Tuesday morning.
func newCourt(t *testing.T) *court {
	return &court{t: t, judge: NewJudge(Shipped()), at: time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)}
}

// one is an access: who, about whom, and what was found.
type one struct {
	user, org    string
	about        string
	purpose      record.Purpose
	permission   record.PermissionKind
	relationship record.RelationshipKind
	known, told  audit.Evidence
	refused      consent.Reason
	person       bool
}

func (c *court) see(x one) []Finding {
	c.t.Helper()
	if x.user == "" {
		x.user = "555000000001"
	}
	if x.org == "" {
		x.org = "X9B01"
	}
	if x.purpose == "" {
		x.purpose = record.Treatment
	}
	if x.permission == "" && x.purpose != record.BreakGlass {
		x.permission = record.AskedYes
	}
	if x.relationship == "" {
		x.relationship = record.Admission
	}
	a := &audit.Access{Requester: record.Requester{Kind: record.Professional, User: x.user, JobRole: "R8000", Organisation: record.ODSCode(x.org)}, Purpose: x.purpose,
		Permission: record.Permission{Kind: x.permission}, Relationship: record.Relationship{Kind: x.relationship}, Evidence: &x.known, Reason: x.refused}
	if x.person {
		a.Requester.Kind = record.Person
	}
	if x.about != "" {
		a.Subject = nhs(c.t, x.about)
	}
	c.position++
	if x.refused != "" {
		return c.judge.Take(audit.Found{Position: c.position, Type: audit.TypeRefused, At: c.at, Access: a, Reason: string(x.refused)})
	}
	if x.purpose == record.BreakGlass { // its Override stands in front
		c.position++
	}
	out := c.judge.Take(audit.Found{Position: c.position, Type: audit.TypeBegin, At: c.at, Access: a})
	x.told.Record = true
	c.position++
	return append(out, c.judge.Take(audit.Found{Position: c.position, Type: audit.TypeReleased, At: c.at, Opens: c.position - 1, Disclosure: &audit.Disclosure{Evidence: &x.told}})...)
}

// rules are those of the first finding that nothing explains; nil for none.
func rules(list []Finding) []audit.AlertKind {
	var out []audit.AlertKind
	if len(list) > 0 {
		for _, f := range list[0].Alert.Rules {
			if f.Explained == "" {
				out = append(out, f.Rule)
			}
		}
	}
	return out
}

// One access by itself: what is found, and what explains it away.
func TestOneAccess(t *testing.T) {
	const ann = "9990000018"
	near := func(kind audit.NearKind, days int) audit.Evidence {
		return audit.Evidence{OwnHeard: true, Near: []audit.Near{{Kind: kind, Days: days}}}
	}
	for name, c := range map[string]struct {
		one
		want []audit.AlertKind
	}{
		"nothing odd":                     {one{told: near(audit.NearEncounter, 0)}, nil},
		"their own record":                {one{known: audit.Evidence{Own: true}, told: near(audit.NearEncounter, 0)}, []audit.AlertKind{OwnRecord}},
		"their own, in their care team":   {one{known: audit.Evidence{Own: true}, told: audit.Evidence{CareTeam: true}}, []audit.AlertKind{OwnRecord}},
		"their kin":                       {one{known: audit.Evidence{Kin: true}, told: near(audit.NearEncounter, 0)}, []audit.AlertKind{NextOfKin}},
		"their kin, whom they care for":   {one{known: audit.Evidence{Kin: true}, told: audit.Evidence{CareTeam: true}}, nil},
		"named as a contact":              {one{told: audit.Evidence{Kin: true, OwnHeard: true, Near: near(audit.NearEncounter, 0).Near}}, []audit.AlertKind{NextOfKin}},
		"the same address":                {one{known: audit.Evidence{SameAddress: true}, told: near(audit.NearEncounter, 0)}, []audit.AlertKind{SameAddress}},
		"a rare surname, nothing near":    {one{known: audit.Evidence{Surname: 3}, told: audit.Evidence{OwnHeard: true}}, []audit.AlertKind{SameSurname, NoContact}},
		"a rare surname, an appointment":  {one{known: audit.Evidence{Surname: 3}, told: near(audit.NearAppointment, 12)}, nil},
		"a very common surname":           {one{known: audit.Evidence{Surname: 1}, told: audit.Evidence{OwnHeard: true}, relationship: record.SelfClaimed}, nil},
		"a colleague":                     {one{known: audit.Evidence{Colleague: true}, told: near(audit.NearEncounter, 30)}, []audit.AlertKind{Colleague}},
		"a colleague on the ward":         {one{known: audit.Evidence{Colleague: true}, told: near(audit.NearEncounter, 0)}, nil},
		"watched":                         {one{known: audit.Evidence{Watched: true}}, []audit.AlertKind{WatchList}},
		"watched, and registered":         {one{known: audit.Evidence{Watched: true, Registered: true}}, nil},
		"died, and nothing near":          {one{known: audit.Evidence{DaysDead: 20}, told: audit.Evidence{OwnHeard: true}}, []audit.AlertKind{Deceased, NoContact}},
		"died yesterday":                  {one{known: audit.Evidence{DaysDead: 2}, told: audit.Evidence{OwnHeard: true}}, nil},
		"nothing near, own part unheard":  {one{relationship: record.SelfClaimed, known: audit.Evidence{Surname: 3}}, nil},
		"the person looks at their own":   {one{person: true, known: audit.Evidence{Own: true}}, nil},
		"refused, and their own all same": {one{known: audit.Evidence{Own: true}, refused: consent.ReasonPermission}, []audit.AlertKind{OwnRecord}},
		"a referral long ago":             {one{known: audit.Evidence{Surname: 3}, told: near(audit.NearReferral, 91)}, []audit.AlertKind{SameSurname, NoContact}},
	} {
		t.Run(name, func(t *testing.T) {
			c.about = ann
			court := newCourt(t)
			got := rules(court.see(c.one))
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(c.want))) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if again := court.see(c.one); len(again) != 0 {
				t.Error("the same matter is an alert twice in a day")
			}
			court.at = court.at.Add(25 * time.Hour)
			if again := court.see(c.one); len(again) > 0 != (len(c.want) > 0) {
				t.Error("the next day it is another matter than it was")
			}
		})
	}
}

// What only several accesses tell.
func TestSeveralAccesses(t *testing.T) {
	person := func(i int) string {
		for n, stem := 0, 500_000; ; stem++ {
			if d, ok := digits(stem); ok {
				if n == i {
					return d
				}
				n++
			}
		}
	}
	t.Run("numbers in a row", func(t *testing.T) {
		c, found := newCourt(t), 0
		for i := range 8 {
			found += len(c.see(one{about: person(i)}))
			c.at = c.at.Add(time.Minute)
		}
		if found != 1 {
			t.Errorf("%d alerts, want 1", found)
		}
	})
	t.Run("numbers that are none", func(t *testing.T) {
		c := newCourt(t)
		for i := range 7 {
			if got := rules(c.see(one{refused: consent.ReasonUnread, known: audit.Evidence{BadNumber: true}})); (i == 5) != slices.Equal(got, []audit.AlertKind{CheckDigit}) {
				t.Errorf("the %dth: %v", i+1, got)
			}
		}
		c.see(one{refused: consent.ReasonUnread}) // about nobody, and no number: nothing
	})
	t.Run("an incident", func(t *testing.T) {
		c := newCourt(t)
		for i := range 4 {
			if got := c.see(one{user: fmt.Sprint("u", i), about: person(9), told: audit.Evidence{OwnHeard: true}}); len(got) != 0 {
				t.Errorf("the %dth: %v", i+1, got)
			}
		}
		got := c.see(one{user: "u4", about: person(9), told: audit.Evidence{OwnHeard: true}})
		var users []string
		for _, f := range got {
			users = append(users, f.Alert.Requester.User)
		}
		if slices.Sort(users); !slices.Equal(users, []string{"u0", "u1", "u2", "u3", "u4"}) {
			t.Errorf("found %v, want all five", users)
		}
		if got := c.see(one{user: "u5", about: person(9), told: audit.Evidence{CareTeam: true}}); len(got) != 0 {
			t.Errorf("who cares for them: %v", got)
		}
	})
	t.Run("break-glass without a follow-up", func(t *testing.T) {
		c := newCourt(t)
		c.see(one{about: person(1), purpose: record.BreakGlass})
		c.see(one{about: person(2), purpose: record.BreakGlass})
		c.see(one{about: person(3), purpose: record.BreakGlass})
		reviewed := c.position - 2
		c.at = c.at.Add(time.Hour)
		c.see(one{about: person(2), user: "another", told: audit.Evidence{CareTeam: true}})
		c.judge.Take(audit.Found{Position: c.position + 1, Type: audit.TypeReview, At: c.at, Opens: reviewed})
		if got := c.judge.Until(c.at.Add(22 * time.Hour)); len(got) != 0 {
			t.Errorf("too early: %v", got)
		}
		got := c.judge.Until(c.at.Add(24 * time.Hour))
		if len(got) != 1 || got[0].Topic[1] != person(1) || got[0].Alert.Rules[0].Rule != NoFollowUp {
			t.Errorf("%d alerts, want the one that nobody followed up or reviewed", len(got))
		}
	})
	t.Run("after a no", func(t *testing.T) {
		c := newCourt(t)
		c.see(one{about: person(1), permission: record.AskedNo, refused: consent.ReasonAskedNo})
		c.at = c.at.Add(time.Hour)
		if got := rules(c.see(one{about: person(1), user: "another", purpose: record.BreakGlass})); got != nil {
			t.Errorf("another user: %v", got)
		}
		if got := rules(c.see(one{about: person(1)})); got != nil {
			t.Errorf("who changed their mind: %v", got)
		}
		if got := rules(c.see(one{about: person(1), purpose: record.BreakGlass})); !slices.Equal(got, []audit.AlertKind{AfterNo}) {
			t.Errorf("break-glass: %v", got)
		}
	})
	t.Run("after an objection", func(t *testing.T) {
		c := newCourt(t)
		for i := range 4 {
			got := rules(c.see(one{about: person(1), refused: consent.ReasonObjection}))
			if (i == 3) != slices.Equal(got, []audit.AlertKind{AfterObjection}) {
				t.Errorf("attempt %d: %v", i+1, got)
			}
			c.at = c.at.Add(time.Minute)
		}
		c = newCourt(t)
		c.see(one{about: person(1), refused: consent.ReasonObjection})
		if got := rules(c.see(one{about: person(1), purpose: record.BreakGlass, refused: consent.ReasonObjection})); !slices.Contains(got, AfterObjection) {
			t.Errorf("with break-glass: %v", got)
		}
	})
	t.Run("volume against peers", func(t *testing.T) {
		c := newCourt(t)
		told := audit.Evidence{OwnHeard: true, Near: []audit.Near{{Kind: audit.NearEncounter}}}
		n := 0
		for range 8 { // eight days of five who see about twenty each
			for u := range 5 {
				for range 18 + u {
					n = (n + 977) % 5000
					if got := c.see(one{user: fmt.Sprint("u", u), about: person(n), told: told}); len(got) != 0 {
						t.Fatalf("an ordinary day: %v", rules(got))
					}
				}
			}
			c.at = c.at.Add(24 * time.Hour)
		}
		found := 0
		for range 120 {
			n = (n + 977) % 5000
			for _, f := range c.see(one{user: "u1", about: person(n), told: told}) {
				if found++; f.Alert.Rules[0].Rule != Volume || f.Alert.Rules[0].Usual != 20 {
					t.Errorf("found %+v", f.Alert.Rules)
				}
			}
		}
		if found != 1 {
			t.Errorf("%d alerts, want 1", found)
		}
	})
	t.Run("again and again, at night", func(t *testing.T) {
		c := newCourt(t)
		// The peers work by day, for ten days.
		for range 10 {
			for i := range 40 {
				c.see(one{user: fmt.Sprint("u", i%4), about: person(100 + i), told: audit.Evidence{OwnHeard: true, Near: []audit.Near{{Kind: audit.NearEncounter}}}})
				c.at = c.at.Add(10 * time.Minute)
			}
			c.at = c.at.Truncate(24 * time.Hour).Add(34 * time.Hour)
		}
		c.at = c.at.Truncate(24 * time.Hour).Add(26 * time.Hour)
		got := rules(c.see(one{user: "u1", about: person(1), relationship: record.SelfClaimed, told: audit.Evidence{OwnHeard: true}}))
		if slices.Sort(got); !slices.Equal(got, []audit.AlertKind{NoContact, OutOfHours, SelfClaimed}) {
			t.Errorf("at night: %v", got)
		}
		c = newCourt(t)
		var last []audit.AlertKind
		for range 4 {
			last = rules(c.see(one{about: person(1), relationship: record.SelfClaimed, told: audit.Evidence{OwnHeard: true}}))
			c.at = c.at.Add(48 * time.Hour)
		}
		if slices.Sort(last); !slices.Equal(last, []audit.AlertKind{NoContact, Repeat, SelfClaimed}) {
			t.Errorf("on the fourth day: %v", last)
		}
	})
}

// digits is the test number of a stem; false if there is none.
func digits(stem int) (string, bool) {
	text := fmt.Sprintf("999%06d", stem)
	sum := 0
	for i, c := range text {
		sum += int(c-'0') * (10 - i)
	}
	text += fmt.Sprint((11 - sum%11) % 11)
	_, err := record.ParseNHSNumber(text)
	return text, err == nil
}

// Whatever comes, what is remembered is bounded.
func TestMemoryIsBounded(t *testing.T) {
	m := newMemory()
	at := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	m.advance(at)
	for i := range uint64(maxOpen + 1000) {
		m.begun(audit.Found{Position: i, At: at, Access: &audit.Access{}})
	}
	if len(m.open) > maxOpen || len(m.order) > maxOpen {
		t.Errorf("%d accesses are remembered", len(m.open))
	}
	if _, ok := m.closed(0); ok {
		t.Error("the oldest is not the one that was forgotten")
	}
	u := m.user(record.Requester{User: "u"})
	for stem := range 3000 {
		if d, ok := digits(stem); ok {
			u.recent.row(nhs(t, d), at, 3)
			u.bad.within(at, time.Hour)
		}
	}
	if len(u.recent) > maxRecent || len(u.bad) > maxRecent {
		t.Errorf("%d and %d are remembered", len(u.recent), len(u.bad))
	}
	for i := range maxViewers + 10 {
		m.viewers(nhs(t, "9990000018"), viewer{record.Requester{User: fmt.Sprint(i)}, uint64(i), at}, true)
	}
	if n := len(m.persons[nhs(t, "9990000018")]); n > maxViewers {
		t.Errorf("%d viewers are remembered", n)
	}
	m.matters[matter{"u", "p", Volume}] = at
	m.advance(at.Add(remembered + 48*time.Hour))
	if len(m.users)+len(m.persons)+len(m.matters) != 0 {
		t.Error("what is too old is remembered")
	}
}
