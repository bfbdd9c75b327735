package consent_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// A mutant is the decision code with one small thing wrong: a condition turned round, a comparison shifted, a statement or a case left out, one reason, rule or
// word of a request put for another, a result reversed. All of them are compiled into one program, in which a number from outside says which is
// alive: mutation_test.go asks for each of them whether some test fails.

// mutated are the files that decide.
var mutated = []string{"consent.go", "decide.go", "delegation.go", "permit.go"}

// switchboard is the file that the program gets besides: 0 is the code as it is.
const switchboard = `package consent

import (
	"os"
	"strconv"
)

var alive, _ = strconv.Atoi(os.Getenv("CONSENT_MUTANT"))

func mOff(n int) bool { return alive == n }

func mNot(n int, is bool) bool { return is != (alive == n) }

func mPick[T any](n int, is, other T) T {
	if alive == n {
		return other
	}
	return is
}

func mAlt(n int, is, other func() bool) bool {
	if alive == n {
		return other()
	}
	return is()
}

func mAnd(n int, x, y func() bool) bool {
	switch alive {
	case n:
		return x() || y()
	case n + 1:
		return x()
	case n + 2:
		return y()
	}
	return x() && y()
}

func mOr(n int, x, y func() bool) bool {
	switch alive {
	case n:
		return x() && y()
	case n + 1:
		return x()
	case n + 2:
		return y()
	}
	return x() || y()
}
`

// mutant is one of them.
type mutant struct {
	n    int
	name string // where and what: file, function, what was done to which text
}

// grower writes the program that holds all mutants.
type grower struct {
	src     []byte
	file    string
	fn      string
	base    int // of the file in the set of files
	list    []mutant
	seen    map[string]int
	results [][]string // types of the results of the functions around
}

// grow returns the mutants, and the files of the program that holds them.
func grow(t *testing.T) ([]mutant, map[string][]byte) {
	t.Helper()
	g := &grower{seen: map[string]int{}}
	out := map[string][]byte{"mutants.go": []byte(switchboard)}
	for _, name := range mutated {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		g.src, g.file, g.base = src, name, set.File(file.Pos()).Base()
		var text strings.Builder
		at := 0
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			g.fn, g.results = fn.Name.Name, [][]string{g.types(fn.Type)}
			text.Write(src[at:g.offset(fn.Body.Pos())])
			text.WriteString(g.render(fn.Body))
			at = g.offset(fn.Body.End())
		}
		text.Write(src[at:])
		out[name] = []byte(text.String())
	}
	return g.list, out
}

func (g *grower) offset(p token.Pos) int     { return int(p) - g.base }
func (g *grower) text(n ast.Node) string     { return string(g.src[g.offset(n.Pos()):g.offset(n.End())]) }
func (g *grower) closure(text string) string { return "func() bool { return " + text + " }" }
func (g *grower) types(f *ast.FuncType) (list []string) {
	if f.Results == nil {
		return nil
	}
	for _, r := range f.Results.List {
		for range max(1, len(r.Names)) {
			list = append(list, g.text(r.Type))
		}
	}
	return list
}

// mutant gives the next number to something done to a node.
func (g *grower) mutant(what string, n ast.Node) int {
	line, _, more := strings.Cut(g.text(n), "\n")
	if more {
		line += " …"
	}
	name := fmt.Sprintf("%s %s: %s: %s", g.file, g.fn, what, strings.TrimSpace(line))
	g.seen[name]++
	if c := g.seen[name]; c > 1 {
		name = fmt.Sprintf("%s (%d)", name, c)
	}
	g.list = append(g.list, mutant{len(g.list) + 1, name})
	return len(g.list)
}

// render returns a node's text with everything in it that can be mutated put so that it is.
func (g *grower) render(n ast.Node) string {
	var out strings.Builder
	at := g.offset(n.Pos())
	ast.Inspect(n, func(c ast.Node) bool {
		if c == nil || c == n {
			return c == n
		}
		text, ok := g.full(n, c)
		if !ok {
			return true
		}
		out.Write(g.src[at:g.offset(c.Pos())])
		out.WriteString(text)
		at = g.offset(c.End())
		return false
	})
	out.Write(g.src[at:g.offset(n.End())])
	return out.String()
}

// words that stand for each other. What has no counterpart becomes a word that nothing is equal to.
var (
	counterpart = map[string]string{"Permitted": "Refused", "Refused": "Permitted", "Suppressed": "Refused", "Neutral": "Refused", "permit": "withhold", "withhold": "permit", "refuse": "permit"}
	statuses    = []string{"Requested", "InForce", "Declined", "Withdrawn", "ToAll", "ToCustodian", "ToSection"}
	flipped     = map[token.Token]string{token.EQL: "!=", token.NEQ: "==", token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}
)

