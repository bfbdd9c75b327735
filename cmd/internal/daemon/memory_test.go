package daemon

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

// A process that holds next to nothing between two requests does not collect after every few of them.
func TestGarbageOfManyRequestsIsCollectedAtOnce(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	limitMemory(1 << 30)
	runtime.GC() // from here on it knows what is in use
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const all, piece = 512 << 20, 64 << 10
	for range all / piece {
		garbage = make([]byte, piece)
	}
	runtime.ReadMemStats(&after)
	if n := after.NumGC - before.NumGC; n > all/(100<<20)+1 {
		t.Errorf("%d collections for 512 MiB, want at most one for 100 MiB", n)
	} else {
		t.Logf("%d collections for 512 MiB", n)
	}
	if got := debug.SetMemoryLimit(-1); got == math.MaxInt64 || got > 1<<30+beyond+ballastSize {
		t.Errorf("the limit is %d", got)
	}
}

var garbage []byte
