package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"go.yaml.in/yaml/v3"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// neighbour is one custodian of the neighbourhood: how it is reached, what it speaks, and what of its records that protocol carries.
type neighbour struct {
	adapter  string
	settings map[string]any
	address  string         // for people
	speaks   string         // for people
	held     int            // resources of everybody's records
	left     map[string]int // of those, what the protocol cannot carry, by type; of what it carries, elements, by Type.element
	asText   bool           // what it carries is text: nothing of it is coded any more
	sources  []namedNeighbour
}

// namedNeighbour is one of several ways to read a custodian.
type namedNeighbour struct {
	name string
	neighbour
}

// Names of files in the state folder that neighbours need.
const (
	clientKeyFile = "acute.key" // ours, at the hospital's token endpoint
	clientID      = "my-care-record"
	clientKeyID   = "demo"
	councilSecret = "demo-secret"
)

// Spine ids of the neighbourhood: invented, of the form that they have.
const (
	ourASID       = "200000000001"
	firstPractice = 200000000100
)

// The mapping files are those that adapters/socialcare is tested with; a test holds the copies to that.
var (
	//go:embed westmarch.yaml
	westmarch []byte
	//go:embed northmoor.yaml
	northmoor []byte
)

// listen starts a server for a neighbour.
func (s *surroundings) listen(key string, h http.Handler, next func() string) (origin string, err error) {
	server, err := simulator.Listen(next(), h)
	if err != nil {
		return "", fmt.Errorf("%w Choose other ports with -sources", err)
	}
	s.servers = append(s.servers, server)
	if key != "" {
		s.sources[key] = server.URL()
	}
	return server.URL(), nil
}

// start starts a custodian that speaks what such organisations speak, or FHIR R4.
func (s *surroundings) start(own bool, state string, c cohort.Custodian, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	switch {
	case !own:
	case c.Kind == "gp":
		return s.practice(c, people, next)
	case c.Kind == "social-care":
		return s.council(state, c, people, next)
	case c.Key == "infirmary":
		return s.engine(c, people, next)
	case c.Kind == "acute":
		return s.hospital(state, c, people, next)
	case c.Kind == "ambulance":
		return s.ambulance(state, c, people, next)
	case c.Kind == "mental-health" && s.invented:
		return s.mentalHealth(state, c, people, next)
	}
	return s.fhir(c, nil, people, next)
}

// fhir starts a FHIR R4 server; backend says whom it lets in, nil is anybody.
func (s *surroundings) fhir(c cohort.Custodian, backend *simulator.Backend, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	sim, err := simulator.NewCustodian(simulator.CustodianConfig{Name: c.Name, Everything: c.Everything, PageSize: c.PageSize, Backend: backend, People: people})
	if err != nil {
		return neighbour{}, err //nolint:wrapcheck // says who and what
	}
	origin, err := s.listen(c.Key, sim, next)
	return neighbour{adapter: "fhirr4", settings: map[string]any{"baseURL": origin + "/fhir", "allowPlainHTTP": true}, address: origin + "/fhir", speaks: "FHIR R4", held: count(people)}, err
}

// hospital starts a FHIR R4 server with SMART Backend Services, and writes our key for it.
func (s *surroundings) hospital(state string, c cohort.Custodian, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return neighbour{}, errors.New("no key can be made for the hospital")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return neighbour{}, errors.New("no key can be written for the hospital")
	}
	if err := writeFile(filepath.Join(state, clientKeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return neighbour{}, err
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: clientKeyID, Algorithm: "ES384", Use: "sig"}}})
	if err != nil {
		return neighbour{}, errors.New("no key can be registered at the hospital")
	}
	n, err := s.fhir(c, &simulator.Backend{ClientID: clientID, Keys: keys}, people, next)
	if err != nil {
		return n, err
	}
	n.speaks = "FHIR R4 with SMART Backend Services"
	n.settings["clientID"], n.settings["clientKeyFile"], n.settings["clientKeyID"] = clientID, clientKeyFile, clientKeyID
	return n, nil
}

