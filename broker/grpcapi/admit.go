package grpcapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// access says who may call a method.
type access uint8

const (
	nobody    access = iota // the zero value: a method that nobody listed is refused
	withToken               // a caller with a valid token
	anybody                 // without a token too
)

// gate stands before every handler. The list of methods is built from the registered descriptors, by full name, and everything else is
// refused, so that a name that reads differently to the router and to a check opens nothing (CVE-2026-33186: `:path` without a slash).
type gate struct {
	cfg     Config
	methods map[string]access
}

func newGate(cfg Config) *gate {
	g := &gate{cfg: cfg, methods: map[string]access{healthv1.Health_Check_FullMethodName: anybody}} // Watch is not offered: it holds a stream for nobody known
	for _, d := range []grpc.ServiceDesc{v1.RecordService_ServiceDesc, v1.ConsentService_ServiceDesc, v1.AuditService_ServiceDesc, v1.WorklistService_ServiceDesc} {
		for _, m := range d.Methods {
			g.methods["/"+d.ServiceName+"/"+m.MethodName] = withToken
		}
		for _, m := range d.Streams {
			g.methods["/"+d.ServiceName+"/"+m.StreamName] = withToken
		}
	}
	if cfg.Reflection {
		g.methods[reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName] = anybody
		g.methods[reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName] = anybody
	}
	return g
}

// admitted is what the gate found out about a call.
type admitted struct {
	caller    authn.Caller
	requestID string
	arrived   time.Time // of a handler: when its question had been read
}

// tokenProblem is why the broker must refuse and record the call, "" for none: the system is known, the person it acts for is not.
func (a admitted) tokenProblem() consent.Reason {
	if a.caller.Problem != nil {
		return consent.ReasonNoActingPerson
	}
	return ""
}

type admittedKey struct{}

// who returns what the gate found out. A handler that was reached in any other way gets INTERNAL, and asks nobody. Handlers call it first, when the question
// has been read, and the broker counts from then on: a message that comes long after its headers, or an issuer that keeps us waiting, takes nothing from the
// time in which the six neutral classes are answered alike.
func who(ctx context.Context) (admitted, error) {
	a, ok := ctx.Value(admittedKey{}).(admitted)
	if !ok {
		return admitted{}, fail(rowInternal)
	}
	a.arrived = time.Now()
	return a, nil
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer g.recovered(ctx, info.FullMethod, &err)
	ctx, err = g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if err = readable(req); err == nil {
		resp, err = next(ctx, req)
	}
	return resp, g.recorded(ctx, info.FullMethod, err)
}

func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer g.recovered(ss.Context(), info.FullMethod, &err)
	ctx, err := g.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return g.recorded(ctx, info.FullMethod, next(srv, admittedStream{ss, ctx}))
}

// recorded puts bad input of a known caller on record before it is answered (L-6). Everything else the broker has recorded itself.
func (g *gate) recorded(ctx context.Context, method string, err error) error {
	var unread unreadError
	a, known := ctx.Value(admittedKey{}).(admitted)
	if !known || !errors.As(err, &unread) {
		return err
	}
	_, failure := g.cfg.Broker.RefuseUnread(ctx, broker.Request{ID: a.requestID, Face: "grpc", Operation: "unread " + method[strings.LastIndexByte(method, '/')+1:],
		Requester: a.caller.Requester, Role: g.cfg.Policy.Role(a.caller.Requester), Arrived: a.arrived, BadNumber: badNumber(err), TokenProblem: a.tokenProblem()})
	if failure != nil {
		return refusal(failure)
	}
	return err
}

// badNumber reports whether a number failed its check digit: who tries numbers meets many of those.
func badNumber(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if b, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range b.GetFieldViolations() {
				if v.GetField() == "nhs_number" && v.GetDescription() == wantNumber {
					return true
				}
			}
		}
	}
	return false
}

// recovered turns a panic into INTERNAL. Only its type is told: its value may hold anything.
func (g *gate) recovered(ctx context.Context, method string, err *error) {
	if v := recover(); v != nil {
		g.cfg.Log.ErrorContext(ctx, "a gRPC handler panicked", "operation", method, "problem", fmt.Sprintf("%T", v))
		*err = fail(rowInternal)
	}
}

// admit lets a call pass with a context that says whose it is, or refuses it.
func (g *gate) admit(ctx context.Context, method string) (context.Context, error) {
	a := admitted{arrived: time.Now()}
	allowed := g.methods[method]
	if allowed == nobody {
		return nil, fail(rowNoMethod)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	a.requestID = requestID(md.Get("x-request-id"))
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-request-id", a.requestID)); err != nil {
		return nil, fail(rowInternal)
	}
	if allowed == anybody {
		return ctx, nil
	}
	caller, err := g.cfg.Verifier.Verify(ctx, md.Get("authorization"), md.Get("acting-person"), a.arrived)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fail(rowGone)
		}
		return nil, g.unauthenticated(ctx, err)
	}
	a.caller = caller
	if g.cfg.Limiter != nil {
		if ok, after := g.cfg.Limiter.Allow(caller.Requester); !ok {
			g.cfg.Ledger.CountLimited(caller.Requester)
			return nil, fail(rowThrottled, retry(after)...)
		}
	}
	return context.WithValue(ctx, admittedKey{}, a), nil
}

// unauthenticated turns an error of authn into a status, by its kind. Callers whose token could be judged, and was found wanting, are counted.
func (g *gate) unauthenticated(ctx context.Context, err error) error {
	if errors.Is(err, authn.ErrKeysUnavailable) || errors.Is(err, authn.ErrBusy) {
		return fail(rowKeys, retry(retryKeys)...)
	}
	g.cfg.Ledger.CountUnauthenticated(address(ctx))
	var p problems
	switch {
	case errors.Is(err, authn.ErrActingUnwanted):
		p.add("acting-person", "leave it out: this token says itself who asks")
		return p.err()
	case errors.Is(err, authn.ErrTooManyTokens):
		p.add("authorization", "give it once")
		return p.err()
	case errors.Is(err, authn.ErrExpired):
		return fail(rowExpired)
	}
	return fail(rowUnauthenticated)
}

// address returns where a call comes from, the zero address if that is not an IP address.
func address(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// requestID returns the caller's id of the request, or makes one where there is none that can be kept. It is written to logs and echoed, so it
// is a short plain word that holds no NHS number; UUIDs always pass, because one in two hundred holds ten digits that look like one.
func requestID(given []string) string {
	if len(given) == 1 && len(given[0]) >= 1 && len(given[0]) <= 64 && plain(given[0]) && (isUUID(given[0]) || !record.SpellsNHSNumber(given[0])) {
		return given[0]
	}
	return newUUID()
}

// plain reports whether s holds letters, digits, dots and hyphens only.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-')
	})
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		c := s[i]
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if hyphen != (c == '-') || !hyphen && !hex {
			return false
		}
	}
	return true
}

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
