package cohort

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The split of a whole-patient Bundle is a pure function of the files:
//   - every clinical resource goes to exactly one custodian, by its type, its encounter's class, type and reason, and a hash where
//     several would do;
//   - the Patient goes to every custodian that holds something, with the NHS number and an id of that custodian's own;
//   - Practitioner, PractitionerRole, Organization, Location and Medication go to each custodian whose resources refer to them;
//     those that nothing refers to any more are left out;
//   - Claim, ClaimResponse, ExplanationOfBenefit and Coverage are left out: they are about money.
//
// References within a custodian are relative, to another custodian's resource absolute at an address of that custodian. Number text stays.
var (
	mentalWords = regexp.MustCompile(`(?i)depress|anxiety|suicid|psych|schizo|bipolar|traumatic stress|attention deficit|dementia|` +
		`alzheimer|alcoholism|overdose|drug (abuse|depend)|opioid|panic|self.?harm`)
	hospitalWords  = regexp.MustCompile(`(?i)hospital|surg|outpatient|admission|specialist|oncolog|cardi|dialysis|icu|intensive`)
	communityWords = regexp.MustCompile(`(?i)prenatal|postnatal|antenatal|obstetric|dental|home|hospice|nursing|therapy`)
	urgentWords    = regexp.MustCompile(`(?i)urgent|after.?hours|walk.?in`)
	conditional    = regexp.MustCompile(`^(\w+)\?identifier=([^|]*)\|(.*)$`)
)

// The kinds of resource. They are functions of the type's name alone.
func isShared(typ string) bool {
	switch typ {
	case "Practitioner", "PractitionerRole", "Organization", "Location", "Medication":
		return true
	}
	return false
}

func isFinancial(typ string) bool {
	switch typ {
	case "Claim", "ClaimResponse", "ExplanationOfBenefit", "Coverage":
		return true
	}
	return false
}

// byType is who keeps resources of a type, whatever the encounter; "" leaves it to the encounter.
func byType(typ string) string {
	switch typ {
	case "Immunization", "AllergyIntolerance", "Provenance":
		return "gp"
	case "DiagnosticReport", "ImagingStudy", "Specimen", "Media":
		return "acute"
	case "CarePlan", "CareTeam", "Goal":
		return "socialcare"
	case "Device", "SupplyDelivery":
		return "community"
	case "MedicationDispense", "MedicationAdministration":
		return "pharmacy"
	}
	return ""
}

// object is a JSON object; its numbers are json.Number, which keeps their text.
type object = map[string]any

type syntheaResource struct {
	typ, id string
	body    object
	own     bool // of the person's Bundle, not of the directory
}

func (r *syntheaResource) key() string { return r.typ + "/" + r.id }

// Synthea reads whole-patient bundles (DIR/*.json or .json.gz), splits each over the nine custodians and returns the people with a
// manifest of what went where. DIR/info, if there, is a directory of organisations and practitioners that resolves conditional
// references (Type?identifier=system|value). NHS numbers are made from the Patients' ids.
//
// People who have died are reported as living by the demographics service, so that all can be asked for; their own Patient
// resources keep the date of death.
func Synthea(dir string) ([]Person, Manifest, error) {
	files, err := bundleFiles(dir)
	if err != nil {
		return nil, Manifest{}, err
	}
	if len(files) == 0 {
		return nil, Manifest{}, fmt.Errorf("cohort: no .json or .json.gz file in %s", dir)
	}
	directory, err := readDirectory(filepath.Join(dir, "info"))
	if err != nil {
		return nil, Manifest{}, err
	}
	var people []Person
	m := Manifest{About: aboutManifest, Source: filepath.Base(filepath.Clean(dir))}
	taken := map[string]bool{}
	for _, path := range files {
		p, entry, err := splitSynthea(path, directory, taken)
		if err != nil {
			return nil, Manifest{}, err
		}
		people = append(people, p)
		m.People = append(m.People, entry)
	}
	return people, m, nil
}

