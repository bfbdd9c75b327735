package audit_test

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// The invented people and places of these tests.
var (
	ctx       = context.Background()
	gp        = record.Custodian{Key: "gp", ODS: "X9A01", Name: "Rivermead Surgery", Kind: record.KindGP}
	acute     = record.Custodian{Key: "acute", ODS: "X9B01", Name: "Rivermead General", Kind: record.KindAcute}
	mental    = record.Custodian{Key: "mentalhealth", ODS: "X9C01", Name: "Rivermead Minds", Kind: record.KindMentalHealth}
	keyNumber atomic.Uint64
)

func number(t testing.TB, text string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(text)
	if err != nil {
		t.Fatal("a test number is not valid")
	}
	return n
}

// key makes a key that no other call makes.
func key() string {
	var b [16]byte
	n := keyNumber.Add(1)
	for i := range 8 {
		b[15-i] = byte(n >> (8 * i))
	}
	return hex.EncodeToString(b[:])
}

// ask is one request as the broker would make it.
type ask struct {
	subject    record.NHSNumber
	supersedes []record.NHSNumber
	user       string
	org        record.ODSCode
	purpose    record.Purpose
	permission record.PermissionKind
	person     bool             // the person asks
	carer      record.NHSNumber // their carer asks
	overridden bool             // custodians let break-glass override objections
}

func (a ask) requester() record.Requester {
	if a.person {
		return record.Requester{Kind: record.Person, User: "login-1", Issuer: "https://login.example", Client: "app", Own: a.subject}
	}
	if !a.carer.IsZero() {
		return record.Requester{Kind: record.Person, User: "login-2", Issuer: "https://login.example", Client: "app", Own: a.carer}
	}
	user, org := a.user, a.org
	if user == "" {
		user = "555000000001"
	}
	if org == "" {
		org = "X9J01"
	}
	return record.Requester{Kind: record.Professional, User: user, Name: "Dr Test Example", RoleProfile: "555000000002", JobRole: "R8000", Organisation: org,
		Client: "epr", Issuer: "https://issuer.example", TokenID: "jti-1"}
}

func (a ask) decide(prefs consent.Preferences, now time.Time) consent.Decision {
	purpose, permission := a.purpose, record.Permission{Kind: a.permission}
	switch {
	case a.person:
		purpose, permission = record.PatientAccess, record.Permission{Kind: record.PatientSelf}
	case !a.carer.IsZero():
		purpose, permission = record.PatientAccess, record.Permission{Kind: record.Delegated}
	case purpose == "":
		purpose = record.Treatment
	}
	if permission.Kind == "" && purpose == record.Treatment {
		permission.Kind = record.AskedYes
	}
	q := consent.Question{
		Subject:   record.Subject{Number: a.subject, Standing: record.Live, Supersedes: a.supersedes},
		Requester: a.requester(),
		Role: consent.Role{Name: "clinical", Version: "v1", Sections: map[record.Purpose]record.Sections{record.Treatment: record.AllSections,
			record.BreakGlass: record.AllSections, record.PatientAccess: record.AllSections}},
		Purpose: purpose, Permission: permission, Relationship: record.Relationship{Kind: record.Admission}, BreakGlassReason: "unconscious, nobody to ask",
		Now: now,
	}
	for _, c := range []record.Custodian{gp, acute, mental} {
		q.Custodians = append(q.Custodians, consent.CustodianRules{Custodian: c, EmergencyOverride: a.overridden})
	}
	return consent.Evaluate(q, prefs)
}

