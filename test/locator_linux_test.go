package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// TestLocator gives the second custodian of the built broker a locator. It is asked about everybody until the policy table says otherwise; then it goes unasked
// about a person whom the locator, fresh, does not list, and in no other case; and the answer, the metrics and the ledger say so.
func TestLocator(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the broker")
	}
	t.Parallel()
	s := newSite(t)
	acute, ods := s.custodians["acute"], cohort.Custodians()[1].ODS
	if cohort.Custodians()[1].Key != "acute" {
		t.Fatal("the second custodian is another")
	}
	const marker = "9990000069"
	listing := func(ago time.Duration, listed bool) *simulator.Locator {
		pointer := simulator.Pointer{ID: ods + "-1", Custodian: ods, URL: "https://elsewhere.invalid/1", ContentType: "text/plain", Date: "2024-01-01T00:00:00Z"}
		people := map[string][]simulator.Pointer{}
		if listed {
			people[cohort.Margaret] = []simulator.Pointer{pointer}
		}
		pointer.Changed = time.Now().Add(-ago).UTC().Format(time.RFC3339)
		people[marker] = []simulator.Pointer{pointer}
		return simulator.NewLocator(simulator.LocatorConfig{People: people})
	}
	var now atomic.Pointer[simulator.Locator]
	server, err := simulator.Listen("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) }))
	if err != nil {
		t.Fatal("the locator does not listen")
	}
	t.Cleanup(server.Close)
	s.write(t, "nrl.token", "token")
	s.replaceInConfig(t, "{key: acute, ", fmt.Sprintf("{key: acute, locator: {adapter: documents, freshFor: 24h, settings: {baseURL: %q, allowPlainHTTP: true, bearerFile: nrl.token, custodians: [%s], markerNumber: %q, markerTypes: [%q]}}, ",
		server.URL()+"/record-locator/consumer/FHIR/R4", ods, marker, "736253002"))

	ask := func(name string, l *simulator.Locator, asksLocator, unasked bool) {
		t.Helper()
		now.Store(l)
		before := acute.Requests().Record
		code, text := ask(t.Context(), "http://"+s.rest, tokenOf(t.Context(), s.issuer, "ed-doctor"), cohort.Margaret)
		shown := counted(t, text, s)
		if code != http.StatusOK || shown["gp"] == 0 || (shown["acute"] == 0) != unasked || (acute.Requests().Record == before) != unasked || (l.Requests().Record > 0) != asksLocator {
			t.Errorf("%s: %d; %d entries of the custodian, %d requests to it, %d to its locator", name, code, shown["acute"], acute.Requests().Record-before, l.Requests().Record)
		}
		if said := strings.Contains(string(text), "was not asked: nothing says that it knows this person.") && strings.Contains(string(text), `"code":"not-asked"`) && strings.Contains(string(text), "reason locator"); said != unasked {
			t.Errorf("%s: that it was not asked is said: %t", name, said)
		}
		if got := l.Requests().Other; got > 0 {
			t.Errorf("%s: %d requests of the locator that are no searches", name, got)
		}
		for _, line := range l.Log() {
			if strings.Contains(line, cohort.Margaret) {
				t.Errorf("%s: the number was in an address", name)
			}
		}
	}
	p := s.startReady(t)
	ask("no line in the policy table", listing(time.Hour, false), false, false)
	p.signal(t, syscall.SIGTERM)
	if code, _ := p.end(t, 10*time.Second); code != 0 {
		t.Fatalf("ended with %d\n%s", code, p.tail())
	}

	table, err := os.ReadFile(filepath.Join("..", "broker", "policy", "policy.txt"))
	if err != nil {
		t.Fatal("no policy table")
	}
	s.write(t, "policy.txt", string(table)+"\nunasked acute\n")
	s.replaceInConfig(t, "exclusions: none", "exclusions: none\npolicyFile: policy.txt")
	p = s.startReady(t)
	ask("fresh, and lists nothing", listing(time.Hour, false), true, true)
	ask("fresh, and lists the person", listing(time.Hour, true), true, false)
	ask("stale", listing(25*time.Hour, false), true, false)
	for _, fault := range []simulator.Fault{simulator.FaultDown, simulator.FaultHang, simulator.FaultError500, simulator.FaultGarbage, simulator.FaultNoRecord} {
		l := listing(time.Hour, false)
		if err := l.SetFault(simulator.FaultSpec{Fault: fault}); err != nil {
			t.Fatal("no fault")
		}
		ask(string(fault), l, true, false)
	}
	_, text := send(t.Context(), http.MethodGet, "http://"+s.ops+"/metrics", nil, "")
	for outcome, n := range map[string]int{"unlisted": 1, "listed": 1, "stale": 2, "trouble": 4} {
		found := false
		for line := range strings.Lines(string(text)) {
			found = found || strings.HasPrefix(line, "mcr_locator_answers") && strings.Contains(line, `outcome="`+outcome+`"`) && strings.HasSuffix(strings.TrimSpace(line), fmt.Sprint(" ", n))
		}
		if !found {
			t.Errorf("the metrics do not count %d %s", n, outcome)
		}
	}
	p.signal(t, syscall.SIGTERM)
	if code, _ := p.end(t, 10*time.Second); code != 0 {
		t.Fatalf("ended with %d\n%s", code, p.tail())
	}
	export := launch(t, s.dir, nil, s.program, "ledger", "export", "-config", "broker.yaml", "-out", "export.jsonl", "-clear", "-by", "tester", "-reason", "a test")
	if code, _ := export.end(t, 20*time.Second); code != 0 {
		t.Fatalf("the export ends with %d\n%s", code, export.tail())
	}
	entries, err := os.ReadFile(filepath.Join(s.dir, "export.jsonl")) //nolint:gosec // our own
	if err != nil {
		t.Fatal("no export")
	}
	said := 0
	for line := range strings.Lines(string(entries)) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) != nil {
			t.Fatal("a line of the export is no JSON")
		}
		for _, v := range entry {
			sealed, _ := v.(string)
			if text, err := base64.StdEncoding.DecodeString(sealed); err == nil && strings.Contains(string(text), `"state":"not-asked","reason":"locator"`) {
				said++
			}
		}
	}
	if said != 1 {
		t.Errorf("%d entries of the ledger say that a custodian was not asked for its locator's word, want 1", said)
	}
}
