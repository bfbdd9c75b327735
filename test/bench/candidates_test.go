//go:build linux && !race

package main

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// The real candidates, but lura, answer about everybody with all that there is, and can be measured. It keeps the comparison from rotting.
func TestCandidates(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the broker and its rivals")
	}
	jwks, tokens, err := newTokens()
	if err != nil {
		t.Fatal(err)
	}
	around, err := startSurroundings(jwks)
	if err != nil {
		t.Fatal(err)
	}
	defer around.stop()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	r := runner{begun: time.Now(), bench: &bench{dir: t.TempDir(), around: around, tokens: tokens, client: client},
		report: report{Candidates: []string{floor, floor2, ours, easy}}}
	if err := r.buildAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	around.hold(sizes[0])
	around.take(fixed(time.Millisecond))
	var list []*candidate
	for _, name := range r.report.Candidates {
		c, err := r.bench.start(name, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer c.stop()
		if err := c.check(sizes[0]); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	p := plan{Rounds: 1, Slice: 50 * time.Millisecond, Idle: 50 * time.Millisecond, Crowd: time.Second}
	w, err := p.work(list, sizes[0], func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	idle := p.idle(list)
	for _, c := range list {
		x, l := w[c.name], idle[c.name]
		if x.CPU <= 0 || x.Objects <= 0 || x.Ratio <= 0 || x.Broken != 0 || l.Broken != 0 || l.Total50 < 1 || l.P50 <= 0 || l.P50 > l.Total50-1 {
			t.Errorf("%s: %s", c.name, fmt.Sprintf("%+v %+v", x, l))
		}
	}
	if k := w[floor2].Objects / w[floor].Objects; k < 1.2 {
		t.Errorf("twice as many calls cost %s times the allocations", strconv.FormatFloat(k, 'f', 2, 64))
	}
	crowd, err := p.crowd(list[2], 3)
	if err != nil || crowd.Whole != 3 || crowd.Idle <= 0 || crowd.Later <= 0 || crowd.Peak < crowd.Bytes {
		t.Errorf("%+v, %v", crowd, err)
	}
}
