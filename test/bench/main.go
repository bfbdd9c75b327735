// Command bench compares the broker, as it is shipped, with what else could stand in its place (README.md says how, and how to read it).
//
//	go run ./test/bench                  everything, under 4 minutes
//	go run ./test/bench -short           floor, broker and lura at a coarser grain, under a minute
//	go run ./test/bench -candidates floor,broker -sizes typical -parts none -rounds 60     one thing for longer, to look at it
//
// Callers, custodians, the demographics service and the issuer's keys are this process; each candidate is a process beside it. All ratios come from
// one run in which the candidates take turns. Only loopback is used. Progress goes to standard error, the tables to standard output.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	short := flag.Bool("short", false, "a coarser grain: under a minute")
	names := flag.String("candidates", "", "which of floor, floor2, broker, unsynced, easy and lura, in order; ratios are to the first (default all; with -short floor, broker and lura)")
	sizeNames := flag.String("sizes", "small,typical,large", "which")
	parts := flag.String("parts", "", "which of idle, load, lognormal, hung and crowd, or none, beside the work (default all; with -short all but hung)")
	rounds := flag.Int("rounds", 0, "how many; 0: as planned")
	procs := flag.Int("procs", 1, "GOMAXPROCS of a candidate; 0: all cores. Large requests at once always have all cores")
	out := flag.String("json", "", "file for the figures")
	flag.Parse()
	r := runner{plan: wholePlan, begun: time.Now()}
	if *short {
		r.plan = shortPlan
	}
	if *names == "" {
		*names = r.plan.candidates
	}
	if *parts == "" {
		*parts = r.plan.parts
	}
	r.parts = strings.Split(*parts, ",")
	if *rounds > 0 {
		r.plan.Rounds = *rounds
	}
	r.report = report{Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()), Procs: *procs, Candidates: strings.Split(*names, ",")}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := r.run(ctx, strings.Split(*sizeNames, ","))
	if err == nil && *out != "" {
		var text []byte
		if text, err = json.MarshalIndent(r.report, "", "  "); err == nil {
			err = os.WriteFile(*out, append(text, '\n'), 0o644) //nolint:gosec // figures
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	r.report.write(os.Stdout)
}

// runner is one run.
type runner struct {
	plan   plan
	parts  []string
	begun  time.Time
	report report
	bench  *bench
}

func (r *runner) has(part string) bool { return slices.Contains(r.parts, part) }

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.1f s  %s\n", time.Since(r.begun).Seconds(), fmt.Sprintf(format, args...))
}

func (r *runner) run(ctx context.Context, sizeNames []string) (err error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // keys, ledgers and logs of this run
	shm := ""
	if slices.Contains(r.report.Candidates, unsynced) {
		if shm, err = os.MkdirTemp(inMemory, "bench-"); err != nil {
			r.report.Left = append(r.report.Left, unsynced+": there is no "+inMemory+" here")
			r.report.Candidates = slices.DeleteFunc(r.report.Candidates, func(n string) bool { return n == unsynced })
		} else {
			defer func() { _ = os.RemoveAll(shm) }() // of this run
		}
	}
	jwks, tokens, err := newTokens()
	if err != nil {
		return err
	}
	around, err := startSurroundings(jwks)
	if err != nil {
		return err
	}
	defer around.stop()
	transport := &http.Transport{DisableCompression: true, MaxIdleConns: 4096, MaxIdleConnsPerHost: 1024, IdleConnTimeout: time.Minute, ReadBufferSize: 64 << 10}
	defer transport.CloseIdleConnections()
	r.bench = &bench{dir: dir, shm: shm, around: around, tokens: tokens, client: &http.Client{Transport: transport}}
	if err := r.buildAll(ctx); err != nil {
		return err
	}
	around.hold(sizes[0])
	var list []*candidate
	defer func() {
		for _, c := range list {
			c.stop()
		}
	}()
	for _, name := range r.report.Candidates {
		c, err := r.bench.start(name, r.report.Procs)
		if err != nil {
			return err
		}
		list = append(list, c)
		r.say("%s runs as process %d", name, c.cmd.Process.Pid)
	}
	for _, z := range sizes {
		if !slices.Contains(sizeNames, z.Name) {
			continue
		}
		if err := r.size(ctx, z, list); err != nil {
			return err
		}
	}
	if slices.Contains(sizeNames, "typical") && r.time(ctx, "hung", "one custodian hangs") {
		r.say("one custodian hangs") // last: breakers stay open for a while
		around.hold(sizes[1])
		r.report.Hung = r.plan.hung(slices.DeleteFunc(slices.Clone(list), func(c *candidate) bool { return c.name == easy || c.name == floor2 || c.name == unsynced }), around)
	}
	for _, c := range list {
		c.stop()
	}
	list = nil
	if slices.Contains(sizeNames, "large") {
		if err := r.crowds(ctx); err != nil {
			return err
		}
	}
	r.report.judge()
	r.report.Seconds = time.Since(r.begun).Seconds()
	return ctx.Err()
}

