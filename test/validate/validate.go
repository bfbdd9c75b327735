// Package validate holds answers of the built demo against a FHIR R4 validator that shares nothing with the product:
// github.com/google/fhir/go, which knows types, cardinalities, required elements, code and primitive formats, and which types a reference
// may lead to. It is a module of its own, so that the product does not depend on it.
package validate
