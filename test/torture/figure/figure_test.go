package figure

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	for _, tc := range []struct {
		f    Figure
		want string
	}{
		{Figure{Name: "lost", Of: 300, What: "changes", Seed: 7}, "lost: 0 of 300 changes (95 %: at most 1 %; seed 7)"},
		{Figure{Name: "lost", Seen: 2, Of: 300, What: "changes", Seed: 7, More: "9 kills"}, "lost: 2 of 300 changes (SEEN; seed 7); 9 kills"},
		{Figure{Name: "lost", What: "changes"}, "lost: 0 of 0 changes (nothing was tried; no chance in it)"},
	} {
		if got := tc.f.String(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// failing takes the failure of a test that is expected to fail.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Errorf(string, ...any) { f.failed = true }

// TestReport holds that a zero without tries fails, and that the file has every line.
func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures")
	t.Setenv(File, path)
	for _, tc := range []struct {
		f     Figure
		fails bool
	}{{Figure{Name: "a", Of: 1}, false}, {Figure{Name: "b", Of: 1, Seen: 1}, true}, {Figure{Name: "c"}, true}} {
		r := &failing{TB: t}
		Report(r, tc.f)
		if r.failed != tc.fails {
			t.Errorf("%s: failed %t, want %t", tc.f.Name, r.failed, tc.fails)
		}
	}
	Note(t, "caught in %d s", 3)
	text, err := os.ReadFile(path) //nolint:gosec // of the test's own
	if err != nil || strings.Count(string(text), "\n") != 4 || !strings.HasSuffix(string(text), "\ncaught in 3 s\n") {
		t.Errorf("the file does not hold every line: %v", err)
	}
}
