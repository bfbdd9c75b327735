package merge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// sectionsOf gives the primary section first, then the others.
func sectionsOf(e Entry) string {
	return strings.Join(append([]string{e.Section.Code()}, e.Others.Codes()...), " ")
}

func TestSections(t *testing.T) {
	coded := func(element, code string) string {
		return `"` + element + `":{"coding":[{"system":"http://snomed.info/sct","code":"` + code + `"}]}`
	}
	for _, c := range []struct {
		kind               record.CustodianKind
		typ, members, want string
	}{
		{record.KindGP, "MedicationRequest", ``, "medications"},
		{record.KindGP, "Observation", ``, "history"},
		{record.KindGP, "Observation", `"category":[{"coding":[{"code":"laboratory"}]}]`, "results"},
		{record.KindGP, "Observation", `"category":[{"coding":[{"code":"vital-signs"}]},{"coding":[{"code":"imaging"}]}]`, "results"},
		{record.KindGP, "Observation", `"category":[{"coding":[{"code":"social-history"}]}]`, "history"},
		{record.KindGP, "DiagnosticReport", ``, "results"},
		{record.KindGP, "ServiceRequest", ``, "plans-alerts"},
		{record.KindGP, "ServiceRequest", `"category":[` + `{"coding":[{"code":"108252007"}]}` + `]`, "results"},
		{record.KindGP, "DocumentReference", ``, "correspondence"},
		{record.KindGP, "DocumentReference", coded("type", "11502-2"), "results"},
		{record.KindGP, "DocumentReference", coded("type", "736373009"), "plans-alerts"},
		{record.KindGP, "DocumentReference", coded("type", "736253002"), "mental-health plans-alerts"},
		{record.KindGP, "Composition", coded("type", "59258-4"), "emergency correspondence"},
		{record.KindGP, "Flag", ``, "plans-alerts"},
		{record.KindGP, "RelatedPerson", ``, "demographics"},
		{record.KindGP, "Basic", ``, "other"},
		{record.KindGP, "SupplyDelivery", ``, "social-care"},
		{record.KindGP, "Encounter", `"class":{"code":"AMB"}`, "history"},
		{record.KindAcute, "Encounter", `"class":{"code":"EMER"}`, "emergency history"},
		{record.KindAcute, "Encounter", `"type":[` + `{"coding":[{"code":"50849002"}]}` + `]`, "emergency history"},
		{record.KindAmbulance, "Encounter", `"class":{"code":"EMER"}`, "ambulance history emergency"},
		{record.KindMentalHealth, "Observation", ``, "mental-health history"},
		{record.KindMentalHealth, "Condition", ``, "mental-health history"},
		{record.KindMentalHealth, "MedicationRequest", ``, "medications mental-health"},
		{record.KindMentalHealth, "DocumentReference", ``, "correspondence mental-health"},
		{record.KindMentalHealth, "Appointment", ``, "appointments mental-health"},
		{record.KindMentalHealth, "CarePlan", ``, "mental-health plans-alerts"},
		{record.KindMentalHealth, "Encounter", `"class":{"code":"EMER"}`, "mental-health history emergency"},
		{record.KindSocialCare, "CarePlan", ``, "social-care plans-alerts"},
		{record.KindSocialCare, "CareTeam", ``, "social-care plans-alerts"},
		{record.KindCommunity, "Procedure", ``, "community history"},
		{record.KindPharmacy, "MedicationDispense", ``, "medications pharmacy"},
		{record.Kind111, "Encounter", ``, "history"},
		{record.KindOutOfHours, "Encounter", ``, "history"},
		{record.KindGP, "Condition", coded("code", "35489007"), "mental-health history"},
		{record.KindGP, "Condition", `"code":{"text":"Generalised ANXIETY"}`, "mental-health history"},
		{record.KindGP, "Condition", `"code":{"coding":[{"display":"Depression"}]}`, "mental-health history"},
		{record.KindGP, "Condition", `"code":{"text":"Depressed fracture of skull"}`, "history"},
		{record.KindGP, "Condition", `"code":{"text":"Respiratory depression"}`, "history"},
		{record.KindGP, "CarePlan", `"title":"Mental health crisis plan"`, "mental-health plans-alerts"},
		{record.KindGP, "Flag", `"category":[{"text":"Mental health"}]`, "mental-health plans-alerts"},
		{record.KindGP, "MedicationRequest", `"reasonCode":[` + `{"coding":[{"code":"35489007"}]}` + `]`, "medications"},
		{record.KindGP, "Encounter", `"reasonCode":[` + `{"coding":[{"code":"35489007"}]}` + `]`, "mental-health history"},
		{record.KindGP, "MedicationRequest", `"meta":{"security":[{"code":"PSY"}]}`, "medications mental-health"},
		{record.KindGP, "DocumentReference", `"securityLabel":[{"coding":[{"code":"ETHUD"}]}]`, "correspondence mental-health"},
		{record.KindGP, "MedicationRequest", `"meta":{"security":[{"code":"R"}]}`, "medications"},
		{record.KindGP, "Observation", coded("code", "6471006"), "history mental-health"},
		{record.KindGP, "Observation", `"component":[{"code":{"coding":[{"code":"6471006"}]}}]`, "history mental-health"},
		{record.KindGP, "Observation", coded("valueCodeableConcept", "35489007"), "history mental-health"},
		{record.KindGP, "Task", coded("code", "391281002"), "plans-alerts mental-health"},
		{record.KindGP, "Communication", `"reasonCode":[{"coding":[{"code":"35489007"}]}]`, "correspondence mental-health"},
		{record.KindGP, "Observation", `"category":[{"coding":[{"system":"https://mycarerecord.example/CodeSystem/section","code":"social-care"}]}]`, "social-care history"},
		{record.KindGP, "Observation", `"meta":{"tag":[{"system":"https://mycarerecord.example/CodeSystem/section","code":"mental-health"}]}`, "mental-health history"},
		{record.KindGP, "Observation", `"meta":{"tag":[{"system":"https://elsewhere.example/section","code":"mental-health"}]}`, "history"},
		{record.KindGP, "MedicationRequest", `"contained":[{"resourceType":"Condition","id":"c",` + coded("code", "35489007") + `}]`, "medications history mental-health"},
		{record.KindGP, "MedicationRequest", `"contained":[{"resourceType":"Medication","id":"c"}]`, "medications"},
	} {
		row, subject := subjects[c.typ], ""
		switch {
		case len(row.about) > 0:
			subject = `"` + row.about[0] + `":{"reference":"Patient/p"}`
		default:
			subject = `"participant":[{"actor":{"reference":"Patient/p"}}]`
		}
		members := c.members
		if members != "" {
			members = "," + members
		}
		reply := replyOf(t, `{"resourceType":"`+c.typ+`","id":"1",`+subject+members+`}`)
		reply.Custodian.Kind = c.kind
		p := prepare(t, request(t), everything, reply)
		e := find(t, p, c.typ, "gp-1")
		if got := sectionsOf(e); got != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.kind, c.typ, c.members, got, c.want)
		}
		// The tags say the same, ours before those that were there.
		var tags []string
		for tag := range parsed(t, string(e.JSON)).Each("meta.tag") {
			if tag.Get("system").Is("https://mycarerecord.example/CodeSystem/section") {
				tags = append(tags, tag.Get("code").Text())
			}
		}
		if got := strings.Join(tags, " "); !strings.HasPrefix(got+" ", c.want+" ") {
			t.Errorf("%s %s: tags %s", c.typ, c.members, got)
		}
		if e.Mode != Match || e.Section != record.Section(e.Section) || !p.Sections.Has(e.Section) {
			t.Errorf("%+v", e)
		}
	}
}

