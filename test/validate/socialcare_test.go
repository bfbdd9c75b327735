package validate

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
	"go.yaml.in/yaml/v3"
)

// TestSocialCare: what the invented council holds is FHIR R4 when it came by either council's words.
func TestSocialCare(t *testing.T) {
	people := map[string][]json.RawMessage{}
	for _, p := range cohort.Invented(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)) {
		if list := p.Records["socialcare"]; len(list) > 0 && p.Standing == cohort.Live {
			people[p.NHSNumber] = list
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []simulator.Dialect{simulator.Westmarch, simulator.Northmoor} {
		c, err := simulator.NewCouncil(simulator.CouncilConfig{Dialect: d, People: people})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(c)
		t.Cleanup(server.Close)
		var settings yaml.Node
		if err := settings.Encode(map[string]any{"baseURL": server.URL + "/api", "allowPlainHTTP": true, "tokenURL": server.URL + "/oauth2/token", "clientID": "broker",
			"clientSecretFile": secret, "mappingFile": "../../adapters/socialcare/testdata/" + string(d) + ".yaml"}); err != nil {
			t.Fatal(err)
		}
		s, err := adapters.New("socialcare", &settings)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { adapters.Close(s) })
		n := 0
		for digits := range people {
			number, err := record.ParseNHSNumber(digits)
			if err != nil {
				t.Fatal("not a number of the tests")
			}
			reply, err := s.Fetch(t.Context(), broker.Query{Subject: record.Subject{Number: number, Standing: record.Live}, Limits: broker.DefaultLimits})
			if err != nil {
				t.Fatalf("not read: %v", err)
			}
			var list []json.RawMessage
			for _, e := range reply.Entries {
				list = append(list, e.Resource.Raw())
			}
			n += validated(t, list)
		}
		if n < 10 {
			t.Errorf("%d resources only", n)
		}
		t.Logf("%s: %d resources are FHIR R4", d, n)
	}
}
