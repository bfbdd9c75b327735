package merge

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/samply/golang-fhir-models/fhir-models/fhir"

	"github.com/mycarerecord/mycarerecord/broker/fhirjson"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// Nothing that we author has the address of something else that we author, whatever a custodian's key is.
func TestNotesHaveAnIDOfTheirOwn(t *testing.T) {
	req := request(t)
	req.Filter.Since = now.Add(-time.Hour)
	reply := replyOf(t, `{"resourceType":"Observation","id":"1",`+toAda+`}`)
	reply.Custodian.Key = "notes"
	reply.Parts = []record.Part{{Reason: record.PartTruncated}}
	a := Assemble(req, []Prepared{prepare(t, req, everything, reply)}, nil)
	seen := map[string]bool{}
	outcomes := 0
	for _, e := range a.Entries {
		if e.Type == "OperationOutcome" {
			outcomes++
		}
		if seen[e.FullURL] {
			t.Errorf("%s twice", e.FullURL)
		}
		seen[e.FullURL] = true
	}
	if outcomes != 2 {
		t.Errorf("%d outcomes", outcomes)
	}
}

func TestWarningsBecomeParts(t *testing.T) {
	outcome := func(issue string) string {
		return `{"resourceType":"OperationOutcome","id":"o","issue":[` + issue + `]}`
	}
	coded := func(code string) string {
		return `{"severity":"warning","code":"incomplete","details":{"coding":[{"system":"https://fhir.hl7.org.uk/CodeSystem/UKCore-ListWarningCode","code":"` + code + `"}],"text":"marker"},"diagnostics":"marker"}`
	}
	listed := func(value string) string {
		return `{"resourceType":"List","id":"l",` + toAda + `,"extension":[{"url":"https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-ListWarningCode",` + value + `}]}`
	}
	for _, c := range []struct{ name, text, want string }{
		{"confidential items", outcome(coded("confidential-items")), "confidential-items"},
		{"data in transit", outcome(coded("data-in-transit")), "data-in-transit"},
		{"data awaiting filing", outcome(coded("data-awaiting-filing")), "data-awaiting-filing"},
		{"two of one sort", outcome(coded("data-in-transit") + `,` + coded("data-in-transit")), "data-in-transit"},
		{"two sorts", outcome(coded("data-in-transit") + `,` + coded("confidential-items")), "confidential-items data-in-transit"},
		{"incomplete", outcome(`{"severity":"warning","code":"incomplete"}`), "source-down"},
		{"an error of a search", outcome(`{"severity":"error","code":"exception"}`), "source-down"},
		{"unknown warning", outcome(`{"severity":"warning","code":"wonder"}`), "source-down"},
		{"suppressed", outcome(`{"severity":"warning","code":"suppressed"}`), "confidential-items"},
		{"too long", outcome(`{"severity":"warning","code":"too-long"}`), "truncated"},
		{"parameter ignored", outcome(`{"severity":"warning","code":"not-supported"}`), "filter-not-applied"},
		{"information", outcome(`{"severity":"information","code":"informational"}`), ""},
		{"on a List, coded", listed(`"valueCode":"confidential-items"`), "confidential-items"},
		{"on a List, as a concept", listed(`"valueCodeableConcept":{"coding":[{"code":"data-awaiting-filing"}]}`), "data-awaiting-filing"},
		{"on a List, of STU3", strings.Replace(listed(`"valueCode":"data-in-transit"`), "ListWarningCode", "ListWarningCode-1", 1), "data-in-transit"},
		{"on a List, unknown", listed(`"valueCode":"wonder"`), ""},
	} {
		p := prepare(t, request(t), everything, replyOf(t, c.text))
		if got := reasons(p.Status); got != c.want || (c.want == "") != (p.Status.State == record.Returned) {
			t.Errorf("%s: got %s, %s", c.name, got, p.Status.State)
		}
		isList := strings.Contains(c.text, `"List"`)
		if has(p, "OperationOutcome", "gp-o") || !isList && (p.Counts.Received != 1 || p.Counts.Shown != 1) {
			t.Errorf("%s: %s %+v", c.name, list(p.Entries), p.Counts)
		}
		if b := bundle(t, Assemble(request(t), []Prepared{p}, nil), BundleMeta{}); bytes.Contains(b, []byte("marker")) {
			t.Errorf("%s: the custodian's text is in the answer", c.name)
		}
	}
	// A List that is filtered out still warns; one that is withheld does not say that it is there.
	req := request(t)
	req.Filter.Types = []string{"Observation"}
	if got := reasons(prepare(t, req, everything, replyOf(t, listed(`"valueCode":"data-in-transit"`))).Status); got != "data-in-transit" {
		t.Errorf("got %s", got)
	}
	if got := reasons(prepare(t, request(t), without(record.History), replyOf(t, listed(`"valueCode":"data-in-transit"`))).Status); got != "withheld:history" {
		t.Errorf("got %s", got)
	}
	// Parts that the adapter found stay.
	reply := replyOf(t)
	reply.Parts = []record.Part{{Reason: record.PartTruncated, Source: "Observation"}}
	if got := prepare(t, request(t), everything, reply).Status; reasons(got) != "truncated" || got.State != record.ReturnedInPart {
		t.Errorf("got %+v", got)
	}
}

