// Package test holds the tests that concern the house as a whole.
package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mycarerecord/mycarerecord"

// arrows is the import table of design section 2: which of our packages a package may import outside its tests. A folder that is not named
// here may hold no Go code. "…/*" stands for the folders directly below.
var arrows = map[string][]string{
	"broker/record":   {},
	"broker/fhirjson": {"broker/record"},
	"consent":         {"broker/record"},
	"broker/authn":    {"broker/record"},
	"broker/policy":   {"broker/record", "consent"},
	"audit":           {"broker/record", "consent"},
	"audit/sqlite":    {"audit", "broker/record", "consent"},
	"audit/sink":      {"audit"},
	"audit/worklist":  {"audit", "broker/record", "consent"},
	"audit/audittest": {"audit", "audit/sqlite", "audit/sink", "broker/record", "consent"},
	"audit/postgres":  {"audit", "broker/record", "consent"},
	"audit/storetest": {"audit", "audit/sink", "broker/record", "consent"},
	"broker/merge":    {"broker/record", "broker/fhirjson"},
	"broker/hints":    {"broker/record"},
	"broker":          {"broker/record", "consent", "audit", "broker/merge", "broker/fhirjson"},
	"broker/brokertest": {"broker", "broker/fhirjson", "broker/record",
		"audit/audittest", "consent"},
	"broker/grpcapi": {"broker", "broker/authn", "broker/policy", "audit", "consent", "broker/merge", "broker/record", "broker/optoutlist",
		"proto/mycarerecord/v1"},
	"broker/fhirrest": {"broker", "broker/authn", "broker/policy", "audit", "consent", "broker/merge", "broker/record", "broker/optoutlist",
		"proto/mycarerecord/v1"},
	"broker/optoutlist":          {"broker/record", "broker/fhirjson", "consent"},
	"proto/mycarerecord/v1":      {},
	"adapters/internal/wire":     {"broker/record"},
	"adapters/internal/sentinel": {"broker", "broker/fhirjson", "adapters/internal/wire"},
	"adapters/internal/document": {"broker/record", "broker/fhirjson"},
	"adapters/documents":         {"broker", "broker/record", "broker/fhirjson", "adapters/internal/document", "adapters/internal/sentinel", "adapters/internal/wire"},
	"adapters/fhirr4":            {"broker", "broker/record", "broker/fhirjson", "adapters/internal/document", "adapters/internal/sentinel", "adapters/internal/wire"},
	"adapters/gpconnect":         {"broker", "broker/record", "broker/fhirjson", "adapters/gpconnect/stu3", "adapters/internal/sentinel", "adapters/internal/wire"},
	"adapters/gpconnect/stu3":    {"broker/fhirjson"},
	"adapters/hl7v2":             {"broker", "broker/record", "broker/fhirjson", "adapters/internal/sentinel", "adapters/internal/wire"},
	"adapters/pds":               {"broker", "broker/record", "broker/fhirjson", "adapters/internal/sentinel", "adapters/internal/wire"},
	"adapters/socialcare":        {"broker", "broker/record", "broker/fhirjson", "adapters/internal/sentinel", "adapters/internal/wire"},
	"adapters":                   {"adapters/documents", "adapters/fhirr4", "adapters/gpconnect", "adapters/hl7v2", "adapters/pds", "adapters/socialcare", "broker"},
	"adapters/adaptertest":       {"broker", "broker/record"},
	"cmd/internal/daemon": {"broker", "broker/record", "broker/fhirjson", "broker/merge", "broker/authn", "broker/policy", "broker/grpcapi",
		"broker/fhirrest", "consent", "audit", "audit/sqlite", "audit/postgres", "audit/sink", "audit/worklist", "broker/hints", "adapters", "adapters/adaptertest", "proto/mycarerecord/v1"},
	"cmd/broker":          {"cmd/internal/daemon"},
	"cmd/demo":            {"cmd/internal/daemon", "test/simulator", "test/cohort"},
	"cmd/mcr":             {"proto/mycarerecord/v1"},
	"cmd/verify":          {},
	"test/simulator":      {"proto/mycarerecord/v1"},
	"test/cohort":         {"proto/mycarerecord/v1"},
	"test/neighbourhood":  {"proto/mycarerecord/v1"},
	"test/services":       {},
	"test":                {},
	"test/torture":        {},
	"test/torture/figure": {},
	"test/scenario":       {},
	"test/worklist":       {},
	"test/bench":          {},
	"test/bench/baseline": {},
	"test/years":          {},
}

