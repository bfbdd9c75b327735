package grpcapi

import (
	"math"
	"slices"
	"strings"
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

func goodObjection() *v1.RecordObjectionRequest {
	return &v1.RecordObjectionRequest{NhsNumber: number, BirthDate: "1980-01-31", Scope: v1.ObjectionScope_OBJECTION_SCOPE_SECTION,
		Section: v1.Section_SECTION_MENTAL_HEALTH, Absolute: true, From: "2026-01", Until: "2026-12-31", Responsible: "mother, parental responsibility",
		Method: v1.ObjectionMethod_OBJECTION_METHOD_PHONE, Reason: "asked at the desk", Key: "0123456789abcdef0123456789abcdef"}
}

func TestRecordObjection(t *testing.T) {
	w := newWorld(t)
	out, err := w.consent.RecordObjection(as(t, "doctor", "x-request-id", "req-2"), goodObjection())
	if err != nil {
		t.Fatal(err)
	}
	r, ok := w.broker.last.(broker.ObjectionRequest)
	if !ok || r.ID != "req-2" || r.Face != "grpc" || r.Subject != mustNumber(t, number) || r.BirthDate != "1980-01-31" || r.Reason != "asked at the desk" ||
		r.Key != "0123456789abcdef0123456789abcdef" || r.Role.Name != "role of R8000" || r.Requester.User != "555000000001" {
		t.Error("the request is wrong")
	}
	o := w.broker.objection
	if o.Scope != consent.ToSection || o.Section != record.MentalHealth || !o.Absolute || o.Status != consent.InForce || o.Method != "phone" ||
		o.Responsible != "mother, parental responsibility" || !o.From.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) ||
		!o.Until.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Error("the objection is wrong: partial dates count whole")
	}
	if got := out.GetObjection(); got.GetId() != "o1" || got.GetSection() != v1.Section_SECTION_MENTAL_HEALTH || got.GetStatus() != v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE ||
		out.GetReceipt().GetPosition() != 7 {
		t.Error("the acknowledgement is wrong")
	}
}

func TestBadObjectionsAreNamed(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, field string
		change      func(*v1.RecordObjectionRequest)
	}{
		{"no number", "nhs_number", func(r *v1.RecordObjectionRequest) { r.NhsNumber = "" }},
		{"staff without the birth date", "birth_date", func(r *v1.RecordObjectionRequest) { r.BirthDate = "" }},
		{"no scope", "scope", func(r *v1.RecordObjectionRequest) { r.Scope = 0 }},
		{"unknown section", "section", func(r *v1.RecordObjectionRequest) { r.Section = 99 }},
		{"no section", "section", func(r *v1.RecordObjectionRequest) { r.Section = 0 }},
		{"section where none belongs", "section", func(r *v1.RecordObjectionRequest) { r.Scope = v1.ObjectionScope_OBJECTION_SCOPE_ALL }},
		{"no custodian", "custodian", func(r *v1.RecordObjectionRequest) {
			r.Scope, r.Section = v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, 0
		}},
		{"custodian where none belongs", "custodian", func(r *v1.RecordObjectionRequest) { r.Custodian = "gp" }},
		{"no method", "method", func(r *v1.RecordObjectionRequest) { r.Method = 0 }},
		{"until before from", "until", func(r *v1.RecordObjectionRequest) { r.Until = "2025" }},
		{"from", "from", func(r *v1.RecordObjectionRequest) { r.From = "soon" }},
		{"hour 24 of from", "from", func(r *v1.RecordObjectionRequest) { r.From = "2026-01-01T24:00:00Z" }},
		{"hour 24 of until", "until", func(r *v1.RecordObjectionRequest) { r.Until = "2026-01-01T24:00" }},
		{"key", "key", func(r *v1.RecordObjectionRequest) { r.Key = strings.ToUpper(r.Key) }},
		{"reason", "reason", func(r *v1.RecordObjectionRequest) { r.Reason = "a\nb" }},
		{"responsible", "responsible", func(r *v1.RecordObjectionRequest) { r.Responsible = strings.Repeat("a", 501) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := proto.Clone(goodObjection()).(*v1.RecordObjectionRequest)
			c.change(in)
			_, err := w.consent.RecordObjection(as(t, "doctor"), in)
			wantField(t, err, c.field)
		})
	}
	if w.broker.calls != 0 {
		t.Error("the broker was asked")
	}
	in := goodObjection()
	in.BirthDate, in.Responsible = "", ""
	if _, err := w.consent.RecordObjection(as(t, "person"), in); err != nil {
		t.Errorf("the person needs no birth date of their own: %v", err)
	}
	if w.broker.objection.Responsible != "self" {
		t.Error("who objects for themselves is not said to")
	}
}

