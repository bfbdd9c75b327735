package cohort

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // appointments are at London times on any machine
)

// town is the neighbourhood while its people's records are written. Everything is a function of the day that is today.
type town struct {
	today   time.Time // midnight in London
	serial  map[string]int
	ids     map[string]string // of what several people's records share: organisations and staff
	people  []*Person
	keepers map[string]keeper
}

// keeper is how one custodian writes: the habits that a broker meets in real systems.
type keeper struct {
	id        func(t *town, number, typ string) string // of a resource
	patientID func(t *town, number string) string
	refers    func(patientID, number string) object // how its resources name the person
	pretty    bool                                  // its bytes are indented
	unstamped bool                                  // it sends no meta
	labels    []any                                 // meta.security of everything
	org       string
}

func newTown(now time.Time) *town {
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic("the embedded zone database lacks Europe/London")
	}
	now = now.In(london)
	t := &town{today: time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, london), serial: map[string]int{}, ids: map[string]string{}}

	next := func(t *town, key string) int { t.serial[key]++; return t.serial[key] }
	relative := func(id, _ string) object { return object{"reference": "Patient/" + id} }
	uuids := func(who string) keeper {
		id := func(t *town, number, typ string) string {
			return uuid(who, number, typ, fmt.Sprint(next(t, who+number+typ)))
		}
		return keeper{id: id, patientID: func(_ *town, n string) string { return uuid(who, n, "Patient") }, refers: relative}
	}
	// The acute and the community trust number each type from 1001: the same type and id means two things, often of two people.
	running := func(who string) keeper {
		id := func(t *town, _, typ string) string { return fmt.Sprint(1000 + next(t, who+typ)) }
		return keeper{id: id, patientID: func(t *town, n string) string { return id(t, n, "Patient") }, refers: relative}
	}
	gp, acute, community, nhs111 := uuids("gp"), running("acute"), running("community"), uuids("nhs111")
	acute.pretty = true
	acute.refers = func(id, _ string) object { return object{"reference": "{{base}}/Patient/" + id} }
	community.refers = func(id, _ string) object { return object{"reference": "Patient/" + id, "type": "Patient"} }
	mental := running("mentalhealth")
	mental.id = func(t *town, _, typ string) string {
		return fmt.Sprintf("%s-%04d", strings.ToLower(typ), next(t, "mentalhealth"+typ))
	}
	mental.labels = []any{object{"system": confidentiality, "code": "R", "display": "restricted"}}
	mental.refers = func(id, n string) object {
		return object{"reference": "Patient/" + id, "identifier": object{"system": nhsNumberSystem, "value": n}}
	}
	social := running("socialcare")
	social.patientID = func(_ *town, n string) string { return n } // the council files people under their NHS number
	social.id = func(t *town, _, typ string) string {
		return fmt.Sprintf("ASC.%s.%d", typ[:min(4, len(typ))], next(t, "socialcare"+typ))
	}
	long := func(t *town, number, typ string) string { // 64 characters: no room for a prefix
		sum := sha256.Sum256([]byte(fmt.Sprint("ambulance", number, typ, next(t, "ambulance"+number+typ))))
		return hex.EncodeToString(sum[:])
	}
	ambulance := keeper{id: long, patientID: func(t *town, n string) string { return long(t, n, "Patient") }, unstamped: true,
		refers: func(id, _ string) object { return object{"reference": "Patient/" + id + "/_history/1"} }}
	pharmacy := keeper{refers: relative,
		id:        func(t *town, n, typ string) string { return fmt.Sprintf("%s-%d", n, next(t, "pharmacy"+n+typ)) }, // the number stands in every id
		patientID: func(t *town, _ string) string { return fmt.Sprintf("PMR%05d", next(t, "pharmacyPatient")) }}
	hours := running("outofhours")
	hours.id = func(t *town, _, _ string) string { return fmt.Sprintf("OOH.%d", next(t, "outofhours")) }
	hours.refers = func(id, n string) object {
		return object{"reference": "Patient/" + id, "display": "the caller", "identifier": object{"system": nhsNumberSystem, "value": n}}
	}
	t.keepers = map[string]keeper{"gp": gp, "acute": acute, "mentalhealth": mental, "community": community, "socialcare": social,
		"ambulance": ambulance, "pharmacy": pharmacy, "nhs111": nhs111, "outofhours": hours}
	for _, c := range Custodians() {
		k := t.keepers[c.Key]
		k.org = c.Name
		t.keepers[c.Key] = k
	}
	return t
}

