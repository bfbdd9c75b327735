package main

import (
	"fmt"
	"io"

	"github.com/mycarerecord/mycarerecord/cmd/internal/daemon"
	"github.com/mycarerecord/mycarerecord/test/cohort"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// print says where everything is, who can be asked for, as whom, and four things to try.
func (s *surroundings) print(out io.Writer, at daemon.Addresses, state string, people []cohort.Person) {
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	p("")
	p("My Care Record: a neighbourhood to try it in. Nobody here is real.")
	p("")
	p("  FHIR gateway   http://%s/fhir", at.REST)
	p("  gRPC           %s (with reflection)", at.GRPC)
	p("  operations     http://%s/readyz and /metrics", at.Operations)
	p("  token issuer   %s", s.issuerURL)
	p("  demographics   %s%s", s.demographics, simulator.DemographicsBase)
	for _, c := range s.custodians {
		n := s.neighbours[c.Key]
		p("  %-14s %s  %s, over %s", c.Key, n.address, c.Name, n.speaks)
	}
	for _, c := range s.custodians {
		if n := s.neighbours[c.Key]; n.carries() != "" {
			p("  %s: %s carries %s", c.Key, n.speaks, n.carries())
		}
	}
	p("  state          %s", state)
	p("")
	p("People:")
	for _, x := range people {
		p("  %s  %-24s %s", x.NHSNumber, x.Name, x.Note)
	}
	p("")
	p("Personas, for `mcr login -as` and the issuer's /token?as=:")
	for _, x := range simulator.Personas() {
		p("  %-14s %s", x.Name, x.Title)
	}
	if len(people) == 0 {
		return
	}
	who := people[0].NHSNumber
	p("")
	p("Four things to try, each as it stands:")
	p("")
	p("  1. Read a record as a timeline.")
	p("     go run ./cmd/mcr login -as gp -issuer %s -server %s -purpose TREAT -permission asked-yes -relationship registered && go run ./cmd/mcr record get %s", s.issuerURL, at.GRPC, who)
	p("")
	p("  2. The same over FHIR.")
	p("     curl -s -X POST 'http://%s/fhir/Patient/$everything' -H \"Authorization: Bearer $(curl -s '%s/token?as=gp')\" -H 'X-Purpose-Of-Use: TREAT' "+
		"-H 'X-Permission-To-View: asked-yes' -H 'X-Care-Relationship: registered' -H 'Content-Type: application/fhir+json' "+
		"-d '{\"resourceType\":\"Parameters\",\"parameter\":[{\"name\":\"identifier\",\"valueIdentifier\":{\"system\":\"https://fhir.nhs.uk/Id/nhs-number\",\"value\":\"%s\"}}]}'",
		at.REST, s.issuerURL, who)
	p("")
	p("  3. Let the hospital hang, and ask again: the others answer, and the answer says what is missing. (\"none\" makes it well.)")
	p("     curl -s -X POST %s/_sim/fault -d '{\"fault\":\"hang\"}' && go run ./cmd/mcr record get %s", s.sources["acute"], who)
	p("")
	p("  4. For information governance: who looked at this person? (README.md has the other questions.)")
	p("     go run ./cmd/mcr login -as ig-officer -issuer %s -server %s && go run ./cmd/mcr audit who %s -reason 'trying it out'", s.issuerURL, at.GRPC, who)
	p("")
	p("Ctrl-C ends it all.")
}
