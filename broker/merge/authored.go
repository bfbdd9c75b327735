package merge

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// What stands in every answer (our Patient, what did not come whole, the Provenances, the Linkages) is written as text, because samply's models of R4 cost a
// quarter of all allocations of a small request; a test holds that text against the models, byte for byte. What is rare is made with them. Their zero values mean
// something (an unset enum is its first code, an unset required list is null), so every required field is set; a test holds every emitted resource against nulls, empty
// values and unknown codes. No resource of a custodian goes through them (M-1).

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

// paper is what we write a resource of ours on.
type paper struct{ out []byte }

// text writes JSON as it stands.
func (p *paper) text(parts ...string) {
	for _, s := range parts {
		p.out = append(p.out, s...)
	}
}

// quote writes one JSON string of parts.
func (p *paper) quote(parts ...string) { p.out = fhirjson.AppendQuote(p.out, parts...) }

// entry is the entry of the resource that was written.
func (p *paper) entry(req Request, typ, id string, mode Mode) Entry {
	return Entry{FullURL: req.Base + "/" + typ + "/" + id, Type: typ, ID: id, Mode: mode, JSON: p.out}
}

// subjectPatient is the Patient of M-7: what the trace says, and links to the Patient of each custodian that shows one.
func subjectPatient(req Request, prepared []Prepared) Entry {
	s := req.Subject
	p := paper{make([]byte, 0, 1<<10)}
	p.text(`{"resourceType":"Patient","id":`)
	p.quote(req.Handle)
	p.text(`,"identifier":[{"system":"`, record.NHSNumberSystem, `","value":"`, s.Number.Reveal(), `"}]`)
	p.name(s)
	switch s.Gender {
	case "male", "female", "other", "unknown":
		p.text(`,"gender":"`, s.Gender, `"`)
	}
	if s.BirthDate != "" {
		p.text(`,"birthDate":`)
		p.quote(s.BirthDate)
	}
	switch s.Deceased {
	case "":
	case "true":
		p.text(`,"deceasedBoolean":true`)
	default:
		p.text(`,"deceasedDateTime":`)
		p.quote(s.Deceased)
	}
	before := `,"link":[`
	link := func(id string) {
		p.text(before, `{"other":{"reference":`)
		p.quote("Patient/", id)
		p.text(`},"type":"seealso"}`)
		before = `,`
	}
	for i := range prepared {
		if prepared[i].PatientID != "" {
			link(prepared[i].PatientID)
			for _, id := range prepared[i].also {
				link(id)
			}
		}
	}
	if before == `,` {
		p.text(`]`)
	}
	p.text(`}`)
	return p.entry(req, "Patient", req.Handle, Match)
}

// name writes the person's name, if they have one.
func (p *paper) name(s record.Subject) {
	before := `,"given":[`
	begun := len(p.out)
	p.text(`,"name":[{"use":"official"`)
	bare := len(p.out)
	if s.Family != "" {
		p.text(`,"family":`)
		p.quote(s.Family)
	}
	for _, given := range s.Given {
		if given != "" {
			p.text(before)
			p.quote(given)
			before = `,`
		}
	}
	switch {
	case len(p.out) == bare:
		p.out = p.out[:begun]
		return
	case before == `,`:
		p.text(`]`)
	}
	p.text(`}]`)
}

// saying is how a state is put.
type saying struct {
	severity fhir.IssueSeverity
	code     fhir.IssueType
	words    string
}

// sayings is how a state is put: severity and issue type for machines (hl7.org/fhir/R4/valueset-issue-type.html: incomplete is for
// sources that could not be reached in time, suppressed for what may not be shown), words for people.
var sayings = map[record.State]saying{
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
	record.PartConflictingCopies: "came in copies that differ; all that were asked for are shown",
	record.PartUnreadable:        "is not said to be about anybody and was left out",
	record.PartConfidential:      "is held back by the organisation as confidential",
	record.PartInTransit:         "is on its way from another organisation",
	record.PartAwaitingFiling:    "is waiting to be filed",
	record.PartSourceDown:        "could not be read at the organisation",
	record.PartTruncated:         "was cut off at the organisation",
	record.PartTooLong:           "was too long to be shown with the record, and is listed only",
	record.PartOtherCustodian:    "is listed under another organisation and was left out",
	record.PartFiltered:          "may not be what was asked for: the organisation did not apply a filter",
}

// statusOutcome is what we say of a custodian that did not return all (M-10). The first issue is its state, further ones its parts.
func statusOutcome(req Request, s record.Status) Entry {
	text, say := statusText(s)
	id := "outcome-" + string(s.Custodian.Key)
	w := paper{make([]byte, 0, 1<<10)}
	w.text(`{"resourceType":"OperationOutcome","id":"`, id, `","issue":[`)
	w.issue(say.severity, say.code, req.CodeBase, record.SourceStatusSystemPath, string(s.State), text, diagnostics(s))
	for _, part := range s.Parts {
		w.text(`,`)
		w.issue(fhir.IssueSeverityWarning, partCode(part.Reason), req.CodeBase, PartSystemPath, part.Reason, partText(part), "")
	}
	w.text(`]}`)
	return w.entry(req, "OperationOutcome", id, Outcome)
}

