package neighbourhood_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// pretend is set in processes that stand in for the demo: this test binary, started again.
const pretend = "MCR_TEST_PRETEND"

func TestMain(m *testing.M) {
	if how := os.Getenv(pretend); how != "" {
		os.Exit(pretendDemo(how))
	}
	os.Exit(neighbourhood.Main(m))
}

// pretendDemo behaves to its starter as the demo does: flags, ready file, SIGTERM.
func pretendDemo(how string) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	for _, f := range []string{"rest", "grpc", "ops", "issuer", "sources", "state"} {
		flags.String(f, "", "")
	}
	ready := flags.String("ready-file", "", "")
	if flags.Parse(os.Args[1:]) != nil {
		return 2
	}
	fmt.Fprintln(os.Stderr, "asked about 999 000 0018 and 9990000018")
	if how == "ends" {
		return 3
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if how != "never-ready" {
		whole := `{"rest":"http://127.0.0.1:1","grpc":"127.0.0.1:1","ops":"http://127.0.0.1:1","issuer":"` + os.Getenv("ISSUER") + `",` +
			`"sources":{"gp":"http://127.0.0.1:1"},"patients":[{"nhsNumber":"9990000018","name":"x","note":"","bundle":""}]}`
		for _, text := range []string{whole[:20], whole} { // the reader may come in the middle
			if os.WriteFile(*ready, []byte(text), 0o600) != nil {
				return 2
			}
			time.Sleep(30 * time.Millisecond)
		}
	}
	<-stop
	if how == "ends-badly" {
		return 4
	}
	return 0
}

func start(t testing.TB, how string, env ...string) *neighbourhood.Neighbourhood {
	self, err := os.Executable()
	if err != nil {
		t.Fatal("this test binary has no path")
	}
	return neighbourhood.Start(t, neighbourhood.Options{Program: self, Env: append([]string{"ISSUER=http://127.0.0.1:1", pretend + "=" + how, "GORACE=atexit_sleep_ms=0"}, env...), ReadyWithin: 2 * time.Second})
}

func TestStartAndStop(t *testing.T) {
	n := start(t, "well")
	if n.GRPC != "127.0.0.1:1" || len(n.People) != 1 || n.PID() == os.Getpid() || n.Ready <= 0 {
		t.Error("the ready file was not taken over")
	}
	if got := fmt.Sprintf("%v %+v %s %#v", n.People, n.People[0], n.People[0], n.People[0]); strings.Contains(got, "999") {
		t.Error("a person prints")
	}
	if got := n.Tail(); strings.Contains(got, "999") || !strings.Contains(got, "asked about ##########") {
		t.Error("what may be an NHS number is not struck out of failures")
	}
	if _, stderr := n.Output(); !strings.Contains(string(stderr), "9990000018") {
		t.Error("the whole output is not kept for those who search it")
	}
	n.Stop(t)
	if !n.Ended() {
		t.Error("it runs on")
	}
}

func TestKill(t *testing.T) {
	n := start(t, "well")
	n.Kill(t)
	if !n.Ended() {
		t.Error("it runs on")
	}
}

// TestFailures shows that what goes wrong fails the test, in time, and says what it was.
func TestFailures(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "secret") // it is the test that reads it
	}))
	defer refusing.Close()
	for name, c := range map[string]struct {
		how  string
		then func(t testing.TB, n *neighbourhood.Neighbourhood)
		want string
	}{
		"never ready":   {"never-ready", nil, "not ready: no whole ready file in time"},
		"ends at once":  {"ends", nil, "not ready: it ended"},
		"ends badly":    {"ends-badly", func(t testing.TB, n *neighbourhood.Neighbourhood) { n.Stop(t) }, "ended with code 4"},
		"nobody there":  {"well", func(t testing.TB, n *neighbourhood.Neighbourhood) { n.Metrics(t) }, "no whole answer"},
		"no token":      {"well", func(t testing.TB, n *neighbourhood.Neighbourhood) { n.Token(t, "gp") }, "gives gp no token: status 418"},
		"unknown place": {"well", func(t testing.TB, n *neighbourhood.Neighbourhood) { n.Fault(t, "acute", "down", 0, 0) }, "no custodian acute"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				n := start(r, c.how, "ISSUER="+refusing.URL)
				c.then(r, n)
			}()
			<-done
			if !strings.Contains(r.said, c.want) || strings.Contains(r.said, "999") || strings.Contains(r.said, "secret") {
				t.Errorf("it does not fail as it should; want %q in what it says", c.want)
			}
		})
	}
}

// recorder takes the failure of a test that is expected to fail.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
