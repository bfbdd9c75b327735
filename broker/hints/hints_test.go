package hints

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/services"
)

func number(t testing.TB) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber("9990000018")
	if err != nil {
		t.Fatal("a test number is not valid")
	}
	return n
}

func replica(t testing.TB, address string, key byte) *Hints {
	t.Helper()
	h, err := Open(Config{Address: address, Key: bytes.Repeat([]byte{key}, 32), Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// connected waits until two replicas hear each other.
func connected(t testing.TB, a, b *Hints) {
	t.Helper()
	n := number(t)
	for _, pair := range [][2]*Hints{{a, b}, {b, a}} {
		c, end := pair[1].Watch([]record.NHSNumber{n})
		eventually(t, "a replica hears another", func() bool {
			pair[0].Changed([]record.NHSNumber{n})
			select {
			case <-c:
				return true
			case <-time.After(50 * time.Millisecond):
				return false
			}
		})
		end()
	}
}

func TestReplicasHearEachOther(t *testing.T) {
	server := services.Redis(t)
	a, b := replica(t, server.Address(), 1), replica(t, server.Address(), 1)
	connected(t, a, b)
	// A statement is used once among all.
	until := time.Now().Add(time.Minute)
	if a.Used("engine\x00one", until) || a.Used("engine\x00two", until) {
		t.Error("a statement that nobody used was used")
	}
	if !b.Used("engine\x00one", until) {
		t.Error("a statement that another replica took can be used again")
	}
	if a.Used("engine\x00one", until) { // its own memory knows of its own
		t.Error("a replica took its own note for another's")
	}
	if b.Used("engine\x00three", time.Now().Add(-time.Second)) {
		t.Error("a statement that has expired was looked for")
	}
	// A breaker that opened on one is suspected on the other.
	if b.Suspected("gp") {
		t.Error("suspected before anything was said")
	}
	eventually(t, "suspicion", func() bool {
		a.Opened("gp", time.Now().Add(3*time.Second))
		time.Sleep(20 * time.Millisecond)
		return b.Suspected("gp")
	})
	if b.Suspected("acute") || a.Suspected("gp") {
		t.Error("another custodian, or one's own news, is suspected")
	}
	eventually(t, "the end of suspicion", func() bool { return !b.Suspected("gp") })
}

// Nobody without the key says anything: forged, altered, old, misplaced and nonsensical values are forgotten, and nothing in Redis names anybody.
func TestHostileRedis(t *testing.T) {
	server := services.Redis(t)
	a, b, stranger := replica(t, server.Address(), 1), replica(t, server.Address(), 1), replica(t, server.Address(), 2)
	connected(t, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	raw := redis.NewClient(&redis.Options{Addr: server.Address(), Protocol: 2})
	defer func() { _ = raw.Close() }()
	c, end := b.Watch([]record.NHSNumber{number(t)})
	defer end()
	for len(c) > 0 {
		<-c
	}
	p := b.person(number(t))
	old := append([]byte{kindChanged}, binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(-time.Minute).UnixMilli()))...)
	old = append(append(old, a.self[:]...), p[:]...)
	good := append([]byte{kindChanged}, binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))...)
	good = append(append(good, a.self[:]...), p[:]...)
	sealed := a.seal(useMessage, bytes.Clone(good))
	altered := bytes.Clone(sealed)
	altered[0] = kindOpened
	before := b.Stats()
	for _, m := range [][]byte{nil, []byte("hello"), bytes.Repeat([]byte{0}, 1<<20), good, a.seal(useMessage, old), stranger.seal(useMessage, bytes.Clone(good)), altered, sealed[:40], a.seal(useMessage, []byte{kindChanged})} {
		if err := raw.Publish(ctx, a.channel, m).Err(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "values are refused", func() bool { return b.Stats().Refused >= before.Refused+9 })
	if len(c) != 0 || b.Stats().Heard != before.Heard {
		t.Error("somebody without the key was heard")
	}
	// Values under the key of a statement: none of them makes it used.
	until := time.Now().Add(time.Minute)
	if a.Used("engine\x00other", until) {
		t.Fatal("used")
	}
	keys, err := raw.Keys(ctx, "*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys: %v", len(keys), err)
	}
	others, err := raw.Get(ctx, keys[0]).Result()
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range []any{"", "1", "used", strings.Repeat("x", 1<<20), others} { // the last one was made for another statement
		id := fmt.Sprintf("engine\x00%d", i)
		name := a.hash("statement", []byte(id))
		if err := raw.Set(ctx, "mcr:"+fmt.Sprintf("%x", name), value, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if b.Used(id, until) {
			t.Errorf("value %d: somebody without the key made a statement used", i)
		}
	}
	name := a.hash("statement", []byte("engine\x00list"))
	if err := raw.LPush(ctx, "mcr:"+fmt.Sprintf("%x", name), "x").Err(); err != nil {
		t.Fatal(err)
	}
	if b.Used("engine\x00list", until) {
		t.Error("a list made a statement used")
	}
	for _, k := range append(keys, a.channel, others, string(sealed)) {
		if strings.Contains(k, "9990000018") || strings.Contains(k, "engine") {
			t.Error("a name is in Redis")
		}
	}
}

// While Redis is stalled, gone or was never there, nothing waits for it but a moment in a second, and nothing is wrong; when it is back so are hints.
func TestRedisInTrouble(t *testing.T) {
	server := services.Redis(t)
	a, b := replica(t, server.Address(), 1), replica(t, server.Address(), 1)
	connected(t, a, b)
	ask := func(what string) {
		t.Helper()
		start := time.Now()
		for i := range 200 {
			if a.Used(fmt.Sprintf("%s %d", what, i), time.Now().Add(time.Minute)) {
				t.Errorf("%s: a statement that nobody used was used", what)
			}
			a.Changed([]record.NHSNumber{number(t)})
			a.Opened("gp", time.Now().Add(time.Second))
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("%s: 200 rounds took %s, want at most a timeout in a second", what, took)
		}
	}
	goOn := server.Stall(t)
	ask("stalled")
	goOn()
	connected(t, a, b)
	server.Do(t, "FLUSHALL")
	ask("flushed")
	server.Kill(t)
	ask("killed")
	server.Start(t)
	connected(t, a, b)
	never := replica(t, "127.0.0.1:1", 1)
	if never.Used("x", time.Now().Add(time.Minute)) {
		t.Error("used")
	}
	for range 3 * queued {
		never.Changed([]record.NHSNumber{number(t)})
	}
	if never.Stats().Dropped == 0 {
		t.Error("nothing was dropped, and nothing can have been sent")
	}
	c, end := never.Watch([]record.NHSNumber{number(t)})
	defer end()
	never.Changed([]record.NHSNumber{number(t)})
	if len(c) != 1 {
		t.Error("a replica alone does not tell itself")
	}
}

func TestConfiguration(t *testing.T) {
	for _, c := range []Config{{}, {Address: "127.0.0.1:1"}, {Address: "127.0.0.1:1", Key: []byte("short")}, {Key: bytes.Repeat([]byte{1}, 32)}} {
		if h, err := Open(c); err == nil {
			h.Close()
			t.Errorf("%d bytes of key, address %q: it opens", len(c.Key), c.Address)
		}
	}
}
