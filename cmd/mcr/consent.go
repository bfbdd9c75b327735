package main

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// about is what the consent commands have in common.
type about struct {
	server                            *server
	number, birthDate, reason, output string
}

func aboutFlags(fs *flag.FlagSet) *about {
	x := &about{server: serverFlags(fs, 15*time.Second)}
	fs.StringVar(&x.birthDate, "birth-date", "", "the person's date of birth, YYYY-MM-DD; staff must give it")
	fs.StringVar(&x.reason, "reason", "", "a note of your own, or why you look")
	fs.StringVar(&x.output, "o", "text", "text or json")
	return x
}

func (x *about) read(a *app, c *call) error {
	if err := c.parse(1); err != nil {
		return err
	}
	if x.output != "text" && x.output != "json" {
		return useError("-o: text or json")
	}
	var err error
	x.number, err = a.number(c.args[0])
	return err
}

// consentObject records an objection.
func (a *app) consentObject(ctx context.Context, c *call) error {
	x := aboutFlags(c.flags)
	var all, absolute bool
	var custodian, section, from, until, responsible, method, source, key string
	c.flags.BoolVar(&all, "all", false, "to all sharing")
	c.flags.StringVar(&custodian, "custodian", "", "to the record of this custodian being shown: its `key` (mcr custodians lists them)")
	c.flags.StringVar(&section, "section", "", "to this `section` being shown: "+strings.Join(sectionCodes(), ", "))
	c.flags.BoolVar(&absolute, "absolute", false, "bind the person's own view too")
	c.flags.StringVar(&from, "from", "", "from this `date`; default: now")
	c.flags.StringVar(&until, "until", "", "until this `date`; default: without end")
	c.flags.StringVar(&responsible, "responsible", "", "on whose behalf, in words; default: the person's own")
	c.flags.StringVar(&method, "method", "", "how they made their wish known: form, phone, in-person or online")
	c.flags.StringVar(&source, "source", "", "where the wish is on file: the `reference` of the form or letter")
	c.flags.StringVar(&key, "key", "", "32 hex digits: give those of a call whose outcome you do not know, to repeat it safely")
	if err := x.read(a, c); err != nil {
		return err
	}
	in := &v1.RecordObjectionRequest{Source: source, NhsNumber: x.number, BirthDate: x.birthDate, Custodian: custodian, Absolute: absolute, From: from, Until: until,
		Responsible: responsible, Reason: x.reason}
	n := 0
	if all {
		n, in.Scope = n+1, v1.ObjectionScope_OBJECTION_SCOPE_ALL
	}
	if custodian != "" {
		n, in.Scope = n+1, v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN
	}
	if section != "" {
		n, in.Scope = n+1, v1.ObjectionScope_OBJECTION_SCOPE_SECTION
		if in.Section = sectionOf(section); in.Section == 0 {
			return useError("-section: one of " + strings.Join(sectionCodes(), ", "))
		}
	}
	if n != 1 {
		return useError("say to what the person objects: -all, -custodian KEY or -section CODE, one of the three")
	}
	if in.Method = v1.ObjectionMethod(v1.ObjectionMethod_value["OBJECTION_METHOD_"+enumName(method)]); in.Method == 0 {
		return useError("-method: say how they made their wish known: form, phone, in-person or online")
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
	out, err := v1.NewConsentServiceClient(conn).RecordObjection(ctx, in)
	if err != nil {
		return a.perhaps(err, in.Key)
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("Recorded. From now on it is honoured.\n\n%s\n%s\n", objectionText(out.GetObjection(), a.columns), receiptText(out.GetReceipt()))
	return nil
}

// consentWithdraw ends an objection.
func (a *app) consentWithdraw(ctx context.Context, c *call) error {
	x := aboutFlags(c.flags)
	var id, key string
	c.flags.StringVar(&id, "id", "", "the objection's `id` (mcr consent show lists them)")
	c.flags.StringVar(&key, "key", "", "32 hex digits: give those of a call whose outcome you do not know, to repeat it safely")
	if err := x.read(a, c); err != nil {
		return err
	}
	if id == "" {
		return useError("-id: give the objection's id (mcr consent show lists them)")
	}
	in := &v1.WithdrawObjectionRequest{NhsNumber: x.number, BirthDate: x.birthDate, ObjectionId: id, Reason: x.reason}
	var err error
	if in.Key, err = a.key(key); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewConsentServiceClient(conn).WithdrawObjection(ctx, in)
	if err != nil {
		return a.perhaps(err, in.Key)
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("Withdrawn.\n\n%s\n%s\n", objectionText(out.GetObjection(), a.columns), receiptText(out.GetReceipt()))
	return nil
}

// consentShow lists a person's objections.
func (a *app) consentShow(ctx context.Context, c *call) error { return a.consentList(ctx, c, false) }

// consentHistory lists all that they have been.
func (a *app) consentHistory(ctx context.Context, c *call) error { return a.consentList(ctx, c, true) }

func (a *app) consentList(ctx context.Context, c *call, past bool) error {
	x := aboutFlags(c.flags)
	if err := x.read(a, c); err != nil {
		return err
	}
	ctx, cancel, conn, err := a.dial(ctx, x.server)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	out, err := v1.NewConsentServiceClient(conn).ShowObjections(ctx, &v1.ShowObjectionsRequest{NhsNumber: x.number, BirthDate: x.birthDate, Reason: x.reason, WithHistory: past})
	if err != nil {
		return err
	}
	if x.output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("NHS number %s: %s.\n\n", groupNumber(x.number), nameOr(map[bool]string{true: "no objections"}[len(out.GetObjections()) == 0], count(len(out.GetObjections()), "objection")))
	list := out.GetObjections()
	if past {
		a.say("Every state of each, newest first:\n\n")
		list = out.GetHistory()
	}
	for _, o := range list {
		text := objectionText(o, a.columns)
		if !past {
			p := &page{width: min(max(a.columns, 40), 160)}
			p.hang("  does", 12, "", explain(o))
			p.adoptions(o)
			text += p.String()
		}
		a.say("%s\n", text)
	}
	if r := out.GetReceipt(); r != nil {
		a.say("This look was recorded too. %s\n", receiptText(r))
	}
	return nil
}

// key returns the given key, or makes one.
func (a *app) key(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	var b [16]byte
	if _, err := io.ReadFull(a.randomness, b[:]); err != nil {
		return "", faultError("this machine gives no random numbers")
	}
	return hex.EncodeToString(b[:]), nil
}

// perhaps tells how to find out, where a change may or may not have been recorded.
func (a *app) perhaps(err error, key string) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		a.tell("It is not known whether this was recorded. Repeat the command with -key %s: it is recorded once, however often you ask.\n", key)
	}
	return err
}

func sectionCodes() []string {
	var out []string
	for n := int32(1); int(n) < len(v1.Section_name); n++ {
		out = append(out, codeOf(v1.Section_name[n], "SECTION_"))
	}
	return out
}

// objectionText shows an objection in a few lines.
func objectionText(o *v1.Objection, width int) string {
	p := &page{width: min(max(width, 40), 160)}
	to := "all sharing"
	switch o.GetScope() {
	case v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN:
		to = "the record of custodian " + safe(o.GetCustodian())
	case v1.ObjectionScope_OBJECTION_SCOPE_SECTION:
		to = "section " + codeOf(o.GetSection().String(), "SECTION_")
	case v1.ObjectionScope_OBJECTION_SCOPE_UNSPECIFIED:
		to = "something that this program does not know"
	}
	state := codeOf(o.GetStatus().String(), "OBJECTION_STATUS_")
	p.hang("", 0, "", "Objection to "+to+" ["+state+"]"+map[bool]string{true: ", the person's own view too"}[o.GetAbsolute()])
	p.hang("  id", 12, "", safe(o.GetId()))
	if from, until := o.GetFrom(), o.GetUntil(); from != nil || until != nil {
		var a, b string
		if from != nil {
			a = from.AsTime().Format(time.RFC3339)
		}
		if until != nil {
			b = until.AsTime().Format(time.RFC3339)
		}
		p.hang("  holds", 12, "", strings.Join(showSpan(a, b), " "))
	}
	by := []string{nameOr(safe(o.GetAuthorName()), safe(o.GetAuthorUser())), safe(o.GetAuthorRole()), safe(o.GetAuthorOdsCode())}
	text := strings.Join(nonEmpty(by), ", ")
	if t := o.GetRecorded(); t != nil {
		text = showDate(t.AsTime().Format(time.RFC3339)) + " by " + nameOr(text, "somebody")
	}
	p.hang("  recorded", 12, "", strings.Join(nonEmpty([]string{text, codeOf(o.GetMethod().String(), "OBJECTION_METHOD_")}), ", "))
	if s := safe(o.GetResponsible()); s != "" && s != "self" {
		p.hang("  for", 12, "", "on behalf of the person: "+s)
	}
	if s := safe(o.GetSource()); s != "" {
		p.hang("  on file", 12, "", s)
	}
	if o.GetPosition() > 0 {
		p.hang("  entry", 12, "", fmt.Sprint(o.GetPosition()))
	}
	return p.String()
}

// adoptions says which other systems honour an objection.
func (p *page) adoptions(o *v1.Objection) {
	var done, open []string
	for _, x := range o.GetAdoptions() {
		if at := x.GetAt(); at != nil {
			done = append(done, safe(x.GetSystem())+" since "+showDate(at.AsTime().Format(time.RFC3339)))
			continue
		}
		open = append(open, safe(x.GetSystem()))
	}
	if len(done) > 0 {
		p.hang("  adopted", 12, "", strings.Join(done, "; "))
	}
	if len(open) > 0 {
		p.hang("  not yet", 12, "", strings.Join(open, "; "))
	}
}

func nonEmpty(list []string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
