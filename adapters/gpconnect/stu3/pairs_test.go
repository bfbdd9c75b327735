package stu3

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// difference is where our R4 differs from what a published converter gives, and why. A path is a prefix.
type difference struct{ path, why string }

const (
	zone   = "the other converter writes times in its own zone; ours stay as written"
	hl7URL = "HL7's address of an element of STU3 has the version 3.0, not r3"
	listed = "R4 wants a list of codings; the other gives one"
)

// differences are those of each published pair. A path that no longer differs fails the test too.
var differences = map[string][]difference{
	"stu3-to-r4/AllergyIntolerance": {
		{"clinicalStatus.coding", listed}, {"verificationStatus.coding", listed}, {"recordedDate", zone},
	},
	"stu3-to-r4/DetectedIssue":    {{"identifiedDateTime", "the other shortens the fraction of a second; ours stays as written"}},
	"stu3-to-r4/DiagnosticReport": {{"issued", zone}, {"performer[0].extension[0].url", hl7URL}},
	"stu3-to-r4/DocumentReference": {
		{"date", zone}, {"context.period", zone}, {"context.related[0].identifier", "an identifier that the other drops"},
		{"extension", "when it was made stands on the attachment"}, {"content[0].attachment.creation", "when it was made stands on the attachment"},
	},
	"stu3-to-r4/Immunization": {
		{"protocolApplied[0].extension[0].url", hl7URL}, {"protocolApplied[0].extension[1].url", hl7URL}, {"protocolApplied[0].extension[2].url", hl7URL},
		{"reasonCode", "why it was given, which the other drops"},
	},
	"stu3-to-r4/MedicationRequest":   {{"extension[0].url", hl7URL}},
	"stu3-to-r4/MedicationStatement": {{"extension[0].url", hl7URL}, {"extension[1].url", hl7URL}},
	"stu3-to-r4/Patient":             {{"extension[0].url", "R4 has no animals; ours is HL7's address of the element of STU3"}},
	"nhs-england/AllergyIntolerance": {
		{"extension", "NHS England's converter keeps the STU3 extension beside the new one; UK Core of today has the end of an allergy on clinicalStatus"},
		{"clinicalStatus.extension", "UK Core of today has the end of an allergy on clinicalStatus"},
	},
}

// notInTheTable are published pairs of types that no GP Connect answer has: a clinical one is kept as unmapped, whole, and those that are no part of a
// person's record are left for the merge to drop and count.
var notInTheTable = map[string]string{"ImagingStudy": "Basic", "Subscription": "Subscription", "Parameters": "Parameters"}

// TestPublishedPairs converts the STU3 of each published pair and compares with its R4.
func TestPublishedPairs(t *testing.T) {
	inputs, wants := map[string]fhirjson.Value{}, map[string]fhirjson.Value{}
	for _, s := range samples(t, "stu3-to-r4") {
		dir, file, _ := strings.Cut(s.name, "/")
		name := strings.TrimSuffix(file, ".json")
		switch {
		case dir == "input-stu3":
			inputs["stu3-to-r4/"+name] = s.doc.Root()
		case dir == "expected-r4":
			wants["stu3-to-r4/"+name] = s.doc.Root()
		case strings.HasPrefix(name, "Example-Input"):
			inputs["nhs-england/AllergyIntolerance"] = s.doc.Root()
		case strings.HasPrefix(name, "Example-Output"):
			wants["nhs-england/AllergyIntolerance"] = s.doc.Root()
		}
	}
	if len(inputs) != 16 || len(wants) != 16 {
		t.Fatalf("%d inputs and %d outputs, want 16 pairs", len(inputs), len(wants))
	}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		t.Run(name, func(t *testing.T) {
			r, err := Convert([]fhirjson.Entry{{Resource: inputs[name]}}, "", Limits{})
			if err != nil {
				t.Fatal(err)
			}
			got := r.Entries[0].Resource
			if typ := notInTheTable[inputs[name].Get("resourceType").Text()]; typ != "" {
				if !got.Get("resourceType").Is(typ) || (typ == "Basic") != (r.Unmapped == 1) {
					t.Errorf("becomes %s, want %s", got.Get("resourceType").Text(), typ)
				}
				return
			}
			used := map[string]bool{}
			for _, d := range compareValues("", got, wants[name]) {
				why := ""
				if strings.Contains(d, `.system: got "http://terminology.hl7.org/CodeSystem/`) && strings.Contains(d, `want "http://hl7.org/fhir/`) {
					why = "the other leaves code systems the names that they had in STU3"
				}
				for _, x := range differences[name] {
					if path, _, _ := strings.Cut(d, ": "); strings.HasPrefix(path, x.path) {
						why, used[x.path] = x.why, true
					}
				}
				if why == "" {
					t.Errorf("not explained: %s", d)
				}
			}
			for _, x := range differences[name] {
				if !used[x.path] {
					t.Errorf("%s no longer differs", x.path)
				}
			}
		})
	}
}

// compareValues lists the paths at which two values differ. The order of members does not count; that of elements does.
func compareValues(path string, got, want fhirjson.Value) []string {
	at := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	switch {
	case !got.Exists() || !want.Exists() || got.Kind() != want.Kind():
		return []string{fmt.Sprintf("%s: got %.120s, want %.120s", path, got.Raw(), want.Raw())}
	case got.Kind() == fhirjson.Object:
		var out []string
		for k, w := range want.Members() {
			out = append(out, compareValues(at(k), got.Get(k), w)...)
		}
		for k, g := range got.Members() {
			if !want.Get(k).Exists() {
				out = append(out, fmt.Sprintf("%s: got %.120s, want nothing", at(k), g.Raw()))
			}
		}
		return out
	case got.Kind() == fhirjson.Array:
		var out, gs, ws []fhirjson.Value
		gs, ws = slices.AppendSeq(out, got.Elems()), slices.AppendSeq(out, want.Elems())
		if len(gs) != len(ws) {
			return []string{fmt.Sprintf("%s: got %d, want %d", path, len(gs), len(ws))}
		}
		var lines []string
		for i := range gs {
			lines = append(lines, compareValues(fmt.Sprintf("%s[%d]", path, i), gs[i], ws[i])...)
		}
		return lines
	case got.Kind() == fhirjson.String && got.Text() == want.Text(), string(got.Raw()) == string(want.Raw()):
		return nil
	}
	return []string{fmt.Sprintf("%s: got %.120s, want %.120s", path, got.Raw(), want.Raw())}
}
