package torture

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// Whether objections are linearizable: every object and relent takes effect at one moment between its call and its acknowledgement, and every read
// shows a custodian's record just where nobody objects to it at some moment between its call and its end, on whichever broker each of them is made (P2).

// subject is somebody whose record is read while two others, at desks of their own, object to it and relent.
type subject struct {
	number, born string
}

// String keeps a person out of every message.
func (subject) String() string { return "a person" }

// Custodians of the people here: those that they object to, and one that the reader is always shown, so that an answer that shows nothing else is
// known to have been an answer.
var (
	objectedTo = [2]string{"gp", "community"}
	always     = "acute"
)

// deskOf is one broker as its callers see it.
type deskOf interface {
	// read reports which of objectedTo are shown, and false where the answer does not tell.
	read(ctx context.Context, s *subject) (shown [len(objectedTo)]bool, known bool)
	// object objects to one of objectedTo. The same key again is the same objection. It reports its id, and false where it was not acknowledged.
	object(ctx context.Context, s *subject, part int, key string) (id string, acked bool)
	// relent withdraws an objection.
	relent(ctx context.Context, s *subject, id, key string) (acked bool)
}

// Operations of a history about one custodian's record of one person.
type (
	wishOf  struct{ writer, is int } // is: 1 object, 0 relent
	readOf  struct{}
	history []porcupine.Operation
)

// wishes is the model: a set of those who object, as bits. A record is shown where the set is empty.
var wishes = porcupine.Model{
	Init: func() any { return uint8(0) },
	Step: func(state, input, output any) (bool, any) {
		set := state.(uint8)
		switch in := input.(type) {
		case wishOf:
			return true, set&^(1<<in.writer) | uint8(in.is)<<in.writer //nolint:gosec // a bit
		default:
			return output.(bool) == (set == 0), set
		}
	},
	Equal: func(a, b any) bool { return a == b },
}

// linearity is a load on several brokers, and what it found.
type linearity struct {
	desks []deskOf
	r     *rand.Rand

	operations, unknown int // calls that were answered; calls again, and reads that told nothing
	histories           int
	illegal, undecided  int
}

const (
	writersOfOne = 2
	readersOfOne = 2
	changesOfOne = 12 // objections and withdrawals of each writer of one person
)

// peopleAtOnce are those of a wave. More of them share each sync, so that many operations take less time; each person's histories stay as long.
func peopleAtOnce() int { return either(3, 12) }

// wave lets readers and writers loose on some people, and checks what became of it.
func (l *linearity) wave(ctx context.Context, people []*subject) {
	var mu sync.Mutex
	var all sync.WaitGroup
	type found struct {
		of         [len(objectedTo)]history
		operations int
		unknown    int
	}
	results := make([]found, len(people))
	zero := time.Now()
	now := func() int64 { return int64(time.Since(zero)) }
	for i, s := range people {
		f := &results[i]
		var writers sync.WaitGroup
		written, done := context.WithCancel(ctx)
		for w := range writersOfOne {
			r := rand.New(rand.NewPCG(l.r.Uint64(), 3)) //nolint:gosec // chance of a test
			writers.Go(func() {
				ids := [len(objectedTo)]string{}
				for range changesOfOne {
					part := r.IntN(len(objectedTo))
					key := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
					in := wishOf{w, 1}
					if ids[part] != "" {
						in.is = 0
					}
					call, again, acked := now(), 0, false
					for ; !acked && ctx.Err() == nil; again++ { // with the same key: whatever becomes of it, it is one operation
						d := l.desks[r.IntN(len(l.desks))]
						if in.is == 1 {
							var id string
							if id, acked = d.object(ctx, s, part, key); acked {
								ids[part] = id
							}
						} else if acked = d.relent(ctx, s, ids[part], key); acked {
							ids[part] = ""
						}
						if !acked {
							pause(ctx, time.Duration(1+r.IntN(20))*time.Millisecond)
						}
					}
					end := now()
					if !acked {
						end = math.MaxInt64 // it may take effect whenever
					}
					mu.Lock()
					f.operations++
					f.unknown += again - 1
					f.of[part] = append(f.of[part], porcupine.Operation{ClientId: w, Input: in, Call: call, Output: true, Return: end})
					mu.Unlock()
					pause(ctx, time.Duration(r.IntN(4))*time.Millisecond)
				}
			})
		}
		for c := range readersOfOne {
			r := rand.New(rand.NewPCG(l.r.Uint64(), 4)) //nolint:gosec // chance of a test
			all.Go(func() {
				for written.Err() == nil {
					call := now()
					shown, known := l.desks[r.IntN(len(l.desks))].read(ctx, s)
					end := now()
					mu.Lock()
					if known {
						f.operations++
						for part := range objectedTo {
							f.of[part] = append(f.of[part], porcupine.Operation{ClientId: writersOfOne + c, Input: readOf{}, Call: call, Output: shown[part], Return: end})
						}
					} else {
						f.unknown++
					}
					mu.Unlock()
					if !known {
						pause(ctx, 50*time.Millisecond)
					}
				}
			})
		}
		all.Go(func() {
			writers.Wait()
			done()
		})
	}
	all.Wait()
	for i := range results {
		l.operations += results[i].operations
		l.unknown += results[i].unknown
		for _, h := range results[i].of {
			l.histories++
			switch porcupine.CheckOperationsTimeout(wishes, h, time.Minute) {
			case porcupine.Illegal:
				l.illegal++
			case porcupine.Unknown:
				l.undecided++
			}
		}
	}
}

