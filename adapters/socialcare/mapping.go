package socialcare

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mapping says what stands where in a council's answers, and what it is in FHIR. It is configuration: a council with other words is another file.
// MAPPING.md is its manual. Paths into an answer are member names with points between them; a star stands for each element of a list.
type mapping struct {
	// Dates are the forms in which the council writes dates, tried in order: dd/mm/yyyy, mm/yyyy, yyyy, yyyy-mm-dd, and those with hh:mm or
	// hh:mm:ss after a space or T, which FHIR times with a zone are, too.
	Dates []string `yaml:"dates"`
	// Paging says where in an answer the list and the way to the next page stand.
	Paging paging `yaml:"paging"`
	// Refusals says how an error answer tells why.
	Refusals refusals `yaml:"refusals"`
	// Person says how somebody is found.
	Person person `yaml:"person"`
	// Collections are what the council holds about a person.
	Collections []*collection `yaml:"collections"`
}

type paging struct {
	Items     string `yaml:"items"`     // path of the list; "" where the answer is the list
	Next      string `yaml:"next"`      // path of the address of the next page, or of its number or key
	Parameter string `yaml:"parameter"` // query parameter that takes what stands at next; "" where that is an address
}

type refusals struct {
	Code     string   `yaml:"code"`     // path of the code in an error answer
	Withheld []string `yaml:"withheld"` // codes that mean: held, and not to be shown
	NoRecord []string `yaml:"noRecord"` // codes that mean: nobody of that number
}

type person struct {
	Search    string            `yaml:"search"`    // path below baseURL that is asked by POST, with a form
	Parameter string            `yaml:"parameter"` // of the form: the NHS number
	Items     string            `yaml:"items"`     // path of the list of people found; "" where the answer is the list, or the person
	ID        string            `yaml:"id"`        // the council's own number
	Number    string            `yaml:"number"`    // the NHS number
	Status    string            `yaml:"status"`    // how sure the council is of it; "" where it does not say
	Statuses  map[string]string `yaml:"statuses"`  // its words as NHS number status indicator codes, 01 to 08
	Fields    []*field          `yaml:"fields"`    // of the Patient
}

type collection struct {
	Name     string   `yaml:"name"`
	Path     string   `yaml:"path"` // below baseURL; {id} is the council's number of the person
	Resource string   `yaml:"resource"`
	ID       string   `yaml:"id"`     // what tells an item from the others of the collection
	Person   string   `yaml:"person"` // the council's number of the person in each item; "" where items do not say
	Paging   *paging  `yaml:"paging"` // where it differs
	Ignore   []string `yaml:"ignore"` // members that are the council's own business; every other that is not mapped is kept
	Fields   []*field `yaml:"fields"`
}

type field struct {
	To    string            `yaml:"to"`    // element of the resource, e.g. participant[0].member.display
	From  string            `yaml:"from"`  // path in the item
	Value string            `yaml:"value"` // instead of From: always this
	As    string            `yaml:"as"`    // text (default), date, time, number, boolean, reference
	Of    string            `yaml:"of"`    // as reference: name of the collection that the value is the id of an item of
	Map   map[string]string `yaml:"map"`   // the council's words as FHIR's; one that is not here is not guessed

	to []step
}

// step is one name of a target path, and a place in a list: none, a number, or the star's.
type step struct {
	name  string
	index int
}

const (
	noList = -1
	star   = -2
)

// targets are the types that a collection may become, each with the element that names the person, and the elements that FHIR demands.
var targets = map[string]struct {
	person   string
	required []string
}{
	"CarePlan":              {"subject", []string{"status", "intent"}},
	"CareTeam":              {"subject", nil},
	"DocumentReference":     {"subject", []string{"status", "content"}},
	"EpisodeOfCare":         {"patient", []string{"status"}},
	"Flag":                  {"subject", []string{"status", "code"}},
	"QuestionnaireResponse": {"subject", []string{"status"}},
	"RelatedPerson":         {"patient", nil},
}

