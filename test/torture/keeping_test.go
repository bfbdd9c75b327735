package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	hostile "github.com/redis/go-redis/v9"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/postgres"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// keeping is how brokers under test keep their ledger.
type keeping struct {
	name     string
	replicas int                                     // brokers on one ledger
	ledger   func(replica int) map[string]any        // the setting
	more     map[string]any                          // further settings
	keys     string                                  // folder
	trouble  func(t *testing.T, r *rand.Rand) string // makes some beside the kills, and says which; nil: none
	open     func(t *testing.T) audit.Store          // when nobody serves
}

// onSQLite keeps the ledger of one broker in a file.
func onSQLite(t *testing.T, program string) keeping {
	t.Helper()
	dir := t.TempDir()
	k := keeping{name: "one broker on SQLite", replicas: 1, keys: neighbourhood.Keys(t, program, dir)}
	file := filepath.Join(dir, "ledger.db")
	k.ledger = func(int) map[string]any {
		return map[string]any{"store": "sqlite", "path": file, "keys": k.keys, "origin": origin}
	}
	k.open = func(t *testing.T) audit.Store {
		t.Helper()
		store, err := sqlite.Open(t.Context(), sqlite.Config{Path: file})
		if err != nil {
			t.Fatalf("the ledger cannot be opened: %v", err)
		}
		return store
	}
	return k
}

// onPostgreSQL keeps the ledger of two brokers in a database. They share the folder of checkpoints.
func onPostgreSQL(t *testing.T, program string) keeping {
	t.Helper()
	server := services.PostgreSQL(t)
	dir, database := t.TempDir(), server.URL(server.Database(t))
	k := keeping{name: "two brokers on PostgreSQL", replicas: 2, keys: neighbourhood.Keys(t, program, dir)}
	secret := filepath.Join(dir, "connection")
	if err := os.WriteFile(secret, []byte(database), 0o600); err != nil {
		t.Fatal("the connection cannot be written down")
	}
	k.ledger = func(replica int) map[string]any {
		return map[string]any{"store": "postgres", "keys": k.keys, "origin": origin, "checkpoints": filepath.Join(dir, "checkpoints"),
			"postgres": map[string]any{"connectionFile": secret, "replica": fmt.Sprintf("broker-%d", replica)}}
	}
	k.open = func(t *testing.T) audit.Store {
		t.Helper()
		store, err := postgres.Open(t.Context(), postgres.Config{Connection: database, Replica: "torture"})
		if err != nil {
			t.Fatalf("the ledger cannot be opened: %v", err)
		}
		return store
	}
	return k
}

// withRedis is onPostgreSQL with hints through a Redis to which everything happens meanwhile that can: nothing in it can permit anything, or be missed.
func withRedis(t *testing.T, program string) keeping {
	t.Helper()
	k := onPostgreSQL(t, program)
	redis := services.Redis(t)
	k.name += " and Redis"
	k.more = map[string]any{"hints": map[string]any{"redis": redis.Address()}}
	raw := hostile.NewClient(&hostile.Options{Addr: redis.Address(), DialTimeout: time.Second, ReadTimeout: time.Second, MaxRetries: -1})
	t.Cleanup(func() { _ = raw.Close() }) // nothing is in flight
	k.trouble = func(t *testing.T, r *rand.Rand) string {
		t.Helper()
		switch r.IntN(4) {
		case 0:
			redis.Do(t, "FLUSHALL")
			return "flushed"
		case 1:
			if !fill(t.Context(), raw, r) {
				t.Error("Redis does not take hostile values")
			}
			return "filled with hostile values"
		case 2:
			goOn := redis.Stall(t)
			pause(t.Context(), time.Duration(50+r.IntN(300))*time.Millisecond)
			goOn()
			return "stalled"
		}
		redis.Kill(t)
		pause(t.Context(), time.Duration(50+r.IntN(300))*time.Millisecond)
		redis.Start(t)
		return "killed"
	}
	return k
}

// fill gives every key and every channel that are there values that nobody sealed, and adds some.
func fill(ctx context.Context, raw *hostile.Client, r *rand.Rand) bool {
	garbage := func() []byte {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	keys, errKeys := raw.Keys(ctx, "*").Result()
	channels, errChannels := raw.PubSubChannels(ctx, "*").Result()
	errs := []error{errKeys, errChannels}
	for _, key := range append(keys, "mcr:0", "mcr:1") {
		errs = append(errs, raw.Set(ctx, key, garbage(), 5*time.Second).Err())
	}
	for _, c := range channels {
		for range 20 {
			errs = append(errs, raw.Publish(ctx, c, garbage()).Err())
		}
	}
	return errors.Join(errs...) == nil
}

// keepings are those that are tried. program is the built broker.
// wayOfKeeping makes what keeps a ledger.
type wayOfKeeping struct {
	name string
	make func(t *testing.T, program string) keeping
}

var keepings = []wayOfKeeping{
	{"SQLite", onSQLite},
	{"PostgreSQL", onPostgreSQL},
	{"PostgreSQL and Redis", withRedis},
}

// keepingsOfToday are the ways of keeping that are tried every day, or all of them where there is time.
func keepingsOfToday(every ...string) []wayOfKeeping {
	return slices.DeleteFunc(slices.Clone(keepings), func(k wayOfKeeping) bool { return !long() && !slices.Contains(every, k.name) })
}
