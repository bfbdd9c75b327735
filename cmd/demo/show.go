package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mycarerecord/mycarerecord/cmd/internal/daemon"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Deadlines of start and end.
const (
	startUp = 30 * time.Second        // until the daemon listens and the objections are recorded
	windUp  = 1700 * time.Millisecond // for requests on their way when a signal comes; the whole stop takes less than 2 s
)

// manifestFile is the name, in the state folder, of the manifest of whole-patient bundles.
const manifestFile = "synthea-manifest.json"

// show runs the neighbourhood until ctx ends.
func (o options) show(ctx context.Context, out, errs io.Writer) error {
	people, manifest, err := o.people()
	if err != nil {
		return err
	}
	state, temporary, err := o.stateFolder()
	if err != nil {
		return err
	}
	if temporary {
		defer func() { _ = os.RemoveAll(state) }() // what cannot be removed from the temporary folder stays for the system to remove
	}
	if manifest != nil {
		if err := writeJSON(filepath.Join(state, manifestFile), manifest); err != nil {
			return err
		}
	}

	// Everything that is outside the broker.
	around, err := o.surroundings(people, state)
	if err != nil {
		return err
	}
	defer around.close()

	// The broker: a configuration file like any other, read by the daemon's own loader, run by the daemon.
	rest, listener, err := o.gateway()
	if err != nil {
		return err
	}
	if listener != nil {
		defer func() { _ = listener.Close() }() // the daemon has done so, where it came to that
	}
	cfg, err := o.configure(state, around, rest)
	if err != nil {
		return err
	}
	if o.readyFile != "" { // one that an earlier run left behind would be taken for this one's
		if err := os.Remove(o.readyFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s cannot be replaced", o.readyFile)
		}
		defer func() { _ = os.Remove(o.readyFile) }() // nothing is at those addresses any more
	}
	daemonContext, stopDaemon := context.WithCancel(ctx)
	defer stopDaemon()
	up := make(chan daemon.Addresses, 1)
	down := make(chan error, 1)
	go func() {
		down <- daemon.Run(daemonContext, cfg, daemon.Options{Log: errs, REST: listener, Ready: func(a daemon.Addresses) { up <- a }})
	}()

	var at daemon.Addresses
	select {
	case at = <-up:
	case err := <-down:
		return err
	case <-time.After(startUp):
		return errors.New("the daemon did not start in time")
	case <-ctx.Done():
		return wait(down, around)
	}
	if err := around.recordObjections(ctx, at.GRPC, people); err != nil {
		if ctx.Err() != nil {
			return wait(down, around)
		}
		return errors.Join(err, stopped(stopDaemon, down, around))
	}
	if o.readyFile != "" {
		if err := writeJSON(o.readyFile, around.ready(at, people)); err != nil {
			return errors.Join(err, stopped(stopDaemon, down, around))
		}
	}
	around.print(out, at, state, people)

	select {
	case err := <-down: // only ctx ends a daemon that is well
		if ctx.Err() == nil && err == nil {
			err = errors.New("the daemon stopped by itself")
		}
		return err
	case <-ctx.Done():
		fmt.Fprintln(out, "\nStopping.")
		return wait(down, around)
	}
}

// stopped ends the daemon after a failed start.
func stopped(stop func(), down <-chan error, around *surroundings) error {
	stop()
	return wait(down, around)
}

// wait gives requests on their way a little time. The custodians go first: nobody then waits for one. What is cut off here is closed in the
// ledger at the next start, as after any crash.
func wait(down <-chan error, around *surroundings) error {
	around.close()
	select {
	case err := <-down:
		return err
	case <-time.After(windUp):
		return nil
	}
}

// people are those of the flags, with the manifest of whole-patient bundles.
func (o options) people() ([]cohort.Person, *cohort.Manifest, error) {
	switch {
	case o.cohort != "":
		people, err := cohort.Load(o.cohort)
		return people, nil, err //nolint:wrapcheck // names the file and what to do
	case o.synthea != "":
		people, manifest, err := cohort.Synthea(o.synthea)
		return people, &manifest, err //nolint:wrapcheck // names the file and what to do
	}
	return cohort.Invented(time.Now()), nil, nil
}

// stateFolder makes the folder of the flags, or a temporary one.
func (o options) stateFolder() (dir string, temporary bool, err error) {
	if o.state == "" {
		dir, err = os.MkdirTemp("", "mycarerecord-demo-")
		if err != nil {
			return "", false, errors.New("no temporary folder can be made; name one with -state")
		}
		return dir, true, nil
	}
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return "", false, fmt.Errorf("the folder %s cannot be made; name another with -state", o.state)
	}
	dir, err = filepath.Abs(o.state)
	if err != nil {
		return "", false, fmt.Errorf("the folder %s cannot be found; name another with -state", o.state)
	}
	return dir, false, nil
}

// writeJSON writes a file whole or not at all: nobody sees a part of it.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic(err) // maps, lists and strings
	}
	return writeFile(path, append(text, '\n'))
}

func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("%s cannot be written: is there such a folder?", path)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first trouble is the one to tell
		return fmt.Errorf("%s cannot be written", path)
	}
	return nil
}

// wishes are the objections that people have made.
func wishes(people []cohort.Person) []simulator.Wish {
	var out []simulator.Wish
	for _, p := range people {
		for _, x := range p.Objections {
			out = append(out, simulator.Wish{Number: p.NHSNumber, BirthDate: p.BirthDate, Scope: x.Scope, Custodian: x.Custodian, Section: x.Section, Reason: x.Reason})
		}
	}
	return out
}
