package hl7v2

import (
	"context"
	"errors"
	"slices"

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

// complaint is an error of which an answer speaks: where it is, its code (HL7 table 0357) and how grave it is (table 0516), "" where that is not said.
type complaint struct {
	segment, field string
	code           string
	severity       string
	early          bool // as version 2.4 and before have it, which know no severity
}

// unknownKey is the code of table 0357 that says that the person is not known.
const unknownKey = "204"

// complaints are those of ERR and, as version 2.4 and before may have it, MSA-6.
func (e *envelope) complaints() []complaint {
	var out []complaint
	if code := e.msa.at(6, 1); code != "" {
		out = append(out, complaint{code: code, early: true})
	}
	for _, s := range e.errs {
		if code := s.at(3, 1); code != "" || s.field(1) == "" || s.field(1) == null {
			out = append(out, complaint{s.at(2, 1), s.at(2, 3), code, s.at(4, 1), false})
			continue
		}
		for r := range s.repetitions(1) { // version 2.4 and before: ERR-1 holds segment, sequence, field and code
			out = append(out, complaint{s.of(r, 1), s.of(r, 3), s.of(r, 4), s.at(4, 1), true})
		}
	}
	return out
}

// harmless reports whether it is success, a warning or information, and no error.
func (c complaint) harmless() bool {
	return c.severity == "W" || c.severity == "I" || c.severity == "" && c.code == "0"
}

// complains reports whether an answer that came speaks of an error all the same: something is missing, and it does not say what. One of version 2.5 and
// later says how grave it is.
func (e *envelope) complains() bool {
	return slices.ContainsFunc(e.complaints(), func(c complaint) bool { return !c.harmless() && (c.severity != "" || c.early) })
}

// trouble is the error of an answer, nil if it speaks of none but that the person is not known. One located at MSH-3, MSH-4 or MSH-8 (sending application,
// facility, security) is that the engine does not accept us; any other is a query that it cannot answer, or an error of its own.
func (e *envelope) trouble() error {
	var out error
	for _, c := range e.complaints() {
		switch {
		case c.harmless():
		case c.segment == "MSH" && (c.field == "3" || c.field == "4" || c.field == "8"):
			return broker.ErrUnauthorised
		case c.code != unknownKey:
			out = &refusal{broker.ErrMalformed}
		}
	}
	return out
}

// refused says what an acknowledgement that is not AA means: MSA-1 AE or AR, or the same in QAK-2.
func (e *envelope) refused() error {
	if slices.ContainsFunc(e.complaints(), func(c complaint) bool { return c.code == unknownKey }) {
		return e.noRecord()
	}
	if err := e.trouble(); err != nil {
		return err
	}
	return &refusal{broker.ErrMalformed}
}

// noRecord says what an answer means that says there is no record: that, if it says nothing else. Of one that is in trouble too, or that also holds a
// record, counts hits or goes on elsewhere, it is not known that there is none.
func (e *envelope) noRecord() error {
	if err := e.trouble(); err != nil {
		return err
	}
	if e.holdsRecord() || e.countsHits() || e.pointer != "" {
		return broker.ErrMalformed // it contradicts itself, and neither is to be believed
	}
	return &refusal{broker.ErrNoRecord}
}
