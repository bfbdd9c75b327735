package adaptertest

import (
	"context"
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

// judge holds a reply against the contract, and returns what is wrong.
func judge(r broker.Reply, q broker.Query) []Finding {
	out := judgePatient(r, q)
	for _, x := range shape(r, q) {
		if !x.ok {
			out = append(out, Finding{Rule: x.rule})
		}
	}
	return out
}

// trait is one rule about a reply, and whether it holds.
type trait struct {
	rule string
	ok   bool
}

// shape holds a reply against all of the contract but whom it is about.
func shape(r broker.Reply, q broker.Query) []trait {
	whole := true
	var raw int64
	for _, e := range r.Entries {
		whole = whole && e.Resource.Get("resourceType").Text() != ""
		raw += int64(len(e.Resource.Raw()))
	}
	return []trait{
		{ruleNamed, r.Adapter != "" && r.Base != "" && r.Base[len(r.Base)-1] != '/'},
		{ruleResources, whole},
		{ruleBytes, r.Bytes >= raw && r.Bytes <= q.Limits.Bytes},
		{ruleCaps, len(r.Entries) <= q.Limits.Resources},
	}
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
	return []Finding{{rulePatient, fmt.Sprintf("%d Patients, %d with that number", patients, named)}}
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
