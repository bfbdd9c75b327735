package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func invoke(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code := run(context.Background(), args, &out, &out)
	return code, out.String()
}

// The example that people copy must load.
func TestExampleLoads(t *testing.T) {
	code, out := invoke(t, "check", "-config", "broker.example.yaml")
	if code != 0 || !strings.Contains(out, "good") {
		t.Fatalf("exit %d: %s", code, out)
	}
}

// A bad file is explained by line and key, all of it at once, and nothing is made or opened.
func TestCheckExplains(t *testing.T) {
	good, err := os.ReadFile("broker.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{"audience: https", "audiense: https", ":15: audiense: there is no such setting"},
		{"  store: sqlite ", "  store: redis ", "ledger.store: sqlite or postgres"},
		{"  store: sqlite ", "  store: postgres ", "ledger.path: is for store: sqlite"},
		{"  store: sqlite ", "  store: postgres ", "ledger.postgres: name either the connectionFile"},
		{"  # postgres:                 #", "  postgres: {cluster: \"1/2\"} #", "ledger.postgres: is for store: postgres"},
		{"rest: 127.0.0.1:8080 ", "rest: 0.0.0.0:8080 ", "listen.rest: without listen.tls"},
		{"algorithms: [ES256]", "algorithms: [none]", "issuers[2].algorithms: one of"},
		{"key: acute", "key: gp", "custodians[1].key: this key is taken"},
		{"key: acute", "key: Acute-Trust", "custodians[1].key: 1 to 12 of a-z and 0-9"},
		{"request: 8s ", "request: soon ", "give a time such as"},
		{"request: 8s ", "request: 2s ", "limits.neutralWait: must not be more than limits.request"},
		{"neutralWait: 3250ms", "neutralWait: 1s", "could be told apart by time"},
		{"minimum: 500ms", "minimum: 3500ms", "limits.minimum: with limits.reserve"},
		{"requestBytes: 64MiB", "requestBytes: 64 megs", "give a size such as"},
		{"baseURL: https://acute.example/fhir", "baseUrl: https://acute.example/fhir", "there is no such setting"},
		{"fromASID: \"200000000001\"", "fromASID: 2000", "fromASID: the Spine id of our system, 12 digits"},
		{"name: Crisis line", "name: Electronic record", "custodians[2].sources[1].name: this name is taken"},
		{"      - name: Crisis line\n", "      - contact: x\n        name: Crisis line\n", "there is no such setting"},
		{"    sources:  ", "    adapter: fhirr4\n    sources:  ", "custodians[2].sources: with sources, adapter and settings stand in each of them"},
		{"https://crisis.mh.example/fhir", "http://crisis.mh.example/fhir", "mentalhealth: Crisis line: settings: line "},
		{"kind: gp ", "kind: surgery ", ""},
		{"kind: gp\n", "kind: surgery\n", "custodians[0].kind: one of"},
	} {
		text := strings.Replace(string(good), c.from, c.to, 1)
		if text == string(good) {
			if c.want == "" {
				continue
			}
			t.Fatalf("the example has no %q", c.from)
		}
		path := filepath.Join(t.TempDir(), "broker.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := invoke(t, "check", "-config", path)
		if code != 2 || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, said %q, want %q", c.to, code, strings.ReplaceAll(out, filepath.Dir(path), ""), c.want)
		}
		if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
			t.Errorf("%s: a check made files", c.to)
		}
	}
}

