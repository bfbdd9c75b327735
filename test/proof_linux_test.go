package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/torture/figure"
)

// command runs a built command to its end and returns what it wrote and whether it went well.
func command(t *testing.T, program string, args ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, program, args...) //nolint:gosec // built by this test
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s does not run", filepath.Base(program))
	}
	return string(neighbourhood.Struck(out.Bytes())), err == nil
}

// TestReceiptsAreProved takes a receipt from each of the three faces of the built demo, and proves it with the built checker, which shares no code with it: by the
// proof that the ledger gives, and by an export that an officer takes later. The checker also replays consent over the whole ledger.
func TestReceiptsAreProved(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the whole demo")
	}
	n := neighbourhood.Start(t, neighbourhood.Options{})
	verify, broker := neighbourhood.Program(t, "verify"), neighbourhood.Program(t, "broker")
	key, ok := command(t, broker, "keys", "public", "-config", filepath.Join(n.State, "broker.yaml"))
	if key = strings.TrimSpace(key); !ok || strings.Count(key, "+") < 2 {
		t.Fatalf("the ledger's public key: %s", key)
	}
	conn := n.Dial(t)
	doctor, officer := n.Token(t, "ed-doctor"), n.Token(t, "ig-officer")
	records, ledger := mycarerecordv1.NewRecordServiceClient(conn), mycarerecordv1.NewAuditServiceClient(conn)
	forms := map[string]string{} // of receipts, as each face gives them
	rest := n.Post(t, "/fhir/Patient/$everything", neighbourhood.Treating(doctor), everythingAbout(cohort.Margaret))
	header := rest.Header.Get("X-Access-Receipt")
	if header == "" {
		t.Fatalf("no receipt over REST: status %d", rest.Status)
	}
	forms["REST"] = "X-Access-Receipt: " + header
	got, err := records.GetRecord(neighbourhood.Bearing(t, doctor), good(nil))
	if err != nil || got.GetReceipt() == nil {
		t.Fatalf("GetRecord: %v", err)
	}
	forms["GetRecord"] = asJSON(t, got.GetReceipt())
	ask := good(nil)
	stream, err := records.StreamRecord(neighbourhood.Bearing(t, doctor), &mycarerecordv1.StreamRecordRequest{NhsNumber: ask.GetNhsNumber(), Purpose: ask.GetPurpose(),
		Permission: ask.GetPermission(), Relationship: ask.GetRelationship()})
	if err != nil {
		t.Fatal("StreamRecord does not begin")
	}
	var summary *mycarerecordv1.Receipt
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("StreamRecord: %v", err)
		}
		if r := m.GetCustodian().GetReceipt(); r != nil {
			forms["a part of StreamRecord"] = asJSON(t, r)
		}
		if r := m.GetSummary().GetReceipt(); r != nil {
			summary = r
		}
	}
	if summary == nil {
		t.Fatal("no receipt in the summary of a stream")
	}
	forms["the summary of StreamRecord"] = asJSON(t, summary)

	// The proof that the ledger gives, within a second.
	var proof *mycarerecordv1.ProveInclusionResponse
	eventually(t, 3*time.Second, "a checkpoint over the newest receipt", func() bool {
		proof, err = ledger.ProveInclusion(neighbourhood.Bearing(t, doctor), &mycarerecordv1.ProveInclusionRequest{Receipt: summary})
		return err == nil
	})
	dir := t.TempDir()
	proofFile := filepath.Join(dir, "proof.json")
	if err := os.WriteFile(proofFile, []byte(asJSON(t, proof)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, ok := command(t, verify, "receipt", asJSON(t, summary), "-key", key, "-proof", proofFile); !ok || !strings.HasPrefix(out, "proved") {
		t.Errorf("by its proof: %s", out)
	}

	// An export, later.
	export, err := ledger.ExportEntries(neighbourhood.Bearing(t, officer), &mycarerecordv1.ExportEntriesRequest{Reason: "yearly audit"})
	if err != nil {
		t.Fatal("ExportEntries does not begin")
	}
	var file bytes.Buffer
	for {
		m, err := export.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("ExportEntries: %v", err)
		}
		file.Write(m.GetData())
	}
	for _, marker := range []string{cohort.Margaret, "ed-doctor", "mental-health", "asked-yes", "yearly audit"} {
		if bytes.Contains(file.Bytes(), []byte(marker)) {
			t.Error("a sealed export holds something in clear")
		}
	}
	exportFile := filepath.Join(dir, "export.jsonl")
	if err := os.WriteFile(exportFile, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(forms) != 4 {
		t.Errorf("receipts of %d kinds, want 4", len(forms))
	}
	unproved := 0
	for face, form := range forms {
		if out, ok := command(t, verify, "receipt", form, "-key", key, "-export", exportFile); !ok || !strings.HasPrefix(out, "proved") {
			unproved++
			t.Errorf("%s: %s", face, out)
		}
	}
	out, ok := command(t, verify, "export", exportFile, "-key", key, "-keys", filepath.Join(n.State, "keys"))
	if !ok || !strings.Contains(out, " 0 violations") || !strings.Contains(out, "sound") {
		t.Errorf("the whole ledger: %s", out)
	}
	figure.Report(t, figure.Figure{Name: "receipts of all faces that are not proved by an export taken later", Seen: unproved, Of: len(forms), What: "kinds of receipt"})

	// What the custodians logged themselves, held against it: each request has its entry. One more, which nobody recorded, is found.
	args := []string{"export", exportFile, "-key", key, "-keys", filepath.Join(n.State, "keys")}
	requests := 0
	var last []byte
	for custodian := range n.Sources {
		log := n.Log(t, custodian)
		requests += bytes.Count(log, []byte("\n"))
		last = log
		path := filepath.Join(dir, custodian+".log")
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-log", path)
	}
	agrees, ok := command(t, verify, args...)
	if !ok || requests < 3*len(n.Sources) || !strings.Contains(agrees, fmt.Sprintf("%d requests, 0 without an entry", requests)) {
		t.Errorf("%d requests that custodians logged: %s", requests, agrees)
	}
	figure.Report(t, figure.Figure{Name: "requests in the custodians' own logs without an entry", Seen: requests - reconciled(agrees), Of: requests, What: "requests"})
	strange, _, _ := bytes.Cut(last, []byte("\n"))
	at := bytes.Index(strange, []byte(`"requestId":"`)) + len(`"requestId":"`)
	copy(strange[at:], "00000000-0000-4000-8000-00000000000f")
	path := filepath.Join(dir, "strange.log")
	if err := os.WriteFile(path, append(strange, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, ok := command(t, verify, append(args, "-log", path)...); ok || !strings.Contains(out, "1 without an entry") {
		t.Errorf("a request that nobody recorded: %s", out)
	}
	t.Logf("receipts of %d kinds proved; %s", len(forms), out)

	// Who may not.
	refused, err := ledger.ExportEntries(neighbourhood.Bearing(t, doctor), &mycarerecordv1.ExportEntriesRequest{Reason: "curious"})
	if err == nil {
		_, err = refused.Recv()
	}
	if err == nil {
		t.Error("a doctor exports the ledger")
	}
	summary.Leaf[0] ^= 1
	if _, err := ledger.ProveInclusion(neighbourhood.Bearing(t, doctor), &mycarerecordv1.ProveInclusionRequest{Receipt: summary}); err == nil {
		t.Error("another leaf is proved")
	}
}

// reconciled reads how many requests of custodians' logs were accounted for.
func reconciled(said string) int {
	_, rest, _ := strings.Cut(said, "custodians' logs: ")
	var requests, without int
	if _, err := fmt.Sscanf(rest, "%d requests, %d without an entry", &requests, &without); err != nil {
		return 0
	}
	return requests - without
}

// everythingAbout is the body of $everything by NHS number.
func everythingAbout(number string) []byte {
	return fmt.Appendf(nil, `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":%q}}]}`, number)
}

func asJSON(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal("a message cannot be written")
	}
	return string(b)
}

// TestOldLedgerIsRefused lets the built broker run beside the built witness, restores an older copy of its ledger together with its folder of checkpoints, and sees
// that the broker does not start on it, and says why.
func TestOldLedgerIsRefused(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the whole demo")
	}
	n := neighbourhood.Start(t, neighbourhood.Options{})
	program, verify := neighbourhood.Program(t, "broker"), neighbourhood.Program(t, "verify")
	dir := t.TempDir()
	keys := neighbourhood.Keys(t, program, dir)
	ledger := map[string]any{"store": "sqlite", "path": filepath.Join(dir, "ledger", "ledger.db"), "keys": keys, "origin": "mycarerecord.example/witnessed"}
	if err := os.MkdirAll(filepath.Join(dir, "ledger"), 0o700); err != nil {
		t.Fatal(err)
	}
	first := n.Replica(t, neighbourhood.ReplicaOptions{Program: program, Ledger: ledger})
	public, ok := command(t, program, "keys", "public", "-config", first.Config())
	first.Stop(t)
	if !ok {
		t.Fatalf("the ledger's public key: %s", public)
	}
	address, key := startWitness(t, verify, strings.TrimSpace(public))
	ledger["witnesses"] = []any{map[string]any{"address": address, "key": key}}
	r := n.Replica(t, neighbourhood.ReplicaOptions{Program: program, Ledger: ledger})
	look := func(times int) {
		t.Helper()
		token := n.Token(t, "ed-doctor")
		for range times {
			h := neighbourhood.Treating(token)
			h.Set("Content-Type", "application/fhir+json")
			if res, err := n.Do(t.Context(), http.MethodPost, r.REST+"/fhir/Patient/$everything", h, everythingAbout(cohort.Margaret)); err != nil || res.Status != http.StatusOK {
				t.Fatalf("asking: status %d", res.Status)
			}
		}
	}
	look(2)
	for _, kind := range []string{"epoch", "signing"} { // and new keys are taken up while it serves
		if out, ok := command(t, program, "keys", "add", "-dir", keys, "-kind", kind); !ok {
			t.Fatalf("adding keys: %s", out)
		}
	}
	r.Signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, "the new keys to be taken up", func() bool {
		_, said := r.Output()
		return bytes.Contains(said, []byte("the keys were taken up"))
	})
	look(1)
	r.Stop(t) // signs and exports a last checkpoint
	backup := filepath.Join(dir, "backup")
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(dir, "ledger"))); err != nil {
		t.Fatal(err)
	}
	r.Again(t)
	look(3)
	r.Stop(t)
	if err := os.RemoveAll(filepath.Join(dir, "ledger")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, filepath.Join(dir, "ledger")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "ledger", "ledger.db"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.TryAgain(t); err == nil {
		t.Fatal("the broker starts on an old backup")
	}
	_, said := r.Output()
	if !strings.Contains(string(said), "the witness witness.example holds a checkpoint") || !strings.Contains(string(said), "old backup") {
		t.Errorf("it does not say why: %s", neighbourhood.Struck(said))
	}
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "old backup") {
			t.Logf("it says: %s", line)
		}
	}
}