// hasTime reports whether the test may go on, and says how far it is. On a machine that is too slow for all operations it fails, and what was seen by
// then is reported all the same.
func (l *linearity) hasTime(t *testing.T, of int) bool {
	t.Helper()
	if long() {
		t.Logf("%d of %d operations", l.operations, of)
	}
	if end, ok := t.Deadline(); !ok || time.Until(end) > 2*time.Minute {
		return true
	}
	t.Errorf("there was time for %d of %d operations", l.operations, of)
	return false
}

// end reports.
func (l *linearity) end(t *testing.T, what string, seed uint64, more string) {
	t.Helper()
	if l.undecided > 0 {
		t.Errorf("%d histories could not be decided in time", l.undecided)
	}
	verdict := "Ok"
	if l.illegal > 0 {
		verdict = "Illegal"
	}
	figure.Report(t, figure.Figure{Name: "linearizability of objections, " + what + ": histories that are not", Seen: l.illegal, Of: l.histories, What: "histories", Seed: seed,
		More: fmt.Sprintf("porcupine says %s; %d operations, %d unanswered%s", verdict, l.operations, l.unknown, more)})
}

// TestWishes holds the model to histories that it must condemn, and to others.
func TestWishes(t *testing.T) {
	op := func(client int, in any, call int64, out bool, end int64) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end}
	}
	object, relent := wishOf{0, 1}, wishOf{0, 0}
	for name, tc := range map[string]struct {
		h    history
		want porcupine.CheckResult
	}{
		"shown before":                      {history{op(0, object, 10, true, 20), op(2, readOf{}, 1, true, 9)}, porcupine.Ok},
		"shown after":                       {history{op(0, object, 10, true, 20), op(2, readOf{}, 21, true, 30)}, porcupine.Illegal},
		"shown meanwhile":                   {history{op(0, object, 10, true, 20), op(2, readOf{}, 15, true, 30)}, porcupine.Ok},
		"hidden meanwhile, then shown":      {history{op(0, object, 10, true, 20), op(2, readOf{}, 11, false, 12), op(3, readOf{}, 13, true, 14)}, porcupine.Illegal},
		"never acknowledged, shown":         {history{op(0, object, 10, true, math.MaxInt64), op(2, readOf{}, 21, true, 30)}, porcupine.Ok},
		"hidden though nobody objects":      {history{op(2, readOf{}, 21, false, 30)}, porcupine.Illegal},
		"one relents, the other does not":   {history{op(0, object, 1, true, 2), op(1, wishOf{1, 1}, 3, true, 4), op(0, relent, 5, true, 6), op(2, readOf{}, 7, true, 8)}, porcupine.Illegal},
		"both relent, and then it is shown": {history{op(0, object, 1, true, 2), op(1, wishOf{1, 1}, 3, true, 4), op(0, relent, 5, true, 6), op(1, wishOf{1, 0}, 5, true, 7), op(2, readOf{}, 8, true, 9)}, porcupine.Ok},
	} {
		if got := porcupine.CheckOperationsTimeout(wishes, tc.h, time.Minute); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// subjects makes up people, with numbers from 999 000 1000 up.
func subjects(n int, born string) []*subject {
	var out []*subject
	for i := 0; len(out) < n; i++ {
		digits := fmt.Sprintf("999%06d", 100+i)
		sum := 0
		for j, d := range digits {
			sum += int(d-'0') * (10 - j)
		}
		if check := (11 - sum%11) % 11; check != 10 {
			out = append(out, &subject{fmt.Sprintf("%s%d", digits, check), born})
		}
	}
	return out
}

// TestSubjects holds that the numbers made up are such.
func TestSubjects(t *testing.T) {
	for _, s := range subjects(50, "1950-02-03") {
		if !strings.HasPrefix(s.number, "999000") || len(s.number) != 10 {
			t.Fatal("a number is not of the range for tests")
		}
	}
}
