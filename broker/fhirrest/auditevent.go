package fhirrest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// An AuditEvent here is one row of an answer of the ledger (FHIR R4; IHE BALP 1.1, profiles.ihe.net/ITI/BALP). Where BALP has a pattern, the event follows it, and claims the
// profile where what it says happened: PatientQuery for an access that was answered, PatientCreate and PatientUpdate for a person's choices, PatientQuery and Query for looks at
// the ledger. BALP has none for a refusal, for break-glass or for what ended in another way: they have the same slices and claim nothing.

// Code systems of AuditEvents.
const (
	systemDCM         = "http://dicom.nema.org/resources/ontology/DCM"
	systemEventType   = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	systemInteraction = "http://hl7.org/fhir/restful-interaction"
	systemEntityType  = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	systemEntityRole  = "http://terminology.hl7.org/CodeSystem/object-role"
	systemSourceType  = "http://terminology.hl7.org/CodeSystem/security-source-type"
	systemParticipant = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	systemRoleClass   = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
	systemActReason   = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	systemBALPEntity  = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
	systemSDSUser     = "https://fhir.nhs.uk/Id/sds-user-id"
	profileBALP       = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
	dataAbsentReason  = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
)

type jsonObject = map[string]any

func auditCoding(system, code, display string) jsonObject {
	c := jsonObject{"system": system, "code": code}
	if display != "" {
		c["display"] = display
	}
	return c
}

func auditConcept(system, code, display string) jsonObject {
	return jsonObject{"coding": []any{auditCoding(system, code, display)}}
}

func logical(typ, system, value, display string) jsonObject {
	id := jsonObject{"value": value}
	if system != "" {
		id["system"] = system
	}
	r := jsonObject{"identifier": id}
	if typ != "" {
		r["type"] = typ
	}
	if display != "" {
		r["display"] = display
	}
	return r
}

// outcomeCode says how an event ended (hl7.org/fhir/R4/valueset-audit-event-outcome.html): 0 done, also where there was nothing to show; 4 refused, or the caller left; 8 not known,
// which counts as a possible disclosure.
func outcomeCode(t audit.EntryType) string {
	switch t {
	case audit.TypeRefused, audit.TypeCancelled:
		return "4"
	case audit.TypeAbandoned:
		return "8"
	}
	return "0"
}

// auditEvent authors the event of a row.
func (h *handler) auditEvent(row audit.Row) []byte {
	e := jsonObject{"resourceType": "AuditEvent", "id": auditEventID(row.Position), "recorded": row.At.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"source": jsonObject{"observer": logical("", "", h.base, "My Care Record"), "type": []any{auditCoding(systemSourceType, "4", "Application Server")}}}
	by := record.Requester{}
	operation, face, requestID, filter := "", "", "", ""
	switch {
	case row.Access != nil:
		by, operation, face, requestID, filter = row.Access.Requester, row.Access.Operation, row.Access.Face, row.Access.RequestID, row.Access.Filter
	case row.Actor != nil:
		by, face, requestID = row.Actor.Requester, row.Actor.Face, row.Actor.RequestID
	}
	patient := !row.Subject.IsZero()
	entities := []any{}
	if patient {
		entities = append(entities, jsonObject{"type": auditCoding(systemEntityType, "1", "Person"), "role": auditCoding(systemEntityRole, "1", "Patient"),
			"what": logical("Patient", record.NHSNumberSystem, row.Subject.Reveal(), "")})
	}
	profile, userType := "", auditConcept(systemParticipant, "IRCP", "information recipient")
	rest := auditCoding(systemEventType, "rest", "RESTful Operation")
	query := func(text string) {
		entities = append(entities, jsonObject{"type": auditCoding(systemEntityType, "2", "System Object"), "role": auditCoding(systemEntityRole, "24", "Query"),
			"query": []byte(text), "description": text})
	}
	switch {
	case row.Type == audit.TypeOverride:
		e["type"], e["subtype"], e["action"] = auditCoding(systemDCM, "110113", "Security Alert"), []any{auditCoding(systemDCM, "110127", "Emergency Override Started")}, "E"
		e["outcomeDesc"] = row.Access.BreakGlassReason
	case row.Access != nil:
		e["type"], e["action"] = rest, "E"
		e["subtype"] = []any{auditCoding(systemInteraction, "search-type", "search-type"), auditCoding(systemInteraction, "operation", "operation")}
		query(strings.Join(nonEmptyStrings(face, operation, filter), " "))
		if patient && outcomeCode(row.Outcome) == "0" {
			profile = "PatientQuery"
		}
	case row.Objection != nil || row.Delegation != nil:
		code, action := "create", "C"
		profile = "PatientCreate"
		if row.Replaces != 0 {
			code, action, profile = "update", "U", "PatientUpdate"
		}
		e["type"], e["subtype"], e["action"] = rest, []any{auditCoding(systemInteraction, code, code)}, action
		userType = auditConcept(systemParticipant, "AUT", "author (originator)")
		what := jsonObject{"type": "Consent"}
		if row.Objection != nil {
			what["reference"] = "Consent/" + consentID(h.handles.Seal(row.Subject), row.Objection.ID)
		} else {
			what["identifier"] = jsonObject{"value": row.Delegation.ID}
		}
		entities = append(entities, jsonObject{"type": auditCoding(systemEntityType, "2", "System Object"), "role": auditCoding(systemEntityRole, "4", "Domain Resource"), "what": what})
		if !patient {
			profile = ""
		}
	case row.Type == audit.TypeRead:
		e["type"], e["subtype"], e["action"] = rest, []any{auditCoding(systemInteraction, "search-type", "search-type")}, "E"
		query("ledger " + row.Asked)
		profile = "Query"
		if patient {
			profile = "PatientQuery"
		}
	default: // a list of objections came in, or was given up
		e["type"], e["subtype"], e["action"] = rest, []any{auditCoding(systemInteraction, "batch", "batch")}, "C"
		userType = auditConcept(systemParticipant, "AUT", "author (originator)")
	}
	e["outcome"] = outcomeCode(row.Outcome)
	if reason := refusalText(row); reason != "" {
		e["outcomeDesc"] = reason
	}
	if profile != "" {
		e["meta"] = jsonObject{"profile": []any{profileBALP + profile}}
	}
	if p := purposeOf(row); p != "" {
		e["purposeOfEvent"] = []any{auditConcept(systemActReason, p, "")}
	}
	if row.Disclosure != nil {
		var detail []any
		for _, c := range row.Disclosure.Custodians { // what each custodian showed: its state, how many entries, and of which sections
			detail = append(detail, jsonObject{"type": string(c.Key), "valueString": shownDetail(c)})
		}
		if len(detail) > 0 && patient {
			entities[0].(jsonObject)["detail"] = detail
		}
	}
	if requestID != "" {
		entities = append(entities, jsonObject{"type": auditCoding(systemBALPEntity, "XrequestId", ""), "what": jsonObject{"identifier": jsonObject{"value": requestID}}})
	}
	if len(entities) > 0 {
		e["entity"] = entities
	}
	e["agent"] = h.auditAgents(row, by, userType)
	text, err := json.Marshal(e) // text, numbers and lists of them: it does not fail
	if err != nil {
		panic("fhirrest: an AuditEvent cannot be written")
	}
	return text
}

