package fhirr4

import (
	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// said is what an OperationOutcome says, as far as it decides what to do next. Its texts are never read: they may hold
// anything. Outcomes among the entries of a record are passed on, and the merge says what they mean for it.
type said struct {
	isOutcome   bool // it is an OperationOutcome
	trouble     bool // an issue of severity error or fatal, or one that says that something was not done to its end
	withheld    bool
	noPatient   bool // and nothing that is trouble says anything else
	doubt       bool // something was not done to its end, or there is nobody and other trouble: it says of nothing that it is not there
	unsupported bool
	throttled   bool
}

// listen reads an OperationOutcome; of anything else it hears nothing.
//
// Codes of withholding: FHIR issue type suppressed; NO_PATIENT_CONSENT, and NO_ORGANISATION_CONSENT in its two spellings, of the Spine error
// codes, whatever version of that system they come with.
func listen(v fhirjson.Value) said {
	s := said{}
	if !v.Get("resourceType").Is("OperationOutcome") {
		return s
	}
	s.isOutcome = true
	other := false // trouble that says something else than that there is nobody
	for issue := range v.Get("issue").Elems() {
		nobody := false
		switch issue.Get("code").Text() {
		case "suppressed":
			s.withheld = true
		case "not-supported":
			s.unsupported = true
		case "deleted":
			nobody = true
		case "throttled":
			s.throttled = true
		}
		for c := range issue.Each("details.coding.code") {
			switch c.Text() {
			case "NO_PATIENT_CONSENT", "NO_ORGANISATION_CONSENT", "NO_ORGANISATIONAL_CONSENT":
				s.withheld = true
			case "PATIENT_NOT_FOUND", "NO_RECORD_FOUND":
				nobody = true
			}
		}
		grave, unfinished := sentinel.Grave(issue), sentinel.Unfinished(issue)
		s.noPatient = s.noPatient || nobody
		s.trouble = s.trouble || grave || unfinished
		s.doubt = s.doubt || unfinished
		other = other || unfinished || grave && !nobody
	}
	s.noPatient, s.doubt = s.noPatient && !other, s.doubt || s.noPatient && other
	return s
}
