package hl7v2

import (
	"context"
	"errors"

	"github.com/mycarerecord/mycarerecord/adapters/internal/sentinel"
	"github.com/mycarerecord/mycarerecord/broker"
)

// refusal is the answer of an engine that was reached and refused this one query: others of the same fetch may do better. It wraps a sentinel.
type refusal struct{ sentinel error }

func (r *refusal) Error() string { return r.sentinel.Error() }
func (r *refusal) Unwrap() error { return r.sentinel }

// inTime returns the sentinel of err, or that the time is over: whatever fails after ctx has ended fails for that reason.
func inTime(ctx context.Context, err error) error {
	if end := sentinel.OfEnd(ctx); end != nil {
		return end
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.sentinel
	}
	return err
}

// refused says what an acknowledgement that is not AA means: MSA-1 AE or AR, or the same in QAK-2. ERR-3 (HL7 table 0357) says why.
//
//   - 204, unknown key identifier: the person is not known.
//   - an error located at MSH-3, MSH-4 or MSH-8 (sending application, facility, security): the engine does not accept us.
//   - anything else: a query that the engine cannot answer, or an error of its own.
func (e *envelope) refused() error {
	for _, s := range e.errs {
		code, where, field := s.at(3, 1), s.at(2, 1), s.at(2, 3)
		if code == "" { // version 2.4 and before: ERR-1 holds segment, sequence, field and code
			code, where, field = s.of(s.first(1), 4), s.of(s.first(1), 1), s.of(s.first(1), 3)
			if c := part(part(s.first(1), s.component, 4), s.sub, 1); c != "" {
				code = s.text(c)
			}
		}
		switch {
		case code == "204":
			return &refusal{broker.ErrNoRecord}
		case where == "MSH" && (field == "3" || field == "4" || field == "8"):
			return broker.ErrUnauthorised
		}
	}
	return &refusal{broker.ErrMalformed}
}
