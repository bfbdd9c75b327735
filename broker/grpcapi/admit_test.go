package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// every calls each method once and returns its error, by full name.
func every(w *world, ctx context.Context) map[string]error {
	out := map[string]error{}
	_, out[v1.RecordService_GetRecord_FullMethodName] = w.record.GetRecord(ctx, good())
	_, out[v1.RecordService_ListCustodians_FullMethodName] = w.record.ListCustodians(ctx, &v1.ListCustodiansRequest{})
	_, out[v1.ConsentService_RecordObjection_FullMethodName] = w.consent.RecordObjection(ctx, &v1.RecordObjectionRequest{})
	_, out[v1.ConsentService_WithdrawObjection_FullMethodName] = w.consent.WithdrawObjection(ctx, &v1.WithdrawObjectionRequest{})
	_, out[v1.ConsentService_ShowObjections_FullMethodName] = w.consent.ShowObjections(ctx, &v1.ShowObjectionsRequest{})
	_, out[v1.ConsentService_DecideObjection_FullMethodName] = w.consent.DecideObjection(ctx, &v1.DecideObjectionRequest{})
	_, out[v1.ConsentService_RecordDelegation_FullMethodName] = w.consent.RecordDelegation(ctx, &v1.RecordDelegationRequest{})
	_, out[v1.ConsentService_WithdrawDelegation_FullMethodName] = w.consent.WithdrawDelegation(ctx, &v1.WithdrawDelegationRequest{})
	_, out[v1.ConsentService_ShowDelegations_FullMethodName] = w.consent.ShowDelegations(ctx, &v1.ShowDelegationsRequest{})
	_, out[v1.AuditService_ListOverrides_FullMethodName] = w.audit.ListOverrides(ctx, &v1.ListOverridesRequest{})
	_, out[v1.AuditService_ReviewOverride_FullMethodName] = w.audit.ReviewOverride(ctx, &v1.ReviewOverrideRequest{})
	_, out[v1.AuditService_SearchAccesses_FullMethodName] = w.audit.SearchAccesses(ctx, &v1.SearchAccessesRequest{})
	_, out[v1.AuditService_Ask_FullMethodName] = w.audit.Ask(ctx, &v1.AskRequest{})
	_, out[v1.AuditService_Total_FullMethodName] = w.audit.Total(ctx, &v1.TotalRequest{})
	_, out[v1.AuditService_ShowView_FullMethodName] = w.audit.ShowView(ctx, &v1.ShowViewRequest{})
	_, out[v1.AuditService_ForeseeView_FullMethodName] = w.audit.ForeseeView(ctx, &v1.ForeseeViewRequest{})
	_, out[v1.AuditService_GetCheckpoint_FullMethodName] = w.audit.GetCheckpoint(ctx, &v1.GetCheckpointRequest{})
	_, out[v1.AuditService_ListCheckpoints_FullMethodName] = w.audit.ListCheckpoints(ctx, &v1.ListCheckpointsRequest{})
	_, out[v1.AuditService_ProveInclusion_FullMethodName] = w.audit.ProveInclusion(ctx, &v1.ProveInclusionRequest{})
	_, out[v1.AuditService_ProveConsistency_FullMethodName] = w.audit.ProveConsistency(ctx, &v1.ProveConsistencyRequest{})
	list := v1.NewWorklistServiceClient(w.conn)
	_, out[v1.WorklistService_ListAlerts_FullMethodName] = list.ListAlerts(ctx, &v1.ListAlertsRequest{})
	_, out[v1.WorklistService_GetAlert_FullMethodName] = list.GetAlert(ctx, &v1.GetAlertRequest{})
	_, out[v1.WorklistService_TakeAlert_FullMethodName] = list.TakeAlert(ctx, &v1.TakeAlertRequest{})
	_, out[v1.WorklistService_CloseAlert_FullMethodName] = list.CloseAlert(ctx, &v1.CloseAlertRequest{})
	_, out[v1.WorklistService_ReopenAlert_FullMethodName] = list.ReopenAlert(ctx, &v1.ReopenAlertRequest{})
	_, out[v1.WorklistService_Summarise_FullMethodName] = list.Summarise(ctx, &v1.SummariseRequest{})
	x, err := w.audit.ExportEntries(ctx, &v1.ExportEntriesRequest{})
	if err == nil {
		_, err = x.Recv()
	}
	out[v1.AuditService_ExportEntries_FullMethodName] = err
	s, err := w.record.StreamRecord(ctx, &v1.StreamRecordRequest{})
	if err == nil {
		_, err = s.Recv()
	}
	out[v1.RecordService_StreamRecord_FullMethodName] = err
	return out
}

