package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What stands beside the keys says whether an empty store may be a new ledger.
func TestBeginnings(t *testing.T) {
	keys := t.TempDir()
	read := func() beginnings {
		t.Helper()
		b, err := readBeginnings(keys)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	gone := Ledger{Store: "sqlite", Path: filepath.Join(t.TempDir(), "ledger.db")}
	first := read()
	if first.known || !first.keeps || first.words(false) != "" || first.check(gone) != nil {
		t.Errorf("keys that no ledger was begun with: %+v", first)
	}
	if left, err := os.ReadDir(keys); err != nil || len(left) != 0 {
		t.Errorf("looking leaves %d files behind", len(left))
	}
	for range 2 { // the second is another replica, which looked before the first had noted it
		if kept, err := first.note("record.example/ledger"); err != nil || !kept {
			t.Errorf("noting that a ledger was begun: %v, %v", kept, err)
		}
	}
	again := read()
	if kept, err := again.note("record.example/ledger"); err != nil || !kept || !again.known || !strings.Contains(again.words(true), "ledger.begun") {
		t.Errorf("keys that a ledger was begun with: %+v, %v, %v", again, kept, err)
	}
	if err := again.check(gone); err == nil || !strings.Contains(err.Error(), "mount its volume") {
		t.Errorf("a ledger's file that is not there: %v", err)
	}
	if err := again.check(Ledger{Store: "postgres"}); err != nil {
		t.Errorf("a database is looked into, not at: %v", err)
	}
	readOnly := beginnings{file: first.file}
	if !strings.Contains(readOnly.words(false), "-begin") || readOnly.words(true) != "" {
		t.Errorf("a folder that can keep nothing: %q, and with the operator's word %q", readOnly.words(false), readOnly.words(true))
	}
	if kept, err := readOnly.note("record.example/ledger"); err != nil || kept {
		t.Errorf("a folder that can keep nothing: %v, %v", kept, err)
	}
}
