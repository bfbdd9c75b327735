package test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// TestBadConfiguration gives the built broker configuration files that are wrong in one place each. `broker check` and the daemon itself say where
// and what to do, by line and key, end with 2, and have made nothing.
func TestBadConfiguration(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the broker")
	}
	t.Parallel()
	program := neighbourhood.Program(t, "broker")
	example, err := os.ReadFile(neighbourhood.Root(t) + "/cmd/broker/broker.example.yaml")
	if err != nil {
		t.Fatal("the example configuration cannot be read")
	}
	for _, c := range []struct{ name, from, to, key, says string }{
		{"an unknown key", "audience: https", "audiense: https", "audiense", "no such setting"},
		{"an unknown key below another", "  reserve: 250ms", "  reserved: 250ms", "reserved", "no such setting"},
		{"an unknown key of a custodian", "    tellCounts: false", "    tellCount: false ", "tellCount", "no such setting"},
		{"an unknown key of an adapter", "baseURL: https://acute.example", "baseUrl: https://acute.example", "baseUrl", "no such setting"},
		{"an unknown section", "    excludedCodes: []", "    excludedSections: [mental-helth]", "custodians[1].excludedSections", "mental-health"},
		{"an unknown kind", "    kind: acute", "    kind: hospital", "custodians[1].kind", "mental-health"},
		{"a time without a unit", "  custodian: 3s", "  custodian: 3  ", "", "3s"},
		{"a key twice", "    tellCounts: false", "    ods: X9B02", "", "ods"},
		{"tokens by a shared secret", "algorithms: [RS512]", "algorithms: [HS256]", "issuers[1].algorithms", "ES256"},
		{"no ledger", "  path: state/ledger.db", "  # path:", "ledger.path", "no running without a ledger"},
		{"what is not YAML", "limits:", "limits: [", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(string(example), c.from, c.to, 1)
			if text == string(example) {
				t.Fatalf("the example has no %q", c.from)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "broker.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal("no file")
			}
			for _, args := range [][]string{{"check", "-config", file}, {"-config", file}} {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // built from our own sources
				cmd.Dir = dir
				cmd.WaitDelay = time.Second
				out, err := cmd.CombinedOutput()
				var ended *exec.ExitError
				if !errors.As(err, &ended) || ended.ExitCode() != 2 {
					t.Errorf("%s ends with %v, want 2", args[0], err)
				}
				said := strings.ReplaceAll(string(out), dir, "")
				line := 1 + strings.Count(text[:strings.Index(text, c.to)], "\n")
				switch {
				case !strings.Contains(said, c.key+": ") && c.key != "" || !strings.Contains(said, c.says):
					t.Errorf("%s does not say %s and %q, but: %s", args[0], c.key, c.says, said)
				case c.key != "" && c.name != "no ledger" && !strings.Contains(said, "broker.yaml:"+strconv.Itoa(line)+": ") && !strings.Contains(said, "line "+strconv.Itoa(line)+": "):
					t.Errorf("%s does not say line %d, but: %s", args[0], line, said)
				case strings.Contains(said, "goroutine") || strings.Contains(said, "yaml.Node") || strings.Contains(said, "daemon."):
					t.Errorf("%s speaks of our insides: %s", args[0], said)
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("%d things are in the folder, want the file alone", len(left))
			}
		})
	}
}
