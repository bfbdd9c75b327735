package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// worklistList lists the accesses that rules have found and nobody has closed.
func (a *app) worklistList(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	in := &v1.ListAlertsRequest{}
	var limit int
	var output string
	c.flags.BoolVar(&in.Closed, "closed", false, "closed ones too")
	c.flags.StringVar(&in.Reason, "reason", "", "why you ask; it is recorded, and needed")
	c.flags.IntVar(&limit, "limit", 100, "how many at most, up to 1000")
	c.flags.Uint64Var(&in.Before, "before", 0, "only those before this `position`: the next page")
	c.flags.StringVar(&output, "o", "text", "text or json")
	if err := c.parse(0); err != nil {
		return err
	}
	if output != "text" && output != "json" {
		return useError("-o: text or json")
	}
	if limit < 1 || limit > 1000 {
		return useError("-limit: 1 to 1000")
	}
	if in.Limit = int32(limit); in.Reason == "" {
		return useError("-reason: say why you ask")
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewWorklistServiceClient(conn).ListAlerts(ctx, in)
	if err != nil {
		return err
	}
	if output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	for _, x := range out.GetAlerts() {
		a.say("%s\n", alertText(x, a.columns))
	}
	if len(out.GetAlerts()) == 0 {
		a.say("Nothing to look at on this page.\n\n")
	}
	if n := out.GetNextBefore(); n > 0 {
		a.say("There are more: ask again with -before %d.\n\n", n)
	}
	a.say("%s", precisionText(out.GetPrecision()))
	if r := out.GetReceipt(); r != nil {
		a.say("This question was recorded too. %s\n", receiptText(r))
	}
	return nil
}

// worklistShow shows one alert with the access that it is about.
func (a *app) worklistShow(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	in := &v1.GetAlertRequest{}
	var output string
	c.flags.StringVar(&in.Reason, "reason", "", "why you ask; it is recorded, as a look at the accesses of the person, and needed")
	c.flags.StringVar(&output, "o", "text", "text or json")
	position, err := c.alert("show")
	if err != nil {
		return err
	}
	if output != "text" && output != "json" {
		return useError("-o: text or json")
	}
	if in.Position = position; in.Reason == "" {
		return useError("-reason: say why you ask")
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewWorklistServiceClient(conn).GetAlert(ctx, in)
	if err != nil {
		return err
	}
	if output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("%s", alertText(out.GetAlert(), a.columns))
	p := &page{width: min(max(a.columns, 40), 160)}
	p.hang("  evidence", 16, "", evidenceText(out.GetEvidence()))
	for i, s := range out.GetSteps() {
		label := ""
		if i == 0 {
			label = "  done"
		}
		by := s.GetActor()
		p.hang(label, 16, "", strings.Join(nonEmpty([]string{clock(s.GetAt().AsTime(), "2 January 2006, 15:04"), words(safe(s.GetReason())), "by " + requesterText(by.GetRequester(), by.GetRoleName()), safe(s.GetNote())}), " · "))
	}
	a.say("%s\n", p.String())
	for _, e := range []*v1.LedgerEntry{out.GetAccess(), out.GetClosing()} {
		if e != nil {
			a.say("%s\n", entryText(e, a.columns))
		}
	}
	if out.GetAccess() == nil {
		a.say("The access itself was erased.\n\n")
	}
	if r := out.GetReceipt(); r != nil {
		a.say("This question was recorded too. %s\n", receiptText(r))
	}
	return nil
}

// alert reads the position of an alert, and flags.
func (c *call) alert(verb string) (uint64, error) {
	if err := c.words(1, "the position of an alert (mcr audit worklist list names them) and flags"); err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(c.args[0], 10, 63)
	if err != nil {
		return 0, useError("mcr audit worklist " + verb + " takes the position of an alert: mcr audit worklist list names them")
	}
	return n, nil
}

// worklistTake says that somebody looks into an alert.
func (a *app) worklistTake(ctx context.Context, c *call) error {
	in := &v1.TakeAlertRequest{}
	return a.handle(ctx, c, "take", "It is yours.", false, func(conn v1.WorklistServiceClient, ctx context.Context, position uint64, _ v1.ReviewOutcome, note, key string) (*v1.Receipt, error) {
		in.Position, in.Note, in.Key = position, note, key
		out, err := conn.TakeAlert(ctx, in)
		return out.GetReceipt(), err
	})
}

// worklistClose says what became of one.
func (a *app) worklistClose(ctx context.Context, c *call) error {
	in := &v1.CloseAlertRequest{}
	return a.handle(ctx, c, "close", "It is off the worklist.", true, func(conn v1.WorklistServiceClient, ctx context.Context, position uint64, outcome v1.ReviewOutcome, note, key string) (*v1.Receipt, error) {
		in.Position, in.Outcome, in.Note, in.Key = position, outcome, note, key
		out, err := conn.CloseAlert(ctx, in)
		return out.GetReceipt(), err
	})
}

// worklistReopen puts one back.
func (a *app) worklistReopen(ctx context.Context, c *call) error {
	in := &v1.ReopenAlertRequest{}
	return a.handle(ctx, c, "reopen", "It is on the worklist again.", false, func(conn v1.WorklistServiceClient, ctx context.Context, position uint64, _ v1.ReviewOutcome, note, key string) (*v1.Receipt, error) {
		in.Position, in.Note, in.Key = position, note, key
		out, err := conn.ReopenAlert(ctx, in)
		return out.GetReceipt(), err
	})
}

type handling func(conn v1.WorklistServiceClient, ctx context.Context, position uint64, outcome v1.ReviewOutcome, note, key string) (*v1.Receipt, error)

// handle is what taking, closing and reopening have in common.
func (a *app) handle(ctx context.Context, c *call, verb, done string, closes bool, do handling) error {
	s := serverFlags(c.flags, 15*time.Second)
	var outcome, note, key string
	if closes {
		c.flags.StringVar(&outcome, "outcome", "", "justified, not-justified or referred")
	}
	c.flags.StringVar(&note, "note", "", "why, in `words`; needed but for take")
	c.flags.StringVar(&key, "key", "", "32 hex digits: give those of a call whose outcome you do not know, to repeat it safely")
	position, err := c.alert(verb)
	if err != nil {
		return err
	}
	result := v1.ReviewOutcome(v1.ReviewOutcome_value["REVIEW_OUTCOME_"+enumName(outcome)])
	if closes && result == 0 {
		return useError("-outcome: justified, not-justified or referred")
	}
	if verb != "take" && note == "" {
		return useError("-note: say why")
	}
	if key, err = a.key(key); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	receipt, err := do(v1.NewWorklistServiceClient(conn), ctx, position, result, note, key)
	if err != nil {
		return a.perhaps(err, key)
	}
	a.say("Recorded. %s %s\n", done, receiptText(receipt))
	return nil
}

// alertText shows an alert in a few lines.
func alertText(x *v1.Alert, width int) string {
	p := &page{width: min(max(width, 40), 160)}
	state := codeOf(x.GetState().String(), "ALERT_STATE_")
	p.hang("", 0, "", fmt.Sprintf("%d · %s · ALERT · %s · score %d", x.GetPosition(), clock(x.GetAt().AsTime(), "2 January 2006, 15:04:05"), state, x.GetScore()))
	row := func(label, text string) {
		if text != "" {
			p.hang("  "+label, 16, "", text)
		}
	}
	row("access", fmt.Sprintf("at %d", x.GetAccess()))
	row("by", requesterText(x.GetRequester(), ""))
	for _, r := range x.GetRules() {
		row(safe(r.GetRule()), ruleText(r))
	}
	if n := x.GetNewest(); n != nil {
		row("last", strings.Join(nonEmpty([]string{words(safe(n.GetReason())), "by " + requesterText(n.GetActor().GetRequester(), n.GetActor().GetRoleName()), safe(n.GetNote())}), " · "))
	}
	if x.GetState() != v1.AlertState_ALERT_STATE_CLOSED {
		row("to do", fmt.Sprintf("mcr audit worklist show %[1]d; then mcr audit worklist take %[1]d, and mcr audit worklist close %[1]d -outcome ... -note ...", x.GetPosition()))
	}
	return p.String()
}

// ruleText says what a rule found, and whether something explains it.
func ruleText(r *v1.FiredRule) string {
	parts := []string{fmt.Sprintf("adds %d to the score", r.GetWeight())}
	switch {
	case r.GetRule() == "same-surname":
		parts = append(parts, map[int32]string{1: "a very common surname", 2: "a common surname", 3: "a rare surname"}[r.GetCount()])
	case r.GetRule() == "out-of-hours":
		parts = append(parts, fmt.Sprintf("after %02d:00", r.GetCount()))
	case r.GetUsual() > 0:
		parts = append(parts, fmt.Sprintf("%d, where %d is usual", r.GetCount(), r.GetUsual()))
	case r.GetRule() == "sequential" || r.GetRule() == "check-digit":
		parts = append(parts, fmt.Sprintf("%d requests", r.GetCount()))
	case r.GetCount() > 0:
		parts = append(parts, fmt.Sprint(r.GetCount()))
	}
	if e := safe(r.GetExplained()); e != "" {
		parts = append(parts, "explained: "+e)
	} else {
		parts = append(parts, "nothing explains it")
	}
	return strings.Join(nonEmpty(parts), " · ")
}

// evidenceText says what was looked at.
func evidenceText(e *v1.Evidence) string {
	var out []string
	say := func(holds bool, text string) {
		if holds {
			out = append(out, text)
		}
	}
	say(!e.GetStaffList(), "who asks is not in the staff list: address, kin and own record were not compared")
	say(e.GetOwnRecord(), "it is their own record")
	say(e.GetNextOfKin(), "next of kin")
	say(e.GetSameAddress(), "the same address")
	say(e.GetColleague(), "staff of the same organisation")
	say(e.GetSurname() > 0, "the same surname")
	say(e.GetWatched(), "on the watch list")
	say(e.GetDaysDead() > 0, fmt.Sprintf("died %d days before", e.GetDaysDead()))
	say(e.GetRegistered(), "registered with the organisation")
	say(e.GetCareTeam(), "named among those who care")
	for _, n := range e.GetNear() {
		out = append(out, fmt.Sprintf("%s at the organisation, %d days away", safe(n.GetKind()), n.GetDays()))
	}
	say(!e.GetRecordSeen(), "the record was not looked through")
	say(e.GetRecordSeen() && !e.GetOwnPartHeard(), "what the organisation itself holds was not heard whole")
	say(e.GetRecordSeen() && e.GetOwnPartHeard() && len(e.GetNear()) == 0, "no encounter, appointment, referral or caseload at the organisation")
	return strings.Join(out, "; ")
}

// precisionText says what officers have found of each rule's alerts.
func precisionText(list []*v1.RulePrecision) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "What was found of each rule's alerts in a year:\n")
	for _, p := range list {
		fmt.Fprintf(&b, "  %-16s %4d raised, %d not justified, %d justified, %d referred: %s\n", safe(p.GetRule()), p.GetRaised(), p.GetNotJustified(), p.GetJustified(), p.GetReferred(), precisionOf(p))
	}
	return b.String() + "\n"
}

// precisionOf is the share of judged alerts for which there was no good reason.
func precisionOf(p *v1.RulePrecision) string {
	judged := p.GetJustified() + p.GetNotJustified()
	if judged == 0 {
		return "not judged yet"
	}
	return fmt.Sprintf("precision %.0f%%", 100*float64(p.GetNotJustified())/float64(judged))
}
