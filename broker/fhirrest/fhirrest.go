// Package fhirrest is the FHIR R4 gateway: a person is searched for, read, and asked for everything, over HTTP under /fhir.
//
// It is a face: it reads a request strictly, finds out who asks, hands one question to the broker and writes what comes back. It
// decides nothing about consent and keeps nothing. The path of one request is [handler.serve]. Statuses and issue codes are one table,
// in errors.go. What is served is told by GET /fhir/metadata, which a test calls item by item.
//
// NHS numbers are read from search parameters and bodies and never written: links carry the handle of the Patient that we author.
package fhirrest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Config is what the gateway is made of. All fields but Limiter and Log are required.
type Config struct {
	Broker   *broker.Broker
	Verifier *authn.Verifier
	Policy   *policy.Table
	Ledger   *audit.Ledger  // counts callers without a token and those over a limit (L-6)
	Limiter  *authn.Limiter // nil: no rate limit
	Base     string         // our FHIR base address as callers know it, no trailing slash; begins every link
	CodeBase string         // base of our own code systems
	Version  string         // of the software, for the CapabilityStatement
	Log      *slog.Logger   // told of panics by type; nil: silent
}

// Root is the path under which all is served.
const Root = "/fhir"

// The broker and its neighbours as this package uses them: so that tests can put prepared results behind the real transport.
type (
	retriever interface {
		Retrieve(ctx context.Context, req broker.Request) (*broker.Result, error)
		RefuseUnread(ctx context.Context, req broker.Request) (audit.Receipt, error)
		ShowObjections(ctx context.Context, req broker.ObjectionRequest) ([]consent.Objection, audit.Receipt, error)
		OpenAddress(id, seal string) (broker.DocumentAddress, bool)
		Document(ctx context.Context, req broker.Request) (*broker.DocumentResult, error)
		AskLedger(ctx context.Context, req broker.LedgerQuestion) (broker.LedgerAnswer, error)
		ShowEvent(ctx context.Context, req broker.LedgerQuestion, position uint64) (audit.Row, audit.Receipt, error)
		Custodians() []broker.CustodianHealth
	}
	sealer interface {
		Seal(n record.NHSNumber) string
		Open(handle string) (record.NHSNumber, bool)
	}
	verifier interface {
		Verify(ctx context.Context, authorization, acting []string, now time.Time) (authn.Caller, error)
	}
	roles interface {
		Role(r record.Requester) consent.Role
	}
	counter interface {
		CountUnauthenticated(from netip.Addr)
		CountLimited(r record.Requester)
	}
)

var (
	_ retriever = (*broker.Broker)(nil)
	_ sealer    = (*broker.Handles)(nil)
	_ verifier  = (*authn.Verifier)(nil)
	_ roles     = (*policy.Table)(nil)
	_ counter   = (*audit.Ledger)(nil)
)

// handler serves everything. It is immutable.
type handler struct {
	broker     retriever
	handles    sealer
	verifier   verifier
	roles      roles
	counts     counter
	limiter    *authn.Limiter
	base       string
	codeBase   string
	log        *slog.Logger
	capability []byte
}

// New returns the gateway. It answers every path: what is not under [Root] is not found. It MUST be given requests as they came, not
// through an http.ServeMux that cleans paths: the redirects of one repeat the query. The server MUST bound the time of reading and
// writing and the size of headers; bodies are bounded here.
func New(cfg Config) http.Handler {
	return newHandler(cfg, cfg.Broker, cfg.Broker.Handles(), cfg.Verifier, cfg.Policy, cfg.Ledger)
}

func newHandler(cfg Config, b retriever, s sealer, v verifier, p roles, c counter) *handler {
	h := &handler{broker: b, handles: s, verifier: v, roles: p, counts: c, limiter: cfg.Limiter, base: cfg.Base, codeBase: cfg.CodeBase, log: cfg.Log}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.capability = capabilityStatement(cfg)
	return h
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{h: h, w: w, r: r, arrived: time.Now()}
	x.requestID()
	defer x.recovered()
	if p := h.serve(x); p != nil {
		x.refuse(p)
	}
}

// serve is one request from top to bottom. Nothing is read of it before it is known to be served, acceptable, and somebody's.
func (h *handler) serve(x *exchange) *problem {
	to, p := findRoute(x.r)
	if p != nil {
		return p
	}
	if p := x.negotiate(); p != nil {
		return p
	}
	if to.open {
		return to.serve(x)
	}
	if p := h.admit(x); p != nil {
		return p
	}
	p = to.serve(x)
	if p == nil || x.asked {
		return p
	}
	// Bad input of a known caller: it is answered only once it is on record (L-6).
	receipt, err := h.broker.RefuseUnread(x.r.Context(), broker.Request{ID: x.id, Face: "rest", Operation: "unread", Requester: x.caller.Requester,
		Role: h.roles.Role(x.caller.Requester), Arrived: x.arrived, BadNumber: p.badNumber})
	if err != nil {
		return x.refused(err)
	}
	p.receipt = receipt
	return p
}

// admit finds out who asks, and whether they ask too often.
func (h *handler) admit(x *exchange) *problem {
	caller, err := h.verifier.Verify(x.r.Context(), x.r.Header.Values("Authorization"), x.r.Header.Values("X-Acting-Person"), x.arrived)
	if err != nil {
		p := unauthenticated(err)
		if p.status != http.StatusServiceUnavailable {
			h.counts.CountUnauthenticated(address(x.r.RemoteAddr))
		}
		return p
	}
	if h.limiter != nil {
		if ok, after := h.limiter.Allow(caller.Requester); !ok {
			h.counts.CountLimited(caller.Requester)
			return throttled(after)
		}
	}
	x.caller = caller
	return nil
}

// address returns where a request came from, the zero address if that is not an IP address.
func address(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// recovered turns a panic into a refusal if nothing was sent yet, and cuts the connection otherwise. Only its type is told: its value
// may hold anything.
func (x *exchange) recovered() {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	x.h.log.ErrorContext(x.r.Context(), "a REST handler panicked", "request", x.id, "problem", fmt.Sprintf("%T", v))
	if x.sent {
		panic(http.ErrAbortHandler)
	}
	x.refuse(internal())
}
