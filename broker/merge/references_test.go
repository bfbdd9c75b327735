package merge

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

func TestReferencesAreRewritten(t *testing.T) {
	encounter := `{"resourceType":"Encounter","id":"e",` + toAda + `}`
	for _, c := range []struct{ name, before, after string }{
		{"relative", `"encounter":{"reference":"Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"with a slash first", `"encounter":{"reference":"/Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"white space, order and display stay", `"encounter" : { "display":"x" , "reference" :"Encounter/e"}`, `"encounter" : { "display":"x" , "reference" :"Encounter/gp-e"}`},
		{"absolute", `"encounter":{"reference":"https://gp.example/fhir/Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"by http", `"encounter":{"reference":"http://gp.example/fhir/Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"versioned", `"encounter":{"reference":"Encounter/e/_history/7"}`, `"encounter":{"reference":"Encounter/gp-e/_history/7"}`},
		{"to a part", `"encounter":{"reference":"Encounter/e#loc"}`, `"encounter":{"reference":"Encounter/gp-e#loc"}`},
		{"with a query", `"encounter":{"reference":"Encounter/e?_format=json"}`, `"encounter":{"reference":"Encounter/gp-e?_format=json"}`},
		{"with a slash at its end", `"encounter":{"reference":"Encounter/e/"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"with a dot", `"encounter":{"reference":"./Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"with an escape", `"encounter":{"reference":"Encounter/%65"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"with a blank", `"encounter":{"reference":" Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"of all versions", `"encounter":{"reference":"Encounter/e/_history"}`, `"encounter":{"reference":"Encounter/gp-e/_history"}`},
		{"host in capitals", `"encounter":{"reference":"https://GP.example/fhir/Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"scheme in capitals", `"encounter":{"reference":"HTTPS://gp.example/fhir/Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"with a port", `"encounter":{"reference":"https://gp.example:443/fhir/Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"with two slashes", `"encounter":{"reference":"https://gp.example/fhir//Encounter/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"a UUID in capitals", `"encounter":{"reference":"URN:UUID:E1"}`, `"encounter":{"reference":"Encounter/gp-two"}`},
		{"escaped slash", `"encounter":{"reference":"Encounter\/e"}`, `"encounter":{"reference":"Encounter/gp-e"}`},
		{"urn", `"encounter":{"reference":"urn:uuid:e1"}`, `"encounter":{"reference":"Encounter/gp-two"}`},
		{"in an extension", `"extension":[{"url":"u","valueReference":{"reference":"Encounter/e"}}]`, `"extension":[{"url":"u","valueReference":{"reference":"Encounter/gp-e"}}]`},
		{"in an extension of a primitive", `"_status":{"extension":[{"url":"u","valueReference":{"reference":"Encounter/e"}}]}`, `"_status":{"extension":[{"url":"u","valueReference":{"reference":"Encounter/gp-e"}}]}`},
		{"in a contained resource", `"contained":[{"resourceType":"Observation","id":"c","encounter":{"reference":"Encounter/e"}}]`, `"contained":[{"resourceType":"Observation","id":"c","encounter":{"reference":"Encounter/gp-e"}}]`},
		{"to a contained resource", `"contained":[{"resourceType":"Practitioner","id":"c"}],"performer":[{"reference":"#c"}]`, `"contained":[{"resourceType":"Practitioner","id":"c"}],"performer":[{"reference":"#c"}]`},
		{"to the container", `"contained":[{"resourceType":"Provenance","id":"c","target":[{"reference":"#"}]}]`, `"contained":[{"resourceType":"Provenance","id":"c","target":[{"reference":"#"}]}]`},
		{"an identifier beside stays", `"encounter":{"reference":"Encounter/e","identifier":{"value":"Encounter/e"}}`, `"encounter":{"reference":"Encounter/gp-e","identifier":{"value":"Encounter/e"}}`},
		{"a text that looks like one", `"note":[{"text":"Encounter/e"}]`, `"note":[{"text":"Encounter/e"}]`},
		{"narrative", `"text":{"div":"<div><a href=\"Encounter/e\">x</a></div>"}`, `"text":{"div":"<div><a href=\"Encounter/e\">x</a></div>"}`},
		{"an expression's reference", `"extension":[{"url":"u","valueExpression":{"language":"x","reference":"Encounter/e"}}]`, `"extension":[{"url":"u","valueExpression":{"language":"x","reference":"Encounter/e"}}]`},
		{"uri and canonical", `"instantiatesUri":"Encounter/e","extension":[{"url":"Encounter/e","valueCanonical":"Encounter/e"}]`, `"instantiatesUri":"Encounter/e","extension":[{"url":"Encounter/e","valueCanonical":"Encounter/e"}]`},
		{"numbers keep their text", `"valueQuantity":{"value":1.50,"x":[1E2,-0.0,100000000000000000000.1]}`, `"valueQuantity":{"value":1.50,"x":[1E2,-0.0,100000000000000000000.1]}`},
	} {
		p := prepare(t, request(t), everything, replyOf(t, encounter, `urn:uuid:e1 {"resourceType":"Encounter","id":"two",`+toAda+`}`,
			`{"resourceType":"Observation","id":"1",`+toAda+`,`+c.before+`}`))
		if got := string(find(t, p, "Observation", "gp-1").JSON); !strings.HasSuffix(got, `,`+c.after+`}`) || p.Dangling != 0 {
			t.Errorf("%s: got %s, dangling %d", c.name, got, p.Dangling)
		}
	}
}

func TestDanglingReferencesLeadNowhere(t *testing.T) {
	const ours = `{"reference":"` // what follows stands in place of the reference
	for _, c := range []struct{ before, after string }{
		{`Encounter/gone`, ours + `https://gp.example/fhir/Encounter/gone","display":"d"}`},
		{`/Encounter/gone`, ours + `https://gp.example/fhir/Encounter/gone","display":"d"}`},
		{`Encounter/gone/_history/2`, ours + `https://gp.example/fhir/Encounter/gone/_history/2","display":"d"}`},
		{`Encounter/gone#x`, ours + `https://gp.example/fhir/Encounter/gone#x","display":"d"}`},
		{`Encounter/gone/`, ours + `https://gp.example/fhir/Encounter/gone/","display":"d"}`},
		{`Encounter/a:b`, ours + `https://gp.example/fhir/Encounter/a:b","display":"d"}`},
		{`encounter/e`, ours + `https://gp.example/fhir/encounter/e","display":"d"}`},
		{`e`, ours + `https://gp.example/fhir/e","display":"d"}`},
		{`/fhir/Encounter/gone`, ours + `https://gp.example/fhir/Encounter/gone","display":"d"}`},
		{`/files/gone`, ours + `https://gp.example/files/gone","display":"d"}`},
		{`//elsewhere.example/fhir/Encounter/e`, ours + `https://elsewhere.example/fhir/Encounter/e","display":"d"}`},
		{`Practitioner?identifier=https://fhir.nhs.uk/Id/sds-user-id|1`, ours + `https://gp.example/fhir/Practitioner?identifier=https://fhir.nhs.uk/Id/sds-user-id|1","display":"d"}`},
		// Of its own server in full, of elsewhere, and names: as they came.
		{`https://gp.example/fhir/Encounter/gone`, ours + `https://gp.example/fhir/Encounter/gone","display":"d"}`},
		{`https:\/\/elsewhere.example\/fhir\/Encounter\/e`, ours + `https:\/\/elsewhere.example\/fhir\/Encounter\/e","display":"d"}`},
		{`https://broker.example/fhirx/Encounter/e`, ours + `https://broker.example/fhirx/Encounter/e","display":"d"}`},
		{`https://broker.example:8443/fhir/Encounter/e`, ours + `https://broker.example:8443/fhir/Encounter/e","display":"d"}`},
		{`urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0`, ours + `urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0","display":"d"}`},
		// On our own base.
		{`//broker.example/fhir/Encounter/acute-e`, maskJSON},
		{`https:/broker.example/fhir/Encounter/acute-e`, maskJSON},
		{`https:\\\\broker.example/fhir/Encounter/acute-e`, maskJSON},
		{`https://broker%2Eexample/fhir/Encounter/acute-e`, maskJSON},
		{`https://broker.example./fhir/Encounter/acute-e`, maskJSON},
		{`https://broker.example/fhir/Enc\tounter/acute-e`, maskJSON},
		{`https://broker.example/fhir/Encounter/acute-e?x=%zz#%`, maskJSON},
		{`https://ｂroker.example/fhir/Encounter/acute-e`, maskJSON},
		{`https://broker。example/fhir/Encounter/acute-e`, maskJSON},
		{`https://broker.example/%zz/fhir/Encounter/acute-e`, maskJSON},
		{`https://broker.example\\fhir/Encounter/acute-e`, maskJSON},
		{`https://broker.example/fhir/Encounter/acute-e`, maskJSON},
		{`http://broker.example/fhir/Encounter/acute-e/_history/1`, maskJSON},
		{`HTTPS://Broker.Example:443/fhir/Encounter/acute-e`, maskJSON},
		{`https://broker.example/x/../fhir/./Encounter/acute-e`, maskJSON},
		{`https://broker.example/%66hir/Encounter/acute-e`, maskJSON},
		{`https://broker.example/fhir/Encounter?_id=acute-e`, maskJSON},
	} {
		p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Encounter","id":"e",`+toAda+`}`,
			`{"resourceType":"Observation","id":"1",`+toAda+`,"encounter":{"reference":"`+c.before+`","display":"d"}}`))
		if got := member(t, p, "Observation", "gp-1", "encounter"); got != c.after || p.Dangling != 1 {
			t.Errorf("%s: got %s, dangling %d", c.before, got, p.Dangling)
		}
	}
	// To what is financial: it is not in the answer, and the reference leads nowhere.
	p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Coverage","id":"c"}`,
		`{"resourceType":"ServiceRequest","id":"1",`+toAda+`,"insurance":[{"reference":"Coverage/c"}]}`))
	if got := member(t, p, "ServiceRequest", "gp-1", "insurance"); got != `[{"reference":"https://gp.example/fhir/Coverage/c"}]` || p.Dangling != 1 || p.Counts.Financial != 1 {
		t.Errorf("got %s, %+v", got, p.Counts)
	}
}

// Which server a relative reference that dangles is about: that of the entry's fullUrl, else the custodian's, and never ours.
func TestWhereDanglingReferencesLead(t *testing.T) {
	for _, c := range []struct{ name, base, fullURL, want string }{
		{"as configured", "https://gp.example/fhir", "", "https://gp.example/fhir/Encounter/gone"},
		{"a base that ends in a slash", "https://gp.example/fhir/", "", "https://gp.example/fhir/Encounter/gone"},
		{"by http", "http://gp.example/fhir", "http://gp.example/fhir/Observation/1", "http://gp.example/fhir/Encounter/gone"},
		{"as the server knows itself", "https://gp.example/fhir", "https://inside.example/r4/Observation/1", "https://inside.example/r4/Encounter/gone"},
		{"a server that says it is us", "https://gp.example/fhir", "https://broker.example/fhir/Observation/1", "https://gp.example/fhir/Encounter/gone"},
		{"no base", "", "", "https://mycarerecord.example/custodian/gp/Encounter/gone"},
		{"our own base", "https://broker.example/fhir", "", "https://mycarerecord.example/custodian/gp/Encounter/gone"},
		{"above our own base", "https://broker.example", "", "https://broker.example/Encounter/gone"},
		{"a root with escapes", "https://gp.example/fhir", "https://inside.example/tenant%2Fa/x%25y/Observation/1", "https://inside.example/tenant%2Fa/x%25y/Encounter/gone"},
		{"beside our own base", "https://broker.example/gp", "", "https://broker.example/gp/Encounter/gone"},
	} {
		reply := replyOf(t, c.fullURL+` {"resourceType":"Observation","id":"1","encounter":{"reference":"Encounter/gone"},`+
			`"subject":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}}}`)
		reply.Base = c.base
		p := prepare(t, request(t), everything, reply)
		if got := member(t, p, "Observation", "gp-1", "encounter"); got != `{"reference":"`+c.want+`"}` {
			t.Errorf("%s: got %s", c.name, got)
		}
	}
	// On our own host, what would climb to our base does not stay an address.
	for _, c := range [][2]string{{"https://broker.example", "fhir/Encounter/acute-e"}, {"https://broker.example/gp", "../fhir/Encounter/acute-e"}, {"https://broker.example/gp", "%2e%2e/fhir/Encounter/acute-e"}} {
		reply := replyOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`,"encounter":{"reference":"`+c[1]+`"}}`)
		reply.Base = c[0]
		p := prepare(t, request(t), everything, reply)
		if got := member(t, p, "Observation", "gp-1", "encounter"); got != `{"reference":"https://mycarerecord.example/custodian/gp/`+c[1]+`"}` {
			t.Errorf("%v: got %s", c, got)
		}
		req := request(t)
		req.CodeBase = "https://broker.example"
		reply.Entries[1] = entryOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`,"encounter":{"reference":"../../../gp/../fhir/Encounter/acute-e"}}`)
		if got := member(t, prepare(t, req, everything, reply), "Observation", "gp-1", "encounter"); got != maskJSON {
			t.Errorf("%v: got %s", c, got)
		}
	}
}

func TestWhatIsCalledReferenceAndIsNone(t *testing.T) {
	p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Encounter","id":"e",`+toAda+`}`,
		`{"resourceType":"DetectedIssue","id":"1","patient":{"reference":"Patient/p"},"reference":"Encounter/e"}`,
		`{"resourceType":"Immunization","id":"2","patient":{"reference":"Patient/p"},"education":[{"reference":"Encounter/e"}]}`))
	if got := member(t, p, "DetectedIssue", "gp-1", "reference"); got != `"Encounter/e"` {
		t.Errorf("got %s", got)
	}
	if got := member(t, p, "Immunization", "gp-2", "education"); got != `[{"reference":"Encounter/e"}]` {
		t.Errorf("got %s", got)
	}
	// And what is made to look like one of these is a Reference all the same.
	p = prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Encounter","id":"e",`+toAda+`}`,
		`{"resourceType":"Observation","id":"1",`+toAda+`,"education":[{"reference":"Encounter/e"}]}`,
		`{"resourceType":"Observation","id":"2",`+toAda+`,"encounter":{"reference":"Encounter/e","language":"en","expression":"e"}}`))
	if got := member(t, p, "Observation", "gp-1", "education"); got != `[{"reference":"Encounter/gp-e"}]` {
		t.Errorf("got %s", got)
	}
	if got := member(t, p, "Observation", "gp-2", "encounter"); !strings.HasPrefix(got, `{"reference":"Encounter/gp-e"`) {
		t.Errorf("got %s", got)
	}
}

