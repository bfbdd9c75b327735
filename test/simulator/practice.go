package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// PracticeConfig is one general practice behind GP Connect, and what it holds.
type PracticeConfig struct {
	Name   string
	ODS    string              // ODS code
	ASID   string              // Spine id of its system, 12 digits
	Base   string              // path of the service; "" is "/{ODS}/STU3/1/gpconnect/structured"
	Allow  []string            // Spine ids of the systems that may ask; nil for any of 12 digits
	Now    func() time.Time    // nil for the real time
	People map[string]GPRecord // by NHS number
}

// GPRecord is one person's record at a practice, in FHIR STU3.
type GPRecord struct {
	// Always is what every answer holds: the Patient, the practice, the usual GP and their role.
	Always []json.RawMessage
	// Areas holds what is returned for each area, by the name of its parameter ("includeMedication"): the resources of the area's own type stand in
	// its List, the others come along. Ended allergies are put into a List of their own, contained in it.
	Areas map[string][]json.RawMessage
	// Warnings are the codes that an area's List carries: confidential-items, data-in-transit, data-awaiting-filing.
	Warnings map[string][]string
	// Disabled are the parameters of areas that this practice does not give.
	Disabled []string
	// Refuse is the Spine error code with which every request about this person is refused: NO_PATIENT_CONSENT, say.
	Refuse string
}

// gpArea is an area of the operation as the specification has it: GP Connect Access Record Structured 1.5, pages "Retrieve a patient's structured
// record" and "List".
type gpArea struct {
	parameter, title, code, display, item string
	parts                                 map[string]string // part -> value type
}

var gpAreas = []gpArea{
	{"includeAllergies", "Allergies and adverse reactions", "886921000000105", "Allergies and adverse reactions", "AllergyIntolerance", map[string]string{"includeResolvedAllergies": "valueBoolean"}},
	{"includeMedication", "Medications and medical devices", "933361000000108", "Medications and medical devices", "MedicationStatement",
		map[string]string{"includePrescriptionIssues": "valueBoolean", "medicationSearchFromDate": "valueDate"}},
	{"includeConsultations", "List of consultations", "1149501000000101", "List of consultations", "Encounter",
		map[string]string{"consultationSearchPeriod": "valuePeriod", "includeNumberOfMostRecent": "valuePositiveInt"}},
	{"includeProblems", "Problems", "717711000000103", "Problems", "Condition", map[string]string{"filterStatus": "valueCode"}},
	{"includeImmunisations", "Immunisations", "1102181000000102", "Immunisations", "Immunization", map[string]string{"includeNotGiven": "valueBoolean", "includeStatus": "valueBoolean"}},
	{"includeUncategorisedData", "Miscellaneous record", "826501000000100", "Miscellaneous record", "Observation", map[string]string{"uncategorisedDataSearchPeriod": "valuePeriod"}},
	{"includeInvestigations", "Investigations and results", "887191000000108", "Investigations and results", "DiagnosticReport", map[string]string{"investigationSearchPeriod": "valuePeriod"}},
	{"includeReferrals", "Outbound referral", "792931000000107", "Outbound referral", "ReferralRequest", map[string]string{"referralSearchPeriod": "valuePeriod"}},
	{"includeDiaryEntries", "Patient recall administration", "714311000000108", "Patient recall administration", "ProcedureRequest", map[string]string{"diaryEntriesSearchDate": "valueDate"}},
}

// notWithConsultations are the parts that no request may have beside consultations: a practice must refuse, because it could leave out what belongs
// together. The same, but for filterStatus, holds beside problems.
var notWithConsultations = []string{"medicationSearchFromDate", "uncategorisedDataSearchPeriod", "filterStatus", "referralSearchPeriod", "diaryEntriesSearchDate",
	"includeNotGiven", "includeStatus"}

// endedAllergies is the List in which ended allergies are contained.
const (
	endedAllergies = "1103671000000101"
	gpInteraction  = "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1"
	gpOperation    = "/Patient/$gpc.getstructuredrecord"
	spineSystem    = "https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1"
	outcomeProfile = "https://fhir.nhs.uk/STU3/StructureDefinition/GPConnect-OperationOutcome-1"
	bundleProfile  = "https://fhir.nhs.uk/STU3/StructureDefinition/GPConnect-StructuredRecord-Bundle-1"
)

