package merge

import (
	"strings"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// dating is where the clinical time of a type stands: the first path that says a time counts, and where that cannot be read there is none. A star means all values of the path taken
// together. until ends what a start alone began.
type dating struct {
	paths []string
	until []string
}

// datingPaths is a dating that is ready to be followed.
type datingPaths struct{ paths, until []timePath }

// timePath is where a time stands.
type timePath struct {
	element string // the path as the table has it, without a star
	all     bool   // all values together
	path    fhirjson.Path
}

func (d dating) ready() datingPaths { return datingPaths{timePaths(d.paths), timePaths(d.until)} }

func timePaths(paths []string) []timePath {
	out := make([]timePath, len(paths))
	for i, path := range paths {
		element, all := strings.CutPrefix(path, "*")
		out[i] = timePath{element, all, fhirjson.PathOf(element)}
	}
	return out
}

func dated(paths ...string) dating { return dating{paths: paths} }

// dates says for every type about a person where its clinical time stands, the first to be used first (standards.md 2; element names
// from FHIR R4 4.0.1). meta.lastUpdated is never taken for a clinical time: it says when a server stored something, so what has
// nothing else is undated, is kept, and says so. Ages, ranges and texts are no times either.
var dates = map[string]dating{
	"AdverseEvent":               dated("date", "detected", "recordedDate"),
	"AllergyIntolerance":         dated("onsetDateTime", "onsetPeriod", "recordedDate", "lastOccurrence"),
	"Appointment":                {[]string{"start", "requestedPeriod", "created"}, []string{"end"}},
	"AppointmentResponse":        {[]string{"start"}, []string{"end"}},
	"AuditEvent":                 dated("period", "recorded"),
	"Basic":                      dated("created"),
	"BiologicallyDerivedProduct": dated("collection.collectedDateTime", "collection.collectedPeriod"),
	"BodyStructure":              {},
	"CarePlan":                   dated("period", "created"),
	"CareTeam":                   dated("period"),
	"ClinicalImpression":         dated("effectiveDateTime", "effectivePeriod", "date"),
	"Communication":              dated("sent", "received"),
	"CommunicationRequest":       dated("occurrenceDateTime", "occurrencePeriod", "authoredOn"),
	"Composition":                dated("date", "event.period"),
	"Condition":                  {[]string{"onsetDateTime", "onsetPeriod", "recordedDate"}, []string{"abatementDateTime", "abatementPeriod"}},
	"Consent":                    dated("dateTime", "provision.period"),
	"DetectedIssue":              dated("identifiedDateTime", "identifiedPeriod"),
	"Device":                     {}, // manufactureDate is not clinical
	"DeviceRequest":              dated("occurrenceDateTime", "occurrencePeriod", "occurrenceTiming", "authoredOn"),
	"DeviceUseStatement":         dated("timingDateTime", "timingPeriod", "timingTiming", "recordedOn"),
	"DiagnosticReport":           dated("effectiveDateTime", "effectivePeriod", "issued"),
	"DocumentManifest":           dated("created"),
	"DocumentReference":          dated("context.period", "content.attachment.creation", "date"),
	"Encounter":                  dated("period", "*statusHistory.period", "*location.period"),
	"EpisodeOfCare":              dated("period", "*statusHistory.period"),
	"FamilyMemberHistory":        dated("date"),
	"Flag":                       dated("period"),
	"Goal":                       dated("startDate", "statusDate", "target.dueDate"),
	"Group":                      {},
	"GuidanceResponse":           dated("occurrenceDateTime"),
	"ImagingStudy":               dated("started", "series.started"),
	"Immunization":               dated("occurrenceDateTime", "recorded"),
	"ImmunizationEvaluation":     dated("date"),
	"ImmunizationRecommendation": dated("date", "recommendation.dateCriterion.value"),
	"List":                       dated("date"),
	"MeasureReport":              dated("date", "period"),
	"Media":                      dated("createdDateTime", "createdPeriod", "issued"),
	"MedicationAdministration":   dated("effectiveDateTime", "effectivePeriod"),
	"MedicationDispense":         dated("whenHandedOver", "whenPrepared"),
	"MedicationRequest":          dated("authoredOn", "dispenseRequest.validityPeriod", "dosageInstruction.timing"),
	"MedicationStatement":        dated("effectiveDateTime", "effectivePeriod", "dateAsserted"),
	"MolecularSequence":          {},
	"NutritionOrder":             dated("dateTime"),
	// then the time of its specimen
	"Observation":           dated("effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming", "issued"),
	"Patient":               {}, // birth and death are facts, not events of the record
	"Person":                {},
	"Procedure":             dated("performedDateTime", "performedPeriod"),
	"QuestionnaireResponse": dated("authored"),
	"RelatedPerson":         dated("period"),
	"RequestGroup":          dated("authoredOn"),
	"ResearchSubject":       dated("period"),
	"RiskAssessment":        dated("occurrenceDateTime", "occurrencePeriod"),
	"ServiceRequest":        dated("occurrenceDateTime", "occurrencePeriod", "occurrenceTiming", "authoredOn"),
	"Specimen":              dated("collection.collectedDateTime", "collection.collectedPeriod", "receivedTime"),
	"SupplyDelivery":        dated("occurrenceDateTime", "occurrencePeriod", "occurrenceTiming"),
	"SupplyRequest":         dated("occurrenceDateTime", "occurrencePeriod", "occurrenceTiming", "authoredOn"),
	"Task":                  dated("executionPeriod", "authoredOn", "lastModified"),
	"VisionPrescription":    dated("dateWritten", "created"),
}

// clinicalTime returns when a resource happened, undated if its table has nothing that can be read.
func clinicalTime(typ string, v fhirjson.Value) record.ClinicalTime {
	l := v.Layout()
	t, _ := kindOf(typ).dating.of(&l)
	return t
}

// of is when a resource happened; said is whether it means to say so, in a way that can be read or not.
func (table *datingPaths) of(l *fhirjson.Layout) (t record.ClinicalTime, said bool) {
	for n := range table.paths {
		t, said := table.paths[n].of(l)
		if !said {
			continue
		}
		if !t.Dated() {
			return t, true // it cannot be read; when something was written down is not when it happened
		}
		if n == 0 || t.Element == "onsetPeriod" {
			for n := range table.until {
				if end, _ := table.until[n].of(l); end.Dated() && !end.OpenHi && end.Hi.After(t.Lo) && (t.OpenHi || end.Hi.After(t.Hi)) {
					t.Hi, t.OpenHi, t.Start, t.Precision = end.Hi, false, t.StartPrecision(), record.Span
				}
			}
		}
		return t, true
	}
	return record.ClinicalTime{}, false
}

// specimenTime gives an Observation without a time of its own that of its specimen.
func (p *preparing) specimenTime(it *item) record.ClinicalTime {
	address := it.get(specimenMember).First().Get("reference").View()
	if address == "" {
		return record.ClinicalTime{}
	}
	var t record.ClinicalTime
	if id, within := strings.CutPrefix(address, "#"); within {
		if c, is := p.contained(it, id); is && c.v.Get("resourceType").Is("Specimen") {
			t = clinicalTime("Specimen", c.v)
		}
	} else if i := p.resolve(address, it); i >= 0 && p.items[i].typ == "Specimen" && !p.items[i].absent() {
		t = p.items[i].time
	}
	if t.Dated() {
		t.Element = "specimen." + t.Element
	}
	return t
}

// madeByAsking reports whether a List is a snapshot that was made when we asked: GP systems make the Lists of a structured record for each answer, with the time of the
// answer as their date. As with meta.lastUpdated, that is when a server did something, and nobody's clinical time. Lists that a clinician made, the consultations' own
// among them, have other dates.
func (p *preparing) madeByAsking(it *item) bool {
	asked := p.reply.Asked
	return !asked.IsZero() && it.v.Get("mode").Is("snapshot") && it.time.Precision >= record.Second && !it.time.Lo.Before(asked.Add(-clocksDiffer)) && !it.time.Lo.After(asked.Add(p.reply.Took+clocksDiffer))
}

// clocksDiffer is how far a custodian's clock may be from ours.
const clocksDiffer = 2 * time.Minute

// of reads the first value of the path that says a time, or all of them together. said is whether any does, that can be read or not.
func (p *timePath) of(l *fhirjson.Layout) (sum record.ClinicalTime, said bool) {
	for x := range l.Along(p.path) {
		if !saysTime(x) {
			continue
		}
		said = true
		t := timeOf(x)
		if t.Dated() {
			t.Element = p.element
		}
		if !p.all {
			return t, true
		}
		sum = span(sum, t)
	}
	return sum, said
}

// saysTime reports whether a value means to say a time.
func saysTime(x fhirjson.Value) bool {
	switch x.Kind() {
	case fhirjson.Null, fhirjson.Absent:
		return false
	case fhirjson.Object:
		bounds := x.Get("repeat").Get("boundsPeriod")
		return saysTime(x.Get("start")) || saysTime(x.Get("end")) || saysTime(x.Get("event")) || saysTime(bounds.Get("start")) || saysTime(bounds.Get("end"))
	case fhirjson.Array:
		for e := range x.Elems() {
			if saysTime(e) {
				return true
			}
		}
		return false
	}
	return true
}

// timeOf reads a date, dateTime, instant, Period or Timing.
func timeOf(v fhirjson.Value) record.ClinicalTime {
	switch v.Kind() {
	case fhirjson.String:
		t, err := record.ParseClinicalTime(v.View())
		if err != nil {
			return record.ClinicalTime{} // a time that cannot be read is none
		}
		return t
	case fhirjson.Object:
		if event, repeat := v.Get("event"), v.Get("repeat"); event.Exists() || repeat.Exists() {
			var sum record.ClinicalTime
			for e := range event.Elems() {
				sum = span(sum, timeOf(e))
			}
			if sum.Dated() {
				return sum
			}
			return timeOf(repeat.Get("boundsPeriod"))
		}
		return period(timeOf(v.Get("start")), timeOf(v.Get("end")))
	}
	return record.ClinicalTime{}
}

// period is [start, end): a missing start or end is open. An end before its start is an error of the custodian's; the start stands.
func period(start, end record.ClinicalTime) record.ClinicalTime {
	switch {
	case start.Dated() && end.Dated():
		if end.Hi.Before(start.Hi) {
			end.Hi = start.Hi
		}
		return record.ClinicalTime{Lo: start.Lo, Hi: end.Hi, Precision: record.Span, Start: start.StartPrecision()}
	case start.Dated():
		return record.ClinicalTime{Lo: start.Lo, OpenHi: true, Precision: record.Span, Start: start.StartPrecision()}
	case end.Dated():
		return record.ClinicalTime{Hi: end.Hi, OpenLo: true, Precision: record.Span}
	}
	return record.ClinicalTime{}
}

// span is the smallest interval that holds both.
func span(a, b record.ClinicalTime) record.ClinicalTime {
	if !a.Dated() {
		return b
	}
	if !b.Dated() {
		return a
	}
	out := record.ClinicalTime{OpenLo: a.OpenLo || b.OpenLo, OpenHi: a.OpenHi || b.OpenHi, Precision: record.Span, Element: a.Element}
	if !out.OpenLo {
		out.Lo, out.Start = a.Lo, a.StartPrecision()
		if b.Lo.Before(a.Lo) {
			out.Lo, out.Start = b.Lo, b.StartPrecision()
		}
	}
	if !out.OpenHi {
		out.Hi = later(a.Hi, b.Hi)
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
