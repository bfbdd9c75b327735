// Package audit is the ledger: one durable, tamper-evident order of consent changes, accesses, refusals and disclosures (L-1).
//
// A [Ledger] sits on a [Store] (SQLite in audit/sqlite; PostgreSQL comes later). One committer goroutine takes what is queued,
// evaluates it in order inside one transaction, each against the state with all earlier ones applied, and acknowledges after
// the commit. An entry's bytes are final from the first version (L-2).
package audit

import (
	"errors"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Kinds of trouble. The list is closed.
var (
	ErrUnavailable    = errors.New("the ledger cannot record")                // nothing was recorded, as far as is known: refuse with 503
	ErrClosed         = errors.New("the access is closed")                    // a second closing entry, or a release after one
	ErrConsentChanged = errors.New("preferences changed since the decision")  // see ConsentChangedError
	ErrNotFound       = errors.New("no such objection")                       // withdraw of what is not there, or is not the person's
	ErrStale          = errors.New("the objection changed since it was read") // withdraw or change of what somebody else changed
	ErrNotPermitted   = errors.New("the permit does not allow this")          // no valid permit or opened access, another person's, or a disclosure that shows more than the permit leaves: our own bug, refused
	ErrInvalid        = errors.New("not something that can be recorded")      // the rest of the text says what to give; it never repeats a value
	ErrNotRecorded    = errors.New("no such entry in this ledger")            // of a receipt that is not this ledger's
	ErrNotSigned      = errors.New("there is no such checkpoint")             // or not yet: an entry is signed within a second
	ErrDamaged        = errors.New("the ledger is damaged")                   // what is stored is not what was recorded: serve nothing, ask an operator
)

// ConsentChangedError carries the preferences that the releasing transaction read. It wraps [ErrConsentChanged].
type ConsentChangedError struct{ Preferences consent.Preferences }

// Error returns the text of ErrConsentChanged.
func (e *ConsentChangedError) Error() string { return ErrConsentChanged.Error() }

// Unwrap returns ErrConsentChanged.
func (e *ConsentChangedError) Unwrap() error { return ErrConsentChanged }

// EntryType is what an entry records. The list is closed and its numbers are final.
type EntryType uint8

// The types of entry.
const (
	TypeBegin      EntryType = 1  // an access is opened: permitted, nobody asked yet
	TypeChunk      EntryType = 2  // one custodian's part of a stream may be sent
	TypeReleased   EntryType = 3  // closing: the answer may be sent
	TypeRefused    EntryType = 4  // closing, or alone where no access was opened
	TypeNothing    EntryType = 5  // closing: nothing was shown; with states
	TypeCancelled  EntryType = 6  // closing: the caller left
	TypeAbandoned  EntryType = 7  // closing: the process ended, or forgot, before it closed the access
	TypeObjection  EntryType = 8  // an objection was recorded or changed
	TypeOverride   EntryType = 9  // break-glass; an alert row stands in the same transaction
	TypeReview     EntryType = 10 // of an override
	TypeRead       EntryType = 11 // somebody searched the ledger, or looked at objections
	TypeCheck      EntryType = 12 // callers without a valid token, counted per address and minute
	TypeLimited    EntryType = 13 // rate-limited calls of one caller in one minute
	TypeKey        EntryType = 14 // a key epoch begins
	TypePolicy     EntryType = 15 // configuration or policy in force changed: its hash
	TypeImport     EntryType = 16 // a list of objections begins to be brought in; none of it stands yet
	TypeImported   EntryType = 17 // all of that list stands from here; or it was given up, and none of it ever does
	TypeAdopted    EntryType = 18 // a following system says that it honours all changes up to a position
	TypeRedact     EntryType = 19 // payloads of entries were erased: which, by whom and on what legal basis
	TypeDelegation EntryType = 20 // a person lets a carer see their record, or no longer (C-6)
	TypeAlert      EntryType = 21 // the worklist's rules found an access that somebody must look at
	TypeHandled    EntryType = 22 // an alert was taken, closed or reopened
)

// Access is what is recorded of a request, when it is permitted and, with equal detail, when it is refused.
type Access struct {
	Key              string // 32 hex digits, made once per request: finds out what became of a commit whose outcome is unknown
	RequestID        string // X-Request-ID, as echoed
	Face             string // "rest", "grpc", "stream"
	Operation        string // "everything", "search", "read", "GetRecord" ...
	Subject          record.NHSNumber
	Supersedes       []record.NHSNumber
	Standing         record.Standing // "" if not traced
	Requester        record.Requester
	RoleName         string
	Purpose          record.Purpose
	Permission       record.Permission
	Relationship     record.Relationship
	BreakGlassReason string
	Filter           string           // types and times asked for, as text; no patient data
	Decision         consent.Decision // zero if none was reached
	Reason           consent.Reason   // of a refusal; else ""
	Rule             string
	Asked            []record.CustodianKey // who will be asked
	Configuration    string                // hash of the configuration in force
	Policy           string                // hash of the policy table in force
	At               time.Time
	Budget           time.Duration // an access open for more than twice this is abandoned
	Evidence         *Evidence     // what who asks and whom they ask about have to do with each other; nil: nothing was compared
}

// Disclosure is what a release says was shown: enough to prove a past view, too little to read it (L-5).
type Disclosure struct {
	Custodians []Shown
	Total      int       // matches in the answer
	Bytes      int64     // of the answer; 0 for a stream
	Evidence   *Evidence // what the record told of why it was asked for; nil: it was not looked through
}

// Shown is one custodian's part of a disclosure.
type Shown struct {
	Key      record.CustodianKey
	State    record.State
	Reason   string
	Parts    []record.Part
	Sections record.Sections // of the entries shown
	Count    int             // entries shown
	Digests  [][32]byte      // SHA-256 of each entry's bytes as sent, in the order of the answer
}

// Receipt proves that an entry stands in the ledger; the requester may keep it and check it later (L-4).
type Receipt struct {
	Origin   string // the ledger's name
	Position uint64
	Leaf     [32]byte
}

// Opened is proof that an access was recorded durably before anybody was asked. Only this package makes a valid one.
type Opened struct {
	ledger   *Ledger // nil: none
	position uint64
	subjects []record.NHSNumber // the person's number first, then those that it supersedes
	access   *Access
	permit   consent.Permit // the one that Begin recorded
	decision []byte         // canonical bytes of its decision
	override uint64         // position of the Override entry, 0 for none
	expires  time.Time      // of the override
}

// Position returns where the access stands.
func (o Opened) Position() uint64 { return o.position }

// Valid reports whether o came from Begin.
func (o Opened) Valid() bool { return o.ledger != nil }

// Actor is who changes or reads something other than a record.
type Actor struct {
	Requester record.Requester
	RoleName  string
	RequestID string
	Reason    string // why, in their words; at most 500 bytes
	Face      string

	Configuration string // hash of the configuration in force
	Policy        string // hash of the policy table in force
}
