package gpconnect_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mycarerecord/mycarerecord/adapters/gpconnect"
	"github.com/mycarerecord/mycarerecord/adapters/internal/wire"
	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/brokertest"
	"github.com/mycarerecord/mycarerecord/broker/record"
	"github.com/mycarerecord/mycarerecord/consent"
	"github.com/mycarerecord/mycarerecord/test/simulator"
)

func fetched(t *testing.T, p practice, who string) broker.Reply {
	t.Helper()
	r, err := source(t, settings(p.base)).Fetch(t.Context(), query(t, who))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An answer comes as R4, whole, with what was done to it.
func TestRecord(t *testing.T) {
	p := newPractice(t)
	r := fetched(t, p, held)
	if r.Adapter != "gpconnect/2" || r.Base != p.base || len(r.Conversions) != 1 || !strings.Contains(r.Conversions[0], "STU3 to R4") || r.Parts != nil {
		t.Errorf("adapter %s, conversions %v, parts %v", r.Adapter, r.Conversions, r.Parts)
	}
	types := map[string]int{}
	texts := ""
	for _, e := range r.Entries {
		types[e.Resource.Get("resourceType").Text()]++
		texts += string(e.Resource.Raw()) + "\n"
	}
	for typ, n := range map[string]int{"Patient": 1, "Organization": 1, "Practitioner": 1, "PractitionerRole": 1, "AllergyIntolerance": 2, "Medication": 1, "MedicationStatement": 1,
		"MedicationRequest": 2, "Encounter": 1, "Condition": 1, "Immunization": 1, "DiagnosticReport": 1, "Observation": 8, "ServiceRequest": 3, "List": 10} {
		if types[typ] != n {
			t.Errorf("%d of %s, want %d", types[typ], typ, n)
		}
	}
	for _, want := range []string{
		`"value":13.50`, `"value":28.0`, // digits as they were
		`"code":"resolved"`, `{"reference":"AllergyIntolerance/Resolved-1"}`, // the ended allergy is an entry, and its List says which
		`"hasMember":[{"reference":"Observation/r1"}]`,
		`"id":"procedurerequest-rr"`, `{"reference":"ServiceRequest/procedurerequest-rr"}`, // two requests of one id are two ServiceRequests
		`"note":[{"text":"` + marker + `"}]`,
	} {
		if !strings.Contains(texts, want) {
			t.Errorf("the record does not hold %s", want)
		}
	}
	if strings.Contains(texts, "ProcedureRequest") && !strings.Contains(texts, "extension-ProcedureRequest") || strings.Contains(texts, `"ReferralRequest/`) {
		t.Error("something still leads to a type of STU3")
	}
}

// What a List says of its own completeness becomes parts, by area: never silence (H-10, H-11).
func TestIncompleteness(t *testing.T) {
	p := newPractice(t)
	for who, want := range map[string][]record.Part{
		empty: nil, // Lists that are empty are whole
		warned: {{Section: "history", Source: "allergies", Reason: record.PartInTransit}, {Section: "medications", Source: "medication", Reason: record.PartConfidential},
			{Section: "medications", Source: "medication", Reason: record.PartAwaitingFiling}},
		partly: {{Section: "plans-alerts", Source: "referrals", Reason: record.PartSourceDown}, {Section: "plans-alerts", Source: "diary", Reason: record.PartSourceDown}},
	} {
		if got := fetched(t, p, who).Parts; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	for _, e := range fetched(t, p, empty).Entries {
		if e.Resource.Get("resourceType").Is("List") && (!e.Resource.At("emptyReason", "coding", "code").Is("no-content-recorded") || !e.Resource.At("note", "text").Exists()) {
			t.Error("an empty List does not say why it is empty")
		}
	}

	// An area that is configured away, and one whose List does not come though nothing is said.
	s := settings(p.base)
	s.Areas = []string{"allergies", "medication"}
	r, err := source(t, s).Fetch(t.Context(), query(t, held))
	if err != nil || len(r.Parts) != 7 {
		t.Errorf("%v: %v", err, r.Parts)
	}
	silent := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		fhir(w)
		_, _ = fmt.Fprintf(w, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":%s}]}`, always(held, "p1")[0])
	})
	if r, err := source(t, settings(silent)).Fetch(t.Context(), query(t, held)); err != nil || len(r.Parts) != 9 {
		t.Errorf("%v: %v", err, r.Parts)
	}
}

// Only what may be shown is asked for.
func TestAsksForLess(t *testing.T) {
	var got atomic.Value
	at := answering(t, func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Parameter []struct{ Name string } }
		_ = json.NewDecoder(r.Body).Decode(&body)
		var names []string
		for _, p := range body.Parameter {
			names = append(names, p.Name)
		}
		got.Store(strings.Join(names, " "))
		fhir(w)
		_, _ = fmt.Fprintf(w, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":%s}]}`, always(held, "p1")[0])
	})
	for _, c := range []struct {
		sections record.Sections
		types    []string
		want     string
	}{
		{record.AllSections, nil, "patientNHSNumber includeAllergies includeMedication includeConsultations includeProblems includeImmunisations includeUncategorisedData includeInvestigations includeReferrals includeDiaryEntries"},
		{record.SectionsOf(record.Medications), nil, "patientNHSNumber includeAllergies includeMedication includeConsultations"},
		{record.AllSections.Without(record.SectionsOf(record.Medications)), nil,
			"patientNHSNumber includeAllergies includeConsultations includeProblems includeImmunisations includeUncategorisedData includeInvestigations includeReferrals includeDiaryEntries"},
		{record.AllSections, []string{"Patient"}, "patientNHSNumber includeAllergies"},
	} {
		q := query(t, held)
		q.Sections, q.Types = c.sections, c.types
		if _, err := source(t, settings(at)).Fetch(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		if got.Load() != c.want {
			t.Errorf("got  %v\nwant %s", got.Load(), c.want)
		}
	}
}

// Nobody but a practitioner is named to a practice, and nobody else asks one.
func TestWhoAsks(t *testing.T) {
	p := newPractice(t)
	src := source(t, settings(p.base))
	for name, c := range map[string]struct {
		change func(q *broker.Query)
		want   error
	}{
		"the person themselves": {func(q *broker.Query) { q.Purpose = record.PatientAccess }, broker.ErrWithheld},
		"a person's token":      {func(q *broker.Query) { q.Requester.Kind = record.Person }, broker.ErrWithheld},
		"nobody":                {func(q *broker.Query) { q.Requester = record.Requester{} }, broker.ErrUnauthorised},
		"nowhere":               {func(q *broker.Query) { q.Requester.Organisation = "" }, broker.ErrUnauthorised},
	} {
		q := query(t, held)
		c.change(&q)
		if _, err := src.Fetch(t.Context(), q); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.Requests().Record; n != 0 {
		t.Errorf("the practice was asked %d times", n)
	}
	// A name in one word, none at all, no role profile: the practice's checks are satisfied, and nothing is made up.
	for _, who := range []string{"", "Cher", "Dr  Ann  Lee"} {
		q := query(t, held)
		q.Requester.Name, q.Requester.RoleProfile, q.Requester.Issuer = who, "", ""
		if _, err := src.Fetch(t.Context(), q); err != nil {
			t.Errorf("name %q: %v", who, err)
		}
	}
	q := query(t, held) // as `broker source check` asks
	q.Requester = record.Requester{Kind: record.Professional, User: "source-check", Organisation: odsCode}
	if _, err := src.Fetch(t.Context(), q); err != nil {
		t.Errorf("a check of the source: %v", err)
	}
}

func TestToken(t *testing.T) {
	var got atomic.Value
	at := answering(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Clone())
		w.WriteHeader(http.StatusTeapot)
	})
	_, _ = source(t, settings(at)).Fetch(t.Context(), query(t, held))
	h, _ := got.Load().(http.Header)
	parts := strings.Split(strings.TrimPrefix(h.Get("Authorization"), "Bearer "), ".")
	if len(parts) != 3 || parts[2] != "" {
		t.Fatal("not an unsigned token with its last dot")
	}
	head, _ := base64.RawURLEncoding.DecodeString(parts[0])
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var c map[string]any
	if string(head) != `{"alg":"none","typ":"JWT"}` || json.Unmarshal(payload, &c) != nil {
		t.Fatalf("header %s", head)
	}
	iat, _ := c["iat"].(float64)
	exp, _ := c["exp"].(float64)
	if exp-iat != 300 || time.Since(time.Unix(int64(iat), 0)) > time.Minute || c["aud"] != at || c["sub"] != "555021935107" || c["reason_for_request"] != "directcare" ||
		c["requested_scope"] != "patient/*.read" || strings.Contains(string(payload), held) || !strings.Contains(string(payload), `"system":"https://fhir.nhs.uk/Id/sds-user-id","value":"555021935107"`) || !strings.Contains(string(payload), `"family":"Okafor-Lane","given":["Dr","Miriam"]`) {
		t.Errorf("claims %s", payload)
	}
	for name, want := range map[string]string{"Ssp-From": ourASID, "Ssp-To": itsASID, "Ssp-InteractionID": "urn:nhs:names:services:gpconnect:fhir:operation:gpc.getstructuredrecord-1",
		"Content-Type": "application/fhir+json; charset=utf-8"} {
		if h.Get(name) != want {
			t.Errorf("%s: %q", name, h.Get(name))
		}
	}
}

