package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// ask is one of the questions that a command asks.
type ask struct {
	question v1.Question
	args     int    // how many words stand beside the flags
	want     string // what they are
	accesses bool   // outcomes and purposes restrict it
	nothing  string // said where nothing was found
	example  string // of a use without what it needs
}

// asks says which question each command asks.
var asks = map[string]ask{
	"audit who":      {v1.Question_QUESTION_WHO_LOOKED, 1, "an NHS number and flags", true, "Nobody has looked at this person's record, as far as you may see.", ""},
	"audit user":     {v1.Question_QUESTION_BY_USER, 1, "an SDS user id and flags", true, "This user has looked at nothing, as far as you may see. (Whether there is such a user is not looked up.)", ""},
	"audit staff":    {v1.Question_QUESTION_BY_STAFF, 1, "the ODS code of an organisation and flags", true, "Its staff have looked at nothing, as far as you may see. (Whether there is such an organisation is not looked up.)", ""},
	"audit records":  {v1.Question_QUESTION_OF_RECORDS, 1, "the ODS code of an organisation and flags", true, "Nobody has looked at its records, as far as you may see. (Whether it holds any here is in: mcr custodians.)", ""},
	"audit refusals": {v1.Question_QUESTION_REFUSALS, 0, "flags only", true, "Nothing was refused, as far as you may see.", ""},
	"audit glass":    {v1.Question_QUESTION_BREAK_GLASS, 0, "flags only", true, "The glass was not broken, as far as you may see.", ""},
	"audit changes":  {v1.Question_QUESTION_CONSENT_CHANGES, 0, "flags only", false, "No choices were recorded or changed, as far as you may see.", ""},
	"audit asked":    {v1.Question_QUESTION_LEDGER_READS, 0, "flags only", false, "Nobody has asked, as far as you may see.", ""},
}

// asking are the flags that the questions have in common.
type asking struct {
	*server
	in       *v1.AskRequest
	person   string
	output   string
	outcomes list
	purposes list
	total    bool
	all      bool
	limit    int
}

// auditQuestion asks the question of the command's name.
func (a *app) auditQuestion(ctx context.Context, c *call) error {
	x, err := a.readQuestion(c, asks[c.flags.Name()])
	if err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	client := v1.NewAuditServiceClient(conn)
	if x.total {
		return a.totals(ctx, client, x)
	}
	of := asks[c.flags.Name()]
	shown := 0
	for in := x.in; ; {
		out, err := client.Ask(ctx, in)
		if err != nil {
			return err
		}
		shown += len(out.GetRows())
		next := out.GetNextPageToken()
		switch {
		case x.output == "json":
			a.say("%s\n", jsonOf(out, "{}"))
		default:
			a.say("%s", rowsText(out.GetRows(), of, a.columns))
		}
		if next == "" || !x.all && (len(out.GetRows()) > 0 || shown > 0) {
			if x.output != "json" {
				a.asked(out, of, shown, next)
			}
			return nil
		}
		in = &v1.AskRequest{PageToken: next, Limit: x.in.GetLimit()} // a page that took long may be empty and have a next one
	}
}

// asked says how the answer ends.
func (a *app) asked(out *v1.AskResponse, of ask, shown int, next string) {
	if shown == 0 {
		a.say("%s\n", of.nothing)
	}
	a.say("\n%s", followedText(out.GetFollowed()))
	if next != "" {
		a.say("There are older ones: ask with -all for every one, with -limit for more, or with -until for those before a day.\n")
	}
	a.say("This question was recorded too. %s\n", receiptText(out.GetReceipt()))
}

// followedText says under which numbers somebody was looked for.
func followedText(f *v1.Followed) string {
	switch {
	case f == nil:
		return ""
	case !f.GetAnswered():
		return "The demographics service could not be asked just now: entries under earlier numbers, if there were any, are not here.\n"
	case f.GetSuperseded() == 1:
		return "Looked for under the earlier number that the demographics service confirms, too.\n"
	case f.GetSuperseded() > 1:
		return fmt.Sprintf("Looked for under the %d earlier numbers that the demographics service confirms, too.\n", f.GetSuperseded())
	}
	return ""
}

