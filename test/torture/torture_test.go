// Package torture holds the tests that kill, starve and watch the built demo from outside, over sockets and system calls:
//
//   - kill -9 under load, at any moment and at named points, restart, and what the ledger then says of every answer and every consent change that
//     anybody was given (kill_test.go)
//   - objections recorded while requests run (race_test.go)
//   - the order of syncs and socket writes, as strace sees them (strace_test.go)
//   - each system call of the ledger's writes failing, and being the last (syscalls_test.go)
//   - whether objections are linearizable (linear_test.go)
//   - bugs made on purpose, which the suite must find (bugs_test.go)
//   - a ledger without room, a slow one, and one that is not to be opened (ledger_test.go)
//
// What is right is said here in the tests' own words: which answer needs which entry (accounted_test.go), and what an objection covers
// (honoured_test.go). Each of these judges is itself tried on cases that it must condemn.
//
// kill -9 does not test durability: what was written and not synced survives it. Durability is the strace test's, and that of the
// power cuts of audit/sqlite.
//
// MCR_TORTURE=long runs longer (`make torture`).
package torture

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(scriptVariable); dir != "" {
		os.Exit(script(dir))
	}
	os.Exit(neighbourhood.Main(m))
}

// long reports whether there is time.
func long() bool { return os.Getenv("MCR_TORTURE") == "long" }

// either returns a figure for every day, or one for when there is time.
func either[T any](short, ifLong T) T {
	if long() {
		return ifLong
	}
	return short
}

// seeded returns chance that can be repeated, and says how.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	r, _ := withSeed(t)
	return r
}

// withSeed is seeded with the seed at hand. MCR_SEED is used if it is set.
func withSeed(t *testing.T) (*rand.Rand, uint64) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MCR_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal("MCR_SEED is not a number")
		}
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0)), seed //nolint:gosec // chance of a test
}

// person is one of the invented people. It never prints.
type person struct{ number, born string }

// String keeps a person out of every message.
func (person) String() string { return "a person" }

// people are those whose records are read and who object. Between them they are known to all nine custodians and have entries in every section.
func people(t *testing.T) []person {
	t.Helper()
	var out []person
	for _, number := range []string{cohort.Margaret, cohort.George, cohort.Idris, cohort.Grace, cohort.Callum, cohort.Sofia, cohort.Harold, cohort.Nia} {
		for _, p := range cohort.Invented(time.Now()) {
			if p.NHSNumber == number {
				out = append(out, person{p.NHSNumber, p.BirthDate})
			}
		}
	}
	if len(out) != 8 {
		t.Fatalf("the cohort has %d of the 8 people that are asked for", len(out))
	}
	return out
}
