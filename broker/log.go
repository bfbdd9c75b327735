package broker

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
)

// The keys that a log line, a span or a metric may carry. Nothing else gets through: no key here can hold a person, an address or a text
// from outside. A new one needs a reviewer.
const (
	keyRequest   = "request"
	keyFace      = "face"
	keyOperation = "operation"
	keyOutcome   = "outcome"
	keyCustodian = "custodian"
	keyState     = "state"
	keyReason    = "reason"
	keyCount     = "count"
	keyDuration  = "duration"
	keyPosition  = "position"
	keyListen    = "listen"
	keyVersion   = "version"
	keyProblem   = "problem"
)

// LogKeys are the permitted keys.
var LogKeys = [...]string{keyRequest, keyFace, keyOperation, keyOutcome, keyCustodian, keyState, keyReason, keyCount, keyDuration, keyPosition, keyListen, keyVersion, keyProblem}

// NewLogger returns a logger that writes JSON lines to w and drops, and counts, every attribute whose key is not permitted.
func NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(&permitted{next: slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), dropped: new(atomic.Int64)})
}

// permitted is a handler that lets only permitted keys through. Groups are not used by us and are dropped whole.
type permitted struct {
	next    slog.Handler
	dropped *atomic.Int64
}

func allowed(a slog.Attr) bool {
	for _, k := range LogKeys {
		if a.Key == k {
			return a.Value.Kind() != slog.KindGroup
		}
	}
	return false
}

// Enabled implements slog.Handler.
func (h *permitted) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *permitted) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	dropped := 0
	r.Attrs(func(a slog.Attr) bool {
		if allowed(a) {
			clean.AddAttrs(a)
		} else {
			dropped++
		}
		return true
	})
	if dropped > 0 {
		h.dropped.Add(int64(dropped))
		clean.AddAttrs(slog.Int("droppedAttributes", dropped))
	}
	return h.next.Handle(ctx, clean)
}

// WithAttrs implements slog.Handler.
func (h *permitted) WithAttrs(attrs []slog.Attr) slog.Handler {
	var clean []slog.Attr
	for _, a := range attrs {
		if allowed(a) {
			clean = append(clean, a)
		} else {
			h.dropped.Add(1)
		}
	}
	return &permitted{h.next.WithAttrs(clean), h.dropped}
}

// WithGroup implements slog.Handler: groups would rename keys past the list, so there are none.
func (h *permitted) WithGroup(string) slog.Handler { return h }
