package simulator

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// What HL7 v2 can carry of a FHIR R4 record here: Patient as PID, Encounter as PV1 and PV2, DiagnosticReport with its Observations, and
// Observations alone, as OBR and OBX, DocumentReference as TXA and OBX. Everything else is counted.

// v2Resource is as much of a resource as is written.
type v2Resource struct {
	ResourceType, ID string
	Identifier       []struct {
		System, Value string
		Extension     []struct {
			URL                  string
			ValueCodeableConcept v2Concept
		}
	}
	Name []struct {
		Family string
		Given  []string
		Prefix []string
	}
	Gender, BirthDate, DeceasedDateTime string
	DeceasedBoolean                     *bool
	Address                             []struct {
		Line                             []string
		City, District, PostalCode, Text string
	}
	Telecom           []struct{ System, Value, Use string }
	Status            string
	Class             v2Coding
	Type              json.RawMessage // a concept, or a list of them
	Period            v2Period
	Participant       []struct{ Individual v2Reference }
	Location          []struct{ Location v2Reference }
	Category          []v2Concept
	Code              v2Concept
	Encounter         v2Reference
	EffectiveDateTime string
	EffectivePeriod   v2Period
	Issued            string
	Conclusion        string
	Result            []v2Reference
	Interpretation    []v2Concept
	ReferenceRange    []struct {
		Text      string
		Low, High *v2Quantity
	}
	Note                 []struct{ Text string }
	Component            []v2Value
	Description, Date    string
	Content              []struct{ Attachment v2Attachment }
	ValueQuantity        *v2Quantity
	ValueString          *string
	ValueCodeableConcept *v2Concept
	ValueInteger         *json.Number
	ValueBoolean         *bool
	ValueDateTime        *string
}

type v2Value struct {
	Code                 v2Concept
	ValueQuantity        *v2Quantity
	ValueString          *string
	ValueCodeableConcept *v2Concept
	ValueInteger         *json.Number
}

type (
	v2Coding  struct{ System, Code, Display string }
	v2Concept struct {
		Coding []v2Coding
		Text   string
	}
	v2Reference struct{ Reference, Display string }
	v2Period    struct{ Start, End string }
	v2Quantity  struct {
		Value                          json.Number
		Comparator, Unit, System, Code string
	}
	v2Attachment struct{ ContentType, Title, Creation, Data string }
)

// written turns a person's record into segments.
func (e *Engine) written(number string, list []json.RawMessage) (*engineRecord, error) {
	byKey := map[string]*v2Resource{}
	var all []*v2Resource
	r := &engineRecord{groups: map[string][]Group{}}
	for _, raw := range list {
		x := &v2Resource{}
		var kind struct{ ResourceType, ID string }
		if err := json.Unmarshal(raw, &kind); err != nil || kind.ResourceType == "" {
			return nil, errors.New("not a resource")
		}
		switch x.ResourceType, x.ID = kind.ResourceType, kind.ID; kind.ResourceType {
		case "Patient", "Encounter", "DiagnosticReport", "Observation", "DocumentReference", "Practitioner":
			d := json.NewDecoder(strings.NewReader(strings.ReplaceAll(string(raw), BaseMark+"/", "")))
			d.UseNumber()
			if err := d.Decode(x); err != nil {
				return nil, errors.New("a resource that cannot be written: " + kind.ResourceType)
			}
		}
		byKey[x.ResourceType+"/"+x.ID] = x
		all = append(all, x)
	}
	visit := func(ref v2Reference) []string {
		if enc := byKey[ref.Reference]; enc != nil && enc.ResourceType == "Encounter" {
			return []string{e.pv1(enc, byKey)}
		}
		return nil
	}
	code := func(query string) string { c, _, _ := strings.Cut(query, "^"); return c }
	add := func(query string, g Group) { r.groups[code(query)] = append(r.groups[code(query)], g) }
	reported := map[string]bool{}
	for _, x := range all {
		if x.ResourceType == "DiagnosticReport" {
			for _, ref := range x.Result {
				reported[ref.Reference] = true
			}
		}
	}
	for _, x := range all {
		switch x.ResourceType {
		case "Patient":
			if r.pid != "" {
				return nil, errors.New("two Patients in one record")
			}
			r.pid = e.pid(number, x)
		case "Encounter":
			add(QueryVisits, Group{e.pv1(x, byKey), e.pv2(x)})
		case "DiagnosticReport":
			g := Group(visit(x.Encounter))
			g = append(g, e.obr(x))
			if x.Conclusion != "" {
				g = append(g, "NTE|1|L|"+hl7Text(x.Conclusion))
			}
			for _, ref := range x.Result {
				if o := byKey[ref.Reference]; o != nil && o.ResourceType == "Observation" {
					g = append(g, e.obx(o, len(g))...)
				}
			}
			add(QueryResults, g)
		case "Observation":
			if !reported["Observation/"+x.ID] {
				add(QueryResults, append(append(Group(visit(x.Encounter)), e.obr(x)), e.obx(x, 1)...))
			}
		case "DocumentReference":
			add(QueryDocuments, e.txa(x))
		case "Practitioner", "PractitionerRole", "Organization", "Location": // names, where something refers to them
		default:
			e.left[x.ResourceType]++
		}
	}
	if r.pid == "" {
		return nil, errors.New("no Patient in the record")
	}
	if len(r.groups[code(QueryVisits)]) == 0 {
		add(QueryVisits, Group{"PD1|"}) // who the person is can be asked even without a visit
	}
	return r, nil
}

