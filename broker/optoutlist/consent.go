package optoutlist

import (
	"bytes"
	"encoding/json"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Profiles of IHE Privacy Consent on FHIR that our Consents keep to (profiles.ihe.net/ITI/PCF, consentBasic and consentIntermediate). An objection to
// a section uses our own security labels, which PCF's Advanced profile does not know: it claims none.
const (
	ProfileBasic        = "https://profiles.ihe.net/ITI/PCF/StructureDefinition/IHE.PCF.consentBasic"
	ProfileIntermediate = "https://profiles.ihe.net/ITI/PCF/StructureDefinition/IHE.PCF.consentIntermediate"
)

// Paths that follow the base of our own code systems.
const (
	methodPath    = "/StructureDefinition/objection-method" // extension: how the wish was made known
	policyPath    = "/policy/sharing-for-direct-care"       // what is objected to
	sourcePath    = "/objection-source"                     // identifiers of forms and letters
	idPath        = "/objection"                            // the ledger's id of an objection
	custodianPath = "/custodian"                            // our keys, for custodians that are configured no longer
)

const (
	actReason     = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
	scopeSystem   = "http://terminology.hl7.org/CodeSystem/consentscope"
	scopePrivacy  = "patient-privacy"
	loinc         = "http://loinc.org"
	loincConsent  = "59284-0"
	containedID   = "person"
	typeReference = "DocumentReference"
)

// statuses are ours and FHIR's (Consent.status).
var statuses = map[consent.Status]string{consent.Requested: "proposed", consent.InForce: "active", consent.Declined: "rejected", consent.Withdrawn: "inactive"}

// Subject is whose Consent is written: with a handle it refers to the Patient that we author, else it contains one.
type Subject struct {
	Handle    string
	ID        string // of the Consent; "" for the objection's own
	Number    record.NHSNumber
	BirthDate string
}

// The parts of a Consent that we write. The typed models that we use elsewhere have no contained resources.
type (
	fhirConsent struct {
		ResourceType     string           `json:"resourceType"`
		ID               string           `json:"id,omitempty"`
		Meta             *fhirMeta        `json:"meta,omitempty"`
		Contained        []fhirPatient    `json:"contained,omitempty"`
		Extension        []fhirExtension  `json:"extension,omitempty"`
		Identifier       []fhirIdentifier `json:"identifier,omitempty"`
		Status           string           `json:"status"`
		Scope            fhirConcept      `json:"scope"`
		Category         []fhirConcept    `json:"category"`
		Patient          fhirReference    `json:"patient"`
		DateTime         string           `json:"dateTime,omitempty"`
		Performer        []fhirReference  `json:"performer"`
		Organization     []fhirReference  `json:"organization"`
		SourceAttachment *fhirAttachment  `json:"sourceAttachment,omitempty"`
		SourceReference  *fhirReference   `json:"sourceReference,omitempty"`
		Policy           []fhirPolicy     `json:"policy"`
		Provision        fhirProvision    `json:"provision"`
	}
	fhirMeta struct {
		LastUpdated string   `json:"lastUpdated,omitempty"`
		Profile     []string `json:"profile,omitempty"`
	}
	fhirPatient struct {
		ResourceType string           `json:"resourceType"`
		ID           string           `json:"id"`
		Identifier   []fhirIdentifier `json:"identifier"`
		BirthDate    string           `json:"birthDate,omitempty"`
	}
	fhirIdentifier struct {
		System string `json:"system"`
		Value  string `json:"value"`
	}
	fhirExtension struct {
		URL       string `json:"url"`
		ValueCode string `json:"valueCode"`
	}
	fhirCoding struct {
		System  string `json:"system"`
		Code    string `json:"code"`
		Display string `json:"display,omitempty"`
	}
	fhirConcept struct {
		Coding []fhirCoding `json:"coding"`
	}
	fhirReference struct {
		Reference  string          `json:"reference,omitempty"`
		Type       string          `json:"type,omitempty"`
		Identifier *fhirIdentifier `json:"identifier,omitempty"`
		Display    string          `json:"display,omitempty"`
	}
	fhirAttachment struct {
		Title string `json:"title"`
	}
	fhirPolicy struct {
		URI string `json:"uri"`
	}
	fhirPeriod struct {
		Start string `json:"start,omitempty"`
		End   string `json:"end,omitempty"`
	}
	fhirData struct {
		Meaning   string        `json:"meaning"`
		Reference fhirReference `json:"reference"`
	}
	fhirProvision struct {
		Type          string       `json:"type"`
		Period        *fhirPeriod  `json:"period,omitempty"`
		SecurityLabel []fhirCoding `json:"securityLabel,omitempty"`
		Purpose       []fhirCoding `json:"purpose"`
		Data          []fhirData   `json:"data,omitempty"`
	}
)

// Consent authors the Consent of an objection. Each is a rule that denies and nothing else: none of them permits anything, so that several of one
// person cannot undo each other, whichever is read last.
func Consent(o consent.Objection, s Subject, names Names) []byte {
	c := fhirConsent{ResourceType: "Consent", ID: o.ID, Status: statuses[o.Status],
		Scope:     fhirConcept{[]fhirCoding{{System: scopeSystem, Code: scopePrivacy}}},
		Category:  []fhirConcept{{[]fhirCoding{{System: loinc, Code: loincConsent}}}},
		DateTime:  instant(o.Recorded),
		Policy:    []fhirPolicy{{names.CodeBase + policyPath}},
		Provision: fhirProvision{Type: "deny", Purpose: []fhirCoding{{System: actReason, Code: string(record.Treatment)}}},
	}
	profile := ""
	switch o.Scope {
	case consent.ToAll:
		profile = ProfileBasic
	case consent.ToCustodian:
		profile = ProfileIntermediate
		at := fhirReference{Type: "Organization", Identifier: &fhirIdentifier{names.CodeBase + custodianPath, string(o.Custodian)}}
		if names.ODS != nil {
			if code, name, ok := names.ODS(o.Custodian); ok {
				at.Identifier, at.Display = &fhirIdentifier{record.ODSSystem, string(code)}, name
			}
		}
		c.Provision.Data = []fhirData{{"authoredby", at}}
	case consent.ToSection:
		c.Provision.SecurityLabel = []fhirCoding{{names.CodeBase + record.SectionSystemPath, o.Section.Code(), o.Section.Name()}}
	}
	if profile != "" || !o.Recorded.IsZero() {
		c.Meta = &fhirMeta{LastUpdated: instant(o.Recorded)}
		if profile != "" {
			c.Meta.Profile = []string{profile}
		}
	}
	if o.Absolute {
		c.Provision.Purpose = append(c.Provision.Purpose, fhirCoding{System: actReason, Code: string(record.PatientAccess)})
	}
	if !o.From.IsZero() || !o.Until.IsZero() {
		c.Provision.Period = &fhirPeriod{instant(o.From), lastInstant(o.Until)}
	}
	c.Patient = fhirReference{Reference: "Patient/" + s.Handle}
	if s.Handle == "" {
		c.Patient.Reference = "#" + containedID
		c.Contained = []fhirPatient{{"Patient", containedID, []fhirIdentifier{{record.NHSNumberSystem, s.Number.Reveal()}}, s.BirthDate}}
	}
	c.Performer = []fhirReference{c.Patient}
	if o.Responsible != "" && o.Responsible != "self" {
		c.Performer = []fhirReference{{Type: "RelatedPerson", Display: o.Responsible}}
	}
	c.Organization = []fhirReference{{Type: "Organization", Display: "My Care Record"}}
	if o.AuthorODS != "" {
		c.Organization = []fhirReference{{Type: "Organization", Identifier: &fhirIdentifier{record.ODSSystem, string(o.AuthorODS)}}}
	}
	if o.ID != "" {
		c.Identifier = []fhirIdentifier{{names.CodeBase + idPath, o.ID}}
	}
	if s.ID != "" {
		c.ID = s.ID
	}
	if o.Method != "" {
		c.Extension = []fhirExtension{{names.CodeBase + methodPath, o.Method}}
	}
	if o.Source != "" {
		c.SourceReference = &fhirReference{Type: typeReference, Identifier: &fhirIdentifier{names.CodeBase + sourcePath, o.Source}}
	} else {
		c.SourceAttachment = &fhirAttachment{Title: "Recorded without a document"}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(c); err != nil {
		panic("optoutlist: a Consent of our own cannot be written")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}
