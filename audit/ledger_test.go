package audit_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

func TestOneRequest(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, a := p.Ledger, ask{subject: number(t, "9990000018")}
	o, permit := a.begin(t, l)
	if !o.Valid() || o.Position() != 1 {
		t.Errorf("opened at %d, valid %v, want at 1", o.Position(), o.Valid())
	}
	r, err := l.Release(ctx, o, permit, shown(permit))
	if err != nil {
		t.Fatalf("Release: %v", err)
	}
	if r.Position != 2 || r.Leaf == [32]byte{} || r.Origin != l.Origin() {
		t.Errorf("receipt %+v is not of entry 2", r)
	}
	if _, err := l.Release(ctx, o, permit, shown(permit)); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("second Release: %v, want ErrClosed", err)
	}
	if _, err := l.ReleaseChunk(ctx, o, permit, shown(permit)); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("chunk after Release: %v, want ErrClosed", err)
	}
	if _, err := l.Close(ctx, o, audit.TypeCancelled, consent.ReasonCancelled, audit.Disclosure{}); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Close after Release: %v, want ErrClosed", err)
	}
	wantEntries(t, p, audit.TypeBegin, audit.TypeReleased)
	if s := l.Stats(); s.Open != 0 || s.Position != 3 || s.Entries != 2 {
		t.Errorf("stats %+v, want nothing open, position 3, 2 entries", s)
	}
	sound(t, l)
}

func TestStreamIsReleasedChunkByChunk(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	o, permit := ask{subject: number(t, "9990000018")}.begin(t, p.Ledger)
	all := shown(permit)
	for i := range all.Custodians {
		if _, err := p.Ledger.ReleaseChunk(ctx, o, permit, audit.Disclosure{Custodians: all.Custodians[i : i+1]}); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
	}
	if _, err := p.Ledger.Release(ctx, o, permit, all); err != nil {
		t.Fatalf("Release: %v", err)
	}
	wantEntries(t, p, audit.TypeBegin, audit.TypeChunk, audit.TypeChunk, audit.TypeChunk, audit.TypeReleased)
	sound(t, p.Ledger)
}

// Everything that closes an access does so once, and each kind is what it says.
func TestClosings(t *testing.T) {
	for _, closing := range []audit.EntryType{audit.TypeRefused, audit.TypeNothing, audit.TypeCancelled} {
		p := audittest.New(t, audit.Config{})
		o, _ := ask{subject: number(t, "9990000018")}.begin(t, p.Ledger)
		gone, cancel := context.WithCancel(ctx)
		cancel() // the caller has left: it is recorded all the same
		if _, err := p.Ledger.Close(gone, o, closing, consent.ReasonTrouble, audit.Disclosure{Custodians: []audit.Shown{{Key: "gp", State: record.TimedOut}}}); err != nil {
			t.Errorf("%s: %v", closing, err)
		}
		wantEntries(t, p, audit.TypeBegin, closing)
		sound(t, p.Ledger)
	}
	p := audittest.New(t, audit.Config{})
	o, _ := ask{subject: number(t, "9990000018")}.begin(t, p.Ledger)
	for _, wrong := range []audit.EntryType{audit.TypeReleased, audit.TypeAbandoned, audit.TypeBegin, 0, 99} {
		if _, err := p.Ledger.Close(ctx, o, wrong, "", audit.Disclosure{}); !errors.Is(err, audit.ErrNotPermitted) {
			t.Errorf("Close as %s: %v, want ErrNotPermitted", wrong, err)
		}
	}
}

