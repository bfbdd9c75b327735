package socialcare

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
)

// refusal is the answer of a council that was reached and refused this one request: other collections may do better. It wraps a sentinel.
type refusal struct{ sentinel error }

func (r *refusal) Error() string { return r.sentinel.Error() }
func (r *refusal) Unwrap() error { return r.sentinel }

// inTime returns the sentinel of err, or that the time is over: whatever fails after ctx has ended fails for that reason.
func inTime(ctx context.Context, err error) error {
	if end := sentinel.OfEnd(ctx); end != nil {
		return end
	}
	if t, ok := errors.AsType[*broker.ThrottledError](err); ok {
		return t
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.sentinel
	}
	return err
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
	return sentinel.OfWire(trouble)
}
