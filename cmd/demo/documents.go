package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Access tokens of the neighbourhood, as the simulators take them.
const (
	locatorToken = "token"
	libraryToken = "library-token"
)

// paper is one document about somebody, listed by the National Record Locator and kept by its custodian.
type paper struct {
	name, title, code, kind string // kind is a media type
	date                    string // an instant
	body                    []byte
}

// documents starts a locator that lists a custodian's documents, and the library that keeps them.
func (s *surroundings) documents(state string, c cohort.Custodian, papers map[string][]paper, next func() string) (neighbour, error) {
	stored := map[string]simulator.Stored{}
	for _, list := range papers {
		for _, p := range list {
			stored[p.name] = simulator.Stored{Body: p.body, Type: p.kind}
		}
	}
	library, err := s.listen("", simulator.NewLibrary(simulator.LibraryConfig{Token: libraryToken, Documents: stored}), s.spare)
	if err != nil {
		return neighbour{}, err
	}
	pointers := map[string][]simulator.Pointer{}
	for number, list := range papers {
		for _, p := range list {
			pointers[number] = append(pointers[number], simulator.Pointer{ID: c.ODS + "-" + strings.ReplaceAll(p.name, ".", "-"), Custodian: c.ODS, Code: p.code, URL: library + "/documents/" + p.name,
				ContentType: p.kind, Date: p.date, Title: p.title})
		}
	}
	origin, err := s.listen(c.Key, simulator.NewLocator(simulator.LocatorConfig{Token: locatorToken, People: pointers}), next)
	if err != nil {
		return neighbour{}, err
	}
	files := map[string]string{"bearerFile": "locator.token", "holderBearerFile": "library.token"}
	if err := errors.Join(writeFile(filepath.Join(state, files["bearerFile"]), []byte(locatorToken)), writeFile(filepath.Join(state, files["holderBearerFile"]), []byte(libraryToken))); err != nil {
		return neighbour{}, err
	}
	base := origin + "/record-locator/consumer/FHIR/R4"
	return neighbour{adapter: "documents", address: base, speaks: "pointers of the National Record Locator, and CDA", settings: map[string]any{"baseURL": base, "allowPlainHTTP": true, "bearerFile": files["bearerFile"],
		"custodians": []string{c.ODS}, "endUserOrganisation": c.ODS, "holderURL": library + "/documents", "holderBearerFile": files["holderBearerFile"], "read": 10}}, nil
}

// mentalHealth starts a trust's FHIR R4 server, and beside it the pointers to its plans.
func (s *surroundings) mentalHealth(state string, c cohort.Custodian, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	n, err := s.fhir(c, nil, people, next)
	if err != nil {
		return n, err
	}
	origin := s.sources[c.Key]
	papers := map[string][]paper{}
	for number, p := range cohort.Plans() {
		papers[number] = []paper{{name: p.Name + ".xml", title: p.Title, code: p.Code, kind: "text/xml; charset=utf-8", date: p.Written,
			body: cda(number, p.BirthDate, p.Title, p.Code, p.Written, c.Name, [][2]string{{"Plan", p.Text}})}}
	}
	pointers, err := s.documents(state, c, papers, s.spare)
	s.sources[c.Key] = origin
	n.speaks = "FHIR R4, and pointers of the National Record Locator"
	n.sources = []namedNeighbour{{"Electronic record", n}, {"Crisis and care plans", pointers}}
	return n, err
}

// handedOver are the types of resource that an ambulance service sends on when it hands somebody over: a message of Booking and Referral carries them as they
// are. Everything else that it knows stands in its report.
var handedOver = []string{"Encounter", "Condition", "Flag", "ServiceRequest", "CarePlan", "AllergyIntolerance"}

