package validate

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mycarerecord/mycarerecord/test/neighbourhood"
)

// auditEvents validates the AuditEvents that we author: of each question, after requests that end in each way that one can bring about from outside.
func auditEvents(t *testing.T, n *neighbourhood.Neighbourhood) {
	v := validator(t)
	who := url.Values{"identifier": {nhsNumberSystem + "|" + n.People[0].NHSNumber}}
	for _, as := range []string{"gp", "ed-doctor", "stranger", "front-desk"} {
		n.PostForm(t, "/fhir/Patient/_search", neighbourhood.Treating(n.Token(t, as)), who)
	}
	breaking := neighbourhood.Treating(n.Token(t, "ed-doctor"))
	breaking.Set("X-Purpose-Of-Use", "BTG")
	breaking.Del("X-Permission-To-View")
	breaking.Set("X-Break-Glass-Reason", "unconscious, nobody to ask")
	n.PostForm(t, "/fhir/Patient/_search", breaking, who)
	officer := func() http.Header {
		return http.Header{"Authorization": {"Bearer " + n.Token(t, "ig-officer")}, "X-Audit-Reason": {"a trial of the validator"}}
	}
	types, profiles := map[string]int{}, map[string]int{}
	var all [][]byte
	for _, question := range []string{"who-looked", "by-staff", "of-records", "refusals", "break-glass", "consent-changes", "ledger-reads"} {
		form := url.Values{"_query": {question}, "_count": {"50"}}
		switch question {
		case "who-looked":
			form.Set("patient.identifier", nhsNumberSystem+"|"+n.People[0].NHSNumber)
		case "by-staff":
			form.Set("agent:identifier", "https://fhir.nhs.uk/Id/ods-organization-code|X9B01")
		case "of-records":
			form.Set("entity:identifier", "https://fhir.nhs.uk/Id/ods-organization-code|X9B01")
		}
		res := n.PostForm(t, "/fhir/AuditEvent/_search", officer(), form)
		var bundle struct {
			Entry []struct {
				Resource json.RawMessage `json:"resource"`
			} `json:"entry"`
		}
		if res.Status != 200 || json.Unmarshal(res.Body, &bundle) != nil {
			t.Fatalf("%s: %v", question, res)
		}
		if _, err := v.UnmarshalR4(res.Body); err != nil {
			t.Errorf("%s: the validator rejects the Bundle: %s", question, where(err))
		}
		for i, e := range bundle.Entry {
			if _, err := v.UnmarshalR4(e.Resource); err != nil {
				t.Errorf("%s: event %d: the validator rejects it: %s", question, i+1, where(err))
			}
			var x struct {
				ResourceType string
				Meta         struct{ Profile []string }
			}
			if json.Unmarshal(e.Resource, &x) != nil {
				t.Fatal("not a resource")
			}
			if types[x.ResourceType]++; x.ResourceType == "AuditEvent" {
				all = append(all, e.Resource)
			}
			for _, p := range x.Meta.Profile {
				profiles[p[strings.LastIndex(p, ".")+1:]]++
			}
		}
	}
	// The validator must know a bad one when it sees it.
	res := n.PostForm(t, "/fhir/AuditEvent/_search", officer(), url.Values{"_query": {"break-glass"}, "_count": {"1"}})
	if bad := strings.Replace(string(res.Body), `"outcome":"0"`, `"outcome":"shown"`, 1); bad == string(res.Body) {
		t.Error("break-glass has no event")
	} else if _, err := v.UnmarshalR4([]byte(bad)); err == nil {
		t.Error("the validator accepts an outcome that FHIR does not know")
	}
	if types["AuditEvent"] < 15 || profiles["PatientQuery"] == 0 || profiles["PatientCreate"] == 0 {
		t.Errorf("%v events of the profiles %v: too few, or not of each", types, profiles)
	}
	for i, verdict := range medplum(t, all) {
		if verdict != "ok" {
			t.Errorf("event %d of %d: Medplum: %s", i+1, len(all), verdict)
		}
	}
	t.Logf("%d AuditEvents, of the profiles %v", types["AuditEvent"], profiles)
}
