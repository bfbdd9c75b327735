package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// note is a checkpoint of so many entries; which tree it is of stands in its root.
func note(size int, tree byte) audit.Checkpoint {
	root := [32]byte{tree, byte(size)}
	return audit.Checkpoint{Size: uint64(size), At: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC),
		Note: fmt.Appendf(nil, "mycarerecord.example/test\n%d\n%s\n\n— mycarerecord.example/test c2lnbmF0dXJl\n", size, base64Of(root[:]))}
}

// Two replicas that share a folder add to it one after the other: what one has seen is what it adds to, or one of two that exclude each other would be kept beside the other.
func TestFolderOfTwo(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		var all sync.WaitGroup
		var mu sync.Mutex
		taken, refused := 0, 0
		for tree := range byte(4) { // each has a checkpoint of its own of as many entries
			f, err := NewFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				_, err := f.Extend(t.Context(), note(1, tree), func(context.Context, uint64) ([][32]byte, error) { return nil, nil })
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					taken++
				case errors.Is(err, audit.ErrContradicted):
					refused++
				default:
					t.Errorf("adding: %v", err)
				}
			})
		}
		all.Wait()
		if taken != 1 || refused != 3 {
			t.Fatalf("of four that exclude each other %d were taken and %d refused, want 1 and 3", taken, refused)
		}
	}
}

// Who waits for a folder in use by others gives up with the caller.
func TestFolderInUse(t *testing.T) {
	f, err := NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	release, err := f.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Extend(ctx, note(1, 0), nil); !errors.Is(err, audit.ErrAway) {
		t.Errorf("a folder in use by others: %v", err)
	}
	release()
	if _, err := f.Extend(t.Context(), note(1, 0), nil); err != nil {
		t.Errorf("a folder that is free: %v", err)
	}
}
