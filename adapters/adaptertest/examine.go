package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Outcome is how a rule came out.
type Outcome string

// The outcomes.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"
	Note    Outcome = "note" // nothing is wrong; somebody may want to know
	Skipped Outcome = "skipped"
)

// Result is one rule, how it came out, what was seen, and what to do. None of it holds text from outside, an address, or anything of a person.
type Result struct {
	Rule     string  `json:"rule"`
	Outcome  Outcome `json:"outcome"`
	Evidence string  `json:"evidence,omitempty"`
	Advice   string  `json:"advice,omitempty"` // where it did not pass
}

// The rules of a source that is asked live, of a fixed list.
const (
	ruleReached   = "it can be reached, takes our credentials and answers in its protocol"
	ruleNobody    = "somebody unknown is no record"
	ruleOver      = "a call that is over is not made"
	ruleReturned  = "the record is returned"
	rulePlain     = "an error is one of the list and holds nothing from outside"
	ruleTime      = "it answers within its time"
	ruleMissing   = "nothing of the record is missing"
	rulePatient   = "exactly one Patient, with the number asked"
	ruleNamed     = "the reply names its adapter and its base address without a slash at the end"
	ruleResources = "every entry is a resource"
	ruleBytes     = "the bytes held are counted"
	ruleCaps      = "the caps are kept"
	ruleAlone     = "the Patient alone is returned"
	ruleAtOnce    = "calls at once return what one returns"
	ruleLooked    = "there was time to look at everything"
)

// ours is the advice where the adapter is wrong, whatever the custodian does.
const ours = "This is a fault of the adapter, not of the custodian: report it to who wrote the adapter, with this report."

// advice says what to do about a rule that does not hold.
var advice = map[string]string{
	ruleNobody: "The custodian must say in its protocol's way that it does not hold a person: an empty search, or the error for it. Whatever it answers now would " +
		"be shown to clinicians as trouble for everybody whom it does not know. Ask its supplier what it answers for an unknown NHS number.",
	ruleOver:    ours,
	rulePlain:   ours,
	ruleTime:    "Clinicians would see this custodian as timed out. Ask its supplier why it is slow for this person, or give it more time with `timeout`.",
	ruleMissing: "The custodian refused part of what was asked, or says that it keeps something back. Ask its administrators whether that is meant for our system.",
	rulePatient: "Nothing would be shown. The custodian must return one Patient with this person's NHS number under https://fhir.nhs.uk/Id/nhs-number, or the number in " +
		"its protocol's own place. Check that the test person has that number there, and once.",
	ruleNamed: ours, ruleResources: ours, ruleBytes: ours, ruleCaps: ours, ruleAlone: ours, ruleLooked: "Run it again when the custodian is quicker.",
	ruleAtOnce: "Either the adapter mixes up calls, or the custodian answers differently when it is asked several times at once: run it again, and look at its limits.",
}

// remedies say what to do about an error, by its kind.
var remedies = []struct {
	err  error
	text string
}{
	{broker.ErrUnavailable, "No answer came, or a gateway's error. Check the address, the name server, the firewall on both sides, and that its certificate is from an authority of `caFile`."},
	{broker.ErrTimedOut, "It did not answer in time. Check that the address is right and that a firewall does not swallow the connection, then ask its supplier."},
	{broker.ErrThrottled, "It asks us to wait. Ask its supplier how many requests we may make, and lower `parallel` or `maxConnections`."},
	{broker.ErrUnauthorised, "It refuses us. Check our certificate, token, client id, key and scope, and that the custodian has registered them for this address."},
	{broker.ErrMalformed, "What it answers cannot be read in this protocol. Check that the address is that of the interface and not of a web page in front of it, and the version that it speaks."},
	{broker.ErrTooMuch, "Its answer exceeds a cap: see `limits` in the configuration, and ask its supplier for smaller pages."},
	{broker.ErrElsewhere, "It points to another address, by a redirect or a page link. Configure the address that it points to, if that is right, or ask its supplier to name its own."},
	{broker.ErrWrongSubject, "It answered about somebody else. Do not connect it: tell its supplier and its information governance lead at once."},
	{broker.ErrWithheld, "It withholds this person's record. Choose a test person whose record may be shared with our organisation."},
	{broker.ErrNoRecord, "It says that it holds no such person. Check that the test person is in the system that this address belongs to."},
	{broker.ErrPanicked, ours},
}

