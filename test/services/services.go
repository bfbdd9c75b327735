//go:build unix

// Package services starts real PostgreSQL and Redis servers for tests: each on a free loopback port, in a folder of its own, gone when the test ends.
// They are the machine's own programs (Debian: postgresql, redis-server). Where they are missing a test skips and says so; where CI is set it
// fails, since a skipped test proves nothing there.
package services

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds each wait for a server to start or to end.
const patience = 30 * time.Second

// missing ends a test that needs a program which this machine does not have.
func missing(t testing.TB, program, pkg string) {
	t.Helper()
	text := program + " is not on this machine: install Debian's package " + pkg + ", or the like"
	if os.Getenv("CI") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// program finds a program in the path, or in one of the folders that a pattern names; of several the last in order of name.
func program(name, pattern string) (string, bool) {
	if pattern != "" {
		if found, _ := filepath.Glob(filepath.Join(pattern, name)); len(found) > 0 { // the pattern is well formed
			return found[len(found)-1], true
		}
	}
	path, err := exec.LookPath(name)
	return path, err == nil
}

// owner is who a server runs as: PostgreSQL refuses to run as root. nil: as the test itself.
func owner() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

// folder makes a folder that the server's owner may use. Its path is short: a unix socket's must be.
func folder(t testing.TB, as *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "services-")
	if err != nil {
		t.Fatalf("making a folder for a server: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing a server's folder: %v", err)
		}
	})
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatalf("giving a server its folder: %v", err)
		}
	}
	return dir
}

// freePort returns a loopback port that nothing listened on a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("looking for a free port: %v", err)
	}
	defer func() { _ = l.Close() }() // its port is all that is wanted
	return l.Addr().(*net.TCPAddr).Port
}

// process is a server that runs. It ends with this process, however that ends, where the system can do that.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// run starts a program, its output going to the end of a file.
func run(as *syscall.Credential, log, path string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(path, args...), ended: make(chan struct{})}
	p.cmd.Dir = filepath.Dir(log)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	p.cmd.SysProcAttr = attributes(as)
	started := make(chan error, 1)
	go func() {
		// The signal at the parent's death is sent when the thread that started the child ends, so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		_ = out.Close() // the child has its own
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is seen by whoever needed it
			close(p.ended)
		}
	}()
	return p, <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// end sends a signal and waits until the process has ended; one that does not is killed.
func (p *process) end(signal os.Signal) error {
	_ = p.cmd.Process.Signal(signal) // it may have ended already
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
	}
	_ = p.cmd.Process.Kill()
	select {
	case <-p.ended:
		return errors.New("it did not end when it was asked to, and was killed")
	case <-time.After(patience):
		return errors.New("it did not end when it was killed")
	}
}

// tail is the end of a server's log, for a test's failure.
func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return "no log"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
