package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// plan says how long each part takes. The whole run is bounded by it.
type plan struct {
	Rounds   int           // of each candidate, in turn, so that what else the machine does meets all of them alike
	Slow     int           // rounds at the large size for candidates that decode everything
	Slice    time.Duration // of one candidate's work in one round
	Idle     time.Duration // one request at a time, in one round
	Load     time.Duration // open load
	Hung     time.Duration // after the time that a custodian may take
	AtOnce   int           // large requests
	SlowOnce int           // the same for candidates that take hundreds of milliseconds over each
	Most     time.Duration // the whole run: what has not begun by then is left out

	Crowd time.Duration // how long refused large requests are tried again

	candidates, parts string // unless asked for otherwise
	crowds            string // candidates that are asked for many large records at once
}

var (
	wholePlan = plan{Rounds: 5, Slow: 3, Slice: 600 * time.Millisecond, Idle: 400 * time.Millisecond, Load: 3 * time.Second, Hung: 3 * time.Second, AtOnce: 200, SlowOnce: 5,
		Most: 210 * time.Second, Crowd: 30 * time.Second, crowds: "floor,broker,easy,lura", candidates: "floor,floor2,broker,unsynced,easy,lura", parts: "idle,load,lognormal,hung,crowd"}
	shortPlan = plan{Rounds: 2, Slow: 1, Slice: 300 * time.Millisecond, Idle: 250 * time.Millisecond, Load: time.Second, Hung: time.Second, AtOnce: 200, SlowOnce: 2,
		Most: 45 * time.Second, Crowd: 12 * time.Second, crowds: "broker", candidates: "floor,broker,lura", parts: "idle,load,lognormal,crowd"}
)

// custodianTime is how long a custodian may take, by the broker's default and in the baselines.
const custodianTime = 3 * time.Second

// fixedTime and lognormalTime are what custodians take where latency is measured.
const (
	fixedTime     = 10 * time.Millisecond
	lognormalTime = 30 * time.Millisecond
)

// work is what the comparison of work gives for one candidate and size.
type work struct {
	CPU        float64 `json:"cpuMillisecondsPerRequest"` // median of the rounds
	Ratio      float64 `json:"cpuToFloor"`                // median of the rounds' ratios
	PerCore    float64 `json:"requestsPerSecondAndCore"`  // 1 / CPU
	Throughput float64 `json:"requestsPerSecond"`         // seen, callers and custodians on the same machine
	Objects    float64 `json:"allocationsPerRequest"`
	Bytes      float64 `json:"allocatedBytesPerRequest"`
	OurSide    float64 `json:"callersAndCustodiansCPUMillisecondsPerRequest"` // of this process
	Requests   int     `json:"requests"`
	Broken     int     `json:"notWhole"`
}

// callers is how many callers ask at once while work is measured.
const callers = 4

// work measures what a request costs, round by round, each candidate after the other.
func (p plan) work(list []*candidate, z size, say func(string, ...any)) (map[string]work, error) {
	cpu, ratio, throughput := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	objects, size, ourSide := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	out := map[string]work{}
	for round := range p.Rounds {
		say("work, round %d of %d", round+1, p.Rounds)
		for _, c := range list {
			if z.Name == "large" && c.slow() && round >= p.Slow {
				continue
			}
			w := out[c.name]
			o1, b1, err := c.allocated()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			o2, b2, err := c.allocated() // what a look costs
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			before, err := cpuTime(c.cmd.Process.Pid)
			if err != nil {
				return nil, err
			}
			usBefore, err := cpuTime(os.Getpid())
			if err != nil {
				return nil, err
			}
			begun := time.Now()
			answers := c.closed(callers, p.Slice, callers)
			took := time.Since(begun)
			after, err := cpuTime(c.cmd.Process.Pid)
			if err != nil {
				return nil, err
			}
			usAfter, err := cpuTime(os.Getpid())
			if err != nil {
				return nil, err
			}
			o3, b3, err := c.allocated()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			n := float64(len(answers))
			cpu[c.name] = append(cpu[c.name], (after-before).Seconds()*1000/n)
			ourSide[c.name] = append(ourSide[c.name], (usAfter-usBefore).Seconds()*1000/n)
			throughput[c.name] = append(throughput[c.name], n/took.Seconds())
			objects[c.name] = append(objects[c.name], (o3-o2-(o2-o1))/n)
			size[c.name] = append(size[c.name], (b3-b2-(b2-b1))/n)
			w.Requests += len(answers)
			w.Broken += broken(answers)
			out[c.name] = w
		}
		for _, c := range list {
			if base := cpu[floor]; len(cpu[c.name]) > round && len(base) > round {
				ratio[c.name] = append(ratio[c.name], cpu[c.name][round]/base[round])
			}
		}
	}
	for _, c := range list {
		w := out[c.name]
		w.CPU, w.Ratio, w.Throughput = median(cpu[c.name]), median(ratio[c.name]), median(throughput[c.name])
		w.Objects, w.Bytes, w.OurSide = median(objects[c.name]), median(size[c.name]), median(ourSide[c.name])
		if w.CPU > 0 {
			w.PerCore = 1000 / w.CPU
		}
		out[c.name] = w
	}
	return out, nil
}

