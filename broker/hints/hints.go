// Package hints is what replicas tell each other through Redis (L-7): that somebody's objections changed, that a signed statement was used, that a
// custodian's breaker opened. Nothing is decided by it and nothing is kept only there. What is heard makes a replica look into the ledger sooner, refuse a
// statement that was used elsewhere, or take a custodian's next failure more seriously; it can permit nothing.
//
// Who controls Redis can withhold hints, which costs the head start that they give. They cannot make any: every value carries a MAC, is bound to what it is
// about and to its time. Keys are HMACs, so that nobody reads of whom they are. A hint heard twice makes a replica look twice.
//
// Nothing waits for Redis but a statement, and that for one short timeout in a second: while Redis is slow or gone it is left alone.
package hints

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/time/rate"

	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Config says where Redis is. Address and Key must be given.
type Config struct {
	Address  string // host:port
	User     string
	Password string
	TLS      *tls.Config   // nil: plain text
	Key      []byte        // 32 bytes, the same on every replica
	Timeout  time.Duration // of one command; 20 ms
}

// Bounds. What is beyond them is dropped and counted: it would have been a head start, no more.
const (
	queued    = 1024             // messages that wait to be sent
	fresh     = 30 * time.Second // how old a message may be
	perSecond = 2000             // messages that are looked at
	rest      = time.Second      // how long Redis is left alone after it failed
	suspicion = time.Minute      // longest time for which a breaker of another replica is believed to be open
	longestID = 10 * time.Minute // longest life of a statement that is remembered
)

// Hints sends and hears hints. It is safe for concurrent use.
type Hints struct {
	client  *redis.Client
	timeout time.Duration
	key     []byte
	channel string
	self    [16]byte // tells this process's messages from others'
	queue   chan []byte
	stop    context.CancelFunc
	ended   sync.WaitGroup
	resting atomic.Int64 // until when Redis is left alone, in nanoseconds since 1970
	limit   *rate.Limiter

	mu       sync.Mutex
	watching map[[32]byte]map[chan struct{}]bool
	suspects map[record.CustodianKey]time.Time

	sent, dropped, heard, refused atomic.Uint64
}

// Stats are counters since the start.
type Stats struct {
	Sent    uint64 // messages that Redis took
	Dropped uint64 // messages and questions that were given up: Redis is slow, gone, or there are too many
	Heard   uint64 // messages of other replicas
	Refused uint64 // values that no replica made, or that are too old
}

// silence keeps the driver's own texts, which hold addresses, out of the log.
type silence struct{}

// Printf says nothing.
func (silence) Printf(context.Context, string, ...any) {}

var silenced sync.Once

// Open begins to send and hear. It does not wait for Redis and never fails because of it.
func Open(c Config) (*Hints, error) {
	if c.Address == "" || len(c.Key) != 32 {
		return nil, errors.New("hints need the address of Redis and a key of 32 bytes")
	}
	if c.Timeout <= 0 {
		c.Timeout = 20 * time.Millisecond
	}
	silenced.Do(func() { redis.SetLogger(silence{}) })
	h := &Hints{timeout: c.Timeout, key: c.Key, queue: make(chan []byte, queued), limit: rate.NewLimiter(perSecond, perSecond),
		watching: map[[32]byte]map[chan struct{}]bool{}, suspects: map[record.CustodianKey]time.Time{}}
	_, _ = rand.Read(h.self[:]) // crypto/rand.Read never fails (Go 1.24)
	name := h.hash("channel", nil)
	h.channel = "mcr:" + hex.EncodeToString(name[:16])
	h.client = redis.NewClient(&redis.Options{Addr: c.Address, Username: c.User, Password: c.Password, TLSConfig: c.TLS, Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialTimeout: 10 * c.Timeout, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, PoolTimeout: c.Timeout, PoolSize: 4, ContextTimeoutEnabled: true,
		DialerRetries: 1, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.ended.Go(func() { h.send(ctx) })
	h.ended.Go(func() { h.listen(ctx) })
	return h, nil
}

// Close ends sending and hearing.
func (h *Hints) Close() {
	h.stop()
	_ = h.client.Close() // whatever waits on it ends
	h.ended.Wait()
}

// Stats returns counters. It does not wait.
func (h *Hints) Stats() Stats {
	return Stats{h.sent.Load(), h.dropped.Load(), h.heard.Load(), h.refused.Load()}
}

// hash is a keyed hash for one use.
func (h *Hints) hash(use string, value []byte) [32]byte {
	m := hmac.New(sha256.New, h.key)
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(use)))
	_, _ = m.Write(n[:]) // hash.Hash.Write never returns an error
	_, _ = m.Write([]byte(use))
	_, _ = m.Write(value)
	return [32]byte(m.Sum(nil))
}

