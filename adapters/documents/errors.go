package documents

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/internal/document"
	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
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

// said returns what an OperationOutcome means, nil if it has no code that is known. That there is no record it means only where every issue that is trouble says so.
// Texts are never read.
func said(v fhirjson.Value) error {
	if !v.Get("resourceType").Is("OperationOutcome") {
		return nil
	}
	var found error
	other := false
	for issue := range v.Get("issue").Elems() {
		e := issueError(issue)
		other = other || trouble(issue) && !errors.Is(e, broker.ErrNoRecord)
		found = graver(found, e)
	}
	if other && errors.Is(found, broker.ErrNoRecord) {
		return broker.ErrMalformed
	}
	return found
}

// trouble reports whether an issue is an error, or says that a search was not done to its end.
func trouble(issue fhirjson.Value) bool { return sentinel.Grave(issue) || sentinel.Unfinished(issue) }

// saysNone reports whether an OperationOutcome says that there is no record, and nothing else.
func saysNone(v fhirjson.Value) bool {
	none := false
	for issue := range v.Get("issue").Elems() {
		if !errors.Is(issueError(issue), broker.ErrNoRecord) {
			return false
		}
		none = true
	}
	return none
}

// heard returns what the outcomes of a search mean that found nothing, nil if they say no more than that. A refusal beside other trouble is a refusal. Warnings
// of what is not known here are no trouble: servers warn of a parameter that they do without.
func heard(outcomes []fhirjson.Entry) error {
	var found error
	for _, o := range outcomes {
		for issue := range o.Resource.Get("issue").Elems() {
			e := issueError(issue)
			switch {
			case issue.Get("code").Is("suppressed"):
				e = broker.ErrWithheld
			case e == nil && trouble(issue):
				e = broker.ErrMalformed
			}
			if !errors.Is(e, broker.ErrNoRecord) {
				found = graver(found, e)
			}
		}
	}
	return found
}

// issueError returns what an issue means by its codes, nil if none is known. Who did not look to the end does not know that there is nothing.
func issueError(issue fhirjson.Value) error {
	var found error
	for c := range issue.Each("details.coding.code") {
		found = graver(found, spine[spineCode(c.View())])
	}
	if errors.Is(found, broker.ErrNoRecord) && sentinel.Unfinished(issue) {
		return broker.ErrMalformed
	}
	return found
}

// graver returns which of two counts: a refusal beside "no record" is a refusal.
func graver(a, b error) error {
	if b != nil && (a == nil || errors.Is(a, broker.ErrNoRecord) || errors.Is(b, broker.ErrWithheld)) {
		return b
	}
	return a
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
	return sentinel.OfWire(trouble)
}

// textError maps a text that was refused.
func textError(err error) error {
	if errors.Is(err, document.ErrTooDeep) {
		return broker.ErrTooMuch
	}
	return sentinel.OfText(err)
}

// inTime returns err, or that the time is over: whatever fails after ctx has ended fails for that reason.
func inTime(ctx context.Context, err error) error {
	if end := sentinel.OfEnd(ctx); end != nil {
		return end
	}
	return err
}
