package test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// badCall is one gRPC call that must not be served.
type badCall struct {
	name   string
	as     string   // persona; "": ed-doctor
	bears  []string // metadata in place of a token
	more   []string // further metadata
	fields []string // of the token
	ask    proto.Message
	within time.Duration // deadline; 0: plenty

	code  grpccodes.Code
	field string // of google.rpc.BadRequest; "": none
	why   string // reason of google.rpc.ErrorInfo
	says  string // in the text or in the description of the field
}

// good is a request that would be served, with one thing changed.
func good(change func(*mycarerecordv1.GetRecordRequest)) *mycarerecordv1.GetRecordRequest {
	r := &mycarerecordv1.GetRecordRequest{NhsNumber: cohort.Margaret, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT,
		Permission:   &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_ASKED_YES},
		Relationship: &mycarerecordv1.Relationship{Kind: mycarerecordv1.RelationshipKind_RELATIONSHIP_KIND_ADMISSION}}
	if change != nil {
		change(r)
	}
	return r
}

func goodObjection(change func(*mycarerecordv1.RecordObjectionRequest)) *mycarerecordv1.RecordObjectionRequest {
	r := &mycarerecordv1.RecordObjectionRequest{NhsNumber: cohort.Margaret, BirthDate: "1941-06-02", Scope: mycarerecordv1.ObjectionScope_OBJECTION_SCOPE_SECTION,
		Section: mycarerecordv1.Section_SECTION_MENTAL_HEALTH, Method: mycarerecordv1.ObjectionMethod_OBJECTION_METHOD_FORM, Reason: "asked at the desk"}
	change(r)
	return r
}

// badGRPC returns what was sent that may be repeated nowhere.
func badGRPC(t *testing.T, n *neighbourhood.Neighbourhood) (sent []string) {
	conn := n.Dial(t)
	for _, c := range slices.Concat(badQuestions(), badCallers(n, t), badOthers()) {
		t.Run(c.name, func(t *testing.T) {
			bears := c.bears
			if bears == nil {
				as := c.as
				if as == "" {
					as = "ed-doctor"
				}
				bears = []string{"authorization", "Bearer " + n.Token(t, as, c.fields...)}
			}
			for method, ask := range methodsOf(c.ask) {
				before, began := counters(t, n), time.Now()
				ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), append(slices.Clone(bears), c.more...)...), neighbourhood.CallTime)
				if c.within > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.within)
				}
				err := invoke(ctx, conn, method, ask)
				cancel()
				if took := time.Since(began); c.within > 0 && took > c.within*3/4 {
					t.Errorf("%s took %v: it was not refused at once", method, took)
				}
				c.refusedWell(t, method, err)
				if !maps.Equal(counters(t, n), before) {
					t.Errorf("%s: a custodian was asked", method)
				}
				for what, s := range valuesOf(t, ask, bears, c.more) {
					sent = append(sent, s)
					if text := status.Convert(err).Proto().String(); strings.Contains(text, s) {
						t.Errorf("%s: the answer repeats %s", method, what)
					}
				}
			}
		})
	}
	return sent
}

func (c badCall) refusedWell(t *testing.T, method string, err error) {
	t.Helper()
	s := status.Convert(err)
	var why, described string
	fields := map[string]bool{}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			why = d.GetReason()
			described += " " + d.GetMetadata()["why"] + " " + d.GetMetadata()["rule"]
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				fields[v.GetField()] = true
				described += " " + v.GetDescription()
			}
		}
	}
	if s.Code() != c.code || why != c.why {
		t.Errorf("%s: got %v %s, want %v %s; it says: %s", method, s.Code(), why, c.code, c.why, s.Message())
	}
	if c.field != "" && !fields[c.field] || c.field == "" && len(fields) > 0 {
		t.Errorf("%s: it names the fields %v, want %q; it says: %s", method, slices.Collect(maps.Keys(fields)), c.field, s.Message())
	}
	if len(s.Message()) < 10 || !strings.Contains(s.Message()+described, c.says) {
		t.Errorf("%s: it says: %s (%s); want %q in it", method, s.Message(), strings.TrimSpace(described), c.says)
	}
}