// ambulance starts a service that has nothing but documents: for each person a BaRS message that hands them over, and a CDA report in which everything else
// that is known stands as text.
func (s *surroundings) ambulance(state string, c cohort.Custodian, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	papers := map[string][]paper{}
	left := map[string]int{}
	serial := 0
	for number, list := range people {
		const code = "819551000000100"
		serial++
		handover, rest, when, err := handover(list, c.Name)
		if err != nil {
			return neighbour{}, err
		}
		if handover != nil {
			papers[number] = append(papers[number], paper{name: fmt.Sprintf("handover-%d.json", serial), title: "Handover to emergency department", code: code, kind: "application/fhir+json",
				date: instant(when), body: handover})
		}
		lines, born, latest, carried := told(rest)
		for typ, n := range carried {
			left[typ] += n
		}
		if len(lines) > 0 {
			const title = "Ambulance report"
			papers[number] = append(papers[number], paper{name: fmt.Sprintf("report-%d.xml", serial), title: title, code: code, kind: "text/xml; charset=utf-8", date: latest,
				body: cda(number, born, title, code, latest, c.Name, lines)})
		}
	}
	n, err := s.documents(state, c, papers, next)
	n.held, n.left, n.asText = count(people), left, true
	n.speaks = "pointers of the National Record Locator, BaRS messages and CDA"
	return n, err
}

// instant is a time as pointers have it.
func instant(when string) string {
	if len(when) == len("2006-01-02") {
		return when + "T00:00:00Z"
	}
	return when
}

// handover is a BaRS message of what a service hands over about one person, nil if that is nothing; rest is what is not in it. when is its newest date.
func handover(list []json.RawMessage, by string) (message []byte, rest []json.RawMessage, when string, err error) {
	type entry struct {
		FullURL  string `json:"fullUrl"`
		Resource any    `json:"resource"`
	}
	const service = "urn:uuid:5f0c7b1e-0000-4000-8000-000000000001"
	entries := []entry{
		{"urn:uuid:5f0c7b1e-0000-4000-8000-000000000002", map[string]any{"resourceType": "MessageHeader",
			"eventCoding": map[string]any{"system": "https://fhir.nhs.uk/CodeSystem/message-events-bars", "code": "servicerequest-request"}, "sender": map[string]any{"reference": service},
			"reason": map[string]any{"coding": []any{map[string]any{"system": "https://fhir.nhs.uk/CodeSystem/message-reason-bars", "code": "new"}}},
			"source": map[string]any{"name": by, "endpoint": "https://ambulance.example/bars"}}},
		{service, map[string]any{"resourceType": "Organization", "name": by}}}
	handed := 0
	for _, raw := range list {
		var r struct {
			ResourceType, ID, RecordedDate string
			Period                         struct{ Start string }
		}
		if json.Unmarshal(raw, &r) != nil {
			return nil, nil, "", errors.New("a resource of the ambulance service's cannot be read")
		}
		hand := r.ID != "" && slices.Contains(handedOver, r.ResourceType) // nothing in a message can lead to what has no id
		if hand || r.ResourceType == "Patient" {
			entries = append(entries, entry{"https://ambulance.example/" + r.ResourceType + "/" + r.ID, raw})
		}
		if hand {
			handed++
			when = max(when, r.Period.Start, r.RecordedDate)
		} else {
			rest = append(rest, raw)
		}
	}
	if handed == 0 {
		return nil, rest, "", nil
	}
	bundle := map[string]any{"resourceType": "Bundle", "type": "message", "entry": entries}
	if len(when) > len("2006-01-02") {
		bundle["timestamp"] = when
	}
	message, err = json.Marshal(bundle)
	if err != nil {
		return nil, nil, "", errors.New("a message of the ambulance service's cannot be written")
	}
	return message, rest, when, nil
}