// directoryIndex finds shared resources by type and identifier. The first of several stands. They are parsed when they are needed: of a
// directory of thousands, a handful is.
type directoryIndex map[[3]string]bundleEntry

func (d directoryIndex) add(path string, e bundleEntry) error {
	var r struct {
		Identifier []struct {
			System string `json:"system"`
			Value  string `json:"value"`
		} `json:"identifier"`
	}
	if err := json.Unmarshal(e.Resource, &r); err != nil {
		return fmt.Errorf("cohort: %s: a %s has no identifiers of the form of FHIR R4", path, e.typ)
	}
	for _, i := range r.Identifier {
		k := [3]string{e.typ, i.System, i.Value}
		if _, known := d[k]; !known {
			d[k] = e
		}
	}
	return nil
}

func readDirectory(dir string) (directoryIndex, error) {
	out := directoryIndex{}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	files, err := bundleFiles(dir)
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		entries, err := readBundle(path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if isShared(e.typ) {
				if err := out.add(path, e); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

func parseResource(path string, e bundleEntry) (*syntheaResource, error) {
	d := json.NewDecoder(bytes.NewReader(e.Resource))
	d.UseNumber()
	r := &syntheaResource{typ: e.typ, id: e.id}
	if err := d.Decode(&r.body); err != nil {
		return nil, fmt.Errorf("cohort: %s: a %s cannot be read", path, e.typ)
	}
	return r, nil
}

// bundle is one person's Bundle while it is split.
type bundle struct {
	resources []*syntheaResource          // in the order of the file, financial ones left out
	byKey     map[string]*syntheaResource // and, once referred to, those of the directory
	patient   *syntheaResource
	financial map[string]int
	input     int
}

func readSynthea(path string, directory directoryIndex) (*bundle, error) {
	entries, err := readBundle(path)
	if err != nil {
		return nil, err
	}
	b := &bundle{byKey: map[string]*syntheaResource{}, financial: map[string]int{}, input: len(entries)}
	byURL := map[string]string{}
	seen := map[string]bool{}
	for _, e := range entries {
		key := e.typ + "/" + e.id
		if seen[key] {
			return nil, fmt.Errorf("cohort: %s: two resources with one type and id", path)
		}
		seen[key] = true
		if e.FullURL != "" {
			byURL[e.FullURL] = key
		}
		if isFinancial(e.typ) {
			b.financial[e.typ]++
			continue
		}
		r, err := parseResource(path, e)
		if err != nil {
			return nil, err
		}
		r.own = true
		b.resources, b.byKey[key] = append(b.resources, r), r
		if r.typ == "Patient" {
			if b.patient != nil {
				return nil, fmt.Errorf("cohort: %s: two Patients in one Bundle", path)
			}
			b.patient = r
		}
	}
	if b.patient == nil {
		return nil, fmt.Errorf("cohort: %s: no Patient in the Bundle", path)
	}
	own := directoryIndex{}
	for _, e := range entries {
		if isShared(e.typ) {
			if err := own.add(path, e); err != nil {
				return nil, err
			}
		}
	}
	// Those of the directory may refer to others of it, so the list grows while it is read.
	todo := slices.Clone(b.resources)
	for len(todo) > 0 {
		r := todo[0]
		todo = todo[1:]
		for _, ref := range references(r.body) {
			text := ref["reference"].(string)
			if key, ok := byURL[text]; ok {
				ref["reference"] = key
				continue
			}
			parts := conditional.FindStringSubmatch(text)
			if parts == nil {
				continue
			}
			k := [3]string{parts[1], parts[2], parts[3]}
			target, known := directory[k]
			if !known {
				target, known = own[k]
			}
			if !known { // nobody knows it: a logical reference says as much
				delete(ref, "reference")
				ref["type"], ref["identifier"] = parts[1], object{"system": parts[2], "value": parts[3]}
				continue
			}
			key := target.typ + "/" + target.id
			ref["reference"] = key
			if b.byKey[key] == nil {
				r, err := parseResource(path, target)
				if err != nil {
					return nil, err
				}
				b.byKey[key] = r
				todo = append(todo, r)
			}
		}
	}
	return b, nil
}

// references returns every Reference with a literal reference below v, in no particular order.
func references(v any) []object {
	var out []object
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case object:
			if _, ok := v["reference"].(string); ok {
				out = append(out, v)
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(v)
	return out
}

func clone(v any) any {
	switch v := v.(type) {
	case object:
		out := make(object, len(v))
		for k, x := range v {
			out[k] = clone(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = clone(x)
		}
		return out
	}
	return v
}

// words joins the texts of CodeableConcepts.
func words(r *syntheaResource, fields ...string) string {
	var out []string
	var add func(v any)
	add = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				add(x)
			}
		case object:
			for _, k := range []string{"text", "display"} {
				if s, ok := v[k].(string); ok {
					out = append(out, s)
				}
			}
			add(v["coding"])
		}
	}
	for _, f := range fields {
		add(r.body[f])
	}
	return strings.Join(out, " ")
}

// refOf returns the reference of an element, "" if there is none; of a list, that of the first.
func refOf(v any) string {
	if list, ok := v.([]any); ok {
		if len(list) == 0 {
			return ""
		}
		v = list[0]
	}
	o, _ := v.(object)
	s, _ := o["reference"].(string)
	return s
}

// among picks one of n by a hash of the parts.
func among(n int64, parts ...string) int64 {
	sum := sha256.Sum256([]byte(strings.Join(parts, "|")))
	return new(big.Int).Mod(new(big.Int).SetBytes(sum[:]), big.NewInt(n)).Int64()
}

// encounterAt says who saw the person.
func encounterAt(r *syntheaResource, mental bool) string {
	class, _ := r.body["class"].(object)
	code, _ := class["code"].(string)
	text := words(r, "type", "reasonCode", "serviceType")
	switch {
	case mental || mentalWords.MatchString(text):
		return "mentalhealth"
	case code == "EMER": // some came by ambulance, some had rung 111 first
		return []string{"ambulance", "acute", "nhs111", "acute"}[among(4, "emergency", r.id)]
	case code == "IMP" || code == "ACUTE" || code == "NONAC" || code == "OBSENC" || code == "SS":
		return "acute"
	case urgentWords.MatchString(text):
		return "outofhours"
	case hospitalWords.MatchString(text):
		return "acute"
	case code == "HH" || code == "FLD" || communityWords.MatchString(text):
		return "community"
	}
	return "gp"
}

// place says who keeps each clinical resource.
func (b *bundle) place() map[string]string {
	mental := map[string]bool{}
	for _, r := range b.resources {
		if r.typ == "Condition" && mentalWords.MatchString(words(r, "code")) {
			mental[refOf(r.body["encounter"])] = true
		}
	}
	encounters := map[string]string{}
	for _, r := range b.resources {
		if r.typ == "Encounter" {
			encounters[r.key()] = encounterAt(r, mental[r.key()])
		}
	}
	out := map[string]string{}
	for _, r := range b.resources {
		if r == b.patient || isShared(r.typ) {
			continue
		}
		out[r.key()] = clinicalAt(r, encounters)
	}
	return out
}

func clinicalAt(r *syntheaResource, encounters map[string]string) string {
	if at := encounters[r.key()]; at != "" {
		return at
	}
	context, _ := r.body["context"].(object)
	at := encounters[refOf(r.body["encounter"])]
	for _, v := range []any{r.body["context"], context["encounter"]} { // Media, MedicationAdministration; DocumentReference
		if at == "" {
			at = encounters[refOf(v)]
		}
	}
	if at == "mentalhealth" || r.typ == "Condition" && mentalWords.MatchString(words(r, "code")) {
		return "mentalhealth"
	}
	if r.typ == "Observation" { // hospital laboratories; assessments of need
		text := string(encode(r.body["category"]))
		switch {
		case strings.Contains(text, `"laboratory"`):
			return "acute"
		case strings.Contains(text, `"social-history"`) || strings.Contains(text, `"survey"`):
			return "socialcare"
		}
	}
	if keeper := byType(r.typ); keeper != "" {
		return keeper
	}
	if r.typ == "MedicationRequest" && (at == "" || at == "gp") && among(3, "dispensed", r.id) == 0 {
		return "pharmacy"
	}
	if at != "" {
		return at
	}
	return "gp"
}

// nhsNumber makes a number of the test range from a seed. A remainder of 10 has no check digit, and a number may be taken: the next one then.
func nhsNumber(seed string, taken map[string]bool) string {
	for n := among(1_000_000, "nhs", seed); ; n = (n + 1) % 1_000_000 {
		nine := fmt.Sprintf("999%06d", n)
		for check := range 10 {
			number := fmt.Sprintf("%s%d", nine, check)
			if validNumber(number) && !taken[number] {
				taken[number] = true
				return number
			}
		}
	}
}

func splitSynthea(path string, directory directoryIndex, taken map[string]bool) (Person, ManifestPerson, error) {
	b, err := readSynthea(path, directory)
	if err != nil {
		return Person{}, ManifestPerson{}, err
	}
	var facts patientFacts
	if err := json.Unmarshal(encode(b.patient.body), &facts); err != nil {
		return Person{}, ManifestPerson{}, fmt.Errorf("cohort: %s: the Patient is not of the form of FHIR R4", path)
	}
	number := nhsNumber(b.patient.key(), taken)
	name := filepath.Base(path)
	p := facts.person(number, name)
	m := ManifestPerson{NHSNumber: number, Bundle: name, SourcePatient: b.patient.id, Input: b.input, LeftOut: b.financial,
		Unreferenced: []string{}, Custodians: map[string]ManifestCustodian{}}

	placed := b.place()
	kept := map[string]bool{} // shared resources that somebody holds
	for _, c := range Custodians() {
		var mine []*syntheaResource
		for _, r := range b.resources {
			if placed[r.key()] == c.Key {
				mine = append(mine, r)
			}
		}
		if len(mine) == 0 {
			continue
		}
		mine = append([]*syntheaResource{b.patient}, mine...)
		held := map[string]bool{}
		for i := 0; i < len(mine); i++ { // grows by what is referred to, and what that refers to
			var targets []string
			for _, ref := range references(mine[i].body) {
				targets = append(targets, ref["reference"].(string))
			}
			slices.Sort(targets)
			for _, key := range targets {
				target := b.byKey[key]
				if target != nil && isShared(target.typ) && !held[target.key()] {
					held[target.key()], kept[target.key()] = true, true
					mine = append(mine, target)
				}
			}
		}
		patientID := fmt.Sprintf("%s-%012d", c.Key, among(1_000_000_000_000, c.Key, b.patient.key()))
		mc := ManifestCustodian{Patient: patientID}
		for _, r := range mine {
			body := clone(r.body).(object)
			if r == b.patient {
				body["id"] = patientID
				list, _ := body["identifier"].([]any)
				body["identifier"] = append([]any{object{"use": "official", "system": nhsNumberSystem, "value": number}}, list...)
			}
			for _, ref := range references(body) {
				target := ref["reference"].(string)
				switch at := placed[target]; {
				case target == b.patient.key():
					ref["reference"] = "Patient/" + patientID
				case at != "" && at != c.Key:
					ref["reference"] = "https://" + at + ".example.org/fhir/" + target
				}
			}
			text := encode(body)
			p.Records[c.Key] = append(p.Records[c.Key], text)
			sum := sha256.Sum256(text)
			id := r.id
			if r == b.patient {
				id = patientID
			}
			mc.Resources = append(mc.Resources, ManifestResource{r.typ, id, hex.EncodeToString(sum[:])})
		}
		m.Custodians[c.Key] = mc
	}
	for _, r := range b.resources {
		if isShared(r.typ) && !kept[r.key()] {
			m.Unreferenced = append(m.Unreferenced, r.key())
		}
	}
	slices.Sort(m.Unreferenced)
	p.Note = heldBy(p)
	return p, m, nil
}
