package simulator

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// LibraryConfig is whoever holds documents: it gives them by address, and, as a registry of IHE MHD, lists them by person.
type LibraryConfig struct {
	Token     string               // access token that is taken; "" is library-token
	Documents map[string]Stored    // by the path below /documents/
	People    map[string][]Pointer // by NHS number, for the registry; addresses may be relative: Binary/{path of a document}
	PageSize  int                  // of the registry; 0 is 20
	Proxied   bool                 // it is behind the Spine Secure Proxy, which has checked who asks: it takes what the proxy sends, and nothing else
}

// Stored is a document.
type Stored struct {
	Body []byte
	Type string
}

// Library serves GET /documents/{path} and, below /fhir, POST DocumentReference/_search (ITI-67) and GET Binary/{path} (ITI-68). Beside it, at the root: POST
// /_sim/fault and GET /_sim/requests. Only requests for documents and searches are record requests.
type Library struct {
	cfg     LibraryConfig
	control *control
}

var _ http.Handler = (*Library)(nil)

// NewLibrary makes a library.
func NewLibrary(cfg LibraryConfig) *Library {
	if cfg.Token == "" {
		cfg.Token = "library-token"
	}
	if cfg.PageSize <= 0 {
		cfg.PageSize = 20
	}
	return &Library{cfg: cfg, control: newControl(CustodianFaults())}
}

// SetFault does what POST /_sim/fault does.
func (l *Library) SetFault(spec FaultSpec) error { return l.control.set(spec) }

// Requests does what GET /_sim/requests does.
func (l *Library) Requests() Counts { return l.control.requests() }

// Log returns the first 10,000 requests, as "METHOD address".
func (l *Library) Log() []string { return l.control.lines() }

// ServeHTTP implements http.Handler.
func (l *Library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.control.serve(w, r) {
		return
	}
	spec := l.control.recordRequest(r)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10)) // before anything waits: only then is a client who leaves noticed
	if err != nil {
		return
	}
	if l.cfg.Proxied && r.Header.Get("Ssp-InteractionID") != nrlContent || !l.cfg.Proxied && r.Header.Get("Authorization") != "Bearer "+l.cfg.Token {
		outcome(w, http.StatusUnauthorized, "login", "ACCESS_DENIED", "")
		return
	}
	if !isUUID(r.Header.Get("X-Request-ID")) || r.Header.Get("Accept") == "" || r.Header.Get("NHSD-End-User-Organisation-ODS") != "" && !strings.HasPrefix(r.URL.Path, "/fhir/") {
		outcome(w, http.StatusBadRequest, "value", "MISSING_OR_INVALID_HEADER", "")
		return
	}
	switch path, document := strings.CutPrefix(r.URL.Path, "/documents/"); {
	case document && r.Method == http.MethodGet:
		if !l.befall(w, r, spec) {
			l.document(w, r, spec, path, false)
		}
	case strings.HasPrefix(r.URL.Path, "/fhir/Binary/") && r.Method == http.MethodGet:
		if !l.befall(w, r, spec) {
			l.document(w, r, spec, strings.TrimPrefix(r.URL.Path, "/fhir/Binary/"), true)
		}
	case r.URL.Path == "/fhir/DocumentReference/_search" && r.Method == http.MethodPost:
		if !befallFHIR(w, r, spec) {
			l.search(w, r, spec, body)
		}
	default:
		outcome(w, http.StatusNotFound, "not-found", "", "")
	}
}

// befall does what a fault does instead of a document. One that is about pages is about redirects here: documents have none.
func (l *Library) befall(w http.ResponseWriter, r *http.Request, spec FaultSpec) bool {
	send := func(kind string, text string) bool {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(text)) // the client left
		return true
	}
	switch spec.Fault {
	case FaultPageLoop:
		w.Header().Set("Location", r.URL.Path)
		w.WriteHeader(http.StatusFound)
	case FaultPageElsewhere:
		w.Header().Set("Location", elsewhere)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case FaultNoRecord:
		w.WriteHeader(http.StatusNotFound)
	case FaultGarbage:
		return send("application/xml", "<?xml version=\"1.0\"?>\x00<ClinicalDocument><<<")
	case FaultDuplicateKeys:
		return send("application/fhir+json", `{"resourceType":"Bundle","type":"document","type":"message"}`)
	case FaultBadUTF8:
		return send("application/xml", "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ClinicalDocument xmlns=\"urn:hl7-org:v3\"><title>\xff</title></ClinicalDocument>")
	case FaultDeep:
		return send("application/xml", strings.Repeat("<a>", deepLevels)+strings.Repeat("</a>", deepLevels))
	case FaultHuge:
		w.Header().Set("Content-Type", "application/pdf")
		piece := make([]byte, 1<<16)
		for sent := 0; sent < hugeBytes && r.Context().Err() == nil; sent += len(piece) {
			if _, err := w.Write(piece); err != nil {
				break
			}
		}
	case FaultWrongPatient:
		return send("application/xml", strangersReport("9990000026"))
	case FaultMixedPatients:
		return send("application/xml", strings.Replace(strangersReport("9990000026"), "<recordTarget>", `<recordTarget><patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="9990000034"/></patientRole></recordTarget><recordTarget>`, 1))
	default:
		return befallFHIR(w, r, spec)
	}
	return true
}

