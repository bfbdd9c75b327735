package main

import (
	"context"
	"embed"
	"encoding/csv"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

//go:embed report.html
var reportFiles embed.FS

// auditReport writes what happened in a week at an officer's organisation.
func (a *app) auditReport(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, time.Minute)
	in := &v1.SummariseRequest{}
	var organisation bool
	var page, sheet string
	c.flags.BoolVar(&organisation, "organisation", false, "what happened at your organisation: needed")
	c.flags.StringVar(&in.From, "from", "", "first `day`; without it, the Monday of the last whole week")
	c.flags.StringVar(&in.Until, "until", "", "last `day`; without it, the Sunday after, or six days later")
	c.flags.StringVar(&in.Reason, "reason", "", "why you ask; it is recorded, and needed")
	c.flags.String("for-patient", "", "`NHSNUMBER`: the person's report instead, which has flags of its own: mcr audit report -for-patient NHSNUMBER -help lists them") // never given here: see reports
	c.flags.StringVar(&page, "html", "", "`file` to write as a page that needs no network; nothing is overwritten")
	c.flags.StringVar(&sheet, "csv", "", "`file` to write as a table; nothing is overwritten")
	if err := c.parse(0); err != nil {
		return err
	}
	if !organisation {
		return useError("-organisation: say what the report is about")
	}
	if in.Reason == "" {
		return useError("-reason: say why you ask")
	}
	if page == "" && sheet == "" {
		return useError("-html, -csv: name a file to write")
	}
	var err error
	if in.From, in.Until, err = week(in.From, in.Until, a.now()); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	known, err := v1.NewRecordServiceClient(conn).ListCustodians(ctx, &v1.ListCustodiansRequest{})
	if err != nil {
		return err
	}
	out, err := v1.NewWorklistServiceClient(conn).Summarise(ctx, in)
	if err != nil {
		return err
	}
	r := reportOf(out, in.From, in.Until, a.now())
	r.name(known.GetCustodians())
	for _, f := range []struct {
		path  string
		write func(io.Writer, report) error
	}{{page, writePage}, {sheet, writeSheet}} {
		if f.path == "" {
			continue
		}
		if err := newFile(f.path, func(w io.Writer) error { return f.write(w, r) }); err != nil {
			return err
		}
		a.say("%s is written.\n", safe(f.path))
	}
	if x := out.GetReceipt(); x != nil {
		a.say("This question was recorded too. %s\n", receiptText(x))
	}
	return nil
}

// newFile writes a file that was not there; half of one is none.
func newFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return useError("a file is there already, and nothing is overwritten: name another, or move it: " + safe(path))
		}
		return useError("a file cannot be made: is its folder there, and may you write to it? " + safe(path))
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		_ = os.Remove(path)
		return errors.New("the file cannot be written")
	}
	return nil
}

// week completes the days of a report.
func week(from, until string, now time.Time) (string, string, error) {
	day := func(flag, s string) (time.Time, error) {
		t, err := time.Parse(time.DateOnly, s)
		if err != nil {
			return t, useError(flag + ": a day, such as 2026-11-23")
		}
		return t, nil
	}
	if from == "" {
		monday := now.AddDate(0, 0, -(int(now.Weekday())+6)%7-7)
		from = monday.Format(time.DateOnly)
	}
	first, err := day("-from", from)
	if err != nil {
		return "", "", err
	}
	if until == "" {
		until = first.AddDate(0, 0, 6).Format(time.DateOnly)
	}
	last, err := day("-until", until)
	if err != nil {
		return "", "", err
	}
	if last.Before(first) || last.Sub(first) > 31*24*time.Hour {
		return "", "", useError("-from, -until: from comes first, and until is at most 31 days after it")
	}
	return from, until, nil
}

// report is what the page and the table show: counts, and nobody's name.
type report struct {
	Organisation, From, Until, Made string
	Name                            string // of the organisation
	Accesses, RefusedQuestions      int
	Alerts                          int // that rules raised
	Cut                             bool
	Purposes                        []purposeColour // of those that there are
	Days                            []dayBar
	Most                            int // accesses of the busiest day
	Outcomes, Refusals, Reviews     []bar
	BreakGlass                      int
	Rules                           []ruleBar
	Custodians                      []custodianBar
}

type bar struct {
	Name    string
	Count   int
	Percent float64
}

type dayBar struct {
	Day, Label string
	Count      int
	Parts      []part
}

// part is one piece of a stacked bar, in hundredths of the chart.
type part struct {
	Name       string
	Count      int
	At, Length float64
	Colour     int
}

