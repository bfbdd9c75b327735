package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Names of the candidates.
const (
	floor    = "floor"
	floor2   = "floor2" // the floor with the calls that the broker makes: find the person, then read
	ours     = "broker"
	unsynced = "unsynced" // the broker with its ledger in memory, so that what a sync of this machine's disk takes is seen apart
	easy     = "easy"
	lura     = "lura"
)

// bench is one run: the surroundings, the built programs, and what both sides know.
type bench struct {
	dir    string // temporary: programs, keys, ledgers, logs
	shm    string // the same in memory: what unsynced keeps
	around *surroundings
	tokens []string
	client *http.Client
	next   atomic.Uint64

	inFlight string // the broker's limits.maxInFlightBytes; "": its default
}

// candidate is one running server.
type candidate struct {
	name    string
	b       *bench
	cmd     *exec.Cmd
	ended   chan struct{}
	rest    string // origin
	metrics string // address of /metrics
	length  int64  // of an answer that was checked
	log     string // file
}

// product reports whether the candidate is the broker.
func (c *candidate) product() bool { return c.name == ours || c.name == unsynced }

// inMemory is where files are that no disk holds.
const inMemory = "/dev/shm"

// slow reports whether the candidate decodes everything, and so takes hundreds of milliseconds over a large record.
func (c *candidate) slow() bool { return c.name == easy || c.name == lura }

// build compiles a command of a module into the temporary folder.
func (b *bench) build(ctx context.Context, module, pkg, name string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.dir, name), pkg) //nolint:gosec // our own commands
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// start starts a candidate and waits until it answers. procs is its GOMAXPROCS, 0 for that of the machine.
func (b *bench) start(name string, procs int) (*candidate, error) {
	c := &candidate{name: name, b: b, ended: make(chan struct{})}
	var err error
	for range 3 { // a free port may be taken by somebody else before the broker listens on it
		if c.product() {
			err = c.startBroker(procs)
		} else {
			err = c.startBaseline(procs)
		}
		if err == nil {
			return c, nil
		}
		c.stop()
		c.ended = make(chan struct{})
	}
	return nil, fmt.Errorf("%s does not start: %w", name, err)
}

func (c *candidate) run(program string, procs int, args ...string) (stdout io.ReadCloser, err error) {
	c.cmd = exec.Command(filepath.Join(c.b.dir, program), args...) //nolint:gosec // built above
	c.cmd.Env = os.Environ()
	if procs > 0 {
		c.cmd.Env = append(c.cmd.Env, "GOMAXPROCS="+strconv.Itoa(procs))
	}
	c.log = filepath.Join(c.b.dir, c.name+".log")
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own
	c.cmd.Stderr = log
	if stdout, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if _, err = c.cmd.StdinPipe(); err != nil { // closed when we end, however we end
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	ended, cmd := c.ended, c.cmd
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	return stdout, nil
}

func (c *candidate) startBaseline(procs int) error {
	program, args := "baseline", []string{"-kind", c.name, "-custodians", strings.Join(c.b.around.bases, ",")}
	switch c.name {
	case floor2:
		args = append(args, "-kind", floor, "-calls", "2")
	case lura:
		program, args = "lura", args[2:]
	}
	stdout, err := c.run(program, procs, args...)
	if err != nil {
		return err
	}
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(stdout).ReadString('\n')
		line <- strings.TrimSpace(text)
	}()
	select {
	case c.rest = <-line:
	case <-time.After(10 * time.Second):
	}
	if c.rest == "" {
		return errors.New("it does not say where it listens")
	}
	c.metrics = c.rest + "/metrics"
	return nil
}

// startBroker starts the product as it is shipped: its defaults, a fresh ledger in SQLite, consent, breakers and tokens. What differs from a
// deployment: the callers are few and ask much, so the rate limit of a user is lifted; everything is on loopback without TLS; the people are invented, and have test numbers.
func (c *candidate) startBroker(procs int) error {
	in := c.b.dir
	if c.name == unsynced {
		in = c.b.shm
	}
	state, err := os.MkdirTemp(in, "broker-")
	if err != nil {
		return err
	}
	program := filepath.Join(c.b.dir, "broker")
	if out, err := exec.Command(program, "keys", "-dir", filepath.Join(state, "keys")).CombinedOutput(); err != nil { //nolint:gosec // built above
		return fmt.Errorf("no keys: %s", out)
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	file := filepath.Join(state, "broker.yaml")
	if err := os.WriteFile(file, c.b.configuration(ports), 0o600); err != nil {
		return err
	}
	stdout, err := c.run("broker", procs, "-config", file)
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }() // it says nothing there
	c.rest, c.metrics = "http://"+ports[0], "http://"+ports[2]+"/metrics"
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-c.ended:
			text, _ := os.ReadFile(c.log)
			return fmt.Errorf("it ended: %s", text)
		default:
		}
		res, err := c.b.client.Get("http://" + ports[2] + "/readyz")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return errors.New("it is not ready in time")
}

