package grpcapi

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

const (
	number      = "9990000018"
	otherNumber = "9990000026"
)

// fakeBroker is a broker that holds one answer. Every call is kept, so that a test can see what reached it.
type fakeBroker struct {
	flagged    audit.Flagged
	mu         sync.Mutex
	unread     atomic.Int64 // calls that could not be read, recorded
	calls      int
	last       any // the last request
	objection  consent.Objection
	answer     merge.Answer
	chunks     [][]merge.Entry // of a stream, one per status of the answer
	receipt    audit.Receipt
	objections []consent.Objection
	found      []audit.Found
	answers    broker.LedgerAnswer
	foreseen   consent.Decision
	more       bool
	reviewed   string // what was said of an override
	adoptions  []broker.Adoption
	rows       []broker.ListRow // that came in, or go out
	takes      time.Duration    // for a list to come in, or to go out
	readErr    error            // what reading them ended with
	reports    []broker.RowReport
	summary    broker.ListSummary
	page       audit.Page
	from       audit.Cursor
	limit      int
	through    uint64
	health     []broker.CustodianHealth
	err        error // instead of an answer
	midway     error // of a stream, after the plan
	during     func()
	sinkErr    error // what the sink said last
}

func (f *fakeBroker) keep(req any) {
	f.mu.Lock()
	f.calls++
	f.last = req
	f.mu.Unlock()
	if f.during != nil {
		f.during()
	}
}

// OpenAddress opens the one address "good".
func (f *fakeBroker) OpenAddress(id, seal string) (broker.DocumentAddress, bool) {
	n, err := record.ParseNHSNumber(number)
	return broker.DocumentAddress{ID: id, Subject: n}, err == nil && seal == "good"
}

// Document gives a document of two chunks and a byte.
func (f *fakeBroker) Document(_ context.Context, req broker.Request) (*broker.DocumentResult, error) {
	f.keep(req)
	if f.err != nil {
		return nil, f.err
	}
	return &broker.DocumentResult{Document: broker.Document{Bytes: bytes.Repeat([]byte("0123456789abcdef"), (2<<20)/16+1), Type: "application/pdf"}, Receipt: f.receipt,
		Digest: [32]byte{1}, Custodian: record.Custodian{Key: "gp", ODS: "X9A01", Name: "Rivermead"}}, nil
}

func (f *fakeBroker) RefuseUnread(context.Context, broker.Request) (audit.Receipt, error) {
	f.unread.Add(1)
	return audit.Receipt{}, nil
}

func (f *fakeBroker) Retrieve(_ context.Context, req broker.Request) (*broker.Result, error) {
	f.keep(req)
	switch {
	case f.err != nil:
		return nil, f.err
	case req.MaxBytes > 0 && f.answer.BundleSize(req.Meta) > req.MaxBytes:
		return nil, &broker.Refusal{Kind: broker.UseStream, Reason: consent.ReasonTooLarge}
	}
	return &broker.Result{Answer: f.answer, Receipt: f.receipt}, nil
}

func (f *fakeBroker) Stream(_ context.Context, req broker.Request, s broker.Sink) error {
	f.keep(req)
	if f.err != nil {
		return f.err
	}
	send := func() error {
		planned := make([]record.Status, len(f.answer.Statuses))
		for i, x := range f.answer.Statuses {
			planned[i] = record.Status{Custodian: x.Custodian, Adapter: x.Adapter}
		}
		if err := s.Plan(f.answer.Handle, planned); err != nil {
			return err
		}
		if f.midway != nil {
			return f.midway
		}
		var order []string
		for i, x := range f.answer.Statuses {
			if err := s.Chunk(x, f.chunks[i], f.receipt); err != nil {
				return err
			}
			for _, e := range f.chunks[i] {
				order = append(order, e.FullURL)
			}
		}
		for _, e := range f.answer.Entries {
			order = append(order, e.FullURL)
		}
		return s.Summary(f.answer, order, f.receipt)
	}
	if err := send(); err != nil {
		f.mu.Lock()
		f.sinkErr = err
		f.mu.Unlock()
		if err == f.midway {
			return f.midway
		}
		return &broker.Refusal{Kind: broker.Gone}
	}
	return nil
}

func (f *fakeBroker) Custodians() []broker.CustodianHealth { f.keep("custodians"); return f.health }

func (f *fakeBroker) RecordObjection(_ context.Context, req broker.ObjectionRequest, o consent.Objection) (consent.Objection, audit.Receipt, error) {
	f.keep(req)
	f.objection = o
	o.ID, o.Position = "o1", f.receipt.Position
	return o, f.receipt, f.err
}

func (f *fakeBroker) WithdrawObjection(_ context.Context, req broker.ObjectionRequest, id string) (consent.Objection, audit.Receipt, error) {
	f.keep(req)
	return consent.Objection{ID: id, Scope: consent.ToAll, Status: consent.Withdrawn}, f.receipt, f.err
}

