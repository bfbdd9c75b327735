package hl7v2_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/hl7v2"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// acute returns what the invented acute trust holds, by NHS number.
func acute(t testing.TB) map[string][]json.RawMessage {
	t.Helper()
	people := map[string][]json.RawMessage{}
	for _, p := range cohort.Invented(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)) {
		if list := p.Records["acute"]; len(list) > 0 && p.Standing == cohort.Live {
			people[p.NHSNumber] = list
		}
	}
	if len(people) < 5 {
		t.Fatalf("the cohort's acute trust holds %d people", len(people))
	}
	return people
}

// tally counts a record's resources of the types that HL7 v2 carries here, and collects the text of every number and every time of a result.
func tally(t testing.TB, list []json.RawMessage) (types map[string]int, numbers, times []string) {
	t.Helper()
	types = map[string]int{}
	for _, raw := range list {
		var r struct {
			ResourceType, EffectiveDateTime string
			ValueQuantity                   struct{ Value json.Number }
			Component                       []struct{ ValueQuantity struct{ Value json.Number } }
		}
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		var kind struct{ ResourceType string }
		if json.Unmarshal(raw, &kind) != nil {
			t.Fatal("not a resource")
		}
		types[kind.ResourceType]++
		if kind.ResourceType != "Observation" {
			continue
		}
		if d.Decode(&r) != nil {
			t.Fatal("not an Observation")
		}
		if v := r.ValueQuantity.Value.String(); v != "" {
			numbers = append(numbers, v)
		}
		for _, c := range r.Component {
			if v := c.ValueQuantity.Value.String(); v != "" {
				numbers = append(numbers, v)
			}
			types["Observation"]++ // each part of one is an OBX of its own
		}
		if len(r.Component) > 0 {
			types["Observation"]--
		}
		times = append(times, back(strings.Replace(r.EffectiveDateTime, "Z", "+00:00", 1)))
	}
	slices.Sort(numbers)
	slices.Sort(times)
	return types, numbers, slices.Compact(times)
}

// What the invented acute trust holds in FHIR comes through HL7 v2 and back with every visit, result and document, every number's text and every
// time, and the merge shows all of it.
func TestCohortComesThrough(t *testing.T) {
	people := acute(t)
	e := newEngine(t, func(c *simulator.EngineConfig) { c.People = people; c.PageSize = 3 })
	s := source(t, e.address)
	for nhs, list := range people {
		q := query(t, nhs)
		q.Limits = broker.DefaultLimits
		reply, err := s.Fetch(t.Context(), q)
		if err != nil {
			t.Fatalf("not read: %v", err)
		}
		var got []json.RawMessage
		for _, x := range reply.Entries {
			got = append(got, x.Resource.Raw())
		}
		wantTypes, wantNumbers, wantTimes := tally(t, list)
		types, numbers, times := tally(t, got)
		for _, typ := range []string{"Patient", "Encounter", "DocumentReference", "Observation"} {
			if types[typ] != wantTypes[typ] {
				t.Errorf("%d of type %s, want %d", types[typ], typ, wantTypes[typ])
			}
		}
		if !slices.Equal(numbers, wantNumbers) {
			t.Errorf("the numbers are %v, want %v", numbers, wantNumbers)
		}
		if !slices.Equal(times, wantTimes) {
			t.Errorf("the times are %v, want %v", times, wantTimes)
		}
		shown(t, reply, nhs, len(reply.Entries))
	}
	noNumberInLog(t, e)
}

// shown puts a reply through the merge, and expects it to show so many of its resources.
func shown(t *testing.T, reply broker.Reply, nhs string, want int) merge.Prepared {
	t.Helper()
	p, err := merge.Prepare(merge.Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: time.Now(), IDKey: []byte("a key of the tests"),
		Subject: record.Subject{Number: number(t, nhs), Standing: record.Live}},
		merge.Rules{Permitted: record.AllSections, TellCounts: true},
		merge.Reply{Custodian: record.Custodian{Key: "acute", ODS: "X9B01", Name: "Acute", Kind: record.KindAcute}, Base: reply.Base, Entries: reply.Entries, Parts: reply.Parts, Adapter: reply.Adapter})
	if err != nil {
		t.Fatalf("the merge refuses it: %v", err)
	}
	if p.Counts.Shown+p.Counts.Folded != want || p.Dangling != 0 {
		t.Errorf("the merge shows %+v of %d, %d references lead nowhere", p.Counts, want, p.Dangling)
	}
	for _, x := range p.Entries {
		if strings.Contains(string(x.JSON), "urn:mycarerecord") || record.HoldsNHSNumber(x.ID) {
			t.Error("an address of ours, or an NHS number in an id, is in the answer")
		}
	}
	return p
}

