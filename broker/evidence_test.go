package broker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/audit/audittest"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// compared is a list of staff that says one thing of everybody.
type compared audit.Evidence

// Compare implements broker.Staff.
func (c compared) Compare(record.Requester, record.Subject) audit.Evidence { return audit.Evidence(c) }

// The entries of an access hold what rules may look at: what lists say before anybody is asked, and what the record told of encounters, appointments and
// referrals at the requester's organisation; of somebody else's, nothing. Whole or in pieces, it is the same.
func TestEvidence(t *testing.T) {
	day := func(n int) string { return time.Now().UTC().AddDate(0, 0, n).Format(time.DateOnly) }
	encounter := func(id, status, on, more string) string {
		return fmt.Sprintf(`{"resourceType":"Encounter","id":%q,"status":%q,"class":{"code":"AMB"},"subject":{"reference":"Patient/p1"},"period":{"start":%q,"end":%q}%s}`, id, status, on, on, more)
	}
	appointment := func(id string, in time.Duration, actor string) string {
		start := time.Now().Add(in).UTC()
		return fmt.Sprintf(`{"resourceType":"Appointment","id":%q,"status":"booked","start":%q,"end":%q,"participant":[{"status":"accepted","actor":{"reference":"Patient/p1"}},{"status":"accepted","actor":{"reference":%q}}]}`, id, start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339), actor)
	}
	const organisation = `{"resourceType":"Organization","id":"org1","identifier":[{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"X9B01"}],"name":"Eastvale"}`
	const doctor = `{"resourceType":"Practitioner","id":"dr1","identifier":[{"system":"https://fhir.nhs.uk/Id/sds-user-id","value":"555001112223"}]}`
	const role = `{"resourceType":"PractitionerRole","id":"role1","organization":{"reference":"Organization/org1"}}`
	for name, c := range map[string]struct {
		gp, acute []string
		want      audit.Evidence
	}{
		"nothing there at all":    {nil, nil, audit.Evidence{Record: true, OwnHeard: true}},
		"nothing there":           {nil, nil, audit.Evidence{Record: true, OwnHeard: true}},
		"an encounter of our own": {nil, []string{encounter("e1", "finished", day(-5), "")}, audit.Evidence{Record: true, OwnHeard: true, Near: []audit.Near{{Kind: audit.NearEncounter, Days: 4}}}},
		"the nearest of two": {nil, []string{encounter("e1", "finished", day(-40), ""), encounter("e2", "finished", day(0), "")},
			audit.Evidence{Record: true, OwnHeard: true, Near: []audit.Near{{Kind: audit.NearEncounter}}}},
		"one that was cancelled": {nil, []string{encounter("e1", "cancelled", day(0), "")}, audit.Evidence{Record: true, OwnHeard: true}},
		"somebody else's":        {[]string{encounter("e1", "finished", day(0), "")}, nil, audit.Evidence{Record: true, OwnHeard: true}},
		"somebody else's, at ours": {[]string{encounter("e1", "finished", day(0), `,"serviceProvider":{"reference":"Organization/org1"}`), organisation}, nil,
			audit.Evidence{Record: true, OwnHeard: true, Near: []audit.Near{{Kind: audit.NearEncounter}}}},
		"an appointment to come, with one of ours": {[]string{appointment("a1", 8*24*time.Hour+12*time.Hour, "PractitionerRole/role1"), role, organisation}, nil,
			audit.Evidence{Record: true, OwnHeard: true, Near: []audit.Near{{Kind: audit.NearAppointment, Days: 8}}}},
		"the requester themselves": {nil, []string{encounter("e1", "finished", day(-3), `,"participant":[{"individual":{"reference":"Practitioner/dr1"}}]`), doctor},
			audit.Evidence{Record: true, OwnHeard: true, CareTeam: true, Near: []audit.Near{{Kind: audit.NearEncounter, Days: 2}}}},
	} {
		t.Run(name, func(t *testing.T) {
			l := audittest.Open(t)
			h := open(t, l, func(c *broker.Config) { c.Staff = compared{Staff: true, Colleague: true, Surname: 2} })
			h.sources[0].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
				return reply("gp", q.Subject.Number, append(c.gp, observation("o1", "2024-05-01", "x"))...), nil
			}
			h.sources[1].answer = func(_ context.Context, q broker.Query) (broker.Reply, error) {
				if name == "nothing there at all" {
					return broker.Reply{}, broker.ErrNoRecord
				}
				return reply("acute", q.Subject.Number, append(c.acute, observation("o1", "2024-05-01", "x"))...), nil
			}
			req := question(number(t, "9990000018"))
			req.Requester.Organisation = "X9B01"
			req.Arrived = time.Now()
			if _, err := h.Retrieve(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			req.Face = "stream"
			if err := h.Stream(t.Context(), req, &recorder{}); err != nil {
				t.Fatal(err)
			}
			list, _, err := l.Follow(t.Context(), 0, 100)
			if err != nil {
				t.Fatal(err)
			}
			begun, told := 0, 0
			for _, f := range list {
				switch f.Type {
				case audit.TypeBegin:
					if begun++; f.Access.Evidence == nil || !f.Access.Evidence.Colleague || f.Access.Evidence.Surname != 2 || f.Access.Evidence.Record {
						t.Errorf("begun with %+v", f.Access.Evidence)
					}
				case audit.TypeReleased:
					told++
					got := f.Disclosure.Evidence
					if got == nil || got.Record != c.want.Record || got.OwnHeard != c.want.OwnHeard || got.CareTeam != c.want.CareTeam || !slices.Equal(got.Near, c.want.Near) {
						t.Errorf("told %+v, want %+v", got, c.want)
					}
				}
			}
			if begun != 2 || told != 2 {
				t.Errorf("%d accesses and %d ends", begun, told)
			}
			verified(t, l)
		})
	}
}

// What the requester's organisation holds and was not heard is not nothing; a request that was never about the whole record tells nothing; and a number that
// fails its check digit is counted.
func TestEvidenceThatIsNone(t *testing.T) {
	l := audittest.Open(t)
	h := open(t, l, quick)
	h.sources[1].answer = func(context.Context, broker.Query) (broker.Reply, error) {
		return broker.Reply{}, broker.ErrUnavailable
	}
	req := question(number(t, "9990000018"))
	req.Requester.Organisation = "X9B01"
	if _, err := h.Retrieve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	req.Filter.Types = []string{"Observation"}
	if _, err := h.Retrieve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	req.Requester.Organisation = "X9Z01"
	req.Filter.Types = nil
	if _, err := h.Retrieve(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RefuseUnread(t.Context(), broker.Request{ID: "r", Face: "grpc", Requester: clinician, Role: clinical, BadNumber: true, Arrived: time.Now()}); err != nil {
		t.Fatal(err)
	}
	list, _, err := l.Follow(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var told []*audit.Evidence
	for _, f := range list {
		switch {
		case f.Type == audit.TypeReleased:
			told = append(told, f.Disclosure.Evidence)
		case f.Type == audit.TypeRefused && f.Access != nil && f.Access.Reason == consent.ReasonUnread:
			if f.Access.Evidence == nil || !f.Access.Evidence.BadNumber {
				t.Error("a number that is none is not counted")
			}
		}
	}
	if len(told) != 3 || told[0] == nil || told[0].OwnHeard || !told[0].Record || told[1] != nil || told[2] == nil || told[2].OwnHeard {
		t.Errorf("told %+v", told)
	}
}
