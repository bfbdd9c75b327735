package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/test/simulator"
)

const testPerson = "9990000034"

// checked is the example configuration with the acute trust, and one of two sources of the mental health trust, simulated.
func checked(t *testing.T) (config string, c *simulator.Custodian) {
	t.Helper()
	text, err := os.ReadFile("broker.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	person := []json.RawMessage{
		json.RawMessage(`{"resourceType":"Patient","id":"p1","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + testPerson + `"}],"name":[{"family":"Marker"}],"birthDate":"1950-01-02"}`),
		json.RawMessage(`{"resourceType":"Condition","id":"c1","code":{"text":"Marker"},"subject":{"reference":"Patient/p1"},"recordedDate":"2024-01-02"}`),
		json.RawMessage(`{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"Marker"},"subject":{"reference":"Patient/p1"},"effectiveDateTime":"2024-01-02"}`),
	}
	c, err = simulator.NewCustodian(simulator.CustodianConfig{Name: "Marker", Everything: true, People: map[string][]json.RawMessage{testPerson: person}})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(c)
	t.Cleanup(h.Close)
	out := string(text)
	for _, base := range []string{"baseURL: https://acute.example/fhir", "baseURL: https://crisis.mh.example/fhir"} {
		if !strings.Contains(out, base) {
			t.Fatalf("the example has no %s", base)
		}
		by := "baseURL: " + h.URL + "/fhir, allowPlainHTTP: true"
		if strings.Contains(base, "acute") {
			by = strings.ReplaceAll(by, ", ", "\n      ")
		}
		out = strings.Replace(out, base, by, 1)
	}
	config = filepath.Join(t.TempDir(), "broker.yaml")
	if err := os.WriteFile(config, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	return config, c
}

// The report names every rule, what was seen and what to do, and nothing of anybody.
func TestSourceCheck(t *testing.T) {
	config, c := checked(t)
	for _, x := range []struct {
		name  string
		fault simulator.Fault
		args  []string
		code  int
		says  []string
	}{
		{"a good one", simulator.FaultNone, []string{"-custodian", "X9B01", "-nhs-number", testPerson}, 0,
			[]string{"(X9B01, acute)", "pass     the record is returned: 3 resources of 3 types", "pass     the broker can show it: 3 of 3", " 0 failed"}},
		{"by key, without a person", simulator.FaultNone, []string{"-custodian", "acute"}, 0,
			[]string{"pass     somebody unknown is no record", "skipped  the record is returned: it needs a test person", " 0 failed"}},
		{"down", simulator.FaultDown, []string{"-custodian", "acute", "-nhs-number", testPerson}, 1, []string{"FAIL     it can be reached", "Check the address", "skipped  the caps are kept"}},
		{"refusing us", simulator.FaultUnauthorised, []string{"-custodian", "acute"}, 1, []string{"refuses our credentials", "client id, key and scope"}},
		{"garbage", simulator.FaultGarbage, []string{"-custodian", "acute"}, 1, []string{"web page in front of it"}},
		{"about somebody else", simulator.FaultWrongPatient, []string{"-custodian", "acute", "-nhs-number", testPerson}, 1, []string{"Do not connect it"}},
		{"others among it", simulator.FaultMixedPatients, []string{"-custodian", "acute", "-nhs-number", testPerson}, 1,
			[]string{"FAIL     nothing in it is about other people", "name somebody else", "information governance lead"}},
		{"withholding", simulator.FaultNoConsent, []string{"-custodian", "acute", "-nhs-number", testPerson}, 1, []string{"Choose a test person whose record may be shared"}},
		{"one source of two", simulator.FaultNone, []string{"-custodian", "mentalhealth", "-source", "Crisis line", "-nhs-number", testPerson}, 0, []string{"Crisis line, by adapter fhirr4", " 0 failed"}},
		{"no such custodian", simulator.FaultNone, []string{"-custodian", "nobody"}, 2, []string{"key or the ODS code"}},
		{"no such source", simulator.FaultNone, []string{"-custodian", "acute", "-source", "x"}, 2, []string{"name of one of the custodian's sources"}},
		{"a number that is in use", simulator.FaultNone, []string{"-custodian", "acute", "-nhs-number", "4000000004"}, 2, []string{"test range only"}},
		{"no number", simulator.FaultNone, []string{"-custodian", "acute", "-nhs-number", "9990000035"}, 2, []string{"-nhs-number: "}},
		{"two numbers", simulator.FaultNone, []string{"-custodian", "acute", "-nhs-number", testPerson, "-nhs-number-file", "x"}, 2, []string{"not both"}},
		{"another form", simulator.FaultNone, []string{"-custodian", "acute", "-o", "xml"}, 2, []string{"text or json"}},
	} {
		if err := c.SetFault(simulator.FaultSpec{Fault: x.fault}); err != nil {
			t.Fatal(err)
		}
		code, out := invoke(t, append([]string{"source", "check", "-config", config}, x.args...)...)
		if code != x.code {
			t.Errorf("%s: exit %d, want %d: %s", x.name, code, x.code, out)
		}
		for _, want := range x.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: nothing says %q in %s", x.name, want, out)
			}
		}
		for _, not := range []string{"Marker", testPerson, "127.0.0.1", "Strangeways", "9990000035"} {
			if strings.Contains(out, not) {
				t.Errorf("%s: the report holds what it must not", x.name)
			}
		}
	}
}

