// Package broker is the product: one request, whole. A request is traced, decided, recorded, asked, merged, recorded again and
// only then released (design section 3). [Broker.Retrieve] reads like that sentence; [Broker.Stream] does the same custodian by
// custodian. The broker is stateless: of a record and of a request it keeps nothing.
package broker

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Binding is one configured custodian: what it is, what it allows, and our means of reading it.
type Binding struct {
	Rules        consent.CustodianRules
	Merge        merge.Rules // Permitted and PatientEntered are set per request
	Source       Source
	Adapter      string        // kind, for statuses of custodians that were not asked
	Sources      []NamedSource // of a custodian that is read in several ways, at least two; Source and Adapter are unused then
	Timeout      time.Duration // whole, search and pages included; 3 s
	TraceContext bool          // sends traceparent on
	Locator      *Locator      // says of whom the custodian holds nothing; nil: it is asked about everybody
}

// NamedSource is one of several sources of a custodian. Its name is shown to people where it is missing from an answer.
type NamedSource struct {
	Name    string
	Source  Source
	Adapter string
}

// Config is what a Broker is made of. Fields without a default are required.
type Config struct {
	Custodians       []Binding // in the order in which people are shown them
	Tracer           Tracer
	Ledger           *audit.Ledger
	Base             string               // FHIR base address, no trailing slash
	CodeBase         string               // base of our code systems
	IDKey            []byte               // 32 bytes; key of the HMAC in ids (M-5). Changing it changes ids
	HandleKey        []byte               // 64 bytes; key of handles (M-7)
	TestNumbers      bool                 // accept NHS numbers from 999 000 0000 up
	Configuration    string               // hash of the configuration in force, for the ledger
	Sections         *merge.SectionRules  // which section an entry belongs to; nil: the rules that are built in
	Request          time.Duration        // budget of one request; 8 s
	Reserve          time.Duration        // kept back for release and sending; 250 ms
	Minimum          time.Duration        // less than this left: refuse at once; 500 ms
	NeutralWait      time.Duration        // neutral answers leave this long after arrival, and no custodian is waited for longer, less Reserve
	TraceTimeout     time.Duration        // 2 s
	DeceasedWindow   time.Duration        // 28 days
	Limits           Limits               // per custodian
	RequestBytes     int64                // decoded bytes of one request; 64 MiB
	MaxInFlightBytes int64                // memory that all requests may take at once, four bytes for one decoded; 1 GiB
	BreakerFailures  int                  // consecutive failures that open a breaker; 5
	BreakerOpen      time.Duration        // how long it stays open; 15 s
	ListTraces       int                  // how many people of a list may be asked for at once; 16
	ListTraceRate    int                  // and how many in a second: what the demographics service allows beside care; 0: as many as it answers
	Followers        []Follower           // systems that are told of changes to objections
	Hints            Hints                // what replicas tell each other; nil: there is one, or each finds out for itself
	Staff            Staff                // what the worklist's rules compare; nil: nothing
	Log              *slog.Logger         // made by NewLogger; nil: none
	Traces           trace.TracerProvider // nil: none
	Meters           metric.MeterProvider // nil: none
}

// Broker answers requests. It is safe for concurrent use.
type Broker struct {
	cfg        Config
	custodians []*custodian
	sources    int // of all custodians
	handles    *Handles
	pages      cipher.AEAD
	room       *room
	making     chan struct{} // full while as many parts are made as there are cores
	log        *slog.Logger
	spans      trace.Tracer
	metrics    *metrics
	lists      sync.Mutex // held by the one list of objections that comes in
}

