package consent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

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
		told := r.TextForPerson()
		if len(told) < 15 || !strings.HasSuffix(told, ".") || told[0] < 'A' || told[0] > 'Z' || strings.Contains(told, "C-") {
			t.Errorf("%s: %q is no sentence for the person", r, told)
		}
		for _, s := range record.AllSections.List() {
			if s != record.Demographics && s != record.Other && strings.Contains(strings.ToLower(told), strings.ToLower(s.Name())) {
				t.Errorf("%s: the text for the person names a section", r)
			}
		}
	}
	if consent.Reason("made up").TextForPerson() != "" {
		t.Error("what is no reason has a text for the person")
	}
	for _, r := range consent.Rules() {
		if text := consent.RuleText(r); len(text) < 15 || !strings.HasSuffix(text, ".") {
			t.Errorf("%s: %q is no sentence", r, text)
		}
	}
	if consent.RuleText("C-99") != "" {
		t.Error("what is no rule has a text")
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
		if r.Text() != want || r.TextForPerson() != consent.ReasonUnknown.TextForPerson() {
			t.Errorf("%s reads differently", r)
		}
		if e := (consent.Decision{Outcome: consent.Neutral, Reason: r, Rule: consent.RuleNeutral, Preference: 7}).Explain(); e.Rule != "" || e.Preference != 0 || e.Text != want {
			t.Errorf("%s is explained differently", r)
		}
	}
}

// TestExplain: a decision says which rule, which of the person's choices, and since when (C-9), in the whole and in its parts.
func TestExplain(t *testing.T) {
	n := newNeighbourhood()
	q := n.question()
	q.Purpose, q.Permission.Kind, q.Relationship.Kind = record.Treatment, record.AskedYes, record.Admission
	q.Role.Sections = map[record.Purpose]record.Sections{record.Treatment: record.AllSections}
	recorded := time.Date(2026, 3, 31, 23, 30, 0, 0, time.UTC) // the next day in London
	d := consent.Evaluate(q, consent.Preferences{Position: 40, Objections: []consent.Objection{{Scope: consent.ToAll, Status: consent.InForce, Position: 31, Recorded: recorded}}})
	for what, e := range map[string]consent.Explanation{"whole": d.Explain(), "part": d.Custodians[0].Parts[0].Explain()} {
		if e.Rule != consent.RuleObjection || e.Reason != consent.ReasonObjection || e.Preference != 31 || !e.Recorded.Equal(recorded) ||
			e.Text != consent.ReasonObjection.Text()+" The person's choice was recorded on 1 April 2026." {
			t.Errorf("%s: got %+v", what, e)
		}
	}
	d = consent.Evaluate(q, consent.Preferences{Position: 40, Objections: []consent.Objection{{Scope: consent.ToCustodian, Custodian: "acute", Status: consent.InForce, Position: 31, Recorded: recorded}}})
	if e := d.Explain(); e.Rule != consent.RulePermit || e.Preference != 0 || !e.Recorded.IsZero() || e.Text != consent.ReasonPermitted.Text() {
		t.Errorf("what no choice decided: got %+v", e)
	}
	if e := d.Custodians[1].Parts[0].Explain(); e.Preference != 31 || e.Rule != consent.RuleObjection {
		t.Errorf("the custodian objected to: got %+v", e)
	}
	q.Purpose, q.BreakGlassReason = record.BreakGlass, "unconscious, no next of kin"
	q.Custodians[1].EmergencyOverride, q.Role.Sections[record.BreakGlass] = true, record.AllSections
	d = consent.Evaluate(q, consent.Preferences{Objections: []consent.Objection{{Scope: consent.ToAll, Status: consent.InForce, Position: 31, Recorded: recorded}}})
	if e := d.Explain(); e.Reason != consent.ReasonOverride || e.Preference != 31 || !e.Recorded.Equal(recorded) {
		t.Errorf("an objection that break-glass overrides: got %+v", e)
	}
}
