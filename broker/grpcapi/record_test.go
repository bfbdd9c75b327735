package grpcapi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// frame is a message as gRPC frames it.
func frame(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...), nil
}

func lastRequest(t testing.TB, w *world) broker.Request {
	t.Helper()
	r, ok := w.broker.last.(broker.Request)
	if !ok {
		t.Fatalf("the broker was asked a %T, want a broker.Request", w.broker.last)
	}
	return r
}

var (
	acute = record.Custodian{Key: "acute", ODS: "X9B01", Name: "Hillcrest Hospital", Kind: record.KindAcute, Contact: "01632 960001"}
	gp    = record.Custodian{Key: "gp", ODS: "X9A01", Name: "Rivermead Surgery", Kind: record.KindGP, Contact: "01632 960002"}
)

func resource(typ, id string, size int) []byte {
	head := fmt.Sprintf(`{"resourceType":%q,"id":%q,"note":"`, typ, id)
	return []byte(head + strings.Repeat("x", max(0, size-len(head)-2)) + `"}`)
}

func entry(custodian record.CustodianKey, typ, id string, size int) merge.Entry {
	when, err := record.ParseClinicalTime("2020-03")
	if err != nil {
		panic(err)
	}
	when.Element = "onsetDateTime"
	return merge.Entry{FullURL: "https://x.example/fhir/" + typ + "/" + id, Type: typ, ID: id, Mode: merge.Match, Custodian: custodian,
		Section: record.History, Others: record.SectionsOf(record.MentalHealth), Time: when, JSON: resource(typ, id, size)}
}

func answer() merge.Answer {
	return merge.Answer{Entries: []merge.Entry{entry("gp", "Condition", "gp-1", 100)}, Total: 1, Handle: "handle",
		Statuses: []record.Status{
			{Custodian: gp, State: record.ReturnedInPart, Parts: []record.Part{{Section: "mental-health", Reason: record.PartWithheld}},
				Asked: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Took: 120 * time.Millisecond, Adapter: "fhirr4/1", Shown: 1, Received: 5},
			{Custodian: acute, State: record.TimedOut, Asked: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Took: 3 * time.Second, Adapter: "fhirr4/1"},
		}}
}

