package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// auditOverrides lists uses of break-glass that nobody has reviewed.
func (a *app) auditOverrides(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	in := &v1.ListOverridesRequest{}
	var limit int
	var output string
	c.flags.BoolVar(&in.Reviewed, "reviewed", false, "reviewed ones too")
	c.flags.StringVar(&in.Reason, "reason", "", "why you ask; it is recorded, and needed")
	c.flags.IntVar(&limit, "limit", 100, "how many at most, up to 1000")
	c.flags.Uint64Var(&in.From, "from", 0, "only those at this `position` or later: the next page")
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
	out, err := v1.NewAuditServiceClient(conn).ListOverrides(ctx, in)
	if err != nil {
		return err
	}
	if output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	for _, o := range out.GetOverrides() {
		a.say("%s", entryText(o.GetEntry(), a.columns))
		p := &page{width: min(max(a.columns, 40), 160)}
		told := "nobody has acknowledged the alert"
		if t := o.GetDelivered(); t != nil {
			told = "acknowledged " + clock(t.AsTime(), "2 January 2006, 15:04:05")
		}
		p.hang("  alert", 16, "", safe(o.GetAlert())+"; "+told)
		review := "to do: mcr audit review " + fmt.Sprint(o.GetEntry().GetPosition())
		if n := o.GetReview(); n > 0 {
			review = fmt.Sprintf("at %d", n)
		}
		p.hang("  review", 16, "", review)
		a.say("%s\n", p.String())
	}
	if len(out.GetOverrides()) == 0 {
		a.say("Nothing to review on this page.\n\n")
	}
	if n := out.GetNext(); n > 0 {
		a.say("There are more: ask again with -from %d.\n", n)
	}
	if r := out.GetReceipt(); r != nil {
		a.say("This question was recorded too. %s\n", receiptText(r))
	}
	return nil
}

// auditReview says what became of one.
func (a *app) auditReview(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	in := &v1.ReviewOverrideRequest{}
	var outcome, key string
	c.flags.StringVar(&outcome, "outcome", "", "justified, not-justified or referred")
	c.flags.StringVar(&in.Note, "note", "", "what you found, in `words`; needed")
	c.flags.StringVar(&key, "key", "", "32 hex digits: give those of a call whose outcome you do not know, to repeat it safely")
	if err := c.words(1, "the position of an override (mcr audit overrides lists them) and flags"); err != nil {
		return err
	}
	var err error
	if in.Position, err = strconv.ParseUint(c.args[0], 10, 63); err != nil {
		return useError("mcr audit review takes the position of an override: mcr audit overrides lists them")
	}
	if in.Outcome = v1.ReviewOutcome(v1.ReviewOutcome_value["REVIEW_OUTCOME_"+enumName(outcome)]); in.Outcome == 0 {
		return useError("-outcome: justified, not-justified or referred")
	}
	if in.Note == "" {
		return useError("-note: say what you found; the person is told of the outcome")
	}
	if in.Key, err = a.key(key); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewAuditServiceClient(conn).ReviewOverride(ctx, in)
	if err != nil {
		return a.perhaps(err, in.Key)
	}
	a.say("Recorded: it is off the list of overrides. A later review may say otherwise; the newest counts, and both stay on record. %s\n", receiptText(out.GetReceipt()))
	return nil
}