// topLevel is the fixed top level; beside it only dotfiles.
var topLevel = []string{"cmd", "broker", "adapters", "proto", "consent", "audit", "test", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}

// badNames are package names that say nothing (house style 2).
var badNames = []string{"util", "utils", "helper", "helpers", "common", "models", "types", "impl", "manager", "service", "misc"}

func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// TestTopLevel holds the top level of the house.
func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

// TestImports holds the import table. It reads the sources in this process, so that no cached result hides a violation.
func TestImports(t *testing.T) {
	files := 0
	walk(t, func(dir, file string, text []byte) {
		files++
		f, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%s does not parse", file)
			return
		}
		if slices.Contains(badNames, f.Name.Name) {
			t.Errorf("%s: package %s says nothing; name it after the trade", file, f.Name.Name)
		}
		allowed, known := arrows[dir]
		if !known {
			t.Errorf("%s: folder %s is not in the import table", file, dir)
			return
		}
		if strings.HasSuffix(file, "_test.go") {
			return // test files may import anything
		}
		for _, spec := range f.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			ours, internal := strings.CutPrefix(p, module+"/")
			if internal && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which the import table does not allow", file, ours)
			}
			if (dir == "broker/record" || dir == "cmd/verify") && strings.Contains(p, ".") {
				t.Errorf("%s imports %s: this folder imports the standard library only", file, p)
			}
			if p == "github.com/samply/golang-fhir-models/fhir-models/fhir" && strings.HasPrefix(dir, "adapters") {
				t.Errorf("%s imports the typed FHIR models: they lose what custodians send (M-1)", file)
			}
		}
	})
	if files < 30 {
		t.Fatalf("read %d files: the walk does not see the sources", files)
	}
}

// TestUnfinished finds words that mean unfinished work.
// Memory that held a person's data serves nobody else's request: nothing of the product is pooled. This looks at our own code:
// net/http has its buffers used again, and gives out of them only what it has filled.
func TestNothingIsPooled(t *testing.T) {
	looked := 0
	walk(t, func(dir, file string, text []byte) {
		if strings.HasSuffix(file, "_test.go") || dir == "test" || strings.HasPrefix(dir, "test/") || !strings.HasSuffix(file, ".go") {
			return
		}
		if looked++; strings.Contains(string(text), "sync."+"Pool") {
			t.Errorf("%s pools memory", file)
		}
	})
	if looked < 200 {
		t.Errorf("only %d files were looked at", looked)
	}
}

func TestUnfinished(t *testing.T) {
	words := []string{"TO" + "DO", "FIX" + "ME", `panic("con` + `tract")`, "not yet " + "implemented"}
	walk(t, func(_, file string, text []byte) {
		for _, w := range words {
			if strings.Contains(string(text), w) {
				t.Errorf("%s says %q", file, w)
			}
		}
	})
}

// walk calls f for every Go file of the main module but generated ones.
func walk(t *testing.T, f func(dir, file string, text []byte)) {
	t.Helper()
	walkIn(t, false, f)
}

// walkIn is walk that goes into modules of their own too, if it is told to.
func walkIn(t *testing.T, modules bool, f func(dir, file string, text []byte)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil && rel != "." && !modules || strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" {
				return filepath.SkipDir // a module of its own, a dot folder, data
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, ".pb.go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f(path.Dir(rel), rel, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
