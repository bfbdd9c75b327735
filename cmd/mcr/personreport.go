package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// toldPerson is what a person is told of who looked at their record, in words, and as it is written for a portal. Organisations and roles are always there, names only where
// policy lets the person see them and the report was asked to. A custodian that has a neutral name is called by it, and nothing beside it tells what it is.
type toldPerson struct {
	Title    string         `json:"title"`
	About    string         `json:"nhsNumber"`
	Made     string         `json:"made"`
	From     string         `json:"from,omitempty"`
	Until    string         `json:"until,omitempty"`
	Covers   string         `json:"covers"`
	Numbers  string         `json:"numbers,omitempty"` // under which numbers was looked
	Names    string         `json:"names,omitempty"`   // why there are none, where they were wanted
	Summary  []string       `json:"summary"`
	InShort  []reportWho    `json:"inShort,omitempty"` // who opened it, how often; where it was more than once
	Looked   []reportAccess `json:"looked"`
	Refused  []reportAccess `json:"refused"`
	Carers   []reportAccess `json:"carers"`
	Own      []reportAccess `json:"own"`
	Choices  []reportChoice `json:"choices"`
	Asked    []reportChoice `json:"askedTheLedger"`
	HowCheck []string       `json:"howToCheck"`
	Ledger   string         `json:"ledger"`
	Entries  uint64         `json:"checkpointEntries,omitempty"`
}

// reportWho counts the accesses by one role, or one named member, of an organisation's staff.
type reportWho struct {
	Who          string `json:"who"`
	Organisation string `json:"organisation"`
	Times        int    `json:"times"`
	First        string `json:"first"` // a day
	Last         string `json:"last"`
}

// reportAccess is one access in plain words.
type reportAccess struct {
	When         string       `json:"when"`
	Organisation string       `json:"organisation"`
	Role         string       `json:"role"`
	Name         string       `json:"name,omitempty"`
	Why          string       `json:"why"`
	Emergency    string       `json:"emergency,omitempty"`
	Review       string       `json:"review,omitempty"`
	Ended        string       `json:"ended"`
	Parts        []reportPart `json:"parts,omitempty"`
	Receipt      string       `json:"receipt"`

	day string
}

// reportPart is what one organisation's record gave.
type reportPart struct {
	Of    string `json:"of"`
	Kinds string `json:"kinds"`
	Count int32  `json:"entries"`
}

// reportChoice is one change of the person's choices, or one look at them or at this log.
type reportChoice struct {
	When    string `json:"when"`
	What    string `json:"what"`
	By      string `json:"by"`
	Times   int    `json:"times,omitempty"`   // within the minute, where more than once
	Receipt string `json:"receipt,omitempty"` // of what was refused

	at time.Time
}

// reports writes the one report or the other: they have their flags apart.
func (a *app) reports(ctx context.Context, c *call) error {
	if slices.ContainsFunc(c.args, func(s string) bool {
		return strings.HasPrefix(strings.TrimLeft(s, "-"), "for-patient") && strings.HasPrefix(s, "-")
	}) {
		return a.personReport(ctx, c)
	}
	return a.auditReport(ctx, c)
}

// personReport writes the person's report.
func (a *app) personReport(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 2*time.Minute)
	var person, from, until, reason, out string
	var names bool
	c.flags.StringVar(&person, "for-patient", "", "the person whose report it is: their `NHS number`; - for standard input")
	c.flags.StringVar(&from, "from", "", "from this `date` on, such as 2026-01-01; default: all that is recorded")
	c.flags.StringVar(&until, "until", "", "until this `date`")
	c.flags.StringVar(&reason, "reason", "", "why you ask; it is recorded, and needed of everybody but the person themselves")
	c.flags.StringVar(&out, "out", ".", "the `folder` to write report.html, report.pdf and report.json to; it is made where there is none, and files that are there are not written over")
	c.flags.BoolVar(&names, "names", false, "the names of staff too, where the policy lets the person see them")
	if slices.ContainsFunc(c.args, func(s string) bool { return strings.HasPrefix(s, "-") && isHelp(s) }) {
		return flag.ErrHelp
	}
	if err := c.parse(0); err != nil {
		return err
	}
	if person == "" {
		return useError("-for-patient: whose report?")
	}
	number, err := a.number(person)
	if err != nil {
		return err
	}
	if reason == "" && a.staffToken(s) {
		return useError("-reason: say why you ask; it is recorded, and the person is told that you asked")
	}
	if err := readyFor(out); err != nil { // before anything is asked: each question is recorded, and told to the person
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	r, err := a.makeReport(ctx, conn, &v1.AskRequest{NhsNumber: number, From: from, Until: until, Reason: reason}, names)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	page, err := reportHTML(r)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	pdf, err := reportPDF(r)
	if err != nil {
		return errors.New("the PDF of the report cannot be made")
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{reportNames[0], page}, {reportNames[1], pdf}, {reportNames[2], append(text, '\n')}} {
		if err := writeNew(filepath.Join(out, f.name), f.data); err != nil {
			return err
		}
	}
	a.say("Written: report.html, report.pdf and report.json. %s\n", strings.Join(r.Summary, " "))
	return nil
}

