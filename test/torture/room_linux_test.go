package torture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// prlimit sets the soft limit of another process of ours, by the number that the kernel gives to the resource (prlimit(2)).
func prlimit(pid, resource int, soft uint64) error {
	limit := syscall.Rlimit{Cur: soft, Max: ^uint64(0)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(resource), uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// TestWritesThatFail lets every write of the running demo's files fail, by the limit on the size of a file, first before an access is opened, then
// between Begin and release: 503, nobody is asked, nothing leaves. The store then trusts its file no more, so that the demo refuses until it is
// started anew; then all is well, and the ledger is sound.
func TestWritesThatFail(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	s := newStation(t, t.TempDir())
	fail := func(size uint64) {
		if err := prlimit(s.n.PID(), syscall.RLIMIT_FSIZE, size); err != nil {
			t.Fatalf("the limit cannot be set: %v", err)
		}
	}
	const nothing, everything = 32, ^uint64(0) // 32 bytes are the header of the write-ahead log: no frame fits behind it

	s.serves(t, "at first")
	fail(nothing)
	s.refuses(t, "with no room", byREST, byGetRecord, byStreamRecord)
	fail(everything)
	s.refuses(t, "with room again, and a file that is not to be trusted", byREST)
	s.restart(t)
	s.serves(t, "started anew")
	for _, f := range []face{byREST, byStreamRecord} {
		a := s.releasedInto(t, f, func() { fail(nothing) })
		a.planned = false // a stream's plan may have left: it says who is asked, and nothing of what they hold
		turnedAway(t, "with no room for the release", a)
		s.restart(t)
	}
	s.serves(t, "at last")
	s.end(t)
}

// TestNoRoom lets the disk of the ledger fill up and become empty again under the running demo. Want of room is no fault of the disk: as soon as
// there is room again the demo serves again, without having been started anew.
func TestNoRoom(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole demo")
	}
	state := t.TempDir()
	if err := syscall.Mount("tmpfs", state, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=8m,mode=0700"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs leave to mount a small disk: %v", err)
		}
		t.Skipf("needs leave to mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(state, syscall.MNT_DETACH); err != nil {
			t.Errorf("the small disk cannot be unmounted: %v", err)
		}
	})
	t.Parallel()
	s := newStation(t, state)
	ballast := filepath.Join(state, "ballast")
	fill := func() {
		if err := fillUp(ballast); err != nil {
			t.Fatalf("the small disk cannot be filled: %v", err)
		}
	}
	empty := func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal("the small disk cannot be emptied")
		}
	}
	s.serves(t, "at first")
	fill()
	s.refuses(t, "on a full disk", byREST, byGetRecord, byStreamRecord)
	empty()
	s.serves(t, "with room again")
	for f := range faces {
		a := s.releasedInto(t, f, fill)
		a.planned = false // as above
		turnedAway(t, "on a disk that is full at the release", a)
		empty()
	}
	s.serves(t, "at last")
	s.end(t)
}

// fillUp writes until there is no room.
func fillUp(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600) //nolint:gosec // of the test's own
	if err != nil {
		return err
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return f.Close()
}

// TestSlowDisk makes every sync of the running demo take longer than the ledger may, first before an access is opened, then between Begin and
// release: 503 in time, nobody is asked, nothing leaves. A fast disk later it serves again, and every access is closed.
func TestSlowDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole demo")
	}
	strace := needStrace(t)
	t.Parallel()
	s := newStation(t, t.TempDir())
	s.serves(t, "at first")
	const ledgerTime = 2 * time.Second // the ledger's deadline, in the demo's configuration as by default

	fast := slowDown(t, strace, s.n, ledgerTime+time.Second)
	began := time.Now()
	before := s.asked(t)
	turnedAway(t, "on a slow disk", s.caller.ask(t.Context(), byREST, doctor, s.who[0]))
	if took := time.Since(began); took < ledgerTime || took > ledgerTime+3*time.Second {
		t.Errorf("on a slow disk: the refusal came after %v, want it after the ledger's %v", took, ledgerTime)
	}
	if n := s.asked(t) - before; n != 0 {
		t.Errorf("on a slow disk: custodians were asked %d times", n)
	}
	fast()
	s.serves(t, "on a fast disk again")
	a := s.releasedInto(t, byGetRecord, func() { fast = slowDown(t, strace, s.n, ledgerTime+time.Second) })
	turnedAway(t, "on a disk that is slow at the release", a)
	fast()
	s.serves(t, "at last")
	s.end(t)
}

// slowDown makes each sync of the demo take so long, until the function that it returns is called.
func slowDown(t *testing.T, strace string, n *neighbourhood.Neighbourhood, by time.Duration) (fast func()) {
	t.Helper()
	cmd := exec.Command(strace, "-f", "-p", fmt.Sprint(n.PID()), "-o", os.DevNull, "-e", "trace=fsync,fdatasync", //nolint:gosec // a tool of the system
		"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", by.Microseconds()))
	said, err := cmd.StderrPipe()
	if err != nil || cmd.Start() != nil {
		t.Fatal("strace does not start")
	}
	ended := false
	fast = func() {
		if ended {
			return
		}
		ended = true
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended
		_ = cmd.Wait()                         // by the signal
	}
	t.Cleanup(fast)
	attached := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(said)
		found := false
		for !found && lines.Scan() {
			found = strings.Contains(lines.Text(), " attached")
		}
		attached <- found
		_, _ = io.Copy(io.Discard, said) // so that it is never held up
	}()
	select {
	case found := <-attached:
		if !found && os.Getenv("CI") != "" {
			t.Fatal("strace does not attach to the demo: allow ptrace")
		} else if !found {
			t.Skip("needs leave to attach strace to another process")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("strace does not attach to the demo in time")
	}
	return fast
}