type ruleBar struct {
	Rule                                               string
	Raised, Justified, NotJustified, Referred, Waiting int
	Found                                              string // its precision
	Parts                                              []part
}

type custodianBar struct {
	Key, Name string
	Asked     int
	Available string // of those asked
	Parts     []part
}

// available are the states of a custodian that answered.
var available = map[string]bool{"returned": true, "returned-in-part": true, "no-record": true}

func reportOf(x *v1.SummariseResponse, from, until string, now time.Time) report {
	r := report{Organisation: safe(x.GetOrganisation()), From: from, Until: until, Made: clock(now, "2 January 2006, 15:04"), Accesses: int(x.GetAccesses()), RefusedQuestions: int(x.GetRefusedQuestions()), Cut: x.GetCut(),
		BreakGlass: int(x.GetBreakGlass()), Outcomes: bars(x.GetOutcomes()), Refusals: bars(x.GetRefusals()), Reviews: bars(x.GetReviews())}
	byDay := map[string][]*v1.DayCount{}
	for _, d := range x.GetDays() {
		byDay[d.GetDay()] = append(byDay[d.GetDay()], d)
		if x := colourOf(d.GetPurpose()); !slices.Contains(r.Purposes, x) {
			r.Purposes = append(r.Purposes, x)
		}
	}
	slices.SortFunc(r.Purposes, func(a, b purposeColour) int { return a.Colour - b.Colour })
	for _, list := range byDay {
		slices.SortStableFunc(list, func(a, b *v1.DayCount) int { return colourOf(a.GetPurpose()).Colour - colourOf(b.GetPurpose()).Colour })
	}
	first, _ := time.Parse(time.DateOnly, from) // checked by week
	last, _ := time.Parse(time.DateOnly, until)
	if today, _ := time.Parse(time.DateOnly, clock(now, time.DateOnly)); last.After(today) { // a day that has not come has no accesses, and no bar
		last = today
	}
	for d := first; !d.After(last); d = d.AddDate(0, 0, 1) { // days without an access are days too
		b := dayBar{Day: d.Format(time.DateOnly), Label: d.Format("Mon 2 Jan")}
		for _, c := range byDay[b.Day] {
			b.Count += int(c.GetCount())
		}
		r.Most = max(r.Most, b.Count)
		r.Days = append(r.Days, b)
	}
	for i := range r.Days {
		b, at := &r.Days[i], 0
		for _, c := range byDay[b.Day] {
			x := colourOf(c.GetPurpose())
			b.Parts = append(b.Parts, piece(x.Name, int(c.GetCount()), at, r.Most, x.Colour))
			at += int(c.GetCount())
		}
	}
	most := 0
	for _, p := range x.GetAlerts() {
		most = max(most, int(p.GetRaised()))
	}
	for _, p := range x.GetAlerts() {
		b := ruleBar{Rule: safe(p.GetRule()), Raised: int(p.GetRaised()), Justified: int(p.GetJustified()), NotJustified: int(p.GetNotJustified()), Referred: int(p.GetReferred())}
		r.Alerts += b.Raised
		b.Found = "none judged yet"
		if judged := b.Justified + b.NotJustified; judged > 0 {
			b.Found = fmt.Sprintf("%.0f%%: %d of %d judged", 100*float64(b.NotJustified)/float64(judged), b.NotJustified, judged)
		}
		b.Waiting = max(b.Raised-b.Justified-b.NotJustified-b.Referred, 0)
		at := 0
		for i, n := range []struct {
			name  string
			count int
		}{{"not justified", b.NotJustified}, {"referred", b.Referred}, {"justified", b.Justified}, {"waiting", b.Waiting}} {
			if n.count > 0 {
				b.Parts = append(b.Parts, piece(n.name, n.count, at, most, i))
				at += n.count
			}
		}
		r.Rules = append(r.Rules, b)
	}
	for _, c := range x.GetCustodians() {
		b, well := custodianBar{Key: safe(c.GetCustodian())}, 0
		for _, s := range c.GetStates() {
			if b.Asked += int(s.GetCount()); available[s.GetName()] {
				well += int(s.GetCount())
			}
		}
		at := 0
		for _, s := range c.GetStates() {
			colour := 0
			if !available[s.GetName()] {
				colour = 1
			}
			b.Parts = append(b.Parts, piece(safe(s.GetName()), int(s.GetCount()), at, b.Asked, colour))
			at += int(s.GetCount())
		}
		if b.Asked > 0 {
			b.Available = fmt.Sprintf("%.1f%%", 100*float64(well)/float64(b.Asked))
			r.Custodians = append(r.Custodians, b)
		}
	}
	return r
}

