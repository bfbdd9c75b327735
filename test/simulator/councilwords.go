package simulator

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// dialect is how a council names things: paths below /api, and members of its answers. Names with a point are nested; a star stands for the items of a
// list within an item.
type dialect struct {
	root, search, parameter string
	items, next, code       string
	numbered                bool // pages are numbers, not addresses
	dates                   string
	person                  map[string]string
	verified                string
	collections             map[string]words
}

// words are one collection: the last part of its path, what it becomes from, the names of members, and of states.
type words struct {
	path   string
	from   string            // FHIR type
	keys   map[string]string // id, person, and those of write
	states map[string]string // FHIR's to the council's
}

func (d dialect) collectionAt(path string) string {
	for name, w := range d.collections {
		if w.path == path {
			return name
		}
	}
	return ""
}

var dialects = map[Dialect]dialect{
	Westmarch: {root: "persons", search: "persons/search", parameter: "nhsNumber", items: "items", next: "links.next", code: "error.code", dates: "02/01/2006",
		person: map[string]string{"id": "personId", "number": "nhsNumber", "status": "nhsNumberStatus", "family": "surname", "given": "forename", "born": "dateOfBirth", "gender": "gender"}, verified: "Verified",
		collections: map[string]words{
			"involvements": {"involvements", "CareTeam", map[string]string{"id": "involvementId", "person": "personId", "title": "teamName", "worker": "worker.name", "role": "worker.role", "from": "startDate", "to": "endDate", "state": "status"}, map[string]string{"active": "Open", "inactive": "Closed"}},
			"plans":        {"careplans", "CarePlan", map[string]string{"id": "planId", "person": "personId", "title": "planName", "words": "summary", "from": "startDate", "to": "endDate", "state": "status", "reference": "cost"}, map[string]string{"active": "Active", "completed": "Ended", "draft": "Draft"}},
			"packages":     {"packages", "EpisodeOfCare", map[string]string{"id": "packageId", "person": "personId", "title": "serviceType", "from": "startDate", "to": "endDate", "state": "status"}, map[string]string{"active": "Active", "finished": "Ended", "planned": "Planned"}},
			"alerts":       {"alerts", "Flag", map[string]string{"id": "alertId", "person": "personId", "title": "description", "from": "raisedOn", "to": "endedOn", "state": "status"}, map[string]string{"active": "Live", "inactive": "Ended"}},
			"assessments":  {"assessments", "QuestionnaireResponse", map[string]string{"id": "assessmentId", "person": "personId", "from": "completedOn", "state": "status", "answers": "questions", "question": "question", "answer": "answer"}, map[string]string{"completed": "Complete", "in-progress": "Started"}},
			"contacts":     {"contacts", "RelatedPerson", map[string]string{"id": "contactId", "person": "personId", "family": "surname", "given": "forename", "role": "relationship", "phone": "telephone"}, nil},
		}},
	Northmoor: {root: "clients", search: "clients/find", parameter: "NHSNo", items: "Data.Rows", next: "Data.NextPage", code: "Fault", numbered: true, dates: "2006-01-02",
		person: map[string]string{"id": "Ref", "number": "Identifiers.NHS", "status": "Identifiers.NHSTrace", "family": "Name.Last", "given": "Name.First", "born": "DOB", "gender": "Sex"}, verified: "Y",
		collections: map[string]words{
			"involvements": {"allocations", "CareTeam", map[string]string{"id": "AllocationRef", "person": "ClientRef", "title": "Team", "worker": "AllocatedTo", "role": "JobTitle", "from": "From", "to": "Until", "state": "State"}, map[string]string{"active": "CURRENT", "inactive": "PAST"}},
			"plans":        {"support-plans", "CarePlan", map[string]string{"id": "Ref", "person": "ClientRef", "title": "Heading", "words": "Narrative", "from": "Period.From", "to": "Period.Until", "state": "State", "reference": "Cost.PerWeek"}, map[string]string{"active": "CURRENT", "completed": "PAST", "draft": "NEW"}},
			"packages":     {"services", "EpisodeOfCare", map[string]string{"id": "Ref", "person": "ClientRef", "title": "Service.Name", "from": "Period.From", "to": "Period.Until", "state": "State"}, map[string]string{"active": "CURRENT", "finished": "PAST", "planned": "NEW"}},
			"alerts":       {"warnings", "Flag", map[string]string{"id": "Ref", "person": "ClientRef", "title": "Text", "from": "Raised", "to": "Lowered", "state": "State"}, map[string]string{"active": "CURRENT", "inactive": "PAST"}},
			"assessments":  {"forms", "QuestionnaireResponse", map[string]string{"id": "FormRef", "person": "ClientRef", "from": "Signed", "state": "State", "answers": "Lines", "question": "Q", "answer": "A"}, map[string]string{"completed": "SIGNED", "in-progress": "OPEN"}},
			"contacts":     {"network", "RelatedPerson", map[string]string{"id": "Ref", "person": "ClientRef", "family": "Name.Last", "given": "Name.First", "role": "Relation", "phone": "Phone"}, nil},
		}},
}