func (a *app) readQuestion(c *call, of ask) (*asking, error) {
	x := &asking{server: serverFlags(c.flags, 30*time.Second), in: &v1.AskRequest{Question: of.question}}
	x.define(c.flags, of)
	if err := c.words(of.args, of.want); err != nil {
		return nil, err
	}
	word := ""
	if of.args > 0 {
		word = c.args[0]
	}
	switch of.question {
	case v1.Question_QUESTION_WHO_LOOKED:
		x.person = word
	case v1.Question_QUESTION_BY_USER:
		x.in.User = word
	case v1.Question_QUESTION_BY_STAFF:
		x.in.Organisation = word
	case v1.Question_QUESTION_OF_RECORDS:
		x.in.Holder = word
	}
	if x.output != "text" && x.output != "json" {
		return nil, useError("-o: text or json")
	}
	if x.limit < 1 || x.limit > 1000 {
		return nil, useError("-limit: 1 to 1000")
	}
	x.in.Limit = int32(x.limit)
	for _, o := range x.outcomes {
		n := v1.AccessOutcome_value["ACCESS_OUTCOME_"+enumName(o)]
		if n == 0 {
			return nil, useError("-outcome: one of " + strings.Join(outcomeNames(), ", "))
		}
		x.in.Outcomes = append(x.in.Outcomes, v1.AccessOutcome(n))
	}
	for _, p := range x.purposes {
		n := v1.Purpose_value["PURPOSE_"+enumName(p)]
		if n == 0 {
			return nil, useError("-purpose: one of TREAT, ETREAT, BTG, PATRQT")
		}
		x.in.Purposes = append(x.in.Purposes, v1.Purpose(n))
	}
	if x.in.Reason == "" && a.staffToken(x.server) { // refused, it would stand in the ledger as a refused question about the person
		return nil, useError("-reason: say why you ask; it is recorded")
	}
	var err error
	x.in.NhsNumber, err = a.number(x.person)
	return x, err
}

func (x *asking) define(fs *flag.FlagSet, of ask) {
	if of.question != v1.Question_QUESTION_WHO_LOOKED {
		fs.StringVar(&x.person, "person", "", "only about this `NHS number`; - for standard input")
	}
	if of.question != v1.Question_QUESTION_BY_USER {
		fs.StringVar(&x.in.User, "user", "", "only by this SDS user `id`")
	}
	if of.question != v1.Question_QUESTION_BY_STAFF {
		fs.StringVar(&x.in.Organisation, "organisation", "", "only by staff of this organisation: `ODS code`")
	}
	if of.question != v1.Question_QUESTION_OF_RECORDS && of.question != v1.Question_QUESTION_LEDGER_READS {
		fs.StringVar(&x.in.Holder, "holder", "", "only where a record of this organisation was asked for: `ODS code`")
	}
	if of.accesses {
		fs.Var(&x.outcomes, "outcome", "only accesses that ended so: "+strings.Join(outcomeNames(), ", "))
		fs.Var(&x.purposes, "purpose", "only accesses for these `purposes`: TREAT, ETREAT, BTG, PATRQT")
	}
	fs.StringVar(&x.in.From, "from", "", "at or after this `date`, such as 2026-11-01")
	fs.StringVar(&x.in.Until, "until", "", "at or before this `date`; 2026-11 is the whole month")
	fs.StringVar(&x.in.Reason, "reason", "", "why you ask; it is recorded, and needed of everybody but the person themselves")
	fs.IntVar(&x.limit, "limit", 100, "how many at most, up to 1000")
	fs.BoolVar(&x.all, "all", false, "every one, page after page")
	fs.BoolVar(&x.total, "total", false, "count instead: by day, user, organisation, section")
	fs.StringVar(&x.in.Archive, "archive", "", archiveHelp)
	fs.StringVar(&x.output, "o", "text", "text or json")
}

const archiveHelp = "only from this archive of a closed key epoch: the `name` of a file in the broker's folder of archives"

func outcomeNames() []string {
	var out []string
	for n := int32(1); int(n) < len(v1.AccessOutcome_name); n++ {
		out = append(out, codeOf(v1.AccessOutcome_name[n], "ACCESS_OUTCOME_"))
	}
	return out
}