func TestEverythingOfAKindIsInItsSection(t *testing.T) {
	homes := 0
	for _, kind := range record.CustodianKinds {
		section, has := ShippedSections().Home(kind)
		if !has {
			continue
		}
		homes++
		reply := replyOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`}`, `{"resourceType":"MedicationRequest","id":"2",`+toAda+`}`)
		reply.Custodian.Kind = kind
		p := prepare(t, request(t), everything, reply)
		for _, e := range p.Entries {
			if e.Section != section && !e.Others.Has(section) {
				t.Errorf("%s: %s is not in %s", kind, e.ID, section)
			}
		}
		rules := everything
		rules.Permitted = record.AllSections.Without(record.SectionsOf(section))
		p = prepare(t, request(t), rules, reply)
		if len(p.Entries) != 0 || p.Status.State != record.Withheld || p.Counts.Withheld != 3 {
			t.Errorf("%s: %s %s", kind, p.Status.State, list(p.Entries))
		}
	}
	if homes != 5 {
		t.Errorf("%d kinds of custodians have a home, want 5", homes)
	}
}

func TestEntriesFollowTheirEncounter(t *testing.T) {
	emergency := `{"resourceType":"Encounter","id":"e",` + toAda + `,"class":{"code":"EMER"}}`
	ward := `{"resourceType":"Encounter","id":"w",` + toAda + `,"class":{"code":"IMP"},"partOf":{"reference":"Encounter/m"}}`
	mental := `{"resourceType":"Encounter","id":"m",` + toAda + `,"serviceType":{"coding":[{"code":"74732009"}]},"partOf":{"reference":"Encounter/w"}}` // a circle
	p := prepare(t, request(t), everything, replyOf(t, emergency, ward, mental,
		`{"resourceType":"Observation","id":"1",`+toAda+`,"encounter":{"reference":"Encounter/e"}}`,
		`{"resourceType":"MedicationAdministration","id":"2",`+toAda+`,"context":{"reference":"Encounter/w"}}`,
		`{"resourceType":"DocumentReference","id":"3",`+toAda+`,"context":{"encounter":[{"reference":"Encounter/x"},{"reference":"Encounter/e"}]}}`,
		`{"resourceType":"Observation","id":"4",`+toAda+`,"encounter":{"reference":"Encounter/x"}}`))
	for _, c := range [][3]string{
		{"Observation", "gp-1", "history emergency"}, {"MedicationAdministration", "gp-2", "medications mental-health"},
		{"DocumentReference", "gp-3", "correspondence emergency"}, {"Observation", "gp-4", "history"}, {"Encounter", "gp-w", "history mental-health"},
	} {
		if got := sectionsOf(find(t, p, c[0], c[1])); got != c[2] {
			t.Errorf("%s/%s: got %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// However far up the Encounter is of which something is a part, and wherever in the reply it stands.
func TestEncountersHandDownFromFarAbove(t *testing.T) {
	const many = 30
	var texts []string
	for i := range many {
		more := `,"serviceType":{"coding":[{"code":"74732009"}]}`
		if i < many-1 {
			more = fmt.Sprintf(`,"partOf":{"reference":"Encounter/%d"}`, i+1)
		}
		texts = append(texts, fmt.Sprintf(`{"resourceType":"Encounter","id":"%d",%s%s}`, i, toAda, more))
	}
	for range 2 {
		p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, texts...))
		if len(p.Entries) != 1 || p.Counts.Withheld != many {
			t.Errorf("%s %+v", list(p.Entries), p.Counts)
		}
		slices.Reverse(texts)
	}
}

// Two copies of an Encounter are one: each hands down what the other says.
func TestCopiesOfAnEncounterHandDownAlike(t *testing.T) {
	old := `{"resourceType":"Encounter","id":"e","meta":{"lastUpdated":"2020-01-01T00:00:00Z"},` + toAda + `,"serviceType":{"coding":[{"code":"74732009"}]}}`
	young := `{"resourceType":"Encounter","id":"e","meta":{"lastUpdated":"2021-01-01T00:00:00Z"},` + toAda + `}`
	within := `{"resourceType":"Observation","id":"o",` + toAda + `,"encounter":{"reference":"Encounter/e"}}`
	p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, old, young, within))
	if len(p.Entries) != 1 || p.Counts.Withheld != 3 {
		t.Errorf("%s %+v", list(p.Entries), p.Counts)
	}
	top := `{"resourceType":"Encounter","id":"top",` + toAda + `,"serviceType":{"coding":[{"code":"74732009"}]}}`
	part := `{"resourceType":"Encounter","id":"e","meta":{"lastUpdated":"2020-01-01T00:00:00Z"},` + toAda + `,"partOf":{"reference":"Encounter/top"}}`
	if p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, top, part, young, within)); len(p.Entries) != 1 || p.Counts.Withheld != 4 {
		t.Errorf("part of one by a copy: %s %+v", list(p.Entries), p.Counts)
	}
}

