package policy

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

func staff(jobRole string) record.Requester {
	return record.Requester{Kind: record.Professional, JobRole: jobRole, Organisation: "X9A01"}
}

// TestDefault holds the built-in table to what the demo's personas are promised, row by row.
func TestDefault(t *testing.T) {
	table := Default()
	limited := func(codes string) record.Sections {
		t.Helper()
		var s record.Sections
		for _, code := range strings.Fields(codes) {
			x, ok := record.ParseSection(code)
			if !ok {
				t.Fatalf("no section %s", code)
			}
			s = s.With(x)
		}
		return s
	}
	for _, c := range []struct {
		name                   string
		who                    record.Requester
		care, own              record.Sections
		records, sees, searchs bool
	}{
		{"general-practitioner", staff("R0260"), record.AllSections, 0, true, true, false},
		{"clinical-practitioner", staff("R8000"), record.AllSections, 0, false, false, false},
		{"nurse", staff("R8001"), record.AllSections, 0, false, false, false},
		{"social-worker", staff("R8003"), limited("demographics social-care plans-alerts appointments community correspondence history mental-health"), 0, false, false, false},
		{"pharmacist", staff("R1290"), limited("demographics medications history results pharmacy plans-alerts other"), 0, false, false, false},
		{"front-desk", staff("R8010"), 0, 0, true, true, false},
		{"ig-officer", staff("R8024"), 0, 0, true, true, true},
		{"person", record.Requester{Kind: record.Person}, 0, record.AllSections, true, true, true},
		{NoRole, staff("R9999"), 0, 0, false, false, false},
		{NoRole, staff(""), 0, 0, false, false, false},
		{NoRole, staff("person"), 0, 0, false, false, false},
		{NoRole, record.Requester{Kind: record.System, JobRole: "R8000"}, 0, 0, false, false, false},
		{NoRole, record.Requester{JobRole: "R8000"}, 0, 0, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := table.Role(c.who)
			if r.Name != c.name || r.Version != table.Version() {
				t.Errorf("got name %q, version %q, want %q, %q", r.Name, r.Version, c.name, table.Version())
			}
			for _, p := range record.Purposes {
				want := c.care
				if p == record.PatientAccess {
					want = c.own
				}
				if got := r.Sections[p]; got != want {
					t.Errorf("%s: got sections %s, want %s", p, got, want)
				}
			}
			if r.MovesObjections != (c.name == "ig-officer") || r.FollowsObjections {
				t.Errorf("may move whole lists of objections: %t; may follow them: %t", r.MovesObjections, r.FollowsObjections)
			}
			if r.RecordsObjections != c.records || r.SeesObjections != c.sees || r.SearchesLedger != c.searchs || r.NoPermission {
				t.Errorf("got rights %t %t %t, not-required %t, want %t %t %t, false",
					r.RecordsObjections, r.SeesObjections, r.SearchesLedger, r.NoPermission, c.records, c.sees, c.searchs)
			}
		})
	}
}

func TestNoPermissionIsOfTheOrganisation(t *testing.T) {
	table, err := Parse(strings.NewReader("role person person\nrole R1 a\nsee R1 TREAT all\nno-permission X9F01\n"))
	if err != nil {
		t.Fatal(err)
	}
	who := staff("R1")
	if table.Role(who).NoPermission {
		t.Error("got not-required for another organisation")
	}
	who.Organisation = "X9F01"
	if !table.Role(who).NoPermission {
		t.Error("got no not-required for the organisation that the table names")
	}
	if table.Role(record.Requester{Kind: record.Person, Organisation: "X9F01"}).NoPermission {
		t.Error("got not-required for a person")
	}
	if who.JobRole = "R2"; table.Role(who).NoPermission {
		t.Error("got not-required for whom the table does not name")
	}
}

