package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// grace is how long after its context a Fetch may still take to return.
const grace = 2 * time.Second

// nobody is a number of the range that is never issued, and not one of those that samples and test systems are full of.
const nobody = "9998127467"

// Check asks source about one person, of whom the custodian should hold a record, and returns what is not as the contract of broker.Source
// demands; nothing means that all is well. It asks about a dozen times, the first time without haste; nothing is written anywhere. It ends
// when ctx does, and says so: what was not looked at is not well.
func Check(ctx context.Context, source broker.Source, q broker.Query) []Finding {
	var out []Finding
	must := func(rule string, ok bool, err error) {
		if !ok {
			out = append(out, Finding{rule, name(err)})
		}
	}
	if q.Limits.Bytes == 0 {
		q.Limits = broker.DefaultLimits
	}
	reply, err := source.Fetch(ctx, q)
	if err != nil {
		must("the record is returned", false, err)
		must("an error is one of the list and holds nothing from outside", plain(err) && (count(err) == 1 || ctx.Err() != nil), err)
		return out
	}
	out = append(out, judge(reply, q)...)

	for _, look := range []func(){
		func() {
			only := q
			only.Types = []string{"Patient"}
			r, err := source.Fetch(ctx, only)
			must("the Patient alone is returned", err == nil && len(judgePatient(r, q)) == 0, err)
		},
		func() {
			none := q
			n, err := record.ParseNHSNumber(nobody)
			if err == nil {
				none.Subject = record.Subject{Number: n, Standing: record.Live}
				_, err = source.Fetch(ctx, none)
			}
			must("somebody unknown is no record", errors.Is(err, broker.ErrNoRecord), err)
		},
		func() {
			for _, c := range caps(reply) {
				capped := q
				c.set(&capped.Limits)
				_, err := source.Fetch(ctx, capped)
				must("the cap on "+c.name+" is kept", errors.Is(err, broker.ErrTooMuch) && plain(err), err)
			}
		},
		func() {
			over, cancel := context.WithCancel(ctx)
			cancel()
			begin := time.Now()
			_, err := source.Fetch(over, q)
			must("a call that is over is not made", err != nil && plain(err) && time.Since(begin) < grace, err)
		},
		func() { must("calls at once return what one returns", atOnce(ctx, source, q, reply), nil) },
	} {
		if look(); ctx.Err() != nil {
			return append(out, Finding{"there was time to look at everything", ""})
		}
	}
	return out
}

// judge holds a reply against the contract.
func judge(r broker.Reply, q broker.Query) []Finding {
	out := judgePatient(r, q)
	must := func(rule string, ok bool) {
		if !ok {
			out = append(out, Finding{Rule: rule})
		}
	}
	must("the reply names its adapter and its base address without a slash at the end", r.Adapter != "" && r.Base != "" && r.Base[len(r.Base)-1] != '/')
	whole := true
	var raw int64
	for _, e := range r.Entries {
		whole = whole && e.Resource.Get("resourceType").Text() != ""
		raw += int64(len(e.Resource.Raw()))
	}
	must("every entry is a resource", whole)
	must("the bytes held are counted", r.Bytes >= raw && r.Bytes <= q.Limits.Bytes)
	must("the caps are kept", len(r.Entries) <= q.Limits.Resources)
	return out
}

// judgePatient returns what is wrong with whom a reply is about; nothing if all is well.
func judgePatient(r broker.Reply, q broker.Query) []Finding {
	patients, named := 0, 0
	for _, e := range r.Entries {
		if !e.Resource.Get("resourceType").Is("Patient") {
			continue
		}
		patients++
		for id := range e.Resource.Get("identifier").Elems() {
			if id.Get("system").Is(record.NHSNumberSystem) && id.Get("value").Is(q.Subject.Number.Reveal()) {
				named++
				break
			}
		}
	}
	if patients == 1 && named == 1 {
		return nil
	}
	return []Finding{{"exactly one Patient, with the number asked", fmt.Sprintf("%d Patients, %d with that number", patients, named)}}
}

// limit is one cap, set so low that a reply must break it.
type limit struct {
	name string
	set  func(*broker.Limits)
}

func caps(r broker.Reply) []limit {
	out := []limit{
		{"bytes", func(l *broker.Limits) { l.Bytes = max(r.Bytes/2, 1) }},
		{"the bytes of one resource", func(l *broker.Limits) { l.ResourceBytes = 10 }},
		{"the bytes of one string", func(l *broker.Limits) { l.StringBytes = 2 }},
		{"depth", func(l *broker.Limits) { l.Depth = 2 }},
		{"the whole request's bytes", func(l *broker.Limits) { l.Take = func(int64) bool { return false } }},
	}
	if len(r.Entries) > 1 {
		out = append(out, limit{"resources", func(l *broker.Limits) { l.Resources = len(r.Entries) - 1 }})
	}
	return out
}

// atOnce reports whether several calls at the same time return what one returned.
func atOnce(ctx context.Context, source broker.Source, q broker.Query, want broker.Reply) bool {
	const calls = 4
	same := make([]bool, calls)
	var wait sync.WaitGroup
	for i := range calls {
		wait.Go(func() {
			r, err := source.Fetch(ctx, q)
			same[i] = err == nil && len(r.Entries) == len(want.Entries) && len(judgePatient(r, q)) == 0
		})
	}
	wait.Wait()
	for _, ok := range same {
		if !ok {
			return false
		}
	}
	return true
}
