package socialcare_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

// Each fault of a council ends, in a whole broker, in the state and in the breaker's verdict of design section 6. That somebody is not known, or that the
// council withholds, or asks us to wait, says nothing against it. The other custodian is delivered whole in every case.
func TestStatesAndBreaker(t *testing.T) {
	for _, c := range []struct {
		fault simulator.Fault
		state record.State
		open  bool // the breaker, after as many calls as it takes
	}{
		{simulator.FaultNone, record.Returned, false},
		{simulator.FaultNoRecord, record.NoRecord, false},
		{simulator.FaultNoConsent, record.Withheld, false},
		{simulator.FaultUnauthorised, record.Failed, false},
		{simulator.FaultMixedPatients, record.ReturnedInPart, false},
		{simulator.FaultDown, record.Unavailable, true},
		{simulator.FaultHang, record.TimedOut, true},
		{simulator.FaultTrickle, record.TimedOut, true},
		{simulator.FaultError500, record.Failed, true},
		{simulator.FaultGarbage, record.Failed, true},
		{simulator.FaultTruncated, record.Failed, true},
		{simulator.FaultHuge, record.Failed, true},
		{simulator.FaultGzipBomb, record.Failed, true},
		{simulator.FaultDeep, record.Failed, true},
		{simulator.FaultDuplicateKeys, record.Failed, true},
		{simulator.FaultBadUTF8, record.Failed, true},
		{simulator.FaultPageLoop, record.Failed, true},
		{simulator.FaultPageElsewhere, record.Failed, true},
		{simulator.FaultWrongPatient, record.Failed, true},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			t.Parallel()
			co := newCouncil(t, simulator.Westmarch, func(cfg *simulator.CouncilConfig) { cfg.People = map[string][]json.RawMessage{brokertest.Ann: ann()} })
			if err := co.SetFault(simulator.FaultSpec{Fault: c.fault}); err != nil {
				t.Fatal(err)
			}
			s := co.source(t)
			const failures = 2
			b := brokertest.Open(t, func(cfg *broker.Config) {
				cfg.BreakerFailures = failures
				cfg.Limits.Bytes = 2 << 20 // a huge answer is cut sooner
				cfg.Custodians[1].Rules.Custodian.Kind = record.KindSocialCare
				cfg.Custodians[1].Source = s
				if c.state == record.TimedOut {
					cfg.Custodians[1].Timeout = 600 * time.Millisecond
				}
			})
			verdict := func() string { return b.Custodians()[1].Breaker }
			// A deadline that this machine, which has much to do, notices late says nothing against the custodian, and does not count.
			for n := 0; n < failures || c.state == record.TimedOut && verdict() != "open" && n < 3*failures; n++ {
				res, err := b.Retrieve(t.Context(), request(t))
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if got := res.Answer.Statuses; got[1].State != c.state || got[0].State != record.Returned {
					t.Errorf("the states are %s and %s, want %s and %s", got[0].State, got[1].State, record.Returned, c.state)
				}
				res.Done()
			}
			if got := verdict(); (got == "open") != c.open {
				t.Errorf("the breaker is %s, open should be %v", got, c.open)
			}
		})
	}
}

// ann is what the council holds of the person whom the broker of the tests knows.
func ann() []json.RawMessage {
	return append([]json.RawMessage{json.RawMessage(`{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"` + brokertest.Ann + `"}],` +
		`"name":[{"family":"Ashdown","given":["Ann"]}],"gender":"female","birthDate":"` + brokertest.AnnBirthDate + `"}`)}, person(brokertest.Ann)[1:]...)
}

func request(t *testing.T) broker.Request {
	t.Helper()
	clinician := record.Requester{Kind: record.Professional, User: "555001112223", Name: "Dr Test", RoleProfile: "555001112224", JobRole: "R8000", Organisation: "X9Z01",
		Client: "epr", Issuer: "https://issuer.example"}
	clinical := consent.Role{Name: "clinical", Version: "v", Sections: map[record.Purpose]record.Sections{record.Treatment: record.AllSections}}
	return broker.Request{ID: "req-1", Face: "rest", Operation: "everything", Subject: number(t, brokertest.Ann), Requester: clinician, Role: clinical, Purpose: record.Treatment,
		Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Arrived: time.Now()}
}