// As JSON it is for programs: rules with outcome, evidence and advice, and the exit code says the rest.
func TestSourceCheckJSON(t *testing.T) {
	config, c := checked(t)
	for _, fault := range []simulator.Fault{simulator.FaultNone, simulator.FaultPageElsewhere} {
		if err := c.SetFault(simulator.FaultSpec{Fault: fault}); err != nil {
			t.Fatal(err)
		}
		code, out := invoke(t, "source", "check", "-config", config, "-custodian", "acute", "-nhs-number", testPerson, "-o", "json")
		var reports []struct {
			Custodian, ODS, Adapter        string
			Person                         bool
			Passed, Failed, Notes, Skipped int
			Rules                          []struct{ Rule, Outcome, Evidence, Advice string }
		}
		end := strings.LastIndexByte(out, ']') + 1
		if err := json.Unmarshal([]byte(out[:end]), &reports); err != nil || len(reports) != 1 {
			t.Fatalf("%v: %s", err, out)
		}
		r := reports[0]
		if r.Custodian != "acute" || r.ODS != "X9B01" || !r.Person || r.Passed+r.Failed+r.Notes+r.Skipped != len(r.Rules) || len(r.Rules) < 17 {
			t.Errorf("got %+v", r)
		}
		if (code == 0) != (r.Failed == 0) || (fault == simulator.FaultNone) != (code == 0) {
			t.Errorf("%s: exit %d with %d failed", fault, code, r.Failed)
		}
		for _, rule := range r.Rules {
			if rule.Outcome == "fail" && rule.Advice == "" {
				t.Errorf("no advice about %q", rule.Rule)
			}
		}
	}
}