// rowsText shows a page of an answer as a table: one line for what, when and who, and under it what was shown and why.
func rowsText(rows []*v1.AnswerRow, of ask, width int) string {
	if len(rows) == 0 {
		return ""
	}
	p := &page{width: min(max(width, 60), 160)}
	p.line(columnsText("entry", "when", "by", "organisation", "purpose", "ended"))
	for _, r := range rows {
		e := r.GetEntry()
		at := e.GetAt()
		if r.GetBegan() != nil {
			at = r.GetBegan()
		}
		by := e.GetAccess().GetRequester()
		role := e.GetAccess().GetRoleName()
		if by == nil {
			by, role = e.GetActor().GetRequester(), e.GetActor().GetRoleName()
		}
		purpose, ended := "", codeOf(r.GetOutcome().String(), "ACCESS_OUTCOME_")
		if n := e.GetAccess().GetPurpose(); n != 0 {
			purpose = strings.TrimPrefix(n.String(), "PURPOSE_")
		}
		switch {
		case r.GetOutcome() == 0 && of.accesses:
			ended = "not known"
		case r.GetOutcome() == 0:
			ended = codeOf(e.GetType().String(), "ENTRY_TYPE_")
		}
		p.line(columnsText(fmt.Sprint(e.GetPosition()), clock(at.AsTime(), "2 Jan 2006 15:04"), nameOr(safe(by.GetName()), nameOr(safe(by.GetUser()), safe(by.GetKind()))),
			safe(by.GetOrganisation()), purpose, ended))
		p.rowDetails(r, by, role, of)
	}
	return p.String()
}

// columnsText pads the columns of a row. A name that is too long pushes the rest aside.
func columnsText(entry, when, by, organisation, purpose, ended string) string {
	return pad(entry, 8) + " " + pad(when, 17) + " " + pad(by, 24) + " " + pad(organisation, 12) + " " + pad(purpose, 7) + " " + ended
}

// rowDetails writes what does not fit into columns.
func (p *page) rowDetails(r *v1.AnswerRow, by *v1.Requester, role string, of ask) {
	const at = 9
	e := r.GetEntry()
	row := func(label, text string) {
		if text != "" {
			p.hang("", at, "", label+": "+text)
		}
	}
	if of.question != v1.Question_QUESTION_WHO_LOOKED && e.GetNhsNumber() != "" {
		row("person", groupNumber(e.GetNhsNumber()))
	}
	row("role", strings.Join(nonEmpty([]string{nameOr(safe(role), safe(by.GetJobRole())), safe(by.GetUser()), safe(by.GetClient())}), ", "))
	if x := e.GetAccess(); x != nil {
		row("stated", strings.Join(nonEmpty([]string{permissionText(x.GetPermission()), relationshipText(x.GetRelationship())}), " · "))
		row("glass", safe(x.GetBreakGlassReason()))
		if r.GetOutcome() == v1.AccessOutcome_ACCESS_OUTCOME_REFUSED || r.GetOutcome() == v1.AccessOutcome_ACCESS_OUTCOME_NOTHING {
			row("because", reasonText(nameOr(e.GetReason(), x.GetDecision())))
		}
	}
	for _, c := range e.GetDisclosure().GetCustodians() {
		row(safe(c.GetCustodian()), shownText(c))
	}
	if o := e.GetObjection(); o != nil {
		row("objection", strings.Join(strings.Fields(objectionText(o, 400)), " "))
	}
	if d := e.GetDelegation(); d != nil {
		row("carer", strings.Join(strings.Fields(delegationText(d, 400)), " "))
	}
	switch s := r.GetAsked(); {
	case s != "" && e.GetAccess() != nil:
		row("asked for", "not the record: the ledger, or the person's choices ("+words(s)+")")
	case s != "":
		row("asked", words(strings.ReplaceAll(s, "-", "_")))
	}
	row("why", safe(e.GetActor().GetReason()))
	if s := r.GetAlert(); s != "" {
		row("alert", safe(s))
		row("review", reviewText(r, e.GetPosition()))
	}
}

func reviewText(r *v1.AnswerRow, position uint64) string {
	if r.GetReview() == nil {
		return fmt.Sprintf("nobody has looked into it: mcr audit review %d", position)
	}
	return strings.Join(nonEmpty([]string{words(strings.ReplaceAll(r.GetReview().GetReason(), "-", "_")), safe(r.GetReview().GetNote())}), ": ")
}

