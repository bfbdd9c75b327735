package simulator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const fhirJSON = "application/fhir+json; charset=utf-8"

func fhirHeader(w http.ResponseWriter) {
	w.Header().Set("Content-Type", fhirJSON)
	w.Header().Set("Cache-Control", "no-store")
}

// outcome answers with an OperationOutcome.
func outcome(w http.ResponseWriter, status int, code, spine, diagnostics string) {
	issue := map[string]any{"severity": "error", "code": code}
	if spine != "" {
		issue["details"] = map[string]any{"coding": []any{map[string]any{
			"system": "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode", "version": "1", "code": spine,
			"display": strings.ToLower(strings.ReplaceAll(spine, "_", " "))}}}
	}
	if diagnostics != "" {
		issue["diagnostics"] = diagnostics
	}
	text, err := json.Marshal(map[string]any{"resourceType": "OperationOutcome", "issue": []any{issue}})
	if err != nil {
		panic(err) // strings only
	}
	fhirHeader(w)
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client left
}

// write answers with a body, compressed when the client takes gzip.
func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	fhirHeader(w)
	w.Header().Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z := gzip.NewWriter(w)
		_, _ = z.Write(body) // the client left
		_ = z.Close()
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// send writes an answer, in the way that the fault makes of it.
func (c *Custodian) send(w http.ResponseWriter, r *http.Request, base string, spec FaultSpec, a answer) {
	if a.code != "" {
		outcome(w, a.status, a.code, a.spine, "")
		return
	}
	if spec.Fault == FaultHuge && a.page != nil {
		c.huge(w, r, base, a.page)
		return
	}
	body := based(a.single, base)
	if a.page != nil {
		body = a.page.render(base)
	}
	switch spec.Fault {
	case FaultTruncated:
		write(w, r, http.StatusOK, body[:len(body)/2])
	case FaultTrickle:
		trickle(w, r, body, spec.wait(defaultTrickle))
	default:
		write(w, r, http.StatusOK, body)
	}
}

// based puts the server's address where the resource has a [BaseMark].
func based(raw []byte, base string) []byte {
	return bytes.ReplaceAll(raw, []byte(BaseMark), []byte(base))
}

// head returns the Bundle up to its first entry.
func (pg *page) head(base string) []byte {
	var b bytes.Buffer
	quote := func(s string) {
		text, err := json.Marshal(s)
		if err != nil {
			panic(err) // a string
		}
		b.Write(text)
	}
	b.WriteString(`{"resourceType":"Bundle",` + pg.extra + `"type":"searchset","total":` + strconv.Itoa(pg.total) + `,"link":[{"relation":"self","url":`)
	quote(strings.TrimSuffix(base+"/"+pg.self, "/"))
	b.WriteString(`}`)
	if pg.next != "" {
		b.WriteString(`,{"relation":"next","url":`)
		next := pg.next
		if !strings.HasPrefix(next, "http") {
			next = base + next
		}
		quote(next)
		b.WriteString(`}`)
	}
	b.WriteString(`]`)
	return b.Bytes()
}

func (pg *page) render(base string) []byte {
	b := bytes.NewBuffer(pg.head(base))
	for i, e := range pg.entries {
		if i == 0 {
			b.WriteString(`,"entry":[`)
		} else {
			b.WriteString(`,`)
		}
		b.WriteString(`{"fullUrl":"` + base + "/" + e.typ + "/" + e.id + `","resource":`)
		b.Write(based(e.raw, base))
		b.WriteString(`,"search":{"mode":"` + e.mode + `"}}`)
	}
	if len(pg.entries) > 0 {
		b.WriteString(`]`)
	}
	b.WriteString(`}`)
	return b.Bytes()
}

// trickle sends a good answer, one byte at a time, until the client leaves.
func trickle(w http.ResponseWriter, r *http.Request, body []byte, wait time.Duration) {
	fhirHeader(w)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	for i := range body {
		if _, err := w.Write(body[i : i+1]); err != nil || flush.Flush() != nil || !pause(r, wait) {
			return
		}
	}
}

// huge sends the page and then entries about the same person, well-formed, until hugeBytes are sent or the client leaves.
func (c *Custodian) huge(w http.ResponseWriter, r *http.Request, base string, pg *page) {
	fhirHeader(w)
	patient := "nobody"
	if pg.person != nil {
		patient = pg.person.patient.id
	}
	_, err := w.Write(append(pg.head(base), `,"entry":[`...))
	padding := strings.Repeat("Nothing to report. ", 4096)
	for sent, n := 0, 0; sent < hugeBytes && err == nil && r.Context().Err() == nil; n++ {
		id := "huge-" + strconv.Itoa(n)
		text := `{"fullUrl":"` + base + `/Observation/` + id + `","resource":{"resourceType":"Observation","id":"` + id +
			`","status":"final","code":{"text":"Note"},"subject":{"reference":"Patient/` + patient + `"},"valueString":"` + padding + `"},"search":{"mode":"match"}},`
		_, err = w.Write([]byte(text))
		sent += len(text)
	}
	if err == nil {
		_, _ = w.Write([]byte(`{"resource":{"resourceType":"Observation","id":"huge","status":"final","code":{"text":"Note"},"subject":{"reference":"Patient/` +
			patient + `"}},"search":{"mode":"match"}}]}`)) // the client left
	}
}

// bomb sends a Bundle whose white space is compressed a thousandfold, whether the client takes gzip or not.
func bomb(w http.ResponseWriter) {
	fhirHeader(w)
	w.Header().Set("Content-Encoding", "gzip")
	// A gzip stream may have several members: the same small one is sent over and over.
	_, err := w.Write(member([]byte(`{"resourceType":"Bundle","type":"searchset","total":0,"entry":[`)))
	block := member(bytes.Repeat([]byte(" "), 1<<20))
	for n := 0; n < bombBlocks && err == nil; n++ {
		_, err = w.Write(block)
	}
	if err == nil {
		_, _ = w.Write(member([]byte(`]}`))) // the client left
	}
}

func member(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text) // into memory
	_ = z.Close()
	return b.Bytes()
}