// neighbourhood is three custodians' parts, with the same ids in each.
func neighbourhood(t testing.TB) (Request, []Prepared, []record.Status) {
	req := request(t)
	var prepared []Prepared
	for _, c := range []struct {
		key  string
		kind record.CustodianKind
		day  string
	}{{"gp", record.KindGP, "2020-01-03"}, {"acute", record.KindAcute, "2020-01-02"}, {"pharmacy", record.KindPharmacy, "2020-01-04"}} {
		reply := bare(t, ada, `{"resourceType":"Observation","id":"1",`+toAda+`,"effectiveDateTime":"`+c.day+`","performer":[{"reference":"Practitioner/d"}]}`,
			`{"resourceType":"Observation","id":"2",`+toAda+`,"effectiveDateTime":"2019","derivedFrom":[{"reference":"Observation/1"}]}`,
			`{"resourceType":"Condition","id":"1",`+toAda+`}`, `{"resourceType":"Practitioner","id":"d"}`)
		reply.Custodian = custodian(c.key, c.kind)
		reply.Conversions = []string{"as it came"}
		p, err := Prepare(req, everything, reply)
		if err != nil {
			t.Fatal(err)
		}
		prepared = append(prepared, p)
	}
	status := func(key string, s record.Status) record.Status {
		s.Custodian = custodian(key, record.KindGP)
		return s
	}
	return req, prepared, []record.Status{status("gp", record.Status{State: record.NotAsked}), status("a", record.Status{State: record.TimedOut, Asked: now, Took: 3 * time.Second, Adapter: "fhirr4/1"}),
		status("acute", record.Status{}), status("b", record.Status{State: record.Withheld, Reason: "objection", Rule: "C-2.7"}), status("c", record.Status{State: record.NoRecord}),
		status("d", record.Status{State: record.Failed, Reason: "malformed"}), status("e", record.Status{State: record.Unavailable}),
		status("f", record.Status{State: record.NotAsked, Reason: record.NotAskedBudget}), status("g", record.Status{State: record.NotAsked, Reason: record.NotAskedLocator}),
		status("h", record.Status{State: record.NotAsked, Reason: record.NotAskedPermit}), status("pharmacy", record.Status{}),
		status("i", record.Status{}), status("j", record.Status{State: record.Returned}),
		status("k", record.Status{State: record.ReturnedInPart, Parts: []record.Part{{Section: "results", Reason: record.PartWithheld, Count: 2}, {Reason: record.PartConflictingCopies, Count: 1},
			{Source: "Pathology", Reason: record.PartSourceDown}, {Reason: "a new reason"}}})}
}