func TestGetRecordCarriesEverythingBothWays(t *testing.T) {
	w := newWorld(t)
	w.broker.answer = answer()
	in := &v1.GetRecordRequest{NhsNumber: number, BirthDate: "1980-02-29", Purpose: v1.Purpose_PURPOSE_BTG,
		Permission:       &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, Reason: "unconscious"},
		Relationship:     &v1.Relationship{Kind: v1.RelationshipKind_RELATIONSHIP_KIND_ATTENDANCE, Ref: "ED 12"},
		BreakGlassReason: "no next of kin is known", Types: []string{"Condition", "Observation"}, Start: "2019", End: "2020-02", Since: "2021-01-01T00:00:00Z",
		MaxResponseBytes: 1 << 20}
	before := time.Now()
	out, err := w.record.GetRecord(as(t, "doctor", "x-request-id", "req-1"), in)
	if err != nil {
		t.Fatal(err)
	}
	r := lastRequest(t, w)
	utc := func(s string) time.Time {
		x, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return x.UTC()
	}
	switch {
	case r.ID != "req-1" || r.Face != "grpc" || r.Operation != "GetRecord":
		t.Error("id, face or operation is wrong")
	case r.Subject != mustNumber(t, number) || r.BirthDate != "1980-02-29":
		t.Error("the person is wrong")
	case r.Requester.User != "555000000001" || r.Role.Name != "role of R8000" || r.TokenProblem != "":
		t.Error("the requester is wrong")
	case r.Purpose != record.BreakGlass || r.BreakGlassReason != "no next of kin is known":
		t.Error("the purpose is wrong")
	case r.Permission != record.Permission{Kind: record.CannotAsk, Reason: "unconscious"}:
		t.Error("the permission is wrong")
	case r.Relationship != record.Relationship{Kind: record.Attendance, Ref: "ED 12"}:
		t.Error("the relationship is wrong")
	case !slices.Equal(r.Filter.Types, []string{"Condition", "Observation"}):
		t.Error("the types are wrong")
	case r.Filter.Start != utc("2019-01-01T00:00:00Z") || r.Filter.End != utc("2020-03-01T00:00:00Z") || r.Filter.Since != utc("2021-01-01T00:00:00Z"):
		t.Error("the times are wrong: partial dates count whole")
	case r.MaxBytes != 1<<20 || r.Arrived.Before(before) || r.Meta.CodeBase != "https://mycarerecord.example" || !isUUID(r.Meta.ID):
		t.Error("the size, arrival or Bundle's own fields are wrong")
	}
	if got := out.GetReceipt(); got.GetOrigin() != "test/ledger" || got.GetPosition() != 7 || len(got.GetLeaf()) != 32 {
		t.Error("the receipt is wrong")
	}
	if len(out.GetCustodians()) != 2 {
		t.Fatalf("got %d custodians, want 2", len(out.GetCustodians()))
	}
	c := out.GetCustodians()[0]
	if c.GetState() != v1.CustodianState_CUSTODIAN_STATE_RETURNED_IN_PART || c.GetCustodian().GetContact() != "01632 960002" || c.GetShown() != 1 ||
		c.GetParts()[0].GetSection() != v1.Section_SECTION_MENTAL_HEALTH || c.GetTook().AsDuration() != 120*time.Millisecond {
		t.Error("the first custodian's state is wrong")
	}
	var bundle struct {
		ResourceType string
		Type         string
		Meta         struct{ Tag []struct{ Code string } }
		Entry        []struct{ Resource json.RawMessage }
	}
	if err := json.Unmarshal(out.GetBundle(), &bundle); err != nil {
		t.Fatal("the bundle is not JSON")
	}
	if bundle.ResourceType != "Bundle" || bundle.Type != "searchset" || len(bundle.Entry) != 1 {
		t.Error("the bundle is not a searchset of one entry")
	}
	if want := fmt.Sprintf("7.%x", [32]byte{1, 2, 3}); !slices.ContainsFunc(bundle.Meta.Tag, func(t struct{ Code string }) bool { return t.Code == want }) {
		t.Error("the bundle does not carry its receipt")
	}
	if int64(len(out.GetBundle())) > w.broker.answer.BundleSize(r.Meta) {
		t.Error("the bundle is larger than what the broker judged")
	}
}

func TestSizeOfOneMessage(t *testing.T) {
	w := newWorld(t)
	w.broker.answer = answer()
	for _, c := range []struct{ given, want int64 }{{0, 4<<20 - 64<<10}, {1, 1}, {100 << 20, 4<<20 - 64<<10}} {
		in := good()
		in.MaxResponseBytes = int32(c.given)
		_, err := w.record.GetRecord(as(t, "doctor"), in)
		if got := lastRequest(t, w).MaxBytes; got != c.want {
			t.Errorf("asked for %d: got %d, want %d", c.given, got, c.want)
		}
		if c.given == 1 {
			wantStatus(t, err, codes.ResourceExhausted, "USE_STREAM")
		} else if err != nil {
			t.Error(err)
		}
	}
	// The largest answer that is sent whole fits the 4 MiB that clients take, nine custodians' states included.
	fit := int(maxBundle - w.broker.answer.BundleSize(longestMeta()) + 100)
	w.broker.answer.Entries[0] = entry("gp", "Condition", "gp-1", fit)
	for len(w.broker.answer.Statuses) < 9 {
		w.broker.answer.Statuses = append(w.broker.answer.Statuses, w.broker.answer.Statuses[0])
	}
	out, err := w.record.GetRecord(as(t, "doctor"), good())
	if err != nil {
		t.Fatalf("an answer of the largest size: %v", status.Code(err))
	}
	if len(out.GetBundle()) < maxBundle-200 {
		t.Errorf("the largest answer has only %d bytes; the test is not at the edge", len(out.GetBundle()))
	}
	w.broker.answer.Entries[0] = entry("gp", "Condition", "gp-1", fit+200)
	_, err = w.record.GetRecord(as(t, "doctor"), good())
	wantStatus(t, err, codes.ResourceExhausted, "USE_STREAM")
}

