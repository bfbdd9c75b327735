package grpcapi

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

func goodDelegation() *v1.RecordDelegationRequest {
	return &v1.RecordDelegationRequest{CarerNhsNumber: otherNumber, Name: "my daughter", Sections: []v1.Section{v1.Section_SECTION_MEDICATIONS, v1.Section_SECTION_APPOINTMENTS},
		Custodians: []string{"gp"}, From: "2026-11-01", Until: "2027-10-31", Key: "000102030405060708090a0b0c0d0e0f"}
}

func TestRecordDelegation(t *testing.T) {
	w := newWorld(t)
	out, err := w.consent.RecordDelegation(as(t, "person"), goodDelegation())
	if err != nil {
		t.Fatal(err)
	}
	r, ok := w.broker.last.(broker.ObjectionRequest)
	if !ok || r.Subject != r.Requester.Own || r.Key != goodDelegation().GetKey() {
		t.Error("the request is not about the caller")
	}
	d := out.GetDelegation()
	if d.GetId() != "d1" || d.GetCarerNhsNumber() != otherNumber || d.GetName() != "my daughter" || !slices.Equal(d.GetSections(), goodDelegation().GetSections()) ||
		!slices.Equal(d.GetCustodians(), []string{"gp"}) || d.GetStatus() != v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE ||
		!d.GetUntil().AsTime().Equal(time.Date(2027, 11, 1, 0, 0, 0, 0, time.UTC)) || out.GetReceipt() == nil {
		t.Error("the answer is not what was recorded")
	}
	for _, c := range []struct {
		name, field string
		change      func(*v1.RecordDelegationRequest)
	}{
		{"no carer", "carer_nhs_number", func(r *v1.RecordDelegationRequest) { r.CarerNhsNumber = "" }},
		{"no section", "sections", func(r *v1.RecordDelegationRequest) { r.Sections = nil }},
		{"a section twice", "sections", func(r *v1.RecordDelegationRequest) { r.Sections = append(r.Sections, r.Sections[0]) }},
		{"unknown section", "sections", func(r *v1.RecordDelegationRequest) { r.Sections[0] = 99 }},
		{"unspecified section", "sections", func(r *v1.RecordDelegationRequest) { r.Sections[0] = 0 }},
		{"custodian", "custodians", func(r *v1.RecordDelegationRequest) { r.Custodians = []string{"G P"} }},
		{"too many custodians", "custodians", func(r *v1.RecordDelegationRequest) { r.Custodians = make([]string, 65) }},
		{"no end", "until", func(r *v1.RecordDelegationRequest) { r.Until = "" }},
		{"until before from", "until", func(r *v1.RecordDelegationRequest) { r.Until = "2026-10" }},
		{"too long", "until", func(r *v1.RecordDelegationRequest) { r.Until = "2027-11-02" }},
		{"name", "name", func(r *v1.RecordDelegationRequest) { r.Name = "a\nb" }},
		{"key", "key", func(r *v1.RecordDelegationRequest) { r.Key = "1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := proto.Clone(goodDelegation()).(*v1.RecordDelegationRequest)
			c.change(in)
			_, err := w.consent.RecordDelegation(as(t, "person"), in)
			wantField(t, err, c.field)
		})
	}
}

// What staff ask here reaches the broker whatever it says, because the broker refuses it, and records that.
func TestStaffRecordNoDelegation(t *testing.T) {
	w := newWorld(t)
	w.broker.err = &broker.Refusal{Kind: broker.Forbidden, Reason: consent.ReasonRole, Rule: consent.RuleDelegation}
	_, err := w.consent.RecordDelegation(as(t, "doctor"), &v1.RecordDelegationRequest{})
	wantStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
	if r, ok := w.broker.last.(broker.ObjectionRequest); !ok || r.Requester.Kind != record.Professional {
		t.Error("the broker did not see it")
	}
}

func TestReviewOverride(t *testing.T) {
	w := newWorld(t)
	if _, err := w.audit.ReviewOverride(as(t, "doctor"), &v1.ReviewOverrideRequest{Position: 7, Outcome: v1.ReviewOutcome_REVIEW_OUTCOME_NOT_JUSTIFIED, Note: "none"}); err != nil {
		t.Fatal(err)
	}
	if w.broker.reviewed != "7 "+string(audit.NotJustified)+" none" {
		t.Errorf("got %q", w.broker.reviewed)
	}
	_, err := w.audit.ReviewOverride(as(t, "doctor"), &v1.ReviewOverrideRequest{Position: 7})
	wantField(t, err, "outcome")
	_, err = w.audit.ReviewOverride(as(t, "doctor"), &v1.ReviewOverrideRequest{Position: 1 << 63, Outcome: 1})
	wantField(t, err, "position")
	out, err := w.audit.ListOverrides(as(t, "doctor"), &v1.ListOverridesRequest{From: 5, Reason: "weekly review"})
	if err != nil || len(out.GetOverrides()) != 1 || out.GetOverrides()[0].GetEntry().GetPosition() != 5 || out.GetOverrides()[0].GetAlert() != "after-no" || out.GetNext() != 6 {
		t.Errorf("ListOverrides: %v", err)
	}
	_, err = w.audit.ListOverrides(as(t, "doctor"), &v1.ListOverridesRequest{Limit: 1001})
	wantField(t, err, "limit")
	_, err = w.consent.DecideObjection(as(t, "doctor"), &v1.DecideObjectionRequest{NhsNumber: number, BirthDate: "1980-01-31", ObjectionId: "o1", Status: v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN})
	wantField(t, err, "status")
	decided, err := w.consent.DecideObjection(as(t, "doctor"), &v1.DecideObjectionRequest{NhsNumber: number, BirthDate: "1980-01-31", ObjectionId: "o1", Status: v1.ObjectionStatus_OBJECTION_STATUS_DECLINED})
	if err != nil || decided.GetObjection().GetStatus() != v1.ObjectionStatus_OBJECTION_STATUS_DECLINED {
		t.Errorf("DecideObjection: %v", err)
	}
}
