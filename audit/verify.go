package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Report is what Verify found.
type Report struct {
	Entries    uint64
	ByType     map[EntryType]uint64
	Open       int // Begins without a closing entry
	Objections int // objections and delegations, in any status
	Alerts     int
	Erased     int       // entries whose payload was erased, and named by a Redact entry
	Problems   []Problem // the first 100
	Found      int       // how many problems there are in all
}

// Problem is something that is not as it must be.
type Problem struct {
	Position uint64
	Text     string // fixed words and numbers; nothing of a person
}

const maxProblems = 100

// Sound returns nil if there was no problem, else an error that wraps ErrDamaged and tells the first.
func (r Report) Sound() error {
	if r.Found == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d problems, the first at entry %d: %s", ErrDamaged, r.Found, r.Problems[0].Position, r.Problems[0].Text)
}

func (r *Report) problem(position uint64, format string, args ...any) {
	if r.Found++; len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{position, fmt.Sprintf(format, args...)})
	}
}

// Verify reads the whole ledger in one consistent state and checks that
//   - positions are contiguous from 0 and agree with the head, and times never step back;
//   - every leaf and every commitment is that of its entry, and every payload opens and is in canonical form;
//   - every Begin has at most one closing entry, and those without one are the accesses that are open;
//   - every Override has an alert, and stands directly before its Begin; every Review is of an Override, and about the same person;
//   - every Alert is of an access in front of it, and every Handled of an Alert that it could be done to;
//   - every Chunk and Released entry shows nothing that an objection in force at its position forbids, to a carer nothing but what a delegation in force
//     lets them see, nothing that its decision does not permit, and names the version of the preferences that stood then (replay);
//   - what entries are found by, the objections, the open accesses and the tree are what the entries make of them.
//
// It shares no code with package consent, on purpose. What it finds is in the report; the error is of the reading alone.
func Verify(ctx context.Context, store Store, keys *Keys) (Report, error) {
	out := Report{ByType: map[EntryType]uint64{}}
	err := store.View(ctx, func(r Reader) error {
		v := &verifier{report: &out, keys: keys, open: map[uint64]*opened{}, objections: map[string]*stated{}, people: map[record.NHSNumber]map[string]*stated{},
			overrides: map[uint64]bool{}, alerts: map[uint64]*alerted{}, keyEpochs: map[uint32]bool{}, erased: map[uint64]EntryType{}, redacted: map[uint64]uint64{}, imports: map[uint64]*incoming{}}
		return v.walk(ctx, r)
	})
	return out, err
}

// Verify checks the whole ledger while it runs; see the function of the same name.
func (l *Ledger) Verify(ctx context.Context) (Report, error) {
	return Verify(ctx, l.store, l.keys.Load())
}

type verifier struct {
	report     *Report
	keys       *Keys
	newest     time.Time
	open       map[uint64]*opened
	objections map[string]*stated
	people     map[record.NHSNumber]map[string]*stated
	overrides  map[uint64]bool     // Override entries whose Begin has not come yet
	alerts     map[uint64]*alerted // by position of the Override or Alert
	keyEpochs  map[uint32]bool
	purposes   bool // what ends an access names its purpose from here on
	imports    map[uint64]*incoming
	index      indexSum
	tree       tree
	erased     map[uint64]EntryType
	redacted   map[uint64]uint64 // by the position of an erased entry: the Redact entry that names it
	gap        bool              // an entry is missing: there is no tree to compare with
}

type opened struct {
	access   *Access
	override uint64
}

type stated struct {
	row        ObjectionRow
	about      record.NHSNumber
	objection  *consent.Objection // or
	delegation *consent.Delegation
	list       uint64 // position of the Import that brings it in, 0 for none
}

// alerted is what the entries say of an override: whose record, and the position of its newest review; of an Alert, that of what closed it.
type alerted struct {
	access  *Access
	expires time.Time
	review  uint64
	gone    bool // erased, and its reviews with it
}

// incoming is a list of objections: its rows stand from the entry that ended it, or never.
type incoming struct {
	rows  uint64
	ended uint64
	stood bool
}

// indexSum is a sum of hashes that does not depend on order: two indexes with the same sum hold the same marks.
type indexSum struct {
	sum   [32]byte
	marks int
}

func (s *indexSum) add(position uint64, m Mark) {
	h := sha256.Sum256(append(binary.BigEndian.AppendUint64([]byte{byte(m.Kind)}, position), m.Value...))
	for i := range h {
		s.sum[i] ^= h[i]
	}
	s.marks++
}

