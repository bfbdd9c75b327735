// Package grpcapi serves the gRPC services of mycarerecord.v1: it turns messages into the broker's requests and the broker's
// answers into messages, and decides nothing itself.
//
// Every call passes the same gate before its handler: panics become INTERNAL, the method must be one that is registered and listed,
// the caller must have a valid token and must not be over a rate limit (admit.go). What a request may say is read and checked in
// question.go; kinds of refusal become statuses by one table in errors.go; the words of both sides are matched in words.go.
package grpcapi

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// The caps of this transport. Sizes are in bytes.
const (
	maxReceive   = 1 << 20          // one request
	maxHeaders   = 64 << 10         // all metadata of one request, as HTTP/2 counts it
	maxBundle    = 4<<20 - 64<<10   // a Bundle in one answer: clients take 4 MiB unless told otherwise, and the rest of the answer needs room
	maxEntry     = 1 << 20          // a resource, or a part of one, in one message of a stream
	maxOrder     = 1 << 20          // full URLs in one summary message
	maxFound     = 3 << 20          // entries in one page of a search
	maxDetails   = 6 << 10          // custodians' states in an error: it travels in headers, of which many clients take 8 KiB
	maxStreams   = 100              // calls at once on one connection
	maxStream    = 2 * time.Minute  // a whole stream: a record is held in memory until its caller has read it
	maxAge       = 30 * time.Minute // of a connection: its caller is told to come anew
	pingEvery    = time.Minute      // an idle connection is probed
	pingTimeout  = 20 * time.Second // and dropped if it does not answer
	pingMin      = 20 * time.Second // callers who ping more often are disconnected
	handshake    = 10 * time.Second // a connection that has not said hello by then is dropped
	defaultStall = 10 * time.Second // see Config.Stall
	retryKeys    = 5 * time.Second  // when to ask again where a token cannot be checked now
)

// maxAgeGrace is how long what runs on a connection may still run when it is too old: a list of a region's objections takes so long. It bounds, too, a
// caller who never reads.
const maxAgeGrace = broker.LongestList + time.Minute

// Config is what a server is made of. Broker, Verifier, Policy and Ledger are required.
type Config struct {
	Broker     requests            // a *broker.Broker
	Verifier   verifier            // an *authn.Verifier
	Policy     roles               // a *policy.Table
	Ledger     ledger              // an *audit.Ledger: counts callers without a token and those over a limit (L-6), and proves what it holds
	Limiter    Limiter             // nil: no rate limit
	CodeBase   string              // base of our own code systems, as in merge.Request
	Health     *health.Server      // answers grpc.health.v1; nil: one that says SERVING. Whoever drains the process sets it to NOT_SERVING
	Reflection bool                // serve reflection, without a token; for trying out only
	Stall      time.Duration       // how long a caller may take to accept one message of a stream; default 10 s
	Log        *slog.Logger        // told of panics by type; nil: silent
	Options    []grpc.ServerOption // credentials, stats handlers; come after ours, so that they may override them
}

// Limiter bounds how often a known caller may ask. Allow reports whether r may now, and if not, after how long to ask again. It MUST NOT
// wait. It is called concurrently.
type Limiter interface {
	Allow(r record.Requester) (ok bool, retryAfter time.Duration)
}