// served is the whole list of what a server answers to. A new line here is a new way in: it needs a reviewer.
var served = []string{
	"/grpc.health.v1.Health/Check anybody",
	"/grpc.health.v1.Health/List nobody",
	"/grpc.health.v1.Health/Watch nobody",
	"/mycarerecord.v1.AuditService/Ask token",
	"/mycarerecord.v1.AuditService/ExportEntries token",
	"/mycarerecord.v1.AuditService/ForeseeView token",
	"/mycarerecord.v1.AuditService/GetCheckpoint token",
	"/mycarerecord.v1.AuditService/ListCheckpoints token",
	"/mycarerecord.v1.AuditService/ListOverrides token",
	"/mycarerecord.v1.AuditService/ProveConsistency token",
	"/mycarerecord.v1.AuditService/ProveInclusion token",
	"/mycarerecord.v1.AuditService/ReviewOverride token",
	"/mycarerecord.v1.AuditService/SearchAccesses token",
	"/mycarerecord.v1.AuditService/ShowView token",
	"/mycarerecord.v1.AuditService/Total token",
	"/mycarerecord.v1.ConsentService/AcknowledgeChanges token",
	"/mycarerecord.v1.ConsentService/DecideObjection token",
	"/mycarerecord.v1.ConsentService/ExportObjections token",
	"/mycarerecord.v1.ConsentService/ImportObjections token",
	"/mycarerecord.v1.ConsentService/ListChanges token",
	"/mycarerecord.v1.ConsentService/RecordDelegation token",
	"/mycarerecord.v1.ConsentService/RecordObjection token",
	"/mycarerecord.v1.ConsentService/ShowDelegations token",
	"/mycarerecord.v1.ConsentService/ShowObjections token",
	"/mycarerecord.v1.ConsentService/WithdrawDelegation token",
	"/mycarerecord.v1.ConsentService/WithdrawObjection token",
	"/mycarerecord.v1.RecordService/GetDocument token",
	"/mycarerecord.v1.RecordService/GetRecord token",
	"/mycarerecord.v1.RecordService/ListCustodians token",
	"/mycarerecord.v1.RecordService/StreamRecord token",
	"/mycarerecord.v1.WorklistService/CloseAlert token",
	"/mycarerecord.v1.WorklistService/GetAlert token",
	"/mycarerecord.v1.WorklistService/ListAlerts token",
	"/mycarerecord.v1.WorklistService/ReopenAlert token",
	"/mycarerecord.v1.WorklistService/Summarise token",
	"/mycarerecord.v1.WorklistService/TakeAlert token",
}

