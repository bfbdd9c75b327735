package socialcare

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// sentinels maps the kinds of trouble on the wire to the broker's.
var sentinels = map[wire.Kind]error{
	wire.Unavailable: broker.ErrUnavailable, wire.TimedOut: broker.ErrTimedOut, wire.Cancelled: context.Canceled, wire.Malformed: broker.ErrMalformed,
	wire.TooMuch: broker.ErrTooMuch, wire.Elsewhere: broker.ErrElsewhere, wire.Unauthorised: broker.ErrUnauthorised, wire.Throttled: broker.ErrThrottled,
	wire.Missing: broker.ErrMalformed,
}

// refusal is the answer of a council that was reached and refused this one request: other collections may do better. It wraps a sentinel.
type refusal struct{ sentinel error }

func (r *refusal) Error() string { return r.sentinel.Error() }
func (r *refusal) Unwrap() error { return r.sentinel }

// inTime returns the sentinel of err, or that the time is over: whatever fails after ctx has ended fails for that reason.
func inTime(ctx context.Context, err error) error {
	switch c := ctx.Err(); {
	case errors.Is(c, context.DeadlineExceeded):
		return broker.ErrTimedOut
	case c != nil:
		return context.Canceled
	}
	if t, ok := errors.AsType[*broker.ThrottledError](err); ok {
		return t
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.sentinel
	}
	return err
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

// statusError maps a status that is not 200: what the code in the answer says, as the mapping has it, else what the status says.
func (m *mapping) statusError(a wire.Answer) error {
	code := ""
	if a.Body != nil && m.Refusals.Code != "" {
		if d, err := fhirjson.Parse(a.Body, fhirjson.Limits{}); err == nil {
			code, _ = scalar(get(d.Root(), m.Refusals.Code))
		}
	}
	trouble := a.Trouble()
	switch s := a.Status; {
	case s >= 400 && s < 500 && code != "" && slices.Contains(m.Refusals.Withheld, code):
		return &refusal{broker.ErrWithheld}
	case (s == http.StatusNotFound || s == http.StatusGone) && code != "" && slices.Contains(m.Refusals.NoRecord, code):
		return &refusal{broker.ErrNoRecord}
	case s == http.StatusForbidden:
		return &refusal{broker.ErrUnauthorised}
	case s >= 400 && (trouble.Kind == wire.Malformed || trouble.Kind == wire.Missing):
		return &refusal{broker.ErrMalformed}
	}
	return wireError(trouble)
}
