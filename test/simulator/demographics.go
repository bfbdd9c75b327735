package simulator

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// Standing is what the demographics service knows of a number.
type Standing string

// The standings. A number that the service was not given is unknown.
const (
	Live        Standing = "live"        // also of people who have died: the Patient says so
	Restricted  Standing = "restricted"  // confidentiality R: address, telephone, GP and contacts are left out
	Superseded  Standing = "superseded"  // answered with the Patient of the number that replaced it
	Invalidated Standing = "invalidated" // status 404, INVALIDATED_RESOURCE
)

// Demographic is one number at the demographics service.
type Demographic struct {
	Number   string
	Standing Standing
	By       string          // Superseded: the number that replaced this one
	Patient  json.RawMessage // a Patient whose id and NHS number identifier are the number, without meta; unused for Superseded and Invalidated
}

// Demographics speaks the part of the Personal Demographics Service FHIR API that the broker needs: GET Patient/{NHS number},
// with a mandatory X-Request-ID (NHSDigital/personal-demographics-service-api, read in November 2026).
// Beside it, at the root: POST /_sim/fault with [DemographicsFaults], and GET /_sim/requests.
type Demographics struct {
	control *control
	base    string
	people  map[string]Demographic
}

var _ http.Handler = (*Demographics)(nil)

// DemographicsBase is the path under which [Demographics] answers.
const DemographicsBase = "/personal-demographics/FHIR/R4"

// NewDemographics checks and keeps the people.
func NewDemographics(people []Demographic) (*Demographics, error) {
	d := &Demographics{control: newControl(DemographicsFaults()), base: DemographicsBase, people: map[string]Demographic{}}
	for _, p := range people {
		if _, twice := d.people[p.Number]; twice {
			return nil, errors.New("simulator: the demographics service was given a number twice")
		}
		d.people[p.Number] = p
	}
	for _, p := range people {
		switch p.Standing {
		case Live, Restricted:
			patient, err := labelled(p.Patient, p.Standing)
			if err != nil {
				return nil, err
			}
			p.Patient = patient
			d.people[p.Number] = p
		case Superseded:
			if by, ok := d.people[p.By]; !ok || by.Standing != Live {
				return nil, errors.New("simulator: a number is superseded by one that is not live")
			}
		case Invalidated:
		default:
			return nil, errors.New("simulator: no such standing: " + string(p.Standing))
		}
	}
	return d, nil
}

// labelled returns the Patient as the service gives it: marked unrestricted or restricted, and, restricted, without what could lead to the person's door.
func labelled(patient json.RawMessage, standing Standing) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if json.Unmarshal(patient, &m) != nil {
		return nil, errors.New("simulator: the demographics service was given a Patient that is not JSON")
	}
	code, display := "U", "unrestricted"
	if standing == Restricted {
		code, display = "R", "restricted"
		for _, field := range []string{"address", "telecom", "generalPractitioner", "contact", "managingOrganization"} {
			delete(m, field)
		}
	}
	m["meta"] = json.RawMessage(`{"versionId":"1","security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"` + code +
		`","display":"` + display + `"}]}`)
	return json.Marshal(m)
}

// SetFault does what POST /_sim/fault does.
func (d *Demographics) SetFault(spec FaultSpec) error { return d.control.set(spec) }

// Requests does what GET /_sim/requests does; a record request is one that reaches for a Patient.
func (d *Demographics) Requests() Counts { return d.control.requests() }

// ServeHTTP implements http.Handler.
func (d *Demographics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.control.serve(w, r) {
		return
	}
	number, patient := strings.CutPrefix(r.URL.Path, d.base+"/Patient/")
	if !patient || r.Method != http.MethodGet {
		d.control.otherRequest(r)
		if patient {
			w.Header().Set("Allow", "GET")
			outcome(w, http.StatusMethodNotAllowed, "not-supported", "UNSUPPORTED_SERVICE", "")
			return
		}
		outcome(w, http.StatusNotFound, "not-found", "RESOURCE_NOT_FOUND", "")
		return
	}
	spec := d.control.recordRequest(r)
	switch spec.Fault {
	case FaultDown:
		reset(w)
		return
	case FaultHang:
		if !pause(r, spec.wait(0)) {
			return
		}
	case FaultSlow:
		if !pause(r, spec.wait(defaultSlow)) {
			return
		}
	case FaultError500:
		outcome(w, http.StatusInternalServerError, "exception", "INTERNAL_SERVER_ERROR", "")
		return
	case FaultGarbage:
		fhirHeader(w)
		_, _ = w.Write([]byte("{\"resourceType\": Patient, <html>")) // the client left
		return
	}
	w.Header().Set("X-Request-ID", r.Header.Get("X-Request-ID"))
	if !isUUID(r.Header.Get("X-Request-ID")) {
		outcome(w, http.StatusBadRequest, "value", "INVALID_VALUE", "header X-Request-ID: give a UUID")
		return
	}
	if !validNumber(number) {
		outcome(w, http.StatusBadRequest, "value", "INVALID_RESOURCE_ID", "")
		return
	}
	p, known := d.people[number]
	if p.Standing == Superseded { // PDS answers 200 with the Patient of the other number: the id differs from the one asked
		p = d.people[p.By]
	}
	switch {
	case !known:
		outcome(w, http.StatusNotFound, "not-found", "RESOURCE_NOT_FOUND", "")
	case p.Standing == Invalidated:
		outcome(w, http.StatusNotFound, "processing", "INVALIDATED_RESOURCE", "")
	default:
		w.Header().Set("ETag", `W/"1"`)
		write(w, r, http.StatusOK, p.Patient)
	}
}

// isUUID reports whether s has the form of a UUID.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'):
			return false
		}
	}
	return true
}

// validNumber is the check of NHS numbers: ten digits, modulus 11 with weights 10 to 2 (NHS Data Dictionary, NHS NUMBER).
func validNumber(s string) bool {
	if len(s) != 10 {
		return false
	}
	sum := 0
	for i := range 10 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		if i < 9 {
			sum += int(s[i]-'0') * (10 - i)
		}
	}
	return (11-sum%11)%11 == int(s[9]-'0')
}
