package merge

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What we say ourselves is made with samply's models of R4. Their zero values mean something (an unset enum is its first code, an unset
// required list is null), so every required field is set here, and a test holds every emitted resource against nulls, empty values and
// unknown codes. No resource of a custodian goes through them (M-1).

// author makes an entry of a resource of ours. Its id is made of what it is about, so that it is the same in every answer.
func author(req Request, typ, id string, mode Mode, resource any) Entry {
	b, err := json.Marshal(resource)
	if err != nil {
		panic("merge: a resource of ours cannot be written") // its fields are ours: nothing in them can fail
	}
	last := `,"resourceType":"` + typ + `"}` // the models put it last; readers of streams want it first
	b = slices.Concat([]byte(`{"resourceType":"`+typ+`",`), bytes.TrimSuffix(b[1:], []byte(last)), []byte("}"))
	return Entry{FullURL: req.Base + "/" + typ + "/" + id, Type: typ, ID: id, Mode: mode, JSON: b}
}

func some[T any](v T) *T { return &v }

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

// subjectPatient is the Patient of M-7: what the trace says, and links to the Patient of each custodian that shows one.
func subjectPatient(req Request, prepared []Prepared) Entry {
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

// sayings is how a state is put: severity and issue type for machines (hl7.org/fhir/R4/valueset-issue-type.html: incomplete is for
// sources that could not be reached in time, suppressed for what may not be shown), words for people.
var sayings = map[record.State]struct {
	severity fhir.IssueSeverity
	code     fhir.IssueType
	words    string
}{
	record.ReturnedInPart: {fhir.IssueSeverityWarning, fhir.IssueTypeIncomplete, "answered, and part of its record is not in this view"},
	record.NoRecord:       {fhir.IssueSeverityInformation, fhir.IssueTypeInformational, "says that it holds no record of this person"},
	record.Withheld:       {fhir.IssueSeverityWarning, fhir.IssueTypeSuppressed, "is not shown in this view"},
	record.TimedOut:       {fhir.IssueSeverityWarning, fhir.IssueTypeTimeout, "did not answer in time; its record is missing from this view"},
	record.Unavailable:    {fhir.IssueSeverityWarning, fhir.IssueTypeTransient, "could not be reached; its record is missing from this view"},
	record.Failed:         {fhir.IssueSeverityWarning, fhir.IssueTypeException, "gave an answer that cannot be used; its record is missing from this view"},
	record.NotAsked:       {fhir.IssueSeverityWarning, fhir.IssueTypeIncomplete, "was not asked; its record is missing from this view"},
}

// partWords is how the reason of a part is put.
var partWords = map[string]string{
	record.PartWithheld:          "is not shown to you",
	record.PartStrangers:         "was about other people and was left out",
	record.PartConflictingCopies: "came in copies that differ; all are shown",
	record.PartUnreadable:        "is not said to be about anybody and was left out",
	record.PartConfidential:      "is held back by the organisation as confidential",
	record.PartInTransit:         "is on its way from another organisation",
	record.PartAwaitingFiling:    "is waiting to be filed",
	record.PartSourceDown:        "could not be read at the organisation",
	record.PartTruncated:         "was cut off at the organisation",
	record.PartOtherCustodian:    "is listed under another organisation and was left out",
	record.PartFiltered:          "may not be what was asked for: the organisation did not apply a filter",
}

// statusOutcome is what we say of a custodian that did not return all (M-10). The first issue is its state, further ones its parts.
func statusOutcome(req Request, s record.Status) Entry {
	c := s.Custodian
	system := req.CodeBase + record.SourceStatusSystemPath
	say, known := sayings[s.State]
	if !known {
		say = sayings[record.Failed]
	}
	if s.State == record.NotAsked && s.Reason == record.NotAskedLocator {
		say.severity, say.code, say.words = fhir.IssueSeverityInformation, fhir.IssueTypeInformational, "was not asked: nothing says that it knows this person"
	}
	if s.State == record.NotAsked && s.Reason == record.NotAskedPermit {
		say.code = fhir.IssueTypeSuppressed
	}
	text := c.Name + " (" + string(c.ODS) + ") " + say.words + "."
	if s.Explanation != "" {
		text += " " + s.Explanation
	}
	if c.Contact != "" {
		text += " Contact: " + c.Contact
	}
	o := fhir.OperationOutcome{Id: some("outcome-" + string(c.Key)), Issue: []fhir.OperationOutcomeIssue{{
		Severity: say.severity, Code: say.code, Details: concept(system, string(s.State), text), Diagnostics: optional(diagnostics(s))}}}
	for _, part := range s.Parts {
		code := fhir.IssueTypeIncomplete
		switch part.Reason {
		case record.PartWithheld, record.PartConfidential, record.PartStrangers:
			code = fhir.IssueTypeSuppressed
		case record.PartConflictingCopies:
			code = fhir.IssueTypeConflict
		}
		o.Issue = append(o.Issue, fhir.OperationOutcomeIssue{Severity: fhir.IssueSeverityWarning, Code: code,
			Details: concept(req.CodeBase+PartSystemPath, part.Reason, partText(part))})
	}
	return author(req, "OperationOutcome", *o.Id, Outcome, o)
}

func partText(part record.Part) string {
	what := "Part of the record"
	if s, is := record.ParseSection(part.Section); is {
		what = s.Name()
	} else if part.Source != "" {
		what = part.Source
	}
	words := partWords[part.Reason]
	if words == "" {
		words = "is missing"
	}
	if part.Count > 0 {
		return fmt.Sprintf("%s (%d) %s.", what, part.Count, words)
	}
	return what + " " + words + "."
}

// diagnostics says how the custodian was asked, for whoever looks into it: adapter, time, reason of a closed list, rule.
func diagnostics(s record.Status) string {
	var out []string
	if s.Adapter != "" {
		out = append(out, "adapter "+s.Adapter)
	}
	if !s.Asked.IsZero() {
		out = append(out, "asked "+s.Asked.UTC().Format(time.RFC3339Nano))
		if s.Took > 0 {
			out = append(out, "answered "+s.Asked.Add(s.Took).UTC().Format(time.RFC3339Nano))
		}
	}
	if s.Reason != "" {
		out = append(out, "reason "+s.Reason)
	}
	if s.Rule != "" {
		out = append(out, "rule "+s.Rule)
	}
	if s.Preference != 0 {
		out = append(out, "preference at "+strconv.FormatUint(s.Preference, 10))
	}
	return strings.Join(out, "; ")
}

// notesOutcome says where a filter let entries through that it could not judge (M-12).
func notesOutcome(req Request, prepared []Prepared) (Entry, bool) {
	late, undated := 0, 0
	for i := range prepared {
		late += prepared[i].lateUnknown
		undated += prepared[i].undated
	}
	o := fhir.OperationOutcome{Id: some("outcome-notes")}
	note := func(n int, text string) {
		if n > 0 {
			o.Issue = append(o.Issue, fhir.OperationOutcomeIssue{Severity: fhir.IssueSeverityInformation, Code: fhir.IssueTypeInformational,
				Details: &fhir.CodeableConcept{Text: some(fmt.Sprintf(text, n))}})
		}
	}
	if !req.Filter.Since.IsZero() {
		note(late, "Entries that do not say when they last changed are in this answer although _since was given, marked last-updated-unknown: %d.")
	}
	if !req.Filter.Start.IsZero() || !req.Filter.End.IsZero() {
		note(undated, "Entries without a clinical time are in this answer although start or end was given, marked undated: %d.")
	}
	if len(o.Issue) == 0 {
		return Entry{}, false
	}
	return author(req, "OperationOutcome", *o.Id, Outcome, o), true
}

// custodianProvenance says where a custodian's entries came from (M-10): its Patient, or ours where that is withheld, is the target, the
// custodian and we are the agents, and an extension holds counts, digest and conversions. What was left out is counted only where counts
// may be told.
func custodianProvenance(req Request, p *Prepared) Entry {
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