// shownText says what one custodian showed.
func shownText(c *v1.DisclosedPart) string {
	text := codeOf(c.GetState().String(), "CUSTODIAN_STATE_")
	if c.GetCount() > 0 {
		var sections []string
		for _, s := range c.GetSections() {
			sections = append(sections, codeOf(s.String(), "SECTION_"))
		}
		text += fmt.Sprintf(": %s (%s)", count(int(c.GetCount()), "entry"), strings.Join(sections, ", "))
	}
	if len(c.GetParts()) > 0 {
		text += "; " + partsText(c.GetParts())
	}
	return text
}

// totals adds the parts of a count up and shows them.
func (a *app) totals(ctx context.Context, client v1.AuditServiceClient, x *asking) error {
	x.in.Limit = 0
	sum := &v1.TotalResponse{}
	for in := x.in; ; {
		part, err := client.Total(ctx, &v1.TotalRequest{Of: in})
		if err != nil {
			return err
		}
		addTotals(sum, part)
		if part.GetNextPageToken() == "" {
			break
		}
		in = &v1.AskRequest{PageToken: part.GetNextPageToken()}
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(sum, "{}"))
		return nil
	}
	p := &page{width: min(max(a.columns, 60), 160)}
	p.line(fmt.Sprintf("%d in all.", sum.GetRows()))
	for _, group := range []struct {
		title string
		list  []*v1.Total
	}{{"by day", sum.GetDays()}, {"by user", sum.GetUsers()}, {"by organisation", sum.GetOrganisations()}, {"by section (custodians' parts that showed it)", sum.GetSections()},
		{"by custodian (accesses that showed something of its record)", sum.GetCustodians()}, {"by how it ended", sum.GetOutcomes()}, {"by purpose", sum.GetPurposes()}} {
		if len(group.list) == 0 {
			continue
		}
		p.line("\n" + group.title)
		for _, t := range group.list {
			p.line(fmt.Sprintf("  %8d  %s", t.GetCount(), strings.Join(nonEmpty([]string{safe(t.GetKey()), safe(t.GetName())}), "  ")))
		}
	}
	if n := sum.GetOtherUsers(); n > 0 {
		p.line(fmt.Sprintf("  %8d  of users beyond those listed", n))
	}
	a.say("%s\n%sThis question was recorded too. %s\n", p.String(), followedText(sum.GetFollowed()), receiptText(sum.GetReceipt()))
	return nil
}

// addTotals adds one part of a count to the sum.
func addTotals(sum, part *v1.TotalResponse) {
	sum.Rows += part.GetRows()
	sum.OtherUsers += part.GetOtherUsers()
	sum.Receipt = part.GetReceipt()
	if part.GetFollowed() != nil {
		sum.Followed = part.GetFollowed()
	}
	add := func(to *[]*v1.Total, list []*v1.Total, byCount bool) {
		all := map[string]*v1.Total{}
		for _, t := range append(*to, list...) {
			if known := all[t.GetKey()]; known != nil {
				known.Count += t.GetCount()
				continue
			}
			all[t.GetKey()] = &v1.Total{Key: t.GetKey(), Name: t.GetName(), Count: t.GetCount()}
		}
		*to = nil
		for _, key := range slices.Sorted(maps.Keys(all)) {
			*to = append(*to, all[key])
		}
		if byCount {
			slices.SortStableFunc(*to, func(a, b *v1.Total) int { return int(min(max(int64(b.GetCount())-int64(a.GetCount()), -1), 1)) })
		}
	}
	add(&sum.Days, part.GetDays(), false)
	add(&sum.Users, part.GetUsers(), true)
	add(&sum.Organisations, part.GetOrganisations(), true)
	add(&sum.Sections, part.GetSections(), true)
	add(&sum.Custodians, part.GetCustodians(), true)
	add(&sum.Outcomes, part.GetOutcomes(), true)
	add(&sum.Purposes, part.GetPurposes(), true)
}

