package fhirrest

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/consent"
)

// problem is an answer that is no record: a status and an OperationOutcome.
type problem struct {
	status     int
	issues     []fhir.OperationOutcomeIssue
	retryAfter time.Duration // 0: none
	allow      []string      // of 405
	challenge  string        // WWW-Authenticate, of 401
	receipt    audit.Receipt // of the entry that records the refusal; zero for none
	badNumber  bool          // an NHS number failed its check digit
}

// kinds is the table from the broker's kinds of refusal to statuses and issue codes (design section 3, standards 1.5). UseStream cannot
// happen here, where an answer has no greatest size, and Gone has nobody to read it.
var kinds = map[broker.Kind]struct {
	status int
	code   fhir.IssueType
	text   string
}{
	broker.Invalid: {http.StatusBadRequest, fhir.IssueTypeValue, "A part of the request cannot be accepted."},
	broker.Suppressed: {http.StatusForbidden, fhir.IssueTypeSuppressed,
		"The person has chosen not to share this record. Each organisation can be asked itself, where that is right."},
	broker.Forbidden: {http.StatusForbidden, fhir.IssueTypeForbidden, "The request is refused."},
	broker.NotFound: {http.StatusNotFound, fhir.IssueTypeNotFound,
		"No record can be shown for this request. Trace the person again with the demographics service before concluding that there is none."},
	broker.Transient: {http.StatusServiceUnavailable, fhir.IssueTypeTransient,
		"The record cannot be shown at this moment. Nothing follows from that about what is held. Try again."},
	broker.Overloaded: {http.StatusServiceUnavailable, fhir.IssueTypeTransient, "Too much is being asked at this moment. Try again."},
	broker.OutOfTime:  {http.StatusServiceUnavailable, fhir.IssueTypeTimeout, "There was too little time left to ask anybody. Try again."},
	broker.UseStream:  {http.StatusServiceUnavailable, fhir.IssueTypeTooCostly, "The answer is too large for this way of asking."},
	broker.Gone:       {http.StatusServiceUnavailable, fhir.IssueTypeTransient, "The request was given up."},
}

// retryTransient is what Retry-After says where the broker says nothing.
const retryTransient = 5 * time.Second

// refused turns an error of the broker into a problem, by its kind.
func (x *exchange) refused(err error) *problem {
	var r *broker.Refusal
	if !errors.As(err, &r) {
		return internal()
	}
	row, known := kinds[r.Kind]
	if !known {
		return internal()
	}
	first := issue(fhir.IssueSeverityError, row.code, row.text)
	switch r.Kind {
	case broker.Invalid:
		if r.Field != "" {
			first.Details.Text = &r.Field
		}
	case broker.Forbidden, broker.Suppressed:
		if text := reasonTexts[r.Reason]; text != "" && r.Kind == broker.Forbidden {
			first.Details.Text = &text
		} else if r.Explanation.Text != "" {
			first.Details.Text = &r.Explanation.Text
		}
		if r.Reason != "" {
			system, code := x.h.codeBase+reasonSystemPath, string(r.Reason)
			first.Details.Coding = []fhir.Coding{{System: &system, Code: &code}}
		}
		detail := ""
		if r.Rule != "" {
			detail = "rule " + r.Rule
		}
		if r.Explanation.Preference != 0 {
			detail += "; preference at " + strconv.FormatUint(r.Explanation.Preference, 10)
		}
		if r.Reason == consent.ReasonNoActingPerson && x.caller.Problem != nil {
			detail = x.caller.Problem.Error() // a fixed text that names the check
		}
		if detail != "" {
			first.Diagnostics = &detail
		}
	}
	p := &problem{status: row.status, issues: append([]fhir.OperationOutcomeIssue{first}, x.h.custodianIssues(r.Statuses)...), retryAfter: r.RetryAfter}
	if row.status == http.StatusServiceUnavailable && p.retryAfter <= 0 {
		p.retryAfter = retryTransient
	}
	if r.Kind != broker.NotFound { // where an entry stands would tell the neutral classes apart
		p.receipt = r.Receipt
	}
	return p
}

