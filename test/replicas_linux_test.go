package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// stayVariable is how long TestTwoReplicas leaves all that it started up for whoever wants to look at it: "10m".
const stayVariable = "MCR_STAY"

// TestTwoReplicas starts two built brokers on one PostgreSQL and one Redis: what is said to one holds at the other from the acknowledgement on, also when the one
// that heard it is killed, and the one that comes back knows what was said meanwhile. test/torture tries the same thousands of times.
func TestTwoReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the whole demo and two servers")
	}
	t.Parallel()
	server, redis := services.PostgreSQL(t), services.Redis(t)
	program, dir := neighbourhood.Program(t, "broker"), t.TempDir()
	keys, connection := neighbourhood.Keys(t, program, dir), filepath.Join(dir, "connection")
	if err := os.WriteFile(connection, []byte(server.URL(server.Database(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	n := neighbourhood.Start(t, neighbourhood.Options{})
	var both [2]*neighbourhood.Replica
	var desks [2]mycarerecordv1.ConsentServiceClient
	for i := range both {
		both[i] = n.Replica(t, neighbourhood.ReplicaOptions{Program: program, Folder: dir, More: map[string]any{"hints": map[string]any{"redis": redis.Address()}},
			Ledger: map[string]any{"store": "postgres", "keys": keys, "origin": "mycarerecord.example/two", "checkpoints": filepath.Join(dir, "checkpoints"),
				"postgres": map[string]any{"connectionFile": connection, "replica": fmt.Sprintf("broker-%d", i+1)}}})
		conn, err := grpc.NewClient("passthrough:///"+both[i].GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal("no gRPC client")
		}
		t.Cleanup(func() { _ = conn.Close() }) // nothing is in flight
		desks[i] = mycarerecordv1.NewConsentServiceClient(conn)
	}
	stay(t, n, both)

	doctor, office := n.Token(t, "ed-doctor"), n.Token(t, "ig-officer")
	// Whoever works for the hospital always sees its own record (C-2.6): what the practice holds is objected to.
	read := func(at int, shown bool) {
		t.Helper()
		h := neighbourhood.Treating(doctor)
		h.Set("Content-Type", "application/fhir+json")
		res, err := n.Do(t.Context(), http.MethodPost, both[at].REST+"/fhir/Patient/$everything", h, everythingAbout(cohort.Margaret))
		if err != nil || res.Status != http.StatusOK || !strings.Contains(string(res.Body), "/acute-") {
			t.Fatalf("broker %d answers %d (%v)", at+1, res.Status, err)
		}
		if got := strings.Contains(string(res.Body), "/gp-"); got != shown {
			t.Errorf("broker %d shows what the practice holds: %v, want %v", at+1, got, shown)
		}
	}
	born := ""
	for _, p := range cohort.Invented(time.Now()) {
		if p.NHSNumber == cohort.Margaret {
			born = p.BirthDate
		}
	}
	// Whoever calls a broker that comes back meets a connection that has to be made anew.
	calling := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(neighbourhood.Bearing(t, office), 20*time.Second)
	}
	object := func(at int) string {
		t.Helper()
		ctx, cancel := calling()
		defer cancel()
		out, err := desks[at].RecordObjection(ctx, &mycarerecordv1.RecordObjectionRequest{NhsNumber: cohort.Margaret, BirthDate: born, Scope: mycarerecordv1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN,
			Custodian: "gp", Method: mycarerecordv1.ObjectionMethod_OBJECTION_METHOD_PHONE}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatalf("broker %d takes no objection: %v", at+1, err)
		}
		return out.GetObjection().GetId()
	}
	relent := func(at int, id string) {
		t.Helper()
		ctx, cancel := calling()
		defer cancel()
		if _, err := desks[at].WithdrawObjection(ctx, &mycarerecordv1.WithdrawObjectionRequest{NhsNumber: cohort.Margaret, BirthDate: born, ObjectionId: id}, grpc.WaitForReady(true)); err != nil {
			t.Fatalf("broker %d does not let go of an objection: %v", at+1, err)
		}
	}
	for i := range 2 {
		read(0, true)
		read(1, true)
		id := object(i)
		read(1-i, false)
		both[i].Kill(t)
		read(1-i, false)
		relent(1-i, id)
		read(1-i, true)
		both[i].Again(t)
	}
	redis.Kill(t)
	id := object(0)
	read(1, false)
	relent(1, id)
	read(0, true)
	for _, r := range both {
		r.Stop(t)
	}
	n.Stop(t)
}

// stay says where everything is, and waits as long as it was told.
func stay(t *testing.T, n *neighbourhood.Neighbourhood, both [2]*neighbourhood.Replica) {
	t.Helper()
	if os.Getenv(stayVariable) == "" {
		return
	}
	wait, err := time.ParseDuration(os.Getenv(stayVariable))
	if err != nil {
		t.Fatalf("%s is a time such as 10m", stayVariable)
	}
	for i, r := range both {
		t.Logf("broker %d: FHIR %s/fhir, gRPC %s, operations %s, configuration %s", i+1, r.REST, r.GRPC, r.Ops, r.Config())
	}
	t.Logf("issuer: %s (token: curl -d as=ed-doctor %s/token); they go on for %s, and then the test does; Ctrl-C ends it all", n.Issuer, n.Issuer, wait)
	select {
	case <-time.After(wait):
	case <-t.Context().Done():
	}
}