func TestDocuments(t *testing.T) {
	sealed := everything
	sealed.DocumentAddress = func(d Document) string {
		if !strings.HasPrefix(d.Address, "https://gp.example/fhir/") && !strings.HasPrefix(d.Address, "https://documents.example/") {
			return ""
		}
		return "https://broker.example/fhir/Binary/sealed?of=" + d.Address
	}
	binary := `{"resourceType":"Binary","id":"b","contentType":"text/plain","data":"eA=="}`
	p := prepare(t, request(t), sealed, replyOf(t, `{"resourceType":"DocumentReference","id":"1",`+toAda+`,"content":[{"attachment":{"url":"https://broker.example/fhir/Binary/acute-b"}}]}`))
	if got := member(t, p, "DocumentReference", "gp-1", "content"); got != `[{"attachment":`+maskJSON+`}]` || p.Dangling != 1 {
		t.Errorf("an address of ours: got %s", got)
	}
	for _, c := range []struct {
		name, url  string
		rules      Rules
		want       string
		dangling   int
		withBinary bool
	}{
		{"in the reply", "Binary/b", sealed, "https://broker.example/fhir/Binary/gp-b", 0, true},
		{"in the reply, absolute", "https://gp.example/fhir/Binary/b", everything, "https://broker.example/fhir/Binary/gp-b", 0, true},
		{"on the server", "Binary/x", sealed, "https://broker.example/fhir/Binary/sealed?of=https://gp.example/fhir/Binary/x", 0, false},
		{"on the server, absolute", "https://gp.example/fhir/docs/x.pdf?v=1", sealed, "https://broker.example/fhir/Binary/sealed?of=https://gp.example/fhir/docs/x.pdf?v=1", 0, false},
		{"on the server, no address for it", "Binary/x", everything, "https://gp.example/fhir/Binary/x", 1, false},
		{"on the server, absolute, no address for it", "https://gp.example/fhir/Binary/x", everything, "https://gp.example/fhir/Binary/x", 1, false},
		{"on another server that the adapter can open", "https://documents.example/x.pdf", sealed, "https://broker.example/fhir/Binary/sealed?of=https://documents.example/x.pdf", 0, false},
		{"elsewhere", "https://elsewhere.example/x.pdf", sealed, "https://elsewhere.example/x.pdf", 0, false},
		{"a server whose name begins the same", "https://gp.example/fhirx/Binary/b", sealed, "https://gp.example/fhirx/Binary/b", 0, false},
		{"data", "data:text/plain,x", sealed, "data:text/plain,x", 0, false},
	} {
		for _, shape := range []string{`"resourceType":"DocumentReference","content":[{"attachment":{"url":"URL"}}]`, `"resourceType":"DiagnosticReport","presentedForm":[{"url":"URL"}]`,
			`"resourceType":"Media","content":{"url":"URL"}`, `"resourceType":"Communication","payload":[{"contentAttachment":{"url":"URL"}}]`,
			`"resourceType":"Observation","extension":[{"url":"URL","valueAttachment":{"url":"URL"}}]`} {
			texts := []string{`{` + strings.ReplaceAll(shape, "URL", c.url) + `,"id":"1",` + toAda + `}`}
			if c.withBinary {
				texts = append(texts, binary)
			}
			p := prepare(t, request(t), c.rules, replyOf(t, texts...))
			var got string
			for _, e := range p.Entries {
				if e.ID == "gp-1" {
					got = string(e.JSON)
				}
			}
			if !strings.Contains(got, `{"url":"`+c.want+`"}`) || p.Dangling != c.dangling || has(p, "Binary", "gp-b") != c.withBinary {
				t.Errorf("%s: got %s, dangling %d", c.name, got, p.Dangling)
			}
			if strings.Contains(shape, "extension") && !strings.Contains(got, `"extension":[{"url":"`+c.url+`"`) {
				t.Errorf("%s: the address of an extension is no document: %s", c.name, got)
			}
		}
	}
}

