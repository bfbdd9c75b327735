package authn

import (
	"container/list"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Limits says how often one caller may ask. A zero field means the default.
type Limits struct {
	PerSecond float64 // calls a second in the long run; 10
	Burst     int     // calls at once; 40
	Callers   int     // callers remembered; 10,000
}

// Limiter is a token bucket per caller: issuer and user, so that an engine's people do not use up each other's. It lives in the process and
// is safe for concurrent use. Of callers beyond the table's size the one that asked longest ago is forgotten, which gives it a full
// bucket again: the table is a bound on memory, and each of its callers has a token of a trusted issuer.
type Limiter struct {
	cfg Limits

	mu      sync.Mutex
	buckets map[limitKey]*list.Element
	order   *list.List // of *bucket, the one used last at the front
}

type limitKey struct{ issuer, user string }

type bucket struct {
	key   limitKey
	limit *rate.Limiter
}

// NewLimiter returns one with full buckets.
func NewLimiter(cfg Limits) *Limiter {
	if cfg.PerSecond <= 0 {
		cfg.PerSecond = 10
	}
	if cfg.Burst <= 0 {
		cfg.Burst = 40
	}
	if cfg.Callers <= 0 {
		cfg.Callers = 10_000
	}
	return &Limiter{cfg: cfg, buckets: map[limitKey]*list.Element{}, order: list.New()}
}

// Allow takes one call from the caller's bucket. If there is none, after says how long to wait: at least a second, in whole seconds.
// It does not wait itself.
func (l *Limiter) Allow(r record.Requester) (ok bool, after time.Duration) {
	return l.allow(r, time.Now())
}

func (l *Limiter) allow(r record.Requester, now time.Time) (ok bool, after time.Duration) {
	key := limitKey{r.Issuer, r.User}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.buckets[key]
	if e == nil {
		if l.order.Len() >= l.cfg.Callers {
			last := l.order.Back()
			delete(l.buckets, l.order.Remove(last).(*bucket).key)
		}
		e = l.order.PushFront(&bucket{key, rate.NewLimiter(rate.Limit(l.cfg.PerSecond), l.cfg.Burst)})
		l.buckets[key] = e
	}
	l.order.MoveToFront(e)
	limit := e.Value.(*bucket).limit
	if limit.AllowN(now, 1) {
		return true, 0
	}
	missing := 1 - limit.TokensAt(now)
	return false, time.Duration(math.Ceil(max(missing/l.cfg.PerSecond, 1))) * time.Second
}
