// Package figure prints what a long test found: for each thing that must never happen, how often it was seen in how many tries, what rate that
// leaves open, and the seed that repeats it. A zero without the number of tries says nothing, so none is printed without it.
package figure

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

// File names the environment variable that holds the path of a file to which each figure is added as one line. `make torture` sets it and prints
// the file at its end.
const File = "MCR_FIGURES"

// Figure is one line: of so many tries, so many went wrong.
type Figure struct {
	Name string // what must not happen, and under which load
	Seen int    // how often it did
	Of   int    // tries
	What string // what a try is: kills, answers, changes
	Seed uint64 // repeats it; 0: nothing in it is left to chance
	More string // what the load was, in counts; may be empty
}

// Bound is what a rate is at most, with 95 % confidence, when nothing was seen in so many tries: 3/N (the rule of three).
func Bound(of int) float64 { return min(1, 3/float64(of)) }

// String returns the line.
func (f Figure) String() string {
	bound := ""
	switch {
	case f.Of == 0:
		bound = "nothing was tried"
	case f.Seen > 0:
		bound = "SEEN"
	default:
		bound = fmt.Sprintf("95 %%: at most %.3g %%", 100*Bound(f.Of))
	}
	seed := "no chance in it"
	if f.Seed != 0 {
		seed = "seed " + strconv.FormatUint(f.Seed, 10)
	}
	line := fmt.Sprintf("%s: %d of %d %s (%s; %s)", f.Name, f.Seen, f.Of, f.What, bound, seed)
	if f.More != "" {
		line += "; " + f.More
	}
	return line
}

var file sync.Mutex

// Report logs the figure, adds it to the file if there is one, and fails the test if the thing was seen, or was never tried.
func Report(t testing.TB, f Figure) {
	t.Helper()
	if f.Seen > 0 || f.Of == 0 {
		t.Errorf("figure: %s", f)
	} else {
		t.Logf("figure: %s", f)
	}
	note(t, f.String())
}

// Note adds a line of another sort to the figures: a time, or what was caught.
func Note(t testing.TB, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Logf("figure: %s", line)
	note(t, line)
}

func note(t testing.TB, line string) {
	t.Helper()
	path := os.Getenv(File)
	if path == "" {
		return
	}
	file.Lock()
	defer file.Unlock()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // named by whoever runs the tests
	if err != nil {
		t.Errorf("the figures cannot be written to the file that %s names", File)
		return
	}
	_, err = fmt.Fprintln(out, line)
	if closed := out.Close(); err != nil || closed != nil {
		t.Errorf("the figures cannot be written to the file that %s names", File)
	}
}
