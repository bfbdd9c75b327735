package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"reflect"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
)

// model is what a store should hold, kept in the plainest way.
type model struct {
	head        audit.Head
	entries     []audit.Entry
	marks       map[positioned]bool
	objections  map[string]audit.ObjectionRow
	open        map[uint64]held
	alerts      []audit.AlertRow
	nodes       map[[2]uint64][32]byte
	checkpoints map[uint64]audit.Checkpoint
}

type positioned struct {
	audit.Mark
	position uint64
}

type held struct {
	due    time.Time
	holder string
}

func newModel() *model {
	return &model{marks: map[positioned]bool{}, objections: map[string]audit.ObjectionRow{}, open: map[uint64]held{}, nodes: map[[2]uint64][32]byte{},
		checkpoints: map[uint64]audit.Checkpoint{}}
}

func (m *model) clone() *model {
	c := *m
	c.entries, c.alerts, c.head.Frontier = slices.Clone(m.entries), slices.Clone(m.alerts), slices.Clone(m.head.Frontier)
	c.marks, c.objections, c.open, c.nodes, c.checkpoints = maps.Clone(m.marks), maps.Clone(m.objections), maps.Clone(m.open), maps.Clone(m.nodes), maps.Clone(m.checkpoints)
	return &c
}

// twice writes to a store and to the model.
type twice struct {
	tx audit.Tx
	m  *model
}

func (w twice) append(e audit.Entry, marks []audit.Mark) error {
	if err := w.tx.Append(e, marks); err != nil {
		return err
	}
	w.m.entries = append(w.m.entries, e)
	w.m.head.Size, w.m.head.Newest = e.Position+1, e.Time
	for _, k := range marks {
		w.m.marks[positioned{k, e.Position}] = true
	}
	return nil
}

// plant gives the tree as many hashes as the size asks for; a store does not know how they are made.
func (w twice) plant() error { return w.plantAs(1) }

func (w twice) plantAs(variety byte) error {
	frontier := make([][32]byte, bits.OnesCount64(w.m.head.Size))
	for i := range frontier {
		frontier[i] = [32]byte{byte(w.m.head.Size), byte(i), variety}
	}
	node := audit.Node{Level: 1 + uint8(w.m.head.Size%3), Index: w.m.head.Size / 3, Hash: [32]byte{byte(w.m.head.Size), variety}}
	if err := w.tx.PutTree(frontier, []audit.Node{node}); err != nil {
		return err
	}
	w.m.head.Frontier = frontier
	w.m.nodes[[2]uint64{uint64(node.Level), node.Index}] = node.Hash
	return nil
}

func (w twice) checkpoint(c audit.Checkpoint) error {
	if err := w.tx.PutCheckpoint(c); err != nil {
		return err
	}
	w.m.checkpoints[c.Size] = c
	return nil
}

func (w twice) erase(position uint64) error {
	var marks []audit.Mark
	for k := range w.m.marks {
		if k.position == position {
			marks = append(marks, k.Mark)
		}
	}
	if err := w.tx.Erase(position, marks); err != nil {
		return err
	}
	w.m.entries[position].Sealed = nil
	for _, k := range marks {
		delete(w.m.marks, positioned{k, position})
	}
	return nil
}

func (w twice) object(o audit.ObjectionRow) error {
	if err := w.tx.PutObjection(o); err != nil {
		return err
	}
	w.m.objections[o.ID] = o
	return nil
}

func (w twice) drop(id string) error {
	if err := w.tx.DropObjection(id); err != nil {
		return err
	}
	delete(w.m.objections, id)
	return nil
}

func (w twice) open(position uint64, h held) error {
	if err := w.tx.OpenAccess(position, h.due, h.holder); err != nil {
		return err
	}
	w.m.open[position] = h
	return nil
}

func (w twice) close(position uint64) error {
	if err := w.tx.CloseAccess(position); err != nil {
		return err
	}
	delete(w.m.open, position)
	return nil
}

func (w twice) alert(position uint64, kind audit.AlertKind) error {
	if err := w.tx.PutAlert(position, kind); err != nil {
		return err
	}
	w.m.alerts = append(w.m.alerts, audit.AlertRow{Position: position, Kind: kind})
	return nil
}

func (w twice) delivered(position uint64, when time.Time) error {
	if err := w.tx.AlertDelivered(position, when); err != nil {
		return err
	}
	for i, a := range w.m.alerts {
		if a.Position == position && a.Delivered.IsZero() {
			w.m.alerts[i].Delivered = when
		}
	}
	return nil
}

func (w twice) reviewed(position, review uint64) error {
	if err := w.tx.AlertReviewed(position, review); err != nil {
		return err
	}
	for i, a := range w.m.alerts {
		if a.Position == position {
			w.m.alerts[i].Review = review
		}
	}
	return nil
}

// The same questions, answered by the model.

func page[T any](list []T, limit int) []T { return list[:min(len(list), limit)] }