// What was not opened, or not permitted, or is about somebody else, is never recorded as released.
func TestReleaseNeedsItsOwnProof(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l := p.Ledger
	one, other := ask{subject: number(t, "9990000018")}, ask{subject: number(t, "9990000026")}
	o, permit := one.begin(t, l)
	_, otherPermit := other.begin(t, l)
	partial, _ := one.decide(consent.Preferences{Position: 1, Objections: []consent.Objection{{ID: "x", Scope: consent.ToSection, Section: record.MentalHealth,
		Status: consent.InForce, Position: 1}}}, time.Now()).Permit()
	elsewhere := audittest.Open(t)
	strange := shown(permit)
	strange.Custodians[0].Key = "stranger"
	for name, f := range map[string]func() error{
		"zero opened":      func() error { _, err := l.Release(ctx, audit.Opened{}, permit, shown(permit)); return err },
		"zero permit":      func() error { _, err := l.Release(ctx, o, consent.Permit{}, shown(permit)); return err },
		"another person":   func() error { _, err := l.Release(ctx, o, otherPermit, shown(otherPermit)); return err },
		"another ledger":   func() error { _, err := elsewhere.Release(ctx, o, permit, shown(permit)); return err },
		"more than permit": func() error { _, err := l.Release(ctx, o, partial, shown(permit)); return err },
		"never asked":      func() error { _, err := l.ReleaseChunk(ctx, o, permit, strange); return err },
		"begin, no permit": func() error {
			_, err := l.Begin(ctx, consent.Permit{}, one.access(time.Now(), consent.Decision{}))
			return err
		},
		"begin, other person": func() error {
			_, access := one.permit(t, l)
			_, err := l.Begin(ctx, otherPermit, access)
			return err
		},
		"glass broken unsaid": func() error {
			_, access := one.permit(t, l)
			access.Purpose = record.BreakGlass
			_, err := l.Begin(ctx, permit, access)
			return err
		},
	} {
		if err := f(); !errors.Is(err, audit.ErrNotPermitted) {
			t.Errorf("%s: %v, want ErrNotPermitted", name, err)
		}
	}
	if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Errorf("the real one: %v", err)
	}
}

func TestObjectionBeatsReleaseInFlight(t *testing.T) {
	for _, scope := range []consent.Scope{consent.ToAll, consent.ToCustodian, consent.ToSection} {
		p := audittest.New(t, audit.Config{})
		l, a := p.Ledger, ask{subject: number(t, "9990000018")}
		o, permit := a.begin(t, l)
		object(t, l, a.subject, scope)
		_, err := l.Release(ctx, o, permit, shown(permit))
		var changed *audit.ConsentChangedError
		if !errors.As(err, &changed) || !errors.Is(err, audit.ErrConsentChanged) {
			t.Fatalf("%s: Release after an objection: %v, want ErrConsentChanged", scope, err)
		}
		if len(changed.Preferences.Objections) != 1 || changed.Preferences.Position != 2 {
			t.Errorf("%s: the error carries %d objections of version %d, want 1 of 2", scope, len(changed.Preferences.Objections), changed.Preferences.Position)
		}
		again, ok := permit.Again(changed.Preferences, time.Now()).Permit()
		if scope == consent.ToAll {
			if ok {
				t.Fatalf("an objection to all sharing leaves a permit")
			}
			continue
		}
		if !ok {
			t.Fatalf("%s: nothing is left", scope)
		}
		if _, err := l.Release(ctx, o, again, shown(permit)); !errors.Is(err, audit.ErrNotPermitted) {
			t.Errorf("%s: the old answer under the new permit: %v, want ErrNotPermitted", scope, err)
		}
		if _, err := l.Release(ctx, o, again, shown(again)); err != nil {
			t.Errorf("%s: what is left: %v", scope, err)
		}
		sound(t, l)
	}
}

func TestOwnRecordAndOwnViewOverObjections(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	person := number(t, "9990000018")
	object(t, p.Ledger, person, consent.ToAll)
	for name, a := range map[string]ask{
		"own record":  {subject: person, org: gp.ODS},
		"own view":    {subject: person, person: true},
		"break-glass": {subject: person, purpose: record.BreakGlass, overridden: true},
	} {
		o, permit := a.begin(t, p.Ledger)
		if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	sound(t, p.Ledger)
}

func TestObjectionUnderASupersededNumber(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	old := number(t, "9990000026")
	a := ask{subject: number(t, "9990000018"), supersedes: []record.NHSNumber{old}}
	o, permit := a.begin(t, p.Ledger)
	made := object(t, p.Ledger, old, consent.ToAll)
	if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); !errors.Is(err, audit.ErrConsentChanged) {
		t.Errorf("Release: %v, want ErrConsentChanged", err)
	}
	if _, _, err := p.Ledger.WithdrawObjection(ctx, actor(), []record.NHSNumber{number(t, "9990000034")}, made.ID, key()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("withdrawing somebody else's: %v, want ErrNotFound", err)
	}
	if _, _, err := p.Ledger.WithdrawObjection(ctx, actor(), []record.NHSNumber{a.subject, old}, made.ID, key()); err != nil {
		t.Errorf("withdrawing: %v", err)
	}
	if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); err != nil {
		t.Errorf("Release after the withdrawal: %v", err)
	}
	sound(t, p.Ledger)
}

