package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// timeline is an answer as people read it.
type timeline struct {
	number   string // the one asked for
	person   object // the Patient that the broker authored, nil for none
	statuses []*v1.CustodianStatus
	entries  []item // newest first
	receipt  *v1.Receipt
	broken   bool   // the stream ended before its end
	less     string // what was asked to see less of, "" for everything
	now      time.Time
}

// item is one entry of an answer.
type item struct {
	url       string
	mode      v1.SearchMode
	custodian string // key
	section   v1.Section
	others    []v1.Section
	element   string // where its date stands, "" if the answer did not say
	resource  object
}

// sectionNames are the words for sections.
var sectionNames = map[v1.Section]string{
	v1.Section_SECTION_DEMOGRAPHICS: "Demographics", v1.Section_SECTION_MEDICATIONS: "Medicines", v1.Section_SECTION_RESULTS: "Test results",
	v1.Section_SECTION_CORRESPONDENCE: "Letters and documents", v1.Section_SECTION_HISTORY: "Clinical history", v1.Section_SECTION_EMERGENCY: "Emergency care",
	v1.Section_SECTION_APPOINTMENTS: "Appointments", v1.Section_SECTION_PLANS_ALERTS: "Plans and alerts", v1.Section_SECTION_MENTAL_HEALTH: "Mental health",
	v1.Section_SECTION_SOCIAL_CARE: "Social care", v1.Section_SECTION_AMBULANCE: "Ambulance", v1.Section_SECTION_COMMUNITY: "Community care",
	v1.Section_SECTION_PHARMACY: "Pharmacy", v1.Section_SECTION_OTHER: "Other",
}

// page writes a timeline for a width.
type page struct {
	strings.Builder
	width  int
	colour bool
}

// Styles of a terminal (ECMA-48, select graphic rendition).
const (
	bold = "1"
	dim  = "2"
	loud = "1;31"
)

func (p *page) style(code, s string) string {
	if !p.colour || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *page) line(s string) { p.WriteString(strings.TrimRight(s, " ") + "\n") }

// hang writes a label and text beside it, wrapped; style is that of the text, "" for none.
func (p *page) hang(label string, at int, style, text string) {
	if at > 0 && cells(label) >= at { // it would run into the text
		p.line(label)
		label = ""
	}
	for i, l := range wrap(text, p.width-at) {
		if i > 0 {
			label = ""
		}
		if style != "" {
			l = p.style(style, l)
		}
		p.line(pad(label, at) + l)
	}
}

// beside writes two columns, each wrapped: left is at columns wide, and style is that of the right one.
func (p *page) beside(left []string, at int, style string, right []string) {
	var l, r []string
	for _, s := range left {
		l = append(l, wrap(s, at-2)...)
	}
	for i, s := range right {
		for _, x := range wrap(s, p.width-at) {
			if i == 0 {
				x = p.style(style, x)
			} else if i == len(right)-1 {
				x = p.style(dim, x)
			}
			r = append(r, x)
		}
	}
	for i := range max(len(l), len(r)) {
		a, b := "", ""
		if i < len(l) {
			a = l[i]
		}
		if i < len(r) {
			b = r[i]
		}
		p.line(pad(a, at) + b)
	}
}

// text renders the timeline.
func (t *timeline) text(width int, colour bool) string {
	p := &page{width: min(max(width, 40), 160), colour: colour}
	t.head(p)
	t.missing(p)
	t.body(p)
	t.foot(p)
	return p.String()
}

func (t *timeline) head(p *page) {
	about := []string{"NHS number " + groupNumber(t.number)}
	if t.person != nil {
		if name := humanName(t.person); name != "" {
			p.line(p.style(bold, name))
		}
		if born := t.person.text("birthDate"); born != "" {
			about = append(about, "born "+showDate(born))
		}
		if g := safe(t.person.text("gender")); g != "" && g != "unknown" {
			about = append(about, g)
		}
		if died := t.person.text("deceasedDateTime"); died != "" {
			about = append(about, "died "+showDate(died))
		} else if t.person["deceasedBoolean"] == true {
			about = append(about, "died")
		}
	}
	p.hang("", 0, "", strings.Join(about, " · "))
	if t.less != "" {
		p.hang("", 0, bold, "You asked for a part only: "+t.less+". There may be more.")
	}
	p.line("")
}

