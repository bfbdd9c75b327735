package record

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestSections holds the list to the design's, in its order: the codes are on the wire and in people's objections.
func TestSections(t *testing.T) {
	want := strings.Fields("demographics medications results correspondence history emergency appointments plans-alerts mental-health social-care ambulance community pharmacy other")
	if got := AllSections.Codes(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if SectionCodes() != strings.Join(want, ", ") || AllSections.String() != strings.Join(want, ",") {
		t.Error("the list of codes is another")
	}
	names := map[string]bool{}
	for _, s := range AllSections.List() {
		if got, ok := ParseSection(s.Code()); !ok || got != s || s.String() != s.Code() {
			t.Errorf("%s is not read as itself", s)
		}
		if s.Name() == "" || names[s.Name()] {
			t.Errorf("%s has no name of its own", s)
		}
		names[s.Name()] = true
	}
	for _, code := range []string{"", "all", "Results", "results ", "mental_health", "mental-health,results"} {
		if _, ok := ParseSection(code); ok {
			t.Errorf("%q is a section", code)
		}
	}
}

func TestSetsOfSections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := Sections(rapid.Uint16().Draw(t, "a"))&AllSections, Sections(rapid.Uint16().Draw(t, "b"))&AllSections
		if SectionsOf(a.List()...) != a || a.Len() != len(a.List()) || len(a.Codes()) != a.Len() {
			t.Error("a set is not its list")
		}
		for _, s := range AllSections.List() {
			if a.Without(b).Has(s) != (a.Has(s) && !b.Has(s)) {
				t.Errorf("Without is wrong about %s", s)
			}
			if with := a.With(s); !with.Has(s) || with.Without(SectionsOf(s)) != a.Without(SectionsOf(s)) {
				t.Errorf("With is wrong about %s", s)
			}
		}
	})
}
