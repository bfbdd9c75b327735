package merge

import (
	"cmp"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// warningCodes are the codes with which a custodian says that its record is not whole: UKCore-ListWarningCode, on Lists and in outcomes.
var warningCodes = map[string]string{
	"confidential-items":   record.PartConfidential,
	"data-in-transit":      record.PartInTransit,
	"data-awaiting-filing": record.PartAwaitingFiling,
}

// issueParts says what a warning means by its issue type (hl7.org/fhir/R4/valueset-issue-type.html). A warning of another type still says
// that something went wrong, so it counts as a source that gave nothing: an answer must not look whole on a doubt (H-01).
var issueParts = map[string]string{
	"suppressed": record.PartConfidential, "forbidden": record.PartConfidential, "security": record.PartConfidential,
	"too-costly": record.PartTruncated, "too-long": record.PartTruncated,
	"not-supported": record.PartFiltered, "invalid": record.PartFiltered, "value": record.PartFiltered, "code-invalid": record.PartFiltered,
}

// warnings takes from an OperationOutcome what it says is missing. It is no entry.
func (p *preparing) warnings(v fhirjson.Value) {
	for issue := range v.Get("issue").Elems() {
		reason := ""
		for c := range issue.Each("details.coding") {
			if r, known := warningCodes[c.Get("code").Text()]; known {
				reason = r
			}
		}
		if severity := issue.Get("severity"); reason == "" && (severity.Is("warning") || severity.Is("error") || severity.Is("fatal")) {
			if reason = issueParts[issue.Get("code").Text()]; reason == "" {
				reason = record.PartSourceDown
			}
		}
		if reason != "" {
			p.parts = append(p.parts, record.Part{Reason: reason})
		}
	}
}

// surface takes the warnings of Lists that are not withheld: extension ListWarningCode, a code or a CodeableConcept (H-10, H-11).
func (p *preparing) surface() {
	for i := range p.items {
		it := &p.items[i]
		if it.typ != "List" || it.fate != shown && it.fate != filtered {
			continue
		}
		for x := range it.get(extensionMember).Elems() {
			if !extensionNamed(x, "ListWarningCode") {
				continue
			}
			note := func(code fhirjson.Value) {
				if r, known := warningCodes[code.Text()]; known {
					p.parts = append(p.parts, record.Part{Reason: r, Source: "List"})
				}
			}
			note(x.Get("valueCode"))
			for c := range x.Each("valueCodeableConcept.coding") {
				note(c.Get("code"))
			}
		}
	}
}

func compareParts(a, b record.Part) int {
	return cmp.Or(strings.Compare(a.Reason, b.Reason), strings.Compare(a.Section, b.Section), strings.Compare(a.Source, b.Source), cmp.Compare(a.Count, b.Count))
}
