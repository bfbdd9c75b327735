package documents

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// spine maps the error codes of the locator (Spine-ErrorOrWarningCode-1) and of document holders. A space, a hyphen and an underscore are the same, and so is
// case: the locator itself writes "ACCESS DENIED". Codes that are not here say no more than the status.
var spine = map[string]error{
	"NO_RECORD_FOUND": broker.ErrNoRecord, "PATIENT_NOT_FOUND": broker.ErrNoRecord,

	"NO_PATIENT_CONSENT": broker.ErrWithheld, "NO_ORGANISATION_CONSENT": broker.ErrWithheld, "NO_RELATIONSHIP": broker.ErrWithheld, "PATIENT_SENSITIVE": broker.ErrWithheld,

	"ACCESS_DENIED": broker.ErrUnauthorised, "ACCESS_DENIED_LEVEL": broker.ErrUnauthorised, "ACCESS_DENIED_SSL": broker.ErrUnauthorised,
	"MISSING_OR_INVALID_HEADER": broker.ErrMalformed, "INVALID_NHS_NUMBER": broker.ErrMalformed, "INVALID_CODE_SYSTEM": broker.ErrMalformed,
	"INVALID_IDENTIFIER_SYSTEM": broker.ErrMalformed, "INTERNAL_SERVER_ERROR": broker.ErrMalformed,
}

func spineCode(s string) string {
	if len(s) > 80 {
		return ""
	}
	return strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToUpper(strings.TrimSpace(s)))
}

// said returns what an OperationOutcome means, nil if it has no code that is known. A refusal beside "no record" is a refusal. Texts are never read.
func said(v fhirjson.Value) error {
	if !v.Get("resourceType").Is("OperationOutcome") {
		return nil
	}
	var found error
	for c := range v.Each("issue.details.coding.code") {
		if e := spine[spineCode(c.View())]; e != nil && (found == nil || errors.Is(found, broker.ErrNoRecord) || errors.Is(e, broker.ErrWithheld)) {
			found = e
		}
	}
	return found
}

// sentinels maps the kinds of trouble on the wire. A 404 of the locator without a code that says so is no statement about a person.
var sentinels = map[wire.Kind]error{
	wire.Unavailable: broker.ErrUnavailable, wire.TimedOut: broker.ErrTimedOut, wire.Cancelled: context.Canceled, wire.Malformed: broker.ErrMalformed,
	wire.TooMuch: broker.ErrTooMuch, wire.Elsewhere: broker.ErrElsewhere, wire.Unauthorised: broker.ErrUnauthorised, wire.Throttled: broker.ErrThrottled,
	wire.Missing: broker.ErrMalformed,
}

// wireError maps trouble on the wire.
func wireError(err error) error {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return broker.ErrMalformed
	}
	if e.Kind == wire.Throttled {
		return &broker.ThrottledError{After: e.After}
	}
	return sentinels[e.Kind]
}

// statusError maps a status that is not 200: what the answer says, else what the status says. A document that is not there is one that has gone, or was
// never: pointers outlive documents.
func statusError(a wire.Answer, ofDocument bool) error {
	if a.Body != nil && a.Status >= 400 && a.Status < 500 && a.Status != http.StatusUnauthorized && a.Status != http.StatusTooManyRequests {
		if d, err := fhirjson.Parse(a.Body, fhirjson.Limits{}); err == nil {
			if e := said(d.Root()); e != nil {
				return e
			}
		}
	}
	trouble := a.Trouble()
	if ofDocument && trouble.Kind == wire.Missing {
		return broker.ErrNoRecord
	}
	return wireError(trouble)
}

// tooMuch are the reasons of fhirjson that are caps.
var tooMuch = map[string]bool{"nested too deep": true, "string too long": true, "number too long": true, "too many values": true, "text too long": true}

// textError maps a text that was refused.
func textError(err error) error {
	if e, ok := errors.AsType[*fhirjson.Error](err); ok && tooMuch[e.Reason] || errors.Is(err, document.ErrTooDeep) {
		return broker.ErrTooMuch
	}
	return broker.ErrMalformed
}

// inTime returns err, or that the time is over: whatever fails after ctx has ended fails for that reason.
func inTime(ctx context.Context, err error) error {
	switch c := ctx.Err(); {
	case errors.Is(c, context.DeadlineExceeded):
		return broker.ErrTimedOut
	case c != nil:
		return context.Canceled
	}
	return err
}
