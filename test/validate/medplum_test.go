package validate

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// medplum validates resources with Medplum's validator (medplum/validate.mjs, run by Node.js) and returns a verdict for each: "ok", or "rejected" and where. It is a
// second opinion, written by others in another language: it looks at shapes, cardinalities and invariants of types, where google/fhir looks at codes as well.
func medplum(t *testing.T, resources [][]byte) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if _, missing := os.Stat(filepath.Join("medplum", "node_modules", "@medplum", "core")); err != nil || missing != nil {
		const how = "Medplum's validator is not installed: get Node.js 18 or later, then npm ci --ignore-scripts in test/validate/medplum"
		if os.Getenv("CI") != "" {
			t.Fatal("CI is set, and " + how)
		}
		t.Skip(how)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "validate.mjs")
	cmd.Dir = "medplum"
	var lines, problem bytes.Buffer
	for _, r := range resources {
		if bytes.ContainsAny(r, "\n\r") {
			t.Fatal("a resource holds a line break")
		}
		lines.Write(append(r[:len(r):len(r)], '\n'))
	}
	cmd.Stdin, cmd.Stderr = &lines, &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("Medplum's validator does not run: %v, %d bytes of complaint", err, problem.Len())
	}
	verdicts := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(verdicts) != len(resources) {
		t.Fatalf("%d verdicts about %d resources", len(verdicts), len(resources))
	}
	return verdicts
}

// TestGeneratedAuditEvents has both validators judge every event of the generated questions (broker/fhirrest, which asks them of both faces and keeps the events). It asks 120; with
// MCR_TORTURE the 1,000 that are promised.
func TestGeneratedAuditEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "./broker/fhirrest", "-run", "^TestAuditEventsAgreeWithTheAuditService$", "-count=1", "-v")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "MCR_EVENTS="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the questions: %v\n%s", err, out)
	} else {
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "questions,") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal("no events were kept")
	}
	events := bytes.Split(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'})
	v := validator(t)
	for i, e := range events {
		if _, err := v.UnmarshalR4(e); err != nil {
			t.Errorf("event %d of %d: google/fhir rejects it: %s", i+1, len(events), where(err))
		}
	}
	// Each validator must know a bad one when it sees it.
	bad := bytes.Replace(events[0], []byte(`"recorded":`), []byte(`"recordet":`), 1)
	if _, err := v.UnmarshalR4(bad); err == nil {
		t.Error("google/fhir accepts an event without a time")
	}
	verdicts := medplum(t, append(events, bad))
	for i, verdict := range verdicts[:len(events)] {
		if verdict != "ok" {
			t.Errorf("event %d of %d: Medplum: %s", i+1, len(events), verdict)
		}
	}
	if !strings.HasPrefix(verdicts[len(events)], "rejected") {
		t.Error("Medplum accepts an event without a time")
	}
	if len(events) < 100 {
		t.Errorf("%d events: too few", len(events))
	}
	t.Logf("%d AuditEvents validated by google/fhir and by Medplum", len(events))
}
