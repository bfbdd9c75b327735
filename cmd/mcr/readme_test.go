package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The table of personas in README.md is that of the issuer and of the policy in force.
func TestPersonasOfTheReadme(t *testing.T) {
	rows := map[string][]string{}
	for line := range strings.Lines(readme(t)) {
		cells := strings.Split(line, "|")
		if name := strings.Trim(strings.TrimSpace(cells[min(1, len(cells)-1)]), "`"); len(cells) == 7 && strings.Contains(cells[1], "`") {
			for _, c := range cells[2:6] {
				rows[name] = append(rows[name], strings.TrimSpace(c))
			}
		}
	}
	for _, x := range simulator.Personas() {
		row := rows[x.Name]
		delete(rows, x.Name)
		if row == nil {
			t.Errorf("%s is not in the table", x.Name)
			continue
		}
		organisation, _, _ := strings.Cut(strings.Fields(row[0])[0], ",")
		if want := orDash(x.Organisation); organisation != want {
			t.Errorf("%s: organisation %s, want %s", x.Name, organisation, want)
		}
		if want := orDash(x.JobRole); row[1] != want {
			t.Errorf("%s: job role %s, want %s", x.Name, row[1], want)
		}
		kind := map[string]record.RequesterKind{simulator.KindStaff: record.Professional, simulator.KindPerson: record.Person, simulator.KindSystem: record.System}[x.Kind]
		role := policy.Default().Role(record.Requester{Kind: kind, User: x.User, RoleProfile: x.RoleProfile, JobRole: x.JobRole, Organisation: record.ODSCode(x.Organisation)})
		var purposes []string
		for _, p := range []record.Purpose{record.Treatment, record.UrgentCare, record.BreakGlass, record.PatientAccess} {
			if role.Sections[p] != 0 {
				purposes = append(purposes, string(p))
			}
		}
		if want := orDash(strings.Join(purposes, ", ")); kind != record.System && row[2] != want {
			t.Errorf("%s: may ask for %s, want %s", x.Name, row[2], want)
		}
		for words, can := range map[string]bool{"all sections": role.Sections[record.Treatment] == record.AllSections, "no record": len(role.Sections) == 0 && (role.RecordsObjections || role.SearchesLedger),
			"record and see objections": role.RecordsObjections && role.SeesObjections, "search the ledger": role.SearchesLedger && kind != record.Person,
			"who looked at it": role.SearchesLedger && kind == record.Person} {
			if strings.Contains(row[3], words) != can {
				t.Errorf("%s: the table says that it may %s, which the policy does not say, or the other way round", x.Name, words)
			}
		}
		if mine := personas[x.Name]; mine.Purpose != "" && !slices.Contains(purposes, mine.Purpose) {
			t.Errorf("%s: mcr would state %s for it", x.Name, mine.Purpose)
		}
	}
	for name := range rows {
		t.Errorf("%s is in the table and no persona", name)
	}
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// What README.md says to try is what the demo prints, with the demo's usual addresses.
func TestReadmeSaysWhatTheDemoPrints(t *testing.T) {
	f, err := parser.ParseFile(gotoken.NewFileSet(), "../demo/print.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	text := strings.Join(strings.Fields(strings.ReplaceAll(readme(t), "\\\n", " ")), " ")
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		line := strings.TrimSpace(literal(call.Args[0]))
		if !strings.HasPrefix(line, "go run") && !strings.HasPrefix(line, "curl") {
			return true
		}
		commands++
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.Join(strings.Fields(line), " ")), "%s", `(127\.0\.0\.1:\d+|http://127\.0\.0\.1:\d+|9990000018)`)
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("README.md lacks what the demo prints: %s", line)
		}
		return true
	})
	if commands != 4 {
		t.Errorf("the demo prints %d commands, want 4", commands)
	}
}

// literal returns the text of string literals joined by +.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value) // a number is no command
		return s
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}