// Every error code that the specification or the Spine knows, in the spellings that are in use, means one thing.
func TestErrorCodes(t *testing.T) {
	var status atomic.Int64
	var body atomic.Value
	at := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		fhir(w)
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte(body.Load().(string))) //nolint:forcetypeassert // stored below
	})
	src := source(t, settings(at))
	coded := func(codes ...string) string {
		var list []string
		for _, c := range codes {
			list = append(list, `{"severity":"error","code":"forbidden","details":{"coding":[{"system":"https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1","code":"`+c+`"}]},"diagnostics":"`+marker+`"}`)
		}
		return `{"resourceType":"OperationOutcome","issue":[` + strings.Join(list, ",") + `]}`
	}
	for _, c := range []struct {
		status int
		body   string
		want   error
	}{
		{403, coded("NO_PATIENT_CONSENT"), broker.ErrWithheld},
		{403, coded("NO_ORGANISATION_CONSENT"), broker.ErrWithheld},
		{403, coded("NO_ORGANISATIONAL_CONSENT"), broker.ErrWithheld},
		{403, coded("NO_RELATIONSHIP"), broker.ErrWithheld},
		{403, coded("PATIENT_SENSITIVE"), broker.ErrWithheld},
		{404, coded("no_patient_consent"), broker.ErrWithheld}, // as one supplier has it
		{200, coded("NO_PATIENT_CONSENT"), broker.ErrWithheld},
		{404, coded("PATIENT_NOT_FOUND"), broker.ErrNoRecord},
		{404, coded("NO_RECORD_FOUND"), broker.ErrNoRecord},
		{400, coded("PATIENT_NOT_FOUND"), broker.ErrNoRecord},
		{404, coded("PATIENT_NOT_FOUND", "NO_PATIENT_CONSENT"), broker.ErrWithheld},
		{404, coded("PATIENT_NOT_FOUND", "SOMETHING_NEW"), broker.ErrMalformed}, // nobody, and another error beside it
		{404, coded("SOMETHING_NEW", "NO_RECORD_FOUND"), broker.ErrMalformed},
		{404, strings.Replace(coded("PATIENT_NOT_FOUND", "SOMETHING_NEW"), `"error","code":"forbidden","details":{"coding":[{"system":"https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1","code":"SOME`, `"warning","code":"incomplete","details":{"coding":[{"system":"https://fhir.nhs.uk/STU3/CodeSystem/Spine-ErrorOrWarningCode-1","code":"SOME`, 1), broker.ErrMalformed},
		{403, coded("ACCESS DENIED"), broker.ErrUnauthorised},
		{403, coded("ACCESS_DENIED"), broker.ErrUnauthorised},
		{403, coded("ASID_CHECK_FAILED_MESSAGESENDER_NOT_FOUND"), broker.ErrUnauthorised},
		{403, coded("ACCESS_DENIED_SSL"), broker.ErrUnauthorised},
		{404, coded("ORGANISATION_NOT_FOUND"), broker.ErrUnauthorised},
		{404, coded("PRACTITIONER_NOT_FOUND"), broker.ErrUnauthorised},
		{403, `{}`, broker.ErrUnauthorised},
		{401, `not JSON`, broker.ErrUnauthorised},
		{400, coded("INVALID_NHS_NUMBER"), broker.ErrMalformed},
		{400, coded("BAD_REQUEST"), broker.ErrMalformed},
		{409, coded("DUPLICATE_REJECTED"), broker.ErrMalformed},
		{422, coded("INVALID_RESOURCE"), broker.ErrMalformed},
		{422, coded("INVALID_PARAMETER"), broker.ErrMalformed},
		{422, coded("REFERENCE_NOT_FOUND"), broker.ErrMalformed},
		{501, coded("NOT_IMPLEMENTED"), broker.ErrMalformed},
		{500, coded("INTERNAL_SERVER_ERROR"), broker.ErrMalformed},
		{500, coded("PATIENT_NOT_FOUND"), broker.ErrMalformed}, // an ill service says nothing of a person
		{404, coded("SOMETHING_NEW"), broker.ErrMalformed},     // a wrong address gives 404 too
		{404, ``, broker.ErrMalformed},
		{502, coded("BAD_GATEWAY"), broker.ErrUnavailable},
		{503, coded("PATIENT_NOT_FOUND"), broker.ErrUnavailable},
		{504, ``, broker.ErrUnavailable},
		{408, coded("NO_PATIENT_CONSENT"), broker.ErrUnavailable},
		{429, coded("BAD_REQUEST"), broker.ErrThrottled},
		{302, ``, broker.ErrElsewhere},
		{200, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception"}]}`, broker.ErrMalformed},
		{200, `{"resourceType":"Bundle","type":"collection"}`, broker.ErrMalformed},
		{200, `{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"x"}]}`, broker.ErrMalformed},
		{200, `{"resourceType":"Bundle","type":"message","entry":[]}`, broker.ErrMalformed},
	} {
		status.Store(int64(c.status))
		body.Store(c.body)
		_, err := src.Fetch(t.Context(), query(t, held))
		if !errors.Is(err, c.want) || strings.Contains(fmt.Sprintf("%+v", err), marker) {
			t.Errorf("%d %s: %v, want %v", c.status, c.body, err, c.want)
		}
	}
}