// New checks the configuration and returns a broker. It asks nobody.
func New(cfg Config) (*Broker, error) {
	if cfg.Hints == nil {
		cfg.Hints = noHints{}
	}
	if cfg.Ledger == nil || cfg.Tracer == nil || len(cfg.Custodians) == 0 {
		return nil, errors.New("broker: a ledger, a tracer and at least one custodian are required")
	}
	if len(cfg.IDKey) < 32 || cfg.NeutralWait <= 0 || cfg.Request <= cfg.Reserve || cfg.MaxInFlightBytes < cfg.RequestBytes || cfg.RequestBytes <= 0 ||
		cfg.NeutralWait < cfg.Reserve+cfg.Minimum {
		return nil, errors.New("broker: keys, times or sizes are missing or contradict each other")
	}
	if cfg.Sections == nil {
		cfg.Sections = merge.ShippedSections()
	}
	handles, err := NewHandles(cfg.HandleKey)
	if err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, handles: handles, room: newRoom(cfg.MaxInFlightBytes), making: make(chan struct{}, runtime.GOMAXPROCS(0)), log: cfg.Log}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.pages, err = newPages(cfg.HandleKey); err != nil {
		return nil, err
	}
	if b.spans, b.metrics, err = instruments(cfg.Traces, cfg.Meters, b); err != nil {
		return nil, err
	}
	for _, binding := range cfg.Custodians {
		none := func(s NamedSource) bool { return s.Source == nil || s.Name == "" }
		if len(binding.Sources) == 1 || slices.ContainsFunc(binding.Sources, none) || (binding.Source == nil) == (len(binding.Sources) == 0) {
			return nil, fmt.Errorf("broker: custodian %s: one source, or several with names", binding.Rules.Custodian.Key)
		}
		if binding.Timeout <= 0 || binding.Timeout+cfg.Reserve > cfg.NeutralWait {
			return nil, fmt.Errorf("broker: custodian %s has no timeout, or one that does not fit into NeutralWait", binding.Rules.Custodian.Key)
		}
		if l := binding.Locator; l != nil && !l.valid(binding.Timeout) {
			return nil, fmt.Errorf("broker: custodian %s has a locator without an index, that may be more than 72h behind, or that takes more than a quarter of its time", binding.Rules.Custodian.Key)
		}
		c := newCustodian(binding, cfg)
		b.custodians, b.sources = append(b.custodians, c), b.sources+len(c.sources)
	}
	return b, nil
}

// Request is one question about one person.
type Request struct {
	ID               string // X-Request-ID, echoed; made by the transport if the caller gave none
	Face             string // "rest", "grpc", "stream"
	Operation        string // "everything", "search", "read", "document", "GetRecord", "StreamRecord", "GetDocument"
	Subject          record.NHSNumber
	BirthDate        string // optional second identifier, YYYY-MM-DD; a mismatch with the trace is the neutral answer
	Requester        record.Requester
	Role             consent.Role // from broker/policy
	Purpose          record.Purpose
	Permission       record.Permission
	Relationship     record.Relationship // the transport sets SelfClaimed where the caller gave none
	BreakGlassReason string
	Filter           merge.Filter
	Demographics     bool             // Patient search and read: ask custodians for the Patient only
	Arrived          time.Time        // when all of it had been read; neutral answers leave at Arrived + NeutralWait
	MaxBytes         int64            // refuse with UseStream before release if the Bundle would be larger; 0: no bound
	Meta             merge.BundleMeta // how the Bundle will be written; ReceiptTag is set by the transport from the receipt
	BadNumber        bool             // of a call that could not be read: its number fails its check digit
	TokenProblem     consent.Reason   // ReasonNoActingPerson: refuse and record, ask nobody; "" for none
	Document         DocumentAddress  // of [Broker.Document]: what is asked for; Subject is the same person
}

// Result is a released answer. From the moment it is returned its entry is durable, and the first byte may leave. Whoever gets one MUST call
// Done when the answer has been written or dropped: until then the memory that it takes counts as used.
type Result struct {
	Answer  merge.Answer
	Receipt audit.Receipt
	Nothing bool // nothing was shown: some withheld, the rest no-record (200, no match, outcomes)
	done    func()
}

// Done gives back the room that the answer takes. It may be called more than once, and on a nil Result.
func (r *Result) Done() {
	if r != nil && r.done != nil {
		r.done()
	}
}

// Retrieve answers one request whole. The error is always a [*Refusal].
func (b *Broker) Retrieve(ctx context.Context, req Request) (*Result, error) {
	a, refusal := b.open(ctx, req)
	if refusal != nil {
		return nil, refusal
	}
	defer a.end()
	held := make([]held, 0, len(b.custodians))
	for h := range a.gather(a.permit, a.opened) {
		held = append(held, h)
	}
	if a.overtaken.Load() {
		_, statuses := a.prepared(held)
		return nil, a.cutShort(statuses)
	}
	if a.bytes.gaveUp() {
		_, statuses := a.prepared(held)
		return nil, a.close(audit.TypeRefused, consent.ReasonBudget, statuses, &Refusal{Kind: Overloaded, RetryAfter: b.room.comeBack()})
	}
	for rebuilt := false; ; rebuilt = true {
		// From here on the whole answer is in memory, and nothing of it may leave before Release says so.
		prepared, statuses := a.prepared(held)
		if !showing(prepared) {
			return a.nothing(prepared, statuses)
		}
		answer := merge.Assemble(a.merging, prepared, statuses)
		if req.MaxBytes > 0 && answer.BundleSize(req.Meta) > req.MaxBytes {
			return nil, a.close(audit.TypeRefused, consent.ReasonTooLarge, statuses, &Refusal{Kind: UseStream})
		}
		if a.ctx.Err() != nil && ctx.Err() != nil {
			return nil, a.close(audit.TypeCancelled, consent.ReasonCancelled, statuses, &Refusal{Kind: Gone})
		}
		receipt, err := a.release(a.disclosure(answer, prepared))
		if err == nil {
			a.outcome("released")
			return &Result{Answer: answer, Receipt: receipt, done: a.keepBytes()}, nil
		}
		if refusal := a.changed(err, rebuilt, statuses); refusal != nil {
			return nil, refusal
		}
		// Preferences changed while custodians were asked, and the new ones still permit something: build once more without the rest.
	}
}

