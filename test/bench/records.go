package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// size is how much one custodian holds about one person.
type size struct {
	Name      string `json:"name"`
	Resources int    `json:"resourcesPerCustodian"`
	each      int    // bytes of one resource, about
}

// sizes are those of the design: 5 custodians of about 40 kB, 250 kB and 2.5 MB.
var sizes = []size{{"small", 20, 2000}, {"typical", 100, 2450}, {"large", 1000, 2450}}

// custodianKey is one of the invented custodians of the comparison.
type custodianKey struct{ Key, ODS, Kind, Name string }

var custodianKeys = []custodianKey{
	{"gp", "X9A01", "gp", "Rivermead Surgery"},
	{"acute", "X9B01", "acute", "Eastvale Hospitals"},
	{"community", "X9D01", "community", "Fellside Community Care"},
	{"mentalhealth", "X9C01", "mental-health", "Harbourside Mental Health"},
	{"socialcare", "X9E01", "social-care", "Eastvale County Council"},
}

// person is somebody invented, with a number from the range for tests (999 000 0000 up).
type person struct{ ID, Number, Family, Given, Gender, Born string }

var people = []person{
	{"person-a", "9990000018", "Thistlewood", "Margery", "female", "1948-03-17"},
	{"person-b", "9990000026", "Okonedo", "Ambrose", "male", "1971-11-02"},
	{"person-c", "9990000034", "Llewellyn-Hart", "Cerys", "female", "1990-07-29"},
}

// bundleOf returns what a custodian holds about a person: a searchset Bundle in the manner of a FHIR R4 server of today, compact, with references
// among its resources, narrative with escaped mark-up, business identifiers and decimals whose digits matter. The same arguments give the
// same bytes.
func bundleOf(p person, at custodianKey, s size) []byte {
	var seed uint64
	for _, c := range []byte(p.ID + at.Key + s.Name) {
		seed = seed*1099511628211 + uint64(c)
	}
	g := &generator{r: rand.New(rand.NewPCG(seed, 1)), p: p, at: at, each: s.each} //nolint:gosec // the same data each time is the point
	g.out.WriteString(`{"resourceType":"Bundle","id":"` + g.id() + `","type":"searchset","total":` + fmt.Sprint(s.Resources) + `,"link":[{"relation":"self","url":"https://` +
		at.Key + `.example/fhir/Patient/` + p.ID + `/$everything"}],"entry":[`)
	g.entry("Patient", p.ID, patientBody(p))
	org := g.id()
	g.entry("Organization", org, fmt.Sprintf(`"identifier":[{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"%s"}],"active":true,"name":"%s"`, at.ODS, at.Name))
	for range max(1, s.Resources/50) {
		id := g.id()
		g.practitioners = append(g.practitioners, id)
		g.entry("Practitioner", id, fmt.Sprintf(`"identifier":[{"system":"https://fhir.nhs.uk/Id/sds-user-id","value":"5550%08d"}],"active":true,"name":[{"use":"official","family":"%s","given":["%s"],"prefix":["Dr"]}]`,
			g.r.IntN(1e8), pick(g, surnames), pick(g, forenames)))
	}
	g.organization = org
	g.visit(0) // somewhere to refer to
	g.condition(1)
	for g.n < s.Resources {
		g.next()
	}
	g.out.WriteString(`]}`)
	return g.out.Bytes()
}

// found is the answer to a search for the person by number: their Patient alone.
func found(p person, at custodianKey) []byte {
	return []byte(`{"resourceType":"Bundle","type":"searchset","total":1,"entry":[{"fullUrl":"https://` + at.Key + `.example/fhir/Patient/` + p.ID +
		`","resource":{"resourceType":"Patient","id":"` + p.ID + `","meta":{"versionId":"7","lastUpdated":"2026-10-02T08:15:30.000Z"},` + patientBody(p) + `},"search":{"mode":"match"}}]}`)
}

// traced is what the demographics service says of the person.
func traced(p person) []byte {
	return []byte(`{"resourceType":"Patient","id":"` + p.Number + `","meta":{"versionId":"3","security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"U","display":"unrestricted"}]},` +
		patientBody(p) + `}`)
}

func patientBody(p person) string {
	return fmt.Sprintf(`"identifier":[{"extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",`+
		`"valueCodeableConcept":{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland","code":"01","display":"Number present and verified"}]}}],`+
		`"system":"https://fhir.nhs.uk/Id/nhs-number","value":"%s"}],"name":[{"use":"usual","family":"%s","given":["%s"]}],"gender":"%s","birthDate":"%s",`+
		`"address":[{"use":"home","line":["12 Invented Row"],"city":"Eastvale","postalCode":"ZZ99 3WZ"}]`, p.Number, p.Family, p.Given, p.Gender, p.Born)
}

