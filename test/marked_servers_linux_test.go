package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// TestNothingIsWrittenDownByServers lets two built brokers keep their ledger on a PostgreSQL and hint to each other through a Redis, and searches all that these
// servers hold of it: the database's files and its log while it runs and afterwards, a dump as an operator backs up, every command that Redis was sent and the file
// that it saves, and a sealed export. No marker, no NHS number and no hash of one that needs no key stands in any of them.
func TestNothingIsWrittenDownByServers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the whole demo and two servers")
	}
	t.Parallel()
	cohortDir, _ := markedCohort(t)
	server, redis := services.PostgreSQL(t), services.Redis(t)
	heard := redis.Overhear(t)
	program, dir := neighbourhood.Program(t, "broker"), t.TempDir()
	keys, connection, database := neighbourhood.Keys(t, program, dir), filepath.Join(dir, "connection"), server.Database(t)
	if err := os.WriteFile(connection, []byte(server.URL(database)), 0o600); err != nil {
		t.Fatal(err)
	}
	n := neighbourhood.Start(t, neighbourhood.Options{State: t.TempDir(), Flags: []string{"-cohort", cohortDir}})
	var both [2]*neighbourhood.Replica
	var conns [2]*grpc.ClientConn
	for i := range both {
		both[i] = n.Replica(t, neighbourhood.ReplicaOptions{Program: program, Folder: dir, More: map[string]any{"hints": map[string]any{"redis": redis.Address()}},
			Ledger: map[string]any{"store": "postgres", "keys": keys, "origin": "mycarerecord.example/marked", "checkpoints": filepath.Join(dir, "checkpoints"),
				"postgres": map[string]any{"connectionFile": connection, "replica": fmt.Sprintf("broker-%d", i+1)}}})
		conn, err := grpc.NewClient("passthrough:///"+both[i].GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal("no gRPC client")
		}
		t.Cleanup(func() { _ = conn.Close() }) // nothing is in flight
		conns[i] = conn
	}

	shown := 0
	bearing := func(token string) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), neighbourhood.CallTime)
		t.Cleanup(cancel)
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	permission := &mycarerecordv1.Permission{Kind: mycarerecordv1.PermissionKind_PERMISSION_KIND_CANNOT_ASK, Reason: markWritten}
	for i, persona := range []string{"gp", "ed-doctor", "pharmacist", "stranger"} {
		token, at := n.Token(t, persona), i%2
		for _, number := range markedNumbers {
			h := neighbourhood.Headers(token, "X-Purpose-Of-Use: BTG", "X-Break-Glass-Reason: "+markWritten+" unconscious", "Content-Type: application/fhir+json")
			res, err := n.Do(t.Context(), http.MethodPost, both[at].REST+"/fhir/Patient/$everything", h, everythingAbout(number))
			if err == nil && res.Status == http.StatusOK && bytes.Contains(res.Body, []byte(markFamily)) {
				shown++
			}
			got, err := mycarerecordv1.NewRecordServiceClient(conns[1-at]).GetRecord(bearing(token),
				&mycarerecordv1.GetRecordRequest{NhsNumber: number, Purpose: mycarerecordv1.Purpose_PURPOSE_TREAT, Permission: permission})
			if err == nil && bytes.Contains(got.GetBundle(), []byte(markFamily)) {
				shown++
			}
		}
	}
	office := bearing(n.Token(t, "ig-officer"))
	for i, number := range markedNumbers {
		desk := mycarerecordv1.NewConsentServiceClient(conns[i%2])
		made, err := desk.RecordObjection(office, &mycarerecordv1.RecordObjectionRequest{NhsNumber: number, BirthDate: "1951-02-03", Scope: mycarerecordv1.ObjectionScope_OBJECTION_SCOPE_SECTION,
			Section: mycarerecordv1.Section_SECTION_MENTAL_HEALTH, Responsible: markWritten, Reason: markWritten, Method: mycarerecordv1.ObjectionMethod_OBJECTION_METHOD_PHONE})
		if err != nil {
			t.Fatal("an objection is refused")
		}
		if i == 0 {
			_, err = desk.WithdrawObjection(office, &mycarerecordv1.WithdrawObjectionRequest{NhsNumber: number, BirthDate: "1951-02-03", ObjectionId: made.GetObjection().GetId(), Reason: markWritten})
			if err != nil {
				t.Error("an objection cannot be withdrawn")
			}
		}
	}
	list := "nhs_number,birth_date,scope,custodian,method,responsible,source\n" + markedNumbers[1] + ",1951-02-03,custodian,gp,form," + markWritten + "," + markWritten + "\n"
	if _, outcome := importList(office, mycarerecordv1.NewConsentServiceClient(conns[0]), list); outcome != mycarerecordv1.ImportOutcome_IMPORT_OUTCOME_APPLIED {
		t.Errorf("a list: %s", outcome)
	}
	ledger := mycarerecordv1.NewAuditServiceClient(conns[1])
	if found, err := ledger.SearchAccesses(office, &mycarerecordv1.SearchAccessesRequest{NhsNumber: markedNumbers[0], Reason: markWritten, Limit: 1000}); err != nil || len(found.GetEntries()) == 0 {
		t.Errorf("the ledger answers %d entries", len(found.GetEntries()))
	}
	// An export reaches to the last checkpoint, which may be a second behind.
	var sealed bytes.Buffer
	for end := time.Now().Add(20 * time.Second); bytes.Count(sealed.Bytes(), []byte{'\n'}) < 20 && time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		export, err := ledger.ExportEntries(office, &mycarerecordv1.ExportEntriesRequest{Reason: markWritten})
		if err != nil {
			t.Fatal("ExportEntries does not begin")
		}
		sealed.Reset()
		for {
			m, err := export.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal("an export breaks off")
			}
			sealed.Write(m.GetData())
		}
	}
	if shown < 12 {
		t.Fatalf("only %d answers showed a record: this test looks at too little", shown)
	}

	look, sum := newLooker(), &searched{}
	sum.search(t, look, "a sealed export", sealed.Bytes())
	lines := 0
	for line := range bytes.Lines(sealed.Bytes()) { // what is in base64 is looked at as it reads, too
		var fields map[string]any
		if json.Unmarshal(line, &fields) != nil {
			continue
		}
		for name, value := range fields {
			text, _ := value.(string)
			if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) > 0 {
				sum.search(t, look, "a sealed export's "+name, raw)
				lines++
			}
		}
	}
	if lines < 40 {
		t.Errorf("%d values of a sealed export: the search of it proves nothing", lines)
	}
	dump := server.Dump(t, database)
	sum.search(t, look, "a dump", dump)
	if at, count := bytes.Index(dump, []byte("COPY mycarerecord.entries (")), bytes.Count(dump, []byte(`\\x`)); at < 0 || count < 500 {
		t.Errorf("entries at %d, %d values: the dump does not hold what it should, and the search of it proves nothing", at, count)
	}
	sum.folder(t, look, "PostgreSQL runs:", server.Data)
	logged := false
	logs, _ := filepath.Glob(filepath.Join(server.Data, "pg_wal", "0*"))
	for _, file := range logs {
		b, err := os.ReadFile(file)
		logged = logged || err == nil && bytes.Contains(b, []byte("mycarerecord.example/marked\n")) // of a checkpoint
	}
	if !logged {
		t.Error("PostgreSQL's log does not hold what it should: the search of it proves nothing")
	}
	told := heard()
	sum.search(t, look, "what Redis was sent", told)
	if bytes.Count(told, []byte(`"publish"`))+bytes.Count(told, []byte(`"PUBLISH"`)) < len(markedNumbers) {
		t.Error("Redis was sent next to nothing: the search of it proves nothing")
	}
	redis.Do(t, "SAVE")
	for _, r := range both {
		stdout, stderr := r.Output()
		sum.search(t, look, "output", append(stdout, stderr...))
		r.Stop(t)
	}
	server.Stop(t)
	sum.folder(t, look, "PostgreSQL has ended:", filepath.Dir(server.Data)) // with what it says of itself
	sum.folder(t, look, "Redis:", redis.Folder())
	sum.folder(t, look, "the brokers' own:", dir)
	sum.report(t, "ledger on PostgreSQL, hints through Redis")
	n.Stop(t)
}
