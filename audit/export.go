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
	last, err := l.Checkpoint(ctx, 0)
	if err != nil {
		return receipt, err
	}
	line := fmt.Appendf(nil, `{"ledger":%s,"version":%d}`+"\n", appendString(nil, l.origin), ExportVersion)
	if err := write(line); err != nil {
		return receipt, err
	}
	checkpoints, err := l.exportCheckpoints(ctx, 0, last.Size)
	if err != nil {
		return receipt, err
	}
	for at := uint64(0); at < last.Size; {
		n := min(verifyPage, last.Size-at)
		var page []Entry
		err := l.view(ctx, func(r Reader) (err error) {
			page, err = r.Entries(at, int(n))
			return err
		})
		if err != nil {
			return receipt, err
		}
		if uint64(len(page)) != n {
			return receipt, fmt.Errorf("%w: entries are missing from %d on", ErrDamaged, at)
		}
		var out []byte
		for i := range page {
			if page[i].Position != at {
				return receipt, fmt.Errorf("%w: entry %d is missing", ErrDamaged, at)
			}
			if out, err = l.exported(out, &page[i], unsealed); err != nil {
				return receipt, err
			}
			if at++; len(checkpoints) > 0 && checkpoints[0].Size == at {
				out = append(append(append(out, `{"checkpoint":`...), appendString(nil, string(checkpoints[0].Note))...), "}\n"...)
				if checkpoints = checkpoints[1:]; len(checkpoints) == 0 && at < last.Size {
					if checkpoints, err = l.exportCheckpoints(ctx, at, last.Size); err != nil {
						return receipt, err
					}
				}
			}
		}
		if err := write(out); err != nil {
			return receipt, err
		}
	}
	return receipt, write(fmt.Appendf(nil, `{"end":%d}`+"\n", last.Size))
}

// exportCheckpoints returns some checkpoints after a size, up to the last one.
func (l *Ledger) exportCheckpoints(ctx context.Context, after, last uint64) ([]Checkpoint, error) {
	list, err := l.Checkpoints(ctx, after+1, maxFound)
	for i, c := range list {
		if c.Size > last {
			return list[:i], err
		}
	}
	return list, err
}

// exported adds the line of one entry.
func (l *Ledger) exported(b []byte, e *Entry, unsealed bool) ([]byte, error) {
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
	switch {
	case e.Sealed == nil:
	case unsealed || e.Type == TypeKey:
		epoch, ok := l.keys.Load().epoch(e.Epoch)
		if !ok {
			return nil, fmt.Errorf("%w: entry %d: the keys of its epoch are missing", ErrDamaged, e.Position)
		}
		plain, ok := unseal(epoch.payload, e.Sealed, e.associated())
		if !ok {
			return nil, fmt.Errorf("%w: entry %d: its payload does not open with the keys of its epoch", ErrDamaged, e.Position)
		}
		b = append(b, `","opened":"`...)
		b = base64.StdEncoding.AppendEncode(b, plain)
	default:
		b = append(b, `","sealed":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Sealed)
	}
	return append(b, "\"}\n"...), nil
}
