package socialcare_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mycarerecord/mycarerecord/adapters/adaptertest"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/adapters/socialcare"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func TestMain(m *testing.M) { os.Exit(verify(m)) }

func verify(m *testing.M) int {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Invented people.
const (
	held    = "9990000034"
	unknown = "9990000050"
)

const marker = "MARKER-OF-A-COUNCIL"

func number(t testing.TB, s string) record.NHSNumber {
	t.Helper()
	n, err := record.ParseNHSNumber(s)
	if err != nil {
		t.Fatal("a number of the tests is not valid")
	}
	return n
}

func query(t testing.TB, s string) broker.Query {
	limits := broker.DefaultLimits
	limits.Bytes = 4 << 20
	return broker.Query{Subject: record.Subject{Number: number(t, s), Standing: record.Live}, RequestID: "request-1", Limits: limits}
}

// person is a record with several pages of most collections.
func person(nhs string) []json.RawMessage {
	out := []json.RawMessage{json.RawMessage(`{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + nhs + `","extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus","valueCodeableConcept":{"coding":[{"code":"01"}]}}]}],` +
		`"name":[{"family":"` + marker + `","given":["Ann"]}],"gender":"female","birthDate":"1950-01-02"}`),
		json.RawMessage(`{"resourceType":"Practitioner","id":"w","name":[{"family":"Quayle","given":["Farida"]}]}`),
		json.RawMessage(`{"resourceType":"RelatedPerson","id":"r","relationship":[{"text":"Daughter"}],"name":[{"family":"Ashworth","given":["Bo"]}],"telecom":[{"value":"01632 960001"}]}`),
		json.RawMessage(`{"resourceType":"QuestionnaireResponse","id":"q","status":"completed","authored":"2024-03-01T14:00:00Z","item":[{"text":"Washing","answer":[{"valueString":"Needs help"}]},{"text":"Meals"}]}`),
	}
	for i := range 4 {
		out = append(out,
			json.RawMessage(fmt.Sprintf(`{"resourceType":"CareTeam","id":"t%d","status":"active","name":"%s","period":{"start":"2024-03-0%d"},"participant":[{"role":[{"text":"Lead co-ordinator"}],"member":{"reference":"Practitioner/w"}}]}`, i, marker, i+1)),
			json.RawMessage(fmt.Sprintf(`{"resourceType":"CarePlan","id":"c%d","status":"active","title":"Plan %d","description":"One visit a day","period":{"start":"2024-03-0%d","end":"2024-04-01"}}`, i, i, i+1)),
			json.RawMessage(fmt.Sprintf(`{"resourceType":"EpisodeOfCare","id":"e%d","status":"finished","type":[{"text":"Reablement"}],"period":{"start":"2024-03-0%d"}}`, i, i+1)),
			json.RawMessage(fmt.Sprintf(`{"resourceType":"Flag","id":"f%d","status":"active","code":{"text":"Key safe"},"period":{"start":"2024-03-0%d"}}`, i, i+1)))
	}
	return out
}

// council is a simulated council that listens.
type council struct {
	*simulator.Council
	dialect simulator.Dialect
	origin  string
}

func newCouncil(t testing.TB, d simulator.Dialect, change ...func(*simulator.CouncilConfig)) council {
	t.Helper()
	cfg := simulator.CouncilConfig{Dialect: d, PageSize: 3, People: map[string][]json.RawMessage{held: person(held)}}
	for _, f := range change {
		f(&cfg)
	}
	c, err := simulator.NewCouncil(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return council{c, d, s.URL}
}

func (c council) settings(t testing.TB) socialcare.Settings {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return socialcare.Settings{Connection: wire.Connection{BaseURL: c.origin + "/api", AllowPlainHTTP: true}, MappingFile: "testdata/" + string(c.dialect) + ".yaml",
		TokenURL: c.origin + "/oauth2/token", ClientID: "broker", ClientSecretFile: secret}
}

func (c council) source(t testing.TB, change ...func(*socialcare.Settings)) *socialcare.Source {
	t.Helper()
	s := c.settings(t)
	for _, f := range change {
		f(&s)
	}
	src, err := socialcare.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(src.Close)
	return src
}

func (c council) noNumberInAddresses(t *testing.T) {
	t.Helper()
	for _, line := range c.Log() {
		if record.HoldsNHSNumber(line) {
			t.Fatal("an NHS number was in an address")
		}
	}
}

// Two councils with other words, one adapter: every fault of design section 9 ends in the state of section 6 at both.
func TestFaults(t *testing.T) {
	for _, d := range []simulator.Dialect{simulator.Westmarch, simulator.Northmoor} {
		t.Run(string(d), func(t *testing.T) {
			c := newCouncil(t, d)
			s := c.settings(t)
			lacks := map[adaptertest.Fault]string{}
			if d == simulator.Northmoor {
				lacks[adaptertest.PageElsewhere] = "its next page is a number and not an address"
			}
			adaptertest.Run(t, adaptertest.Kit{
				New: func() (broker.Source, error) { return socialcare.New(s) },
				SetFault: func(f adaptertest.Fault, after, ms int) error {
					return c.SetFault(simulator.FaultSpec{Fault: simulator.Fault(f), After: after, Ms: ms})
				},
				Requests: func() int { return c.Requests().Record },
				Query:    query(t, held), Unknown: number(t, unknown), Several: true, Lacks: lacks,
				Outside: []string{marker, c.origin, "127.0.0.1", "elsewhere.invalid", "Strangeways", simulator.StrangerTag, "secret"},
			})
			c.noNumberInAddresses(t)
		})
	}
}

func TestCheckFindsNothingWrong(t *testing.T) {
	for _, d := range []simulator.Dialect{simulator.Westmarch, simulator.Northmoor} {
		c := newCouncil(t, d)
		if got := adaptertest.Check(t.Context(), c.source(t), query(t, held)); len(got) > 0 {
			t.Errorf("%s: %v", d, got)
		}
		c.noNumberInAddresses(t)
	}
}

// texts reads a reply with encoding/json.
func texts(t *testing.T, reply broker.Reply) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, e := range reply.Entries {
		var m map[string]any
		if json.Unmarshal(e.Resource.Raw(), &m) != nil {
			t.Fatal("not JSON")
		}
		delete(m, "id")
		out = append(out, m)
	}
	return out
}

// What two councils hold about one person reads the same in FHIR, whatever they call it.
func TestTwoCouncilsOneAdapter(t *testing.T) {
	var both [2][]string
	for i, d := range []simulator.Dialect{simulator.Westmarch, simulator.Northmoor} {
		c := newCouncil(t, d)
		reply, err := c.source(t).Fetch(t.Context(), query(t, held))
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.Parts) > 0 {
			t.Errorf("%s: parts %v", d, reply.Parts)
		}
		for _, m := range texts(t, reply) {
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "source-field") || strings.Contains(string(text), "data-absent") {
				t.Errorf("%s: something is not mapped: %s", d, m["resourceType"])
			}
			both[i] = append(both[i], string(text))
		}
		slices.Sort(both[i])
	}
	if len(both[0]) != 1+1+1+4*4 || !slices.Equal(both[0], both[1]) {
		t.Errorf("%d and %d resources, not alike", len(both[0]), len(both[1]))
	}
	want := `{"identifier":[{"value":"t0"}],"name":"` + marker + `","participant":[{"member":{"display":"Farida Quayle"},"role":[{"text":"Lead co-ordinator"}]}],"period":{"start":"2024-03-01"},` +
		`"resourceType":"CareTeam","status":"active","subject":{"reference":"urn:mycarerecord:subject","type":"Patient"}}`
	if !slices.Contains(both[0], want) {
		t.Error("the lead co-ordinator's team is not what it should be")
	}
	want = `{"authored":"2024-03-01","identifier":{"value":"q"},"item":[{"answer":[{"valueString":"Needs help"}],"linkId":"Washing","text":"Washing"},{"linkId":"Meals","text":"Meals"}],` +
		`"resourceType":"QuestionnaireResponse","status":"completed","subject":{"reference":"urn:mycarerecord:subject","type":"Patient"}}`
	if !slices.Contains(both[0], want) {
		t.Error("the assessment is not what it should be")
	}
}

