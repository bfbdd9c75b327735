package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/cohort"
)

// buffer is what a program prints, safe to read while it runs.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// demo is one that runs in this process.
type demo struct {
	readyFile
	file string
	out  *buffer
	stop func() (code int, took time.Duration)
}

var freePorts = []string{"-rest", "127.0.0.1:0", "-grpc", "127.0.0.1:0", "-ops", "127.0.0.1:0", "-issuer", "127.0.0.1:0", "-sources", "127.0.0.1:0"}

func start(t *testing.T, args ...string) *demo {
	t.Helper()
	d := &demo{file: filepath.Join(t.TempDir(), "ready.json"), out: &buffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, slices.Concat(freePorts, []string{"-ready-file", d.file}, args), d.out, io.Discard)
	}()
	ended := false
	d.stop = func() (int, time.Duration) {
		began := time.Now()
		cancel()
		select {
		case code := <-done:
			ended = true
			return code, time.Since(began)
		case <-time.After(10 * time.Second):
			t.Fatal("the demo does not stop")
			return 0, 0
		}
	}
	t.Cleanup(func() {
		if !ended {
			d.stop()
		}
	})
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // a file is all that another process would see
		text, err := os.ReadFile(d.file)
		if err == nil {
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&d.readyFile); err != nil {
				t.Fatal("the ready file is not whole")
			}
			return d
		}
		select {
		case code := <-done:
			ended = true
			t.Fatalf("the demo ended with %d", code)
		default:
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the demo is not ready after 20 s")
		}
	}
}

func (d *demo) post(t *testing.T, address, kind, token string, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal("no request")
	}
	req.Header.Set("Content-Type", kind)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("X-Purpose-Of-Use", "TREAT")
		req.Header.Set("X-Permission-To-View", "asked-yes")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(text)
}

func (d *demo) token(t *testing.T, as string) string {
	t.Helper()
	status, token := d.post(t, d.Issuer+"/token", "application/x-www-form-urlencoded", "", url.Values{"as": {as}}.Encode())
	if status != 200 {
		t.Fatalf("no token: status %d", status)
	}
	return token
}

func (d *demo) everything(t *testing.T, as, number string) (int, string) {
	t.Helper()
	return d.post(t, d.REST+"/fhir/Patient/$everything", "application/fhir+json", d.token(t, as),
		`{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+number+`"}}]}`)
}

// matches counts what an answer shows.
func matches(t *testing.T, text string) int {
	t.Helper()
	var b struct{ Total int }
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		t.Fatal("the answer is not JSON")
	}
	return b.Total
}