var (
	pathForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*(\[\*\])?(\.[A-Za-z_][A-Za-z0-9_-]*(\[\*\])?)*$`)
	targetForm = regexp.MustCompile(`^[a-z][A-Za-z]*(\[([0-9]|\*)\])?(\.[a-z][A-Za-z]*(\[([0-9]|\*)\])?)*$`)
	webForm    = regexp.MustCompile(`^[A-Za-z0-9{}_.~-]+(/[A-Za-z0-9{}_.~-]+)*$`)
	nameForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)
)

// maxMapping caps the file, and what stands in it.
const (
	maxMapping     = 256 << 10
	maxCollections = 32
	maxFields      = 128
)

// load reads and checks a mapping. The error says what to do; it repeats names of the file's, which are configuration, and no values.
func load(name string) (*mapping, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.New("the file cannot be opened")
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxMapping+1))
	if err != nil || len(text) > maxMapping {
		return nil, errors.New("the file cannot be read, or is longer than 256 KiB")
	}
	return readMapping(text)
}

func readMapping(text []byte) (*mapping, error) {
	m := &mapping{}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(m); err != nil {
		return nil, errors.New("not a mapping: an unknown key, or a value of another kind than MAPPING.md has it")
	}
	if d.Decode(new(yaml.Node)) != io.EOF {
		return nil, errors.New("more than one document")
	}
	return m, m.check()
}

func (m *mapping) check() error {
	for _, form := range m.Dates {
		if dateForms[form] == "" {
			return errors.New("dates: one of " + strings.Join(dateFormNames, ", "))
		}
	}
	p := &m.Person
	switch {
	case !webForm.MatchString(p.Search) || strings.ContainsAny(p.Search, "{}"):
		return errors.New("person.search: a path below baseURL, such as persons/search")
	case p.Parameter == "" || p.ID == "" || p.Number == "":
		return errors.New("person: parameter, id and number are needed")
	case len(m.Collections) == 0 || len(m.Collections) > maxCollections:
		return errors.New("collections: 1 to 32")
	}
	if !plainPaths(p.ID, p.Number, p.Items, p.Status, m.Paging.Items, m.Paging.Next, m.Refusals.Code) {
		return errors.New("a path is member names with points between them")
	}
	for _, code := range p.Statuses {
		if len(code) != 2 || code < "01" || code > "08" {
			return errors.New("person.statuses: NHS number status indicator codes, 01 to 08")
		}
	}
	seen := map[string]bool{}
	for _, c := range m.Collections {
		if c == nil || !nameForm.MatchString(c.Name) || seen[c.Name] {
			return errors.New("collections: each with a name of its own, of letters, digits and hyphens")
		}
		seen[c.Name] = true
	}
	if err := m.checkFields("person", p.Fields, seen); err != nil {
		return err
	}
	for _, c := range m.Collections {
		if err := m.checkCollection(c, seen); err != nil {
			return err
		}
	}
	return nil
}

// plainPaths reports whether all that is given is a path without stars.
func plainPaths(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool {
		return path != "" && (!pathForm.MatchString(path) || strings.Contains(path, "*"))
	})
}

func (m *mapping) checkCollection(c *collection, names map[string]bool) error {
	t, known := targets[c.Resource]
	switch {
	case !known:
		return errors.New(c.Name + ".resource: CarePlan, CareTeam, DocumentReference, EpisodeOfCare, Flag, QuestionnaireResponse or RelatedPerson")
	case !webForm.MatchString(c.Path) || strings.Count(c.Path, "{id}") != 1 || strings.ContainsAny(strings.Replace(c.Path, "{id}", "", 1), "{}"):
		return errors.New(c.Name + ".path: a path below baseURL with {id} in it once, such as persons/{id}/cases")
	}
	for _, path := range append(slices.Clone(c.Ignore), c.ID, c.Person) {
		if path != "" && !pathForm.MatchString(path) {
			return errors.New(c.Name + ": a path is member names with points between them")
		}
	}
	if c.Paging == nil {
		c.Paging = &m.Paging
	}
	if !plainPaths(c.Paging.Items, c.Paging.Next) {
		return errors.New(c.Name + ".paging: a path is member names with points between them")
	}
	if err := m.checkFields(c.Name, c.Fields, names); err != nil {
		return err
	}
	for _, element := range t.required {
		if !slices.ContainsFunc(c.Fields, func(f *field) bool { return f.to[0].name == element }) {
			return errors.New(c.Name + ": FHIR demands " + element + " of a " + c.Resource + ": map it, or give it a value")
		}
	}
	return nil
}

func (m *mapping) checkFields(of string, list []*field, names map[string]bool) error {
	if len(list) == 0 || len(list) > maxFields {
		return errors.New(of + ".fields: 1 to 128")
	}
	forms := map[string]string{} // how an element is written, so that it is not a list in one place and none in another
	for n, f := range list {
		if f == nil || !targetForm.MatchString(f.To) {
			return errors.New(of + ".fields: to is an element, such as period.start or participant[0].role[0].text")
		}
		at := of + " " + f.To + ": "
		switch {
		case (f.From == "") == (f.Value == ""):
			return errors.New(at + "from or value, one of them")
		case f.From != "" && !pathForm.MatchString(f.From):
			return errors.New(at + "from is member names with points between them")
		case strings.Count(f.From, "[*]") != strings.Count(f.To, "[*]") || strings.Count(f.To, "[*]") > 1:
			return errors.New(at + "a star in to and in from, once each, or in neither")
		case !slices.Contains([]string{"", "text", "date", "time", "number", "boolean", "reference"}, f.As):
			return errors.New(at + "as is text, date, time, number, boolean or reference")
		case (f.As == "reference") != (f.Of != "") || f.Of != "" && !names[f.Of]:
			return errors.New(at + "a reference is of a collection")
		}
		for name := range strings.SplitSeq(f.To, ".") {
			s := step{name, noList}
			if i := strings.IndexByte(name, '['); i >= 0 {
				s.name = name[:i]
				if s.index = star; name[i+1] != '*' {
					s.index, _ = strconv.Atoi(name[i+1 : len(name)-1]) // one digit
				}
			}
			f.to = append(f.to, s)
		}
		if first := f.to[0].name; slices.Contains([]string{"resourceType", "id", "meta", "subject", "patient", "extension", "contained"}, first) || of == "person" && first == "identifier" {
			return errors.New(at + "is not for a mapping to say")
		}
		path := ""
		for i, s := range f.to {
			path += "." + s.name
			form := "list"
			if s.index == noList {
				form = "object"
			}
			if i == len(f.to)-1 {
				form += " of values"
			}
			if before := forms[path]; before != "" && before != form {
				return errors.New(at + "is written in two ways")
			}
			forms[path] = form
		}
		if slices.ContainsFunc(list[:n], f.overlaps) {
			return errors.New(at + "is made by two fields")
		}
	}
	return nil
}

// overlaps reports whether two fields may make the same element: what the first made would be lost.
func (f *field) overlaps(other *field) bool {
	return slices.EqualFunc(f.to, other.to, func(a, b step) bool {
		return a.name == b.name && (a.index == b.index || a.index == star || b.index == star) // a name is a list in both or in neither
	})
}
