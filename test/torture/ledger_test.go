package torture

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/mycarerecord/mycarerecord/audit"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// station is a running demo, one caller and one desk, for tests that take the ledger's disk away.
type station struct {
	n      *neighbourhood.Neighbourhood
	caller *caller
	desk   *desk
	log    *log
	g      *register
	who    []person
}

func newStation(t *testing.T, state string) *station {
	t.Helper()
	s := &station{n: neighbourhood.Start(t, neighbourhood.Options{State: state}), log: &log{}, who: people(t)}
	s.resume(t)
	s.g = &register{r: seeded(t), who: s.who}
	return s
}

// restart starts the demo again on the same state.
func (s *station) restart(t *testing.T) {
	t.Helper()
	s.caller.close()
	s.desk.close()
	s.n.Stop(t)
	s.n = neighbourhood.Start(t, neighbourhood.Options{State: s.n.State})
	s.resume(t)
}

func (s *station) resume(t *testing.T) {
	t.Helper()
	v := newVisit(t, s.n, s.who)
	var errs [2]error
	s.caller, errs[0] = newCaller(v, s.log, "l"+time.Now().Format("150405.000000"))
	s.desk, errs[1] = newDesk(v)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal("no gRPC client")
	}
}

var doctor = asker{"ed-doctor", "acute"}

// serves holds that records are shown, by all three ways.
func (s *station) serves(t *testing.T, when string) {
	t.Helper()
	for f := range faces {
		if a := s.caller.ask(t.Context(), f, doctor, s.who[0]); !a.shows() || a.cut {
			t.Errorf("%s: %s shows nothing: status %d, code %v", when, f, a.status, a.code)
		}
	}
}

// turnedAway holds that an answer is the refusal of a ledger that cannot record, and shows nothing at all.
func turnedAway(t *testing.T, when string, a *answer) {
	t.Helper()
	if a.shows() || a.planned || len(a.pieces) > 0 {
		t.Errorf("%s: %s shows something", when, a.face)
	}
	if a.face == byREST && a.status != http.StatusServiceUnavailable || a.face != byREST && a.code != codes.Unavailable || a.cut {
		t.Errorf("%s: %s is answered with status %d, code %v, cut %t, want 503 or UNAVAILABLE", when, a.face, a.status, a.code, a.cut)
	}
}

// refuses holds that nothing is shown by any way, that no custodian is asked, and that no objection is acknowledged.
func (s *station) refuses(t *testing.T, when string, ways ...face) {
	t.Helper()
	before := s.asked(t)
	for _, f := range ways {
		turnedAway(t, when, s.caller.ask(t.Context(), f, doctor, s.who[0]))
	}
	if n := s.asked(t) - before; n != 0 {
		t.Errorf("%s: custodians were asked %d times", when, n)
	}
	o := s.g.another(s.who[1])
	o.scope, o.custodian, o.section = v1.ObjectionScope_OBJECTION_SCOPE_ALL, "", 0
	if s.g.record(t.Context(), s.desk, o) {
		t.Errorf("%s: an objection is acknowledged", when)
	}
	report(t, s.g.problem)
}

// asked counts what all custodians were asked about people.
func (s *station) asked(t *testing.T) (n int) {
	t.Helper()
	for key := range s.n.Sources {
		n += s.n.Requests(t, key).Record
	}
	return n
}

// releasedInto asks while custodians are slow, calls trouble when they have been asked, and returns the answer: its Begin was recorded, its
// release meets the trouble.
func (s *station) releasedInto(t *testing.T, f face, trouble func()) *answer {
	t.Helper()
	for key := range s.n.Sources {
		s.n.Fault(t, key, "slow", 0, 400)
	}
	before := s.asked(t)
	done := make(chan *answer, 1)
	go func() { done <- s.caller.ask(t.Context(), f, doctor, s.who[0]) }()
	for began := time.Now(); s.asked(t) == before; pause(t.Context(), 5*time.Millisecond) {
		if time.Since(began) > callTime {
			t.Fatal("nobody is asked")
		}
	}
	trouble()
	a := <-done
	for key := range s.n.Sources {
		s.n.Fault(t, key, "none", 0, 0)
	}
	return a
}

