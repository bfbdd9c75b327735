package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"
)

// easy asks all custodians at once, decodes everything into typed structs, sorts by date and encodes again. It loses primitive extensions,
// contained resources and whatever the structs do not know; it is here for what it costs.
func (s *server) easy(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), custodianTime)
	defer cancel()
	lists := make([][]dated, len(s.bases))
	var all sync.WaitGroup
	for i, base := range s.bases {
		all.Go(func() {
			res, err := s.ask(ctx, base, r)
			if err != nil {
				return
			}
			defer func() { _ = res.Body.Close() }()
			if text, err := io.ReadAll(res.Body); err == nil {
				lists[i] = decode(text)
			}
		})
	}
	all.Wait()
	list := slices.Concat(lists...)
	if len(list) == 0 {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	slices.SortStableFunc(list, func(a, b dated) int { return cmp.Compare(b.date, a.date) })
	total := len(list)
	bundle := fhir.Bundle{Type: fhir.BundleTypeSearchset, Total: &total}
	for _, x := range list {
		text, err := json.Marshal(x.resource)
		if err != nil {
			continue
		}
		bundle.Entry = append(bundle.Entry, fhir.BundleEntry{FullUrl: x.fullURL, Resource: text})
	}
	text, err := json.Marshal(bundle)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	_, _ = w.Write(text) // the caller may have left
}

type dated struct {
	date     string
	fullURL  *string
	resource any
}

// decode reads one custodian's Bundle. What cannot be read is left out.
func decode(text []byte) (list []dated) {
	bundle, err := fhir.UnmarshalBundle(text)
	if err != nil {
		return nil
	}
	for _, e := range bundle.Entry {
		var head struct {
			ResourceType string `json:"resourceType"`
		}
		if json.Unmarshal(e.Resource, &head) != nil {
			continue
		}
		if x, ok := typed(head.ResourceType, e.Resource); ok {
			x.fullURL = e.FullUrl
			list = append(list, x)
		}
	}
	return list
}

func typed(kind string, text []byte) (dated, bool) {
	switch kind {
	case "Patient":
		x, err := fhir.UnmarshalPatient(text)
		return dated{resource: x}, err == nil
	case "Organization":
		x, err := fhir.UnmarshalOrganization(text)
		return dated{resource: x}, err == nil
	case "Practitioner":
		x, err := fhir.UnmarshalPractitioner(text)
		return dated{resource: x}, err == nil
	case "Encounter":
		x, err := fhir.UnmarshalEncounter(text)
		return dated{date: start(x.Period), resource: x}, err == nil
	case "Condition":
		x, err := fhir.UnmarshalCondition(text)
		return dated{date: first(x.OnsetDateTime, x.RecordedDate), resource: x}, err == nil
	case "Observation":
		x, err := fhir.UnmarshalObservation(text)
		return dated{date: first(x.EffectiveDateTime, x.Issued), resource: x}, err == nil
	case "MedicationRequest":
		x, err := fhir.UnmarshalMedicationRequest(text)
		return dated{date: first(x.AuthoredOn), resource: x}, err == nil
	case "Procedure":
		x, err := fhir.UnmarshalProcedure(text)
		return dated{date: cmp.Or(first(x.PerformedDateTime), start(x.PerformedPeriod)), resource: x}, err == nil
	case "Immunization":
		x, err := fhir.UnmarshalImmunization(text)
		return dated{date: x.OccurrenceDateTime, resource: x}, err == nil
	case "DiagnosticReport":
		x, err := fhir.UnmarshalDiagnosticReport(text)
		return dated{date: first(x.EffectiveDateTime, x.Issued), resource: x}, err == nil
	case "DocumentReference":
		x, err := fhir.UnmarshalDocumentReference(text)
		return dated{date: first(x.Date), resource: x}, err == nil
	case "AllergyIntolerance":
		x, err := fhir.UnmarshalAllergyIntolerance(text)
		return dated{date: first(x.RecordedDate), resource: x}, err == nil
	}
	return dated{}, false
}

func first(texts ...*string) string {
	for _, t := range texts {
		if t != nil {
			return *t
		}
	}
	return ""
}

func start(p *fhir.Period) string {
	if p == nil {
		return ""
	}
	return first(p.Start)
}
