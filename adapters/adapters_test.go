package adapters_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mycarerecord/mycarerecord/adapters"
)

// node parses settings that begin at line 3 of a file.
func node(t *testing.T, text string) *yaml.Node {
	t.Helper()
	var file struct{ Settings yaml.Node }
	if err := yaml.Unmarshal([]byte("\nsettings:\n"+text), &file); err != nil {
		t.Fatal(err)
	}
	return &file.Settings
}

func TestKindsAreMade(t *testing.T) {
	settings := node(t, "  baseURL: https://fhir.trust.example/r4\n")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	others := map[string]string{ // kinds that need more, or are reached otherwise
		"documents":  "  baseURL: https://locator.example/record-locator/consumer/FHIR/R4\n  custodians: [X9C01]\n  holderURL: https://documents.trust.example\n",
		"gpconnect":  "  baseURL: https://gp.example\n  fromASID: \"200000000001\"\n  toASID: \"200000000002\"\n  issuer: https://record.example\n",
		"hl7v2":      "  address: mllp://engine.trust.example:2575\n  allowPlainTCP: true\n  queries: [Z70]\n",
		"socialcare": "  baseURL: https://council.example/api\n  mappingFile: socialcare/testdata/westmarch.yaml\n  bearerFile: " + token + "\n",
	}
	if got := adapters.Kinds(); !slices.Equal(got, []string{"documents", "fhirr4", "gpconnect", "hl7v2", "socialcare"}) {
		t.Errorf("got kinds %v", got)
	}
	for _, k := range adapters.Kinds() {
		settings := settings
		if text := others[k]; text != "" {
			settings = node(t, text)
		}
		s, err := adapters.New(k, settings)
		if err != nil {
			t.Errorf("%s: %v", k, err)
			continue
		}
		adapters.Close(s)
	}
	if got := adapters.TracerKinds(); !slices.Equal(got, []string{"pds"}) {
		t.Errorf("got tracer kinds %v", got)
	}
	for _, k := range adapters.TracerKinds() {
		s, err := adapters.NewTracer(k, settings)
		if err != nil {
			t.Errorf("%s: %v", k, err)
		}
		adapters.Close(s)
	}
	for _, k := range adapters.IndexKinds() {
		x, err := adapters.NewIndex(k, node(t, others[k][:strings.Index(others[k], "  holderURL")]+"  markerNumber: \"9990000069\"\n  markerTypes: [\"736253002\"]\n"))
		if err != nil {
			t.Errorf("%s: %v", k, err)
		}
		adapters.Close(x)
		if x, err := adapters.NewIndex(k, node(t, others[k])); err == nil || x != nil {
			t.Errorf("%s: a locator with settings of a source: %v beside %v", k, x, err)
		}
	}
	if x, err := adapters.NewIndex("fhirr4", settings); err == nil || x != nil {
		t.Errorf("an index of a kind that has none: %v beside %v", x, err)
	}
	adapters.Close(nil)
}

