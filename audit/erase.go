package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Basis is the legal basis on which payloads are erased. The list is closed.
type Basis string

// The legal bases.
const (
	BasisRetention Basis = "retention" // the time for which the controllers keep such records is over
	BasisErasure   Basis = "erasure"   // a person's request was granted (UK GDPR, article 17)
	BasisOrder     Basis = "order"     // a court or the regulator ordered it
)

// Erasure says what is to be erased, and why.
type Erasure struct {
	Basis     Basis
	Reference string             // the decision or the line of the schedule, at most 500 bytes; no person's name
	Before    time.Time          // what was recorded before this time; needed for retention
	Subjects  []record.NHSNumber // what is about this person, under any of the numbers; none, for retention only: about anybody
}

// Erased says what an erasure did.
type Erased struct {
	Entries  int       // whose payload, salt and marks are gone
	Kept     int       // that were asked for and have to stay: see Erase
	Receipts []Receipt // of the Redact entries that name them
}

// maxErased is how many entries one Redact entry names at most, so that a transaction stays short.
const maxErased = 500

// unit is what can only be erased together: an access with its override, chunks, closing and reviews, an alert with all that was done to it, all states of an
// objection or delegation, or one entry.
type unit struct {
	positions []uint64
	objection string // id, for the states of one
}

// Erase takes away payload, salt and marks of entries, and leaves what the tree is made of, so that every proof holds as before. A Redact entry in the same
// transaction names them and the basis. Some entries stay although they were asked for: those of an access that is open, or that lies only in part before the time;
// an override that nobody has reviewed, and an alert that nobody has closed; objections and delegations that bind or may bind yet, and objections that came with a list; and what holds nothing of a person: keys,
// policies, lists, adoptions and Redact entries themselves. A look at several people at once is evidence for each of them: it goes with its retention, or when all of them
// are asked for.
//
// When it returns nil, what was erased is in none of the store's files. That part takes about as long as reading and writing them once, and nothing else is recorded
// meanwhile: choose a quiet hour. Backups and exports that were made before are not reached.
func (l *Ledger) Erase(ctx context.Context, by Actor, e Erasure) (Erased, error) {
	if err := errors.Join(checkActor(by), checkErasure(e)); err != nil {
		return Erased{}, err
	}
	var out Erased
	units, kept, err := l.erasable(ctx, e)
	if err != nil {
		return out, err
	}
	out.Kept = kept
	for len(units) > 0 {
		n, size := 0, 0
		for n < len(units) && (n == 0 || size+len(units[n].positions) <= maxErased) {
			size += len(units[n].positions)
			n++
		}
		var receipt Receipt
		var erased int
		now := units[:n]
		err := l.do(ctx, func(w *writer) (err error) {
			receipt, erased, err = w.erase(by, e, now)
			return err
		}, nil)
		if err != nil {
			return out, err
		}
		if out.Kept += size - erased; erased > 0 {
			out.Entries += erased
			out.Receipts = append(out.Receipts, receipt)
		}
		units = units[n:]
	}
	return out, l.purge(ctx)
}

func checkErasure(e Erasure) error {
	invalid := func(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }
	switch {
	case e.Basis != BasisRetention && e.Basis != BasisErasure && e.Basis != BasisOrder:
		return invalid("the basis of an erasure is retention, erasure or order")
	case e.Basis == BasisRetention && e.Before.IsZero():
		return invalid("an erasure at the end of retention says before when")
	case e.Basis != BasisRetention && len(e.Subjects) == 0:
		return invalid("an erasure that is not for retention names a person")
	case e.Reference == "" || record.CheckFreeText("reference", e.Reference) != nil:
		return invalid(fmt.Sprintf("an erasure names the decision that it rests on, in at most %d bytes", record.MaxFreeText))
	case len(e.Subjects) > maxAsked || slices.ContainsFunc(e.Subjects, record.NHSNumber.IsZero):
		return invalid("an erasure about a person needs their numbers, at most 64")
	}
	return nil
}

// erasable finds what may be erased, in one state of the ledger. What it finds is looked at again in the transaction that erases it.
func (l *Ledger) erasable(ctx context.Context, e Erasure) (units []unit, kept int, err error) {
	err = l.view(ctx, func(r Reader) error {
		keys, err := l.keysFor(r)
		if err != nil {
			return err
		}
		g := &gathering{r: r, keys: keys, now: l.clock(), accesses: map[uint64]*access{}, objections: map[string]*chain{}, reviews: map[uint64]uint64{}, reviewed: map[uint64]*access{}, alerts: map[uint64]*access{}}
		head, err := r.Head()
		if err != nil {
			return err
		}
		if err := r.EachAlert(func(a AlertRow) error { g.reviews[a.Position] = a.Review; return nil }); err != nil {
			return err
		}
		if len(e.Subjects) == 0 {
			err = g.before(e.Before, head.Size)
		} else {
			err = g.about(e, head.Size)
		}
		if err != nil {
			return err
		}
		units, kept = g.units()
		return nil
	})
	return units, kept, err
}

