package audit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// signed waits until a checkpoint covers everything that was recorded, and returns it as others would read it: checked with the public key alone.
func signed(t *testing.T, p *audittest.Place) (audit.Checkpoint, audit.State) {
	t.Helper()
	verifiers, err := p.Keys.Verifiers(p.Ledger.Origin())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(verifiers[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if s := p.Ledger.Stats(); s.Signed == s.Position {
			c, err := p.Ledger.Checkpoint(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := note.Open(c.Note, note.VerifierList(v)); err != nil {
				t.Fatalf("the checkpoint: %v", err)
			}
			s, err := c.State()
			if err != nil || s.Origin != p.Ledger.Origin() || s.Size != c.Size {
				t.Fatalf("%v: the checkpoint states something else", err)
			}
			return c, s
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("two seconds, and the newest entries are not signed")
	return audit.Checkpoint{}, audit.State{}
}

// refuseMany records entries, and returns their receipts.
func refuseMany(t *testing.T, l *audit.Ledger, n int) []audit.Receipt {
	t.Helper()
	out := make([]audit.Receipt, n)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				r, err := l.Refuse(ctx, audit.Access{Key: key(), Reason: consent.ReasonRole})
				if err != nil {
					t.Errorf("Refuse: %v", err)
				}
				out[i] = r
			}
		})
	}
	wg.Wait()
	return out
}

// Every proof holds for a checker that shares no code with us (transparency-dev/merkle), for every size and position that is tried; a proof about another
// leaf, position or root does not.
func TestProofsHoldForAnIndependentChecker(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	receipts := refuseMany(t, p.Ledger, 700)
	small, smallState := signed(t, p)
	receipts = append(receipts, refuseMany(t, p.Ledger, 900)...)
	_, big := signed(t, p)
	proofs := 0
	for i, r := range receipts {
		if i%7 != 0 && i > 20 {
			continue
		}
		in, err := p.Ledger.Inclusion(ctx, r, 0)
		if err != nil {
			t.Fatalf("receipt %d: %v", i, err)
		}
		hashes := lists(in.Proof)
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, r.Position, big.Size, r.Leaf[:], hashes, big.Root[:]); err != nil {
			t.Errorf("position %d: %v", r.Position, err)
		}
		other := sha256.Sum256(r.Leaf[:])
		if proof.VerifyInclusion(rfc6962.DefaultHasher, r.Position, big.Size, other[:], hashes, big.Root[:]) == nil {
			t.Errorf("position %d: holds for another leaf", r.Position)
		}
		if r.Position < small.Size {
			in, err := p.Ledger.Inclusion(ctx, r, small.Size)
			if err == nil {
				err = proof.VerifyInclusion(rfc6962.DefaultHasher, r.Position, small.Size, r.Leaf[:], lists(in.Proof), smallState.Root[:])
			}
			if err != nil {
				t.Errorf("position %d in %d: %v", r.Position, small.Size, err)
			}
		} else if _, err := p.Ledger.Inclusion(ctx, r, small.Size); !errors.Is(err, audit.ErrNotSigned) {
			t.Errorf("position %d in %d: %v, want ErrNotSigned", r.Position, small.Size, err)
		}
		proofs++
	}
	between, err := p.Ledger.Checkpoints(ctx, 1, 1000)
	if err != nil || len(between) < 3 {
		t.Fatalf("%v: %d checkpoints", err, len(between))
	}
	for _, c := range between {
		s, err := c.State()
		if err != nil {
			t.Fatal(err)
		}
		path, err := p.Ledger.Consistency(ctx, c.Size, big.Size)
		if err == nil {
			err = proof.VerifyConsistency(rfc6962.DefaultHasher, c.Size, big.Size, lists(path), s.Root[:], big.Root[:])
		}
		if err != nil {
			t.Errorf("from %d to %d: %v", c.Size, big.Size, err)
		}
	}
	t.Logf("%d inclusion proofs and %d consistency proofs hold for transparency-dev/merkle", proofs, len(between))

	wrong := receipts[3]
	wrong.Leaf[5] ^= 1
	elsewhere := receipts[3]
	elsewhere.Origin = "elsewhere.example"
	beyond := receipts[3]
	beyond.Position = 1 << 40
	for name, r := range map[string]audit.Receipt{"another leaf": wrong, "another ledger": elsewhere, "a position that is not there": beyond} {
		if _, err := p.Ledger.Inclusion(ctx, r, 0); !errors.Is(err, audit.ErrNotRecorded) {
			t.Errorf("%s: %v, want ErrNotRecorded", name, err)
		}
	}
	if _, err := p.Ledger.Consistency(ctx, 0, 5); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("from nothing: %v", err)
	}
	if _, err := p.Ledger.Consistency(ctx, 5, 1<<40); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("to beyond the end: %v", err)
	}
}