func TestAssemble(t *testing.T) {
	req, prepared, statuses := neighbourhood(t)
	a := Assemble(req, prepared, statuses)
	if got, want := list(a.Entries), "OperationOutcome/outcome-a OperationOutcome/outcome-b OperationOutcome/outcome-c OperationOutcome/outcome-d OperationOutcome/outcome-e "+
		"OperationOutcome/outcome-f OperationOutcome/outcome-g OperationOutcome/outcome-h OperationOutcome/outcome-k Patient/handle Patient/acute-p Patient/gp-p Patient/pharmacy-p "+
		"Observation/pharmacy-1 Observation/gp-1 Observation/acute-1 Observation/acute-2 Observation/gp-2 Observation/pharmacy-2 Condition/acute-1 Condition/gp-1 Condition/pharmacy-1 "+
		"Practitioner/acute-d Practitioner/gp-d Practitioner/pharmacy-d Provenance/provenance-acute Provenance/provenance-gp Provenance/provenance-pharmacy"; got != want {
		t.Errorf(" got %s\nwant %s", got, want)
	}
	if a.Total != 10 || a.Handle != "handle" || len(a.Statuses) != len(statuses) || a.Statuses[0].State != record.Returned || a.Statuses[0].Shown != 5 || a.Statuses[1].State != record.TimedOut {
		t.Errorf("total %d, %+v", a.Total, a.Statuses[:2])
	}
	if statuses[0].State != record.NotAsked {
		t.Error("the caller's statuses were changed")
	}
	matches := 0
	for _, e := range a.Entries {
		if e.FullURL != "https://broker.example/fhir/"+e.Type+"/"+e.ID {
			t.Errorf("fullUrl %s", e.FullURL)
		}
		if e.Mode == Match {
			matches++
		}
		if e.Type == "Patient" && (e.Mode == Match) != (e.ID == "handle") {
			t.Errorf("%s is %s", e.ID, e.Mode)
		}
	}
	if matches != a.Total {
		t.Errorf("%d matches, total %d", matches, a.Total)
	}
	// In whatever order they answered, the bytes are the same.
	first := bundle(t, a, BundleMeta{ID: "b"})
	for _, order := range [][]int{{2, 1, 0}, {1, 0, 2}, {0, 2, 1}} {
		if again := bundle(t, Assemble(req, []Prepared{prepared[order[0]], prepared[order[1]], prepared[order[2]]}, statuses), BundleMeta{ID: "b"}); !bytes.Equal(first, again) {
			t.Errorf("order %v changes the answer", order)
		}
	}
	// What a stream's last chunk says is what is ours in the whole.
	authored := Authored(req, prepared, statuses)
	var ours []Entry
	for _, e := range a.Entries {
		if e.Custodian == "" {
			ours = append(ours, e)
		}
	}
	if list(authored.Entries) != list(ours) || authored.Total != a.Total || !bytes.Equal(authored.Entries[0].JSON, ours[0].JSON) {
		t.Errorf("authored %s", list(authored.Entries))
	}
	// A custodian that is not among the statuses is added.
	if got := Assemble(req, prepared, nil).Statuses; len(got) != 3 || got[0].Custodian.Key != "acute" {
		t.Errorf("%+v", got)
	}
}

func TestNothingShown(t *testing.T) {
	req, _, statuses := neighbourhood(t)
	a := Assemble(req, nil, statuses)
	if a.Total != 0 {
		t.Errorf("total %d", a.Total)
	}
	for _, e := range a.Entries {
		if e.Mode != Outcome {
			t.Errorf("%s/%s", e.Type, e.ID)
		}
	}
	text := string(bundle(t, Assemble(req, nil, nil), BundleMeta{}))
	if text != `{"resourceType":"Bundle","type":"searchset","total":0}` {
		t.Errorf("%s", text)
	}
}

