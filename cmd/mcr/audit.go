package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// auditSearch asks who looked at what.
func (a *app) auditSearch(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	in := &v1.SearchAccessesRequest{}
	var types list
	var limit int
	var person, output string
	c.flags.StringVar(&person, "person", "", "accesses about this `NHS number`; - for standard input")
	c.flags.StringVar(&in.User, "user", "", "accesses by this SDS user `id`")
	c.flags.StringVar(&in.Organisation, "organisation", "", "accesses by staff of this organisation: `ODS code`")
	c.flags.StringVar(&in.From, "from", "", "at or after this `date`")
	c.flags.StringVar(&in.Until, "until", "", "at or before this `date`")
	c.flags.Var(&types, "entry-type", "only these `types` of entry: "+strings.Join(entryTypes(), ", "))
	c.flags.StringVar(&in.Reason, "reason", "", "why you ask; it is recorded, and needed of everybody but the person themselves")
	c.flags.IntVar(&limit, "limit", 100, "how many entries at most, up to 1000")
	c.flags.StringVar(&in.Archive, "archive", "", archiveHelp)
	c.flags.Uint64Var(&in.Before, "before", 0, "only entries before this `position`: the next page")
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
	in.Limit = int32(limit)
	for _, t := range types {
		n := v1.EntryType_value["ENTRY_TYPE_"+enumName(t)]
		if n == 0 {
			return useError("-entry-type: one of " + strings.Join(entryTypes(), ", "))
		}
		in.Types = append(in.Types, v1.EntryType(n))
	}
	var err error
	if in.NhsNumber, err = a.number(person); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewAuditServiceClient(conn).SearchAccesses(ctx, in)
	if err != nil {
		return err
	}
	if output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	for _, e := range out.GetEntries() {
		a.say("%s\n", entryText(e, a.columns))
	}
	if len(out.GetEntries()) == 0 {
		a.say("No entries.\n\n")
	}
	if out.GetMore() {
		a.say("There are older ones: ask again with -before %d.\n", out.GetNextBefore())
	}
	if r := out.GetReceipt(); r != nil {
		a.say("This search was recorded too. %s\n", receiptText(r))
	}
	return nil
}

func entryTypes() []string {
	var out []string
	for n := int32(1); int(n) < len(v1.EntryType_name); n++ {
		out = append(out, codeOf(v1.EntryType_name[n], "ENTRY_TYPE_"))
	}
	return out
}

// entryText shows an entry of the ledger in a few lines.
func entryText(e *v1.LedgerEntry, width int) string {
	p := &page{width: min(max(width, 40), 160)}
	head := fmt.Sprintf("%d · %s · %s", e.GetPosition(), clock(e.GetAt().AsTime(), "2 January 2006, 15:04:05"), strings.ToUpper(codeOf(e.GetType().String(), "ENTRY_TYPE_")))
	if n := e.GetOpens(); n > 0 {
		head += fmt.Sprintf(" · of %d", n)
	}
	p.hang("", 0, "", head)
	row := func(label, text string) {
		if text != "" {
			p.hang("  "+label, 16, "", text)
		}
	}
	if n := e.GetNhsNumber(); n != "" {
		row("person", groupNumber(n))
	}
	if x := e.GetAccess(); x != nil {
		row("by", requesterText(x.GetRequester(), x.GetRoleName()))
		why := []string{strings.TrimPrefix(x.GetPurpose().String(), "PURPOSE_")}
		if x.GetPurpose() == 0 {
			why = nil
		}
		if s := permissionText(x.GetPermission()); s != "" {
			why = append(why, s)
		}
		if s := relationshipText(x.GetRelationship()); s != "" {
			why = append(why, s)
		}
		row("stated", strings.Join(why, " · "))
		row("glass", safe(x.GetBreakGlassReason()))
		row("asked for", strings.Join(nonEmpty([]string{words(x.GetOperation()), words(x.GetFace()), safe(x.GetFilter())}), " · "))
		decision := reasonText(x.GetDecision())
		if rule := safe(x.GetRule()); rule != "" {
			decision += " (" + rule + ")"
		}
		row("decided", decision)
		row("to ask", safe(strings.Join(x.GetAsked(), ", ")))
	}
	if d := e.GetDisclosure(); d != nil {
		for _, c := range d.GetCustodians() {
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
			row(safe(c.GetCustodian()), text)
		}
	}
	if o := e.GetObjection(); o != nil {
		p.WriteString("  " + strings.ReplaceAll(strings.TrimRight(objectionText(o, p.width-2), "\n"), "\n", "\n  ") + "\n")
	}
	if d := e.GetDelegation(); d != nil {
		p.WriteString("  " + strings.ReplaceAll(strings.TrimRight(delegationText(d, p.width-2), "\n"), "\n", "\n  ") + "\n")
	}
	if x := e.GetActor(); x != nil {
		row("by", requesterText(x.GetRequester(), x.GetRoleName()))
		row("why", safe(x.GetReason()))
	}
	if s := e.GetReason(); s != "" && s != e.GetActor().GetReason() && s != e.GetAccess().GetDecision() {
		row("reason", reasonText(s))
	}
	row("note", safe(e.GetNote()))
	row("person told", safe(e.GetExplanation()))
	if n := e.GetCount(); n > 0 {
		row("count", fmt.Sprint(n))
	}
	return p.String()
}

