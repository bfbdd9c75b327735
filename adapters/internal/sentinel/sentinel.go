// Package sentinel says what trouble that every adapter meets is to the broker: trouble on the wire, a text that is refused, a request whose time is over. What only
// one protocol can say stands in that adapter's errors.go.
package sentinel

import (
	"context"
	"errors"

	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// kinds are the sentinels of the kinds of trouble on the wire. Missing is an address that must exist: a protocol in which a 404 says something of the person
// looks at that before.
var kinds = map[wire.Kind]error{
	wire.Unavailable: broker.ErrUnavailable, wire.TimedOut: broker.ErrTimedOut, wire.Cancelled: context.Canceled, wire.Malformed: broker.ErrMalformed,
	wire.TooMuch: broker.ErrTooMuch, wire.Elsewhere: broker.ErrElsewhere, wire.Unauthorised: broker.ErrUnauthorised, wire.Missing: broker.ErrMalformed,
}

// OfWire returns what trouble on the wire is; anything else is malformed.
func OfWire(err error) error {
	e, ok := errors.AsType[*wire.Error](err)
	switch {
	case !ok:
		return broker.ErrMalformed
	case e.Kind == wire.Throttled:
		return &broker.ThrottledError{After: e.After}
	case kinds[e.Kind] == nil:
		return broker.ErrMalformed
	}
	return kinds[e.Kind]
}

// OfText returns what it is that fhirjson refused a text: too much where a cap was reached, else malformed.
func OfText(err error) error {
	if e, ok := errors.AsType[*fhirjson.Error](err); ok && e.Capped() {
		return broker.ErrTooMuch
	}
	return broker.ErrMalformed
}

// OfEnd returns what it is that a request's time is over, nil while it is not. Whatever fails after ctx has ended fails for that reason.
func OfEnd(ctx context.Context) error {
	switch c := ctx.Err(); {
	case errors.Is(c, context.DeadlineExceeded):
		return broker.ErrTimedOut
	case c != nil:
		return context.Canceled
	}
	return nil
}