const verifyPage = 64

func (v *verifier) walk(ctx context.Context, r Reader) error {
	head, err := r.Head()
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, err := r.Entries(v.report.Entries, verifyPage)
		if err != nil {
			return err
		}
		for i := range page {
			if page[i].Position != v.report.Entries {
				v.report.problem(v.report.Entries, "the entry is missing")
				v.report.Entries, v.gap = page[i].Position, true
			}
			v.entry(&page[i])
			if !v.gap {
				v.tree.add(v.report.Entries, page[i].Leaf)
			}
			v.report.Entries++
		}
		if len(page) < verifyPage {
			break
		}
	}
	if head.Size != v.report.Entries || !head.Newest.Equal(v.newest) {
		v.report.problem(head.Size, "the head row does not agree with the entries")
	}
	v.redactions()
	if err := v.sameTree(r, head); err != nil {
		return err
	}
	return v.projections(r)
}

func (v *verifier) entry(e *Entry) {
	v.report.ByType[e.Type]++
	if e.Time.Before(v.newest) {
		v.report.problem(e.Position, "its time is before that of the entry in front")
	}
	v.newest = e.Time
	if e.Sealed == nil {
		v.gone(e)
		return
	}
	p, err := decode(v.keys, e)
	if err != nil {
		v.report.problem(e.Position, "%s", err)
		return
	}
	f, err := found(v.keys, e)
	if err != nil {
		v.report.problem(e.Position, "%s", err)
		return
	}
	if (e.Position == 0) != (e.Type == TypeKey && len(v.keyEpochs) == 0) {
		v.report.problem(e.Position, "a ledger begins with a Key entry")
	}
	var begin *opened
	switch { // the payload is that of its type: decode sees to it
	case e.Type == TypeBegin:
		v.open[e.Position] = &opened{f.Access, p.Override}
		if p.Override != 0 && (p.Override != e.Position-1 || !v.overrides[p.Override]) {
			v.report.problem(e.Position, "its Override does not stand directly before it")
		}
		if p.Override == 0 && f.Access.Purpose == record.BreakGlass {
			v.report.problem(e.Position, "the glass was broken without an Override")
		}
		delete(v.overrides, p.Override)
	case e.Type == TypeOverride:
		v.overrides[e.Position] = true
		v.alerts[e.Position] = &alerted{access: f.Access, expires: f.Expires}
	case e.Type == TypeAlert:
		if p.Alert.Of >= e.Position {
			v.report.problem(e.Position, "it is of no access in front of it")
		}
		v.alerts[e.Position] = &alerted{}
	case e.Type == TypeHandled:
		a := v.alerts[p.Handled.Alert]
		closed := a != nil && a.review != 0
		switch step := AlertStep(p.Handled.Step); {
		case a == nil || a.access != nil:
			v.report.problem(e.Position, "it is of no Alert")
		case step != AlertTaken && step != AlertClosed && step != AlertReopened || closed != (step == AlertReopened) && !a.gone:
			v.report.problem(e.Position, "it was done to an alert that was not so")
		case step == AlertClosed:
			a.review = e.Position
		case step == AlertReopened:
			a.review = 0
		}
	case e.Type == TypeReview:
		a := v.alerts[p.Override]
		switch {
		case a == nil || a.access == nil && !a.gone:
			v.report.problem(e.Position, "it reviews no Override")
			return
		case a.gone: // there is nothing left to compare with
		case p.Subject != a.access.Subject.Reveal() || !slices.Equal(p.Supersedes, reveal(a.access.Supersedes)):
			v.report.problem(e.Position, "it is about another person than the Override at %d", p.Override)
		}
		a.review = e.Position
	case e.Type == TypeRefused && f.Access != nil:
		v.purpose(e, p, f.Access)
	case e.Type.Closes() || e.Type == TypeChunk:
		if begin = v.open[p.Opens]; begin == nil {
			v.report.problem(e.Position, "there is no open access at %d", p.Opens)
			return
		}
		if p.Subject != begin.access.Subject.Reveal() || !slices.Equal(p.Supersedes, reveal(begin.access.Supersedes)) {
			v.report.problem(e.Position, "it is about another person than the access at %d", p.Opens)
		}
		v.purpose(e, p, begin.access)
		if e.Type == TypeChunk || e.Type == TypeReleased {
			v.replay(e, p, &f, begin)
		}
		if e.Type.Closes() {
			delete(v.open, p.Opens)
		}
	case e.Type == TypeObjection || e.Type == TypeDelegation:
		v.preference(e, p, &f)
	case e.Type == TypeImport:
		v.imports[e.Position] = &incoming{}
	case e.Type == TypeImported:
		list := v.imports[p.Opens]
		switch {
		case list == nil:
			v.report.problem(e.Position, "there is no import at %d", p.Opens)
		case list.ended != 0:
			v.report.problem(e.Position, "the import at %d had ended already", p.Opens)
		case p.Reason == "" && list.rows != p.List.New:
			v.report.problem(e.Position, "it puts %d objections in force, and says %d", list.rows, p.List.New)
			fallthrough
		default:
			list.ended, list.stood = e.Position, p.Reason == ""
		}
	case e.Type == TypeRedact:
		if !p.Redact.positions(func(position uint64) { v.redacted[position] = e.Position }) {
			v.report.problem(e.Position, "it does not name as many entries as it says")
		}
	case e.Type == TypeKey && p.Epoch.Number == 0:
		v.purposes = v.purposes || p.Epoch.Purposes
	case e.Type == TypeKey:
		v.purposes = v.purposes || p.Epoch.Purposes
		if epoch, ok := v.keys.epoch(p.Epoch.Number); !ok || epoch.fingerprint() != p.Epoch.Fingerprint || v.keyEpochs[p.Epoch.Number] {
			v.report.problem(e.Position, "the key epoch is not that of the keys, or began before")
		}
		v.keyEpochs[p.Epoch.Number] = true
	}
	var access *Access
	if begin != nil {
		access = begin.access
	}
	marks, err := marksOf(v.keys, e, p, access)
	if err != nil {
		v.report.problem(e.Position, "%s", err)
		return
	}
	slices.SortFunc(marks, func(a, b Mark) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value)) })
	for _, m := range slices.Compact(marks) {
		v.index.add(e.Position, m)
	}
}