// reportNames are the files of a person's report.
var reportNames = [...]string{"report.html", "report.pdf", "report.json"}

// readyFor makes the folder of a report, and sees to it that none is there already.
func readyFor(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return useError("-out: the folder cannot be made")
	}
	for _, name := range reportNames {
		if _, err := os.Lstat(filepath.Join(folder, name)); err == nil {
			return useError("-out: a report is there already: name another folder, or move it")
		}
	}
	return nil
}

// writeNew writes a file that only its owner can read, and never over one that is there: what it holds is about one person.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return useError("-out: a report is there already: name another folder, or move it")
	case err != nil:
		return useError("-out: the folder cannot be written to")
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.New("the report cannot be written to its end: is there room?")
	}
	return nil
}

// reporter turns rows into words.
type reporter struct {
	names      bool
	custodians map[string]*v1.Custodian // by key
	holders    map[string]*v1.Custodian // by ODS code
	hidden     map[string]bool          // sections that would tell what a custodian with a neutral name is
}

// makeReport asks what the report says.
func (a *app) makeReport(ctx context.Context, conn *grpc.ClientConn, about *v1.AskRequest, names bool) (*toldPerson, error) {
	client := v1.NewAuditServiceClient(conn)
	known, err := v1.NewRecordServiceClient(conn).ListCustodians(ctx, &v1.ListCustodiansRequest{})
	if err != nil {
		return nil, err
	}
	w := &reporter{names: names, custodians: map[string]*v1.Custodian{}, holders: map[string]*v1.Custodian{}, hidden: map[string]bool{}}
	for _, h := range known.GetCustodians() {
		c := h.GetCustodian()
		w.custodians[c.GetKey()], w.holders[c.GetOdsCode()] = c, c
		if c.GetNeutralName() != "" {
			w.hidden[c.GetKind()] = true
		}
	}
	r := &toldPerson{Title: "Who has looked at your health and care record", About: groupNumber(about.GetNhsNumber()), Made: clock(a.now(), "2 January 2006, 15:04"), From: about.GetFrom(), Until: about.GetUntil()}
	asker := &v1.Receipt{}
	err = allRows(ctx, client, about, v1.Question_QUESTION_WHO_LOOKED, func(out *v1.AskResponse) {
		asker = out.GetReceipt()
		if names && !out.GetPersonSeesNames() { // who asks may see them; whom the report is for may not
			w.names, r.Names = false, "The names of staff are left out: what this region has decided does not let people see them."
		}
		if f := out.GetFollowed(); f != nil && r.Numbers == "" {
			r.Numbers = strings.TrimSpace(followedText(f))
		}
		for _, row := range out.GetRows() {
			w.access(r, row)
		}
	})
	if err != nil {
		return nil, err
	}
	err = allRows(ctx, client, about, v1.Question_QUESTION_BREAK_GLASS, func(out *v1.AskResponse) {
		for _, row := range out.GetRows() {
			w.reviewed(r, row)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, kind := range []v1.Question{v1.Question_QUESTION_CONSENT_CHANGES, v1.Question_QUESTION_LEDGER_READS} {
		err = allRows(ctx, client, about, kind, func(out *v1.AskResponse) {
			for _, row := range out.GetRows() {
				if kind == v1.Question_QUESTION_CONSENT_CHANGES {
					r.Choices = append(r.Choices, w.choice(row))
				} else {
					r.Asked = append(r.Asked, w.look(row))
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	r.Covers = "everything that the ledger holds about you."
	if about.GetReason() != "" { // an officer's report: they know of their own organisation's accesses alone
		r.Covers = "what the organisation that made this report may know: accesses by its own staff, and by anybody to its own records. You can ask for everything yourself."
	}
	r.Asked = gathered(r.Asked)
	r.Ledger = asker.GetOrigin()
	if newest, err := client.GetCheckpoint(ctx, &v1.GetCheckpointRequest{}); err == nil {
		r.Entries = newest.GetCheckpoint().GetSize()
	}
	r.finish()
	return r, nil
}

// allRows asks a question to its end.
func allRows(ctx context.Context, client v1.AuditServiceClient, about *v1.AskRequest, kind v1.Question, each func(*v1.AskResponse)) error {
	in := &v1.AskRequest{Question: kind, NhsNumber: about.GetNhsNumber(), From: about.GetFrom(), Until: about.GetUntil(), Reason: about.GetReason(), Limit: 500}
	for {
		out, err := client.Ask(ctx, in)
		if err != nil {
			return err
		}
		each(out)
		if out.GetNextPageToken() == "" {
			return nil
		}
		in = &v1.AskRequest{PageToken: out.GetNextPageToken(), Limit: in.GetLimit()}
	}
}

func (r *toldPerson) finish() {
	n := len(r.Looked)
	if n > 1 {
		r.InShort = inShort(r.Looked)
	}
	r.Summary = []string{fmt.Sprintf("Staff opened your record %s.", times(n))}
	if n == 0 {
		r.Summary[0] = "No staff have opened your record."
	}
	if n := len(r.Refused); n > 0 {
		r.Summary = append(r.Summary, fmt.Sprintf("Requests were refused %s.", times(n)))
	}
	if n := len(r.Carers); n > 0 {
		r.Summary = append(r.Summary, fmt.Sprintf("Carers asked for it %s.", times(n)))
	}
	if n := slices.IndexFunc(r.Looked, func(x reportAccess) bool { return x.Emergency != "" }); n >= 0 {
		r.Summary = append(r.Summary, "Emergency access was used.")
	}
	r.HowCheck = []string{
		"Each access has a receipt: the number of an entry, a dot, and 64 letters and digits. It is the fingerprint of that entry in a ledger that nobody can change unnoticed.",
		"The organisation that made this report, or any other that takes part, can check a receipt for you; they do it with: mcr audit receipt RECEIPT. The answer is TRUE only if the entry stands in the ledger as the receipt says; the proof is checked on the computer that asks.",
		"If something here looks wrong, or you do not know why somebody looked, tell the organisation that is named, or its data protection officer. You can also complain to the Information Commissioner's Office.",
	}
}

// inShort counts accesses, newest first, by who it was: most first.
func inShort(list []reportAccess) (out []reportWho) {
	for _, x := range list {
		who := x.Role
		if x.Name != "" {
			who = x.Name + ", " + x.Role
		}
		i := slices.IndexFunc(out, func(w reportWho) bool { return w.Who == who && w.Organisation == x.Organisation })
		if i < 0 {
			i, out = len(out), append(out, reportWho{Who: who, Organisation: x.Organisation, Last: x.day})
		}
		out[i].Times, out[i].First = out[i].Times+1, x.day
	}
	slices.SortStableFunc(out, func(a, b reportWho) int { return b.Times - a.Times })
	return out
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// purposesInWords says what a purpose is.
var purposesInWords = map[v1.Purpose]string{v1.Purpose_PURPOSE_TREAT: "for your care", v1.Purpose_PURPOSE_ETREAT: "for your urgent care",
	v1.Purpose_PURPOSE_BTG: "in an emergency, without your permission", v1.Purpose_PURPOSE_PATRQT: "to see the record"}

// permissionsInWords says on what permission somebody asked, as they stated it.
var permissionsInWords = map[v1.PermissionKind]string{v1.PermissionKind_PERMISSION_KIND_ASKED_YES: "they said that you agreed", v1.PermissionKind_PERMISSION_KIND_ASKED_EARLIER: "they said that you had agreed before",
	v1.PermissionKind_PERMISSION_KIND_IMPLIED_BY_REFERRAL: "you were referred to them", v1.PermissionKind_PERMISSION_KIND_CANNOT_ASK: "they said that you could not be asked",
	v1.PermissionKind_PERMISSION_KIND_BEST_INTERESTS: "they said that it was in your best interests", v1.PermissionKind_PERMISSION_KIND_NOT_REQUIRED: "their organisation need not ask each time",
	v1.PermissionKind_PERMISSION_KIND_ASKED_NO: "they said that you did not agree"}

// access adds one access to its list.
func (w *reporter) access(r *toldPerson, row *v1.AnswerRow) {
	e := row.GetEntry()
	x, by := e.GetAccess(), e.GetAccess().GetRequester()
	out := reportAccess{When: clock(row.GetBegan().AsTime(), "2 January 2006, 15:04"), day: clock(row.GetBegan().AsTime(), "2 Jan 2006"), Organisation: w.organisation(by.GetOrganisation()), Role: w.role(by, x.GetRoleName()),
		Receipt: fmt.Sprintf("%d.%x", e.GetPosition(), e.GetLeaf())}
	neutral := w.holders[by.GetOrganisation()].GetNeutralName() != ""
	if w.names && !neutral {
		out.Name = safe(by.GetName())
	}
	out.Why = strings.Join(nonEmpty([]string{purposesInWords[x.GetPurpose()], permissionsInWords[x.GetPermission().GetKind()]}), "; ")
	if x.GetPurpose() == v1.Purpose_PURPOSE_BTG {
		out.Emergency = "They gave this reason: \"" + safe(x.GetBreakGlassReason()) + "\"."
		if neutral {
			out.Emergency = "They gave a reason, which you can ask them for."
		}
	}
	shown := false
	for _, c := range e.GetDisclosure().GetCustodians() {
		if c.GetCount() > 0 {
			out.Parts, shown = append(out.Parts, w.part(c)), true
		}
	}
	switch row.GetOutcome() {
	case v1.AccessOutcome_ACCESS_OUTCOME_SHOWN:
		out.Ended = "They were shown the parts of your record that are listed."
	case v1.AccessOutcome_ACCESS_OUTCOME_NOTHING:
		out.Ended = "Nothing was shown."
	case v1.AccessOutcome_ACCESS_OUTCOME_REFUSED:
		out.Ended = "It was refused. Nothing was shown."
	case v1.AccessOutcome_ACCESS_OUTCOME_CANCELLED:
		out.Ended = "They left before it was answered."
	default:
		out.Ended = "It is not known how this ended. Count it as one that may have been answered."
	}
	if shown && row.GetOutcome() != v1.AccessOutcome_ACCESS_OUTCOME_SHOWN {
		out.Ended = "It ended early. The parts that are listed may have been shown before."
	}
	own := x.GetPermission().GetKind() == v1.PermissionKind_PERMISSION_KIND_PATIENT_SELF
	if row.GetAsked() != "" { // a question that was refused; whether a person asked about themselves is said in its explanation
		who := "somebody with a sign-in of their own, not staff"
		if by.GetKind() != "person" {
			who = w.requester(by, x.GetRoleName())
		}
		r.Asked = append(r.Asked, reportChoice{When: out.When, What: e.GetExplanation() + " It was refused.", By: who, Receipt: out.Receipt, at: e.GetAt().AsTime()})
		return
	}
	switch {
	case by.GetKind() == "person" && own:
		out.Role, out.Organisation, out.Ended = "you", "your own sign-in", strings.Replace(out.Ended, "They were", "You were", 1)
		r.Own = append(r.Own, out)
	case by.GetKind() == "person":
		out.Role, out.Organisation = "a carer", "their own sign-in"
		r.Carers = append(r.Carers, out)
	case row.GetOutcome() == v1.AccessOutcome_ACCESS_OUTCOME_REFUSED && !shown:
		r.Refused = append(r.Refused, out)
	default:
		r.Looked = append(r.Looked, out)
	}
}

// reviewed adds to an emergency access what was found when somebody looked into it. An override stands two entries or more before the end of its access, and
// no other of the person's begins in between.
func (w *reporter) reviewed(r *toldPerson, row *v1.AnswerRow) {
	began := clock(row.GetEntry().GetAt().AsTime(), "2 January 2006, 15:04")
	text := "Nobody has looked into it yet."
	if row.GetReview() != nil {
		text = row.GetReview().GetExplanation()
	}
	for _, list := range [][]reportAccess{r.Looked, r.Refused} {
		for i := range list {
			if x := &list[i]; x.Emergency != "" && x.When == began && x.Review == "" {
				x.Review = text
				return
			}
		}
	}
}

// part says what one custodian's record gave.
func (w *reporter) part(c *v1.DisclosedPart) reportPart {
	of := w.custodians[c.GetCustodian()]
	out := reportPart{Of: w.custodian(c.GetCustodian()), Count: c.GetCount(), Kinds: "parts of your record"}
	if of.GetNeutralName() != "" {
		return out
	}
	var kinds []string
	for _, s := range c.GetSections() {
		if k := w.section(s); !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	out.Kinds = strings.Join(kinds, ", ")
	return out
}

// section names a section, but for one that would tell what a custodian with a neutral name is.
func (w *reporter) section(s v1.Section) string {
	code := codeOf(s.String(), "SECTION_")
	if w.hidden[code] {
		return "other information"
	}
	if text := sectionsInWords[code]; text != "" {
		return text
	}
	return strings.ReplaceAll(code, "-", " ")
}

// sectionsInWords says what a section is where its code does not, in words of the person's.
var sectionsInWords = map[string]string{"demographics": "personal details", "medications": "medicines", "results": "test results", "correspondence": "letters", "history": "health history",
	"emergency": "emergency care", "plans-alerts": "care plans and alerts", "community": "community care", "other": "other information"}

// rolesInWords likewise.
var rolesInWords = map[string]string{"ig-officer": "officer for information governance"}

func (w *reporter) custodian(key string) string {
	c := w.custodians[key]
	return nameOr(safe(c.GetNeutralName()), nameOr(safe(c.GetName()), safe(key)))
}

// organisation names an organisation by its ODS code.
func (w *reporter) organisation(code string) string {
	c := w.holders[code]
	switch {
	case c.GetNeutralName() != "":
		return safe(c.GetNeutralName())
	case c != nil:
		return safe(c.GetName())
	case code == "":
		return "–"
	}
	return "the organisation with the code " + safe(code)
}

// role says what somebody is, without saying what a custodian with a neutral name is.
func (w *reporter) role(by *v1.Requester, role string) string {
	if w.holders[by.GetOrganisation()].GetNeutralName() != "" || role == "" || role == "none" {
		return "somebody who works in health or care"
	}
	if text := rolesInWords[role]; text != "" {
		return text
	}
	return strings.ReplaceAll(safe(role), "-", " ")
}

// choice says what was chosen.
func (w *reporter) choice(row *v1.AnswerRow) reportChoice {
	e := row.GetEntry()
	out := reportChoice{When: clock(e.GetAt().AsTime(), "2 January 2006, 15:04"), By: w.actor(e.GetActor())}
	switch {
	case e.GetObjection() != nil:
		o := e.GetObjection()
		to := map[v1.ObjectionScope]string{v1.ObjectionScope_OBJECTION_SCOPE_ALL: "all sharing of your record"}[o.GetScope()]
		switch o.GetScope() {
		case v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN:
			to = "the record that " + w.custodian(o.GetCustodian()) + " holds being shown"
		case v1.ObjectionScope_OBJECTION_SCOPE_SECTION:
			to = w.section(o.GetSection()) + " being shown"
		}
		out.What = "An objection to " + to + ". " + e.GetExplanation()
	default:
		out.What = e.GetExplanation()
	}
	return out
}

// look says who looked at the person's choices or at this log.
func (w *reporter) look(row *v1.AnswerRow) reportChoice {
	e := row.GetEntry()
	what := "They asked who had looked at your record, or who had changed your choices."
	switch row.GetAsked() {
	case "objections", "delegations", "foresight":
		what = "They looked at your choices about sharing."
	case "view", "event":
		what = "They looked at one of the accesses to your record more closely: who it was, why, and which kinds of information were shown. They did not see the information."
	case "list", "export", "changes":
		what = "Your choices were among those of many people that were brought in, taken out or passed on."
	}
	return reportChoice{When: clock(e.GetAt().AsTime(), "2 January 2006, 15:04"), What: what, By: w.actor(e.GetActor()), at: e.GetAt().AsTime()}
}

// gathered puts what was asked in order, newest first, and tells once, with how often, what was asked several times within a minute: a report is several questions. Why they asked is not
// told: it may be about somebody else.
func gathered(list []reportChoice) (out []reportChoice) {
	slices.SortStableFunc(list, func(a, b reportChoice) int { return b.at.Compare(a.at) })
	for _, x := range list {
		if n := len(out) - 1; n >= 0 && out[n].When == x.When && out[n].What == x.What && out[n].By == x.By && x.Receipt == "" {
			out[n].Times = max(out[n].Times, 1) + 1
			continue
		}
		out = append(out, x)
	}
	return out
}

func (w *reporter) actor(x *v1.Actor) string { return w.requester(x.GetRequester(), x.GetRoleName()) }

func (w *reporter) requester(by *v1.Requester, role string) string {
	switch by.GetKind() {
	case "person":
		return "you, or somebody whom you let act for you"
	case "system":
		return "a system"
	}
	return w.role(by, role) + ", " + w.organisation(by.GetOrganisation())
}
