package simulator

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Pointer is what a locator or registry says of one document.
type Pointer struct {
	ID          string // DocumentReference.id
	Custodian   string // ODS code under which it is listed
	Code        string // SNOMED CT code of the document's type; "" is 736253002, a mental health crisis plan
	URL         string
	ContentType string
	Date        string // an instant
	ASID        string // Spine id of the system that holds it, needed by documents behind the proxy; "" for none
	Changed     string // an instant: meta.lastUpdated, which the locator stamps; "" for none
	Title       string
	Status      string // "" is current
}

// LocatorConfig is a record locator and what it lists.
type LocatorConfig struct {
	Base     string               // path under which it answers; "" is /record-locator/consumer/FHIR/R4
	Token    string               // access token that is taken; "" is token
	PageSize int                  // at most so many pointers a page; 0 is 20
	People   map[string][]Pointer // by NHS number
	Lists    bool                 // whatever organisation is asked for, those of all are listed: a locator that goes wrong
}

// Locator is the consumer side of the National Record Locator (NHSDigital/NRLF): POST DocumentReference/_search with the parameters as JSON. Beside it, at the
// root: POST /_sim/fault and GET /_sim/requests.
type Locator struct {
	cfg     LocatorConfig
	control *control
}

var _ http.Handler = (*Locator)(nil)

// NewLocator makes a locator.
func NewLocator(cfg LocatorConfig) *Locator {
	if cfg.Base == "" {
		cfg.Base = "/record-locator/consumer/FHIR/R4"
	}
	if cfg.Token == "" {
		cfg.Token = "token"
	}
	if cfg.PageSize <= 0 {
		cfg.PageSize = 20
	}
	return &Locator{cfg, newControl(CustodianFaults())}
}

// SetFault does what POST /_sim/fault does.
func (l *Locator) SetFault(spec FaultSpec) error { return l.control.set(spec) }

// Requests does what GET /_sim/requests does.
func (l *Locator) Requests() Counts { return l.control.requests() }

// Log returns the first 10,000 requests, as "METHOD address".
func (l *Locator) Log() []string { return l.control.lines() }

// ServeHTTP implements http.Handler.
func (l *Locator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.control.serve(w, r) {
		return
	}
	if r.URL.Path != l.cfg.Base+"/DocumentReference/_search" || r.Method != http.MethodPost {
		l.control.otherRequest(r)
		outcome(w, http.StatusNotFound, "not-found", "RESOURCE_NOT_FOUND", "")
		return
	}
	spec := l.control.recordRequest(r)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil || befallFHIR(w, r, spec) {
		return
	}
	question, offset, problem := l.read(r, body)
	if problem != "" {
		status := http.StatusBadRequest
		if problem == "ACCESS DENIED" {
			status = http.StatusUnauthorized
		}
		outcome(w, status, "invalid", problem, "")
		return
	}
	w.Header().Set("X-Request-ID", r.Header.Get("X-Request-ID"))
	w.Header().Set("X-Correlation-ID", r.Header.Get("X-Correlation-ID"))
	l.page(w, r, spec, question, offset)
}

// locatorQuestion is what may be asked.
type locatorQuestion struct{ number, custodian, kind string }