// A key that is shown again after its objection was withdrawn is not acknowledged again: that would say that it binds.
func TestObjectionKeyAfterWithdrawal(t *testing.T) {
	l, person := audittest.New(t, audit.Config{}).Ledger, number(t, "9990000018")
	k := key()
	o, _, err := l.RecordObjection(ctx, actor(), person, consent.Objection{Scope: consent.ToAll}, k)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.WithdrawObjection(ctx, actor(), []record.NHSNumber{person}, o.ID, key()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.RecordObjection(ctx, actor(), person, consent.Objection{Scope: consent.ToAll}, k); !errors.Is(err, audit.ErrStale) {
		t.Errorf("got %v, want stale", err)
	}
	sound(t, l)
}

// The same key for another wish is refused, whatever of the wish is another.
func TestObjectionKeyForAnotherWish(t *testing.T) {
	l, person := audittest.New(t, audit.Config{}).Ledger, number(t, "9990000018")
	k := key()
	asked := consent.Objection{Scope: consent.ToSection, Section: record.SocialCare, Status: consent.Requested, From: time.Now(), Until: time.Now().Add(time.Hour),
		Responsible: "self", Method: "phone"}
	first, _, err := l.RecordObjection(ctx, actor(), person, asked, k)
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := l.RecordObjection(ctx, actor(), person, asked, k); err != nil || again != first {
		t.Errorf("the same wish: %v", err)
	}
	for what, change := range map[string]func(*consent.Objection){
		"scope":       func(o *consent.Objection) { o.Scope = consent.ToAll },
		"section":     func(o *consent.Objection) { o.Section = record.Results },
		"status":      func(o *consent.Objection) { o.Status = consent.InForce },
		"bindingness": func(o *consent.Objection) { o.Absolute = true },
		"beginning":   func(o *consent.Objection) { o.From = time.Time{} },
		"end":         func(o *consent.Objection) { o.Until = time.Time{} },
		"responsible": func(o *consent.Objection) { o.Responsible = "mother" },
		"method":      func(o *consent.Objection) { o.Method = "form" },
		"source":      func(o *consent.Objection) { o.Source = "elsewhere" },
	} {
		o := asked
		change(&o)
		if _, _, err := l.RecordObjection(ctx, actor(), person, o, k); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("another %s: %v, want ErrInvalid", what, err)
		}
	}
	sound(t, l)
}

