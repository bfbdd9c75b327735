package test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

var tenDigits = regexp.MustCompile(`\d{3}[ -]?\d{3}[ -]?\d{4}`)

// Promises of the demo.
const (
	readyWithin = 20 * time.Second // of the start of the built program
	stopWithin  = 2 * time.Second  // of Ctrl-C
)

// TestDemoFromStartToEnd runs the built demo as a person does: it is ready soon, the commands on its screen work as they stand, Ctrl-C ends it
// even while a custodian hangs, and nothing is left behind.
func TestDemoFromStartToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole demo")
	}
	t.Parallel()
	program := neighbourhood.Program(t, "demo")
	home, temp, here := t.TempDir(), t.TempDir(), t.TempDir()
	readyFile := filepath.Join(t.TempDir(), "ready.json")
	began := time.Now()
	// A temporary folder for its state, because none is given.
	p := launch(t, here, []string{"TMPDIR=" + temp, "HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, ".config")}, program,
		"-rest", "127.0.0.1:0", "-grpc", "127.0.0.1:0", "-ops", "127.0.0.1:0", "-issuer", "127.0.0.1:0", "-sources", "127.0.0.1:0", "-ready-file", readyFile)
	var ready struct {
		REST, GRPC, Ops, Issuer string
		Sources                 map[string]string
	}
	eventually(t, readyWithin, "a whole ready file", func() bool {
		if !p.running() {
			t.Fatalf("the demo has ended\n%s", p.tail())
		}
		text, err := os.ReadFile(readyFile) //nolint:gosec // our own temporary file
		return err == nil && json.Unmarshal(text, &ready) == nil
	})
	t.Logf("ready %v after the start", time.Since(began).Round(time.Millisecond))
	addresses := []string{ready.GRPC}
	for _, origin := range append([]string{ready.REST, ready.Ops, ready.Issuer}, valuesIn(ready.Sources)...) {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" {
			t.Fatal("the ready file holds what is no address")
		}
		addresses = append(addresses, u.Host)
	}
	if len(addresses) != 13 {
		t.Fatalf("the ready file has %d addresses, want 13", len(addresses))
	}
	for _, a := range addresses {
		if !listens(a) {
			t.Fatal("nobody listens at an address of the ready file")
		}
	}
	if kept, err := os.ReadDir(temp); err != nil || len(kept) != 1 {
		t.Errorf("%d folders of state, want 1", len(kept))
	}

	// What the screen says, typed in. mcr is built before: the first build is not what is looked at.
	neighbourhood.Program(t, "mcr")
	eventually(t, time.Second, "the last line on the screen", func() bool { return strings.Contains(p.out.String(), "Ctrl-C") })
	commands := commandsOn(p.out.String())
	expect := []struct{ yes, no []string }{
		{[]string{"Diabetes mellitus type 2", "Rivermead Surgery"}, nil},
		{[]string{`"type":"searchset"`, `"provenance-acute"`}, []string{"timed-out"}},
		{[]string{"Ashford Vale", "did not answer in time", "Diabetes mellitus type 2"}, nil},
		{[]string{"general-practitioner", "This question was recorded too."}, nil},
	}
	if len(commands) != len(expect) {
		t.Fatalf("%d commands on the screen, want %d", len(commands), len(expect))
	}
	for i, c := range commands {
		text := typedIn(t, c, home)
		for _, want := range expect[i].yes {
			if !strings.Contains(text, want) {
				t.Errorf("command %d does not say %q", i+1, want)
			}
		}
		for _, not := range expect[i].no {
			if strings.Contains(text, not) {
				t.Errorf("command %d says %q", i+1, not)
			}
		}
	}

	// Ctrl-C, while the hospital hangs (the third command made it) and somebody waits for it.
	if list := p.children(t); len(list) != 0 {
		t.Errorf("the demo has %d child processes, want none", len(list))
	}
	waiting := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	before := recordRequests(t, ready.Sources["acute"])
	go func() {
		defer close(waiting)
		_, _ = ask(ctx, ready.REST, tokenOf(ctx, ready.Issuer, "gp"), cohort.Margaret) // cut off, or told that the hospital is missing
	}()
	eventually(t, 5*time.Second, "the request at the hospital", func() bool { return recordRequests(t, ready.Sources["acute"]) > before })
	p.signal(t, syscall.SIGINT)
	code, took := p.end(t, 10*time.Second)
	t.Logf("ended %v after Ctrl-C", took.Round(time.Millisecond))
	if code != 0 || took > stopWithin {
		t.Errorf("ended with %d after %v, want 0 within %v\n%s", code, took, stopWithin, p.tail())
	}
	<-waiting
	for _, a := range addresses {
		if listens(a) {
			t.Errorf("somebody still listens at one of %d addresses", len(addresses))
		}
	}
	if !p.groupIsEmpty() {
		t.Error("a process is left behind")
	}
	for what, dir := range map[string]string{"temporary folder": temp, "working folder": here} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%d things are left in the %s", len(left), what)
		}
	}
	if _, err := os.Stat(readyFile); err == nil {
		t.Error("the ready file is left behind, and nothing is at its addresses")
	}
}

