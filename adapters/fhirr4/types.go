package fhirr4

// searchable are the types that FHIR R4 can search by patient, with the search parameter to use (hl7.org/fhir/R4/searchparameter-registry.html,
// read in November 2026). Left out on purpose: Patient, which is found first; AuditEvent, which is about readers and not the person;
// financial types (Account, ChargeItem, Claim, ClaimResponse, Coverage, CoverageEligibilityRequest, CoverageEligibilityResponse,
// EnrollmentRequest, ExplanationOfBenefit, Invoice, MeasureReport), which no shared care record shows; Group, Person, ResearchSubject and
// Schedule, which link people rather than say something about one.
var searchable = map[string]string{
	"AdverseEvent": "subject", "AllergyIntolerance": "patient", "Appointment": "patient", "AppointmentResponse": "patient", "Basic": "patient",
	"BodyStructure": "patient", "CarePlan": "patient", "CareTeam": "patient", "ClinicalImpression": "patient", "Communication": "patient",
	"CommunicationRequest": "patient", "Composition": "patient", "Condition": "patient", "Consent": "patient", "DetectedIssue": "patient",
	"Device": "patient", "DeviceRequest": "patient", "DeviceUseStatement": "patient", "DiagnosticReport": "patient",
	"DocumentManifest": "patient", "DocumentReference": "patient", "Encounter": "patient", "EpisodeOfCare": "patient",
	"FamilyMemberHistory": "patient", "Flag": "patient", "Goal": "patient", "GuidanceResponse": "patient", "ImagingStudy": "patient",
	"Immunization": "patient", "ImmunizationEvaluation": "patient", "ImmunizationRecommendation": "patient", "List": "patient",
	"Media": "patient", "MedicationAdministration": "patient", "MedicationDispense": "patient", "MedicationRequest": "patient",
	"MedicationStatement": "patient", "MolecularSequence": "patient", "NutritionOrder": "patient", "Observation": "patient",
	"Procedure": "patient", "Provenance": "patient", "QuestionnaireResponse": "patient", "RelatedPerson": "patient",
	"RequestGroup": "patient", "RiskAssessment": "patient", "ServiceRequest": "patient", "Specimen": "patient", "SupplyDelivery": "patient",
	"SupplyRequest": "subject", "Task": "patient", "VisionPrescription": "patient",
}

// supporting are the search parameters worth an _include: those that lead to who, where and with what.
var supporting = map[string]bool{
	"actor": true, "agent": true, "author": true, "asserter": true, "custodian": true, "device": true, "general-practitioner": true,
	"individual": true, "location": true, "manufacturer": true, "medication": true, "organization": true, "owner": true, "participant": true,
	"performer": true, "practitioner": true, "recipient": true, "recorder": true, "requester": true, "sender": true, "service-provider": true,
	"slot": true, "source": true, "supplier": true,
}
