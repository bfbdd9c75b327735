package stu3

import (
	"strings"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// terminology is where R4 keeps the code systems that HL7 moved.
const terminology = "http://terminology.hl7.org/CodeSystem/"

// systems are the code systems with another name in R4 and the same codes. Left out on purpose: those whose codes changed as well, which keep the
// name that their codes are of.
var systems = func() map[string]string {
	m := map[string]string{
		"http://hl7.org/fhir/medication-dispense-category": terminology + "medicationdispense-category",
		// Addresses of pages, which NHS England's own examples give for the systems.
		"http://hl7.org/fhir/codesystem-list-order.html":                        terminology + "list-order",
		"http://hl7.org/fhir/stu3/valueset-immunization-role.html":              terminology + "v2-0443",
		"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-ListEmptyReasonCode-1": "https://fhir.hl7.org.uk/CodeSystem/UKCore-ListEmptyReasonCode",
		"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1":      "https://fhir.hl7.org.uk/CodeSystem/UKCore-SDSJobRoleName",
		"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1":  "https://fhir.hl7.org.uk/CodeSystem/UKCore-SDSJobRoleName",
	}
	for _, name := range strings.Fields("condition-category observation-category list-order list-empty-reason data-absent-reason condition-clinical " +
		"condition-ver-status diagnosis-role service-category encounter-type organization-type contactentity-type location-physical-type " +
		"service-type practitioner-role appointment-cancellation-reason condition-state referencerange-meaning endpoint-payload-type endpoint-connection-type") {
		m["http://hl7.org/fhir/"+name] = terminology + name
	}
	return m
}()

// systemsByCode are code systems of which some codes have another name in R4: system and code.
var systemsByCode = map[[2]string]string{
	{"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-ConditionCategory-1", "problem-list-item"}:   terminology + "condition-category",
	{"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-ConditionCategory-1", "encounter-diagnosis"}: terminology + "condition-category",
	{"https://fhir.nhs.uk/STU3/CodeSystem/GPConnect-ParticipantType-1", "PPRF"}:                        terminology + "v3-ParticipationType",
	{"https://fhir.nhs.uk/STU3/CodeSystem/GPConnect-ParticipantType-1", "PART"}:                        terminology + "v3-ParticipationType",
}

// verificationStatus are the systems of NHS number verification, in the spellings that are in use. Codes of two digits are the list of today.
var verificationStatus = map[string]bool{
	"https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1":     true,
	"https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-NHSNumberVerificationStatus-1": true,
	"https://fhir.nhs.uk/CareConnect-NHSNumberVerificationStatus-1":                     true,
}

// renamed returns the name that a code system has in R4, "" if it keeps its own.
func renamedSystem(system, code string) string {
	if system != "" && (system[len(system)-1] == ' ' || system[0] == ' ') { // no address holds a space; one of NHS England's examples does
		system = strings.TrimSpace(system)
		if to := renamedSystem(system, code); to != "" {
			return to
		}
		return system
	}
	if rest, is := strings.CutPrefix(system, "http://hl7.org/fhir/v3/"); is && plainName(rest) {
		return terminology + "v3-" + rest
	}
	if rest, is := strings.CutPrefix(system, "http://hl7.org/fhir/v2/"); is && plainName(rest) {
		return terminology + "v2-" + rest
	}
	if to := systems[system]; to != "" {
		return to
	}
	if verificationStatus[system] {
		if len(code) == 2 && code >= "01" && code <= "08" {
			return "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
		}
		return "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus"
	}
	return systemsByCode[[2]string{system, code}]
}

func plainName(s string) bool {
	for i := range len(s) {
		b := s[i]
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-') {
			return false
		}
	}
	return s != ""
}

// system writes Coding.system.
func (c *conv) system(f *frame, r *rule, m fhirjson.Value) {
	if m.Kind() == fhirjson.String {
		s := m.View()
		if !strings.HasPrefix(s, "http://snomed.info/") { // most are
			if to := renamedSystem(s, f.v.Get("code").View()); to != "" {
				c.key(f, "system")
				c.out = fhirjson.AppendQuote(c.out, to)
				return
			}
		}
	}
	c.element(f, r, m)
}
