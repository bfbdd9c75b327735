package adaptertest

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/mycarerecord/mycarerecord/broker"
)

// Panicked is how calls of a source ended within which something panicked.
type Panicked struct {
	Calls     int // calls of fetch in which something did
	Contained int // of them, in how many the source made an error, or a part, of it
	Leaked    int // in how many the error says what was panicked with
}

// Panics calls fetch again and again, and has what it is to ask for room for bytes panic: from the first time that it is asked, from the second time in the next call, and so
// on until it is not asked so often. A source may leave a panic on the caller's goroutine to its caller, who recovers; one on a goroutine of its own ends the process, and this test with it.
func Panics(ctx context.Context, q broker.Query, value string, fetch func(context.Context, broker.Query) error) (out Panicked) {
	for n := int64(1); ; n++ {
		var asked atomic.Int64
		q.Limits.Take = func(int64) bool {
			if asked.Add(1) >= n {
				panic(value)
			}
			return true
		}
		theirs, err := func() (theirs bool, err error) {
			defer func() { theirs = recover() != nil }()
			return false, fetch(ctx, q)
		}()
		if asked.Load() < n {
			return out
		}
		out.Calls++
		if !theirs {
			out.Contained++
		}
		if err != nil && strings.Contains(err.Error(), value) {
			out.Leaked++
		}
		if errors.Is(err, broker.ErrTimedOut) {
			return out // its time is over
		}
	}
}
