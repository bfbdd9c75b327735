package stu3

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// meanings says for every code that decides what an entry means (status, negation, certainty) which class of meaning it has in STU3 and which the
// code that it becomes has in R4, as read from the definitions of the two (hl7.org/fhir/STU3, hl7.org/fhir/R4, November 2026). A code of STU3 and
// what becomes of it must be of one class: nothing that is over, planned, refuted or an error may turn into something that is, nor the reverse.
// A line is an element, and codes with their class.
var meanings = []struct{ element, stu3, r4 string }{
	{"AllergyIntolerance.clinicalStatus", "active:is inactive:was resolved:was", "active:is inactive:was resolved:was"},
	{"AllergyIntolerance.verificationStatus", "unconfirmed:unsure confirmed:sure refuted:isnot entered-in-error:error",
		"unconfirmed:unsure presumed:unsure confirmed:sure refuted:isnot entered-in-error:error"},
	{"AllergyIntolerance.criticality", "low:low high:high unable-to-assess:unknown", "low:low high:high unable-to-assess:unknown"},
	{"AllergyIntolerance.type", "allergy:allergy intolerance:intolerance", "allergy:allergy intolerance:intolerance"},
	{"AllergyIntolerance.reaction.severity", "mild:mild moderate:moderate severe:severe", "mild:mild moderate:moderate severe:severe"},
	{"Condition.clinicalStatus", "active:is recurrence:again inactive:was remission:better resolved:over",
		"active:is recurrence:again relapse:again inactive:was remission:better resolved:over"},
	{"Condition.verificationStatus", "provisional:unsure differential:candidate confirmed:sure refuted:isnot entered-in-error:error unknown:unknown",
		"unconfirmed:unsure provisional:unsure differential:candidate confirmed:sure refuted:isnot entered-in-error:error unknown:unknown"},
	{"Observation.status", "registered:awaited preliminary:early final:done amended:changed corrected:changed cancelled:never entered-in-error:error unknown:unknown",
		"registered:awaited preliminary:early final:done amended:changed corrected:changed cancelled:never entered-in-error:error unknown:unknown"},
	{"DetectedIssue.status", "registered:awaited preliminary:early final:done amended:changed corrected:changed cancelled:never entered-in-error:error unknown:unknown",
		"registered:awaited preliminary:early final:done amended:changed corrected:changed cancelled:never entered-in-error:error unknown:unknown"},
	{"DiagnosticReport.status", "registered:awaited partial:part preliminary:early final:done amended:changed corrected:changed appended:changed cancelled:never entered-in-error:error unknown:unknown",
		"registered:awaited partial:part preliminary:early final:done amended:changed corrected:changed appended:changed cancelled:never entered-in-error:error unknown:unknown"},
	{"Encounter.status", "planned:planned arrived:here triaged:here in-progress:now onleave:away finished:done cancelled:never entered-in-error:error unknown:unknown",
		"planned:planned arrived:here triaged:here in-progress:now onleave:away finished:done cancelled:never entered-in-error:error unknown:unknown"},
	{"Encounter.statusHistory.status", "planned:planned arrived:here triaged:here in-progress:now onleave:away finished:done cancelled:never entered-in-error:error unknown:unknown",
		"planned:planned arrived:here triaged:here in-progress:now onleave:away finished:done cancelled:never entered-in-error:error unknown:unknown"},
	{"Encounter.location.status", "planned:planned active:now reserved:kept completed:done", "planned:planned active:now reserved:kept completed:done"},
	{"Immunization.status", "completed:done entered-in-error:error", "completed:done entered-in-error:error not-done:never"},
	{"MedicationStatement.status", "active:takes completed:took entered-in-error:error intended:will stopped:stopped on-hold:paused",
		"active:takes completed:took entered-in-error:error intended:will stopped:stopped on-hold:paused unknown:unknown not-taken:never"},
	{"MedicationRequest.status", "active:is on-hold:paused cancelled:never completed:done entered-in-error:error stopped:stopped draft:draft unknown:unknown",
		"active:is on-hold:paused cancelled:never completed:done entered-in-error:error stopped:stopped draft:draft unknown:unknown"},
	{"MedicationRequest.intent", "proposal:wish plan:plan order:order instance-order:instance",
		"proposal:wish plan:plan order:order original-order:order reflex-order:order filler-order:filler instance-order:instance option:option"},
	{"MedicationRequest.priority", "routine:routine urgent:urgent stat:stat asap:asap", "routine:routine urgent:urgent stat:stat asap:asap"},
	{"MedicationDispense.status", "preparation:soon in-progress:now on-hold:paused completed:done entered-in-error:error stopped:stopped",
		"preparation:soon in-progress:now cancelled:never on-hold:paused completed:done entered-in-error:error stopped:stopped declined:never unknown:unknown"},
	{"Medication.status", "active:is inactive:was entered-in-error:error", "active:is inactive:was entered-in-error:error"},
	{"ProcedureRequest.status", "draft:draft active:is suspended:paused cancelled:never completed:done entered-in-error:error unknown:unknown",
		"draft:draft active:is on-hold:paused revoked:never completed:done entered-in-error:error unknown:unknown"},
	{"ProcedureRequest.intent", "proposal:wish plan:plan order:order original-order:original reflex-order:reflex filler-order:filler instance-order:instance option:option",
		"proposal:wish plan:plan directive:order order:order original-order:original reflex-order:reflex filler-order:filler instance-order:instance option:option"},
	{"ProcedureRequest.priority", "routine:routine urgent:urgent stat:stat asap:asap", "routine:routine urgent:urgent stat:stat asap:asap"},
	{"ReferralRequest.status", "draft:draft active:is suspended:paused cancelled:never completed:done entered-in-error:error unknown:unknown",
		"draft:draft active:is on-hold:paused revoked:never completed:done entered-in-error:error unknown:unknown"},
	{"ReferralRequest.intent", "proposal:wish plan:plan order:order original-order:original reflex-order:reflex filler-order:filler instance-order:instance option:option",
		"proposal:wish plan:plan directive:order order:order original-order:original reflex-order:reflex filler-order:filler instance-order:instance option:option"},
	{"ReferralRequest.priority", "routine:routine urgent:urgent stat:stat asap:asap", "routine:routine urgent:urgent stat:stat asap:asap"},
	{"Procedure.status", "preparation:soon in-progress:now suspended:paused aborted:stopped completed:done entered-in-error:error unknown:unknown",
		"preparation:soon in-progress:now not-done:never on-hold:paused stopped:stopped completed:done entered-in-error:error unknown:unknown"},
	{"DocumentReference.status", "current:is superseded:replaced entered-in-error:error", "current:is superseded:replaced entered-in-error:error"},
	{"DocumentReference.docStatus", "preliminary:early final:done amended:changed entered-in-error:error", "preliminary:early final:done amended:changed entered-in-error:error"},
	{"DocumentReference.relatesTo.code", "replaces:replaces transforms:transforms signs:signs appends:appends", "replaces:replaces transforms:transforms signs:signs appends:appends"},
	{"Composition.status", "preliminary:early final:done amended:changed entered-in-error:error", "preliminary:early final:done amended:changed entered-in-error:error"},
	{"Composition.relatesTo.code", "replaces:replaces transforms:transforms signs:signs appends:appends", "replaces:replaces transforms:transforms signs:signs appends:appends"},
	{"Composition.confidentiality", "U:U L:L M:M N:N R:R V:V", "U:U L:L M:M N:N R:R V:V"},
	{"ClinicalImpression.status", "draft:now completed:done entered-in-error:error", "in-progress:now completed:done entered-in-error:error"},
	{"List.status", "current:is retired:was entered-in-error:error", "current:is retired:was entered-in-error:error"},
	{"List.mode", "working:kept snapshot:then changes:changes", "working:kept snapshot:then changes:changes"},
	{"Specimen.status", "available:is unavailable:gone unsatisfactory:bad entered-in-error:error", "available:is unavailable:gone unsatisfactory:bad entered-in-error:error"},
	{"Location.status", "active:is suspended:paused inactive:was", "active:is suspended:paused inactive:was"},
	{"Appointment.status", "proposed:wish pending:awaited booked:booked arrived:here fulfilled:done cancelled:never noshow:missed entered-in-error:error",
		"proposed:wish pending:awaited booked:booked arrived:here fulfilled:done cancelled:never noshow:missed entered-in-error:error checked-in:here waitlist:wish"},
	{"Appointment.participant.status", "accepted:yes declined:no tentative:perhaps needs-action:unasked", "accepted:yes declined:no tentative:perhaps needs-action:unasked"},
	{"Appointment.participant.required", "required:must optional:may information-only:told", "required:must optional:may information-only:told"},
	{"AppointmentResponse.participantStatus", "accepted:yes declined:no tentative:perhaps needs-action:unasked", "accepted:yes declined:no tentative:perhaps needs-action:unasked"},
	{"Slot.status", "busy:busy free:free busy-unavailable:shut busy-tentative:held entered-in-error:error", "busy:busy free:free busy-unavailable:shut busy-tentative:held entered-in-error:error"},
	{"QuestionnaireResponse.status", "in-progress:now completed:done amended:changed entered-in-error:error stopped:stopped",
		"in-progress:now completed:done amended:changed entered-in-error:error stopped:stopped"},
	{"Device.status", "active:is inactive:was entered-in-error:error unknown:unknown", "active:is inactive:was entered-in-error:error unknown:unknown"},
	{"DetectedIssue.severity", "high:high moderate:moderate low:low", "high:high moderate:moderate low:low"},
	{"Patient.link.type", "replaced-by:old replaces:new refer:use seealso:see", "replaced-by:old replaces:new refer:use seealso:see"},
	{"Patient.gender", "male:male female:female other:other unknown:unknown", "male:male female:female other:other unknown:unknown"},
	{"Quantity.comparator", "<:less <=:atmost >=:atleast >:more", "<:less <=:atmost >=:atleast >:more"},
}

