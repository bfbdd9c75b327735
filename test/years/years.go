// Package years invents what a region does with shared records over the years, so that questions can be asked of a ledger as it will be: hospitals that never sleep and look at
// the people on their wards day after day, surgeries and clinics that keep hours, quiet weekends, people who come once and people who come all the time.
package years

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Plan says how much is made. The same plan makes the same acts.
type Plan struct {
	Seed     uint64
	Acts     int
	People   int
	Users    int
	From     time.Time
	Duration time.Duration
}

// OfEntries is a plan that leaves some number of entries behind over 24 months: an act is two entries and a little more. The density is that of ten million entries of 5,000 users
// about 500,000 people, so that a person's history is as long in a small ledger as in a large one.
func OfEntries(n int) Plan {
	return Plan{Seed: 1, Acts: n * 100 / 207, People: max(n/20, 100), Users: max(n/2000, 40), From: time.Date(2024, 11, 1, 0, 0, 0, 0, time.UTC), Duration: 730 * 24 * time.Hour}
}

// Kind is what is done in an act.
type Kind uint8

// The kinds of act.
const (
	Whole   Kind = iota // a record is read in one answer
	Stream              // custodian by custodian
	Nothing             // nobody holds anything
	Refused             // without permission
	Broken              // break-glass
	Choice              // an objection is recorded
	Own                 // the person looks at their own record
)

// Act is one thing that somebody does.
type Act struct {
	At     time.Time
	Kind   Kind
	Person int // 0 to People-1
	Place  Place
	User   int // within all users
}

// Place is where somebody works.
type Place struct {
	ODS    string
	Ward   bool // works day and night, and sees the same people for days
	people []int
}

// Custodians are the organisations that hold records, and the first places of all: the rest hold none. All of them are asked for everybody's.
const Custodians = 4

// Places are as many organisations as there are: a ninth of them hospitals.
const places = 45

// Each calls do with each act, in order of time.
func (p Plan) Each(do func(Act) error) error {
	rng := rand.New(rand.NewPCG(p.Seed, 77))
	often := rand.NewZipf(rng, 1.15, 40, uint64(p.People-1)) // few come all the time, most once in a while
	all := make([]Place, places)
	for i := range all {
		all[i] = Place{ODS: fmt.Sprintf("X9%c%02d", 'A'+i%24, i/24+1), Ward: i%9 < 2}
	}
	total := 0.0
	hours := int(p.Duration / time.Hour)
	weight := make([]float64, hours)
	for h := range weight {
		weight[h] = pace(p.From.Add(time.Duration(h) * time.Hour))
		total += weight[h]
	}
	made, due := 0, 0.0
	for h, w := range weight {
		due += w / total * float64(p.Acts)
		n := int(due) - made
		at := p.From.Add(time.Duration(h) * time.Hour)
		for i := range n {
			a := p.act(rng, often, all, at.Add(time.Duration(i)*time.Hour/time.Duration(n+1)))
			if err := do(a); err != nil {
				return err
			}
			made++
		}
	}
	return nil
}

// pace is how busy an hour is: by night a fifth, and two peaks by day; Saturdays and Sundays half and less; summer and Christmas quieter, January busier.
func pace(t time.Time) float64 {
	hour := [24]float64{0.12, 0.1, 0.09, 0.09, 0.1, 0.15, 0.25, 0.5, 0.9, 1.25, 1.35, 1.3, 0.95, 1.0, 1.2, 1.2, 1.0, 0.75, 0.5, 0.4, 0.35, 0.3, 0.22, 0.15}[t.Hour()]
	switch t.Weekday() {
	case time.Saturday:
		hour *= 0.45
	case time.Sunday:
		hour *= 0.35
	}
	switch {
	case t.Month() == time.December && t.Day() >= 24:
		hour *= 0.5
	case t.Month() == time.August:
		hour *= 0.85
	case t.Month() == time.January:
		hour *= 1.15
	}
	return hour
}

// keeps reports whether a place works at an hour: wards always, everybody else in office hours.
func (x *Place) keeps(t time.Time) bool {
	return x.Ward || t.Weekday() != time.Saturday && t.Weekday() != time.Sunday && t.Hour() >= 7 && t.Hour() < 20
}

func (p Plan) act(rng *rand.Rand, often *rand.Zipf, all []Place, at time.Time) Act {
	var x *Place
	for x == nil || !x.keeps(at) {
		if x = &all[rng.IntN(len(all))]; rng.IntN(3) == 0 {
			x = &all[rng.IntN(2)] // hospitals do the most
		}
	}
	a := Act{At: at, Place: *x, Person: int(often.Uint64())}
	if x.Ward { // the people on the ward: one leaves and one comes with every tenth look
		if len(x.people) < 30 || rng.IntN(10) == 0 {
			x.people = append(x.people, a.Person)
			x.people = x.people[max(0, len(x.people)-30):]
		}
		a.Person = x.people[rng.IntN(len(x.people))]
	}
	for i := range all {
		if all[i].ODS == x.ODS {
			a.User = i + places*rng.IntN(max(p.Users/places, 1))
		}
	}
	a.Place.people = nil
	switch n := rng.IntN(1000); {
	case n < 2:
		a.Kind = Broken
	case n < 6:
		a.Kind = Choice
	case n < 30:
		a.Kind = Refused
	case n < 90:
		a.Kind = Nothing
	case n < 120:
		a.Kind = Own
	case n < 200:
		a.Kind = Stream
	}
	return a
}
