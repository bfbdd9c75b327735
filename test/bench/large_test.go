//go:build linux && !race

package main

import (
	"net/http"
	"os"
	"testing"
	"time"
)

// TestLargeRequestsAtOnce holds the built broker to its memory. Many more large requests come at once than its budget has room for: it never takes more
// than the budget and 256 MiB, all are answered whole in the end, those that find no room when they come back as told; and when all is quiet the
// process is as small again as it was. With MCR_TORTURE=long there are more than a thousand of them.
func TestLargeRequestsAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the broker and asks it for large records")
	}
	const (
		budget = 256 << 20
		beyond = 256 << 20
		within = 30 * time.Second // as small again
	)
	waves := 1
	if os.Getenv("MCR_TORTURE") == "long" {
		waves = 42
	}
	const atOnce = 24
	jwks, tokens, err := newTokens()
	if err != nil {
		t.Fatal(err)
	}
	around, err := startSurroundings(jwks)
	if err != nil {
		t.Fatal(err)
	}
	defer around.stop()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 2 * atOnce}}
	defer client.CloseIdleConnections()
	r := runner{begun: time.Now(), bench: &bench{dir: t.TempDir(), around: around, tokens: tokens, client: client, inFlight: "256MiB"}, report: report{Candidates: []string{ours}}}
	if err := r.buildAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	large := sizes[len(sizes)-1]
	around.hold(large)
	c, err := r.bench.start(ours, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	// What a process in service has at rest, it has from now on: the program's pages, the ledger's page caches, its connections, the collector's own. The
	// first crowds are as wide as those that follow, so that they open as many connections and stacks as they do; after one of them the page caches, of a few
	// megabytes for each connection to the ledger, are not full yet.
	if err := c.check(large); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := (plan{Crowd: time.Minute}).crowd(c, atOnce); err != nil {
			t.Fatal(err)
		}
	}
	idle := quiet(t, c, 0)
	refusals := 0
	for range waves {
		got, err := plan{Crowd: 2 * time.Minute}.crowd(c, atOnce)
		if err != nil {
			t.Fatal(err)
		}
		refusals += got.Refusals
		if got.Whole+got.Retried != atOnce {
			t.Errorf("of %d at once %d were whole, %d after refusals, %d in part, %d lost", atOnce, got.Whole, got.Retried, got.InPart, got.Lost)
		}
	}
	_, peak, err := memory(c.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if peak > budget+beyond {
		t.Errorf("the process had %d MiB, at most %d are for it", peak>>20, (budget+beyond)>>20)
	}
	begun := time.Now()
	later := idle
	for later = quiet(t, c, idle+idle/10); later > idle+idle/10; later = quiet(t, c, idle+idle/10) {
		if time.Since(begun) > within {
			t.Errorf("%v after the last answer the process has %d MiB, and had %d", within, later>>20, idle>>20)
			break
		}
	}
	t.Logf("%d requests, %d refusals; idle %d MiB, peak %d MiB, %d MiB after %v", waves*atOnce, refusals, idle>>20, peak>>20, later>>20, time.Since(begun).Round(time.Second))
}

// quiet waits until the process has at most so much in memory, or for as long as it takes it to give back what it can, and returns what it has.
func quiet(t *testing.T, c *candidate, most int64) (now int64) {
	t.Helper()
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		var err error
		if now, _, err = memory(c.cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if now <= most {
			break
		}
	}
	return now
}
