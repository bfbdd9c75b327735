package torture

import (
	"bytes"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// traced is what strace is asked for: every call by which bytes leave the process or reach the disk for good.
const traced = "trace=write,writev,sendto,sendmsg,sendmmsg,fsync,fdatasync,pwrite64"

// needStrace returns the path of strace, if it may trace. Without it the test is skipped, and in CI it fails.
func needStrace(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("strace")
	if err == nil {
		err = exec.Command(program, "-f", "-o", os.DevNull, "-e", "trace=fsync", "true").Run() //nolint:gosec // a tool of the system
	}
	switch {
	case err == nil:
		return program
	case os.Getenv("CI") != "":
		t.Fatal("strace cannot be used: install it, and allow ptrace")
	default:
		t.Skip("needs strace, and leave to use ptrace")
	}
	return ""
}

// underStrace writes a program that runs the demo under strace and is the demo's own process, so that signals reach it; the tracer stands aside.
func underStrace(t *testing.T, strace, program, out string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "demo")
	// -s is more than the demo writes at once: whose resources are in a write must be seen.
	text := fmt.Sprintf("#!/bin/sh\nexec '%s' -D -f -yy -tt --seccomp-bpf -e %s -s 131072 -o '%s' '%s' \"$@\"\n", strace, traced, out, program)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal("the script cannot be written")
	}
	return script
}

// TestSyncBeforeSend runs the built demo under strace, reads records by all three ways, one after the other, and holds the order of its system
// calls against P1: see [checkOrder].
func TestSyncBeforeSend(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole demo")
	}
	strace := needStrace(t)
	t.Parallel()
	out := filepath.Join(t.TempDir(), "trace")
	n := neighbourhood.Start(t, neighbourhood.Options{Program: underStrace(t, strace, neighbourhood.Program(t, "demo"), out)})
	who := people(t)
	v := newVisit(t, n, who)
	all := &log{}
	c, err := newCaller(v, all, "s")
	if err != nil {
		t.Fatal("no gRPC client")
	}
	mark(t, n)
	var exchanges []exchange
	for i := range either(12, 150) {
		a := c.ask(t.Context(), face(i%int(faces)), asker{"ed-doctor", "acute"}, who[i/int(faces)%4])
		if a.cut || !a.shows() {
			t.Fatalf("%s %s: status %d, code %v", a.face, a.id, a.status, a.code)
		}
		exchanges = append(exchanges, seenBy(a))
		mark(t, n)
	}
	c.close()
	n.Stop(t)
	text := finished(t, out, n.PID())

	calls, err := readTrace(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("the trace cannot be read: %v", err)
	}
	p := place{rest: host(n.REST), grpc: n.GRPC, mark: host(n.Ops), custodians: map[string]string{}, headPage: headPage(t, n.State)}
	for key, origin := range n.Sources {
		p.custodians[host(origin)] = key
	}
	got := checkOrder(calls, p, exchanges)
	t.Logf("%d calls in %d bytes of trace; %d exchanges: %d commits of the ledger that add entries, %d in all that add none, %d writes to custodians, %d writes with something of an answer; %d out of order",
		len(calls), len(text), len(exchanges), got.commits, got.others, got.asked, got.answers, len(got.problems))
	report(t, got.problems)
	figure.Report(t, figure.Figure{Name: "exchanges out of order with the syncs of the ledger", Seen: len(got.broken), Of: len(exchanges), What: "exchanges", More: fmt.Sprintf("%d commits", got.commits)})
	if got.others == 0 {
		t.Error("no commit of a checkpoint is in the trace: it is signed each second")
	}
	for _, e := range exchanges {
		if want := 2 + len(e.chunks); e.face == byStreamRecord && len(e.chunks) < 2 {
			t.Errorf("%s has %d chunks, want some", e.name, want-2)
		}
	}
	if got.commits < 2*len(exchanges) || got.asked < 9*len(exchanges) {
		t.Errorf("%d commits and %d writes to custodians: fewer than the exchanges need", got.commits, got.asked)
	}
	l := readLedger(t, n.State)
	report(t, l.accounted(all.answers).problems)
	condemned(t, calls, p, exchanges)
}

// headPage returns the page of the ledger's file that holds the head row: the only one of its table.
func headPage(t *testing.T, state string) (page uint32) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(state, "ledger.db")+"?mode=ro")
	if err != nil {
		t.Fatal("the ledger's file cannot be opened")
	}
	defer func() { _ = db.Close() }() // read only
	if err := db.QueryRowContext(t.Context(), "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = 'head'").Scan(&page); err != nil || page == 0 {
		t.Fatal("the ledger's file does not say where its head row is")
	}
	return page
}