// generator writes the entries of one Bundle.
type generator struct {
	r             *rand.Rand
	p             person
	at            custodianKey
	each          int
	out           bytes.Buffer
	n             int
	organization  string
	practitioners []string
	visits        []string
	conditions    []string
	observations  []string
}

func pick[T any](g *generator, list []T) T { return list[g.r.IntN(len(list))] }

func (g *generator) id() string {
	const hex = "0123456789abcdef"
	b := []byte("00000000-0000-4000-8000-000000000000")
	for i := range b {
		if b[i] == '0' {
			b[i] = hex[g.r.IntN(16)]
		}
		if i%7 == 3 && b[i] != '-' {
			b[i] = "abcdef"[g.r.IntN(6)] // no run of ten digits in it
		}
	}
	return string(b)
}

// when is an instant of the last twenty years, with a zone most of the time.
func (g *generator) when() string {
	t := time.Date(2006, 1, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(g.r.Int64N(20*365*24*60)) * time.Minute)
	switch g.r.IntN(10) {
	case 0:
		return t.Format("2006-01-02")
	case 1, 2:
		return t.Format("2006-01-02T15:04:05.000+01:00")
	}
	return t.Format("2006-01-02T15:04:05+00:00")
}

// entry writes one resource, with narrative up to its size.
func (g *generator) entry(typ, id, body string) {
	if g.n > 0 {
		g.out.WriteByte(',')
	}
	g.n++
	start := g.out.Len()
	fmt.Fprintf(&g.out, `{"fullUrl":"https://%s.example/fhir/%s/%s","resource":{"resourceType":"%s","id":"%s","meta":{"versionId":"%d","lastUpdated":"%s","profile":["https://fhir.hl7.org.uk/StructureDefinition/UKCore-%s"]}`,
		g.at.Key, typ, id, typ, id, 1+g.r.IntN(5), "2026-0"+fmt.Sprint(1+g.r.IntN(9))+"-1"+fmt.Sprint(g.r.IntN(10))+"T07:31:44.123+00:00", typ)
	if typ != "Patient" {
		room := g.each + g.r.IntN(201) - 100 - (g.out.Len() - start) - len(body) - 60
		g.out.WriteString(`,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p><b>` + typ + `</b></p><table class=\"grid\">`)
		for used := 140; used < room; {
			row := `<tr><td>` + pick(g, words) + `</td><td title=\"` + pick(g, words) + `\">` + sentence(g) + `</td></tr>\n`
			used += len(row)
			g.out.WriteString(row)
		}
		g.out.WriteString(`</table></div>"}`)
	}
	g.out.WriteString("," + body + `},"search":{"mode":"match"}}`)
}

func sentence(g *generator) string {
	var b strings.Builder
	for i := range 6 + g.r.IntN(8) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(pick(g, words))
	}
	return b.String()
}

func (g *generator) subject() string {
	return `"subject":{"reference":"Patient/` + g.p.ID + `","display":"` + g.p.Given + ` ` + g.p.Family + `"}`
}
func (g *generator) encounter() string {
	return `"encounter":{"reference":"Encounter/` + pick(g, g.visits) + `"}`
}
func (g *generator) actor() string {
	return `{"reference":"Practitioner/` + pick(g, g.practitioners) + `"}`
}
func (g *generator) identifier(kind string) string {
	return fmt.Sprintf(`"identifier":[{"system":"https://%s.example/id/%s","value":"%s-%07d"}]`, g.at.Key, kind, strings.ToUpper(kind[:3]), g.r.IntN(1e7))
}
func (g *generator) concept(c coded) string {
	return fmt.Sprintf(`{"coding":[{"system":"%s","code":"%s","display":"%s"}],"text":"%s"}`, c.system, c.code, c.display, c.display)
}

