package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"testing"
)

// TestNothingIsSkippedInCI looks at every place that can skip a test: it does so for -short alone, or its function fails where CI is set, before it. And where CI is
// set nothing runs with -short. So what is skipped on somebody's machine is tried in CI.
func TestNothingIsSkippedInCI(t *testing.T) {
	if os.Getenv("CI") != "" && testing.Short() {
		t.Fatal("CI is set, and -short leaves tests out: run them all")
	}
	files := token.NewFileSet()
	places := 0
	walkIn(t, true, func(_, file string, text []byte) {
		f, err := parser.ParseFile(files, file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range bodies(f) {
			for _, s := range skips(body) {
				places++
				if !s.short && !s.failsInCI {
					t.Errorf("%s: this skips, and would in CI too: have it fail where CI is set", files.Position(s.pos))
				}
			}
		}
	})
	if places < 20 {
		t.Errorf("%d places that can skip a test were found: there are more", places)
	}
	t.Logf("%d places can skip a test", places)
}

// skip is a call that skips a test.
type skip struct {
	pos              token.Pos
	short, failsInCI bool
}

// bodies are those of a file's functions, and of function literals that stand in its variables.
func bodies(f *ast.File) (out []*ast.BlockStmt) {
	ast.Inspect(f, func(n ast.Node) bool {
		var body *ast.BlockStmt
		switch fn := n.(type) {
		case *ast.FuncDecl:
			body = fn.Body
		case *ast.FuncLit:
			body = fn.Body
		default:
			return true
		}
		if body != nil {
			out = append(out, body)
		}
		return false // what is in it is looked at with it
	})
	return out
}

// skips finds the calls in a function that skip a test, and what stands around and before each.
func skips(body *ast.BlockStmt) (out []skip) {
	var above []ast.Node
	fails := false
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return true
		}
		above = append(above, n)
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name, of := called(call)
		switch {
		case name == "Fatal" || name == "Fatalf":
			fails = fails || slices.ContainsFunc(above, forCI)
		case (name == "Skip" || name == "Skipf" || name == "SkipNow") && of != "":
			out = append(out, skip{call.Pos(), slices.ContainsFunc(above, forShort), fails})
		}
		return true
	})
	return out
}

// forCI reports whether a node is an if or a case that asks for CI.
func forCI(n ast.Node) bool {
	var asked []ast.Expr
	switch n := n.(type) {
	case *ast.IfStmt:
		asked = []ast.Expr{n.Cond}
	case *ast.CaseClause:
		asked = n.List
	}
	found := false
	for _, e := range asked {
		ast.Inspect(e, func(n ast.Node) bool {
			if is, ok := n.(*ast.BinaryExpr); ok && is.Op == token.NEQ {
				if call, ok := is.X.(*ast.CallExpr); ok && len(call.Args) == 1 {
					text, _ := call.Args[0].(*ast.BasicLit)
					name, of := called(call)
					found = found || name == "Getenv" && of == "os" && text != nil && text.Value == `"CI"`
				}
			}
			return true
		})
	}
	return found
}

// called is the name of a method or function of a package that is called, and what it is called of.
func called(call *ast.CallExpr) (name, of string) {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	x, _ := s.X.(*ast.Ident)
	if x == nil {
		return s.Sel.Name, ""
	}
	return s.Sel.Name, x.Name
}

// forShort reports whether a node is an if that asks for -short and nothing else.
func forShort(n ast.Node) bool {
	i, ok := n.(*ast.IfStmt)
	if !ok {
		return false
	}
	call, ok := i.Cond.(*ast.CallExpr)
	if !ok {
		return false
	}
	name, of := called(call)
	return name == "Short" && of == "testing"
}