// A practice that says no, however often, is well: its breaker stays closed, and the next person's record comes. One that is ill is left alone.
func TestClinicalRefusalsAreHealthy(t *testing.T) {
	p, err := simulator.NewPractice(simulator.PracticeConfig{Name: marker, ODS: odsCode, ASID: itsASID, People: map[string]simulator.GPRecord{
		brokertest.Ann: {Always: func() []json.RawMessage {
			list := always(brokertest.Ann, "p1")
			list[0] = json.RawMessage(strings.Replace(strings.Replace(string(list[0]), "1950-01-02", brokertest.AnnBirthDate, 1), marker, "Ashdown", 1))
			return list
		}(), Areas: areas("p1")},
		dissented: {Always: always(dissented, "p5"), Refuse: "NO_PATIENT_CONSENT"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	src := source(t, settings(server.URL+basePath))
	b := brokertest.Open(t, func(c *broker.Config) {
		c.Reserve, c.NeutralWait, c.Minimum = time.Millisecond, 2010*time.Millisecond, 100*time.Millisecond
		c.Custodians = []broker.Binding{{Rules: consent.CustodianRules{Custodian: record.Custodian{Key: "gp", ODS: odsCode, Name: "Rivermead Surgery", Kind: record.KindGP, Contact: "ring A"}},
			Source: src, Adapter: "gpconnect", Timeout: 2 * time.Second}}
	})
	ask := func(who string) (record.State, *broker.Result) {
		t.Helper()
		r, err := b.Retrieve(t.Context(), broker.Request{ID: "r", Face: "rest", Operation: "everything", Subject: number(t, who), Requester: query(t, held).Requester,
			Role: consent.Role{Name: "clinical", Version: "v", Sections: map[record.Purpose]record.Sections{record.Treatment: record.AllSections}}, Purpose: record.Treatment,
			Permission: record.Permission{Kind: record.AskedYes}, Relationship: record.Relationship{Kind: record.Admission}, Arrived: time.Now()})
		defer r.Done()
		if err != nil {
			return "", nil
		}
		return r.Answer.Statuses[0].State, r
	}
	for range 6 { // of either kind, more than open a breaker
		if state, _ := ask(dissented); state != record.Withheld {
			t.Fatalf("state %q, want withheld", state)
		}
		ask("9990000115") // whom nobody here knows
	}
	if got := b.Custodians()[0].Breaker; got != "closed" || p.Requests().Record != 12 {
		t.Fatalf("breaker %s after %d requests", got, p.Requests().Record)
	}
	state, r := ask(brokertest.Ann)
	if state != record.Returned || r == nil || r.Answer.Statuses[0].Shown < 20 {
		t.Fatalf("state %q", state)
	}
	var text strings.Builder
	for _, e := range r.Answer.Entries {
		text.Write(e.JSON)
	}
	if !strings.Contains(text.String(), "STU3 to R4") || !strings.Contains(text.String(), `"value":13.50`) {
		t.Error("the answer does not say what was converted, or lost a digit")
	}
	if err := p.SetFault(simulator.FaultSpec{Fault: simulator.FaultError500}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		ask(brokertest.Ann)
	}
	if got := b.Custodians()[0].Breaker; got != "open" {
		t.Errorf("breaker %s after five failures", got)
	}
}

func TestSettings(t *testing.T) {
	for field, change := range map[string]func(s *gpconnect.Settings){
		"baseURL":    func(s *gpconnect.Settings) { s.BaseURL = "gp.example" },
		"proxyURL":   func(s *gpconnect.Settings) { s.ProxyURL = "ftp://proxy.example" },
		"fromASID":   func(s *gpconnect.Settings) { s.FromASID = "12345" },
		"toASID":     func(s *gpconnect.Settings) { s.ToASID = "20000000000x" },
		"issuer":     func(s *gpconnect.Settings) { s.Issuer = "record" },
		"areas":      func(s *gpconnect.Settings) { s.Areas = []string{"allergies", "dentistry"} },
		"bearerFile": func(s *gpconnect.Settings) { s.BearerFile = "token" },
		"keyFile":    func(s *gpconnect.Settings) { s.KeyFile = "key.pem" },
	} {
		s := settings("https://gp.example" + basePath)
		change(&s)
		_, err := gpconnect.New(s)
		var e *wire.SettingError
		if !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Whoever sends entries without "resource" around them, as a published example does, is understood; strangers among them do not spoil it.
func TestBareEntries(t *testing.T) {
	at := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		fhir(w)
		_, _ = fmt.Fprintf(w, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":%s},%s]}`, always(held, "p1")[0], areas("p1")["includeReferrals"][0])
	})
	r, err := source(t, settings(at)).Fetch(t.Context(), query(t, held))
	if err != nil || len(r.Entries) != 2 || !r.Entries[1].Resource.Get("resourceType").Is("ServiceRequest") {
		t.Errorf("%v, %d entries", err, len(r.Entries))
	}
}

func answering(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + basePath
}

func fhir(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json+fhir;charset=utf-8")
}