// next writes one resource, in about the mix of a general record.
func (g *generator) next() {
	id := g.id()
	switch k := g.r.IntN(100); {
	case k < 42:
		g.observation(id)
	case k < 54:
		g.visit(g.r.IntN(4))
	case k < 63:
		g.condition(g.r.IntN(3))
	case k < 78:
		g.entry("MedicationRequest", id, g.identifier("prescription")+`,"status":"active","intent":"order","medicationCodeableConcept":`+g.concept(pick(g, medicines))+`,`+g.subject()+`,`+g.encounter()+
			`,"authoredOn":"`+g.when()+`","requester":`+g.actor()+`,"reasonReference":[{"reference":"Condition/`+pick(g, g.conditions)+
			`"}],"dosageInstruction":[{"text":"one tablet twice a day","timing":{"repeat":{"frequency":2,"period":1.0,"periodUnit":"d"}},"doseAndRate":[{"doseQuantity":{"value":`+
			fmt.Sprintf("%d.%d0", 1+g.r.IntN(500), g.r.IntN(10))+`,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}}]}]`)
	case k < 84:
		g.entry("Procedure", id, g.identifier("procedure")+`,"status":"completed","code":`+g.concept(pick(g, procedures))+`,`+g.subject()+`,`+g.encounter()+`,"performedPeriod":{"start":"`+g.when()+`"},"performer":[{"actor":`+g.actor()+`}]`)
	case k < 88:
		g.entry("Immunization", id, g.identifier("vaccination")+`,"status":"completed","vaccineCode":`+g.concept(pick(g, vaccines))+`,"patient":{"reference":"Patient/`+g.p.ID+
			`"},"occurrenceDateTime":"`+g.when()+`","primarySource":true,"lotNumber":"ZX`+fmt.Sprint(g.r.IntN(99999))+`","doseQuantity":{"value":0.50,"unit":"ml"},"performer":[{"actor":`+g.actor()+`}]`)
	case k < 94:
		results := ""
		for i := range min(4, len(g.observations)) {
			if i > 0 {
				results += ","
			}
			results += `{"reference":"Observation/` + pick(g, g.observations) + `"}`
		}
		if results != "" {
			results = `,"result":[` + results + `]`
		}
		at := g.when()
		g.entry("DiagnosticReport", id, g.identifier("report")+`,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0074","code":"LAB","display":"Laboratory"}]}],"code":`+
			g.concept(pick(g, panels))+`,`+g.subject()+`,`+g.encounter()+`,"effectiveDateTime":"`+at+`","issued":"2026-02-11T10:12:13.500+00:00","performer":[{"reference":"Organization/`+g.organization+`"}]`+results)
	case k < 98:
		g.entry("DocumentReference", id, g.identifier("document")+`,"status":"current","type":`+g.concept(pick(g, documents))+`,`+g.subject()+`,"date":"2026-03-04T05:06:07.000+00:00","author":[`+g.actor()+
			`],"custodian":{"reference":"Organization/`+g.organization+`"},"content":[{"attachment":{"contentType":"application/pdf","url":"Binary/`+g.id()+`","size":`+fmt.Sprint(20000+g.r.IntN(1e6))+`,"title":"Letter"}}]`)
	default:
		g.entry("AllergyIntolerance", id, g.identifier("allergy")+`,"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},"category":["medication"],"code":`+
			g.concept(pick(g, allergies))+`,"patient":{"reference":"Patient/`+g.p.ID+`"},"recordedDate":"`+g.when()+`","recorder":`+g.actor()+`,"reaction":[{"manifestation":[`+g.concept(coded{snomed, "271807003", "Eruption of skin"})+`]}]`)
	}
}

func (g *generator) visit(kind int) {
	id := g.id()
	g.visits = append(g.visits, id)
	start := g.when()
	g.entry("Encounter", id, g.identifier("encounter")+`,"status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"`+[]string{"AMB", "IMP", "EMER", "HH"}[kind]+
		`"},`+g.subject()+`,"participant":[{"individual":`+g.actor()+`}],"period":{"start":"`+start+`"},"serviceProvider":{"reference":"Organization/`+g.organization+`"}`)
}

func (g *generator) condition(kind int) {
	id := g.id()
	g.conditions = append(g.conditions, id)
	g.entry("Condition", id, g.identifier("condition")+`,"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"`+[]string{"active", "resolved", "inactive"}[kind]+
		`"}]},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"problem-list-item"}]}],"code":`+g.concept(pick(g, problems))+`,`+g.subject()+`,`+g.encounter()+
		`,"onsetDateTime":"`+g.when()+`","recordedDate":"`+g.when()+`","recorder":`+g.actor())
}

