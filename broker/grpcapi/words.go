package grpcapi

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/optoutlist"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// The words of the wire and ours, in pairs. A test holds that every value of both sides is in its table, once.
var (
	purposes = pairs[v1.Purpose, record.Purpose]{
		{v1.Purpose_PURPOSE_TREAT, record.Treatment}, {v1.Purpose_PURPOSE_ETREAT, record.UrgentCare},
		{v1.Purpose_PURPOSE_BTG, record.BreakGlass}, {v1.Purpose_PURPOSE_PATRQT, record.PatientAccess}}
	permissions = pairs[v1.PermissionKind, record.PermissionKind]{
		{v1.PermissionKind_PERMISSION_KIND_ASKED_YES, record.AskedYes}, {v1.PermissionKind_PERMISSION_KIND_ASKED_EARLIER, record.AskedEarlier},
		{v1.PermissionKind_PERMISSION_KIND_IMPLIED_BY_REFERRAL, record.ImpliedByReferral}, {v1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, record.CannotAsk},
		{v1.PermissionKind_PERMISSION_KIND_BEST_INTERESTS, record.BestInterests}, {v1.PermissionKind_PERMISSION_KIND_NOT_REQUIRED, record.PermissionNotNeeded},
		{v1.PermissionKind_PERMISSION_KIND_ASKED_NO, record.AskedNo}, {v1.PermissionKind_PERMISSION_KIND_PATIENT_SELF, record.PatientSelf},
		{v1.PermissionKind_PERMISSION_KIND_DELEGATED, record.Delegated}}
	relationships = pairs[v1.RelationshipKind, record.RelationshipKind]{
		{v1.RelationshipKind_RELATIONSHIP_KIND_REGISTERED, record.Registered}, {v1.RelationshipKind_RELATIONSHIP_KIND_REFERRAL, record.Referral},
		{v1.RelationshipKind_RELATIONSHIP_KIND_ADMISSION, record.Admission}, {v1.RelationshipKind_RELATIONSHIP_KIND_APPOINTMENT, record.Appointment},
		{v1.RelationshipKind_RELATIONSHIP_KIND_ATTENDANCE, record.Attendance}, {v1.RelationshipKind_RELATIONSHIP_KIND_CASELOAD, record.Caseload},
		{v1.RelationshipKind_RELATIONSHIP_KIND_SELF_CLAIMED, record.SelfClaimed}}
	states = pairs[v1.CustodianState, record.State]{
		{v1.CustodianState_CUSTODIAN_STATE_RETURNED, record.Returned}, {v1.CustodianState_CUSTODIAN_STATE_RETURNED_IN_PART, record.ReturnedInPart},
		{v1.CustodianState_CUSTODIAN_STATE_NO_RECORD, record.NoRecord}, {v1.CustodianState_CUSTODIAN_STATE_WITHHELD, record.Withheld},
		{v1.CustodianState_CUSTODIAN_STATE_TIMED_OUT, record.TimedOut}, {v1.CustodianState_CUSTODIAN_STATE_UNAVAILABLE, record.Unavailable},
		{v1.CustodianState_CUSTODIAN_STATE_FAILED, record.Failed}, {v1.CustodianState_CUSTODIAN_STATE_NOT_ASKED, record.NotAsked}}
	modes = pairs[v1.SearchMode, merge.Mode]{
		{v1.SearchMode_SEARCH_MODE_MATCH, merge.Match}, {v1.SearchMode_SEARCH_MODE_INCLUDE, merge.Include}, {v1.SearchMode_SEARCH_MODE_OUTCOME, merge.Outcome}}
	breakers = pairs[v1.BreakerState, string]{
		{v1.BreakerState_BREAKER_STATE_CLOSED, "closed"}, {v1.BreakerState_BREAKER_STATE_OPEN, "open"}, {v1.BreakerState_BREAKER_STATE_HALF_OPEN, "half-open"}}
	scopes = pairs[v1.ObjectionScope, consent.Scope]{
		{v1.ObjectionScope_OBJECTION_SCOPE_ALL, consent.ToAll}, {v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, consent.ToCustodian},
		{v1.ObjectionScope_OBJECTION_SCOPE_SECTION, consent.ToSection}}
	listFormats = pairs[v1.ListFormat, optoutlist.Format]{
		{v1.ListFormat_LIST_FORMAT_CSV, optoutlist.CSV}, {v1.ListFormat_LIST_FORMAT_NDJSON, optoutlist.NDJSON}, {v1.ListFormat_LIST_FORMAT_BUNDLE, optoutlist.Bundle}}
	listStages = pairs[v1.ImportStage, broker.ListStage]{
		{v1.ImportStage_IMPORT_STAGE_READING, broker.ListReading}, {v1.ImportStage_IMPORT_STAGE_CHECKING, broker.ListChecking},
		{v1.ImportStage_IMPORT_STAGE_RECORDING, broker.ListRecording}}
	verdicts = pairs[v1.RowVerdict, broker.Verdict]{
		{v1.RowVerdict_ROW_VERDICT_NEW, broker.RowNew}, {v1.RowVerdict_ROW_VERDICT_PRESENT, broker.RowPresent}, {v1.RowVerdict_ROW_VERDICT_REFUSED, broker.RowRefused}}
	listOutcomes = pairs[v1.ImportOutcome, broker.ListOutcome]{
		{v1.ImportOutcome_IMPORT_OUTCOME_APPLIED, broker.ListApplied}, {v1.ImportOutcome_IMPORT_OUTCOME_REFUSED, broker.ListRefused},
		{v1.ImportOutcome_IMPORT_OUTCOME_CHECKED, broker.ListChecked}}
	objectionStatuses = pairs[v1.ObjectionStatus, consent.Status]{
		{v1.ObjectionStatus_OBJECTION_STATUS_REQUESTED, consent.Requested}, {v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE, consent.InForce},
		{v1.ObjectionStatus_OBJECTION_STATUS_DECLINED, consent.Declined}, {v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN, consent.Withdrawn}}
	reviewOutcomes = pairs[v1.ReviewOutcome, audit.ReviewOutcome]{
		{v1.ReviewOutcome_REVIEW_OUTCOME_JUSTIFIED, audit.Justified}, {v1.ReviewOutcome_REVIEW_OUTCOME_NOT_JUSTIFIED, audit.NotJustified},
		{v1.ReviewOutcome_REVIEW_OUTCOME_REFERRED, audit.Referred}}
	questions = pairs[v1.Question, audit.QuestionKind]{
		{v1.Question_QUESTION_WHO_LOOKED, audit.WhoLooked}, {v1.Question_QUESTION_BY_USER, audit.ByUser}, {v1.Question_QUESTION_BY_STAFF, audit.ByStaff},
		{v1.Question_QUESTION_OF_RECORDS, audit.OfRecords}, {v1.Question_QUESTION_REFUSALS, audit.Refusals}, {v1.Question_QUESTION_BREAK_GLASS, audit.Overrides},
		{v1.Question_QUESTION_CONSENT_CHANGES, audit.ConsentChanges}, {v1.Question_QUESTION_LEDGER_READS, audit.LedgerReads}}
	outcomes = map[v1.AccessOutcome]audit.EntryType{v1.AccessOutcome_ACCESS_OUTCOME_SHOWN: audit.TypeReleased, v1.AccessOutcome_ACCESS_OUTCOME_NOTHING: audit.TypeNothing,
		v1.AccessOutcome_ACCESS_OUTCOME_REFUSED: audit.TypeRefused, v1.AccessOutcome_ACCESS_OUTCOME_CANCELLED: audit.TypeCancelled,
		v1.AccessOutcome_ACCESS_OUTCOME_ABANDONED: audit.TypeAbandoned}
	methods = pairs[v1.ObjectionMethod, string]{
		{v1.ObjectionMethod_OBJECTION_METHOD_FORM, "form"}, {v1.ObjectionMethod_OBJECTION_METHOD_PHONE, "phone"},
		{v1.ObjectionMethod_OBJECTION_METHOD_IN_PERSON, "in-person"}, {v1.ObjectionMethod_OBJECTION_METHOD_ONLINE, "online"}}
)