// methodsOf are the methods to which a request goes: both of the record, with the same fields, or the one of its type.
func methodsOf(ask proto.Message) map[string]proto.Message {
	switch r := ask.(type) {
	case *mycarerecordv1.GetRecordRequest:
		return map[string]proto.Message{
			mycarerecordv1.RecordService_GetRecord_FullMethodName: r,
			mycarerecordv1.RecordService_StreamRecord_FullMethodName: &mycarerecordv1.StreamRecordRequest{NhsNumber: r.GetNhsNumber(), BirthDate: r.GetBirthDate(),
				Purpose: r.GetPurpose(), Permission: r.GetPermission(), Relationship: r.GetRelationship(), BreakGlassReason: r.GetBreakGlassReason(),
				Types: r.GetTypes(), Start: r.GetStart(), End: r.GetEnd(), Since: r.GetSince()},
		}
	case *mycarerecordv1.ListCustodiansRequest:
		return map[string]proto.Message{mycarerecordv1.RecordService_ListCustodians_FullMethodName: r}
	case *mycarerecordv1.RecordObjectionRequest:
		return map[string]proto.Message{mycarerecordv1.ConsentService_RecordObjection_FullMethodName: r}
	case *mycarerecordv1.WithdrawObjectionRequest:
		return map[string]proto.Message{mycarerecordv1.ConsentService_WithdrawObjection_FullMethodName: r}
	case *mycarerecordv1.ShowObjectionsRequest:
		return map[string]proto.Message{mycarerecordv1.ConsentService_ShowObjections_FullMethodName: r}
	case *mycarerecordv1.SearchAccessesRequest:
		return map[string]proto.Message{mycarerecordv1.AuditService_SearchAccesses_FullMethodName: r}
	}
	return map[string]proto.Message{"/mycarerecord.v1.RecordService/DeleteRecord": ask}
}

// invoke calls a method and drops what it answers.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string, ask proto.Message) error {
	if method != mycarerecordv1.RecordService_StreamRecord_FullMethodName {
		return conn.Invoke(ctx, method, ask, &mycarerecordv1.ListCustodiansRequest{}) //nolint:wrapcheck // looked at as it is
	}
	s, err := mycarerecordv1.NewRecordServiceClient(conn).StreamRecord(ctx, ask.(*mycarerecordv1.StreamRecordRequest))
	for err == nil {
		_, err = s.Recv()
	}
	return err
}

// valuesOf are what was sent of a person, as free text or as a token: none of it may come back.
func valuesOf(t *testing.T, ask proto.Message, bears, more []string) map[string]string {
	t.Helper()
	text, err := protojson.Marshal(ask)
	if err != nil && !strings.Contains(err.Error(), "UTF-8") {
		t.Fatal("a request cannot be written")
	}
	all := string(text) + strings.Join(more, " ") + strings.Join(bears, " ")
	out := map[string]string{}
	if strings.Contains(all, marker) {
		out["a value"] = marker
	}
	for _, number := range append(slices.Collect(maps.Values(notNumbers)), cohort.Margaret, cohort.Dev) {
		if strings.Contains(all, number) {
			out["a number"] = number
		}
	}
	for _, b := range bears {
		if token, is := strings.CutPrefix(b, "Bearer "); is && len(token) > 20 {
			out["a token"] = token
		}
	}
	return out
}

