package main

import (
	"fmt"
	"io"
	"strings"
)

// report is one run.
type report struct {
	Machine    string             `json:"machine"`
	Procs      int                `json:"gomaxprocsOfCandidates"`
	Candidates []string           `json:"candidates"`
	Left       []string           `json:"leftOut,omitempty"` // and why
	Sizes      []sizeReport       `json:"sizes"`
	Lognormal  map[string]latency `json:"lognormal30ms,omitempty"` // typical size
	Hung       map[string]hanging `json:"oneHung,omitempty"`       // typical size
	Crowd      map[string]crowd   `json:"largeAtOnce,omitempty"`
	Targets    []target           `json:"targets"`
	Seconds    float64            `json:"seconds"`
}

type sizeReport struct {
	size
	Bytes int                `json:"bytesOfAllCustodians"`
	Work  map[string]work    `json:"work"`
	Idle  map[string]latency `json:"idle,omitempty"`
	Load  map[string]latency `json:"at70Percent,omitempty"`
}

// target is one of the figures that the broker is held to.
type target struct {
	What string  `json:"what"`
	Most float64 `json:"most"`
	Got  float64 `json:"got"`
	Met  bool    `json:"met"`
}

func (r *report) most(what string, got, most float64) {
	r.Targets = append(r.Targets, target{what, most, got, got <= most})
}

// admission is the broker's default budget for bytes in flight (maxInFlightBytes).
const admission = 1 << 30

