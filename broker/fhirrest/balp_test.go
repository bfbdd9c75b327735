package fhirrest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The patterns of IHE BALP 1.1 (profiles.ihe.net/ITI/BALP; read in November 2026), as a table of slices with their fixed codes. It is written here from the profiles'
// own text, and held against IHE's own examples; the code that makes the events knows nothing of it.

// balpSlice is one slice of an element: which codes make it, and how often it is there.
type balpSlice struct {
	element     string // agent or entity
	code        string // agent: system|code of its type; entity: of its type, then a space and of its role where it has one
	least, most int
}

// balpShape is one pattern.
type balpShape struct {
	typ      string   // system|code
	subtypes []string // one of them is there
	action   string
	outcomes []string
	slices   []balpSlice
}

const (
	dcm         = systemDCM + "|"
	person1     = systemEntityType + "|1 " + systemEntityRole + "|1"
	query24     = systemEntityType + "|2 " + systemEntityRole + "|24"
	data4       = systemEntityType + "|2 " + systemEntityRole + "|4"
	transaction = systemBALPEntity + "|XrequestId"
)

var (
	fromTo    = []balpSlice{{"agent", dcm + "110153", 1, 1}, {"agent", dcm + "110152", 1, 1}, {"entity", transaction, 0, 1}}
	recipient = balpSlice{"agent", systemParticipant + "|IRCP", 0, 1}
	author    = balpSlice{"agent", systemParticipant + "|AUT", 0, 1}
	searched  = []string{systemInteraction + "|search", systemInteraction + "|search-type", systemInteraction + "|search-system"}
)

// balpShapes are the patterns by name: those that BALP publishes by their profile's, and those of what it has no profile for.
var balpShapes = map[string]balpShape{
	"Query":         {systemEventType + "|rest", searched, "E", []string{"0"}, append([]balpSlice{recipient, {"entity", query24, 1, 1}, {"entity", person1, 0, 0}}, fromTo...)},
	"PatientQuery":  {systemEventType + "|rest", searched, "E", []string{"0"}, append([]balpSlice{recipient, {"entity", query24, 1, 1}, {"entity", person1, 1, 1}}, fromTo...)},
	"PatientCreate": {systemEventType + "|rest", []string{systemInteraction + "|create"}, "C", []string{"0"}, append([]balpSlice{author, {"entity", data4, 1, 1}, {"entity", person1, 1, 1}, {"entity", query24, 0, 0}}, fromTo...)},
	"PatientUpdate": {systemEventType + "|rest", []string{systemInteraction + "|update"}, "U", []string{"0"}, append([]balpSlice{author, {"entity", data4, 1, 1}, {"entity", person1, 1, 1}, {"entity", query24, 0, 0}}, fromTo...)},
	// BALP says of failures that they follow the pattern with another outcome; the profiles fix it, so these claim none.
	"an access that was not answered": {systemEventType + "|rest", searched, "E", []string{"4", "8"}, append([]balpSlice{recipient, {"entity", query24, 1, 1}, {"entity", person1, 0, 1}}, fromTo...)},
	"break-glass":                     {dcm + "110113", []string{dcm + "110127"}, "E", []string{"0", "4", "8"}, append([]balpSlice{recipient, {"entity", query24, 0, 0}, {"entity", person1, 1, 1}}, fromTo...)},
	"a list":                          {systemEventType + "|rest", []string{systemInteraction + "|batch"}, "C", []string{"0"}, append([]balpSlice{author, {"entity", query24, 0, 0}, {"entity", person1, 0, 0}}, fromTo...)},
}

type balpCoding struct{ System, Code string }

func (c balpCoding) String() string { return c.System + "|" + c.Code }

// balpEvent is what of an AuditEvent the patterns speak of.
type balpEvent struct {
	Meta     struct{ Profile []string }
	Type     balpCoding
	Subtype  []balpCoding
	Action   string
	Recorded time.Time
	Outcome  string
	Agent    []struct {
		Type      struct{ Coding []balpCoding }
		Who       map[string]any
		Requestor *bool
		Network   map[string]any
		Media     any
	}
	Source struct {
		Observer map[string]any
		Type     []balpCoding
	}
	Entity []struct {
		What                  map[string]any
		Type                  balpCoding
		Role                  *balpCoding
		Query, Name           string
		Detail, SecurityLabel []any
		Lifecycle             any
	}
}

