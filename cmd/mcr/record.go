package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// question is what both record commands ask.
type question struct {
	server                                               *server
	birthDate, purpose, permission, relationship, reason string
	start, end, since, output                            string
	types                                                list
	filled                                               string // what was taken from the sign-in
	whole, self, quiet                                   bool
	number                                               string
	wirePurpose                                          v1.Purpose
	wirePermission                                       *v1.Permission
	wireRelationship                                     *v1.Relationship
}

// list is a flag that may be given more than once, or with commas.
type list []string

// String returns the values with commas.
func (l *list) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(*l, ",")
}

// Set adds values.
func (l *list) Set(s string) error {
	for x := range strings.SplitSeq(s, ",") {
		if x = strings.TrimSpace(x); x != "" {
			*l = append(*l, x)
		}
	}
	return nil
}

func recordFlags(fs *flag.FlagSet, timeout time.Duration) *question {
	q := &question{server: serverFlags(fs, timeout)}
	fs.StringVar(&q.birthDate, "birth-date", "", "the person's date of birth, YYYY-MM-DD: a check that it is the right person")
	fs.StringVar(&q.purpose, "purpose", "", "TREAT direct care, ETREAT urgent care, BTG break-glass, PATRQT your own record")
	fs.StringVar(&q.permission, "permission", "", "what the person said: asked-yes; 'asked-earlier; on=2026-01-31'; 'implied-by-referral; ref=...'; 'cannot-ask; reason=...'; 'best-interests; reason=...'; not-required; asked-no; patient-self; delegated, by a carer")
	fs.StringVar(&q.relationship, "relationship", "", "how you are involved: registered, referral, admission, appointment, attendance, caseload, self-claimed; with '; ref=...' if there is one")
	fs.StringVar(&q.reason, "break-glass", "", "break the glass, for this `reason` (10 characters or more): implies -purpose BTG. It is recorded, and the privacy officer is told")
	fs.BoolVar(&q.self, "self", false, "your own record: implies -purpose PATRQT -permission patient-self")
	fs.Var(&q.types, "type", "only these FHIR `types`, with commas or given again")
	fs.StringVar(&q.start, "start", "", "only what happened at or after this `date`: 2019, 2019-05, 2019-05-31")
	fs.StringVar(&q.end, "end", "", "only what happened at or before this `date`")
	fs.StringVar(&q.since, "since", "", "only what was updated after this `time`")
	fs.StringVar(&q.output, "o", "text", "text or json")
	fs.BoolVar(&q.whole, "whole", false, "exit code 8 if the part of some custodian is missing")
	fs.BoolVar(&q.quiet, "quiet", false, "no progress")
	return q
}

// read checks what was given, before anything is sent.
func (q *question) read(a *app, c *call) error {
	if err := c.parse(1); err != nil {
		return err
	}
	var err error
	if q.number, err = a.number(c.args[0]); err != nil {
		return err
	}
	if q.reason != "" {
		if q.purpose != "" && q.purpose != "BTG" {
			return useError("-break-glass goes with no -purpose but BTG")
		}
		q.purpose = "BTG"
	}
	if q.server.tokenFile == "" {
		a.fill(q)
	}
	if q.self {
		if q.purpose != "" && q.purpose != "PATRQT" || q.permission != "" && q.permission != "patient-self" {
			return useError("-self goes with no -purpose but PATRQT and no -permission but patient-self")
		}
		q.purpose, q.permission = "PATRQT", "patient-self"
	}
	if q.output != "text" && q.output != "json" {
		return useError("-o: text or json")
	}
	if q.wirePurpose, err = readPurpose(q.purpose); err != nil {
		return err
	}
	if q.wirePermission, err = readPermission(q.permission); err != nil {
		return err
	}
	q.wireRelationship, err = readRelationship(q.relationship)
	return err
}