func longestMeta() merge.BundleMeta {
	return merge.BundleMeta{ID: newUUID(), CodeBase: "https://mycarerecord.example", Now: "2026-01-01T00:00:00.000Z", ReceiptTag: longestReceiptTag}
}

// What the token states stands where the request is silent, and must be the same where it is not.
func TestTokenAndRequestMustAgree(t *testing.T) {
	w := newWorld(t)
	w.broker.answer = answer()
	if _, err := w.record.GetRecord(as(t, "launched"), &v1.GetRecordRequest{}); err != nil {
		t.Fatal(err)
	}
	silent := lastRequest(t, w)
	same := &v1.GetRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT,
		Permission:   &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_IMPLIED_BY_REFERRAL, Ref: "R1"},
		Relationship: &v1.Relationship{Kind: v1.RelationshipKind_RELATIONSHIP_KIND_ADMISSION}}
	if _, err := w.record.GetRecord(as(t, "launched"), same); err != nil {
		t.Fatal(err)
	}
	for _, r := range []broker.Request{silent, lastRequest(t, w)} {
		if r.Subject != mustNumber(t, number) || r.Purpose != record.Treatment || r.Permission.Ref != "R1" || r.Relationship.Kind != record.Admission {
			t.Error("what the token states did not reach the broker")
		}
	}
	calls := w.broker.calls
	for field, change := range map[string]func(*v1.GetRecordRequest){
		"nhs_number":   func(r *v1.GetRecordRequest) { r.NhsNumber = otherNumber },
		"purpose":      func(r *v1.GetRecordRequest) { r.Purpose = v1.Purpose_PURPOSE_BTG },
		"permission":   func(r *v1.GetRecordRequest) { r.Permission.Ref = "R2" },
		"relationship": func(r *v1.GetRecordRequest) { r.Relationship.Ref = "W1" },
	} {
		in := proto.Clone(same).(*v1.GetRecordRequest)
		change(in)
		_, err := w.record.GetRecord(as(t, "launched"), in)
		wantField(t, err, field)
	}
	_, err := w.consent.ShowObjections(as(t, "launched"), &v1.ShowObjectionsRequest{NhsNumber: otherNumber, BirthDate: "1980-01-01"})
	wantField(t, err, "nhs_number")
	_, err = w.audit.SearchAccesses(as(t, "launched"), &v1.SearchAccessesRequest{NhsNumber: otherNumber})
	wantField(t, err, "nhs_number")
	if w.broker.calls != calls {
		t.Error("the broker was asked")
	}
}

func TestDefaultsOfARequest(t *testing.T) {
	w := newWorld(t)
	w.broker.answer = answer()
	if _, err := w.record.GetRecord(as(t, "doctor"), &v1.GetRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT}); err != nil {
		t.Fatal(err)
	}
	if r := lastRequest(t, w); r.Relationship.Kind != record.SelfClaimed || r.Permission.Kind != record.PermissionNone {
		t.Error("staff who say nothing claim the relationship themselves, and no permission")
	}
	if _, err := w.record.GetRecord(as(t, "person"), &v1.GetRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_PATRQT,
		Permission: &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_PATIENT_SELF}}); err != nil {
		t.Fatal(err)
	}
	if r := lastRequest(t, w); r.Relationship.Kind != record.RelationshipNone || r.Permission.Kind != record.PatientSelf {
		t.Error("the person claims no relationship with themselves")
	}
	for _, since := range []string{"2021-01-02T03:04:05Z", "2021-01-02T04:04:05+01:00", "2021-01-01T22:04:05.000-05:00"} {
		in := good()
		in.Since = since
		if _, err := w.record.GetRecord(as(t, "doctor"), in); err != nil {
			t.Errorf("%s: %v", since, err)
		} else if got := lastRequest(t, w).Filter.Since; !got.Equal(time.Date(2021, 1, 2, 3, 4, 5, 0, time.UTC)) {
			t.Errorf("%s: got %v", since, got)
		}
	}
}

