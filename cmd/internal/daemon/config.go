// Package daemon is the product as a process: every setting, all wiring, start and end. cmd/broker and cmd/demo run it.
package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/mycarerecord/mycarerecord/adapters"
	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/sink"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Config is every setting of the broker. Zero values mean the default that each field's comment names; fields marked required have none.
// Text of the form `file:PATH` is not expanded anywhere: secrets are always files that a field names.
type Config struct {
	Listen       Listen       `yaml:"listen"`
	PublicBase   string       `yaml:"publicBase"` // FHIR base address that callers use, no trailing slash, e.g. https://record.example/fhir. Required
	CodeBase     string       `yaml:"codeBase"`   // base of our own code systems; default https://mycarerecord.example
	Ledger       Ledger       `yaml:"ledger"`
	Hints        Hints        `yaml:"hints"` // what replicas tell each other; default: nothing
	Demographics Demographics `yaml:"demographics"`
	Audience     string       `yaml:"audience"`     // aud that tokens must name. Required
	Issuers      []Issuer     `yaml:"issuers"`      // at least one
	Clients      []Client     `yaml:"clients"`      // engines that may name an acting person
	PolicyFile   string       `yaml:"policyFile"`   // role table; default: the one built in
	SectionsFile string       `yaml:"sectionsFile"` // section rules; default: those built in
	Exclusions   string       `yaml:"exclusions"`   // codes that nobody shares here: builtin (default), none, or a file; to be confirmed by the region
	Custodians   []Custodian  `yaml:"custodians"`   // at least one, in the order in which people are shown them
	Alerts       Alerts       `yaml:"alerts"`
	Worklist     Worklist     `yaml:"worklist"`
	Limits       Limits       `yaml:"limits"`
	Telemetry    Telemetry    `yaml:"telemetry"`
	Reflection   bool         `yaml:"reflection"`       // gRPC reflection; default false, and meant for trying out only
	TestNumbers  bool         `yaml:"allowTestNumbers"` // accept NHS numbers from 999 000 0000 up; default false
}

// Listen says where to listen: host:port; port 0 means any free one.
type Listen struct {
	REST       string `yaml:"rest"`       // FHIR gateway. Required
	GRPC       string `yaml:"grpc"`       // gRPC services. Required
	Operations string `yaml:"operations"` // /livez /readyz /metrics; keep it off public networks. Required
	TLS        TLS    `yaml:"tls"`        // of rest and grpc
}

// TLS names the files of a server's identity. Without them rest and grpc must listen on loopback only.
type TLS struct {
	Certificate string `yaml:"certificate"` // PEM, with intermediates
	Key         string `yaml:"key"`         // PEM, readable by the broker only
	ClientCA    string `yaml:"clientCA"`    // PEM; if set, callers must show a certificate of these authorities
}

// Ledger says where the ledger is.
type Ledger struct {
	Store   string   `yaml:"store"`   // sqlite (default): one process, beside its file; postgres: several replicas, none of which holds anything
	Path    string   `yaml:"path"`    // sqlite: database file on a local disk. Required
	Keys    string   `yaml:"keys"`    // folder of key files, readable by the broker only; `broker keys` makes it. Required
	Origin  string   `yaml:"origin"`  // the ledger's name in receipts, e.g. record.example/ledger. Required
	Timeout Duration `yaml:"timeout"` // longest wait for one commit; default 2s

	Postgres    Postgres  `yaml:"postgres"`    // postgres: where the database is
	Checkpoints string    `yaml:"checkpoints"` // folder where signed checkpoints are kept, better on another disk; default with sqlite: checkpoints, beside path
	Archives    string    `yaml:"archives"`    // folder of archives of closed key epochs that officers may ask, written by `broker ledger archive`; default: none
	MonthlyKeys bool      `yaml:"monthlyKeys"` // sqlite: make new keys for what is recorded when a month begins (UTC); the folder of keys must be writable, and its backup follow; default false
	Witnesses   []Witness `yaml:"witnesses"`   // who cosigns checkpoints: other organisations that run `verify witness`
}

// Postgres says where the ledger's database is. Its connection string may hold a password, so it stands in a file or the environment, and is never logged.
type Postgres struct {
	ConnectionFile string `yaml:"connectionFile"` // file that holds the connection string, readable by the broker only
	ConnectionEnv  string `yaml:"connectionEnv"`  // or the environment variable that does
	Replica        string `yaml:"replica"`        // this process's name among the replicas, the same after a restart; default: the host's name
	Cluster        string `yaml:"cluster"`        // cluster and timeline that an operator accepted after a failover or a move, as the refusal names it; default: the one last written on
}

// Witness is one that cosigns the ledger's checkpoints.
type Witness struct {
	Address string `yaml:"address"` // where it takes them: https, plain http on loopback only. Required
	Key     string `yaml:"key"`     // its verifier key, as it prints it when it starts. Required
}