// located is the configuration of checked, with a locator of the acute trust's that was brought up to date so long ago, and a policy table that believes it.
func located(t *testing.T, ago time.Duration, listed bool) (config string, l *simulator.Locator) {
	t.Helper()
	config, _ = checked(t)
	pointer := simulator.Pointer{ID: "X9B01-1", Custodian: "X9B01", URL: "https://elsewhere.invalid/1", ContentType: "text/plain", Date: "2024-01-01T00:00:00Z", Title: "Marker"}
	people := map[string][]simulator.Pointer{}
	if listed {
		people[testPerson] = []simulator.Pointer{pointer}
	}
	pointer.Changed = time.Now().Add(-ago).UTC().Format(time.RFC3339)
	people["9990000069"] = []simulator.Pointer{pointer}
	l = simulator.NewLocator(simulator.LocatorConfig{People: people})
	h := httptest.NewServer(l)
	t.Cleanup(h.Close)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	const at = "    tellCounts: false         # may say how many"
	if strings.Count(string(text), at) != 1 {
		t.Fatal("the example has no such line")
	}
	dir := filepath.Dir(config)
	out := strings.Replace(string(text), at, "    locator:\n      adapter: documents\n      freshFor: 24h\n      settings: {baseURL: \""+h.URL+"/record-locator/consumer/FHIR/R4\", allowPlainHTTP: true, bearerFile: nrl.token, custodians: [X9B01], markerNumber: \"9990000069\", markerTypes: [\"736253002\"]}\n"+at, 1)
	for name, text := range map[string]string{"broker.yaml": out + "\npolicyFile: policy.txt\n", "policy.txt": "role R8000 doctor\nsee R8000 TREAT all\nunasked acute\n", "nrl.token": "token"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config, l
}

// A locator is checked beside its custodian: above all whether it lists a person whom the custodian holds.
func TestSourceCheckOfALocator(t *testing.T) {
	for _, x := range []struct {
		name   string
		ago    time.Duration
		listed bool
		fault  simulator.Fault
		args   []string
		code   int
		says   []string
	}{
		{"a good one", time.Hour, true, simulator.FaultNone, []string{"-nhs-number", testPerson}, 0,
			[]string{"Locator, by adapter documents", "pass     it lists a person whom its custodian holds", "pass     its custodian has brought it up to date lately enough: 1h0m", "of 24h0m0s", "the record is returned: 3 resources"}},
		{"without a person", time.Hour, true, simulator.FaultNone, []string{"-source", "Locator"}, 0, []string{"skipped  it lists a person whom its custodian holds: it needs a test person"}},
		{"one that does not list a person who is held", time.Hour, false, simulator.FaultNone, []string{"-source", "Locator", "-nhs-number", testPerson}, 1,
			[]string{"FAIL     it lists a person whom its custodian holds", "would be left out of answers"}},
		{"a stale one", 25 * time.Hour, true, simulator.FaultNone, []string{"-source", "Locator", "-nhs-number", testPerson}, 1,
			[]string{"FAIL     its custodian has brought it up to date lately enough: 25h0m", "would be asked about everybody"}},
		{"one that is down", time.Hour, true, simulator.FaultDown, []string{"-source", "Locator", "-nhs-number", testPerson}, 1, []string{"FAIL     it can be reached and gives a clear answer", "Check the address"}},
		{"one that refuses us", time.Hour, true, simulator.FaultUnauthorised, []string{"-source", "Locator"}, 1, []string{"has registered them for this address"}},
	} {
		config, l := located(t, x.ago, x.listed)
		if err := l.SetFault(simulator.FaultSpec{Fault: x.fault}); err != nil {
			t.Fatal(err)
		}
		code, out := invoke(t, append([]string{"source", "check", "-config", config, "-custodian", "acute"}, x.args...)...)
		if code != x.code {
			t.Errorf("%s: exit %d, want %d: %s", x.name, code, x.code, out)
		}
		for _, want := range x.says {
			if !strings.Contains(out, want) {
				t.Errorf("%s: nothing says %q in %s", x.name, want, out)
			}
		}
		for _, not := range []string{"Marker", testPerson, "127.0.0.1", "9990000069"} {
			if strings.Contains(out, not) {
				t.Errorf("%s: the report holds what it must not", x.name)
			}
		}
	}
}

// `check` looks at a locator's settings and at who may go unasked; `policy explain` says who does.
func TestLocatorIsConfigured(t *testing.T) {
	config, _ := located(t, time.Hour, true)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ was, is, says string }{
		{"", "", "is not asked about a person of whom its locator lists nothing, as long as that is at most 24h0m0s behind"},
		{"\npolicyFile: policy.txt", "", "acute (X9B01, acute)\n  contact: Health records, 01632 960002\n  has a locator, and is asked about everybody"},
		{"freshFor: 24h", "freshFor: 73h", "custodians[1].locator.freshFor: say how long ago"},
		{"freshFor: 24h", "", "custodians[1].locator.freshFor: say how long ago"},
		{"freshFor: 24h", "freshFor: 24h\n      timeout: 751ms", "custodians[1].locator.timeout: at most a quarter"},
		{"      adapter: documents\n", "      adapter: fhirr4\n", "custodians[1].locator.adapter: one of documents"},
		{"markerNumber", "markernumber", "markernumber: there is no such setting here"},
		{"9990000069", "4000000004", "markerNumber: the number of a test person"},
		{"key: acute", "key: other", "policyFile: unasked acute: no custodian of this key has a locator"},
	} {
		if !strings.Contains(string(text), x.was) {
			t.Fatalf("the configuration has no %q", x.was)
		}
		changed := filepath.Join(filepath.Dir(config), "changed.yaml")
		if err := os.WriteFile(changed, []byte(strings.Replace(string(text), x.was, x.is, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, checks := invoke(t, "check", "-config", changed)
		_, explains := invoke(t, "policy", "explain", "-config", changed)
		if !strings.Contains(checks+explains, x.says) {
			t.Errorf("%q for %q: nothing says %q in %s%s", x.is, x.was, x.says, checks, explains)
		}
	}
}