// mark makes the demo write to a connection that nothing else uses, so that the trace shows where one exchange ends.
func mark(t *testing.T, n *neighbourhood.Neighbourhood) {
	t.Helper()
	if res, err := n.Do(t.Context(), http.MethodGet, n.Ops+"/livez", nil, nil); err != nil || res.Status != http.StatusOK {
		t.Fatal("the operations listener does not answer")
	}
}

// seenBy is what the client knows of an exchange.
func seenBy(a *answer) exchange {
	e := exchange{name: a.face.String() + " " + a.id, face: a.face, handle: a.handle}
	if a.face != byStreamRecord {
		return e
	}
	pieces := slices.DeleteFunc(slices.Clone(a.pieces), func(p piece) bool { return p.custodian == "" || len(p.shown) == 0 || p.receipt == nil })
	slices.SortFunc(pieces, func(a, b piece) int { return int(int64(a.receipt.position) - int64(b.receipt.position)) })
	for _, p := range pieces {
		e.chunks = append(e.chunks, p.custodian)
	}
	return e
}

// host returns host:port of an origin.
func host(origin string) string { return strings.TrimPrefix(origin, "http://") }

// finished returns the trace when the tracer has written all of it: the end of the process is the last that it writes.
func finished(t *testing.T, file string, pid int) []byte {
	t.Helper()
	for began := time.Now(); time.Since(began) < 10*time.Second; pause(t.Context(), 10*time.Millisecond) {
		text, err := os.ReadFile(file) //nolint:gosec // of the test's own
		if err != nil {
			continue
		}
		last := text[max(0, len(text)-4096):]
		if bytes.Contains(last, fmt.Appendf(nil, "%d ", pid)) && bytes.Contains(last, []byte(" +++ exited with ")) && bytes.HasSuffix(last, []byte("+++\n")) {
			return text
		}
	}
	t.Fatal("strace does not finish its trace")
	return nil
}

// condemned spoils the trace in the ways in which the product could be wrong, and holds the judge to each of them in each exchange.
func condemned(t *testing.T, calls []*systemCall, p place, exchanges []exchange) {
	t.Helper()
	spoil := func(how string, change func(c *systemCall) *systemCall) {
		var spoilt []*systemCall
		for _, c := range calls {
			other := *c
			if s := change(&other); s != nil {
				spoilt = append(spoilt, s)
			}
		}
		got := checkOrder(spoilt, p, exchanges)
		for _, e := range exchanges {
			if !got.broken[e.name] {
				t.Errorf("%s: the order of %s is not condemned", how, e.name)
			}
		}
	}
	wal := func(c *systemCall) bool { return strings.HasSuffix(c.target, "-wal") }
	sync := func(c *systemCall) bool { return wal(c) && strings.HasSuffix(c.name, "sync") }
	spoil("no sync at all", func(c *systemCall) *systemCall {
		if sync(c) {
			return nil
		}
		return c
	})
	others, _ := withoutEntries(calls, p.headPage)
	own := map[int]bool{} // syncs, by where they begin, behind a commit that adds no entry
	var before *systemCall
	for _, c := range calls {
		if wal(c) && c.name == "pwrite64" {
			before = c
		}
		own[c.begin] = sync(c) && others[before]
	}
	spoil("no sync but those of checkpoints", func(c *systemCall) *systemCall {
		if sync(c) && !own[c.begin] {
			c.result = -1
		}
		return c
	})
	spoil("syncs that fail", func(c *systemCall) *systemCall {
		if sync(c) {
			c.result = -1
		}
		return c
	})
	spoil("syncs of the main file only", func(c *systemCall) *systemCall {
		if sync(c) {
			c.target = strings.TrimSuffix(c.target, "-wal")
		}
		return c
	})
	n := 0
	spoil("every other sync", func(c *systemCall) *systemCall { // and none of checkpoints, which would do for the one that is missing
		if own[c.begin] {
			return nil
		}
		if sync(c) {
			if n++; n%2 == 0 {
				return nil
			}
		}
		return c
	})
	// A sync that comes back later than it did: after whatever came next on a socket.
	last := map[*systemCall]int{}
	var waiting []*systemCall
	for _, c := range calls {
		if sync(c) {
			waiting = append(waiting, c)
		} else if c.local != "" && c.local != p.mark {
			for _, w := range waiting {
				last[w] = c.begin
			}
			waiting = nil
		}
	}
	i := 0
	spoil("syncs that come back too late", func(c *systemCall) *systemCall {
		for calls[i].begin != c.begin {
			i++
		}
		if sync(c) && last[calls[i]] != 0 {
			c.end = last[calls[i]]
		}
		i++
		return c
	})
}
