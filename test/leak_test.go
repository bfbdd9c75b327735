package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// The markers: words that stand in every string of the people of this test and of what callers write, and nowhere else. Each kind has its own, so
// that a find says where it came from.
const (
	markFamily  = "Zqfamilymarker"
	markGiven   = "Zqgivenmarker"
	markStreet  = "Zqstreetmarker"
	markText    = "Zqtextmarker"
	markWritten = "Zqwrittenmarker" // reasons and notes that callers write
	markBad     = "Zqbadmarker"     // in input that is refused
	markValue   = "73331.97750"     // a number as text
)

// markedNumbers are the people's NHS numbers; they are markers too.
var markedNumbers = []string{"9990000018", "9990000026", "9990000034"}

// markedBundle is what one custodian holds about one marked person.
func markedBundle(key, number string, i int) []byte {
	patient := fmt.Sprintf(`{"resourceType":"Patient","id":"%s-p%d","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"%s"}],"name":[{"family":"%s","given":["%s"]}],
"gender":"female","birthDate":"1951-02-03","address":[{"line":["1 %s"],"postalCode":"ZQ9 9ZQ"}]}`, key, i, number, markFamily, markGiven, markStreet)
	subject := fmt.Sprintf(`{"reference":"Patient/%s-p%d","display":"%s"}`, key, i, markFamily)
	entries := []string{patient,
		fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"%s"},"subject":%s,"effectiveDateTime":"2024-03-01","valueQuantity":{"value":%s,"unit":"mmol/L"},"note":[{"text":"%s"}]}`, i, markText, subject, markValue, markText),
		fmt.Sprintf(`{"resourceType":"Condition","id":"c%d","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">%s</div>"},"category":[{"coding":[{"code":"mental-health","system":"https://mycarerecord.example/CodeSystem/section"}]}],"code":{"text":"%s"},"subject":%s,"recordedDate":"2023"}`, i, markText, markText, subject),
		fmt.Sprintf(`{"resourceType":"DocumentReference","id":"d%d","status":"current","subject":%s,"date":"2022-01-01T10:00:00Z","description":"%s","content":[{"attachment":{"contentType":"text/plain","data":"%s","title":"%s"}}]}`,
			i, subject, markText, base64.StdEncoding.EncodeToString([]byte(strings.Repeat(markText+" ", 50))), markText),
	}
	return []byte(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + strings.Join(entries, `},{"resource":`) + `}]}`)
}

// markedCohort writes what each of nine custodians holds about the marked people, and returns the folder and the custodians' keys.
func markedCohort(t *testing.T) (dir string, keys []string) {
	t.Helper()
	dir = t.TempDir()
	keys = []string{"gp", "acute", "mentalhealth", "community", "socialcare", "ambulance", "pharmacy", "nhs111", "outofhours"}
	for _, key := range keys {
		if err := os.MkdirAll(filepath.Join(dir, key), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, number := range markedNumbers {
			if err := os.WriteFile(filepath.Join(dir, key, fmt.Sprintf("p%d.json", i)), markedBundle(key, number, i), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir, keys
}

// spans is an OTLP collector.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	count int
	raw   bytes.Buffer
}

// Export implements the collector.
func (s *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			s.count += len(ss.GetSpans())
		}
	}
	b, err := proto.Marshal(r)
	s.raw.Write(b)
	return &collector.ExportTraceServiceResponse{}, err
}

// product runs cmd/broker itself on the demo's custodians: its own ledger, temp folder, log level debug, spans to us.
type product struct {
	rest, grpc, ops string
	out             syncBuffer
	state, temp     string
	cmd             *exec.Cmd
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal("no free port")
	}
	defer func() { _ = l.Close() }() // the broker takes it
	return l.Addr().String()
}