// Where others' resources are in an answer, the merge drops and counts them and shows the rest.
func TestMixedPeopleInTheMerge(t *testing.T) {
	e := newEngine(t)
	if err := e.SetFault(simulator.FaultSpec{Fault: simulator.FaultMixedPatients}); err != nil {
		t.Fatal(err)
	}
	reply, err := source(t, e.address).Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	p, err := merge.Prepare(merge.Request{Base: "https://broker.example/fhir", CodeBase: "https://mycarerecord.example", Handle: "handle", Now: time.Now(), IDKey: []byte("k"),
		Subject: record.Subject{Number: number(t, held), Standing: record.Live}},
		merge.Rules{Permitted: record.AllSections, TellCounts: true},
		merge.Reply{Custodian: record.Custodian{Key: "acute", ODS: "X9B01", Kind: record.KindAcute}, Base: reply.Base, Entries: reply.Entries, Adapter: reply.Adapter})
	if err != nil {
		t.Fatal(err)
	}
	if p.Counts.Strangers < 4 || p.Status.State != record.ReturnedInPart || !p.Alarm {
		t.Errorf("%d strangers' resources dropped, state %s, alarm %v", p.Counts.Strangers, p.Status.State, p.Alarm)
	}
	for _, x := range p.Entries {
		if strings.Contains(string(x.JSON), simulator.StrangerTag) || strings.Contains(string(x.JSON), "Strangeways") {
			t.Error("something of another person is shown")
		}
	}
}

// An older engine is asked with QRY^R02 and answers with ORF^R04.
func TestLegacyQuery(t *testing.T) {
	e := newEngine(t)
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries, s.LegacyQueries, s.Version = nil, []string{"RES"}, "2.4" })
	reply, err := s.Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(reply.Entries); n != 1+1+12+12 { // Patient, Encounter, and a report and an Observation of each result
		t.Errorf("%d resources", n)
	}
	if _, err := s.Fetch(t.Context(), query(t, unknown)); !errors.Is(err, broker.ErrNoRecord) {
		t.Errorf("somebody unknown: got %v", err)
	}
	shown(t, reply, held, len(reply.Entries))
	noNumberInLog(t, e)
}

// An engine that writes in 8859/1 is read as such.
func TestLatinEngine(t *testing.T) {
	e := newEngine(t, func(c *simulator.EngineConfig) { c.Latin = true })
	reply, err := source(t, e.address).Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	if got := reply.Entries[0].Resource.At("name", "given"); !strings.Contains(string(reply.Entries[0].Resource.Raw()), "Zoë") {
		t.Errorf("a name is not what it was: %s", got.Text())
	}
}

// Queries that the engine refuses, or withholds, are named; those that it answers come.
func TestOneOfSeveralQueries(t *testing.T) {
	e := newEngine(t)
	s := source(t, e.address, func(s *hl7v2.Settings) { s.Queries = append(slices.Clone(s.Queries), "Z99^No such query^LOCAL") })
	reply, err := s.Fetch(t.Context(), query(t, held))
	if err != nil || len(reply.Parts) != 1 || reply.Parts[0] != (record.Part{Source: "Z99", Reason: record.PartSourceDown}) {
		t.Errorf("got %v, %v", reply.Parts, err)
	}
	s = source(t, e.address, func(s *hl7v2.Settings) { s.Queries = []string{"Z99^No such query^LOCAL"} })
	if _, err := s.Fetch(t.Context(), query(t, held)); !errors.Is(err, broker.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// A segment that may be a clinical statement and is not converted is kept, and the reply says so.
func TestUnconvertedIsShown(t *testing.T) {
	e := newEngine(t, func(c *simulator.EngineConfig) {
		c.Records = map[string]map[string][]simulator.Group{held: {simulator.QueryVisits: {{"PV1|1|I", "AL1|1|DA|372687004^Amoxicillin^SCT|SV|Rash|20200101", "RXA|0|1|20240101||1^Vaccine^L"}}}}
	})
	reply, err := source(t, e.address).Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	if len(reply.Parts) != 1 || reply.Parts[0] != (record.Part{Source: "RXA", Reason: record.PartUnreadable, Count: 1}) {
		t.Errorf("got parts %v", reply.Parts)
	}
	kept, allergy := false, false
	for _, x := range reply.Entries {
		kept = kept || x.Resource.Get("resourceType").Is("Basic") && strings.Contains(string(x.Resource.Raw()), "RXA|0|1|20240101||1^Vaccine^L")
		allergy = allergy || x.Resource.Get("resourceType").Is("AllergyIntolerance") && x.Resource.At("reaction", "severity").Is("severe") && x.Resource.At("category").First().Is("medication")
	}
	if !kept || !allergy {
		t.Errorf("kept %v, allergy %v", kept, allergy)
	}
	shown(t, reply, held, len(reply.Entries))
}

// A message about results repeats the visit in fewer words: one Encounter comes, the fuller.
func TestVisitInFewerWords(t *testing.T) {
	e := newEngine(t)
	reply, err := source(t, e.address).Fetch(t.Context(), query(t, held))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, x := range reply.Entries {
		if x.Resource.Get("resourceType").Is("Encounter") {
			n++
			if !x.Resource.At("period", "end").Exists() {
				t.Error("the one with fewer words stayed")
			}
		}
	}
	if n != 1 {
		t.Errorf("%d Encounters", n)
	}
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, dir: t.TempDir()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Authority of the tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, name+".pem", "CERTIFICATE", der), a.write(t, name+".key", "EC PRIVATE KEY", text)
}

// Over mutual TLS: each side's certificate is checked by the other, connections are used again, and a certificate that is refused is the operator's
// matter.
func TestMutualTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	serverCert, serverKey := a.issue(t, "engine")
	ourCert, ourKey := a.issue(t, "broker")
	badCert, badKey := stranger.issue(t, "broker")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	e, err := simulator.NewEngine(simulator.EngineConfig{People: map[string][]json.RawMessage{held: person(held)}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	e.ServeMLLP(tls.NewListener(raw, &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}))
	t.Cleanup(e.Close)
	ca := filepath.Join(a.dir, "ca.pem")
	for _, c := range []struct {
		name          string
		ca, cert, key string
		want          error
	}{
		{"both know each other", ca, ourCert, ourKey, nil},
		{"the engine does not know us", ca, badCert, badKey, broker.ErrUnauthorised},
		{"we do not know the engine", filepath.Join(stranger.dir, "ca.pem"), ourCert, ourKey, broker.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := source(t, "mllps://"+raw.Addr().String(), func(s *hl7v2.Settings) {
				s.AllowPlainTCP, s.CAFile, s.CertificateFile, s.KeyFile = false, c.ca, c.cert, c.key
			})
			for range 3 {
				if _, err := s.Fetch(t.Context(), query(t, held)); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			}
		})
	}
}

