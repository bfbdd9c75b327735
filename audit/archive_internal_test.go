package audit

import (
	"context"
	"io"
)

// ArchiveIn is Archive in smaller segments, so that a small ledger has several.
func (l *Ledger) ArchiveIn(ctx context.Context, by Actor, epoch uint32, segment uint64, w io.Writer) (Archived, error) {
	out, _, err := l.archiveIn(ctx, by, epoch, segment, w, nil)
	return out, err
}