func broken(list []answered) (n int) {
	for _, a := range list {
		if !a.whole {
			n++
		}
	}
	return n
}

// latency is what a candidate adds to the slowest custodian that answered, in milliseconds.
type latency struct {
	PerSecond float64 `json:"requestsPerSecond,omitempty"` // of the open load
	P50       float64 `json:"addedP50"`
	P99       float64 `json:"addedP99"`
	Total50   float64 `json:"totalP50"`
	Total99   float64 `json:"totalP99"`
	Requests  int     `json:"requests"`
	Broken    int     `json:"notWhole"`
}

func summary(list []answered) latency {
	var added, total []time.Duration
	for _, a := range list {
		added, total = append(added, a.added()), append(total, a.total)
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return latency{P50: ms(quantile(added, 0.5)), P99: ms(quantile(added, 0.99)), Total50: ms(quantile(total, 0.5)), Total99: ms(quantile(total, 0.99)),
		Requests: len(list), Broken: broken(list)}
}

// idle measures one request at a time.
func (p plan) idle(list []*candidate) map[string]latency {
	answers := map[string][]answered{}
	for range p.Rounds {
		for _, c := range list {
			answers[c.name] = append(answers[c.name], c.closed(1, p.Idle, 2)...)
		}
	}
	out := map[string]latency{}
	for name, a := range answers {
		out[name] = summary(a)
	}
	return out
}

// rate is 70 % of what the candidate managed, but no more than keeps callers and custodians at half a core: beyond that their own waiting would be
// measured.
func (w work) rate() float64 { return min(0.7*w.Throughput, 500/w.OurSide) }

// load measures an open load.
func (p plan) load(c *candidate, rate float64) latency {
	l := summary(c.open(rate, p.Load))
	l.PerSecond = rate
	return l
}

// hanging is what becomes of requests while one custodian hangs.
type hanging struct {
	First latency `json:"first"` // begun before that custodian's time was over once: nobody can know better
	Then  latency `json:"then"`  // begun afterwards
}

// hung lets the last custodian hang, for all candidates at once: they wait, and do not work.
func (p plan) hung(list []*candidate, around *surroundings) map[string]hanging {
	around.takeAt(len(custodianKeys)-1, fixed(hung))
	defer around.takeAt(len(custodianKeys)-1, nil)
	const rate = 10
	known := custodianTime + 500*time.Millisecond
	out := map[string]hanging{}
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	for _, c := range list {
		all.Go(func() {
			var first, then []answered
			for _, a := range c.open(rate, known+p.Hung) {
				if a.begun.Sub(begun) < known {
					first = append(first, a)
				} else {
					then = append(then, a)
				}
			}
			mu.Lock()
			out[c.name] = hanging{summary(first), summary(then)}
			mu.Unlock()
		})
	}
	all.Wait()
	return out
}

// crowd is what becomes of many large requests at once.
type crowd struct {
	Requests int     `json:"requests"`
	Bytes    int64   `json:"bytesOfAllAnswers"`
	Idle     int64   `json:"idleBytes"`  // in memory before
	Peak     int64   `json:"peakBytes"`  // the most the process ever had
	Later    int64   `json:"laterBytes"` // in memory 3 s after the last answer
	Whole    int     `json:"whole"`      // at the first attempt
	Retried  int     `json:"retried"`    // whole after one or more refusals with Retry-After
	InPart   int     `json:"inPart"`     // 200, and something is missing
	Lost     int     `json:"lost"`       // neither
	Refusals int     `json:"refusals"`
	Seconds  float64 `json:"seconds"`
}

// crowd asks for so many large records at once. Who is refused with Retry-After asks again when told to.
func (p plan) crowd(c *candidate, n int) (crowd, error) {
	before, _, err := memory(c.cmd.Process.Pid)
	if err != nil {
		return crowd{}, err
	}
	out := crowd{Requests: n, Idle: before, Bytes: c.length * int64(n)}
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	for i := range n {
		all.Go(func() {
			for attempt := 0; ; attempt++ {
				a := c.ask(uint64(i), time.Now()) //nolint:gosec // a few hundred
				again := !a.whole && a.after > 0 && time.Since(begun)+a.after < p.Crowd
				mu.Lock()
				switch {
				case again:
					out.Refusals++
				case a.whole && attempt == 0:
					out.Whole++
				case a.whole:
					out.Retried++
				case a.status == 200:
					out.InPart++
				default:
					out.Lost++
				}
				mu.Unlock()
				if !again {
					return
				}
				time.Sleep(a.after)
			}
		})
	}
	all.Wait()
	out.Seconds = time.Since(begun).Seconds()
	time.Sleep(3 * time.Second)
	later, peak, err := memory(c.cmd.Process.Pid)
	out.Later, out.Peak = later, max(before, peak)
	return out, err
}
