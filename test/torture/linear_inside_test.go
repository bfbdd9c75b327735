package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/audit/postgres"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/audit/sqlite"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/services"
)

// inside is a broker in this process. Several of them keep one ledger.
type inside struct{ b *broker.Broker }

var _ deskOf = inside{}

var (
	clinicalRole = consent.Role{Name: "clinical", Version: "v", RecordsObjections: true, SeesObjections: true,
		Sections: map[record.Purpose]record.Sections{record.Treatment: record.AllSections}}
	anyDoctor = record.Requester{Kind: record.Professional, User: "555001112223", RoleProfile: "555001112224", JobRole: "R8000", Organisation: "X9Z01",
		Client: "epr", Issuer: "https://issuer.example"}
)

func numberOf(s *subject) record.NHSNumber {
	n, err := record.ParseNHSNumber(s.number)
	if err != nil {
		panic("a number that was made up is not valid")
	}
	return n
}

// read implements deskOf.
func (d inside) read(ctx context.Context, s *subject) (shown [len(objectedTo)]bool, known bool) {
	res, err := d.b.Retrieve(ctx, broker.Request{ID: "linear", Face: "rest", Operation: "everything", Subject: numberOf(s), Requester: anyDoctor, Role: clinicalRole,
		Purpose: record.Treatment, Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Arrived: time.Now()})
	defer res.Done()
	if err != nil {
		return shown, false
	}
	for _, e := range res.Answer.Entries {
		known = known || string(e.Custodian) == always
		for part, key := range objectedTo {
			shown[part] = shown[part] || string(e.Custodian) == key
		}
	}
	return shown, known
}

func (d inside) request(s *subject, key string) broker.ObjectionRequest {
	return broker.ObjectionRequest{ID: "linear", Face: "grpc", Requester: anyDoctor, Role: clinicalRole, Subject: numberOf(s), BirthDate: s.born, Key: key, Arrived: time.Now()}
}

// object implements deskOf.
func (d inside) object(ctx context.Context, s *subject, part int, key string) (id string, acked bool) {
	o, _, err := d.b.RecordObjection(ctx, d.request(s, key), consent.Objection{Status: consent.InForce, Scope: consent.ToCustodian, Custodian: record.CustodianKey(objectedTo[part]),
		Responsible: "self", Method: "phone"})
	return o.ID, err == nil
}

// relent implements deskOf.
func (d inside) relent(ctx context.Context, s *subject, id, key string) bool {
	_, _, err := d.b.WithdrawObjection(ctx, d.request(s, key), id)
	return err == nil
}

// oneWriter lets several ledgers write to a store that takes one writer at a time, as the server does for a store that is one.
type oneWriter struct {
	audit.Store
	mu *sync.Mutex
}

// Update implements audit.Store.
func (s oneWriter) Update(ctx context.Context, ahead audit.Wanted, f func(audit.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store.Update(ctx, ahead, f)
}

// storesOfTwo are stores for two ledgers that are one, for tests in this process.
var storesOfTwo = []struct {
	name string
	open func(t *testing.T) [2]audit.Store
}{
	{"SQLite", func(t *testing.T) [2]audit.Store {
		t.Helper()
		file, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "ledger.db")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := file.Close(); err != nil {
				t.Errorf("the store does not close: %v", err)
			}
		})
		var mu sync.Mutex
		return [2]audit.Store{oneWriter{file, &mu}, oneWriter{file, &mu}}
	}},
	{"PostgreSQL", func(t *testing.T) [2]audit.Store {
		t.Helper()
		if testing.Short() {
			t.Skip("starts PostgreSQL")
		}
		server := services.PostgreSQL(t)
		database := server.URL(server.Database(t))
		var out [2]audit.Store
		for i := range out {
			store, err := postgres.Open(t.Context(), postgres.Config{Connection: database, Replica: fmt.Sprintf("replica-%d", i)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Errorf("the store does not close: %v", err)
				}
			})
			out[i] = store
		}
		return out
	}},
}

// TestObjectionsAreLinearizable lets two brokers, each with a ledger of its own on one store, answer readers and those who object and relent, while
// commits fail: not kept, kept and not confirmed, for want of room.
func TestObjectionsAreLinearizable(t *testing.T) {
	t.Parallel()
	for _, stores := range storesOfTwo {
		t.Run(stores.name, func(t *testing.T) { linearizable(t, stores.name, stores.open(t)) })
	}
}

func linearizable(t *testing.T, name string, inner [2]audit.Store) {
	r, seed := withSeed(t)
	dir := t.TempDir()
	keys, err := audit.CreateKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	l := &linearity{r: r}
	var stores []*audittest.Faulty
	var ledgers []*audit.Ledger
	for i := range inner {
		kept, err := sink.NewFolder(filepath.Join(dir, "checkpoints"))
		if err != nil {
			t.Fatal(err)
		}
		store := &audittest.Faulty{Inner: inner[i]}
		opened, err := audit.Open(t.Context(), audit.Config{Store: store, Keys: keys, Sinks: []audit.Sink{kept}, Replica: fmt.Sprintf("replica-%d", i), Origin: "mycarerecord.example/linear"})
		if err != nil {
			t.Fatal(err)
		}
		stores, ledgers = append(stores, store), append(ledgers, opened)
		l.desks = append(l.desks, inside{brokertest.Open(t, func(c *broker.Config) {
			c.Ledger = opened
			extra := c.Custodians[0]
			extra.Rules.Custodian = record.Custodian{Key: record.CustodianKey(always), ODS: "X9B01", Name: "Eastvale Hospitals", Kind: record.KindAcute, Contact: "ring B"}
			c.Custodians = append(c.Custodians, extra)
		})})
	}

	ctx, cancel := context.WithCancel(t.Context())
	faults, broken := map[string]int{}, make(chan struct{})
	chance := rand.New(rand.NewPCG(r.Uint64(), 5)) //nolint:gosec // chance of a test
	go func() {
		defer close(broken)
		kinds := []audittest.Fault{audittest.Lost, audittest.Kept, audittest.UnknownLost, audittest.Full}
		for ctx.Err() == nil {
			fault := kinds[chance.IntN(len(kinds))]
			store := stores[chance.IntN(2)]
			next := store.Commits() + 1 + chance.IntN(120)
			store.Fail(next-store.Commits(), fault)
			faults[fault.String()]++
			for store.Commits() < next && ctx.Err() == nil {
				pause(ctx, 5*time.Millisecond)
			}
		}
	}()
	want := rounds(600, 200_000, 200)
	everybody := subjects(want, brokertest.AnnBirthDate) // more than there will be waves for
	for i := 0; l.operations < want && l.illegal == 0 && l.hasTime(t, want); i += peopleAtOnce() {
		l.wave(ctx, everybody[i:i+peopleAtOnce()])
	}
	cancel()
	<-broken
	for i := range ledgers {
		stores[i].Heal()
	}
	report, err := ledgers[0].Verify(t.Context())
	if err = errors.Join(err, report.Sound()); err != nil {
		t.Errorf("the ledger is not sound afterwards: %v", err)
	}
	for _, ledger := range ledgers {
		if err := ledger.Shutdown(context.Background()); err != nil {
			t.Errorf("a ledger does not end: %v", err)
		}
	}
	l.end(t, "two brokers in one process on "+name+", commits that fail", seed, fmt.Sprintf("; faults %v; ledger of %d entries sound", faults, report.Entries))
}
