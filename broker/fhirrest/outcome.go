package fhirrest

import (
	"encoding/json"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// issue makes an issue of an OperationOutcome of ours. text never holds what a caller or a custodian wrote.
func issue(severity fhir.IssueSeverity, code fhir.IssueType, text string) fhir.OperationOutcomeIssue {
	return fhir.OperationOutcomeIssue{Severity: severity, Code: code, Details: &fhir.CodeableConcept{Text: &text}}
}

// outcome authors an OperationOutcome. samply's models write what we author (M-1).
func outcome(id *string, issues []fhir.OperationOutcomeIssue) []byte {
	text, err := json.Marshal(fhir.OperationOutcome{Id: id, Issue: issues})
	if err != nil {
		panic("fhirrest: an outcome of our own cannot be written")
	}
	return text
}

// notes says in the answer what of the question was not done: an ignored parameter may have been meant to keep something out, and a full
// answer may look like a page.
func (h *handler) notes(q question) []merge.Entry {
	var issues []fhir.OperationOutcomeIssue
	for _, name := range q.ignored {
		issues = append(issues, issue(fhir.IssueSeverityWarning, fhir.IssueTypeNotSupported,
			"The parameter "+name+" is not supported and was ignored: this answer is as if it had not been given."))
	}
	if q.nobody != "" {
		issues = append(issues, issue(fhir.IssueSeverityWarning, fhir.IssueTypeNotFound,
			"No Patient has this _id here. It says nothing of any person: search by identifier."))
	}
	if q.paging {
		issues = append(issues, issue(fhir.IssueSeverityInformation, fhir.IssueTypeInformational,
			"Paging is not supported yet: _count was ignored and this is the whole answer."))
	}
	if issues == nil {
		return nil
	}
	id := "outcome-request"
	return []merge.Entry{{FullURL: h.base + "/OperationOutcome/" + id, Type: "OperationOutcome", ID: id, Mode: merge.Outcome, JSON: outcome(&id, issues)}}
}

// custodianOutcomes are the entries that say of custodians what an answer with a record would say of them.
func (h *handler) custodianOutcomes(statuses []record.Status) []merge.Entry {
	if len(statuses) == 0 {
		return nil
	}
	return merge.Assemble(merge.Request{Base: h.base, CodeBase: h.codeBase}, nil, statuses).Entries
}

// custodianIssues are the same as issues of one outcome.
func (h *handler) custodianIssues(statuses []record.Status) []fhir.OperationOutcomeIssue {
	var issues []fhir.OperationOutcomeIssue
	for _, e := range h.custodianOutcomes(statuses) {
		o, err := fhir.UnmarshalOperationOutcome(e.JSON) // we wrote it a moment ago
		if err != nil || e.Mode != merge.Outcome {
			panic("fhirrest: an outcome of our own cannot be read")
		}
		issues = append(issues, o.Issue...)
	}
	return issues
}