func badQuestions() []badCall {
	type r = mycarerecordv1.GetRecordRequest
	invalid := func(name, field, says string, change func(*r)) badCall {
		return badCall{name: name, ask: good(change), code: grpccodes.InvalidArgument, field: field, why: "INVALID", says: says}
	}
	forbidden := func(name, says string, change func(*r)) badCall {
		return badCall{name: name, ask: good(change), code: grpccodes.PermissionDenied, why: "FORBIDDEN", says: says}
	}
	var out []badCall
	for what, number := range notNumbers {
		out = append(out, invalid("number with "+what, "nhs_number", "ten digits", func(x *r) { x.NhsNumber = number }))
	}
	return append(out,
		invalid("no number", "nhs_number", "ten digits", func(x *r) { x.NhsNumber = "" }),
		invalid("a birth date that is none", "birth_date", "YYYY-MM-DD", func(x *r) { x.BirthDate = "1941-13-" + marker }),
		invalid("no purpose", "purpose", "PURPOSE_TREAT", func(x *r) { x.Purpose = 0 }),
		invalid("a purpose that does not exist", "purpose", "PURPOSE_TREAT", func(x *r) { x.Purpose = 99 }),
		invalid("a permission that does not exist", "permission.kind", "one of the kinds", func(x *r) { x.Permission.Kind = 99 }),
		invalid("a permission that needs a day", "permission", "needs on=", func(x *r) {
			x.Permission.Kind = mycarerecordv1.PermissionKind_PERMISSION_KIND_ASKED_EARLIER
		}),
		invalid("a permission with what it does not take", "permission", "takes no parameter", func(x *r) { x.Permission.Reason = marker }),
		invalid("a reason with a quotation mark", "permission", "", func(x *r) {
			x.Permission = &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, Reason: marker + `" `}
		}),
		invalid("a reason that is too long", "permission", "500 bytes", func(x *r) {
			x.Permission = &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, Reason: strings.Repeat(marker+" ", 45)}
		}),
		invalid("a relationship that does not exist", "relationship.kind", "one of the kinds", func(x *r) { x.Relationship.Kind = 99 }),
		invalid("a break-glass reason that is too long", "break_glass_reason", "500 bytes", func(x *r) {
			x.Purpose, x.BreakGlassReason = mycarerecordv1.Purpose_PURPOSE_BTG, strings.Repeat(marker+" ", 45)
		}),
		invalid("types that are none", "types", "FHIR resource types", func(x *r) { x.Types = []string{"not a " + marker} }),
		invalid("a type twice", "types", "each once", func(x *r) { x.Types = []string{"Observation", "Observation"} }),
		invalid("a start that is no date", "start", "FHIR date", func(x *r) { x.Start = marker }),
		invalid("an end that is no date", "end", "FHIR date", func(x *r) { x.End = marker }),
		invalid("an end before the start", "end", "before start", func(x *r) { x.Start, x.End = "2024-02", "2024-01" }),
		invalid("a since that is no time", "since", "FHIR date", func(x *r) { x.Since = marker }),
		forbidden("break-glass with too short a reason", "break-glass-reason", func(x *r) {
			x.Purpose, x.Permission, x.Relationship, x.BreakGlassReason = mycarerecordv1.Purpose_PURPOSE_BTG, nil, nil, "help"
		}),
		badCall{name: "an over-long request", ask: good(func(x *r) { x.BreakGlassReason = strings.Repeat(marker, 200<<10) }), code: grpccodes.ResourceExhausted, says: "larger than max"},
		badCall{name: "less time than the minimum", ask: good(nil), within: 400 * time.Millisecond, code: grpccodes.DeadlineExceeded, why: "TIMEOUT", says: "allow more"},
	)
}

func badCallers(n *neighbourhood.Neighbourhood, t *testing.T) []badCall {
	token := n.Token(t, "ed-doctor")
	unknown := func(name string, bears ...string) badCall {
		return badCall{name: name, bears: append([]string{}, bears...), ask: good(nil), code: grpccodes.Unauthenticated, why: "UNAUTHENTICATED", says: "authorization: Bearer"}
	}
	apart := func(name, field, says string) badCall {
		return badCall{name: "token and request differ in " + name, fields: []string{says}, ask: good(nil), code: grpccodes.InvalidArgument, field: field, why: "INVALID", says: "they must agree"}
	}
	forbidden := func(name, as, says string, more ...string) badCall {
		return badCall{name: name, as: as, more: more, ask: good(nil), code: grpccodes.PermissionDenied, why: "FORBIDDEN", says: says}
	}
	expired := unknown("an expired token", "authorization", "Bearer "+n.Token(t, "ed-doctor", "ttl=-120"))
	expired.why, expired.says = "EXPIRED", "sign in again"
	return []badCall{
		unknown("no token"),
		unknown("a password", "authorization", "Basic "+marker),
		unknown("a token that is none", "authorization", "Bearer "+marker+marker),
		unknown("a token of another issuer's key", "authorization", "Bearer "+forged(t, token)),
		expired,
		{name: "two tokens", bears: []string{"authorization", "Bearer " + token, "authorization", "Bearer " + n.Token(t, "gp")}, ask: good(nil), code: grpccodes.InvalidArgument,
			field: "authorization", why: "INVALID", says: "once"},
		{name: "an acting person where nobody needs one", more: []string{"acting-person", token}, ask: good(nil), code: grpccodes.InvalidArgument, field: "acting-person", why: "INVALID", says: "leave it out"},
		apart("the person", "nhs_number", "nhs_number="+cohort.Dev),
		apart("the purpose", "purpose", "purpose=ETREAT"),
		apart("the permission", "permission", `permission=cannot-ask; reason="`+marker+`"`),
		apart("the relationship", "relationship", `relationship=admission; ref="`+marker+`"`),
		forbidden("a stranger", "stranger", "role"),
		forbidden("a role that may not ask", "front-desk", "role"),
		forbidden("an engine that names nobody", "engine", "no-acting-person"),
		forbidden("an engine that names nobody we can read", "engine", "no-acting-person", "acting-person", marker),
		{name: "a list for nobody", bears: []string{}, ask: &mycarerecordv1.ListCustodiansRequest{}, code: grpccodes.Unauthenticated, why: "UNAUTHENTICATED", says: "sign in"},
	}
}