// A person who names nobody means themselves.
func TestAPersonNeedsNoNumberOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	w.broker.answer = answer()
	w.broker.chunks = make([][]merge.Entry, 2)
	own := mustNumber(t, number)
	self := &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_PATIENT_SELF}
	ctx := as(t, "person")
	if _, err := w.record.GetRecord(ctx, &v1.GetRecordRequest{Purpose: v1.Purpose_PURPOSE_PATRQT, Permission: self}); err != nil || lastRequest(t, w).Subject != own {
		t.Errorf("GetRecord: %v", err)
	}
	s, err := w.record.StreamRecord(ctx, &v1.StreamRecordRequest{Purpose: v1.Purpose_PURPOSE_PATRQT, Permission: self})
	if err == nil {
		_, err = s.Recv()
	}
	if r := lastRequest(t, w); err != nil || r.Face != "stream" || r.Subject != own {
		t.Errorf("StreamRecord: %v", err)
	}
	_, err = w.consent.ShowObjections(ctx, &v1.ShowObjectionsRequest{})
	if r, _ := w.broker.last.(broker.ObjectionRequest); err != nil || r.Subject != own {
		t.Errorf("ShowObjections: %v", err)
	}
	_, err = w.audit.SearchAccesses(ctx, &v1.SearchAccessesRequest{})
	if r, _ := w.broker.last.(broker.SearchRequest); err != nil || !slices.Equal(r.Query.Subjects, []record.NHSNumber{own}) {
		t.Errorf("SearchAccesses: %v", err)
	}
	_, err = w.record.GetRecord(ctx, &v1.GetRecordRequest{NhsNumber: "x", Purpose: v1.Purpose_PURPOSE_PATRQT, Permission: self})
	wantField(t, err, "nhs_number") // what cannot be read is nobody, not oneself
	if _, err := w.audit.SearchAccesses(as(t, "doctor"), &v1.SearchAccessesRequest{}); err != nil || len(w.broker.last.(broker.SearchRequest).Query.Subjects) != 0 {
		t.Errorf("an officer who names nobody means everybody: %v", err)
	}
}

// wantField checks that an error names a field, and nothing of what was given.
func wantField(t testing.TB, err error, field string) {
	t.Helper()
	s := wantStatus(t, err, codes.InvalidArgument, "INVALID")
	bad := detail[*errdetails.BadRequest](s)
	if !slices.ContainsFunc(bad.GetFieldViolations(), func(v *errdetails.BadRequest_FieldViolation) bool {
		return v.GetField() == field && v.GetDescription() != ""
	}) {
		t.Errorf("nothing is said of field %s", field)
	}
	if !strings.Contains(s.Message(), field+": ") {
		t.Errorf("the text does not name field %s", field)
	}
}