// purpose checks what the end of an access, or its refusal, says that it was for: what it is found by.
func (v *verifier) purpose(e *Entry, p *payload, a *Access) {
	if want := namedPurpose(a.Purpose); e.Type.Closes() && p.Purpose != want && (p.Purpose != "" || v.purposes) {
		v.report.problem(e.Position, "it says another purpose than its access, or none")
	}
}

func (v *verifier) preference(e *Entry, p *payload, f *Found) {
	now := &stated{about: f.Subject, objection: f.Objection, delegation: f.Delegation}
	id := ""
	if f.Objection != nil {
		id = f.Objection.ID
	} else {
		id = f.Delegation.ID
	}
	before := v.objections[id]
	switch {
	case before != nil && (before.objection == nil) != (now.objection == nil):
		v.report.problem(e.Position, "it changes a delegation to an objection, or an objection to a delegation")
	case before == nil && p.Replaces != 0, before != nil && p.Replaces != before.row.Position:
		v.report.problem(e.Position, "it does not change the newest state of its objection")
	case before != nil && before.about != f.Subject:
		v.report.problem(e.Position, "it changes somebody else's objection")
	}
	if p.Import != 0 {
		switch list := v.imports[p.Import]; {
		case v.imports == nil: // the objections alone are looked at
		case list == nil || list.ended != 0:
			v.report.problem(e.Position, "it is of a list that is not on its way in")
		case p.Replaces != 0:
			v.report.problem(e.Position, "a list changes an objection")
		default:
			list.rows++
		}
	}
	if before != nil && before.list != 0 && v.imports != nil && (v.imports[before.list] == nil || !v.imports[before.list].stood) {
		v.report.problem(e.Position, "it changes an objection that never stood")
	}
	epoch, _ := v.keys.epoch(e.Epoch) // it opened, so the epoch is known
	now.list = p.Import
	now.row = ObjectionRow{id, epoch.hash(MarkPerson, f.Subject.Reveal()).Value, e.Position}
	v.objections[id] = now
	if v.people[f.Subject] == nil {
		v.people[f.Subject] = map[string]*stated{}
	}
	v.people[f.Subject][id] = now
}

// gone looks at what is left of an erased entry: its leaf must still be its own.
func (v *verifier) gone(e *Entry) {
	if v.erased[e.Position] = e.Type; e.Version != EntryVersion || e.leaf() != e.Leaf {
		v.report.problem(e.Position, "version, type, position, time or commitment differ from the leaf hash")
	}
	if !e.Type.erasable() {
		v.report.problem(e.Position, "an entry of type %s was erased", e.Type)
	}
	if e.Type == TypeOverride || e.Type == TypeAlert {
		v.alerts[e.Position] = &alerted{gone: true}
	}
}

