package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Spine ids of the neighbourhood: invented, of the form that they have.
const (
	ourASID      = "200000000001"
	practiceASID = "200000000100"
)

// practice is a general practice that speaks GP Connect.
type practice struct {
	base, proxy   string // its address, and that of the Spine Secure Proxy
	held, carried int    // resources of everybody's records, and those that the protocol carries
	uncarried     map[string]int
}

// practice starts a general practice behind a Spine Secure Proxy, with as much of everybody's record as GP Connect carries.
func (s *surroundings) practice(c cohort.Custodian, people map[string][]json.RawMessage, next func() string) error {
	p := practice{uncarried: map[string]int{}}
	cfg := simulator.PracticeConfig{Name: c.Name, ODS: c.ODS, ASID: practiceASID, Allow: []string{ourASID}, People: map[string]simulator.GPRecord{}}
	for number, list := range people {
		rec, left, err := simulator.PracticeRecord(list)
		if err != nil {
			return err //nolint:wrapcheck // says what
		}
		cfg.People[number] = rec
		p.held += len(list)
		for what, n := range left {
			if p.uncarried[what] += n; !strings.Contains(what, ".") {
				p.carried -= n
			}
		}
	}
	p.carried += p.held
	sim, err := simulator.NewPractice(cfg)
	if err != nil {
		return err //nolint:wrapcheck // says who and what
	}
	server, err := simulator.Listen(next(), sim)
	if err != nil {
		return fmt.Errorf("%w Choose other ports with -sources", err)
	}
	s.servers = append(s.servers, server)
	s.sources[c.Key], p.base = server.URL(), server.URL()+"/"+c.ODS+"/STU3/1/gpconnect/structured"
	proxy, err := simulator.Listen(next(), &simulator.Spine{Practices: map[string]*simulator.Practice{server.URL(): sim}, Contracts: []string{ourASID}})
	if err != nil {
		return fmt.Errorf("%w Choose other ports with -sources", err)
	}
	s.servers = append(s.servers, proxy)
	p.proxy = proxy.URL()
	s.practices[c.Key] = p
	return nil
}

// settings are those of the adapter.
func (p practice) settings() yaml.Node {
	var n yaml.Node
	if err := n.Encode(map[string]any{"baseURL": p.base, "proxyURL": p.proxy, "allowPlainHTTP": true, "fromASID": ourASID, "toASID": practiceASID,
		"issuer": "https://record.example"}); err != nil {
		panic(err) // texts and a word
	}
	return n
}

// left says what GP Connect cannot carry.
func (p practice) left() string {
	var types, elements []string
	for _, what := range slices.Sorted(maps.Keys(p.uncarried)) {
		text := fmt.Sprintf("%s %d", what, p.uncarried[what])
		if strings.Contains(what, ".") {
			elements = append(elements, text)
		} else {
			types = append(types, text)
		}
	}
	if len(types)+len(elements) == 0 {
		return "Nothing is left out."
	}
	return "Left out: " + strings.Join(append(types, elements...), ", ") + "."
}
