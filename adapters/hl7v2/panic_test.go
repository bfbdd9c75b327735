package hl7v2_test

import (
	"context"
	"testing"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/broker"
)

// A panic on a goroutine of the adapter's own is an error of this custodian, and says nothing of what was panicked with.
func TestPanicsEndNoProcess(t *testing.T) {
	src := source(t, newEngine(t).address)
	p := adaptertest.Panics(t.Context(), query(t, held), "CANARY", func(ctx context.Context, q broker.Query) error { _, err := src.Fetch(ctx, q); return err })
	if p.Contained == 0 || p.Leaked > 0 {
		t.Errorf("%+v", p)
	}
}
