package simulator

import "strings"

// includePaths are the search parameters that can be named in _include, with the element that each follows (FHIR R4, the
// search parameters of the type). A parameter that is not here follows the element of its own name.
func includePaths(param string) []string {
	switch param {
	case "patient", "subject":
		return []string{"patient", "subject"}
	case "participant", "practitioner", "individual":
		return []string{"participant.individual", "participant.actor", "participant.member", "practitioner", "careManager"}
	case "actor":
		return []string{"participant.actor", "actor"}
	case "service-provider":
		return []string{"serviceProvider"}
	case "location":
		return []string{"location.location", "location"}
	case "medication":
		return []string{"medicationReference"}
	case "performer":
		return []string{"performer", "performer.actor"}
	case "organization":
		return []string{"organization", "managingOrganization"}
	case "general-practitioner":
		return []string{"generalPractitioner"}
	case "care-team":
		return []string{"careTeam", "team"}
	case "agent":
		return []string{"agent.who", "agent.onBehalfOf"}
	case "partof":
		return []string{"partOf"}
	}
	return []string{param}
}

// included returns which references the _include values follow: "*", "Type:*", "Type:param" or "Type:param:TargetType".
func included(values []string) func(*resource, string) bool {
	return func(r *resource, path string) bool {
		for _, v := range values {
			if v == "*" {
				return true
			}
			parts := strings.Split(v, ":")
			if len(parts) < 2 || parts[0] != r.typ && parts[0] != "*" {
				continue
			}
			if parts[1] == "*" {
				return true
			}
			for _, want := range includePaths(parts[1]) {
				if path == want {
					return true
				}
			}
		}
		return false
	}
}
