package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// scriptVariable names a folder in processes that stand in for a broker's ledger: this test binary, started again, does some writes of each sort to a ledger
// in that folder, says on standard output what was acknowledged, and ends.
const scriptVariable = "MCR_TORTURE_SCRIPT"

// onOneThread runs everything that writes on one thread of the kernel: strace counts the calls of each thread apart.
type onOneThread struct {
	audit.Store
	work chan func()
}

func newThread() onOneThread {
	s := onOneThread{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range s.work {
			f()
		}
	}()
	return s
}

// do runs f there.
func (s onOneThread) do(f func()) {
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

// Update implements audit.Store.
func (s onOneThread) Update(ctx context.Context, ahead audit.Wanted, f func(audit.Tx) error) (err error) {
	s.do(func() { err = s.Store.Update(ctx, ahead, f) })
	return err
}

// sinkOnThread is a place for checkpoints that is written by the same thread. What a proof needs is read before, by another: it reads the store.
type sinkOnThread struct {
	audit.Sink
	onOneThread
}

// Extend implements audit.Sink.
func (s sinkOnThread) Extend(ctx context.Context, c audit.Checkpoint, prove func(context.Context, uint64) ([][32]byte, error)) (line []byte, err error) {
	s.do(func() { line, err = s.Sink.Extend(ctx, c, prove) })
	return line, err
}

// scripted is the origin of the ledgers here.
const scripted = "mycarerecord.example/script"

// openIn opens the ledger of a folder. The keys are there.
func openIn(ctx context.Context, dir string, store audit.Store) (*audit.Ledger, error) {
	keys, err := audit.LoadKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	kept, err := sink.NewFolder(filepath.Join(dir, "checkpoints"))
	if err != nil {
		return nil, err
	}
	place := audit.Sink(kept)
	if thread, is := store.(onOneThread); is {
		place = sinkOnThread{kept, thread}
	}
	return audit.Open(ctx, audit.Config{Store: store, Keys: keys, Sinks: []audit.Sink{place}, Origin: scripted, Sweep: time.Hour})
}

// script is what such a process does, and its exit code. Errors of the ledger are what it is for: they are said, and it goes on.
func script(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	thread := newThread()
	var file *sqlite.Store
	var err error
	thread.do(func() { file, err = sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "ledger.db"), Readers: 1}) })
	if err != nil {
		fmt.Println("refused", err)
		return 0
	}
	thread.Store = file
	l, err := openIn(ctx, dir, thread)
	if err == nil {
		write(ctx, l)
		err = l.Shutdown(ctx)
	}
	if err != nil {
		fmt.Println("refused", err)
	}
	thread.do(func() { err = file.Close() })
	fmt.Println("ended", err == nil)
	return 0
}

// write writes each sort of entry.
func write(ctx context.Context, l *audit.Ledger) {
	said := func(r audit.Receipt, err error) bool {
		if err != nil {
			fmt.Println("refused", err)
			return false
		}
		fmt.Printf("acknowledged %d %x\n", r.Position, r.Leaf)
		return true
	}
	n := 0
	key := func() string { n++; return fmt.Sprintf("%032x", n) }
	by := audit.Actor{Requester: anyDoctor}
	about := numberOf(subjects(1, "")[0])
	var first consent.Objection
	for i := range 2 {
		o, r, err := l.RecordObjection(ctx, by, about, consent.Objection{Scope: consent.ToSection, Section: record.MentalHealth}, key())
		if said(r, err) && i == 0 {
			first = o
		}
	}
	prefs, err := l.Preferences(ctx, []record.NHSNumber{about})
	if err != nil {
		fmt.Println("refused", err)
		return
	}
	q := consent.Question{Subject: record.Subject{Number: about, Standing: record.Live}, Requester: anyDoctor, Role: clinicalRole, Purpose: record.Treatment,
		Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Now: time.Now(),
		Custodians: []consent.CustodianRules{{Custodian: record.Custodian{Key: "acute", ODS: "X9B01", Name: "Invented", Kind: record.KindAcute}}}}
	d := consent.Evaluate(q, prefs)
	if permit, ok := d.Permit(); ok {
		opened, err := l.Begin(ctx, permit, audit.Access{Key: key(), Subject: about, Standing: record.Live, Requester: anyDoctor, Purpose: q.Purpose,
			Permission: q.Permission, Relationship: q.Relationship, Decision: d, Asked: []record.CustodianKey{"acute"}, At: q.Now, Budget: time.Second})
		if err != nil {
			fmt.Println("refused", err)
		} else {
			said(l.Release(ctx, opened, permit, audit.Disclosure{Total: 1, Custodians: []audit.Shown{{Key: "acute", State: record.Returned, Sections: permit.Sections("acute"),
				Count: 1, Digests: [][32]byte{{1}}}}}))
		}
	}
	if first.ID != "" {
		_, r, err := l.WithdrawObjection(ctx, by, []record.NHSNumber{about}, first.ID, key())
		said(r, err)
	}
	said(l.Refuse(ctx, audit.Access{Key: key(), Subject: about, Reason: consent.ReasonRole}))
}

