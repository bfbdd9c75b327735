package merge

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What is written as text is what samply's models make of the same, byte for byte.
func TestTextIsWhatTheModelsMake(t *testing.T) {
	req, prepared, _ := neighbourhood(t)
	prepared[0].also = []string{"gp-other"}
	prepared[1].foldedShown, prepared[1].PatientID = 2, ""
	blank := Prepared{Status: record.Status{Custodian: record.Custodian{Key: "z"}}, Entries: prepared[0].Entries}
	for _, s := range []record.Subject{req.Subject, {Number: req.Subject.Number}, {Number: req.Subject.Number, Given: []string{"", "Zoë \"Z\"", "B"}, Gender: "wonder", Deceased: "true"},
		{Number: req.Subject.Number, Family: "O\x01B", Gender: "unknown", Deceased: "2026-11-01T10:00:00Z", BirthDate: "1950"}} {
		r := req
		r.Subject = s
		for _, parts := range [][]Prepared{prepared, {blank}} {
			same(t, subjectPatient(r, parts), modelPatient(r, parts))
		}
	}
	for _, p := range append(slices.Clone(prepared), blank) {
		same(t, custodianProvenance(req, &p), modelProvenance(req, &p))
	}
	for _, g := range []Group{{Number: 1, Members: []string{req.Base + "/Condition/a", req.Base + "/Condition/b"}, Certain: true},
		{Number: 22, Members: []string{req.Base + "/Condition/a"}, Differs: []string{"Condition.code", "Condition.other"}}} {
		same(t, linkage(req, g), modelLinkage(req, g))
	}
	for state := range sayings {
		for _, s := range []record.Status{{State: state}, {State: state, Reason: record.NotAskedLocator, Explanation: "Because \"it\" was asked.", Parts: []record.Part{{Reason: record.PartWithheld, Section: "results", Count: 2}}},
			{State: state, Reason: record.NotAskedPermit, Rule: "C-4", Preference: 7, Adapter: "fhirr4/1", Asked: now, Took: time.Second, Parts: []record.Part{{Reason: record.PartConflictingCopies}, {Reason: "other", Source: "Observation"}, {}}}} {
			s.Custodian = custodian("gp", record.KindGP)
			same(t, statusOutcome(req, s), modelOutcome(req, s))
		}
	}
}

func TestPartsSayWhyTheyAreMissing(t *testing.T) {
	for reason, want := range map[string]string{record.PartWithheld: "suppressed", record.PartConfidential: "suppressed", record.PartStrangers: "suppressed",
		record.PartConflictingCopies: "conflict", record.PartTruncated: "incomplete", "new": "incomplete"} {
		if got := partCode(reason).Code(); got != want {
			t.Errorf("%s: %s", reason, got)
		}
	}
}

func same(t *testing.T, got, want Entry) {
	t.Helper()
	if string(got.JSON) != string(want.JSON) || got.FullURL != want.FullURL || got.Type != want.Type || got.ID != want.ID || got.Mode != want.Mode {
		t.Errorf("%s/%s\n got %s\nwant %s", want.Type, want.ID, got.JSON, want.JSON)
	}
}

func modelPatient(req Request, prepared []Prepared) Entry {
	s := req.Subject
	p := fhir.Patient{
		Id:         some(req.Handle),
		Identifier: []fhir.Identifier{{System: some(record.NHSNumberSystem), Value: some(s.Number.Reveal())}},
		BirthDate:  optional(s.BirthDate),
	}
	if given := slices.DeleteFunc(slices.Clone(s.Given), func(g string) bool { return g == "" }); s.Family != "" || len(given) > 0 {
		p.Name = []fhir.HumanName{{Use: some(fhir.NameUseOfficial), Family: optional(s.Family), Given: given}}
	}
	for _, g := range [...]fhir.AdministrativeGender{fhir.AdministrativeGenderMale, fhir.AdministrativeGenderFemale,
		fhir.AdministrativeGenderOther, fhir.AdministrativeGenderUnknown} {
		if g.Code() == s.Gender {
			p.Gender = some(g)
		}
	}
	switch s.Deceased {
	case "":
	case "true":
		p.DeceasedBoolean = some(true)
	default:
		p.DeceasedDateTime = some(s.Deceased)
	}
	for i := range prepared {
		if prepared[i].PatientID == "" {
			continue
		}
		for _, id := range append([]string{prepared[i].PatientID}, prepared[i].also...) {
			p.Link = append(p.Link, fhir.PatientLink{Other: fhir.Reference{Reference: some("Patient/" + id)}, Type: fhir.LinkTypeSeealso})
		}
	}
	return author(req, "Patient", req.Handle, Match, p)
}

