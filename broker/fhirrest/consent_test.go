package fhirrest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
	"github.com/mycarerecord/mycarerecord/broker/optoutlist"
	"github.com/mycarerecord/mycarerecord/broker/policy"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
)

// desk is the token of somebody at a front desk, who may record and see objections.
func (k *kit) desk() string {
	return "Authorization: Bearer " + k.token("ed-doctor", map[string]any{"nhsid_nrbac_roles": []any{map[string]any{"person_roleid": "555000010102", "org_code": "X9B01", "role_code": "S8000:G8000:R8010"}}})
}

func identifier(digits string) string {
	return "patient.identifier=" + url.QueryEscape(record.NHSNumberSystem+"|"+digits)
}

func TestSearchAndReadConsent(t *testing.T) {
	k := newKit(t)
	handle := handleOf(t, ada)
	k.broker.objections = []consent.Objection{
		{ID: "o3", Scope: consent.ToSection, Section: record.MentalHealth, Status: consent.Requested, Responsible: "self", Method: "form", Recorded: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{ID: "o2", Scope: consent.ToCustodian, Custodian: "gp", Status: consent.Withdrawn, Responsible: "mother", Method: "phone", Source: "form 7"},
		{ID: "o1", Scope: consent.ToAll, Status: consent.InForce, Absolute: true, Responsible: "self", Method: "form"},
	}
	for name, c := range map[string]struct {
		resp *http.Response
		want []string
		self string
	}{
		"by handle":     {k.get("/fhir/Consent?patient="+handle+"&patient.birthdate=1970-01-01", k.desk()), []string{"o3", "o2", "o1"}, "patient=" + handle},
		"by reference":  {k.get("/fhir/Consent?patient=Patient/"+handle+"&patient.birthdate=eq1970-01-01", k.desk()), []string{"o3", "o2", "o1"}, "patient=" + handle},
		"by our URL":    {k.get("/fhir/Consent?patient="+url.QueryEscape(base+"/Patient/"+handle)+"&patient.birthdate=1970-01-01", k.desk()), []string{"o3", "o2", "o1"}, "patient=" + handle},
		"by number":     {k.post("/fhir/Consent/_search", formType, identifier(ada)+"&patient.birthdate=1970-01-01", k.desk()), []string{"o3", "o2", "o1"}, "patient=" + handle},
		"logical":       {k.post("/fhir/Consent/_search", formType, strings.Replace(identifier(ada), ".", "%3A", 1)+"&patient.birthdate=1970-01-01", k.desk()), []string{"o3", "o2", "o1"}, "patient=" + handle},
		"active ones":   {k.get("/fhir/Consent?status=active&patient="+handle+"&patient.birthdate=1970-01-01", k.desk()), []string{"o1"}, "patient=" + handle + "&status=active"},
		"two statuses":  {k.get("/fhir/Consent?status=proposed,inactive&patient="+handle+"&patient.birthdate=1970-01-01", k.desk()), []string{"o3", "o2"}, ""},
		"no such":       {k.get("/fhir/Consent?status=draft&patient="+handle+"&patient.birthdate=1970-01-01", k.desk()), nil, ""},
		"by id":         {k.get("/fhir/Consent?_id="+handle+".o2&patient.birthdate=1970-01-01", k.desk()), []string{"o2"}, "_id=" + handle + ".o2"},
		"of themselves": {k.get("/fhir/Consent", "Authorization: Bearer "+k.token("patient", nil), "-X-Purpose-Of-Use", "-X-Permission-To-View"), []string{"o3", "o2", "o1"}, "patient=" + handle},
	} {
		r := read(t, c.resp)
		var got []string
		for _, e := range r.Entry {
			if e.Search.Mode != "match" || e.Resource.ResourceType != "Consent" || e.FullURL != base+"/Consent/"+e.Resource.ID {
				t.Errorf("%s: an entry of %s, %s", name, e.Resource.ResourceType, e.Search.Mode)
			}
			got = append(got, strings.TrimPrefix(e.Resource.ID, handle+"."))
		}
		if c.resp.StatusCode != 200 || r.Total == nil || *r.Total != len(c.want) || strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: got %d, %v, want %v", name, c.resp.StatusCode, got, c.want)
		}
		if len(r.Link) != 1 || !strings.Contains(r.Link[0].URL, c.self) || strings.Contains(r.Link[0].URL, "1970") || record.HoldsNHSNumber(r.Link[0].URL) {
			t.Errorf("%s: the self link is not what was used", name)
		}
		if c.resp.Header.Get("X-Access-Receipt") == "" {
			t.Errorf("%s: no receipt of the look", name)
		}
	}
	for id, want := range map[string]string{"o1": optoutlist.ProfileBasic, "o2": optoutlist.ProfileIntermediate, "o3": ""} {
		resp := k.get("/fhir/Consent/"+handle+"."+id+"?patient.birthdate=1970-01-01", k.desk())
		var c struct {
			ResourceType, ID string
			Meta             struct{ Profile []string }
			Patient          struct{ Reference string }
			Provision        struct{ Type string }
		}
		text := bodyOf(t, resp)
		if resp.StatusCode != 200 || json.Unmarshal([]byte(text), &c) != nil || c.ID != handle+"."+id || c.Patient.Reference != "Patient/"+handle || c.Provision.Type != "deny" {
			t.Errorf("reading %s: got %d", id, resp.StatusCode)
		}
		if strings.Join(c.Meta.Profile, " ") != want {
			t.Errorf("%s claims %v, want %q", id, c.Meta.Profile, want)
		}
		if len(c.ID) > 64 || strings.Contains(text, ada) {
			t.Error("an id that is too long, or an NHS number")
		}
	}
	last := k.broker.looked[len(k.broker.looked)-1]
	if last.Subject != number(t, ada) || last.BirthDate != "1970-01-01" || last.Face != "rest" || last.Role.Name != "front-desk" || last.ID != "req-1" {
		t.Error("the broker was asked something else")
	}
	resp := k.get("/fhir/Consent?patient="+handle+"&patient.birthdate=1970-01-01&category=x&_count=5", k.desk())
	if r := read(t, resp); *r.Total != 3 || r.Entry[0].Search.Mode != "outcome" {
		t.Error("what was ignored is not told")
	}
}

