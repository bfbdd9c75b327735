package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// faultError is a fault, here or there: the text says what to do.
type faultError string

// Error returns the text.
func (e faultError) Error() string { return string(e) }

// report tells what went wrong and what to do, and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	var use useError
	var fault faultError
	var signIn signInError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errNotWhole):
		return exitNotWhole
	case errors.Is(err, errRefused):
		return exitRefused
	case errors.As(err, &use):
		a.tell("mcr: %s\n", safe(string(use)))
		return exitUse
	case errors.As(err, &signIn):
		a.tell("mcr: %s\n", safe(string(signIn)))
		return exitSignIn
	case errors.As(err, &fault):
		a.tell("mcr: %s\n", safe(string(fault)))
		return exitFault
	case ctx.Err() != nil:
		a.tell("mcr: stopped\n")
		return exitFault
	}
	return a.reportStatus(status.Convert(err))
}

// reportStatus tells what the broker refused.
func (a *app) reportStatus(s *status.Status) int {
	info := detail[*errdetails.ErrorInfo](s)
	ours := info.GetDomain() == "mycarerecord"
	what, code := s.Message(), exitFault
	switch s.Code() {
	case codes.InvalidArgument:
		code = exitUse
	case codes.Unauthenticated:
		code, what = exitSignIn, "you are not signed in, or no longer: mcr login -as PERSONA (with the demo), or mcr login -token-file FILE"
		if info.GetReason() == "EXPIRED" {
			what = "your sign-in has expired: mcr login again"
		}
	case codes.PermissionDenied:
		code = exitRefused
		if info.GetReason() == "FORBIDDEN" {
			what = "refused"
		}
	case codes.NotFound:
		code = exitNothing
	case codes.DeadlineExceeded:
		code = exitLater
		if !ours {
			what = "no answer came in time: ask again, or allow more with -timeout"
		}
	case codes.Unavailable:
		code = exitLater
		if !ours {
			code, what = exitFault, "the broker cannot be reached: is it running (make run starts the demo)? -server names another; away from this machine it must speak TLS (-ca)"
		}
	case codes.ResourceExhausted:
		code = exitLater
		if info.GetReason() == "USE_STREAM" {
			code, what = exitLarge, "the record is too large for one answer: mcr record stream with the same flags, or ask for less (-type, -start, -end)"
		} else if !ours {
			code, what = exitFault, "the answer, or the question, is larger than what the other side takes: mcr record stream"
		}
	case codes.Unimplemented:
		what = "the server does not know this call: is -server a My Care Record broker?"
	}
	fields := detail[*errdetails.BadRequest](s).GetFieldViolations()
	if len(fields) > 0 {
		what = "the broker cannot take this request:"
	}
	a.tell("mcr: %s\n", safe(what))
	for _, v := range fields {
		flag, known := flagOf[v.GetField()]
		if !known {
			flag = "-" + strings.ReplaceAll(safe(v.GetField()), "_", "-")
		}
		if v.GetField() == "purpose" {
			a.tell("  %s: TREAT, ETREAT, BTG or PATRQT; the same as in the token, where that states one\n", flag)
			continue
		}
		a.tell("  %s: %s\n", flag, safe(v.GetDescription()))
	}
	if why := info.GetMetadata()["why"]; ours && why != "" {
		text := "Why: " + reasonText(why)
		if rule := safe(info.GetMetadata()["rule"]); rule != "" {
			text += " (rule " + rule + ")"
		}
		a.tell("  %s\n", text)
		if hint := hints[why]; hint != "" {
			a.tell("  %s\n", hint)
		}
	}
	if x := detail[*v1.CustodianStatuses](s); x != nil {
		p := &page{width: min(max(a.columns, 40), 160)}
		for _, c := range x.GetCustodians() {
			p.custodian("!", c, true, nameColumn(x.GetCustodians(), p.width))
		}
		if n := x.GetLeftOut(); n > 0 {
			p.line("    and " + count(int(n), "more custodian"))
		}
		a.tell("%s", p.String())
	}
	if d := detail[*errdetails.RetryInfo](s).GetRetryDelay(); d != nil {
		a.tell("  Ask again in %s.\n", max(d.AsDuration().Round(time.Second), time.Second))
	}
	if r := detail[*v1.Receipt](s); r != nil {
		a.tell("  %s\n", receiptText(r))
	}
	return code
}

// detail returns the first detail of a type, its zero value if there is none.
func detail[T any](s *status.Status) (zero T) {
	for _, d := range s.Details() {
		if x, ok := d.(T); ok {
			return x
		}
	}
	return zero
}

// flagOf names the flag of a field, where it is not the same word.
var flagOf = map[string]string{"nhs_number": "NHSNUMBER", "break_glass_reason": "-break-glass", "types": "-type", "objection_id": "-id",
	"position": "POSITION", "permission.kind": "-permission", "relationship.kind": "-relationship", "authorization": "mcr login"}

// reasons are the words for the broker's reasons. One that is not here is shown as it is.
var reasons = map[string]string{
	"permitted": "permitted", "own-record": "permitted: your organisation's own record", "break-glass": "permitted by break-glass",
	"objection-overridden": "permitted: break-glass overrode an objection", "cannot-know": "the person's preferences cannot be read, so nothing may be shown",
	"trace-unavailable": "the demographics service does not answer", "purpose": "the purpose is not one of care", "role": "your role may not do this",
	"role-section": "your role may not see this section", "not-own-record": "this is somebody else's record", "no-acting-person": "the engine names nobody that it acts for",
	"excluded": "the custodian never shares this", "patient-entered": "the person entered it for themselves", "objection": "the person has objected",
	"asked-no": "the person was asked and said no", "permission": "nothing says that the person agrees", "relationship": "nothing says how you are involved",
	"break-glass-reason": "break-glass needs a reason of 10 characters or more", "preferences-changed": "the person's preferences changed meanwhile",
	"use-stream": "too large for one answer", "held-by-nobody": "nobody holds a record", "custodians-in-trouble": "custodians are in trouble", "withheld": "withheld",
	"budget": "no time was left", "cancelled": "the caller left", "unknown": "the number is unknown", "superseded": "the number was replaced by another",
	"invalidated": "the number is not valid any more", "restricted": "access is restricted", "deceased": "the person died too long ago",
	"demographics-mismatch": "the date of birth is not the person's", "unreadable-request": "the request could not be read, or lacked what it needs",
}

func reasonText(code string) string {
	if s, ok := reasons[code]; ok {
		return s
	}
	return words(code)
}

// hints say what to do about a reason.
var hints = map[string]string{
	"permission":         "Say what the person said: -permission asked-yes, or 'cannot-ask; reason=...'. In an emergency: -break-glass REASON.",
	"relationship":       "Say how you are involved: -relationship attendance, for example.",
	"asked-no":           "Respect it. Only in an emergency: -break-glass REASON.",
	"break-glass-reason": "Say why, in 10 characters or more: -break-glass REASON.",
	"role":               "Sign in with a role that may: mcr login.",
	"not-own-record":     "The person's own token reads the person's own record only.",
	"no-acting-person":   "Give the signed statement of who asks: -acting-person-file FILE.",
	"objection":          "Ask the person, or ring the custodians.",
}
