package test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is one of our commands as the shell starts it: in a process group of its own, so that what it leaves behind is found. What is left
// behind is read from /proc, so these tests are of Linux.
type process struct {
	cmd      *exec.Cmd
	ended    chan struct{} // closed when it has
	out, err buffer
}

// buffer is what a process writes, safe to read while it runs.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p) //nolint:wrapcheck // never fails
}

// String returns what was written so far.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// launch starts a program in a folder. It is killed at the end of the test if it is still there.
func launch(t *testing.T, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})} //nolint:gosec // built from our own sources
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = 2 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal("the program does not start")
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has most likely ended
		<-p.ended
	})
	return p
}

// signal sends one to this process alone.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("the process cannot be signalled: it has ended\n%s", p.tail())
	}
}

// end waits until the process has ended, and returns its exit code and how long that took.
func (p *process) end(t *testing.T, within time.Duration) (code int, took time.Duration) {
	t.Helper()
	began := time.Now()
	select {
	case <-p.ended:
	case <-time.After(within):
		t.Fatalf("the process has not ended within %v\n%s", within, p.tail())
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(began)
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// tail is the end of what the process wrote, without what may be a number of a person.
func (p *process) tail() string {
	text := "its standard output:\n" + p.out.String() + "\nits standard error:\n" + p.err.String()
	return tenDigits.ReplaceAllString(text[max(0, len(text)-4096):], "##########")
}

// children are the processes that this one has started and not buried.
func (p *process) children(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal("/proc cannot be read")
	}
	var out []string
	for _, e := range list {
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // no process, or one that has just ended
		}
		// pid (name) state ppid: the name may hold anything, blanks and brackets too.
		_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(p.cmd.Process.Pid) {
			out = append(out, e.Name())
		}
	}
	return out
}

// groupIsEmpty reports whether no process of this one's group is left.
func (p *process) groupIsEmpty() bool {
	return errors.Is(syscall.Kill(-p.cmd.Process.Pid, 0), syscall.ESRCH)
}

// listens reports whether somebody takes connections there.
func listens(address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close() // it was opened to see that it can be
	}
	return err == nil
}

// eventually waits for something that a process does by itself.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); until(t, time.Now().Add(10*time.Millisecond)) {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
