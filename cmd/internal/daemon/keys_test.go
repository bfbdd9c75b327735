package daemon

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
)

// New keys are made once a month and no oftener, and keys that were made and not taken up are taken up first.
func TestMonthlyKeys(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 11, 29, 23, 0, 0, 0, time.UTC)
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	p := audittest.New(t, audit.Config{Now: clock})
	cfg := Config{Ledger: Ledger{Keys: filepath.Join(filepath.Dir(p.Path), "keys")}}
	files := func() int {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(cfg.Ledger.Keys, "payload-*.key"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	for _, step := range []struct {
		name    string
		later   time.Duration
		by      func()
		changed bool
		epochs  int
	}{
		{"the same day", 0, nil, false, 1},
		{"the next month", 26 * time.Hour, nil, true, 2},
		{"an hour later", time.Hour, nil, false, 2},
		{"a month later, and somebody has made keys", 31 * 24 * time.Hour, func() {
			if _, err := audit.AddEpoch(cfg.Ledger.Keys); err != nil {
				t.Fatal(err)
			}
		}, true, 3},
		{"the year after", 40 * 24 * time.Hour, nil, true, 4},
	} {
		mu.Lock()
		now = now.Add(step.later)
		mu.Unlock()
		if step.by != nil {
			step.by()
		}
		changed, err := monthlyKeys(t.Context(), cfg, p.Ledger, clock())
		if err != nil || changed != step.changed || files() != step.epochs {
			t.Errorf("%s: %v, changed %v, %d epochs; want %v, %d", step.name, err, changed, files(), step.changed, step.epochs)
		}
	}
	keys, err := audit.LoadKeys(cfg.Ledger.Keys)
	if err != nil {
		t.Fatal(err)
	}
	p.Keys, p.Config.Keys = keys, keys
	if r, err := p.Ledger.Verify(t.Context()); err != nil || r.Sound() != nil || r.ByType[audit.TypeKey] != 4 {
		t.Errorf("%v %v: %d key entries, want 4", err, r.Sound(), r.ByType[audit.TypeKey])
	}
}
