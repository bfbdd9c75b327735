package adaptertest

import (
	"context"
	"fmt"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The rules of a custodian's locator that is asked live.
const (
	ruleIndexReached = "it can be reached and gives a clear answer"
	ruleIndexTime    = "it answers within its time"
	ruleIndexNobody  = "it does not list somebody unknown"
	ruleIndexFresh   = "its custodian has brought it up to date lately enough"
	ruleIndexLists   = "it lists a person whom its custodian holds"
)

// indexAdvice says what to do about a rule of a locator that does not hold.
var indexAdvice = map[string]string{
	ruleIndexTime:   "Its custodian would be asked about everybody, later than without a locator. Ask its supplier why it is slow, or give it more time with `timeout`.",
	ruleIndexNobody: "Whoever is listed is asked for, so this costs time and nothing else. Ask who has listed an unknown number, and why.",
	ruleIndexFresh: "Its custodian would be asked about everybody. The custodian must renew the pointers about the marker's number (`markerNumber`), one of each type that it lists, " +
		"whenever it has brought the index up to date; our organisation must be allowed to see them.",
	ruleIndexLists: "This person's record, and that of everybody like them, would be left out of answers. Take the custodian out of `unasked` in the policy table until " +
		"it is known why the person is not listed.",
}

// ExamineIndex asks a custodian's locator about somebody unknown, and about the query's person if there is one, of whom the custodian should hold a record;
// and returns every rule. freshFor and within are its settings.
func ExamineIndex(ctx context.Context, index broker.Index, q broker.Query, freshFor, within time.Duration) []Result {
	var out []Result
	say := func(rule string, o Outcome, evidence, what string) {
		if what == "" && (o == Fail || o == Note) {
			what = indexAdvice[rule]
		}
		out = append(out, Result{rule, o, evidence, what})
	}
	judged := func(rule string, ok bool, otherwise Outcome, evidence string) {
		if ok {
			otherwise = Pass
		}
		say(rule, otherwise, evidence, "")
	}
	person := q.Subject
	unknown, err := record.ParseNHSNumber(nobody)
	if err != nil {
		panic(err) // a number of ours
	}
	q.Subject = record.Subject{Number: unknown, Standing: record.Live}
	from := time.Now()
	found, err := index.Locate(ctx, q)
	quick := time.Since(from) <= within
	rest := []string{ruleIndexTime, ruleIndexNobody, ruleIndexFresh, ruleIndexLists}
	if err != nil {
		say(ruleIndexReached, Fail, name(err), remedy(err))
		for _, rule := range rest {
			say(rule, Skipped, "it does not answer", "")
		}
		return out
	}
	say(ruleIndexReached, Pass, "", "")
	judged(ruleIndexTime, quick, Fail, "answered in "+took(from)+" of "+within.String())
	judged(ruleIndexNobody, !found.Listed, Note, "")
	age := time.Since(found.AsOf)
	evidence := fmt.Sprintf("%s ago, of %s", age.Round(time.Second), freshFor)
	if found.AsOf.IsZero() {
		evidence = "nothing says when"
	}
	judged(ruleIndexFresh, !found.AsOf.IsZero() && age >= 0 && age <= freshFor, Fail, evidence)
	if person.Number.IsZero() {
		say(ruleIndexLists, Skipped, "it needs a test person whom the custodian holds", "")
		return out
	}
	q.Subject = person
	if found, err = index.Locate(ctx, q); err != nil {
		say(ruleIndexLists, Fail, name(err), remedy(err))
		return out
	}
	judged(ruleIndexLists, found.Listed, Fail, "")
	return out
}