// Practice is a GP Connect provider of Access Record: Structured, strict: it checks the Spine's headers, the token and the parameters as the
// specification tells providers to, and refuses with the errors that it gives. It has the faults of [CustodianFaults] and, at its root, POST /_sim/fault and
// GET /_sim/requests.
type Practice struct {
	cfg     PracticeConfig
	control *control
	byNHS   map[string]*person
}

var _ http.Handler = (*Practice)(nil)

// NewPractice indexes the people. The error names the first record that cannot be served, without its content.
func NewPractice(cfg PracticeConfig) (*Practice, error) {
	if cfg.Base == "" {
		cfg.Base = "/" + cfg.ODS + "/STU3/1/gpconnect/structured"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if !twelveDigits(cfg.ASID) {
		return nil, errors.New("simulator: " + cfg.Name + ": an ASID has 12 digits")
	}
	p := &Practice{cfg: cfg, control: newControl(CustodianFaults()), byNHS: map[string]*person{}}
	n := 0
	for number, rec := range cfg.People {
		n++
		who, err := newPerson(number, rec.Always)
		if err != nil {
			return nil, fmt.Errorf("simulator: %s, record %d of %d: %w", cfg.Name, n, len(cfg.People), err)
		}
		for _, parameter := range slices.Sorted(maps.Keys(rec.Areas)) {
			if _, known := areaOf(parameter); !known {
				return nil, fmt.Errorf("simulator: %s: no area %s", cfg.Name, parameter)
			}
			for i, raw := range rec.Areas[parameter] {
				if _, err := newResource(raw); err != nil {
					return nil, fmt.Errorf("simulator: %s, record %d, %s, resource %d: %w", cfg.Name, n, parameter, i, err)
				}
			}
		}
		p.byNHS[number] = who
	}
	return p, nil
}

func areaOf(parameter string) (gpArea, bool) {
	for _, a := range gpAreas {
		if a.parameter == parameter {
			return a, true
		}
	}
	return gpArea{}, false
}

// SetFault does what POST /_sim/fault does.
func (p *Practice) SetFault(spec FaultSpec) error { return p.control.set(spec) }

// Requests does what GET /_sim/requests does.
func (p *Practice) Requests() Counts { return p.control.requests() }

// Log returns the first 10,000 requests, as "METHOD address".
func (p *Practice) Log() []string { return p.control.lines() }

// ServeHTTP implements http.Handler.
func (p *Practice) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.control.serve(w, r) {
		return
	}
	if r.URL.Path != p.cfg.Base+gpOperation {
		p.control.otherRequest(r)
		spineOutcome(w, http.StatusNotFound, "not-found", "REFERENCE_NOT_FOUND", "there is no such address")
		return
	}
	spec := p.control.recordRequest(r)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		spineOutcome(w, http.StatusRequestEntityTooLarge, "too-long", "BAD_REQUEST", "")
		return
	}
	if p.befall(w, r, spec) {
		return
	}
	a, refusal := p.answer(r, body)
	if refusal != nil {
		refusal.send(w)
		return
	}
	if spec.Fault == FaultNoRecord {
		spineOutcome(w, http.StatusNotFound, "not-found", "PATIENT_NOT_FOUND", "No patient details found for given NHS number")
		return
	}
	p.send(w, r, spec, a)
}

// gpRefusal is an error of the provider's.
type gpRefusal struct {
	status            int
	code, spine, text string
}

func (e *gpRefusal) send(w http.ResponseWriter) { spineOutcome(w, e.status, e.code, e.spine, e.text) }

func badRequest(text string) *gpRefusal {
	return &gpRefusal{http.StatusBadRequest, "invalid", "BAD_REQUEST", text}
}

func badParameter(name, text string) *gpRefusal {
	return &gpRefusal{http.StatusUnprocessableEntity, "invalid", "INVALID_PARAMETER", name + " - " + text}
}

// spineOutcome answers with a GPConnect-OperationOutcome-1.
func spineOutcome(w http.ResponseWriter, status int, code, spine, diagnostics string) {
	issue := map[string]any{"severity": "error", "code": code, "details": map[string]any{"coding": []any{map[string]any{"system": spineSystem, "code": spine,
		"display": strings.ToLower(strings.ReplaceAll(spine, "_", " "))}}}}
	if diagnostics != "" {
		issue["diagnostics"] = diagnostics
	}
	text, err := json.Marshal(map[string]any{"resourceType": "OperationOutcome", "meta": map[string]any{"profile": []string{outcomeProfile}}, "issue": []any{issue}})
	if err != nil {
		panic(err) // strings only
	}
	fhirHeader(w)
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client left
}