func valuesIn(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// commandsOn finds the commands on the screen: what is indented most, below the heading.
func commandsOn(screen string) []string {
	_, below, _ := strings.Cut(screen, " things to try")
	var out []string
	for line := range strings.Lines(below) {
		if text, is := strings.CutPrefix(line, "     "); is {
			out = append(out, strings.TrimSpace(text))
		}
	}
	return out
}

// skipButInCI skips, and fails where CI is set: what is not looked at there is looked at nowhere.
func skipButInCI(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// typedIn runs a command line in bash, in the folder of the repository, as somebody with a home of their own.
func typedIn(t *testing.T, line, home string) string {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		skipButInCI(t, "no bash on this machine: the printed commands are not tried")
	}
	for _, tool := range []string{"curl", "go"} {
		if _, err := exec.LookPath(tool); err != nil && strings.Contains(line, tool+" ") {
			skipButInCI(t, "no "+tool+" on this machine: the printed commands are not tried")
		}
	}
	goEnv, err := exec.CommandContext(t.Context(), "go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	var env map[string]string
	if err != nil || json.Unmarshal(goEnv, &env) != nil {
		t.Fatal("go env does not answer")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, "-c", line) //nolint:gosec // what our own demo prints
	cmd.Dir = filepath.Clean(neighbourhood.Root(t))
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "NO_COLOR=1")
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.WaitDelay = 2 * time.Second
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("a command on the screen fails: %v\n%s\n%s", err, tenDigits.ReplaceAllString(line, "##########"), tenDigits.ReplaceAll(text, []byte("##########")))
	}
	return string(text)
}

// The following speak HTTP without a neighbourhood.

func send(ctx context.Context, method, address string, header http.Header, body string) (int, []byte) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return 0, nil
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: neighbourhood.CallTime}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }() // read, or given up
	text, err := readAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, text
}

// ask asks for everything and returns status and body, 0 for no whole answer.
func ask(ctx context.Context, rest, token, number string) (int, []byte) {
	h := neighbourhood.Treating(token)
	h.Set("Content-Type", "application/fhir+json")
	return send(ctx, http.MethodPost, rest+"/fhir/Patient/$everything", h, about(number))
}

func tokenOf(ctx context.Context, issuer, persona string) string {
	_, text := send(ctx, http.MethodGet, issuer+"/token?as="+persona, nil, "")
	return strings.TrimSpace(string(text))
}

func recordRequests(t *testing.T, origin string) int {
	t.Helper()
	status, text := send(t.Context(), http.MethodGet, origin+"/_sim/requests", nil, "")
	var r neighbourhood.Requests
	if status != http.StatusOK || json.Unmarshal(text, &r) != nil {
		t.Fatal("a custodian does not tell its requests")
	}
	return r.Record
}