func TestBadFieldsAreNamed(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, field string
		change      func(*v1.GetRecordRequest)
	}{
		{"no person", "nhs_number", func(r *v1.GetRecordRequest) { r.NhsNumber = "" }},
		{"wrong check digit", "nhs_number", func(r *v1.GetRecordRequest) { r.NhsNumber = "9990000019" }},
		{"spaces", "nhs_number", func(r *v1.GetRecordRequest) { r.NhsNumber = "999 000 0018" }},
		{"one digit ten times", "nhs_number", func(r *v1.GetRecordRequest) { r.NhsNumber = "1111111111" }},
		{"birth date", "birth_date", func(r *v1.GetRecordRequest) { r.BirthDate = "1980-02-30" }},
		{"no purpose", "purpose", func(r *v1.GetRecordRequest) { r.Purpose = 0 }},
		{"unknown purpose", "purpose", func(r *v1.GetRecordRequest) { r.Purpose = 9 }},
		{"unknown permission", "permission.kind", func(r *v1.GetRecordRequest) { r.Permission.Kind = 10 }},
		{"fields without a kind", "permission.kind", func(r *v1.GetRecordRequest) { r.Permission = &v1.Permission{On: "2026-01-01"} }},
		{"a field too many", "permission", func(r *v1.GetRecordRequest) { r.Permission.Reason = "x" }},
		{"a field missing", "permission", func(r *v1.GetRecordRequest) { r.Permission.Kind = v1.PermissionKind_PERMISSION_KIND_CANNOT_ASK }},
		{"a day that is none", "permission", func(r *v1.GetRecordRequest) {
			r.Permission = &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_ASKED_EARLIER, On: "yesterday"}
		}},
		{"unknown relationship", "relationship.kind", func(r *v1.GetRecordRequest) { r.Relationship = &v1.Relationship{Kind: 9} }},
		{"long text", "break_glass_reason", func(r *v1.GetRecordRequest) { r.BreakGlassReason = strings.Repeat("a", 501) }},
		{"control characters", "break_glass_reason", func(r *v1.GetRecordRequest) { r.BreakGlassReason = "a\x1b[2Jb" }},
		{"types", "types", func(r *v1.GetRecordRequest) { r.Types = []string{"condition"} }},
		{"a type twice", "types", func(r *v1.GetRecordRequest) { r.Types = []string{"Flag", "Flag"} }},
		{"a type that does not exist", "types", func(r *v1.GetRecordRequest) { r.Types = []string{"Observation", "AllergyIntolerances"} }},
		{"a type of the model only", "types", func(r *v1.GetRecordRequest) { r.Types = []string{"DomainResource"} }},
		{"a type without a name", "types", func(r *v1.GetRecordRequest) { r.Types = []string{""} }},
		{"start", "start", func(r *v1.GetRecordRequest) { r.Start = "last year" }},
		{"end", "end", func(r *v1.GetRecordRequest) { r.End = "2020-13" }},
		{"end before start", "end", func(r *v1.GetRecordRequest) { r.Start, r.End = "2020", "2019" }},
		{"a reason without breaking the glass", "break_glass_reason", func(r *v1.GetRecordRequest) { r.BreakGlassReason = "just looking" }},
		{"hour 24 of a start", "start", func(r *v1.GetRecordRequest) { r.Start = "2020-01-01T24:00:00Z" }},
		{"hour 24 of an end", "end", func(r *v1.GetRecordRequest) { r.End = "2020-01-01T24:00" }},
		{"since", "since", func(r *v1.GetRecordRequest) { r.Since = "?" }},
		{"a day of since", "since", func(r *v1.GetRecordRequest) { r.Since = "2020-01-01" }},
		{"since without seconds", "since", func(r *v1.GetRecordRequest) { r.Since = "2020-01-01T10:00Z" }},
		{"since without a zone", "since", func(r *v1.GetRecordRequest) { r.Since = "2020-01-01T10:00:00" }},
		{"hour 24 of since", "since", func(r *v1.GetRecordRequest) { r.Since = "2020-01-01T24:00:00Z" }},
		{"size", "max_response_bytes", func(r *v1.GetRecordRequest) { r.MaxResponseBytes = -1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := good()
			c.change(in)
			_, err := w.record.GetRecord(as(t, "doctor"), in)
			wantField(t, err, c.field)
		})
	}
	if w.broker.calls != 0 {
		t.Errorf("%d bad requests reached the broker", w.broker.calls)
	}
	if got := w.broker.unread.Load(); got < 10 {
		t.Errorf("%d bad requests are on record, want one each (L-6)", got)
	}
}

