package consent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// TestEveryReasonHasAText reads the constants from the source, so that a new one cannot be left out of the list or the texts.
func TestEveryReasonHasAText(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[consent.Reason]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil {
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Reason" {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil || declared[consent.Reason(value)] {
					t.Errorf("the reason %q is there twice", value)
				}
				declared[consent.Reason(value)] = true
			}
		}
		return true
	})
	if len(declared) == 0 || len(declared) != len(consent.Reasons()) {
		t.Errorf("got %d reasons listed, want %d", len(consent.Reasons()), len(declared))
	}
	for _, r := range consent.Reasons() {
		if !declared[r] {
			t.Errorf("the list has %q twice, or it is no reason", r)
		}
		delete(declared, r)
		text := r.Text()
		if len(text) < 15 || !strings.HasSuffix(text, ".") || text[0] < 'A' || text[0] > 'Z' {
			t.Errorf("%s: %q is no sentence", r, text)
		}
		for _, s := range record.AllSections.List() {
			if s != record.Demographics && s != record.Other && strings.Contains(strings.ToLower(text), strings.ToLower(s.Name())) {
				t.Errorf("%s: the text names a section", r)
			}
		}
		if strings.Contains(text, "C-") {
			t.Errorf("%s: the text names a rule", r)
		}
	}
	if consent.Reason("made up").Text() != "" {
		t.Error("what is no reason has a text")
	}
}

// TestNeutralReasonsReadTheSame: from the text nobody can tell one neutral class from another.
func TestNeutralReasonsReadTheSame(t *testing.T) {
	want := consent.ReasonUnknown.Text()
	for _, r := range []consent.Reason{consent.ReasonSuperseded, consent.ReasonInvalidated, consent.ReasonRestricted, consent.ReasonDeceased,
		consent.ReasonMismatch, consent.ReasonNobody} {
		if r.Text() != want {
			t.Errorf("%s reads differently", r)
		}
	}
}
