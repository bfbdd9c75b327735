package main

import (
	"strings"
	"time"
	_ "time/tzdata" // London's clock must be known on every machine
)

var london = func() *time.Location {
	l, err := time.LoadLocation("Europe/London")
	if err != nil {
		panic("the embedded zone database lacks Europe/London")
	}
	return l
}()

// moment is a FHIR date or time as it was written: how exactly, and its first instant.
type moment struct {
	at     time.Time // in London
	layout string    // how to show it: no more than was written
	zoned  bool      // which instant was meant is known, also in the hour that is there twice when summer time ends
}

// readMoment reads a FHIR date, dateTime or instant, false for anything else.
func readMoment(s string) (moment, bool) {
	for _, x := range []struct{ read, show string }{
		{"2006", "2006"}, {"2006-01", "January 2006"}, {"2006-01-02", "2 January 2006"},
		{"2006-01-02T15:04Z07:00", "2 January 2006, 15:04"}, {"2006-01-02T15:04:05Z07:00", "2 January 2006, 15:04"},
		{"2006-01-02T15:04", "2 January 2006, 15:04"}, {"2006-01-02T15:04:05", "2 January 2006, 15:04"},
	} {
		if t, err := time.ParseInLocation(x.read, s, london); err == nil {
			return moment{t.In(london), x.show, strings.HasSuffix(x.read, "Z07:00")}, true
		}
	}
	return moment{}, false
}

// String shows the moment at its own precision.
func (m moment) String() string { return m.show(m.layout) }

// show shows what layout says of the moment.
func (m moment) show(layout string) string {
	if m.zoned {
		return clock(m.at, layout)
	}
	return m.at.Format(layout)
}

// clock shows what clocks in London showed. In the hour that is there twice when summer time ends it says which of the two: other hours need no
// name of a zone.
func clock(t time.Time, layout string) string {
	t = t.In(london)
	_, offset := t.Zone()
	for _, d := range []time.Duration{-time.Hour, time.Hour} {
		if _, other := t.Add(d).Zone(); time.Duration(offset-other)*time.Second == d {
			return t.Format(layout + " MST")
		}
	}
	return t.Format(layout)
}

// exact reports whether the time of day was written.
func (m moment) exact() bool { return strings.Contains(m.layout, "15:04") }

// showDate shows a FHIR date or time at its own precision: 2019, March 2020, 14 March 2020, 14 March 2020, 09:30. What is none is shown as it is.
func showDate(s string) string {
	if m, ok := readMoment(s); ok {
		return m.String()
	}
	return safe(s)
}

// showSpan shows a start and an end, either of which may be empty, in one or two pieces that are read one after the other.
func showSpan(start, end string) []string {
	a, okA := readMoment(start)
	b, okB := readMoment(end)
	switch {
	case end == "":
		return []string{"from " + showDate(start)}
	case start == "":
		return []string{"until " + showDate(end)}
	case okA && okB && a.String() == b.String():
		return []string{a.String()}
	case okA && okB && a.exact() && b.exact() && a.at.Format(time.DateOnly) == b.at.Format(time.DateOnly):
		return []string{a.String(), "to " + b.show("15:04")}
	}
	return []string{showDate(start), "to " + showDate(end)}
}

