package merge

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// How an entry comes to its sections:
//
//  1. Its type and codes give it a section of its own: [headings], [byCode].
//  2. What is true of it beyond that adds sections: [additions], in order. An addition that leads becomes the primary section, the first
//     to lead, unless the entry's own is one of those that stay together across organisations: medications, results, letters,
//     appointments, demographics.
//  3. An entry of an Encounter has the emergency and mental-health sections of that Encounter too, and of the one that it is part of.
//  4. A container has the sections of what is contained in it.
//
// One section is the primary one (the sum of primaries is the sum of entries), the others are for objections: an entry is withheld if any
// of its sections is (C-4). So where these rules err, they err on the side of one section more.

// headings is the section of a type where no code says better (standards.md 2). What is not listed is Other.
var headings = map[string]record.Section{
	"AdverseEvent":               record.History,
	"AllergyIntolerance":         record.History,
	"Appointment":                record.Appointments,
	"AppointmentResponse":        record.Appointments,
	"AuditEvent":                 record.Other,
	"Basic":                      record.Other,
	"BiologicallyDerivedProduct": record.Other,
	"BodyStructure":              record.History,
	"CarePlan":                   record.PlansAlerts,
	"CareTeam":                   record.PlansAlerts,
	"ClinicalImpression":         record.History,
	"Communication":              record.Correspondence,
	"CommunicationRequest":       record.Correspondence,
	"Composition":                record.Correspondence,
	"Condition":                  record.History,
	"Consent":                    record.PlansAlerts,
	"DetectedIssue":              record.PlansAlerts,
	"Device":                     record.History,
	"DeviceRequest":              record.PlansAlerts,
	"DeviceUseStatement":         record.History,
	"DiagnosticReport":           record.Results,
	"DocumentManifest":           record.Correspondence,
	"DocumentReference":          record.Correspondence,
	"Encounter":                  record.History,
	"EpisodeOfCare":              record.History,
	"FamilyMemberHistory":        record.History,
	"Flag":                       record.PlansAlerts,
	"Goal":                       record.PlansAlerts,
	"Group":                      record.Other,
	"GuidanceResponse":           record.PlansAlerts,
	"ImagingStudy":               record.Results,
	"Immunization":               record.History,
	"ImmunizationEvaluation":     record.History,
	"ImmunizationRecommendation": record.PlansAlerts,
	"List":                       record.History,
	"MeasureReport":              record.Other,
	"Media":                      record.Results,
	"MedicationAdministration":   record.Medications,
	"MedicationDispense":         record.Medications,
	"MedicationRequest":          record.Medications,
	"MedicationStatement":        record.Medications,
	"MolecularSequence":          record.Results,
	"NutritionOrder":             record.PlansAlerts,
	"Observation":                record.History, // results by category
	"Patient":                    record.Demographics,
	"Person":                     record.Demographics,
	"Procedure":                  record.History,
	"QuestionnaireResponse":      record.History,
	"RelatedPerson":              record.Demographics,
	"RequestGroup":               record.PlansAlerts,
	"ResearchSubject":            record.Other,
	"RiskAssessment":             record.PlansAlerts,
	"ServiceRequest":             record.PlansAlerts, // results by category
	"Specimen":                   record.Results,
	"SupplyDelivery":             record.SocialCare,
	"SupplyRequest":              record.SocialCare,
	"Task":                       record.PlansAlerts,
	"VisionPrescription":         record.History,
}

// byCode replaces a type's heading where one of the codings at the paths has one of the codes.
var byCode = []codeRule{
	// http://terminology.hl7.org/CodeSystem/observation-category
	{words("Observation"), []string{"category.coding"}, words("laboratory imaging exam procedure"), record.Results},
	// SNOMED CT laboratory procedure, imaging, diagnostic procedure; HL7 table 0074 as some still send it
	{words("ServiceRequest"), []string{"category.coding"}, words("108252007 363679005 103693007 LAB RAD"), record.Results},
	// LOINC laboratory report, diagnostic imaging study, pathology report; SNOMED CT diagnostic studies report; NRL imaging pointers
	{words("DocumentReference Composition"), []string{"type.coding", "category.coding"},
		words("11502-2 18748-4 11526-1 721981007 103693007 MAULR MAXIB"), record.Results},
	// Plans that NRL points to: mental health crisis, end of life, EoLC co-ordination, emergency health care, ReSPECT, contingency,
	// advance care, treatment escalation, personalised care and support; and the category care plan
	{words("DocumentReference Composition"), []string{"type.coding", "category.coding"}, words("736253002 736373009 861421000000109 887701000000100 1382601000000107 " +
		"325691000000100 736366004 735324008 2181441000000107 734163000"), record.PlansAlerts},
}