// words reads "a:b c:d".
func words(s string) map[string]string {
	m := map[string]string{}
	for _, w := range strings.Fields(s) {
		code, class, _ := strings.Cut(w, ":")
		m[code] = class
	}
	return m
}

// nest makes a resource of a type with a value at a dotted path, in the lists that STU3 has on the way.
func nest(path, value string) string {
	typ, rest, _ := strings.Cut(path, ".")
	keys := strings.Split(rest, ".")
	if typ == "Quantity" {
		typ, keys = "Observation", []string{"valueQuantity", rest}
	}
	text := value
	at := tables.resources[typ]
	var lists []bool
	for _, k := range keys {
		r := at.rules[k]
		lists = append(lists, r.kind == complex && r.shape != nil && r.value == "" && r.many)
		at = r.shape
	}
	for i := len(keys) - 1; i >= 0; i-- {
		if lists[i] {
			text = "[" + text + "]"
		}
		text = `{"` + keys[i] + `":` + text + `}`
	}
	return `{"resourceType":"` + typ + `","id":"x",` + text[1:]
}

func converted(t testing.TB, resources ...string) []fhirjson.Value {
	t.Helper()
	var in []fhirjson.Entry
	for _, text := range resources {
		d, err := fhirjson.Parse([]byte(text), fhirjson.Limits{})
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		in = append(in, fhirjson.Entry{Resource: d.Root()})
	}
	r, err := Convert(in, "https://gp.example/fhir", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var out []fhirjson.Value
	for _, e := range r.Entries {
		out = append(out, e.Resource)
	}
	return out
}

// codeAt is the code at an element of what was converted: the code itself, or that of the CodeableConcept that it became.
func codeAt(v fhirjson.Value, path string) string {
	typ, rest, _ := strings.Cut(path, ".")
	if typ == "Quantity" {
		rest = "valueQuantity." + rest
	}
	for x := range v.Each(rest) {
		if x.Kind() == fhirjson.String {
			return x.Text()
		}
		if code := x.At("coding", "code"); code.Exists() {
			return code.Text()
		}
	}
	return ""
}

// TestStatusKeepsItsMeaning is hazard H-04, for every code of every value set that decides what an entry means.
func TestStatusKeepsItsMeaning(t *testing.T) {
	covered := map[string]bool{}
	for _, m := range meanings {
		covered[m.element] = true
		before, after := words(m.stu3), words(m.r4)
		listed := codesOf(t, m.element)
		for code := range listed {
			if before[code] == "" {
				t.Errorf("%s: %s is a code of STU3 without a meaning here", m.element, code)
			}
		}
		for code, class := range before {
			t.Run(m.element+"="+code, func(t *testing.T) {
				if !listed[code] {
					t.Fatalf("elements.txt does not know the code")
				}
				got := codeAt(converted(t, nest(m.element, `"`+code+`"`))[0], m.element)
				if m.element == "Condition.verificationStatus" && code == "unknown" {
					// R4 has no such code. Nothing is said of how sure it is, which is what unknown means; the word is kept.
					if v := converted(t, nest(m.element, `"`+code+`"`))[0]; got != "" || !v.At("verificationStatus", "text").Is("unknown") {
						t.Errorf("got %q in %s", got, v.Raw())
					}
					return
				}
				if got == "" || after[got] != class {
					t.Errorf("becomes %q, which means %q, not %q", got, after[got], class)
				}
			})
		}
		t.Run(m.element+"=no code at all", func(t *testing.T) {
			v := converted(t, nest(m.element, `"nonsense"`))[0]
			if got := codeAt(v, m.element); got != "" || !strings.Contains(string(v.Raw()), "nonsense") || !strings.Contains(string(v.Raw()), UnmappedURL) {
				t.Errorf("becomes %q in %s", got, v.Raw())
			}
		})
	}
	// Whatever else has a code keeps it: nothing may be renamed without a meaning above.
	for name, s := range tables.resources {
		eachRule(s, map[*shape]bool{}, func(r *rule) {
			if r.codes == nil || covered[r.path] {
				return
			}
			last := r.path[strings.LastIndexByte(r.path, '.')+1:]
			if strings.Contains(strings.ToLower(last), "status") || r.system != "" || last == "intent" || last == "taken" && name != "MedicationStatement" {
				t.Errorf("%s decides what an entry means and is not in the table", r.path)
			}
			for from, to := range r.codes {
				if from != to {
					t.Errorf("%s: %s becomes %s, and no meaning is given", r.path, from, to)
				}
			}
		})
	}
}

func eachRule(s *shape, seen map[*shape]bool, f func(r *rule)) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	for _, r := range s.rules {
		f(r)
		eachRule(r.shape, seen, f)
	}
}