func TestConsentRequestsThatAreRefused(t *testing.T) {
	k := newKit(t)
	handle, other := handleOf(t, ada), handleOf(t, bob)
	good := "&patient.birthdate=1970-01-01"
	for name, c := range map[string]struct {
		resp   *http.Response
		status int
		code   string
	}{
		"number in the address":      {k.get("/fhir/Consent?"+identifier(ada)+good, k.desk()), 400, "invalid"},
		"number as patient":          {k.get("/fhir/Consent?patient="+ada+good, k.desk()), 400, "value"},
		"nobody's handle":            {k.get("/fhir/Consent?patient=abc"+good, k.desk()), 400, "value"},
		"nobody":                     {k.get("/fhir/Consent?"+good[1:], k.desk()), 400, "required"},
		"no date of birth":           {k.get("/fhir/Consent?patient="+handle, k.desk()), 400, "required"},
		"a date of birth that is no": {k.get("/fhir/Consent?patient="+handle+"&patient.birthdate=1970", k.desk()), 400, "value"},
		"two people":                 {k.post("/fhir/Consent/_search", formType, identifier(ada)+"&patient="+other+good, k.desk()), 400, "invalid"},
		"two people by id":           {k.get("/fhir/Consent?patient="+handle+"&_id="+other+".o1"+good, k.desk()), 400, "invalid"},
		"patient twice":              {k.get("/fhir/Consent?patient="+handle+"&patient="+other+good, k.desk()), 400, "invalid"},
		"another system":             {k.post("/fhir/Consent/_search", formType, "patient.identifier=x%7C1"+good, k.desk()), 400, "code-invalid"},
		"a bad number":               {k.post("/fhir/Consent/_search", formType, identifier("9990000017")+good, k.desk()), 400, "value"},
		"unknown status":             {k.get("/fhir/Consent?status=in-force&patient="+handle+good, k.desk()), 400, "code-invalid"},
		"a modifier":                 {k.get("/fhir/Consent?status:not=active&patient="+handle+good, k.desk()), 400, "not-supported"},
		"unknown, strictly":          {k.get("/fhir/Consent?category=x&patient="+handle+good, k.desk(), "Prefer: handling=strict"), 400, "not-supported"},
		"nothing of it":              {k.get("/fhir/Consent?_count=0&patient="+handle+good, k.desk()), 400, "value"},
		"an id of another form":      {k.get("/fhir/Consent/o1?"+good[1:], k.desk()), 404, "not-found"},
		"an id of nobody's":          {k.get("/fhir/Consent/abc.o1?"+good[1:], k.desk()), 404, "not-found"},
		"another's, beside an id":    {k.get("/fhir/Consent/"+handle+".o1?patient="+other+good, k.desk()), 400, "invalid"},
		"a read without a birthdate": {k.get("/fhir/Consent/"+handle+".o1", k.desk()), 400, "required"},
		"without a token":            {k.get("/fhir/Consent?patient="+handle+good, "-Authorization"), 401, "login"},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, c.resp, c.status, c.code) })
	}
	if len(k.broker.looked) != 0 {
		t.Error("the broker was asked")
	}
	if n := k.broker.unread.Load(); n != 19 {
		t.Errorf("%d calls that could not be read are on record, want all 19 of somebody known", n)
	}
	k.broker.objections = nil
	resp := k.get("/fhir/Consent/"+handle+".o1?"+good[1:], k.desk())
	wantProblem(t, resp, 404, "not-found")
	if resp.Header.Get("X-Access-Receipt") == "" {
		t.Error("a look that found nothing is on record, and the answer does not say where")
	}
	k.broker.objecting = &broker.Refusal{Kind: broker.Forbidden, Reason: consent.ReasonRole, Rule: "C-10"}
	wantProblem(t, k.get("/fhir/Consent?patient="+handle+good), 403, "forbidden")
	wantProblem(t, k.get("/fhir/Consent/"+handle+".o1?"+good[1:]), 403, "forbidden")
	k.get("/fhir/Consent?patient="+handle, "Authorization: Bearer "+k.token("engine", nil))
	if last := k.broker.looked[len(k.broker.looked)-1]; last.TokenProblem != consent.ReasonNoActingPerson {
		t.Error("an engine that names nobody is not refused")
	}
}

