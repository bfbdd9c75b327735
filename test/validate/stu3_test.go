package validate

import (
	"compress/gzip"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/fhir/go/fhirversion"
	"github.com/google/fhir/go/jsonformat"

	"github.com/mycarerecord/mycarerecord/adapters/gpconnect/stu3"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// faulty is how many resources of the published answers the validator rejects after conversion, by cause. Each is a fault of the published
// resource: the STU3 validator rejects that too. It may not grow.
var faulty = map[string]int{
	"AllergyIntolerance: AllergyIntolerance.onsetDateTime (expected datetime)": 1,
	"AllergyIntolerance: no path named (missing required field)":               3,
	"Organization: Organization.meta.extension.value.uri (invalid uri)":        1,
	"Encounter: Encounter.period.end (expected datetime)":                      6,
	"Observation: Observation.effectiveDateTime (expected datetime)":           15,
	"MedicationRequest: MedicationRequest.id (invalid Id format)":              1,
}

// notOfARecord is what the samples hold that is no part of a person's record: of it only the type is left, and the merge drops and counts it.
var notOfARecord = map[string]int{"Bundle": 4, "MessageHeader": 4, "Parameters": 6}

// TestConvertedSamples converts every published GP Connect answer and has each resource of the result validated as R4.
func TestConvertedSamples(t *testing.T) {
	r4 := validator(t)
	r3, err := jsonformat.NewUnmarshaller("Europe/London", fhirversion.STU3)
	if err != nil {
		t.Fatal("no validator of STU3")
	}
	got, excluded := map[string]int{}, map[string]int{}
	total, rejected, unmapped := 0, 0, 0
	for name, text := range published(t) {
		doc, err := fhirjson.Parse(text, fhirjson.Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		in := entries(doc.Root())
		res, err := stu3.Convert(in, "https://gp.example/fhir", stu3.Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		unmapped += res.Unmapped
		for i, e := range res.Entries {
			if typ := e.Resource.Get("resourceType").Text(); notOfARecord[typ] > 0 {
				excluded[typ]++
				continue
			}
			total++
			if _, err := r4.UnmarshalR4(e.Resource.Raw()); err != nil {
				rejected++
				cause := e.Resource.Get("resourceType").Text() + ": " + causeOf(err)
				got[cause]++
				if i >= len(in) {
					t.Errorf("%s: a promoted resource is rejected: %s", name, cause)
				} else if _, before := r3.Unmarshal(in[i].Resource.Raw()); before == nil {
					t.Errorf("%s: resource %d: rejected as R4 and accepted as STU3: %s", name, i, cause)
				}
			}
		}
	}
	t.Logf("%d resources of R4, %d elements kept as unmapped, %d rejected (%.2f %%)", total, unmapped, rejected, 100*float64(rejected)/float64(total))
	if !maps.Equal(excluded, notOfARecord) {
		t.Errorf("no part of a record: %v, was %v", excluded, notOfARecord)
	}
	for _, cause := range slices.Sorted(maps.Keys(got)) {
		t.Logf("%5d %s", got[cause], cause)
		if got[cause] > faulty[cause] {
			t.Errorf("%s: %d, was %d", cause, got[cause], faulty[cause])
		}
	}
	if rejected*20 > total {
		t.Errorf("%d of %d resources are rejected, more than 5 %%", rejected, total)
	}
}

// words after the path in the validator's texts, values left out.
var afterPath = regexp.MustCompile(`": ([a-z][A-Za-z ,]*)`)

// causeOf is what the validator says is wrong, without places in lists and without values.
func causeOf(err error) string {
	path := regexp.MustCompile(`\[\d+\]`).ReplaceAllString(where(err), "")
	said := ""
	if m := afterPath.FindStringSubmatch(err.Error()); m != nil {
		said = " (" + strings.TrimSpace(m[1]) + ")"
	}
	return path + said
}

// published yields the JSON answers of the sample data.
func published(t *testing.T) func(yield func(name string, text []byte) bool) {
	t.Helper()
	top := neighbourhood.Data(t, "gp-connect-stu3")
	return func(yield func(name string, text []byte) bool) {
		err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(strings.TrimSuffix(p, ".gz"), ".json") {
				return err
			}
			f, err := os.Open(p) //nolint:gosec // sample data
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }() // read only
			var r io.Reader = f
			if strings.HasSuffix(p, ".gz") {
				if r, err = gzip.NewReader(f); err != nil {
					return err
				}
			}
			text, err := io.ReadAll(r)
			if err == nil && !yield(d.Name(), text) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			t.Fatal("the sample data cannot be read")
		}
	}
}

// entries are the resources of a Bundle, or the one resource that a text is.
func entries(root fhirjson.Value) []fhirjson.Entry {
	if !root.Get("resourceType").Is("Bundle") {
		return []fhirjson.Entry{{Resource: root}}
	}
	var out []fhirjson.Entry
	for r := range root.Each("entry.resource") {
		out = append(out, fhirjson.Entry{Resource: r})
	}
	return out
}