const confidentiality = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

func uuid(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "|")))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // RFC 9562, version 8
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// day returns the date so many days from today.
func (t *town) day(days int) string { return t.today.AddDate(0, 0, days).Format(time.DateOnly) }

// time returns an instant so many days from today, at that London time.
func (t *town) time(days int, clock string) string {
	at, err := time.ParseInLocation(time.DateOnly+" 15:04", t.day(days)+" "+clock, t.today.Location())
	if err != nil {
		panic("no such time: " + clock)
	}
	return at.Format(time.RFC3339)
}

// someone begins a person whom the demographics service knows.
func (t *town) someone(number, given, family, gender, born, note string) *Person {
	p := &Person{NHSNumber: number, Name: given + " " + family, Note: note, Standing: Live, Family: family, BirthDate: born, Records: map[string][]json.RawMessage{}}
	p.Patient = demographic(number, object{"name": []any{object{"use": "usual", "family": family, "given": toAny(strings.Fields(given))}},
		"gender": gender, "birthDate": born, "address": []any{home(number)}, "telecom": []any{object{"system": "phone", "value": "01632 960" + number[6:9], "use": "home"}}})
	t.people = append(t.people, p)
	return p
}

// traced adds an element to the demographics service's Patient.
func (p *Person) traced(element string, v any) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(p.Patient, &m); err != nil {
		panic(err) // our own text
	}
	m[element] = encode(v)
	p.Patient = encode(m)
}

func (p *Person) died(on string) { p.traced("deceasedDateTime", on) }

func (p *Person) replaces(number string) {
	p.traced("link", []any{object{"type": "replaces", "other": object{"identifier": object{"system": nhsNumberSystem, "value": number}}}})
}

func home(number string) object {
	streets := []string{"Willow Bank", "Chandler's Row", "Orchard Side", "Mill Lane", "Quarry Rise", "Saffron Close", "Tollgate Road"}
	return object{"use": "home", "line": []any{fmt.Sprintf("%d %s", 1+among(80, "house", number), streets[among(int64(len(streets)), "street", number)])},
		"city": "Rivermead", "district": "Westmarch", "postalCode": "ZZ99 3VZ"}
}