func (f *fakeBroker) ShowObjections(_ context.Context, req broker.ObjectionRequest) ([]consent.Objection, audit.Receipt, error) {
	f.keep(req)
	return f.objections, f.receipt, f.err
}

func (f *fakeBroker) DecideObjection(_ context.Context, req broker.ObjectionRequest, id string, to consent.Status) (consent.Objection, audit.Receipt, error) {
	f.keep(req)
	return consent.Objection{ID: id, Scope: consent.ToAll, Status: to}, f.receipt, f.err
}

func (f *fakeBroker) RecordDelegation(_ context.Context, req broker.ObjectionRequest, d consent.Delegation) (consent.Delegation, audit.Receipt, error) {
	f.keep(req)
	d.ID, d.Status, d.Position = "d1", consent.InForce, f.receipt.Position
	return d, f.receipt, f.err
}

func (f *fakeBroker) WithdrawDelegation(_ context.Context, req broker.ObjectionRequest, id string) (consent.Delegation, audit.Receipt, error) {
	f.keep(req)
	return consent.Delegation{ID: id, Status: consent.Withdrawn}, f.receipt, f.err
}

func (f *fakeBroker) ShowDelegations(_ context.Context, req broker.ObjectionRequest) ([]consent.Delegation, audit.Receipt, error) {
	f.keep(req)
	return []consent.Delegation{{ID: "d1", Status: consent.InForce}}, f.receipt, f.err
}

func (f *fakeBroker) ListOverrides(_ context.Context, req broker.OverrideRequest, _ bool, from uint64, _ int) ([]audit.Override, uint64, audit.Receipt, error) {
	f.keep(req)
	return []audit.Override{{Found: audit.Found{Position: from}, Kind: audit.AlertAfterNo}}, from + 1, f.receipt, f.err
}

func (f *fakeBroker) ReviewOverride(_ context.Context, req broker.OverrideRequest, position uint64, outcome audit.ReviewOutcome, note string) (audit.Receipt, error) {
	f.keep(req)
	f.reviewed = fmt.Sprint(position, " ", outcome, " ", note)
	return f.receipt, f.err
}

func (f *fakeBroker) ListAlerts(_ context.Context, req broker.AlertRequest, closed bool, before uint64, _ int) ([]audit.Flagged, []audit.Precision, uint64, audit.Receipt, error) {
	f.keep(req)
	return []audit.Flagged{f.flagged}, []audit.Precision{{Rule: "colleague", Raised: 3, Justified: 1, NotJustified: 2}}, before, f.receipt, f.err
}

func (f *fakeBroker) ShowAlert(_ context.Context, req broker.AlertRequest, _ uint64) (audit.Flagged, audit.Receipt, error) {
	f.keep(req)
	return f.flagged, f.receipt, f.err
}

func (f *fakeBroker) HandleAlert(_ context.Context, req broker.AlertRequest, position uint64, step audit.AlertStep, outcome audit.ReviewOutcome, note string) (audit.Receipt, error) {
	f.keep(req)
	f.reviewed = fmt.Sprint(position, " ", step, " ", outcome, " ", note)
	return f.receipt, f.err
}

func (f *fakeBroker) Summarise(_ context.Context, req broker.AlertRequest, from, until time.Time) (audit.Activity, audit.Receipt, error) {
	f.keep(req)
	return audit.Activity{From: from, Until: until, Accesses: 5, Days: []audit.DayCount{{Day: "2026-11-23", Purpose: record.Treatment, Count: 5}}, Outcomes: []audit.NamedCount{{Name: "released", Count: 5}},
		BreakGlass: audit.BreakGlassCount{Used: 2, Justified: 1, Open: 1}, Custodians: []audit.CustodianCount{{Key: "gp", States: []audit.NamedCount{{Name: "returned", Count: 5}}}}}, f.receipt, f.err
}

func (f *fakeBroker) ObjectionHistory(_ context.Context, req broker.ObjectionRequest) (list, history []consent.Objection, r audit.Receipt, err error) {
	f.keep(req)
	return f.objections, append(f.objections, f.objections...), f.receipt, f.err
}

func (f *fakeBroker) Adoptions(_ context.Context, list []consent.Objection) [][]broker.Adoption {
	out := make([][]broker.Adoption, len(list))
	for i := range out {
		out[i] = f.adoptions
	}
	return out
}