func lists(in [][32]byte) [][]byte {
	var out [][]byte
	for _, h := range in {
		out = append(out, h[:])
	}
	return out
}

// The newest checkpoint is never 1,000 entries behind, and the folder has it a moment later.
func TestCheckpointsKeepUp(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	for range 8 {
		refuseMany(t, p.Ledger, 400)
		if s := p.Ledger.Stats(); s.Position-s.Signed >= 1000 {
			t.Errorf("%d entries are not signed", s.Position-s.Signed)
		}
	}
	c, _ := signed(t, p)
	p.Close(t)
	folder, err := sink.NewFolder(audittest.Checkpoints(p.Path))
	if err != nil {
		t.Fatal(err)
	}
	if size, known, err := folder.Holds(ctx); err != nil || !known || size != c.Size {
		t.Errorf("the folder holds %d (%v), want %d", size, err, c.Size)
	}
}

// What is not the ledger that signed the last checkpoint does not start (L-8): each refusal says in a sentence what is wrong.
func TestRestoredBackupsAndForksAreRefused(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	refuseMany(t, p.Ledger, 300)
	signed(t, p)
	p.Close(t)
	backup := copyOf(t, p)
	p = p.Reopen(t)
	refuseMany(t, p.Ledger, 40)
	signed(t, p)
	p.Close(t)
	if err := open(t, copyOf(t, p), nil); err != nil {
		t.Fatalf("the ledger itself: %v", err)
	}

	// the backup went on by itself, longer than the ledger ever was
	fork := copyOf(t, backup).Reopen(t)
	refuseMany(t, fork.Ledger, 400)
	signed(t, fork)
	fork.Close(t)

	withCheckpointsOf := func(files, checkpoints *audittest.Place) *audittest.Place {
		out := copyOf(t, files)
		if err := os.RemoveAll(audittest.Checkpoints(out.Path)); err != nil {
			t.Fatal(err)
		}
		if checkpoints != nil {
			if err := os.CopyFS(audittest.Checkpoints(out.Path), os.DirFS(audittest.Checkpoints(checkpoints.Path))); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	other := filled(t, audit.Config{Origin: "other.example"})
	rewritten := copyOf(t, p)
	tamper(t, rewritten, "UPDATE entries SET leaf = zeroblob(32) WHERE position = 320")
	cut := copyOf(t, p)
	tamper(t, cut, "PRAGMA foreign_keys = 0", "DELETE FROM checkpoints WHERE size > 301", "DELETE FROM entries WHERE position > 300",
		"DELETE FROM marks WHERE position > 300", fmt.Sprintf("UPDATE head SET size = 301, newest = (SELECT time FROM entries WHERE position = 300), frontier = (SELECT x'%s')", frontierOf(t, backup)))
	unsigned := copyOf(t, backup)
	tamper(t, unsigned, "DELETE FROM checkpoints")
	started := 0
	cases := map[string]struct {
		place *audittest.Place
		say   string
	}{
		"a backup":                             {withCheckpointsOf(backup, p), "old backup"},
		"a fork, longer than the ledger":       {withCheckpointsOf(fork, p), "old backup, a copy that went on by itself"},
		"the ledger, where the fork had run":   {withCheckpointsOf(p, fork), "a copy that went on by itself"},
		"cut back to an earlier checkpoint":    {cut, "old backup"},
		"a backup whose checkpoints are taken": {withCheckpointsOf(unsigned, p), "has none"},
		"the folder is empty":                  {withCheckpointsOf(p, nil), "put them back"},
		"the folder of another ledger":         {withCheckpointsOf(p, other), "another ledger"},
		"an entry was changed":                 {rewritten, "differ from the leaf hash"},
	}
	for name, c := range cases {
		err := open(t, c.place, nil)
		if err == nil {
			started++
		}
		if !errors.Is(err, audit.ErrDamaged) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want ErrDamaged that says %q", name, err, c.say)
			continue
		}
		t.Logf("%s: %v", name, err)
	}
	figure.Report(t, figure.Figure{Name: "restored old backups, forks and pasts rewritten that a start takes", Seen: started, Of: len(cases), What: "ledgers"})
	adopted := withCheckpointsOf(p, nil)
	if err := open(t, adopted, func(c *audit.Config) { c.Adopt = true }); err != nil {
		t.Errorf("adopted: %v", err)
	}
	if err := open(t, adopted, nil); err != nil {
		t.Errorf("after it was adopted: %v", err)
	}
	// The first start was killed when it had signed and no sink had it yet: nobody was told of anything, and the next start goes on.
	begun := audittest.New(t, audit.Config{Configuration: "c0ffee", Policy: "b0bb1e"})
	begun.Close(t)
	if err := open(t, withCheckpointsOf(begun, nil), nil); err != nil {
		t.Errorf("a ledger whose first start was killed: %v", err)
	}
	if err := open(t, copyOf(t, p), func(c *audit.Config) { c.Sinks = nil }); !errors.Is(err, audit.ErrInvalid) || !strings.Contains(err.Error(), "outside its own store") {
		t.Errorf("without a sink: %v", err)
	}
}

func frontierOf(t *testing.T, p *audittest.Place) string {
	t.Helper()
	q := copyOf(t, p).Reopen(t)
	defer q.Close(t)
	var out string
	err := q.Store.View(ctx, func(r audit.Reader) error {
		head, err := r.Head()
		for _, h := range head.Frontier {
			out += fmt.Sprintf("%x", h)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flipped is a store that keeps another leaf than it was given, once.
type flipped struct {
	audit.Store
	at uint64
}

type flippedTx struct {
	audit.Tx
	f *flipped
}

func (f *flipped) Update(ctx context.Context, ahead audit.Wanted, run func(audit.Tx) error) error {
	return f.Store.Update(ctx, ahead, func(tx audit.Tx) error { return run(flippedTx{tx, f}) })
}

func (t flippedTx) Append(e audit.Entry, marks []audit.Mark) error {
	if e.Position == t.f.at {
		e.Leaf[7] ^= 4
	}
	return t.Tx.Append(e, marks)
}

// A bit that fell over on the way to the store is not signed for good: the ledger stops, and says so.
func TestWhatIsStoredIsReadBackBeforeItIsSigned(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	p.Close(t)
	q := copyOf(t, p).Reopen(t)
	q.Close(t)
	config := q.Config
	config.Sinks = audittest.Sinks(t, config, q.Path)
	q.Store.Heal()
	bug := &flipped{Store: reopened(t, q.Path), at: 20}
	defer func() { _ = bug.Store.Close() }()
	config.Store = bug
	l, err := audit.Open(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		_, err = l.Refuse(ctx, audit.Access{Key: key(), Reason: consent.ReasonRole})
	}
	for i := 0; i < 100 && err == nil; i++ {
		time.Sleep(20 * time.Millisecond)
		_, err = l.Refuse(ctx, audit.Access{Key: key(), Reason: consent.ReasonRole})
	}
	if !errors.Is(err, audit.ErrUnavailable) || !l.Stats().Unsound {
		t.Errorf("%v: a leaf that is not its entry's was signed", err)
	}
	if c, err := l.Checkpoint(ctx, 0); err == nil && c.Size > 20 {
		t.Errorf("a checkpoint of %d entries covers it", c.Size)
	}
	if err := l.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// Keys change while the ledger is in use: nothing fails, nothing that was written changes, everything is found; the new signing key is known from the ledger
// itself, both sign until the old one is taken away, and a start with the old one gone goes well.
func TestKeysChangeWithoutStopping(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	dir := filepath.Join(filepath.Dir(p.Path), "keys")
	person := number(t, "9990000018")
	object(t, l, person, consent.ToSection)
	old, err := p.Keys.Verifiers(l.Origin())
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	calls := 0
	for range 4 {
		wg.Go(func() {
			a := ask{subject: person}
			for {
				select {
				case <-stop:
					return
				default:
				}
				o, permit := a.begin(t, l)
				if permit.Sections(mental.Key).Has(record.MentalHealth) {
					t.Error("an objection from before is not honoured")
				}
				if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
					t.Errorf("Release: %v", err)
				}
				found, _, _, err := l.Search(ctx, actor(), audit.Search{Subjects: []record.NHSNumber{person}, Types: []audit.EntryType{audit.TypeObjection}})
				if err != nil || len(found) != 1 {
					t.Errorf("searching: %v, %d found", err, len(found))
				}
				mu.Lock()
				calls++
				mu.Unlock()
			}
		})
	}
	for range 3 {
		time.Sleep(60 * time.Millisecond)
		if _, err := audit.AddEpoch(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.AddSigningKey(dir); err != nil {
			t.Fatal(err)
		}
		keys, err := audit.LoadKeys(dir)
		if err == nil {
			err = l.Reload(ctx, keys)
		}
		if err != nil {
			t.Fatalf("Reload: %v", err)
		}
		p.Keys, p.Config.Keys = keys, keys
	}
	time.Sleep(60 * time.Millisecond)
	close(stop)
	wg.Wait()
	t.Logf("%d accesses and searches while keys changed three times, 0 failed", calls)
	if r := sound(t, l); r.ByType[audit.TypeKey] != 4 {
		t.Errorf("%d key entries, want 4", r.ByType[audit.TypeKey])
	}
	c, _ := signed(t, p) // by the first of four
	if n := strings.Count(string(c.Note), "\n— "); n != 4 {
		t.Errorf("%d keys signed, want 4", n)
	}
	all, err := audit.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(broken, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	copied, err := filepath.Glob(filepath.Join(broken, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range copied {
		if err := os.Chmod(name, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"payload-0001.key", "lookup-0001.key"} {
		if err := os.Remove(filepath.Join(broken, name)); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := audit.LoadKeys(broken); err != nil {
		t.Fatal(err)
	} else if err := l.Reload(ctx, keys); !errors.Is(err, audit.ErrKeys) {
		t.Errorf("keys without an epoch that is in use: %v, want ErrKeys", err)
	}
	if err := l.Reload(ctx, all); err != nil {
		t.Errorf("the same keys again: %v", err)
	}
	p.Close(t)

	for n := 1; n <= 3; n++ { // the old signing keys are taken away
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("signing-%04d.key", n))); err != nil {
			t.Fatal(err)
		}
	}
	last, err := audit.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	later := copyOf(t, p)
	later.Keys, later.Config.Keys = last, last
	q := later.Reopen(t)
	refuseMany(t, q.Ledger, 3)
	c, _ = signed(t, q)
	if v, err := note.NewVerifier(old[0]); err != nil {
		t.Error(err)
	} else if _, err := note.Open(c.Note, note.VerifierList(v)); err == nil {
		t.Error("a key that was taken away still signs")
	}
}

// reopened is the plain store on a file.
func reopened(t *testing.T, path string) audit.Store {
	t.Helper()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