// pairs is a short table of words, wire first.
type pairs[W, O comparable] []struct {
	wire W
	ours O
}

// toWire returns the wire's word, the unspecified one for what is not in the table.
func (p pairs[W, O]) toWire(o O) (w W) {
	for _, x := range p {
		if x.ours == o {
			return x.wire
		}
	}
	return w
}

// toOurs returns our word, false for what is not in the table, the unspecified word included.
func (p pairs[W, O]) toOurs(w W) (o O, ok bool) {
	for _, x := range p {
		if x.wire == w {
			return x.ours, true
		}
	}
	return o, false
}

// section returns the wire's word: the same order, but for the unspecified one before the first.
func section(s record.Section) v1.Section { return v1.Section(s) + 1 }

func parseSection(s v1.Section) (record.Section, bool) {
	ours := record.Section(s - 1)
	return ours, s > 0 && s < math.MaxUint8 && record.AllSections.Has(ours)
}

func sections(s record.Sections) []v1.Section {
	if s == 0 {
		return nil
	}
	out := make([]v1.Section, 0, s.Len())
	for _, x := range s.List() {
		out = append(out, section(x))
	}
	return out
}

func custodian(c record.Custodian) *v1.Custodian {
	return &v1.Custodian{Key: string(c.Key), OdsCode: string(c.ODS), Name: c.Name, Kind: string(c.Kind), Contact: c.Contact, NeutralName: c.Neutral}
}

