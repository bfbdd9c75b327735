package main

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// What is compared must be what the design says: so many resources, so many bytes, and all of it as a custodian would send it.
func TestRecords(t *testing.T) {
	want := map[string]int{"small": 40_000, "typical": 250_000, "large": 2_500_000}
	reference := regexp.MustCompile(`"reference":"([A-Za-z]+/[^"]+)"`)
	tenDigits := regexp.MustCompile(`[0-9]{10}`)
	for _, z := range sizes {
		for _, c := range custodianKeys {
			text := bundleOf(people[1], c, z)
			if !bytes.Equal(text, bundleOf(people[1], c, z)) {
				t.Fatalf("%s at %s differs from one time to the next", z.Name, c.Key)
			}
			if off := math.Abs(float64(len(text))/float64(want[z.Name]) - 1); off > 0.1 {
				t.Errorf("%s at %s has %d bytes, want about %d", z.Name, c.Key, len(text), want[z.Name])
			}
			var b struct {
				Entry []struct {
					Resource struct{ ResourceType, ID string }
				}
			}
			if err := json.Unmarshal(text, &b); err != nil || len(b.Entry) != z.Resources {
				t.Fatalf("%s at %s holds %d resources, want %d (%v)", z.Name, c.Key, len(b.Entry), z.Resources, err)
			}
			known := map[string]bool{}
			for _, e := range b.Entry {
				name := e.Resource.ResourceType + "/" + e.Resource.ID
				if known[name] || tenDigits.MatchString(e.Resource.ID) {
					t.Errorf("%s at %s: an id comes twice or may be taken for an NHS number", z.Name, c.Key)
				}
				known[name] = true
			}
			refs := reference.FindAllSubmatch(text, -1)
			for _, m := range refs {
				if !known[string(m[1])] {
					t.Fatalf("%s at %s: a reference leads nowhere", z.Name, c.Key)
				}
			}
			if len(refs) < z.Resources || bytes.Count(text, []byte(`"value":`)) < z.Resources/3 || bytes.Count(text, []byte(`<div xmlns`)) != z.Resources-1 {
				t.Errorf("%s at %s has %d references, too few values or too little narrative", z.Name, c.Key, len(refs))
			}
		}
	}
}

func TestQuantile(t *testing.T) {
	list := []int{5, 1, 4, 2, 3, 6, 7, 8, 9, 10}
	for q, want := range map[float64]int{0: 1, 0.5: 6, 0.99: 10, 1: 10} {
		if got := quantile(list, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if quantile([]int(nil), 0.5) != 0 {
		t.Error("nothing has a median")
	}
}

// against returns a candidate that h plays.
func against(t *testing.T, h http.HandlerFunc) *candidate {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	b := &bench{client: server.Client(), around: &surroundings{served: served{times: map[string]*[5]time.Duration{}}}, tokens: []string{"x"}}
	return &candidate{name: floor, b: b, rest: server.URL}
}

// A server that stops for a while keeps everybody waiting who would have asked meanwhile: an open load says so.
func TestOpenLoadCountsWhoWaits(t *testing.T) {
	var turn sync.Mutex
	var stop sync.Once
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		turn.Lock()
		defer turn.Unlock()
		stop.Do(func() { time.Sleep(300 * time.Millisecond) })
		_, _ = w.Write([]byte("x"))
	})
	l := summary(c.open(200, 300*time.Millisecond))
	if l.Requests < 30 || l.Total50 < 75 {
		t.Errorf("%d requests, half of them answered within %.1f ms though nothing was answered for 300 ms", l.Requests, l.Total50)
	}
}

func TestWholeAndAdded(t *testing.T) {
	body, status := strings.Repeat("0123456789", 100), http.StatusOK
	var c *candidate
	c = against(t, func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-ID")
		c.b.around.served.add(id, 1, time.Hour)
		c.b.around.served.add(id, 4, 40*time.Minute)
		c.b.around.served.add(id, 4, 40*time.Minute)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	c.length = 1000
	a := c.ask(0, time.Now().Add(-90*time.Minute))
	if !a.whole || a.slowest != 80*time.Minute || a.added() < 10*time.Minute || a.added() > 11*time.Minute || a.after != 7*time.Second {
		t.Errorf("got %+v", a)
	}
	body = strings.Repeat("0123456789", 79)
	if c.ask(0, time.Now()).whole {
		t.Error("an answer without its end counts as whole")
	}
	body, status = strings.Repeat("0123456789", 100), http.StatusServiceUnavailable
	if c.ask(0, time.Now()).whole {
		t.Error("a refusal counts as whole")
	}
	if len(c.b.around.served.times) != 0 {
		t.Error("what custodians took is kept for ever")
	}
}

// Request ids go through every candidate unchanged: different ones, UUIDs, nothing like an NHS number in them.
func TestRequestIDs(t *testing.T) {
	b := &bench{}
	seen := map[string]bool{}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$`)
	for range 50_000 {
		id := b.id()
		if seen[id] || !form.MatchString(id) {
			t.Fatalf("%s is no new UUID", id)
		}
		seen[id] = true
	}
}

func TestLaws(t *testing.T) {
	var list []time.Duration
	l := lognormal(30 * time.Millisecond)
	for range 20_000 {
		list = append(list, l())
	}
	if m := median(list); m < 28*time.Millisecond || m > 32*time.Millisecond {
		t.Errorf("the median is %v", m)
	}
	if q := quantile(list, 0.99); q < 85*time.Millisecond || q > 108*time.Millisecond {
		t.Errorf("the 99th percentile is %v", q)
	}
}
