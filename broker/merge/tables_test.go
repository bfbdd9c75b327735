package merge

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"
)

// r4Types are the resource types of FHIR R4 4.0.1 (hl7.org/fhir/R4/resourcelist.html), all that can stand in a Bundle.
var r4Types = strings.Fields(`Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic Binary
	BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem ChargeItemDefinition Claim ClaimResponse
	ClinicalImpression CodeSystem Communication CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage
	CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement
	DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest EnrollmentResponse EpisodeOfCare
	EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse
	HealthcareService ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library Linkage
	List Location Measure MeasureReport Media Medication MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest
	MedicationStatement MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
	MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
	MedicinalProductUndesirableEffect MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder Observation ObservationDefinition
	OperationDefinition OperationOutcome Organization OrganizationAffiliation Parameters Patient PaymentNotice PaymentReconciliation Person PlanDefinition
	Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson RequestGroup ResearchDefinition
	ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest Slot Specimen
	SpecimenDefinition StructureDefinition StructureMap Subscription Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein
	SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport
	TestScript ValueSet VerificationResult VisionPrescription`)

func TestIsType(t *testing.T) {
	for _, typ := range r4Types {
		if !IsType(typ) {
			t.Errorf("%s is a type", typ)
		}
	}
	for _, no := range []string{"", "patient", "Resource", "DomainResource", "Sequence", "Observation "} {
		if IsType(no) {
			t.Errorf("%q is no type", no)
		}
	}
	if len(subjects) != len(r4Types) {
		t.Errorf("%d rows, %d types", len(subjects), len(r4Types))
	}
}

// compartment is the patient compartment of R4 (compartmentdefinition-patient.json), Patient itself aside.
var compartment = strings.Fields(`Account AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic BodyStructure CarePlan CareTeam
	ChargeItem Claim ClaimResponse ClinicalImpression Communication CommunicationRequest Composition Condition Consent Coverage CoverageEligibilityRequest
	CoverageEligibilityResponse DetectedIssue DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference Encounter
	EnrollmentRequest EpisodeOfCare ExplanationOfBenefit FamilyMemberHistory Flag Goal Group ImagingStudy Immunization ImmunizationEvaluation
	ImmunizationRecommendation Invoice List MeasureReport Media MedicationAdministration MedicationDispense MedicationRequest MedicationStatement
	MolecularSequence NutritionOrder Observation Person Procedure Provenance QuestionnaireResponse RelatedPerson RequestGroup ResearchSubject
	RiskAssessment Schedule ServiceRequest Specimen SupplyDelivery SupplyRequest VisionPrescription`)

// models are samply's structs of the types in our tables of paths: an independent list of which elements there are.
var models = []any{fhir.AdverseEvent{}, fhir.AllergyIntolerance{}, fhir.Appointment{}, fhir.AppointmentResponse{}, fhir.AuditEvent{}, fhir.Basic{},
	fhir.BiologicallyDerivedProduct{}, fhir.Binary{}, fhir.BodyStructure{}, fhir.CarePlan{}, fhir.CareTeam{}, fhir.ClinicalImpression{}, fhir.Communication{},
	fhir.CommunicationRequest{}, fhir.Composition{}, fhir.Condition{}, fhir.Consent{}, fhir.DetectedIssue{}, fhir.Device{}, fhir.DeviceRequest{},
	fhir.DeviceUseStatement{}, fhir.DiagnosticReport{}, fhir.DocumentManifest{}, fhir.DocumentReference{}, fhir.Encounter{}, fhir.EpisodeOfCare{},
	fhir.FamilyMemberHistory{}, fhir.Flag{}, fhir.Goal{}, fhir.Group{}, fhir.GuidanceResponse{}, fhir.ImagingStudy{}, fhir.Immunization{},
	fhir.ImmunizationEvaluation{}, fhir.ImmunizationRecommendation{}, fhir.List{}, fhir.MeasureReport{}, fhir.Media{}, fhir.MedicationAdministration{},
	fhir.MedicationDispense{}, fhir.MedicationRequest{}, fhir.MedicationStatement{}, fhir.MolecularSequence{}, fhir.NutritionOrder{}, fhir.Observation{},
	fhir.Patient{}, fhir.Person{}, fhir.Procedure{}, fhir.Provenance{}, fhir.QuestionnaireResponse{}, fhir.RelatedPerson{}, fhir.RequestGroup{},
	fhir.ResearchSubject{}, fhir.RiskAssessment{}, fhir.Schedule{}, fhir.ServiceRequest{}, fhir.Specimen{}, fhir.SupplyDelivery{}, fhir.SupplyRequest{},
	fhir.Task{}, fhir.VisionPrescription{}}

