package worklist_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/worklist"
)

// A year of accesses, and fifty snoopers: each is found by the rules that are there for such a one, within a minute of what gives them away; those who do
// their work are hardly ever bothered. MCR_TORTURE=long makes three million accesses of it.
func TestAYear(t *testing.T) {
	people, staff, days, least := 40_000, 160, 364, 300_000
	if os.Getenv("MCR_TORTURE") == "long" {
		people, staff, days, least = 300_000, 1120, 364, 3_000_000
	}
	y := newYear(20261129, people, staff, days)
	y.plant(t, 50)
	judge := worklist.NewJudge(worklist.Shipped())
	snoopAt := map[uint64]*planted{}
	false_ := 0
	wrong := map[audit.AlertKind]int{}
	var now, lastInTheNews time.Time
	note := func(list []worklist.Finding) {
		for _, f := range list {
			c := snoopAt[f.Alert.Of]
			if c == nil {
				false_++
				wrong[f.Alert.Rules[0].Rule]++
				continue
			}
			for _, r := range f.Alert.Rules {
				if _, again := c.found[r.Rule]; !again && r.Explained == "" {
					c.found[r.Rule] = now.Sub(f.At)
					if r.Rule == worklist.IncidentWatch { // it takes several: since the last of them looked
						c.found[r.Rule] = now.Sub(lastInTheNews)
					}
				}
			}
		}
	}
	now = y.begin
	y.take = func(f audit.Found, snoop *planted) {
		for t := now.Add(30 * time.Second); t.Before(f.At); t = t.Add(30 * time.Second) { // a watcher looks at the clock where nothing is recorded
			now = t
			note(judge.Until(t))
		}
		if now = f.At; snoop != nil && f.Access != nil {
			if snoopAt[f.Position] = snoop; snoop.kind == "somebody in the news" {
				lastInTheNews = f.At
			}
		}
		note(judge.Take(f))
	}
	for n := range days {
		y.day(n)
	}
	if y.honest < least {
		t.Fatalf("%d honest accesses, want %d", y.honest, least)
	}

	var out strings.Builder
	fmt.Fprintf(&out, "%d honest accesses of %d staff to %d people over %d days, %d planted cases\n", y.honest, len(y.staff), len(y.people), days, len(y.cases))
	fmt.Fprintf(&out, "%-16s %8s %8s %10s %8s %8s %8s\n", "rule", "touched", "explained", "per cent", "alerts", "honest", "recall")
	for _, rule := range worklist.Shipped().Names() {
		cases, found := 0, 0
		for _, c := range y.cases {
			if slices.Contains(c.rules, rule) {
				cases++
				if _, ok := c.found[rule]; ok {
					found++
				}
			}
		}
		n := judge.Count[rule]
		recall := "-"
		if cases > 0 {
			recall = fmt.Sprintf("%d/%d", found, cases)
		}
		fmt.Fprintf(&out, "%-16s %8d %8d %9.1f%% %8d %8d %8s\n", rule, n.Touched, n.Explained, 100*float64(n.Explained)/float64(max(n.Touched, 1)), n.Alerts, wrong[rule], recall)
	}
	perThousand := 1000 * float64(false_) / float64(y.honest)
	explained := 100 * float64(judge.Total.Explained) / float64(judge.Total.Touched)
	fmt.Fprintf(&out, "alerts about honest accesses: %d, %.3f in a thousand; of %d accesses that touch a rule %.1f%% are explained\n", false_, perThousand, judge.Total.Touched, explained)
	t.Log("\n" + out.String())

	for _, c := range y.cases {
		for _, rule := range c.rules {
			late, ok := c.found[rule]
			// Of a household either tells: who is not in the list of kin lives at the same address.
			if _, other := c.found[worklist.SameAddress]; !ok && rule == worklist.NextOfKin && other {
				continue
			}
			if rule == worklist.NoFollowUp { // that there was none is known when the time for it is over
				late -= 24 * time.Hour
			}
			if !ok {
				t.Errorf("%s: not found by %s", c.kind, rule)
			} else if late > time.Minute {
				t.Errorf("%s: found by %s only %s later", c.kind, rule, late)
			}
		}
	}
	if perThousand > 2 {
		t.Errorf("%.2f alerts for a thousand honest accesses, want at most 2", perThousand)
	}
	if explained < 90 {
		t.Errorf("%.1f%% of the accesses that touch a rule are explained, want at least 90%%", explained)
	}
}
