package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/broker/merge"
)

// The exclusion list reaches every custodian's rules, after the codes of its own, and another list is another configuration in the ledger (C-2.5, C-9).
func TestExclusionList(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "exclusions.txt")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hashes := map[string]string{}
	bound := func(name, setting string) merge.CodeList {
		t.Helper()
		c := Config{Exclusions: setting}
		c.complete(dir)
		hash, err := c.hash(merge.ShippedSections())
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := hashes[hash]; ok {
			t.Errorf("%s and %s have the same hash", name, before)
		}
		hashes[hash] = name
		list, err := exclusions(c)
		if err != nil {
			t.Fatal(err)
		}
		return bind(&Custodian{ExcludedCodes: []string{"urn:own|1"}}, nil, list).Merge.Excluded
	}
	own := merge.Code{System: "urn:own", Code: "1"}
	is := func(got merge.CodeList, want ...merge.Code) bool {
		return reflect.DeepEqual(got, merge.CodesOf(want...))
	}
	builtIn := merge.CodesOf(merge.Code{System: "http://snomed.info/sct", Code: "15628003"})["15628003"][0]
	if got := bound("nothing said", ""); !slices.Contains(got["15628003"], builtIn) || !slices.Contains(got["1"], "urn:own") {
		t.Error("without a setting the built-in list does not hold")
	}
	if got := bound("none", "none"); !is(got, own) {
		t.Errorf("none: got %v", got)
	}
	write("date 2026-01-31\nexclude a urn:x|2\n")
	if got := bound("a file", "exclusions.txt"); !is(got, own, merge.Code{System: "urn:x", Code: "2"}) {
		t.Errorf("a file: got %v", got)
	}
	write("date 2026-01-31\nexclude a urn:x|2\nexclude a urn:x|3\n")
	bound("the file, changed", "exclusions.txt")
	write("nonsense\n")
	c := Config{Exclusions: "exclusions.txt"}
	c.complete(dir)
	if _, err := exclusions(c); err == nil || !strings.Contains(err.Error(), "exclusions: the exclusion list: line 1") {
		t.Errorf("a bad file: %v", err)
	}
	if _, err := c.hash(merge.ShippedSections()); err == nil {
		t.Error("a list that cannot be read has a hash")
	}
}
