package documents_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The codes and labels that stand anywhere in a document go with its text, and with the document itself when it is opened: what a custodian never shares, and to whom it may
// be shown, is known by them although nobody lists them.
func TestDocumentsAreHeldBackForTheirCodes(t *testing.T) {
	holder := newAnswering(t)
	src := hostileSource(t, holder.url, holder.url)
	const never = `{"resourceType":"Condition","subject":{"reference":"Patient/p"},"code":{"coding":[{"system":"http://snomed.info/sct","code":"15628003"}]}}`
	fhirDocument := func(more, labels string) string {
		return `{"resourceType":"Bundle","type":"document"` + labels + `,"entry":[{"fullUrl":"urn:uuid:c","resource":{"resourceType":"Composition","status":"final","title":"` + marker + `","subject":{"reference":"Patient/p"},"section":[{"title":"A","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">` + marker + `</div>"}}]}},` +
			`{"resource":{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + held + `"}]}}` + more + `]}`
	}
	cda := func(code string) string {
		return strings.Replace(string(report(held, "19500102", marker)), "</text>", `</text><entry><observation classCode="OBS"><code code="1" codeSystem="2.16.840.1.113883.6.1">`+code+`</code></observation></entry>`, 1)
	}
	const label = `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NOPAT"}]}`
	for _, c := range []struct {
		name, kind, text string
		code             broker.Code // that it carries
		own              bool        // the person's own view
	}{
		{"FHIR, an entry", "application/fhir+json", fhirDocument(`,{"resource":`+never+`}`, ""), broker.Code{System: "http://snomed.info/sct", Code: "15628003"}, false},
		{"CDA, a translation", "text/xml", cda(`<translation code="15628003" codeSystem="2.16.840.1.113883.2.1.3.2.4.15"/>`), broker.Code{System: "http://snomed.info/sct", Code: "15628003"}, false},
		{"CDA, a value of a system by its OID", "text/xml", cda(`<qualifier><value code="15628003" codeSystem="2.16.840.1.113883.6.96"/></qualifier>`), broker.Code{System: "http://snomed.info/sct", Code: "15628003"}, false},
		{"FHIR, a label of the Bundle", "application/fhir+json", fhirDocument("", label), broker.Code{System: "http://terminology.hl7.org/CodeSystem/v3-ActCode", Code: "NOPAT"}, true},
		{"CDA, a label", "text/xml", strings.Replace(cda(""), `<confidentialityCode code="N"/>`, `<confidentialityCode code="NOPAT" codeSystem="2.16.840.1.113883.5.4"/>`, 1), broker.Code{System: "urn:oid:2.16.840.1.113883.5.4", Code: "NOPAT"}, true},
		{"a label of the Binary around it", "application/fhir+json", `{"resourceType":"Binary"` + label + `,"contentType":"text/xml","data":"` + encoded(cda("")) + `"}`, broker.Code{System: "http://terminology.hl7.org/CodeSystem/v3-ActCode", Code: "NOPAT"}, true},
	} {
		rules := merge.Rules{Permitted: record.AllSections, Excluded: merge.CodesOf(merge.Code{System: "http://snomed.info/sct", Code: "15628003"})}
		if text := merged(t, c.text, merge.Request{PatientView: c.own}, rules); strings.Contains(text, marker) {
			t.Errorf("%s: its text is shown", c.name)
		}
		if text := merged(t, c.text, merge.Request{}, merge.Rules{Permitted: record.AllSections}); !strings.Contains(text, marker) {
			t.Errorf("%s: its text is not shown to whom it may be", c.name)
		}
		holder.say(typed(c.kind, c.text))
		d, err := src.Document(t.Context(), query(t, held), holder.url+"/d")
		if err != nil || !slices.Contains(d.Codes, c.code) || !rules.Hide(merge.Request{PatientView: c.own}, d.Codes) || (&merge.Rules{}).Hide(merge.Request{}, d.Codes) {
			t.Errorf("%s: %v, %d codes", c.name, err, len(d.Codes))
		}
	}
}