func TestSupportingResources(t *testing.T) {
	p := prepare(t, request(t), everything, replyOf(t,
		`{"resourceType":"Observation","id":"1",`+toAda+`,"performer":[{"reference":"PractitionerRole/r"}],"device":{"reference":"Device/d"}}`,
		`{"resourceType":"PractitionerRole","id":"r","practitioner":{"reference":"Practitioner/a"},"organization":{"reference":"Organization/o"}}`,
		`{"resourceType":"Practitioner","id":"a"}`, `{"resourceType":"Organization","id":"o","partOf":{"reference":"Organization/o2"}}`,
		`{"resourceType":"Organization","id":"o2","partOf":{"reference":"Organization/o"}}`, `{"resourceType":"Device","id":"d"}`,
		`{"resourceType":"Practitioner","id":"unlinked","qualification":[{"issuer":{"reference":"Organization/o3"}}]}`, `{"resourceType":"Organization","id":"o3"}`,
		`{"resourceType":"Device","id":"idle"}`, `{"resourceType":"Device","id":"hers","patient":{"reference":"Patient/p"}}`))
	if p.Counts.Unlinked != 3 || p.Counts.Shown != 8 || p.Dangling != 0 {
		t.Fatalf("%s %+v", list(p.Entries), p.Counts)
	}
	for _, e := range p.Entries {
		want := Include
		if e.ID == "gp-1" || e.ID == "gp-hers" {
			want = Match
		}
		if e.Mode != want {
			t.Errorf("%s is %s", e.ID, e.Mode)
		}
	}
	if strings.Contains(string(find(t, p, "Practitioner", "gp-a").JSON), "/CodeSystem/section") {
		t.Error("a Practitioner stands in no section")
	}
}

