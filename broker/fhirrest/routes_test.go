package fhirrest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/merge"
	"github.com/mycarerecord/mycarerecord/consent"
)

// TestCapabilityStatement walks the statement: everything that it lists is served, everything that it does not list is not.
func TestCapabilityStatement(t *testing.T) {
	k := newKit(t)
	resp := k.get("/fhir/metadata", "-Authorization", "-X-Purpose-Of-Use")
	raw := bodyOf(t, resp)
	if resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	read(t, k.get("/fhir/metadata"))
	c, err := fhir.UnmarshalCapabilityStatement([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if c.FhirVersion != fhir.FHIRVersion4_0_1 || c.Kind != fhir.CapabilityStatementKindInstance || *c.Implementation.Url != base || *c.Software.Version != "1.2.3" || len(c.Rest) != 1 {
		t.Errorf("got version %v, kind %v", c.FhirVersion, c.Kind)
	}
	rest := c.Rest[0]
	if len(rest.Interaction) != 0 || len(rest.Operation) != 0 {
		t.Error("interactions of the whole system are listed, and none is tested here")
	}
	handle := handleOf(t, ada)
	status := func(method, target, body, contentType string) int {
		t.Helper()
		resp := k.do(k.ask(method, target, body, "Content-Type: "+contentType))
		read(t, resp)
		return resp.StatusCode
	}
	want := func(what string, got int, wanted ...int) {
		t.Helper()
		if !slices.Contains(wanted, got) {
			t.Errorf("%s: got %d, want one of %v", what, got, wanted)
		}
	}
	k.broker.objections = []consent.Objection{{ID: "abc", Scope: consent.ToAll, Status: consent.InForce, Responsible: "self", Method: "form"}}
	ids := map[string]string{"Binary": "gp-1?ctx=good&_format=json", "Patient": handle, "Consent": handle + ".abc?patient.birthdate=1970-01-01", "AuditEvent": "entry-7"}
	listed := map[string]bool{}
	for _, res := range rest.Resource {
		name := res.Type.Code()
		for _, i := range res.Interaction {
			listed[name+" "+i.Code.Code()] = true
			switch i.Code {
			case fhir.TypeRestfulInteractionRead:
				want("read "+name, status("GET", "/fhir/"+name+"/"+ids[name], "", ""), 200)
			case fhir.TypeRestfulInteractionSearchType:
				for _, p := range res.SearchParam {
					value := map[string]string{"identifier": strings.TrimPrefix(search(ada), "/fhir/Patient?"), "_id": "_id=" + handle, "birthdate": "birthdate=1970-01-01&_id=" + handle}[p.Name]
					if name == "Consent" {
						value = map[string]string{"patient": "patient.birthdate=1970-01-01&patient=" + handle, "status": "patient.birthdate=1970-01-01&status=active&patient=" + handle,
							"_id": "patient.birthdate=1970-01-01&_id=" + handle + ".abc"}[p.Name]
					}
					if name == "AuditEvent" {
						value = map[string]string{"patient": "patient=" + handle, "agent": "agent:identifier=https://fhir.nhs.uk/Id/sds-user-id|555000000102",
							"entity": "entity:identifier=https://fhir.nhs.uk/Id/ods-organization-code|X9A01", "date": "_query=refusals&date=ge2026&date=lt2027",
							"outcome": "_query=refusals&outcome=4", "purpose": "_query=refusals&purpose=BTG"}[p.Name]
					}
					if value == "" {
						t.Errorf("the parameter %s is listed and not tested", p.Name)
					}
					want("search by "+p.Name, status("GET", "/fhir/"+name+"?"+value, "", ""), 200)
					want("search by "+p.Name+", strict", k.get("/fhir/"+name+"?"+value, "Prefer: handling=strict").StatusCode, 200)
					want("search by POST by "+p.Name, status("POST", "/fhir/"+name+"/_search", value, formType), 200)
				}
			default:
				t.Errorf("%s of %s is listed and not tested", i.Code.Code(), name)
			}
		}
		for _, o := range res.Operation {
			listed[name+" $"+o.Name] = true
			want("GET $"+o.Name, status("GET", "/fhir/"+name+"/"+handle+"/$"+o.Name, "", ""), 200)
			want("POST $"+o.Name, status("POST", "/fhir/"+name+"/"+handle+"/$"+o.Name, parameters(), jsonType), 200)
			want("POST $"+o.Name+" of the type", status("POST", "/fhir/"+name+"/$"+o.Name, parameters(identifierParameter(ada)), jsonType), 200)
		}
	}
	if len(listed) != 8 {
		t.Errorf("%d things are listed, want 8: %v", len(listed), listed)
	}
	asked := len(k.broker.asked)
	calls := 0
	for typ := fhir.ResourceTypeAccount; typ <= fhir.ResourceTypeVisionPrescription; typ++ {
		name := typ.Code()
		if abstract := name == "Resource" || name == "DomainResource"; merge.IsType(name) == abstract {
			t.Errorf("%s: a type that can be asked for: %v, want %v", name, abstract, !abstract)
		} else if abstract {
			continue
		}
		for _, c := range []struct {
			what, method, target string
			wanted               []int
		}{
			{"read", "GET", "/fhir/" + name + "/gp-1", []int{404}},
			{"vread", "GET", "/fhir/" + name + "/gp-1/_history/1", []int{404}},
			{"history-instance", "GET", "/fhir/" + name + "/gp-1/_history", []int{404}},
			{"history-type", "GET", "/fhir/" + name + "/_history", []int{404}},
			{"search-type", "GET", "/fhir/" + name + "?patient=" + handle, []int{404}},
			{"search by POST", "POST", "/fhir/" + name + "/_search", []int{404}},
			{"create", "POST", "/fhir/" + name, []int{405}},
			{"update", "PUT", "/fhir/" + name + "/gp-1", []int{405}},
			{"update by search", "PUT", "/fhir/" + name + "?_id=1", []int{405}},
			{"patch", "PATCH", "/fhir/" + name + "/gp-1", []int{405}},
			{"delete", "DELETE", "/fhir/" + name + "/gp-1", []int{405}},
			{"delete by search", "DELETE", "/fhir/" + name + "?_id=1", []int{405}},
			{"$validate", "POST", "/fhir/" + name + "/$validate", []int{404}},
			{"$meta-add", "POST", "/fhir/" + name + "/gp-1/$meta-add", []int{404}},
		} {
			if listed[name+" "+c.what] || listed[name+" search-type"] && c.what == "search by POST" {
				continue
			}
			calls++
			want(c.what+" "+name, status(c.method, c.target, "", jsonType), c.wanted...)
		}
	}
	for _, target := range []string{"/fhir", "/fhir/"} {
		want("batch", status("POST", target, `{"resourceType":"Bundle","type":"batch"}`, jsonType), 405)
		want("search of the whole system", status("GET", target, "", ""), 404)
	}
	for _, target := range []string{"/fhir/_history", "/fhir/$export", "/fhir/Patient/$export", "/fhir/Patient/$summary", "/fhir/Patient/" + handle + "/$summary",
		"/fhir/Patient/" + handle + "/Observation", "/fhir/Nonsense", "/fhir/Nonsense/1"} {
		want("GET "+target, status("GET", target, "", ""), 404)
	}
	if len(k.broker.asked) != asked {
		t.Errorf("%d of the calls that are not listed reached the broker", len(k.broker.asked)-asked)
	}
	t.Logf("%d calls that are not listed", calls)
}

func TestWritesAreRefusedToEverybody(t *testing.T) {
	k := newKit(t)
	handle := handleOf(t, ada)
	for target, allow := range map[string]string{"/fhir/Patient": "GET, HEAD", "/fhir/Patient/" + handle: "GET, HEAD", "/fhir/Patient/_search": "POST",
		"/fhir/Patient/" + handle + "/$everything": "GET, HEAD, POST", "/fhir/Patient/$everything": "GET, HEAD, POST", "/fhir/metadata": "GET, HEAD", "/fhir/Observation/1": "GET, HEAD",
		"/fhir/Consent": "GET, HEAD", "/fhir/Consent/_search": "POST", "/fhir/Consent/" + handle + ".abc": "GET, HEAD", "/fhir/Consent/abc": "GET, HEAD"} {
		for _, method := range []string{"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "BREW"} {
			resp := k.do(k.ask(method, target, "", "-Authorization"))
			wantProblem(t, resp, http.StatusMethodNotAllowed, "not-supported")
			if got := resp.Header.Get("Allow"); got != allow {
				t.Errorf("%s %s: got Allow %q, want %q", method, target, got, allow)
			}
		}
	}
	for _, header := range []string{"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: PUT", "X-Method-Override: PATCH"} {
		if resp := k.get("/fhir/Patient/"+handle, header); resp.StatusCode != 200 || k.last().Operation != "read" {
			t.Errorf("%s: got %d", header, resp.StatusCode)
		}
	}
	if len(k.counts.unauthenticated) != 0 {
		t.Error("writes were counted as calls without a token")
	}
}

// TestPathsInDisguise: a path that is not written plainly reaches no handler, with and without a token (T-04).
func TestPathsInDisguise(t *testing.T) {
	k := newKit(t)
	handle := handleOf(t, ada)
	for _, target := range []string{"/", "/fhi", "/fhirx/metadata", "/FHIR/metadata", "/fhir//metadata", "//fhir/metadata", "/fhir/./metadata", "/fhir/../fhir/metadata", "/fhir/x/../metadata",
		"/fhir/%2e%2e/fhir/metadata", "/fhir/metadata/", "/fhir/metadata;x", "/fhir/metadata%00", "/fhir/metadata%20", "/fhir/Patient%2F" + handle, "/fhir/Patient/" + handle + "%2F$everything",
		"/fhir/Patient/" + handle + "/$everything/", "/fhir/Patient//$everything", "/fhir/patient/" + handle, "/fhir/Patient/" + handle + "/$EVERYTHING", "/fhir/Patient/" + handle + "/..;/$everything",
		"/fhir/Patient/" + handle + "/%252e%252e", "/fhir/Patient/" + handle + "\\$everything", "/fhir/Patient/" + strings.Repeat("a", 65), "/fhir/Patient/ä", "/fhir/a/b/c/d/e/f", "/debug/pprof/", "/metrics", "/livez"} {
		r := k.ask("GET", "/", "")
		before := *r.URL
		u, err := before.Parse("/")
		if err != nil {
			t.Fatal(err)
		}
		u.Path, u.RawPath = unescaped(target), target
		r.URL = u
		resp := k.do(r)
		if resp.StatusCode != 404 || resp.Header.Get("Location") != "" {
			t.Errorf("%q: got %d, location %q; want 404", target, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	if len(k.broker.asked) != 0 {
		t.Errorf("%d reached the broker", len(k.broker.asked))
	}
}

func unescaped(s string) string {
	out, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return out
}
