package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
)

// befall does what a fault does instead of an answer, and reports whether the request is dealt with.
func (c *Custodian) befall(w http.ResponseWriter, r *http.Request, spec FaultSpec) bool {
	switch spec.Fault {
	case FaultDown:
		reset(w)
	case FaultHang:
		return !pause(r, spec.wait(0))
	case FaultSlow:
		return !pause(r, spec.wait(defaultSlow))
	case FaultError500:
		outcome(w, http.StatusInternalServerError, "exception", "INTERNAL_SERVER_ERROR", "")
	case FaultThrottle429:
		w.Header().Set("Retry-After", retryAfterSeconds)
		outcome(w, http.StatusTooManyRequests, "throttled", "TOO_MANY_REQUESTS", "")
	case FaultUnauthorised:
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		outcome(w, http.StatusUnauthorized, "login", "ACCESS_DENIED", "")
	case FaultNoConsent:
		outcome(w, http.StatusForbidden, "forbidden", "NO_PATIENT_CONSENT", "")
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

// sabotage changes a good answer into what the fault makes of it.
func (c *Custodian) sabotage(f Fault, a *answer) {
	if f == FaultNoRecord {
		if a.page == nil || a.page.query.Type == "" {
			*a = refuse(http.StatusNotFound, "not-found", "PATIENT_NOT_FOUND")
			return
		}
		*a = answer{page: &page{query: a.page.query, self: a.page.self}}
		return
	}
	pg := a.page
	if pg == nil {
		return
	}
	switch f {
	case FaultDuplicateKeys:
		alter(pg, `"id":"another",`, `"id":"one","id":"another",`)
	case FaultBadUTF8:
		alter(pg, "\"language\":\"en\xff\",", "\"language\":\"en\xff\",")
	case FaultDeep:
		text := `"extension":[` + strings.Repeat(`{"url":"https://simulator.example/deep","extension":[`, deepLevels/2) +
			`{"url":"https://simulator.example/deep","valueBoolean":true}` + strings.Repeat(`]}`, deepLevels/2) + `],`
		alter(pg, text, text)
	case FaultPageLoop:
		pg.next = c.link(pg.query)
	case FaultPageElsewhere:
		pg.next = elsewhere
	case FaultWrongPatient:
		pg.entries, pg.total, pg.next = nil, 0, ""
		for _, raw := range strangersRecord(pg.query.Number) {
			r, err := newResource(raw)
			if err != nil {
				panic(err) // our own text
			}
			if pg.query.Type == "" || r.typ == pg.query.Type {
				pg.entries = append(pg.entries, entry{r.typ, r.id, raw, "match"})
				pg.total++
			}
		}
	case FaultMixedPatients:
		if !pg.query.Patients && pg.person != nil {
			mix(pg)
		}
	}
}

// alter puts text before the members of the first resource of the page; of the Bundle if there is none, so that a fault shows whether
// the custodian holds the person or not.
func alter(pg *page, text, ofBundle string) {
	if len(pg.entries) == 0 {
		pg.extra = ofBundle
		return
	}
	e := &pg.entries[0]
	brace := bytes.IndexByte(e.raw, '{') + 1
	e.raw = append(append(bytes.Clone(e.raw[:brace]), text...), e.raw[brace:]...)
}

// StrangerID is the Patient id of the person whose data the faults wrong-patient and mixed-patients show, and StrangerTag the
// code of the meta.tag that every such resource carries: neither may ever be in an answer.
const (
	StrangerID  = "stranger"
	StrangerTag = "SIMULATED-STRANGER"
)

const strangersMeta = `"meta":{"tag":[{"system":"https://simulator.example/CodeSystem/marker","code":"` + StrangerTag + `"}]}`

// strangersRecord is a whole record of somebody whose number is not the one given.
func strangersRecord(not string) []json.RawMessage {
	number := strangersNumber(not)
	return []json.RawMessage{
		json.RawMessage(`{"resourceType":"Patient","id":"` + StrangerID + `",` + strangersMeta + `,"identifier":[{"system":"` + nhsNumberSystem +
			`","value":"` + number + `"}],"name":[{"family":"Strangeways","given":["Quentin"]}],"gender":"male","birthDate":"1955-05-05"}`),
		strangersObservation("stranger-observation"),
		json.RawMessage(`{"resourceType":"Condition","id":"stranger-condition",` + strangersMeta + `,"subject":{"reference":"Patient/` + StrangerID +
			`"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},` +
			`"code":{"text":"Somebody else's condition"},"recordedDate":"2024-03-03"}`),
	}
}

// strangersNumber is an NHS number other than the one given.
func strangersNumber(not string) string {
	if not == "9990000018" {
		return "9990000026"
	}
	return "9990000018"
}

func strangersObservation(id string) json.RawMessage {
	return json.RawMessage(`{"resourceType":"Observation","id":"` + id + `",` + strangersMeta + `,"status":"final","code":{"text":"Somebody else's result"},` +
		`"subject":{"reference":"Patient/` + StrangerID + `"},"effectiveDateTime":"2024-02-02","valueString":"positive"}`)
}

// mix adds copies of up to three of the page's entries that name somebody else instead, and an Observation where a whole record has none to copy.
func mix(pg *page) {
	mine := []byte("Patient/" + pg.person.patient.id)
	added := 0
	for _, e := range pg.entries {
		if added == 3 || e.typ == "Patient" || e.mode != "match" || !bytes.Contains(e.raw, mine) {
			continue
		}
		raw := bytes.ReplaceAll(e.raw, mine, []byte("Patient/"+StrangerID))
		raw = bytes.ReplaceAll(raw, []byte(pg.person.number), []byte(strangersNumber(pg.person.number)))
		var m map[string]json.RawMessage // number text and everything else stays as it is
		if json.Unmarshal(raw, &m) != nil {
			continue // indexed before, so it is an object; a copy that cannot be made is not needed
		}
		id := "stranger-" + string(rune('a'+added))
		m["id"], m["meta"] = json.RawMessage(`"`+id+`"`), json.RawMessage(strings.TrimPrefix(strangersMeta, `"meta":`))
		copied, err := json.Marshal(m)
		if err != nil {
			continue // as above
		}
		pg.entries = append(pg.entries, entry{e.typ, id, copied, "match"})
		added++
	}
	if added == 0 && pg.query.Type == "" && pg.query.Offset == 0 {
		pg.entries = append(pg.entries, entry{"Observation", "stranger-a", strangersObservation("stranger-a"), "match"})
		added++
	}
	pg.total += added
}
