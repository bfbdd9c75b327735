package gpconnect

import (
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// area is one clinical area of the operation: how it is asked for, the List that comes back for it, and where its entries stand in a record.
type area struct {
	name      string
	parameter string
	parts     string // the parameter's parts that must be given, JSON
	list      string // SNOMED CT code of its List
	// sections are those of which at least one must be permitted for the area to be asked for (C-4: asking for less is an extra). The first is
	// that under which something missing is reported.
	sections []record.Section
}

// areas are those of GP Connect Access Record: Structured 1.5 (OperationDefinition GPConnect-GetStructuredRecord-Operation-1 and the pages on each
// area's List, read in November 2026). No filters are sent: with consultations or problems most of them are forbidden, because a practice could leave out
// what belongs together, and the broker filters what it shows anyway.
var areas = []area{
	{"allergies", "includeAllergies", `[{"name":"includeResolvedAllergies","valueBoolean":true}]`, "886921000000105", []record.Section{record.History}},
	{"medication", "includeMedication", `[{"name":"includePrescriptionIssues","valueBoolean":true}]`, "933361000000108", []record.Section{record.Medications}},
	{"consultations", "includeConsultations", "", "1149501000000101", []record.Section{record.History, record.Emergency, record.MentalHealth, record.Results, record.Medications,
		record.PlansAlerts, record.Correspondence}},
	{"problems", "includeProblems", "", "717711000000103", []record.Section{record.History, record.MentalHealth}},
	{"immunisations", "includeImmunisations", "", "1102181000000102", []record.Section{record.History}},
	{"uncategorised", "includeUncategorisedData", "", "826501000000100", []record.Section{record.History, record.Results}},
	{"investigations", "includeInvestigations", "", "887191000000108", []record.Section{record.Results}},
	{"referrals", "includeReferrals", "", "792931000000107", []record.Section{record.PlansAlerts, record.Results, record.MentalHealth}},
	{"diary", "includeDiaryEntries", "", "714311000000108", []record.Section{record.PlansAlerts, record.Results, record.MentalHealth}},
}

// wanted are the areas to ask for: those configured of which anything may be shown.
func (s *Source) wanted(q broker.Query) []area {
	var out []area
	onlyPatient := len(q.Types) == 1 && q.Types[0] == "Patient"
	for i, a := range areas {
		permitted := q.Sections == 0 // no permit was given along: a check of the source
		for _, x := range a.sections {
			permitted = permitted || q.Sections.Has(x)
		}
		if i == 0 || permitted && !onlyPatient && slices.Contains(s.settings.Areas, a.name) {
			out = append(out, a)
		}
	}
	return out
}

// parameters is the body of a request. number is the only thing in it that is not ours.
func parameters(number string, ask []area) []byte {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Parameters","parameter":[{"name":"patientNHSNumber","valueIdentifier":{"system":"` + record.NHSNumberSystem + `","value":"` + number + `"}}`)
	for _, a := range ask {
		b.WriteString(`,{"name":"` + a.parameter + `"`)
		if a.parts != "" {
			b.WriteString(`,"part":` + a.parts)
		}
		b.WriteString(`}`)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

// warnings are the codes by which a List says that it does not hold everything.
var warnings = map[string]string{"confidential-items": record.PartConfidential, "data-in-transit": record.PartInTransit, "data-awaiting-filing": record.PartAwaitingFiling}

// heard is what an answer says of its own completeness.
type heard struct {
	lists       map[string]bool // areas whose List came
	parts       []record.Part
	unsupported map[string]bool // areas that the practice says it cannot give
}

// listen reads the Lists and outcomes of an answer. It reports for an outcome whether all that it says is said by parts now.
func (h *heard) listen(v fhirjson.Value) (told bool) {
	switch {
	case v.Get("resourceType").Is("List"):
		a, primary := areaOf(v)
		if !primary {
			return false // Lists within the areas: the merge lifts their warnings
		}
		h.lists[a.name] = true
		for x := range v.Get("extension").Elems() {
			if !strings.Contains(x.Get("url").View(), "ListWarningCode") {
				continue
			}
			if reason := warnings[x.Get("valueCode").View()]; reason != "" {
				h.say(a, reason)
			}
		}
	case v.Get("resourceType").Is("OperationOutcome"):
		told = v.Get("issue").Len() > 0
		for issue := range v.Get("issue").Elems() {
			a, is := unsupportedArea(issue)
			if !is {
				told = false
				continue
			}
			h.unsupported[a.name] = true
		}
	}
	return told
}

func (h *heard) say(a area, reason string) {
	p := record.Part{Section: a.sections[0].Code(), Source: a.name, Reason: reason}
	if !slices.Contains(h.parts, p) {
		h.parts = append(h.parts, p)
	}
}

// areaOf is the area that a List is the List of, by its code: titles differ between suppliers.
func areaOf(list fhirjson.Value) (area, bool) {
	for c := range list.Each("code.coding.code") {
		for _, a := range areas {
			if c.Is(a.list) {
				return a, true
			}
		}
	}
	return area{}, false
}

// unsupportedArea is the area of which an issue says that it is disabled or not known: a warning with NOT_IMPLEMENTED that names the parameter.
func unsupportedArea(issue fhirjson.Value) (area, bool) {
	said := false
	for c := range issue.Each("details.coding.code") {
		said = said || spineCode(c.View()) == "NOT_IMPLEMENTED"
	}
	if !said && !issue.Get("code").Is("not-supported") {
		return area{}, false
	}
	for _, a := range areas {
		if strings.Contains(issue.Get("diagnostics").View(), a.parameter) || strings.Contains(issue.At("details", "text").View(), a.parameter) {
			return a, true
		}
	}
	return area{}, false
}

// finish says which areas are missing: asked for and not given, or never asked for.
func (h *heard) finish(asked []area, configured []string) []record.Part {
	for _, a := range areas {
		was := slices.ContainsFunc(asked, func(x area) bool { return x.name == a.name })
		if was && !h.lists[a.name] || !was && !slices.Contains(configured, a.name) && a.name != areas[0].name {
			h.say(a, record.PartSourceDown)
		}
	}
	return h.parts
}