func TestProvenanceOfTheCustodian(t *testing.T) {
	p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`}`,
		`{"resourceType":"Provenance","id":"a","target":[{"reference":"Observation/1"},{"reference":"Claim/1"}],"agent":[{"who":{"reference":"Practitioner/d"}}]}`,
		`{"resourceType":"Provenance","id":"b","target":[{"reference":"Observation/gone"}],"agent":[{"who":{"reference":"Practitioner/d2"}}]}`,
		`{"resourceType":"Provenance","id":"c","target":[{"reference":"Observation/1"}],"agent":[{"who":{"reference":"Patient/q"}}]}`,
		`{"resourceType":"Practitioner","id":"d"}`, `{"resourceType":"Practitioner","id":"d2"}`))
	if got := list(p.Entries); got != "Patient/gp-p Observation/gp-1 Practitioner/gp-d Provenance/gp-a" {
		t.Errorf("got %s", got)
	}
	if p.Counts.Unlinked != 2 || p.Counts.Strangers != 1 {
		t.Errorf("%+v", p.Counts)
	}
}

func TestFilters(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	reply := replyOf(t,
		`{"resourceType":"Observation","id":"old",`+toAda+`,"effectiveDateTime":"2010-01-01","meta":{"lastUpdated":"2025-01-01T00:00:00Z"},"performer":[{"reference":"Practitioner/d"}]}`,
		`{"resourceType":"Observation","id":"new",`+toAda+`,"effectiveDateTime":"2020-01-01","meta":{"lastUpdated":"2020-01-01T00:00:00Z"}}`,
		`{"resourceType":"Encounter","id":"long",`+toAda+`,"period":{"start":"2009-01-01"}}`,
		`{"resourceType":"Condition","id":"undated",`+toAda+`,"meta":{"lastUpdated":"no date"},"encounter":{"reference":"Encounter/long"}}`,
		`{"resourceType":"Practitioner","id":"d"}`)
	for _, c := range []struct {
		name, want string
		f          Filter
		filtered   int
		unlinked   int
		note       string
	}{
		{"none", "Patient/gp-p Observation/gp-new Observation/gp-old Encounter/gp-long Condition/gp-undated Practitioner/gp-d", Filter{}, 0, 0, ""},
		{"types", "Patient/gp-p Observation/gp-new Observation/gp-old Practitioner/gp-d", Filter{Types: []string{"Observation"}}, 2, 0, ""},
		{"a type that supports", "Patient/gp-p Practitioner/gp-d", Filter{Types: []string{"Practitioner"}}, 4, 0, ""},
		{"Patient only", "Patient/gp-p", Filter{Types: []string{"Patient"}}, 4, 1, ""},
		{"start", "Patient/gp-p Observation/gp-new Encounter/gp-long Condition/gp-undated", Filter{Start: day("2015-01-01")}, 1, 1, "marked undated: 1"},
		{"end", "Patient/gp-p Observation/gp-old Encounter/gp-long Condition/gp-undated Practitioner/gp-d", Filter{End: day("2015-01-01")}, 1, 0, "marked undated: 1"},
		{"since that very moment", "Patient/gp-p Encounter/gp-long Condition/gp-undated", Filter{Since: day("2025-01-01").Add(time.Second)}, 2, 1, "marked last-updated-unknown: 2"},
		{"since", "Patient/gp-p Observation/gp-old Encounter/gp-long Condition/gp-undated Practitioner/gp-d", Filter{Since: day("2024-01-01")}, 1, 0, "marked last-updated-unknown: 2"},
	} {
		req := request(t)
		req.Filter = c.f
		p := prepare(t, req, everything, reply)
		if got := list(p.Entries); got != c.want || p.Counts.Filtered != c.filtered || p.Counts.Unlinked != c.unlinked || p.Status.State != record.Returned {
			t.Errorf("%s: got %s %+v", c.name, got, p.Counts)
		}
		a := Assemble(req, []Prepared{p}, nil)
		said := ""
		for _, e := range a.Entries {
			if e.Mode == Outcome {
				said += string(e.JSON)
			}
		}
		if c.note == "" && said != "" || !strings.Contains(said, c.note) {
			t.Errorf("%s: said %s", c.name, said)
		}
		for _, e := range p.Entries {
			if marked := strings.Contains(string(e.JSON), `"last-updated-unknown"`); marked != (strings.HasPrefix(c.name, "since") && (e.ID == "gp-long" || e.ID == "gp-undated")) {
				t.Errorf("%s: %s marked %v", c.name, e.ID, marked)
			}
		}
	}
	// What is filtered out still has its id: the reference leads to it in another answer.
	req := request(t)
	req.Filter.Types = []string{"Condition"}
	p := prepare(t, req, everything, reply)
	if got := member(t, p, "Condition", "gp-undated", "encounter", "reference"); got != `"Encounter/gp-long"` || p.Dangling != 0 {
		t.Errorf("got %s", got)
	}
}

func TestNewIDs(t *testing.T) {
	long := strings.Repeat("x", 61)
	p := preparing{req: request(t), number: asked, reply: Reply{Custodian: custodian("gp", record.KindGP)}, legalKey: true}
	for _, c := range []struct {
		id    string
		plain bool
	}{{"1", true}, {"a-b.C9", true}, {long, true}, {long + "x", false}, {"a_b", false}, {"a b", false}, {"é", false}, {"9990000018", false}, {"x-9990000026-y", false},
		{"999-000-0018", false}, {"999.000.0018.1", false}, {"9990000019", true}, {"12345678901", true}} {
		got := "gp-" + p.idOf("Observation", c.id)
		if plain := got == "gp-"+c.id; plain != c.plain || !legalID(got) || !plain && len(got) != len("gp-")+32 {
			t.Errorf("%s became %s", c.id, got)
		}
		if got != "gp-"+p.idOf("Observation", c.id) || !c.plain && got == "gp-"+p.idOf("Condition", c.id) {
			t.Errorf("%s is not told by its type and itself alone", c.id)
		}
	}
	other := p
	other.req.IDKey = []byte("another key")
	if other.idOf("Patient", asked) == p.idOf("Patient", asked) {
		t.Error("the key makes no difference")
	}
	other = p
	other.reply.Custodian.Key = "acute"
	if other.idOf("Patient", asked) == p.idOf("Patient", asked) {
		t.Error("the custodian makes no difference")
	}
}