func TestProblemsNameLineAndKey(t *testing.T) {
	for text, want := range map[string]string{
		"  baseURL: https://x.example\n  timout: 3s\n":          "line 4: timout: there is no such setting here: there are allowPlainHTTP, baseURL, bearerFile, caFile, certificateFile, clientID, clientKeyFile, clientKeyID, count, everything, keyFile, maxConnections, parallel, scope, searches, tokenURL",
		"  baseURL: https://x.example\n  baseurl: x\n":          "line 4: baseurl: there is no such setting here",
		"  baseURL: http://x.example\n":                         "line 3: baseURL: https:// (http:// only with allowPlainHTTP: true",
		"  count: 5\n":                                          "line 3: baseURL: give the FHIR base address",
		"  baseURL: https://x.example\n  count: many\n":         "line 4: count: give a whole number",
		"  baseURL: https://x.example\n  count: 1.5\n":          "line 4: count: give a whole number",
		"  baseURL: https://x.example\n  count: \"5\"\n":        "line 4: count: give a whole number",
		"  baseURL: https://x.example\n  count: 0\n":            "line 4: count: more than 0; leave it out for the default",
		"  baseURL: https://x.example\n  count: 99999\n":        "line 4: count: 1 to 10000",
		"  baseURL: https://x.example\n  parallel: -1\n":        "line 4: parallel: 1 to 32",
		"  baseURL: https://x.example\n  allowPlainHTTP: yes\n": "line 4: allowPlainHTTP: give true or false",
		"  baseURL: https://x.example\n  allowPlainHTTP:\n":     "line 4: allowPlainHTTP: give true or false",
		"  baseURL:\n":     "line 3: baseURL: give a text",
		"  baseURL: [a]\n": "line 3: baseURL: give a text",
		"  baseURL: &a https://x.example\n  caFile: *a\n":        "line 4: caFile: give a text",
		"  baseURL: https://x.example\n  searches: Condition\n":  "line 4: searches: give a list",
		"  baseURL: https://x.example\n  searches: [[a]]\n":      "line 4: searches: give a list of texts",
		"  baseURL: https://x.example\n  searches: [Patient]\n":  "line 4: searches: FHIR R4 types",
		"  baseURL: https://x.example\n  searches: [List, List]": "line 4: searches: FHIR R4 types",
		"  baseURL: https://x.example\n  everything: sometimes":  "line 4: everything: offered or never",
		"  baseURL: https://x.example\n  keyFile: none.pem":      "line 4: keyFile: certificateFile too",
		"  - a\n": "line 3: settings: give keys with values",
		"  text":  "line 3: settings: give keys with values",
		"  ? [a]\n  : b\n  baseURL: https://x.example":       "line 3: there is no such setting",
		"  <<: {count: 5}\n  baseURL: https://x.example":     "line 3: <<: there is no such setting",
		"  a: 1\n  b: 2\n  baseURL: https://x.example":       "line 4: b: there is no such",
		"  baseURL: https://user:secret@x.example\n":         "line 3: baseURL: no user name or password",
		"  baseURL: https://x.example\n  bearerFile: none\n": "line 4: bearerFile: a readable file",
	} {
		_, err := adapters.New("fhirr4", node(t, text))
		var p adapters.Problems
		if !errors.As(err, &p) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the problem repeats a secret", text)
		}
	}
	for _, kind := range adapters.Kinds() { // a maker's nil pointer would be taken for a source
		if s, err := adapters.New(kind, node(t, "  timout: 3s\n")); err == nil || s != nil {
			t.Errorf("%s: got %v beside %v, want nothing", kind, s, err)
		}
	}
	for _, kind := range adapters.TracerKinds() {
		if tracer, err := adapters.NewTracer(kind, nil); err == nil || tracer != nil {
			t.Errorf("%s: got %v beside %v, want nothing", kind, tracer, err)
		}
	}
	if _, err := adapters.New("fhirr4", nil); err == nil || !strings.Contains(err.Error(), "baseURL: ") {
		t.Errorf("no settings: got %v", err)
	}
	if _, err := adapters.New("fhirr4", &yaml.Node{}); err == nil || !strings.Contains(err.Error(), "baseURL: ") {
		t.Errorf("an empty node: got %v", err)
	}
	if _, err := adapters.New("soap", nil); err == nil || err.Error() != "adapter: one of "+strings.Join(adapters.Kinds(), ", ") {
		t.Errorf("an unknown kind: got %v", err)
	}
	if _, err := adapters.NewTracer("x", node(t, "  a: b")); err == nil || err.Error() != "line 3: kind: one of pds" {
		t.Errorf("an unknown tracer: got %v", err)
	}
	if _, err := adapters.NewTracer("pds", node(t, "  baseURL: https://x.example\n  endUserOrganisation: 1\n")); err == nil || !strings.HasPrefix(err.Error(), "line 4: endUserOrganisation: an ODS code") {
		t.Errorf("got %v", err)
	}
}