func (g *generator) observation(id string) {
	g.observations = append(g.observations, id)
	value := func(low, high, places int) string {
		return fmt.Sprintf("%d.%0*d", low+g.r.IntN(high-low), places, g.r.IntN([]int{1, 10, 100, 1000}[places]))
	}
	head := func(category string, code coded) string {
		return g.identifier("observation") + `,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"` + category + `"}]}],"code":` +
			g.concept(code) + `,` + g.subject() + `,` + g.encounter() + `,"effectiveDateTime":"` + g.when() + `","issued":"2026-02-11T10:12:13.500+00:00","performer":[` + g.actor() + `]`
	}
	quantity := func(v, unit string) string {
		return `{"value":` + v + `,"unit":"` + unit + `","system":"http://unitsofmeasure.org","code":"` + unit + `"}`
	}
	if g.r.IntN(4) == 0 {
		g.entry("Observation", id, head("vital-signs", coded{loinc, "85354-9", "Blood pressure panel"})+`,"component":[{"code":`+g.concept(coded{loinc, "8480-6", "Systolic blood pressure"})+`,"valueQuantity":`+
			quantity(value(95, 190, 1), "mm[Hg]")+`},{"code":`+g.concept(coded{loinc, "8462-4", "Diastolic blood pressure"})+`,"valueQuantity":`+quantity(value(50, 110, 1), "mm[Hg]")+`}]`)
		return
	}
	m := pick(g, measures)
	g.entry("Observation", id, head("laboratory", m.coded)+`,"valueQuantity":`+quantity(value(m.low, m.high, 2), m.unit)+`,"referenceRange":[{"low":`+quantity(fmt.Sprintf("%d.00", m.low), m.unit)+
		`,"high":`+quantity(fmt.Sprintf("%d.50", m.high), m.unit)+`}]`)
}

const (
	snomed = "http://snomed.info/sct"
	loinc  = "http://loinc.org"
)

type coded struct{ system, code, display string }

var (
	problems = []coded{{snomed, "44054006", "Diabetes mellitus type 2"}, {snomed, "38341003", "Hypertensive disorder"}, {snomed, "195967001", "Asthma"},
		{snomed, "13645005", "Chronic obstructive lung disease"}, {snomed, "35489007", "Depressive disorder"}, {snomed, "396275006", "Osteoarthritis"}}
	medicines = []coded{{"https://dmd.nhs.uk", "319775004", "Aspirin 75mg tablets"}, {"https://dmd.nhs.uk", "319996000", "Simvastatin 10mg tablets"},
		{"https://dmd.nhs.uk", "325242002", "Metformin 500mg tablets"}, {"https://dmd.nhs.uk", "318420003", "Atenolol 50mg tablets"}}
	procedures = []coded{{snomed, "80146002", "Appendicectomy"}, {snomed, "73761001", "Colonoscopy"}, {snomed, "165197003", "Diagnostic assessment"}, {snomed, "225358003", "Wound care"}}
	vaccines   = []coded{{snomed, "822851000000102", "Seasonal influenza vaccination"}, {snomed, "12866006", "Pneumococcal vaccination"}, {snomed, "1324681000000101", "Coronavirus vaccination"}}
	panels     = []coded{{loinc, "58410-2", "Full blood count"}, {loinc, "24323-8", "Comprehensive metabolic panel"}, {loinc, "57698-3", "Lipid panel"}}
	documents  = []coded{{snomed, "823691000000103", "Clinical letter"}, {snomed, "373942005", "Discharge summary"}, {snomed, "824331000000106", "Inpatient discharge letter"}}
	allergies  = []coded{{snomed, "91936005", "Allergy to penicillin"}, {snomed, "300913006", "Allergy to shellfish"}, {snomed, "232350006", "House dust mite allergy"}}
	measures   = []struct {
		coded
		unit      string
		low, high int
	}{
		{coded{loinc, "718-7", "Haemoglobin"}, "g/dL", 11, 17}, {coded{loinc, "2160-0", "Creatinine"}, "umol/L", 45, 120}, {coded{loinc, "4548-4", "Haemoglobin A1c"}, "%", 4, 11},
		{coded{loinc, "2093-3", "Cholesterol"}, "mmol/L", 3, 8}, {coded{loinc, "29463-7", "Body weight"}, "kg", 45, 120}, {coded{loinc, "8310-5", "Body temperature"}, "Cel", 35, 40},
	}
	surnames  = []string{"Abernathy", "Quayle", "Oyelaran", "Pickersgill", "Tregarth", "Featherstone", "Ravenscroft", "Iqbal"}
	forenames = []string{"Rosalind", "Kofi", "Bronwen", "Farida", "Lucian", "Maureen", "Tobias", "Siân"}
	words     = []string{"review", "stable", "since", "follow-up", "advised", "blood", "pressure", "taken", "seated", "left", "arm", "no", "change", "discussed", "with", "family", "plan", "repeat", "in",
		"three", "months", "café-au-lait", "mild", "pain", "&lt;5", "improving", "tablets", "tolerated", "well", "referred", "clinic", "naïve"}
)
