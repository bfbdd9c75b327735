package audit_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// Nothing of a person, a requester or free text stands in the ledger's files in the open.
func TestEncryptedAtRest(t *testing.T) {
	clock := newClock()
	p := audittest.New(t, audit.Config{Now: clock.now})
	l := p.Ledger
	a := ask{subject: number(t, "9990000018"), supersedes: []record.NHSNumber{number(t, "9990000026")}, user: "MARKERUSER"}
	d := a.decide(consent.Preferences{}, clock.now())
	access := a.access(clock.now(), d)
	access.RequestID, access.Filter, access.Requester.Name, access.Relationship.Ref = "MARKERREQ", "MARKERFILTER", "MARKERNAME", "MARKERREL"
	access.Requester.RoleProfile, access.Requester.Client, access.Requester.TokenID, access.RoleName = "MARKERPROFILE", "MARKERCLIENT", "MARKERJTI", "MARKERROLE"
	access.Permission = record.Permission{Kind: record.CannotAsk, Reason: "MARKERREASON"}
	permit, _ := d.Permit()
	o, err := l.Begin(ctx, permit, access)
	if err != nil {
		t.Fatal(err)
	}
	disclosure := shown(permit)
	disclosure.Custodians[0].Parts = []record.Part{{Source: "MARKERPART"}}
	disclosure.Custodians[0].Digests[0] = [32]byte([]byte("MARKERDIGESTMARKERDIGESTMARKERDI"))
	if _, err := l.Release(ctx, o, permit, disclosure); err != nil {
		t.Fatal(err)
	}
	b := ask{subject: a.subject, user: "MARKERUSER", purpose: record.BreakGlass}
	bd := b.decide(consent.Preferences{}, clock.now())
	ba := b.access(clock.now(), bd)
	ba.BreakGlassReason = "MARKERGLASS"
	bp, _ := bd.Permit()
	if _, err := l.Begin(ctx, bp, ba); err != nil {
		t.Fatal(err)
	}
	by := actor()
	by.Requester.User, by.Requester.Name, by.Reason, by.RoleName = "MARKERACTOR", "MARKERDESK", "MARKERWHY", "MARKERROLE"
	wish := objection(consent.ToSection)
	wish.Responsible, wish.Method = "MARKERMOTHER", "MARKERMETHOD"
	made, _, err := l.RecordObjection(ctx, by, a.subject, wish, key())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.WithdrawObjection(ctx, by, []record.NHSNumber{a.subject}, made.ID, key()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := l.Search(ctx, by, audit.Search{Subjects: []record.NHSNumber{a.subject}, User: "MARKERUSER"}); err != nil {
		t.Fatal(err)
	}
	l.CountUnauthenticated(netip.MustParseAddr("203.0.113.77"))
	l.CountLimited(by.Requester)
	clock.add(2 * time.Minute)

	look := func(when string) {
		t.Helper()
		files, err := filepath.Glob(p.Path + "*")
		if err != nil || len(files) < 2 {
			t.Fatalf("%v, %d files", err, len(files))
		}
		kept, err := filepath.Glob(filepath.Join(audittest.Checkpoints(p.Path), "*"))
		if err != nil || len(kept) == 0 {
			t.Fatalf("%v: no checkpoints are kept", err)
		}
		files = append(files, kept...)
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, marker := range []string{"MARKER", "9990000018", "9990000026", "203.0.113.77", "mental-health", "asked-no", "unconscious"} {
				if bytes.Contains(content, []byte(marker)) {
					t.Errorf("%s: %s holds a marker", when, filepath.Base(f))
				}
			}
		}
	}
	signed(t, p) // an export holds what is under a checkpoint
	var sealed, clear bytes.Buffer
	for into, unsealed := range map[*bytes.Buffer]bool{&sealed: false, &clear: true} {
		if err := audit.ExportStore(ctx, p.Store, p.Keys, l.Origin(), unsealed, func(b []byte) error { into.Write(b); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for name, export := range map[string][]byte{"sealed": sealed.Bytes(), "in clear": clear.Bytes()} {
		opened := bytes.Clone(export)
		for line := range bytes.Lines(export) { // what is in base64 is looked at as it is and as it reads
			if _, rest, ok := bytes.Cut(line, []byte(`"opened":"`)); ok {
				text, _, _ := bytes.Cut(rest, []byte(`"`))
				if plain, err := base64.StdEncoding.DecodeString(string(text)); err == nil {
					opened = append(opened, plain...)
				}
			}
		}
		if found := bytes.Contains(opened, []byte("MARKERREQ")) || bytes.Contains(opened, []byte("9990000018")); found != (name == "in clear") {
			t.Errorf("an export %s: a marker was found: %v", name, found)
		}
	}
	look("while it runs")
	content, _ := os.ReadFile(p.Path + "-wal")
	if !bytes.Contains(content, []byte("X9J01")) {
		t.Errorf("the log does not hold what it should: the search above proves nothing")
	}
	p.Close(t)
	look("afterwards")
	if r := audittestVerify(t, p); r.ByType[audit.TypeCheck] != 1 || r.ByType[audit.TypeLimited] != 1 {
		t.Errorf("the counters were not written")
	}
}

func audittestVerify(t *testing.T, p *audittest.Place) audit.Report {
	t.Helper()
	q := p.Reopen(t)
	return sound(t, q.Ledger)
}

// Keys do not print, and errors tell nothing of a person.
func TestNothingPrints(t *testing.T) {
	p := audittest.New(t, audit.Config{})
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("keys", "keys", p.Keys, "value", *p.Keys)
	text := log.String() + fmt.Sprintf("%v %+v %#v %s %x", p.Keys, *p.Keys, p.Keys, p.Keys, *p.Keys)
	dir := filepath.Join(filepath.Dir(p.Path), "keys")
	key, err := os.ReadFile(filepath.Join(dir, "payload-0001.key"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, fmt.Sprintf("%x", key)) || strings.Contains(text, fmt.Sprintf("%d", key[:4])[1:8]) || strings.Count(text, "redacted") != 7 {
		t.Errorf("keys print")
	}
	a := ask{subject: number(t, "9990000018")}
	o, permit := a.begin(t, p.Ledger)
	object(t, p.Ledger, a.subject, consent.ToAll)
	_, err = p.Ledger.Release(ctx, o, permit, shown(permit))
	if s := fmt.Sprintf("%v %+v", err, err); strings.Contains(s, "9990000018") || strings.Contains(s, "555000000009") {
		t.Errorf("an error tells of a person")
	}
}