// read checks what is sent as the real one does, and names the first thing that it refuses.
func (l *Locator) read(r *http.Request, body []byte) (q locatorQuestion, offset int, problem string) {
	if r.Header.Get("Authorization") != "Bearer "+l.cfg.Token {
		return q, 0, "ACCESS DENIED"
	}
	organisation := r.Header.Get("NHSD-End-User-Organisation-ODS")
	if !isUUID(r.Header.Get("X-Request-ID")) || r.Header.Get("X-Correlation-ID") == "" || len(organisation) < 3 ||
		strings.Trim(organisation, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		return q, 0, "MISSING_OR_INVALID_HEADER"
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var m map[string]string
	if kind != "application/json" || json.Unmarshal(body, &m) != nil || r.URL.RawQuery != "" {
		return q, 0, "MESSAGE_NOT_WELL_FORMED"
	}
	for key, value := range m {
		system, code, _ := strings.Cut(value, "|")
		switch key {
		case "subject:identifier":
			if system != nhsNumberSystem {
				return q, 0, "INVALID_IDENTIFIER_SYSTEM"
			}
			q.number = code
		case "custodian:identifier":
			if system != "https://fhir.nhs.uk/Id/ods-organization-code" {
				return q, 0, "INVALID_IDENTIFIER_SYSTEM"
			}
			q.custodian = code
		case "type":
			if system != "http://snomed.info/sct" {
				return q, 0, "INVALID_CODE_SYSTEM"
			}
			q.kind = code
		case "next-page-token":
			n, err := strconv.Atoi(strings.TrimPrefix(value, "page-"))
			if err != nil || n < 1 {
				return q, 0, "INVALID_PARAMETER"
			}
			offset = n
		default:
			return q, 0, "INVALID_PARAMETER"
		}
	}
	if !validNumber(q.number) {
		return q, 0, "INVALID_NHS_NUMBER"
	}
	return q, offset, ""
}

// page sends one page, in the way that the fault makes of it.
func (l *Locator) page(w http.ResponseWriter, r *http.Request, spec FaultSpec, q locatorQuestion, offset int) {
	var list []Pointer
	for _, p := range l.cfg.People[q.number] {
		if (l.cfg.Lists || q.custodian == "" || p.Custodian == q.custodian) && (q.kind == "" || p.Code == q.kind) {
			list = append(list, p)
		}
	}
	from := min(offset, len(list))
	to := min(from+l.cfg.PageSize, len(list))
	b := searchset{fault: spec.Fault, total: len(list)}
	about := func(number string) map[string]any {
		return map[string]any{"identifier": map[string]any{"system": nhsNumberSystem, "value": number}}
	}
	for _, p := range list[from:to] {
		of := q.number
		if spec.Fault == FaultWrongPatient {
			of = strangersNumber(q.number)
		}
		b.entries = append(b.entries, p.resource(about(of), spec.Fault == FaultWrongPatient))
	}
	if (spec.Fault == FaultMixedPatients || spec.Fault == FaultWrongPatient) && (len(list) > 0 || spec.Fault == FaultWrongPatient) {
		stranger := Pointer{ID: "stranger-pointer-" + strconv.Itoa(from), Custodian: q.custodian, URL: "https://elsewhere.invalid/1", ContentType: "application/pdf", Date: "2024-01-01T00:00:00Z"}
		b.entries = append(b.entries, stranger.resource(about(strangersNumber(q.number)), true))
	}
	next := ""
	if to < len(list) {
		next = "page-" + strconv.Itoa(to)
	}
	switch spec.Fault {
	case FaultPageLoop:
		next = "page-" + strconv.Itoa(max(from, 1))
	case FaultPageElsewhere:
		b.next, next = elsewhere, ""
	}
	if next != "" {
		b.extra = `"meta":{"tag":[{"display":"next-page-token","code":"` + next + `"}]},`
	}
	b.send(w, r, spec)
}

// resource is a pointer as FHIR has it.
func (p Pointer) resource(subject map[string]any, stranger bool) map[string]any {
	code, status := p.Code, p.Status
	if code == "" {
		code = "736253002"
	}
	if status == "" {
		status = "current"
	}
	snomed := func(code string) map[string]any {
		return map[string]any{"coding": []any{map[string]any{"system": "http://snomed.info/sct", "code": code}}}
	}
	of := map[string]any{"identifier": map[string]any{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": p.Custodian}}
	out := map[string]any{"resourceType": "DocumentReference", "id": p.ID, "status": status, "type": snomed(code), "category": []any{snomed("734163000")},
		"subject": subject, "author": []any{of}, "custodian": of, "date": p.Date,
		"content": []any{map[string]any{"attachment": map[string]any{"contentType": p.ContentType, "url": p.URL, "title": p.Title},
			"format": map[string]any{"system": "https://fhir.nhs.uk/England/CodeSystem/England-NRLFormatCode", "code": "urn:nhs-ic:unstructured"}}},
		"context": map[string]any{"practiceSetting": snomed("788002001")}}
	if p.Title == "" {
		delete(out["content"].([]any)[0].(map[string]any)["attachment"].(map[string]any), "title") //nolint:forcetypeassert // made above
	}
	if p.ASID != "" {
		out["context"].(map[string]any)["related"] = []any{map[string]any{"identifier": map[string]any{"system": "https://fhir.nhs.uk/Id/nhsSpineASID", "value": p.ASID}}} //nolint:forcetypeassert // made above
	}
	if p.Changed != "" {
		out["meta"] = map[string]any{"lastUpdated": p.Changed}
	}
	if stranger {
		out["description"] = StrangerTag
	}
	return out
}

// searchset is a page that is about to be sent.
type searchset struct {
	fault   Fault
	total   int
	extra   string // members before the others
	next    string // an address
	entries []map[string]any
}

// send writes a page, spoiled as the fault has it.
func (b searchset) send(w http.ResponseWriter, r *http.Request, spec FaultSpec) {
	type link struct {
		Relation string `json:"relation"`
		URL      string `json:"url"`
	}
	links := []link{{"self", "https://locator.invalid/DocumentReference"}}
	if b.next != "" {
		links = append(links, link{"next", b.next})
	}
	entries := []any{}
	for _, e := range b.entries {
		entries = append(entries, map[string]any{"resource": e})
	}
	rest, err := json.Marshal(map[string]any{"type": "searchset", "total": b.total, "link": links, "entry": entries})
	if err != nil {
		panic(err) // strings and lists
	}
	text := append([]byte(`{"resourceType":"Bundle",`+b.extra), rest[1:]...)
	sendSpoiled(w, r, spec, text)
}

// sendSpoiled writes JSON of FHIR, spoiled as the fault has it.
func sendSpoiled(w http.ResponseWriter, r *http.Request, spec FaultSpec, text []byte) {
	head := func(extra string) []byte { return append([]byte("{"+extra), text[1:]...) }
	switch spec.Fault {
	case FaultDuplicateKeys:
		text = head(`"id":"one","id":"another",`)
	case FaultBadUTF8:
		text = head("\"language\":\"en\xff\",")
	case FaultDeep:
		text = head(`"extension":` + strings.Repeat("[", deepLevels) + strings.Repeat("]", deepLevels) + ",")
	case FaultTruncated:
		text = text[:len(text)/2]
	case FaultTrickle:
		trickle(w, r, text, spec.wait(defaultTrickle))
		return
	case FaultHuge:
		fhirHeader(w)
		_, err := w.Write([]byte(`{"implicitRules":["`))
		piece := []byte(strings.Repeat("Nothing to report. ", 4096) + `","`)
		for sent := 0; sent < hugeBytes && err == nil && r.Context().Err() == nil; sent += len(piece) {
			_, err = w.Write(piece)
		}
		_, _ = w.Write(append([]byte(`"],`), text[1:]...)) // the client left
		return
	}
	write(w, r, http.StatusOK, text)
}

// befallFHIR does what a fault does instead of an answer, and reports whether the request is dealt with.
func befallFHIR(w http.ResponseWriter, r *http.Request, spec FaultSpec) bool {
	if spec.Fault == FaultNoRecord {
		outcome(w, http.StatusNotFound, "not-found", "NO_RECORD_FOUND", "")
		return true
	}
	return (&Custodian{}).befall(w, r, spec)
}