func TestTheNeighbourhood(t *testing.T) {
	d := start(t)
	if len(d.Sources) != 9 || len(d.Patients) != len(cohort.Invented(time.Now())) {
		t.Fatalf("%d custodians and %d people", len(d.Sources), len(d.Patients))
	}
	for _, address := range append([]string{d.REST, d.Ops, d.Issuer}, mapValues(d.Sources)...) {
		if u, err := url.Parse(address); err != nil || u.Scheme != "http" || u.Port() == "" || u.Path != "" {
			t.Errorf("%s is not an origin", address)
		}
	}
	status, whole := d.everything(t, "ed-doctor", cohort.Margaret)
	if status != 200 || matches(t, whole) < 60 {
		t.Errorf("the person whom all nine know: got %d", status)
	}

	// What people have objected to holds from the first request on.
	if status, text := d.everything(t, "mh-nurse", cohort.Thomas); status == 0 || strings.Contains(text, "Asthma") || !strings.Contains(text, "suppressed") {
		t.Errorf("who objects to all sharing: got %d, and not only what is withheld", status)
	}
	if _, text := d.everything(t, "ed-doctor", cohort.Eleanor); strings.Contains(text, "Respite") || !strings.Contains(text, "X9E01") {
		t.Error("the county council's record is shown against an objection, or its state is not told")
	}
	if _, text := d.everything(t, "ed-doctor", cohort.Aisha); strings.Contains(text, "Bipolar") || strings.Contains(text, "Crisis plan") || !strings.Contains(text, "Hypothyroidism") {
		t.Error("mental health is shown against an objection, or the rest is not")
	}

	// One custodian goes wrong, and comes back.
	if status, _ := d.post(t, d.Sources["acute"]+"/_sim/fault", "application/json", "", `{"fault":"down"}`); status != 200 {
		t.Fatalf("no fault: %d", status)
	}
	status, rest := d.everything(t, "ed-doctor", cohort.Margaret)
	if status != 200 || matches(t, rest) == 0 || matches(t, rest) >= matches(t, whole) || !strings.Contains(rest, "unavailable") {
		t.Errorf("with the hospital down: got %d", status)
	}
	for _, want := range []string{"9990000018", "go run ./cmd/mcr", "curl -s -X POST 'http" + strings.TrimPrefix(d.REST, "http"), "ed-doctor"} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("the screen does not say %q", want)
		}
	}
	state := ""
	for line := range strings.Lines(d.out.String()) {
		if rest, ok := strings.CutPrefix(line, "  state"); ok {
			state = strings.TrimSpace(rest)
		}
	}
	if _, err := os.Stat(filepath.Join(state, "ledger.db")); err != nil {
		t.Fatal("there is no ledger in the state folder")
	}
	code, took := d.stop()
	if code != 0 || took > 2*time.Second {
		t.Errorf("stopped with %d after %v", code, took)
	}
	for _, left := range []string{state, d.file} {
		if _, err := os.Stat(left); err == nil {
			t.Error("something is left behind")
		}
	}
	if _, err := http.Get(d.REST); err == nil { //nolint:bodyclose // there is none
		t.Error("somebody still listens")
	}
}

func mapValues(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// TestThePrintedCommandsWork types in what stands on the screen.
func TestThePrintedCommandsWork(t *testing.T) {
	for _, tool := range []string{"sh", "curl", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("no %s on this machine", tool)
			}
			t.Skipf("no %s on this machine", tool)
		}
	}
	d := start(t, "-protocols", "own") // as make run does
	var commands []string
	for began := time.Now(); len(commands) < 4 && time.Since(began) < 5*time.Second; time.Sleep(10 * time.Millisecond) { // it is printed after the file is written
		commands = nil
		for line := range strings.Lines(d.out.String()) {
			if text, ok := strings.CutPrefix(line, "     "); ok {
				commands = append(commands, strings.TrimSpace(text))
			}
		}
	}
	if len(commands) != 4 {
		t.Fatalf("%d commands on the screen, want 4", len(commands))
	}
	goEnv, err := exec.CommandContext(t.Context(), "go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	var env map[string]string
	if err != nil || json.Unmarshal(goEnv, &env) != nil {
		t.Fatal("go env does not answer")
	}
	home := t.TempDir()
	for n, want := range []string{"Diabetes mellitus type 2", `"type":"searchset"`, "Ashford Vale", "This question was recorded too."} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", commands[n]) //nolint:gosec // what the demo itself prints
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"), "NO_COLOR=1")
		for k, v := range env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		cmd.WaitDelay = time.Second
		text, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("command %d does not do as it should (%v); its first words: %.300s", n+1, err, text)
		}
	}
}