// With a real broker: who may see them sees them, each look is an entry, and of whom nothing may be said, nothing is, alike and at the same time.
func TestConsentsOfARealBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wait = 3250 * time.Millisecond
		k := newHouse(t, func(c *broker.Config) { c.NeutralWait = wait })
		b := k.h.(*handler).broker.(*broker.Broker)
		who := record.Requester{Kind: record.Professional, User: "555000000102", JobRole: "R8010", Organisation: "X9B01"}
		ann := number(t, brokertest.Ann)
		if _, _, err := b.RecordObjection(context.Background(), broker.ObjectionRequest{ID: "r", Face: "grpc", Requester: who, Role: policy.Default().Role(who), Subject: ann, BirthDate: brokertest.AnnBirthDate, Arrived: time.Now()},
			consent.Objection{Scope: consent.ToCustodian, Custodian: "gp", Responsible: "self", Method: "form"}); err != nil {
			t.Fatal(err)
		}
		resp := k.post("/fhir/Consent/_search", formType, identifier(brokertest.Ann)+"&patient.birthdate="+brokertest.AnnBirthDate, k.desk())
		var r resource // a real receipt's hash may hold ten digits that look like a number: read would take offence
		if err := json.Unmarshal([]byte(bodyOf(t, resp)), &r); err != nil || resp.StatusCode != 200 || *r.Total != 1 || resp.Header.Get("X-Access-Receipt") == "" {
			t.Fatalf("got %d", resp.StatusCode)
		}
		id := r.Entry[0].Resource.ID
		if resp := k.get("/fhir/Consent/"+id+"?patient.birthdate="+brokertest.AnnBirthDate, k.desk()); resp.StatusCode != 200 {
			t.Errorf("reading it: got %d", resp.StatusCode)
		}
		if resp := k.get("/fhir/Consent/" + id + "?patient.birthdate=" + brokertest.AnnBirthDate); resp.StatusCode != 403 {
			t.Errorf("a clinician who may not record: got %d", resp.StatusCode)
		}

		classes := brokertest.Neutral()
		delete(classes, "held by nobody") // they live, and may object
		classes["another birth date"] = brokertest.Ann
		for what, c := range map[string]struct {
			status int
			ask    func(digits, birthDate string) *http.Request
		}{
			"search": {200, func(digits, birthDate string) *http.Request {
				return k.ask("POST", "/fhir/Consent/_search", identifier(digits)+"&patient.birthdate="+birthDate, "Content-Type: "+formType, k.desk())
			}},
			"read": {404, func(digits, birthDate string) *http.Request {
				return k.ask("GET", "/fhir/Consent/"+k.h.(*handler).handles.Seal(number(t, digits))+".abc?patient.birthdate="+birthDate, "", k.desk())
			}},
		} {
			first := ""
			for class, digits := range classes {
				birthDate := brokertest.AnnBirthDate
				if class == "another birth date" {
					birthDate = "1951-02-03"
				}
				began := time.Now()
				resp := k.do(c.ask(digits, birthDate))
				if took := time.Since(began); took != wait {
					t.Errorf("%s, %s: answered after %v, want %v", what, class, took, wait)
				}
				text := withoutTime(headerText(resp.Header) + strings.ReplaceAll(bodyOf(t, resp), k.h.(*handler).handles.Seal(number(t, digits)), "HANDLE"))
				if first == "" {
					first = text
				}
				if resp.StatusCode != c.status || text != first {
					t.Errorf("%s, %s: got %d and another answer", what, class, resp.StatusCode)
				}
			}
		}
	})
}