// Hints says where Redis (7 or later) is, through which replicas tell each other what each would find out a little later by itself: changed objections, used
// statements, custodians in trouble. It decides nothing and keeps nothing; without it only that head start is lost.
type Hints struct {
	Redis        string   `yaml:"redis"`        // host:port; default: no hints
	User         string   `yaml:"user"`         // default: Redis's own
	PasswordFile string   `yaml:"passwordFile"` // readable by the broker only
	TLS          bool     `yaml:"tls"`          // needed where Redis is on another machine; default false
	CA           string   `yaml:"ca"`           // PEM of who vouches for Redis's certificate; default: the system's
	Timeout      Duration `yaml:"timeout"`      // longest wait for Redis; default 20ms
}

// Demographics is the service that knows NHS numbers.
type Demographics struct {
	Kind           string    `yaml:"kind"`           // pds. Required
	Settings       yaml.Node `yaml:"settings"`       // of the adapter; see adapters/ADDING.md
	DeceasedWindow Duration  `yaml:"deceasedWindow"` // how long after death a record may be asked for; default 672h (28 days)
	Timeout        Duration  `yaml:"timeout"`        // default 2s
	ListTraces     int       `yaml:"listTraces"`     // people of a list of objections that may be asked for at once; default 16
	ListTraceRate  int       `yaml:"listTraceRate"`  // and in one second: care needs the rest of what the service allows; default 100
}

// Issuer is who vouches for callers.
type Issuer struct {
	URL            string   `yaml:"url"`            // exact iss. Required
	Algorithms     []string `yaml:"algorithms"`     // fixed list: ES256, ES384, RS256, RS384, RS512, PS256. Required
	VouchesFor     []string `yaml:"vouchesFor"`     // staff, person, system. Required
	JWKS           string   `yaml:"jwks"`           // address of the keys; default: by discovery
	AllowPlainHTTP bool     `yaml:"allowPlainHTTP"` // only for loopback; default false
	TrustMark      string   `yaml:"trustMark"`      // exact vtm of a person's token; default any
	Identity       int      `yaml:"identity"`       // least id_assurance_level of staff, 1 to 3; default not asked for. CIS2: 3
	Authentication int      `yaml:"authentication"` // least authentication_assurance_level of staff, 1 to 3; default not asked for. CIS2: 3
	MaxLifetime    Duration `yaml:"maxLifetime"`    // longest life of a token; default 1h
}

// Client is an engine with a key of its own, which may name the acting person.
type Client struct {
	ID            string           `yaml:"id"`            // client_id in its tokens. Required
	Organisations []record.ODSCode `yaml:"organisations"` // for which it may name people. Required
	JWKSFile      string           `yaml:"jwksFile"`      // its public keys. Required
}

// Custodian is one organisation that may hold something.
type Custodian struct {
	Key               record.CustodianKey  `yaml:"key"`         // 1 to 12 of a-z 0-9; never change it: it is part of ids. Required
	ODS               record.ODSCode       `yaml:"ods"`         // Required
	Name              string               `yaml:"name"`        // Required
	NeutralName       string               `yaml:"neutralName"` // what a person's report calls it, so that who looks over their shoulder does not learn what they are treated for; default name
	Kind              record.CustodianKind `yaml:"kind"`        // gp acute mental-health community social-care ambulance pharmacy 111 out-of-hours patient-entered. Required
	Contact           string               `yaml:"contact"`     // who to ring, who to ask for a copy. Required
	Adapter           string               `yaml:"adapter"`     // protocol: fhirr4. Required, or sources
	Settings          yaml.Node            `yaml:"settings"`
	Sources           []Source             `yaml:"sources,omitempty"` // instead of adapter and settings: 2 to 8 ways to read it, each over a breaker of its own
	Locator           *Locator             `yaml:"locator,omitempty"` // an index that says of whom it holds anything; default: it is asked about everybody
	Timeout           Duration             `yaml:"timeout"`           // whole, search and pages included; default limits.custodian
	EmergencyOverride bool                 `yaml:"emergencyOverride"` // break-glass overrides an objection here; default false
	ExcludedSections  []string             `yaml:"excludedSections"`  // never shared
	ExcludedCodes     []string             `yaml:"excludedCodes"`     // system|code: entries with such a code are withheld
	PatientEntered    bool                 `yaml:"patientEntered"`    // everything here was entered by the person
	LabelsEntered     bool                 `yaml:"labelsEntered"`     // marks patient-entered data with PATAST
	LabelsNoPatient   bool                 `yaml:"labelsNoPatient"`   // marks what the person must not see with NOPAT
	AcceptUnverified  bool                 `yaml:"acceptUnverified"`  // accepts NHS numbers whose status is not 01
	TellCounts        bool                 `yaml:"tellCounts"`        // may say how many entries are withheld
	TraceContext      bool                 `yaml:"traceContext"`      // sends traceparent on
}

