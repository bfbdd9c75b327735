package daemon

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What nobody uses takes no memory, even where it was cleared.
func TestUntouchedMemoryIsNotThere(t *testing.T) {
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