func TestObjections(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, person := p.Ledger, number(t, "9990000018")
	numbers := []record.NHSNumber{person}
	until := time.Now().Add(time.Hour)
	in := consent.Objection{Scope: consent.ToSection, Section: record.SocialCare, Absolute: true, Until: until, Responsible: "mother, parental responsibility", Method: "form"}
	k := key()
	first, r1, err := l.RecordObjection(ctx, actor(), person, in, k)
	if err != nil {
		t.Fatal(err)
	}
	again, r2, err := l.RecordObjection(ctx, actor(), person, in, k)
	if err != nil || again != first || r1 != r2 {
		t.Errorf("the same key gave %v and another objection or receipt", err)
	}
	if _, _, err := l.RecordObjection(ctx, actor(), person, consent.Objection{Scope: consent.ToAll}, k); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("the same key for another wish: %v", err)
	}
	somebody := actor()
	somebody.Requester.User = "555000000010"
	if other, _, err := l.RecordObjection(ctx, somebody, person, in, k); err != nil || other.ID == first.ID {
		t.Errorf("the same key of another user gave %v and the first user's objection", err)
	}
	if first.Status != consent.InForce || first.Position != r1.Position || first.Recorded.IsZero() || first.AuthorUser != actor().Requester.User || first.AuthorODS != "X9A01" {
		t.Errorf("recorded as %+v", first)
	}
	if !first.Binds(time.Now()) || first.Binds(until) {
		t.Errorf("in force from acknowledgement until its end: it is not")
	}
	prefs, err := l.Preferences(ctx, numbers)
	if err != nil || len(prefs.Objections) != 2 || prefs.Position != 2 || prefs.Objections[1] != first {
		t.Errorf("preferences %v %+v", err, prefs.Position)
	}
	wk := key()
	gone, r3, err := l.WithdrawObjection(ctx, somebody, numbers, first.ID, wk)
	if err != nil || gone.Status != consent.Withdrawn || gone.ID != first.ID || gone.Position != r3.Position || gone.Responsible != first.Responsible || gone.AuthorUser != first.AuthorUser {
		t.Errorf("withdrawn: %v %+v", err, gone)
	}
	for _, k := range []string{wk, key()} {
		if same, r4, err := l.WithdrawObjection(ctx, somebody, numbers, first.ID, k); err != nil || same != gone || r4 != r3 {
			t.Errorf("withdrawn again: %v", err)
		}
	}
	if _, _, err := l.WithdrawObjection(ctx, actor(), numbers, "nosuchid", key()); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("withdrawing what is not there: %v, want ErrNotFound", err)
	}
	list, r5, err := l.ReadObjections(ctx, actor(), numbers)
	if err != nil || len(list) != 2 || list[0] != gone || r5.Position != 4 {
		t.Errorf("ReadObjections: %v, %d objections, at %d", err, len(list), r5.Position)
	}
	wantEntries(t, p, audit.TypeObjection, audit.TypeObjection, audit.TypeObjection, audit.TypeRead)
	sound(t, l)
}

