package fhirrest

import (
	"encoding/json"
	"net/http"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/optoutlist"
)

// capabilityDate is when the statement's content last changed.
const capabilityDate = "2026-11-29"

// noReceipt stands where no entry of the ledger belongs to an answer, or where it may not be told.
var noReceipt audit.Receipt

// metadata serves GET metadata, to everybody, also when every custodian is down.
func (x *exchange) metadata() *problem {
	x.send(http.StatusOK, noReceipt, x.h.capability)
	return nil
}

// capabilityStatement authors the CapabilityStatement: what routes.go serves, and nothing else (standards 1.10).
func capabilityStatement(cfg Config) []byte {
	text := func(s string) *string {
		if s == "" { // FHIR knows no empty strings
			return nil
		}
		return &s
	}
	no := false
	noVersion, notConditional := fhir.ResourceVersionPolicyNoVersion, fhir.ConditionalReadStatusNotSupported
	statement := fhir.CapabilityStatement{
		Name: text("MyCareRecord"), Title: text("My Care Record"), Version: text(cfg.Version), Status: fhir.PublicationStatusActive, Date: capabilityDate,
		Kind: fhir.CapabilityStatementKindInstance, FhirVersion: fhir.FHIRVersion4_0_1, Format: []string{"json", "application/fhir+json"},
		Description:    text("A read-only view of one person's record over the organisations that hold it, put together for each request and kept nowhere."),
		Software:       &fhir.CapabilityStatementSoftware{Name: "My Care Record", Version: text(cfg.Version)},
		Implementation: &fhir.CapabilityStatementImplementation{Description: "Shared care record broker", Url: text(cfg.Base)},
		Rest: []fhir.CapabilityStatementRest{{
			Mode: fhir.RestfulCapabilityModeServer,
			Documentation: text("Every request states its purpose in X-Purpose-Of-Use (TREAT, ETREAT, BTG, PATRQT), the permission to view in " +
				"X-Permission-To-View, and may state the relationship in X-Care-Relationship; BTG takes X-Break-Glass-Reason. Answers carry an access receipt in " +
				"X-Access-Receipt. Paging is not supported: an answer is whole; _count=0 is refused. Prefer: handling=strict refuses parameters that are not supported; " +
				"otherwise they are ignored, and named in the answer."),
			Security: &fhir.CapabilityStatementRestSecurity{Cors: &no,
				Description: text("An access token (RFC 9068) of a configured issuer as Authorization: Bearer. A system names the person it acts for in " +
					"X-Acting-Person."),
				Service: []fhir.CodeableConcept{{Coding: []fhir.Coding{{System: text("http://terminology.hl7.org/CodeSystem/restful-security-service"), Code: text("OAuth")}}}}},
			Resource: []fhir.CapabilityStatementRestResource{{
				Type: fhir.ResourceTypePatient,
				Interaction: []fhir.CapabilityStatementRestResourceInteraction{
					{Code: fhir.TypeRestfulInteractionRead, Documentation: text("By the id that a search returned: the demographics of one person. " +
						"X-Answer-Complete: false says that a custodian is missing; a search says which.")},
					{Code: fhir.TypeRestfulInteractionSearchType, Documentation: text("By GET and by POST; by POST the NHS number stays out of the address.")},
				},
				Versioning: &noVersion, ReadHistory: &no, UpdateCreate: &no, ConditionalCreate: &no, ConditionalRead: &notConditional, ConditionalUpdate: &no,
				SearchParam: []fhir.CapabilityStatementRestResourceSearchParam{
					{Name: "identifier", Definition: text("http://hl7.org/fhir/SearchParameter/Patient-identifier"), Type: fhir.SearchParamTypeToken,
						Documentation: text("An NHS number: https://fhir.nhs.uk/Id/nhs-number|, then ten digits.")},
					{Name: "_id", Definition: text("http://hl7.org/fhir/SearchParameter/Resource-id"), Type: fhir.SearchParamTypeToken,
						Documentation: text("The id that a search returned. Any other matches nobody.")},
					{Name: "birthdate", Definition: text("http://hl7.org/fhir/SearchParameter/individual-birthdate"), Type: fhir.SearchParamTypeDate,
						Documentation: text("A second identifier beside one of the others: the whole day.")},
				},
				Operation: []fhir.CapabilityStatementRestResourceOperation{{Name: "everything", Definition: "http://hl7.org/fhir/OperationDefinition/Patient-everything",
					Documentation: text("For one person: Patient/{id}/$everything by GET and POST, or Patient/$everything by POST with identifier in the Parameters body. " +
						"Parameters: start, end, _type, _since, and birthDate as a second identifier. Undated entries are always included and marked.")}},
			}, {
				Type: fhir.ResourceTypeBinary,
				Documentation: text("A document that a record leads to, at the address in Attachment.url and no other, fetched from whoever holds it when it is asked for, under the same " +
					"headers as a record. The address holds for a quarter of an hour, for the organisation that asked. The answer is the document as it is; Accept: application/fhir+json gets a Binary around it."),
				Interaction: []fhir.CapabilityStatementRestResourceInteraction{
					{Code: fhir.TypeRestfulInteractionRead, Documentation: text("By the whole address: the id alone reads nothing.")},
				},
				Versioning: &noVersion, ReadHistory: &no, UpdateCreate: &no, ConditionalCreate: &no, ConditionalRead: &notConditional, ConditionalUpdate: &no,
			}, {
				Type: fhir.ResourceTypeAuditEvent,
				Documentation: text("Who asked for whose record, what was decided and shown, who changed and read a person's choices, and who asked the ledger: for information-governance officers " +
					"(accesses by their organisation's staff, and to its records) and for the person. IHE BALP where it has a pattern. Each search and read is recorded, with the reason, which officers must " +
					"give in X-Audit-Reason or, by POST, as reason. Pages are followed by the link next, which only its asker can follow, for an hour."),
				SupportedProfile: []string{profileBALP + "PatientQuery", profileBALP + "Query", profileBALP + "PatientCreate", profileBALP + "PatientUpdate"},
				Interaction: []fhir.CapabilityStatementRestResourceInteraction{
					{Code: fhir.TypeRestfulInteractionSearchType, Documentation: text("By GET, and by POST also with patient.identifier (an NHS number). _query names the question: who-looked, by-user, " +
						"by-staff, of-records, refusals, break-glass, consent-changes, ledger-reads; without it, it follows from what is given.")},
					{Code: fhir.TypeRestfulInteractionRead, Documentation: text("By the id in an answer. Whoever may not see it there is told that there is none.")},
				},
				Versioning: &noVersion, ReadHistory: &no, UpdateCreate: &no, ConditionalCreate: &no, ConditionalRead: &notConditional, ConditionalUpdate: &no,
				SearchParam: []fhir.CapabilityStatementRestResourceSearchParam{
					{Name: "patient", Definition: text("http://hl7.org/fhir/SearchParameter/AuditEvent-patient"), Type: fhir.SearchParamTypeReference,
						Documentation: text("The id of a Patient that a search returned; patient.identifier by POST. Earlier numbers that the demographics service confirms are followed.")},
					{Name: "agent", Definition: text("http://hl7.org/fhir/SearchParameter/AuditEvent-agent"), Type: fhir.SearchParamTypeReference,
						Documentation: text("As agent:identifier: an SDS user id, or the ODS code of the requester's organisation.")},
					{Name: "entity", Definition: text("http://hl7.org/fhir/SearchParameter/AuditEvent-entity"), Type: fhir.SearchParamTypeReference,
						Documentation: text("As entity:identifier: the ODS code of an organisation whose records were asked for.")},
					{Name: "date", Definition: text("http://hl7.org/fhir/SearchParameter/AuditEvent-date"), Type: fhir.SearchParamTypeDate, Documentation: text("With ge, gt, le, lt, or none; more than once.")},
					{Name: "outcome", Definition: text("http://hl7.org/fhir/SearchParameter/AuditEvent-outcome"), Type: fhir.SearchParamTypeToken,
						Documentation: text("0: shown, or nothing to show. 4: refused, or the caller left. 8: not known.")},
					{Name: "purpose", Type: fhir.SearchParamTypeToken, Documentation: text("TREAT, ETREAT, BTG or PATRQT: FHIR has no such parameter, so this is ours.")},
				},
			}, {
				Type: fhir.ResourceTypeConsent,
				Documentation: text("The objections of one person, in any status: to all sharing (IHE PCF Basic), to one organisation's record being shown (IHE PCF Intermediate), or to one " +
					"section, by a security label of ours (no PCF profile). Each denies and none permits. For the person, and for staff who may see objections; each look is recorded. " +
					"Staff give patient.birthdate, also beside a read. Purpose, permission and relationship are not needed."),
				SupportedProfile: []string{optoutlist.ProfileBasic, optoutlist.ProfileIntermediate},
				Interaction: []fhir.CapabilityStatementRestResourceInteraction{
					{Code: fhir.TypeRestfulInteractionRead, Documentation: text("By the id that a search returned.")},
					{Code: fhir.TypeRestfulInteractionSearchType, Documentation: text("By GET with patient, and by POST also with patient.identifier (an NHS number, as for Patient).")},
				},
				Versioning: &noVersion, ReadHistory: &no, UpdateCreate: &no, ConditionalCreate: &no, ConditionalRead: &notConditional, ConditionalUpdate: &no,
				SearchParam: []fhir.CapabilityStatementRestResourceSearchParam{
					{Name: "patient", Definition: text("http://hl7.org/fhir/SearchParameter/clinical-patient"), Type: fhir.SearchParamTypeReference,
						Documentation: text("The id of a Patient that a search returned. Needed, unless patient.identifier is sent, or people ask for themselves.")},
					{Name: "status", Definition: text("http://hl7.org/fhir/SearchParameter/Consent-status"), Type: fhir.SearchParamTypeToken,
						Documentation: text("proposed, active, rejected or inactive, or some of them with commas. Only what is active withholds anything.")},
					{Name: "_id", Definition: text("http://hl7.org/fhir/SearchParameter/Resource-id"), Type: fhir.SearchParamTypeToken,
						Documentation: text("The id that a search returned: one of the person's alone.")},
				},
			}},
		}},
	}
	raw, err := json.Marshal(statement)
	if err != nil {
		panic("fhirrest: the CapabilityStatement cannot be written")
	}
	return raw
}