func (m *model) newest(any []audit.Mark) (uint64, bool) {
	at, found := uint64(0), false
	for k := range m.marks {
		if slices.Contains(any, k.Mark) && (!found || k.position > at) {
			at, found = k.position, true
		}
	}
	return at, found
}

func (m *model) search(q audit.Query) []uint64 {
	var out []uint64
	for _, e := range m.entries {
		if e.Position >= q.Before || e.Position < q.Least || !q.From.IsZero() && e.Time.Before(q.From) || !q.Until.IsZero() && !e.Time.Before(q.Until) ||
			q.Types != nil && !slices.Contains(q.Types, e.Type) {
			continue
		}
		all := true
		for _, group := range q.All {
			some := false
			for _, k := range group {
				some = some || m.marks[positioned{k, e.Position}]
			}
			all = all && some
		}
		if all {
			out = append(out, e.Position)
		}
	}
	slices.Reverse(out)
	return page(out, q.Limit)
}

func (m *model) due(by time.Time, of func(held) bool, limit int) []uint64 {
	var out []uint64
	for p, h := range m.open {
		if (by.IsZero() || !h.due.After(by)) && of(h) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return page(out, limit)
}

// differs compares everything that can be asked of a store with the model, and says what is not the same.
func (m *model) differs(r audit.Reader) error {
	var errs []error
	same := func(what string, got, want any, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		} else if g, w := reflect.ValueOf(got), reflect.ValueOf(want); !(g.Kind() == reflect.Slice && g.Len() == 0 && w.Len() == 0) && !reflect.DeepEqual(got, want) {
			errs = append(errs, fmt.Errorf("%s: %v, want %v", what, got, want))
		}
	}
	head, err := r.Head()
	same("the head", head, m.head, err)
	for i, e := range m.entries {
		got, err := r.Entry(e.Position)
		same(fmt.Sprintf("entry %d", i), got, e, err)
	}
	if _, err := r.Entry(m.head.Size); !errors.Is(err, audit.ErrNoEntry) {
		errs = append(errs, fmt.Errorf("the entry after the last: %w, want ErrNoEntry", err))
	}
	size := int(m.head.Size)
	for _, from := range []int{0, size / 2, size + 5} {
		for _, limit := range []int{2, size + 1} {
			want := page(m.entries[min(from, size):], limit)
			got, err := r.Entries(uint64(from), limit)
			same("entries", got, want, err)
			bare := slices.Clone(want)
			for i := range bare {
				bare[i].Sealed = nil
			}
			got, err = r.Leaves(uint64(from), limit)
			same("leaves", got, bare, err)
			var signed []audit.Checkpoint
			for _, s := range slices.Sorted(maps.Keys(m.checkpoints)) {
				if s >= uint64(from) {
					signed = append(signed, m.checkpoints[s])
				}
			}
			checkpoints, err := r.Checkpoints(uint64(from), limit)
			same("checkpoints", checkpoints, page(signed, limit), err)
			for level := range uint8(4) {
				var nodes []audit.Node
				for at, hash := range m.nodes {
					if at[0] == uint64(level) && at[1] >= uint64(from) {
						nodes = append(nodes, audit.Node{Level: level, Index: at[1], Hash: hash})
					}
				}
				for _, e := range m.entries[min(from, size):] {
					if level == 0 {
						nodes = append(nodes, audit.Node{Index: e.Position, Hash: e.Leaf})
					}
				}
				slices.SortFunc(nodes, func(a, b audit.Node) int { return cmp.Compare(a.Index, b.Index) })
				got, err := r.Nodes(level, uint64(from), limit)
				same("nodes", got, page(nodes, limit), err)
			}
			for _, kind := range []audit.EntryType{audit.TypeBegin, audit.TypeObjection, audit.TypePolicy} {
				var want []uint64
				for _, e := range m.entries[min(from, size):] {
					if e.Type == kind {
						want = append(want, e.Position)
					}
				}
				got, err := r.OfType(kind, uint64(from), limit)
				same("entries of a type", got, page(want, limit), err)
			}
		}
	}
	last, ok, err := r.LastCheckpoint()
	var want audit.Checkpoint
	for _, c := range m.checkpoints {
		if c.Size > want.Size {
			want = c
		}
	}
	same("the last checkpoint", []any{last, ok}, []any{want, want.Size > 0}, err)
	for _, marks := range [][]audit.Mark{vocabulary[:1], vocabulary[1:3], vocabulary, nil, {{Kind: audit.MarkKey, Value: "nobody's"}}} {
		at, found, err := r.Newest(marks)
		wantAt, wantFound := m.newest(marks)
		same("the newest of some marks", []any{at, found}, []any{wantAt, wantFound}, err)
	}
	for _, positions := range [][]uint64{nil, {m.head.Size}, {2, 0}, {5, 3, 9, m.head.Size + 9}} {
		var want []audit.Entry
		for _, p := range positions {
			if p < m.head.Size {
				want = append(want, m.entries[p])
			}
		}
		got, err := r.EntriesAt(positions)
		same("entries at positions", got, want, err)
	}
	var each [][]uint64
	for i, q := range m.queries() {
		got, err := r.Search(q)
		same(fmt.Sprintf("search %d", i), got, m.search(q), err)
		each = append(each, got)
	}
	all, err := r.Searches(m.queries())
	same("all searches at once", all, each, err)
	marks := map[positioned]bool{}
	err = r.EachMark(func(p uint64, k audit.Mark) error {
		marks[positioned{k, p}] = true
		_, err := r.Entry(p) // it may read meanwhile
		return err
	})
	same("every mark", marks, m.marks, err)
	rows := map[string]audit.ObjectionRow{}
	err = r.EachObjection(func(o audit.ObjectionRow) error {
		rows[o.ID] = o
		again, ok, err := r.Objection(o.ID)
		same("an objection", []any{again, ok}, []any{o, true}, err)
		return nil
	})
	same("every objection", rows, m.objections, err)
	_, ok, err = r.Objection("nobody's")
	same("an objection that is not there", ok, false, err)
	for _, persons := range [][]string{nil, people[:1], people[1:], people, {people[0], people[0]}} {
		want := map[string]audit.ObjectionRow{}
		for _, o := range m.objections {
			if slices.Contains(persons, o.Person) {
				want[o.ID] = o
			}
		}
		list, err := r.ObjectionsOf(slices.Compact(slices.Clone(persons)))
		got := map[string]audit.ObjectionRow{}
		for _, o := range list {
			got[o.ID] = o
		}
		same("the objections of some people", got, want, err)
		same("how many objections they have", len(list), len(want), err)
	}
	for p := range m.head.Size + 1 {
		_, want := m.open[p]
		got, err := r.IsOpen(p)
		same("whether an access is open", got, want, err)
	}
	for _, by := range []time.Time{{}, at(0), at(20), at(1000)} {
		for _, limit := range []int{1, 100} {
			got, err := r.Open(by, limit)
			same("open accesses", got, m.due(by, func(held) bool { return true }, limit), err)
			for _, holder := range []string{"", "one", "two"} {
				got, err := r.OpenOf(holder, by, limit)
				same("open accesses of a replica", got, m.due(by, func(h held) bool { return h.holder == holder }, limit), err)
			}
		}
	}
	n, err := r.OpenCount()
	same("how many are open", n, len(m.open), err)
	var alerts []audit.AlertRow
	err = r.EachAlert(func(a audit.AlertRow) error { alerts = append(alerts, a); return nil })
	slices.SortFunc(alerts, func(a, b audit.AlertRow) int { return cmp.Compare(a.Position, b.Position) })
	sorted := slices.SortedFunc(slices.Values(m.alerts), func(a, b audit.AlertRow) int { return cmp.Compare(a.Position, b.Position) })
	same("every alert", alerts, sorted, err)
	for which, is := range map[audit.AlertState]func(audit.AlertRow) bool{
		audit.AnyAlert:    func(audit.AlertRow) bool { return true },
		audit.Undelivered: func(a audit.AlertRow) bool { return a.Delivered.IsZero() },
		audit.Unreviewed:  func(a audit.AlertRow) bool { return a.Review == 0 },
	} {
		for _, from := range []uint64{0, m.head.Size / 2} {
			var want []audit.AlertRow
			for _, a := range sorted {
				if a.Position >= from && is(a) {
					want = append(want, a)
				}
			}
			got, err := r.Alerts(which, from, 2)
			same("alerts "+string(which), got, page(want, 2), err)
		}
	}
	return errors.Join(errs...)
}

