package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/worklist"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/fhirrest"
	"github.com/mycarerecord/mycarerecord/broker/grpcapi"
	"github.com/mycarerecord/mycarerecord/broker/policy"
)

// Version is the release; set when linking: -ldflags "-X …/cmd/internal/daemon.Version=v1.2.3".
var Version = "development"

// Addresses are where a running daemon listens.
type Addresses struct{ REST, GRPC, Operations string } // host:port

// Options are what a caller of Run may add. The zero value is right for the product.
type Options struct {
	Log   io.Writer       // JSON lines; nil: standard error
	Ready func(Addresses) // called once, when every listener answers
	// Reload tells to read the key files anew; nil: never.
	Reload <-chan os.Signal
	Begin  bool                    // begin a new ledger although the folder of keys is read-only, so that nothing there says whether one was begun
	Adopt  bool                    // start although the folder of checkpoints of a ledger that has signed some is empty
	Spans  []sdktrace.SpanExporter // more exporters, for tests
	// REST listens at cfg.Listen.REST already, for whoever had to know its port before the configuration could be written. Run closes it. nil: Run
	// listens there itself.
	REST net.Listener
}

// Run is the daemon: it opens the ledger, refuses to serve what is unsound, listens, and returns when ctx ends and everything is drained, or
// with the reason why it cannot go on. It reads top to bottom: that is the whole wiring.
func Run(ctx context.Context, cfg Config, o Options) error {
	if o.Log == nil {
		o.Log = os.Stderr
	}
	if o.REST != nil {
		defer func() { _ = o.REST.Close() }() // serving has closed it already, where it came to that
	}
	debug.SetTraceback("none") // a crash must not print what was in memory
	noCoreDumps()
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Telemetry.LogLevel)) // checked by Load
	log := broker.NewLogger(o.Log, level)

	// Telemetry first, so that everything after it can be seen.
	telemetry, err := startTelemetry(ctx, cfg.Telemetry, o.Spans, log)
	if err != nil {
		return err
	}
	defer telemetry.stop()

	// The ledger and its keys: without them there is no answer, so there is no start (L-8).
	keys, err := loadKeys(cfg.Ledger.Keys)
	if err != nil {
		return err
	}
	table, err := policyTable(cfg)
	if err != nil {
		return err
	}
	sections, err := sectionRules(cfg)
	if err != nil {
		return err
	}
	configuration, err := cfg.hash(sections)
	if err != nil {
		return err
	}
	// What replicas tell each other, if they do. No start and no request depends on it.
	told, err := openHints(cfg.Hints, keys.hints)
	if err != nil {
		return err
	}
	if told != nil {
		defer told.Close()
	}
	begun, err := readBeginnings(cfg.Ledger.Keys)
	if err == nil {
		err = begun.check(cfg.Ledger)
	}
	if err != nil {
		return err
	}
	store, err := openStore(ctx, cfg.Ledger)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	sinks, err := checkpointSinks(cfg.Ledger)
	if err != nil {
		return errors.Join(fmt.Errorf("ledger: %w", err), store.Close())
	}
	var archives *audit.Archives
	if cfg.Ledger.Archives != "" {
		if archives, err = audit.OpenArchives(cfg.Ledger.Archives); err != nil {
			return errors.Join(fmt.Errorf("ledger.archives: %w: make it, or leave the setting out", err), store.Close())
		}
		defer func() { _ = archives.Close() }() // opened for reading only
	}
	ledger, err := audit.Open(ctx, audit.Config{Store: store, Archives: archives, Keys: keys.ledger, Replica: cfg.Ledger.Postgres.Replica, Changed: told.changed(), Origin: cfg.Ledger.Origin, Deadline: time.Duration(cfg.Ledger.Timeout),
		Configuration: configuration, Policy: table.Version(), Override: time.Duration(cfg.Limits.Override), Sinks: sinks, Adopt: o.Adopt, Begun: begun.words(o.Begin)})
	if err != nil {
		return errors.Join(fmt.Errorf("ledger: %w", err), store.Close())
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := ledger.Shutdown(end)
		if err == nil {
			err = store.Close() // not under a ledger that may still write
		}
		if err != nil {
			log.Error("the ledger did not close cleanly", "problem", "ledger")
		}
	}()
	if kept, err := begun.note(cfg.Ledger.Origin); err != nil {
		return err
	} else if !kept {
		log.Warn("the folder of keys is read-only: it does not say that a ledger was begun with them", "problem", "ledger")
	}

	// Who is told of break-glass and of alerts. No request waits for this, and it ends before the ledger does.
	if cfg.Alerts.Webhook == "" {
		log.Warn("nobody is told of break-glass and alerts: alerts.webhook names no one; the worklist has them", "problem", "alerts")
	} else {
		sender, err := newAlertSender(cfg.Alerts, ledger, readsAlerts(table), telemetry.meters, log)
		if err != nil {
			return err
		}
		sending, stop := context.WithCancel(context.Background())
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			sender.run(sending)
		}()
		defer func() {
			stop()
			<-sent
		}()
	}

	if cfg.Alerts.Mail.Server != "" {
		mailer, err := newDigest(cfg.Alerts.Mail, ledger, readsAlerts(table), log)
		if err != nil {
			return err
		}
		mailing, stop := context.WithCancel(context.Background())
		mailed := make(chan struct{})
		go func() {
			defer close(mailed)
			mailer.run(mailing)
		}()
		defer func() {
			stop()
			<-mailed
		}()
	}

	// What looks for accesses that somebody must look at. It follows the ledger, and no request waits for it.
	rules, err := worklistRules(cfg)
	if err != nil {
		return err
	}
	lists := worklist.NewLists(keys.staff, rules)
	if err := loadLists(cfg, lists); err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		worklist.NewWatcher(ledger, rules, log).Run(watching)
	}()
	defer func() {
		stopWatching()
		<-watched
	}()

	// The broker over its custodians.
	core, closeSources, err := newBroker(cfg, sections, configuration, table, ledger, told, keys, lists, log, telemetry)
	if err != nil {
		return err
	}
	defer closeSources()
	limitMemory(int64(cfg.Limits.MaxInFlightBytes))
	go giveBackMemory(ctx, core.Memory) // it ends with ctx

	// Who may call.
	keySets := authn.NewHTTPKeys(nil)
	defer keySets.Close()
	verifier, err := newVerifier(cfg, keySets, told)
	if err != nil {
		return err
	}
	defer verifier.Close()
	limiter := authn.NewLimiter(authn.Limits{PerSecond: cfg.Limits.PerUser, Burst: cfg.Limits.PerUserBurst})

	// The faces.
	tlsConfig, err := serverTLS(cfg.Listen.TLS)
	if err != nil {
		return err
	}
	healthServer := health.NewServer()
	grpcOptions := append(telemetry.grpcOptions(), grpc.Creds(grpcCredentials(tlsConfig)))
	grpcServer := grpcapi.New(grpcapi.Config{Broker: core, Verifier: verifier, Policy: table, Ledger: ledger, Limiter: limiter, CodeBase: cfg.CodeBase,
		Health: healthServer, Reflection: cfg.Reflection, Log: log, Options: grpcOptions})
	rest := &http.Server{
		Handler: telemetry.traceContext(fhirrest.New(fhirrest.Config{Broker: core, Verifier: verifier, Policy: table, Ledger: ledger, Limiter: limiter,
			Base: cfg.PublicBase, CodeBase: cfg.CodeBase, Version: Version, Log: log})),
		ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10, TLSConfig: tlsConfig, DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(quiet{}, slog.LevelWarn),
	}
	var ready atomic.Bool
	operations := &http.Server{Handler: telemetry.operations(func() bool { return ready.Load() && !ledger.Stats().Unsound }), ReadHeaderTimeout: 2 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(quiet{}, slog.LevelWarn)}

	// Listen. The operations listener comes first, so that a supervisor sees a daemon that is up and not ready.
	var addresses Addresses
	listeners := make([]net.Listener, 3)
	for i, l := range []struct {
		want string
		got  *string
	}{{cfg.Listen.Operations, &addresses.Operations}, {cfg.Listen.REST, &addresses.REST}, {cfg.Listen.GRPC, &addresses.GRPC}} {
		if l.got == &addresses.REST && o.REST != nil {
			listeners[i] = o.REST
		} else if listeners[i], err = net.Listen("tcp", l.want); err != nil {
			for _, open := range listeners[:i] {
				_ = open.Close()
			}
			return fmt.Errorf("cannot listen on %s: is another process using it, or is it not an address of this machine?", l.want)
		}
		*l.got = listeners[i].Addr().String()
	}
	failed := make(chan error, 3) // room for every listener's last word
	go func() { failed <- operations.Serve(listeners[0]) }()
	go func() {
		if tlsConfig != nil {
			failed <- rest.ServeTLS(listeners[1], "", "")
			return
		}
		failed <- rest.Serve(listeners[1])
	}()
	go func() { failed <- grpcServer.Serve(listeners[2]) }()
	ready.Store(true)
	log.Info("ready", "version", Version, "listen", addresses.REST)
	if o.Ready != nil {
		o.Ready(addresses)
	}

	months := time.NewTicker(time.Hour)
	defer months.Stop()
	month := func() {
		if !cfg.Ledger.MonthlyKeys {
			return
		}
		if changed, err := monthlyKeys(ctx, cfg, ledger, time.Now()); err != nil {
			log.Error("no new keys were made for this month; those from before are in use", "problem", "keys")
		} else if changed {
			log.Info("new keys were made for this month: back them up")
		}
	}
	month()
	for serving := true; serving; {
		select {
		case <-months.C:
			month()
		case <-ctx.Done():
			serving = false
		case <-failed: // what a listener says may hold addresses
			err, serving = errors.New("a listener stopped"), false
		case <-o.Reload:
			if err := reloadKeys(ctx, cfg, ledger); err != nil {
				log.Error("the keys were not taken up; those from before are in use", "problem", "keys")
			} else {
				log.Info("the keys were taken up")
			}
			if err := loadLists(cfg, lists); err != nil {
				log.Error("the lists of staff and of watched people were not taken up; those from before are in use", "problem", "worklist")
			}
		}
	}

	// Drain: not ready, no new calls, at most one budget for those on their way, then stop. What is still open is closed in the ledger.
	ready.Store(false)
	healthServer.Shutdown()
	log.Info("draining")
	end, cancel := context.WithTimeout(context.Background(), time.Duration(cfg.Limits.Request))
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		grpcServer.GracefulStop()
		close(stopped)
	}()
	_ = rest.Shutdown(end) // what it could not wait for is closed below
	select {
	case <-stopped:
	case <-end.Done():
		grpcServer.Stop() // GracefulStop has no deadline of its own
		<-stopped
	}
	_, _ = rest.Close(), operations.Close()
	log.Info("stopped")
	return err
}

