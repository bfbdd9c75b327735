package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

var ctx = context.Background()

// written is a ledger that the product's own code wrote, closed, and what is known of it outside.
type written struct {
	*audittest.Place
	keysDir  string
	key      string // public
	receipts []audit.Receipt
	requests []request
}

// request is one that a custodian answered.
type request struct {
	at            time.Time
	custodian, id string
}

func number(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a test number is not valid")
	}
	return n
}

func staff() record.Requester {
	return record.Requester{Kind: record.Professional, User: "555000000001", Name: "Dr Test Example", Organisation: "X9J01", Client: "epr", Issuer: "https://issuer.example"}
}

func by() audit.Actor { return audit.Actor{Requester: staff(), RoleName: "ig", Reason: "a test"} }

var custodians = []record.Custodian{{Key: "gp", ODS: "X9A01"}, {Key: "acute", ODS: "X9B01"}, {Key: "mentalhealth", ODS: "X9C01"}}

// keyOf makes a key that no other call makes.
func keyOf(n int) string { return fmt.Sprintf("%032x", n) }

// access does what the broker does: decide by what the ledger says, begin, release.
func (w *written) access(t testing.TB, n int, person record.NHSNumber, glass bool) {
	t.Helper()
	o, permit, a, ok := w.begin(t, n, person, glass)
	if !ok {
		return
	}
	var shows audit.Disclosure
	for _, k := range a.Asked {
		w.requests = append(w.requests, request{time.Now(), string(k), outgoing(a.RequestID)})
		shows.Custodians = append(shows.Custodians, audit.Shown{Key: k, State: record.Returned, Sections: permit.Sections(k), Count: 1, Digests: [][32]byte{{byte(n)}}})
		shows.Total++
	}
	r, err := w.Ledger.Release(ctx, o, permit, shows)
	if err != nil {
		t.Fatalf("Release: %v", err)
	}
	w.receipts = append(w.receipts, r)
}

// begin is the first half of an access, and false if it was refused.
func (w *written) begin(t testing.TB, n int, person record.NHSNumber, glass bool) (audit.Opened, consent.Permit, audit.Access, bool) {
	t.Helper()
	l := w.Ledger
	prefs, err := l.Preferences(ctx, []record.NHSNumber{person})
	if err != nil {
		t.Fatal(err)
	}
	purpose, permission, why := record.Treatment, record.Permission{Kind: record.AskedYes}, ""
	if glass {
		purpose, permission, why = record.BreakGlass, record.Permission{Kind: record.CannotAsk}, "unconscious, nobody to ask"
	}
	q := consent.Question{Subject: record.Subject{Number: person, Standing: record.Live}, Requester: staff(), Purpose: purpose, Permission: permission,
		Role:         consent.Role{Name: "clinical", Version: "v1", Sections: map[record.Purpose]record.Sections{record.Treatment: record.AllSections, record.BreakGlass: record.AllSections}},
		Relationship: record.Relationship{Kind: record.Admission}, BreakGlassReason: why, Now: time.Now()}
	for _, c := range custodians {
		q.Custodians = append(q.Custodians, consent.CustodianRules{Custodian: c})
	}
	d := consent.Evaluate(q, prefs)
	a := audit.Access{Key: keyOf(n), RequestID: fmt.Sprintf("request-%d", n), Face: "rest", Operation: "everything", Subject: person, Standing: record.Live, Requester: staff(),
		RoleName: "clinical", Purpose: purpose, Permission: permission, Relationship: q.Relationship, BreakGlassReason: why, Decision: d, At: q.Now, Budget: 8 * time.Second}
	for _, c := range d.Custodians {
		if c.Permitted != 0 {
			a.Asked = append(a.Asked, c.Key)
		}
	}
	permit, ok := d.Permit()
	if !ok {
		a.Reason, a.Rule, a.Asked = d.Reason, d.Rule, nil
		r, err := l.Refuse(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		w.receipts = append(w.receipts, r)
		return audit.Opened{}, permit, a, false
	}
	o, err := l.Begin(ctx, permit, a)
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	return o, permit, a, true
}

// write makes a ledger with a bit of everything.
func write(t testing.TB, accesses int) *written {
	t.Helper()
	w := &written{Place: audittest.New(t, audit.Config{})}
	w.keysDir = filepath.Join(filepath.Dir(w.Path), "keys")
	verifiers, err := w.Keys.Verifiers(w.Ledger.Origin())
	if err != nil {
		t.Fatal(err)
	}
	w.key = verifiers[0]
	people := []record.NHSNumber{number(t, "9990000018"), number(t, "9990000026"), number(t, "9990000034")}
	var made []consent.Objection
	for i := range accesses {
		person := people[i%len(people)]
		if i%7 == 3 {
			wish := consent.Objection{Scope: consent.ToSection, Section: record.MentalHealth, Responsible: "self", Method: "in-person"}
			if i%14 == 3 {
				wish = consent.Objection{Scope: consent.ToCustodian, Custodian: "mentalhealth", Responsible: "self", Method: "in-person"}
			}
			o, r, err := w.Ledger.RecordObjection(ctx, by(), person, wish, keyOf(1_000_000+i))
			if err != nil {
				t.Fatal(err)
			}
			made, w.receipts = append(made, o), append(w.receipts, r)
		}
		if i%11 == 10 {
			if _, _, err := w.Ledger.WithdrawObjection(ctx, by(), people, made[len(made)/2].ID, keyOf(2_000_000+i)); err != nil {
				t.Fatal(err)
			}
		}
		w.access(t, i, person, i%9 == 8)
		if i%40 == 39 {
			w.settle(t)
		}
	}
	w.settle(t)
	return w
}

// settle waits until a checkpoint covers everything.
func (w *written) settle(t testing.TB) {
	t.Helper()
	for range 200 {
		if s := w.Ledger.Stats(); s.Signed == s.Position {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("two seconds, and the newest entries are not signed")
}

// exported is an export of a ledger's file as it stands, whoever changed it.
func exported(t testing.TB, w *written, path string, unsealed bool) ([]byte, error) {
	t.Helper()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: path, Readers: 1})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = audit.ExportStore(ctx, store, w.Keys, w.Ledger.Origin(), unsealed, func(b []byte) error { out.Write(b); return nil })
	if closed := store.Close(); err == nil {
		err = closed
	}
	return out.Bytes(), err
}

// file puts bytes into a file.
func file(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
