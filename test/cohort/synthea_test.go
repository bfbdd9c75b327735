package cohort_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/cohort"
)

// sharedData returns a folder of the sample data, which lies beside the repository.
func sharedData(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("not inside the module")
		}
	}
	path := filepath.Join(filepath.Dir(dir), "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the sample data is missing: put it beside the repository, in shared/data")
		}
		t.Skip("no sample data beside the repository (shared/data): nothing to split")
	}
	return path
}

type object = map[string]any

func decode(t *testing.T, text []byte) object {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var o object
	if err := d.Decode(&o); err != nil {
		t.Fatal("not a JSON object")
	}
	return o
}

// source reads a whole-patient file in its own way, and returns its resources by Type/id, and full URLs.
func source(t *testing.T, path string) (map[string]object, map[string]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if text, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	out, urls := map[string]object{}, map[string]string{}
	for _, e := range decode(t, text)["entry"].([]any) {
		r := e.(object)["resource"].(object)
		key := r["resourceType"].(string) + "/" + r["id"].(string)
		out[key] = r
		if u, ok := e.(object)["fullUrl"].(string); ok {
			urls[u] = key
		}
	}
	return out, urls
}

// blank removes what the split may change: the text of references, and the identifier that stands in for one.
func blank(v any) {
	switch v := v.(type) {
	case object:
		ref, literal := v["reference"].(string)
		if literal || v["type"] != nil && v["identifier"] != nil {
			if !strings.HasPrefix(ref, "#") {
				delete(v, "reference")
				delete(v, "type")
				delete(v, "identifier")
			}
		}
		for _, x := range v {
			blank(x)
		}
	case []any:
		for _, x := range v {
			blank(x)
		}
	}
}

func refs(v any, out *[]string) {
	switch v := v.(type) {
	case object:
		if s, ok := v["reference"].(string); ok {
			*out = append(*out, s)
		}
		for _, x := range v {
			refs(x, out)
		}
	case []any:
		for _, x := range v {
			refs(x, out)
		}
	}
}

func financial(typ string) bool {
	return slices.Contains([]string{"Claim", "ClaimResponse", "ExplanationOfBenefit", "Coverage"}, typ)
}

func sharedType(typ string) bool {
	return slices.Contains([]string{"Practitioner", "PractitionerRole", "Organization", "Location", "Medication"}, typ)
}

