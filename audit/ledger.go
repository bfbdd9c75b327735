package audit

import (
	"context"
	"net/netip"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Ledger is the one order of everything that IG must know. It is safe for concurrent use. Every method that records returns
// after the commit that made its entry durable, or with an error that wraps one of the sentinels.
type Ledger struct{}

var _ consent.Registry = (*Ledger)(nil)

// Begin opens an access: durable before anybody is asked. For a permit that breaks the glass, the Override entry and its alert
// row are written first, in the same transaction (C-3).
func (l *Ledger) Begin(ctx context.Context, p consent.Permit, a Access) (Opened, error) {
	panic("contract")
}

// Refuse records a request that was refused before an access was opened, with the same detail.
func (l *Ledger) Refuse(ctx context.Context, a Access) (Receipt, error) { panic("contract") }

// ReleaseChunk records that one custodian's part of a stream may be sent; the access stays open.
// Preferences are re-read in the same transaction: [*ConsentChangedError] if p no longer holds.
func (l *Ledger) ReleaseChunk(ctx context.Context, o Opened, p consent.Permit, d Disclosure) (Receipt, error) {
	panic("contract")
}

// Release records that the answer may be sent, and closes the access. Preferences are re-read in the same transaction.
func (l *Ledger) Release(ctx context.Context, o Opened, p consent.Permit, d Disclosure) (Receipt, error) {
	panic("contract")
}

// Close closes an access that showed nothing (more): t is TypeRefused, TypeNothing or TypeCancelled.
func (l *Ledger) Close(ctx context.Context, o Opened, t EntryType, reason consent.Reason, d Disclosure) (Receipt, error) {
	panic("contract")
}

// Position returns where the access stands.
func (o Opened) Position() uint64 { panic("contract") }

// Valid reports whether o came from Begin.
func (o Opened) Valid() bool { panic("contract") }

// Preferences implements consent.Registry from the ledger's own state: every acknowledged change is in it.
func (l *Ledger) Preferences(ctx context.Context, numbers []record.NHSNumber) (consent.Preferences, error) {
	panic("contract")
}

// Actor is who changes or reads something other than a record.
type Actor struct {
	Requester record.Requester
	RoleName  string
	RequestID string
	Reason    string // why, in their words
	Face      string
}

// RecordObjection records a new objection about the person, in force from acknowledgement (or from o.From if later). ID, Recorded and Position
// of o are set by the ledger. key (32 hex digits) makes it safe to repeat: the same key returns what the first call recorded.
func (l *Ledger) RecordObjection(ctx context.Context, by Actor, about record.NHSNumber, o consent.Objection, key string) (consent.Objection, Receipt, error) {
	panic("contract")
}

// WithdrawObjection ends an objection. numbers are the person's number and those that it supersedes. ErrNotFound if the objection is
// not about any of them; withdrawing one that is withdrawn already returns it as it is.
func (l *Ledger) WithdrawObjection(ctx context.Context, by Actor, numbers []record.NHSNumber, id, key string) (consent.Objection, Receipt, error) {
	panic("contract")
}

// ReadObjections records the look (C-10) and returns the objections, all statuses, newest first.
func (l *Ledger) ReadObjections(ctx context.Context, by Actor, numbers []record.NHSNumber) ([]consent.Objection, Receipt, error) {
	panic("contract")
}

// Search is what an IG officer, or the person, asks of the ledger. Empty fields do not restrict.
type Search struct {
	Subjects     []record.NHSNumber // the person, and superseded numbers
	User         string             // SDS user id
	Organisation record.ODSCode     // of the requester
	From, Until  time.Time          // half-open
	Types        []EntryType
	Within       record.ODSCode        // only accesses by this organisation's staff, or of a record that this organisation holds; "" for no such bound
	Custodians   []record.CustodianKey // those that Within holds
	Limit        int                   // 1 to 1,000; 100 if 0
	Before       uint64                // positions below this; 0: from the newest
}

// Found is one entry as a search shows it: what happened, never what was in the record.
type Found struct {
	Position   uint64
	Type       EntryType
	At         time.Time
	Leaf       [32]byte
	Opens      uint64 // position of the Begin that this closes or continues, 0 for none
	Subject    record.NHSNumber
	Access     *Access            // Begin, Refused alone, Override
	Disclosure *Disclosure        // Chunk, Released, Nothing, Refused, Cancelled
	Objection  *consent.Objection // Objection
	Actor      *Actor             // Objection, Read, Review
	Reason     string
	Count      int // Check, Limited
}

// Search records the question (L-6) and answers it, newest first. more is true if Limit cut the answer.
func (l *Ledger) Search(ctx context.Context, by Actor, q Search) (found []Found, more bool, r Receipt, err error) {
	panic("contract")
}

// CountUnauthenticated counts a call without a valid token: one Check entry per address and minute, at most 1,000 addresses a minute,
// the rest under the zero address (L-6). It does not wait.
func (l *Ledger) CountUnauthenticated(from netip.Addr) { panic("contract") }

// CountLimited counts a rate-limited call of a known caller: one entry per caller and minute with the count (L-6). It does not wait.
func (l *Ledger) CountLimited(r record.Requester) { panic("contract") }

// Stats is what the metrics show.
type Stats struct {
	Position   uint64
	Open       int // accesses not closed
	Batches    uint64
	Entries    uint64
	LastBatch  int
	LastCommit time.Duration
}

// Stats returns counters. It does not wait.
func (l *Ledger) Stats() Stats { panic("contract") }