// end stops the demo, and holds that the ledger is sound, that every access is closed, and that every answer is accounted for.
func (s *station) end(t *testing.T) {
	t.Helper()
	s.caller.close()
	s.desk.close()
	s.n.Stop(t)
	l := readLedger(t, s.n.State)
	if l.report.Open != 0 {
		t.Errorf("%d accesses were never closed", l.report.Open)
	}
	report(t, l.accounted(s.log.answers).problems)
	t.Logf("%d requests; ledger: %d entries, %d begun, %d released, %d refused, %d abandoned, %d cancelled", s.log.requests.Load(), l.report.Entries,
		l.report.ByType[audit.TypeBegin], l.report.ByType[audit.TypeReleased], l.report.ByType[audit.TypeRefused], l.report.ByType[audit.TypeAbandoned],
		l.report.ByType[audit.TypeCancelled])
}

// TestLedgerThatMustNotBeOpened starts the demo on a ledger that another process has open, and on keys that are missing, others' or open to others:
// it says why in a sentence, and serves nothing.
func TestLedgerThatMustNotBeOpened(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	program := neighbourhood.Program(t, "demo")
	s := newStation(t, t.TempDir())
	s.serves(t, "at first")
	refusesToStart(t, program, s.n.State, "another process has the ledger open")
	s.serves(t, "with a second process turned away")
	s.caller.close()
	s.desk.close()
	s.n.Stop(t)

	payload, lookup := filepath.Join(keysFolder(s.n.State), "payload-0001.key"), filepath.Join(keysFolder(s.n.State), "lookup-0001.key")
	for _, tc := range []struct {
		name  string
		file  string
		spoil func(file string) error
		say   string
	}{
		{"another key", payload, func(file string) error { return replace(file, bytes.Repeat([]byte{1, 2}, 16)) }, "are these the keys of this ledger?"},
		{"another lookup key", lookup, func(file string) error { return replace(file, bytes.Repeat([]byte{1, 2}, 16)) }, "the keys of epoch 1 are not those that the ledger was written with"},
		{"a key too short", payload, func(file string) error { return replace(file, []byte("short")) }, "must hold exactly 32 bytes"},
		{"a key gone", lookup, os.Remove, "payload-0001.key has no lookup-0001.key beside it"},
		{"a key open to others", payload, func(file string) error { return os.Chmod(file, 0o444) }, "can be touched by others than its owner"},                  //nolint:gosec // on purpose
		{"a ledger open to others", ledgerFile(s.n.State), func(file string) error { return os.Chmod(file, 0o644) }, "can be touched by others than its owner"}, //nolint:gosec // on purpose
		{"a ledger that is none", ledgerFile(s.n.State), func(file string) error { return replace(file, bytes.Repeat([]byte("no ledger "), 1000)) }, "ledger"},
	} {
		text, err := os.ReadFile(tc.file)
		if err != nil {
			t.Fatalf("%s: the file is not where it should be", tc.name)
		}
		info, err := os.Stat(tc.file)
		if err != nil || tc.spoil(tc.file) != nil {
			t.Fatalf("%s: cannot be done", tc.name)
		}
		t.Run(tc.name, func(t *testing.T) { refusesToStart(t, program, s.n.State, tc.say) })
		if replace(tc.file, text) != nil || os.Chmod(tc.file, info.Mode()) != nil {
			t.Fatalf("%s: cannot be undone", tc.name)
		}
	}
	s.n = neighbourhood.Start(t, neighbourhood.Options{State: s.n.State})
	s.resume(t)
	s.serves(t, "with all in its place again")
	s.end(t)
}

// replace writes a file anew, whatever its mode.
func replace(file string, text []byte) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(file, text, 0o400|0o200) // its mode is set again with it
}

// refusesToStart starts the demo on a state folder, and holds that it ends by itself, with one sentence that has the words, without having been ready.
func refusesToStart(t *testing.T, program, state, words string) {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready.json")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-rest", "127.0.0.1:0", "-grpc", "127.0.0.1:0", "-ops", "127.0.0.1:0", "-issuer", "127.0.0.1:0", //nolint:gosec // built from our own sources
		"-sources", "127.0.0.1:0", "-ready-file", ready, "-state", state)
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit code 1", err)
	}
	if _, err := os.Stat(ready); err == nil {
		t.Error("it was ready")
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	last := lines[len(lines)-1]
	if !strings.Contains(last, words) || !strings.HasPrefix(last, "demo: ") {
		t.Errorf("it says %q, want a sentence with %q", last, words)
	}
	for _, never := range []string{"panic", "goroutine ", "SQLITE_"} {
		if strings.Contains(said.String(), never) {
			t.Errorf("it says %q", never)
		}
	}
}