// Source is one of several ways to read a custodian.
type Source struct {
	Name     string    `yaml:"name"`    // what people are told is missing where it gave nothing: "Ward system". Required
	Adapter  string    `yaml:"adapter"` // protocol. Required
	Settings yaml.Node `yaml:"settings"`
}

// Locator is a custodian's index. The custodian is not asked about a person only where the policy table says so (`unasked`), and the index answers in time,
// is fresh, and lists nothing about the person.
type Locator struct {
	Adapter  string    `yaml:"adapter"` // protocol: documents. Required
	Settings yaml.Node `yaml:"settings"`
	FreshFor Duration  `yaml:"freshFor"` // how long ago the custodian may have brought it up to date, at most 72h. Required
	Timeout  Duration  `yaml:"timeout"`  // of its answer, at most a quarter of the custodian's; default a sixth of that
}

// read returns the ways to read a custodian: one without a name, or several.
func (c *Custodian) read() []Source {
	if len(c.Sources) > 0 {
		return c.Sources
	}
	return []Source{{Adapter: c.Adapter, Settings: c.Settings}}
}

// Alerts says who is told of every use of break-glass. Without a webhook alerts wait on the worklist, and nobody is told.
type Alerts struct {
	Webhook        string   `yaml:"webhook"`        // https address; it gets {"position":N} of each alert's entry, again and again until it answers 2xx; nothing of alerts about those who read alerts
	TokenFile      string   `yaml:"tokenFile"`      // file with a bearer token for it; default none
	CA             string   `yaml:"ca"`             // PEM of the authorities that vouch for it; default the system's
	AllowPlainHTTP bool     `yaml:"allowPlainHTTP"` // only for loopback; default false
	Timeout        Duration `yaml:"timeout"`        // of one try; default 5s
	Pause          Duration `yaml:"pause"`          // longest pause between tries; default 1m
	Mail           Mail     `yaml:"mail"`           // who is mailed once a day; default nobody
}

// Mail says how information-governance officers are told, once a day, what waits for them: positions in the ledger, and nothing else.
type Mail struct {
	Server       string      `yaml:"server"`       // host:port of the mail server (SMTP); default: no mail
	TLS          string      `yaml:"tls"`          // starttls (default) or tls; none on loopback only
	CA           string      `yaml:"ca"`           // PEM of the authorities that vouch for it; default the system's
	User         string      `yaml:"user"`         // default: no sign-in
	PasswordFile string      `yaml:"passwordFile"` // readable by the broker only
	From         string      `yaml:"from"`         // address that the mail comes from. Required with server
	At           string      `yaml:"at"`           // time of day in London, default 07:00
	To           []Recipient `yaml:"to"`           // at least one with server
}

// Recipient is where an organisation's officers read mail.
type Recipient struct {
	Organisation record.ODSCode `yaml:"organisation"` // Required
	Address      string         `yaml:"address"`      // Required
}

// How the connection to a mail server is made safe.
const (
	mailStartTLS = "starttls"
	mailTLS      = "tls"
	mailPlain    = "none"
)

// Worklist says what looks for accesses that somebody must look at.
type Worklist struct {
	Rules   string `yaml:"rules"`   // file of rules; default: those built in
	Staff   string `yaml:"staff"`   // list of staff that `broker staff list` made; default: none, and what it would tell is not compared
	Watched string `yaml:"watched"` // list of people whose records are watched, made likewise; default: none
}

// Limits are budgets and caps.
type Limits struct {
	Request          Duration `yaml:"request"`          // whole request; default 8s
	Reserve          Duration `yaml:"reserve"`          // kept back for release and sending; default 250ms
	Custodian        Duration `yaml:"custodian"`        // one custodian; default 3s
	Minimum          Duration `yaml:"minimum"`          // less than this left: refuse at once; default 500ms
	NeutralWait      Duration `yaml:"neutralWait"`      // neutral answers leave this long after the request has been read; default custodian + reserve
	CustodianBytes   Bytes    `yaml:"custodianBytes"`   // decoded, per custodian; default 32MiB
	RequestBytes     Bytes    `yaml:"requestBytes"`     // decoded, per request; default 64MiB
	MaxInFlightBytes Bytes    `yaml:"maxInFlightBytes"` // memory of all requests at once, four bytes for one decoded; default 1GiB, for a container of 2 GiB
	Resources        int      `yaml:"resources"`        // per custodian; default 20000
	Pages            int      `yaml:"pages"`            // per custodian; default 400
	PerUser          float64  `yaml:"perUser"`          // calls a second of one user; default 5
	PerUserBurst     int      `yaml:"perUserBurst"`     // default 20
	BreakerFailures  int      `yaml:"breakerFailures"`  // consecutive failures that open a breaker; default 5
	BreakerOpen      Duration `yaml:"breakerOpen"`      // how long it stays open; default 15s
	Override         Duration `yaml:"override"`         // how long a break-glass override lasts; default 60m, and not more
}