// practice starts a general practice behind a Spine Secure Proxy, with as much of everybody's record as GP Connect carries.
func (s *surroundings) practice(c cohort.Custodian, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	asid := fmt.Sprint(firstPractice + s.practices)
	s.practices++
	n := neighbour{adapter: "gpconnect", speaks: "GP Connect (FHIR STU3)", held: count(people), left: map[string]int{}}
	cfg := simulator.PracticeConfig{Name: c.Name, ODS: c.ODS, ASID: asid, Allow: []string{ourASID}, People: map[string]simulator.GPRecord{}}
	for number, list := range people {
		rec, left, err := simulator.PracticeRecord(list)
		if err != nil {
			return n, err //nolint:wrapcheck // says what
		}
		cfg.People[number] = rec
		for what, times := range left {
			n.left[what] += times
		}
	}
	sim, err := simulator.NewPractice(cfg)
	if err != nil {
		return n, err //nolint:wrapcheck // says who and what
	}
	origin, err := s.listen(c.Key, sim, next)
	if err != nil {
		return n, err
	}
	proxy, err := s.listen("", &simulator.Spine{Practices: map[string]*simulator.Practice{origin: sim}, Contracts: []string{ourASID}}, s.spare)
	n.address = origin + "/" + c.ODS + "/STU3/1/gpconnect/structured"
	n.settings = map[string]any{"baseURL": n.address, "proxyURL": proxy, "allowPlainHTTP": true, "fromASID": ourASID, "toASID": asid, "issuer": "https://record.example"}
	return n, err
}

// engine starts a trust's integration engine, with as much of everybody's record as HL7 v2 carries.
func (s *surroundings) engine(c cohort.Custodian, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	sim, err := simulator.NewEngine(simulator.EngineConfig{Facility: c.ODS, PageSize: c.PageSize, People: people})
	if err != nil {
		return neighbour{}, err //nolint:wrapcheck // says who and what
	}
	if _, err := s.listen(c.Key, sim, next); err != nil {
		return neighbour{}, err
	}
	var lc net.ListenConfig
	at := s.spare()
	listener, err := lc.Listen(context.Background(), "tcp", at)
	if err != nil {
		return neighbour{}, fmt.Errorf("cannot listen on %s: is the port taken? Choose other ports with -sources", at)
	}
	sim.ServeMLLP(listener)
	s.engines = append(s.engines, sim)
	address := "mllp://" + listener.Addr().String()
	return neighbour{adapter: "hl7v2", speaks: "HL7 v2 (MLLP)", address: address, held: count(people), left: sim.LeftOut(),
		settings: map[string]any{"address": address, "allowPlainTCP": true, "queries": []string{simulator.QueryVisits, simulator.QueryResults, simulator.QueryDocuments}}}, nil
}

// council starts a council's case-management system, with as much of everybody's record as its words carry, and writes its mapping and our secret.
func (s *surroundings) council(state string, c cohort.Custodian, people map[string][]json.RawMessage, next func() string) (neighbour, error) {
	dialect, mapping := simulator.Westmarch, westmarch
	if c.Key == string(simulator.Northmoor) {
		dialect, mapping = simulator.Northmoor, northmoor
	}
	files := map[string]string{"mappingFile": c.Key + ".mapping.yaml", "clientSecretFile": c.Key + ".secret"}
	if err := writeFile(filepath.Join(state, files["mappingFile"]), mapping); err != nil {
		return neighbour{}, err
	}
	if err := writeFile(filepath.Join(state, files["clientSecretFile"]), []byte(councilSecret+"\n")); err != nil {
		return neighbour{}, err
	}
	sim, err := simulator.NewCouncil(simulator.CouncilConfig{Dialect: dialect, PageSize: c.PageSize, People: people, ClientID: clientID, Secret: councilSecret})
	if err != nil {
		return neighbour{}, err //nolint:wrapcheck // says who and what
	}
	origin, err := s.listen(c.Key, sim, next)
	return neighbour{adapter: "socialcare", speaks: "its case-management API", address: origin + "/api", held: count(people), left: sim.LeftOut(),
		settings: map[string]any{"baseURL": origin + "/api", "allowPlainHTTP": true, "tokenURL": origin + "/oauth2/token", "clientID": clientID,
			"mappingFile": files["mappingFile"], "clientSecretFile": files["clientSecretFile"]}}, err
}

func count(people map[string][]json.RawMessage) int {
	n := 0
	for _, list := range people {
		n += len(list)
	}
	return n
}

// node is the settings as they stand in a configuration file.
func (n neighbour) node() yaml.Node {
	var out yaml.Node
	if err := out.Encode(n.settings); err != nil {
		panic(err) // texts and words
	}
	return out
}

// carries says what the protocol carries of the records, and what not; "" where it carries all.
func (n neighbour) carries() string {
	carried := n.held
	var types, elements []string
	for _, what := range slices.Sorted(maps.Keys(n.left)) {
		text := fmt.Sprintf("%s %d", what, n.left[what])
		if strings.Contains(what, ".") {
			elements = append(elements, text)
		} else {
			types = append(types, text)
			carried -= n.left[what]
		}
	}
	text := fmt.Sprintf("%d of %d resources.", carried, n.held)
	if n.asText {
		text = fmt.Sprintf("%d of %d resources, as text without codes.", carried, n.held)
	}
	switch {
	case len(types)+len(elements) > 0:
		return text + " Left out: " + strings.Join(append(types, elements...), ", ") + "."
	case n.asText:
		return text
	}
	return ""
}
