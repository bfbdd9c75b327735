package cohort

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile caps one unpacked file.
const maxFile = 256 << 20

// bundleFiles lists the .json and .json.gz files of a folder, sorted by name.
func bundleFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cohort: cannot read the folder %s", dir)
	}
	var out []string
	for _, f := range list {
		if n := f.Name(); !f.IsDir() && !strings.HasPrefix(n, ".") && (strings.HasSuffix(n, ".json") || strings.HasSuffix(n, ".json.gz")) {
			out = append(out, filepath.Join(dir, n))
		}
	}
	slices.Sort(out)
	return out, nil
}

// readFile returns the text of a file, unpacked if it is named .gz.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cohort: cannot open %s", path)
	}
	defer func() { _ = f.Close() }() // read only
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("cohort: %s is not gzip", path)
		}
		r = z
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cohort: %s cannot be read to its end", path)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("cohort: %s is larger than 256 MiB", path)
	}
	return text, nil
}

// bundleEntry is an entry of a Bundle, its resource as it stands in the file.
type bundleEntry struct {
	FullURL  string          `json:"fullUrl"`
	Resource json.RawMessage `json:"resource"`
	typ, id  string
}

// readBundle returns the entries that hold a resource. Each has a type and an id.
func readBundle(path string) ([]bundleEntry, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var b struct {
		ResourceType string        `json:"resourceType"`
		Entry        []bundleEntry `json:"entry"`
	}
	if err := json.Unmarshal(text, &b); err != nil || b.ResourceType != "Bundle" {
		return nil, fmt.Errorf("cohort: %s is not a FHIR Bundle in JSON", path)
	}
	out := b.Entry[:0]
	for n, e := range b.Entry {
		if len(e.Resource) == 0 {
			continue // an entry may be a link or a response only (FHIR R4 Bundle, bdl-5)
		}
		var head struct {
			ResourceType string `json:"resourceType"`
			ID           string `json:"id"`
		}
		if err := json.Unmarshal(e.Resource, &head); err != nil || head.ResourceType == "" || head.ID == "" {
			return nil, fmt.Errorf("cohort: %s: entry %d has no resourceType or no id", path, n)
		}
		e.typ, e.id = head.ResourceType, head.ID
		out = append(out, e)
	}
	return out, nil
}

// patientFacts is what the demographics service takes over from a custodian's Patient.
type patientFacts struct {
	Identifier []struct {
		System string `json:"system"`
		Value  string `json:"value"`
	} `json:"identifier"`
	Name []struct {
		Use    string   `json:"use"`
		Family string   `json:"family"`
		Given  []string `json:"given"`
	} `json:"name"`
	Gender    string          `json:"gender"`
	BirthDate string          `json:"birthDate"`
	Address   json.RawMessage `json:"address"`
}

func (p patientFacts) number() string {
	for _, i := range p.Identifier {
		if i.System == nhsNumberSystem {
			return i.Value
		}
	}
	return ""
}

// person begins a Person from a custodian's Patient. Who has died is reported as living all the same: a demonstration of old
// records would otherwise get the neutral answer of people whose record is closed.
func (p patientFacts) person(number, bundle string) Person {
	out := Person{NHSNumber: number, Bundle: bundle, Standing: Live, BirthDate: p.BirthDate, Records: map[string][]json.RawMessage{}}
	fields := map[string]any{}
	for _, n := range p.Name {
		if out.Family != "" && n.Use != "official" && n.Use != "usual" {
			continue
		}
		out.Family = n.Family
		out.Name = strings.Join(append(slices.Clone(n.Given), n.Family), " ")
		fields["name"] = []any{map[string]any{"use": "usual", "family": n.Family, "given": n.Given}}
		if n.Use == "usual" || n.Use == "official" {
			break
		}
	}
	if p.Gender != "" {
		fields["gender"] = p.Gender
	}
	if p.BirthDate != "" {
		fields["birthDate"] = p.BirthDate
	}
	if len(p.Address) > 0 {
		fields["address"] = p.Address
	}
	out.Patient = demographic(number, fields)
	return out
}

// Load reads DIR/<custodian key>/*.json or .json.gz: one collection Bundle per person, with one Patient in it that carries the
// NHS number. The same number at several custodians is one person, in the order of [Custodians]. The demographics service knows each
// as living, with the name and birth date of the first Patient read. An error names the file and what to do about it.
func Load(dir string) ([]Person, error) {
	var people []Person
	at := map[string]int{}
	for _, c := range Custodians() {
		folder := filepath.Join(dir, c.Key)
		if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
			continue // holds nobody
		}
		files, err := bundleFiles(folder)
		if err != nil {
			return nil, err
		}
		for _, path := range files {
			entries, err := readBundle(path)
			if err != nil {
				return nil, err
			}
			var facts patientFacts
			patients := 0
			resources := make([]json.RawMessage, len(entries))
			for i, e := range entries {
				resources[i] = bytes.Clone(e.Resource)
				if e.typ == "Patient" {
					patients++
					if err := json.Unmarshal(e.Resource, &facts); err != nil {
						return nil, fmt.Errorf("cohort: %s: the Patient is not of the form of FHIR R4", path)
					}
				}
			}
			number := facts.number()
			if patients != 1 || !validNumber(number) {
				return nil, fmt.Errorf("cohort: %s: give one Patient with a valid NHS number (identifier system %s)", path, nhsNumberSystem)
			}
			i, known := at[number]
			if !known {
				i = len(people)
				at[number] = i
				people = append(people, facts.person(number, c.Key+"/"+filepath.Base(path)))
			}
			if people[i].Records[c.Key] != nil {
				return nil, fmt.Errorf("cohort: %s: a second Bundle for a person whom %s holds already; give one", path, c.Key)
			}
			people[i].Records[c.Key] = resources
		}
	}
	if len(people) == 0 {
		return nil, fmt.Errorf("cohort: nobody in %s: give %s/<custodian key>/*.json, keys %s", dir, dir, keys())
	}
	for i := range people {
		people[i].Note = heldBy(people[i])
	}
	return people, nil
}

func keys() string {
	var out []string
	for _, c := range Custodians() {
		out = append(out, c.Key)
	}
	return strings.Join(out, ", ")
}

// heldBy says who holds how many resources of a person.
func heldBy(p Person) string {
	var out []string
	for _, c := range Custodians() {
		if n := len(p.Records[c.Key]); n > 0 {
			out = append(out, fmt.Sprintf("%s %d", c.Key, n))
		}
	}
	return strings.Join(out, ", ")
}