func (f *fakeBroker) ImportObjections(_ context.Context, req broker.ListRequest, read func(each func(broker.ListRow) error) error, to broker.ListSink) (broker.ListSummary, error) {
	f.keep(req)
	if f.err != nil {
		return broker.ListSummary{}, f.err
	}
	f.readErr = read(func(r broker.ListRow) error { f.rows = append(f.rows, r); return nil })
	for end := time.Now().Add(f.takes); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := to.Progress(broker.ListChecking, 0, len(f.rows)); err != nil {
			return broker.ListSummary{}, &broker.Refusal{Kind: broker.Gone}
		}
	}
	if err := to.Progress(broker.ListChecking, len(f.rows), len(f.rows)); err != nil {
		return broker.ListSummary{}, &broker.Refusal{Kind: broker.Gone}
	}
	if err := to.Rows(f.reports); err != nil {
		return broker.ListSummary{}, &broker.Refusal{Kind: broker.Gone}
	}
	return f.summary, nil
}

func (f *fakeBroker) ExportObjections(_ context.Context, req broker.ListRequest, page func(rows []broker.ListRow, untraced int, r audit.Receipt, last bool) error) error {
	f.keep(req)
	if f.err != nil {
		return f.err
	}
	for i, row := range f.rows {
		time.Sleep(f.takes / time.Duration(len(f.rows)))
		if err := page([]broker.ListRow{row}, i, f.receipt, i == len(f.rows)-1); err != nil {
			return &broker.Refusal{Kind: broker.Gone}
		}
	}
	return nil
}

func (f *fakeBroker) ObjectionChanges(_ context.Context, req broker.ListRequest, from audit.Cursor, limit int) (audit.Page, error) {
	f.keep(req)
	f.from, f.limit = from, limit
	return f.page, f.err
}

func (f *fakeBroker) AdoptChanges(_ context.Context, req broker.ListRequest, through uint64) (audit.Receipt, error) {
	f.keep(req)
	f.through = through
	return f.receipt, f.err
}

func (f *fakeBroker) AskLedger(_ context.Context, req broker.LedgerQuestion) (broker.LedgerAnswer, error) {
	f.keep(req)
	return f.answers, f.err
}

func (f *fakeBroker) CountLedger(_ context.Context, req broker.LedgerQuestion, count func(audit.Row)) (string, broker.Followed, audit.Receipt, error) {
	f.keep(req)
	for _, row := range f.answers.Rows {
		count(row)
	}
	return f.answers.Next, f.answers.Followed, f.receipt, f.err
}

func (f *fakeBroker) ShowView(_ context.Context, req broker.LedgerQuestion, position uint64) (audit.Row, []audit.Found, audit.Receipt, error) {
	f.keep(req)
	if f.err != nil {
		return audit.Row{}, nil, f.receipt, f.err
	}
	return f.answers.Rows[0], f.found, f.receipt, nil
}

func (f *fakeBroker) ForeseeView(_ context.Context, req broker.ForeseeRequest) (consent.Decision, audit.Receipt, error) {
	f.keep(req)
	return f.foreseen, f.receipt, f.err
}

func (f *fakeBroker) SearchAccesses(_ context.Context, req broker.SearchRequest) ([]audit.Found, bool, audit.Receipt, error) {
	f.keep(req)
	return f.found, f.more, f.receipt, f.err
}

func (f *fakeBroker) ExportEntries(_ context.Context, req broker.SearchRequest, write func([]byte) error) error {
	f.keep(req)
	if f.err != nil {
		return f.err
	}
	return write(bytes.Repeat([]byte("line\n"), maxPiece/4))
}

// fakeVerifier knows callers by their token.
type fakeVerifier map[string]authn.Caller

func (v fakeVerifier) Verify(_ context.Context, authorization, acting []string, _ time.Time) (authn.Caller, error) {
	switch {
	case len(authorization) == 0:
		return authn.Caller{}, authn.ErrNoToken
	case len(authorization) > 1:
		return authn.Caller{}, authn.ErrTooManyTokens
	case authorization[0] == "Bearer expired":
		return authn.Caller{}, authn.ErrExpired
	case authorization[0] == "Bearer keys-down":
		return authn.Caller{}, authn.ErrKeysUnavailable
	}
	c, ok := v[authorization[0]]
	switch {
	case !ok:
		return authn.Caller{}, authn.ErrToken
	case len(acting) > 0 && c.Requester.Kind != record.System:
		return authn.Caller{}, authn.ErrActingUnwanted
	}
	return c, nil
}

type fakeRoles struct{}

func (fakeRoles) Role(r record.Requester) consent.Role {
	return consent.Role{Name: "role of " + r.JobRole, Version: "test"}
}

// fakeLedger counts what it was told.
type fakeLedger struct {
	mu              sync.Mutex
	unauthenticated []netip.Addr
	limited         int
}

func (l *fakeLedger) CountUnauthenticated(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unauthenticated = append(l.unauthenticated, from)
}

func (l *fakeLedger) Checkpoint(_ context.Context, size uint64) (audit.Checkpoint, error) {
	if size > 3 {
		return audit.Checkpoint{}, audit.ErrNotSigned
	}
	return audit.Checkpoint{Size: 3, At: time.UnixMicro(5).UTC(), Note: []byte("a note")}, nil
}

