package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"sync"

	"github.com/mycarerecord/mycarerecord/cmd/internal/daemon"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// surroundings is everything outside the broker.
type surroundings struct {
	custodians   []cohort.Custodian
	neighbours   map[string]neighbour // by custodian key
	sources      map[string]string    // origin by custodian key: where it can be told to go wrong
	demographics string               // origin
	issuer       *simulator.Issuer
	issuerURL    string
	invented     bool // the people are those of test/cohort

	closeOnce sync.Once
	servers   []*simulator.Server
	engines   []*simulator.Engine
	practices int           // that speak GP Connect
	spare     func() string // addresses of what custodians have beside their own
}

// surroundings starts the custodians, the demographics service and the issuer. What neighbours need of files goes into the state folder.
func (o options) surroundings(people []cohort.Person, state string) (_ *surroundings, err error) {
	s := &surroundings{custodians: cohort.Custodians(), neighbours: map[string]neighbour{}, sources: map[string]string{}, invented: o.cohort == "" && o.synthea == ""}
	further := map[string]map[string][]json.RawMessage{}
	if o.protocols == ownProtocols && s.invented {
		s.custodians, further = append(s.custodians, cohort.Further()...), cohort.FurtherRecords()
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	host, port, err := splitAddress("-sources", o.sources)
	if err != nil {
		return nil, err
	}
	// addresses returns what gives the address of one more server: the port after the last, or any.
	addresses := func(port int) func() string {
		return func() string {
			at := net.JoinHostPort(host, strconv.Itoa(port))
			if port != 0 {
				port++
			}
			return at
		}
	}
	next := addresses(port)
	if s.spare = next; port != 0 {
		s.spare = addresses(port + len(s.custodians) + 1) // after the custodians and the demographics service
	}
	for _, c := range s.custodians {
		held := map[string][]json.RawMessage{}
		maps.Copy(held, further[c.Key])
		for _, p := range people {
			if list := p.Records[c.Key]; list != nil {
				held[p.NHSNumber] = list
			}
		}
		if s.neighbours[c.Key], err = s.start(o.protocols == ownProtocols, state, c, held, next); err != nil {
			return nil, err
		}
	}
	demographics, err := simulator.NewDemographics(demographics(people))
	if err != nil {
		return nil, err //nolint:wrapcheck // says what
	}
	if s.demographics, err = s.listen("", demographics, next); err != nil {
		return nil, err
	}

	// The issuer's address stands in every token, so the listener comes first.
	if _, _, err := splitAddress("-issuer", o.issuer); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", o.issuer)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: is the port taken? Choose another with -issuer", o.issuer)
	}
	s.issuerURL = "http://" + listener.Addr().String()
	holders := map[string]simulator.Holder{}
	for _, p := range people {
		holders[p.NHSNumber] = simulator.Holder{Family: p.Family, BirthDate: p.BirthDate}
	}
	if s.issuer, err = simulator.NewIssuer(simulator.IssuerConfig{URL: s.issuerURL, Holders: holders}); err != nil {
		_ = listener.Close()
		return nil, err //nolint:wrapcheck // says what
	}
	s.servers = append(s.servers, simulator.Start(listener, s.issuer))
	return s, nil
}

// close ends all servers, those that hang included. It may be called more than once.
func (s *surroundings) close() {
	s.closeOnce.Do(func() {
		for _, x := range s.engines {
			x.Close()
		}
		for _, x := range s.servers {
			x.Close()
		}
	})
}

// demographics is what the demographics service is given.
func demographics(people []cohort.Person) []simulator.Demographic {
	var out []simulator.Demographic
	for _, p := range people {
		if p.Standing == cohort.Unknown {
			continue
		}
		out = append(out, simulator.Demographic{Number: p.NHSNumber, Standing: simulator.Standing(p.Standing), By: p.By, Patient: p.Patient})
	}
	return out
}

// recordObjections writes down what people have objected to, as an information governance officer does from a pile of forms.
func (s *surroundings) recordObjections(ctx context.Context, address string, people []cohort.Person) error {
	token, ok := s.issuer.Token("ig-officer")
	if !ok {
		return errors.New("the issuer has no information governance officer")
	}
	ctx, cancel := context.WithTimeout(ctx, startUp)
	defer cancel()
	return simulator.RecordWishes(ctx, address, token, wishes(people)) //nolint:wrapcheck // says what
}

// readyFile is what a driver of the demo needs to know.
type readyFile struct {
	REST     string            `json:"rest"`
	GRPC     string            `json:"grpc"`
	Ops      string            `json:"ops"`
	Issuer   string            `json:"issuer"`
	Sources  map[string]string `json:"sources"`
	Patients []readyPatient    `json:"patients"`
}

type readyPatient struct {
	NHSNumber string `json:"nhsNumber"`
	Name      string `json:"name"`
	Note      string `json:"note"`
	Bundle    string `json:"bundle"`
}

func (s *surroundings) ready(at daemon.Addresses, people []cohort.Person) readyFile {
	r := readyFile{REST: "http://" + at.REST, GRPC: at.GRPC, Ops: "http://" + at.Operations, Issuer: s.issuerURL, Sources: s.sources, Patients: []readyPatient{}}
	for _, p := range people {
		r.Patients = append(r.Patients, readyPatient{p.NHSNumber, p.Name, p.Note, p.Bundle})
	}
	return r
}

// splitAddress reads host:port of a flag.
func splitAddress(flag, address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	port, notNumber := strconv.Atoi(text)
	if err != nil || notNumber != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%s: give host:port, such as 127.0.0.1:0", flag)
	}
	return host, port, nil
}