// element follows a dotted path through a struct by JSON names; nil if there is no such element.
func element(t reflect.Type, path string) reflect.Type {
	for _, name := range strings.Split(strings.ReplaceAll(path, "*", ""), ".") {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		var next reflect.Type
		for i := range t.NumField() {
			if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag == name {
				next = t.Field(i).Type
			}
		}
		if next == nil {
			return nil
		}
		t = next
	}
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

func TestEveryTypeOfR4HasARow(t *testing.T) {
	for _, typ := range r4Types {
		if subjects[typ].class == unknownClass {
			t.Errorf("%s has no row in subjects", typ)
		}
	}
	if len(subjects) != len(r4Types) {
		t.Errorf("subjects has %d rows, R4 %d types", len(subjects), len(r4Types))
	}
	for typ, row := range subjects {
		if row.class == person || row.class == either {
			if _, has := dates[typ]; !has {
				t.Errorf("%s has no row in dates", typ)
			}
			if _, has := shipped.headings[typ]; !has {
				t.Errorf("%s has no heading", typ)
			}
			if row.class == person && typ != "Patient" && len(row.about)+len(row.among) == 0 {
				t.Errorf("%s names nobody", typ)
			}
		}
	}
	for _, typ := range compartment {
		switch subjects[typ].class {
		case person, provenance, money:
		case supporting:
			if typ != "Schedule" { // M-4: a Schedule supports; its actors are looked at
				t.Errorf("%s is of the patient compartment and yet supports", typ)
			}
		default:
			t.Errorf("%s is of the patient compartment and yet dropped", typ)
		}
	}
	for typ := range dates {
		if c := subjects[typ].class; c != person && c != either {
			t.Errorf("dates has %s, which is not about a person", typ)
		}
	}
}

func TestTablesNameElementsOfR4(t *testing.T) {
	byName := map[string]reflect.Type{}
	for _, m := range models {
		byName[reflect.TypeOf(m).Name()] = reflect.TypeOf(m)
	}
	reference, period, timing, text := reflect.TypeFor[fhir.Reference](), reflect.TypeFor[fhir.Period](), reflect.TypeFor[fhir.Timing](), reflect.TypeFor[string]()
	checked := 0
	for typ, row := range subjects {
		for _, paths := range [][]string{row.about, row.among, row.also} {
			for _, path := range paths {
				checked++
				if byName[typ] == nil {
					t.Errorf("no model of %s", typ)
				} else if got := element(byName[typ], path); got != reference {
					t.Errorf("%s.%s is %v, not a Reference", typ, path, got)
				}
			}
		}
	}
	for typ, row := range dates {
		for _, paths := range [][]string{row.paths, row.until} {
			for _, path := range paths {
				checked++
				if got := element(byName[typ], strings.TrimPrefix(path, "*")); got != period && got != timing && got != text {
					t.Errorf("%s.%s is %v, not a time", typ, path, got)
				}
			}
		}
	}
	if checked < 150 {
		t.Errorf("only %d paths looked at", checked)
	}
}

// Every element that may refer to a Patient as its subject or patient is in the table: the names that R4 gives to whom a resource is about.
func TestEverySubjectElementIsInTheTable(t *testing.T) {
	for _, m := range models {
		typ := reflect.TypeOf(m)
		row := subjects[typ.Name()]
		if row.class != person && row.class != either {
			continue
		}
		for _, name := range []string{"subject", "patient", "individual", "for"} {
			if element(typ, name) == reflect.TypeFor[fhir.Reference]() && !strings.Contains(" "+strings.Join(row.about, " ")+" ", " "+name+" ") {
				t.Errorf("%s.%s is not looked at", typ.Name(), name)
			}
		}
	}
}

// The tables against the published definitions: every element that may name a Patient is looked at, every time at the top of a type is used or
// left out for a reason, and no path is of our making.
func TestTablesAgainstTheDefinitionsOfR4(t *testing.T) {
	text, err := os.ReadFile("testdata/r4-paths.txt")
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "#" {
			defined[f[0]+" "+f[1]] = f[2]
		}
	}
	// Times that are not when something happened to the person.
	noEvent := words("Device.manufactureDate Device.expirationDate Immunization.expirationDate Patient.birthDate Patient.deceasedDateTime Person.birthDate " +
		"RelatedPerson.birthDate FamilyMemberHistory.bornPeriod FamilyMemberHistory.bornDate FamilyMemberHistory.deceasedDate Observation.valueDateTime Observation.valuePeriod")
	references, times := 0, 0
	for at, kind := range defined {
		typ, path, _ := strings.Cut(at, " ")
		row := subjects[typ]
		switch kind {
		case "Patient", "Resource":
			references++
			if !slices.Contains(slices.Concat(row.about, row.among, row.also), path) {
				t.Errorf("%s.%s may name a Patient and is not looked at", typ, path)
			}
		default:
			if strings.Contains(path, ".") || row.class != person && row.class != either {
				continue
			}
			times++
			if !slices.Contains(slices.Concat(dates[typ].paths, dates[typ].until), path) && !noEvent[typ+"."+path] {
				t.Errorf("%s.%s is a time and is not used", typ, path)
			}
		}
	}
	if references < 160 || times < 110 {
		t.Errorf("%d references, %d times: the list of definitions is cut", references, times)
	}
	for typ, row := range subjects {
		for _, path := range slices.Concat(row.about, row.among, row.also) {
			if kind := defined[typ+" "+path]; kind != "Patient" && kind != "Resource" {
				t.Errorf("%s.%s names no Patient by definition", typ, path)
			}
		}
	}
	inDatatypes := words("DocumentReference.content.attachment.creation MedicationRequest.dosageInstruction.timing")
	for typ, row := range dates {
		for _, path := range slices.Concat(row.paths, row.until) {
			path = strings.TrimPrefix(path, "*")
			if defined[typ+" "+path] == "" && defined[typ+" "+strings.Replace(path, ".", "*.", 1)] == "" && !inDatatypes[typ+"."+path] {
				t.Errorf("%s.%s is no time by definition", typ, path)
			}
		}
	}
}
