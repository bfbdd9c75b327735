package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mycarerecord/mycarerecord/adapters"
	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/postgres"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/authn"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

func plain() credentials.TransportCredentials { return insecure.NewCredentials() }

// checkpointSinks are the places outside the ledger where its checkpoints are kept.
func checkpointSinks(l Ledger) ([]audit.Sink, error) {
	folder, err := sink.NewFolder(l.Checkpoints)
	if err != nil {
		return nil, err
	}
	out := []audit.Sink{folder}
	for _, x := range l.Witnesses {
		w, err := sink.NewWitness(x.Address, x.Key, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// newBroker binds every configured custodian to its source.
// The function that it returns closes idle connections; the broker is not asked any more then.
func newBroker(cfg Config, sections *merge.SectionRules, configuration string, table *policy.Table, ledger *audit.Ledger, told *replicas, keys keySet, staff broker.Staff, log *slog.Logger, t *telemetry) (*broker.Broker, func(), error) {
	var open []any
	closeAll := func() {
		for _, x := range open {
			adapters.Close(x)
		}
	}
	tracer, err := adapters.NewTracer(cfg.Demographics.Kind, &cfg.Demographics.Settings)
	if err != nil {
		return nil, nil, fmt.Errorf("demographics.settings: %w", err)
	}
	open = append(open, tracer)
	c := broker.Config{
		Tracer: tracer, Ledger: ledger, Base: cfg.PublicBase, CodeBase: cfg.CodeBase, IDKey: keys.ids, HandleKey: keys.handles, Configuration: configuration, Sections: sections,
		Request: time.Duration(cfg.Limits.Request), Reserve: time.Duration(cfg.Limits.Reserve), Minimum: time.Duration(cfg.Limits.Minimum),
		NeutralWait: time.Duration(cfg.Limits.NeutralWait), TraceTimeout: time.Duration(cfg.Demographics.Timeout),
		DeceasedWindow: time.Duration(cfg.Demographics.DeceasedWindow), TestNumbers: cfg.TestNumbers,
		ListTraces: cfg.Demographics.ListTraces, ListTraceRate: cfg.Demographics.ListTraceRate,
		RequestBytes: int64(cfg.Limits.RequestBytes), MaxInFlightBytes: int64(cfg.Limits.MaxInFlightBytes),
		BreakerFailures: cfg.Limits.BreakerFailures, BreakerOpen: time.Duration(cfg.Limits.BreakerOpen), Staff: staff, Log: log,
	}
	for _, f := range table.Followers() {
		c.Followers = append(c.Followers, broker.Follower(f))
	}
	if t != nil {
		c.Traces, c.Meters = t.traces, t.meters
	}
	if told != nil {
		c.Hints = told.Hints
	}
	c.Limits = broker.DefaultLimits
	c.Limits.Bytes, c.Limits.Resources, c.Limits.Pages = int64(cfg.Limits.CustodianBytes), cfg.Limits.Resources, cfg.Limits.Pages
	list, err := exclusions(cfg)
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	for i := range cfg.Custodians {
		x := &cfg.Custodians[i]
		var sources []broker.NamedSource
		for _, s := range x.read() {
			source, err := adapters.New(s.Adapter, &s.Settings)
			if err != nil {
				closeAll()
				return nil, nil, fmt.Errorf("custodians[%d] %s: %ssettings: %w", i, x.Key, s.of(), err)
			}
			open = append(open, source)
			sources = append(sources, broker.NamedSource{Name: s.Name, Source: source, Adapter: s.Adapter})
		}
		binding := bind(x, sources, list)
		if x.Locator != nil {
			index, err := x.index(i)
			if err != nil {
				closeAll()
				return nil, nil, err
			}
			open = append(open, index)
			binding.Locator = &broker.Locator{Index: index, Adapter: x.Locator.Adapter, Allowed: slices.Contains(table.Unasked(), x.Key),
				FreshFor: time.Duration(x.Locator.FreshFor), Timeout: time.Duration(x.Locator.Timeout)}
		}
		c.Custodians = append(c.Custodians, binding)
	}
	b, err := broker.New(c)
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return b, closeAll, nil
}

// index makes the locator of a custodian that has one; i is its place in the configuration.
func (c *Custodian) index(i int) (broker.Index, error) {
	index, err := adapters.NewIndex(c.Locator.Adapter, &c.Locator.Settings)
	if err != nil {
		return nil, fmt.Errorf("custodians[%d] %s: locator: settings: %w", i, c.Key, err)
	}
	return index, nil
}

// exclusions reads the list that is configured; one that excludes nothing for none.
func exclusions(cfg Config) (policy.Exclusions, error) {
	switch cfg.Exclusions {
	case exclusionsBuiltIn:
		return policy.DefaultExclusions(), nil
	case exclusionsNone:
		return policy.Exclusions{}, nil
	}
	list, err := policy.LoadExclusions(cfg.Exclusions)
	if err != nil {
		return list, fmt.Errorf("exclusions: %w", err)
	}
	return list, nil
}

// of names a source in a message, where there are several.
func (s *Source) of() string {
	if s.Name == "" {
		return ""
	}
	return s.Name + ": "
}

func bind(x *Custodian, sources []broker.NamedSource, list policy.Exclusions) broker.Binding {
	var excluded record.Sections
	for _, code := range x.ExcludedSections {
		s, _ := record.ParseSection(code) // checked by Load
		excluded = excluded.With(s)
	}
	var codes []merge.Code
	for _, text := range x.ExcludedCodes {
		system, code, _ := strings.Cut(text, "|")
		codes = append(codes, merge.Code{System: system, Code: code})
	}
	for _, c := range list.Codes {
		codes = append(codes, merge.Code{System: c.System, Code: c.Code})
	}
	b := broker.Binding{
		Rules: consent.CustodianRules{
			Custodian:         record.Custodian{Key: x.Key, ODS: x.ODS, Name: x.Name, Neutral: x.NeutralName, Kind: x.Kind, Contact: x.Contact},
			EmergencyOverride: x.EmergencyOverride, Excluded: excluded, PatientEntered: x.PatientEntered || x.Kind == record.KindPatientEntered,
		},
		Merge: merge.Rules{TellCounts: x.TellCounts, LabelsEntered: x.LabelsEntered, LabelsNoPatient: x.LabelsNoPatient, Excluded: merge.CodesOf(codes...),
			AcceptUnverified: x.AcceptUnverified},
		Timeout: time.Duration(x.Timeout), TraceContext: x.TraceContext,
	}
	if len(sources) == 1 {
		b.Source, b.Adapter = sources[0].Source, sources[0].Adapter
	} else {
		b.Sources = sources
	}
	return b
}

// authnConfig turns settings into whom to believe.
func authnConfig(cfg Config) (authn.Config, error) {
	kinds := map[string]record.RequesterKind{"staff": record.Professional, "person": record.Person, "system": record.System}
	c := authn.Config{Audience: cfg.Audience}
	for _, x := range cfg.Issuers {
		i := authn.Issuer{URL: x.URL, Algorithms: x.Algorithms, JWKSURL: x.JWKS, PlainHTTP: x.AllowPlainHTTP,
			TrustMark: x.TrustMark, Identity: x.Identity, Assurance: x.Authentication, MaxLifetime: time.Duration(x.MaxLifetime)}
		for _, v := range x.VouchesFor {
			i.VouchesFor = append(i.VouchesFor, kinds[v])
		}
		c.Issuers = append(c.Issuers, i)
	}
	for i, x := range cfg.Clients {
		text, err := readCapped(x.JWKSFile)
		if err != nil {
			return authn.Config{}, fmt.Errorf("clients[%d].jwksFile: cannot be read", i)
		}
		c.Clients = append(c.Clients, authn.Client{ID: x.ID, Organisations: x.Organisations, Keys: text})
	}
	return c, nil
}

// Check does everything that Run does before it opens the ledger or listens, and nothing that leaves a trace: settings of adapters, issuers and
// the policy table and the section rules are read and built.
func Check(cfg Config) error {
	if _, err := policyTable(cfg); err != nil {
		return err
	}
	if _, err := exclusions(cfg); err != nil {
		return err
	}
	if _, err := sectionRules(cfg); err != nil {
		return err
	}
	if _, err := worklistRules(cfg); err != nil {
		return err
	}
	if _, err := adapters.NewTracer(cfg.Demographics.Kind, &cfg.Demographics.Settings); err != nil {
		return fmt.Errorf("demographics.settings: %w", err)
	}
	for i := range cfg.Custodians {
		for _, s := range cfg.Custodians[i].read() {
			if _, err := adapters.New(s.Adapter, &s.Settings); err != nil {
				return fmt.Errorf("custodians[%d] %s: %ssettings: %w", i, cfg.Custodians[i].Key, s.of(), err)
			}
		}
	}
	for i := range cfg.Custodians {
		if x := &cfg.Custodians[i]; x.Locator != nil {
			if _, err := x.index(i); err != nil {
				return err
			}
		}
	}
	if cfg.Alerts.Webhook != "" {
		if _, err := newAlertSender(cfg.Alerts, nil, nil, nil, slog.New(quiet{})); err != nil {
			return err
		}
	}
	if cfg.Alerts.Mail.Server != "" {
		if _, err := newDigest(cfg.Alerts.Mail, nil, nil, slog.New(quiet{})); err != nil {
			return err
		}
	}
	if cfg.Ledger.Store == "postgres" {
		config, err := postgresConfig(cfg.Ledger)
		if err == nil {
			err = postgres.Check(config)
		}
		if err != nil {
			return err
		}
	}
	verifier, err := newVerifier(cfg, noKeys{}, nil)
	if err != nil {
		return err
	}
	verifier.Close()
	_, err = serverTLS(cfg.Listen.TLS)
	return err
}

// noKeys stands where a check must not fetch any.
type noKeys struct{}

// KeySet implements authn.Keys.
func (noKeys) KeySet(context.Context, authn.Issuer) ([]byte, error) {
	return nil, authn.ErrKeysUnavailable
}