// writing are the calls by which a ledger's files, and the folder of its checkpoints, are made and changed. Files are opened by other threads as well: it is no
// matter if a call by which one is opened fails in two of them.
var (
	writing = slices.Concat([]string{"pwrite64", "pwritev", "write", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate", "unlink", "unlinkat", "rename", "renameat", "renameat2",
		"fchmod", "fchown"}, opening)
	opening = []string{"open", "openat", "mkdir", "mkdirat"}
)

// underStraceWith runs the script in a folder under strace, with more of its arguments, and returns what strace and the script wrote.
func underStraceWith(t *testing.T, strace, dir string, args ...string) (trace, said []byte) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal("this test binary has no path")
	}
	out := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all := []string{"-f", "-y", "-o", out, "-e", "trace=" + strings.Join(writing, ","), "-P", dir}
	paths := []string{"ledger.db", "ledger.db-wal", "ledger.db-shm", "checkpoints", "checkpoints/lock"}
	for _, day := range []time.Time{time.Now(), time.Now().AddDate(0, 0, 1)} { // it may be midnight
		paths = append(paths, "checkpoints/checkpoints-"+day.UTC().Format(time.DateOnly)+".txt")
	}
	for _, path := range paths {
		all = append(all, "-P", filepath.Join(dir, path))
	}
	cmd := exec.CommandContext(ctx, strace, append(append(all, args...), self)...) //nolint:gosec // a tool of the system, and ourselves
	cmd.Env = append(os.Environ(), scriptVariable+"="+dir)
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 || err == nil { // killed, or well: strace ends as what it watched has
		err = nil
	}
	if err != nil || bytes.Contains(stderr.Bytes(), []byte("panic")) {
		t.Errorf("the script ended with %v\n%s", err, tail(stderr.Bytes()))
	}
	if trace, err = os.ReadFile(out); err != nil { //nolint:gosec // of the test's own
		t.Fatal("there is no trace")
	}
	return trace, stdout.Bytes()
}

// scriptFolder makes a folder with keys.
func scriptFolder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir()) // strace knows files by their real names
	if err != nil {
		t.Fatal("no temporary folder")
	}
	if _, err := audit.CreateKeys(filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	return dir
}

var tracedCall = regexp.MustCompile(`^(\d+) +([a-z0-9]+)\(`)

