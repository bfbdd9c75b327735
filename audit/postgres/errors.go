package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mycarerecord/mycarerecord/audit"
)

// serverError is what is left of an error of the server: what we were doing, and PostgreSQL's code. Its texts can quote values.
type serverError struct {
	doing    string
	code     string
	severity string
}

// Error returns our words and PostgreSQL's code.
func (e *serverError) Error() string {
	return fmt.Sprintf("%s: the database refused (SQLSTATE %s)", e.doing, e.code)
}

// judge reduces an error, and decides what it says of the store.
func (s *Store) judge(doing string, err error) error {
	err = reduce(doing, err)
	if errors.Is(err, audit.ErrUnsound) {
		s.unsound.Store(true)
	}
	return err
}

// ours are errors that are in our words already.
func ours(err error) bool {
	var e *serverError
	var r refusal
	var t trouble
	return errors.As(err, &e) || errors.As(err, &r) || errors.As(err, &t) || errors.Is(err, audit.ErrUnsound) || errors.Is(err, audit.ErrFull) || errors.Is(err, audit.ErrDamaged)
}

// reduce turns an error of the driver into one of ours.
func reduce(doing string, err error) error {
	if err == nil || ours(err) {
		return err
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err) {
			return trouble(doing + ": out of time")
		}
		return trouble(doing + ": the connection to the database was lost")
	}
	switch e.Code {
	case "58030", "XX001", "XX002": // io_error, data_corrupted, index_corrupted
		return fmt.Errorf("%s: %w (SQLSTATE %s)", doing, audit.ErrUnsound, e.Code)
	case "53100": // disk_full
		return fmt.Errorf("%s: %w", doing, audit.ErrFull)
	case "55P03": // lock_not_available
		return &serverError{doing + ", waiting for another replica", e.Code, e.SeverityUnlocalized}
	}
	return &serverError{doing, e.Code, e.SeverityUnlocalized}
}

// trouble is a sentence of our own about a server that did not answer.
type trouble string

// Error returns the sentence.
func (t trouble) Error() string { return string(t) }

// misread reports whether the server says that a statement does not fit its tables, which have changed since.
func misread(err error) bool {
	var e *serverError
	return errors.As(err, &e) && strings.HasPrefix(e.code, "42")
}

// refusal is a sentence of our own about a server that is not taken.
type refusal string

// Error returns the sentence.
func (r refusal) Error() string { return string(r) }

// undone reports whether an error of a commit means for certain that nothing was kept: the server went on, and says that the transaction broke a rule
// or was in no state to be committed. Of everything else it is not known.
func undone(err error) bool {
	var e *serverError
	if !errors.As(err, &e) || e.severity != "ERROR" || len(e.code) != 5 {
		return false
	}
	switch e.code[:2] {
	case "23", "25", "40": // a constraint, an invalid state, a conflict
		return true
	}
	return false
}