// redactions holds what is erased against what was said to be.
func (v *verifier) redactions() {
	for _, position := range slices.Sorted(maps.Keys(v.erased)) {
		if v.redacted[position] <= position {
			v.report.problem(position, "its payload is gone, and no entry says that it was erased")
		}
	}
	for _, position := range slices.Sorted(maps.Keys(v.redacted)) {
		if _, ok := v.erased[position]; !ok {
			v.report.problem(position, "entry %d says that it was erased, and it was not", v.redacted[position])
		}
	}
	v.report.Erased = len(v.erased)
}

// replay holds a release against the state that stood at its position.
func (v *verifier) replay(e *Entry, p *payload, f *Found, begin *opened) {
	decision := begin.access.Decision
	if p.Decision != nil {
		decision = (&reading{}).decision(*p.Decision) // read before without fault
	}
	newest := uint64(0)
	var binding []consent.Objection
	var delegated []consent.Delegation
	for _, number := range begin.access.subjects() {
		for _, s := range v.people[number] {
			at := s.row.Position
			if s.list != 0 {
				list := v.imports[s.list]
				if list == nil || !list.stood {
					continue
				}
				at = list.ended
			}
			newest = max(newest, at)
			if s.objection != nil && s.objection.Binds(e.Time) {
				binding = append(binding, *s.objection)
			}
			if s.delegation != nil && s.delegation.Binds(e.Time) && s.delegation.Carer == begin.access.Requester.Own {
				delegated = append(delegated, *s.delegation)
			}
		}
	}
	if o := v.alerts[begin.override]; o != nil && begin.override != 0 && !e.Time.Before(o.expires) {
		v.report.problem(e.Position, "it was released after its override had expired")
	}
	known := v.erased[p.Preferences]
	if erased := (known == TypeObjection || known == TypeDelegation) && p.Preferences < e.Position && p.Preferences > newest; newest != p.Preferences && !erased {
		v.report.problem(e.Position, "it was released under preferences of entry %d, the newest were of %d", p.Preferences, newest)
	}
	for _, c := range f.Disclosure.Custodians {
		if c.Count == 0 && c.Sections == 0 && len(c.Digests) == 0 {
			continue
		}
		if !slices.Contains(begin.access.Asked, c.Key) {
			v.report.problem(e.Position, "it shows a custodian that was not to be asked")
		}
		i := slices.IndexFunc(decision.Custodians, func(d consent.CustodianDecision) bool { return d.Key == c.Key })
		if i < 0 || c.Sections.Without(decision.Custodians[i].Permitted) != 0 || decision.Custodians[i].Permitted == 0 {
			v.report.problem(e.Position, "it shows what its decision does not permit")
			continue
		}
		if byCarer(begin.access) && !lets(delegated, c) {
			v.report.problem(e.Position, "it shows a carer what no delegation lets them see")
		}
		for _, o := range binding {
			if forbids(o, c, decision.Custodians[i], begin) {
				v.report.problem(e.Position, "it shows what the objection of entry %d forbids", o.Position)
			}
		}
	}
}

// byCarer reports whether a person asked for somebody else's record.
func byCarer(a *Access) bool {
	return a.Requester.Kind == record.Person && a.Requester.Own != a.Subject
}

// lets reports whether delegations in force cover everything that is shown of a custodian.
func lets(delegated []consent.Delegation, c Shown) bool {
	left := c.Sections
	some := false
	for _, d := range delegated {
		if len(d.Custodians) == 0 || slices.Contains(d.Custodians, c.Key) {
			left, some = left.Without(d.Sections), true
		}
	}
	return some && left == 0
}

// forbids reports whether an objection in force covers something of what is shown of a custodian. Three things may be shown over it: a
// custodian's own record to its own staff (C-2.6), the person's own view where the objection is not absolute (C-1), and what break-glass
// overrides because the custodian's policy says so (C-3).
func forbids(o consent.Objection, c Shown, d consent.CustodianDecision, begin *opened) bool {
	if o.Scope == consent.ToCustodian && o.Custodian != c.Key {
		return false
	}
	if begin.access.Purpose == record.PatientAccess && !o.Absolute && !byCarer(begin.access) {
		return false
	}
	covered := c.Sections
	if o.Scope == consent.ToSection {
		covered &= record.SectionsOf(o.Section)
		if covered == 0 {
			return false
		}
	}
	for _, part := range d.Parts {
		if part.Reason == consent.ReasonOwnRecord || part.Reason == consent.ReasonOverride && begin.override != 0 {
			covered = covered.Without(part.Sections)
		}
	}
	return covered != 0 || c.Sections == 0
}