// set changes one value of a YAML mapping, and adds it if it is not there.
func set(n *yaml.Node, value string, path ...string) {
	for _, key := range path {
		if n.Kind == yaml.DocumentNode {
			n = n.Content[0]
		}
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				next = n.Content[i+1]
			}
		}
		if next == nil {
			next = &yaml.Node{Kind: yaml.MappingNode}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, next)
		}
		n = next
	}
	n.Kind, n.Tag, n.Style, n.Value, n.Content = yaml.ScalarNode, "", 0, value, nil
}

// startProduct starts it. before, where there is any, comes when its keys are made, and may change the configuration; config is where that stands then.
func startProduct(t *testing.T, n *neighbourhood.Neighbourhood, otlp string, before ...func(p *product, config string, doc *yaml.Node)) *product {
	t.Helper()
	p := &product{rest: "http://" + freeAddress(t), grpc: freeAddress(t), ops: "http://" + freeAddress(t), state: t.TempDir(), temp: t.TempDir()}
	text, err := os.ReadFile(filepath.Join(n.State, "broker.yaml"))
	if err != nil {
		t.Fatal("the demo left no configuration in its state folder")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal("the demo's configuration is no YAML")
	}
	keys := filepath.Join(p.state, "keys")
	for path, value := range map[string]string{"listen.rest": strings.TrimPrefix(p.rest, "http://"), "listen.grpc": p.grpc, "listen.operations": strings.TrimPrefix(p.ops, "http://"),
		"publicBase": p.rest + "/fhir", "ledger.path": filepath.Join(p.state, "ledger.db"), "ledger.keys": keys,
		"telemetry.logLevel": "debug", "telemetry.otlp": otlp, "telemetry.otlpInsecure": "true"} {
		set(&doc, value, strings.Split(path, ".")...)
	}
	if text, err = yaml.Marshal(&doc); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"engine.jwks.json"} {
		b, err := os.ReadFile(filepath.Join(n.State, name))
		if err != nil || os.WriteFile(filepath.Join(p.state, name), b, 0o600) != nil {
			t.Fatalf("%s cannot be copied", name)
		}
	}
	config := filepath.Join(p.state, "broker.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	program := neighbourhood.Program(t, "broker")
	if out, err := exec.Command(program, "keys", "-dir", keys).CombinedOutput(); err != nil {
		t.Fatalf("broker keys: %s", out)
	}
	for _, change := range before {
		if change(p, config, &doc); t.Failed() {
			t.FailNow()
		}
		if text, err = yaml.Marshal(&doc); err != nil || os.WriteFile(config, text, 0o600) != nil {
			t.Fatal("the configuration cannot be written")
		}
	}
	p.cmd = exec.Command(program, "-config", config)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.temp, "GOTRACEBACK=all")
	p.cmd.Dir = p.temp
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // ended already, where the test went well
	deadline := time.Now().Add(15 * time.Second)
	for {
		res, err := n.Do(t.Context(), http.MethodGet, p.ops+"/readyz", nil, nil)
		if err == nil && res.Status == http.StatusOK {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("the broker is not ready:\n%s", p.out.text())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// importList brings a list in, and returns what is said of its rows, or the error, and what came of it.
func importList(ctx context.Context, client mycarerecordv1.ConsentServiceClient, list string) (reports string, outcome mycarerecordv1.ImportOutcome) {
	s, err := client.ImportObjections(ctx)
	if err != nil {
		return err.Error(), 0
	}
	for _, m := range []*mycarerecordv1.ImportObjectionsRequest{
		{Message: &mycarerecordv1.ImportObjectionsRequest_Header{Header: &mycarerecordv1.ImportHeader{Format: mycarerecordv1.ListFormat_LIST_FORMAT_CSV, Reason: markWritten}}},
		{Message: &mycarerecordv1.ImportObjectionsRequest_Data{Data: []byte(list)}}} {
		if s.Send(m) != nil {
			break // the answer says why
		}
	}
	_ = s.CloseSend() // likewise
	for {
		m, err := s.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				reports += err.Error()
			}
			return reports, outcome
		}
		reports += fmt.Sprint(m.GetRows())
		if x := m.GetSummary(); x != nil {
			outcome = x.GetOutcome()
		}
	}
}

