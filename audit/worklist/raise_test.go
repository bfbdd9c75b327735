package worklist

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// stubborn is a ledger with nothing new in it, that does not take the alert about one access.
type stubborn struct {
	never  uint64
	closed bool
	raised []uint64
}

func (s *stubborn) Follow(_ context.Context, from uint64, _ int) ([]audit.Found, uint64, error) {
	return nil, from, nil
}
func (s *stubborn) Since(context.Context, time.Time) (uint64, error) { return 0, nil }
func (s *stubborn) RaiseAlert(_ context.Context, a audit.Alert, _ time.Time, _ []string, _ time.Duration) (audit.Receipt, bool, error) {
	switch {
	case s.closed:
		return audit.Receipt{}, false, audit.ErrUnavailable
	case a.Of == s.never:
		return audit.Receipt{}, false, errors.New("it is not taken")
	}
	s.raised = append(s.raised, a.Of)
	return audit.Receipt{}, true, nil
}

// An alert that the ledger never takes holds up none behind it; a ledger that takes nothing loses none.
func TestAnAlertThatIsNotTaken(t *testing.T) {
	s := &stubborn{never: 1, closed: true}
	w := NewWatcher(s, Shipped(), slog.New(slog.DiscardHandler))
	for n := uint64(1); n <= 3; n++ {
		w.keep([]Finding{{Alert: audit.Alert{Of: n}}})
	}
	if err := w.Catch(t.Context(), time.Now()); !errors.Is(err, audit.ErrUnavailable) || len(w.todo) != 3 {
		t.Fatalf("a ledger that takes nothing: %v, %d left of 3", err, len(w.todo))
	}
	s.closed = false
	if err := w.Catch(t.Context(), time.Now()); err != nil || len(s.raised) != 2 || len(w.todo) != 1 {
		t.Fatalf("%v; %v raised, %d left", err, s.raised, len(w.todo))
	}
	s.never = 0
	if err := w.Catch(t.Context(), time.Now()); err != nil || len(s.raised) != 3 || len(w.todo) != 0 {
		t.Fatalf("%v; %v raised, %d left", err, s.raised, len(w.todo))
	}
}