// strangersReport is a CDA document about somebody else.
func strangersReport(number string) string {
	return `<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="7F8A1D6C-0000-4000-8000-0000000000AA"/><code code="819551000000100" codeSystem="2.16.840.1.113883.2.1.3.2.4.15"/><title>` +
		StrangerTag + `</title><effectiveTime value="202403031200+00"/><recordTarget><patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="` + number +
		`"/><patient><name><family>Strangeways</family></name></patient></patientRole></recordTarget><component><structuredBody><component><section><title>Summary</title><text>` + StrangerTag +
		`</text></section></component></structuredBody></component></ClinicalDocument>`
}

// document gives one as it is, or in a Binary where the registry gives it and the client takes FHIR.
func (l *Library) document(w http.ResponseWriter, r *http.Request, spec FaultSpec, path string, binary bool) {
	d, held := l.cfg.Documents[path]
	if !held {
		outcome(w, http.StatusNotFound, "not-found", "NO_RECORD_FOUND", "")
		return
	}
	body, kind := d.Body, d.Type
	if accept := r.Header.Get("Accept"); binary && (strings.Contains(accept, "fhir+json") || strings.Contains(accept, "*/*")) {
		text, err := json.Marshal(map[string]any{"resourceType": "Binary", "id": "b", "contentType": kind, "data": base64.StdEncoding.EncodeToString(body)})
		if err != nil {
			panic(err) // strings
		}
		body, kind = text, "application/fhir+json"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	flush := http.NewResponseController(w)
	switch spec.Fault {
	case FaultTruncated: // the connection breaks in the middle
		_, _ = w.Write(body[:len(body)/2])
		_ = flush.Flush()
		reset(w)
	case FaultTrickle:
		for i := range body {
			if _, err := w.Write(body[i : i+1]); err != nil || flush.Flush() != nil || !pause(r, spec.wait(defaultTrickle)) {
				return
			}
		}
	default:
		_, _ = w.Write(body) // the client left
	}
}

// search is ITI-67: patient and status are required (IHE MHD, 2:3.67).
func (l *Library) search(w http.ResponseWriter, r *http.Request, spec FaultSpec, body []byte) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	form, bad := url.ParseQuery(string(body))
	system, number, _ := strings.Cut(form.Get("patient.identifier"), "|")
	if kind != "application/x-www-form-urlencoded" || bad != nil || r.URL.RawQuery != "" || len(form["patient.identifier"]) != 1 || system != nhsNumberSystem ||
		form.Get("status") != "current" {
		outcome(w, http.StatusBadRequest, "required", "MISSING_VALUE", "")
		return
	}
	offset, _ := strconv.Atoi(form.Get("_offset")) // none is 0
	list := l.cfg.People[number]
	from := min(offset, len(list))
	to := min(from+l.cfg.PageSize, len(list))
	base := "http://" + r.Host + "/fhir"
	b := searchset{fault: spec.Fault, total: len(list)}
	person, of := "p-1", number
	if spec.Fault == FaultWrongPatient {
		person, of = StrangerID, strangersNumber(number)
	}
	if to < len(list) {
		form.Set("_offset", strconv.Itoa(to))
		b.next = base + "/DocumentReference?" + form.Encode()
	}
	switch spec.Fault {
	case FaultPageLoop:
		b.next = base + "/DocumentReference?" + form.Encode()
	case FaultPageElsewhere:
		b.next = elsewhere
	}
	for _, p := range list[from:to] {
		e := p.resource(map[string]any{"reference": "Patient/" + person, "identifier": map[string]any{"system": nhsNumberSystem, "value": of}}, spec.Fault == FaultWrongPatient)
		b.entries = append(b.entries, e)
	}
	if spec.Fault == FaultMixedPatients && len(list) > 0 {
		b.entries = append(b.entries, Pointer{ID: "stranger-" + strconv.Itoa(from), Date: "2024-01-01T00:00:00Z"}.resource(
			map[string]any{"reference": "Patient/" + StrangerID, "identifier": map[string]any{"system": nhsNumberSystem, "value": strangersNumber(number)}}, true))
	}
	if len(b.entries) > 0 && from == 0 {
		b.entries = append(b.entries, map[string]any{"resourceType": "Patient", "id": person, "identifier": []any{map[string]any{"system": nhsNumberSystem, "value": of}}})
	}
	b.send(w, r, spec)
}