// gpAnswer is a good answer before it is written.
type gpAnswer struct {
	trace   string
	person  *person
	entries []json.RawMessage
}

// answer checks a request in the order in which the specification has providers check it: how it is sent, who sends it, what it asks, about whom.
func (p *Practice) answer(r *http.Request, body []byte) (gpAnswer, *gpRefusal) {
	if r.Method != http.MethodPost {
		return gpAnswer{}, &gpRefusal{http.StatusMethodNotAllowed, "not-supported", "BAD_REQUEST", "POST only"}
	}
	if e := p.headers(r.Header); e != nil {
		return gpAnswer{}, e
	}
	if e := p.token(r); e != nil {
		return gpAnswer{}, e
	}
	ask, e := parseParameters(body, p.cfg.Now())
	if e != nil {
		return gpAnswer{}, e
	}
	who, rec := p.byNHS[ask.number], p.cfg.People[ask.number]
	if who == nil {
		return gpAnswer{}, &gpRefusal{http.StatusNotFound, "not-found", "PATIENT_NOT_FOUND", "No patient details found for given NHS number"}
	}
	if rec.Refuse != "" {
		status, code := http.StatusForbidden, "forbidden"
		if strings.HasSuffix(rec.Refuse, "_NOT_FOUND") || rec.Refuse == "NO_RECORD_FOUND" {
			status, code = http.StatusNotFound, "not-found"
		}
		return gpAnswer{}, &gpRefusal{status, code, rec.Refuse, ""}
	}
	return gpAnswer{r.Header.Get("Ssp-TraceID"), who, p.entries(who, rec, ask)}, nil
}

// headers checks those of the Spine, and what is sent and wanted.
func (p *Practice) headers(h http.Header) *gpRefusal {
	if !isUUID(h.Get("Ssp-TraceID")) {
		return badRequest("Ssp-TraceID: a UUID")
	}
	if from := h.Get("Ssp-From"); !twelveDigits(from) || p.cfg.Allow != nil && !slices.Contains(p.cfg.Allow, from) {
		return &gpRefusal{http.StatusForbidden, "forbidden", "ACCESS DENIED", "Ssp-From"}
	}
	if h.Get("Ssp-To") != p.cfg.ASID {
		return badRequest("Ssp-To: not this system")
	}
	if h.Get("Ssp-InteractionID") != gpInteraction {
		return badRequest("Ssp-InteractionID")
	}
	if !isFHIR(h.Get("Content-Type")) {
		return &gpRefusal{http.StatusUnsupportedMediaType, "invalid", "UNSUPPORTED_MEDIA_TYPE", "Content-Type"}
	}
	if accept := h.Get("Accept"); accept != "" && !isFHIR(accept) {
		return &gpRefusal{http.StatusUnsupportedMediaType, "invalid", "UNSUPPORTED_MEDIA_TYPE", "Accept"}
	}
	for _, name := range []string{"Ssp-TraceID", "Ssp-From", "Ssp-To", "Ssp-InteractionID", "Authorization"} {
		if len(h.Values(name)) != 1 {
			return badRequest(name + ": once")
		}
	}
	return nil
}

func isFHIR(contentType string) bool {
	kind, params, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/fhir+json" || kind == "application/json+fhir") && (params["charset"] == "" || strings.EqualFold(params["charset"], "utf-8"))
}

func twelveDigits(s string) bool { return len(s) == 12 && allDigits(s) }

