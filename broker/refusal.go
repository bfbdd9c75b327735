package broker

import (
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Kind is a kind of refusal. The list is closed; each transport has one table from it.
type Kind string

// The kinds.
const (
	Invalid    Kind = "invalid"    // 400: a field that only the broker can judge; see Field
	Suppressed Kind = "suppressed" // 403: an objection to all sharing; with contacts
	Forbidden  Kind = "forbidden"  // 403: permission, relationship, role or purpose; rule named
	NotFound   Kind = "not-found"  // 404: the neutral answer, already delayed to Arrived + NeutralWait
	Transient  Kind = "transient"  // 503: ledger, registry or trace unavailable, or custodians in trouble and nothing returned
	Overloaded Kind = "overloaded" // 503 with RetryAfter: no room for another request
	OutOfTime  Kind = "timeout"    // 503 (gRPC DEADLINE_EXCEEDED): less time than the minimum
	UseStream  Kind = "use-stream" // gRPC RESOURCE_EXHAUSTED with reason USE_STREAM
	Gone       Kind = "cancelled"  // the caller left
)

// Refusal is the error of the broker's methods: always this type. Its text is fixed per kind and holds nothing of a person.
type Refusal struct {
	Kind        Kind
	Field       string              // Invalid: which field, and what to give
	Reason      consent.Reason      // Forbidden and Suppressed; never NotFound
	Rule        string              // likewise
	Explanation consent.Explanation // likewise: which rule, which of the person's choices, since when, in words
	Statuses    []record.Status     // Transient for trouble: one per custodian; Suppressed: contacts; NotFound: custodians in trouble by recent state
	RetryAfter  time.Duration       // 0: none
	Receipt     audit.Receipt       // of the refusing entry; zero if the ledger could not record, and for NotFound
}

// Error returns a fixed text.
func (r *Refusal) Error() string { return "refused: " + string(r.Kind) }
