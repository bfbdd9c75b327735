package documents_test

import (
	"context"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/adapters/documents"
	"github.com/mycarerecord/mycarerecord/broker"
)

// A panic on a goroutine of the adapter's own, of a document that is read or of the locator's marker, is an error of this custodian, and says nothing of what was
// panicked with.
func TestPanicsEndNoProcess(t *testing.T) {
	p := newPlace(t, marked(stamp(time.Minute), stamp(time.Minute)))
	src := p.source(t, func(s *documents.Settings) { s.Read = 2 })
	fetch := adaptertest.Panics(t.Context(), query(t, held), "CANARY", func(ctx context.Context, q broker.Query) error { _, err := src.Fetch(ctx, q); return err })
	if fetch.Contained == 0 || fetch.Leaked > 0 {
		t.Errorf("%+v", fetch)
	}
	for name, x := range p.both(t) {
		locate := adaptertest.Panics(t.Context(), query(t, unknown), "CANARY", func(ctx context.Context, q broker.Query) error { _, err := x.Locate(ctx, q); return err })
		if locate.Calls == 0 || locate.Leaked > 0 { // from the first time on: both questions panic, and the caller's own is the caller's to recover from
			t.Errorf("%s: %+v", name, locate)
		}
	}
}
