package test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// manifest is what the demo writes beside its state about whole-patient bundles: which resource went to which custodian.
type manifest struct {
	People []manifestPerson `json:"people"`
}

type manifestPerson struct {
	NHSNumber    string                       `json:"nhsNumber"`
	Bundle       string                       `json:"bundle"`
	Input        int                          `json:"input"`
	Custodians   map[string]manifestCustodian `json:"custodians"`
	LeftOut      map[string]int               `json:"leftOut"`
	Unreferenced []string                     `json:"unreferenced"`
}

type manifestCustodian struct {
	Patient   string `json:"patient"`
	Resources []struct {
		Type   string `json:"type"`
		ID     string `json:"id"`
		SHA256 string `json:"sha256"`
	} `json:"resources"`
}

// readManifest finds the one manifest in a state folder.
func readManifest(t *testing.T, state string) manifest {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(state, "*manifest*.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("found %d manifests in the demo's state folder, want 1", len(found))
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal("the manifest cannot be read")
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal("the manifest is not what it should be")
	}
	return m
}

// holding is what one custodian holds of one person, as it serves it.
type holding struct {
	base    string // of its FHIR server
	patient string // Type/id of its Patient
	byKey   map[string]*node
}

const nhsNumberSystem = "https://fhir.nhs.uk/Id/nhs-number"

// served takes from a simulated custodian itself, beside the broker, all that it holds of a person, and checks by the digests of the manifest
// that this is, byte for byte, what it was given: nothing more, nothing less, nothing else.
func served(t *testing.T, n *neighbourhood.Neighbourhood, key string, p manifestPerson) holding {
	t.Helper()
	m := p.Custodians[key]
	h := holding{base: n.Sources[key] + "/fhir", patient: "Patient/" + m.Patient, byKey: map[string]*node{}}
	want := map[string]string{}
	for _, r := range m.Resources {
		want[r.Type+"/"+r.ID] = r.SHA256
	}
	for _, r := range n.Held(t, key, p.NHSNumber) {
		k := r.Type + "/" + r.ID
		sum := sha256.Sum256(r.Text)
		switch {
		case want[k] == "":
			t.Errorf("%s serves a %s that it was not given", key, r.Type)
		case want[k] != hex.EncodeToString(sum[:]):
			t.Errorf("%s serves a %s with other bytes than it was given", key, r.Type)
		case h.byKey[k] != nil:
			t.Errorf("%s serves a %s twice", key, r.Type)
		}
		doc, err := readJSON(r.Text)
		if err != nil {
			t.Fatalf("%s serves a %s that is not JSON", key, r.Type)
		}
		h.byKey[k] = doc
	}
	if len(h.byKey) != len(want) || h.byKey[h.patient] == nil {
		t.Errorf("%s serves %d of the %d resources that it was given", key, len(h.byKey), len(want))
	}
	return h
}

// supportingTypes are about nobody, and found by reference only.
var supportingTypes = []string{"Practitioner", "PractitionerRole", "Organization", "Location", "Medication", "Substance", "HealthcareService"}

// own returns the Type/id that a reference means within the custodian's own server, and whether it holds that; a version is left aside.
func (h holding) own(reference string) (string, bool) {
	reference = strings.TrimPrefix(reference, h.base+"/")
	reference, _, _ = strings.Cut(reference, "/_history/")
	_, held := h.byKey[reference]
	return reference, held
}

// financialTypes are left out of the split, and counted.
var financialTypes = []string{"Claim", "ClaimResponse", "ExplanationOfBenefit", "Coverage"}

// fromFile holds what custodians serve against the file that the person came from: every resource of it is at exactly one custodian, or
// shared, left out or unreferenced as the manifest says; and whatever string or number a resource has in the file it has at the custodian.
func fromFile(t *testing.T, file string, p manifestPerson, holdings map[string]holding) {
	t.Helper()
	f, err := os.Open(file) //nolint:gosec // sample data
	if err != nil {
		t.Fatal("the file that the manifest names is not there")
	}
	defer func() { _ = f.Close() }() // read only
	var r io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal("the file is not gzip")
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal("the file cannot be read")
	}
	doc, err := readJSON(text)
	if err != nil {
		t.Fatal("the file is not JSON")
	}
	entries := doc.list("entry")
	if len(entries) != p.Input {
		t.Errorf("the manifest counts %d resources, the file has %d", p.Input, len(entries))
	}
	leftOut := map[string]int{}
	for _, e := range entries {
		res := e.get("resource")
		typ := res.str("resourceType")
		if slices.Contains(financialTypes, typ) {
			leftOut[typ]++
			continue
		}
		var at []*node
		for _, h := range holdings {
			key := typ + "/" + res.str("id")
			if typ == "Patient" {
				key = h.patient
			}
			if there := h.byKey[key]; there != nil {
				at = append(at, there)
			}
		}
		switch {
		case typ == "Patient" && len(at) == len(holdings):
		case slices.Contains(supportingTypes, typ) && (len(at) > 0) != slices.Contains(p.Unreferenced, typ+"/"+res.str("id")):
		case typ != "Patient" && !slices.Contains(supportingTypes, typ) && len(at) == 1:
		default:
			t.Errorf("a %s of the file is at %d custodians", typ, len(at))
		}
		want := scalars(res)
		for _, there := range at {
			have := scalars(there)
			for text, times := range want {
				if have[text] < times {
					t.Errorf("a %s does not have at the custodian all that it has in the file", typ)
					break
				}
			}
		}
	}
	if !maps.Equal(leftOut, p.LeftOut) && len(leftOut)+len(p.LeftOut) > 0 {
		t.Error("the manifest counts other resources as left out than the file has")
	}
}

// scalars counts the strings and numbers of a resource, numbers as they are written; references, and the id of a Patient, are what a split changes.
func scalars(r *node) map[string]int {
	out := map[string]int{}
	r.walk(func(in *node, key string, v *node) {
		if key == "reference" || in == r && key == "id" && r.str("resourceType") == "Patient" {
			return
		}
		add := func(v *node) {
			if v.kind == '"' {
				out[key+" "+v.text]++
			} else if v.kind != '{' && v.kind != '[' {
				out[key+" "+v.raw]++
			}
		}
		add(v)
		if v.kind == '[' {
			for _, x := range v.kids {
				add(x)
			}
		}
	})
	return out
}
