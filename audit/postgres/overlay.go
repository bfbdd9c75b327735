package postgres

import (
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// How a transaction reads: the questions that every request asks are answered from what was fetched ahead and what was not sent yet; before any other,
// what was written is sent.

// Entry implements audit.Reader.
func (t *tx) Entry(position uint64) (audit.Entry, error) {
	if list := t.written.entries; len(list) > 0 && position >= list[0].Position && position-list[0].Position < uint64(len(list)) {
		return list[position-list[0].Position], nil
	}
	if e, ok := t.fetched.entries[position]; ok {
		return e, nil
	}
	return t.reader.Entry(position)
}

// Newest implements audit.Reader.
func (t *tx) Newest(marks []audit.Mark) (newest uint64, found bool, err error) {
	var unknown []audit.Mark
	for _, m := range marks {
		if p, ok := t.marked[m]; ok {
			newest, found = max(newest, p), true
			continue // higher than any that was kept before
		}
		p, ok := t.fetched.newest[m]
		switch {
		case !ok:
			unknown = append(unknown, m)
		case p.is:
			newest, found = max(newest, p.value), true
		}
	}
	if len(unknown) > 0 {
		p, ok, err := t.reader.Newest(unknown)
		if err != nil {
			return 0, false, err
		}
		if ok {
			newest, found = max(newest, p), true
		}
	}
	return newest, found, nil
}

// Objection implements audit.Reader.
func (t *tx) Objection(id string) (audit.ObjectionRow, bool, error) {
	if o, ok := t.written.objections[id]; ok {
		if o == nil {
			return audit.ObjectionRow{}, false, nil
		}
		return *o, true, nil
	}
	return t.reader.Objection(id)
}

// ObjectionsOf implements audit.Reader.
func (t *tx) ObjectionsOf(persons []string) ([]audit.ObjectionRow, error) {
	var rows []audit.ObjectionRow
	var unknown []string
	asked := map[string]bool{}
	for _, p := range persons {
		if asked[p] {
			continue
		}
		asked[p] = true
		known, ok := t.rows[p]
		if !ok {
			unknown = append(unknown, p)
		}
		rows = append(rows, known...)
	}
	if len(unknown) > 0 {
		more, err := t.reader.ObjectionsOf(unknown)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	var out []audit.ObjectionRow
	for _, o := range rows {
		if _, changed := t.written.objections[o.ID]; !changed {
			out = append(out, o)
		}
	}
	for _, o := range t.written.objections {
		if o != nil && asked[o.Person] {
			out = append(out, *o)
		}
	}
	return out, nil
}

// IsOpen implements audit.Reader.
func (t *tx) IsOpen(position uint64) (bool, error) {
	if _, ok := t.opened[position]; ok {
		return true, nil
	}
	if t.closed[position] {
		return false, nil
	}
	if open, ok := t.fetched.open[position]; ok {
		return open, nil
	}
	return t.reader.IsOpen(position)
}

// Entries implements audit.Reader.
func (t *tx) Entries(from uint64, limit int) ([]audit.Entry, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Entries(from, limit)
}

// EntriesAt implements audit.Reader.
func (t *tx) EntriesAt(positions []uint64) ([]audit.Entry, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.EntriesAt(positions)
}

// Leaves implements audit.Reader.
func (t *tx) Leaves(from uint64, limit int) ([]audit.Entry, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Leaves(from, limit)
}

// Nodes implements audit.Reader.
func (t *tx) Nodes(level uint8, from uint64, limit int) ([]audit.Node, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Nodes(level, from, limit)
}

// Checkpoints implements audit.Reader.
func (t *tx) Checkpoints(from uint64, limit int) ([]audit.Checkpoint, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Checkpoints(from, limit)
}

// LastCheckpoint implements audit.Reader.
func (t *tx) LastCheckpoint() (audit.Checkpoint, bool, error) {
	if err := t.flush(); err != nil {
		return audit.Checkpoint{}, false, err
	}
	return t.reader.LastCheckpoint()
}

// OfType implements audit.Reader.
func (t *tx) OfType(kind audit.EntryType, from uint64, limit int) ([]uint64, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.OfType(kind, from, limit)
}

// Search implements audit.Reader.
func (t *tx) Search(q audit.Query) ([]uint64, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Search(q)
}

// Searches implements audit.Reader.
func (t *tx) Searches(list []audit.Query) ([][]uint64, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Searches(list)
}

// EachMark implements audit.Reader.
func (t *tx) EachMark(f func(uint64, audit.Mark) error) error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.reader.EachMark(f)
}

// EachObjection implements audit.Reader.
func (t *tx) EachObjection(f func(audit.ObjectionRow) error) error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.reader.EachObjection(f)
}

// Open implements audit.Reader.
func (t *tx) Open(due time.Time, limit int) ([]uint64, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Open(due, limit)
}

// OpenOf implements audit.Reader.
func (t *tx) OpenOf(holder string, due time.Time, limit int) ([]uint64, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.OpenOf(holder, due, limit)
}

// OpenCount implements audit.Reader.
func (t *tx) OpenCount() (int, error) {
	if err := t.flush(); err != nil {
		return 0, err
	}
	return t.reader.OpenCount()
}

// EachAlert implements audit.Reader.
func (t *tx) EachAlert(f func(audit.AlertRow) error) error {
	if err := t.flush(); err != nil {
		return err
	}
	return t.reader.EachAlert(f)
}

// Alerts implements audit.Reader.
func (t *tx) Alerts(which audit.AlertState, from uint64, limit int) ([]audit.AlertRow, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.reader.Alerts(which, from, limit)
}
