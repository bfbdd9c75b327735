//go:build !race

package hl7v2_test

// The race detector takes memory of its own: this is measured without it.

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// An answer costs no more memory than R-7 allows, whether it has no end, or is many large documents, or many small results.
func TestMemory(t *testing.T) {
	document := "OBX|1|ED|1^Scan^L||^AP^PDF^Base64^" + strings.Repeat("QUFB", 700<<10) + "||||||F\r"
	for name, answer := range map[string]string{
		"no end":         "\x0b" + mshGood + ackGood + pidGood + labGood + strings.Repeat(obxGood, 900_000),
		"documents":      block(good + strings.Repeat(document, 5)),
		"more documents": block(good + strings.Repeat(document, 9)),
		"results":        block(good + strings.Repeat(obxGood, 19_000)),
		"one segment":    block(good + "ZZZ|" + strings.Repeat("x&", 14<<20) + "\r"),
		"segments":       block(good + strings.Repeat("ZZZ\r", 7<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvil(t, func(int) string { return answer })
			memory(t, source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{simulator.QueryResults} }))
		})
	}
}

// memory asks once, and fails where more is in use meanwhile than R-7 lets one request have.
func memory(t *testing.T, s *hl7v2.Source) {
	t.Helper()
	q := query(t, held)
	q.Limits = broker.DefaultLimits
	defer debug.SetGCPercent(debug.SetGCPercent(5)) // what is in use, not what has not been swept yet
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := make(chan uint64)
	done := make(chan bool)
	go func() {
		most := uint64(0)
		for {
			select {
			case <-done:
				peak <- most
				return
			default:
				runtime.GC() // on a busy machine the collector comes late: what is garbage is in nobody's use
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
				time.Sleep(time.Millisecond)
			}
		}
	}()
	_, err := s.Fetch(t.Context(), q)
	close(done)
	extra := (int64(<-peak) - int64(before.HeapAlloc)) >> 20
	if extra > 64 {
		t.Errorf("%d MiB more in use", extra)
	}
	t.Logf("%d MiB more in use at the most, %v", extra, err)
}
