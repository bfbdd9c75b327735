package daemon

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// A process that holds next to nothing between two requests does not collect after every few of them.
func TestGarbageOfManyRequestsIsCollectedAtOnce(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	for _, c := range []struct {
		gogc, limit string
		ballast     bool
	}{{"50", "", false}, {"", "1GiB", false}, {"", "", true}} {
		t.Setenv("GOGC", c.gogc)
		t.Setenv("GOMEMLIMIT", c.limit)
		debug.SetGCPercent(50)
		debug.SetMemoryLimit(limit)
		limitMemory(1 << 30)
		want := limit
		switch {
		case c.ballast:
			want = 1<<30 + beyond + ballastSize
		case c.limit == "":
			want = 1<<30 + beyond
		}
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("GOGC %q, GOMEMLIMIT %q: the limit is %d, want %d", c.gogc, c.limit, got, want)
		}
	}
	runtime.GC() // from here on it knows what is in use
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(goal)
	if got := goal[0].Value.Uint64(); got < 3*ballastSize {
		t.Errorf("the next collection comes at %d MiB, want %d or more", got>>20, 3*ballastSize>>20)
	}
}