func custodianStatus(s record.Status) *v1.CustodianStatus {
	out := &v1.CustodianStatus{Custodian: custodian(s.Custodian), State: states.toWire(s.State), Reason: s.Reason, Rule: s.Rule,
		Parts: missingParts(s.Parts), Asked: instant(s.Asked), Adapter: s.Adapter, Shown: count(s.Shown),
		Explanation: s.Explanation, Preference: s.Preference, PreferenceRecorded: instant(s.Recorded)}
	if !s.Asked.IsZero() {
		out.Took = durationpb.New(s.Took)
	}
	return out
}

func custodianStatuses(list []record.Status) []*v1.CustodianStatus {
	out := make([]*v1.CustodianStatus, len(list))
	for i, s := range list {
		out[i] = custodianStatus(s)
	}
	return out
}

func missingParts(parts []record.Part) []*v1.MissingPart {
	var out []*v1.MissingPart
	for _, p := range parts {
		m := &v1.MissingPart{Source: p.Source, Reason: p.Reason, Count: count(p.Count)}
		if s, ok := record.ParseSection(p.Section); ok {
			m.Section = section(s)
		}
		out = append(out, m)
	}
	return out
}

// receipt returns nil for no receipt.
func receipt(r audit.Receipt) *v1.Receipt {
	if r.Position == 0 {
		return nil
	}
	return &v1.Receipt{Origin: r.Origin, Position: r.Position, Leaf: r.Leaf[:]}
}

func clinicalTime(c record.ClinicalTime) *v1.ClinicalTime {
	if !c.Dated() {
		return nil
	}
	out := &v1.ClinicalTime{Precision: v1.Precision(c.Precision), Element: c.Element}
	if !c.OpenLo {
		out.Lo = instant(c.Lo)
	}
	if !c.OpenHi {
		out.Hi = instant(c.Hi)
	}
	return out
}

// The instants that a protobuf Timestamp can say.
var (
	firstInstant = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastInstant  = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
)

// instant returns a timestamp, nil for the zero time.
func instant(t time.Time) *timestamppb.Timestamp {
	switch {
	case t.IsZero():
		return nil
	case t.Before(firstInstant):
		t = firstInstant
	case t.After(lastInstant):
		t = lastInstant
	}
	return timestamppb.New(t)
}

func count(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

func custodianHealth(h broker.CustodianHealth) *v1.CustodianHealth {
	return &v1.CustodianHealth{Custodian: custodian(h.Custodian), Adapter: h.Adapter, Breaker: breakers.toWire(h.Breaker),
		LastState: states.toWire(h.LastState), LastAnswer: instant(h.LastAnswer)}
}

func permission(p record.Permission) *v1.Permission {
	if p == (record.Permission{}) {
		return nil
	}
	return &v1.Permission{Kind: permissions.toWire(p.Kind), On: p.On, Ref: p.Ref, Reason: p.Reason}
}

func relationship(r record.Relationship) *v1.Relationship {
	if r == (record.Relationship{}) {
		return nil
	}
	return &v1.Relationship{Kind: relationships.toWire(r.Kind), Ref: r.Ref}
}

func objection(o consent.Objection) *v1.Objection {
	out := &v1.Objection{Id: o.ID, Scope: scopes.toWire(o.Scope), Custodian: string(o.Custodian), Status: objectionStatuses.toWire(o.Status),
		Absolute: o.Absolute, From: instant(o.From), Until: instant(o.Until), AuthorUser: o.AuthorUser, AuthorName: o.AuthorName,
		AuthorRole: o.AuthorRole, AuthorOdsCode: string(o.AuthorODS), Responsible: o.Responsible, Method: methods.toWire(o.Method),
		Recorded: instant(o.Recorded), Position: o.Position, Source: o.Source}
	if o.Scope == consent.ToSection {
		out.Section = section(o.Section)
	}
	return out
}
