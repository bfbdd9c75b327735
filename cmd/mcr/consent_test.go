package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

func TestConsent(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	var all strings.Builder
	do := func(args ...string) {
		t.Helper()
		code, out, errs := d.do(t, args...)
		if code != exitDone || errs != "" {
			t.Errorf("%s: got exit code %d, %q", args[1], code, errs)
		}
		all.WriteString("-- " + args[1] + "\n" + out)
	}
	do("consent", "object", eleanor, "-section", "mental-health", "-method", "in-person", "-birth-date", "1958-11-02", "-until", "2027", "-absolute", "-reason", "asked at the desk")
	in := d.broker.asked.(*v1.RecordObjectionRequest)
	if in.GetScope() != v1.ObjectionScope_OBJECTION_SCOPE_SECTION || in.GetSection() != v1.Section_SECTION_MENTAL_HEALTH || in.GetMethod() != v1.ObjectionMethod_OBJECTION_METHOD_IN_PERSON ||
		in.GetBirthDate() != "1958-11-02" || in.GetUntil() != "2027" || !in.GetAbsolute() || in.GetReason() != "asked at the desk" || len(in.GetKey()) != 32 {
		t.Error("the objection is not as it was given")
	}
	do("consent", "object", eleanor, "-custodian", "gp", "-method", "phone", "-key", strings.Repeat("a", 32))
	if in := d.broker.asked.(*v1.RecordObjectionRequest); in.GetScope() != v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN || in.GetCustodian() != "gp" || in.GetKey() != strings.Repeat("a", 32) {
		t.Error("the objection to a custodian is not as it was given")
	}
	do("consent", "withdraw", eleanor, "-id", "o1", "-birth-date", "1958-11-02")
	if in := d.broker.asked.(*v1.WithdrawObjectionRequest); in.GetObjectionId() != "o1" || len(in.GetKey()) != 32 {
		t.Error("another objection was withdrawn")
	}
	do("consent", "show", eleanor)
	d.broker.objects = []*v1.Objection{
		{Id: "o2", Scope: v1.ObjectionScope_OBJECTION_SCOPE_ALL, Status: v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE, Absolute: true, From: timestamppb.New(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)),
			AuthorUser: "555000000101", AuthorRole: "front-desk", AuthorOdsCode: "X9A01", Responsible: "mother, parental responsibility", Method: v1.ObjectionMethod_OBJECTION_METHOD_FORM,
			Recorded: timestamppb.New(time.Date(2026, 6, 1, 8, 30, 0, 0, time.UTC)), Position: 9, Source: "form\x1b[2J 7", Adoptions: []*v1.Adoption{
				{System: "gp-system", At: timestamppb.New(time.Date(2026, 6, 2, 8, 30, 0, 0, time.UTC))}, {System: "region"}}},
		{Id: "o1", Scope: v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, Custodian: "gp", Status: v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN, Method: v1.ObjectionMethod_OBJECTION_METHOD_ONLINE}}
	do("consent", "show", eleanor, "-reason", "asked")
	do("consent", "history", eleanor, "-birth-date", "1958-11-02")
	if in := d.broker.asked.(*v1.ShowObjectionsRequest); !in.GetWithHistory() || in.GetBirthDate() != "1958-11-02" {
		t.Error("the history was not asked for")
	}
	golden(t, "consent.golden", all.String())
	if _, out, _ := d.do(t, "consent", "show", eleanor, "-o", "json"); !strings.Contains(out, `"OBJECTION_SCOPE_ALL"`) {
		t.Error("no JSON for machines")
	}
	// Where nobody knows what became of a change, the user is told how to repeat it safely: with the key that was sent.
	d.broker.err = status.Error(codes.Unavailable, "x")
	code, _, errs := d.do(t, "consent", "object", eleanor, "-all", "-method", "form")
	if key := d.broker.asked.(*v1.RecordObjectionRequest).GetKey(); code == exitDone || !strings.Contains(errs, "-key "+key) {
		t.Errorf("got exit code %d, %q", code, errs)
	}
	d.broker.err = status.Error(codes.InvalidArgument, "x")
	if _, _, errs := d.do(t, "consent", "object", eleanor, "-all", "-method", "form"); strings.Contains(errs, "-key") {
		t.Error("a refused change is said to be perhaps recorded")
	}
}