// P5: whatever happens, nothing of a record, of a person or of what callers write is found in anything that the broker leaves behind.
func TestNothingIsWrittenDown(t *testing.T) {
	t.Parallel()
	cohortDir, keys := markedCohort(t)
	n := neighbourhood.Start(t, neighbourhood.Options{State: t.TempDir(), Flags: []string{"-cohort", cohortDir}})
	seen := &spans{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	otlp := grpc.NewServer()
	collector.RegisterTraceServiceServer(otlp, seen)
	go func() { _ = otlp.Serve(listener) }() // until Stop
	t.Cleanup(otlp.Stop)
	p := startProduct(t, n, listener.Addr().String())

	var mu sync.Mutex
	shown, refusals := 0, map[string]string{} // what errors said, by what was asked
	note := func(what string, status int, body []byte) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case status == http.StatusOK && bytes.Contains(body, []byte(markFamily)):
			shown++
		case status != http.StatusOK:
			refusals[what] = string(body)
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // nothing is in flight then
	tokens := map[string]string{}
	for _, persona := range []string{"gp", "ed-doctor", "mh-nurse", "pharmacist", "front-desk", "ig-officer", "engine", "stranger"} {
		tokens[persona] = n.Token(t, persona)
	}
	tokens["patient"] = n.Token(t, "patient", "nhs_number="+markedNumbers[0])
	body := func(number string) []byte {
		b, _ := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{map[string]any{"name": "identifier",
			"valueIdentifier": map[string]any{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}}}})
		return b
	}
	post := func(what string, header http.Header, path string, content string, text []byte) {
		if header.Get("Content-Type") == "" {
			header.Set("Content-Type", content)
		}
		res, err := n.Do(t.Context(), http.MethodPost, p.rest+path, header, text)
		if err == nil {
			note(what, res.Status, res.Body)
		}
	}
	bearing := func(token string) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithTimeout(t.Context(), neighbourhood.CallTime)
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), cancel
	}
	ask := func(token, number string) {
		post("everything", neighbourhood.Treating(token), "/fhir/Patient/$everything", "application/fhir+json", body(number))
		ctx, cancel := bearing(token)
		defer cancel()
		records := mycarerecordv1.NewRecordServiceClient(conn)
		permission := &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, Reason: markWritten}
		got, err := records.GetRecord(ctx, &mycarerecordv1.GetRecordRequest{NhsNumber: number, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT, Permission: permission})
		if err != nil {
			note("GetRecord", 500, []byte(err.Error()))
		}
		note("GetRecord", http.StatusOK, got.GetBundle())
		stream, err := records.StreamRecord(ctx, &mycarerecordv1.StreamRecordRequest{NhsNumber: number, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT, Permission: permission})
		for err == nil {
			_, err = stream.Recv()
		}
		note("StreamRecord", 500, []byte(err.Error()))
	}

	// Well, by everybody; broken glass; search, demographics; the person; refusals.
	for persona, token := range tokens {
		for _, number := range markedNumbers {
			ask(token, number)
		}
		h := neighbourhood.Headers(token, "X-Purpose-Of-Use: BTG", "X-Break-Glass-Reason: "+markWritten+" unconscious")
		post("break-glass "+persona, h, "/fhir/Patient/$everything", "application/fhir+json", body(markedNumbers[1]))
		post("search "+persona, neighbourhood.Treating(token), "/fhir/Patient/_search", "application/x-www-form-urlencoded",
			[]byte("identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C"+markedNumbers[2]))
		res, err := n.Do(t.Context(), http.MethodGet, p.rest+"/fhir/Patient?identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C"+markedNumbers[0]+"&name="+markBad, neighbourhood.Treating(token), nil)
		if err == nil {
			note("search by address "+persona, res.Status, res.Body)
		}
	}
	post("own view", neighbourhood.Headers(tokens["patient"], "X-Purpose-Of-Use: PATRQT", "X-Permission-To-View: patient-self"), "/fhir/Patient/$everything", "application/fhir+json", body(markedNumbers[0]))

	// Bad input of every sort.
	for what, bad := range map[string]string{
		"broken JSON":  `{"resourceType":"Parameters","parameter":[{"name":"` + markBad,
		"wrong number": string(body("9990000019")),
		"no number":    `{"resourceType":"Parameters","parameter":[{"name":"` + markBad + `","valueString":"` + markedNumbers[0] + `"}]}`,
		"over-long":    `{"resourceType":"Parameters","id":"` + strings.Repeat(markBad, 20000) + `"}`,
	} {
		post(what, neighbourhood.Treating(tokens["gp"]), "/fhir/Patient/$everything", "application/fhir+json", []byte(bad))
	}
	post("bad token", neighbourhood.Treating(markBad+"."+markBad+"."+markBad), "/fhir/Patient/$everything", "application/fhir+json", body(markedNumbers[0]))
	post("bad purpose", neighbourhood.Headers(tokens["gp"], "X-Purpose-Of-Use: "+markBad), "/fhir/Patient/$everything", "application/fhir+json", body(markedNumbers[0]))
	post("bad permission", neighbourhood.Headers(tokens["gp"], "X-Purpose-Of-Use: TREAT", "X-Permission-To-View: "+markBad+"; reason="+markBad), "/fhir/Patient/$everything", "application/fhir+json", body(markedNumbers[0]))

	// Objections and the ledger, with notes.
	ctx, cancel := bearing(tokens["gp"])
	defer cancel()
	objections := mycarerecordv1.NewConsentServiceClient(conn)
	if _, err := objections.RecordObjection(ctx, &mycarerecordv1.RecordObjectionRequest{NhsNumber: markedNumbers[2], BirthDate: "1951-02-03", Scope: mycarerecordv1.ObjectionScope_OBJECTION_SCOPE_SECTION,
		Section: mycarerecordv1.Section_SECTION_MENTAL_HEALTH, Responsible: markWritten, Reason: markWritten, Method: mycarerecordv1.ObjectionMethod_OBJECTION_METHOD_PHONE}); err != nil {
		t.Errorf("an objection is refused: %v", err)
	}
	if _, err := objections.RecordObjection(ctx, &mycarerecordv1.RecordObjectionRequest{NhsNumber: markedNumbers[2], BirthDate: "1999-01-01", Responsible: markBad}); err == nil {
		t.Error("an objection with the wrong birth date is taken")
	} else {
		note("objection", 500, []byte(err.Error()))
	}
	igCtx, igCancel := bearing(tokens["ig-officer"])
	defer igCancel()
	found, err := mycarerecordv1.NewAuditServiceClient(conn).SearchAccesses(igCtx, &mycarerecordv1.SearchAccessesRequest{NhsNumber: markedNumbers[0], Reason: markWritten, Limit: 1000})
	if err != nil || len(found.GetEntries()) == 0 {
		t.Errorf("the ledger answers %d entries, %v", len(found.GetEntries()), err)
	}

	// Lists of objections: a good one, bad rows, and what is no list; then everybody's, and one person's as FHIR. What is told of rows is a refusal.
	const columns = "nhs_number,birth_date,scope,custodian,method,responsible,source\n"
	goodRow := markedNumbers[1] + ",1951-02-03,custodian,gp,form," + markWritten + "," + markWritten + "\n"
	for what, list := range map[string]string{"good list": columns + goodRow, "bad rows": columns + goodRow + "9990000019,1951-02-03,all,,form,,\n" + markedNumbers[0] + ",1999-01-01,all,,form,,\n" +
		markedNumbers[0] + ",1951-02-03," + markBad + "," + markBad + "," + markBad + ",,\n", "unknown column": markBad + "," + columns, "no list": markBad + "\x00\xff\"", "a huge row": columns + strings.Repeat(markBad, 2000)} {
		reports, outcome := importList(igCtx, objections, list)
		note("list: "+what, 500, []byte(reports))
		if want := map[bool]mycarerecordv1.ImportOutcome{true: mycarerecordv1.ImportOutcome_IMPORT_OUTCOME_APPLIED, false: mycarerecordv1.ImportOutcome_IMPORT_OUTCOME_REFUSED}[what == "good list"]; outcome != want {
			t.Errorf("%s: %s, want %s: %s", what, outcome, want, reports)
		}
	}
	out, err := objections.ExportObjections(igCtx, &mycarerecordv1.ExportObjectionsRequest{Format: mycarerecordv1.ListFormat_LIST_FORMAT_NDJSON, Reason: markWritten})
	everybody := ""
	for err == nil {
		var m *mycarerecordv1.ExportObjectionsResponse
		m, err = out.Recv()
		everybody += string(m.GetData())
	}
	if !strings.Contains(everybody, markWritten) || !strings.Contains(everybody, markedNumbers[1]) {
		t.Error("the list that was brought in does not come out")
	}
	post("consents", http.Header{"Authorization": {"Bearer " + tokens["ig-officer"]}}, "/fhir/Consent/_search", "application/x-www-form-urlencoded",
		[]byte("patient.identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C"+markedNumbers[1]+"&patient.birthdate=1951-02-03&status="+markBad))

	// Every fault; nine at a time, each on a custodian of its own.
	faults := []string{"down", "hang", "slow", "trickle", "error500", "throttle429", "unauthorised", "garbage", "truncated", "huge", "gzip-bomb", "deep", "duplicate-keys", "bad-utf8",
		"wrong-patient", "mixed-patients", "page-loop", "page-elsewhere", "no-record", "no-consent"}
	for len(faults) > 0 {
		round := faults[:min(len(faults), 9)]
		faults = faults[len(round):]
		for i, f := range round {
			ms := 0
			if f == "slow" || f == "trickle" {
				ms = 500
			}
			n.Fault(t, keys[i], f, 0, ms)
		}
		var wg sync.WaitGroup
		for _, number := range markedNumbers {
			wg.Go(func() { ask(tokens["ed-doctor"], number) })
		}
		// And a caller who hangs up in the middle.
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.rest+"/fhir/Patient/$everything", bytes.NewReader(body(markedNumbers[0])))
			req.Header = neighbourhood.Treating(tokens["ed-doctor"])
			req.Header.Set("Content-Type", "application/fhir+json")
			if res, err := http.DefaultClient.Do(req); err == nil {
				_ = res.Body.Close()
			}
		})
		wg.Wait()
		for i := range round {
			n.Fault(t, keys[i], "none", 0, 0)
		}
	}
	metrics, err := n.Do(t.Context(), http.MethodGet, p.ops+"/metrics", nil, nil)
	if err != nil || metrics.Status != http.StatusOK {
		t.Fatal("no metrics")
	}
	if shown < 10 {
		t.Fatalf("only %d answers showed a record: this test has looked at too little", shown)
	}

	look, sum := newLooker(), &searched{}
	search := func(where, text string) { t.Helper(); sum.search(t, look, where, []byte(text)) }
	files := func(when, dir string) { t.Helper(); sum.folder(t, look, when, dir) }
	files("running:", p.state) // with the log of the ledger that has not been moved into the main file
	files("running, temp:", p.temp)
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil { // the worst end: the runtime prints what it prints
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // it was made to fail
	files("after:", p.state)
	files("after, temp:", p.temp)
	search("output", p.out.text())
	search("metrics", string(metrics.Body))
	for what, text := range refusals {
		search("refusal of "+what, text)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	search("spans", seen.raw.String())
	if seen.count == 0 {
		t.Error("the collector saw no span: the search of traces proves nothing")
	}
	if !strings.Contains(p.out.text(), `"msg":"request"`) || !strings.Contains(p.out.text(), "custodian in trouble") {
		t.Error("the log has no lines about requests: the search of logs proves nothing")
	}
	sum.report(t, "ledger on SQLite")
	t.Logf("0 markers expected; %d answers with a record, %d kinds of refusal, %d spans, %d bytes of output searched", shown, len(refusals), seen.count, len(p.out.text()))
}
