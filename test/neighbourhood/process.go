package neighbourhood

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is one that was started here.
type process struct {
	name   string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	err    error         // of Wait; valid once ended is closed
	stdout output
	stderr output
	http   *http.Client
}

// run starts a program, in a folder of its own, and returns when that was. It is stopped when the test ends, if the test has not.
func (n *process) run(t testing.TB, name, program string, env []string, args ...string) time.Time {
	t.Helper()
	n.name, n.ended, n.http = name, make(chan struct{}), newHTTPClient()
	n.cmd = exec.Command(program, args...) //nolint:gosec // built from our own sources
	n.cmd.Dir = t.TempDir()                // what is written beside the process is found out
	n.cmd.Env = append(os.Environ(), env...)
	n.cmd.Stdout, n.cmd.Stderr = &n.stdout, &n.stderr
	n.cmd.WaitDelay = 5 * time.Second
	n.cmd.SysProcAttr = dieWithParent()
	started := time.Now()
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("the %s does not start", name)
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.ended)
	}()
	t.Cleanup(func() { n.end(t) })
	return started
}

// PID returns the id of the process.
func (n *process) PID() int { return n.cmd.Process.Pid }

// stopTime is how long an orderly stop may take: the broker drains for at most one budget of 8 s.
const stopTime = 12 * time.Second

// Stop asks the process to end with SIGTERM, waits until it has, and returns how long that took. It fails the test if it ends otherwise than well, or
// not in time.
func (n *process) Stop(t testing.TB) time.Duration {
	t.Helper()
	begun := time.Now()
	if n.Ended() {
		t.Fatalf("the %s had ended before it was asked to\n%s", n.name, n.Tail())
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may end at this very moment; that is seen below
	select {
	case <-n.ended:
	case <-time.After(stopTime):
		n.Kill(t)
		t.Fatalf("the %s did not end within %v of SIGTERM\n%s", n.name, stopTime, n.Tail())
	}
	n.http.CloseIdleConnections()
	if n.err != nil {
		t.Fatalf("the %s ended with code %d\n%s", n.name, n.cmd.ProcessState.ExitCode(), n.Tail())
	}
	return time.Since(begun)
}

// Kill ends the process with SIGKILL and waits until it has.
func (n *process) Kill(t testing.TB) {
	t.Helper()
	_ = n.cmd.Process.Kill() // it may have ended already
	select {
	case <-n.ended:
	case <-time.After(stopTime):
		t.Fatalf("the %s does not end even when killed", n.name)
	}
	n.http.CloseIdleConnections()
}

// Ended reports whether the process has ended.
func (n *process) Ended() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// end stops what the test left running.
func (n *process) end(t testing.TB) {
	if n.Ended() {
		n.http.CloseIdleConnections()
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
	case <-time.After(stopTime):
		t.Errorf("the %s did not end within %v of SIGTERM", n.name, stopTime)
		n.Kill(t)
	}
	n.http.CloseIdleConnections()
}

// Output returns everything that the process has written to standard output and standard error so far.
func (n *process) Output() (stdout, stderr []byte) { return n.stdout.copy(), n.stderr.copy() }

// numberLike finds what may be an NHS number, with or without gaps.
var numberLike = regexp.MustCompile(`\d{3}[ -]?\d{3}[ -]?\d{4}`)

// Struck returns a text in which whatever looks like an NHS number is struck out.
func Struck(b []byte) []byte { return numberLike.ReplaceAll(b, []byte("##########")) }

// Tail returns the last lines of what the process wrote, for failures; whatever looks like an NHS number is struck out.
func (n *process) Tail() string {
	stdout, stderr := n.Output()
	last := func(b []byte) []byte {
		const limit = 4 << 10
		if len(b) > limit {
			b = b[len(b)-limit:]
		}
		return Struck(b)
	}
	return fmt.Sprintf("its standard output ends:\n%s\nits standard error ends:\n%s", last(stdout), last(stderr))
}

// maxOutput caps what is kept of each output of a process; what comes after is dropped.
const maxOutput = 64 << 20

// output keeps what a process writes.
type output struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

// Write implements io.Writer. It never fails, so that the process is never held up.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept.Write(p[:min(len(p), maxOutput-o.kept.Len())])
	return len(p), nil
}

func (o *output) copy() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.kept.Bytes())
}

// Signal sends a signal to the process, if it has not ended.
func (n *process) Signal(s os.Signal) { _ = n.cmd.Process.Signal(s) } // it may end at this very moment; whoever waits for it sees that
