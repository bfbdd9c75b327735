package worklist

import (
	"cmp"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Finding is an access that somebody must look at.
type Finding struct {
	Alert audit.Alert
	At    time.Time // of the access
	Topic []string  // who asked, about whom or on which day, by which rule
}

// Judge reads the ledger's entries in order, and says which accesses somebody must look at. It is pure: it reads no clock, and the same entries give the same
// findings. What it remembers, it has read; all of it is bounded. It is used by one goroutine.
type Judge struct {
	rules *Rules
	seen  memory
	Count map[audit.AlertKind]*Tally // rule by rule, what has come of it
	Total Tally                      // accesses
}

// Tally counts what has come of a rule, or of all accesses.
type Tally struct {
	Judged    int // accesses that were judged
	Touched   int // those that touch the rule, or any
	Explained int // those of them that something explains, whole
	Alerts    int // findings, by their heaviest rule
}

// NewJudge returns one that has read nothing yet.
func NewJudge(r *Rules) *Judge {
	j := &Judge{rules: r, seen: newMemory(), Count: map[audit.AlertKind]*Tally{}}
	for name := range r.rules {
		j.Count[name] = &Tally{}
	}
	return j
}

// Take reads one entry.
func (j *Judge) Take(f audit.Found) []Finding {
	out := j.Until(f.At)
	switch {
	case f.Type == audit.TypeBegin:
		j.seen.begun(f)
		if f.Access.Purpose == record.BreakGlass {
			j.seen.awaitFollowUp(f, j.hours())
		} else {
			j.seen.followedUp(f.Access)
		}
	case f.Type == audit.TypeReview:
		j.seen.reviewed(f.Opens)
	case f.Type == audit.TypeRefused && f.Access != nil:
		out = append(out, j.judge(f.Position, f.At, f.Access, nil, consent.Reason(f.Reason))...)
	case f.Type.Closes():
		if begin, ok := j.seen.closed(f.Opens); ok {
			var told *audit.Evidence
			if f.Disclosure != nil {
				told = f.Disclosure.Evidence
			}
			out = append(out, j.judge(begin.position, begin.at, begin.access, told, consent.Reason(f.Reason))...)
		}
	}
	return out
}

// Until says what must be looked at because a time has come.
func (j *Judge) Until(now time.Time) []Finding {
	j.seen.advance(now)
	x := j.rules.rules[NoFollowUp]
	if x == nil {
		return nil
	}
	var out []Finding
	for _, p := range j.seen.due(now) {
		a := p.access
		fired := []audit.Fired{{Rule: NoFollowUp, Weight: x.weight, Count: x.set["hours"]}}
		j.Count[NoFollowUp].Touched++
		if f, ok := j.finding(p.position, p.at, a, fired); ok {
			out = append(out, f)
		}
	}
	return out
}

func (j *Judge) hours() time.Duration {
	if x := j.rules.rules[NoFollowUp]; x != nil {
		return time.Duration(x.set["hours"]) * time.Hour
	}
	return 0
}

// judge weighs one access whose end is known.
func (j *Judge) judge(position uint64, at time.Time, a *audit.Access, told *audit.Evidence, ended consent.Reason) []Finding {
	if a.Requester.Kind != record.Professional || a.Requester.User == "" {
		return nil // the person and their carers look at their own; a system is told nothing
	}
	if a.Subject.IsZero() && (a.Evidence == nil || !a.Evidence.BadNumber) {
		return nil // a request that could not be read, or is about nobody
	}
	e := audit.Evidence{}.With(a.Evidence).With(told)
	j.Total.Judged++
	user := j.seen.user(a.Requester)
	var fired []audit.Fired
	touch := func(name audit.AlertKind, holds bool, count, usual int) {
		x := j.rules.rules[name]
		if x == nil || !holds {
			return
		}
		f := audit.Fired{Rule: name, Weight: x.weight, Count: count, Usual: usual, Explained: x.by(&e)}
		if name == SameSurname {
			f.Weight = []int{0, x.set["very-common"], x.set["common"], x.weight}[count]
		}
		t := j.Count[name]
		if t.Touched++; f.Explained != "" {
			t.Explained++
		}
		fired = append(fired, f)
	}
	set := func(name audit.AlertKind, key string) int {
		if x := j.rules.rules[name]; x != nil {
			return x.set[key]
		}
		return 0
	}
	if e.BadNumber {
		n := user.bad.within(at, time.Hour)
		touch(CheckDigit, n >= set(CheckDigit, "least"), n, 0)
	}
	var others []viewer
	if !a.Subject.IsZero() {
		touch(OwnRecord, e.Own, 0, 0)
		touch(NextOfKin, e.Kin, 0, 0)
		touch(SameAddress, e.SameAddress && !e.Own, 0, 0)
		touch(SameSurname, e.Surname >= 1 && e.Surname <= 3 && !e.Own, e.Surname, 0)
		touch(Colleague, e.Colleague && !e.Own, 0, 0)
		touch(WatchList, e.Watched, 0, 0)
		touch(Deceased, e.DaysDead > set(Deceased, "days"), e.DaysDead, 0)
		touch(SelfClaimed, a.Relationship.Kind == record.SelfClaimed || a.Relationship.Kind == record.RelationshipNone, 0, 0)
		if x := j.rules.rules[NoContact]; x != nil {
			touch(NoContact, e.Record && e.OwnHeard && x.by(&e) == "", 0, 0)
		}
		quiet, known := j.seen.quiet(a.Requester, at, set(OutOfHours, "quiet"), set(OutOfHours, "least"))
		touch(OutOfHours, known && quiet, at.In(london).Hour(), 0)
		people := user.sees(a.Subject)
		if least := set(Volume, "least"); least > 0 && people >= least {
			median, deviation, known := j.seen.usual(a.Requester, set(Volume, "days"))
			touch(Volume, known && people > median+set(Volume, "deviations")*deviation, people, median)
		}
		row := user.recent.row(a.Subject, at, set(Sequential, "gap"))
		touch(Sequential, row >= set(Sequential, "least"), row, 0)

		pair := j.seen.pair(a.Requester.User, a.Subject, at)
		attempts := pair.attempt(at, a.Purpose == record.BreakGlass, set(AfterObjection, "least"), refusedByObjection(ended))
		touch(AfterObjection, attempts >= set(AfterObjection, "least"), attempts, 0)
		touch(AfterNo, a.Purpose == record.BreakGlass && pair.saidNo(at), 0, 0)
		if ended == consent.ReasonAskedNo || a.Permission.Kind == record.AskedNo {
			pair.no = at
		}
		if x := j.rules.rules[Repeat]; x != nil && told != nil { // of those who were shown something
			days := pair.day(x.by(&e) == "")
			touch(Repeat, days >= x.set["least"] && x.by(&e) == "", days, 0)
		}
		if x := j.rules.rules[IncidentWatch]; x != nil && told != nil {
			others = j.seen.viewers(a.Subject, viewer{a.Requester, position, at}, x.by(&e) == "")
			touch(IncidentWatch, len(others) >= x.set["least"], len(others), 0)
		}
	}
	j.seen.learn(a.Requester, at)
	if len(fired) == 0 {
		return nil
	}
	j.Total.Touched++
	if !slices.ContainsFunc(fired, func(f audit.Fired) bool { return f.Explained == "" }) {
		j.Total.Explained++
	}
	var out []Finding
	if f, ok := j.finding(position, at, a, fired); ok {
		out = append(out, f)
		if x := j.rules.rules[IncidentWatch]; x != nil && len(others) >= x.set["least"] {
			// It takes several to make an incident: those who were first were not known to be of one.
			for _, v := range others {
				if v.position == position {
					continue
				}
				first := *a
				first.Requester = v.requester
				count := audit.Fired{Rule: IncidentWatch, Weight: max(x.weight, j.rules.at), Count: len(others)}
				if f, ok := j.finding(v.position, v.at, &first, []audit.Fired{count}); ok {
					out = append(out, f)
				}
			}
		}
	}
	return out
}

// refusedByObjection reports whether what a person objects to has refused a request.
func refusedByObjection(r consent.Reason) bool { return r == consent.ReasonObjection }

// perDay are the rules whose matter is what one user does in a day, whoever the people are.
var perDay = map[audit.AlertKind]bool{Volume: true, Sequential: true, CheckDigit: true}

// finding adds up what nothing explains; false if that makes no alert.
func (j *Judge) finding(position uint64, at time.Time, a *audit.Access, fired []audit.Fired) (Finding, bool) {
	score := 0
	for _, f := range fired {
		if f.Explained == "" {
			score += f.Weight
		}
	}
	if score < j.rules.at {
		return Finding{}, false
	}
	slices.SortStableFunc(fired, func(x, y audit.Fired) int {
		return cmp.Or(cmp.Compare(min(len(x.Explained), 1), min(len(y.Explained), 1)), cmp.Compare(y.Weight, x.Weight))
	})
	rule := fired[0].Rule
	about := a.Subject.Reveal()
	if perDay[rule] {
		about = at.In(london).Format(time.DateOnly)
	}
	topic := []string{a.Requester.User, about, string(rule)}
	if !j.seen.fresh(matter{a.Requester.User, about, rule}, at, j.rules.again) {
		return Finding{}, false
	}
	j.Total.Alerts++
	j.Count[rule].Alerts++
	return Finding{audit.Alert{Of: position, Requester: a.Requester, Rules: fired, Score: score, Version: j.rules.version}, at, topic}, true
}
