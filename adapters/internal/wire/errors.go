package wire

import (
	"net/http"
	"strconv"
	"time"
)

// Kind is a kind of trouble. The list is closed; adapters/internal/sentinel maps it to the broker's sentinels.
type Kind uint8

// The kinds.
const (
	Unavailable  Kind = iota + 1 // cannot be reached, or says 408, 502, 503 or 504
	TimedOut                     // the context's deadline passed
	Cancelled                    // the context was cancelled
	Malformed                    // the answer is not what it should be, or says 500, or a status that makes no sense here
	TooMuch                      // a cap was reached
	Elsewhere                    // a redirect, or a target outside the configured origin and path
	Unauthorised                 // 401, 403, our certificate is refused, or our token cannot be read
	Throttled                    // 429
	Missing                      // 404, 410: what that means is the adapter's to say
)

var kindTexts = [...]string{
	Unavailable: "unavailable", TimedOut: "timed out", Cancelled: "cancelled", Malformed: "malformed", TooMuch: "too much", Elsewhere: "elsewhere",
	Unauthorised: "unauthorised", Throttled: "throttled", Missing: "missing",
}

// String returns a fixed word.
func (k Kind) String() string {
	if int(k) < len(kindTexts) && kindTexts[k] != "" {
		return kindTexts[k]
	}
	return "unknown"
}

// Error is trouble with one request. It holds nothing from outside but a status.
type Error struct {
	Kind   Kind
	Status int           // 0 if there was no answer, or it was not the answer's status that made trouble
	After  time.Duration // of Throttled
}

// Error returns a fixed text.
func (e *Error) Error() string { return "wire: " + e.Kind.String() }

// MaxRetryAfter caps what a service may ask us to wait: a service that says "next year" must not be left out for a year.
const MaxRetryAfter = 5 * time.Minute

// Trouble returns what the status alone says, nil for 200. Adapters look at an OperationOutcome in the body first, where it may say better.
func (a Answer) Trouble() *Error {
	if a.Status == http.StatusOK {
		return nil
	}
	e := &Error{Status: a.Status}
	switch s := a.Status; {
	case s >= 300 && s < 400:
		e.Kind = Elsewhere
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		e.Kind = Unauthorised
	case s == http.StatusNotFound || s == http.StatusGone:
		e.Kind = Missing
	case s == http.StatusTooManyRequests:
		e.Kind, e.After = Throttled, a.RetryAfter
	case s == http.StatusRequestTimeout || s == http.StatusBadGateway || s == http.StatusServiceUnavailable || s == http.StatusGatewayTimeout:
		e.Kind = Unavailable
	default:
		e.Kind = Malformed
	}
	return e
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or a date. What cannot be read is 0.
func retryAfter(s string, now time.Time) time.Duration {
	if s == "" || len(s) > 64 {
		return 0 // nearly every answer has none, and finding that out by parsing costs more than all the rest of its header
	}
	d := time.Duration(0)
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), MaxRetryAfter)
}