// councilResource is as much of a FHIR resource as a council's words carry.
type councilResource struct {
	ResourceType, ID, Status, Title, Description, Authored string
	Identifier                                             []struct {
		System    string
		Extension []struct {
			URL                  string
			ValueCodeableConcept v2Concept
		}
	}
	Name              json.RawMessage // of people a list, of teams a text
	Gender, BirthDate string
	Code              v2Concept
	Type              json.RawMessage
	Period            v2Period
	Participant       []struct {
		Role   []v2Concept
		Member v2Reference
	}
	Relationship []v2Concept
	Telecom      []struct{ Value string }
	Item         []struct {
		Text   string
		Answer []struct{ ValueString string }
	}
}

type humanName struct {
	Family string
	Given  []string
}

func (r *councilResource) human() humanName {
	var list []humanName
	if json.Unmarshal(r.Name, &list) == nil && len(list) > 0 {
		return list[0]
	}
	return humanName{}
}

// written turns a record in FHIR into the council's items.
func (c *Council) written(number, id string, list []json.RawMessage) (*client, error) {
	p := &client{id: id, number: number, items: map[string][]map[string]any{}}
	names := map[string]humanName{}
	var all []*councilResource
	for _, raw := range list {
		var kind struct{ ResourceType, ID string }
		if json.Unmarshal(raw, &kind) != nil || kind.ResourceType == "" {
			return nil, errors.New("not a resource")
		}
		switch kind.ResourceType {
		case "Patient", "Practitioner", "CareTeam", "CarePlan", "EpisodeOfCare", "Flag", "QuestionnaireResponse", "RelatedPerson":
			r := &councilResource{}
			if json.Unmarshal([]byte(strings.ReplaceAll(string(raw), BaseMark+"/", "")), r) != nil {
				return nil, errors.New("a resource that cannot be written: " + kind.ResourceType)
			}
			names[kind.ResourceType+"/"+kind.ID] = r.human()
			all = append(all, r)
		case "Organization", "Location", "PractitionerRole":
		default:
			c.left[kind.ResourceType]++
		}
	}
	for _, r := range all {
		if r.ResourceType == "Patient" {
			if p.person != nil {
				return nil, errors.New("two Patients in one record")
			}
			p.person = c.writePerson(number, id, r)
			continue
		}
		for name, w := range c.words.collections {
			if w.from == r.ResourceType {
				p.items[name] = append(p.items[name], c.writeItem(w, id, r, names))
			}
		}
	}
	if p.person == nil {
		return nil, errors.New("no Patient in the record")
	}
	return p, nil
}

func (c *Council) writePerson(number, id string, r *councilResource) map[string]any {
	out, k := map[string]any{}, c.words.person
	put(out, k["id"], id)
	put(out, k["number"], number)
	for _, i := range r.Identifier {
		for _, x := range i.Extension {
			if i.System == nhsNumberSystem && strings.HasSuffix(x.URL, "NHSNumberVerificationStatus") && len(x.ValueCodeableConcept.Coding) > 0 && x.ValueCodeableConcept.Coding[0].Code == "01" {
				put(out, k["status"], c.words.verified)
			}
		}
	}
	n := r.human()
	put(out, k["family"], n.Family)
	put(out, k["given"], strings.Join(n.Given, " "))
	put(out, k["born"], c.date(r.BirthDate))
	put(out, k["gender"], map[string]string{"male": "M", "female": "F"}[r.Gender])
	return out
}

// date writes a day in the dialect's form; anything that is no day stays as it is.
func (c *Council) date(s string) any {
	if s == "" {
		return nil
	}
	if t, err := time.Parse(time.DateOnly, s[:min(len(s), len(time.DateOnly))]); err == nil {
		return t.Format(c.words.dates)
	}
	return s
}

func (c *Council) writeItem(w words, personID string, r *councilResource, names map[string]humanName) map[string]any {
	out := map[string]any{"internalFlag": true}
	set := func(key string, v any) {
		if name := w.keys[key]; name != "" && v != "" {
			put(out, name, v)
		}
	}
	set("id", r.ID)
	set("person", personID)
	state := r.Status
	if word := w.states[state]; word != "" {
		state = word
	}
	set("state", state)
	title := r.Title
	if title == "" {
		title = r.Code.Text
	}
	if title == "" {
		title = firstConcept(r.Type).Text
	}
	if title == "" {
		_ = json.Unmarshal(r.Name, &title) // the name of a team; of people it is no text
	}
	set("title", title)
	set("words", r.Description)
	set("from", c.date(r.Period.Start))
	set("to", c.date(r.Period.End))
	if r.Authored != "" {
		set("from", c.date(r.Authored))
	}
	if len(r.Participant) > 0 {
		m := r.Participant[0]
		n := names[m.Member.Reference]
		worker := strings.TrimSpace(strings.Join(n.Given, " ") + " " + n.Family)
		if worker == "" {
			worker = m.Member.Display
		}
		set("worker", worker)
		if len(m.Role) > 0 {
			set("role", m.Role[0].Text)
		}
	}
	if len(r.Relationship) > 0 {
		set("role", r.Relationship[0].Text)
	}
	if len(r.Telecom) > 0 {
		set("phone", r.Telecom[0].Value)
	}
	if n := r.human(); n.Family != "" {
		set("family", n.Family)
		set("given", strings.Join(n.Given, " "))
	}
	if w.keys["answers"] != "" {
		lines := []map[string]any{}
		for _, i := range r.Item {
			line := map[string]any{w.keys["question"]: i.Text}
			if len(i.Answer) > 0 {
				line[w.keys["answer"]] = i.Answer[0].ValueString
			}
			lines = append(lines, line)
		}
		set("answers", lines)
	}
	return out
}