// missing says how every custodian stands, what is missing first.
func (t *timeline) missing(p *page) {
	var lacking, whole []*v1.CustodianStatus
	for _, s := range t.statuses {
		switch s.GetState() {
		case v1.CustodianState_CUSTODIAN_STATE_RETURNED, v1.CustodianState_CUSTODIAN_STATE_NO_RECORD:
			whole = append(whole, s)
		default:
			lacking = append(lacking, s)
		}
	}
	at := nameColumn(t.statuses, p.width)
	slices.SortStableFunc(lacking, func(a, b *v1.CustodianStatus) int { return urgency(a) - urgency(b) })
	if t.broken {
		p.hang("", 0, loud, "THE ANSWER BROKE OFF. What came before that is shown, and more is missing than is listed here. Ask again.")
	}
	if len(lacking) > 0 {
		p.hang("", 0, loud, fmt.Sprintf("THIS IS NOT THE WHOLE RECORD. Of %s, %s missing or not whole:", count(len(t.statuses), "custodian"), isAre(len(lacking))))
		for _, s := range lacking {
			p.custodian("!", s, true, at)
		}
		p.line("")
		if len(whole) > 0 {
			p.line("Whole:")
		}
	} else if !t.broken && len(t.statuses) > 0 {
		p.hang("", 0, bold, fmt.Sprintf("All %s answered in full.", count(len(t.statuses), "custodian")))
	}
	for _, s := range whole {
		p.custodian("✓", s, false, at)
	}
	p.line("")
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if stem, ok := strings.CutSuffix(thing, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func isAre(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
}

// urgency orders what is missing: what nobody knows before what is known to be withheld.
func urgency(s *v1.CustodianStatus) int {
	switch s.GetState() {
	case v1.CustodianState_CUSTODIAN_STATE_TIMED_OUT, v1.CustodianState_CUSTODIAN_STATE_UNAVAILABLE, v1.CustodianState_CUSTODIAN_STATE_FAILED,
		v1.CustodianState_CUSTODIAN_STATE_UNSPECIFIED:
		return 0
	case v1.CustodianState_CUSTODIAN_STATE_NOT_ASKED:
		return 1
	case v1.CustodianState_CUSTODIAN_STATE_RETURNED_IN_PART:
		return 2
	}
	return 3
}

// nameColumn is how wide the column of custodians' names is to be.
func nameColumn(list []*v1.CustodianStatus, width int) int {
	at := 16
	for _, s := range list {
		at = max(at, cells(safe(s.GetCustodian().GetName()))+6)
	}
	return min(at, max(width*45/100, 16))
}

// custodian writes one custodian's line, at columns of it for the name.
func (p *page) custodian(mark string, s *v1.CustodianStatus, contact bool, at int) {
	c := s.GetCustodian()
	text := stateText(s)
	if who := safe(c.GetContact()); contact && who != "" {
		text += ". Contact: " + who
	}
	left := wrap(nameOr(safe(c.GetName()), safe(c.GetKey())), at-6)
	right := wrap(text, p.width-at)
	for i := range max(len(left), len(right)) {
		line := "    "
		if i == 0 {
			line = "  " + mark + " "
		}
		if i < len(left) {
			line += left[i]
		}
		line = pad(line, at)
		if i < len(right) {
			line += right[i]
		}
		p.line(line)
	}
}

// wrapFirst cuts a name to a width, and says so.
func wrapFirst(s string, width int) string {
	if cells(s) <= width {
		return s
	}
	r := []rune(s)
	for cells(string(r)) > width-1 {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}

// stateText says in words how a custodian's part stands.
func stateText(s *v1.CustodianStatus) string {
	shown := count(int(s.GetShown()), "entry")
	switch s.GetState() {
	case v1.CustodianState_CUSTODIAN_STATE_RETURNED:
		return shown
	case v1.CustodianState_CUSTODIAN_STATE_RETURNED_IN_PART:
		return shown + ", but not all: " + partsText(s.GetParts())
	case v1.CustodianState_CUSTODIAN_STATE_NO_RECORD:
		return "holds no record"
	case v1.CustodianState_CUSTODIAN_STATE_WITHHELD:
		return "withheld" + because(s.GetReason())
	case v1.CustodianState_CUSTODIAN_STATE_TIMED_OUT:
		return "did not answer in time"
	case v1.CustodianState_CUSTODIAN_STATE_UNAVAILABLE:
		return "cannot be reached now"
	case v1.CustodianState_CUSTODIAN_STATE_FAILED:
		return "answered something that cannot be used"
	case v1.CustodianState_CUSTODIAN_STATE_NOT_ASKED:
		switch s.GetReason() {
		case "permit":
			return "not asked: nothing that it holds may be shown to you"
		case "budget":
			return "not asked: no time was left"
		case "locator":
			return "not asked: nobody knows of a record there"
		}
		return "not asked" + because(s.GetReason())
	}
	return "had not answered yet"
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reasonText(reason)
}

var partReasons = map[string]string{
	"withheld": "withheld", "other-people": "about other people, left out", "conflicting-copies": "in copies that differ, all shown",
	"unreadable": "unreadable", "confidential-items": "held back by the custodian as confidential", "data-in-transit": "still on its way from another practice",
	"data-awaiting-filing": "not filed yet", "source-down": "from a source that did not answer", "truncated": "cut off", "filter-not-applied": "the filter was not applied", "other-custodian": "listed under another organisation", "too-long": "too long to be shown with the record, listed only",
}

func partsText(parts []*v1.MissingPart) string {
	if len(parts) == 0 {
		return "it does not say what is missing"
	}
	var out []string
	for _, x := range parts {
		var what []string
		if n := x.GetCount(); n > 0 {
			what = append(what, fmt.Sprint(n))
		}
		if name := sectionNames[x.GetSection()]; name != "" {
			what = append(what, strings.ToLower(name))
		}
		if s := safe(x.GetSource()); s != "" {
			what = append(what, s)
		}
		if len(what) == 0 {
			what = append(what, "something")
		}
		reason, known := partReasons[x.GetReason()]
		if !known {
			reason = words(x.GetReason())
		}
		out = append(out, strings.Join(what, " ")+" "+reason)
	}
	return strings.Join(out, "; ")
}

// body writes the entries under headings: what is to come, then year by year, then what has no date.
func (t *timeline) body(p *page) {
	names := map[string]string{}
	for _, s := range t.statuses {
		names[s.GetCustodian().GetKey()] = safe(s.GetCustodian().GetName())
	}
	find := t.finder()
	heading, matches, others := "", 0, 0
	for _, e := range t.entries {
		if e.mode != v1.SearchMode_SEARCH_MODE_MATCH || e.custodian == "" {
			if e.mode == v1.SearchMode_SEARCH_MODE_INCLUDE && e.custodian != "" {
				others++
			}
			continue
		}
		matches++
		date, at := when(e.resource, e.element)
		h := "Without a date"
		switch {
		case len(date) > 0 && at.After(t.now):
			h = "To come"
		case len(date) > 0:
			h = at.Format("2006")
		}
		if h != heading {
			heading = h
			p.line(p.style(bold, "── "+h+" "+strings.Repeat("─", max(0, p.width-cells(h)-4))))
		}
		p.entry(e, date, names, display(e.resource, find))
	}
	if matches == 0 {
		p.line("No entries.")
	}
	if others > 0 {
		p.hang("", 0, dim, "And "+count(others, "supporting entry")+" (people, places, medicines) that these refer to: see -o json.")
	}
	p.line("")
}

func (p *page) entry(e item, date []string, names map[string]string, s shown) {
	title := s.title
	if len(s.warnings) > 0 {
		title = "[" + strings.Join(s.warnings, "] [") + "] " + title
	}
	if len(s.statuses) > 0 {
		title += " [" + strings.Join(s.statuses, "] [") + "]"
	}
	style := bold
	if len(s.warnings) > 0 {
		style = loud
	}
	lines := []string{title}
	for _, d := range s.details {
		lines = append(lines, shorten(d))
	}
	held := nameOr(sectionNames[e.section], "No section")
	var also []string
	for _, o := range e.others {
		if name := sectionNames[o]; name != "" {
			also = append(also, strings.ToLower(name))
		}
	}
	if len(also) > 0 {
		held += " (also " + strings.Join(also, ", ") + ")"
	}
	lines = append(lines, held+" · "+nameOr(names[e.custodian], safe(e.custodian)))
	if p.width >= 70 {
		p.beside(date, 26, style, lines)
		return
	}
	if len(date) > 0 {
		p.hang("", 0, "", strings.Join(date, " "))
	}
	p.beside(nil, 4, style, lines)
	p.line("")
}

// maxDetail is how many characters of one detail are shown.
const maxDetail = 600

// shorten cuts long text, and says so.
func shorten(s string) string {
	r := []rune(s)
	if len(r) <= maxDetail {
		return s
	}
	return strings.TrimSpace(string(r[:maxDetail])) + " … [shortened: see -o json]"
}

func (t *timeline) foot(p *page) {
	if r := t.receipt; r != nil {
		p.hang("", 0, dim, receiptText(r))
	}
}

func receiptText(r *v1.Receipt) string {
	return fmt.Sprintf("Recorded as entry %d of %s; receipt %d.%x", r.GetPosition(), safe(r.GetOrigin()), r.GetPosition(), r.GetLeaf())
}

// finder looks references up among the entries.
func (t *timeline) finder() func(string) object {
	byURL := map[string]object{}
	for _, e := range t.entries {
		byURL[e.url] = e.resource
		byURL[e.resource.text("resourceType")+"/"+e.resource.text("id")] = e.resource
	}
	return func(reference string) object { return byURL[reference] }
}
