package fhirr4

import (
	"context"
	"errors"
	"net/http"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// sentinels maps the kinds of trouble on the wire to the broker's. Missing is here for addresses that must exist: a search is never 404 on a
// server that offers it.
var sentinels = map[wire.Kind]error{
	wire.Unavailable: broker.ErrUnavailable, wire.TimedOut: broker.ErrTimedOut, wire.Cancelled: context.Canceled, wire.Malformed: broker.ErrMalformed,
	wire.TooMuch: broker.ErrTooMuch, wire.Elsewhere: broker.ErrElsewhere, wire.Unauthorised: broker.ErrUnauthorised, wire.Throttled: broker.ErrThrottled,
	wire.Missing: broker.ErrMalformed,
}

// refusal is the answer of a custodian that was reached and refused this one request: other requests of the same fetch may do better.
// It wraps a sentinel.
type refusal struct {
	sentinel    error
	unsupported bool // it does not know the type or the operation
}

func (r *refusal) Error() string { return r.sentinel.Error() }
func (r *refusal) Unwrap() error { return r.sentinel }

func isUnsupported(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.unsupported
}

// plain returns the sentinel that err wraps, and nothing else of it but how long a throttling custodian asked us to wait.
func plain(err error) error {
	if t, ok := errors.AsType[*broker.ThrottledError](err); ok {
		return t
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.sentinel
	}
	return err
}

// inTime returns err, or that the time is over: whatever fails after ctx has ended fails for that reason.
func inTime(ctx context.Context, err error) error {
	switch c := ctx.Err(); {
	case errors.Is(c, context.DeadlineExceeded):
		return broker.ErrTimedOut
	case c != nil:
		return context.Canceled
	}
	return plain(err)
}

// wireError maps trouble on the wire.
func wireError(err error) error {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return broker.ErrMalformed
	}
	if e.Kind == wire.Throttled {
		return &broker.ThrottledError{After: e.After}
	}
	return sentinels[e.Kind]
}

// tooMuch are the reasons of fhirjson that are caps; all others mean that the text cannot be read.
var tooMuch = map[string]bool{"nested too deep": true, "string too long": true, "number too long": true, "too many values": true, "text too long": true}

// textError maps a text that was refused.
func textError(err error) error {
	if e, ok := errors.AsType[*fhirjson.Error](err); ok && tooMuch[e.Reason] {
		return broker.ErrTooMuch
	}
	return broker.ErrMalformed
}

// statusError maps a status that is not 200: what an OperationOutcome says, else what the status says. Statuses that concern the one request
// become a refusal; those that concern the custodian as a whole (its credentials, its load, its health) do not.
func statusError(a wire.Answer) error {
	said := said{}
	if a.Body != nil {
		if d, err := fhirjson.Parse(a.Body, fhirjson.Limits{}); err == nil {
			said = listen(d.Root())
		}
	}
	trouble := a.Trouble()
	switch s := a.Status; {
	case said.withheld && (s == http.StatusForbidden || s == http.StatusNotFound || s == http.StatusUnauthorized):
		return &refusal{sentinel: broker.ErrWithheld}
	case said.noPatient && (s == http.StatusNotFound || s == http.StatusGone):
		return &refusal{sentinel: broker.ErrNoRecord}
	case s == http.StatusNotFound || s == http.StatusMethodNotAllowed || s == http.StatusNotImplemented || s == http.StatusBadRequest && said.unsupported:
		return &refusal{sentinel: broker.ErrMalformed, unsupported: true}
	case s == http.StatusForbidden:
		return &refusal{sentinel: broker.ErrUnauthorised}
	case s >= 400 && trouble.Kind == wire.Malformed || trouble.Kind == wire.Missing:
		return &refusal{sentinel: broker.ErrMalformed}
	}
	return wireError(trouble)
}