// startWitness starts the built witness for one ledger, and returns its address and key.
func startWitness(t *testing.T, program, ledger string) (address, key string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := launch(t, t.TempDir(), nil, program, "witness", "-dir", filepath.Join(t.TempDir(), "witness"), "-name", "witness.example", "-ledger", ledger, "-listen", listen)
	eventually(t, 10*time.Second, "the witness's key", func() bool {
		for line := range strings.Lines(p.out.String()) {
			if k, ok := strings.CutPrefix(line, "key "); ok && strings.HasSuffix(k, "\n") {
				key = strings.TrimSpace(k)
			}
		}
		return key != ""
	})
	return fmt.Sprintf("http://%s", listen), key
}

// TestLedgerThatIsNotThere takes the volume of a ledger and of its checkpoints away from the built broker, which must not begin another in its place: everybody's
// objections would be gone.
func TestLedgerThatIsNotThere(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the whole demo")
	}
	n := neighbourhood.Start(t, neighbourhood.Options{})
	program, dir := neighbourhood.Program(t, "broker"), t.TempDir()
	keys, volume := neighbourhood.Keys(t, program, dir), filepath.Join(dir, "ledger")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	r := n.Replica(t, neighbourhood.ReplicaOptions{Program: program,
		Ledger: map[string]any{"store": "sqlite", "path": filepath.Join(volume, "ledger.db"), "keys": keys, "origin": "mycarerecord.example/volume"}})
	r.Stop(t)
	refused := func(what, says string) {
		t.Helper()
		if err := r.TryAgain(t); err == nil {
			r.Stop(t)
			t.Fatalf("the broker starts with %s", what)
		}
		if _, said := r.Output(); !strings.Contains(string(said), says) || !strings.Contains(string(said), "ledger.begun says that a ledger was begun with these keys") {
			t.Errorf("%s: it does not say what to do: %s", what, neighbourhood.Struck(said))
		}
	}
	aside := filepath.Join(dir, "aside")
	if err := errors.Join(os.Rename(volume, aside), os.Mkdir(volume, 0o700)); err != nil {
		t.Fatal(err)
	}
	refused("its volume not mounted", "mount its volume")
	if left, err := os.ReadDir(volume); err != nil || len(left) != 0 {
		t.Errorf("%d files were made where the volume should be", len(left))
	}
	if err := os.WriteFile(filepath.Join(volume, "ledger.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("an empty file", "the store is empty")
	if err := errors.Join(os.RemoveAll(volume), os.Rename(aside, volume)); err != nil {
		t.Fatal(err)
	}
	r.Again(t)
	r.Stop(t)
	n.Stop(t)
}