// Settings that cannot be used are refused with their name.
func TestSettings(t *testing.T) {
	good := settings("mllp://engine.trust.example:2575")
	for _, c := range []struct {
		field  string
		change func(*hl7v2.Settings)
	}{
		{"address", func(s *hl7v2.Settings) { s.Address = "" }},
		{"address", func(s *hl7v2.Settings) { s.Address = "engine.trust.example:2575" }},
		{"address", func(s *hl7v2.Settings) { s.Address = "https://engine.trust.example:2575" }},
		{"address", func(s *hl7v2.Settings) { s.Address = "mllp://engine.trust.example" }},
		{"address", func(s *hl7v2.Settings) { s.Address = "mllp://user:secret@engine.trust.example:2575" }},
		{"address", func(s *hl7v2.Settings) { s.Address = "mllp://engine.trust.example:2575/path" }},
		{"address", func(s *hl7v2.Settings) { s.AllowPlainTCP = false }},
		{"certificateFile", func(s *hl7v2.Settings) { s.Address = "mllps://engine.trust.example:2576" }},
		{"certificateFile", func(s *hl7v2.Settings) { s.KeyFile, s.CertificateFile = "none", "none" }},
		{"keyFile", func(s *hl7v2.Settings) { s.KeyFile = "none" }},
		{"caFile", func(s *hl7v2.Settings) { s.CAFile = "none" }},
		{"connections", func(s *hl7v2.Settings) { s.Connections = 2000 }},
		{"queries", func(s *hl7v2.Settings) { s.Queries = nil }},
		{"queries", func(s *hl7v2.Settings) { s.Queries = []string{"Z1", "Z1"} }},
		{"queries", func(s *hl7v2.Settings) { s.Queries = []string{""} }},
		{"queries", func(s *hl7v2.Settings) { s.Queries = []string{"Z1|Z2"} }},
		{"queries", func(s *hl7v2.Settings) { s.Queries = []string{"Z1\rPID|1"} }},
		{"queries", func(s *hl7v2.Settings) { s.Queries = strings.Split(strings.Repeat("Z ", 17), " ") }},
		{"legacyQueries", func(s *hl7v2.Settings) { s.LegacyQueries = []string{"RES^x"} }},
		{"sendingApplication", func(s *hl7v2.Settings) { s.SendingApplication = "A|B" }},
		{"sendingFacility", func(s *hl7v2.Settings) { s.SendingFacility = "A\rB" }},
		{"receivingApplication", func(s *hl7v2.Settings) { s.ReceivingApplication = `A\B` }},
		{"receivingFacility", func(s *hl7v2.Settings) { s.ReceivingFacility = "é" }},
		{"processingID", func(s *hl7v2.Settings) { s.ProcessingID = "X" }},
		{"version", func(s *hl7v2.Settings) { s.Version = "3" }},
		{"count", func(s *hl7v2.Settings) { s.Count = 20_000 }},
		{"characterSet", func(s *hl7v2.Settings) { s.CharacterSet = "EBCDIC" }},
		{"nhsAuthorities", func(s *hl7v2.Settings) { s.NHSAuthorities = []string{"A^B"} }},
		{"resultCategory", func(s *hl7v2.Settings) { s.ResultCategory = "other" }},
	} {
		s := good
		c.change(&s)
		src, err := hl7v2.New(s)
		var bad *wire.SettingError
		if !errors.As(err, &bad) || bad.Field != c.field || strings.Contains(bad.Want, "secret") {
			t.Errorf("%s: got %v", c.field, err)
		}
		if err == nil {
			src.Close()
		}
	}
	s, err := hl7v2.New(good)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