// queries are searches of every shape: each set of marks with some set of types, between some bounds.
func (m *model) queries() []audit.Query {
	var out []audit.Query
	all := [][][]audit.Mark{nil, {vocabulary[:1]}, {vocabulary[:4]}, {vocabulary[:2], vocabulary[2:5]}, {vocabulary[4:], vocabulary[:1], vocabulary[3:]}}
	types := [][]audit.EntryType{nil, {audit.TypeBegin}, {audit.TypeObjection, audit.TypeRead, audit.TypeChunk}}
	bounds := []audit.Query{{Before: 1 << 62, Limit: 100}, {Before: m.head.Size / 2, Limit: 3}, {From: at(3), Before: 1 << 62, Limit: 5},
		{Until: at(int(m.head.Size) / 2), Before: 1000, Limit: 5}, {From: at(2).Add(time.Nanosecond), Until: at(6), Before: 1000, Limit: 2}}
	for i := range len(all) * len(types) {
		q := bounds[i%len(bounds)] // 5 and 3 have no common factor, and i+i/5 meets every pair in turn
		q.All, q.Types = all[(i+i/5)%len(all)], types[i%len(types)]
		out = append(out, q)
		q.Rare, q.Least = i%2 == 0, uint64(i%4)
		out = append(out, q)
	}
	return out
}
