package hl7v2_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// sampleFiles are the published messages beside the repository. In a bare clone there are none; where CI is set there must be.
func sampleFiles(t testing.TB) []string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "..", "..", "..", "shared", "data", "hl7v2", "*", "*"))
	if err != nil || len(files) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("the sample data is missing: put it in shared/data beside the repository")
		}
		t.Skip("no sample data: this test reads shared/data beside the repository")
	}
	return files
}

// What follows is a second reader of HL7 v2, as simple as can be, and shares nothing with the adapter.

type line []string // line[0] is the segment's name, line[n] its field n

func (l line) at(n int) string {
	if n < len(l) {
		return l[n]
	}
	return ""
}

func component(field string, n int) string {
	parts := strings.Split(strings.Split(field, "~")[0], "^")
	if n > len(parts) {
		return ""
	}
	return plain(strings.Split(parts[n-1], "&")[0])
}

func plain(s string) string {
	if s == `""` {
		return ""
	}
	return strings.NewReplacer(`\T\`, "&", `\S\`, "^", `\F\`, "|", `\R\`, "~", `\E\`, `\`, `\.br\`, "\n").Replace(s)
}

func lines(text []byte) []line {
	var out []line
	for l := range strings.SplitSeq(strings.ReplaceAll(strings.TrimPrefix(string(text), "\ufeff"), "\r", "\n"), "\n") {
		if l != "" {
			out = append(out, strings.Split(l, "|"))
		}
	}
	return out
}

// resource is one that the adapter made, read with encoding/json, numbers as text.
type resource map[string]any

// get follows keys; a number is an index into a list.
func (r resource) get(keys ...any) any {
	var v any = map[string]any(r)
	for _, k := range keys {
		switch k := k.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

func (r resource) text(keys ...any) string {
	switch v := r.get(keys...).(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// kept is the text that stands beside an element, where the element could not hold it.
func (r resource) kept(key string) string {
	l, _ := r.get("_"+key, "extension").([]any)
	for _, e := range l {
		m, _ := e.(map[string]any)
		if s, _ := m["valueString"].(string); s != "" {
			return s
		}
	}
	return ""
}

func converted(t testing.TB, text []byte) ([]resource, map[string]int) {
	t.Helper()
	out, unconverted, err := hl7v2.Convert(text, "ASCII", number(t, held))
	if err != nil {
		t.Fatalf("not read: %v", err)
	}
	if _, err := fhirjson.Parse(out, fhirjson.Limits{}); err != nil {
		t.Fatalf("what was made is no strict JSON: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber()
	var list []resource
	if err := d.Decode(&list); err != nil {
		t.Fatal("what was made is no list of resources")
	}
	return list, unconverted
}

// back turns a FHIR date or time into HL7's way of writing it.
func back(s string) string {
	day, clock, timed := strings.Cut(s, "T")
	day = strings.ReplaceAll(day, "-", "")
	if timed {
		clock = strings.TrimSuffix(clock, "Z")
		if i := strings.LastIndexAny(clock, "+-"); i >= 0 {
			return day + strings.ReplaceAll(clock[:i], ":", "") + clock[i:i+1] + strings.ReplaceAll(clock[i+1:], ":", "")
		}
	}
	return day + strings.ReplaceAll(clock, ":", "")
}

// sameTime reports whether an element says exactly what the message says, or the message's text stands beside it.
func (r resource) sameTime(key, raw string) bool {
	return back(r.text(key)) == raw || r.kept(key) == raw
}

// statuses are HL7 table 0085 in FHIR's words, written down a second time.
var statuses = map[string]string{"F": "final", "P": "preliminary", "S": "preliminary", "R": "preliminary", "C": "corrected", "A": "amended", "B": "amended",
	"U": "final", "I": "registered", "X": "cancelled", "D": "entered-in-error", "W": "entered-in-error"}

// Every published message is read, and every result in it has its number, unit, range, flags, time, code, status and words as the message has them,
// character by character.
func TestSamples(t *testing.T) {
	count := map[string]int{}
	for _, file := range sampleFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal("cannot be opened")
			}
			all, _ := converted(t, text)
			count["messages"]++
			compare(t, lines(text), all, count)
		})
	}
	t.Logf("compared: %v", count)
	for what, least := range map[string]int{"messages": 23, "numbers": 40, "units": 36, "ranges": 25, "flags": 30, "times": 60, "words": 19, "codes": 20, "data": 3, "lines of documents": 29, "results": 80} {
		if count[what] < least {
			t.Errorf("%d %s were compared, want at least %d: the comparison does not see them", count[what], what, least)
		}
	}
}

// compare holds the OBX of a message, in order, against the resources made of them.
func compare(t *testing.T, message []line, all []resource, count map[string]int) {
	t.Helper()
	kinds := map[string]bool{} // of documents that a TXA describes
	for _, l := range message {
		if l[0] == "TXA" {
			kinds[component(l.at(2), 1)] = true
		}
	}
	var results, documents []resource
	for _, r := range all {
		switch {
		case r.text("resourceType") == "Observation":
			results = append(results, r)
		case r.text("resourceType") == "DocumentReference" && kinds[r.text("type", "coding", 0, "code")]:
			documents = append(documents, r)
		case r.text("resourceType") == "DocumentReference":
			results = append(results, r)
		}
	}
	inDocument := false
	for _, l := range message {
		switch l[0] {
		case "TXA":
			inDocument = true
		case "PID", "PV1", "ORC", "OBR":
			inDocument = false
		case "OBX":
			status := component(l.at(11), 1)
			if inDocument && slices.Contains([]string{"ED", "RP", "TX", "FT", "ST"}, l.at(2)) && slices.Contains([]string{"", "A", "C", "F", "P", "R", "S", "U"}, status) {
				inDocuments(t, l, documents, count)
				continue
			}
			if len(results) == 0 {
				t.Fatal("there are more results in the message than resources")
			}
			result(t, l, results[0], count)
			results = results[1:]
			count["results"]++
		}
	}
	if len(results) > 0 {
		t.Errorf("%d resources more than results", len(results))
	}
}

// inDocuments finds an OBX in the content of a document.
func inDocuments(t *testing.T, l line, documents []resource, count map[string]int) {
	t.Helper()
	for _, d := range documents {
		contents, _ := d["content"].([]any)
		for i := range contents {
			data := d.text("content", i, "attachment", "data")
			decoded, _ := base64.StdEncoding.DecodeString(data)
			if l.at(2) == "ED" && (component(l.at(5), 5) == "" || data == component(l.at(5), 5)) || slices.Contains(strings.Split(string(decoded), "\n"), plain(l.at(5))) {
				count["lines of documents"]++
				return
			}
		}
	}
	t.Error("an OBX is not in the document that it belongs to")
}

// result holds one OBX against its resource.
func result(t *testing.T, l line, r resource, count map[string]int) {
	t.Helper()
	differs := func(what string) { t.Errorf("OBX-1 %s: the %s is not what the message has", l.at(1), what) }
	if component(l.at(3), 1) != "" {
		element := "code"
		if r.text("resourceType") == "DocumentReference" {
			element = "type"
		}
		if r.text(element, "coding", 0, "code") != component(l.at(3), 1) || r.text(element, "coding", 0, "display") != component(l.at(3), 2) {
			differs("code")
		}
	}
	if r.text("resourceType") == "DocumentReference" {
		data := component(l.at(5), 5)
		if got := r.text("content", 0, "attachment", "data"); data != "" && got != data && !strings.HasSuffix(r.text("content", 0, "attachment", "extension", 0, "valueString"), ": "+data) {
			differs("data")
		}
		if l.at(2) == "RP" && r.text("content", 0, "attachment", "url") != component(l.at(5), 1) {
			differs("address")
		}
		count["data"]++
		return
	}
	if want, known := statuses[component(l.at(11), 1)]; known && r.text("status") != want || !known && (r.text("status") != "unknown" || r.kept("status") != component(l.at(11), 1)) {
		differs("status")
	}
	if at := component(l.at(14), 1); at != "" {
		if !r.sameTime("effectiveDateTime", at) {
			differs("time")
		}
		count["times"]++
	}
	if at := component(l.at(19), 1); at != "" {
		if !r.sameTime("issued", at) {
			differs("time of analysis")
		}
		count["times"]++
	}
	if x := l.at(7); x != "" {
		if r.text("referenceRange", 0, "text") != plain(x) {
			differs("range")
		}
		count["ranges"]++
	}
	for i, f := range strings.Split(l.at(8), "~") {
		if f != "" {
			if r.text("interpretation", i, "coding", 0, "code") != component(f, 1) {
				differs("flag")
			}
			count["flags"]++
		}
	}
	values := strings.Split(l.at(5), "~")
	for i, v := range values {
		if v != "" {
			path := []any{}
			if len(values) > 1 && !slices.Contains([]string{"ST", "TX", "FT"}, l.at(2)) {
				path = []any{"component", i}
			}
			value(t, l, r, path, v, differs, count)
		}
	}
}

// value holds one value of an OBX against an element.
func value(t *testing.T, l line, r resource, path []any, v string, differs func(string), count map[string]int) {
	t.Helper()
	at := func(keys ...any) string { return r.text(append(slices.Clone(path), keys...)...) }
	switch l.at(2) {
	case "NM":
		if at("valueQuantity", "comparator")+at("valueQuantity", "value") != plain(v) {
			differs("number")
		}
		count["numbers"]++
		if unit := component(l.at(6), 1); unit != "" {
			if at("valueQuantity", "code") != unit && at("valueQuantity", "unit") != unit {
				differs("unit")
			}
			count["units"]++
		}
	case "CE", "CWE", "CNE":
		if at("valueCodeableConcept", "coding", 0, "code") != component(v, 1) || at("valueCodeableConcept", "coding", 0, "display") != component(v, 2) {
			if component(v, 1) != "" || at("valueCodeableConcept", "text") != component(v, 2) {
				differs("coded value")
			}
		}
		if words := component(v, 9); words != "" && at("valueCodeableConcept", "text") != words {
			differs("words of the coded value")
		}
		count["codes"]++
	case "DT", "DTM", "TS":
		if back(at("valueDateTime")) != v {
			differs("time in the value")
		}
		count["times"]++
	default:
		if at("valueString") != plain(v) && !strings.Contains(at("valueString"), plain(v)) {
			differs("text")
		}
		count["words"]++
	}
}

// mapped are the places whose text may be a code that became one of FHIR's: the tables' own tests are elsewhere.
var mapped = map[string]bool{"PID-8": true, "PV1-2": true, "OBX-2": true, "OBX-11": true, "OBR-25": true, "TXA-17": true, "TXA-18": true, "TXA-19": true,
	"AL1-2": true, "AL1-4": true, "DG1-6": true, "OBX-5": true /* held above */}

// Nothing of a message is lost: every piece of every segment stands somewhere in what was made of it, as it was, or as a time in FHIR's form, but for
// segments of the message's own and financial ones.
func TestSamplesAreConserved(t *testing.T) {
	aside := []string{"MSH", "SFT", "UAC", "IN1", "IN2", "IN3", "GT1", "FT1", "DRG", "UB1", "UB2", "BLG"}
	pieces := 0
	for _, file := range sampleFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal("cannot be opened")
			}
			all, _ := converted(t, text)
			var said strings.Builder
			for _, r := range all {
				strings_(map[string]any(r), &said)
			}
			blob := said.String()
			missing := map[string]int{}
			for _, l := range lines(text) {
				if slices.Contains(aside, l[0]) {
					continue
				}
				for n := 2; n < len(l); n++ {
					place := fmt.Sprintf("%s-%d", l[0], n)
					if mapped[place] {
						continue
					}
					for _, piece := range strings.FieldsFunc(l[n], func(r rune) bool { return r == '^' || r == '~' || r == '&' }) {
						if p := strings.TrimSpace(plain(piece)); len(p) > 1 && !strings.Contains(blob, p) && !strings.Contains(blob, strings.TrimSpace(piece)) {
							missing[place+" "+fmt.Sprint(len(p))]++
						}
						pieces++
					}
				}
			}
			for place, n := range missing {
				t.Errorf("%s: %d pieces are nowhere in what was made of it", place, n)
			}
		})
	}
	if pieces < 2000 {
		t.Errorf("looked for %d pieces only", pieces)
	}
}

// strings_ collects every text of a value, times in both forms.
func strings_(v any, out *strings.Builder) {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			strings_(x, out)
		}
	case []any:
		for _, x := range v {
			strings_(x, out)
		}
	case string:
		out.WriteString(v + "\x00" + back(v) + "\x00")
	case json.Number:
		out.WriteString(v.String() + "\x00")
	}
}
