package merge

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// class says what becomes of a resource type (M-4).
type class uint8

const (
	unknownClass class = iota // not a type of FHIR R4: dropped and counted
	person                    // about a person, whom it must name
	supporting                // about nobody; shown only where something shown refers to it
	either                    // about a person if it names one, else supporting
	provenance                // about what it targets; shown with it
	money                     // financial: excluded and counted
	foreign                   // definitions, messages and bundles: no part of a person's record, dropped and counted
	outcome                   // an OperationOutcome: becomes Parts, is never an entry
)

// naming is the row of a type in the table of subjects.
type naming struct {
	class class
	about []string // who it is about: every reference here must be to this person, and there must be at least one
	among []string // lists that people stand in beside others: at least one reference must be to this person, and none to another
	also  []string // may name people: none of them may be another person

	ready struct{ about, among, also []namePath } // the above, ready to be followed
}

// A path is dotted and goes into every element of every array. A star after its first name says that the member may repeat at any depth: a
// section in a section.

// namePath is where references to people may stand.
type namePath struct {
	path    string // as the table has it
	repeats string // the name of a member that may repeat at any depth, "" for none
	to      fhirjson.Path
}

func namePathOf(path string) namePath {
	if name, rest, repeats := strings.Cut(path, "*."); repeats {
		return namePath{path, name, fhirjson.PathOf(rest)}
	}
	return namePath{path, "", fhirjson.PathOf(path)}
}

// makeReady makes the paths of a row ready to be followed.
func (n *naming) makeReady() {
	of := func(paths []string) []namePath {
		out := make([]namePath, len(paths))
		for i, path := range paths {
			out[i] = namePathOf(path)
		}
		return out
	}
	n.ready.about, n.ready.among, n.ready.also = of(n.about), of(n.among), of(n.also)
	if n.class == person || n.class == either {
		n.ready.also = append(n.ready.also, of(annotated)...)
	}
}

// annotated is where an Annotation names its author, in every type that is about a person.
var annotated = []string{"note.authorReference"}

func about(path string, also ...string) naming {
	return naming{class: person, about: []string{path}, also: also}
}

func among(paths ...string) naming { return naming{class: person, among: paths} }

