package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// readAll reads an answer of ours, which is never larger than this.
func readAll(r io.Reader) ([]byte, error) {
	const most = 64 << 20
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(b) > most {
		err = errors.New("too large")
	}
	return b, err //nolint:wrapcheck // looked at for nil only
}

// site is what a deployment of cmd/broker has around it: two custodians, a demographics service and an issuer in this process, and a folder
// with configuration, keys and ledger.
type site struct {
	program, dir    string
	rest, grpc, ops string // host:port
	issuer          string // origin
	custodians      map[string]*simulator.Custodian
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{program: neighbourhood.Program(t, "broker"), dir: t.TempDir(), custodians: map[string]*simulator.Custodian{}}
	serve := func(h http.Handler) string {
		server, err := simulator.Listen("127.0.0.1:0", h)
		if err != nil {
			t.Fatal("a simulator does not listen")
		}
		t.Cleanup(server.Close)
		return server.URL()
	}
	var person cohort.Person
	for _, p := range cohort.Invented(time.Now()) {
		if p.NHSNumber == cohort.Margaret {
			person = p
		}
	}
	var custodians strings.Builder
	for _, c := range cohort.Custodians()[:2] {
		sim, err := simulator.NewCustodian(simulator.CustodianConfig{Name: c.Name, Everything: c.Everything, PageSize: c.PageSize,
			People: map[string][]json.RawMessage{person.NHSNumber: person.Records[c.Key]}})
		if err != nil {
			t.Fatal("no custodian")
		}
		s.custodians[c.Key] = sim
		fmt.Fprintf(&custodians, "  - {key: %s, ods: %s, name: %q, kind: %s, contact: %q, adapter: fhirr4, settings: {baseURL: %q, allowPlainHTTP: true}}\n",
			c.Key, c.ODS, c.Name, c.Kind, c.Contact, serve(sim)+"/fhir")
	}
	demographics, err := simulator.NewDemographics([]simulator.Demographic{{Number: person.NHSNumber, Standing: simulator.Live, Patient: person.Patient}})
	if err != nil {
		t.Fatal("no demographics service")
	}
	pds := serve(demographics) + simulator.DemographicsBase
	// The issuer's address stands in its tokens, so the listener comes first.
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal("no listener")
	}
	s.issuer = "http://" + ln.Addr().String()
	issuer, err := simulator.NewIssuer(simulator.IssuerConfig{URL: s.issuer})
	if err != nil {
		t.Fatal("no issuer")
	}
	server := simulator.Start(ln, issuer)
	t.Cleanup(server.Close)
	ports := freePorts(t, 3)
	s.rest, s.grpc, s.ops = ports[0], ports[1], ports[2]
	s.write(t, "broker.yaml", fmt.Sprintf(`listen: {rest: %q, grpc: %q, operations: %q}
publicBase: http://%s/fhir
audience: %s
ledger: {path: state/ledger.db, keys: state/keys, origin: mycarerecord.example/test}
demographics: {kind: pds, settings: {baseURL: %q, allowPlainHTTP: true}}
issuers: [{url: %q, algorithms: [ES256], vouchesFor: [staff], allowPlainHTTP: true}]
allowTestNumbers: true
exclusions: none
limits: {perUser: 1000, perUserBurst: 1000}
custodians:
%s`, s.rest, s.grpc, s.ops, s.rest, simulator.Audience, pds, s.issuer, custodians.String()))
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o700); err != nil {
		t.Fatal("no folder of state")
	}
	keys := launch(t, s.dir, nil, s.program, "keys", "-dir", "state/keys")
	if code, _ := keys.end(t, 10*time.Second); code != 0 {
		t.Fatalf("broker keys ends with %d\n%s", code, keys.tail())
	}
	return s
}

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal("a file cannot be written")
	}
}

// freePorts finds ports that nobody listens on, below those that the system gives to connections (32768 and up): nothing else takes them
// before the broker does.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for tries := 0; len(out) < n; tries++ {
		if tries > 100 {
			t.Fatal("no free port")
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))) //nolint:gosec // a port is no secret
		if err != nil {
			continue
		}
		defer func() { _ = ln.Close() }() // only at the end, so that all differ
		out = append(out, ln.Addr().String())
	}
	return out
}

// start starts the daemon.
func (s *site) start(t *testing.T) *process {
	t.Helper()
	return launch(t, s.dir, nil, s.program, "-config", "broker.yaml")
}

func (s *site) readiness(ctx context.Context) int {
	status, _ := send(ctx, http.MethodGet, "http://"+s.ops+"/readyz", nil, "")
	return status
}