// told is what a record says, as lines of a document by kind of resource; left counts, by type, what it says nothing of.
func told(list []json.RawMessage) (lines [][2]string, born, latest string, left map[string]int) {
	left = map[string]int{}
	byKind := map[string][]string{}
	var kinds []string
	for _, raw := range list {
		var r struct {
			ResourceType, BirthDate, EffectiveDateTime, Issued, RecordedDate, Authored, Conclusion, Description, ValueString string
			Period                                                                                                           struct{ Start string }
			Code, MedicationCodeableConcept                                                                                  concept
			Type                                                                                                             json.RawMessage
			ReasonCode                                                                                                       []concept
			ValueQuantity                                                                                                    struct {
				Value json.Number
				Unit  string
			}
			Dosage json.RawMessage
			Item   []struct {
				Text   string
				Answer []struct{ ValueString string }
			}
		}
		if json.Unmarshal(raw, &r) != nil {
			continue
		}
		when := first(r.EffectiveDateTime, r.Period.Start, r.RecordedDate, r.Authored, r.Issued)
		latest = max(latest, when)
		var visit []concept
		_ = json.Unmarshal(r.Type, &visit) // of other types it is something else
		var dose struct{ Text string }
		_ = json.Unmarshal(r.Dosage, &dose) // the same
		what := []string{r.Code.words(), r.MedicationCodeableConcept.words()}
		for _, c := range append(visit, r.ReasonCode...) {
			what = append(what, c.words())
		}
		if r.ValueQuantity.Value != "" {
			what = append(what, string(r.ValueQuantity.Value)+" "+r.ValueQuantity.Unit)
		}
		for _, i := range r.Item {
			what = append(what, i.Text)
			for _, a := range i.Answer {
				what = append(what, a.ValueString)
			}
		}
		what = append(what, r.ValueString, r.Conclusion, r.Description, dose.Text)
		text := strings.Join(strings.Fields(strings.Join(what, " ")), " ")
		switch r.ResourceType {
		case "Patient":
			born = r.BirthDate
		case "Organization", "Practitioner", "Location", "PractitionerRole": // whoever the document is by
		default:
			if text == "" {
				left[r.ResourceType]++
				continue
			}
			if byKind[r.ResourceType] == nil {
				kinds = append(kinds, r.ResourceType)
			}
			byKind[r.ResourceType] = append(byKind[r.ResourceType], strings.TrimSpace(when+" "+text))
		}
	}
	for _, kind := range kinds {
		lines = append(lines, [2]string{kind, strings.Join(byKind[kind], "\n")})
	}
	return lines, born, latest, left
}

type concept struct {
	Text   string
	Coding []struct{ Display string }
}

func (c concept) words() string {
	if c.Text != "" || len(c.Coding) == 0 {
		return c.Text
	}
	return c.Coding[0].Display
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// cda is a CDA R2 document with one section for each pair of title and lines.
func cda(number, born, title, code, when, by string, sections [][2]string) []byte {
	var b strings.Builder
	esc := func(s string) string {
		var out strings.Builder
		_ = xml.EscapeText(&out, []byte(s)) // into memory
		return out.String()
	}
	digits := strings.NewReplacer("-", "", ":", "", "T", "")
	stamp := digits.Replace(when[:min(len(when), len("2006-01-02"))])
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="7F8A1D6C-0000-4000-8000-%012x"/>
<code code="%s" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="%s"/><title>%s</title><effectiveTime value="%s"/>
<confidentialityCode code="N"/><recordTarget><patientRole><id root="2.16.840.1.113883.2.1.4.1" extension="%s"/><patient><birthTime value="%s"/></patient></patientRole></recordTarget>
<author><assignedAuthor><representedOrganization><name>%s</name></representedOrganization></assignedAuthor></author><component><structuredBody>`,
		len(title)*1000+len(by), code, esc(title), esc(title), stamp, number, digits.Replace(born), esc(by))
	for _, s := range sections {
		b.WriteString("<component><section><title>" + esc(s[0]) + "</title><text>")
		for line := range strings.SplitSeq(s[1], "\n") {
			b.WriteString("<paragraph>" + esc(line) + "</paragraph>")
		}
		b.WriteString("</text></section></component>")
	}
	b.WriteString("</structuredBody></component></ClinicalDocument>\n")
	return []byte(b.String())
}
