package broker_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// An archive is asked like the ledger: over a matrix of officers and questions, each answer is all of its epoch that policy allows and nothing else, page by page; each question is an entry of the
// living ledger, with its reason; and whoever may not ask the ledger may not ask an archive.
func TestArchivesAreAskedLikeTheLedger(t *testing.T) {
	officers, questions, acts := 20, 120, 150
	folder := t.TempDir()
	archives, err := audit.OpenArchives(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = archives.Close() })
	p := audittest.New(t, audit.Config{Archives: archives})
	c := chronicleOn(t, 11, p.Ledger)
	all := make([]inquirer, officers)
	for i := range all {
		all[i] = c.officer(i)
	}
	for i := range acts {
		c.act()
		if i%10 == 9 {
			c.moment()
			a := c.ask()
			c.told(all[i%officers], a, c.question(a), fmt.Sprintf("early-%d", i))
		}
	}
	c.moment()
	within := slices.Clone(c.facts)
	keysDir := filepath.Join(filepath.Dir(p.Path), "keys")
	if _, err = audit.AddEpoch(keysDir); err == nil {
		var keys *audit.Keys
		if keys, err = audit.LoadKeys(keysDir); err == nil {
			err = p.Ledger.Reload(t.Context(), keys)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for range acts / 2 { // of the next epoch: no archive of the first tells of it
		c.act()
	}
	for i := 0; p.Ledger.Stats().Signed < p.Ledger.Stats().Position; i++ {
		if i == 300 {
			t.Fatal("three seconds, and the newest entries are not signed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	var b bytes.Buffer
	operator := audit.Actor{Requester: record.Requester{Kind: record.Professional, User: "operator-1"}, RoleName: "operator", Reason: "a test", Face: "operator"}
	if _, _, err := p.Ledger.Archive(t.Context(), operator, 1, &b, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "epoch-1.mcra"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	rows, foreign, pages, empty := 0, 0, 0, 0
	for i := range questions {
		o, a := all[i%officers], c.ask()
		q := c.question(a)
		q.Archive, q.Limit = "epoch-1.mcra", 1+q.Limit%25
		now := c.facts
		c.facts = within
		want := c.expected(o, a)
		c.facts = now
		before := p.Ledger.Stats().Position
		got, others, n := c.told(o, a, q, fmt.Sprintf("archive-%d", i))
		if !maps.Equal(got, want) {
			t.Errorf("question %d, %s: told of %d acts, want %d, or of others", i, a.kind, len(got), len(want))
		}
		if p.Ledger.Stats().Position < before+uint64(n) {
			t.Errorf("question %d: %d pages, and %d entries", i, n, p.Ledger.Stats().Position-before)
		}
		for _, n := range got {
			rows += n
		}
		if len(got) == 0 {
			empty++
		}
		foreign, pages = foreign+others, pages+n
	}
	t.Logf("%d officers, %d questions to an archive, %d pages, %d rows (%d by other organisations' staff, %d questions without any), all as policy allows", officers, questions, pages, rows, foreign, empty)
	if rows < questions/2 || foreign == 0 || pages <= questions || empty > questions*9/10 {
		t.Error("too little was asked to show anything")
	}

	officer := record.Requester{Kind: record.Professional, User: "7770001", JobRole: "R8024", Organisation: "X9A01", Client: "ig", Issuer: "i"}
	person := themselves(number(t, "9990000018"), number(t, "9990000018"))
	for name, x := range map[string]struct {
		who     record.Requester
		role    consent.Role
		archive string
		reason  string
		want    broker.Kind
		say     string
	}{
		"an officer":                  {officer, officerRole, "epoch-1.mcra", "an inquiry", "", ""},
		"without a reason":            {officer, officerRole, "epoch-1.mcra", "", broker.Invalid, "reason"},
		"an archive that is not here": {officer, officerRole, "epoch-2.mcra", "an inquiry", broker.Invalid, "archive: there is no file of that name"},
		"outside the folder":          {officer, officerRole, "../epoch-1.mcra", "an inquiry", broker.Invalid, "archive: name a file"},
		"a clinician":                 {clinician, clinical, "epoch-1.mcra", "curious", broker.Forbidden, ""},
		"the person":                  {person.Requester, personal, "epoch-1.mcra", "", "", ""},
	} {
		before := p.Ledger.Stats().Position
		q := audit.Question{Kind: audit.WhoLooked, Subjects: []record.NHSNumber{number(t, "9990000018")}, Archive: x.archive}
		_, err := c.AskLedger(t.Context(), broker.LedgerQuestion{ID: "q", Face: "grpc", Requester: x.who, Role: x.role, Reason: x.reason, Question: q, Arrived: time.Now()})
		_, _, _, err2 := c.SearchAccesses(t.Context(), broker.SearchRequest{ID: "s", Face: "grpc", Requester: x.who, Role: x.role, Reason: x.reason, Arrived: time.Now(),
			Query: audit.Search{Subjects: q.Subjects, Archive: x.archive}})
		for i, err := range []error{err, err2} {
			kind, text := broker.Kind(""), ""
			if err != nil {
				kind, text = refusal(t, err).Kind, refusal(t, err).Field
			}
			if kind != x.want || !strings.Contains(text, x.say) {
				t.Errorf("%s, %d: %q %q, want %q %q", name, i, kind, text, x.want, x.say)
			}
		}
		if p.Ledger.Stats().Position < before+2 {
			t.Errorf("%s: it is not on record", name)
		}
	}
	counted := 0
	if _, _, _, err := c.CountLedger(t.Context(), broker.LedgerQuestion{ID: "t", Face: "grpc", Requester: officer, Role: officerRole, Reason: "an inquiry", Arrived: time.Now(),
		Question: audit.Question{Kind: audit.OfRecords, Holder: "X9A01", Archive: "epoch-1.mcra"}}, func(audit.Row) { counted++ }); err != nil || counted == 0 {
		t.Errorf("%v: %d counted", err, counted)
	}
	verified(t, c.ledger)
}
