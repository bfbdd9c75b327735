package neighbourhood

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// numberSystem is the identifier system of NHS numbers.
const numberSystem = "https://fhir.nhs.uk/Id/nhs-number"

// Held is one resource as a custodian serves it.
type Held struct {
	Type, ID string
	Text     []byte // exactly as it came, white space inside included
}

// Held asks a simulated custodian itself, beside the broker, for all that it holds of a person, as a FHIR client of its own: the Patient
// by identifier, then $everything where it is offered, else every type that can be searched with all that is referred to. Each resource comes
// once; copies with one type and id and different bytes come apart. nil if the custodian does not know the person.
func (n *Neighbourhood) Held(t testing.TB, custodian, number string) []Held {
	t.Helper()
	base := n.source(t, custodian) + "/fhir"
	var out []Held
	take := func(method, address string, form url.Values) {
		t.Helper()
		for pages := 0; address != ""; pages++ {
			if pages > 1000 {
				t.Fatalf("the custodian %s has no last page", custodian)
			}
			var page struct {
				Link []struct {
					Relation string `json:"relation"`
					URL      string `json:"url"`
				} `json:"link"`
				Entry []struct {
					Resource json.RawMessage `json:"resource"`
				} `json:"entry"`
			}
			n.askCustodian(t, method, address, form, &page)
			for _, e := range page.Entry {
				h := Held{Text: e.Resource}
				h.Type, h.ID = typeAndID(e.Resource)
				if !slices.ContainsFunc(out, func(x Held) bool { return x.Type == h.Type && x.ID == h.ID && bytes.Equal(x.Text, h.Text) }) {
					out = append(out, h)
				}
			}
			method, address, form = http.MethodGet, "", nil
			for _, l := range page.Link {
				if l.Relation == "next" {
					address = l.URL
				}
			}
		}
	}
	take(http.MethodPost, base+"/Patient/_search", url.Values{"identifier": {numberSystem + "|" + number}})
	if len(out) == 0 {
		return nil
	}
	if out[0].Type != "Patient" || len(out) != 1 {
		t.Fatalf("the custodian %s finds %d resources by the number, want one Patient", custodian, len(out))
	}
	patient := out[0].ID
	everything, types := n.offers(t, base)
	if everything {
		take(http.MethodGet, base+"/Patient/"+patient+"/$everything", nil)
		return out
	}
	for _, typ := range types {
		take(http.MethodPost, base+"/"+typ+"/_search", url.Values{"patient": {patient}, "_include": {"*"}, "_include:iterate": {"*"}})
	}
	return out
}

// offers reads from the CapabilityStatement whether there is $everything, and which types can be searched by patient.
func (n *Neighbourhood) offers(t testing.TB, base string) (everything bool, types []string) {
	t.Helper()
	var c struct {
		Rest []struct {
			Resource []struct {
				Type        string `json:"type"`
				SearchParam []struct {
					Name string `json:"name"`
				} `json:"searchParam"`
				Operation []struct {
					Name string `json:"name"`
				} `json:"operation"`
			} `json:"resource"`
		} `json:"rest"`
	}
	n.askCustodian(t, http.MethodGet, base+"/metadata", nil, &c)
	for _, rest := range c.Rest {
		for _, r := range rest.Resource {
			for _, o := range r.Operation {
				everything = everything || o.Name == "everything"
			}
			for _, p := range r.SearchParam {
				if p.Name == "patient" {
					types = append(types, r.Type)
				}
			}
		}
	}
	return everything, types
}

func (n *Neighbourhood) askCustodian(t testing.TB, method, address string, form url.Values, into any) {
	t.Helper()
	header := http.Header{}
	var body []byte
	if form != nil {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		body = []byte(form.Encode())
	}
	res, err := n.Do(t.Context(), method, address, header, body)
	if err != nil || res.Status != http.StatusOK || json.Unmarshal(res.Body, into) != nil {
		t.Fatalf("a custodian asked directly answers with status %d, %v", res.Status, err)
	}
}

func typeAndID(resource []byte) (typ, id string) {
	var r struct {
		ResourceType string `json:"resourceType"`
		ID           string `json:"id"`
	}
	_ = json.Unmarshal(resource, &r) // what has none is nameless
	return r.ResourceType, r.ID
}