// buildAll builds what is asked for. Lura is a module of its own, which may have to be downloaded; without it the rest is still worth having.
func (r *runner) buildAll(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mycarerecord/mycarerecord").Output()
	if err != nil {
		return fmt.Errorf("go list: run it inside the module: %w", err)
	}
	top := strings.TrimSpace(string(out))
	r.say("building")
	if err := r.bench.build(ctx, top, "./cmd/broker", "broker"); err != nil {
		return err
	}
	if err := r.bench.build(ctx, top, "./test/bench/baseline", "baseline"); err != nil {
		return err
	}
	if slices.Contains(r.report.Candidates, lura) {
		building, cancel := context.WithTimeout(ctx, 3*time.Minute)
		defer cancel()
		if err := r.bench.build(building, filepath.Join(top, "test", "bench", "rivals"), ".", "lura"); err != nil {
			r.report.Left = append(r.report.Left, fmt.Sprintf("lura: test/bench/rivals does not build here: %v", err))
			r.report.Candidates = slices.DeleteFunc(r.report.Candidates, func(n string) bool { return n == lura })
		}
	}
	return nil
}

// timely leaves out, but for the typical size, the candidates that decode everything: their latency says nothing there that their work does not.
func timely(list []*candidate, z size) (out []*candidate) {
	for _, c := range list {
		if z.Name == "typical" || !c.slow() {
			out = append(out, c)
		}
	}
	return out
}

// time reports whether a part is asked for and the run still has time for it; if not, the report says so.
func (r *runner) time(ctx context.Context, part, what string) bool {
	if !r.has(part) || ctx.Err() != nil {
		return false
	}
	if time.Since(r.begun) > r.plan.Most {
		r.report.Left = append(r.report.Left, what+": the run has taken its time")
		return false
	}
	return true
}

func (r *runner) size(ctx context.Context, z size, list []*candidate) error {
	around := r.bench.around
	s := sizeReport{size: z, Bytes: around.hold(z), Load: map[string]latency{}}
	around.take(nil)
	r.say("%s: %d kB", z.Name, s.Bytes/1000)
	for _, c := range list {
		if err := c.check(z); err != nil {
			return err
		}
		c.closed(2, 200*time.Millisecond, 2) // connections, heaps
	}
	var err error
	if s.Work, err = r.plan.work(list, z, r.say); err != nil {
		return err
	}
	if r.time(ctx, "idle", z.Name+", idle") {
		r.say("latency, idle")
		around.take(fixed(fixedTime))
		s.Idle = r.plan.idle(timely(list, z))
	}
	for _, c := range timely(list, z) {
		if c.name != unsynced && r.time(ctx, "load", z.Name+" at 70 %, "+c.name) {
			r.say("latency at 70 %%: %s", c.name)
			around.take(fixed(fixedTime))
			s.Load[c.name] = r.plan.load(c, s.Work[c.name].rate())
		}
	}
	r.report.Sizes = append(r.report.Sizes, s)
	if z.Name != "typical" {
		return ctx.Err()
	}
	r.report.Lognormal = map[string]latency{}
	for _, c := range list {
		if r.time(ctx, "lognormal", "lognormal custodians, "+c.name) {
			r.say("lognormal custodians: %s", c.name)
			around.take(lognormal(lognormalTime))
			// Well below what it manages, and at most 100 a second: what custodians do shows, and not the crowd.
			r.report.Lognormal[c.name] = r.plan.load(c, min(100, s.Work[c.name].rate()/2))
		}
	}
	around.take(nil)
	return ctx.Err()
}

// crowds measures many large requests at once, each candidate in a fresh process with all cores.
func (r *runner) crowds(ctx context.Context) error {
	z := sizes[len(sizes)-1]
	r.bench.around.hold(z)
	r.bench.around.take(nil)
	r.report.Crowd = map[string]crowd{}
	for _, name := range r.report.Candidates {
		if !slices.Contains(strings.Split(r.plan.crowds, ","), name) || !r.time(ctx, "crowd", "large requests at once, "+name) {
			continue
		}
		c, err := r.bench.start(name, 0)
		if err != nil {
			return err
		}
		n := r.plan.AtOnce
		if c.slow() {
			n = r.plan.SlowOnce
		}
		r.say("%d large requests at once: %s", n, name)
		if err = c.check(z); err == nil {
			r.report.Crowd[name], err = r.plan.crowd(c, n)
		}
		c.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