func prepared(t *testing.T, reply broker.Reply, nhs string) merge.Prepared {
	t.Helper()
	p, err := merge.Prepare(merge.Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: time.Now(), IDKey: []byte("k"),
		Subject: record.Subject{Number: number(t, nhs), Standing: record.Live}},
		merge.Rules{Permitted: record.AllSections, TellCounts: true},
		merge.Reply{Custodian: record.Custodian{Key: "council", ODS: "X9E01", Kind: record.KindSocialCare}, Base: reply.Base, Entries: reply.Entries, Parts: reply.Parts, Adapter: reply.Adapter})
	if err != nil {
		t.Fatalf("the merge refuses it: %v", err)
	}
	return p
}

// The merge shows all that comes, and drops and counts what is somebody else's.
func TestMerge(t *testing.T) {
	c := newCouncil(t, simulator.Northmoor)
	s := c.source(t)
	reply, err := s.Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	if p := prepared(t, reply, held); p.Counts.Shown != len(reply.Entries) || p.Status.State != record.Returned || p.Dangling != 0 {
		t.Errorf("%+v, %s, %d lead nowhere", p.Counts, p.Status.State, p.Dangling)
	}
	if err := c.SetFault(simulator.FaultSpec{Fault: simulator.FaultMixedPatients}); err != nil {
		t.Fatal(err)
	}
	if reply, err = s.Fetch(t.Context(), query(t, held)); err != nil {
		t.Fatal(err)
	}
	p := prepared(t, reply, held)
	if p.Counts.Strangers == 0 || p.Status.State != record.ReturnedInPart || !p.Alarm {
		t.Errorf("%+v, %s, alarm %v", p.Counts, p.Status.State, p.Alarm)
	}
	for _, e := range p.Entries {
		if strings.Contains(string(e.JSON), simulator.StrangerTag) {
			t.Error("something of another person is shown")
		}
	}
}

