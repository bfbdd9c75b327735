package gpconnect

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/mycarerecord/mycarerecord/adapters/gpconnect/stu3"
	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// spine maps the error codes of GP Connect and of the Spine to what they mean for us. Codes are compared without case, and a space, a hyphen and an
// underscore are the same: the value set has "ACCESS DENIED" with a space, older pages ACCESS_DENIED. NO_ORGANISATION_CONSENT is spelt so in the pages
// and NO_ORGANISATIONAL_CONSENT in the code system.
//
// PATIENT_NOT_FOUND is ambiguous on purpose (unknown, inactive, deceased, not verified, sensitive): no record is to be had, whichever it is.
var spine = map[string]error{
	"PATIENT_NOT_FOUND": broker.ErrNoRecord, "NO_RECORD_FOUND": broker.ErrNoRecord,

	"NO_PATIENT_CONSENT": broker.ErrWithheld, "NO_ORGANISATION_CONSENT": broker.ErrWithheld, "NO_ORGANISATIONAL_CONSENT": broker.ErrWithheld,
	"NO_RELATIONSHIP": broker.ErrWithheld, "PATIENT_SENSITIVE": broker.ErrWithheld,

	"ACCESS_DENIED": broker.ErrUnauthorised, "ACCESS_DENIED_SSL": broker.ErrUnauthorised, "ASID_CHECK_FAILED": broker.ErrUnauthorised,
	"ORGANISATION_NOT_FOUND": broker.ErrUnauthorised, "PRACTITIONER_NOT_FOUND": broker.ErrUnauthorised,

	"INVALID_IDENTIFIER_SYSTEM": broker.ErrMalformed, "INVALID_IDENTIFIER_VALUE": broker.ErrMalformed, "INVALID_NHS_NUMBER": broker.ErrMalformed,
	"INVALID_PATIENT_DEMOGRAPHICS": broker.ErrMalformed, "BAD_REQUEST": broker.ErrMalformed, "CONFLICTING_VALUES": broker.ErrMalformed,
	"MISSING_OR_INVALID_HEADER": broker.ErrMalformed, "DUPLICATE_REJECTED": broker.ErrMalformed, "INVALID_RESOURCE": broker.ErrMalformed,
	"INVALID_PARAMETER": broker.ErrMalformed, "REFERENCE_NOT_FOUND": broker.ErrMalformed, "NOT_IMPLEMENTED": broker.ErrMalformed,
	"INTERNAL_SERVER_ERROR": broker.ErrMalformed, "UNSUPPORTED_MEDIA_TYPE": broker.ErrMalformed, "MESSAGE_NOT_WELL_FORMED": broker.ErrMalformed,
	"REQUEST_UNMATCHED": broker.ErrMalformed, "FHIR_CONSTRAINT_VIOLATION": broker.ErrMalformed,
}

// spineCode is a code in the one spelling of the table.
func spineCode(s string) string {
	if len(s) > 80 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return '_'
		}
		return r
	}, strings.ToUpper(strings.TrimSpace(s)))
}

// said returns what an OperationOutcome means, nil if it has no code that is known. The gravest of several wins in the order of the list below,
// so that "no record" beside a refusal is a refusal. Beside an error that is not known, or word of what was not done to its end, it is no "no record".
// Texts are never read: they may hold anything.
func said(v fhirjson.Value) error {
	if !v.Get("resourceType").Is("OperationOutcome") {
		return nil
	}
	var found error
	other := false
	for issue := range v.Get("issue").Elems() {
		e := meant(issue)
		other = other || sentinel.Unfinished(issue) || e == nil && sentinel.Grave(issue)
		found = graver(found, e)
	}
	if other && errors.Is(found, broker.ErrNoRecord) {
		return broker.ErrMalformed
	}
	return found
}

// meant returns what an issue means by its codes, nil if none is known.
func meant(issue fhirjson.Value) error {
	var found error
	for c := range issue.Each("details.coding.code") {
		code := spineCode(c.View())
		e := spine[code]
		if strings.HasPrefix(code, "ASID_CHECK_FAILED") { // the proxy says which check, after this
			e = broker.ErrUnauthorised
		}
		found = graver(found, e)
	}
	return found
}

func graver(a, b error) error {
	if b != nil && (a == nil || grave(b) > grave(a)) {
		return b
	}
	return a
}

func grave(e error) int {
	for i, x := range [...]error{broker.ErrNoRecord, broker.ErrMalformed, broker.ErrUnauthorised, broker.ErrWithheld} {
		if errors.Is(e, x) {
			return i
		}
	}
	return -1
}

// statusError maps a status that is not 200. What a code says of the person or of us counts with a status of 4xx; what is the service's own trouble
// (408, 429, 5xx) stays that, whatever stands in the body.
func statusError(a wire.Answer) error {
	trouble := a.Trouble()
	s := a.Status
	if s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests && a.Body != nil {
		if d, err := fhirjson.Parse(a.Body, fhirjson.Limits{}); err == nil {
			if e := said(d.Root()); e != nil {
				return e
			}
		}
	}
	return sentinel.OfWire(trouble)
}

// conversionError maps a record that could not be converted.
func conversionError(err error) error {
	if errors.Is(err, stu3.ErrTooMuch) {
		return broker.ErrTooMuch
	}
	return broker.ErrMalformed
}

// inTime returns err, or that the time is over: whatever fails after ctx has ended fails for that reason.
func inTime(ctx context.Context, err error) error {
	if end := sentinel.OfEnd(ctx); end != nil {
		return end
	}
	return err
}
