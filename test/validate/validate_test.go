package validate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
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
	if all := everybody(t, n); all.people < 10 {
		t.Errorf("only %d people were answered", all.people)
	}
	t.Run("what else we author", func(t *testing.T) { authoredOnly(t, n) })
	t.Run("consents", func(t *testing.T) { consents(t, n) })
	t.Run("audit events", func(t *testing.T) { auditEvents(t, n) })
}

// authoredOnly validates answers that hold nothing of a custodian's: what we can do, who somebody is, and refusals.
func authoredOnly(t *testing.T, n *neighbourhood.Neighbourhood) {
	v := validator(t)
	treating := neighbourhood.Treating(n.Token(t, "gp"))
	known := url.Values{"identifier": {nhsNumberSystem + "|" + n.People[0].NHSNumber}}
	for name, c := range map[string]struct {
		status int
		res    neighbourhood.Response
	}{
		"CapabilityStatement":          {200, n.Get(t, "/fhir/metadata", nil)},
		"Patient search":               {200, n.PostForm(t, "/fhir/Patient/_search", treating, known)},
		"a bad number":                 {400, n.PostForm(t, "/fhir/Patient/_search", treating, url.Values{"identifier": {nhsNumberSystem + "|1234567890"}})},
		"nobody's token":               {401, n.PostForm(t, "/fhir/Patient/_search", http.Header{}, known)},
		"no role":                      {403, n.PostForm(t, "/fhir/Patient/_search", neighbourhood.Treating(n.Token(t, "stranger")), known)},
		"a body that is no JSON":       {400, n.Post(t, "/fhir/Patient/$everything", treating, []byte("{"))},
		"a read without a person":      {404, n.Get(t, "/fhir/Observation/1", treating)},
		"a type that there is not":     {404, n.Get(t, "/fhir/Prescription/1", treating)},
		"a verb that would write":      {405, n.Post(t, "/fhir/Observation", treating, []byte(`{"resourceType":"Observation"}`))},
		"a handle that was not issued": {404, n.Get(t, "/fhir/Patient/abc/$everything", treating)},
	} {
		if c.res.Status != c.status {
			t.Errorf("%s: %v, want status %d", name, c.res, c.status)
		}
		if _, err := v.UnmarshalR4(c.res.Body); err != nil {
			t.Errorf("%s: %v: the validator rejects it: %s", name, c.res, where(err))
		}
	}
}

const nhsNumberSystem = "https://fhir.nhs.uk/Id/nhs-number"

func validator(t *testing.T) *jsonformat.Unmarshaller {
	t.Helper()
	v, err := jsonformat.NewUnmarshaller("Europe/London", fhirversion.R4)
	if err != nil {
		t.Fatal("no validator")
	}
	return v
}

// tally is what was validated.
type tally struct {
	people, bundles, resources, authored, rejected int
}

// everybody asks for several people at once, because those who may not be shown are answered after a while (design 3, neutral classes), and
// validates one after the other.
func everybody(t *testing.T, n *neighbourhood.Neighbourhood) tally {
	t.Helper()
	token := n.Token(t, "ed-doctor")
	texts, errs := make([][]byte, len(n.People)), make([]error, len(n.People))
	var asking sync.WaitGroup
	room := make(chan struct{}, 8) // the process has room for 16 requests of the largest size, and refuses more
	for i, p := range n.People {
		room <- struct{}{}
		asking.Go(func() {
			texts[i], errs[i] = everything(t.Context(), n, token, p.NHSNumber)
			<-room
		})
	}
	asking.Wait()
	v := validator(t)
	var all tally
	for i, p := range n.People {
		switch {
		case errs[i] != nil:
			t.Errorf("person %d: %v", i+1, errs[i])
		case texts[i] != nil:
			all.people++
			t.Run(fmt.Sprintf("person %d", i+1), func(t *testing.T) { onePerson(t, n, v, p.NHSNumber, texts[i], &all) })
		}
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
func everything(ctx context.Context, n *neighbourhood.Neighbourhood, token, number string) ([]byte, error) {
	body, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "identifier", "valueIdentifier": map[string]any{"system": nhsNumberSystem, "value": number}}}})
	if err != nil {
		return nil, errors.New("no body")
	}
	header := neighbourhood.Treating(token)
	header.Set("Content-Type", "application/fhir+json")
	for range 20 {
		res, err := n.Do(ctx, http.MethodPost, n.REST+"/fhir/Patient/$everything", header, body)
		switch {
		case err != nil:
			return nil, err
		case res.Status == http.StatusOK:
			return res.Body, nil
		case res.Status == http.StatusForbidden, res.Status == http.StatusNotFound:
			return nil, nil
		case res.Status != http.StatusTooManyRequests:
			return nil, fmt.Errorf("$everything answers with %v", res)
		}
		select { // the rate limit of the process under test is a real one
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, errors.New("too many requests, however long one waits")
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