// Sink takes a stream's pieces in order, each only after the entry that releases it is durable. It is called from one goroutine. An error
// ends the stream: the caller left.
type Sink interface {
	// Plan comes once, first: the person's handle, and who will be asked, who will not, and why.
	Plan(handle string, custodians []record.Status) error
	// Chunk comes once per custodian, as they answer; those that show nothing come without entries and with a zero receipt.
	Chunk(status record.Status, entries []merge.Entry, receipt audit.Receipt) error
	// Summary comes once, last: what we author, the address of every entry of the answer in the order of M-8, the closing receipt.
	Summary(authored merge.Answer, order []string, receipt audit.Receipt) error
}

// Stream answers one request custodian by custodian: each chunk has its own entry, durable before that chunk is sent. The error is
// always a [*Refusal]; after Plan was called, an error means that what was sent is not the whole answer.
func (b *Broker) Stream(ctx context.Context, req Request, sink Sink) error {
	a, refusal := b.open(ctx, req)
	if refusal != nil {
		return refusal
	}
	defer a.end()
	var sent []held
	gone := func() error {
		_, statuses := a.prepared(sent)
		return a.close(audit.TypeCancelled, consent.ReasonCancelled, statuses, &Refusal{Kind: Gone})
	}
	// Nothing is sent before it is certain that the answer will not be the neutral one: a plan alone would say that somebody is known here.
	_, planned := a.prepared(nil)
	certain := !allPending(planned)
	if certain && sink.Plan(a.merging.Handle, planned) != nil {
		return gone()
	}
	for h := range a.gather(a.permit, a.opened) {
		if a.overtaken.Load() {
			_, statuses := a.prepared(sent)
			return a.cutShort(statuses)
		}
		if !certain && unheld(a.prepare(h).prepared.Status) {
			sent = append(sent, h)
			continue
		}
		if !certain {
			certain = true
			if sink.Plan(a.merging.Handle, planned) != nil {
				return gone()
			}
			for i := range sent {
				if sink.Chunk(sent[i].prepared.Status, nil, audit.Receipt{}) != nil {
					return gone()
				}
				sent[i].sent = true
			}
		}
		var receipt audit.Receipt
		for rebuilt := false; ; rebuilt = true {
			h = a.prepare(h)
			if !h.prepared.Status.State.Showing() {
				break
			}
			var err error
			receipt, err = a.releaseChunk(chunkDisclosure(h.prepared))
			if err == nil {
				break
			}
			_, statuses := a.prepared(sent)
			if refusal := a.changed(err, rebuilt, statuses); refusal != nil {
				return refusal
			}
		}
		h.sent = true
		sent = append(sent, h)
		if ctx.Err() != nil || sink.Chunk(h.prepared.Status, h.prepared.Entries, receipt) != nil {
			return gone()
		}
	}
	for rebuilt := false; ; rebuilt = true {
		prepared, statuses := a.prepared(sent)
		if !showing(prepared) {
			res, err := a.nothing(prepared, statuses)
			if err != nil {
				return err
			}
			return a.summary(ctx, sink, res.Answer, res.Answer, res.Receipt)
		}
		whole := merge.Assemble(a.merging, prepared, statuses)
		receipt, err := a.release(a.closing(whole, prepared))
		if err == nil {
			a.outcome("released")
			return a.summary(ctx, sink, merge.Authored(a.merging, prepared, statuses), whole, receipt)
		}
		if refusal := a.changed(err, rebuilt, statuses); refusal != nil {
			return refusal
		}
	}
}