// Every kind of refusal has its row, and its details say what may be said.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	statuses := answer().Statuses
	for _, c := range []struct {
		kind   broker.Kind
		code   codes.Code
		reason string
	}{
		{broker.Invalid, codes.InvalidArgument, "INVALID"}, {broker.Suppressed, codes.PermissionDenied, "SUPPRESSED"},
		{broker.Forbidden, codes.PermissionDenied, "FORBIDDEN"}, {broker.NotFound, codes.NotFound, "NOT_FOUND"},
		{broker.Transient, codes.Unavailable, "TRANSIENT"}, {broker.Overloaded, codes.Unavailable, "OVERLOADED"},
		{broker.OutOfTime, codes.DeadlineExceeded, "TIMEOUT"}, {broker.UseStream, codes.ResourceExhausted, "USE_STREAM"},
		{broker.Gone, codes.Canceled, "CANCELLED"}, {"of tomorrow", codes.Internal, "INTERNAL"},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			w.broker.err = &broker.Refusal{Kind: c.kind, Reason: consent.ReasonObjection, Rule: "C-2.7", Statuses: statuses, RetryAfter: 2 * time.Second,
				Receipt: audit.Receipt{Origin: "test/ledger", Position: 9}, Explanation: consent.Explanation{Rule: "C-2.7", Reason: consent.ReasonObjection, Preference: 4,
					Recorded: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), Text: "In words."}}
			_, err := w.record.GetRecord(as(t, "doctor"), good())
			s := wantStatus(t, err, c.code, c.reason)
			stream, err := w.record.StreamRecord(as(t, "doctor"), &v1.StreamRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT})
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			inStream := wantStatus(t, err, c.code, c.reason)
			same := func(a, b any) bool { return proto.Equal(a.(proto.Message), b.(proto.Message)) }
			if s.Message() != inStream.Message() || !slices.EqualFunc(s.Details(), inStream.Details(), same) {
				t.Error("a stream is refused in other words")
			}
			if c.reason == "INTERNAL" {
				return
			}
			info := detail[*errdetails.ErrorInfo](s).GetMetadata()
			got := detail[*v1.Receipt](s)
			if c.kind == broker.NotFound {
				if len(info) != 0 || got != nil {
					t.Error("the neutral answer tells its reason")
				}
			} else if info["rule"] != "C-2.7" || info["why"] != "objection" || got.GetPosition() != 9 {
				t.Error("rule, reason or receipt is missing")
			} else if info["explanation"] != "In words." || info["preference"] != "4" || info["recorded"] != "2026-03-01T09:00:00Z" {
				t.Error("the explanation, the person's choice or its date is missing")
			}
			list := detail[*v1.CustodianStatuses](s).GetCustodians()
			if len(list) != 2 || list[0].GetCustodian().GetKey() != "acute" {
				t.Error("the custodians are missing, or those in trouble do not come first")
			}
			if detail[*errdetails.RetryInfo](s).GetRetryDelay().AsDuration() != 2*time.Second {
				t.Error("nothing says when to ask again")
			}
		})
	}
	w.broker.err = &broker.Refusal{Kind: broker.Invalid, Field: "custodian: no such custodian; ListCustodians names them"}
	_, err := w.record.GetRecord(as(t, "doctor"), good())
	wantField(t, err, "custodian")
	w.broker.err = errors.New("Zebra")
	_, err = w.record.GetRecord(as(t, "doctor"), good())
	if s := wantStatus(t, err, codes.Internal, "INTERNAL"); strings.Contains(s.String(), "Zebra") {
		t.Error("an unknown error's text crossed the wire")
	}
}

func TestErrorsFitIntoHeaders(t *testing.T) {
	var many []record.Status
	for i := range 200 {
		s := answer().Statuses[i%2]
		s.Custodian.Contact = strings.Repeat("ring us ", 20)
		many = append(many, s)
	}
	m := statusesThatFit(many)
	if size := proto.Size(m); size > maxDetails+200 || len(m.GetCustodians()) == 0 {
		t.Errorf("got %d bytes with %d custodians", size, len(m.GetCustodians()))
	}
	if len(m.GetCustodians())+int(m.GetLeftOut()) != 200 {
		t.Error("custodians were lost without a word")
	}
}