func TestTheNHSNumberAsAnID(t *testing.T) {
	p := prepare(t, request(t), everything, bare(t, "https://gp.example/fhir/Patient/9990000018 "+strings.Replace(ada, `"id":"p"`, `"id":"9990000018"`, 1),
		`{"resourceType":"Observation","id":"obs-9990000018","subject":{"reference":"Patient/9990000018"}}`))
	if p.Counts.Shown != 2 || strings.Contains(p.PatientID, asked) {
		t.Fatalf("%s", list(p.Entries))
	}
	for _, e := range p.Entries {
		if strings.Contains(e.FullURL, asked) || e.Type == "Observation" && strings.Contains(string(e.JSON), asked) {
			t.Error("the number stands in an address")
		}
	}
}

func TestEntriesWithoutAnID(t *testing.T) {
	texts := []string{`{"resourceType":"Observation",` + toAda + `,"identifier":[{"value":"no system"},{"system":"s","value":"1"}],"valueInteger":1}`,
		`{"resourceType":"Observation",` + toAda + `,"valueInteger":2}`, `{"resourceType":"Observation",` + toAda + `,"identifier":[{"system":"s","value":"twice"}],"valueInteger":3}`,
		`{"resourceType":"Observation",` + toAda + `,"identifier":[{"system":"s","value":"twice"}],"valueInteger":4}`, `{"resourceType":"Observation","id":"",` + toAda + `,"valueInteger":5}`,
		`{"resourceType":"Observation",` + toAda + `,"valueInteger":2}`}
	p := prepare(t, request(t), everything, replyOf(t, texts...))
	if p.Counts.Shown != 6 || p.Counts.Folded != 1 || len(p.Status.Parts) != 0 {
		t.Fatalf("%+v %v", p.Counts, p.Status.Parts)
	}
	ids := map[string]string{}
	for _, e := range p.Entries {
		if !legalID(e.ID) || ids[e.ID] != "" {
			t.Errorf("id %s", e.ID)
		}
		if e.Type == "Observation" {
			ids[e.ID] = member(t, p, "Observation", e.ID, "valueInteger")
		}
	}
	// The same input gives the same ids; a changed one with a business identifier keeps its own.
	texts[0] = strings.Replace(texts[0], `"valueInteger":1`, `"valueInteger":10`, 1)
	again := prepare(t, request(t), everything, replyOf(t, texts...))
	for _, e := range again.Entries {
		if e.Type == "Observation" && (ids[e.ID] == "" || ids[e.ID]+"0" != member(t, again, "Observation", e.ID, "valueInteger") && ids[e.ID] != member(t, again, "Observation", e.ID, "valueInteger")) {
			t.Errorf("%s is new", e.ID)
		}
	}
}

func TestCopies(t *testing.T) {
	copyOf := func(updated, value string) string {
		meta := ""
		if updated != "" {
			meta = `"meta":{"lastUpdated":"` + updated + `"},`
		}
		return `{"resourceType":"Observation","id":"1",` + meta + toAda + `,"valueString":"` + value + `"}`
	}
	const old, recent, none = "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", ""
	texts := []string{copyOf(old, "old"), copyOf(recent, "new"), copyOf(none, "none"), copyOf(old, "old"), copyOf(recent, "new"),
		`{"resourceType":"DiagnosticReport","id":"r",` + toAda + `,"result":[{"reference":"Observation/1"}]}`}
	first := prepare(t, request(t), everything, replyOf(t, texts...))
	if first.Counts.Folded != 2 || first.Counts.Shown != 5 || reasons(first.Status) != "conflicting-copies=2" || first.Status.State != record.ReturnedInPart || first.Alarm {
		t.Fatalf("%+v %s", first.Counts, reasons(first.Status))
	}
	if got := member(t, first, "Observation", "gp-1", "valueString"); got != `"new"` {
		t.Errorf("the id is kept by %s", got)
	}
	if got := member(t, first, "DiagnosticReport", "gp-r", "result"); got != `[{"reference":"Observation/gp-1"}]` {
		t.Errorf("got %s", got)
	}
	for _, e := range first.Entries {
		if tagged := strings.Contains(string(e.JSON), `{"system":"https://mycarerecord.example/CodeSystem/tag","code":"conflicting-copies"}`); tagged != (e.Type == "Observation") {
			t.Errorf("%s tagged %v", e.ID, tagged)
		}
	}
	// The order of arrival makes no difference, nor where nothing says which is later.
	for _, set := range [][]string{texts, {copyOf(none, "a"), copyOf(none, "b"), copyOf(none, "c")}} {
		backwards := make([]string, len(set))
		for i := range set {
			backwards[len(set)-1-i] = set[i]
		}
		a, b := prepare(t, request(t), everything, replyOf(t, set...)), prepare(t, request(t), everything, replyOf(t, backwards...))
		if list(a.Entries) != list(b.Entries) || a.Digest != b.Digest {
			t.Errorf("%s\n%s", list(a.Entries), list(b.Entries))
		}
	}
	// A copy about somebody else is dropped, and references lead to the one that stays.
	strange := strings.Replace(copyOf(recent, "strange"), "Patient/p", "Patient/q", 1)
	for _, set := range [][]string{{strange, texts[0], texts[5]}, {texts[0], strange, texts[5]}, {strange, strange, texts[0], texts[5]}} {
		p := prepare(t, request(t), everything, replyOf(t, set...))
		if p.Counts.Strangers != 1 || member(t, p, "Observation", "gp-1", "valueString") != `"old"` || member(t, p, "DiagnosticReport", "gp-r", "result") != `[{"reference":"Observation/gp-1"}]` {
			t.Errorf("%s %+v", list(p.Entries), p.Counts)
		}
	}
}