// TestStopsAtOnce stops a demo with requests on their way: one to a custodian that hangs, one that waits to be neutral.
func TestStopsAtOnce(t *testing.T) {
	d := start(t)
	if status, _ := d.post(t, d.Sources["gp"]+"/_sim/fault", "application/json", "", `{"fault":"hang"}`); status != 200 {
		t.Fatal("no fault")
	}
	gp := d.token(t, "gp")
	var asked sync.WaitGroup
	for _, number := range []string{cohort.Margaret, cohort.UnknownOne} {
		asked.Go(func() {
			d.post(t, d.REST+"/fhir/Patient/$everything", "application/fhir+json", gp, `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"`+number+`"}}]}`)
		})
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(d.Sources["gp"] + "/_sim/requests")
		if err != nil {
			t.Fatal("the custodian does not count")
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && !strings.Contains(string(text), `"record":0`) {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatal("the custodian is never asked")
		}
	}
	code, took := d.stop()
	if code != 0 || took > 2*time.Second {
		t.Errorf("stopped with %d after %v, want 0 within 2 s", code, took)
	}
	asked.Wait()
}

func TestStateIsUsedAgain(t *testing.T) {
	state := t.TempDir()
	d := start(t, "-state", state)
	if status, _ := d.everything(t, "ed-doctor", cohort.Dev); status != 200 {
		t.Fatalf("got %d", status)
	}
	d.stop()
	d = start(t, "-state", state) // with the objections of the first run in the ledger already
	if status, text := d.everything(t, "mh-nurse", cohort.Thomas); status == 0 || strings.Contains(text, "Asthma") || !strings.Contains(text, "suppressed") {
		t.Errorf("an objection is forgotten: got %d", status)
	}
	if code, _ := d.stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	if _, err := os.Stat(filepath.Join(state, "ledger.db")); err != nil {
		t.Error("the state is gone")
	}
}

func TestPeopleFromFolders(t *testing.T) {
	dir := t.TempDir()
	const patient = `{"resource":{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}],"name":[{"family":"Invented","given":["Una"]}],"birthDate":"1970-01-01"}}`
	text := `{"resourceType":"Bundle","type":"collection","entry":[` + patient +
		`,{"resource":{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p"},"code":{"text":"From a folder"},"recordedDate":"2024-01-01"}}]}`
	if err := os.MkdirAll(filepath.Join(dir, "gp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gp", "una.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, "-cohort", dir)
	if len(d.Patients) != 1 || d.Patients[0].Bundle != "gp/una.json" || d.Patients[0].Name != "Una Invented" {
		t.Errorf("%d people", len(d.Patients))
	}
	if status, text := d.everything(t, "ed-doctor", "9990000018"); status != 200 || !strings.Contains(text, "From a folder") {
		t.Errorf("got %d", status)
	}
}

func TestSyntheaLeavesAManifest(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	text := `{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:p","resource":{"resourceType":"Patient","id":"p","name":[{"family":"Invented"}],"birthDate":"1920-01-01","deceasedDateTime":"1999-01-01"}},` +
		`{"resource":{"resourceType":"Immunization","id":"i","status":"completed","patient":{"reference":"urn:uuid:p"},"vaccineCode":{"text":"Split"},"occurrenceDateTime":"1950-01-01"}},{"resource":{"resourceType":"Claim","id":"x"}}]}`
	if err := os.WriteFile(filepath.Join(dir, "una.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, "-synthea", dir, "-state", state)
	manifest, err := os.ReadFile(filepath.Join(state, manifestFile))
	if err != nil {
		t.Fatal("no manifest")
	}
	var m cohort.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil || len(m.People) != 1 || m.People[0].NHSNumber != d.Patients[0].NHSNumber || m.People[0].LeftOut["Claim"] != 1 || len(m.People[0].Custodians["gp"].Resources) != 2 {
		t.Error("the manifest does not say what went where")
	}
	if status, text := d.everything(t, "ed-doctor", d.Patients[0].NHSNumber); status != 200 || !strings.Contains(text, "Split") {
		t.Errorf("somebody who died long ago: got %d", status)
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		say  string
	}{
		"no protocol":     {[]string{"-protocols", "soap"}, 2, "fhir or own"},
		"both":            {[]string{"-cohort", "a", "-synthea", "b"}, 2, "not both"},
		"a word":          {[]string{"please"}, 2, "one word too many"},
		"no such flag":    {[]string{"-port", "1"}, 2, "-port"},
		"no such folder":  {[]string{"-synthea", "/nonexistent-folder"}, 1, "/nonexistent-folder"},
		"empty cohort":    {[]string{"-cohort", t.TempDir()}, 1, "custodian key"},
		"no address":      {[]string{"-sources", "8100"}, 1, "-sources: give host:port"},
		"no rest":         {[]string{"-sources", "127.0.0.1:0", "-issuer", "127.0.0.1:0", "-rest", "here"}, 1, "-rest: give host:port"},
		"open to all":     {[]string{"-sources", "127.0.0.1:0", "-issuer", "127.0.0.1:0", "-rest", "0.0.0.0:18080"}, 1, "loopback"},
		"no ready folder": {slices.Concat(freePorts, []string{"-ready-file", "/nonexistent-folder/ready.json"}), 1, "is there such a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			var errs buffer
			if code := run(t.Context(), tc.args, io.Discard, &errs); code != tc.code || !strings.Contains(errs.String(), tc.say) {
				t.Errorf("got %d and %q, want %d and %q", code, errs.String(), tc.code, tc.say)
			}
		})
	}
}

// In its own protocols every custodian is read, says how, goes wrong and gets well as any other, and the screen says what could not be carried.
func TestOwnProtocols(t *testing.T) {
	d := start(t, "-protocols", "own")
	if len(d.Sources) != 12 {
		t.Fatalf("%d custodians, want 12", len(d.Sources))
	}
	status, whole := d.everything(t, "ed-doctor", cohort.Margaret)
	if status != 200 || matches(t, whole) < 60 {
		t.Fatalf("got %d with %d matches", status, matches(t, whole))
	}
	for _, want := range []string{
		"gpconnect/2", "FHIR STU3 to R4", `"AllergyIntolerance/gp-`, "Metformin 500mg modified-release tablets", // a practice
		`"AllergyIntolerance/thornfield-`, "Rash after three days", // another
		`"Patient/acute-`,                     // the hospital that lets in by token
		"hl7v2/3", `"value":9.50`, "Ferritin", // the hospital that speaks HL7 v2
		"socialcare/3", "Northmoor East locality", // a council with other words
		"/socialcare-",                                                                                 // and the first
		"documents/3", "Fall at home, conveyed to emergency department", "Glasgow coma score total 15", // the ambulance service's: a BaRS message and a CDA report
		"Referral or validation request (new)", "<b>Class</b>: ",
		"fhirr4/3, documents/3", "She wants no tube feeding.", "Memory clinic", // two sources of the mental health trust
	} {
		if !strings.Contains(whole, want) {
			t.Errorf("the answer does not hold %q", want)
		}
	}
	if strings.Contains(whole, `"code":"failed"`) || strings.Contains(whole, `"code":"unavailable"`) {
		t.Error("a custodian is in trouble")
	}
	screen := d.out.String()
	for _, want := range []string{"over GP Connect (FHIR STU3)", "over HL7 v2 (MLLP)", "with SMART Backend Services", "its case-management API", " carries ", "Left out: "} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen does not say %q", want)
		}
	}
	for key, held := range map[string]string{"gp": `"AllergyIntolerance/gp-`, "acute": `"Patient/acute-`, "infirmary": "Ferritin", "northmoor": "Northmoor East locality"} {
		for _, fault := range []string{"no-consent", "none"} {
			if status, _ := d.post(t, d.Sources[key]+"/_sim/fault", "application/json", "", `{"fault":"`+fault+`"}`); status != 200 {
				t.Fatalf("%s: no fault: %d", key, status)
			}
			status, text := d.everything(t, "ed-doctor", cohort.Margaret)
			well := fault == "none"
			if status != 200 || strings.Contains(text, held) != well || well && matches(t, text) != matches(t, whole) || !well && !strings.Contains(text, "withheld") {
				t.Errorf("%s with %s: got %d with %d matches", key, fault, status, matches(t, text))
			}
		}
	}
	if status, text := d.everything(t, "ed-doctor", cohort.Aisha); status != 200 || strings.Contains(text, "Bipolar") || !strings.Contains(text, "Hypothyroidism") {
		t.Errorf("an objection to one section: got %d", status)
	}
	if _, text := d.everything(t, "ed-doctor", cohort.Eleanor); strings.Contains(text, "Respite") || !strings.Contains(text, "X9E01") {
		t.Error("the county council's record is shown against an objection, or its state is not told")
	}
	// One of two sources withholds: the other's is there, and the answer names what is missing.
	if status, _ := d.post(t, d.Sources["mentalhealth"]+"/_sim/fault", "application/json", "", `{"fault":"no-consent"}`); status != 200 {
		t.Fatalf("no fault: %d", status)
	}
	if _, text := d.everything(t, "ed-doctor", cohort.Margaret); !strings.Contains(text, "tube feeding") || strings.Contains(text, "Score 84 of 100") || !strings.Contains(text, "Electronic record is not shown to you") {
		t.Error("a custodian with two sources, one of which withholds, is not shown in part")
	}
	// Documents are opened at the addresses that stand in the answer: one is CDA, the other a message.
	var documents []string
	for rest := whole; ; {
		from := strings.Index(rest, d.REST+"/fhir/Binary/ambulance-")
		if from < 0 {
			break
		}
		length := strings.IndexByte(rest[from:], '"')
		documents = append(documents, opened(t, d, rest[from:from+length]))
		rest = rest[from+length:]
	}
	slices.Sort(documents)
	if len(documents) != 2 || !strings.Contains(documents[0], "<ClinicalDocument") || !strings.Contains(documents[0], "Glasgow coma score") || !strings.Contains(documents[1], `"type":"message"`) || !strings.Contains(documents[1], "Fall at home") {
		t.Errorf("%d documents of the ambulance service are opened, or they are others", len(documents))
	}
	if code, took := d.stop(); code != 0 || took > 2*time.Second {
		t.Errorf("stopped with %d after %v", code, took)
	}
}

// opened opens a document.
func opened(t *testing.T, d *demo, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal("no request")
	}
	req.Header.Set("Authorization", "Bearer "+d.token(t, "ed-doctor"))
	req.Header.Set("X-Purpose-Of-Use", "TREAT")
	req.Header.Set("X-Permission-To-View", "asked-yes")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal("no answer")
	}
	document, err := io.ReadAll(resp.Body)
	if _ = resp.Body.Close(); err != nil || resp.StatusCode != 200 {
		t.Errorf("the document: got %d", resp.StatusCode)
	}
	return string(document)
}