func policyTable(cfg Config) (*policy.Table, error) {
	if cfg.PolicyFile == "" {
		return policy.Default(), nil
	}
	t, err := policy.Load(cfg.PolicyFile)
	if err != nil {
		return nil, fmt.Errorf("policyFile: %w", err)
	}
	for _, f := range t.Followers() {
		if !slices.ContainsFunc(cfg.Issuers, func(i Issuer) bool { return i.URL == f.Issuer }) {
			return nil, fmt.Errorf("policyFile: follow %s: its issuer is none of issuers: write it as it stands there", f.Client)
		}
	}
	for _, key := range t.Unasked() {
		if !slices.ContainsFunc(cfg.Custodians, func(c Custodian) bool { return c.Key == key && c.Locator != nil }) {
			return nil, fmt.Errorf("policyFile: unasked %s: no custodian of this key has a locator", key)
		}
	}
	return t, nil
}

func newVerifier(cfg Config, keys authn.Keys, told *replicas) (*authn.Verifier, error) {
	c, err := authnConfig(cfg)
	if err != nil {
		return nil, err
	}
	c.Used = told.used()
	return authn.New(c, keys)
}

// serverTLS reads the server's identity; nil without one, which Load allows on loopback only.
func serverTLS(t TLS) (*tls.Config, error) {
	if t.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, errors.New("listen.tls: certificate and key cannot be read, or do not belong together")
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if t.ClientCA != "" {
		pem, err := os.ReadFile(t.ClientCA)
		c.ClientCAs = x509.NewCertPool()
		if err != nil || !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("listen.tls.clientCA: no certificate can be read from it")
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

func grpcCredentials(c *tls.Config) credentials.TransportCredentials {
	if c == nil {
		return plain()
	}
	return credentials.NewTLS(c)
}
