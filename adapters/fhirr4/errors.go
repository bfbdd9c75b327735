package fhirr4

import (
	"context"
	"errors"
	"net/http"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// refusal is the answer of a custodian that was reached and refused this one request: other requests of the same fetch may do better.
// It wraps a sentinel.
type refusal struct {
	sentinel    error
	unsupported bool // it does not know the type or the operation
	doubt       bool // but it says something else, too
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
	if end := sentinel.OfEnd(ctx); end != nil {
		return end
	}
	return plain(err)
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
		return &refusal{sentinel: broker.ErrMalformed, unsupported: true, doubt: said.doubt}
	case s == http.StatusForbidden:
		return &refusal{sentinel: broker.ErrUnauthorised}
	case s >= 400 && trouble.Kind == wire.Malformed || trouble.Kind == wire.Missing:
		return &refusal{sentinel: broker.ErrMalformed}
	}
	return sentinel.OfWire(trouble)
}