func codesOf(t *testing.T, element string) map[string]bool {
	t.Helper()
	typ, rest, _ := strings.Cut(element, ".")
	at := tables.resources[typ]
	if at == nil {
		at = tables.datatypes[typ]
	}
	var r *rule
	for k := range strings.SplitSeq(rest, ".") {
		if r = at.rules[k]; r == nil {
			t.Fatalf("no element %s", element)
		}
		at = r.shape
	}
	out := map[string]bool{}
	for code := range r.codes {
		out[code] = true
	}
	return out
}

// TestNegationKeepsItsMeaning is hazard H-04 where two elements say together what an entry means: every pair of codes.
func TestNegationKeepsItsMeaning(t *testing.T) {
	type pair struct{ status, negation string }
	for _, c := range []struct {
		typ, element string
		want         func(p pair) string
		statuses     []string
		negations    []string
	}{
		{"MedicationStatement", "taken", func(p pair) string {
			if p.negation == `"n"` && (p.status == "active" || p.status == "completed") {
				return "not-taken"
			}
			return p.status
		}, strings.Fields("active completed entered-in-error intended stopped on-hold"), []string{`"y"`, `"n"`, `"unk"`, `"na"`}},
		{"Immunization", "notGiven", func(p pair) string {
			if p.negation == "true" && p.status == "completed" {
				return "not-done"
			}
			return p.status
		}, strings.Fields("completed entered-in-error"), []string{"true", "false"}},
		{"Procedure", "notDone", func(p pair) string {
			if p.negation == "true" && p.status != "entered-in-error" {
				return "not-done"
			}
			return map[string]string{"suspended": "on-hold", "aborted": "stopped"}[p.status] + map[bool]string{true: "", false: p.status}[p.status == "suspended" || p.status == "aborted"]
		}, strings.Fields("preparation in-progress suspended aborted completed entered-in-error unknown"), []string{"true", "false"}},
		{"MedicationDispense", "notDone", func(p pair) string {
			if p.negation == "true" && p.status != "entered-in-error" {
				return "declined"
			}
			return p.status
		}, strings.Fields("preparation in-progress on-hold completed entered-in-error stopped"), []string{"true", "false"}},
	} {
		for _, status := range c.statuses {
			for _, negation := range c.negations {
				t.Run(fmt.Sprintf("%s %s %s=%s", c.typ, status, c.element, negation), func(t *testing.T) {
					first := `"status":"` + status + `","` + c.element + `":` + negation
					second := `"` + c.element + `":` + negation + `,"status":"` + status + `"`
					for _, members := range []string{first, second} { // whichever comes first
						v := converted(t, `{"resourceType":"`+c.typ+`",`+members+`}`)[0]
						if got, want := v.Get("status").Text(), c.want(pair{status, negation}); got != want {
							t.Errorf("status is %q, want %q", got, want)
						}
						// What was said is either in the status or still there.
						lost := c.want(pair{status, negation}) == status && (negation == `"n"` || negation == "true") && !strings.Contains(string(v.Raw()), "."+c.element)
						if lost {
							t.Errorf("the negation is lost in %s", v.Raw())
						}
					}
				})
			}
		}
		v := converted(t, `{"resourceType":"`+c.typ+`","`+c.element+`":`+map[bool]string{true: `"n"`, false: "true"}[c.element == "taken"]+`}`)[0]
		if got := v.Get("status").Text(); !slices.Contains([]string{"not-taken", "not-done", "declined"}, got) && !strings.Contains(string(v.Raw()), "."+c.element) {
			t.Errorf("%s without a status: %s", c.typ, v.Raw())
		}
	}
}