// projections holds what a store keeps beside the entries against what the entries make of it.
func (v *verifier) projections(r Reader) error {
	for position := range v.overrides {
		v.report.problem(position, "no Begin follows the Override")
	}
	givenUp := map[uint64]bool{}
	for position, list := range v.imports {
		givenUp[position] = list.ended != 0 && !list.stood
	}
	if err := compareObjections(r, v.objections, givenUp, v.report); err != nil {
		return err
	}
	v.report.Objections = len(v.objections)

	open, err := r.Open(time.Time{}, len(v.open)+1)
	if err != nil {
		return err
	}
	v.report.Open = len(v.open)
	if !slices.Equal(open, slices.Sorted(maps.Keys(v.open))) {
		v.report.problem(0, "the open accesses are not those that have no closing entry")
	}

	differ := 0
	err = r.EachAlert(func(a AlertRow) error {
		v.report.Alerts++
		if want := v.alerts[a.Position]; want == nil || want.review != a.Review && !want.gone {
			differ++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if differ > 0 || v.report.Alerts != len(v.alerts) {
		v.report.problem(0, "the alerts are not those that the entries tell of, or not reviewed as the entries say")
	}

	var stored indexSum
	if err := r.EachMark(func(position uint64, m Mark) error { stored.add(position, m); return nil }); err != nil {
		return err
	}
	if stored != v.index {
		v.report.problem(0, "what entries are found by (%d marks) is not what the entries make of it (%d marks)", stored.marks, v.index.marks)
	}
	return nil
}

// compareObjections holds the rows against what the entries make of them. Rows of lists that were given up may be gone: see writer.forget.
func compareObjections(r Reader, want map[string]*stated, givenUp map[uint64]bool, report *Report) error {
	rows, wanted := 0, 0
	err := r.EachObjection(func(row ObjectionRow) error {
		s := want[row.ID]
		if s == nil || s.row != row {
			report.problem(row.Position, "the row of an objection is not what the entries make of it")
		}
		if s == nil || !givenUp[s.list] {
			rows++
		}
		return nil
	})
	for _, s := range want {
		if !givenUp[s.list] {
			wanted++
		}
	}
	if err == nil && rows != wanted {
		report.problem(0, "there are rows of %d objections, the entries tell of %d", rows, wanted)
	}
	return err
}

// verifyObjections rebuilds the projection of objections from their entries alone and compares it with the rows (L-8).
func verifyObjections(r Reader, k *Keys) error {
	report := &Report{ByType: map[EntryType]uint64{}}
	v := &verifier{report: report, keys: k, objections: map[string]*stated{}, people: map[record.NHSNumber]map[string]*stated{}}
	for _, t := range []EntryType{TypeObjection, TypeDelegation} {
		if err := v.preferences(r, t); err != nil {
			return err
		}
	}
	givenUp := map[uint64]bool{}
	err := v.eachOf(r, TypeImported, func(_ *Entry, p *payload) error { givenUp[p.Opens] = p.Reason != ""; return nil })
	if err != nil {
		return err
	}
	if err := compareObjections(r, v.objections, givenUp, report); err != nil {
		return err
	}
	return report.Sound()
}

// preferences reads all entries of one of the two types that say what people chose.
func (v *verifier) preferences(r Reader, t EntryType) error {
	return v.eachOf(r, t, func(e *Entry, p *payload) error {
		f, err := found(v.keys, e)
		if err == nil {
			v.preference(e, p, &f)
		}
		return err
	})
}

// eachOf reads all entries of a type, but for those that are erased: rows went with them, and whether rightly is for Verify.
func (v *verifier) eachOf(r Reader, t EntryType, f func(*Entry, *payload) error) error {
	for from := uint64(0); ; {
		positions, err := r.OfType(t, from, verifyPage)
		if err != nil {
			return err
		}
		for _, position := range positions {
			e, err := entryAt(r, position)
			if err != nil {
				return err
			}
			from = position + 1
			if e.Sealed == nil {
				continue
			}
			p, err := decode(v.keys, &e)
			if err != nil {
				return err
			}
			if err := f(&e, p); err != nil {
				return err
			}
		}
		if len(positions) < verifyPage {
			return nil
		}
	}
}