// The cohort's people come through, at either council.
func TestCohort(t *testing.T) {
	people := map[string][]json.RawMessage{}
	for _, p := range cohort.Invented(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)) {
		if list := p.Records["socialcare"]; len(list) > 0 && p.Standing == cohort.Live {
			people[p.NHSNumber] = list
		}
	}
	if len(people) == 0 {
		t.Fatal("the cohort's council holds nobody")
	}
	for _, d := range []simulator.Dialect{simulator.Westmarch, simulator.Northmoor} {
		c := newCouncil(t, d, func(cfg *simulator.CouncilConfig) { cfg.People = people })
		s := c.source(t)
		for nhs, list := range people {
			reply, err := s.Fetch(t.Context(), query(t, nhs))
			if err != nil {
				t.Fatal(err)
			}
			want, got := map[string]int{}, map[string]int{}
			for _, raw := range list {
				var r struct{ ResourceType string }
				if json.Unmarshal(raw, &r) != nil {
					t.Fatal("not JSON")
				}
				want[r.ResourceType]++
			}
			for _, e := range reply.Entries {
				got[e.Resource.Get("resourceType").Text()]++
			}
			for _, typ := range []string{"Patient", "CareTeam", "CarePlan", "EpisodeOfCare", "Flag", "QuestionnaireResponse", "RelatedPerson"} {
				if got[typ] != want[typ] {
					t.Errorf("%s: %d of type %s, want %d", d, got[typ], typ, want[typ])
				}
			}
			if p := prepared(t, reply, nhs); p.Counts.Shown != len(reply.Entries) {
				t.Errorf("%s: the merge shows %+v of %d", d, p.Counts, len(reply.Entries))
			}
		}
	}
}

// One token serves many requests, one is asked for at a time, and a new one when it is about to end.
func TestTokens(t *testing.T) {
	c := newCouncil(t, simulator.Westmarch)
	s := c.source(t)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if _, err := s.Fetch(t.Context(), query(t, held)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := c.Issued(); n != 1 {
		t.Errorf("%d tokens were asked for, want 1", n)
	}
	c = newCouncil(t, simulator.Westmarch, func(cfg *simulator.CouncilConfig) { cfg.Lifetime = 2 * time.Second })
	s = c.source(t)
	for range 2 {
		if _, err := s.Fetch(t.Context(), query(t, held)); err != nil {
			t.Error(err)
		}
		time.Sleep(1100 * time.Millisecond) // more than half of its life: it is not used again
	}
	if n := c.Issued(); n != 2 {
		t.Errorf("%d tokens were asked for, want 2", n)
	}
	c = newCouncil(t, simulator.Westmarch, func(cfg *simulator.CouncilConfig) { cfg.Secret = "another" })
	if _, err := c.source(t).Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrUnauthorised) {
		t.Errorf("a secret that is wrong: got %v", err)
	}
}

// A token that the council no longer takes is forgotten: the next request asks for another.
func TestTokenRefused(t *testing.T) {
	c := newCouncil(t, simulator.Westmarch)
	s := c.source(t)
	if _, err := s.Fetch(t.Context(), query(t, held)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetFault(simulator.FaultSpec{Fault: simulator.FaultUnauthorised}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrUnauthorised) {
		t.Errorf("got %v", err)
	}
	if err := c.SetFault(simulator.FaultSpec{Fault: simulator.FaultNone}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(t.Context(), query(t, held)); err != nil || c.Issued() != 2 {
		t.Errorf("got %v after %d tokens", err, c.Issued())
	}
}
