package neighbourhood

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// modulePath is the module whose commands are built. Tests in modules of their own build them too.
const modulePath = "github.com/mycarerecord/mycarerecord"

// ProgramsVariable names the folder in which one test process keeps the commands that it built. [Main] sets it.
const ProgramsVariable = "MCR_TEST_PROGRAMS"

// buildTime is how long one build may take, with a cold cache on a small machine.
const buildTime = 9 * time.Minute

// Main runs a package's tests with a folder for built commands, which it removes afterwards, and returns the exit code. A package that
// starts the demo has it as its TestMain, so that each command is built once per test process:
//
//	func TestMain(m *testing.M) { os.Exit(neighbourhood.Main(m)) }
//
// Without it everything works too, but each test builds for itself.
//
// Tests that tests start use the folder of those.
func Main(m *testing.M) int {
	if os.Getenv(ProgramsVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "mcr-programs-")
	if err != nil {
		panic("no temporary folder for the commands under test")
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing depends on it
	if err := os.Setenv(ProgramsVariable, dir); err != nil {
		panic("cannot set " + ProgramsVariable)
	}
	return m.Run()
}

// building is held while a command is built: one build keeps the machine busy, and the next test may want the same command.
var building sync.Mutex

// OverlayVariable names a file for `go build -overlay`. Where it is set, every command under test is built with it: so a whole test can be run against a
// build that was spoilt on purpose.
const OverlayVariable = "MCR_TEST_OVERLAY"

// Program returns the path of the built command cmd/NAME, and builds it if this process has not yet. It may be called concurrently.
//
// It also opens every source of the module: `go test` keeps a result for as long as the files that the test opened are the same, and would not
// otherwise know that the test depends on a program that is built beside it.
func Program(t testing.TB, name string) string {
	t.Helper()
	return ProgramWith(t, name, os.Getenv(OverlayVariable))
}

// ProgramWith is Program of sources over which others are laid: overlay is a file for `go build -overlay`, or "" for none.
func ProgramWith(t testing.TB, name, overlay string) string {
	t.Helper()
	top := Root(t)
	openSources(t, top)
	dir := os.Getenv(ProgramsVariable)
	if dir == "" {
		dir = t.TempDir()
	}
	program := filepath.Join(dir, name)
	build := []string{"build"}
	if overlay != "" {
		sum := sha256.Sum256([]byte(overlay))
		program += fmt.Sprintf("-%x", sum[:4])
		build = append(build, "-overlay", overlay)
	}
	building.Lock()
	defer building.Unlock()
	if _, err := os.Stat(program); err == nil {
		return program
	}
	own, err := os.MkdirTemp(dir, name+"-")
	if err != nil {
		t.Fatal("no folder to build in")
	}
	ctx, cancel := context.WithTimeout(t.Context(), buildTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append(build, "-o", filepath.Join(own, name), "./cmd/"+name)...) //nolint:gosec // one of our own commands
	cmd.Dir = filepath.Clean(top)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/%s: %v\n%s", name, err, out)
	}
	if err := os.Rename(filepath.Join(own, name), program); err != nil {
		t.Fatalf("cannot put the built %s in its place", name)
	}
	_ = os.Remove(own) // empty by now
	return program
}

// Root returns the module's folder, by way of the working directory and with its ".." left in: go test checks the files that a test opened
// again only where their names begin with the folder of the test's own module, and test/validate has one below ours.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal("no working directory")
	}
	for range 10 {
		text, err := os.ReadFile(dir + "/go.mod")
		if err == nil && strings.HasPrefix(string(text), "module "+modulePath+"\n") {
			return dir
		}
		dir += "/.."
	}
	t.Fatal("the test does not run inside the module " + modulePath)
	return ""
}

// Data returns a folder of the sample data that lies beside the repository, in ../shared/data. In a bare clone it skips the test; in CI,
// where the data must be there, it fails it.
func Data(t testing.TB, folder string) string {
	t.Helper()
	dir := Root(t) + "/../shared/data/" + folder
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return dir
	case os.Getenv("CI") != "":
		t.Fatalf("../shared/data/%s is missing: in CI the sample data must lie beside the repository", folder)
	default:
		t.Skipf("needs the sample data in ../shared/data/%s beside the repository; a bare clone has none", folder)
	}
	return ""
}

// openSources opens every folder and file that a command of ours may be built from.
func openSources(t testing.TB, top string) {
	t.Helper()
	n := 0
	open := func(name string) error {
		f, err := os.Open(name) //nolint:gosec // a source of our own
		if err != nil {
			return err
		}
		n++
		return f.Close()
	}
	var walk func(dir string) error
	walk = func(dir string) error {
		if err := open(dir); err != nil {
			return err
		}
		list, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range list {
			name := dir + "/" + e.Name()
			switch {
			case strings.HasPrefix(e.Name(), "."), strings.HasSuffix(e.Name(), "_test.go"), e.IsDir() && e.Name() == "testdata":
			case e.IsDir():
				err = walk(name)
			default:
				err = open(name)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	for _, part := range []string{"cmd", "broker", "adapters", "proto", "consent", "audit", "test/simulator", "test/cohort", "go.mod", "go.sum"} {
		info, err := os.Stat(top + "/" + part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && info.IsDir():
			err = walk(top + "/" + part)
		case err == nil:
			err = open(top + "/" + part)
		}
		if err != nil {
			t.Fatalf("cannot read the sources in %s", part)
		}
	}
	if n < 50 {
		t.Fatalf("opened %d sources: the walk does not see them", n)
	}
}

// readCapped reads at most limit bytes and reports whether that was all.
func readCapped(r io.Reader, limit int64) ([]byte, bool, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	return b, int64(len(b)) <= limit, err
}
