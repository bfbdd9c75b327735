// Package neighbourhood lets a test drive the product as it is shipped: it builds cmd/demo, starts it as a process of its own on free
// loopback ports, and speaks to it over sockets only. Nothing of the broker is imported, so that what a test sees is what a
// caller would see.
//
// Every wait has a deadline. Failures say what happened and hold no body, no token and no NHS number. The only process that is ever signalled
// is the one that was started here, by its own handle.
package neighbourhood

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options say how to start a demo. The zero value starts the invented people on a fresh state.
type Options struct {
	Flags []string // further flags, such as "-synthea", DIR
	Env   []string // further environment, NAME=value
	State string   // folder of the ledger; "" is a fresh temporary one. To start again after a stop or a kill, give that of the one before

	ReadyWithin time.Duration // until the ready file is there; 0 is 30 s
	Program     string        // the built demo; "" builds it
}

// Patient is one person who can be asked for, as the ready file names them. It never prints.
type Patient struct {
	NHSNumber string `json:"nhsNumber"`
	Name      string `json:"name"`
	Note      string `json:"note"`
	Bundle    string `json:"bundle"` // the file that the person came from; may be empty
}

// Format keeps a person out of every message.
func (Patient) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("a person")) }

// Neighbourhood is a running demo. Its methods may be called concurrently, except Stop and Kill.
type Neighbourhood struct {
	REST    string            // origin of the FHIR gateway, http://host:port
	GRPC    string            // host:port
	Ops     string            // origin of the operations listener
	Issuer  string            // origin of the token issuer
	Sources map[string]string // by custodian key: origin of the simulated custodian
	People  []Patient
	State   string        // folder of the ledger
	Ready   time.Duration // from the start of the process to the ready file

	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	err    error         // of Wait; valid once ended is closed
	stdout output
	stderr output
	http   *http.Client
}

// Start starts a demo and waits until it is ready. It is stopped when the test ends, if the test has not.
func Start(t testing.TB, o Options) *Neighbourhood {
	t.Helper()
	if o.Program == "" {
		o.Program = Program(t, "demo")
	}
	if o.State == "" {
		o.State = t.TempDir()
	}
	if o.ReadyWithin == 0 {
		o.ReadyWithin = 30 * time.Second
	}
	readyFile := filepath.Join(t.TempDir(), "ready.json")
	flags := append([]string{
		"-rest", "127.0.0.1:0", "-grpc", "127.0.0.1:0", "-ops", "127.0.0.1:0", "-issuer", "127.0.0.1:0", "-sources", "127.0.0.1:0",
		"-ready-file", readyFile, "-state", o.State,
	}, o.Flags...)
	n := &Neighbourhood{State: o.State, ended: make(chan struct{}), http: newHTTPClient()}
	n.cmd = exec.Command(o.Program, flags...) //nolint:gosec // built from our own sources
	n.cmd.Dir = t.TempDir()                   // what is written beside the process is found out
	n.cmd.Env = append(os.Environ(), o.Env...)
	n.cmd.Stdout, n.cmd.Stderr = &n.stdout, &n.stderr
	n.cmd.WaitDelay = 5 * time.Second
	n.cmd.SysProcAttr = dieWithParent()
	started := time.Now()
	if err := n.cmd.Start(); err != nil {
		t.Fatal("the demo does not start")
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.ended)
	}()
	t.Cleanup(func() { n.end(t) })
	if err := n.waitReady(readyFile, started.Add(o.ReadyWithin)); err != nil {
		t.Fatalf("the demo is not ready: %v\n%s", err, n.Tail())
	}
	n.Ready = time.Since(started)
	return n
}