// gathering sorts entries into what belongs together.
type gathering struct {
	r          Reader
	keys       *Keys
	now        time.Time
	accesses   map[uint64]*access // by the position of their Begin
	objections map[string]*chain  // and delegations
	reviews    map[uint64]uint64  // by the position of an Override: its Review, 0 for none
	reviewed   map[uint64]*access // by the position of an Override
	alerts     map[uint64]*access // by the position of an Alert
	single     []unit
	overrides  []uint64 // whose Begin has not come
	asked      int
}

type access struct {
	positions []uint64
	closed    bool
	override  uint64
}

type chain struct {
	positions []uint64
	binds     bool
	listed    bool
}

func (g *gathering) before(t time.Time, size uint64) error {
	for from := uint64(0); from < size; {
		page, err := g.r.Entries(from, verifyPage)
		if err != nil {
			return err
		}
		for i := range page {
			if !page[i].Time.Before(t) {
				return nil
			}
			if err := g.take(&page[i]); err != nil {
				return err
			}
			from = page[i].Position + 1
		}
		if len(page) == 0 {
			return nil
		}
	}
	return nil
}

func (g *gathering) about(e Erasure, size uint64) error {
	var all []uint64
	for before := size; ; {
		page, err := g.r.Search(Query{All: [][]Mark{g.keys.persons(e.Subjects)}, Until: e.Before, Before: before, Limit: maxFound})
		if err != nil {
			return err
		}
		if all = append(all, page...); len(page) < maxFound {
			break
		}
		before = page[len(page)-1]
	}
	slices.Sort(all)
	for _, position := range all {
		entry, err := entryAt(g.r, position)
		if err != nil {
			return err
		}
		if e.Basis != BasisRetention {
			if shared, err := g.shared(&entry, e.Subjects); err != nil {
				return err
			} else if shared {
				g.asked++ // and kept
				continue
			}
		}
		if err := g.take(&entry); err != nil {
			return err
		}
	}
	return nil
}

// shared reports whether an entry tells of a look that somebody else was looked at in too.
func (g *gathering) shared(e *Entry, asked []record.NHSNumber) (bool, error) {
	if e.Sealed == nil || e.Type != TypeRead {
		return false, nil
	}
	p, err := decode(g.keys, e)
	if err != nil {
		return false, err
	}
	numbers := reveal(asked)
	return slices.ContainsFunc(p.Question.Subjects, func(n string) bool { return !slices.Contains(numbers, n) }), nil
}

// take puts one entry, in order of position, where it belongs.
func (g *gathering) take(e *Entry) error {
	if e.Sealed == nil || !e.Type.erasable() {
		return nil
	}
	p, err := decode(g.keys, e)
	if err != nil {
		return err
	}
	g.asked++
	switch {
	case e.Type == TypeOverride:
		g.overrides = append(g.overrides, e.Position)
	case e.Type == TypeBegin:
		a := &access{positions: []uint64{e.Position}, override: p.Override}
		if i := slices.Index(g.overrides, p.Override); p.Override != 0 && i >= 0 {
			g.overrides = slices.Delete(g.overrides, i, i+1)
			a.positions = append(a.positions, p.Override)
			g.reviewed[p.Override] = a
		}
		g.accesses[e.Position] = a
	case e.Type == TypeReview:
		if a := g.reviewed[p.Override]; a != nil {
			a.positions = append(a.positions, e.Position)
		}
	case e.Type == TypeAlert:
		g.alerts[e.Position] = &access{positions: []uint64{e.Position}}
	case e.Type == TypeHandled:
		if a := g.alerts[p.Handled.Alert]; a != nil {
			a.positions = append(a.positions, e.Position)
		}
	case p.Opens != 0:
		if a := g.accesses[p.Opens]; a != nil {
			a.positions, a.closed = append(a.positions, e.Position), a.closed || e.Type.Closes()
		}
	case e.Type == TypeObjection:
		in := &reading{}
		o := in.objection(*p.Objection, e)
		g.state(o.ID, e, p, in.bad || o.Status != consent.Withdrawn && o.Status != consent.Declined && (o.Until.IsZero() || o.Until.After(g.now)))
	case e.Type == TypeDelegation:
		in := &reading{}
		d := in.delegation(*p.Delegation, e)
		g.state(d.ID, e, p, in.bad || d.Status != consent.Withdrawn && d.Until.After(g.now))
	default:
		g.single = append(g.single, unit{positions: []uint64{e.Position}})
	}
	return nil
}

// state notes one more state of an objection or delegation, and whether it binds or may bind yet.
func (g *gathering) state(id string, e *Entry, p *payload, binds bool) {
	c := g.objections[id]
	if c == nil {
		c = &chain{}
		g.objections[id] = c
	}
	c.positions, c.listed, c.binds = append(c.positions, e.Position), c.listed || p.Import != 0, binds
}

