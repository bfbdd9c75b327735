package audit

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
)

// ExportVersion is the version of the export's lines; ENTRY.md describes them.
const ExportVersion = 1

// Export writes every entry under the newest checkpoint, in order, and every checkpoint up to it, as lines of JSON that a checker can hold against a public key
// alone (`verify export`). What is sealed stays sealed, but for Key entries, which hold nothing of a person and name the signing keys; with unsealed, which is for
// an operator on the ledger's own machine, the payloads are in it in clear. It is recorded first (L-6). write is given whole lines; its error ends the export.
//
// An entry that is erased while the export runs may be without its Redact entry, which is then newer than the checkpoint: export again.
func (l *Ledger) Export(ctx context.Context, by Actor, unsealed bool, write func(lines []byte) error) (Receipt, error) {
	if err := checkActor(by); err != nil {
		return Receipt{}, err
	}
	var receipt Receipt
	err := l.do(ctx, func(w *writer) (err error) {
		p := &payload{Actor: actorOut(by), Question: &questionBody{Kind: questionEntries}}
		receipt, err = w.append(TypeRead, p, w.epoch.who(by.Requester))
		return err
	}, nil)
	if err != nil {
		return Receipt{}, err
	}
	if l.unsound.Load() {
		return receipt, fmt.Errorf("%w: %w", ErrUnavailable, ErrUnsound)
	}
	return receipt, ExportStore(ctx, l.store, l.keys.Load(), l.origin, unsealed, write)
}

// ExportStore is the export itself, of what stands in a store. It judges nothing: what is missing is left out, what does not open stays sealed, and the checker finds it.
// It records nothing; whoever calls it for more than a test has recorded it.
func ExportStore(ctx context.Context, store Store, keys *Keys, origin string, unsealed bool, write func(lines []byte) error) error {
	var last Checkpoint
	size := uint64(0)
	err := store.View(ctx, func(r Reader) error {
		head, err := r.Head()
		if err != nil {
			return err
		}
		var known bool
		last, known, err = r.LastCheckpoint()
		if size = last.Size; !known {
			size = head.Size
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := write(fmt.Appendf(nil, `{"ledger":%s,"version":%d}`+"\n", appendString(nil, origin), ExportVersion)); err != nil {
		return err
	}
	count := uint64(0)
	for at, signed := uint64(0), uint64(0); at < size; {
		var page []Entry
		var checkpoints []Checkpoint
		err := store.View(ctx, func(r Reader) (err error) {
			if page, err = r.Entries(at, int(min(verifyPage, size-at))); err != nil || len(page) == 0 {
				return err
			}
			checkpoints, err = r.Checkpoints(signed+1, verifyPage)
			return err
		})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		var out []byte
		for i := range page {
			if page[i].Position >= size {
				break
			}
			out = exported(out, keys, &page[i], unsealed)
			count++
			at = page[i].Position + 1
			for len(checkpoints) > 0 && checkpoints[0].Size <= at {
				if signed = checkpoints[0].Size; signed == at {
					out = append(append(append(out, `{"checkpoint":`...), appendString(nil, string(checkpoints[0].Note))...), "}\n"...)
				}
				checkpoints = checkpoints[1:]
			}
		}
		if len(out) == 0 {
			break
		}
		if err := write(out); err != nil {
			return err
		}
	}
	return write(fmt.Appendf(nil, `{"end":%d}`+"\n", count))
}

// exported adds the line of one entry.
func exported(b []byte, keys *Keys, e *Entry, unsealed bool) []byte {
	b = append(b, `{"position":`...)
	b = strconv.AppendUint(b, e.Position, 10)
	b = append(b, `,"version":`...)
	b = strconv.AppendUint(b, uint64(e.Version), 10)
	b = append(b, `,"type":`...)
	b = strconv.AppendUint(b, uint64(e.Type), 10)
	b = append(b, `,"time":`...)
	b = strconv.AppendInt(b, e.Time.UnixMicro(), 10)
	b = append(b, `,"epoch":`...)
	b = strconv.AppendUint(b, uint64(e.Epoch), 10)
	b = append(b, `,"commitment":"`...)
	b = hex.AppendEncode(b, e.Commitment[:])
	b = append(b, `","leaf":"`...)
	b = hex.AppendEncode(b, e.Leaf[:])
	if e.Sealed == nil {
		return append(b, "\"}\n"...)
	}
	if unsealed || e.Type == TypeKey {
		if epoch, ok := keys.epoch(e.Epoch); ok {
			if plain, ok := epoch.unseal(e.Sealed, e.associated()); ok {
				b = append(b, `","opened":"`...)
				b = base64.StdEncoding.AppendEncode(b, plain)
				return append(b, "\"}\n"...)
			}
		}
	}
	b = append(b, `","sealed":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Sealed)
	return append(b, "\"}\n"...)
}
