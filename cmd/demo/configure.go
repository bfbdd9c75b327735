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

// configure writes the broker's configuration and what it names, and reads it back as the daemon does. rest is the address of the gateway: it
// stands in every answer.
func (o options) configure(state string, s *surroundings, rest string) (daemon.Config, error) {
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
		Demographics: daemon.Demographics{Kind: "pds", Settings: settings(s.demographics + simulator.DemographicsBase), ListTraces: 16, ListTraceRate: 5000},
		Audience:     simulator.Audience,
		Issuers: []daemon.Issuer{{URL: s.issuerURL, Algorithms: []string{"ES256"}, VouchesFor: []string{"staff", "person", "system"},
			AllowPlainHTTP: true}},
		Clients:     []daemon.Client{{ID: simulator.EngineClient, Organisations: nil, JWKSFile: engineKeysFile}},
		Reflection:  true,
		Exclusions:  "none", // nobody here is real; with the built-in list every custodian's answer says that something may be withheld
		TestNumbers: true,
		// One persona stands for a whole profession here.
		Limits: daemon.Limits{PerUser: 1000, PerUserBurst: 5000},
	}
	cfg.Clients[0].Organisations = append(cfg.Clients[0].Organisations, simulator.EngineODS)
	for _, c := range s.custodians {
		n := s.neighbours[c.Key]
		x := daemon.Custodian{Name: c.Name, Contact: c.Contact}
		if len(n.sources) == 0 {
			x.Adapter, x.Settings = n.adapter, n.node()
		}
		for _, each := range n.sources {
			x.Sources = append(x.Sources, daemon.Source{Name: each.name, Adapter: each.adapter, Settings: each.node()})
		}
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

// gateway listens for the gateway where its port may be any, so that the port is known when the configuration is written and nobody takes it
// meanwhile. For a given port it returns no listener: the daemon will listen there.
func (o options) gateway() (address string, l net.Listener, err error) {
	_, port, err := splitAddress("-rest", o.rest)
	if err != nil || port != 0 {
		return o.rest, nil, err
	}
	var lc net.ListenConfig
	if l, err = lc.Listen(context.Background(), "tcp", o.rest); err != nil {
		return "", nil, fmt.Errorf("cannot listen on %s: is it an address of this machine? Choose another with -rest", o.rest)
	}
	return l.Addr().String(), l, nil
}
