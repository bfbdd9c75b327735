package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // Europe/London on any machine

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Activity is what happened in a time, in counts: of an organisation's staff, and of its records. It names nobody.
type Activity struct {
	From, Until time.Time
	Days        []DayCount       // by day in London, purpose; in order
	Outcomes    []NamedCount     // how accesses ended, by type of entry; most first
	Refusals    []NamedCount     // why, by reason: of its staff
	BreakGlass  BreakGlassCount  // uses of break-glass
	Alerts      []Precision      // alerts about its staff, rule by rule
	Custodians  []CustodianCount // how each that was asked stood in the answers, by key: to others, those alone that hold its records
	Accesses    int
	Questions   int  // to the ledger, or about choices, that were refused: no accesses, and counted nowhere else
	Cut         bool // there was more than is counted
}

// DayCount counts the accesses of a day with a purpose.
type DayCount struct {
	Day     string // YYYY-MM-DD
	Purpose record.Purpose
	Count   int
}

// NamedCount counts something by a word of a closed list.
type NamedCount struct {
	Name  string
	Count int
}

// BreakGlassCount counts uses of break-glass.
type BreakGlassCount struct{ Used, Justified, NotJustified, Referred, Open int }

// CustodianCount counts the states in which a custodian's part stood.
type CustodianCount struct {
	Key    record.CustodianKey
	States []NamedCount
}

// MaxActivity is the longest time that is counted at once; and maxCounted how many entries.
const (
	MaxActivity  = 32 * 24 * time.Hour
	maxCounted   = 200_000
	activityTime = 30 * time.Second
)

// Activity records the question and counts what happened within the bounds from a time until another.
func (l *Ledger) Activity(ctx context.Context, by Actor, in Bounds, from, until time.Time) (Activity, Receipt, error) {
	if !from.Before(until) || until.Sub(from) > MaxActivity {
		return Activity{}, Receipt{}, fmt.Errorf("%w: a time of at most 32 days", ErrInvalid)
	}
	body := &questionBody{Kind: questionActivity, From: stamp(from), Until: stamp(until)}
	body.within(&in)
	receipt, err := l.question(ctx, by, body, nil)
	if err != nil {
		return Activity{}, Receipt{}, err
	}
	zone, err := time.LoadLocation("Europe/London")
	if err != nil {
		return Activity{}, Receipt{}, fmt.Errorf("%w: the zone of Europe/London is missing", ErrUnavailable)
	}
	out := Activity{From: from, Until: until}
	days, outcomes, refusals := map[DayCount]int{}, map[string]int{}, map[string]int{}
	states := map[record.CustodianKey]map[string]int{}
	q := Search{From: from, Until: until, Within: in.Organisation, Custodians: in.Custodians, Overseen: in.Overseen, Everywhere: in.Everywhere, Limit: lastBatch,
		Types: []EntryType{TypeBegin, TypeReleased, TypeRefused, TypeNothing, TypeCancelled, TypeAbandoned, TypeOverride}}
	counting, cancel := context.WithTimeout(ctx, activityTime)
	defer cancel()
	end := patience(counting)
	for read := 0; ; {
		full := false
		err := l.view(counting, func(r Reader) error { // a view for each page, so that none stands long
			keys, err := l.keysFor(r)
			if err != nil {
				return err
			}
			positions, err := r.Search(keys.query(q, receipt.Position))
			if err != nil {
				return err
			}
			if full = len(positions) > lastBatch; full {
				positions = positions[:lastBatch]
			}
			if len(positions) == 0 {
				return nil
			}
			q.Before = positions[len(positions)-1]
			read += len(positions)
			at := answering{r, keys, endings{}}
			list, err := at.entries(positions)
			if err != nil {
				return err
			}
			begins, err := at.openings(list)
			if err != nil {
				return err
			}
			for _, s := range list {
				f := s.Found
				if f.Type == TypeRefused && f.Access != nil && !f.Access.AsksRecord() {
					out.Questions++
					continue
				}
				if f.Access != nil && f.Type != TypeOverride { // an access, or the attempt at one
					out.Accesses++
					days[DayCount{Day: f.At.In(zone).Format(time.DateOnly), Purpose: f.Access.Purpose}]++
				}
				access := f.Access
				if access == nil {
					access = begins[f.Opens].Access
				}
				ours := in.Everywhere || access != nil && in.HasStaff(access.Requester.Organisation)
				switch {
				case f.Type == TypeOverride:
					if err := out.BreakGlass.add(r, keys, f.Position); err != nil {
						return err
					}
				case f.Type.Closes():
					outcomes[f.Type.String()]++
					if f.Type == TypeRefused && ours { // why others' staff were refused is about everybody whom they would have asked
						refusals[f.Reason]++
					}
				}
				if f.Disclosure == nil {
					continue
				}
				for _, c := range f.Disclosure.Custodians {
					if !ours && !in.Holds(c.Key) { // whom others asked beside our own is not ours to know
						continue
					}
					if _, counted := states[c.Key]; !counted {
						states[c.Key] = map[string]int{}
					}
					if c.State != record.Withheld && c.State != record.NotAsked { // what people and rules held back is no affair of this
						states[c.Key][string(c.State)]++
					}
				}
			}
			return nil
		})
		if err != nil {
			return Activity{}, receipt, err
		}
		if !full {
			break
		}
		if read >= maxCounted || time.Now().After(end) {
			out.Cut = true
			break
		}
	}
	for d, n := range days {
		d.Count = n
		out.Days = append(out.Days, d)
	}
	slices.SortFunc(out.Days, func(a, b DayCount) int { return strings.Compare(a.Day+string(a.Purpose), b.Day+string(b.Purpose)) })
	out.Outcomes, out.Refusals = counted(outcomes), counted(refusals)
	for k, m := range states {
		out.Custodians = append(out.Custodians, CustodianCount{k, counted(m)})
	}
	slices.SortFunc(out.Custodians, func(a, b CustodianCount) int { return strings.Compare(string(a.Key), string(b.Key)) })
	var cut bool
	out.Alerts, cut, err = l.Precision(ctx, by, in, from, until)
	out.Cut = out.Cut || cut
	return out, receipt, err
}

func counted(m map[string]int) []NamedCount {
	var out []NamedCount
	for name, n := range m {
		out = append(out, NamedCount{name, n})
	}
	slices.SortFunc(out, func(a, b NamedCount) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// add counts one use, and what became of it.
func (c *BreakGlassCount) add(r Reader, k *Keys, position uint64) error {
	c.Used++
	rows, err := r.Alerts(AnyAlert, position, 1)
	if err != nil {
		return err
	}
	if len(rows) == 0 || rows[0].Position != position || rows[0].Review == 0 {
		c.Open++
		return nil
	}
	e, err := entryAt(r, rows[0].Review)
	if err != nil {
		return err
	}
	if e.Sealed == nil {
		return nil
	}
	f, err := found(k, &e)
	if err != nil {
		return err
	}
	switch ReviewOutcome(f.Reason) {
	case Justified:
		c.Justified++
	case NotJustified:
		c.NotJustified++
	case Referred:
		c.Referred++
	}
	return nil
}