// fill states what was said at sign-in, where this call says nothing. Breaking the glass, and one's own record, state enough.
func (a *app) fill(q *question) {
	at := a.session().Stated
	if at == (stated{}) || q.self || q.reason != "" {
		return
	}
	var filled []string
	for _, x := range []struct {
		name  string
		here  *string
		there string
	}{{"purpose", &q.purpose, at.Purpose}, {"permission", &q.permission, at.Permission}, {"relationship", &q.relationship, at.Relationship}} {
		if *x.here == "" && x.there != "" {
			*x.here = x.there
			filled = append(filled, x.name+" "+safe(x.there))
		}
	}
	q.filled = strings.Join(filled, ", ")
}

// sayFilled tells what is stated without having been said in this call.
func (q *question) sayFilled(a *app) {
	if q.filled != "" && !q.quiet {
		a.tell("Stating, as at sign-in: %s.\n", q.filled)
	}
}

// number reads an NHS number as people write it, - from standard input. Whether it is one is the broker's to say.
func (a *app) number(s string) (string, error) {
	if s == "-" {
		text, err := io.ReadAll(io.LimitReader(a.in, 64))
		if err != nil {
			return "", useError("standard input cannot be read")
		}
		s = string(text)
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\u00a0' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, s), nil
}

// recordGet asks for a record in one answer.
func (a *app) recordGet(ctx context.Context, c *call) error {
	q := recordFlags(c.flags, 30*time.Second)
	if err := q.read(a, c); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, q.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	q.sayFilled(a)
	out, err := v1.NewRecordServiceClient(conn).GetRecord(ctx, &v1.GetRecordRequest{NhsNumber: q.number, BirthDate: q.birthDate, Purpose: q.wirePurpose,
		Permission: q.wirePermission, Relationship: q.wireRelationship, BreakGlassReason: q.reason, Types: q.types, Start: q.start, End: q.end, Since: q.since})
	if err != nil {
		return err
	}
	if q.output == "json" {
		custodians := &v1.CustodianStatuses{Custodians: out.GetCustodians()}
		a.say(`{"custodians":%s,"receipt":%s,"bundle":%s}`+"\n", member(custodians, "custodians", "[]"), jsonOf(out.GetReceipt(), "null"), out.GetBundle())
		return q.verdict(out.GetCustodians())
	}
	t := &timeline{number: q.number, statuses: out.GetCustodians(), receipt: out.GetReceipt(), now: a.now(), less: q.less()}
	if err := t.fromBundle(out.GetBundle()); err != nil {
		return err
	}
	a.say("%s", t.text(a.columns, a.colour))
	return q.verdict(out.GetCustodians())
}

// less says which part of the record was asked for, "" for all of it.
func (q *question) less() string {
	var out []string
	if len(q.types) > 0 {
		out = append(out, "types "+strings.Join(q.types, ", "))
	}
	for _, x := range []struct{ word, at string }{{"from", q.start}, {"until", q.end}, {"updated since", q.since}} {
		if x.at != "" {
			out = append(out, x.word+" "+showDate(x.at))
		}
	}
	return safe(strings.Join(out, "; "))
}

// errNotWhole is the verdict of -whole.
var errNotWhole = errors.New("the answer is not whole")

func (q *question) verdict(list []*v1.CustodianStatus) error {
	for _, s := range list {
		switch s.GetState() {
		case v1.CustodianState_CUSTODIAN_STATE_RETURNED, v1.CustodianState_CUSTODIAN_STATE_NO_RECORD:
		default:
			if q.whole {
				return errNotWhole
			}
		}
	}
	return nil
}

// decode reads one JSON object, keeping the text of numbers.
func decode(text []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var o map[string]any
	if err := d.Decode(&o); err != nil {
		return nil, faultError("the server sent something that is not a FHIR resource")
	}
	return o, nil
}

// fromBundle takes the entries of a Bundle, in their order.
func (t *timeline) fromBundle(text []byte) error {
	b, err := decode(text)
	if err != nil {
		return err
	}
	for _, e := range b.objects("entry") {
		r := e.first("resource")
		if r == nil {
			continue
		}
		it := item{url: e.text("fullUrl"), resource: r, mode: modeOf(e.text("search.mode"))}
		for _, tag := range r.objects("meta.tag") {
			if it.custodian == "" && strings.HasSuffix(tag.text("system"), "/CodeSystem/custodian") {
				it.custodian = tag.text("code")
			}
			if s := sectionOf(tag.text("code")); s != 0 && strings.HasSuffix(tag.text("system"), "/CodeSystem/section") {
				if it.section == 0 { // the primary one stands first
					it.section = s
				} else {
					it.others = append(it.others, s)
				}
			}
		}
		t.add(it)
	}
	return nil
}

// add takes one entry. The Patient that the broker authored, the only one that matches, becomes the head.
func (t *timeline) add(it item) {
	if it.resource.text("resourceType") == "Patient" && it.mode == v1.SearchMode_SEARCH_MODE_MATCH {
		t.person = it.resource
		return
	}
	t.entries = append(t.entries, it)
}

func modeOf(code string) v1.SearchMode {
	return v1.SearchMode(v1.SearchMode_value["SEARCH_MODE_"+strings.ToUpper(code)])
}

func sectionOf(code string) v1.Section {
	return v1.Section(v1.Section_value["SECTION_"+strings.ReplaceAll(strings.ToUpper(code), "-", "_")])
}

// jsonOf writes a message as JSON, or otherwise for none.
func jsonOf(m proto.Message, otherwise string) string {
	if m == nil || !m.ProtoReflect().IsValid() {
		return otherwise
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		return otherwise
	}
	return string(text)
}

// member writes one field of a message as JSON.
func member(m proto.Message, name, otherwise string) string {
	var o map[string]json.RawMessage
	if json.Unmarshal([]byte(jsonOf(m, "{}")), &o) != nil || o[name] == nil {
		return otherwise
	}
	return string(o[name])
}

// recordStream asks for a record custodian by custodian.
func (a *app) recordStream(ctx context.Context, c *call) error {
	q := recordFlags(c.flags, 2*time.Minute)
	if err := q.read(a, c); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, q.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	q.sayFilled(a)
	stream, err := v1.NewRecordServiceClient(conn).StreamRecord(ctx, &v1.StreamRecordRequest{NhsNumber: q.number, BirthDate: q.birthDate, Purpose: q.wirePurpose,
		Permission: q.wirePermission, Relationship: q.wireRelationship, BreakGlassReason: q.reason, Types: q.types, Start: q.start, End: q.end, Since: q.since})
	if err != nil {
		return err
	}
	g := &gathering{app: a, q: q}
	for err == nil {
		var m *v1.StreamRecordResponse
		if m, err = stream.Recv(); err == nil {
			err = g.take(m)
		}
	}
	g.endProgress()
	if errors.Is(err, io.EOF) {
		err = nil
		if !g.summed {
			err = faultError("the stream ended before its summary: the answer is not whole")
		}
	}
	if err != nil && !g.planned {
		return err // refused: nothing was sent
	}
	if q.output == "text" {
		t := g.timeline(err != nil)
		a.say("%s", t.text(a.columns, a.colour))
	}
	if err != nil {
		return err
	}
	return q.verdict(g.statuses)
}

// gathering is what has come of a stream.
type gathering struct {
	app      *app
	q        *question
	planned  bool
	summed   bool
	statuses []*v1.CustodianStatus // in configured order
	answered int
	items    map[string]item
	arrived  []string // urls in the order of arrival
	order    []string
	receipt  *v1.Receipt
	partial  []byte // of a resource that comes in parts
	partOf   string
	part     int32
	progress bool // a line of progress stands
}

// maxResource is how large a resource in parts may become, in bytes.
const maxResource = 64 << 20

// take takes one message.
func (g *gathering) take(m *v1.StreamRecordResponse) error {
	switch {
	case m.GetPlan() != nil:
		g.planned, g.statuses, g.items = true, m.GetPlan().GetCustodians(), map[string]item{}
		asked := 0
		for _, s := range g.statuses {
			if s.GetState() == v1.CustodianState_CUSTODIAN_STATE_UNSPECIFIED {
				asked++
			}
		}
		g.say("asking %s …", count(asked, "custodian"))
		g.json(`{"plan":%s}`, jsonOf(m.GetPlan(), "null"))
	case m.GetEntry() != nil:
		return g.entry(m.GetEntry())
	case m.GetCustodian() != nil:
		s := m.GetCustodian().GetStatus()
		for i := range g.statuses {
			if g.statuses[i].GetCustodian().GetKey() == s.GetCustodian().GetKey() {
				g.statuses[i] = s
			}
		}
		g.answered++
		took := ""
		if d := s.GetTook(); d != nil {
			took = fmt.Sprintf(" (%.1f s)", d.AsDuration().Seconds())
		}
		g.say("%s: %s%s", safe(s.GetCustodian().GetName()), stateText(s), took)
		g.json(`{"custodian":%s}`, jsonOf(m.GetCustodian(), "null"))
	case m.GetSummary() != nil:
		s := m.GetSummary()
		g.order = append(g.order, s.GetOrder()...)
		if s.GetPart() == s.GetParts() {
			g.summed, g.statuses, g.receipt = true, s.GetCustodians(), s.GetReceipt()
		}
		g.json(`{"summary":%s}`, jsonOf(s, "null"))
	}
	return nil
}

// entry takes a resource, or a part of one; parts follow each other.
func (g *gathering) entry(e *v1.StreamEntry) error {
	whole := e.GetResource()
	if e.GetParts() > 1 {
		if e.GetPart() == 1 {
			g.partial, g.partOf, g.part = nil, e.GetFullUrl(), 0
		}
		if e.GetFullUrl() != g.partOf || e.GetPart() != g.part+1 || len(g.partial)+len(whole) > maxResource {
			return faultError("the parts of a large entry do not fit together")
		}
		g.partial, g.part = append(g.partial, whole...), e.GetPart()
		if e.GetPart() < e.GetParts() {
			return nil
		}
		whole, g.partial, g.partOf = g.partial, nil, ""
	}
	r, err := decode(whole)
	if err != nil {
		return err
	}
	if g.q.output == "json" {
		about := proto.Clone(e).(*v1.StreamEntry)
		about.Resource, about.Part, about.Parts = nil, 1, 1
		g.json(`{"entry":%s,"resource":%s}`, jsonOf(about, "null"), whole)
		return nil
	}
	g.items[e.GetFullUrl()] = item{url: e.GetFullUrl(), mode: e.GetMode(), custodian: e.GetCustodian(), section: e.GetSection(), others: e.GetOtherSections(),
		element: e.GetTime().GetElement(), resource: r}
	g.arrived = append(g.arrived, e.GetFullUrl())
	return nil
}

// timeline puts what has come in order: that of the summary, or of arrival where none came.
func (g *gathering) timeline(broken bool) *timeline {
	t := &timeline{number: g.q.number, statuses: g.statuses, receipt: g.receipt, broken: broken, now: g.app.now(), less: g.q.less()}
	order := g.order
	if !g.summed {
		order = g.arrived
	}
	for _, url := range order {
		if it, ok := g.items[url]; ok {
			t.add(it)
			delete(g.items, url)
		}
	}
	for _, url := range g.arrived { // what the order forgot is shown all the same
		if it, ok := g.items[url]; ok {
			t.add(it)
			delete(g.items, url)
		}
	}
	return t
}

// say writes a line of progress; on a terminal the next one replaces it.
func (g *gathering) say(format string, args ...any) {
	if g.q.quiet {
		return
	}
	text := fmt.Sprintf(format, args...)
	if g.app.lively {
		g.app.tell("\r\x1b[K%s", wrapFirst(text, max(g.app.columns-1, 20)))
		g.progress = true
		return
	}
	g.app.tell("%s\n", text)
}

func (g *gathering) endProgress() {
	if g.progress {
		g.app.tell("\r\x1b[K")
	}
}

// json writes a line of JSON, where that is asked for.
func (g *gathering) json(format string, args ...any) {
	if g.q.output == "json" {
		g.app.say(format+"\n", args...)
	}
}
