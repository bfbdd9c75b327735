package neighbourhood

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// ReplicaOptions say how to start a broker of its own beside a neighbourhood.
type ReplicaOptions struct {
	Program string         // the built broker; "" builds it
	Folder  string         // for its configuration; "" is a fresh temporary one
	Ledger  map[string]any // the setting `ledger`, with whole paths
	More    map[string]any // further settings at the top level, such as "redis"
	Only    []string       // the custodians that it knows; nil: all
	Env     []string       // further environment, NAME=value
}

// Replica is a running cmd/broker that asks the custodians, the demographics service and the issuer of a neighbourhood, on addresses that stay the same
// when it is started again. Its methods may be called concurrently, except Stop, Kill and Again.
type Replica struct {
	REST  string        // origin of the FHIR gateway, http://host:port
	GRPC  string        // host:port
	Ops   string        // origin of the operations listener
	Ready time.Duration // from the start of the process to its being ready

	config, program string
	*process
}

// readyTime is how long a broker may take to start.
const readyTime = 30 * time.Second

// Replica starts a broker beside the neighbourhood, with the demo's own configuration but for where it listens and how it keeps its ledger.
func (n *Neighbourhood) Replica(t testing.TB, o ReplicaOptions) *Replica {
	t.Helper()
	if o.Program == "" {
		o.Program = Program(t, "broker")
	}
	if o.Folder == "" {
		o.Folder = t.TempDir()
	}
	text, err := os.ReadFile(filepath.Join(n.State, "broker.yaml"))
	var settings map[string]any
	if err != nil || yaml.Unmarshal(text, &settings) != nil {
		t.Fatal("the demo's configuration cannot be read")
	}
	listen := map[string]any{}
	for _, face := range []string{"rest", "grpc", "operations"} {
		listen[face] = freeAddress(t)
	}
	settings["listen"], settings["ledger"], settings["publicBase"] = listen, o.Ledger, "http://"+listen["rest"].(string)+"/fhir"
	clients, _ := settings["clients"].([]any) // none is as good
	for _, x := range clients {
		if client, is := x.(map[string]any); is {
			client["jwksFile"] = filepath.Join(n.State, fmt.Sprint(client["jwksFile"]))
		}
	}
	if custodians, is := settings["custodians"].([]any); is && o.Only != nil {
		settings["custodians"] = slices.DeleteFunc(custodians, func(x any) bool {
			c, _ := x.(map[string]any) // what is none is not among those wanted
			return !slices.Contains(o.Only, fmt.Sprint(c["key"]))
		})
	}
	for key, value := range o.More {
		settings[key] = value
	}
	if text, err = yaml.Marshal(settings); err != nil {
		t.Fatal("a configuration cannot be written as YAML")
	}
	r := &Replica{REST: "http://" + listen["rest"].(string), GRPC: listen["grpc"].(string), Ops: "http://" + listen["operations"].(string), program: o.Program}
	own, err := os.MkdirTemp(o.Folder, "replica-")
	if err != nil {
		t.Fatal("no folder for a configuration")
	}
	r.config = filepath.Join(own, "broker.yaml")
	if err := os.WriteFile(r.config, text, 0o600); err != nil {
		t.Fatal("a configuration cannot be written")
	}
	r.Again(t, o.Env...)
	return r
}

// Config is the path of the broker's configuration.
func (r *Replica) Config() string { return r.config }

// Again starts the broker once more, after a stop or a kill: the same program with the same configuration, where it listened before.
func (r *Replica) Again(t testing.TB, env ...string) {
	t.Helper()
	if err := r.TryAgain(t, env...); err != nil {
		t.Fatalf("the broker is not ready: %v\n%s", err, r.Tail())
	}
}

// TryAgain is Again for a broker that may not come up.
func (r *Replica) TryAgain(t testing.TB, env ...string) error {
	t.Helper()
	p := &process{}
	r.process = p
	started := p.run(t, "broker", r.program, env, "-config", r.config)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		res, err := client.Get(r.Ops + "/readyz")
		if err == nil {
			_ = res.Body.Close() // its status is all that is wanted
			if res.StatusCode == http.StatusOK {
				tick.Stop()
				r.Ready = time.Since(started)
				return nil
			}
		}
		select {
		case <-p.ended:
			return errors.New("it ended")
		case <-tick.C:
		}
		if time.Since(started) > readyTime {
			return errors.New("not in time")
		}
	}
}

// Died returns a channel that is closed when the process has ended.
func (r *Replica) Died() <-chan struct{} { return r.ended }

var hosts atomic.Uint32

// freeAddress returns host:port where nobody listens. On Linux the host is one of this machine's own that no outgoing connection is given, so that nobody takes
// the port while a broker is being started again.
func freeAddress(t testing.TB) string {
	t.Helper()
	host := "127.0.0.1"
	if runtime.GOOS == "linux" {
		pid, n := os.Getpid(), hosts.Add(1)
		host = fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&63, pid&255, 1+n%250)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // on this machine
	if err != nil {
		t.Fatal("no free address")
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal("no free address")
	}
	return address
}

// Keys makes the key files of a new deployment in a new folder below another, with the command that is shipped for it, and returns the folder. program is the
// built broker.
func Keys(t testing.TB, program, below string) string {
	t.Helper()
	dir := filepath.Join(below, "keys")
	p := &process{}
	p.run(t, "broker", program, nil, "keys", "-dir", dir)
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		t.Fatal("the keys are not made in time")
	}
	if p.err != nil {
		t.Fatalf("no keys are made\n%s", p.Tail())
	}
	return dir
}
