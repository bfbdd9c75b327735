package merge

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// A custodian that aims at our time must not get more of it than its bytes are worth: each shape would take minutes if the work grew with
// the square of its size, and takes well under a second.
func TestHostileShapesStayLinear(t *testing.T) {
	n := 20_000
	if thinned {
		n = 4_000
	}
	many := func(format string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = strings.ReplaceAll(format, "%", fmt.Sprint(i))
		}
		return out
	}
	members := func(format string) string { return strings.Join(many(format), ",") }
	next := func(format string) []string { // % is the number of the resource, @ of the one after it
		out := make([]string, n)
		for i := range out {
			out[i] = strings.NewReplacer("%", fmt.Sprint(i), "@", fmt.Sprint(i+1)).Replace(format)
		}
		return out
	}
	for _, c := range []struct {
		name  string
		texts []string
	}{
		{"copies that differ", many(`{"resourceType":"Observation","id":"1",` + toAda + `,"valueInteger":%}`)},
		{"copies of somebody else's", many(`{"resourceType":"Observation","id":"1","subject":{"reference":"Patient/q"},"valueInteger":%}`)},
		{"the same bytes", many(`{"resourceType":"Observation","id":"1",` + toAda + `}`)},
		{"no ids, one identifier", many(`{"resourceType":"Observation",` + toAda + `,"identifier":[{"system":"s","value":"v"}],"valueInteger":%}`)},
		{"a list of withheld lines", append(many(`{"resourceType":"Condition","id":"%",`+toAda+`,"code":{"text":"anxiety"}}`),
			`{`+members(`"x%":1`)+`,"entry":[`+members(`{"item":{"reference":"Condition/%"}}`)+`],"id":"l",`+toAda+`,"resourceType":"List"}`)},
		{"contained lists of withheld lines", append(many(`{"resourceType":"Condition","id":"%",`+toAda+`,"code":{"text":"anxiety"}}`),
			`{"resourceType":"CarePlan","id":"l",`+toAda+`,"contained":[`+members(`{"entry":[{"item":{"reference":"Condition/%"}}],"resourceType":"List"}`)+`]}`)},
		{"references beside many members", []string{`{"resourceType":"Provenance","id":"l",` + members(`"x%":{"reference":"Basic/%"}`) + `,"target":[{"reference":"Patient/p"}]}`}},
		{"contained that refer to contained", []string{`{"resourceType":"CarePlan","id":"l",` + toAda + `,"contained":[` + members(`{"resourceType":"Observation","id":"c%","performer":[{"reference":"#c%"}]}`) + `]}`}},
		{"a chain of addresses from a withheld one", append(next(`{"resourceType":"Basic","id":"%",`+toAda+`,"extension":[{"url":"u","valueUri":"Basic/@"}]}`),
			`{"resourceType":"Basic","id":"`+fmt.Sprint(n)+`",`+toAda+`,"code":{"coding":[{"code":"SECRET"}]}}`)},
		{"a chain of Encounters", next(`{"resourceType":"Encounter","id":"%",` + toAda + `,"partOf":{"reference":"Encounter/@"}}`)},
		{"a chain of Organizations", append(next(`{"resourceType":"Organization","id":"%","partOf":{"reference":"Organization/@"}}`),
			`{"resourceType":"Encounter","id":"e",`+toAda+`,"serviceProvider":{"reference":"Organization/0"}}`)},
		{"a list of lines that lead nowhere", []string{`{"resourceType":"List","id":"l",` + toAda + `,"entry":[` + members(`{"item":{"reference":"#%"}}`) + `]}`}},
		{"a contained one of many references, its type last", []string{`{"resourceType":"CarePlan","id":"l",` + toAda + `,"contained":[{` + members(`"x%":{"reference":"Basic/%"}`) + `,"resourceType":"Observation"}]}`}},
		{"many codes", []string{`{"resourceType":"Observation","id":"l",` + toAda + `,"code":{"coding":[` + members(`{"code":"%"}`) + `]}}`}},
		{"many that refer to one of many codings", append(many(`{"resourceType":"MedicationRequest","id":"%",`+toAda+`,"authoredOn":"2020-01-01","medicationReference":{"reference":"Medication/m"}}`),
			`{"resourceType":"Medication","id":"m","code":{"coding":[`+members(`{"system":"s","code":"%"}`)+`]}}`)},
		{"many references to a contained Patient of many identifiers", []string{`{"resourceType":"Composition","id":"c",` + toAda + `,"contained":[{"resourceType":"Patient","id":"x","identifier":[` + members(`%`) +
			`,{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + asked + `"}]}],"author":[` + members(`{"reference":"#x","display":"%"}`) + `]}`}},
		{"many of a Specimen that was collected many times", append(many(`{"resourceType":"Observation","id":"%",`+toAda+`,"specimen":{"reference":"Specimen/s"}}`),
			`{"resourceType":"Specimen","id":"s",`+toAda+`,"collection":[`+members(`{"x":%}`)+`]}`)},
		{"copies of one with a large meta", append(many(`{"resourceType":"Observation","id":"1",`+toAda+`,"valueInteger":%}`),
			`{"z":1,"resourceType":"Observation","id":"1",`+toAda+`,"meta":{`+members(`"x%":1`)+`}}`)},
		{"copies at many roots", append(many(`https://gp.example/%/Observation/1 {"resourceType":"Observation","id":"1","subject":{"reference":"https://gp.example/fhir/Patient/p"},"hasMember":[{"reference":"Observation/1"}]}`), depression)},
		{"Encounters of one identifier, by which many refer to them", append(many(`{"resourceType":"Encounter","id":"%",`+toAda+`,"identifier":[{"system":"s","value":"v"}],"partOf":{"identifier":{"value":"v"}}}`),
			many(`{"resourceType":"Observation","id":"%",`+toAda+`,"encounter":{"reference":"Encounter?identifier=s|v"}}`)...)},
		{"addresses that ask for what many carry", append(many(`{"resourceType":"Condition","id":"%",`+toAda+`,"code":{"text":"anxiety"},"identifier":[{"system":"s","value":"v"}]}`),
			many(`{"resourceType":"Observation","id":"%",`+toAda+`,"extension":[{"url":"u","valueUri":"Condition?identifier=v"}]}`)...)},
		{"questions of many ids, their commas escaped", []string{depression, `{"resourceType":"Observation","id":"l",` + toAda + `,"focus":[` + members(`{"reference":"Condition?_id=%%2Ca%2Cb%2Cc"}`) + `]}`}},
		{"questions of many ids", []string{depression, `{"resourceType":"Observation","id":"l",` + toAda + `,"focus":[` + members(`{"reference":"Condition?_id=%&_id=%&_id=%&_id=%"}`) + `]}`}},
		{"a question of very many ids, of a long address", []string{depression, `{"resourceType":"Observation","id":"l",` + toAda + `,"focus":[{"reference":"` + strings.Repeat("a", 20*n) + `/Condition?` + strings.Repeat("_id=a&", 4*n) + `"}]}`}},
		{"one identifier of many, and who cites it", []string{strings.Replace(depression, `{"system":"urn:s","value":"secret-number"}`, members(`{"system":"s","value":"v"}`), 1),
			`{"resourceType":"Observation","id":"l",` + toAda + `,"focus":[` + members(`{"identifier":{"system":"s","value":"v"}}`) + `]}`}},
		{"copies of Encounters, part of each other", next(`{"resourceType":"Encounter","id":"e",` + toAda + `,"length":{"value":%},"partOf":{"reference":"Encounter/e"}}`)},
		{"many Patients", many(`{"resourceType":"Patient","id":"q%"}`)},
	} {
		reply := bare(t, ada)
		for _, text := range c.texts {
			reply.Entries = append(reply.Entries, entryOf(t, text))
		}
		rules := without(record.MentalHealth)
		rules.Excluded = CodesOf(Code{"", "SECRET"})
		begin := time.Now()
		p := prepare(t, request(t), rules, reply)
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %v", c.name, took)
		} else if testing.Verbose() {
			t.Logf("%s: %v, %+v", c.name, took, p.Counts)
		}
		if c.name == "a chain of addresses from a withheld one" && p.Counts.Withheld != n+1 {
			t.Errorf("%s: %+v", c.name, p.Counts)
		}
	}
}