// subjects says for every type of FHIR R4 (4.0.1) which elements name a person: the patient compartment
// (hl7.org/fhir/R4/compartmentdefinition-patient.html), the other types with a subject, and every further element whose
// reference may be to a Patient or to any resource. The compartment is wide (an Observation is in that of its performer), so membership alone
// is not enough: the subject decides.
var subjects = map[string]naming{
	"Patient": {class: person, also: []string{"link.other"}}, // itself: see identity.go. A link to another Patient of the reply is masked there

	"AdverseEvent":               about("subject", "recorder"),
	"AllergyIntolerance":         about("patient", "recorder", "asserter"),
	"Appointment":                {class: person, among: []string{"participant.actor"}, also: []string{"supportingInformation"}},
	"AppointmentResponse":        among("actor"),
	"AuditEvent":                 {class: person, among: []string{"agent.who", "entity.what"}, also: []string{"source.observer"}},
	"Basic":                      about("subject", "author"),
	"BiologicallyDerivedProduct": about("collection.source"),
	"BodyStructure":              about("patient"),
	"CarePlan":                   about("subject", "author", "contributor", "activity.detail.performer", "supportingInfo", "activity.outcomeReference", "activity.progress.authorReference"),
	"CareTeam":                   about("subject", "participant.member"),
	"ClinicalImpression":         about("subject", "supportingInfo"),
	"Communication":              about("subject", "sender", "recipient", "about", "basedOn", "partOf", "payload.contentReference"),
	"CommunicationRequest":       about("subject", "sender", "recipient", "requester", "about", "basedOn", "payload.contentReference"),
	"Composition":                about("subject", "author", "attester.party", "event.detail", "section*.author", "section*.focus", "section*.entry"),
	"Condition":                  about("subject", "recorder", "asserter", "evidence.detail"),
	"Consent":                    about("patient", "performer", "verification.verifiedWith", "provision*.actor.reference", "provision*.data.reference"),
	"DetectedIssue":              about("patient", "implicated", "evidence.detail"),
	"Device":                     {class: either, about: []string{"patient"}},
	"DeviceRequest":              about("subject", "performer", "basedOn", "priorRequest", "supportingInfo"),
	"DeviceUseStatement":         about("subject", "source"),
	"DiagnosticReport":           about("subject"),
	"DocumentManifest":           about("subject", "author", "recipient", "content", "related.ref"),
	"DocumentReference":          about("subject", "author", "context.sourcePatientInfo", "context.related"),
	"Encounter":                  about("subject"),
	"EpisodeOfCare":              about("patient"),
	"FamilyMemberHistory":        about("patient"),
	"Flag":                       about("subject", "author"),
	"Goal":                       about("subject", "expressedBy"),
	"Group":                      {class: person, among: []string{"member.entity"}, also: []string{"characteristic.valueReference"}},
	"GuidanceResponse":           about("subject"),
	"ImagingStudy":               about("subject", "series.performer.actor"),
	"Immunization":               about("patient"),
	"ImmunizationEvaluation":     about("patient"),
	"ImmunizationRecommendation": about("patient", "recommendation.supportingPatientInformation"),
	"List":                       about("subject", "source", "entry.item"),
	"MeasureReport":              about("subject", "evaluatedResource"),
	"Media":                      about("subject", "operator", "partOf"),
	"MedicationAdministration":   about("subject", "performer.actor", "supportingInformation"),
	"MedicationDispense":         about("subject", "performer.actor", "receiver", "supportingInformation"),
	"MedicationRequest":          about("subject", "reportedReference", "requester", "performer", "supportingInformation"),
	"MedicationStatement":        about("subject", "informationSource", "derivedFrom"),
	"MolecularSequence":          about("patient"),
	"NutritionOrder":             about("patient"),
	"Observation":                about("subject", "focus", "performer"),
	"Person":                     among("link.target"),
	"Procedure":                  about("subject", "recorder", "asserter", "performer.actor"),
	"QuestionnaireResponse":      about("subject", "author", "source", "item*.answer.valueReference"),
	"RelatedPerson":              about("patient"),
	"RequestGroup":               about("subject", "basedOn", "replaces", "action*.participant", "action*.resource"),
	"ResearchSubject":            about("individual"),
	"RiskAssessment":             about("subject", "basedOn", "parent", "basis"),
	"ServiceRequest":             about("subject", "requester", "performer", "supportingInfo"),
	"Specimen":                   about("subject"),
	"SupplyDelivery":             about("patient"),
	"SupplyRequest":              {class: person, among: []string{"deliverTo"}, also: []string{"requester"}},
	"Task":                       about("for", "requester", "owner", "restriction.recipient", "basedOn", "focus", "reasonReference", "input.valueReference", "output.valueReference"),
	"VisionPrescription":         about("patient"),

	"Provenance": {class: provenance, also: []string{"agent.who", "agent.onBehalfOf", "target", "entity.what", "entity.agent.who", "entity.agent.onBehalfOf", "signature.who", "signature.onBehalfOf"}},

	"Binary":                  {class: supporting, also: []string{"securityContext"}},
	"DeviceDefinition":        {class: supporting},
	"DeviceMetric":            {class: supporting},
	"Endpoint":                {class: supporting},
	"HealthcareService":       {class: supporting},
	"Location":                {class: supporting},
	"Medication":              {class: supporting},
	"Organization":            {class: supporting},
	"OrganizationAffiliation": {class: supporting},
	"Practitioner":            {class: supporting},
	"PractitionerRole":        {class: supporting},
	"Schedule":                {class: supporting, also: []string{"actor"}},
	"Slot":                    {class: supporting},
	"Substance":               {class: supporting},

	"Account": {class: money}, "ChargeItem": {class: money}, "ChargeItemDefinition": {class: money}, "Claim": {class: money},
	"ClaimResponse": {class: money}, "Contract": {class: money}, "Coverage": {class: money}, "CoverageEligibilityRequest": {class: money},
	"CoverageEligibilityResponse": {class: money}, "EnrollmentRequest": {class: money}, "EnrollmentResponse": {class: money},
	"ExplanationOfBenefit": {class: money}, "InsurancePlan": {class: money}, "Invoice": {class: money}, "PaymentNotice": {class: money},
	"PaymentReconciliation": {class: money},

	"OperationOutcome": {class: outcome},

	"ActivityDefinition": {class: foreign}, "Bundle": {class: foreign}, "CapabilityStatement": {class: foreign}, "CatalogEntry": {class: foreign},
	"CodeSystem": {class: foreign}, "CompartmentDefinition": {class: foreign}, "ConceptMap": {class: foreign},
	"EffectEvidenceSynthesis": {class: foreign}, "EventDefinition": {class: foreign}, "Evidence": {class: foreign}, "EvidenceVariable": {class: foreign},
	"ExampleScenario": {class: foreign}, "GraphDefinition": {class: foreign}, "ImplementationGuide": {class: foreign}, "Library": {class: foreign},
	"Linkage": {class: foreign}, "Measure": {class: foreign}, "MedicationKnowledge": {class: foreign}, "MedicinalProduct": {class: foreign},
	"MedicinalProductAuthorization": {class: foreign}, "MedicinalProductContraindication": {class: foreign}, "MedicinalProductIndication": {class: foreign},
	"MedicinalProductIngredient": {class: foreign}, "MedicinalProductInteraction": {class: foreign}, "MedicinalProductManufactured": {class: foreign},
	"MedicinalProductPackaged": {class: foreign}, "MedicinalProductPharmaceutical": {class: foreign}, "MedicinalProductUndesirableEffect": {class: foreign},
	"MessageDefinition": {class: foreign}, "MessageHeader": {class: foreign}, "NamingSystem": {class: foreign}, "ObservationDefinition": {class: foreign},
	"OperationDefinition": {class: foreign}, "Parameters": {class: foreign}, "PlanDefinition": {class: foreign}, "Questionnaire": {class: foreign},
	"ResearchDefinition": {class: foreign}, "ResearchElementDefinition": {class: foreign}, "ResearchStudy": {class: foreign},
	"RiskEvidenceSynthesis": {class: foreign}, "SearchParameter": {class: foreign}, "SpecimenDefinition": {class: foreign},
	"StructureDefinition": {class: foreign}, "StructureMap": {class: foreign}, "Subscription": {class: foreign},
	"SubstanceNucleicAcid": {class: foreign}, "SubstancePolymer": {class: foreign}, "SubstanceProtein": {class: foreign},
	"SubstanceReferenceInformation": {class: foreign}, "SubstanceSourceMaterial": {class: foreign}, "SubstanceSpecification": {class: foreign},
	"TerminologyCapabilities": {class: foreign}, "TestReport": {class: foreign}, "TestScript": {class: foreign}, "ValueSet": {class: foreign},
	"VerificationResult": {class: foreign},
}