// full returns the text of a child with its own mutants, and false if only what is in it can be mutated.
func (g *grower) full(parent, c ast.Node) (string, bool) {
	switch c := c.(type) {
	case *ast.FuncLit:
		g.results = append(g.results, g.types(c.Type))
		text := g.render(c)
		g.results = g.results[:len(g.results)-1]
		return text, true
	case *ast.BlockStmt:
		return g.block(c.List, "{", "}"), true
	case *ast.CaseClause:
		return g.clause(parent, c), true
	case *ast.SwitchStmt:
		if c.Tag == nil {
			return g.tagless(c), true
		}
	case *ast.KeyValueExpr:
		if _, name := c.Key.(*ast.Ident); name {
			value, ok := g.full(c, c.Value)
			if !ok {
				value = g.render(c.Value)
			}
			return g.text(c.Key) + ": " + value, true
		}
	case *ast.SelectorExpr:
		if x, ok := c.X.(*ast.Ident); ok && x.Name == "record" && isWord(c.Sel.Name) {
			return fmt.Sprintf(`mPick(%d, %s, "nothing of the kind")`, g.mutant("another word", c), g.text(c)), true
		}
		if x, ok := g.full(c, c.X); ok {
			return x + "." + c.Sel.Name, true
		}
		return g.render(c.X) + "." + c.Sel.Name, true
	case *ast.Ident:
		return g.ident(c)
	case *ast.CallExpr:
		return g.call(c)
	case *ast.UnaryExpr:
		if c.Op == token.NOT {
			return fmt.Sprintf("mNot(%d, !%s)", g.mutant("turned round", c), g.operand(c.X)), true
		}
	case *ast.BinaryExpr:
		return g.binary(c)
	case *ast.ReturnStmt:
		return g.returned(c), true
	}
	return "", false
}

// isWord reports whether a constant of package record is one of the words of requests.
func isWord(name string) bool {
	return slices.Contains([]string{"Professional", "Person", "System", "Treatment", "UrgentCare", "BreakGlass", "PatientAccess", "AskedYes", "AskedEarlier", "ImpliedByReferral", "CannotAsk",
		"BestInterests", "PermissionNotNeeded", "AskedNo", "PatientSelf", "Delegated", "Registered", "Referral", "Admission", "Appointment", "Attendance", "Caseload", "SelfClaimed", "Live",
		"Deceased", "Unknown", "Superseded", "Invalidated", "Restricted", "KindPatientEntered"}, name)
}

func (g *grower) operand(e ast.Expr) string {
	if text, ok := g.full(nil, e); ok {
		return text
	}
	return g.render(e)
}

func (g *grower) ident(c *ast.Ident) (string, bool) {
	switch {
	case counterpart[c.Name] != "" && c.Name[0] < 'a':
		return fmt.Sprintf("mPick(%d, %s, %s)", g.mutant("another outcome", c), c.Name, counterpart[c.Name]), true
	case slices.Contains(statuses, c.Name):
		return fmt.Sprintf(`mPick(%d, %s, "nothing of the kind")`, g.mutant("another word", c), c.Name), true
	case strings.HasPrefix(c.Name, "Reason") && c.Name != "Reason", strings.HasPrefix(c.Name, "Rule"):
		return fmt.Sprintf(`mPick(%d, %s, "another")`, g.mutant("another reason or rule", c), c.Name), true
	}
	return "", false
}

func (g *grower) call(c *ast.CallExpr) (string, bool) {
	var args []string
	for _, a := range c.Args {
		args = append(args, g.operand(a))
	}
	name := g.text(c.Fun)
	switch {
	case counterpart[name] != "":
		name = fmt.Sprintf("mPick(%d, %s, %s)", g.mutant("another verdict", c), name, counterpart[name])
	case name == "cmp.Compare":
		return fmt.Sprintf("mPick(%d, cmp.Compare(%s, %s), cmp.Compare(%s, %s))", g.mutant("turned round", c), args[0], args[1], args[1], args[0]), true
	case name == "cmp.Or":
		for i := range args {
			args[i] = fmt.Sprintf("mPick(%d, %s, 0)", g.mutant("left out", c.Args[i]), args[i])
		}
	default:
		name = g.operand(c.Fun)
	}
	dots := ""
	if c.Ellipsis.IsValid() {
		dots = "..."
	}
	return name + "(" + strings.Join(args, ", ") + dots + ")", true
}

