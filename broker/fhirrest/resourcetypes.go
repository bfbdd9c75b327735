package fhirrest

import "github.com/samply/golang-fhir-models/fhir-models/fhir"

// resourceTypes are the types of FHIR R4 (4.0.1).
var resourceTypes = func() map[string]bool {
	types := map[string]bool{}
	for t := fhir.ResourceTypeAccount; t <= fhir.ResourceTypeVisionPrescription; t++ {
		types[t.Code()] = true
	}
	return types
}()