// reasonSystemPath follows the configured base address in the code system of reasons, whose codes are those of package consent.
const reasonSystemPath = "/CodeSystem/reason"

// reasonTexts says what to do about a refusal. Reasons that are not here get the text of their kind.
var reasonTexts = map[consent.Reason]string{
	consent.ReasonPurpose:          "This service is for direct care and for the person themselves. The purpose stated is neither.",
	consent.ReasonRole:             "The selected role may not ask for this. Select another role, or ask your organisation.",
	consent.ReasonRoleSection:      "The selected role may not see this part of a record.",
	consent.ReasonNotOwn:           "A person can see their own record only.",
	consent.ReasonNoActingPerson:   "A system must name the person it acts for: send X-Acting-Person, signed with the registered key, for one call only.",
	consent.ReasonAskedNo:          "The person was asked and said no.",
	consent.ReasonPermission:       "Permission to view is missing: state it in X-Permission-To-View.",
	consent.ReasonRelationship:     "The relationship with the person is missing: state it in X-Care-Relationship.",
	consent.ReasonBreakGlassReason: "Breaking the glass needs a reason of at least 10 characters in X-Break-Glass-Reason.",
	consent.ReasonPatientEntered:   "What there is was entered by the person, for their own view.",
	consent.ReasonExcluded:         "The organisations that hold this do not share it.",
	consent.ReasonChanged:          "The person's preferences changed while the answer was made. Ask again.",
}

// unauthenticated turns an error of authn into a problem, by its kind. Texts of that package hold nothing from outside.
func unauthenticated(err error) *problem {
	const bearer = `Bearer realm="mycarerecord"`
	p := &problem{status: http.StatusUnauthorized, challenge: bearer + `, error="invalid_token"`}
	code := fhir.IssueTypeLogin
	switch {
	case errors.Is(err, authn.ErrNoToken):
		p.challenge = bearer
	case errors.Is(err, authn.ErrExpired):
		code = fhir.IssueTypeExpired
	case errors.Is(err, authn.ErrToken):
	case errors.Is(err, authn.ErrTooManyTokens), errors.Is(err, authn.ErrActingUnwanted):
		p.status, p.challenge, code = http.StatusBadRequest, "", fhir.IssueTypeInvalid
	default: // the issuer's keys, or our own capacity: fail closed, and say that it may pass
		p.status, p.challenge, code, p.retryAfter = http.StatusServiceUnavailable, "", fhir.IssueTypeTransient, retryTransient
	}
	p.issues = []fhir.OperationOutcomeIssue{issue(fhir.IssueSeverityError, code, err.Error())}
	return p
}

// refusal is a problem of one issue. text says what to do and never repeats what was given.
func refusal(status int, severity fhir.IssueSeverity, code fhir.IssueType, text string) *problem {
	return &problem{status: status, issues: []fhir.OperationOutcomeIssue{issue(severity, code, text)}}
}

func throttled(after time.Duration) *problem {
	p := refusal(http.StatusTooManyRequests, fhir.IssueSeverityError, fhir.IssueTypeThrottled, "Too many requests by this user. Wait, then ask again.")
	p.retryAfter = after
	return p
}

func bad(code fhir.IssueType, text string) *problem {
	return refusal(http.StatusBadRequest, fhir.IssueSeverityError, code, text)
}

// badNumber is bad for an NHS number that is none.
func badNumber(text string) *problem {
	p := bad(fhir.IssueTypeValue, text)
	p.badNumber = true
	return p
}

func notSupported(status int, text string) *problem {
	return refusal(status, fhir.IssueSeverityError, fhir.IssueTypeNotSupported, text)
}

func notFoundHere(text string) *problem {
	return refusal(http.StatusNotFound, fhir.IssueSeverityError, fhir.IssueTypeNotFound, text)
}

func notAllowed(methods []string) *problem {
	p := notSupported(http.StatusMethodNotAllowed, "This service only reads. Here it takes "+strings.Join(methods, ", ")+".")
	p.allow = methods
	return p
}

func internal() *problem {
	return refusal(http.StatusInternalServerError, fhir.IssueSeverityFatal, fhir.IssueTypeException, "The service failed. Nothing of a record was shown.")
}
