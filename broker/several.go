package broker

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A custodian may be read in several ways: a FHIR server and pointers to documents, two systems of one trust. Each way is a source with a breaker of its
// own and is asked beside the others; the custodian has one place in the answer, one state, and one set of caps. It is returned whole only if every
// source was: a source that holds no record leaves nothing out, anything else that it does not give is a part that names it.

// askAll gets one custodian's part from all its sources. It returns by the custodian's deadline, as each of them does.
func (a *access) askAll(c *custodian, p consent.Permit, whole time.Duration) held {
	now := time.Now()
	var left atomic.Int64 // the caps are the custodian's
	left.Store(a.b.cfg.Limits.Bytes)
	may := func(n int64) bool { return left.Add(-n) >= 0 }
	list := make([]asked, len(c.sources))
	done := make(chan struct{}, len(c.sources))
	for i, e := range c.sources {
		go func() {
			list[i] = a.askOne(c, e, p, whole, may)
			done <- struct{}{}
		}()
	}
	for range c.sources {
		<-done
	}
	for i := range list {
		a.report(c, &list[i])
	}
	x := a.together(c, p, list, now)
	a.count(c, &x)
	return x.held
}

// together makes one part of what became of asking the sources.
func (a *access) together(c *custodian, p consent.Permit, list []asked, from time.Time) asked {
	reply, parts, found := c.join(list, a.b.cfg.Limits.Resources)
	x := asked{held: held{c: c, failed: true}}
	for _, s := range list {
		x.end = max(x.end, s.end)
	}
	if slices.ContainsFunc(list, func(s asked) bool { return s.end == nobodyHere }) {
		x.end = nobodyHere
	}
	if found == 0 {
		x.prepared.Status = worst(list)
		x.prepared.Status.Adapter, x.prepared.Status.Parts = c.Adapter, parts
		if x.prepared.Status.State == record.NoRecord {
			x.prepared.Status.Parts = nil
		}
		x.prepared.Status.Took = time.Since(from)
		return x
	}
	reply.Asked, reply.Took = from.UTC(), time.Since(from)
	x.reply = reply
	status := record.Status{Custodian: c.Rules.Custodian, Adapter: reply.Adapter, Asked: reply.Asked, Took: reply.Took}
	x.prepared.Status = status
	// Somebody holds this person, so the time of neutral answers is no bound any more: a source that hung until then takes nothing from the others.
	err, late := a.make(&x.held, c.may(p), time.Until(a.deadline)-a.b.cfg.Reserve)
	if err != nil { // each was right by itself, and together they are not: none can be believed
		v := judge(err, false, late, late)
		status.State, status.Reason = v.state, v.reason
		x.prepared.Status, x.reply, x.failed, x.alarm = status, merge.Reply{}, true, v.alarm
		a.report(c, &x)
	}
	return x
}

// join brings the replies of the sources together, in their order, and says what is missing of the custodian's record. found is how many there are.
func (c *custodian) join(list []asked, resources int) (reply merge.Reply, parts []record.Part, found int) {
	var adapters []string
	for i := range list {
		name, s := c.sources[i].Name, &list[i]
		status := &s.prepared.Status
		switch resources -= len(s.reply.Entries); {
		case s.failed && status.State == record.NoRecord:
			continue
		case s.failed && status.State == record.Withheld:
			parts = append(parts, record.Part{Source: name, Reason: record.PartWithheld})
			continue
		case s.failed || resources < 0:
			parts = append(parts, record.Part{Source: name, Reason: record.PartSourceDown})
			continue
		}
		for _, part := range s.reply.Parts {
			if part.Source == "" {
				part.Source = name
			} else {
				part.Source = name + ": " + part.Source
			}
			parts = append(parts, part)
		}
		if found++; found == 1 {
			reply = s.reply
		} else {
			reply.Beside = append(reply.Beside, merge.Beside{Base: s.reply.Base, Entries: s.reply.Entries})
			for _, conversion := range s.reply.Conversions {
				if !slices.Contains(reply.Conversions, conversion) {
					reply.Conversions = append(slices.Clip(reply.Conversions), conversion)
				}
			}
		}
		if !slices.Contains(adapters, s.reply.Adapter) {
			adapters = append(adapters, s.reply.Adapter)
		}
	}
	reply.Parts, reply.Adapter = parts, strings.Join(adapters, ", ")
	return reply, parts, found
}

// severity orders states where no source returned anything: what might have held something comes before what did not.
var severity = []record.State{record.Failed, record.TimedOut, record.Unavailable, record.NotAsked, record.Withheld, record.NoRecord}

// worst is the state of the source that decides where none returned anything.
func worst(list []asked) record.Status {
	rank := func(s asked) int { return slices.Index(severity, s.prepared.Status.State) }
	return slices.MinFunc(list, func(x, y asked) int { return rank(x) - rank(y) }).prepared.Status
}