// judge holds the figures against what the broker must show.
func (r *report) judge() {
	r.Targets = []target{}
	cpu := map[string]float64{"small": 6, "typical": 6, "large": 5}
	for _, z := range r.Sizes {
		w, ok := z.Work[ours]
		if !ok {
			continue
		}
		if f, ok := z.Work[floor]; ok && f.CPU > 0 {
			r.most(z.Name+": CPU, times the floor's", w.Ratio, cpu[z.Name])
		}
		if z.Name != "small" {
			if x, ok := z.Work[lura]; ok {
				r.most(z.Name+": CPU, of lura's", w.CPU/x.CPU, 0.1)
			}
			if x, ok := z.Work[easy]; ok {
				r.most(z.Name+": CPU, of the easy version's", w.CPU/x.CPU, 1.0/15)
			}
		}
		if z.Name == "small" {
			r.most("small: allocations per request", w.Objects, 1500)
		}
		if i, ok := z.Idle[ours]; ok {
			if f, ok := z.Idle[floor]; ok && f.P50 > 0 {
				r.most(z.Name+": added latency p50, idle, times the floor's", i.P50/f.P50, 8)
			}
			r.most(z.Name+": added latency p99, idle, times its own p50", i.P99/i.P50, 3)
		}
	}
	if n := len(r.Sizes); n > 1 {
		a, b := r.Sizes[0], r.Sizes[n-1]
		if x, ok := a.Work[ours]; ok && b.Resources > a.Resources {
			r.most("allocations per further resource", (b.Work[ours].Objects-x.Objects)/float64((b.Resources-a.Resources)*len(custodianKeys)), 2)
		}
	}
	if l, ok := r.Lognormal[ours]; ok {
		r.most("typical, custodians lognormal 30 ms: added p50 in ms", l.P50, 5)
	}
	broken := r.Lognormal[ours].Broken
	for _, z := range r.Sizes {
		broken += z.Work[ours].Broken + z.Idle[ours].Broken + z.Load[ours].Broken
	}
	r.most("answers that were not whole, large at once aside", float64(broken), 0)
	if c, ok := r.Crowd[ours]; ok {
		r.most(fmt.Sprintf("%d large at once: peak memory in MiB", c.Requests), mib(c.Peak), mib(admission)+256)
		r.most(fmt.Sprintf("%d large at once: not answered whole in the end", c.Requests), float64(c.InPart+c.Lost), 0)
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// write writes the tables.
func (r *report) write(w io.Writer) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	say("\n%s; candidates run with GOMAXPROCS=%d; %d custodians\n", r.Machine, r.Procs, len(custodianKeys))
	for _, l := range r.Left {
		say("left out: %s\n", l)
	}
	for _, z := range r.Sizes {
		say("\n%s: %d resources at each custodian, %d kB in all\n", z.Name, z.Resources, z.Bytes/1000)
		say("  %-8s %9s %8s %9s %8s %9s %9s | added latency ms, idle %s at 70 %%\n", "", "CPU ms", "x floor", "req/s/core", "req/s", "allocs", "alloc kB", strings.Repeat(" ", 6))
		say("  %-8s %9s %8s %9s %8s %9s %9s | %9s %9s %11s %9s %9s\n", "", "", "", "", "", "", "", "p50", "p99", "at req/s", "p50", "p99")
		for _, name := range r.Candidates {
			x, ok := z.Work[name]
			if !ok {
				continue
			}
			say("  %-8s %9.3f %8.1f %9.0f %8.0f %9.0f %9.0f |", name, x.CPU, x.Ratio, x.PerCore, x.Throughput, x.Objects, x.Bytes/1000)
			if l, ok := z.Idle[name]; ok {
				say(" %9.2f %9.2f", l.P50, l.P99)
			}
			if l, ok := z.Load[name]; ok {
				say(" %11.0f %9.2f %9.2f", l.PerSecond, l.P50, l.P99)
			}
			if n := x.Broken + z.Idle[name].Broken + z.Load[name].Broken; n > 0 {
				say("  %d NOT WHOLE", n)
			}
			say("\n")
		}
	}
	for _, z := range r.Sizes {
		if with, without := z.Idle[ours].P50, z.Idle[unsynced].P50; without > 0 {
			say("\n%s: of the broker's added latency, idle, its disk takes %.2f ms, two syncs of the ledger; without them p50 %.2f ms", z.Name, with-without, without)
			if f := z.Idle[floor].P50; f > 0 {
				say(", %.1f times the floor's", without/f)
			}
			say("\n")
		}
	}
	if len(r.Lognormal) > 0 {
		say("\ntypical, each call to a custodian lognormal with a median of 30 ms: added latency (and whole latency), ms\n")
		for _, name := range r.Candidates {
			if l, ok := r.Lognormal[name]; ok {
				say("  %-8s %7.0f req/s   p50 %8.2f (%.1f)   p99 %8.2f (%.1f)   of %d, not whole %d\n", name, l.PerSecond, l.P50, l.Total50, l.P99, l.Total99, l.Requests, l.Broken)
			}
		}
	}
	if len(r.Hung) > 0 {
		say("\ntypical, one custodian hangs, 10 req/s: whole latency, ms\n")
		for _, name := range r.Candidates {
			if h, ok := r.Hung[name]; ok {
				say("  %-8s at first p50 %8.1f p99 %8.1f   then p50 %8.1f p99 %8.1f\n", name, h.First.Total50, h.First.Total99, h.Then.Total50, h.Then.Total99)
			}
		}
	}
	if len(r.Crowd) > 0 {
		say("\nlarge requests at once\n")
		for _, name := range r.Candidates {
			if c, ok := r.Crowd[name]; ok {
				say("  %-8s %4d of %.1f MB: peak %.0f MiB (idle %.0f, 3 s later %.0f); whole %d, after refusals %d (%d refusals), in part %d, lost %d; %.1f s\n", name, c.Requests,
					float64(c.Bytes)/float64(c.Requests)/1e6, mib(c.Peak), mib(c.Idle), mib(c.Later), c.Whole, c.Retried, c.Refusals, c.InPart, c.Lost, c.Seconds)
			}
		}
	}
	say("\nwhat the broker is held to\n")
	for _, t := range r.Targets {
		word := "missed"
		if t.Met {
			word = "met"
		}
		say("  %-62s at most %8.2f  got %8.2f  %s\n", t.What, t.Most, t.Got, word)
	}
	say("\n%.0f s\n", r.Seconds)
}