// startReady starts the daemon and waits until it says that it is ready.
func (s *site) startReady(t *testing.T) *process {
	t.Helper()
	p := s.start(t)
	eventually(t, 10*time.Second, "/readyz answers 200", func() bool {
		if !p.running() {
			t.Fatalf("the broker has ended\n%s", p.tail())
		}
		return s.readiness(t.Context()) == http.StatusOK
	})
	return p
}

func (s *site) dial(t *testing.T) mycarerecordv1.RecordServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal("no gRPC client")
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is in flight
	return mycarerecordv1.NewRecordServiceClient(conn)
}

// TestDrain sends the built broker SIGTERM while a slow custodian keeps three requests waiting, one of each face: they are answered, whole;
// new ones are refused at once; then the process ends, and a second one goes on with the ledger, in which no access is left open.
func TestDrain(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the broker")
	}
	t.Parallel()
	s := newSite(t)
	p := s.startReady(t)
	token := tokenOf(t.Context(), s.issuer, "ed-doctor")
	code, whole := ask(t.Context(), "http://"+s.rest, token, cohort.Margaret)
	if code != http.StatusOK {
		t.Fatalf("before anything: %d\n%s", code, p.tail())
	}
	want := counted(t, whole, s)
	client := s.dial(t)
	bearing := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)

	acute := s.custodians["acute"]
	if err := acute.SetFault(simulator.FaultSpec{Fault: simulator.FaultSlow, Ms: 900}); err != nil {
		t.Fatal("no fault")
	}
	before := acute.Requests().Record
	var calls sync.WaitGroup
	calls.Go(func() {
		if code, text := ask(t.Context(), "http://"+s.rest, token, cohort.Margaret); code != http.StatusOK || !maps.Equal(counted(t, text, s), want) {
			t.Errorf("the request by REST that was on its way got %d, or less than all", code)
		}
	})
	calls.Go(func() {
		res, err := client.GetRecord(bearing, good(nil))
		if err != nil || !maps.Equal(counted(t, res.GetBundle(), s), want) {
			t.Errorf("the GetRecord that was on its way got %v, or less than all", status.Code(err))
		}
	})
	calls.Go(func() {
		g := good(nil)
		stream, err := client.StreamRecord(bearing, &mycarerecordv1.StreamRecordRequest{NhsNumber: g.GetNhsNumber(), Purpose: g.GetPurpose(), Permission: g.GetPermission(), Relationship: g.GetRelationship()})
		if err != nil {
			t.Errorf("StreamRecord does not start: %v", status.Code(err))
			return
		}
		got, err := readStream(t, stream)
		if err != nil {
			t.Errorf("the StreamRecord that was on its way ends with %v", status.Code(err))
			return
		}
		shown := map[string]int{}
		for _, e := range got.entries {
			if key := e.GetCustodian(); key != "" {
				shown[key]++
			}
		}
		if !maps.Equal(shown, want) {
			t.Error("the StreamRecord that was on its way got less than all")
		}
	})
	eventually(t, 2500*time.Millisecond, "all three have reached the slow custodian", func() bool { return acute.Requests().Record >= before+3 })

	began := time.Now()
	p.signal(t, syscall.SIGTERM)
	eventually(t, time.Second, "the listeners are closed, and /readyz says so", func() bool {
		return !listens(s.rest) && !listens(s.grpc) && s.readiness(t.Context()) != http.StatusOK
	})
	if !p.running() {
		t.Error("the process has ended with requests on their way")
	}
	ctx, cancel := context.WithTimeout(bearing, 3*time.Second)
	defer cancel()
	eventually(t, time.Second, "a new call on an old connection gets UNAVAILABLE", func() bool { // those that crossed the news on its way are answered
		_, err := client.ListCustodians(ctx, &mycarerecordv1.ListCustodiansRequest{})
		return status.Code(err) == grpccodes.Unavailable
	})
	if code, _ := ask(ctx, "http://"+s.rest, token, cohort.Margaret); code != 0 {
		t.Errorf("a new request got %d, want no connection", code)
	}
	calls.Wait()
	answered := time.Now()
	if exit, _ := p.end(t, 10*time.Second); exit != 0 {
		t.Errorf("ended with %d\n%s", exit, p.tail())
	}
	t.Logf("answered %v after SIGTERM, ended %v later", answered.Sub(began).Round(time.Millisecond), time.Since(answered).Round(time.Millisecond))
	if after := time.Since(answered); after > 2*time.Second {
		t.Errorf("ended %v after the last answer", after)
	}
	for _, a := range []string{s.rest, s.grpc, s.ops} {
		if listens(a) {
			t.Error("somebody still listens")
		}
	}

	p = s.startReady(t)
	_, text := send(t.Context(), http.MethodGet, "http://"+s.ops+"/metrics", nil, "")
	if !strings.Contains(string(text), "\nmcr_ledger_open 0\n") || strings.Contains(string(text), "\nmcr_ledger_position 0\n") {
		t.Error("an access is left open in the ledger, or the ledger is empty")
	}
	p.signal(t, syscall.SIGTERM)
	if exit, took := p.end(t, 10*time.Second); exit != 0 || took > 2*time.Second {
		t.Errorf("with nothing to do it ended with %d after %v, want 0 within 2 s", exit, took)
	}
}

