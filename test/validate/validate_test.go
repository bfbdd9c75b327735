package validate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/fhir/go/fhirversion"
	"github.com/google/fhir/go/jsonformat"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

func TestMain(m *testing.M) { os.Exit(neighbourhood.Main(m)) }

// TestSynthea asks for each of the Synthea people.
func TestSynthea(t *testing.T) {
	dir := neighbourhood.Data(t, "synthea-r4")
	n := neighbourhood.Start(t, neighbourhood.Options{Flags: []string{"-synthea", dir}})
	if all := everybody(t, n); all.people != 11 {
		t.Errorf("%d people were answered, want 11", all.people)
	}
}

// TestInvented asks for each of the invented people; some of them may not be shown at all, and that is not this test's concern.
func TestInvented(t *testing.T) {
	n := neighbourhood.Start(t, neighbourhood.Options{})
	if all := everybody(t, n); all.people < 5 {
		t.Errorf("only %d people were answered", all.people)
	}
}

// tally is what was validated.
type tally struct {
	people, bundles, resources, authored, rejected int
}

func everybody(t *testing.T, n *neighbourhood.Neighbourhood) tally {
	t.Helper()
	v, err := jsonformat.NewUnmarshaller("Europe/London", fhirversion.R4)
	if err != nil {
		t.Fatal("no validator")
	}
	token := n.Token(t, "ed-doctor")
	var all tally
	for i, p := range n.People {
		t.Run(fmt.Sprintf("person %d", i+1), func(t *testing.T) {
			text := everything(t, n, token, p.NHSNumber)
			if text == nil {
				return
			}
			all.people++
			onePerson(t, n, v, p.NHSNumber, text, &all)
		})
	}
	t.Logf("%d people, %d whole bundles and %d custodians' resources accepted as their sources were, %d authored resources accepted; "+
		"%d sources rejected by the validator", all.people, all.bundles, all.resources, all.authored, all.rejected)
	return all
}

func onePerson(t *testing.T, n *neighbourhood.Neighbourhood, v *jsonformat.Unmarshaller, number string, text []byte, all *tally) {
	t.Helper()
	accepted := map[string]bool{} // by custodian, type and id: whether the validator accepts what the custodian serves
	clean := true                 // all of it
	for key := range n.Sources {
		for _, h := range n.Held(t, key, number) {
			at := h.Type + "/" + key + "-" + h.ID
			_, err := v.UnmarshalR4(h.Text)
			before, seen := accepted[at]
			accepted[at] = err == nil && (before || !seen)
			if err != nil {
				clean = false
				all.rejected++
			}
		}
	}
	var bundle struct {
		Entry []struct {
			Resource json.RawMessage `json:"resource"`
		} `json:"entry"`
	}
	if json.Unmarshal(text, &bundle) != nil || len(bundle.Entry) == 0 {
		t.Fatal("the answer is not a Bundle with entries")
	}
	for i, e := range bundle.Entry {
		var r struct {
			ResourceType string `json:"resourceType"`
			ID           string `json:"id"`
		}
		if json.Unmarshal(e.Resource, &r) != nil {
			t.Fatalf("entry %d is not a resource", i)
		}
		sourceAccepted, fromCustodian := accepted[r.ResourceType+"/"+r.ID]
		_, err := v.UnmarshalR4(e.Resource)
		switch {
		case err == nil && fromCustodian:
			all.resources++
		case err == nil: // authored, or with an id that does not tell the custodian's
			all.authored++
		case fromCustodian && !sourceAccepted: // the custodian's own fault, which we do not mend
		default:
			t.Errorf("entry %d, a %s: the validator rejects it, and not its source: %s", i, r.ResourceType, where(err))
		}
	}
	switch _, err := v.UnmarshalR4(text); {
	case err == nil:
		all.bundles++
	case clean:
		t.Errorf("the validator accepts all that the custodians serve, and rejects the Bundle: %s", where(err))
	}
}

// everything asks for a person's whole record; nil if there is none to be shown.
func everything(t *testing.T, n *neighbourhood.Neighbourhood, token, number string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "identifier", "valueIdentifier": map[string]any{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": number}}}})
	if err != nil {
		t.Fatal("no body")
	}
	for range 10 {
		res := n.Post(t, "/fhir/Patient/$everything", neighbourhood.Treating(token), body)
		switch res.Status {
		case http.StatusOK:
			return res.Body
		case http.StatusForbidden, http.StatusNotFound:
			return nil
		case http.StatusTooManyRequests: // the rate limit of the process under test is a real one
			select {
			case <-time.After(time.Second):
			case <-t.Context().Done():
			}
		default:
			t.Fatalf("$everything answers with %v", res)
		}
	}
	t.Fatal("too many requests, however long one waits")
	return nil
}

// pathIn finds the element paths in the validator's texts. The rest of such a text may hold values, and is not repeated.
var pathIn = regexp.MustCompile(`[A-Z][A-Za-z]+(?:\.[A-Za-z]+(?:\[\d+\])?)+`)

func where(err error) string {
	found := pathIn.FindAllString(err.Error(), -1)
	slices.Sort(found)
	found = slices.Compact(found)
	if len(found) == 0 {
		return "no path named"
	}
	return strings.Join(found[:min(5, len(found))], ", ")
}