// TestRolesAreCopies: what one request does with its role does not reach the next.
func TestRolesAreCopies(t *testing.T) {
	table := Default()
	r := table.Role(staff("R8010"))
	r.Sections[record.Treatment] = record.AllSections
	if table.Role(staff("R8010")).Sections[record.Treatment] != 0 {
		t.Error("a change of one role changed the table")
	}
}

func TestVersionIsOfTheBytes(t *testing.T) {
	a, err := Parse(strings.NewReader("role R1 a\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(strings.NewReader("role R1 a \n"))
	if err != nil {
		t.Fatal(err)
	}
	// sha256sum of "role R1 a\n"
	const want = "42ffc4acf67a96585a139492d4d6a8fdcc031ce8ce76de44fb072d7cf5253231"
	if a.Version() != want {
		t.Errorf("got version %s, want %s", a.Version(), want)
	}
	if a.Version() == b.Version() {
		t.Error("two different files have one version")
	}
}

// TestErrors: every fault is told with its line, and says what to write.
func TestErrors(t *testing.T) {
	const head = "role person person\nrole R1 nurse\n"
	for _, c := range []struct{ name, text, want string }{
		{"unknown word", head + "allow R1 TREAT all", `line 3: unknown word "allow": begin with role, see, may, no-permission, follow, oversee or unasked`},
		{"too few words", head + "see R1 TREAT", "line 3: write: see CODE PURPOSES SECTIONS"},
		{"blank in a list", head + "see R1 TREAT all, results", "line 3: write: see CODE PURPOSES SECTIONS"},
		{"unknown role", head + "see R2 TREAT all", `line 3: no role "R2" yet`},
		{"unknown role that may", head + "may R2 search-ledger", `line 3: no role "R2" yet`},
		{"unknown purpose", head + "see R1 TREAT,HRESCH all", `line 3: unknown purpose "HRESCH"`},
		{"purpose in small letters", head + "see R1 treat all", `line 3: unknown purpose "treat"`},
		{"staff with the person's purpose", head + "see R1 PATRQT all", "line 3: PATRQT is the person's purpose"},
		{"person with a purpose of staff", head + "see person TREAT all", "line 3: PATRQT is the person's purpose"},
		{"unknown section", head + "see R1 TREAT notes", `line 3: unknown section "notes": all, or some of demographics, medications`},
		{"section twice", head + "see R1 TREAT results,results", "line 3: the section results is there twice"},
		{"all among others", head + "see R1 TREAT results,all", `line 3: unknown section "all"`},
		{"purpose twice", head + "see R1 TREAT all\nsee R1 ETREAT,TREAT results", "line 4: what R1 sees for TREAT was said before"},
		{"role twice", head + "role R1 other", "line 3: the role R1 was there before"},
		{"person twice", head + "role person other", "line 3: the role person was there before"},
		{"name twice", head + "role R2 nurse", "line 3: the name nurse was given in line 2"},
		{"name none", head + "role R2 none", "line 3: a role's name"},
		{"name with capitals", head + "role R2 Nurse", "line 3: a role's name"},
		{"code in small letters", head + "role r2 other", "line 3: a job role code"},
		{"unknown right", head + "may R1 delete", `line 3: unknown right "delete"`},
		{"right twice", head + "may R1 search-ledger,search-ledger", "line 3: the right search-ledger is there twice"},
		{"may twice", head + "may R1 search-ledger\nmay R1 see-objections", "line 4: what R1 may do was said before"},
		{"bad organisation", head + "no-permission x9", "line 3: an ODS code"},
		{"a person moves lists", "role person p\nmay person move-objections", "line 2: move-objections is of everybody's"},
		{"bad client", head + "follow https://i.example a/b gp-system all", "line 3: the client id"},
		{"bad issuer of a system", head + "follow i.example a gp-system all", "line 3: the issuer of a system's tokens"},
		{"bad name of a system", head + "follow https://i.example a Gp all", "line 3: the name of a system"},
		{"name of a role", "role R1 a\nfollow https://i.example x a all", "line 2: the name a was given in line 1"},
		{"system twice", head + "follow https://i.example x gp-system all\nfollow https://i.example x other all", "line 4: the system x was there before"},
		{"custodian twice", head + "follow https://i.example x gp-system gp,gp", "line 3: all, or keys of custodians"},
		{"bad custodian", head + "follow https://i.example x gp-system GP", "line 3: all, or keys of custodians"},
		{"locators of all", head + "unasked ALL", "line 3: keys of custodians"},
		{"a locator twice", head + "unasked gp,gp", "line 3: keys of custodians"},
		{"a locator twice, in two lines", head + "unasked gp\nunasked acute,gp", "line 4: keys of custodians"},
		{"no locator", head + "unasked", "line 3: write: unasked CUSTODIANS"},
		{"system without custodians", head + "follow https://i.example x gp-system", "line 3: write: follow ISSUER CLIENT NAME CUSTODIANS"},
		{"organisation twice", head + "no-permission X9F01\nno-permission X9F01", "line 4: the organisation X9F01 was there before"},
		{"empty", "# nothing\n", "line 1: the table names no role"},
		{"not UTF-8", "role R1 a\xff\n", "line 1: the file is not UTF-8"},
		{"byte order mark", "\ufeffrole R1 a\n", "line 1: unknown word"},
		{"long word", head + strings.Repeat("x", 500), `line 3: unknown word "` + strings.Repeat("x", 40) + `…"`},
		{"line of a later fault", "role R1 a\r\n\r\n# a comment\r\nsee R1 TREAT all # fine\r\nwhat\r\n", `line 5: unknown word "what"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, err := Parse(strings.NewReader(c.text))
			if err == nil || table != nil {
				t.Fatal("got a table, want an error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
			var line *LineError
			if !errors.As(err, &line) {
				t.Errorf("got %T, want a LineError in it", err)
			}
		})
	}
}

// A system that follows is found by the issuer and the client id of its own token, and by nothing else.
func TestFollowers(t *testing.T) {
	table, err := Parse(strings.NewReader("role R1 a\nsee R1 TREAT all\nfollow https://i.example demo-gp.system gp-system gp,acute\nfollow https://i.example all-seeing region all\n"))
	if err != nil {
		t.Fatal(err)
	}
	system := record.Requester{Kind: record.System, Issuer: "https://i.example", Client: "demo-gp.system"}
	r := table.Role(system)
	if r.Name != "gp-system" || !r.FollowsObjections || len(r.Follows) != 2 || r.SeesObjections || r.RecordsObjections || r.MovesObjections || len(r.Sections) != 0 || r.Version != table.Version() {
		t.Errorf("got %q, follows %t %v", r.Name, r.FollowsObjections, r.Follows)
	}
	r.Follows[0] = "other"
	if table.Role(system).Follows[0] != "gp" {
		t.Error("a caller changed the table")
	}
	if r := table.Role(record.Requester{Kind: record.System, Issuer: "https://i.example", Client: "all-seeing"}); !r.FollowsObjections || r.Follows != nil {
		t.Errorf("got %t %v, want every custodian", r.FollowsObjections, r.Follows)
	}
	for _, who := range []record.Requester{{Kind: record.System}, {Kind: record.System, Issuer: "https://i.example", Client: "gp-system"},
		{Kind: record.System, Client: "demo-gp.system"}, {Kind: record.System, Issuer: "https://other.example", Client: "demo-gp.system"}, {Kind: record.Professional, Client: "demo-gp.system"},
		{Kind: record.Person, Client: "demo-gp.system"}} {
		if table.Role(who).FollowsObjections {
			t.Errorf("a %s follows", who.Kind)
		}
	}
	if f := table.Followers(); len(f) != 2 || f[0].Client != "demo-gp.system" || f[1].Name != "region" {
		t.Errorf("%d followers are listed", len(f))
	}
}

func TestAllFaultsAtOnceButNotTooMany(t *testing.T) {
	_, err := Parse(strings.NewReader(strings.Repeat("what\n", 100)))
	var all Errors
	if !errors.As(err, &all) || len(all) != maxErrors || all[1].Line != 2 {
		t.Errorf("got %v, want the first %d lines", err, maxErrors)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.txt")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v for a file that is not there", err)
	}
	if err := os.WriteFile(path, []byte(defaultText), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if table.Version() != Default().Version() {
		t.Error("the same bytes have two versions")
	}
	if err := os.WriteFile(path, []byte("role R1 a\n"+strings.Repeat("# \n", MaxBytes/3)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("got %v for a file that is too large", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("got a table from a folder")
	}
	if _, err := Parse(iotest.ErrReader(errors.New("outside text"))); err == nil || strings.Contains(err.Error(), "outside") {
		t.Errorf("got %v from a reader that fails", err)
	}
}

// FuzzParse: no text makes the parser panic, and whatever it accepts keeps to the two kinds of purpose.
func FuzzParse(f *testing.F) {
	f.Add(defaultText)
	f.Add("role R1 a\nsee R1 TREAT,BTG results # x\nmay R1 search-ledger\nno-permission X9F01\n")
	f.Add("role person p\nsee person PATRQT all\r\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		if len(table.Version()) != 64 {
			t.Error("no version")
		}
		if person := table.Role(record.Requester{Kind: record.Person}); len(person.Sections) > 1 ||
			len(person.Sections) == 1 && person.Sections[record.PatientAccess] == 0 {
			t.Error("a person may ask for a purpose of staff")
		}
		for _, r := range table.staff {
			if r.Sections[record.PatientAccess] != 0 {
				t.Error("staff may ask for the person's purpose")
			}
		}
	})
}

// A region's officers see what the table says, and nobody else sees more for it.
func TestOversee(t *testing.T) {
	table, err := Parse(strings.NewReader("role R8024 ig\nmay R8024 search-ledger\nrole R8000 doctor\nrole person person\nmay person search-ledger,see-staff-names\noversee X9K01 X9A01,X9B01\noversee X9L01 all\n"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(org record.ODSCode, job string) consent.Role {
		return table.Role(record.Requester{Kind: record.Professional, JobRole: job, Organisation: org})
	}
	if r := at("X9K01", "R8024"); !slices.Equal(r.Oversees, []record.ODSCode{"X9A01", "X9B01"}) || r.OverseesAll {
		t.Error("the region's officer does not oversee the two")
	}
	if r := at("X9L01", "R8024"); !r.OverseesAll || r.Oversees != nil {
		t.Error("the officer of all does not oversee all")
	}
	for _, r := range []consent.Role{at("X9A01", "R8024"), at("X9K01", "R8000"), at("X9L01", "R8000")} {
		if r.OverseesAll || r.Oversees != nil {
			t.Error("somebody else oversees")
		}
	}
	if !table.Role(record.Requester{Kind: record.Person}).SeesStaffNames {
		t.Error("the person does not see names")
	}
	for _, bad := range []string{"oversee X9K01 X9K01\n", "oversee X9K01 all\noversee X9K01 all\n", "oversee x all\n", "oversee X9K01 X9A01,X9A01\n", "role R8024 ig\nmay R8024 see-staff-names\n"} {
		if _, err := Parse(strings.NewReader("role R8000 doctor\n" + bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Nobody goes unasked but whom the table names.
func TestUnasked(t *testing.T) {
	if got := Default().Unasked(); len(got) != 0 {
		t.Errorf("by default %v may go unasked", got)
	}
	table, err := Parse(strings.NewReader("role R1 a\nunasked acute,gp\nunasked council\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Unasked(); !slices.Equal(got, []record.CustodianKey{"acute", "gp", "council"}) {
		t.Errorf("got %v", got)
	}
}