// Whole-patient bundles are split over custodians that speak their own protocols, and the screen counts what those cannot carry.
func TestSyntheaInOwnProtocols(t *testing.T) {
	dir := t.TempDir()
	text := `{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:p","resource":{"resourceType":"Patient","id":"p","name":[{"family":"Invented"}],"birthDate":"1990-01-01"}},` +
		`{"resource":{"resourceType":"Immunization","id":"i","status":"completed","patient":{"reference":"urn:uuid:p"},"vaccineCode":{"text":"Split"},"occurrenceDateTime":"1995-01-01"}}]}`
	if err := os.WriteFile(filepath.Join(dir, "una.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, "-synthea", dir, "-protocols", "own")
	if status, text := d.everything(t, "ed-doctor", d.Patients[0].NHSNumber); status != 200 || !strings.Contains(text, "Split") || len(d.Sources) != 9 {
		t.Errorf("got %d from %d custodians", status, len(d.Sources))
	}
}

// The mappings of the demo's councils are those that the adapter is tested with.
func TestMappingsAreThoseOfTheAdapter(t *testing.T) {
	for name, text := range map[string][]byte{"westmarch": westmarch, "northmoor": northmoor} {
		want, err := os.ReadFile(filepath.Join("..", "..", "adapters", "socialcare", "testdata", name+".yaml"))
		if err != nil || !bytes.Equal(text, want) {
			t.Errorf("%s.yaml is another: copy it from adapters/socialcare/testdata", name)
		}
	}
}