func (a ask) access(now time.Time, d consent.Decision) audit.Access {
	out := audit.Access{Key: key(), RequestID: "req-1", Face: "rest", Operation: "everything", Subject: a.subject, Supersedes: a.supersedes, Standing: record.Live,
		Requester: a.requester(), RoleName: "clinical", Purpose: a.purpose, Permission: record.Permission{Kind: a.permission},
		Relationship: record.Relationship{Kind: record.Admission}, BreakGlassReason: "", Decision: d, Configuration: "c0ffee", Policy: "b0bb1e", At: now,
		Budget: 8 * time.Second}
	switch {
	case a.person:
		out.Purpose, out.Permission.Kind = record.PatientAccess, record.PatientSelf
	case !a.carer.IsZero():
		out.Purpose, out.Permission.Kind = record.PatientAccess, record.Delegated
	case a.purpose == "":
		out.Purpose = record.Treatment
	case a.purpose == record.BreakGlass:
		out.BreakGlassReason = "unconscious, nobody to ask"
	}
	if d.Outcome != consent.Permitted {
		out.Reason, out.Rule = d.Reason, d.Rule
	}
	for _, c := range d.Custodians {
		if c.Permitted != 0 {
			out.Asked = append(out.Asked, c.Key)
		}
	}
	return out
}

// permit decides by the ledger's own state.
func (a ask) permit(t testing.TB, l *audit.Ledger) (consent.Permit, audit.Access) {
	t.Helper()
	prefs, err := l.Preferences(ctx, append([]record.NHSNumber{a.subject}, a.supersedes...))
	if err != nil {
		t.Fatalf("reading preferences: %v", err)
	}
	now := time.Now()
	d := a.decide(prefs, now)
	p, ok := d.Permit()
	if !ok {
		t.Fatalf("not permitted: %s %s", d.Outcome, d.Reason)
	}
	return p, a.access(now, d)
}

func (a ask) begin(t testing.TB, l *audit.Ledger) (audit.Opened, consent.Permit) {
	t.Helper()
	p, access := a.permit(t, l)
	o, err := l.Begin(ctx, p, access)
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	return o, p
}

// shown is a disclosure of everything that p permits, two entries for each custodian.
func shown(p consent.Permit) audit.Disclosure {
	var d audit.Disclosure
	for _, c := range []record.Custodian{gp, acute, mental} {
		s := audit.Shown{Key: c.Key, State: record.Withheld}
		if sections := p.Sections(c.Key); sections != 0 {
			s = audit.Shown{Key: c.Key, State: record.Returned, Sections: sections, Count: 2, Digests: [][32]byte{{1}, {2}}}
		}
		d.Custodians = append(d.Custodians, s)
		d.Total += s.Count
	}
	return d
}

func actor() audit.Actor {
	return audit.Actor{Requester: record.Requester{Kind: record.Professional, User: "555000000009", Name: "Sam Desk", Organisation: "X9A01", Client: "epr"},
		RoleName: "front desk", RequestID: "req-9", Reason: "asked at the desk", Face: "grpc"}
}

func objection(scope consent.Scope) consent.Objection {
	o := consent.Objection{Scope: scope, Responsible: "self", Method: "in-person"}
	switch scope {
	case consent.ToCustodian:
		o.Custodian = mental.Key
	case consent.ToSection:
		o.Section = record.MentalHealth
	}
	return o
}

func object(t testing.TB, l *audit.Ledger, about record.NHSNumber, scope consent.Scope) consent.Objection {
	t.Helper()
	o, _, err := l.RecordObjection(ctx, actor(), about, objection(scope), key())
	if err != nil {
		t.Fatalf("RecordObjection: %v", err)
	}
	return o
}

// sound verifies the whole ledger and returns the report.
func sound(t testing.TB, l *audit.Ledger) audit.Report {
	t.Helper()
	r, err := l.Verify(ctx)
	if err = errors.Join(err, r.Sound()); err != nil {
		t.Fatalf("Verify: %v\n%v", err, r.Problems)
	}
	return r
}

// entries returns the types of all entries after the first, which begins the ledger.
func entries(t testing.TB, p *audittest.Place) []audit.EntryType {
	t.Helper()
	var out []audit.EntryType
	err := p.Store.Inner.View(ctx, func(r audit.Reader) error {
		list, err := r.Entries(1, 10_000)
		for _, e := range list {
			out = append(out, e.Type)
		}
		return err
	})
	if err != nil {
		t.Fatalf("reading entries: %v", err)
	}
	return out
}

func wantEntries(t testing.TB, p *audittest.Place, want ...audit.EntryType) {
	t.Helper()
	if got := entries(t, p); !slices.Equal(got, want) {
		t.Errorf("entries %v, want %v", got, want)
	}
}
