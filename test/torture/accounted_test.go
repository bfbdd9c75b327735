package torture

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// ledger is everything that stands in one, read when the demo has ended.
type ledger struct {
	report  audit.Report
	entries map[uint64]audit.Found
	begins  map[string]uint64   // by request id: where the access was opened
	under   map[uint64][]uint64 // by the position of a Begin: its chunks and its closing entry
}

// Where the demo keeps its ledger, in its state folder.
func ledgerFile(state string) string { return filepath.Join(state, "ledger.db") }
func keysFolder(state string) string { return filepath.Join(state, "keys") }

// readLedger verifies the ledger in a demo's state folder and reads all of it.
func readLedger(t *testing.T, state string) *ledger {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: ledgerFile(state)})
	if err != nil {
		t.Fatalf("the ledger cannot be opened: %v", err)
	}
	return readStore(t, store, keysFolder(state))
}

// readStore verifies the ledger in a store and reads all of it. It closes the store.
func readStore(t *testing.T, store audit.Store, folder string) *ledger {
	t.Helper()
	defer func() { _ = store.Close() }() // everything was read
	keys, err := audit.LoadKeys(folder)
	if err != nil {
		t.Fatalf("the keys cannot be read: %v", err)
	}
	l := &ledger{entries: map[uint64]audit.Found{}, begins: map[string]uint64{}, under: map[uint64][]uint64{}}
	if l.report, err = audit.Verify(t.Context(), store, keys); err != nil {
		t.Fatalf("the ledger cannot be verified: %v", err)
	}
	for _, p := range l.report.Problems {
		t.Errorf("the ledger is not sound: entry %d: %s", p.Position, p.Text)
	}
	kept, err := sink.NewFolder(t.TempDir()) // the broker has held its ledger against its own at every start
	if err != nil {
		t.Fatalf("the folder of checkpoints: %v", err)
	}
	open, err := audit.Open(t.Context(), audit.Config{Store: store, Keys: keys, Origin: origin, Sinks: []audit.Sink{kept}, Adopt: true, Deadline: time.Minute})
	if err != nil {
		t.Fatalf("the ledger does not start: %v", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := open.Shutdown(ctx); err != nil {
			t.Errorf("the ledger does not end: %v", err)
		}
	}()
	by := audit.Actor{Requester: record.Requester{Kind: record.Professional, User: "torture"}, Reason: "everything is checked after a test"}
	for before, more := uint64(0), true; more; {
		var page []audit.Found
		page, more, _, err = open.Search(t.Context(), by, audit.Search{Limit: 200, Before: before})
		if err != nil {
			t.Fatalf("the ledger cannot be searched: %v", err)
		}
		for _, f := range page {
			before = f.Position
			l.add(f)
		}
	}
	if uint64(len(l.entries)) < l.report.Entries {
		t.Fatalf("a search finds %d of %d entries", len(l.entries), l.report.Entries)
	}
	return l
}

// origin is the name of the demo's ledger.
const origin = "mycarerecord.example/demo"

func (l *ledger) add(f audit.Found) {
	l.entries[f.Position] = f
	if f.Type == audit.TypeBegin && f.Access != nil {
		l.begins[f.Access.RequestID] = f.Position
	}
	if f.Opens != 0 {
		l.under[f.Opens] = append(l.under[f.Opens], f.Position)
	}
}

// abandoned counts the accesses that were closed as abandoned, and finds those whose caller was given a whole answer: only what a kill cut off may be
// closed like that.
func (l *ledger) abandoned(answers []*answer) (n int, problems []string) {
	of := map[string]*answer{}
	for _, a := range answers {
		of[a.id] = a
	}
	for _, f := range l.entries {
		if f.Type != audit.TypeAbandoned {
			continue
		}
		n++
		begin := l.entries[f.Opens]
		if begin.Access == nil {
			problems = append(problems, fmt.Sprintf("entry %d closes an access that is not there", f.Position))
		} else if a := of[begin.Access.RequestID]; a == nil || !a.cut {
			problems = append(problems, fmt.Sprintf("%s: its access was closed as abandoned, and it was not cut off", begin.Access.RequestID))
		}
	}
	return n, problems
}

// account is what became of holding answers against a ledger.
type account struct {
	problems []string
	receipts int // checked against their entries
	digests  int // resources shown that were found in the entry that released them
	parts    int // resources cut off, whose custodian was found there
}

// accounted holds every answer against the ledger: whatever a caller was given of a record, in full or cut off, an entry says that it might
// be (P1), and the receipts are those of such entries (L-4).
func (l *ledger) accounted(answers []*answer) account {
	var out account
	for _, a := range answers {
		say := func(format string, args ...any) {
			out.problems = append(out.problems, fmt.Sprintf("%s %s: ", a.face, a.id)+fmt.Sprintf(format, args...))
		}
		begin, began := l.begins[a.id]
		if (a.planned || a.shows()) && !began {
			say("something came, and no access was opened")
			continue
		}
		if began && l.entries[begin].Access.Subject.Reveal() != a.about.number {
			say("the access is about somebody else")
		}
		if a.refusal != nil {
			out.receipts++
			f, fits := l.fits(a.refusal)
			own := f.Access != nil && f.Access.RequestID == a.id || began && f.Opens == begin
			if !fits || !own || f.Type != audit.TypeRefused && f.Type != audit.TypeNothing {
				say("the receipt of a refusal is not that of the entry that records it")
			}
		}
		for _, p := range a.pieces {
			releases := l.releases(begin, p)
			if p.receipt != nil {
				out.receipts++
				f, fits := l.fits(p.receipt)
				switch {
				case !fits || f.Opens != begin:
					say("the receipt is not that of an entry of this access")
				case p.custodian != "" && f.Type != audit.TypeChunk, p.custodian == "" && f.Type != audit.TypeReleased && f.Type != audit.TypeNothing:
					say("the receipt is of another sort of entry (%d)", f.Type)
				case p.whole && !complete(a, p, f):
					say("other resources came than the entry of the receipt says (type %d, of %q)", f.Type, p.custodian)
				}
			} else if p.whole && len(p.shown) > 0 {
				say("a whole answer came without a receipt")
			}
			for _, s := range p.shown {
				switch found, cut := released(releases, s); {
				case found && cut:
					out.parts++
				case found:
					out.digests++
				default:
					say("a %s of %q came, and no entry says that it might", s.typ, s.custodian)
				}
			}
		}
	}
	return out
}

// fits finds the entry of a receipt.
func (l *ledger) fits(r *receipt) (audit.Found, bool) {
	f, ok := l.entries[r.position]
	return f, ok && f.Leaf == r.leaf
}

// releases are the entries that may have let a piece go: that of its receipt, else whatever released anything of the access.
func (l *ledger) releases(begin uint64, p piece) (out []audit.Found) {
	for _, position := range l.under[begin] {
		f := l.entries[position]
		if p.receipt != nil && p.receipt.position != position {
			continue
		}
		if f.Type == audit.TypeChunk || f.Type == audit.TypeReleased || f.Type == audit.TypeNothing {
			out = append(out, f)
		}
	}
	return out
}

// released reports whether an entry lets a resource go, and whether it was cut off, so that its custodian is all there is to compare. Of what the
// broker authors, the Patient needs a release; what says why nothing is shown needs any closing entry.
func released(entries []audit.Found, s shown) (found, cut bool) {
	for _, f := range entries {
		if s.custodian == "" && (f.Type == audit.TypeReleased || f.Type == audit.TypeNothing && s.typ != "Patient") {
			return true, true
		}
		if f.Disclosure == nil || s.custodian == "" {
			continue
		}
		for _, c := range f.Disclosure.Custodians {
			if string(c.Key) != s.custodian || c.Count == 0 {
				continue
			}
			if s.part {
				return true, true
			}
			for _, d := range c.Digests {
				if d == s.digest {
					return true, false
				}
			}
		}
	}
	return false, false
}

// complete reports whether a whole piece shows as many resources of each custodian as its entry says. What a stream showed stands in the entries of
// its chunks; its last entry may say it again, and no more.
func complete(a *answer, p piece, f audit.Found) bool {
	closing := a.face == byStreamRecord && p.custodian == ""
	shown := map[string]int{}
	for _, q := range a.pieces {
		for _, s := range q.shown {
			if s.custodian != "" && (closing || q.custodian == p.custodian) {
				shown[s.custodian]++
			}
		}
	}
	if f.Disclosure == nil {
		return len(shown) == 0 || closing
	}
	for _, c := range f.Disclosure.Custodians {
		if shown[string(c.Key)] != c.Count && !(closing && c.Count == 0) {
			return false
		}
		delete(shown, string(c.Key))
	}
	return len(shown) == 0 || closing
}

// lost counts acknowledged consent changes whose entry is not in the ledger as it was acknowledged.
func (l *ledger) lost(all []*objection) (lost int) {
	stands := func(o *objection, position uint64, status string) bool {
		f, ok := l.entries[position]
		return ok && f.Type == audit.TypeObjection && f.Subject.Reveal() == o.about.number && f.Objection != nil && f.Objection.ID == o.id &&
			string(f.Objection.Status) == status && f.Objection.Absolute == o.absolute && string(f.Objection.Custodian) == o.custodian &&
			(o.scope != v1.ObjectionScope_OBJECTION_SCOPE_SECTION || f.Objection.Section == o.section)
	}
	for _, o := range all {
		if !o.acked.IsZero() && !stands(o, o.position, "in-force") {
			lost++
		}
		if !o.withdrawAcked.IsZero() && !stands(o, o.withdrawPosition, "withdrawn") {
			lost++
		}
	}
	return lost
}

// TestAccounted holds the judge of answers to cases that it must condemn.
func TestAccounted(t *testing.T) {
	about, err := record.ParseNHSNumber("9990000018")
	if err != nil {
		t.Fatal("a test number is not valid")
	}
	who := person{number: "9990000018"}
	var leaf [32]byte
	leaf[0] = 7
	one := shown{custodian: "gp", typ: "Condition", digest: [32]byte{1}}
	gp := func(count int, digests ...[32]byte) *audit.Disclosure {
		return &audit.Disclosure{Custodians: []audit.Shown{{Key: "gp", Count: count, Digests: digests}, {Key: "acute"}}}
	}
	build := func(d *audit.Disclosure) *ledger {
		l := &ledger{entries: map[uint64]audit.Found{}, begins: map[string]uint64{}, under: map[uint64][]uint64{}}
		l.add(audit.Found{Position: 5, Type: audit.TypeBegin, Access: &audit.Access{RequestID: "r", Subject: about}})
		l.add(audit.Found{Position: 6, Type: audit.TypeReleased, Opens: 5, Leaf: leaf, Disclosure: d})
		l.add(audit.Found{Position: 7, Type: audit.TypeBegin, Access: &audit.Access{RequestID: "other", Subject: about}})
		l.add(audit.Found{Position: 8, Type: audit.TypeReleased, Opens: 7, Leaf: leaf, Disclosure: d})
		return l
	}
	good := func() *answer {
		return &answer{id: "r", about: who, pieces: []piece{{receipt: &receipt{6, leaf}, whole: true, shown: []shown{one}}}}
	}
	if got := build(gp(1, one.digest)).accounted([]*answer{good()}); len(got.problems) != 0 || got.receipts != 1 || got.digests != 1 {
		t.Fatalf("a good answer is condemned: %v", got.problems)
	}
	for name, spoil := range map[string]func(l *ledger, a *answer){
		"no Begin":               func(l *ledger, _ *answer) { delete(l.begins, "r") },
		"no entry":               func(l *ledger, _ *answer) { delete(l.entries, 6) },
		"another leaf":           func(_ *ledger, a *answer) { a.pieces[0].receipt.leaf[1]++ },
		"another's receipt":      func(_ *ledger, a *answer) { a.pieces[0].receipt.position = 8 },
		"no receipt":             func(_ *ledger, a *answer) { a.pieces[0].receipt = nil },
		"another resource":       func(_ *ledger, a *answer) { a.pieces[0].shown[0].digest[0]++ },
		"one resource more":      func(_ *ledger, a *answer) { a.pieces[0].shown = append(a.pieces[0].shown, one) },
		"one resource less":      func(_ *ledger, a *answer) { a.pieces[0].shown = nil },
		"part of another's":      func(_ *ledger, a *answer) { a.pieces[0].shown[0] = shown{custodian: "acute", part: true} },
		"cut off, nothing there": func(l *ledger, a *answer) { a.pieces[0] = piece{shown: []shown{one}}; l.under[5] = nil },
		"somebody else":          func(_ *ledger, a *answer) { a.about = person{number: "9990000026"} },
		"a refusal's receipt":    func(_ *ledger, a *answer) { a.refusal = &receipt{6, leaf} },
		"our Patient, unreleased": func(l *ledger, a *answer) {
			a.pieces[0] = piece{shown: []shown{{typ: "Patient"}}}
			l.under[5] = nil
		},
	} {
		l, a := build(gp(1, one.digest)), good()
		spoil(l, a)
		if got := l.accounted([]*answer{a}); len(got.problems) == 0 {
			t.Errorf("%s: not condemned", name)
		}
	}
	// A stream: its chunk counts what it shows; its last entry may count it again, or not at all.
	streamed := func(counted, again int) (*ledger, *answer) {
		l := build(gp(again))
		l.add(audit.Found{Position: 9, Type: audit.TypeChunk, Opens: 5, Leaf: leaf, Disclosure: gp(counted, one.digest)})
		return l, &answer{id: "r", about: who, face: byStreamRecord, pieces: []piece{
			{custodian: "gp", receipt: &receipt{9, leaf}, whole: true, shown: []shown{one}}, {receipt: &receipt{6, leaf}, whole: true, shown: []shown{{typ: "Patient"}}}}}
	}
	for _, tc := range []struct{ counted, again, want int }{{1, 1, 0}, {1, 0, 0}, {1, 2, 1}, {2, 0, 1}} {
		l, a := streamed(tc.counted, tc.again)
		if got := l.accounted([]*answer{a}); len(got.problems) != tc.want {
			t.Errorf("a stream of 1 resource, counted as %d and again as %d: %d problems, want %d: %v", tc.counted, tc.again, len(got.problems), tc.want, got.problems)
		}
	}
	o := &objection{about: who, id: "x", acked: time.Now(), position: 9}
	l := build(gp(1, one.digest))
	if l.lost([]*objection{o}) != 1 {
		t.Error("an objection without an entry is not lost")
	}
}