// waitReady reads the ready file as soon as it is whole.
func (n *Neighbourhood) waitReady(file string, deadline time.Time) error {
	var ready struct {
		REST     string            `json:"rest"`
		GRPC     string            `json:"grpc"`
		Ops      string            `json:"ops"`
		Issuer   string            `json:"issuer"`
		Sources  map[string]string `json:"sources"`
		Patients []Patient         `json:"patients"`
	}
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		text, err := os.ReadFile(file) //nolint:gosec // our own temporary file
		if err == nil && json.Unmarshal(text, &ready) == nil {
			tick.Stop()
			break
		}
		select {
		case <-n.ended:
			return errors.New("it ended")
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			return errors.New("no whole ready file in time")
		}
	}
	n.REST, n.GRPC, n.Ops, n.Issuer, n.Sources, n.People = ready.REST, ready.GRPC, ready.Ops, ready.Issuer, ready.Sources, ready.Patients
	if n.REST == "" || n.GRPC == "" || n.Ops == "" || n.Issuer == "" || len(n.Sources) == 0 || len(n.People) == 0 {
		return errors.New("the ready file lacks rest, grpc, ops, issuer, sources or patients")
	}
	return nil
}

// PID returns the id of the demo's process.
func (n *Neighbourhood) PID() int { return n.cmd.Process.Pid }

// stopTime is how long an orderly stop may take: the broker drains for at most one budget of 8 s.
const stopTime = 12 * time.Second

// Stop asks the demo to end with SIGTERM, waits until it has, and returns how long that took. It fails the test if it ends otherwise than well, or
// not in time.
func (n *Neighbourhood) Stop(t testing.TB) time.Duration {
	t.Helper()
	begun := time.Now()
	if n.Ended() {
		t.Fatalf("the demo had ended before it was asked to\n%s", n.Tail())
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may end at this very moment; that is seen below
	select {
	case <-n.ended:
	case <-time.After(stopTime):
		n.Kill(t)
		t.Fatalf("the demo did not end within %v of SIGTERM\n%s", stopTime, n.Tail())
	}
	n.http.CloseIdleConnections()
	if n.err != nil {
		t.Fatalf("the demo ended with code %d\n%s", n.cmd.ProcessState.ExitCode(), n.Tail())
	}
	return time.Since(begun)
}

// Kill ends the demo with SIGKILL, as a power cut of the process would, and waits until it has.
func (n *Neighbourhood) Kill(t testing.TB) {
	t.Helper()
	_ = n.cmd.Process.Kill() // it may have ended already
	select {
	case <-n.ended:
	case <-time.After(stopTime):
		t.Fatal("the demo does not end even when killed")
	}
	n.http.CloseIdleConnections()
}

// Ended reports whether the process has ended.
func (n *Neighbourhood) Ended() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// end stops what the test left running.
func (n *Neighbourhood) end(t testing.TB) {
	if n.Ended() {
		n.http.CloseIdleConnections()
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
	case <-time.After(stopTime):
		t.Errorf("the demo did not end within %v of SIGTERM", stopTime)
		n.Kill(t)
	}
	n.http.CloseIdleConnections()
}

// Output returns everything that the demo has written to standard output and standard error so far.
func (n *Neighbourhood) Output() (stdout, stderr []byte) { return n.stdout.copy(), n.stderr.copy() }

// numberLike finds what may be an NHS number, with or without gaps.
var numberLike = regexp.MustCompile(`\d{3}[ -]?\d{3}[ -]?\d{4}`)

// Tail returns the last lines of what the demo wrote, for failures; whatever looks like an NHS number is struck out.
func (n *Neighbourhood) Tail() string {
	stdout, stderr := n.Output()
	last := func(b []byte) []byte {
		const limit = 4 << 10
		if len(b) > limit {
			b = b[len(b)-limit:]
		}
		return numberLike.ReplaceAll(b, []byte("##########"))
	}
	return fmt.Sprintf("its standard output ends:\n%s\nits standard error ends:\n%s", last(stdout), last(stderr))
}

// maxOutput caps what is kept of each of the demo's outputs; what comes after is dropped.
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