func (l *fakeLedger) Checkpoints(_ context.Context, from uint64, limit int) ([]audit.Checkpoint, error) {
	if limit < 0 {
		return nil, audit.ErrInvalid
	}
	return []audit.Checkpoint{{Size: from}, {Size: from + 2}}[:min(limit, 2)], nil
}

func (l *fakeLedger) Inclusion(_ context.Context, r audit.Receipt, size uint64) (audit.Inclusion, error) {
	if r.Position != 2 || r.Leaf != [32]byte{7} {
		return audit.Inclusion{}, audit.ErrNotRecorded
	}
	c, err := l.Checkpoint(context.Background(), size)
	return audit.Inclusion{Position: r.Position, Leaf: r.Leaf, Checkpoint: c, Proof: [][32]byte{{1}, {2}}}, err
}

func (l *fakeLedger) Consistency(_ context.Context, from, to uint64) ([][32]byte, error) {
	if from == 0 || from > to {
		return nil, audit.ErrInvalid
	}
	return [][32]byte{{9}}, nil
}

func (l *fakeLedger) CountLimited(record.Requester) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limited++
}

// limitUser refuses one user.
type limitUser string

func (u limitUser) Allow(r record.Requester) (bool, time.Duration) {
	return r.User != string(u), 3 * time.Second
}

// world is a server with its fakes, and clients of it.
type world struct {
	broker  *fakeBroker
	ledger  *fakeLedger
	log     *bytes.Buffer
	lis     *bufconn.Listener
	conn    *grpc.ClientConn
	record  v1.RecordServiceClient
	consent v1.ConsentServiceClient
	audit   v1.AuditServiceClient
}

func mustNumber(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("not a valid test number")
	}
	return n
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{broker: &fakeBroker{receipt: audit.Receipt{Origin: "test/ledger", Position: 7, Leaf: [32]byte{1, 2, 3}}}, ledger: &fakeLedger{},
		log: &bytes.Buffer{}, lis: bufconn.Listen(1 << 16)}
	staff := record.Requester{Kind: record.Professional, User: "555000000001", JobRole: "R8000", Organisation: "X9B01"}
	limited := staff
	limited.User = "555000000002"
	cfg := Config{Broker: w.broker, Policy: fakeRoles{}, Ledger: w.ledger, Limiter: limitUser("555000000002"), CodeBase: "https://mycarerecord.example",
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
		Verifier: fakeVerifier{
			"Bearer doctor":  {Requester: staff},
			"Bearer limited": {Requester: limited},
			"Bearer launched": {Requester: staff, Stated: authn.Stated{Subject: mustNumber(t, number), Purpose: "TREAT",
				Permission: `implied-by-referral; ref="R1"`, Relationship: "admission"}},
			"Bearer person": {Requester: record.Requester{Kind: record.Person, User: "p1", Own: mustNumber(t, number)}},
			"Bearer engine": {Requester: record.Requester{Kind: record.System, Client: "engine"}, Problem: authn.ErrNoActingPerson},
		}}
	for _, c := range change {
		c(&cfg)
	}
	s := New(cfg)
	served := make(chan error, 1)
	go func() { served <- s.Serve(w.lis) }()
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	w.conn, w.record, w.consent, w.audit = conn, v1.NewRecordServiceClient(conn), v1.NewConsentServiceClient(conn), v1.NewAuditServiceClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return w
}

// as returns a context whose calls carry a token, and further metadata in pairs.
func as(t testing.TB, token string, pairs ...string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	if token != "" {
		pairs = append([]string{"authorization", "Bearer " + token}, pairs...)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// good is a request with nothing wrong.
func good() *v1.GetRecordRequest {
	return &v1.GetRecordRequest{NhsNumber: number, Purpose: v1.Purpose_PURPOSE_TREAT,
		Permission: &v1.Permission{Kind: v1.PermissionKind_PERMISSION_KIND_ASKED_YES}}
}

// wantStatus checks an error's code and the reason of its ErrorInfo, and returns the status.
func wantStatus(t testing.TB, err error, code codes.Code, reason string) *status.Status {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		t.Fatalf("got %v %q, want %v", s.Code(), s.Message(), code)
	}
	if got := detail[*errdetails.ErrorInfo](s); got.GetReason() != reason || got.GetDomain() != "mycarerecord" {
		t.Fatalf("got reason %q of domain %q, want %q", got.GetReason(), got.GetDomain(), reason)
	}
	return s
}

// detail returns the first detail of a type, its zero value if there is none.
func detail[T any](s *status.Status) (zero T) {
	for _, d := range s.Details() {
		if x, ok := d.(T); ok {
			return x
		}
	}
	return zero
}