// auditView shows what was shown in one view.
func (a *app) auditView(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	in := &v1.ShowViewRequest{}
	var output string
	c.flags.StringVar(&in.Reason, "reason", "", "why you ask; it is recorded, and needed of everybody but the person themselves")
	c.flags.StringVar(&output, "o", "text", "text or json; json has the digest of each entry that was shown")
	if err := c.words(1, "the number of an entry (from a table, or the beginning of a receipt) and flags"); err != nil {
		return err
	}
	if output != "text" && output != "json" {
		return useError("-o: text or json")
	}
	if in.Reason == "" && a.staffToken(s) {
		return useError("-reason: say why you ask; it is recorded")
	}
	word, _, _ := strings.Cut(c.args[0], ".") // of a receipt the position alone counts here
	if _, err := fmt.Sscanf(word, "%d", &in.Position); err != nil {
		return useError("mcr audit view takes the number of an entry: mcr audit who and the other questions list them")
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewAuditServiceClient(conn).ShowView(ctx, in)
	if err != nil {
		return err
	}
	if output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("%s\n", rowsText([]*v1.AnswerRow{out.GetView()}, ask{accesses: true}, a.columns))
	p := &page{width: min(max(a.columns, 60), 160)}
	p.line("Its entries:")
	for _, e := range out.GetEntries() {
		p.line(fmt.Sprintf("  %d  %s  %s", e.GetPosition(), clock(e.GetAt().AsTime(), "15:04:05.000"), codeOf(e.GetType().String(), "ENTRY_TYPE_")))
	}
	for _, m := range out.GetManifests() {
		p.line(fmt.Sprintf("%s: %s, each recorded by its SHA-256 (-o json lists them)", safe(m.GetCustodian()), count(len(m.GetDigests()), "entry")))
	}
	a.say("%s\nThis question was recorded too. %s\n", p.String(), receiptText(out.GetReceipt()))
	return nil
}

// auditForesee says what somebody would be shown now.
func (a *app) auditForesee(ctx context.Context, c *call) error {
	x := aboutFlags(c.flags)
	in := &v1.ForeseeViewRequest{}
	var as, purpose string
	c.flags.StringVar(&as, "as", "", "who would ask: `JOBROLE@ODS`, such as R8000@X9B01; default: the person themselves")
	c.flags.StringVar(&purpose, "purpose", "", "for which purpose: TREAT, ETREAT or BTG; default TREAT")
	if err := x.read(a, c); err != nil {
		return err
	}
	in.NhsNumber, in.BirthDate, in.Reason = x.number, x.birthDate, x.reason
	if staff := a.staffToken(x.server); staff && (in.Reason == "" || in.BirthDate == "") {
		return useError("-reason, -birth-date: say why you ask, and the person's date of birth")
	}
	if as != "" {
		var ok bool
		if in.JobRole, in.Organisation, ok = strings.Cut(as, "@"); !ok {
			return useError("-as: a job role code, @ and an ODS code, such as R8000@X9B01")
		}
	}
	if purpose != "" {
		if in.Purpose = v1.Purpose(v1.Purpose_value["PURPOSE_"+enumName(purpose)]); in.Purpose == 0 {
			return useError("-purpose: TREAT, ETREAT or BTG")
		}
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewAuditServiceClient(conn).ForeseeView(ctx, in)
	if err != nil {
		return err
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	p := &page{width: min(max(a.columns, 60), 160)}
	head := "Nothing would be shown"
	if out.GetPermitted() {
		head = "Would be shown, if the custodians hold it and answer"
	}
	p.hang("", 0, bold, fmt.Sprintf("%s. %s (%s)", head, reasonText(out.GetDecision()), safe(out.GetRule())))
	for _, part := range out.GetParts() {
		var sections []string
		for _, s := range part.GetSections() {
			sections = append(sections, codeOf(s.String(), "SECTION_"))
		}
		what := "withheld: "
		if part.GetShown() {
			what = "shown: "
		}
		if len(sections) == len(v1.Section_name)-1 {
			sections = []string{"all sections"}
		}
		p.hang("  "+safe(part.GetCustodian()), 16, "", what+strings.Join(sections, ", ")+". "+reasonText(part.GetReason())+" ("+safe(part.GetRule())+")")
	}
	if len(out.GetParts()) > 0 && a.staffToken(x.server) {
		p.line("\nOf staff of your own organisation every custodian is told; of others' staff, your own organisation's part alone. What is not listed is not said to be shown or withheld.")
	}
	a.say("%s\nNobody was asked for anything. This question was recorded too. %s\n", p.String(), receiptText(out.GetReceipt()))
	return nil
}
