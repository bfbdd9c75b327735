package main

import (
	"context"
	"strings"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// consentDelegate lets a carer see the record of whoever is signed in.
func (a *app) consentDelegate(ctx context.Context, c *call) error {
	x := aboutFlags(c.flags)
	var sections, custodians list
	in := &v1.RecordDelegationRequest{}
	var key string
	c.flags.Var(&sections, "section", "what may be seen: `sections` of "+strings.Join(sectionCodes(), ", "))
	c.flags.Var(&custodians, "custodian", "whose record may be seen: `keys` (mcr custodians lists them); default: everybody's")
	c.flags.StringVar(&in.Name, "name", "", "what you call the carer, in `words`")
	c.flags.StringVar(&in.From, "from", "", "from this `date`; default: now")
	c.flags.StringVar(&in.Until, "until", "", "until this `date`; needed, at most 366 days after the start")
	c.flags.StringVar(&key, "key", "", "32 hex digits: give those of a call whose outcome you do not know, to repeat it safely")
	if err := x.read(a, c); err != nil {
		return err
	}
	in.CarerNhsNumber, in.Custodians = x.number, custodians
	for _, code := range sections {
		s := sectionOf(code)
		if s == 0 {
			return useError("-section: one of " + strings.Join(sectionCodes(), ", "))
		}
		in.Sections = append(in.Sections, s)
	}
	if len(in.Sections) == 0 || in.Until == "" {
		return useError("say what the carer may see, with -section, and until when, with -until")
	}
	var err error
	if in.Key, err = a.key(key); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewConsentServiceClient(conn).RecordDelegation(ctx, in)
	if err != nil {
		return a.perhaps(err, in.Key)
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("Recorded. From now on the carer may ask.\n\n%s\n%s\n", delegationText(out.GetDelegation(), a.columns), receiptText(out.GetReceipt()))
	return nil
}

// consentCarers lists whom a person lets see their record.
func (a *app) consentCarers(ctx context.Context, c *call) error {
	x := aboutFlags(c.flags)
	if err := x.read(a, c); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewConsentServiceClient(conn).ShowDelegations(ctx, &v1.ShowDelegationsRequest{NhsNumber: x.number, BirthDate: x.birthDate, Reason: x.reason})
	if err != nil {
		return err
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("NHS number %s: %s.\n\n", groupNumber(x.number), nameOr(map[bool]string{true: "no carers"}[len(out.GetDelegations()) == 0], count(len(out.GetDelegations()), "delegation")))
	for _, d := range out.GetDelegations() {
		a.say("%s\n", delegationText(d, a.columns))
	}
	if r := out.GetReceipt(); r != nil {
		a.say("This look was recorded too. %s\n", receiptText(r))
	}
	return nil
}

// consentRevoke ends what a carer may see.
func (a *app) consentRevoke(ctx context.Context, c *call) error {
	x := aboutFlags(c.flags)
	var id, key string
	c.flags.StringVar(&id, "id", "", "the delegation's `id` (mcr consent carers lists them)")
	c.flags.StringVar(&key, "key", "", "32 hex digits: give those of a call whose outcome you do not know, to repeat it safely")
	if err := x.read(a, c); err != nil {
		return err
	}
	if id == "" {
		return useError("-id: give the delegation's id (mcr consent carers lists them)")
	}
	in := &v1.WithdrawDelegationRequest{NhsNumber: x.number, BirthDate: x.birthDate, DelegationId: id, Reason: x.reason}
	var err error
	if in.Key, err = a.key(key); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewConsentServiceClient(conn).WithdrawDelegation(ctx, in)
	if err != nil {
		return a.perhaps(err, in.Key)
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("Withdrawn. The carer sees nothing more by it.\n\n%s\n%s\n", delegationText(out.GetDelegation(), a.columns), receiptText(out.GetReceipt()))
	return nil
}

// consentDecide puts an objection that was requested in force, or declines it.
func (a *app) consentDecide(ctx context.Context, c *call) error {
	x := aboutFlags(c.flags)
	var id, to, key string
	c.flags.StringVar(&id, "id", "", "the objection's `id` (mcr consent show lists them)")
	c.flags.StringVar(&to, "as", "", "in-force or declined")
	c.flags.StringVar(&key, "key", "", "32 hex digits: give those of a call whose outcome you do not know, to repeat it safely")
	if err := x.read(a, c); err != nil {
		return err
	}
	status := map[string]v1.ObjectionStatus{"in-force": v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE, "declined": v1.ObjectionStatus_OBJECTION_STATUS_DECLINED}[to]
	if id == "" || status == 0 {
		return useError("give the objection's id with -id (mcr consent show lists them), and -as in-force or -as declined")
	}
	in := &v1.DecideObjectionRequest{NhsNumber: x.number, BirthDate: x.birthDate, ObjectionId: id, Status: status, Reason: x.reason}
	var err error
	if in.Key, err = a.key(key); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewConsentServiceClient(conn).DecideObjection(ctx, in)
	if err != nil {
		return a.perhaps(err, in.Key)
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("Recorded.\n\n%s\n%s\n", objectionText(out.GetObjection(), a.columns), receiptText(out.GetReceipt()))
	return nil
}

// delegationText shows a delegation in a few lines.
func delegationText(d *v1.Delegation, width int) string {
	p := &page{width: min(max(width, 40), 160)}
	p.hang("", 0, "", "Carer "+groupNumber(d.GetCarerNhsNumber())+" ["+codeOf(d.GetStatus().String(), "OBJECTION_STATUS_")+"]")
	p.hang("  id", 12, "", safe(d.GetId()))
	if s := safe(d.GetName()); s != "" {
		p.hang("  called", 12, "", s)
	}
	var sections []string
	for _, s := range d.GetSections() {
		sections = append(sections, codeOf(s.String(), "SECTION_"))
	}
	p.hang("  sees", 12, "", strings.Join(sections, ", "))
	p.hang("  of", 12, "", nameOr(safe(strings.Join(d.GetCustodians(), ", ")), "every custodian"))
	if d.GetFrom() != nil && d.GetUntil() != nil {
		p.hang("  holds", 12, "", strings.Join(showSpan(d.GetFrom().AsTime().Format(time.RFC3339), d.GetUntil().AsTime().Format(time.RFC3339)), " "))
	}
	return p.String()
}