func modelProvenance(req Request, p *Prepared) Entry {
	c := p.Status.Custodian
	target := p.PatientID
	if target == "" {
		target = req.Handle
	}
	recorded := p.Status.Asked.Add(p.Status.Took)
	if p.Status.Asked.IsZero() {
		recorded = req.Now
	}
	part := func(name string) fhir.Extension { return fhir.Extension{Url: name} }
	number := func(name string, n int) fhir.Extension {
		x := part(name)
		x.ValueUnsignedInt = some(n)
		return x
	}
	words := func(name, s string) fhir.Extension {
		x := part(name)
		x.ValueString = some(s)
		return x
	}
	detail := fhir.Extension{Url: req.CodeBase + ExtensionPath + "disclosure", Extension: []fhir.Extension{
		number("shown", len(p.Entries)), number("dangling", p.Dangling), words("digest", "sha-256:"+hex.EncodeToString(p.Digest[:]))}}
	if p.Status.Received > 0 {
		detail.Extension = append(detail.Extension, number("received", p.Status.Received))
	}
	if p.foldedShown > 0 {
		detail.Extension = append(detail.Extension, number("folded", p.foldedShown))
	}
	if p.Status.Adapter != "" {
		detail.Extension = append(detail.Extension, words("adapter", p.Status.Adapter))
	}
	for _, conversion := range p.reply.Conversions {
		detail.Extension = append(detail.Extension, words("conversion", conversion))
	}
	const agents = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
	organisation := fhir.Reference{Identifier: &fhir.Identifier{System: some(record.ODSSystem), Value: optional(string(c.ODS))}, Display: optional(c.Name)}
	id := "provenance-" + string(c.Key)
	return author(req, "Provenance", id, Include, fhir.Provenance{
		Id:        some(id),
		Extension: []fhir.Extension{detail},
		Target:    []fhir.Reference{{Reference: some("Patient/" + target)}},
		Recorded:  recorded.UTC().Format(time.RFC3339Nano),
		Agent: []fhir.ProvenanceAgent{
			{Type: concept(agents, "custodian", ""), Who: organisation},
			{Type: concept(agents, "assembler", ""), Who: fhir.Reference{Identifier: &fhir.Identifier{System: some(req.CodeBase), Value: some("broker")},
				Display: some("My Care Record")}},
		},
		Entity: []fhir.ProvenanceEntity{{Role: fhir.ProvenanceEntityRoleSource, What: fhir.Reference{
			Identifier: &fhir.Identifier{System: some(req.CodeBase + CustodianSystemPath), Value: some(string(c.Key))}}}},
	})
}

func modelLinkage(req Request, g Group) Entry {
	by := byCodeAndTime
	if g.Certain {
		by = byIdentifier
	}
	sum := sha256.New()
	l := fhir.Linkage{Active: some(true), Meta: &fhir.Meta{Tag: []fhir.Coding{{System: some(req.CodeBase + GroupSystemPath), Code: some(strconv.Itoa(g.Number))}}},
		Extension: []fhir.Extension{{Url: req.CodeBase + ExtensionPath + groupedByName, ValueCode: some(by)}}}
	for _, path := range g.Differs {
		l.Extension = append(l.Extension, fhir.Extension{Url: req.CodeBase + ExtensionPath + differsName, ValueString: some(path)})
	}
	for _, url := range g.Members {
		to := strings.TrimPrefix(url, req.Base+"/")
		sum.Write([]byte(to + "\n"))
		l.Item = append(l.Item, fhir.LinkageItem{Type: fhir.LinkageTypeAlternate, Resource: fhir.Reference{Reference: some(to)}})
	}
	l.Id = some("linkage-" + hex.EncodeToString(sum.Sum(nil)[:16]))
	return author(req, "Linkage", *l.Id, Include, l)
}

func modelOutcome(req Request, s record.Status) Entry {
	text, say := statusText(s)
	o := fhir.OperationOutcome{Id: some("outcome-" + string(s.Custodian.Key)), Issue: []fhir.OperationOutcomeIssue{{
		Severity: say.severity, Code: say.code, Details: concept(req.CodeBase+record.SourceStatusSystemPath, string(s.State), text), Diagnostics: optional(diagnostics(s))}}}
	for _, part := range s.Parts {
		o.Issue = append(o.Issue, fhir.OperationOutcomeIssue{Severity: fhir.IssueSeverityWarning, Code: partCode(part.Reason),
			Details: concept(req.CodeBase+PartSystemPath, part.Reason, partText(part))})
	}
	return author(req, "OperationOutcome", *o.Id, Outcome, o)
}

// optional is a string that is left out if empty: FHIR knows no empty strings.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func concept(system, code, text string) *fhir.CodeableConcept {
	c := fhir.CodeableConcept{Text: optional(text)}
	if code != "" {
		c.Coding = []fhir.Coding{{System: some(system), Code: some(code)}}
	}
	return &c
}