// dateElements says for each type where its date stands, the first that is there counts: the order of the answer is made from the same
// elements, and a test holds the two together. A star means that values of a list are taken together; the first is shown.
var dateElements = map[string][]string{
	"AdverseEvent":               {"date", "detected", "recordedDate"},
	"AllergyIntolerance":         {"onsetDateTime", "onsetPeriod", "recordedDate", "lastOccurrence"},
	"Appointment":                {"start", "requestedPeriod", "created"},
	"AppointmentResponse":        {"start"},
	"AuditEvent":                 {"period", "recorded"},
	"Basic":                      {"created"},
	"BiologicallyDerivedProduct": {"collection.collectedDateTime", "collection.collectedPeriod"},
	"CarePlan":                   {"period", "created"},
	"CareTeam":                   {"period"},
	"ClinicalImpression":         {"effectiveDateTime", "effectivePeriod", "date"},
	"Communication":              {"sent", "received"},
	"CommunicationRequest":       {"occurrenceDateTime", "occurrencePeriod", "authoredOn"},
	"Composition":                {"date", "event.period"},
	"Condition":                  {"onsetDateTime", "onsetPeriod", "recordedDate"},
	"Consent":                    {"dateTime", "provision.period"},
	"DetectedIssue":              {"identifiedDateTime", "identifiedPeriod"},
	"DeviceRequest":              {"occurrenceDateTime", "occurrencePeriod", "occurrenceTiming", "authoredOn"},
	"DeviceUseStatement":         {"timingDateTime", "timingPeriod", "timingTiming", "recordedOn"},
	"DiagnosticReport":           {"effectiveDateTime", "effectivePeriod", "issued"},
	"DocumentManifest":           {"created"},
	"DocumentReference":          {"context.period", "content.attachment.creation", "date"},
	"Encounter":                  {"period", "statusHistory.period", "location.period"},
	"EpisodeOfCare":              {"period", "statusHistory.period"},
	"FamilyMemberHistory":        {"date"},
	"Flag":                       {"period"},
	"Goal":                       {"startDate", "statusDate", "target.dueDate"},
	"GuidanceResponse":           {"occurrenceDateTime"},
	"ImagingStudy":               {"started", "series.started"},
	"Immunization":               {"occurrenceDateTime", "recorded"},
	"ImmunizationEvaluation":     {"date"},
	"ImmunizationRecommendation": {"date", "recommendation.dateCriterion.value"},
	"List":                       {"date"},
	"MeasureReport":              {"date", "period"},
	"Media":                      {"createdDateTime", "createdPeriod", "issued"},
	"MedicationAdministration":   {"effectiveDateTime", "effectivePeriod"},
	"MedicationDispense":         {"whenHandedOver", "whenPrepared"},
	"MedicationRequest":          {"authoredOn", "dispenseRequest.validityPeriod", "dosageInstruction.timing"},
	"MedicationStatement":        {"effectiveDateTime", "effectivePeriod", "dateAsserted"},
	"NutritionOrder":             {"dateTime"},
	"Observation":                {"effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming", "issued"},
	"Procedure":                  {"performedDateTime", "performedPeriod"},
	"QuestionnaireResponse":      {"authored"},
	"RelatedPerson":              {"period"},
	"RequestGroup":               {"authoredOn"},
	"ResearchSubject":            {"period"},
	"RiskAssessment":             {"occurrenceDateTime", "occurrencePeriod"},
	"ServiceRequest":             {"occurrenceDateTime", "occurrencePeriod", "occurrenceTiming", "authoredOn"},
	"Specimen":                   {"collection.collectedDateTime", "collection.collectedPeriod", "receivedTime"},
	"SupplyDelivery":             {"occurrenceDateTime", "occurrencePeriod", "occurrenceTiming"},
	"SupplyRequest":              {"occurrenceDateTime", "occurrencePeriod", "occurrenceTiming", "authoredOn"},
	"Task":                       {"executionPeriod", "authoredOn", "lastModified"},
	"VisionPrescription":         {"dateWritten", "created"},
}

// when shows an entry's date as the record wrote it, in one or two pieces, none for no date, and returns its first instant for headings. element says where it stands, "" if the
// answer did not say.
func when(r object, element string) (text []string, at time.Time) {
	elements := dateElements[r.text("resourceType")]
	if element != "" {
		elements = []string{strings.TrimPrefix(element, "*")}
	}
	for _, e := range elements {
		for _, v := range r.all(e) {
			if text, at := whenOf(v); len(text) > 0 {
				if end := r.text("end"); e == "start" && end != "" { // an appointment
					text = showSpan(r.text("start"), end)
				}
				return text, at
			}
		}
	}
	return nil, time.Time{}
}

// whenOf reads a date, a Period or a Timing.
func whenOf(v any) ([]string, time.Time) {
	switch v := v.(type) {
	case string:
		if m, ok := readMoment(v); ok {
			return []string{m.String()}, m.at
		}
	case map[string]any:
		o := object(v)
		start, end := o.text("start"), o.text("end")
		if start == "" && end == "" { // not a Period
			for _, path := range []string{"event", "repeat.boundsPeriod"} {
				for _, x := range o.all(path) {
					if text, at := whenOf(x); len(text) > 0 {
						return text, at
					}
				}
			}
			return nil, time.Time{}
		}
		m, ok := readMoment(start)
		if !ok {
			m, ok = readMoment(end)
		}
		if ok {
			return showSpan(start, end), m.at
		}
	}
	return nil, time.Time{}
}
