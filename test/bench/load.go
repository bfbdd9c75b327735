package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// answerTime is how long a caller waits for an answer.
const answerTime = 20 * time.Second

// answered is what became of one request.
type answered struct {
	begun   time.Time     // when it was meant to begin
	total   time.Duration // from then to the last byte
	slowest time.Duration // what the slowest custodian took that answered
	whole   bool          // 200, and as long as an answer that was checked
	status  int           // 0: none
	after   time.Duration // Retry-After of a refusal
}

// slack is by how many bytes one answer may be shorter than another: what the broker says of itself, times and positions in the ledger, differs by a few from answer
// to answer. The smallest resource is longer.
const slack = 200

// added is what the candidate added to the slowest custodian that it waited for.
func (a answered) added() time.Duration { return a.total - a.slowest }

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// ask makes one request and reads the answer to its end. begun is when it was meant to begin: a request that had to wait for its turn has
// taken that time too (no coordinated omission).
func (c *candidate) ask(n uint64, begun time.Time) answered {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	id := c.b.id()
	c.b.around.served.begin(id)
	a := answered{begun: begun}
	length := int64(0)
	req, err := c.request(ctx, n, id)
	if err == nil {
		var res *http.Response
		if res, err = c.b.client.Do(req); err == nil {
			a.status = res.StatusCode
			if s, e := strconv.Atoi(res.Header.Get("Retry-After")); e == nil {
				a.after = time.Duration(s) * time.Second
			}
			buffer := buffers.Get().(*[]byte)
			for err == nil {
				var k int
				k, err = res.Body.Read(*buffer)
				length += int64(k)
			}
			buffers.Put(buffer)
			_ = res.Body.Close() // read to its end, or given up
		}
	}
	a.total = time.Since(begun)
	a.slowest = c.b.around.served.end(id)
	a.whole = errors.Is(err, io.EOF) && a.status == http.StatusOK && length >= c.length-slack
	return a
}

// closed runs so many callers, each asking again as soon as it was answered, until the time is over and at least so many answers have come.
func (c *candidate) closed(callers int, d time.Duration, least int64) []answered {
	var mu sync.Mutex
	var list []answered
	var all sync.WaitGroup
	var n atomic.Int64
	end := time.Now().Add(d)
	for range callers {
		all.Go(func() {
			for {
				if k := n.Add(1); k > least && time.Now().After(end) {
					return
				}
				a := c.ask(c.b.next.Load(), time.Now())
				mu.Lock()
				list = append(list, a)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return list
}

// maxWaiting bounds how many requests of an open load may be under way. One that finds no room waits, and that time is its own.
const maxWaiting = 1000

// open makes requests at a rate, at random intervals, whatever becomes of them.
func (c *candidate) open(perSecond float64, d time.Duration) []answered {
	var mu sync.Mutex
	var list []answered
	var all sync.WaitGroup
	room := make(chan struct{}, maxWaiting)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same intervals for each candidate
	begun := time.Now()
	for at := begun; at.Sub(begun) < d; at = at.Add(time.Duration(random.ExpFloat64() / perSecond * float64(time.Second))) {
		time.Sleep(time.Until(at))
		room <- struct{}{}
		all.Go(func() {
			a := c.ask(c.b.next.Load(), at)
			<-room
			mu.Lock()
			list = append(list, a)
			mu.Unlock()
		})
	}
	all.Wait()
	return list
}

// quantile returns the q-quantile of list, 0 if it is empty. It sorts list.
func quantile[T int | int64 | float64 | time.Duration](list []T, q float64) T {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(q*float64(len(list))))]
}

func median[T int | int64 | float64 | time.Duration](list []T) T { return quantile(list, 0.5) }