// What is byte for byte the same is about whom its own server says: a copy of another's is not lost with it.
func TestCopiesOfAStrangersBytes(t *testing.T) {
	here := `https://a.example/fhir/AllergyIntolerance/1 {"resourceType":"AllergyIntolerance","id":"1","patient":{"reference":"Patient/p"}}`
	there := strings.Replace(here, "a.example", "b.example", 1)
	texts := []string{there, here, there, here}
	for range 2 {
		p := prepare(t, request(t), everything, bare(t, append([]string{"https://a.example/fhir/Patient/p " + ada}, texts...)...))
		if !has(p, "AllergyIntolerance", "gp-1") || p.Counts.Shown != 2 || p.Counts.Strangers+p.Counts.Folded != 3 {
			t.Errorf("%s %+v", list(p.Entries), p.Counts)
		}
		slices.Reverse(texts)
	}
	other := strings.Replace(here, `"id":"1"`, `"id":"1","code":{"text":"x"}`, 1)
	if p := prepare(t, request(t), everything, bare(t, "https://a.example/fhir/Patient/p "+ada, there, here, other)); p.Counts.Shown != 3 || reasons(p.Status) != "conflicting-copies=1 other-people=1" {
		t.Errorf("%s %+v %s", list(p.Entries), p.Counts, reasons(p.Status))
	}
	condition := `{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/q"}}`
	q := strings.Replace(ada, `"p"`, `"q"`, 1)
	for _, r := range []Reply{beside(t, []string{ada, condition}, []string{q, condition}), beside(t, []string{q, condition}, []string{ada, condition})} {
		if p := prepare(t, request(t), everything, r); !has(p, "Condition", "gp-c1") {
			t.Errorf("%s %+v", list(p.Entries), p.Counts)
		}
	}
}

// What a prescription refers to is shown in all its copies: which dose is meant, its reader must ask.
func TestCopiesOfWhatSupports(t *testing.T) {
	texts := []string{`{"resourceType":"MedicationRequest","id":"1",` + toAda + `,"medicationReference":{"reference":"Medication/m"}}`,
		`{"resourceType":"Medication","id":"m","code":{"text":"Methotrexate 10 mg"},"manufacturer":{"reference":"Organization/a"}}`, `{"resourceType":"Organization","id":"a"}`,
		`{"resourceType":"Medication","id":"m","code":{"text":"Methotrexate 2.5 mg"},"manufacturer":{"reference":"Organization/b"}}`, `{"resourceType":"Organization","id":"b"}`}
	for range 2 {
		p := prepare(t, request(t), everything, replyOf(t, texts...))
		if p.Counts.Shown != 6 || p.Counts.Unlinked != 0 || reasons(p.Status) != "conflicting-copies=1" {
			t.Errorf("%s %+v %s", list(p.Entries), p.Counts, reasons(p.Status))
		}
		slices.Reverse(texts)
	}
}

// Ids that FHIR does not allow are found by what refers to them all the same.
func TestIDsThatAddressesEscape(t *testing.T) {
	for _, id := range []string{"p%7C1", "p%2D1", "a b", "a//b", "100%"} {
		for _, url := range []string{"", "https://gp.example/fhir/Patient/" + id + " "} {
			for _, root := range []string{"", "https://gp.example/fhir/"} {
				p := prepare(t, request(t), everything, bare(t, url+strings.Replace(ada, `"id":"p"`, `"id":"`+id+`"`, 1), `{"resourceType":"Observation","id":"o","subject":{"reference":"`+root+`Patient/`+id+`"}}`))
				if p.Counts.Shown != 2 || p.Dangling != 0 {
					t.Errorf("%q %q %q: %+v", id, url, root, p.Counts)
				}
			}
		}
	}
}

// A relative address of a document is on the custodian's server, whatever it holds and wherever it stands.
func TestRelativeDocumentsAreTheCustodians(t *testing.T) {
	for _, at := range []string{"Binary/acute-b?at=10:30", "Binary/acute-b#page:1"} {
		for _, text := range []string{`{"resourceType":"DocumentReference","id":"1",` + toAda + `,"content":[{"attachment":{"url":"AT"}}]}`,
			`{"resourceType":"DiagnosticReport","id":"1",` + toAda + `,"contained":[{"resourceType":"Media","id":"m","content":{"url":"AT"}}]}`} {
			p := prepare(t, request(t), everything, replyOf(t, strings.Replace(text, "AT", at, 1)))
			if got := string(p.Entries[1].JSON); !strings.Contains(got, `"url":"https://gp.example/fhir/`+at+`"`) || p.Dangling != 1 {
				t.Errorf("%s: got %s", at, got)
			}
		}
	}
}

// Addresses of documents elsewhere stay, however they are written.
func TestDocumentsElsewhereStay(t *testing.T) {
	for _, url := range []string{`https://docs.example/Report 100%.pdf`, `https://docs.example/get?file=C:\\scans\\1.pdf`, `https://docs.example/a?q=100%`, `httpx://docs/1`} {
		p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"DocumentReference","id":"d",`+toAda+`,"content":[{"attachment":{"url":"`+url+`"}}]}`))
		if got := member(t, p, "DocumentReference", "gp-d", "content", "attachment"); got != `{"url":"`+url+`"}` {
			t.Errorf("%s: got %s", url, got)
		}
	}
}

func TestAnIDThatIsMadeToCollideIsRefused(t *testing.T) {
	p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Observation",`+toAda+`}`))
	made := ""
	for _, e := range p.Entries {
		if e.Type == "Observation" {
			made = strings.TrimPrefix(e.ID, "gp-")
		}
	}
	if _, err := Prepare(request(t), everything, replyOf(t, `{"resourceType":"Observation",`+toAda+`}`, `{"resourceType":"Observation","id":"`+made+`",`+toAda+`}`)); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestMeta(t *testing.T) {
	const source, gp = `"source":"https://mycarerecord.example/custodian/gp"`, `{"system":"https://mycarerecord.example/CodeSystem/custodian","code":"gp"},` +
		`{"system":"https://mycarerecord.example/CodeSystem/section","code":"history"},{"system":"https://mycarerecord.example/CodeSystem/time","code":"undated"}`
	const moved = `{"url":"https://mycarerecord.example/StructureDefinition/original-source","valueUri":"urn:x#\u00e9"}`
	for _, c := range []struct{ name, before, after string }{
		{"none", ``, `"meta":{` + source + `,"tag":[` + gp + `]},`},
		{"empty", `"meta":{},`, `"meta":{"tag":[` + gp + `],` + source + `},`},
		{"kept members", `"meta" : { "versionId":"3", "lastUpdated":"2020-01-01T00:00:00.000+00:00" ,"profile":["p"],"security":[{"code":"R"}]},`,
			`"meta" : {"tag":[` + gp + `],` + source + `, "versionId":"3", "lastUpdated":"2020-01-01T00:00:00.000+00:00" ,"profile":["p"],"security":[{"code":"R"}]},`},
		{"tags", `"meta":{"tag":[ {"code":"x"}]},`, `"meta":{` + source + `,"tag":[` + gp + `, {"code":"x"}]},`},
		{"empty tags", `"meta":{"tag":[ ]},`, `"meta":{` + source + `,"tag":[` + gp + ` ]},`},
		{"source", `"meta":{"source":"urn:x#\u00e9"},`, `"meta":{"tag":[` + gp + `],"extension":[` + moved + `],` + source + `},`},
		{"source and extension", `"meta":{"extension":[{"url":"u","valueCode":"c"}],"source" : "urn:x#\u00e9"},`,
			`"meta":{"tag":[` + gp + `],"extension":[` + moved + `,{"url":"u","valueCode":"c"}],"source" : "https://mycarerecord.example/custodian/gp"},`},
	} {
		p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Observation","id":"1",`+c.before+toAda+`}`))
		want := `{"resourceType":"Observation","id":"gp-1",` + c.after + `"subject":{"reference":"Patient/gp-p"}}`
		if got := string(find(t, p, "Observation", "gp-1").JSON); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
	}
	// Wherever id and resourceType stand, and whatever comes first.
	p := prepare(t, request(t), everything, replyOf(t, "{\n  \"meta\": {},\n  \"id\": \"1\",\n  "+toAda+",\n  \"resourceType\": \"Observation\"\n}"))
	if got := tree(t, find(t, p, "Observation", "gp-1").JSON).(map[string]any); got["id"] != "gp-1" || len(got["meta"].(map[string]any)) != 2 {
		t.Errorf("%v", got)
	}
}