// statusText is how a custodian's state is put, for people and for machines.
func statusText(s record.Status) (string, saying) {
	c := s.Custodian
	say, known := sayings[s.State]
	if !known {
		say = sayings[record.Failed]
	}
	if s.State == record.NotAsked && s.Reason == record.NotAskedLocator {
		say = saying{fhir.IssueSeverityInformation, fhir.IssueTypeInformational, "was not asked: nothing says that it knows this person"}
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
	return text, say
}

// issue writes an issue of an OperationOutcome, with a code of the system that is base and path.
func (p *paper) issue(severity fhir.IssueSeverity, kind fhir.IssueType, base, path, code, text, diagnostics string) {
	p.text(`{"severity":"`, severity.Code(), `","code":"`, kind.Code(), `","details":{`)
	if code != "" {
		p.text(`"coding":[{"system":`)
		p.quote(base, path)
		p.text(`,"code":`)
		p.quote(code)
		p.text(`}],`)
	}
	p.text(`"text":`)
	p.quote(text)
	p.text(`}`)
	if diagnostics != "" {
		p.text(`,"diagnostics":`)
		p.quote(diagnostics)
	}
	p.text(`}`)
}

// partCode is the issue type of the reason of a part.
func partCode(reason string) fhir.IssueType {
	switch reason {
	case record.PartWithheld, record.PartConfidential, record.PartStrangers:
		return fhir.IssueTypeSuppressed
	case record.PartConflictingCopies:
		return fhir.IssueTypeConflict
	}
	return fhir.IssueTypeIncomplete
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
	out := make([]byte, 0, 256)
	say := func(what string) {
		if len(out) > 0 {
			out = append(out, "; "...)
		}
		out = append(out, what...)
	}
	if s.Adapter != "" {
		say("adapter ")
		out = append(out, s.Adapter...)
	}
	if !s.Asked.IsZero() {
		say("asked ")
		out = s.Asked.UTC().AppendFormat(out, time.RFC3339Nano)
		if s.Took > 0 {
			say("answered ")
			out = s.Asked.Add(s.Took).UTC().AppendFormat(out, time.RFC3339Nano)
		}
	}
	if s.Reason != "" {
		say("reason ")
		out = append(out, s.Reason...)
	}
	if s.Rule != "" {
		say("rule ")
		out = append(out, s.Rule...)
	}
	if s.Preference != 0 {
		say("preference at ")
		out = strconv.AppendUint(out, s.Preference, 10)
	}
	return string(out)
}

// notesOutcome says where a filter let entries through that it could not judge (M-12).
func notesOutcome(req Request, prepared []Prepared) (Entry, bool) {
	late, undated := 0, 0
	for i := range prepared {
		late += prepared[i].lateUnknown
		undated += prepared[i].undated
	}
	o := fhir.OperationOutcome{Id: some("outcome-of-filters")}
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
	id := "provenance-" + string(c.Key)
	w := paper{make([]byte, 0, 3<<9)}
	w.text(`{"resourceType":"Provenance","id":`)
	w.quote(id)
	w.text(`,"extension":[{"extension":[`)
	part := func(name string) {
		if w.out[len(w.out)-1] != '[' {
			w.text(`,`)
		}
		w.text(`{"url":"`, name)
	}
	number := func(name string, n int) {
		part(name)
		w.text(`","valueUnsignedInt":`)
		w.out = append(strconv.AppendInt(w.out, int64(n), 10), '}')
	}
	words := func(name, s string) {
		part(name)
		w.text(`","valueString":`)
		w.quote(s)
		w.text(`}`)
	}
	number("shown", len(p.Entries))
	number("dangling", p.Dangling)
	part("digest")
	w.text(`","valueString":"sha-256:`)
	w.out = hex.AppendEncode(w.out, p.Digest[:])
	w.text(`"}`)
	if p.Status.Received > 0 {
		number("received", p.Status.Received)
	}
	if p.foldedShown > 0 {
		number("folded", p.foldedShown)
	}
	if p.Status.Adapter != "" {
		words("adapter", p.Status.Adapter)
	}
	for _, conversion := range p.reply.Conversions {
		words("conversion", conversion)
	}
	w.text(`],"url":`)
	w.quote(req.CodeBase, ExtensionPath, "disclosure")
	w.text(`}],"target":[{"reference":`)
	w.quote("Patient/", target)
	w.text(`}],"recorded":"`)
	w.out = recorded.UTC().AppendFormat(w.out, time.RFC3339Nano)
	w.text(`","agent":[{"type":{"coding":[{"system":"`, agents, `","code":"custodian"}]},"who":{"identifier":{"system":"`, record.ODSSystem, `"`)
	if c.ODS != "" {
		w.text(`,"value":`)
		w.quote(string(c.ODS))
	}
	w.text(`}`)
	if c.Name != "" {
		w.text(`,"display":`)
		w.quote(c.Name)
	}
	w.text(`}},{"type":{"coding":[{"system":"`, agents, `","code":"assembler"}]},"who":{"identifier":{"system":`)
	w.quote(req.CodeBase)
	w.text(`,"value":"broker"},"display":"My Care Record"}}],"entity":[{"role":"source","what":{"identifier":{"system":`)
	w.quote(req.CodeBase, CustodianSystemPath)
	w.text(`,"value":`)
	w.quote(string(c.Key))
	w.text(`}}}]}`)
	return w.entry(req, "Provenance", id, Include)
}

const agents = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