// counted counts what each custodian shows in a Bundle.
func counted(t *testing.T, bundle []byte, s *site) map[string]int {
	t.Helper()
	doc, err := readJSON(bundle)
	if err != nil {
		t.Error("no Bundle")
		return nil
	}
	out := map[string]int{}
	for _, e := range doc.list("entry") {
		if key, _, _ := strings.Cut(e.str("resource", "id"), "-"); s.custodians[key] != nil {
			out[key]++
		}
	}
	return out
}

// TestRefusesToStart gives the built broker ledgers that are not sound: it ends at once, with one plain sentence that says what is wrong, and
// has listened to nobody.
func TestRefusesToStart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the broker")
	}
	t.Parallel()
	s := newSite(t)
	key := func(name string) string { return filepath.Join(s.dir, "state", "keys", name) }
	ledger := filepath.Join(s.dir, "state", "ledger.db")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal("a file cannot be changed")
		}
	}
	replace := func(name string, with []byte) func() {
		return func() {
			must(os.Remove(name))
			must(os.WriteFile(name, with, 0o400))
		}
	}
	never := []struct {
		name string
		harm func()
		says []string
	}{
		{"a key that everybody can read", func() { must(os.Chmod(key("payload-0001.key"), 0o444)) }, []string{"payload-0001.key", "chmod 0400"}},
		{"a key that the group can read", func() { must(os.Chmod(key("lookup-0001.key"), 0o440)) }, []string{"lookup-0001.key", "chmod 0400"}},
		{"the key of ids that the group can read", func() { must(os.Chmod(key("identity.key"), 0o440)) }, []string{"identity.key", "chmod 0400"}},
		{"a key that is too short", replace(key("payload-0001.key"), make([]byte, 31)), []string{"payload-0001.key", "32 bytes"}},
		{"a key that is too long", replace(key("lookup-0001.key"), make([]byte, 33)), []string{"lookup-0001.key", "32 bytes"}},
		{"the key of ids that is too long", replace(key("identity.key"), make([]byte, 33)), []string{"identity.key", "32 bytes"}},
		{"a key of zeros", replace(key("payload-0001.key"), make([]byte, 32)), []string{"payload-0001.key", "zeros"}},
		{"a key that is missing", func() { must(os.Remove(key("lookup-0001.key"))) }, []string{"lookup-0001.key"}},
		{"the key of ids that is missing", func() { must(os.Remove(key("identity.key"))) }, []string{"identity.key"}},
		{"no keys", func() { must(os.RemoveAll(key(""))) }, []string{"ledger.keys", "not there"}},
		{"a folder for a ledger", func() { must(os.Mkdir(ledger, 0o700)) }, []string{"ledger"}},
		{"something else for a ledger", func() { must(os.WriteFile(ledger, []byte(strings.Repeat("not a ledger at all\n", 500)), 0o600)) }, []string{"ledger"}},
		{"a ledger that everybody can read", func() { must(os.WriteFile(ledger, nil, 0o600)); must(os.Chmod(ledger, 0o644)) }, []string{"ledger", "chmod 0600"}},
		{"no folder for the ledger", func() { s.replaceInConfig(t, "state/ledger.db", "nowhere/ledger.db") }, []string{"ledger"}},
		{"a port that is taken", func() { s.replaceInConfig(t, s.grpc, strings.TrimPrefix(s.issuer, "http://")) }, []string{"cannot listen on", "another process"}},
	}
	good := saved(t, s.dir)
	for _, c := range never {
		t.Run(c.name, func(t *testing.T) {
			restored(t, s.dir, good)
			c.harm()
			s.refuses(t, c.says)
		})
	}

	// What only a ledger that was in use can show.
	restored(t, s.dir, good)
	p := s.startReady(t)
	t.Run("a ledger that is in use", func(t *testing.T) {
		other := *s
		defer s.write(t, "broker.yaml", string(good[filepath.Join(s.dir, "broker.yaml")].text))
		ports := freePorts(t, 3)
		other.replaceInConfig(t, s.rest, ports[0])
		other.replaceInConfig(t, s.grpc, ports[1])
		other.replaceInConfig(t, s.ops, ports[2])
		other.rest, other.grpc, other.ops = ports[0], ports[1], ports[2]
		other.refuses(t, []string{"ledger", "another process has the ledger open"})
		if s.readiness(t.Context()) != http.StatusOK {
			t.Error("the one that was there first is no longer ready")
		}
	})
	p.signal(t, syscall.SIGTERM)
	if code, _ := p.end(t, 10*time.Second); code != 0 {
		t.Fatalf("ended with %d\n%s", code, p.tail())
	}
	used := saved(t, s.dir)
	t.Run("keys that are not the ledger's", func(t *testing.T) {
		restored(t, s.dir, used)
		must(os.RemoveAll(key("")))
		keys := launch(t, s.dir, nil, s.program, "keys", "-dir", "state/keys")
		if code, _ := keys.end(t, 10*time.Second); code != 0 {
			t.Fatal("no new keys")
		}
		s.refuses(t, []string{"ledger", "keys"})
	})
	t.Run("another name for the ledger", func(t *testing.T) {
		restored(t, s.dir, used)
		s.replaceInConfig(t, "mycarerecord.example/test", "mycarerecord.example/other")
		s.refuses(t, []string{"ledger", "origin"})
	})
	t.Run("a ledger that lost its end", func(t *testing.T) {
		restored(t, s.dir, used)
		text, err := os.ReadFile(ledger) //nolint:gosec // our own
		must(err)
		must(os.WriteFile(ledger, text[:len(text)/2], 0o600))
		s.refuses(t, []string{"ledger"})
	})
	t.Run("all as it was", func(t *testing.T) {
		restored(t, s.dir, used)
		p := s.startReady(t)
		p.signal(t, syscall.SIGTERM)
		if code, _ := p.end(t, 10*time.Second); code != 0 {
			t.Fatalf("ended with %d\n%s", code, p.tail())
		}
	})
}