func TestListCustodians(t *testing.T) {
	w := newWorld(t)
	last := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	w.broker.health = []broker.CustodianHealth{{Custodian: gp, Adapter: "fhirr4/1", Breaker: "half-open", LastState: record.TimedOut, LastAnswer: last},
		{Custodian: acute, Adapter: "fhirr4/1", Breaker: "closed"}}
	out, err := w.record.ListCustodians(as(t, "doctor"), &v1.ListCustodiansRequest{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := out.GetCustodians()[0], out.GetCustodians()[1]
	if a.GetBreaker() != v1.BreakerState_BREAKER_STATE_HALF_OPEN || a.GetLastState() != v1.CustodianState_CUSTODIAN_STATE_TIMED_OUT || !a.GetLastAnswer().AsTime().Equal(last) {
		t.Error("the first custodian is wrong")
	}
	if b.GetBreaker() != v1.BreakerState_BREAKER_STATE_CLOSED || b.GetLastState() != 0 || b.GetLastAnswer() != nil {
		t.Error("the second custodian has a past")
	}
	calls := w.broker.calls
	_, err = w.record.ListCustodians(as(t, "engine"), &v1.ListCustodiansRequest{})
	if s := wantStatus(t, err, codes.PermissionDenied, "FORBIDDEN"); detail[*errdetails.ErrorInfo](s).GetMetadata()["why"] != string(consent.ReasonNoActingPerson) {
		t.Error("nothing says that the system must name the person it acts for")
	}
	if w.broker.calls != calls || w.broker.unread.Load() != 1 {
		t.Error("a system that acts for nobody was told, or it is not on record")
	}
}

func TestStreamOrderAndParts(t *testing.T) {
	w := newWorld(t)
	big := entry("gp", "DocumentReference", "gp-big", 2*maxEntry+10)
	w.broker.answer = answer()
	w.broker.answer.Entries = []merge.Entry{{FullURL: "https://x.example/fhir/OperationOutcome/o", Type: "OperationOutcome", ID: "o", Mode: merge.Outcome,
		JSON: resource("OperationOutcome", "o", 50)}}
	w.broker.chunks = [][]merge.Entry{{entry("gp", "Condition", "gp-1", 100), big}, nil}
	s, err := w.record.StreamRecord(as(t, "doctor"), &v1.StreamRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT})
	if err != nil {
		t.Fatal(err)
	}
	var story []string
	var whole bytes.Buffer
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case m.GetPlan() != nil:
			p := m.GetPlan()
			story = append(story, fmt.Sprintf("plan %s %d %d", p.GetHandle(), len(p.GetCustodians()), p.GetCustodians()[0].GetState()))
		case m.GetEntry() != nil:
			e := m.GetEntry()
			story = append(story, fmt.Sprintf("entry %s %d/%d %s", e.GetId(), e.GetPart(), e.GetParts(), e.GetMode()))
			if e.GetId() == "gp-big" {
				whole.Write(e.GetResource())
			}
			if e.GetMode() == v1.SearchMode_SEARCH_MODE_MATCH && (e.GetSection() != v1.Section_SECTION_HISTORY ||
				!slices.Equal(e.GetOtherSections(), []v1.Section{v1.Section_SECTION_MENTAL_HEALTH}) || e.GetTime().GetPrecision() != v1.Precision_PRECISION_MONTH ||
				e.GetTime().GetElement() != "onsetDateTime" || e.GetCustodian() != "gp") {
				t.Errorf("%s: section, time or custodian is wrong", e.GetId())
			}
			if e.GetMode() == v1.SearchMode_SEARCH_MODE_OUTCOME && (e.GetSection() != 0 || e.GetTime() != nil) {
				t.Error("an outcome has a section or a time")
			}
		case m.GetCustodian() != nil:
			c := m.GetCustodian()
			story = append(story, fmt.Sprintf("custodian %s %s %d", c.GetStatus().GetCustodian().GetKey(), c.GetStatus().GetState(), c.GetReceipt().GetPosition()))
		case m.GetSummary() != nil:
			x := m.GetSummary()
			story = append(story, fmt.Sprintf("summary %d/%d %d of %d, %d custodians, receipt %d", x.GetPart(), x.GetParts(), len(x.GetOrder()), x.GetTotal(), len(x.GetCustodians()), x.GetReceipt().GetPosition()))
		}
	}
	want := []string{"plan handle 2 0", "entry gp-1 1/1 SEARCH_MODE_MATCH", "entry gp-big 1/3 SEARCH_MODE_MATCH", "entry gp-big 2/3 SEARCH_MODE_MATCH",
		"entry gp-big 3/3 SEARCH_MODE_MATCH", "custodian gp CUSTODIAN_STATE_RETURNED_IN_PART 7", "custodian acute CUSTODIAN_STATE_TIMED_OUT 7",
		"entry o 1/1 SEARCH_MODE_OUTCOME", "summary 1/1 3 of 1, 2 custodians, receipt 7"}
	if !slices.Equal(story, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
	}
	if !bytes.Equal(whole.Bytes(), big.JSON) {
		t.Error("the parts do not make the resource")
	}
	if r := lastRequest(t, w); r.Face != "stream" || r.Operation != "StreamRecord" || r.MaxBytes != 0 {
		t.Error("the broker was asked for something else")
	}
}

