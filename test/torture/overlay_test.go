package torture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// patch is a description of how the product is changed for a test, without its sources being touched: `go build -overlay` lays the changed files over them.
// Files of testdata that end in .txtar hold such descriptions. What comes before the first file is for people, and for [bug]. A file then either has edits,
//
//	<<<<<<<
//	text that stands in the source, once
//	=======
//	text to be there instead
//	>>>>>>>
//
// or is a whole new one. Text that does not stand in the source, or stands there twice, fails the test: so descriptions cannot rot.
type patch struct {
	name    string
	comment string
	files   []txtar.File
}

// Marks of an edit, each a line of its own.
const (
	editOld = "<<<<<<<\n"
	editNew = "=======\n"
	editEnd = ">>>>>>>\n"
)

// readPatch reads a description.
func readPatch(t *testing.T, file string) patch {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil || len(archive.Files) == 0 {
		t.Fatalf("%s cannot be read, or changes nothing", file)
	}
	return patch{strings.TrimSuffix(filepath.Base(file), ".txtar"), string(archive.Comment), archive.Files}
}

// apply returns the changed text of a source. source is nil for one that is not there.
func (p patch) apply(f txtar.File, source []byte) ([]byte, error) {
	edited := bytes.Contains(f.Data, []byte(editOld))
	switch {
	case source == nil && edited:
		return nil, fmt.Errorf("%s: %s is not there", p.name, f.Name)
	case source == nil:
		return f.Data, nil
	case !edited:
		return nil, fmt.Errorf("%s: %s is there already", p.name, f.Name)
	}
	rest := f.Data
	for n := 1; len(bytes.TrimSpace(rest)) > 0; n++ {
		before, after, begun := bytes.Cut(rest, []byte(editOld))
		was, after, halved := bytes.Cut(after, []byte(editNew))
		is, after, ended := bytes.Cut(after, []byte(editEnd))
		was, is = bytes.TrimSuffix(was, []byte("\n")), bytes.TrimSuffix(is, []byte("\n")) // so that a part of a line can be named
		if !begun || !halved || !ended || len(bytes.TrimSpace(before)) > 0 || len(was) == 0 {
			return nil, fmt.Errorf("%s: edit %d of %s is not written as one", p.name, n, f.Name)
		}
		if found := bytes.Count(source, was); found != 1 {
			return nil, fmt.Errorf("%s: the old text of edit %d stands in %s %d times, want once: the source has moved on, write the description anew", p.name, n, f.Name, found)
		}
		source, rest = bytes.Replace(source, was, is, 1), after
	}
	return source, nil
}

// overlay writes the changed files and returns the file for `go build -overlay`.
func (p patch) overlay(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs(neighbourhood.Root(t))
	if err != nil {
		t.Fatal("the module has no path")
	}
	dir := filepath.Join(os.Getenv(neighbourhood.ProgramsVariable), "overlay-"+p.name) // so that all tests of a process share what is built with it
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal("no folder for changed sources")
	}
	write := func(file string, text []byte) {
		own := fmt.Sprintf("%s.%d", file, unique.Add(1)) // another test may be building with the one that is there
		if os.WriteFile(own, text, 0o600) != nil || os.Rename(own, file) != nil {
			t.Fatal("a changed source cannot be written")
		}
	}
	replace := map[string]string{}
	for i, f := range p.files {
		path := filepath.Join(top, filepath.FromSlash(f.Name))
		source, err := os.ReadFile(path) //nolint:gosec // a source of our own
		if err != nil {
			source = nil
		}
		text, err := p.apply(f, source)
		if err != nil {
			t.Fatal(err)
		}
		changed := filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(path)))
		write(changed, text)
		replace[path] = changed
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal("an overlay cannot be written")
	}
	file := filepath.Join(dir, p.name+".json")
	write(file, text)
	return file
}

var unique atomic.Int64

// TestPatch holds that a description that does not fit any more is found out.
func TestPatch(t *testing.T) {
	edit := func(was, is string) string { return editOld + was + editNew + is + editEnd }
	const source = "one\ntwo\ntwo\n"
	for name, tc := range map[string]struct {
		data, source, want string
		fails              bool
	}{
		"an edit":              {edit("one\n", "1\n"), source, "1\ntwo\ntwo\n", false},
		"two edits":            {edit("one\n", "1\n") + "\n" + edit("1\ntwo\n", "12\n"), source, "12\ntwo\n", false},
		"part of a line":       {edit("on\n", "ON\n"), source, "ONe\ntwo\ntwo\n", false},
		"not there":            {edit("three\n", "3\n"), source, "", true},
		"there twice":          {edit("two\n", "2\n"), source, "", true},
		"old text is missing":  {edit("", "2\n"), source, "", true},
		"no end":               {editOld + "one\n" + editNew, source, "", true},
		"text between":         {edit("one\n", "1\n") + "x\n" + edit("1\n", "one\n"), source, "", true},
		"a new file":           {"package x\n", "", "package x\n", false},
		"a new file, is there": {"package x\n", source, "", true},
		"no file to edit":      {edit("one\n", "1\n"), "", "", true},
	} {
		var text []byte
		if tc.source != "" {
			text = []byte(tc.source)
		}
		got, err := patch{name: "p"}.apply(txtar.File{Name: "f.go", Data: []byte(tc.data)}, text)
		if (err != nil) != tc.fails || string(got) != tc.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	readPatch(t, "testdata/kill-points.txtar").overlay(t) // so that it does not rot
}