// What is said of a server does not depend on the order in which entries come, whatever stands in their types: here the address of the first leaves no root at all.
func TestRootsWhateverComesFirst(t *testing.T) {
	entries := []string{`https://x/1 {"resourceType":"/x","id":"1"}`, `https://int/r4/Patient/p ` + ada, `{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"}}`,
		`https://int/r4/Condition/c {"resourceType":"Condition","id":"c","subject":{"reference":"https://gp.example/fhir/Patient/p"}}`}
	var first Counts
	for i, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 2, 3}, {2, 3, 0, 1}} {
		var list []string
		for _, at := range order {
			list = append(list, entries[at])
		}
		p, err := Prepare(request(t), everything, bare(t, list...))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = p.Counts
		}
		if p.Counts != first || p.Counts.Shown != 1 {
			t.Errorf("in the order %v: %+v, and %+v in another", order, p.Counts, first)
		}
	}
}

func TestWaysToOurBase(t *testing.T) {
	for _, address := range []string{"Observation/o/_history/../../../Condition/acute-1", "Observation/o/_history/%2e%2e/%2e%2e/%2e%2e/Condition/acute-1", "https://broker.example:0443/fhir/Condition/acute-1"} {
		p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Observation","id":"o",`+toAda+`}`, `{"resourceType":"Observation","id":"e",`+toAda+`,"focus":[{"reference":"`+address+`"}]}`))
		if got := member(t, p, "Observation", "gp-e", "focus"); got != `[`+maskJSON+`]` && !strings.Contains(got, "gp.example") {
			t.Errorf("%s: %s", address, got)
		}
	}
}

// Browsers read the numbers of a host in ways of their own.
func TestNumbersOfOurHost(t *testing.T) {
	for base, hosts := range map[string][]string{"https://10.0.0.1/fhir": {"10.1", "167772161", "0x0a000001", "012.0.0.1"}, "https://[::1]/fhir": {"[0:0:0:0:0:0:0:1]"}} {
		for _, host := range hosts {
			req := request(t)
			req.Base = base
			p := prepare(t, req, everything, replyOf(t, `{"resourceType":"Observation","id":"e",`+toAda+`,"focus":[{"reference":"https://`+host+`/fhir/Condition/acute-1"}]}`))
			if got := member(t, p, "Observation", "gp-e", "focus"); got != `[`+maskJSON+`]` {
				t.Errorf("%s", got)
			}
		}
	}
}

func TestAddressesOfTwoRoots(t *testing.T) {
	p := prepare(t, request(t), everything, bare(t, "https://a.example/fhir/Patient/p "+ada,
		`https://a.example/fhir/Observation/1 {"resourceType":"Observation","id":"1",`+toAda+`,"valueString":"hers"}`,
		`https://b.example/fhir/Observation/1 {"resourceType":"Observation","id":"1","subject":{"reference":"Patient/q"}}`,
		`https://a.example/fhir/DiagnosticReport/r {"resourceType":"DiagnosticReport","id":"r",`+toAda+`,"result":[{"reference":"https://b.example/fhir/Observation/1"}]}`))
	if got := member(t, p, "DiagnosticReport", "gp-r", "result"); got != `[`+maskJSON+`]` {
		t.Errorf("a reference to somebody else's: %s", got)
	}
	p = prepare(t, request(t), everything, bare(t, "https://a.example/fhir/Patient/p "+ada,
		`https://a.example/fhir/Observation/1 {"resourceType":"Observation","id":"1",`+toAda+`,"valueString":"sodium","meta":{"lastUpdated":"2020-01-01T00:00:00Z"}}`,
		`https://b.example/fhir/Observation/1 {"resourceType":"Observation","id":"1","subject":{"reference":"https://a.example/fhir/Patient/p"},"valueString":"potassium","meta":{"lastUpdated":"2021-01-01T00:00:00Z"}}`,
		`https://a.example/fhir/DiagnosticReport/r {"resourceType":"DiagnosticReport","id":"r",`+toAda+`,"result":[{"reference":"Observation/1"},{"reference":"https://b.example/fhir/Observation/1"}]}`))
	if got := member(t, p, "DiagnosticReport", "gp-r", "result"); got == `[{"reference":"Observation/gp-1"},{"reference":"Observation/gp-1"}]` {
		t.Errorf("both lead to potassium: %s", got)
	}
}

// The same bytes mean what they mean at each root and source that they come from, whichever comes first.
func TestWhatFoldedCopiesMeanCounts(t *testing.T) {
	const o = `{"resourceType":"Observation","id":"1","subject":{"reference":"https://a.example/fhir/Patient/p"},"encounter":{"reference":"Encounter/e"}}`
	texts := []string{"https://a.example/fhir/Patient/p " + ada, `https://a.example/fhir/Observation/1 ` + o, `https://b.example/fhir/Observation/1 ` + o,
		`https://b.example/fhir/Encounter/e {"resourceType":"Encounter","id":"e","subject":{"reference":"https://a.example/fhir/Patient/p"},"type":[{"coding":[{"code":"35489007"}]}]}`}
	for range 2 {
		if p := prepare(t, request(t), without(record.MentalHealth), bare(t, texts...)); has(p, "Observation", "gp-1") {
			t.Error("shown")
		}
		texts[1], texts[2] = texts[2], texts[1]
	}
	const o2 = `{"resourceType":"Observation","id":"1",` + toAda + `,"encounter":{"reference":"Encounter/e"}}`
	r := bare(t, ada, o2)
	r.Beside = []Beside{{Base: "https://b.example/fhir", Entries: []fhirjson.Entry{entryOf(t, ada), entryOf(t, o2), entryOf(t, `{"resourceType":"Encounter","id":"e",`+toAda+`,"type":[{"coding":[{"code":"35489007"}]}]}`)}}}
	if p := prepare(t, request(t), without(record.MentalHealth), r); has(p, "Observation", "gp-1") {
		t.Error("shown, of two sources")
	}
}