func remedy(err error) string {
	for _, r := range remedies {
		if errors.Is(err, r.err) {
			return r.text
		}
	}
	return ours
}

// Examination is what there is to know of a source that was asked live.
type Examination struct {
	Results []Result
	Reply   broker.Reply // of the person; without entries where none was returned
}

// Check asks source about one person, of whom the custodian should hold a record, and returns what is not as the contract of broker.Source
// demands; nothing means that all is well. It asks about a dozen times; nothing is written anywhere. It ends when ctx does, and says so: what was not
// looked at is not well.
func Check(ctx context.Context, source broker.Source, q broker.Query) []Finding {
	var out []Finding
	for _, r := range Examine(ctx, source, q, 0).Results {
		if r.Outcome == Fail {
			out = append(out, Finding{r.Rule, r.Evidence})
		}
	}
	return out
}

// Examine does what Check does, and returns every rule. A query without a person is answered by the rules that need none. within is the custodian's
// time, 0 for any.
func Examine(ctx context.Context, source broker.Source, q broker.Query, within time.Duration) Examination {
	if q.Limits.Bytes == 0 {
		q.Limits = broker.DefaultLimits
	}
	e := &examining{ctx: ctx, source: source, query: q, within: within}
	looks := []look{
		{[]string{ruleReached, ruleNobody, ruleOver}, e.nobody},
		{[]string{ruleReturned, rulePlain, ruleTime, ruleMissing, rulePatient, ruleNamed, ruleResources, ruleBytes, ruleCaps}, e.record},
		{[]string{ruleAlone}, e.alone},
		{nil, e.caps},
		{[]string{ruleAtOnce}, e.atOnce},
	}
	for _, l := range looks {
		if e.why == "" && ctx.Err() != nil {
			e.say(ruleLooked, Fail, "", "")
			e.why = "there was no time"
		}
		if e.why == "" {
			l.at()
		}
		for _, rule := range l.rules {
			if !e.said(rule) {
				e.say(rule, Skipped, e.why, "")
			}
		}
	}
	if e.why == "" && ctx.Err() != nil {
		e.say(ruleLooked, Fail, "", "")
	}
	return e.out
}

// look is one thing to look at, and the rules that it decides.
type look struct {
	rules []string
	at    func()
}

type examining struct {
	ctx    context.Context
	source broker.Source
	query  broker.Query
	within time.Duration
	why    string // why no more is looked at; "" while more is
	out    Examination
}

func (e *examining) say(rule string, o Outcome, evidence, what string) {
	if o != Pass && o != Skipped && what == "" {
		what = advice[rule]
	}
	e.out.Results = append(e.out.Results, Result{rule, o, evidence, what})
}

func (e *examining) said(rule string) bool {
	for _, r := range e.out.Results {
		if r.Rule == rule {
			return true
		}
	}
	return false
}

// must says whether a rule holds, and what came instead if it does not.
func (e *examining) must(rule string, ok bool, err error) {
	if ok {
		e.say(rule, Pass, "", "")
		return
	}
	e.say(rule, Fail, name(err), "")
}

// holds says whether a rule holds of what was returned.
func (e *examining) holds(rule string, ok bool) {
	o := Pass
	if !ok {
		o = Fail
	}
	e.say(rule, o, "", "")
}