// IsType reports whether name is a resource type of FHIR R4 (4.0.1).
func IsType(name string) bool { return subjects[name].class != unknownClass }

// whom says whom a reference names.
type whom uint8

const (
	nobody  whom = iota // something that is not a Patient
	ours                // this person
	another             // another person
	unclear             // cannot be told
)

// names says whom a Reference of it names. A logical reference counts by its NHS number alone. Where address and number are both
// given, both must be this person's; a number that this person's replaced is theirs, one that is called old says nothing.
func (p *preparing) names(r fhirjson.Value, it *item) whom {
	if r.Kind() != fhirjson.Object {
		return unclear
	}
	numbered := false
	for id := range r.To(identifierMember).Elems() {
		if !id.Get("system").Is(record.NHSNumberSystem) || id.Get("use").Is("old") {
			continue
		}
		if value := id.Get("value"); !value.Is(p.number) && !p.replaced(value) {
			return another
		}
		numbered = true
	}
	address := r.To(referenceMember).View()
	if address == "" {
		switch {
		case numbered:
			return ours
		case r.Get("type").Is("Patient"):
			return another // a Patient that nothing shows to be this one
		}
		return unclear
	}
	if address[0] == '#' {
		if address == "#" {
			if it.isSubject {
				return ours // a contained resource that is about its container
			}
			return nobody
		}
		if c, is := p.contained(it, address[1:]); is {
			return c.whose
		}
		return unclear
	}
	if t := p.resolve(address, it); t >= 0 {
		switch target := &p.items[t]; {
		case target.typ != "Patient":
			return nobody
		case target.isSubject:
			return ours
		}
		return another
	}
	switch {
	case numbered && !(p.own(address, it) && typeOfAddress(address) == "Patient"):
		return ours // its address leads to another server, its number is right
	case typeOfAddress(address) == "Patient" || r.Get("type").Is("Patient"):
		return another
	}
	return unclear
}

// inner is a contained resource, and whom a reference to it names.
type inner struct {
	v     fhirjson.Value
	whose whom
}

// contained returns the resource with that id in it, the last of several. It keeps an index of the resource last asked about, because a
// hostile one may hold many that refer to many.
func (p *preparing) contained(it *item, id string) (inner, bool) {
	if p.insideOf != it {
		p.insideOf, p.inside = it, map[string]inner{}
		for c := range it.get(containedMember).Elems() {
			whose := nobody
			if c.Get("resourceType").Is("Patient") {
				if whose = another; p.isAsked(c) {
					whose = ours
				}
			}
			p.inside[c.Get("id").View()] = inner{c, whose}
		}
	}
	c, is := p.inside[id]
	return c, is
}

