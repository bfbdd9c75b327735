package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Source is our means of reading one custodian.
//
// Fetch returns everything that the custodian holds about the subject, or less where the query allows it. It MUST verify that the
// custodian answered for the person asked, MUST NOT return a part of a reply that it could not read to its end, and MUST NOT
// follow an address outside the configured origin and path. It MUST honour ctx: when ctx ends, so does Fetch, with
// [ErrTimedOut] or ctx.Err(). It is called concurrently. A nil error with no entries is not allowed: that is [ErrNoRecord].
// Every error wraps exactly one of the sentinels below and holds no text from outside: no address, no body, no identifier.
type Source interface {
	Fetch(ctx context.Context, q Query) (Reply, error)
}

// documents is what a Source also is whose custodian has documents beside its resources: an optional part of the same contract, so that a custodian
// without them needs nothing.
//
// Opens reports whether Document could be asked for an address that stands in a resource of the custodian's: only for one below a configured origin
// and path. It asks nobody. Document fetches one, whole or not at all, for the subject of the query; it MUST check the address again, MUST NOT return a
// document that says it is about another person, and keeps to limits, ctx and sentinels as Fetch does. [ErrNoRecord] is a document that is not there any more.
type documents interface {
	Opens(address string) bool
	Document(ctx context.Context, q Query, address string) (Document, error)
}

// Index says whether a custodian has anything about somebody, without reading it.
//
// Locate MUST return an error unless it read the index's answer to its end and that answer is clear: one with warnings, about somebody else, or for another
// custodian is none. It keeps to limits, ctx and sentinels as Fetch does, and is called concurrently.
type Index interface {
	Locate(ctx context.Context, q Query) (Located, error)
}

// Located is what an index says of one person.
type Located struct {
	Listed bool      // something about the person is listed
	AsOf   time.Time // when the custodian is known to have last brought the index up to date; never later than the question. Zero: nothing says so
}

// Document is one document as its holder keeps it.
type Document struct {
	Bytes []byte
	Type  string // media type, as its holder gives it; "" if it does not
	Codes []Code // that stand in it, as far as it can be read: by them is known what the custodian never shares (C-2.5), and to whom it may be shown (C-5)
}

// Code is a coding's system and code.
type Code = merge.Code

// Query is what a Source is asked.
type Query struct {
	Subject   record.Subject
	Requester record.Requester // who asks: protocols that name the practitioner carry it on
	Purpose   record.Purpose
	RequestID string            // for X-Request-ID
	Types     []string          // FHIR types wanted, nil for all: a hint; the broker filters (M-12)
	Sections  record.Sections   // sections permitted: a hint where the protocol can ask for less (C-4)
	Trace     map[string]string // trace-context headers to send on, nil unless this custodian is configured for it
	Limits    Limits
}

// Limits are the caps of R-7 for one custodian. A Source MUST stop at each of them with [ErrTooMuch].
type Limits struct {
	Bytes         int64 // decoded bodies in total; 32 MiB
	Resources     int   // 20,000
	Pages         int   // 400
	ResourceBytes int   // 8 MiB
	StringBytes   int   // 4 MiB
	Depth         int   // 64
	Ratio         int   // decoded to encoded bytes, after the first MiB; 100

	// Take is called before n more decoded bytes are held, and reports whether the whole request may hold them (64 MiB, R-7): where it
	// says no, Fetch ends with ErrTooMuch. nil: no bound. It may be called concurrently.
	Take func(n int64) bool
}

// DefaultLimits are those of R-7.
var DefaultLimits = Limits{Bytes: 32 << 20, Resources: 20_000, Pages: 400, ResourceBytes: 8 << 20, StringBytes: 4 << 20, Depth: 64, Ratio: 100}

// Reply is what one custodian returned. Entries MUST include exactly the custodian's Patient for the subject among them.
type Reply struct {
	Base        string           // address of its server, with which its own absolute references begin; no trailing slash
	Entries     []fhirjson.Entry // in the order received
	Parts       []record.Part    // what the custodian itself says is missing
	Bytes       int64            // decoded bytes held
	Adapter     string           // kind and version, "fhirr4/1"
	Conversions []string         // what was converted on the way, for Provenance; nil for none
}

// The kinds of trouble. The list is closed; design section 6 maps each to a state and to the breaker's verdict.
var (
	ErrNoRecord     = errors.New("the custodian holds no record")               // no-record; healthy
	ErrWithheld     = errors.New("the custodian withholds the record")          // withheld; healthy
	ErrTimedOut     = errors.New("the custodian did not answer in time")        // timed-out; failure
	ErrUnavailable  = errors.New("the custodian cannot be reached")             // unavailable; failure
	ErrThrottled    = errors.New("the custodian asks us to wait")               // unavailable; healthy; see ThrottledError
	ErrUnauthorised = errors.New("the custodian refuses our credentials")       // failed; healthy; operator alarm
	ErrMalformed    = errors.New("the custodian's answer cannot be read")       // failed; failure
	ErrTooMuch      = errors.New("the custodian's answer exceeds a cap")        // failed; failure
	ErrWrongSubject = errors.New("the custodian answered about another person") // failed; failure; alarm
	ErrElsewhere    = errors.New("the custodian points to another address")     // failed; failure
	ErrPanicked     = errors.New("the adapter panicked")                        // failed; failure
)

// Safely runs f, which a source runs on a goroutine of its own: what panics there would end the process, because nobody else can recover it. The error holds the type of
// what was panicked with and no more, since the value may hold patient data.
func Safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %T", ErrPanicked, v)
		}
	}()
	return f()
}

// ThrottledError carries how long a custodian asked us to wait. It wraps [ErrThrottled].
type ThrottledError struct{ After time.Duration }

// Error returns the text of ErrThrottled.
func (e *ThrottledError) Error() string { return ErrThrottled.Error() }

// Unwrap returns ErrThrottled.
func (e *ThrottledError) Unwrap() error { return ErrThrottled }

// Tracer asks the demographics service about a number.
//
// Trace returns the subject with its standing; an unknown, superseded, restricted or invalidated number is no error. Numbers
// and demographics of a superseded or restricted person MUST NOT be in the result beyond what the standing needs. An error means
// that the service could not be asked or understood, and refuses the request. It is called concurrently and MUST honour ctx.
type Tracer interface {
	Trace(ctx context.Context, number record.NHSNumber, requestID string) (record.Subject, error)
}