// refuses starts the daemon and holds how it refuses.
func (s *site) refuses(t *testing.T, says []string) {
	t.Helper()
	p := s.start(t)
	code, took := p.end(t, 10*time.Second)
	if code != 1 || took > 5*time.Second {
		t.Errorf("ended with %d after %v, want 1 at once", code, took)
	}
	var sentence string
	for line := range strings.Lines(p.err.String()) {
		if strings.HasPrefix(line, "{") { // a line of the log
			if strings.Contains(line, `"msg":"ready"`) {
				t.Error("it was ready first")
			}
			continue
		}
		sentence += line
	}
	t.Logf("it says: %s", strings.TrimSpace(sentence))
	if !strings.HasPrefix(sentence, "broker: ") || strings.Count(sentence, "\n") != 1 || strings.Contains(sentence, "goroutine") || p.out.String() != "" {
		t.Error("that is not one plain sentence")
	}
	for _, want := range says {
		if !strings.Contains(sentence, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	for _, a := range []string{s.rest, s.grpc, s.ops} {
		if listens(a) && a != strings.TrimPrefix(s.issuer, "http://") {
			t.Error("it listens")
		}
	}
}

func (s *site) replaceInConfig(t *testing.T, old, with string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "broker.yaml")) //nolint:gosec // our own
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatal("the configuration is not what it should be")
	}
	s.write(t, "broker.yaml", strings.ReplaceAll(string(text), old, with))
}

// saved reads a folder with all below it: contents and modes by path.
func saved(t *testing.T, dir string) map[string]kept {
	t.Helper()
	out := map[string]kept{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == dir {
			return err
		}
		k := kept{mode: info.Mode()}
		if info.Mode().IsRegular() {
			if k.text, err = os.ReadFile(path); err != nil { //nolint:gosec // our own
				return err
			}
		}
		out[path] = k
		return nil
	})
	if err != nil {
		t.Fatal("a folder cannot be saved")
	}
	return out
}

type kept struct {
	mode os.FileMode
	text []byte
}

// restored makes a folder what it was.
func restored(t *testing.T, dir string, files map[string]kept) {
	t.Helper()
	now, err := os.ReadDir(dir)
	for _, e := range now {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	for _, path := range slices.Sorted(maps.Keys(files)) { // folders come before what is in them
		k := files[path]
		if k.mode.IsDir() {
			err = errors.Join(err, os.Mkdir(path, k.mode.Perm()))
			continue
		}
		err = errors.Join(err, os.WriteFile(path, k.text, k.mode.Perm()), os.Chmod(path, k.mode.Perm()))
	}
	if err != nil {
		t.Fatal("a folder cannot be restored")
	}
}
