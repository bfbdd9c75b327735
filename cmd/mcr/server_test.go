package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files; read the diff")

const (
	eleanor = "9990000050"
	// token is signed by nobody; the fake broker does not look.
	token = "aGVhZA.Ym9keQ.c2ln"
)

// fakeBroker answers the services with what a test gives it, and keeps what it was asked.
type fakeBroker struct {
	v1.UnimplementedRecordServiceServer
	v1.UnimplementedConsentServiceServer
	v1.UnimplementedAuditServiceServer
	v1.UnimplementedWorklistServiceServer

	mu      sync.Mutex
	asked   any
	header  metadata.MD
	err     error
	record  *v1.GetRecordResponse
	stream  []*v1.StreamRecordResponse
	objects []*v1.Objection

	listed   string // a list that came in
	imported []*v1.ImportObjectionsResponse
	exported []*v1.ExportObjectionsResponse

	found   *v1.SearchAccessesResponse
	answers map[v1.Question][]*v1.AskResponse
	health  []*v1.CustodianHealth
}

func (f *fakeBroker) keep(ctx context.Context, in any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = in
	f.header, _ = metadata.FromIncomingContext(ctx)
	return f.err
}

func (f *fakeBroker) GetRecord(ctx context.Context, in *v1.GetRecordRequest) (*v1.GetRecordResponse, error) {
	return f.record, f.keep(ctx, in)
}

func (f *fakeBroker) StreamRecord(in *v1.StreamRecordRequest, out grpc.ServerStreamingServer[v1.StreamRecordResponse]) error {
	err := f.keep(out.Context(), in)
	for _, m := range f.stream {
		if err := out.Send(m); err != nil {
			return err
		}
	}
	return err
}

func (f *fakeBroker) ListCustodians(ctx context.Context, in *v1.ListCustodiansRequest) (*v1.ListCustodiansResponse, error) {
	return &v1.ListCustodiansResponse{Custodians: f.health}, f.keep(ctx, in)
}

func (f *fakeBroker) RecordObjection(ctx context.Context, in *v1.RecordObjectionRequest) (*v1.RecordObjectionResponse, error) {
	return &v1.RecordObjectionResponse{Receipt: receipt(), Objection: &v1.Objection{Id: "o1", Scope: in.GetScope(), Section: in.GetSection(), Custodian: in.GetCustodian(),
		Status: v1.ObjectionStatus_OBJECTION_STATUS_IN_FORCE, Method: in.GetMethod(), AuthorName: "Tobias\x1b[2J Ravenscroft", AuthorOdsCode: "X9B01", Position: 4}}, f.keep(ctx, in)
}

func (f *fakeBroker) WithdrawObjection(ctx context.Context, in *v1.WithdrawObjectionRequest) (*v1.WithdrawObjectionResponse, error) {
	return &v1.WithdrawObjectionResponse{Receipt: receipt(), Objection: &v1.Objection{Id: in.GetObjectionId(), Scope: v1.ObjectionScope_OBJECTION_SCOPE_ALL,
		Status: v1.ObjectionStatus_OBJECTION_STATUS_WITHDRAWN, Method: v1.ObjectionMethod_OBJECTION_METHOD_PHONE}}, f.keep(ctx, in)
}

func (f *fakeBroker) ShowObjections(ctx context.Context, in *v1.ShowObjectionsRequest) (*v1.ShowObjectionsResponse, error) {
	out := &v1.ShowObjectionsResponse{Objections: f.objects, Receipt: receipt()}
	if in.GetWithHistory() {
		out.History = slices.Concat(f.objects, f.objects)
	}
	return out, f.keep(ctx, in)
}

func (f *fakeBroker) ImportObjections(s grpc.BidiStreamingServer[v1.ImportObjectionsRequest, v1.ImportObjectionsResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if err := f.keep(s.Context(), first.GetHeader()); err != nil {
		return err
	}
	f.listed = ""
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		f.listed += string(m.GetData())
	}
	for _, m := range f.imported {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeBroker) ExportObjections(in *v1.ExportObjectionsRequest, s grpc.ServerStreamingServer[v1.ExportObjectionsResponse]) error {
	if err := f.keep(s.Context(), in); err != nil {
		return err
	}
	for _, m := range f.exported {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeBroker) SearchAccesses(ctx context.Context, in *v1.SearchAccessesRequest) (*v1.SearchAccessesResponse, error) {
	return f.found, f.keep(ctx, in)
}

func receipt() *v1.Receipt {
	return &v1.Receipt{Origin: "record.example/ledger", Position: 812, Leaf: bytes.Repeat([]byte{0xab}, 32)}
}

// desk is a user at a terminal: an app with a folder of its own, and a broker to ask.
type desk struct {
	*app
	broker   *fakeBroker
	address  string
	out, err bytes.Buffer
}

func newDesk(t *testing.T, options ...grpc.ServerOption) *desk {
	t.Helper()
	d := &desk{broker: &fakeBroker{}}
	d.app = &app{in: strings.NewReader(""), out: &d.out, err: &d.err, configDir: filepath.Join(t.TempDir(), "mcr"), columns: 100,
		now: func() time.Time { return time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC) }, randomness: strings.NewReader(strings.Repeat("0123456789abcdef", 8))}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	v1.RegisterRecordServiceServer(s, d.broker)
	v1.RegisterConsentServiceServer(s, d.broker)
	v1.RegisterAuditServiceServer(s, d.broker)
	v1.RegisterWorklistServiceServer(s, d.broker)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began to serve, where a test never called
			t.Errorf("serving: %v", err)
		}
	})
	d.address = lis.Addr().String()
	return d
}