func TestCodesOfOtherShapes(t *testing.T) {
	rules := without(record.MentalHealth)
	rules.Excluded = CodesOf(Code{"http://snomed.info/sct", "123"})
	for _, x := range []string{`"code":{"coding":[{"code":35489007}]}`, `"code":{"coding":[{"code":["35489007"]}]}`, `"code":{"coding":[{"code":[null,"35489007"]}]}`, `"code":{"coding":[{"code":[35489007]}]}`, `"code":{"coding":[{"code":[{},"35489007"]}]}`, `"code":{"coding":[[{"code":"35489007"}]]}`, `"code":{"coding":[{"code":" 35489007"}]}`, `"code":{"text":"Depression "}`,
		`"meta":{"security":[{"code":["PSY"]}]}`, `"code":{"coding":[{"code":123}]}`, `"code":{"coding":[{"system":"https://snomed.info/sct","code":"123"}]}`, `"code":{"coding":[{"system":"http://snomed.info/sct/83821000000107","code":"123"}]}`} {
		if p, err := Prepare(request(t), rules, replyOf(t, `{"resourceType":"Condition","id":"c",`+toAda+`,`+x+`}`)); err == nil && has(p, "Condition", "gp-c") {
			t.Errorf("shown: %s", x)
		}
	}
}
