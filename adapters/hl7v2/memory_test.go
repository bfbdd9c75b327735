//go:build !race

package hl7v2_test

// The race detector takes memory of its own: this is measured without it.

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
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
		"visits":         block(good + strings.Repeat("PV1|||A\r"+strings.Repeat("ZZZ\r", 60_000), 100)),
		"people":         block(good + strings.Repeat("PID|||{NHS}^^^NHS^NH\r"+strings.Repeat("ZZZ\r", 60_000), 100)),
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
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	before := inUse()
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
				most = max(most, inUse())
				time.Sleep(time.Millisecond)
			}
		}
	}()
	_, err := s.Fetch(t.Context(), q)
	close(done)
	extra := (int64(<-peak) - int64(before)) >> 20
	if extra > 64 {
		t.Errorf("%d MiB more in use", extra)
	}
	t.Logf("%d MiB more in use at the most, %v", extra, err)
}

// inUse is what the collector finds in use when it looks. What has been let go of since is in nobody's use, and on a busy machine there may be much of it before anybody can read a number.
func inUse() uint64 {
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}
