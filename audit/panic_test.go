package audit

import (
	"errors"
	"strings"
	"testing"
)

// A panic while entries are opened is an error of the question, on whatever goroutine it comes, and does not say what was panicked with. The others are opened all the same.
func TestAPanicWhileEntriesAreOpenedIsAnError(t *testing.T) {
	done := make([]bool, 8*openedAtOnce)
	err := onSeveral(len(done), func(i int) error {
		if i%openedAtOnce == 3 {
			panic("CANARY")
		}
		done[i] = true
		return nil
	})
	if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("%v", err)
	}
	for i, is := range done {
		if is == (i%openedAtOnce == 3) {
			t.Fatalf("entry %d: opened %t", i, is)
		}
	}
}