// seal adds the MAC of a use and a value.
func (h *Hints) seal(use string, value []byte) []byte {
	mac := h.hash("mac "+use, value)
	return append(value, mac[:]...)
}

// open returns what was sealed for the use, and false for anything else.
func (h *Hints) open(use string, sealed []byte) ([]byte, bool) {
	if len(sealed) < 32 || len(sealed) > 256 {
		return nil, false
	}
	value, mac := sealed[:len(sealed)-32], sealed[len(sealed)-32:]
	want := h.hash("mac "+use, value)
	return value, hmac.Equal(mac, want[:])
}

func (h *Hints) isResting() bool { return time.Now().UnixNano() < h.resting.Load() }

func (h *Hints) rest() {
	h.dropped.Add(1)
	h.resting.Store(time.Now().Add(rest).UnixNano())
}

// Kinds of message. A message is kind, time, who sent it, and what it is about.
const (
	kindChanged byte = 1
	kindOpened  byte = 2
	useMessage       = "message"
	headLength       = 1 + 8 + 16
)

func (h *Hints) tell(kind byte, about []byte) {
	m := make([]byte, 0, headLength+len(about)+32)
	m = append(m, kind)
	m = binary.BigEndian.AppendUint64(m, uint64(time.Now().UnixMilli()))
	m = append(append(m, h.self[:]...), about...)
	select {
	case h.queue <- h.seal(useMessage, m):
	default:
		h.dropped.Add(1)
	}
}

func (h *Hints) person(n record.NHSNumber) [32]byte { return h.hash("person", []byte(n.Reveal())) }

// Changed tells every replica, this one at once, that somebody's objections changed. It does not wait.
func (h *Hints) Changed(numbers []record.NHSNumber) {
	for _, n := range numbers {
		p := h.person(n)
		h.wake(p)
		h.tell(kindChanged, p[:])
	}
}

// Watch returns a channel that receives when the objections of a person may have changed, until end is called.
func (h *Hints) Watch(numbers []record.NHSNumber) (changed <-chan struct{}, end func()) {
	c := make(chan struct{}, 1)
	persons := make([][32]byte, len(numbers))
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, n := range numbers {
		persons[i] = h.person(n)
		if h.watching[persons[i]] == nil {
			h.watching[persons[i]] = map[chan struct{}]bool{}
		}
		h.watching[persons[i]][c] = true
	}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, p := range persons {
			delete(h.watching[p], c)
			if len(h.watching[p]) == 0 {
				delete(h.watching, p)
			}
		}
	}
}

func (h *Hints) wake(person [32]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.watching[person] {
		select {
		case c <- struct{}{}:
		default: // it has been told
		}
	}
}

// Opened tells other replicas that the breaker of a custodian opened here, and until when. It does not wait.
func (h *Hints) Opened(custodian record.CustodianKey, until time.Time) {
	h.tell(kindOpened, append(binary.BigEndian.AppendUint64(nil, uint64(until.UnixMilli())), custodian...))
}