// some returns a folder with the sample people whose file names match, and the directory.
func some(t *testing.T, patterns ...string) string {
	t.Helper()
	data, dir := sharedData(t, "synthea-r4"), t.TempDir()
	for _, pattern := range append(patterns, "info") {
		found, err := filepath.Glob(filepath.Join(data, pattern))
		if err != nil || len(found) != 1 {
			t.Fatal("the sample data is not as it was")
		}
		if err := os.Symlink(found[0], filepath.Join(dir, filepath.Base(found[0]))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSyntheaLosesNothing(t *testing.T) {
	dir, all := sharedData(t, "synthea-r4"), 11
	if raceDetector { // those with all that is odd: conditional references, contained resources, a Provenance; and many encounters
		dir, all = some(t, "Lawrence741*", "Trenton*"), 2
	}
	began := time.Now()
	people, manifest, err := cohort.Synthea(dir)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if len(people) != all || len(manifest.People) != all {
		t.Fatalf("%d people, want %d", len(people), all)
	}
	total, held, numbers := 0, map[string]int{}, map[string]bool{}
	for i, p := range people {
		m := manifest.People[i]
		t.Run(p.Bundle, func(t *testing.T) {
			in, urls := source(t, filepath.Join(dir, p.Bundle))
			if m.Input != len(in) || m.Bundle != p.Bundle || m.NHSNumber != p.NHSNumber || numbers[p.NHSNumber] || !strings.HasPrefix(p.NHSNumber, "999") || p.Standing != cohort.Live {
				t.Error("the manifest, the number or the standing is wrong")
			}
			numbers[p.NHSNumber] = true
			total += len(in)

			at := map[string][]string{} // source key -> custodians that hold it
			for key, list := range p.Records {
				mc := m.Custodians[key]
				if len(mc.Resources) != len(list) || len(list) < 2 {
					t.Errorf("%s: %d resources, the manifest lists %d", key, len(list), len(mc.Resources))
					continue
				}
				held[key] += len(list)
				here := map[string]bool{}
				for n, raw := range list {
					r := decode(t, raw)
					k := r["resourceType"].(string) + "/" + r["id"].(string)
					sum := sha256.Sum256(raw)
					if got := mc.Resources[n]; got.Type+"/"+got.ID != k || got.SHA256 != hex.EncodeToString(sum[:]) {
						t.Errorf("%s: resource %d is not the manifest's", key, n)
					}
					if here[k] {
						t.Errorf("%s: a resource twice", key)
					}
					here[k] = true
				}
				for _, raw := range list {
					r := decode(t, raw)
					k := r["resourceType"].(string) + "/" + r["id"].(string)
					if k == "Patient/"+mc.Patient {
						k = "Patient/" + m.SourcePatient
						r["id"] = m.SourcePatient
						ids := r["identifier"].([]any)
						if n := ids[0].(object); n["value"] != p.NHSNumber || n["system"] != "https://fhir.nhs.uk/Id/nhs-number" {
							t.Errorf("%s: the Patient has no NHS number", key)
						}
						r["identifier"] = ids[1:]
					}
					var list []string
					refs(r, &list)
					for _, ref := range list {
						other, absolute := strings.CutPrefix(ref, "https://")
						switch {
						case strings.HasPrefix(ref, "#") || here[ref]:
						case absolute:
							keeper, rest, _ := strings.Cut(other, ".example.org/fhir/")
							if !slices.ContainsFunc(m.Custodians[keeper].Resources, func(x cohort.ManifestResource) bool { return x.Type+"/"+x.ID == rest }) {
								t.Errorf("%s: a reference leads to a custodian that does not hold its target", key)
							}
						default:
							if typ, _, _ := strings.Cut(ref, "/"); in[ref] != nil && !financial(typ) || urls[ref] != "" || strings.Contains(ref, "?identifier=") {
								t.Errorf("%s: a reference that the file resolves is left dangling, of type %s", key, typ)
							}
						}
					}
					at[k] = append(at[k], key)
					want, known := in[k]
					if !known {
						if typ, _, _ := strings.Cut(k, "/"); !sharedType(typ) {
							t.Errorf("%s: a %s that is not in the file", key, typ)
						}
						continue // of the directory
					}
					want = decode(t, reencode(t, want)) // a copy: references are blanked in place
					blank(r)
					blank(want)
					if !reflect.DeepEqual(r, want) {
						t.Errorf("%s: a %s was altered", key, r["resourceType"])
					}
				}
			}
			left := map[string]int{}
			for k := range in {
				typ, _, _ := strings.Cut(k, "/")
				switch n := len(at[k]); {
				case financial(typ):
					left[typ]++
					if n > 0 {
						t.Errorf("a %s was not left out", typ)
					}
				case typ == "Patient":
					if n != len(p.Records) {
						t.Errorf("the Patient stands at %d custodians of %d", n, len(p.Records))
					}
				case sharedType(typ):
					if (n == 0) != slices.Contains(m.Unreferenced, k) {
						t.Errorf("a %s is held by %d, against the manifest", typ, n)
					}
				case n != 1:
					t.Errorf("a %s stands at %d custodians, want one", typ, n)
				}
			}
			if !maps.Equal(left, m.LeftOut) {
				t.Errorf("left out %v, the manifest says %v", left, m.LeftOut)
			}
		})
	}
	for _, c := range cohort.Custodians() {
		if held[c.Key] == 0 && !raceDetector {
			t.Errorf("%s holds nothing of anybody", c.Key)
		}
	}
	t.Logf("%d resources of %d people in %v: %v", total, all, took.Round(time.Millisecond), held)
}

func reencode(t *testing.T, o object) []byte {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal("cannot be encoded")
	}
	return text
}

func TestSyntheaIsAFunctionOfItsInput(t *testing.T) {
	patterns := []string{"Luigi*", "Carroll*"} // enough to differ, and quick
	if raceDetector {
		patterns = patterns[:1]
	}
	dir := some(t, patterns...)
	first, m1, err := cohort.Synthea(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, m2, err := cohort.Synthea(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != len(patterns) || !reflect.DeepEqual(first, second) || !reflect.DeepEqual(m1, m2) {
		t.Error("two readings differ")
	}
}

// small is a whole-patient Bundle with what the sample data may lack.
const small = `{"resourceType":"Bundle","type":"transaction","entry":[
 {"fullUrl":"urn:uuid:p","resource":{"resourceType":"Patient","id":"p","name":[{"use":"official","family":"Invented","given":["Una"]}],"birthDate":"1970-01-01"}},
 {"fullUrl":"urn:uuid:o","resource":{"resourceType":"Observation","id":"o","subject":{"reference":"urn:uuid:p"},"valueQuantity":{"value":1.50},
  "performer":[{"reference":"Practitioner?identifier=s|1"},{"reference":"Practitioner?identifier=s|2"}],"note":[{"text":"a < b & c"}]}},
 {"fullUrl":"urn:uuid:c","resource":{"resourceType":"Coverage","id":"c"}},
 {"resource":{"resourceType":"Organization","id":"unused"}}]}`

func TestSyntheaSmall(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "una.json"), small)
	write(t, filepath.Join(dir, "info", "who.json"), `{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Practitioner","id":"pr","identifier":[{"system":"s","value":"1"}]}}]}`)
	people, m, err := cohort.Synthea(dir)
	if err != nil {
		t.Fatal(err)
	}
	text := string(bytes.Join(bytesOf(people[0].Records["gp"]), nil))
	for _, want := range []string{`"value":1.50`, `"a < b & c"`, `{"reference":"Practitioner/pr"}`, `{"identifier":{"system":"s","value":"2"},"type":"Practitioner"}`, `"reference":"Patient/gp-`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in what the practice holds", want)
		}
	}
	if !slices.Equal(m.People[0].Unreferenced, []string{"Organization/unused"}) || m.People[0].LeftOut["Coverage"] != 1 || m.People[0].Input != 4 {
		t.Errorf("the manifest counts %v and %v", m.People[0].Unreferenced, m.People[0].LeftOut)
	}
	if people[0].Family != "Invented" || people[0].Name != "Una Invented" || people[0].BirthDate != "1970-01-01" {
		t.Error("the demographics are not the Patient's")
	}
}

func bytesOf(list []json.RawMessage) [][]byte {
	out := make([][]byte, len(list))
	for i, x := range list {
		out[i] = x
	}
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSyntheaRefusals(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":     `{`,
		"not a Bundle": `{"resourceType":"Patient","id":"p"}`,
		"nobody":       `{"resourceType":"Bundle","entry":[]}`,
		"two people":   `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}},{"resource":{"resourceType":"Patient","id":"q"}}]}`,
		"twice":        `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"p"}},{"resource":{"resourceType":"Patient","id":"p"}}]}`,
		"no id":        `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"}}]}`,
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "x.json"), text)
		if _, _, err := cohort.Synthea(dir); err == nil || !strings.Contains(err.Error(), "x.json") {
			t.Errorf("%s: not refused by the name of the file", name)
		}
	}
	if _, _, err := cohort.Synthea(t.TempDir()); err == nil {
		t.Error("an empty folder is not refused")
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	const patient = `{"resourceType":"Patient","id":"ID","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}],"name":[{"family":"Invented"}]}`
	file := func(id, more string) string {
		return `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + strings.ReplaceAll(patient, "ID", id) + `}` + more + `]}`
	}
	write(t, filepath.Join(dir, "gp", "a.json"), file("1", `,{"resource":{"resourceType":"Observation","id":"o","valueQuantity":{"value": 2.50}}}`))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write([]byte(file("2", ""))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "acute", "b.json.gz"), z.String())
	people, err := cohort.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(people) != 1 || people[0].Bundle != "gp/a.json" || len(people[0].Records["gp"]) != 2 || len(people[0].Records["acute"]) != 1 || people[0].Family != "Invented" {
		t.Fatalf("%d people, not as the files say", len(people))
	}
	if got := string(people[0].Records["gp"][1]); got != `{"resourceType":"Observation","id":"o","valueQuantity":{"value": 2.50}}` {
		t.Error("the bytes are not those of the file")
	}
	write(t, filepath.Join(dir, "gp", "c.json"), file("1", ""))
	if _, err := cohort.Load(dir); err == nil || !strings.Contains(err.Error(), "c.json") {
		t.Error("a second Bundle for one person is not refused")
	}
	write(t, filepath.Join(dir, "gp", "c.json"), strings.ReplaceAll(file("1", ""), "9990000018", "9990000019"))
	if _, err := cohort.Load(dir); err == nil || strings.Contains(err.Error(), "9990000019") {
		t.Error("a wrong NHS number is not refused, or repeated")
	}
	if _, err := cohort.Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "mentalhealth") {
		t.Error("an empty folder is not refused with the keys")
	}
}