func TestLongOrderIsCut(t *testing.T) {
	var order []string
	for i := range 60_000 {
		order = append(order, fmt.Sprintf("https://x.example/fhir/Observation/gp-%032d", i))
	}
	pieces := cutOrder(order)
	if len(pieces) < 3 || !slices.Equal(slices.Concat(pieces...), order) {
		t.Fatalf("got %d pieces that do not make the order", len(pieces))
	}
	for _, p := range pieces {
		if size := proto.Size(&v1.StreamSummary{Order: p}); size > maxOrder || size == 0 {
			t.Errorf("a piece has %d bytes", size)
		}
	}
	if got := cutOrder(nil); len(got) != 1 || len(got[0]) != 0 {
		t.Error("an empty answer has no summary")
	}
}

// A stream that breaks after its plan ends with an error and without a summary.
func TestBrokenStreamIsNotWhole(t *testing.T) {
	w := newWorld(t)
	w.broker.answer, w.broker.chunks = answer(), [][]merge.Entry{nil, nil}
	w.broker.midway = &broker.Refusal{Kind: broker.Transient}
	s, err := w.record.StreamRecord(as(t, "doctor"), &v1.StreamRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != nil || m.GetPlan() == nil {
		t.Fatal("no plan came")
	}
	_, err = s.Recv()
	wantStatus(t, err, codes.Unavailable, "TRANSIENT")
}

// A caller who does not read is given up: the record leaves memory, and the broker hears that the caller left.
func TestCallerWhoDoesNotReadIsGivenUp(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Stall = 100 * time.Millisecond })
	w.broker.answer, w.broker.chunks = answer(), [][]merge.Entry{nil, nil}
	for i := range 40 {
		w.broker.chunks[0] = append(w.broker.chunks[0], entry("gp", "DocumentReference", fmt.Sprint("gp-", i), maxEntry))
	}
	s, err := w.record.StreamRecord(as(t, "doctor"), &v1.StreamRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT})
	if err != nil {
		t.Fatal(err)
	}
	for gone := time.After(15 * time.Second); ; { // not reading at all
		w.broker.mu.Lock()
		said := w.broker.sinkErr
		w.broker.mu.Unlock()
		if said != nil {
			break
		}
		select {
		case <-gone:
			t.Fatal("the handler still waits")
		case <-time.After(10 * time.Millisecond):
		}
	}
	for err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELLED", status.Code(err))
	}
}

// TestGroupsInTheSummary holds that a stream's summary says which entries are likely duplicates, all of them and in order, however many messages it takes.
func TestGroupsInTheSummary(t *testing.T) {
	var list []merge.Group
	for i := range 9000 {
		list = append(list, merge.Group{Number: i + 1, Certain: i%2 == 0, Differs: []string{"Observation.valueQuantity.value"},
			Members: []string{fmt.Sprintf("https://x.example/fhir/Observation/gp-%032d", i), fmt.Sprintf("https://x.example/fhir/Observation/acute-%032d", i)}})
	}
	pieces := cutGroups(list)
	if len(pieces) < 2 {
		t.Fatalf("%d pieces", len(pieces))
	}
	for _, p := range pieces {
		if size := proto.Size(&v1.StreamSummary{Groups: p}); size > maxOrder+maxOrder/8 || size == 0 {
			t.Errorf("a piece has %d bytes", size)
		}
	}
	w := newWorld(t)
	w.broker.answer, w.broker.chunks = answer(), [][]merge.Entry{nil, nil}
	w.broker.answer.Groups = list
	s, err := w.record.StreamRecord(as(t, "doctor"), &v1.StreamRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT})
	if err != nil {
		t.Fatal(err)
	}
	var got []*v1.EntryGroup
	var last *v1.StreamSummary
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if x := m.GetSummary(); x != nil {
			last = x
			got = append(got, x.GetGroups()...)
		}
	}
	if len(got) != len(list) || last.GetPart() != last.GetParts() || last.GetReceipt() == nil {
		t.Fatalf("%d groups of %d", len(got), len(list))
	}
	for i, g := range got {
		if w := list[i]; int(g.GetNumber()) != w.Number || g.GetCertain() != w.Certain || !slices.Equal(g.GetMembers(), w.Members) || !slices.Equal(g.GetDiffers(), w.Differs) {
			t.Fatalf("group %d is another", i)
		}
	}
}
