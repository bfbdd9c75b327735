package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

const carer = "9990000026"

func (f *fakeBroker) RecordDelegation(ctx context.Context, in *v1.RecordDelegationRequest) (*v1.RecordDelegationResponse, error) {
	return &v1.RecordDelegationResponse{Receipt: receipt(), Delegation: &v1.Delegation{Id: "d1", CarerNhsNumber: in.GetCarerNhsNumber(), Name: "my\x1b[2J daughter", Sections: in.GetSections(),
		Custodians: in.GetCustodians(), Status: v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE, From: timestamppb.New(time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)),
		Until: timestamppb.New(time.Date(2027, 8, 1, 0, 0, 0, 0, time.UTC))}}, f.keep(ctx, in)
}

func (f *fakeBroker) WithdrawDelegation(ctx context.Context, in *v1.WithdrawDelegationRequest) (*v1.WithdrawDelegationResponse, error) {
	return &v1.WithdrawDelegationResponse{Receipt: receipt(), Delegation: &v1.Delegation{Id: in.GetDelegationId(), CarerNhsNumber: carer, Sections: []v1.Section{v1.Section_SECTION_RESULTS},
		Status: v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN}}, f.keep(ctx, in)
}

func (f *fakeBroker) ShowDelegations(ctx context.Context, in *v1.ShowDelegationsRequest) (*v1.ShowDelegationsResponse, error) {
	return &v1.ShowDelegationsResponse{Receipt: receipt(), Delegations: []*v1.Delegation{{Id: "d1", CarerNhsNumber: carer, Sections: []v1.Section{v1.Section_SECTION_RESULTS},
		Status: v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE}}}, f.keep(ctx, in)
}

func (f *fakeBroker) DecideObjection(ctx context.Context, in *v1.DecideObjectionRequest) (*v1.DecideObjectionResponse, error) {
	return &v1.DecideObjectionResponse{Receipt: receipt(), Objection: &v1.Objection{Id: in.GetObjectionId(), Scope: v1.ObjectionScope_OBJECTION_SCOPE_ALL, Status: in.GetStatus()}}, f.keep(ctx, in)
}

func (f *fakeBroker) ListOverrides(ctx context.Context, in *v1.ListOverridesRequest) (*v1.ListOverridesResponse, error) {
	return &v1.ListOverridesResponse{Receipt: receipt(), Next: 90, Overrides: []*v1.Override{{Alert: "after-no", Entry: &v1.LedgerEntry{Position: 7, Type: v1.EntryType_ENTRY_TYPE_OVERRIDE,
		At: timestamppb.New(time.Date(2026, 8, 1, 9, 30, 0, 0, time.UTC)), NhsNumber: eleanor, Explanation: "They went ahead without your permission."}}}}, f.keep(ctx, in)
}

func (f *fakeBroker) ReviewOverride(ctx context.Context, in *v1.ReviewOverrideRequest) (*v1.ReviewOverrideResponse, error) {
	return &v1.ReviewOverrideResponse{Receipt: receipt()}, f.keep(ctx, in)
}

func TestCarersAndOverrides(t *testing.T) {
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
	do("consent", "delegate", carer, "-section", "medications,results", "-custodian", "gp,acute", "-until", "2027-08", "-name", "my daughter")
	if in := d.broker.asked.(*v1.RecordDelegationRequest); in.GetCarerNhsNumber() != carer || len(in.GetSections()) != 2 || in.GetSections()[1] != v1.Section_SECTION_RESULTS ||
		!slices.Equal(in.GetCustodians(), []string{"gp", "acute"}) || in.GetUntil() != "2027-08" || in.GetName() != "my daughter" || len(in.GetKey()) != 32 {
		t.Error("the delegation is not as it was given")
	}
	do("consent", "carers", eleanor)
	do("consent", "revoke", eleanor, "-id", "d1", "-birth-date", "1958-11-02")
	if in := d.broker.asked.(*v1.WithdrawDelegationRequest); in.GetDelegationId() != "d1" || in.GetBirthDate() != "1958-11-02" {
		t.Error("another delegation was withdrawn")
	}
	do("consent", "decide", eleanor, "-id", "o1", "-as", "declined", "-birth-date", "1958-11-02")
	if in := d.broker.asked.(*v1.DecideObjectionRequest); in.GetObjectionId() != "o1" || in.GetStatus() != v1.ObjectionStatus_OBJECTION_STATUS_DECLINED {
		t.Error("it was decided otherwise")
	}
	do("audit", "overrides", "-reason", "weekly review")
	if in := d.broker.asked.(*v1.ListOverridesRequest); in.GetReason() != "weekly review" || in.GetLimit() != 100 || in.GetReviewed() {
		t.Error("another list was asked for")
	}
	do("audit", "review", "7", "-outcome", "not-justified", "-note", "no reason found")
	if in := d.broker.asked.(*v1.ReviewOverrideRequest); in.GetPosition() != 7 || in.GetOutcome() != v1.ReviewOutcome_REVIEW_OUTCOME_NOT_JUSTIFIED || in.GetNote() != "no reason found" || len(in.GetKey()) != 32 {
		t.Error("another review was recorded")
	}
	golden(t, "carers.golden", all.String())
	d.broker.asked = nil
	for _, c := range []struct{ args, want string }{
		{"consent delegate " + carer + " -until 2027", "-section"}, {"consent delegate " + carer + " -section results", "-until"}, {"consent delegate " + carer + " -section moods -until 2027", "mental-health"},
		{"consent revoke " + eleanor, "-id"}, {"consent decide " + eleanor + " -id o1 -as withdrawn", "-as in-force"}, {"audit overrides", "-reason"}, {"audit overrides -reason x -limit 0", "-limit"},
		{"audit review", "position"}, {"audit review x -outcome justified", "position"}, {"audit review 7", "-outcome"},
	} {
		if code, _, errs := d.do(t, strings.Fields(c.args)...); code != exitUse || !strings.Contains(errs, c.want) {
			t.Errorf("%q: got exit code %d, %q; want %q", c.args, code, errs, c.want)
		}
	}
	if d.broker.asked != nil {
		t.Error("the broker was asked")
	}
}
