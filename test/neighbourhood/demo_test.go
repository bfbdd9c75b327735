package neighbourhood_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	mycarerecordv1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// TestDemo drives the real demo through everything that this package offers: one custodian is down, one request is made, and it stops at
// once, with nothing left behind.
func TestDemo(t *testing.T) {
	n := neighbourhood.Start(t, neighbourhood.Options{})
	if n.Ready > 20*time.Second {
		t.Errorf("ready after %v, want less than 20 s", n.Ready)
	}
	held := n.Held(t, "gp", n.People[0].NHSNumber)
	if len(held) < 2 || held[0].Type != "Patient" {
		t.Errorf("the practice holds %d resources of the first person", len(held))
	}
	before := n.Requests(t, "pharmacy")
	n.Fault(t, "pharmacy", "down", 0, 0)
	res := n.Post(t, "/fhir/Patient/$everything", neighbourhood.Treating(n.Token(t, "ed-doctor")), parameters(t, n.People[0].NHSNumber))
	if res.Status != http.StatusOK || !strings.Contains(string(res.Body), `"outcome-pharmacy"`) {
		t.Errorf("with one custodian down: %v, or no outcome for it", res)
	}
	if after := n.Requests(t, "pharmacy"); after.Record <= before.Record {
		t.Error("the custodian that is down does not count the requests that it cut off")
	}
	n.Fault(t, "pharmacy", "none", 0, 0)
	list, err := mycarerecordv1.NewRecordServiceClient(n.Dial(t)).ListCustodians(
		neighbourhood.Bearing(t, n.Token(t, "gp", "ttl=60")), &mycarerecordv1.ListCustodiansRequest{})
	if err != nil || len(list.GetCustodians()) != len(n.Sources) {
		t.Errorf("ListCustodians: code %v, %d custodians", status.Code(err), len(list.GetCustodians()))
	}
	if _, err := mycarerecordv1.NewRecordServiceClient(n.Dial(t)).ListCustodians(
		neighbourhood.Bearing(t, "nonsense"), &mycarerecordv1.ListCustodiansRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a token that is none gives code %v", status.Code(err))
	}
	if m := n.Metrics(t); !strings.Contains(m, "# TYPE") {
		t.Error("/metrics holds no metrics")
	}
	if took := n.Stop(t); took > 2*time.Second {
		t.Errorf("it took %v to stop, want at most 2 s", took)
	}
	if _, err := os.Stat(n.State); err != nil {
		t.Error("the state folder that was named did not stay")
	}
}

func parameters(t *testing.T, number string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "identifier", "valueIdentifier": map[string]any{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}}}})
	if err != nil {
		t.Fatal("no body")
	}
	return body
}