func TestAuditSearchAndCustodians(t *testing.T) {
	d := newDesk(t)
	d.signIn(t, session{})
	at := timestamppb.New(time.Date(2026, 7, 3, 14, 5, 6, 0, time.UTC))
	d.broker.found = &v1.SearchAccessesResponse{More: true, NextBefore: 8, Receipt: receipt(), Entries: []*v1.LedgerEntry{
		{Position: 12, Type: v1.EntryType_ENTRY_TYPE_RELEASED, At: at, Opens: 11, NhsNumber: eleanor, Disclosure: &v1.Disclosure{Total: 3, Custodians: []*v1.DisclosedPart{
			{Custodian: "mentalhealth", State: v1.CustodianState_CUSTODIAN_STATE_RETURNED, Sections: []v1.Section{v1.Section_SECTION_HISTORY, v1.Section_SECTION_MENTAL_HEALTH}, Count: 3},
			{Custodian: "gp", State: v1.CustodianState_CUSTODIAN_STATE_TIMED_OUT}}}},
		{Position: 11, Type: v1.EntryType_ENTRY_TYPE_OVERRIDE, At: at, NhsNumber: eleanor, Access: &v1.Access{Face: "grpc", Operation: "GetRecord", RoleName: "emergency", Decision: "break-glass", Rule: "C-2.8",
			Requester: &v1.Requester{Name: "Dr\x1b[1m Kofi", User: "555000000102", Organisation: "X9B01"}, Purpose: v1.Purpose_PURPOSE_BTG, BreakGlassReason: "unconscious, alone", Filter: "_type=Flag",
			Permission:   &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, Reason: "unconscious"},
			Relationship: &v1.Relationship{Kind: v1.RelationshipKind_RELATIONSHIP_KIND_ATTENDANCE, Ref: "ED 7"}, Asked: []string{"gp", "acute"}}},
		{Position: 9, Type: v1.EntryType_ENTRY_TYPE_READ, At: at, Actor: &v1.Actor{Requester: &v1.Requester{Kind: "professional", User: "555000000107"}, RoleName: "ig-officer", Reason: "a complaint"}, Reason: "a complaint"},
		{Position: 8, Type: v1.EntryType_ENTRY_TYPE_CHECK, At: at, Count: 14}}}
	code, out, _ := d.do(t, "audit", "search", "-person", "999 000 0050", "-user", "u", "-organisation", "X9B01", "-from", "2026-07", "-until", "2026-08", "-entry-type", "released,override", "-reason", "a complaint", "-limit", "5", "-before", "99", "--archive", "epoch-2.mcra")
	if code != exitDone {
		t.Fatalf("got exit code %d", code)
	}
	golden(t, "audit.golden", out)
	in := d.broker.asked.(*v1.SearchAccessesRequest)
	if in.GetNhsNumber() != eleanor || in.GetUser() != "u" || in.GetOrganisation() != "X9B01" || in.GetFrom() != "2026-07" || in.GetUntil() != "2026-08" || len(in.GetTypes()) != 2 ||
		in.GetReason() != "a complaint" || in.GetLimit() != 5 || in.GetBefore() != 99 || in.GetArchive() != "epoch-2.mcra" {
		t.Error("the question is not as it was given")
	}
	d.broker.found = &v1.SearchAccessesResponse{}
	if _, out, _ := d.do(t, "audit", "search"); !strings.Contains(out, "No entries.") {
		t.Error("nothing found is not said")
	}
	d.broker.health = []*v1.CustodianHealth{
		{Custodian: statuses()[0].GetCustodian(), Adapter: "fhirr4/1", Breaker: v1.BreakerState_BREAKER_STATE_CLOSED, LastState: v1.CustodianState_CUSTODIAN_STATE_RETURNED, LastAnswer: at},
		{Custodian: statuses()[5].GetCustodian(), Breaker: v1.BreakerState_BREAKER_STATE_OPEN, LastState: v1.CustodianState_CUSTODIAN_STATE_TIMED_OUT,
			LastAnswer: timestamppb.New(time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC))}, {Custodian: statuses()[6].GetCustodian(), Breaker: v1.BreakerState_BREAKER_STATE_CLOSED}}
	_, out, _ = d.do(t, "custodians")
	golden(t, "custodians.golden", out)
}