func TestObjectionsThatCannotBe(t *testing.T) {
	l, person := audittest.Open(t), number(t, "9990000018")
	long := make([]byte, 501)
	for i := range long {
		long[i] = 'a'
	}
	now := time.Now()
	for name, o := range map[string]consent.Objection{
		"no scope":          {},
		"no custodian":      {Scope: consent.ToCustodian},
		"stray custodian":   {Scope: consent.ToAll, Custodian: "gp"},
		"no such section":   {Scope: consent.ToSection, Section: 99},
		"withdrawn at once": {Scope: consent.ToAll, Status: consent.Withdrawn},
		"ends before":       {Scope: consent.ToAll, From: now, Until: now.Add(-time.Hour)},
		"over already":      {Scope: consent.ToAll, Until: now.Add(-time.Hour)},
		"long text":         {Scope: consent.ToAll, Responsible: string(long)},
	} {
		if _, _, err := l.RecordObjection(ctx, actor(), person, o, key()); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if _, _, err := l.RecordObjection(ctx, actor(), record.NHSNumber{}, objection(consent.ToAll), key()); !errors.Is(err, audit.ErrInvalid) {
		t.Errorf("about nobody: %v, want ErrInvalid", err)
	}
	for _, k := range []string{"", "short", "zz000000000000000000000000000000"} {
		if _, _, err := l.RecordObjection(ctx, actor(), person, objection(consent.ToAll), k); !errors.Is(err, audit.ErrInvalid) {
			t.Errorf("a bad key: %v, want ErrInvalid", err)
		}
	}
}

// C-3, and the alert of whoever was told no.
func TestBreakGlass(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, person := p.Ledger, number(t, "9990000018")
	refuse := func(user string, about record.NHSNumber) {
		t.Helper()
		a := ask{subject: about, user: user, permission: record.AskedNo}
		d := a.decide(consent.Preferences{}, time.Now())
		if d.Reason != consent.ReasonAskedNo {
			t.Fatalf("decided %s, want asked-no", d.Reason)
		}
		if _, err := l.Refuse(ctx, a.access(time.Now(), d)); err != nil {
			t.Fatal(err)
		}
	}
	btg := func(user string) {
		t.Helper()
		o, permit := ask{subject: person, user: user, purpose: record.BreakGlass}.begin(t, l)
		if _, err := l.Release(ctx, o, permit, shown(permit)); err != nil {
			t.Fatal(err)
		}
	}
	btg("555000000001")
	refuse("555000000001", number(t, "9990000026")) // another person's no
	refuse("555000000007", person)                  // another user's
	btg("555000000001")
	refuse("555000000001", person)
	btg("555000000001")
	wantEntries(t, p, audit.TypeOverride, audit.TypeBegin, audit.TypeReleased, audit.TypeRefused, audit.TypeRefused, audit.TypeOverride, audit.TypeBegin,
		audit.TypeReleased, audit.TypeRefused, audit.TypeOverride, audit.TypeBegin, audit.TypeReleased)
	var kinds []audit.AlertKind
	err := p.Store.View(ctx, func(r audit.Reader) error {
		return r.EachAlert(func(a audit.AlertRow) error {
			if !a.Delivered.IsZero() || a.Review != 0 {
				t.Errorf("alert of %d is delivered or reviewed already", a.Position)
			}
			kinds = append(kinds, a.Kind)
			return nil
		})
	})
	if want := []audit.AlertKind{audit.AlertBreakGlass, audit.AlertBreakGlass, audit.AlertAfterNo}; err != nil || !slices.Equal(kinds, want) {
		t.Errorf("alerts %v %v, want %v", err, kinds, want)
	}
	sound(t, l)
}

func TestAfterNoEndsAfter24Hours(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		want  audit.AlertKind
	}{{24 * time.Hour, audit.AlertAfterNo}, {24*time.Hour + time.Second, audit.AlertBreakGlass}} {
		clock := newClock()
		p := audittest.New(t, audit.Config{Now: clock.now})
		a := ask{subject: number(t, "9990000018"), permission: record.AskedNo}
		if _, err := p.Ledger.Refuse(ctx, a.access(clock.now(), a.decide(consent.Preferences{}, clock.now()))); err != nil {
			t.Fatal(err)
		}
		clock.add(c.after)
		ask{subject: a.subject, purpose: record.BreakGlass}.begin(t, p.Ledger)
		err := p.Store.View(ctx, func(r audit.Reader) error {
			return r.EachAlert(func(a audit.AlertRow) error {
				if a.Kind != c.want {
					t.Errorf("after %s: %s, want %s", c.after, a.Kind, c.want)
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestKeysMakeWritesSafeToRepeat(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	l, a := p.Ledger, ask{subject: number(t, "9990000018")}
	permit, access := a.permit(t, l)
	first, err := l.Begin(ctx, permit, access)
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Begin(ctx, permit, access)
	if err != nil || again.Position() != first.Position() {
		t.Errorf("the same Begin: %v at %d, want at %d", err, again.Position(), first.Position())
	}
	other := access
	other.Operation = "search"
	if _, err := l.Begin(ctx, permit, other); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("another request under the same key: %v, want ErrClosed", err)
	}
	if _, err := l.Release(ctx, again, permit, shown(permit)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin(ctx, permit, access); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("the same Begin after its release: %v, want ErrClosed", err)
	}
	refused := a.access(time.Now(), consent.Decision{Outcome: consent.Refused, Reason: consent.ReasonRole})
	r1, err1 := l.Refuse(ctx, refused)
	r2, err2 := l.Refuse(ctx, refused)
	if err1 != nil || err2 != nil || r1 != r2 {
		t.Errorf("the same Refuse twice: %v %v", err1, err2)
	}
	wantEntries(t, p, audit.TypeBegin, audit.TypeReleased, audit.TypeRefused)
	sound(t, l)
}

// A batch is evaluated in order, each against the state with all earlier ones applied.
func TestOrderInsideABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := audittest.New(t, audit.Config{})
		l, a := p.Ledger, ask{subject: number(t, "9990000018")}
		before, permitBefore := a.begin(t, l)
		after, permitAfter := a.begin(t, l)
		bystander, bystanderPermit := ask{subject: number(t, "9990000026")}.begin(t, l)
		commits := p.Store.Commits()
		release := p.Store.Hold()
		queue := func(f func()) {
			go f()
			synctest.Wait()
		}
		queue(func() { _, _ = l.Refuse(ctx, a.access(time.Now(), consent.Decision{})) }) // holds the committer up, alone
		var errBefore, errObject, errAfter, errBystander error
		queue(func() { _, errBefore = l.Release(ctx, before, permitBefore, shown(permitBefore)) })
		queue(func() { _, _, errObject = l.RecordObjection(ctx, actor(), a.subject, objection(consent.ToAll), key()) })
		queue(func() { _, errAfter = l.Release(ctx, after, permitAfter, shown(permitAfter)) })
		queue(func() { _, errBystander = l.Release(ctx, bystander, bystanderPermit, shown(bystanderPermit)) })
		if n := l.Stats().Waiting; n != 4 {
			t.Fatalf("%d wait, want 4", n)
		}
		release()
		synctest.Wait()
		if n := p.Store.Commits() - commits; n != 1 {
			t.Errorf("%d commits, want 1: the one that had to wait takes the others along", n)
		}
		if errBefore != nil || errObject != nil || errBystander != nil {
			t.Errorf("before %v, objection %v, bystander %v, want none", errBefore, errObject, errBystander)
		}
		if !errors.Is(errAfter, audit.ErrConsentChanged) {
			t.Errorf("release behind the objection in the same batch: %v, want ErrConsentChanged", errAfter)
		}
		sound(t, l)
	})
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := audittest.New(t, audit.Config{Queue: 4})
		a := ask{subject: number(t, "9990000018")}
		release := p.Store.Hold()
		go func() { _, _ = p.Ledger.Refuse(ctx, a.access(time.Now(), consent.Decision{})) }() // holds the committer up, alone
		synctest.Wait()
		for range 16 {
			go func() { _, _ = p.Ledger.Refuse(ctx, a.access(time.Now(), consent.Decision{})) }()
		}
		synctest.Wait()
		start := time.Now()
		_, err := p.Ledger.Refuse(ctx, a.access(time.Now(), consent.Decision{}))
		if took := time.Since(start); !errors.Is(err, audit.ErrUnavailable) || took != 0 {
			t.Errorf("%v after %s, want ErrUnavailable at once", err, took)
		}
		release()
		synctest.Wait()
		if r := sound(t, p.Ledger); r.ByType[audit.TypeRefused] != 5 {
			t.Errorf("%d recorded, want the one under way and the four that were queued", r.ByType[audit.TypeRefused])
		}
	})
}

func TestDeadlineAndCallersWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := audittest.New(t, audit.Config{})
		l, a := p.Ledger, ask{subject: number(t, "9990000018")}
		o, oPermit := a.begin(t, l)
		permit, access := a.permit(t, l)
		release := p.Store.Hold()
		start := time.Now()
		_, err := l.Begin(ctx, permit, access)
		if took := time.Since(start); !errors.Is(err, audit.ErrUnavailable) || took != 2*time.Second {
			t.Errorf("a store that hangs: %v after %s, want ErrUnavailable after 2s", err, took)
		}
		permit2, access2 := a.permit(t, l)
		soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		if _, err := l.Begin(soon, permit2, access2); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("a caller who left: %v, want ErrUnavailable", err)
		}
		if _, err := l.Release(soon, o, oPermit, shown(oPermit)); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("a caller who left: %v, want ErrUnavailable", err)
		}
		release()
		synctest.Wait()
		time.Sleep(2 * time.Second) // of the bubble: the ledger looks after what nobody holds
		synctest.Wait()
		// The Release counts as released (over-reporting), the two Begins as cancelled: nobody holds them.
		r := sound(t, l)
		if r.Open != 0 || r.ByType[audit.TypeReleased] != 1 || r.ByType[audit.TypeBegin] != 3 || r.ByType[audit.TypeCancelled] != 2 {
			t.Errorf("entries %v, want 3 begun, 1 released, 2 cancelled", entries(t, p))
		}
	})
}

func TestForgottenAccessesAreAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := audittest.New(t, audit.Config{})
		o, permit := ask{subject: number(t, "9990000018")}.begin(t, p.Ledger)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		wantEntries(t, p, audit.TypeBegin)
		time.Sleep(2 * time.Second) // past twice the budget of 8 s
		synctest.Wait()
		wantEntries(t, p, audit.TypeBegin, audit.TypeAbandoned)
		if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Release of an abandoned access: %v, want ErrClosed", err)
		}
		sound(t, p.Ledger)
	})
}

func TestRestartClosesWhatWasOpen(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	a := ask{subject: number(t, "9990000018")}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 30 { // 300: more than one page
				a.begin(t, p.Ledger)
			}
		})
	}
	wg.Wait()
	object(t, p.Ledger, a.subject, consent.ToSection)
	killed := p.Crash(t)
	r := sound(t, killed.Ledger)
	if r.Open != 0 || r.ByType[audit.TypeAbandoned] != 300 || r.ByType[audit.TypeBegin] != 300 || r.Objections != 1 {
		t.Errorf("after a kill: %d open, %v", r.Open, r.ByType)
	}
	prefs, err := killed.Ledger.Preferences(ctx, []record.NHSNumber{a.subject})
	if err != nil || len(prefs.Objections) != 1 {
		t.Errorf("after a kill: %v, %d objections, want 1", err, len(prefs.Objections))
	}
	q := p.Reopen(t)
	if r := sound(t, q.Ledger); r.Open != 0 || r.ByType[audit.TypeAbandoned] != 300 {
		t.Errorf("after a restart: %d open, %v", r.Open, r.ByType)
	}
}

