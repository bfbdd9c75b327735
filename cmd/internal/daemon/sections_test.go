package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The configuration that the ledger names is another as soon as a byte of the section rules is.
func TestSectionRulesAreOfTheConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sections.txt")
	cfg := Config{SectionsFile: path, Exclusions: "none"}
	seen := map[string]bool{}
	for _, text := range []string{"extends default\n", "extends default\n# a word\n", "extends default\nheading results Procedure\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			rules, err := sectionRules(cfg)
			if err != nil {
				t.Fatal(err)
			}
			hash, err := cfg.hash(rules)
			if err != nil {
				t.Fatal(err)
			}
			seen[hash] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("three files have %d hashes", len(seen))
	}
	if _, err := sectionRules(Config{SectionsFile: filepath.Dir(path)}); err == nil || !strings.Contains(err.Error(), "sectionsFile: ") {
		t.Errorf("got %v from a folder", err)
	}
	shipped, err := sectionRules(Config{})
	if err != nil || len(shipped.Version()) != 64 {
		t.Errorf("got %v without a file", err)
	}
}