// Telemetry says what leaves the process for operators.
type Telemetry struct {
	LogLevel     string `yaml:"logLevel"`     // debug, info (default), warn, error
	OTLP         string `yaml:"otlp"`         // host:port of an OTLP gRPC collector; default none
	OTLPInsecure bool   `yaml:"otlpInsecure"` // plain text, loopback only
}

// Duration is a time.Duration written as text: 250ms, 3s, 24h.
type Duration time.Duration

// UnmarshalYAML reads the text form.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v <= 0 {
		return fmt.Errorf("line %d: give a time such as 250ms, 3s or 24h, greater than nothing", n.Line)
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes the text form.
func (d Duration) MarshalYAML() (any, error) {
	if d == 0 {
		return nil, nil
	}
	return time.Duration(d).String(), nil
}

// Bytes is a size written as text: 64KiB, 32MiB, 1GiB, or a number of bytes.
type Bytes int64

// UnmarshalYAML reads the text form.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	text, unit := n.Value, int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if t, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = t, u
		}
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil || v <= 0 || v > (1<<62)/unit {
		return fmt.Errorf("line %d: give a size such as 64KiB, 32MiB or 1GiB", n.Line)
	}
	*b = Bytes(v * unit)
	return nil
}

// MarshalYAML writes a number of bytes.
func (b Bytes) MarshalYAML() (any, error) {
	if b == 0 {
		return nil, nil
	}
	return int64(b), nil
}

// maxConfigBytes caps a configuration file.
const maxConfigBytes = 1 << 20

// Problem is one thing wrong with a configuration: where, and what to do.
type Problem struct {
	Line int // 0 if the key is not in the file
	Key  string
	Want string
}

// Problems is everything wrong with a configuration file.
type Problems struct {
	File string
	List []Problem
}

// Error returns one line a problem.
func (p *Problems) Error() string {
	var b strings.Builder
	for i, x := range p.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.File)
		if x.Line > 0 {
			fmt.Fprintf(&b, ":%d", x.Line)
		}
		b.WriteString(": ")
		if x.Key != "" {
			b.WriteString(x.Key + ": ")
		}
		b.WriteString(x.Want)
	}
	return b.String()
}

// Load reads, completes and checks a configuration file. Paths in it are relative to its folder. Unknown keys are refused. A wrong
// configuration gives a [*Problems]; nothing has been opened or started then.
func Load(path string) (Config, error) {
	text, err := readCapped(path)
	if err != nil {
		return Config{}, &Problems{path, []Problem{{Want: openProblem(err)}}}
	}
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err == io.EOF {
		return Config{}, &Problems{path, []Problem{{Want: "is empty: start from cmd/broker/broker.example.yaml"}}}
	} else if err != nil {
		return Config{}, &Problems{path, yamlProblems(err)}
	}
	if dec.Decode(new(yaml.Node)) != io.EOF {
		return Config{}, &Problems{path, []Problem{{Want: "holds more than one document"}}}
	}
	c.complete(filepath.Dir(path))
	var root yaml.Node
	_ = yaml.Unmarshal(text, &root) // it has been decoded once already
	if list := c.problems(); len(list) > 0 {
		for i := range list {
			list[i].Line = lineOf(&root, list[i].Key)
		}
		slices.SortStableFunc(list, func(a, b Problem) int { return a.Line - b.Line })
		return Config{}, &Problems{path, list}
	}
	return c, nil
}

func openProblem(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, os.ErrPermission):
		return "no permission to read it"
	}
	return "it is not a readable file of at most 1 MiB"
}

// yamlProblems turns the decoder's "line 3: field x not found in type y" into our form.
func yamlProblems(err error) []Problem {
	var te *yaml.TypeError
	lines := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if errors.As(err, &te) {
		lines = te.Errors
	}
	var out []Problem
	for _, l := range lines {
		p := Problem{Want: l}
		if rest, ok := strings.CutPrefix(l, "line "); ok {
			if n, text, ok := strings.Cut(rest, ": "); ok {
				p.Line, _ = strconv.Atoi(n)
				p.Want = text
				if key, _, ok := strings.Cut(strings.TrimPrefix(text, "field "), " not found in type"); ok {
					p.Key, p.Want = key, "there is no such setting"
				}
			}
		}
		out = append(out, p)
	}
	return out
}