// What names another Patient is that person's, however the address is spelt, and whether or not the reply holds them.
func TestAnotherPatientHoweverSpelt(t *testing.T) {
	for _, address := range []string{"Patient/q", "Patient/q/", "Patient/q?_format=json", "https://gp.example/fhir/Patient/q/", "Patient//q", "Patient%2Fq", " Patient/q", "Patient/q/_history/..", "Patient?identifier=x"} {
		p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Observation","id":"o",`+toAda+`,"focus":[{"reference":"`+address+`","display":"Baby Stranger"}]}`))
		if has(p, "Observation", "gp-o") {
			t.Errorf("%q", address)
		}
	}
}

func TestProvenancesOfProvenances(t *testing.T) {
	texts := []string{`{"resourceType":"Observation","id":"o",` + toAda + `}`, `{"resourceType":"Provenance","id":"a","target":[{"reference":"Observation/o"}]}`,
		`{"resourceType":"Provenance","id":"b","target":[{"reference":"Provenance/a"}]}`, `{"resourceType":"Provenance","id":"c","target":[{"reference":"Provenance/b"}]}`}
	for range 2 {
		if p := prepare(t, request(t), everything, replyOf(t, texts...)); p.Counts.Shown != 5 {
			t.Errorf("%s", list(p.Entries))
		}
		slices.Reverse(texts)
	}
	// Where nothing that they are about may be seen, none of them is.
	texts[0] = depression
	texts[1] = strings.Replace(texts[1], "Observation/o", "Condition/secret-condition", 1)
	for range 2 {
		if p := prepare(t, request(t), without(record.MentalHealth), replyOf(t, texts...)); p.Counts.Withheld != 4 {
			t.Errorf("%+v", p.Counts)
		}
		slices.Reverse(texts)
	}
}

// Of two Devices of one id one may be about the person and the other about nobody: both are what an Observation may mean.
func TestCopiesOfTwoClasses(t *testing.T) {
	p := prepare(t, request(t), everything, replyOf(t, `{"resourceType":"Observation","id":"o",`+toAda+`,"device":{"reference":"Device/d"}}`,
		`{"resourceType":"Device","id":"d","patient":{"reference":"Patient/p"},"meta":{"lastUpdated":"2021-01-01T00:00:00Z"}}`, `{"resourceType":"Device","id":"d","status":"active"}`))
	if p.Counts.Shown != 4 || reasons(p.Status) != "conflicting-copies=1" {
		t.Errorf("%+v %s", p.Counts, reasons(p.Status))
	}
}

func TestOnlyCopiesThatAreShownAreCounted(t *testing.T) {
	for _, text := range []string{`{"resourceType":"Claim","id":"c","status":"%"}`, `{"resourceType":"Location","id":"c","status":"%"}`} {
		p := prepare(t, request(t), everything, replyOf(t, strings.Replace(text, "%", "active", 1), strings.Replace(text, "%", "draft", 1)))
		if p.Status.State != record.Returned {
			t.Errorf("%s %s", p.Status.State, reasons(p.Status))
		}
	}
}

// An address at a root leads to what stands there, whichever of several copies came first.
func TestAnAddressLeadsToWhatStandsAtItsRoot(t *testing.T) {
	const a, b = "https://a.example/fhir/", "https://b.example/fhir/"
	const aspirin, warfarin = `{"resourceType":"Medication","id":"1","code":{"text":"aspirin"}}`, `{"resourceType":"Medication","id":"1","code":{"text":"warfarin"}}`
	medications := []string{b + "Medication/1 " + aspirin, a + "Medication/1 " + aspirin, b + "Medication/1 " + warfarin}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		texts := []string{a + "Patient/p " + ada, a + `MedicationRequest/r {"resourceType":"MedicationRequest","id":"r",` + toAda + `,"medicationReference":{"reference":"Medication/1"}}`}
		for _, i := range order {
			texts = append(texts, medications[i])
		}
		p := prepare(t, request(t), everything, bare(t, texts...))
		to := member(t, p, "MedicationRequest", "gp-r", "medicationReference", "reference")
		for _, e := range p.Entries {
			if `"Medication/`+e.ID+`"` == to && !strings.Contains(string(e.JSON), "aspirin") {
				t.Errorf("%v: the prescription leads to %s", order, e.JSON)
			}
		}
		if !strings.HasPrefix(to, `"Medication/gp-`) {
			t.Errorf("%v: %s", order, to)
		}
	}
}

func TestAStrangersCopyLeadsNobodyAway(t *testing.T) {
	const a, b = "https://a.example/fhir/", "https://b.example/fhir/"
	x, y := `{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/q"}}`, `{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p"}}`
	for _, o := range [][]string{{a + "Condition/c " + x, b + "Condition/c " + x, b + "Condition/c " + y}, {a + "Condition/c " + x, b + "Condition/c " + y, b + "Condition/c " + x}} {
		p := prepare(t, request(t), everything, bare(t, append([]string{b + "Patient/p " + ada, b + `Observation/o {"resourceType":"Observation","id":"o",` + toAda + `,"focus":[{"reference":"Condition/c"}]}`}, o...)...))
		if got := member(t, p, "Observation", "gp-o", "focus"); got != `[{"reference":"Condition/gp-c"}]` {
			t.Errorf("%s", got)
		}
	}
}

func TestCopiesWithoutIDsFromTwoSources(t *testing.T) {
	const n = `{"resourceType":"Observation","subject":{"reference":"https://gp.example/fhir/Patient/p"}}`
	r, e := replyOf(t, n), entryOf(t, "https://two.example/fhir/x "+n)
	r.Beside = []Beside{{Base: "https://two.example/fhir", Entries: []fhirjson.Entry{entryOf(t, ada), e, e}}}
	if p := prepare(t, request(t), everything, r); p.Counts.Folded != 3 || p.Counts.Shown != 2 {
		t.Errorf("%+v", p.Counts)
	}
}
