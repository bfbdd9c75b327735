package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// befall does what a fault does instead of an answer, and reports whether the request is dealt with.
func (p *Practice) befall(w http.ResponseWriter, r *http.Request, spec FaultSpec) bool {
	switch spec.Fault {
	case FaultDown:
		reset(w)
	case FaultHang:
		return !pause(r, spec.wait(0))
	case FaultSlow:
		return !pause(r, spec.wait(defaultSlow))
	case FaultError500:
		spineOutcome(w, http.StatusInternalServerError, "processing", "INTERNAL_SERVER_ERROR", "")
	case FaultThrottle429:
		w.Header().Set("Retry-After", retryAfterSeconds)
		spineOutcome(w, http.StatusTooManyRequests, "throttled", "BAD_REQUEST", "")
	case FaultUnauthorised:
		spineOutcome(w, http.StatusForbidden, "forbidden", "ACCESS DENIED", "")
	case FaultNoConsent:
		spineOutcome(w, http.StatusForbidden, "forbidden", "NO_PATIENT_CONSENT", "")
	case FaultGarbage:
		fhirHeader(w)
		_, _ = w.Write([]byte("<!doctype html>\x00{\"resourceType\": Bundle, \"entry\": [}")) // the client left
	case FaultGzipBomb:
		bomb(w)
	default:
		return false
	}
	return true
}

// send writes a good answer, in the way that the fault makes of it.
func (p *Practice) send(w http.ResponseWriter, r *http.Request, spec FaultSpec, a gpAnswer) {
	link := ""
	switch spec.Fault {
	case FaultDuplicateKeys:
		a.entries[0] = inserted(a.entries[0], `"id":"one","id":"another",`)
	case FaultBadUTF8:
		a.entries[0] = inserted(a.entries[0], "\"language\":\"en\xff\",")
	case FaultDeep:
		a.entries[0] = inserted(a.entries[0], `"extension":[`+strings.Repeat(`{"url":"https://simulator.example/deep","extension":[`, deepLevels/2)+
			`{"url":"https://simulator.example/deep","valueBoolean":true}`+strings.Repeat(`]}`, deepLevels/2)+`],`)
	case FaultPageLoop:
		link = `,"link":[{"relation":"next","url":"http://` + r.Host + p.cfg.Base + gpOperation + `"}]`
	case FaultPageElsewhere:
		link = `,"link":[{"relation":"next","url":"` + elsewhere + `"}]`
	case FaultWrongPatient:
		a.entries = strangersRecord(a.person.number)
	case FaultMixedPatients:
		a.entries = append(a.entries, strangersObservation("stranger-a"))
	case FaultHuge:
		p.huge(w, r, a)
		return
	}
	body := a.render(link)
	switch spec.Fault {
	case FaultTruncated:
		write(w, r, http.StatusOK, body[:len(body)/2])
	case FaultTrickle:
		trickle(w, r, body, spec.wait(defaultTrickle))
	default:
		write(w, r, http.StatusOK, body)
	}
}

// inserted puts text before the members of a resource.
func inserted(raw json.RawMessage, text string) json.RawMessage {
	brace := bytes.IndexByte(raw, '{') + 1
	return append(append(bytes.Clone(raw[:brace]), text...), raw[brace:]...)
}

// head is the Bundle up to its entries: a collection that carries the request's trace id, without fullUrls.
func (a gpAnswer) head(link string) []byte {
	return []byte(`{"resourceType":"Bundle","id":"` + a.trace + `","meta":{"profile":["` + bundleProfile + `"]},"type":"collection"` + link + `,"entry":[`)
}

func (a gpAnswer) render(link string) []byte {
	b := bytes.NewBuffer(a.head(link))
	for i, raw := range a.entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"resource":`)
		b.Write(raw)
		b.WriteByte('}')
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// huge sends the answer and then entries about the same person, well-formed, until hugeBytes are sent or the client leaves.
func (p *Practice) huge(w http.ResponseWriter, r *http.Request, a gpAnswer) {
	fhirHeader(w)
	head := a.render("")
	_, err := w.Write(head[:len(head)-2])
	padding := strings.Repeat("Nothing to report. ", 4096)
	for sent, n := 0, 0; sent < hugeBytes && err == nil && r.Context().Err() == nil; n++ {
		text := `,{"resource":{"resourceType":"Observation","id":"huge-` + strconv.Itoa(n) + `","status":"final","code":{"text":"Note"},"subject":{"reference":"Patient/` +
			a.person.patient.id + `"},"valueString":"` + padding + `"}}`
		_, err = w.Write([]byte(text))
		sent += len(text)
	}
	if err == nil {
		_, _ = w.Write([]byte(`]}`)) // the client left
	}
}
