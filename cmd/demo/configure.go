package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/mycarerecord/mycarerecord/cmd/internal/daemon"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Names of files in the state folder.
const (
	configFile     = "broker.yaml"
	keysFolder     = "keys"
	ledgerFile     = "ledger.db"
	engineKeysFile = "engine.jwks.json" // public, for the broker
	engineKeyFile  = "engine.jwk.json"  // private, for whoever wants to play the engine
)

// configure writes the broker's configuration and what it names, and reads it back as the daemon does.
func (o options) configure(state string, s *surroundings) (daemon.Config, error) {
	rest, err := fixedPort(o.rest)
	if err != nil {
		return daemon.Config{}, err
	}
	if err := writeFile(filepath.Join(state, engineKeysFile), s.issuer.EngineKeys()); err != nil {
		return daemon.Config{}, err
	}
	if err := writeFile(filepath.Join(state, engineKeyFile), s.issuer.EngineKey()); err != nil {
		return daemon.Config{}, err
	}
	keys := filepath.Join(state, keysFolder)
	if _, err := os.Stat(keys); errors.Is(err, os.ErrNotExist) {
		if err := daemon.CreateKeys(keys); err != nil {
			return daemon.Config{}, err //nolint:wrapcheck // says which file
		}
	}
	cfg := daemon.Config{
		Listen:       daemon.Listen{REST: rest, GRPC: o.grpc, Operations: o.ops},
		PublicBase:   "http://" + rest + "/fhir",
		Ledger:       daemon.Ledger{Path: ledgerFile, Keys: keysFolder, Origin: "mycarerecord.example/demo"},
		Demographics: daemon.Demographics{Kind: "pds", Settings: settings(s.demographics + simulator.DemographicsBase)},
		Audience:     simulator.Audience,
		Issuers: []daemon.Issuer{{URL: s.issuerURL, Algorithms: []string{"ES256"}, VouchesFor: []string{"staff", "person", "system"},
			AllowPlainHTTP: true}},
		Clients:     []daemon.Client{{ID: simulator.EngineClient, Organisations: nil, JWKSFile: engineKeysFile}},
		Reflection:  true,
		TestNumbers: true,
		// One persona stands for a whole profession here.
		Limits: daemon.Limits{PerUser: 1000, PerUserBurst: 5000},
	}
	cfg.Clients[0].Organisations = append(cfg.Clients[0].Organisations, simulator.EngineODS)
	for _, c := range s.custodians {
		x := daemon.Custodian{Name: c.Name, Contact: c.Contact, Adapter: "fhirr4", Settings: settings(s.sources[c.Key] + "/fhir")}
		// The types are the daemon's; the words are the cohort's.
		setText(&x.Key, c.Key)
		setText(&x.ODS, c.ODS)
		setText(&x.Kind, c.Kind)
		if s.invented {
			x.LabelsEntered, x.LabelsNoPatient = c.LabelsEntered, c.LabelsNoPatient
		}
		cfg.Custodians = append(cfg.Custodians, x)
	}
	text, err := yaml.Marshal(cfg)
	if err != nil {
		return daemon.Config{}, errors.New("the configuration cannot be written as YAML")
	}
	path := filepath.Join(state, configFile)
	if err := writeFile(path, text); err != nil {
		return daemon.Config{}, err
	}
	return daemon.Load(path) //nolint:wrapcheck // says what is wrong, by line and key
}

// setText sets a word of the daemon's own type.
func setText[T ~string](to *T, text string) { *to = T(text) }

// settings are those of an adapter that speaks to this machine.
func settings(address string) yaml.Node {
	var n yaml.Node
	if err := n.Encode(map[string]any{"baseURL": address, "allowPlainHTTP": true}); err != nil {
		panic(err) // a text and a word
	}
	return n
}

// fixedPort finds a free port for port 0. The gateway's own address stands in every answer, so it must be known before the daemon starts.
func fixedPort(address string) (string, error) {
	_, port, err := splitAddress("-rest", address)
	if err != nil || port != 0 {
		return address, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return "", fmt.Errorf("cannot listen on %s: is it an address of this machine? Choose another with -rest", address)
	}
	defer func() { _ = l.Close() }() // the daemon takes the port
	return l.Addr().String(), nil
}
