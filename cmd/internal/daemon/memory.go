package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// beyond is what the process may take besides the requests under way: code, the ledger's store, connections, what the collector leaves for later.
const beyond = 160 << 20

// How far the heap may grow beyond what is in use before the collector looks (GOGC): with the ballast, and without.
const (
	collectLater     = 200
	collectMuchLater = 400
)

// ballast counts as in use, and nobody reads or writes it, so that no memory need stand behind it. A request leaves some megabytes of garbage, and what is in use between two is next to
// nothing: a process as small as that would collect after every few, and give memory back to the system that the next request needs again, page by page. With the ballast it has 128 MiB
// and twice what is in use for what the collector has not seen yet; the limit on memory holds it down where much is in use.
var ballast = sync.OnceValue(func() []byte {
	b := make([]byte, ballastSize)
	untouched(b) // where it was memory that somebody had used, it has just been cleared, and with that taken from the system
	return b
})

const ballastSize = 64 << 20

// Memory is given back to the system when no request has been under way for so long.
const (
	quietFor  = 20 * time.Second
	lookEvery = time.Second
)

// limitMemory tells the collector how much memory the process may take. Whoever sets GOGC or GOMEMLIMIT knows better, and gets no ballast: it would be taken from what they allow.
func limitMemory(inFlight int64) {
	gogc, limit := os.Getenv("GOGC"), os.Getenv("GOMEMLIMIT")
	most, later := inFlight+beyond, collectMuchLater
	if gogc == "" && limit == "" {
		_ = ballast() // it is kept from here on
		most, later = most+ballastSize, collectLater
	}
	if limit == "" {
		debug.SetMemoryLimit(most)
	}
	if gogc == "" {
		debug.SetGCPercent(later)
	}
}

// giveBackMemory returns whole pages that nobody uses to the system after a busy time, so that the process is as small again as it was. used says how much requests hold now, and asked how many there have been.
func giveBackMemory(ctx context.Context, used func() (bytes int64, asked uint64)) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var seen, returned uint64 // how many requests there had been
	var quiet time.Time       // since when nothing is under way and nobody has asked
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			bytes, asked := used()
			if bytes > 0 || asked != seen || quiet.IsZero() {
				seen, quiet = asked, now
				continue
			}
			if asked != returned && now.Sub(quiet) >= quietFor {
				debug.FreeOSMemory()
				returned = asked
			}
		}
	}
}
