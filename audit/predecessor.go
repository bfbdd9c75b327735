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
// themselves, as the encryption alone vouches for it; of rows, leaves, types and the tree nothing is believed but the last checkpoint, and that by its signature. Every
// position is looked at: one that is missing, cannot be read, or lost its payload to nothing that says so may be what somebody chose, and is an error (ErrDamaged): it must
// be restored first. So must entries that were cut off at the end. Objections and delegations that ended or were erased stay behind.
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
		left := &bequest{keys: keys, stood: map[uint64]bool{}, redacted: map[uint64]uint64{}}
		if err := left.walk(ctx, r, out.State); err != nil {
			return err
		}
		if !last.verified(left.signers) {
			return fmt.Errorf("%w: the last checkpoint of the old ledger is not signed by a key that the ledger names", ErrDamaged)
		}
		out.note = last.with(nil).Note
		out.carried = left.standing(now)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// bequest is what a walk over a ledger that ended brings together.
type bequest struct {
	keys     *Keys
	size     uint64            // the next position
	signers  []string          // keys that the ledger names
	stood    map[uint64]bool   // by the position of an Import: whether it came in
	chosen   []carriedOver     // every state of every objection and delegation, in order
	empty    []uint64          // entries without a payload
	redacted map[uint64]uint64 // by position: the newest Redact entry that names it
}

// walk looks at every position from 0 on: those that were signed and those after them, which are as binding and perhaps the newest word of somebody.
func (b *bequest) walk(ctx context.Context, r Reader, signed State) error {
	head, err := r.Head()
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := r.Entries(b.size, verifyPage)
		if err != nil {
			return err
		}
		for i := range page {
			if page[i].Position != b.size {
				return irreplaceable(b.size, "is missing")
			}
			if err := b.take(&page[i], signed.Origin); err != nil {
				return err
			}
			b.size++
		}
		if len(page) < verifyPage {
			break
		}
	}
	if b.size < signed.Size || b.size < head.Size {
		return irreplaceable(b.size, fmt.Sprintf("and all after it are missing, up to the %d that there were", max(signed.Size, head.Size)))
	}
	for _, position := range b.empty {
		if b.redacted[position] <= position {
			return irreplaceable(position, "has lost what it said, and no entry says that it was erased")
		}
	}
	return nil
}

// take reads one entry. Its type is part of what the encryption is bound to: an entry under another type does not open.
func (b *bequest) take(e *Entry, origin string) error {
	if e.Sealed == nil {
		b.empty = append(b.empty, e.Position)
		return nil
	}
	unreadable := irreplaceable(e.Position, "cannot be read")
	epoch, ok := b.keys.epoch(e.Epoch)
	if !ok {
		return unreadable
	}
	plain, ok := epoch.unseal(e.Sealed, e.associated())
	p := &payload{}
	if !ok || len(plain) < saltSize || parseCanonical(plain[saltSize:], p) != nil || !p.fits(e.Type) {
		return unreadable
	}
	switch {
	case e.Type == TypeKey:
		if p.Epoch.Signer != "" && p.Epoch.Origin == origin {
			b.signers = append(b.signers, p.Epoch.Signer)
		}
	case e.Type == TypeImported:
		b.stood[p.Opens] = p.Reason == ""
	case e.Type == TypeObjection || e.Type == TypeDelegation:
		b.chosen = append(b.chosen, carriedOver{e.Position, p})
	case e.Type == TypeRedact:
		if !p.Redact.positions(func(position uint64) { b.redacted[position] = e.Position }) {
			return unreadable
		}
	}
	return nil
}

// irreplaceable says of a position why the ledger cannot be continued, and what to do.
func irreplaceable(position uint64, what string) error {
	return fmt.Errorf("%w: entry %d of the old ledger %s, and it may say what somebody chose: restore the old ledger from the newest backup that has it, and continue that one", ErrDamaged, position, what)
}

// standing are the newest states that count, in the order in which they were recorded.
func (b *bequest) standing(now time.Time) (out []carriedOver) {
	newest := map[string]carriedOver{}
	for _, c := range b.chosen {
		if c.payload.Import == 0 || b.stood[c.payload.Import] {
			newest[c.id()] = c
		}
	}
	for _, c := range newest {
		if c.counts(now) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b carriedOver) int { return cmp.Compare(a.at, b.at) })
	return out
}

// id is that of the objection or delegation.
func (c carriedOver) id() string {
	if c.payload.Objection != nil {
		return c.payload.Objection.ID
	}
	return c.payload.Delegation.ID
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

// carry appends what is taken over: who chose and who wrote it down stay as they were; it is in force here from now on.
func (w *writer) carry(p *Predecessor) error {
	for _, c := range p.carried {
		out := &payload{Subject: c.payload.Subject, Actor: c.payload.Actor, Key: c.payload.Key, Objection: c.payload.Objection, Delegation: c.payload.Delegation}
		t := TypeObjection
		if out.Objection == nil {
			t = TypeDelegation
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
		if w.failed(w.tx.PutObjection(ObjectionRow{ID: c.id(), Person: w.epoch.hash(MarkPerson, about.Reveal()).Value, Position: receipt.Position})) {
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