// configuration is the broker's. Everything that is not here has its default.
func (b *bench) configuration(ports []string) []byte {
	var y bytes.Buffer
	fmt.Fprintf(&y, "listen: {rest: %q, grpc: %q, operations: %q}\npublicBase: http://%s/fhir\naudience: %s\n", ports[0], ports[1], ports[2], ports[0], audience)
	fmt.Fprintf(&y, "ledger: {path: ledger.db, keys: keys, origin: mycarerecord.example/bench}\n")
	fmt.Fprintf(&y, "demographics: {kind: pds, settings: {baseURL: %q, allowPlainHTTP: true}}\n", b.around.demographics)
	fmt.Fprintf(&y, "issuers:\n  - {url: %q, algorithms: [ES256], vouchesFor: [staff], jwks: %q, allowPlainHTTP: true}\n", issuerURL, b.around.keys)
	inFlight := ""
	if b.inFlight != "" {
		inFlight = ", maxInFlightBytes: " + b.inFlight
	}
	fmt.Fprintf(&y, "limits: {perUser: 1000000, perUserBurst: 1000000%s}\nallowTestNumbers: true\ncustodians:\n", inFlight)
	for i, c := range custodianKeys {
		fmt.Fprintf(&y, "  - {key: %s, ods: %s, name: %q, kind: %s, contact: \"reception\", adapter: fhirr4, settings: {baseURL: %q, allowPlainHTTP: true}}\n",
			c.Key, c.ODS, c.Name, c.Kind, b.around.bases[i])
	}
	return y.Bytes()
}

func freePorts(n int) (list []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.New("no free port on loopback")
		}
		defer func() { _ = l.Close() }() // it was only to find out
		list = append(list, l.Addr().String())
	}
	return list, nil
}

// stop ends the candidate.
func (c *candidate) stop() {
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	_ = c.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-c.ended:
	case <-time.After(3 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
}

// id returns a fresh request id: a UUID of letters only, so that nothing in it can be taken for an NHS number.
func (b *bench) id() string {
	id := []byte("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
	for i, n := len(id)-1, b.next.Add(1); n > 0; i-- {
		if id[i] == 'a' {
			id[i] = "abcdef"[n%6]
			n /= 6
		}
	}
	return string(id)
}

// request makes the n-th request to the candidate: a person's whole record.
func (c *candidate) request(ctx context.Context, n uint64, id string) (*http.Request, error) {
	p := people[n%uint64(len(people))]
	method, address, body := http.MethodGet, c.rest+"/record/"+p.ID, ""
	if c.product() {
		method, address = http.MethodPost, c.rest+"/fhir/Patient/$everything"
		body = `{"resourceType":"Parameters","parameter":[{"name":"identifier","valueIdentifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + p.Number + `"}}]}`
	}
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Request-ID", id)
	if c.name == floor2 {
		req.Header.Set("X-Person", p.Number)
	}
	if c.product() {
		req.Header.Set("Content-Type", "application/fhir+json")
		req.Header.Set("Authorization", "Bearer "+c.b.tokens[n%uint64(len(c.b.tokens))])
		req.Header.Set("X-Purpose-Of-Use", "TREAT")
		req.Header.Set("X-Permission-To-View", "asked-yes")
		req.Header.Set("X-Care-Relationship", "registered")
	}
	return req, nil
}

// check asks once about each person, reads the answers as a caller would, and remembers how long a whole answer is: none is measured that was
// not seen to hold what all custodians hold.
func (c *candidate) check(z size) error {
	c.length = 0
	for n := range people {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		req, err := c.request(ctx, uint64(n), c.b.id()) //nolint:gosec // a few
		if err != nil {
			return err
		}
		res, err := c.b.client.Do(req)
		if err != nil {
			return fmt.Errorf("%s does not answer", c.name)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // read to its end
		if err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %d", c.name, res.StatusCode)
		}
		got, err := c.count(text)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if want := z.Resources * len(custodianKeys); got != want {
			return fmt.Errorf("%s returns %d resources of custodians, want %d", c.name, got, want)
		}
		if c.length == 0 || int64(len(text)) < c.length {
			c.length = int64(len(text))
		}
	}
	return nil
}

// count returns how many resources of custodians an answer holds.
func (c *candidate) count(text []byte) (n int, err error) {
	type bundle struct {
		Entry []struct {
			Resource struct {
				ID string `json:"id"`
			} `json:"resource"`
		} `json:"entry"`
	}
	var list []bundle
	switch c.name {
	case floor, floor2:
		err = json.Unmarshal(text, &list)
	case lura:
		var groups map[string]bundle
		err = json.Unmarshal(text, &groups)
		for _, b := range groups {
			list = append(list, b)
		}
	default:
		list = make([]bundle, 1)
		err = json.Unmarshal(text, &list[0])
	}
	if err != nil {
		return 0, errors.New("the answer is not what was expected")
	}
	for _, b := range list {
		for _, e := range b.Entry {
			if c.product() {
				key, _, _ := strings.Cut(e.Resource.ID, "-")
				if !isKey(key) {
					continue // what the broker authors: with a list of codes that are never shared, each custodian's part says that something may be missing
				}
			}
			n++
		}
	}
	return n, nil
}

func isKey(s string) bool {
	for _, c := range custodianKeys {
		if c.Key == s {
			return true
		}
	}
	return false
}

// allocated returns how many objects and bytes the candidate has allocated so far.
func (c *candidate) allocated() (objects, size float64, err error) {
	res, err := c.b.client.Get(c.metrics)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "go_memstats_mallocs_total "); ok {
			objects, err = strconv.ParseFloat(v, 64)
		}
		if v, ok := strings.CutPrefix(lines.Text(), "go_memstats_alloc_bytes_total "); ok && err == nil {
			size, err = strconv.ParseFloat(v, 64)
		}
	}
	if err != nil || objects == 0 || size == 0 {
		return 0, 0, errors.New("/metrics does not tell")
	}
	return objects, size, nil
}