// lineOf finds where a dotted key such as custodians[2].key stands; if it is missing, where its parent does.
func lineOf(root *yaml.Node, key string) int {
	n := root
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	line := 0
	for _, part := range strings.FieldsFunc(key, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		var next *yaml.Node
		switch i, err := strconv.Atoi(part); {
		case n.Kind == yaml.SequenceNode && err == nil && i < len(n.Content):
			next = n.Content[i]
			line = next.Line
		case n.Kind == yaml.MappingNode:
			for j := 0; j+1 < len(n.Content); j += 2 {
				if n.Content[j].Value == part {
					next, line = n.Content[j+1], n.Content[j].Line
				}
			}
		}
		if next == nil {
			return line
		}
		n = next
	}
	return line
}

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// complete fills in defaults and makes paths absolute to the file's folder.
func (c *Config) complete(dir string) {
	orElse(&c.CodeBase, "https://mycarerecord.example")
	orElse(&c.Ledger.Store, "sqlite")
	orElse(&c.Exclusions, exclusionsBuiltIn)
	orElse(&c.Ledger.Timeout, Duration(2*time.Second))
	if c.Ledger.Store == "postgres" && c.Ledger.Postgres.Replica == "" {
		c.Ledger.Postgres.Replica, _ = os.Hostname() // without one, a name must be given
	}
	if c.Ledger.Path != "" {
		orElse(&c.Ledger.Checkpoints, filepath.Join(filepath.Dir(c.Ledger.Path), "checkpoints"))
	}
	orElse(&c.Hints.Timeout, Duration(20*time.Millisecond))
	orElse(&c.Demographics.DeceasedWindow, Duration(28*24*time.Hour))
	orElse(&c.Demographics.Timeout, Duration(2*time.Second))
	orElse(&c.Demographics.ListTraces, 16)
	orElse(&c.Demographics.ListTraceRate, 100)
	l := &c.Limits
	orElse(&l.Request, Duration(8*time.Second))
	orElse(&l.Reserve, Duration(250*time.Millisecond))
	orElse(&l.Custodian, Duration(3*time.Second))
	orElse(&l.Minimum, Duration(500*time.Millisecond))
	orElse(&l.NeutralWait, l.Custodian+l.Reserve)
	orElse(&l.CustodianBytes, 32<<20)
	orElse(&l.RequestBytes, 64<<20)
	orElse(&l.MaxInFlightBytes, 1<<30)
	orElse(&l.Resources, 20_000)
	orElse(&l.Pages, 400)
	orElse(&l.PerUser, 5)
	orElse(&l.PerUserBurst, 20)
	orElse(&l.BreakerFailures, 5)
	orElse(&l.BreakerOpen, Duration(15*time.Second))
	orElse(&l.Override, Duration(audit.MaxOverride))
	orElse(&c.Alerts.Timeout, Duration(5*time.Second))
	orElse(&c.Alerts.Pause, Duration(time.Minute))
	if c.Alerts.Mail.Server != "" {
		orElse(&c.Alerts.Mail.TLS, mailStartTLS)
		orElse(&c.Alerts.Mail.At, "07:00")
	}
	orElse(&c.Telemetry.LogLevel, "info")
	adapters.Absolute(&c.Demographics.Settings, dir)
	for i := range c.Custodians {
		orElse(&c.Custodians[i].Timeout, l.Custodian)
		adapters.Absolute(&c.Custodians[i].Settings, dir)
		if at := c.Custodians[i].Locator; at != nil {
			orElse(&at.Timeout, c.Custodians[i].Timeout/6)
			adapters.Absolute(&at.Settings, dir)
		}
		for k := range c.Custodians[i].Sources {
			adapters.Absolute(&c.Custodians[i].Sources[k].Settings, dir)
		}
	}
	paths := []*string{&c.Ledger.Path, &c.Ledger.Keys, &c.Ledger.Checkpoints, &c.Ledger.Archives, &c.Ledger.Postgres.ConnectionFile, &c.Hints.PasswordFile, &c.Hints.CA, &c.PolicyFile, &c.SectionsFile, &c.Worklist.Rules, &c.Worklist.Staff, &c.Worklist.Watched, &c.Listen.TLS.Certificate, &c.Listen.TLS.Key, &c.Listen.TLS.ClientCA, &c.Alerts.TokenFile, &c.Alerts.CA, &c.Alerts.Mail.CA, &c.Alerts.Mail.PasswordFile}
	for i := range c.Clients {
		paths = append(paths, &c.Clients[i].JWKSFile)
	}
	if c.Exclusions != exclusionsBuiltIn && c.Exclusions != exclusionsNone {
		paths = append(paths, &c.Exclusions)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// Words that stand for an exclusion list.
const (
	exclusionsBuiltIn = "builtin"
	exclusionsNone    = "none"
)

// maxSources is how many ways to read one custodian there may be.
const maxSources = 8

// algorithms that an issuer may be configured for: asymmetric ones only.
var algorithms = []string{"ES256", "ES384", "RS256", "RS384", "RS512", "PS256"}

// problems checks everything that can be checked without opening or asking anything.
func (c *Config) problems() []Problem {
	var list []Problem
	need := func(ok bool, key, want string) {
		if !ok {
			list = append(list, Problem{Key: key, Want: want})
		}
	}
	for _, l := range []struct{ key, addr string }{{"listen.rest", c.Listen.REST}, {"listen.grpc", c.Listen.GRPC}, {"listen.operations", c.Listen.Operations}} {
		host, _, err := net.SplitHostPort(l.addr)
		need(err == nil, l.key, "give host:port, e.g. 127.0.0.1:8080")
		if err == nil && l.key != "listen.operations" && c.Listen.TLS.Certificate == "" {
			need(loopback(host), l.key, "without listen.tls only a loopback address may be listened on: patient data would travel in clear")
		}
	}
	need((c.Listen.TLS.Certificate == "") == (c.Listen.TLS.Key == ""), "listen.tls", "give certificate and key, or neither")
	need(c.Listen.TLS.ClientCA == "" || c.Listen.TLS.Certificate != "", "listen.tls.clientCA", "needs certificate and key")
	need(absoluteURL(c.PublicBase), "publicBase", "give an absolute address without a trailing slash, e.g. https://record.example/fhir")
	need(absoluteURL(c.CodeBase), "codeBase", "give an absolute address without a trailing slash")
	pg := c.Ledger.Postgres
	switch c.Ledger.Store {
	case "sqlite":
		need(c.Ledger.Path != "", "ledger.path", "name the database file: there is no running without a ledger")
		need(pg == Postgres{}, "ledger.postgres", "is for store: postgres")
	case "postgres":
		need(c.Ledger.Path == "", "ledger.path", "is for store: sqlite")
		need((pg.ConnectionFile == "") != (pg.ConnectionEnv == ""), "ledger.postgres", "name either the connectionFile that holds the connection string, or the variable connectionEnv")
		need(pg.Replica != "" && len(pg.Replica) <= 100, "ledger.postgres.replica", "give this replica a name of its own, at most 100 bytes")
		need(!c.Ledger.MonthlyKeys, "ledger.monthlyKeys", "replicas need new keys all at once: run `broker keys add`, hand out the files, and send SIGHUP to each")
		need(c.Ledger.Checkpoints != "", "ledger.checkpoints", "name the folder where signed checkpoints are kept")
	default:
		need(false, "ledger.store", "sqlite or postgres")
	}
	if h := c.Hints; h.Redis != "" {
		host, _, err := net.SplitHostPort(h.Redis)
		need(err == nil, "hints.redis", "give host:port")
		need(h.TLS || loopback(host), "hints.tls", "must be true where Redis is on another machine")
		need(h.TLS || h.CA == "", "hints.ca", "is for tls: true")
		need(h.Timeout <= Duration(time.Second), "hints.timeout", "at most 1s: a request may wait for it")
	} else {
		need(h == Hints{Timeout: h.Timeout}, "hints.redis", "name Redis, or leave hints out")
	}
	need(c.Ledger.Keys != "", "ledger.keys", "name the folder of key files; `broker keys` makes one")
	need(c.Ledger.Archives == "" || c.Ledger.Archives != c.Ledger.Keys && c.Ledger.Archives != c.Ledger.Checkpoints, "ledger.archives", "name a folder of its own")
	need(c.Ledger.Origin != "", "ledger.origin", "give the ledger a name, e.g. record.example/ledger")
	for i, x := range c.Ledger.Witnesses {
		key := fmt.Sprintf("ledger.witnesses[%d]", i)
		u, err := url.Parse(x.Address)
		need(err == nil && absoluteURL(strings.TrimSuffix(x.Address, "/")) && (u.Scheme == "https" || loopback(u.Hostname())), key+".address", "give an https address; plain http on loopback only")
		_, err = sink.NewWitness(x.Address, x.Key, nil)
		need(err == nil, key+".key", "give the verifier key that `verify witness` prints")
	}
	need(c.Demographics.Kind != "", "demographics.kind", "name the demographics adapter: pds")
	need(c.Demographics.ListTraces >= 1 && c.Demographics.ListTraces <= 1000, "demographics.listTraces", "1 to 1000")
	need(c.Demographics.ListTraceRate >= 1 && c.Demographics.ListTraceRate <= 100_000, "demographics.listTraceRate", "1 to 100000 in a second")
	need(c.Audience != "", "audience", "give the aud that tokens for this broker carry")
	need(len(c.Issuers) > 0, "issuers", "name at least one issuer of tokens: there is no anonymous mode")
	for i, x := range c.Issuers {
		key := fmt.Sprintf("issuers[%d]", i)
		u, err := url.Parse(x.URL)
		need(err == nil && absoluteURL(strings.TrimSuffix(x.URL, "/")), key+".url", "give the exact iss, an absolute address")
		if err == nil {
			need(u.Scheme == "https" || x.AllowPlainHTTP && loopback(u.Hostname()), key+".url", "use https; plain http only on loopback with allowPlainHTTP: true")
		}
		need(len(x.Algorithms) > 0, key+".algorithms", "list the algorithms that this issuer signs with")
		for _, a := range x.Algorithms {
			need(slices.Contains(algorithms, a), key+".algorithms", "one of "+strings.Join(algorithms, ", "))
		}
		need(x.Identity >= 0 && x.Identity <= 3, key+".identity", "1 to 3, or leave it out")
		need(x.Authentication >= 0 && x.Authentication <= 3, key+".authentication", "1 to 3, or leave it out")
		need(len(x.VouchesFor) > 0, key+".vouchesFor", "list whom it vouches for: staff, person, system")
		for _, v := range x.VouchesFor {
			need(v == "staff" || v == "person" || v == "system", key+".vouchesFor", "one of staff, person, system")
		}
	}
	for i, x := range c.Clients {
		key := fmt.Sprintf("clients[%d]", i)
		need(x.ID != "", key+".id", "give its client_id")
		need(x.JWKSFile != "", key+".jwksFile", "name the file with its public keys")
		need(len(x.Organisations) > 0, key+".organisations", "list the ODS codes for which it may name people")
		for _, o := range x.Organisations {
			need(o.Valid(), key+".organisations", "an ODS code is 3 to 10 upper-case letters and digits")
		}
	}
	need(len(c.Custodians) > 0, "custodians", "list at least one custodian")
	keys := map[record.CustodianKey]bool{}
	for i, x := range c.Custodians {
		key := fmt.Sprintf("custodians[%d]", i)
		need(x.Key.Valid(), key+".key", "1 to 12 of a-z and 0-9")
		need(!keys[x.Key], key+".key", "this key is taken by an earlier custodian")
		keys[x.Key] = true
		need(x.ODS.Valid(), key+".ods", "an ODS code is 3 to 10 upper-case letters and digits")
		need(x.Name != "" && len(x.Name) <= 200, key+".name", "give its name, at most 200 bytes")
		need(x.Kind.Valid(), key+".kind", fmt.Sprint("one of ", record.CustodianKinds))
		need(x.Contact != "" && len(x.Contact) <= 300, key+".contact", "say who to ring or ask for a copy, at most 300 bytes")
		need(x.Adapter != "" || len(x.Sources) > 0, key+".adapter", "name the adapter: fhirr4")
		need(len(x.Sources) == 0 || x.Adapter == "" && (x.Settings.IsZero() || x.Settings.Tag == "!!null"), key+".sources", "with sources, adapter and settings stand in each of them")
		need(len(x.Sources) == 0 || len(x.Sources) >= 2 && len(x.Sources) <= maxSources, key+".sources", "2 to 8; one alone is adapter and settings")
		names := map[string]bool{}
		for k, s := range x.Sources {
			at := fmt.Sprintf("%s.sources[%d]", key, k)
			need(s.Name != "" && len(s.Name) <= 60 && !strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' || r >= 0x7f }), at+".name", "say what it is, in at most 60 plain characters: people are told what is missing by it")
			need(!names[s.Name], at+".name", "this name is taken by an earlier source of this custodian")
			need(s.Adapter != "", at+".adapter", "name the adapter: fhirr4")
			names[s.Name] = true
		}
		if at := x.Locator; at != nil {
			need(slices.Contains(adapters.IndexKinds(), at.Adapter), key+".locator.adapter", "one of "+strings.Join(adapters.IndexKinds(), ", "))
			need(at.FreshFor > 0 && time.Duration(at.FreshFor) <= broker.MaxFreshFor, key+".locator.freshFor", "say how long ago the custodian may have brought it up to date, at most 72h")
			need(at.Timeout <= x.Timeout/4, key+".locator.timeout", "at most a quarter of the custodian's: it is time that the custodian has not")
		}
		need(x.Timeout+c.Limits.Reserve <= c.Limits.NeutralWait, key+".timeout", "with limits.reserve it must not be longer than limits.neutralWait: nobody is waited for beyond the time at which neutral answers leave")
		for _, s := range x.ExcludedSections {
			_, ok := record.ParseSection(s)
			need(ok, key+".excludedSections", "one of "+record.SectionCodes())
		}
		for _, s := range x.ExcludedCodes {
			system, code, ok := strings.Cut(s, "|")
			need(ok && system != "" && code != "", key+".excludedCodes", "give system|code")
		}
	}
	if c.Alerts.Webhook != "" {
		u, err := url.Parse(c.Alerts.Webhook)
		ok := err == nil && u.Host != "" && u.User == nil && u.Fragment == "" && (u.Scheme == "https" || u.Scheme == "http")
		need(ok, "alerts.webhook", "give an absolute https address without a user or a fragment")
		need(!ok || u.Scheme == "https" || c.Alerts.AllowPlainHTTP && loopback(u.Hostname()), "alerts.webhook", "use https; plain http only on loopback with allowPlainHTTP: true")
	}
	need(c.Alerts.Webhook != "" || c.Alerts.TokenFile == "" && c.Alerts.CA == "", "alerts.webhook", "name the webhook that tokenFile and ca are for")
	need(time.Duration(c.Alerts.Pause) >= alertPoll, "alerts.pause", "at least 1s")
	if m := c.Alerts.Mail; m.Server != "" {
		host, _, err := net.SplitHostPort(m.Server)
		need(err == nil && host != "", "alerts.mail.server", "give host:port")
		need(m.TLS == mailStartTLS || m.TLS == mailTLS || m.TLS == mailPlain && loopback(host), "alerts.mail.tls", "starttls or tls; none only on loopback")
		need((m.User == "") == (m.PasswordFile == ""), "alerts.mail.user", "give user and passwordFile, or neither")
		need(m.User == "" || m.TLS != mailPlain, "alerts.mail.user", "a password does not travel in clear")
		need(mailAddress(m.From), "alerts.mail.from", "give one address, without a name")
		_, err = time.Parse("15:04", m.At)
		need(err == nil, "alerts.mail.at", "give a time of day such as 07:00")
		need(len(m.To) > 0, "alerts.mail.to", "list who is mailed")
		for i, to := range m.To {
			key := fmt.Sprintf("alerts.mail.to[%d]", i)
			need(to.Organisation.Valid(), key+".organisation", "an ODS code is 3 to 10 upper-case letters and digits")
			need(mailAddress(to.Address), key+".address", "give one address, without a name")
		}
	} else {
		need(m.TLS == "" && m.CA == "" && m.User == "" && m.PasswordFile == "" && m.From == "" && m.At == "" && len(m.To) == 0, "alerts.mail.server", "name the mail server, or leave mail out")
	}
	l := c.Limits
	need(time.Duration(l.Override) <= audit.MaxOverride, "limits.override", "not more than 60m")
	need(l.Reserve < l.Request, "limits.reserve", "must be less than limits.request")
	need(l.Minimum < l.Request, "limits.minimum", "must be less than limits.request")
	need(l.NeutralWait <= l.Request, "limits.neutralWait", "must not be more than limits.request")
	need(l.NeutralWait >= l.Custodian+l.Reserve, "limits.neutralWait", "must be at least limits.custodian + limits.reserve, or the six neutral classes could be told apart by time")
	need(l.NeutralWait >= l.Minimum+l.Reserve, "limits.minimum", "with limits.reserve it must not be longer than limits.neutralWait: no request would have the time")
	need(l.CustodianBytes <= l.RequestBytes, "limits.custodianBytes", "must not be more than limits.requestBytes")
	need(l.RequestBytes <= l.MaxInFlightBytes/4, "limits.requestBytes", "must not be more than a quarter of limits.maxInFlightBytes")
	need(l.Resources > 0 && l.Pages > 0 && l.PerUserBurst > 0 && l.PerUser > 0 && l.BreakerFailures > 0, "limits", "counts must be greater than nothing")
	need(slices.Contains([]string{"debug", "info", "warn", "error"}, c.Telemetry.LogLevel), "telemetry.logLevel", "one of debug, info, warn, error")
	if c.Telemetry.OTLP != "" {
		host, _, err := net.SplitHostPort(c.Telemetry.OTLP)
		need(err == nil, "telemetry.otlp", "give host:port")
		need(!c.Telemetry.OTLPInsecure || loopback(host), "telemetry.otlpInsecure", "plain text only to a loopback address")
	}
	return list
}

// Hash names the configuration for people: SHA-256 of its canonical text. Secrets are files, so none is in it.
func (c Config) Hash() string {
	sum := sha256.Sum256(c.text())
	return hex.EncodeToString(sum[:])
}

func (c Config) text() []byte {
	c.Ledger.Postgres.Replica = "" // which replica it is decides nothing about anybody's record
	text, err := yaml.Marshal(c)
	if err != nil {
		panic("a configuration that was read can be written")
	}
	return text
}

// hash names the configuration in force, for the ledger: that of Hash, the exclusion list, the rules of the worklist, the section rules, which decide what an objection to a
// section withholds, and the engines' public keys, which decide who may name an acting person. So every entry says by which custodians' rules it was decided.
func (c Config) hash(sections *merge.SectionRules) (string, error) {
	h := sha256.New()
	h.Write(c.text())
	list, err := exclusions(c)
	if err != nil {
		return "", err
	}
	h.Write([]byte(list.Version))
	h.Write([]byte(sections.Version()))
	rules, err := worklistRules(c)
	if err != nil {
		return "", err
	}
	h.Write([]byte(rules.Version()))
	for i, x := range c.Clients {
		keys, err := readCapped(x.JWKSFile)
		if err != nil {
			return "", fmt.Errorf("clients[%d].jwksFile: cannot be read", i)
		}
		sum := sha256.Sum256(keys)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// readCapped reads a file of at most 1 MiB.
func readCapped(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err == nil && len(b) > maxConfigBytes {
		err = errors.New("too large")
	}
	return b, err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func absoluteURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.HasSuffix(s, "/")
}
