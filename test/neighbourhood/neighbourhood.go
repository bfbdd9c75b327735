// Package neighbourhood lets a test drive the product as it is shipped: it builds cmd/demo, starts it as a process of its own on free
// loopback ports, and speaks to it over sockets only. Nothing of the broker is imported, so that what a test sees is what a
// caller would see.
//
// Every wait has a deadline. Failures say what happened and hold no body, no token and no NHS number. The only process that is ever signalled
// is the one that was started here, by its own handle.
package neighbourhood

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

	process
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
	n := &Neighbourhood{State: o.State}
	started := n.run(t, "demo", o.Program, o.Env, flags...)
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