func TestWithdrawAndShow(t *testing.T) {
	w := newWorld(t)
	out, err := w.consent.WithdrawObjection(as(t, "doctor"), &v1.WithdrawObjectionRequest{NhsNumber: number, BirthDate: "1980-01-31", ObjectionId: "o-1.x"})
	if err != nil || out.GetObjection().GetId() != "o-1.x" || out.GetObjection().GetStatus() != v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN {
		t.Errorf("got %v, want it withdrawn", err)
	}
	for _, id := range []string{"", "a b", "a/b", strings.Repeat("a", 65)} {
		_, err := w.consent.WithdrawObjection(as(t, "doctor"), &v1.WithdrawObjectionRequest{NhsNumber: number, BirthDate: "1980-01-31", ObjectionId: id})
		wantField(t, err, "objection_id")
	}
	w.broker.objections = []consent.Objection{{ID: "b", Scope: consent.ToCustodian, Custodian: "gp", Status: consent.InForce, Method: "online"}, {ID: "a", Scope: consent.ToAll, Status: consent.Withdrawn}}
	list, err := w.consent.ShowObjections(as(t, "engine"), &v1.ShowObjectionsRequest{NhsNumber: number, BirthDate: "1980-01-31", Reason: "asked"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.GetObjections()) != 2 || list.GetObjections()[0].GetCustodian() != "gp" || list.GetObjections()[1].GetSection() != 0 {
		t.Error("the list is wrong")
	}
	if r, ok := w.broker.last.(broker.ObjectionRequest); !ok || r.TokenProblem != consent.ReasonNoActingPerson {
		t.Error("the engine's problem did not reach the broker")
	}
	w.broker.err = &broker.Refusal{Kind: broker.Forbidden, Reason: consent.ReasonRole, Rule: "C-10"}
	_, err = w.consent.ShowObjections(as(t, "engine"), &v1.ShowObjectionsRequest{NhsNumber: number, BirthDate: "1980-01-31"})
	wantStatus(t, err, codes.PermissionDenied, "FORBIDDEN")
}

func found(t *testing.T, position uint64) audit.Found {
	return audit.Found{Position: position, Type: audit.TypeRefused, At: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Leaf: [32]byte{9}, Opens: 3,
		Subject: mustNumber(t, number), Access: &audit.Access{RequestID: "r", Face: "grpc", Operation: "GetRecord", Requester: record.Requester{Kind: record.Professional, User: "u", Name: "Dr A"},
			RoleName: "clinical", Purpose: record.BreakGlass, Permission: record.Permission{Kind: record.CannotAsk, Reason: "asleep"},
			Relationship: record.Relationship{Kind: record.Referral, Ref: "x"}, BreakGlassReason: "nobody else knows", Filter: "_type=Flag",
			Decision: consent.Decision{Reason: consent.ReasonPermitted, Rule: "C-2.10"}, Reason: consent.ReasonChanged, Rule: "C-8", Asked: []record.CustodianKey{"gp"}},
		Disclosure: &audit.Disclosure{Total: 4, Custodians: []audit.Shown{{Key: "gp", State: record.Returned, Sections: record.SectionsOf(record.Results), Count: 4, Digests: [][32]byte{{1}}}}},
		Actor:      &audit.Actor{RoleName: "ig", Reason: "a complaint"}}
}

func TestSearchAccesses(t *testing.T) {
	w := newWorld(t)
	w.broker.found, w.broker.more = []audit.Found{found(t, 12)}, true
	out, err := w.audit.SearchAccesses(as(t, "doctor"), &v1.SearchAccessesRequest{NhsNumber: number, User: "u", Organisation: "X9B01", From: "2026-01", Until: "2026-02",
		Types: []v1.EntryType{v1.EntryType_ENTRY_TYPE_REFUSED}, Reason: "a complaint", Limit: 10, Before: 99, Archive: "epoch-2.mcra"})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := w.broker.last.(broker.SearchRequest)
	q := r.Query
	if r.Reason != "a complaint" || r.Arrived.IsZero() || len(q.Subjects) != 1 || q.Subjects[0] != mustNumber(t, number) || q.User != "u" || q.Organisation != "X9B01" || q.Limit != 10 ||
		q.Before != 99 || q.Archive != "epoch-2.mcra" || !q.From.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || !q.Until.Equal(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)) ||
		!slices.Equal(q.Types, []audit.EntryType{audit.TypeRefused}) {
		t.Error("the question is wrong")
	}
	e := out.GetEntries()[0]
	a := e.GetAccess()
	if e.GetNhsNumber() != number || e.GetType() != v1.EntryType_ENTRY_TYPE_REFUSED || a.GetPurpose() != v1.Purpose_PURPOSE_BTG || a.GetPermission().GetReason() != "asleep" ||
		a.GetDecision() != "preferences-changed" || a.GetRule() != "C-8" || a.GetRequester().GetName() != "Dr A" || e.GetDisclosure().GetCustodians()[0].GetCount() != 4 ||
		e.GetActor().GetReason() != "a complaint" {
		t.Error("the entry is wrong")
	}
	if !out.GetMore() || out.GetNextBefore() != 12 || out.GetReceipt().GetPosition() != 7 {
		t.Error("the page does not say how to go on")
	}
}