func TestServedMethodsAreTheListedOnes(t *testing.T) {
	for _, reflects := range []bool{false, true} {
		want := slices.Clone(served)
		if reflects {
			want = append(want, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo anybody",
				"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo anybody")
		}
		cfg := Config{Broker: &fakeBroker{}, Verifier: fakeVerifier{}, Policy: fakeRoles{}, Ledger: &fakeLedger{}, Reflection: reflects}
		g := newGate(cfg)
		var got []string
		for service, info := range New(cfg).GetServiceInfo() {
			for _, m := range info.Methods {
				name := "/" + service + "/" + m.Name
				got = append(got, name+" "+[...]string{nobody: "nobody", withToken: "token", anybody: "anybody"}[g.methods[name]])
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("reflection %v: got\n%s\nwant\n%s", reflects, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestNoMethodWithoutAToken(t *testing.T) {
	w := newWorld(t)
	for _, token := range []string{"", "made-up"} {
		results := every(w, as(t, token))
		if len(results) != 28 {
			t.Fatalf("got %d methods, want 28", len(results))
		}
		for method, err := range results {
			if s := status.Convert(err); s.Code() != codes.Unauthenticated || detail[*errdetails.ErrorInfo](s).GetReason() != "UNAUTHENTICATED" {
				t.Errorf("%s with token %q: got %v, want UNAUTHENTICATED", method, token, s.Code())
			}
		}
	}
	if w.broker.calls != 0 {
		t.Errorf("%d calls reached the broker", w.broker.calls)
	}
	if len(w.ledger.unauthenticated) != 56 {
		t.Errorf("got %d counted, want 56", len(w.ledger.unauthenticated))
	}
}

func TestKindsOfTokenTrouble(t *testing.T) {
	for _, c := range []struct {
		name, token string
		pairs       []string
		code        codes.Code
		reason      string
		counted     int
	}{
		{"expired", "expired", nil, codes.Unauthenticated, "EXPIRED", 1},
		{"keys cannot be had", "keys-down", nil, codes.Unavailable, "TRANSIENT", 0},
		{"two tokens", "doctor", []string{"authorization", "Bearer person"}, codes.InvalidArgument, "INVALID", 1},
		{"an acting person that is not wanted", "doctor", []string{"acting-person", "x.y.z"}, codes.InvalidArgument, "INVALID", 1},
		{"over the limit", "limited", nil, codes.ResourceExhausted, "THROTTLED", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.record.GetRecord(as(t, c.token, c.pairs...), good())
			s := wantStatus(t, err, c.code, c.reason)
			if len(w.ledger.unauthenticated) != c.counted || w.broker.calls != 0 {
				t.Errorf("got %d counted, %d calls; want %d and none", len(w.ledger.unauthenticated), w.broker.calls, c.counted)
			}
			if c.reason == "THROTTLED" || c.reason == "TRANSIENT" {
				if detail[*errdetails.RetryInfo](s).GetRetryDelay().AsDuration() <= 0 {
					t.Error("nothing says when to ask again")
				}
			}
			if c.reason == "THROTTLED" && w.ledger.limited != 1 {
				t.Error("the limited call was not counted")
			}
		})
	}
}

// An engine that names nobody is known: the broker refuses it and records that.
func TestEngineWithoutActingPersonReachesTheBrokerAsAProblem(t *testing.T) {
	w := newWorld(t)
	if _, err := w.record.GetRecord(as(t, "engine"), good()); status.Code(err) != codes.OK {
		t.Fatalf("the broker was to decide, got %v", status.Code(err))
	}
	if r := lastRequest(t, w); r.TokenProblem != "no-acting-person" || r.Requester.Kind != record.System {
		t.Errorf("got problem %q of %q", r.TokenProblem, r.Requester.Kind)
	}
}

func TestRequestID(t *testing.T) {
	w := newWorld(t)
	uuidWithNumber := "9990000018-4000-4000-8000-123456789012"
	for _, c := range []struct {
		name  string
		given []string
		kept  bool
	}{
		{"none", nil, false},
		{"a word", []string{"abc-123.X"}, true},
		{"a UUID whose last digits are a number", []string{"f81d4fae-7dec-11d0-a765-00a9990000018"[:36]}, true},
		{"two", []string{"a", "b"}, false},
		{"empty", []string{""}, false},
		{"long", []string{strings.Repeat("a", 65)}, false},
		{"odd", []string{"a b"}, false},
		{"an NHS number", []string{number}, false},
		{"an NHS number in it", []string{"x-" + number}, false},
		{"an NHS number as people write it", []string{"999-000-0018"}, false},
		{"an NHS number in other groups", []string{"x-99900-00018"}, false},
		{"a number that is one digit longer", []string{"1999-000-0018"}, true},
		{"nearly a UUID", []string{uuidWithNumber}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var pairs []string
			for _, g := range c.given {
				pairs = append(pairs, "x-request-id", g)
			}
			var header metadata.MD
			if _, err := w.record.ListCustodians(as(t, "doctor", pairs...), &v1.ListCustodiansRequest{}, grpc.Header(&header)); err != nil {
				t.Fatal(err)
			}
			got := header.Get("x-request-id")
			switch {
			case len(got) != 1:
				t.Fatalf("got %d ids back, want 1", len(got))
			case c.kept && got[0] != c.given[0]:
				t.Error("another id came back")
			case !c.kept && !isUUID(got[0]):
				t.Error("no UUID was made")
			}
		})
	}
	var header metadata.MD // and a refused call has one too
	if _, err := w.record.ListCustodians(as(t, "expired", "x-request-id", "mine"), &v1.ListCustodiansRequest{}, grpc.Header(&header)); err == nil || header.Get("x-request-id")[0] != "mine" {
		t.Error("a refused call does not echo its id")
	}
}

func TestPanicTellsItsTypeOnly(t *testing.T) {
	w := newWorld(t)
	w.broker.during = func() { panic(errors.New("Zebra " + number)) }
	_, err := w.record.GetRecord(as(t, "doctor"), good())
	s := wantStatus(t, err, codes.Internal, "INTERNAL")
	stream, err := w.record.StreamRecord(as(t, "doctor"), &v1.StreamRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantStatus(t, err, codes.Internal, "INTERNAL")
	if log := w.log.String(); strings.Count(log, "*errors.errorString") != 2 || strings.Contains(log+s.Message(), "Zebra") || strings.Contains(log+s.Message(), number) {
		t.Error("the log does not say the type, or says more")
	}
}

// A handler that is reached past the gate asks nobody.
func TestHandlersNeedTheGate(t *testing.T) {
	f := &fakeBroker{}
	s := &server{cfg: Config{Broker: f, Policy: fakeRoles{}}}
	_, err := s.GetRecord(t.Context(), good())
	wantStatus(t, err, codes.Internal, "INTERNAL")
	_, err = s.ShowObjections(t.Context(), &v1.ShowObjectionsRequest{NhsNumber: number})
	wantStatus(t, err, codes.Internal, "INTERNAL")
	if f.calls != 0 {
		t.Error("the broker was asked")
	}
}

func TestHealthIsOpenAndWatchIsNot(t *testing.T) {
	w := newWorld(t)
	health := healthv1.NewHealthClient(w.conn)
	got, err := health.Check(as(t, ""), &healthv1.HealthCheckRequest{})
	if err != nil || got.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("got %v %v, want SERVING", got.GetStatus(), err)
	}
	watch, err := health.Watch(as(t, "doctor"), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = watch.Recv()
	wantStatus(t, err, codes.Unimplemented, "UNIMPLEMENTED")
}

func TestReflectionOnlyWhereConfigured(t *testing.T) {
	for _, on := range []bool{false, true} {
		w := newWorld(t, func(c *Config) { c.Reflection = on })
		s, err := reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(as(t, ""))
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}) // Recv says what became of it
		answer, err := s.Recv()
		if on && len(answer.GetListServicesResponse().GetService()) != 7 || !on && status.Code(err) != codes.Unimplemented {
			t.Errorf("reflection %v: got %d services, %v", on, len(answer.GetListServicesResponse().GetService()), status.Code(err))
		}
	}
}

func TestTooMuchIsRefused(t *testing.T) {
	w := newWorld(t)
	in := good()
	in.BreakGlassReason = strings.Repeat("a", maxReceive)
	if _, err := w.record.GetRecord(as(t, "doctor"), in); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of over 1 MiB: got %v, want RESOURCE_EXHAUSTED", status.Code(err))
	}
	// grpc-go's own client holds to the limit that the server announces; others find the connection closed.
	_, err := w.record.GetRecord(as(t, "doctor", "x-filler", strings.Repeat("a", maxHeaders)), good())
	if status.Code(err) == codes.OK {
		t.Error("64 KiB of metadata were accepted")
	}
	if w.broker.calls != 0 {
		t.Error("the broker was asked")
	}
}

// hostilePaths are spellings of :path that are not the registered names. T-04 asks for at least 40.
func hostilePaths() []string {
	const service, method = "mycarerecord.v1.RecordService", "GetRecord"
	name := service + "/" + method
	paths := []string{
		name, "//" + name, "/" + service + "//" + method, "/" + name + "/", "/./" + name, "/../" + name, "/x/../" + name, "/" + service + "/./" + method,
		"/" + service + "/../" + name, "/" + name + "?", "/" + name + "?x=1", "/" + name + "#", "/" + name + ";", "/" + name + ";x=1", "/..;/" + name,
		"/" + name + "%00", "/%6dycarerecord.v1.RecordService/GetRecord", "/" + service + "%2F" + method, "/" + service + "/%47etRecord",
		"/" + strings.ToLower(name), "/" + strings.ToUpper(name), "/" + service + "/getRecord", "/" + service + "/Getrecord", "\\" + service + "\\" + method,
		"/" + service + "\\" + method, "/" + service + "." + method, "/" + service + ":" + method, "/" + service + "./" + method, "/" + name + ".",
		"/" + name + " ", "/ " + name, "/\t" + name, "/" + service + "/", "/" + service, "/" + method, "/", "//", "*", "http://x/" + name, "http://" + name,
		"/x/" + name, "/v1/" + name, "/" + service + "/" + name, "/" + name + "/" + method, "/mycarerecord.v1.recordservice/GetRecord",
		"/mycarerecord.v2.RecordService/GetRecord", "/RecordService/GetRecord", "/" + service + "/GetRecord,StreamRecord", "/\u2215" + name, "/" + service + "\u2044" + method,
	}
	return paths
}

// With a valid token, no spelling of a path but the registered one reaches a handler.
func TestHostilePathsReachNoHandler(t *testing.T) {
	w := newWorld(t)
	paths := hostilePaths()
	if len(paths) < 40 {
		t.Fatalf("only %d paths", len(paths))
	}
	for _, p := range append(paths, "") {
		if code := rawCall(t, w, p); code == "0" || code == "" && p != "" {
			t.Errorf("path %q: got grpc-status %q", p, code)
		}
	}
	if w.broker.calls != 0 {
		t.Fatalf("%d calls reached a handler", w.broker.calls)
	}
	if code := rawCall(t, w, v1.RecordService_GetRecord_FullMethodName); code != "0" || w.broker.calls != 1 {
		t.Fatalf("the registered name: got grpc-status %q, %d calls; the attack would prove nothing", code, w.broker.calls)
	}
}

// rawCall makes one call with hand-made frames and returns its grpc-status, or a word for how it ended.
func rawCall(t *testing.T, w *world, path string) string {
	t.Helper()
	conn, err := w.lis.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	body, err := frame(good())
	if err != nil {
		t.Fatal(err)
	}
	status, err := exchange(conn, path, body)
	if err != nil {
		return fmt.Sprintf("closed: %T", err)
	}
	return status
}

func exchange(conn net.Conn, path string, body []byte) (string, error) {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return "", err
	}
	fr := http2.NewFramer(conn, conn)
	fr.AllowIllegalWrites = true
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := fr.WriteSettings(); err != nil {
		return "", err
	}
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "x"}, {"content-type", "application/grpc"},
		{"te", "trailers"}, {"authorization", "Bearer doctor"}} {
		if h[0] == ":path" && path == "" {
			continue // no path at all
		}
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return "", err
		}
	}
	if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true}); err != nil {
		return "", err
	}
	if err := fr.WriteData(1, true, body); err != nil {
		return "", err
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return "", err
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.RegularFields() {
				if h.Name == "grpc-status" {
					return h.Value, nil
				}
			}
			for _, h := range f.PseudoFields() {
				if h.Name == ":status" && h.Value != "200" {
					return "http " + h.Value, nil
				}
			}
		case *http2.RSTStreamFrame:
			return "reset", nil
		case *http2.GoAwayFrame:
			return "go away", nil
		}
	}
}
