package worklist_test

import (
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/worklist"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// plant puts fifty snoopers among the staff, of fourteen kinds, on days of the year. They do as they have been caught doing: inquiries and sanctions that were
// published tell of each kind.
func (y *year) plant(t *testing.T, total int) {
	t.Helper()
	kinds := []struct {
		name  string
		n     int
		rules []audit.AlertKind
		do    func(y *year, c *planted, who int, date time.Time) []ask
	}{
		{"their own record", 4, []audit.AlertKind{worklist.OwnRecord}, func(y *year, c *planted, who int, date time.Time) []ask {
			return y.looks(c, who, y.staff[who].self, y.onShift(who, date))
		}},
		{"at home", 4, []audit.AlertKind{worklist.NextOfKin, worklist.SameAddress}, func(y *year, c *planted, who int, date time.Time) []ask {
			return y.looks(c, who, y.staff[who].kin[0], y.onShift(who, date))
		}},
		{"family elsewhere", 3, []audit.AlertKind{worklist.SameSurname, worklist.NoContact}, func(y *year, c *planted, who int, date time.Time) []ask {
			about := y.other(who, func(p *person) bool {
				return p.family == y.people[y.staff[who].self].family && p.house != y.people[y.staff[who].self].house
			})
			return append(y.looks(c, who, about, y.onShift(who, date)), y.looks(c, who, about, y.onShift(who, date).Add(20*time.Minute))...)
		}},
		{"a colleague", 4, []audit.AlertKind{worklist.Colleague}, func(y *year, c *planted, who int, date time.Time) []ask {
			for i := range y.staff {
				if i != who && y.settings[y.staff[i].setting].org == y.settings[y.staff[who].setting].org && y.staff[i].self/3 != y.staff[who].self/3 {
					return y.looks(c, who, y.staff[i].self, y.onShift(who, date))
				}
			}
			panic("somebody has no colleague")
		}},
		{"somebody well known", 4, []audit.AlertKind{worklist.WatchList}, func(y *year, c *planted, who int, date time.Time) []ask {
			return y.looks(c, who, y.other(who, func(p *person) bool { return p.watched }), y.onShift(who, date))
		}},
		{"somebody in the news", 5, []audit.AlertKind{worklist.IncidentWatch}, func(y *year, c *planted, who int, date time.Time) []ask {
			return y.looks(c, who, y.inTheNews, y.onShift(who, date))
		}},
		{"a harvest", 4, []audit.AlertKind{worklist.Volume}, func(y *year, c *planted, who int, date time.Time) (out []ask) {
			at := y.onShift(who, date)
			for range 180 + y.rng.IntN(150) { // everybody on the list that somebody sold
				at = at.Add(time.Duration(30+y.rng.IntN(60)) * time.Second)
				out = append(out, y.looks(c, who, y.rng.IntN(len(y.people)), at)...)
			}
			c.about = record.NHSNumber{}
			return out
		}},
		{"number after number", 3, []audit.AlertKind{worklist.Sequential}, func(y *year, c *planted, who int, date time.Time) (out []ask) {
			at := y.onShift(who, date)
			for stem := 300_000 + y.rng.IntN(500_000); len(out) < 25; stem++ { // one after the other, whoever has it
				if n, ok := numberOf(stem); ok {
					at = at.Add(time.Minute)
					out = append(out, ask{who: who, about: y.byNumber(n), number: n, at: at, purpose: record.Treatment, permission: record.AskedYes, snoop: c})
				}
			}
			c.about = record.NHSNumber{}
			return out
		}},
		{"guessed numbers", 3, []audit.AlertKind{worklist.CheckDigit}, func(y *year, c *planted, who int, date time.Time) (out []ask) {
			at := y.onShift(who, date)
			for range 30 { // ten in eleven of which are none
				at = at.Add(time.Duration(20+y.rng.IntN(40)) * time.Second)
				out = append(out, ask{who: who, about: -1, at: at, purpose: record.Treatment, permission: record.AskedYes, snoop: c})
			}
			return out
		}},
		{"somebody they left", 4, []audit.AlertKind{worklist.Repeat, worklist.NoContact, worklist.SelfClaimed}, func(y *year, c *planted, who int, date time.Time) (out []ask) {
			about := y.other(who, func(p *person) bool { return p.family != y.people[y.staff[who].self].family })
			for d := range 10 { // every other evening for three weeks
				out = append(out, y.looks(c, who, about, y.onShift(who, date.AddDate(0, 0, 2*d)))...)
			}
			return out
		}},
		{"somebody who died", 3, []audit.AlertKind{worklist.Deceased}, func(y *year, c *planted, who int, date time.Time) []ask {
			about := y.other(who, func(p *person) bool { return p.died.IsZero() })
			y.people[about].died = date.AddDate(0, 0, -18)
			return y.looks(c, who, about, y.onShift(who, date))
		}},
		{"broken glass", 3, []audit.AlertKind{worklist.NoFollowUp}, func(y *year, c *planted, who int, date time.Time) []ask {
			x := y.looks(c, who, y.other(who, func(p *person) bool { return p.died.IsZero() }), y.onShift(who, date))
			x[0].purpose, x[0].permission = record.BreakGlass, ""
			return x
		}},
		{"after a no", 3, []audit.AlertKind{worklist.AfterNo}, func(y *year, c *planted, who int, date time.Time) []ask {
			at := y.onShift(who, date)
			about := y.other(who, func(p *person) bool { return p.died.IsZero() })
			no, then := y.looks(c, who, about, at), y.looks(c, who, about, at.Add(10*time.Minute))
			no[0].permission = record.AskedNo
			then[0].purpose, then[0].permission = record.BreakGlass, ""
			return append(no, then...)
		}},
		{"after an objection", 3, []audit.AlertKind{worklist.AfterObjection}, func(y *year, c *planted, who int, date time.Time) (out []ask) {
			about := y.other(who, func(p *person) bool { return p.died.IsZero() })
			y.people[about].objects = true
			for i := range 4 {
				out = append(out, y.looks(c, who, about, y.onShift(who, date).Add(time.Duration(i)*5*time.Minute))...)
			}
			return out
		}},
	}
	y.inTheNews = y.rng.IntN(len(y.people))
	news := 60 + y.rng.IntN(y.days-90)
	used := map[int]bool{}
	for _, k := range kinds {
		for range k.n {
			// Anybody whose organisation holds records may be one; of those in the news, those who work where the person was taken.
			who := 0
			for ok := false; !ok; {
				who = y.rng.IntN(len(y.staff))
				s := &y.settings[y.staff[who].setting]
				ok = !used[who] && s.holds && len(y.staff[who].kin) > 0
				switch k.name {
				case "somebody in the news":
					ok = ok && s.org == "X9B01"
				case "family elsewhere":
					ok = ok && y.rarelyNamed(who)
				}
			}
			used[who] = true
			c := &planted{kind: k.name, rules: k.rules, user: y.staff[who].user, found: map[audit.AlertKind]time.Duration{}}
			y.cases = append(y.cases, c)
			day := 45 + y.rng.IntN(y.days-75)
			if k.name == "somebody in the news" {
				day = news
			}
			do := k.do
			y.plans[day] = append(y.plans[day], func(date time.Time) []ask { return do(y, c, who, date) })
		}
	}
	if len(y.cases) != total {
		t.Fatalf("%d snoopers are planted, want %d", len(y.cases), total)
	}
}

// rarelyNamed reports whether fewer than one in a thousand share somebody's name, and some do.
func (y *year) rarelyNamed(who int) bool {
	self := y.people[y.staff[who].self]
	n := 0
	for _, p := range y.people {
		if p.family == self.family && p.house != self.house {
			n++
		}
	}
	return n > 0 && n < len(y.people)/1000
}

// snoops are the planted accesses of a day, and those that are over from the days before.
func (y *year) snoops(n int, date time.Time) []ask {
	for _, plan := range y.plans[n] {
		y.coming = append(y.coming, plan(date)...)
	}
	var out, later []ask
	for _, x := range y.coming {
		if x.at.Before(date.AddDate(0, 0, 1)) {
			out = append(out, x)
		} else {
			later = append(later, x)
		}
	}
	y.coming = later
	return out
}

// looks is one look at somebody with whom nothing ties the organisation.
func (y *year) looks(c *planted, who, about int, at time.Time) []ask {
	c.about = y.people[about].number
	return []ask{{who: who, about: about, at: at, purpose: record.Treatment, permission: record.AskedYes, snoop: c}}
}

// onShift is a time at which somebody may be at work.
func (y *year) onShift(who int, date time.Time) time.Time {
	s := &y.settings[y.staff[who].setting]
	shift := s.shifts[y.rng.IntN(len(s.shifts))]
	return date.Add(time.Duration(shift[0])*time.Hour + time.Duration(y.rng.Float64()*float64(min(shift[1], 23)-shift[0])*0.8*float64(time.Hour)))
}

// other is somebody who is neither the member of staff nor of their household, nor staff.
func (y *year) other(who int, is func(*person) bool) int {
	for range 50 * len(y.people) {
		i := y.rng.IntN(len(y.people))
		if p := &y.people[i]; p.staffUser == 0 && i/3 != y.staff[who].self/3 && !p.objects && is(p) {
			return i
		}
	}
	panic("there is no such person")
}

// byNumber is who has a number; -2 for nobody.
func (y *year) byNumber(n record.NHSNumber) int {
	for i := range y.people {
		if y.people[i].number == n {
			return i
		}
	}
	return -2
}