// A page that would not fit into a message is cut, and says so; nothing is skipped between pages.
func TestLongPagesAreCut(t *testing.T) {
	w := newWorld(t)
	for i := range 1000 {
		f := found(t, uint64(5000-i))
		f.Access.Filter = strings.Repeat("x", 5000)
		w.broker.found = append(w.broker.found, f)
	}
	out, err := w.audit.SearchAccesses(as(t, "doctor"), &v1.SearchAccessesRequest{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	n := len(out.GetEntries())
	if n == 0 || n == 1000 || !out.GetMore() || out.GetNextBefore() != uint64(5000-n+1) || proto.Size(out) > 4<<20 {
		t.Errorf("got %d entries, more %v, next before %d", n, out.GetMore(), out.GetNextBefore())
	}
}

func TestBadSearchesAreNamed(t *testing.T) {
	w := newWorld(t)
	for field, in := range map[string]*v1.SearchAccessesRequest{
		"nhs_number": {NhsNumber: "1"}, "user": {User: "a b"}, "organisation": {Organisation: "x"}, "from": {From: "2026-01-01T24:00:00Z"}, "until": {From: "2026", Until: "2025"},
		"types": {Types: []v1.EntryType{99}}, "limit": {Limit: 1001}, "before": {Before: math.MaxUint64}, "reason": {Reason: strings.Repeat("a", 501)},
	} {
		_, err := w.audit.SearchAccesses(as(t, "doctor"), in)
		wantField(t, err, field)
	}
	_, err := w.audit.SearchAccesses(as(t, "doctor"), &v1.SearchAccessesRequest{Types: []v1.EntryType{0}})
	wantField(t, err, "types")
	if w.broker.calls != 0 {
		t.Error("the broker was asked")
	}
}