// hl7Text escapes text for a field.
func hl7Text(s string) string {
	return strings.NewReplacer(`\`, `\E\`, "|", `\F\`, "^", `\S\`, "&", `\T\`, "~", `\R\`, "\r\n", `\.br\`, "\n", `\.br\`, "\r", `\.br\`).Replace(s)
}

// hl7Time writes a FHIR date or dateTime with the precision that it has.
func hl7Time(s string) string {
	day, clock, timed := strings.Cut(s, "T")
	day = strings.ReplaceAll(day, "-", "")
	if !timed {
		return day
	}
	zone := ""
	if rest, is := strings.CutSuffix(clock, "Z"); is {
		clock, zone = rest, "+0000"
	} else if i := strings.LastIndexAny(clock, "+-"); i >= 0 {
		clock, zone = clock[:i], strings.ReplaceAll(clock[i:], ":", "")
	}
	return day + strings.ReplaceAll(clock, ":", "") + zone
}

var v2Systems = map[string]string{"http://loinc.org": "LN", "http://snomed.info/sct": "SCT", "http://unitsofmeasure.org": "UCUM", "http://hl7.org/fhir/sid/icd-10": "I10"}

// cwe writes a concept: first coding, second coding, original text.
func cwe(c v2Concept) string {
	var parts [9]string
	for i, x := range c.Coding[:min(2, len(c.Coding))] {
		system := v2Systems[x.System]
		if system == "" {
			system = "L"
		}
		parts[3*i], parts[3*i+1], parts[3*i+2] = hl7Text(x.Code), hl7Text(x.Display), system
	}
	if len(c.Coding) == 0 {
		parts[1] = hl7Text(c.Text)
	}
	parts[8] = hl7Text(c.Text)
	return strings.TrimRight(strings.Join(parts[:], "^"), "^")
}

// fields puts values at their places in a segment.
func fields(name string, at map[int]string) string {
	last := 0
	for n, v := range at {
		if v != "" {
			last = max(last, n)
		}
	}
	out := make([]string, last+1)
	out[0] = name
	for n, v := range at {
		if n <= last {
			out[n] = v
		}
	}
	return strings.Join(out, "|")
}

func (e *Engine) pid(number string, p *v2Resource) string {
	ids := []string{number + "^^^NHS^NH"}
	status := ""
	for _, id := range p.Identifier {
		if id.System != nhsNumberSystem {
			continue
		}
		for _, x := range id.Extension {
			if strings.HasSuffix(x.URL, "NHSNumberVerificationStatus") && len(x.ValueCodeableConcept.Coding) > 0 {
				status = "NSTS" + x.ValueCodeableConcept.Coding[0].Code
			}
		}
	}
	if !strings.Contains(p.ID, number) {
		ids = append(ids, hl7Text(p.ID)+"^^^"+e.cfg.Facility+"^MR")
	}
	at := map[int]string{1: "1", 3: strings.Join(ids, "~"), 7: hl7Time(p.BirthDate), 32: status}
	var names []string
	for _, n := range p.Name {
		given, further := "", ""
		if len(n.Given) > 0 {
			given, further = n.Given[0], strings.Join(n.Given[1:], " ")
		}
		names = append(names, strings.TrimRight(strings.Join([]string{hl7Text(n.Family), hl7Text(given), hl7Text(further), "", hl7Text(strings.Join(n.Prefix, " "))}, "^"), "^"))
	}
	at[5] = strings.Join(names, "~")
	at[8] = map[string]string{"male": "M", "female": "F", "other": "O", "unknown": "U"}[p.Gender]
	var places, numbers []string
	for _, a := range p.Address {
		line1, line2 := a.Text, ""
		if len(a.Line) > 0 {
			line1, line2 = a.Line[0], strings.Join(a.Line[1:], ", ")
		}
		places = append(places, strings.Join([]string{hl7Text(line1), hl7Text(line2), hl7Text(a.City), hl7Text(a.District), hl7Text(a.PostalCode)}, "^"))
	}
	for _, t := range p.Telecom {
		numbers = append(numbers, hl7Text(t.Value)+map[string]string{"home": "^PRN^PH", "work": "^WPN^PH", "mobile": "^PRN^CP"}[t.Use])
	}
	at[11], at[13] = strings.Join(places, "~"), strings.Join(numbers, "~")
	switch {
	case p.DeceasedDateTime != "":
		at[29], at[30] = hl7Time(p.DeceasedDateTime), "Y"
	case p.DeceasedBoolean != nil && *p.DeceasedBoolean:
		at[30] = "Y"
	}
	return fields("PID", at)
}

func (e *Engine) pv1(v *v2Resource, byKey map[string]*v2Resource) string {
	class := map[string]string{"EMER": "E", "IMP": "I", "AMB": "O", "PRENC": "P", "ACUTE": "I", "NONAC": "I"}[v.Class.Code]
	if class == "" {
		class = "U"
	}
	at := map[int]string{1: "1", 2: class, 19: hl7Text(v.ID) + "^^^" + e.cfg.Facility + "^VN", 44: hl7Time(v.Period.Start), 45: hl7Time(v.Period.End)}
	name := func(ref v2Reference) string {
		if x := byKey[ref.Reference]; x != nil && len(x.Name) > 0 {
			return "^" + hl7Text(x.Name[0].Family) + "^" + hl7Text(strings.Join(x.Name[0].Given, " ")) + "^^^" + hl7Text(strings.Join(x.Name[0].Prefix, " "))
		}
		if ref.Display != "" {
			return "^" + hl7Text(ref.Display)
		}
		return ""
	}
	if len(v.Participant) > 0 {
		at[7] = name(v.Participant[0].Individual)
	}
	if len(v.Location) > 0 {
		at[3] = hl7Text(v.Location[0].Location.Display)
	}
	return fields("PV1", at)
}

func (e *Engine) pv2(v *v2Resource) string {
	return fields("PV2", map[int]string{3: cwe(firstConcept(v.Type))})
}

// firstConcept reads a concept, or the first of a list.
func firstConcept(raw json.RawMessage) v2Concept {
	var list []v2Concept
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		return list[0]
	}
	var one v2Concept
	_ = json.Unmarshal(raw, &one) // nothing there is nothing said
	return one
}

var v2Status = map[string]string{"final": "F", "preliminary": "P", "corrected": "C", "amended": "A", "cancelled": "X", "entered-in-error": "W", "registered": "I", "partial": "A"}

func (e *Engine) obr(x *v2Resource) string {
	at := map[int]string{1: "1", 3: hl7Text(x.ID) + "^" + e.cfg.Facility, 4: cwe(x.Code), 7: hl7Time(x.EffectiveDateTime), 22: hl7Time(x.Issued), 25: v2Status[x.Status]}
	if x.EffectivePeriod.Start != "" {
		at[7], at[8] = hl7Time(x.EffectivePeriod.Start), hl7Time(x.EffectivePeriod.End)
	}
	if x.ResourceType == "Observation" && at[25] == "A" {
		at[25] = "C"
	}
	for _, c := range x.Category {
		for _, coding := range c.Coding {
			if s := map[string]string{"laboratory": "LAB", "imaging": "RAD"}[coding.Code]; s != "" {
				at[24] = s
			}
		}
	}
	return fields("OBR", at)
}

// obx writes an Observation: one segment, or one for each component, and its notes.
func (e *Engine) obx(o *v2Resource, n int) []string {
	at := map[int]string{1: strconv.Itoa(n), 3: cwe(o.Code), 11: v2Status[o.Status], 14: hl7Time(o.EffectiveDateTime)}
	var flags []string
	for _, i := range o.Interpretation {
		if len(i.Coding) > 0 {
			flags = append(flags, hl7Text(i.Coding[0].Code))
		}
	}
	at[8] = strings.Join(flags, "~")
	if len(o.ReferenceRange) > 0 {
		r := o.ReferenceRange[0]
		at[7] = hl7Text(r.Text)
		if r.Text == "" && r.Low != nil && r.High != nil {
			at[7] = r.Low.Value.String() + " - " + r.High.Value.String()
		}
	}
	var out []string
	if len(o.Component) > 0 {
		for i, c := range o.Component {
			part := map[int]string{1: strconv.Itoa(n + i), 3: cwe(c.Code), 4: strconv.Itoa(i + 1), 11: at[11], 14: at[14]}
			c.write(part)
			out = append(out, fields("OBX", part))
		}
	} else {
		v2Value{ValueQuantity: o.ValueQuantity, ValueString: o.ValueString, ValueCodeableConcept: o.ValueCodeableConcept, ValueInteger: o.ValueInteger}.write(at)
		switch {
		case o.ValueBoolean != nil:
			at[2], at[5] = "ID", map[bool]string{true: "Y", false: "N"}[*o.ValueBoolean]
		case o.ValueDateTime != nil:
			at[2], at[5] = "DTM", hl7Time(*o.ValueDateTime)
		}
		out = append(out, fields("OBX", at))
	}
	for i, note := range o.Note {
		out = append(out, "NTE|"+strconv.Itoa(i+1)+"|L|"+hl7Text(note.Text))
	}
	return out
}

func (v v2Value) write(at map[int]string) {
	switch {
	case v.ValueQuantity != nil:
		q := v.ValueQuantity
		at[2], at[5] = "NM", q.Value.String()
		if q.Comparator != "" {
			at[2], at[5] = "SN", q.Comparator+"^"+q.Value.String()
		}
		at[6] = hl7Text(q.Unit)
		if q.System == "http://unitsofmeasure.org" && q.Code != "" {
			at[6] = hl7Text(q.Code) + "^" + hl7Text(q.Unit) + "^UCUM"
		}
	case v.ValueString != nil:
		at[2], at[5] = "TX", hl7Text(*v.ValueString)
	case v.ValueCodeableConcept != nil:
		at[2], at[5] = "CWE", cwe(*v.ValueCodeableConcept)
	case v.ValueInteger != nil:
		at[2], at[5] = "NM", v.ValueInteger.String()
	}
}

func (e *Engine) txa(d *v2Resource) Group {
	creation := ""
	if len(d.Content) > 0 {
		creation = d.Content[0].Attachment.Creation
	}
	status := map[string]string{"current": "AV", "superseded": "OB", "entered-in-error": "CA"}[d.Status]
	at := map[int]string{1: "1", 2: cwe(firstConcept(d.Type)), 3: "TX", 4: hl7Time(creation), 6: hl7Time(creation), 12: hl7Text(d.ID) + "^" + e.cfg.Facility,
		16: hl7Text(d.Description), 17: "AU", 19: status}
	out := Group{fields("TXA", at)}
	for i, c := range d.Content {
		a := c.Attachment
		data, err := base64.StdEncoding.DecodeString(a.Data)
		n := strconv.Itoa(i + 1)
		if strings.HasPrefix(a.ContentType, "text/plain") && err == nil && len(data) > 0 {
			for line := range strings.SplitSeq(string(data), "\n") {
				out = append(out, "OBX|"+n+"|TX|"+"11488-4^Document^LN||"+hl7Text(line)+"||||||F")
			}
			continue
		}
		out = append(out, "OBX|"+n+"|ED|11488-4^"+hl7Text(a.Title)+"^LN||^APPLICATION^"+hl7Text(a.ContentType)+"^Base64^"+a.Data+"||||||F")
	}
	return out
}