func requesterText(r *v1.Requester, role string) string {
	return strings.Join(nonEmpty([]string{nameOr(safe(r.GetName()), safe(r.GetKind())), safe(r.GetUser()), nameOr(safe(role), safe(r.GetJobRole())),
		safe(r.GetOrganisation()), safe(r.GetClient())}), ", ")
}

func permissionText(p *v1.Permission) string {
	if p.GetKind() == 0 {
		return ""
	}
	text := codeOf(p.GetKind().String(), "PERMISSION_KIND_")
	for _, s := range []string{p.GetOn(), p.GetRef(), p.GetReason()} {
		if s != "" {
			text += ": " + safe(s)
		}
	}
	return text
}

func relationshipText(r *v1.Relationship) string {
	if r.GetKind() == 0 {
		return ""
	}
	text := codeOf(r.GetKind().String(), "RELATIONSHIP_KIND_")
	if s := safe(r.GetRef()); s != "" {
		text += ": " + s
	}
	return text
}

// custodians lists who is configured.
func (a *app) custodians(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	var output string
	c.flags.StringVar(&output, "o", "text", "text or json")
	if err := c.parse(0); err != nil {
		return err
	}
	if output != "text" && output != "json" {
		return useError("-o: text or json")
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewRecordServiceClient(conn).ListCustodians(ctx, &v1.ListCustodiansRequest{})
	if err != nil {
		return err
	}
	if output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	p := &page{width: min(max(a.columns, 40), 160)}
	for _, h := range out.GetCustodians() {
		x := h.GetCustodian()
		p.hang(safe(x.GetKey()), 14, "", fmt.Sprintf("%s (%s, %s)", safe(x.GetName()), safe(x.GetOdsCode()), safe(x.GetKind())))
		p.hang("", 14, "", healthText(h))
		p.hang("", 14, "", strings.Join(nonEmpty([]string{safe(x.GetContact()), safe(h.GetAdapter())}), " · "))
	}
	a.say("%s", p.String())
	return nil
}

// healthText says whether a custodian is asked, and what its last trouble was.
func healthText(h *v1.CustodianHealth) string {
	asked := map[v1.BreakerState]string{v1.BreakerState_BREAKER_STATE_CLOSED: "asked as usual", v1.BreakerState_BREAKER_STATE_OPEN: "NOT ASKED for now: it has been failing",
		v1.BreakerState_BREAKER_STATE_HALF_OPEN: "being tried again after failures"}[h.GetBreaker()]
	since := ""
	if t := h.GetLastAnswer(); t != nil {
		since = " since " + clock(t.AsTime(), "2 January 2006, 15:04:05")
	}
	trouble := ""
	switch h.GetLastState() {
	case v1.CustodianState_CUSTODIAN_STATE_UNSPECIFIED:
		if h.GetBreaker() != v1.BreakerState_BREAKER_STATE_OPEN && h.GetBreaker() != v1.BreakerState_BREAKER_STATE_HALF_OPEN {
			trouble = "no trouble seen"
		}
	case v1.CustodianState_CUSTODIAN_STATE_RETURNED:
		trouble = "answering again" + since
	default:
		trouble = codeOf(h.GetLastState().String(), "CUSTODIAN_STATE_") + since
	}
	return strings.Join(nonEmpty([]string{asked, trouble}), "; ")
}