// requests is what the services need of a [broker.Broker].
type requests interface {
	Retrieve(ctx context.Context, req broker.Request) (*broker.Result, error)
	RefuseUnread(ctx context.Context, req broker.Request) (audit.Receipt, error)
	Stream(ctx context.Context, req broker.Request, s broker.Sink) error
	OpenAddress(id, seal string) (broker.DocumentAddress, bool)
	Document(ctx context.Context, req broker.Request) (*broker.DocumentResult, error)
	Custodians() []broker.CustodianHealth
	RecordObjection(ctx context.Context, req broker.ObjectionRequest, o consent.Objection) (consent.Objection, audit.Receipt, error)
	WithdrawObjection(ctx context.Context, req broker.ObjectionRequest, id string) (consent.Objection, audit.Receipt, error)
	ShowObjections(ctx context.Context, req broker.ObjectionRequest) ([]consent.Objection, audit.Receipt, error)
	DecideObjection(ctx context.Context, req broker.ObjectionRequest, id string, to consent.Status) (consent.Objection, audit.Receipt, error)
	RecordDelegation(ctx context.Context, req broker.ObjectionRequest, d consent.Delegation) (consent.Delegation, audit.Receipt, error)
	WithdrawDelegation(ctx context.Context, req broker.ObjectionRequest, id string) (consent.Delegation, audit.Receipt, error)
	ShowDelegations(ctx context.Context, req broker.ObjectionRequest) ([]consent.Delegation, audit.Receipt, error)
	ListOverrides(ctx context.Context, req broker.OverrideRequest, reviewed bool, from uint64, limit int) ([]audit.Override, uint64, audit.Receipt, error)
	ReviewOverride(ctx context.Context, req broker.OverrideRequest, position uint64, outcome audit.ReviewOutcome, note string) (audit.Receipt, error)
	ListAlerts(ctx context.Context, req broker.AlertRequest, closed bool, before uint64, limit int) ([]audit.Flagged, []audit.Precision, uint64, audit.Receipt, error)
	ShowAlert(ctx context.Context, req broker.AlertRequest, position uint64) (audit.Flagged, audit.Receipt, error)
	HandleAlert(ctx context.Context, req broker.AlertRequest, position uint64, step audit.AlertStep, outcome audit.ReviewOutcome, note string) (audit.Receipt, error)
	Summarise(ctx context.Context, req broker.AlertRequest, from, until time.Time) (audit.Activity, audit.Receipt, error)
	ObjectionHistory(ctx context.Context, req broker.ObjectionRequest) (list, history []consent.Objection, r audit.Receipt, err error)
	Adoptions(ctx context.Context, list []consent.Objection) [][]broker.Adoption
	ImportObjections(ctx context.Context, req broker.ListRequest, read func(each func(broker.ListRow) error) error, to broker.ListSink) (broker.ListSummary, error)
	ExportObjections(ctx context.Context, req broker.ListRequest, page func(rows []broker.ListRow, untraced int, r audit.Receipt, last bool) error) error
	ObjectionChanges(ctx context.Context, req broker.ListRequest, from audit.Cursor, limit int) (audit.Page, error)
	AdoptChanges(ctx context.Context, req broker.ListRequest, through uint64) (audit.Receipt, error)
	AskLedger(ctx context.Context, req broker.LedgerQuestion) (broker.LedgerAnswer, error)
	CountLedger(ctx context.Context, req broker.LedgerQuestion, count func(audit.Row)) (next string, of broker.Followed, r audit.Receipt, err error)
	ShowView(ctx context.Context, req broker.LedgerQuestion, position uint64) (audit.Row, []audit.Found, audit.Receipt, error)
	ForeseeView(ctx context.Context, req broker.ForeseeRequest) (consent.Decision, audit.Receipt, error)
	SearchAccesses(ctx context.Context, req broker.SearchRequest) ([]audit.Found, bool, audit.Receipt, error)
	ExportEntries(ctx context.Context, req broker.SearchRequest, write func([]byte) error) error
}

var _ requests = (*broker.Broker)(nil)

// verifier is what the gate needs of an [authn.Verifier].
type verifier interface {
	Verify(ctx context.Context, authorization, acting []string, now time.Time) (authn.Caller, error)
}

// roles is what the services need of a policy.Table.
type roles interface {
	Role(r record.Requester) consent.Role
}

// counter is what the gate needs of an [audit.Ledger].
type counter interface {
	CountUnauthenticated(from netip.Addr)
	CountLimited(r record.Requester)
}

var _ counter = (*audit.Ledger)(nil)

// ledger is both.
type ledger interface {
	counter
	prover
}

// server implements the services.
type server struct {
	v1.UnimplementedRecordServiceServer
	v1.UnimplementedConsentServiceServer
	v1.UnimplementedAuditServiceServer
	v1.UnimplementedWorklistServiceServer
	cfg Config
}

// New returns a server with all services registered, ready to Serve. It panics if a required field of cfg is missing: that is a bug in the wiring.
func New(cfg Config) *grpc.Server {
	if cfg.Broker == nil || cfg.Verifier == nil || cfg.Policy == nil || cfg.Ledger == nil {
		panic("grpcapi: Broker, Verifier, Policy and Ledger are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Stall <= 0 {
		cfg.Stall = defaultStall
	}
	if cfg.Health == nil {
		cfg.Health = health.NewServer()
	}
	g := newGate(cfg)
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: maxAge, MaxConnectionAgeGrace: maxAgeGrace, Time: pingEvery, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMin, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	}
	out := grpc.NewServer(append(options, cfg.Options...)...)
	s := &server{cfg: cfg}
	v1.RegisterRecordServiceServer(out, s)
	v1.RegisterConsentServiceServer(out, s)
	v1.RegisterAuditServiceServer(out, s)
	v1.RegisterWorklistServiceServer(out, s)
	healthv1.RegisterHealthServer(out, cfg.Health)
	if cfg.Reflection {
		reflection.Register(out)
	}
	return out
}