// name calls the organisation and the custodians by their names.
func (r *report) name(known []*v1.CustodianHealth) {
	r.Name = r.Organisation
	for i := range r.Custodians {
		r.Custodians[i].Name = r.Custodians[i].Key
	}
	for _, h := range known {
		c := h.GetCustodian()
		if c.GetOdsCode() == r.Organisation && c.GetName() != "" {
			r.Name = safe(c.GetName()) + " (" + r.Organisation + ")"
		}
		for i := range r.Custodians {
			if x := &r.Custodians[i]; x.Key == c.GetKey() && c.GetName() != "" {
				x.Name = safe(c.GetName())
			}
		}
	}
}

// countsInWords says what a count is of where its code does not.
var countsInWords = map[string]string{"released": "shown", "nothing": "nothing to show", "cancelled": "the caller left", "abandoned": "not known", "open": "not looked into yet"}

func piece(name string, n, at, whole, colour int) part {
	return part{name, n, 100 * float64(at) / float64(max(whole, 1)), 100 * float64(n) / float64(max(whole, 1)), max(colour, 0) % 5}
}

// purposeColour is a purpose as a chart shows it: its colour is the same in every report.
type purposeColour struct {
	Name   string
	Colour int
}

func colourOf(p v1.Purpose) purposeColour {
	i := max(slices.IndexFunc(purposesShown, func(x purposeName) bool { return x.purpose == p }), 0)
	return purposeColour{purposesShown[i].name, i}
}

// purposeName is a purpose in words.
type purposeName struct {
	purpose v1.Purpose
	name    string
}

// purposesShown are the purposes in the order of their colours.
var purposesShown = []purposeName{{v1.Purpose_PURPOSE_TREAT, "direct care"}, {v1.Purpose_PURPOSE_BTG, "break-glass"}, {v1.Purpose_PURPOSE_ETREAT, "urgent care"}, {v1.Purpose_PURPOSE_UNSPECIFIED, "not stated"},
	{v1.Purpose_PURPOSE_PATRQT, "the person's own view, or a carer's"}}

func bars(list []*v1.NamedCount) []bar {
	total := 0
	for _, n := range list {
		total += int(n.GetCount())
	}
	var out []bar
	for _, n := range list {
		name := words(n.GetName())
		if text := countsInWords[name]; text != "" {
			name = text
		} else if text := reasons[n.GetName()]; text != "" {
			name = text
		}
		out = append(out, bar{name, int(n.GetCount()), 100 * float64(n.GetCount()) / float64(max(total, 1))})
	}
	return out
}

var pageTemplate = template.Must(template.ParseFS(reportFiles, "report.html"))

func writePage(w io.Writer, r report) error { return pageTemplate.Execute(w, r) }

// writeSheet writes the same counts as rows.
func writeSheet(w io.Writer, r report) error {
	out := csv.NewWriter(w)
	row := func(fields ...string) { _ = out.Write(fields) } // Error says whether all were written
	row("what", "of", "by", "count")
	row("accesses", r.From, r.Until, fmt.Sprint(r.Accesses))
	row("refused questions to the ledger", r.From, r.Until, fmt.Sprint(r.RefusedQuestions))
	for _, d := range r.Days {
		row("accesses by day", d.Day, "", fmt.Sprint(d.Count))
		for _, p := range d.Parts {
			row("accesses by day and purpose", d.Day, p.Name, fmt.Sprint(p.Count))
		}
	}
	for _, l := range []struct {
		what string
		list []bar
	}{{"outcome", r.Outcomes}, {"refused because", r.Refusals}, {"break-glass, review", r.Reviews}} {
		for _, b := range l.list {
			row(l.what, b.Name, "", fmt.Sprint(b.Count))
		}
	}
	row("break-glass", "", "", fmt.Sprint(r.BreakGlass))
	for _, b := range r.Rules {
		for _, n := range []struct {
			name  string
			count int
		}{{"raised", b.Raised}, {"not justified", b.NotJustified}, {"justified", b.Justified}, {"referred", b.Referred}, {"waiting", b.Waiting}} {
			row("alerts", b.Rule, n.name, fmt.Sprint(n.count))
		}
	}
	for _, c := range r.Custodians {
		for _, p := range c.Parts {
			row("custodian", c.Key, p.Name, fmt.Sprint(p.Count))
		}
	}
	out.Flush()
	return out.Error()
}