func (g *grower) binary(c *ast.BinaryExpr) (string, bool) {
	switch c.Op {
	case token.LAND, token.LOR:
		n := g.mutant("the other of && and ||", c)
		g.mutant("left side only", c)
		g.mutant("right side only", c)
		join := map[token.Token]string{token.LAND: "mAnd", token.LOR: "mOr"}[c.Op]
		return fmt.Sprintf("%s(%d, %s, %s)", join, n, g.closure(g.operand(c.X)), g.closure(g.operand(c.Y))), true
	case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		n := g.mutant("compared otherwise", c)
		x, y := g.operand(c.X), g.operand(c.Y)
		text := fmt.Sprintf("mAlt(%d, %s, %s)", n, g.closure(x+" "+c.Op.String()+" "+y), g.closure(x+" "+flipped[c.Op]+" "+y))
		if lit, ok := c.Y.(*ast.BasicLit); ok && lit.Kind == token.INT {
			m := g.mutant("one more", c)
			text = fmt.Sprintf("mAlt(%d, %s, %s)", m, g.closure(text), g.closure(x+" "+c.Op.String()+" "+lit.Value+" + 1"))
		}
		return text, true
	}
	return "", false
}

func (g *grower) returned(c *ast.ReturnStmt) string {
	types := g.results[len(g.results)-1]
	var list []string
	for i, r := range c.Results {
		text := g.operand(r)
		if len(c.Results) == len(types) {
			switch lit, _ := r.(*ast.BasicLit); {
			case types[i] == "bool":
				text = fmt.Sprintf("mNot(%d, %s)", g.mutant("another result", c), text)
			case lit != nil && lit.Kind == token.INT:
				text = fmt.Sprintf("mPick[%s](%d, %s, %s + 1)", types[i], g.mutant("one more", c), text, text)
			}
		}
		list = append(list, text)
	}
	return strings.TrimSpace("return " + strings.Join(list, ", "))
}

// block writes statements, each of which may be left out.
func (g *grower) block(list []ast.Stmt, opens, closes string) string {
	var out strings.Builder
	out.WriteString(opens + "\n")
	for _, s := range list {
		out.WriteString(g.statement(s) + "\n")
	}
	out.WriteString(closes)
	return out.String()
}

func (g *grower) statement(s ast.Stmt) string {
	droppable := false
	switch s := s.(type) {
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.RangeStmt, *ast.ForStmt, *ast.BranchStmt:
		droppable = true
	case *ast.AssignStmt:
		droppable = s.Tok != token.DEFINE
	case *ast.IfStmt:
		droppable = s.Else == nil
	}
	if !droppable {
		return g.any(s)
	}
	n := g.mutant("left out", s)
	return fmt.Sprintf("if !mOff(%d) {\n%s\n}", n, g.any(s))
}

func (g *grower) any(s ast.Stmt) string {
	if i, ok := s.(*ast.IfStmt); ok {
		return g.conditional(i)
	}
	if text, ok := g.full(nil, s); ok {
		return text
	}
	return g.render(s)
}

func (g *grower) conditional(i *ast.IfStmt) string {
	text := "if "
	if i.Init != nil {
		text += g.render(i.Init) + "; "
	}
	n := g.mutant("turned round", i.Cond)
	text += fmt.Sprintf("mNot(%d, %s) ", n, g.operand(i.Cond)) + g.block(i.Body.List, "{", "}")
	switch e := i.Else.(type) {
	case *ast.IfStmt:
		text += " else " + g.conditional(e)
	case *ast.BlockStmt:
		text += " else " + g.block(e.List, "{", "}")
	}
	return text
}

// tagless writes a switch without a tag: its cases are conditions.
func (g *grower) tagless(s *ast.SwitchStmt) string {
	text := "switch "
	if s.Init != nil {
		text += g.render(s.Init) + "; "
	}
	text += "{\n"
	for _, b := range s.Body.List {
		text += g.clause(s, b.(*ast.CaseClause)) + "\n"
	}
	return text + "}"
}

func (g *grower) clause(parent ast.Node, c *ast.CaseClause) string {
	s, _ := parent.(*ast.SwitchStmt)
	head := "default:"
	if c.List != nil {
		var list []string
		for _, e := range c.List {
			text := g.operand(e)
			if s != nil && s.Tag == nil {
				off := g.mutant("case left out", e)
				text = fmt.Sprintf("!mOff(%d) && mNot(%d, %s)", off, g.mutant("turned round", e), text)
			}
			list = append(list, text)
		}
		head = "case " + strings.Join(list, ", ") + ":"
	}
	return g.block(c.Body, head, "")
}