// A region's section rules are explained by file and line, and say in the end what is followed.
func TestSectionsFile(t *testing.T) {
	dir := t.TempDir()
	example, err := os.ReadFile("broker.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config, sections := filepath.Join(dir, "broker.yaml"), filepath.Join(dir, "sections.txt")
	text := strings.Replace(string(example), "# sectionsFile:", "sectionsFile:", 1)
	if text == string(example) {
		t.Fatal("the example does not have sectionsFile")
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := invoke(t, "check", "-config", config); code != 2 || !strings.Contains(out, "sectionsFile: "+sections+": there is no such file") {
		t.Errorf("exit %d without the file: %s", code, strings.ReplaceAll(out, dir, ""))
	}
	if err := os.WriteFile(sections, []byte("extends default\n\nheading labs Procedure\nlead other Flag from surgery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := invoke(t, "check", "-config", config)
	for _, want := range []string{sections + `:3: unknown section "labs": one of demographics`, sections + `:4: unknown kind of custodian "surgery"`} {
		if code != 2 || !strings.Contains(out, want) {
			t.Errorf("exit %d, said %s", code, strings.ReplaceAll(out, dir, ""))
		}
	}
	if err := os.WriteFile(sections, []byte("extends default\nheading results Procedure\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := invoke(t, "check", "-config", config); code != 0 {
		t.Errorf("exit %d on good rules: %s", code, strings.ReplaceAll(out, dir, ""))
	}
	for _, c := range []struct{ config, want string }{{config, "heading results"}, {"broker.example.yaml", "heading history"}} {
		if code, out := invoke(t, "sections", "explain", "-config", c.config, "-type", "Procedure", "-kind", "pharmacy"); code != 0 ||
			!strings.Contains(out, c.want+"\n  home pharmacy\n  lead mental-health ") {
			t.Errorf("exit %d: %s", code, out)
		}
	}
	for _, args := range [][]string{{"-type", "Procedures", "-kind", "gp"}, {"-type", "Procedure"}} {
		if code, _ := invoke(t, append([]string{"sections", "explain", "-config", "broker.example.yaml"}, args...)...); code != 1 {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{}, {"check"}, {"frobnicate", "-config", "broker.example.yaml"}, {"-nonsense"}, {"keys"}, {"-config", "no-such-file.yaml"}} {
		if code, out := invoke(t, args...); code != 2 || out == "" {
			t.Errorf("%v: exit %d, said %q", args, code, out)
		}
	}
}

// What each custodian allows, and the rules, are said in words (C-9).
func TestPolicyExplainsTheCustodiansRules(t *testing.T) {
	code, out := invoke(t, "policy", "explain", "-config", "broker.example.yaml")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	for _, want := range []string{"mentalhealth (X9C01", "break-glass overrides no objection here", "to be confirmed by the region", "C-2.7  What the person objects to is not shown."} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if code, out = invoke(t, "policy", "explain", "-config", "broker.example.yaml", "-job-role", "R8000"); code == 0 || !strings.Contains(out, "or neither") {
		t.Errorf("a role without an organisation: exit %d: %s", code, out)
	}
}

func TestKeysAreNeverOverwritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if code, out := invoke(t, "keys", "-dir", dir); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if info, _ := f.Info(); info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others", f.Name())
		}
	}
	if code, _ := invoke(t, "keys", "-dir", dir); code != 1 {
		t.Errorf("exit %d on a folder that holds keys, want 1", code)
	}
}

func TestPolicyExplain(t *testing.T) {
	code, out := invoke(t, "policy", "explain", "-config", "broker.example.yaml", "-job-role", "R1290", "-org", "X9G01")
	if code != 0 || !strings.Contains(out, "medications") || !strings.Contains(out, "not ") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// What an operator does to a ledger at the machine itself: export it, erase from it, begin a new one after it. Keys are added beside those that are there.
func TestLedgerCommands(t *testing.T) {
	example, err := os.ReadFile("broker.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, second := filepath.Join(dir, "broker.yaml"), filepath.Join(dir, "second.yaml")
	later := strings.NewReplacer("path: state/ledger.db", "path: state2/ledger.db", "state/checkpoints", "state2/checkpoints", "origin: record.example/ledger", "origin: record.example/ledger-2").Replace(string(example))
	for path, text := range map[string]string{config: string(example), second: later} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []string{"state", "state2"} {
		if err := os.Mkdir(filepath.Join(dir, state), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	keys, export, archive := filepath.Join(dir, "state", "keys"), filepath.Join(dir, "export.jsonl"), filepath.Join(dir, "epoch-1.mcra")
	who := []string{"-by", "operator-1", "-reason", "a test"}
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"keys", "-dir", keys}, 0, ""},
		{[]string{"keys", "add", "-dir", keys, "-kind", "epoch"}, 0, "epoch 2"},
		{[]string{"keys", "add", "-dir", keys, "-kind", "signing"}, 0, "signing 2"},
		{[]string{"keys", "add", "-dir", keys, "-kind", "door"}, 2, "epoch or signing"},
		{[]string{"keys", "public", "-config", config}, 0, "record.example/ledger+"},
		{[]string{"ledger", "export", "-config", config, "-out", export}, 1, "say who does it and why"},
		{append([]string{"ledger", "export", "-config", config, "-out", export}, who...), 0, "is written"},
		{append([]string{"ledger", "export", "-config", config, "-out", export}, who...), 1, "is there already"},
		{[]string{"ledger", "archive", "-config", config, "-epoch", "1", "-out", archive}, 1, "say who does it and why"},
		{append([]string{"ledger", "archive", "-config", config, "-out", archive}, who...), 1, "name a closed key epoch"},
		{append([]string{"ledger", "archive", "-config", config, "-epoch", "2", "-out", archive}, who...), 1, "key epoch 2 is open"},
		{append([]string{"ledger", "archive", "-config", config, "-epoch", "3", "-out", archive}, who...), 1, "no key epoch of that number"},
		{append([]string{"ledger", "archive", "-config", config, "-epoch", "1", "-out", archive}, who...), 0, "is written: key epoch 1, entries 0 to 0, 0 of them erased"},
		{append([]string{"ledger", "archive", "-config", config, "-epoch", "1", "-out", archive}, who...), 1, "is there already"},
		{append([]string{"ledger", "archive", "-config", config, "-epoch", "1", "-out", archive, "-again"}, who...), 0, "is written"},
		{append([]string{"ledger", "archive", "-config", config, "-epoch", "1", "-out", export, "-again"}, who...), 1, "nothing is written over anything else"},
		{append([]string{"ledger", "erase", "-config", config, "-basis", "retention", "-reference", "line 12", "-before", "2001-01-01"}, who...), 0, "0 entries erased"},
		{append([]string{"ledger", "erase", "-config", config, "-basis", "whim", "-reference", "line 12", "-before", "2001-01-01"}, who...), 1, "the basis of an erasure"},
		{append([]string{"ledger", "erase", "-config", config, "-basis", "retention", "-reference", "line 12", "-before", "soon"}, who...), 1, "-before is a date"},
		{[]string{"ledger", "continue", "-config", second, "-from", filepath.Join(dir, "state", "ledger.db")}, 0, "0 objections and delegations are carried over"},
		{[]string{"ledger", "continue", "-config", second, "-from", filepath.Join(dir, "state", "ledger.db")}, 1, "only a new ledger"},
		{[]string{"ledger", "continue", "-config", second, "-from", filepath.Join(dir, "no.db")}, 1, "name the file"},
	} {
		code, out := invoke(t, c.args...)
		if code != c.code || !strings.Contains(out, c.say) {
			t.Errorf("%v: exit %d, said %q, want %d, %q", c.args[:2], code, strings.ReplaceAll(out, dir, ""), c.code, c.say)
		}
	}
	text, err := os.ReadFile(export)
	if err != nil || !strings.HasPrefix(string(text), `{"ledger":"record.example/ledger","version":1}`) || !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("%v: the export is not one", err)
	}

	if info, err := os.Stat(archive); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v: the archive can be read by others, or is not there", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".archive-*")); len(left) > 0 {
		t.Errorf("%d files are left beside the archive", len(left))
	}

	// A backup is not continued as if it were the newest: the folder of checkpoints beside it knows better.
	third, backup := filepath.Join(dir, "third.yaml"), filepath.Join(dir, "state", "backup.db")
	old, err := os.ReadFile(filepath.Join(dir, "state", "ledger.db"))
	if err := errors.Join(err, os.WriteFile(backup, old, 0o600), os.Mkdir(filepath.Join(dir, "state3"), 0o700),
		os.WriteFile(third, []byte(strings.NewReplacer("state2", "state3", "ledger-2", "ledger-3").Replace(later)), 0o600)); err != nil {
		t.Fatal(err)
	}
	if code, out := invoke(t, append([]string{"ledger", "export", "-config", config, "-out", filepath.Join(dir, "more.jsonl")}, who...)...); code != 0 { // and so the ledger goes on
		t.Fatalf("exit %d, said %q", code, strings.ReplaceAll(out, dir, ""))
	}
	goOn := []string{"ledger", "continue", "-config", third, "-from", backup}
	if code, out := invoke(t, goOn...); code != 1 || !strings.Contains(out, "it is an old backup") {
		t.Errorf("an old backup: exit %d, said %q", code, strings.ReplaceAll(out, dir, ""))
	}
	if code, out := invoke(t, append(goOn, "-adopt")...); code != 0 || !strings.Contains(out, "are carried over") {
		t.Errorf("an old backup, for somebody who knows why: exit %d, said %q", code, strings.ReplaceAll(out, dir, ""))
	}
}
