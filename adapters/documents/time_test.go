package documents_test

import (
	"context"
	"testing"
	"time"
)

func contextWith(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
