package socialcare_test

import (
	"context"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// A panic on a goroutine of the adapter's own is an error of this custodian, and says nothing of what was panicked with.
func TestPanicsEndNoProcess(t *testing.T) {
	src := newCouncil(t, simulator.Northmoor).source(t)
	p := adaptertest.Panics(t.Context(), query(t, held), "CANARY", func(ctx context.Context, q broker.Query) error { _, err := src.Fetch(ctx, q); return err })
	if p.Contained == 0 || p.Leaked > 0 {
		t.Errorf("%+v", p)
	}
}