// units returns what may go, oldest first, and how many entries must stay.
func (g *gathering) units() ([]unit, int) {
	out := g.single
	for _, a := range g.accesses {
		if a.closed && (a.override == 0 || slices.Contains(a.positions, a.override) && slices.Contains(a.positions, g.reviews[a.override])) { // with its newest review
			out = append(out, unit{positions: a.positions})
		}
	}
	for position, a := range g.alerts {
		if slices.Contains(a.positions, g.reviews[position]) { // with what closed it
			out = append(out, unit{positions: a.positions})
		}
	}
	for id, c := range g.objections {
		if !c.binds && !c.listed {
			out = append(out, unit{positions: c.positions, objection: id})
		}
	}
	gone := 0
	for i := range out {
		slices.Sort(out[i].positions)
		gone += len(out[i].positions)
	}
	slices.SortFunc(out, func(a, b unit) int { return int(int64(a.positions[0]) - int64(b.positions[0])) })
	return out, g.asked - gone
}

// erasable reports whether entries of the type hold anything of a person, and can be spared.
func (t EntryType) erasable() bool {
	switch t {
	case TypeKey, TypePolicy, TypeImport, TypeImported, TypeAdopted, TypeRedact:
		return false
	}
	return true
}

// erase erases units, each whole or not at all, and appends the entry that names them. A unit that something has happened to since it was found is kept.
func (w *writer) erase(by Actor, e Erasure, units []unit) (Receipt, int, error) {
	type one struct {
		position uint64
		marks    []Mark
	}
	var gone []one
	var dropped []string
	for _, u := range units {
		var of []one
		var begin *Access
		ok := true
		if u.objection != "" {
			row, known, err := w.tx.Objection(u.objection)
			if w.failed(err) {
				return Receipt{}, 0, w.err
			}
			ok = known && row.Position == u.positions[len(u.positions)-1] // all its states, and no newer one
		}
		for _, position := range u.positions {
			entry, err := entryAt(w.tx, position)
			if err != nil {
				return Receipt{}, 0, w.verdict(err)
			}
			if ok = ok && entry.Sealed != nil; ok && (entry.Type == TypeOverride || entry.Type == TypeAlert) { // it goes with its newest review, or with what closed it
				rows, err := w.tx.Alerts(AnyAlert, position, 1)
				if w.failed(err) {
					return Receipt{}, 0, w.err
				}
				ok = len(rows) == 1 && rows[0].Position == position && slices.Contains(u.positions, rows[0].Review)
			}
			if !ok {
				break
			}
			p, err := decode(w.keys, &entry)
			if err != nil {
				return Receipt{}, 0, w.verdict(err)
			}
			if entry.Type == TypeBegin {
				open, err := w.tx.IsOpen(position)
				if w.failed(err) {
					return Receipt{}, 0, w.err
				}
				in := &reading{}
				begin, ok = in.access(*p.Access), !open && !in.bad
			}
			access := begin
			if p.Opens == 0 {
				access = nil // a review or an alert belongs to no access
			}
			marks, err := marksOf(w.keys, &entry, p, access)
			if err != nil {
				return Receipt{}, 0, w.verdict(err)
			}
			of = append(of, one{position, marks})
		}
		if ok {
			gone = append(gone, of...)
			if u.objection != "" {
				dropped = append(dropped, u.objection)
			}
		}
	}
	if len(gone) == 0 {
		return Receipt{}, 0, nil
	}
	slices.SortFunc(gone, func(a, b one) int { return int(int64(a.position) - int64(b.position)) })
	body := &redactBody{Basis: string(e.Basis), Reference: e.Reference, Count: uint64(len(gone))}
	for _, g := range gone {
		if n := len(body.Ranges); n > 0 && body.Ranges[n-1].From+body.Ranges[n-1].Count == g.position {
			body.Ranges[n-1].Count++
		} else {
			body.Ranges = append(body.Ranges, rangeBody{g.position, 1})
		}
	}
	receipt, err := w.append(TypeRedact, &payload{Actor: actorOut(by), Redact: body}, w.epoch.who(by.Requester))
	if err != nil {
		return Receipt{}, 0, err
	}
	for _, g := range gone {
		if w.failed(w.tx.Erase(g.position, g.marks)) {
			return Receipt{}, 0, w.err
		}
	}
	for _, id := range dropped {
		if w.failed(w.tx.DropObjection(id)) {
			return Receipt{}, 0, w.err
		}
	}
	return receipt, len(gone), nil
}

// purge has the store do away with what is left of erased entries, between two transactions.
func (l *Ledger) purge(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case l.between <- func() { done <- l.store.Purge(ctx) }:
	case <-ctx.Done():
		return fmt.Errorf("%w: what was erased may still be found in the store's files: erase again", ErrUnavailable)
	case <-l.ending:
		return fmt.Errorf("%w: it is shutting down, and what was erased may still be found in the store's files: erase again", ErrUnavailable)
	}
	if err := <-done; err != nil {
		return fmt.Errorf("%w: what was erased may still be found in the store's files: erase again: %w", ErrUnavailable, err)
	}
	return nil
}

// redacted are the positions that a Redact entry names.
func (b *redactBody) positions(f func(uint64)) bool {
	total := uint64(0)
	for _, r := range b.Ranges {
		if total += r.Count; r.Count > maxErased || r.From > math.MaxInt64 || total > maxErased {
			return false
		}
		for i := range r.Count {
			f(r.From + i)
		}
	}
	return total == b.Count
}