func TestRepeatedKey(t *testing.T) {
	k := func(v string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v, Line: 7} }
	n := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{k("baseURL"), k("https://x.example"), k("baseURL"), k("https://y.example")}}
	if _, err := adapters.New("fhirr4", n); err == nil || err.Error() != "line 7: baseURL: given twice" {
		t.Errorf("got %v", err)
	}
}

// Text stays what was written: an ODS code such as 1E5 is no number.
func TestTextStays(t *testing.T) {
	d, err := adapters.Describe("pds", node(t, "  baseURL: https://x.example\n  endUserOrganisation: 1E5\n  sessionURID: 012\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range d {
		got[s.Key] = s.Value
	}
	want := map[string]string{"baseURL": "https://x.example", "allowPlainHTTP": "false", "caFile": "", "certificateFile": "", "keyFile": "", "bearerFile": "",
		"maxConnections": "64", "endUserOrganisation": "1E5", "sessionURID": "012"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDescribe(t *testing.T) {
	d, err := adapters.Describe("fhirr4", node(t, "  baseURL: https://user:secret@x.example\n  searches: [Observation, List]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, s := range d {
		text.WriteString(s.Key + "=" + s.Value + ";")
	}
	if want := "baseURL=(not shown);allowPlainHTTP=false;caFile=;certificateFile=;keyFile=;bearerFile=;maxConnections=64;everything=offered;count=500;searches=Observation, List;clientID=;clientKeyFile=;clientKeyID=;tokenURL=;scope=;parallel=4;"; text.String() != want {
		t.Errorf("got %s", text.String())
	}
	if _, err := adapters.Describe("x", nil); err == nil {
		t.Error("an unknown kind was described")
	}
	if _, err := adapters.Describe("fhirr4", node(t, "  a: b")); err == nil {
		t.Error("wrong settings were described")
	}
}

func TestFileNamesStartFromTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := node(t, "  baseURL: https://x.example\n  bearerFile: token\n  caFile: /etc/x.pem\n  keyFile: \"\"\n")
	adapters.Absolute(n, dir)
	adapters.Absolute(nil, dir)
	d, err := adapters.Describe("fhirr4", n)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range d {
		if want, ok := map[string]string{"bearerFile": filepath.Join(dir, "token"), "caFile": "/etc/x.pem", "keyFile": "", "baseURL": "https://x.example"}[s.Key]; ok && s.Value != want {
			t.Errorf("%s: got %s, want %s", s.Key, s.Value, want)
		}
	}
	n = node(t, "  baseURL: https://x.example\n  bearerFile: token\n")
	adapters.Absolute(n, dir)
	if _, err := adapters.New("fhirr4", n); err != nil {
		t.Error(err)
	}
}

// ADDING.md lists every setting, with the right default, and no other.
func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("ADDING.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{} // key -> default
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.Contains(cells[1], "`") {
			continue
		}
		for key := range strings.SplitSeq(cells[1], ",") {
			documented[strings.Trim(key, " `")] = strings.Trim(cells[4], " `")
		}
	}
	type described struct {
		kind string
		of   func(string, *yaml.Node) ([]adapters.Setting, error)
	}
	var all []described
	for _, kind := range append(adapters.Kinds(), adapters.TracerKinds()...) {
		all = append(all, described{kind, adapters.Describe})
	}
	for _, kind := range adapters.IndexKinds() {
		all = append(all, described{kind, adapters.DescribeIndex})
	}
	for _, one := range all {
		kind := one.kind
		d, err := one.of(kind, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range d {
			def, ok := documented[s.Key]
			if !ok {
				t.Errorf("%s: %s is not in ADDING.md", kind, s.Key)
			}
			if s.Value != "" && s.Value != def {
				t.Errorf("%s: %s: ADDING.md says %q, the default is %q", kind, s.Key, def, s.Value)
			}
			if s.Value == "" && slices.Contains([]string{"true", "false"}, def) {
				t.Errorf("%s: %s: ADDING.md says %q, there is no default", kind, s.Key, def)
			}
		}
	}
}