func badOthers() []badCall {
	type r = mycarerecordv1.RecordObjectionRequest
	objection := func(name, field, says string, change func(*r)) badCall {
		return badCall{name: "objection: " + name, as: "ig-officer", ask: goodObjection(change), code: grpccodes.InvalidArgument, field: field, why: "INVALID", says: says}
	}
	search := func(name, field, says string, ask *mycarerecordv1.SearchAccessesRequest) badCall {
		return badCall{name: "search: " + name, as: "ig-officer", ask: ask, code: grpccodes.InvalidArgument, field: field, why: "INVALID", says: says}
	}
	return []badCall{
		objection("no section", "section", "", func(x *r) { x.Section = 0 }),
		objection("a section that does not exist", "section", "", func(x *r) { x.Section = 99 }),
		objection("no scope", "scope", "", func(x *r) { x.Scope = 0 }),
		objection("a custodian that does not exist", "custodian", "", func(x *r) {
			x.Scope, x.Section, x.Custodian = mycarerecordv1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, 0, strings.ToLower(marker)
		}),
		objection("a number that is none", "nhs_number", "ten digits", func(x *r) { x.NhsNumber = notNumbers["another check digit"] }),
		objection("no birth date", "birth_date", "YYYY-MM-DD", func(x *r) { x.BirthDate = "" }),
		objection("a method that does not exist", "method", "", func(x *r) { x.Method = 99 }),
		objection("a start that is no time", "from", "", func(x *r) { x.From = marker }),
		objection("a reason that is too long", "reason", "500 bytes", func(x *r) { x.Reason = strings.Repeat(marker+" ", 45) }),
		{name: "objection: a role that records none", ask: goodObjection(func(*r) {}), code: grpccodes.PermissionDenied, why: "FORBIDDEN", says: "role"},
		{name: "withdrawal of nothing", as: "ig-officer", ask: &mycarerecordv1.WithdrawObjectionRequest{NhsNumber: cohort.Dev, BirthDate: "1990-01-01"}, code: grpccodes.InvalidArgument,
			field: "objection_id", why: "INVALID"},
		{name: "objections of a number that is none", as: "ig-officer", ask: &mycarerecordv1.ShowObjectionsRequest{NhsNumber: notNumbers["a letter"], BirthDate: "1990-01-01"}, code: grpccodes.InvalidArgument,
			field: "nhs_number", why: "INVALID", says: "ten digits"},
		search("no reason", "reason", "why", &mycarerecordv1.SearchAccessesRequest{NhsNumber: cohort.Margaret}),
		search("a number that is none", "nhs_number", "ten digits", &mycarerecordv1.SearchAccessesRequest{NhsNumber: notNumbers["a letter"], Reason: "asked"}),
		search("a start that is no time", "from", "", &mycarerecordv1.SearchAccessesRequest{From: marker, Reason: "asked"}),
		search("too many at once", "limit", "1,000", &mycarerecordv1.SearchAccessesRequest{Limit: 1001, Reason: "asked"}),
		search("a type that does not exist", "types", "", &mycarerecordv1.SearchAccessesRequest{Types: []mycarerecordv1.EntryType{99}, Reason: "asked"}),
		{name: "search: a role that searches nothing", ask: &mycarerecordv1.SearchAccessesRequest{Reason: "asked"}, code: grpccodes.PermissionDenied, why: "FORBIDDEN", says: "role"},
		{name: "a method that does not exist", ask: &errdetails.ErrorInfo{Reason: marker}, code: grpccodes.Unimplemented, says: "unknown method"},
	}
}