func TestOurPatient(t *testing.T) {
	req, prepared, _ := neighbourhood(t)
	for _, c := range []struct {
		change func(*record.Subject)
		want   string
	}{
		{func(*record.Subject) {}, `{"resourceType":"Patient","id":"handle","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}],` +
			`"name":[{"use":"official","family":"Ashworth","given":["Ada"]}],"gender":"female","birthDate":"1950-03-04","link":[{"other":{"reference":"Patient/acute-p"},"type":"seealso"},` +
			`{"other":{"reference":"Patient/gp-p"},"type":"seealso"},{"other":{"reference":"Patient/pharmacy-p"},"type":"seealso"}]}`},
		{func(s *record.Subject) {
			*s = record.Subject{Number: s.Number, Given: []string{""}, Gender: "wonder", Deceased: "true"}
		},
			`{"resourceType":"Patient","id":"handle","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}],"deceasedBoolean":true,"link":[`},
		{func(s *record.Subject) { s.Deceased = "2026-11-01" }, `"deceasedDateTime":"2026-11-01"`},
	} {
		r := req
		c.change(&r.Subject)
		for _, e := range Assemble(r, prepared, nil).Entries {
			if e.ID == "handle" && !strings.Contains(string(e.JSON), c.want) {
				t.Errorf(" got %s\nwant %s", e.JSON, c.want)
			}
			if e.ID == "handle" {
				if _, err := fhir.UnmarshalPatient(e.JSON); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// What we author holds no null, no empty value, no unknown code, and reads back as what it is.
func TestAuthoredResourcesAreWhole(t *testing.T) {
	req, prepared, statuses := neighbourhood(t)
	req.Filter = Filter{Start: now, Since: now}
	prepared[0].lateUnknown, prepared[0].undated = 1, 2
	sparse := request(t)
	sparse.Subject = record.Subject{Number: sparse.Subject.Number}
	bareStatus := []record.Status{{Custodian: record.Custodian{Key: "x"}, State: record.ReturnedInPart, Parts: []record.Part{{}}}, {Custodian: record.Custodian{Key: "y"}, State: "new-state"}}
	blank := Prepared{Status: record.Status{Custodian: record.Custodian{Key: "z"}, State: record.Returned}, Entries: prepared[0].Entries}
	seen := map[string]int{}
	for _, a := range []Answer{Authored(req, prepared, statuses), Authored(sparse, []Prepared{blank}, bareStatus)} {
		for _, e := range a.Entries {
			seen[e.Type]++
			var empty func(v fhirjson.Value)
			empty = func(v fhirjson.Value) {
				raw := string(v.Raw())
				if raw == "null" || raw == `""` || raw == "{}" || raw == "[]" || strings.Contains(raw, "unknown>") && v.Kind() == fhirjson.String {
					t.Errorf("%s/%s has %s at %s: %s", e.Type, e.ID, raw, v.Key(), e.JSON)
				}
				for _, m := range v.Members() {
					empty(m)
				}
				if v.Kind() == fhirjson.Array {
					for x := range v.Elems() {
						empty(x)
					}
				}
			}
			empty(parsed(t, string(e.JSON)))
			var err error
			var back any
			switch e.Type {
			case "Patient":
				back, err = fhir.UnmarshalPatient(e.JSON)
			case "OperationOutcome":
				var o fhir.OperationOutcome
				if o, err = fhir.UnmarshalOperationOutcome(e.JSON); len(o.Issue) == 0 {
					t.Errorf("%s has no issue", e.ID)
				}
				back = o
			case "Provenance":
				back, err = fhir.UnmarshalProvenance(e.JSON)
			}
			again, _ := json.Marshal(back)
			if err != nil || len(again) != len(e.JSON) {
				t.Errorf("%s/%s: %v, read back as %s", e.Type, e.ID, err, again)
			}
		}
	}
	if seen["Patient"] != 2 || seen["Provenance"] != 4 || seen["OperationOutcome"] < 12 {
		t.Errorf("%v", seen)
	}
}

func TestOutcomes(t *testing.T) {
	req, _, statuses := neighbourhood(t)
	said := map[string]fhir.OperationOutcome{}
	for _, e := range Assemble(req, nil, statuses).Entries {
		o, err := fhir.UnmarshalOperationOutcome(e.JSON)
		if err != nil {
			t.Fatal(err)
		}
		said[e.ID] = o
	}
	for _, c := range []struct{ id, severity, code, state, text, diagnostics string }{
		{"outcome-a", "warning", "timeout", "timed-out", "Rivermead (X9A01) did not answer in time; its record is missing from this view. Contact: 01000 000000",
			"adapter fhirr4/1; asked 2026-11-21T12:00:00Z; answered 2026-11-21T12:00:03Z"},
		{"outcome-b", "warning", "suppressed", "withheld", "is not shown", "reason objection; rule C-2.7"},
		{"outcome-c", "information", "informational", "no-record", "holds no record", ""},
		{"outcome-d", "warning", "exception", "failed", "cannot be used", "reason malformed"},
		{"outcome-e", "warning", "transient", "unavailable", "could not be reached", ""},
		{"outcome-f", "warning", "incomplete", "not-asked", "was not asked", "reason budget"},
		{"outcome-g", "information", "informational", "not-asked", "nothing says that it knows", "reason locator"},
		{"outcome-h", "warning", "suppressed", "not-asked", "was not asked", "reason permit"},
		{"outcome-k", "warning", "incomplete", "returned-in-part", "part of its record is not in this view", ""},
	} {
		if len(said[c.id].Issue) == 0 {
			t.Errorf("%s is missing", c.id)
			continue
		}
		i := said[c.id].Issue[0]
		diagnostics := ""
		if i.Diagnostics != nil {
			diagnostics = *i.Diagnostics
		}
		if i.Severity.Code() != c.severity || i.Code.Code() != c.code || *i.Details.Coding[0].Code != c.state || *i.Details.Coding[0].System != "https://mycarerecord.example/CodeSystem/source-status" ||
			!strings.Contains(*i.Details.Text, c.text) || diagnostics != c.diagnostics {
			t.Errorf("%s: %s %s %s %q %q", c.id, i.Severity.Code(), i.Code.Code(), *i.Details.Coding[0].Code, *i.Details.Text, diagnostics)
		}
	}
	var parts []string
	for _, i := range said["outcome-k"].Issue[1:] {
		parts = append(parts, i.Code.Code()+" "+*i.Details.Coding[0].Code+" "+*i.Details.Text)
	}
	want := []string{"suppressed withheld Test results (2) is not shown to you.", "conflict conflicting-copies Part of the record (1) came in copies that differ; all that were asked for are shown.",
		"incomplete source-down Pathology could not be read at the organisation.", "incomplete a new reason Part of the record is missing."}
	if strings.Join(parts, "\n") != strings.Join(want, "\n") {
		t.Errorf("parts:\n%s", strings.Join(parts, "\n"))
	}
	if said["outcome-i"].Id != nil || said["outcome-j"].Id != nil {
		t.Error("what returned all, and what is not heard of yet, says nothing")
	}
}

// Where counts may not be told, what we author is the same whether or not there is something that the rules withhold.
func TestWhatIsWithheldLeavesNoTrace(t *testing.T) {
	const observation = `{"resourceType":"Observation","id":"1",` + toAda + `}`
	secret := strings.Replace(depression, `"id":"secret-condition"`, `"id":"secret-condition","meta":{"security":[{"code":"PATAST"},{"code":"NOPAT"}]}`, 1)
	own := request(t)
	own.PatientView = true
	for _, c := range []struct {
		name     string
		req      Request
		rules    Rules
		received bool // may be told
		outcome  bool // is the same too
	}{
		{"a section", request(t), without(record.MentalHealth), false, true},
		{"a section, and counts may be told", request(t), Rules{Permitted: record.AllSections.Without(record.SectionsOf(record.MentalHealth)), TellCounts: true}, true, false},
		{"excluded codes", request(t), Rules{Permitted: record.AllSections, Excluded: CodesOf(Code{Code: "PATAST"})}, false, true},
		{"labels", request(t), Rules{Permitted: record.AllSections, LabelsEntered: true}, false, false},
		{"the person's own view", own, Rules{Permitted: record.AllSections}, false, false},
		{"all may be shown", request(t), Rules{Permitted: record.AllSections}, true, false},
	} {
		var said [2]map[string]string
		for i, reply := range []Reply{replyOf(t, observation, observation), replyOf(t, secret, secret, strings.Replace(secret, "Major", "A major", 1), observation, observation)} {
			p := prepare(t, c.req, c.rules, reply)
			if p.Status.Shown != 2 && c.name != "all may be shown" {
				t.Fatalf("%s: %s", c.name, list(p.Entries))
			}
			if (p.Status.Received > 0) != c.received {
				t.Errorf("%s: received %d", c.name, p.Status.Received)
			}
			said[i] = map[string]string{}
			for _, e := range Assemble(c.req, []Prepared{p}, nil).Entries {
				said[i][e.Type] += string(e.JSON)
			}
			if strings.Contains(said[i]["Provenance"], `{"url":"received"`) != c.received {
				t.Errorf("%s: %s", c.name, said[i]["Provenance"])
			}
		}
		if same := said[0]["Provenance"] == said[1]["Provenance"]; same == c.received {
			t.Errorf("%s: the same Provenance %v\n%s\n%s", c.name, same, said[0]["Provenance"], said[1]["Provenance"])
		}
		if same := said[0]["OperationOutcome"] == said[1]["OperationOutcome"]; same != c.outcome {
			t.Errorf("%s: the same outcomes %v\n%s\n%s", c.name, same, said[0]["OperationOutcome"], said[1]["OperationOutcome"])
		}
	}
}

func TestWriteBundle(t *testing.T) {
	req, prepared, statuses := neighbourhood(t)
	a := Assemble(req, prepared, statuses)
	m := BundleMeta{ID: "b", Links: []Link{{"self", `https://broker.example/fhir/Patient/handle/$everything?x="<>&`}, {"next", "n"}}, ReceiptTag: "12.ab", CodeBase: "https://mycarerecord.example", Now: "2026-11-21T12:00:00Z"}
	flat := bundle(t, a, m)
	m.Pretty = true
	pretty := bundle(t, a, m)
	if bytes.ContainsRune(flat, '\n') || !bytes.Contains(pretty, []byte("\n  \"entry\":[\n    {\n      \"fullUrl\":")) {
		t.Error("only the pretty one has lines")
	}
	for name, text := range map[string][]byte{"flat": flat, "pretty": pretty} {
		v := parsed(t, string(text))
		if !v.Get("resourceType").Is("Bundle") || !v.Get("type").Is("searchset") || string(v.Get("total").Raw()) != "10" || !v.Get("id").Is("b") ||
			!v.At("meta", "lastUpdated").Is(m.Now) || !v.At("meta", "tag", "code").Is("12.ab") || !v.At("meta", "tag", "system").Is("https://mycarerecord.example/CodeSystem/receipt") ||
			!v.At("link", "url").Is(m.Links[0].URL) || v.Get("link").Len() != 2 || v.Get("entry").Len() != len(a.Entries) {
			t.Errorf("%s: %s", name, text)
		}
		i := 0
		for e := range v.Get("entry").Elems() {
			if !bytes.Equal(e.Get("resource").Raw(), a.Entries[i].JSON) || !e.Get("fullUrl").Is(a.Entries[i].FullURL) || !e.At("search", "mode").Is(string(a.Entries[i].Mode)) {
				t.Errorf("%s: entry %d", name, i)
			}
			i++
		}
		if _, err := fhir.UnmarshalBundle(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := fhirjson.ReadBundle(v.Doc()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, m := range []BundleMeta{{ReceiptTag: "1"}, {Now: "n"}, {Pretty: true}, {Pretty: true, ReceiptTag: "1", CodeBase: "c"}} {
		parsed(t, string(bundle(t, a, m)))
	}
	if n, err := a.WriteBundle(&broken{left: 100}, m); err == nil || n != 100 {
		t.Errorf("a writer that breaks: %d %v", n, err)
	}
}

// broken takes so many bytes and then fails.
type broken struct{ left int }

func (b *broken) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return b.left, errors.New("broken")
	}
	b.left -= len(p)
	return len(p), nil
}
