package merge

import (
	"errors"
	"strings"
	"testing"
)

// beside is a reply of two sources of one custodian.
func beside(t *testing.T, first, second []string) Reply {
	t.Helper()
	r, other := bare(t, first...), bare(t, second...)
	r.Beside = []Beside{{Base: "https://second.example/fhir", Entries: other.Entries}}
	return r
}

// An address means what it means at the source that it came from: what has the id of this person's Patient at one source may be somebody else at
// another, and leads nobody there.
func TestAddressesOfTwoSources(t *testing.T) {
	stranger := strings.NewReplacer("9990000018", "9990000026", "Ashworth", "Strangeways").Replace(ada)
	q := strings.Replace(ada, `"p"`, `"q"`, 1)
	flag := func(id, patient string) string {
		return `{"resourceType":"Flag","id":"` + id + `","status":"active","code":{"text":"` + id + `"},"subject":{"reference":"` + patient + `"}}`
	}
	r := beside(t, []string{ada, flag("a1", "Patient/p"), flag("a2", "https://second.example/fhir/Patient/q"), flag("a3", "https://second.example/fhir/Patient/p")},
		[]string{stranger, q, flag("b1", "Patient/q"), flag("b2", "Patient/p"), flag("b3", "https://gp.example/fhir/Patient/p"), flag("b4", "https://second.example/fhir/Patient/p")})
	p := prepare(t, request(t), everything, r)
	for id, want := range map[string]bool{"a1": true, "a2": true, "a3": false, "b1": true, "b2": false, "b3": true, "b4": false} {
		if has(p, "Flag", "gp-"+id) != want {
			t.Errorf("%s shown %v, want %v", id, !want, want)
		}
	}
	if p.Counts.Strangers != 4 || p.PatientID != "gp-p" || len(p.also) != 1 || p.also[0] != "gp-q" || !p.Alarm {
		t.Errorf("got %+v, Patients %s %v", p.Counts, p.PatientID, p.also)
	}
	for _, e := range p.Entries {
		if strings.Contains(string(e.JSON), "Strangeways") {
			t.Error("somebody else is shown")
		}
	}
	// Each source must answer about this person.
	for name, second := range map[string][]string{"somebody else": {stranger, flag("b", "Patient/p")}, "nobody": {flag("b", "Patient/p")}, "two Patients": {ada, q}} {
		if _, err := Prepare(request(t), everything, beside(t, []string{ada}, second)); !errors.Is(err, ErrWrongSubject) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Sources that know no addresses of their own may use the same names for different things.
func TestNamesOfTwoSources(t *testing.T) {
	urn := "urn:mycarerecord:subject "
	nameless := strings.Replace(ada, `"id":"p",`, "", 1)
	other := strings.Replace(nameless, `"birthDate"`, `"active":true,"birthDate"`, 1)
	flag := func(text string) string {
		return `{"resourceType":"Flag","status":"active","code":{"text":"` + text + `"},"subject":{"reference":"urn:mycarerecord:subject"}}`
	}
	p := prepare(t, request(t), everything, beside(t, []string{urn + nameless, flag("first"), flag("both")}, []string{urn + other, flag("second"), flag("both")}))
	patients := map[string]string{}
	for _, e := range p.Entries {
		if e.Type == "Patient" {
			patients[map[bool]string{true: "second", false: "first"}[strings.Contains(string(e.JSON), "active")]] = e.ID
		}
	}
	if len(patients) != 2 || p.Counts.Folded != 1 || p.Counts.Shown != 5 {
		t.Fatalf("got %+v: %s", p.Counts, list(p.Entries))
	}
	for _, e := range p.Entries {
		for source, id := range patients {
			if strings.Contains(string(e.JSON), `"text":"`+source+`"`) && !strings.Contains(string(e.JSON), `"Patient/`+id+`"`) {
				t.Errorf("a flag of the %s source leads elsewhere: %s", source, e.JSON)
			}
		}
	}
}