// Suspected reports whether another replica's breaker of the custodian is open, as far as is known.
func (h *Hints) Suspected(custodian record.CustodianKey) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.suspects[custodian])
}

// hear takes a message in. What is not a replica's own, or is old, is counted and forgotten.
func (h *Hints) hear(sealed string) {
	if !h.limit.Allow() {
		h.dropped.Add(1)
		return
	}
	m, ok := h.open(useMessage, []byte(sealed))
	if !ok || len(m) < headLength {
		h.refused.Add(1)
		return
	}
	if [16]byte(m[9:headLength]) == h.self {
		return
	}
	if age := time.Since(time.UnixMilli(int64(binary.BigEndian.Uint64(m[1:9])))); age > fresh || age < -fresh {
		h.refused.Add(1)
		return
	}
	about := m[headLength:]
	switch {
	case m[0] == kindChanged && len(about) == 32:
		h.heard.Add(1)
		h.wake([32]byte(about))
	case m[0] == kindOpened && len(about) > 8 && record.CustodianKey(about[8:]).Valid():
		h.heard.Add(1)
		until := time.UnixMilli(int64(binary.BigEndian.Uint64(about[:8])))
		if latest := time.Now().Add(suspicion); until.After(latest) {
			until = latest
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for k, t := range h.suspects {
			if time.Now().After(t) {
				delete(h.suspects, k)
			}
		}
		h.suspects[record.CustodianKey(about[8:])] = until
	default: // of a newer program
	}
}

// send publishes what is queued.
func (h *Hints) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-h.queue:
			if h.isResting() {
				h.dropped.Add(1)
				continue
			}
			limited, cancel := context.WithTimeout(ctx, h.timeout)
			err := h.client.Publish(limited, h.channel, m).Err()
			cancel()
			if err != nil {
				h.rest()
				continue
			}
			h.sent.Add(1)
		}
	}
}

// listen hears what is published, over a connection that is made anew whenever it was lost or says nothing.
func (h *Hints) listen(ctx context.Context) {
	for ctx.Err() == nil {
		h.listenOnce(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(rest / 4):
		}
	}
}

func (h *Hints) listenOnce(ctx context.Context) {
	channel := h.client.Subscribe(ctx, h.channel)
	defer func() { _ = channel.Close() }() // it is given up
	silent := 0
	for {
		m, err := channel.ReceiveTimeout(ctx, 2*time.Second)
		switch m := m.(type) {
		case *redis.Message:
			h.hear(m.Payload)
		}
		if err == nil {
			silent = 0
			continue
		}
		// It may have nothing to say: then it answers a ping.
		if silent++; silent > 1 || channel.Ping(ctx) != nil {
			return
		}
	}
}

// Used reports whether another replica has taken a statement of this id, and tells the others that this one has. It waits for Redis at most for the
// timeout, and says no where Redis says nothing, or nothing that a replica wrote.
func (h *Hints) Used(id string, until time.Time) bool {
	ttl := min(time.Until(until), longestID)
	if ttl <= 0 || h.isResting() {
		return false
	}
	name := h.hash("statement", []byte(id))
	use, key := "statement "+string(name[:]), "mcr:"+hex.EncodeToString(name[:])
	value := binary.BigEndian.AppendUint64(h.self[:len(h.self):len(h.self)], uint64(until.UnixMilli()))
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	defer cancel()
	was, err := h.client.SetArgs(ctx, key, h.seal(use, value), redis.SetArgs{Mode: "NX", TTL: max(ttl, time.Millisecond), Get: true}).Result()
	if errors.Is(err, redis.Nil) { // there was none
		return false
	}
	if err != nil {
		h.rest()
		return false
	}
	said, ok := h.open(use, []byte(was))
	if !ok || len(said) != 16+8 {
		h.refused.Add(1)
		return false
	}
	return [16]byte(said[:16]) != h.self && time.Now().Before(time.UnixMilli(int64(binary.BigEndian.Uint64(said[16:]))))
}
