package test

import (
	"strings"
	"testing"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// TestSyntheaInOwnProtocols asks for each of the Synthea people where practices speak GP Connect, the hospital lets in by token, the council has an API of
// its own and the ambulance service documents: no custodian is in trouble, each that holds something shows it, and what is not whole says why. What a
// protocol cannot carry is counted on the screen, and not in the answers: the custodian does not hold it then.
func TestSyntheaInOwnProtocols(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the whole demo")
	}
	n := neighbourhood.Start(t, neighbourhood.Options{Flags: []string{"-synthea", neighbourhood.Data(t, "synthea-r4"), "-protocols", "own"}})
	m := readManifest(t, n.State)
	conn := n.Dial(t)
	token := n.Token(t, "ed-doctor")
	returned, parts, shown := 0, 0, 0
	for _, p := range m.People {
		res := getRecord(t, conn, token, p.NHSNumber)
		for _, s := range res.GetCustodians() {
			key := s.GetCustodian().GetKey()
			_, holds := p.Custodians[key]
			switch state := s.GetState(); {
			case state == mycarerecordv1.CustodianState_CUSTODIAN_STATE_RETURNED && holds && len(s.GetParts()) == 0 && s.GetShown() > 0:
				returned++
			case state == mycarerecordv1.CustodianState_CUSTODIAN_STATE_RETURNED_IN_PART && holds && len(s.GetParts()) > 0 && s.GetShown() > 0:
				parts++
			case state == mycarerecordv1.CustodianState_CUSTODIAN_STATE_NO_RECORD && (!holds || key == "ambulance"): // a record that says nothing in words is no document
			default:
				t.Errorf("%s is %v with %d shown, and holds something: %v", key, state, s.GetShown(), holds)
			}
			shown += int(s.GetShown())
		}
		for _, want := range []string{"gpconnect/2", "FHIR STU3 to R4"} {
			if _, holds := p.Custodians["gp"]; holds && !strings.Contains(string(res.GetBundle()), want) {
				t.Errorf("an answer with a practice in it does not say %q", want)
			}
		}
	}
	t.Logf("%d people: %d custodians returned all, %d in part; %d resources shown", len(m.People), returned, parts, shown)
	if returned < len(m.People) {
		t.Error("fewer custodians returned something than there are people")
	}
}