// nobody asks about a number that nobody has.
func (e *examining) nobody() {
	n, err := record.ParseNHSNumber(nobody)
	if err != nil {
		panic(err) // a number of ours
	}
	q := e.query
	q.Subject = record.Subject{Number: n, Standing: record.Live}
	from := time.Now()
	_, err = e.source.Fetch(e.ctx, q)
	reached := answered(err)
	if !reached && !e.query.Subject.Number.IsZero() { // some fail for those whom they do not know, and for nobody else
		_, other := e.source.Fetch(e.ctx, e.query)
		reached = answered(other)
	}
	if !reached {
		e.say(ruleReached, Fail, name(err), remedy(err))
		if !plain(err) || count(err) != 1 && e.ctx.Err() == nil {
			e.say(rulePlain, Fail, name(err), "")
		}
		e.why = "it does not answer"
		return
	}
	e.say(ruleReached, Pass, "answered in "+took(from), "")
	e.must(ruleNobody, errors.Is(err, broker.ErrNoRecord), err)
	e.over(q)
	if e.query.Subject.Number.IsZero() {
		e.why = "it needs a test person whom the custodian holds"
	}
}

// answered reports whether what came of a call shows that it was understood on both sides.
func answered(err error) bool {
	return err == nil || errors.Is(err, broker.ErrNoRecord) || errors.Is(err, broker.ErrWithheld) || errors.Is(err, broker.ErrWrongSubject)
}

func took(from time.Time) string { return time.Since(from).Round(time.Millisecond).String() }

func (e *examining) over(q broker.Query) {
	over, cancel := context.WithCancel(e.ctx)
	cancel()
	begin := time.Now()
	_, err := e.source.Fetch(over, q)
	e.must(ruleOver, err != nil && plain(err) && time.Since(begin) < grace, err)
}

// record asks about the person and judges the answer.
func (e *examining) record() {
	from := time.Now()
	reply, err := e.source.Fetch(e.ctx, e.query)
	d := time.Since(from)
	if err != nil {
		e.say(ruleReturned, Fail, name(err), remedy(err))
		e.must(rulePlain, plain(err) && (count(err) == 1 || e.ctx.Err() != nil), err)
		e.why = "no record was returned"
		return
	}
	e.out.Reply = reply
	types := map[string]bool{}
	for _, x := range reply.Entries {
		types[x.Resource.Get("resourceType").Text()] = true
	}
	e.say(ruleReturned, Pass, fmt.Sprintf("%d resources of %d types, %d bytes, in %v", len(reply.Entries), len(types), reply.Bytes, d.Round(time.Millisecond)), "")
	e.say(rulePlain, Pass, "", "")
	switch {
	case e.within > 0 && d > e.within:
		e.say(ruleTime, Fail, fmt.Sprintf("%v of %v", d.Round(time.Millisecond), e.within), "")
	case e.within > 0 && d > e.within/2:
		e.say(ruleTime, Note, fmt.Sprintf("%v of %v: little is left for a busy hour", d.Round(time.Millisecond), e.within), "")
	default:
		e.say(ruleTime, Pass, d.Round(time.Millisecond).String(), "")
	}
	if len(reply.Parts) > 0 {
		e.say(ruleMissing, Note, fmt.Sprintf("%d parts are", len(reply.Parts)), "")
	} else {
		e.say(ruleMissing, Pass, "", "")
	}
	wrong := judgePatient(reply, e.query)
	for _, f := range wrong {
		e.say(f.Rule, Fail, f.Detail, "")
	}
	if len(wrong) == 0 {
		e.say(rulePatient, Pass, "", "")
	}
	for _, x := range shape(reply, e.query) {
		e.holds(x.rule, x.ok)
	}
}

func (e *examining) alone() {
	only := e.query
	only.Types = []string{"Patient"}
	r, err := e.source.Fetch(e.ctx, only)
	e.must(ruleAlone, err == nil && len(judgePatient(r, e.query)) == 0, err)
}

func (e *examining) caps() {
	for _, c := range caps(e.out.Reply) {
		capped := e.query
		c.set(&capped.Limits)
		_, err := e.source.Fetch(e.ctx, capped)
		ok := errors.Is(err, broker.ErrTooMuch) && plain(err)
		if rule := "the cap on " + c.name + " is kept"; ok {
			e.say(rule, Pass, "", "")
		} else {
			e.say(rule, Fail, name(err), ours)
		}
	}
}

func (e *examining) atOnce() { e.holds(ruleAtOnce, atOnce(e.ctx, e.source, e.query, e.out.Reply)) }