// balpPattern checks one of our events: that it has the slices of the pattern that it claims, or of the one that what it says happened has, and beyond that what all of
// ours have: one user who asked, and, of staff, their organisation.
func balpPattern(text []byte) (pattern, trouble string) {
	var e balpEvent
	if err := json.Unmarshal(text, &e); err != nil {
		return "", "it cannot be read"
	}
	switch {
	case len(e.Meta.Profile) == 1:
		pattern = strings.TrimPrefix(e.Meta.Profile[0], profileBALP)
	case len(e.Meta.Profile) > 1:
		return "", "it claims several profiles"
	case e.Type.Code == "110113":
		pattern = "break-glass"
	case slices.ContainsFunc(e.Subtype, func(c balpCoding) bool { return c.Code == "batch" }):
		pattern = "a list"
	default:
		pattern = "an access that was not answered"
	}
	if trouble := e.follows(pattern); trouble != "" {
		return pattern, trouble
	}
	asked, staff, at := 0, false, 0
	for _, a := range e.Agent {
		code := a.Type.Coding[0].String()
		if *a.Requestor {
			if code != recipient.code && code != author.code || !slices.ContainsFunc(balpShapes[pattern].slices, func(s balpSlice) bool { return s.code == code }) {
				return pattern, "who asked is not the slice of the user"
			}
			asked++
			staff = a.Who["type"] == "Practitioner"
		}
		if (code == dcm+"110153" || code == dcm+"110152") != (a.Network != nil) {
			return pattern, "systems have a network and users have none"
		}
		if code == systemRoleClass+"|PROV" {
			at++
		}
	}
	if asked != 1 || staff != (at == 1) {
		return pattern, fmt.Sprintf("%d agents are the requestor, and %d their organisation", asked, at)
	}
	if !slices.Contains(e.Source.Type, balpCoding{systemSourceType, "4"}) {
		return pattern, "the source is not said to be an application server"
	}
	return pattern, ""
}

// follows checks an event against a pattern. It returns what is wrong, "" for nothing.
func (e *balpEvent) follows(pattern string) string {
	shape, known := balpShapes[pattern]
	switch {
	case !known:
		return "it claims a profile that is not known here"
	case e.Recorded.IsZero() || len(e.Agent) == 0 || e.Source.Observer == nil:
		return "R4 needs recorded, an agent and a source"
	case e.Type.String() != shape.typ || e.Action != shape.action || !slices.Contains(shape.outcomes, e.Outcome):
		return "type, action or outcome is another"
	case !slices.ContainsFunc(e.Subtype, func(c balpCoding) bool { return slices.Contains(shape.subtypes, c.String()) }):
		return "no subtype is of the pattern's"
	}
	count := map[string]int{}
	for _, a := range e.Agent {
		if len(a.Type.Coding) != 1 || a.Who == nil || a.Requestor == nil || a.Media != nil {
			return "an agent has no one type, no who or no requestor, or has media"
		}
		code := a.Type.Coding[0].String()
		count["agent "+code]++
		switch code {
		case systemParticipant + "|IRCP", systemParticipant + "|AUT":
			if !*a.Requestor || a.Network != nil {
				return "the user is not the requestor, or has a network"
			}
		case dcm + "110153", dcm + "110152":
			if a.Network == nil {
				return "a system has no network"
			}
		}
	}
	for _, x := range e.Entity {
		code := x.Type.String()
		if x.Role != nil {
			code += " " + x.Role.String()
		}
		if code == systemEntityType+"|2 "+systemEntityRole+"|3" || code == systemEntityType+"|2 "+systemEntityRole+"|20" {
			code = data4 // reports and jobs are data as domain resources are
		}
		count["entity "+code]++
		switch code {
		case transaction:
			id, _ := x.What["identifier"].(map[string]any)
			if id["value"] == nil {
				return "the transaction has no value"
			}
		case query24:
			if raw, err := base64.StdEncoding.DecodeString(x.Query); err != nil || len(raw) == 0 || x.What != nil || x.Lifecycle != nil || x.Detail != nil || x.Name != "" {
				return "the query is not one"
			}
		case data4:
			if x.What == nil || x.Query != "" {
				return "the data has no what, or a query"
			}
		case person1:
			if reference, _ := x.What["reference"].(string); x.What["type"] != "Patient" && !strings.HasPrefix(reference, "Patient/") || x.Query != "" {
				return "the patient is none"
			}
		}
	}
	for _, s := range shape.slices {
		if n := count[s.element+" "+s.code]; n < s.least || n > s.most {
			return fmt.Sprintf("%d of the slice %s, want %d to %d", n, s.code, s.least, s.most)
		}
	}
	return ""
}