// What differs within a group is found out in work and memory that grow with the entries and not with their number times the largest, and is said in
// little, whatever one custodian sends to be compared with what another holds.
func TestDifferencesOfHostileEntries(t *testing.T) {
	const code = `"code":{"coding":[{"system":"http://snomed.info/sct","code":"716186003"}]},"patient":{"reference":"Patient/p"}`
	allergy := func(id, more string) string {
		return `{"resourceType":"AllergyIntolerance","id":"` + id + `",` + code + more + `}`
	}
	members := func(n int, format string) string {
		out := make([]string, n)
		for i := range out {
			out[i] = strings.ReplaceAll(format, "%", fmt.Sprint(i))
		}
		return strings.Join(out, ",")
	}
	small := func(more string) []string {
		out := make([]string, 1000)
		for i := range out {
			out[i] = allergy(fmt.Sprintf("s%d", i), more)
		}
		return out
	}
	nested := func(name, inside string) string {
		return strings.Repeat(`"`+name+`":{`, 50) + inside + strings.Repeat("}", 50)
	}
	backwards := func(n int, last string) string {
		out := strings.Split(members(n, `"k%":1`), ",")
		slices.Reverse(out)
		return strings.Join(append(out, last), ",")
	}
	long := strings.Repeat("n", maxElementNameSize)
	for _, c := range []struct {
		name    string
		hostile []string
		want    string
	}{
		{"one that is large, and many that are not", append(small(""), allergy("big", `,"recordedDate":"2026-01-01",`+members(5000, `"k%":1`))), "AllergyIntolerance"},
		{"one whose element is large, and many whose is not", append(small(`,"x":{}`), allergy("big", `,"recordedDate":"2026-01-01","x":{`+members(5000, `"k%":1`)+`}`)),
			"AllergyIntolerance.recordedDate AllergyIntolerance.x"},
		{"one of many members that are no elements", append(small(`,"x":{}`), allergy("big", `,"recordedDate":"2026-01-01","x":{`+members(5000, `"k %":1`)+`}`)),
			"AllergyIntolerance.recordedDate AllergyIntolerance.x"},
		{"long names, far down", []string{allergy("a", `,"recordedDate":"2026-01-01",`+nested(long, members(5000, `"k%":1`))), allergy("b", `,"recordedDate":"2025-01-01",`+nested(long, `"z":1`))},
			"AllergyIntolerance." + long + " AllergyIntolerance.recordedDate"},
		{"the last of many, in another order, far down", []string{allergy("a", `,"recordedDate":"2026-01-01",`+nested("x", members(5000, `"k%":1`)+`,"z":1`)), allergy("b", `,"recordedDate":"2025-01-01",`+nested("x", backwards(5000, `"z":2`)))},
			"AllergyIntolerance.recordedDate AllergyIntolerance.x AllergyIntolerance" + strings.Repeat(".x", 50) + ".z"},
	} {
		parts := []Prepared{at(t, "gp", everything, c.hostile...), at(t, "acute", everything, allergy("h", ""))}
		size := 0
		for _, p := range parts {
			for i := range p.Entries {
				size += len(p.Entries[i].JSON)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		found := groups(parts)
		runtime.ReadMemStats(&after)
		used := int(after.TotalAlloc - before.TotalAlloc)
		if used > 24*size {
			t.Errorf("%s: %d bytes of memory for %d bytes of entries", c.name, used, size)
		} else if testing.Verbose() {
			t.Logf("%s: %d bytes of memory for %d bytes of entries", c.name, used, size)
		}
		if len(found) != 1 || strings.Join(found[0].Differs, " ") != c.want {
			t.Errorf("%s: %d groups that differ in %.500q, want %s", c.name, len(found), found[0].Differs, c.want)
		}
	}
}
