package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// bug is a patch that makes the product wrong on purpose, and the part of the suite that must find it. Before its files it says, after a sentence for
// people, in lines of "name: value":
//
//	package  whose tests find it
//	run      which of them, as `go test -run` has it
//	says     what they say then, as a regular expression
//	flags    more of the test binary's, such as not to keep what was found
//	needs    commands that they build, which are built beforehand so as not to be counted in the time
//	times    how often in a row it must be found when there is time; 1
//	daily    yes: it is tried every day, not only when there is time
//	long     yes: its tests take their long form, which ends with the first thing that it finds
type bug struct {
	patch
	sentence string
	value    map[string]string
}

func readBug(t *testing.T, file string) bug {
	t.Helper()
	b := bug{patch: readPatch(t, file), value: map[string]string{}}
	sentence, rest, _ := strings.Cut(b.comment, "\n")
	b.sentence = sentence
	for line := range strings.Lines(rest) {
		name, value, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found && name == "" {
			continue
		}
		switch name {
		case "package", "run", "says", "needs", "times", "daily", "long", "flags":
			b.value[name] = value
		default:
			t.Fatalf("%s: %q says nothing about a bug", b.name, name)
		}
	}
	if b.sentence == "" || b.value["package"] == "" || b.value["run"] == "" || b.value["says"] == "" {
		t.Fatalf("%s says too little", b.name)
	}
	return b
}

// bugTime is how long one bug may take to be found, and its tests to be built.
const bugTime = 5 * time.Minute

// found builds the tests over the spoilt sources, runs them, and reports how long it took them to fail with the words, and false if they did not.
func (b bug) found(t *testing.T, overlay, program string) (took time.Duration, caught bool) {
	t.Helper()
	says, err := regexp.Compile(b.value["says"])
	if err != nil {
		t.Fatalf("%s: %q is not a regular expression", b.name, b.value["says"])
	}
	ctx, cancel := context.WithTimeout(t.Context(), bugTime)
	defer cancel()
	args := append([]string{"-test.run", b.value["run"], "-test.v", "-test.timeout", bugTime.String()}, strings.Fields(b.value["flags"])...)
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // built from our own sources
	cmd.Dir = filepath.Join(neighbourhood.Root(t), b.value["package"])
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "MCR_TORTURE" && name != figure.File {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, neighbourhood.OverlayVariable+"="+overlay)
	if b.value["long"] == "yes" {
		cmd.Env = append(cmd.Env, "MCR_TORTURE=long")
	}
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took = time.Since(began)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		t.Errorf("%s: the tests come to no end", b.name)
	case err == nil:
	case !errors.As(err, &exit):
		t.Errorf("%s: the tests cannot be run", b.name)
	case bytes.Contains(out, []byte("--- FAIL")) && says.Match(out):
		return took, true
	default:
		t.Errorf("%s: the tests fail, and not with what the bug must cause:\n%s", b.name, tail(out))
	}
	return took, false
}

// tail is the end of what tests said, for failures. Whatever looks like an NHS number is struck out.
func tail(out []byte) []byte {
	return neighbourhood.Struck(out[max(0, len(out)-2000):])
}

// TestSeededBugs makes the product wrong in each of the ways of testdata/bugs, and holds the suite to finding it. On a day without time all are tried to be
// laid over the sources, and those that are marked so are tried.
func TestSeededBugs(t *testing.T) {
	files, err := filepath.Glob("testdata/bugs/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d descriptions of bugs, want more", len(files))
	}
	if os.Getenv(neighbourhood.OverlayVariable) != "" {
		t.Fatal("a spoilt build is being tried already: a bug names a test of its own, not this one")
	}
	t.Parallel()
	var bugs []bug
	for _, file := range files {
		b := readBug(t, file)
		b.overlay(t) // so that none of them rots
		bugs = append(bugs, b)
	}
	for n := 1; n <= 14; n++ { // those that were asked for, by their numbers
		number := fmt.Sprintf("M-%02d", n)
		if !slices.ContainsFunc(bugs, func(b bug) bool { return strings.HasPrefix(b.sentence, number) }) {
			t.Errorf("%s is described by no bug", number)
		}
	}
	if testing.Short() {
		t.Skip("builds and runs whole test binaries")
	}
	tried, missed, only := 0, 0, os.Getenv("MCR_BUG")
	for _, b := range bugs {
		if only != "" && only != b.name || only == "" && !long() && (b.value["daily"] != "yes" || underRace) {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			overlay := b.overlay(t)
			program := filepath.Join(t.TempDir(), "tests")
			if err := buildTests(t, b.value["package"], overlay, program); err != nil {
				t.Fatalf("the spoilt tests cannot be built: %v", err)
			}
			if b.value["needs"] != "" {
				neighbourhood.ProgramWith(t, b.value["needs"], overlay)
			}
			times := 1
			if b.value["times"] != "" && long() {
				if times, err = strconv.Atoi(b.value["times"]); err != nil {
					t.Fatal("times is not a number")
				}
			}
			caught, sum := 0, time.Duration(0)
			for range times {
				took, found := b.found(t, overlay, program)
				sum += took
				if found {
					caught++
				}
			}
			tried++
			if caught < times {
				missed++
				t.Errorf("%s: caught %d of %d times", b.name, caught, times)
			}
			figure.Note(t, "seeded bug %s: caught %d of %d times by %s %s, in %.1f s: %s", b.name, caught, times, b.value["package"], b.value["run"],
				sum.Seconds()/float64(times), b.sentence)
		})
	}
	if tried > 0 {
		figure.Report(t, figure.Figure{Name: "seeded bugs that the suite does not catch", Seen: missed, Of: tried, What: fmt.Sprintf("tried, of %d that there are", len(bugs))})
	}
}

// buildTests builds the tests of a package over changed sources.
func buildTests(t *testing.T, pkg, overlay, to string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bugTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", overlay, "-o", to, pkg) //nolint:gosec // our own sources
	cmd.Dir = neighbourhood.Root(t)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out))
	}
	return nil
}