// The table is held against IHE's own examples: those of the four profiles that we claim are accepted, and each with one fixed code changed is not.
func TestBALPExamples(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "ihe-balp")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI is set and the sample data is missing")
		}
		t.Skip("no sample data beside the repository")
	}
	files, err := filepath.Glob(filepath.Join(dir, "AuditEvent-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	accepted, changed := map[string]int{}, 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var e balpEvent
		if json.Unmarshal(text, &e) != nil || len(e.Meta.Profile) == 0 {
			continue
		}
		pattern := strings.TrimPrefix(e.Meta.Profile[0], profileBALP)
		if _, ours := balpShapes[pattern]; !ours {
			continue
		}
		if trouble := e.follows(pattern); trouble != "" {
			t.Errorf("%s: %s", filepath.Base(path), trouble)
		}
		accepted[pattern]++
		for _, fixed := range fixedCodes(balpShapes[pattern]) {
			mutant := strings.ReplaceAll(string(text), `"code": "`+fixed+`"`, `"code": "x`+fixed+`"`)
			var m balpEvent
			if fixed == "4" && (strings.Contains(string(text), `"code": "3"`) || strings.Contains(string(text), `"code": "20"`)) {
				continue // its data is a report or a job: the 4 is of something else
			}
			if mutant == string(text) || json.Unmarshal([]byte(mutant), &m) != nil {
				continue
			}
			changed++
			if m.follows(pattern) == "" {
				t.Errorf("%s is accepted with another code than %s", filepath.Base(path), fixed)
			}
		}
	}
	if len(accepted) < 3 || changed < 30 {
		t.Errorf("%v examples and %d changes: too few", accepted, changed)
	}
	t.Logf("examples %v accepted, %d changed codes refused", accepted, changed)
}

// fixedCodes are the codes that a pattern cannot do without.
func fixedCodes(s balpShape) (codes []string) {
	after := func(text string) string { return text[strings.LastIndexByte(text, '|')+1:] }
	codes = append(codes, after(s.typ))
	if len(s.subtypes) == 1 {
		codes = append(codes, after(s.subtypes[0]))
	}
	for _, x := range s.slices {
		if x.least > 0 && !slices.Contains(codes, after(x.code)) {
			codes = append(codes, after(x.code))
		}
	}
	return codes
}

// Each of our own events with one of its fixed codes changed, or one of its systems, is found: so the test of the thousand questions can fail.
func TestBALPFindsAChangedCode(t *testing.T) {
	f := newBothFaces(t)
	f.live(40)
	form := "_query=who-looked&_count=1000&patient.identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C9990000018"
	found := map[string]string{}
	for _, query := range []string{form, "_query=consent-changes&_count=1000", "_query=break-glass&_count=1000", "_query=ledger-reads&_count=1000", "_query=refusals&_count=1000"} {
		resp := f.post("/fhir/AuditEvent/_search", formType, query, "Authorization: Bearer "+f.officer("X9A01"), "X-Audit-Reason: an inquiry")
		var bundle struct {
			Entry []struct{ Resource json.RawMessage }
		}
		if json.Unmarshal([]byte(bodyOf(t, resp)), &bundle) != nil {
			t.Fatal("an answer is none")
		}
		for _, e := range bundle.Entry {
			if !strings.Contains(string(e.Resource), `"resourceType":"AuditEvent"`) {
				continue
			}
			pattern, trouble := balpPattern(e.Resource)
			if trouble != "" {
				t.Fatalf("%s: %s", pattern, trouble)
			}
			found[pattern] = string(e.Resource)
		}
	}
	if len(found) < 5 {
		t.Fatalf("%d patterns were found: too few", len(found))
	}
	for pattern, text := range found {
		changes := []string{`"outcome":"`, `"action":"`, systemSourceType, systemParticipant, systemDCM}
		for _, code := range fixedCodes(balpShapes[pattern]) {
			changes = append(changes, `"code":"`+code+`"`)
		}
		for _, x := range changes {
			mutant := strings.ReplaceAll(text, x, x[:len(x)-1]+"z"+x[len(x)-1:])
			if _, trouble := balpPattern([]byte(mutant)); trouble == "" {
				t.Errorf("%s is accepted with %s changed", pattern, x)
			}
		}
	}
}
