package daemon

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// A process that holds next to nothing between two requests does not collect after every few of them; but whoever says what it may take is obeyed.
func TestTheCollectorIsTold(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	const theirs, budget = 50, 1 << 30
	for _, c := range []struct {
		gogc, limit string
		percent     int
		most        int64
	}{
		{"50", "", theirs, budget + beyond},
		{"", "1GiB", collectMuchLater, limit},
		{"50", "1GiB", theirs, limit},
		{"", "", collectLater, budget + beyond + ballastSize},
	} {
		t.Setenv("GOGC", c.gogc)
		t.Setenv("GOMEMLIMIT", c.limit)
		debug.SetGCPercent(theirs)
		debug.SetMemoryLimit(limit)
		limitMemory(budget)
		if got := debug.SetMemoryLimit(-1); got != c.most {
			t.Errorf("GOGC %q, GOMEMLIMIT %q: the limit is %d, want %d", c.gogc, c.limit, got, c.most)
		}
		if got := debug.SetGCPercent(c.percent); got != c.percent {
			t.Errorf("GOGC %q, GOMEMLIMIT %q: GOGC is %d, want %d", c.gogc, c.limit, got, c.percent)
		}
	}
	runtime.GC() // from here on it knows what is in use
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(goal)
	if got := goal[0].Value.Uint64(); got < 3*ballastSize {
		t.Errorf("the next collection comes at %d MiB, want %d or more", got>>20, 3*ballastSize>>20)
	}
}
