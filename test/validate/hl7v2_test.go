package validate

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
	"github.com/mycarerecord/mycarerecord/test/simulator"
	"go.yaml.in/yaml/v3"
)

// fromEngine reads everybody whom a simulated engine holds, as the daemon would, and returns the resources.
func fromEngine(t *testing.T, cfg simulator.EngineConfig, numbers ...string) []json.RawMessage {
	t.Helper()
	e, err := simulator.NewEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	e.ServeMLLP(ln)
	t.Cleanup(e.Close)
	var settings yaml.Node
	if err := settings.Encode(map[string]any{"address": "mllp://" + ln.Addr().String(), "allowPlainTCP": true,
		"queries": []string{simulator.QueryVisits, simulator.QueryResults, simulator.QueryDocuments}}); err != nil {
		t.Fatal(err)
	}
	s, err := adapters.New("hl7v2", &settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { adapters.Close(s) })
	var out []json.RawMessage
	for _, digits := range numbers {
		n, err := record.ParseNHSNumber(digits)
		if err != nil {
			t.Fatal("not a number of the tests")
		}
		reply, err := s.Fetch(t.Context(), broker.Query{Subject: record.Subject{Number: n, Standing: record.Live}, Limits: broker.DefaultLimits})
		if err != nil {
			t.Fatalf("not read: %v", err)
		}
		for _, x := range reply.Entries {
			out = append(out, x.Resource.Raw())
		}
	}
	return out
}

// validated counts resources, and fails for each that the validator refuses.
func validated(t *testing.T, resources []json.RawMessage) int {
	t.Helper()
	v := validator(t)
	for _, r := range resources {
		if _, err := v.UnmarshalR4(r); err != nil {
			var kind struct{ ResourceType string }
			_ = json.Unmarshal(r, &kind) // refused or not, it is JSON
			t.Errorf("a %s is refused: %s", kind.ResourceType, where(err))
		}
	}
	return len(resources)
}

// TestHL7v2Cohort: what the invented acute trust holds is FHIR R4 again when it came over HL7 v2.
func TestHL7v2Cohort(t *testing.T) {
	people := map[string][]json.RawMessage{}
	var numbers []string
	for _, p := range cohort.Invented(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)) {
		if list := p.Records["acute"]; len(list) > 0 && p.Standing == cohort.Live {
			people[p.NHSNumber] = list
			numbers = append(numbers, p.NHSNumber)
		}
	}
	if n := validated(t, fromEngine(t, simulator.EngineConfig{People: people}, numbers...)); n < 50 {
		t.Errorf("%d resources only", n)
	}
}

// TestHL7v2Samples: so are the published messages, each under the number of somebody invented.
func TestHL7v2Samples(t *testing.T) {
	const somebody = "9990000034"
	files, err := filepath.Glob(filepath.Join(neighbourhood.Data(t, "hl7v2"), "*", "*"))
	if err != nil || len(files) < 23 {
		t.Fatalf("%d messages", len(files))
	}
	n := 0
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal("cannot be opened")
			}
			var before, group simulator.Group
			for line := range strings.FieldsFuncSeq(strings.TrimPrefix(string(text), "\ufeff"), func(r rune) bool { return r == '\r' || r == '\n' }) {
				switch fields := strings.Split(line, "|"); {
				case fields[0] == "MSH" || fields[0] == "SFT" || fields[0] == "UAC":
				case fields[0] == "PID":
					fields[3] = somebody + "^^^NHS^NH"
					group = append(simulator.Group{strings.Join(fields, "|")}, group...)
				case len(group) == 0 && fields[0] != "EVN":
					before = append(before, line)
				case len(group) > 0:
					group = append(group, line)
				}
			}
			group = append(group, before...)
			n += validated(t, fromEngine(t, simulator.EngineConfig{Records: map[string]map[string][]simulator.Group{somebody: {simulator.QueryResults: {group}}}}, somebody))
		})
	}
	if n < 180 {
		t.Errorf("%d resources only", n)
	}
	t.Logf("%d resources of %d messages are FHIR R4", n, len(files))
}