func auditEventID(position uint64) string { return fmt.Sprintf("entry-%d", position) }

// auditAgents are who asked, by which system, of whom, and for which organisation. Network addresses of callers are not kept, and the event says so.
func (h *handler) auditAgents(row audit.Row, by record.Requester, userType jsonObject) []any {
	client := by.Client
	if client == "" {
		client = "unknown"
	}
	agents := []any{
		jsonObject{"type": auditConcept(systemDCM, "110153", "Source Role ID"), "who": logical("Device", "", client, ""), "requestor": false,
			"network": jsonObject{"extension": []any{jsonObject{"url": dataAbsentReason, "valueCode": "not-permitted"}}}},
		jsonObject{"type": auditConcept(systemDCM, "110152", "Destination Role ID"), "who": logical("Device", "", h.base, ""), "requestor": false,
			"network": jsonObject{"address": h.base, "type": "5"}},
	}
	user := jsonObject{"type": userType, "requestor": true}
	switch {
	case by.Kind == record.Person && by.Own == row.Subject && !by.Own.IsZero():
		user["who"] = logical("Patient", record.NHSNumberSystem, by.Own.Reveal(), "")
	case by.Kind == record.Person:
		user["who"] = jsonObject{"type": "RelatedPerson", "display": "a carer"}
	case by.User != "":
		user["who"] = logical("Practitioner", systemSDSUser, by.User, "")
	default:
		user["who"] = jsonObject{"type": "Practitioner", "display": "a member of staff"}
	}
	if by.Name != "" && by.Kind == record.Professional {
		user["name"] = by.Name
	}
	if by.RoleProfile != "" {
		user["altId"] = by.RoleProfile
	}
	if by.JobRole != "" {
		user["role"] = []any{auditConcept("https://fhir.nhs.uk/CodeSystem/NHSDigital-SDS-JobRoleCode", by.JobRole, "")}
	}
	if p := purposeOf(row); p != "" {
		user["purposeOfUse"] = []any{auditConcept(systemActReason, p, "")}
	}
	agents = append(agents, user)
	if by.Organisation != "" {
		agents = append(agents, jsonObject{"type": auditConcept(systemRoleClass, "PROV", "healthcare provider"),
			"who": logical("Organization", record.ODSSystem, string(by.Organisation), ""), "requestor": false})
	}
	return agents
}

func purposeOf(row audit.Row) string {
	if row.Access == nil {
		return ""
	}
	return string(row.Access.Purpose)
}

func refusalText(row audit.Row) string {
	if row.Outcome != audit.TypeRefused || row.Access == nil {
		return ""
	}
	if row.Access.Reason != "" {
		return string(row.Access.Reason)
	}
	return row.Reason
}

func shownDetail(c audit.Shown) string {
	text := string(c.State)
	if c.Count > 0 {
		text += fmt.Sprintf("; entries %d; sections %s", c.Count, strings.Join(c.Sections.Codes(), " "))
	}
	return text
}

func nonEmptyStrings(list ...string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
