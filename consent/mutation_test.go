package consent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// leastScore is how many of a hundred mutants the tests must notice.
const leastScore = 95

// TestMutants makes every small mistake in the decision code once, and asks whether the tests of this package notice. Every day a sample, all of them when there
// is time. Those that nobody notices are listed in testdata/mutants.txt, each with the reason why it makes no difference; a list that names one that is
// noticed is wrong too.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a program")
	}
	mutants, files := grow(t)
	program := compile(t, files)
	if noticed, said := run(t, program, 0); noticed {
		t.Fatalf("the tests fail with no mutant alive:\n%s", said)
	}
	excused := excuses(t)
	for name := range excused {
		if !slices.ContainsFunc(mutants, func(m mutant) bool { return m.name == name }) {
			t.Errorf("testdata/mutants.txt: there is no such mutant: %s", name)
		}
	}
	chosen, more := mutants, "all that there are"
	if !long() {
		random := rand.New(rand.NewPCG(seed, 3))
		chosen, more = nil, fmt.Sprintf("of %d, chosen by the seed", len(mutants))
		for _, i := range random.Perm(len(mutants))[:8] {
			chosen = append(chosen, mutants[i])
		}
	}
	jobs, survived := make(chan mutant), make(chan mutant, len(chosen))
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for m := range jobs {
				if noticed, _ := run(t, program, m.n); !noticed {
					survived <- m
				}
			}
		})
	}
	for _, m := range chosen {
		jobs <- m
	}
	close(jobs)
	wait.Wait()
	close(survived)
	alive := map[string]bool{}
	for m := range survived {
		alive[m.name] = true
		if why := excused[m.name]; why != "" {
			t.Logf("not noticed: %s\n\t%s", m.name, why)
		} else {
			t.Errorf("not noticed: %s\n\tadd a case that notices, or the reason why none can to testdata/mutants.txt", m.name)
		}
	}
	for _, m := range chosen {
		if excused[m.name] != "" && !alive[m.name] {
			t.Errorf("testdata/mutants.txt excuses a mutant that is noticed: %s", m.name)
		}
	}
	score := 100 * float64(len(chosen)-len(alive)) / float64(len(chosen))
	figure.Note(t, "mutants of the decision code: %d of %d noticed, %.1f %% (%s; seed %d)", len(chosen)-len(alive), len(chosen), score, more, seed)
	if long() && score < leastScore {
		t.Errorf("%.1f %% are noticed, want %d %%", score, leastScore)
	}
}

// compile builds the tests of this package with the mutants in place of the decision code.
func compile(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(here, name)] = path
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "mutants.test")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", list, "-o", program, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("the program with the mutants does not compile:\n%s", out)
	}
	return program
}

// run runs the tests with one mutant alive and reports whether any noticed: a failure, a panic, or no end.
func run(t *testing.T, program string, n int) (noticed bool, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program, "-test.skip=^TestMutants$", "-test.failfast", "-test.timeout=90s", "-rapid.nofailfile", "-rapid.seed=1", "-rapid.checks=60")
	c.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "MCR_TORTURE" || name == figure.File
	}), fmt.Sprint("CONSENT_MUTANT=", n))
	out, err := c.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Errorf("mutant %d cannot be run: %v", n, err)
	}
	return err != nil, string(out)
}

// excuses reads testdata/mutants.txt: the name of a mutant in a line, and why it makes no difference in the next, which is indented.
func excuses(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "mutants.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	out, name := map[string]string{}, ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			out[name] = strings.TrimSpace(line)
		default:
			name = line
		}
	}
	return out
}
