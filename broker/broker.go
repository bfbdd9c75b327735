package broker

import (
	"context"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Broker answers one request at a time, whole. It keeps nothing of a record and no request. It is safe for concurrent use.
type Broker struct{}

// Request is one question about one person.
type Request struct {
	ID               string // X-Request-ID, echoed; made by the transport if the caller gave none
	Face             string // "rest", "grpc", "stream"
	Operation        string // "everything", "search", "read", "GetRecord", "StreamRecord"
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
	Arrived          time.Time        // neutral answers leave at Arrived + NeutralWait
	MaxBytes         int64            // refuse with UseStream before release if the Bundle would be larger; 0: no bound
	Meta             merge.BundleMeta // how the Bundle will be written; ReceiptTag is set by the transport from the receipt
	TokenProblem     consent.Reason   // ReasonNoActingPerson: refuse and record, ask nobody; "" for none
}

// Result is a released answer. From the moment it is returned its entry is durable, and the first byte may leave.
type Result struct {
	Answer  merge.Answer
	Receipt audit.Receipt
	Nothing bool // nothing was shown: some withheld, the rest no-record (200, no match, outcomes)
}

// Kind is a kind of refusal. The list is closed; each transport has one table from it.
type Kind string

// The kinds.
const (
	Invalid    Kind = "invalid"    // 400: a field that only the broker can judge
	Suppressed Kind = "suppressed" // 403: an objection to all sharing; with contacts
	Forbidden  Kind = "forbidden"  // 403: permission, relationship, role or purpose; rule named
	NotFound   Kind = "not-found"  // 404: the neutral answer, already delayed to Arrived + NeutralWait
	Transient  Kind = "transient"  // 503: ledger, registry or trace unavailable, or custodians in trouble and nothing returned
	Overloaded Kind = "overloaded" // 503 with RetryAfter: no room for another request
	OutOfTime  Kind = "timeout"    // 503 (gRPC DEADLINE_EXCEEDED): less time than the minimum
	UseStream  Kind = "use-stream" // gRPC RESOURCE_EXHAUSTED with reason USE_STREAM
	Gone       Kind = "cancelled"  // the caller left
)

// Refusal is the error of Retrieve and Stream: always this type. Its text is fixed per kind and holds nothing of a person.
type Refusal struct {
	Kind       Kind
	Reason     consent.Reason  // for Forbidden and Suppressed; never for NotFound
	Rule       string          // likewise
	Statuses   []record.Status // Transient for trouble: one per custodian; Suppressed: contacts; NotFound: custodians in trouble by recent state
	RetryAfter time.Duration   // 0: none
	Receipt    audit.Receipt   // of the refusing entry; zero if the ledger could not record
}

// Error returns a fixed text.
func (r *Refusal) Error() string { return "refused: " + string(r.Kind) }

// Retrieve answers one request whole. The error is always a [*Refusal].
func (b *Broker) Retrieve(ctx context.Context, req Request) (*Result, error) { panic("contract") }

// Sink takes a stream's pieces in order, each only after the entry that releases it is durable. An error ends the stream: the caller left.
// It is called from one goroutine.
type Sink interface {
	Plan(handle string, custodians []record.Status) error                           // once, first: who will be asked, and who will not and why
	Chunk(status record.Status, entries []merge.Entry, receipt audit.Receipt) error // once per custodian, as they answer; entries may be none
	Summary(authored merge.Answer, order []string, receipt audit.Receipt) error     // once, last: what we author, every fullUrl of the answer in order, the closing receipt
}

// Stream answers one request custodian by custodian. The error is always a [*Refusal]; after Plan was called, an error means that the
// answer is not whole.
func (b *Broker) Stream(ctx context.Context, req Request, s Sink) error { panic("contract") }

// CustodianHealth is what ListCustodians shows of one custodian.
type CustodianHealth struct {
	Custodian  record.Custodian
	Adapter    string
	Breaker    string       // "closed", "open", "half-open"
	LastState  record.State // of the last answer; "" before the first
	LastAnswer time.Time    // zero before the first
}

// Custodians lists the configured custodians in order. It asks nobody and says nothing of any person.
func (b *Broker) Custodians() []CustodianHealth { panic("contract") }

// ObjectionRequest is a call of ConsentService (C-10).
type ObjectionRequest struct {
	ID        string // X-Request-ID
	Face      string
	Requester record.Requester
	Role      consent.Role
	Subject   record.NHSNumber
	BirthDate string // required unless the person asks about themselves; the trace must confirm it
	Reason    string
	Key       string // 32 hex digits; makes a change safe to repeat; "" makes one
	Arrived   time.Time
}

// RecordObjection records an objection in force. The error is always a [*Refusal].
func (b *Broker) RecordObjection(ctx context.Context, req ObjectionRequest, o consent.Objection) (consent.Objection, audit.Receipt, error) {
	panic("contract")
}

// WithdrawObjection ends one. The error is always a [*Refusal].
func (b *Broker) WithdrawObjection(ctx context.Context, req ObjectionRequest, id string) (consent.Objection, audit.Receipt, error) {
	panic("contract")
}

// ShowObjections lists them; the look is recorded. The error is always a [*Refusal].
func (b *Broker) ShowObjections(ctx context.Context, req ObjectionRequest) ([]consent.Objection, audit.Receipt, error) {
	panic("contract")
}

// SearchRequest is a call of AuditService (L-6).
type SearchRequest struct {
	ID        string
	Face      string
	Requester record.Requester
	Role      consent.Role
	Reason    string // why the question is asked; required of IG officers
	Query     audit.Search
}

// SearchAccesses answers what the ledger knows, within what the requester may ask: IG officers of an organisation see accesses by its staff and of its
// records; a person sees those of their own record. The question is itself recorded. The error is always a [*Refusal].
func (b *Broker) SearchAccesses(ctx context.Context, req SearchRequest) ([]audit.Found, bool, audit.Receipt, error) {
	panic("contract")
}

// Handles seals and opens the ids of Patients that we author (M-7).
type Handles struct{}

// Seal returns the handle of a number: lower-case base32, the same for everyone in a deployment; it grants nothing.
func (h *Handles) Seal(n record.NHSNumber) string { panic("contract") }

// Open returns the number of a handle, false if it is none of ours.
func (h *Handles) Open(handle string) (record.NHSNumber, bool) { panic("contract") }

// Handles returns the broker's.
func (b *Broker) Handles() *Handles { panic("contract") }