// attribute decides whose a resource is. It returns ours, another, or unclear for one that names nobody.
func (p *preparing) attribute(it *item, v *fhirjson.Layout, row *naming, contained bool) whom {
	found, verdict := false, nobody
	for i := range row.ready.about {
		along(v, &row.ready.about[i], func(r fhirjson.Value) bool {
			switch whose := p.names(r, it); whose {
			case ours:
				found = true
			case another:
				verdict = another
			default:
				verdict = unclear
			}
			return verdict == nobody
		})
		if verdict != nobody {
			return verdict
		}
	}
	for n, paths := range [...][]namePath{row.ready.among, row.ready.also} {
		for i := range paths {
			if it.typ == "Patient" && paths[i].path == "link.other" {
				continue // duplicates of a registration link to each other: the link is masked or dangles, the Patient stays
			}
			along(v, &paths[i], func(r fhirjson.Value) bool {
				switch p.names(r, it) {
				case ours:
					found = found || n == 0
				case another:
					verdict = another
				}
				return verdict == nobody
			})
			if verdict != nobody {
				return verdict
			}
		}
	}
	if found || contained || row.class == supporting || row.class == provenance || it.typ == "Patient" ||
		row.class == either && !v.Get(row.ready.about[0].to).Exists() {
		return ours
	}
	return unclear
}

// along calls f with what a path of the table leads to, until f returns false.
func along(v *fhirjson.Layout, path *namePath, f func(r fhirjson.Value) bool) {
	if path.repeats == "" {
		v.Along(path.to)(f)
		return
	}
	more := true
	v.Value().Visit(func(around []fhirjson.Value, x fhirjson.Value) bool {
		if len(around) == 1 && x.KeyIs("contained") {
			return false // each of them is looked at by its own row
		}
		if more && x.KeyIs(path.repeats) {
			x.Along(path.to)(func(r fhirjson.Value) bool {
				more = f(r)
				return more
			})
		}
		return more
	})
}

// contents decides whether what is contained in a resource may be in this person's record: a contained Patient must be this person, other contained resources must
// name nobody else, and there may be no Bundles, messages or unknown types among them. Nor may there be resources anywhere else: in contained ones (dom-2), in
// extensions, in members that R4 does not know. Nothing looks whose those are.
func (p *preparing) contents(it *item) whom {
	looked := 1 // resources, of all that it holds
	for c := range it.get(containedMember).Elems() {
		looked++
		typ := c.Get("resourceType").View()
		row := kindOf(typ).row
		switch {
		case typ == "Patient" && !p.isAsked(c):
			return another
		case typ == "Patient":
			continue
		case row.class == unknownClass || typ == "Bundle" || typ == "Parameters":
			return unclear
		case row.class == money || row.class == outcome || row.class == foreign:
			if p.namesAnother(c, it) {
				return another
			}
			continue
		}
		l := c.Layout()
		if w := p.attribute(it, &l, row, true); w != ours {
			return w
		}
	}
	if it.v.Resources() != looked {
		return unclear
	}
	return ours
}

// namesAnother reports whether any Reference in a contained resource, of a type whose paths are in no table, is to another person.
func (p *preparing) namesAnother(c fhirjson.Value, it *item) (is bool) {
	c.Walk(func(_ string, x fhirjson.Value) bool {
		if x.Kind() == fhirjson.Object && (x.To(referenceMember).Kind() == fhirjson.String || x.To(identifierMember).Kind() == fhirjson.Object) {
			is = is || p.names(x, it) == another
		}
		return !is
	})
	return is
}

// typeOfAddress returns the resource type that an address names, "" if it names none: of Type/id, and of a question Type?identifier=.
func typeOfAddress(address string) string {
	head, rest := splitAddress(address)
	head = strings.TrimRight(plainPath(head), "/")
	if i := strings.Index(head, "/_history/"); i >= 0 {
		head = head[:i]
	}
	i := strings.LastIndexByte(head, '/')
	if last := head[i+1:]; strings.HasPrefix(rest, "?") && IsType(last) {
		return last
	}
	if i < 0 {
		return ""
	}
	head = head[:i]
	return head[strings.LastIndexByte(head, '/')+1:]
}