func TestAfterShutdownNothingIsTaken(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	a := ask{subject: number(t, "9990000018")}
	p.Ledger.CountUnauthenticated(netip.MustParseAddr("192.0.2.1"))
	a.begin(t, p.Ledger)
	if err := p.Ledger.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ledger.Refuse(ctx, a.access(time.Now(), consent.Decision{})); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("after Shutdown: %v, want ErrUnavailable", err)
	}
	wantEntries(t, p, audit.TypeBegin, audit.TypeCheck, audit.TypeAbandoned)
}

func TestCounters(t *testing.T) {
	clock := newClock()
	p := audittest.New(t, audit.Config{Now: clock.now, Sweep: time.Hour})
	l := p.Ledger
	for i := range 1200 {
		l.CountUnauthenticated(netip.AddrFrom4([4]byte{198, 51, byte(i / 256), byte(i)}))
	}
	l.CountUnauthenticated(netip.MustParseAddr("::ffff:198.51.0.0")) // the first again, in other words
	r := ask{subject: number(t, "9990000018")}.requester()
	for _, token := range []string{"a", "b", "c"} {
		r.TokenID = token
		l.CountLimited(r)
	}
	clock.add(time.Minute)
	l.CountUnauthenticated(netip.MustParseAddr("2001:db8::1"))
	q := p.Reopen(t)
	found, more, _, err := q.Ledger.Search(ctx, actor(), audit.Search{Types: []audit.EntryType{audit.TypeCheck, audit.TypeLimited}})
	if err != nil || more || len(found) != 3 {
		t.Fatalf("%v, %d entries, want 3", err, len(found))
	}
	if found[0].Count != 1 || found[0].Type != audit.TypeCheck || found[1].Count != 3 || found[1].Actor.Requester.User != r.User || found[2].Count != 1201 {
		t.Errorf("counts %d %d %d, want 1, 3 and 1201", found[0].Count, found[1].Count, found[2].Count)
	}
	sound(t, q.Ledger)
}

func TestConcurrentWritersShareCommits(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	p.Store.Slow(2 * time.Millisecond)
	people := []record.NHSNumber{number(t, "9990000018"), number(t, "9990000026"), number(t, "9990000034"), number(t, "9990000042")}
	var wg sync.WaitGroup
	const writers, rounds = 32, 5
	for i := range writers {
		wg.Go(func() {
			for j := range rounds {
				a := ask{subject: people[(i+j)%len(people)]}
				o, permit := a.begin(t, p.Ledger)
				if _, err := p.Ledger.Release(ctx, o, permit, shown(permit)); err != nil && !errors.Is(err, audit.ErrConsentChanged) {
					t.Errorf("Release: %v", err)
				}
				if i == 0 {
					made := object(t, p.Ledger, a.subject, consent.ToSection)
					if _, _, err := p.Ledger.WithdrawObjection(ctx, actor(), []record.NHSNumber{a.subject}, made.ID, key()); err != nil {
						t.Errorf("withdraw: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	r := sound(t, p.Ledger)
	if r.ByType[audit.TypeBegin] != writers*rounds {
		t.Errorf("%d begins, want %d", r.ByType[audit.TypeBegin], writers*rounds)
	}
	if commits := p.Store.Commits(); uint64(commits)*3 > r.Entries {
		t.Errorf("%d commits for %d entries: writes are not grouped", commits, r.Entries)
	}
}