// stays holds the sections that keep their entries whichever organisation they come from.
var stays = record.SectionsOf(record.Demographics, record.Medications, record.Results, record.Correspondence, record.Appointments)

// ofKind is the section that everything of a kind of custodian is in. Practices, hospitals, 111 and out of hours have none of their own.
var ofKind = map[record.CustodianKind]record.Section{
	record.KindMentalHealth: record.MentalHealth,
	record.KindSocialCare:   record.SocialCare,
	record.KindAmbulance:    record.Ambulance,
	record.KindCommunity:    record.Community,
	record.KindPharmacy:     record.Pharmacy,
}

// additions are the further sections of a resource, by what it is and says.
var additions = []addition{
	{words("Condition Flag CarePlan"), mentalHealthCoded, record.MentalHealth, true},
	{words("Condition Flag CarePlan"), mentalHealthNamed, record.MentalHealth, true},
	{words("Encounter EpisodeOfCare CareTeam Goal ClinicalImpression RiskAssessment DocumentReference Composition ServiceRequest Appointment Procedure"),
		mentalHealthCoded, record.MentalHealth, true},
	{nil, sensitive, record.MentalHealth, false},
	{words("Encounter"), func(v fhirjson.Value) bool {
		return anyCode(v, emergencyClasses, "class") || anyCode(v, emergencyTypes, "type.coding")
	},
		record.Emergency, true},
	{words("DocumentReference Composition"), func(v fhirjson.Value) bool { return anyCode(v, emergencyDocuments, "type.coding") }, record.Emergency, true},
}

// v3-ActCode, encounter class emergency.
var emergencyClasses = words("EMER")

// SNOMED CT: emergency room admission; emergency department patient visit.
var emergencyTypes = words("50849002 4525004")

// LOINC: emergency department discharge summary, emergency medicine note.
var emergencyDocuments = words("59258-4 34878-9 34111-5")

// v3-ActCode sensitivity labels of mental and behavioural health and of substance use.
var sensitiveLabels = words("PSY MH BH PSYTHPN SUD ETH ETHUD OPIOIDUD")

// mentalHealthCodes is a short list of SNOMED CT concepts: disorders of mood, anxiety, psychosis, eating, personality, attention, substance
// dependence, self-harm; mental health plans and services. Deploying regions label at the custodian where they need more.
var mentalHealthCodes = words("74732009 35489007 36923009 66344007 370143000 41006004 310495003 310496002 310497006 58703003 78667006 " + // depression
	"191610000 197480006 21897009 80583007 371631005 231504006 386810004 25501002 " + // anxiety
	"13746004 68569003 58214004 69322001 191525009 68890003 " + // bipolar, psychosis
	"47505003 191736004 72366004 56882008 78004001 33449004 20010003 406506008 192127007 " + // trauma, OCD, eating, personality, attention
	"6471006 425104003 248062006 82313006 " + // self-harm and suicide
	"7200002 66590003 5602001 75544000 191816009 26416006 " + // dependence
	"736253002 391281002") // crisis plan, assessment

// mentalHealthTerms are looked for in what a Condition, Flag or CarePlan is called, in lower case. They are phrases where the bare
// word means other things too: a depressed fracture, respiratory depression, ST depression.
var mentalHealthTerms = []string{"depressive", "major depression", "postnatal depression", "clinical depression", "anxiety", "psychos", "psychot",
	"psychiatr", "schizo", "bipolar", "self-harm", "self harm", "suicid", "eating disorder", "anorexia nervosa", "bulimia", "personality disorder",
	"obsessive compulsive", "obsessive-compulsive", "post-traumatic stress", "post traumatic stress", "posttraumatic stress", "attention deficit",
	"panic disorder", "panic attack", "mental health", "mental illness", "mental disorder", "alcoholism", "alcohol dependence", "drug dependence",
	"opioid dependence", "opioid abuse"}

// codeRule says that a resource with one of the codes at one of the paths is in a section.
type codeRule struct {
	types   map[string]bool
	paths   []string
	codes   map[string]bool
	section record.Section
}

