package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// outside is a broker that is a process of its own, asked over gRPC.
type outside struct {
	conn           *grpc.ClientConn
	doctor, office string // tokens: of the reader, who works for [always]; of whoever records objections
}

var _ deskOf = outside{}

// dialOutside connects to a broker, and comes back soon to one that was killed.
func dialOutside(t *testing.T, address, doctor, office string) outside {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: time.Second}))
	if err != nil {
		t.Fatal("no gRPC client")
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is in flight
	return outside{conn, doctor, office}
}

func (d outside) bearing(ctx context.Context, token string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), cancel
}

// read implements deskOf.
func (d outside) read(ctx context.Context, s *subject) (shownOf [len(objectedTo)]bool, known bool) {
	ctx, cancel := d.bearing(ctx, d.doctor)
	defer cancel()
	in := &v1.GetRecordRequest{NhsNumber: s.number}
	in.Purpose, in.Permission, in.Relationship = stated(asker{"ed-doctor", always})
	out, err := v1.NewRecordServiceClient(d.conn).GetRecord(ctx, in)
	if err != nil {
		return shownOf, false
	}
	entries, _ := readBundle(out.GetBundle())
	for _, e := range entries {
		known = known || e.custodian == always
		for part, key := range objectedTo {
			shownOf[part] = shownOf[part] || e.custodian == key
		}
	}
	for _, c := range out.GetCustodians() { // one that could not answer tells nothing of objections
		for part, key := range objectedTo {
			if c.GetCustodian().GetKey() == key && !shownOf[part] && c.GetState() != v1.CustodianState_CUSTODIAN_STATE_WITHHELD {
				known = false
			}
		}
	}
	return shownOf, known
}

// object implements deskOf.
func (d outside) object(ctx context.Context, s *subject, part int, key string) (id string, acked bool) {
	ctx, cancel := d.bearing(ctx, d.office)
	defer cancel()
	out, err := v1.NewConsentServiceClient(d.conn).RecordObjection(ctx, &v1.RecordObjectionRequest{NhsNumber: s.number, BirthDate: s.born,
		Scope: v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, Custodian: objectedTo[part], Method: v1.ObjectionMethod_OBJECTION_METHOD_PHONE, Key: key})
	return out.GetObjection().GetId(), err == nil
}

// relent implements deskOf.
func (d outside) relent(ctx context.Context, s *subject, id, key string) bool {
	ctx, cancel := d.bearing(ctx, d.office)
	defer cancel()
	_, err := v1.NewConsentServiceClient(d.conn).WithdrawObjection(ctx, &v1.WithdrawObjectionRequest{NhsNumber: s.number, BirthDate: s.born, ObjectionId: id, Key: key})
	return err == nil
}

// cohortOf writes what custodians hold of people, as the demo's flag -cohort takes it: of each person one observation at each.
func cohortOf(t *testing.T, people []*subject) string {
	t.Helper()
	dir := t.TempDir()
	for _, key := range append([]string{always}, objectedTo[:]...) {
		folder := filepath.Join(dir, key)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal("no folder for a cohort")
		}
		for i, p := range people {
			text := fmt.Sprintf(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p%[1]d","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":%[2]q}],`+
				`"name":[{"use":"official","family":"Ashdown","given":["Ann"]}],"gender":"female","birthDate":%[3]q}},{"resource":{"resourceType":"Observation","id":"o%[1]d","status":"final",`+
				`"code":{"text":"Body weight"},"subject":{"reference":"Patient/p%[1]d"},"effectiveDateTime":"2024-05-01"}}]}`, i, p.number, p.born)
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.json", i)), []byte(text), 0o600); err != nil {
				t.Fatal("a cohort cannot be written")
			}
		}
	}
	return dir
}

// TestObjectionsAreLinearizableOutside is TestObjectionsAreLinearizable for brokers that are processes of their own, killed with SIGKILL now and then.
// An operation costs a hundred times as much there, so there are a tenth as many.
func TestObjectionsAreLinearizableOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole demos")
	}
	t.Parallel()
	for _, keep := range keepingsOfToday("PostgreSQL") {
		t.Run(keep.name, func(t *testing.T) {
			program := either(withPoints, plain)(t)
			k := keep.make(t, program)
			r, seed := withSeed(t)
			want := rounds(150, 20_000, 60)
			everybody := subjects(max(want/30, 6*peopleAtOnce()), "1950-02-03")
			n := neighbourhood.Start(t, neighbourhood.Options{Flags: []string{"-cohort", cohortOf(t, everybody)}})
			doctor, office := n.Token(t, "ed-doctor"), n.Token(t, "ig-officer")
			l := &linearity{r: rand.New(rand.NewPCG(r.Uint64(), 5))} //nolint:gosec // chance of a test: waves run beside the kills, and have their own
			var replicas []*neighbourhood.Replica
			for i := range k.replicas {
				b := n.Replica(t, neighbourhood.ReplicaOptions{Program: program, Ledger: k.ledger(i), More: k.more, Only: append([]string{always}, objectedTo[:]...)})
				replicas = append(replicas, b)
				l.desks = append(l.desks, dialOutside(t, b.GRPC, doctor, office))
			}
			kills := 0
			for i := 0; l.operations < want && l.illegal == 0 && l.hasTime(t, want); i += peopleAtOnce() {
				if i+peopleAtOnce() > len(everybody) {
					t.Fatalf("there are people for %d of %d operations only", l.operations, want)
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					l.wave(t.Context(), everybody[i:i+peopleAtOnce()])
				}()
				if r := replicas[r.IntN(len(replicas))]; i/peopleAtOnce()%4 == 0 { // in the middle of a wave
					pause(t.Context(), 300*time.Millisecond)
					r.Kill(t)
					kills++
					r.Again(t)
				}
				<-ended
			}
			for _, b := range replicas {
				b.Stop(t)
			}
			n.Stop(t)
			book := readStore(t, k.open(t), k.keys)
			l.end(t, strings.TrimSpace(k.name+" over gRPC"), seed, fmt.Sprintf("; %d kills; ledger of %d entries sound", kills, book.report.Entries))
			if kills == 0 {
				t.Error("nobody was killed")
			}
		})
	}
}
