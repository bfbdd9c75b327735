package daemon

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
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

// What nobody uses takes no memory, even where it was cleared.
func TestUntouchedMemoryIsNotThere(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says, and is told")
	}
	b := make([]byte, ballastSize)
	for i := range b {
		b[i] = 1
	}
	full := resident(t)
	untouched(b)
	if empty := resident(t); empty > full-ballastSize*9/10 {
		t.Errorf("%d MiB before, %d MiB after", full>>20, empty>>20)
	}
	if b[0] != 0 || b[len(b)-1] != 0 {
		t.Error("it is not zero")
	}
}

// resident is how much memory this process takes.
func resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