func toAny(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// history is one person's record at one custodian while it is written.
type history struct {
	t      *town
	p      *Person
	key    string
	k      keeper
	person object // Reference to the person, as this custodian writes it
	have   map[string]bool
}

// at opens a person's record at a custodian, with the Patient as that custodian knows them.
func (t *town) at(p *Person, key string, more ...object) *history {
	h := &history{t: t, p: p, key: key, k: t.keepers[key], have: map[string]bool{}}
	id := h.k.patientID(t, p.NHSNumber)
	h.person = h.k.refers(id, p.NHSNumber)
	var known object
	if p.Patient != nil {
		d := json.NewDecoder(bytes.NewReader(p.Patient))
		d.UseNumber()
		if err := d.Decode(&known); err != nil {
			panic(err) // our own text
		}
	} else {
		known = object{"identifier": []any{object{"system": nhsNumberSystem, "value": p.NHSNumber}}, "name": []any{object{"family": p.Family}}, "birthDate": p.BirthDate}
	}
	patient := object{"resourceType": "Patient", "id": id, "active": true}
	for _, k := range []string{"identifier", "name", "gender", "birthDate", "address", "telecom"} {
		if known[k] != nil {
			patient[k] = clone(known[k])
		}
	}
	patient["managingOrganization"] = object{"reference": h.organisation()}
	for _, m := range more {
		for k, v := range m {
			patient[k] = v
		}
	}
	h.write(patient, "")
	return h
}

// write stamps and keeps a resource.
func (h *history) write(r object, changed string) {
	if !h.k.unstamped && r["meta"] == nil {
		meta := object{"versionId": "1"}
		if len(changed) >= len(time.DateOnly) {
			meta["lastUpdated"] = changed[:len(time.DateOnly)] + "T18:30:00.000Z"
		}
		if h.k.labels != nil {
			meta["security"] = h.k.labels
		}
		if h.key == "gp" {
			meta["profile"] = []any{"https://fhir.hl7.org.uk/StructureDefinition/UKCore-" + r["resourceType"].(string)}
		}
		r["meta"] = meta
	}
	text := encode(r)
	if h.k.pretty {
		var b bytes.Buffer
		if err := json.Indent(&b, text, "", " "); err != nil {
			panic(err) // JSON that we have just written
		}
		text = b.Bytes()
	}
	h.p.Records[h.key] = append(h.p.Records[h.key], text)
}

// shared adds a resource that other people's records at this custodian hold too, once, and returns Type/id.
func (h *history) shared(typ, name string, fields object) string {
	key := h.key + typ + name
	if h.t.ids[key] == "" {
		id := h.k.id(h.t, "0000000000", typ)
		if h.key == "pharmacy" {
			id = fmt.Sprintf("S%d", len(h.t.ids))
		}
		h.t.ids[key] = id
	}
	at := typ + "/" + h.t.ids[key]
	if !h.have[at] {
		h.have[at] = true
		r := object{"resourceType": typ, "id": h.t.ids[key]}
		for k, v := range fields {
			r[k] = v
		}
		h.write(r, "2024-01-08")
	}
	return at
}

// organisation is the custodian itself.
func (h *history) organisation() string {
	ods := ""
	for _, c := range Custodians() {
		if c.Key == h.key {
			ods = c.ODS
		}
	}
	return h.shared("Organization", h.k.org, object{"active": true, "name": h.k.org,
		"identifier": []any{object{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": ods}}})
}

// staff is somebody who works there, as a Reference with their name.
func (h *history) staff(name string) object {
	words := strings.Fields(name)
	at := h.shared("Practitioner", name, object{"active": true, "name": []any{object{"family": words[len(words)-1], "given": toAny(words[:len(words)-1])}}})
	return object{"reference": at, "display": name}
}

// place is a Location.
func (h *history) place(name string) object {
	at := h.shared("Location", name, object{"status": "active", "name": name, "managingOrganization": object{"reference": h.organisation()}})
	return object{"reference": at, "display": name}
}

// item is a resource that has been written, to refer to.
type item struct{ typ, id, title string }

// ref is a Reference to it.
func (i item) ref() object { return object{"reference": i.typ + "/" + i.id, "display": i.title} }

// subjectElement is the element that names the person.
func subjectElement(typ string) string {
	switch typ {
	case "AllergyIntolerance", "Immunization", "EpisodeOfCare", "RelatedPerson", "Consent", "FamilyMemberHistory", "Device", "SupplyDelivery", "DetectedIssue":
		return "patient"
	case "Task":
		return "for"
	case "Appointment":
		return "" // among its participants
	}
	return "subject"
}

// add writes a resource about the person. date is when it was written down, for meta.lastUpdated. Later fields stand over earlier ones; nil removes one.
func (h *history) add(typ, title, date string, fields ...object) item {
	r := object{"resourceType": typ, "id": h.k.id(h.t, h.p.NHSNumber, typ)}
	if e := subjectElement(typ); e != "" {
		r[e] = clone(h.person)
	}
	for _, f := range fields {
		for k, v := range f {
			if r[k] = v; v == nil {
				delete(r, k)
			}
		}
	}
	h.write(r, date)
	return item{typ, r["id"].(string), title}
}