// signIn leaves a token, as mcr login would.
func (d *desk) signIn(t *testing.T, at session) {
	t.Helper()
	at.Server = d.address
	if _, err := d.keep(token, at); err != nil {
		t.Fatal(err)
	}
}

// do runs a command and returns its exit code and output.
func (d *desk) do(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	d.out.Reset()
	d.err.Reset()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code = d.run(ctx, args)
	return code, d.out.String(), d.err.String()
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func custodian(key, name, kind, contact string) *v1.Custodian {
	return &v1.Custodian{Key: key, Name: name, Kind: kind, Contact: contact, OdsCode: "X9" + strings.ToUpper(key[:1]) + "01"}
}

// statuses is one custodian in each state.
func statuses() []*v1.CustodianStatus {
	return []*v1.CustodianStatus{
		{Custodian: custodian("gp", "Rivermead Surgery", "gp", "Practice manager, 01632 960101"), State: v1.CustodianState_CUSTODIAN_STATE_RETURNED, Shown: 7, Took: durationpb.New(300 * time.Millisecond)},
		{Custodian: custodian("acute", "Ashford Vale University Hospitals", "acute", "Health records, 01632 960102"), State: v1.CustodianState_CUSTODIAN_STATE_RETURNED_IN_PART, Shown: 5,
			Parts: []*v1.MissingPart{{Section: v1.Section_SECTION_MENTAL_HEALTH, Reason: "withheld"}, {Reason: "other-people", Count: 3}, {Source: "Letters\x1b]0;x\x07", Reason: "source-down"}}},
		{Custodian: custodian("mentalhealth", "Larkfield Mental Health Trust", "mental-health", ""), State: v1.CustodianState_CUSTODIAN_STATE_WITHHELD, Reason: "objection", Rule: "C-2.7"},
		{Custodian: custodian("community", "Three Rivers Community Health", "community", ""), State: v1.CustodianState_CUSTODIAN_STATE_NO_RECORD},
		{Custodian: custodian("socialcare", "Westmarch County Council, adult social care", "social-care", ""), State: v1.CustodianState_CUSTODIAN_STATE_RETURNED, Shown: 3},
		{Custodian: custodian("ambulance", "Mid Shires Ambulance Service", "ambulance", "Duty officer, 01632 960106"), State: v1.CustodianState_CUSTODIAN_STATE_TIMED_OUT},
		{Custodian: custodian("pharmacy", "Bridge Street Pharmacy", "pharmacy", "01632 960107"), State: v1.CustodianState_CUSTODIAN_STATE_UNAVAILABLE},
		{Custodian: custodian("nhs111", "Mid Shires NHS 111", "111", ""), State: v1.CustodianState_CUSTODIAN_STATE_FAILED},
		{Custodian: custodian("outofhours", "Nightbridge Out of Hours", "out-of-hours", ""), State: v1.CustodianState_CUSTODIAN_STATE_NOT_ASKED, Reason: "budget"},
	}
}

func bundle(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/bundle.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// messages is the Bundle of testdata as a stream: custodian by custodian, out of order, one entry in two parts.
func messages(t *testing.T) []*v1.StreamRecordResponse {
	t.Helper()
	b, err := decode(bundle(t))
	if err != nil {
		t.Fatal(err)
	}
	var planned []*v1.CustodianStatus
	for _, s := range statuses() {
		planned = append(planned, &v1.CustodianStatus{Custodian: s.GetCustodian()})
	}
	out := []*v1.StreamRecordResponse{{Message: &v1.StreamRecordResponse_Plan{Plan: &v1.StreamPlan{Handle: "handle", Custodians: planned}}}}
	var order []string
	entries := map[string][]*v1.StreamEntry{}
	for _, e := range b.objects("entry") {
		order = append(order, e.text("fullUrl"))
		r := e.first("resource")
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		x := &v1.StreamEntry{FullUrl: e.text("fullUrl"), Type: r.text("resourceType"), Id: r.text("id"), Mode: modeOf(e.text("search.mode")), Resource: text, Part: 1, Parts: 1}
		for _, tag := range r.objects("meta.tag") {
			if strings.HasSuffix(tag.text("system"), "/custodian") {
				x.Custodian = tag.text("code")
			} else if s := sectionOf(tag.text("code")); x.Section == 0 {
				x.Section = s
			} else {
				x.OtherSections = append(x.OtherSections, s)
			}
		}
		entries[x.Custodian] = append([]*v1.StreamEntry{x}, entries[x.Custodian]...)
	}
	send := func(key string) {
		for i, x := range entries[key] {
			if i == 0 { // a large one, in two parts
				second := &v1.StreamEntry{FullUrl: x.FullUrl, Type: x.Type, Id: x.Id, Mode: x.Mode, Custodian: x.Custodian, Section: x.Section, OtherSections: x.OtherSections,
					Resource: x.Resource[10:], Part: 2, Parts: 2}
				x.Resource, x.Parts = x.Resource[:10], 2
				out = append(out, &v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Entry{Entry: x}}, &v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Entry{Entry: second}})
				continue
			}
			out = append(out, &v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Entry{Entry: x}})
		}
	}
	for _, s := range statuses() {
		send(s.GetCustodian().GetKey())
		out = append(out, &v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Custodian{Custodian: &v1.StreamCustodian{Status: s}}})
	}
	send("")
	return append(out,
		&v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Summary{Summary: &v1.StreamSummary{Order: order[:5], Part: 1, Parts: 2}}},
		&v1.StreamRecordResponse{Message: &v1.StreamRecordResponse_Summary{Summary: &v1.StreamSummary{Order: order[5:], Part: 2, Parts: 2, Total: 12, Custodians: statuses(), Receipt: receipt()}}})
}
