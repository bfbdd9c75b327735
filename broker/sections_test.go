package broker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// A region's rules change the sections of an answer, what an objection withholds, and whether a custodian is asked at all: all three from the one file.
func TestRegionsSections(t *testing.T) {
	const region = `extends default
codes inhaled  http://loinc.org|72166-2
instead community Observation where code.coding in inhaled from gp
home   emergency 111
home   none      pharmacy
`
	rules, err := merge.ParseSections([]byte(region))
	if err != nil {
		t.Fatal(err)
	}
	smoker := strings.Replace(observation("o1", "2024-05-01", "zqsmoker"), `"code":{`, `"code":{"coding":[{"system":"http://loinc.org","code":"72166-2"}],`, 1)
	for _, c := range []struct {
		name                            string
		rules                           *merge.SectionRules
		section                         string // of the observation at the practice
		withheld, asked111, askedPharma bool   // with an objection to emergency, community and pharmacy
	}{
		{"shipped", nil, "results", false, true, false},
		{"region", rules, "community", true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := audittest.Open(t)
			h := open(t, l, func(cfg *broker.Config) { cfg.Sections = c.rules })
			h.sources[0].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
				return reply("gp", q.Subject.Number, smoker), nil
			}
			res, err := h.Retrieve(t.Context(), question(number(t, ann)))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, e := range res.Answer.Entries {
				if e.Custodian == "gp" && e.Type == "Observation" {
					got = e.Section.Code()
				}
			}
			if got != c.section || !strings.Contains(bundle(t, res.Answer), `"code":"`+c.section+`"`) {
				t.Errorf("the observation is in %q, want %s", got, c.section)
			}
			for _, s := range []record.Section{record.Emergency, record.Community, record.Pharmacy} {
				if _, _, err := h.RecordObjection(t.Context(), objecting(number(t, ann)), consent.Objection{Scope: consent.ToSection, Section: s}); err != nil {
					t.Fatal(err)
				}
			}
			before := map[record.CustodianKey]int64{}
			for _, s := range h.sources {
				before[s.key] = s.asked.Load()
			}
			res, err = h.Retrieve(t.Context(), question(number(t, ann)))
			if err != nil {
				t.Fatal(err)
			}
			if got := !strings.Contains(bundle(t, res.Answer), "zqsmoker"); got != c.withheld {
				t.Errorf("withheld: %t, want %t", got, c.withheld)
			}
			for _, s := range h.sources {
				asked := s.asked.Load() > before[s.key]
				if s.key == "nhs111" && asked != c.asked111 || s.key == "pharmacy" && asked != c.askedPharma {
					t.Errorf("%s was asked: %t", s.key, asked)
				}
			}
			verified(t, l)
		})
	}
}
