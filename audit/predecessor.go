package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A ledger in which something that was signed is damaged can never again be proved whole, and does not start. Care cannot wait for that: a new ledger is begun under
// another origin. Its first entry names the last checkpoint of the old one, so that the old one is still bound to what it was, and what people chose is carried
// over in the same transaction: there is no moment at which the new ledger stands without it.

// Predecessor is what a new ledger takes over from one that ends.
type Predecessor struct {
	State   State  // of its last checkpoint
	note    []byte // that checkpoint
	carried []carriedOver
}

// carriedOver is the newest state of an objection or a delegation that counts.
type carriedOver struct {
	at      uint64
	payload *payload
}

// Carried returns how many objections and delegations there are to be carried over.
func (p *Predecessor) Carried() int { return len(p.carried) }

// ReadPredecessor reads what a new ledger must take over from the one in a store, which may be damaged and is not changed. What people chose is read from the entries
// themselves, as the encryption alone vouches for it; of rows, leaves and the tree nothing is believed but the last checkpoint, and that by its signature. An entry
// that may say what somebody chose and cannot be read is an error (ErrDamaged): it must be restored first. Objections and delegations that ended or were erased stay behind.
func ReadPredecessor(ctx context.Context, store Store, keys *Keys, now time.Time) (*Predecessor, error) {
	out := &Predecessor{}
	err := store.View(ctx, func(r Reader) error {
		last, known, err := r.LastCheckpoint()
		if err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("%w: the old ledger has signed no checkpoint", ErrInvalid)
		}
		if out.State, err = last.State(); err != nil {
			return err
		}
		var signers []string
		err = vouched(r, keys, TypeKey, func(_ uint64, p *payload) error {
			if p.Epoch.Signer != "" && p.Epoch.Origin == out.State.Origin {
				signers = append(signers, p.Epoch.Signer)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !last.verified(signers) {
			return fmt.Errorf("%w: the last checkpoint of the old ledger is not signed by a key that the ledger names", ErrDamaged)
		}
		out.note = last.with(nil).Note
		stood := map[uint64]bool{}
		err = vouched(r, keys, TypeImported, func(_ uint64, p *payload) error {
			stood[p.Opens] = p.Reason == ""
			return nil
		})
		if err != nil {
			return err
		}
		newest := map[string]carriedOver{}
		for _, t := range []EntryType{TypeObjection, TypeDelegation} {
			err := vouched(r, keys, t, func(position uint64, p *payload) error {
				id := ""
				if p.Objection != nil {
					id = p.Objection.ID
				} else {
					id = p.Delegation.ID
				}
				if p.Import == 0 || stood[p.Import] {
					newest[id] = carriedOver{position, p}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		for _, c := range newest {
			if c.counts(now) {
				out.carried = append(out.carried, c)
			}
		}
		slices.SortFunc(out.carried, func(a, b carriedOver) int { return cmp.Compare(a.at, b.at) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// counts reports whether it binds, or may yet.
func (c carriedOver) counts(now time.Time) bool {
	r := &reading{}
	status, until := "", time.Time{}
	if o := c.payload.Objection; o != nil {
		status, until = o.Status, r.time(o.Until)
	} else {
		status, until = c.payload.Delegation.Status, r.time(c.payload.Delegation.Until)
	}
	return status != string(consent.Withdrawn) && status != string(consent.Declined) && (until.IsZero() || until.After(now))
}

// vouched calls f with the payload of every entry of a type that is not erased, as far as its encryption vouches for it.
func vouched(r Reader, keys *Keys, t EntryType, f func(position uint64, p *payload) error) error {
	for from := uint64(0); ; {
		positions, err := r.OfType(t, from, verifyPage)
		if err != nil {
			return err
		}
		for _, position := range positions {
			from = position + 1
			e, err := entryAt(r, position)
			if err != nil {
				return err
			}
			if e.Sealed == nil {
				continue
			}
			unreadable := fmt.Errorf("%w: entry %d of the old ledger cannot be read, and may say what somebody chose: restore it from a backup first", ErrDamaged, position)
			epoch, ok := keys.epoch(e.Epoch)
			if !ok {
				return unreadable
			}
			plain, ok := unseal(epoch.payload, e.Sealed, e.associated())
			p := &payload{}
			if !ok || len(plain) < saltSize || parseCanonical(plain[saltSize:], p) != nil || !p.fits(t) {
				return unreadable
			}
			if err := f(position, p); err != nil {
				return err
			}
		}
		if len(positions) < verifyPage {
			return nil
		}
	}
}

// carry appends what is taken over: who chose and who wrote it down stay as they were; it is in force here from now on.
func (w *writer) carry(p *Predecessor) error {
	for _, c := range p.carried {
		out := &payload{Subject: c.payload.Subject, Actor: c.payload.Actor, Key: c.payload.Key, Objection: c.payload.Objection, Delegation: c.payload.Delegation}
		t, id := TypeObjection, ""
		if out.Objection != nil {
			id = out.Objection.ID
		} else {
			t, id = TypeDelegation, out.Delegation.ID
		}
		e := &Entry{Type: t, Epoch: w.epoch.number}
		marks, err := marksOf(w.keys, e, out, nil)
		if err != nil {
			return err
		}
		receipt, err := w.append(t, out, marks)
		if err != nil {
			return err
		}
		about := (&reading{}).number(out.Subject)
		if about == (record.NHSNumber{}) {
			return fmt.Errorf("%w: entry %d of the old ledger is about nobody", ErrDamaged, c.at)
		}
		if w.failed(w.tx.PutObjection(ObjectionRow{ID: id, Person: w.epoch.hash(MarkPerson, about.Reveal()).Value, Position: receipt.Position})) {
			return w.err
		}
	}
	return nil
}

// Continues returns the checkpoint of the ledger that this one continues, and false if it continues none.
func (l *Ledger) Continues(ctx context.Context) (State, bool, error) {
	var text string
	err := l.view(ctx, func(r Reader) error {
		e, err := entryAt(r, 0)
		if err != nil {
			return err
		}
		p, err := decode(l.keys.Load(), &e)
		if err == nil && p.Epoch != nil {
			text = p.Epoch.Continues
		}
		return err
	})
	if err != nil || text == "" {
		return State{}, false, err
	}
	s, err := Checkpoint{Note: []byte(text)}.State()
	return s, err == nil, err
}
