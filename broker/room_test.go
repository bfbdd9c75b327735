package broker

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func openUp(t *testing.T, r *room, limit int64) *account {
	t.Helper()
	a := openAccount(t.Context(), r, time.Second, limit, 1)
	if a == nil {
		t.Fatal("no room")
	}
	return a
}

// TestRoomOldestWaits holds that of requests that need more than there is the oldest waits until others end, any younger one gives up at once, and
// one that has all that it needs is waited for.
func TestRoomOldestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(3 * firstBytes)
		old, young, settled := openUp(t, r, 64<<20), openUp(t, r, 64<<20), openUp(t, r, 64<<20)
		settled.settle()
		if r.used() != 3*firstBytes {
			t.Fatalf("used %d", r.used())
		}
		begun := time.Now()
		if p := young.part(); p.take(firstBytes/weight+1) || !young.gaveUp() {
			t.Error("a younger request did not give up")
		}
		if time.Since(begun) != 0 {
			t.Error("a younger request waited")
		}
		var got atomic.Bool
		go func() { got.Store(old.part().take(firstBytes/weight + 1)) }()
		synctest.Wait()
		if got.Load() {
			t.Error("the oldest got what there is not")
		}
		young.close()
		synctest.Wait()
		if !got.Load() || old.gaveUp() {
			t.Error("the oldest did not get what a younger one gave back")
		}
		old.close()
		old.close()
		// What is settled is not older: who comes now waits for it.
		last := openUp(t, r, 64<<20)
		got.Store(false)
		go func() { got.Store(last.part().take(2*firstBytes/weight + 1)) }()
		synctest.Wait()
		settled.close()
		synctest.Wait()
		if !got.Load() {
			t.Error("one that may wait for a settled request did not")
		}
		last.close()
		if r.used() != 0 || len(r.under) != 0 || len(r.waiting) != 0 {
			t.Errorf("%d bytes, %d requests, %d waiting are left", r.used(), len(r.under), len(r.waiting))
		}
	})
}

// TestRoomInTurn holds that new requests wait in turn, no longer than they may, and that who leaves the queue lets the next one in.
func TestRoomInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(firstBytes)
		first := openUp(t, r, 64<<20)
		begun := time.Now()
		if a := openAccount(t.Context(), r, 300*time.Millisecond, 64<<20, 1); a != nil || time.Since(begun) != 300*time.Millisecond {
			t.Errorf("waited %v", time.Since(begun))
		}
		left, leave := context.WithCancel(t.Context())
		var turns []int
		var mu sync.Mutex
		for i := range 3 {
			ctx := t.Context()
			if i == 0 {
				ctx = left
			}
			go func() {
				if a := openAccount(ctx, r, time.Minute, 64<<20, 1); a != nil {
					mu.Lock()
					turns = append(turns, i)
					mu.Unlock()
					a.close()
				}
			}()
			synctest.Wait()
		}
		if r.comeBack() < 3*time.Second {
			t.Errorf("with three waiting, come back after %v", r.comeBack())
		}
		leave()
		synctest.Wait()
		first.close()
		synctest.Wait()
		if len(turns) != 2 || turns[0] != 1 || turns[1] != 2 {
			t.Errorf("turns %v, want 1, 2", turns)
		}
	})
}

// TestRoomLearns holds that what requests take of late is what the next one reserves, so that a crowd is not let in on too little.
func TestRoomLearns(t *testing.T) {
	r := newRoom(1 << 30)
	for range 5 {
		a := openUp(t, r, 64<<20)
		if !a.part().take(10 << 20) {
			t.Fatal("no room")
		}
		a.close()
	}
	if b := openUp(t, r, 64<<20); b.reserved < 28<<20 || b.reserved > 40<<20 {
		t.Errorf("the next one reserves %d", b.reserved)
	} else {
		b.close()
	}
	for range 20 {
		a := openUp(t, r, 1<<30)
		if !a.part().take(100 << 20) {
			t.Fatal("no room")
		}
		a.close()
	}
	if r.usual != r.size/16 {
		t.Errorf("huge ones make the next one reserve %d", r.usual)
	}
	for range 100 {
		a := openUp(t, r, 64<<20)
		a.part().take(1)
		a.close()
	}
	if r.usual > 2*firstBytes {
		t.Errorf("after a hundred small ones it is still %d", r.usual)
	}
	// A crowd in a small room: nobody waits for ever, and all is given back.
	r = newRoom(64 << 20)
	var all sync.WaitGroup
	var through atomic.Int32
	for range 50 {
		all.Go(func() {
			for {
				a := openAccount(t.Context(), r, time.Second, 64<<20, 1)
				if a == nil {
					continue
				}
				p := a.part()
				for range 8 {
					if !p.take(1 << 20) {
						break
					}
				}
				crowded := a.gaveUp()
				a.close()
				if !crowded {
					through.Add(1)
					return
				}
			}
		})
	}
	all.Wait()
	if through.Load() != 50 || r.used() != 0 {
		t.Errorf("%d of 50 came through, %d bytes are left", through.Load(), r.used())
	}
}

// TestRoomNobodyPasses holds that no younger request takes room past the oldest that waits.
func TestRoomNobodyPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(4 * firstBytes)
		old, young, rest := openUp(t, r, 64<<20), openUp(t, r, 64<<20), openUp(t, r, 64<<20)
		if !rest.part().take(2 * firstBytes / weight) { // all of it is gone
			t.Fatal("no room")
		}
		done := make(chan bool, 1)
		go func() { done <- r.grow(t.Context(), old.age, 3<<20) }()
		synctest.Wait()
		r.giveBack(2 << 20)
		if r.grow(t.Context(), young.age, 1<<20) {
			t.Error("a younger request took room that the oldest waits for")
		}
		r.giveBack(1 << 20)
		if !<-done {
			t.Error("the oldest got none")
		}
	})
}

// TestRoomBulk holds that a reply which wants more than its share gives up alone, that what is reserved is there for the others, and that a caller who
// leaves is not called crowded (P8).
func TestRoomBulk(t *testing.T) {
	r := newRoom(2 * firstBytes)
	old := openUp(t, r, 64<<20)
	defer old.close()
	a := openAccount(t.Context(), r, time.Second, 64<<20, 900)
	bulk, small := a.part(), a.part()
	for bulk.take(64 << 10) {
	}
	if denied, waited := bulk.fail(); !denied || waited {
		t.Errorf("denied %t, waited %t", denied, waited)
	}
	if a.gaveUp() || !small.take(1<<10) {
		t.Error("one custodian's bulk refuses what another says")
	}
	a.close()
	ctx, leave := context.WithCancel(t.Context())
	r = newRoom(firstBytes)
	b := openAccount(ctx, r, time.Second, 64<<20, 1)
	leave()
	if b.part().take(firstBytes); b.gaveUp() {
		t.Error("a caller who left is called crowded")
	}
}

// TestRoomOddSize holds that a request alone finds all the room that it may have, whatever the size, and that its parts do not wait for what it has.
func TestRoomOddSize(t *testing.T) {
	for _, size := range []int64{16<<20 + 1<<19, 16 << 20} {
		r := newRoom(size)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		a := openAccount(ctx, r, time.Second, size/weight, 8)
		var all sync.WaitGroup
		for range 8 {
			p := a.part()
			all.Go(func() {
				for range 7 {
					if !p.take(64 << 10) {
						t.Errorf("a request alone found no room, of %d", size)
						return
					}
				}
			})
		}
		all.Wait()
		cancel()
		a.close()
	}
}