// TestEachSystemCall lets each system call by which the ledger's files are changed fail once with an error of the disk, and once be the last that the process
// makes. When the ledger is then opened anew it is sound, what was acknowledged is there, and the checkpoints that were given out are continued; the checker that
// shares no code with it says so too.
func TestEachSystemCall(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	strace := needStrace(t)
	t.Parallel()
	verify := neighbourhood.Program(t, "verify")
	dir := scriptFolder(t)
	trace, said := underStraceWith(t, strace, dir)
	if !bytes.HasSuffix(said, []byte("ended true\n")) || bytes.Contains(said, []byte("refused")) {
		t.Fatalf("the script does not do well even when nothing fails:\n%s", said)
	}
	calls, threads, ofThread := map[string]int{}, map[string]bool{}, map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(trace)); lines.Scan(); {
		if m := tracedCall.FindStringSubmatch(lines.Text()); m != nil {
			ofThread[m[1]+m[2]]++
			calls[m[2]] = max(calls[m[2]], ofThread[m[1]+m[2]])
			if !slices.Contains(opening, m[2]) {
				threads[m[1]] = true
			}
		}
	}
	if len(threads) != 1 || calls["pwrite64"] < 40 || calls["fsync"] < 5 || calls["write"] == 0 || calls["open"]+calls["openat"] == 0 {
		t.Fatalf("%d threads change the ledger's files (%v): the calls cannot be counted, or the trace does not see them", len(threads), calls)
	}
	type place struct {
		call string
		n    int
	}
	var places []place
	for _, call := range writing {
		for n := range calls[call] {
			places = append(places, place{call, n + 1})
		}
	}
	r, seed := withSeed(t)
	r.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	tried := min(len(places), rounds(10, len(places), 2))
	for _, how := range []struct{ name, inject string }{{"is the last of a process that is killed", "signal=KILL"}, {"fails with EIO", "error=EIO"}} {
		t.Run(how.name, func(t *testing.T) {
			bad, met, done := 0, 0, 0
			for _, p := range places[:tried] {
				if end, ok := t.Deadline(); ok && time.Until(end) < 2*time.Minute {
					t.Errorf("there was time for %d of %d calls", done, tried)
					break
				}
				done++
				dir := scriptFolder(t)
				trace, said := underStraceWith(t, strace, dir, "-e", fmt.Sprintf("inject=%s:%s:when=%d", p.call, how.inject, p.n))
				if bytes.Contains(trace, []byte("INJECTED")) || bytes.Contains(trace, []byte("killed by SIGKILL")) {
					met++
				}
				if err := errors.Join(soundAfter(t.Context(), dir, said), cleanTo(t.Context(), verify, dir)); err != nil {
					bad++
					t.Errorf("%s %d %s: %v", p.call, p.n, how.name, err)
				}
				_ = os.RemoveAll(dir) // there are many
			}
			if met < done*9/10 {
				t.Errorf("%d of %d calls were met", met, done)
			}
			figure.Report(t, figure.Figure{Name: "each system call that makes or changes the files of a ledger on SQLite and of its checkpoints " + how.name + ": ledger not sound, or something acknowledged lost", Seen: bad, Of: met,
				What: "calls", Seed: seed, More: fmt.Sprintf("of %d that there are: %v", len(places), calls)})
		})
	}
}

// soundAfter opens the ledger in a folder, and holds it against what the script said.
func soundAfter(ctx context.Context, dir string, said []byte) error {
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "ledger.db"), Readers: 1})
	// strace ends when the process is killed, and the last of its threads lets go of its files a moment after.
	for end := time.Now().Add(10 * time.Second); err != nil && strings.Contains(err.Error(), "another process has the ledger open") && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		store, err = sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "ledger.db"), Readers: 1})
	}
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // it is a test's
	l, err := openIn(ctx, dir, store)
	if err != nil {
		return err
	}
	report, err := l.Verify(ctx)
	if err = errors.Join(err, report.Sound()); err != nil {
		return err
	}
	if report.Open != 0 {
		return fmt.Errorf("%d accesses are open", report.Open)
	}
	err = store.View(ctx, func(r audit.Reader) error {
		for line := range strings.Lines(string(said)) {
			fields := strings.Fields(line)
			if len(fields) != 3 || fields[0] != "acknowledged" {
				continue
			}
			var position uint64
			leaf, bad := hex.DecodeString(fields[2])
			if _, err := fmt.Sscan(fields[1], &position); err != nil || bad != nil {
				return errors.New("the script cannot be understood")
			}
			if e, err := r.Entry(position); err != nil || !slices.Equal(e.Leaf[:], leaf) {
				return fmt.Errorf("entry %d was acknowledged and is gone", position)
			}
		}
		return nil
	})
	return errors.Join(err, l.Shutdown(ctx))
}

// cleanTo exports the ledger in a folder, and lets the built checker read it: the tree, the signatures, the order, what was given out as checkpoints, and consent.
func cleanTo(ctx context.Context, verify, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	keys, err := audit.LoadKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	public, err := keys.Verifiers(scripted)
	if err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "ledger.db"), Readers: 1})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	err = errors.Join(audit.ExportStore(ctx, store, keys, scripted, false, func(b []byte) error { text.Write(b); return nil }), store.Close())
	export := filepath.Join(dir, "export.jsonl")
	if err = errors.Join(err, os.WriteFile(export, text.Bytes(), 0o600)); err != nil {
		return err
	}
	args := []string{"export", export, "-key", public[0], "-keys", filepath.Join(dir, "keys")}
	kept, err := filepath.Glob(filepath.Join(dir, "checkpoints", "*.txt"))
	if err != nil || len(kept) == 0 {
		return errors.New("no checkpoint was given out")
	}
	for _, file := range kept {
		args = append(args, "-checkpoint", file)
	}
	out, err := exec.CommandContext(ctx, verify, args...).CombinedOutput() //nolint:gosec // built from our own sources
	if err != nil || !bytes.Contains(out, []byte(" 0 violations")) {
		return fmt.Errorf("verify: %w: %s", err, tail(out))
	}
	return nil
}
