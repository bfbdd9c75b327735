package sentinel

import "github.com/mycarerecord/mycarerecord/broker/fhirjson"

// unfinished are the types of issue that say that something was not done to its end: transient and all below it, and what costs too much to be done whole
// (hl7.org/fhir/R4/valueset-issue-type.html, read in December 2026). The merge, which reads what came beside a record, takes each of them for a part that is missing.
var unfinished = map[string]bool{
	"transient": true, "lock-error": true, "no-store": true, "exception": true, "timeout": true, "incomplete": true, "throttled": true,
	"too-costly": true,
}

// Unfinished reports whether an issue of an OperationOutcome says, with whatever severity, that a search was not done to its end: where nothing came with it, it is not
// known that there is nothing.
func Unfinished(issue fhirjson.Value) bool { return unfinished[issue.Get("code").View()] }

// Grave reports whether an issue of an OperationOutcome is an error.
func Grave(issue fhirjson.Value) bool {
	severity := issue.Get("severity")
	return severity.Is("error") || severity.Is("fatal")
}