// addition says that a resource of which something holds is in a further section.
type addition struct {
	types   map[string]bool // nil for all
	holds   func(v fhirjson.Value) bool
	section record.Section
	leads   bool
}

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// anyCode reports whether a coding at one of the paths has a code of the set.
func anyCode(v fhirjson.Value, set map[string]bool, paths ...string) bool {
	for _, path := range paths {
		for c := range v.Each(path) {
			if set[c.Get("code").View()] {
				return true
			}
		}
	}
	return false
}

func mentalHealthCoded(v fhirjson.Value) bool {
	return anyCode(v, mentalHealthCodes, "code.coding", "category.coding", "type.coding", "serviceType.coding", "reasonCode.coding")
}

func mentalHealthNamed(v fhirjson.Value) bool {
	named := func(path string) bool {
		for t := range v.Each(path) {
			text := strings.ToLower(t.View())
			if text == "depression" {
				return true
			}
			for _, term := range mentalHealthTerms {
				if strings.Contains(text, term) {
					return true
				}
			}
		}
		return false
	}
	return named("code.text") || named("code.coding.display") || named("category.text") || named("category.coding.display") || named("title")
}

func sensitive(v fhirjson.Value) bool {
	return anyCode(v, sensitiveLabels, "meta.security", "securityLabel.coding")
}

// place gives a resource of a custodian its sections by rules 1, 2 and 4.
func (p *preparing) place(k *kind, v fhirjson.Value) (record.Section, record.Sections) {
	primary := k.heading
	for _, r := range k.byCode {
		if anyCode(v, r.codes, r.paths...) {
			primary = r.section
			break
		}
	}
	all := record.SectionsOf(primary)
	moves := !stays.Has(primary) || k.name == "Composition" || k.name == "DocumentReference"
	add := func(s record.Section, leads bool) {
		all = all.With(s)
		if leads && moves {
			primary, moves = s, false
		}
	}
	if s, has := ofKind[p.reply.Custodian.Kind]; has {
		add(s, !stays.Has(primary))
	}
	for _, a := range k.more {
		if a.holds(v) {
			add(a.section, a.leads)
		}
	}
	for _, path := range [...]string{"category.coding", "meta.tag", "meta.security"} { // a custodian may name our sections itself
		for c := range v.Each(path) {
			if c.Get("system").Is(p.sectionSystem) {
				if s, is := record.ParseSection(c.Get("code").View()); is {
					add(s, true)
				}
			}
		}
	}
	for c := range v.Get("contained").Elems() {
		if k := kindOf(c.Get("resourceType").View()); k.row.class == person {
			_, inner := p.place(k, c)
			all |= inner
		}
	}
	return primary, all
}

// followed are the sections that an Encounter hands to its entries.
var followed = record.SectionsOf(record.Emergency, record.MentalHealth)

// maxEncounterDepth bounds how far Encounter.partOf is followed.
const maxEncounterDepth = 8

// follow gives entries the sections of their Encounter (rule 3), and an Encounter those of the one that it is part of.
func (p *preparing) follow() {
	handed := make(map[int32]record.Sections)
	var hand func(i int32, depth int) record.Sections
	hand = func(i int32, depth int) record.Sections {
		if s, done := handed[i]; done {
			return s
		}
		it := &p.items[i]
		s := it.sections & followed
		if depth < maxEncounterDepth {
			if up := p.encounterAt(it.v.Get("partOf"), it); up >= 0 && up != i {
				s |= hand(up, depth+1)
			}
		}
		if depth == 0 {
			handed[i] = s
		}
		return s
	}
	for i := range p.items {
		it := &p.items[i]
		if it.fate != undecided || it.kind.row.class == supporting {
			continue
		}
		if it.typ == "Encounter" {
			it.sections |= hand(int32(i), 0)
			continue
		}
		refs := [...]fhirjson.Value{it.v.Get("encounter"), it.v.Get("context"), it.v.At("context", "encounter")}
		for _, r := range refs {
			for e := range r.Elems() {
				if up := p.encounterAt(e, it); up >= 0 {
					it.sections |= hand(up, 0)
				}
			}
		}
	}
}

// encounterAt returns the Encounter that a Reference leads to, -1 for none.
func (p *preparing) encounterAt(r fhirjson.Value, it *item) int32 {
	address := r.Get("reference").View()
	if address == "" {
		return -1
	}
	i := p.resolve(address, it)
	if i < 0 || p.items[i].typ != "Encounter" || p.items[i].fate == dropped {
		return -1
	}
	return i
}