func allDigits(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// entries are the resources of an answer: who and where, a List for each area, and what stands in it. They have no order that means anything.
func (p *Practice) entries(who *person, rec GPRecord, ask gpAsk) []json.RawMessage {
	out := slices.Clone(rec.Always)
	for _, a := range gpAreas {
		part, asked := ask.areas[a.parameter]
		if !asked {
			continue
		}
		if slices.Contains(rec.Disabled, a.parameter) {
			out = append(out, notImplemented(a.parameter, a.parameter+" has been disabled"))
			continue
		}
		var items []string
		var ended []json.RawMessage
		for _, raw := range rec.Areas[a.parameter] {
			m := members(raw)
			if m["resourceType"] == "AllergyIntolerance" && m["clinicalStatus"] == "resolved" {
				if part["includeResolvedAllergies"] == "true" {
					ended = append(ended, raw)
				}
				continue
			}
			if a.parameter == "includeMedication" && part["includePrescriptionIssues"] == "false" && m["resourceType"] == "MedicationRequest" && m["intent"] == "order" {
				continue
			}
			out = append(out, raw)
			if m["resourceType"] == a.item {
				items = append(items, a.item+"/"+m["id"])
			}
		}
		out = append(out, p.list(who, a, items, rec.Warnings[a.parameter]))
		if a.parameter == "includeAllergies" && part["includeResolvedAllergies"] == "true" {
			out = append(out, p.endedList(who, ended))
		}
	}
	for _, name := range ask.unknown {
		out = append(out, notImplemented(name, name+" is an unrecognised parameter"))
	}
	return out
}

// members are the text members of a resource.
func members(raw json.RawMessage) map[string]string {
	var all map[string]any
	_ = json.Unmarshal(raw, &all) // indexed before: it is an object
	out := map[string]string{}
	for k, v := range all {
		if s, is := v.(string); is {
			out[k] = s
		}
	}
	return out
}

// list is the List of an area (CareConnect-GPC-List-1).
func (p *Practice) list(who *person, a gpArea, items, warnings []string) json.RawMessage {
	l := map[string]any{"resourceType": "List", "meta": map[string]any{"profile": []string{"https://fhir.nhs.uk/STU3/StructureDefinition/CareConnect-GPC-List-1"}},
		"status": "current", "mode": "snapshot", "title": a.title,
		"code":      map[string]any{"coding": []any{map[string]any{"system": "http://snomed.info/sct", "code": a.code, "display": a.display}}},
		"subject":   map[string]any{"reference": "Patient/" + who.patient.id},
		"date":      p.cfg.Now().UTC().Format(time.RFC3339),
		"orderedBy": map[string]any{"coding": []any{map[string]any{"system": "http://hl7.org/fhir/list-order", "code": "event-date"}}}}
	var entries []any
	for _, ref := range items {
		entries = append(entries, map[string]any{"item": map[string]any{"reference": ref}})
	}
	var notes []any
	if entries != nil {
		l["entry"] = entries
	} else {
		l["emptyReason"] = map[string]any{"coding": []any{map[string]any{"system": "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-ListEmptyReasonCode-1",
			"code": "no-content-recorded", "display": "No Content Recorded"}}}
		notes = append(notes, map[string]any{"text": "Information not available"})
	}
	var extensions []any
	for _, w := range warnings {
		extensions = append(extensions, map[string]any{"url": "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-ListWarningCode-1", "valueCode": w})
		notes = append(notes, map[string]any{"text": warningNotes[w]})
	}
	if extensions != nil {
		l["extension"] = extensions
	}
	if notes != nil {
		l["note"] = notes
	}
	return marshal(l)
}

var warningNotes = map[string]string{
	"confidential-items":   "Items excluded due to confidentiality and/or patient preferences.",
	"data-in-transit":      "Patient record transfer from previous GP practice not yet complete; information recorded before 01-Feb-2019 may be missing.",
	"data-awaiting-filing": "Patient record contains some items in the GP practice workflow that have not been reviewed for inclusion in this message; information recorded before 01-Feb-2019 may be missing.",
}

// endedList contains the ended allergies, so that nobody takes them for current ones.
func (p *Practice) endedList(who *person, ended []json.RawMessage) json.RawMessage {
	var contained, refs []any
	for i, raw := range ended {
		var m map[string]any
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		_ = d.Decode(&m) // indexed before: it is an object
		id := fmt.Sprintf("Resolved-%d", i+1)
		m["id"] = id
		contained = append(contained, m)
		refs = append(refs, map[string]any{"item": map[string]any{"reference": "#" + id}})
	}
	a := gpArea{title: "Ended allergies", code: endedAllergies, display: "Ended allergies"}
	if refs == nil {
		return p.list(who, a, nil, nil)
	}
	var l map[string]any
	_ = json.Unmarshal(p.list(who, a, nil, nil), &l) // our own text
	delete(l, "emptyReason")
	delete(l, "note")
	l["contained"], l["entry"] = contained, refs
	return marshal(l)
}

func notImplemented(parameter, text string) json.RawMessage {
	return marshal(map[string]any{"resourceType": "OperationOutcome", "meta": map[string]any{"profile": []string{outcomeProfile}}, "issue": []any{map[string]any{
		"severity": "warning", "code": "not-supported", "diagnostics": parameter,
		"details": map[string]any{"coding": []any{map[string]any{"system": spineSystem, "code": "NOT_IMPLEMENTED", "display": "Not implemented"}}, "text": text}}}})
}

func marshal(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings, lists and raw JSON that was read before
	}
	return text
}
